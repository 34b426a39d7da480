"""The benchmarks run, and compute their results correctly. No speed is asserted."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from .contenders import CONTENDERS
from .loopback import Cores
from .measure import Budget, Outcome, Race, Row, absent
from .report import markdown, plain
from .rows import ROWS

_TOP = Path(__file__).parents[2]
_ROW = Row(
    key="k",
    title="A row",
    about="About it.",
    unit="call",
    floor="floor",
    less="nothing",
    budgets=(Budget("ours", 1.25), Budget("ours", 3e-6, absolute=True)),
)
_SECONDS = {
    "nothing": [1e-6, 1e-6, 3e-6],
    "floor": [3e-6, 3e-6, 5e-6],
    "ours": [3.4e-6, 3.2e-6, 9e-6],
}


def test_the_command_measures_ours_and_the_floor(tmp_path: Path) -> None:
    """`python -m tests.bench --quick` runs the fast rows and writes the page."""
    page = tmp_path / "page.md"
    command = [sys.executable, "-m", "tests.bench", "--quick", "--only", "cfai"]
    command += [
        "--rows",
        "run",
        "run-64",
        "chat",
        "run-500",
        "burst",
        "blocks",
        "burst-chat",
        "embed",
        "embed-many",
        "audio",
    ]

    run = subprocess.run(
        [*command, "--markdown", str(page)], cwd=_TOP, capture_output=True, text=True, check=False
    )

    assert run.returncode == 0, run.stderr
    assert "run: One small JSON answer" in run.stdout
    assert "## A stream in bursts" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("part", "output"),
    [
        (["stall", "--rounds", "2"], "in slices (cfai)"),
        (["memory", "--texts", "300", "600"], "to_parquet: 300 texts"),
        (["limit", "{path}", "--requests", "20"], "20 requests in"),
        (["crowd", "--requests", "5"], "cfai embed_many"),
        (["growth", "--quick"], "known texts of a job: 10,000"),
    ],
)
def test_the_other_benchmarks_run(tmp_path: Path, part: list[str], output: str) -> None:
    """The other benchmarks of `nox -s bench`, with little work."""
    name, *rest = (word.format(path=tmp_path / "limit.svg") for word in part)
    command = [sys.executable, "-m", f"tests.bench.{name}", *rest]

    run = subprocess.run(command, cwd=_TOP, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stderr
    assert output in run.stdout
    if name == "limit":
        assert (tmp_path / "limit.svg").read_text().startswith("<svg ")


def test_ratios_are_taken_within_a_round() -> None:
    """A slow round slows both sides; the common cost is subtracted first."""
    outcome = Outcome(_ROW, _SECONDS, {})

    ratio = outcome.ratio("ours")

    assert ratio is not None
    assert ratio[1] == pytest.approx(1.2)
    assert outcome.ratio("nothing") is None


def test_budgets_are_ratios_or_absolute() -> None:
    """Both kinds apply after the subtraction; a missing contender has no verdict."""
    outcome = Outcome(_ROW, _SECONDS, {})

    assert [outcome.met(budget) for budget in _ROW.budgets] == [True, True]
    assert outcome.met(Budget("ours", 1.1)) is False
    assert outcome.met(Budget("peer", 1.1)) is None


def test_the_tables_name_missing_contenders() -> None:
    """A contender that is not installed is named, in the terminal and on the page."""
    outcome = Outcome(_ROW, _SECONDS, {"peer": "peer_package"})

    page = markdown(
        [outcome], rounds=3, cores=Cores(None, None), now=datetime(2026, 1, 2, tzinfo=UTC)
    )

    line = "missing: peer (peer_package is not installed)"
    assert line in plain(outcome)
    assert line in page
    assert "02 January 2026" in page
    assert "| floor (floor) | 3 | 3 | 2 | 1 | 1 to 1 |  |" in page


def test_every_row_has_a_floor_and_budgets_of_contenders() -> None:
    """The floor and the budgets of a row name contenders that take part in it."""
    for row in ROWS:
        if isinstance(row, Race):
            names = {each.name for each in CONTENDERS if hasattr(each, row.work)}
            assert {row.floor, *(budget.contender for budget in row.budgets)} <= names


def test_a_package_that_is_missing_is_named() -> None:
    """The first missing one, or None."""
    assert absent(("json", "no_such_package_here")) == "no_such_package_here"
    assert absent(("json",)) is None
