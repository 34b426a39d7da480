"""The quality of the local models, on small labelled sets: printed, and held in the docs."""

import re
from collections.abc import Sequence
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "local-server.md"
_ROW = re.compile(r"^\| (?P<task>[^|]+?) \|.*\| (?P<right>\d+) of (?P<count>\d+) \|$", re.MULTILINE)


def documented(task: str) -> tuple[int, int]:
    """How many of how many inputs the docs state as right for *task*."""
    rows = {row["task"]: row for row in _ROW.finditer(PAGE.read_text("utf-8"))}
    assert task in rows, f"{PAGE} has no row for {task}"
    return int(rows[task]["right"]), int(rows[task]["count"])


def hold(task: str, results: Sequence[bool]) -> None:
    """Fail unless the docs state this quality for *task*, as "right of count"."""
    right, count = sum(results), len(results)
    print(f"{task}: {right} of {count}")
    assert count >= 20
    documented_right, documented_count = documented(task)
    # Other processors round differently: one more or one less is no other quality.
    assert abs(right - documented_right) <= 1
    assert count == documented_count
