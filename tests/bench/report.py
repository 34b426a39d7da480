"""The results as tables: plain text for a terminal, Markdown for the documentation."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

from cfai import __version__

from .contenders import CONTENDERS
from .loopback import Cores
from .measure import Budget, Outcome

_SCALES = {"s": 1, "ms": 1e3, "µs": 1e6, "MB": 1e-6}
_PACKAGES = (
    "aiohttp",
    "attrs",
    "cattrs",
    "cloudflare",
    "httpx",
    "httpx-sse",
    "huggingface_hub",
    "langchain-cloudflare",
    "litellm",
    "numpy",
    "openai",
    "orjson",
)
_INTRODUCTION = """\
# Benchmarks

The cost of a call: `cfai` compared with the bare libraries that it is built on, and with other
clients. `nox -s bench` runs all benchmarks in an environment with the other clients; `nox -s
bench -- --markdown docs/benchmarks.md` writes the first part of this page. Compare ratios rather
than absolute times.

A server in a separate process sends prepared bytes over the loopback. Client and server are
pinned to separate cores if there are at least two. Each round runs every contender once, in a new
order. The figures are the CPU time of the client's process, divided by the number of calls or
events: the median over the rounds, and the minimum. Ratios are computed within each round; the
tables show their median and their interquartile range. *Floor* is the least that the same work
costs in Python with only aiohttp and orjson.
"""


def table(outcome: Outcome) -> list[list[str]]:
    """A header, and one line per contender, in the order of the row."""
    row = outcome.row
    scale = _SCALES[row.scale]
    taken_off = [f"less {row.less}"] if row.less else []
    columns = [
        f"{row.scale} per {row.unit}",
        "minimum",
        *taken_off,
        "× floor",
        "interquartile range",
    ]
    lines = [["Contender", *columns, "Budget"]]
    for name, seconds in outcome.seconds.items():
        figures = [median(seconds), min(seconds)]
        if row.less:
            figures.append(median(outcome.over(name)))
        ratio = outcome.ratio(name)
        ratios = ["", ""]
        if ratio:
            low, middle, high = ratio
            ratios = [_figure(middle), f"{_figure(low)} to {_figure(high)}"]
        verdicts = [_verdict(outcome, each) for each in row.budgets if each.contender == name]
        scaled = [_figure(each * scale) for each in figures]
        lines.append([_label(outcome, name), *scaled, *ratios, "; ".join(verdicts)])
    return lines


def _label(outcome: Outcome, name: str) -> str:
    return f"{name} (floor)" if name == outcome.row.floor else name


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _verdict(outcome: Outcome, budget: Budget) -> str:
    scale = outcome.row.scale
    limit = f"{budget.limit * _SCALES[scale]:g} {scale}" if budget.absolute else f"{budget.limit} ×"
    return f"≤ {limit}: {'met' if outcome.met(budget) else 'not met'}"


def plain(outcome: Outcome) -> str:
    """The results of a row for a terminal."""
    lines = table(outcome)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = [
        "  ".join(
            [line[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        ).rstrip()
        for line in lines
    ]
    return "\n".join([f"{outcome.row.key}: {outcome.row.title}", *aligned, *_missing(outcome)])


def _missing(outcome: Outcome) -> list[str]:
    return [
        f"missing: {name} ({package} is not installed)" for name, package in outcome.missing.items()
    ]


def _markdown(outcome: Outcome) -> str:
    header, *lines = table(outcome)
    cells = [header, ["---", *["---:"] * (len(header) - 1)], *lines]
    text = "\n".join(f"| {' | '.join(line)} |" for line in cells)
    return "\n\n".join([f"## {outcome.row.title}", outcome.row.about, text, *_missing(outcome)])


def markdown(outcomes: Sequence[Outcome], *, rounds: int, cores: Cores, now: datetime) -> str:
    """The page of the documentation."""
    notes = [
        f"- **{contender.name}**: {contender.note}."
        for contender in CONTENDERS
        if contender.note and any(contender.name in outcome.seconds for outcome in outcomes)
    ]
    return "\n".join(
        [
            _INTRODUCTION,
            f"Measured on {now.astimezone(UTC):%d %B %Y}, {rounds} rounds. {_machine(cores)}",
            "",
            f"Versions: cfai {__version__}, {', '.join(_versions(_PACKAGES))}.",
            "",
            "How each client is used:",
            "",
            *notes,
            "",
            "\n\n".join(map(_markdown, outcomes)),
            "",
        ]
    )


def _machine(cores: Cores) -> str:
    pinned = "" if cores.client is None else ", client and server on a core each"
    return (
        f"{_processor()}, {os.cpu_count()} cores{pinned}; {platform.system()}, "
        f"{platform.python_implementation()} {platform.python_version()}."
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'Processor'} ({platform.machine()})"


def _versions(packages: Iterable[str]) -> Iterable[str]:
    for package in packages:
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            continue
