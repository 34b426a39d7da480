"""Requests of `/ai/v1/chat/completions` and `/ai/run`, byte for byte, and what they refuse."""

from collections.abc import Mapping
from typing import Any

import pytest

from cfai._types.json import loads
from cfai._wire.requests import Request, build_run_request
from cfai.errors import InputError
from cfai.settings import Credentials, Gateway, Options, Route, Settings
from cfai.tasks import (
    AutomaticSpeechRecognition,
    CodeFunction,
    Function,
    ImagePart,
    Prompt,
    ResponseFormat,
    Task,
    TextEmbeddings,
    TextGeneration,
    TextToImage,
    Tool,
    assistant,
    system,
    tool_result,
    user,
)
from cfai.tasks.generation import ToolCall

ACCOUNT = "0123456789abcdef0123456789abcdef"
LLAMA = "@cf/meta/llama-3.3-70b-instruct-fp8-fast"
GATEWAY_ROUTES = ["dynamic/support", "dynamic/support-v2.1", "cloudflare/auto"]
CHAT = Options(route="chat")
HI = TextGeneration([user("Hi")])
PATH = f"/accounts/{ACCOUNT}/ai/v1/chat/completions"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


def build(
    task: Task[Any] | Mapping[str, Any] = HI,
    model: str = "dynamic/support",
    *,
    stream: bool = False,
    options: Options | None = None,
) -> Request:
    settings = Settings(
        account_id=ACCOUNT,
        credentials=Credentials(api_token="t0ken"),
        base_url="https://api.cloudflare.com/client/v4",
    )
    return build_run_request(settings, model, task, stream=stream, options=options)


def fields(*args: Any, **kwargs: Any) -> Any:
    body = build(*args, **kwargs).body
    assert isinstance(body, bytes)
    return loads(body)


# Requests


def test_the_request_of_the_docs_byte_for_byte() -> None:
    """Cloudflare docs, ai-gateway/usage/rest-api.mdx@0309c8b, with a route instead of a model."""
    task = TextGeneration(
        [system("You are a helpful assistant."), user("What is Cloudflare?")],
        max_tokens=512,
        temperature=0.7,
    )
    request = build(task, stream=True)
    assert (request.method, request.path) == ("POST", PATH)
    assert request.body == (
        b'{"model":"dynamic/support","messages":[{"role":"system","content":'
        b'"You are a helpful assistant."},{"role":"user","content":"What is Cloudflare?"}],'
        b'"max_tokens":512,"temperature":0.7,"stream":true}'
    )
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Accept"] == "text/event-stream"
    assert request.headers["Accept-Encoding"] == "identity"
    assert request.headers["Authorization"] == "Bearer t0ken"


@pytest.mark.parametrize("model", GATEWAY_ROUTES)
def test_routes_of_the_gateway_are_sent_as_chats(model: str) -> None:
    """github.com/cloudflare/langchain-cloudflare: `/ai/run` answers 400 (code 7000) to them."""
    request = build(model=model)
    assert request.path == PATH
    assert request.body == (
        f'{{"model":"{model}","messages":[{{"role":"user","content":"Hi"}}]}}'.encode()
    )
    assert "Accept" not in request.headers


def test_a_model_is_sent_as_a_chat_if_the_call_says_so() -> None:
    assert build(model=LLAMA).path.endswith(f"/ai/run/{LLAMA}")
    assert build(model=LLAMA, options=Options(route="run")).path.endswith(f"/ai/run/{LLAMA}")
    request = build(model=LLAMA, options=CHAT)
    assert request.path == PATH
    assert request.body == (
        b'{"model":"@cf/meta/llama-3.3-70b-instruct-fp8-fast",'
        b'"messages":[{"role":"user","content":"Hi"}]}'
    )


def test_a_prompt_is_sent_as_one_message() -> None:
    assert build(Prompt("Hi", max_tokens=5)).body == (
        b'{"model":"dynamic/support","messages":[{"role":"user","content":"Hi"}],"max_tokens":5}'
    )
    assert "raw" not in fields(Prompt("Hi", raw=False))


def test_a_mapping_is_sent_as_it_is_with_the_model() -> None:
    task = {"messages": [{"role": "user", "content": "Hi"}], "n": 1, "stream": True}
    assert fields(task) == {**task, "model": "dynamic/support", "stream": False}
    assert fields(task, stream=True)["stream"] is True
    assert "model" not in task


