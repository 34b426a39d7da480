"""Record and replay: what is passed on and written, and what a recording answers."""

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import ClientError, ClientSession, FormData, MultipartWriter, WSServerHandshakeError

from cfai import BadRequest, ConfigError, Prompt, StreamInterrupted, WorkersAI
from cfai.local import Fault, Record, Replay, Server
from cfai.testing import FakeWorkersAI

from .conftest import LLAMA, Local, client, running

ACCOUNT = "0123456789abcdef0123456789abcdef"
TOKEN = "v1.0-a-secret-token-of-the-account"  # noqa: S105  # made up
BGE = "@cf/baai/bge-small-en-v1.5"
RUN = f"/client/v4/accounts/{ACCOUNT}/ai/run/{LLAMA}"
EVENTS = (
    b'data: {"response":"Hel"}\n\nda',
    b'ta: {"response":"lo \xc3',
    b'\xa9"}\n\n',
    b"data: [DONE]\n\n",
)


@asynccontextmanager
async def recording(path: Path, **options: Any) -> AsyncIterator[tuple[Local, FakeWorkersAI]]:
    """A server that records, and the scripted service behind it."""
    async with (
        FakeWorkersAI() as fake,
        running(tape=Record(path, fake.base_url), **options) as local,
    ):
        yield local, fake


async def send(local: Local, path: str = RUN, method: str = "POST", **options: Any) -> Any:
    """Send a request and return its status, content type and chunks."""
    url = local.server.base_url.removesuffix("/client/v4") + path
    headers = {"Authorization": f"Bearer {TOKEN}", **options.pop("headers", {})}
    async with local.http.request(method, url, headers=headers, **options) as response:
        chunks, chunk = [], b""
        async for data, is_end in response.content.iter_chunks():
            chunk += data
            if is_end:
                chunks.append(chunk)
                chunk = b""
        return response.status, response.headers["Content-Type"], [c for c in (*chunks, chunk) if c]


def lines(path: Path) -> list[Any]:
    first, *rest = (orjson.loads(line) for line in path.read_bytes().splitlines())
    assert first == {"recording": "cfai", "version": 1}
    return rest


