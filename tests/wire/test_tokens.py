"""Events of text streams: every dialect by its bytes, tokens, and the text that they build."""

import sys
from collections.abc import Callable, Iterable
from typing import Any

import httpx
import pytest
from httpx_sse import EventSource
from hypothesis import given, settings, strategies as st

from cfai._types.json import MAX_DEPTH, dumps, loads
from cfai._wire.sse import EventSplitter
from cfai._wire.text import (
    read_text,
)
from cfai._wire.tokens import TextBuilder, UsageCounter, read_token, token_from_text
from cfai.errors import DecodeError
from cfai.tasks import Text, Token, ToolCall, ToolCallDelta, Usage
from tests.wire.dialects import DIALECTS, Dialect, events

# Streams


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
    """The tokens of a stream before its end mark."""
    tokens = []
    for data in data_of(pieces):
        if data == b"[DONE]":
            break
        if (token := read_token(loads(data, allow_nan=True))) is not None:
            tokens.append(token)
    return tokens


def build_text(tokens: Iterable[Token], *, json_mode: bool = False) -> Text:
    builder = TextBuilder()
    for token in tokens:
        builder.add(token)
    return builder.build(json_mode=json_mode)


def read_stream(*data: str) -> Text:
    return build_text(tokens_of([events(*data)]))


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_every_dialect_is_read(dialect: Dialect) -> None:
    """The recorded bytes give the text, the calls, the reasoning and the usage."""
    tokens = tokens_of([dialect.stream])
    assert build_text(tokens) == dialect.says
    assert len(tokens) == dialect.tokens
    assert all(token.raw for token in tokens)


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_every_dialect_is_the_same_however_it_is_cut(dialect: Dialect) -> None:
    """Byte by byte, and in two at every position."""
    stream, expected = dialect.stream, data_of([dialect.stream])
    for pieces in (
        [stream[at : at + 1] for at in range(len(stream))],
        *([stream[:at], stream[at:]] for at in range(len(stream))),
    ):
        assert data_of(pieces) == expected, pieces
    assert build_text(tokens_of([stream[at : at + 1] for at in range(len(stream))])) == dialect.says


# Single events


@pytest.mark.parametrize(
    ("event", "token"),
    [
        ({"response": "a"}, Token("a")),
        ({"response": "a", "usage": None, "tool_calls": None}, Token("a")),
        ({"response": 0}, Token("0")),
        ({"response": False}, Token("false")),
        ({"response": 2.50}, Token("2.5")),
        ({"response": float("nan")}, Token("NaN")),
        # Pieces of code that the service decoded.
        ({"response": ["a"]}, Token('["a"]')),
        ({"response": {"name": "India"}}, Token('{"name":"India"}')),
        ({"choices": [{"delta": {"content": []}}]}, Token("[]")),
        ({"choices": [{"delta": {"content": [1]}}]}, Token("[1]")),
        ({"choices": [{"delta": {"content": {"a": 1}}}]}, Token('{"a":1}')),
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
        # A model that declines: OpenAI's API reference, `delta.refusal`, "response.refusal.delta".
        ({"choices": [{"delta": {"refusal": "No"}}]}, Token("No")),
        ({"choices": [{"delta": {"content": None, "refusal": "No"}}]}, Token("No")),
        ({"choices": [{"delta": {"content": "", "refusal": "No"}}]}, Token("No")),
        ({"choices": [{"delta": {"content": "a", "refusal": None}}]}, Token("a")),
        ({"choices": [{"delta": {"content": 0, "refusal": None}}]}, Token("0")),
        ({"type": "response.refusal.delta", "delta": "No"}, Token("No")),
    ],
)
def test_an_event_becomes_a_token(event: Any, token: Token) -> None:
    read = read_token(event)
    assert read == token
    assert read is not None
    assert read.raw == event


