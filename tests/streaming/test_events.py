"""Event streams: which tokens their bytes are, and which errors bad bytes raise."""

import asyncio
import json
from typing import Any

import pytest

from cfai import TokenStream
from cfai._types.json import dumps
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
)
from cfai.settings import Retries, Retry
from cfai.tasks import Prompt, Text, Token
from cfai.testing import FakeWorkersAI
from cfai.testing._script import Reply
from tests.wire.dialects import CALL_IN_PIECES, DIALECTS, DONE, FINISH, NATIVE, Dialect

MODEL = "@cf/meta/llama-3.1-8b-instruct-fast"
HI = Prompt("Hi")
AT_ONCE = Retries(base=0)
HEL = b'data: {"response":"Hel"}\n\n'
LO = b'data: {"response":"lo"}\n\n'


def stream(fake: FakeWorkersAI, **options: Any) -> TokenStream:
    return fake.client(**options).stream(MODEL, HI)


async def all_closed(fake: FakeWorkersAI) -> None:
    """Wait until no connection is open."""
    await fake.until(lambda: fake.connections == 0)


# Tokens


def split_in_pieces(data: bytes) -> dict[str, list[bytes]]:
    third = len(data) // 3
    return {
        "whole": [data],
        "by lines": data.splitlines(keepends=True),
        "in thirds": [data[:third], data[third : 2 * third], data[2 * third :]],
        "before the last byte": [data[:-1], data[-1:]],
    }


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
@pytest.mark.parametrize("cut", ["whole", "by lines", "in thirds", "before the last byte"])
async def test_every_dialect_is_read_as_tokens(
    fake: FakeWorkersAI, dialect: Dialect, cut: str
) -> None:
    """Recorded bytes, in several chunks, become the tokens and the answer that they contain."""
    fake.says(*split_in_pieces(dialect.stream)[cut], content_type="text/event-stream")
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
async def test_a_stream_may_arrive_byte_by_byte(fake: FakeWorkersAI, data: bytes) -> None:
    """Each byte is a chunk of its own."""
    fake.says(data).says(
        *(data[at : at + 1] for at in range(len(data))), content_type="text/event-stream"
    )
    whole = await stream(fake).collect()
    assert await stream(fake).collect() == whole
    assert whole != Text()


async def test_a_byte_order_mark_and_invalid_utf_8_are_accepted(fake: FakeWorkersAI) -> None:
    """The mark is skipped even in pieces; invalid UTF-8 becomes U+FFFD."""
    fake.says(
        b"\xef", b"\xbb", b'\xbfdata: {"response":"a\xff"}\r', b"\n\r\n",
        b'id: 7\ndata: {"response":"\xf0\x9f\x98"}\n\n', DONE,
        content_type="text/event-stream; charset=utf-8",
    )  # fmt: skip
    assert (await stream(fake).collect()).text == "a\ufffd\ufffd"


# Truncated and invalid streams


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
    ("parts", "text", "count"),
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
async def test_a_truncated_stream_raises_stream_interrupted_with_the_partial_answer(
    fake: FakeWorkersAI, parts: list[bytes], text: str, count: int, end: Any
) -> None:
    """It never looks like a short answer, and is not retried."""
    fake.says(*parts, content_type="text/event-stream", **end)
    tokens = stream(fake, retries=AT_ONCE)
    with pytest.raises(StreamInterrupted) as caught:
        await tokens.collect()
    lost = "then_hangs_up" in end
    if not (lost and not parts[-1].endswith(b"\n")):
        assert caught.value.answer == Text(text)
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
        await all_closed(fake)


async def test_a_finish_reason_before_the_end_of_the_body_is_an_end(fake: FakeWorkersAI) -> None:
    """A finish reason before a lost connection is not: the usage may be missing."""
    fake.says(FINISH.stream[: -len(DONE)])
    assert await stream(fake).collect() == FINISH.says
    fake.says(FINISH.stream[: -len(DONE)], then_hangs_up=True)
    with pytest.raises(StreamInterrupted) as caught:
        await stream(fake).collect()
    assert caught.value.answer == FINISH.says


async def test_everything_after_the_end_mark_is_ignored(fake: FakeWorkersAI) -> None:
    """Text, an error, and a lost connection."""
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
        (b'{"errors":[{"message":"AiError: no","code":4006}]}', QuotaExceeded, 4006),
        (b'{"errors":[{"code":12345,"message":"x"}],"success":false}', BadRequest, 12345),
        (b'data: {"response":"","finish_reason":"error"}', ServerError, None),
        (b'data: {"choices":[{"delta":{},"finish_reason":"error"}]}', ServerError, None),
    ],
)
async def test_an_error_event_raises_the_error_of_its_code(
    fake: FakeWorkersAI, event: bytes, kind: type[StatusError], code: int | None
) -> None:
    """After the first token it is raised at once; the stream's answer keeps the partial text."""
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
    await all_closed(fake)


