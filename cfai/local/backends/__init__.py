"""Backends: the local models, one module each, loaded on first use and shared by the process.

`roles` defines the interface of each kind of backend. A new backend is a module here, a protocol
in `roles` if its kind is new, and a function below. If something it needs is missing, loading it
raises an `ApiError` that says so.
"""

import platform
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from cfai.local import weights
from cfai.local.backends import roles, smollm2
from cfai.local.backends.minilm import CosineReranker, MiniLM
from cfai.local.backends.textrank import TextRank
from cfai.local.backends.vader import Vader
from cfai.local.errors import not_supported

T = TypeVar("T")

_loaded: dict[str, Any] = {}
_loading = threading.RLock()


def text_generator(path: Path | None = None) -> roles.TextGenerator:
    """Return SmolLM2, or the model in a GGUF file. The first call loads it."""
    if path is None:
        return _load_once("text generator", _load_smollm2)
    name = "".join(c if c.isascii() and c.isprintable() else "-" for c in path.stem)
    return _load_once(f"text generator {path}", lambda: smollm2.SmolLM2(_check_machine(path), name))


def embedder() -> roles.TextEmbedder:
    """Return MiniLM. The first call loads it."""
    return _load_once("embedder", MiniLM)


def warm_embedder() -> None:
    """Load MiniLM, with its vocabulary, and make its first run, which takes longer than others."""
    embedder().embed(["warm"], dimensions=384, pooling="mean", is_cancelled=lambda: False)


def reranker() -> roles.Reranker:
    """Return the reranker that compares MiniLM's vectors."""
    return _load_once("reranker", lambda: CosineReranker(embedder()))


def classifier() -> roles.TextClassifier:
    """Return VADER."""
    return _load_once("classifier", Vader)


def summarizer() -> roles.TextSummarizer:
    """Return TextRank."""
    return _load_once("summarizer", TextRank)


def _load_once(name: str, load: Callable[[], T]) -> T:
    if name not in _loaded:
        # One at a time: loading a model twice would take its memory twice.
        with _loading:
            try:
                _loaded[name] = _loaded.get(name) or load()
            except ImportError as exc:
                message = f"this needs {exc.name}: pip install 'cfai-sdk[local]'"
                raise not_supported(message) from exc
    shared: T = _loaded[name]
    return shared


def _load_smollm2() -> roles.TextGenerator:
    paths = weights.find(weights.SMOLLM2)
    if paths is None:
        message = "the text model's weights are missing: download them with `cfai pull text`"
        raise not_supported(message)
    return smollm2.SmolLM2(_check_machine(paths[0]))


def _check_machine(weights_path: Path) -> Path:
    """Return the path if the machine can run the model's library."""
    if platform.machine().lower() in {"x86_64", "amd64"}:
        smollm2.check_processor(smollm2.processor_flags())
    return weights_path
