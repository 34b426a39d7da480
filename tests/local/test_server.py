"""The server starts and stops repeatedly, and listens on loopback addresses only."""

import asyncio
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession, FormData
from aiohttp.web import StreamResponse

from cfai.errors import ConfigError
from cfai.local import Limits, Server, weights
from cfai.local.requests import ApiRequest

from .conftest import LLAMA, Local, running


async def test_credentials_are_the_arguments_of_a_client() -> None:
    async with Server() as server:
        assert server.base_url.startswith("http://127.0.0.1:")
        assert server.base_url.endswith("/client/v4")
        assert server.credentials == {
            "account_id": "local",
            "api_token": "local-api-token",
            "base_url": server.base_url,
        }


async def test_credentials_contain_the_token_of_the_server() -> None:
    async with running(token="only this") as local:
        account, token, base = local.server.credentials.values()
        url = f"{base}/accounts/{account}/ai/run/@cf/huggingface/distilbert-sst-2-int8"
        headers = {"Authorization": f"Bearer {token}"}
        async with local.http.post(url, json={"text": "good"}, headers=headers) as response:
            assert response.status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "example.org", ""])  # noqa: S104
def test_the_host_must_be_a_loopback_address(host: str) -> None:
    with pytest.raises(ConfigError, match="loopback"):
        Server(host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
async def test_every_loopback_address_works(host: str) -> None:
    async with running(host=host) as local:
        reply = await local.post("@cf/huggingface/distilbert-sst-2-int8", {"text": "good"})
        assert reply.status == 200


async def test_a_port_in_use_is_an_error() -> None:
    async with Server() as first:
        port = int(first.base_url.split(":")[2].split("/")[0])
        second = Server(port=port)
        with pytest.raises(ConfigError, match=str(port)):
            await second.__aenter__()


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("localhost", "127.0.0.1"),
        ("127.0.0.2", "127.0.0.2"),
        ("::1", "[::1]"),
        ("0:0:0:0:0:0:0:1", "[0:0:0:0:0:0:0:1]"),
    ],
)
def test_the_address_is_that_of_the_host(host: str, address: str) -> None:
    assert Server(host=host).base_url == f"http://{address}:0/client/v4"


async def test_each_kind_of_work_has_its_threads() -> None:
    """Two for models, two for documents, and two for text."""
    earlier = set(threading.enumerate())  # Perhaps of a server that left a busy one behind.

    def count(kind: str) -> int:
        threads = set(threading.enumerate()) - earlier
        return sum(thread.name.startswith(f"cfai-{kind}_") for thread in threads)

    async with running() as local:
        url = f"{local.server.base_url}/accounts/0/ai/tomarkdown"

        async def convert() -> None:
            form = FormData()
            form.add_field("files", b"a,b", filename="a.csv", content_type="text/csv")
            async with local.http.post(url, data=form) as response:
                assert response.status == 200

        async def embed() -> None:
            text = ["word " * 200] * 5
            reply = await local.post("@cf/baai/bge-small-en-v1.5", {"text": text})
            assert reply.status == 200

        async def generate() -> None:
            assert (await local.post(LLAMA, {"prompt": "Hi", "max_tokens": 3})).status == 200

        await asyncio.gather(*(work() for _ in range(5) for work in (convert, embed, generate)))
        assert {kind: count(kind) for kind in ("documents", "models", "text")} == {
            "documents": 2,
            "models": 2,
            "text": 2,
        }
        assert not local.server.has_busy_thread
    assert count("") == 0


