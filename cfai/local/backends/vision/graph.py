"""A graph model of TensorFlow.js, run in NumPy: as many operations as NanoDet has.

Tensors of images have the shape (1, height, width, channels) between the transpositions that the
graph contains. Format: github.com/tensorflow/tfjs, `tfjs-converter`, `GraphDef` and
`weightsManifest`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from cfai.local.backends.vision import layers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Node = Mapping[str, Any]
Values = Sequence[Any]
"""The arrays that go into a node."""


class Graph:
    """The nodes and the weights of a model: its topology (JSON) and its weights (binary)."""

    def __init__(self, topology: Path, weights: Path) -> None:
        document = orjson.loads(topology.read_bytes())
        self._nodes: dict[str, Node] = {
            node["name"]: node for node in document["modelTopology"]["node"]
        }
        self._constants = _read_weights(document["weightsManifest"], weights.read_bytes())
        self._order = self._sort()

    def run(self, image: "NDArray[np.float32]") -> list["NDArray[np.float32]"]:
        """Return the outputs for the input of shape (1, channels, height, width)."""
        values: dict[str, Any] = dict(self._constants)
        outputs = []
        for name in self._order:
            node = self._nodes[name]
            if node["op"] == "Placeholder":
                values[name] = image
                continue
            inputs = [_pick(values, source) for source in node.get("input", ())]
            values[name] = OPERATIONS[node["op"]](node, inputs)
            if node["op"] == "Identity":
                outputs.append(values[name])
        return outputs

    def _sort(self) -> list[str]:
        """Return the names of all nodes without a constant, each after those that it reads."""
        order: dict[str, None] = {}
        waiting = [name for name, node in self._nodes.items() if node["op"] == "Identity"]
        while waiting:
            name = waiting[-1]
            sources = [_base(source) for source in self._nodes[name].get("input", ())]
            missing = [it for it in sources if it not in order and it not in self._constants]
            if missing:
                waiting += missing
            else:
                order[waiting.pop()] = None
        return list(order)


def _read_weights(manifest: Sequence[Node], data: bytes) -> dict[str, Any]:
    """Return the arrays by name. Some are stored as small integers with a scale."""
    import numpy as np

    constants = {}
    offset = 0
    for weight in (weight for group in manifest for weight in group["weights"]):
        stored = weight.get("quantization", {})
        kind = np.dtype(stored.get("dtype", weight["dtype"]))
        count = math.prod(weight["shape"])
        values = np.frombuffer(data, kind, count, offset).reshape(weight["shape"])
        offset += count * kind.itemsize
        if "scale" in stored:
            values = values * stored["scale"] + stored["min"]
        constants[weight["name"]] = values.astype(weight["dtype"])
    return constants


def _base(source: str) -> str:
    return source.partition(":")[0]


def _pick(values: Mapping[str, Any], source: str) -> Any:
    name, _, output = source.partition(":")
    value = values[name]
    return value[int(output or 0)] if isinstance(value, tuple) else value


# Operations


def _convolve(node: Node, inputs: Values) -> Any:
    stride = int(node["attr"]["strides"]["list"]["i"][1])
    return layers.convolve(inputs[0][0], inputs[1], stride)[None]


def _pool(node: Node, inputs: Values) -> Any:
    size, stride = (int(node["attr"][name]["list"]["i"][1]) for name in ("ksize", "strides"))
    return layers.pool_maximum(inputs[0][0], size, stride)[None]


def _pad(node: Node, inputs: Values) -> Any:
    import numpy as np

    value = float(inputs[2]) if len(inputs) > 2 else 0.0
    return np.pad(inputs[0], inputs[1], constant_values=value)


def _resize(node: Node, inputs: Values) -> Any:
    height, width = (int(size) for size in inputs[1])
    return layers.resize(inputs[0][0], height, width)[None]


def _activate(node: Node, inputs: Values) -> Any:
    import numpy as np

    return np.where(inputs[0] > 0, inputs[0], inputs[0] * np.float32(node["attr"]["alpha"]["f"]))


def _squash(node: Node, inputs: Values) -> Any:
    import numpy as np

    return 1 / (1 + np.exp(-inputs[0]))


def _join(node: Node, inputs: Values) -> Any:
    import numpy as np

    return np.concatenate(inputs[:-1], int(inputs[-1]))


def _split(node: Node, inputs: Values) -> Any:
    import numpy as np

    return tuple(np.split(inputs[0], np.cumsum(inputs[1])[:-1], int(inputs[2])))


def _fill(node: Node, inputs: Values) -> Any:
    import numpy as np

    indexes, shape, values, default = inputs
    result = np.full(tuple(shape), default)
    result[tuple(np.transpose(indexes)) if indexes.ndim > 1 else indexes] = values
    return result


def _reshape(node: Node, inputs: Values) -> Any:
    return inputs[0].reshape(tuple(inputs[1]))


OPERATIONS: Mapping[str, Callable[[Node, Values], Any]] = {
    "Add": lambda node, inputs: inputs[0] + inputs[1],
    "AddV2": lambda node, inputs: inputs[0] + inputs[1],
    "ConcatV2": _join,
    "Conv2D": _convolve,
    "Identity": lambda node, inputs: inputs[0],
    "LeakyRelu": _activate,
    "MaxPool": _pool,
    "Pad": _pad,
    "PadV2": _pad,
    "Reshape": _reshape,
    "ResizeBilinear": _resize,
    "Sigmoid": _squash,
    "SparseToDense": _fill,
    "SplitV": _split,
    "Transpose": lambda node, inputs: inputs[0].transpose(inputs[1]),
}
"""What a node computes, by the name of its operation."""
