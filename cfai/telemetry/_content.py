"""What was asked and answered, in the form that the semantic conventions give to messages.

Media are left out: of an image there is its kind, never its bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cfai.errors import InputError
from cfai.observers import Call
from cfai.tasks import Answer, Function, ImagePart, Message, Text, TextPart, Tool, ToolCall

Attributes = dict[str, str]


def question(call: Call) -> Attributes:
    """The messages, or the prompt, and the tools that may be called."""
    found: Attributes = {}
    said = call.asked("messages")
    messages = [_message(one) for one in said] if isinstance(said, Sequence) else []
    if not messages and call.operation != "embeddings":
        texts = [*_texts(call)]
        messages = [{"role": "user", "parts": [_text(one) for one in texts]}] if texts else []
    if messages:
        found["gen_ai.input.messages"] = _json(messages)
    tools = call.asked("tools")
    if tools and isinstance(tools, Sequence):
        found["gen_ai.tool.definitions"] = _json([_definition(one) for one in tools])
    return found


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
        yield from [value] if isinstance(value, str) else map(str, value or ())


def _message(message: Message | Mapping[str, Any]) -> dict[str, Any]:
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


def _part(part: Any) -> dict[str, Any]:
    if isinstance(part, str):
        return _text(part)
    if isinstance(part, TextPart):
        return _text(part.text)
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
    return {"type": "function", **(payload.get("function") or payload)}


def _json(value: Any) -> str:
    # Spans take no nested values everywhere, so that the conventions allow JSON as text.
    return json.dumps(value, ensure_ascii=False, default=str)
