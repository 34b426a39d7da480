"""The routes of a run, over real sockets: requests, whole answers, streams and tools."""

import asyncio
import base64
from typing import Any

import pytest

from cfai import (
    Options,
    Prompt,
    Result,
    Retries,
    Spent,
    Text,
    TextGeneration,
    TextToImage,
    Timeouts,
    ToolCall,
    Usage,
    user,
)
from cfai.errors import (
    BadRequest,
    DecodeError,
    InputError,
    NotFound,
    RequestTimeout,
    ServerError,
    StatusError,
    StreamUnsupported,
)
from cfai.observers import Call, Observation
from cfai.settings import Retry
from cfai.testing import FakeWorkersAI
from tests.wire.dialects import OPENAI_ROUTE, OPENAI_ROUTE_CALLS

LLAMA = "@cf/meta/llama-3.3-70b-instruct-fp8-fast"
CHAT_PATH = "/client/v4/accounts/account/ai/v1/chat/completions"
CHAT = Options(route="chat")

# Cloudflare docs, open-ai-compatibility.mdx@161af78: no `result` around the answer.
# github.com/cloudflare/langchain-cloudflare, its tests, also have it inside.
COMPLETION = (
    '{"id":"chatcmpl-1","object":"chat.completion","created":1771286400,'
    '"model":"@cf/zai-org/glm-4.7-flash","choices":[{"index":0,"message":{"role":"assistant",'
    '"content":"Hello"},"finish_reason":"stop"}],'
    '"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}'
)
CALLS = (
    '{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0,"message":'
    '{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function",'
    '"function":{"name":"add","arguments":"{\\"a\\":1,\\"b\\":2}"}}]},'
    '"finish_reason":"tool_calls"}],'
    '"usage":{"prompt_tokens":9,"completion_tokens":7,"total_tokens":16}}'
)


def in_envelope(body: str) -> str:
    return f'{{"result":{body},"success":true,"errors":[],"messages":[]}}'


# Chat completions


@pytest.mark.parametrize("body", [COMPLETION, in_envelope(COMPLETION)], ids=["bare", "enveloped"])
@pytest.mark.parametrize(
    ("model", "options"), [("dynamic/support", None), ("cloudflare/auto", None), (LLAMA, CHAT)]
)
async def test_a_whole_chat(
    fake: FakeWorkersAI, model: str, options: Options | None, body: str
) -> None:
    fake.says(body)
    answer = await fake.client().run(model, Prompt("Hi"), options=options)
    assert answer == Text("Hello", finish_reason="stop", usage=Usage(9, 2, 11))
    (request,) = fake.requests
    assert request.target == CHAT_PATH
    assert request.json() == {"model": model, "messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize(
    ("model", "options"), [("dynamic/support", None), ("cloudflare/auto", None), (LLAMA, CHAT)]
)
async def test_a_streamed_chat(fake: FakeWorkersAI, model: str, options: Options | None) -> None:
    fake.says(OPENAI_ROUTE.stream)
    task = TextGeneration([user("Hi")])
    async with fake.client().stream(model, task, options=options) as tokens:
        assert [token.text async for token in tokens if token.text] == ["Hel", "lo"]
    assert tokens.answer == OPENAI_ROUTE.says
    (request,) = fake.requests
    assert request.target == CHAT_PATH
    assert request.json()["stream"] is True


async def test_a_mapping_gives_the_completion_as_it_came(fake: FakeWorkersAI) -> None:
    fake.says(COMPLETION)
    task = {"messages": [{"role": "user", "content": "Hi"}]}
    answer = await fake.client().run("dynamic/support", task)
    assert isinstance(answer, Result)
    assert answer.value["choices"][0]["message"]["content"] == "Hello"


