"""JSON schemas of answers: what the grammars of llama.cpp cannot follow, or not soon enough.

They ignore some keywords, and most of those beside another one. For the simple ones, the answer is
checked; schemas with the others are refused, except `format`, which is only a hint in JSON Schema.
A `oneOf` counts as `anyOf`. Source: llama.cpp, common/json-schema-to-grammar.cpp.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, repeat
from typing import Any

import orjson

from cfai.local.errors import ApiError, json_mode_failed, rejected_by_model
from cfai.tasks.task import shorten

Schema = Mapping[str, Any]

_MOST_ALTERNATIVES = 300
"""Between which the model chooses at one place. The time for a token grows with their square:
measured 0.3 s for 300 and 3.5 s for 2,000."""

_MOST_REPETITIONS = 50
"""In a pattern: parts that repeat or can be left out. If the model can end and begin them at many
places, the time for a token grows without a limit: measured 0.5 s for 50 and over 12 s for 100."""

_UNUSED = (
    "$dynamicRef",
    "additionalItems",
    "contains",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "if",
    "maxContains",
    "minContains",
    "not",
    "patternProperties",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
)
"""The keywords that are neither followed nor checked."""

_NOT_WITH_PATTERN = ("$ref", "allOf", "anyOf", "const", "enum", "oneOf")
"""Beside these, a pattern is neither followed nor checked."""

_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "array": list,
    "boolean": bool,
    "integer": int,  # In Python, true and false are integers, too.
    "null": type(None),
    "number": (int, float),
    "object": dict,
    "string": str,
}


def check_schema(schema: Schema) -> None:
    """Check that an answer can follow a schema.

    Raises:
        ApiError: It has a keyword that would be ignored, an unknown type, or too many alternatives.
    """
    for part in _walk(schema, schema, set()):
        _check_keywords(part)
    count = _count_alternatives(schema, schema, {})
    if count > _MOST_ALTERNATIVES:
        amount = f"{count:,}" if count < 10**9 else "too many"
        raise _refuse(
            f"must have at most {_MOST_ALTERNATIVES} alternatives at one place "
            f"(values of an enum, members of anyOf, properties), got {amount}"
        )


def _check_keywords(part: Schema) -> None:
    for name in _UNUSED:
        if name in part:
            raise _refuse(f"must not have {name!r}: the local text model cannot follow it")
    for kind in _list_parts(part, "type"):
        if isinstance(kind, str) and kind not in _TYPES:
            raise _refuse(f"must have types of {', '.join(_TYPES)}, got {shorten(kind)}")
    if isinstance(pattern := part.get("pattern"), str):
        _check_pattern(pattern)
        for name in _NOT_WITH_PATTERN:
            if name in part:
                raise _refuse(f"must not have {name!r} beside a pattern: it would be ignored")
    for member in _list_parts(part, "allOf"):
        if isinstance(member, Mapping) and "pattern" in member:
            raise _refuse("must not have a pattern in 'allOf': it would be ignored")


_PATTERN_PART = re.compile(r"\\.|\{(\d*)(?:,(\d*))?\}|\((?:\?:)?|.", re.DOTALL)
"""An escaped character, how often something repeats, the beginning of a group, or a character."""


_PARTS = (
    "properties",
    "items",
    "additionalProperties",
    "anyOf",
    "oneOf",
    "allOf",
    "prefixItems",
)
"""The keywords with the schemas of parts."""


def _check_pattern(pattern: str) -> None:
    count = _count_repetitions(pattern)
    if count > _MOST_REPETITIONS:
        raise _refuse(
            f"must have at most {_MOST_REPETITIONS} parts of a pattern that repeat or can be left "
            f"out, those of a repeated group counted each time, got {shorten(pattern)}"
        )


def _count_repetitions(pattern: str) -> int:
    """Return how many parts repeat or can be left out; in `(a?b?){0,9}`, there are 18."""
    counts = [0]  # In each open group.
    last = 0  # In the group that has just ended.
    in_class = False
    for part in _PATTERN_PART.finditer(pattern):
        text = part[0]
        if in_class or text == "[":
            in_class, last = text != "]", 0
        elif text in ("(", "(?:"):
            counts.append(0)
        elif text == ")" and len(counts) > 1:
            last = counts.pop()
            counts[-1] += last
        elif text in ("*", "+", "?") or part[1] is not None:
            times = int((part[2] or part[1] or "1")[:9])
            counts[-1] += last * (times - 1) if last else 1
            last = last * times or 1
        else:
            last = 0
    return sum(counts)


def check_answer(text: str, schema: Schema) -> None:
    """Check an answer for the keywords that its grammar ignores, unless it is incomplete.

    Raises:
        ApiError: It breaks the schema.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return
    if not _fits(value, schema, schema):
        raise json_mode_failed()


def _refuse(problem: str) -> ApiError:
    return rejected_by_model(f"the JSON schema {problem}")


def _walk(schema: Any, root: Schema, visited: set[str]) -> Iterator[Schema]:
    """Yield a schema and all schemas in it, also those that are only referred to."""
    if not isinstance(schema, Mapping):
        return
    yield schema
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference not in visited:
        visited.add(reference)
        yield from _walk(_resolve(reference, root), root, visited)
    for name in ("$defs", "definitions"):
        for part in _list_values(schema.get(name)):
            yield from _walk(part, root, visited)
    for part in _list_parts(schema, *_PARTS):
        yield from _walk(part, root, visited)


