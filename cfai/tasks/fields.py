"""The fields of a task: each declares its type, its bounds and its name on the wire.

To add a field to a task, add one line and its docstring to the class:

    top_k: float | None = number(1, 50, default=None)
    "Sample from the *top_k* most likely tokens; from 1 to 50."

* Bound: choose the function for the type (`string`, `number`, `media`, ...) and pass the bounds.
  They are written nowhere else: the docs table, `--help` and the local server read them from here.
* Source: name it in the class docstring ("Source: ..."), or in the field's if it differs.
* Converter: `nested` and `many` take `parse=` (checks and converts) and `encode=` (back to JSON).
* Without `default=None`, the field is required. `name=` is needed if the wire name differs.
* Add an example to the table in `tests/tasks/test_base.py`, the bounds to `test_fields.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NoReturn

import attrs
from attrs import NOTHING, field, frozen

from cfai import media as media_sources
from cfai.errors import InputError

Kind = Literal[
    "text", "texts", "text or texts", "number", "integer", "boolean", "media", "object", "list"
]

_MAX_REPR = 60


def shorten(value: object) -> str:
    """Give a representation of *value* that is short enough for an error message."""
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{memoryview(value).nbytes} bytes>"
    text = repr(value[: 2 * _MAX_REPR] if isinstance(value, str | list | tuple) else value)
    return text if len(text) <= _MAX_REPR else f"{text[: _MAX_REPR - 1]}…"


# Rules


@frozen(kw_only=True)
class Rule:
    """The type and bounds of a field. `None` means no bound; bounds are inclusive."""

    name: str = ""
    """The name on the wire."""

    kind: Kind
    """The type: "texts" is a list of strings, "list" a list of structured values."""

    required: bool = False
    """Whether a request without the field is refused."""

    minimum: float | None = None
    maximum: float | None = None

    min_length: int | None = None
    """In characters; for "texts", of each string. The same holds for *max_length*."""

    max_length: int | None = None

    min_items: int | None = None
    max_items: int | None = None

    choices: tuple[str, ...] | None = None
    """The only strings allowed."""

    parse: Callable[[Any], Any] | None = field(default=None, repr=False, eq=False)
    """Checks and converts a structured value, or one item of a list of them."""

    def check(self, value: object) -> None:
        """Check a value, as passed by a caller or as decoded from JSON.

        Raises:
            InputError: The value breaks the rule; the message has the field, the rule and the
                value.
        """
        _READERS[self.kind](self, value)

    def read(self, value: Any) -> Any:
        """Check a value and return it in the form that a task stores: lists become tuples.

        `None` means "not sent" and is allowed unless the field is required.
        """
        if value is None and not self.required:
            return None
        return _READERS[self.kind](self, value)

    def refuse(self, requirement: str, value: object) -> NoReturn:
        """Raise `InputError`: the field "must" + *requirement*."""
        raise InputError(f"{self.name} must {requirement}, got {shorten(value)}")


def _read_text(rule: Rule, value: object) -> str:
    if not isinstance(value, str):
        rule.refuse("be a string", value)
    if rule.choices and value not in rule.choices:
        rule.refuse(f"be one of {', '.join(rule.choices)}", value)
    if rule.min_length is not None and len(value) < rule.min_length:
        rule.refuse(f"have at least {_plural(rule.min_length, 'character')}", value)
    if rule.max_length is not None and len(value) > rule.max_length:
        rule.refuse(f"have at most {_plural(rule.max_length, 'character')}", value)
    return value


def _read_text_or_texts(rule: Rule, value: object) -> str | tuple[str, ...]:
    return _read_text(rule, value) if isinstance(value, str) else _read_texts(rule, value)


def _read_texts(rule: Rule, value: object) -> tuple[str, ...]:
    items = _read_items(rule, value, "strings")
    for item in items:
        _read_text(rule, item)
    return items


def _read_list(rule: Rule, value: object) -> tuple[Any, ...]:
    items = _read_items(rule, value, "values")
    return items if rule.parse is None else tuple(_parse_items(rule, items))


def _read_items(rule: Rule, value: object, item_kind: str) -> tuple[Any, ...]:
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | bytearray | Mapping):
        rule.refuse(f"be a list of {item_kind}", value)
    items = tuple(value)
    if rule.min_items is not None and len(items) < rule.min_items:
        rule.refuse(f"have at least {_plural(rule.min_items, 'item')}", value)
    if rule.max_items is not None and len(items) > rule.max_items:
        rule.refuse(f"have at most {_plural(rule.max_items, 'item')}, not {len(items)}", value)
    return items


def _parse_items(rule: Rule, items: Iterable[Any]) -> Iterable[Any]:
    parse: Any = rule.parse
    for index, item in enumerate(items):
        try:
            yield parse(item)
        except InputError as exc:
            raise InputError(f"{rule.name}[{index}]: {exc}") from exc


def _read_object(rule: Rule, value: object) -> Any:
    if rule.parse is None:
        return value
    try:
        return rule.parse(value)
    except InputError as exc:
        raise InputError(f"{rule.name}: {exc}") from exc


def _read_number(rule: Rule, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        rule.refuse("be a number", value)
    fits = -math.inf < value < math.inf
    fits = fits and (rule.minimum is None or value >= rule.minimum)
    if not fits or (rule.maximum is not None and value > rule.maximum):
        rule.refuse(_describe_range(rule), value)
    # JSON encoders may not know subclasses such as NumPy's float64.
    return value if type(value) in (int, float) else float(value)


def _read_integer(rule: Rule, value: object) -> float:
    if not isinstance(value, int):
        rule.refuse("be a whole number", value)
    return _read_number(rule, value)


def _read_boolean(rule: Rule, value: object) -> bool:
    if not isinstance(value, bool):
        rule.refuse("be true or false", value)
    return value


def _read_media(rule: Rule, value: Any) -> Any:
    problem = media_sources.problem(value)
    if problem:
        raise InputError(f"{rule.name} {problem}")
    return value


def _describe_range(rule: Rule) -> str:
    match rule.minimum, rule.maximum:
        case None, None:
            return "be a finite number"
        case low, None:
            return f"be at least {low}"
        case None, high:
            return f"be at most {high}"
    return f"be between {rule.minimum} and {rule.maximum}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


_READERS: dict[Kind, Callable[[Rule, Any], Any]] = {
    "text": _read_text,
    "texts": _read_texts,
    "text or texts": _read_text_or_texts,
    "number": _read_number,
    "integer": _read_integer,
    "boolean": _read_boolean,
    "media": _read_media,
    "object": _read_object,
    "list": _read_list,
}


# Declarations


def _declare(rule: Rule, default: Any, kw_only: bool, encode: Any = None) -> Any:
    rule = attrs.evolve(rule, required=default is NOTHING)
    metadata = {"rule": rule, "encode": encode}
    return field(default=default, kw_only=kw_only, metadata=metadata, converter=rule.read)


def string(
    *,
    at_least: int | None = None,
    at_most: int | None = None,
    default: Any = NOTHING,
    kw_only: bool = True,
) -> Any:
    """Declare a string; the bounds are its length in characters."""
    return _declare(Rule(kind="text", min_length=at_least, max_length=at_most), default, kw_only)


def strings(
    *,
    one: bool = False,
    at_least: int | None = None,
    at_least_items: int | None = None,
    default: Any = NOTHING,
    kw_only: bool = True,
) -> Any:
    """Declare a list of strings, or with *one* also a single string.

    *at_least* is the length of each string in characters.
    """
    kind: Kind = "text or texts" if one else "texts"
    rule = Rule(kind=kind, min_length=at_least, min_items=at_least_items)
    return _declare(rule, default, kw_only, encode=_encode_strings)


def number(
    minimum: float | None = None,
    maximum: float | None = None,
    *,
    default: Any = NOTHING,
    kw_only: bool = True,
) -> Any:
    """Declare an int or float within inclusive bounds."""
    return _declare(Rule(kind="number", minimum=minimum, maximum=maximum), default, kw_only)


def integer(
    minimum: int | None = None,
    maximum: int | None = None,
    *,
    default: Any = NOTHING,
    kw_only: bool = True,
) -> Any:
    """Declare an int within inclusive bounds."""
    return _declare(Rule(kind="integer", minimum=minimum, maximum=maximum), default, kw_only)


def flag(*, default: Any = NOTHING, kw_only: bool = True) -> Any:
    """Declare a bool."""
    return _declare(Rule(kind="boolean"), default, kw_only)


def choice(*choices: str, default: Any = NOTHING, kw_only: bool = True) -> Any:
    """Declare a string that is one of *choices*."""
    return _declare(Rule(kind="text", choices=choices), default, kw_only)


def media(*, default: Any = NOTHING, kw_only: bool = True) -> Any:
    """Declare an image or a sound: any source that `cfai.media` can read."""
    return _declare(Rule(kind="media"), default, kw_only)


def nested(
    parse: Callable[[Any], Any],
    *,
    encode: Callable[[Any], Any] | None = None,
    default: Any = NOTHING,
    kw_only: bool = True,
) -> Any:
    """Declare a structured value; *parse* checks and converts it, *encode* makes it JSON again."""

    def parse_unless_plain_text(value: Any) -> Any:
        return None if value == _PLAIN_TEXT else parse(value)

    rule = Rule(kind="object", parse=parse_unless_plain_text)
    return _declare(rule, default, kw_only, encode=encode or _encode_value)


# Other services name the default response format. Workers AI has no name for it: the field is
# left out.
_PLAIN_TEXT = {"type": "text"}


def many(
    parse: Callable[[Any], Any],
    *,
    name: str = "",
    at_least: int | None = None,
    encode: Callable[[Any], Any] | None = None,
    default: Any = NOTHING,
    kw_only: bool = True,
) -> Any:
    """Declare a list of structured values.

    Args:
        parse: Checks and converts one item; returns an item that is converted already.
        name: The name on the wire, if it is not the field's.
        at_least: The smallest number of items.
        encode: Makes one item JSON again.
    """
    rule = Rule(name=name, kind="list", min_items=at_least, parse=parse)
    encode_item = encode or _encode_value
    return _declare(
        rule, default, kw_only, encode=lambda items: [encode_item(item) for item in items]
    )


def _encode_value(value: Any) -> Any:
    # A mapping is checked by `parse` and sent unchanged.
    encode = getattr(value, "payload", None)
    return value if encode is None else encode()


def _encode_strings(value: Any) -> Any:
    return value if isinstance(value, str) else list(value)
