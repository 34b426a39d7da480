"""Types that describe, read and write their values by themselves: those of pydantic and msgspec.

They are recognized by their methods and metadata. Neither library is imported: who passes such a
type has loaded it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Any, Final, NamedTuple, get_args

from cfai._types.excerpts import format_value
from cfai._types.kinds import Field, origin_of
from cfai.errors import InputError

_ADAPTED: Final = {
    "pydantic": "pydantic",
    "pydantic_core": "pydantic",
    "annotated_types": "pydantic",
    "msgspec": "msgspec",
}
"""The library that understands the metadata of an `Annotated`, by the package of their class."""


_RULE: Final = re.compile(r"^[A-Z]\w* should ")
"""The beginning of pydantic's messages: "Input should be a valid string"."""

_MSGSPEC_KEY: Final = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
"""One step of a path in msgspec's messages: "Expected `int`, got `str` - at `$.rows[0].a`"."""


class Problem(NamedTuple):
    """What is wrong with one part of a value."""

    path: tuple[str | int, ...]
    """The keys and indexes that lead to it."""
    message: str


class ForeignError(ValueError):
    """A value does not match a foreign type."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = problems


class ForeignType(NamedTuple):
    """A type of another library."""

    json_schema: Callable[[], dict[str, Any]]
    read: Callable[[Any], Any]
    """Reads decoded JSON; raises an error of the library."""


def foreign_type(kind: Any) -> ForeignType | None:
    """The type with its own methods; `None` if it is none of another library.

    Raises:
        InputError: Its library can't check it.
    """
    if hasattr(kind, "__metadata__"):
        library = next(_libraries(kind.__metadata__), None)
        return None if library is None else _adapt_annotated(kind, library)
    origin = origin_of(kind)  # A generic class with its arguments is none.
    if not isinstance(origin, type):
        return None
    if has_model_methods(kind):
        return _model(kind)
    if hasattr(origin, "__get_pydantic_core_schema__") or hasattr(origin, "__pydantic_validator__"):
        return _adapt_for_pydantic(kind)
    if hasattr(origin, "__struct_fields__") and "msgspec" in sys.modules:
        return _adapt_for_msgspec(kind)
    return None


def is_foreign(kind: Any) -> bool:
    """Whether a type, or the metadata of an `Annotated`, belongs to another library."""
    try:
        return foreign_type(kind) is not None
    except InputError:
        return True


def contains_foreign_metadata(kind: Any) -> bool:
    """Whether an `Annotated` of another library is in a type or in its arguments."""
    if hasattr(kind, "__metadata__") and is_foreign(kind):
        return True
    return any(contains_foreign_metadata(argument) for argument in get_args(kind))


def has_model_methods(kind: Any) -> bool:
    """Whether a class has the methods of pydantic's models."""
    names = ("model_json_schema", "model_validate")
    return isinstance(kind, type) and all(callable(getattr(kind, name, None)) for name in names)


def foreign_fields(kind: Any) -> tuple[Field, ...] | None:
    """The fields of a model or a struct; `None` for other types.

    Raises:
        TypeError: msgspec does not support the type of a field.
    """
    if has_model_methods(kind):
        fields = None if getattr(kind, "__pydantic_root_model__", False) else kind.model_fields
        return fields and tuple(_model_field(name, info) for name, info in fields.items())
    if isinstance(kind, type) and hasattr(kind, "__struct_fields__") and "msgspec" in sys.modules:
        msgspec: Any = sys.modules["msgspec"]
        msgspec.json.Decoder(kind)  # Checks the types, which the class itself does not.
        fields = msgspec.structs.fields(kind)
        return tuple(Field(field.name, field.type, field.required) for field in fields)
    return None


def _model_field(name: str, info: Any) -> Field:
    kind = Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
    alias = info.validation_alias
    choices = getattr(alias, "choices", [alias])  # of an AliasChoices
    texts = [choice for choice in choices if isinstance(choice, str)]
    return Field(
        name,
        kind,
        info.is_required(),
        alias=texts[0] if texts else "",
        description=info.description,
    )


