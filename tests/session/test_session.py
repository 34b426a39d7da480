"""The session over real sockets: retries, timeouts, broken servers, sizes, concurrency."""

import asyncio
import gc
import gzip
import pickle
import socket
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import aiohttp
import pytest

from cfai import Prompt, TokenStream, WorkersAI
from cfai.errors import (
    AnswerTooLarge,
    BadRequest,
    CapacityExceeded,
    CfaiError,
    ConnectError,
    ConnectionLost,
    DecodeError,
    QuotaExceeded,
    RateLimited,
    RequestTimeout,
    ServerError,
    ServiceTimeout,
    StatusError,
    StreamInterrupted,
)
from cfai.settings import Options, Retries, Retry, Timeouts
from cfai.testing import FakeWorkersAI, Script

MODEL = "@cf/meta/llama-3.1-8b-instruct-fast"
PROMPT = Prompt("Hello?")
OK = {"response": "Hello"}
NO_DELAY = Retries(max=2, base=0)
NO_RETRIES = Retries(max=0)


async def ask(client: WorkersAI, **options: Any) -> str:
    return (await client.run(MODEL, PROMPT, options=Options(**options))).text


async def stream(client: WorkersAI) -> str:
    async with client.stream(MODEL, PROMPT) as tokens:
        return str(await tokens.collect())


# Retries


def hang_up_inside(script: Script) -> Script:
    return script.says(b'{"result":', headers={"Content-Length": "100"}, then_hangs_up=True)


TEMPORARY: dict[str, tuple[type[CfaiError], Callable[[Script], Script]]] = {
    "429 without a code": (RateLimited, lambda s: s.says(b"{}", status=429)),
    "429, out of capacity": (CapacityExceeded, lambda s: s.fails(429, 3040, "busy")),
    "429, and when to come back": (
        CapacityExceeded,
        lambda s: s.fails(429, 3040, "busy", headers={"retry-after-ms": "1"}),
    ),
    "out of capacity under 200": (
        CapacityExceeded,
        lambda s: s.fails(200, 3040, "busy"),
    ),
    "408": (ServiceTimeout, lambda s: s.says(b"", status=408)),
    "408, timeout": (ServiceTimeout, lambda s: s.fails(408, 3007, "timeout")),
    "408, aborted": (ServiceTimeout, lambda s: s.fails(408, 3008, "aborted")),
    "500": (ServerError, lambda s: s.fails(500, 8005, "internal")),
    "502, a page": (
        ServerError,
        lambda s: s.says(b"<html>Bad gateway</html>", status=502, content_type="text/html"),
    ),
    "503": (ServerError, lambda s: s.says(b"", status=503)),
    "524, a status of Cloudflare's own": (ServerError, lambda s: s.says(b"", status=524)),
    "hung up on": (ConnectionLost, lambda s: s.hangs_up()),
    "broken off": (ConnectionLost, lambda s: s.hangs_up(reset=True)),
    "cut inside the answer": (ConnectionLost, hang_up_inside),
}

PERMANENT: dict[str, tuple[type[CfaiError], Callable[[Script], Script]]] = {
    "the day's quota": (QuotaExceeded, lambda s: s.fails(429, 3036, "used up")),
    "the day's quota, as it is seen": (QuotaExceeded, lambda s: s.fails(429, 4006, "used up")),
    "the day's quota, with a hint to come back": (
        QuotaExceeded,
        lambda s: s.fails(429, 3036, "used up", retry_after=0),
    ),
    "429 in an hour": (RateLimited, lambda s: s.fails(429, 0, "slow", retry_after=3600)),
    "503 in an hour": (ServerError, lambda s: s.says(headers={"Retry-After": "3600"}, status=503)),
    "400": (BadRequest, lambda s: s.fails(400, 5006, "bad input")),
    "success: false": (BadRequest, lambda s: s.fails(200, 5006, "bad input")),
    "no JSON": (DecodeError, lambda s: s.says(b"{")),
    **{
        str(status): (StatusError, lambda s, status=status: s.says(b"{}", status=status))  # type: ignore[misc]  # a default for the loop
        for status in (300, 301, 302, 304, 307, 308, 401, 402, 403, 404, 405, 409, 413, 422, 499)
    },
}


@pytest.mark.parametrize("call", [ask, stream])
@pytest.mark.parametrize("failure", TEMPORARY)
async def test_temporary_errors_are_retried(
    fake: FakeWorkersAI, failure: str, call: Callable[[WorkersAI], Any]
) -> None:
    """The request is repeated until it succeeds, and `on_retry` is called before each retry."""
    kind, script = TEMPORARY[failure]
    script(fake)
    script(fake)
    (fake.answers if call is ask else lambda _: fake.streams("Hello"))(OK)
    retries_seen: list[Retry] = []
    client = fake.client(retries=Retries(max=2, base=0, on_retry=retries_seen.append))
    assert await call(client) == "Hello"
    assert [retry.attempt for retry in retries_seen] == [1, 2]
    assert all(type(retry.failure) is kind for retry in retries_seen)
    assert all(0 <= retry.pause <= 0.001 for retry in retries_seen)
    first, *others = [request.body for request in fake.requests]
    assert others == [first, first]


