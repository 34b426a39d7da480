"""Text answers, whole and streamed: every documented form by its bytes, and undocumented ones."""

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from cfai._types.json import MAX_DEPTH, NestedTooDeep, loads
from cfai._wire.text import (
    parse_json_text,
    read_content,
    read_piece,
    read_text,
    read_usage,
    undocumented_error,
)
from cfai.errors import DecodeError
from cfai.tasks import Text, ToolCall, Usage


def read(body: str, *, json_mode: bool = False) -> Text:
    return read_text(loads(body), json_mode=json_mode)


LONDON = (ToolCall("get_weather", {"location": "London"}),)

# Form, its bytes (the `result` of the envelope), and the text.
FORMS: dict[str, tuple[str, Text]] = {
    # Workers AI API, "Execute AI model", Returns.
    "native": (
        '{"response":"Hello","usage":{"prompt_tokens":4,"completion_tokens":2,"total_tokens":6}}',
        Text("Hello", usage=Usage(4, 2, 6)),
    ),
    "native, bare": ('{"response":"Hello"}', Text("Hello")),
    "empty text": ('{"response":""}', Text("")),
    # The same page: the arguments are a value of any kind.
    "flat call": (
        '{"tool_calls":[{"name":"get_weather","arguments":{"location":"London"}}]}',
        Text(tool_calls=LONDON),
    ),
    # github.com/cloudflare/ai, workers-ai-provider/test: null beside calls, arguments as text.
    "null and a flat call with text": (
        (
            '{"response":null,"tool_calls":[{"name":"get_weather",'
            '"arguments":"{\\"location\\":\\"London\\"}"}]}'
        ),
        Text(tool_calls=LONDON),
    ),
    # github.com/cloudflare/workerd, types/defines/ai.d.ts, llama-4: nested, arguments an object.
    "nested call": (
        (
            '{"response":"","tool_calls":[{"id":"c1","type":"function","function":'
            '{"name":"get_weather","arguments":{"location":"London"}}}]}'
        ),
        Text(tool_calls=(ToolCall("get_weather", {"location": "London"}, "c1"),)),
    ),
    "several calls, odd arguments": (
        (
            '{"response":null,"tool_calls":[{"name":"a"},{"name":"b","arguments":""},'
            '{"name":"c","arguments":null},{"name":"d","arguments":"{not json"},'
            '{"name":"e","arguments":[1]}]}'
        ),
        Text(
            tool_calls=(
                ToolCall("a", {}),
                ToolCall("b", {}),
                ToolCall("c", {}),
                ToolCall("d", "{not json"),
                ToolCall("e", [1]),
            )
        ),
    ),
    # Both dialects of an answer without anything in it.
    "null beside no calls": ('{"response":null,"tool_calls":[]}', Text("")),
    "chat completion, null beside no calls": (
        '{"choices":[{"message":{"content":null,"tool_calls":[]}}]}',
        Text(""),
    ),
    "empty list of calls": ('{"response":"Hi","tool_calls":[]}', Text("Hi")),
    # Cloudflare docs, Workers AI, "JSON Mode": the object itself.
    "JSON mode": (
        '{"response":{"name":"India","capital":"New Delhi"}}',
        Text('{"name":"India","capital":"New Delhi"}', {"name": "India", "capital": "New Delhi"}),
    ),
    "null beside reasoning": (
        '{"response":null,"reasoning_content":"Hm","finish_reason":"length"}',
        Text("", reasoning="Hm", finish_reason="length"),
    ),
    # github.com/cloudflare/ai, changelog 3.0.5.
    "a number": ('{"response":42}', Text("42")),
    "false": ('{"response":false}', Text("false")),
    # The output schema of @cf/meta/llama-guard-3-8b.
    "llama-guard": (
        (
            '{"response":{"safe":false,"categories":["S1","S10"]},'
            '"usage":{"prompt_tokens":250,"completion_tokens":5,"total_tokens":255}}'
        ),
        Text(
            '{"safe":false,"categories":["S1","S10"]}',
            {"safe": False, "categories": ["S1", "S10"]},
            usage=Usage(250, 5, 255),
        ),
    ),
    "llama-guard as text": ('{"response":"unsafe\\nS1"}', Text("unsafe\nS1")),
    # The output schema of @cf/baai/bge-reranker-base, asked for as text.
    "a ranking": (
        '{"response":[{"id":0,"score":0.5}]}',
        Text('[{"id":0,"score":0.5}]', [{"id": 0, "score": 0.5}]),
    ),
    # github.com/BerriAI/litellm, issue 29833: the text of this one was lost.
    "chat completion": (
        (
            '{"id":"id-1","object":"chat.completion","created":1,"model":"@cf/qwen/qwen3-30b-a3b-fp8",'
            '"choices":[{"index":0,"message":{"role":"assistant","content":"Hello",'
            '"reasoning_content":"Hm","tool_calls":[]},"logprobs":null,"finish_reason":"stop",'
            '"stop_reason":null}],"usage":{"prompt_tokens":4,"total_tokens":6,"completion_tokens":2,'
            '"prompt_tokens_details":{"cached_tokens":3},'
            '"completion_tokens_details":{"reasoning_tokens":1},"neurons":0.5}}'
        ),
        Text(
            "Hello",
            reasoning="Hm",
            finish_reason="stop",
            usage=Usage(4, 2, 6, cached_tokens=3, reasoning_tokens=1, neurons=0.5),
        ),
    ),
    "chat completion with calls": (
        (
            '{"choices":[{"message":{"content":null,"tool_calls":[{"id":"c1","type":"function",'
            '"function":{"name":"get_weather","arguments":"{\\"location\\":\\"London\\"}"}}]},'
            '"finish_reason":"tool_calls"}]}'
        ),
        Text(
            tool_calls=(ToolCall("get_weather", {"location": "London"}, "c1"),),
            finish_reason="tool_calls",
        ),
    ),
    "chat completion, the other key": (
        '{"choices":[{"message":{"content":"Yes","reasoning":"Hm"},"finish_reason":"length"}]}',
        Text("Yes", reasoning="Hm", finish_reason="length"),
    ),
    "chat completion, all spent on reasoning": (
        '{"choices":[{"message":{"content":null,"reasoning":"Hm"},"finish_reason":"length"}]}',
        Text("", reasoning="Hm", finish_reason="length"),
    ),
    "chat completion of parts": (
        (
            '{"choices":[{"message":{"content":[{"type":"text","text":"Hel"},'
            '{"type":"text","text":"lo"},{"type":"image_url"}]}}]}'
        ),
        Text("Hello"),
    ),
    # Not recorded; the service decodes generated JSON (github.com/cloudflare/ai, issue 651).
    "chat completion, a decoded list": (
        '{"choices":[{"message":{"content":["red","blue"]},"finish_reason":"stop"}]}',
        Text('["red","blue"]', ["red", "blue"], finish_reason="stop"),
    ),
    "chat completion, a decoded list of objects with a text": (
        '{"choices":[{"message":{"content":[{"text":"a","score":1}]}}]}',
        Text('[{"text":"a","score":1}]', [{"text": "a", "score": 1}]),
    ),
    "chat completion, an empty list": (
        '{"choices":[{"message":{"content":[]}}]}',
        Text("[]", []),
    ),
    # OpenAI's API reference, the chat completion object: a model that declines.
    "chat completion, declined": (
        (
            '{"choices":[{"index":0,"message":{"role":"assistant","content":null,'
            '"refusal":"I can\'t help with that.","annotations":[]},"finish_reason":"stop"}]}'
        ),
        Text("I can't help with that.", finish_reason="stop"),
    ),
    "chat completion, not declined": (
        '{"choices":[{"message":{"content":"Hello","refusal":null},"finish_reason":"stop"}]}',
        Text("Hello", finish_reason="stop"),
    ),
    "chat completion, declined in parts": (
        '{"choices":[{"message":{"content":[{"type":"refusal","refusal":"No."}]}}]}',
        Text("No."),
    ),
    # OpenAI's API reference, the response object.
    "Responses, declined": (
        (
            '{"object":"response","status":"completed","output":[{"type":"message",'
            '"content":[{"type":"refusal","refusal":"No."}]}]}'
        ),
        Text("No.", finish_reason="stop"),
    ),
    "legacy completion": (
        '{"object":"text_completion","choices":[{"index":0,"text":"Hello","finish_reason":"stop"}]}',
        Text("Hello", finish_reason="stop"),
    ),
    # gpt-oss given `input`. Form: OpenAI Responses, as in workerd's types/defines/ai.d.ts.
    "Responses": (
        (
            '{"id":"resp_1","object":"response","created_at":1,"status":"completed","output":['
            '{"type":"reasoning","id":"rs_1","summary":[],"content":'
            '[{"type":"reasoning_text","text":"Hm"}]},'
            '{"type":"message","id":"msg_1","role":"assistant","content":'
            '[{"type":"output_text","text":"Hello","annotations":[]}]},'
            '{"type":"function_call","id":"fc_1","call_id":"call_1","name":"get_weather",'
            '"arguments":"{\\"location\\":\\"London\\"}"}],"usage":{"input_tokens":5,'
            '"input_tokens_details":{"cached_tokens":1},"output_tokens":7,'
            '"output_tokens_details":{"reasoning_tokens":2},"total_tokens":12}}'
        ),
        Text(
            "Hello",
            tool_calls=(ToolCall("get_weather", {"location": "London"}, "call_1"),),
            reasoning="Hm",
            finish_reason="stop",
            usage=Usage(5, 7, 12, cached_tokens=1, reasoning_tokens=2),
        ),
    ),
    # Workers AI API, Returns: the answer of a language model may be a text.
    "a bare text": ('"Hello"', Text("Hello")),
}


