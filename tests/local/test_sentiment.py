"""Feelings are told by VADER, in the labels of the service."""

import pytest

from cfai.local.backends.sentiment import Vader


@pytest.mark.parametrize(
    ("text", "positive"),
    [
        ("This pizza is great!", True),
        ("I love it, thank you so much", True),
        ("not bad at all", True),
        ("I hate it.", False),
        ("The worst film I have ever seen", False),
        ("This is not good", False),
    ],
)
def test_the_label_fits_the_feeling(text: str, *, positive: bool) -> None:
    (_, negative_score), (_, positive_score) = Vader().classify(text)
    assert (positive_score > negative_score) is positive


@pytest.mark.parametrize("text", ["", "table", "12", "I hate it.", "great " * 500])
def test_there_are_both_labels_and_they_sum_to_one(text: str) -> None:
    found = Vader().classify(text)
    assert [label for label, _ in found] == ["NEGATIVE", "POSITIVE"]
    assert sum(score for _, score in found) == pytest.approx(1)
    assert all(0 <= score <= 1 for _, score in found)


def test_a_text_without_feeling_is_undecided() -> None:
    assert Vader().classify("The table has four legs") == [("NEGATIVE", 0.5), ("POSITIVE", 0.5)]
