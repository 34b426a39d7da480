"""The JSON value that a growing text has so far, read piece by piece in linear time."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from cfai._types.json import loads

NOTHING: Final = object()
"""The value of a text in which no value has begun."""

_MAX_DEPTH: Final = 200
_MAX_SCALAR: Final = 1000
"""In characters: the longest number. Strings have no limit."""

_STEPS: Final = 1024
"""A string that grows is renewed after it has grown by this fraction. Else, a long string would be
copied for each of its pieces."""

_THINK, _END_OF_THINK = "<think>", "</think>"
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_PLAIN: Final = re.compile(r'[^"\\]+')
_SCALAR: Final = re.compile(r"[-+.0-9A-Za-z]+")
_HEX: Final = re.compile(r"[0-9A-Fa-f]{4}")
_ESCAPES: Final = {
    '"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t",
}  # fmt: skip

_Step = Callable[[str, int], int]
"""Reads at a place of a text, and returns the next place; the same one if it needs more text."""


class _InvalidJson(ValueError):
    """The text goes on as JSON cannot."""


class PartialJson:
    """The latest object in a text that arrives in pieces, as far as it is there.

    Prose and reasoning (`<think>`) around it are skipped. `value` is one object that grows: it is
    changed in place. Numbers, literals and keys appear when they are complete; strings grow.

    Args:
        starts: The characters that a value begins with: an object, and perhaps a list.
    """

    def __init__(self, starts: str = "{") -> None:
        self.value: Any = NOTHING
        self._start = re.compile(f"{_THINK}|[{re.escape(starts)}]")
        self._step: _Step = self._search
        self._rest = ""
        """What no step has read yet; short, because each step that waits has a limit."""
        self._open: list[Any] = []
        """The objects and lists around the current place."""
        self._has_content = False
        """Whether the value has a key or an item."""
        self._key: str | None = None
        self._pieces: list[str] = []
        """Of the current string."""
        self._length = 0
        self._shown_length = 0
        self._changed = False

    def feed(self, text: str) -> bool:
        """Read the next piece of the text; returns whether the value has changed."""
        self._changed = False
        text, at = self._rest + text, 0
        while at < len(text):
            try:
                following = self._step(text, at)
            except _InvalidJson:
                # Braces of prose have no key. In JSON that breaks off, no part is the whole.
                self._step = self._ignore if self._has_content else self._search
                self._open.clear()
                following = at
                if self._step == self._search:
                    continue
            if following == at:
                break
            at = following
        self._rest = "" if self._step == self._ignore else text[at:]
        if self._step == self._read_string and not self._is_key:
            self._show_string()
        return self._changed

    @property
    def _is_key(self) -> bool:
        """Whether the current string is a key."""
        return self._key is None and isinstance(self._open[-1], dict)

    # Steps

    def _ignore(self, text: str, _: int) -> int:
        return len(text)

    def _search(self, text: str, at: int) -> int:
        match = self._start.search(text, at)
        if match is None:
            return _keep_tag(text, at, _THINK)
        if match[0] == _THINK:
            self._step = self._skip_reasoning
            return match.end()
        self._has_content = False
        self._enter({} if match[0] == "{" else [])
        return match.end()

    def _skip_reasoning(self, text: str, at: int) -> int:
        end = text.find(_END_OF_THINK, at)
        if end < 0:
            return _keep_tag(text, at, _END_OF_THINK)
        self._step = self._search
        return end + len(_END_OF_THINK)

    def _read_key(self, text: str, at: int) -> int:
        at = _skip_space(text, at)
        match text[at : at + 1]:
            case "":
                return at
            case "}":
                self._leave()
            case '"':
                self._key = None
                self._begin_string()
            case _:
                raise _InvalidJson
        return at + 1

    def _read_colon(self, text: str, at: int) -> int:
        at = _skip_space(text, at)
        if at == len(text):
            return at
        if text[at] != ":":
            raise _InvalidJson
        self._step, self._has_content = self._read_value, True
        return at + 1

    def _read_value(self, text: str, at: int) -> int:
        at = _skip_space(text, at)
        match text[at : at + 1]:
            case "":
                return at
            case "{":
                self._enter({})
            case "[":
                self._enter([])
            case "]" if isinstance(self._open[-1], list):
                self._leave()
            case '"':
                self._add("")
                self._begin_string()
            case _:
                return self._read_scalar(text, at)
        return at + 1

    def _read_scalar(self, text: str, at: int) -> int:
        match = _SCALAR.match(text, at)
        if match is None or match.end() - at > _MAX_SCALAR:
            raise _InvalidJson
        if match.end() == len(text):
            return at  # It may go on.
        try:
            value = loads(match[0], big_integers=True)
        except ValueError as exc:
            raise _InvalidJson from exc
        self._add(value)
        self._step = self._read_comma
        return match.end()

    def _read_comma(self, text: str, at: int) -> int:
        at = _skip_space(text, at)
        if at == len(text):
            return at
        is_list = isinstance(self._open[-1], list)
        if text[at] == ",":
            self._step = self._read_value if is_list else self._read_key
        elif text[at] == ("]" if is_list else "}"):
            self._leave()
        else:
            raise _InvalidJson
        return at + 1

    def _read_string(self, text: str, at: int) -> int:
        if match := _PLAIN.match(text, at):
            self._append(match[0])
            return match.end()
        if text[at] == "\\":
            return self._read_escape(text, at)
        if self._is_key:
            self._key = "".join(self._pieces)
            self._step = self._read_colon
        else:
            if self._shown_length < self._length:
                self._replace("".join(self._pieces))
            self._step = self._read_comma
        return at + 1

    def _read_escape(self, text: str, at: int) -> int:
        kind = text[at + 1 : at + 2]
        if kind != "u":
            if kind and kind not in _ESCAPES:
                raise _InvalidJson
            self._append(_ESCAPES.get(kind, ""))
            return at + 2 if kind else at
        code = _escaped_code(text, at)
        if code is None:
            return at
        if 0xD800 <= code < 0xDC00:
            rest = text[at + 6 : at + 8]
            low = _escaped_code(text, at + 6) if rest == "\\u" else 0
            if low is None or (len(rest) < 2 and "\\u".startswith(rest)):
                return at  # The other half may follow.
            if 0xDC00 <= low < 0xE000:
                self._append(chr(0x10000 + ((code - 0xD800) << 10) + low - 0xDC00))
                return at + 12
        self._append("\ufffd" if 0xD800 <= code < 0xE000 else chr(code))
        return at + 6

    # The value

    def _enter(self, container: Any) -> None:
        if len(self._open) == _MAX_DEPTH:
            raise _InvalidJson
        if self._open:
            self._add(container)
        elif self.value is NOTHING or not self.value:
            self.value, self._changed = container, True
        # Else it may be a brace of prose: `_add` replaces the value once the next has content.
        self._open.append(container)
        self._step = self._read_value if isinstance(container, list) else self._read_key

    def _leave(self) -> None:
        self._open.pop()
        self._step = self._read_comma if self._open else self._search

    def _add(self, value: Any) -> None:
        self._changed = self._has_content = True
        self.value = self._open[0]
        if isinstance(container := self._open[-1], list):
            container.append(value)
        else:
            container[self._key] = value

    def _replace(self, value: str) -> None:
        """Renew the string that was added last."""
        self._changed = True
        container = self._open[-1]
        container[-1 if isinstance(container, list) else self._key] = value

    # Strings

    def _begin_string(self) -> None:
        self._pieces.clear()
        self._length = self._shown_length = 0
        self._step = self._read_string

    def _append(self, piece: str) -> None:
        self._pieces.append(piece)
        self._length += len(piece)

    def _show_string(self) -> None:
        """Show a value that is not complete, if it has grown by enough."""
        if self._length - self._shown_length > self._length // _STEPS:
            text = "".join(self._pieces)
            self._pieces[:] = [text]
            self._shown_length = self._length
            self._replace(text)


def _skip_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _keep_tag(text: str, at: int, tag: str) -> int:
    """The place after which *tag* may begin: the end, unless the text ends with a part of it."""
    sizes = range(min(len(tag) - 1, len(text) - at), 0, -1)
    return next((len(text) - size for size in sizes if text.endswith(tag[:size])), len(text))


def _escaped_code(text: str, at: int) -> int | None:
    r"""The code in an escape `\uXXXX`; `None` if it is not complete."""
    digits = text[at + 2 : at + 6]
    if _HEX.fullmatch(digits):
        return int(digits, 16)
    if len(digits) == 4:
        raise _InvalidJson
    return None
