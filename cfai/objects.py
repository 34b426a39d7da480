"""Structured output: the JSON schema of a type, and a model's text as a value of that type.

`WorkersAI.parse` does both in one call, and `WorkersAI.parse_stream` shows the value as it is
written. The separate functions are for callers who also need the answer itself, with its usage and
metadata.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Awaitable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, Self, TypeVar, overload

import attrs
from attrs import define, field

from cfai._types.excerpts import format_value
from cfai._types.extract import (
    Candidate,
    ExtractError,
    decode_json_text,
    find_candidates,
    is_prose,
    strip_fence,
    strip_reasoning,
)
from cfai._types.kinds import type_name
from cfai._types.partial import NOTHING, PartialJson
from cfai._types.read import TypeMismatch, read_value
from cfai._types.schema import json_schema
from cfai.conversation import Conversation
from cfai.errors import InputError, ParseError
from cfai.profiles import profile
from cfai.resources.fallback import ModelNames, move_to_front, read_models
from cfai.resources.runs import RunInput
from cfai.settings import Options
from cfai.tasks import Message, Prompt, Text, TextGeneration, system

if TYPE_CHECKING:
    from cfai.meta import Meta
    from cfai.streaming.stream import TokenStream

__all__ = ["ObjectStream", "read", "schema"]

T = TypeVar("T")

_KEY = "value"
"""The key of a value that is not an object, and is wrapped in one."""

_MAX_CANDIDATES = 20
"""How many values in a text are tried: the last ones."""

_MAX_REPAIR_LENGTH = 20_000
"""How much of a wrong answer is sent back to the model, in characters: its tokens are billed."""

TextTask = Prompt | TextGeneration
"""A task that can be answered in JSON."""


class TextClient(Protocol):
    """What `parse` needs of `WorkersAI`."""

    def run(
        self, model: ModelNames, task: TextTask, *, stream: Literal[False], options: Options | None
    ) -> Awaitable[Text]:
        """Run *model* on *task*."""


def schema(into: Any) -> dict[str, Any]:
    """Build the JSON schema of a type, for `response_format=`.

    Args:
        into: An attrs class, a dataclass, a TypedDict, a named tuple; or strings, numbers, dates,
            choices, lists, dictionaries and unions of them. Non-object types are wrapped in an
            object, under `value`.

    Raises:
        InputError: JSON can't express the type. The message names the part of the type.
    """
    inner = json_schema(into)
    if inner.get("type") == "object":
        return inner
    definitions = {"$defs": inner.pop("$defs")} if "$defs" in inner else {}
    wrapper = {"type": "object", "properties": {_KEY: inner}, "required": [_KEY]}
    return {**wrapper, "additionalProperties": False, **definitions}


@overload
def read(answer: Text, into: type[T]) -> T: ...
@overload
def read(answer: Text, into: Any) -> Any: ...
def read(answer: Text, into: Any) -> Any:
    """Read an answer as a value of *into*.

    The JSON may be the whole text, decoded by the service, or inside other text: a value in a
    fence is preferred, then the last one that fits. Reasoning before it (`<think>`) is skipped, and
    so are values inside an invalid or truncated value.

    Raises:
        ParseError: The answer has no such value. The message says what is wrong.
    """
    try:
        return _read_answer(answer, into)
    except TypeMismatch as exc:
        raise _parse_error(answer, into, exc) from exc


def _parse_error(answer: Text, into: Any, problem: TypeMismatch) -> ParseError:
    return ParseError(f"the model wrote no {type_name(into)}: {problem}", answer=answer)


def _read_answer(answer: Text, into: Any) -> Any:
    is_wrapped = json_schema(into).get("type") != "object"
    problems: list[TypeMismatch] = []
    try:
        for candidate in find_values(answer, into=into if is_wrapped else None):
            try:
                return _read_candidate(candidate, into, is_wrapped)
            except TypeMismatch as exc:
                problems.append(exc)
        raise problems[0] if problems else TypeMismatch("there is no JSON in its text")
    except TypeMismatch as exc:
        if answer.finish_reason != "length":
            raise
        hint = answer.hint or "the answer was cut off at its maximum length: raise max_tokens"
        message = f"{exc} ({hint})"
        raise TypeMismatch(message) from exc


def _read_candidate(value: Any, into: Any, is_wrapped: bool) -> Any:
    name = type_name(into)
    if not (is_wrapped and _is_wrapper(value)):
        return read_value(value, into, name)
    try:
        return read_value(value[_KEY], into, name)
    except TypeMismatch:
        # A class of the type may have exactly this field, and stand there unwrapped.
        with suppress(TypeMismatch):
            return read_value(value, into, name)
        raise


def _is_wrapper(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {_KEY}


def find_values(answer: Text, *, into: Any) -> Iterator[Any]:
    """The values that an answer may mean, the likeliest first.

    *into* is the type if it is not an object, else `None`.
    """
    is_truncated = answer.finish_reason == "length"
    if answer.parsed is not None:
        yield from _value_and_embedded(answer.parsed, is_truncated=is_truncated)
        return
    text = strip_reasoning(answer.text)
    try:
        value = decode_json_text(text)
    except ValueError:
        yield from _embedded_values(text, is_truncated=is_truncated)
        is_complete_value = not is_truncated and into is not None
        if is_complete_value and (unquoted := strip_fence(text)) and is_prose(unquoted):
            # A string without its quotation marks, if *into* accepts it.
            with suppress(TypeMismatch):
                read_value(unquoted, into, "it")
                yield unquoted
        return
    if is_truncated and text.rstrip()[-1:].isdigit():
        raise TypeMismatch("its number may be incomplete")
    yield from _value_and_embedded(value, is_truncated=is_truncated)


def _value_and_embedded(value: Any, *, is_truncated: bool) -> Iterator[Any]:
    yield value
    if isinstance(value, str):
        # Some models encode the JSON twice.
        yield from _embedded_values(value, is_truncated=is_truncated)


def _embedded_values(text: str, *, is_truncated: bool) -> list[Any]:
    try:
        candidates = deque(find_candidates(text), maxlen=_MAX_CANDIDATES)
    except ExtractError as exc:
        raise TypeMismatch(str(exc)) from exc
    candidates.reverse()
    ranked = sorted(candidates, key=_rank)
    return [candidate.value for candidate in ranked if candidate.is_last or not is_truncated]


def _rank(candidate: Candidate) -> tuple[bool, ...]:
    """Empty values last; values in a fence first, then wrapped values, then objects."""
    value = candidate.value
    return not value, not candidate.is_fenced, not _is_wrapper(value), not isinstance(value, dict)


async def parse(
    client: TextClient,
    model: ModelNames,
    task: RunInput,
    *,
    into: Any,
    repair: int,
    options: Options | None,
) -> Any:
    """Run *model* for a value of *into*; if the answer has none and *repair* is 1, run it again."""
    task = _check_task(task)
    if repair not in (0, 1) or isinstance(repair, bool):
        raise InputError(f"repair must be 0 or 1, got {format_value(repair)}")
    task = task.replace(response_format=schema(into), stream=None)
    answer = await client.run(model, task, stream=False, options=options)
    try:
        return _read_answer(answer, into)
    except TypeMismatch as problem:
        if not repair:
            raise _parse_error(answer, into, problem) from problem
        task = _repair_task(task, answer.text, problem)
        model = move_to_front(model, answer.meta.model)
    return read(await client.run(model, task, stream=False, options=options), into)


def _check_task(task: RunInput) -> TextTask:
    if not isinstance(task, Prompt | TextGeneration):
        raise InputError(f"task must be a Prompt or a TextGeneration, got {type(task).__name__}")
    if task.response_format is not None:
        raise InputError("the task must not have a response_format: parse builds it from the type")
    return task


def _repair_task(task: TextTask, text: str, problem: TypeMismatch) -> TextTask:
    """The task again, with the model's answer and what is wrong with it."""
    if len(text) > _MAX_REPAIR_LENGTH:
        text = f"{text[:_MAX_REPAIR_LENGTH]}…"
    complaint = (
        f"That is not what was asked for: {problem}. Answer again, with nothing but the JSON that "
        f"fits this schema: {json.dumps(task.response_format.payload()['json_schema'])}"  # type: ignore[union-attr]
    )
    if isinstance(task, TextGeneration):
        messages = Conversation(task.messages).assistant(text).user(complaint)
        return task.replace(messages=messages)
    if task.raw:
        return task.replace(prompt=f"{task.prompt}\n{text}\n{complaint}\n")
    messages = Conversation().user(task.prompt).assistant(text).user(complaint)
    prompt_class: Any = Prompt
    shared = [field.name for field in attrs.fields(prompt_class) if field.name != "prompt"]
    return TextGeneration(messages, **{name: getattr(task, name) for name in shared})


