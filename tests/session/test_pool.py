"""Kept-alive connections that died or received bytes while they were idle."""

import asyncio
import gzip
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from cfai import Prompt, WorkersAI
from cfai.errors import ConnectionLost, DecodeError
from cfai.settings import Retries
from cfai.testing import FakeWorkersAI

MODEL = "@cf/meta/llama-3.1-8b-instruct-fast"
PROMPT = Prompt("Hello?")
NO_RETRIES = Retries(max=0)
RIGHT = b'{"result":{"response":"Hello"},"success":true}'
WRONG = b'{"result":{"response":"wrong"},"success":true}'


def response(body: bytes, status: bytes = b"200 OK") -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % (status, len(body)) + body


async def ask(client: WorkersAI) -> str:
    return (await client.run(MODEL, PROMPT)).text


async def stream(client: WorkersAI) -> str:
    return str(await client.stream(MODEL, PROMPT).collect())


# Bytes that nobody requested


LATE = {
    "a second answer": response(WRONG),
    "a 408 for the idle connection": response(b"", b"408 Request Timeout"),
    "half a head": response(WRONG)[:30],
    "a head without its body": response(WRONG)[: -len(WRONG)],
    "half a body": response(WRONG)[:-3],
    "a byte": b"H",
    "an interim answer": b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "what is no HTTP": b"\r\n\r\n\0",
}


@pytest.mark.parametrize("late", LATE)
async def test_late_bytes_are_nobodys_answer(fake: FakeWorkersAI, late: str) -> None:
    """A connection that got bytes while it was idle is not used again."""
    go = asyncio.Event()
    fake.says_raw(response(RIGHT), go, LATE[late])
    client = fake.client(retries=NO_RETRIES)
    assert await ask(client) == "Hello"
    go.set()
    first = fake.requests[0]
    await fake.until(lambda: first.answered.is_set() or first.gone.is_set())
    fake.always.answers({"response": "mine"})
    assert [await ask(client) for _ in range(2)] == ["mine"] * 2
    assert fake.accepted == 2


@pytest.mark.parametrize(
    "late", ["a second answer", "a 408 for the idle connection", "a head without its body"]
)
async def test_a_late_answer_is_nobodys_on_the_users_session(
    fake: FakeWorkersAI, late: str
) -> None:
    """Whose connector would take it for the answer to the next request."""
    go = asyncio.Event()
    fake.says_raw(response(RIGHT), go, LATE[late])
    async with aiohttp.ClientSession() as session:
        client = fake.client(retries=NO_RETRIES, session=session)
        assert await ask(client) == "Hello"
        go.set()
        first = fake.requests[0]
        await fake.until(lambda: first.answered.is_set() or first.gone.is_set())
        for _ in range(10):  # Until the event loop has read the bytes.
            await asyncio.sleep(0)
        fake.always.answers({"response": "mine"})
        assert [await ask(client) for _ in range(2)] == ["mine"] * 2
        assert fake.accepted == 2


@pytest.mark.parametrize("late", LATE)
async def test_late_bytes_that_were_not_read_yet(late: str) -> None:
    """Also if they are still in the kernel, because the event loop was busy."""
    busy, sent, answered = threading.Event(), threading.Event(), threading.Event()

    def serve(listener: socket.socket) -> None:
        first, _ = listener.accept()
        first.recv(2**16)
        first.sendall(response(RIGHT))
        busy.wait()
        first.sendall(LATE[late])
        sent.set()
        second, _ = listener.accept()
        second.recv(2**16)
        second.sendall(response(RIGHT.replace(b"Hello", b"mine")))
        answered.wait()
        first.close()
        second.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        async with WorkersAI(
            account_id="a", api_token="t", base_url=url, retries=NO_RETRIES
        ) as client:
            assert await ask(client) == "Hello"
            busy.set()
            sent.wait()  # This blocks the event loop.
            assert await ask(client) == "mine"
            answered.set()
        thread.join()


async def test_an_answer_behind_a_stream_is_nobodys(fake: FakeWorkersAI) -> None:
    """In the packet that ends the stream."""
    go = asyncio.Event()
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    event = b'data: {"response":"Hel"}\n\n'
    end = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
    fake.says_raw(head, b"%x\r\n%b\r\n" % (len(event), event), go, end + response(WRONG))
    client = fake.client(retries=NO_RETRIES)
    async with client.stream(MODEL, PROMPT) as tokens:
        assert str(await anext(tokens)) == "Hel"
        go.set()
        assert str(await tokens.collect()) == "Hel"
    fake.always.answers({"response": "mine"})
    assert await ask(client) == "mine"
    assert fake.accepted == 2


