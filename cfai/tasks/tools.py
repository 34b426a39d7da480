"""What a language model may call, and the form that it must answer in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import field, frozen

from cfai.errors import InputError
from cfai.tasks._rule import shortened
from cfai.tasks._value import Value


def _name(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InputError(f"name must be text of at least 1 character, got {shortened(value)}")
    return value


def _description(value: object) -> str:
    if not isinstance(value, str):
        raise InputError(f"description must be text, got {shortened(value)}")
    return value


def _parameters(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"parameters must be a JSON schema, got {shortened(value)}")
    if isinstance(value.get("type"), str) or "$ref" in value:
        return value
    # Only the properties were given; "type" can be the name of one.
    return {"type": "object", "properties": value}


@frozen(eq=False, repr=False)
class _Callable(Value):
    name: str = field(converter=_name)
    """Its name; the more it says the better."""

    description: str = field(converter=_description)
    """What it does, in a sentence."""

    parameters: Mapping[str, Any] = field(factory=dict, converter=_parameters)
    """What it takes: a JSON schema (`{"type": "object", "properties": {...}}`), or the properties
    alone, each with its type and description."""

    required: Iterable[str] | None = field(default=None, kw_only=True)
    """The names of the parameters that must be there, where the schema does not say so."""

    def _described(self) -> dict[str, Any]:
        schema = dict(self.parameters)
        if self.required is not None:
            schema["required"] = list(self.required)
        return {"name": self.name, "description": self.description, "parameters": schema}


@frozen(eq=False, repr=False)
class Tool(_Callable):
    """Something that the model may call, in Workers AI's own form.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Text Generation", `tools`.
    """

    def payload(self) -> dict[str, Any]:
        """Give the tool as the service takes it."""
        return self._described()


@frozen(eq=False, repr=False)
class Function(_Callable):
    """Something that the model may call, in the form of chat completions.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Text Generation", `tools`.
    """

    def payload(self) -> dict[str, Any]:
        """Give the tool as the service takes it."""
        return {"type": "function", "function": self._described()}


@frozen(eq=False, repr=False)
class CodeFunction(Value):
    """A function that comes with its code."""

    name: str = field(converter=_name)

    code: str
    """What runs when the model calls it."""

    def payload(self) -> dict[str, Any]:
        """Give the function as the service takes it."""
        return {"name": self.name, "code": self.code}


def _bare(schema: Any) -> Any:
    """Take the schema out of the wrapping that other services put around it."""
    match schema:
        case {"schema": Mapping() as inner} if "type" not in schema and "properties" not in schema:
            return inner
    return schema


def _format(value: Any) -> Any:
    if value not in (None, "json_object", "json_schema"):
        raise InputError(f"type must be json_object or json_schema, got {shortened(value)}")
    return value


@frozen(eq=False, repr=False)
class ResponseFormat(Value):
    """The form that the text must have. Not with streams: JSON mode does not stream.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Text Generation", `response_format`.
    """

    type: str | None = field(default=None, converter=_format)
    """ "json_object" for any JSON, "json_schema" for what fits *json_schema*."""

    json_schema: Any = field(default=None, kw_only=True, converter=_bare)
    """The schema itself; where it comes as `{name, schema, strict}`, the schema is taken out."""

    @classmethod
    def of(cls, value: ResponseFormat | Mapping[str, Any] | str) -> ResponseFormat:
        """Make one of a mapping of the documented shape, of a JSON schema, or of a type's name.

        Raises:
            InputError: It is none of them.
        """
        match value:
            case ResponseFormat():
                return value
            case str():
                return cls(value)
            case {"type": "json_object" | "json_schema"} | {"json_schema": _}:
                return cls(value.get("type"), json_schema=value.get("json_schema"))
            case Mapping() if value:
                return cls("json_schema", json_schema=value)
        raise InputError(f"it must be a ResponseFormat or a JSON schema, got {shortened(value)}")

    def payload(self) -> dict[str, Any]:
        """Give the format as the service takes it."""
        body = {"type": self.type, "json_schema": self.json_schema}
        return {name: value for name, value in body.items() if value is not None}


def tool(value: Any) -> Tool | Function | Mapping[str, Any]:
    """Check a tool, which may be a mapping of either documented shape.

    Raises:
        InputError: It is something else, or lacks a name, description or parameters.
    """
    if isinstance(value, Tool | Function):
        return value
    match value:
        case {"function": Mapping() as described, "type": str()}:
            _described(described)
        case {"name": _}:
            _described(value)
        case _:
            raise InputError(f"a tool must be a Tool, Function or mapping, got {shortened(value)}")
    checked: Mapping[str, Any] = value
    return checked


def _described(value: Mapping[str, Any]) -> None:
    _name(value.get("name"))
    _description(value.get("description"))
    if not isinstance(value.get("parameters"), Mapping):
        raise InputError(f"parameters must be a JSON schema, got {shortened(value)}")


def code_function(value: Any) -> CodeFunction:
    """Make a function of a mapping of the documented shape, or hand one on.

    Raises:
        InputError: It is neither, or lacks its name or code.
    """
    match value:
        case CodeFunction():
            return value
        case {"name": str(name), "code": str(code)}:
            return CodeFunction(name, code)
    raise InputError(f"a function must have its name and code, got {shortened(value)}")