@pytest.mark.parametrize(("body", "says"), FORMS.values(), ids=FORMS)
def test_every_documented_form_is_read(body: str, says: Text) -> None:
    assert read(body) == says


@pytest.mark.parametrize(
    "body",
    [
        "null",
        "{}",
        "[]",
        "6",
        '{"response":null}',
        '{"response":null,"usage":{"total_tokens":3}}',
        '{"tool_calls":[]}',
        '{"response":"a","tool_calls":{"name":"f"}}',
        '{"response":null,"tool_calls":["f"]}',
        '{"response":null,"tool_calls":[{"arguments":{}}]}',
        '{"response":null,"tool_calls":[{"name":null,"function":{"arguments":"{}"}}]}',
        '{"choices":[]}',
        '{"choices":{}}',
        '{"choices":null}',
        '{"choices":["a"]}',
        '{"choices":[{}]}',
        '{"choices":[{"message":"a"}]}',
        '{"choices":[{"message":{"content":[{"text":{}}]}}]}',
        '{"choices":[{"message":{"content":"a","reasoning":["b"]}}]}',
        '{"output":"a"}',
        '{"output":[{"type":"message","content":[{"text":["a"]}]}]}',
        '{"output":[{"type":"function_call","name":["a"]}]}',
        '{"description":"a"}',
        '{"shape":[1,1],"data":[[0.5]]}',
    ],
)
def test_an_undocumented_form_is_an_error(body: str) -> None:
    """A null is not the text "None", and a missing text is not an empty one."""
    with pytest.raises(DecodeError, match="undocumented"):
        read(body)


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.parametrize(
    "body",
    [
        '{{"response":{}}}',
        '{{"response":"a","tool_calls":[{{"name":"f","arguments":{}}}]}}',
        '{{"choices":[{{"message":{{"content":{{"a":{}}}}}}}]}}',
    ],
)
def test_the_deepest_value_that_is_read_can_be_encoded(body: str) -> None:
    """And compared, shown and copied."""
    result = body.format(nested(MAX_DEPTH - 5))
    answer = read(result)
    assert answer == read(result)
    assert answer.text == "a" or nested(MAX_DEPTH - 5) in answer.text
    assert copy.deepcopy(answer) == pickle.loads(pickle.dumps(answer)) == answer  # noqa: S301  # our own
    assert repr(answer) == repr(read(result))
    assert answer.to_dict()["text"] == answer.text


