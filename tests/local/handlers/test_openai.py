"""The routes of OpenAI's protocols, and other paths to the same models."""

import re
import struct
from base64 import b64decode
from typing import Any

import orjson
import pytest

from cfai import Options, TextGeneration, WorkersAI, user
from cfai.profiles import TASKS, profile
from tests.local.conftest import LLAMA, Local, Reply, client
from tests.local.handlers.test_generation import PERSON, events

GLM = "@cf/zai-org/glm-4.7-flash"
OSS = "@cf/openai/gpt-oss-20b"
BGE = "@cf/baai/bge-small-en-v1.5"
HI = [{"role": "user", "content": "Say hello."}]


async def send(local: Local, path: str, body: Any = None, method: str = "POST") -> Reply:
    """Send a request to any path of the server."""
    root = local.server.base_url.removesuffix("/client/v4")
    data = None if body is None else orjson.dumps(body)
    async with local.http.request(method, root + path, data=data) as response:
        return Reply(response.status, response.headers, await response.read())


async def v1(local: Local, path: str, body: Any = None, method: str = "POST") -> Reply:
    return await send(local, f"/client/v4/accounts/0/ai/v1/{path}", body, method)


# Chat completions

USAGE = rb'\{"prompt_tokens":\d+,"completion_tokens":\d+,"total_tokens":\d+\}'


async def test_a_chat_completion_has_the_form_of_openai(local: Local) -> None:
    body = {"model": LLAMA, "messages": HI, "max_tokens": 4}
    reply = await v1(local, "chat/completions", body)
    assert (reply.status, reply.headers["cfai-backend"]) == (200, "smollm2-135m-q4_1")
    assert re.fullmatch(
        rb'\{"id":"chatcmpl-[0-9a-f-]{36}","object":"chat.completion","created":\d{10},'
        rb'"model":"@cf/meta/llama-3.1-8b-instruct-fast","choices":\[\{"index":0,"message":'
        rb'\{"role":"assistant","content":".+"\},"logprobs":null,"finish_reason":"(stop|length)"\}\],'
        rb'"usage":' + USAGE + rb"\}",
        reply.body,
    )
    assert (await local.done()).model == LLAMA


@pytest.mark.parametrize("include_usage", [None, False, True])
async def test_a_streamed_chat_completion_has_the_form_of_openai(
    local: Local, *, include_usage: bool | None
) -> None:
    body: dict[str, Any] = {"model": LLAMA, "messages": HI, "max_tokens": 4, "stream": True}
    if include_usage is not None:
        body["stream_options"] = {"include_usage": include_usage}
    reply = await v1(local, "chat/completions", body)
    assert reply.headers["Content-Type"] == "text/event-stream"
    *chunks, done = events(reply.body)
    assert done == b"[DONE]"
    if include_usage:
        assert re.search(rb'"choices":\[\],"usage":' + USAGE + rb"\}$", chunks.pop())
    documents = [orjson.loads(chunk) for chunk in chunks]
    assert {document["object"] for document in documents} == {"chat.completion.chunk"}
    assert len({document["id"] for document in documents}) == 1
    assert not any("usage" in document for document in documents)
    deltas = [document["choices"][0]["delta"] for document in documents]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert deltas[-1] == {"content": ""}
    assert all(set(delta) == {"content"} for delta in deltas[1:-1])
    reasons = [document["choices"][0]["finish_reason"] for document in documents]
    assert reasons[-1] in ("stop", "length")
    assert set(reasons[:-1]) == {None}


async def test_streamed_and_whole_texts_are_equal(local: Local) -> None:
    body = {"model": LLAMA, "messages": HI, "max_tokens": 8, "seed": 3, "temperature": 1}
    whole = (await v1(local, "chat/completions", body)).json["choices"][0]["message"]["content"]
    native = (await local.post(LLAMA, {k: body[k] for k in body if k != "model"})).result
    assert native["response"] == whole
    *chunks, _, _ = events((await v1(local, "chat/completions", {**body, "stream": True})).body)
    pieces = [orjson.loads(chunk)["choices"][0]["delta"]["content"] for chunk in chunks]
    assert "".join(pieces) == whole


