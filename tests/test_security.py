"""Secrets are sent in the headers of requests only: no error, log or repr contains them."""

import asyncio
import copy
import gzip
import logging
import pickle
import socket
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from cfai import EmbedFailure, Prompt, TextEmbeddings, TextToImage, WorkersAI
from cfai.errors import CfaiError, InputError, NotFound, ServerError
from cfai.settings import Gateway, Options, Retries, Retry, Timeouts
from cfai.testing import FakeWorkersAI

MODEL = "@cf/meta/llama-3.1-8b-instruct-fast"
ASKED = Prompt("Hello?")
TOKEN = "v1_0-S3CR3T-T0KEN-0123456789abcdefghij"  # noqa: S105  # made up
KEY = "c0ffee0123456789c0ffee0123456789c0ffe"
NEVER = Retries(max=0)

Call = Callable[[WorkersAI], Any]


async def ask(client: WorkersAI) -> Any:
    return (await client.run(MODEL, ASKED)).text


async def ask_anything(client: WorkersAI) -> Any:
    return (await client.run(MODEL, {"prompt": "Hello?"})).value


async def embed(client: WorkersAI) -> Any:
    return (await client.embed(MODEL, ["one", "two"])).tolist()


async def stream(client: WorkersAI) -> Any:
    async with client.stream(MODEL, ASKED) as tokens:
        return str(await tokens.collect())


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all the errors that led to it."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__cause__, one.__context__]


def describe_fully(error: CfaiError) -> str:
    """Everything of an error that could be printed, logged, stored or sent."""
    said = [*traceback.format_exception(error)]
    for one in chain(error):
        said += [str(one), repr(one), repr(one.args)]
    said += [f"{name}={value!r}" for name, value in vars(error).items()]
    said.append(pickle.dumps(error, protocol=0).decode("latin-1"))
    said.append(repr(vars(copy.copy(error))))
    return "\n".join(said)


def assert_hidden(error: CfaiError, *secrets: str) -> None:
    text = describe_fully(error)
    for secret in secrets:
        assert secret not in text
        assert secret.lower() not in text.lower()


