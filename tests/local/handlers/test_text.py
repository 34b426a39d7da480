"""Results of text tasks, in the exact format of the service."""

import re
import time
from typing import Any

import pytest

from cfai.local.backends.wordpiece import count_tokens
from cfai.profiles import TASKS
from tests.local.conftest import Local

BGE = "@cf/baai/bge-{}-en-v1.5"
SUMMARIZER = next(model for model, task in TASKS.items() if task == "Summarization")
M3 = "@cf/baai/bge-m3"


async def test_a_classification_is_a_plain_list(local: Local) -> None:
    reply = await local.post(
        "@cf/huggingface/distilbert-sst-2-int8", b'{"text":"This pizza is great!"}'
    )
    assert reply.headers["cfai-backend"] == "vader"
    assert reply.body == (
        b'{"result":[{"label":"NEGATIVE","score":0.1706},{"label":"POSITIVE","score":0.8294}],'
        b'"success":true,"errors":[],"messages":[]}'
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"input_text": " \n "}, "input_text must have words"),
        ({"input_text": "Antidisestablishmentarianism won.", "max_length": 1}, "max_length is too"),
        ({"input_text": "Tea is hot.", "max_length": 0}, "max_length must be at least 1"),
    ],
)
async def test_an_empty_summary_is_an_error(
    local: Local, fields: dict[str, Any], words: str
) -> None:
    reply = await local.post(SUMMARIZER, fields)
    assert reply.error[:2] == (400, 5006)
    assert words in reply.error[2]


async def test_a_summary_consists_of_sentences_of_the_text(local: Local) -> None:
    body = (
        b'{"input_text":"The harbour of Ostend was rebuilt in 1931. A bakery opened. '
        b'The rebuilt harbour gave boats a safe place.","max_length":20}'
    )
    reply = await local.post(SUMMARIZER, body)
    assert reply.headers["cfai-backend"] == "textrank"
    assert reply.body == (
        b'{"result":{"summary":"The harbour of Ostend was rebuilt in 1931."},'
        b'"success":true,"errors":[],"messages":[]}'
    )


async def test_a_ranking_is_sorted_best_first(local: Local) -> None:
    body = (
        b'{"query":"What is the capital of France?","contexts":[{"text":"Bananas are yellow"},'
        b'{"text":"Paris is the capital of France"},{"text":"France is in Europe"}]}'
    )
    reply = await local.post("@cf/baai/bge-reranker-base", body)
    assert reply.headers["cfai-backend"] == "minilm-int8"
    ranking = reply.result["response"]
    assert [row["id"] for row in ranking] == [1, 2, 0]
    assert all(set(row) == {"id", "score"} for row in ranking)
    scores = [row["score"] for row in ranking]
    assert scores == sorted(scores, reverse=True)
    assert 0 < scores[-1] < scores[0] < 1


@pytest.mark.parametrize(("top", "rows"), [(1, 1), (2, 2), (9, 3)])
async def test_top_k_limits_the_ranking(local: Local, top: int, rows: int) -> None:
    body = {"query": "a", "contexts": [{"text": "a"}, {"text": "b"}, {"text": "c"}], "top_k": top}
    reply = await local.post("@cf/baai/bge-reranker-base", body)
    assert len(reply.result["response"]) == rows


@pytest.mark.parametrize(("size", "width"), [("small", 384), ("base", 768), ("large", 1024)])
async def test_vectors_have_the_dimensions_of_the_requested_model(
    local: Local, size: str, width: int
) -> None:
    reply = await local.post(BGE.format(size), b'{"text":["one","two","one"]}')
    assert reply.headers["cfai-backend"] == "minilm-int8"
    assert list(reply.result) == ["shape", "data", "pooling"]
    assert reply.result["shape"] == [3, width]
    assert reply.result["pooling"] == "mean"
    first, second, third = reply.result["data"]
    assert len(first) == len(second) == width
    assert first == pytest.approx(third, abs=1e-6)
    assert first != pytest.approx(second, abs=1e-6)


async def test_a_single_text_gives_one_row(local: Local) -> None:
    reply = await local.post(BGE.format("small"), b'{"text":"one"}')
    assert re.match(rb'\{"result":\{"shape":\[1,384\],"data":\[\[-?0\.\d+', reply.body)


async def test_a_hundred_texts_are_accepted(local: Local) -> None:
    reply = await local.post(BGE.format("small"), {"text": ["x"] * 100})
    assert reply.result["shape"] == [100, 384]


async def test_the_requested_pooling_is_used(local: Local) -> None:
    mean = (await local.post(BGE.format("small"), b'{"text":"a text"}')).result
    cls = (await local.post(BGE.format("small"), b'{"text":"a text","pooling":"cls"}')).result
    assert (mean["pooling"], cls["pooling"]) == ("mean", "cls")
    assert mean["data"] != cls["data"]


async def test_bge_m3_answers_in_three_forms(local: Local) -> None:
    text = (await local.post(M3, b'{"text":"a"}')).result
    assert (text["shape"], len(text["data"])) == ([1, 1024], 1)
    contexts = (await local.post(M3, b'{"contexts":[{"text":"a"},{"text":"b"}]}')).result
    assert (contexts["shape"], len(contexts["response"])) == ([2, 1024], 2)
    assert contexts["response"][0] == pytest.approx(text["data"][0], abs=1e-6)
    both = (await local.post(M3, b'{"query":"a","contexts":[{"text":"b"},{"text":"a"}]}')).result
    assert list(both) == ["response"]
    assert [row["id"] for row in both["response"]] == [1, 0]


