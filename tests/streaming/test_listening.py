"""`Listener` over real sockets: events, audio both ways, and every end."""

import asyncio
import gc
import io
import json
import re
import socket
import ssl
import struct
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cfai import (
    EagerEndOfTurn,
    Final,
    Listener,
    Partial,
    SessionInfo,
    SpeechEvent,
    SpeechStarted,
    TurnEnded,
    TurnResumed,
    TurnStarted,
    UtteranceEnd,
    WorkersAI,
)
from cfai.errors import (
    AnswerTooLarge,
    AuthenticationError,
    BadRequest,
    BudgetExceeded,
    CapacityExceeded,
    CfaiError,
    ConfigError,
    DecodeError,
    InputError,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    RateLimited,
    RequestTimeout,
    StatusError,
    StreamInterrupted,
)
from cfai.settings import Gateway, Options, Retries, Retry, Timeouts
from cfai.testing import FakeSocket, FakeWorkersAI
from cfai.testing._connection import Connection
from cfai.testing._sockets import BINARY, CLOSE, PING, TEXT, accept_key, encode_frame

NOVA = "@cf/deepgram/nova-3"
FLUX = "@cf/deepgram/flux"
PCM = bytes(range(256)) * 4
NEVER = Retries(max=0)
AT_ONCE = Retries(base=0)

CONNECTED = {"type": "Connected", "request_id": "r", "sequence_id": 0}
STARTED = {"type": "SpeechStarted", "channel": [0, 1], "timestamp": 0.1}
UTTERANCE_END = {"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": 1.5}
METADATA = {"type": "Metadata", "request_id": "r"}


def results(text: str, *, is_final: bool = True, **fields: Any) -> dict[str, Any]:
    words = [{"word": word, "start": 0.1, "end": 0.5, "confidence": 0.9} for word in text.split()]
    channel = {"alternatives": [{"transcript": text, "confidence": 0.9, "words": words}]}
    return {"type": "Results", "channel": channel, "is_final": is_final, **fields}


def turn(event: str, text: str) -> dict[str, Any]:
    return {"type": "TurnInfo", "event": event, "turn_index": 0, "transcript": text, "words": []}


def nova(ai: WorkersAI, **options: Any) -> Listener:
    return ai.listen(NOVA, encoding="linear16", sample_rate=16000, **options)


def listen(fake: FakeWorkersAI, **options: Any) -> Listener:
    return nova(fake.client(**options))


async def all_closed(fake: FakeWorkersAI) -> None:
    await fake.until(lambda: fake.connections == 0)


@pytest.fixture(autouse=True)
def without_garbage_collector() -> Iterator[None]:
    """Dropped sessions have to be closed without the garbage collector."""
    gc.disable()
    yield
    gc.enable()


# Events


async def test_the_handshake_is_the_documented_one(fake: FakeWorkersAI) -> None:
    """RFC 6455, section 4.1; the address and the parameters: tests/wire/test_realtime.py."""
    ears = listen(fake)
    assert repr(ears) == "<Listener new, 0 messages>"
    assert fake.requests == []
    fake.connects()
    async with ears:
        assert repr(ears) == "<Listener open, 0 messages>"
        await ears.finish()
    (request,) = fake.requests
    assert request.method == "GET"
    assert request.target == (
        f"/client/v4/accounts/account/ai/run/{NOVA}?encoding=linear16&sample_rate=16000"
    )
    assert request.headers["Authorization"] == "Bearer fake-api-token"
    assert request.headers["Upgrade"] == "websocket"
    assert request.headers["Connection"] == "Upgrade"
    assert request.headers["Sec-WebSocket-Version"] == "13"
    assert "Sec-WebSocket-Extensions" not in request.headers
    assert repr(ears) == "<Listener over, 0 messages>"


async def test_audio_goes_out_and_events_come_in(fake: FakeWorkersAI) -> None:
    async def talk(socket: FakeSocket) -> None:
        await socket.send(CONNECTED)
        assert await socket.receive() == PCM
        await socket.send(STARTED, results("hello", is_final=False))
        assert await socket.receive() == PCM[:3]
        await socket.send(results("hello there", speech_final=True, start=0.0, duration=2.0))
        await socket.send(UTTERANCE_END)
        assert await socket.receive() == '{"type":"CloseStream"}'
        await socket.send(results("good bye"), METADATA)
        await socket.close(1000)
        assert await socket.receive() is None

    fake.connects_by(talk)
    async with listen(fake) as ears:
        assert isinstance(await anext(ears), SessionInfo)
        await ears.send(PCM)
        assert isinstance(await anext(ears), SpeechStarted)
        partial = await anext(ears)
        assert isinstance(partial, Partial)
        assert (str(partial), ears.transcript.text) == ("hello", "")
        await ears.send(bytearray(PCM[:3]))
        final = await anext(ears)
        assert isinstance(final, Final)
        assert (final.text, final.speech_final, final.start, final.end) == (
            "hello there", True, 0.0, 2.0,
        )  # fmt: skip
        assert [(w.word, w.start, w.end, w.confidence) for w in final.words] == [
            ("hello", 0.1, 0.5, 0.9), ("there", 0.1, 0.5, 0.9),
        ]  # fmt: skip
        assert ears.transcript.text == "hello there"
        assert isinstance(await anext(ears), UtteranceEnd)
        answer = await ears.finish()
        assert answer.text == "hello there good bye"
        assert [word.word for word in answer.words] == ["hello", "there", "good", "bye"]
        assert [type(event) for event in [event async for event in ears]] == [Final, SessionInfo]
    await fake.until(lambda: fake.sockets[0].close_code == 1000)
    await all_closed(fake)


async def test_the_turns_of_flux(fake: FakeWorkersAI) -> None:
    fake.connects(
        CONNECTED,
        turn("StartOfTurn", "Hel"),
        turn("Update", "Hello"),
        turn("EagerEndOfTurn", "Hello"),
        turn("TurnResumed", "Hello"),
        turn("EndOfTurn", "Hello there."),
        turn("StartOfTurn", "And"),
    )
    async with fake.client().listen(
        FLUX, encoding="linear16", sample_rate=16000, eot_threshold=0.7, keyterm=["one", "two"],
        audio=[PCM],
    ) as ears:  # fmt: skip
        events = [type(event) async for event in ears]
    assert events == [
        SessionInfo, TurnStarted, Partial, EagerEndOfTurn, TurnResumed, TurnEnded, TurnStarted,
    ]  # fmt: skip
    # The turn that was open at the end is not lost.
    assert ears.transcript.text == "Hello there. And"
    assert fake.requests[0].target.partition("?")[2] == (
        "encoding=linear16&sample_rate=16000&eot_threshold=0.7&keyterm=one&keyterm=two"
    )