async def test_a_model_that_does_not_stop_is_left_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After eight seconds; the next server has threads of its own."""
    gate = threading.Event()
    async with running() as local:
        assert local.server._runs
        stuck = local.server._runs.others.start(gate.wait)
        await local.server.close()
        assert local.server.has_busy_thread
        assert [record.getMessage() for record in caplog.records] == [
            "a model did not stop within eight seconds and was left behind"
        ]
        gate.set()
        assert await stuck


@pytest.mark.parametrize(
    ("model", "body"),
    [
        ("@cf/baai/bge-small-en-v1.5", {"text": "a"}),
        ("@cf/baai/bge-reranker-base", {"query": "a", "contexts": [{"text": "a"}]}),
        ("@cf/huggingface/distilbert-sst-2-int8", {"text": "a"}),
    ],
)
async def test_what_must_not_wait_is_refused_if_every_thread_is_busy(
    model: str, body: dict[str, Any]
) -> None:
    gate = threading.Event()
    async with running() as local:
        assert local.server._runs
        busy = [local.server._runs.others.start(gate.wait) for _ in range(2)]
        reject = {"options": {"rejectIfBusy": True}}
        assert (await local.post(model, {**body, **reject})).error[:2] == (429, 3040)
        if "text" in body:
            url = f"{local.server.base_url}/accounts/0/ai/v1/embeddings"
            request = {"model": "@cf/baai/bge-small-en-v1.5", "input": "a", **reject}
            async with local.http.post(url, json=request) as response:
                assert response.status == 429
        waiting = asyncio.create_task(
            local.post(model, {**body, "options": {"rejectIfBusy": False}})
        )
        gate.set()
        assert (await waiting).status == 200
        await asyncio.gather(*busy)
        assert (await local.post(model, {**body, **reject})).status == 200


@pytest.mark.usefixtures("speech_weights", "vision_weights")
@pytest.mark.parametrize(
    ("model", "body", "kind"),
    [
        ("@cf/microsoft/resnet-50", {"image": [1]}, "media"),
        ("@cf/openai/whisper", {"audio": [1]}, "media"),
        ("@cf/deepgram/aura-1", {"text": "Hi."}, "media"),
        ("@cf/myshell-ai/melotts", {"prompt": "Hi."}, "media"),
        ("@cf/baai/bge-small-en-v1.5", {"text": "a"}, "models"),
        ("@cf/huggingface/distilbert-sst-2-int8", {"text": "a"}, "models"),
        (LLAMA, {"prompt": "Hi", "max_tokens": 1}, "text"),
    ],
)
@pytest.mark.parametrize("queued", [False, True])
async def test_images_and_sound_keep_no_texts_waiting(
    model: str, body: dict[str, Any], kind: str, *, queued: bool
) -> None:
    """Each kind of task runs in its own threads, also in a batch."""
    earlier = set(threading.enumerate())
    async with running() as local:
        if queued:
            url = f"{local.url(model)}?queueRequest=true"
            async with local.http.post(url, json={"requests": [body]}) as response:
                poll = {"request_id": (await response.json())["result"]["request_id"]}
            result: Any = {}
            while "responses" not in result:
                async with local.http.post(url, json=poll) as response:
                    result = (await response.json())["result"]
        else:
            assert (await local.post(model, body)).status in (200, 400)
        threads = set(threading.enumerate()) - earlier
        names = {thread.name.rpartition("_")[0] for thread in threads}
        used = names & {"cfai-media", "cfai-models", "cfai-text", "cfai-upstream"}
        assert used == {f"cfai-{kind}"}


class Broken:
    """A tape that fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.calls: list[str] = []

    async def open(self) -> None:
        self.calls.append("open")

    async def close(self) -> None:
        self.calls.append("close")

    async def answer(self, request: ApiRequest) -> StreamResponse:
        raise self.error


async def test_an_unexpected_error_is_an_answer_with_500(caplog: pytest.LogCaptureFixture) -> None:
    """And its traceback is logged."""
    tape = Broken(ValueError("oops"))
    async with running(tape=tape) as local:
        status, code, message = (await local.post(LLAMA, {"prompt": "Hi"})).error
        assert (status, code) == (500, 8005)
        assert "Internal Server Error: ValueError: oops (" in message
        assert (await local.done()).status == 500
        assert tape.calls == ["open"]
    assert tape.calls == ["open", "close"]
    (record,) = caplog.records
    assert record.getMessage() == "the local server failed to answer a request"
    assert record.exc_info


async def test_a_lost_connection_is_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    async with running(tape=Broken(ConnectionResetError("gone"))) as local:
        await local.post(LLAMA, {"prompt": "Hi"})
        assert (await local.done()).status == 499
    assert not caplog.records


