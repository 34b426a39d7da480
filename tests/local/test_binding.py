"""A Worker's `env.AI`: literal requests, captured from miniflare 4.20260426."""

import asyncio
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import ClientPayloadError, ServerDisconnectedError

from cfai import ConfigError
from cfai.local import Fault, Replay
from cfai.local.binding import write_worker

from .conftest import LLAMA, Local, Reply, running

BGE = "@cf/baai/bge-small-en-v1.5"
AI = "https://workers-binding.ai"
RUN = f"{AI}/run?version=3"
STEP = {"provider": "workers-ai", "endpoint": LLAMA, "headers": {}}
HI = {"prompt": "Hi", "max_tokens": 2}


async def call(
    local: Local,
    url: str,
    body: bytes | dict[str, Any] | list[Any] | None = None,
    headers: Mapping[str, str] | None = None,
    method: str = "POST",
) -> Reply:
    """Send what workerd sends."""
    data = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
    fields = {"MF-Binding": "AI", "MF-URL": url, "Authorization": "", **(headers or {})}
    address = local.server.base_url.removesuffix("/client/v4") + "/binding?MF-Binding=AI"
    async with local.http.request(method, address, data=data, headers=fields) as response:
        return Reply(response.status, response.headers, await response.read())


def run_headers(model: str) -> dict[str, str]:
    return {
        "MF-Header-cf-consn-model-id": model,
        "MF-Header-content-type": "application/json",
    }


async def run(local: Local, model: str, inputs: Any, **options: Any) -> Reply:
    headers = {**run_headers(model), "MF-Header-cf-consn-sdk-version": "2.0.0"}
    return await call(local, RUN, {"inputs": inputs, "options": options}, headers)


async def test_the_question_for_a_session_is_refused_so_that_calls_are_sent(local: Local) -> None:
    headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
    assert (await call(local, "", headers=headers, method="GET")).status == 426


async def test_a_run_has_no_envelope_and_exactly_this_type(local: Local) -> None:
    reply = await run(local, LLAMA, {"prompt": "Hi", "max_tokens": 2})
    assert reply.json.keys() == {"response", "usage"}
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.headers["cfai-backend"] == "smollm2-135m-q4_1"
    vectors = await run(local, BGE, {"text": ["one", "two"]})
    assert vectors.json["shape"] == [2, 384]
    assert (await run(local, "@cf/zai-org/glm-4.7-flash", {"prompt": "Hi"})).json["choices"]


async def test_a_stream_is_passed_on(local: Local) -> None:
    reply = await run(local, LLAMA, {"prompt": "Hi", "max_tokens": 2, "stream": True})
    assert reply.headers["Content-Type"] == "text/event-stream"
    assert reply.body.startswith(b'data: {"response":"')
    assert reply.body.endswith(b"data: [DONE]\n\n")


async def test_a_run_through_a_gateway_is_a_run(local: Local) -> None:
    headers = run_headers(LLAMA)
    body = {"inputs": {"prompt": "Hi", "max_tokens": 2}, "options": {"gateway": {"id": "g"}}}
    reply = await call(local, f"{AI}/ai-gateway/run?version=3", body, headers)
    assert reply.json["response"]


async def test_a_queued_run_is_submitted(local: Local) -> None:
    reply = await run(local, BGE, {"requests": [{"text": "a"}]}, queueRequest=True)
    assert reply.json["status"] == "queued"


@pytest.mark.parametrize(
    ("model", "inputs", "status", "code"),
    [
        ("@cf/no/model", {"prompt": "x"}, 400, 5007),
        (LLAMA, {"prompt": "x", "temperature": 9}, 400, 5006),
        (LLAMA, [], 400, 5006),
        (LLAMA, None, 400, 3003),
        ("../../tokens", {"prompt": "x"}, 400, 5007),
        ("http://evil.example/", {"prompt": "x"}, 400, 5007),
        ("?queueRequest=true", {"prompt": "x"}, 400, 5007),
        ("@cf/stabilityai/stable-diffusion-xl-base-1.0", {"prompt": "x"}, 501, 90001),
    ],
)
async def test_errors_have_the_form_that_workerd_reads(
    local: Local, model: str, inputs: Any, status: int, code: int
) -> None:
    reply = await run(local, model, inputs)
    assert reply.status == status
    assert reply.headers["Content-Type"] == "application/json"
    document = reply.json
    assert document.keys() == {"internalCode", "message", "name", "description"}
    assert (document["internalCode"], document["name"]) == (code, "InferenceUpstreamError")
    assert document["message"] == document["description"]