# Streams


def build_stream_task(model: ModelNames, task: RunInput, into: Any) -> TextTask:
    """The task of a stream that writes a value of *into*.

    JSON mode does not stream, so the models of Workers AI get the schema as an instruction. Source:
    Cloudflare docs, Workers AI, "JSON Mode"; code 5023.
    """
    task, form = _check_task(task).replace(stream=None), schema(into)
    if all(profile(name).route != "run" for name in read_models(model)):
        return task.replace(response_format=form)
    instruction = f"Answer with nothing but JSON that fits this schema: {json.dumps(form)}"
    if isinstance(task, Prompt):
        return task.replace(prompt=f"{task.prompt}\n\n{instruction}")
    first, *others = map(Message.of, task.messages)
    if first.role == "system" and isinstance(first.content, str):
        first = attrs.evolve(first, content=f"{first.content}\n\n{instruction}")
        return task.replace(messages=(first, *others))
    return task.replace(messages=(system(instruction), first, *others))


@define(eq=False, repr=False)
class ObjectStream(Generic[T]):
    """A value as a model writes it: an async iterator of what is there so far.

    Each item but the last is one and the same dict, which grows (a list, if the type is a list):
    copy it to keep a state of it. It is not checked: keys may be missing, and strings may be cut.
    The last item is the complete value, read and checked as by `parse`.

    The request is sent when the stream is entered or iterated. It has one reader, once. Leaving the
    `async with`, breaking out, cancelling or dropping it closes the connection at once.

    Raises:
        ParseError: The complete answer is no such value.
        CfaiError: As a `TokenStream`.
    """

    _tokens: TokenStream
    _into: Any
    _is_wrapped: bool = field(init=False)
    """Whether the type is no object, and stands in one."""
    _json: PartialJson = field(init=False)
    value: T | None = field(default=None, init=False)
    """The complete value, after it was checked."""
    _is_complete: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._is_wrapped = json_schema(self._into).get("type") != "object"
        # Some models leave out the object around a list.
        self._json = PartialJson("{[" if self._is_wrapped else "{")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> dict[str, Any] | list[Any] | T:
        if self._is_complete:
            raise StopAsyncIteration
        async for token in self._tokens:
            if token.text and self._json.feed(token.text):
                partial = self._json.value
                if self._is_wrapped and isinstance(partial, dict):
                    partial = partial.get(_KEY, NOTHING)
                if isinstance(partial, dict | list):
                    return partial
        if self._tokens.cancelled:
            raise StopAsyncIteration
        self._is_complete = True
        value: T = read(self._tokens.answer, self._into)
        self.value = value
        return value

    if not TYPE_CHECKING:  # Type checkers report an `await` by themselves.

        def __await__(self):
            message = "a stream can't be awaited: iterate it (`async for partial in stream`)"
            raise TypeError(f"{message}, or read it to its end (`await stream.collect()`)")

    async def collect(self) -> T:
        """Read to the end, and return the complete value.

        Raises:
            InputError: The stream was cancelled.
        """
        async for _ in self:
            pass
        if not self._is_complete:
            raise InputError("the stream was cancelled before its end")
        return self.value  # type: ignore[return-value]  # it was set, perhaps to None

    @property
    def answer(self) -> Text:
        """The answer so far, with its text and usage."""
        return self._tokens.answer

    @property
    def meta(self) -> Meta:
        """The facts of the exchange, once the response began."""
        return self._tokens.meta

    async def __aenter__(self) -> Self:
        await self._tokens.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection at once, unless the stream ended. Closing twice is fine."""
        await self._tokens.aclose()

    close = aclose

    def cancel(self) -> None:
        """End the iteration without an error and without a value, from any task."""
        self._tokens.cancel()

    def __repr__(self) -> str:
        return f"<ObjectStream of {type_name(self._into)}>"
