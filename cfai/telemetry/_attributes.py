"""Attributes of spans and metrics: calls, answers and errors in OpenTelemetry's terms.

Names follow the semantic conventions for generative AI
(github.com/open-telemetry/semantic-conventions-genai, `docs/gen-ai`). Attributes without a name
there start with `cloudflare.` or `cfai.`. Media are never captured: of an image, only its kind.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from cfai._wire.text import read_text
from cfai.errors import DecodeError, InputError, StatusError, TransportError
from cfai.meta import Meta
from cfai.observers import Call
from cfai.settings import Retry
from cfai.tasks import (
    Answer,
    Embeddings,
    Function,
    ImagePart,
    Message,
    Result,
    SpeechSynthesis,
    Text,
    TextPart,
    TextToImage,
    TextToSpeech,
    Tool,
    ToolCall,
    Usage,
)
from cfai.tasks.speaking import AuraSpeaking

Value = str | bool | int | float | tuple[str, ...]
Attributes = dict[str, Value]

PROVIDER: Final = "cloudflare.workers_ai"

_NUMBERS: Final[dict[str, tuple[str, type[int | float]]]] = {
    "max_tokens": ("gen_ai.request.max_tokens", int),
    "max_completion_tokens": ("gen_ai.request.max_tokens", int),
    "temperature": ("gen_ai.request.temperature", float),
    "top_p": ("gen_ai.request.top_p", float),
    "top_k": ("gen_ai.request.top_k", float),
    "seed": ("gen_ai.request.seed", int),
    "frequency_penalty": ("gen_ai.request.frequency_penalty", float),
    "presence_penalty": ("gen_ai.request.presence_penalty", float),
}

_TOOL_ITEMS: Final = ("function_call", "function_call_output")
"""Items of the Responses API among its messages."""


# Values that every exporter accepts


def drop_unsendable(attributes: Mapping[str, Any]) -> Attributes:
    """Drop or clean values that some exporter rejects: one of them loses a batch of spans.

    `None` is dropped, too.
    """
    return {
        name: replace_surrogates(value) if isinstance(value, str) else value
        for name, value in attributes.items()
        if value is not None and (not isinstance(value, int | float) or _is_sendable(value))
    }


def _is_sendable(value: float) -> bool:
    return -(2**63) <= value < 2**63 if isinstance(value, int) else math.isfinite(value)


def replace_surrogates(text: str) -> str:
    """Replace each lone surrogate, which UTF-8 can't encode, with a question mark."""
    return text.encode("utf-8", "replace").decode()


def redact_value(value: Value, redact: Callable[[str], str]) -> Value:
    """Redact the texts of a value."""
    if isinstance(value, str):
        return redact(value)
    return tuple(map(redact, value)) if isinstance(value, tuple) else value


# Calls


def call_attributes(call: Call) -> Attributes:
    """The attributes that identify a call, for its span, its metrics and samplers."""
    return drop_unsendable(
        {
            "gen_ai.operation.name": call.operation,
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.request.model": str(call.model),
            "server.address": call.address,
            "server.port": call.port,
        }
    )


