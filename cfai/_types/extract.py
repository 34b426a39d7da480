"""The values of JSON inside a text that a model wrote: whole ones, and never a part of another."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final, NoReturn

from attrs import frozen

_BEGINS: Final = re.compile(
    r"""\{\s*+(?:["'\[{}/]|\w++\s*+:|\Z)|\[\s*+(?:["'\[{\]/\d-]|true|false|null|\Z)"""
)
"""Where an object or list begins, also one in a wrong notation: other brackets are prose."""

_TOKEN: Final = re.compile(r"""[\[{\]}]|"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)""", re.DOTALL)

_DEPTH: Final = {"{": 1, "[": 1, "}": -1, "]": -1}

_THOUGHTS: Final = re.compile(r"\s*+<think>.*?(?:</think>|\Z)", re.DOTALL)
_REST_OF_THOUGHTS: Final = re.compile(r"^[ \t]*+</think>[ \t]*+$", re.MULTILINE)
"""Their end alone: some models are given the beginning. No JSON has such a line inside it."""

_FENCE: Final = "```"
_OPENED: Final = re.compile(r"```\w*\s*\Z")
_CLOSED: Final = re.compile(r"\s*+```")
_ONLY_CLOSED: Final = re.compile(r"\s*+(?:```\s*+)?\Z")
_LONGEST_FENCE: Final = 40


_MOST: Final = 5000
"""How many pieces are looked at: what has more of them is no answer, and would take long."""


class Unclear(ValueError):
    """A text in which a value begins and does not end, or that has too many of them."""


@frozen
class Found:
    """One value in a text."""

    value: Any
    is_fenced: bool = False
    is_last: bool = True
    """Nothing stands behind it, but the end of its fence."""


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _number(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text:.40} is no number of 64 bits")
    return value


_DECODER: Final = json.JSONDecoder(parse_constant=_no_constant, parse_float=_number)


def whole(text: str) -> Any:
    """Give the value that a text is, be it in a fence.

    Raises:
        ValueError: It is none.
    """
    try:
        return _DECODER.decode(unfenced(text))
    except RecursionError as exc:
        raise ValueError("it is nested too deep") from exc


def unfenced(text: str) -> str:
    """Give a text without the one fence around all of it, and without what is blank."""
    text = text.strip()
    if len(text) < 2 * len(_FENCE) or not (text.startswith(_FENCE) and text.endswith(_FENCE)):
        return text
    label, line, rest = text.removeprefix(_FENCE).removesuffix(_FENCE).partition("\n")
    return rest.strip() if line and (not label.strip() or label.strip().isalnum()) else text


def without_thoughts(text: str) -> str:
    """Give a text without what a model thinks aloud before its answer."""
    thoughts = _THOUGHTS.match(text) or _REST_OF_THOUGHTS.search(text)
    return text[thoughts.end() :] if thoughts else text


def inside(text: str) -> Iterator[Found]:
    """Give the objects and lists in a text, in time that grows with its length alone.

    What is no JSON, from its first bracket to its last, is left out with all that it holds.

    Raises:
        Unclear: The last of them begins and does not end; or there are too many.
    """
    at = pieces = 0
    while begins := _BEGINS.search(text, at):
        pieces += 1
        if pieces > _MOST:
            raise Unclear(f"there are more than {_MOST} pieces of JSON in its text")
        start, at = begins.start(), _end(text, begins.start())
        # Decoding no more than this piece: what is wrong is told by its line, which takes time.
        with suppress(ValueError, RecursionError):
            value = _DECODER.decode(text[start:at])
            opened = _OPENED.search(text[max(0, start - _LONGEST_FENCE) : start])
            is_fenced = bool(opened and _CLOSED.match(text, at))
            yield Found(value, is_fenced, bool(_ONLY_CLOSED.match(text, at)))


def is_prose(text: str) -> bool:
    """Tell whether no JSON begins in a text."""
    return not (text.startswith('"') or _BEGINS.search(text))


def _end(text: str, start: int) -> int:
    """Where the brackets that are open from *start* are closed."""
    depth = 0
    for token in _TOKEN.finditer(text, start):
        depth += _DEPTH.get(token[0], 0)
        if depth == 0:
            return token.end()
    raise Unclear("a value begins in its text and does not end")