def build_foreign(kind: Any, values: Mapping[str, Any]) -> Any:
    """Create a model or a struct, which checks the values; raises an error of the library."""
    if has_model_methods(kind):
        return kind.model_validate(dict(values))
    # A struct does not check what it is created from.
    msgspec: Any = sys.modules["msgspec"]
    return msgspec.convert(msgspec.to_builtins(kind(**values)), kind)


def read_foreign(foreign: ForeignType, value: Any) -> Any:
    """Read decoded JSON as a value of a foreign type.

    Raises:
        ForeignError: It does not match, or has an object of which nothing is used.
    """
    try:
        result = foreign.read(value)
    except Exception as exc:
        raise ForeignError(list(_problems(exc))) from exc
    if isinstance(value, dict | list) and (schema := _schema_with_defaults(foreign)):
        for path, unknown, names in _unknown_objects(schema, value):
            if _is_ignored(foreign, value, path, result):
                rule = f"an object with {', '.join(names)}" if names else "an object without keys"
                raise ForeignError([Problem(path, f"must be {rule}, got {format_value(unknown)}")])
    return result


# Objects of unknown keys. A class whose fields all have defaults would match any of them.


@lru_cache(maxsize=256)
def _schema_with_defaults(foreign: ForeignType) -> dict[str, Any] | None:
    """The schema, if it has such a class.

    Kept, since a list has many objects of a type, and a schema takes long to build.
    """
    schema = foreign.json_schema()
    pending: list[Any] = [schema]
    while pending:
        part = pending.pop()
        if isinstance(part, dict) and _has_only_defaults(part):
            return schema
        if isinstance(part, dict | list):
            pending += part.values() if isinstance(part, dict) else part
    return None


def _has_only_defaults(rule: dict[str, Any]) -> bool:
    return (
        isinstance(rule.get("properties"), dict)
        and not rule.get("required")
        and not rule.get("additionalProperties")
    )


def _unknown_objects(
    schema: dict[str, Any], value: Any
) -> Iterator[tuple[tuple[str | int, ...], dict[str, Any], list[str]]]:
    """Find the objects with none of the keys of the classes at their place.

    Of those with the same keys and classes only the first: the others are read alike.

    Yields:
        The path, the object, and the keys that it may have.
    """
    definitions = schema.get("$defs", {})
    pending: list[tuple[tuple[str | int, ...], Any, list[Any]]] = [((), value, [schema])]
    seen = set()
    while pending:
        path, part, rules = pending.pop()
        rules = _alternatives(rules, definitions)
        if isinstance(part, list):
            pending += (((*path, i), item, _item_rules(rules, i)) for i, item in enumerate(part))
        if not part or not isinstance(part, dict):
            continue
        names = list(dict.fromkeys(name for rule in rules for name in rule.get("properties", ())))
        if any(map(_has_only_defaults, rules)) and part.keys().isdisjoint(names):
            kind = frozenset(part), *map(id, rules)
            if kind not in seen:
                yield path, part, names
            seen.add(kind)
        pending += (((*path, key), item, _value_rules(rules, key)) for key, item in part.items())


