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
    for sound, low, high in ((spoken(SENTENCES[0]), 0.5, 1.0), (silence(2), 0.0, 0.1)):
        meter = backends.speech_detector().start()
        frames = [sound[start : start + 512] for start in range(0, len(sound) - 511, 512)]
        mean = sum(meter.measure(frame) for frame in frames) / len(frames)
        assert low <= mean <= high
