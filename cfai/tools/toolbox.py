"""The tools of a run: how a model is told of them, and how a call becomes one of a function."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any

from attrs import evolve, field, frozen

from cfai._session.redaction import hide_secrets, redact_text
from cfai._types.function import FunctionDefinition, define_function
from cfai._types.json import loads
from cfai._types.read import TypeMismatch, read_value, write_value
from cfai.errors import InputError
from cfai.tasks import Answer, Function, Tool, ToolCall

MOST_CALLS = 100
"""How many of the calls of one turn are run; the others fail, and the model is told."""

_LONGEST = 500
"""How much of an error a model is told, in characters."""

# What chat completions don't allow in a name.
_ODD = re.compile(r"[^A-Za-z0-9_-]")


@frozen
class PythonTool:
    """A function that a model may call, under another name or description than its own.

    A plain function in `tools=` stands for `PythonTool(function)`.

    Raises:
        InputError: It can't be described: a parameter without a type, or of one that JSON lacks.
    """

    function: Callable[..., Any]
    """Each parameter has a type and can be given by name. A function that is not async runs in a
    thread."""

    name: str | None = field(default=None, kw_only=True)
    """What the model calls it; left out, the function's own name."""

    description: str | None = field(default=None, kw_only=True)
    """What it does; left out, the first paragraph of the docstring."""

    max_characters: int = field(default=100_000, kw_only=True)
    """How long the text may be that the model is told of what it gives back. More is a failure, and
    the model is told of that instead."""

    definition: FunctionDefinition = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        limit = self.max_characters
        if type(limit) is not int or limit < 1:
            raise InputError(f"max_characters must be a whole number above 0, got {limit!r:.80}")
        made = define_function(self.function, name=self.name, description=self.description)
        if _is(self.function, inspect.isgeneratorfunction, inspect.isasyncgenfunction):
            raise InputError(f"{made.name}: a tool must return its result, and not yield it")
        object.__setattr__(self, "definition", made)

    def payload(self) -> dict[str, Any]:
        """Give the tool as the service takes it, in the form of chat completions."""
        told = self.definition
        return Function(told.name, told.description, told.parameters).payload()

    def arguments(self, call: ToolCall) -> dict[str, Any]:
        """Read the arguments of a call as values of the parameters' types.

        Raises:
            InputError: They don't fit. The message says which, and the rule.
        """
        given = as_object(call.arguments)
        known = {one.name: one for one in self.definition.fields}
        values = {}
        wrong = [f"arguments.{name} is no parameter" for name in given if name not in known]
        for name, one in known.items():
            try:
                if name in given:
                    values[name] = read_value(given[name], one.kind, f"arguments.{name}")
                elif one.required:
                    wrong.append(f"arguments.{name} is missing")
            except TypeMismatch as exc:
                wrong.append(str(exc))
        if wrong:
            raise InputError("; ".join(wrong))
        return values

    async def run(self, arguments: Mapping[str, Any], *, threads: Executor | None = None) -> Any:
        """Call the function; in one of the *threads* (asyncio's own), unless it is async."""
        function = self.function
        if _is(function, inspect.iscoroutinefunction):
            return await function(**arguments)
        call = partial(copy_context().run, _called, function, arguments)
        value = await asyncio.get_running_loop().run_in_executor(threads, call)
        return await value if inspect.isawaitable(value) else value

    def written(self, value: Any) -> str:
        """Give what the function gave back as the text that a model is told.

        Raises:
            InputError: There is no JSON for it, or it is too long.
        """
        told = written(value)
        if len(told) > self.max_characters:
            raise InputError(
                f"the tool gave back {len(told)} characters, and {self.max_characters} is the most"
            )
        return told


AnyTool = Callable[..., Any] | PythonTool | Tool | Function | Mapping[str, Any]
"""A function; or a definition without one, whose calls are the caller's to answer."""


def _is(function: Callable[..., Any], *kinds: Callable[[object], bool]) -> bool:
    """Tell whether a function, or what is called in an object, is of one of the kinds."""
    called = getattr(function, "__call__", None)  # noqa: B004  # what it is, not whether
    return any(kind(function) or kind(called) for kind in kinds)