def _alternatives(rules: list[Any], definitions: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give the rules and those that they refer to or consist of."""
    alternatives: list[dict[str, Any]] = []
    pending = list(reversed(rules))
    while pending:
        rule = pending.pop()
        if isinstance(rule, dict) and not any(rule is other for other in alternatives):
            alternatives.append(rule)
            pending.append(definitions.get(str(rule.get("$ref")).rpartition("/")[2]))
            for union in ("anyOf", "oneOf", "allOf"):
                pending += reversed(rule.get(union, ()))
    return alternatives


def _item_rules(rules: list[dict[str, Any]], index: int) -> list[Any]:
    """The rules of one item of a list."""
    fixed = [rule.get("prefixItems", ()) for rule in rules]
    return [items[index] for items in fixed if index < len(items)] or [
        rule.get("items") for rule in rules
    ]


def _value_rules(rules: list[dict[str, Any]], key: str) -> list[Any]:
    """The rules of one value of an object."""
    value_rules = []
    for rule in rules:
        any_value = [rule.get("additionalProperties"), *rule.get("patternProperties", {}).values()]
        value_rules += [rule["properties"][key]] if key in rule.get("properties", ()) else any_value
    return value_rules


def _is_ignored(foreign: ForeignType, value: Any, path: tuple[str | int, ...], result: Any) -> bool:
    """Whether the values of an object make no difference: a class may read other keys (aliases)."""
    try:
        return bool(foreign.read(_garble(value, path)) == result)
    except Exception:
        return False


def _garble(value: Any, path: tuple[str | int, ...]) -> Any:
    """Copy a value, with values that no field accepts in the object at *path*."""
    if not path:
        return {key: [[["?"]]] for key in value}
    copy = value.copy()
    copy[path[0]] = _garble(value[path[0]], path[1:])
    return copy


def write_foreign(value: Any) -> Any:
    """Give a value of a foreign type as JSON types, with the names of its schema (aliases)."""
    if callable(dump := getattr(value, "model_dump", None)):
        return dump(mode="json", by_alias=True)
    if hasattr(value, "__struct_fields__"):
        return sys.modules["msgspec"].to_builtins(value)
    adapter = sys.modules["pydantic"].TypeAdapter(type(value))
    return adapter.dump_python(value, mode="json", by_alias=True)


def _libraries(metadata: tuple[Any, ...]) -> Iterator[str]:
    for item in metadata:
        package = type(item).__module__.partition(".")[0]
        library = _ADAPTED.get(package)
        if library is not None and library in sys.modules:
            yield library


def _model(kind: Any) -> ForeignType:
    # Strict models accept the string of a date and the list of a tuple only from JSON.
    validate_json = getattr(kind, "model_validate_json", None)
    if callable(validate_json):
        return ForeignType(kind.model_json_schema, lambda value: validate_json(json.dumps(value)))
    return ForeignType(kind.model_json_schema, kind.model_validate)


def _adapt_annotated(kind: Any, library: str) -> ForeignType | None:
    if library == "msgspec":
        return _adapt_for_msgspec(kind)
    try:
        return _adapt_for_pydantic(kind)
    except InputError:
        # A description applies to any type, such as an attrs class, and needs no checks.
        if any(_has_constraints(item) for item in kind.__metadata__):
            raise
        return None


def _has_constraints(metadata: Any) -> bool:
    """Whether an item of an `Annotated` does more than to describe the value."""
    if isinstance(getattr(metadata, "description", None), str):
        return bool(getattr(metadata, "metadata", True))
    return not isinstance(metadata, str)


@lru_cache(maxsize=256)
def _adapt_for_pydantic(kind: Any) -> ForeignType:
    pydantic: Any = sys.modules["pydantic"]
    try:
        adapter = pydantic.TypeAdapter(kind)
    except pydantic.PydanticUserError as exc:
        problem = str(exc).partition("\n")[0]
        raise InputError(f"pydantic can't check {kind!s:.100}: {problem:.200}") from exc
    return ForeignType(adapter.json_schema, lambda value: adapter.validate_json(json.dumps(value)))


def _adapt_for_msgspec(kind: Any) -> ForeignType:
    msgspec: Any = sys.modules["msgspec"]
    return ForeignType(
        lambda: msgspec.json.schema(kind), lambda value: msgspec.convert(value, kind)
    )


def _problems(exc: Exception) -> Iterator[Problem]:
    """What an error of pydantic says of each part; of any other error, its text."""
    errors = getattr(exc, "errors", None)
    if not callable(errors):
        message, _, path = str(exc).partition(" - at `$")
        keys = _MSGSPEC_KEY.findall(path.removesuffix("`"))
        yield Problem(
            tuple(int(index) if index else key for key, index in keys),
            message or type(exc).__name__,
        )
        return
    for error in errors(include_url=False):
        message = _RULE.sub("must ", str(error["msg"]))
        if error.get("type") == "missing":
            message = "is missing"
        elif not isinstance(value := error.get("input"), Mapping | list):
            message = f"{message}, got {format_value(value)}"
        yield Problem(tuple(error.get("loc", ())), message)
