"""The fake, seen by clients that are not ours: plain aiohttp and a raw socket."""

import asyncio
import gzip
import io
import json
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest

from cfai import CfaiError, Prompt
from cfai.testing import FakeWorkersAI, Recorded, Reply


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
    """A client that writes bytes and reads bytes."""

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

# Literal bytes and their framing...


async def test_the_envelope_is_the_services(fake: FakeWorkersAI) -> None:
    """`answers` writes what the service writes around a result, byte for byte."""
    fake.answers({"response": "Grüezi"})
    async with Caller(fake) as caller:
        caller.sends(GET)
        body = '{"result":{"response":"Grüezi"},"success":true,"errors":[],"messages":[]}'.encode()
        head = (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)
        )
        assert await caller.reads(len(head) + len(body)) == head + body


async def test_a_failure_has_the_services_form(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """`fails` writes status, code, message and the time to wait."""
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


async def test_parts_are_read_one_by_one(fake: FakeWorkersAI, http: aiohttp.ClientSession) -> None:
    """A client on the same loop sees every part by itself, in whatever framing."""
    for framing in ("chunked", "length", "close"):
        fake.says(b"one", "zwö", b"three", content_type="text/plain", framing=framing)
        async with http.get(url(fake)) as response:
            assert await pieces(response) == [b"one", "zwö".encode(), b"three"]


async def test_events_are_chunked_and_typed(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """Bytes that begin like events are sent as an event stream; others as JSON."""
    for first in (b"data: 1\n\n", b": keep-alive\n\n", b"\xef\xbb\xbfdata: 1\n\n", "id: 7\n\n"):
        fake.says(first)
        async with http.get(url(fake)) as response:
            assert response.content_type == "text/event-stream"
            assert response.headers["Transfer-Encoding"] == "chunked"
    fake.says(b"{}")
    async with http.get(url(fake)) as response:
        assert response.content_type == "application/json"
        assert response.headers["Content-Length"] == "2"


async def test_a_part_waits_for_its_event(fake: FakeWorkersAI, http: aiohttp.ClientSession) -> None:
    """An event holds the rest of the reply back until it is set; the head is already there."""
    gate = asyncio.Event()
    fake.says(b"data: 1\n\n", gate, b"data: 2\n\n")
    async with http.get(url(fake)) as response:
        assert await response.content.readany() == b"data: 1\n\n"
        assert not fake.requests[0].answered.is_set()
        gate.set()
        assert await response.content.readany() == b"data: 2\n\n"
        assert await response.content.readany() == b""
    await fake.requests[0].answered.wait()


async def test_a_reply_waits_for_its_event(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """`after` holds back the head too."""
    gate = asyncio.Event()
    fake.answers(1, after=gate)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(post(fake, http))
        await fake.until(lambda: len(fake.requests) == 1)
        assert not reading.done()
        gate.set()
    assert json.loads(reading.result())["result"] == 1


async def test_seconds_are_a_pause(fake: FakeWorkersAI, http: aiohttp.ClientSession) -> None:
    """A number among the parts, or as `after`, is a pause."""
    fake.says(b"1", 0.001, b"2", after=0.001)
    assert await post(fake, http) == b"12"


async def test_status_and_headers_are_free(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """Any status, known or not, and any header, in its own spelling."""
    fake.says(b"<html>", status=599, headers={"content-TYPE": "text/html", "cf-ray": "8-AMS"})
    async with http.get(url(fake)) as response:
        assert response.status == 599
        assert response.content_type == "text/html"
        assert response.headers["cf-ray"] == "8-AMS"
        assert (b"content-TYPE", b"text/html") in response.raw_headers


async def test_compressed_bodies_are_sent_as_given(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """The script compresses; the fake only sends."""
    fake.says(gzip.compress(b'{"a":1}'), headers={"Content-Encoding": "gzip"})
    assert await post(fake, http) == b'{"a":1}'


async def test_streams_speak_the_native_form(fake: FakeWorkersAI) -> None:
    """Texts, events and the end marker, each in a chunk of its own."""
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


async def test_the_last_event_can_be_left_off(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """`done=False` ends the body in order, without its end marker."""
    fake.streams("Hel", done=False)
    assert await post(fake, http) == b'data: {"response":"Hel"}\n\n'


# Faults...


async def test_a_body_can_be_cut(fake: FakeWorkersAI, http: aiohttp.ClientSession) -> None:
    """A reply that hangs up is never a complete body, and never gets its end marker."""
    fake.says(b'{"result":', then_hangs_up=True)
    fake.streams("Hel", then_hangs_up=True)
    fake.says(b"12345", headers={"Content-Length": "6"}, then_hangs_up=True)
    for arrived in (b'{"result":', b'data: {"response":"Hel"}\n\n', b"12345"):
        async with http.get(url(fake)) as response:
            assert await response.content.readany() == arrived
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.content.readany()


async def test_a_body_can_be_broken_off(fake: FakeWorkersAI, http: aiohttp.ClientSession) -> None:
    """`"reset"` is seen as a broken connection, after the bytes that were sent."""
    fake.says(b"data: 1\n\n", then_hangs_up="reset")
    async with http.get(url(fake)) as response:
        assert await response.content.readany() == b"data: 1\n\n"
        with pytest.raises(aiohttp.ClientError):
            await response.content.readany()


@pytest.mark.parametrize(("reset", "seen"), [(False, b""), (True, ConnectionResetError)])
async def test_it_hangs_up_before_an_answer(fake: FakeWorkersAI, reset: bool, seen: Any) -> None:
    """An orderly end and a broken connection are different things on the socket."""
    fake.hangs_up(reset=reset)
    async with Caller(fake) as caller:
        caller.sends(GET)
        try:
            got: Any = await caller.reads_all()
        except ConnectionError as error:
            got = type(error)
    assert got == seen
    assert len(fake.requests) == 1


async def test_it_hangs_up_before_the_body_is_in(fake: FakeWorkersAI) -> None:
    """The head is enough to be refused; the request is recorded without its body."""
    fake.hangs_up(before_body=True)
    async with Caller(fake) as caller:
        caller.sends(b"POST /x HTTP/1.1\r\nContent-Length: 1000\r\n\r\n")
        assert await caller.reads_all() == b""
    assert fake.requests[0].body == b""


async def test_it_answers_before_the_body_is_in(fake: FakeWorkersAI) -> None:
    """An early refusal is a whole answer; the connection can't be used after it."""
    fake.replies(Reply((b"no",), status=413, framing="length", before_body=True))
    async with Caller(fake) as caller:
        caller.sends(b"POST /x HTTP/1.1\r\nContent-Length: 1000\r\n\r\n")
        assert (await caller.reads_all()).endswith(b"\r\n\r\nno")


async def test_it_hangs_up_inside_the_headers(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """Raw bytes are the whole reply: half a head, or none that anyone can read."""
    fake.says_raw(b"HTTP/1.1 200 OK\r\nContent-Ty", then_hangs_up=True)
    fake.says_raw(b"220 smtp ready\r\n\r\n", then_hangs_up=True)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await post(fake, http)
    with pytest.raises(aiohttp.ClientResponseError):
        await post(fake, http)


async def test_it_stalls_until_the_client_leaves(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """Not a byte is sent, and the fake hears of the client's end without being told."""
    fake.stalls()
    with pytest.raises(TimeoutError):
        await http.post(url(fake), timeout=aiohttp.ClientTimeout(total=0.05))
    await fake.requests[0].gone.wait()
    assert not fake.requests[0].answered.is_set()


async def test_a_wrong_length_is_believed(fake: FakeWorkersAI) -> None:
    """A Content-Length in the script goes out as it is, whatever follows."""
    fake.says(b"12345", headers={"content-length": "3"})
    async with Caller(fake) as caller:
        caller.sends(b"GET /x HTTP/1.0\r\n\r\n")
        answer = await caller.reads_all()
    assert answer.endswith(b"content-length: 3\r\n\r\n12345")
    assert b"Transfer-Encoding" not in answer


# Requests...


async def test_requests_are_recorded_as_they_were(fake: FakeWorkersAI) -> None:
    """Target and body are the bytes of the wire; header names are compared without case."""
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


async def test_chunked_requests_are_put_together(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """The body of a chunked upload is recorded without its chunks."""

    async def upload() -> AsyncIterator[bytes]:
        yield b"abc"
        yield b"d" * 100_000

    fake.answers(None)
    async with http.post(url(fake), data=upload()):
        pass
    assert fake.requests[0].headers["transfer-encoding"] == "chunked"
    assert fake.requests[0].body == b"abc" + b"d" * 100_000


async def test_trailers_are_read_over(fake: FakeWorkersAI) -> None:
    """Chunk extensions and trailers don't disturb the next request."""
    fake.always.says(b"ok")
    async with Caller(fake) as caller:
        caller.sends(b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        caller.sends(b"3;a=b\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n" + GET)
        await fake.until(lambda: len(fake.requests) == 2)
    assert [request.body for request in fake.requests] == [b"abc", b""]


async def test_a_client_may_ask_before_it_sends(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """`Expect: 100-continue` is granted."""
    fake.answers(None)
    async with http.post(url(fake), data=b"abc", expect100=True):
        pass
    assert fake.requests[0].body == b"abc"


async def test_large_bodies_pass_both_ways(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """Flow control works in both directions."""
    large = bytes(range(256)) * 40_000
    fake.answers_by(lambda request: Reply((request.body,), framing="length"))
    async with http.post(url(fake), data=io.BytesIO(large)) as response:
        assert await response.read() == large


async def test_an_unreadable_request_is_not_hidden() -> None:
    """What is not HTTP closes the connection, and is raised when the fake closes."""
    with pytest.raises(ValueError, match="unpack"):
        async with FakeWorkersAI() as fake, Caller(fake) as caller:
            caller.sends(b"\x16\x03\x01\r\n\r\n")
            assert await caller.reads_all() == b""


# Connections...


async def test_connections_are_kept_and_counted(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """Requests one after the other share a connection."""
    fake.always.answers(None)
    for _ in range(3):
        await post(fake, http)
    assert (fake.accepted, fake.connections) == (1, 1)
    assert [request.connection for request in fake.requests] == [1, 1, 1]
    await http.close()
    await fake.until(lambda: fake.connections == 0)
    assert all(request.gone.is_set() for request in fake.requests)


async def test_a_connection_can_go_behind_a_whole_answer(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """An answer that is complete, on a connection that is not kept, without a word about it."""
    fake.says(b"{}", framing="length", then_hangs_up=True).answers(None)
    assert await post(fake, http) == b"{}"
    await fake.until(lambda: fake.connections == 0)
    await post(fake, http)
    assert fake.accepted == 2


async def test_idle_connections_can_be_dropped(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """`drops_connections` acts at once, on whatever is open."""
    fake.always.answers(None)
    await post(fake, http)
    await fake.drops_connections("reset")
    assert fake.requests[0].gone.is_set()
    assert fake.connections == 0
    await post(fake, http)
    assert fake.accepted == 2


async def test_a_client_that_leaves_a_stream_is_noticed(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """`gone` is set while the reply still waits."""
    fake.streams("Hel", asyncio.Event(), "lo")
    response = await http.post(url(fake))
    await response.content.readany()
    response.close()
    await fake.requests[0].gone.wait()
    assert fake.connections == 0


async def test_closing_ends_what_still_waits() -> None:
    """A fake that closes leaves no task, no socket and no client waiting."""
    async with FakeWorkersAI() as fake:
        fake.stalls().streams("Hel", asyncio.Event()).says(b"x" * 50_000_000)
        async with Caller(fake) as one, Caller(fake) as two, Caller(fake) as three:
            for caller in (one, two, three):
                caller.sends(GET)
            await fake.until(lambda: len(fake.requests) == 3)
            await fake.aclose()
            assert await one.reads_all() == b""
        port = two._port
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    await fake.aclose()
    with pytest.raises(RuntimeError, match="async with"):
        _ = fake.base_url


async def test_waiting_has_an_end(fake: FakeWorkersAI) -> None:
    """What doesn't come to pass says what had."""
    with pytest.raises(TimeoutError, match="0 connections open, 0 requests in"):
        await fake.until(lambda: fake.accepted, within=0.01)


# Scripts...


async def test_replies_come_in_order_then_the_default(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """The queue first, then what is always said; the last default counts."""
    fake.says(b"1").says(b"2")
    fake.always.says(b"x").says(b"3")
    assert fake.pending == 2
    assert [await post(fake, http) for _ in range(4)] == [b"1", b"2", b"3", b"3"]


async def test_what_is_not_scripted_says_so(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """An answer that can't be mistaken for the service's, naming the request."""
    fake.answers(None)
    await post(fake, http)
    async with http.post(url(fake, "/x?y")) as response:
        assert response.status == 500
        assert (await response.json())["errors"] == [
            {"code": 90002, "message": "nothing scripted for request 2: POST /client/v4/x?y"}
        ]


async def test_routes_have_scripts_of_their_own(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """A route is asked first; with nothing left, the fake's own script answers."""
    fake.on("/models/").says(b"route")
    fake.always.says(b"fake")
    seen = []
    for path in ("/ai/run/x", "/ai/models/search", "/ai/models/search"):
        async with http.get(url(fake, path)) as response:
            seen.append(await response.read())
    assert seen == [b"fake", b"route", b"fake"]
    assert fake.on("/models/") is fake.on("/models/")


async def test_answers_can_be_computed(fake: FakeWorkersAI, http: aiohttp.ClientSession) -> None:
    """A function of the whole request makes the result."""

    def shout(request: Recorded) -> dict[str, str]:
        return {"response": request.body.decode().upper()}

    fake.always.answers_by(shout)
    assert json.loads(await post(fake, http, b"hi"))["result"] == {"response": "HI"}


async def test_a_script_that_raises_is_heard(http: aiohttp.ClientSession) -> None:
    """The client gets an answer, and the test gets the exception."""
    with pytest.raises(ZeroDivisionError):
        async with FakeWorkersAI() as fake:
            fake.answers_by(lambda request: 1 / 0)
            assert b"ZeroDivisionError" in await post(fake, http)


# The clients it hands out...


async def test_its_clients_are_real_and_closed_with_it() -> None:
    """A client has made-up credentials and this server, unless told otherwise; it ends with it."""
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


# The fixture...


@pytest.mark.parametrize(
    ("mode", "marker"),
    [("strict", "asyncio"), ("auto", "asyncio"), ("strict", "anyio")],
)
def test_the_fixture_works_with_the_plugins_people_use(
    tmp_path: Path, mode: str, marker: str
) -> None:
    """pytest-asyncio in either mode, and anyio, which aiohttp's users often have."""
    pytest.importorskip(marker if marker == "anyio" else "pytest_asyncio")
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["cfai.testing.plugin"]\n')
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent(f"""
            import asyncio, pytest

            @pytest.fixture
            def anyio_backend():
                return "asyncio"

            @pytest.mark.{marker}
            async def test_it(fake_workers_ai):
                fake_workers_ai.stalls()
                _, writer = await asyncio.open_connection("127.0.0.1", fake_workers_ai.port)
                writer.write(b"GET / HTTP/1.1\\r\\n\\r\\n")
                await fake_workers_ai.until(lambda: fake_workers_ai.requests)
                writer.close()
        """)
    )
    loops = "asyncio_default_fixture_loop_scope=function"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    command += ["-o", f"asyncio_mode={mode}", "-o", loops, "--rootdir", str(tmp_path)]
    run = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True)
    assert "1 passed" in run.stdout, run.stdout + run.stderr


def test_the_fake_needs_no_pytest() -> None:
    """`cfai.testing` is for any test framework; only its plugin imports pytest."""
    code = "import sys, cfai.testing; assert 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
