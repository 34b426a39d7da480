"""Schemas of types and functions, and values of these types to JSON and back."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence, Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from functools import partial, wraps
from itertools import repeat
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    Required,
    TypedDict,
    TypeVar,
)
from uuid import UUID

import attrs
import pytest
from attrs import frozen
from hypothesis import given, strategies as st

from cfai._types.function import define_function
from cfai._types.read import TypeMismatch, read_value, write_value
from cfai._types.schema import json_schema
from cfai.errors import InputError


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Mixed(Enum):
    ONE = 1
    TEXT = "text"
    NOTHING = None


@dataclass
class Address:
    """Where somebody lives.

    Args:
        street: With
            its number.
    """

    street: str
    town: str = field(default="Lima", metadata={"description": "A town."})


@frozen
class Person:
    name: str
    age: int | None = None
    home: Address | None = None
    tags: list[str] = attrs.field(factory=list)
    _secret: int = attrs.field(default=0, init=False)


@dataclass
class Node:
    name: str
    children: list[Node] = field(default_factory=list)
    parent: Optional[Node] = None  # noqa: UP045  # the older way to write it


class Film(TypedDict, total=False):
    title: Required[str]
    year: Annotated[int, "When it came out."]


class Remade(Film):
    of: NotRequired[Film]
    by: str


class Point(NamedTuple):
    x: float
    y: float = 0.0


@dataclass
class Cat:
    name: str


@dataclass
class Dog:
    name: str
    breed: str = "mutt"


@dataclass
class Spare:
    first: int = 0
    second: int = 0


@dataclass
class Numbered:
    name: int


@dataclass
class Plus:
    kind: Literal["plus"]
    of: int
    and_of: int = 0


@dataclass
class Times:
    kind: Literal["times"]
    of: int


@dataclass
class TwoHomes:
    first: Address
    second: Annotated[Address, "By the sea."]


Id = NewType("Id", int)

ADDRESS = {
    "type": "object",
    "properties": {
        "street": {"type": "string", "description": "With its number."},
        "town": {"type": "string", "description": "A town.", "default": "Lima"},
    },
    "required": ["street"],
    "additionalProperties": False,
    "description": "Where somebody lives.",
}
NULL = {"type": "null"}


def an_object(required: Sequence[str] = (), **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (None, NULL),
        (Any, {}),
        (object, {}),
        (Id, {"type": "integer"}),
        (datetime, {"type": "string", "format": "date-time"}),
        (date, {"type": "string", "format": "date"}),
        (UUID, {"type": "string", "format": "uuid"}),
        (Colour, {"type": "string", "enum": ["red", "blue"]}),
        (Level, {"type": "integer", "enum": [1, 2]}),
        (Mixed, {"enum": [1, "text", None]}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (Literal[Colour.RED], {"type": "string", "enum": ["red"]}),
        (int | None, {"anyOf": [{"type": "integer"}, NULL]}),
        (list, {"type": "array", "items": {}}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (Sequence[int], {"type": "array", "items": {"type": "integer"}}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (set[int], {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}),
        (
            tuple[int, str],
            {
                "type": "array",
                "prefixItems": [{"type": "integer"}, {"type": "string"}],
                "minItems": 2,
                "maxItems": 2,
            },
        ),
        (dict, {"type": "object", "additionalProperties": {}}),
        (Mapping[str, bool], {"type": "object", "additionalProperties": {"type": "boolean"}}),
        (Annotated[int, 5, "How many."], {"type": "integer", "description": "How many."}),
        (Address, ADDRESS),
        (
            Person,
            an_object(
                ["name"],
                name={"type": "string"},
                age={"anyOf": [{"type": "integer"}, NULL]},
                home={"anyOf": [ADDRESS, NULL]},
                tags={"type": "array", "items": {"type": "string"}},
            ),
        ),
        (
            Film,
            an_object(
                ["title"],
                title={"type": "string"},
                year={"type": "integer", "description": "When it came out."},
            ),
        ),
        (Point, an_object("x", x={"type": "number"}, y={"type": "number", "default": 0.0})),
        (
            TwoHomes,
            {
                **an_object(
                    ["first", "second"],
                    first={"$ref": "#/$defs/Address"},
                    second={"$ref": "#/$defs/Address", "description": "By the sea."},
                ),
                "$defs": {"Address": ADDRESS},
            },
        ),
    ],
)
def test_a_type_has_its_schema(kind: Any, made: dict[str, Any]) -> None:
    assert json_schema(kind) == made


def test_a_type_that_holds_itself_refers_to_itself() -> None:
    made = json_schema(Node)
    inner = made["$defs"]["Node"]

    assert {key: value for key, value in made.items() if key != "$defs"} == inner
    assert inner["properties"]["children"] == {
        "type": "array",
        "items": {"$ref": "#/$defs/Node"},
    }


def test_two_classes_of_one_name_are_two() -> None:
    other = dataclasses.make_dataclass("Address", [("planet", str)])
    kind = tuple[Address, Address, other, other]  # type: ignore[valid-type]
    assert list(json_schema(kind)["$defs"]) == ["Address", "Address2"]


def test_keys_that_may_be_missing_are_not_required() -> None:
    """Also where the annotations are texts, which TypedDict itself does not see through."""
    made = json_schema(Remade)
    assert sorted(made["required"]) == ["by", "title"]
    assert read_value({"title": "a", "by": "b"}, Remade, "film") == {"title": "a", "by": "b"}
    with pytest.raises(TypeMismatch, match=r"film\.title is missing; film\.by must be a string"):
        read_value({"by": 1}, Remade, "film")


@dataclass
class Unknown:
    it: Nowhere  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (bytes, "bytes: bytes has no JSON form"),
        (complex, "complex: complex has no JSON form"),
        (list[bytes], r"list\[\]: bytes has no JSON form"),
        (dict[int, str], r"dict: dict\[int, str\] has no JSON form; the keys of an object must be"),
        (dict[str, list[complex]], r"dict\{\}\[\]: complex has no JSON form"),
        (tuple[int, bytes], r"tuple\[1\]: bytes has no JSON form"),
        (Callable[[], int], "has no JSON form"),
        (Enum("Nothing", []), "a choice must have at least one value"),
        (TypeVar("T"), "~T has no JSON form"),
        ("text", "text has no JSON form"),
        (Literal[b"x"], "a choice must be a string, a number or null, got b'x'"),
        (Unknown, "can.t resolve the types of Unknown: name 'Nowhere' is not defined"),
        (
            dataclasses.make_dataclass("Deep", [("it", list[bytes])]),
            r"Deep\.it\[\]: bytes has no JSON",
        ),
    ],
)
def test_what_json_lacks_is_refused_where_it_stands(kind: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        json_schema(kind)


# Functions


def google(
    city: Annotated[str, "Its name."], days: int = 3, *, unit: Literal["c", "f"] = "c"
) -> str:
    """Say how the
    weather is.

    It may rain.

    Args:
        city: Not used: the annotation says it already.
        days (int, optional): How many days
            ahead.
        unit: Celsius or Fahrenheit.

    Returns:
        unit: No parameter.
    """
    return f"{city}{days}{unit}"


def numpy(city: str, days: int = 3, *, unit: Literal["c", "f"] = "c") -> str:
    """Say how the weather is.

    Parameters
    ----------
    city : str
        Its name.
    days, unused : int, optional
        How many days
        ahead.
    unit
        Celsius or Fahrenheit.

    Returns
    -------
    unit : str
        No parameter.
    """
    return f"{city}{days}{unit}"


def sphinx(city: str, days: int = 3, *, unit: Literal["c", "f"] = "c") -> str:
    """Say how the weather is.
    :param str city: Its name.
    :param days: How many days
        ahead.
    :param unit: Celsius or Fahrenheit.
    :returns: No parameter.
    """
    return f"{city}{days}{unit}"


@pytest.mark.parametrize("function", [google, numpy, sphinx])
def test_a_docstring_describes_a_function(function: Callable[..., Any]) -> None:
    """In each of the three usual styles."""
    made = define_function(function)
    assert made.name == function.__name__
    assert made.description == "Say how the weather is."
    assert made.parameters == an_object(
        ["city"],
        city={"type": "string", "description": "Its name."},
        days={"type": "integer", "description": "How many days ahead.", "default": 3},
        unit={
            "type": "string",
            "enum": ["c", "f"],
            "description": "Celsius or Fahrenheit.",
            "default": "c",
        },
    )


def test_a_method_is_a_function_without_its_self() -> None:
    class Shop:
        def price(self, of: str) -> float:
            return float(len(of))

    made = define_function(Shop().price)
    assert (made.name, made.description) == ("price", "price")
    assert made.parameters["required"] == ["of"]


def test_what_is_given_already_is_not_told() -> None:
    """A tool may hold what is not the model's to choose: a database, the user who asks."""

    def orders(database: bytes, customer: int, since: date) -> str:
        """List the orders."""
        return f"{database!r} {customer} {since}"

    made = define_function(partial(partial(orders, database=b""), customer=7))
    assert (made.name, made.description) == ("orders", "List the orders.")
    assert list(made.parameters["properties"]) == ["since"]