@pytest.mark.parametrize(
    ("event", "kind", "requests"),
    [
        (b'data: {"errors":[{"code":3040,"message":"busy"}]}', CapacityExceeded, 7),
        (b'data: {"errors":[{"code":3007,"message":"slow"}]}', ServiceTimeout, 3),
        (b'data: {"error":"broken"}', ServerError, 3),
        (b"event: error\ndata: broken", ServerError, 3),
        (b'data: {"errors":[{"code":4006,"message":"used"}]}', QuotaExceeded, 1),
        (b'data: {"errors":[{"code":5006,"message":"bad"}]}', BadRequest, 1),
        (b'data: {"errors":[{"code":12345,"message":"bad"}]}', BadRequest, 1),
        (b'{"errors":["daily free allocation"]}', QuotaExceeded, 1),
        (b'{"errors":[{"code":3040,"message":"busy"}]}', CapacityExceeded, 7),
    ],
)
async def test_an_error_as_the_first_event_is_retried(
    fake: FakeWorkersAI, event: bytes, kind: type[StatusError], requests: int
) -> None:
    """No token was delivered yet."""
    fake.always.says(event + b"\n\n", content_type="text/event-stream")
    with pytest.raises(kind):
        await stream(fake, retries=AT_ONCE).collect()
    assert len(fake.requests) == requests
    await all_closed(fake)


async def test_a_bare_error_that_is_cut_off_interrupts_the_stream(fake: FakeWorkersAI) -> None:
    """However much of it arrived, the stream does not look finished."""
    line = b'{"errors":[{"code":3007,"message":"slow"}]}'
    for size in range(len(line) + 1):
        fake.says(HEL + line[:size], content_type="text/event-stream")
        kind = StreamInterrupted if size < len(line) else ServiceTimeout
        with pytest.raises(kind):
            await stream(fake).collect()


async def test_a_quota_under_an_error_status_may_be_an_event(fake: FakeWorkersAI) -> None:
    fake.says(
        b'data: {"errors":[{"message":"AiError: you have used up","code":4006}]}\n\n',
        status=429,
        content_type="text/event-stream",
    )
    with pytest.raises(QuotaExceeded, match="you have used up") as caught:
        await stream(fake, retries=AT_ONCE).collect()
    assert caught.value.code == 4006
    assert len(fake.requests) == 1


async def test_a_stream_is_retried_only_before_its_first_event(fake: FakeWorkersAI) -> None:
    """Busy, cut, empty, refused: then it begins, and `attempts` counts them."""
    retries: list[Retry] = []
    fake.says(b'data: {"errors":[{"code":3040,"message":"busy"}]}\n\n')
    fake.says(b": hello\n\n", then_hangs_up=True)
    fake.says(b": hello\n\n")
    fake.hangs_up()  # A reused connection: this costs no attempt.
    fake.hangs_up()
    fake.fails(429, 3040, "busy")
    fake.streams("Hello")
    tokens = stream(fake, retries=Retries(max=5, base=0, on_retry=retries.append))
    assert (await tokens.collect()).text == "Hello"
    assert tokens.meta.attempts == 6
    assert [type(retry.failure) for retry in retries] == [
        CapacityExceeded,
        StreamInterrupted,
        StreamInterrupted,
        ConnectionLost,
        CapacityExceeded,
    ]


async def test_a_stream_without_events_raises(fake: FakeWorkersAI) -> None:
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
        b'"a"',
        b'{"tool_calls":{"a":1}}',
        b'{"choices":5}',
    ],
)
@pytest.mark.parametrize("first", [b"", b'data: {"response":"a"}\n\n'])
async def test_an_undocumented_event_raises_decode_error_with_its_data(
    fake: FakeWorkersAI, data: bytes, first: bytes
) -> None:
    """It is neither skipped nor shown as text, and not retried."""
    fake.says(first + b"data: " + data + b"\n\n" + DONE)
    tokens = stream(fake, retries=AT_ONCE)
    with pytest.raises(DecodeError) as caught:
        await tokens.collect()
    assert caught.value.body == data
    assert caught.value.meta is not None
    assert caught.value.meta.status == 200
    assert tokens.answer.text == ("a" if first else "")
    assert len(fake.requests) == 1
    await all_closed(fake)


async def test_errors_inside_a_stream_contain_no_secret(fake: FakeWorkersAI) -> None:
    for data in (
        b'{"error":{"message":"bad s3cret-t0ken","seen":["s3cret-t0ken"]}}',
        b'{"tool_calls":{"a":"s3cret-t0ken"}}',
        b"s3cret-t0ken",
    ):
        fake.says(b'data: {"response":"a"}\n\ndata: ' + data + b"\n\n" + DONE)
        with pytest.raises(CfaiError) as caught:
            await stream(fake, api_token="s3cret-t0ken").collect()
        shown = f"{caught.value} {caught.value!r} {vars(caught.value)}"
        assert "s3cret" not in shown


