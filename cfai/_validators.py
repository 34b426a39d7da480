"""Checks of arguments, as functions (`check_…`) and as validators of attrs fields.

Each raises `InputError`, whose message contains the name, the rule and the value. `hide_arguments`
is for functions whose arguments are secrets.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeGuard, TypeVar

import attrs

from cfai._types.excerpts import format_count, format_value
from cfai.errors import CfaiError, InputError

Validator = Callable[[object, "attrs.Attribute[Any]", Any], None]

C = TypeVar("C", bound=type)
P = ParamSpec("P")
T = TypeVar("T")


def hide_arguments(function: Callable[P, T]) -> Callable[P, T]:
    """Remove the frames of *function* from the errors of this package that it raises.

    Their variables are the secrets that it was given, and error trackers collect variables.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except CfaiError as exc:
            error = exc.with_traceback(None)
            error.__cause__ = error.__context__ = None
        del args, kwargs
        raise error

    return call


def hide_arguments_of(cls: C) -> C:
    """`hide_arguments` for the constructor of a class."""
    cls.__init__ = hide_arguments(cls.__init__)  # type: ignore[misc]
    return cls


def is_finite_number(value: object) -> TypeGuard[int | float]:
    """Whether *value* is an int or a float (not a bool) that is finite as a float."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max  # type: ignore[arg-type]  # a number


def check_path(name: str, value: object) -> Path:
    """Check that *value* is a path that a file can have, whether there is one or not."""
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise InputError(f"{name} must be the path of a file, got {format_value(value)}")
    path = Path(value)
    try:
        is_possible = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        is_possible = False
    if not is_possible:
        raise InputError(f"{name} must be a path that a file can have, got {format_value(value)}")
    return path


def check_at_least(name: str, value: object, minimum: int) -> None:
    """Check that *value* is an integer of at least *minimum*."""
    if type(value) is not int or value < minimum:
        rule = f"a whole number, {minimum} or more"
        raise InputError(f"{name} must be {rule}, got {format_value(value)}")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Check that *value* is one of *choices*."""
    if value not in choices:
        rule = f"one of {', '.join(choices)}"
        raise InputError(f"{name} must be {rule}, got {format_value(value)}")


# RFC 9110, section 5.5: visible characters with spaces between them, and no line end; or nothing.
_HEADER_VALUE: Final = re.compile(
    r"[\x21-\x7e\x80-\xff](?:[\x20-\x7e\x80-\xff\t]*[\x21-\x7e\x80-\xff])?|", re.ASCII
)
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~\-]+")
_RESERVED_HEADERS: Final = frozenset({"content-length", "transfer-encoding", "host", "connection"})


def is_header_value(value: object) -> bool:
    """Whether *value* is a text that a header can carry."""
    return isinstance(value, str) and _HEADER_VALUE.fullmatch(value) is not None


def is_header_name(name: object) -> bool:
    """Whether *name* is a text that can be the name of a header."""
    return isinstance(name, str) and _HEADER_NAME.fullmatch(name) is not None


def check_header(name: object, value: object) -> None:
    """Check a header that the user adds.

    Raises:
        InputError: The name or the value is invalid, or the name is reserved.
    """
    if (
        not isinstance(name, str)
        or not _HEADER_NAME.fullmatch(name)
        or name.lower() in _RESERVED_HEADERS
    ):
        raise InputError(
            f"headers must not contain {format_value(name)}: it is invalid or reserved"
        )
    if not is_header_value(value):
        # The value may be a secret, so the message does not show it.
        raise InputError(
            f"the value of the header {name} must be a string of one line without control"
            " characters, in Latin-1"
        )


