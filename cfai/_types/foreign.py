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


@lru_cache(maxsize=256)
def _property_names(foreign: ForeignType) -> tuple[str, ...] | None:
    """The keys of its objects; `None` if they may have any, or if it has no objects.

    Kept, since a list has many objects of a type, and a schema takes long to build.
    """
    schema = foreign.json_schema()
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    schema = schema.get("$defs", {}).get(name, schema)
    if "properties" not in schema or schema.get("additionalProperties"):
        return None
    return tuple(schema["properties"])


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
        ForeignError: It does not match, or is an object of which nothing is used.
    """
    try:
        result = foreign.read(value)
    except Exception as exc:
        raise ForeignError(list(_problems(exc))) from exc
    if value and isinstance(value, dict) and _uses_nothing(foreign, value, result):
        names = ", ".join(_property_names(foreign) or ())
        rule = f"an object with {names}" if names else "an object without keys"
        raise ForeignError([Problem((), f"must be {rule}, got {format_value(value)}")])
    return result


def _uses_nothing(foreign: ForeignType, value: dict[str, Any], result: Any) -> bool:
    """Whether a class got none of the keys, so that it would match any unrelated object."""
    used = getattr(result, "model_fields_set", None)
    if isinstance(used, set):  # pydantic's models know it, whatever their aliases are.
        return not used and not getattr(result, "model_extra", None)
    names = _property_names(foreign)
    return names is not None and value.keys().isdisjoint(names)


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
    except pydantic.PydanticSchemaGenerationError as exc:
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
