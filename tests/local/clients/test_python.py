"""Python clients of other makers: chats, streams, embeddings and JSON against the local server."""

import asyncio
from typing import Any

import pytest

from tests.local.clients.conftest import BGE, GLM, HELLO, LLAMA, OSS, Address

# Their warnings are not ours.
pytestmark = pytest.mark.filterwarnings("default")

MESSAGES: Any = [{"role": "user", "content": HELLO}]
ANA: Any = [{"role": "user", "content": "Ana is 31 years old. As JSON:"}]


# openai


@pytest.fixture
def openai_client(address: Address) -> Any:
    openai = pytest.importorskip("openai")
    return openai.AsyncOpenAI(base_url=address.v1, api_key=address.token, max_retries=0)


@pytest.mark.parametrize("model", [LLAMA, GLM, OSS])
async def test_openai_chats(openai_client: Any, model: str) -> None:
    chat = openai_client.chat.completions
    whole = await chat.create(model=model, messages=MESSAGES, max_tokens=8, seed=1)
    assert whole.choices[0].message.content
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    chunks = [
        chunk
        async for chunk in await chat.create(
            model=model,
            messages=MESSAGES,
            max_tokens=8,
            seed=1,
            stream=True,
            stream_options={"include_usage": True},
        )
    ]
    pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage


WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather for a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
PARIS: Any = [{"role": "user", "content": "What is the weather in Paris?"}]


async def test_openai_calls_tools(openai_client: Any) -> None:
    chat = openai_client.chat.completions
    options: Any = {"model": LLAMA, "messages": PARIS, "tools": [WEATHER], "max_tokens": 60}
    whole = await chat.create(**options)
    (call,) = whole.choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments.count("Paris")) == ("get_weather", 1)
    async with chat.stream(**options) as stream:
        final = await stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments.count("Paris")) == ("get_weather", 1)


async def test_openai_sends_the_result_of_a_tool(openai_client: Any) -> None:
    """And what it got before, as it is: a message with calls, and the output of a response."""
    chat = openai_client.chat.completions
    options: Any = {"model": LLAMA, "tools": [WEATHER], "max_tokens": 60}
    message = (await chat.create(messages=PARIS, **options)).choices[0].message
    (call,) = message.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    for assistant in (message, message.model_dump()):
        answer = await chat.create(messages=[*PARIS, assistant, result], **options)
        assert answer.choices[0].message.content
    responses = openai_client.responses
    first = await responses.create(model=OSS, input="Hi", max_output_tokens=8)
    second = await responses.create(
        model=OSS,
        input=[*first.output, {"role": "user", "content": "And now?"}],
        max_output_tokens=8,
    )
    assert second.output_text


async def test_openai_parses_an_answer(openai_client: Any) -> None:
    pydantic = pytest.importorskip("pydantic")
    person = pydantic.create_model("Person", name=str, age=int)
    answer = await openai_client.chat.completions.parse(
        model=LLAMA, messages=ANA, response_format=person, max_tokens=100
    )
    parsed = answer.choices[0].message.parsed
    assert isinstance(parsed.age, int)


async def test_openai_embeds_by_numbers_and_by_base64(openai_client: Any) -> None:
    """Without a format, the package asks for base64 and decodes it."""
    by_default = await openai_client.embeddings.create(model=BGE, input=["one", "two"])
    by_number = await openai_client.embeddings.create(
        model=BGE, input=["one", "two"], encoding_format="float"
    )
    for packed, plain in zip(by_default.data, by_number.data, strict=True):
        assert len(packed.embedding) == 384
        assert packed.embedding == pytest.approx(plain.embedding, abs=1e-6)


async def test_openai_reads_responses_completions_and_models(openai_client: Any) -> None:
    response = await openai_client.responses.create(model=OSS, input="Hi", max_output_tokens=8)
    assert response.output_text
    completion = await openai_client.completions.create(model=LLAMA, prompt="Once", max_tokens=4)
    assert completion.choices[0].text
    names = {model.id async for model in openai_client.models.list()}
    assert {LLAMA, BGE} <= names
    assert (await openai_client.models.retrieve(LLAMA)).owned_by == "meta"


async def test_openai_reports_the_refused_field(openai_client: Any) -> None:
    openai = pytest.importorskip("openai")
    with pytest.raises(openai.BadRequestError, match="logit_bias"):
        await openai_client.chat.completions.create(
            model=LLAMA, messages=MESSAGES, logit_bias={"1": 5}
        )


# cloudflare


@pytest.fixture
def cloudflare_client(address: Address) -> Any:
    cloudflare = pytest.importorskip("cloudflare")
    return cloudflare.AsyncCloudflare(api_token=address.token, base_url=address.api, max_retries=0)


async def test_cloudflare_runs_models(cloudflare_client: Any, address: Address) -> None:
    """By path: `ai.run` sends encoded slashes, which the service refuses, too."""
    run = f"/accounts/{address.account}/ai/run"
    body = {"prompt": HELLO, "max_tokens": 8}
    answer = await cloudflare_client.post(f"{run}/{LLAMA}", body=body, cast_to=object)
    assert answer["result"]["response"]
    vectors = await cloudflare_client.post(
        f"{run}/{BGE}", body={"text": ["one", "two"]}, cast_to=object
    )
    assert vectors["result"]["shape"] == [2, 384]


async def test_cloudflare_lists_models_and_formats(
    cloudflare_client: Any, address: Address
) -> None:
    models = [row async for row in cloudflare_client.ai.models.list(account_id=address.account)]
    assert any(LLAMA in str(row) for row in models)
    finetunes = await cloudflare_client.ai.finetunes.list(account_id=address.account)
    assert not finetunes


# litellm


