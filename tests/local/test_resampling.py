"""Tones keep their pitch and their level; those that the new rate cannot have vanish."""

import numpy as np
import pytest

from cfai.local.resampling import resample, resample_blocks


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


@pytest.mark.parametrize(("rate", "target"), [(48000, 16000), (44100, 16000), (16000, 48000)])
def test_the_filter_halves_at_95_percent_of_the_limit(rate: int, target: int) -> None:
    """It is flat below, and nothing is left above."""
    limit = min(rate, target) / 2
    levels = []
    for share in (0.85, 0.95, 0.99 if rate < target else 1.05):
        output = resample(tone(share * limit, rate, 0.2), rate, target)
        middle = output[len(output) // 4 : -len(output) // 4]
        levels.append(float(np.sqrt((middle**2).mean() * 2)))
    assert levels[0] == pytest.approx(1, abs=0.01)
    assert levels[1] == pytest.approx(0.5, abs=0.02)
    assert levels[2] < (0.25 if rate < target else 0.02)


@pytest.mark.parametrize("rate", [7999, 8000, 44100])
def test_a_constant_stays_the_same(rate: int) -> None:
    output = resample(np.ones(rate, np.float32), rate, 16000)
    assert output.dtype == np.float32
    assert output[100:-100] == pytest.approx(np.ones(len(output) - 200), abs=1e-5)


@pytest.mark.parametrize("size", [0, 1, 2, 100])
def test_short_sound(size: int) -> None:
    assert len(resample(np.zeros(size, np.float32), 48000, 16000)) == -(-size // 3)


def test_the_same_rate_changes_nothing() -> None:
    samples = tone(440, 16000)
    assert resample(samples, 16000, 16000) is samples


@pytest.mark.parametrize("rate", [7999, 8000, 11025, 22050, 24000, 44100, 48000])
@pytest.mark.parametrize("size", [900, 44100, 1_000_000])
def test_blocks_give_the_same_as_the_whole(rate: int, size: int) -> None:
    whole = np.stack([tone(440, rate, 3), tone(1000, rate, 3)], axis=1)[:-7]
    blocks = [whole[start : start + size] for start in range(0, len(whole), size)]
    output = np.concatenate(list(resample_blocks(iter(blocks), rate, 16000)))
    expected = np.stack([resample(column, rate, 16000) for column in whole.T], axis=1)
    assert output.shape == expected.shape
    assert np.abs(output - expected).max() < 1e-5


def test_no_blocks() -> None:
    assert list(resample_blocks(iter([]), 8000, 16000)) == []
