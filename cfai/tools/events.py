"""What happens in a run with tools: its events, its steps and its outcome."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import frozen

from cfai._types.json import loads
from cfai.conversation import Conversation
from cfai.streaming.relay import LOGGER, Frame
from cfai.tasks import Text, Token, ToolCall, Usage


@frozen
class Turn:
    """The model finished a turn: text, or calls of tools, or both."""

    answer: Text
    """The complete answer. Each of its calls has a unique id, even if the model gave none or
    repeated one; a `Token` has the model's own ids."""


@frozen
class ToolStarted:
    """A tool runs, with valid arguments."""

    call: ToolCall


@frozen
class ToolReturned:
    """A tool returned a value."""

    call: ToolCall
    value: Any
    """The return value."""

    content: str
    """The text sent to the model: a string as is, anything else as JSON."""

    @property
    def output(self) -> Any:
        """`content` as a JSON value: without secrets of the client, unlike `value`."""
        return self.content if isinstance(self.value, str) else loads(self.content)


@frozen
class ToolFailed:
    """A tool raised, or the call is invalid: wrong arguments, or an unknown name."""

    call: ToolCall
    error: Exception
    """What the tool raised; an `InputError` if the call is invalid."""

    content: str
    """The text sent to the model."""


@frozen
class Step:
    """One turn of the model, and the results of its calls."""

    answer: Text
    results: tuple[ToolReturned | ToolFailed, ...]
    """In the order of the calls; without those that the caller has to answer."""


@frozen
class ToolOutcome:
    """The outcome of a run with tools. It is the last event."""

    answer: Text
    """The model's last answer."""

    messages: Conversation
    """The whole conversation, with the calls and their results, to continue from."""

    steps: tuple[Step, ...]
    """One for each turn of the model."""

    open_calls: tuple[ToolCall, ...] = ()
    """Calls of tools that were given without a function, for the caller to answer.

    Add a `tool_result` for each to `messages`, and run it again.
    """

    @property
    def usage(self) -> Usage | None:
        """What all turns used together, if the model reports it."""
        return sum_usage(step.answer for step in self.steps)

    def __str__(self) -> str:
        return self.answer.text


ToolEvent = Token | Turn | ToolStarted | ToolReturned | ToolFailed | ToolOutcome
"""What `ToolRun` iterates: `Token` only with `stream=True`."""


def result_frame(result: ToolReturned | ToolFailed, *, is_valid: bool) -> Frame:
    """What a browser gets of a result: the name of its event, and the data.

    An invalid call has no event of its own, so its failure has the arguments.
    """
    call = result.call
    data = {"id": call.id, "name": call.name}
    if isinstance(result, ToolReturned):
        return "tool_result", {**data, "output": result.output}
    if not is_valid:
        return "tool_error", {**data, "arguments": call.arguments, "message": result.content}
    # What a tool raises is an error of the app, which only the app's log gets.
    LOGGER.warning("the tool %s failed: %s", call.name, result.content)
    return "tool_error", {**data, "message": f"{call.name} failed; see the app's log"}


def sum_usage(answers: Iterable[Text]) -> Usage | None:
    """What *answers* used together; `None` if none of them reports it."""
    usages = [answer.usage for answer in answers if answer.usage is not None]
    if not usages:
        return None
    return Usage(
        sum(usage.prompt_tokens for usage in usages),
        sum(usage.completion_tokens for usage in usages),
        sum(usage.total_tokens for usage in usages),
        _sum_reported(usage.cached_tokens for usage in usages),
        _sum_reported(usage.reasoning_tokens for usage in usages),
        _sum_reported(usage.neurons for usage in usages),
    )


def _sum_reported(counts: Iterable[Any]) -> Any:
    reported = [count for count in counts if count is not None]
    return sum(reported) if reported else None
