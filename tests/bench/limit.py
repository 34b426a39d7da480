"""A picture of the adaptive concurrency limit: `python -m tests.bench.limit docs/limit.svg`.

A job without a rate runs against the simulated service of `crowd`. The picture shows the
concurrency limit over time, and the refusals.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from cfai import Retries
from cfai.testing import FakeWorkersAI

from .crowd import MODEL, REQUESTS, SERVICE

_WIDTH, _HEIGHT = 760, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 16, 40, 78
# Medium colours without a background, readable on white and on black.
_TEXT, _GRID, _LINE, _REFUSED = "#808080", "#80808040", "#2f81f7", "#e5534b"


@frozen
class Course:
    """The course of a job: the limit from each moment on, and the moments of refusals."""

    limits: Sequence[tuple[float, float]]
    refused: Sequence[float]
    seconds: float
    lost: int


async def run(requests: int) -> Course:
    """Run a job, and record its limit."""
    limits: list[tuple[float, float]] = []

    def record(_: object) -> None:
        limits.append((many.stats.seconds, many.stats.limit))

    async with FakeWorkersAI() as fake:
        simulation = fake.simulates(SERVICE, remembers=False)
        texts = [f"text {number}" for number in range(requests)]
        ai = fake.client(retries=Retries(on_retry=record))
        many = ai.embed_many(MODEL, texts, batch_size=1, rate=None, progress=record)
        start = asyncio.get_running_loop().time()
        async for _ in many:
            pass
    refused = [moment - start for moment in simulation.counters.refused_at]
    return Course(limits, refused, many.stats.seconds, requests - many.stats.texts)


def svg(course: Course) -> str:
    """The picture as SVG."""
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    most = 10 * (int(max(limit for _, limit in course.limits)) // 10 + 1)
    last = max(course.seconds, 1.0)

    def x(seconds: float) -> float:
        return round(_LEFT + (right - _LEFT) * seconds / last, 1)

    def y(limit: float) -> float:
        return round(bottom - (bottom - _TOP) * limit / most, 1)

    def text(at: tuple[float, float], words: str, anchor: str = "middle", more: str = "") -> str:
        place = f'x="{at[0]}" y="{at[1]}" text-anchor="{anchor}"'
        return f'<text {place} fill="{_TEXT}"{more}>{words}</text>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"',
        'font-family="system-ui, sans-serif" font-size="13">',
        "<title>The concurrency limit and the refusals over time</title>",
    ]
    for limit in range(0, most + 1, 10):
        parts.append(f'<path d="M{_LEFT} {y(limit)}H{right}" stroke="{_GRID}"/>')
        parts.append(text((_LEFT - 8, y(limit) + 4), str(limit), "end"))
    for second in range(0, int(last) + 1, 2):
        parts.append(f'<path d="M{x(second)} {bottom}v5" stroke="{_TEXT}"/>')
        parts.append(text((x(second), bottom + 19), str(second)))
    steps = "".join(f"H{x(second)}V{y(limit)}" for second, limit in course.limits)
    begin = course.limits[0][1]
    parts.append(
        f'<path d="M{x(0)} {y(begin)}{steps}H{x(last)}" fill="none" stroke="{_LINE}" '
        'stroke-width="1.8" stroke-linejoin="round"/>'
    )
    ticks = "".join(f"M{x(second)} {bottom + 34}v12" for second in course.refused)
    parts.append(f'<path d="{ticks}" stroke="{_REFUSED}" stroke-width="1.5"/>')
    legend = _TOP - 18
    parts += [
        f'<path d="M{_LEFT} {legend - 4}h22" stroke="{_LINE}" stroke-width="1.8"/>',
        text((_LEFT + 28, legend), "concurrency limit", "start"),
        f'<path d="M{_LEFT + 290} {legend - 10}v12" stroke="{_REFUSED}" stroke-width="1.5"/>',
        text((_LEFT + 298, legend), f"refusal ({len(course.refused)} in total)", "start"),
        text(((right + _LEFT) / 2, _HEIGHT - 8), "seconds"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def main() -> None:
    """Run the job, print the results, and write the picture if a path is given."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.limit", description=__doc__)
    parser.add_argument("path", type=Path, nargs="?", help="where to write the picture")
    parser.add_argument("--requests", type=int, default=REQUESTS)
    options = parser.parse_args()
    course = asyncio.run(run(options.requests))
    print(
        f"{options.requests} requests in {course.seconds:.1f} s, {course.lost} lost, "
        f"{len(course.refused)} refused; the limit was at most "
        f"{max(limit for _, limit in course.limits):.0f}, and {course.limits[-1][1]:.1f} at the end"
    )
    if options.path:
        options.path.write_text(svg(course), encoding="utf-8")


if __name__ == "__main__":
    main()
