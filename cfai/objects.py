"""Answers as objects: the schema that a model is given for a type, and its text as a value of it.

`WorkersAI.parse` does both around one run. Here they are apart, for who needs the answer, too:
what it cost, and the facts around it.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, TypeVar, get_args, overload

import attrs

from cfai._types.extract import (
    Candidate,
    ExtractError,
    find_candidates,
    is_prose,
    parse_json_text,
    strip_fence,
    strip_reasoning,
)
from cfai._types.read import TypeMismatch, read_value
from cfai._types.schema import json_schema
from cfai.conversation import Conversation
from cfai.errors import InputError, ParseError
from cfai.tasks import Prompt, Text, TextGeneration

__all__ = ["read", "schema"]

T = TypeVar("T")

_KEY = "value"
"""Under which a value stands that is no object by itself."""

_CANDIDATES = 20
"""How many values in a text are tried, at most: the last ones."""

_SHOWN = 20_000
"""How much of a wrong answer the model is shown again, in characters: it is paid for once more."""

_NONE = "there is no JSON in its text"

Written = Prompt | TextGeneration
"""A task whose text can be asked for as JSON."""


def schema(into: Any) -> dict[str, Any]:
    """Give the JSON schema to ask for, as `response_format=` takes it.

    Args:
        into: An attrs class, a dataclass, a TypedDict, a named tuple; or texts, numbers, dates,
            choices, lists, dictionaries and unions of them. What is no object by itself stands
            in one, under `value`.

    Raises:
        InputError: There is no JSON for it. The message says where in the type.
    """
    made = json_schema(into)
    if made.get("type") == "object":
        return made
    shared = {"$defs": made.pop("$defs")} if "$defs" in made else {}
    whole = {"type": "object", "properties": {_KEY: made}, "required": [_KEY]}
    return {**whole, "additionalProperties": False, **shared}


@overload
def read(answer: Text, into: type[T]) -> T: ...
@overload
def read(answer: Text, into: Any) -> Any: ...
def read(answer: Text, into: Any) -> Any:
    """Read what a model wrote as a value of *into*.

    JSON as it is, decoded by the service, or inside other text: in a fence first, else the last
    that fits. Thoughts before it (`<think>`) count for nothing, and neither does what stands
    inside a value that is wrong or was cut.

    Raises:
        ParseError: It is no such value. The message says what is wrong with it.
    """
    try:
        return _read(answer, into)
    except TypeMismatch as exc:
        raise _error(answer, into, exc) from exc


def _error(answer: Text, into: Any, problem: TypeMismatch) -> ParseError:
    return ParseError(f"the model wrote no {_named(into)}: {problem}", answer=answer)


def _read(answer: Text, into: Any) -> Any:
    is_wrapped = json_schema(into).get("type") != "object"
    is_cut = answer.finish_reason == "length"
    try:
        candidates = _candidates(answer, into=into if is_wrapped else None)
        return _first_that_fits(candidates, into, is_wrapped)
    except TypeMismatch as exc:
        if not is_cut:
            raise
        raise TypeMismatch(f"{exc} (it was cut at its longest: raise max_tokens)") from exc


def _first_that_fits(candidates: Iterable[Any], into: Any, is_wrapped: bool) -> Any:
    problems: list[TypeMismatch] = []
    for candidate in candidates:
        try:
            return _value(candidate, into, is_wrapped)
        except TypeMismatch as exc:
            problems.append(exc)
    raise problems[0] if problems else TypeMismatch(_NONE)


def _named(into: Any) -> str:
    plain = isinstance(into, type) and not get_args(into)
    return into.__name__ if plain else str(into).replace("typing.", "")


def _value(said: Any, into: Any, is_wrapped: bool) -> Any:
    named = _named(into)
    if not (is_wrapped and _wraps(said)):
        return read_value(said, into, named)
    try:
        return read_value(said[_KEY], into, named)
    except TypeMismatch:
        # A class of the type may itself have this one field, and stand there bare.
        with suppress(TypeMismatch):
            return read_value(said, into, named)
        raise


def _wraps(said: Any) -> bool:
    return isinstance(said, dict) and said.keys() == {_KEY}


def _candidates(answer: Text, *, into: Any) -> Iterator[Any]:
    """What could be meant: the whole of the text, or each value inside it, the likeliest first."""
    is_cut = answer.finish_reason == "length"
    if answer.parsed is not None:
        yield from _and_inside(answer.parsed, is_cut=is_cut)
        return
    text = strip_reasoning(answer.text)
    try:
        said = parse_json_text(text)
    except ValueError:
        yield from _inside(text, is_cut=is_cut)
        if not is_cut and into is not None and (bare := strip_fence(text)) and is_prose(bare):
            yield from _bare(bare, into)
        return
    if is_cut and text.rstrip()[-1:].isdigit():
        raise TypeMismatch("its number may not be whole")
    yield from _and_inside(said, is_cut=is_cut)


def _and_inside(said: Any, *, is_cut: bool) -> Iterator[Any]:
    yield said
    if isinstance(said, str):
        # Some models write the JSON as a text of JSON, once too often.
        yield from _inside(said, is_cut=is_cut)


def _bare(text: str, into: Any) -> Iterator[str]:
    """A text without its quotation marks, where one was asked for."""
    with suppress(TypeMismatch):
        read_value(text, into, "it")
        yield text


def _inside(text: str, *, is_cut: bool) -> list[Any]:
    try:
        last = deque(find_candidates(text), maxlen=_CANDIDATES)
    except ExtractError as exc:
        raise TypeMismatch(str(exc)) from exc
    last.reverse()
    likeliest = sorted(last, key=_unlikeliness)
    return [one.value for one in likeliest if one.is_last or not is_cut]


def _unlikeliness(found: Candidate) -> tuple[bool, ...]:
    """Those in a fence first, then those that stand as they were asked for; empty ones at last."""
    value = found.value
    return not value, not found.is_fenced, not _wraps(value), not isinstance(value, dict)


async def parse(
    ask: Callable[[Written], Awaitable[Text]], task: Written, into: Any, *, repair: int
) -> Any:
    """Ask for a value of *into*, and once more where what comes is none and *repair* is 1."""
    if not isinstance(task, Prompt | TextGeneration):
        raise InputError(f"task must be a Prompt or a TextGeneration, got {type(task).__name__}")
    if task.response_format is not None:
        raise InputError("the task must have no response_format: the type says what it is")
    if repair not in (0, 1) or isinstance(repair, bool):
        raise InputError(f"repair must be 0 or 1, got {repair!r:.80}")
    task = task.replace(response_format=schema(into), stream=None)
    answer = await ask(task)
    try:
        return _read(answer, into)
    except TypeMismatch as problem:
        if not repair:
            raise _error(answer, into, problem) from problem
        again = _repaired(task, answer.text, problem)
    return read(await ask(again), into)


def _repaired(task: Written, text: str, problem: TypeMismatch) -> Written:
    """Show the model what it wrote, and what is wrong with it."""
    if len(text) > _SHOWN:
        text = f"{text[:_SHOWN]}…"
    complaint = (
        f"That is not what was asked for: {problem}. Answer again, with nothing but the JSON that "
        f"fits this schema: {json.dumps(task.response_format.payload()['json_schema'])}"  # type: ignore[union-attr]
    )
    if isinstance(task, TextGeneration):
        talk = Conversation(task.messages).assistant(text).user(complaint)
        return task.replace(messages=talk)
    if task.raw:
        return task.replace(prompt=f"{task.prompt}\n{text}\n{complaint}\n")
    talk = Conversation().user(task.prompt).assistant(text).user(complaint)
    prompts: Any = Prompt
    shared = [one.name for one in attrs.fields(prompts) if one.name != "prompt"]
    return TextGeneration(talk, **{name: getattr(task, name) for name in shared})
