"""A job's way through the service's queue: many requests are handed over, and looked at until done.

Source: Cloudflare docs, Workers AI, "Asynchronous Batch API".
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from attrs import define, field

from cfai._session.retries import should_retry
from cfai._wire.bodies import encode_json
from cfai.embedding.asking import Asking, Service
from cfai.embedding.pieces import ABOUT_TEXTS, Outcome, about_all
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

_BYTES: Final = 9_900_000
"""In one batch. The service's bound is 10 MB, its envelope included."""

_TEXTS: Final = 1_000
"""In one batch: their vectors come in one answer, which is 20 MB at 1024 dimensions."""

_REQUESTS: Final = 100
"""In one batch."""

_BATCHES: Final = 64
"""At once, where there is no limit on them."""

_FAILED_LOOKS: Final = 5
"""In a row, each with its retries, after which it is given up to look at a batch."""

_LOST: Final = (BadRequest, NotFound, DecodeError)
"""What a look at a batch says that was lost, or has expired."""


@define(eq=False)
class _Ask:
    """One request's worth of texts on its way."""

    request: QueuedTask
    count: int
    size: int
    outcome: Outcome
    owner: "asyncio.Task[Any] | None"
    again: int = field(default=0, init=False)
    """How often it was handed over again."""


def under_way(limit: float, texts_per_request: int) -> float:
    """How many requests are in *limit* batches, and in one more that is being filled."""
    return (min(limit, _BATCHES) + 1) * min(_REQUESTS, max(1, _TEXTS // texts_per_request))


class Queue:
    """Hands requests over in batches, and gives each its answer.

    A batch goes when it is full, or when one was waiting for as long as the first pause of the
    polling.
    """

    def __init__(self, service: Service, asking: Asking, polling: Polling) -> None:
        self._service = service
        self._asking = asking
        self._polling = polling
        self._waiting: deque[_Ask] = deque()
        self._batches: dict[asyncio.Task[None], Sequence[_Ask]] = {}
        self._handed_over: set[asyncio.Task[Any] | None] = set()
        """Who carries a batch that the service has."""
        self._ending = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._asked = 0

    def look_once_more(self) -> "set[asyncio.Task[Any] | None]":
        """The job has failed: look at what was handed over now, and while it lets us.

        Gives whose answers may come yet.
        """
        self._ending.set()
        there = self._asking.throttle.active | self._handed_over
        return {ask.owner for task, asks in self._batches.items() if task in there for ask in asks}

    def ask(self, texts: Sequence[str]) -> Outcome:
        """What becomes of *texts*; who cancels it doesn't want it any more."""
        outcome: Outcome = asyncio.get_running_loop().create_future()
        self._asked += 1
        try:
            request = self._service.queued(texts, str(self._asked))
            size = len(encode_json(request.fields))
            if size > _BYTES:
                raise InputError(f"the texts of a request must be under 10 MB, got {size} bytes")
        except CfaiError as exc:
            outcome.set_result(exc)
            return outcome
        ask = _Ask(request, len(texts), size, outcome, asyncio.current_task())
        outcome.add_done_callback(lambda done: self._withdraw() if done.cancelled() else None)
        self._waiting.append(ask)
        self._dispatch()
        return outcome

    async def aclose(self) -> None:
        """Stop looking. What was handed over goes on at the service, and nobody hears of it."""
        self._stop_timer()
        for task in self._batches:
            task.cancel()
        await asyncio.gather(*self._batches, return_exceptions=True)

    # Making batches...

    def _dispatch(self, *, due: bool = False) -> None:
        """Hand over what fills a batch, and what was waiting for its *due* time."""
        while self._waiting and len(self._batches) < min(self._asking.throttle.limit, _BATCHES):
            asks, full = self._next()
            if not (full or due):
                if self._timer is None:
                    loop = asyncio.get_running_loop()
                    self._timer = loop.call_later(self._polling.base, self._waited)
                return
            for _ in asks:
                self._waiting.popleft()
            task = asyncio.create_task(self._carry(asks))
            self._batches[task] = asks
            task.add_done_callback(self._carried)

    def _next(self) -> tuple[list[_Ask], bool]:
        """What would go into the next batch, and whether nothing more does."""
        asks: list[_Ask] = []
        texts = size = 0
        for ask in self._waiting:
            texts, size = texts + ask.count, size + ask.size
            if asks and (len(asks) >= _REQUESTS or texts > _TEXTS or size > _BYTES):
                return asks, True
            asks.append(ask)
        return asks, len(asks) >= _REQUESTS or texts >= _TEXTS

    def _waited(self) -> None:
        self._timer = None
        self._dispatch(due=True)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _withdraw(self) -> None:
        """Forget what nobody wants any more."""
        self._waiting = deque(ask for ask in self._waiting if not ask.outcome.done())
        for task, asks in self._batches.items():
            if all(ask.outcome.done() for ask in asks):
                task.cancel()

    # One batch...

    def _carried(self, task: asyncio.Task[None]) -> None:
        asks = self._batches.pop(task)
        self._handed_over.discard(task)
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:
            for ask in asks:
                if ask.outcome.done():
                    continue
                if error is None:
                    ask.outcome.cancel()
                else:
                    ask.outcome.set_exception(error)
        self._dispatch()

    async def _carry(self, asks: Sequence[_Ask]) -> None:
        """Hand a batch over, wait for it, and settle each request in it."""
        requests = [ask.request for ask in asks]
        try:
            batch = await self._asking.patiently(partial(self._service.hand_over, requests))
        except ABOUT_TEXTS as exc:
            if len(asks) > 1 and not about_all(exc):
                half = len(asks) // 2
                await self._carry(asks[:half])
                await self._carry(asks[half:])
                return
            self._settle(asks, exc)
            return
        except CfaiError as exc:
            self._settle(asks, exc)
            return
        try:
            items = await self._done(batch, requests)
        except _LOST as exc:
            for ask in asks:
                if not self._once_more(ask):
                    self._settle([ask], exc)
        except CfaiError as exc:
            self._settle(asks, exc)
        else:
            for ask, item in zip(asks, items, strict=False):
                self._hear(ask, item)

    async def _done(
        self, batch: BatchStatus[Embeddings], requests: Sequence[QueuedTask]
    ) -> Sequence[QueuedItem[Embeddings]]:
        """The items of a batch, in the order of its requests."""
        known = batch.request_id
        looks = failed = 0
        while batch.items is None:
            if batch.error is not None:  # It was given up, and every request of it is lost.
                return [QueuedItem(None, error=batch.error) for _ in requests]
            if known is None:
                raise DecodeError("the service queued a batch and did not say what it knows it by")
            self._handed_over.add(asyncio.current_task())
            looks += 1
            await self._pause(looks)
            try:
                look = partial(self._service.look, requests, known)
                if self._ending.is_set():  # Past the throttle, which is closed.
                    batch = await look(None)
                else:
                    batch = await self._asking.patiently(look)
            except (TransportError, ServerError, ServiceTimeout):
                failed += 1
                if failed >= _FAILED_LOOKS:
                    raise
            else:
                failed = 0
        return batch.items

    async def _pause(self, looks: int) -> None:
        """Wait until the next look is due; the one after the job failed is due at once."""
        if self._ending.is_set():
            await asyncio.sleep(self._polling.pause(1))
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self._polling.pause(looks)):
                await self._ending.wait()

    def _hear(self, ask: _Ask, item: QueuedItem[Embeddings]) -> None:
        if item.answer is not None:
            try:
                self._settle([ask], self._asking.checked(item.answer))
            except DecodeError as exc:
                self._settle([ask], exc)
            return
        error = item.error or DecodeError("the service gave no result for these texts")
        told = item.raw is not None
        if told and ask.count > 1 and isinstance(error, ServerError) and error.code is None:
            # It doesn't say why. Of one item among others, it is about its texts, most likely.
            error = BadRequest(error.message, status=error.status, meta=error.meta)
        lost = not told and not about_all(error)
        if not ((lost or should_retry(error, repeatable=True)) and self._once_more(ask)):
            self._settle([ask], error)

    def _settle(self, asks: Sequence[_Ask], outcome: Embeddings | CfaiError) -> None:
        for ask in asks:
            if not ask.outcome.done():
                ask.outcome.set_result(outcome)

    def _once_more(self, ask: _Ask) -> bool:
        """Put a request back, unless that was done too often."""
        ask.again += 1
        if ask.again > self._service.retries.max:
            return False
        if not ask.outcome.done():
            self._waiting.append(ask)
        return True
