"""Values of frozen classes that are made quickly are those that attrs would make."""

import copy
import inspect
import pickle
from typing import Any

import attrs
import pytest
from attrs import field, frozen
from attrs.exceptions import FrozenInstanceError

from cfai._types.values import fast_init, fast_maker
from cfai.errors import InputError
from cfai.settings import UNSET
from cfai.tasks import Message, Prompt, Task, Text, TextGeneration, Usage


def _upper(value: str) -> str:
    return str.upper(value)


def _twice(value: Any) -> Any:
    return None if value is None else 2 * value


def _check_small(value: Any, _: Any, number: int | None) -> None:
    if number is not None and number > 100:
        raise InputError(f"number must be small, got {number}, text {value.text!r}")


@frozen
class Plain:
    """A class as attrs makes it."""

    text: str = field(converter=_upper)
    number: int | None = field(default=None, converter=_twice, validator=_check_small, kw_only=True)
    listed: list[int] = field(factory=list)
    seen: list[str] = field(factory=list, init=False, eq=False)

    def __attrs_post_init__(self) -> None:
        self.seen.append(f"{self.text} {self.number}")


@fast_init
@frozen
class Fast:
    """The same class, whose values are made in another way."""

    text: str = field(converter=_upper)
    number: int | None = field(default=None, converter=_twice, validator=_check_small, kw_only=True)
    listed: list[int] = field(factory=list)
    seen: list[str] = field(factory=list, init=False, eq=False)

    def __attrs_post_init__(self) -> None:
        self.seen.append(f"{self.text} {self.number}")


class Child(Fast):
    """A subclass of a user, with an `__init__` and attributes of its own."""

    def __init__(self, text: str) -> None:
        super().__init__(text, number=4)


@frozen
class DecoratedChild(Fast):
    """A subclass that attrs writes the `__init__` of."""

    more: int = 0


CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    (("a",), {}),
    (("a", [1]), {"number": 3}),
    ((), {"text": "a", "listed": [2], "number": None}),
]
BAD_CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}),
    (("a", [], 3), {}),
    (("a",), {"number": 51}),
    (("a",), {"other": 1}),
    (("a",), {"text": "b"}),
    ((1,), {}),
]


@pytest.mark.parametrize(("args", "options"), CALLS)
def test_a_value_has_the_fields_that_attrs_would_set(args: Any, options: Any) -> None:
    """Defaults, converters and what runs at the end; each value is frozen, and of its own class."""
    plain, fast = Plain(*args, **options), Fast(*args, **options)
    assert attrs.asdict(fast) == attrs.asdict(plain)
    assert type(fast) is Fast
    for same in (
        pickle.loads(pickle.dumps(fast)),  # noqa: S301  # our own
        copy.deepcopy(fast),
        attrs.evolve(fast, number=None),
    ):
        assert type(same) is Fast
    assert pickle.loads(pickle.dumps(fast)) == fast  # noqa: S301  # our own
    with pytest.raises(FrozenInstanceError):
        fast.text = "b"  # type: ignore[misc]  # that is the point
    with pytest.raises(FrozenInstanceError):
        del fast.text


@pytest.mark.parametrize(("args", "options"), BAD_CALLS)
def test_bad_arguments_raise_the_same_error(args: Any, options: Any) -> None:
    """Of attrs, of a converter and of a validator, which sees the converted fields."""
    errors = []
    for kind in (Plain, Fast):
        with pytest.raises((TypeError, InputError)) as caught:
            kind(*args, **options)
        errors.append((type(caught.value), str(caught.value).replace(kind.__name__, "Plain")))
    assert errors[0] == errors[1]


def test_subclasses_work() -> None:
    """Those that call the `__init__`, and those that have one of attrs."""
    child = Child("a")
    assert (type(child), child.text, child.number, child.seen) == (Child, "A", 8, ["A 8"])
    decorated = DecoratedChild("a", number=2, more=1)
    assert (decorated.text, decorated.number, decorated.more) == ("A", 4, 1)
    with pytest.raises(FrozenInstanceError):
        child.text = "b"  # type: ignore[misc]  # that is the point


def test_the_signature_is_that_of_attrs() -> None:
    """For `help` and for editors, before the first value and after it."""
    assert inspect.signature(Fast).parameters == inspect.signature(Plain).parameters


@pytest.mark.parametrize("cls", [Usage, Text, Message])
def test_a_fast_maker_makes_values_of_the_class(cls: type[Any]) -> None:
    """With the same defaults, by position or by name, and frozen."""
    make = fast_maker(cls)
    required = [a.name for a in attrs.fields(cls) if a.default is attrs.NOTHING]
    for value in (make(*required), make(**dict(zip(required, required, strict=True)))):
        assert type(value) is cls
        assert value == cls(*required)
        with pytest.raises(FrozenInstanceError):
            setattr(value, attrs.fields(cls)[0].name, "b")
        with pytest.raises(FrozenInstanceError):
            delattr(value, attrs.fields(cls)[0].name)


def test_a_fast_maker_converts_and_checks_nothing() -> None:
    """The fields are exactly what was passed; a missing one is a `TypeError`."""
    make: Any = fast_maker(Message)
    assert make(1, [2], extra=3).content == [2]
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'content'"):
        make("user")


def _tasks(cls: type[Task[Any]]) -> list[type[Task[Any]]]:
    return [cls, *(each for sub in cls.__subclasses__() for each in _tasks(sub))]


@pytest.mark.parametrize("cls", _tasks(Task), ids=lambda cls: cls.__name__)
def test_defaults_of_tasks_need_no_conversion(cls: type[Task[Any]]) -> None:
    """Converters are not called for them."""
    attributes: Any = attrs.fields(cls)  # type: ignore[arg-type]  # it is a class of attrs
    for attribute in attributes:
        if attribute.converter is not None and attribute.default is not attrs.NOTHING:
            assert attribute.default is None or attribute.default is UNSET
            assert attribute.converter(attribute.default) is attribute.default


def test_messages_of_two_fields_are_checked_as_others() -> None:
    """A role and a content that are strings need no check; any other does."""
    (message,) = TextGeneration([{"role": "user", "content": "a"}]).messages
    assert message == TextGeneration([{"role": "user", "content": "a", "name": None}]).messages[0]
    for bad in ({"role": 1, "content": "a"}, {"role": "user", "content": 1}, {"role": "user"}):
        with pytest.raises(InputError):
            TextGeneration([bad])
    with pytest.raises(InputError):
        Prompt(None)  # type: ignore[arg-type]  # that is the point
