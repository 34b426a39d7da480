"""Tones keep their pitch and their level; those that the new rate cannot have vanish."""

import numpy as np
import pytest

from cfai.local.resampling import resample


def tone(hertz: float, rate: int, seconds: float = 0.5) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate).astype(np.float32)


@pytest.mark.parametrize(
    ("rate", "target"),
    [
        (8000, 16000),
        (11025, 16000),
        (22050, 16000),
        (24000, 16000),
        (44100, 16000),
        (48000, 16000),
        (24000, 8000),
        (24000, 22050),
        (24000, 48000),
        (7999, 16000),
    ],
)
@pytest.mark.parametrize("hertz", [100, 1000, 3000])
def test_a_tone_stays_the_same(rate: int, target: int, hertz: float) -> None:
    output = resample(tone(hertz, rate), rate, target)
    expected = tone(hertz, target)
    assert abs(len(output) - len(expected)) <= 1
    middle = slice(target // 20, -target // 20)
    size = min(len(output), len(expected))
    assert np.abs(output[:size][middle] - expected[:size][middle]).max() < 0.01


@pytest.mark.parametrize("rate", [24000, 44100, 48000])
def test_frequencies_above_the_new_limit_vanish(rate: int) -> None:
    output = resample(tone(9500, rate), rate, 16000)
    assert np.abs(output[800:-800]).max() < 0.01


@pytest.mark.parametrize("size", [0, 1, 2, 100])
def test_short_sound(size: int) -> None:
    assert len(resample(np.zeros(size, np.float32), 48000, 16000)) == -(-size // 3)


def test_the_same_rate_changes_nothing() -> None:
    samples = tone(440, 16000)
    assert resample(samples, 16000, 16000) is samples
