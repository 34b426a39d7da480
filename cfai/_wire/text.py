"""Reads the text answers of models that came as a whole, and the fields of all text answers.

Whole texts come in these forms: native (`response`), chat completions (`choices`), OpenAI Responses
(`output`), JSON mode (an object under `response`, or fenced text), with tool calls flat or nested.

The service decodes a generated text that happens to be JSON: it becomes JSON text again.
"""

import json
from collections.abc import Collection, Iterator
from math import isfinite
from typing import Any, Final

from attrs import evolve

from cfai._types.excerpts import format_value
from cfai._types.json import dumps_decoded, encode_decoded, loads
from cfai._types.values import fast_maker
from cfai._validators import is_finite_number
from cfai.errors import DecodeError
from cfai.tasks import Text, ToolCall, Usage


def undocumented_error(expected: str, value: Any) -> DecodeError:
    """Build the error for a form that no source documents; its body is *value*."""
    excerpt = format_value(value, 200)
    message = f"the service answered something undocumented: {expected}, got {excerpt}"
    return DecodeError(message, body=dumps_decoded(value))


# Fields that several forms share


def read_optional_string(value: Any) -> str | None:
    """A string that an answer can do without; anything else is dropped."""
    return value if isinstance(value, str) else None


def read_piece(value: Any, name: str) -> str:
    """A piece of text: null is empty; a number or a boolean is its JSON.

    The service decodes a generated piece that happens to be JSON: `6` arrives as a number
    (recorded live: github.com/cloudflare/ai, issue 651).
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, float) and not isfinite(value):
        return json.dumps(value)
    if isinstance(value, bool | int | float):
        return encode_decoded(value)
    raise undocumented_error(f"{name} must be a string", value)


def read_generated(value: Any, name: str) -> str:
    """A generated text or a piece of it, which the service may have decoded to any JSON value."""
    if type(value) is str:
        return value
    return encode_decoded(value) if isinstance(value, dict | list) else read_piece(value, name)


def read_content(value: Any, name: str) -> str:
    """The content of a message: a string, or a list of parts, of which those with text count."""
    if isinstance(value, list):
        parts = (part.get("text", part.get("refusal")) for part in value if isinstance(part, dict))
        return "".join(read_piece(part, name) for part in parts)
    return read_piece(value, name)


def read_declined(message: dict[str, Any]) -> str:
    """The text with which a model declines to answer, beside an empty content.

    Source: OpenAI's API reference, chat completions, `message.refusal` and `delta.refusal`.
    """
    return read_optional_string(message.get("refusal")) or ""


def is_decoded_json(content: Any) -> bool:
    """Whether the content of a chat message is JSON that the service decoded, not its parts."""
    if isinstance(content, list):
        return not any(_is_text_part(item) for item in content)
    return isinstance(content, dict)


def _is_text_part(item: Any) -> bool:
    # A generated object may have a text, too, but not the type of a part beside it.
    if not isinstance(item, dict):
        return False
    is_declined = item.get("type") == "refusal" and "refusal" in item
    return is_declined or ("text" in item and ("type" in item or len(item) == 1))


def _read_reasoning(message: dict[str, Any]) -> str:
    value = message.get("reasoning_content")
    return read_piece(message.get("reasoning") if value is None else value, "reasoning")


_make_text: Final = fast_maker(Text)
build_usage: Final = fast_maker(Usage)
"""The same as `Usage`, in a third of the time: a stream can have one in each event."""


_EXACT: Final = 2**53
"""Above it, a number may have been rounded when it was read."""


def read_usage(value: Any) -> Usage | None:
    """Token counts in either vocabulary (`prompt_tokens`, or `input_tokens` of Responses)."""
    if not isinstance(value, dict):
        return None
    counts: Any = value
    if len(counts) == 3:
        # Most have these three whole numbers. A stream may have them in each event.
        prompt, total = counts.get("prompt_tokens"), counts.get("total_tokens")
        completion = counts.get("completion_tokens")
        is_exact = type(prompt) is int and type(completion) is int and type(total) is int
        if is_exact and prompt < _EXACT and completion < _EXACT and total < _EXACT:
            return build_usage(prompt, completion, total)
    prompt = _read_count(value, "prompt_tokens", "input_tokens") or 0
    completion = _read_count(value, "completion_tokens", "output_tokens") or 0
    total = _read_count(value, "total_tokens")
    total = prompt + completion if total is None else total
    inputs = value.get("prompt_tokens_details") or value.get("input_tokens_details")
    outputs = value.get("completion_tokens_details") or value.get("output_tokens_details")
    return build_usage(
        prompt,
        completion,
        total,
        _read_count(inputs, "cached_tokens") if isinstance(inputs, dict) else None,
        _read_count(outputs, "reasoning_tokens") if isinstance(outputs, dict) else None,
        read_number(value.get("neurons")),
    )


def _read_count(counts: dict[str, Any], name: str, alias: str = "") -> int | None:
    count = counts.get(name)
    return read_count(counts.get(alias) if count is None else count)


def read_count(value: Any) -> int | None:
    """A count; anything but a finite number is dropped. 2.5 counts as 2."""
    is_usual = type(value) is int and 0 <= value < 2**53
    return int(value) if is_usual or is_finite_number(value) else None


def read_number(value: Any) -> float | None:
    """A number; anything but one that is finite as a float is dropped."""
    return float(value) if value is not None and is_finite_number(value) else None


def decode_arguments(value: Any) -> Any:
    """The arguments of a call: decoded if they are JSON, else the text that the model wrote."""
    if not isinstance(value, str):
        return {} if value is None else value
    if not value.strip():
        return {}
    try:
        return loads(value, big_integers=True)
    except ValueError:
        return value


def _call_entries(value: Any) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each tool call, and the object with its name: itself, or nested under `function`."""
    if not isinstance(value, list):
        raise undocumented_error("tool_calls must be a list", value)
    for entry in value:
        if entry is None or entry == {}:
            continue
        if not isinstance(entry, dict):
            raise undocumented_error("a tool call must be an object", entry)
        nested = entry.get("function")
        yield entry, nested if isinstance(nested, dict) else entry


