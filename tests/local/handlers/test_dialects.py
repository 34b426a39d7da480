"""The documents of a generated text in each form: whole, and as events."""

import time
from typing import Any

import orjson
import pytest

from cfai.local.backends.roles import GenerationEnd, Reasoning
from cfai.local.errors import ApiError
from cfai.local.handlers.dialects import (
    ChatDialect,
    ChatToolDialect,
    CompletionDialect,
    NativeDialect,
    NativeToolDialect,
    ResponsesDialect,
)

END = GenerationEnd("stop", 7, 3)
CUT = GenerationEnd("length", 7, 3)
USAGE: dict[str, Any] = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
THOUGHT = GenerationEnd("stop", 7, 3, reasoning="Hm.", reasoning_tokens=2)
THOUGHT_USAGE = {**USAGE, "completion_tokens_details": {"reasoning_tokens": 2}}


def call(name: str, arguments: str) -> dict[str, Any]:
    return {
        "id": f"id-{name}",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


CALLED = GenerationEnd("tool_calls", 7, 3, (call("f", '{"a":1}'), call("g", "{}")))
NUMBERED = [{"index": 0, **call("f", '{"a":1}')}, {"index": 1, **call("g", "{}")}]


def choice(name: str, content: Any, reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, name: content, "logprobs": None, "finish_reason": reason}


def stream(dialect: Any, pieces: list[Any], end: GenerationEnd) -> list[Any]:
    """All events of a stream."""
    chunks = [chunk for piece in pieces for chunk in dialect.build_chunks(piece)]
    return [*dialect.build_first_chunks(), *chunks, *dialect.build_last_chunks(end)]


# Workers AI's own


@pytest.mark.parametrize(
    ("text", "end", "result"),
    [
        ("Hi", END, {"response": "Hi", "usage": USAGE}),
        ("", CUT, {"response": "", "usage": USAGE}),
        ("Hi", THOUGHT, {"response": "Hi", "reasoning_content": "Hm.", "usage": THOUGHT_USAGE}),
        (
            "",
            CALLED,
            {
                "response": None,
                "tool_calls": [
                    {"name": "f", "arguments": {"a": 1}},
                    {"name": "g", "arguments": {}},
                ],
                "usage": USAGE,
            },
        ),
    ],
)
def test_a_native_result(text: str, end: GenerationEnd, result: Any) -> None:
    assert NativeDialect().build_result(text, end) == result


def test_native_events() -> None:
    last = {"response": "", "finish_reason": "length", "usage": USAGE}
    events = stream(NativeDialect(), [Reasoning("Hm"), "a", "b"], CUT)
    assert events == [{"reasoning_content": "Hm"}, {"response": "a"}, {"response": "b"}, last]
    *_, calls, last = stream(NativeDialect(), [], CALLED)
    assert calls == {"tool_calls": NUMBERED}
    assert last == {"response": "", "finish_reason": "tool_calls", "usage": USAGE}


def test_json_mode_decodes_or_checks_the_text() -> None:
    decoded = NativeDialect(decodes_json=True)
    assert decoded.build_result('{"a":1}', END)["response"] == {"a": 1}
    assert decoded.build_result("no JSON", CALLED)["response"] == "no JSON"
    checked = ChatDialect("m", checks_json=True)
    assert checked.build_result('{"a":1}', END)["choices"][0]["message"]["content"] == '{"a":1}'
    assert ChatDialect("m").build_result("no JSON", END)["choices"]
    assert checked.build_result("no JSON", CALLED)["choices"]
    for dialect in (decoded, checked):
        with pytest.raises(ApiError, match="JSON Mode couldn't be met"):
            dialect.build_result('{"a":', CUT)


# OpenAI's


def strip(document: Any, dialect: Any) -> Any:
    """A document without the id and the time, which are checked."""
    assert document.pop("id") == dialect.id
    assert document.pop("created") == dialect.created
    return document


def test_the_head_of_openais_documents() -> None:
    now = time.time()
    for dialect, prefix in ((ChatDialect("m"), "chatcmpl-"), (CompletionDialect("m"), "cmpl-")):
        assert dialect.id.startswith(prefix)
        assert 0 <= dialect.created - int(now) <= 10
        assert type(dialect)("m").id != dialect.id


def test_a_chat_completion() -> None:
    dialect = ChatDialect("m")

    def build(text: str, end: GenerationEnd) -> Any:
        return strip(dialect.build_result(text, end), dialect)

    message: dict[str, Any] = {"role": "assistant", "content": "Hi"}
    assert build("Hi", END) == {
        "object": "chat.completion",
        "model": "m",
        "choices": [choice("message", message, "stop")],
        "usage": USAGE,
    }
    thought = build("Hi", THOUGHT)
    assert thought["choices"][0]["message"] == {**message, "reasoning_content": "Hm."}
    assert thought["usage"] == THOUGHT_USAGE
    for text in ("", "Hi"):
        (choice_,) = build(text, CALLED)["choices"]
        calls = {"content": text or None, "tool_calls": list(CALLED.tool_calls)}
        assert choice_ == choice("message", {**message, **calls}, "tool_calls")


@pytest.mark.parametrize("includes_usage", [True, False])
def test_the_chunks_of_a_chat(*, includes_usage: bool) -> None:
    dialect = ChatDialect("m", includes_usage=includes_usage)
    head = {"object": "chat.completion.chunk", "model": "m"}
    events = stream(dialect, [Reasoning("Hm"), "a"], CALLED)
    deltas = [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "Hm"},
        {"content": "a"},
        {"tool_calls": NUMBERED},
    ]
    expected: list[Any] = [{**head, "choices": [choice("delta", delta)]} for delta in deltas]
    expected.append({**head, "choices": [choice("delta", {"content": ""}, "tool_calls")]})
    if includes_usage:
        expected.append({**head, "choices": [], "usage": USAGE})
    assert [strip(event, dialect) for event in events] == expected