@pytest.mark.parametrize(
    ("fault", "status"),
    [("error,status=399", 399), ("error,status=400", 400), ("error,status=599", 599)],
)
async def test_an_error_begins_at_400(local: Local, fault: str, status: int) -> None:
    """Other statuses are passed on with what they have."""
    headers = {**run_headers(LLAMA), "MF-Header-x-cfai-fault": fault}
    reply = await call(local, RUN, {"inputs": HI}, headers)
    assert reply.status == status
    assert ("internalCode" in reply.json) is (status >= 400)
    steps = [{**STEP, "query": HI}, {**STEP, "query": HI}]
    url = f"{AI}/ai-gateway/universal/run/g"
    reply = await call(local, url, steps, headers)
    assert (reply.status, reply.headers["cf-aig-step"]) == (status, "0" if status < 400 else "1")


async def test_only_the_headers_of_the_service_reach_a_worker(local: Local) -> None:
    for model, inputs in ((LLAMA, HI), (LLAMA, {**HI, "stream": True}), ("@cf/no/model", HI)):
        reply = await run(local, model, inputs)
        names = {name.lower() for name in reply.headers}
        assert {"cf-ray", "cfai-local"} <= names
        own = {"content-type", "content-length", "date", "server", "transfer-encoding"}
        others = names - own
        assert all(name.startswith(("cf-", "cfai-", "ratelimit")) for name in others)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([], "the call must be an object, got []"),
        (b"{", "the body is not JSON"),
        ({"inputs": HI, "options": {"queueRequest": False}}, None),
        ({"inputs": HI, "options": None}, None),
        ({"inputs": HI, "options": {"gateway": {"id": 5}, "tags": ["a"], "prefix": "x"}}, None),
        ({"inputs": HI, "options": {"gateway": "x", "extraHeaders": {}}}, None),
    ],
)
async def test_the_call_of_a_run(local: Local, body: Any, words: str | None) -> None:
    reply = await call(local, RUN, body, run_headers(LLAMA))
    if words is None:
        assert reply.json["response"]
    else:
        assert (reply.status, reply.json["internalCode"]) == (400, 5006)
        assert words in reply.json["message"]


async def test_a_call_beyond_the_limit_is_refused() -> None:
    async with running(body_limit=1000) as local:
        body = orjson.dumps({"inputs": HI}).ljust(1000)
        assert (await call(local, RUN, body, run_headers(LLAMA))).status == 200
        reply = await call(local, RUN, body + b" ", run_headers(LLAMA))
        assert (reply.status, reply.json["internalCode"]) == (413, 3006)


@pytest.mark.parametrize("option", ["websocket", "unknown"])
async def test_an_option_that_is_not_supported_is_named(local: Local, option: str) -> None:
    reply = await run(local, LLAMA, {"prompt": "x"}, **{option: True})
    assert (reply.status, reply.json["internalCode"]) == (501, 90001)
    assert option in reply.json["message"]


async def test_media_are_passed_on_as_they_are(local: Local) -> None:
    """No local model has this task; the request arrives and is refused for that."""
    headers = {
        "MF-Header-cf-consn-model-id": "@cf/openai/whisper-missing",
        "MF-Header-content-type": "audio/mpeg",
    }
    reply = await call(
        local, f"{AI}/run?version=3&userInputs=%7B%22language%22%3A%22en%22%7D", b"ID3", headers
    )
    assert reply.json["internalCode"] == 5007
    assert (await local.done()).model == "@cf/openai/whisper-missing"
    bad = await call(local, f"{AI}/run?version=3&userInputs=%5B%5D", b"ID3", headers)
    assert "userInputs must be an object" in bad.json["message"]