@pytest.mark.parametrize("body", ['{{"response":{}}}', '{{"choices":{}}}', '{{"a":{}}}', "{}"])
def test_an_undocumented_value_may_be_nested_deep(body: str) -> None:
    with pytest.raises((DecodeError, NestedTooDeep)):
        read(body.format(nested(MAX_DEPTH + 1)))
    if body != '{{"response":{}}}':
        with pytest.raises(DecodeError, match="undocumented"):
            read(body.format(nested(MAX_DEPTH - 5)))


def test_the_error_shows_a_part_of_a_large_value() -> None:
    """Its message is short, and its body is cut as in all errors."""
    error = undocumented_error("data must be a list", {"data": ["x" * 100_000] * 1000})
    assert len(str(error)) < 400
    assert error.body is not None
    assert len(error.body) <= 4096


# JSON mode


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        (" [1]\n", [1]),
        ("null", None),
        ('"a"', "a"),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ('```\n{"a": 1}\n```', {"a": 1}),
        ('\n```json\n{"a": 1}```  \n', {"a": 1}),
        ('Here it is:\n```json\n{"a": 1}\n```', None),
        ("```json\n{\n```", None),
        ("```", None),
        ("", None),
        ('{"a": 1', None),
    ],
)
def test_json_is_found_bare_or_fenced(said: str, value: Any) -> None:
    """Anything else is not JSON."""
    assert parse_json_text(said) == value