@pytest.mark.parametrize("stream", [False, True])
async def test_tools_of_a_chat(fake: FakeWorkersAI, stream: bool) -> None:
    """The ids of the calls come back with the results."""

    def add(a: int, b: int = 2) -> int:
        """Add two numbers."""
        return a + b

    fake.says(OPENAI_ROUTE_CALLS.stream if stream else CALLS)
    fake.says(OPENAI_ROUTE.stream if stream else COMPLETION)
    outcome = await fake.client().run_tools(
        "dynamic/support", [user("1+2?")], tools=[add], stream=stream
    )
    assert outcome.answer.text == "Hello"
    first, second = (request.json() for request in fake.requests)
    assert {request.target for request in fake.requests} == {CHAT_PATH}
    assert first["tools"][0]["function"]["name"] == "add"
    assert second["messages"][1]["tool_calls"][0]["id"] == "call_1"
    assert second["messages"][2] == {
        "role": "tool",
        "content": "3",
        "tool_call_id": "call_1",
        "name": "add",
    }


async def test_a_call_of_a_chat_has_its_id(fake: FakeWorkersAI) -> None:
    fake.says(CALLS)
    answer = await fake.client().run("dynamic/support", Prompt("1+2?"))
    assert answer.tool_calls == (ToolCall("add", {"a": 1, "b": 2}, "call_1"),)
    assert answer.finish_reason == "tool_calls"


async def test_parse_over_chat_completions(fake: FakeWorkersAI) -> None:
    fake.says(COMPLETION.replace("Hello", "[1,2]"))
    assert await fake.client().parse("dynamic/support", Prompt("?"), into=list[int]) == [1, 2]


async def test_an_error_of_a_chat_is_read_like_any_other(fake: FakeWorkersAI) -> None:
    """The form of the API's edge: github.com/sst/opencode, issue 23773."""
    fake.fails(400, 7003, "Could not route to /client/v4/accounts/x/ai/v1/chat/completions")
    with pytest.raises(BadRequest, match="Could not route"):
        await fake.client().run("dynamic/support", Prompt("Hi"))


@pytest.mark.parametrize("model", ["dynamic/support", "cloudflare/auto"])
async def test_what_is_no_chat_sends_nothing(fake: FakeWorkersAI, model: str) -> None:
    client = fake.client()
    calls = [
        client.embed(model, "a"),
        client.run(model, {"prompt": "Hi"}),
        client.queue(model, [Prompt("Hi")]),
    ]
    for call in calls:
        with pytest.raises(InputError, match=r"route chat|one of Workers AI's own"):
            await call
    assert not fake.requests


# Empty streams

# github.com/cloudflare/ai, stream-text.test.ts, "should retry without streaming": gpt-oss and Kimi.
NOTHING = '{"result":{},"success":true,"errors":[],"messages":[]}'
RUN_PATH = f"/client/v4/accounts/account/ai/run/{LLAMA}"


@pytest.mark.parametrize(
    "task",
    [
        Prompt("Hi"),
        TextGeneration([user("Hi")]),
        {"messages": [{"role": "user", "content": "Hi"}]},
    ],
    ids=["prompt", "messages", "mapping"],
)
@pytest.mark.parametrize("retries", [Retries(), Retries(max=0)], ids=["retries", "no retries"])
async def test_an_empty_stream_is_requested_from_the_other_route(
    fake: FakeWorkersAI, task: Any, retries: Retries
) -> None:
    fake.says(NOTHING).says(OPENAI_ROUTE.stream)
    answer = await fake.client(retries=retries).stream(LLAMA, task).collect()
    assert answer == OPENAI_ROUTE.says
    first, second = fake.requests
    assert (first.target, second.target) == (RUN_PATH, CHAT_PATH)
    assert second.json() == {
        "model": LLAMA,
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
    }
    assert second.headers["accept"] == "text/event-stream"


async def test_both_routes_are_tried_once(fake: FakeWorkersAI) -> None:
    fake.says(NOTHING).says(NOTHING)
    with pytest.raises(StreamUnsupported, match=r"call run\(\)"):
        await fake.client().stream(LLAMA, Prompt("Hi")).collect()
    assert len(fake.requests) == 2


