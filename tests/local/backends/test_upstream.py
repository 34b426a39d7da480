"""Text from another server: a second local one, and scripted failures."""

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientError

from cfai import ConfigError, TextGeneration, user
from cfai.local import Upstream
from cfai.local.backends.upstream import CONNECTIONS, parse_names
from cfai.profiles import TASKS, profile
from cfai.testing import FakeWorkersAI
from tests.local.conftest import LLAMA, Local, client as client_of, running
from tests.local.handlers.test_generation import PERSON, text_of
from tests.local.handlers.test_openai import HI, v1

OTHER = "@cf/qwen/qwen2.5-coder-32b-instruct"
RETIRED = next(
    model
    for model, task in TASKS.items()
    if task == "Text Generation" and profile(model).retired and model.startswith("@cf/meta/")
)


def base(local: Local) -> str:
    return f"{local.server.base_url}/accounts/0/ai/v1"


@pytest.fixture
async def chain() -> AsyncIterator[tuple[Local, Local]]:
    """A server that asks a second one for the text of most models, and that one."""
    async with running(token="upstream key") as second:
        names = {"@cf/meta/*": LLAMA, "@cf/new/*": OTHER}
        upstream = Upstream(base(second), names, key="upstream key")
        async with running(upstream=upstream) as first:
            yield first, second


async def test_mapped_models_are_answered_by_the_other_server(chain: tuple[Local, Local]) -> None:
    first, second = chain
    body = {"messages": HI, "max_tokens": 6, "seed": 1}
    reply = await first.post(LLAMA, body)
    assert reply.headers["cfai-backend"] == f"upstream:{LLAMA}"
    headers = {"Authorization": "Bearer upstream key"}
    direct = await second.post(LLAMA, body, headers=headers)
    assert reply.result == direct.result
    streamed = await first.post(LLAMA, {**body, "stream": True})
    assert text_of(streamed.body) == reply.result["response"]
    assert {exchange.model for exchange in second.server.requests} == {LLAMA}


async def test_other_models_are_answered_locally(chain: tuple[Local, Local]) -> None:
    first, second = chain
    body = {"prompt": "Hi", "max_tokens": 1}
    assert (await first.post(OTHER, body)).headers["cfai-backend"] == "smollm2-135m-q4_1"
    vectors = await first.post("@cf/baai/bge-m3", {"text": "a"})
    assert vectors.headers["cfai-backend"] == "minilm-int8"
    assert not second.server.requests


@pytest.mark.parametrize("model", ["@cf/new/model-of-tomorrow", RETIRED])
async def test_new_and_retired_names_are_answered_if_they_are_mapped(
    chain: tuple[Local, Local], model: str
) -> None:
    first, _ = chain
    body = {"prompt": "Hi", "max_tokens": 1}
    assert (await first.post(model, body)).status == 200
    chat = await v1(first, "chat/completions", {"model": model, "messages": HI, "max_tokens": 1})
    assert chat.json["model"] == model
    assert (await first.post("@cf/other/unknown", body)).error[1] == 5007


async def test_all_that_a_request_asks_for_is_passed_on(chain: tuple[Local, Local]) -> None:
    first, second = chain
    options = {"temperature": 0.5, "top_k": 5, "top_p": 0.5, "repetition_penalty": 1.1}
    body = {"messages": HI, "max_tokens": 8, "seed": 2, "stop": ["!"], **options}
    headers = {"Authorization": "Bearer upstream key"}
    direct = await second.post(LLAMA, body, headers=headers)
    assert (await first.post(LLAMA, body)).result == direct.result
    raw = {"prompt": "Once", "raw": True, "max_tokens": 4, "seed": 1}
    direct = await second.post(LLAMA, raw, headers=headers)
    assert (await first.post(LLAMA, raw)).result == direct.result


