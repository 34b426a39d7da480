"""The voice, from the package `hibari-tts`, on onnxruntime: American English, female.

It is distilled from Kokoro-82M, as the notice of the package says. Its other voices would be
downloaded, so they are not used.
"""

import re
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RATE = 24_000
"""In samples per second."""

_LONGEST = 300
"""The most characters that are spoken at once."""

_MOST_PHONEMES = 500
"""The most phonemes that are spoken at once: digits and symbols have up to ten each."""

_LONG_NUMBER = re.compile(r"\d[\d,]{15,}")
"""A number that is read digit by digit: there are no words for the longest ones."""

_LONG_WORD = re.compile(r"\S{40}")

_SEED = 0
"""Of the noise in the voice: the same text always sounds the same."""


class Hibari:
    """The voice. Thread-safe."""

    name = "hibari"

    def __init__(self) -> None:
        import hibari

        self._voice = hibari.Hibari(threads=2)
        # Loaded with the first text otherwise.
        self._voice.phonemize("Warm.")

    def speak(self, text: str) -> "Iterator[NDArray[np.float32]]":
        """Yield the samples of each sentence as soon as it is spoken: 24 kHz, from -1 to 1.

        Each step takes a few seconds at most. Text that has no sound yields no samples.
        """
        for sentence in self._voice.split_sentences(text):
            # A sentence is spoken at once, in memory and time that grow with its length.
            for piece in textwrap.wrap(_break_up(sentence), _LONGEST):
                parts = [
                    part
                    for phonemes in self._voice.phonemize(piece)
                    for part in textwrap.wrap(phonemes, _MOST_PHONEMES, break_on_hyphens=False)
                ]
                # Without a sound, too, the caller gets the chance to stop.
                for part in parts or [""]:
                    yield self._voice.from_phonemes(part, seed=_SEED)


def _break_up(sentence: str) -> str:
    """Put spaces between the digits of a long number, and into other words without an end."""
    spaced = _LONG_NUMBER.sub(lambda match: " ".join(match[0].replace(",", "")), sentence)
    return _LONG_WORD.sub(r"\g<0> ", spaced)
