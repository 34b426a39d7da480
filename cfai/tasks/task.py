"""The base classes of tasks and answers, and the fields that tasks are declared with.

To add a field to a task, add one line and its docstring to the class:

    top_k: float | None = number(1, 50, default=None)
    "Sample from the *top_k* most likely tokens; from 1 to 50."

* Bound: choose the function for the type (`string`, `number`, `media`, ...) and pass the bounds.
* Source: name it in the class docstring ("Source: ..."), or in the field's if it differs.
* Converter: `nested` and `many` take a function that checks and converts; the value's `payload`, or
  `encode=` of `many`, makes it JSON again.
* Default: `None`, or `UNSET` to send `None` as null. Without one, the field is required.
* "Add a field to a task" in `docs/contributing.md` lists the tests and pages.
"""

from __future__ import annotations

import math
import re
from array import array
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Generic, Literal, NoReturn, Self, TypeVar, dataclass_transform

import attrs
from attrs import NOTHING, field, frozen

from cfai import media as media_sources
from cfai._types.excerpts import format_count, format_value
from cfai._types.values import Value, fast_init, fields_of, write_function
from cfai.errors import InputError
from cfai.media import MediaForm, blocks as media_blocks
from cfai.meta import Meta
from cfai.settings import UNSET

T = TypeVar("T")

Kind = Literal[
    "text", "texts", "text or texts", "number", "integer", "boolean", "media", "object", "list",
    "mapping", "JSON",
]  # fmt: skip

_MAX_REPR = 60
_NO_LIST = (str, bytes, bytearray, Mapping)


def shorten(value: object) -> str:
    """Give a representation of *value* that is short enough for an error message."""
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{format_count(memoryview(value).nbytes, 'byte')}>"
    text = format_value(value, _MAX_REPR + 1)
    return text if len(text) <= _MAX_REPR else f"{text[: _MAX_REPR - 1]}…"


# Rules


@frozen(kw_only=True, eq=False, repr=False)
class Rule(Value):
    """The type and bounds of a field. `None` means no bound; bounds are inclusive."""

    name: str = ""
    """The name on the wire."""

    kind: Kind
    """The type: "texts" is a list of strings, "list" a list of structured values, "mapping" an
    object of them under names that the caller chooses, and "JSON" any value but null."""

    required: bool = False
    """Whether a request without the field is invalid."""

    minimum: float | None = None
    maximum: float | None = None

    min_length: int | None = None
    """In characters; for "texts", of each string. The same holds for *max_length*."""

    max_length: int | None = None

    min_items: int | None = None
    max_items: int | None = None

    choices: tuple[str, ...] | None = None
    """The only strings allowed."""

    names: str | None = None
    """The regular expression of the names in a mapping."""

    nullable: bool = False
    """Whether null is a value that is sent. `UNSET` then means "not sent"."""

    translated: bool = False
    """Whether it is no field of the request: `Task.payload_for` writes it as the model needs it."""

    parse: Callable[[Any], Any] | None = field(default=None, repr=False)
    """Checks and converts a structured value, or one item of a list of them."""

    def check(self, value: object) -> None:
        """Check a value, as passed by a caller or as decoded from JSON.

        Raises:
            InputError: The value breaks the rule; the message has the field, the rule and the
                value.
        """
        _VALIDATORS[self.kind](self, value)

    def read(self, value: Any) -> Any:
        """Check a value and return it in the form that a task stores: lists become tuples.

        `None` means "not sent", or null, and is allowed unless the field is required.
        """
        if (value is None and not self.required) or (value is UNSET and self.nullable):
            return value
        return _VALIDATORS[self.kind](self, value)

    def fail(self, requirement: str, value: object) -> NoReturn:
        """Raise `InputError`: the field "must" + *requirement*."""
        raise InputError(f"{self.name} must {requirement}, got {shorten(value)}")


