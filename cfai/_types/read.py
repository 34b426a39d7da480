"""Values of a user's own types <-> JSON: arguments and results of tools, and parsed answers.

As strict as `cfai._types.json`. The error messages are also read by models, which correct
themselves by them. Scalars come first, then unions, then containers and classes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from enum import Enum
from functools import cache
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, Literal, NewType, NoReturn, get_args
from uuid import UUID

from attrs import evolve, frozen

from cfai._types.excerpts import format_json
from cfai._types.foreign import (
    ForeignError,
    Problem,
    contains_foreign_metadata,
    foreign_type,
    is_foreign,
    read_foreign,
    write_foreign,
)
from cfai._types.json import format_reason
from cfai._types.kinds import (
    SETS,
    Field,
    aliased_type,
    choices_of,
    fields_of,
    is_alias,
    is_class,
    is_enum,
    is_fixed_tuple,
    is_list,
    is_mapping,
    is_typed_dict,
    is_union,
    origin_of,
    stored_names,
    strip_annotated,
)

if TYPE_CHECKING:
    from cattrs import Converter

_Hook = Callable[[Any, Any], Any]
"""Reads a value as a type; called by cattrs."""


class TypeMismatch(ValueError):
    """A value does not match its type. The message has the place, the rule and the value."""


def read_value(value: Any, kind: Any, name: str) -> Any:
    """Read decoded JSON as a value of *kind*; *name* stands for the value in the error.

    Raises:
        TypeMismatch: It does not match, or the class itself does not accept it.
    """
    from cattrs import transform_error

    token = _ATTEMPTS.set({})
    try:
        return _user_converter().structure(value, _strip_own_annotations(kind))
    except Exception as exc:
        reasons = transform_error(
            exc, path=name, format_exception=lambda exc, _: str(exc) or type(exc).__name__
        )
        raise TypeMismatch("; ".join(format_reason(reason) for reason in reasons[:5])) from exc
    finally:
        _ATTEMPTS.reset(token)


def _strip_own_annotations(kind: Any) -> Any:
    """Give the type without `Annotated`, unless another library has to check its metadata."""
    return kind if contains_foreign_metadata(kind) else strip_annotated(kind)


def write_value(value: Any) -> Any:
    """Give a value as JSON types: objects, lists, strings, numbers, true, false and null."""
    return _user_converter().unstructure(value)


@cache
def _user_converter() -> Converter:
    from cattrs import Converter

    converter = Converter(
        detailed_validation=True, unstruct_collection_overrides=dict.fromkeys(SETS, list)
    )
    for kind, hook in _SCALARS.items():
        converter.register_structure_hook(kind, hook)
    converter.register_structure_hook_func(lambda kind: kind is NoneType, _read_null)
    converter.register_structure_hook_func(lambda kind: kind is object, lambda value, _: value)
    converter.register_structure_hook_func(
        lambda kind: origin_of(kind) is Literal,
        lambda value, kind: _pick_choice(value, get_args(kind)),
    )
    for matches, factory in (
        (is_mapping, _mapping_hook),
        (is_list, _list_hook),
        (is_union, _union_hook),
        (is_class, _class_hook),
        (is_foreign, _foreign_hook),
        (is_alias, _alias_hook),
    ):
        converter.register_structure_hook_factory(matches, factory)
    for moment in (datetime, date, time):
        converter.register_unstructure_hook(moment, moment.isoformat)
    for scalar in (UUID, Decimal):
        converter.register_unstructure_hook(scalar, str)
    converter.register_unstructure_hook_factory(
        lambda kind: is_class(kind) and not is_typed_dict(kind), _unstructure_class
    )
    converter.register_unstructure_hook_func(is_foreign, write_foreign)
    return converter


# Scalars

_MAX_EXACT_FLOAT = 2**53

_DATE = r"\d{4}-\d\d-\d\d"
_TIME = r"\d\d:\d\d.*"
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class _InvalidValue(TypeError):
    """The reason why one value is invalid."""


def _raise_invalid(rule: str, value: object) -> NoReturn:
    raise _InvalidValue(f"must be {rule}, got {format_json(value)}")


def _json_equal(left: object, right: object) -> bool:
    """Compare as JSON does: True is not 1, and 1.0 is 1."""
    kinds = {type(left), type(right)}
    return (len(kinds) == 1 or kinds == {int, float}) and left == right


def _pick_choice(value: Any, choices: Iterable[Any]) -> Any:
    """Give the one of *choices* that equals the value."""
    shown = []
    for choice in choices:
        choice_value = choice.value if isinstance(choice, Enum) else choice
        if _json_equal(choice_value, value):
            return choice
        shown.append(format_json(choice_value))
    _raise_invalid(f"one of {', '.join(shown)}", value)


def _read_null(value: Any, _: Any) -> None:
    if value is not None:
        _raise_invalid("null", value)


def _exact_hook(kind: type[Any], rule: str) -> _Hook:
    def hook(value: Any, _: Any) -> Any:
        if type(value) is not kind:
            _raise_invalid(rule, value)
        return value

    return hook


def _read_int(value: Any, _: Any) -> int:
    # Models write 3.0 for 3. Larger floats were rounded.
    if isinstance(value, float) and value.is_integer() and abs(value) <= _MAX_EXACT_FLOAT:
        return int(value)
    if type(value) is not int:
        _raise_invalid("a whole number", value)
    return value


def _read_float(value: Any, _: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        _raise_invalid("a number", value)
    with suppress(OverflowError):
        if math.isfinite(value):
            return float(value)
    _raise_invalid("a 64-bit number", value)


def _read_decimal(value: Any, _: Any) -> Decimal:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        text = str(value)
        with suppress(InvalidOperation, ValueError):
            if _DECIMAL.fullmatch(text):
                return Decimal(text)
    _raise_invalid("a decimal number", value)


def _string_hook(parse: Callable[[str], Any], rule: str, form: str = "(?s:.*)") -> _Hook:
    """Read a string with *parse*, which accepts more than *form* and than JSON schema allows."""
    pattern = re.compile(form, re.ASCII)

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            _raise_invalid(rule, value)
        try:
            return parse(value)
        except ValueError:
            _raise_invalid(rule, value)

    return hook


def _or_enum(hook: _Hook) -> _Hook:
    """Read an enumeration by its values: its class may be a subclass of str or int."""
    return lambda value, kind: _pick_choice(value, kind) if is_enum(kind) else hook(value, kind)


_SCALARS: Final[dict[type[Any], _Hook]] = {
    str: _or_enum(_exact_hook(str, "a string")),
    int: _or_enum(_read_int),
    float: _or_enum(_read_float),
    Enum: _or_enum(_read_null),
    bool: _exact_hook(bool, "true or false"),
    datetime: _or_enum(
        _string_hook(
            datetime.fromisoformat,
            "a date and time such as 2026-01-31T12:00:00Z",
            rf"{_DATE}[Tt ]{_TIME}",
        )
    ),
    date: _or_enum(_string_hook(date.fromisoformat, "a date such as 2026-01-31", _DATE)),
    time: _or_enum(_string_hook(time.fromisoformat, "a time such as 12:00:00", _TIME)),
    UUID: _or_enum(_string_hook(UUID, "a UUID")),
    Decimal: _or_enum(_read_decimal),
}
"""The hook of each class and its subclasses."""


# Unions: the member is chosen by the value's keys and by the fields that have few choices. Each
# value is read once per union, so that nested unions take time in proportion to the value.

_Attempts = dict[tuple[int, int], tuple[Any, list[Exception]]]

_ATTEMPTS: ContextVar[_Attempts | None] = ContextVar("_ATTEMPTS", default=None)
"""The results until the whole value is read, by the id of the value and of the union's members."""

