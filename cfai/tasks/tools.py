"""The tools that a language model may call, and the format of its answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import field, frozen

from cfai._types.values import Value
from cfai.errors import InputError
from cfai.tasks.task import shorten


def _check_name(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InputError(f"name must be a string of at least 1 character, got {shorten(value)}")
    return value


def _check_description(value: object) -> str:
    if not isinstance(value, str):
        raise InputError(f"description must be a string, got {shorten(value)}")
    return value


def _parse_parameters(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"parameters must be a JSON schema, got {shorten(value)}")
    if isinstance(value.get("type"), str) or "$ref" in value:
        return value
    # Only the properties were passed. One of them may be called "type".
    return {"type": "object", "properties": value}


@frozen(eq=False, repr=False)
class _ToolDescription(Value):
    name: str = field(converter=_check_name)
    """The name; a descriptive one helps the model."""

    description: str = field(converter=_check_description)
    """A sentence that says what the tool does."""

    parameters: Mapping[str, Any] = field(factory=dict, converter=_parse_parameters)
    """The arguments: a JSON schema (`{"type": "object", "properties": {...}}`), or only its
    properties, each with a type and a description."""

    required: Iterable[str] | None = field(default=None, kw_only=True)
    """The names of the required parameters, if the schema does not list them."""

    def _describe(self) -> dict[str, Any]:
        schema = dict(self.parameters)
        if self.required is not None:
            schema["required"] = list(self.required)
        return {"name": self.name, "description": self.description, "parameters": schema}


@frozen(eq=False, repr=False)
class Tool(_ToolDescription):
    """A tool that the model may call, in Workers AI's own form.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Text Generation", `tools`.
    """

    def payload(self) -> dict[str, Any]:
        """Give the tool as JSON."""
        return self._describe()


@frozen(eq=False, repr=False)
class Function(_ToolDescription):
    """A tool that the model may call, in the form of chat completions.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Text Generation", `tools`.
    """

    def payload(self) -> dict[str, Any]:
        """Give the tool as JSON."""
        return {"type": "function", "function": self._describe()}


@frozen(eq=False, repr=False)
class CodeFunction(Value):
    """A function with its code."""

    name: str = field(converter=_check_name)

    code: str
    """The code to run when the model calls the function."""

    def payload(self) -> dict[str, Any]:
        """Give the function as JSON."""
        return {"name": self.name, "code": self.code}


def is_wrapped_schema(schema: Any) -> bool:
    """Whether *schema* is the `{name, description, schema, strict}` that other services use."""
    match schema:
        case {"schema": Mapping()}:
            return "type" not in schema and "properties" not in schema
    return False


def _unwrap_schema(schema: Any) -> Any:
    """Take the schema out of `{name, description, schema, strict}`.

    What the name and the description tell the model is kept: as those of the schema, which may have
    its own.
    """
    if not is_wrapped_schema(schema):
        return schema
    outer = {
        "title": schema.get("title", schema.get("name")),
        "description": schema.get("description"),
    }
    texts = {key: text for key, text in outer.items() if isinstance(text, str)}
    return {**texts, **schema["schema"]}


def _check_format_type(value: Any) -> Any:
    if value not in (None, "json_object", "json_schema"):
        raise InputError(f"type must be json_object or json_schema, got {shorten(value)}")
    return value


@frozen(eq=False, repr=False)
class ResponseFormat(Value):
    """The JSON format of the generated text. Not possible in a stream.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Text Generation", `response_format`.
    """

    type: str | None = field(default=None, converter=_check_format_type)
    """ "json_object" for any JSON, "json_schema" for JSON that matches *json_schema*."""

    json_schema: Any = field(default=None, kw_only=True)
    """The schema, or `{name, description, schema, strict}`, which models of other providers receive
    as it is. Workers AI's own models receive the schema, with the name and the description as its
    title and description unless it has its own."""

    @classmethod
    def of(cls, value: ResponseFormat | Mapping[str, Any] | str) -> ResponseFormat:
        """Read a format from a mapping of the documented form, a JSON schema, or a type's name.

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
        raise InputError(f"must be a ResponseFormat or a JSON schema, got {shorten(value)}")

    def payload(self) -> dict[str, Any]:
        """Give the format as JSON."""
        body = {"type": self.type, "json_schema": _unwrap_schema(self.json_schema)}
        return {name: value for name, value in body.items() if value is not None}


def parse_response_format(value: Any) -> ResponseFormat | None:
    """Read a format. `None` is the default format, for which only other services have a name."""
    return None if value == {"type": "text"} else ResponseFormat.of(value)


def parse_tool(value: Any) -> Tool | Function | Mapping[str, Any]:
    """Check a tool. A mapping of either documented form is returned unchanged.

    Raises:
        InputError: It is not a tool, or has no name, description or parameters.
    """
    match value:
        case Tool() | Function():
            return value
        case {"function": Mapping() as description, "type": str()} | ({"name": _} as description):
            _check_name(description.get("name"))
            _check_description(description.get("description"))
            if not isinstance(description.get("parameters"), Mapping):
                raise InputError(f"parameters must be a JSON schema, got {shorten(description)}")
            tool: Mapping[str, Any] = value
            return tool
    raise InputError(f"a tool must be a Tool, Function or mapping, got {shorten(value)}")


def parse_code_function(value: Any) -> CodeFunction:
    """Read a function from a mapping with a name and code; a `CodeFunction` is returned unchanged.

    Raises:
        InputError: It is neither, or has no name or code.
    """
    match value:
        case CodeFunction():
            return value
        case {"name": str(name), "code": str(code)}:
            return CodeFunction(name, code)
    raise InputError(f"a function must have a name and code, got {shorten(value)}")


def parse_tool_choice(value: Any) -> str | Mapping[str, Any]:
    """Check a choice of tools; a tool becomes the mapping that names it.

    Raises:
        InputError: It is none of the documented forms.
    """
    match value:
        case "auto" | "none" | "required":
            choice: str = value
            return choice
        case Tool() | Function():
            return {"type": "function", "function": {"name": value.name}}
        case {"type": str()}:
            return dict(value)
    raise InputError(
        f"must be auto, none, required, a tool or a mapping with a type, got {shorten(value)}"
    )


def parse_template_value(value: Any) -> Any:
    """Accept any value: the names and their values depend on the model's template."""
    return value


def parse_stream_option(value: Any) -> bool:
    """Check the value of an option of a stream.

    Raises:
        InputError: It is not a boolean.
    """
    if not isinstance(value, bool):
        raise InputError(f"must be true or false, got {shorten(value)}")
    return value
