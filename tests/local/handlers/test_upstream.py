"""Tools, images, vectors, rankings and sound of another server, scripted with literal bytes.

The responses are those of platform.openai.com/docs/api-reference, shortened; the ranking's is that
of docs.vllm.ai, "Re-rank API".
"""

import asyncio
import struct
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from cfai import ConfigError, TextEmbeddings, TextGeneration, user
from cfai.local import Server, Upstream
from cfai.testing import FakeWorkersAI
from tests.local.conftest import LLAMA, Local, client as client_of, running
from tests.local.handlers.test_generation import events
from tests.local.handlers.test_openai import HI, v1
from tests.local.test_queue import submit, wait_for_batch

BGE = "@cf/baai/bge-m3"
RERANKER = "@cf/baai/bge-reranker-base"
SDXL = "@cf/stabilityai/stable-diffusion-xl-base-1.0"
FLUX = "@cf/black-forest-labs/flux-1-schnell"
WHISPER = "@cf/openai/whisper"
AURA = "@cf/deepgram/aura-1"
MELO = "@cf/myshell-ai/melotts"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
DATA_URI = f"data:image/png;base64,{b64encode(PNG).decode()}"

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}

CALL = (
    (
        b'data: {"id":"chatcmpl-123","object":"chat.completion.chunk","created":1694268190,'
        b'"model":"gpt-4o-mini","choices":[{"index":0,"delta":{"role":"assistant","content":null,'
        b'"tool_calls":[{"index":0,"id":"call_abc123","type":"function","function":{"name":'
        b'"get_weather","arguments":""}}]},"logprobs":null,"finish_reason":null}]}\n\n'
    ),
    (
        b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":'
        b'"{\\"city\\":"}}]},"finish_reason":null}]}\n\n'
    ),
    (
        b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":'
        b'"\\"Paris\\"}"}}]},"finish_reason":null}]}\n\n'
    ),
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":82,"completion_tokens":17}}\n\n',
    b"data: [DONE]\n\n",
)
TEXT = (
    b'data: {"choices":[{"delta":{"content":"Sunny"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
EVENTS = "text/event-stream"


@pytest.fixture
async def scripted() -> AsyncIterator[tuple[Local, FakeWorkersAI]]:
    async with FakeWorkersAI() as fake:
        upstream = Upstream(fake.base_url, {"*": "m"}, key="a secret key")
        async with running(upstream=upstream) as local:
            yield local, fake


# Chat


@pytest.mark.parametrize("cut", [None, *range(1, 60)])
async def test_a_tool_call_is_passed_on_in_both_forms(
    scripted: tuple[Local, FakeWorkersAI], cut: int | None
) -> None:
    """Whole and streamed; the upstream stream also cut into pieces of any size."""
    local, fake = scripted
    whole = b"".join(CALL)
    parts = [whole] if cut is None else [whole[i : i + cut] for i in range(0, len(whole), cut)]
    fake.always.says(*parts, content_type=EVENTS)
    messages = [{"role": "user", "content": "Weather in Paris?"}]
    body: dict[str, Any] = {"messages": messages, "tools": [WEATHER["function"]]}
    native = await local.post(LLAMA, body)
    assert native.result == {
        "response": None,
        "tool_calls": [{"name": "get_weather", "arguments": {"city": "Paris"}}],
        "usage": {"prompt_tokens": 82, "completion_tokens": 17, "total_tokens": 99},
    }
    assert fake.requests[0].json()["tools"] == [WEATHER]
    chat = await v1(local, "chat/completions", {"model": LLAMA, **body, "tools": [WEATHER]})
    (choice,) = chat.json["choices"]
    call = {
        "id": "call_abc123",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city":"Paris"}'},
    }
    assert choice["message"]["tool_calls"] == [call]
    assert choice["finish_reason"] == "tool_calls"
    for reply in (
        await local.post(LLAMA, {**body, "stream": True}),
        await v1(local, "chat/completions", {"model": LLAMA, **body, "stream": True}),
    ):
        *chunks, done = events(reply.body)
        assert done == b"[DONE]"
        assert sum(b'"tool_calls":[{"index":0,"id":"call_abc123"' in chunk for chunk in chunks) == 1


async def test_what_a_request_says_about_tools_is_passed_on(
    scripted: tuple[Local, FakeWorkersAI],
) -> None:
    local, fake = scripted
    fake.says(TEXT, content_type=EVENTS)
    options = {
        "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
        "parallel_tool_calls": False,
        "reasoning_effort": "high",
        "chat_template_kwargs": {"enable_thinking": True},
    }
    body = {"messages": [{"role": "user", "content": "Hi"}], "tools": [WEATHER], **options}
    assert (await local.post(LLAMA, body)).result["response"] == "Sunny"
    sent = fake.requests[0].json()
    assert {name: sent[name] for name in options} == options
    # Neither the system message nor the temperature of the small model.
    assert sent["messages"] == body["messages"]
    assert "temperature" not in sent


THOUGHT = (
    b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":null,"NAME":"Hm, "}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{"NAME":"sun","content":""}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{"NAME":".","content":"It is "}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{"content":"dry"},"finish_reason":"stop"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":9,'
    b'"completion_tokens_details":{"reasoning_tokens":6}}}\n\n'
    b"data: [DONE]\n\n"
)
"""Source: docs.vllm.ai, "Reasoning Outputs", and api-docs.deepseek.com, for the two names."""

GLM = "@cf/zai-org/glm-4.7-flash"
OSS = "@cf/openai/gpt-oss-20b"


@pytest.mark.parametrize("cut", [None, 1, 7, 50])
@pytest.mark.parametrize("name", [b"reasoning", b"reasoning_content"])
async def test_reasoning_is_passed_on_in_every_form(
    scripted: tuple[Local, FakeWorkersAI], name: bytes, cut: int | None
) -> None:
    local, fake = scripted
    sent = THOUGHT.replace(b"NAME", name)
    parts = [sent] if cut is None else [sent[i : i + cut] for i in range(0, len(sent), cut)]
    fake.always.says(*parts, content_type=EVENTS)
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "Weather?"}]}
    usage: dict[str, Any] = {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14}
    usage |= {"completion_tokens_details": {"reasoning_tokens": 6}}
    native = (await local.post(LLAMA, body)).result
    assert native == {"response": "It is dry", "reasoning_content": "Hm, sun.", "usage": usage}
    message = {"role": "assistant", "content": "It is dry", "reasoning_content": "Hm, sun."}
    chat = (await v1(local, "chat/completions", {"model": LLAMA, **body})).json
    for answer in (chat, (await local.post(GLM, body)).result):
        assert (answer["choices"][0]["message"], answer["usage"]) == (message, usage)
    *chunks, done = events((await local.post(LLAMA, {**body, "stream": True})).body)
    assert done == b"[DONE]"
    assert chunks[:-1] == [
        b'{"reasoning_content":"Hm, "}',
        b'{"reasoning_content":"sun"}',
        b'{"reasoning_content":"."}',
        b'{"response":"It is "}',
        b'{"response":"dry"}',
    ]
    streamed = {"model": LLAMA, **body, "stream": True}
    for reply in (
        await v1(local, "chat/completions", streamed),
        await local.post(GLM, {**body, "stream": True}),
    ):
        deltas = [
            choice["delta"]
            for chunk in events(reply.body)[:-1]
            for choice in orjson.loads(chunk)["choices"]
        ]
        assert deltas[1:-1] == [
            {"reasoning_content": "Hm, "},
            {"reasoning_content": "sun"},
            {"reasoning_content": "."},
            {"content": "It is "},
            {"content": "dry"},
        ]


