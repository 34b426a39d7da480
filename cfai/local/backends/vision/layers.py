"""The layers of convolutional networks, in NumPy.

Images and feature maps are float32 of shape (height, width, channels).
"""

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[np.float32]

Box: TypeAlias = tuple[float, float, float, float]
"""The left, top, right and bottom edges, in pixels."""

Padding: TypeAlias = tuple[tuple[int, int], tuple[int, int]]
"""The rows above and below, and the columns left and right."""


def same_padding(shape: tuple[int, ...], size: int, stride: int) -> Padding:
    """Return TensorFlow's padding "SAME": one output for each *stride* inputs, rounded up."""
    pads = []
    for length in shape[:2]:
        total = max((-(-length // stride) - 1) * stride + size - length, 0)
        pads.append((total // 2, total - total // 2))
    return pads[0], pads[1]


def pad(x: "Array", padding: Padding, value: float = 0.0) -> "Array":
    """Put a border of *value* around *x*."""
    import numpy as np

    return np.pad(x, (*padding, (0, 0)), constant_values=value) if any(map(any, padding)) else x


def convolve(x: "Array", kernel: "Array", stride: int = 1) -> "Array":
    """Convolve without padding. The kernel has the shape (height, width, inputs, outputs)."""
    import numpy as np

    height, width, _, outputs = kernel.shape
    if height == width == 1:
        points: Array = x[::stride, ::stride] @ kernel[0, 0]
        return points
    rows, columns = _output_size(x.shape, (height, width), stride)
    result = np.zeros((rows * columns, outputs), np.float32)
    for i in range(height):
        for j in range(width):
            result += (
                _shifted(x, i, j, rows, columns, stride).reshape(-1, x.shape[2]) @ kernel[i, j]
            )
    return result.reshape(rows, columns, outputs)


def convolve_channels(x: "Array", kernel: "Array", stride: int = 1) -> "Array":
    """Convolve each channel by itself (depthwise). The kernel: (height, width, channels)."""
    import numpy as np

    height, width, channels = kernel.shape
    rows, columns = _output_size(x.shape, (height, width), stride)
    result = np.zeros((rows, columns, channels), np.float32)
    for i in range(height):
        for j in range(width):
            result += _shifted(x, i, j, rows, columns, stride) * kernel[i, j]
    return result


def pool_maximum(x: "Array", size: int, stride: int) -> "Array":
    """Return the maximum of each window of *size* times *size*."""
    import numpy as np

    rows, columns = _output_size(x.shape, (size, size), stride)
    windows = (_shifted(x, i, j, rows, columns, stride) for i in range(size) for j in range(size))
    result = next(windows)
    for window in windows:
        result = np.maximum(result, window)
    return result


def resize(x: "Array", height: int, width: int) -> "Array":
    """Resize by linear interpolation between the centres of pixels."""
    import numpy as np

    for axis, size in enumerate((height, width)):
        length = x.shape[axis]
        place = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
        low = place.astype(int)
        high = np.minimum(low + 1, length - 1)
        share = (place - low).astype(np.float32).reshape((-1, 1, 1) if axis == 0 else (-1, 1))
        x = np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share
    return x


def softmax(x: "Array") -> "Array":
    """Return probabilities along the last axis."""
    import numpy as np

    powers = np.exp(x - x.max(-1, keepdims=True))
    result: Array = powers / powers.sum(-1, keepdims=True)
    return result


def _output_size(shape: tuple[int, ...], window: tuple[int, int], stride: int) -> tuple[int, int]:
    return (shape[0] - window[0]) // stride + 1, (shape[1] - window[1]) // stride + 1


def _shifted(x: "Array", i: int, j: int, rows: int, columns: int, stride: int) -> "Array":
    """Return what the windows have at (*i*, *j*)."""
    return x[i : i + (rows - 1) * stride + 1 : stride, j : j + (columns - 1) * stride + 1 : stride]
