"""Vectors: similar for paraphrases, independent of the batch."""

import subprocess
import sys
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest

from cfai.local.backends.minilm import CosineReranker, MiniLM
from cfai.local.backends.roles import Pooling
from cfai.local.errors import ApiError

PARAPHRASES = [
    ("How can I cancel my subscription?", "Steps to stop my monthly plan"),
    ("The stock market fell sharply", "Shares dropped a lot today"),
    ("A man is playing a guitar", "Someone strums a musical instrument"),
    ("Best pizza in town", "Where to eat great Italian pie"),
    ("The doctor prescribed antibiotics", "A physician gave medicine for infection"),
    ("She is running in the park", "A woman jogs outdoors"),
    ("Python raises a KeyError", "dictionary lookup of a missing key fails"),
    ("It is raining heavily", "A downpour outside"),
    ("The child is sleeping", "A kid takes a nap"),
    ("My flight was delayed", "The plane departed late"),
    ("Buy a new laptop", "purchase a notebook computer"),
    ("The dog barked all night", "A noisy hound kept us awake"),
]
FIRST, SECOND = zip(*PARAPHRASES, strict=True)


@cache
def model() -> MiniLM:
    return MiniLM()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("dimensions", [384, 768, 1024, 2048])
def test_each_text_is_most_similar_to_its_paraphrase(dimensions: int, pooling: Pooling) -> None:
    first = model().embed(FIRST, dimensions=dimensions, pooling=pooling)
    second = model().embed(SECOND, dimensions=dimensions, pooling=pooling)
    assert first.shape == (12, dimensions)
    assert first.dtype == np.float32
    assert (first @ second.T).argmax(1).tolist() == list(range(12))


def test_the_similarities_match_the_measured_ones() -> None:
    similarity = model().embed(FIRST) @ model().embed(SECOND).T
    same = float(np.diag(similarity).mean())
    other = float((similarity.sum() - np.trace(similarity)) / (12 * 11))
    assert same == pytest.approx(0.60, abs=0.02)
    assert other == pytest.approx(0.04, abs=0.02)


@pytest.mark.parametrize("dimensions", [384, 768, 1024])
def test_vectors_have_length_1(dimensions: int) -> None:
    lengths = np.linalg.norm(model().embed(FIRST, dimensions=dimensions), axis=1)
    assert lengths == pytest.approx(np.ones(12), abs=1e-5)


@pytest.mark.parametrize("dimensions", [768, 1024])
def test_widening_keeps_every_cosine(dimensions: int) -> None:
    small, wide = model().embed(FIRST), model().embed(FIRST, dimensions=dimensions)
    assert np.abs(small @ small.T - wide @ wide.T).max() < 1e-5


def test_the_pooling_is_used() -> None:
    mean, cls = model().embed(["a text"]), model().embed(["a text"], pooling="cls")
    assert float((mean * cls).sum()) < 0.95


def test_a_vector_does_not_depend_on_the_other_texts() -> None:
    texts = ["word " * length for length in (1, 90, 2, 30, 5, 200, 17)]
    together = model().embed(texts)
    alone = np.concatenate([model().embed([text]) for text in texts])
    assert np.abs(together - alone).max() < 1e-6


@pytest.mark.parametrize(
    ("dimensions", "pooling", "beginning"),
    [
        (384, "mean", [-0.0706, -0.0078, 0.0123, 0.0235]),
        (384, "cls", [-0.0629, -0.0213, 0.0030, -0.0137]),
        (768, "mean", [-0.0360, 0.0261, 0.0662, -0.0098]),
        (768, "cls", [-0.0850, 0.0238, 0.0030, 0.0019]),
        (1024, "mean", [-0.0391, 0.0230, 0.0641, -0.0149]),
        (1024, "cls", [-0.0732, 0.0250, 0.0094, -0.0008]),
    ],
)
def test_vectors_that_were_stored_stay_comparable(
    dimensions: int, pooling: Pooling, beginning: list[float]
) -> None:
    """They are those of earlier versions; processors round differently."""
    vector = model().embed(["tea"], dimensions=dimensions, pooling=pooling)[0]
    assert vector[:4] == pytest.approx(beginning, abs=0.006)


def test_text_beyond_the_window_is_dropped() -> None:
    window = model().embed(["word " * 510])
    assert np.array_equal(window, model().embed(["word " * 510 + "a different ending"]))
    assert not np.array_equal(window, model().embed(["word " * 509 + "ending"]))


def test_embedding_stops_when_cancelled() -> None:
    assert not model().embed(["a text"], is_cancelled=lambda: True).any()


def test_the_splitting_of_many_texts_stops_when_cancelled() -> None:
    """It takes seconds, before the first text is embedded."""
    read = []

    class Texts(list[str]):
        def __iter__(self) -> Iterator[str]:
            for text in super().__iter__():
                read.append(text)
                yield text

    texts = Texts(f"text {number}" for number in range(3000))
    vectors = model().embed(texts, is_cancelled=lambda: len(read) >= 5)
    assert (len(read), vectors.shape) == (5, (3000, 384))
    assert not vectors.any()


def test_a_ranking_is_sorted_best_first() -> None:
    contexts = ["Bananas are yellow", "Paris is the capital of France", "France is in Europe"]
    ranked = CosineReranker(model()).rank("What is the capital of France?", contexts)
    assert [index for index, _ in ranked] == [1, 2, 0]
    # Scores as of earlier versions: those of programs with a threshold.
    scores = [score for _, score in ranked]
    assert scores == pytest.approx([0.9986, 0.9904, 0.0276], abs=0.005)


def test_the_score_of_a_cosine() -> None:
    """A half at 0.3; the same text has nearly 1."""
    query, *contexts = PARAPHRASES[0][0], PARAPHRASES[0][0], *FIRST[1:], *SECOND
    vectors = model().embed([query, *contexts])
    for index, score in CosineReranker(model()).rank(query, contexts):
        cosine = float(vectors[index + 1] @ vectors[0])
        assert np.log(score / (1 - score)) == pytest.approx((cosine - 0.3) * 12, abs=0.05)


def test_the_most_texts_of_a_request() -> None:
    """Each has three tokens at least: the two marks and one of its own."""
    assert model().embed(["a"] * 20_000, is_cancelled=lambda: True).shape == (20_000, 384)
    with pytest.raises(ApiError, match="Max context reached 60003 tokens"):
        model().embed(["a"] * 20_001, is_cancelled=lambda: True)


def test_warming_loads_the_model_and_runs_it_once() -> None:
    """So that the first request does not wait for it. In a process of its own, where nothing is."""
    code = """
from cfai.local import backends
backends.warm_embedder()
assert "onnxruntime" in __import__("sys").modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