@pytest.fixture(autouse=True)
async def logged(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """Every test logs at level DEBUG, and no secret may be in the log."""
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    yield
    # Those of the test: in the teardown, `caplog.records` has those of the teardown alone.
    records = caplog.get_records("call")
    text = "\n".join(map(logging.Formatter().format, records))
    for secret in (TOKEN, KEY):
        assert secret not in text
        assert all(secret not in repr(vars(record)) for record in records)


# A service that repeats the credentials


def http_response(body: bytes, status: bytes = b"200 OK", head: bytes = b"") -> bytes:
    kind = b"" if b"Content-Type" in head else b"Content-Type: application/json\r\n"
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    return b"HTTP/1.1 " + status + b"\r\n" + kind + head + length + body


ECHOES: dict[str, str] = {
    "in the message of an error": '{{"success":false,"errors":[{{"code":1,"message":"bad {0}"}}]}}',
    "in an unknown field of an error": '{{"success":false,"errors":[{{"code":1,"{0}":["{0}"]}}]}}',
    "in a text instead of errors": '{{"success":false,"errors":"{0}"}}',
    "in an error of a gateway": '{{"error":[{{"code":2001,"message":"{0}"}}]}}',
    "in a message of a provider": '{{"error":{{"message":"Bearer {0} is wrong"}}}}',
    "in a page": "<html>Your header was Authorization: Bearer {0}</html>",
    "as the whole body": "{0}",
    "as JSON text": '"{0}"',
    "in a list": '["{0}"]',
    "in a number's place": '{{"result":{{"shape":["{0}"],"data":[["{0}"],["{0}"]]}}}}',
    "in an unknown field": '{{"result":{{"{0}":1}}}}',
    "in a choice": '{{"result":{{"choices":["{0}"]}}}}',
    "in the usage": '{{"result":{{"response":"a","usage":{{"prompt_tokens":"{0}"}}}}}}',
    "in half of JSON": '{{"result":"{0}',
    "twice, at the edge of an excerpt": "x" * 4080 + "{0}{0}",
    "far inside": "x" * 199 + " {0}",
}


@pytest.mark.parametrize("secret", [TOKEN, KEY], ids=["token", "key"])
@pytest.mark.parametrize("call", [ask, ask_anything, embed, stream])
@pytest.mark.parametrize("status", [b"200 OK", b"400 Bad Request", b"502 Bad Gateway"])
@pytest.mark.parametrize("echo", ECHOES)
async def test_an_echo_in_a_body_is_hidden(
    fake: FakeWorkersAI, echo: str, status: bytes, call: Call, secret: str
) -> None:
    """Wherever the body contains the credentials, the error does not."""
    body = ECHOES[echo].format(secret).encode()
    fake.always.says_raw(http_response(body, status))
    client = fake.client(
        **(
            {"api_token": TOKEN}
            if secret == TOKEN
            else {"api_token": None, "api_email": "me@example.com", "api_key": KEY}
        ),
        retries=NEVER,
    )
    outcome = (await asyncio.gather(call(client), return_exceptions=True))[0]
    if isinstance(outcome, BaseException):
        assert isinstance(outcome, CfaiError)
        assert_hidden(outcome, secret)


RAW_ECHOES: dict[str, bytes] = {
    "in a header": http_response(b"{", b"200 OK", b"X-Echo: %b\r\n"),
    "in the ray id": http_response(b"{", b"400 Bad", b"cf-ray: %b\r\n"),
    "in the request id": http_response(b"{", b"400 Bad", b"cf-ai-req-id: %b\r\n"),
    "in the limits": http_response(b"{", b"429 Slow", b"Ratelimit: %b\r\nRetry-After: %b\r\n"),
    "in the kind": http_response(b"{", b"200 OK", b"Content-Type: text/%b\r\n"),
    "in the reason": http_response(b"", b"500 %b"),
    "in a redirect": http_response(b"", b"302 Found", b"Location: https://evil.example/%b\r\n"),
    "in a cookie": http_response(b"{", b"200 OK", b"Set-Cookie: a=%b\r\n"),
    "in bytes that are not HTTP": b"%b\r\n\r\n",
    "in a status": b"HTTP/1.1 %b OK\r\n\r\n",
    "in a broken header": b"HTTP/1.1 200 OK\r\nX-Echo %b\r\n\r\n",
    "in a header with a zero": b"HTTP/1.1 200 OK\r\nX-Echo: \x00%b\r\n\r\n",
    "in a name": b"HTTP/1.1 200 OK\r\n%b\x01: a\r\n\r\n",
    "in a huge header": b"HTTP/1.1 200 OK\r\nX-Echo: %b" + b"a" * 100_000 + b"\r\n\r\n",
    "in half a head": b"HTTP/1.1 200 OK\r\nX-Echo: %b\r\n",
    "in a length": b"HTTP/1.1 200 OK\r\nContent-Length: %b\r\n\r\n",
    "in a chunk's size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%b\r\n",
    "in a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n%b\r\n",
    "in a trailer": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n%b\r\n\r\n",
    "in a cut body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n%b",
    "in an encoding": b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: 1\r\n\r\n{",
    "in invalid gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n%b",
    "in an event": b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: %b\n\n",
    "in an event of an error": (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
        b'data: {"errors":[{"code":3040,"message":"%b"}]}\n\n'
    ),
    "in a second event": (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
        b'data: {"response":"a"}\n\ndata: {"errors":[{"message":"%b"}]}\n\n'
    ),
    "in a second event that is not JSON": (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
        b'data: {"response":"a"}\n\ndata: {"%b\n\ndata: [DONE]\n\n'
    ),
    "in an event of an odd form": (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
        b'data: {"response":"a"}\n\ndata: {"tool_calls":{"a":"%b"}}\n\ndata: [DONE]\n\n'
    ),
    "in the id of an event": (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
        b"event: error\nid: %b\ndata: %b\n\n"
    ),
}


@pytest.mark.parametrize("call", [ask, stream])
@pytest.mark.parametrize("echo", RAW_ECHOES)
async def test_an_echo_anywhere_is_hidden(fake: FakeWorkersAI, echo: str, call: Call) -> None:
    """In the head, in a broken body or in an event."""
    reply = RAW_ECHOES[echo].replace(b"%b", TOKEN.encode())
    fake.says_raw(reply, then_hangs_up=True)
    heard: list[Retry] = []
    client = fake.client(api_token=TOKEN, retries=Retries(max=1, base=0, on_retry=heard.append))
    outcome = (await asyncio.gather(call(client), return_exceptions=True))[0]
    assert isinstance(outcome, CfaiError)
    for error in (outcome, *(retry.failure for retry in heard)):
        assert_hidden(error, TOKEN)


# A secret that was cut in half


CUT_ECHOES: dict[str, bytes] = {
    **{
        f"{kept} characters at the edge of an excerpt": http_response(
            b"." * (4096 - kept) + b"%b", status
        )
        for kept in (1, 7, 8, 20, len(TOKEN) - 1)
        for status in (b"200 OK", b"400 Bad Request")
    },
    "at the edge of a message": http_response(b"x " * 90 + b"%b and more", b"500 Oh"),
    "in a long value": http_response(b'{"result":{"response":["%b%b%b"]}}'),
    "in a value that reprlib cuts": http_response(
        b'{"errors":[{"message":{"a":"%b","b":["%b"]}}]}', b"400 Bad Request"
    ),
    "without its beginning": http_response(
        b'{"errors":[{"message":"%b"}]}'.replace(b"%b", TOKEN[6:].encode()), b"400 Bad Request"
    ),
    "without its end": http_response(
        b'{"errors":[{"message":"%b"}]}'.replace(b"%b", TOKEN[:-6].encode()), b"400 Bad Request"
    ),
    "in a header": http_response(
        b"{", b"400 Bad", b"cf-ray: %b\r\n".replace(b"%b", TOKEN[:-6].encode())
    ),
    "in a length": b"HTTP/1.1 200 OK\r\nContent-Length: %b\r\n\r\n".replace(
        b"%b", TOKEN[:-6].encode()
    ),
    "in an event": (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
        b'data: {"response":"a"}\n\ndata: {"tool_calls":["%b%b%b"]}\n\n'
    ),
    "in an event of an error": (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
        b'data: {"response":"a"}\n\ndata: {"errors":[{"message":{"a":"%b"}}]}\n\n'
    ),
    "at the edge of an event": (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
        b'data: {"response":"a"}\n\ndata: ' + b"." * 4090 + b"%b\n\ndata: [DONE]\n\n"
    ),
    "in a header before a broken stream": (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\ncf-ray: %b\r\n\r\n"
        b'data: {"response":"a"}\n\ndata: {\n\ndata: [DONE]\n\n'
    ).replace(b"%b", TOKEN[6:].encode()),
}


def assert_pieces_hidden(error: CfaiError) -> None:
    """No eight characters of the token in a row are in anything that the error shows."""
    text = describe_fully(error).lower()
    for start in range(len(TOKEN) - 7):
        assert TOKEN[start : start + 8].lower() not in text


@pytest.mark.parametrize("call", [ask, embed, stream])
@pytest.mark.parametrize("echo", CUT_ECHOES)
async def test_a_secret_that_was_cut_is_hidden(fake: FakeWorkersAI, echo: str, call: Call) -> None:
    """An excerpt, a `repr` or the service itself may cut a secret in half."""
    fake.says_raw(CUT_ECHOES[echo].replace(b"%b", TOKEN.encode()), then_hangs_up=True)
    client = fake.client(api_token=TOKEN, retries=NEVER)
    outcome = (await asyncio.gather(call(client), return_exceptions=True))[0]
    if isinstance(outcome, BaseException):
        assert isinstance(outcome, CfaiError)
        assert_pieces_hidden(outcome)
        body = getattr(outcome, "body", None) or b""
        text = body if isinstance(body, str) else body.decode("latin-1")
        assert not text.endswith(TOKEN[0])


@pytest.mark.parametrize("piece", [TOKEN, TOKEN[:-6], TOKEN[6:]])
@pytest.mark.parametrize(
    "row",
    [
        '"success":false,"errors":[{{"code":5006,"message":"{0}"}}]',
        '"success":false,"error":{{"message":{{"a":"{0}"}}}}',
        '"success":true,"result":{{"data":["{0}{0}{0}"]}}',
        '"{0}":["{0}{0}"]',
    ],
)
async def test_the_error_of_an_item_in_a_batch_hides_a_secret(
    fake: FakeWorkersAI, row: str, piece: str
) -> None:
    """It is kept as a value and not raised, also by a job of many texts."""
    body = '{"result":{"responses":[{"id":0,' + row.format(piece) + '}]},"success":true}'
    fake.always.says(body.encode())
    client = fake.client(api_token=TOKEN, retries=NEVER)

    batch = await client.queue(MODEL, [TextEmbeddings("Hello")])
    (item,) = await batch.wait()
    assert item.error is not None
    assert_pieces_hidden(item.error)

    job = client.embed_many(MODEL, ["Hello"], mode="queue", on_error="yield")
    (failure,) = [result async for result in job]
    assert isinstance(failure, EmbedFailure)
    assert_pieces_hidden(failure.error)


async def test_a_compressed_echo_is_hidden(fake: FakeWorkersAI) -> None:
    """Bodies are redacted after decompression."""
    body = gzip.compress(f"<html>{TOKEN}</html>".encode())
    fake.says(body, status=403, headers={"Content-Encoding": "gzip"}, content_type="text/html")
    with pytest.raises(CfaiError) as caught:
        await ask(fake.client(api_token=TOKEN))
    assert_hidden(caught.value, TOKEN)
    assert "***" in str(caught.value)


async def test_an_echo_of_the_gateways_token_is_hidden(fake: FakeWorkersAI) -> None:
    """The token of an authenticated gateway is a secret, also if it is set for one call."""
    fake.always.fails(401, 2009, f"wrong: {KEY}")
    gateway = Gateway("gw", authorization=KEY)
    for client, options in (
        (fake.client(gateway=gateway), None),
        (fake.client(), Options(gateway=gateway)),
    ):
        with pytest.raises(CfaiError) as caught:
            await client.run(MODEL, ASKED, options=options)
        assert_hidden(caught.value, KEY)
    assert all(
        request.headers["cf-aig-authorization"] == f"Bearer {KEY}" for request in fake.requests
    )


# Connections that fail


def silent_listener() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    return listener


async def test_connection_errors_contain_no_secret(fake: FakeWorkersAI) -> None:
    """Refused, timed out, cut, misdirected: no error shows the credentials or the account."""
    quick = Timeouts(response=0.02, pool=0.02, connect=0.02)
    with silent_listener() as nobody:
        refused = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        for options in (
            {"base_url": refused},
            {"base_url": "https://nobody.invalid"},
            {"base_url": f"https://127.0.0.1:{fake.port}", "timeouts": quick},
            {"timeouts": quick},
            {"timeouts": Timeouts(total=0.02)},
            {"proxy": refused.replace("//", f"//me:{KEY}@")},
        ):
            fake.always.stalls()
            client = fake.client(
                **{"api_token": TOKEN, "account_id": KEY, "retries": NEVER} | options
            )
            for call in (ask, stream):
                with pytest.raises(CfaiError) as caught:
                    await call(client)
                assert_hidden(caught.value, TOKEN, KEY)


async def test_the_error_of_a_failed_upload_contains_no_secret(fake: FakeWorkersAI) -> None:
    """aiohttp's own error contains the address; ours does not."""
    fake.hangs_up(reset=True, before_body=True)
    client = fake.client(api_token=TOKEN, account_id=KEY, retries=NEVER)
    with pytest.raises(CfaiError) as caught:
        await client.run(MODEL, {"prompt": "x" * 10_000_000})
    assert_hidden(caught.value, TOKEN, KEY)


# A token instead of the account id


async def test_a_token_instead_of_the_account_id_is_hidden(fake: FakeWorkersAI) -> None:
    """The edge repeats the path (code 7003), which contains the account id."""
    fake.answers_by(
        lambda request: 1 / 0 if "/client/v4/accounts/" not in request.target else "checked"
    )
    message = (
        f"Could not route to /client/v4/accounts/{KEY}/ai/run/{MODEL},"
        " perhaps your object identifier is invalid?"
    )
    client = fake.client(api_token=TOKEN, account_id=KEY)
    assert await ask_anything(client) == "checked"
    fake.always.fails(404, 7003, message)
    for call in (ask, stream, embed):
        with pytest.raises(NotFound) as caught:
            await call(client)
        assert_hidden(caught.value, TOKEN, KEY)
        assert caught.value.code == 7003
        assert "account id" in str(caught.value)


@pytest.mark.parametrize(
    "account", [f"{KEY}\n", f" {KEY}", f"{KEY}/ai", f"Bearer {KEY}", f"{KEY}?"]
)
async def test_an_account_that_is_refused_is_not_shown(fake: FakeWorkersAI, account: str) -> None:
    """It may be a token in the wrong place."""
    with pytest.raises(InputError) as caught:
        await ask(fake.client(account_id=account))
    assert_hidden(caught.value, KEY)
    assert fake.accepted == 0


# Where credentials are sent


async def test_a_client_shows_no_secret(fake: FakeWorkersAI) -> None:
    """Neither do its parts."""
    for given in (
        {"api_token": TOKEN},
        {"api_token": None, "api_email": "me@example.com", "api_key": KEY},
        {"headers": {"X-Own": KEY}},
        {"proxy": f"http://me:{KEY}@127.0.0.1:1"},
        {"gateway": Gateway("g", authorization=KEY)},
        {"account_id": KEY},
    ):
        client = fake.client(**given)
        stream = client.stream(MODEL, ASKED)
        for shown in (
            client,
            client.with_options(),
            client._settings,
            client._account,
            client._runs,
            stream,
        ):
            assert TOKEN not in f"{shown!r} {shown}"
            assert KEY not in f"{shown!r} {shown}"
            assert "me@example.com" not in f"{shown!r} {shown}"


async def test_secrets_are_sent_in_headers_only(fake: FakeWorkersAI) -> None:
    """They are not in the path, the query or the body of a request, nor in the answer."""
    fake.always.answers({"response": "Hello"})
    answer = await fake.client(api_token=TOKEN).run(MODEL, ASKED, options=Options(tags=["a"]))
    await fake.client(api_token=None, api_email="me@example.com", api_key=KEY).run(MODEL, ASKED)
    by_token, by_key = fake.requests
    assert by_token.headers.all("Authorization") == [f"Bearer {TOKEN}"]
    assert by_key.headers.all("X-Auth-Key") == [KEY]
    assert by_key.headers.all("X-Auth-Email") == ["me@example.com"]
    for request in fake.requests:
        assert TOKEN not in request.target
        assert KEY not in request.target
        assert TOKEN.encode() not in request.body
        assert KEY.encode() not in request.body
    assert TOKEN not in f"{answer!r} {answer.meta!r} {answer.raw!r}"


@pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 307, 308])
@pytest.mark.parametrize("where", ["another origin", "itself", "nowhere", "no address"])
async def test_redirects_are_not_followed(fake: FakeWorkersAI, status: int, where: str) -> None:
    """A redirect is an error, even to the same host."""
    async with FakeWorkersAI() as other:
        location = {
            "another origin": {"Location": f"{other.origin}/client/v4"},
            "itself": {"Location": f"{fake.origin}/again"},
            "nowhere": {},
            "no address": {"Location": "http://[::1"},
        }[where]
        for call in (ask, stream):
            fake.says(status=status, headers=location)
            with pytest.raises(CfaiError) as caught:
                await call(fake.client(api_token=TOKEN))
            assert_hidden(caught.value, TOKEN)
        assert len(fake.requests) == 2
        assert other.accepted == 0


