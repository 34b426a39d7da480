"""`Value` compares, hashes and shows values as attrs does."""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import pytest
from attrs import field, frozen

import cfai
from cfai._types.values import Value
from cfai.meta import Meta
from cfai.profiles import profile
from cfai.settings import Credentials, Timeouts


@frozen(eq=False, repr=False)
class Ours(Value):
    """A class without methods of attrs."""

    name: str
    secret: str | None = field(default=None, repr=False)
    noted: list[int] = field(factory=list, hash=False)
    ignored: int = field(default=0, eq=False)


@frozen
class Theirs:
    """The same class, as attrs makes it."""

    name: str
    secret: str | None = field(default=None, repr=False)
    noted: list[int] = field(factory=list, hash=False)
    ignored: int = field(default=0, eq=False)


FIELDS: list[tuple[Any, ...]] = [("a",), ("a", "b"), ("a", None, [1]), ("a", None, [], 3), ("b",)]


@pytest.mark.parametrize("first", FIELDS)
@pytest.mark.parametrize("second", FIELDS)
def test_values_compare_as_those_of_attrs(first: tuple[Any, ...], second: tuple[Any, ...]) -> None:
    """By the fields that count; equal values have equal hashes."""
    ours, theirs = (Ours(*first), Ours(*second)), (Theirs(*first), Theirs(*second))
    assert (ours[0] == ours[1]) is (theirs[0] == theirs[1])
    assert (hash(ours[0]) == hash(ours[1])) is (hash(theirs[0]) == hash(theirs[1]))
    assert ours[0] != theirs[0]


@pytest.mark.parametrize("fields", FIELDS)
def test_values_are_shown_as_those_of_attrs(fields: tuple[Any, ...]) -> None:
    """Without the fields that are not to be shown."""
    assert repr(Ours(*fields)) == repr(Theirs(*fields)).replace("Theirs", "Ours")


def subclasses(cls: type[Any]) -> Iterator[type[Any]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


def is_in_module(cls: type[Any]) -> bool:
    """attrs replaces a class by one with slots; the first may live on, in a cycle."""
    return attrgetter(cls.__qualname__)(sys.modules[cls.__module__]) is cls


@pytest.fixture(scope="module")
def value_classes() -> list[type[Any]]:
    """All values of the package."""
    modules = [module.name for module in pkgutil.walk_packages(cfai.__path__, "cfai.")]
    for name in modules:
        if not name.startswith(("cfai.cli", "cfai.local", "cfai.web", "cfai.testing", "cfai.__")):
            importlib.import_module(name)
    found = subclasses(Value)
    classes = [cls for cls in found if cls.__module__.startswith("cfai.") and is_in_module(cls)]
    assert len(classes) > 100
    return classes


def test_values_have_slots(value_classes: list[type[Any]]) -> None:
    """A misspelled attribute is an error, and a value is small."""
    assert [cls.__qualname__ for cls in value_classes if cls.__dictoffset__] == []


def test_attrs_generates_no_methods_for_values(value_classes: list[type[Any]]) -> None:
    """It would compile them whenever a program imports the class."""
    generated = [
        f"{cls.__qualname__}.{name}"
        for cls in value_classes
        for name in ("__eq__", "__ne__", "__hash__", "__repr__")
        if name in vars(cls) and inspect.getsourcefile(cls) != code_file(vars(cls)[name])
    ]
    assert generated == []


def code_file(function: Any) -> str | None:
    code = getattr(function, "__code__", None)
    return None if code is None else code.co_filename


def test_settings_and_facts_are_values() -> None:
    assert Timeouts(total=3) == Timeouts(total=3) != Timeouts(total=4)
    assert len({Meta(200), Meta(200), Meta(404)}) == 2
    assert profile("@cf/a/b") == profile("@cf/a/b") != profile("@cf/a/c")
    assert hash(profile("@cf/a/b")) == hash(profile("@cf/a/b"))
    assert "hidden" not in repr(Credentials(api_token="hidden"))