@pytest.mark.parametrize("call", [ask, stream])
@pytest.mark.parametrize("failure", PERMANENT)
async def test_permanent_errors_are_raised_at_once(
    fake: FakeWorkersAI, failure: str, call: Callable[[WorkersAI], Any]
) -> None:
    """Also a `Retry-After` beyond `max_wait`: only one request is sent."""
    kind, script = PERMANENT[failure]
    script(fake)
    retries_seen: list[Retry] = []
    client = fake.client(retries=Retries(max=5, base=0, on_retry=retries_seen.append))
    with pytest.raises(kind):
        await call(client)
    assert (len(fake.requests), retries_seen) == (1, [])


async def test_the_last_error_is_raised(fake: FakeWorkersAI) -> None:
    """After `max` retries; its `meta` counts the attempts."""
    fake.always.fails(500, 0, "down")
    with pytest.raises(ServerError) as caught:
        await ask(fake.client(retries=Retries(max=3, base=0)))
    assert len(fake.requests) == 4
    assert caught.value.meta is not None
    assert caught.value.meta.attempts == 4


async def test_retries_can_be_turned_off(fake: FakeWorkersAI) -> None:
    """`Retries(max=0)` sends one request, for a client or for one call."""
    fake.always.hangs_up()
    with pytest.raises(ConnectionLost):
        await ask(fake.client(retries=NO_RETRIES))
    assert len(fake.requests) == 1
    with pytest.raises(ConnectionLost):
        await ask(fake.client(retries=NO_DELAY), retries=NO_RETRIES)
    assert len(fake.requests) == 2


@pytest.mark.parametrize("status", [429, 503, 529])
async def test_a_busy_service_is_tried_more_often(fake: FakeWorkersAI, status: int) -> None:
    """`max_busy` times; with `reject_if_busy`, `max` times."""
    client = fake.client(retries=Retries(max=1, max_busy=4, base=0))
    fake.always.fails(status, 3040 if status == 429 else 0, "busy")
    for options, requests in ((None, 5), (Options(reject_if_busy=True), 2)):
        before = len(fake.requests)
        with pytest.raises(StatusError):
            await client.run(MODEL, PROMPT, options=options)
        assert len(fake.requests) - before == requests


async def test_the_patience_with_a_busy_service_ends_at_the_deadline(fake: FakeWorkersAI) -> None:
    """The error is raised at once if the next delay does not fit."""
    client = fake.client(retries=Retries(base=30, cap=60), timeouts=Timeouts(total=5))
    fake.fails(429, 3040, "busy")
    with pytest.raises(CapacityExceeded):
        await ask(client)
    assert len(fake.requests) == 1


async def test_meta_counts_attempts_and_time(fake: FakeWorkersAI) -> None:
    """Over all attempts and the delays between them."""
    fake.fails(503, 0, "down", headers={"retry-after-ms": "20"})
    fake.answers(OK)
    answer = await fake.client().run(MODEL, PROMPT)
    assert answer.meta.attempts == 2
    assert answer.meta.elapsed >= 0.02
    fake.answers(OK)
    assert (await fake.client().run(MODEL, PROMPT)).meta.attempts == 1


async def test_an_error_of_on_retry_ends_the_call(fake: FakeWorkersAI) -> None:
    """The exception of the callback is raised, and no retry follows."""

    def enough(retry: Retry) -> None:
        raise LookupError(f"enough after {retry.attempt}")

    fake.always.fails(503, 0, "down")
    with pytest.raises(LookupError, match="enough after 1"):
        await ask(fake.client(retries=Retries(base=0, on_retry=enough)))
    assert len(fake.requests) == 1


async def test_a_refused_connection_is_retried() -> None:
    """Until the server starts to listen."""
    loop = asyncio.get_running_loop()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{")
        body = b'{"result":{"response":"Hello"},"success":true}'
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        writer.write(head % len(body) + body)
        writer.close()

    server = await asyncio.start_server(answer, sock=listener, start_serving=False)
    retries_seen: list[Retry] = []

    def opens(retry: Retry) -> None:
        retries_seen.append(retry)
        if retry.attempt == 2:
            loop.call_soon(loop.create_task, server.start_serving())

    retries = Retries(max=3, base=0.02, on_retry=opens)
    url = f"http://127.0.0.1:{port}"
    async with (
        server,
        WorkersAI(account_id="a", api_token="t", base_url=url, retries=retries) as client,
    ):
        answered = await client.run(MODEL, PROMPT)
    assert answered.text == "Hello"
    assert answered.meta.attempts == len(retries_seen) + 1 >= 3
    assert all(type(retry.failure) is ConnectError for retry in retries_seen)
    assert str(port) in str(retries_seen[0].failure)


async def test_a_cancelled_call_is_not_retried(fake: FakeWorkersAI) -> None:
    """Whatever the call waits for."""
    client = fake.client(limit=1, retries=Retries(max=5, base=0))
    fake.stalls()
    answering = asyncio.create_task(ask(client))
    await fake.until(lambda: len(fake.requests) == 1)
    waiting = asyncio.create_task(ask(client))
    await asyncio.sleep(0)
    for task in (waiting, answering):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await fake.until(lambda: fake.connections == 0)
    assert len(fake.requests) == 1

    paused = asyncio.Event()
    fake.fails(503, 0, "down", retry_after=30)
    retries = Retries(on_retry=lambda _: paused.set())
    pausing = asyncio.create_task(ask(client, retries=retries))
    await paused.wait()
    pausing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pausing
    fake.answers(OK)
    assert await ask(client) == "Hello"
    assert len(fake.requests) == 3


async def test_a_timeout_of_the_caller(fake: FakeWorkersAI) -> None:
    """An `asyncio.timeout` around a call causes neither a `RequestTimeout` nor a retry."""
    client = fake.client(limit=1, retries=NO_DELAY)
    for script in (fake.stalls, lambda: fake.says(b"{", asyncio.Event(), framing="chunked")):
        script()
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.03):
                await ask(client)
        assert not isinstance(caught.value, CfaiError)
    fake.says(b"", asyncio.Event(), content_type="text/event-stream")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(stream(client), 0.03)
    assert len(fake.requests) == 3
    await fake.until(lambda: fake.connections == 0)
    fake.answers(OK)
    assert await ask(client) == "Hello"


