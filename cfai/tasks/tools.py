"""The tools that a language model may call."""

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
