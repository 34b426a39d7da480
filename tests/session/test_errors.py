"""Reasons in errors: what is wrong with a response, a certificate or a proxy."""

import asyncio
import errno
import gzip
import os
import ssl
import sys
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.compression_utils import HAS_BROTLI, HAS_ZSTD

from cfai import Cohere, Prompt, SpeechSynthesis, TextToImage, WorkersAI
from cfai._session.errors import translate_error
from cfai.errors import (
    CfaiError,
    ConnectError,
    ConnectionLost,
    DecodeError,
    InputError,
    PermissionDenied,
)
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
        r"^a line of the headers is too long \(Got more than 65536 bytes",
    ),
    "a status line that is too long": (
        b"HTTP/1.1 200 " + b"s3cr3t" * 20_000 + b"\r\n\r\n",
        DecodeError,
        r"^a line of the headers is too long \(Got more than 65536 bytes",
    ),
    "too many headers": (answer(b"X-Many: s3cr3t\n" * 10_000), DecodeError, "Too many headers"),
    "no HTTP": (b"s3cr3t\r\n\r\n", DecodeError, "Bad status line"),
    "a bad status": (b"HTTP/1.1 s3cr3t OK\r\n\r\n", DecodeError, "Invalid status code"),
    "a header without a colon": (answer(b"s3cr3t"), DecodeError, "Invalid header token"),
    "a length and chunks": (
        answer(b"Content-Length: 46\nTransfer-Encoding: chunked"),
        DecodeError,
        "Transfer-Encoding can't be present with Content-Length",
    ),
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


@pytest.mark.parametrize(
    ("exc", "message"),
    [
        (
            aiohttp.ClientPayloadError("s3cr3t"),
            "the connection was lost in the middle of the answer",
        ),
        (
            aiohttp.ServerDisconnectedError(),
            "the connection was lost before an answer arrived",
        ),
        (
            aiohttp.ClientOSError(errno.ECONNRESET, "s3cr3t"),
            f"the connection was lost: {os.strerror(errno.ECONNRESET)}",
        ),
        (OSError(errno.EPIPE, "s3cr3t"), f"the connection was lost: {os.strerror(errno.EPIPE)}"),
        (
            aiohttp.ClientConnectionError("s3cr3t"),
            "the connection was lost before an answer arrived",
        ),
    ],
)
def test_every_loss_of_a_connection_is_named(exc: Exception, message: str) -> None:
    """Also those that depend on when the parts of an answer arrive."""
    error = translate_error(exc)
    assert type(error) is ConnectionLost
    assert str(error) == message


# The header of a body, and how the body is encoded.
UNKNOWN_ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "x-gzip": gzip.compress,
    "gzip, gzip": lambda body: gzip.compress(gzip.compress(body)),
    "gzip\nContent-Encoding: gzip": lambda body: gzip.compress(gzip.compress(body)),
    "gzip, identity": gzip.compress,
    "Compress": lambda body: bytes(byte ^ 85 for byte in body),
    "gzip\x7f": gzip.compress,
    "s3cr3t" * 50: gzip.compress,
}
KNOWN_ENCODINGS: dict[str, Any] = {
    "gzip": gzip.compress,
    "GZIP": gzip.compress,
    "deflate": zlib.compress,
    "identity": bytes,
    "Identity, identity": bytes,
    "aws-chunked": bytes,
    "utf-8": bytes,
    "": bytes,
}
EVENTS = b'data: {"response":"Hello"}\n\ndata: [DONE]\n\n'
PNG = b"\x89PNG\r\n\x1a\n and the rest"


async def read_tokens(client: WorkersAI) -> str:
    async with client.stream(MODEL, Prompt("Hello?")) as stream:
        return "".join([token.text async for token in stream])


async def read_speech(client: WorkersAI) -> bytes:
    async with client.audio("@cf/deepgram/aura-1", SpeechSynthesis("Hello")) as speech:
        return b"".join([chunk async for chunk in speech])


async def draw(client: WorkersAI) -> bytes:
    model = "@cf/stabilityai/stable-diffusion-xl-base-1.0"
    return (await client.run(model, TextToImage("a cat"))).data


BODIES: dict[str, tuple[str, bytes, Callable[[WorkersAI], Awaitable[str | bytes]], str | bytes]] = {
    "JSON": ("application/json", RIGHT, ask, "Hello"),
    "events": ("text/event-stream", EVENTS, read_tokens, "Hello"),
    "an image": ("image/png", PNG, draw, PNG),
    "speech": ("audio/mpeg", PNG, read_speech, PNG),
}


