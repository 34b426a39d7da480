"""Types in every spelling of annotations, and unions that nest, which are read in linear time.

Without `from __future__ import annotations`, which would turn all spellings into one.
"""

import sys
import typing
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field, make_dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum, Flag
from time import process_time
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    NewType,
    Optional,
    TypedDict,
)
from uuid import UUID

import attrs
import pytest
from attrs import frozen

from cfai._types.read import TypeMismatch, read_value, write_value
from cfai._types.schema import json_schema

# The spellings: fully quoted, partly quoted, and with `typing.List` and `Optional`.


@dataclass
class Quoted:
    name: str
    kids: "list[Quoted]" = field(default_factory=list)


@dataclass
class Part:
    name: str
    kids: list["Part"] = field(default_factory=list)


@dataclass
class Older:
    name: str
    kids: Optional[typing.List["Older"]] = None  # noqa: UP006, UP045


@frozen
class AttrsQuoted:
    name: str
    kids: "list[AttrsQuoted]" = attrs.field(factory=list)


@frozen
class AttrsPart:
    name: str
    kids: list["AttrsPart"] = attrs.field(factory=list)


@frozen
class AttrsOlder:
    name: str
    kids: Optional[typing.List["AttrsOlder"]] = None  # noqa: UP006, UP045


class Named(NamedTuple):
    name: str
    kids: list["Named"] = []


@pytest.mark.parametrize("kind", [Quoted, Part, Older, AttrsQuoted, AttrsPart, AttrsOlder, Named])
def test_recursive_classes_in_every_spelling(kind: Any) -> None:
    data = {"name": "a", "kids": [{"name": "b", "kids": []}]}
    result = read_value(data, kind, "it")
    assert result == kind("a", [kind("b", [])])
    assert write_value(result) == data
    assert "$defs" in json_schema(kind)
    with pytest.raises(TypeMismatch, match=r"it\.kids\[0\]\.name must be a string, got 1"):
        read_value({"name": "a", "kids": [{"name": 1}]}, kind, "it")


@frozen
class Before:
    one: "dict[str, After]"
    other: Optional["After"] = None
    more: dict[str, "After"] = attrs.field(factory=dict)


@dataclass
class After:
    name: str


def test_forward_references() -> None:
    data = {"one": {"a": {"name": "b"}}, "other": {"name": "c"}, "more": {"d": {"name": "e"}}}
    result = read_value(data, Before, "it")
    assert result == Before({"a": After("b")}, After("c"), {"d": After("e")})
    assert write_value(result) == data


def test_recursive_class_inside_a_function() -> None:
    @dataclass
    class Inner:
        kid: "Inner | None" = None

    result = read_value({"kid": {"kid": None}}, Inner, "it")
    assert result == Inner(Inner())
    assert write_value(result) == {"kid": {"kid": None}}


class Keys(TypedDict):
    a: int


class Colour(Enum):
    RED = "red"


class Right(Flag):
    READ = 1


@dataclass
class Handed:
    a: int
    b: InitVar[int]
    sum: int = field(init=False)

    def __post_init__(self, b: int) -> None:
        self.sum = self.a + b


@frozen
class Private:
    _a: int


@dataclass(kw_only=True)
class KeywordOnly:
    a: int


Id = NewType("Id", int)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (str, "a"),
        (int, 1),
        (float, 1.5),
        (bool, True),
        (None, None),
        (type(None), None),
        (Any, {"a": [1]}),
        (object, {"a": [1]}),
        (list[object], [1, None]),
        (dict[str, object], {"a": 1}),
        (datetime, "2026-01-31T12:00:00+00:00"),
        (date, "2026-01-31"),
        (time, "12:00:00"),
        (UUID, "00000000-0000-0000-0000-000000000001"),
        (Decimal, "1.50"),
        (Literal["a", 1] | None, "a"),
        (Colour, "red"),
        (Right, 1),
        (Id, 1),
        (int | None, None),
        (typing.Union[int, str], "a"),  # noqa: UP007
        (list, [1]),
        (typing.List[int], [1]),  # noqa: UP006
        (Sequence[int], [1]),
        (tuple, [1, "a"]),
        (tuple[int, ...], [1]),
        (tuple[int, str], [1, "a"]),
        (tuple[()], []),
        (set[int], [1]),
        (frozenset[int], [1]),
        (dict, {"a": 1}),
        (dict[str, int], {"a": 1}),
        (Mapping[str, int], {"a": 1}),
        (Annotated[int, "How many."], 1),
        (list[Annotated[int, ["no text"], "How many."]], [1]),
        (Keys, {"a": 1}),
        (Named, {"name": "a", "kids": []}),
        (Private, {"_a": 1}),
        (KeywordOnly, {"a": 1}),
        (Handed, {"a": 1, "b": 2}),
    ],
)
def test_every_type_with_a_schema_can_be_read(kind: Any, data: Any) -> None:
    assert json_schema(kind) is not None
    result = read_value(data, kind, "it")
    if kind is Handed:
        assert result.sum == 3
        data = {"a": 1}
    written = write_value(result)
    assert (list(written) if isinstance(written, tuple) else written) == data


