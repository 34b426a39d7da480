"""The answers that several tasks have: files, vectors, lists and descriptions; and the tokens of a
stream.

The others are in the modules of their tasks, so that a program imports them when it needs them.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

from attrs import define, field, frozen

from cfai._types.values import Value
from cfai._validators import check_path
from cfai.errors import MissingExtra
from cfai.tasks.generation import Usage, WrittenAnswer
from cfai.tasks.task import Answer, fields_to_plain

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

V = TypeVar("V", bound=Value)

# Texts


@frozen(eq=False, repr=False)
class ToolCallDelta(Value):
    """A piece of a tool call in a stream. Pieces with the same *index* belong together."""

    index: int | None = None
    id: str | None = None
    name: str | None = None

    arguments: str = ""
    """The next piece of the arguments' JSON."""


# Not frozen: a stream creates one per event, and freezing doubles the cost.
@define
class Token:
    """What one event of a stream adds. `str()` of the token is its text."""

    text: str = ""
    """The text to append. It may be empty, or longer than one of the model's own tokens."""

    reasoning: str = ""
    """The text to append to the reasoning."""

    tool_calls: tuple[ToolCallDelta, ...] = ()
    """The pieces to append to the tool calls."""

    finish_reason: str | None = None
    """Why generation ended; set in the last tokens only."""

    usage: Usage | None = None
    """As the event reports it: some models report totals, some the difference."""

    raw: Any = field(default=None, repr=False, eq=False)
    """The event's data, decoded."""

    def __str__(self) -> str:
        return self.text


@frozen(eq=False, repr=False)
class Description(WrittenAnswer):
    """A text about an image. `str()` of the answer is the text."""

    finish_reason: str | None = None
    """Why generation ended, if the model reports it."""


# Media


@frozen(eq=False, repr=False)
class Binary(Answer):
    """A file that a model generated."""

    is_file: ClassVar[bool] = True

    data: bytes = field(repr=False)
    """The file's bytes, in the model's encoding."""

    media_type: str
    """The media type, such as "image/png"."""

    usage: Usage | None = field(default=None, kw_only=True)
    """The usage, if the model reports it beside the file."""

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the file to *path* and return the path. An existing file is overwritten.

        The suffix of *path* is not checked against `media_type`.

        Raises:
            InputError: No file can have that path.
            OSError: The file can't be written.
        """
        target = check_path("path", path)
        target.write_bytes(self.data)
        return target


@frozen(eq=False, repr=False)
class Image(Binary):
    """An image. The model chooses the encoding."""


@frozen(eq=False, repr=False)
class Audio(Binary):
    """A sound. The model chooses the encoding unless the task sets it."""


# Vectors and lists


@frozen(eq=False, repr=False)
class Embeddings(Answer, Sequence["array[float]"]):
    """One vector per text, in the order of the texts.

    All vectors share one buffer of 32-bit floats: 4 bytes per dimension.
    """

    has_vectors: ClassVar[bool] = True

    shape: tuple[int, int]
    """The number of vectors and the number of dimensions."""

    buffer: array[float] = field(repr=False)
    """All numbers, one vector after the other (type code "f")."""

    pooling: str | None = None
    """How the model pooled the vectors. Vectors of different pooling cannot be compared."""

    usage: Usage | None = None

    def __len__(self) -> int:
        return self.shape[0]

    @overload
    def __getitem__(self, index: int) -> array[float]: ...
    @overload
    def __getitem__(self, index: slice) -> list[array[float]]: ...
    def __getitem__(self, index: int | slice) -> array[float] | list[array[float]]:
        if isinstance(index, slice):
            return [self._row(row) for row in range(*index.indices(len(self)))]
        return self._row(range(len(self))[index])

    def __iter__(self) -> Iterator[array[float]]:
        return (self._row(row) for row in range(len(self)))

    def _row(self, row: int) -> array[float]:
        width = self.shape[1]
        return self.buffer[row * width : (row + 1) * width]

    @property
    def vectors(self) -> list[array[float]]:
        """The vectors, each a separate array."""
        return list(self)

    def tolist(self) -> list[list[float]]:
        """Give the vectors as lists of floats."""
        return [row.tolist() for row in self]

    def numpy(self) -> NDArray[float32]:
        """Give the vectors as an array of shape `shape` that shares their memory.

        Raises:
            MissingExtra: NumPy is not installed.
        """
        try:
            import numpy as np
        except ImportError as exc:
            raise MissingExtra("numpy", needed_for="Embeddings.numpy()") from exc
        return np.frombuffer(self.buffer, dtype=np.float32).reshape(self.shape)

    def to_dict(self) -> dict[str, Any]:
        """Give the answer as values that JSON can encode: `vectors` is a list of lists."""
        return {**fields_to_plain(self, "meta", "raw", "buffer"), "vectors": self.tolist()}


@frozen(eq=False, repr=False)
class AnswerItems(Answer, Sequence[V]):
    """An answer that is a list, such as `Labels`."""

    items: tuple[V, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> V: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[V, ...]: ...
    def __getitem__(self, index: int | slice) -> V | tuple[V, ...]:
        return self.items[index]
