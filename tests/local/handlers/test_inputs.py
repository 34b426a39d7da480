"""No field of any input schema is ignored: it changes the answer, or is refused by its name."""

import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from attrs import evolve

from cfai.local.errors import ApiError
from cfai.local.handlers import HANDLERS, find_runnable_model
from cfai.local.handlers.dialects import ResponsesDialect
from cfai.local.handlers.inputs import (
    GenerationInput,
    parse_chat,
    parse_completion,
    parse_responses,
    parse_run,
)
from cfai.local.handlers.media import MEDIA_FIELDS
from cfai.local.models import find_model
from cfai.profiles import TASKS
from tests.local.conftest import LLAMA, Local
from tests.wire.test_model_inputs import MODELS, schemas_of

BERT = "@cf/huggingface/distilbert-sst-2-int8"
SUMMARIZER = next(model for model, task in TASKS.items() if task == "Summarization")
RERANKER = "@cf/baai/bge-reranker-base"
BGE = "@cf/baai/bge-small-en-v1.5"
M3 = "@cf/baai/bge-m3"
QWEN = "@cf/qwen/qwen3-embedding-0.6b"

MESSAGES = [{"role": "user", "content": "Hi"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOL = {"name": "f", "description": "d", "parameters": SCHEMA}

# A value of each field of text generation that asks for something.
VALUES: dict[str, Any] = {
    "prompt": "Hello",
    "messages": [{"role": "user", "content": "Hello"}],
    "image": [1, 2],
    "frequency_penalty": 1,
    "presence_penalty": 1,
    "repetition_penalty": 1.5,
    "max_tokens": 7,
    "max_completion_tokens": 7,
    "raw": True,
    "response_format": {"type": "json_object"},
    "guided_json": SCHEMA,
    "seed": 5,
    "stream": True,
    "temperature": 1,
    "top_k": 5,
    "top_p": 0.5,
    "stop": "x",
    "reasoning_effort": "high",
    "chat_template_kwargs": {"enable_thinking": True},
    "logprobs": True,
    "top_logprobs": 3,
    "n": 2,
    "stream_options": {"include_obfuscation": True},
    "functions": [{"name": "f", "code": "c"}],
    "tools": [TOOL],
    "tool_choice": "required",
}

# These have an effect elsewhere: the first is checked before a generation, with tests of its own;
# the second limits the calls of a turn, and one is made at most.
ELSEWHERE = {"lora", "parallel_tool_calls"}


async def fields_of(local: Local, model: str) -> set[str]:
    """The names in the input schemas that the server publishes for a model."""
    url = f"{local.server.base_url}/accounts/0/ai/models/schema"
    async with local.http.get(url, params={"model": model}) as response:
        schema = (await response.json())["result"]["input"]
    return {name for part in schema.get("oneOf", [schema]) for name in part["properties"]}


def comparable(value: GenerationInput) -> Any:
    """What is asked for; the ids of two answers always differ."""
    dialect = value.dialect
    usage = getattr(dialect, "includes_usage", None)
    checks = getattr(dialect, "checks_json", getattr(dialect, "decodes_json", None))
    return value.request, type(dialect), usage, checks, value.stream is None, value.tools


def try_parse(parse: Any, body: dict[str, Any], model: str = LLAMA) -> GenerationInput | ApiError:
    try:
        parsed: GenerationInput = parse(find_runnable_model(model), body)
    except ApiError as error:
        return error
    return parsed


@pytest.mark.parametrize("base", [{"prompt": "Hi"}, {"messages": MESSAGES}])
@pytest.mark.parametrize("parse", [parse_run, parse_chat])
async def test_every_field_of_text_generation_is_used_or_refused(
    local: Local, base: dict[str, Any], parse: Any
) -> None:
    if parse is parse_chat and "prompt" in base:
        base = {"messages": MESSAGES}
    model = find_runnable_model(LLAMA)
    names = await fields_of(local, LLAMA) | {"guided_json", "image"}
    assert names >= {"stop", "max_completion_tokens", "raw", "n", "top_k"}
    plain = comparable(parse(model, base))
    for name in sorted(names - ELSEWHERE):
        changed = try_parse(parse, {**base, name: VALUES[name]})
        if isinstance(changed, ApiError):
            assert changed.status in (400, 501)
            assert name in changed.message or "reads only text" in changed.message
        else:
            assert comparable(changed) != plain, f"{name} is ignored"


@pytest.mark.parametrize(
    ("model", "body", "changes"),
    [
        (BERT, {"text": "good"}, {"text": "bad"}),
        (
            SUMMARIZER,
            {"input_text": "A tea. Tea is a hot tea. Rain falls."},
            {"input_text": "Rain.", "max_length": 1},
        ),
        (
            RERANKER,
            {"query": "tea", "contexts": [{"text": "tea"}, {"text": "rain"}]},
            {"query": "rain", "contexts": [{"text": "sun"}], "top_k": 1},
        ),
        (
            BGE,
            {"text": "tea " * 600},
            {"text": "rain", "pooling": "cls", "truncate_inputs": False},
        ),
        (
            M3,
            {"text": "tea " * 600},
            {"text": "rain", "pooling": "cls", "truncate_inputs": False},
        ),
    ],
)
async def test_every_field_of_the_other_tasks_is_used_or_refused(
    local: Local, model: str, body: dict[str, Any], changes: dict[str, Any]
) -> None:
    assert set(changes) == await fields_of(local, model)
    plain = (await local.post(model, body)).result
    for name, value in changes.items():
        reply = await local.post(model, {**body, name: value})
        if reply.status == 200:
            assert reply.result != plain, f"{name} is ignored"
        else:
            assert reply.status == 400
            assert name in reply.error[2]


# At every depth

GPT = "@cf/openai/gpt-oss-20b"

# All fields below the top that are used, in both forms of tool calls.
CHAT_CALLS: dict[str, Any] = {
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Sunny?"}, "In Rome?"]},
        {
            "role": "assistant",
            "name": "Ann",
            "content": "Hm",
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "1", "content": "Yes"},
        {"role": "user", "content": "Thanks"},
    ],
    "tools": [{"type": "function", "function": {**TOOL, "strict": True}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "stream": True,
    "stream_options": {"include_usage": True, "include_obfuscation": False},
}
NATIVE_CALLS: dict[str, Any] = {
    "messages": [
        {"role": "user", "content": "Sunny?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"name": "f", "arguments": {"a": 1}}],
        },
        {"role": "tool", "name": "f", "content": "Yes"},
    ],
    "tools": [TOOL],
    "tool_choice": {"type": "function", "name": "f"},
}
JSON_MODE: dict[str, Any] = {
    "messages": MESSAGES,
    "response_format": {"type": "json_schema", "json_schema": SCHEMA},
    "chat_template_kwargs": {
        "enable_thinking": False,
        "force_nonempty_content": False,
        "low_effort": False,
    },
}
RESPONSE: dict[str, Any] = {
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "Sunny?"}]},
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Yes", "annotations": [], "logprobs": []}],
        },
    ],
    "text": {"format": {"type": "json_schema", "name": "n", "strict": True, "schema": SCHEMA}},
}
BODIES = [
    (parse_run, LLAMA, CHAT_CALLS),
    (parse_chat, LLAMA, CHAT_CALLS),
    (parse_run, LLAMA, NATIVE_CALLS),
    (parse_run, LLAMA, JSON_MODE),
    (parse_run, GPT, RESPONSE),
    (parse_responses, GPT, RESPONSE),
]

