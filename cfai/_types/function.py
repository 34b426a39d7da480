"""The definition of a tool from a function: its name, its docstring, its typed parameters."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Optional, get_type_hints

from attrs import frozen

from cfai._types.docstrings import first_paragraph, parameters
from cfai._types.kinds import Field
from cfai._types.schema import Schema, Walk
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
            name. Its docstring says what it does, and of its parameters what they mean.
        name: Another name than the function's own.
        description: Another description than the first paragraph of its docstring.

    Raises:
        InputError: It can't be described; the message names the parameter and the rule.
    """
    if not callable(function):
        raise InputError(f"a tool must be a function or a definition, got {function!r:.80}")
    plain = _unbound(function)
    called = name or str(getattr(plain, "__name__", type(plain).__name__))
    if not _NAME.fullmatch(called):
        raise InputError(
            f"the name of a tool must be 1 to 64 letters, digits, _ or -, got {called!r:.80}"
        )
    doc = _doc(plain)
    found = tuple(_field(called, one) for one in _parameters(function, called))
    walk = Walk()
    made = walk.object(found, parameters(doc), called)
    said = first_paragraph(doc) if description is None else description
    return Definition(called, said or called, walk.closed(made), found)


def _unbound(function: Any) -> Any:
    """What a partial is made of: its own name and docstring are those of every partial."""
    while isinstance(function, partial):
        function = function.func
    return function


def _doc(function: Any) -> str:
    if not (inspect.isroutine(function) or isinstance(function, type)):
        # A value that can be called: how is said at its method, what for maybe at its class.
        said = inspect.cleandoc(type(function).__call__.__doc__ or "")
        if said:
            return said
    return inspect.getdoc(function) or ""


def _wrapped(function: Any) -> Iterator[Any]:
    """A function, and those that it hands on to."""
    while function is not None:
        yield function
        if isinstance(function, partial):
            function = function.func
        elif inspect.ismethod(function):
            function = function.__func__
        else:
            function = getattr(function, "__wrapped__", None)


def _parameters(function: Callable[..., Any], called: str) -> Iterator[inspect.Parameter]:
    """What a call gives: nothing that a partial has bound, which is not the caller's to choose."""
    *_, inner = chain = list(_wrapped(function))
    bound = {name for one in chain if isinstance(one, partial) for name in one.keywords}
    try:
        found = inspect.signature(function).parameters
        kinds = {name: one.annotation for name, one in found.items()}
        types = _types({name: kinds[name] for name in kinds if name not in bound}, inner)
    except Exception as exc:  # annotations are code, which can raise anything
        raise InputError(f"{called}: its signature can't be read: {exc}") from exc
    return (one.replace(annotation=types[name]) for name, one in found.items() if name in types)


def _types(annotations: dict[str, Any], function: Any) -> dict[str, Any]:
    """Resolve quoted annotations, where the function stands. What it returns does not matter."""
    if not inspect.isroutine(function):
        kind, how = type(function), "__call__"
        if isinstance(function, type):
            kind, how = function, "__init__"
        made = getattr(kind, how)
        *_, function = _wrapped(made)
    known = getattr(function, "__globals__", {})
    holder = type("Holder", (), {"__annotations__": annotations})
    return get_type_hints(holder, globalns=known, localns={}, include_extras=True)


def _field(called: str, parameter: inspect.Parameter) -> Field:
    if parameter.kind not in _NAMED:
        raise InputError(
            f"{called}: the parameter {parameter} must be one that is given by its name"
        )
    if parameter.annotation is parameter.empty:
        raise InputError(f"{called}: the parameter {parameter.name} must have a type")
    if parameter.default is parameter.empty:
        return Field(parameter.name, parameter.annotation, True)
    kind = parameter.annotation
    if parameter.default is None and kind not in (Any, object):
        # The older way to write it: `unit: str = None`.
        kind = Optional[kind]  # noqa: UP045
    return Field(parameter.name, kind, False, parameter.default)