@pytest.mark.parametrize("provider", ["cloudflare", "openai"])
async def test_litellm_chats(address: Address, provider: str) -> None:
    """In a thread: its asynchronous functions leave a task running."""
    litellm = pytest.importorskip("litellm")
    options: Any = {
        "model": f"{provider}/{LLAMA}",
        "messages": MESSAGES,
        "max_tokens": 8,
        "api_base": address.v1,
        "api_key": address.token,
    }
    whole = await asyncio.to_thread(lambda: litellm.completion(**options))
    assert whole.choices[0].message.content
    chunks = await asyncio.to_thread(lambda: list(litellm.completion(**options, stream=True)))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


async def test_litellm_calls_tools(address: Address) -> None:
    litellm = pytest.importorskip("litellm")
    answer = await asyncio.to_thread(
        lambda: litellm.completion(
            model=f"openai/{LLAMA}",
            messages=PARIS,
            tools=[WEATHER],
            max_tokens=60,
            api_base=address.v1,
            api_key=address.token,
        )
    )
    message = answer.choices[0].message
    (call,) = message.tool_calls
    assert call.function.name == "get_weather"
    result = {"role": "tool", "tool_call_id": call.id, "name": "get_weather", "content": "sunny"}
    for assistant in (message, message.model_dump()):
        second = await asyncio.to_thread(
            litellm.completion,
            model=f"openai/{LLAMA}",
            messages=[*PARIS, assistant, result],
            max_tokens=8,
            api_base=address.v1,
            api_key=address.token,
        )
        assert second.choices[0].message.content


async def test_litellm_embeds(address: Address) -> None:
    litellm = pytest.importorskip("litellm")
    answer = await asyncio.to_thread(
        lambda: litellm.embedding(
            model=f"openai/{BGE}",
            input=["one", "two"],
            api_base=address.v1,
            api_key=address.token,
            encoding_format="float",
        )
    )
    assert [len(row["embedding"]) for row in answer.data] == [384, 384]


# langchain-cloudflare


async def test_langchain_chats(address: Address) -> None:
    package = pytest.importorskip("langchain_cloudflare")
    chat = package.ChatCloudflareWorkersAI(
        model=LLAMA,
        account_id=address.account,
        api_token=address.token,
        base_url=address.api,
        max_tokens=8,
    )
    whole = await chat.ainvoke(HELLO)
    assert whole.content
    pieces = [chunk.content async for chunk in chat.astream(HELLO)]
    assert "".join(pieces)


async def test_langchain_calls_tools(address: Address) -> None:
    package = pytest.importorskip("langchain_cloudflare")
    messages = pytest.importorskip("langchain_core.messages")
    chat = package.ChatCloudflareWorkersAI(
        model=LLAMA,
        account_id=address.account,
        api_token=address.token,
        base_url=address.api,
        max_tokens=60,
    )
    question = "What is the weather in Paris?"
    answer = await chat.bind_tools([WEATHER]).ainvoke(question)
    (call,) = answer.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"})
    result = messages.ToolMessage("sunny", tool_call_id=call["id"], name="get_weather")
    second = await chat.bind_tools([WEATHER]).ainvoke([("human", question), answer, result])
    assert second.content


async def test_langchain_embeds(address: Address) -> None:
    package = pytest.importorskip("langchain_cloudflare")
    embeddings = package.CloudflareWorkersAIEmbeddings(
        model_name=BGE,
        account_id=address.account,
        api_token=address.token,
        api_base_url=f"{address.api}/accounts",
    )
    vectors = await asyncio.to_thread(embeddings.embed_documents, ["one", "two"])
    assert [len(vector) for vector in vectors] == [384, 384]


# llm-cloudflare


async def test_llm_prompts(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only streamed: the plugin cannot read a whole answer."""
    pytest.importorskip("llm")
    monkeypatch.setenv("CLOUDFLARE_ACCOUNT_ID", address.account)
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", address.token)
    plugin = pytest.importorskip("llm_cloudflare")
    model = plugin.WorkersAI("@cf/meta/llama-3.2-3b-instruct")
    # It has no setting for the address.
    model.api_base_url = address.v1
    answer = await asyncio.to_thread(lambda: model.prompt(HELLO, max_tokens=8).text())
    assert answer


# pydantic-ai


async def test_pydantic_ai_chats(address: Address) -> None:
    agents = pytest.importorskip("pydantic_ai")
    models = pytest.importorskip("pydantic_ai.models.openai")
    providers = pytest.importorskip("pydantic_ai.providers.openai")
    provider = providers.OpenAIProvider(base_url=address.v1, api_key=address.token)
    agent = agents.Agent(
        models.OpenAIChatModel(LLAMA, provider=provider), model_settings={"max_tokens": 8}
    )
    whole = await agent.run(HELLO)
    assert whole.output
    async with agent.run_stream(HELLO) as stream:
        assert "".join([text async for text in stream.stream_text(delta=True)])


async def test_pydantic_ai_calls_tools(address: Address) -> None:
    """The tool is called, and its result becomes a text."""
    agents = pytest.importorskip("pydantic_ai")
    models = pytest.importorskip("pydantic_ai.models.openai")
    providers = pytest.importorskip("pydantic_ai.providers.openai")
    provider = providers.OpenAIProvider(base_url=address.v1, api_key=address.token)
    agent = agents.Agent(
        models.OpenAIChatModel(LLAMA, provider=provider), model_settings={"max_tokens": 60}
    )
    cities = []

    def get_weather(city: str) -> str:
        """Get the current weather for a city."""
        cities.append(city)
        return "sunny"

    agent.tool_plain(get_weather)
    answer = await agent.run("What is the weather in Paris?")
    assert cities == ["Paris"]
    assert answer.output