@pytest.mark.parametrize("complete", [True, False])
async def test_an_event_larger_than_the_limit_raises(fake: FakeWorkersAI, complete: bool) -> None:
    """Whether it is complete or not. An event of exactly the limit is accepted."""
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
    assert caught.value.meta == tokens.meta
    assert tokens.answer == NATIVE.says
    await all_closed(fake)


# Half of a character


@pytest.mark.parametrize(
    ("parts", "texts"),
    [
        ([rb"I am \ud83d", rb"\ude00!"], ["I am ", "😀!"]),
        ([rb"\ud83d", rb"\ude00", "ä".encode()], ["😀", "ä"]),
        ([rb"a\uD83D", b"b"], ["a", "\ufffdb"]),
        ([rb"a\ud83d"], ["a", "\ufffd"]),
    ],
)
@pytest.mark.parametrize("together", [True, False])
async def test_a_character_cut_by_an_event_is_joined(
    fake: FakeWorkersAI, parts: list[bytes], texts: list[str], together: bool
) -> None:
    """`raw` has U+FFFD for each half, because nothing can write a half."""
    events = [b'data: {"response":"' + part + b'"}\n\n' for part in parts] + [DONE]
    fake.says(*([b"".join(events)] if together else events), content_type="text/event-stream")
    tokens = stream(fake)
    seen = [token async for token in tokens]
    assert [token.text for token in seen] == texts
    assert tokens.answer.text == "".join(texts)
    dumps([token.raw for token in seen])


async def test_a_stream_that_is_cut_after_half_a_character_has_the_text_before_it(
    fake: FakeWorkersAI,
) -> None:
    fake.says(rb'data: {"response":"a\ud83d"}' + b"\n\n", then_hangs_up=True)
    with pytest.raises(StreamInterrupted) as caught:
        await stream(fake).collect()
    assert caught.value.answer is not None
    assert caught.value.answer.text == "a"


# Another Content-Type


@pytest.mark.parametrize(
    "content_type",
    ["text/plain; charset=utf-8", "", "application/json", "application/octet-stream", "text/html"],
)
@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"\r\n", b": hi\n\n", b"id: 1\n"])
async def test_events_under_another_content_type_are_read_as_they_arrive(
    fake: FakeWorkersAI, content_type: str, before: bytes
) -> None:
    """A proxy may change or drop it. The first token does not wait for the end of the stream."""
    rest = asyncio.Event()
    headers = {"Content-Type": content_type} if content_type else {}
    data = before + HEL
    first = [data[at : at + 1] for at in range(len(data))]
    fake.replies(Reply((*first, rest, LO + DONE), headers=headers, framing="chunked"))
    tokens = stream(fake)
    assert (await anext(tokens)).text == "Hel"
    rest.set()
    assert (await tokens.collect()).text == "Hello"


@pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream", "image/png"])
async def test_a_body_that_is_no_stream_is_refused_at_its_first_bytes(
    fake: FakeWorkersAI, content_type: str
) -> None:
    """Not after its end, which may be far."""
    fake.says(b"Hello", asyncio.Event(), content_type=content_type, framing="chunked")
    with pytest.raises(DecodeError, match=f"expected a stream of events, got {content_type}") as e:
        await stream(fake, retries=AT_ONCE).collect()
    assert e.value.body == b"Hello"
    assert len(fake.requests) == 1
    await all_closed(fake)


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "text/html", "audio/mpeg"])
@pytest.mark.parametrize("size", [1, 100])
async def test_lines_of_json_are_refused_at_the_second_one(
    fake: FakeWorkersAI, content_type: str, size: int
) -> None:
    """The first one could be a whole answer."""
    lines = b'{"response":"a"}\n' * 2
    pieces = [lines[at : at + size] for at in range(0, len(lines), size)]
    fake.says(*pieces, asyncio.Event(), content_type=content_type, framing="chunked")
    with pytest.raises(DecodeError, match="expected a stream of events"):
        await stream(fake, retries=AT_ONCE).collect()
    await all_closed(fake)


@pytest.mark.parametrize("cut", [1, 40, 1000])
@pytest.mark.parametrize("indent", [None, 2])
async def test_an_error_under_another_content_type_is_read(
    fake: FakeWorkersAI, cut: int, indent: int | None
) -> None:
    """Also if it comes in pieces, or on several lines."""
    error = {"success": False, "errors": [{"code": 4006, "message": "used up"}]}
    body = json.dumps(error, indent=indent).encode()
    fake.says(body[:cut], body[cut:], content_type="text/plain", framing="chunked")
    with pytest.raises(QuotaExceeded) as caught:
        await stream(fake).collect()
    assert (caught.value.code, len(fake.requests)) == (4006, 1)