def _called(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    try:
        return function(**arguments)
    except StopIteration as exc:
        # A future can't hold it: who waits for it would wait for ever.
        raise RuntimeError("the tool raised StopIteration") from exc


def as_object(arguments: Any) -> dict[str, Any]:
    """Give the arguments of a call as the object that they must be.

    Raises:
        InputError: They are none.
    """
    # Some models write the JSON of an object as a text of JSON, once too often.
    if isinstance(arguments, str):
        try:
            arguments = loads(arguments)
        except ValueError:
            raise InputError(f"arguments must be JSON, got {arguments!r:.80}") from None
    if arguments is None:
        return {}
    if not isinstance(arguments, dict):
        raise InputError(f"arguments must be an object, got {arguments!r:.80}")
    return arguments


class Toolbox:
    """The tools of one run, by their names, and the threads in which they are run.

    Raises:
        InputError: One of them is no tool, or two have one name.
    """

    def __init__(self, tools: Iterable[AnyTool], *, secrets: Sequence[str]) -> None:
        if isinstance(tools, str | bytes | Mapping) or not isinstance(tools, Iterable):
            raise InputError(f"tools must be a list of functions or definitions, got {tools!r:.80}")
        self._functions: dict[str, PythonTool] = {}
        self._definitions: dict[str, Any] = {}
        self._secrets = secrets
        self._threads: ThreadPoolExecutor | None = None
        for one in tools:
            made = (
                one if isinstance(one, PythonTool | Tool | Function | Mapping) else PythonTool(one)
            )
            name = _name(made)
            if name in self._definitions:
                raise InputError(f"two tools must not have the name {name}")
            self._definitions[name] = made.payload() if isinstance(made, PythonTool) else made
            if isinstance(made, PythonTool):
                self._functions[name] = made

    @property
    def definitions(self) -> list[Any] | None:
        """What the model is told; `None` where there is nothing to tell."""
        return list(self._definitions.values()) or None

    def is_open(self, call: ToolCall) -> bool:
        """Tell whether a call is the caller's to answer: there is a definition and no function."""
        return call.name in self._definitions and call.name not in self._functions

    def prepared(self, call: ToolCall) -> Callable[[], Awaitable[Any]]:
        """Give what carries a call out.

        Raises:
            InputError: The name or the arguments don't fit.
        """
        tool = self._functions.get(call.name)
        if tool is None:
            names = ", ".join(self._definitions) or "none"
            raise InputError(f"there is no tool {call.name!r:.80}; there are: {names}")
        return partial(tool.run, tool.arguments(call), threads=self._own_threads())

    def _own_threads(self) -> ThreadPoolExecutor:
        # A tool that hangs must not take asyncio's own threads, in which names are resolved.
        if self._threads is None:
            self._threads = ThreadPoolExecutor(MOST_CALLS, thread_name_prefix="cfai-tool")
        return self._threads

    def close(self) -> None:
        """Let the threads end, each with what it is at. Nobody waits for them."""
        if self._threads is not None:
            self._threads.shutdown(wait=False)

    def written(self, call: ToolCall, value: Any) -> str:
        """Give what a model is told of what a tool gave back: never a secret of the client.

        Raises:
            InputError: There is no JSON for it, or it is too long.
        """
        return hide_secrets(self._functions[call.name].written(value), self._secrets)

    def told(self, error: BaseException) -> str:
        """Give what a model is told of an error: never a secret of the client, nor a traceback."""
        kind = type(error).__name__
        try:
            said = _encodable(str(error))
        except Exception:  # Its own fault, too: the name of its class must do.
            said = ""
        if not isinstance(error, InputError):
            said = f"{kind}: {said}" if said else kind
        return f"error: {redact_text(said, self._secrets)}"[:_LONGEST]

    def repeatable(self, call: ToolCall) -> ToolCall:
        """Give a call as a service takes it back, which may refuse a name that no tool can have."""
        name = call.name
        if name not in self._definitions:
            name = _ODD.sub("_", name)[:64] or "unnamed"
        try:
            arguments = as_object(call.arguments)
        except InputError:
            arguments = {}
        return evolve(call, name=name, arguments=arguments)


def _name(tool: PythonTool | Tool | Function | Mapping[str, Any]) -> str:
    if isinstance(tool, PythonTool):
        return tool.definition.name
    if isinstance(tool, Tool | Function):
        return tool.name
    described = tool.get("function", tool)
    name = described.get("name") if isinstance(described, Mapping) else None
    if not isinstance(name, str):
        raise InputError(f"a tool must have a name, got {tool!r:.80}")
    return name


def written(value: Any) -> str:
    """Give what a tool gave back as the text that a model is told.

    Raises:
        InputError: There is no JSON for it.
    """
    if isinstance(value, str):
        return _encodable(value)
    try:
        made = value.to_dict() if isinstance(value, Answer) else write_value(value)
        return _encodable(json.dumps(made, ensure_ascii=False, allow_nan=False))
    except Exception as exc:
        problem = f"a value of type {type(value).__name__}, which JSON has no form for"
        raise InputError(f"the tool gave back {problem}") from exc


def _encodable(text: str) -> str:
    """Give a text that can be sent: names of files, for one, may hold halves of characters."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
