"""Refused requests: the codes, messages and bodies of the service, byte for byte."""

import asyncio
import gzip
import re
import zlib
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import orjson
import pytest
from aiohttp import FormData
from yarl import URL

from cfai.local import Server
from cfai.profiles import TASKS

from .conftest import LLAMA, Local, running

BERT = "@cf/huggingface/distilbert-sst-2-int8"
BGE = "@cf/baai/bge-base-en-v1.5"
QWEN = "@cf/qwen/qwen3-embedding-0.6b"
M3 = "@cf/baai/bge-m3"
RERANKER = "@cf/baai/bge-reranker-base"
SUMMARIZER = next(model for model, task in TASKS.items() if task == "Summarization")


# The envelope


async def test_an_error_before_the_model_has_the_exact_body_of_the_service(local: Local) -> None:
    reply = await local.post(BERT, b"{}", headers={"Authorization": ""})
    assert reply.status == 401
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.body == (
        b'{"result":null,"success":false,'
        b'"errors":[{"code":10000,"message":"Authentication error"}],"messages":[]}'
    )


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", f"run/{BERT}", {"Origin": "https://example.org"}, 403),
        ("POST", f"run/{BERT}", {"Authorization": ""}, 401),
        ("POST", "run/%2F", {}, 400),
        ("POST", "nothing", {}, 404),
        ("GET", f"run/{BERT}", {}, 405),
        ("POST", "finetunes/x/finetune-assets", {}, 404),
    ],
)
async def test_no_error_before_the_model_looks_like_one_of_the_model(
    local: Local, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    """It has no result, and its message neither the prefix nor the id of a model's error."""
    url = URL(f"{local.server.base_url}/accounts/0/ai/{path}", encoded=True)
    form = FormData({"file": BytesIO(b"x"), "file_name": "adapter_config.json"})
    data = form if "finetunes" in path else b"{}"
    async with local.http.request(method, url, headers=headers, data=data) as response:
        document = await response.json()
    assert (response.status, document["result"]) == (status, None)
    assert not re.search(r"AiError|[0-9a-f]{8}-", document["errors"][0]["message"])


async def test_an_error_of_a_model_has_the_recorded_format(local: Local) -> None:
    reply = await local.post("@cf/no/such-model", b"{}")
    assert reply.status == 400
    assert re.fullmatch(
        rb'\{"result":\{\},"success":false,"errors":\[\{"message":"AiError: AiError: '
        rb'No such model @cf/no/such-model or task \([0-9a-f-]{36}\)","code":5007\}\],'
        rb'"messages":\[\]\}',
        reply.body,
    )


async def test_every_response_is_marked_as_local(local: Local) -> None:
    good = await local.post(BERT, b'{"text":"good"}')
    bad = await local.post(BERT, b"{}")
    for reply in (good, bad):
        assert reply.headers["cfai-local"] == "1"
        assert re.fullmatch(r"[0-9a-f]{16}-LOCAL", reply.headers["cf-ray"])
    assert good.headers["cfai-backend"] == "vader"
    assert "cfai-backend" not in bad.headers


# Paths and credentials


@pytest.mark.parametrize("model", ["@cf%2Fmeta%2Fllama-3.1-8b-instruct-fast", "@cf/meta%2fllama"])
async def test_a_model_with_encoded_slashes_is_refused(local: Local, model: str) -> None:
    url = URL(local.url(model), encoded=True)
    async with local.http.post(url, data=b"{}") as response:
        assert response.status == 400
        assert (await response.json())["errors"] == [
            {"code": 7000, "message": "No route for that URI"}
        ]


@pytest.mark.parametrize(
    "path", ["/", "/client/v4", "/client/v4/accounts/0/ai", "/client/v4/accounts//ai/run/@cf/x"]
)
async def test_an_unknown_path_is_refused(local: Local, path: str) -> None:
    root = local.server.base_url.removesuffix("/client/v4")
    async with local.http.post(root + path, data=b"{}") as response:
        assert response.status == 404
        (error,) = (await response.json())["errors"]
        assert error["code"] == 7003
        assert error["message"] == (
            f"Could not route to {path}, perhaps your object identifier is invalid?"
        )


async def test_runs_require_post(local: Local) -> None:
    async with local.http.get(local.url(BERT)) as response:
        assert response.status == 405
        assert (await response.json())["errors"][0]["code"] == 7001


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer anything"}, 200),
        ({"Authorization": "bearer anything"}, 200),
        ({"Authorization": " Bearer  anything "}, 200),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": "Basic YTpi"}, 401),
        ({"Authorization": ""}, 401),
        ({"Authorization": "", "X-Auth-Email": "a@b.c", "X-Auth-Key": "k"}, 200),
        ({"Authorization": "", "X-Auth-Email": "a@b.c"}, 401),
        ({"Authorization": "", "X-Auth-Key": "k"}, 401),
        ({"Authorization": "", "X-Auth-Email": "a@b.c", "X-Auth-Key": " "}, 401),
        ({"Authorization": "Basic YTpi", "X-Auth-Email": "a@b.c", "X-Auth-Key": "k"}, 200),
        ({"Authorization": "", "cf-aig-authorization": "anything"}, 200),
        ({"Authorization": "", "cf-aig-authorization": "Bearer anything"}, 200),
        ({"Authorization": "", "cf-aig-authorization": " "}, 401),
        ({"Authorization": "Basic YTpi", "cf-aig-authorization": "anything"}, 401),
    ],
)
async def test_credentials_are_required(local: Local, headers: dict[str, str], status: int) -> None:
    reply = await local.post(BERT, b'{"text":"good"}', headers=headers)
    assert reply.status == status


