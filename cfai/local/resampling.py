"""Changing the sample rate of sound, with numpy alone."""

import math
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ZERO_CROSSINGS = 16
"""Of the filter, on each side."""

_BLOCK = 1 << 14
"""How many samples are computed at once."""


def resample(samples: "NDArray[np.float32]", rate: int, target: int) -> "NDArray[np.float32]":
    """Change the sample rate, without frequencies that the new one cannot have.

    A windowed sinc filter for each of the positions that a new sample can have between two old
    ones.
    """
    import numpy as np

    if rate == target:
        return samples
    common = math.gcd(rate, target)
    up, down = target // common, rate // common
    filters = _build_filters(up, down)
    taps = filters.shape[1]
    padded = np.pad(samples, (taps // 2 - 1, taps))
    windows = np.lib.stride_tricks.sliding_window_view(padded, taps)
    output = np.empty(-(-len(samples) * up // down), np.float32)
    for start in range(0, len(output), _BLOCK):
        positions = np.arange(start, min(start + _BLOCK, len(output)), dtype=np.int64) * down
        pieces = windows[positions // up]
        output[start : start + _BLOCK] = np.einsum("ij,ij->i", pieces, filters[positions % up])
    return output


@lru_cache(maxsize=8)
def _build_filters(up: int, down: int) -> "NDArray[np.float32]":
    """Return a filter for each position between two samples: shape (*up*, taps)."""
    import numpy as np

    # Below the lower one of the two limits, with room for the filter's slope.
    cutoff = 0.95 * min(1.0, up / down)
    half = math.ceil(_ZERO_CROSSINGS / cutoff)
    offsets = np.arange(-half + 1, half + 1)[None] - np.arange(up)[:, None] / up
    window = np.cos(np.pi / 2 * np.clip(offsets / half, -1, 1)) ** 2
    filters = cutoff * np.sinc(cutoff * offsets) * window
    scaled: NDArray[np.float32] = (filters / filters.sum(1, keepdims=True)).astype(np.float32)
    return scaled
