"""One field's rule: its name on the wire, what it takes, and its bounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NoReturn

from attrs import field, frozen

from cfai import media
from cfai.errors import InputError

Kind = Literal[
    "text", "texts", "text or texts", "number", "integer", "boolean", "media", "object", "list"
]

_LONGEST = 60


def shortened(value: object) -> str:
    """Give a representation of *value* that fits into a message, whatever its size."""
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{memoryview(value).nbytes} bytes>"
    shown = repr(value[: 2 * _LONGEST] if isinstance(value, str | list | tuple) else value)
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"


@frozen(kw_only=True)
class Rule:
    """What a field takes. `None` is no bound; a bound itself is allowed."""

    name: str = ""
    """The name on the wire."""

    kind: Kind
    """What it is: "texts" is a list of them, "list" one of values with a shape of their own."""

    required: bool = False
    """Whether a request without it is refused."""

    minimum: float | None = None
    maximum: float | None = None

    min_length: int | None = None
    """In characters, as is *max_length*; of each text, where there are several."""

    max_length: int | None = None

    min_items: int | None = None
    max_items: int | None = None

    choices: tuple[str, ...] | None = None
    """The only texts that it takes."""

    parse: Callable[[Any], Any] | None = field(default=None, repr=False, eq=False)
    """What makes the value, or one item of a list, where it has a shape of its own."""

    def named(self, name: str) -> None:
        """Take the name of the field, where the rule has none: once, when the class is made."""
        object.__setattr__(self, "name", self.name or name)

    def check(self, value: object) -> None:
        """Refuse a value that breaks the rule.

        Args:
            value: As a user gives it, or as decoded from JSON.

        Raises:
            InputError: It does; the message names the field, the rule and the value.
        """
        _READERS[self.kind](self, value)

    def read(self, value: Any) -> Any:
        """Check a value, and give it in the form that a task keeps: tuples for lists.

        `None` stands for a field that is left out, where that is allowed.
        """
        if value is None and not self.required:
            return None
        return _READERS[self.kind](self, value)

    def refuse(self, what: str, value: object) -> NoReturn:
        """Raise the error that says *what* the field must do."""
        raise InputError(f"{self.name} must {what}, got {shortened(value)}")


def _text(rule: Rule, value: object) -> str:
    if not isinstance(value, str):
        rule.refuse("be text", value)
    if rule.choices and value not in rule.choices:
        rule.refuse(f"be one of {', '.join(rule.choices)}", value)
    if rule.min_length is not None and len(value) < rule.min_length:
        rule.refuse(f"have at least {_count(rule.min_length, 'character')}", value)
    if rule.max_length is not None and len(value) > rule.max_length:
        rule.refuse(f"have at most {_count(rule.max_length, 'character')}", value)
    return value


def _text_or_texts(rule: Rule, value: object) -> str | tuple[str, ...]:
    return _text(rule, value) if isinstance(value, str) else _texts(rule, value)


def _texts(rule: Rule, value: object) -> tuple[str, ...]:
    items = _items(rule, value, "texts")
    for item in items:
        _text(rule, item)
    return items


def _list(rule: Rule, value: object) -> tuple[Any, ...]:
    items = _items(rule, value, "values")
    return items if rule.parse is None else tuple(_parsed(rule, items))


def _items(rule: Rule, value: object, what: str) -> tuple[Any, ...]:
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | bytearray | Mapping):
        rule.refuse(f"be a list of {what}", value)
    items = tuple(value)
    if rule.min_items is not None and len(items) < rule.min_items:
        rule.refuse(f"have at least {_count(rule.min_items, 'item')}", value)
    if rule.max_items is not None and len(items) > rule.max_items:
        rule.refuse(f"have at most {_count(rule.max_items, 'item')}, not {len(items)}", value)
    return items


def _parsed(rule: Rule, items: Iterable[Any]) -> Iterable[Any]:
    parse: Any = rule.parse
    for at, item in enumerate(items):
        try:
            yield parse(item)
        except InputError as exc:
            raise InputError(f"{rule.name}[{at}]: {exc}") from exc


def _object(rule: Rule, value: object) -> Any:
    if rule.parse is None:
        return value
    try:
        return rule.parse(value)
    except InputError as exc:
        raise InputError(f"{rule.name}: {exc}") from exc


def _number(rule: Rule, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        rule.refuse("be a number", value)
    fits = -math.inf < value < math.inf
    fits = fits and (rule.minimum is None or value >= rule.minimum)
    if not fits or (rule.maximum is not None and value > rule.maximum):
        rule.refuse(_range(rule), value)
    # A subclass (NumPy's float64, say) is not always known to a JSON encoder.
    return value if type(value) in _PLAIN else float(value)


def _integer(rule: Rule, value: object) -> float:
    if not isinstance(value, int):
        rule.refuse("be a whole number", value)
    return _number(rule, value)


def _boolean(rule: Rule, value: object) -> bool:
    if not isinstance(value, bool):
        rule.refuse("be true or false", value)
    return value


def _media(rule: Rule, value: Any) -> Any:
    problem = media.problem(value)
    if problem:
        raise InputError(f"{rule.name} {problem}")
    return value


def _range(rule: Rule) -> str:
    match rule.minimum, rule.maximum:
        case None, None:
            return "be a finite number"
        case low, None:
            return f"be at least {low}"
        case None, high:
            return f"be at most {high}"
    return f"be from {rule.minimum} to {rule.maximum}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


_PLAIN = (int, float)

_READERS: dict[Kind, Callable[[Rule, Any], Any]] = {
    "text": _text,
    "texts": _texts,
    "text or texts": _text_or_texts,
    "number": _number,
    "integer": _integer,
    "boolean": _boolean,
    "media": _media,
    "object": _object,
    "list": _list,
}
