"""The definition of a tool from a function: its name, its docstring, its typed parameters."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import frozen

from cfai._convert.kinds import Field
from cfai._schemas.docstrings import first_paragraph, parameters
from cfai._schemas.types import Schema, Walk
from cfai.errors import InputError

# What chat completions allow a name to be.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@frozen
class Definition:
    """What a model is told of a function."""

    name: str
    description: str
    parameters: Schema
    """The JSON schema of what it takes: an object."""

    fields: tuple[Field, ...]
    """What it takes, with the types."""


def definition(
    function: Callable[..., Any], *, name: str | None = None, description: str | None = None
) -> Definition:
    """Describe *function* to a model.

    Args:
        function: Each of its parameters has a type that JSON has a form for, and can be given by
            name. Its docstring says what it does, and of its parameters what they mean. What
            `functools.partial` has given already is not told.
        name: Another name than the function's own.
        description: Another description than the first paragraph of its docstring.

    Raises:
        InputError: It can't be described; the message names the parameter and the rule.
    """
    if not callable(function):
        raise InputError(f"a tool must be a function or a definition, got {function!r:.80}")
    given, plain = _unbound(function)
    called = name or str(getattr(plain, "__name__", type(plain).__name__))
    if not _NAME.fullmatch(called):
        raise InputError(
            f"the name of a tool must be 1 to 64 letters, digits, _ or -, got {called!r:.80}"
        )
    doc = inspect.getdoc(plain) or ""
    told = _signature(function, called).parameters.values()
    found = tuple(_field(called, one) for one in told if one.name not in given)
    walk = Walk()
    made = walk.object(found, parameters(doc), called)
    said = first_paragraph(doc) if description is None else description
    return Definition(called, said or called, walk.closed(made), found)


def _unbound(function: Callable[..., Any]) -> tuple[set[str], Callable[..., Any]]:
    """Give the names that `functools.partial` has given, and the function inside."""
    given: set[str] = set()
    while isinstance(function, partial):
        given |= function.keywords.keys()
        function = function.func
    return given, function


def _signature(function: Callable[..., Any], called: str) -> inspect.Signature:
    try:
        return inspect.signature(function, eval_str=True)
    except (NameError, TypeError, ValueError, SyntaxError) as exc:
        raise InputError(f"{called}: its signature can't be read: {exc}") from exc


def _field(called: str, parameter: inspect.Parameter) -> Field:
    if parameter.kind not in _NAMED:
        raise InputError(
            f"{called}: the parameter {parameter} must be one that is given by its name"
        )
    if parameter.annotation is parameter.empty:
        raise InputError(f"{called}: the parameter {parameter.name} must have a type")
    required = parameter.default is parameter.empty
    default = None if required else parameter.default
    return Field(parameter.name, parameter.annotation, required, default)
