"""Whether an answer has the form that `chat --schema` asked for."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from cfai._types.excerpts import format_value
from cfai._types.read import TypeMismatch
from cfai.errors import ParseError
from cfai.objects import find_values
from cfai.tasks import Text

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "null": (type(None),),
    "boolean": (bool,),
    "integer": (int, float),
    "number": (int, float),
    "string": (str,),
    "array": (list,),
    "object": (dict,),
}


def choose_value(answer: Text, schema: Any) -> Any:
    """The JSON value in *answer* that matches the schema, or else the likeliest one.

    It may be in a fence or in other text, as for `WorkersAI.parse`.

    Raises:
        ParseError: There is none.
    """
    try:
        values = list(find_values(answer, into=None))
    except TypeMismatch:
        values = []
    if not values:
        text = answer.text.strip()
        cut = " (cut at the maximum length)" if answer.finish_reason == "length" else ""
        raise ParseError(f"the answer is not JSON{cut}: {text}", answer=answer)
    matching = (value for value in values if not any(_find_problems(value, schema, "it")))
    return next(matching, values[0])


def check_form(answer: Text, value: Any, schema: Any) -> None:
    """Check the *value* of *answer* against a JSON schema: types, names and options.

    Bounds, patterns and references to other schemas are not checked.

    Raises:
        ParseError: It does not match.
    """
    problem = next(_find_problems(value, schema, "it"), None)
    if problem is not None:
        raise ParseError(f"the answer does not match --schema: {problem}", answer=answer)


def _find_problems(value: Any, schema: Any, path: str) -> Iterator[str]:
    """Say what is wrong with the part of the answer at *path*."""
    if not isinstance(schema, Mapping):
        return
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is_of_type(value, kind) for kind in kinds):
        yield f"{path} must be of type {' or '.join(kinds)}, got {format_value(value, 60)}"
        return
    options = [schema["const"]] if "const" in schema else schema.get("enum")
    if options is not None and not any(_is_equal(value, option) for option in options):
        yield f"{path} must be one of {format_value(options, 60)}, got {format_value(value, 60)}"
    for name in ("anyOf", "oneOf"):
        choices = schema.get(name)
        if choices and all(any(_find_problems(value, choice, path)) for choice in choices):
            yield f"{path} must match one of {name}, got {format_value(value, 60)}"
    for part in schema.get("allOf", ()):
        yield from _find_problems(value, part, path)
    if isinstance(value, dict):
        yield from _find_problems_of_fields(value, schema, path)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _find_problems(item, schema.get("items"), f"{path}[{index}]")


def _find_problems_of_fields(
    value: Mapping[str, Any], schema: Mapping[str, Any], path: str
) -> Iterator[str]:
    fields = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{path} has no {name}"
    for name, item in value.items():
        if name in fields:
            yield from _find_problems(
                item, fields[name], name if path == "it" else f"{path}.{name}"
            )
        elif schema.get("additionalProperties") is False and "patternProperties" not in schema:
            yield f"{path} must not have {name}"


def _is_of_type(value: Any, kind: str) -> bool:
    # A bool is an int in Python, and JSON's 1.0 is an integer.
    if isinstance(value, bool) and kind != "boolean":
        return False
    if isinstance(value, float) and kind == "integer":
        return value.is_integer()
    return isinstance(value, _TYPES.get(kind, object))


def _is_equal(value: Any, option: Any) -> bool:
    return value == option and isinstance(value, bool) == isinstance(option, bool)
