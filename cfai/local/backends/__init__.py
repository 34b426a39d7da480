"""What answers each task on this machine: one small protocol per task, and who speaks it.

A backend blocks, and is made when it is first asked for; the whole process shares it. What it
needs may not be installed: then it is a `Fault` that says so.
"""

import platform
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from attrs import field, frozen

from cfai.local import weights
from cfai.local.faults import not_here

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")

Hear = Callable[[str], bool]
"""Gets a piece of text as it is written, or an empty one now and then; true means: stop."""

Stopped = Callable[[], bool]
"""Whether nobody waits for the result any more."""


@frozen
class Ask:
    """What a writer is asked for."""

    text: str | Sequence[Mapping[str, Any]]
    """A raw prompt, or the messages of a conversation."""
    max_tokens: int
    seed: int | None = None
    sampling: Mapping[str, float] = field(factory=dict)
    """Under llama.cpp's names."""
    schema: Mapping[str, Any] | None = None
    """The JSON schema of the answer; `None` where it is free text."""


@frozen
class Ending:
    """How a generation ended: "stop", "length", or "stopped" by whoever listened."""

    reason: str
    prompt_tokens: int
    completion_tokens: int


class Writer(Protocol):
    """Text generation."""

    name: str

    def write(self, ask: Ask, hear: Hear) -> Ending:
        """Write what *ask* wants; *hear* gets each piece, and stops it by returning true."""
        ...


class Embedder(Protocol):
    """Text embeddings."""

    name: str

    def embed(
        self, texts: Sequence[str], *, dimensions: int, pooling: Any, stopped: Stopped
    ) -> "NDArray[np.float32]":
        """Give one vector per text: float32, shape (len(texts), *dimensions*)."""
        ...


class Ranker(Protocol):
    """Reranking."""

    name: str

    def rank(
        self, query: str, contexts: Sequence[str], *, stopped: Stopped
    ) -> list[tuple[int, float]]:
        """Give the index and the score of each context, the best first."""
        ...


class Classifier(Protocol):
    """Text classification."""

    name: str

    def classify(self, text: str) -> list[tuple[str, float]]:
        """Give the labels and their scores."""
        ...


class Summarizer(Protocol):
    """Summaries."""

    name: str

    def summarize(self, text: str, *, at_most: int) -> str:
        """Give a summary of at most so many tokens."""
        ...


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
