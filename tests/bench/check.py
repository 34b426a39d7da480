"""Compares results with those of the committed page, and names the rows that became worse."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from .measure import Outcome

Quartiles = tuple[float, float, float]

_RANGE = re.compile(r"([0-9.,]+) to ([0-9.,]+)")


def committed_ratios(page: str) -> dict[tuple[str, str], Quartiles]:
    """The ratios on the page, with their quartiles, by the title of the row and the contender."""
    ratios: dict[tuple[str, str], Quartiles] = {}
    title, column = "", -1
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("#"):
            title, column = line.lstrip("# "), -1
        elif "× floor" in cells:
            column = cells.index("× floor")
        elif 0 <= column < len(cells) - 1 and (spread := _RANGE.fullmatch(cells[column + 1])):
            low, high = (float(number.replace(",", "")) for number in spread.groups())
            middle = float(cells[column].replace(",", ""))
            ratios[title, cells[0]] = (low, middle, high)
    return ratios


def find_worse(
    outcomes: Sequence[Outcome], committed: Mapping[tuple[str, str], Quartiles], contender: str
) -> list[str]:
    """A line for each row in which *contender* became worse by more than the noise.

    That is if the middle half of its ratios lies above that of the committed ones. Ratios are
    compared, because the speed of the machine cancels out in them. In a row with several uses of
    it, such as "cfai imported", each is compared.
    """
    lines = []
    for outcome in outcomes:
        for name in outcome.seconds:
            before = committed.get((outcome.row.title, name))
            now = outcome.ratio(name) if name.split(" ")[0] == contender else None
            if before is not None and now is not None and now[0] > before[2]:
                key = outcome.row.key if name == contender else f"{outcome.row.key} ({name})"
                lines.append(
                    f"{key}: {now[1]:.3g} × the floor ({now[0]:.3g} to {now[2]:.3g}),"
                    f" and {before[1]:.3g} before ({before[0]:.3g} to {before[2]:.3g})"
                )
    return lines
