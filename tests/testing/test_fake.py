"""The fake server, used through plain aiohttp and raw sockets."""

import asyncio
import gzip
import io
import json
import socket
from collections.abc import AsyncIterator
from typing import Any, Self

import aiohttp
import pytest

from cfai import BadRequest, CfaiError, Prompt, RateLimited, Retries
from cfai.testing import FakeCohere, FakeWorkersAI, Recorded, Reply, Service


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def url(fake: FakeWorkersAI, path: str = "/accounts/account/ai/run/@cf/a/b") -> str:
    return fake.base_url + path


async def post(fake: FakeWorkersAI, http: aiohttp.ClientSession, body: bytes = b"{}") -> bytes:
    async with http.post(url(fake), data=body) as response:
        return await response.read()


async def pieces(response: aiohttp.ClientResponse) -> list[bytes]:
    return [piece async for piece in response.content.iter_any()]


class Caller:
    """A client that writes and reads raw bytes."""

    def __init__(self, fake: FakeWorkersAI) -> None:
        self._port = fake.port

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._writer.close()

    def sends(self, data: bytes) -> None:
        self._writer.write(data)

    async def reads(self, size: int) -> bytes:
        return await self._reader.readexactly(size)

    async def reads_all(self) -> bytes:
        return await self._reader.read()


GET = b"GET /x?a=%2F&b HTTP/1.1\r\nHost: h\r\n\r\n"

# Bodies and framing


async def test_answers_sends_the_service_envelope(fake: FakeWorkersAI) -> None:
    """The envelope matches the service byte for byte."""
    fake.answers({"response": "Grüezi"})
    async with Caller(fake) as caller:
        caller.sends(GET)
        body = '{"result":{"response":"Grüezi"},"success":true,"errors":[],"messages":[]}'.encode()
        head = (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)
        )
        assert await caller.reads(len(head) + len(body)) == head + body


