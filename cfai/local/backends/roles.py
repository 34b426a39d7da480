"""What a backend does: one small protocol per task. All of them block, and are safe in threads."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from attrs import field, frozen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Pooling = Literal["mean", "cls"]
"""How the vectors of tokens become one: their mean, or the one of `[CLS]`."""

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
        self, texts: Sequence[str], *, dimensions: int, pooling: Pooling, stopped: Stopped
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