async def test_our_client_uses_it_like_the_service(chain: tuple[Local, Local]) -> None:
    first, _ = chain
    async with client_of(first.server) as ai:
        answer = await ai.run(LLAMA, TextGeneration([user("Hi")], max_tokens=5))
        assert answer.text
        assert answer.meta.backend == f"upstream:{LLAMA}"


# Failures


@pytest.fixture
async def scripted() -> AsyncIterator[tuple[Local, FakeWorkersAI]]:
    async with FakeWorkersAI() as fake:
        upstream = Upstream(fake.base_url, {"*": "m"}, key="a secret key")
        async with running(upstream=upstream) as local:
            yield local, fake


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (429, b"busy", (429, 3040)),
        (400, b"too long", (400, 5006)),
        (401, b"no key", (502, 90004)),
        (404, b"no such model", (502, 90004)),
        (500, b"oops", (502, 90004)),
        (200, b"data: nonsense\n\n", (502, 90004)),
        (200, b"", (502, 90004)),
        (200, b'data: {"error":{"message":"lost"}}\n\n', (502, 90004)),
        (200, b"data: " + b"x" * (3 << 20), (502, 90004)),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_failures_of_the_other_server_are_reported(
    scripted: tuple[Local, FakeWorkersAI],
    status: int,
    body: bytes,
    expected: tuple[int, int],
    *,
    stream: bool,
) -> None:
    local, fake = scripted
    fake.says(body, status=status, content_type="text/event-stream")
    reply = await local.post(LLAMA, {"prompt": "Hi", "stream": stream})
    assert b"a secret key" not in reply.body
    if stream and status == 200:
        # The stream has begun; without [DONE] it is not complete.
        assert f'"code":{expected[1]}'.encode() in reply.body
        assert not reply.body.endswith(b"data: [DONE]\n\n")
    else:
        assert reply.error[:2] == expected
        assert status == 200 or body.decode() in reply.error[2] or status == 429


async def test_a_json_schema_is_passed_on(scripted: tuple[Local, FakeWorkersAI]) -> None:
    local, fake = scripted
    fake.says(
        b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,'
        b'"message":{"role":"assistant","content":"{\\"name\\":\\"A\\",\\"age\\":1}"},'
        b'"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21}}'
    )
    response_format = {"type": "json_schema", "json_schema": PERSON}
    reply = await local.post(LLAMA, {"prompt": "Hi", "response_format": response_format})
    assert reply.result["response"] == {"name": "A", "age": 1}
    assert reply.result["usage"]["completion_tokens"] == 12
    sent = fake.requests[0].json()
    assert sent["response_format"]["json_schema"]["schema"] == PERSON
    assert fake.requests[0].headers["Authorization"] == "Bearer a secret key"


@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b'{"choices":5}', b'{"choices":[5]}', b'{"choices":[{"message":5}]}']
)
async def test_a_malformed_answer_in_json_mode_is_reported(
    scripted: tuple[Local, FakeWorkersAI], body: bytes
) -> None:
    local, fake = scripted
    fake.says(body)
    reply = await local.post(LLAMA, {"prompt": "Hi", "guided_json": PERSON})
    assert reply.error[:2] == (502, 90004)


async def test_a_busy_server_says_when_to_ask_again(scripted: tuple[Local, FakeWorkersAI]) -> None:
    local, fake = scripted
    fake.says(b"busy", status=429, headers={"Retry-After": "3"})
    reply = await local.post(LLAMA, {"prompt": "Hi"})
    assert (reply.status, reply.headers["Retry-After"]) == (429, "3")


async def test_a_server_that_is_not_there_is_reported() -> None:
    async with running(upstream=Upstream("http://127.0.0.1:9", {"*": "m"})) as local:
        reply = await local.post(LLAMA, {"prompt": "Hi"})
    assert reply.error[:2] == (502, 90004)
    assert "Cannot connect to host 127.0.0.1:9" in reply.error[2]