async def test_no_slot_is_held_during_a_retry_delay(fake: FakeWorkersAI) -> None:
    """While one call waits for its next attempt, another is sent."""
    paused = asyncio.Event()
    client = fake.client(limit=1, retries=Retries(on_retry=lambda _: paused.set()))
    fake.fails(503, 0, "down", retry_after=30)
    pausing = asyncio.create_task(ask(client))
    await paused.wait()
    fake.answers(OK)
    assert await ask(client) == "Hello"
    pausing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pausing


# Time limits


@contextmanager
def deaf_port() -> Iterator[int]:
    """A port that accepts no more connections: its backlog of one is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        try:
            yield listener.getsockname()[1]
        finally:
            for client in waiting:
                client.close()


def expect(caught: pytest.ExceptionInfo[RequestTimeout], phase: str, limit: float) -> None:
    error = caught.value
    assert (error.phase, error.limit) == (phase, limit)
    assert f"Timeouts.{phase}" in str(error)
    assert f"{limit:g} s" in str(error)


async def test_the_connect_timeout(fake: FakeWorkersAI) -> None:
    """It has its own phase, and is retried like any failed connect."""
    retries_seen: list[Retry] = []
    retries = Retries(max=1, base=0, on_retry=retries_seen.append)
    with deaf_port() as port:
        client = fake.client(
            base_url=f"http://127.0.0.1:{port}",
            timeouts=Timeouts(connect=0.03, response=5),
            retries=retries,
        )
        with pytest.raises(RequestTimeout) as caught:
            await ask(client)
    expect(caught, "connect", 0.03)
    assert len(retries_seen) == 1


async def test_the_response_timeout(fake: FakeWorkersAI) -> None:
    """It covers the headers and the whole body, and is never retried."""
    client = fake.client(timeouts=Timeouts(response=0.05), retries=NO_DELAY)
    fake.stalls()
    with pytest.raises(RequestTimeout) as caught:
        await ask(client)
    expect(caught, "response", 0.05)
    fake.says(b'{"result":', asyncio.Event(), framing="chunked")
    with pytest.raises(RequestTimeout) as caught:
        await ask(client)
    expect(caught, "response", 0.05)
    assert len(fake.requests) == 2
    await fake.until(lambda: fake.connections == 0)


async def test_a_slow_body_does_not_extend_the_response_timeout(fake: FakeWorkersAI) -> None:
    """The timeout does not restart with each byte."""
    fake.says(*(part for _ in range(60) for part in (b" ", 0.01)), framing="chunked")
    with pytest.raises(RequestTimeout) as caught:
        await ask(fake.client(timeouts=Timeouts(response=0.1)))
    expect(caught, "response", 0.1)


async def test_the_response_timeout_of_a_stream_ends_with_its_headers(fake: FakeWorkersAI) -> None:
    client = fake.client(timeouts=Timeouts(response=0.05))
    fake.stalls()
    with pytest.raises(RequestTimeout) as caught:
        await stream(client)
    expect(caught, "response", 0.05)
    fake.streams("Hel", 0.1, "lo")
    assert await stream(client) == "Hello"


async def test_the_pool_timeout(fake: FakeWorkersAI) -> None:
    """Too many calls at once are distinguished from a slow service."""
    go = asyncio.Event()
    fake.always.answers(OK, after=go)
    client = fake.client(limit=1, timeouts=Timeouts(pool=0.03), retries=NO_DELAY)
    first = asyncio.create_task(ask(client))
    await fake.until(lambda: fake.requests)
    with pytest.raises(RequestTimeout) as caught:
        await ask(client)
    expect(caught, "pool", 0.03)
    assert "limit" in str(caught.value)
    go.set()
    assert await first == "Hello"
    assert await ask(client) == "Hello"
    assert len(fake.requests) == 2


async def test_the_total_timeout_covers_all_attempts(fake: FakeWorkersAI) -> None:
    """An attempt has only the time that earlier ones left."""
    timeouts = Timeouts(total=0.1, response=5)
    fake.fails(503, 0, "down", headers={"retry-after-ms": "20"}).stalls()
    with pytest.raises(RequestTimeout) as caught:
        await ask(fake.client(timeouts=timeouts, retries=NO_DELAY))
    expect(caught, "total", 0.1)
    assert len(fake.requests) == 2


async def test_the_total_timeout_includes_waiting_for_a_slot(fake: FakeWorkersAI) -> None:
    fake.stalls()
    client = fake.client(limit=1)
    first = asyncio.create_task(ask(client))
    await fake.until(lambda: fake.requests)
    with pytest.raises(RequestTimeout) as caught:
        await ask(client, timeouts=Timeouts(total=0.03))
    expect(caught, "total", 0.03)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_delay_beyond_the_deadline_is_not_started(fake: FakeWorkersAI) -> None:
    """If `Retry-After` exceeds the deadline, the error is raised at once."""
    fake.fails(429, 3040, "busy", retry_after=30)
    with pytest.raises(CapacityExceeded) as caught:
        await ask(fake.client(timeouts=Timeouts(total=5)))
    assert caught.value.retry_after == 30
    assert len(fake.requests) == 1


async def test_the_total_timeout_ends_a_stream(fake: FakeWorkersAI) -> None:
    """Even if the stream still has content."""
    fake.streams(*(part for _ in range(60) for part in ("a", 0.01)))
    with pytest.raises(RequestTimeout) as caught:
        await stream(fake.client(timeouts=Timeouts(total=0.1)))
    expect(caught, "total", 0.1)
    await fake.until(lambda: fake.connections == 0)


async def test_timeouts_of_a_call(fake: FakeWorkersAI) -> None:
    """A call can have its own timeouts, or none."""
    client = fake.client(timeouts=Timeouts(response=0.02))
    fake.answers(OK, after=0.06)
    none = Timeouts(connect=None, pool=None, response=None, idle=None, content=None, total=None)
    assert await ask(client, timeouts=none) == "Hello"
    fake.stalls()
    with pytest.raises(RequestTimeout):
        await ask(client)


# Broken servers


def answer(head: bytes, body: bytes = b"", *, json: bool = True) -> bytes:
    kind = b"Content-Type: application/json\r\n" if json else b""
    return b"HTTP/1.1 " + head.replace(b"\n", b"\r\n") + b"\r\n" + kind + b"\r\n" + body


def response(body: bytes, kind: bytes = b"application/json", status: bytes = b"200 OK") -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
    return head % (status, kind, len(body)) + body


def encoded(how: bytes, body: bytes) -> bytes:
    return answer(b"200 OK\nContent-Encoding: %b\nContent-Length: %d" % (how, len(body)), body)


RIGHT = b'{"result":{"response":"Hello"},"success":true}'

BROKEN: dict[str, bytes] = {
    # What is no HTTP
    "nothing": b"",
    "one byte": b"H",
    "zeros": bytes(2000),
    "noise": bytes(range(256)) * 8,
    "a line": b"garbage\r\n\r\n",
    "lines without end": b"a" * 100_000,
    "JSON without a head": RIGHT,
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "SMTP": b"220 mail ESMTP\r\n",
    "a TLS alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "a frame of HTTP/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x80",
    "a request": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a status of letters": answer(b"abc OK"),
    "a status of two digits": answer(b"20 OK"),
    "a status of four digits": answer(b"2000 OK"),
    "a negative status": answer(b"-200 OK"),
    "HTTP of another world": b"HTTP/x.y 200 OK\r\n\r\n",
    # Heads
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Ty",
    "a head and no more": answer(b"200 OK\nContent-Length: 10"),
    "a huge header": answer(b"200 OK\nX-Big: " + b"a" * 100_000),
    "a huge reason": answer(b"200 " + b"a" * 100_000),
    "a huge name": answer(b"200 OK\n" + b"a" * 100_000 + b": 1"),
    "ten thousand headers": answer(b"200 OK" + b"\nX-Many: 1" * 10_000),
    "a header without a colon": answer(b"200 OK\nX-Broken"),
    "a header with a zero byte": answer(b"200 OK\nX-Broken: a\x00b"),
    "a header with a line end": answer(b"200 OK\nX-Broken: a\rb"),
    "a nameless header": answer(b"200 OK\n: value"),
    "a length of letters": answer(b"200 OK\nContent-Length: ten", RIGHT),
    "a negative length": answer(b"200 OK\nContent-Length: -1", RIGHT),
    "two lengths": answer(b"200 OK\nContent-Length: 1\nContent-Length: 46", RIGHT),
    "an endless length": answer(b"200 OK\nContent-Length: " + b"9" * 400, RIGHT),
    "a switch of protocols": answer(b"101 Switching Protocols\nUpgrade: x\nConnection: upgrade"),
    "continue, and then nothing": b"HTTP/1.1 100 Continue\r\n\r\n",
    "continue, for ever": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
    # Bodies
    "a length too large": answer(b"200 OK\nContent-Length: 100", RIGHT),
    "a length too small": answer(b"200 OK\nContent-Length: 10", RIGHT),
    "no length, and cut": answer(b"200 OK\nConnection: close", RIGHT[:20]),
    "chunks without the last": answer(
        b"200 OK\nTransfer-Encoding: chunked", b"2e\r\n" + RIGHT + b"\r\n"
    ),
    "half a chunk": answer(b"200 OK\nTransfer-Encoding: chunked", b"64\r\n" + RIGHT),
    "a chunk of no number": answer(b"200 OK\nTransfer-Encoding: chunked", b"zz\r\n" + RIGHT),
    "a negative chunk": answer(b"200 OK\nTransfer-Encoding: chunked", b"-1\r\n" + RIGHT),
    "an endless chunk": answer(
        b"200 OK\nTransfer-Encoding: chunked", b"f" * 40 + b"\r\n" + RIGHT
    ),
    "a chunk too long": answer(
        b"200 OK\nTransfer-Encoding: chunked", b"1\r\n" + RIGHT + b"\r\n0\r\n\r\n"
    ),
    "an unknown transfer": answer(b"200 OK\nTransfer-Encoding: rot13", RIGHT),
    "gzip that is none": encoded(b"gzip", RIGHT),
    "gzip, cut": encoded(b"gzip", gzip.compress(RIGHT)[:30]),
    "gzip, damaged": encoded(b"gzip", gzip.compress(RIGHT)[:20] + bytes(30)),
    "gzip of nothing": encoded(b"gzip", gzip.compress(b"")),
    "deflate that is none": encoded(b"deflate", b"\xff" * 100),
    "deflate, cut": encoded(b"deflate", zlib.compress(RIGHT)[:20]),
    "brotli": encoded(b"br", RIGHT),
    "zstd": encoded(b"zstd", b"\x28\xb5\x2f\xfd" + RIGHT),
    "an unknown encoding": encoded(b"rot13", b"uryyb"),
    # Answers that say nothing
    "204": answer(b"204 No Content"),
    "205": answer(b"205 Reset Content\nContent-Length: 0"),
    "304": answer(b"304 Not Modified"),
    "an empty body": response(b""),
    "spaces": response(b"   "),
    "half of JSON": response(RIGHT[:-5]),
    "JSON and more": response(RIGHT + b"}"),
    "twice": response(RIGHT + RIGHT),
    "null": response(b"null"),
    "true": response(b"true"),
    "a number": response(b"7"),
    "a huge number": response(b'{"result":{"response":1e99999}}'),
    "NaN": response(b'{"result":{"response":NaN}}'),
    "a text": response(b'"Hello"'),
    "a list": response(b"[]"),
    "an empty object": response(b"{}"),
    "no result": response(b'{"success":true}'),
    "a result of null": response(b'{"result":null,"success":true}'),
    "a result of lists": response(b'{"result":[[]],"success":true}'),
    "a response of null": response(b'{"result":{"response":null},"success":true}'),
    "choices of nothing": response(b'{"result":{"choices":[]},"success":true}'),
    "choices of null": response(b'{"result":{"choices":[null]},"success":true}'),
    "choices of numbers": response(b'{"result":{"choices":7},"success":true}'),
    "half a surrogate": response(b'{"result":{"response":"\\ud800"}}'),
    "a deep well": response(b"[" * 100_000 + b"]" * 100_000),
    "another alphabet": response(RIGHT.decode().encode("utf-16")),
    # Answers of another kind
    "a page": response(b"<html>Hello</html>", b"text/html"),
    "a page that says it is JSON": response(b"<html>Hello</html>"),
    "a page without a kind": answer(
        b"200 OK\nContent-Length: 18", b"<html>Hello</html>", json=False
    ),
    "a picture": response(b"\x89PNG\r\n\x1a\n" + bytes(20), b"image/png"),
    "a kind of noise": response(bytes(20), b"\xff\xfe/;;;==\x01"[:6]),
    "no events": response(b"", b"text/event-stream"),
    "events of noise": response(b"data: {\n\n", b"text/event-stream"),
    "events, cut": answer(
        b"200 OK\nContent-Type: text/event-stream\nContent-Length: 1000",
        b'data: {"response":"Hel"}\n\n',
        json=False,
    ),
    # Refusals
    "a page of a gateway": response(b"<html>oops</html>", b"text/html", b"502 Bad Gateway"),
    "a refusal of nothing": response(b"", b"", b"500 "),
    "a refusal of noise": response(b"\xff\xfe\x00", b"application/json", b"400 Bad"),
    "a status nobody knows": response(b"{}", b"application/json", b"999 What"),
    "a refusal without reasons": response(b'{"success":false}'),
    "reasons of a number": response(b'{"success":false,"errors":7}'),
    "reasons of nulls": response(b'{"success":false,"errors":[null,[],{}]}'),
    "reasons of objects": response(b'{"success":false,"errors":{"code":{},"message":[]}}'),
    "a code beyond all": response(b'{"success":false,"errors":[{"code":1e400,"message":7}]}'),
    "a negative code": response(b'{"success":false,"errors":[{"code":-1,"message":null}]}'),
    "a redirect to nowhere": response(b"", b"text/html", b"302 Found"),
}  # fmt: skip

BEARABLE = {"a text", "an unknown transfer", "NaN", "a huge number", "half a surrogate"}
"""Unusual, but complete: the first two are read as in a browser or curl, the others are a text."""


@pytest.mark.parametrize("call", [ask, stream])
@pytest.mark.parametrize("name", BROKEN)
async def test_broken_responses_raise_our_errors(
    fake: FakeWorkersAI, name: str, call: Callable[[WorkersAI], Any]
) -> None:
    """The error can be pickled, and no connection or task is left behind."""
    client = fake.client(limit=1, retries=NO_RETRIES, timeouts=Timeouts(response=5, idle=5))
    fake.says_raw(BROKEN[name], then_hangs_up=True)
    fake.always.hangs_up()  # An empty stream is requested once more, on another route.
    error: Any = (await asyncio.gather(call(client), return_exceptions=True))[0]
    if name in BEARABLE:
        assert isinstance(error, str)
    else:
        assert isinstance(error, CfaiError)
        assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301  # our own bytes
        assert len(str(error).encode()) < 2000, "short, and text that can be written anywhere"
    assert not isinstance(error, RequestTimeout)
    await fake.until(lambda: fake.connections == 0)
    fake.answers(OK)
    assert await ask(client) == "Hello"


@pytest.mark.parametrize("call", [ask, stream])
@pytest.mark.parametrize("name", ["half a head", "a length too large", "half a chunk"])
async def test_a_reset_is_a_lost_connection(
    fake: FakeWorkersAI, name: str, call: Callable[[WorkersAI], Any]
) -> None:
    """At any point of the response."""
    fake.says_raw(BROKEN[name], then_hangs_up="reset")
    with pytest.raises(ConnectionLost):
        await call(fake.client(retries=NO_RETRIES))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("nothing", ConnectionLost),
        ("half a head", ConnectionLost),
        ("a head and no more", ConnectionLost),
        ("a length too large", ConnectionLost),
        ("chunks without the last", ConnectionLost),
        ("half a chunk", ConnectionLost),
        ("a line", DecodeError),
        ("SSH", DecodeError),
        ("a huge header", DecodeError),
        ("ten thousand headers", DecodeError),
        ("gzip that is none", DecodeError),
        ("deflate that is none", DecodeError),
        ("half of JSON", DecodeError),
        ("an empty body", DecodeError),
        ("a page", DecodeError),
        ("a picture", DecodeError),
        ("a page of a gateway", ServerError),
        ("a refusal without reasons", StatusError),
        ("a redirect to nowhere", StatusError),
    ],
)
async def test_lost_connections_are_distinguished_from_invalid_responses(
    fake: FakeWorkersAI, name: str, kind: type[CfaiError]
) -> None:
    """Only a lost connection may be temporary."""
    fake.says_raw(BROKEN[name], then_hangs_up=True)
    with pytest.raises(kind) as caught:
        await ask(fake.client(retries=NO_RETRIES))
    assert str(caught.value)


async def test_a_stream_that_is_cut_off_keeps_its_part(fake: FakeWorkersAI) -> None:
    """It raises `StreamInterrupted`, and never looks complete."""
    fake.says_raw(BROKEN["events, cut"], then_hangs_up=True)
    with pytest.raises(StreamInterrupted) as caught:
        await stream(fake.client(retries=NO_RETRIES))
    assert caught.value.answer.text == "Hel"
    assert caught.value.events == 1


async def test_a_response_before_the_connection_closes(fake: FakeWorkersAI) -> None:
    """A complete response is valid even if its connection is not kept alive."""
    for how in (True, "reset"):
        fake.says(RIGHT, framing="length", then_hangs_up=how)
        assert await ask(fake.client(retries=NO_RETRIES)) == "Hello"
    fake.says_raw(answer(b"200 OK\nConnection: close", RIGHT), then_hangs_up=True)
    assert await ask(fake.client(retries=NO_RETRIES)) == "Hello"


async def test_an_extra_response_is_not_used_for_the_next_call(fake: FakeWorkersAI) -> None:
    """Bytes after a response are discarded."""
    wrong = response(RIGHT.replace(b"Hello", b"wrong"))
    fake.says_raw(response(RIGHT) + wrong)
    client = fake.client(retries=NO_RETRIES)
    assert await ask(client) == "Hello"
    fake.answers(OK)
    assert await ask(client) == "Hello"
    assert fake.accepted == 2


async def test_an_error_during_the_upload(fake: FakeWorkersAI) -> None:
    """A server may respond while the request is still being sent."""
    fake.says_raw(response(b"{}", status=b"413 Too Large"), then_hangs_up=True)
    with pytest.raises(StatusError) as caught:
        await fake.client(retries=NO_RETRIES).run(MODEL, {"prompt": "x" * 50_000})
    assert caught.value.status == 413


async def test_closed_keep_alive_connections_are_replaced(fake: FakeWorkersAI) -> None:
    """A server that closes idle connections causes no error."""
    client = fake.client()
    for how in (True, "reset"):
        fake.answers(OK)
        assert await ask(client) == "Hello"
        await fake.drops_connections(how)
    fake.answers(OK)
    assert await ask(client) == "Hello"


@pytest.mark.parametrize("url", ["http://nobody.invalid", "https://nobody.invalid"])
async def test_an_unknown_host_is_a_connect_error(fake: FakeWorkersAI, url: str) -> None:
    """The message contains the name of the host."""
    client = fake.client(base_url=url, allow_insecure=True, retries=NO_RETRIES)
    with pytest.raises(ConnectError, match=r"nobody\.invalid"):
        await ask(client)


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_failed_tls_is_a_connect_error(data: bytes) -> None:
    """Nothing was sent."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(data)
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with (
        server,
        WorkersAI(account_id="a", api_token="t", base_url=url, retries=NO_RETRIES) as client,
    ):
        with pytest.raises(ConnectError):
            await ask(client)