async def test_an_unrequested_stream_under_another_content_type_is_read(
    fake: FakeWorkersAI,
) -> None:
    fake.says(HEL + LO + DONE, content_type="application/json")
    assert (await fake.client().run(MODEL, HI)).text == "Hello"


# Raw events


async def test_raw_events_are_decoded_as_whatwg_specifies(fake: FakeWorkersAI) -> None:
    """The end mark is included, in httpx-sse's class, and no data is interpreted."""
    fake.says(
        b'\xef\xbb\xbf: hi\nretry: 10\nid: 1\nevent: token\ndata: {"a":\ndata: 1}\n\n',
        b"id: 2\n\nevent: lost\n\ndata: plain \xff\r\n\r\ndata\n\nid\ndata: [DONE]\n\ndata: cut",
        content_type="text/event-stream",
    )
    tokens = stream(fake)
    seen = [event async for event in tokens.events()]
    assert [(e.event, e.data, e.id, e.retry) for e in seen] == [
        ("token", '{"a":\n1}', "1", 10),
        ("message", "plain \ufffd", "2", None),
        ("message", "", "2", None),
        ("message", "[DONE]", "", None),
        ("message", "cut", "", None),
    ]
    assert type(seen[0]).__module__.startswith("httpx_sse")
    assert [event async for event in tokens.events()] == []
    assert tokens.answer == Text()


@pytest.mark.parametrize("first", [b"", HEL])
async def test_errors_are_raw_events_like_any_other(fake: FakeWorkersAI, first: bytes) -> None:
    """Nothing is read into them, so nothing is retried."""
    error = b'{"errors":[{"code":3040,"message":"busy"}],"success":false}'
    fake.says(
        first + b"data: " + error + b"\n\nevent: error\ndata: no\n\n",
        content_type="text/event-stream",
    )
    seen = [event.data async for event in stream(fake, retries=AT_ONCE).events()]
    assert seen == ['{"response":"Hel"}'] * bool(first) + [error.decode(), "no"]
    assert len(fake.requests) == 1


@pytest.mark.parametrize("body", [b"", b": keep-alive\n\n", b"\n\n", b"id: 1\n\n"])
async def test_a_body_without_events_has_no_raw_events(fake: FakeWorkersAI, body: bytes) -> None:
    fake.says(body, content_type="text/event-stream")
    assert [event async for event in stream(fake, retries=AT_ONCE).events()] == []
    assert len(fake.requests) == 1


async def test_an_entered_stream_raised_the_error_of_its_first_event(fake: FakeWorkersAI) -> None:
    fake.says(b'data: {"error":"no"}\n\n', content_type="text/event-stream")
    with pytest.raises(ServerError):
        async with stream(fake, retries=AT_ONCE) as tokens:
            tokens.events()


async def test_truncated_raw_events_raise_stream_interrupted(fake: FakeWorkersAI) -> None:
    fake.says(HEL, b"data: x", then_hangs_up=True)
    seen = []
    with pytest.raises(StreamInterrupted) as caught:
        async for event in stream(fake).events():
            seen.append(event.data)  # noqa: PERF401  # those before the cut count, too
    assert seen == ['{"response":"Hel"}']
    assert caught.value.events == 1
    assert isinstance(caught.value, ConnectionLost)


async def test_each_event_is_read_once(fake: FakeWorkersAI) -> None:
    """Either as an event or as a token, in order."""
    fake.says(HEL + LO + HEL + DONE)
    tokens = stream(fake)
    assert (await anext(tokens.events())).data == '{"response":"Hel"}'
    assert str(await anext(tokens)) == "lo"
    assert (await anext(tokens.events())).data == '{"response":"Hel"}'
    assert (await tokens.collect()).text == "lo"


async def test_errors_of_aiohttp_are_translated(fake: FakeWorkersAI) -> None:
    """Whatever bytes come instead of HTTP, at whatever point."""
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    answers: list[bytes] = [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        head,
        head + b"18\r\n" + HEL[:10],
        head + b"%x\r\n" % len(HEL) + HEL + b"\r\nnonsense\r\n",
        head + b"%x\r\n" % len(HEL) + HEL + b"XX",
        head[:-2] + b"Content-Encoding: gzip\r\n\r\n%x\r\n" % len(HEL) + HEL + b"\r\n0\r\n\r\n",
    ]
    for answer in answers:
        fake.says_raw(answer, then_hangs_up=True)
        with pytest.raises(CfaiError):
            await stream(fake, retries=Retries(max=0)).collect()
    await all_closed(fake)
