"""Backends: the local models, one module each, loaded on first use and shared by the process.

`roles` defines the interface of each kind of backend. A new backend is a module here, a protocol
in `roles` if its kind is new, and a function below. If something it needs is missing, loading it
raises an `ApiError` that says so.
"""

import platform
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from cfai.local import weights
from cfai.local.backends.roles import (
    Reranker,
    TextClassifier,
    TextEmbedder,
    TextGenerator,
    TextSummarizer,
)
from cfai.local.errors import not_supported

T = TypeVar("T")

_loaded: dict[str, Any] = {}
_loading = threading.RLock()


def text_generator() -> TextGenerator:
    """Return SmolLM2. The first call loads it, which takes about a second."""
    return _load_once("text generator", _load_smollm2)


def embedder() -> TextEmbedder:
    """Return MiniLM. The first call loads it."""
    return _load_once("embedder", _load_minilm)


def reranker() -> Reranker:
    """Return the reranker that compares MiniLM's vectors."""
    return _load_once("reranker", _load_cosine_reranker)


def classifier() -> TextClassifier:
    """Return VADER."""
    return _load_once("classifier", _load_vader)


def summarizer() -> TextSummarizer:
    """Return TextRank."""
    return _load_once("summarizer", _load_textrank)


def _load_once(name: str, load: Callable[[], T]) -> T:
    backend: T | None = _loaded.get(name)
    if backend is not None:
        return backend
    # One at a time: loading a model twice would take its memory twice.
    with _loading:
        if name not in _loaded:
            try:
                _loaded[name] = load()
            except ImportError as exc:
                message = f"this needs {exc.name}: pip install 'cfai-sdk[local]'"
                raise not_supported(message) from exc
        shared: T = _loaded[name]
        return shared


def _load_smollm2() -> TextGenerator:
    from cfai.local.backends import smollm2

    path = weights.find()
    if path is None:
        raise not_supported("the text model's weights are missing: download them with `cfai pull`")
    if platform.machine().lower() in {"x86_64", "amd64"}:
        smollm2.check_processor(smollm2.processor_flags())
    return smollm2.SmolLM2(path)


def _load_minilm() -> TextEmbedder:
    from cfai.local.backends.minilm import MiniLM

    return MiniLM()


def _load_cosine_reranker() -> Reranker:
    from cfai.local.backends.minilm import CosineReranker

    return CosineReranker(embedder())


def _load_vader() -> TextClassifier:
    from cfai.local.backends.vader import Vader

    return Vader()


def _load_textrank() -> TextSummarizer:
    from cfai.local.backends.textrank import TextRank

    return TextRank()