# Sizes and encodings


def json_of_size(size: int) -> bytes:
    """A JSON response of exactly so many bytes."""
    empty = b'{"result":{"response":""},"success":true}'
    return empty.replace(b'""', b'"%b"' % (b"a" * (size - len(empty))))


ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "identity": lambda body: body,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "deflate, raw": lambda body: zlib.compress(body)[2:-4],
}


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_max_answer_bytes(fake: FakeWorkersAI, encoding: str, framing: Any) -> None:
    """It counts decompressed bytes: a response of that size is read, one byte more is an error."""
    client = fake.client(max_answer_bytes=1000, limit=1)
    headers = {} if encoding == "identity" else {"Content-Encoding": encoding.partition(",")[0]}
    for size in (999, 1000):
        fake.says(ENCODINGS[encoding](json_of_size(size)), headers=headers, framing=framing)
        assert len(await ask(client)) == size - len(json_of_size(50)) + 9
    fake.says(ENCODINGS[encoding](json_of_size(1001)), headers=headers, framing=framing)
    with pytest.raises(AnswerTooLarge) as caught:
        await ask(client)
    assert caught.value.limit == 1000
    assert caught.value.body is None
    assert caught.value.meta is not None
    assert caught.value.meta.attempts == 1
    assert len(fake.requests) == 3


