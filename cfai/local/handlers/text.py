"""Handlers of text tasks with a single result: labels, rankings, summaries and vectors.

Everything here blocks and runs in a worker thread.
"""

from typing import Any

from cfai.local import backends, errors
from cfai.local.backends import wordpiece
from cfai.local.backends.minilm import WINDOW
from cfai.local.backends.roles import IsCancelled, Pooling, Reranker, TextEmbedder
from cfai.local.handlers import vision
from cfai.local.models import ServedModel
from cfai.local.requests import (
    JsonBody,
    check_fields,
    check_names,
    missing_fields,
    read_contexts,
)
from cfai.tasks import (
    MultimodalEmbeddings,
    Rerank,
    Summarization,
    TextClassification,
    TextEmbeddings,
)
from cfai.tasks.task import shorten

_DEFAULT_MAX_LENGTH = 1024
"""In tokens. Source: Workers AI API, input "Summarization"."""


def classify(model: ServedModel, body: JsonBody, is_cancelled: IsCancelled) -> tuple[Any, str]:
    """Answer a text classification."""
    check_names(body, "text")
    check_fields(TextClassification, body)
    backend = backends.classifier()
    labels = backend.classify(body["text"])
    return [{"label": label, "score": score} for label, score in labels], backend.name


def summarize(model: ServedModel, body: JsonBody, is_cancelled: IsCancelled) -> tuple[Any, str]:
    """Answer a summarization."""
    check_names(body, "input_text", "max_length")
    check_fields(Summarization, body)
    max_length = body.get("max_length")
    limit = _DEFAULT_MAX_LENGTH if max_length is None else int(max_length)
    if limit < 1:
        raise errors.bad_input(f"max_length must be at least 1, got {max_length}")
    backend = backends.summarizer()
    summary = backend.summarize(body["input_text"], max_tokens=limit)
    if not body["input_text"].strip():
        raise errors.bad_input(f"input_text must have words, got {shorten(body['input_text'])}")
    if not summary:
        raise errors.bad_input(f"max_length is too low for any word of the text, got {max_length}")
    return {"summary": summary}, backend.name


def rerank(
    model: ServedModel,
    body: JsonBody,
    is_cancelled: IsCancelled,
    *also: str,
    backend: Reranker | None = None,
) -> tuple[Any, str]:
    """Answer a reranking: the index and the score of each context, best first.

    The fields *also* are allowed. Without a *backend*, the local one ranks.
    """
    check_names(body, "query", "contexts", "top_k", *also)
    check_fields(Rerank, body)
    contexts = read_contexts(body)
    backend = backend or backends.reranker()
    ranking = backend.rank(body["query"], contexts, is_cancelled=is_cancelled)[: body.get("top_k")]
    return {"response": [{"id": index, "score": score} for index, score in ranking]}, backend.name


def embed(
    model: ServedModel,
    body: JsonBody,
    is_cancelled: IsCancelled,
    backend: TextEmbedder | None = None,
) -> tuple[Any, str]:
    """Answer with vectors; or, as bge-m3 does, with a ranking of contexts by a query.

    Without a *backend*, the local one embeds.
    """
    if model.takes_image and body.get("image") is not None:
        if backend is not None:
            raise errors.not_supported("an upstream server embeds only texts")
        return _embed_image(model, body, is_cancelled)
    with_contexts = model.takes_contexts and body.get("contexts") is not None
    if with_contexts and body.get("query") is not None:
        if backend is not None:
            raise errors.not_supported("an upstream server ranks only for models of Reranking")
        _check_truncation(body, [body["query"], *read_contexts(body)])
        return rerank(model, body, is_cancelled, "truncate_inputs")
    if with_contexts:
        check_names(body, "contexts", *_EMBEDDING_OPTIONS)
        texts = read_contexts(body)
    else:
        texts = _collect_texts(model, body)
    if backend is None:
        _check_truncation(body, texts)
    else:
        _refuse_options(body)
    pooling: Pooling = "cls" if body.get("pooling") == "cls" else "mean"
    embedder = backend or backends.embedder()
    vectors = embedder.embed(
        texts, dimensions=model.dimensions, pooling=pooling, is_cancelled=is_cancelled
    )
    result = {"shape": list(vectors.shape), "response" if with_contexts else "data": vectors}
    # Models of other vendors do not report their pooling, and that of another server is not known.
    if backend is None and model.name.startswith("@cf/baai/"):
        result["pooling"] = pooling
    return result, embedder.name