def test_options_are_beside_the_messages() -> None:
    """Cloudflare docs, features/reject-if-busy.mdx@c19784c: a top-level key on both paths."""
    options = Options(reject_if_busy=True, session_affinity="s", gateway=Gateway("g"))
    request = build(options=options)
    assert request.body == (
        b'{"model":"dynamic/support","messages":[{"role":"user","content":"Hi"}],'
        b'"options":{"rejectIfBusy":true}}'
    )
    assert request.headers["x-session-affinity"] == "s"


@pytest.mark.parametrize(
    "tool",
    [
        Tool("add", "Add.", SCHEMA),
        Function("add", "Add.", SCHEMA),
        {"name": "add", "description": "Add.", "parameters": SCHEMA},
        {
            "type": "function",
            "function": {"name": "add", "description": "Add.", "parameters": SCHEMA},
        },
    ],
)
def test_every_form_of_a_tool_is_sent_in_openais_form(tool: Any) -> None:
    definition = {"name": "add", "description": "Add.", "parameters": SCHEMA}
    sent = fields(HI.replace(tools=[tool]))
    assert sent["tools"] == [{"type": "function", "function": definition}]


def test_calls_and_their_results_are_sent_byte_for_byte() -> None:
    turn = [
        user("1+2?"),
        assistant(tool_calls=[ToolCall("add", {"a": 1}, "call_1")]),
        tool_result("3", "call_1"),
    ]
    assert build(TextGeneration(turn)).body == (
        b'{"model":"dynamic/support","messages":[{"role":"user","content":"1+2?"},'
        b'{"role":"assistant","content":"","tool_calls":[{"id":"call_1","type":"function",'
        b'"function":{"name":"add","arguments":"{\\"a\\": 1}"}}]},'
        b'{"role":"tool","content":"3","tool_call_id":"call_1"}]}'
    )


@pytest.mark.parametrize("model", [*GATEWAY_ROUTES, "openai/gpt-4.1"])
def test_a_schema_has_a_name_for_models_of_others(model: str) -> None:
    """OpenAI's form; Workers AI's own models take the bare schema (docs, "JSON Mode")."""
    task = HI.replace(response_format=SCHEMA)
    assert fields(task, model, options=CHAT)["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": SCHEMA},
    }
    assert fields(task, LLAMA, options=CHAT)["response_format"] == {
        "type": "json_schema",
        "json_schema": SCHEMA,
    }
    json_object = HI.replace(response_format="json_object")
    sent = fields(json_object, model, options=CHAT)
    assert sent["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize("model", [*GATEWAY_ROUTES, "openai/gpt-4.1"])
@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"name": "point", "schema": SCHEMA, "strict": True}, None),
        ({"name": "point", "description": "A point.", "schema": SCHEMA}, None),
        ({"schema": SCHEMA}, {"name": "answer", "schema": SCHEMA}),
        ({"name": None, "schema": SCHEMA}, {"name": "answer", "schema": SCHEMA}),
    ],
)
@pytest.mark.parametrize("build_format", [dict, ResponseFormat.of])
def test_a_wrapped_schema_stays_as_it_is_for_models_of_others(
    model: str, given: dict[str, Any], sent: dict[str, Any] | None, build_format: Any
) -> None:
    """With its name and `strict`. Workers AI's own models take what is inside."""
    value = build_format({"type": "json_schema", "json_schema": given})
    task = HI.replace(response_format=value)
    described = fields(task, model, options=CHAT)["response_format"]
    assert described == {"type": "json_schema", "json_schema": sent or given}
    own = fields(task, LLAMA, options=CHAT)["response_format"]["json_schema"]
    assert own.items() >= SCHEMA.items()
    assert not own.keys() & {"schema", "strict", "name"}


def test_images_are_parts_of_the_messages() -> None:
    task = TextGeneration([user("What?", ImagePart("https://example.com/a.png"))])
    assert fields(task)["messages"][0]["content"] == [
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    ]