async def test_reasoning_is_an_item_of_responses_and_no_part_of_completions(
    scripted: tuple[Local, FakeWorkersAI],
) -> None:
    local, fake = scripted
    fake.always.says(THOUGHT.replace(b"NAME", b"reasoning"), content_type=EVENTS)
    answer = (await v1(local, "responses", {"model": OSS, "input": "Weather?"})).json
    thought, message = answer["output"]
    assert thought["type"] == "reasoning"
    assert thought["content"] == [{"type": "reasoning_text", "text": "Hm, sun."}]
    assert message["content"][0]["text"] == "It is dry"
    assert answer["usage"]["output_tokens_details"] == {"reasoning_tokens": 6}
    body = {"model": LLAMA, "prompt": "Weather?", "stream": True}
    reply = await v1(local, "completions", body)
    texts = [
        choice["text"]
        for chunk in events(reply.body)[:-1]
        for choice in orjson.loads(chunk)["choices"]
    ]
    assert texts == ["It is ", "dry", ""]


async def test_our_client_reads_the_reasoning(scripted: tuple[Local, FakeWorkersAI]) -> None:
    local, fake = scripted
    fake.always.says(THOUGHT.replace(b"NAME", b"reasoning"), content_type=EVENTS)
    async with client_of(local.server) as ai:
        for model in (LLAMA, GLM):
            answer = await ai.run(model, TextGeneration([user("Weather?")]))
            assert (answer.text, answer.reasoning) == ("It is dry", "Hm, sun.")
            async with ai.stream(model, TextGeneration([user("Weather?")])) as stream:
                streamed = await stream.collect()
            assert (streamed.text, streamed.reasoning) == (answer.text, answer.reasoning)
            assert streamed.usage == answer.usage
            assert answer.usage
            assert answer.usage.reasoning_tokens == 6


@pytest.mark.parametrize(
    "event",
    [
        b'{"choices":5}',
        b'{"choices":[5]}',
        b'{"choices":[{"delta":5}]}',
        b'{"choices":[{"delta":{"content":{"a":1}}}]}',
        b'{"choices":[{"delta":{"reasoning":["a"]}}]}',
        b'{"choices":[{"delta":{"tool_calls":5}}]}',
        b'{"choices":[{"delta":{"tool_calls":[5]}}]}',
        b'{"choices":[{"delta":{"tool_calls":[{"index":[]}]}}]}',
        b'{"choices":[{"delta":{"tool_calls":[{"function":{"name":"f","arguments":[1]}}]}}]}',
        b'{"usage":5}',
        b'{"usage":{"prompt_tokens":"many"}}',
        b'{"usage":{"completion_tokens":1e30}}',
        b'{"usage":{"completion_tokens":-1}}',
        b'{"usage":{"completion_tokens_details":{"reasoning_tokens":1e30}}}',
    ],
)
async def test_a_malformed_event_is_a_failure_of_the_other_server(
    scripted: tuple[Local, FakeWorkersAI], event: bytes
) -> None:
    local, fake = scripted
    fake.says(b"data: " + event + b"\n\ndata: [DONE]\n\n", content_type=EVENTS)
    reply = await local.post(LLAMA, {"prompt": "Hi"})
    assert reply.error[:2] == (502, 90004)
    assert "a chunk is malformed" in reply.error[2]


async def test_numbers_as_text_and_objects_as_arguments_are_read(
    scripted: tuple[Local, FakeWorkersAI],
) -> None:
    """Workers AI itself sends pieces of digits as numbers: github.com/cloudflare/ai, issue 651."""
    local, fake = scripted
    fake.says(
        b'data: {"choices":[{"delta":{"content":"1"}}]}\n\n'
        b'data: {"choices":[{"delta":{"content":2}}]}\n\n'
        b'data: {"choices":[{"delta":{"tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]}'
        b',"finish_reason":"tool_calls"}]}\n\ndata: [DONE]\n\n',
        content_type=EVENTS,
    )
    result = (await local.post(LLAMA, {"prompt": "Hi"})).result
    assert result["response"] == "12"
    assert result["tool_calls"] == [{"name": "f", "arguments": {"a": 1}}]