@pytest.mark.parametrize(("token", "status"), [("right", 200), ("wrong", 401), ("", 401)])
async def test_a_server_with_a_token_accepts_only_that_one(token: str, status: int) -> None:
    async with running(token="right") as local:
        headers = {"Authorization": f"Bearer {token}"}
        reply = await local.post(BERT, b'{"text":"good"}', headers=headers)
        assert reply.status == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-Auth-Key": "right"}, 200),
        ({"X-Auth-Key": "wrong"}, 401),
        ({"cf-aig-authorization": "right"}, 200),
        ({"cf-aig-authorization": "Bearer right"}, 200),
        ({"cf-aig-authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Bearer rightt"}, 401),
        ({"Authorization": "Bearer RIGHT"}, 401),
    ],
)
async def test_a_token_is_compared_in_every_header(headers: dict[str, str], status: int) -> None:
    async with running(token="right") as local:
        fields = {"Authorization": "", "X-Auth-Email": "a@b.c", **headers}
        if "cf-aig-authorization" in headers:
            del fields["X-Auth-Email"]
        reply = await local.post(BERT, b'{"text":"good"}', headers=fields)
        assert reply.status == status


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://example.org"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Host": "example.org"},
        {"Host": "127.0.0.1.example.org:80"},
    ],
)
async def test_requests_of_other_origins_are_refused(local: Local, headers: dict[str, str]) -> None:
    reply = await local.post(BERT, b'{"text":"good"}', headers=headers)
    assert (reply.status, reply.json["success"]) == (403, False)


async def test_requests_of_its_own_origin_are_accepted(local: Local) -> None:
    origin = local.server.base_url.removesuffix("/client/v4")
    reply = await local.post(BERT, b'{"text":"good"}', headers={"Origin": origin})
    assert reply.status == 200


# Bodies

GZIP = gzip.compress(b'{"text":"good"}', mtime=0)


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b"", 3003, "Missing headers or body"),
        (b" \n", 3003, "Missing headers or body"),
        (b"text=good", 5006, "the body is not JSON"),
        (b'{"text":"a', 5006, "the body is not JSON"),
        (b'{"text":NaN}', 5006, "the body is not JSON"),
        (b"\xff\xfe", 5006, "the body is not JSON"),
        (b'["text"]', 5006, "the body must be a JSON object"),
        (b"null", 5006, "the body must be a JSON object"),
        (b"{}", 5006, "required properties at '/' are 'text'"),
        (b'{"text":null}', 5006, "required properties at '/' are 'text'"),
        (b'{"text":""}', 5006, "text must have at least 1 character, got ''"),
        (b'{"text":5}', 5006, "text must be a string, got 5"),
    ],
)
async def test_an_invalid_body_is_named_in_the_error(
    local: Local, body: bytes, code: int, message: str
) -> None:
    status, actual_code, text = (await local.post(BERT, body)).error
    assert (status, actual_code) == (400, code)
    assert message in text