async def test_other_headers_that_name_an_address_are_not_followed(fake: FakeWorkersAI) -> None:
    """Refresh, Alt-Svc, Location and Link under status 200."""
    async with FakeWorkersAI() as other:
        fake.says(
            b'{"result":{"response":"Hello"}}',
            headers={
                "Refresh": f"0; url={other.origin}",
                "Alt-Svc": f'http/1.1="127.0.0.1:{other.port}"',
                "Location": other.origin,
                "Link": f"<{other.origin}>; rel=preload",
            },
        )
        fake.answers({"response": "Hello"})
        client = fake.client(api_token=TOKEN)
        assert [await ask(client), await ask(client)] == ["Hello"] * 2
        assert other.accepted == 0


@pytest.mark.parametrize(
    ("options", "secret"),
    [
        (Options(gateway=Gateway("g", authorization="GwSecretToken123")), "GwSecretToken123"),
        (Options(headers={"Authorization": "Bearer OverrideSecret99"}), "OverrideSecret99"),
        (Options(headers={"X-Service-Key": "ServiceSecret42"}), "ServiceSecret42"),
    ],
)
@pytest.mark.parametrize(
    "event",
    [
        b'data: {"errors":[{"code":1,"message":"%b"}]}\n\n',
        b"event: error\ndata: %b\n\n",
        b'data: {"choices":"%b"}\n\n',
        b"data: %b\n\n",
    ],
)
async def test_credentials_of_one_call_are_hidden_in_its_stream(
    fake: FakeWorkersAI, options: Options, secret: str, event: bytes
) -> None:
    """Those in the options of the call, like those of the client."""
    fake.says(b'data: {"response":"a"}\n\n' + event % secret.encode())
    with pytest.raises(CfaiError) as caught:
        await fake.client().stream(MODEL, Prompt("Hi"), options=options).collect()
    said = f"{caught.value!s} {caught.value!r} {vars(caught.value)}"
    assert secret not in said
    assert "***" in said


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/image", "http://example.invalid/image"])
async def test_the_address_of_remote_media_shows_no_secret(
    fake: FakeWorkersAI, address: str
) -> None:
    """A media address that can't be read, and the headers beside it, may repeat the token."""
    image = {"state": "Completed", "result": {"image": f"{address}?key={TOKEN}"}}
    fake.answers(image, headers={"cf-aig-log-id": TOKEN})
    async with fake.client(api_token=TOKEN, retries=NEVER) as client:
        with pytest.raises(CfaiError) as caught:
            await client.run("openai/gpt-image-1", TextToImage("a cat"))
    assert any("the model answered" in note for note in caught.value.__notes__)
    assert TOKEN not in describe_fully(caught.value)


