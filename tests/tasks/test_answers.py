"""Answers as values: comparison, sequences, plain dictionaries and files."""

import json
import pickle
from array import array
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from cfai.errors import InputError
from cfai.meta import Meta
from cfai.tasks import (
    Answer,
    Box,
    Description,
    Detection,
    Detections,
    Embeddings,
    Image,
    Label,
    Labels,
    Ranked,
    Ranking,
    Result,
    Segment,
    Summary,
    Text,
    Token,
    ToolCall,
    ToolCallDelta,
    Transcript,
    Translated,
    Usage,
    Word,
)

PNG = b"\x89PNG\r\n\x1a\n"
PNG_URI = "data:image/png;base64,iVBORw0KGgo="
WEATHER = {"type": "object", "properties": {"city": {"type": "string", "description": "Where"}}}

THOUGHTS = Text("", reasoning="Let me see", finish_reason="length")


@pytest.mark.parametrize(
    ("answer", "has_hint"),
    [
        (THOUGHTS, True),
        (evolve(THOUGHTS, reasoning="", usage=Usage(reasoning_tokens=400)), True),
        (evolve(THOUGHTS, text=" \n"), True),
        (evolve(THOUGHTS, text="So"), False),
        (evolve(THOUGHTS, finish_reason="stop"), False),
        (evolve(THOUGHTS, finish_reason=None), False),
        (evolve(THOUGHTS, reasoning=""), False),
        (evolve(THOUGHTS, reasoning="", usage=Usage(1, 1, 2)), False),
        (evolve(THOUGHTS, tool_calls=(ToolCall("f"),)), False),
    ],
)
def test_a_text_that_was_used_up_by_reasoning_has_a_hint(answer: Text, has_hint: bool) -> None:
    """It names what to change. Other answers have none."""
    assert (answer.hint is not None) == has_hint
    if has_hint:
        assert answer.hint == (
            "the reasoning used up all tokens: raise max_tokens, or reduce it with thinking=False "
            "or reasoning_effort"
        )
    assert "hint" not in answer.to_dict()


BILLED = Text("", usage=Usage(10, 40, 50))


@pytest.mark.parametrize(
    ("answer", "has_hint"),
    [
        (BILLED, True),
        (evolve(BILLED, finish_reason="stop"), True),
        (evolve(BILLED, usage=None), False),
        (evolve(BILLED, usage=Usage(10, 0, 10)), False),
        (evolve(BILLED, usage=Usage(10, 1, 11)), False),
        (evolve(BILLED, usage=Usage(10, 2, 12)), True),
        (evolve(BILLED, text="So"), False),
        (evolve(BILLED, text=" "), False),
        (evolve(BILLED, reasoning="Let me see"), False),
        (evolve(BILLED, tool_calls=(ToolCall("f"),)), False),
    ],
)
def test_tokens_that_never_arrived_have_a_hint(answer: Text, has_hint: bool) -> None:
    """As llama-4-scout's did, in streams with tools. An empty answer has one token, its end."""
    assert (answer.hint is not None) == has_hint
    if has_hint:
        count = answer.usage.completion_tokens if answer.usage else None
        assert answer.hint == (
            f"the model generated {count} tokens, but sent no text: call run() if it streamed"
        )


META = Meta(status=200, ray_id="8f1")


def test_answers_are_compared_without_meta_and_raw() -> None:
    assert Text("hi", meta=META, raw={"response": "hi"}) == Text("hi")
    assert repr(Text("hi", meta=META, raw={"secret": 1})) == repr(Text("hi"))
    assert Text("hi", meta=META).meta is META
    assert Text("hi").meta == Meta()