ANSWERS = {
    "with a length": response(RIGHT),
    "in chunks": (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(RIGHT), RIGHT)
    ),
    "compressed": response(gzip.compress(RIGHT)).replace(
        b"\r\n", b"\r\nContent-Encoding: gzip\r\n", 1
    ),
    "of a connection to close": response(RIGHT).replace(b"\r\n", b"\r\nConnection: close\r\n", 1),
}


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("behind", [*LATE.values(), b"GET / HTTP/1.1\r\n\r\n"])
@pytest.mark.parametrize("earlier", [0, 1])
async def test_bytes_behind_an_answer_do_not_spoil_it(
    fake: FakeWorkersAI, name: str, behind: bytes, earlier: int
) -> None:
    """In the same packet, on a new connection and on a reused one, and wherever it was cut."""
    answer = ANSWERS[name]
    client = fake.client(retries=NO_RETRIES)
    cuts = [*range(0, len(answer), 16), len(answer) - 1]
    for cut in cuts:
        for _ in range(earlier):
            fake.answers({"response": "earlier"})
            assert await ask(client) == "earlier"
        go = asyncio.Event()
        fake.says_raw(answer[:cut], go, answer[cut:] + behind)
        asking = asyncio.create_task(ask(client))
        await fake.until(lambda: len(fake.requests) > 0)
        for _ in range(10):  # Until the event loop has read the bytes.
            await asyncio.sleep(0)
        go.set()
        assert await asking == "Hello"
    assert fake.accepted == len(cuts)


async def test_clean_connections_are_reused(fake: FakeWorkersAI) -> None:
    """By calls and by streams that were read to their end."""
    client = fake.client(retries=NO_RETRIES)
    for _ in range(3):
        fake.answers({"response": "Hello"})
        assert await ask(client) == "Hello"
        fake.streams("Hello")
        assert await stream(client) == "Hello"
    assert fake.accepted == 1


# Dead connections


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    _, name, rest = head.lower().partition(b"content-length: ")
    return await reader.readexactly(int(rest.partition(b"\r\n")[0])) if name else b""


def reset(writer: asyncio.StreamWriter) -> None:
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()


def break_off(writer: asyncio.StreamWriter) -> None:
    writer.write(response(RIGHT)[:12])
    writer.close()


class Server:
    """It answers *together* calls, and then drops each of their connections at its next request."""

    def __init__(self, together: int, drop: Callable[[asyncio.StreamWriter], None]) -> None:
        self.together = asyncio.Barrier(together)
        self.drop = drop
        self.old = together
        self.accepted = 0
        self.dropped = 0
        self.url = ""
        self.drops_all = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        is_old = self.accepted <= self.old
        try:
            await read_request(reader)
            if is_old:
                await self.together.wait()
            elif self.drops_all:
                self.dropped += 1
                self.drop(writer)
                return
            writer.write(response(RIGHT))
            while True:
                await read_request(reader)
                if is_old:
                    self.dropped += 1
                    self.drop(writer)
                    return
                writer.write(response(RIGHT))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@pytest.fixture(params=["own", "the user's"])
async def session(request: pytest.FixtureRequest) -> AsyncIterator[aiohttp.ClientSession | None]:
    """What a client gets as its `session`."""
    if request.param == "own":
        yield None
    else:
        async with aiohttp.ClientSession() as users:
            yield users


@asynccontextmanager
async def pool_of(
    dead: int, drop: Callable[[asyncio.StreamWriter], None], **options: Any
) -> AsyncIterator[tuple[Server, WorkersAI]]:
    """A client with idle connections that the server drops at their next request."""
    it = Server(dead, drop)
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0)
    it.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with (
        server,
        WorkersAI(account_id="a", api_token="t", base_url=it.url, **options) as client,
    ):
        await asyncio.gather(*(ask(client) for _ in range(dead)))
        assert it.accepted == dead
        yield it, client


@pytest.mark.parametrize("drop", [reset, hang_up])
@pytest.mark.parametrize("retries", [NO_RETRIES, Retries()])
async def test_dead_connections_cost_no_attempt(
    drop: Callable[[asyncio.StreamWriter], None],
    retries: Retries,
    session: aiohttp.ClientSession | None,
) -> None:
    """The first that turns out to be dead is replaced by a new one; the others are not tried."""
    async with pool_of(8, drop, retries=retries, session=session) as (server, client):
        answer = await client.run(MODEL, PROMPT)
        assert (answer.text, answer.meta.attempts) == ("Hello", 1)
        assert (server.accepted, server.dropped) == (9, 1)
        await ask(client)
        assert server.accepted == 9


