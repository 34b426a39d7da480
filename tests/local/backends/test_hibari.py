"""The voice speaks a sentence at a time, always in the same way."""

import numpy as np
import pytest

from cfai.local import backends
from cfai.local.backends.hibari import RATE


def test_sentences_come_one_at_a_time() -> None:
    pieces = list(backends.speaker().speak("Dr. Smith is here. We can begin now!\nAre you ready?"))
    assert len(pieces) == 3
    assert all(piece.dtype == np.float32 for piece in pieces)
    assert all(0.3 < len(piece) / RATE < 4 for piece in pieces)


def test_the_next_sentence_is_not_spoken_before_it_is_asked_for() -> None:
    sentences = backends.speaker().speak("One thing. " * 100_000)
    assert len(next(sentences)) > 0


def test_the_same_text_sounds_the_same() -> None:
    first, second = (list(backends.speaker().speak("Hello there.")) for _ in range(2))
    assert np.array_equal(first[0], second[0])


@pytest.mark.parametrize("text", ["word " * 200, "x" * 700])
def test_a_text_without_an_end_is_spoken_in_pieces(text: str) -> None:
    speaking = backends.speaker().speak(text)
    assert len(next(speaking)) / RATE < 60
    assert len(next(speaking)) > 0


@pytest.mark.parametrize(
    "text",
    ["7" * 300, "12345678901," * 25, "1," * 150, "$" + "9" * 300, "7" * 40 + "th", "%" * 300,
     "@" * 300, "1." * 150, "QWXZ" * 75],
)  # fmt: skip
def test_digits_and_symbols_without_an_end_are_spoken_in_pieces(text: str) -> None:
    """Each has up to ten phonemes, and the longest numbers have no words."""
    speaking = backends.speaker().speak(text)
    assert 0 < len(next(speaking)) / RATE < 60


@pytest.mark.parametrize("text", ["", " \n", "😀", "日本語", "\x00\x01"])
def test_a_text_without_words_is_no_error(text: str) -> None:
    assert sum(map(len, backends.speaker().speak(text))) / RATE < 5
