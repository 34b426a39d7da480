"""JSON text, and attrs classes from the decoded JSON of the service.

Strict about meaning: null is not the text "None", 2.9 is not a count, "false" is not true. Tolerant
about form: unknown keys are ignored, so that the service can add some.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from functools import cache
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson

from cfai.errors import DecodeError

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")


def dumps(value: Any) -> bytes:
    """Encode a value as compact JSON in UTF-8."""
    return orjson.dumps(value)


def loads(data: bytes | bytearray | memoryview | str, *, allow_nan: bool = False) -> Any:
    """Decode JSON. Invalid UTF-8 and half an escaped surrogate pair are decoded as U+FFFD.

    Args:
        data: The JSON text.
        allow_nan: Whether `NaN`, `Infinity` and `-Infinity`, which Python's own encoder writes, are
            numbers.

    Raises:
        ValueError: It is not JSON.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        text = data if isinstance(data, str) else bytes(data).decode("utf-8", "replace")
        repaired = _SURROGATES.sub(_replace_half, text)
        if allow_nan and _NOT_FINITE.search(repaired):
            return _loads_with_nan(repaired)
        if repaired == text and (isinstance(data, str) or "\ufffd" not in text):
            raise
        return orjson.loads(repaired)


_NOT_FINITE: Final = re.compile("NaN|Infinity")

# An escaped backslash, a whole surrogate pair, or half of one. A service in JavaScript writes half
# an emoji as valid JSON (ECMA-262, well-formed JSON.stringify).
_SURROGATES: Final = re.compile(
    r"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


def _replace_half(match: re.Match[str]) -> str:
    return r"\ufffd" if match["half"] else match[0]


def _loads_with_nan(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError as exc:
        raise ValueError("the JSON is nested too deep") from exc


class _WrongType(TypeError):
    """A value has another type than the documented one."""


def _describe_value(value: object) -> str:
    return "null" if value is None else f"{type(value).__name__} {value!r:.80}"


def _structure_text(value: Any, _: Any) -> str:
    if not isinstance(value, str):
        raise _WrongType(f"must be a string, got {_describe_value(value)}")
    return value


def _structure_float(value: Any, _: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise _WrongType(f"must be a number, got {_describe_value(value)}")
    return float(value)


def _structure_int(value: Any, _: Any) -> int:
    # The API documents counts as "number": 12.0 is the count 12.
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1:
        raise _WrongType(f"must be a whole number, got {_describe_value(value)}")
    return int(value)


def _structure_bool(value: Any, _: Any) -> bool:
    if not isinstance(value, bool):
        raise _WrongType(f"must be true or false, got {_describe_value(value)}")
    return value


def _structure_datetime(value: Any, _: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(_structure_text(value, str))
    except ValueError as exc:
        raise _WrongType(f"must be a date and time, got {_describe_value(value)}") from exc
    if moment.tzinfo is None:
        raise _WrongType(f"must be a date and time with a time zone, got {_describe_value(value)}")
    return moment


_HOOKS: Final[dict[type[Any], Callable[[Any, Any], Any]]] = {
    str: _structure_text,
    float: _structure_float,
    int: _structure_int,
    bool: _structure_bool,
    datetime: _structure_datetime,
}


@cache
def _service_converter() -> Converter:
    from cattrs import Converter

    converter = Converter(detailed_validation=True, forbid_extra_keys=False)
    for kind, hook in _HOOKS.items():
        converter.register_structure_hook(kind, hook)
    return converter


def _describe_error(exc: BaseException, kind: type[Any] | None) -> str:
    from cattrs.v import format_exception

    if isinstance(exc, KeyError):
        return "is missing"
    return str(exc) if isinstance(exc, _WrongType) else format_exception(exc, kind)


def format_reason(reason: str) -> str:
    """Turn an error of cattrs, "reason @ path", into "path reason"."""
    text, _, path = reason.rpartition(" @ ")
    return f"{path} {text}"


def read_as(value: Any, kind: type[T], name: str) -> T:
    """Read decoded JSON of the service as a *kind*; *name* stands for the value in the error.

    Raises:
        DecodeError: The value has another form.
    """
    from cattrs import BaseValidationError, transform_error

    try:
        return _service_converter().structure(value, kind)
    except (
        BaseValidationError,
        ArithmeticError,
        AttributeError,
        LookupError,
        ValueError,
        TypeError,
    ) as exc:
        reasons = transform_error(exc, path=name, format_exception=_describe_error)
        details = "; ".join(format_reason(reason) for reason in reasons[:3])
        raise DecodeError(f"the service sent an undocumented result: {details}") from exc
