"""The command line of the benchmark."""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from attrs import evolve

from .check import committed_ratios, find_worse
from .contenders import CONTENDERS
from .loopback import keep_apart, loopback
from .measure import (
    Making,
    Outcome,
    Race,
    Row,
    Startup,
    absent,
    again,
    making,
    race,
    startup,
)
from .report import markdown, plain
from .rows import ROWS

_PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    keys = [row.key for row in ROWS]
    races = [row.key for row in ROWS if isinstance(row, Race)]
    names = [contender.name for contender in CONTENDERS]
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Compare the cost of calls of cfai and other clients.",
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        choices=keys,
        default=keys,
        metavar="ROW",
        help=f"one or more of {', '.join(keys)} (default: all)",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=names,
        default=[],
        metavar="CONTENDER",
        help=f"one or more of {', '.join(names)} (default: all that are installed)",
    )
    parser.add_argument(
        "--rounds", type=int, default=25, help="number of rounds (default: %(default)s)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="two short rounds, to check that it works"
    )
    parser.add_argument(
        "--markdown", type=Path, metavar="PATH", help="also write the results to this page"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="compare with docs/benchmarks.md; fail if a row became worse by more than the noise",
    )
    parser.add_argument(
        "--profile",
        choices=races,
        metavar="ROW",
        help="instead, profile cfai (or --only) in this row",
    )
    return parser.parse_args(arguments)


def _shorter(row: Row) -> Row:
    return evolve(row, times=max(row.in_flight, row.times // 20)) if isinstance(row, Race) else row


def _measure(
    row: Row, origins: Mapping[str, str], *, rounds: int, only: Sequence[str]
) -> list[Outcome]:
    match row:
        case Race():
            return [asyncio.run(race(row, origins[row.scenario], rounds=rounds, only=only))]
        case Making():
            return list(making(row, rounds=rounds, only=only))
        case Startup():
            return list(startup(row, origins["run"], rounds=rounds, only=only))
    raise TypeError(type(row))


async def _profile(row: Race, origin: str, names: Sequence[str]) -> None:
    for entrant in CONTENDERS:
        if entrant.name not in names or not hasattr(entrant, row.work) or absent(entrant.packages):
            continue
        contender = entrant(origin)
        await contender.open()
        work = getattr(contender, row.work)
        await again(row, work, row.in_flight)
        profile = cProfile.Profile()
        with profile:
            await again(row, work, 5 * row.times)
        await contender.aclose()
        print(f"{row.key}, {entrant.name}: {5 * row.times} times {row.units} {row.unit}")
        statistics = pstats.Stats(profile).strip_dirs()
        statistics.sort_stats("tottime").print_stats(30)
        statistics.sort_stats("cumulative").print_stats(40)


def _by_hand(path: Path) -> str:
    """The part of an existing page that is written by hand, which is kept."""
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    _, marker, rest = old.partition("\n<!-- The rest of this page is written by hand. -->")
    return marker + rest


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the selected benchmarks, and print the results."""
    options = _options(arguments)
    rounds = 2 if options.quick else options.rounds
    cores = keep_apart()
    outcomes: list[Outcome] = []
    with loopback(cores.server) as origins:
        for row in map(_shorter, ROWS) if options.quick else ROWS:
            if options.profile:
                if isinstance(row, Race) and row.key == options.profile:
                    origin = origins[row.scenario]
                    asyncio.run(_profile(row, origin, options.only or ["cfai"]))
            elif row.key in options.rows:
                measured = _measure(row, origins, rounds=rounds, only=options.only)
                print(*map(plain, measured), sep="\n\n", end="\n\n", flush=True)
                outcomes += measured
    committed = committed_ratios(_PAGE.read_text(encoding="utf-8"))
    if options.markdown:
        page = markdown(outcomes, rounds=rounds, cores=cores, now=datetime.now(UTC))
        options.markdown.write_text(page + _by_hand(options.markdown), encoding="utf-8")
        print(f"written: {options.markdown}", file=sys.stderr)
    if options.check:
        if worse := find_worse(outcomes, committed, "cfai"):
            sys.exit("\n".join(["worse than on the page:", *worse]))
        print("no row is worse than on the page, beyond the noise")


if __name__ == "__main__":
    main()
