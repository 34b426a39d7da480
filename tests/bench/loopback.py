"""The process of the loopback server, and the cores of the server and the client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

_SERVER = Path(__file__).with_name("server.py")


@frozen
class Cores:
    """The core that each side is pinned to; None if it is not pinned."""

    client: int | None
    server: int | None


def keep_apart() -> Cores:
    """Pin this process to one core and choose another for the server, if possible."""
    if not hasattr(os, "sched_setaffinity"):
        return Cores(None, None)
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        return Cores(None, None)
    os.sched_setaffinity(0, {first})
    return Cores(first, others[-1])


@contextmanager
def loopback(core: int | None) -> Iterator[Mapping[str, str]]:
    """Run the server on *core*; yields the origin of each scenario."""
    command = [sys.executable, "-I", str(_SERVER), *([] if core is None else [str(core)])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        ports: dict[str, int] = json.loads(process.stdout.readline())
        yield {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        # Leaving the block closes the server's standard input, which ends it.
