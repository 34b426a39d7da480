"""Builds networks from their operations and weights, for onnxruntime; the names of their classes.

Operations: onnx.ai, "ONNX Operators", opset 18.
"""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from cfai.local.backends.onnx import open_session

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[np.float32]

Box: TypeAlias = tuple[float, float, float, float]
"""The left, top, right and bottom edges, in pixels."""

_OPSET = 18
_IR_VERSION = 9
"""The version of the file format that goes with the opset."""


def read_labels(file_name: str) -> list[str]:
    """Return the lines of a file in `cfai/local/data`, in the order of the model's outputs.

    Sources: pytorch.org, torchvision 0.29, `models/_meta.py` (BSD-3-Clause), ImageNet's 1,000
    classes; cocodataset.org, the 80 of the detection task.
    """
    return files("cfai.local").joinpath("data", file_name).read_text("utf-8").splitlines()


class NetworkBuilder:
    """The operations of a network so far. Values are known by their names."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def add_constant(self, value: "NDArray[Any]") -> str:
        """Add an array, and return its name."""
        import numpy as np
        from onnx import numpy_helper

        name = f"constant{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def add(self, operation: str, *inputs: str, **attributes: Any) -> str:
        """Add an operation, and return the name of its output."""
        return self.add_split(operation, *inputs, outputs=1, **attributes)[0]

    def add_split(self, operation: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Add an operation with several outputs, and return their names."""
        from onnx import helper

        names = [f"value{len(self._nodes)}.{number}" for number in range(outputs)]
        self._nodes.append(helper.make_node(operation, inputs, names, **attributes))
        return names

    def build(self, inputs: Mapping[str, Sequence[int]], outputs: Sequence[str]) -> "Network":
        """Return the network with these inputs (their shapes) and outputs."""
        from onnx import TensorProto, helper

        graph = helper.make_graph(
            self._nodes,
            "network",
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                for name, shape in inputs.items()
            ],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self._constants,
        )
        opsets = [helper.make_opsetid("", _OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
        return Network(model.SerializeToString())


class Network:
    """A network on onnxruntime, from a file or from its bytes. It has one input."""

    def __init__(self, model: Path | bytes) -> None:
        self._session = open_session(model)
        self._input: str = self._session.get_inputs()[0].name

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the file says about the model."""
        values: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        return values

    def run(self, image: "NDArray[Any]") -> list["Array"]:
        """Return the outputs for an image of shape (height, width, channels)."""
        import numpy as np

        x = np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)
        outputs: list[Array] = self._session.run(None, {self._input: x})
        return outputs
