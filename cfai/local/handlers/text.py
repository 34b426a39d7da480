"""Handlers of text tasks with a single result: labels, rankings, summaries and vectors.

Everything here blocks and runs in a worker thread.
"""

from typing import Any

from cfai.local import backends, errors
from cfai.local.backends.roles import IsCancelled, Pooling
from cfai.local.models import ServedModel
from cfai.local.requests import JsonBody, check_fields, missing_fields, read_contexts
from cfai.tasks import Rerank, Summarization, TextClassification, TextEmbeddings

_DEFAULT_MAX_LENGTH = 1024
"""In tokens. Source: Workers AI API, input "Summarization"."""


def classify(model: ServedModel, body: JsonBody, is_cancelled: IsCancelled) -> tuple[Any, str]:
    """Answer a text classification."""
    check_fields(TextClassification, body)
    backend = backends.classifier()
    labels = backend.classify(body["text"])
    return [{"label": label, "score": score} for label, score in labels], backend.name


def summarize(model: ServedModel, body: JsonBody, is_cancelled: IsCancelled) -> tuple[Any, str]:
    """Answer a summarization."""
    check_fields(Summarization, body)
    max_length = body.get("max_length")
    limit = _DEFAULT_MAX_LENGTH if max_length is None else int(max_length)
    if limit < 1:
        raise errors.bad_input(f"max_length must be at least 1, got {max_length}")
    backend = backends.summarizer()
    summary = backend.summarize(body["input_text"], max_tokens=limit)
    return {"summary": summary}, backend.name


def rerank(model: ServedModel, body: JsonBody, is_cancelled: IsCancelled) -> tuple[Any, str]:
    """Answer a reranking: the index and the score of each context, best first."""
    check_fields(Rerank, body)
    contexts = read_contexts(body)
    backend = backends.reranker()
    ranking = backend.rank(body["query"], contexts, is_cancelled=is_cancelled)[: body.get("top_k")]
    return {"response": [{"id": index, "score": score} for index, score in ranking]}, backend.name


def embed(model: ServedModel, body: JsonBody, is_cancelled: IsCancelled) -> tuple[Any, str]:
    """Answer with vectors; or, as bge-m3 does, with a ranking of contexts by a query."""
    with_contexts = model.takes_contexts and body.get("contexts") is not None
    if with_contexts and body.get("query") is not None:
        return rerank(model, body, is_cancelled)
    texts = read_contexts(body) if with_contexts else _collect_texts(model, body)
    pooling: Pooling = "cls" if body.get("pooling") == "cls" else "mean"
    backend = backends.embedder()
    vectors = backend.embed(
        texts, dimensions=model.dimensions, pooling=pooling, is_cancelled=is_cancelled
    )
    result = {"shape": list(vectors.shape), "response" if with_contexts else "data": vectors}
    # Models of other vendors do not report their pooling.
    if model.name.startswith("@cf/baai/"):
        result["pooling"] = pooling
    return result, backend.name


def _collect_texts(model: ServedModel, body: JsonBody) -> list[str]:
    """Return the texts to embed, from every field that the model reads."""
    names = [name for name in model.text_fields if body.get(name) is not None]
    if not names:
        raise missing_fields(model.text_fields[0])
    texts: list[str] = []
    for name in names:
        # Some models take the same texts in other fields; the rules are those of `text`.
        check_fields(TextEmbeddings, {**body, "text": body[name]})
        values = [body[name]] if isinstance(body[name], str) else body[name]
        limit = model.texts_per_request
        if limit is not None and len(values) > limit:
            raise errors.bad_input(f"{name} must have at most {limit} items, got {len(values)}")
        texts += values
    return texts
