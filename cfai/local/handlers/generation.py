"""Text generation: reads the request, follows the generation, and builds the answer or stream."""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import orjson
from aiohttp import web
from attrs import define, field

from cfai.local import errors
from cfai.local.backends.roles import GenerationEnd, GenerationRequest, TextGenerator
from cfai.local.errors import ApiError
from cfai.local.requests import ApiRequest, JsonBody, check_fields, missing_fields
from cfai.local.workers import WorkerPool
from cfai.tasks import Prompt, TextGeneration

_TEXT_ONLY = "the local text model reads only text, no images, audio or files"

# The service's defaults, from the input schemas of its models.
_MAX_TOKENS = 256
_TEMPERATURE = 0.6

_SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "repetition_penalty": "repeat_penalty",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
}
"""The service's names of the sampling parameters, and llama.cpp's."""


@define(eq=False)
class RunningGeneration:
    """A running text generation: an async iterator of text pieces. Leaving it stops the generator.

    An empty piece means that the generator has started or is still reading the prompt. There is no
    backpressure: the context window limits the text, and so what can wait here for a slow reader.
    """

    _load_generator: Callable[[], TextGenerator]
    _request: GenerationRequest
    backend: str = field(default="", init=False)
    """The generator's name, set before the first piece."""
    _loop: asyncio.AbstractEventLoop = field(factory=asyncio.get_running_loop, init=False)
    _pieces: "asyncio.Queue[str | None]" = field(factory=asyncio.Queue, init=False)
    _stop: threading.Event = field(factory=threading.Event, init=False)

    def start(self, pool: WorkerPool, *, only_if_free: bool) -> asyncio.Future[GenerationEnd]:
        """Start in a thread of *pool*; the future resolves when the generation ends or is stopped.

        Raises:
            ApiError: The pool has no capacity.
        """
        return pool.start(self._generate, only_if_free=only_if_free)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._stop.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        piece = await self._pieces.get()
        if piece is None:
            raise StopAsyncIteration
        return piece

    # In the worker thread

    def _generate(self) -> GenerationEnd:
        try:
            if self._stop.is_set():
                return GenerationEnd("stopped", 0, 0)
            generator = self._load_generator()
            self.backend = generator.name
            return generator.generate(self._request, self._put)
        finally:
            self._put(None)

    def _put(self, piece: str | None) -> bool:
        """Hand over a piece, or `None` at the end; return whether to stop."""
        self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)
        return self._stop.is_set()


async def collect_result(
    generation: RunningGeneration, end: asyncio.Future[GenerationEnd], request: GenerationRequest
) -> Any:
    """Wait for the complete text and return the result; JSON is decoded if it was requested.

    Raises:
        ApiError: The model rejected the input, or its output is not the requested JSON.
    """
    text = "".join([piece async for piece in generation])
    usage = _build_usage(await asyncio.shield(end))
    try:
        response = text if request.schema is None else orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise errors.json_mode_failed() from exc
    return {"response": response, "usage": usage}


async def stream_response(
    generation: RunningGeneration,
    end: asyncio.Future[GenerationEnd],
    request: ApiRequest,
    headers: Mapping[str, str],
) -> web.StreamResponse:
    """Send the pieces as events while they are generated.

    Raises:
        ApiError: The model rejected the input before anything was sent.
    """
    response: web.StreamResponse | None = None
    async for piece in generation:
        # The first piece, which may be empty, means that the model accepted the request.
        response = response or await _start_stream(generation, request, headers)
        if piece:
            await response.write(_encode_sse({"response": piece}))
    try:
        result = await asyncio.shield(end)
    except ApiError as error:
        if response is None:
            raise
        # How the service fails here is not recorded. Without [DONE] the stream is incomplete.
        await response.write(_encode_sse(error.body()))
        return response
    response = response or await _start_stream(generation, request, headers)
    last = {"response": "", "finish_reason": result.reason, "usage": _build_usage(result)}
    await response.write(_encode_sse(last) + b"data: [DONE]\n\n")
    return response


async def _start_stream(
    generation: RunningGeneration, request: ApiRequest, headers: Mapping[str, str]
) -> web.StreamResponse:
    fields = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", **headers}
    fields |= request.recorder.start_response(generation.backend)
    response = web.StreamResponse(headers=fields)
    await response.prepare(request.http)
    return response