def _validate_text(rule: Rule, value: object) -> str:
    if not isinstance(value, str):
        rule.fail("be a string", value)
    if rule.choices and value not in rule.choices:
        rule.fail(f"be one of {', '.join(rule.choices)}", value)
    if rule.min_length is not None and len(value) < rule.min_length:
        rule.fail(f"have at least {format_count(rule.min_length, 'character')}", value)
    if rule.max_length is not None and len(value) > rule.max_length:
        rule.fail(f"have at most {format_count(rule.max_length, 'character')}", value)
    return value


def _validate_text_or_texts(rule: Rule, value: object) -> str | tuple[str, ...]:
    return _validate_text(rule, value) if isinstance(value, str) else _validate_texts(rule, value)


def _validate_texts(rule: Rule, value: object) -> tuple[str, ...]:
    if hasattr(value, "columns"):  # Iterating over a data frame gives the names of its columns.
        rule.fail("be a list of strings, such as one column of this table", value)
    items = _validate_items(rule, value, "strings")
    for item in items:
        _validate_text(rule, item)
    return items


def _validate_list(rule: Rule, value: object) -> tuple[Any, ...]:
    items = _validate_items(rule, value, "values")
    parse = rule.parse
    if parse is None:
        return items
    parsed = []
    for index, item in enumerate(items):
        try:
            parsed.append(parse(item))
        except InputError as exc:
            raise InputError(f"{rule.name}[{index}]: {exc}") from exc
    return tuple(parsed)


def _validate_items(rule: Rule, value: object, item_kind: str) -> tuple[Any, ...]:
    # A list first: to look for abstract classes takes a microsecond.
    if type(value) is not list and (not isinstance(value, Iterable) or isinstance(value, _NO_LIST)):
        rule.fail(f"be a list of {item_kind}", value)
    items: tuple[Any, ...] = tuple(value)
    _check_count(rule, len(items), value)
    return items


def _check_count(rule: Rule, count: int, value: object) -> None:
    if rule.min_items is not None and count < rule.min_items:
        rule.fail(f"have at least {format_count(rule.min_items, 'item')}", value)
    if rule.max_items is not None and count > rule.max_items:
        rule.fail(f"have at most {format_count(rule.max_items, 'item')}, not {count}", value)


