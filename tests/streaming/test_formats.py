"""The bytes of a relay in each format: pinned literally, as clients of other makers read them."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cfai import TokenStream, ToolRun, user
from cfai.testing import FakeWorkersAI
from tests.wire.dialects import DONE

MODEL = "@cf/qwen/qwen3-30b-a3b-fp8"
HEL = b'data: {"response":"Hel"}\n\n'
START = b'data: {"type":"start"}\n\ndata: {"type":"start-step"}\n\n'
END = b'data: {"type":"finish-step"}\n\ndata: {"type":"finish"%b}\n\ndata: [DONE]\n\n'


async def read_all(frames: AsyncIterator[bytes]) -> bytes:
    return b"".join([frame async for frame in frames])


def stream(fake: FakeWorkersAI) -> TokenStream:
    return fake.client().stream(MODEL, [user("Hi")])


async def look_up(city: str) -> dict[str, Any]:
    """Look up the weather."""
    if city == "Atlantis":
        raise LookupError("no such row in /srv/cities.db")
    return {"city": city, "dry": True}


def tool_run(fake: FakeWorkersAI, *, streamed: bool = True) -> ToolRun:
    return fake.client().run_tools(MODEL, "Hi", tools=[look_up], stream=streamed)


def calls(*arguments: str) -> dict[str, Any]:
    """A streamed piece with complete calls."""
    return {
        "tool_calls": [
            {"index": index, "id": f"c{index}", "function": {"name": "look_up", "arguments": text}}
            for index, text in enumerate(arguments)
        ]
    }


# The AI SDK's UI message stream, version 1. Source of the parts: `uiMessageChunkSchema` of npm's
# ai 6.0.326 and 7.0.173; of their order: the chunks of `streamText(...).toUIMessageStream()`.


async def test_the_headers_of_the_ai_sdk(fake: FakeWorkersAI) -> None:
    assert stream(fake).ai_sdk().headers == {
        "content-type": "text/event-stream; charset=utf-8",
        "x-vercel-ai-ui-message-stream": "v1",
        "cache-control": "no-cache",
        "x-accel-buffering": "no",
    }


async def test_text_and_reasoning_for_the_ai_sdk(fake: FakeWorkersAI) -> None:
    """Each stretch of reasoning or text is a part with a start and an end."""
    usage = {"prompt_tokens": 4, "completion_tokens": 2}
    fake.streams({"reasoning": "Hm"}, "Hel", "lo\u2028", {"finish_reason": "length"})
    assert await read_all(stream(fake).ai_sdk()) == (
        START + b'data: {"type":"reasoning-start","id":"1"}\n\n'
        b'data: {"type":"reasoning-delta","id":"1","delta":"Hm"}\n\n'
        b'data: {"type":"reasoning-end","id":"1"}\n\n'
        b'data: {"type":"text-start","id":"2"}\n\n'
        b'data: {"type":"text-delta","id":"2","delta":"Hel"}\n\n'
        b'data: {"type":"text-delta","id":"2","delta":"lo\\u2028"}\n\n'
        b'data: {"type":"text-end","id":"2"}\n\n' + END % b',"finishReason":"length"'
    )
    fake.streams("a", {"response": "", "usage": usage})
    body = await read_all(stream(fake).ai_sdk())
    assert body.endswith(
        END % b',"messageMetadata":{"usage":{"prompt_tokens":4,"completion_tokens":2,'
        b'"total_tokens":6,"cached_tokens":null,"reasoning_tokens":null,"neurons":null}}'
    )


@pytest.mark.parametrize(
    ("reason", "written"),
    [
        ("stop", b',"finishReason":"stop"'),
        ("max_tokens", b',"finishReason":"length"'),
        ("content_filter", b',"finishReason":"content-filter"'),
        ("tool_calls", b',"finishReason":"tool-calls"'),
        ("abort", b',"finishReason":"other"'),
        (None, b""),
    ],
)
async def test_finish_reasons_for_the_ai_sdk(
    fake: FakeWorkersAI, reason: str | None, written: bytes
) -> None:
    fake.streams("a", {"finish_reason": reason} if reason else "")
    assert (await read_all(stream(fake).ai_sdk())).endswith(END % written)


async def test_a_call_of_a_stream_for_the_ai_sdk(fake: FakeWorkersAI) -> None:
    """It is written once, when it is complete; a call without an id gets one."""
    pieces = [
        {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": '{"a":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": " 1}"}}]},
    ]
    fake.streams(*pieces, {"finish_reason": "tool_calls"})
    assert await read_all(stream(fake).ai_sdk()) == (
        START + b'data: {"type":"tool-input-available","toolCallId":"call-1","toolName":"f",'
        b'"input":{"a":1}}\n\n' + END % b',"finishReason":"tool-calls"'
    )


async def test_a_cut_stream_for_the_ai_sdk(fake: FakeWorkersAI) -> None:
    """As from the AI SDK's own server: the text is not ended, the message is."""
    fake.says(HEL, then_hangs_up=True)
    body = await read_all(stream(fake).ai_sdk())
    assert body.startswith(
        START + b'data: {"type":"text-start","id":"1"}\n\n'
        b'data: {"type":"text-delta","id":"1","delta":"Hel"}\n\n'
        b'data: {"type":"message-metadata","messageMetadata":{"error":"StreamInterrupted"}}\n\n'
        b'data: {"type":"error","errorText":"the stream was cut after 1 event'
    )
    assert body.endswith(END % b',"finishReason":"error"')


