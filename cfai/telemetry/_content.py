"""What was asked and answered, in the form that the semantic conventions give to messages.

Media are left out: of an image there is its kind, never its bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from cfai.errors import InputError
from cfai.observers import Call
from cfai.tasks import Answer, Function, ImagePart, Message, Text, TextPart, Tool, ToolCall

Attributes = dict[str, str]

_ITEMS: Final = ("function_call", "function_call_output")
"""What the Responses form has among its messages."""


def question(call: Call) -> Attributes:
    """The messages, the input of the Responses form, or the prompt."""
    messages = _messages(call.asked("messages")) or _messages(call.asked("input"))
    if not messages and call.operation != "embeddings":
        texts = [*_texts(call)]
        messages = [{"role": "user", "parts": [_text(one) for one in texts]}] if texts else []
    return {"gen_ai.input.messages": _json(messages)} if messages else {}


def instructions(call: Call) -> Attributes:
    """What the Responses form says beside its input."""
    said = call.asked("instructions")
    return {"gen_ai.system_instructions": _json([_text(said)])} if isinstance(said, str) else {}


def tools(call: Call) -> Attributes:
    """The tools that may be called."""
    known = call.asked("tools")
    if not known or not isinstance(known, list | tuple):
        return {}
    return {"gen_ai.tool.definitions": _json([_definition(one) for one in known])}


def answer(said: Answer | None) -> Attributes:
    """The text, the reasoning and the tool calls of an answer."""
    parts: list[Any] = []
    if reasoning := getattr(said, "reasoning", ""):
        parts.append({"type": "reasoning", "content": reasoning})
    if text := getattr(said, "text", ""):
        parts.append(_text(str(text)))
    if isinstance(said, Text):
        parts += [_call(one) for one in said.tool_calls]
    if not parts:
        return {}
    message = {
        "role": "assistant",
        "parts": parts,
        "finish_reason": getattr(said, "finish_reason", None) or "",
    }
    return {"gen_ai.output.messages": _json([message])}


def _texts(call: Call) -> Iterator[str]:
    for name in ("prompt", "text", "input_text", "query"):
        value = call.asked(name)
        said = value if isinstance(value, list | tuple) else [value]
        yield from (one for one in said if isinstance(one, str))


def _messages(said: Any) -> list[dict[str, Any]]:
    if isinstance(said, str):
        return [{"role": "user", "parts": [_text(said)]}] if said else []
    if isinstance(said, bytes | bytearray) or not isinstance(said, Sequence):
        return []
    return [_message(one) for one in said]


def _message(message: Any) -> dict[str, Any]:
    if isinstance(message, str):  # Models that embed take a list of texts for their input.
        return {"role": "user", "parts": [_text(message)]}
    if isinstance(message, Mapping) and message.get("type") in _ITEMS:
        return _item(message)
    try:
        known = Message.of(message)
    except InputError:  # An open run may send what the service alone understands.
        return {"role": "other", "parts": []}
    content = known.content
    parts = [_text(content)] if isinstance(content, str) else [_part(one) for one in content]
    if known.role == "tool":
        result = content if isinstance(content, str) else parts
        parts = [{"type": "tool_call_response", "id": known.tool_call_id, "response": result}]
    parts += [_call(one) for one in known.tool_calls or ()]
    return {"role": known.role, "parts": [one for one in parts if one.get("content") != ""]}


def _item(item: Mapping[str, Any]) -> dict[str, Any]:
    """A call of a tool, or its result, as the Responses form has them beside the messages."""
    part = {"type": "tool_call_response", "id": item.get("call_id")}
    if item["type"] == "function_call_output":
        return {"role": "tool", "parts": [part | {"response": item.get("output")}]}
    called = {"name": item.get("name"), "arguments": item.get("arguments")}
    return {"role": "assistant", "parts": [part | {"type": "tool_call"} | called]}


def _part(part: Any) -> dict[str, Any]:
    if isinstance(part, str):
        return _text(part)
    if isinstance(part, TextPart):
        return _text(part.text)
    if not isinstance(part, ImagePart) and part.get("type") in ("input_text", "output_text"):
        return _text(str(part.get("text", "")))
    is_image = isinstance(part, ImagePart) or "image_url" in part
    return {"type": "image" if is_image else str(part.get("type", "other"))}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "content": text}


def _call(call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_call", "id": call.id, "name": call.name, "arguments": call.arguments}


def _definition(tool: Any) -> Any:
    payload = tool.payload() if isinstance(tool, Tool | Function) else tool
    if not isinstance(payload, Mapping):
        return {"type": "other"}
    function = payload.get("function")
    return {"type": "function", **(function if isinstance(function, Mapping) else payload)}


def _json(value: Any) -> str:
    # Spans take no nested values everywhere, so that the conventions allow JSON as text.
    return json.dumps(value, ensure_ascii=False, default=str)