async def test_the_status_of_every_answer_is_recorded(tmp_path: Path) -> None:
    """Of lists, scripts, faults and pages, too; and the model in the path."""
    script = tmp_path / "script.json"
    script.write_bytes(b'[{"contains":"x","body":"no","status":502}]')
    page = {"Origin": "http://localhost:1", "Access-Control-Request-Method": "POST"}
    paths = "/client/v4/accounts/0/ai"
    requests: list[tuple[str, str, Any, dict[str, str], int, str | None]] = [
        ("GET", "/health", None, {}, 200, None),
        ("GET", f"{paths}/models/search", None, {}, 200, None),
        ("GET", f"{paths}/nothing", None, {}, 404, None),
        ("PUT", f"{paths}/finetunes", None, {}, 405, None),
        ("OPTIONS", f"{paths}/run/{LLAMA}", None, page, 204, None),
        ("POST", f"{paths}/run/{LLAMA}", {"prompt": "x"}, {}, 502, LLAMA),
        ("POST", f"{paths}/run/{LLAMA}", {"prompt": 5}, {}, 400, LLAMA),
        ("POST", f"{paths}/run/{LLAMA}", {}, {"x-cfai-fault": "error,status=503"}, 503, LLAMA),
        ("POST", f"{paths}/run/{LLAMA}", {}, {"Authorization": ""}, 401, LLAMA),
    ]
    async with running(script=script, cors=["http://localhost:1"]) as local:
        root = local.server.base_url.removesuffix("/client/v4")
        for method, path, body, headers, status, model in requests:
            async with local.http.request(
                method, root + path, json=body, headers=headers
            ) as response:
                assert response.status == status
            exchange = await local.done()
            assert (exchange.status, exchange.model) == (status, model)
            assert exchange.backend == ("script" if status == 502 else None)


async def test_a_server_restarts_with_its_port_and_its_requests() -> None:
    async with running() as local:
        await local.post(LLAMA, {})
        await local.done()
        assert len(local.server.requests) == 1
    assert local.server.requests.maxlen == 10_000


async def test_limits_are_in_the_headers_of_accounts_only() -> None:
    async with running(limits=Limits(requests=5), cors=["http://localhost:1"]) as local:
        root = local.server.base_url.removesuffix("/client/v4")
        for path, has_limit in (("/health", False), ("/nothing", False)):
            async with local.http.get(root + path) as response:
                assert ("Ratelimit" in response.headers) is has_limit
                assert response.headers["Vary"] == "Origin"
        assert "Ratelimit" in (await local.post(LLAMA, {})).headers
    async with running() as local:
        headers = (await local.post(LLAMA, {})).headers
        assert not {"Ratelimit", "Vary", "Access-Control-Allow-Origin"} & set(headers)


async def test_a_generation_that_fails_has_no_end(local: Local) -> None:
    await local.post(LLAMA, {"prompt": "word " * 5000})
    exchange = await local.done()
    assert (exchange.status, exchange.ending, exchange.backend) == (400, None, None)
    await local.post(LLAMA, {"prompt": "Hi", "max_tokens": 1})
    exchange = await local.done()
    assert exchange.ending
    assert (exchange.status, exchange.ending.reason) == (200, "length")


async def test_a_server_can_restart_and_leaves_no_threads_or_tasks() -> None:
    threads, tasks = threading.active_count(), len(asyncio.all_tasks())
    server = Server()
    for _ in range(3):
        async with server, ClientSession(headers={"Authorization": "Bearer x"}) as http:
            url = f"{server.base_url}/accounts/0/ai/run/{LLAMA}"
            async with http.post(url, json={"prompt": "Hi", "max_tokens": 1}) as response:
                assert response.status == 200
            port = response.url.port
        await server.close()
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert (threading.active_count(), len(asyncio.all_tasks())) == (threads, tasks)