_IMPOSSIBLE: Final = (9.0,)
_ANYTHING: Final = (8.0,)

_NUMBERS: Final = frozenset({int, float})
_JSON_TYPES: Final[dict[Any, frozenset[type[Any]]]] = {
    NoneType: frozenset({NoneType}),
    None: frozenset({NoneType}),
    str: frozenset({str}),
    int: _NUMBERS,
    float: _NUMBERS,
    bool: frozenset({bool}),
    Decimal: _NUMBERS | {str},
    **dict.fromkeys((datetime, date, time, UUID), frozenset({str})),
}


_SCHEMA_TYPES: Final = {
    "object": frozenset({dict}),
    "array": frozenset({list}),
    "string": frozenset({str}),
    "boolean": frozenset({bool}),
    "null": frozenset({NoneType}),
    "integer": _NUMBERS,
    "number": _NUMBERS,
}


def _union_hook(kind: Any, converter: Converter) -> _Hook:
    """Read a value as the most likely member, or else as the next one."""
    members = [_Member.of(member_kind) for member_kind in get_args(kind)]

    def read_first_match(value: Any) -> tuple[Any, list[Exception]]:
        errors: list[Exception] = list(_check_tag(value, members, kind))
        if errors:
            return None, errors
        for member in sorted(members, key=lambda member: member.unlikeliness(value)):
            try:
                return converter.structure(value, member.kind), []
            except Exception as exc:
                errors.append(exc)
        return None, errors

    def hook(value: Any, _: Any) -> Any:
        attempts = _ATTEMPTS.get()
        key = id(value), id(members)
        if attempts is None or not isinstance(value, dict | list):
            result, errors = read_first_match(value)
        elif key in attempts:
            result, errors = attempts[key]
        else:
            result, errors = attempts[key] = read_first_match(value)
        if errors:
            # The error of the most likely member is the most helpful one.
            raise errors[0]
        return result

    return hook


