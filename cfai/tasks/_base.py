"""What all inputs and answers have in common, and the fields that carry their own bounds.

A bound is written once, in the field of a task; its validator, the documentation and the local
server read it from there, through `rules`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Generic, Self, TypeVar, dataclass_transform

import attrs
from attrs import NOTHING, field, frozen

from cfai.errors import InputError
from cfai.media import MediaForm, blocks as media_blocks
from cfai.meta import Meta
from cfai.tasks._plain import plain_fields
from cfai.tasks._rule import Kind, Rule, shortened
from cfai.tasks._value import Value

T = TypeVar("T")


@frozen(eq=False, repr=False)
class Answer(Value):
    """What the service answered: every answer has these, besides its own fields."""

    meta: Meta = field(default=Meta(), kw_only=True, repr=False, eq=False)
    """The facts around it: ids, attempts, limits."""

    raw: Any = field(default=None, kw_only=True, repr=False, eq=False)
    """What the service said, decoded and otherwise untouched; without bytes and vectors."""

    def to_dict(self) -> dict[str, Any]:
        """Give the answer as plain values that JSON knows, without `meta` and `raw`.

        Bytes become base64 text, vectors lists of floats.
        """
        return plain_fields(self, "meta", "raw")


A = TypeVar("A", bound=Answer)


def _field(rule: Rule, default: Any, kw_only: bool, encode: Any = None) -> Any:
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
    """Make a field of text, its bounds in characters."""
    return _field(Rule(kind="text", min_length=at_least, max_length=at_most), default, kw_only)


def strings(
    *,
    one: bool = False,
    at_least: int | None = None,
    at_least_items: int | None = None,
    default: Any = NOTHING,
    kw_only: bool = True,
) -> Any:
    """Make a field of several texts (or, with *one*, also of a single one); each is bounded."""
    kind: Kind = "text or texts" if one else "texts"
    rule = Rule(kind=kind, min_length=at_least, min_items=at_least_items)
    return _field(rule, default, kw_only, encode=_listed)


def number(
    minimum: float | None = None,
    maximum: float | None = None,
    *,
    default: Any = NOTHING,
    kw_only: bool = True,
) -> Any:
    """Make a field of a number, whole or not, within the bounds (both included)."""
    return _field(Rule(kind="number", minimum=minimum, maximum=maximum), default, kw_only)


def integer(
    minimum: int | None = None,
    maximum: int | None = None,
    *,
    default: Any = NOTHING,
    kw_only: bool = True,
) -> Any:
    """Make a field of a whole number within the bounds (both included)."""
    return _field(Rule(kind="integer", minimum=minimum, maximum=maximum), default, kw_only)


def flag(*, default: Any = NOTHING, kw_only: bool = True) -> Any:
    """Make a field that is true or false."""
    return _field(Rule(kind="boolean"), default, kw_only)


def choice(*choices: str, default: Any = NOTHING, kw_only: bool = True) -> Any:
    """Make a field of one of these texts."""
    return _field(Rule(kind="text", choices=choices), default, kw_only)


def media(*, default: Any = NOTHING, kw_only: bool = True) -> Any:
    """Make a field of an image or a sound: a source that `cfai.media` can read."""
    return _field(Rule(kind="media"), default, kw_only)


def nested(
    parse: Callable[[Any], Any],
    *,
    encode: Callable[[Any], Any] | None = None,
    default: Any = NOTHING,
    kw_only: bool = True,
) -> Any:
    """Make a field of one value with a shape of its own, which *parse* checks and makes."""

    def parsed(value: Any) -> Any:
        return None if value == _PLAIN_TEXT else parse(value)

    rule = Rule(kind="object", parse=parsed)
    return _field(rule, default, kw_only, encode=encode or _payload)


# What other services call an answer in no special form. The API has no name for it: it is what
# comes where the field is left out.
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
    """Make a field of several values with a shape of their own; *parse* takes one of them.

    Args:
        parse: Checks and makes one value; hands on what is made already.
        name: The name on the wire, where it is not the field's.
        at_least: The smallest number of values.
        encode: Makes one value plain again.
    """
    rule = Rule(name=name, kind="list", min_items=at_least, parse=parse)
    return _field(rule, default, kw_only, encode=_each(encode or _payload))


def _payload(value: Any) -> Any:
    # A mapping was checked, and passes as it is.
    encode = getattr(value, "payload", None)
    return value if encode is None else encode()


def _listed(value: Any) -> Any:
    return value if isinstance(value, str) else list(value)


def _each(encode: Callable[[Any], Any]) -> Callable[[Iterable[Any]], list[Any]]:
    return lambda values: [encode(value) for value in values]


@dataclass_transform(
    frozen_default=True,
    kw_only_default=True,
    field_specifiers=(string, strings, number, integer, flag, choice, media, nested, many, field),
)
def task(cls: type[T]) -> type[T]:
    """Make a class of a task: frozen, slotted, with fields that know their names."""
    made = frozen(cls, eq=False, repr=False)
    _prepare(made)
    return made


def _prepare(made: Any) -> None:
    ruled = [one for one in attrs.fields(made) if "rule" in one.metadata]
    for one in ruled:
        one.metadata["rule"].named(one.name)
    ruled.sort(key=lambda one: not one.metadata["rule"].required)
    made._rules = {one.metadata["rule"].name: one.metadata["rule"] for one in ruled}
    made._steps = tuple(
        (one.name, one.metadata["rule"].name, one.metadata["encode"]) for one in ruled
    )


def extra_fields(value: Any) -> dict[str, Any] | None:
    """Check and copy the fields that a class does not know.

    Raises:
        InputError: They are no mapping, or a name is no text.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InputError(f"extra must be a mapping of names to values, got {shortened(value)}")
    return dict(value)