@pytest.mark.parametrize(
    "response_format",
    [
        {"type": "json_schema", "json_schema": {"name": "p", "strict": True, "schema": PERSON}},
        {"type": "json_schema", "json_schema": PERSON},
    ],
)
async def test_a_schema_with_or_without_its_wrapper_is_followed(
    local: Local, response_format: Any
) -> None:
    messages = [{"role": "user", "content": "Ana is 31 years old. As JSON:"}]
    body = {"messages": messages, "response_format": response_format, "max_tokens": 100}
    reply = await v1(local, "chat/completions", {"model": LLAMA, **body})
    person = orjson.loads(reply.json["choices"][0]["message"]["content"])
    assert set(person) == {"name", "age"}


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"n": 2}, "n must be 1"),
        ({"logit_bias": {"1": 2}}, "logit_bias"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"temprature": 1}, "unknown field 'temprature'"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"prompt": "Hi"}, "prompt"),
        ({"messages": None}, "messages"),
        ({"model": None}, "model"),
        ({"model": 5}, "model must be a string, got 5"),
        ({"model": BGE}, "is a model for Text Embeddings"),
    ],
)
async def test_fields_of_chat_completions_are_never_ignored(
    local: Local, fields: dict[str, Any], name: str
) -> None:
    body = {"model": LLAMA, "messages": HI, "max_tokens": 1, **fields}
    status, code, message = (await v1(local, "chat/completions", body)).error
    assert (status, code) == (400, 5006)
    assert name in message


async def test_errors_also_have_the_form_of_openai(local: Local) -> None:
    """Its clients show only the message in `error`."""
    reply = await v1(local, "chat/completions", {"model": "@cf/no/model", "messages": HI})
    assert reply.error[:2] == (400, 5007)
    assert reply.json["error"] == {
        "message": reply.error[2],
        "type": "invalid_request_error",
        "param": None,
        "code": "5007",
    }
    native = await local.post("@cf/no/model", {"prompt": "Hi"})
    assert "error" not in native.json


async def test_fields_that_do_not_concern_the_text_are_accepted(local: Local) -> None:
    fields = {"user": "u", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"}
    body = {"model": LLAMA, "messages": HI, "max_tokens": 1, "n": 1, **fields}
    assert (await v1(local, "chat/completions", body)).status == 200


async def test_earlier_tool_calls_without_a_content_are_read(local: Local) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    messages = [
        *HI,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "5"},
    ]
    body = {"model": LLAMA, "messages": messages, "max_tokens": 1}
    assert (await v1(local, "chat/completions", body)).status == 200


@pytest.mark.parametrize("model", ["dynamic/my-route", "cloudflare/auto"])
async def test_routes_of_ai_gateway_are_answered(local: Local, model: str) -> None:
    body = {"model": model, "messages": HI, "max_tokens": 1}
    assert (await v1(local, "chat/completions", body)).json["model"] == model
    assert (await local.post(model, {"prompt": "Hi"})).error[1] == 5007


# Other protocols


async def test_a_completion_continues_the_prompt(local: Local) -> None:
    body = {"model": LLAMA, "prompt": "Once upon a", "max_tokens": 4, "seed": 1}
    whole = (await v1(local, "completions", body)).json
    assert whole["object"] == "text_completion"
    text = whole["choices"][0]["text"]
    raw = {"prompt": "Once upon a", "raw": True, "max_tokens": 4, "seed": 1}
    assert (await local.post(LLAMA, raw)).result["response"] == text
    assert (await v1(local, "completions", {**body, "prompt": ["Once upon a"]})).json[
        "choices"
    ] == whole["choices"]
    reply = await v1(local, "completions", {**body, "stream": True})
    *chunks, done = events(reply.body)
    assert done == b"[DONE]"
    assert "".join(orjson.loads(chunk)["choices"][0]["text"] for chunk in chunks) == text


