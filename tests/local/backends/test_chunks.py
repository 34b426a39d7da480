"""The chunks of chat completions: their text, reasoning, calls and counts."""

from typing import Any

import pytest

from cfai.local.backends.chunks import ChunkReader
from cfai.local.backends.roles import GenerationEnd, Reasoning
from cfai.local.errors import ApiError


def read(*chunks: dict[str, Any]) -> tuple[list[Any], GenerationEnd]:
    """The pieces that are handed over, and the end."""
    pieces: list[Any] = []
    reader = ChunkReader(pieces.append, lambda: False)
    assert not any(reader.read(chunk) for chunk in chunks)
    return pieces, reader.end()


def delta(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"delta": fields}]}


def call(index: int | None = None, **function: Any) -> dict[str, Any]:
    fields = {"function": function} if function else {}
    return fields if index is None else {"index": index, **fields}


def test_a_chunk_without_a_text_is_an_empty_piece() -> None:
    """So that the response can begin, and the caller can stop."""
    chunks: list[dict[str, Any]] = [{}, {"a": 1}, delta(), delta(content=None)]
    for chunk in (*chunks, {"choices": []}, {"choices": None}):
        assert read(chunk) == ([""], GenerationEnd("stop", 0, 0))


@pytest.mark.parametrize(
    ("chunks", "pieces"),
    [
        ([delta(content="a"), delta(content="b")], ["a", "b"]),
        ([{"choices": [{"text": "a"}]}], ["a"]),
        ([{"choices": [{"text": "a"}, {"text": "b"}]}], ["ab"]),
        ([delta(content=1), delta(content=2.5)], ["1", "2.5"]),
        ([delta(reasoning="a"), delta(reasoning_content="b")], [Reasoning("a"), Reasoning("b")]),
        ([delta(reasoning="a", content="b")], [Reasoning("a"), "b"]),
        ([delta(reasoning="a", content="")], [Reasoning("a")]),
    ],
)
def test_pieces_are_counted_if_the_server_does_not(
    chunks: list[dict[str, Any]], pieces: list[Any]
) -> None:
    handed_over, end = read(*chunks)
    assert handed_over == pieces
    assert end.completion_tokens == len(pieces)
    thoughts = [piece.text for piece in pieces if isinstance(piece, Reasoning)]
    assert end.reasoning == "".join(thoughts)


def test_the_last_counts_and_the_last_reason_are_kept() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 1}
    details = {"completion_tokens_details": {"reasoning_tokens": 3}}
    _, end = read(
        {**delta(content="a"), "usage": usage},
        {"choices": [{"delta": {}, "finish_reason": "length"}], "usage": None},
        {"choices": [], "usage": {**usage, "completion_tokens": 9, **details}},
        {"choices": [{"finish_reason": None}], "usage": {}},
    )
    assert end == GenerationEnd("length", 5, 9, reasoning_tokens=3)
    assert read({"usage": {"completion_tokens": 0}}, delta(content="a"))[1].completion_tokens == 0
    assert read({"usage": {"prompt_tokens": None}}, delta(content="a"))[1].prompt_tokens == 0
    assert read({"usage": {"completion_tokens_details": None, "prompt_tokens": 2}})[1] == (
        GenerationEnd("stop", 2, 0)
    )


@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens"])
def test_counts_that_javascript_cannot_have_are_refused(name: str) -> None:
    _, end = read({"usage": {name: 2**53}})
    assert 2**53 in (end.prompt_tokens, end.completion_tokens)
    for value in (2**53 + 1, -1, "x", [1]):
        with pytest.raises(ApiError, match="the upstream server failed: a chunk is malformed: "):
            read({"usage": {name: value}})


def test_calls_are_put_together_by_their_numbers() -> None:
    chunks = [
        delta(tool_calls=[{"id": "x", **call(1, name="g", arguments="{")}]),
        delta(tool_calls=[call(0, name="f")]),
        delta(tool_calls=[{"id": "y", **call(1, name="h", arguments="}")}]),
        delta(tool_calls=[call(0, arguments={"a": 1}), call(1, arguments=None)]),
    ]
    pieces, end = read(*chunks)
    assert pieces == [""] * 4
    assert list(end.tool_calls) == [
        {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"id": "x", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]


def test_calls_without_numbers_are_in_their_order() -> None:
    _, end = read(delta(tool_calls=[call(name="f"), call(name="g")]))
    assert [(made["id"], made["function"]) for made in end.tool_calls] == [
        ("call_0", {"name": "f", "arguments": "{}"}),
        ("call_1", {"name": "g", "arguments": "{}"}),
    ]


def test_a_call_without_a_name_is_refused() -> None:
    with pytest.raises(ApiError, match="a tool call has no name") as caught:
        read(delta(tool_calls=[call(0, arguments="{}")]))
    assert (caught.value.status, caught.value.code) == (502, 90004)
    for chunk in (delta(tool_calls=[{}]), delta(tool_calls=[{"function": None}])):
        with pytest.raises(ApiError, match="a tool call has no name"):
            read(chunk)


def test_a_caller_that_has_gone_stops_the_generation() -> None:
    pieces: list[Any] = []
    reader = ChunkReader(pieces.append, lambda: len(pieces) == 2)
    chunk = {"choices": [{"delta": {"content": "a"}, "finish_reason": "length"}]}
    assert [reader.read(chunk), reader.read(chunk)] == [False, True]
    assert reader.end().reason == "stopped"
