"""Generic classes with their arguments, and aliases: their schemas and their values."""

import dataclasses
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NotRequired,
    Required,
    TypedDict,
    TypeVar,
)

import attrs
import msgspec
import pytest
from pydantic import BaseModel, Field
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypeAliasType, TypedDict as ExtensionsTypedDict

from cfai._types.kinds import type_name
from cfai._types.read import TypeMismatch, read_value, write_value
from cfai._types.schema import json_schema

T = TypeVar("T")
U = TypeVar("U")


@dataclasses.dataclass(frozen=True)
class Data(Generic[T]):
    a: T
    b: "list[T] | None" = None


@attrs.frozen
class Attrs(Generic[T]):
    a: T
    b: dict[str, T] = attrs.field(factory=dict)


@attrs.define
class Mutable(Generic[T]):
    a: Annotated[T, "The first."]


class Dict(TypedDict, Generic[T]):
    a: Required[T]
    b: NotRequired[list[T]]


class ExtensionsDict(ExtensionsTypedDict, Generic[T]):
    a: Required[T]
    b: NotRequired[list[T]]


class Tuple(NamedTuple, Generic[T]):
    a: T
    b: int = 1


class Struct(msgspec.Struct, Generic[T]):
    a: T


class Model(BaseModel, Generic[T]):
    a: T


@pydantic_dataclass
class Pydantic(Generic[T]):
    a: T


@dataclasses.dataclass(frozen=True)
class Child(Data[T], Generic[T, U]):
    c: U = dataclasses.field(kw_only=True)


@dataclasses.dataclass
class Numbers(Generic[T]):
    a: T


@dataclasses.dataclass
class Named(Numbers[int], Generic[T]):
    """The base has another type for the same variable."""

    name: T


class ChildDict(Dict[int], Generic[T]):
    c: T


@dataclasses.dataclass
class Grandchild(Named[str]):
    pass


@attrs.frozen
class Town:
    name: str


DICTS = (Dict, ExtensionsDict)

CLASSES: list[Any] = [Data, Attrs, Mutable, *DICTS, Tuple, Struct, Model, Pydantic]


def is_read(kind: Any, value: Any) -> Any:
    return read_value(value, kind, "it")


@pytest.mark.parametrize("kind", CLASSES)
def test_a_generic_class_has_the_types_of_its_arguments(kind: Any) -> None:
    """In the schema, in values, in errors, in lists, in unions and inside itself."""
    numbers: Any = kind[int]
    nested = kind[kind[int]]
    schema = json_schema(numbers)
    assert schema["type"] == "object"
    assert schema["properties"]["a"]["type"] == "integer"
    value = is_read(numbers, {"a": 5})
    assert (value["a"] if kind in DICTS else value.a) == 5
    assert write_value(value)["a"] == 5 if kind is not Tuple else value[0] == 5
    assert is_read(list[numbers], [{"a": 5}]) == [value]
    assert is_read(numbers | list[str], {"a": 5}) == value
    inner = is_read(nested, {"a": {"a": 5}})
    assert (inner["a"] if kind in DICTS else inner.a) == value
    with pytest.raises(TypeMismatch, match=r"^it\.a "):
        is_read(numbers, {"a": "x"})
    if kind not in (Struct, Model, Pydantic):
        town = is_read(kind[Town], {"a": {"name": "Lima"}})
        assert (town["a"] if kind in DICTS else town.a) == Town("Lima")


def test_a_class_with_generic_bases_has_their_arguments() -> None:
    def types(kind: Any) -> dict[str, Any]:
        properties = json_schema(kind)["properties"]
        return {name: rule.get("type", rule.get("anyOf")) for name, rule in properties.items()}

    lists = [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]
    assert types(Child[str, bool]) == {"a": "string", "b": lists, "c": "boolean"}
    assert types(Named[str]) == {"a": "integer", "name": "string"}
    assert types(Grandchild) == {"a": "integer", "name": "string"}
    assert types(ChildDict[str]) == {"a": "integer", "b": "array", "c": "string"}
    assert is_read(Grandchild, {"a": 1, "name": "x"}) == Grandchild(1, "x")
    assert is_read(ChildDict[str], {"a": 1, "c": "x"}) == {"a": 1, "c": "x"}
    with pytest.raises(TypeMismatch, match=r"it\.a must be a whole number"):
        is_read(Named[str], {"a": "x", "name": "x"})


