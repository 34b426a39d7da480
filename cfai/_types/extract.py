"""JSON values inside a text that a model wrote: complete ones, and never a part of another."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from attrs import frozen

from cfai._types.json import loads_strictly

_START: Final = re.compile(
    r"""\{\s*+(?:["'\[{}/]|\w++\s*+:|\Z)|\[\s*+(?:["'\[{\]/\d-]|true|false|null|\Z)"""
)
"""The start of an object or list, also in a wrong notation. Other brackets are prose."""

_TOKEN: Final = re.compile(r"""[\[{\]}]|"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)""", re.DOTALL)

_DEPTH: Final = {"{": 1, "[": 1, "}": -1, "]": -1}

_REASONING: Final = re.compile(r"\s*+<think>.*?(?:</think>|\Z)", re.DOTALL)
_REASONING_END: Final = re.compile(r"^[ \t]*+</think>[ \t]*+$", re.MULTILINE)
"""Without a start: the prompt of some models contains it. No JSON contains such a line."""

_FENCE: Final = "```"
_FENCE_OPENS: Final = re.compile(r"```\w*\s*\Z")
_FENCE_CLOSES: Final = re.compile(r"\s*+```")
_FENCE_AND_END: Final = re.compile(r"\s*+(?:```\s*+)?\Z")
_MAX_FENCE: Final = 40

_MAX_VALUES: Final = 5000
"""A text with more values than this is not an answer, and would take long."""


class ExtractError(ValueError):
    """A value in a text is not complete, or there are too many values."""


@frozen
class Candidate:
    """One JSON value in a text."""

    value: Any
    is_fenced: bool = False
    is_last: bool = True
    """Nothing follows but the end of its fence."""


def decode_json_text(text: str) -> Any:
    """Decode a text that is JSON as a whole, with or without a fence around it.

    Raises:
        ValueError: It is not.
    """
    return loads_strictly(strip_fence(text))


def strip_fence(text: str) -> str:
    """Remove the fence around a text, and whitespace."""
    text = text.strip()
    if len(text) < 2 * len(_FENCE) or not (text.startswith(_FENCE) and text.endswith(_FENCE)):
        return text
    label, newline, rest = text.removeprefix(_FENCE).removesuffix(_FENCE).partition("\n")
    return rest.strip() if newline and (not label.strip() or label.strip().isalnum()) else text


def strip_reasoning(text: str) -> str:
    """Remove the reasoning (`<think>`) before a model's answer."""
    reasoning = _REASONING.match(text) or _REASONING_END.search(text)
    return text[reasoning.end() :] if reasoning else text


def find_candidates(text: str) -> Iterator[Candidate]:
    """Find the objects and lists in a text, in time proportional to its length.

    Invalid JSON is skipped from its first to its last bracket, with all values inside it.

    Raises:
        ExtractError: The last value is not complete, or there are too many values.
    """
    at = count = 0
    while match := _START.search(text, at):
        count += 1
        if count > _MAX_VALUES:
            raise ExtractError(f"there are more than {_MAX_VALUES} JSON values in its text")
        start, at = match.start(), _find_end(text, match.start())
        # Decode only this slice: an error counts the lines before it, which takes time.
        with suppress(ValueError):
            value = loads_strictly(text[start:at])
            opens = _FENCE_OPENS.search(text[max(0, start - _MAX_FENCE) : start])
            is_fenced = bool(opens and _FENCE_CLOSES.match(text, at))
            yield Candidate(value, is_fenced, bool(_FENCE_AND_END.match(text, at)))


def is_prose(text: str) -> bool:
    """Tell whether no JSON value starts in a text."""
    return not (text.startswith('"') or _START.search(text))


def _find_end(text: str, start: int) -> int:
    """Find the bracket that closes the one at *start*."""
    depth = 0
    for token in _TOKEN.finditer(text, start):
        depth += _DEPTH.get(token[0], 0)
        if depth == 0:
            return token.end()
    raise ExtractError("a JSON value in its text is not complete")