def fetch(url: str, api_key: str, days: int = 3) -> DataFrame:  # type: ignore[name-defined]  # noqa: F821
    """Fetch it.

    Args:
        url (dict(str, int)): Where it is.
    """


def test_what_a_partial_binds_is_not_told_and_not_asked_for() -> None:
    """It may be a secret, or whose things a tool may touch; and it has a name and a docstring."""
    made = define_function(partial(fetch, api_key="sk-secret"))
    assert (made.name, made.description) == ("fetch", "Fetch it.")
    assert made.parameters == an_object(
        ["url"],
        url={"type": "string", "description": "Where it is."},
        days={"type": "integer", "default": 3},
    )
    assert [one.name for one in made.fields] == ["url", "days"]
    assert define_function(partial(fetch, "here")).parameters["required"] == ["api_key"]


def test_what_a_wrapped_partial_binds_is_not_told_either() -> None:
    inner = partial(fetch, api_key="sk-secret")

    @wraps(inner)
    def retried(*args: Any, **keywords: Any) -> Any:
        return inner(*args, **keywords)

    made = define_function(partial(retried, days=1), name="fetch")
    assert list(made.parameters["properties"]) == ["url"]


class Weather:
    """Where it comes from."""

    def __call__(self, city: str, days: int = None) -> str:  # type: ignore[assignment]  # noqa: RUF013
        """Say how it is.
        Returns: A sentence.

        Args:
            city: Its name.
        """
        return f"{city}{days}"


