"""The side of the conversion that hands files over and waits; a thread that computes nothing."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence

import orjson
from attrs import asdict

from cfai.local.documents.values import File, Limits, Outcome, Wanted

_LOOK = 0.2
"""In seconds: how often to see whether anybody still waits."""


def converted(
    files: Sequence[File], wanted: Wanted, limits: Limits, stopped: Callable[[], bool]
) -> list[Outcome]:
    """Convert files that have a format, each within *limits*. Blocks.

    Returns:
        An outcome for each, in their order; fewer where nobody waits for them any more.
    """
    done: list[Outcome] = []
    while len(done) < len(files) and not stopped():
        done += _asked(files[len(done) :], wanted, limits, stopped)
        if len(done) < len(files) and not stopped():
            # The one that the process did not survive.
            done.append(Outcome(None, _lost(limits)))
    return done


def _lost(limits: Limits) -> str:
    memory = f"{limits.memory >> 20} MiB"
    return f"the conversion took more than {limits.seconds:g} s or {memory}, or it crashed"


def _asked(
    files: Sequence[File], wanted: Wanted, limits: Limits, stopped: Callable[[], bool]
) -> list[Outcome]:
    """Let a process convert *files*, as far as it comes."""
    command = [sys.executable, "-P", "-m", "cfai.local.documents.child"]
    # A file rather than a pipe, which would have to be fed while the outcomes are read.
    with tempfile.TemporaryFile() as frames:
        for file in files:
            frames.write(_frame(file, wanted))
        frames.seek(0)
        with subprocess.Popen(  # noqa: S603  # this interpreter, and a module of ours
            [*command, str(limits.seconds), str(limits.memory)],
            stdin=frames,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        ) as process:
            said = _heard(process, stopped)
    # A line that was cut is none.
    found = [orjson.loads(line) for line in said.split(b"\n")[:-1]]
    return [Outcome(one.get("text"), one.get("error")) for one in found]


def _heard(process: "subprocess.Popen[bytes]", stopped: Callable[[], bool]) -> bytes:
    """Give what the process says until it ends; it is ended when nobody waits any more."""
    while True:
        try:
            return process.communicate(timeout=_LOOK)[0]
        except subprocess.TimeoutExpired:
            if stopped():
                process.kill()


def _frame(file: File, wanted: Wanted) -> bytes:
    head = {
        "name": file.name,
        "kind": file.kind,
        "size": len(file.data),
        "wanted": asdict(wanted),
    }
    return orjson.dumps(head) + b"\n" + file.data


def _environment() -> dict[str, str]:
    """Let the process find what this one finds; and start no threads that it has no use for."""
    paths = os.pathsep.join(path for path in sys.path if path)
    return {**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"}