async def test_a_stream_is_replayed_with_its_bytes_and_chunks(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    body = {"prompt": "Hi", "stream": True}
    async with recording(path) as (local, fake):
        fake.says(*EVENTS)
        recorded = await send(local, json=body)
        assert fake.requests[0].headers["Authorization"] == f"Bearer {TOKEN}"
        assert fake.requests[0].path == RUN
    assert recorded == (200, "text/event-stream", list(EVENTS))
    async with running(tape=Replay(path)) as local:
        assert await send(local, json=body) == recorded
    (line,) = lines(path)
    assert line["request"] == {
        "method": "POST",
        "path": "/client/v4/accounts/{account}/ai/run/@cf/meta/llama-3.1-8b-instruct-fast",
        "query": [],
        "headers": {},
        "body": {"json": {"prompt": "Hi", "stream": True}},
    }
    assert line["response"]["chunks"][0] == 'data: {"response":"Hel"}\n\nda'
    # A chunk that ends inside a character is no text.
    assert line["response"]["chunks"][1] == {"base64": "dGE6IHsicmVzcG9uc2UiOiJsbyDD"}


@pytest.mark.skipif(os.name != "posix", reason="permissions")
async def test_only_the_owner_can_read_a_recording(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    umask = os.umask(0)
    try:
        async with recording(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(umask)


async def test_credentials_are_passed_on_and_not_recorded(tmp_path: Path) -> None:
    """In headers, paths, queries and bodies of requests, and wherever a response repeats them."""
    path = tmp_path / "chat.jsonl"
    secrets = {
        "X-Auth-Key": "a-global-key-of-the-user",
        "X-Auth-Email": "somebody@example.com",
        "cf-aig-authorization": "Bearer a-token-of-the-gateway",
    }
    body = {
        "prompt": f"My token is {TOKEN}",
        "headers": {"authorization": "Bearer provider-key", "x-api-key": "k"},
    }
    leak = orjson.dumps({"result": {"response": f"{TOKEN} of {ACCOUNT}"}, "success": True})
    async with recording(path) as (local, fake):
        fake.says(leak[:20], leak[20:], framing="chunked", headers={"Set-Cookie": "session=abc"})
        recorded = await send(
            local,
            f"{RUN}?api_key=in-the-query&page=1",
            json=body,
            headers={**secrets, "Cookie": "session=abc", "Connection": "keep-alive, x-hop"},
        )
        assert b"".join(recorded[2]) == leak
        sent = fake.requests[0]
        for name, value in secrets.items():
            assert sent.headers[name] == value
        assert "Cookie" not in sent.headers
    text = path.read_text()
    found = [TOKEN, ACCOUNT, "provider-key", "in-the-query", "session=abc", *secrets.values()]
    assert not [secret for secret in found if secret.removeprefix("Bearer ") in text]
    (line,) = lines(path)
    assert line["request"]["query"] == [["api_key", "REMOVED"], ["page", "1"]]
    # The next user has other credentials.
    async with running(tape=Replay(path)) as local:
        other = {**body, "prompt": "My token is another-token-than-before"}
        other["headers"] = {"authorization": "Bearer other", "x-api-key": "other"}
        status, _, chunks = await send(
            local,
            RUN.replace(ACCOUNT, "f" * 32) + "?page=1&api_key=x",
            json=other,
            headers={"Authorization": "Bearer another-token-than-before"},
        )
    assert status == 200
    assert len(b"".join(chunks)) == len(leak)


@pytest.mark.parametrize(
    "header",
    [
        "Transfer-Encoding",
        "Connection",
        "Keep-Alive",
        "Proxy-Authorization",
        "TE",
        "Upgrade",
        "Host",
        "X-Forwarded-For",
        "x-cfai-fault",
        "Cookie",
        "Origin",
    ],
)
async def test_headers_of_the_connection_are_not_passed_on(tmp_path: Path, header: str) -> None:
    async with recording(tmp_path / "r.jsonl") as (local, fake):
        authority = local.server.base_url.split("/")[2]
        value = {
            "Transfer-Encoding": "chunked",
            "Host": authority,
            "Origin": f"http://{authority}",
            "x-cfai-fault": "malformed,events=999",
        }.get(header, "smuggled")
        fake.answers({"response": "Hi"})
        if header == "Transfer-Encoding":
            await send(local, data=_in_pieces(b'{"prompt":', b'"Hi"}'))
        else:
            await send(local, json={"prompt": "Hi"}, headers={header: value})
        sent = fake.requests[0]
        assert sent.json() == {"prompt": "Hi"}
        assert sent.headers.get(header) in (None, fake.base_url.split("/")[2])


async def _in_pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@pytest.mark.parametrize(
    "path",
    [
        "/client/v4/user/tokens",
        f"/client/v4/accounts/{ACCOUNT}/workers/scripts",
        f"/client/v4/accounts/{ACCOUNT}/ai/../workers/scripts",
        f"/client/v4/accounts/{ACCOUNT}/ai/%2e%2e/tokens",
        "//evil.example/client/v4/accounts/1/ai/run/x",
        "/@evil.example/ai/run/x",
    ],
)
async def test_only_paths_of_workers_ai_are_passed_on(tmp_path: Path, path: str) -> None:
    async with recording(tmp_path / "r.jsonl") as (local, fake):
        reader, writer = await asyncio.open_connection(*_address(local))
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        assert b" 404 " in (await reader.read()).splitlines()[0]
        writer.close()
        assert not fake.requests


def _address(local: Local) -> tuple[str, int]:
    host, _, port = local.server.base_url.split("/")[2].partition(":")
    return host, int(port)


async def test_websockets_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    async with recording(path) as (local, fake):
        url = local.server.base_url.removesuffix("/client/v4") + RUN
        with pytest.raises(WSServerHandshakeError) as caught:
            await local.http.ws_connect(url)
        assert caught.value.status == 501
        assert not fake.requests
    assert lines(path) == []


async def test_equal_requests_are_replayed_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    async with recording(path) as (local, fake):
        for text in ("one", "two"):
            fake.answers({"response": text})
            await send(local, json={"prompt": "Hi", "seed": 1})
    # The order of the fields and the spaces do not matter.
    spaced = b'{ "seed": 1, "prompt": "Hi" }'
    async with running(tape=Replay(path)) as local:
        texts = [b"".join((await send(local, data=spaced))[2]) for _ in range(2)]
        assert [b"one" in texts[0], b"two" in texts[1]] == [True, True]
        status, _, (body,) = await send(local, data=spaced)
        assert status == 400
        assert b"was requested once more than it was recorded (in line 2, 3 of chat.jsonl)" in body
    async with running(tape=Replay(path, repeats=True)) as local:
        texts = [b"".join((await send(local, data=spaced))[2]) for _ in range(4)]
    assert [text.count(b"two") for text in texts] == [0, 1, 1, 1]


async def test_a_restarted_replay_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    async with recording(path) as (local, fake):
        fake.answers({"response": "one"})
        await send(local, json={"prompt": "Hi"})
    server = Server(tape=Replay(path))
    for _ in range(2):
        async with server, client(server) as ai:
            assert (await ai.run(LLAMA, Prompt("Hi"))).text == "one"


DIFFERENCES: list[tuple[dict[str, Any], str]] = [
    ({"json": {"prompt": "Hello", "seed": 1}}, "body.json.prompt: recorded 'Hi', got 'Hello'"),
    ({"json": {"prompt": "Hi"}}, "body.json.seed is missing, recorded 1"),
    ({"json": {"prompt": "Hi", "seed": 1, "x": 2}}, "body.json.x was not recorded, got 2"),
    ({"json": {"prompt": "Hi", "seed": 1.0}}, "body.json.seed: recorded 1, got 1.0"),
    ({"json": {"prompt": "Hi", "seed": True}}, "body.json.seed: recorded 1, got True"),
    ({"json": {"prompt": ["Hi"], "seed": 1}}, "body.json.prompt: recorded 'Hi', got ["),
    (
        {"json": {"prompt": "Hi", "seed": 1}, "headers": {"cf-aig-cache-key": "k"}},
        "headers.cf-aig-cache-key was not recorded, got 'k'",
    ),
]


@pytest.mark.parametrize(("request_", "difference"), DIFFERENCES)
async def test_an_unknown_request_gets_an_error_with_the_difference(
    tmp_path: Path, request_: dict[str, Any], difference: str
) -> None:
    path = tmp_path / "chat.jsonl"
    async with recording(path) as (local, fake):
        fake.answers({"response": "one"})
        await send(local, json={"prompt": "Something else", "lora": "x"})
        fake.answers({"response": "two"})
        await send(local, json={"prompt": "Hi", "seed": 1})
    async with running(tape=Replay(path)) as local:
        status, _, (body,) = await send(local, **request_)
    (error,) = orjson.loads(body)["errors"]
    assert (status, error["code"]) == (400, 90005)
    assert "the nearest, in line 3, differs: " in error["message"]
    assert difference in error["message"]


async def test_our_client_does_not_retry_an_unknown_request(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    async with recording(path):
        pass
    async with Server(tape=Replay(path)) as server, client(server) as ai:
        with pytest.raises(BadRequest, match=r"no response to POST .* is recorded in chat.jsonl"):
            await ai.run(LLAMA, "Hi")
        assert len(server.requests) == 1


def form(content: bytes, boundary: str) -> MultipartWriter:
    writer = MultipartWriter("form-data", boundary=boundary)
    part = writer.append(content, {"Content-Type": "text/html"})
    part.set_content_disposition("form-data", name="files", filename="a.html")
    part = writer.append("markdown")
    part.set_content_disposition("form-data", name="output")
    return writer


async def test_forms_are_matched_without_their_boundaries(tmp_path: Path) -> None:
    path, url = tmp_path / "m.jsonl", f"/client/v4/accounts/{ACCOUNT}/ai/tomarkdown"
    content = b"<p>\r\n\r\nHi --cut \xff</p>"
    async with recording(path) as (local, fake):
        fake.answers([{"name": "a.html"}])
        await send(local, url, data=form(content, "cut-one"))
        assert content in fake.requests[0].body
    async with running(tape=Replay(path)) as local:
        assert (await send(local, url, data=form(content, "cut-another")))[0] == 200
        status, _, (body,) = await send(local, url, data=form(b"<p>Ho</p>", "cut-one"))
    assert status == 400
    assert b"body.parts[0].sha256" in body
    (line,) = lines(path)
    first, second = line["request"]["body"]["parts"]
    assert (first["name"], first["filename"], first["bytes"]) == ("files", "a.html", 21)
    assert (second["name"], second["text"]) == ("output", "markdown")
    assert line["request"]["headers"] == {"content-type": "multipart/form-data"}


async def test_media_are_recorded_as_digests(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    bodies: list[Any] = [
        {"json": {"image": list(b"\x01\x02" * 1000)}},
        {"json": {"image": "A" * 5000}},
        {"data": b"\xff\xfbraw audio" * 500, "headers": {"Content-Type": "audio/mpeg"}},
    ]
    async with recording(path) as (local, fake):
        for body in bodies:
            fake.answers({"text": "x"})
            assert (await send(local, **body))[0] == 200
    assert path.stat().st_size < 3000
    async with running(tape=Replay(path)) as local:
        for body in bodies:
            assert (await send(local, **body))[0] == 200
        changed: Any = {"json": {"image": list(b"\x01\x03" * 1000)}}
        assert (await send(local, **changed))[0] == 400


@pytest.mark.parametrize(
    ("value", "is_digest"),
    [
        ("a" * 4096, False),
        ("a" * 4097, True),
        (["x", {"y": "é" * 4097}], True),
        ([1] * 1024, False),
        ([1] * 1025, True),
        ([1.5] * 1025, False),
        ([True] * 1025, False),
        ([[1] * 1025], True),
    ],
    ids=range(8),
)
async def test_long_texts_and_lists_of_integers_are_digests(
    tmp_path: Path, value: Any, is_digest: bool
) -> None:
    path = tmp_path / "m.jsonl"
    async with recording(path) as (local, fake):
        fake.answers({})
        await send(local, json={"image": value})
    (line,) = lines(path)
    recorded = line["request"]["body"]["json"]["image"]
    if is_digest:
        while isinstance(recorded, list):
            recorded = recorded[-1]
        recorded = recorded.get("y", recorded)
        assert recorded.keys() == {"sha256", "bytes"}
        inner = value[-1] if isinstance(value[-1], list | dict) else value
        inner = inner["y"] if isinstance(inner, dict) else inner
        encoded = inner.encode() if isinstance(inner, str) else orjson.dumps(inner)
        assert recorded["bytes"] == len(encoded)
        assert recorded["sha256"] == hashlib.sha256(encoded).hexdigest()
    else:
        assert recorded == value


@pytest.mark.parametrize(("token", "is_removed"), [("sevensm", False), ("eightsma", True)])
async def test_credentials_of_eight_characters_are_looked_for_in_bodies(
    tmp_path: Path, token: str, is_removed: bool
) -> None:
    """Shorter ones could be words. Of two, the longer one is removed first."""
    path = tmp_path / "m.jsonl"
    headers = {"Authorization": f"Bearer {token}", "X-Auth-Key": f"{token}-and-more"}
    async with recording(path) as (local, fake):
        fake.says(f'{{"a":"{token}","b":"{token}-and-more"}}'.encode())
        body = {"prompt": f"It is {token}.", "more": f"{token}-and-more"}
        await send(local, f"{RUN}?q={token}", json=body, headers=headers)
    (line,) = lines(path)
    recorded = line["request"]
    assert recorded["body"]["json"]["more"] == "REMOVED"
    assert recorded["body"]["json"]["prompt"] == f"It is {'REMOVED' if is_removed else token}."
    assert recorded["query"] == [["q", "REMOVED" if is_removed else token]]
    hidden = "x" * len(token) if is_removed else token
    (chunk,) = line["response"]["chunks"]
    assert chunk == f'{{"a":"{hidden}","b":"{"x" * len(f"{token}-and-more")}"}}'


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [
        ("api_key", True),
        ("X-API-Key", True),
        ("my-api-key", True),
        ("Password", True),
        ("client_secret", True),
        ("token", True),
        ("auth-email", True),
        ("set-cookie", True),
        ("max_tokens", False),
        ("tokens", False),
        ("tokenizer", False),
        ("key", False),
    ],
)
async def test_texts_are_removed_by_the_names_of_their_fields(
    tmp_path: Path, name: str, is_secret: bool
) -> None:
    """At every depth; numbers and objects are no secrets."""
    path = tmp_path / "m.jsonl"
    async with recording(path) as (local, fake):
        fake.answers({})
        body = {name: "value", "a": [{name: "value"}], "b": {name: 5}, "c": {name: {"d": "e"}}}
        await send(local, f"{RUN}?{name}=value", json=body)
    (line,) = lines(path)
    text = "REMOVED" if is_secret else "value"
    assert line["request"]["body"]["json"] == {**body, name: text, "a": [{name: text}]}
    assert line["request"]["query"] == [[name, text]]


async def test_an_error_shows_at_most_three_differences(tmp_path: Path) -> None:
    """To the nearest request: the first of those with the fewest."""
    path = tmp_path / "chat.jsonl"
    async with recording(path) as (local, fake):
        for body in ({"a": 1, "b": 2, "c": 3, "d": 4}, {"a": [1, {"x": 2}]}, {"a": [1, {"x": 3}]}):
            fake.answers({})
            await send(local, json=body)
    async with running(tape=Replay(path)) as local:
        _, _, (reply,) = await send(local, json={"a": [1, {"x": 4}, 5]})
        message = orjson.loads(reply)["errors"][0]["message"]
        assert message.endswith(
            "the nearest, in line 3, differs: body.json.a has 3 items, recorded 2; "
            "body.json.a[1].x: recorded 2, got 4"
        )
        _, _, (reply,) = await send(local, json={"a": 9, "b": 9, "c": 9, "d": 9})
        message = orjson.loads(reply)["errors"][0]["message"]
        assert message.endswith(
            "in line 2, differs: body.json.a: recorded 1, got 9; body.json.b: recorded 2, got 9; "
            "body.json.c: recorded 3, got 9"
        )


@pytest.mark.parametrize("status", [200, 599])
async def test_the_headers_of_a_replay_are_the_recorded_ones_and_its_own(
    tmp_path: Path, status: int
) -> None:
    path = tmp_path / "m.jsonl"
    sent = {
        "cf-ray": "abc-FRA",
        "cf-ai-req-id": "1",
        "Retry-After": "9",
        "Server": "cloudflare",
        "X-Other": "x",
    }
    async with recording(path) as (local, fake):
        fake.says(b"{}", status=status, headers=sent)
        assert (await send(local, json={"prompt": "Hi"}))[0] == status
    (line,) = lines(path)
    assert line["response"]["status"] == status
    assert line["response"]["headers"] == {
        "cf-ray": "abc-FRA",
        "cf-ai-req-id": "1",
        "retry-after": "9",
        "content-type": "application/json",
    }
    assert "cut" not in line["response"]
    async with running(tape=Replay(path)) as local:
        url = local.server.base_url.removesuffix("/client/v4") + RUN
        async with local.http.post(url, json={"prompt": "Hi"}) as response:
            assert response.status == status
            assert response.headers["cf-ray"] == "abc-FRA"
            assert response.headers["cfai-backend"] == "replay"
            assert response.headers["cfai-local"] == "1"
            assert "X-Other" not in response.headers


async def test_binary_answers_and_errors_are_replayed(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    audio = bytes(range(256)) * 10
    async with recording(path) as (local, fake):
        fake.says(audio, content_type="audio/mpeg", headers={"cf-ai-neurons": "1.5"})
        assert await send(local, json={"text": "Hi"}) == (200, "audio/mpeg", [audio])
        fake.fails(429, 3040, "busy", retry_after=7)
        await send(local, json={"text": "Ho"})
    async with running(tape=Replay(path)) as local:
        assert await send(local, json={"text": "Hi"}) == (200, "audio/mpeg", [audio])
        url = local.server.base_url.removesuffix("/client/v4") + RUN
        async with local.http.post(url, json={"text": "Ho"}) as response:
            assert (response.status, response.headers["Retry-After"]) == (429, "7")


async def test_a_stream_that_was_cut_is_cut_again(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    async with recording(path) as (local, fake):
        fake.says(EVENTS[0], then_hangs_up=True)
        with pytest.raises(ClientError):
            await send(local, json={"prompt": "Hi", "stream": True})
    (line,) = lines(path)
    assert line["response"]["cut"] is True
    async with Server(tape=Replay(path)) as server, client(server) as ai:
        with pytest.raises(StreamInterrupted) as caught:
            await ai.stream(LLAMA, "Hi").collect()
    assert caught.value.answer.text == "Hel"


async def test_what_a_client_read_before_it_left_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    async with recording(path) as (local, fake):
        fake.says(EVENTS[0], asyncio.Event(), *EVENTS[1:])
        url = local.server.base_url.removesuffix("/client/v4") + RUN
        async with local.http.post(url, json={"prompt": "Hi", "stream": True}) as response:
            assert await response.content.readany() == EVENTS[0]
            response.close()
        await local.done()
    (line,) = lines(path)
    assert line["response"]["chunks"] == [EVENTS[0].decode()]
    assert line["response"]["cut"] is True


async def test_a_service_that_cannot_be_reached_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    async with running(tape=Record(path, "http://127.0.0.1:9")) as local:
        status, _, (body,) = await send(local, json={"prompt": "Hi"})
    assert (status, orjson.loads(body)["errors"][0]["code"]) == (502, 90004)
    assert TOKEN.encode() not in body
    assert not lines(path)


async def test_faults_and_tokens_also_concern_replays(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    async with recording(path) as (local, fake):
        fake.says(*EVENTS)
        await send(local, json={"prompt": "Hi", "stream": True})
    faults = [Fault("capacity", times=1), Fault("malformed", events=1)]
    async with running(tape=Replay(path), token=TOKEN, faults=faults) as local:
        assert (await send(local, headers={"Authorization": "Bearer x"}))[0] == 401
        assert (await send(local, json={"prompt": "Hi", "stream": True}))[0] == 429
        _, _, chunks = await send(local, json={"prompt": "Hi", "stream": True})
    whole = b"".join(EVENTS)
    assert b"".join(chunks) == whole[:26] + b'data: {"response":"\n\n' + whole[26:]


async def test_the_second_server_can_be_another_local_one(tmp_path: Path) -> None:
    """A whole program is recorded against one server and replayed without it."""
    path = tmp_path / "m.jsonl"

    async def program(ai: WorkersAI) -> list[Any]:
        vectors = await ai.embed(BGE, ["one", "two"])
        text = await ai.run(LLAMA, Prompt("Hi", max_tokens=5, seed=1))
        streamed = await ai.stream(LLAMA, Prompt("Hi", max_tokens=5, seed=1)).collect()
        return [vectors.tolist(), text.text, streamed.text, text.meta.backend]

    async with (
        running() as second,
        running(tape=Record(path, second.server.base_url)) as local,
        client(local.server, ACCOUNT) as ai,
    ):
        expected = await program(ai)
    async with Server(tape=Replay(path)) as server, client(server) as ai:
        assert await program(ai) == expected
    assert expected[3] == "smollm2-135m-q4_1"


async def test_a_path_of_the_gateway_goes_to_the_same_host(tmp_path: Path) -> None:
    path = f"/v1/{ACCOUNT}/gate/workers-ai/{LLAMA}"
    async with recording(tmp_path / "m.jsonl") as (local, fake):
        fake.answers({"response": "Hi"})
        assert (await send(local, path, json={"prompt": "Hi"}))[0] == 200
        assert fake.requests[0].path == path
    (line,) = lines(tmp_path / "m.jsonl")
    assert line["request"]["path"] == f"/v1/{{account}}/gate/workers-ai/{LLAMA}"


async def test_a_compressed_request_is_matched_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    async with recording(path) as (local, fake):
        fake.answers({"response": "Hi"})
        assert (await send(local, json={"prompt": "Hi"}, compress="gzip"))[0] == 200
        assert fake.requests[0].json() == {"prompt": "Hi"}
    async with running(tape=Replay(path)) as local:
        assert (await send(local, json={"prompt": "Hi"}))[0] == 200


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://x", "http or https"),
        ("http://", "http or https"),
        ("https://user:pw@host/client/v4", "without credentials"),
        ("https://host/?a=b", "without credentials and query"),
        ("http://api.example/client/v4", "must be https"),
    ],
)
def test_invalid_urls_are_refused(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Record(tmp_path / "r.jsonl", url)
    assert "pw" not in str(caught.value)


async def test_a_recording_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"paid for")
    with pytest.raises(ConfigError, match=r"r\.jsonl exists: delete it"):
        async with Server(tape=Record(path)):
            pass
    assert path.read_bytes() == b"paid for"
    with pytest.raises(ConfigError, match="cannot record to"):
        async with Server(tape=Record(path / "r.jsonl")):
            pass
    async with Server(tape=Record(tmp_path / "new" / "folder" / "r.jsonl")):
        pass


HEAD = b'{"recording":"cfai","version":1}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[]\n", "is not a recording of this version"),
        (b'{"recording":"cfai","version":2}\n', "is not a recording of this version"),
        (b"nonsense\n", "line 1, is not of a recording"),
        (HEAD + b"nonsense\n", "line 2, is not of a recording"),
        (HEAD + b"{}\n", "line 2, is not of a recording"),
        (HEAD + b'{"request":{},"response":{"status":200,"headers":{},"chunks":[]}}\n', "line 2"),
        (
            HEAD + b'{"request":{"method":"GET","path":"/","query":[],"headers":{},"body":null},'
            b'"response":{"status":100,"headers":{},"chunks":[]}}\n',
            "status must be between 200 and 599, got 100",
        ),
        *(
            (
                HEAD
                + b'{"request":{"method":"GET","path":"/","query":[],"headers":{},"body":null},'
                b'"response":{"status":%s,"headers":{},"chunks":%s}}\n' % (status, chunks),
                message,
            )
            for status, chunks, message in (
                (b"199", b"[]", "status must be between 200 and 599, got 199"),
                (b"600", b"[]", "status must be between 200 and 599, got 600"),
                (b'"200"', b"[]", "status must be between 200 and 599, got '200'"),
                (b"200", b"[5]", "line 2, is not of a recording"),
                (b"200", b'[{"base64":"%%"}]', "line 2, is not of a recording"),
                (b"200", b"5", "line 2, is not of a recording"),
            )
        ),
    ],
)
def test_a_file_that_is_no_recording_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        Replay(path)
    with pytest.raises(ConfigError, match="No such file"):
        Replay(tmp_path / "missing.jsonl")


async def test_a_form_of_any_client_is_recorded(tmp_path: Path) -> None:
    async with recording(tmp_path / "r.jsonl") as (local, fake):
        fake.answers([])
        data = FormData()
        data.add_field("files", b"x", filename="ä.html", content_type="text/html")
        async with ClientSession() as http:
            url = local.server.base_url + f"/accounts/{ACCOUNT}/ai/tomarkdown"
            headers = {"Authorization": f"Bearer {TOKEN}"}
            async with http.post(url, data=data, headers=headers) as response:
                assert response.status == 200
    (line,) = lines(tmp_path / "r.jsonl")
    assert line["request"]["body"]["parts"][0]["name"] == "files"