@pytest.mark.parametrize(
    ("model", "task", "options"),
    [
        (LLAMA, Prompt("Hi"), Options(route="run")),
        (LLAMA, Prompt("Hi"), Options(route="chat")),
        ("dynamic/support", Prompt("Hi"), None),
        (LLAMA, Prompt("Hi", raw=True), None),
        (LLAMA, {"prompt": "Hi"}, None),
        (LLAMA, Prompt("Hi"), Options(tags=["a"])),
    ],
    ids=["run", "chat", "gateway", "raw", "no chat", "tags"],
)
async def test_an_empty_stream_without_another_route_is_an_error(
    fake: FakeWorkersAI, model: str, task: Any, options: Options | None
) -> None:
    fake.says(NOTHING)
    with pytest.raises(StreamUnsupported):
        await fake.client().stream(model, task, options=options).collect()
    assert len(fake.requests) == 1


async def test_observers_see_the_change_of_the_route(fake: FakeWorkersAI) -> None:
    seen: list[Retry] = []

    class Watching(Observation):
        def retried(self, retry: Retry) -> None:
            seen.append(retry)

    def watch(call: Call) -> Observation:
        return Watching()

    fake.says(NOTHING).says(OPENAI_ROUTE.stream)
    await fake.client(observers=[watch]).stream(LLAMA, Prompt("Hi")).collect()
    (retry,) = seen
    assert isinstance(retry.failure, StreamUnsupported)
    assert retry.pause == 0


async def test_tools_run_on_the_other_route(fake: FakeWorkersAI) -> None:
    def add(a: int, b: int = 2) -> int:
        """Add two numbers."""
        return a + b

    fake.says(NOTHING).says(OPENAI_ROUTE_CALLS.stream).says(OPENAI_ROUTE.stream)
    client = fake.client()
    outcome = await client.run_tools(LLAMA, [user("1+2?")], tools=[add], stream=True)
    assert outcome.answer.text == "Hello"
    assert [request.target for request in fake.requests] == [RUN_PATH, CHAT_PATH, CHAT_PATH]


async def test_a_client_remembers_the_route_of_a_model(fake: FakeWorkersAI) -> None:
    """Every further stream costs one request, also of a copy; what is no chat stays as it is."""
    fake.says(NOTHING).says(OPENAI_ROUTE.stream)
    client = fake.client()
    await client.stream(LLAMA, Prompt("Hi")).collect()
    fake.always.says(OPENAI_ROUTE.stream)
    other = client.with_options(headers={"X-Team": "search"})
    for ai, model, task, options, path in (
        (client, LLAMA, Prompt("Hi"), None, CHAT_PATH),
        (other, LLAMA, TextGeneration([user("Hi")]), None, CHAT_PATH),
        (client, LLAMA, Prompt("Hi", raw=True), None, RUN_PATH),
        (client, LLAMA, Prompt("Hi"), Options(route="run"), RUN_PATH),
        (client, "@cf/new/model", Prompt("Hi"), None, RUN_PATH.replace(LLAMA, "@cf/new/model")),
        (fake.client(), LLAMA, Prompt("Hi"), None, RUN_PATH),
    ):
        await ai.stream(model, task, options=options).collect()
        assert fake.requests[-1].target == path
    fake.always.answers({"response": "Hi"})
    await client.run(LLAMA, Prompt("Hi"))
    assert fake.requests[-1].target == RUN_PATH
    assert len(fake.requests) == 2 + 7


async def test_a_route_without_an_answer_is_not_remembered(fake: FakeWorkersAI) -> None:
    fake.says(NOTHING).says(NOTHING)
    client = fake.client()
    with pytest.raises(StreamUnsupported):
        await client.stream(LLAMA, Prompt("Hi")).collect()
    fake.says(NOTHING).fails(404, 7000, "no route")
    with pytest.raises(NotFound):
        await client.stream(LLAMA, Prompt("Hi")).collect()
    fake.streams("Hello")
    await client.stream(LLAMA, Prompt("Hi")).collect()
    assert fake.requests[-1].target == RUN_PATH