async def test_a_summary_without_a_limit_has_at_most_1024_tokens(local: Local) -> None:
    text = " ".join(f"Boats of the harbour number {number}." for number in range(900))
    plain = (await local.post(SUMMARIZER, {"input_text": text})).result["summary"]
    limited = (await local.post(SUMMARIZER, {"input_text": text, "max_length": 1024})).result
    assert limited["summary"] == plain
    assert 1000 < count_tokens(plain) <= 1024
    less = (await local.post(SUMMARIZER, {"input_text": text, "max_length": 1023})).result
    assert count_tokens(less["summary"]) <= 1023


@pytest.mark.parametrize(("words", "status"), [(510, 200), (511, 400)])
async def test_texts_beyond_the_window_are_refused_if_they_must_not_be_cut(
    local: Local, words: int, status: int
) -> None:
    """Of 512 tokens, with the two marks; in every form of a request."""
    text = "word " * words
    m3: list[dict[str, Any]] = [
        {"text": text},
        {"text": ["a", text]},
        {"contexts": [{"text": "a"}, {"text": text}]},
        {"query": text, "contexts": [{"text": "a"}]},
        {"query": "a", "contexts": [{"text": text}]},
    ]
    for body in m3:
        reply = await local.post(M3, {**body, "truncate_inputs": False})
        assert reply.status == status
        if status == 400:
            assert "truncate_inputs must be true for a text of more than 512" in reply.error[2]


async def test_a_hundred_texts_are_the_most(local: Local) -> None:
    limits = {M3: 100, BGE.format("small"): 100, "@cf/qwen/qwen3-embedding-0.6b": 32}
    for model, limit in limits.items():
        assert (await local.post(model, {"text": ["x"] * limit})).result["shape"][0] == limit
        reply = await local.post(model, {"text": ["x"] * (limit + 1)})
        assert f"text must have at most {limit} items, got {limit + 1}" in reply.error[2]


async def test_the_pooling_is_reported_by_models_of_baai(local: Local) -> None:
    for model, body in ((M3, {"text": "a"}), (M3, {"contexts": [{"text": "a"}]})):
        assert (await local.post(model, body)).result["pooling"] == "mean"
    gemma = (await local.post("@cf/google/embeddinggemma-300m", {"text": "a"})).result
    assert (list(gemma), gemma["shape"]) == (["shape", "data"], [1, 768])


async def test_qwen_reads_texts_from_several_fields(local: Local) -> None:
    model = "@cf/qwen/qwen3-embedding-0.6b"
    queries = (await local.post(model, b'{"queries":"a"}')).result
    assert list(queries) == ["shape", "data"]
    both = (await local.post(model, b'{"queries":"a","documents":["b","c"]}')).result
    assert both["shape"] == [3, 1024]
    assert both["data"][0] == pytest.approx(queries["data"][0], abs=1e-6)


# Inputs of many megabytes, which a thread would work on for minutes...

LONG = {
    "words": "word " * 4_000_000,
    "one word": "a" * 20_000_000,
    "initials": "A. " * 7_000_000,
    "accents": "\u0301\u0316" * 5_000_000,
    "punctuation": "!?" * 10_000_000,
    "spaces": " " * 20_000_000,
}


def seconds_since(start: float) -> float:
    """Of processor time, the server's included: a busy machine changes it little."""
    return time.process_time() - start


@pytest.mark.parametrize("text", LONG)
@pytest.mark.parametrize(
    ("model", "field", "limit"),
    [
        ("@cf/huggingface/distilbert-sst-2-int8", "text", 20_000),
        (SUMMARIZER, "input_text", 100_000),
    ],
)
async def test_a_text_far_beyond_the_model_is_refused_at_once(
    local: Local, model: str, field: str, limit: int, text: str
) -> None:
    """With the status and the code of a prompt that is too long."""
    start = time.process_time()
    reply = await local.post(model, {field: LONG[text]})
    status, code, message = reply.error
    assert (status, code) == (400, 5006)
    given = len(LONG[text])
    assert f"{field} has {given} characters, more than the {limit} that the local" in message
    assert seconds_since(start) < 30


@pytest.mark.parametrize("text", LONG)
async def test_of_a_long_text_only_the_beginning_is_embedded(local: Local, text: str) -> None:
    """In all three tasks that compare vectors."""
    start = time.process_time()
    reply = await local.post(BGE.format("small"), {"text": [LONG[text], "b"]})
    assert reply.result["shape"] == [2, 384]
    bodies = {
        "@cf/baai/bge-reranker-base": {"query": LONG[text], "contexts": [{"text": "b"}]},
        M3: {"query": "a", "contexts": [{"text": LONG[text]}, {"text": "b"}]},
    }
    for model, body in bodies.items():
        reply = await local.post(model, body)
        assert len(reply.result["response"]) == len(body["contexts"])
    assert seconds_since(start) < 60


async def test_more_texts_than_any_context_holds_are_refused_at_once(local: Local) -> None:
    """With the code and the words of bge-m3, as captured live. A text has at least 3 tokens."""
    contexts = [{"text": "a"}] * 1_000_000
    bodies = {
        "@cf/baai/bge-reranker-base": {"query": "a", "contexts": contexts},
        M3: {"query": "a", "contexts": contexts},
    }
    for model, body in bodies.items():
        start = time.process_time()
        reply = await local.post(model, body)
        status, code, message = reply.error
        assert (status, code) == (400, 3030)
        assert "Max context reached 3000003 tokens but model supports only 60000" in message
        assert seconds_since(start) < 30