def _read_tool_calls(value: Any) -> tuple[ToolCall, ...]:
    if not value:  # Most answers have none, or an empty list.
        return ()
    calls = []
    for entry, function in _call_entries(value):
        name = function.get("name")
        if not isinstance(name, str):
            raise undocumented_error("a tool call must have a name", entry)
        arguments = decode_arguments(function.get("arguments"))
        calls.append(ToolCall(name, arguments, read_optional_string(entry.get("id"))))
    return tuple(calls)


def parse_json_text(text: str) -> Any:
    """The JSON in *text*, fenced with ```json or bare; `None` if it is not JSON."""
    # No regular expression: some models write JSON and then whitespace without end.
    text = text.strip()
    if text.startswith("```") and text.endswith("```"):
        text = text[3:-3].removeprefix("json")
    try:
        return loads(text, big_integers=True)
    except ValueError:
        return None


# Whole texts


def read_text(result: Any, *, json_mode: bool = False) -> Text:
    """Read a whole text answer in any form; in *json_mode*, `parsed` is read from the text.

    Raises:
        DecodeError: No source documents this form.
    """
    if isinstance(result, str):
        answer = Text(text=result)
    elif not isinstance(result, dict):
        raise undocumented_error("a text answer must be an object", result)
    elif "choices" in result:
        answer = _read_chat_completion(result)
    elif "response" in result or "tool_calls" in result:
        answer = _read_native(result)
    elif "output" in result:
        answer = _read_responses_output(result)
    else:
        raise undocumented_error("a text answer must have response, choices or output", result)
    if json_mode and answer.parsed is None:
        return evolve(answer, parsed=parse_json_text(answer.text))
    return answer


def _read_native(result: dict[str, Any]) -> Text:
    response = result.get("response")
    calls = _read_tool_calls(result.get("tool_calls"))
    reasoning = _read_reasoning(result)
    # Null beside an empty list of calls is an empty text, as it is in chat completions.
    is_empty = "response" in result and "tool_calls" in result
    if response is None and not (calls or reasoning or is_empty):
        raise undocumented_error("response must be a string if there are no tool_calls", result)
    return _make_text(
        read_generated(response, "response"),
        parsed=None if type(response) is str or not isinstance(response, dict | list) else response,
        tool_calls=calls,
        reasoning=reasoning,
        finish_reason=read_optional_string(result.get("finish_reason")),
        usage=read_usage(result.get("usage")),
    )


def _read_chat_completion(result: dict[str, Any]) -> Text:
    choices = result["choices"]
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise undocumented_error("choices must be a list of at least one object", result)
    first = choices[0]
    message = first.get("message")
    if not isinstance(message, dict):
        # Legacy completions have the text on the choice itself.
        if "text" not in first:
            raise undocumented_error("a choice must have a message", first)
        message = {"content": first["text"]}
    content = message.get("content")
    is_decoded = is_decoded_json(content)
    text = encode_decoded(content) if is_decoded else read_content(content, "content")
    return Text(
        text=text or read_declined(message),
        parsed=content if is_decoded else None,
        tool_calls=_read_tool_calls(message.get("tool_calls")),
        reasoning=_read_reasoning(message),
        finish_reason=read_optional_string(first.get("finish_reason")),
        usage=read_usage(result.get("usage")),
    )


STATUSES: Final = {"completed": "stop", "incomplete": "length"}
"""The finish reasons of chat completions by the states of OpenAI Responses."""


def _read_responses_output(result: dict[str, Any]) -> Text:
    output, status = result["output"], read_optional_string(result.get("status"))
    if not isinstance(output, list):
        raise undocumented_error("output must be a list", result)
    items = [item for item in output if isinstance(item, dict)]
    messages = [item for item in items if item.get("type") == "message"]
    reasoning = [item for item in items if item.get("type") == "reasoning"]
    return Text(
        text="".join(read_content(item.get("content"), "content") for item in messages),
        tool_calls=tuple(
            ToolCall(
                read_piece(item.get("name"), "name"),
                decode_arguments(item.get("arguments")),
                read_optional_string(item.get("call_id") or item.get("id")),
            )
            for item in items
            if item.get("type") == "function_call"
        ),
        reasoning="".join(
            read_content(item.get("content") or item.get("summary"), "reasoning")
            for item in reasoning
        ),
        finish_reason=STATUSES.get(status, status) if status else None,
        usage=read_usage(result.get("usage")),
    )


# Calls that a model wrote as its text

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
