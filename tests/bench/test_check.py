"""Results are compared with the committed page."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from .check import committed_ratios, find_worse
from .loopback import Cores
from .measure import Outcome, Row
from .report import markdown

_ROW = Row(key="k", title="A row", about="About it.", unit="call", floor="floor")


def _outcome(*ours: float) -> Outcome:
    return Outcome(_ROW, {"floor": [1e-3] * len(ours), "cfai": [one * 1e-3 for one in ours]}, {})


def _page(outcome: Outcome) -> str:
    return markdown(
        [outcome], rounds=5, cores=Cores(None, None), now=datetime(2026, 1, 2, tzinfo=UTC)
    )


def test_the_ratios_of_a_page_are_read_back() -> None:
    """Of every contender, by the title of its row; large ones have a comma."""
    ratios = committed_ratios(_page(_outcome(1.1, 1.2, 1.3, 1.4, 1.5)))
    assert ratios["A row", "cfai"] == (1.2, 1.3, 1.4)
    assert ratios["A row", "floor (floor)"] == (1.0, 1.0, 1.0)
    large = committed_ratios(_page(_outcome(1100, 1200, 1300, 1400, 1500)))
    assert large["A row", "cfai"] == (1200.0, 1300.0, 1400.0)


def test_only_rows_beyond_the_noise_are_worse() -> None:
    """The middle halves of the ratios must not overlap."""
    committed = committed_ratios(_page(_outcome(1.1, 1.2, 1.3, 1.4, 1.5)))
    noisy, worse, better = _outcome(1.2, 1.3, 1.5, 2, 3), _outcome(*[1.5] * 5), _outcome(*[1] * 5)
    assert find_worse([noisy, better], committed, "cfai") == []
    [line] = find_worse([noisy, worse], committed, "cfai")
    assert line == "k: 1.5 × the floor (1.5 to 1.5), and 1.3 before (1.2 to 1.4)"
    assert find_worse([worse], {}, "cfai") == []
    assert find_worse([worse], committed, "peer") == []


def test_each_use_of_a_contender_is_compared() -> None:
    """As in the rows about imports."""

    def outcome(imported: float, made: float) -> Outcome:
        names = {"floor": 1.0, "cfai imported": imported, "cfai and a client": made, "peer": 9.0}
        return Outcome(_ROW, {name: [ratio * 1e-3] * 5 for name, ratio in names.items()}, {})

    committed = committed_ratios(_page(outcome(0.05, 1.3)))
    assert find_worse([outcome(0.05, 1.2)], committed, "cfai") == []
    [line] = find_worse([outcome(0.05, 1.5)], committed, "cfai")
    assert line.startswith("k (cfai and a client): 1.5 × the floor")
    assert len(find_worse([outcome(0.06, 1.5)], committed, "cfai")) == 2


def test_the_committed_page_has_our_rows() -> None:
    """An empty page would never find anything."""
    page = Path(__file__).parents[2] / "docs" / "benchmarks.md"
    ratios = committed_ratios(page.read_text(encoding="utf-8"))
    assert ("One small JSON answer, one call at a time", "cfai") in ratios
    assert len([name for _, name in ratios if name == "cfai"]) >= 8
