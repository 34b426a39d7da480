"""The validators of what the user decides: kinds of values, whole numbers, seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import attrs

from cfai.errors import CfaiError, InputError

Check = Callable[[object, "attrs.Attribute[Any]", Any], None]


def shown(value: object) -> str:
    """A representation that fits into a message, whatever the value."""
    try:
        return f"{value!r:.80}"
    except ValueError:  # Python writes no number of more than 4300 digits.
        return "a number of too many digits"


def _refuse(
    instance: object,
    attribute: attrs.Attribute[Any],
    value: object,
    rule: str,
    *,
    error: type[CfaiError] = InputError,
) -> None:
    # What is left out of a representation may be a secret, and is left out here, too.
    got = shown(value) if attribute.repr else f"a value of type {type(value).__name__}"
    raise error(f"{type(instance).__name__}.{attribute.name} must be {rule}, got {got}")


def kind(kinds: Any, rule: str, *, error: type[CfaiError] = InputError) -> Check:
    """Refuse what is of no such kind; `None` passes where it is the default."""

    def check(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, kinds) and not (value is None and attribute.default is None):
            _refuse(instance, attribute, value, rule, error=error)

    return check


text = kind(str, "text")
flag = kind(bool, "true or false")


def count(least: int) -> Check:
    """Refuse what is no whole number of *least* or more."""

    def check(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is None and attribute.default is None:
            return
        if type(value) is not int or value < least:
            _refuse(instance, attribute, value, f"a whole number, {least} or more")

    return check


def _finite(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= value <= sys.float_info.max


def limit(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Refuse what is no limit in seconds: finite and above 0, or `None`."""
    if value is not None and (not _finite(value) or value == 0):
        _refuse(instance, attribute, value, "a finite number of seconds, above 0")


def pause(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Refuse what is no pause in seconds: finite, 0 or more."""
    if not _finite(value):
        _refuse(instance, attribute, value, "a finite number of seconds, 0 or more")


def times(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Refuse what is no factor: finite, 0 or more."""
    if not _finite(value):
        _refuse(instance, attribute, value, "a finite number, 0 or more")