def headers(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """The validator of a mapping of headers, or of `None` if that is the default."""
    if value is None and attribute.default is None:
        return
    if not isinstance(value, Mapping):
        rule = "a mapping of names to values"
        name = _qualified_name(instance, attribute)
        raise InputError(f"{name} must be {rule}, got a value of type {type(value).__name__}")
    for header, text in value.items():
        check_header(header, text)


def header_text(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """The validator of a text that is sent in a header, or of `None` if that is the default."""
    is_text(instance, attribute, value)
    if value is not None and not is_header_value(value):
        rule = "one line of Latin-1 without control characters, and without spaces around it"
        got = format_value(value) if attribute.repr else "another text"
        raise InputError(f"{_qualified_name(instance, attribute)} must be {rule}, got {got}")


def _qualified_name(instance: object, attribute: attrs.Attribute[Any]) -> str:
    return f"{type(instance).__name__}.{attribute.name}"


def instance_of(
    kinds: Any, rule: str, *, error: type[CfaiError] = InputError, qualified: bool = True
) -> Validator:
    """The validator of a field of some *kinds*, or `None` if that is its default.

    The name in its message has the class in front if *qualified*.
    """

    def validate(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        if isinstance(value, kinds) or (value is None and attribute.default is None):
            return
        # A field without a repr may hold a secret, which must not be in the message, either.
        got = format_value(value) if attribute.repr else f"a value of type {type(value).__name__}"
        name = _qualified_name(instance, attribute) if qualified else attribute.name
        raise error(f"{name} must be {rule}, got {got}")

    return validate


is_text = instance_of(str, "text")
is_boolean = instance_of(bool, "true or false")


def at_least(minimum: int, *, qualified: bool = True) -> Validator:
    """The validator of an integer of at least *minimum*, or `None` if that is the default.

    The name in its message has the class in front if *qualified*.
    """

    def validate(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is not None or attribute.default is not None:
            name = _qualified_name(instance, attribute) if qualified else attribute.name
            check_at_least(name, value, minimum)

    return validate


def one_of(choices: Sequence[str]) -> Validator:
    """The validator of one of *choices*. The name in its message is that of the field alone."""
    return lambda _, attribute, value: check_choice(attribute.name, value, choices)


def seconds(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """The validator of a finite number of seconds, 0 or more."""
    if not is_finite_number(value) or value < 0:
        rule = "a finite number of seconds, 0 or more"
        name = _qualified_name(instance, attribute)
        raise InputError(f"{name} must be {rule}, got {format_value(value)}")


def positive_seconds_or_none(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """The validator of a finite number of seconds above 0, or `None`."""
    if value is not None and not (is_finite_number(value) and value > 0):
        rule = "a finite number of seconds, above 0"
        name = _qualified_name(instance, attribute)
        raise InputError(f"{name} must be {rule}, got {format_value(value)}")


def factor(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """The validator of a finite number, 0 or more."""
    if not is_finite_number(value) or value < 0:
        name = _qualified_name(instance, attribute)
        raise InputError(f"{name} must be a finite number, 0 or more, got {format_value(value)}")


# Segments of paths: checked and then kept literally; nothing is percent-encoded

# RFC 3986, section 3.3: the characters of a path segment, without the percent sign. The service
# answers 400 (code 7000) to a model name whose slashes or @ are percent-encoded.
_SEGMENT: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@\-]+")


@lru_cache(maxsize=256)
def segment_problem(segment: str) -> str | None:
    """What keeps a text from being one segment of a path, if anything does."""
    if not segment:
        return "must not be empty"
    if segment in (".", ".."):
        return "must not be . or .."
    if not _SEGMENT.fullmatch(segment):
        return "must consist of A-Z a-z 0-9 and ._~!$&'()*+,;=:@-"
    return None


def check_account_id(account_id: str) -> str:
    """Check an account id. The message does not show it: it may be a secret in the wrong place.

    Raises:
        InputError: It can't be one segment of a path.
    """
    if not isinstance(account_id, str):
        raise InputError(f"account_id must be a string, got {type(account_id).__name__}")
    if problem := segment_problem(account_id):
        raise InputError(
            f"account_id {problem} (it has {format_count(len(account_id), 'character')}; not shown)"
        )
    return account_id


def check_segment(name: str, value: str) -> str:
    """Check one segment of a path, such as an id.

    Raises:
        InputError: It can't be one segment of a path.
    """
    if not isinstance(value, str):
        raise InputError(f"{name} must be a string, got {format_value(value)}")
    if problem := segment_problem(value):
        raise InputError(f"{name} {problem}, got {format_value(value)}")
    return value
