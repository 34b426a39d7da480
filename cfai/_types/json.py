"""JSON text, and attrs classes from the decoded JSON of the service.

Strict about meaning: null is not the text "None", 2.9 is not a count, "false" is not true. Tolerant
about form: unknown keys are ignored, so that the service can add some.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson

from cfai.errors import DecodeError

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")


def dumps(value: Any) -> bytes:
    """Encode a value as compact JSON in UTF-8."""
    return orjson.dumps(value)


def loads(data: bytes | bytearray | memoryview | str) -> Any:
    """Decode JSON. Invalid UTF-8 is decoded as U+FFFD, as in a browser.

    Raises:
        ValueError: It is not JSON.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        if isinstance(data, str):
            raise
        text = bytes(data).decode("utf-8", "replace")
        if "\ufffd" not in text:
            raise
        return orjson.loads(text)


class _WrongType(TypeError):
    """A value has another type than the documented one."""


def _describe_value(value: object) -> str:
    return "null" if value is None else f"{type(value).__name__} {value!r:.80}"


def _structure_text(value: Any, _: Any) -> str:
    if not isinstance(value, str):
        raise _WrongType(f"must be a string, got {_describe_value(value)}")
    return value


def _structure_float(value: Any, _: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _WrongType(f"must be a number, got {_describe_value(value)}")
    return float(value)


def _structure_int(value: Any, _: Any) -> int:
    # The API documents counts as "number": 12.0 is the count 12.
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
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
