"""Rows and their results: runs the contenders in turn, and measures each round of each."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from importlib.util import find_spec
from statistics import median, quantiles
from typing import TypeVar

from attrs import evolve, field, frozen

from .contender import Contender
from .contenders import CONTENDERS

Work = Callable[[], Awaitable[int]]
T = TypeVar("T")


@frozen
class Budget:
    """The maximum cost of a contender: a multiple of the floor, or seconds if *absolute*."""

    contender: str
    limit: float
    absolute: bool = field(default=False, kw_only=True)


@frozen(kw_only=True)
class Row:
    """One comparison."""

    key: str
    title: str
    about: str
    """A sentence for the reader that says what is measured."""
    unit: str
    """The unit that the figures refer to."""
    scale: str = "µs"
    floor: str = "aiohttp + orjson"
    less: str | None = None
    """A contender whose cost is subtracted from all others before they are compared."""
    budgets: tuple[Budget, ...] = ()


@frozen(kw_only=True)
class Race(Row):
    """A row in which clients do the same work against the same scenario of the server."""

    scenario: str
    work: str
    """The method that does the work once; contenders without it do not take part."""
    expects: int
    """What the method must return."""
    units: int = 1
    """The number of units in one call of the method."""
    times: int
    """The number of calls per round."""
    in_flight: int = 1
    is_long: bool = False
    """Whether a call takes so long that it needs no warm-up, and two rounds are enough."""


@frozen
class Snippet:
    """A short program, and the packages that it needs.

    `sys.argv[1]` is the origin of the server's scenario `run`.
    """

    code: str
    packages: tuple[str, ...] = ()


@frozen(kw_only=True)
class Startup(Row):
    """A row in which interpreters run a short program and exit."""

    snippets: Mapping[str, Snippet]


@frozen(kw_only=True)
class Making(Row):
    """A row that measures the time and the peak memory of functions, without a server."""

    makers: Mapping[str, Callable[[], object]]
    max_bytes: int
    """The memory budget of the contenders that have a time budget."""


@frozen
class Outcome:
    """The cost of each contender in each round: seconds per unit, or bytes."""

    row: Row
    seconds: Mapping[str, Sequence[float]]
    missing: Mapping[str, str]
    """Contenders that were skipped, and the package that is not installed."""

    def over(self, name: str) -> list[float]:
        """The cost of *name* in each round, after the subtraction."""
        if self.row.less is None:
            return list(self.seconds[name])
        off = self.seconds[self.row.less]
        return [cost - less for cost, less in zip(self.seconds[name], off, strict=True)]

    def ratio(self, name: str) -> tuple[float, float, float] | None:
        """Quartiles of the cost of *name* divided by that of the floor, round by round."""
        if self.row.floor not in self.seconds or name == self.row.less:
            return None
        pairs = zip(self.over(name), self.over(self.row.floor), strict=True)
        ratios = [cost / floor for cost, floor in pairs]
        low, _, high = quantiles(ratios, n=4, method="inclusive")
        return low, median(ratios), high

    def met(self, budget: Budget) -> bool | None:
        """Whether the budget is met; None if its contender did not take part."""
        if budget.contender not in self.seconds:
            return None
        if budget.absolute:
            return median(self.over(budget.contender)) <= budget.limit
        ratio = self.ratio(budget.contender)
        return None if ratio is None else ratio[1] <= budget.limit


def absent(packages: Sequence[str]) -> str | None:
    """The first of *packages* that is not installed."""
    return next((name for name in packages if find_spec(name) is None), None)


def _interleaved(entrants: Sequence[T], rounds: int) -> list[list[T]]:
    """The random order of each round, in which each entrant runs once."""
    chance = random.Random(rounds)
    return [chance.sample(entrants, len(entrants)) for _ in range(rounds)]


# Races


async def race(row: Race, origin: str, *, rounds: int, only: Sequence[str] = ()) -> Outcome:
    """Run *row* with every contender that is installed."""
    entrants, missing = _entrants(row, only)
    seconds: dict[str, list[float]] = {entrant.name: [] for entrant in entrants}
    async with AsyncExitStack() as stack:
        works: list[tuple[str, Work]] = []
        for entrant in entrants:
            contender = entrant(origin)
            await contender.open()
            stack.push_async_callback(contender.aclose)
            works.append((entrant.name, getattr(contender, row.work)))
            if not row.is_long:
                await repeat(row, works[-1][1], row.in_flight)
        gc.collect()
        gc.freeze()  # so that a collection does not scan the other contenders' modules
        stack.callback(gc.unfreeze)
        for order in _interleaved(works, 2 if row.is_long else rounds):
            for name, work in order:
                seconds[name].append(await _timed(row, work))
    return Outcome(row, seconds, missing)


def _entrants(row: Race, only: Sequence[str]) -> tuple[list[type[Contender]], dict[str, str]]:
    entrants: list[type[Contender]] = []
    missing: dict[str, str] = {}
    for contender in CONTENDERS:
        wanted = not only or contender.name in {*only, row.floor, row.less}
        if not wanted or not hasattr(contender, row.work):
            continue
        if package := absent(contender.packages):
            missing[contender.name] = package
        else:
            entrants.append(contender)
    return entrants, missing


async def _timed(row: Race, work: Work) -> float:
    if not row.is_long:
        # Not measured: reconnects if the connection was closed while the others ran.
        await repeat(row, work, row.in_flight)
    gc.collect()
    start = time.process_time()
    await repeat(row, work, row.times)
    return (time.process_time() - start) / (row.times * row.units)


async def repeat(row: Race, work: Work, times: int) -> None:
    """Do the work so many times, as many at once as the row has in flight."""
    if row.in_flight == 1:
        await again(row, work, times)
        return
    async with asyncio.TaskGroup() as group:
        for _ in range(row.in_flight):
            group.create_task(again(row, work, times // row.in_flight))


async def again(row: Race, work: Work, times: int) -> None:
    """Do the work so many times, one after the other, and check what it returns."""
    for _ in range(times):
        result = await work()
        if result != row.expects:
            raise AssertionError(f"{row.key}: {work} returned {result} instead of {row.expects}")


# Functions


def making(row: Making, *, rounds: int, only: Sequence[str] = ()) -> tuple[Outcome, Outcome]:
    """Run *row*: its CPU time, and its peak memory."""
    entrants = [name for name in row.makers if not only or name in {*only, row.floor}]
    seconds: dict[str, list[float]] = {name: [] for name in entrants}
    memory: dict[str, list[float]] = {name: [] for name in entrants}
    for order in _interleaved(entrants, rounds):
        for name in order:
            gc.collect()
            start = time.process_time()
            row.makers[name]()
            seconds[name].append(time.process_time() - start)
    for name in entrants:
        tracemalloc.start()
        row.makers[name]()
        memory[name] = [tracemalloc.get_traced_memory()[1]] * rounds
        tracemalloc.stop()
    budgets = tuple(
        Budget(budget.contender, row.max_bytes, absolute=True) for budget in row.budgets
    )
    by_memory = evolve(
        row,
        key=f"{row.key}-memory",
        title=f"{row.title}: peak memory",
        about="The peak of Python's allocations during one run.",
        scale="MB",
        budgets=budgets,
    )
    return Outcome(row, seconds, {}), Outcome(by_memory, memory, {})


# Startup


def startup(
    row: Startup, origin: str, *, rounds: int, only: Sequence[str] = ()
) -> tuple[Outcome, Outcome]:
    """Run *row*: the CPU time and the wall-clock time of the same runs."""
    missing = {
        name: package
        for name, snippet in row.snippets.items()
        if (package := absent(snippet.packages))
    }
    entrants = [
        name
        for name in row.snippets
        if name not in missing
        and (not only or name.startswith(tuple(only)) or name in {row.less, row.floor})
    ]
    processor: dict[str, list[float]] = {name: [] for name in entrants}
    wall: dict[str, list[float]] = {name: [] for name in entrants}
    for name in entrants:
        _run(row.snippets[name].code, origin)  # writes the bytecode, and fills the page cache
    for order in _interleaved(entrants, rounds):
        for name in order:
            used, elapsed = _run(row.snippets[name].code, origin)
            processor[name].append(used)
            wall[name].append(elapsed)
    by_wall = evolve(row, key=f"{row.key}-wall", title=f"{row.title}: wall-clock time")
    return Outcome(row, processor, missing), Outcome(by_wall, wall, missing)


def _run(code: str, origin: str) -> tuple[float, float]:
    """The CPU seconds and the elapsed seconds of an interpreter that runs *code*."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-I", "-c", code, origin])
    _, status, usage = os.wait4(process.pid, 0)
    elapsed = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise AssertionError(f"the program exited with {process.returncode}: {code}")
    return usage.ru_utime + usage.ru_stime, elapsed
