"""Every documented form of a whole text answer, read as one `Text`.

The forms: native (`response`), chat completions (`choices`), OpenAI Responses (`output`), JSON mode
(an object under `response`, or fenced text), and tool calls flat or nested.
"""

import reprlib
from collections.abc import Iterable
from typing import Any, Final

from cfai._types.json import dumps, loads
from cfai.errors import DecodeError
from cfai.tasks import Text, ToolCall, Usage

# A value can be nested deeper than Python or the encoder goes, and be large: this stops early.
_BRIEF: Final = reprlib.Repr()
_BRIEF.maxstring, _BRIEF.maxdict, _BRIEF.maxlist = 100, 10, 10


def undocumented(what: str, value: Any) -> DecodeError:
    """The error for a form that no source documents; it carries what was said."""
    shown = f"{_BRIEF.repr(value):.200}"
    message = f"the service answered something undocumented: {what}, got {shown}"
    try:
        return DecodeError(message, body=dumps(value))
    except TypeError:
        return DecodeError(message)


def as_json(value: Any) -> str:
    """A decoded value as JSON text again.

    Raises:
        DecodeError: It is nested deeper than JSON is written.
    """
    try:
        return dumps(value).decode()
    except TypeError as exc:
        raise undocumented("a value must not be nested so deep", value) from exc


def words(value: Any, what: str) -> str:
    """A piece of text. A null is none; a number or a truth value is its JSON text.

    The service decodes a generated piece that happens to be JSON: `6` arrives as a number
    (recorded live: github.com/cloudflare/ai, issue 651).
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return dumps(value).decode()
    raise undocumented(f"{what} must be a text", value)


def content(value: Any, what: str) -> str:
    """A message's content: a text, or a list of parts of which those with text count."""
    if isinstance(value, list):
        parts = (part.get("text") for part in value if isinstance(part, dict))
        return "".join(words(part, what) for part in parts)
    return words(value, what)


def name(value: Any) -> str | None:
    """A short text that a reader can do without; what is none is left out."""
    return value if isinstance(value, str) else None


_COUNTS: Final = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})
_NUMBER: Final = (int, float)


def usage(value: Any) -> Usage | None:
    """Token counts in either vocabulary (`prompt_tokens`, or `input_tokens` of Responses)."""
    if not isinstance(value, dict):
        return None

    prompt = _count(value, "prompt_tokens", "input_tokens") or 0
    completion = _count(value, "completion_tokens", "output_tokens") or 0
    total = _count(value, "total_tokens")
    total = prompt + completion if total is None else total
    if _COUNTS.issuperset(value):
        return Usage(prompt, completion, total)
    read = value.get("prompt_tokens_details") or value.get("input_tokens_details")
    written = value.get("completion_tokens_details") or value.get("output_tokens_details")
    neurons = value.get("neurons")
    return Usage(
        prompt,
        completion,
        total,
        _count(read, "cached_tokens") if isinstance(read, dict) else None,
        _count(written, "reasoning_tokens") if isinstance(written, dict) else None,
        float(neurons) if isinstance(neurons, _NUMBER) else None,
    )


def _count(counts: dict[str, Any], name: str, other: str = "") -> int | None:
    said = counts.get(name)
    if said is None:
        said = counts.get(other)
    return int(said) if isinstance(said, _NUMBER) else None


def arguments(value: Any) -> Any:
    """A call's arguments: decoded where they are JSON, else the text as the model wrote it."""
    if not isinstance(value, str):
        return {} if value is None else value
    if not value.strip():
        return {}
    try:
        return loads(value)
    except ValueError:
        return value


def tool_calls(value: Any) -> tuple[ToolCall, ...]:
    """Calls in either documented form: flat `{name, arguments}`, or nested under `function`."""
    if not value:
        return ()
    if not isinstance(value, list):
        raise undocumented("tool_calls must be a list", value)
    return tuple(_tool_calls(value))


