"""What kind of type a type is, and what a class is made of: asked by whoever reads or describes."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import (
    Iterator,
    Mapping,
    MutableMapping,
    MutableSequence,
    Sequence,
    Set as AbstractSet,
)
from enum import Enum
from types import UnionType
from typing import (
    Annotated,
    Any,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import attrs
from attrs import frozen

LISTS = (list, Sequence, MutableSequence, tuple, set, frozenset, AbstractSet)
SETS = (set, frozenset, AbstractSet)
MAPPINGS = (dict, Mapping, MutableMapping)


def bare(kind: Any) -> Any:
    """Give the type without what it holds: `list` of `list[int]`."""
    return get_origin(kind) or kind


def unsaid(kind: Any) -> Any:
    """Give the type without what `Annotated` says of it, or of what it holds."""
    holder = type("Holder", (), {"__annotations__": {"it": kind}})
    return get_type_hints(holder)["it"]


def is_enum(kind: Any) -> bool:
    """Tell whether it is an enumeration, which may be a class of texts or numbers, too."""
    return isinstance(kind, type) and issubclass(kind, Enum)


def is_union(kind: Any) -> bool:
    """Tell whether it is one of several types."""
    return get_origin(kind) in (Union, UnionType)


def is_list(kind: Any) -> bool:
    """Tell whether JSON has a list for it."""
    return any(bare(kind) is one for one in LISTS)


def is_fixed(kind: Any) -> bool:
    """Tell whether it is a tuple of so many items, each of its own type."""
    if get_origin(kind) is not tuple or kind is typing.Tuple:  # noqa: UP006
        return False
    return get_args(kind)[-1:] != (Ellipsis,)


def is_mapping(kind: Any) -> bool:
    """Tell whether JSON has an object of any keys for it."""
    return any(bare(kind) is one for one in MAPPINGS)


def is_named_tuple(kind: Any) -> bool:
    """Tell whether it is a tuple whose items have names."""
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")


def is_class(kind: Any) -> bool:
    """Tell whether it has fields: attrs, a dataclass, a TypedDict or a named tuple."""
    if not isinstance(kind, type):
        return False
    made = attrs.has(kind) or dataclasses.is_dataclass(kind)
    return made or is_typeddict(kind) or is_named_tuple(kind)


@frozen
class Field:
    """One field of a class."""

    name: str
    kind: Any
    required: bool
    default: Any = None
    """`None` also where there is none, or where it is made anew each time."""
    given: str = ""
    """What the class itself calls it when it is made; empty where that is its name."""
    description: str | None = None
    """As its metadata say."""


def stored(kind: Any) -> tuple[str, ...]:
    """Give the names under which a value of a class keeps what it was made from."""
    if attrs.has(kind):
        return tuple(one.name for one in attrs.fields(kind) if one.init)
    if dataclasses.is_dataclass(kind):
        return tuple(one.name for one in dataclasses.fields(kind) if one.init)
    named: Any = kind
    return tuple(named._fields)


def fields(kind: Any) -> tuple[Field, ...]:
    """Give the fields that a value of a class is made from, with all quoted names resolved.

    Raises:
        NameError: An annotation names what can't be found.
    """
    hints = _hints(kind)
    if attrs.has(kind):
        return tuple(_attrs_fields(kind, hints))
    if dataclasses.is_dataclass(kind):
        return tuple(_dataclass_fields(kind, hints))
    if is_typeddict(kind):
        return tuple(_keys(kind, hints))
    named: Any = kind
    defaults = named._field_defaults
    return tuple(
        Field(name, hints.get(name, Any), name not in defaults, defaults.get(name))
        for name in named._fields
    )


def _hints(kind: Any) -> dict[str, Any]:
    try:
        return get_type_hints(kind, include_extras=True)
    except NameError:
        # A class inside a function is found by its own name in no module.
        own = {**vars(kind), kind.__name__: kind}
        return get_type_hints(kind, localns=own, include_extras=True)


def _attrs_fields(kind: Any, hints: Mapping[str, Any]) -> Iterator[Field]:
    for one in attrs.fields(kind):
        if one.init:
            required = one.default is attrs.NOTHING
            said = one.metadata.get("description")
            default = None if required else one.default
            hint = hints.get(one.name, one.type or Any)
            yield Field(one.name, hint, required, default, one.alias or "", said)


def _dataclass_fields(kind: Any, hints: Mapping[str, Any]) -> Iterator[Field]:
    kept = {one.name for one in dataclasses.fields(kind)}
    for one in kind.__dataclass_fields__.values():
        hint = hints[one.name]
        # What only `__post_init__` takes is no field, and still has to be given.
        bare_one = hint is dataclasses.InitVar
        handed_on = one.name not in kept and (bare_one or isinstance(hint, dataclasses.InitVar))
        if handed_on or (one.name in kept and one.init):
            default = None if one.default is dataclasses.MISSING else one.default
            made = one.default_factory is not dataclasses.MISSING
            required = one.default is dataclasses.MISSING and not made
            said = one.metadata.get("description")
            hint = (Any if bare_one else hint.type) if handed_on else hint
            yield Field(one.name, hint, required, default, description=said)


def _keys(kind: Any, hints: Mapping[str, Any]) -> Iterator[Field]:
    """The keys of a TypedDict. It does not see `Required` itself where annotations are texts."""
    for name, hint in hints.items():
        required = name in kind.__required_keys__
        inner, said = hint, []
        while get_origin(inner) in (Annotated, Required, NotRequired):
            origin = get_origin(inner)
            if origin is Annotated:
                said.extend(inner.__metadata__)
            else:
                required = origin is Required
            inner = get_args(inner)[0]
        yield Field(name, Annotated[inner, *said] if said else inner, required)
