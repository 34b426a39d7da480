"""The end of a turn: whole sentences and cut ones, spoken by the local voice."""

import numpy as np
import pytest

from cfai.local import backends
from cfai.local.backends.smart_turn import COMPLETE, _hertz_to_mel, _mel_to_hertz
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
