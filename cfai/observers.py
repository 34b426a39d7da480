"""Observers of a client's runs: they are called when a run begins, is retried, streams and ends.

An observer is a callable that takes a `Call` and returns an `Observation`, such as a subclass of
`Observation`. `cfai.telemetry.spans()` builds one for OpenTelemetry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Literal

from attrs import field, frozen

from cfai.meta import Meta
from cfai.settings import UNSET, Retry
from cfai.tasks import (
    Answer,
    AutomaticSpeechRecognition,
    Decide,
    Extract,
    ImageClassification,
    ImageTextToText,
    MultimodalEmbeddings,
    ObjectDetection,
    Prompt,
    Rerank,
    Task,
    TextClassification,
    TextEmbeddings,
    TextGeneration,
    Token,
)
from cfai.tasks.listening import FluxListening, NovaListening

__all__ = ["Call", "Ending", "Observation", "Observer", "Outcome"]

Outcome = Literal["done", "failed", "cancelled", "closed"]
"""How a call ended: with its complete answer, with an error, because its task was cancelled, or
(streams only) because the reader closed the stream. A stream whose body ends before its end mark is
`failed`. For raw `events()`, whose data is not read, the end of the body is the end."""

_OPERATIONS: Final[dict[type[Task[Any]], str]] = {
    TextGeneration: "chat",
    ImageTextToText: "chat",
    Prompt: "text_completion",
    TextEmbeddings: "embeddings",
    MultimodalEmbeddings: "embeddings",
    AutomaticSpeechRecognition: "transcription",
    NovaListening: "transcription",
    FluxListening: "transcription",
    Decide: "decision",
    Extract: "extraction",
    TextClassification: "classification",
    ImageClassification: "classification",
    ObjectDetection: "object_detection",
    Rerank: "rerank",
}


def operation_of(task: Task[Any] | Mapping[str, Any]) -> str:
    """The name of a task in OpenTelemetry's conventions; if they have none, a name of our own."""
    if isinstance(task, Task):
        names = (name for kind, name in _OPERATIONS.items() if isinstance(task, kind))
        return next(names, "generate_content")
    if "messages" in task:
        return "chat"
    return "text_completion" if "prompt" in task else "generate_content"


@frozen
class Call:
    """One run of one model, at its beginning. Of a list of models, each one asked has its own."""

    operation: str
    """The operation: "chat", "text_completion", "embeddings", "generate_content", ..."""

    model: str
    """The model's name."""

    task: Task[Any] | Mapping[str, Any] = field(repr=False)
    """The task, as passed by the caller."""

    stream: bool = field(kw_only=True)
    """Whether a stream is requested."""

    address: str = field(kw_only=True)
    """The host that receives the request."""

    port: int = field(kw_only=True)
    """Its port."""

    gateway: str | None = field(default=None, kw_only=True)
    """The id of the AI Gateway, if one is used."""

    redact: Callable[[str], str] = field(default=str, kw_only=True, repr=False, eq=False)
    """Removes the client's credentials from a text. The service may repeat them, also in the
    headers and the text of an answer, so pass through it what leaves the program."""

    def asked(self, name: str) -> Any:
        """The value of a field of the task, by its name in the request; `None` if it is not set."""
        if isinstance(self.task, Mapping):
            return self.task.get(name)
        own = getattr(self.task, name, None)
        return (self.task.extra or {}).get(name) if own is None or own is UNSET else own


@frozen(kw_only=True)
class Ending:
    """How a call ended."""

    outcome: Outcome
    elapsed: float
    """Seconds from the beginning of the call to its end; for a stream, to the end of the stream."""

    answer: Answer | None = field(default=None, repr=False)
    """The answer; of a stream that ended early, the part that had arrived. Of a sound that was read
    as it arrived, an `Audio` without its bytes."""

    error: BaseException | None = None
    """The error that ended it."""

    @property
    def meta(self) -> Meta:
        """The facts of the exchange; an empty `Meta` if there was none."""
        meta = getattr(self.error if self.answer is None else self.answer, "meta", None)
        return Meta() if meta is None else meta


class Observation:
    """The observation of one call: subclass it and override the methods you need.

    The methods are called on the event loop, between the steps of the call, so they must not block.
    What they raise, `asyncio.CancelledError` included, is logged (logger `cfai`) and does not
    affect the call.
    """

    def headers(self) -> Mapping[str, str]:
        """Return headers to add to the request. Headers of the client or the call win.

        An observer must not set headers for authentication, the gateway, the content or the
        connection (`Authorization`, `X-Auth-*`, `cf-aig-*`, `Content-*`, `Accept`, `User-Agent`,
        `Host`, `x-session-affinity` and the like). These, and invalid headers, are logged and
        dropped.
        """
        return {}

    def running(self) -> AbstractContextManager[object]:
        """Return a context manager to enter around the request.

        It is exited when the answer is there or the stream has begun, in the same task and
        context.
        """
        return nullcontext()

    def retried(self, retry: Retry) -> None:
        """Called when an attempt failed and will be repeated."""

    def began(self, seconds: float) -> None:
        """Called at the first event of a stream, *seconds* after the call began."""

    def token(self, token: Token, seconds: float) -> None:
        """Called for each token that a stream's reader gets, *seconds* after the call began."""

    def ended(self, ending: Ending) -> None:
        """Called once, at the end of the call."""


Observer = Callable[[Call], Observation | None]
"""Called with each call as it begins. `None` means that the call is not observed."""