def test_a_value_that_can_be_called_says_how_at_its_method() -> None:
    """And a default of `None` is one that the model may give."""
    made = define_function(Weather())
    assert (made.name, made.description) == ("Weather", "Say how it is.")
    assert made.parameters == an_object(
        ["city"],
        city={"type": "string", "description": "Its name."},
        days={"anyOf": [{"type": "integer"}, NULL]},
    )


def test_quoted_types_of_parameters_are_resolved() -> None:
    def plant(tree: list[Node], depth: int | None = 3) -> None: ...

    made = define_function(plant)
    assert [one.kind for one in made.fields] == [list[Node], int | None]


def test_a_default_that_does_not_fit_is_not_told() -> None:
    """A model may send it back, and JSON lacks some."""

    def tool(a: int = "no", b: float = math.inf, c: float = math.nan, d: float = 1) -> None: ...  # type: ignore[assignment]

    properties = define_function(tool).parameters["properties"]
    assert [name for name, said in properties.items() if "default" in said] == ["d"]


def test_what_an_annotation_raises_is_an_error_of_ours() -> None:
    def tool(a: int) -> None: ...

    for said, says in (("json.Nope", "no attribute 'Nope'"), ("1/0", "division by zero")):
        tool.__annotations__["a"] = said
        with pytest.raises(InputError, match=f"tool: can't read its signature: .*{says}"):
            define_function(tool)


