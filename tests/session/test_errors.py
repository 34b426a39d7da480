"""Reasons in errors: what is wrong with a response, a certificate or a proxy."""

import asyncio
import gzip
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cfai import Cohere, Prompt, WorkersAI
from cfai.errors import CfaiError, ConnectError, ConnectionLost, DecodeError, InputError
from cfai.settings import Retries, Retry
from cfai.testing import FakeWorkersAI

MODEL = "@cf/meta/llama-3.1-8b-instruct-fast"
NO_RETRIES = Retries(max=0)
RIGHT = b'{"result":{"response":"Hello"},"success":true}'
CERTIFICATE = Path(__file__).with_name("localhost.pem")
"""A certificate for the name `localhost`, self-signed, with its key."""


async def ask(client: WorkersAI) -> str:
    return (await client.run(MODEL, Prompt("Hello?"))).text


def answer(head: bytes, body: bytes = RIGHT) -> bytes:
    lines = b"HTTP/1.1 200 OK\nContent-Type: application/json\n" + head
    return lines.replace(b"\n", b"\r\n") + b"\r\n\r\n" + body


REASONS: dict[str, tuple[bytes, type[CfaiError], str]] = {
    "a header that is too long": (
        answer(b"Content-Length: 0\nX-Big: " + b"s3cr3t" * 20_000),
        DecodeError,
        "65536 bytes",
    ),
    "too many headers": (answer(b"X-Many: s3cr3t\n" * 10_000), DecodeError, "Too many headers"),
    "no HTTP": (b"s3cr3t\r\n\r\n", DecodeError, "Bad status line"),
    "a bad status": (b"HTTP/1.1 s3cr3t OK\r\n\r\n", DecodeError, "Invalid status code"),
    "a header without a colon": (answer(b"s3cr3t"), DecodeError, "Invalid header token"),
    "two lengths": (
        answer(b"Content-Length: 1\nContent-Length: 46"),
        DecodeError,
        "Duplicate Content-Length",
    ),
    "a bad chunk": (
        answer(b"Transfer-Encoding: chunked", b"s3cr3t\r\n"),
        DecodeError,
        "Invalid character in chunk size",
    ),
    "an encoding that cannot be decoded": (
        answer(b"Content-Encoding: zstd\nContent-Length: %d" % len(RIGHT)),
        DecodeError,
        "zst",
    ),
    "an unknown encoding": (
        answer(b"Content-Encoding: rot13\nContent-Length: 5", b"uryyb"),
        DecodeError,
        "rot13",
    ),
    "gzip that is none": (
        answer(b"Content-Encoding: gzip\nContent-Length: %d" % len(RIGHT)),
        DecodeError,
        "content-encoding: gzip",
    ),
    "half a head": (b"HTTP/1.1 200 OK\r\nX-Own: s3cr3t", ConnectionLost, "in the headers"),
    "half a body": (
        answer(b"Content-Length: 100"),
        ConnectionLost,
        "received 46 of 100 bytes",
    ),
    "half a chunk": (
        answer(b"Transfer-Encoding: chunked", b"64\r\n" + RIGHT),
        ConnectionLost,
        "in the middle of the answer",
    ),
    "half of gzip": (
        answer(b"Content-Encoding: gzip\nContent-Length: 100", gzip.compress(RIGHT)[:20]),
        ConnectionLost,
        "of 100 bytes",
    ),
}


@pytest.mark.parametrize("name", REASONS)
async def test_an_invalid_response_says_what_is_wrong(fake: FakeWorkersAI, name: str) -> None:
    """In one short line, without an excerpt of the response."""
    sent, kind, reason = REASONS[name]
    fake.says_raw(sent, then_hangs_up=True)
    with pytest.raises(kind, match=reason) as caught:
        await ask(fake.client(retries=NO_RETRIES))
    assert "s3cr3t" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("after", ["the head", "a chunk"])