@pytest.mark.parametrize("drop", [reset, hang_up])
async def test_a_handshake_on_a_dead_connection_costs_no_attempt(
    drop: Callable[[asyncio.StreamWriter], None], session: aiohttp.ClientSession | None
) -> None:
    """The server answers it on a new connection, with what opens no socket."""
    async with pool_of(2, drop, retries=NO_RETRIES, session=session) as (server, client):
        with pytest.raises(DecodeError, match="expected a WebSocket"):
            async with client.listen("@cf/deepgram/flux", encoding="linear16", sample_rate=16000):
                pass
        assert (server.accepted, server.dropped) == (3, 1)


async def test_many_calls_at_once_on_dead_connections(
    session: aiohttp.ClientSession | None,
) -> None:
    """All are answered, without a retry."""
    async with pool_of(8, reset, retries=NO_RETRIES, session=session) as (_, client):
        answers = await asyncio.gather(*(client.run(MODEL, PROMPT) for _ in range(20)))
        assert {(answer.text, answer.meta.attempts) for answer in answers} == {("Hello", 1)}


async def test_the_users_connections_to_other_hosts_are_left_alone(fake: FakeWorkersAI) -> None:
    """They are neither taken for dead, nor closed."""
    async with aiohttp.ClientSession() as users:
        elsewhere = fake.client(session=users)
        fake.always.answers({"response": "Hello"})
        await ask(elsewhere)
        async with pool_of(1, reset, retries=Retries(max=1, base=0), session=users) as (it, client):
            assert await ask(client) == "Hello"
            assert (it.accepted, it.dropped) == (2, 1)
        async with pool_of(1, reset, retries=NO_RETRIES, session=users) as (it, client):
            it.drops_all = True
            with pytest.raises(ConnectionLost):
                await ask(client)  # Its own, and then a new one.
            with pytest.raises(ConnectionLost):
                await ask(client)  # A new one only.
            assert (it.accepted, it.dropped) == (3, 3)
        await ask(elsewhere)
    assert fake.accepted == 1


@pytest.mark.parametrize("size", [10, 3 * 2**20])
async def test_the_body_is_sent_again(size: int) -> None:
    """From its beginning, also if it is written in pieces."""
    bodies: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while body := await read_request(reader):
                bodies.append(len(body))
                if len(bodies) == 2:
                    reset(writer)
                    return
                writer.write(response(RIGHT))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with (
        server,
        WorkersAI(account_id="a", api_token="t", base_url=url, retries=NO_RETRIES) as client,
    ):
        for _ in range(2):
            await client.run(MODEL, {"prompt": "x" * size})
    assert len(set(bodies)) == 1
    assert len(bodies) == 3


async def test_a_new_connection_that_fails_costs_an_attempt(
    session: aiohttp.ClientSession | None,
) -> None:
    """So that a server that is down is not asked without end."""
    async with pool_of(2, hang_up, retries=Retries(max=2, base=0), session=session) as (
        server,
        client,
    ):
        server.drops_all = True
        with pytest.raises(ConnectionLost):
            await ask(client)
        assert (server.accepted, server.dropped) == (2 + 3, 1 + 3)


async def test_an_answer_that_began_costs_an_attempt() -> None:
    """Then the request has reached the service."""
    async with pool_of(2, break_off, retries=NO_RETRIES) as (server, client):
        with pytest.raises(ConnectionLost):
            await ask(client)
        assert (server.accepted, server.dropped) == (2, 1)


@pytest.mark.parametrize("drop", [reset, hang_up])
async def test_requests_that_are_not_repeatable_are_not_sent_again(
    drop: Callable[[asyncio.StreamWriter], None], session: aiohttp.ClientSession | None
) -> None:
    """Nobody knows whether they reached the service; the next call gets a new connection."""
    async with pool_of(4, drop, retries=Retries(max=2, base=0), session=session) as (
        server,
        client,
    ):
        with pytest.raises(ConnectionLost):
            await client.finetunes.create(MODEL, "name")
        assert (server.accepted, server.dropped) == (4, 1)
        assert await ask(client) == "Hello"
        assert (server.accepted, server.dropped) == (5, 1)


async def test_a_repeatable_form_is_sent_again(
    session: aiohttp.ClientSession | None,
) -> None:
    """From its beginning."""
    async with pool_of(4, reset, retries=NO_RETRIES, session=session) as (server, client):
        [result] = await client.to_markdown(("a.html", b"<p>" * 2**20))
        assert result.failed  # The server answers with a text, not with a conversion.
        assert (server.accepted, server.dropped) == (5, 1)