async def test_the_deadline_is_that_of_the_whole_call(fake: FakeWorkersAI) -> None:
    """The time of the first request counts, too."""
    fake.says(NOTHING, after=0.3).stalls()
    client = fake.client(timeouts=Timeouts(total=0.4))
    loop = asyncio.get_running_loop()
    start = loop.time()
    with pytest.raises(RequestTimeout) as caught:
        await client.stream(LLAMA, Prompt("Hi")).collect()
    assert caught.value.phase == "total"
    assert loop.time() - start < 0.65
    assert len(fake.requests) == 2


# Models of other providers

GPT = "openai/gpt-4.1"
UNIVERSAL_PATH = "/client/v4/accounts/account/ai/run"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))

# Cloudflare docs, ai-gateway/usage/run-api.mdx@0a26bf7.
UNAVAILABLE = (
    '{"state":"Failed","error":{"code":"provider_unavailable",'
    '"message":"All providers for this model are currently unavailable."},'
    '"model":"google/nano-banana"}'
)


def completed(result: str) -> str:
    return (
        f'{{"state":"Completed","result":{result},'
        '"provider":"google-vertex-ai","model":"google/nano-banana"}'
    )


@pytest.mark.parametrize(
    "body",
    [
        in_envelope(completed(COMPLETION)),
        completed(COMPLETION),
        in_envelope(COMPLETION),
        COMPLETION,
    ],
    ids=["double", "state only", "envelope only", "bare"],
)
async def test_a_chat_of_another_provider(fake: FakeWorkersAI, body: str) -> None:
    fake.says(body)
    answer = await fake.client().run(GPT, Prompt("Hi"))
    assert answer == Text("Hello", finish_reason="stop", usage=Usage(9, 2, 11))
    assert answer.raw["id"] == "chatcmpl-1"
    (request,) = fake.requests
    assert request.target == UNIVERSAL_PATH
    assert request.json() == {
        "model": GPT,
        "input": {"messages": [{"role": "user", "content": "Hi"}]},
    }


async def test_a_streamed_chat_of_another_provider(fake: FakeWorkersAI) -> None:
    fake.says(OPENAI_ROUTE.stream)
    assert await fake.client().stream(GPT, Prompt("Hi")).collect() == OPENAI_ROUTE.says
    assert fake.requests[0].target == CHAT_PATH


@pytest.mark.parametrize("stream", [False, True])
async def test_tools_of_another_provider(fake: FakeWorkersAI, stream: bool) -> None:
    def add(a: int, b: int = 2) -> int:
        """Add two numbers."""
        return a + b

    fake.says(OPENAI_ROUTE_CALLS.stream if stream else in_envelope(completed(CALLS)))
    fake.says(OPENAI_ROUTE.stream if stream else in_envelope(completed(COMPLETION)))
    client = fake.client()
    outcome = await client.run_tools(GPT, [user("1+2?")], tools=[add], stream=stream)
    assert outcome.answer.text == "Hello"
    assert len(fake.requests) == 2


async def test_a_mapping_for_another_provider_gives_the_inner_result(fake: FakeWorkersAI) -> None:
    fake.says(in_envelope(completed('{"image":"https://example.com/a.png"}')))
    answer = await fake.client().run("google/nano-banana", {"prompt": "a cat"})
    assert isinstance(answer, Result)
    assert answer.value == {"image": "https://example.com/a.png"}


@pytest.mark.parametrize("body", [in_envelope(UNAVAILABLE), UNAVAILABLE])
async def test_a_provider_that_is_unavailable_is_a_server_error(
    fake: FakeWorkersAI, body: str
) -> None:
    fake.says(body)
    client = fake.client(retries=Retries(max=0))
    with pytest.raises(ServerError, match="All providers for this model") as caught:
        await client.run("google/nano-banana", TextToImage("a cat"))
    assert caught.value.status == 503
    assert caught.value.errors[0]["code"] == "provider_unavailable"