async def test_calls_and_results_get_ids(scripted: tuple[Local, FakeWorkersAI]) -> None:
    """Workers AI's own form has none; the form of chat completions needs them."""
    local, fake = scripted
    fake.says(TEXT, content_type=EVENTS)
    calls = [{"name": "get_weather", "arguments": {"city": city}} for city in ("Paris", "Lima")]
    messages = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "name": "get_weather", "content": "dry"},
        {"role": "tool", "name": "get_weather", "content": "wet"},
    ]
    await local.post(LLAMA, {"messages": messages, "tools": [WEATHER]})
    _, assistant, *results = fake.requests[0].json()["messages"]
    identifiers = [call["id"] for call in assistant["tool_calls"]]
    assert len(set(identifiers)) == 2
    assert [result["tool_call_id"] for result in results] == identifiers
    assert assistant["tool_calls"][0]["function"]["arguments"] == '{"city":"Paris"}'
    assert assistant["content"] is None


async def test_parts_and_calls_are_sent_with_all_that_is_used_of_them(
    scripted: tuple[Local, FakeWorkersAI],
) -> None:
    """The rest of a message is sent as it is; what would be lost of a part or call is refused."""
    local, fake = scripted
    fake.says(TEXT, content_type=EVENTS)
    image = {"type": "image_url", "image_url": {"url": DATA_URI, "detail": "low"}}
    user = {"role": "user", "name": "Ann", "content": [image], "cache": {"a": 1}}
    assert (await local.post(LLAMA, {"messages": [user]})).status == 200
    assert fake.requests[0].json()["messages"] == [user]
    text = {"type": "text", "text": "a"}
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    for message, path in (
        ({"content": [{**text, "foo": 1}]}, "messages[0].content[0]"),
        ({"content": [{**image, "foo": 1}]}, "messages[0].content[0]"),
        ({"content": "", "tool_calls": [{**call, "foo": 1}]}, "messages[0].tool_calls[0]"),
    ):
        reply = await local.post(LLAMA, {"messages": [{"role": "assistant", **message}]})
        assert reply.error[:2] == (400, 5006)
        assert f"{path} has an unknown field 'foo'" in reply.error[2]
    assert len(fake.requests) == 1


IMAGES: list[dict[str, Any]] = [
    {"prompt": "What is it?", "image": list(PNG)},
    {"prompt": "What is it?", "image": b64encode(PNG).decode()},
    {"prompt": "What is it?", "image": DATA_URI},
    {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is it?"},
                    {"type": "image_url", "image_url": {"url": DATA_URI}},
                ],
            }
        ]
    },
]


@pytest.mark.parametrize("body", IMAGES)
async def test_an_image_is_passed_on(
    scripted: tuple[Local, FakeWorkersAI], body: dict[str, Any]
) -> None:
    local, fake = scripted
    fake.says(TEXT, content_type=EVENTS)
    assert (await local.post(LLAMA, body)).status == 200
    (message,) = fake.requests[0].json()["messages"]
    assert message["content"] == [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": DATA_URI}},
    ]


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/x.png",
        "https://a.example/b.png",
        "file:///etc/passwd",
        "data:text/x,",
    ],
)
async def test_an_image_at_an_address_is_refused(
    scripted: tuple[Local, FakeWorkersAI], url: str
) -> None:
    """Nobody fetches what a request refers to."""
    local, fake = scripted
    part = {"type": "image_url", "image_url": {"url": url}}
    reply = await local.post(LLAMA, {"messages": [{"role": "user", "content": [part]}]})
    assert reply.error[:2] == (400, 5006)
    assert "must be a data URI" in reply.error[2] or "content must be parts" in reply.error[2]
    assert not fake.requests


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "file", "file": {"file_id": "a"}},
        {"type": "refusal", "refusal": "No."},
    ],
    ids=lambda part: part["type"],
)
async def test_a_part_that_is_neither_text_nor_an_image_is_refused(
    scripted: tuple[Local, FakeWorkersAI], part: dict[str, Any]
) -> None:
    local, fake = scripted
    reply = await local.post(LLAMA, {"messages": [{"role": "user", "content": [part]}]})
    assert reply.error[:2] == (501, 90001)
    kind = part["type"]
    assert f"a part of a message must be text or an image, got {{'type': '{kind}'" in reply.error[2]
    assert not fake.requests


# Other tasks


async def test_vectors_are_passed_on(scripted: tuple[Local, FakeWorkersAI]) -> None:
    local, fake = scripted
    fake.always.says(
        b'{"object":"list","data":[{"object":"embedding","embedding":[0.0023,-0.0093],"index":1},'
        b'{"object":"embedding","embedding":[0.5,0.25],"index":0}],"model":"m",'
        b'"usage":{"prompt_tokens":8,"total_tokens":8}}'
    )
    async with client_of(local.server) as ai:
        vectors = await ai.run(BGE, TextEmbeddings(["one", "two"]))
    assert vectors.tolist()[0] == [0.5, 0.25]
    assert vectors.meta.backend == "upstream:m"
    assert fake.requests[0].path.endswith("/embeddings")
    assert fake.requests[0].headers["Authorization"] == "Bearer a secret key"
    assert fake.requests[0].json() == {
        "model": "m",
        "input": ["one", "two"],
        "encoding_format": "float",
    }
    reply = await v1(local, "embeddings", {"model": BGE, "input": ["one", "two"]})
    assert reply.json["data"][0]["embedding"] == [0.5, 0.25]
    reply = await v1(local, "embeddings", {"model": "@cf/new/embedder", "input": ["1", "2"]})
    assert reply.json["model"] == "@cf/new/embedder"
    assert (await local.post("@cf/new/embedder", {"text": ["1", "2"]})).result["shape"] == [2, 2]


