"""How a job recovers from errors: it waits for a service that fails, and finds the texts at fault.

Errors of three kinds: those of a text (400, 413, 422) split its batch. For failures of the service
(500, lost connections), the service may be at fault or a text, and what becomes of other requests
decides. All others (401, 302 of a login page, 407) concern all texts and end the job.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, suppress
from random import random
from typing import Final, Protocol, TypeVar

from attrs import define, field, frozen

from cfai._session.logs import LOGGER, describe_reason
from cfai._session.retries import backoff_delay, blames_input, should_retry
from cfai._session.throttle import Throttle
from cfai._wire.vectors import WrongVectorCount
from cfai.embedding.options import OnError
from cfai.embedding.results import JobReporter, RangeResult
from cfai.embedding.source import TokenLimits
from cfai.errors import (
    BadRequest,
    BudgetExceeded,
    CfaiError,
    Conflict,
    ConnectError,
    DecodeError,
    InputError,
    RateLimited,
    RequestTimeout,
    ServerError,
    ServiceTimeout,
    StatusError,
    TransportError,
)
from cfai.resources.queue import BatchStatus, QueuedTask
from cfai.settings import Retries, Retry
from cfai.tasks import Embeddings

MAX_SILENCE: Final = 300.0
"""Seconds after the first failure, with no answer since, after which the next failure ends the job.
The service counts requests by the minute; until then, a 429 only means to wait."""

# No such model (5007), path (7000, 7003) or gateway (2001), errors of the gateway (2003, 2008),
# no credit (2021) and bad headers (6003): most of them have the status 400.
_CODES_OF_ALL_TEXTS: Final = frozenset({2001, 2003, 2008, 2021, 5007, 6003, 7000, 7003})

_FAULTS: Final = (TransportError, ServerError, ServiceTimeout, Conflict, DecodeError, BadRequest)
"""Errors of the service or the network, which a text may cause, too; unless they blame the input.
"""

_MAX_FAILURES: Final = 20
"""After this many failures of a request, or of texts that were sent one by one, the job ends if
nothing was ever answered."""

# A batch that fails is split, and a text that fails alone is given up, if a service that fails as
# many other requests as it does would hardly have failed this one so often: with this probability.
_SPLIT_BATCH: Final = 0.05
_SPLIT_PART: Final = 0.3
"""Of a batch that was split: one of its parts is bad. A service that fails at random thereby causes
0.6 further splits for each at most, so that there is no avalanche."""
_GIVE_UP: Final = 1e-8
"""Small, since a job has many texts, and none that is good should be lost."""
_GIVE_UP_SUSPECTED: Final = 1e-6
"""Of a text that is left of a batch that was split: few good ones come that far."""


_T = TypeVar("_T")


class _OtherDimension(DecodeError):
    """The vectors differ in length from earlier ones, so that one of both is wrong."""


def concerns_all_texts(error: CfaiError) -> bool:
    """Whether every other text would fail in the same way, also later."""
    code = error.code if isinstance(error, StatusError) else None
    if isinstance(error, BudgetExceeded | _OtherDimension) or code in _CODES_OF_ALL_TEXTS:
        return True
    if isinstance(error, ServerError | ConnectError) and not should_retry(error, repeatable=True):
        return True
    return not (is_text_error(error) or isinstance(error, (*_FAULTS, RateLimited)))


def is_text_error(error: CfaiError) -> bool:
    """Whether a text of the request caused the error, and not the service."""
    return isinstance(error, InputError) or blames_input(error)


class EmbeddingService(Protocol):
    """The calls of a job. Each is one attempt, with a permit of the throttle that it is given."""

    @property
    def retries(self) -> Retries:
        """How often a failed attempt is repeated, and when."""

    def open_call(self) -> AbstractContextManager[object]:
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


@frozen
class Counters:
    """The counters of a job when one of its requests failed."""

    sent: int
    answers: int
    faults: int


@define(eq=False, kw_only=True)
class FailedRequest:
    """The failures of a request, by which its texts are told from the service."""

    suspected: bool = False
    """Whether one of its texts is probably at fault."""
    origin: Counters | None = None
    """When it failed for the first time, or the batch that it is a part of."""
    since: Counters | None = None
    """When it failed the last time, or the part that it was split from."""
    error: CfaiError | None = field(default=None, init=False)
    """Why it failed the last time."""
    delay: float = field(default=0.0, init=False)
    """Seconds to wait before it is repeated."""
    failures: int = field(default=0, init=False)
    """How often it failed."""
    faults: int = field(default=0, init=False)
    """How often it failed while the service answered other requests."""

    def threshold(self, texts: int) -> float:
        """Up to which probability its failures are not blamed on the service."""
        if texts == 1:
            return _GIVE_UP_SUSPECTED if self.suspected else _GIVE_UP
        return _SPLIT_PART if self.suspected else _SPLIT_BATCH


class PatientService:
    """The service of one job, which knows whether it answers, and waits until it does."""

    def __init__(
        self, service: EmbeddingService, throttle: Throttle, reporter: JobReporter
    ) -> None:
        self.throttle = throttle
        self.retries: Retries = service.retries
        self.sample: str | None = None
        """A text that was embedded: it shows whether the service answers."""
        self.first_search: asyncio.Lock = asyncio.Lock()
        """Held by the batch that looks for a first text that can be embedded."""
        self._failed_texts = 0
        """Texts that failed alone while there is no sample."""
        self._service = service
        self._reporter = reporter
        self._dimension: int | None = None
        self._miscounted = False
        """Whether an answer for several texts had the wrong number of vectors."""
        self._counts = False
        """Whether one had the right number."""
        self._sent = 0
        """Requests so far; the number of the last one."""
        self._answers = 0
        """Those that were answered at the first try."""
        self._last_answered = 0
        """The highest number of an answered request."""
        self._faults = 0
        """Those that failed at the first try, without parts of failed batches."""
        self._under_way: set[int] = set()
        """The numbers of requests that have neither been answered nor failed."""
        self._ended = asyncio.Event()
        """Set, and replaced, when a request was answered or failed."""
        self._watch = asyncio.Lock()
        """Held by the one who tries whether the service answers again."""
        self._was_answered = False
        """Whether the service ever answered."""
        self._silent_since: float | None = None
        """When the first request failed since the last answer."""

    def open_call(self) -> AbstractContextManager[object]:
        """A context that ends with a `ConfigError` as soon as the client is closed."""
        return self._service.open_call()

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embed the texts of one request, with one attempt.

        Raises:
            DecodeError: The vectors differ in length from earlier ones.
        """
        vectors = await self._attempt(self._service.embed(texts, self.throttle))
        self.check_dimension(vectors)
        if self.sample is None:
            self.sample = min(texts, key=len)
        return vectors

    def build_request(self, texts: Sequence[str], reference: str) -> QueuedTask:
        """Build one request for the queue."""
        return self._service.build_request(texts, reference)

    async def submit(self, requests: Sequence[QueuedTask]) -> BatchStatus[Embeddings]:
        """Put requests into the queue, as one batch, with one attempt."""
        return await self._attempt(self._service.submit(requests, self.throttle))

    async def poll(
        self, requests: Sequence[QueuedTask], request_id: str, throttle: Throttle | None
    ) -> BatchStatus[Embeddings]:
        """Get the state of a batch, with one attempt."""
        return await self._attempt(self._service.poll(requests, request_id, throttle))

    async def _attempt(self, call: Awaitable[_T]) -> _T:
        """Make one attempt, and record whether the service answered it."""
        self._sent += 1
        number = self._sent
        self._under_way.add(number)
        try:
            answer = await call
        except CfaiError as exc:
            if blames_input(exc):
                self._record_answer(number)
            raise
        finally:
            self._under_way.discard(number)
            self._ended.set()
            self._ended = asyncio.Event()
        self._record_answer(number)
        return answer

    def record_miscount(self, error: CfaiError) -> None:
        """Record that an answer for several texts had the wrong number of vectors, if so."""
        self._miscounted = self._miscounted or isinstance(error, WrongVectorCount)

    def check_dimension(self, vectors: Embeddings) -> Embeddings:
        """Return *vectors* if they are as long as earlier ones.

        Raises:
            DecodeError: They are not.
        """
        count, dimension = vectors.shape
        self._counts = self._counts or count > 1
        if self._miscounted and not self._counts:
            raise DecodeError(
                "the service gave the wrong number of vectors for several texts, and never the"
                " right one: its vector for a single text is not trusted"
            )
        if self._dimension is None:
            self._dimension = dimension
        elif dimension != self._dimension:
            raise _OtherDimension(
                f"the vectors have {dimension} numbers, and earlier ones had {self._dimension}"
            )
        return vectors

    # Whether the service or a text is at fault...

    def record_failed_text(self, error: CfaiError) -> None:
        """Record that a text failed alone.

        Raises:
            CfaiError: *error*, if many have, and no text was ever embedded.
        """
        if self.sample is not None or isinstance(error, InputError):
            return
        self._failed_texts += 1
        if self._failed_texts >= _MAX_FAILURES:
            error.add_note(f"none of the first {self._failed_texts} texts was embedded, each alone")
            raise error

    def record_first_try(self, *, answered: bool) -> None:
        """Record whether the service answered a request that had not failed before."""
        self._answers += answered
        self._faults += not answered

    def record_fault(self, request: FailedRequest, error: CfaiError) -> bool:
        """Record that a request failed; returns whether the service answered others meanwhile."""
        request.error = error
        request.failures += 1
        if isinstance(error, RateLimited):
            return False
        if request.failures == 1 and not request.suspected:
            self.record_first_try(answered=False)
        counts = request.since is None or self.has_answered_since(request.since)
        request.faults += counts
        request.since = self.counters()
        request.origin = request.origin or request.since
        return counts

    def is_at_fault(self, request: FailedRequest, texts: int, faults: int) -> bool:
        """Whether a text is at fault for *faults* failures of a request with so many *texts*.

        Otherwise the service is, as always if no text was embedded yet.
        """
        if request.origin is None or self.sample is None:
            return False
        return self.fault_rate_since(request.origin) ** faults <= request.threshold(texts)

    def fault_rate_since(self, counters: Counters) -> float:
        """The probability that the service fails a request, estimated from those since *counters*.

        This is Laplace's rule of succession.
        """
        answers, faults = self._answers - counters.answers, self._faults - counters.faults
        return (faults + 1) / (answers + faults + 2)

    def counters(self) -> Counters:
        """Return the counters of the job now."""
        return Counters(self._sent, self._answers, self._faults)

    def has_answered_since(self, counters: Counters | None) -> bool:
        """Whether a request that was sent after *counters* was answered."""
        return counters is not None and self._last_answered > counters.sent

    def _record_answer(self, number: int) -> None:
        self._was_answered = True
        self._last_answered = max(self._last_answered, number)
        self._silent_since = None

    # Waiting...

    async def sleep(self, seconds: float) -> None:
        """Sleep, but not longer than the client is open."""
        with self.open_call():
            await asyncio.sleep(seconds)

    async def wait_for_answer(
        self, request: FailedRequest, send_sample: Callable[[Sequence[str]], Awaitable[object]]
    ) -> None:
        """Wait until the service has answered a request that was sent after *request* failed.

        If no other request is under way, the sample is sent. As long as there is no sample, and
        after a 429, this only waits for some time.

        Raises:
            CfaiError: The service does not answer, and the request is not to be repeated.
        """
        delay, failures, since = request.delay, request.failures, request.since
        if isinstance(request.error, RateLimited) or since is None:
            await self.sleep(delay)
            return
        if isinstance(request.error, StatusError) and request.error.retry_after:
            await self.sleep(delay)
        async with self._watch:
            while not self.has_answered_since(since):
                with self.open_call():
                    await self._watch_others(delay, since)
                if self.sample is None or self.has_answered_since(since):
                    return
                failures += 1
                delay = await self._try_sample(send_sample([self.sample]), failures)

    async def _watch_others(self, delay: float, since: Counters) -> None:
        """Wait for an answer, at least *delay* seconds and until no other request is under way."""
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                while not self.has_answered_since(since):
                    await self._ended.wait()
        while not self.has_answered_since(since) and max(self._under_way, default=0) > since.sent:
            await self._ended.wait()

    async def _try_sample(self, answer: Awaitable[object], failures: int) -> float:
        """Try whether the service answers; returns for how long to wait if it does not."""
        try:
            await answer
        except CfaiError as exc:
            if concerns_all_texts(exc):
                raise
            if not is_text_error(exc):
                self.record_first_try(answered=False)
                return self.plan_retry(exc, failures)
        self.record_first_try(answered=True)
        return 0.0

    def plan_retry(self, error: CfaiError, failures: int) -> float:
        """Return the seconds until a request is repeated that failed *failures* times.

        Raises:
            CfaiError: *error*, if it is not to be repeated.
        """
        now = asyncio.get_running_loop().time()
        if self._silent_since is None:
            self._silent_since = now
        delay = backoff_delay(self.retries, failures, error, random=random)
        if delay is None or not self.retries.max or not self._is_temporary(error, failures):
            raise error
        if now - self._silent_since >= MAX_SILENCE:
            error.add_note(f"the service has answered no request for {MAX_SILENCE / 60:g} minutes")
            raise error
        self._reporter.repeated_calls += 1
        LOGGER.info("embedding: %s; again in %.3f s at most", describe_reason(error), delay)
        if self.retries.on_retry is not None:
            self.retries.on_retry(Retry(failures, error, delay))
        return delay

    def _is_temporary(self, error: CfaiError, failures: int) -> bool:
        """Whether the service may answer later: if it never did, only some failures are waited for.

        If no connection was ever made, the address is probably wrong.
        """
        match error:
            case RateLimited():
                return True
            case ConnectError() | RequestTimeout(phase="connect"):
                return self._was_answered or failures <= self.retries.max
        return self._was_answered or failures < _MAX_FAILURES


