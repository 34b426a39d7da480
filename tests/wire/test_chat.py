"""Requests of `/ai/v1/chat/completions`, byte for byte, and what this path refuses."""

from collections.abc import Mapping
from typing import Any

import pytest

from cfai._types.json import loads
from cfai._wire.requests import Request, build_run_request
from cfai.errors import InputError
from cfai.settings import Credentials, Gateway, Options, Settings
from cfai.tasks import (
    AutomaticSpeechRecognition,
    CodeFunction,
    Function,
    ImagePart,
    Prompt,
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
from cfai.tasks.answers import ToolCall

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


@pytest.mark.parametrize("model", GATEWAY_ROUTES)
def test_a_schema_has_a_name_for_models_of_others(model: str) -> None:
    """OpenAI's form; Workers AI's own models take the bare schema (docs, "JSON Mode")."""
    task = HI.replace(response_format=SCHEMA)
    assert fields(task, model)["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": SCHEMA},
    }
    assert fields(task, LLAMA, options=CHAT)["response_format"] == {
        "type": "json_schema",
        "json_schema": SCHEMA,
    }
    json_object = HI.replace(response_format="json_object")
    assert fields(json_object, model)["response_format"] == {"type": "json_object"}


def test_images_are_parts_of_the_messages() -> None:
    task = TextGeneration([user("What?", ImagePart("https://example.com/a.png"))])
    assert fields(task)["messages"][0]["content"] == [
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    ]


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
    message = f"Options.route must be chat for {model}, got run: leave it out"
    with pytest.raises(InputError, match=message):
        build(model=model, options=Options(route="run"))


@pytest.mark.parametrize("route", ["", "Chat", "v1", "/ai/run", 1, True, ["chat"]])
def test_an_unknown_route_is_refused(route: Any) -> None:
    with pytest.raises(InputError, match=r"Options\.route must be run or chat"):
        Options(route=route)


def test_tags_are_refused_on_a_path_that_has_none() -> None:
    with pytest.raises(InputError, match=r"Options\.tags .* route chat.*Gateway\(metadata"):
        build(options=Options(tags=["a"]))


@pytest.mark.parametrize("model", ["dynamic/", "dynamic/a b", "dynamic/a/../b", "dynamic/a\n"])
def test_the_name_of_a_route_is_checked_like_one_of_a_model(model: str) -> None:
    with pytest.raises(InputError, match="model"):
        build(model=model)
