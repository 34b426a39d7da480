"""How a job recovers from errors: failed calls are repeated, and batches with a bad text are split.

Attempts within a call are repeated by the session; this repeats calls whose attempts all failed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from random import random
from typing import Final, Protocol

from cfai._session.retries import backoff_delay
from cfai._session.throttle import Throttle
from cfai.embedding.options import OnError
from cfai.embedding.results import JobReporter, RangeResult
from cfai.embedding.source import TokenLimits
from cfai.errors import (
    AuthenticationError,
    BadRequest,
    BudgetExceeded,
    CfaiError,
    ConfigError,
    ConnectError,
    DecodeError,
    InputError,
    MethodNotAllowed,
    ModelRetired,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    RateLimited,
    RequestTimeout,
    RequestTooLarge,
    StatusError,
)
from cfai.resources.queue import BatchStatus, QueuedTask
from cfai.settings import Retries, Retry
from cfai.tasks import Embeddings

_MAX_SILENCE: Final = 300.0
"""Seconds after the first failure, with no answer since, after which the next failure ends the job.
The service counts requests by the minute; until then, a 429 only means to wait."""

_ERRORS_OF_ALL_TEXTS: Final = (
    QuotaExceeded,
    RateLimited,
    ConnectError,
    AuthenticationError,
    PermissionDenied,
    NotFound,
    ModelRetired,
    MethodNotAllowed,
    ConfigError,
    BudgetExceeded,
)
# No such model (5007), path (7000, 7003) or gateway (2001), errors of the gateway (2003, 2008),
# no credit (2021) and bad headers (6003): most of them have the status 400.
_CODES_OF_ALL_TEXTS: Final = frozenset({2001, 2003, 2008, 2021, 5007, 6003, 7000, 7003})

TEXT_ERRORS: Final = (BadRequest, RequestTooLarge, InputError)
"""Errors that a single text of a batch may cause."""

_MAX_FAILED_TEXTS: Final = 20
"""After this many texts failed one by one, and none was embedded, the texts are not at fault."""


def concerns_all_texts(error: CfaiError) -> bool:
    """Whether every other text would fail in the same way."""
    code = error.code if isinstance(error, StatusError) else None
    return isinstance(error, _ERRORS_OF_ALL_TEXTS) or code in _CODES_OF_ALL_TEXTS


class EmbeddingService(Protocol):
    """The calls of a job. Each makes its attempts with permits of the throttle that it is given."""

    @property
    def retries(self) -> Retries:
        """How often a failed attempt is repeated, and when."""

    def open_call(self) -> AbstractContextManager[None]:
        """A context that ends with a `ConfigError` as soon as the client is closed."""

    async def embed(self, texts: Sequence[str], throttle: Throttle) -> Embeddings:
        """Embed the texts of one request."""

    def build_request(self, texts: Sequence[str], reference: str) -> QueuedTask:
        """Build one request for the queue."""

    async def submit(
        self, requests: Sequence[QueuedTask], throttle: Throttle
    ) -> BatchStatus[Embeddings]:
        """Put requests into the queue, as one batch."""

    async def poll(
        self, requests: Sequence[QueuedTask], request_id: str, throttle: Throttle | None
    ) -> BatchStatus[Embeddings]:
        """Get the state of a batch."""


class RetryingService:
    """The service of one job, which also waits out rate limits and lost connections.

    After all attempts of a call failed, the call is repeated: as long as it is rate-limited (for
    up to five minutes without any answer); if no connection can be made after there was one; and
    after a response timeout, as often as `Retries` allows.
    """

    def __init__(
        self, service: EmbeddingService, throttle: Throttle, reporter: JobReporter
    ) -> None:
        self.throttle = throttle
        self.retries: Retries = service.retries
        self._service = service
        self._reporter = reporter
        self._dimension: int | None = None
        self._answered = False
        self._silent_since: float | None = None
        """When the first call failed since the last answer."""

    def open_call(self) -> AbstractContextManager[None]:
        """A context that ends with a `ConfigError` as soon as the client is closed."""
        return self._service.open_call()

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embed the texts of one request.

        Raises:
            DecodeError: The vectors differ in length from earlier ones.
        """
        failures = 0
        while True:
            try:
                vectors = await self._service.embed(texts, self.throttle)
            except CfaiError as exc:
                error = exc
            else:
                self._record_answer()
                return self.check_dimension(vectors)
            failures += 1
            await self._wait(error, failures)

    def build_request(self, texts: Sequence[str], reference: str) -> QueuedTask:
        """Build one request for the queue."""
        return self._service.build_request(texts, reference)

    async def submit(self, requests: Sequence[QueuedTask]) -> BatchStatus[Embeddings]:
        """Put requests into the queue, as one batch."""
        return await self._retry(lambda: self._service.submit(requests, self.throttle))

    async def poll(
        self, requests: Sequence[QueuedTask], request_id: str
    ) -> BatchStatus[Embeddings]:
        """Get the state of a batch."""
        return await self._retry(lambda: self._service.poll(requests, request_id, self.throttle))

    async def _retry(
        self, send: Callable[[], Awaitable[BatchStatus[Embeddings]]]
    ) -> BatchStatus[Embeddings]:
        """Send a request of the queue until it is answered, or until `_wait` gives up."""
        failures = 0
        while True:
            try:
                batch = await send()
            except CfaiError as exc:
                error = exc
            else:
                self._record_answer()
                return batch
            failures += 1
            await self._wait(error, failures)

    async def poll_unthrottled(
        self, requests: Sequence[QueuedTask], request_id: str
    ) -> BatchStatus[Embeddings]:
        """Get the state of a batch without a permit, after the throttle was closed."""
        return await self._service.poll(requests, request_id, None)

    def check_dimension(self, vectors: Embeddings) -> Embeddings:
        """Return *vectors* if they are as long as earlier ones.

        Raises:
            DecodeError: They are not.
        """
        dimension = vectors.shape[1]
        if self._dimension is None:
            self._dimension = dimension
        elif dimension != self._dimension:
            raise DecodeError(
                f"the vectors have {dimension} numbers, and earlier ones had {self._dimension}"
            )
        return vectors

    def _record_answer(self) -> None:
        self._answered, self._silent_since = True, None

    async def _wait(self, error: CfaiError, failures: int) -> None:
        """Wait before a call that failed *failures* times is repeated.

        Raises:
            CfaiError: *error*, if the call is not to be repeated.
        """
        delay = self._delay(error, failures)
        if delay is None:
            raise error
        if self.retries.on_retry is not None:
            self.retries.on_retry(Retry(self.retries.max + failures, error, delay))
        with self._service.open_call():
            await asyncio.sleep(delay)
        self._reporter.repeated_calls += 1

    def _delay(self, error: CfaiError, failures: int) -> float | None:
        """Return the seconds until the call is repeated; `None` if it is not."""
        retries, waits = self.retries, False
        match error:
            case RateLimited() | RequestTimeout(phase="pool"):
                waits = True
            case ConnectError() | RequestTimeout(phase="connect"):
                waits = self._answered
            case RequestTimeout(phase="response"):
                if failures <= retries.max:
                    return backoff_delay(retries, failures, error, random=random)
            case StatusError() | DecodeError():
                self._record_answer()
        if not waits or not retries.max:
            return None
        now = asyncio.get_running_loop().time()
        if self._silent_since is None:
            self._silent_since = now
        elif now - self._silent_since >= _MAX_SILENCE:
            return None
        return backoff_delay(retries, retries.max + failures, error, random=random)


