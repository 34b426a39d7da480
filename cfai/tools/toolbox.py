"""The tools of a run: their definitions for the model, and how a call runs a function."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any

from attrs import field, frozen

from cfai._session.redaction import redact_error_text, redact_whole_secrets
from cfai._types.excerpts import format_count, format_value
from cfai._types.function import FunctionDefinition, define_function
from cfai._types.json import replace_half_pairs
from cfai._types.read import TypeMismatch, read_value, write_value
from cfai._validators import check_at_least
from cfai.conversation import read_arguments, sendable_call
from cfai.errors import InputError
from cfai.tasks import Answer, Function, Tool, ToolCall

MAX_CALLS = 100
"""How many calls of one turn are run. The others fail."""

_MAX_ERROR_LENGTH = 500
"""How much of an error is sent to the model, in characters."""


@frozen
class PythonTool:
    """A function that a model may call, with another name or description than its own.

    A plain function in `tools=` is the same as `PythonTool(function)`.

    Raises:
        InputError: A parameter has no type, or one that JSON can't express.
    """

    function: Callable[..., Any]
    """Each parameter has a type and can be passed by name. A function that is not async runs in a
    thread."""

    name: str | None = field(default=None, kw_only=True)
    """Its name for the model; by default the function's own."""

    description: str | None = field(default=None, kw_only=True)
    """What it does; by default the first paragraph of the docstring."""

    max_characters: int = field(default=100_000, kw_only=True)
    """The longest result that is sent to the model. A longer one is a failure, which is sent
    instead."""

    definition: FunctionDefinition = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        check_at_least("max_characters", self.max_characters, 1)
        sent = define_function(self.function, name=self.name, description=self.description)
        if _is_any(self.function, inspect.isgeneratorfunction, inspect.isasyncgenfunction):
            raise InputError(f"{sent.name}: a tool must return its result, not yield it")
        object.__setattr__(self, "definition", sent)

    def payload(self) -> dict[str, Any]:
        """The definition as sent to the service, in the form of chat completions."""
        sent = self.definition
        return Function(sent.name, sent.description, sent.parameters).payload()

    def arguments(self, call: ToolCall) -> dict[str, Any]:
        """Read the arguments of a call as values of the parameters' types.

        Raises:
            InputError: Arguments are unknown, missing or wrong. The message names each.
        """
        arguments = read_arguments(call)
        fields = {field.name: field for field in self.definition.fields}
        values = {}
        problems = [
            f"arguments.{name} is not a parameter" for name in arguments if name not in fields
        ]
        for name, parameter in fields.items():
            try:
                if name in arguments:
                    values[name] = read_value(arguments[name], parameter.kind, f"arguments.{name}")
                elif parameter.required:
                    problems.append(f"arguments.{name} is missing")
            except TypeMismatch as exc:
                problems.append(str(exc))
        if problems:
            raise InputError("; ".join(problems))
        return values

    async def run(self, arguments: Mapping[str, Any], *, threads: Executor | None = None) -> Any:
        """Call the function: in one of the *threads* (asyncio's by default) unless it is async."""
        function = self.function
        try:
            if _is_any(function, inspect.iscoroutinefunction):
                return await function(**arguments)
            call = partial(copy_context().run, _call_in_thread, function, arguments)
            value = await asyncio.get_running_loop().run_in_executor(threads, call)
            return await value if inspect.isawaitable(value) else value
        except SystemExit as exc:
            # It would end the event loop, and so the whole program.
            raise RuntimeError(f"the tool called sys.exit({exc.code!r})") from exc

    def encode_result(self, value: Any) -> str:
        """Write a return value as the text for the model: a string as is, anything else as JSON.

        Raises:
            InputError: JSON can't express the value, or the text is too long.
        """
        text = value
        if not isinstance(value, str):
            try:
                document = value.to_dict() if isinstance(value, Answer) else write_value(value)
                text = json.dumps(document, ensure_ascii=False, allow_nan=False)
            except Exception as exc:
                kind = type(value).__name__
                raise InputError(
                    f"the tool returned a value of type {kind}, which JSON can't express"
                ) from exc
        text = replace_half_pairs(text)
        if len(text) > self.max_characters:
            raise InputError(
                f"the tool returned {format_count(len(text), 'character')}, the limit is "
                f"{self.max_characters}"
            )
        return text