async def test_a_running_server_cannot_start_again() -> None:
    async with Server() as server:
        with pytest.raises(ConfigError, match="already running"):
            await server.__aenter__()
        async with ClientSession() as http, http.post(server.base_url) as response:
            assert response.status == 404


async def test_close_cancels_running_requests() -> None:
    before = threading.active_count()
    async with running() as local:
        body = {"prompt": "Tell a long story.", "max_tokens": 3000, "stream": True}
        async with local.open(LLAMA, body) as response:
            assert await response.content.readany()
            await local.server.close()
            exchange = await local.done()
    assert exchange.ending is not None
    assert exchange.ending.reason == "stopped"
    assert threading.active_count() == before


async def test_a_prewarmed_server_answers() -> None:
    async with running(prewarm=True) as local:
        assert (await local.post(LLAMA, {"prompt": "Hi", "max_tokens": 1})).status == 200


async def test_the_models_can_be_loaded_while_the_server_answers() -> None:
    async with running() as local:
        loading = asyncio.create_task(local.server.load_models())
        replies = [local.post(LLAMA, {"prompt": "Hi", "max_tokens": 1}) for _ in range(2)]
        assert [reply.status for reply in await asyncio.gather(*replies)] == [200, 200]
        await loading
    with pytest.raises(ConfigError, match="not running"):
        await local.server.load_models()


async def test_another_model_generates_the_text(tmp_path: Path) -> None:
    file = tmp_path / "My möde\n1.gguf"
    file.symlink_to(weights.ensure(weights.SMOLLM2)[0])
    async with running(model=file) as local:
        body = {"prompt": "Say hello.", "max_tokens": 4, "seed": 1}
        reply = await local.post(LLAMA, body)
        assert reply.headers["cfai-backend"] == "My m-de-1"
    async with running() as local:
        assert (await local.post(LLAMA, body)).result == reply.result


def test_a_model_that_is_no_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        Server(model=tmp_path / "none.gguf")
    file = tmp_path / "text.gguf"
    file.write_text("text")
    with pytest.raises(ConfigError, match="is not a GGUF file; model must be"):
        Server(model=file)


async def test_requests_are_recorded(local: Local) -> None:
    await local.post(LLAMA, {"prompt": "Hi", "max_tokens": 2})
    await local.post("@cf/no/such", {})
    await local.done()
    await local.done()
    first, second = local.server.requests
    assert (first.model, first.status, first.backend) == (LLAMA, 200, "smollm2-135m-q4_1")
    assert first.ending is not None
    assert first.ending.completion_tokens == 2
    assert (second.model, second.status, second.backend) == ("@cf/no/such", 400, None)


SCRIPT = """
import asyncio, sys
import cfai.local
loaded = {"numpy", "onnxruntime", "xllamacpp", "vader", "aiohttp"} & set(sys.modules)
assert not loaded, loaded
from cfai.local import Server
loaded = {"numpy", "onnxruntime", "xllamacpp", "vader"} & set(sys.modules)
assert not loaded, loaded
"""


def test_importing_the_server_loads_no_model_library() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)


WITHOUT_A_LIBRARY = """
import asyncio, sys
from aiohttp import ClientSession

model, body, library = sys.argv[1:]
sys.modules[library] = None
from cfai.local import Server

async def main():
    async with Server() as server, ClientSession(headers={"Authorization": "Bearer x"}) as http:
        async with http.post(f"{server.base_url}/accounts/0/ai/run/{model}", data=body) as response:
            print(response.status, await response.text())

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("model", "body", "library", "extra"),
    [
        (LLAMA, '{"prompt":"Hi"}', "xllamacpp", "local"),
        (LLAMA, '{"prompt":"Hi","stream":true}', "xllamacpp", "local"),
        ("@cf/baai/bge-m3", '{"text":"Hi"}', "onnxruntime", "local"),
        ("@cf/huggingface/distilbert-sst-2-int8", '{"text":"Hi"}', "vader", "local"),
        ("@cf/openai/whisper", '{"audio":[1]}', "soundfile", "speech"),
        ("@cf/deepgram/aura-1", '{"text":"Hi"}', "soundfile", "speech"),
        ("@cf/deepgram/aura-1", '{"text":"Hi"}', "hibari", "speech"),
    ],
)
def test_a_missing_library_is_named_in_the_error(
    model: str, body: str, library: str, extra: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_A_LIBRARY, model, body, library],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("501 ")
    assert '"code":90001' in done.stdout
    assert f"this needs {library}: pip install 'cfai-sdk[{extra}]'" in done.stdout


WITHOUT_WEIGHTS = """
import asyncio
from aiohttp import ClientSession
from cfai.errors import ConfigError
from cfai.local import Server