def _not_twice(task: Task[Any], attribute: Any, extra: dict[str, Any] | None) -> None:
    for name, wire, _ in task._steps if extra else ():
        if extra and wire in extra and getattr(task, name) is not None:
            raise InputError(f"extra must not repeat {wire}, which is set already")


def _form(value: MediaForm | str | None) -> MediaForm | None:
    return None if value is None else MediaForm.of(value)


@task
class Task(Value, Generic[A]):
    """What a model is asked: a value that can be kept, compared, and sent to many models."""

    answer: ClassVar[type[Answer]] = Answer
    """The class of the answer."""

    texts: ClassVar[str | None] = None
    """The field whose texts get a vector each, where there is one."""

    _steps: ClassVar[tuple[tuple[str, str, Callable[[Any], Any] | None], ...]] = ()
    _rules: ClassVar[Mapping[str, Rule]] = {}

    extra: Mapping[str, Any] | None = field(
        default=None, kw_only=True, converter=extra_fields, validator=_not_twice
    )
    """Fields of the model that this class does not know: sent as they are, and not checked.

    They may stand in for a field that is left out, but not change one that is set.
    """

    def __repr__(self) -> str:
        names = [*(step[0] for step in self._steps), "extra"]
        given = {name: getattr(self, name) for name in names}
        shown = (f"{key}={shortened(one)}" for key, one in given.items() if one is not None)
        return f"{type(self).__name__}({', '.join(shown)})"

    def payload(self) -> dict[str, Any]:
        """Give the JSON body of the request: what is set, under its name on the wire.

        Media stay what they were given as: their form depends on the model.
        """
        body = {}
        for name, wire, encode in self._steps:
            value = getattr(self, name)
            if value is not None:
                body[wire] = value if encode is None else encode(value)
        if self.extra:
            body.update(self.extra)
        return body

    def blocks(self) -> bool:
        """Tell whether there is a file to be read: then call `payload` and the like in a thread."""
        return False

    def replace(self, **changes: Any) -> Self:
        """Give a copy with other values in some fields; they are checked as in a new one."""
        changed: Self = attrs.evolve(self, **changes)  # type: ignore[misc]  # not known as attrs
        return changed


@task
class MediaTask(Task[A]):
    """A task with media in it."""

    form: ClassVar[MediaForm | None] = None
    """The one form of media that the API documents for it, where that is not integers."""

    media_form: MediaForm | None = field(default=None, kw_only=True, converter=_form)
    """How to send the media, where what is known of the model should be overruled; not sent."""

    def blocks(self) -> bool:
        """Tell whether the media is a file to be read."""
        named = (name for name, rule in self._rules.items() if rule.kind == "media")
        return any(media_blocks(getattr(self, name)) for name in named)


def texts_of(task: Task[Any]) -> tuple[str, ...] | None:
    """Give the texts that get a vector each; `None` where it is no such task."""
    if task.texts is None:
        return None
    texts = getattr(task, task.texts)
    return (texts,) if isinstance(texts, str) else tuple(texts)


def rules(task_class: type[Task[Any]]) -> dict[str, Rule]:
    """Give the rules of a task's fields by their names on the wire, the required ones first."""
    return dict(task_class._rules)
