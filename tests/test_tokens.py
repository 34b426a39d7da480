"""Token streams over a real socket: what they say, how they end, and what they leave behind."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from cfai import TokenStream
from cfai.errors import (
    AnswerTooLarge,
    BadRequest,
    CapacityExceeded,
    CfaiError,
    ConnectionLost,
    DecodeError,
    QuotaExceeded,
    ServerError,
    ServiceTimeout,
    StatusError,
    StreamInterrupted,
    StreamUnsupported,
)
from cfai.settings import Retries, Retry
from cfai.tasks import (
    Description,
    ImageToText,
    Prompt,
    Text,
    TextGeneration,
    Token,
    ToolCall,
    user,
)
from cfai.testing import FakeWorkersAI
from tests.wire.dialects import CALL_IN_PIECES, DIALECTS, DONE, FINISH, NATIVE, Dialect

MODEL = "@cf/meta/llama-3.1-8b-instruct"
HI = Prompt("Hi")
AT_ONCE = Retries(base=0)
NEVER = Retries(max=0)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is let go must be gone without the collector's help."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def stream(fake: FakeWorkersAI, **options: Any) -> TokenStream:
    return fake.client(**options).stream(MODEL, HI)


async def idle(fake: FakeWorkersAI) -> None:
    """Wait until no connection is open."""
    await fake.until(lambda: fake.connections == 0)


# What they say


def in_pieces(data: bytes) -> dict[str, list[bytes]]:
    third = len(data) // 3
    return {
        "whole": [data],
        "by lines": data.splitlines(keepends=True),
        "in thirds": [data[:third], data[third : 2 * third], data[2 * third :]],
        "before the last byte": [data[:-1], data[-1:]],
    }


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
@pytest.mark.parametrize("cut", ["whole", "by lines", "in thirds", "before the last byte"])
async def test_every_dialect_is_a_stream_of_tokens(
    fake: FakeWorkersAI, dialect: Dialect, cut: str
) -> None:
    """Its recorded bytes, in several chunks, are the tokens and the answer that they say."""
    fake.says(*in_pieces(dialect.stream)[cut], content_type="text/event-stream")
    tokens = stream(fake)
    seen: list[Token] = []

    async def read() -> None:
        async for token in tokens:
            seen.append(token)  # noqa: PERF401  # those before an error count, too

    if dialect.ended:
        await read()
    else:
        with pytest.raises(StreamInterrupted) as caught:
            await read()
        assert caught.value.answer == dialect.says
    assert tokens.answer == dialect.says
    assert len(seen) == dialect.tokens
    assert "".join(map(str, seen)) == dialect.says.text
    assert tokens.meta.status == 200


@pytest.mark.parametrize(
    "data",
    [
        NATIVE.stream,
        CALL_IN_PIECES.stream,
        'data: {"response":"Grüezi 😀"}\r\n\r\n'.encode() + DONE,
    ],
    ids=["native", "calls", "characters of many bytes"],
)
async def test_a_stream_may_come_byte_by_byte(fake: FakeWorkersAI, data: bytes) -> None:
    """Each byte a chunk and a wake-up of its own."""
    fake.says(data).says(
        *(data[at : at + 1] for at in range(len(data))), content_type="text/event-stream"
    )
    whole = await stream(fake).collect()
    assert await stream(fake).collect() == whole
    assert whole != Text()


async def test_a_byte_order_mark_and_odd_bytes_break_nothing(fake: FakeWorkersAI) -> None:
    """The mark is skipped even when it is cut; what is no UTF-8 is U+FFFD, even in a name."""
    fake.says(
        b"\xef", b"\xbb", b'\xbfdata: {"response":"a\xff"}\r', b"\n\r\n",
        b'id: 7\ndata: {"response":"\xf0\x9f\x98"}\n\n', DONE,
        content_type="text/event-stream; charset=utf-8",
    )  # fmt: skip
    assert (await stream(fake).collect()).text == "a\ufffd\ufffd"


async def test_the_request_asks_for_a_stream(fake: FakeWorkersAI) -> None:
    fake.streams("Hi")
    async with stream(fake) as tokens:
        await tokens.collect()
    (request,) = fake.requests
    assert request.json() == {"prompt": "Hi", "stream": True}
    assert request.target == ("/client/v4/accounts/account/ai/run/@cf/meta/llama-3.1-8b-instruct")
    assert request.headers["accept"] == "text/event-stream"
    assert request.headers["accept-encoding"] == "identity"


async def test_nothing_is_sent_before_it_is_read(fake: FakeWorkersAI) -> None:
    tokens = stream(fake)
    assert repr(tokens) == "<TokenStream new, 0 events>"
    assert tokens.answer == Text()
    assert fake.requests == []
    fake.streams("Hi")
    assert str(await anext(aiter(tokens))) == "Hi"
    assert len(fake.requests) == 1
    await tokens.aclose()


async def test_the_answer_grows_with_every_token(fake: FakeWorkersAI) -> None:
    """And `meta` is there from the first one on."""
    fake.streams("a", "b", {"finish_reason": "stop"}, headers={"cf-ray": "8f1a-AMS"})
    async with stream(fake) as tokens:
        assert tokens.meta.ray_id == "8f1a-AMS"
        assert tokens.answer.text == ""
        assert str(await anext(tokens)) == "a"
        assert tokens.answer.text == "a"
        assert [str(token) async for token in tokens] == ["b", ""]
        assert tokens.answer == Text("ab", finish_reason="stop")
        assert tokens.answer.meta.ray_id == "8f1a-AMS"
    assert repr(tokens) == "<TokenStream over, 4 events>"


async def test_text_gives_strings_and_skips_what_has_none(fake: FakeWorkersAI) -> None:
    fake.streams("a", {"reasoning": "hm"}, "", "b", {"finish_reason": "stop"})
    async with stream(fake) as tokens:
        assert [text async for text in tokens.text()] == ["a", "b"]
    assert tokens.answer.reasoning == "hm"


async def test_collect_drains_from_wherever_it_is(fake: FakeWorkersAI) -> None:
    fake.streams("a", "b", "c")
    async with stream(fake) as tokens:
        await anext(tokens)
        assert (await tokens.collect()).text == "abc"
        assert (await tokens.collect()).text == "abc"


async def test_json_that_was_asked_for_is_parsed_at_the_end(fake: FakeWorkersAI) -> None:
    fake.streams('{"a"', ": 1}")
    task = TextGeneration([user("Hi")], response_format="json_object")
    async with fake.client().stream(MODEL, task) as tokens:
        assert (await tokens.collect()).parsed == {"a": 1}


async def test_run_gives_the_stream_where_it_is_asked_for_one(fake: FakeWorkersAI) -> None:
    """By the task, by the argument, and in an open run; already begun."""
    ai = fake.client()
    made: list[Callable[[], Awaitable[Any]]] = [
        lambda: ai.run(MODEL, Prompt("Hi", stream=True)),
        lambda: ai.run(MODEL, TextGeneration([user("Hi")], stream=True)),
        lambda: ai.run(MODEL, HI, stream=True),
        lambda: ai.run(MODEL, {"prompt": "Hi"}, stream=True),
        lambda: ai.run(MODEL, {"prompt": "Hi", "stream": True}),
    ]
    for number, make in enumerate(made, 1):
        fake.streams("a", "b")
        tokens = await make()
        assert isinstance(tokens, TokenStream)
        assert len(fake.requests) == number
        assert fake.requests[-1].json()["stream"] is True
        async with tokens:
            assert (await tokens.collect()).text == "ab"


async def test_a_stream_that_nobody_asked_for_is_read(fake: FakeWorkersAI) -> None:
    """moondream3.1 streams unless told not to: its input schema, `stream`."""
    ai = fake.client()
    fake.streams("A ", "cat.", {"finish_reason": "stop"})
    assert await ai.run(MODEL, HI) == Text("A cat.", finish_reason="stop")
    fake.streams("A ", "cat.")
    assert await ai.run("@cf/moondream/moondream3", ImageToText(b"i")) == Description("A cat.")
    fake.streams("A ", "cat.")
    tokens = await ai.run("@cf/moondream/moondream3", {"task": "caption"})
    assert isinstance(tokens, TokenStream)
    assert (await tokens.collect()).text == "A cat."
    fake.streams("A ", done=False)
    with pytest.raises(StreamInterrupted):
        await ai.run(MODEL, HI)
    assert len(fake.requests) == 4


# JSON where a stream was asked for


async def test_a_whole_answer_is_one_token(fake: FakeWorkersAI) -> None:
    """A model that does not stream answers JSON: nobody has to ask again."""
    fake.answers(
        {"response": "Hello", "tool_calls": [{"name": "f", "arguments": {"x": 1}}]},
        headers={"cf-ray": "8f1a-AMS"},
    )
    async with stream(fake) as tokens:
        (token,) = [token async for token in tokens]
        assert token.text == "Hello"
        assert token.tool_calls[0].arguments == '{"x":1}'
        assert token.raw["response"] == "Hello"
        assert tokens.answer == Text("Hello", tool_calls=(ToolCall("f", {"x": 1}),))
        assert tokens.answer.raw == token.raw
        assert tokens.meta.ray_id == "8f1a-AMS"
        assert [token async for token in tokens] == []
        assert [event async for event in tokens.events()] == []


@pytest.mark.parametrize("result", [{}, None, ""])
async def test_an_empty_answer_says_to_call_run(fake: FakeWorkersAI, result: Any) -> None:
    """github.com/cloudflare/ai, stream-text.test.ts: gpt-oss and Kimi did so. Asked once only."""
    fake.answers(result)
    with pytest.raises(StreamUnsupported, match=r"call run\(\)"):
        await stream(fake, retries=AT_ONCE).collect()
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    ("body", "content_type", "status", "error"),
    [
        (b"<html>", "text/html", 200, DecodeError),
        (b"<html>", "text/html", 502, ServerError),
        (b"", "application/json", 200, DecodeError),
        (b"data: {}\n\n", "text/plain", 200, DecodeError),
        (b'{"result":{"shape":[1]}}', "application/json", 200, DecodeError),
        (b'{"success":false,"errors":[{"code":5007}]}', "application/json", 200, BadRequest),
        (b'data: {"error":"x"}\n\n', "text/event-stream", 500, ServerError),
        (b"", "text/event-stream", 302, StatusError),
    ],
)
async def test_what_is_no_stream_is_a_typed_error(
    fake: FakeWorkersAI, body: bytes, content_type: str, status: int, error: type[CfaiError]
) -> None:
    """At every way in, and again at every later try: it never looks like a clean end."""
    for begin in (TokenStream.open, TokenStream.collect, anext):
        fake.says(body, content_type=content_type, status=status)
        tokens = stream(fake, retries=NEVER)
        with pytest.raises(error):
            await begin(tokens)
        with pytest.raises(error):
            await tokens.collect()
        with pytest.raises(error):
            await anext(tokens.events())
    assert len(fake.requests) == 3


# How they end


@pytest.mark.parametrize(
    "end",
    [
        {"then_hangs_up": True},
        {"then_hangs_up": "reset"},
        {"framing": "close"},
        {"headers": {"Content-Length": "1000"}, "then_hangs_up": True},
        {},
    ],
    ids=["FIN", "RST", "closed", "short of its length", "no end mark"],
)
@pytest.mark.parametrize(
    ("parts", "said", "count"),
    [
        ([b'data: {"response":"Hel"}\n\n'], "Hel", 1),
        ([b'data: {"response":"Hel"}\n\n', b'data: {"respo'], "Hel", 2),
        ([b'data: {"response":"Hel"}\n\ndata: {"response":"lo"}'], "Hello", 2),
        ([b'data: {"response":"Hel"}\n\n', b"data: [DON"], "Hel", 2),
        ([b'data: {"response":"Hel"}\n\n', b"data: "], "Hel", 2),
        ([b'data: {"response":"Hel"}\n\n', b": keep"], "Hel", 1),
        ([b'data: {"response":""}\n\n'], "", 1),
    ],
)
async def test_a_stream_cut_short_is_an_error_that_has_what_came(
    fake: FakeWorkersAI, parts: list[bytes], said: str, count: int, end: Any
) -> None:
    """It is never a short answer, and it is never asked for again."""
    fake.says(*parts, content_type="text/event-stream", **end)
    tokens = stream(fake, retries=AT_ONCE)
    with pytest.raises(StreamInterrupted) as caught:
        await tokens.collect()
    lost = "then_hangs_up" in end
    if not (lost and not parts[-1].endswith(b"\n")):
        assert caught.value.answer == Text(said)
        assert caught.value.events == count
    else:
        # What the cut left open was no event yet.
        assert caught.value.answer == Text("Hel")
        assert caught.value.events == 1
    assert isinstance(caught.value, ConnectionLost)
    assert caught.value.answer.meta.status == 200
    assert tokens.answer == caught.value.answer
    assert len(fake.requests) == 1
    if end:
        await idle(fake)


async def test_a_finish_reason_and_the_end_of_the_body_are_an_end(fake: FakeWorkersAI) -> None:
    """But not a finish reason and a cut: the counts would be missing."""
    fake.says(FINISH.stream[: -len(DONE)])
    assert await stream(fake).collect() == FINISH.says
    fake.says(FINISH.stream[: -len(DONE)], then_hangs_up=True)
    with pytest.raises(StreamInterrupted) as caught:
        await stream(fake).collect()
    assert caught.value.answer == FINISH.says


async def test_nothing_after_the_end_mark_counts(fake: FakeWorkersAI) -> None:
    """Not more text, not an error, not a cut."""
    for more in ([*NATIVE.stream], [b'data: {"error":"x"}\n\n'], [b"data: {"]):
        data = bytes(more) if isinstance(more[0], int) else b"".join(more)  # type: ignore[arg-type]
        fake.says(NATIVE.stream + data)
        assert await stream(fake).collect() == NATIVE.says
    for how in (True, "reset"):
        fake.says(NATIVE.stream, then_hangs_up=how)
        assert await stream(fake).collect() == NATIVE.says


@pytest.mark.parametrize(
    ("event", "kind", "code"),
    [
        (b'data: {"errors":[{"code":3007,"message":"slow"}]}', ServiceTimeout, 3007),
        (b'data: {"errors":[{"code":4006,"message":"used"}]}', QuotaExceeded, 4006),
        (b'data: {"error":{"message":"broken"}}', ServerError, None),
        (b'data: {"error":"broken"}', ServerError, None),
        (b'data: {"internalCode":1001,"message":"InvalidInput: x"}', BadRequest, 1001),
        (
            b'data: {"success":false,"errors":[{"code":3040,"message":"busy"}]}',
            CapacityExceeded,
            3040,
        ),
        (b'event: error\ndata: {"message":"broken"}', ServerError, None),
        (b"event: error\ndata: broken", ServerError, None),
        (b"event: error\ndata", ServerError, None),
        (b'data: {"response":"","finish_reason":"error"}', ServerError, None),
        (b'data: {"choices":[{"delta":{},"finish_reason":"error"}]}', ServerError, None),
    ],
)
async def test_an_error_inside_a_stream_is_the_error_of_its_status(
    fake: FakeWorkersAI, event: bytes, kind: type[StatusError], code: int | None
) -> None:
    """After a first token it is raised at once; what came stays in the stream's answer."""
    fake.says(b'data: {"response":"Hel"}\n\n' + event + b"\n\n" + DONE, headers={"cf-ray": "8f1a"})
    tokens = stream(fake, retries=AT_ONCE)
    with pytest.raises(kind) as caught:
        await tokens.collect()
    assert type(caught.value) is kind
    assert caught.value.code == code
    assert caught.value.ray_id == "8f1a"
    assert caught.value.meta is not None
    assert tokens.answer.text == "Hel"
    assert len(fake.requests) == 1
    with pytest.raises(kind):
        await anext(tokens)
    await idle(fake)


