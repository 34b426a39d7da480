"""What happens in a run with tools: its events, its steps, and how it came out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import frozen

from cfai.conversation import Conversation
from cfai.tasks import Text, Token, ToolCall, Usage


@frozen
class Turn:
    """The model said its turn: text, or the tools that it wants called, or both."""

    answer: Text
    """The whole of it. Each of its calls has an id of its own, also where the model gave none, or
    the same one again; a `Token` has it as the model gave it."""


@frozen
class ToolStarted:
    """A tool is being run, with arguments that fit."""

    call: ToolCall


@frozen
class ToolReturned:
    """A tool gave something back."""

    call: ToolCall

    value: Any
    """What it gave back."""

    content: str
    """What the model is told: a text as it is, anything else as JSON."""


@frozen
class ToolFailed:
    """A tool raised, or the call does not fit: wrong arguments, or a name that there is not."""

    call: ToolCall

    error: Exception
    """What the tool raised; an `InputError` where it was not run."""

    content: str
    """What the model is told."""


@frozen
class Step:
    """One turn of the model, and what became of its calls."""

    answer: Text

    results: tuple[ToolReturned | ToolFailed, ...]
    """In the order of the calls; without those that are the caller's to answer."""


@frozen
class ToolOutcome:
    """How a run with tools came out. It is the last of its events."""

    answer: Text
    """What the model said last."""

    messages: Conversation
    """All that was said, with the calls and their results: to go on from."""

    steps: tuple[Step, ...]
    """One for each turn of the model."""

    open_calls: tuple[ToolCall, ...] = ()
    """The calls of tools that came without a function, which are the caller's to answer.

    Add a `tool_result` for each to `messages`, and run it again.
    """

    @property
    def usage(self) -> Usage | None:
        """What all turns used together, where the model says."""
        return total(step.answer for step in self.steps)

    def __str__(self) -> str:
        return self.answer.text


ToolEvent = Token | Turn | ToolStarted | ToolReturned | ToolFailed | ToolOutcome
"""What `ToolRun` iterates: `Token` only with `stream=True`."""


def total(answers: Iterable[Text]) -> Usage | None:
    """Give what answers used together; `None` where none of them says."""
    known = [answer.usage for answer in answers if answer.usage is not None]
    if not known:
        return None
    return Usage(
        sum(one.prompt_tokens for one in known),
        sum(one.completion_tokens for one in known),
        sum(one.total_tokens for one in known),
        _sum([one.cached_tokens for one in known]),
        _sum([one.reasoning_tokens for one in known]),
        _sum([one.neurons for one in known]),
    )


def _sum(counts: Iterable[Any]) -> Any:
    said = [count for count in counts if count is not None]
    return sum(said) if said else None
