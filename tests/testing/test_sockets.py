"""The WebSockets of the fake, used by clients of other makers and with literal bytes."""

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from cfai.testing import FakeSocket, FakeWorkersAI
from cfai.testing._recorded import HangUp
from cfai.testing._sockets import TEXT, accept_key, encode_frame

LISTEN = {"encoding": "linear16", "sample_rate": 16000}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as http:
        yield http


def test_the_key_and_the_frame_of_the_standard() -> None:
    """RFC 6455, sections 1.3 and 5.7."""
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert encode_frame(TEXT, b"Hello") == b"\x81\x05Hello"
    assert encode_frame(TEXT, b"Hel", final=False) == b"\x01\x03Hel"
    assert encode_frame(2, bytes(256))[:4] == b"\x82\x7e\x01\x00"
    assert encode_frame(2, bytes(65536))[:10] == b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, "8200"),
        (125, "827d"),
        (126, "827e 007e"),
        (65_535, "827e ffff"),
        (65_536, "827f 0000000000010000"),
    ],
)
def test_a_size_has_the_shortest_form(size: int, head: str) -> None:
    """RFC 6455, section 5.2."""
    assert encode_frame(2, bytes(size)) == bytes.fromhex(head) + bytes(size)


async def test_frames_of_all_sizes_are_read(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    """Those of another client, which masks them."""
    messages = [bytes([7, 8, 9, *range(250)] * 300)[:size] for size in SIZES]
    fake.connects()
    async with http.ws_connect(f"{fake.origin}/x") as socket:
        for message in messages:
            await socket.send_bytes(message)
        await socket.send_str('{"type": "größe"}')
        await fake.until(lambda: len(fake.sockets[0].messages) > len(messages))
    assert fake.sockets[0].messages == [*messages, '{"type": "größe"}']
    assert fake.sockets[0].audio == b"".join(messages)


SIZES = [0, 1, 3, 4, 5, 125, 126, 127, 65_535, 65_536, 70_000]
HANDSHAKE = (
    b"GET /x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.mark.parametrize(
    ("sent", "code", "answer"),
    [("8880 00000000", 1005, "8800"), ("8882 00000000 0bb8", 3000, "8802 0bb8")],
    ids=["without a code", "with a code"],
)
async def test_a_close_frame_is_answered(
    fake: FakeWorkersAI, sent: str, code: int, answer: str
) -> None:
    """By the same code, and then nothing more is received."""
    fake.connects()
    reader, writer = await asyncio.open_connection("127.0.0.1", fake.port)
    writer.write(HANDSHAKE + bytes.fromhex(sent))
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head
    assert await reader.read() == bytes.fromhex(answer)
    assert fake.sockets[0].close_code == code
    assert fake.sockets[0].messages == []
    writer.close()


@pytest.mark.parametrize("frame", ["8103 616263", "0183 00000000 616263"], ids=["bare", "part"])
async def test_frames_that_are_not_masked_or_whole_fail_the_test(frame: str) -> None:
    with pytest.raises(ValueError, match="must be masked, and not be fragmented"):
        async with FakeWorkersAI() as fake:
            fake.connects()
            reader, writer = await asyncio.open_connection("127.0.0.1", fake.port)
            writer.write(HANDSHAKE + bytes.fromhex(frame))
            await reader.read()
            writer.close()


@pytest.mark.parametrize("how", [True, "reset"])
async def test_hanging_up_does_not_wait_for_the_end_of_the_script(
    fake: FakeWorkersAI, http: aiohttp.ClientSession, how: HangUp
) -> None:
    noticed = asyncio.Event()

    async def talk(socket: FakeSocket) -> None:
        await socket.send("hello")
        socket.hang_up(how)
        await noticed.wait()

    fake.connects_by(talk)
    async with http.ws_connect(f"{fake.origin}/x") as socket:
        assert (await socket.receive()).data == "hello"
        assert (await socket.receive(30)).type in (
            aiohttp.WSMsgType.CLOSE,
            aiohttp.WSMsgType.CLOSED,
            aiohttp.WSMsgType.ERROR,
        )
    noticed.set()


async def test_a_script_and_what_the_client_sent(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    goes_on = asyncio.Event()
    fake.connects({"a": "é"}, "text", b"\x00", goes_on, 0.0, "more", at_end=[b"end"], close=4001)
    async with http.ws_connect(f"{fake.origin}/x") as socket:
        assert (await socket.receive()).data == '{"a": "\\u00e9"}'
        assert (await socket.receive()).data == "text"
        assert (await socket.receive()).data == b"\x00"
        goes_on.set()
        assert (await socket.receive()).data == "more"
        await socket.send_bytes(b"sound")
        await socket.send_str('{"type":"Close"}')
        assert (await socket.receive()).data == b"end"
        assert (await socket.receive()).data == 4001
    (seen,) = fake.sockets
    assert seen.request is fake.requests[0]
    assert seen.messages == [b"sound", '{"type":"Close"}']
    assert (seen.audio, seen.texts) == (b"sound", [{"type": "Close"}])
    await fake.until(lambda: seen.close_code is not None)


async def test_pings_and_pongs(fake: FakeWorkersAI, http: aiohttp.ClientSession) -> None:
    async def talk(socket: FakeSocket) -> None:
        await socket.ping(b"a")
        while await socket.receive() is not None:
            pass

    fake.connects_by(talk)
    async with http.ws_connect(f"{fake.origin}/x", autoping=False) as socket:
        assert (await socket.receive()).type is aiohttp.WSMsgType.PING
        await socket.pong(b"a")
        await socket.ping(b"b")
        assert (await socket.receive()).data == b"b"
    await fake.until(lambda: fake.sockets[0].close_code == 1000)
    assert (fake.sockets[0].pings, fake.sockets[0].pongs) == (1, [b"a"])


async def test_a_request_that_opens_no_socket_is_told(
    fake: FakeWorkersAI, http: aiohttp.ClientSession
) -> None:
    fake.connects()
    async with http.get(f"{fake.origin}/x") as response:
        assert response.status == 500
        assert "a WebSocket is scripted: GET /x opens none" in await response.text()


async def test_a_function_that_raises_fails_the_test() -> None:
    async def talk(socket: FakeSocket) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with FakeWorkersAI() as fake:
            fake.connects_by(talk)
            async with aiohttp.ClientSession() as http, http.ws_connect(f"{fake.origin}/x") as ws:
                await ws.receive()


def test_in_a_thread_of_its_own() -> None:
    async def transcribe(fake: FakeWorkersAI) -> str:
        async with fake.client().listen("@cf/deepgram/flux", **LISTEN, audio=b"sound") as ears:  # type: ignore[arg-type]
            return (await ears.finish()).text

    with FakeWorkersAI() as fake:
        fake.connects(json.dumps({"event": "EndOfTurn", "transcript": "hi"}))
        assert asyncio.run(transcribe(fake)) == "hi"
        fake.until(lambda: fake.connections == 0)
        assert fake.sockets[0].audio == b"sound"
