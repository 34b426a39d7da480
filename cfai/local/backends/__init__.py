"""What answers each task on this machine, made when it is first asked for.

The whole process shares a backend. What it needs may not be installed: that is a `Fault`, which
says so.
"""

import platform
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from cfai.local import weights
from cfai.local.backends.roles import Classifier, Embedder, Ranker, Summarizer, Writer
from cfai.local.faults import not_here

T = TypeVar("T")


def writer() -> Writer:
    """Give SmolLM2. The first call loads it, for about a second."""
    return _shared("writer", _writer)


def embedder() -> Embedder:
    """Give MiniLM. The first call loads it."""
    return _shared("embedder", _embedder)


def ranker() -> Ranker:
    """Give the ranking by MiniLM."""
    return _shared("ranker", _ranker)


def classifier() -> Classifier:
    """Give VADER."""
    return _shared("classifier", _classifier)


def summarizer() -> Summarizer:
    """Give TextRank."""
    return _shared("summarizer", _summarizer)


_made: dict[str, Any] = {}
_making = threading.RLock()


def _shared(name: str, make: Callable[[], T]) -> T:
    made: T | None = _made.get(name)
    if made is not None:
        return made
    # One at a time: a model that is loaded twice would take its memory twice.
    with _making:
        if name not in _made:
            _made[name] = _installed(make)
        shared: T = _made[name]
        return shared


def _installed(make: Callable[[], T]) -> T:
    try:
        return make()
    except ImportError as exc:
        needed = f"this needs {exc.name}: pip install 'cfai[local]'"
        raise not_here(needed) from exc


def _writer() -> Writer:
    from cfai.local.backends import smollm2

    path = weights.find()
    if path is None:
        raise not_here("the text model's weights are missing: fetch them with `cfai pull`")
    if platform.machine().lower() in {"x86_64", "amd64"}:
        smollm2.check_processor(smollm2.processor_flags())
    return smollm2.SmolLM2(path)


def _embedder() -> Embedder:
    from cfai.local.backends.embeddings import MiniLM

    return MiniLM()


def _ranker() -> Ranker:
    from cfai.local.backends.embeddings import CosineRanker

    return CosineRanker(embedder())


def _classifier() -> Classifier:
    from cfai.local.backends.sentiment import Vader

    return Vader()


def _summarizer() -> Summarizer:
    from cfai.local.backends.textrank import TextRank

    return TextRank()