async def test_a_cancelled_stream_for_the_ai_sdk(fake: FakeWorkersAI) -> None:
    fake.says(HEL, asyncio.Event())
    tokens = stream(fake)
    frames = tokens.ai_sdk()
    first = await anext(frames)
    while b"Hel" not in first:
        first += await anext(frames)
    tokens.cancel()
    assert await read_all(frames) == b'data: {"type":"abort"}\n\ndata: [DONE]\n\n'


async def test_a_comment_keeps_the_connection_open_for_the_ai_sdk(fake: FakeWorkersAI) -> None:
    first = asyncio.Event()
    fake.says(HEL, DONE, after=first)
    frames = stream(fake).ai_sdk(keep_alive=0.01)
    assert await anext(frames) == b'data: {"type":"start"}\n\n'
    assert await anext(frames) == b": keep-alive\n\n"
    first.set()
    assert (await read_all(frames)).endswith(b"data: [DONE]\n\n")


async def test_a_tool_run_for_the_ai_sdk(
    fake: FakeWorkersAI, caplog: pytest.LogCaptureFixture
) -> None:
    """Wrong arguments are an input error; what a tool raises stays in the app's log."""
    pieces = calls('{"city":"Lima"}', '{"town":"Lima"}', '{"city":"Atlantis"}')
    fake.streams("Wait.", pieces, {"finish_reason": "tool_calls"})
    fake.streams("Dry.", {"finish_reason": "stop"})
    lines = (await read_all(tool_run(fake).ai_sdk())).decode().split("\n\n")
    parts = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]

    lima, wrong, atlantis = [part for part in parts if part["type"].startswith("tool-input")]
    call = {"toolName": "look_up"}
    assert lima == {
        **call,
        "type": "tool-input-available",
        "toolCallId": "c0",
        "input": {"city": "Lima"},
    }
    assert wrong == {
        **call,
        "type": "tool-input-error",
        "toolCallId": "c1",
        "input": {"town": "Lima"},
        "errorText": "error: arguments.town is not a parameter; arguments.city is missing",
    }
    assert atlantis["input"] == {"city": "Atlantis"}
    assert [part for part in parts if part["type"].startswith("tool-output")] == [
        {
            "type": "tool-output-available",
            "toolCallId": "c0",
            "output": {"city": "Lima", "dry": True},
        },
        {
            "type": "tool-output-error",
            "toolCallId": "c2",
            "errorText": "look_up failed; see the app's log",
        },
    ]
    kinds = [part["type"] for part in parts]
    assert kinds.count("start-step") == kinds.count("finish-step") == 2
    assert kinds[-5:] == ["text-start", "text-delta", "text-end", "finish-step", "finish"]
    assert lines[-2:] == ["data: [DONE]", ""]
    assert "no such row in /srv/cities.db" in caplog.text