# Values


@pytest.mark.parametrize(
    ("value", "kind", "says"),
    [
        (2.9, int, "it must be a whole number, got 2.9"),
        (True, int, "it must be a whole number, got true"),
        (float("inf"), int, "it must be a whole number"),
        # What JSON has no whole number for was rounded on its way.
        (float(2**60), int, "it must be a whole number"),
        ("3", int, 'it must be a whole number, got "3"'),
        ("false", bool, 'it must be true or false, got "false"'),
        (0, bool, "it must be true or false, got 0"),
        (None, str, "it must be a string, got null"),
        (6, str, "it must be a string, got 6"),
        ("0.5", float, "it must be a number"),
        (10**400, float, "it must be a 64-bit number"),
        ("abc", list[str], 'it must be a list, got "abc"'),
        ({"a": 1}, list[str], "it must be a list"),
        ([["a"]], list[str], r'it\[0\] must be a string, got \["a"\]'),
        ([1], tuple[int, str], "it must be a list of 2"),
        ([1, 2], tuple[int, str], r"it\[1\] must be a string, got 2"),
        ([1], dict, "it must be an object"),
        ({"a": "x"}, dict[str, int], r"it\['a'\] must be a whole number"),
        ("green", Colour, 'it must be one of "red", "blue", got "green"'),
        (True, Level, "it must be one of 1, 2, got true"),
        (1, Literal["1", True], 'it must be one of "1", true, got 1'),
        ("2026-01-31", datetime, "it must be a date and time such as"),
        ("soon", date, "it must be a date such as"),
        ("x", UUID, "it must be a UUID"),
        ("x", Decimal, "it must be a decimal number"),
        ("NaN", Decimal, "it must be a decimal number"),
        ("-Infinity", Decimal, "it must be a decimal number"),
        ("1_000", Decimal, "it must be a decimal number"),
        ("\N{FULLWIDTH DIGIT ONE}", Decimal, "it must be a decimal number"),
        (float("inf"), Decimal, "it must be a decimal number"),
        (float("inf"), float, "it must be a 64-bit number"),
        (float("nan"), float, "it must be a 64-bit number"),
        ("2026-W05-6", date, "it must be a date such as"),
        ("20260131", date, "it must be a date such as"),
        ("2026-W05-6T12:00", datetime, "it must be a date and time such as"),
        ("1200", time, "it must be a time such as"),
        ([1], tuple[()], "it must be a list of 0"),
        ({"x": 1}, Film | None, r"it\.title is missing"),
        ({"other": 1}, Spare, "it must be an object with first, second, got"),
        ([{"other": 1}], list[Spare], r"it\[0\] must be an object with first, second, got"),
        (2, Literal[1, "a"], 'it must be one of 1, "a", got 2'),
        (5, Cat | Dog, "it must be an object, got 5"),
        ({"breed": "x"}, Cat | Dog, r"it\.name is missing"),
        ({"street": None}, Address, r"it\.street must be a string, got null"),
        ({}, Point, r"it\.x is missing"),
        (
            {"name": "a", "children": [{"name": "b", "children": [{}]}]},
            Node,
            r"it\.children\[0\]\.children\[0\]\.name is missing",
        ),
        ("x" * 500, int, "got .{80}$"),
    ],
)
def test_a_value_that_does_not_fit_is_told_with_the_rule(value: Any, kind: Any, says: str) -> None:
    with pytest.raises(TypeMismatch, match=says):
        read_value(value, kind, "it")