def _check_tag(value: Any, members: list[_Member], kind: Any) -> Iterator[Exception]:
    """Report a tag (a field with choices in every member) whose value no member allows."""
    from cattrs.errors import AttributeValidationNote, ClassValidationError

    if not isinstance(value, dict):
        return
    objects = [m for m in members if m.json_types is None or dict in m.json_types]
    tags = [name for name in value if objects and all(name in m.choices for m in objects)]
    for name in tags:
        try:
            _pick_choice(value[name], (choice for m in objects for choice in m.choices[name]))
        except _InvalidValue as exc:
            exc.add_note(AttributeValidationNote(f"field {name}", name, Any))
            yield ClassValidationError("no member", [exc], kind)


@frozen
class _Member:
    """One member of a union, and how to recognize its values."""

    kind: Any
    origin: Any
    """Without its arguments, `Annotated` and `NewType`."""

    json_types: frozenset[type[Any]] | None
    """The types of its values in JSON; `None` is any."""

    names: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    choices: Mapping[str, tuple[Any, ...]] = {}
    """Of the fields that are literals or enumerations."""

    field_types: Mapping[str, frozenset[type[Any]]] = {}
    """The JSON types of the other fields."""

    @classmethod
    def of(cls, kind: Any) -> _Member:
        inner = _unwrap(kind)
        if (foreign := foreign_type(inner)) is not None:
            return cls._of_schema(kind, inner, foreign.json_schema())
        if not is_class(inner):
            return cls(kind, origin_of(inner), _json_types(inner))
        kinds = {field.name: _unwrap(field.kind) for field in fields_of(inner)}
        required = frozenset(field.name for field in fields_of(inner) if field.required)
        choices = {name: values for name, field in kinds.items() if (values := choices_of(field))}
        types = {name: types for name, field in kinds.items() if (types := _json_types(field))}
        return cls(kind, inner, frozenset({dict}), frozenset(kinds), required, choices, types)

    @classmethod
    def _of_schema(cls, kind: Any, inner: Any, schema: dict[str, Any]) -> _Member:
        name = str(schema.get("$ref", "")).rpartition("/")[2]
        schema = schema.get("$defs", {}).get(name, schema)
        types = _SCHEMA_TYPES.get(str(schema.get("type")))
        properties = schema.get("properties", {})
        choices = {
            name: tuple(rule.get("enum", [rule.get("const")]))
            for name, rule in properties.items()
            if "enum" in rule or "const" in rule
        }
        required = frozenset(schema.get("required", ()))
        return cls(kind, inner, types, frozenset(properties), required, choices)

    def unlikeliness(self, value: Any) -> tuple[float, ...]:
        """Rank how unlikely it is that the value belongs to this member."""
        if self.json_types is None:
            return _ANYTHING
        if type(value) not in self.json_types:
            return _IMPOSSIBLE
        if isinstance(value, dict):
            # A class goes before an object with arbitrary keys, which matches everything.
            is_object = bool(self.names) or is_class(self.origin)
            return self._rank_object(value) if is_object else (0, 0, 0, math.inf)
        if self.origin is Literal or is_enum(self.origin):
            return (0,)
        # Every date is a string, and every number a decimal: the more specific type goes first.
        exact = self.origin is type(value)
        return (2,) if self.origin is str else (1,) if exact else (1.5,)

    def _rank_object(self, value: dict[str, Any]) -> tuple[float, ...]:
        wrong_choices = sum(
            not any(_json_equal(choice, value[name]) for choice in choices)
            for name, choices in self.choices.items()
            if name in value
        )
        odd_keys = len(value.keys() - self.names) + len(self.required - value.keys())
        wrong_types = sum(
            type(value[name]) not in types
            for name, types in self.field_types.items()
            if name in value
        )
        return wrong_choices, odd_keys, wrong_types, len(self.names - value.keys())


