"""The interfaces of the backends: one protocol per task. Every method blocks and is thread-safe."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from attrs import field, frozen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Pooling = Literal["mean", "cls"]
"""How the vectors of tokens are combined: their mean, or the vector of `[CLS]`."""


@frozen
class Reasoning:
    """A piece of what a model thinks before it answers."""

    text: str


Piece = str | Reasoning
"""A piece of the answer's text, or of the reasoning before it."""

OnPiece = Callable[[Piece], object]
"""Called with each piece, and with an empty text as long as the prompt is read."""

IsCancelled = Callable[[], bool]
"""Returns whether the caller has gone, so that the work can end early."""


class Backend(Protocol):
    """What every backend has."""

    name: str
    """Reported to clients in the header `cfai-backend`."""


@frozen
class GenerationRequest:
    """The input of a text generator."""

    prompt: str | Sequence[Mapping[str, Any]]
    """A raw prompt, or the messages of a conversation."""
    max_tokens: int
    seed: int | None = None
    stop: Sequence[str] = ()
    """The texts at which the generation ends; they are not part of the output."""
    sampling: Mapping[str, float] = field(factory=dict)
    """Sampling parameters, with llama.cpp's names."""
    schema: Mapping[str, Any] | None = None
    """The JSON schema of the output; `None` for free text."""
    extra: Mapping[str, Any] = field(factory=dict)
    """Further fields of chat completions, such as `tools`, for a generator that has them."""


@frozen
class Abilities:
    """What a text generator can do, besides generating text from text."""

    reads_images: bool = False
    calls_tools: bool = False
    """Whether it decides on tool calls itself."""
    is_remote: bool = False
    """Whether it is another server: it has the further fields of chat completions, and defaults of
    its own for sampling and the system message."""


@frozen
class GenerationEnd:
    """How a generation ended."""

    reason: str
    """`stop`, `length`, or `stopped` by the caller."""
    prompt_tokens: int
    completion_tokens: int
    tool_calls: Sequence[Mapping[str, Any]] = ()
    """The calls that the generator decided on, in the form of chat completions."""
    reasoning: str = ""
    """The whole reasoning before the text."""
    reasoning_tokens: int | None = None
    """How many of the *completion_tokens* were reasoning, if that is known."""


class TextGenerator(Backend, Protocol):
    """Generates text."""

    def generate(
        self, request: GenerationRequest, on_piece: OnPiece, is_cancelled: IsCancelled
    ) -> GenerationEnd:
        """Generate text and call *on_piece* with each piece, until the caller has gone."""


class TextEmbedder(Backend, Protocol):
    """Embeds texts."""

    def embed(
        self, texts: Sequence[str], *, dimensions: int, pooling: Pooling, is_cancelled: IsCancelled
    ) -> "NDArray[np.float32]":
        """Return one vector per text: float32, shape (len(texts), *dimensions*)."""


class Reranker(Backend, Protocol):
    """Ranks contexts by their relevance to a query."""

    def rank(
        self, query: str, contexts: Sequence[str], *, is_cancelled: IsCancelled
    ) -> list[tuple[int, float]]:
        """Return the index and the score of each context, best first."""


class TextClassifier(Backend, Protocol):
    """Classifies texts."""

    def classify(self, text: str) -> list[tuple[str, float]]:
        """Return the labels and their scores."""


class TextSummarizer(Backend, Protocol):
    """Summarizes texts."""

    def summarize(self, text: str, *, max_tokens: int) -> str:
        """Return a summary of at most *max_tokens* tokens."""


@frozen
class Recognized:
    """The text of a piece of speech."""

    text: str
    log_probability: float
    """The mean of the logarithms of the tokens' probabilities, 0 at most."""


class SpeechRecognizer(Backend, Protocol):
    """Transcribes speech."""

    def transcribe(
        self, samples: "NDArray[np.float32]", *, is_cancelled: IsCancelled = ...
    ) -> Recognized:
        """Transcribe speech of up to half a minute: 16 kHz, mono, from -1 to 1."""


class Speaker(Backend, Protocol):
    """Speaks texts."""

    def speak(self, text: str) -> "Iterator[NDArray[np.float32]]":
        """Yield the samples of each sentence, or of a part: 24 kHz, mono, from -1 to 1."""