@pytest.mark.parametrize(
    "event",
    [
        None,
        {},
        {"response": ""},
        {"response": None},
        {"response": {}},
        {"choices": [None]},
        {"choices": [{"delta": {"content": {}, "reasoning": {}, "tool_calls": {}}}]},
        {"tool_calls": [None, {}, {"function": None}, {"function": {}}]},
        {"type": "response.output_text.delta", "delta": {}},
        {"choices": [{"delta": {"content": "", "refusal": None}}]},
        {"choices": [{"delta": {"refusal": 7}}]},
        {"type": "response.refusal.done", "refusal": "No"},
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
def test_an_event_that_adds_nothing_is_not_a_token(event: Any) -> None:
    """An empty piece, padding, an object of nulls, a role."""
    assert read_token(event) is None


@pytest.mark.parametrize(
    "event",
    [
        "text",
        6,
        [],
        {"choices": {"a": 1}},
        {"choices": "text"},
        {"choices": ["text"]},
        {"choices": [{"delta": "text"}]},
        {"tool_calls": {"name": "a"}},
        {"tool_calls": ["a"]},
        {"reasoning": ["a"]},
        {"streamed_data": {"response": "a"}},
        {"streamed_data": ["a"]},
        {"type": "response.output_text.delta", "delta": {"text": "a"}},
    ],
)
def test_an_undocumented_event_is_an_error_with_its_data(event: Any) -> None:
    """It is neither skipped nor taken for text."""
    with pytest.raises(DecodeError, match="undocumented") as caught:
        read_token(event)
    assert isinstance(caught.value.body, bytes)
    assert caught.value.body in dumps(event)


EVENTS: st.SearchStrategy[Any] = st.recursive(
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


@given(st.lists(EVENTS, max_size=6))
@settings(max_examples=300, deadline=None)
def test_any_json_is_a_token_or_a_decode_error(documents: list[Any]) -> None:
    """And the text so far can be built at any time."""
    builder = TextBuilder()
    for document in documents:
        try:
            token = read_token(document)
        except DecodeError:
            continue
        if token is not None:
            builder.add(token)
            assert isinstance(token.text, str)
            assert isinstance(token.reasoning, str)
    text = builder.build(json_mode=True)
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
def test_pieces_of_calls_are_joined(pieces: list[Token], calls: list[ToolCall]) -> None:
    assert list(build_text(pieces).tool_calls) == calls


def count_calls(work: Callable[[], object]) -> int:
    """How many Python and C functions *work* calls."""
    count = 0

    def profile(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize(
    "delta",
    [
        lambda n: ToolCallDelta(n, f"c{n}", "f", "{}"),
        lambda n: ToolCallDelta(0, f"c{n}", "f", "{}"),
        lambda n: ToolCallDelta(None, f"c{n}", "f", "{}"),
        lambda n: ToolCallDelta(n, None, None, "{}"),
        lambda n: ToolCallDelta(0, None, "f", "{}"),
        lambda n: ToolCallDelta(n % 7, f"c{n % 7}", None, "1"),
    ],
)
def test_the_work_grows_with_the_number_of_pieces(delta: Callable[[int], ToolCallDelta]) -> None:
    """In one event as in many; a model can send any number."""

    def work(count: int) -> int:
        tokens = [Token(tool_calls=(delta(n), delta(n))) for n in range(count)]
        together = [Token(tool_calls=tuple(d for token in tokens for d in token.tool_calls))]
        return count_calls(lambda: (build_text(tokens), build_text(together)))

    assert work(2000) < 5 * work(500)


def test_pieces_of_calls_with_the_same_index_are_told_apart_by_id() -> None:
    """In turns, and with a call without an id between them."""
    pieces = [
        piece('{"x"', of="a", name="f"),
        piece('{"y"', of="b", name="g"),
        piece(":1}", of="a"),
        piece(":2}", of="b"),
    ]
    calls = [ToolCall("f", {"x": 1}, "a"), ToolCall("g", {"y": 2}, "b")]
    assert list(build_text(pieces).tool_calls) == calls


def test_arguments_that_are_an_object_are_encoded_in_a_token() -> None:
    """The arguments in a `Token` are always a string."""
    token = read_token({"tool_calls": [{"name": "f", "arguments": {"x": [1, None]}}]})
    assert token is not None
    assert token.tool_calls == (ToolCallDelta(None, None, "f", '{"x":[1,null]}'),)


# Usage


def count_usage(*usages: Usage) -> Usage | None:
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
def test_shares_and_sums_both_give_the_total(usages: list[Usage], total: Usage) -> None:
    """Sums must not be added up, and of shares the last is not enough."""
    assert count_usage(*usages) == total


# The text so far


def test_the_text_grows_with_every_token() -> None:
    """It can be built at any time, and building changes nothing."""
    builder = TextBuilder()
    assert builder.build() == Text()
    for expected in ("a", "ab", "abc"):
        builder.add(Token(expected[-1]))
        assert builder.build() == Text(expected)


def test_json_of_a_stream_is_parsed_in_json_mode() -> None:
    tokens = [Token('{"a"'), Token(": 1}")]
    assert build_text(tokens).parsed is None
    assert build_text(tokens, json_mode=True).parsed == {"a": 1}
    assert build_text(tokens[:1], json_mode=True).parsed is None


def test_the_last_finish_reason_is_used() -> None:
    assert read_stream(
        '{"finish_reason":"stop"}', '{"finish_reason":"tool_calls"}'
    ).finish_reason == ("tool_calls")


@pytest.mark.parametrize(
    "text",
    [
        Text("a", reasoning="b", finish_reason="stop", usage=Usage(1, 2, 3)),
        Text(
            tool_calls=(ToolCall("f", {"x": 1}, "a"), ToolCall("f", "no json"), ToolCall("g", {}))
        ),
    ],
)
def test_a_whole_answer_as_one_token_is_the_same_text(text: Text) -> None:
    """It is the token of a stream that the model answered with JSON."""
    assert build_text([token_from_text(text)]) == text


@pytest.mark.parametrize("levels", [MAX_DEPTH, MAX_DEPTH + 1, 1000, 100_000])
def test_arguments_that_are_nested_too_deep_stay_a_text(levels: int) -> None:
    """A model can write them: the rest of its answer is kept."""
    deep = "[" * levels + "]" * levels
    event = {"choices": [{"delta": {"tool_calls": [{"function": {"name": "f"}}]}}]}
    builder = TextBuilder()
    for document in (
        event,
        {"tool_calls": [{"function": {"arguments": deep}}]},
    ):
        token = read_token(document)
        assert token is not None
        builder.add(token)
    (call,) = builder.build(json_mode=True).tool_calls
    assert isinstance(call.arguments, list if levels <= MAX_DEPTH else str)
    body = {
        "response": "a",
        "tool_calls": [{"name": "f", "arguments": deep}],
    }
    assert read_text(body).tool_calls[0] == call