# Labels, which no model reads, and promises that are kept anyway.
LABELS = (".input[1].id", ".input[1].status", ".format.name", ".strict")

# The inside of a JSON schema is JSON Schema's own.
SCHEMAS = ("parameters", "json_schema", "schema")


def objects_in(value: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """All objects below *value*, with their paths."""
    if isinstance(value, dict):
        yield path, value
        for name, item in value.items():
            if name not in SCHEMAS:
                yield from objects_in(item, f"{path}.{name}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from objects_in(item, f"{path}[{index}]")


def changes_of(body: dict[str, Any], change: Any) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The body with a *change* to each field of each object below the top."""
    for number, (path, fields) in enumerate(objects_in(body)):
        for name in [*fields, None] if path else []:
            changed = deepcopy(body)
            _, target = list(objects_in(changed))[number]
            if name is None:
                target["zzz"] = 1
            else:
                target[name] = change(name, target[name])
            yield path, name or "zzz", changed


def other(name: str, value: Any) -> Any:
    """Another value of the same type; of the names of tools, one that there is not."""
    match value:
        case bool():
            return not value
        case str():
            return "[1]" if name == "arguments" else "system" if name == "role" else f"{value}2"
        case {**_fields} if name in SCHEMAS:
            return {"type": "object", "properties": {"b": {"type": "string"}}}
        case {**_fields}:
            return {}
        case []:
            return [{"a": 1}]
    return [*value[:-1]] if isinstance(value, list) else 5


@pytest.mark.parametrize(("parse", "model", "body"), BODIES)
def test_every_field_at_every_depth_is_used_or_refused(
    parse: Any, model: str, body: dict[str, Any]
) -> None:
    served = find_runnable_model(model)
    plain = comparable(parse(served, body))
    ignored = []
    for path, name, changed in changes_of(body, other):
        parsed = try_parse(parse, changed, model)
        if isinstance(parsed, ApiError):
            assert parsed.status in (400, 501)
            # By its own name, or by that of the field that it is in.
            assert name in parsed.message or path.strip(".").split(".")[0] in parsed.message
        elif comparable(parsed) == plain and not f"{path}.{name}".endswith(LABELS):
            ignored.append(f"{path}.{name}")
    assert not ignored


def test_an_unknown_field_is_refused_with_its_path() -> None:
    served = find_runnable_model(LLAMA)
    for path, name, changed in changes_of(CHAT_CALLS, other):
        if name == "zzz" and path != ".stream_options":  # Whose values must be booleans.
            place = path.removeprefix(".")
            with pytest.raises(ApiError, match=re.escape(f"{place} has an unknown field 'zzz'")):
                parse_run(served, changed)


def paths_of(schema: Any, path: str = "") -> Iterator[str]:
    """The paths of all fields in a schema, without indices."""
    if not isinstance(schema, dict) or path.rpartition(".")[2] in SCHEMAS:
        return
    for members in (schema.get("oneOf"), schema.get("anyOf")):
        for member in members or ():
            yield from paths_of(member, path)
    yield from paths_of(schema.get("items"), path)
    for name, part in schema.get("properties", {}).items():
        yield f"{path}.{name}"
        yield from paths_of(part, f"{path}.{name}")


def test_every_field_below_the_top_of_all_input_types_is_walked() -> None:
    """Of the models that have a local stand-in. Fields that are refused as a whole need no walk."""
    walked = {path for _, _, body in BODIES for path in _fields_of(body)}
    # Of other handlers, tested above and in test_queue.py.
    walked |= {".contexts.text", ".requests.external_reference"}
    refused = (".functions.", ".reasoning.", ".audio.", ".messages.content.image_url")
    missing = set()
    for model in MODELS:
        task = TASKS[model]
        if task != "Text Generation" and task not in HANDLERS:
            continue
        served = find_model(model)
        if served is None or served.task not in ("Text Generation", *HANDLERS):
            continue
        for schema in schemas_of(model).values():
            for path in paths_of(schema):
                own = re.sub(r"^\.requests(?=\.)(?!.external)", "", path)
                is_nested = own.count(".") > 1
                if is_nested and own not in walked and not own.startswith(refused):
                    missing.add(path)
    assert not missing


def _fields_of(body: dict[str, Any]) -> Iterator[str]:
    for path, fields in objects_in(body):
        for name in fields:
            yield re.sub(r"\[\d+\]", "", f"{path}.{name}")


async def test_all_tasks_are_walked() -> None:
    # The fields of the tasks with images are in test_vision.py, those of speech in
    # test_transcription.py and test_voice.py.
    elsewhere = {*MEDIA_FIELDS, "Text-to-Speech"}
    assert set(HANDLERS) - elsewhere == {
        "Reranking",
        "Summarization",
        "Text Classification",
        "Text Embeddings",
    }


@pytest.mark.parametrize(
    ("model", "body", "name"),
    [
        (LLAMA, {"prompt": "Hi", "maxTokens": 5}, "maxTokens"),
        (LLAMA, {"messages": MESSAGES, "prompt": "Hi"}, "prompt"),
        (LLAMA, {"prompt": "Hi", "guided_json": "x"}, "guided_json"),
        (
            LLAMA,
            {"prompt": "Hi", "guided_json": SCHEMA, "response_format": {"type": "json_object"}},
            "guided_json",
        ),
        (LLAMA, {"prompt": "Hi", "options": {"x": 1}}, "options"),
        (LLAMA, {"prompt": "Hi", "options": 5}, "options"),
        (LLAMA, {"prompt": "Hi", "options": {"rejectIfBusy": 1}}, "rejectIfBusy"),
        (BERT, {"text": "good", "stream": True}, "stream"),
        (SUMMARIZER, {"input_text": "a", "min_length": 5}, "min_length"),
        (RERANKER, {"query": "a", "contexts": [{"text": "a"}], "topK": 5}, "topK"),
        (BGE, {"text": "a", "queries": "b"}, "queries"),
        (BGE, {"requests": [{"text": "a"}]}, "requests"),
        (M3, {"contexts": [{"text": "a"}], "text": "b"}, "text"),
        (M3, {"text": "a", "query": "b"}, "query"),
        (QWEN, {"queries": "a", "instruction": 5}, "instruction"),
        (BGE, {"text": "a", "options": {"x": 1}}, "options"),
    ],
)
async def test_unknown_fields_and_fields_that_exclude_each_other_are_refused(
    local: Local, model: str, body: dict[str, Any], name: str
) -> None:
    status, code, message = (await local.post(model, body)).error
    assert (status, code) == (400, 5006)
    assert name in message


async def test_an_instruction_changes_the_vectors_of_queries_only(local: Local) -> None:
    texts = {"queries": ["tea"], "documents": ["rain"]}
    plain = (await local.post(QWEN, texts)).result["data"]
    instructed = (await local.post(QWEN, {**texts, "instruction": "Find drinks"})).result["data"]
    assert instructed[0] != plain[0]
    assert instructed[1] == pytest.approx(plain[1], abs=1e-6)


def test_a_text_begins_with_the_name_of_its_author() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    messages = [
        {"role": "user", "name": "Ann", "content": [{"type": "text", "text": "Hi"}, "Rain?"]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "dry"},
        {"role": "tool", "name": "get_wind", "content": "calm"},
        {"role": "user", "content": "Thanks", "name": None},
        # A trimmed history can lack the call.
        {"role": "tool", "tool_call_id": "9", "content": "5"},
    ]
    prompt: Any = parse_run(find_runnable_model(LLAMA), {"messages": messages}).request.prompt
    assert [message["content"] for message in prompt[1:]] == [
        "Ann: Hi\nRain?",
        '{"name": "get_weather", "arguments": {}}',
        "get_weather: dry",
        "get_wind: calm",
        "Thanks",
        "5",
    ]


async def test_a_conversation_without_a_system_message_gets_a_plain_one() -> None:
    model = find_runnable_model(LLAMA)
    plain = "You are a helpful assistant. Answer correctly and briefly."
    system = {"role": "system", "content": "Rhyme."}
    for body, content in (
        ({"prompt": "Hi"}, plain),
        ({"messages": MESSAGES}, plain),
        ({"messages": [system, *MESSAGES]}, "Rhyme."),
        ({"messages": [{**system, "role": "developer"}, *MESSAGES]}, "Rhyme."),
    ):
        messages = parse_run(model, body).request.prompt
        assert messages[0] == {"role": "system", "content": content}
    assert parse_run(model, {"prompt": "Hi", "raw": True}).request.prompt == "Hi"
    assert parse_run(model, {"prompt": "Hi"}).request.sampling == {"temperature": 0.2}


RUN = f"run/{LLAMA}"
CHAT = "v1/chat/completions"
COMPLETIONS = "v1/completions"
RESPONSES = "v1/responses"
PERSON = {"type": "object", "properties": {"name": {"type": "string"}}}
TOOL = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        (RUN, {"prompt": "Hi", "thinking": True}, "unknown field 'thinking'"),
        (CHAT, {"messages": MESSAGES, "thinking": "zzz"}, "unknown field 'thinking'"),
        (COMPLETIONS, {"prompt": "Hi", "thinking": True}, "unknown field 'thinking'"),
        (COMPLETIONS, {"prompt": "Hi", "raw": False}, "raw must be true or omitted"),
        (RUN, {"prompt": "Hi", "chat_template_kwargs": {"foo": 1}}, "chat_template_kwargs.foo"),
        (
            RUN,
            {"prompt": "Hi", "response_format": {"type": "json_object", "json_schema": PERSON}},
            "response_format must be json_object, or json_schema with a schema, and nothing else",
        ),
        (
            RUN,
            {"prompt": "Hi", "response_format": {"type": "json_object", "foo": 1}},
            "nothing else",
        ),
        (
            RUN,
            {
                "prompt": "Hi",
                "response_format": {"type": "json_schema", "json_schema": PERSON, "foo": 1},
            },
            "nothing else",
        ),
        (
            RUN,
            {"prompt": "Hi", "response_format": {"type": "xml", "json_schema": PERSON}},
            "response_format",
        ),
        (
            CHAT,
            {
                "messages": MESSAGES,
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "p", "schema": PERSON, "foo": 1},
                },
            },
            "response_format",
        ),
        (
            RUN,
            {"prompt": "Hi", "stream": True, "stream_options": {"include_usage": False}},
            "stream_options.include_usage must be true or omitted",
        ),
        (RUN, {"prompt": "Hi", "stream_options": {"include_usage": True}}, "stream_options must"),
        (
            CHAT,
            {"messages": [*MESSAGES, {"role": "assistant", "content": "", "refusal": "No"}]},
            "messages[1].refusal must be omitted, got 'No'",
        ),
        (
            CHAT,
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "foo": 1}]}]},
            "messages[0].content[0] has an unknown field 'foo'",
        ),
        (
            CHAT,
            {"messages": MESSAGES, "tools": [{"type": "code", "function": TOOL}]},
            "tools[0].type must be \"function\", got 'code'",
        ),
        (RESPONSES, {"input": "Hi", "max_output_tokens": 0}, "max_output_tokens must be"),
        (RESPONSES, {"input": "Hi", "max_output_tokens": "9"}, "max_output_tokens must be"),
        (RESPONSES, {"input": "Hi", "instructions": 5}, "instructions must be a string, got 5"),
        (RESPONSES, {"input": "Hi", "parallel_tool_calls": 5}, "parallel_tool_calls must be"),
        (
            RESPONSES,
            {"input": "Hi", "text": {"format": {"type": "json_object"}, "verbosity": "low"}},
            "text must be a format",
        ),
        (
            RESPONSES,
            {"input": [{"type": "function_call_output", "role": "user", "content": "x"}]},
            'input[0].type must be "message"',
        ),
        (
            RUN,
            {
                "messages": MESSAGES,
                "tools": [TOOL],
                "tool_choice": {"type": "function", "function": "f"},
            },
            "tool_choice must name one of the tools",
        ),
        (
            f"run/{RERANKER}",
            {"query": "a", "contexts": [{"text": "a", "foo": 1}]},
            "contexts[0] has an unknown field 'foo'",
        ),
        (f"run/{QWEN}", {"text": "a", "instruction": "I"}, "omitted without queries"),
        (f"run/{QWEN}", {"documents": "a", "instruction": "I"}, "omitted without queries"),
        (f"run/{QWEN}", {"queries": [""]}, "queries"),
        (f"run/{QWEN}", {"documents": ""}, "documents must have at least 1 character"),
        (f"run/{LLAMA}?queueRequest=true", {"requests": [{}], "foo": 1}, "unknown field 'foo'"),
        (f"run/{LLAMA}?queueRequest=true", {"request_id": "x", "foo": 1}, "unknown field 'foo'"),
        (f"run/{LLAMA}?queueRequest=TRUE", {"requests": [{}]}, "queueRequest must be true or"),
    ],
)
async def test_what_would_be_ignored_is_refused_by_its_name(
    local: Local, path: str, body: dict[str, Any], words: str
) -> None:
    url = f"{local.server.base_url}/accounts/0/ai/{path}"
    if path.startswith("v1/"):
        body = {"model": GPT if path == RESPONSES else LLAMA, **body}
    async with local.http.post(url, json=body) as response:
        document = await response.json()
    assert (response.status, document["errors"][0]["code"]) == (400, 5006)
    assert words in document["errors"][0]["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (RUN, {"prompt": "Hi", "chat_template_kwargs": {"clear_thinking": False}}),
        (RUN, {"prompt": "Hi", "response_format": {"type": "json_object", "json_schema": None}}),
        (RESPONSES, {"input": "Hi", "text": {"verbosity": "medium"}}),
        (RESPONSES, {"input": "Hi", "text": {"format": {"type": "text"}, "verbosity": "medium"}}),
        (
            RESPONSES,
            {
                "input": "Hi",
                "text": {"format": {"type": "json_schema", "name": "p", "schema": PERSON}},
            },
        ),
    ],
)
async def test_what_asks_for_nothing_is_accepted(
    local: Local, path: str, body: dict[str, Any]
) -> None:
    url = f"{local.server.base_url}/accounts/0/ai/{path}"
    limit = "max_output_tokens" if path == RESPONSES else "max_tokens"
    body = {**body, limit: 60}
    if path == RESPONSES:
        body["model"] = GPT
    async with local.http.post(url, json=body) as response:
        document = await response.json()
    # The model may not end its JSON soon enough.
    assert response.status == 200 or document["errors"][0]["code"] == 90002


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"input": "Hi"}, {}),
        ({"input": [{"role": "user", "content": "Hi"}]}, {}),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]}, {}),
        ({"input": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]}, {}),
        ({"input": "Hi", "max_output_tokens": 1}, {"max_tokens": 1}),
        (
            {"input": "Hi", "temperature": 1, "top_p": 0.5},
            {"sampling": {"temperature": 1, "top_p": 0.5}},
        ),
        ({"input": "Hi", "text": {}}, {}),
        ({"input": "Hi", "text": {"format": {"type": "text"}}}, {}),
        ({"input": "Hi", "text": {"format": None}}, {}),
        (
            {"input": "Hi", "text": {"format": {"type": "json_object"}}},
            {"schema": {"type": "object"}},
        ),
        (
            {"input": "Hi", "text": {"format": {"type": "json_schema", "schema": SCHEMA}}},
            {"schema": SCHEMA},
        ),
        ({"input": "Hi", "parallel_tool_calls": True, "tools": [], "stream": False}, {}),
    ],
)
def test_what_a_request_for_a_response_asks_for(
    body: dict[str, Any], expected: dict[str, Any]
) -> None:
    model = find_runnable_model(GPT)
    parsed = parse_responses(model, body)
    plain = parse_run(find_runnable_model(LLAMA), {"prompt": "Hi"}).request
    assert parsed.request == evolve(plain, **expected)
    assert (type(parsed.dialect), parsed.stream, parsed.tools) == (ResponsesDialect, None, None)
    instructed: Any = parse_responses(model, {**body, "instructions": "Rhyme."}).request.prompt
    assert instructed[0] == {"role": "system", "content": "Rhyme."}
    assert instructed[1:] == list(parsed.request.prompt)[1:]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"response_format": None}, None),
        ({"response_format": {"type": "json_object"}}, {"type": "object"}),
        ({"response_format": {"type": "json_schema", "json_schema": SCHEMA}}, SCHEMA),
        ({"response_format": {"json_schema": SCHEMA}}, SCHEMA),
        (
            {"response_format": {"json_schema": {"type": "object", "schema": {}}}},
            {"type": "object", "schema": {}},
        ),
        ({"guided_json": SCHEMA}, SCHEMA),
        ({"guided_json": {}}, {}),
    ],
)
def test_the_schema_of_an_answer(body: dict[str, Any], expected: Any) -> None:
    for parse in (parse_run, parse_chat):
        parsed = parse(find_runnable_model(LLAMA), {"messages": MESSAGES, **body})
        assert parsed.request.schema == expected
        checks = comparable(parsed)[3]
        assert checks is (expected is not None)
    wrapped = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
    chat = {"messages": MESSAGES, "response_format": wrapped}
    assert parse_chat(find_runnable_model(LLAMA), chat).request.schema == SCHEMA
    text = {"messages": MESSAGES, "response_format": {"type": "text"}}
    assert parse_chat(find_runnable_model(LLAMA), text).request.schema is None


@pytest.mark.parametrize("stream", [True, False, None])
@pytest.mark.parametrize("options", [None, {}, {"include_usage": True}, {"include_usage": False}])
def test_which_streams_end_with_the_usage(stream: bool | None, options: Any) -> None:
    """Those of a run always, and those of OpenAI's protocols if they are asked to."""
    model = find_runnable_model(LLAMA)
    fields = {"stream": stream, "stream_options": options}
    for parse, body in ((parse_chat, {"messages": MESSAGES}), (parse_completion, {"prompt": "a"})):
        parsed = try_parse(parse, {**body, **fields})
        if options and not stream:
            assert isinstance(parsed, ApiError)
            assert "stream_options must be omitted without a stream" in parsed.message
            continue
        assert isinstance(parsed, GenerationInput)
        assert (parsed.stream is None) is not bool(stream)
        includes = (options or {}).get("include_usage") is True
        assert getattr(parsed.dialect, "includes_usage", None) is includes
    newer = find_runnable_model("@cf/zai-org/glm-4.7-flash")
    run = parse_run(newer, {"messages": MESSAGES, "stream": True})
    assert getattr(run.stream, "includes_usage", None) is True
    assert parse_completion(model, {"prompt": ["a"]}).request.prompt == "a"
    for prompt, words in ((["a", "b"], "one text"), ([5], "one text"), ([], "one text")):
        error = try_parse(parse_completion, {"prompt": prompt})
        assert isinstance(error, ApiError)
        assert f"prompt must be {words}" in error.message


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({}, 256),
        ({"max_tokens": 1}, 1),
        ({"max_tokens": None, "max_completion_tokens": 5}, 5),
        ({"max_tokens": 7, "max_completion_tokens": 9}, 7),
        ({"max_tokens": 9, "max_completion_tokens": 7}, 7),
        ({"max_tokens": 2**31 - 1}, 2**31 - 1),
        ({"max_tokens": 2**31}, 2**31 - 1),
    ],
)
def test_the_most_tokens_of_an_answer(fields: dict[str, Any], limit: int) -> None:
    model = find_runnable_model(LLAMA)
    assert parse_run(model, {"prompt": "Hi", **fields}).request.max_tokens == limit


@pytest.mark.parametrize("limit", [1e30, 10**18, 2**31])
async def test_a_limit_without_end_is_no_error(local: Local, limit: float) -> None:
    body = {"prompt": "Say hi.", "max_tokens": limit, "stop": ["i"], "seed": 1}
    assert (await local.post(LLAMA, body)).status == 200
