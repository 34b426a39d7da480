"""Tool definitions from Python functions: their name, docstring and typed parameters."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Optional, get_type_hints

from attrs import frozen

from cfai._types.excerpts import format_value
from cfai._types.kinds import Field
from cfai._types.schema import Schema, SchemaBuilder, first_paragraph, parameter_descriptions
from cfai.errors import InputError

# The names that chat completions accept.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@frozen
class FunctionDefinition:
    """The description of a function for a model."""

    name: str
    description: str
    parameters: Schema
    """The JSON schema of the arguments: an object."""

    fields: tuple[Field, ...]
    """The parameters with their Python types."""


def define_function(
    function: Callable[..., Any], *, name: str | None = None, description: str | None = None
) -> FunctionDefinition:
    """Describe a function for a model.

    Args:
        function: Each parameter must have a type with a JSON form and be passable by name. The
            docstring describes the function and its parameters.
        name: Replaces the function's name.
        description: Replaces the first paragraph of the docstring.

    Raises:
        InputError: It can't be described; the message has the parameter and the rule.
    """
    if not callable(function):
        raise InputError(f"a tool must be a function or a definition, got {format_value(function)}")
    inner: Any = function
    while isinstance(inner, partial):  # whose own name and docstring say nothing
        inner = inner.func
    tool_name = name or str(getattr(inner, "__name__", type(inner).__name__))
    if not _NAME.fullmatch(tool_name):
        raise InputError(
            f"the name of a tool must be 1 to 64 letters, digits, _ or -"
            f", got {format_value(tool_name)}"
        )
    doc = _docstring(inner)
    fields = tuple(_field(tool_name, p) for p in _parameters(function, tool_name))
    builder = SchemaBuilder()
    schema = builder.build_object(fields, parameter_descriptions(doc), tool_name)
    text = first_paragraph(doc) if description is None else description
    return FunctionDefinition(tool_name, text or tool_name, builder.resolve(schema), fields)


def _docstring(function: Any) -> str:
    if not (inspect.isroutine(function) or isinstance(function, type)):
        # A callable object: prefer the docstring of its `__call__` to that of its class.
        doc = inspect.cleandoc(type(function).__call__.__doc__ or "")
        if doc:
            return doc
    return inspect.getdoc(function) or ""


def _wrapped_functions(function: Any) -> Iterator[Any]:
    """Give a function and the functions that it wraps, outermost first."""
    while function is not None:
        yield function
        if isinstance(function, partial):
            function = function.func
        elif inspect.ismethod(function):
            function = function.__func__
        else:
            function = getattr(function, "__wrapped__", None)


def _parameters(function: Callable[..., Any], tool_name: str) -> Iterator[inspect.Parameter]:
    """Give the parameters with resolved types, without those that a partial binds."""
    *_, inner = chain = list(_wrapped_functions(function))
    bound = {name for wrapper in chain if isinstance(wrapper, partial) for name in wrapper.keywords}
    try:
        parameters = inspect.signature(function).parameters
        annotations = {n: p.annotation for n, p in parameters.items() if n not in bound}
        types = _resolve_types(annotations, inner)
    except Exception as exc:  # annotations are code, which can raise anything
        raise InputError(f"{tool_name}: can't read its signature: {exc}") from exc
    return (p.replace(annotation=types[n]) for n, p in parameters.items() if n in types)


def _resolve_types(annotations: dict[str, Any], function: Any) -> dict[str, Any]:
    """Resolve quoted annotations in the function's module."""
    if not inspect.isroutine(function):
        is_class = isinstance(function, type)
        method = function.__init__ if is_class else type(function).__call__
        *_, function = _wrapped_functions(method)
    names = getattr(function, "__globals__", {})
    holder = type("Holder", (), {"__annotations__": annotations})
    return get_type_hints(holder, globalns=names, localns={}, include_extras=True)


def _field(tool_name: str, parameter: inspect.Parameter) -> Field:
    if parameter.kind not in _BY_NAME:
        raise InputError(f"{tool_name}: the parameter {parameter} must be passable by name")
    if parameter.annotation is parameter.empty:
        raise InputError(f"{tool_name}: the parameter {parameter.name} must have a type")
    if parameter.default is parameter.empty:
        return Field(parameter.name, parameter.annotation, True)
    if type(parameter.default).__name__ == "FieldInfo":
        raise InputError(
            f"{tool_name}: the default of {parameter.name} must be a value: put the Field into the"
            f" type, Annotated[..., Field(...)]"
        )
    kind = parameter.annotation
    if parameter.default is None and kind not in (Any, object):
        # The older way to write it: `unit: str = None`.
        kind = Optional[kind]  # noqa: UP045
    return Field(parameter.name, kind, False, parameter.default)
