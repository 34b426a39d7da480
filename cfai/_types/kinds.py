"""Questions about a Python type: what kind of type it is, and which fields a class has."""

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
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import attrs
from attrs import frozen

LISTS = (list, Sequence, MutableSequence, tuple, set, frozenset, AbstractSet)
SETS = (set, frozenset, AbstractSet)
MAPPINGS = (dict, Mapping, MutableMapping)


def origin_of(kind: Any) -> Any:
    """Give the type without its arguments: `list` of `list[int]`."""
    return get_origin(kind) or kind


def is_alias(kind: Any) -> bool:
    """Tell whether it is a name for another type: `type Names = list[str]`, with its arguments."""
    return hasattr(origin_of(kind), "__value__")


def aliased_type(kind: Any) -> Any:
    """Give the type that an alias stands for."""
    alias = origin_of(kind)
    arguments = dict(zip(alias.__type_params__, get_args(kind), strict=False))
    return _bind(alias.__value__, arguments)


def _bind(kind: Any, arguments: Mapping[Any, Any]) -> Any:
    """Give the type with its type variables replaced."""
    if isinstance(kind, TypeVar):
        return arguments.get(kind, kind)
    variables = getattr(kind, "__parameters__", ())
    if isinstance(kind, type) or not any(variable in arguments for variable in variables):
        return kind
    return kind[tuple(arguments.get(variable, variable) for variable in variables)]


def strip_annotated(kind: Any) -> Any:
    """Give the type without `Annotated`, also inside its arguments."""
    holder = type("Holder", (), {"__annotations__": {"kind": kind}})
    return get_type_hints(holder)["kind"]


def type_name(kind: Any) -> str:
    """Give the name of a type for a message, without modules and metadata: `list[Town] | None`."""
    if kind is NoneType or kind is Ellipsis:
        return "None" if kind is NoneType else "..."
    if hasattr(kind, "__metadata__"):
        return type_name(get_args(kind)[0])
    arguments = get_args(kind)
    if is_union(kind):
        return " | ".join(map(type_name, arguments))
    name = getattr(origin_of(kind), "__name__", None)
    if not isinstance(name, str):
        return str(kind).replace("typing.", "")
    if not arguments:
        return name
    is_literal = get_origin(kind) is Literal
    texts = [repr(item) if is_literal else type_name(item) for item in arguments]
    return f"{name}[{', '.join(texts)}]"


def is_enum(kind: Any) -> bool:
    """Tell whether it is an enumeration, including those of strings or numbers."""
    return isinstance(kind, type) and issubclass(kind, Enum)


def choices_of(kind: Any) -> tuple[Any, ...]:
    """Give the values of a literal or an enumeration; nothing for other types."""
    if is_enum(kind):
        return tuple(member.value for member in kind)
    if get_origin(kind) is Literal:
        return tuple(v.value if isinstance(v, Enum) else v for v in get_args(kind))
    return ()


def is_union(kind: Any) -> bool:
    """Tell whether it is a union."""
    return get_origin(kind) in (Union, UnionType)


def is_list(kind: Any) -> bool:
    """Tell whether it is a list in JSON."""
    return any(origin_of(kind) is listed for listed in LISTS)


def is_fixed_tuple(kind: Any) -> bool:
    """Tell whether it is a tuple of a fixed length, each item with its own type."""
    if get_origin(kind) is not tuple or kind is typing.Tuple:  # noqa: UP006
        return False
    return get_args(kind)[-1:] != (Ellipsis,)


def is_mapping(kind: Any) -> bool:
    """Tell whether it is an object with arbitrary keys in JSON."""
    return any(origin_of(kind) is mapping for mapping in MAPPINGS)


def is_named_tuple(kind: Any) -> bool:
    """Tell whether it is a named tuple."""
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")


def is_typed_dict(kind: Any) -> bool:
    """Tell whether it is a `TypedDict`, also that of typing_extensions."""
    return isinstance(kind, type) and issubclass(kind, dict) and hasattr(kind, "__required_keys__")


def is_class(kind: Any) -> bool:
    """Tell whether it has fields: attrs, a dataclass, a TypedDict or a named tuple.

    Generic ones may have their arguments: `Page[int]`.
    """
    origin = origin_of(kind)
    if not isinstance(origin, type):
        return False
    has_fields = attrs.has(origin) or dataclasses.is_dataclass(origin)
    return has_fields or is_typed_dict(origin) or is_named_tuple(origin)


