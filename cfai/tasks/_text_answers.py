"""What language models answer: texts, tool calls, the tokens of a stream, and what they cost."""

from collections.abc import Mapping
from typing import Any

from attrs import define, field, frozen

from cfai.tasks._base import Answer
from cfai.tasks._value import Value


@frozen(eq=False, repr=False)
class Usage(Value):
    """What a run used. Zero also stands for what the service did not say."""

    prompt_tokens: int = 0
    """Tokens read."""

    completion_tokens: int = 0
    """Tokens written, those of the reasoning included."""

    total_tokens: int = 0

    cached_tokens: int | None = None
    """How many of the tokens read came from the prefix cache."""

    reasoning_tokens: int | None = None
    """How many of the tokens written were reasoning."""

    neurons: float | None = None
    """What it is billed as."""


@frozen(eq=False, repr=False)
class ToolCall(Value):
    """A model's wish to have a tool called."""

    name: str
    """The tool's name."""

    arguments: Any = None
    """Its arguments, decoded; the text itself, where that is no JSON."""

    id: str | None = None
    """What to name in the message with the result (`tool_result`). Not every model gives one."""


@frozen(eq=False, repr=False)
class ToolCallDelta(Value):
    """A piece of a tool call inside a stream. Pieces with the same *index* belong together."""

    index: int | None = None
    id: str | None = None
    name: str | None = None

    arguments: str = ""
    """The next piece of the arguments' JSON."""


@frozen(eq=False, repr=False)
class Text(Answer):
    """What a language model wrote. `str()` of it is the text."""

    text: str = ""
    """The text; empty where the model only called tools."""

    parsed: Any = None
    """The value that the text stands for, where JSON was asked for."""

    tool_calls: tuple[ToolCall, ...] = ()
    """The tools to call, in the model's order."""

    reasoning: str = ""
    """What the model thought before it wrote, where it tells."""

    finish_reason: str | None = None
    """Why it ended: "stop", "length", "tool_calls", ..."""

    usage: Usage | None = None
    """What it used."""

    def __str__(self) -> str:
        return self.text


# Not frozen, for once: each event of a stream makes one, and freezing doubles what that costs.
@define
class Token:
    """What one event of a stream adds. `str()` of it is the text."""

    text: str = ""
    """The text that it adds; may be empty, and may be more than one of the model's own tokens."""

    reasoning: str = ""
    """What it adds to the reasoning."""

    tool_calls: tuple[ToolCallDelta, ...] = ()
    """What it adds to the tool calls."""

    finish_reason: str | None = None
    """Why the text ends, in the last tokens only."""

    usage: Usage | None = None
    """As the event said it: some models count from the beginning, some from the event before."""

    raw: Any = field(default=None, repr=False, eq=False)
    """The event's data, decoded."""

    def __str__(self) -> str:
        return self.text


@frozen(eq=False, repr=False)
class Translated(Answer):
    """A translation. `str()` of it is the text."""

    text: str

    def __str__(self) -> str:
        return self.text


@frozen(eq=False, repr=False)
class Summary(Answer):
    """A summary. `str()` of it is the text."""

    text: str

    def __str__(self) -> str:
        return self.text


@frozen(eq=False, repr=False)
class Description(Answer):
    """What a model sees in an image. `str()` of it is the text."""

    text: str

    finish_reason: str | None = None
    """Why it ended, where the model says so."""

    def __str__(self) -> str:
        return self.text


@frozen(eq=False, repr=False)
class Result(Answer):
    """The answer of an open `run`: decoded, and otherwise as it came."""

    value: Any

    def __getitem__(self, key: Any) -> Any:
        """Give an entry of a mapping, or an item of a list."""
        return self.value[key]

    def __contains__(self, key: object) -> bool:
        return isinstance(self.value, Mapping | list) and key in self.value
