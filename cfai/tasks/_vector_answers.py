"""What models answer that turn texts and images into numbers: vectors, labels, boxes, ranks."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

from attrs import field, frozen

from cfai.errors import MissingExtra
from cfai.tasks._base import Answer
from cfai.tasks._plain import plain_fields
from cfai.tasks._text_answers import Usage
from cfai.tasks._value import Value

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray


@frozen(eq=False, repr=False)
class Label(Value):
    """A class, and how sure the model is of it."""

    label: str

    score: float
    """From 0 to 1."""


@frozen(eq=False, repr=False)
class Labels(Answer, Sequence[Label]):
    """Classes, in the order of the service."""

    items: tuple[Label, ...] = ()

    @property
    def best(self) -> Label:
        """The label with the highest score; a `ValueError` where there is none."""
        return max(self.items, key=lambda label: label.score)

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Label: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Label, ...]: ...
    def __getitem__(self, index: int | slice) -> Label | tuple[Label, ...]:
        return self.items[index]


@frozen(eq=False, repr=False)
class Box(Value):
    """A rectangle in an image, in pixels from its top left corner."""

    xmin: float
    ymin: float
    xmax: float
    ymax: float


@frozen(eq=False, repr=False)
class Detection(Value):
    """An object that was found in an image."""

    label: str

    score: float
    """From 0 to 1."""

    box: Box


@frozen(eq=False, repr=False)
class Detections(Answer, Sequence[Detection]):
    """The objects in an image, in the order of the service."""

    items: tuple[Detection, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Detection: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Detection, ...]: ...
    def __getitem__(self, index: int | slice) -> Detection | tuple[Detection, ...]:
        return self.items[index]


@frozen(eq=False, repr=False)
class Ranked(Value):
    """One document of a ranking."""

    id: int
    """Its place in the documents that were sent, from 0."""

    score: float
    """How well it fits the query."""

    text: str | None = None
    """The document itself."""


@frozen(eq=False, repr=False)
class Ranking(Answer, Sequence[Ranked]):
    """Documents, the best first, as the service ordered them."""

    items: tuple[Ranked, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Ranked: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Ranked, ...]: ...
    def __getitem__(self, index: int | slice) -> Ranked | tuple[Ranked, ...]:
        return self.items[index]


@frozen(eq=False, repr=False)
class Embeddings(Answer, Sequence["array[float]"]):
    """One vector for each text, in the order of the texts.

    They are kept as one block of 32-bit floats: a vector costs 4 bytes a dimension.
    """

    shape: tuple[int, int]
    """How many vectors, and of how many dimensions."""

    buffer: array[float] = field(repr=False)
    """All numbers, one vector after the other (type code "f")."""

    pooling: str | None = None
    """How the model made one vector of many. Vectors of two kinds cannot be compared."""

    usage: Usage | None = None

    def __len__(self) -> int:
        return self.shape[0]

    @overload
    def __getitem__(self, index: int) -> array[float]: ...
    @overload
    def __getitem__(self, index: slice) -> list[array[float]]: ...
    def __getitem__(self, index: int | slice) -> array[float] | list[array[float]]:
        if isinstance(index, slice):
            return [self._row(at) for at in range(*index.indices(len(self)))]
        return self._row(range(len(self))[index])

    def __iter__(self) -> Iterator[array[float]]:
        return (self._row(at) for at in range(len(self)))

    def _row(self, at: int) -> array[float]:
        wide = self.shape[1]
        return self.buffer[at * wide : (at + 1) * wide]

    @property
    def vectors(self) -> list[array[float]]:
        """The vectors, each an array of its own."""
        return list(self)

    def tolist(self) -> list[list[float]]:
        """Give the vectors as lists of floats."""
        return [row.tolist() for row in self]

    def numpy(self) -> NDArray[float32]:
        """Give the vectors as an array of `shape` that shares their memory.

        Raises:
            MissingExtra: NumPy is not installed.
        """
        try:
            import numpy as np
        except ImportError as exc:
            raise MissingExtra("numpy", needed_for="Embeddings.numpy()") from exc
        return np.frombuffer(self.buffer, dtype=np.float32).reshape(self.shape)

    def to_dict(self) -> dict[str, Any]:
        """Give the answer as plain values that JSON knows: `vectors` is a list of lists."""
        return {**plain_fields(self, "meta", "raw", "buffer"), "vectors": self.tolist()}