async def test_a_failed_run_under_an_error_status_has_its_message(fake: FakeWorkersAI) -> None:
    fake.says(f'{{"result":{UNAVAILABLE},"success":false,"errors":[]}}', status=502)
    client = fake.client(retries=Retries(max=0))
    with pytest.raises(ServerError, match="502: All providers for this model") as caught:
        await client.run("google/nano-banana", TextToImage("a cat"))
    assert caught.value.status == 502


async def test_a_provider_that_is_unavailable_is_asked_again(fake: FakeWorkersAI) -> None:
    fake.says(in_envelope(UNAVAILABLE)).says(in_envelope(completed(COMPLETION)))
    client = fake.client(retries=Retries(base=0))
    assert (await client.run(GPT, Prompt("Hi"))).text == "Hello"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ('{"code":"content_filtered","message":"no"}', BadRequest),
        ('{"code":2021,"message":"no credit"}', StatusError),
        ('"broken"', ServerError),
        ("null", ServerError),
    ],
)
async def test_other_failures_of_a_provider(
    fake: FakeWorkersAI, error: str, kind: type[StatusError]
) -> None:
    fake.says(in_envelope(f'{{"state":"Failed","error":{error}}}'))
    with pytest.raises(kind):
        await fake.client(retries=Retries(max=0)).run(GPT, Prompt("Hi"))
    assert len(fake.requests) == 1


async def test_an_image_is_downloaded_without_credentials(fake: FakeWorkersAI) -> None:
    """run-api.mdx@0a26bf7: `image` is the address of the image."""
    url = f"{fake.origin}/r2/a.png?X-Amz-Signature=abc%2F"
    headers = {"cf-ray": "8f1a-AMS", "cf-ai-neurons": "3.5"}
    fake.says(in_envelope(completed(f'{{"image":"{url}"}}')), headers=headers)
    fake.on("/r2/").says(PNG, content_type="image/png")
    client = fake.client()
    answer = await client.run("google/nano-banana", TextToImage("a cat"))
    assert (answer.data, answer.media_type) == (PNG, "image/png")
    assert answer.raw == {"image": url}
    assert client.spent == Spent(neurons=3.5, calls=1)
    assert answer.meta.ray_id == "8f1a-AMS"
    download = fake.requests[1]
    assert download.method == "GET"
    assert download.target == "/r2/a.png?X-Amz-Signature=abc%2F"
    assert "authorization" not in download.headers
    assert "x-auth-key" not in download.headers


async def test_an_image_as_a_data_uri(fake: FakeWorkersAI) -> None:
    uri = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    fake.says(in_envelope(completed(f'{{"image":"{uri}"}}')))
    answer = await fake.client().run("google/nano-banana", TextToImage("a cat"))
    assert (answer.data, answer.media_type) == (PNG, "image/png")


async def test_a_failed_download_names_the_address(fake: FakeWorkersAI) -> None:
    """The answer was paid for."""
    url = f"{fake.origin}/r2/a.png"
    fake.says(in_envelope(completed(f'{{"image":"{url}"}}')))
    fake.on("/r2/").says("<Error/>", status=403, content_type="application/xml")
    with pytest.raises(StatusError) as caught:
        await fake.client().run("google/nano-banana", TextToImage("a cat"))
    assert caught.value.status == 403
    assert url in caught.value.__notes__[0]


async def test_media_are_not_downloaded_in_clear(fake: FakeWorkersAI) -> None:
    url = "http://example.com/a.png"
    fake.says(in_envelope(completed(f'{{"image":"{url}"}}')))
    with pytest.raises(DecodeError, match="https") as caught:
        await fake.client().run("google/nano-banana", TextToImage("a cat"))
    assert url in caught.value.__notes__[0]
    assert len(fake.requests) == 1
