"""JSON text, and attrs classes from the decoded JSON of the service.

Strict about meaning: null is not the text "None", 2.9 is not a count, "false" is not true. Tolerant
about form: unknown keys are ignored, so that the service can add some.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache
from gc import get_referents, is_tracked
from math import isfinite, isinf
from sys import float_info
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import orjson

from cfai._types.excerpts import format_value
from cfai.errors import DecodeError

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")


def dumps(value: Any) -> bytes:
    """Encode a value as compact JSON in UTF-8."""
    return orjson.dumps(value)


def encode_decoded(value: Any) -> str:
    """Encode a value that was decoded from JSON, and so is not nested too deep, as JSON again."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # An integer beyond 64 bits, or half of a surrogate pair.
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def dumps_decoded(value: Any) -> bytes:
    """Encode a value that was decoded from JSON as JSON that every client can read.

    NaN and infinity become null, and half a surrogate pair U+FFFD. An integer beyond 64 bits stays.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return replace_half_pairs(encode_decoded(_replace_not_finite(value))).encode()


def _replace_not_finite(value: Any) -> Any:
    match value:
        case float():
            return value if isfinite(value) else None
        case dict():
            return {name: _replace_not_finite(item) for name, item in value.items()}
        case list() | tuple():
            return [_replace_not_finite(item) for item in value]
        case _:
            return value


MAX_DEPTH: Final = 200
"""How many levels of objects and lists are read. Nothing that the service or a model sends on
purpose comes near; Python's recursion, which repr, copies and comparisons need, ends at 1000."""

_MAX_SHALLOW: Final = 2 * MAX_DEPTH
"""Bytes. A level needs two, so that most answers and events are too short to be deep."""


class NestedTooDeep(ValueError):
    """JSON has more than `MAX_DEPTH` levels."""

    def __init__(self) -> None:
        super().__init__(f"it is nested deeper than {MAX_DEPTH} levels")


def loads(
    data: bytes | bytearray | str, *, allow_nan: bool = False, big_integers: bool = False
) -> Any:
    """Decode JSON. Invalid UTF-8 and half an escaped surrogate pair are decoded as U+FFFD.

    Args:
        data: The JSON text. A byte order mark before it is left out (RFC 8259, section 8.1).
        allow_nan: Whether `NaN`, `Infinity` and `-Infinity`, which Python's own encoder writes, are
            numbers, and numbers beyond 64 bits infinite.
        big_integers: Whether integers beyond 64 bits stay integers, instead of the nearest float.

    Raises:
        NestedTooDeep: It has more than `MAX_DEPTH` levels.
        ValueError: It is not JSON.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = _loads_repaired(data, allow_nan=allow_nan)
    else:
        if big_integers and _has_long_integer(data):
            text = data if isinstance(data, str) else data.decode()
            value = _loads_in_python(text, allow_nan=True)
    if len(data) > _MAX_SHALLOW and _count_opening(data) > MAX_DEPTH:
        check_depth(value)
    return value


def loads_plain(data: bytes) -> Any:
    """Decode JSON that needs no repair.

    Raises:
        ValueError: It needs some (see `loads`), is nested too deep, or is not JSON.
    """
    value = orjson.loads(data)
    if len(data) > _MAX_SHALLOW and _count_opening(data) > MAX_DEPTH:
        check_depth(value)
    return value


def loads_together(texts: Sequence[bytes]) -> list[Any] | None:
    """Decode several short JSON texts, without a step of Python for each of them.

    `None` if one of them is not plain JSON.
    """
    try:
        # As one list, objects without lists are decoded with a third fewer instructions. Texts that
        # are JSON only together are not accepted: no string goes across a tab, and in an object, a
        # comma is not followed by the brace with which each text begins. So if there are as many
        # objects as texts, no text has more or less than one.
        if _BRACKET not in texts[0] and min(texts) >= b"{":
            joined = b",\t".join(texts)
            if _BRACKET not in joined:
                documents: list[Any] = orjson.loads(b"[%b]" % joined)
                if any(map(is_tracked, documents)):  # Not of objects of texts and numbers only.
                    check_depth(documents)
                return documents if len(documents) == len(texts) else None
        if max(map(len, texts)) > _MAX_SHALLOW:  # It may be nested too deep.
            return None
        return list(map(orjson.loads, texts))
    except ValueError:
        return None


_BRACKET: Final = ord("[")


def check_depth(value: Any) -> None:
    """Check that decoded JSON has at most `MAX_DEPTH` levels.

    Raises:
        NestedTooDeep: It has more.
    """
    # Level by level, without recursion, in C: this takes a fraction of the time of decoding.
    level = [value]
    for _ in range(MAX_DEPTH):
        level = get_referents(*level)
        if not level:
            return
    if any(isinstance(item, list | dict) for item in level):
        raise NestedTooDeep


def _count_opening(data: bytes | bytearray | str) -> int:
    if isinstance(data, str):
        return data.count("[") + data.count("{")
    return data.count(b"[") + data.count(b"{")


def has_half_pair(data: bytes | str) -> bool:
    """Whether a string in JSON has an escaped half of a surrogate pair."""
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    return any(match["half"] for match in re.finditer(_SURROGATES, text))


def replace_half_pairs(text: str) -> str:
    """Join the halves of surrogate pairs, and replace lone ones, which can't be sent, by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def loads_with_half_pairs(data: bytes | str) -> Any:
    """Decode JSON, with each half of a surrogate pair as it is, which no encoding accepts.

    Raises:
        ValueError: It is not JSON, or nested too deep.
    """
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    value = _loads_in_python(text, allow_nan=True)
    check_depth(value)
    return value


