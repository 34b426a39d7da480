"""Answers as objects: the schema that a model is given for a type, and its text as a value of it.

`WorkersAI.parse` does both around one run. Here they are apart, for who needs the answer, too:
what it cost, and the facts around it.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from typing import Any, NoReturn, TypeVar, get_args, overload

import attrs

from cfai._convert import loads
from cfai._convert.values import Misfit, read as read_value
from cfai._schemas import schema as schema_of
from cfai.conversation import Conversation
from cfai.errors import InputError, ParseError
from cfai.tasks import Prompt, Text, TextGeneration

__all__ = ["read", "schema"]

T = TypeVar("T")

_KEY = "value"
"""Under which a value stands that is no object by itself."""

_CANDIDATES = 20
"""How many values in a text are tried, at most."""

_OPENING = "{["

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
    made = schema_of(into)
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

    JSON as it is, fenced, inside other text (the first that fits), or decoded by the service.

    Raises:
        ParseError: It is no such value. The message says what is wrong with it.
    """
    problem = "there is no JSON in its text"
    for at, candidate in enumerate(islice(_candidates(answer), _CANDIDATES)):
        try:
            return _value(candidate, into)
        except Misfit as exc:
            problem = str(exc) if at == 0 else problem
    if answer.finish_reason == "length":
        problem += " (it was cut at its longest: raise max_tokens)"
    raise ParseError(f"the model wrote no {_named(into)}: {problem}", answer=answer)


def _named(into: Any) -> str:
    plain = isinstance(into, type) and not get_args(into)
    return into.__name__ if plain else str(into).replace("typing.", "")


def _value(said: Any, into: Any) -> Any:
    named = _named(into)
    wrapped = schema_of(into).get("type") != "object"
    if wrapped and isinstance(said, dict) and said.keys() == {_KEY}:
        return read_value(said[_KEY], into, named)
    return read_value(said, into, named)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _candidates(answer: Text) -> Iterator[Any]:
    """What could be meant: the whole of the text, or each value inside it."""
    said = answer.parsed
    if said is None:
        try:
            said = loads(answer.text)
        except ValueError:
            yield from _inside(answer.text)
            return
    yield said
    if isinstance(said, str):
        # Some models write the JSON as a text of JSON, once too often.
        yield from _inside(said)


def _inside(text: str) -> Iterator[Any]:
    at, tries = 0, 0
    while (at := _next(text, at)) >= 0 and tries < 10 * _CANDIDATES:
        tries += 1
        try:
            value, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
        else:
            yield value


def _next(text: str, at: int) -> int:
    """Where the next object or list may begin."""
    found = [where for one in _OPENING if (where := text.find(one, at)) >= 0]
    return min(found, default=-1)


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
        return read(answer, into)
    except ParseError as error:
        if not repair:
            raise
        again = _repaired(task, error)
    return read(await ask(again), into)


def _repaired(task: Written, error: ParseError) -> Written:
    """Show the model what it wrote, and what is wrong with it."""
    problem = str(error).partition(": ")[2]
    complaint = (
        f"That is not what was asked for: {problem}. Answer again, with nothing but the JSON that "
        f"fits this schema: {json.dumps(task.response_format.payload()['json_schema'])}"  # type: ignore[union-attr]
    )
    if isinstance(task, TextGeneration):
        talk = Conversation(task.messages).assistant(error.text).user(complaint)
        return task.replace(messages=talk)
    if task.raw:
        return task.replace(prompt=f"{task.prompt}\n{error.text}\n{complaint}\n")
    talk = Conversation().user(task.prompt).assistant(error.text).user(complaint)
    prompts: Any = Prompt
    shared = [one.name for one in attrs.fields(prompts) if one.name != "prompt"]
    return TextGeneration(talk, **{name: getattr(task, name) for name in shared})
