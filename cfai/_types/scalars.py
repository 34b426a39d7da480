"""Hooks that read one text, number, date or choice of a user's own types, and say what is wrong."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, Final, NoReturn, get_args
from uuid import UUID

from cfai._types.kinds import is_enum

Hook = Callable[[Any, Any], Any]

_SHOWN = 80

_EXACT = 2**53

_DATE = r"\d{4}-\d\d-\d\d"
_TIME = r"\d\d:\d\d.*"
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class Wrong(TypeError):
    """What is wrong with one value."""


def refuse(rule: str, value: object) -> NoReturn:
    """Raise the error of a value that is not as it must be."""
    raise Wrong(f"must be {rule}, got {_json(value)}")


def _json(value: object) -> str:
    try:
        shown = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        shown = f"{value!r:.{_SHOWN}}"
    return shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 1]}…"


def same(one: object, other: object) -> bool:
    """Equal, where True is not 1, and 1.0 is: JSON knows only one kind of number."""
    kinds = {type(one), type(other)}
    return (len(kinds) == 1 or kinds == {int, float}) and one == other


def choose(value: Any, choices: Iterable[Any]) -> Any:
    """Give the one of *choices* that a value is."""
    plain = []
    for one in choices:
        said = one.value if isinstance(one, Enum) else one
        if same(said, value):
            return one
        plain.append(_json(said))
    refuse(f"one of {', '.join(plain)}", value)


def literal(value: Any, kind: Any) -> Any:
    """Read one of the values that are listed."""
    return choose(value, get_args(kind))


def null(value: Any, _: Any) -> None:
    """Read a null."""
    if value is not None:
        refuse("null", value)


def _exact(kind: type[Any], rule: str) -> Hook:
    def hook(value: Any, _: Any) -> Any:
        if type(value) is not kind:
            refuse(rule, value)
        return value

    return hook


def _whole(value: Any, _: Any) -> int:
    # Models write 3.0 for 3, and JSON knows only one kind of number; larger ones were rounded.
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return int(value)
    if type(value) is not int:
        refuse("a whole number", value)
    return value


def _number(value: Any, _: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        refuse("a number", value)
    with suppress(OverflowError):
        if math.isfinite(value):
            return float(value)
    refuse("a number of 64 bits", value)


def _decimal(value: Any, _: Any) -> Decimal:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        said = str(value)
        with suppress(InvalidOperation, ValueError):
            if _DECIMAL.fullmatch(said):
                return Decimal(said)
    refuse("a decimal number", value)


def _written(make: Callable[[str], Any], rule: str, form: str = "(?s:.*)") -> Hook:
    """Read what JSON has only a text for, in a form of which Python takes more than was asked."""
    written = re.compile(form, re.ASCII)

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, str) or not written.fullmatch(value):
            refuse(rule, value)
        try:
            return make(value)
        except ValueError:
            refuse(rule, value)

    return hook


def _or_member(hook: Hook) -> Hook:
    """Read a member where the type is an enumeration: its class can be one of texts, too."""
    return lambda value, kind: choose(value, kind) if is_enum(kind) else hook(value, kind)


HOOKS: Final[dict[type[Any], Hook]] = {
    str: _or_member(_exact(str, "a text")),
    int: _or_member(_whole),
    float: _or_member(_number),
    Enum: _or_member(null),
    bool: _exact(bool, "true or false"),
    datetime: _or_member(
        _written(
            datetime.fromisoformat,
            "a date and time such as 2026-01-31T12:00:00Z",
            rf"{_DATE}[Tt ]{_TIME}",
        )
    ),
    date: _or_member(_written(date.fromisoformat, "a date such as 2026-01-31", _DATE)),
    time: _or_member(_written(time.fromisoformat, "a time such as 12:00:00", _TIME)),
    UUID: _or_member(_written(UUID, "a UUID")),
    Decimal: _or_member(_decimal),
}
"""By the class that they read, subclasses included."""