def _validate_mapping(rule: Rule, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        rule.fail("be a mapping of names to values", value)
    _check_count(rule, len(value), dict(value))
    parse: Any = rule.parse
    parsed = {}
    for name, item in value.items():
        if not isinstance(name, str) or not re.fullmatch(rule.names or "(?s:.+)", name):
            rule.fail(f"have names that match {rule.names}" if rule.names else "have names", name)
        try:
            parsed[name] = parse(item)
        except InputError as exc:
            raise InputError(f"{rule.name}[{shorten(name)}]: {exc}") from exc
    return parsed


def _validate_object(rule: Rule, value: object) -> Any:
    if rule.parse is None:
        return value
    try:
        return rule.parse(value)
    except InputError as exc:
        raise InputError(f"{rule.name}: {exc}") from exc


def _validate_number(rule: Rule, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        rule.fail("be a number", value)
    fits = -math.inf < value < math.inf
    fits = fits and (rule.minimum is None or value >= rule.minimum)
    if not fits or (rule.maximum is not None and value > rule.maximum):
        rule.fail(f"be {describe_bounds(rule) or 'a finite number'}", value)
    # JSON encoders may not know subclasses such as NumPy's float64.
    return value if type(value) in (int, float) else float(value)


def _validate_integer(rule: Rule, value: object) -> float:
    if not isinstance(value, int):
        rule.fail("be a whole number", value)
    return _validate_number(rule, value)


def _validate_boolean(rule: Rule, value: object) -> bool:
    if not isinstance(value, bool):
        rule.fail("be true or false", value)
    return value


def _validate_media(rule: Rule, value: Any) -> Any:
    problem = media_sources.problem(value)
    if problem:
        raise InputError(f"{rule.name} {problem}")
    return value


def describe_bounds(rule: Rule) -> str:
    """Give the bounds of a number in words; an empty string if there are none."""
    match rule.minimum, rule.maximum:
        case None, None:
            return ""
        case low, high if low == high:
            return f"{low}"
        case low, None:
            return f"at least {low}"
        case None, high:
            return f"at most {high}"
    return f"between {rule.minimum} and {rule.maximum}"


_VALIDATORS: dict[Kind, Callable[[Rule, Any], Any]] = {
    "text": _validate_text,
    "texts": _validate_texts,
    "text or texts": _validate_text_or_texts,
    "number": _validate_number,
    "integer": _validate_integer,
    "boolean": _validate_boolean,
    "media": _validate_media,
    "object": _validate_object,
    "list": _validate_list,
    "mapping": _validate_mapping,
    "JSON": _validate_object,
}


# Declarations


def _declare(rule: Rule, default: Any, kw_only: bool = True, encode: Any = None) -> Any:
    rule = attrs.evolve(rule, required=default is NOTHING, nullable=default is UNSET)
    metadata = {"rule": rule, "encode": encode}
    return field(default=default, kw_only=kw_only, metadata=metadata, converter=rule.read)


def string(*, at_least: int | None = None, default: Any = NOTHING, kw_only: bool = True) -> Any:
    """Declare a string; *at_least* is its length in characters."""
    return _declare(Rule(kind="text", min_length=at_least), default, kw_only)


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
    return _declare(rule, default, kw_only, lambda v: v if isinstance(v, str) else list(v))


def number(
    minimum: float | None = None, maximum: float | None = None, *, default: Any = NOTHING
) -> Any:
    """Declare an int or float within inclusive bounds."""
    return _declare(Rule(kind="number", minimum=minimum, maximum=maximum), default)


def integer(minimum: int, maximum: int | None = None, *, default: Any = NOTHING) -> Any:
    """Declare an int within inclusive bounds."""
    return _declare(Rule(kind="integer", minimum=minimum, maximum=maximum), default)


def flag(*, translated: bool = False, default: Any = NOTHING) -> Any:
    """Declare a bool. If it is *translated*, `payload_for` replaces it."""
    return _declare(Rule(kind="boolean", translated=translated), default)


def choice(*choices: str, default: Any = NOTHING) -> Any:
    """Declare a string that is one of *choices*."""
    return _declare(Rule(kind="text", choices=choices), default)


def media(*, default: Any = NOTHING, kw_only: bool = True) -> Any:
    """Declare an image or a sound: any source that `cfai.media` can read."""
    return _declare(Rule(kind="media"), default, kw_only)


def _encode_value(value: Any) -> Any:
    # A mapping is checked by `parse` and sent unchanged.
    encode = getattr(value, "payload", None)
    return value if encode is None else encode()


def nested(
    parse: Callable[[Any], Any],
    *,
    kind: Kind = "object",
    default: Any = NOTHING,
    kw_only: bool = True,
) -> Any:
    """Declare a structured value; *parse* checks and converts it."""
    return _declare(Rule(kind=kind, parse=parse), default, kw_only, _encode_value)


def mapping(
    parse: Callable[[Any], Any],
    *,
    names: str | None = None,
    at_least: int | None = None,
    at_most: int | None = None,
    default: Any = NOTHING,
    kw_only: bool = True,
) -> Any:
    """Declare a mapping of names, which match the expression *names*, to structured values."""
    rule = Rule(kind="mapping", min_items=at_least, max_items=at_most, names=names, parse=parse)
    return _declare(
        rule, default, kw_only, lambda values: {k: _encode_value(v) for k, v in values.items()}
    )


def many(
    parse: Callable[[Any], Any],
    *,
    name: str = "",
    at_least: int | None = None,
    at_most: int | None = None,
    encode: Callable[[Any], Any] = _encode_value,
    default: Any = NOTHING,
    kw_only: bool = True,
) -> Any:
    """Declare a list of structured values.

    Args:
        parse: Checks and converts one item; returns an item that is converted already.
        name: The name on the wire, if it is not the field's.
        at_least: The smallest number of items.
        at_most: The largest number of items.
        encode: Makes one item JSON again.
    """
    rule = Rule(name=name, kind="list", min_items=at_least, max_items=at_most, parse=parse)
    return _declare(rule, default, kw_only, lambda items: [encode(item) for item in items])


# Values


@frozen(eq=False, repr=False)
class Answer(Value):
    """The base of all answers: `meta` and `raw` are in each of them, beside its own fields."""

    meta: Meta = field(default=Meta(), kw_only=True, repr=False, eq=False)
    """Facts about the request and the response: ids, attempts, rate limits."""

    raw: Any = field(default=None, kw_only=True, repr=False, eq=False)
    """The decoded result as the service sent it, without bytes and vectors."""

    is_file: ClassVar[bool] = False
    """Whether it is a file, so that `raw` is `None`."""

    has_vectors: ClassVar[bool] = False
    """Whether it is vectors, so that a large response is decoded in slices."""

    def to_dict(self) -> dict[str, Any]:
        """Give the answer as values that JSON can encode, without `meta` and `raw`.

        Bytes become base64 text, vectors lists of floats.
        """
        return fields_to_plain(self, "meta", "raw")


A = TypeVar("A", bound=Answer)


def fields_to_plain(value: Any, *exclude: str) -> dict[str, Any]:
    """Give the fields of an attrs value as a dictionary that JSON can encode."""
    names = (attribute.name for attribute in fields_of(value))
    return {name: to_plain(getattr(value, name)) for name in names if name not in exclude}


def to_plain(value: Any) -> Any:
    """Give a value that JSON can encode: bytes as base64 text, tuples and arrays as lists."""
    if attrs.has(type(value)):
        return fields_to_plain(value, "meta", "raw")
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, array):
        return value.tolist()
    if isinstance(value, bytes):
        return b64encode(value).decode("ascii")
    return value


@dataclass_transform(
    frozen_default=True,
    kw_only_default=True,
    field_specifiers=(
        string, strings, number, integer, flag, choice, media, nested, many, mapping, field,
    ),
)  # fmt: skip
def task(cls: type[T]) -> type[T]:
    """Turn a class into a task: frozen, slotted, with rules that know the names of their fields.

    Also for the class of a value inside a task, if it is a `Declared`.
    """
    task_class: Any = frozen(cls, eq=False, repr=False)
    attributes = [a for a in attrs.fields(task_class) if "rule" in a.metadata]
    task_class._rules, task_class._encoders = {}, ()
    task_class._encode_fields = _write_encoder
    for attribute in sorted(attributes, key=lambda a: not a.metadata["rule"].required):
        rule, encode = attribute.metadata["rule"], attribute.metadata["encode"]
        # The rule exists before the class gives its field a name. Frozen values are set like this.
        object.__setattr__(rule, "name", rule.name or attribute.name)
        task_class._rules[rule.name] = rule
        unset = UNSET if rule.nullable else None
        task_class._encoders += ((attribute.name, rule.name, unset, encode),)
    decorated: type[T] = fast_init(task_class)
    return decorated


def copy_extra(value: Any) -> dict[str, Any] | None:
    """Check and copy `extra`: the fields that a class does not declare.

    Raises:
        InputError: It is not a mapping, or a name is not a string.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InputError(f"extra must be a mapping of names to values, got {shorten(value)}")
    return dict(value)


def _check_extra(task: Task[Any], attribute: Any, extra: dict[str, Any] | None) -> None:
    for name, wire_name, unset, _ in task._encoders if extra else ():
        if extra and wire_name in extra and getattr(task, name) is not unset:
            raise InputError(f"extra must not repeat {wire_name}, which is set already")


class Declared(Value):
    """A value whose fields are declared with rules."""

    __slots__ = ()

    _encoders: ClassVar[tuple[tuple[str, str, Any, Callable[[Any], Any] | None], ...]] = ()
    """Of each field: its name, its wire name, what means "not sent", and what makes it JSON."""

    _rules: ClassVar[Mapping[str, Rule]] = {}

    def payload(self) -> dict[str, Any]:
        """Give the fields that are set as JSON, under their wire names."""
        return self._encode_fields()

    def _encode_fields(self) -> dict[str, Any]:
        """Give the payload. `task` replaces this method in each class."""
        raise NotImplementedError


def _write_encoder(value: Declared) -> dict[str, Any]:
    """Give the payload, after replacing this method of the class by one with a line per field.

    A loop over the fields, of which a few are set, took ten times as long.
    """
    task_class: Any = next(c for c in type(value).__mro__ if "_encode_fields" in vars(c))
    names: dict[str, Any] = {"UNSET": UNSET}
    lines = ["body = {}"]
    for name, wire_name, unset, encode in task_class._encoders:
        names[f"encode_{name}"] = encode
        encoded = "value" if encode is None else f"encode_{name}(value)"
        nothing = "UNSET" if unset is UNSET else "None"
        lines.append(f"value = self.{name}")
        lines.append(f"if value is not {nothing}: body[{wire_name!r}] = {encoded}")
    task_class._encode_fields = write_function("payload", "self", [*lines, "return body"], names)
    return value._encode_fields()


@task
class Task(Declared, Generic[A]):
    """The input of a model: a value that can be stored, compared and sent to many models."""

    answer: ClassVar[type[Answer]] = Answer
    """The class of the answer."""

    texts: ClassVar[str | None] = None
    """The field whose texts get one vector each; `None` if the task has no such field."""

    takes_options: ClassVar[bool] = True
    """Whether the service accepts `options` such as `rejectIfBusy` for it."""

    extra: Mapping[str, Any] | None = field(
        default=None, kw_only=True, converter=copy_extra, validator=_check_extra
    )
    """Fields that the class does not declare: sent unchanged and unchecked.

    A name here may be that of a declared field only if that field is not set.
    """

    def __repr__(self) -> str:
        values = {name: (getattr(self, name), unset) for name, _, unset, _ in self._encoders}
        values["extra"] = (self.extra, None)
        parts = [f"{name}={shorten(v)}" for name, (v, unset) in values.items() if v is not unset]
        return f"{type(self).__name__}({', '.join(parts)})"

    def payload(self) -> dict[str, Any]:
        """Give the fields that are set as JSON; media and `thinking` as they were passed."""
        body = self._encode_fields()
        if self.extra:
            body.update(self.extra)
        return body

    def payload_for(self, model: str) -> dict[str, Any]:
        """Give the JSON body of the request for *model*."""
        return self.payload()

    def reads_files(self) -> bool:
        """Tell whether building the request reads a file. If so, build it in a thread."""
        return False

    def replace(self, **changes: Any) -> Self:
        """Give a copy with other values in some fields. They are checked as in a new task."""
        changed: Self = attrs.evolve(self, **changes)  # type: ignore[misc]  # not known as attrs
        return changed


@task
class MediaTask(Task[A]):
    """A task with an image or a sound."""

    form: ClassVar[MediaForm | None] = None
    """The form of media that the API documents for this task; `None` means integers."""

    media_form: MediaForm | None = field(
        default=None, kw_only=True, converter=attrs.converters.optional(MediaForm.of)
    )
    """How to send the media. Overrides the model's profile; not sent."""

    def reads_files(self) -> bool:
        """Tell whether a media field is a file that is read when the request is built."""
        names = (name for name, rule in self._rules.items() if rule.kind == "media")
        return any(media_blocks(getattr(self, name)) for name in names)


def texts_of(task: Task[Any]) -> tuple[str, ...] | None:
    """Give the texts of a task that get one vector each; `None` if it is no such task."""
    if task.texts is None:
        return None
    texts = getattr(task, task.texts)
    return (texts,) if isinstance(texts, str) else tuple(texts)


def rules(task_class: type[Declared]) -> dict[str, Rule]:
    """Give the rules of a task's fields by wire name, required fields first."""
    return dict(task_class._rules)