@pytest.mark.parametrize("status", [200, 500])
async def test_a_decompression_bomb_is_not_unpacked(fake: FakeWorkersAI, status: int) -> None:
    """A small response that decompresses to a huge one is dropped early."""
    bomb = gzip.compress(bytes(100 * 2**20), compresslevel=1)
    assert len(bomb) < 2**20
    fake.always.says(bomb, headers={"Content-Encoding": "gzip"}, status=status)
    client = fake.client(max_answer_bytes=2**20, retries=NO_RETRIES)
    tracemalloc.start()
    try:
        with pytest.raises(AnswerTooLarge):
            await ask(client)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 * 2**20
    await fake.until(lambda: fake.connections == 0)


async def test_an_endless_response_is_dropped(fake: FakeWorkersAI) -> None:
    """Reading stops at the limit, and the connection is closed."""
    fake.says(*[b"a" * 10_000] * 50, asyncio.Event(), framing="chunked")
    with pytest.raises(AnswerTooLarge):
        await ask(fake.client(max_answer_bytes=100_000))
    await fake.until(lambda: fake.connections == 0)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("size", [1000, 1_000_000])
@pytest.mark.parametrize("lost", [1, 9])
async def test_a_compressed_response_without_its_end(
    fake: FakeWorkersAI, encoding: str, size: int, lost: int
) -> None:
    """It is an error at once, also if the rest of it is decompressed after a pause.

    If only a part of the checksum is missing, it is an answer.
    """
    body = ENCODINGS[encoding](json_of_size(size))[:-lost]
    head = f"Content-Type: application/json\r\nContent-Encoding: {encoding}\r\n"
    # In one piece: aiohttp pauses in the middle of decompressing it.
    fake.says_raw(f"HTTP/1.1 200 OK\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    outcome = (await asyncio.gather(ask(fake.client(retries=NO_RETRIES)), return_exceptions=True))[
        0
    ]
    if isinstance(outcome, str):
        assert len(outcome) == size - len(json_of_size(50)) + 9
    else:
        assert isinstance(outcome, ConnectionLost | DecodeError)


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_a_compressed_response_in_chunks(fake: FakeWorkersAI, encoding: str) -> None:
    """However the bytes are split."""
    body = ENCODINGS[encoding](RIGHT)
    headers = {} if encoding == "identity" else {"Content-Encoding": encoding.partition(",")[0]}
    fake.says(*(body[i : i + 1] for i in range(len(body))), headers=headers, framing="chunked")
    assert await ask(fake.client()) == "Hello"


