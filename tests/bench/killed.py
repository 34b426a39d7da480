"""`cfai embed` of a large Parquet file, killed twice and resumed: `python -m tests.bench.killed`.

Prints the peak memory of undisturbed runs with a tenth of the rows and with all, and of each part
of the killed one, and checks that it wrote the same vectors. The simulated service runs in its own
process.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cfai.testing import FakeWorkersAI, Service
from tests.bench.memory import service

ROWS_AT_ONCE = 50_000


def _simulate(fake: FakeWorkersAI) -> None:
    fake.simulates(Service(dimension=64))


def write_source(path: Path, rows: int) -> None:
    """Write a Parquet file with *rows* different texts."""
    schema = pa.schema({"id": pa.int64(), "text": pa.string()})
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, ROWS_AT_ONCE):
            ids = range(start, min(rows, start + ROWS_AT_ONCE))
            texts = [f"Row {number} of the table is about snow, rain and tea." for number in ids]
            writer.write_table(pa.table({"id": list(ids), "text": texts}, schema))


def digest(path: Path) -> str:
    """A digest of all rows, in order."""
    total = hashlib.sha256()
    for batch in pq.ParquetFile(path).iter_batches(10_000, columns=["id", "vector"]):
        total.update(str(batch.column("id").to_pylist()).encode())
        total.update(batch.column("vector").flatten().to_numpy().tobytes())
    return total.hexdigest()


def _finished(checkpoint: Path) -> int:
    """The size of the checkpoint's database on the disk, which grows with finished texts."""
    return sum(part.stat().st_size for part in checkpoint.parent.glob(f"{checkpoint.name}*"))


def embed(
    base_url: str, source: Path, target: Path, checkpoint: Path, *, kill_at: int | None = None
) -> tuple[float, float, bool]:
    """Run the command, and kill it when the checkpoint has *kill_at* bytes.

    Returns:
        Its peak memory in MB, the seconds of processor time, and whether it ended by itself.
    """
    command = [sys.executable, "-m", "cfai", "embed", str(source), "--id-column", "id"]
    command += ["-o", str(target), "--checkpoint", str(checkpoint)]
    variables = {
        "CLOUDFLARE_ACCOUNT_ID": "a",
        "CLOUDFLARE_API_TOKEN": "t",
        "CLOUDFLARE_BASE_URL": base_url,
    }
    process = subprocess.Popen(command, env={**os.environ, **variables})
    killed, pause = False, threading.Event()
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        if kill_at is not None and not killed and _finished(checkpoint) >= kill_at:
            process.send_signal(signal.SIGKILL)
            killed = True
        pause.wait(0.02)
    process.returncode = os.waitstatus_to_exitcode(status)
    if not killed and process.returncode:
        raise SystemExit(f"cfai embed ended with {process.returncode}")
    return usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime, not killed


def main() -> None:
    """Compare an undisturbed run with one that is killed twice."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.killed", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with service(_simulate) as base_url, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "source.parquet"
        for count in (max(1, rows // 10), rows):
            write_source(source, count)
            (folder / "whole.db").unlink(missing_ok=True)
            started = time.monotonic()
            peak, seconds, _ = embed(
                base_url, source, folder / "whole.parquet", folder / "whole.db"
            )
            print(
                f"undisturbed: {count:,} rows in {time.monotonic() - started:.0f} s, "
                f"{peak:.0f} MB, {seconds / count * 1e6:.0f} us of processor time a text",
                flush=True,
            )
        size = _finished(folder / "whole.db")
        for part in (1, 2, None):
            kill_at = None if part is None else size * part // 3
            target, checkpoint = folder / "killed.parquet", folder / "killed.db"
            peak, _, ended = embed(base_url, source, target, checkpoint, kill_at=kill_at)
            end = "ended" if ended else f"killed at {part}/3"
            print(f"{end}: {peak:.0f} MB", flush=True)
        assert digest(folder / "whole.parquet") == digest(folder / "killed.parquet")
        print("the vectors are the same")


if __name__ == "__main__":
    main()
