"""One event -> one token, tokens -> the whole text: every dialect by its recorded bytes."""

from collections.abc import Iterable
from typing import Any

import httpx
import pytest
from httpx_sse import EventSource
from hypothesis import given, settings, strategies as st

from cfai._types.json import dumps, loads
from cfai._wire.sse import EventSplitter
from cfai._wire.text import TextBuilder, UsageCounter, read_token, token_from_text
from cfai.errors import DecodeError
from cfai.tasks import Text, Token, ToolCall, ToolCallDelta, Usage
from tests.wire.dialects import DIALECTS, Dialect, events


def data_of(pieces: Iterable[bytes]) -> list[bytes]:
    """The data of the events of a stream."""
    blocks = EventSplitter(1 << 20)
    read = [block for piece in pieces for block in blocks.feed(piece)] + blocks.finish()
    return [block if isinstance(block, bytes) else _decoded(block) for block in read]


def _decoded(block: str) -> bytes:
    headers = {"Content-Type": "text/event-stream"}
    (event,) = EventSource(httpx.Response(200, text=block, headers=headers)).iter_sse()
    return event.data.encode()


def tokens_of(pieces: Iterable[bytes]) -> list[Token]:
    """What a stream says before its end mark, as a reader of it does."""
    tokens = []
    for data in data_of(pieces):
        if data == b"[DONE]":
            break
        if (token := read_token(loads(data))) is not None:
            tokens.append(token)
    return tokens


def whole(tokens: Iterable[Token], *, json_mode: bool = False) -> Text:
    assembly = TextBuilder()
    for token in tokens:
        assembly.add(token)
    return assembly.build(json_mode=json_mode)


def said(*data: str) -> Text:
    return whole(tokens_of([events(*data)]))


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_every_dialect_is_one_text(dialect: Dialect) -> None:
    """Its recorded bytes say the text, the calls, the reasoning and the counts, and no more."""
    tokens = tokens_of([dialect.stream])
    assert whole(tokens) == dialect.says
    assert len(tokens) == dialect.tokens
    assert all(token.raw for token in tokens)


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_every_dialect_says_the_same_however_it_is_cut(dialect: Dialect) -> None:
    """Byte by byte, and in two at every position."""
    stream, expected = dialect.stream, data_of([dialect.stream])
    for pieces in (
        [stream[at : at + 1] for at in range(len(stream))],
        *([stream[:at], stream[at:]] for at in range(len(stream))),
    ):
        assert data_of(pieces) == expected, pieces
    assert whole(tokens_of([stream[at : at + 1] for at in range(len(stream))])) == dialect.says


# Single events


@pytest.mark.parametrize(
    ("event", "token"),
    [
        ({"response": "a"}, Token("a")),
        ({"response": "a", "usage": None, "tool_calls": None}, Token("a")),
        ({"response": 0}, Token("0")),
        ({"response": False}, Token("false")),
        ({"response": 2.50}, Token("2.5")),
        ({"reasoning": "a"}, Token(reasoning="a")),
        ({"reasoning_content": "a", "reasoning": "b"}, Token(reasoning="a")),
        ({"choices": [{"delta": {"content": None, "reasoning": 4}}]}, Token(reasoning="4")),
        ({"choices": [{"delta": {"content": "a"}}, {"delta": {"content": "b"}}]}, Token("a")),
        ({"choices": [{"delta": {"content": [{"type": "text", "text": "a"}]}}]}, Token("a")),
        ({"choices": [{"text": "a"}]}, Token("a")),
        ({"choices": [{"message": {"content": "a"}}]}, Token("a")),
        ({"choices": [{"delta": None, "finish_reason": "length"}]}, Token(finish_reason="length")),
        ({"choices": [], "usage": {"total_tokens": 3}}, Token(usage=Usage(total_tokens=3))),
        ({"type": "response.incomplete", "response": None}, Token(finish_reason="length")),
        ({"type": "response.output_text.delta", "delta": 7}, Token("7")),
        ({"response": "a", "type": "what"}, Token("a")),
    ],
)
def test_an_event_says_what_it_adds(event: Any, token: Token) -> None:
    read = read_token(event)
    assert read == token
    assert read is not None
    assert read.raw == event


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"response": ""},
        {"response": None},
        {"response": "", "tool_calls": [], "usage": {}},
        {"p": "padding"},
        {"tool_calls": [{"id": None, "type": None, "function": {"name": None, "arguments": ""}}]},
        {"choices": []},
        {"choices": None},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": None}]},
        {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
        {"streamed_data": [{"response": ""}]},
        {"type": "response.created", "response": {"id": "resp_1"}},
        {"type": "ping"},
    ],
)
def test_an_event_that_adds_nothing_is_no_token(event: Any) -> None:
    """An empty piece, padding, the sentinel of nulls, a role: nothing to show."""
    assert read_token(event) is None