@pytest.mark.parametrize("route", ["run", "chat"])
@pytest.mark.parametrize(
    "message",
    [
        user("What?", ImagePart("https://example.com/a.png")),
        user(b"\x89PNG\r\n\x1a\n0"),
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": "https://a.b/c", "detail": "low"}}
            ],
        },
    ],
)
def test_a_model_that_reads_only_text_gets_no_images(route: Route, message: Any) -> None:
    """The input types of these models have texts only. A mapping is not checked."""
    text_model = "@cf/meta/llama-3.3-70b-instruct-fp8-fast"
    task = TextGeneration([user("Hi"), message])
    with pytest.raises(InputError, match=f"contain an image: {text_model} reads only text"):
        fields(task, text_model, options=Options(route=route))
    assert fields(task, "@cf/nobody/nothing", options=Options(route=route))["messages"]
    mapping = task.payload()
    assert fields(mapping, text_model, options=Options(route=route))["messages"]


# Refusals


@pytest.mark.parametrize(
    "task",
    [
        TextEmbeddings(["a"]),
        TextToImage("a"),
        AutomaticSpeechRecognition(b"ID3\x04\x00abc"),
        Prompt("a", raw=True),
        HI.replace(raw=True),
        HI.replace(functions=[CodeFunction("f", "return 1")]),
        {"prompt": "a"},
        {"audio": b"abc"},
        {},
    ],
    ids=lambda task: repr(task)[:40],
)
@pytest.mark.parametrize(
    ("model", "options", "way_out"),
    [
        (LLAMA, CHAT, r"Options\(route=\"run\"\)"),
        ("dynamic/support", None, "name a model instead"),
        ("cloudflare/auto", CHAT, "name a model instead"),
    ],
)
def test_what_is_no_chat_is_refused_with_the_way_out(
    task: Any, model: str, options: Options | None, way_out: str
) -> None:
    with pytest.raises(InputError, match=rf"route chat.*{way_out}"):
        build(task, model, options=options)


@pytest.mark.parametrize("model", GATEWAY_ROUTES)
def test_routes_of_the_gateway_are_refused_elsewhere(model: str) -> None:
    for route in ("run", "universal"):
        message = f"Options.route must be chat for {model}, got {route}: leave it out"
        with pytest.raises(InputError, match=message):
            build(model=model, options=Options(route=route))


@pytest.mark.parametrize("route", ["", "Chat", "v1", "/ai/run", 1, True, ["chat"]])
def test_an_unknown_route_is_refused(route: Any) -> None:
    with pytest.raises(InputError, match=r"Options\.route must be one of run, chat, universal"):
        Options(route=route)


def test_tags_are_refused_on_a_path_that_has_none() -> None:
    with pytest.raises(InputError, match=r"Options\.tags .* route chat.*Gateway\(metadata"):
        build(options=Options(tags=["a"]))


@pytest.mark.parametrize("model", ["dynamic/", "dynamic/a b", "dynamic/a/../b", "dynamic/a\n"])
def test_the_name_of_a_route_is_checked_like_one_of_a_model(model: str) -> None:
    with pytest.raises(InputError, match="model"):
        build(model=model)


# Models of other providers

RUN = f"/accounts/{ACCOUNT}/ai/run"
GPT = "openai/gpt-4.1"


def test_the_universal_request_of_the_docs_byte_for_byte() -> None:
    """Cloudflare docs, ai-gateway/usage/rest-api.mdx@0309c8b."""
    request = build(TextGeneration([user("What is Cloudflare?")], max_tokens=512), GPT)
    assert (request.method, request.path) == ("POST", RUN)
    assert request.body == (
        b'{"model":"openai/gpt-4.1","input":{"messages":[{"role":"user",'
        b'"content":"What is Cloudflare?"}],"max_tokens":512}}'
    )
    assert request.headers["Content-Type"] == "application/json"
    assert "Accept" not in request.headers


def test_an_image_of_another_provider_byte_for_byte() -> None:
    """Cloudflare docs, ai-gateway/usage/run-api.mdx@0a26bf7."""
    request = build(TextToImage("a cat riding a burrito"), "google/nano-banana")
    assert request.body == (
        b'{"model":"google/nano-banana","input":{"prompt":"a cat riding a burrito"}}'
    )
    task = {"prompt": "a cat riding a burrito", "aspect_ratio": "16:9"}
    assert fields(task, "google/nano-banana") == {"model": "google/nano-banana", "input": task}


