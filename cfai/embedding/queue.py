"""Requests of a job that go through the service's queue: submitted in batches, polled until done.

Source: Cloudflare docs, Workers AI, "Asynchronous Batch API".
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from math import inf
from typing import Any, Final, TypeAlias

from attrs import define, field, frozen

from cfai._session.retries import should_retry
from cfai._wire.bodies import encode_json
from cfai.embedding.options import OnError
from cfai.embedding.recovery import (
    MAX_SILENCE,
    FailedRequest,
    PatientService,
    concerns_all_texts,
    is_text_error,
)
from cfai.embedding.results import RangeResult
from cfai.embedding.source import TokenLimits
from cfai.errors import (
    AnswerTooLarge,
    BadRequest,
    CfaiError,
    DecodeError,
    InputError,
    NotFound,
    RateLimited,
    ServerError,
)
from cfai.resources.queue import BatchStatus, QueuedItem, QueuedTask
from cfai.settings import Polling
from cfai.tasks import Embeddings

RequestFuture: TypeAlias = "asyncio.Future[Embeddings | CfaiError]"
"""The outcome of one request."""

_MAX_BYTES: Final = 9_900_000
"""In one batch. The service's limit is 10 MB, with its envelope."""

_MAX_TEXTS: Final = 1_000
"""In one batch: their vectors come in one answer, which is 20 MB at 1024 dimensions."""

_MAX_REQUESTS: Final = 100
"""In one batch."""

_MAX_BATCHES: Final = 64
"""At once, if `concurrency` sets no limit."""


@define(eq=False)
class _PendingRequest:
    """A request whose outcome is not known yet."""

    request: QueuedTask
    texts: int
    size: int
    """Bytes of its body."""
    future: RequestFuture
    owner: "asyncio.Task[Any] | None"
    resubmissions: int = field(default=0, init=False)


@frozen
class _LostBatch:
    """A batch that was accepted, and then not handed out."""

    error: CfaiError
    handed_out: int
    """How many others had been when its polls began to fail."""
    silent: bool = False
    """Whether its polls failed for so long that it was given up."""


