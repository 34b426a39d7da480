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
