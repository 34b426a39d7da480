"""What the service says -> attrs classes, and the way to and from JSON text.

Strict about meaning: a null is not the text "None", 2.9 is no count, "false" is not true. Tolerant
about form: unknown keys are ignored, so that the service can grow.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import orjson

from cfai.errors import DecodeError

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")


def dumps(value: Any) -> bytes:
    """JSON text, as compact UTF-8."""
    return orjson.dumps(value)


def loads(data: bytes | bytearray | memoryview | str) -> Any:
    """What JSON text says. Bytes that are no UTF-8 count as U+FFFD, as in a browser.

    Raises:
        ValueError: It is no JSON.
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


class _Wrong(TypeError):
    """A value of another kind than the one documented."""


def _named(value: object) -> str:
    return "null" if value is None else f"{type(value).__name__} {value!r:.80}"


def _text(value: Any, _: Any) -> str:
    if not isinstance(value, str):
        raise _Wrong(f"a text is documented, got {_named(value)}")
    return value


def _number(value: Any, _: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Wrong(f"a number is documented, got {_named(value)}")
    return float(value)


def _whole(value: Any, _: Any) -> int:
    # Counts are documented as "number": 12.0 is the count 12.
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise _Wrong(f"a whole number is documented, got {_named(value)}")
    return int(value)


def _flag(value: Any, _: Any) -> bool:
    if not isinstance(value, bool):
        raise _Wrong(f"true or false is documented, got {_named(value)}")
    return value


def _moment(value: Any, _: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(_text(value, str))
    except ValueError as exc:
        raise _Wrong(f"a date and time is documented, got {_named(value)}") from exc
    if moment.tzinfo is None:
        raise _Wrong(f"a date and time with its zone is documented, got {_named(value)}")
    return moment


@cache
def _converter() -> Converter:
    from cattrs import Converter
    from cattrs.gen import make_dict_structure_fn

    converter = Converter(detailed_validation=True)
    for kind, hook in ((str, _text), (float, _number), (int, _whole), (bool, _flag)):
        converter.register_structure_hook(kind, hook)
    converter.register_structure_hook(datetime, _moment)

    def attrs_hook(cls: type[Any]) -> Any:
        return make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=False)

    converter.register_structure_hook_factory(attrs.has, attrs_hook)
    return converter


def _reason(exc: BaseException, kind: type[Any] | None) -> str:
    from cattrs.v import format_exception

    return str(exc) if isinstance(exc, _Wrong) else format_exception(exc, kind)


def structure(value: Any, kind: type[T], what: str) -> T:
    """Read decoded JSON as *kind*; *what* names it in the error.

    Raises:
        DecodeError: It has another shape.
    """
    from cattrs import BaseValidationError, transform_error

    try:
        return _converter().structure(value, kind)
    except (
        BaseValidationError,
        ArithmeticError,
        AttributeError,
        LookupError,
        ValueError,
        TypeError,
    ) as exc:
        reasons = "; ".join(transform_error(exc, path=what, format_exception=_reason)[:3])
        raise DecodeError(f"the service answered something undocumented: {reasons}") from exc