@pytest.mark.parametrize("said", ["```json\n{\n", "```", "{", "", "```json\n{}"])
def test_endless_whitespace_costs_no_more_than_other_text(said: str) -> None:
    """Models in JSON mode may write it on and on; it must not block the event loop."""
    for blanks in ("\n", " \n", " "):
        assert parse_json_text(said + blanks * 200_000 + "x") is None


def test_json_is_parsed_only_in_json_mode() -> None:
    """Otherwise a text that happens to be JSON stays a text. An object is always parsed."""
    for body in (
        '{"response":"{\\"a\\":1}"}',
        '{"choices":[{"message":{"content":"{\\"a\\":1}"}}]}',
    ):
        assert read(body).parsed is None
        assert read(body, json_mode=True).parsed == {"a": 1}
    body = '{"output":[{"type":"message","content":[{"text":"{\\"a\\":1}"}]}]}'
    assert read(body, json_mode=True).parsed == {"a": 1}
    assert read('"{}"', json_mode=True).parsed == {}
    for body in ('{"response":{"a":1}}', '{"choices":[{"message":{"content":{"a":1}}}]}'):
        assert read(body).parsed == {"a": 1}
        assert read(body).text == '{"a":1}'


# Pieces of text


@pytest.mark.parametrize(
    ("value", "said"),
    [("a", "a"), (None, ""), (6, "6"), (-0.5, "-0.5"), (True, "true"), (0, "0")],
)
def test_a_decoded_piece_is_its_json(value: Any, said: str) -> None:
    """The service decodes a piece that happens to be JSON; a price would lose its digits."""
    assert read_piece(value, "response") == said


@pytest.mark.parametrize("value", [[], {}, ["a"], {"a": 1}])
def test_a_piece_that_is_a_list_or_an_object_is_an_error(value: Any) -> None:
    with pytest.raises(DecodeError, match="response must be a string"):
        read_piece(value, "response")


def test_the_parts_with_text_are_joined() -> None:
    assert (
        read_content([{"text": "a"}, {"type": "image_url"}, "b", None, {"text": 6}], "content")
        == "a6"
    )
    assert read_content([], "content") == ""


@pytest.mark.parametrize(
    ("value", "counts"),
    [
        (None, None),
        ([], None),
        ({}, Usage()),
        ({"prompt_tokens": 4, "completion_tokens": 2}, Usage(4, 2, 6)),
        ({"prompt_tokens": 4.0, "completion_tokens": 2.0, "total_tokens": 7.0}, Usage(4, 2, 7)),
        ({"prompt_tokens": None, "completion_tokens": 2, "total_tokens": None}, Usage(0, 2, 2)),
        ({"prompt_tokens": "4", "prompt_tokens_details": [1]}, Usage()),
        ({"input_tokens": 4, "output_tokens": 2}, Usage(4, 2, 6)),
        ({"total_tokens": 3, "prompt_tokens_details": {}}, Usage(0, 0, 3)),
        ({"prompt_tokens_details": {"cached_tokens": 0}}, Usage(cached_tokens=0)),
        ({"neurons": 1}, Usage(neurons=1.0)),
        ({"neurons": "many"}, Usage()),
        ({"neurons": float("nan"), "prompt_tokens": float("inf")}, Usage()),
    ],
)
def test_usage_is_read_in_either_vocabulary(value: Any, counts: Usage | None) -> None:
    """An odd count is ignored: no text is lost over it."""
    assert read_usage(value) == counts


RESULTS: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "a", "message"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["response", "choices", "message", "text", "content", "reasoning", "tool_calls", "name",
             "function", "arguments", "output", "type", "summary", "usage", "prompt_tokens_details",
             "finish_reason", "status", "id", "call_id"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(RESULTS, st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_json_is_a_text_or_a_decode_error(result: Any, json_mode: bool) -> None:
    try:
        read = read_text(result, json_mode=json_mode)
    except DecodeError:
        return
    assert isinstance(read.text, str)
    assert isinstance(read.reasoning, str)
    assert isinstance(read.finish_reason, str | None)
    assert all(isinstance(call.id, str | None) for call in read.tool_calls)