def encoded(encoding: str, kind: str, body: bytes, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\nContent-Type: {kind}\nContent-Encoding: {encoding}\n"
    head += f"Content-Length: {len(body)}\n\n"
    return head.replace("\n", "\r\n").encode() + body


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("encoding", UNKNOWN_ENCODINGS)
async def test_an_unknown_encoding_is_named(fake: FakeWorkersAI, encoding: str, name: str) -> None:
    """With the known ones, whatever the body is. It is not requested again."""
    kind, body, call, _ = BODIES[name]
    sent = UNKNOWN_ENCODINGS[encoding](body)
    fake.says_raw(encoded(encoding, kind, sent))
    with pytest.raises(DecodeError) as caught:
        await call(fake.client())
    shown = repr(encoding.replace("\nContent-Encoding:", ",").lower())[:40]
    expected = f"in the unknown encoding {shown} (known: gzip, deflate, br, zstd)"
    assert expected in str(caught.value)
    assert kind in str(caught.value)
    assert len(str(caught.value)) < 250
    assert len(fake.requests) == 1


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("encoding", KNOWN_ENCODINGS)
async def test_known_encodings_are_decoded(fake: FakeWorkersAI, encoding: str, name: str) -> None:
    """Also in upper case, and those that are none."""
    kind, body, call, result = BODIES[name]
    fake.says_raw(encoded(encoding, kind, KNOWN_ENCODINGS[encoding](body)))
    assert await call(fake.client()) == result


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize(
    "encoding",
    [
        pytest.param("br", marks=pytest.mark.skipif(HAS_BROTLI, reason="Brotli is installed")),
        pytest.param("zstd", marks=pytest.mark.skipif(HAS_ZSTD, reason="zstd is installed")),
    ],
)
async def test_an_encoding_without_its_package_is_named(
    fake: FakeWorkersAI, encoding: str, name: str
) -> None:
    kind, body, call, _ = BODIES[name]
    fake.says_raw(encoded(encoding, kind, body))
    with pytest.raises(DecodeError, match=rf"decompressed \(.*\({encoding}\)\. Please install"):
        await call(fake.client(retries=NO_RETRIES))


@pytest.mark.parametrize("name", BODIES)
async def test_an_error_in_an_unknown_encoding_keeps_its_status(
    fake: FakeWorkersAI, name: str
) -> None:
    """Its message says why there is no reason, instead of showing random characters."""
    call = BODIES[name][2]
    fake.says_raw(encoded("x-gzip", "application/json", gzip.compress(RIGHT), "403 Forbidden"))
    with pytest.raises(PermissionDenied, match="403: a body in the unknown encoding 'x-gzip'"):
        await call(fake.client())


async def test_a_readable_body_in_an_unknown_encoding_is_read(fake: FakeWorkersAI) -> None:
    """What was paid for is not lost to its header."""
    fake.says_raw(encoded("rot13", "application/json", RIGHT))
    fake.says_raw(encoded("rot13", "text/event-stream", EVENTS))
    client = fake.client()
    assert await ask(client) == "Hello"
    assert await read_tokens(client) == "Hello"


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


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("make", [WorkersAI, Cohere])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("X-Secret", f"s3{sign}cr3t") for sign in "\n\r\0\x01\x7f\ud800"],
        ("X-Secret", 53),
        *[(name, "s3cr3t") for name in ("X\n", "X Y", "", "é")],
    ],
    ids=ascii,
)
async def test_a_session_with_headers_that_cannot_be_sent_is_refused_at_once(
    make: Any, name: str, value: Any
) -> None:
    """aiohttp would raise a `ValueError` at each call. The message has no value."""
    credentials = {"api_key": "k"} if make is Cohere else {"account_id": "a", "api_token": "t"}
    async with aiohttp.ClientSession(headers={name: value}) as session:
        with pytest.raises(InputError, match="must have headers of one line of text") as caught:
            make(session=session, **credentials)
    assert f"{name!r} is not such a header" in str(caught.value)
    assert "cr3t" not in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("value", ["a\tb", "ä", "\U0001f600", " ", ""])
async def test_a_session_may_have_any_other_headers(fake: FakeWorkersAI, value: str) -> None:
    fake.answers({"response": "Hello"})
    async with aiohttp.ClientSession(headers={"X-Mine": value}) as session:
        await fake.client(session=session).run(MODEL, "Hi")
    assert "x-mine" in {name.lower() for name in fake.requests[0].headers}


@pytest.mark.parametrize("entry", ["machine 127.0.0.1", "default"])
async def test_a_login_of_a_netrc_file_is_refused(
    fake: FakeWorkersAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    """aiohttp raises a `ValueError`. The message has no part of the login."""
    netrc = tmp_path / "netrc"
    netrc.write_text(f"{entry} login me password s3cr3t\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with aiohttp.ClientSession(trust_env=True) as session:
        ai = fake.client(session=session)
        calls: tuple[Callable[[], Awaitable[Any]], ...] = (
            lambda: ai.run(MODEL, "Hi"),
            lambda: ai.stream(MODEL, "Hi").collect(),
            lambda: ai.models.schema(MODEL),
            lambda: ai.listen("@cf/deepgram/nova-3", encoding="linear16", sample_rate=16000).open(),
        )
        for call in calls:
            with pytest.raises(InputError, match=r"a \.netrc file has a login") as caught:
                await call()
            assert "s3cr3t" not in repr(caught.value)
    assert fake.requests == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("make", [WorkersAI, Cohere])
def test_what_is_no_session_is_refused(make: Any) -> None:
    credentials = {"api_key": "k"} if make is Cohere else {"account_id": "a", "api_token": "t"}
    with pytest.raises(InputError, match=r"session must be an aiohttp\.ClientSession, got 'x'"):
        make(session="x", **credentials)


async def test_ssl_and_a_session_contradict_each_other() -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(InputError, match="ssl must not be passed with a session"):
            client(1, session=session, ssl=ssl.create_default_context())
