"""What a client tells of each run: when it began, what was repeated, what came, how it ended.

An observer is anything that is called with a `Call` and gives an `Observation`, whose methods are
then called as things happen: a class derived from `Observation` is one. `cfai.telemetry.spans()`
makes one for OpenTelemetry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Literal

from attrs import field, frozen

from cfai.meta import Meta
from cfai.settings import Retry
from cfai.tasks import (
    Answer,
    AutomaticSpeechRecognition,
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

__all__ = ["Call", "Ending", "Observation", "Observer", "Outcome"]

Outcome = Literal["done", "failed", "cancelled", "closed"]
"""How a call ended: with its whole answer, with an error, with the task that waited for it, or (a
stream) because its reader left. A stream whose bytes end before its end mark is `failed`; of raw
`events()`, in which nothing is read, the end of the bytes is the end."""

_OPERATIONS: Final[dict[type[Task[Any]], str]] = {
    TextGeneration: "chat",
    ImageTextToText: "chat",
    Prompt: "text_completion",
    TextEmbeddings: "embeddings",
    MultimodalEmbeddings: "embeddings",
    AutomaticSpeechRecognition: "transcription",
    TextClassification: "classification",
    ImageClassification: "classification",
    ObjectDetection: "object_detection",
    Rerank: "rerank",
}


def operation_of(task: Task[Any] | Mapping[str, Any]) -> str:
    """What OpenTelemetry's conventions call a task; where they have no name, ours."""
    if isinstance(task, Task):
        found = (name for kind, name in _OPERATIONS.items() if isinstance(task, kind))
        return next(found, "generate_content")
    if "messages" in task:
        return "chat"
    return "text_completion" if "prompt" in task else "generate_content"


@frozen
class Call:
    """One run, as it begins."""

    operation: str
    """What is done: "chat", "text_completion", "embeddings", "generate_content", ..."""

    model: str
    """The model's name."""

    task: Task[Any] | Mapping[str, Any] = field(repr=False)
    """What is asked, as the caller gave it."""

    stream: bool = field(kw_only=True)
    """Whether a stream is asked for."""

    address: str = field(kw_only=True)
    """The host that the request goes to."""

    port: int = field(kw_only=True)
    """The port there."""

    gateway: str | None = field(default=None, kw_only=True)
    """The name of the AI Gateway that it goes through."""

    def asked(self, name: str) -> Any:
        """Give a field of the task by its name on the wire ("temperature"); `None` is not set."""
        if isinstance(self.task, Mapping):
            return self.task.get(name)
        own = getattr(self.task, name, None)
        return (self.task.extra or {}).get(name) if own is None else own


@frozen(kw_only=True)
class Ending:
    """How a call ended."""

    outcome: Outcome

    elapsed: float
    """Seconds since the call began; of a stream, to its end."""

    answer: Answer | None = field(default=None, repr=False)
    """The answer; of a stream that did not come to its end, as much as had arrived."""

    error: BaseException | None = None
    """What was raised."""

    @property
    def meta(self) -> Meta:
        """The facts of the exchange, as far as there was one."""
        found = getattr(self.error if self.answer is None else self.answer, "meta", None)
        return Meta() if found is None else found


class Observation:
    """What an observer wants to hear of one call: derive from it, and override what you need.

    The methods are called on the event loop, between the call's own steps, so they must not wait.
    What they raise is logged (logger `cfai`), and changes nothing for the call; that goes for
    `asyncio.CancelledError`, too.
    """

    def headers(self) -> Mapping[str, str]:
        """Give headers to send along. Those that the client or the call sets itself win.

        What says who asks, through which gateway and what is sent is not an observer's to set
        (`Authorization`, `X-Auth-*`, `cf-aig-*`, `Content-*`, `Accept`, `User-Agent`, `Host`,
        `x-session-affinity` and the like): that, and what can't be a header, is logged and left
        out.
        """
        return {}

    def running(self) -> AbstractContextManager[object]:
        """Give what to enter while the request is made: to the answer, or to a stream's begin.

        It is left in the task, and the context, that entered it.
        """
        return nullcontext()

    def retried(self, retry: Retry) -> None:
        """Hear that an attempt failed, and is about to be repeated."""

    def began(self, seconds: float) -> None:
        """Hear that the first event of a stream is there, so long after the call began."""

    def token(self, token: Token, seconds: float) -> None:
        """Hear of a token that the stream's reader is given, so long after the call began."""

    def ended(self, ending: Ending) -> None:
        """Hear how the call ended: once, after everything else."""


Observer = Callable[[Call], Observation | None]
"""What is told of each call as it begins. `None` wants to hear no more of it."""
