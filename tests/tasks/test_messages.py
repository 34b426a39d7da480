"""Messages of a conversation: their JSON, and the forms that are accepted or refused."""

import math
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from cfai.errors import InputError
from cfai.media import Base64
from cfai.tasks import (
    ImagePart,
    Message,
    TextGeneration,
    TextPart,
    ToolCall,
    assistant,
    system,
    tool_result,
    user,
)

PNG = b"\x89PNG\r\n\x1a\n"
PNG_URI = "data:image/png;base64,iVBORw0KGgo="
WEATHER = {"type": "object", "properties": {"city": {"type": "string", "description": "Where"}}}


@pytest.mark.parametrize(
    ("message", "body"),
    [
        (system("be brief"), {"role": "system", "content": "be brief"}),
        (user("hi"), {"role": "user", "content": "hi"}),
        (user(""), {"role": "user", "content": ""}),
        (assistant("hello"), {"role": "assistant", "content": "hello"}),
        (
            user("look", PNG),
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "look"},
                    {"type": "image_url", "image_url": {"url": PNG_URI}},
                ],
            },
        ),
        (
            user(TextPart("a"), ImagePart("https://example.com/a.png"), Base64("iVBORw0KGgo=")),
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "a"},
                    {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                    {"type": "image_url", "image_url": {"url": PNG_URI}},
                ],
            },
        ),
        (
            assistant(tool_calls=[ToolCall("add", {"a": 1, "b": "ü"}, "call-1")]),
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {
                        "id": "call-1",
                        "type": "function",
                        "function": {"name": "add", "arguments": '{"a": 1, "b": "ü"}'},
                    }
                ],
            },
        ),
        (
            assistant(tool_calls=[ToolCall("now"), ToolCall("add", '{"a":1}')]),
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {"type": "function", "function": {"name": "now", "arguments": "{}"}},
                    {"type": "function", "function": {"name": "add", "arguments": '{"a":1}'}},
                ],
            },
        ),
        (
            tool_result("3", "call-1", name="add"),
            {"role": "tool", "content": "3", "tool_call_id": "call-1", "name": "add"},
        ),
        (tool_result({"sum": 3}), {"role": "tool", "content": '{"sum": 3}'}),
    ],
)
def test_a_message_is_sent_as_documented(message: Message, body: dict[str, Any]) -> None:
    assert message.payload() == body
    assert hash(message) if "tool_calls" not in body else True


@pytest.mark.parametrize(
    "body",
    [
        {"role": "user", "content": "hi"},
        {"role": "user", "content": "hi", "name": "Ada"},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PNG_URI}}]},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": PNG_URI, "detail": "low"}},
                {"type": "text", "text": "hi", "cache": True},
                {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
            ],
        },
        {"role": "tool", "content": "3", "tool_call_id": "call-1"},
        {"role": "assistant", "content": "", "reasoning_content": "hm"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
    ],
)
def test_mappings_of_the_documented_form_are_messages(body: dict[str, Any]) -> None:
    """They are checked and sent unchanged."""
    assert TextGeneration([body]).payload() == {"messages": [body]}


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ({"type": "text", "text": "hi"}, TextPart("hi")),
        ({"text": "hi"}, TextPart("hi")),
        ("hi", TextPart("hi")),
        ({"type": "image_url", "image_url": {"url": PNG_URI}}, ImagePart(PNG_URI)),
        ({"type": "text", "text": "hi", "cache": True}, None),
        ({"type": "image_url", "image_url": {"url": PNG_URI, "detail": "low"}}, None),
        ({"type": "image_url", "image_url": {"url": PNG_URI}, "cache": True}, None),
        ({"type": "file", "file_id": "1"}, None),
    ],
)
def test_parts_of_the_documented_form_are_values(part: Any, value: Any) -> None:
    """A mapping with more keys stays one, so that all of it is sent."""
    assert Message.of({"role": "user", "content": [part]}).content == (value or part,)


def test_any_mapping_is_a_message() -> None:
    body = {"role": "user", "content": "hi", "name": "Ada"}
    assert TextGeneration([MappingProxyType(body)]).payload() == {"messages": [body]}
    assert Message.of(MappingProxyType(body)) == Message("user", "hi", name="Ada")


def test_an_image_may_be_its_bytes_as_numbers() -> None:
    """As JSON has them; other lists are parts that are not separate."""
    numbers: Any = list(PNG)
    assert user("look", numbers).payload()["content"][1]["image_url"] == {"url": PNG_URI}


