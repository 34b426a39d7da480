"""How a job asks the service, directly or through its queue: what both ways have in common."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar

from cfai._gate import Gate
from cfai._wire.queue import Batch, Queued
from cfai.embedding.reports import Reports
from cfai.errors import DecodeError, RateLimited
from cfai.tasks import Embeddings

T = TypeVar("T")

_PATIENCE: Final = 300.0
"""Seconds without any answer, after which a refusal for the number of requests ends the job. The
service counts by the minute; before that, a refusal only means to wait."""


class Service(Protocol):
    """What a job asks, each attempt through a gate."""

    @property
    def retries(self) -> int:
        """How often what failed is asked for again."""

    async def send(self, texts: Sequence[str], gate: Gate) -> Embeddings:
        """Embed one request's worth of texts."""

    def queued(self, texts: Sequence[str], reference: str) -> Queued:
        """The same as a request for the queue."""

    async def hand_over(self, requests: Sequence[Queued], gate: Gate) -> Batch[Embeddings]:
        """Put requests into the queue."""

    async def look(
        self, requests: Sequence[Queued], request_id: str, gate: Gate
    ) -> Batch[Embeddings]:
        """Ask what became of them."""


class Asking:
    """One job's gate, its patience, and what is known of its vectors."""

    def __init__(self, gate: Gate, reports: Reports) -> None:
        self.gate = gate
        self._reports = reports
        self._dimension: int | None = None
        self._answered_at = asyncio.get_running_loop().time()

    async def patiently(self, attempt: Callable[[Gate], Awaitable[T]]) -> T:
        """What *attempt* gives. Where it is refused, that only means to wait.

        The gate is narrower after a refusal, and opens again.
        """
        loop = asyncio.get_running_loop()
        self._reports.calls += 1
        while True:
            try:
                answer = await attempt(self.gate)
            except RateLimited as exc:
                # Who wants no retries has made one attempt only, and so has who was told to come
                # back later than it wants to wait.
                tried_again = exc.meta is not None and exc.meta.attempts > 1
                if not tried_again or loop.time() - self._answered_at >= _PATIENCE:
                    raise
            else:
                self._answered_at = loop.time()
                return answer

    def checked(self, vectors: Embeddings) -> Embeddings:
        """The same vectors, if they are as long as those before.

        Raises:
            DecodeError: They aren't.
        """
        known, dimension = self._dimension, vectors.shape[1]
        if known is None:
            self._dimension = dimension
        elif dimension != known:
            raise DecodeError(f"vectors of {known} numbers came before, and now of {dimension}")
        return vectors
