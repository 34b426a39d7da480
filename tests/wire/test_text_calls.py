"""Tool calls that models write as their text: by their bytes, and texts that are no calls."""

from typing import Any

import pytest

from cfai._types.json import loads
from cfai._wire.text import read_text, recover_tool_calls
from cfai._wire.tokens import TextBuilder
from cfai.tasks import Text, Token, ToolCall

TOOLS = frozenset({"ip-info", "get_weather"})
WEATHER = ToolCall("get_weather", {"city": "Paris"})

# The text of an answer, and the calls in it.
WRITTEN: dict[str, tuple[str, tuple[ToolCall, ...]]] = {
    # @cf/meta/llama-3.3-70b-instruct-fp8-fast.
    "llama-3.3": (
        '{"type":"function","name":"get_weather","parameters":{"city":"Paris"}}',
        (WEATHER,),
    ),
    # Hermes 2 Pro, whose chat template has these tags.
    "hermes": (
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>',
        (WEATHER,),
    ),
    "hermes, two": (
        (
            '<tool_call>{"name":"ip-info","arguments":{}}</tool_call>\n'
            '<tool_call>{"name":"get_weather","arguments":{"city":"Paris"}}</tool_call>'
        ),
        (ToolCall("ip-info", {}), WEATHER),
    ),
    "chat completions": (
        (
            '{"id":"c1","type":"function","function":'
            '{"name":"get_weather","arguments":"{\\"city\\":\\"Paris\\"}"}}'
        ),
        (ToolCall("get_weather", {"city": "Paris"}, "c1"),),
    ),
    "a list": ('[{"name":"get_weather","parameters":{"city":"Paris"}}]', (WEATHER,)),
    "fenced": ('```json\n{"name":"ip-info","arguments":{}}\n```', (ToolCall("ip-info", {}),)),
}

NOT_CALLS = [
    "",
    "Hello",
    "null",
    "6",
    "[]",
    "[1]",
    "{}",
    '{"name":"ip-info"}',
    '{"name":"ip-info","arguments":"soon"}',
    '{"name":"ip-info","arguments":[1]}',
    '{"name":"another","arguments":{}}',
    '{"name":["ip-info"],"arguments":{}}',
    '{"name":"ip-info","arguments":{},"age":3}',
    # Definitions of tools, not calls.
    '{"name":"ip-info","description":"a","parameters":{"type":"object"}}',
    '{"type":"function","function":{"name":"ip-info","description":"a","parameters":{}}}',
    # Not the whole text.
    'Calling: {"name":"ip-info","arguments":{}}',
    '{"name":"ip-info","arguments":{}} is what I would call.',
    '<tool_call>{"name":"ip-info","arguments":{}}</tool_call> done',
    '<tool_call>{"name":"ip-info","arguments":{}</tool_call>',
    "<tool_call></tool_call>",
    '[{"name":"ip-info","arguments":{}},{"name":"another","arguments":{}}]',
]


def in_every_dialect(text: str) -> list[dict[str, Any]]:
    return [
        {"response": text},
        {"choices": [{"message": {"content": text}}]},
        {"output": [{"type": "message", "content": [{"type": "output_text", "text": text}]}]},
    ]


@pytest.mark.parametrize(("text", "calls"), WRITTEN.values(), ids=WRITTEN)
def test_calls_written_as_text_are_calls_if_tools_were_given(
    text: str, calls: tuple[ToolCall, ...]
) -> None:
    """In every dialect, and with a JSON mode that would parse the text."""
    for result in in_every_dialect(text):
        for json_mode in (False, True):
            answer = recover_tool_calls(read_text(result, json_mode=json_mode), TOOLS)
            assert (answer.text, answer.parsed, answer.tool_calls) == ("", None, calls)
        answer = read_text(result)
        assert (answer.text, answer.tool_calls) == (text, ())
        assert not recover_tool_calls(read_text(result), ["another"]).tool_calls


@pytest.mark.parametrize("text", NOT_CALLS)
def test_a_text_that_is_not_only_calls_stays_a_text(text: str) -> None:
    for result in in_every_dialect(text):
        assert recover_tool_calls(read_text(result), TOOLS) == read_text(result)


def test_a_call_that_the_service_decoded_is_a_call() -> None:
    """Recorded of @cf/qwen/qwen2.5-coder-32b-instruct by the adapter tests of a public project."""
    body = '{"response":{"name":"ip-info","arguments":{}},"tool_calls":[]}'
    result = loads(body)
    assert recover_tool_calls(read_text(result), TOOLS) == Text(
        tool_calls=(ToolCall("ip-info", {}),)
    )
    assert read_text(result).parsed == {"name": "ip-info", "arguments": {}}
    chat = {"choices": [{"message": {"content": result["response"]}}]}
    assert recover_tool_calls(read_text(chat), TOOLS) == Text(tool_calls=(ToolCall("ip-info", {}),))


def test_calls_beside_a_text_are_not_read_from_it() -> None:
    result = loads(
        '{"response":"{\\"name\\":\\"ip-info\\",\\"arguments\\":{}}",'
        '"tool_calls":[{"name":"get_weather","arguments":{"city":"Paris"}}]}'
    )
    answer = recover_tool_calls(read_text(result), TOOLS)
    assert answer.tool_calls == (WEATHER,)
    assert answer.text


@pytest.mark.parametrize(("text", "calls"), WRITTEN.values(), ids=WRITTEN)
def test_calls_written_in_a_stream_are_calls(text: str, calls: tuple[ToolCall, ...]) -> None:
    builder = TextBuilder()
    for character in text:
        builder.add(Token(character))
    for json_mode in (False, True):
        answer = recover_tool_calls(builder.build(json_mode=json_mode), TOOLS)
        assert (answer.text, answer.parsed, answer.tool_calls) == ("", None, calls)
    assert builder.build().text == text