@frozen
class Field:
    """One field of a class, or one parameter of a function."""

    name: str
    kind: Any
    required: bool
    default: Any = None
    """`None` if there is no default, or if it is created by a factory."""
    alias: str = ""
    """The parameter's name in `__init__`; empty if it is the field's."""
    description: str | None = None
    """The `description` of the field's metadata."""


def stored_names(kind: Any) -> tuple[str, ...]:
    """Give the names of the attributes that hold the `__init__` arguments of a class."""
    if is_named_tuple(kind):
        return tuple(kind._fields)
    attributes: Any = attrs.fields(kind) if attrs.has(kind) else dataclasses.fields(kind)
    return tuple(attribute.name for attribute in attributes if attribute.init)


def fields_of(kind: Any) -> tuple[Field, ...]:
    """Give the `__init__` arguments of a class as fields, with quoted annotations resolved.

    Raises:
        NameError: An annotation names something that can't be found.
    """
    hints = _type_hints(kind)
    kind = origin_of(kind)
    if attrs.has(kind):
        return tuple(_attrs_fields(kind, hints))
    if dataclasses.is_dataclass(kind):
        return tuple(_dataclass_fields(kind, hints))
    if is_typed_dict(kind):
        return tuple(_typeddict_fields(kind, hints))
    defaults = kind._field_defaults
    return tuple(
        Field(name, hints.get(name, Any), name not in defaults, defaults.get(name))
        for name in kind._fields
    )


def _type_hints(kind: Any) -> dict[str, Any]:
    """The annotations of a class and its bases, with the arguments of generic ones."""
    origin = origin_of(kind)
    own = _unbound_hints(origin)
    arguments = dict(zip(getattr(origin, "__parameters__", ()), get_args(kind), strict=False))
    hints = {name: _bind(hint, arguments) for name, hint in own.items()}
    # A base may use the same type variable for another type.
    for base in reversed(vars(origin).get("__orig_bases__", origin.__bases__)):
        if is_class(base):
            unbound = _unbound_hints(origin_of(base))
            inherited = _type_hints(_bind(base, arguments))
            hints |= {name: inherited[name] for name in unbound if own.get(name) == unbound[name]}
    return hints


def _unbound_hints(kind: Any) -> dict[str, Any]:
    try:
        return get_type_hints(kind, include_extras=True)
    except NameError:
        # A class defined inside a function is not found by its own name in the module.
        names = {**vars(kind), kind.__name__: kind}
        return get_type_hints(kind, localns=names, include_extras=True)


def _attrs_fields(kind: Any, hints: Mapping[str, Any]) -> Iterator[Field]:
    for attribute in attrs.fields(kind):
        if attribute.init:
            required = attribute.default is attrs.NOTHING
            default = None if required else attribute.default
            hint = hints.get(attribute.name, attribute.type or Any)
            description = attribute.metadata.get("description")
            alias = attribute.alias or ""
            yield Field(attribute.name, hint, required, default, alias, description)


def _dataclass_fields(kind: Any, hints: Mapping[str, Any]) -> Iterator[Field]:
    stored = {attribute.name for attribute in dataclasses.fields(kind)}
    for attribute in kind.__dataclass_fields__.values():
        hint = hints[attribute.name]
        # `InitVar`: an argument that only `__post_init__` receives.
        is_init_var = attribute.name not in stored and (
            hint is dataclasses.InitVar or isinstance(hint, dataclasses.InitVar)
        )
        if is_init_var or (attribute.name in stored and attribute.init):
            missing = dataclasses.MISSING
            default = None if attribute.default is missing else attribute.default
            required = attribute.default is missing and attribute.default_factory is missing
            if is_init_var:
                hint = Any if hint is dataclasses.InitVar else hint.type
            description = attribute.metadata.get("description")
            yield Field(attribute.name, hint, required, default, description=description)


def _typeddict_fields(kind: Any, hints: Mapping[str, Any]) -> Iterator[Field]:
    """Read `Required` from the hints: TypedDict itself misses it in quoted annotations."""
    for name, hint in hints.items():
        required = name in kind.__required_keys__
        inner, metadata = hint, []
        while get_origin(inner) in (Annotated, Required, NotRequired):
            origin = get_origin(inner)
            if origin is Annotated:
                metadata.extend(inner.__metadata__)
            else:
                required = origin is Required
            inner = get_args(inner)[0]
        yield Field(name, Annotated[inner, *metadata] if metadata else inner, required)
