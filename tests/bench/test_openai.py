"""The official openai package and cfai read and send the same, with one recorded stream."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import Any

import pytest

from cfai import Options, StatusError, StreamInterrupted, Text, TextGeneration, Tool, user
from cfai.testing import FakeWorkersAI
from tests.wire.dialects import (
    CHAT_COMPLETIONS,
    DONE,
    KIMI,
    OPENAI_ROUTE,
    OPENAI_ROUTE_CALLS,
    REASONING,
    Dialect,
    events,
)

pytestmark = pytest.mark.skipif(find_spec("openai") is None, reason="needs the package openai")

MODEL = "@cf/zai-org/glm-4.7-flash"
CHAT = Options(route="chat")
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}

# Two calls whose pieces alternate, after a text: OpenAI's API reference, "Streaming", chunks of
# `tool_calls` with their `index`; the counts of cached and reasoning tokens are in the same place.
_CHUNK = '{"id":"chatcmpl-2","object":"chat.completion.chunk","created":1771286400,"model":"m",'
TWO_CALLS = (
    events(
        _CHUNK + '"choices":[{"index":0,"delta":{"role":"assistant","content":"Let me see."},'
        '"finish_reason":null}]}',
        _CHUNK + '"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1",'
        '"type":"function","function":{"name":"add","arguments":""}}]},"finish_reason":null}]}',
        _CHUNK + '"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_2",'
        '"type":"function","function":{"name":"now","arguments":"{"}}]},"finish_reason":null}]}',
        _CHUNK + '"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":'
        '{"arguments":"{\\"a\\": 1, \\"b\\""}}]},"finish_reason":null}]}',
        _CHUNK + '"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"function":'
        '{"arguments":"}"}},{"index":0,"function":{"arguments":": \\"é\\"}"}}]},'
        '"finish_reason":null}]}',
        _CHUNK + '"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}',
        _CHUNK
        + '"choices":[],"usage":{"prompt_tokens":31,"completion_tokens":20,"total_tokens":51,'
        '"prompt_tokens_details":{"cached_tokens":16},'
        '"completion_tokens_details":{"reasoning_tokens":4}}}',
    )
    + DONE
)

STREAMS: dict[str, bytes] = {
    "text": OPENAI_ROUTE.stream,
    "call": OPENAI_ROUTE_CALLS.stream,
    "reasoning": CHAT_COMPLETIONS.stream.replace(b"\n\n[DONE]", b"\n\ndata: [DONE]\n\n"),
    "reasoning, the other key": REASONING.stream,
    "ids of Kimi": KIMI.stream,
    "two calls": TWO_CALLS,
    "text with CRLF": OPENAI_ROUTE.stream.replace(b"\n", b"\r\n"),
    "text with comments": OPENAI_ROUTE.stream.replace(b"\n\n", b"\n\n: keep-alive\n\n"),
}


async def read_theirs(fake: FakeWorkersAI, **options: Any) -> dict[str, Any]:
    """The stream as the official package shows it, put together from its chunks."""
    from openai import AsyncOpenAI

    text = reasoning = ""
    finish = usage = None
    calls: dict[int, list[str]] = {}
    base_url = f"{fake.base_url}/accounts/account/ai/v1"
    async with AsyncOpenAI(api_key="fake-api-token", base_url=base_url, max_retries=0) as client:
        messages: Any = [{"role": "user", "content": "Hi"}]
        chunks = await client.chat.completions.create(
            model=MODEL, messages=messages, stream=True, **options
        )
        async for chunk in chunks:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                finish = choice.finish_reason or finish
                text += choice.delta.content or ""
                extra = choice.delta.model_extra or {}
                reasoning += extra.get("reasoning_content") or extra.get("reasoning") or ""
                for piece in choice.delta.tool_calls or ():
                    call = calls.setdefault(piece.index, ["", "", ""])
                    call[0] += piece.id or ""
                    if piece.function is not None:
                        call[1] += piece.function.name or ""
                        call[2] += piece.function.arguments or ""
    prompt, completion = (
        getattr(usage, "prompt_tokens_details", None),
        getattr(usage, "completion_tokens_details", None),
    )
    return {
        "text": text,
        "reasoning": reasoning,
        "finish_reason": finish,
        "tool_calls": [
            (call_id, name, json.loads(arguments)) for call_id, name, arguments in calls.values()
        ],
        "usage": usage and (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens),
        "cached": prompt and prompt.cached_tokens,
        "reasoning_tokens": completion and completion.reasoning_tokens,
    }


def shown(answer: Text) -> dict[str, Any]:
    """The same of our answer."""
    usage = answer.usage
    return {
        "text": answer.text,
        "reasoning": answer.reasoning or "",
        "finish_reason": answer.finish_reason,
        "tool_calls": [(call.id, call.name, call.arguments) for call in answer.tool_calls],
        "usage": usage and (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens),
        "cached": usage and usage.cached_tokens,
        "reasoning_tokens": usage and usage.reasoning_tokens,
    }


@pytest.mark.parametrize("recorded", STREAMS)
async def test_both_read_the_same(fake: FakeWorkersAI, recorded: str) -> None:
    """Text, reasoning, tool calls, finish reason and usage."""
    fake.always.says(STREAMS[recorded], content_type="text/event-stream")
    async with fake.client().stream(MODEL, [user("Hi")], options=CHAT) as tokens:
        ours = shown(await tokens.collect())
    assert ours == await read_theirs(fake)
    assert ours["text"] or ours["tool_calls"]


@pytest.mark.parametrize("dialect", [OPENAI_ROUTE, OPENAI_ROUTE_CALLS, KIMI])
async def test_both_read_the_same_from_single_bytes(fake: FakeWorkersAI, dialect: Dialect) -> None:
    """However the stream is cut."""
    parts = [bytes([byte]) for byte in dialect.stream]
    fake.always.says(*parts, content_type="text/event-stream")
    async with fake.client().stream(MODEL, [user("Hi")], options=CHAT) as tokens:
        ours = shown(await tokens.collect())
    assert ours == await read_theirs(fake)


async def test_both_send_the_same(fake: FakeWorkersAI) -> None:
    """Path, method and body, with tools and the options of a chat."""
    fake.always.says(OPENAI_ROUTE.stream, content_type="text/event-stream")
    tool = Tool("add", "Add numbers.", SCHEMA)
    task = TextGeneration(
        [user("Hi")], tools=[tool], tool_choice="required", max_tokens=5, temperature=0.5, stop="\n"
    )
    await fake.client().stream(MODEL, task, options=CHAT).collect()
    function = {"name": "add", "description": "Add numbers.", "parameters": SCHEMA}
    await read_theirs(
        fake,
        tools=[{"type": "function", "function": function}],
        tool_choice="required",
        max_tokens=5,
        temperature=0.5,
        stop="\n",
    )
    ours, theirs = fake.requests
    assert (ours.method, ours.target) == (theirs.method, theirs.target)
    assert ours.json() == theirs.json()
    assert ours.headers["authorization"] == theirs.headers["authorization"]


async def test_both_raise_an_error_inside_the_stream(fake: FakeWorkersAI) -> None:
    """With the message of the service, and not as the end of the answer."""
    from openai import APIError

    message = "AiError: Capacity temporarily exceeded, please try again."
    failure = events(json.dumps({"error": {"code": 3040, "message": message}}))
    beginning = OPENAI_ROUTE.stream.removesuffix(DONE).rsplit(b"data: ", 1)[0]
    fake.always.says(beginning + failure, content_type="text/event-stream")
    tokens = fake.client().stream(MODEL, [user("Hi")], options=CHAT)
    with pytest.raises(StatusError) as ours:
        await tokens.collect()
    with pytest.raises(APIError) as theirs:
        await read_theirs(fake)
    assert ours.value.message == theirs.value.message == message
    assert tokens.answer.text == "Hello"


async def test_only_we_see_that_a_stream_was_cut(fake: FakeWorkersAI) -> None:
    """The official package ends as if the answer were complete."""
    cut = OPENAI_ROUTE.stream.rsplit(b"data: {", 1)[0]
    fake.always.says(cut, content_type="text/event-stream")
    assert (await read_theirs(fake))["text"] == "Hello"
    with pytest.raises(StreamInterrupted) as caught:
        await fake.client().stream(MODEL, [user("Hi")], options=CHAT).collect()
    assert caught.value.answer.text == "Hello"