@pytest.mark.parametrize(
    ("event", "kind", "requests"),
    [
        (b'data: {"errors":[{"code":3040,"message":"busy"}]}', CapacityExceeded, 3),
        (b'data: {"errors":[{"code":3007,"message":"slow"}]}', ServiceTimeout, 3),
        (b'data: {"error":"broken"}', ServerError, 3),
        (b"event: error\ndata: broken", ServerError, 3),
        (b'data: {"errors":[{"code":4006,"message":"used"}]}', QuotaExceeded, 1),
        (b'data: {"errors":[{"code":5006,"message":"bad"}]}', BadRequest, 1),
    ],
)
async def test_an_error_as_the_first_event_is_a_failed_attempt(
    fake: FakeWorkersAI, event: bytes, kind: type[StatusError], requests: int
) -> None:
    """Nothing was told yet, so it is tried again where that helps."""
    fake.always.says(event + b"\n\n")
    with pytest.raises(kind):
        await stream(fake, retries=AT_ONCE).collect()
    assert len(fake.requests) == requests
    await idle(fake)


async def test_a_stream_is_repeated_only_before_its_first_event(fake: FakeWorkersAI) -> None:
    """Busy, cut, empty, refused: then it begins, and `attempts` tells."""
    heard: list[Retry] = []
    fake.says(b'data: {"errors":[{"code":3040,"message":"busy"}]}\n\n')
    fake.says(b": hello\n\n", then_hangs_up=True)
    fake.says(b": hello\n\n")
    fake.hangs_up()
    fake.fails(429, 3040, "busy")
    fake.streams("Hello")
    tokens = stream(fake, retries=Retries(max=5, base=0, on_retry=heard.append))
    assert (await tokens.collect()).text == "Hello"
    assert tokens.meta.attempts == 6
    assert [type(retry.failure) for retry in heard] == [
        CapacityExceeded,
        StreamInterrupted,
        StreamInterrupted,
        ConnectionLost,
        CapacityExceeded,
    ]