def _unwrap(kind: Any) -> Any:
    """Give the type without `Annotated`, `NewType` and aliases."""
    while True:
        if isinstance(kind, NewType):
            kind = kind.__supertype__
        elif hasattr(kind, "__metadata__"):
            kind = get_args(kind)[0]
        elif is_alias(kind):
            kind = aliased_type(kind)
        else:
            return kind


def _json_types(kind: Any) -> frozenset[type[Any]] | None:
    kind = _unwrap(kind)
    if is_union(kind):
        members = [_json_types(member) for member in get_args(kind)]
        return None if None in members else frozenset().union(*filter(None, members))
    if is_enum(kind) or origin_of(kind) is Literal:
        types = frozenset(type(choice) for choice in choices_of(kind))
        return types | _NUMBERS if types & _NUMBERS else types
    if is_class(kind) or is_mapping(kind):
        return frozenset({dict})
    return frozenset({list}) if is_list(kind) else _JSON_TYPES.get(origin_of(kind))


# Containers and classes


def _list_hook(kind: Any, converter: Converter) -> _Hook:
    """Read only a list: strings and objects can be iterated, too."""
    origin, arguments = origin_of(kind), get_args(kind)
    container: Any = set if origin in SETS else list
    if origin in (tuple, frozenset):
        container = origin
    is_fixed = is_fixed_tuple(kind)

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, list):
            _raise_invalid("a list", value)
        if not is_fixed:
            inner = arguments[0] if arguments else Any
            return container(_read_list_items(converter, ((item, inner) for item in value)))
        if len(value) != len(arguments):
            _raise_invalid(f"a list of {len(arguments)}", value)
        return container(_read_list_items(converter, zip(value, arguments, strict=True)))

    return hook


def _read_list_items(converter: Converter, pairs: Iterable[tuple[Any, Any]]) -> list[Any]:
    """Read (value, type) pairs. The error has the index of each item that is wrong."""
    from cattrs.errors import IterableValidationError, IterableValidationNote

    items, errors = [], []
    for index, (value, kind) in enumerate(pairs):
        try:
            items.append(converter.structure(value, kind))
        except Exception as exc:
            exc.add_note(IterableValidationNote(f"item {index}", index, kind))
            errors.append(exc)
    if errors:
        raise IterableValidationError("wrong items", errors, list)
    return items