@pytest.mark.parametrize(
    "model", ["openai/gpt-4.1", "anthropic/claude-sonnet-4-5", "xai/grok-3", "a/b/c"]
)
def test_names_of_authors_are_those_of_other_providers(model: str) -> None:
    assert build(model=model).path == RUN
    assert build(model=model, options=Options(route="run")).path == f"{RUN}/{model}"
    assert build(model=model, options=CHAT).path == PATH


def test_a_chat_of_another_provider_is_streamed_as_a_chat() -> None:
    """rest-api.mdx@0309c8b streams `openai/gpt-4.1` there; `/ai/run` has "no streaming"."""
    for task in (HI, Prompt("Hi"), {"messages": [{"role": "user", "content": "Hi"}]}):
        request = build(task, GPT, stream=True)
        assert request.path == PATH
        assert request.body == (
            b'{"model":"openai/gpt-4.1","messages":[{"role":"user","content":"Hi"}],"stream":true}'
        )


def test_tools_and_prompts_of_another_provider_are_in_openais_form() -> None:
    sent = fields(HI.replace(tools=[Tool("add", "Add.", SCHEMA)]), GPT)
    assert sent["input"]["tools"][0]["type"] == "function"
    assert fields(Prompt("Hi"), GPT)["input"] == {"messages": [{"role": "user", "content": "Hi"}]}


def test_a_model_of_workers_ai_needs_a_gateway_there() -> None:
    """rest-api.mdx@0309c8b: "Workers AI requests always require this header"."""
    with pytest.raises(InputError, match=r"needs a gateway .*Options\(gateway=\"default\"\)"):
        build(model=LLAMA, options=Options(route="universal"))
    headers = {"CF-AIG-Gateway-Id": "default"}
    request = build_with_gateway()
    assert request.path == RUN
    assert request.headers["cf-aig-gateway-id"] == "default"
    assert request.body == (
        b'{"model":"@cf/meta/llama-3.3-70b-instruct-fp8-fast",'
        b'"input":{"messages":[{"role":"user","content":"Hi"}]}}'
    )
    assert build_with_gateway(headers=headers).path == RUN


def build_with_gateway(**changes: Any) -> Request:
    changes = changes or {"gateway": Gateway("default")}
    settings = Settings(
        account_id=ACCOUNT,
        credentials=Credentials(api_token="t0ken"),
        base_url="https://api.cloudflare.com/client/v4",
        **changes,
    )
    options = Options(route="universal")
    return build_run_request(settings, LLAMA, HI, stream=False, options=options)


@pytest.mark.parametrize(
    ("task", "stream", "options", "message"),
    [
        (TextEmbeddings(["a"]), False, None, "TextEmbeddings, because each .*; pass a mapping"),
        (AutomaticSpeechRecognition(b"ID3a"), False, None, "does not take Auto.*pass a mapping"),
        (HI.replace(raw=True), False, None, "raw .* route universal; pass a mapping"),
        ({"prompt": "a"}, True, None, "does not stream: call run"),
        (HI, True, Options(route="universal"), "does not stream: call run"),
        (HI, False, Options(tags=["a"]), "tags must not be set on the route universal"),
        (HI, False, Options(reject_if_busy=True), "reject_if_busy must not .* universal"),
        ({"audio": b"abc"}, False, None, "JSON values"),
    ],
)
def test_what_other_providers_do_not_take_is_refused(
    task: Any, stream: bool, options: Options | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        build(task, GPT, stream=stream, options=options)


def test_the_fields_of_a_chat_are_those_of_a_run() -> None:
    """Thinking is switched for the model; options of a stream are sent only with a stream."""
    task = TextGeneration(
        [user("Hi")],
        thinking=False,
        reasoning_effort=None,
        stop=["a"],
        tool_choice="auto",
        stream_options={"include_usage": True},
    )
    model = "@cf/google/gemma-4-26b-a4b-it"
    whole = {
        "model": model,
        "messages": [{"role": "user", "content": "Hi"}],
        "chat_template_kwargs": {"enable_thinking": False},
        "reasoning_effort": None,
        "stop": ["a"],
        "tool_choice": "auto",
    }
    assert fields(task, model, options=CHAT) == whole
    streamed = {**whole, "stream": True, "stream_options": {"include_usage": True}}
    assert fields(task, model, options=CHAT, stream=True) == streamed
    with pytest.raises(InputError, match="thinking must not be set for dynamic/support"):
        fields(task)
