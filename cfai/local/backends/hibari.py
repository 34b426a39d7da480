"""The voice, from the package `hibari-tts`, on onnxruntime: American English, female.

It is distilled from Kokoro-82M, as the notice of the package says. Its other voices would be
downloaded, so they are not used.
"""

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
        """Yield the samples of each sentence as soon as it is spoken: 24 kHz, from -1 to 1."""
        for sentence in self._voice.split_sentences(text):
            # A sentence is spoken at once, in memory that grows with its length.
            for piece in textwrap.wrap(sentence, _LONGEST):
                yield from self._voice.stream(piece, seed=_SEED)
