"""The beginning of a value, for messages: never longer, and never more work, than what is shown.

A value may be large, and nested deeper than Python recurses.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

_PATH_CHARACTERS: Final = 4096
"""A path on Linux has at most that many bytes (`PATH_MAX`)."""


def format_count(count: int, noun: str) -> str:
    """A number of things: `1 text`, `2 texts`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def format_value(value: object, limit: int = 80) -> str:
    """The beginning of the `repr` of any value: at most *limit* characters."""
    return _cut(_write(value, repr, limit), limit)


def format_path(path: str | os.PathLike[str]) -> str:
    """A path as it is, but with escapes for what cannot be printed: bytes that are not UTF-8."""
    text = os.fspath(path)[:_PATH_CHARACTERS]
    return text if text.isprintable() else repr(text)[1:-1]


def format_json(value: object, limit: int = 80) -> str:
    """The beginning of a value's JSON, at most *limit* characters; "…" at its end if it was cut."""
    text = _cut(_write(value, _json_scalar, limit), limit + 1)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


_BRACKETS: Final[Mapping[type, tuple[str, str]]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
}


def _cut(parts: Iterator[str], limit: int) -> str:
    text = ""
    for part in parts:
        text += part
        if len(text) >= limit:
            break
    return text[:limit]


def _write(value: Any, scalar: Callable[[Any], str], limit: int) -> Iterator[str]:
    """Each part of the text of a value, in order. A reader that stops early ends the work.

    Every level begins with a character, so a reader of *limit* characters goes no deeper.
    """
    kind = type(value)
    if kind is dict:
        yield "{"
        for number, (key, item) in enumerate(value.items()):
            yield ", " if number else ""
            yield from _write(key, scalar, limit)
            yield ": "
            yield from _write(item, scalar, limit)
        yield "}"
    elif kind in _BRACKETS and value:
        opening, closing = _BRACKETS[list if scalar is _json_scalar else kind]
        yield opening
        for number, item in enumerate(value):
            yield ", " if number else ""
            yield from _write(item, scalar, limit)
        yield "," if kind is tuple and len(value) == 1 and opening == "(" else ""
        yield closing
    elif isinstance(value, str | bytes | bytearray) and len(value) > limit:
        yield _scalar_text(value[: limit + 1], scalar)
    else:
        yield _scalar_text(value, scalar)


def _scalar_text(value: object, scalar: Callable[[Any], str]) -> str:
    try:
        return scalar(value)
    except Exception:  # A class of the caller can raise anything.
        # Python refuses to write integers of more than 4300 digits.
        is_integer = isinstance(value, int)
        return "a number with too many digits" if is_integer else f"<{type(value).__name__}>"


def _json_scalar(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        return repr(value)