async def test_a_short_token_is_not_hidden(fake: FakeWorkersAI) -> None:
    """A token as short as a word would remove that word from every message."""
    fake.fails(501, 90001, "this needs onnxruntime: pip install 'cfai-sdk[local]'")
    with pytest.raises(ServerError, match=r"cfai-sdk\[local\]"):
        await fake.client(api_token="local", retries=Retries(max=0)).run(MODEL, Prompt("Hi"))


@pytest.mark.parametrize(
    ("header", "hidden"),
    [
        *[
            (header, True)
            for header in (
                "Authorization",
                "X-Auth-Token-V2",
                "X-Password",
                "x-passwd-2",
                "X-Signature",
                "X-Signature-Ed25519",
                "X-Hub-Signature-256",
                "Ocp-Apim-Subscription-Key-1",
                "X-Api-Key",
                "X-API-KEYS",
                "X-Access-Token-Next",
                "CF-Access-Client-Secret",
                "X-Amz-Credential",
                "X-Jwt-Assertion",
                "Cookie",
                "X-Cookies",
                "X-Oauth",
                "X-Client-Pwd",
                "X-AUTHORISATION",
                "X-Bearer",
                "X-CSRF",
                "X-Xsrf-2",
                "X-Hmac-SHA256",
                "X-Passphrase",
                "X-Passcode",
                "X-Sig",
                "X-Sig-V1",
            )
        ],
        *[
            (header, False)
            for header in (
                "X-Author",
                "X-Authors",
                "X-Design",
                "X-Request-Id",
                "X-Team",
            )
        ],
    ],
)
async def test_the_values_of_headers_with_secrets_are_hidden(
    fake: FakeWorkersAI, header: str, hidden: bool
) -> None:
    """Those whose names say so, of the client and of a call; others are no secrets."""
    value = "a-value-of-0123456789"
    fake.always.fails(400, 1, f"bad {value}")
    for client, options in (
        (fake.client(headers={header: value}), None),
        (fake.client(), Options(headers={header: value})),
    ):
        with pytest.raises(CfaiError) as caught:
            await client.run(MODEL, ASKED, options=options)
        assert (value not in f"{caught.value} {vars(caught.value)}") == hidden
