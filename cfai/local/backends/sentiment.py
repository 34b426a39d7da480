"""Sentiment by VADER's lexicon and rules, which come with the package `nltk-vader-sentiment`."""

from typing import Any


class Vader:
    """The text classifier: it gives the two labels of distilbert-sst-2."""

    name = "vader"

    def __init__(self) -> None:
        import vader

        self._analyzer: Any = vader.SentimentIntensityAnalyzer()

    def classify(self, text: str) -> list[tuple[str, float]]:
        """Give `NEGATIVE` and `POSITIVE`, in the service's order, with scores that sum to 1.

        The score is VADER's compound value, -1 to 1, moved to 0 to 1: a text without feeling
        has 0.5 twice.
        """
        positive = (self._analyzer.polarity_scores(text)["compound"] + 1) / 2
        return [("NEGATIVE", round(1 - positive, 6)), ("POSITIVE", round(positive, 6))]