# Many at once


async def test_connections_never_exceed_the_limit(fake: FakeWorkersAI) -> None:
    """Five calls with a limit of two use two connections, and all are answered."""
    gates = [asyncio.Event() for _ in range(5)]
    for gate in gates:
        fake.answers(OK, after=gate)
    client = fake.client(limit=2)
    calls = [asyncio.create_task(ask(client)) for _ in gates]
    await fake.until(lambda: len(fake.requests) == 2)
    for done, gate in enumerate(gates, start=1):
        assert fake.connections == 2
        assert len(fake.requests) <= done + 1
        gate.set()
        await fake.until(lambda done=done: len(fake.requests) == min(done + 2, 5))  # type: ignore[misc]  # a default for the loop
    assert await asyncio.gather(*calls) == ["Hello"] * 5
    assert fake.accepted == 2


FREED: dict[str, Callable[[FakeWorkersAI], Any]] = {
    "an answer": lambda fake: fake.answers(OK),
    "a refusal": lambda fake: fake.fails(400, 5006, "no"),
    "no JSON": lambda fake: fake.says(b"{"),
    "a lost connection": lambda fake: fake.hangs_up(),
    "a cut answer": hang_up_inside,
    "no HTTP": lambda fake: fake.says_raw(b"x\r\n\r\n", then_hangs_up=True),
    "a stream": lambda fake: fake.streams("Hello"),
    "a stream that is cut": lambda fake: fake.streams("Hel", then_hangs_up=True),
    "a stream that refuses": lambda fake: fake.streams({"errors": [{"code": 3040}]}),
    "an empty stream": lambda fake: fake.says(b"", content_type="text/event-stream"),
}