async def test_a_stream_of_nothing_is_an_error(fake: FakeWorkersAI) -> None:
    fake.always.says(b"", content_type="text/event-stream")
    with pytest.raises(StreamInterrupted, match="before its first event") as caught:
        await stream(fake, retries=AT_ONCE).collect()
    assert caught.value.answer == Text()
    assert caught.value.events == 0
    assert len(fake.requests) == 3


async def test_a_stream_of_an_end_mark_alone_is_an_empty_answer(fake: FakeWorkersAI) -> None:
    for mark in (DONE, b"data: [DONE]", b"[DONE]\n\n", b"[DONE]"):
        fake.says(mark, content_type="text/event-stream")
        assert await stream(fake).collect() == Text()


@pytest.mark.parametrize(
    "data",
    [
        b"not json",
        b'{"response":',
        b"[]",
        b"null",
        b'"a"',
        b'{"response":{"a":1}}',
        b'{"choices":5}',
    ],
)
@pytest.mark.parametrize("first", [b"", b'data: {"response":"a"}\n\n'])
async def test_an_event_that_nobody_documented_is_an_error_that_has_it(
    fake: FakeWorkersAI, data: bytes, first: bytes
) -> None:
    """It is neither skipped nor shown as text; and it is not asked for again."""
    fake.says(first + b"data: " + data + b"\n\n" + DONE)
    tokens = stream(fake, retries=AT_ONCE)
    with pytest.raises(DecodeError) as caught:
        await tokens.collect()
    assert caught.value.body == data
    assert caught.value.meta is not None
    assert caught.value.meta.status == 200
    assert tokens.answer.text == ("a" if first else "")
    assert len(fake.requests) == 1
    await idle(fake)