async def test_a_ranking_is_passed_on(scripted: tuple[Local, FakeWorkersAI]) -> None:
    local, fake = scripted
    fake.says(
        b'{"id":"rerank-1","model":"m","usage":{"total_tokens":56},"results":['
        b'{"index":1,"document":{"text":"tea"},"relevance_score":0.99853515625},'
        b'{"index":0,"document":{"text":"rain"},"relevance_score":0.0005860328674316406}]}'
    )
    body = {"query": "a drink", "contexts": [{"text": "rain"}, {"text": "tea"}], "top_k": 1}
    reply = await local.post(RERANKER, body)
    assert reply.result == {"response": [{"id": 1, "score": 0.99853515625}]}
    assert fake.requests[0].json() == {
        "model": "m",
        "query": "a drink",
        "documents": ["rain", "tea"],
        "top_n": 2,
    }


async def test_an_image_is_generated(scripted: tuple[Local, FakeWorkersAI]) -> None:
    local, fake = scripted
    fake.always.says(b'{"created":1589478378,"data":[{"b64_json":"%s"}]}' % b64encode(PNG))
    reply = await local.post(SDXL, {"prompt": "a cat", "width": 512, "height": 256})
    assert (reply.headers["Content-Type"], reply.body) == ("image/png", PNG)
    assert reply.headers["cfai-backend"] == "upstream:m"
    assert fake.requests[0].json() == {
        "model": "m",
        "prompt": "a cat",
        "n": 1,
        "size": "512x256",
        "response_format": "b64_json",
    }
    reply = await local.post(FLUX, {"prompt": "a cat"})
    assert reply.result == {"image": b64encode(PNG).decode()}
    refused = await local.post(SDXL, {"prompt": "a cat", "num_steps": 4})
    assert refused.error[:2] == (400, 5006)
    assert "num_steps" in refused.error[2]


async def test_fields_that_the_protocol_lacks_are_refused(
    scripted: tuple[Local, FakeWorkersAI],
) -> None:
    local, fake = scripted
    bodies: list[tuple[str, dict[str, Any], str]] = [
        (BGE, {"text": "a", "pooling": "cls"}, "pooling"),
        (BGE, {"text": "a", "truncate_inputs": True}, "truncate_inputs"),
        (WHISPER, {"audio": [1], "prompt": "a"}, "prompt"),
        (AURA, {"text": "a", "prompt": "b"}, "prompt"),
        (LLAVA, {"image": [1], "prompt": "a", "raw": True}, "raw"),
    ]
    for model, body, name in bodies:
        reply = await local.post(model, body)
        assert reply.error[0] in (400, 501)
        assert name in reply.error[2]
    sizes = {"model": BGE, "input": "a", "dimensions": 1024}
    assert (await v1(local, "embeddings", sizes)).status == 400
    assert not fake.requests


LLAVA = "@cf/llava-hf/llava-1.5-7b-hf"
MOONDREAM = "@cf/moondream/moondream3.1-9B-A2B"


@pytest.mark.parametrize(
    ("model", "body", "question", "field"),
    [
        (LLAVA, {"prompt": "How many people?"}, "How many people?", "description"),
        (LLAVA, {}, "Describe this image in one sentence.", "description"),
        (MOONDREAM, {"question": "How many people?"}, "How many people?", "answer"),
        (MOONDREAM, {"task": "caption"}, "Describe this image in one sentence.", "caption"),
    ],
)
async def test_a_question_about_an_image_is_passed_on(
    scripted: tuple[Local, FakeWorkersAI],
    model: str,
    body: dict[str, Any],
    question: str,
    field: str,
) -> None:
    local, fake = scripted
    fake.says(TEXT, content_type=EVENTS)
    run = {**body, "image": list(PNG), "max_tokens": 9, "temperature": 0.5}
    reply = await local.post(model, run)
    assert reply.result[field] == "Sunny"
    sent = fake.requests[0].json()
    parts = [
        {"type": "text", "text": question},
        {"type": "image_url", "image_url": {"url": DATA_URI}},
    ]
    assert sent["messages"] == [{"role": "user", "content": parts}]
    assert (sent["max_tokens"], sent["temperature"]) == (9, 0.5)


@pytest.mark.parametrize(
    "body", [{"task": "detect"}, {"question": 5}, {"task": "caption", "question": "a"}]
)
async def test_what_text_cannot_answer_about_an_image_is_refused(
    scripted: tuple[Local, FakeWorkersAI], body: dict[str, Any]
) -> None:
    local, fake = scripted
    reply = await local.post(MOONDREAM, {**body, "image": list(PNG)})
    assert reply.error[0] in (400, 501)
    assert not fake.requests


