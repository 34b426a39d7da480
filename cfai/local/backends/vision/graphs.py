"""Reads graph models of TensorFlow.js: as many operations as NanoDet has.

Format: github.com/tensorflow/tfjs, `tfjs-converter`, `GraphDef` and `weightsManifest`.
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from cfai.local.backends.vision.networks import Network, NetworkBuilder

Node = Mapping[str, Any]

_SAME = {
    "Add": "Add",
    "AddV2": "Add",
    "Identity": "Identity",
    "Sigmoid": "Sigmoid",
}
"""The operations that need nothing but their inputs."""

_TO_CHANNELS_FIRST = (0, 3, 1, 2)
_TO_CHANNELS_LAST = (0, 2, 3, 1)


def read_graph(topology: Path, weights: Path, shape: Sequence[int]) -> Network:
    """Return the network of a topology (JSON) and its weights, for an input of *shape*."""
    document = orjson.loads(topology.read_bytes())
    constants = _read_weights(document["weightsManifest"], weights.read_bytes())
    nodes = {node["name"]: node for node in document["modelTopology"]["node"]}
    graph = _Graph(constants)
    outputs = []
    for name in _sort(nodes, constants):
        graph.add(nodes[name])
        if nodes[name]["op"] == "Identity":
            outputs.append(graph.values[name])
    return graph.builder.build({"image": shape}, outputs)


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


def _sort(nodes: Mapping[str, Node], constants: Mapping[str, Any]) -> list[str]:
    """Return the names of all nodes without a constant, each after those that it reads."""
    order: dict[str, None] = {}
    waiting = [name for name, node in nodes.items() if node["op"] == "Identity"]
    while waiting:
        sources = [source.partition(":")[0] for source in nodes[waiting[-1]].get("input", ())]
        missing = [name for name in sources if name not in order and name not in constants]
        if missing:
            waiting += missing
        else:
            order[waiting.pop()] = None
    return list(order)


class _Graph:
    """The nodes that were added, and what they gave."""

    def __init__(self, constants: dict[str, Any]) -> None:
        self.builder = NetworkBuilder()
        self.values: dict[str, Any] = {}
        """The names in the network, by the names of nodes; lists, if there are several outputs."""
        self._constants = constants

    def add(self, node: Node) -> None:
        """Add a node whose inputs were added."""
        operation, name = node["op"], node["name"]
        inputs = node.get("input", ())
        if operation == "Placeholder":
            self.values[name] = "image"
        elif all(source.partition(":")[0] in self._constants for source in inputs):
            # What computes shapes. Everything else reads the image.
            self._constants[name] = _FOLDED[operation](*map(self._constant, inputs))
        elif operation in _SAME:
            self.values[name] = self.builder.add(_SAME[operation], *map(self._value, inputs))
        else:
            self.values[name] = _OPERATIONS[operation](self, node["attr"], inputs)

    def _constant(self, source: str) -> Any:
        return self._constants[source.partition(":")[0]]

    def _value(self, source: str) -> str:
        name, _, output = source.partition(":")
        if name not in self.values:
            self.values[name] = self.builder.add_constant(self._constants[name])
        value = self.values[name]
        return str(value[int(output or 0)] if isinstance(value, list) else value)

    def _numbers(self, source: str) -> str:
        """Return a constant of whole numbers, as ONNX wants them."""
        import numpy as np

        return self.builder.add_constant(self._constant(source).astype(np.int64))

    def _channels_first(self, source: str) -> str:
        return self.builder.add("Transpose", self._value(source), perm=_TO_CHANNELS_FIRST)

    def _channels_last(self, value: str) -> str:
        return self.builder.add("Transpose", value, perm=_TO_CHANNELS_LAST)

    # The operations, with the attributes and the inputs of a node

    def _convolve(self, attributes: Node, inputs: Sequence[str]) -> str:
        kernel = self.builder.add_constant(self._constant(inputs[1]).transpose(3, 2, 0, 1))
        x = self._channels_first(inputs[0])
        y = self.builder.add("Conv", x, kernel, strides=_sizes(attributes, "strides"))
        return self._channels_last(y)

    def _pool(self, attributes: Node, inputs: Sequence[str]) -> str:
        sizes, strides = _sizes(attributes, "ksize"), _sizes(attributes, "strides")
        x = self._channels_first(inputs[0])
        return self._channels_last(
            self.builder.add("MaxPool", x, kernel_shape=sizes, strides=strides)
        )

    def _resize(self, attributes: Node, inputs: Sequence[str]) -> str:
        resized = self.builder.add(
            "Resize",
            self._channels_first(inputs[0]),
            "",
            "",
            self._numbers(inputs[1]),
            axes=[2, 3],
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        )
        return self._channels_last(resized)

    def _pad(self, attributes: Node, inputs: Sequence[str]) -> str:
        import numpy as np

        # All beginnings stand before all ends.
        borders = self._constant(inputs[1]).T.reshape(-1).astype(np.int64)
        values = [self._value(source) for source in inputs[2:]]
        x = self._value(inputs[0])
        return self.builder.add("Pad", x, self.builder.add_constant(borders), *values)

    def _activate(self, attributes: Node, inputs: Sequence[str]) -> str:
        alpha = attributes["alpha"]["f"]
        return self.builder.add("LeakyRelu", self._value(inputs[0]), alpha=alpha)

    def _transpose(self, attributes: Node, inputs: Sequence[str]) -> str:
        order = [int(axis) for axis in self._constant(inputs[1])]
        return self.builder.add("Transpose", self._value(inputs[0]), perm=order)

    def _reshape(self, attributes: Node, inputs: Sequence[str]) -> str:
        return self.builder.add("Reshape", self._value(inputs[0]), self._numbers(inputs[1]))

    def _join(self, attributes: Node, inputs: Sequence[str]) -> str:
        axis = int(self._constant(inputs[-1]))
        return self.builder.add("Concat", *map(self._value, inputs[:-1]), axis=axis)

    def _split(self, attributes: Node, inputs: Sequence[str]) -> list[str]:
        parts = len(self._constant(inputs[1]))
        x, sizes = self._value(inputs[0]), self._numbers(inputs[1])
        axis = int(self._constant(inputs[2]))
        return self.builder.add_split("Split", x, sizes, outputs=parts, axis=axis)


def _sizes(attributes: Node, name: str) -> list[int]:
    """Return the height and the width of an attribute with four axes."""
    return [int(size) for size in attributes[name]["list"]["i"][1:3]]


def _fill(indexes: Any, shape: Any, values: Any, default: Any) -> Any:
    import numpy as np

    result = np.full(tuple(shape), default)
    result[tuple(np.transpose(indexes)) if indexes.ndim > 1 else indexes] = values
    return result


_FOLDED: Mapping[str, Callable[..., Any]] = {"AddV2": operator.add, "SparseToDense": _fill}
"""The operations on constants."""

_OPERATIONS = {
    "ConcatV2": _Graph._join,
    "Conv2D": _Graph._convolve,
    "LeakyRelu": _Graph._activate,
    "MaxPool": _Graph._pool,
    "Pad": _Graph._pad,
    "PadV2": _Graph._pad,
    "Reshape": _Graph._reshape,
    "ResizeBilinear": _Graph._resize,
    "SplitV": _Graph._split,
    "Transpose": _Graph._transpose,
}