def test_two_uses_of_a_generic_class_have_two_definitions() -> None:
    schema = json_schema(tuple[Data[int], Data[int], Data[str], Data[str]])
    assert set(schema["$defs"]) == {"Data", "Data2"}


# Aliases

Names = TypeAliasType("Names", list[Annotated[str, "A name."]])
Pair = TypeAliasType("Pair", tuple[T, T], type_params=(T,))
Stars = TypeAliasType("Stars", Annotated[int, Field(ge=1, le=5)])
Mood = TypeAliasType("Mood", Literal["good", "bad"])
Towns = TypeAliasType("Towns", list[Town])
Other = TypeAliasType("Other", Names)


class Lazy:
    """An alias as Python 3.12's `type Tree = dict[str, Tree] | int`, evaluated when it is used."""

    __name__ = "Tree"
    __type_params__ = ()

    @property
    def __value__(self) -> Any:
        return dict[str, Tree] | int


Tree: Any = Lazy()


@attrs.frozen
class Review:
    mood: Mood
    stars: Stars
    pair: Pair[int]
    names: Names = attrs.field(factory=list)


@pytest.mark.parametrize(
    ("kind", "same", "value"),
    [
        (Names, list[Annotated[str, "A name."]], ["a"]),
        (Other, list[Annotated[str, "A name."]], ["a"]),
        (Pair[int], tuple[int, int], [1, 2]),
        (list[Pair[str]], list[tuple[str, str]], [["a", "b"]]),
        (Stars, Annotated[int, Field(ge=1, le=5)], 5),
        (Mood, Literal["good", "bad"], "bad"),
        (Mood | None, Literal["good", "bad"] | None, None),
        (Names | int, list[str] | int, ["a"]),
        (Towns, list[Town], [{"name": "Lima"}]),
        (dict[str, Towns], dict[str, list[Town]], {"a": [{"name": "Lima"}]}),
    ],
)
def test_an_alias_is_what_it_stands_for(kind: Any, same: Any, value: Any) -> None:
    if kind != Names | int:
        assert json_schema(kind) == json_schema(same)
    assert is_read(kind, value) == is_read(same, value)
    with pytest.raises(TypeMismatch):
        is_read(kind, {"zzz": 1.5})


def test_aliases_of_fields() -> None:
    value = {"mood": "good", "stars": 5, "pair": [1, 2], "names": ["a"]}
    assert is_read(Review, value) == Review("good", 5, (1, 2), ["a"])
    with pytest.raises(TypeMismatch, match=r"it\.stars must be less than or equal to 5, got 9"):
        is_read(Review, {**value, "stars": 9})
    assert json_schema(Review)["properties"]["mood"] == {"type": "string", "enum": ["good", "bad"]}


def test_an_alias_may_be_recursive() -> None:
    schema = json_schema(dict[str, Tree])
    tree = {"type": "object", "additionalProperties": {"$ref": "#/$defs/Tree"}}
    assert schema["$defs"] == {"Tree": {"anyOf": [tree, {"type": "integer"}]}}
    assert is_read(Tree, {"a": {"b": 1}, "c": 2}) == {"a": {"b": 1}, "c": 2}
    with pytest.raises(TypeMismatch):
        is_read(Tree, {"a": {"b": "x"}})


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (int, "int"),
        (None, "None"),
        (Any, "Any"),
        (Town, "Town"),
        (Annotated[int, Field(ge=1, le=5)], "int"),
        (list[Annotated[Town, Field(description="x")]] | None, "list[Town] | None"),
        (Literal["a", 5], "Literal['a', 5]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (Data[int], "Data[int]"),
        (Data[Data[Town]], "Data[Data[Town]]"),
        (dict[str, Any], "dict[str, Any]"),
        (Stars, "Stars"),
        (Pair[int], "Pair[int]"),
    ],
    ids=str,
)
def test_the_name_of_a_type_has_no_module_and_no_metadata(kind: Any, name: str) -> None:
    assert type_name(kind) == name