# An escaped backslash, a whole surrogate pair, or half of one. A service in JavaScript writes half
# an emoji as valid JSON (ECMA-262, well-formed JSON.stringify).
_SURROGATES: Final = (
    r"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


def _loads_repaired(data: bytes | bytearray | str, *, allow_nan: bool) -> Any:
    """Decode what orjson does not accept."""
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    repaired = re.sub(_SURROGATES, _replace_half, text.removeprefix("\ufeff"))
    return _loads_in_python(repaired, allow_nan=allow_nan)


def _replace_half(match: re.Match[str]) -> str:
    return r"\ufffd" if match["half"] else match[0]


def _loads_in_python(text: str, *, allow_nan: bool) -> Any:
    try:
        return (_LENIENT if allow_nan else _STRICT).decode(text)
    except RecursionError as exc:
        raise NestedTooDeep from exc


def raise_invalid_constant(name: str) -> NoReturn:
    """Raise for NaN and infinities: the `parse_constant` of a reader of JSON."""
    raise ValueError(f"{name} is not JSON")


def _parse_finite(text: str) -> float:
    value = float(text)
    if isinf(value):
        raise ValueError(f"{text:.40} is not a 64-bit number")
    return value


def _parse_any_integer(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:  # Python refuses more than 4300 digits.
        return float(text)


_STRICT: Final = json.JSONDecoder(parse_constant=raise_invalid_constant, parse_float=_parse_finite)
_LENIENT: Final = json.JSONDecoder(parse_int=_parse_any_integer)


def loads_strictly(text: str) -> Any:
    """Decode JSON in which every integer is exact, every float finite and nothing repaired.

    Raises:
        NestedTooDeep: It has more than `MAX_DEPTH` levels.
        ValueError: It is not JSON.
    """
    value = _loads_in_python(text, allow_nan=False)
    if len(text) > _MAX_SHALLOW and _count_opening(text) > MAX_DEPTH:
        check_depth(value)
    return value


# orjson decodes an integer beyond 64 bits as the nearest float. It has at least 19 digits.
_LONG: Final = b"0" * 19
_DIGITS: Final = bytes(
    ord("0") if chr(byte).isdecimal() and byte < 128 else byte if byte == ord(".") else ord(" ")
    for byte in range(256)
)


def _has_long_integer(data: bytes | bytearray | str) -> bool:
    """Whether JSON may have an integer beyond 64 bits. The digits after a point do not count."""
    encoded = data.encode("utf-8", "replace") if isinstance(data, str) else data
    digits = encoded.translate(_DIGITS)
    position = digits.find(_LONG)
    while position >= 0 and digits[position - 1 : position] == b".":
        position = digits.find(_LONG, position + len(_LONG))
    return position >= 0


class _WrongType(TypeError):
    """A value has another type than the documented one."""


def _describe_value(value: object) -> str:
    return "null" if value is None else f"{type(value).__name__} {format_value(value)}"


def _structure_text(value: Any, _: Any) -> str:
    if not isinstance(value, str):
        raise _WrongType(f"must be a string, got {_describe_value(value)}")
    return value


def _structure_float(value: Any, _: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and abs(value) <= float_info.max):
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