@pytest.mark.parametrize("how", FREED)
async def test_every_call_frees_its_slot(fake: FakeWorkersAI, how: str) -> None:
    """However it ends; no slot is freed twice."""
    client = fake.client(limit=1, retries=NO_RETRIES, timeouts=Timeouts(pool=1))
    for _ in range(3):
        FREED[how](fake)
        with suppress(StatusError, DecodeError, ConnectionLost):
            answered = await client.run(MODEL, {"prompt": "Hello?"})
            if isinstance(answered, TokenStream):
                await answered.collect()
    go = asyncio.Event()
    fake.always.answers(OK, after=go)
    before = len(fake.requests)
    calls = [asyncio.create_task(ask(client)) for _ in range(2)]
    await fake.until(lambda: len(fake.requests) > before)
    assert len(fake.requests) == before + 1
    go.set()
    assert await asyncio.gather(*calls) == ["Hello"] * 2


async def test_a_stream_holds_its_slot_until_it_ends(fake: FakeWorkersAI) -> None:
    """Streams that were left, deleted or cancelled hold none."""
    client = fake.client(limit=1, timeouts=Timeouts(pool=0.02))
    for leave in ("close", "drop", "cancel"):
        fake.streams("Hel", asyncio.Event())
        tokens = await client.stream(MODEL, PROMPT).open()
        with pytest.raises(RequestTimeout) as caught:
            await ask(client)
        expect(caught, "pool", 0.02)
        if leave == "close":
            await tokens.aclose()
        elif leave == "cancel":
            tokens.cancel()
        del tokens
        fake.answers(OK)
        assert await ask(client) == "Hello"


