"""The form that `chat --schema` asks for, and whether an answer has it."""

import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

from attrs import frozen

from cfai._types.excerpts import format_value
from cfai._types.read import TypeMismatch
from cfai.errors import InputError, MissingExtra, ParseError
from cfai.objects import find_values
from cfai.tasks import ResponseFormat, Text

_REFERENCES: Final = ("$ref", "$dynamicRef")


@frozen
class AnswerForm:
    """A checked schema, and the values in answers that match it."""

    response_format: ResponseFormat
    _validator: Any

    @classmethod
    def of(cls, schema: Mapping[str, Any]) -> "AnswerForm":
        """Check a JSON schema, or a response format of the documented form.

        A schema is of draft 2020-12 unless its `$schema` names an older one. Nothing is downloaded.

        Raises:
            InputError: It is not valid, or refers to a schema that is not in it.
            MissingExtra: The library is not installed.
        """
        response_format = ResponseFormat.of(schema)
        any_json = response_format.json_schema is None
        own = {} if any_json else response_format.payload()["json_schema"]
        return cls(response_format, _build_validator(own))

    def choose_value(self, answer: Text) -> tuple[Any, str | None]:
        """Choose the JSON value in *answer* that matches, or else the likeliest one.

        It may be in a fence or in other text, as for `WorkersAI.parse`.

        Returns:
            The value, and why it does not match.

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
        first, *others = values
        problem = self._find_problem(first)
        if problem is not None:
            for value in others:
                if self._find_problem(value) is None:
                    return value, None
        return first, problem

    def _find_problem(self, value: Any) -> str | None:
        """The error of a validation that says most, with the place in the value."""
        from jsonschema.exceptions import best_match

        try:
            error = best_match(self._validator.iter_errors(value))
        except (RecursionError, re.error) as exc:  # Old drafts accept any text as a pattern.
            return f"it can't be checked: {exc}"
        return None if error is None else _describe(error)


def _build_validator(schema: Any) -> Any:
    try:
        from jsonschema import Draft202012Validator, SchemaError
        from jsonschema.validators import validator_for
        from referencing import Registry
    except ImportError as exc:
        raise MissingExtra("cli", needed_for="--schema") from exc

    # Any other value of it is reported by the check.
    names_draft = isinstance(schema, Mapping) and isinstance(schema.get("$schema"), str)
    validator_class = validator_for(schema if names_draft else {}, default=Draft202012Validator)
    try:
        validator_class.check_schema(schema)
        # The default registry would download other schemas.
        validator = validator_class(schema, registry=Registry())
        _check_references(validator)
    except SchemaError as exc:
        raise InputError(f"--schema must be a JSON schema: {_describe(exc)}") from exc
    except RecursionError as exc:
        raise InputError("--schema is nested too deep") from exc
    return validator


def _check_references(validator: Any) -> None:
    """Follow all references: the library does so only if a value leads there.

    Raises:
        InputError: One leads to nothing, or back to itself without a part of the value in between.
        SchemaError: One leads to something else than a schema.
    """
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import specification_with

    draft = specification_with(validator.META_SCHEMA["$schema"])
    root = draft.create_resource(validator.schema)
    pending = [(root, Registry[Any]().resolver_with_root(root))]
    seen: set[int] = set()
    names: dict[int, str] = {}
    steps = TopologicalSorter[int]()
    while pending:
        resource, resolver = pending.pop()
        if id(resource.contents) in seen or not isinstance(resource.contents, Mapping):
            continue
        seen.add(id(resource.contents))
        steps.add(id(resource.contents), *map(id, _find_parts(resource.contents)))
        for reference in map(resource.contents.get, _REFERENCES):
            if reference is None:
                continue
            try:
                target = resolver.lookup(reference)
            except (Unresolvable, ValueError) as exc:  # Some malformed ones are ValueErrors.
                rule = "which is not in it: put that under $defs"
                raise InputError(f"--schema refers to {reference}, {rule}") from exc
            validator.check_schema(target.contents)
            pending.append((draft.create_resource(target.contents), target.resolver))
            names[id(target.contents)] = reference
            steps.add(id(resource.contents), id(target.contents))
        pending += [(part, resolver.in_subresource(part)) for part in resource.subresources()]
    try:
        steps.prepare()
    except CycleError as exc:
        name = min(names[node] for node in exc.args[1] if node in names)
        raise InputError(
            f"--schema refers to {name}, which leads back to itself before any part of a value"
        ) from exc


def _find_parts(schema: Mapping[str, Any]) -> Iterator[Any]:
    """The schemas in a schema that are for the same value, and not for a part of it."""
    for name in ("not", "if", "then", "else"):
        if name in schema:
            yield schema[name]
    for name in ("allOf", "anyOf", "oneOf"):
        yield from schema.get(name, ())
    for name in ("dependentSchemas", "dependencies"):
        yield from schema.get(name, {}).values()


def _describe(error: Any) -> str:
    """The message of the library, with its value shortened, and its place as a JSONPath."""
    excerpt = format_value(error.instance, 60)
    message = str(error.message).replace(repr(error.instance), excerpt, 1)
    return message if error.json_path == "$" else f"{error.json_path}: {message}"
