"""Changing the sample rate of sound, with numpy alone."""

import math
from collections.abc import Iterator
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


def resample_blocks(
    blocks: "Iterator[NDArray[np.float32]]", rate: int, target: int
) -> "Iterator[NDArray[np.float32]]":
    """Change the sample rate of sound that comes in blocks of shape (samples, channels)."""
    import numpy as np

    if rate == target:
        yield from blocks
        return
    common = math.gcd(rate, target)
    up, down = target // common, rate // common
    # Whole groups of *down* samples become groups of *up*. Each block has neighbours on both sides.
    margin = -(-_build_filters(up, down).shape[1] // down) * down
    held: NDArray[np.float32] | None = None
    for block in blocks:
        if held is None:
            held = np.zeros((margin, block.shape[1]), np.float32)
        held = np.concatenate([held, block])
        usable = (len(held) - 2 * margin) // down * down
        if usable > 0:
            yield _resample_columns(held[: usable + 2 * margin], margin, up, down)
            held = held[usable:]
    if held is not None:
        # At least the margin is left, and after it the end.
        yield _resample_columns(np.pad(held, ((0, margin), (0, 0))), margin, up, down)


def _resample_columns(
    samples: "NDArray[np.float32]", margin: int, up: int, down: int
) -> "NDArray[np.float32]":
    """Return the new samples for all but the margins, which are whole groups."""
    import numpy as np

    first = margin // down * up
    count = -(-(len(samples) - 2 * margin) * up // down)
    columns = [resample(column, down, up) for column in samples.T]
    return np.stack([column[first : first + count] for column in columns], axis=1)


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