async def test_the_defaults_of_the_other_server_are_its_own(
    scripted: tuple[Local, FakeWorkersAI],
) -> None:
    local, fake = scripted
    fake.always.says(TEXT, content_type=EVENTS)
    gpt = "@cf/openai/gpt-oss-20b"
    await local.post(LLAMA, {"prompt": "Hi"})
    await v1(local, "chat/completions", {"model": LLAMA, "messages": HI})
    await v1(local, "completions", {"model": LLAMA, "prompt": "Hi"})
    await v1(local, "responses", {"model": gpt, "input": "Hi", "reasoning": {"effort": "low"}})
    assert len(fake.requests) == 4
    for request in fake.requests:
        sent = request.json()
        assert "temperature" not in sent
        assert sent.get("prompt", "Hi") == "Hi"
        assert [message["role"] for message in sent.get("messages", HI)] == ["user"]
    assert fake.requests[3].json()["reasoning_effort"] == "low"


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({}, {"max_tokens": 256}),
        ({"max_tokens": 1}, {"max_tokens": 1}),
        ({"max_tokens": 10**12}, {"max_tokens": 2**31 - 1}),
        ({"max_tokens": 9.0, "seed": 7}, {"max_tokens": 9, "seed": 7}),
        (
            {"temperature": 0, "top_k": 5.0, "repetition_penalty": 1.5, "presence_penalty": -2},
            {
                "max_tokens": 256,
                "temperature": 0,
                "top_k": 5,
                "repetition_penalty": 1.5,
                "presence_penalty": -2,
            },
        ),
        ({"stop": "a"}, {"max_tokens": 256, "stop": ["a"]}),
        ({"stop": []}, {"max_tokens": 256}),
    ],
)
async def test_the_fields_of_a_request_and_nothing_else_are_sent(
    scripted: tuple[Local, FakeWorkersAI], fields: dict[str, Any], sent: dict[str, Any]
) -> None:
    """256 tokens are the service's own default."""
    local, fake = scripted
    fake.always.says(TEXT, content_type=EVENTS)
    messages = [{"role": "user", "content": "Hi"}]
    streaming = {"model": "m", "stream": True, "stream_options": {"include_usage": True}}
    for stream in (False, True):
        await local.post(LLAMA, {"prompt": "Hi", **fields, "stream": stream})
        assert fake.requests[-1].json() == {**streaming, "messages": messages, **sent}
    await local.post(LLAMA, {"prompt": "Hi", **fields, "raw": True})
    assert fake.requests[-1].json() == {**streaming, "prompt": "Hi", **sent}
    assert fake.requests[-1].path.endswith("/client/v4/completions")
    schema = {"type": "object"}
    fake.says(b'{"choices":[{"message":{"content":"{}"}}]}')
    await local.post(LLAMA, {"prompt": "Hi", **fields, "guided_json": schema})
    named = {"name": "answer", "schema": schema}
    assert fake.requests[-1].json() == {
        "model": "m",
        "messages": messages,
        "response_format": {"type": "json_schema", "json_schema": named},
        **sent,
    }


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (b"\x89PNG\r\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"RIFF\x00\x00\x00\x00WEBP", "image/webp"),
        (b"GIF89a", "application/octet-stream"),
        (b"", "application/octet-stream"),
    ],
)
async def test_the_type_of_an_image_is_that_of_its_bytes(
    scripted: tuple[Local, FakeWorkersAI], image: bytes, kind: str
) -> None:
    local, fake = scripted
    fake.says(TEXT, content_type=EVENTS)
    await local.post(LLAMA, {"prompt": "Hi", "image": list(image)})
    (_, part) = fake.requests[0].json()["messages"][-1]["content"]
    assert part["image_url"]["url"] == f"data:{kind};base64,{b64encode(image).decode()}"
    fake.says(b'{"data":[{"b64_json":"%s"}]}' % b64encode(image))
    reply = await local.post(SDXL, {"prompt": "a"})
    assert (reply.headers["Content-Type"], reply.body) == (kind, image)


@pytest.mark.parametrize("retry_after", ["soon", "1.5", "-1", ""])
async def test_a_pause_that_is_no_number_is_not_passed_on(
    scripted: tuple[Local, FakeWorkersAI], retry_after: str
) -> None:
    local, fake = scripted
    fake.says(b"busy", status=429, headers={"Retry-After": retry_after})
    reply = await local.post(BGE, {"text": "a"})
    assert (reply.status, reply.headers.get("Retry-After")) == (429, None)


@pytest.mark.parametrize(
    ("status", "expected", "words"),
    [
        (300, (502, 90004), "status 300: redirects are not followed"),
        (399, (502, 90004), "status 399: redirects are not followed"),
        (400, (400, 5006), "the upstream server refused the request: xxx"),
        (413, (400, 5006), "the upstream server refused the request: xxx"),
        (422, (400, 5006), "the upstream server refused the request: xxx"),
        (403, (502, 90004), "the upstream server failed: status 403: xxx"),
        (599, (502, 90004), "the upstream server failed: status 599: xxx"),
    ],
)
async def test_each_status_of_the_other_server(
    scripted: tuple[Local, FakeWorkersAI], status: int, expected: tuple[int, int], words: str
) -> None:
    """With the first 300 bytes of its reason."""
    local, fake = scripted
    fake.always.says(b"x" * 1000, status=status)
    for model, body in ((BGE, {"text": "a"}), (LLAMA, {"prompt": "Hi"})):
        reply = await local.post(model, body)
        assert reply.error[:2] == expected
        assert words in reply.error[2]
        assert reply.error[2].count("x" * 300) == (0 if status < 400 else 1)
        assert "x" * 301 not in reply.error[2]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ('{"index":0,"embedding":[1]}', "1 vector for 2 texts"),
        ('{"index":0,"embedding":1},{"index":1,"embedding":2}', "2 vectors for 2 texts"),
        ('{"index":0,"embedding":[1]},{"index":1,"embedding":[1,2]}', "malformed"),
        ('{"embedding":[1]},{"embedding":[2]}', "the embeddings are malformed: KeyError"),
    ],
)
async def test_vectors_of_another_number_or_length_are_refused(
    scripted: tuple[Local, FakeWorkersAI], rows: str, words: str
) -> None:
    local, fake = scripted
    fake.says(f'{{"data":[{rows}]}}'.encode())
    reply = await local.post(BGE, {"text": ["a", "b"]})
    assert reply.error[:2] == (502, 90004)
    assert words in reply.error[2]


@pytest.mark.parametrize("rows", ["0", "0,0", "0,1,2", "1,2"])
async def test_a_ranking_must_have_each_context_once(
    scripted: tuple[Local, FakeWorkersAI], rows: str
) -> None:
    local, fake = scripted
    results = [{"index": int(index), "relevance_score": 0.5} for index in rows.split(",")]
    fake.says(orjson.dumps({"results": results}))
    body = {"query": "q", "contexts": [{"text": "a"}, {"text": "b"}]}
    reply = await local.post(RERANKER, body)
    assert reply.error[:2] == (502, 90004)
    assert "not exactly one score for each context" in reply.error[2]