async def test_unknown_messages_are_events(fake: FakeWorkersAI) -> None:
    fake.connects({"type": "New"}, "no JSON", b"\x00", results("hi"))
    async with nova(fake.client(), audio=PCM) as ears:
        events = [event async for event in ears]
    assert [event.raw for event in events[:3]] == [{"type": "New"}, "no JSON", b"\x00"]
    assert {type(event) for event in events[:3]} == {SpeechEvent}
    assert ears.transcript.text == "hi"


DOCUMENTED = [
    CONNECTED, STARTED, results("a b", is_final=False), results("a b"), UTTERANCE_END, METADATA,
    turn("StartOfTurn", ""), turn("Update", "x"), turn("EndOfTurn", "x y"),
]  # fmt: skip


@pytest.mark.parametrize("shift", range(len(DOCUMENTED)))
async def test_messages_come_in_any_order(fake: FakeWorkersAI, shift: int) -> None:
    order = DOCUMENTED[shift:] + DOCUMENTED[:shift]
    fake.connects(*order, *reversed(order))
    async with nova(fake.client(), audio=PCM) as ears:
        events = [event async for event in ears]
    assert [event.raw for event in events] == [*order, *reversed(order)]
    finals = [str(event) for event in events if isinstance(event, Final | TurnEnded)]
    assert ears.transcript.text.startswith(" ".join(finals))


async def test_frames_may_be_cut_and_fragmented_anywhere(fake: FakeWorkersAI) -> None:
    """With pings between the fragments: RFC 6455, section 5.4."""
    text = json.dumps(results("größe")).encode()
    ai = fake.client()
    for cut in range(0, len(text), 7):
        frames = (
            encode_frame(TEXT, text[:cut], final=False)
            + encode_frame(PING, b"between")
            + encode_frame(0, text[cut:])
        )

        async def talk(socket: FakeSocket, frames: bytes = frames, cut: int = cut) -> None:
            await socket.send_raw(frames[:cut], frames[cut:])
            await socket.receive_end()
            await socket.close()
            await socket.receive()

        fake.connects_by(talk)
        async with nova(ai, audio=[PCM]) as ears:
            assert [str(event) async for event in ears] == ["größe"]
        assert fake.sockets[-1].pongs == [b"between"]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 65537, 200_000])
async def test_frames_of_all_sizes_go_out(fake: FakeWorkersAI, size: int) -> None:
    """A large sound is sent in frames of 64 KiB, so that it fills no buffer."""
    audio = bytes(size)
    fake.connects()
    async with listen(fake) as ears:
        await ears.send(audio)
        await ears.finish()
    (socket,) = fake.sockets
    assert socket.audio == audio
    frames = [len(message) for message in socket.messages if isinstance(message, bytes)]
    assert max(frames, default=0) <= 65536


# Sources of audio