def _list_values(parts: Any) -> Iterable[Any]:
    return parts.values() if isinstance(parts, Mapping) else ()


def _count_alternatives(schema: Any, root: Schema, counts: dict[str, int]) -> int:
    """Return between how many texts the model chooses at one place, at most."""
    if not isinstance(schema, Mapping):
        return 1
    reference = schema.get("$ref")
    if isinstance(reference, str):
        if reference not in counts:
            counts[reference] = 1  # A schema within itself is not counted again.
            counts[reference] = _count_alternatives(_resolve(reference, root), root, counts)
        return counts[reference]

    def count(*names: str) -> list[int]:
        return [_count_alternatives(part, root, counts) for part in _list_parts(schema, *names)]

    pattern, values = schema.get("pattern"), schema.get("enum")
    return max(
        1,
        sum(count("anyOf", "oneOf", "allOf")),
        *count("properties", "items", "additionalProperties", "prefixItems"),
        len(values) if isinstance(values, list) else 0,
        len(schema["properties"]) if isinstance(schema.get("properties"), Mapping) else 0,
        pattern.count("|") if isinstance(pattern, str) else 0,
    )


def _list_parts(schema: Schema, *names: str) -> Iterator[Any]:
    for name in names:
        value = schema.get(name)
        if name == "properties" and isinstance(value, Mapping):
            yield from value.values()
        elif isinstance(value, list):
            yield from value
        elif value is not None:
            yield value


def _resolve(reference: str, root: Schema) -> Any:
    """Return the schema that is referred to; `None` if there is none, which llama.cpp reports."""
    value: Any = root
    for name in reference.removeprefix("#").split("/")[1:]:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _fits(value: Any, schema: Any, root: Schema) -> bool:
    """Return whether *value* follows a schema, apart from its patterns."""
    if not isinstance(schema, Mapping):
        return schema is not False
    if not (
        _has_type(value, schema.get("type"))
        and _is_listed(value, schema)
        and _fits_members(value, schema, root)
    ):
        return False
    if isinstance(value, dict):
        return _object_fits(value, schema, root)
    if isinstance(value, list):
        return _list_fits(value, schema, root)
    if isinstance(value, str):
        return _has_size(len(value), schema, "minLength", "maxLength")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number_fits(value, schema)
    return True


def _fits_members(value: Any, schema: Schema, root: Schema) -> bool:
    """Return whether a value follows the other schemas that a schema has for all of it."""
    reference = schema.get("$ref")
    if isinstance(reference, str) and not _fits(value, _resolve(reference, root), root):
        return False
    for name in ("anyOf", "oneOf"):
        members = [*_list_parts(schema, name)]
        if members and not any(_fits(value, member, root) for member in members):
            return False
    return all(_fits(value, member, root) for member in _list_parts(schema, "allOf"))


def _has_type(value: Any, kinds: Any) -> bool:
    listed = kinds if isinstance(kinds, list) else [kinds]
    names = [name for name in listed if isinstance(name, str) and name in _TYPES]
    if not names:
        return True
    if isinstance(value, bool):
        return "boolean" in names
    return any(isinstance(value, _TYPES[name]) for name in names)


def _is_listed(value: Any, schema: Schema) -> bool:
    """Return whether a value is the `const`, and one of the `enum`."""
    values = schema.get("enum")
    listed = [values] if isinstance(values, list) else []
    listed += [[schema["const"]]] if "const" in schema else []
    is_bool = isinstance(value, bool)
    return all(
        any(value == item and isinstance(item, bool) == is_bool for item in items)
        for items in listed
    )


def _has_size(size: int, schema: Schema, least_name: str, most_name: str) -> bool:
    least, most = _read_number(schema, least_name), _read_number(schema, most_name)
    return (least is None or least <= size) and (most is None or size <= most)


def _list_fits(value: list[Any], schema: Schema, root: Schema) -> bool:
    distinct = {orjson.dumps(item, option=orjson.OPT_SORT_KEYS) for item in value}
    if schema.get("uniqueItems") is True and len(distinct) < len(value):
        return False
    # An older form has the list in `items`.
    first, others = schema.get("prefixItems"), schema.get("items")
    if isinstance(others, list):
        first, others = others, None
    kinds = chain(first if isinstance(first, list) else (), repeat(others))
    return _has_size(len(value), schema, "minItems", "maxItems") and all(
        _fits(item, kind, root) for item, kind in zip(value, kinds, strict=False)
    )


def _object_fits(value: Mapping[str, Any], schema: Schema, root: Schema) -> bool:
    required = [name for name in _list_parts(schema, "required") if isinstance(name, str)]
    parts, others = schema.get("properties"), schema.get("additionalProperties")
    parts = parts if isinstance(parts, Mapping) else {}
    return (
        value.keys() >= set(required)
        and _has_size(len(value), schema, "minProperties", "maxProperties")
        and all(_fits(item, parts.get(name, others), root) for name, item in value.items())
    )


def _number_fits(number: float, schema: Schema) -> bool:
    least, most = _read_number(schema, "minimum"), _read_number(schema, "maximum")
    above = _read_number(schema, "exclusiveMinimum")
    below = _read_number(schema, "exclusiveMaximum")
    step = _read_number(schema, "multipleOf")
    return (
        (least is None or number >= least)
        and (most is None or number <= most)
        and (above is None or number > above)
        and (below is None or number < below)
        and (not step or math.isclose(number / step, round(number / step), abs_tol=1e-9))
    )


def _read_number(schema: Schema, name: str) -> float | None:
    value = schema.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
