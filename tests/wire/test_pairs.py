r"""Characters whose halves come in two events: `JSON.stringify` writes each as an escape.

Sources: elizaOS/eliza, issues 30904 and 18079; anthropics/claude-code, issue 56064.
"""

import json
from functools import partial
from itertools import pairwise
from typing import Any

import attrs
import pytest
from hypothesis import given, strategies as st

from cfai import TextGeneration, user
from cfai._types.json import dumps, loads_with_half_pairs
from cfai._wire.pairs import PairJoiner
from cfai._wire.tokens import TextBuilder, read_token
from cfai.tasks import Text, Token, ToolCall
from cfai.testing import FakeWorkersAI


def join(*events: str) -> tuple[list[Token], Text]:
    """The tokens of the events, and the text that they build."""
    pairs, builder = PairJoiner(), TextBuilder()
    read = [read_token(loads_with_half_pairs(event)) for event in events]
    joined = [pairs.join(token) for token in read if token is not None]
    tokens = [token for token in [*joined, pairs.finish()] if token is not None]
    for token in tokens:
        builder.add(token)
    return tokens, builder.build()


@pytest.mark.parametrize(
    ("events", "texts"),
    [
        ([r'{"response":"a\ud83d"}', r'{"response":"\ude00b"}'], ["a", "😀b"]),
        ([r'{"response":"\ud83d"}', r'{"response":"\ude00"}'], ["😀"]),
        ([r'{"response":"\ud83d"}', '{"response":"b"}'], ["\ufffdb"]),
        ([r'{"response":"\ude00"}', '{"response":"b"}'], ["\ufffd", "b"]),
        ([r'{"response":"\ud83d"}', r'{"response":"\ud83d"}'], ["\ufffd", "\ufffd"]),
        ([r'{"response":"\ud83d"}', '{"response":""}', r'{"response":"\ude00"}'], ["😀"]),
        ([r'{"response":"a\ud83d"}'], ["a", "\ufffd"]),
        ([r'{"response":"\ud83d"}', '{"finish_reason":"stop"}'], ["\ufffd"]),
        (
            [
                r'{"choices":[{"delta":{"content":"\ud83d"}}]}',
                r'{"choices":[{"delta":{"content":"\ude00"}}]}',
            ],
            ["😀"],
        ),
    ],
)
def test_halves_of_a_text_are_joined_or_replaced(events: list[str], texts: list[str]) -> None:
    tokens, text = join(*events)
    assert [token.text for token in tokens] == texts
    assert text.text == "".join(texts)


def test_reasoning_and_each_tool_call_have_halves_of_their_own() -> None:
    def call(index: int, arguments: str) -> str:
        return events(index, f'"name":"f","arguments":"{arguments}"')

    def piece(index: int, arguments: str) -> str:
        return events(index, f'"arguments":"{arguments}"')

    def events(index: int, function: str) -> str:
        return f'{{"tool_calls":[{{"index":{index},"function":{{{function}}}}}]}}'

    _, text = join(
        r'{"response":"\ud83d","reasoning":"\ud83c"}',
        call(0, r"{\"a\":\"\ud83d"),
        call(1, r"{\"b\":\"\ud83c"),
        piece(0, r"\ude00\"}"),
        piece(1, r"\udf08\"}"),
        r'{"response":"\ude00","reasoning":"\udf08"}',
    )
    assert text.text == "😀"
    assert text.reasoning == "🌈"
    assert text.tool_calls == (ToolCall("f", {"a": "😀"}), ToolCall("f", {"b": "🌈"}))


@pytest.mark.parametrize(
    "event",
    [
        rb'{"response":"a","finish_reason":"\ud800"}',
        rb'{"choices":[{"delta":{"content":"a"},"finish_reason":"st\udc00op"}]}',
        rb'{"tool_calls":[{"id":"\ud8d2","name":"a","arguments":{}}]}',
        rb'{"tool_calls":[{"index":0,"id":"c","function":{"name":"\ud800","arguments":"\ud801"}}]}',
        rb'{"\ud800":1,"response":"\udc00","usage":{"prompt_tokens":1,"\udc00":2}}',
    ],
)
async def test_no_token_or_frame_has_half_a_pair(fake: FakeWorkersAI, event: bytes) -> None:
    """Wherever the service sends it: all of a token can be encoded, and relayed to a browser."""
    fake.always.says(b"data: %b\n\ndata: [DONE]\n\n" % event, content_type="text/event-stream")
    stream = partial(fake.client().stream, "@cf/a/b", TextGeneration([user("Hi")]))
    async with stream() as tokens:
        read = [token async for token in tokens]
    values: list[Token | Text] = [*read, tokens.answer]
    for value in values:
        str(value).encode()
        dumps(attrs.asdict(value))
    for relay in (stream().sse(), stream().ndjson()):
        assert b"".join([frame async for frame in relay]).decode()


def test_half_a_pair_in_an_object_of_arguments_is_replaced() -> None:
    _, text = join(r'{"tool_calls":[{"name":"f","arguments":{"a":"\ud83d"}}]}')
    assert text.tool_calls == (ToolCall("f", {"a": "\ufffd"}),)


@given(st.text(st.characters(exclude_categories=[])), st.data())
def test_a_text_cut_anywhere_is_the_same_text(text: str, data: Any) -> None:
    """Cut between any two UTF-16 code units, in text and in reasoning."""
    units = text.encode("utf-16-le", "surrogatepass")
    cuts = sorted(data.draw(st.sets(st.integers(0, len(units) // 2))))
    edges = [0, *(2 * cut for cut in cuts), len(units)]
    pieces = [
        units[start:end].decode("utf-16-le", "surrogatepass") for start, end in pairwise(edges)
    ]
    _, joined = join(*(json.dumps({"response": piece, "reasoning": piece}) for piece in pieces))
    assert joined.text == units.decode("utf-16-le", "replace")
    assert joined.reasoning == joined.text
    joined.text.encode()
