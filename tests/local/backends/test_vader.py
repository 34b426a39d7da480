"""Sentiment classification with the labels of the service."""

import pytest

from cfai.local.backends.vader import Vader
from cfai.local.errors import ApiError


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
def test_the_label_matches_the_sentiment(text: str, *, positive: bool) -> None:
    (_, negative_score), (_, positive_score) = Vader().classify(text)
    assert (positive_score > negative_score) is positive


@pytest.mark.parametrize("text", ["", "table", "12", "I hate it.", "great " * 500])
def test_the_scores_of_both_labels_sum_to_1(text: str) -> None:
    labels = Vader().classify(text)
    assert [label for label, _ in labels] == ["NEGATIVE", "POSITIVE"]
    assert sum(score for _, score in labels) == pytest.approx(1)
    assert all(0 <= score <= 1 for _, score in labels)


def test_a_neutral_text_has_equal_scores() -> None:
    assert Vader().classify("The table has four legs") == [("NEGATIVE", 0.5), ("POSITIVE", 0.5)]


def test_the_longest_text_that_is_read() -> None:
    """VADER's time grows with the square of the number of emojis and of marks."""
    for text in ("!?" * 10_000, "\U0001f600" * 20_000, "good " * 4_000):
        assert len(Vader().classify(text)) == 2
        with pytest.raises(ApiError, match="text has 20001 characters, more than the 20000"):
            Vader().classify(text + ".")
