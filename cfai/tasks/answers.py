"""The answers of most runs: texts and tokens, tool calls and usage, files and vectors.

The others are in the modules of their tasks, so that a program imports them when it needs them.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from attrs import define, field, frozen

from cfai._types.values import Value
from cfai.errors import MissingExtra
from cfai.tasks.task import Answer, fields_to_plain

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

V = TypeVar("V", bound=Value)

# Text


@frozen(eq=False, repr=False)
class Usage(Value):
    """The token usage of a run. 0 also means that the service did not report the number."""

    prompt_tokens: int = 0
    """Tokens in the input."""

    completion_tokens: int = 0
    """Tokens generated, including reasoning."""

    total_tokens: int = 0
    cached_tokens: int | None = None
    """How many of the input tokens came from the prefix cache."""

    reasoning_tokens: int | None = None
    """How many of the generated tokens were reasoning."""

    neurons: float | None = None
    """The unit that Cloudflare bills."""


@frozen(eq=False, repr=False)
class ToolCall(Value):
    """A model's request to call a tool."""

    name: str
    """The tool's name."""

    arguments: Any = None
    """The arguments, decoded; the text itself if it is not JSON."""

    id: str | None = None
    """The id to pass to `tool_result`. Not every model sends one."""


@frozen(eq=False, repr=False)
class ToolCallDelta(Value):
    """A piece of a tool call in a stream. Pieces with the same *index* belong together."""

    index: int | None = None
    id: str | None = None
    name: str | None = None

    arguments: str = ""
    """The next piece of the arguments' JSON."""


@frozen(eq=False, repr=False)
class WrittenAnswer(Answer):
    """An answer that is a text. `str()` of it is the text."""

    text: str

    def __str__(self) -> str:
        return self.text


@frozen(eq=False, repr=False)
class Text(WrittenAnswer):
    """The text that a language model generated. `str()` of the answer is the text."""

    text: str = ""
    """The text; empty if the model only called tools, also if it wrote the calls as its text."""

    parsed: Any = None
    """The decoded value, if JSON was requested."""

    tool_calls: tuple[ToolCall, ...] = ()
    """The tools to call, in the model's order."""

    reasoning: str = ""
    """The model's reasoning before the text, if it sends it."""

    finish_reason: str | None = None
    """Why generation ended: "stop", "length", "tool_calls", ..."""

    usage: Usage | None = None
    """The token usage."""

    @property
    def hint(self) -> str | None:
        """What to change if there is no text because the reasoning used up all tokens.

        Or because the service did not send the text that it counted. `None` for every other answer.
        """
        if self.text.strip() or self.tool_calls:
            return None
        if self.reasoning or (self.usage and self.usage.reasoning_tokens):
            if self.finish_reason != "length":
                return None
            return (
                "the reasoning used up all tokens: raise max_tokens, or reduce it with "
                "thinking=False or reasoning_effort"
            )
        # An empty answer has one token, its end. llama-4-scout was reported (2026-08-23) to stream
        # no text if it has tools.
        if self.usage and self.usage.completion_tokens > 1 and not self.text:
            count = self.usage.completion_tokens
            return (
                f"the model generated {count} tokens, but sent no text: call run() if it streamed"
            )
        return None


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


@frozen(eq=False, repr=False)
class Result(Answer):
    """The answer of a `run` with a plain dictionary: the decoded result, unchanged."""

    value: Any

    def __getitem__(self, key: Any) -> Any:
        """Give an entry of a mapping, or an item of a list."""
        return self.value[key]

    def __contains__(self, key: object) -> bool:
        return isinstance(self.value, Mapping | list) and key in self.value


# Media


@frozen(eq=False, repr=False)
class Binary(Answer):
    """A file that a model generated."""

    data: bytes = field(repr=False)
    """The file's bytes, in the model's encoding."""

    media_type: str
    """The media type, such as "image/png"."""

    usage: Usage | None = field(default=None, kw_only=True)
    """The usage, if the model reports it beside the file."""

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the file to *path* and return the path. An existing file is overwritten.

        The suffix of *path* is not checked against `media_type`.
        """
        target = Path(path)
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
