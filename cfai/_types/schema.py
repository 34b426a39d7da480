"""JSON schemas of Python types, with descriptions from annotations, metadata and docstrings."""

from __future__ import annotations

import inspect
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from itertools import chain, count
from types import NoneType
from typing import Any, Final, Literal, NewType, NoReturn, get_args, get_origin
from uuid import UUID

from cfai._types.excerpts import format_value
from cfai._types.foreign import ForeignType, foreign_type, is_foreign
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
    is_union,
    origin_of,
)
from cfai.errors import InputError

Schema = dict[str, Any]

_SCALARS: Final[dict[Any, Schema]] = {
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

_TYPE_NAMES: Final = {kind: _SCALARS[kind]["type"] for kind in (str, bool, int, float, NoneType)}
_REF: Final = "#/$defs/"


def json_schema(kind: Any) -> Schema:
    """Build the JSON schema of a type.

    Strings, numbers, booleans, `None`, dates, times, UUIDs and decimals; `Literal`, enumerations,
    unions; lists, tuples, sets and dictionaries of them; attrs classes, dataclasses, TypedDicts and
    named tuples, also recursive ones. Descriptions come from strings in `Annotated`, from
    `metadata={"description": ...}` of a field, and from the docstring.

    Raises:
        InputError: The type has no JSON form. The message has the place in the type.
    """
    builder = SchemaBuilder()
    return builder.resolve(builder.build(kind, getattr(kind, "__name__", str(kind))))


class SchemaBuilder:
    """Builds the schema of one type.

    `build` and `build_object` put classes into definitions and refer to them; `resolve` replaces
    the references at the end.
    """

    def __init__(self) -> None:
        self._names: dict[type[Any], str] = {}
        self._definitions: dict[str, Schema] = {}
        self._uses: Counter[str] = Counter()

    def resolve(self, schema: Schema) -> Schema:
        """Inline each definition that is used once, and put the others into `$defs`."""
        resolved: Schema = self._inline(schema)
        name = str(resolved.get("$ref", "")).removeprefix(_REF)
        if name:
            # The top level must say that it is an object.
            resolved = {**self._inline(self._definitions[name]), **_without(resolved, "$ref")}
        shared = {name for name in self._definitions if self._uses[name] > 1}
        if shared:
            resolved["$defs"] = {
                name: self._inline(self._definitions[name]) for name in sorted(shared)
            }
        return resolved

    def _inline(self, schema: Any) -> Any:
        if isinstance(schema, list):
            return [self._inline(item) for item in schema]
        if not isinstance(schema, dict):
            return schema
        while self._uses[name := str(schema.get("$ref", "")).removeprefix(_REF)] == 1:
            schema = {**self._definitions[name], **_without(schema, "$ref")}
        return {key: self._inline(value) for key, value in schema.items()}

    def build(self, kind: Any, path: str) -> Schema:
        """Build the schema of a type. *path* names it in errors."""
        if isinstance(kind, NewType):
            return self.build(kind.__supertype__, path)
        if hasattr(kind, "__metadata__"):
            return self._build_annotated(kind, path)
        if is_enum(kind) or get_origin(kind) is Literal:
            return _build_choice(list(choices_of(kind)), path)
        if is_union(kind):
            return {"anyOf": [self.build(member, path) for member in get_args(kind)]}
        if is_class(kind) or is_foreign(kind) or is_alias(kind):
            return self._refer_to(kind, path)
        if is_list(kind):
            return self._build_list(kind, path)
        if is_mapping(kind):
            return self._build_mapping(kind, path)
        return dict(_build_scalar(kind, path))

    def _build_annotated(self, kind: Any, path: str) -> Schema:
        foreign = _find_foreign(kind, path)
        if foreign is None:
            schema = self.build(get_args(kind)[0], path)
        else:
            schema = self._build_foreign(foreign, kind, path)
        texts = filter(None, map(description_in, kind.__metadata__))
        return _add_description(schema, next(texts, ""))

    def _build_list(self, kind: Any, path: str) -> Schema:
        arguments = get_args(kind)
        if is_fixed_tuple(kind):
            prefix = [self.build(item, f"{path}[{at}]") for at, item in enumerate(arguments)]
            size = len(prefix)
            items = {"prefixItems": prefix} if prefix else {}
            return {"type": "array", **items, "minItems": size, "maxItems": size}
        items = self.build(arguments[0], f"{path}[]") if arguments else {}
        unique = {"uniqueItems": True} if origin_of(kind) in SETS else {}
        return {"type": "array", "items": items, **unique}

    def _build_mapping(self, kind: Any, path: str) -> Schema:
        key, value = get_args(kind) or (str, Any)
        if key is not str:
            _raise_unsupported(kind, path, "the keys of an object must be strings")
        return {"type": "object", "additionalProperties": self.build(value, f"{path}{{}}")}

    def _refer_to(self, kind: type[Any], path: str) -> Schema:
        if kind not in self._names:
            foreign = _find_foreign(kind, path)
            if is_alias(kind):  # It may be recursive, as classes.
                name = self._names[kind] = self._free_name(kind.__name__)
                self._definitions[name] = self.build(aliased_type(kind), path)
            elif foreign is None:
                name = self._names[kind] = self._free_name(kind.__name__)
                self._definitions[name] = self._build_class(kind, path)
            else:
                self._names[kind] = self._define_foreign(foreign, kind, path)
        self._uses[self._names[kind]] += 1
        return {"$ref": _REF + self._names[kind]}

    def _free_name(self, name: str) -> str:
        taken = {*self._names.values(), *self._definitions}
        names = chain([name], (f"{name}{number}" for number in count(2)))
        return next(name for name in names if name not in taken)

    def _define_foreign(self, foreign: ForeignType, kind: type[Any], path: str) -> str:
        """Define a class of another library, and return the name of its definition."""
        schema = self._build_foreign(foreign, kind, path)
        if schema.keys() == {"$ref"}:  # It is among its own definitions, since it is recursive.
            name: str = schema["$ref"].removeprefix(_REF)
            self._uses[name] -= 1
            return name
        name = self._free_name(kind.__name__)
        self._definitions[name] = schema
        return name

    def _build_foreign(self, foreign: ForeignType, kind: Any, path: str) -> Schema:
        """Take over the schema of another library, with its definitions under free names."""
        try:
            schema = foreign.json_schema()
        except Exception as exc:
            name = getattr(kind, "__name__", str(kind))
            problem = str(exc).partition("\n")[0]
            raise InputError(f"{path}: {name} has no JSON schema: {problem}") from exc
        definitions = schema.get("$defs", {})
        names: dict[str, str] = {}
        for name in definitions:
            new_name = self._free_name(name)
            names[_REF + name] = _REF + new_name
            self._definitions[new_name] = {}
        for name, definition in definitions.items():
            new_name = names[_REF + name].removeprefix(_REF)
            self._definitions[new_name] = self._rename_references(definition, names)
        renamed: Schema = self._rename_references(_without(schema, "$defs"), names)
        return renamed

    def _rename_references(self, schema: Any, names: Mapping[str, str]) -> Any:
        if isinstance(schema, list):
            return [self._rename_references(item, names) for item in schema]
        if not isinstance(schema, dict):
            return schema
        renamed = {
            key: self._rename_references(value, names)
            for key, value in schema.items()
            if not _is_discriminator(key, value)
        }
        if isinstance(reference := schema.get("$ref"), str) and reference in names:
            renamed["$ref"] = names[reference]
            self._uses[names[reference].removeprefix(_REF)] += 1
        return renamed

    def _build_class(self, kind: type[Any], path: str) -> Schema:
        doc = kind.__doc__ or ""
        # The default docstring of dataclasses and named tuples is their signature.
        doc = "" if doc.startswith(f"{kind.__name__}(") else doc
        try:
            fields = fields_of(kind)
        except (NameError, TypeError) as exc:
            raise InputError(f"{path}: can't resolve the types of {kind.__name__}: {exc}") from exc
        return _add_description(
            self.build_object(fields, parameter_descriptions(doc), path), first_paragraph(doc)
        )

    def build_object(
        self, fields: Iterable[Field], descriptions: Mapping[str, str], path: str
    ) -> Schema:
        """Build the schema of an object with these fields."""
        properties: Schema = {}
        required = []
        for field in fields:
            schema = self.build(field.kind, f"{path}.{field.name}")
            schema = _add_description(schema, field.description or descriptions.get(field.name, ""))
            if _is_valid_default(field.default, schema):
                schema = {**schema, "default": field.default}
            properties[field.name] = schema
            if field.required:
                required.append(field.name)
        return {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": False,
        }


def _find_foreign(kind: Any, path: str) -> ForeignType | None:
    try:
        return foreign_type(kind)
    except InputError as exc:
        raise InputError(f"{path}: {exc}") from exc


def _is_discriminator(key: str, value: Any) -> bool:
    """Tell whether it is OpenAPI's keyword for unions, which JSON schema does not have."""
    return key == "discriminator" and isinstance(value, dict) and "propertyName" in value


def description_in(metadata: Any) -> str:
    """Give the description in an item of an `Annotated`: a string, or what describes itself."""
    for text in (metadata, getattr(metadata, "description", None)):
        if isinstance(text, str):
            return text
    return ""


def _add_description(schema: Schema, text: str) -> Schema:
    """Add a description, unless the schema has one."""
    if not text or "description" in schema:
        return schema
    return {**schema, "description": text}


def _is_valid_default(default: Any, schema: Schema) -> bool:
    """Tell whether a default can stand in the schema: a model may send it back."""
    if type(default) not in _TYPE_NAMES or default is None:
        return False
    if isinstance(default, float) and not math.isfinite(default):
        return False
    if "anyOf" in schema:
        return any(_is_valid_default(default, member) for member in schema["anyOf"])
    if "$ref" in schema or ("enum" in schema and default not in schema["enum"]):
        return False
    name = _TYPE_NAMES[type(default)]
    expected = schema.get("type", name)
    return bool(name == expected or (name, expected) == ("integer", "number"))


def _without(schema: Schema, key: str) -> Schema:
    return {name: value for name, value in schema.items() if name != key}


def _build_choice(values: list[Any], path: str) -> Schema:
    for value in values:
        if type(value) not in _TYPE_NAMES:
            raise InputError(
                f"{path}: a choice must be a string, a number or null, got {format_value(value)}"
            )
    if not values:
        raise InputError(f"{path}: a choice must have at least one value")
    names = {_TYPE_NAMES[type(value)] for value in values}
    return {"type": names.pop(), "enum": values} if len(names) == 1 else {"enum": values}


def _build_scalar(kind: Any, path: str) -> Schema:
    try:
        return _SCALARS[kind]
    except (KeyError, TypeError):
        _raise_unsupported(kind, path, "use a type that JSON has")


def _raise_unsupported(kind: Any, path: str, advice: str) -> NoReturn:
    name = kind.__qualname__ if isinstance(kind, type) and not get_args(kind) else str(kind)
    raise InputError(f"{path}: {name:.80} has no JSON form; {advice}")


# Docstrings

_GOOGLE = re.compile(r"(Args|Arguments|Parameters|Params|Attributes)\s*:\s*")
_NUMPY = re.compile(r"(Parameters|Other Parameters|Attributes)\s*")
_UNDERLINE = re.compile(r"-{3,}\s*")
_FIELD = re.compile(
    r":(?P<kind>param|parameter|arg|argument|ivar|var|\w+)(?P<names>[^:]*):(?P<text>.*)"
)
_PARAMETERS = {"param", "parameter", "arg", "argument", "ivar", "var"}
_ENTRY = re.compile(r"\*{0,2}(?P<name>\w+)\s*(\(.*?\))?\s*:(?P<text>.*)")
_SECTION = re.compile(r"(Args|Arguments|Returns|Yields|Raises|Examples?|Notes?)\s*:.*")


def first_paragraph(docstring: str | None) -> str:
    """Give the first paragraph of a docstring as one line, without its sections."""
    paragraph: list[str] = []
    for line in inspect.cleandoc(docstring or "").splitlines():
        if not line.strip() or _GOOGLE.fullmatch(line) or _FIELD.fullmatch(line):
            break
        if paragraph and _SECTION.fullmatch(line):
            break
        paragraph.append(line.strip())
    return " ".join(paragraph)


def parameter_descriptions(docstring: str | None) -> dict[str, str]:
    """Give the description of each parameter in a docstring, each as one line.

    Google's style (`Args:`), NumPy's (`Parameters` underlined) and Sphinx's (`:param name:`).
    """
    lines = inspect.cleandoc(docstring or "").splitlines()
    descriptions = dict(_parse_sphinx(lines))
    for at, line in enumerate(lines):
        if _GOOGLE.fullmatch(line):
            descriptions |= dict(_parse_google(lines[at + 1 :]))
        elif _NUMPY.fullmatch(line) and at + 1 < len(lines) and _UNDERLINE.fullmatch(lines[at + 1]):
            descriptions |= dict(_parse_numpy(lines[at + 2 :]))
    return {name: text for name, text in descriptions.items() if text}


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _join_lines(first: str, more: list[str]) -> str:
    return " ".join(part for part in (first.strip(), *map(str.strip, more)) if part)


def _indented_lines(lines: list[str], indent: int) -> list[str]:
    """Take the lines up to the first that is not indented further than *indent*."""
    block = []
    for line in lines:
        if line.strip() and _indent(line) <= indent:
            break
        block.append(line)
    return block


def _parse_google(lines: list[str]) -> Iterator[tuple[str, str]]:
    section = _indented_lines(lines, 0)
    first = next((line for line in section if line.strip()), "")
    for at, line in enumerate(section):
        entry = _ENTRY.fullmatch(line.strip())
        if entry and _indent(line) == _indent(first):
            more = _indented_lines(section[at + 1 :], _indent(line))
            yield entry["name"], _join_lines(entry["text"], more)


def _parse_numpy(lines: list[str]) -> Iterator[tuple[str, str]]:
    for at, line in enumerate(lines):
        if at + 1 < len(lines) and _UNDERLINE.fullmatch(lines[at + 1]):
            return
        if line.strip() and not _indent(line):
            text = _join_lines("", _indented_lines(lines[at + 1 :], 0))
            for name in line.partition(":")[0].split(","):
                yield name.strip().lstrip("*"), text


def _parse_sphinx(lines: list[str]) -> Iterator[tuple[str, str]]:
    for at, line in enumerate(lines):
        field = _FIELD.fullmatch(line)
        if field and field["kind"] in _PARAMETERS and field["names"].split():
            # The last word is the name; a type may precede it.
            name = field["names"].split()[-1].lstrip("*")
            yield name, _join_lines(field["text"], _indented_lines(lines[at + 1 :], 0))