async def test_no_error_inside_a_stream_repeats_a_secret(fake: FakeWorkersAI) -> None:
    for data in (
        b'{"error":{"message":"bad s3cret-t0ken","seen":["s3cret-t0ken"]}}',
        b'{"response":{"a":"s3cret-t0ken"}}',
        b"s3cret-t0ken",
    ):
        fake.says(b'data: {"response":"a"}\n\ndata: ' + data + b"\n\n" + DONE)
        with pytest.raises(CfaiError) as caught:
            await stream(fake, api_token="s3cret-t0ken").collect()
        shown = f"{caught.value} {caught.value!r} {vars(caught.value)}"
        assert "s3cret" not in shown


@pytest.mark.parametrize("complete", [True, False])
async def test_an_event_beyond_the_limit_is_an_error_not_memory(
    fake: FakeWorkersAI, complete: bool
) -> None:
    """Whether it ends or not; one of just the limit passes."""
    head = b'data: {"response":"'
    text = b"x" * (1000 - len(head) - 2)
    fake.says(head + text + b'"}\n\n' + DONE)
    ai = fake.client(max_event_bytes=1000)
    assert (await ai.stream(MODEL, HI).collect()).text == text.decode()
    end = b'"}\n\n' if complete else asyncio.Event()
    fake.says(NATIVE.stream[: -len(DONE)] + head, *[text] * 2, end)
    tokens = ai.stream(MODEL, HI)
    with pytest.raises(AnswerTooLarge) as caught:
        await tokens.collect()
    assert caught.value.limit == 1000
    assert tokens.answer == NATIVE.says
    await idle(fake)