@pytest.mark.parametrize(
    ("model", "body", "words"),
    [
        (SDXL, {"prompt": "a", "width": 512}, "width and height must be sent together"),
        (SDXL, {"prompt": "a", "height": 512}, "width and height must be sent together"),
        (WHISPER, {"audio": [1], "language": 5}, "language must be a string, got 5"),
        (WHISPER, {"audio": [1], "initial_prompt": 5}, "prompt must be a string, got 5"),
        (AURA, {}, "required properties at '/' are 'text'"),
        (AURA, {"text": "a", "prompt": "b"}, "prompt must be omitted if there is a text"),
        (AURA, {"text": "a", "speaker": 5}, "speaker must be a string, got 5"),
        (LLAMA, {"prompt": "Hi", "image": 5}, "image must be a list of integers or base64, got 5"),
    ],
)
async def test_what_another_server_would_not_understand_is_refused(
    scripted: tuple[Local, FakeWorkersAI], model: str, body: dict[str, Any], words: str
) -> None:
    local, fake = scripted
    status, code, message = (await local.post(model, body)).error
    assert (status, code) == (400, 5006)
    assert words in message
    assert not fake.requests


async def test_the_fields_of_speech_are_passed_on(
    scripted: tuple[Local, FakeWorkersAI],
) -> None:
    local, fake = scripted
    fake.says(b'{"text":"Hi there","segments":[5,{"start":1,"id":7}]}')
    body = {"audio": [1, 2], "language": "de", "initial_prompt": "Names"}
    result = (await local.post(WHISPER, body)).result
    assert result == {"text": "Hi there", "word_count": 2, "segments": [{}, {"start": 1}]}
    for field in (b'"language"\r\n\r\nde', b'"prompt"\r\n\r\nNames', b"verbose_json"):
        assert field in fake.requests[0].body
    fake.says(b'{"text":"Hi"}')
    nova = await local.post("@cf/deepgram/nova-3", b"ID3", headers={"Content-Type": "audio/mpeg"})
    assert nova.result == {"results": {"channels": [{"alternatives": [{"transcript": "Hi"}]}]}}
    fake.says(b"ID3")
    await local.post(AURA, {"prompt": "Hi"})
    assert fake.requests[2].json()["voice"] == "alloy"
    assert fake.requests[2].json()["input"] == "Hi"


async def test_a_busy_server_rejects_what_must_not_wait() -> None:
    """`rejectIfBusy`, in each kind of task: sixteen requests wait for another server at once."""
    async with (
        FakeWorkersAI() as fake,
        running(upstream=Upstream(f"{fake.base_url}/", {"*": "m"})) as local,
    ):
        fake.always.says(asyncio.Event(), content_type=EVENTS)
        waiting = [asyncio.create_task(local.post(LLAMA, {"prompt": "Hi"})) for _ in range(16)]
        await fake.until(lambda: len(fake.requests) == 16)
        options = {"options": {"rejectIfBusy": True}}
        for model, body in ((LLAMA, {"prompt": "Hi"}), (BGE, {"text": "a"})):
            assert (await local.post(model, {**body, **options})).error[:2] == (429, 3040)
        reply = await v1(local, "embeddings", {"model": BGE, "input": "a", **options})
        assert reply.error[:2] == (429, 3040)
        reply = await v1(local, "chat/completions", {"model": LLAMA, "messages": HI, **options})
        assert reply.error[:2] == (429, 3040)
        assert len(fake.requests) == 16
        assert "Authorization" not in fake.requests[0].headers
        assert "//chat" not in fake.requests[0].path
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"prompt": "Hi"}, "/chat/completions"),
        ({"messages": [{"role": "user", "content": "Hi"}]}, "/chat/completions"),
        ({"text": "a"}, "/embeddings"),
        ({"query": "a", "contexts": [{"text": "b"}]}, "/rerank"),
        ({"audio": [1]}, "/audio/transcriptions"),
    ],
)
async def test_the_task_of_a_new_model_is_that_of_its_fields(
    scripted: tuple[Local, FakeWorkersAI], body: dict[str, Any], path: str
) -> None:
    """A known model keeps its own."""
    local, fake = scripted
    fake.always.says(b"", status=500)
    assert (await local.post("@cf/new/model-of-tomorrow", body)).error[:2] == (502, 90004)
    assert fake.requests[0].path.endswith(f"/client/v4{path}")
    assert (await local.post(LLAMA, {"prompt": "Hi", "text": "a"})).error[:2] == (400, 5006)
    assert len(fake.requests) == 1


async def test_speech_is_recognized(scripted: tuple[Local, FakeWorkersAI]) -> None:
    local, fake = scripted
    fake.always.says(
        b'{"task":"transcribe","language":"en","duration":8.47,"text":"The beach was popular.",'
        b'"segments":[{"id":0,"seek":0,"start":0.0,"end":3.32,"text":" The beach was popular.",'
        b'"tokens":[50364],"temperature":0.0,"avg_logprob":-0.28,"compression_ratio":1.2,'
        b'"no_speech_prob":0.009}]}'
    )
    audio = bytes(range(256))
    for value in (list(audio), b64encode(audio).decode()):
        reply = await local.post(WHISPER, {"audio": value})
        assert reply.result["text"] == "The beach was popular."
        assert reply.result["word_count"] == 4
        segment = {"start": 0.0, "end": 3.32, "text": " The beach was popular."}
        assert reply.result["segments"] == [segment]
    headers = {"Content-Type": "application/x-www-form-urlencoded"}  # as curl's --data-binary
    reply = await local.post(WHISPER, audio, headers=headers)
    assert reply.result["word_count"] == 4
    sent = fake.requests[2]
    assert sent.path.endswith("/audio/transcriptions")
    assert audio in sent.body
    assert b'name="model"\r\n\r\nm\r\n' in sent.body