@pytest.mark.parametrize("path", ["v1/responses", f"run/{OSS}"])
@pytest.mark.parametrize(
    "value",
    [
        "Say hello.",
        HI,
        [{"role": "user", "content": [{"type": "input_text", "text": "Say hello."}]}],
        [{"type": "message", "role": "user", "content": "Say hello."}],
    ],
)
async def test_gpt_oss_answers_responses(local: Local, path: str, value: Any) -> None:
    body = {"input": value, "instructions": "Be brief.", "max_output_tokens": 4}
    in_body = {"model": OSS} if path == "v1/responses" else {}
    reply = await send(local, f"/client/v4/accounts/0/ai/{path}", {**body, **in_body})
    response = reply.json if path == "v1/responses" else reply.result
    assert response["object"] == "response"
    (message,) = response["output"]
    (part,) = message["content"]
    assert (message["type"], message["role"], part["type"]) == (
        "message",
        "assistant",
        "output_text",
    )
    assert part["text"]
    assert response["usage"]["output_tokens"] <= 4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stream": True}, "stream must be false"),
        ({"model": LLAMA}, "only gpt-oss"),
        ({"input": None}, "input"),
        ({"input": 5}, "input must be"),
        ({"input": [5]}, r"input\[0\] must be"),
        ({"reasoning": {"effort": "low"}}, "reasoning"),
        ({"previous_response_id": "x"}, "previous_response_id"),
        ({"text": {"format": {"type": "x"}}}, "text must be"),
        ({"max_tokens": 1}, "unknown field 'max_tokens'"),
    ],
)
async def test_what_responses_do_not_support_is_refused(
    local: Local, fields: dict[str, Any], message: str
) -> None:
    reply = await v1(local, "responses", {"model": OSS, "input": "Hi", **fields})
    status, code, text = reply.error
    assert (status, code) == (400, 5006)
    assert re.search(message, text)


async def test_embeddings_are_numbers_or_base64(local: Local) -> None:
    body = {"model": BGE, "input": ["one", "two"]}
    native = (await local.post(BGE, {"text": ["one", "two"]})).result["data"]
    reply = (await v1(local, "embeddings", body)).json
    assert (reply["object"], reply["model"]) == ("list", BGE)
    assert reply["usage"] == {"prompt_tokens": 6, "total_tokens": 6}
    assert [row["index"] for row in reply["data"]] == [0, 1]
    assert [row["embedding"] for row in reply["data"]] == [pytest.approx(v) for v in native]
    packed = (await v1(local, "embeddings", {**body, "encoding_format": "base64"})).json
    vectors = [struct.unpack("<384f", b64decode(row["embedding"])) for row in packed["data"]]
    assert vectors == [pytest.approx(vector) for vector in native]
    single = (await v1(local, "embeddings", {**body, "input": "one"})).json
    assert single["data"][0]["embedding"] == pytest.approx(native[0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input must be"),
        ({"input": [1, 2]}, "input must be"),
        ({"input": ["a", ""]}, "must not contain an empty text"),
        ({"input": ["a"] * 101}, "at most 100 items, got 101"),
        ({"dimensions": 5}, "dimensions must be 384"),
        ({"encoding_format": "int8"}, "encoding_format must be float or base64"),
        ({"model": LLAMA}, "is a model for Text Generation"),
        ({"text": "a"}, "unknown field 'text'"),
    ],
)
async def test_invalid_embedding_requests_are_refused(
    local: Local, fields: dict[str, Any], message: str
) -> None:
    reply = await v1(local, "embeddings", {"model": BGE, "input": "a", **fields})
    assert reply.error[:2] == (400, 5006)
    assert message in reply.error[2]


async def test_models_are_listed_and_found(local: Local) -> None:
    rows = (await v1(local, "models", method="GET")).json["data"]
    row = {"id": LLAMA, "object": "model", "created": 0, "owned_by": "meta"}
    assert row in rows
    assert (await v1(local, f"models/{LLAMA}", method="GET")).json == row
    assert (await v1(local, "models/@cf/no/model", method="GET")).error[1] == 5007


async def test_messages_are_refused(local: Local) -> None:
    reply = await v1(local, "messages", {"model": LLAMA, "messages": HI, "max_tokens": 1})
    assert reply.error[0] == 400
    assert "/ai/v1/chat/completions" in reply.error[2]


# Other paths and forms


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"/client/v4/accounts/0/ai/run/{BGE}/", {"text": "a"}),
        ("/client/v4/accounts/0/ai/run", {"model": BGE, "input": {"text": "a"}}),
        ("/client/v4/accounts/0/ai/run/", {"model": BGE, "input": {"text": "a"}}),
        (f"/v1/0/my-gateway/workers-ai/{BGE}", {"text": "a"}),
        (f"/v1/0/my-gateway/workers-ai/run/{BGE}/", {"text": "a"}),
    ],
)
async def test_a_run_has_several_paths(local: Local, path: str, body: Any) -> None:
    assert (await send(local, path, body)).result["shape"] == [1, 384]
    assert (await local.done()).model == BGE


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/client/v4/accounts/0/ai/v1/chat/completions/", LLAMA),
        ("/v1/0/my-gateway/workers-ai/v1/chat/completions", LLAMA),
        ("/v1/0/my-gateway/compat/chat/completions", f"workers-ai/{LLAMA}"),
    ],
)
async def test_chat_completions_have_several_paths(local: Local, path: str, model: str) -> None:
    body = {"model": model, "messages": HI, "max_tokens": 1}
    assert (await send(local, path, body)).json["model"] == LLAMA