async def test_a_bad_chunk_in_the_middle(fake: FakeWorkersAI, after: str) -> None:
    """It arrives when the body is being read already."""
    head = answer(b"Transfer-Encoding: chunked", b"")
    first = b"8\r\n" + RIGHT[:8] + b"\r\n" if after == "a chunk" else b""
    fake.says_raw(head + first, 0.01, b"s3cr3t\r\n", then_hangs_up=True)
    with pytest.raises((DecodeError, ConnectionLost)) as caught:
        await ask(fake.client(retries=NO_RETRIES))
    assert "chunk size" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


async def test_headers_of_64_kib_are_read(fake: FakeWorkersAI) -> None:
    """Proxies add long ones; aiohttp's own limit is 8 KiB."""
    fake.says(RIGHT, headers={"X-Long": "a" * 60_000})
    assert await ask(fake.client(retries=NO_RETRIES)) == "Hello"


# Certificates


@asynccontextmanager
async def tls_service() -> AsyncIterator[int]:
    """The port of a service behind TLS, whose certificate is for the name `localhost`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.write(answer(b"Connection: close\nContent-Length: %d" % len(RIGHT)))
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    # A refused handshake is none of the server's concern.
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


def client(port: int, host: str = "localhost", **options: Any) -> WorkersAI:
    url = f"https://{host}:{port}"
    return WorkersAI(account_id="a", api_token="t", base_url=url, **options)


async def test_an_untrusted_certificate_is_not_retried() -> None:
    """The message has the reason, the host and the ways out."""
    retries: list[Retry] = []
    async with (
        tls_service() as port,
        client(port, retries=Retries(max=5, base=0, on_retry=retries.append)) as ai,
    ):
        with pytest.raises(ConnectError, match="self-signed certificate") as caught:
            await ask(ai)
    assert caught.value.permanent
    for word in ("localhost", "SSL_CERT_FILE", "ssl=ssl.create_default_context"):
        assert word in str(caught.value)
    assert not retries


async def test_a_certificate_for_another_host_is_not_trusted() -> None:
    """Even if its CA is."""
    trusted = ssl.create_default_context(cafile=str(CERTIFICATE))
    async with tls_service() as port, client(port, "127.0.0.1", ssl=trusted) as ai:
        with pytest.raises(ConnectError, match="certificate is not valid for") as caught:
            await ask(ai)
    assert caught.value.permanent


async def test_the_ssl_argument() -> None:
    """It decides which certificates are trusted."""
    trusted = ssl.create_default_context(cafile=str(CERTIFICATE))
    async with tls_service() as port, client(port, ssl=trusted) as ai:
        assert await ask(ai) == "Hello"


async def test_ssl_cert_file() -> None:
    """The variable works without a change of the program."""
    async with tls_service() as port:
        program = (
            "import asyncio; from cfai import WorkersAI\n"
            f"ai = WorkersAI(account_id='a', api_token='t', base_url='https://localhost:{port}')\n"
            f"print(asyncio.run(ai.run({MODEL!r}, 'Hello?')).text)\n"
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program),
            env={"SSL_CERT_FILE": str(CERTIFICATE), "PYTHONPATH": ":".join(sys.path)},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await asyncio.wait_for(process.communicate(), 30)
    assert out == b"Hello\n"


@pytest.mark.parametrize("value", [True, False, "company-ca.pem", Path("company-ca.pem")])
def test_ssl_must_be_a_context(value: Any) -> None:
    with pytest.raises(InputError, match=r"ssl must be an ssl\.SSLContext"):
        WorkersAI(account_id="a", api_token="t", ssl=value)


# The user's own session


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("make", [WorkersAI, Cohere])
async def test_a_session_with_auth_is_refused_at_once(make: Any) -> None:
    """aiohttp would raise a `ValueError` at the first call."""
    credentials = {"api_key": "k"} if make is Cohere else {"account_id": "a", "api_token": "t"}
    auth = aiohttp.BasicAuth("user", "s3cr3t")
    async with aiohttp.ClientSession(auth=auth) as session:
        with pytest.raises(InputError, match="must not have auth of its own") as caught:
            make(session=session, **credentials)
    assert "s3cr3t" not in str(caught.value)


async def test_ssl_and_a_session_contradict_each_other() -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(InputError, match="ssl must not be passed with a session"):
            client(1, session=session, ssl=ssl.create_default_context())