@pytest.mark.usefixtures("speech_weights")
async def test_a_worker_speaks_and_transcribes(local: Local) -> None:
    sound = await run(local, "@cf/deepgram/aura-1", {"text": "The train leaves at nine."})
    assert sound.headers["Content-Type"] == "audio/mpeg"
    headers = {
        "MF-Header-cf-consn-model-id": "@cf/deepgram/nova-3",
        "MF-Header-content-type": "audio/mpeg",
    }
    url = f"{RUN}&userInputs=%7B%22language%22%3A%22en%22%2C%22punctuate%22%3Atrue%7D"
    (channel,) = (await call(local, url, sound.body, headers)).json["results"]["channels"]
    assert channel["alternatives"][0]["transcript"] == "The train leaves at nine."
    whisper = await run(local, "@cf/openai/whisper", {"audio": list(sound.body)})
    assert whisper.json["text"] == "The train leaves at nine."


async def test_models_and_formats_have_the_envelope(local: Local) -> None:
    reply = await call(local, f"{AI}/ai-api/models/search?search=bge-m3", method="GET")
    assert [row["name"] for row in reply.result] == ["@cf/baai/bge-m3"]
    reply = await call(local, f"{AI}/to-everything/markdown/supported", method="GET")
    assert {"extension": ".html", "mimeType": "text/html"} in reply.result


async def test_files_are_converted(local: Local) -> None:
    data = b64encode(b"<h1>Hi</h1>").decode()
    file = {"name": "a.html", "mimeType": "text/html", "data": data}
    reply = await call(local, f"{AI}/to-everything/markdown/transformer", {"files": [file]})
    assert [row["data"] for row in reply.result] == ["# Hi\n"]


@pytest.mark.parametrize(
    "body",
    [
        b"nonsense",
        [],
        {},
        {"files": []},
        {"files": ["a"]},
        {"files": [{"name": "a", "mimeType": "text/html", "data": "%%"}]},
        {"files": [{"name": "a", "mimeType": "a\r\nX: y", "data": ""}]},
    ],
)
async def test_what_is_no_file_is_refused(local: Local, body: Any) -> None:
    reply = await call(local, f"{AI}/to-everything/markdown/transformer", body)
    assert reply.error[:2] == (400, 5006)


async def test_the_options_of_a_conversion_are_used_or_refused(local: Local) -> None:
    """The call is built as by workerd, src/cloudflare/internal/to-markdown-api.ts."""
    data = b64encode(b"<p><b>Hi</b></p>").decode()
    file = {"name": "a.html", "mimeType": "text/html", "data": data}
    url = f"{AI}/to-everything/markdown/transformer"
    reply = await call(local, url, {"files": [file], "options": {"foo": 1}})
    assert reply.error[0] == 501
    assert "conversionOptions.foo" in reply.error[2]
    options = {"output": {"format": "text"}}
    reply = await call(local, url, {"files": [file], "options": options})
    assert [row["data"] for row in reply.result] == ["Hi"]


async def test_the_first_step_that_succeeds_answers(local: Local) -> None:
    steps = [{**STEP, "endpoint": "@cf/no/model", "query": HI}, {**STEP, "query": HI}]
    reply = await call(local, f"{AI}/ai-gateway/universal/run/my-gate", steps)
    assert reply.headers["cf-aig-step"] == "1"
    assert reply.result["response"]
    reply = await call(local, f"{AI}/ai-gateway/universal/run/my-gate", steps[:1])
    assert (reply.headers["cf-aig-step"], reply.error[1]) == ("0", 5007)
    other = {"provider": "openai", "endpoint": "chat/completions", "query": {}}
    invalid: Any
    for invalid in ([], {}, [other]):
        reply = await call(local, f"{AI}/ai-gateway/universal/run/g", invalid)
        assert reply.status in (400, 501)


@pytest.mark.parametrize(
    "url", ["", "nonsense", "http://[bad", f"{AI}/unknown", "https://evil.example/tokens"]
)
async def test_other_urls_are_refused_and_never_requested(local: Local, url: str) -> None:
    reply = await call(local, url, {})
    assert reply.status in (400, 404)


async def test_a_page_and_a_rebound_name_are_refused(local: Local) -> None:
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        reply = await call(local, RUN, {}, headers)
        assert (reply.status, reply.json["internalCode"]) == (403, 10000)


async def test_a_server_with_a_token_is_not_open_to_workers() -> None:
    async with running(token="secret") as local:
        assert (await run(local, LLAMA, HI)).status == 401