@pytest.mark.parametrize(
    ("hint", "schema", "data", "wrong"),
    [
        (InitVar[int], {"type": "integer"}, 1, "1"),
        (InitVar[bool], {"type": "boolean"}, True, 1),
        (InitVar[list[int]], {"type": "array", "items": {"type": "integer"}}, [1], ["1"]),
    ],
)
def test_an_argument_of_post_init_has_its_type(
    hint: Any, schema: dict[str, Any], data: Any, wrong: Any
) -> None:
    kind = make_dataclass("Arguments", [("value", hint)])
    assert json_schema(kind)["properties"]["value"] == schema
    assert isinstance(read_value({"value": data}, kind, "it"), kind)
    with pytest.raises(TypeMismatch, match=r"^it\.value"):
        read_value({"value": wrong}, kind, "it")


def test_an_argument_of_post_init_without_a_type_takes_anything() -> None:
    kind = make_dataclass("Arguments", [("value", InitVar)])
    assert json_schema(kind)["properties"]["value"] == {}
    assert isinstance(read_value({"value": "1"}, kind, "it"), kind)


# Members of unions that contain one another


@dataclass
class One:
    child: "One | Other | None" = None


@dataclass
class Other:
    child: "Other | One | None" = None


@dataclass
class Many:
    children: "list[Many] | list[Others]" = field(default_factory=list)


@dataclass
class Others:
    children: "list[Others] | list[Many]" = field(default_factory=list)


@pytest.mark.parametrize(
    ("kind", "key", "is_listed"), [(One, "child", False), (Many, "children", True)]
)
def test_nested_unions_fail_in_linear_time(kind: Any, key: str, is_listed: bool) -> None:
    """Each member is tried once per value, not once per union around it."""
    data: Any = 7
    for _ in range(40):
        data = {key: [data] if is_listed else data}
    start = process_time()
    with pytest.raises(TypeMismatch, match=r"must be an object, got 7"):
        read_value(data, kind, "it")
    assert process_time() - start < 2


@dataclass
class Num:
    kind: Literal["num"]
    value: float


@dataclass
class Add:
    kind: Literal["add"]
    left: "Num | Add | Mul"
    right: "Num | Add | Mul"


@dataclass
class Mul:
    kind: Literal["mul"]
    left: "Num | Add | Mul"
    right: "Num | Add | Mul"


def test_a_tag_selects_the_member_of_a_union() -> None:
    leaf = {"kind": "num", "value": 1}
    data: Any = leaf
    result: Any = Num("num", 1)
    for _ in range(30):
        data = {"kind": "mul", "left": data, "right": leaf}
        result = Mul("mul", result, Num("num", 1))
    start = process_time()
    assert read_value({"value": data}, dict[str, Num | Add | Mul], "it") == {"value": result}
    assert process_time() - start < 2

    with pytest.raises(TypeMismatch, match=r"^it\.left\.value must be a number, got \"1\"$"):
        read_value(
            {"kind": "add", "left": {**leaf, "value": "1"}, "right": leaf}, Num | Add | Mul, "it"
        )
    wrong = {"kind": "sub", "left": leaf, "right": leaf}
    with pytest.raises(
        TypeMismatch, match=r"it\.kind must be one of \"num\", \"add\", \"mul\", got \"sub\""
    ):
        read_value(wrong, Num | Add | Mul, "it")


def test_a_union_nested_too_deep_is_a_type_mismatch() -> None:
    data: Any = None
    for _ in range(sys.getrecursionlimit()):
        data = {"child": data}
    start = process_time()
    with pytest.raises(TypeMismatch):
        read_value(data, One, "it")
    assert process_time() - start < 5


def test_datetimes_round_trip() -> None:
    now = datetime(2026, 1, 31, 12, 0, 0, 5, tzinfo=UTC)
    assert read_value(write_value(now), datetime, "it") == now
    assert read_value("2026-01-31 12:00Z", datetime, "it") == now.replace(microsecond=0)
