"""The end of a turn: whole sentences and cut ones, spoken by the local voice."""

import numpy as np
import pytest

from cfai.local import backends
from cfai.local.backends.smart_turn import COMPLETE, _hertz_to_mel, _log_mel, _mel_to_hertz
from tests.local.quality import hold
from tests.local.spoken import SENTENCES, silence, spoken

pytestmark = pytest.mark.usefixtures("speech_weights")


def measure(samples: np.ndarray) -> float:
    return backends.turn_detector().measure(samples)


def test_whole_sentences_are_complete_and_cut_ones_are_not() -> None:
    results = []
    for sentence in SENTENCES:
        whole = spoken(sentence)
        results.append(measure(whole) >= COMPLETE)
        results.append(measure(whole[: round(len(whole) * 0.55)]) < COMPLETE)
    hold("End of a turn", results)


@pytest.mark.parametrize(
    ("number", "whole", "cut"), [(0, 0.990, 0.249), (2, 0.990, 0.008), (5, 0.989, 0.009)]
)
def test_the_probabilities_are_those_of_the_model(number: int, whole: float, cut: float) -> None:
    """As recorded: another filter, window or scale changes them."""
    samples = spoken(SENTENCES[number])
    assert measure(samples) == pytest.approx(whole, abs=0.03)
    assert measure(samples[: round(len(samples) * 0.55)]) == pytest.approx(cut, abs=0.05)


def test_white_noise_has_the_same_density_in_each_band() -> None:
    """The area of a filter is 1 / 40 Hz, the width of a bin; the window has the energy 150. The
    extractor's scale: (log10 + 4) / 4, over eight powers of ten."""
    noise = np.random.default_rng(3).standard_normal(8 * 16_000)
    features = _log_mel(noise)
    assert features.shape == (80, 800)
    power = (10 ** (features * 4 - 4)).mean(axis=1)
    assert power[20:] == pytest.approx(np.full(60, 150 / 40), rel=0.15)
    assert power.mean() == pytest.approx(150 / 40, rel=0.05)


@pytest.mark.parametrize("hertz", [100, 440, 1000, 3000, 7000])
def test_a_tone_is_in_its_band(hertz: float) -> None:
    tone = np.sin(2 * np.pi * hertz * np.arange(8 * 16_000) / 16_000)
    features = _log_mel(tone)[:, 10:-10]
    mel = hertz * 3 / 200 if hertz < 1000 else _hertz_to_mel(hertz)
    band = mel / _hertz_to_mel(8000) * 81 - 1
    assert features.mean(axis=1).argmax() == pytest.approx(band, abs=1)
    assert features.max() - features.min() == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize("seconds", [0, 0.01, 8, 20])
def test_any_length_is_measured(seconds: float) -> None:
    assert 0 <= measure(silence(seconds)) <= 1


def test_only_the_last_eight_seconds_count() -> None:
    end = np.append(silence(8), spoken(SENTENCES[0]))[-8 * 16_000 :]
    assert measure(np.append(spoken(SENTENCES[3]), end)) == measure(end)


@pytest.mark.parametrize(("hertz", "mel"), [(1000.0, 15.0), (6400.0, 42.0), (200 / 3 * 15, 15.0)])
def test_the_mel_scale(hertz: float, mel: float) -> None:
    """Slaney's: 66.67 Hz per mel up to 1 kHz, then 27 mel per factor of 6.4."""
    assert _hertz_to_mel(hertz) == pytest.approx(mel)
    assert _mel_to_hertz(np.array([mel]))[0] == pytest.approx(hertz)