async def test_a_body_beyond_the_limit_is_refused() -> None:
    async with running(body_limit=1000) as local:
        body = orjson.dumps({"text": "x" * 986})
        assert len(body) == 997
        assert (await local.post(BERT, body + b"   ")).status == 200
        assert (await local.post(BERT, body + b"    ")).error[:2] == (413, 3006)


async def test_a_body_has_at_most_32_mebibytes_by_default(local: Local) -> None:
    body = b'{"text":"good"}'.ljust(32 << 20)
    assert (await local.post(BERT, body)).status == 200
    status, code, message = (await local.post(BERT, body + b" ")).error
    assert (status, code) == (413, 3006)
    assert "the limit is 33554432 bytes" in message


@pytest.mark.parametrize("encoding", ["identity", "Identity", "gzip", "GZIP", "deflate"])
async def test_encoded_bodies_are_read(local: Local, encoding: str) -> None:
    body = b'{"text":"good"}'
    encoders: dict[str, Any] = {"gzip": gzip.compress, "deflate": zlib.compress}
    data = encoders.get(encoding.lower(), bytes)(body)
    reply = await local.post(BERT, data, headers={"Content-Encoding": encoding})
    assert reply.result == (await local.post(BERT, body)).result


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("offset=0", 200),
        ("limit=1", 200),
        ("limit=9223372036854775807", 200),
        ("limit=9223372036854775808", 400),
        ("limit=0009223372036854775807", 400),
        ("limit=%D9%A3", 400),
        ("limit=²", 400),
        ("limit=", 400),
        ("limit=+1", 400),
        ("limit=%201", 400),
    ],
)
async def test_numbers_of_a_query_are_digits_up_to_64_bits(
    local: Local, query: str, status: int
) -> None:
    url = f"{local.server.base_url}/accounts/0/ai/finetunes/public?{query}"
    async with local.http.get(URL(url, encoded="%" in query)) as response:
        document = await response.json()
    assert response.status == status
    if status == 400:
        (error,) = document["errors"]
        assert error["code"] == 90003
        assert "limit must be an integer of at least 1, got " in error["message"]


async def test_the_limit_applies_to_the_decompressed_body() -> None:
    async with running(body_limit=1000) as local:
        body = gzip.compress(orjson.dumps({"text": "x" * 100_000}))
        assert len(body) < 1000
        reply = await local.post(BERT, body, headers={"Content-Encoding": "gzip"})
        assert reply.error[:2] == (413, 3006)


async def test_a_body_with_a_wrong_content_encoding_is_refused(local: Local) -> None:
    reply = await local.post(BERT, b'{"text":"good"}', headers={"Content-Encoding": "gzip"})
    assert reply.status == 400


@pytest.mark.parametrize("encoding", ["br", "zstd", "snappy", "gzip, gzip"])
async def test_a_content_encoding_that_cannot_be_read_is_refused(
    local: Local, encoding: str
) -> None:
    """With an envelope. There may be libraries for the first two, which then find no such data."""
    reply = await local.post(BERT, b'{"text":"good"}', headers={"Content-Encoding": encoding})
    assert reply.error[0] == 400
    assert reply.headers["Content-Type"].startswith("application/json")


