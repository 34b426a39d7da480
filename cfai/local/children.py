"""Child processes that read the files of strangers: they can be killed, and crash alone."""

import faulthandler
import os
import subprocess
import sys
from collections.abc import Callable
from typing import IO

_POLL_INTERVAL = 0.2
"""Seconds between checks for cancellation."""


def run_child(
    script: str, *, seconds: float, memory: int, source: IO[bytes], is_cancelled: Callable[[], bool]
) -> bytes:
    """Run a script of this package and return its output when it ends. Blocks.

    The child is called with *seconds* and *memory*, and sets these limits itself. It is killed if
    the call is cancelled.
    """
    # A child imports nothing else of this package, unless its script does.
    command = [sys.executable, "-P", script, str(seconds), str(memory)]
    # The child gets the same import path, and starts no threads that it does not need.
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(  # noqa: S603  # this interpreter, and a script of this package
        command,
        stdin=source,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as process:
        while True:
            try:
                return process.communicate(timeout=_POLL_INTERVAL)[0]
            except subprocess.TimeoutExpired:
                if is_cancelled():
                    process.kill()


# In the child process


def limit_memory(size: int) -> None:
    """Limit the memory of this process to *size* bytes, on Linux."""
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def limit_time(seconds: float) -> None:
    """End this process after *seconds*, unless the limit is set again before.

    This timer needs no interpreter lock, so nothing can block it.
    """
    faulthandler.dump_traceback_later(seconds, exit=True)