async def test_speech_is_spoken(scripted: tuple[Local, FakeWorkersAI]) -> None:
    local, fake = scripted
    mp3 = b"\xff\xfb\x90\x64" + bytes(50)
    fake.always.says(mp3, content_type="audio/mpeg")
    reply = await local.post(AURA, {"text": "Hello", "speaker": "luna"})
    assert (reply.headers["Content-Type"], reply.body) == ("audio/mpeg", mp3)
    assert fake.requests[0].json() == {
        "model": "m",
        "input": "Hello",
        "voice": "luna",
        "response_format": "mp3",
    }
    reply = await local.post(MELO, {"prompt": "Hello"})
    assert reply.result == {"audio": b64encode(mp3).decode()}


BODIES: dict[str, Any] = {
    BGE: {"text": ["a"]},
    RERANKER: {"query": "q", "contexts": [{"text": "a"}]},
    SDXL: {"prompt": "a"},
    WHISPER: {"audio": [1]},
}


@pytest.mark.parametrize("model", BODIES)
@pytest.mark.parametrize(
    "body",
    [
        b"nonsense",
        b"[]",
        b"{}",
        b'{"data":[],"results":[],"text":null}',
        b'{"data":[{}],"results":[{}]}',
        (
            b'{"data":[{"index":0,"embedding":["a"],"b64_json":"%%"}],'
            b'"results":[{"index":3,"relevance_score":1}]}'
        ),
        b'{"data":null,"results":null,"text":1}',
    ],
)
async def test_what_is_no_answer_is_reported(
    scripted: tuple[Local, FakeWorkersAI], model: str, body: bytes
) -> None:
    local, fake = scripted
    fake.says(body)
    assert (await local.post(model, BODIES[model])).error[:2] == (502, 90004)


@pytest.mark.parametrize("model", BODIES)
@pytest.mark.parametrize(("status", "code"), [(429, 3040), (400, 5006), (401, 90004), (500, 90004)])
async def test_failures_are_translated(
    scripted: tuple[Local, FakeWorkersAI], model: str, status: int, code: int
) -> None:
    local, fake = scripted
    fake.says(b"reason", status=status)
    reply = await local.post(model, BODIES[model])
    assert reply.error[1] == code
    assert b"a secret key" not in reply.body


@pytest.mark.parametrize("model", ["@cf/meta/m2m100-1.2b", "@cf/microsoft/resnet-50"])
async def test_tasks_that_the_protocol_lacks_stay_unsupported(
    scripted: tuple[Local, FakeWorkersAI], model: str
) -> None:
    local, fake = scripted
    assert (await local.post(model, {})).status in (400, 501)
    assert not fake.requests


VECTORS = b'{"data":[{"index":0,"embedding":[1.0,2.0]}]}'
RANKING = b'{"results":[{"index":0,"relevance_score":0.5}]}'
PICTURE = b'{"data":[{"b64_json":"' + b64encode(PNG) + b'"}]}'
NEW = "@cf/new/model-of-tomorrow"

QUEUED: dict[str, tuple[str, dict[str, Any], bytes, str]] = {
    "text": (LLAMA, {"prompt": "Weather?"}, TEXT, "response"),
    "a new text model": (NEW, {"prompt": "Weather?"}, TEXT, "response"),
    "choices": (GLM, {"messages": [{"role": "user", "content": "Hi"}]}, TEXT, "choices"),
    "vectors": (BGE, {"text": "a"}, VECTORS, "data"),
    "a new model of vectors": (NEW, {"text": "a"}, VECTORS, "data"),
    "a ranking": (RERANKER, {"query": "a", "contexts": [{"text": "b"}]}, RANKING, "response"),
    "a transcript": (WHISPER, {"audio": [1, 2]}, b'{"text":"Hi there"}', "text"),
    "sound in JSON": (MELO, {"prompt": "Hi"}, b"ID3", "audio"),
    "an image in JSON": (FLUX, {"prompt": "a"}, PICTURE, "image"),
}


async def run_queued(local: Local, model: str, body: dict[str, Any]) -> Any:
    reply = await submit(local, {"requests": [body]}, model)
    batch = await wait_for_batch(local, reply.result["request_id"], model)
    return batch["responses"][0]


@pytest.mark.parametrize(("model", "body", "answer", "key"), QUEUED.values(), ids=QUEUED)
async def test_queued_runs_are_answered_as_others_are(
    scripted: tuple[Local, FakeWorkersAI],
    model: str,
    body: dict[str, Any],
    answer: bytes,
    key: str,
) -> None:
    local, fake = scripted
    fake.always.says(answer, content_type=EVENTS if answer == TEXT else "application/json")
    response = await run_queued(local, model, body)
    assert response["success"], response
    direct = (await local.post(model, body)).result
    assert response["result"][key]
    for result in (response["result"], direct):
        result.pop("id", None)
        result.pop("created", None)
    assert response["result"] == direct


@pytest.mark.parametrize(
    ("model", "body", "answer"),
    [(SDXL, {"prompt": "a"}, PICTURE), (AURA, {"text": "Hi"}, b"ID3")],
)
async def test_a_queued_run_with_a_file_as_its_answer_says_what_to_do(
    scripted: tuple[Local, FakeWorkersAI], model: str, body: dict[str, Any], answer: bytes
) -> None:
    local, fake = scripted
    fake.says(answer)
    response = await run_queued(local, model, body)
    (error,) = response["errors"]
    assert error["code"] == 5006
    assert f"queueRequest must be left out for {model}: its answer is a file" in error["message"]