def test_a_class_that_raises_a_key_error_misses_nothing() -> None:
    @dataclass
    class Sure:
        it: int

        def __post_init__(self) -> None:
            raise KeyError("nope")

    with pytest.raises(TypeMismatch, match="Sure 'nope'"):
        read_value({"it": 1}, Sure, "Sure")


def test_the_rules_of_a_class_itself_count() -> None:
    """Validators of attrs, and what a dataclass checks when it is made."""

    @frozen
    class Dice:
        eyes: int = attrs.field(validator=attrs.validators.le(6))

    with pytest.raises(TypeMismatch, match=r"'eyes' must be <= 6: 7"):
        read_value({"eyes": 7}, Dice, "Dice")


@pytest.mark.parametrize(
    ("value", "kind", "meant"),
    [
        (3.0, int, 3),
        (3, float, 3.0),
        (1, int | float, 1),
        (1.5, int | float, 1.5),
        ("2026-01-31", str | date, date(2026, 1, 31)),
        ("soon", date | str, "soon"),
        ("red", str | Colour, Colour.RED),
        ({"name": "a", "breed": "x"}, Cat | Dog, Dog("a", "x")),
        ({"name": "a"}, Dog | Cat, Cat("a")),
        ({"name": "a", "more": 1}, Cat, Cat("a")),
        (1.5, Decimal, Decimal("1.5")),
        (None, Cat | None, None),
        (1.0, Literal[1, 2], 1),
        (1.0, Level, Level.LOW),
        ({"first": 1}, Spare | dict[str, Any], Spare(1)),
        ({"first": 1}, dict[str, Any] | Spare, Spare(1)),
        ({"first": 1, "more": 2}, Spare | dict[str, Any], {"first": 1, "more": 2}),
        ({"kind": "times", "of": 3}, Plus | Times, Times("times", 3)),
        ({"kind": "times", "of": 3}, Times | Plus, Times("times", 3)),
        ({"name": 3}, Cat | Numbered, Numbered(3)),
        ([{"name": "a"}], list[Numbered] | list[Cat], [Cat("a")]),
        ([], tuple[()], ()),
        ([1, "a"], list[int | str], [1, "a"]),
    ],
)
def test_a_value_is_read_as_what_it_looks_most_like(value: Any, kind: Any, meant: Any) -> None:
    made = read_value(value, kind, "it")
    assert made == meant
    assert type(made) is type(meant)


# Values of generated types: to JSON, and back; and their JSON fits their schema

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
PLAIN: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, TEXTS),
    (int, st.integers(-(2**53), 2**53)),
    (float, FLOATS),
    (bool, st.booleans()),
    (type(None), st.none()),
    (Literal["a", 1] | None, st.sampled_from(["a", 1, None])),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (datetime, st.datetimes() | st.datetimes(timezones=st.just(UTC))),
    (date, st.dates()),
    (time, st.times()),
    (UUID, st.uuids()),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (Point, st.builds(Point, FLOATS, FLOATS)),
    (Address, st.builds(Address, TEXTS, TEXTS)),
    (Person, st.builds(Person, TEXTS, st.none() | st.integers(0, 99), tags=st.lists(TEXTS))),
    (Cat | Dog | None, st.none() | st.builds(Cat, TEXTS) | st.builds(Dog, TEXTS, TEXTS)),
    (Film, st.fixed_dictionaries({"title": TEXTS}, optional={"year": st.integers(0, 9)})),
    (Node, st.recursive(
        st.builds(Node, TEXTS), lambda inner: st.builds(Node, TEXTS, st.lists(inner, max_size=2))
    )),
]  # fmt: skip


@frozen
class Typed:
    """A generated type with a value of it."""

    kind: Any
    value: Any


