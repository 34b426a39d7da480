"""Text generation: what a request asks the writer for, and its answers, whole and streamed."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from aiohttp import web

from cfai.local import checks
from cfai.local.backends.roles import Ask, Ending
from cfai.local.checks import Body
from cfai.local.crew import Generation
from cfai.local.faults import Fault, bad_input, no_json, not_here
from cfai.tasks import Prompt, TextGeneration

Headers = Callable[[str], dict[str, str]]
"""Gives the headers of an answer by the backend of that name."""

Message = dict[str, str]

_NO_EYES = "so small a model reads only text, no images, sounds or files"

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
"""The service's names, and llama.cpp's."""


def asked(body: Body) -> Ask:
    """Read a request for text.

    Raises:
        Fault: It breaks a rule, or wants what the local model can't do.
    """
    chat = body.get("messages") is not None
    if not chat and body.get("prompt") is None:
        raise checks.missing("prompt", "messages")
    checks.check(TextGeneration if chat else Prompt, body)
    _refuse_the_impossible(body)
    said = body["messages"] if chat else [{"role": "user", "content": body["prompt"]}]
    messages = _messages(said)
    return Ask(
        text="\n".join(one["content"] for one in messages) if body.get("raw") else messages,
        max_tokens=_max_tokens(body),
        seed=_seed(body),
        sampling=_sampling(body),
        schema=_schema(body),
    )


async def written(generation: Generation, ending: asyncio.Future[Ending], ask: Ask) -> Any:
    """Wait for the whole text, and give the result: with what it says, where JSON was asked for.

    Raises:
        Fault: The model refused, or wrote something else than the JSON that was asked for.
    """
    text = "".join([piece async for piece in generation])
    end = await asyncio.shield(ending)
    return {"response": text if ask.schema is None else _parsed(text), "usage": _usage(end)}


async def stream(
    generation: Generation, ending: asyncio.Future[Ending], request: web.Request, headers: Headers
) -> web.StreamResponse:
    """Send the pieces as events while they come.

    Raises:
        Fault: The model refused before it began; nothing was sent.
    """
    response: web.StreamResponse | None = None
    async for piece in generation:
        # The model has accepted the request with its first piece, which may be empty.
        response = response or await _begin(generation, request, headers)
        if piece:
            await response.write(_event({"response": piece}))
    try:
        end = await asyncio.shield(ending)
    except Fault as fault:
        if response is None:
            raise
        # Nobody has recorded how the service fails here. Without [DONE] it is no whole answer.
        await response.write(_event(fault.body()))
        return response
    response = response or await _begin(generation, request, headers)
    last = {"response": "", "finish_reason": end.reason, "usage": _usage(end)}
    await response.write(_event(last) + b"data: [DONE]\n\n")
    return response


async def _begin(
    generation: Generation, request: web.Request, headers: Headers
) -> web.StreamResponse:
    response = web.StreamResponse(headers=headers(generation.backend))
    response.headers["Content-Type"] = "text/event-stream"
    response.headers["Cache-Control"] = "no-cache"
    await response.prepare(request)
    return response


def _event(said: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(said) + b"\n\n"


def _parsed(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise no_json() from exc


def _usage(ending: Ending) -> dict[str, int]:
    return {
        "prompt_tokens": ending.prompt_tokens,
        "completion_tokens": ending.completion_tokens,
        "total_tokens": ending.prompt_tokens + ending.completion_tokens,
    }


# Reading the request...


def _refuse_the_impossible(body: Body) -> None:
    for name in ("tools", "functions"):
        if body.get(name):
            raise not_here(f"so small a model can't call tools: leave out {name}")
    if body.get("image") is not None:
        raise not_here(_NO_EYES)


def _messages(said: Sequence[Mapping[str, Any]]) -> list[Message]:
    return [{"role": one["role"], "content": _content(one["content"])} for one in said]


def _content(said: str | Sequence[str | Mapping[str, Any]]) -> str:
    """Give the text of a message; texts that came as parts become lines."""
    if isinstance(said, str):
        return said
    parts = [{"text": part} if isinstance(part, str) else part for part in said]
    if any(part.get("type", "text") != "text" for part in parts):
        raise not_here(_NO_EYES)
    return "\n".join(part["text"] for part in parts)


def _max_tokens(body: Body) -> int:
    asked = body.get("max_tokens")
    if asked is None:
        return _MAX_TOKENS
    if asked < 1:
        raise bad_input(f"max_tokens must be at least 1, got {asked}")
    return int(asked)


def _seed(body: Body) -> int | None:
    return None if body.get("seed") is None else int(body["seed"])


def _sampling(body: Body) -> dict[str, float]:
    if body.get("repetition_penalty") == 0:
        raise bad_input("repetition_penalty must be above 0 for this model, got 0")
    given = {ours: body[name] for name, ours in _SAMPLING.items() if body.get(name) is not None}
    if "top_k" in given:
        given["top_k"] = int(given["top_k"])
    return {"temperature": _TEMPERATURE} | given


def _schema(body: Body) -> Mapping[str, Any] | None:
    """Give the JSON schema of the answer, if it is to be JSON."""
    match body.get("response_format"):
        case None:
            return None
        case {"type": "json_object"}:
            return {"type": "object"}
        case {"json_schema": {"schema": dict(), **rest}} if "type" not in rest:
            wrapped = "with the keys name, schema or strict around it"
            raise bad_input(f"response_format.json_schema must be the schema itself, not {wrapped}")
        case {"json_schema": dict() as schema}:
            return schema
    raise bad_input("response_format must be json_object, or json_schema with a schema")
