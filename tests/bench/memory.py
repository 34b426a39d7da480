"""The peak memory of small and large embedding jobs: `python -m tests.bench.memory`.

Each job runs in its own process, and so does the service, which sends prepared vectors.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path

from cfai import WorkersAI
from cfai.testing import FakeWorkersAI, Recorded, Reply

MODEL = "@cf/baai/bge-m3"
DIMENSION = 64
WAYS = ("iteration", "to_parquet")


@cache
def _answer(texts: int) -> Reply:
    row = [number / 7 for number in range(DIMENSION)]
    result = {"shape": [texts, DIMENSION], "data": [row] * texts}
    body = json.dumps({"result": result, "success": True, "errors": [], "messages": []}).encode()
    return Reply((body,), headers={"Content-Type": "application/json"}, framing="length")


def _reply(request: Recorded) -> Reply:
    return _answer(len(request.json()["text"]))


def _script(fake: FakeWorkersAI) -> None:
    fake.always.answers_by(_reply)


def _serve(pipe: Connection, script: Callable[[FakeWorkersAI], object]) -> None:
    async def main() -> None:
        async with FakeWorkersAI() as fake:
            script(fake)
            pipe.send(fake.base_url)
            await asyncio.to_thread(pipe.recv)

    asyncio.run(main())


@contextmanager
def service(script: Callable[[FakeWorkersAI], object]) -> Iterator[str]:
    """Run a scripted service in a process of its own, and yield its base URL."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs, script))
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send(None)
        process.join(10)


async def job(base_url: str, count: int, way: str) -> None:
    """Embed *count* texts, and print the peak memory in MB."""
    texts = (f"text {number}" for number in range(count))
    async with WorkersAI(account_id="a", api_token="t", base_url=base_url) as ai:
        many = ai.embed_many(MODEL, texts, rate=None, ordered=False, concurrency=8)
        if way == "iteration":
            async for _ in many:
                pass
        else:
            with tempfile.TemporaryDirectory() as folder:
                await many.to_parquet(Path(folder))
        assert many.stats.texts == count
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def peak(base_url: str, count: int, way: str) -> float:
    """The peak memory of a process that embeds *count* texts, in MB."""
    command = [sys.executable, "-m", "tests.bench.memory", "--job", base_url, str(count), way]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Compare jobs of several sizes."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.memory", description=__doc__)
    parser.add_argument("--texts", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--job", nargs=3, metavar=("URL", "COUNT", "WAY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        base_url, count, way = options.job
        asyncio.run(job(base_url, int(count), way))
        return
    with service(_script) as base_url:
        for way in WAYS:
            peaks = [peak(base_url, count, way) for count in options.texts]
            figures = ", ".join(
                f"{count:,} texts {megabytes:.1f} MB"
                for count, megabytes in zip(options.texts, peaks, strict=True)
            )
            print(f"{way}: {figures}; {peaks[-1] - peaks[0]:+.1f} MB", flush=True)


if __name__ == "__main__":
    main()