async def test_many_concurrent_calls(fake: FakeWorkersAI) -> None:
    """Two hundred calls over twenty slots: each gets its own answer."""
    fake.always.answers_by(lambda request: {"response": request.json()["prompt"]})
    client = fake.client(limit=20)
    prompts = [Prompt(f"number {number}") for number in range(200)]
    answers = await asyncio.gather(*(client.run(MODEL, prompt) for prompt in prompts))
    assert [answer.text for answer in answers] == [prompt.prompt for prompt in prompts]
    assert fake.accepted <= 20


async def test_cancelling_half_of_many_calls(fake: FakeWorkersAI) -> None:
    """The others are answered, and the cancelled ones leave no task, connection or slot behind."""
    go = asyncio.Event()
    fake.always.answers(OK, after=go)
    client = fake.client(limit=20)
    before = asyncio.all_tasks()
    calls = [asyncio.create_task(ask(client)) for _ in range(100)]
    await fake.until(lambda: len(fake.requests) == 20)
    for call in calls[::2]:
        call.cancel()
    go.set()
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert ended[1::2] == ["Hello"] * 50
    assert all(isinstance(error, asyncio.CancelledError) for error in ended[::2])
    await fake.until(lambda: fake.connections <= 20)
    assert {
        task for task in asyncio.all_tasks() - before if "Connection" not in repr(task)
    } == set()
    again = [asyncio.create_task(ask(client)) for _ in range(20)]
    assert await asyncio.gather(*again) == ["Hello"] * 20
    await client.aclose()
    await fake.until(lambda: fake.connections == 0)


@asynccontextmanager
async def refuse_every_other(fake: FakeWorkersAI) -> AsyncIterator[list[int]]:
    """A server that refuses every other request, and counts its answers."""
    answered: list[int] = []
    for number in range(200):
        if number % 2:
            fake.answers({"response": str(number)})
            answered.append(number)
        else:
            fake.fails(503, 0, "down", headers={"retry-after-ms": "0"})
    yield answered


async def test_every_call_succeeds_once_despite_errors(fake: FakeWorkersAI) -> None:
    """No call fails, and none is answered twice."""
    async with refuse_every_other(fake) as answered:
        client = fake.client(limit=8, retries=Retries(max=100, base=0))
        texts = await asyncio.gather(*(ask(client) for _ in answered))
    assert sorted(int(text) for text in texts) == answered
    assert len(fake.requests) == 200


@pytest.mark.parametrize("call", ["run", "stream", "cancelled", "failed", "raw"])
async def test_nothing_is_kept_of_a_call_that_ended(fake: FakeWorkersAI, call: str) -> None:
    """A client that lives for months would keep all responses."""

    def responses() -> int:
        gc.collect()
        return sum(isinstance(each, aiohttp.ClientResponse) for each in gc.get_objects())

    async with fake.client(retries=Retries(max=0)) as ai:
        before = responses()
        for _ in range(5):
            match call:
                case "run":
                    fake.answers({"response": "x"})
                    await ai.run(MODEL, {"prompt": "x"})
                case "failed":
                    fake.fails(400, 5006, "no")
                    with pytest.raises(BadRequest):
                        await ai.run(MODEL, {"prompt": "x"})
                case "stream":
                    fake.streams("a", "b")
                    await ai.stream(MODEL, "x").collect()
                case "raw":
                    fake.streams("a", "b")
                    async for _event in ai.stream(MODEL, "x").events():
                        pass
                case _:
                    fake.streams("a", asyncio.Event())
                    async with ai.stream(MODEL, "x") as stream:
                        await anext(stream)
                    del stream
        await asyncio.sleep(0)
        assert responses() == before
