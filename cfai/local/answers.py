"""What is answered in one piece: labels, rankings, summaries and vectors, in the service's form.

Everything here blocks, and runs in a thread of a crew.
"""

from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen

from cfai.local import backends, checks
from cfai.local.backends.roles import Pooling, Stopped
from cfai.local.checks import Body
from cfai.local.faults import bad_input
from cfai.local.models import Model
from cfai.tasks import Rerank, Summarization, TextClassification, TextEmbeddings

_LONGEST_SUMMARY = 1024
"""In tokens, where `max_length` is left out: the default of @cf/facebook/bart-large-cnn."""


@frozen
class Answered:
    """A result, and the name of the backend that it comes from."""

    result: Any
    backend: str


def classify(model: Model, body: Body, stopped: Stopped) -> Answered:
    """Answer a text classification."""
    checks.check(TextClassification, body)
    backend = backends.classifier()
    found = backend.classify(body["text"])
    return Answered([{"label": label, "score": score} for label, score in found], backend.name)


def summarize(model: Model, body: Body, stopped: Stopped) -> Answered:
    """Answer a summarization."""
    checks.check(Summarization, body)
    at_most = body.get("max_length")
    longest = _LONGEST_SUMMARY if at_most is None else int(at_most)
    if longest < 1:
        raise bad_input(f"max_length must be at least 1, got {at_most}")
    backend = backends.summarizer()
    summary = backend.summarize(body["input_text"], at_most=longest)
    return Answered({"summary": summary}, backend.name)


def rerank(model: Model, body: Body, stopped: Stopped) -> Answered:
    """Answer a reranking: the index and the score of each context, the best first."""
    checks.check(Rerank, body)
    contexts = checks.contexts(body)
    backend = backends.ranker()
    ranked = backend.rank(body["query"], contexts, stopped=stopped)[: body.get("top_k")]
    found = [{"id": index, "score": score} for index, score in ranked]
    return Answered({"response": found}, backend.name)


def embed(model: Model, body: Body, stopped: Stopped) -> Answered:
    """Answer with vectors; or, as bge-m3 does, with how near each context is to a query."""
    if not model.takes_contexts or body.get("contexts") is None:
        return _embed(model, body, _texts(model, body), stopped, called="data")
    if body.get("query") is None:
        return _embed(model, body, checks.contexts(body), stopped, called="response")
    return rerank(model, body, stopped)


def _embed(
    model: Model, body: Body, texts: list[str], stopped: Stopped, *, called: str
) -> Answered:
    pooling: Pooling = "cls" if body.get("pooling") == "cls" else "mean"
    backend = backends.embedder()
    vectors = backend.embed(texts, dimensions=model.dimensions, pooling=pooling, stopped=stopped)
    result = {"shape": list(vectors.shape), called: vectors}
    # The models of others do not say how they pool.
    if model.name.startswith("@cf/baai/"):
        result["pooling"] = pooling
    return Answered(result, backend.name)


def _texts(model: Model, body: Body) -> list[str]:
    """Give the texts to embed, from each field that the model takes them in."""
    given = [name for name in model.text_fields if body.get(name) is not None]
    if not given:
        raise checks.missing(model.text_fields[0])
    found: list[str] = []
    for name in given:
        # The rules are those of the field `text`; some models take the same in others too.
        checks.check(TextEmbeddings, {**body, "text": body[name]})
        found += checks.texts(name, body[name], at_most=model.texts_per_request)
    return found


Answer = Callable[[Model, Body, Stopped], Answered]

ANSWERS: Mapping[str, Answer] = {
    "Reranking": rerank,
    "Summarization": summarize,
    "Text Classification": classify,
    "Text Embeddings": embed,
}
"""Who answers which task."""