async def test_lists_have_trailing_slashes_too(local: Local) -> None:
    path = "/client/v4/accounts/0/ai/finetunes/"
    assert (await send(local, path, method="GET")).result == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"input": {}}, "model"),
        ({"model": BGE}, "input must be an object"),
        ({"model": BGE, "input": "a"}, "input must be an object"),
        ({"model": BGE, "input": {"text": "a"}, "text": "b"}, "unknown field 'text'"),
    ],
)
async def test_a_run_without_a_model_in_its_path_needs_one_in_its_body(
    local: Local, body: Any, message: str
) -> None:
    reply = await send(local, "/client/v4/accounts/0/ai/run", body)
    assert reply.error[:2] == (400, 5006)
    assert message in reply.error[2]


async def test_a_model_in_a_body_is_recorded(local: Local) -> None:
    """Without the name of the provider; one that is missing or no text is not."""
    path = "/client/v4/accounts/0/ai/run"
    run = {"model": f"workers-ai/{BGE}", "input": {"text": "a"}, "options": {}}
    assert (await send(local, path, run)).result["shape"] == [1, 384]
    assert (await local.done()).model == BGE
    for model, words in ((None, "required properties at '/' are 'model'"), (5, "must be a string")):
        reply = await send(local, path, {**run, "model": model})
        assert words in reply.error[2]
        assert (await local.done()).model is None
    reply = await send(local, path, {**run, "input": None})
    assert "input must be an object with the fields of the run" in reply.error[2]


@pytest.mark.parametrize(
    "path", ["v1/chat/completions", "v1/completions", "v1/embeddings", "v1/responses"]
)
async def test_retired_models_are_refused_with_their_day(local: Local, path: str) -> None:
    retired = next(m for m in TASKS if TASKS[m] == "Text Generation" and profile(m).retired)
    fields = {"messages": HI, "prompt": "a", "input": "a"}
    reply = await send(local, f"/client/v4/accounts/0/ai/{path}", {"model": retired, **fields})
    assert reply.error[:2] == (410, 5028)
    assert f"deprecated on {profile(retired).retired}" in reply.error[2]
    assert (await v1(local, f"models/{retired}", method="GET")).error[1] == 5007
    rows = (await v1(local, "models", method="GET")).json
    assert rows["object"] == "list"
    assert retired not in [row["id"] for row in rows["data"]]


async def test_newer_models_answer_runs_as_chat_completions_do(local: Local) -> None:
    body = {"messages": HI, "max_tokens": 4}
    result = (await local.post(GLM, body)).result
    assert result["object"] == "chat.completion"
    assert result["choices"][0]["message"]["content"]
    *chunks, usage, done = events((await local.post(GLM, {**body, "stream": True})).body)
    assert done == b"[DONE]"
    assert orjson.loads(usage)["choices"] == []
    assert orjson.loads(chunks[0])["object"] == "chat.completion.chunk"


@pytest.mark.parametrize("model", [LLAMA, GLM, OSS])
@pytest.mark.parametrize("route", ["run", "chat"])
async def test_our_client_reads_each_form(local: Local, model: str, route: Any) -> None:
    task = TextGeneration([user("Say hello.")], max_tokens=8, seed=1)
    call = Options(route=route)
    async with client(local.server) as ai:
        assert isinstance(ai, WorkersAI)
        answer = await ai.run(model, task, options=call)
        async with ai.stream(model, task, options=call) as stream:
            streamed = "".join([text async for text in stream.text()])
    assert answer.text == streamed
    assert answer.usage


async def test_health_needs_no_credentials(local: Local) -> None:
    root = local.server.base_url.removesuffix("/client/v4")
    async with local.http.get(f"{root}/health", headers={"Authorization": ""}) as response:
        assert response.status == 200
        assert await response.json() == {"status": "ok"}
