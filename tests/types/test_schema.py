"""The JSON schema of every kind of type."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    TypeVar,
)
from uuid import UUID

import attrs
import pytest

from cfai._types.function import define_function
from cfai._types.read import TypeMismatch, read_value
from cfai._types.schema import json_schema
from cfai.errors import InputError
from tests.types.classes import (
    ADDRESS,
    NULL,
    Address,
    Colour,
    Film,
    Id,
    Level,
    Mixed,
    Node,
    Person,
    Point,
    Remade,
    TwoHomes,
    an_object,
)


@pytest.mark.parametrize(
    ("kind", "schema"),
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
def test_schemas_of_types(kind: Any, schema: dict[str, Any]) -> None:
    assert json_schema(kind) == schema


def test_recursive_types_refer_to_themselves() -> None:
    schema = json_schema(Node)
    inner = schema["$defs"]["Node"]

    assert {key: value for key, value in schema.items() if key != "$defs"} == inner
    assert inner["properties"]["children"] == {
        "type": "array",
        "items": {"$ref": "#/$defs/Node"},
    }


def test_classes_of_the_same_name_are_kept_apart() -> None:
    other = dataclasses.make_dataclass("Address", [("planet", str)])
    kind = tuple[Address, Address, other, other]  # type: ignore[valid-type]
    assert list(json_schema(kind)["$defs"]) == ["Address", "Address2"]


def test_optional_keys_of_typed_dicts_are_not_required() -> None:
    """Also with quoted annotations, which TypedDict itself does not resolve."""
    schema = json_schema(Remade)
    assert sorted(schema["required"]) == ["by", "title"]
    assert read_value({"title": "a", "by": "b"}, Remade, "film") == {"title": "a", "by": "b"}
    with pytest.raises(TypeMismatch, match=r"film\.title is missing; film\.by must be a string"):
        read_value({"by": 1}, Remade, "film")


@dataclass
class Unknown:
    it: Nowhere  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("kind", "message"),
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
def test_types_without_a_json_form_are_refused_with_their_path(kind: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        json_schema(kind)


@attrs.frozen
class Attrs:
    limit: ClassVar[int] = 9
    a: int
    b: int = 2
    c: list[int] = attrs.field(factory=list)
    d: int | None = None
    e: int = attrs.field(default=5, init=False)


@dataclass
class Data:
    limit: ClassVar[int] = 9
    a: int
    b: int = 2
    c: list[int] = dataclasses.field(default_factory=list)
    d: int | None = None
    e: int = dataclasses.field(default=5, init=False)


class Named(NamedTuple):
    a: int
    b: int = 2
    c: list[int] = []
    d: int | None = None


def build(a: int, b: int = 2, c: list[int] = [], d: int | None = None) -> None:  # noqa: B006  # not called
    """Build."""


@pytest.mark.parametrize("kind", [Attrs, Data, Named, build])
def test_what_can_be_left_out(kind: Any) -> None:
    """Arguments with a default, which the schema names if it is a scalar and not null; no class
    variables, and nothing that `__init__` does not take."""
    schema = define_function(kind).parameters if kind is build else json_schema(kind)
    assert schema["required"] == ["a"]
    assert list(schema["properties"]) == ["a", "b", "c", "d"]
    defaults = {n: rule["default"] for n, rule in schema["properties"].items() if "default" in rule}
    assert defaults == {"b": 2}
    if kind is not build:
        value = read_value({"a": 1}, kind, "it")
        assert (value.a, value.b, value.c, value.d) == (1, 2, [], None)
        assert isinstance(value, kind)