async def test_faults_also_concern_workers() -> None:
    async with running(faults=[Fault("capacity", retry_after=3, times=1)]) as local:
        reply = await run(local, LLAMA, HI)
        assert (reply.status, reply.json["internalCode"]) == (429, 3040)
        assert reply.headers["Retry-After"] == "3"
        assert (await run(local, LLAMA, HI)).status == 200


async def test_a_call_can_ask_for_a_fault(local: Local) -> None:
    """What `extraHeaders` of `env.AI.run` become."""
    headers = {
        **run_headers(LLAMA),
        "MF-Header-x-cfai-fault": "error,status=503,code=7777,message=Out of order",
    }
    reply = await call(local, RUN, {"inputs": HI}, headers)
    assert (reply.status, reply.json["internalCode"]) == (503, 7777)
    assert "Out of order" in reply.json["message"]
    reply = await call(local, f"{AI}/ai-api/models/search", None, headers, "GET")
    assert reply.error[:2] == (503, 7777)


@pytest.mark.parametrize("fault", ["reset", "cut", "cut,bytes=5"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_connection_that_a_fault_closes_is_closed_for_the_worker(
    local: Local, fault: str, *, stream: bool
) -> None:
    headers = {**run_headers(LLAMA), "MF-Header-x-cfai-fault": fault}
    with pytest.raises((ClientPayloadError, ServerDisconnectedError)):
        await call(local, RUN, {"inputs": {**HI, "stream": stream}}, headers)


async def test_a_malformed_answer_reaches_the_worker_as_it_is(local: Local) -> None:
    headers = {**run_headers(LLAMA), "MF-Header-x-cfai-fault": "malformed"}
    reply = await call(local, RUN, {"inputs": HI}, headers)
    assert reply.status == 200
    assert reply.body.startswith(b'{"result":{"response":')
    assert reply.body.endswith(b'"messages":[]')


@pytest.mark.parametrize("options", [[1], "x", 5])
async def test_options_that_are_no_object_are_refused(local: Local, options: Any) -> None:
    headers = run_headers(LLAMA)
    reply = await call(local, RUN, {"inputs": HI, "options": options}, headers)
    assert (reply.status, reply.json["internalCode"]) == (400, 5006)
    assert "options must be an object" in reply.json["message"]


async def test_a_recording_also_answers_workers(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    request = {
        "method": "POST",
        "path": f"/client/v4/accounts/{{account}}/ai/run/{LLAMA}",
        "query": [],
        "headers": {},
        "body": {"json": HI},
    }
    chunk = '{"result":{"response":"recorded"},"success":true,"errors":[],"messages":[]}'
    response = {"status": 200, "headers": {"content-type": "application/json"}, "chunks": [chunk]}
    lines = [{"recording": "cfai", "version": 1}, {"request": request, "response": response}]
    path.write_bytes(b"\n".join(map(orjson.dumps, lines)))
    async with running(tape=Replay(path)) as local:
        assert (await run(local, LLAMA, HI)).json == {"response": "recorded"}


async def test_a_worker_that_leaves_stops_the_generation(local: Local) -> None:
    body = {"inputs": {"prompt": "Count.", "max_tokens": 4000, "stream": True}}
    headers = {
        "MF-URL": RUN,
        **run_headers(LLAMA),
    }
    address = local.server.base_url.removesuffix("/client/v4") + "/binding"
    async with local.http.post(address, json=body, headers=headers) as response:
        await response.content.readuntil(b"\n\n")
        response.close()
    async with asyncio.timeout(60):
        exchange = await local.done()
    assert exchange.ending is not None
    assert exchange.ending.reason == "stopped"


def test_the_worker_is_written_and_other_files_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "cfai-ai"
    for port in (1, 2):
        write_worker(folder, f"http://127.0.0.1:{port}")
    text = (folder / "wrangler.jsonc").read_text()
    config = orjson.loads(text.partition("\n")[2])
    assert config["env"]["local"]["vars"] == {"CFAI_ORIGIN": "http://127.0.0.1:2"}
    assert "class extends WorkerEntrypoint" in (folder / "index.js").read_text()
    (folder / "index.js").write_text("// mine")
    with pytest.raises(ConfigError, match=r"index\.js is another file"):
        write_worker(folder, "http://127.0.0.1:3")
    assert (folder / "index.js").read_text() == "// mine"
    with pytest.raises(ConfigError, match="cannot write to"):
        write_worker(folder / "index.js" / "x", "http://127.0.0.1:3")