@pytest.mark.parametrize("includes_usage", [True, False])
def test_a_completion(*, includes_usage: bool) -> None:
    dialect = CompletionDialect("m", includes_usage=includes_usage)
    head = {"object": "text_completion", "model": "m"}
    assert strip(dialect.build_result("Hi", CUT), dialect) == {
        **head,
        "choices": [choice("text", "Hi", "length")],
        "usage": USAGE,
    }
    events = [strip(event, dialect) for event in stream(dialect, [Reasoning("Hm"), "a"], CUT)]
    last = [{**head, "choices": [], "usage": USAGE}] if includes_usage else []
    assert events == [
        {**head, "choices": [choice("text", "a")]},
        {**head, "choices": [choice("text", "", "length")]},
        *last,
    ]


@pytest.mark.parametrize(
    ("end", "status", "details"),
    [
        (END, "completed", None),
        (CUT, "incomplete", {"reason": "max_output_tokens"}),
        (THOUGHT, "completed", None),
    ],
)
def test_a_response(end: GenerationEnd, status: str, details: Any) -> None:
    response = ResponsesDialect("m").build_result("Hi", end)
    assert response.pop("id").startswith("resp_")
    assert 0 <= response.pop("created_at") - int(time.time()) + 10 <= 20
    *thoughts, message = response.pop("output")
    assert message.pop("id").startswith("msg_")
    part = {"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []}
    assert message == {
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": [part],
    }
    if end.reasoning:
        (thought,) = thoughts
        assert thought.pop("id").startswith("rs_")
        text = {"type": "reasoning_text", "text": "Hm."}
        assert thought == {"type": "reasoning", "summary": [], "content": [text]}
    else:
        assert not thoughts
    assert response == {
        "object": "response",
        "status": status,
        "error": None,
        "incomplete_details": details,
        "model": "m",
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 7,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 3,
            "output_tokens_details": {"reasoning_tokens": end.reasoning_tokens or 0},
            "total_tokens": 10,
        },
    }


# A call whose arguments are generated


CALL_PIECE = {"index": 0, "function": {"arguments": "{}"}}


def start_of_call(id_: str) -> dict[str, Any]:
    """The first piece of a streamed call of `f`, without arguments yet."""
    function = {"name": "f", "arguments": ""}
    return {"id": id_, "type": "function", "index": 0, "function": function}


def test_a_native_call() -> None:
    dialect = NativeToolDialect("f")
    assert dialect.build_result('{"a":1}', THOUGHT) == {
        "response": None,
        "tool_calls": [{"name": "f", "arguments": {"a": 1}}],
        "reasoning_content": "Hm.",
        "usage": THOUGHT_USAGE,
    }
    assert dialect.id.startswith("call_")
    for end, reason in ((END, "tool_calls"), (CUT, "length")):
        assert stream(dialect, [Reasoning("Hm"), "{}"], end) == [
            {"tool_calls": [start_of_call(dialect.id)]},
            {"reasoning_content": "Hm"},
            {"tool_calls": [CALL_PIECE]},
            {"response": "", "finish_reason": reason, "usage": USAGE},
        ]


def test_a_call_of_a_chat() -> None:
    chat = ChatDialect("m")
    dialect = ChatToolDialect(chat, "f")
    (choice_,) = dialect.build_result('{"a":1}', THOUGHT)["choices"]
    function = {"name": "f", "arguments": '{"a":1}'}
    message = {
        "role": "assistant",
        "content": None,
        "reasoning_content": "Hm.",
        "tool_calls": [{"id": dialect.id, "type": "function", "function": function}],
    }
    assert choice_ == choice("message", message, "tool_calls")
    for end, reason in ((END, "tool_calls"), (CUT, "length")):
        *chunks, usage = stream(dialect, [Reasoning("Hm"), "{}"], end)
        assert [chunk["choices"] for chunk in chunks] == [
            [
                choice(
                    "delta",
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [start_of_call(dialect.id)],
                    },
                )
            ],
            [choice("delta", {"reasoning_content": "Hm"})],
            [choice("delta", {"tool_calls": [CALL_PIECE]})],
            [choice("delta", {"content": ""}, reason)],
        ]
        assert (usage["choices"], usage["usage"]) == ([], USAGE)


@pytest.mark.parametrize(
    "dialect", [NativeToolDialect("f"), ChatToolDialect(ChatDialect("m"), "f")], ids=["own", "chat"]
)
def test_incomplete_arguments_are_an_error(dialect: Any) -> None:
    with pytest.raises(ApiError, match="max_tokens is too low for the tool call: it ended after 3"):
        dialect.build_result('{"a":1}', CUT)
    with pytest.raises(ApiError, match="JSON Mode couldn't be met"):
        dialect.build_result('{"a":', END)


def test_documents_are_json() -> None:
    for dialect in (NativeDialect(), ChatDialect("m"), CompletionDialect("m")):
        for event in stream(dialect, ["é"], CALLED):
            assert orjson.loads(orjson.dumps(event)) == event
