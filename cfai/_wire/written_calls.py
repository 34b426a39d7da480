"""Reads tool calls that a model wrote as its text, in a whole answer or at the end of a stream."""

from collections.abc import Collection, Iterator
from typing import Any, Final

from attrs import evolve

from cfai._wire.text import decode_arguments, parse_json_text, read_optional_string
from cfai.tasks import Text, ToolCall

_CALL_KEYS: Final = frozenset({"type", "id", "name", "arguments", "parameters", "function"})
_OPENING, _CLOSING = "<tool_call>", "</tool_call>"


def recover_tool_calls(answer: Text, tools: Collection[str]) -> Text:
    """Move calls that a model wrote as its text to `tool_calls`; the text is empty then.

    They are recovered only if the whole text is calls of the *tools* that were given, as in
    Cloudflare's own clients: an object or a list of objects (qwen2.5-coder, llama-3.3), or objects
    inside `<tool_call>` tags (hermes).
    """
    if not tools or answer.tool_calls:
        return answer
    written = _written_calls(answer, tools)
    return evolve(answer, text="", parsed=None, tool_calls=written) if written else answer


def _written_calls(answer: Text, tools: Collection[str]) -> tuple[ToolCall, ...]:
    if answer.parsed is not None:
        values = answer.parsed if isinstance(answer.parsed, list) else [answer.parsed]
    else:
        values = _values_in_text(answer.text.strip())
    calls = [_read_written_call(value, tools) for value in values]
    return tuple(call for call in calls if call is not None) if None not in calls else ()


def _values_in_text(text: str) -> list[Any]:
    """The JSON values that a text consists of; empty if there is anything else in it."""
    if text.startswith(_OPENING) and text.endswith(_CLOSING):
        inner = text.removeprefix(_OPENING).removesuffix(_CLOSING)
        return [parse_json_text(part) for part in _split_tags(inner)]
    value = parse_json_text(text) if text[:1] in ("{", "[", "`") else None
    return value if isinstance(value, list) else [] if value is None else [value]


def _split_tags(text: str) -> Iterator[str]:
    for part in text.split(_CLOSING):
        yield part.strip().removeprefix(_OPENING)


def _read_written_call(value: Any, tools: Collection[str]) -> ToolCall | None:
    """The call that an object describes; `None` if it is anything but a call of one of *tools*."""
    if not isinstance(value, dict) or not _CALL_KEYS.issuperset(value):
        return None
    function = value.get("function", value)
    # The definition of a tool, which a model may be asked to write, has a description.
    if not isinstance(function, dict) or not _CALL_KEYS.issuperset(function):
        return None
    name = function.get("name")
    arguments = function.get("arguments", function.get("parameters"))
    if isinstance(arguments, str):
        arguments = decode_arguments(arguments)
    if not isinstance(name, str) or name not in tools or not isinstance(arguments, dict):
        return None
    return ToolCall(name, arguments, read_optional_string(value.get("id")))