async def main():
    async with Server() as server, ClientSession(headers={"Authorization": "Bearer x"}) as http:
        url = f"{server.base_url}/accounts/0/ai/run/@cf/meta/llama-3.1-8b-instruct-fast"
        async with http.post(url, json={"prompt": "Hi"}) as response:
            print(response.status, await response.text())
    try:
        async with Server(prewarm=True):
            pass
    except ConfigError as error:
        print(error)

asyncio.run(main())
"""


def test_missing_weights_are_an_error_and_are_not_downloaded_by_a_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CFAI_CACHE", str(tmp_path))
    if weights.find(weights.SMOLLM2):
        pytest.skip("the weights are installed as a package")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_WEIGHTS], check=True, capture_output=True, text=True
    )
    request, startup = done.stdout.splitlines()
    assert request.startswith("501 ")
    assert '"code":90001' in request
    for message in (request, startup):
        assert "SmolLM2-135M-Instruct are missing" in message
        assert "cfai pull" in message


POST = b"POST /client/v4/accounts/0/ai/v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"


async def send_raw(server: Server, data: bytes) -> tuple[int, dict[str, str], bytes]:
    """The status, the headers and the body of the response to these bytes."""
    port = int(server.base_url.split(":")[2].split("/")[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.strip().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return int(lines[0].split()[1]), headers, body
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("data", "statuses"),
    [
        (b"GARBAGE\r\n\r\n", {400}),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 100, {400}),  # TLS
        (POST.replace(b"HTTP/1.1", b"HTTP/9.9") + b"\r\n", {400}),
        (POST + b"Host 127\r\n\r\n", {400}),
        (POST + b"X: " + b"a" * 70_000 + b"\r\n\r\n", {400, 431}),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", {400, 414}),
        (POST + b"".join(b"X%d: a\r\n" % number for number in range(5000)) + b"\r\n", {400, 431}),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", {400}),
        (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", {400}),
        (POST + b"Content-Length: abc\r\n\r\n", {400}),
        (POST + b"Content-Length: -5\r\n\r\n", {400}),
        (POST + b"Content-Encoding: br\r\nContent-Length: 2\r\n\r\n{}", {400}),
        (POST + b"Expect: 200-ok\r\nContent-Length: 2\r\n\r\n{}", {417}),
        (b"GET /a\x00b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", {400}),
        (b"GET http://[bad/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", {400}),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", {404}),
        (b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", {404}),
    ],
)
async def test_what_is_no_proper_http_gets_an_envelope(
    data: bytes, statuses: set[int], caplog: pytest.LogCaptureFixture
) -> None:
    async with Server() as server:
        status, headers, body = await send_raw(server, data)
        assert status in statuses
        assert headers["content-type"].startswith("application/json")
        document = orjson.loads(body)
        (error,) = document["errors"]
        assert (document["success"], type(error["code"])) == (False, int)
        assert "\n" not in error["message"]
    assert not caplog.records


async def test_a_client_that_waits_for_100_continue_gets_it() -> None:
    async with Server(token="secret") as server:
        status, _, _ = await send_raw(server, POST + b"Expect: 100-continue\r\n\r\n")
        assert status == 100


@pytest.mark.parametrize("path", ["/health", "/health/"])
async def test_the_health_needs_no_credentials(path: str) -> None:
    async with Server() as server, ClientSession() as http:
        url = server.base_url.replace("/client/v4", path)
        async with http.get(url) as response:
            assert (response.status, await response.json()) == (200, {"status": "ok"})