def _mapping_hook(kind: Any, converter: Converter) -> _Hook:
    from cattrs.cols import mapping_structure_factory

    inner: Any = dict[get_args(kind) or (str, Any)]  # type: ignore[misc]  # built at runtime
    return _object_hook(mapping_structure_factory(inner, converter))


def _class_hook(kind: Any, converter: Converter) -> _Hook:
    fields = [evolve(field, kind=_strip_own_annotations(field.kind)) for field in fields_of(kind)]
    names = [field.name for field in fields]
    origin = origin_of(kind)
    construct = dict if is_typed_dict(origin) else origin
    # If no field is required, an unrelated object would match.
    matches_anything = not any(field.required for field in fields)

    def hook(value: dict[str, Any], _: Any) -> Any:
        if matches_anything and value and value.keys().isdisjoint(names):
            _raise_invalid(
                f"an object with {', '.join(names)}" if names else "an object without keys", value
            )
        return construct(**_read_fields(converter, fields, value, kind))

    return _object_hook(hook)


def _read_fields(
    converter: Converter, fields: Iterable[Field], value: dict[str, Any], kind: Any
) -> dict[str, Any]:
    """Read the fields of an object. The error has the name of each field that is wrong."""
    from cattrs.errors import AttributeValidationNote, ClassValidationError

    arguments, errors = {}, []
    for field in fields:
        try:
            if field.name in value:
                argument = converter.structure(value[field.name], field.kind)
                arguments[field.alias or field.name] = argument
            elif field.required:
                raise _InvalidValue("is missing")
        except Exception as exc:
            exc.add_note(AttributeValidationNote(f"field {field.name}", field.name, field.kind))
            errors.append(exc)
    if errors:
        raise ClassValidationError("wrong fields", errors, kind)
    return arguments


def _object_hook(read: _Hook) -> _Hook:
    def hook(value: Any, kind: Any) -> Any:
        if not isinstance(value, dict):
            _raise_invalid("an object", value)
        return read(value, kind)

    return hook


def _alias_hook(kind: Any, converter: Converter) -> _Hook:
    inner = _strip_own_annotations(aliased_type(kind))
    return lambda value, _: converter.structure(value, inner)


# Types of other libraries


def _foreign_hook(kind: Any, _: Converter) -> _Hook:
    foreign = foreign_type(kind)

    def hook(value: Any, _: Any) -> Any:
        if foreign is None:
            raise AssertionError("the kind was foreign when the hook was made")
        try:
            return read_foreign(foreign, value)
        except ForeignError as exc:
            raise _join_located([_locate(problem, kind) for problem in exc.problems]) from exc

    return hook


def _locate(problem: Problem, kind: Any) -> Exception:
    """The problem as an error of cattrs, which knows its path."""
    from cattrs.errors import (
        AttributeValidationNote,
        ClassValidationError,
        IterableValidationError,
        IterableValidationNote,
    )

    error: Exception = _InvalidValue(problem.message)
    for key in reversed(problem.path):
        if isinstance(key, int):
            error.add_note(IterableValidationNote(f"item {key}", key, Any))
            error = IterableValidationError("wrong items", [error], list)
        else:
            error.add_note(AttributeValidationNote(f"field {key}", key, Any))
            error = ClassValidationError("wrong fields", [error], kind)
    return error


def _join_located(errors: list[Exception]) -> Exception:
    """One error with all the parts, if they have a common container."""
    from cattrs import BaseValidationError

    first = errors[0]
    alike = [error for error in errors if type(error) is type(first)]
    if not isinstance(first, BaseValidationError) or len(alike) == 1:
        return first
    parts = [
        part
        for error in alike
        if isinstance(error, BaseValidationError)
        for part in error.exceptions
    ]
    return first.derive(parts)


def _unstructure_class(kind: Any, converter: Converter) -> Callable[[Any], dict[str, Any]]:
    """Write the attributes by their values: annotations may be quoted, or wrong."""
    names = stored_names(kind)
    return lambda value: {name: converter.unstructure(getattr(value, name)) for name in names}