@pytest.mark.parametrize(
    ("answer", "plain"),
    [
        (
            Text("hi", tool_calls=(ToolCall("f", {"a": 1}),), usage=Usage(1, 2, 3)),
            {
                "text": "hi",
                "parsed": None,
                "tool_calls": [{"name": "f", "arguments": {"a": 1}, "id": None}],
                "reasoning": "",
                "finish_reason": None,
                "usage": {
                    "prompt_tokens": 1,
                    "completion_tokens": 2,
                    "total_tokens": 3,
                    "cached_tokens": None,
                    "reasoning_tokens": None,
                    "neurons": None,
                },
            },
        ),
        (Labels((Label("good", 0.9),)), {"items": [{"label": "good", "score": 0.9}]}),
        (
            Detections((Detection("cat", 0.9, Box(1, 2, 3, 4)),)),
            {
                "items": [
                    {
                        "label": "cat",
                        "score": 0.9,
                        "box": {"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4},
                    }
                ]
            },
        ),
        (
            Image(PNG, "image/png", usage=Usage(3, 0, 3)),
            {
                "data": "iVBORw0KGgo=",
                "media_type": "image/png",
                "usage": {
                    "prompt_tokens": 3,
                    "completion_tokens": 0,
                    "total_tokens": 3,
                    "cached_tokens": None,
                    "reasoning_tokens": None,
                    "neurons": None,
                },
            },
        ),
        (
            Embeddings((1, 2), array("f", [1, 0.5]), pooling="cls"),
            {"shape": [1, 2], "pooling": "cls", "usage": None, "vectors": [[1.0, 0.5]]},
        ),
        (
            Transcript("hi", segments=(Segment("hi", 0, 1, (Word("hi", 0, 1),)),)),
            {
                "text": "hi",
                "vtt": None,
                "word_count": None,
                "words": [],
                "segments": [
                    {
                        "text": "hi",
                        "start": 0,
                        "end": 1,
                        "words": [{"word": "hi", "start": 0, "end": 1}],
                    }
                ],
                "info": None,
            },
        ),
        (
            Ranking((Ranked(1, 0.5, "so"),)),
            {"items": [{"id": 1, "score": 0.5, "text": "so"}], "usage": None},
        ),
        (Translated("uno"), {"text": "uno"}),
        (Summary("short"), {"text": "short"}),
        (Description("a cat", "stop"), {"text": "a cat", "finish_reason": "stop"}),
        (Result({"a": [1, {"b": None}]}), {"value": {"a": [1, {"b": None}]}}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_answers_become_plain_dictionaries(answer: Answer, plain: dict[str, Any]) -> None:
    """Any JSON encoder accepts them, and they can be pickled."""
    assert answer.to_dict() == plain
    assert json.loads(json.dumps(answer.to_dict())) == plain
    assert pickle.loads(pickle.dumps(answer)) == answer  # noqa: S301  # our own


def test_labels_are_a_sequence_with_a_best() -> None:
    low, high = Label("bad", 0.1), Label("good", 0.9)
    labels = Labels((low, high))

    assert list(labels) == [low, high]
    assert labels.best == labels[-1] == high
    assert labels[:1] == (low,)
    assert (len(labels), high in labels, labels.index(high)) == (2, True, 1)
    assert not Labels()
    with pytest.raises(ValueError, match="empty"):
        _ = Labels().best


def test_detections_and_rankings_are_sequences() -> None:
    detection = Detection("cat", 0.9, Box(1, 2, 3, 4))
    ranked = Ranked(1, 0.5)

    assert list(Detections((detection,))) == [detection] == list(Detections((detection,))[:])
    assert list(Ranking((ranked,))) == [ranked] == list(Ranking((ranked,))[:])


@pytest.mark.parametrize(
    "answer",
    [
        Text("hi"),
        Token("hi"),
        Translated("hi"),
        Summary("hi"),
        Description("hi"),
        Transcript("hi"),
    ],
)
def test_str_of_text_answers_is_the_text(answer: object) -> None:
    assert f"{answer}" == "hi"


def test_tokens_are_compared_without_raw() -> None:
    token = Token(tool_calls=(ToolCallDelta(0, arguments="{"),), raw={"p": "x"})

    assert token == Token(tool_calls=(ToolCallDelta(0, arguments="{"),))
    assert str(token) == ""
    assert "raw" not in repr(token)


def test_save_writes_the_file_and_returns_its_path(tmp_path: Path) -> None:
    image = Image(PNG, "image/png")
    saved = image.save(tmp_path / "cat.png")

    assert saved.read_bytes() == PNG
    assert image.save(str(saved)) == saved
    assert "PNG" not in repr(image)


@pytest.mark.parametrize("path", ["a\0.png", "a\ud800.png", ""])
def test_a_path_that_no_file_can_have_is_refused(path: str) -> None:
    with pytest.raises(InputError, match="path must be") as caught:
        Image(PNG, "image/png").save(path)
    str(caught.value).encode()


def test_embeddings_are_rows() -> None:
    vectors = Embeddings((3, 2), array("f", [1, 2, 3, 4, 5, 6]))

    assert len(vectors) == 3
    assert vectors[1] == vectors[-2] == array("f", [3, 4])
    assert vectors[1:] == [array("f", [3, 4]), array("f", [5, 6])]
    assert list(vectors) == vectors.vectors
    assert vectors.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert "array" not in repr(vectors)
    with pytest.raises(IndexError):
        vectors[3]


def test_embeddings_share_their_memory_with_numpy() -> None:
    vectors = Embeddings((2, 2), array("f", [1, 2, 3, 4]))
    seen = vectors.numpy()
    vectors.buffer[0] = 9

    assert seen.shape == (2, 2)
    assert seen.dtype == "float32"
    assert seen[0, 0] == 9
    assert Embeddings((0, 0), array("f")).numpy().shape == (0, 0)


def test_results_can_be_indexed() -> None:
    assert Result({"a": 1})["a"] == 1
    assert Result([1, 2])[0] == 1
    assert "a" in Result({"a": 1})
    assert "a" not in Result("abc")