class FailureJudge:
    """Decides whether an error concerns some texts or all of them, from earlier outcomes."""

    def __init__(self, limits: TokenLimits | None = None) -> None:
        self._limits = limits
        self._embedded = False
        self._failed_texts = 0

    def record_success(self) -> None:
        """Record that some texts were embedded."""
        self._embedded = True

    def record_text_error(self, error: CfaiError, texts: Sequence[str]) -> None:
        """Record that a batch got an error response, so that later batches may be smaller."""
        if self._limits is not None:
            self._limits.learn(error, texts)

    def ends_job(self, error: CfaiError, texts: int) -> bool:
        """Whether every other text would fail in the same way as these *texts*.

        This is also so if the first texts of a job failed one by one and none was embedded:
        then something else is at fault, such as an option.
        """
        if concerns_all_texts(error):
            return True
        if self._embedded or texts > 1 or not isinstance(error, BadRequest):
            return False
        self._failed_texts += 1
        if self._failed_texts < _MAX_FAILED_TEXTS:
            return False
        error.add_note(f"each of the first {self._failed_texts} texts was refused")
        return True


async def embed_batch(
    service: RetryingService,
    texts: Sequence[str],
    results: list[RangeResult],
    *,
    on_error: OnError,
    judge: FailureJudge,
    first: int = 0,
) -> None:
    """Embed *texts*, and append what becomes of them to *results*, in order.

    Raises:
        CfaiError: A text failed and *on_error* is "raise", or the error concerns all texts. The
            results before it are in *results*.
    """
    outcome: Embeddings | CfaiError
    try:
        outcome = await service.embed(texts)
    except CfaiError as exc:
        outcome = exc
    if isinstance(outcome, Embeddings):
        judge.record_success()
    elif judge.ends_job(outcome, len(texts)):
        raise outcome
    elif isinstance(outcome, TEXT_ERRORS) and len(texts) > 1:
        judge.record_text_error(outcome, texts)
        half = len(texts) // 2
        for start, part in ((first, texts[:half]), (first + half, texts[half:])):
            await embed_batch(service, part, results, on_error=on_error, judge=judge, first=start)
        return
    results.append(RangeResult(first, first + len(texts), outcome))
    if on_error == "raise" and isinstance(outcome, CfaiError):
        raise outcome
