"""The base classes of tasks and answers, and the decorator that turns a class into a task.

Fields with their bounds are declared with the functions of `cfai.tasks.fields`.
"""

from __future__ import annotations

from array import array
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, Self, TypeVar, dataclass_transform

import attrs
from attrs import field, frozen

from cfai.errors import InputError
from cfai.media import MediaForm, blocks as media_blocks
from cfai.meta import Meta
from cfai.tasks.fields import (
    Rule,
    choice,
    flag,
    integer,
    many,
    media,
    nested,
    number,
    shorten,
    string,
    strings,
)

T = TypeVar("T")


class Value:
    """Comparison, hash and repr of all values.

    attrs would generate these for each class, which is half of the cost of importing it.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return _comparison_key(self) == _comparison_key(other)

    def __hash__(self) -> int:
        return hash((type(self), *_comparison_key(self)))

    def __repr__(self) -> str:
        parts = (f"{a.name}={getattr(self, a.name)!r}" for a in _attributes(self) if a.repr)
        return f"{type(self).__name__}({', '.join(parts)})"


def _attributes(value: Any) -> tuple[Any, ...]:
    attributes: tuple[Any, ...] = attrs.fields(type(value))
    return attributes


def _comparison_key(value: object) -> tuple[Any, ...]:
    return tuple([getattr(value, a.name) for a in _attributes(value) if a.eq])


@frozen(eq=False, repr=False)
class Answer(Value):
    """The base of all answers: `meta` and `raw` are in each of them, beside its own fields."""

    meta: Meta = field(default=Meta(), kw_only=True, repr=False, eq=False)
    """Facts about the request and the response: ids, attempts, rate limits."""

    raw: Any = field(default=None, kw_only=True, repr=False, eq=False)
    """The decoded result as the service sent it, without bytes and vectors."""

    def to_dict(self) -> dict[str, Any]:
        """Give the answer as values that JSON can encode, without `meta` and `raw`.

        Bytes become base64 text, vectors lists of floats.
        """
        return fields_to_plain(self, "meta", "raw")


A = TypeVar("A", bound=Answer)


def fields_to_plain(value: Any, *exclude: str) -> dict[str, Any]:
    """Give the fields of an attrs value as a dictionary that JSON can encode."""
    names = (attribute.name for attribute in attrs.fields(type(value)))
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
    field_specifiers=(string, strings, number, integer, flag, choice, media, nested, many, field),
)
def task(cls: type[T]) -> type[T]:
    """Turn a class into a task: frozen, slotted, with rules that know the names of their fields."""
    task_class = frozen(cls, eq=False, repr=False)
    _collect_rules(task_class)
    return task_class


def _collect_rules(task_class: Any) -> None:
    attributes = [a for a in attrs.fields(task_class) if "rule" in a.metadata]
    for attribute in attributes:
        rule = attribute.metadata["rule"]
        # The rule exists before the class gives its field a name. Frozen values are set like this.
        object.__setattr__(rule, "name", rule.name or attribute.name)
    attributes.sort(key=lambda attribute: not attribute.metadata["rule"].required)
    task_class._rules = {a.metadata["rule"].name: a.metadata["rule"] for a in attributes}
    task_class._encoders = tuple(
        (a.name, a.metadata["rule"].name, a.metadata["encode"]) for a in attributes
    )


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
    for name, wire_name, _ in task._encoders if extra else ():
        if extra and wire_name in extra and getattr(task, name) is not None:
            raise InputError(f"extra must not repeat {wire_name}, which is set already")


def _media_form(value: MediaForm | str | None) -> MediaForm | None:
    return None if value is None else MediaForm.of(value)


@task
class Task(Value, Generic[A]):
    """The input of a model: a value that can be stored, compared and sent to many models."""

    answer: ClassVar[type[Answer]] = Answer
    """The class of the answer."""

    texts: ClassVar[str | None] = None
    """The field whose texts get one vector each; `None` if the task has no such field."""

    _encoders: ClassVar[tuple[tuple[str, str, Callable[[Any], Any] | None], ...]] = ()
    """Of each field: its name, its name on the wire, and the function that makes it JSON."""

    _rules: ClassVar[Mapping[str, Rule]] = {}

    extra: Mapping[str, Any] | None = field(
        default=None, kw_only=True, converter=copy_extra, validator=_check_extra
    )
    """Fields that the class does not declare: sent unchanged and unchecked.

    A name here may be that of a declared field only if that field is not set.
    """

    def __repr__(self) -> str:
        names = [*(name for name, *_ in self._encoders), "extra"]
        values = {name: getattr(self, name) for name in names}
        parts = (f"{name}={shorten(v)}" for name, v in values.items() if v is not None)
        return f"{type(self).__name__}({', '.join(parts)})"

    def payload(self) -> dict[str, Any]:
        """Give the JSON body of the request: the fields that are set, under their wire names.

        Media are left as they were passed, since their form depends on the model.
        """
        body = {}
        for name, wire_name, encode in self._encoders:
            value = getattr(self, name)
            if value is not None:
                body[wire_name] = value if encode is None else encode(value)
        if self.extra:
            body.update(self.extra)
        return body

    def blocks(self) -> bool:
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

    media_form: MediaForm | None = field(default=None, kw_only=True, converter=_media_form)
    """How to send the media. Overrides the model's profile; not sent."""

    def blocks(self) -> bool:
        """Tell whether a media field is a file that is read when the request is built."""
        names = (name for name, rule in self._rules.items() if rule.kind == "media")
        return any(media_blocks(getattr(self, name)) for name in names)


def texts_of(task: Task[Any]) -> tuple[str, ...] | None:
    """Give the texts of a task that get one vector each; `None` if it is no such task."""
    if task.texts is None:
        return None
    texts = getattr(task, task.texts)
    return (texts,) if isinstance(texts, str) else tuple(texts)


def rules(task_class: type[Task[Any]]) -> dict[str, Rule]:
    """Give the rules of a task's fields by wire name, required fields first."""
    return dict(task_class._rules)
