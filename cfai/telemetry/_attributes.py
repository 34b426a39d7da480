"""What the semantic conventions for generative AI call the fields of questions and answers.

Source: github.com/open-telemetry/semantic-conventions-genai, `docs/gen-ai`; what they have no name
for stands under `cloudflare.` or `cfai.`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from cfai._wire.text import read_text
from cfai.errors import DecodeError, StatusError, TransportError
from cfai.meta import Meta
from cfai.observers import Call
from cfai.settings import Retry
from cfai.tasks import Answer, Embeddings, Result, SpeechSynthesis, TextToImage, TextToSpeech, Usage

Value = str | bool | int | float | tuple[str, ...]
Attributes = dict[str, Value]

PROVIDER: Final = "cloudflare.workers_ai"

_NUMBERS: Final[dict[str, tuple[str, type[int | float]]]] = {
    "max_tokens": ("gen_ai.request.max_tokens", int),
    "temperature": ("gen_ai.request.temperature", float),
    "top_p": ("gen_ai.request.top_p", float),
    "top_k": ("gen_ai.request.top_k", float),
    "seed": ("gen_ai.request.seed", int),
    "frequency_penalty": ("gen_ai.request.frequency_penalty", float),
    "presence_penalty": ("gen_ai.request.presence_penalty", float),
}


def sendable(found: Mapping[str, Any]) -> Attributes:
    """What every exporter has a form for: one value without any would cost it a batch of spans."""
    return {
        name: clean(value) if isinstance(value, str) else value
        for name, value in found.items()
        if not isinstance(value, int | float) or _is_sendable(value)
    }


def _is_sendable(value: float) -> bool:
    return -(2**63) <= value < 2**63 if isinstance(value, int) else math.isfinite(value)


def clean(text: str) -> str:
    """A text in which each half of a pair of surrogates is a question mark: UTF-8 has none."""
    return text.encode("utf-8", "replace").decode()


def identity(call: Call) -> Attributes:
    """What spans and metrics say of a call: what samplers see, too."""
    return sendable(
        {
            "gen_ai.operation.name": call.operation,
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.request.model": str(call.model),
            "server.address": call.address,
            "server.port": call.port,
        }
    )


def request(call: Call) -> Attributes:
    """How the answer is to be made."""
    found: Attributes = {}
    for name, (attribute, kind) in _NUMBERS.items():
        value = call.asked(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if _is_sendable(value):  # What is no such number is none to JSON either, or to the model.
            found[attribute] = kind(value)
    if call.stream:
        found["gen_ai.request.stream"] = True
    choices = call.asked("n")
    if type(choices) is int and choices != 1:
        found["gen_ai.request.choice.count"] = choices
    if stop := _texts(call.asked("stop")):
        found["gen_ai.request.stop_sequences"] = stop
    if kind_of_output := _output_type(call):
        found["gen_ai.output.type"] = kind_of_output
    if call.gateway is not None:
        found["cloudflare.ai_gateway.id"] = call.gateway
    return found


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (clean(value),)
    listed = isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
    return tuple(map(clean, value)) if listed else ()


def _output_type(call: Call) -> str | None:
    if call.asked("response_format") is not None:
        return "json"
    if isinstance(call.task, TextToImage):
        return "image"
    return "speech" if isinstance(call.task, TextToSpeech | SpeechSynthesis) else None


def understood(answer: Answer | None) -> Answer | None:
    """The answer of an open run as a text, where it is one."""
    if not isinstance(answer, Result):
        return answer
    try:
        return read_text(answer.value)
    except DecodeError:
        return answer


def response(answer: Answer | None, raw: Any, meta: Meta) -> Attributes:
    """What is known of an answer besides its content; *raw* is what the service said."""
    found: Attributes = {}
    if isinstance(answer, Embeddings):
        found["gen_ai.embeddings.dimension.count"] = answer.shape[1]
    if reason := getattr(answer, "finish_reason", None):
        found["gen_ai.response.finish_reasons"] = (clean(reason),)
    found |= spoken(raw)
    if meta.attempts > 1:
        found["http.request.resend_count"] = meta.attempts - 1
    said = {
        "http.response.status_code": meta.status,
        "cloudflare.ray_id": meta.ray_id,
        "cloudflare.ai_gateway.log_id": meta.gateway_log_id,
        "cloudflare.ai_gateway.cache_status": meta.cache_status,
    }
    return found | {name: value for name, value in said.items() if value is not None}


def spoken(raw: Any) -> Attributes:
    """The id and the model that an answer, or an event of a stream, names itself."""
    if not isinstance(raw, Mapping):
        return {}
    named = {"gen_ai.response.id": raw.get("id"), "gen_ai.response.model": raw.get("model")}
    return {name: value for name, value in named.items() if isinstance(value, str) and value}


def usage(counts: Usage | None) -> Attributes:
    """What a call used. Zero stands for what the service didn't say."""
    if counts is None:
        return {}
    said = {
        "gen_ai.usage.input_tokens": counts.prompt_tokens or None,
        "gen_ai.usage.output_tokens": counts.completion_tokens or None,
        "gen_ai.usage.cache_read.input_tokens": counts.cached_tokens,
        "gen_ai.usage.reasoning.output_tokens": counts.reasoning_tokens,
        "cloudflare.workers_ai.neurons": counts.neurons,
    }
    return {name: value for name, value in said.items() if value is not None}


def failure(error: BaseException | None) -> Attributes:
    """The class of an error, and the service's code."""
    found: Attributes = {"error.type": type(error).__name__}
    if isinstance(error, StatusError) and error.code is not None:
        found["cloudflare.error.code"] = error.code
    return found


def description(error: BaseException | None) -> str | None:
    """What went wrong, in words that repeat nothing of what was sent or received."""
    if isinstance(error, StatusError):
        code = "" if error.code is None else f", code {error.code}"
        return f"status {error.status}{code}"
    return clean(str(error)) if isinstance(error, TransportError) else None


def repeated(retry: Retry) -> Attributes:
    """An attempt that failed, and is repeated."""
    return failure(retry.failure) | {
        "cfai.retry.attempt": retry.attempt,
        "cfai.retry.pause": retry.pause,
    }
