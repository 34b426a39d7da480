"""The speech detector, Silero VAD, on onnxruntime: how likely each 32 ms are speech."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfai.local.backends.onnx import open_session

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FRAME = 512
"""The samples of a frame: 32 ms at 16 kHz."""

_CONTEXT = 64
_RATE = 16_000


class Silero:
    """The detector. Thread-safe: each recording has a `SpeechMeter` of its own."""

    name = "silero-vad"

    def __init__(self, path: Path) -> None:
        self._session = open_session(path, threads=1)

    def start(self) -> "SpeechMeter":
        """Start a recording."""
        return SpeechMeter(self._session)


class SpeechMeter:
    """Measures one recording, frame by frame."""

    def __init__(self, session: Any) -> None:
        import numpy as np

        self._session = session
        self._state = np.zeros((2, 1, 128), np.float32)
        self._context = np.zeros((1, _CONTEXT), np.float32)
        self._rate = np.array(_RATE, np.int64)

    def measure(self, frame: "NDArray[np.float32]") -> float:
        """Return the probability that the next `FRAME` samples are speech."""
        import numpy as np

        inputs = np.concatenate([self._context, frame[None]], axis=1)
        self._context = inputs[:, -_CONTEXT:]
        feeds = {"input": inputs, "state": self._state, "sr": self._rate}
        probability, self._state = self._session.run(None, feeds)
        return float(probability[0, 0])
