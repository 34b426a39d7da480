"""The classifier: VADER's lexicon and rules, from the package `nltk-vader-sentiment`."""

from typing import Any

from cfai.local.errors import text_too_long

_MAX_CHARACTERS = 20_000
"""About 10 times what the service's model reads, 512 tokens."""


class Vader:
    """Classifies sentiment with the two labels of distilbert-sst-2."""

    name = "vader"

    def __init__(self) -> None:
        import vader

        self._analyzer: Any = vader.SentimentIntensityAnalyzer()

    def classify(self, text: str) -> list[tuple[str, float]]:
        """Return `NEGATIVE` and `POSITIVE`, in the service's order, with scores that sum to 1.

        The score is VADER's compound value, mapped from -1..1 to 0..1: a neutral text has 0.5 for
        both.

        Raises:
            ApiError: The text is too long: VADER's time grows with the square of some texts.
        """
        if len(text) > _MAX_CHARACTERS:
            raise text_too_long("text", len(text), _MAX_CHARACTERS)
        positive = (self._analyzer.polarity_scores(text)["compound"] + 1) / 2
        return [("NEGATIVE", round(1 - positive, 6)), ("POSITIVE", round(positive, 6))]
