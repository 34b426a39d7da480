"""Values of a user's types from JSON and back: errors, unions, generated types."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from itertools import repeat
from typing import (
    Any,
    Literal,
    Optional,
)
from uuid import UUID

import attrs
import pytest
from attrs import frozen
from hypothesis import given, strategies as st

from cfai._types.read import TypeMismatch, read_value, write_value
from cfai._types.schema import json_schema
from tests.types.classes import (
    Address,
    Cat,
    Colour,
    Dog,
    Film,
    Level,
    Measured,
    Named,
    Node,
    Numbered,
    Person,
    Plus,
    Point,
    Spare,
    Times,
)


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (2.9, int, "it must be a whole number, got 2.9"),
        (True, int, "it must be a whole number, got true"),
        (float("inf"), int, "it must be a whole number"),
        # What JSON has no root number for was rounded on its way.
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
def test_a_mismatch_names_path_rule_and_value(value: Any, kind: Any, message: str) -> None:
    with pytest.raises(TypeMismatch, match=message):
        read_value(value, kind, "it")


def test_a_key_error_of_a_class_is_not_a_missing_field() -> None:
    @dataclass
    class Sure:
        it: int

        def __post_init__(self) -> None:
            raise KeyError("nope")

    with pytest.raises(TypeMismatch, match="Sure 'nope'"):
        read_value({"it": 1}, Sure, "Sure")


def test_validators_of_a_class_apply() -> None:
    """Validators of attrs are run."""

    @frozen
    class Dice:
        eyes: int = attrs.field(validator=attrs.validators.le(6))

    with pytest.raises(TypeMismatch, match=r"'eyes' must be <= 6: 7"):
        read_value({"eyes": 7}, Dice, "Dice")


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
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
        # By the types of a field that is itself a union.
        ({"size": "big"}, Measured | Named, Named("big")),
        ({"size": None}, Measured | Named, Named(None)),
        ({"size": 3}, Named | Measured, Measured(3)),
        ({"size": [1]}, Named | Measured, Measured([1])),
        ([{"name": "a"}], list[Numbered] | list[Cat], [Cat("a")]),
        ([], tuple[()], ()),
        ([1, "a"], list[int | str], [1, "a"]),
    ],
)
def test_the_most_likely_member_of_a_union_is_read(value: Any, kind: Any, expected: Any) -> None:
    result = read_value(value, kind, "it")
    assert result == expected
    assert type(result) is type(expected)


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
    """A generated type and a value of it."""

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
        attrs_class = attrs.make_class("Made", {"it": attrs.field(type=inner.kind)}, frozen=True)
        return Typed(attrs_class, attrs_class(inner.value))
    generated: Any = dataclasses.make_dataclass("Generated", [("it", inner.kind)])
    return Typed(generated, generated(inner.value))


def fits(value: Any, rule: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    """Tell whether a JSON value matches a schema, with the keywords that ours use."""
    if "$ref" in rule:
        return fits(value, root["$defs"][rule["$ref"].removeprefix("#/$defs/")], root)
    if "anyOf" in rule:
        return any(fits(value, member, root) for member in rule["anyOf"])
    if "enum" in rule and value not in rule["enum"]:
        return False
    match rule.get("type"):
        case "object":
            return isinstance(value, dict) and fits_object(value, rule, root)
        case "array":
            rules = rule.get("prefixItems") or repeat(rule["items"])
            return isinstance(value, list) and all(map(fits, value, rules, repeat(root)))
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


def fits_object(value: dict[str, Any], rule: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    properties = rule.get("properties", {})
    additional = rule["additionalProperties"]
    return set(rule.get("required", ())) <= value.keys() and all(
        fits(item, properties[key], root)
        if key in properties
        else additional is not False and fits(item, additional, root)
        for key, item in value.items()
    )


@given(typed())
def test_values_of_generated_types_round_trip(typed: Typed) -> None:
    """The value is unchanged, and its JSON matches the schema of its type."""
    text = json.dumps(write_value(typed.value), allow_nan=False)
    back = read_value(json.loads(text), typed.kind, "it")

    assert back == typed.value
    schema = json_schema(typed.kind)
    assert fits(json.loads(text), schema, schema)


@given(st.sets(st.integers(0, 9)))
def test_sets_are_lists_in_json(value: set[int]) -> None:
    text = json.dumps(write_value(value))
    assert read_value(json.loads(text), set[int], "it") == value
    assert read_value(json.loads(text), frozenset[int], "it") == frozenset(value)
    assert read_value(json.loads(text), AbstractSet[int], "it") == value


def test_values_nested_too_deep_are_type_mismatches() -> None:
    value: Any = []
    for _ in range(sys.getrecursionlimit() * 2):
        value = [value]
    deep: Any = {"name": "a"}
    for _ in range(sys.getrecursionlimit()):
        deep = {"name": "a", "children": [deep]}
    assert read_value(value, Any, "it") is value
    with pytest.raises(TypeMismatch):
        read_value(deep, Node, "it")