class ReadsAsync:
    """Something with an async `read`, such as a file of aiofiles."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    async def read(self, size: int) -> bytes:
        return self._file.read(size)


async def pieces() -> AsyncIterator[bytes]:
    for start in range(0, len(PCM), 100):
        yield PCM[start : start + 100]


def stream_reader() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(PCM)
    reader.feed_eof()
    return reader


@pytest.mark.parametrize(
    "source",
    [
        lambda: PCM,
        lambda: memoryview(PCM),
        lambda: [PCM[:5], bytearray(PCM[5:])],
        lambda: iter([PCM]),
        pieces,
        lambda: io.BytesIO(PCM),
        lambda: ReadsAsync(PCM),
        stream_reader,
    ],
)
async def test_a_session_sends_its_source(fake: FakeWorkersAI, source: Callable[[], Any]) -> None:
    fake.connects(results("hi"))
    async with nova(fake.client(), audio=source()) as ears:
        assert [str(event) async for event in ears] == ["hi"]
    assert fake.sockets[0].audio == PCM
    assert fake.sockets[0].texts == [{"type": "CloseStream"}]


@pytest.mark.parametrize("source", ["text", 5, object()])
async def test_other_sources_are_refused(fake: FakeWorkersAI, source: Any) -> None:
    with pytest.raises(InputError, match="audio must be bytes, an iterable"):
        nova(fake.client(), audio=source)
    assert fake.requests == []


async def test_a_source_that_fails_ends_the_session(fake: FakeWorkersAI) -> None:
    """With its own error, after what had arrived."""

    async def microphone() -> AsyncIterator[bytes]:
        yield PCM
        await arrived.wait()
        raise OSError("unplugged")

    arrived = asyncio.Event()
    fake.connects(results("hi"))
    async with nova(fake.client(), audio=microphone()) as ears:
        assert str(await anext(ears)) == "hi"
        arrived.set()
        with pytest.raises(OSError, match="unplugged"):
            await anext(ears)
    await all_closed(fake)


async def test_a_source_of_something_else_ends_the_session(fake: FakeWorkersAI) -> None:
    fake.connects()
    async with nova(fake.client(), audio=["text"]) as ears:
        with pytest.raises(InputError, match="audio must be bytes, got 'text'"):
            await anext(ears)


async def test_a_source_is_closed_with_the_session(fake: FakeWorkersAI) -> None:
    closed = []

    async def microphone() -> AsyncIterator[bytes]:
        try:
            while True:
                yield PCM
                await asyncio.sleep(0)
        finally:
            closed.append(True)

    fake.connects(results("hi"))
    async with nova(fake.client(), audio=microphone()) as ears:
        await anext(ears)
    assert closed == [True]


# Wrong use


async def test_audio_is_bytes(fake: FakeWorkersAI) -> None:
    fake.connects()
    async with listen(fake) as ears:
        for audio in ("text", 5, None, [1, 2]):
            with pytest.raises(InputError, match="audio must be bytes"):
                await ears.send(audio)  # type: ignore[arg-type]
    assert fake.sockets[0].messages == []


async def test_nothing_is_sent_after_the_end(fake: FakeWorkersAI) -> None:
    fake.connects()
    ears = listen(fake)
    await ears.send(PCM)
    await ears.finish()
    with pytest.raises(InputError, match="the session is over"):
        await ears.send(PCM)
    assert (await ears.finish()).text == ""
    fake.connects()
    async with nova(fake.client(), audio=[PCM]) as ears:
        with pytest.raises(InputError, match="has an audio source"):
            await ears.send(PCM)
    with pytest.raises(StreamInterrupted, match="was closed before its end"):
        await ears.finish()


@pytest.mark.parametrize(
    ("model", "parameters", "error", "message"),
    [
        (
            NOVA,
            {"eot_threshold": 0.5},
            InputError,
            "eot_threshold must not be set for @cf/deepgram/n",
        ),
        (
            FLUX,
            {"vad_events": True},
            InputError,
            "vad_events must not be set for @cf/deepgram/flux",
        ),
        (NOVA, {"timeout": 5}, TypeError, r"pass options=Options\(timeouts=Timeouts"),
        (NOVA, {"nonsense": 5}, TypeError, "unexpected keyword argument 'nonsense'"),
        ("@cf/deepgram/aura-1", {}, InputError, "does not transcribe"),
        ("@cf/meta/llama-3.1-8b-instruct-fast", {}, InputError, "does not transcribe"),
        (5, {}, InputError, "model must be a string"),
        (NOVA, {"extra": {"encoding": "x"}}, InputError, "extra must not repeat encoding"),
        (NOVA, {"extra": 5}, InputError, "extra must be a mapping"),
    ],
)
async def test_wrong_arguments_are_refused_at_once(
    fake: FakeWorkersAI, model: Any, parameters: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fake.client().listen(model, **({"encoding": "linear16", "sample_rate": 8000} | parameters))
    assert fake.requests == []


async def test_extra_parameters_are_sent(fake: FakeWorkersAI) -> None:
    fake.connects()
    ears = fake.client().listen(NOVA, extra={"replace": ["a:b", "c:d"], "utterances": True})
    await ears.finish()
    assert fake.requests[0].target.partition("?")[2] == (
        "replace=a%3Ab&replace=c%3Ad&utterances=true"
    )


# Refusals of the handshake


REFUSALS: list[tuple[int, int, type[StatusError]]] = [
    (400, 2001, BadRequest),
    (401, 10000, AuthenticationError),
    (403, 5018, PermissionDenied),
    (403, 5035, PermissionDenied),
    (404, 7003, NotFound),
    (429, 3040, CapacityExceeded),
    (500, 5030, BadRequest),
]


@pytest.mark.parametrize(("status", "code", "kind"), REFUSALS)
async def test_a_refused_handshake_has_the_class_of_any_response(
    fake: FakeWorkersAI, status: int, code: int, kind: type[StatusError]
) -> None:
    fake.fails(status, code, "no fake-api-token", headers={"cf-ray": "8f1-AMS"})
    ears = listen(fake, retries=NEVER)
    with pytest.raises(kind, match=r"no \*\*\*") as caught:
        async with ears:
            pass
    assert (caught.value.status, caught.value.code) == (status, code)
    assert caught.value.ray_id == "8f1-AMS"
    with pytest.raises(kind):
        await anext(ears)


BODIES: dict[str, tuple[bytes, str]] = {
    "envelope": (b'{"success":false,"errors":[{"code":%d,"message":"no"}]}', "application/json"),
    "error": (b'{"error":{"code":%d,"message":"no"}}', "text/plain"),
    "event": (b'data: {"errors":[{"code":%d,"message":"no"}]}\n\n', "text/event-stream"),
    "later event": (
        b': wait\n\nid: 1\n\ndata: {"error":{"code":%d,"message":"no"}}\n\n', "text/event-stream",
    ),
    "other event": (b'data: {"error":{"code":%d,"message":"no"}}\n\n', ""),
}  # fmt: skip


@asynccontextmanager
async def serve_raw(*parts: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that answers with literal bytes, and closes: its address, what it received."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        for part in parts:
            writer.write(part)
            await writer.drain()
            for _ in range(5):  # The client reads it before the next part comes.
                await asyncio.sleep(0)
        writer.close()

    tasks = set[Any]()
    server = await asyncio.start_server(serve, "127.0.0.1")
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/client/v4", heads
        await asyncio.wait(tasks)


@pytest.mark.parametrize("cut", [1, 10_000])
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (200, 4006, QuotaExceeded),
        (429, 4006, QuotaExceeded),
        (400, 2001, BadRequest),
        (401, 10000, AuthenticationError),
        (403, 5018, PermissionDenied),
        (503, 3040, CapacityExceeded),
    ],
)
async def test_a_refusal_that_ends_with_its_connection_keeps_its_code(
    version: bytes, status: int, code: int, kind: type[StatusError], body: str, cut: int
) -> None:
    """As an HTTP/1.0 proxy forwards it: without a Content-Length. Whatever form the error has."""
    template, media_type = BODIES[body]
    data = template % code
    head = b"HTTP/%b %d X\r\nConnection: close\r\n" % (version, status)
    if media_type:
        head += b"Content-Type: %b\r\n" % media_type.encode()
    parts = [data[start : start + cut] for start in range(0, len(data), cut)]
    retries = AT_ONCE if code == 4006 else NEVER
    async with (
        serve_raw(head + b"\r\n", *parts) as (url, heads),
        client_at(url, retries=retries) as ai,
    ):
        with pytest.raises(kind) as caught:
            await nova(ai).open()
    error = caught.value
    assert (error.code, error.message) == (code, "no")
    assert error.status == (429 if status == 200 else status)  # The documented one of 4006.
    assert len(heads) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_are_refused(fake: FakeWorkersAI, status: int) -> None:
    """The credentials would go to another origin."""
    async with FakeWorkersAI() as other:
        other.connects()
        fake.says(b"", status=status, headers={"Location": f"{other.origin}/x"})
        with pytest.raises(StatusError, match="a redirect, which is not followed"):
            await listen(fake, retries=NEVER).open()
        assert other.requests == []


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (lambda f: f.answers({"text": "hi"}), DecodeError, r"expected a WebSocket, got 200 \(appl"),
        (
            lambda f: f.says(b'{"error":{"code":4006,"message":"used up"}}'),
            QuotaExceeded,
            r"\(code 4006\): used up",
        ),
        (lambda f: f.fails(200, 3040, "busy"), RateLimited, r"\(code 3040\): busy"),
        (lambda f: f.streams("a"), DecodeError, "expected a WebSocket, got a stream of events"),
        (lambda f: f.says(b"data: x\n\n"), DecodeError, "expected a WebSocket"),
        (
            lambda f: f.says_raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                 b"Connection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"),
            DecodeError,
            "opened no valid WebSocket",
        ),
        (
            lambda f: f.says_raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n"
                                 b"Connection: Upgrade\r\n\r\n"),
            DecodeError,
            "opened no valid WebSocket",
        ),
        (lambda f: f.says_raw(b"nonsense\r\n\r\n"), DecodeError, "not valid HTTP"),
        (lambda f: f.hangs_up(), CfaiError, "the connection was lost"),
    ],
)  # fmt: skip
async def test_what_is_no_handshake_is_refused(
    fake: FakeWorkersAI, reply: Any, kind: type[CfaiError], message: str
) -> None:
    reply(fake)
    with pytest.raises(kind, match=message):
        await listen(fake, retries=NEVER).open()


async def test_only_the_handshake_is_repeated_and_never_silently(fake: FakeWorkersAI) -> None:
    retries: list[Retry] = []
    fake.hangs_up().fails(429, 3040, "busy").connects(results("hi"))
    ai = fake.client(retries=Retries(base=0, on_retry=retries.append))
    async with nova(ai, audio=[PCM]) as ears:
        assert [str(event) async for event in ears] == ["hi"]
    assert [type(retry.failure).__name__ for retry in retries] == [
        "ConnectionLost",
        "CapacityExceeded",
    ]  # fmt: skip
    assert ears.meta.attempts == 3
    fake.connects_by(lambda socket: socket.send(results("cut")))
    async with nova(ai) as ears:
        await anext(ears)
        with pytest.raises(StreamInterrupted):
            await anext(ears)
    assert (len(fake.requests), len(retries)) == (4, 2)


async def test_a_used_up_budget_opens_nothing(fake: FakeWorkersAI) -> None:
    with pytest.raises(BudgetExceeded):
        await listen(fake, budget=0).open()
    assert fake.requests == []


async def test_the_cost_and_the_facts_come_with_the_handshake(fake: FakeWorkersAI) -> None:
    fake.connects(headers={"cf-ray": "8f1-AMS", "cf-ai-neurons": "2.5", "cf-aig-log-id": "log"})
    ai = fake.client()
    ears = nova(ai)
    await ears.finish()
    assert (ears.meta.status, ears.meta.ray_id, ears.meta.gateway_log_id) == (101, "8f1-AMS", "log")
    assert ears.transcript.meta == ears.meta
    assert (ai.spent.neurons, ai.spent.calls) == (2.5, 1)


async def test_with_a_session_of_the_users(fake: FakeWorkersAI) -> None:
    """Its connector and its headers are used, and it stays open."""
    fake.connects(at_end=[results("hi")]).connects(at_end=[results("again")])
    headers = {"X-Mine": "1"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        fake.client(session=session) as ai,
    ):
        for text in ("hi", "again"):
            assert (await nova(ai, audio=PCM).finish()).text == text
        assert not session.closed
    assert fake.requests[0].headers["X-Mine"] == "1"
    assert fake.requests[0].headers["Authorization"] == "Bearer fake-api-token"


class MyRequest(aiohttp.ClientRequest):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.headers["X-Mine"] = "1"


class MyResponse(aiohttp.ClientResponse):
    started = 0

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        MyResponse.started += 1
        return await super().start(connection)


class MySocket(aiohttp.ClientWebSocketResponse):
    received = 0

    async def receive(self, *args: Any) -> Any:
        MySocket.received += 1
        return await super().receive(*args)


class MyResolver(aiohttp.abc.AbstractResolver):
    """Finds every host at one port of this machine."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> Any:
        address = {"hostname": host, "host": "127.0.0.1", "port": self.port}
        return [address | {"family": socket.AF_INET, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        pass


async def add_header(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    request.headers["X-Mine"] = "1"
    return await handler(request)


def trace() -> aiohttp.TraceConfig:
    async def start(session: object, context: object, params: Any) -> None:
        params.headers["X-Mine"] = "1"

    config = aiohttp.TraceConfig()
    config.on_request_start.append(start)
    return config


def jar() -> aiohttp.CookieJar:
    cookies = aiohttp.CookieJar(unsafe=True)
    cookies.update_cookies({"mine": "1"})
    return cookies


MINE = ("X-Mine", "1")
LOGIN = ("Proxy-Authorization", "Basic dXNlcjpwYXNzd29yZA==")  # user:password

OPTIONS: dict[str, tuple[Callable[[int], Any], tuple[str, str | None]]] = {
    "headers": (lambda port: {"X-Mine": "1"}, MINE),
    "trace_configs": (lambda port: [trace()], MINE),
    "middlewares": (lambda port: [add_header], MINE),
    "request_class": (lambda port: MyRequest, MINE),
    "cookies": (lambda port: {"mine": "1"}, ("Cookie", "mine=1")),
    "cookie_jar": (lambda port: jar(), ("Cookie", "mine=1")),
    "skip_auto_headers": (lambda port: ["Accept-Encoding"], ("Accept-Encoding", None)),
    "connector": (
        lambda port: aiohttp.TCPConnector(resolver=MyResolver(port)), ("Host", "ai.test"),
    ),
    "proxy": (lambda port: f"http://user:password@127.0.0.1:{port}", LOGIN),
    "proxy_auth": (lambda port: aiohttp.BasicAuth("user", "password"), LOGIN),
    "trust_env": (lambda port: True, LOGIN),
}  # fmt: skip
"""Options of aiohttp's session for the port of the fake, and the header that shows their use."""


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.filterwarnings("ignore:.*(proxy_auth|BasicAuth).*removed:DeprecationWarning")
async def test_the_options_of_the_users_session_are_used(
    fake: FakeWorkersAI, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    """As for a run. The host of the service is reached through the proxy or the connector only."""
    make, (name, value) = OPTIONS[option]
    options = {option: make(fake.port)}
    if option == "trust_env":
        monkeypatch.setenv("HTTP_PROXY", f"http://user:password@127.0.0.1:{fake.port}")
    elif option not in ("proxy", "connector"):
        options["proxy"] = fake.origin
    fake.connects(at_end=[results("hi")]).answers({"response": "hi"})
    async with (
        aiohttp.ClientSession(**options) as session,
        fake.client(
            session=session, base_url="http://ai.test/v4", allow_insecure=True, retries=NEVER
        ) as ai,
    ):
        assert (await nova(ai, audio=PCM).finish()).text == "hi"
        assert (await ai.run("@cf/meta/llama-3.1-8b-instruct-fast", "hi")).text == "hi"
        assert not session.closed
    for request in fake.requests:
        assert request.headers.get(name) == value
        assert request.target.startswith("/v4" if option == "connector" else "http://ai.test/v4/")


async def test_the_classes_of_the_users_session_are_used(fake: FakeWorkersAI) -> None:
    with pytest.warns(DeprecationWarning, match="Inherit"):

        class MySession(aiohttp.ClientSession):
            """As that of a library that signs requests."""

            async def _request(self, *args: Any, **options: Any) -> aiohttp.ClientResponse:
                options["headers"]["X-Mine"] = "1"
                return await super()._request(*args, **options)

    MyResponse.started = MySocket.received = 0
    fake.connects(at_end=[results("hi")])
    async with (
        MySession(response_class=MyResponse, ws_response_class=MySocket) as session,
        fake.client(session=session) as ai,
    ):
        assert (await nova(ai, audio=PCM).finish()).text == "hi"
    assert fake.requests[0].headers["X-Mine"] == "1"
    assert MyResponse.started == 1
    assert MySocket.received > 0


async def test_a_session_that_raises_for_errors_keeps_their_codes(fake: FakeWorkersAI) -> None:
    async def fail(response: object) -> None:
        raise AssertionError

    for raises in (True, fail):
        fake.fails(429, 4006, "used up")
        async with (
            aiohttp.ClientSession(raise_for_status=raises) as session,
            fake.client(session=session, retries=AT_ONCE) as ai,
        ):
            with pytest.raises(QuotaExceeded, match="used up"):
                await nova(ai).open()
    assert len(fake.requests) == 2


@pytest.mark.parametrize("own", [True, False])
async def test_the_headers_of_a_handshake_may_be_as_long_as_any(
    fake: FakeWorkersAI, own: bool
) -> None:
    headers = {"X-Long": "x" * 60_000}
    fake.connects(at_end=[results("hi")], headers=headers)
    fake.connects(at_end=[results("hi")], headers=headers)
    async with (
        aiohttp.ClientSession(max_field_size=2**16, max_line_size=2**16) as session,
        fake.client(session=None if own else session) as ai,
    ):
        assert (await nova(ai, audio=PCM).finish()).text == "hi"


@asynccontextmanager
async def tunnel() -> AsyncIterator[tuple[str, list[str]]]:
    """A proxy that connects to this machine, whatever the host: its address, what it received."""
    heads: list[str] = []

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        heads.append(head)
        port = int(re.findall(r"CONNECT \S+:(\d+) ", head)[0])
        inward, outward = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(copy(reader, outward), copy(inward, writer), return_exceptions=True)

    tasks = set[Any]()
    server = await asyncio.start_server(serve, "127.0.0.1")
    async with server:
        yield f"http://user:password@127.0.0.1:{server.sockets[0].getsockname()[1]}", heads
        await asyncio.wait(tasks)


@asynccontextmanager
async def over_tls(fake: FakeWorkersAI) -> AsyncIterator[tuple[str, ssl.SSLContext]]:
    """The address of the fake over TLS, and a context that trusts its certificate."""
    certificate = Path(__file__).parents[1] / "session" / "localhost.pem"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(fake._state), "127.0.0.1", 0, ssl=context
    )
    async with server:
        url = f"https://localhost:{server.sockets[0].getsockname()[1]}/client/v4"
        yield url, ssl.create_default_context(cafile=str(certificate))
        await all_closed(fake)


async def test_over_tls(fake: FakeWorkersAI) -> None:
    """Finished, and broken off with unread audio on its way."""
    fake.connects(at_end=[results("hi")]).connects(results("open"))
    async with over_tls(fake) as (url, trusted):
        ai = fake.client(base_url=url, ssl=trusted)
        assert (await nova(ai, audio=PCM).finish()).text == "hi"
        async with nova(ai, audio=[PCM] * 100) as ears:
            assert str(await anext(ears)) == "open"


@pytest.mark.parametrize("own", [True, False])
async def test_through_a_tunnel(fake: FakeWorkersAI, own: bool) -> None:
    """A proxy forwards TLS as it is: it has its own login, and sees no token."""
    fake.connects(at_end=[results("hi")])
    async with over_tls(fake) as (url, trusted), tunnel() as (proxy, heads):
        connector = aiohttp.TCPConnector(ssl=trusted)
        async with aiohttp.ClientSession(connector=connector, proxy=proxy) as session:
            options = {"proxy": proxy, "ssl": trusted} if own else {"session": session}
            async with fake.client(base_url=url, **options) as ai:
                assert (await nova(ai, audio=PCM).finish()).text == "hi"
    (head,) = heads
    assert head.startswith(f"CONNECT {url.split('/')[2]} HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic dXNlcjpwYXNzd29yZA==\r\n" in head
    assert "fake-api-token" not in head
    (request,) = fake.requests
    assert "Proxy-Authorization" not in request.headers


async def test_through_a_proxy(fake: FakeWorkersAI) -> None:
    fake.connects(at_end=[results("hi")])
    ai = fake.client(base_url="http://127.0.0.1:9/client/v4", proxy=fake.origin)
    assert (await nova(ai, audio=PCM).finish()).text == "hi"
    assert fake.requests[0].target.startswith("http://127.0.0.1:9/client/v4/accounts/account/ai/")


async def test_through_a_gateway(fake: FakeWorkersAI) -> None:
    """At the origin of the user's `base_url`."""
    fake.connects().connects()
    await nova(fake.client(gateway="g")).finish()
    options = Options(gateway=Gateway("other", authorization="its-own-token"))
    await nova(fake.client(), options=options).finish()
    first, second = fake.requests
    assert first.target.startswith(f"/v1/account/g/workers-ai?model={NOVA}&encoding=linear16&")
    assert first.headers["cf-aig-authorization"] == "fake-api-token"
    assert "Authorization" not in first.headers
    assert second.target.startswith("/v1/account/other/workers-ai?model=")
    assert second.headers["cf-aig-authorization"] == "its-own-token"
    assert second.headers["Authorization"] == "Bearer fake-api-token"


# Ends that are none


@pytest.mark.parametrize("code", [None, 1000, 1001, 1006, 1008, 1011, 3000, 4000, 4999])
async def test_a_session_that_the_service_ends_early_is_interrupted(
    fake: FakeWorkersAI, code: int | None
) -> None:
    async def talk(socket: FakeSocket) -> None:
        await socket.send(results("hello"), results("and", is_final=False))
        if code == 1006:  # Never on the wire: no close frame at all.
            socket.hang_up()
            return
        await socket.close(code, "" if code is None else "NET-0001 fake-api-token")
        await socket.receive()

    fake.connects_by(talk)
    async with listen(fake) as ears:
        assert str(await anext(ears)) == "hello"
        assert str(await anext(ears)) == "and"
        with pytest.raises(StreamInterrupted) as caught:
            await anext(ears)
    error = caught.value
    assert error.answer.text == "hello and"
    assert error.events == 2
    if code == 1006:
        assert "lost without a close frame" in str(error)
    else:
        reason = "none" if code is None else f"{code}: NET-0001 ***"
        assert f"the service closed the session with code {reason}, after 2 mess" in str(error)
        await fake.until(lambda: fake.sockets[0].close_code == (code or 1000))
    assert "fake-api-token" not in f"{error!r}{error.__cause__!r}{error.__context__!r}"
    with pytest.raises(StreamInterrupted):
        await anext(ears)
    with pytest.raises(StreamInterrupted):
        await ears.send(PCM)
    with pytest.raises(StreamInterrupted):
        await ears.finish()


@pytest.mark.parametrize("code", [None, 1000, 1001])
async def test_a_close_frame_after_the_audio_is_the_end(
    fake: FakeWorkersAI, code: int | None
) -> None:
    fake.connects(results("hi"), close=code)
    async with nova(fake.client(), audio=[PCM]) as ears:
        assert (await ears.finish()).text == "hi"


@pytest.mark.parametrize("code", [1008, 1011, 4000])
async def test_a_failure_after_the_audio_is_no_end(fake: FakeWorkersAI, code: int) -> None:
    fake.connects(results("hi"), close=code)
    async with nova(fake.client(), audio=[PCM]) as ears:
        with pytest.raises(StreamInterrupted, match=f"code {code}") as caught:
            await ears.finish()
        assert caught.value.answer.text == "hi"
        assert str(await anext(ears)) == "hi"


async def test_a_cut_in_a_frame_is_interrupted(fake: FakeWorkersAI) -> None:
    frame = encode_frame(TEXT, json.dumps(results("lost")).encode())
    ai = fake.client()
    for cut in range(0, len(frame), 5):

        async def talk(socket: FakeSocket, cut: int = cut) -> None:
            await socket.send(results("kept"))
            await socket.send_raw(frame[:cut])

        fake.connects_by(talk)
        async with nova(ai) as ears:
            assert str(await anext(ears)) == "kept"
            with pytest.raises(StreamInterrupted, match="without a close frame") as caught:
                await anext(ears)
        assert caught.value.answer.text == "kept"


@pytest.mark.parametrize(
    ("frames", "kind", "message"),
    [
        (encode_frame(TEXT, b"\xff\xfe"), DecodeError, "the frames are not valid .code 1007."),
        (encode_frame(3, b""), DecodeError, "the frames are not valid .code 1002."),
        (b"\xf1\x00", DecodeError, "the frames are not valid .code 1002."),
        (encode_frame(0, b"x"), DecodeError, "the frames are not valid .code 1002."),
        (encode_frame(CLOSE, b"\x00"), DecodeError, "the frames are not valid"),
        (encode_frame(CLOSE, struct.pack("!H", 999)), DecodeError, "the frames are not valid"),
        (encode_frame(PING, b"", final=False), DecodeError, "the frames are not valid"),
        (encode_frame(TEXT, b" " * 2000), AnswerTooLarge, r"max_event_bytes \(1000 bytes\)"),
        (encode_frame(BINARY, b" " * 2000), AnswerTooLarge, r"max_event_bytes \(1000 bytes\)"),
    ],
)
async def test_invalid_frames_end_the_session(
    fake: FakeWorkersAI, frames: bytes, kind: type[CfaiError], message: str
) -> None:
    async def talk(socket: FakeSocket) -> None:
        await socket.send_raw(frames)
        await socket.receive()

    fake.connects_by(talk)
    async with listen(fake, max_event_bytes=1000) as ears:
        with pytest.raises(kind, match=message):
            await anext(ears)
    await all_closed(fake)


async def test_an_error_message_is_raised(fake: FakeWorkersAI) -> None:
    fake.connects(results("hi"), {"errors": [{"code": 3040, "message": "busy fake-api-token"}]})
    async with listen(fake) as ears:
        await anext(ears)
        with pytest.raises(CapacityExceeded, match=r"busy \*\*\*"):
            await anext(ears)
    await all_closed(fake)


async def test_sending_to_a_lost_connection_keeps_what_had_arrived(fake: FakeWorkersAI) -> None:
    async def talk(socket: FakeSocket) -> None:
        await socket.send(results("hello"))
        await socket.close(1011, "overloaded")
        await socket.receive()

    fake.connects_by(talk)
    async with listen(fake) as ears:
        await all_closed(fake)
        with pytest.raises(StreamInterrupted):
            while True:
                await ears.send(PCM)
        assert str(await anext(ears)) == "hello"
        with pytest.raises(StreamInterrupted, match="code 1011: overloaded"):
            await anext(ears)


# Timeouts


@pytest.mark.parametrize("phase", ["idle", "content", "total"])
async def test_the_limits_of_streams_hold(fake: FakeWorkersAI, phase: str) -> None:
    """A half-open connection answers no ping, so that `idle` ends it."""

    async def talk(socket: FakeSocket) -> None:
        await socket.send(results("hello"))
        await never.wait()

    never = asyncio.Event()
    fake.connects_by(talk)
    limits = {"idle": None, phase: 0.05}
    async with listen(fake, timeouts=Timeouts(**limits)) as ears:
        assert str(await anext(ears)) == "hello"
        with pytest.raises(RequestTimeout) as caught:
            await anext(ears)
        assert (caught.value.phase, caught.value.limit) == (phase, 0.05)
    never.set()
    await all_closed(fake)


@pytest.mark.parametrize("phase", ["idle", "content", "total"])
async def test_the_limits_end_a_sender_that_waits(fake: FakeWorkersAI, phase: str) -> None:
    """A half-open connection takes nothing, and nobody reads the session."""

    async def talk(socket: FakeSocket) -> None:
        await never.wait()

    never = asyncio.Event()
    fake.connects_by(talk)
    limits = {"idle": None, phase: 0.3}
    async with listen(fake, timeouts=Timeouts(**limits)) as ears:
        with pytest.raises(RequestTimeout) as caught:
            while True:
                await ears.send(bytes(2**20))
        assert (caught.value.phase, caught.value.limit) == (phase, 0.3)
    never.set()
    await all_closed(fake)


async def test_pongs_keep_a_silent_session_open(fake: FakeWorkersAI) -> None:
    async def talk(socket: FakeSocket) -> None:
        while socket.pings < 4:
            reading = asyncio.ensure_future(socket.receive())
            await asyncio.wait({reading}, timeout=0.02)
            if not reading.done():
                waiting.append(reading)
                await fake.until(lambda: socket.pings >= 4)
                reading.cancel()
        await socket.send(results("hello"))
        await asyncio.Event().wait()

    waiting: list[object] = []
    fake.connects_by(talk)
    async with listen(fake, timeouts=Timeouts(idle=0.3)) as ears:
        assert str(await anext(ears)) == "hello"
    assert fake.sockets[0].pings >= 4


async def test_pings_are_answered_while_nobody_reads(fake: FakeWorkersAI) -> None:
    async def talk(socket: FakeSocket) -> None:
        await socket.ping(b"there?")
        await socket.receive()

    fake.connects_by(talk)
    async with listen(fake):
        await fake.until(lambda: fake.sockets and fake.sockets[0].pongs == [b"there?"])


async def test_a_slow_handshake_is_a_timeout(fake: FakeWorkersAI) -> None:
    fake.stalls()
    with pytest.raises(RequestTimeout) as caught:
        await listen(fake, retries=NEVER, timeouts=Timeouts(response=0.05)).open()
    assert caught.value.phase == "response"
    await all_closed(fake)


# Back-pressure


async def test_the_sender_waits_for_a_service_that_does_not_read(fake: FakeWorkersAI) -> None:
    """The buffers between hold a few megabytes at most."""

    async def talk(socket: FakeSocket) -> None:
        await reads.wait()
        await socket.receive_end()
        await socket.close()
        await socket.receive()

    reads = asyncio.Event()
    fake.connects_by(talk)
    sent = 0

    async def send() -> None:
        nonlocal sent
        for _ in range(400):
            await ears.send(bytes(2**16))
            sent += 2**16

    async with listen(fake) as ears:
        sending = asyncio.create_task(send())
        done, _ = await asyncio.wait({sending}, timeout=0.5)
        assert not done
        assert sent < 20 * 2**20
        reads.set()
        await sending
        await ears.finish()
    assert len(fake.sockets[0].audio) == 400 * 2**16


async def test_the_service_waits_for_a_reader_that_is_slow(fake: FakeWorkersAI) -> None:
    written = 0

    async def talk(socket: FakeSocket) -> None:
        nonlocal written
        for _ in range(400):
            await socket.send({"type": "New", "x": "x" * 2**16})
            written += 1
        await socket.receive_end()
        await socket.close()
        await socket.receive()

    fake.connects_by(talk)
    async with nova(fake.client(), audio=[PCM]) as ears:
        await ears.open()
        with pytest.raises(TimeoutError):
            await fake.until(lambda: written == 400, within=0.5)
        assert written < 300
        assert len([event async for event in ears]) == 400


# Cancelling, closing, dropping


async def test_a_cancelled_read_leaves_the_session_open(fake: FakeWorkersAI) -> None:
    speaks = asyncio.Event()
    fake.connects(speaks, results("hi"))
    async with listen(fake) as ears:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await anext(ears)
        speaks.set()
        assert str(await anext(ears)) == "hi"
        assert (await ears.finish()).text == "hi"


@asynccontextmanager
async def serve_late(
    opens: asyncio.Event, requested: asyncio.Event, frames: bytes, at: int = 0
) -> AsyncIterator[str]:
    """A server that answers a handshake after *opens*, reads *at* bytes, and sends *frames*."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        requested.set()
        await opens.wait()
        (key,) = re.findall(r"(?i)sec-websocket-key: (\S+)", head)
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept_key(key).encode() + b"\r\n\r\n"
        )
        await reader.readexactly(at)
        writer.write(frames)
        # The connection stays open, and nothing more is read: the limit of the reader is small.
        await over.wait()
        writer.transport.abort()

    over, tasks = asyncio.Event(), set[Any]()
    server = await asyncio.start_server(talk, "127.0.0.1", limit=2**10)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/client/v4"
        opens.set()
        over.set()
        await asyncio.wait(tasks)


FRAME = encode_frame(TEXT, json.dumps(results("hi")).encode())
FRAME_AND_CLOSE = FRAME + encode_frame(CLOSE, struct.pack("!H", 1000))


def client_at(url: str, **options: Any) -> WorkersAI:
    return WorkersAI(account_id="0", api_token="t", base_url=url, **options)


@pytest.mark.parametrize("then", ["read", "send", "finish", "open", "close"])
async def test_a_read_that_is_cancelled_in_the_handshake_leaves_the_session_open(then: str) -> None:
    opens, requested = asyncio.Event(), asyncio.Event()
    # Six bytes are the frame of the client that ends the audio.
    frames, at = (FRAME_AND_CLOSE, 6) if then == "finish" else (FRAME, 0)
    async with serve_late(opens, requested, frames, at) as url, client_at(url) as ai:
        ears = nova(ai)
        reading = asyncio.create_task(anext(ears))
        await requested.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        if then == "close":
            await ears.aclose()
            with pytest.raises(StreamInterrupted):
                await anext(ears)
            return
        asyncio.get_running_loop().call_soon(opens.set)
        match then:
            case "send":
                await ears.send(PCM)
            case "open":
                assert await ears.open() is ears
            case "finish":
                assert (await ears.finish()).text == "hi"
        assert str(await anext(ears)) == "hi"
        await ears.aclose()


async def test_two_tasks_may_open_a_session(fake: FakeWorkersAI) -> None:
    fake.connects(results("hi"))
    ears = listen(fake)
    first, second, event = await asyncio.gather(ears.open(), ears.open(), anext(ears))
    assert first is second is ears
    assert str(event) == "hi"
    assert len(fake.requests) == 1
    await ears.aclose()


async def test_a_sender_does_not_wait_for_a_service_that_closed_but_stays_connected() -> None:
    opens, requested = asyncio.Event(), asyncio.Event()
    opens.set()
    limits = Timeouts(idle=None, content=None, total=None)
    async with (
        serve_late(opens, requested, FRAME_AND_CLOSE, at=2**10) as url,
        client_at(url, timeouts=limits) as ai,
        asyncio.timeout(30),
    ):
        ears = nova(ai)
        with pytest.raises(StreamInterrupted, match="closed the session"):
            while True:
                await ears.send(bytes(2**20))
        assert str(await anext(ears)) == "hi"
        with pytest.raises(StreamInterrupted, match="code 1000"):
            await anext(ears)


async def test_several_tasks_may_read_and_one_may_finish(fake: FakeWorkersAI) -> None:
    """No event is lost or delivered twice."""
    fake.connects(*(results(str(n)) for n in range(20)), at_end=[results("last")])
    read: list[str] = []

    async def consume() -> None:
        async for event in ears:
            read.append(str(event))
            await asyncio.sleep(0)

    async with listen(fake) as ears:
        readers = [asyncio.create_task(consume()) for _ in range(3)]
        await ears.send(PCM)
        answer = await ears.finish()
        await asyncio.gather(*readers)
    assert sorted(read) == sorted([*map(str, range(20)), "last"])
    assert answer.text.split() == [*map(str, range(20)), "last"]


async def test_leaving_sends_a_close_frame(fake: FakeWorkersAI) -> None:
    fake.connects(results("hi"))
    async with listen(fake) as ears:
        await anext(ears)
    await all_closed(fake)
    assert fake.sockets[0].close_code == 1000
    with pytest.raises(StreamInterrupted, match="was closed before its end") as caught:
        await anext(ears)
    assert caught.value.answer.text == "hi"
    await ears.aclose()


async def test_closing_from_another_task_ends_a_read(fake: FakeWorkersAI) -> None:
    fake.connects()
    ears = await listen(fake).open()
    reading = asyncio.ensure_future(anext(ears))
    await asyncio.sleep(0)
    await ears.aclose()
    with pytest.raises(StreamInterrupted, match="was closed before its end"):
        await reading


async def test_closing_the_client_ends_its_sessions(fake: FakeWorkersAI) -> None:
    fake.connects()
    ai = fake.client()
    ears = await nova(ai).open()
    reading = asyncio.ensure_future(anext(ears))
    await asyncio.sleep(0)
    await ai.aclose()
    with pytest.raises(StreamInterrupted, match="the client was closed"):
        await reading
    await all_closed(fake)
    with pytest.raises(ConfigError, match="the client is closed"):
        await nova(ai).open()


async def test_a_session_that_is_closed_before_it_is_opened_sends_nothing(
    fake: FakeWorkersAI,
) -> None:
    ears = listen(fake)
    await ears.aclose()
    with pytest.raises(StreamInterrupted):
        await anext(ears)
    with pytest.raises(StreamInterrupted):
        await ears.send(PCM)
    assert fake.requests == []


async def test_a_cancelled_handshake_leaves_nothing(fake: FakeWorkersAI) -> None:
    fake.stalls()
    ears = listen(fake)
    opening = asyncio.create_task(ears.open())
    await fake.until(lambda: fake.requests)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await all_closed(fake)


async def break_off(ears: Listener, how: int) -> None:
    match how:
        case 0:
            await ears.aclose()
        case 1:
            with pytest.raises(ZeroDivisionError):
                async with ears:
                    raise ZeroDivisionError
        case 2:
            reading = asyncio.create_task(read_in_context(ears))
            await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait({reading})
        case 3:
            pass  # The caller drops it.


async def read_in_context(ears: Listener) -> None:
    async with ears:
        async for _ in ears:
            pass


async def test_a_thousand_sessions_broken_off_leave_nothing(fake: FakeWorkersAI) -> None:
    """No task, no socket, no slot of the client and no memory, and no garbage to collect."""

    async def talk(socket: FakeSocket) -> None:
        await socket.send(results("hello"))
        while await socket.receive() is not None:
            pass

    fake.always.connects_by(talk)
    ai = fake.client(limit=4)
    tasks = asyncio.all_tasks()

    async def run(count: int) -> None:
        for number in range(count):
            source = None if number % 2 else endless()
            ears = await nova(ai, audio=source).open()
            if number % 3:
                await anext(ears)
            await break_off(ears, number % 4)
            del ears
        await all_closed(fake)
        fake._state.sockets.clear()
        fake._state.requests.clear()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield PCM
            await asyncio.sleep(0)

    await run(100)
    gc.collect()
    tracemalloc.start()
    await run(400)
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    await run(500)
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after - before < 500 * 100
    assert asyncio.all_tasks() - tasks == set()
    assert await nova(ai).open()  # The slots are free.


async def test_errors_hold_no_secret_in_their_locals(fake: FakeWorkersAI) -> None:
    """Error trackers collect the variables of the frames of a traceback."""
    fake.fails(401, 10000, "Authentication error")
    fake.connects_by(lambda socket: socket.close(1011, "oh"))
    fake.says_raw(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    ai = fake.client(retries=NEVER)
    for _ in range(3):
        with pytest.raises(CfaiError) as caught:
            await anext(nova(ai))
        error: BaseException | None = caught.value
        while error is not None:
            trace = error.__traceback__
            while trace is not None:
                if trace.tb_frame.f_globals["__name__"].startswith(("aiohttp", "cfai._session")):
                    values = repr(trace.tb_frame.f_locals)
                    assert "fake-api-token" not in values, trace.tb_frame
                trace = trace.tb_next
            error = error.__cause__ or error.__context__