@pytest.mark.parametrize("calls", [None, (), []])
def test_a_message_may_have_no_tool_calls(calls: Any) -> None:
    """Services of OpenAI's protocol write null."""
    message = Message.of({"role": "assistant", "content": "Hi", "tool_calls": calls})
    assert message.tool_calls == Message("assistant", "Hi", tool_calls=calls).tool_calls == ()


def test_flat_tool_calls_are_sent_nested() -> None:
    given = {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {}}]}

    assert Message.of(given).tool_calls == (ToolCall("f", {}),)
    assert Message.of(given).payload()["tool_calls"] == [
        {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    ]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("hi", r"messages\[0\]: a message must be a Message or a mapping, got 'hi'"),
        ({"content": "hi"}, "must have a role"),
        ({"role": "user"}, "must have a content"),
        ({"role": "user", "content": None}, "content must not be null"),
        ({"role": None, "content": "hi"}, "role must be a string, got None"),
        ({"role": "user", "content": 5}, "content must be a string or a list of parts, got 5"),
        ({"role": "user", "content": {"type": "text"}}, "content must be a string or a list"),
        ({"role": "user", "content": [5]}, "content must be parts of text or images, got 5"),
        ({"role": "user", "content": [{"type": "text"}]}, "content must be parts"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "content must be parts"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.png"}}]},
            "content must be parts",
        ),
        ({"role": "assistant", "content": "", "tool_calls": [5]}, "tool_calls must be tool calls"),
    ],
)
def test_invalid_messages_are_refused(message: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        TextGeneration([message])


def test_an_image_in_a_message_is_read_when_it_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "late.png"
    message = user("look", path)
    path.write_bytes(PNG)

    assert message.payload()["content"][1] == {"type": "image_url", "image_url": {"url": PNG_URI}}


def test_invalid_images_are_refused() -> None:
    with pytest.raises(InputError, match="image must not be empty"):
        ImagePart(b"")
    with pytest.raises(InputError, match="image must be bytes"):
        user("look", 5j)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(InputError, match="at least one text or image"):
        user()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, r"user\(\) must be called with texts and images, got None"),
        (1, r"user\(\) must be called with texts and images, got 1"),
        (
            ["what", b"x"],
            r"user\(\) must be called with its parts as separate arguments, as in user\(\*parts\)",
        ),
        ([], r"user\(\) must be called with its parts as separate arguments"),
    ],
)
def test_invalid_arguments_of_user_are_refused(value: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        user(value)
    with pytest.raises(InputError, match=words):
        user("look", value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tool_calls": 3}, "tool_calls must be a list of tool calls, got 3"),
        ({"tool_calls": "x"}, "tool_calls must be a list of tool calls, got 'x'"),
        ({"tool_calls": {"name": "f"}}, "tool_calls must be a list of tool calls, got {'name'"),
        ({"name": 3}, "name must be a string, got 3"),
        ({"tool_call_id": [1]}, r"tool_call_id must be a string, got \[1\]"),
    ],
)
def test_invalid_fields_of_a_message_are_refused(fields: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Message("assistant", "x", **fields)
    with pytest.raises(InputError, match=words):
        Message.of({"role": "assistant", "content": "x", **fields})


@pytest.mark.parametrize("name", ["role", "content", "name", "tool_call_id", "tool_calls"])
def test_extra_of_a_message_must_not_repeat_a_set_field(name: str) -> None:
    anything: Any = [1]
    with pytest.raises(InputError, match=f"extra must not repeat {name}, which is set already"):
        Message(
            "tool", "x", name="n", tool_call_id="1", tool_calls=[ToolCall("f")], extra={name: "y"}
        )
    with pytest.raises(InputError, match="extra must be a mapping of names to values"):
        Message("tool", "x", extra=anything)
    assert Message("tool", "x", extra={"name": "n"}).payload()["name"] == "n"


@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": ""}])
def test_messages_with_tool_calls_need_no_content(content: dict[str, Any]) -> None:
    """Chat completions return them without content, or with null."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    body = {"role": "assistant", **content, "tool_calls": [call]}

    assert TextGeneration([body]).payload()["messages"] == [
        {"role": "assistant", "content": "", "tool_calls": [call]}
    ]


@pytest.mark.parametrize("value", [math.nan, [math.inf], {"a": object()}, b"x"])
def test_tool_results_must_be_json(value: Any) -> None:
    with pytest.raises(InputError, match="content must be a string or made of JSON values, got "):
        tool_result(value)
    with pytest.raises(InputError, match="arguments must be a string or made of JSON values, got "):
        assistant(tool_calls=[ToolCall("f", value)]).payload()
