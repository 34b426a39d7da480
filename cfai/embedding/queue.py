"""Requests of a job that go through the service's queue: submitted in batches, polled until done.

Source: Cloudflare docs, Workers AI, "Asynchronous Batch API".
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias

from attrs import define, field, frozen

from cfai._session.retries import should_retry
from cfai._wire.bodies import encode_json
from cfai.embedding.options import OnError
from cfai.embedding.recovery import (
    TEXT_ERRORS,
    FailureJudge,
    RetryingService,
    concerns_all_texts,
)
from cfai.embedding.results import RangeResult
from cfai.errors import (
    BadRequest,
    CfaiError,
    DecodeError,
    InputError,
    NotFound,
    ServerError,
    ServiceTimeout,
    TransportError,
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

_MAX_FAILED_POLLS: Final = 5
"""In a row, each with its retries, before a batch is given up."""

_LOST_BATCH: Final = (BadRequest, NotFound, DecodeError)
"""Errors of a poll if the batch is lost or expired."""


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


def max_pending_requests(limit: float, texts_per_request: int) -> float:
    """Return how many requests fill *limit* batches, and one more that is being collected."""
    requests_per_batch = min(_MAX_REQUESTS, max(1, _MAX_TEXTS // texts_per_request))
    return (min(limit, _MAX_BATCHES) + 1) * requests_per_batch


class BatchQueue:
    """Submits requests in batches, polls the batches, and sets the outcome of each request.

    A batch is submitted when it is full, or when it has waited for the first delay of the polling.
    """

    def __init__(self, service: RetryingService, polling: Polling) -> None:
        self._service = service
        self._polling = polling
        self._waiting: deque[_PendingRequest] = deque()
        self._batches: dict[asyncio.Task[None], Sequence[_PendingRequest]] = {}
        self._submitted: set[asyncio.Task[Any] | None] = set()
        """The tasks whose batch is in the service's queue."""
        self._job_failed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._references = 0

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
        self._references += 1
        try:
            request = self._service.build_request(texts, str(self._references))
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
        """Drop a cancelled request, and batches of which every request is cancelled."""
        if not future.cancelled():
            return
        self._waiting = deque(pending for pending in self._waiting if not pending.future.done())
        for task, batch in self._batches.items():
            if all(pending.future.done() for pending in batch):
                task.cancel()

    # One batch...

    def _batch_done(self, task: asyncio.Task[None]) -> None:
        batch = self._batches.pop(task)
        self._submitted.discard(task)
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
        try:
            state = await self._service.submit(requests)
        except TEXT_ERRORS as exc:
            if len(batch) > 1 and not concerns_all_texts(exc):
                half = len(batch) // 2
                await self._run_batch(batch[:half])
                await self._run_batch(batch[half:])
                return
            self._settle(batch, exc)
            return
        except CfaiError as exc:
            self._settle(batch, exc)
            return
        try:
            items = await self._poll_until_done(state, requests)
        except _LOST_BATCH as exc:
            for pending in batch:
                if not self._resubmit(pending):
                    self._settle([pending], exc)
        except CfaiError as exc:
            self._settle(batch, exc)
        else:
            for pending, item in zip(batch, items, strict=False):
                self._settle_item(pending, item)

    async def _poll_until_done(
        self, batch: BatchStatus[Embeddings], requests: Sequence[QueuedTask]
    ) -> Sequence[QueuedItem[Embeddings]]:
        """Return the items of a batch, in the order of its requests."""
        request_id = batch.request_id
        polls = failed = 0
        while batch.items is None:
            if batch.error is not None:  # The service gave up, and all requests are lost.
                return [QueuedItem(None, error=batch.error) for _ in requests]
            if request_id is None:
                raise DecodeError("the service queued a batch and returned no request_id")
            self._submitted.add(asyncio.current_task())
            polls += 1
            await self._wait_before_poll(polls)
            try:
                if self._job_failed.is_set():
                    batch = await self._service.poll_unthrottled(requests, request_id)
                else:
                    batch = await self._service.poll(requests, request_id)
            except (TransportError, ServerError, ServiceTimeout):
                failed += 1
                if failed >= _MAX_FAILED_POLLS:
                    raise
            else:
                failed = 0
        return batch.items

    async def _wait_before_poll(self, polls: int) -> None:
        """Wait until the next poll is due: at once when the job fails."""
        with self._service.open_call():
            if self._job_failed.is_set():
                await asyncio.sleep(self._polling.pause(1))
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(self._polling.pause(polls)):
                    await self._job_failed.wait()

    def _settle_item(self, pending: _PendingRequest, item: QueuedItem[Embeddings]) -> None:
        if item.answer is not None:
            try:
                self._settle([pending], self._service.check_dimension(item.answer))
            except DecodeError as exc:
                self._settle([pending], exc)
            return
        error = item.error or DecodeError("the service returned no result for these texts")
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


async def embed_batch_through_queue(
    queue: BatchQueue,
    texts: Sequence[str],
    results: list[RangeResult],
    *,
    on_error: OnError,
    judge: FailureJudge,
) -> None:
    """As `embed_batch`, but all halves go into the queue at once, since each answer takes long."""
    ranges = [(0, len(texts))]
    while ranges:
        futures = [queue.enqueue(texts[first:last]) for first, last in ranges]
        failed: list[CfaiError] = []
        try:
            await asyncio.wait(futures)
        finally:
            settling = _Settling(texts, results, failed, on_error, judge)
            ranges = settling.settle(zip(ranges, futures, strict=True))
        if failed:
            raise failed[0]
        if any(future.cancelled() for future in futures):
            raise asyncio.CancelledError


@frozen(eq=False)
class _Settling:
    """Sorts the outcomes of one round into *results* and errors that end the job (*failed*)."""

    texts: Sequence[str]
    results: list[RangeResult]
    failed: list[CfaiError]
    on_error: OnError
    judge: FailureJudge

    def settle(
        self, requests: Iterable[tuple[tuple[int, int], RequestFuture]]
    ) -> list[tuple[int, int]]:
        """Settle each request, and return the ranges of the next round."""
        halves: list[tuple[int, int]] = []
        for (first, last), future in requests:
            future.cancel()  # Has no effect on one that is done.
            if future.cancelled():
                continue
            outcome = future.result()
            if isinstance(outcome, Embeddings):
                self.judge.record_success()
            elif self.judge.ends_job(outcome, last - first):
                self.failed.append(outcome)
                continue
            elif isinstance(outcome, TEXT_ERRORS) and last - first > 1:
                self.judge.record_text_error(outcome, self.texts[first:last])
                half = (first + last) // 2
                halves += [(first, half), (half, last)]
                continue
            elif self.on_error == "raise":
                self.failed.append(outcome)
            self.results.append(RangeResult(first, last, outcome))
        self.results.sort(key=lambda result: result.first)
        return halves
