"""How a job asks the service, directly or through its queue: what both ways have in common."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from random import random
from typing import Final, Protocol, TypeVar

from cfai._session.retries import backoff_delay
from cfai._session.throttle import Throttle
from cfai.embedding.reports import Reports
from cfai.errors import (
    CfaiError,
    ConnectError,
    DecodeError,
    RateLimited,
    RequestTimeout,
    StatusError,
)
from cfai.resources.queue import BatchStatus, QueuedTask
from cfai.settings import Retries, Retry
from cfai.tasks import Embeddings

T = TypeVar("T")

_PATIENCE: Final = 300.0
"""Seconds from the first attempt in vain, without any answer since, after which another ends the
job. The service counts by the minute; before that, it only means to wait."""


class Service(Protocol):
    """What a job asks, each attempt through a throttle."""

    @property
    def retries(self) -> Retries:
        """How often what failed is asked for again, and when."""

    async def send(self, texts: Sequence[str], throttle: Throttle) -> Embeddings:
        """Embed one request's worth of texts."""

    def queued(self, texts: Sequence[str], reference: str) -> QueuedTask:
        """The same as a request for the queue."""

    async def hand_over(
        self, requests: Sequence[QueuedTask], throttle: Throttle
    ) -> BatchStatus[Embeddings]:
        """Put requests into the queue."""

    async def look(
        self, requests: Sequence[QueuedTask], request_id: str, throttle: Throttle | None
    ) -> BatchStatus[Embeddings]:
        """Ask what became of them."""


class Asking:
    """One job's throttle, its patience, and what is known of its vectors."""

    def __init__(self, throttle: Throttle, retries: Retries, reports: Reports) -> None:
        self.throttle = throttle
        self._retries = retries
        self._reports = reports
        self._dimension: int | None = None
        self._answered = False
        self._unanswered_since: float | None = None
        """When something was last in vain, and nothing was answered since."""

    async def patiently(self, attempt: Callable[[Throttle], Awaitable[T]]) -> T:
        """What *attempt* gives. Where it is in vain for a time, it is made again after a pause.

        That is where the service has too much to do, for as long as the patience lasts; where no
        connection is made, once there was one; and where there was no answer in time, as often as
        `Retries` allows.
        """
        for rounds in count(1):
            try:
                answer = await attempt(self.throttle)
            except CfaiError as exc:
                pause = self._pause(exc, rounds)
                if pause is None:
                    raise
                failure = exc
            else:
                self._answered, self._unanswered_since = True, None
                return answer
            finally:
                self._reports.rounds += rounds > 1
            if self._retries.on_retry is not None:
                self._retries.on_retry(Retry(self._retries.max + rounds, failure, pause))
            await asyncio.sleep(pause)
        raise AssertionError("there is always another round")

    def _pause(self, failure: CfaiError, rounds: int) -> float | None:
        """Seconds to wait before another round; `None` where there is to be none."""
        retries, patient = self._retries, False
        match failure:
            case RateLimited() | RequestTimeout(phase="pool"):
                patient = True
            case ConnectError() | RequestTimeout(phase="connect"):
                patient = self._answered
            case RequestTimeout(phase="response"):
                if rounds <= retries.max:
                    return backoff_delay(retries, rounds, failure, random=random)
            case StatusError() | DecodeError():
                self._answered, self._unanswered_since = True, None
        if not patient or not retries.max:
            return None
        now = asyncio.get_running_loop().time()
        if self._unanswered_since is None:
            self._unanswered_since = now
        elif now - self._unanswered_since >= _PATIENCE:
            return None
        return backoff_delay(retries, retries.max + rounds, failure, random=random)

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
