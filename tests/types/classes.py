"""Classes of every kind, and the schemas of some of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum, StrEnum
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
)

import attrs
from attrs import frozen


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
class Measured:
    size: int | list[int]


@dataclass
class Named:
    size: str | None


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