@define(eq=False)
class _Part(FailedRequest):
    """Texts of a batch, from *first* to *last* (not included), that are sent together."""

    first: int
    last: int
    parent: tuple[int, int] = field(default=(0, 0), kw_only=True)
    """The texts of the part that it was split from."""

    @property
    def size(self) -> int:
        return self.last - self.first

    def split(self, at: int) -> "list[_Part]":
        """Return the texts before and after index *at*, as parts of their own."""
        return [
            _Part(
                first,
                last,
                suspected=True,
                origin=self.origin,
                since=self.since,
                parent=(self.first, self.last),
            )
            for first, last in ((self.first, at), (at, self.last))
        ]


@define(eq=False)
class BatchRecovery:
    """The texts of one batch, sent together or in parts until each has its vector or its failure.

    What becomes of them is appended to *results*, in the order of the texts at the end.
    """

    _service: PatientService
    _texts: Sequence[str]
    _results: list[RangeResult]
    _on_error: OnError
    _limits: TokenLimits | None = None
    _parts: deque[_Part] = field(factory=deque, init=False)
    _failed: list[tuple[int, int]] = field(factory=list, init=False)
    """For each failure that counts, the range of texts in its request."""
    _at_fault: list[tuple[int, int]] = field(factory=list, init=False)
    """The ranges of texts that were halved or given up."""

    async def run(self) -> None:
        """Embed the texts.

        Raises:
            CfaiError: A text failed and *on_error* is "raise", or the error concerns all texts. The
                results before it are in *results*.
        """
        self._parts.append(_Part(0, len(self._texts)))
        try:
            while self._parts:
                await self._send_next()
        finally:
            self._results.sort(key=lambda result: result.first)

    async def _send_next(self) -> None:
        part = self._parts.popleft()
        if part.suspected and self._is_cleared(part):
            part.suspected = False
        if not part.suspected or self._service.sample is not None:
            await self._send(part)
            return
        # As long as no text was embedded, it is unknown whether texts are at fault at all.
        async with self._service.first_search:
            if part.size > 1 and self._service.sample is None:
                part, rest = part.split(part.first + 1)
                self._parts.appendleft(rest)
            await self._send(part)

    async def _send(self, part: _Part) -> None:
        service = self._service
        if part.error is not None:
            await service.wait_for_answer(part, service.embed)
            is_fault = not isinstance(part.error, RateLimited)
            if is_fault and part.suspected and service.has_answered_since(part.since):
                part.faults += part.size > 1
                if self._is_at_fault(part):
                    self._split(part, part.error)
                    return
        try:
            vectors = await service.embed(self._texts[part.first : part.last])
        except CfaiError as exc:
            if part.size > 1:
                service.record_miscount(exc)
            self._handle_error(part, exc)
            return
        if part.suspected:  # It was suspected wrongly, so these were faults of the service.
            for _ in range(part.faults):
                service.record_first_try(answered=False)
        if part.suspected or not part.failures:
            service.record_first_try(answered=True)
        self._results.append(RangeResult(part.first, part.last, vectors))

    def _handle_error(self, part: _Part, error: CfaiError) -> None:
        """Split the part, give it up, or put it back.

        Raises:
            CfaiError: *error*, if it ends the job.
        """
        if concerns_all_texts(error):
            raise error
        service = self._service
        if is_text_error(error):
            if not (part.failures or isinstance(error, InputError)):
                service.record_first_try(answered=True)
            self._split(part, error)
            return
        if service.record_fault(part, error):
            self._failed.append((part.first, part.last))
        if isinstance(error, RateLimited):
            part.delay = service.plan_retry(error, part.failures)
            self._parts.appendleft(part)
            return
        if service.sample is None:
            part.suspected = part.suspected or part.failures > service.retries.max
            if part.suspected and part.size == 1:
                service.record_failed_text(error)
        elif self._is_at_fault(part):
            self._split(part, error)
            return
        part.delay = service.plan_retry(error, part.failures)
        self._parts.append(part)

    def _is_at_fault(self, part: _Part) -> bool:
        """Whether a text of the part is at fault, and not the service."""
        faults = self._count_faults(part) if part.size == 1 else part.faults
        return self._service.is_at_fault(part, part.size, faults)

    def _count_faults(self, part: _Part) -> int:
        """How many requests failed that had this text, and otherwise only texts with a vector.

        Those of the parts that it was in count once the other texts of these were embedded.
        """
        good = self._mark_embedded()
        good[part.first] = True
        containing = [ends for ends in self._failed if ends[0] <= part.first < ends[1]]
        return sum(all(good[first:last]) for first, last in containing)

    def _is_cleared(self, part: _Part) -> bool:
        """Whether the other half explains why a part was suspected: a text of it is at fault."""
        if part.size == 1 or self._service.sample is None:
            return False
        first, last = part.parent
        good = self._mark_embedded()
        return any(
            not all(good[begin:end])
            for begin, end in self._at_fault
            if first <= begin < end <= part.first or part.last <= begin < end <= last
        )

    def _mark_embedded(self) -> bytearray:
        """Return a 1 for each text that has its vector, and a 0 for the others."""
        good = bytearray(len(self._texts))
        for result in self._results:
            if isinstance(result.outcome, Embeddings):
                good[result.first : result.last] = b"\1" * (result.last - result.first)
        return good

    def _split(self, part: _Part, error: CfaiError) -> None:
        """Halve a part because of a text in it, or give its only text up."""
        self._at_fault.append((part.first, part.last))
        if part.size == 1:
            if self._on_error != "raise":
                self._service.record_failed_text(error)
            self._results.append(RangeResult(part.first, part.last, error))
            if self._on_error == "raise":
                raise error
            return
        if self._limits is not None:
            self._limits.learn(error, self._texts[part.first : part.last])
        if self._service.sample is None and not isinstance(error, InputError):
            part.suspected, part.error = True, None
            self._parts.appendleft(part)
            return
        self._parts.extendleft(reversed(part.split((part.first + part.last) // 2)))