async def test_a_redirect_takes_the_key_nowhere(scripted: tuple[Local, FakeWorkersAI]) -> None:
    local, fake = scripted
    async with FakeWorkersAI() as other:
        fake.always.says(b"", status=302, headers={"Location": f"{other.base_url}/leak"})
        assert (await local.post(LLAMA, {"prompt": "Hi"})).error[:2] == (502, 90004)
        assert (await local.post("@cf/baai/bge-m3", {"text": "a"})).error[:2] == (502, 90004)
        assert not other.requests


async def test_a_proxy_of_the_environment_is_not_for_this_machine(
    scripted: tuple[Local, FakeWorkersAI], monkeypatch: pytest.MonkeyPatch
) -> None:
    local, fake = scripted
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    fake.says(
        b'data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\n'
        b"data: [DONE]\n\n",
        content_type="text/event-stream",
    )
    assert (await local.post(LLAMA, {"prompt": "Hi"})).result["response"] == "Hi"


@pytest.mark.parametrize("begins", [False, True])
async def test_clients_that_leave_a_silent_server_block_nobody(
    scripted: tuple[Local, FakeWorkersAI], *, begins: bool
) -> None:
    local, fake = scripted
    event = b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n'
    parts = (event, asyncio.Event()) if begins else (asyncio.Event(),)
    for _ in range(CONNECTIONS):
        fake.says(*parts, content_type="text/event-stream")
    body = {"prompt": "Hi", "stream": True}
    requests = [asyncio.create_task(local.post(LLAMA, body)) for _ in range(2 * CONNECTIONS)]
    await fake.until(lambda: len(fake.requests) == CONNECTIONS)
    for request in requests:
        request.cancel()
    await asyncio.gather(*requests, return_exceptions=True)
    fake.always.says(event, b"data: [DONE]\n\n", content_type="text/event-stream")
    async with asyncio.timeout(30):
        assert (await local.post(LLAMA, {"prompt": "Hi"})).result["response"] == "Hi"


async def test_the_server_ends_although_another_one_is_silent() -> None:
    async with FakeWorkersAI() as fake, asyncio.timeout(30):
        fake.says(asyncio.Event(), content_type="text/event-stream")
        async with running(upstream=Upstream(fake.base_url, {"*": "m"})) as local:
            request = asyncio.create_task(local.post(LLAMA, {"prompt": "Hi"}))
            await fake.until(lambda: fake.requests)
        with pytest.raises(ClientError):
            await request


@pytest.mark.parametrize(
    ("url", "names", "message"),
    [
        ("ftp://x", {"*": "m"}, "http or https URL, got 'ftp://x'"),
        ("localhost:1", {"*": "m"}, "http or https URL"),
        ("http://", {"*": "m"}, "http or https URL"),
        ("http://user:pw@host", {"*": "m"}, "without credentials"),
        ("http://host", {}, "at least one model"),
        ("http://host", {"text-embedding": "m"}, "one of the tasks .*, got 'text-embedding'"),
        ("http://host", {"Translation": "m"}, "one of the tasks"),
    ],
)
def test_invalid_upstreams_are_refused(url: str, names: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Upstream(url, names)
    assert "pw" not in str(caught.value)


def test_the_key_is_not_shown() -> None:
    assert "secret" not in repr(Upstream("http://host", {"*": "m"}, key="secret"))


def test_maps_are_read() -> None:
    assert parse_names(["@cf/meta/* = llama3.2", "*=a=b"]) == {
        "@cf/meta/*": "llama3.2",
        "*": "a=b",
    }
    tasks = ["text-embeddings=e", "Text Generation=g", "RERANKING=r", "text-to-image=i"]
    assert list(parse_names(tasks)) == [
        "Text Embeddings",
        "Text Generation",
        "Reranking",
        "Text-to-Image",
    ]


@pytest.mark.parametrize("text", ["x", "=x", " = x", "x=", "x= ", "=", ""])
def test_a_map_without_a_pattern_or_a_name_is_refused(text: str) -> None:
    message = f"map must be TASK=NAME or PATTERN=NAME, got {text!r}"
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse_names(["*=a", text])