AnyTool = Callable[..., Any] | PythonTool | Tool | Function | Mapping[str, Any]
"""A function; or a definition without one, whose calls the caller answers."""


def _is_any(function: Callable[..., Any], *kinds: Callable[[object], bool]) -> bool:
    """Whether a function, or the `__call__` of an object, is of one of the kinds."""
    method = getattr(function, "__call__", None)  # noqa: B004  # its kind, not whether it exists
    return any(kind(function) or kind(method) for kind in kinds)


def _call_in_thread(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    try:
        return function(**arguments)
    except StopIteration as exc:
        # A future can't hold a StopIteration: the task that awaits it would hang.
        raise RuntimeError("the tool raised StopIteration") from exc


class Toolbox:
    """The tools of one run, by name, and the threads that run them.

    Raises:
        InputError: An item is not a tool, or two have the same name.
    """

    def __init__(self, tools: Iterable[AnyTool], *, secrets: Sequence[str]) -> None:
        if isinstance(tools, str | bytes | Mapping) or not isinstance(tools, Iterable):
            raise InputError(
                f"tools must be a list of functions or definitions, got {format_value(tools)}"
            )
        self._functions: dict[str, PythonTool] = {}
        self._definitions: dict[str, Any] = {}
        self._secrets = secrets
        # A tool that hangs must not occupy asyncio's own threads, which resolve host names.
        self._threads = ThreadPoolExecutor(MAX_CALLS, thread_name_prefix="cfai-tool")
        for item in tools:
            tool = item
            if not isinstance(tool, PythonTool | Tool | Function | Mapping):
                tool = PythonTool(tool)
            name = _tool_name(tool)
            if name in self._definitions:
                raise InputError(f"tools must have different names, got two named {name}")
            self._definitions[name] = tool
            if isinstance(tool, PythonTool):
                self._definitions[name] = tool.payload()
                self._functions[name] = tool

    @property
    def definitions(self) -> list[Any] | None:
        """The definitions for the model; `None` if there are none."""
        return list(self._definitions.values()) or None

    def is_open(self, call: ToolCall) -> bool:
        """Whether the caller has to answer a call: its tool is a definition without a function."""
        return call.name in self._definitions and call.name not in self._functions

    def run(self, call: ToolCall) -> Coroutine[Any, Any, Any]:
        """Check a call, and return the coroutine that runs it.

        Raises:
            InputError: The name is unknown, or the arguments are wrong.
        """
        tool = self._functions.get(call.name)
        if tool is None:
            names = ", ".join(self._definitions) or "none"
            raise InputError(f"there is no tool {format_value(call.name)}; the tools are: {names}")
        return tool.run(tool.arguments(call), threads=self._threads)

    def close(self) -> None:
        """Let each thread end after its current call, without waiting for it."""
        self._threads.shutdown(wait=False)

    def result_content(self, call: ToolCall, value: Any) -> str:
        """The text for the model of a return value, without secrets of the client.

        Raises:
            InputError: JSON can't express the value, or the text is too long.
        """
        return redact_whole_secrets(self._functions[call.name].encode_result(value), self._secrets)

    def error_content(self, error: BaseException) -> str:
        """The text for the model of an error, without secrets of the client and traceback."""
        kind = type(error).__name__
        try:
            message = replace_half_pairs(str(error))
        except Exception:  # `__str__` of the error failed: the class name has to do.
            message = ""
        if not isinstance(error, InputError):
            message = f"{kind}: {message}" if message else kind
        return f"error: {redact_error_text(message, self._secrets)}"[:_MAX_ERROR_LENGTH]

    def sendable_call(self, call: ToolCall) -> ToolCall:
        """A call as the service accepts it back: with a valid name, and an object of arguments."""
        return sendable_call(call, self._definitions)


def _tool_name(tool: PythonTool | Tool | Function | Mapping[str, Any]) -> str:
    if isinstance(tool, PythonTool):
        return tool.definition.name
    if isinstance(tool, Tool | Function):
        return tool.name
    function = tool.get("function", tool)
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str):
        raise InputError(f"a tool must have a name, got {format_value(tool)}")
    return name