# A tool run as server-sent events and lines of JSON


async def test_a_tool_run_as_lines_of_json(fake: FakeWorkersAI) -> None:
    fake.streams({"reasoning": "Hm"}, "Wait.", calls('{"city":"Lima"}'))
    fake.streams("Dry.", {"finish_reason": "stop", "usage": {"prompt_tokens": 4}})
    assert await read_all(tool_run(fake).ndjson()) == (
        b'{"type":"reasoning","text":"Hm"}\n'
        b'{"type":"text","text":"Wait."}\n'
        b'{"type":"tool_call","id":"c0","name":"look_up","arguments":{"city":"Lima"}}\n'
        b'{"type":"tool_result","id":"c0","name":"look_up","output":{"city":"Lima","dry":true}}\n'
        b'{"type":"step"}\n'
        b'{"type":"text","text":"Dry."}\n'
        b'{"type":"usage","prompt_tokens":4,"completion_tokens":0,"total_tokens":4,'
        b'"cached_tokens":null,"reasoning_tokens":null,"neurons":null}\n'
        b'{"type":"done","finish_reason":"stop"}\n'
    )


async def test_a_tool_run_without_a_stream_sends_each_turn_at_once(fake: FakeWorkersAI) -> None:
    fake.answers({"response": "Wait.", "tool_calls": [{"name": "look_up", "arguments": "{"}]})
    fake.answers({"response": "Sorry."})
    events = await read_all(tool_run(fake, streamed=False).sse(retry=None))
    call_id = fake.requests[1].json()["messages"][1]["tool_calls"][0]["id"].encode()
    assert events == (
        b'id: 1\nevent: text\ndata: {"text":"Wait."}\n\n'
        b'id: 2\nevent: tool_error\ndata: {"id":"%b","name":"look_up","arguments":"{",'
        b'"message":"error: arguments must be JSON, got \'{\'"}\n\n'
        b"id: 3\nevent: step\ndata: {}\n\n"
        b'id: 4\nevent: text\ndata: {"text":"Sorry."}\n\n'
        b'id: 5\nevent: done\ndata: {"finish_reason":null}\n\n' % call_id
    )


# Numbers beyond 64 bits: whatever the service or a model writes can be relayed


def relay(tokens: TokenStream | ToolRun, protocol: str) -> AsyncIterator[bytes]:
    return {"sse": tokens.sse, "ndjson": tokens.ndjson, "ai-sdk": tokens.ai_sdk}[protocol]()


@pytest.mark.parametrize("number", ["1e38", str(10**38), str(2**64), str(-(2**63) - 1)])
@pytest.mark.parametrize("protocol", ["sse", "ndjson", "ai-sdk"])
async def test_a_huge_count_does_not_end_a_relay(
    fake: FakeWorkersAI, number: str, protocol: str
) -> None:
    piece = b'data: {"response":"Hi","usage":{"total_tokens":%b}}\n\n' % number.encode()
    fake.streams(piece, DONE)
    relayed = await read_all(relay(stream(fake), protocol))
    assert b"Hi" in relayed
    assert b'"error"' not in relayed


@pytest.mark.parametrize("protocol", ["sse", "ndjson", "ai-sdk"])
async def test_a_huge_number_in_an_argument_is_relayed(fake: FakeWorkersAI, protocol: str) -> None:
    arguments = f'{{"city":"Ulm","population":{10**38}}}'
    fake.streams(calls(arguments), DONE)
    fake.streams({"response": "Dry."}, DONE)
    relayed = await read_all(relay(tool_run(fake), protocol))
    assert b"Dry." in relayed
    assert b"1" + 38 * b"0" in relayed