async def test_fails_sends_the_service_error_envelope(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """It has status, code, message and Retry-After."""
    fake.fails(429, 3040, "Capacity temporarily exceeded, please try again.", retry_after=1.5)
    async with http.post(url(fake)) as response:
        assert response.status == 429
        assert response.headers["Retry-After"] == "1.5"
        assert await response.json() == {
            "result": None,
            "success": False,
            "errors": [
                {"code": 3040, "message": "Capacity temporarily exceeded, please try again."}
            ],
            "messages": [],
        }


async def test_each_part_arrives_separately(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """A client on the same loop reads every part separately, with any framing."""
    for framing in ("chunked", "length", "close"):
        fake.says(b"one", "zwö", b"three", content_type="text/plain", framing=framing)
        async with http.get(url(fake)) as response:
            assert await pieces(response) == [b"one", "zwö".encode(), b"three"]


async def test_events_are_sent_chunked_as_an_event_stream(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """Other bytes are sent as JSON."""
    for first in (b"data: 1\n\n", b": keep-alive\n\n", b"\xef\xbb\xbfdata: 1\n\n", "id: 7\n\n"):
        fake.says(first)
        async with http.get(url(fake)) as response:
            assert response.content_type == "text/event-stream"
            assert response.headers["Transfer-Encoding"] == "chunked"
    fake.says(b"{}")
    async with http.get(url(fake)) as response:
        assert response.content_type == "application/json"
        assert response.headers["Content-Length"] == "2"


async def test_an_event_delays_the_rest_of_the_reply(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """The headers and the parts before the event arrive at once."""
    gate = asyncio.Event()
    fake.says(b"data: 1\n\n", gate, b"data: 2\n\n")
    async with http.get(url(fake)) as response:
        assert await response.content.readany() == b"data: 1\n\n"
        assert not fake.requests[0].answered.is_set()
        gate.set()
        assert await response.content.readany() == b"data: 2\n\n"
        assert await response.content.readany() == b""
    await fake.requests[0].answered.wait()


async def test_after_delays_the_whole_reply(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """The headers are delayed, too."""
    gate = asyncio.Event()
    fake.answers(1, after=gate)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(post(fake, http))
        await fake.until(lambda: len(fake.requests) == 1)
        assert not reading.done()
        gate.set()
    assert json.loads(reading.result())["result"] == 1


async def test_numbers_pause(fake: FakeWorkersAI, http: aiohttp.ClientSession) -> None:
    """Numbers work as parts and as `after`."""
    fake.says(b"1", 0.001, b"2", after=0.001)
    assert await post(fake, http) == b"12"


async def test_any_status_and_header_can_be_sent(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """Unknown statuses and the spelling of headers are kept."""
    fake.says(b"<html>", status=599, headers={"content-TYPE": "text/html", "cf-ray": "8-AMS"})
    async with http.get(url(fake)) as response:
        assert response.status == 599
        assert response.content_type == "text/html"
        assert response.headers["cf-ray"] == "8-AMS"
        assert (b"content-TYPE", b"text/html") in response.raw_headers


async def test_compressed_bodies_are_sent_unchanged(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """The fake does not compress or decompress."""
    fake.says(gzip.compress(b'{"a":1}'), headers={"Content-Encoding": "gzip"})
    assert await post(fake, http) == b'{"a":1}'


async def test_streams_sends_the_native_format(fake: FakeWorkersAI) -> None:
    """Each event and the end marker is one chunk."""
    fake.streams("Hel", {"response": "lo", "finish_reason": "stop"}, b": bye\n\n")
    async with Caller(fake) as caller:
        caller.sends(b"GET /x HTTP/1.0\r\n\r\n")
        _, _, body = (await caller.reads_all()).partition(b"\r\n\r\n")
    assert body == (
        b'1a\r\ndata: {"response":"Hel"}\n\n\r\n'
        b'30\r\ndata: {"response":"lo","finish_reason":"stop"}\n\n\r\n'
        b"7\r\n: bye\n\n\r\n"
        b"e\r\ndata: [DONE]\n\n\r\n"
        b"0\r\n\r\n"
    )


async def test_the_done_event_can_be_omitted(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """`done=False` completes the body without `[DONE]`."""
    fake.streams("Hel", done=False)
    assert await post(fake, http) == b'data: {"response":"Hel"}\n\n'


# Failures


async def test_a_body_can_be_truncated(fake: FakeWorkersAI, http: aiohttp.ClientSession) -> None:
    """With `then_hangs_up` the body is incomplete and the end marker is not sent."""
    fake.says(b'{"result":', then_hangs_up=True)
    fake.streams("Hel", then_hangs_up=True)
    fake.says(b"12345", headers={"Content-Length": "6"}, then_hangs_up=True)
    for arrived in (b'{"result":', b'data: {"response":"Hel"}\n\n', b"12345"):
        async with http.get(url(fake)) as response:
            assert await response.content.readany() == arrived
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.content.readany()


async def test_a_connection_can_be_reset_in_the_body(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """The client reads the bytes sent before the reset."""
    fake.says(b"data: 1\n\n", then_hangs_up="reset")
    async with http.get(url(fake)) as response:
        assert await response.content.readany() == b"data: 1\n\n"
        with pytest.raises(aiohttp.ClientError):
            await response.content.readany()


@pytest.mark.parametrize(("reset", "expected"), [(False, b""), (True, ConnectionResetError)])
async def test_hangs_up_closes_without_a_reply(
    fake: FakeWorkersAI, reset: bool, expected: Any
) -> None:
    """A FIN and an RST look different to the client."""
    fake.hangs_up(reset=reset)
    async with Caller(fake) as caller:
        caller.sends(GET)
        try:
            result: Any = await caller.reads_all()
        except ConnectionError as error:
            result = type(error)
    assert result == expected
    assert len(fake.requests) == 1


async def test_hangs_up_can_close_before_the_request_body(fake: FakeWorkersAI) -> None:
    """The request is recorded without its body."""
    fake.hangs_up(before_body=True)
    async with Caller(fake) as caller:
        caller.sends(b"POST /x HTTP/1.1\r\nContent-Length: 1000\r\n\r\n")
        assert await caller.reads_all() == b""
    assert fake.requests[0].body == b""


async def test_a_reply_can_precede_the_request_body(fake: FakeWorkersAI) -> None:
    """The reply is complete; the connection closes afterwards."""
    fake.replies(Reply((b"no",), status=413, framing="length", before_body=True))
    async with Caller(fake) as caller:
        caller.sends(b"POST /x HTTP/1.1\r\nContent-Length: 1000\r\n\r\n")
        assert (await caller.reads_all()).endswith(b"\r\n\r\nno")


async def test_raw_bytes_can_end_inside_the_headers(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """Raw bytes are the complete reply, valid HTTP or not."""
    fake.says_raw(b"HTTP/1.1 200 OK\r\nContent-Ty", then_hangs_up=True)
    fake.says_raw(b"220 smtp ready\r\n\r\n", then_hangs_up=True)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await post(fake, http)
    with pytest.raises(aiohttp.ClientResponseError):
        await post(fake, http)


async def test_stalls_waits_until_the_client_leaves(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """No byte is sent, and the fake detects that the client left."""
    fake.stalls()
    with pytest.raises(TimeoutError):
        await http.post(url(fake), timeout=aiohttp.ClientTimeout(total=0.05))
    await fake.requests[0].gone.wait()
    assert not fake.requests[0].answered.is_set()


async def test_a_wrong_content_length_is_sent_unchanged(fake: FakeWorkersAI) -> None:
    """A scripted Content-Length is not corrected."""
    fake.says(b"12345", headers={"content-length": "3"})
    async with Caller(fake) as caller:
        caller.sends(b"GET /x HTTP/1.0\r\n\r\n")
        answer = await caller.reads_all()
    assert answer.endswith(b"content-length: 3\r\n\r\n12345")
    assert b"Transfer-Encoding" not in answer


# Requests


async def test_requests_are_recorded_byte_for_byte(fake: FakeWorkersAI) -> None:
    """Target and body are raw; header names are case-insensitive."""
    fake.answers(None)
    async with Caller(fake) as caller:
        caller.sends(b"POST /a%2Fb/@cf?q=%2F&r= HTTP/1.1\r\nX-One: 1\r\nx-one:2\r\n")
        caller.sends(b"content-LENGTH: 7\r\n\r\n")
        caller.sends(b'{"a":')
        caller.sends(b"1}")
        await fake.until(lambda: fake.requests)
    request = fake.requests[0]
    assert (request.method, request.target) == ("POST", "/a%2Fb/@cf?q=%2F&r=")
    assert (request.path, request.query) == ("/a%2Fb/@cf", {"q": "/", "r": ""})
    assert request.headers["X-ONE"] == "1"
    assert request.headers.all("x-One") == ["1", "2"]
    assert "absent" not in request.headers
    assert dict(request.headers) == {"x-one": "1", "content-length": "7"}
    assert len(request.headers) == 2
    assert request.body == b'{"a":1}'
    assert request.json() == {"a": 1}


async def test_chunked_request_bodies_are_decoded(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """The recorded body does not contain the chunk framing."""

    async def upload() -> AsyncIterator[bytes]:
        yield b"abc"
        yield b"d" * 100_000

    fake.answers(None)
    async with http.post(url(fake), data=upload()):
        pass
    assert fake.requests[0].headers["transfer-encoding"] == "chunked"
    assert fake.requests[0].body == b"abc" + b"d" * 100_000


async def test_trailers_are_ignored(fake: FakeWorkersAI) -> None:
    """Chunk extensions and trailers do not affect the next request."""
    fake.always.says(b"ok")
    async with Caller(fake) as caller:
        caller.sends(b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        caller.sends(b"3;a=b\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n" + GET)
        await fake.until(lambda: len(fake.requests) == 2)
    assert [request.body for request in fake.requests] == [b"abc", b""]


async def test_expect_100_continue_is_answered(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """The body is read afterwards."""
    fake.answers(None)
    async with http.post(url(fake), data=b"abc", expect100=True):
        pass
    assert fake.requests[0].body == b"abc"


async def test_large_bodies_work_in_both_directions(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """Flow control works in both directions."""
    large = bytes(range(256)) * 40_000
    fake.answers_by(lambda request: Reply((request.body,), framing="length"))
    async with http.post(url(fake), data=io.BytesIO(large)) as response:
        assert await response.read() == large


async def test_a_reply_in_large_parts_waits_for_its_reader(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """Each part is written when the one before it has left the buffer."""
    part = bytes(range(256)) * 40_000
    fake.says(part, part, part, framing="length")
    async with http.post(url(fake), data=b"") as response:
        assert await response.read() == part * 3


async def test_a_malformed_request_is_raised_on_exit() -> None:
    """Bytes that are not HTTP close the connection."""
    with pytest.raises(ValueError, match="unpack"):
        async with FakeWorkersAI() as fake, Caller(fake) as caller:
            caller.sends(b"\x16\x03\x01\r\n\r\n")
            assert await caller.reads_all() == b""


@pytest.mark.parametrize(
    ("headers", "framing", "written"),
    [
        ({}, "chunked", b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"),
        (
            {"transfer-encoding": "gzip, chunked"},
            "length",
            b"\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
        ),
        ({"content-length": "3"}, "chunked", b"content-length: 3\r\n\r\nabc"),
        ({}, "length", b"Content-Length: 3\r\n\r\nabc"),
        ({}, "close", b"Connection: close\r\n\r\nabc"),
    ],
)
async def test_a_body_is_framed_as_its_headers_say(
    fake: FakeWorkersAI, headers: dict[str, str], framing: Any, written: bytes
) -> None:
    """Those of the script, or else the one that the framing adds; never both."""
    fake.says(b"a", "", "bc", headers=headers, framing=framing)
    async with Caller(fake) as caller:
        caller.sends(b"GET /x HTTP/1.0\r\n\r\n")
        received = await caller.reads_all()
    assert received.endswith(written)
    head = received.partition(b"\r\n\r\n")[0].lower()
    names = (b"content-length:", b"transfer-encoding:", b"connection:")
    assert sum(head.count(name) for name in names) == 1


# Connections


async def test_connections_are_reused_and_counted(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """Sequential requests share a connection."""
    fake.always.answers(None)
    for _ in range(3):
        await post(fake, http)
    assert (fake.accepted, fake.connections) == (1, 1)
    assert [request.connection for request in fake.requests] == [1, 1, 1]
    await http.close()
    await fake.until(lambda: fake.connections == 0)
    assert all(request.gone.is_set() for request in fake.requests)


@pytest.mark.parametrize(
    ("request_line", "reply", "stays"),
    [
        (b"GET /x HTTP/1.1\r\n", {}, True),
        (b"GET /x HTTP/1.1\r\nConnection: keep-alive\r\n", {}, True),
        (b"GET /x HTTP/1.1\r\nCONNECTION: Close\r\n", {}, False),
        (b"GET /x HTTP/1.0\r\n", {}, False),
        (b"GET /x HTTP/1.1\r\n", {"headers": {"connection": "close"}}, False),
        (b"GET /x HTTP/1.1\r\n", {"framing": "close"}, False),
        (b"GET /x HTTP/1.1\r\n", {"framing": "chunked"}, True),
    ],
)
async def test_either_side_may_close_a_connection_after_a_reply(
    fake: FakeWorkersAI, request_line: bytes, reply: Any, stays: bool
) -> None:
    """As HTTP says: RFC 9112, section 9.3."""
    fake.says(b"{}", **reply).says_raw(b"more", then_hangs_up=True)
    async with Caller(fake) as caller:
        caller.sends(request_line + b"Host: h\r\n\r\n")
        await fake.until(lambda: fake.requests and fake.requests[0].answered.is_set())
        caller.sends(GET)
        received = await caller.reads_all()
    assert received.endswith(b"more") is stays
    assert len(fake.requests) == 1 + stays


async def test_a_connection_can_close_after_a_complete_reply(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """The connection closes without a `Connection: close` header."""
    fake.says(b"{}", framing="length", then_hangs_up=True).answers(None)
    assert await post(fake, http) == b"{}"
    await fake.until(lambda: fake.connections == 0)
    await post(fake, http)
    assert fake.accepted == 2


async def test_drops_connections_closes_idle_ones(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """The connections are closed when it returns."""
    fake.always.answers(None)
    await post(fake, http)
    await fake.drops_connections("reset")
    assert fake.requests[0].gone.is_set()
    assert fake.connections == 0
    await post(fake, http)
    assert fake.accepted == 2


async def test_gone_is_set_when_the_client_leaves_a_stream(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """It is set while the reply is still waiting."""
    fake.streams("Hel", asyncio.Event(), "lo")
    response = await http.post(url(fake))
    await response.content.readany()
    response.close()
    await fake.requests[0].gone.wait()
    assert fake.connections == 0


async def test_closing_ends_pending_replies() -> None:
    """No task, socket or waiting client is left."""
    async with FakeWorkersAI() as fake:
        fake.stalls().streams("Hel", asyncio.Event()).says(b"x" * 50_000_000)
        async with Caller(fake) as first, Caller(fake) as second, Caller(fake) as third:
            for caller in (first, second, third):
                caller.sends(GET)
            await fake.until(lambda: len(fake.requests) == 3)
            await fake.aclose()
            assert await first.reads_all() == b""
        port = second._port
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    await fake.aclose()
    with pytest.raises(RuntimeError, match="inside its `with`"):
        _ = fake.base_url


async def test_until_times_out(fake: FakeWorkersAI) -> None:
    """The error reports the current counts."""
    with pytest.raises(TimeoutError, match="0 open connections, 0 requests"):
        await fake.until(lambda: fake.accepted, within=0.01)


async def test_until_also_waits_for_the_state_of_the_app(fake: FakeWorkersAI) -> None:
    """Which changes without any request."""
    done: list[int] = []
    asyncio.get_running_loop().call_later(0.01, done.append, 1)
    await fake.until(lambda: done)
    assert not fake.requests


# Scripts


async def test_replies_are_sent_in_order_then_the_default(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """The last default wins."""
    fake.says(b"1").says(b"2")
    fake.always.says(b"x").says(b"3")
    assert fake.pending == 2
    assert [await post(fake, http) for _ in range(4)] == [b"1", b"2", b"3", b"3"]


async def test_an_unscripted_request_gets_an_error_that_names_it(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """Its code is not one of the service's."""
    fake.answers(None)
    await post(fake, http)
    async with http.post(url(fake, "/x?y")) as response:
        assert response.status == 500
        assert (await response.json())["errors"] == [
            {"code": 90002, "message": "nothing scripted for request 2: POST /client/v4/x?y"}
        ]


async def test_routes_have_their_own_scripts(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """A route takes precedence until its replies are used up."""
    fake.on("/models/").says(b"route")
    fake.always.says(b"fake")
    bodies = []
    for path in ("/ai/run/x", "/ai/models/search", "/ai/models/search"):
        async with http.get(url(fake, path)) as response:
            bodies.append(await response.read())
    assert bodies == [b"fake", b"route", b"fake"]
    assert fake.on("/models/") is fake.on("/models/")


async def test_answers_by_computes_the_result(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """The function receives the complete request."""

    def shout(request: Recorded) -> dict[str, str]:
        return {"response": request.body.decode().upper()}

    fake.always.answers_by(shout)
    assert json.loads(await post(fake, http, b"hi"))["result"] == {"response": "HI"}


async def test_an_exception_in_a_scripted_function_is_raised_on_exit(
    http: aiohttp.ClientSession,
) -> None:
    """The client gets an error response."""
    with pytest.raises(ZeroDivisionError):
        async with FakeWorkersAI() as fake:
            fake.answers_by(lambda request: 1 / 0)
            assert b"ZeroDivisionError" in await post(fake, http)


# The simulated service


@pytest.mark.parametrize("most", [1, 100])
async def test_the_simulated_service_limits_the_texts_of_a_request(
    fake: FakeWorkersAI, most: int
) -> None:
    """With code 5006, and no vector is computed."""
    service = fake.simulates(Service(most_texts=most))
    ai = fake.client(retries=Retries(max=0))
    model = "@cf/a/b"
    assert len(await ai.embed(model, ["text"] * most)) == most
    with pytest.raises(BadRequest, match=f"at most {most} texts?") as caught:
        await ai.embed(model, ["text"] * (most + 1))
    assert caught.value.code == 5006
    assert service.counters.texts == most


async def test_the_simulated_service_limits_the_rate(fake: FakeWorkersAI) -> None:
    """A burst is answered; then the rate counts. Time refills no more than the burst."""
    service = fake.simulates(Service(per_second=1e-6, burst=2))
    ai = fake.client(retries=Retries(max=0))
    for _ in range(2):
        await ai.embed("@cf/a/b", ["text"])
    with pytest.raises(RateLimited) as caught:
        await ai.embed("@cf/a/b", ["text"])
    assert caught.value.code == 10429
    assert service.counters.refusals == 1


@pytest.mark.parametrize(("size", "status"), [(9_999_999, 200), (10_000_000, 413)])
async def test_the_simulated_service_limits_the_bytes_of_a_batch(
    fake: FakeWorkersAI, http: aiohttp.ClientSession, size: int, status: int
) -> None:
    """Less than 10 MB. Source: Cloudflare docs, Workers AI, "Asynchronous Batch API"."""
    fake.simulates(Service())
    body = b'{"requests":[{"text":["a"],"external_reference":"1"}]}'
    data = io.BytesIO(body.ljust(size))
    async with http.post(f"{url(fake)}?queueRequest=true", data=data) as response:
        assert response.status == status


# The fake of Cohere


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"null",
        b"{}",
        b'{"name":"a"}',
        b'{"name":"a","settings":[]}',
        b'{"name":"a","settings":{"dataset_id":"d"}}',
        b'{"name":"a","settings":{"dataset_id":"d","base_model":{}}}',
        b'{"name":"","settings":{"dataset_id":"d","base_model":{"base_type":"b"}}}',
        b'{"name":"a","settings":{"dataset_id":1,"base_model":{"base_type":"b"}}}',
    ],
)
async def test_the_fake_of_cohere_refuses_invalid_models(
    http: aiohttp.ClientSession, body: bytes
) -> None:
    async with FakeCohere() as cohere:
        url = f"{cohere.base_url}/v1/finetuning/finetuned-models"
        headers = {"Authorization": "Bearer any"}
        async with http.post(url, data=body, headers=headers) as response:
            assert response.status == 400
            assert (await response.json())["message"]
        assert not cohere.models


# Clients


async def test_clients_are_closed_with_the_fake() -> None:
    """They have fake credentials by default."""
    async with FakeWorkersAI() as fake:
        fake.always.answers({"response": "Hello"})
        client = fake.client(account_id="mine")
        answer = await client.run("@cf/a/b", Prompt("Hi"))
        assert answer.text == "Hello"
        assert fake.requests[0].target == "/client/v4/accounts/mine/ai/run/@cf/a/b"
        assert fake.requests[0].headers["authorization"] == "Bearer fake-api-token"
        assert fake.connections == 1
    assert fake.connections == 0
    with pytest.raises(CfaiError):
        await client.run("@cf/a/b", Prompt("Hi"))


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/nothing"), ("PUT", "/events"), ("GET", "/a/b/c")]
)
async def test_the_fake_of_cohere_has_no_other_paths(
    http: aiohttp.ClientSession, method: str, path: str
) -> None:
    async with FakeCohere() as cohere:
        root = f"{cohere.base_url}/v1/finetuning/finetuned-models"
        headers = {"Authorization": "Bearer any"}
        settings = {"dataset_id": "d", "base_model": {"base_type": "BASE_TYPE_CHAT"}}
        body = {"name": "a", "settings": settings}
        async with http.post(root, json=body, headers=headers) as response:
            assert response.status == 200, await response.text()
        (model_id,) = cohere.models
        async with http.request(method, f"{root}/{model_id}{path}", headers=headers) as response:
            assert response.status == 404
            assert "not found" in (await response.json())["message"]
