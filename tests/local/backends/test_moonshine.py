"""The recognizer reads spoken sentences; its table of tokens is that of its file."""

import numpy as np
import pytest

from cfai.local import backends
from cfai.local.backends.moonshine import _read_tokens
from tests.local.spoken import SENTENCES, silence, spoken

pytestmark = pytest.mark.usefixtures("speech_weights")


def test_a_sentence_has_its_text_and_a_probability() -> None:
    recognized = backends.speech_recognizer().transcribe(spoken(SENTENCES[2]))
    assert recognized.text == SENTENCES[2]
    assert -0.5 < recognized.log_probability <= 0


@pytest.mark.parametrize(("number", "probability"), [(0, -0.0928), (2, -0.0156), (5, -0.0311)])
def test_the_probability_is_the_mean_of_the_tokens(number: int, probability: float) -> None:
    """As recorded: the logarithm, with the end of the text as one more token."""
    recognized = backends.speech_recognizer().transcribe(spoken(SENTENCES[number]))
    assert recognized.log_probability == pytest.approx(probability, abs=0.01)


def test_the_text_of_a_second_has_at_most_seven_tokens() -> None:
    """6.5 a second, rounded up, and eight at least: what is longer repeats itself."""
    recognizer = backends.speech_recognizer()
    fast = np.concatenate([spoken(SENTENCES[index])[::2] for index in (2, 5)])
    for seconds, most in ((1, 8), (2, 13)):
        text = recognizer.transcribe(fast[: seconds * 16_000]).text
        # A token has a letter at least, and mostly a syllable.
        assert len(text.split()) <= most


def test_the_same_sound_has_the_same_text() -> None:
    recognizer = backends.speech_recognizer()
    sound = spoken(SENTENCES[3])
    assert recognizer.transcribe(sound) == recognizer.transcribe(sound)


@pytest.mark.parametrize("samples", [0, 1, 100, 1599])
def test_very_short_sound_is_no_error(samples: int) -> None:
    recognized = backends.speech_recognizer().transcribe(np.zeros(samples, np.float32))
    assert len(recognized.text.split()) <= 8


def test_the_length_of_a_text_is_limited_by_that_of_the_sound() -> None:
    """Nothing is repeated without an end."""
    noise = np.random.default_rng(3).normal(0, 0.3, 48_000).astype(np.float32)
    assert len(backends.speech_recognizer().transcribe(noise).text) < 20 * 10


def test_a_cancelled_text_ends_early() -> None:
    recognizer = backends.speech_recognizer()
    recognized = recognizer.transcribe(spoken(SENTENCES[3]), is_cancelled=lambda: True)
    assert recognized.text == ""


@pytest.mark.parametrize(
    ("data", "tokens"),
    [
        (b"", []),
        (b"\x00", [b""]),
        (b"\x02ab\x00\x01c", [b"ab", b"", b"c"]),
        (b"\x81\x01" + b"x" * 129, [b"x" * 129]),
        (b"\x80\x02" + b"x" * 256 + b"\x01y", [b"x" * 256, b"y"]),
    ],
)
def test_tokens_have_their_length_before_them(data: bytes, tokens: list[bytes]) -> None:
    assert list(_read_tokens(data)) == tokens


def test_the_speech_detector_tells_speech_from_silence() -> None:
    meter = backends.speech_detector().start()
    sound = np.concatenate([silence(0.2), spoken(SENTENCES[0]), silence(0.3)])
    frames = [sound[start : start + 512] for start in range(0, len(sound) - 511, 512)]
    probabilities = [meter.measure(frame) for frame in frames]
    # As recorded: each frame is heard with the end of the one before it, and what came earlier.
    assert len(frames) == 82
    assert max(probabilities[:15]) < 0.05
    assert min(probabilities[17:60]) > 0.9
    assert max(probabilities[62:]) < 0.1
    for sound, low, high in ((spoken(SENTENCES[0]), 0.5, 1.0), (silence(2), 0.0, 0.1)):
        meter = backends.speech_detector().start()
        frames = [sound[start : start + 512] for start in range(0, len(sound) - 511, 512)]
        mean = sum(meter.measure(frame) for frame in frames) / len(frames)
        assert low <= mean <= high