@st.composite
def typed(draw: st.DrawFn, depth: int = 2) -> Typed:
    form = draw(st.sampled_from(["plain", "list", "dict", "tuple", "optional", "class", "attrs"]))
    if depth == 0 or form == "plain":
        kind, values = draw(st.sampled_from(PLAIN))
        return Typed(kind, draw(values))
    inner = draw(typed(depth - 1))
    if form == "list":
        return Typed(list[inner.kind], [inner.value] * draw(st.integers(0, 2)))  # type: ignore[name-defined]
    if form == "dict":
        keys = draw(st.lists(TEXTS, max_size=2))
        return Typed(dict[str, inner.kind], dict.fromkeys(keys, inner.value))  # type: ignore[name-defined]
    if form == "tuple":
        other = draw(typed(depth - 1))
        return Typed(tuple[inner.kind, other.kind], (inner.value, other.value))  # type: ignore[name-defined]
    if form == "optional":
        return Typed(Optional[inner.kind], draw(st.sampled_from([None, inner.value])))  # noqa: UP045
    if form == "attrs":
        made = attrs.make_class("Made", {"it": attrs.field(type=inner.kind)}, frozen=True)
        return Typed(made, made(inner.value))
    generated: Any = dataclasses.make_dataclass("Generated", [("it", inner.kind)])
    return Typed(generated, generated(inner.value))


def fits(value: Any, rule: Mapping[str, Any], whole: Mapping[str, Any]) -> bool:
    """Whether a JSON value fits a schema, as far as ours go."""
    if "$ref" in rule:
        return fits(value, whole["$defs"][rule["$ref"].removeprefix("#/$defs/")], whole)
    if "anyOf" in rule:
        return any(fits(value, one, whole) for one in rule["anyOf"])
    if "enum" in rule and value not in rule["enum"]:
        return False
    match rule.get("type"):
        case "object":
            return isinstance(value, dict) and fits_object(value, rule, whole)
        case "array":
            rules = rule.get("prefixItems") or repeat(rule["items"])
            return isinstance(value, list) and all(map(fits, value, rules, repeat(whole)))
        case str(kind):
            return type(value) in KINDS[kind]
    return True


KINDS: dict[str, set[type[Any]]] = {
    "string": {str},
    "integer": {int},
    "number": {int, float},
    "boolean": {bool},
    "null": {type(None)},
}


def fits_object(value: dict[str, Any], rule: Mapping[str, Any], whole: Mapping[str, Any]) -> bool:
    known = rule.get("properties", {})
    more = rule["additionalProperties"]
    return set(rule.get("required", ())) <= value.keys() and all(
        fits(one, known[key], whole)
        if key in known
        else more is not False and fits(one, more, whole)
        for key, one in value.items()
    )


@given(typed())
def test_a_value_of_any_type_goes_to_json_and_back(typed: Typed) -> None:
    """It comes back as it was, and its JSON fits the schema of its type."""
    text = json.dumps(write_value(typed.value), allow_nan=False)
    back = read_value(json.loads(text), typed.kind, "it")

    assert back == typed.value
    made = json_schema(typed.kind)
    assert fits(json.loads(text), made, made)


@given(st.sets(st.integers(0, 9)))
def test_sets_are_lists_without_an_order(value: set[int]) -> None:
    text = json.dumps(write_value(value))
    assert read_value(json.loads(text), set[int], "it") == value
    assert read_value(json.loads(text), frozenset[int], "it") == frozenset(value)
    assert read_value(json.loads(text), AbstractSet[int], "it") == value


def test_what_is_nested_too_deep_is_no_crash() -> None:
    value: Any = []
    for _ in range(sys.getrecursionlimit() * 2):
        value = [value]
    deep: Any = {"name": "a"}
    for _ in range(sys.getrecursionlimit()):
        deep = {"name": "a", "children": [deep]}
    assert read_value(value, Any, "it") is value
    with pytest.raises(TypeMismatch):
        read_value(deep, Node, "it")