def _encode_sse(document: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(document) + b"\n\n"


def _build_usage(end: GenerationEnd) -> dict[str, int]:
    return {
        "prompt_tokens": end.prompt_tokens,
        "completion_tokens": end.completion_tokens,
        "total_tokens": end.prompt_tokens + end.completion_tokens,
    }


# Reading the request


def parse_generation_request(body: JsonBody) -> GenerationRequest:
    """Read a request for text.

    Raises:
        ApiError: It breaks a rule, or needs a capability that the local model lacks.
    """
    chat = body.get("messages") is not None
    if not chat and body.get("prompt") is None:
        raise missing_fields("prompt", "messages")
    check_fields(TextGeneration if chat else Prompt, body)
    for name in ("tools", "functions"):
        if body.get(name):
            raise errors.not_supported(f"the local text model can't call tools: omit {name}")
    _check_unsupported_fields(body)
    if body.get("image") is not None:
        raise errors.not_supported(_TEXT_ONLY)
    messages = [
        {"role": message["role"], "content": _join_parts(message.get("content") or "")}
        for message in (body["messages"] if chat else [{"role": "user", "content": body["prompt"]}])
    ]
    raw = "\n".join(message["content"] for message in messages)
    return GenerationRequest(
        prompt=raw if body.get("raw") else messages,
        max_tokens=_read_max_tokens(body),
        seed=None if body.get("seed") is None else int(body["seed"]),
        stop=_read_stop(body),
        sampling=_read_sampling(body),
        schema=_read_response_format(body),
    )


_WITHOUT_EFFECT: Mapping[str, tuple[object, ...]] = {
    "tool_choice": (None, "auto", "none"),
    "reasoning_effort": (None, "none"),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
}
"""The values that ask for nothing, of fields that the local text model does not support."""


def _check_unsupported_fields(body: JsonBody) -> None:
    problem = "must be omitted: the local text model does not support it"
    for name, values in _WITHOUT_EFFECT.items():
        if body.get(name) not in values:
            raise errors.bad_input(f"{name} {problem}")
    options: dict[str, Any] = body.get("chat_template_kwargs") or {}
    for name in ("enable_thinking", "thinking"):
        if options.get(name):
            raise errors.bad_input(f"chat_template_kwargs.{name} {problem}")
    if (body.get("stream_options") or {}).get("include_obfuscation"):
        raise errors.bad_input(f"stream_options.include_obfuscation {problem}")


def _read_max_tokens(body: JsonBody) -> int:
    """Return the lower one of the two limits, if there are both."""
    limits = {
        name: body[name]
        for name in ("max_tokens", "max_completion_tokens")
        if body.get(name) is not None
    }
    for name, limit in limits.items():
        if limit < 1:
            raise errors.bad_input(f"{name} must be at least 1, got {limit}")
    return int(min(limits.values(), default=_MAX_TOKENS))


def _read_stop(body: JsonBody) -> tuple[str, ...]:
    stop = body.get("stop")
    if stop is None:
        return ()
    texts = (stop,) if isinstance(stop, str) else tuple(stop)
    if not all(texts):
        raise errors.bad_input("stop must not contain an empty text")
    return texts


def _join_parts(content: str | Sequence[str | Mapping[str, Any]]) -> str:
    """Return the text of a message; several text parts are joined by line breaks."""
    if isinstance(content, str):
        return content
    parts = [{"text": part} if isinstance(part, str) else part for part in content]
    if any(part.get("type", "text") != "text" for part in parts):
        raise errors.not_supported(_TEXT_ONLY)
    return "\n".join(part["text"] for part in parts)


def _read_sampling(body: JsonBody) -> dict[str, float]:
    if body.get("repetition_penalty") == 0:
        raise errors.bad_input("repetition_penalty must be above 0 for this model, got 0")
    values = {
        llama_name: body[name]
        for name, llama_name in _SAMPLING.items()
        if body.get(name) is not None
    }
    if "top_k" in values:
        values["top_k"] = int(values["top_k"])
    return {"temperature": _TEMPERATURE} | values


def _read_response_format(body: JsonBody) -> Mapping[str, Any] | None:
    """Return the JSON schema of the answer; `None` for free text."""
    match body.get("response_format"):
        case None:
            return None
        case {"type": "json_object"}:
            return {"type": "object"}
        case {"json_schema": {"schema": dict(), **rest}} if "type" not in rest:
            raise errors.bad_input(
                "response_format.json_schema must be the schema itself, "
                "not an object with the keys name, schema or strict around it"
            )
        case {"json_schema": dict() as schema}:
            return schema
    raise errors.bad_input("response_format must be json_object, or json_schema with a schema")
