"""A JSON schema from a Python type: what a model is told of what it shall write."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Any, Final, Literal, NewType, NoReturn, get_args, get_origin
from uuid import UUID

from cfai._types.docstrings import first_paragraph, parameters
from cfai._types.kinds import (
    SETS,
    Field,
    bare,
    fields,
    is_class,
    is_enum,
    is_fixed,
    is_list,
    is_mapping,
    is_named_tuple,
    is_union,
)
from cfai.errors import InputError

Schema = dict[str, Any]

_PLAIN: Final[dict[Any, Schema]] = {
    Any: {},
    object: {},
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    NoneType: {"type": "null"},
    None: {"type": "null"},
    datetime: {"type": "string", "format": "date-time"},
    date: {"type": "string", "format": "date"},
    time: {"type": "string", "format": "time"},
    UUID: {"type": "string", "format": "uuid"},
    Decimal: {"type": "string", "format": "decimal"},
}

_NAMES: Final = {str: "string", bool: "boolean", int: "integer", float: "number", NoneType: "null"}
_REF: Final = "#/$defs/"


def schema(kind: Any) -> Schema:
    """Give the JSON schema of a type.

    Texts, numbers, truth values, `None`, dates, times, UUIDs and decimals; `Literal`, enumerations,
    unions; lists, tuples, sets and dictionaries of them; attrs classes, dataclasses, TypedDicts and
    named tuples, which may hold themselves. A text in `Annotated` is a description, as are
    `metadata={"description": ...}` of a field and what the docstring says of it.

    Raises:
        InputError: There is no JSON for it. The message says where in the type.
    """
    return Walk().whole(kind, getattr(kind, "__name__", str(kind)))


class Walk:
    """One walk through a type. Classes become definitions, which are put in place at its end."""

    def __init__(self) -> None:
        self._names: dict[type[Any], str] = {}
        self._definitions: dict[str, Schema] = {}
        self._uses: Counter[str] = Counter()

    def whole(self, kind: Any, where: str) -> Schema:
        """Give the schema of a type, with the definitions that it refers to."""
        return self.closed(self.of(kind, where))

    def closed(self, made: Schema) -> Schema:
        """Put the definitions in place: those that are used once where they are used."""
        whole: Schema = self._resolved(made)
        name = str(whole.get("$ref", "")).removeprefix(_REF)
        if name:
            # What is at the top shall say that it is an object.
            whole = {**self._resolved(self._definitions[name]), **_without(whole, "$ref")}
        left = {one for one in self._definitions if self._uses[one] > 1}
        if left:
            whole["$defs"] = {one: self._resolved(self._definitions[one]) for one in sorted(left)}
        return whole

    def _resolved(self, part: Any) -> Any:
        if isinstance(part, list):
            return [self._resolved(one) for one in part]
        if not isinstance(part, dict):
            return part
        name = str(part.get("$ref", "")).removeprefix(_REF)
        if name and self._uses[name] == 1:
            part = {**self._definitions[name], **_without(part, "$ref")}
        return {key: self._resolved(value) for key, value in part.items()}

    def of(self, kind: Any, where: str) -> Schema:
        """Give the schema of a part."""
        if isinstance(kind, NewType):
            return self.of(kind.__supertype__, where)
        if hasattr(kind, "__metadata__"):
            return described(self.of(get_args(kind)[0], where), said_of(kind))
        if is_enum(kind):
            return _choice([one.value for one in kind], where)
        if get_origin(kind) is Literal:
            values = (one.value if isinstance(one, Enum) else one for one in get_args(kind))
            return _choice(list(values), where)
        if is_union(kind):
            return {"anyOf": [self.of(one, where) for one in get_args(kind)]}
        if is_named_tuple(kind) or is_class(kind):
            return self._reference(kind, where)
        if is_list(kind):
            return self._list(kind, where)
        if is_mapping(kind):
            return self._mapping(kind, where)
        return dict(_plain(kind, where))

    def _list(self, kind: Any, where: str) -> Schema:
        arguments = get_args(kind)
        if is_fixed(kind):
            first = [self.of(one, f"{where}[{at}]") for at, one in enumerate(arguments)]
            size = len(first)
            items = {"prefixItems": first} if first else {}
            return {"type": "array", **items, "minItems": size, "maxItems": size}
        items = self.of(arguments[0], f"{where}[]") if arguments else {}
        unique = {"uniqueItems": True} if bare(kind) in SETS else {}
        return {"type": "array", "items": items, **unique}

    def _mapping(self, kind: Any, where: str) -> Schema:
        key, value = get_args(kind) or (str, Any)
        if key is not str:
            _refuse(kind, where, "keys of objects are texts")
        return {"type": "object", "additionalProperties": self.of(value, f"{where}{{}}")}

    def _reference(self, kind: type[Any], where: str) -> Schema:
        if kind not in self._names:
            name = self._names[kind] = self._free(kind.__name__)
            self._definitions[name] = self._class(kind, where)
        self._uses[self._names[kind]] += 1
        return {"$ref": _REF + self._names[kind]}

    def _free(self, name: str) -> str:
        taken, number, free = set(self._names.values()), 1, name
        while free in taken:
            number += 1
            free = f"{name}{number}"
        return free

    def _class(self, kind: type[Any], where: str) -> Schema:
        doc = kind.__doc__ or ""
        # A dataclass and a named tuple without a docstring are given their signature as one.
        doc = "" if doc.startswith(f"{kind.__name__}(") else doc
        try:
            found = fields(kind)
        except (NameError, TypeError) as exc:
            raise InputError(f"{where}: the annotations of {kind.__name__} say {exc}") from exc
        return described(self.object(found, parameters(doc), where), first_paragraph(doc))

    def object(self, found: Iterable[Field], said: Mapping[str, str], where: str) -> Schema:
        """Give the schema of an object with these fields; *said* describes some of them."""
        properties: Schema = {}
        required = []
        for one in found:
            part = self.of(one.kind, f"{where}.{one.name}")
            part = described(part, one.description or said.get(one.name, ""))
            if _is_told(one.default, part):
                part = {**part, "default": one.default}
            properties[one.name] = part
            if one.required:
                required.append(one.name)
        made: Schema = {"type": "object", "properties": properties}
        return {**made, "required": required, "additionalProperties": False}


def described(part: Schema, text: str) -> Schema:
    """Give a schema with a description, unless it has one of its own."""
    if not text or "description" in part:
        return part
    return {**part, "description": text}


def said_of(kind: Any) -> str:
    """Give the text that `Annotated` says of a type."""
    return next((one for one in getattr(kind, "__metadata__", ()) if isinstance(one, str)), "")


def _is_told(default: Any, part: Schema) -> bool:
    """Tell whether a default is one of JSON, and fits: a model may send it back."""
    if type(default) not in _NAMES or default is None or default in (math.inf, -math.inf):
        return False
    if default != default:  # not a number
        return False
    if "anyOf" in part:
        return any(_is_told(default, one) for one in part["anyOf"])
    if "$ref" in part or ("enum" in part and default not in part["enum"]):
        return False
    name = _NAMES[type(default)]
    wanted = part.get("type", name)
    return bool(name == wanted or (name, wanted) == ("integer", "number"))


def _without(part: Schema, key: str) -> Schema:
    return {name: value for name, value in part.items() if name != key}


def _choice(values: list[Any], where: str) -> Schema:
    for value in values:
        if type(value) not in _NAMES:
            raise InputError(
                f"{where}: a choice must be a text, a number or null, got {value!r:.60}"
            )
    if not values:
        raise InputError(f"{where}: there must be something to choose from")
    kinds = {_NAMES[type(value)] for value in values}
    return {"type": kinds.pop(), "enum": values} if len(kinds) == 1 else {"enum": values}


def _plain(kind: Any, where: str) -> Schema:
    try:
        return _PLAIN[kind]
    except (KeyError, TypeError):
        _refuse(kind, where, "give it as something that JSON has")


def _refuse(kind: Any, where: str, advice: str) -> NoReturn:
    shown = kind.__qualname__ if isinstance(kind, type) and not get_args(kind) else str(kind)
    raise InputError(f"{where}: there is no JSON for {shown:.80}; {advice}")