@pytest.mark.parametrize(
    "event",
    [
        None,
        "text",
        6,
        [],
        {"response": {"name": "India"}},
        {"response": ["a"]},
        {"choices": {"a": 1}},
        {"choices": "text"},
        {"choices": [None]},
        {"choices": [{"delta": "text"}]},
        {"choices": [{"delta": {"content": {"a": 1}}}]},
        {"tool_calls": {"name": "a"}},
        {"tool_calls": ["a"]},
        {"reasoning": ["a"]},
        {"streamed_data": {"response": "a"}},
        {"streamed_data": ["a"]},
        {"type": "response.output_text.delta", "delta": {"text": "a"}},
    ],
)
def test_an_undocumented_event_is_an_error_that_carries_it(event: Any) -> None:
    """It is neither passed over nor passed off as text; the error has at least the odd piece."""
    with pytest.raises(DecodeError, match="undocumented") as caught:
        read_token(event)
    assert isinstance(caught.value.body, bytes)
    assert caught.value.body in dumps(event)


NESTED = b"[" * 600 + b"]" * 600


@pytest.mark.parametrize(
    "event",
    [
        b'{"response":%b}',
        b'{"choices":%b}',
        b'{"choices":[{"delta":{"content":{"a":%b}}}]}',
        b'{"tool_calls":[{"name":"f","arguments":%b}]}',
        b'{"tool_calls":[%b]}',
    ],
)
def test_json_too_deep_to_write_again_is_an_error_of_ours(event: bytes) -> None:
    """The decoder reads deeper than the encoder writes, and than Python recurses."""
    with pytest.raises(DecodeError):
        read_token(loads(event % NESTED))


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "a", "stop", "error", "response.completed", "response.created"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["response", "choices", "delta", "content", "message", "text", "reasoning", "usage",
             "reasoning_content", "tool_calls", "function", "name", "arguments", "id", "index",
             "finish_reason", "type", "streamed_data", "prompt_tokens", "total_tokens",
             "prompt_tokens_details", "cached_tokens", "neurons"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(st.lists(JSON, max_size=6))
@settings(max_examples=300, deadline=None)
def test_no_event_breaks_the_reader(documents: list[Any]) -> None:
    """Whatever JSON comes is a token, nothing, or a `DecodeError`; and the text can be told."""
    assembly = TextBuilder()
    for document in documents:
        try:
            token = read_token(document)
        except DecodeError:
            continue
        if token is not None:
            assembly.add(token)
            assert isinstance(token.text, str)
            assert isinstance(token.reasoning, str)
    text = assembly.build(json_mode=True)
    assert all(isinstance(call.name, str) for call in text.tool_calls)


# Tool calls


def piece(
    arguments: str = "", *, index: int | None = 0, of: str | None = None, name: str | None = None
) -> Token:
    """A piece of the call with the id *of*."""
    return Token(tool_calls=(ToolCallDelta(index, of, name, arguments),))


@pytest.mark.parametrize(
    ("pieces", "calls"),
    [
        # Two calls at once, in turns.
        (
            [
                piece("", of="a", name="f"),
                piece("", index=1, of="b", name="g"),
                piece('{"x"', index=0),
                piece('{"y"', index=1),
                piece(":1}", index=0),
                piece(":2}", index=1),
            ],
            [ToolCall("f", {"x": 1}, "a"), ToolCall("g", {"y": 2}, "b")],
        ),
        # One after the other, both under index 0.
        (
            [
                piece('{"x":1', of="a", name="f"),
                piece("}"),
                piece('{"y":2', of="b", name="f"),
                piece("}"),
            ],
            [ToolCall("f", {"x": 1}, "a"), ToolCall("f", {"y": 2}, "b")],
        ),
        # Without any index or id: each name begins a call, each nameless piece goes on.
        (
            [
                piece('{"x":1', index=None, name="f"),
                piece("}", index=None),
                piece("{}", index=None, name="f"),
            ],
            [ToolCall("f", {"x": 1}), ToolCall("f", {})],
        ),
        # The id repeated in every piece, and the name as well.
        (
            [piece('{"x"', of="a", name="f"), piece(":1", of="a"), piece("}", of="a", name="f")],
            [ToolCall("f", {"x": 1}, "a")],
        ),
        # The id last.
        ([piece("{}", name="f"), piece("", of="a")], [ToolCall("f", {}, "a")]),
        # No arguments at all, and arguments that are no JSON.
        ([piece(name="f")], [ToolCall("f", {})]),
        ([piece('{"x":', name="f")], [ToolCall("f", '{"x":')]),
        # Never a name.
        ([piece("{}")], [ToolCall("", {})]),
    ],
)
def test_pieces_of_calls_find_together(pieces: list[Token], calls: list[ToolCall]) -> None:
    assert list(whole(pieces).tool_calls) == calls


def test_a_call_with_arguments_as_an_object_is_told_as_json() -> None:
    """The pieces of a `Token` are always text."""
    token = read_token({"tool_calls": [{"name": "f", "arguments": {"x": [1, None]}}]})
    assert token is not None
    assert token.tool_calls == (ToolCallDelta(None, None, "f", '{"x":[1,null]}'),)


# Counts


def counted(*usages: Usage) -> Usage | None:
    counting = UsageCounter()
    for usage in usages:
        counting.add(usage)
    return counting.total


@pytest.mark.parametrize(
    ("usages", "total"),
    [
        ([], None),
        ([Usage(5, 1, 6)], Usage(5, 1, 6)),
        # Each the sum so far.
        ([Usage(13, 3, 16), Usage(13, 4, 17), Usage(13, 5, 18)], Usage(13, 5, 18)),
        ([Usage(13, 0, 13), Usage(13, 4, 17), Usage(13, 4, 17)], Usage(13, 4, 17)),
        # Zeros first, the sum at the end (vLLM without continuous counts).
        ([Usage(0, 0, 0), Usage(13, 4, 17)], Usage(13, 4, 17)),
        # Each a share.
        ([Usage(39, 0, 39), Usage(0, 1, 1), Usage(0, 1, 1)], Usage(39, 2, 41)),
        ([Usage(39, 1, 40), Usage(0, 1, 1), Usage(0, 2, 2)], Usage(39, 4, 43)),
        # Shares that begin in the middle, as in the event that was recorded live.
        ([Usage(0, 1, 1), Usage(0, 1, 1)], Usage(0, 2, 2)),
        # Shares, and then the sum of it all.
        ([Usage(39, 0, 39), Usage(0, 1, 1), Usage(0, 1, 1), Usage(39, 2, 41)], Usage(39, 2, 41)),
        # Cached tokens and neurons.
        (
            [Usage(39, 0, 39, 32, None, 1.0), Usage(0, 1, 1, 0, None, 0.5)],
            Usage(39, 1, 40, 32, None, 1.5),
        ),
        ([Usage(39, 0, 39), Usage(0, 1, 1, None, None, 0.5)], Usage(39, 1, 40, None, None, 0.5)),
    ],
)
def test_both_arithmetics_of_counts_give_the_total(usages: list[Usage], total: Usage) -> None:
    """Summing is wrong for sums, and the last is wrong for shares."""
    assert counted(*usages) == total


# The whole


def test_the_answer_grows_with_every_token() -> None:
    """It can be asked for at any time, and asking changes nothing."""
    assembly = TextBuilder()
    assert assembly.build() == Text()
    for expected in ("a", "ab", "abc"):
        assembly.add(Token(expected[-1]))
        assert assembly.build() == Text(expected)


def test_json_is_parsed_where_it_was_asked_for() -> None:
    tokens = [Token('{"a"'), Token(": 1}")]
    assert whole(tokens).parsed is None
    assert whole(tokens, json_mode=True).parsed == {"a": 1}
    assert whole(tokens[:1], json_mode=True).parsed is None


def test_the_last_finish_reason_counts() -> None:
    assert said('{"finish_reason":"stop"}', '{"finish_reason":"tool_calls"}').finish_reason == (
        "tool_calls"
    )


@pytest.mark.parametrize(
    "text",
    [
        Text("a", reasoning="b", finish_reason="stop", usage=Usage(1, 2, 3)),
        Text(
            tool_calls=(ToolCall("f", {"x": 1}, "a"), ToolCall("f", "no json"), ToolCall("g", {}))
        ),
    ],
)
def test_a_whole_answer_as_one_token_says_the_same(text: Text) -> None:
    """JSON where a stream was asked for: whoever reads tokens misses nothing."""
    assert whole([token_from_text(text)]) == text
