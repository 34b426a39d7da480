"""Counts the processor instructions and the function calls of a row, also on a busy machine.

`python -m tests.bench.instructions run burst` runs cfai and the floor under Valgrind (`callgrind`),
which must be installed, with few and with many repetitions: the difference is what one costs.
Function calls are those that `cProfile` sees, in Python and in C.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import os
import pstats
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from attrs import evolve

from .contenders import CONTENDERS
from .loopback import loopback
from .measure import Race, Row, Startup, again, repeat
from .rows import ROWS

_COLLECTED = re.compile(r"Collected : (\d+)")
_TOP = Path(__file__).parents[2]
_OURS = "cfai"


def _slowed(row: Row) -> Row:
    """A row whose events still arrive one by one, if the client is fifty times slower."""
    if isinstance(row, Race) and row.key == "paced":
        return evolve(row, scenario="paced-slowly")
    return row


_ROWS = {row.key: _slowed(row) for row in ROWS if isinstance(row, Race | Startup)}


def _repetitions(row: Race) -> tuple[int, int]:
    """Few and many repetitions; both are multiples of those in flight."""
    few = max(row.in_flight, 300 // row.units, 1)
    few -= few % row.in_flight
    return few, 3 * few


async def _work(row: Race, name: str, origin: str, times: int, *, profiled: bool) -> None:
    """Repeat the work of *row*; the child process."""
    contender = next(each for each in CONTENDERS if each.name == name)(origin)
    await contender.open()
    work = getattr(contender, row.work)
    await again(row, work, 1)
    if profiled:
        await repeat(row, work, row.in_flight)
        profile = cProfile.Profile()
        with profile:
            await repeat(row, work, times)
        print(f"Calls : {pstats.Stats(profile).total_calls / (times * row.units)}")  # type: ignore[attr-defined]
    else:
        await repeat(row, work, times)
    await contender.aclose()


def _run(*command: str) -> str:
    # The seed of hashes decides over collisions in dictionaries, which cost instructions.
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    run = subprocess.run(
        command, cwd=_TOP, capture_output=True, text=True, check=False, env=environment
    )
    if run.returncode:
        raise RuntimeError(run.stderr)
    return run.stdout + run.stderr


def _instructions(*arguments: str) -> int:
    """The instructions of one run of the interpreter."""
    valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    collected = _COLLECTED.search(_run(*valgrind, sys.executable, *arguments))
    assert collected is not None
    return int(collected[1])


def _count_race(row: Race, name: str, origin: str) -> tuple[float, float]:
    """Instructions and function calls of one unit of *row*."""
    few, many = _repetitions(row)
    child = ["-m", "tests.bench.instructions", row.key, "--child", name, origin]
    # First, because it writes the bytecode, too.
    calls = float(_run(sys.executable, *child, str(few), "--profiled").partition(" : ")[2])
    counts = [_instructions(*child, str(times)) for times in (few, many)]
    return (counts[1] - counts[0]) / ((many - few) * row.units), calls


def _print_race(row: Race, origin: str) -> None:
    floor = 0.0
    for name in (row.floor, _OURS):
        instructions, calls = _count_race(row, name, origin)
        floor = floor or instructions
        print(
            f"{row.key}, {name}: {instructions:,.0f} instructions and {calls:.1f} function calls"
            f" per {row.unit}, {instructions / floor:.2f} × the floor",
            flush=True,
        )


def _print_startup(row: Startup, origin: str) -> None:
    counts: dict[str, int] = {}
    for name, snippet in row.snippets.items():
        if name in (row.less, row.floor) or name.startswith(_OURS):
            _run(sys.executable, "-I", "-c", snippet.code, origin)  # writes the bytecode
            counts[name] = _instructions("-I", "-c", snippet.code, origin)
    less = 0 if row.less is None else counts[row.less]
    for name, count in counts.items():
        ratio = (count - less) / (counts[row.floor] - less)
        print(
            f"{row.key}, {name}: {(count - less) / 1e6:,.1f} million instructions"
            f" {'' if row.less is None else f'more than {row.less}, '}{ratio:.2f} × the floor",
            flush=True,
        )


def _count(keys: list[str], origins: Mapping[str, str]) -> None:
    for key in keys:
        row = _ROWS[key]
        if isinstance(row, Race):
            _print_race(row, origins[row.scenario])
        elif isinstance(row, Startup):
            _print_startup(row, origins["run"])


def main() -> None:
    """Count the rows that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.instructions",
        description="Count instructions and function calls of cfai and of the bare libraries.",
    )
    parser.add_argument("rows", nargs="+", choices=list(_ROWS), metavar="ROW", help=" ".join(_ROWS))
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--profiled", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, origin, times = options.child
        row = _ROWS[options.rows[0]]
        assert isinstance(row, Race)
        asyncio.run(_work(row, name, origin, int(times), profiled=options.profiled))
        return
    with loopback(None) as origins:
        _count(options.rows, origins)


if __name__ == "__main__":
    main()