def max_pending_requests(limit: float, texts_per_request: int) -> float:
    """Return how many requests fill *limit* batches, and one more that is being collected."""
    requests_per_batch = min(_MAX_REQUESTS, max(1, _MAX_TEXTS // texts_per_request))
    return (min(limit, _MAX_BATCHES) + 1) * requests_per_batch


class BatchQueue:
    """Submits requests in batches, polls the batches, and sets the outcome of each request.

    A batch is submitted when it is full, or when it has waited for the first delay of the polling.
    """

    def __init__(self, service: PatientService, polling: Polling) -> None:
        self._service = service
        self._polling = polling
        self._waiting: deque[_PendingRequest] = deque()
        self._batches: dict[asyncio.Task[None], Sequence[_PendingRequest]] = {}
        self._submitted: set[asyncio.Task[Any] | None] = set()
        """The tasks whose batch is in the service's queue."""
        self._job_failed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._references = 0
        self._handed_out = 0
        """Batches whose vectors have come."""
        self._losing: set[asyncio.Task[Any] | None] = set()
        """The tasks whose batch was lost at least once."""
        self._trial = asyncio.Lock()
        """Held by the one who tries whether the service hands out a batch."""

    def finish(self) -> "set[asyncio.Task[Any] | None]":
        """The job has failed: poll the submitted batches at once, and as long as there is time.

        Returns the job tasks that may still get their outcomes.
        """
        self._job_failed.set()
        running = self._service.throttle.active | self._submitted
        return {
            pending.owner
            for task, batch in self._batches.items()
            if task in running
            for pending in batch
        }

    def enqueue(self, texts: Sequence[str]) -> RequestFuture:
        """Put one request into the next batch. Cancelling the future withdraws it."""
        future: RequestFuture = asyncio.get_running_loop().create_future()
        try:
            request = self._build_request(texts)
            size = len(encode_json(request.fields))
            if size > _MAX_BYTES:
                raise InputError(f"the texts of a request must be under 10 MB, got {size} bytes")
        except CfaiError as exc:
            future.set_result(exc)
            return future
        pending = _PendingRequest(request, len(texts), size, future, asyncio.current_task())
        future.add_done_callback(self._future_done)
        self._waiting.append(pending)
        self._submit_batches()
        return future

    def _build_request(self, texts: Sequence[str]) -> QueuedTask:
        """Build a request with a reference of its own."""
        self._references += 1
        return self._service.build_request(texts, str(self._references))

    async def wait(self, futures: Iterable[RequestFuture]) -> None:
        """Wait until these requests are done, in whatever state their batches are.

        Raises:
            ConfigError: The client was closed.
        """
        with self._service.open_call():
            await asyncio.wait(futures)

    def record_embedded(self, text: str) -> None:
        """Record that *text* was embedded."""
        self._service.sample = self._service.sample or text

    def record_failed_text(self, error: CfaiError) -> None:
        """See `PatientService.record_failed_text`."""
        self._service.record_failed_text(error)

    async def aclose(self) -> None:
        """Stop polling. The service goes on with the submitted batches; their outcome is lost."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in self._batches:
            task.cancel()
        await asyncio.gather(*self._batches, return_exceptions=True)

    # Collecting batches...

    def _submit_batches(self, *, due: bool = False) -> None:
        """Submit full batches; if *due*, also one that is not full."""
        limit = min(self._service.throttle.limit, _MAX_BATCHES)
        while self._waiting and len(self._batches) < limit:
            batch, full = self._next_batch()
            if not (full or due):
                if self._timer is None:
                    loop = asyncio.get_running_loop()
                    self._timer = loop.call_later(self._polling.base, self._timer_expired)
                return
            for _ in batch:
                self._waiting.popleft()
            task = asyncio.create_task(self._run_batch(batch))
            self._batches[task] = batch
            task.add_done_callback(self._batch_done)

    def _next_batch(self) -> tuple[list[_PendingRequest], bool]:
        """Return the next batch, and whether it is full."""
        batch: list[_PendingRequest] = []
        texts = size = 0
        for pending in self._waiting:
            texts, size = texts + pending.texts, size + pending.size
            if batch and (len(batch) >= _MAX_REQUESTS or texts > _MAX_TEXTS or size > _MAX_BYTES):
                return batch, True
            batch.append(pending)
        return batch, len(batch) >= _MAX_REQUESTS or texts >= _MAX_TEXTS

    def _timer_expired(self) -> None:
        self._timer = None
        self._submit_batches(due=True)

    def _future_done(self, future: RequestFuture) -> None:
        """Drop a cancelled request that waits: it would be submitted, and nobody waits for it."""
        if future.cancelled():
            self._waiting = deque(pending for pending in self._waiting if not pending.future.done())

    # One batch...

    def _batch_done(self, task: asyncio.Task[None]) -> None:
        batch = self._batches.pop(task)
        self._submitted.discard(task)
        self._losing.discard(task)
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:
            for pending in batch:
                if pending.future.done():
                    continue
                if error is None:
                    pending.future.cancel()
                else:
                    pending.future.set_exception(error)
        self._submit_batches()

    async def _run_batch(self, batch: Sequence[_PendingRequest]) -> None:
        """Submit a batch, wait for it, and settle each of its requests."""
        requests = [pending.request for pending in batch]
        outcome = await self._get_items(requests, sum(pending.texts for pending in batch))
        if not isinstance(outcome, CfaiError):
            for pending, item in zip(batch, outcome, strict=False):
                self._settle_item(pending, item)
        elif len(batch) == 1:
            self._settle(batch, outcome)
        else:
            half = len(batch) // 2
            await self._run_batch(batch[:half])
            await self._run_batch(batch[half:])

    async def _get_items(
        self, requests: Sequence[QueuedTask], texts: int
    ) -> Sequence[QueuedItem[Embeddings]] | CfaiError:
        """Submit a batch until the service returns its items, in the order of the requests.

        Returns:
            The items, or the error if some of the *texts* are at fault for it.

        Raises:
            CfaiError: The error ends the job.
        """
        service, attempts, losses, lost_since = self._service, FailedRequest(), 0, inf
        while True:
            state = await self._submit(requests, texts, attempts)
            if isinstance(state, CfaiError):
                return state
            lost = await self._poll_until_done(state, requests, MAX_SILENCE)
            if not isinstance(lost, _LostBatch):
                return lost
            losses += 1
            service.record_fault(attempts, lost.error)
            if await self._hands_out_others(lost.handed_out):
                lost_since = inf
                silent = lost.silent and (texts > 1 or losses > service.retries.max)
                if silent or service.is_at_fault(attempts, texts, attempts.faults):
                    return _blame_texts(lost.error)
            lost_since = min(lost_since, asyncio.get_running_loop().time())
            await self._check_patience(lost, losses, lost_since)
            attempts.delay = service.plan_retry(lost.error, attempts.failures)
            await service.sleep(attempts.delay)

    async def _check_patience(self, lost: _LostBatch, losses: int, lost_since: float) -> None:
        """Raise the error of a batch if it, and all others since, were lost for too long.

        As long as no text was embedded, each may be lost as often as `Retries` allows.
        """
        service, waits = self._service, 0
        self._losing.add(asyncio.current_task())
        if service.sample is not None:
            silent = lost.silent and self._handed_out == lost.handed_out
            if silent or asyncio.get_running_loop().time() - lost_since >= MAX_SILENCE:
                raise lost.error
        elif lost.silent or losses > service.retries.max:
            while self._batches.keys() - self._losing and service.sample is None:
                waits += 1
                await service.sleep(self._polling.pause(waits))
            if service.sample is None:
                raise lost.error

    async def _hands_out_others(self, since: int) -> bool:
        """Whether more than *since* batches were handed out; if not, a good text is tried."""
        if self._handed_out == since:
            async with self._trial:
                if self._handed_out == since and not self._job_failed.is_set():
                    await self._try_sample()
        return self._handed_out > since

    async def _try_sample(self) -> None:
        sample = self._service.sample
        if sample is None:
            return
        requests = [self._build_request([sample])]
        state = await self._submit(requests, 1, FailedRequest())
        if not isinstance(state, CfaiError):
            await self._poll_until_done(state, requests, MAX_SILENCE / 10)

    async def _submit(
        self, requests: Sequence[QueuedTask], texts: int, attempts: FailedRequest
    ) -> BatchStatus[Embeddings] | CfaiError:
        """Submit a batch until the service accepts it, or some of the *texts* are at fault."""
        service = self._service
        while True:
            try:
                state = await service.submit(requests)
            except CfaiError as exc:
                if concerns_all_texts(exc):
                    raise
                if is_text_error(exc):
                    return exc
                service.record_fault(attempts, exc)
                if service.is_at_fault(attempts, texts, attempts.faults):
                    return exc
                attempts.delay = service.plan_retry(exc, attempts.failures)
                if texts > 1 and attempts.failures > service.retries.max:
                    await self._find_sample(requests)
            else:
                if not attempts.failures:
                    service.record_first_try(answered=True)
                return state
            await service.wait_for_answer(attempts, self._submit_sample)

    async def _find_sample(self, requests: Sequence[QueuedTask]) -> None:
        """Submit single texts until the service accepts one, if it has not embedded any yet.

        Without one, it is unknown whether texts are at fault at all.

        Raises:
            CfaiError: The service accepts none.
        """
        service, failures = self._service, 0
        async with service.first_search:
            for text in (text for request in requests for text in request.fields["text"]):
                if service.sample is not None:
                    return
                try:
                    await self._submit_sample([text])
                except CfaiError as exc:
                    if concerns_all_texts(exc):
                        raise
                    failures += 1
                    await service.sleep(service.plan_retry(exc, failures))
                else:
                    service.sample = text

    async def _submit_sample(self, texts: Sequence[str]) -> None:
        """Try whether the service accepts a batch. The vectors are not needed."""
        await self._service.submit([self._build_request(texts)])

    async def _poll_until_done(
        self, batch: BatchStatus[Embeddings], requests: Sequence[QueuedTask], patience: float
    ) -> Sequence[QueuedItem[Embeddings]] | _LostBatch | AnswerTooLarge:
        """Return the items of a batch, unless it is lost or its answer too large.

        It is lost, too, if its polls fail for *patience* seconds. Answers to other requests do not
        help a batch whose own polls all fail.
        """
        request_id, polls, failures, delay = batch.request_id or "", 0, 0, 0.0
        failing_since, handed_out = inf, self._handed_out
        while batch.items is None:
            if (error := _error_of_batch(batch, request_id)) is not None:
                return _LostBatch(error, handed_out)
            self._submitted.add(asyncio.current_task())
            polls += 1
            await self._wait_before_poll(max(delay, self._polling.pause(polls)))
            try:
                # A throttle of a job that failed is closed.
                throttle = None if self._job_failed.is_set() else self._service.throttle
                batch = await self._service.poll(requests, request_id, throttle)
            except AnswerTooLarge as exc:
                return exc
            except CfaiError as exc:
                if isinstance(exc, NotFound) or is_text_error(exc):
                    return _LostBatch(exc, handed_out)
                if concerns_all_texts(exc):
                    raise
                failures += 1
                now = asyncio.get_running_loop().time()
                if not isinstance(exc, RateLimited):
                    failing_since = min(failing_since, now)
                if now - failing_since >= patience:
                    return _LostBatch(exc, handed_out, silent=True)
                delay = self._service.plan_retry(exc, failures)
            else:
                failures, failing_since, delay = 0, inf, 0.0
                handed_out = self._handed_out
        return self._check_items(batch.items, handed_out)

    def _check_items(
        self, items: Sequence[QueuedItem[Embeddings]], handed_out: int
    ) -> Sequence[QueuedItem[Embeddings]] | _LostBatch:
        """Return the items of a batch; it is lost if none has vectors, and no text is refused.

        As long as no text was embedded, each item counts by itself.
        """
        if any(item.answer is not None for item in items):
            self._handed_out += 1
            return items
        errors = [_error_of(item) for item in items]
        if self._service.sample is None or any(
            concerns_all_texts(error) or is_text_error(error) for error in errors
        ):
            return items
        error = errors[0] if errors else DecodeError("the service returned no results of a batch")
        return _LostBatch(error, handed_out)

    async def _wait_before_poll(self, delay: float) -> None:
        """Wait until the next poll is due: at once when the job fails."""
        if self._job_failed.is_set():
            await asyncio.sleep(self._polling.pause(1))
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._job_failed.wait()

    def _settle_item(self, pending: _PendingRequest, item: QueuedItem[Embeddings]) -> None:
        if item.answer is not None:
            try:
                self._settle([pending], self._service.check_dimension(item.answer))
            except DecodeError as exc:
                self._settle([pending], exc)
            return
        error = _error_of(item)
        if pending.texts > 1:
            self._service.record_miscount(error)
        in_results = item.raw is not None
        several = in_results and pending.texts > 1
        if several and isinstance(error, ServerError) and error.code is None:
            # The service gives no reason. If others succeeded, the texts are probably at fault.
            error = BadRequest(error.message, status=error.status, meta=error.meta)
        lost = not in_results and not concerns_all_texts(error)
        if not ((lost or should_retry(error, repeatable=True)) and self._resubmit(pending)):
            self._settle([pending], error)

    def _settle(self, batch: Sequence[_PendingRequest], outcome: Embeddings | CfaiError) -> None:
        for pending in batch:
            if not pending.future.done():
                pending.future.set_result(outcome)

    def _resubmit(self, pending: _PendingRequest) -> bool:
        """Put a request back, unless that was done as often as `Retries` allows."""
        pending.resubmissions += 1
        if pending.resubmissions > self._service.retries.max:
            return False
        if not pending.future.done():
            self._waiting.append(pending)
        return True


def _error_of_batch(batch: BatchStatus[Embeddings], request_id: str) -> CfaiError | None:
    """Return why a batch is lost.

    Raises:
        CfaiError: The error concerns all texts.
    """
    if batch.error is not None and concerns_all_texts(batch.error):
        raise batch.error
    if batch.error is None and not request_id:
        return DecodeError("the service queued a batch and returned no request_id")
    return batch.error


def _error_of(item: QueuedItem[Embeddings]) -> CfaiError:
    return item.error or DecodeError("the service returned no result for these texts")


def _blame_texts(error: CfaiError) -> CfaiError:
    """Return the error of a lost batch as one of its texts: a 404 would end the job."""
    if not isinstance(error, NotFound):
        return error
    return BadRequest(error.message, status=error.status, ray_id=error.ray_id, meta=error.meta)


@define(eq=False)
class QueueRecovery:
    """Like `BatchRecovery`; all halves go into the queue at once, since each answer takes long."""

    _queue: BatchQueue
    _texts: Sequence[str]
    _results: list[RangeResult]
    _on_error: OnError
    _limits: TokenLimits | None = None

    async def run(self) -> None:
        """Embed the texts; see `BatchRecovery.run`."""
        ranges = [(0, len(self._texts))]
        while ranges:
            futures = [self._queue.enqueue(self._texts[first:last]) for first, last in ranges]
            failed: list[BaseException] = []
            try:
                await self._queue.wait(futures)
            finally:
                ranges = self._settle(zip(ranges, futures, strict=True), failed)
            if failed:
                raise failed[0]
            if any(future.cancelled() for future in futures):
                raise asyncio.CancelledError

    def _settle(
        self,
        requests: Iterable[tuple[tuple[int, int], RequestFuture]],
        failed: list[BaseException],
    ) -> list[tuple[int, int]]:
        """Sort the outcomes into results and errors that end the job (*failed*).

        Returns:
            The ranges of the next round.
        """
        halves: list[tuple[int, int]] = []
        for (first, last), future in requests:
            future.cancel()  # Has no effect on one that is done.
            if future.cancelled():
                continue
            if (error := future.exception()) is not None:
                failed.append(error)
                continue
            outcome = future.result()
            if isinstance(outcome, Embeddings):
                self._queue.record_embedded(self._texts[first])
                self._results.append(RangeResult(first, last, outcome))
            elif _ends_job(outcome):
                failed.append(outcome)
            elif last - first > 1:
                halves += self._halve(first, last, outcome)
            else:
                self._give_up(first, outcome, failed)
        self._results.sort(key=lambda result: result.first)
        return halves

    def _halve(self, first: int, last: int, error: CfaiError) -> list[tuple[int, int]]:
        if self._limits is not None and is_text_error(error):
            self._limits.learn(error, self._texts[first:last])
        half = (first + last) // 2
        return [(first, half), (half, last)]

    def _give_up(self, first: int, error: CfaiError, failed: list[BaseException]) -> None:
        """Record that a text failed alone; this may end the job."""
        if self._on_error == "raise":
            failed.append(error)
        else:
            try:
                self._queue.record_failed_text(error)
            except CfaiError:
                failed.append(error)
                return
        self._results.append(RangeResult(first, first + 1, error))


def _ends_job(error: CfaiError) -> bool:
    """Whether the error of a request is one of all texts, or of a service that is busy for long."""
    return concerns_all_texts(error) or isinstance(error, RateLimited)