def _embed_image(model: ServedModel, body: JsonBody, is_cancelled: IsCancelled) -> tuple[Any, str]:
    """Answer with the vector of the image, and then those of the texts, if there are any.

    Source of the fields: Workers AI API, input "Multimodal Embeddings". The order is not
    documented.
    """
    import numpy as np

    check_names(body, "image", "text")
    check_fields(MultimodalEmbeddings, {**body, "image": "-"})
    texts = body.get("text") or []
    image = vision.read_pixels(body, is_cancelled)
    backend = backends.image_embedder()
    vectors = [backend.embed(image, dimensions=model.dimensions)]
    if texts:
        vectors += list(
            backends.embedder().embed(
                texts, dimensions=model.dimensions, pooling="mean", is_cancelled=is_cancelled
            )
        )
    return {"shape": [len(vectors), model.dimensions], "data": np.stack(vectors)}, backend.name


_EMBEDDING_OPTIONS = ("pooling", "truncate_inputs")


def _check_truncation(body: JsonBody, texts: list[Any]) -> None:
    """Refuse texts that are too long, if the request says that they must not be truncated."""
    if body.get("truncate_inputs") is not False:
        return
    for text in texts:
        # One more than the model reads, so that a longer text is noticed.
        if isinstance(text, str) and len(wordpiece.encode(text, max_tokens=WINDOW + 1)) > WINDOW:
            raise errors.bad_input(
                f"truncate_inputs must be true for a text of more than {WINDOW} tokens, the window "
                f"of the local model, got {shorten(text)}"
            )


def _refuse_options(body: JsonBody) -> None:
    for name in _EMBEDDING_OPTIONS:
        if body.get(name) is not None:
            raise errors.bad_input(
                f"{name} must be omitted: the upstream server's protocol does not have it"
            )


def _collect_texts(model: ServedModel, body: JsonBody) -> list[str]:
    """Return the texts to embed, from every field that the model reads."""
    instruction = body.get("instruction") if "queries" in model.text_fields else None
    used = model.text_fields if instruction is None else (*model.text_fields, "instruction")
    check_names(body, *used, *_EMBEDDING_OPTIONS)
    names = [name for name in model.text_fields if body.get(name) is not None]
    if not names:
        raise missing_fields(model.text_fields[0])
    if instruction is not None and "queries" not in names:
        raise errors.bad_input("instruction must be omitted without queries: only they get it")
    texts: list[str] = []
    for name in names:
        # Some models take the same texts in other fields; the rules are those of `text`.
        check_fields(TextEmbeddings, {**body, "text": body[name]}, {"text": name})
        values = [body[name]] if isinstance(body[name], str) else body[name]
        limit = model.texts_per_request
        if limit is not None and len(values) > limit:
            raise errors.bad_input(f"{name} must have at most {limit} items, got {len(values)}")
        texts += values if name != "queries" else _instruct(instruction, values)
    return texts


def _instruct(instruction: Any, queries: list[str]) -> list[str]:
    """Put the instruction before each query, in the format of the card of qwen3-embedding."""
    if instruction is None:
        return queries
    if not isinstance(instruction, str):
        raise errors.bad_input(f"instruction must be a string, got {shorten(instruction)}")
    return [f"Instruct: {instruction}\nQuery:{query}" for query in queries]
