"""Values of a user's own types: however these are written, and in a time that grows with them.

Without `from __future__ import annotations`, which would make one of the three spellings of all.
"""

import sys
import typing
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field
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

# The spellings: all of an annotation in quotation marks, a part of it, and as it was once written.


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
def test_a_class_may_hold_itself_however_it_is_written(kind: Any) -> None:
    said = {"name": "a", "kids": [{"name": "b", "kids": []}]}
    made = read_value(said, kind, "it")
    assert made == kind("a", [kind("b", [])])
    assert write_value(made) == said
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


def test_a_class_may_hold_a_later_one() -> None:
    said = {"one": {"a": {"name": "b"}}, "other": {"name": "c"}, "more": {"d": {"name": "e"}}}
    made = read_value(said, Before, "it")
    assert made == Before({"a": After("b")}, After("c"), {"d": After("e")})
    assert write_value(made) == said


def test_a_class_inside_a_function_may_hold_itself() -> None:
    @dataclass
    class Inner:
        kid: "Inner | None" = None

    made = read_value({"kid": {"kid": None}}, Inner, "it")
    assert made == Inner(Inner())
    assert write_value(made) == {"kid": {"kid": None}}


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
    ("kind", "said"),
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
def test_what_has_a_schema_can_be_read(kind: Any, said: Any) -> None:
    assert json_schema(kind) is not None
    made = read_value(said, kind, "it")
    if kind is Handed:
        assert made.sum == 3
        said = {"a": 1}
    written = write_value(made)
    assert (list(written) if isinstance(written, tuple) else written) == said


# Members of unions that hold one another


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
def test_a_wrong_leaf_is_told_in_no_time(kind: Any, key: str, is_listed: bool) -> None:
    """Each member is tried once for each value, not once more for each that holds it."""
    said: Any = 7
    for _ in range(40):
        said = {key: [said] if is_listed else said}
    began = process_time()
    with pytest.raises(TypeMismatch, match=r"must be an object, got 7"):
        read_value(said, kind, "it")
    assert process_time() - began < 2


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


def test_the_member_is_the_one_that_its_kind_says() -> None:
    leaf = {"kind": "num", "value": 1}
    said: Any = leaf
    made: Any = Num("num", 1)
    for _ in range(30):
        said = {"kind": "mul", "left": said, "right": leaf}
        made = Mul("mul", made, Num("num", 1))
    began = process_time()
    assert read_value({"value": said}, dict[str, Num | Add | Mul], "it") == {"value": made}
    assert process_time() - began < 2

    with pytest.raises(TypeMismatch, match=r"^it\.left\.value must be a number, got \"1\"$"):
        read_value(
            {"kind": "add", "left": {**leaf, "value": "1"}, "right": leaf}, Num | Add | Mul, "it"
        )
    wrong = {"kind": "sub", "left": leaf, "right": leaf}
    with pytest.raises(
        TypeMismatch, match=r"it\.kind must be one of \"num\", \"add\", \"mul\", got \"sub\""
    ):
        read_value(wrong, Num | Add | Mul, "it")


def test_a_union_nested_too_deep_is_no_crash() -> None:
    said: Any = None
    for _ in range(sys.getrecursionlimit()):
        said = {"child": said}
    began = process_time()
    with pytest.raises(TypeMismatch):
        read_value(said, One, "it")
    assert process_time() - began < 5


def test_a_moment_is_read_as_it_is_written() -> None:
    now = datetime(2026, 1, 31, 12, 0, 0, 5, tzinfo=UTC)
    assert read_value(write_value(now), datetime, "it") == now
    assert read_value("2026-01-31 12:00Z", datetime, "it") == now.replace(microsecond=0)