def _tool_calls(entries: list[Any]) -> Iterable[ToolCall]:
    for entry in entries:
        if not isinstance(entry, dict):
            raise undocumented("a tool call must be an object", entry)
        nested = entry.get("function")
        said = nested if isinstance(nested, dict) else entry
        called = said.get("name")
        if not isinstance(called, str):
            raise undocumented("a tool call must have a name", entry)
        yield ToolCall(called, arguments(said.get("arguments")), name(entry.get("id")))


def parsed(text: str) -> Any:
    """The JSON that *text* holds, fenced in ```json or bare; `None` where it is none."""
    # No regular expression: models that write JSON now and then write white space without end.
    said = text.strip()
    if said.startswith("```") and said.endswith("```"):
        said = said[3:-3].removeprefix("json")
    try:
        return loads(said)
    except ValueError:
        return None


def _native(result: dict[str, Any], *, json_asked: bool) -> Text:
    said = result.get("response")
    calls = tool_calls(result.get("tool_calls"))
    reasoning = _reasoning(result)
    if said is None and not calls and not reasoning:
        raise undocumented("response must be a text where there are no tool_calls", result)
    value: Any = None
    if isinstance(said, dict | list):
        text, value = as_json(said), said
    else:
        text = words(said, "response")
        value = parsed(text) if json_asked else None
    return Text(
        text=text,
        parsed=value,
        tool_calls=calls,
        reasoning=reasoning,
        finish_reason=name(result.get("finish_reason")),
        usage=usage(result.get("usage")),
    )


def _reasoning(source: dict[str, Any]) -> str:
    said = source.get("reasoning_content")
    return words(source.get("reasoning") if said is None else said, "reasoning")


def _completion(result: dict[str, Any], *, json_asked: bool) -> Text:
    choices = result["choices"]
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise undocumented("choices must be a list of at least one object", result)
    first = choices[0]
    message = first.get("message")
    if not isinstance(message, dict):
        # Legacy completions have the text on the choice itself.
        if "text" not in first:
            raise undocumented("a choice must have a message", first)
        message = {"content": first["text"]}
    said = message.get("content")
    value = said if isinstance(said, dict) else None
    text = as_json(said) if value is not None else content(said, "content")
    if value is None and json_asked:
        value = parsed(text)
    return Text(
        text=text,
        parsed=value,
        tool_calls=tool_calls(message.get("tool_calls")),
        reasoning=_reasoning(message),
        finish_reason=name(first.get("finish_reason")),
        usage=usage(result.get("usage")),
    )


def _response(result: dict[str, Any], *, json_asked: bool) -> Text:
    output = result["output"]
    if not isinstance(output, list):
        raise undocumented("output must be a list", result)
    items = [item for item in output if isinstance(item, dict)]
    said = [item for item in items if item.get("type") == "message"]
    thought = [item for item in items if item.get("type") == "reasoning"]
    text = "".join(content(item.get("content"), "content") for item in said)
    return Text(
        text=text,
        parsed=parsed(text) if json_asked else None,
        tool_calls=tuple(
            ToolCall(
                words(item.get("name"), "name"),
                arguments(item.get("arguments")),
                name(item.get("call_id") or item.get("id")),
            )
            for item in items
            if item.get("type") == "function_call"
        ),
        reasoning="".join(
            content(item.get("content") or item.get("summary"), "reasoning") for item in thought
        ),
        finish_reason=name(result.get("status")),
        usage=usage(result.get("usage")),
    )


def read_text(result: Any, *, json_asked: bool = False) -> Text:
    """A whole text answer, from whichever form the model speaks.

    Args:
        json_asked: Whether JSON was asked for, so that `parsed` is filled from the text.

    Raises:
        DecodeError: No source documents this form.
    """
    if isinstance(result, str):
        return Text(text=result, parsed=parsed(result) if json_asked else None)
    if not isinstance(result, dict):
        raise undocumented("a text answer must be an object", result)
    if "choices" in result:
        return _completion(result, json_asked=json_asked)
    if "response" in result or "tool_calls" in result:
        return _native(result, json_asked=json_asked)
    if "output" in result:
        return _response(result, json_asked=json_asked)
    raise undocumented("a text answer must have response, choices or output", result)