def request_attributes(call: Call) -> Attributes:
    """The parameters of a request, without its content."""
    choices = call.asked("n")
    attributes: dict[str, Any] = {
        "gen_ai.request.stream": call.stream or None,
        "gen_ai.request.choice.count": choices if type(choices) is int and choices != 1 else None,
        "gen_ai.request.stop_sequences": _string_tuple(call.asked("stop")) or None,
        "gen_ai.output.type": _output_type(call),
        "cloudflare.ai_gateway.id": call.gateway,
    }
    for name, (attribute, kind) in _NUMBERS.items():
        value = call.asked(name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and _is_sendable(value):  # JSON and the models accept no others either.
            attributes[attribute] = kind(value)
    return drop_unsendable(attributes)


def _string_tuple(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (replace_surrogates(value),)
    is_list = isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
    return tuple(map(replace_surrogates, value)) if is_list else ()


def _output_type(call: Call) -> str | None:
    if call.asked("response_format") is not None:
        return "json"
    if isinstance(call.task, TextToImage):
        return "image"
    speaks = isinstance(call.task, TextToSpeech | SpeechSynthesis | AuraSpeaking)
    return "speech" if speaks else None


def retry_attributes(retry: Retry) -> Attributes:
    """The attributes of a failed attempt that is repeated."""
    attributes = {"cfai.retry.attempt": retry.attempt, "cfai.retry.pause": retry.pause}
    return error_attributes(retry.failure) | drop_unsendable(attributes)


# Answers


def text_answer(answer: Answer | None) -> Answer | None:
    """The answer; that of an open run as a text, or `None` if it is no text."""
    if not isinstance(answer, Result):
        return answer
    try:
        return read_text(answer.value)
    except DecodeError:
        return None


def response_attributes(answer: Answer | None, raw: Any, meta: Meta) -> Attributes:
    """The attributes of an answer without its content; *raw* is the service's own document."""
    dimension = answer.shape[1] if isinstance(answer, Embeddings) else None
    reason = getattr(answer, "finish_reason", None)
    attributes: dict[str, Any] = {
        "gen_ai.embeddings.dimension.count": dimension,
        "gen_ai.response.finish_reasons": (replace_surrogates(reason),) if reason else None,
        "http.response.status_code": meta.status,
        "cloudflare.ray_id": meta.ray_id,
        "cloudflare.ai_gateway.log_id": meta.gateway_log_id,
        "cloudflare.ai_gateway.cache_status": meta.cache_status,
        "cloudflare.workers_ai.neurons": meta.neurons,
    }
    return drop_unsendable(attributes) | response_id_attributes(raw)


def response_id_attributes(raw: Any) -> Attributes:
    """The id and the model that an answer, or an event of a stream, contains."""
    if not isinstance(raw, Mapping):
        return {}
    named = {"gen_ai.response.id": raw.get("id"), "gen_ai.response.model": raw.get("model")}
    texts = {name: value for name, value in named.items() if isinstance(value, str) and value}
    return drop_unsendable(texts)


def usage_attributes(usage: Usage | None) -> Attributes:
    """What a call used. Zero tokens mean that the service did not report them."""
    if usage is None:
        return {}
    return drop_unsendable(
        {
            "gen_ai.usage.input_tokens": usage.prompt_tokens or None,
            "gen_ai.usage.output_tokens": usage.completion_tokens or None,
            "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
            "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
            "cloudflare.workers_ai.neurons": usage.neurons,
        }
    )


def error_attributes(error: BaseException | None) -> Attributes:
    """The class of an error, and the service's code."""
    code = error.code if isinstance(error, StatusError) else None
    return drop_unsendable({"error.type": type(error).__name__, "cloudflare.error.code": code})


def status_description(error: BaseException | None) -> str | None:
    """A description of an error that repeats nothing of what was sent or received."""
    if isinstance(error, StatusError):
        code = "" if error.code is None else f", code {error.code}"
        return f"status {error.status}{code}"
    return replace_surrogates(str(error)) if isinstance(error, TransportError) else None


# Content: messages in the form of the semantic conventions


def input_content(call: Call) -> Attributes:
    """The messages, the input of the Responses API, or the prompt."""
    messages = _messages(call.asked("messages")) or _messages(call.asked("input"))
    if not messages and call.operation != "embeddings":
        parts = [_text_part(text) for text in _input_texts(call)]
        messages = [{"role": "user", "parts": parts}] if parts else []
    return {"gen_ai.input.messages": _json_text(messages)} if messages else {}


def instruction_content(call: Call) -> Attributes:
    """The instructions of the Responses API, which are separate from its input."""
    instructions = call.asked("instructions")
    if not isinstance(instructions, str):
        return {}
    return {"gen_ai.system_instructions": _json_text([_text_part(instructions)])}


def tool_content(call: Call) -> Attributes:
    """The definitions of the tools."""
    tools = call.asked("tools")
    if not tools or not isinstance(tools, list | tuple):
        return {}
    return {"gen_ai.tool.definitions": _json_text([_tool_definition(tool) for tool in tools])}


def output_content(answer: Answer | None) -> Attributes:
    """The text, the reasoning and the tool calls of an answer."""
    parts: list[Any] = []
    if reasoning := getattr(answer, "reasoning", ""):
        parts.append({"type": "reasoning", "content": reasoning})
    if text := getattr(answer, "text", ""):
        parts.append(_text_part(str(text)))
    if isinstance(answer, Text):
        parts += [_call_part(call) for call in answer.tool_calls]
    if not parts:
        return {}
    message = {
        "role": "assistant",
        "parts": parts,
        "finish_reason": getattr(answer, "finish_reason", None) or "",
    }
    return {"gen_ai.output.messages": _json_text([message])}


def _input_texts(call: Call) -> Iterator[str]:
    for name in ("prompt", "text", "input_text", "query"):
        value = call.asked(name)
        items = value if isinstance(value, list | tuple) else [value]
        yield from (item for item in items if isinstance(item, str))


def _messages(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, str):
        value = [value] if value else []
    is_list = isinstance(value, Sequence) and not isinstance(value, bytes | bytearray)
    return [_message(item) for item in value] if is_list else []


def _message(value: Any) -> dict[str, Any]:
    if isinstance(value, str):  # The input of embedding models is a list of texts.
        return {"role": "user", "parts": [_text_part(value)]}
    if isinstance(value, Mapping) and value.get("type") in _TOOL_ITEMS:
        return _tool_message(value)
    try:
        message = Message.of(value)
    except InputError:  # An open run may send a message of any form.
        return {"role": "other", "parts": []}
    content = message.content
    items = (content,) if isinstance(content, str) else content
    parts = [_content_part(item) for item in items]
    if message.role == "tool":
        result = content if isinstance(content, str) else parts
        parts = [{"type": "tool_call_response", "id": message.tool_call_id, "response": result}]
    parts += [_call_part(call) for call in message.tool_calls or ()]
    return {"role": message.role, "parts": [part for part in parts if part.get("content") != ""]}


def _tool_message(item: Mapping[str, Any]) -> dict[str, Any]:
    """A tool call or its result, which are items beside the messages in the Responses API."""
    part = {"type": "tool_call_response", "id": item.get("call_id")}
    if item["type"] == "function_call_output":
        return {"role": "tool", "parts": [part | {"response": item.get("output")}]}
    call = {"name": item.get("name"), "arguments": item.get("arguments")}
    return {"role": "assistant", "parts": [part | {"type": "tool_call"} | call]}


def _content_part(part: Any) -> dict[str, Any]:
    if isinstance(part, str):
        return _text_part(part)
    if isinstance(part, TextPart):
        return _text_part(part.text)
    if not isinstance(part, ImagePart) and part.get("type") in ("input_text", "output_text"):
        return _text_part(str(part.get("text", "")))
    is_image = isinstance(part, ImagePart) or "image_url" in part
    return {"type": "image" if is_image else str(part.get("type", "other"))}


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "content": text}


def _call_part(call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_call", "id": call.id, "name": call.name, "arguments": call.arguments}


def _tool_definition(tool: Any) -> Any:
    payload = tool.payload() if isinstance(tool, Tool | Function) else tool
    if not isinstance(payload, Mapping):
        return {"type": "other"}
    function = payload.get("function")
    return {"type": "function", **(function if isinstance(function, Mapping) else payload)}


def _json_text(value: Any) -> str:
    # Not every exporter accepts nested values, so the conventions allow JSON as text.
    return replace_surrogates(json.dumps(value, ensure_ascii=False, default=str))