async def test_failures_of_queued_runs_are_those_of_their_items(
    scripted: tuple[Local, FakeWorkersAI],
) -> None:
    local, fake = scripted
    fake.says(b"oops", status=500)
    fake.says(VECTORS)
    taken = (await submit(local, {"requests": [{"text": "a"}, {"text": "a"}]}, BGE)).result
    bad, good = (await wait_for_batch(local, taken["request_id"], BGE))["responses"]
    assert bad["errors"][0]["code"] == 90004
    assert good["success"]


async def test_models_are_mapped_by_their_tasks() -> None:
    async with FakeWorkersAI() as fake:
        names = {"Text Embeddings": "nomic-embed-text", "@cf/meta/*": "llama3.2"}
        async with running(upstream=Upstream(fake.base_url, names)) as local:
            fake.says(b'{"data":[{"index":0,"embedding":[1,2]}]}')
            assert (await local.post(BGE, {"text": "a"})).result["shape"] == [1, 2]
            assert fake.requests[0].json()["model"] == "nomic-embed-text"
            fake.says(TEXT, content_type=EVENTS)
            assert (await local.post(LLAMA, {"prompt": "Hi"})).status == 200
            assert fake.requests[1].json()["model"] == "llama3.2"
            ranked = await local.post(RERANKER, BODIES[RERANKER])
            assert ranked.headers["cfai-backend"].startswith("minilm")


@pytest.mark.parametrize(
    "name", ["http://169.254.169.254/v1", "../../admin", "//evil.example/", "a\r\nHost: evil"]
)
async def test_a_name_never_becomes_an_address(name: str) -> None:
    """The name of a model is a value in the body, whatever it looks like."""
    async with FakeWorkersAI() as fake:
        async with running(upstream=Upstream(fake.base_url, {"*": name})) as local:
            fake.says(b'{"data":[{"index":0,"embedding":[1,2]}]}')
            assert (await local.post(BGE, {"text": "a"})).status == 200
        (sent,) = fake.requests
        assert sent.path.endswith("/client/v4/embeddings")
        assert sent.json()["model"] == name
        assert sent.headers["Host"] == fake.base_url.split("/")[2]


async def test_headers_of_the_client_do_not_reach_the_other_server(
    scripted: tuple[Local, FakeWorkersAI],
) -> None:
    local, fake = scripted
    fake.always.says(TEXT, content_type=EVENTS)
    headers = {
        "Cookie": "a=b",
        "TE": "trailers",
        "X-Forwarded-Host": "evil",
        "Connection": "keep-alive, X-Hop",
        "X-Hop": "1",
        "Authorization": "Bearer the-token-of-the-client",
    }
    await local.post(LLAMA, {"prompt": "Hi"}, headers=headers)
    sent = {name.lower(): value for name, value in fake.requests[0].headers.items()}
    assert not {"cookie", "te", "x-forwarded-host", "x-hop"} & sent.keys()
    assert sent["authorization"] == "Bearer a secret key"


# The user's own model with an image encoder


def gguf(path: Path, architecture: str) -> Path:
    """Write the beginning of a GGUF file (ggml, docs/gguf.md): version 3, no tensors, one key."""
    key, text = b"general.architecture", architecture.encode()
    pair = struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(text)) + text
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + pair)
    return path


async def test_files_of_the_wrong_kind_are_refused_at_the_start(
    tmp_path: Path, model_weights: Path
) -> None:
    encoder, text = gguf(tmp_path / "mmproj.gguf", "clip"), tmp_path / "script.json"
    text.write_bytes(b"[]")
    empty = tmp_path / "empty.gguf"
    empty.write_bytes(b"")
    for file in (text, empty):
        with pytest.raises(ConfigError, match=f"{file.name} is not a GGUF file; model must be"):
            Server(model=file)
        with pytest.raises(ConfigError, match=f"{file.name} is not a GGUF file; mmproj must be"):
            Server(model=model_weights, mmproj=file)
    with pytest.raises(ConfigError, match=r"mmproj\.gguf is clip"):
        Server(model=encoder)
    nothing = gguf(tmp_path / "n.gguf", "")
    with pytest.raises(ConfigError, match=r"image encoder; the architecture in .* is none"):
        Server(model=model_weights, mmproj=nothing)
    Server(model=nothing)
    for file, kind in ((model_weights, "llama"), (gguf(tmp_path / "q.gguf", "qwen3"), "qwen3")):
        with pytest.raises(ConfigError, match=f"image encoder; the architecture .* is {kind}"):
            Server(model=model_weights, mmproj=file)


async def test_a_broken_file_is_named(tmp_path: Path, model_weights: Path) -> None:
    broken, encoder = gguf(tmp_path / "b.gguf", "llama"), gguf(tmp_path / "m.gguf", "clip")
    async with running(model=broken) as local:
        reply = await local.post(LLAMA, {"prompt": "Hi"})
        assert reply.error[:2] == (501, 90001)
        assert f"cannot load the text model {broken}: " in reply.error[2]
    async with running(model=model_weights, mmproj=encoder) as local:
        reply = await local.post(LLAMA, IMAGES[3])
        assert reply.error[:2] == (501, 90001)
        assert f"{model_weights} and {encoder}: " in reply.error[2]
    with pytest.raises(ConfigError, match=r"b\.gguf"):
        await Server(model=broken, prewarm=True).__aenter__()
    async with Server(model=broken) as server:
        with pytest.raises(ConfigError, match=r"b\.gguf"):
            await server.load_models()


async def test_an_image_encoder_needs_a_model(tmp_path: Path, model_weights: Path) -> None:
    with pytest.raises(ConfigError, match="mmproj needs a model"):
        Server(mmproj=model_weights)
    with pytest.raises(ConfigError, match="mmproj must be a GGUF file"):
        Server(model=model_weights, mmproj=tmp_path / "missing.gguf")


def test_literals_are_json() -> None:
    for chunk in CALL[:-1]:
        orjson.loads(chunk.removeprefix(b"data: "))