@pytest.mark.parametrize("encoding", ["snappy", "compress", "gzip, gzip"])
async def test_an_unknown_content_encoding_is_refused_with_the_known_ones(
    local: Local, encoding: str
) -> None:
    reply = await local.post(BERT, b'{"text":"good"}', headers={"Content-Encoding": encoding})
    encodings = "identity, gzip, deflate, br or zstd"
    assert f"Content-Encoding must be {encodings}, got {encoding!r}" in reply.error[2]


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize(
    "path",
    [f"run/{BERT}", f"run/{BGE}", f"run/{BERT}?queueRequest=true", "finetunes", "tomarkdown"],
)
@pytest.mark.parametrize("body", [b"plain", GZIP[:-14], GZIP[:20] + b"x" * 20, GZIP[:12]], ids=str)
async def test_a_body_that_cannot_be_decompressed_is_refused_without_a_traceback(
    local: Local, path: str, body: bytes, encoding: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"{local.server.base_url}/accounts/0/ai/{path}"
    headers = {"Content-Encoding": encoding, "Content-Type": "multipart/form-data; boundary=b"}
    async with local.http.post(url, data=body, headers=headers) as response:
        assert response.status == 400
        assert (await response.json())["success"] is False
    assert not caplog.records


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("body", [b"plain", GZIP[:20] + b"x" * 20], ids=str)
async def test_after_such_a_body_the_client_opens_a_new_connection(
    local: Local, body: bytes, encoding: str
) -> None:
    """The server closes the connection, and says so."""
    for _ in range(3):
        reply = await local.post(BERT, body, headers={"Content-Encoding": encoding})
        assert reply.status == 400
        assert reply.headers["Connection"] == "close"


@pytest.mark.parametrize("depth", [255, 1000, 5000])
@pytest.mark.parametrize(
    "path",
    [f"run/{LLAMA}", f"run/{BGE}", f"run/{RERANKER}", f"run/{BGE}?queueRequest=true", "finetunes"],
)
@pytest.mark.parametrize("name", ["text", "messages", "contexts", "requests", "name", "x"])
async def test_a_deep_body_is_refused(local: Local, path: str, name: str, depth: int) -> None:
    url = f"{local.server.base_url}/accounts/0/ai/{path}"
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        body = f'{{"{name}":{opening * depth}1{closing * depth}}}'
        async with local.http.post(url, data=body) as response:
            assert response.status == 400


async def test_a_form_of_too_many_parts_is_refused_before_its_end(local: Local) -> None:
    async def endless() -> AsyncIterator[bytes]:
        part = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.csv"\r\n\r\na\r\n'
        yield part * 3000
        await answered.wait()

    answered = asyncio.Event()
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    url = f"{local.server.base_url}/accounts/0/ai/tomarkdown"
    async with local.http.post(url, data=endless(), headers=headers) as response:
        assert response.status == 400
        assert "at most 1000 files" in await response.text()
        answered.set()


LONG = ["x"] * 101


@pytest.mark.parametrize(
    ("model", "body", "message"),
    [
        (BGE, {}, "required properties at '/' are 'text'"),
        (BGE, {"text": ""}, "text must have at least 1 character, got ''"),
        (BGE, {"text": ["a", ""]}, "text must have at least 1 character, got ''"),
        (BGE, {"text": []}, "text must have at least 1 item, got []"),
        (BGE, {"text": [1]}, "text must be a string, got 1"),
        (BGE, {"text": {"a": 1}}, "text must be a list of strings"),
        (BGE, {"text": LONG}, "text must have at most 100 items, got 101"),
        (BGE, {"text": "a", "pooling": "max"}, "pooling must be one of mean, cls, got 'max'"),
        (QWEN, {}, "required properties at '/' are 'queries'"),
        (QWEN, {"documents": LONG[:33]}, "documents must have at most 32 items, got 33"),
        (QWEN, {"queries": ""}, "at least 1 character"),
        (M3, {"contexts": "a"}, "contexts must be a list of objects with a text"),
        (M3, {"contexts": [{"text": ""}]}, "contexts[0].text must have at least 1 character"),
        (M3, {"query": "", "contexts": [{"text": "a"}]}, "query must have at least 1 character"),
        (M3, {"text": "a", "truncate_inputs": 1}, "truncate_inputs must be true or false, got 1"),
        (RERANKER, {"contexts": [{"text": "a"}]}, "required properties at '/' are 'query'"),
        (RERANKER, {"query": "a"}, "required properties at '/' are 'contexts'"),
        (RERANKER, {"query": "a", "contexts": [{"text": "a"}], "top_k": 0}, "top_k must be at"),
        (SUMMARIZER, {"input_text": ""}, "input_text must have at least 1 character, got ''"),
        (SUMMARIZER, {"input_text": "a", "max_length": 0}, "max_length must be at least 1, got 0"),
        (LLAMA, {}, "required properties at '/' are 'prompt,messages'"),
        (LLAMA, {"prompt": ""}, "prompt must have at least 1 character, got ''"),
        (LLAMA, {"messages": []}, "messages must have at least 1 item"),
        (LLAMA, {"messages": [{"role": "user"}]}, "must have a content"),
        (LLAMA, {"messages": [{"role": "user", "content": None}]}, "content must not be null"),
        (LLAMA, {"messages": [{"role": "assistant", "content": None}]}, "content must not be null"),
        (
            LLAMA,
            {"messages": [{"role": "user", "content": "a", "tool_calls": 3}]},
            "messages[0]: tool_calls must be a list of tool calls, got 3",
        ),
        (
            LLAMA,
            {"prompt": "a", "temperature": 5.1},
            "temperature must be between 0 and 5, got 5.1",
        ),
        (LLAMA, {"prompt": "a", "top_p": 0}, "top_p must be between 0.001 and 1, got 0"),
        (LLAMA, {"prompt": "a", "top_k": 51}, "top_k must be between 1 and 50, got 51"),
        (LLAMA, {"prompt": "a", "seed": 0}, "seed must be between 1 and 9999999999, got 0"),
        (
            LLAMA,
            {"prompt": "a", "frequency_penalty": -3},
            "frequency_penalty must be between -2 and 2",
        ),
        (LLAMA, {"prompt": "a", "repetition_penalty": 0}, "repetition_penalty must be above 0"),
        (LLAMA, {"prompt": "a", "max_tokens": 0}, "max_tokens must be at least 1, got 0"),
        (LLAMA, {"prompt": "a", "stream": "yes"}, "stream must be true or false, got 'yes'"),
    ],
)
async def test_a_broken_rule_is_named_in_the_error(
    local: Local, model: str, body: dict[str, Any], message: str
) -> None:
    """The message names field, rule and value; the bounds are those of the tasks."""
    status, code, text = (await local.post(model, body)).error
    assert (status, code) == (400, 5006)
    assert text.startswith("AiError: AiError: Bad input: Error: ")
    assert message in text


# Unsupported tasks and features


@pytest.mark.parametrize(
    "model",
    [
        "@cf/black-forest-labs/flux-1-schnell",
        "@cf/meta/m2m100-1.2b",
        "@cf/cloudflare/clef",
        "@cf/meta/llama-guard-3-8b",
    ],
)
async def test_a_task_without_a_backend_is_refused(local: Local, model: str) -> None:
    status, code, message = (await local.post(model, b"\x89PNG")).error
    assert (status, code) == (501, 90001)
    assert "no local model" in message


@pytest.mark.parametrize(
    ("model", "task"),
    [
        ("@cf/cloudflare/clef-omni", "Decisions"),
        ("@cf/cloudflare/clairic", "Extraction"),
        ("@cf/cloudflare/clairic-flash", "Extraction"),
    ],
)
async def test_the_refusal_names_the_task(local: Local, model: str, task: str) -> None:
    status, code, message = (await local.post(model, {"state": "x"})).error
    assert (status, code) == (501, 90001)
    assert message == f"cfai local: there is no local model for the task {task}"


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"prompt": "a", "lora": "mine"}, (400, 3037), "Finetune mine not found"),
        (
            {
                "messages": [{"role": "user", "content": "a"}],
                "functions": [{"name": "t", "code": "c"}],
            },
            (501, 90001),
            "runs no code: omit functions",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "What is it?"},
                            {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}},
                        ],
                    }
                ]
            },
            (501, 90001),
            "reads only text",
        ),
        (
            {"messages": [{"role": "user", "content": "a"}], "image": [1, 2]},
            (501, 90001),
            "reads only text",
        ),
    ],
)
async def test_unsupported_features_of_text_generation_are_refused(
    local: Local, body: dict[str, Any], status: tuple[int, int], message: str
) -> None:
    *actual, text = (await local.post(LLAMA, body)).error
    assert tuple(actual) == status
    assert message in text


@pytest.mark.parametrize("header", ["Authorization", "X-Auth-Key"])
async def test_a_token_can_have_any_bytes(header: str) -> None:
    async with Server(token="secret") as server:  # opens nothing
        host, port = server.base_url.split("/")[2].split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        value = {"Authorization": b"Bearer \xff\xfe", "X-Auth-Key": b"\xff"}[header]
        lines = [
            b"GET /client/v4/accounts/0/ai/finetunes HTTP/1.1",
            b"Host: localhost",
            b"Connection: close",
            b"X-Auth-Email: a@example.com",
            header.encode() + b": " + value,
        ]
        writer.write(b"\r\n".join([*lines, b"", b""]))
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"10000" in answer
