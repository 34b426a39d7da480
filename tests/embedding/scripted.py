"""A job whose service is a function, for tests in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from cfai import (
    EmbeddingJob,
    Embeddings,
    RateLimited,
    Retries,
)
from cfai._session.throttle import Throttle, Throttles
from cfai.embedding import Plan
from cfai.resources.queue import BatchStatus, QueuedTask
from cfai.testing import vector_of
from tests import virtual_time
from tests.embedding.samples import (
    M3,
    collect,
)


def vectors_of(given: Sequence[str]) -> Embeddings:
    buffer = vector_of(given[0])
    for text in given[1:]:
        buffer += vector_of(text)
    return Embeddings((len(given), 4), buffer)


class ScriptedService:
    """The service of a job, without a socket: *reply* returns the vectors of texts, or raises."""

    def __init__(
        self, reply: Callable[[Sequence[str]], Awaitable[Embeddings]], retries: Retries
    ) -> None:
        self._reply = reply
        self._retries = retries
        self.sent: list[float] = []
        """The times of the attempts."""
        self.tasks: list[asyncio.Task[Any] | None] = []
        """The tasks that made them."""

    @property
    def retries(self) -> Retries:
        return self._retries

    def open_call(self) -> AbstractContextManager[None]:
        return nullcontext()

    async def embed(self, given: Sequence[str], throttle: Throttle) -> Embeddings:
        async with throttle.permit() as permit:
            permit.start()
            self.sent.append(asyncio.get_running_loop().time())
            self.tasks.append(asyncio.current_task())
            return await self._reply(given)

    def build_request(self, given: Sequence[str], reference: str) -> QueuedTask:
        raise NotImplementedError

    async def submit(
        self, requests: Sequence[QueuedTask], throttle: Throttle
    ) -> BatchStatus[Embeddings]:
        raise NotImplementedError

    async def poll(
        self, requests: Sequence[QueuedTask], request_id: str, throttle: Throttle | None
    ) -> BatchStatus[Embeddings]:
        raise NotImplementedError


def scripted(
    reply: Callable[[Sequence[str]], Awaitable[Embeddings]],
    source: Any,
    *,
    retries: Retries = Retries(max=2, base=1.0, cap=4.0),  # noqa: B008  # frozen
    **options: Any,
) -> tuple[ScriptedService, EmbeddingJob[Any]]:
    """A job with one text per request, and its service."""
    script = ScriptedService(reply, retries)
    plan = Plan(M3, **{"batch_size": 1, "rate": None, **options})
    return script, EmbeddingJob(script, Throttles(), source, plan, endpoint="")


BUSY = RateLimited("busy", status=429)


def replies(*outcomes: Exception | None) -> Callable[[Sequence[str]], Awaitable[Embeddings]]:
    """Outcomes of the attempts in order, the last one repeated; `None` is an answer."""
    left = list(outcomes)

    async def reply(given: Sequence[str]) -> Embeddings:
        outcome = left.pop(0) if len(left) > 1 else left[0]
        await asyncio.sleep(0.1)
        if outcome is not None:
            raise outcome
        return vectors_of(given)

    return reply


def collect_virtually(job: EmbeddingJob[Any]) -> list[Any]:
    """All items of a job, in virtual time."""
    return virtual_time.run(collect(job))
