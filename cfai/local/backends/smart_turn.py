"""The detector of the end of a turn, Smart Turn v3.2, on onnxruntime.

It hears whether a speaker has finished, by words and melody, from the last eight seconds. Its input
is Whisper's logarithmic mel spectrogram.
"""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from cfai.local.backends.onnx import open_session

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_RATE = 16_000
_SAMPLES = 8 * _RATE
_WINDOW = 400
_HOP = 160
_BANDS = 80

COMPLETE = 0.5
"""The least probability of a complete turn."""


class SmartTurn:
    """The detector. Thread-safe."""

    name = "smart-turn-v3.2"

    def __init__(self, path: Path) -> None:
        self._session = open_session(path, threads=1)

    def measure(self, samples: "NDArray[np.float32]") -> float:
        """Return the probability that the speaker has finished. Only the end is read."""
        import numpy as np

        end = samples[-_SAMPLES:]
        padded = np.pad(end, (_SAMPLES - len(end), 0)).astype(np.float64)
        scaled = (padded - padded.mean()) / np.sqrt(padded.var() + 1e-7)
        features = _log_mel(scaled)[None].astype(np.float32)
        return float(self._session.run(None, {"input_features": features})[0].ravel()[0])


def _log_mel(samples: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """Return Whisper's features: 80 bands, a column for each 10 ms.

    Source: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision" (2022),
    section 2.2, and the scaling of its published feature extractor.
    """
    import numpy as np

    padded = np.pad(samples, _WINDOW // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP][:-1]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)
    power = np.abs(np.fft.rfft(windows * hann, axis=1)) ** 2
    bands = np.log10(np.maximum(_mel_filters() @ power.T, 1e-10))
    scaled: NDArray[np.float64] = (np.maximum(bands, bands.max() - 8.0) + 4.0) / 4.0
    return scaled


@lru_cache(maxsize=1)
def _mel_filters() -> "NDArray[np.float64]":
    """Return the weight of each frequency in each band, of equal area (Slaney's mel scale)."""
    import numpy as np

    edges = _mel_to_hertz(np.linspace(0.0, _hertz_to_mel(_RATE / 2), _BANDS + 2))
    frequencies = np.fft.rfftfreq(_WINDOW, 1 / _RATE)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (frequencies - low) / (middle - low)
    falling = (high - frequencies) / (high - middle)
    filters: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)
    return filters


# Linear below 1 kHz (15 mel), logarithmic above: 27 steps are a factor of 6.4.
_LINEAR = 200 / 3
_CORNER_MEL = 15.0
_STEPS = 27.0
_FACTOR = 6.4


def _hertz_to_mel(hertz: float) -> float:
    """For frequencies above 1 kHz."""
    import numpy as np

    return _CORNER_MEL + float(np.log(hertz / 1000.0) / np.log(_FACTOR)) * _STEPS


def _mel_to_hertz(mels: "NDArray[np.float64]") -> "NDArray[np.float64]":
    import numpy as np

    above = 1000.0 * _FACTOR ** ((mels - _CORNER_MEL) / _STEPS)
    hertz: NDArray[np.float64] = np.where(mels < _CORNER_MEL, mels * _LINEAR, above)
    return hertz
