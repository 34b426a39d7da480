"""`EmbeddingJob`: reads texts, has them embedded many at a time, and gives what comes back."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from types import TracebackType
from typing import Final, Self

from cfai._gate import Gate, Gates
from cfai.embedding import pieces, queue, source
from cfai.embedding.asking import Asking, Service
from cfai.embedding.checkpoint import Checkpoint
from cfai.embedding.memory import Memory
from cfai.embedding.pieces import Embed, Piece
from cfai.embedding.plan import Plan
from cfai.embedding.queue import Queue
from cfai.embedding.reports import Reports
from cfai.embedding.source import Chunk, Texts
from cfai.embedding.values import EmbeddedBatch, EmbedFailure, JobStats
from cfai.embedding.whole import Whole
from cfai.errors import ConfigError, InputError
from cfai.tasks import Embeddings

Item = EmbeddedBatch | EmbedFailure

_GRACE: Final = 5.0
"""Seconds that a job which failed waits for the answers that are under way."""

_MOST_UNDER_WAY: Final = 128
"""Requests, where there is no limit on them."""


class EmbeddingJob(Whole):
    """Many texts on their way to vectors: an async iterator of `EmbeddedBatch`, used once.

    With `on_error="yield"` there are `EmbedFailure` between them. Nothing is read or sent before
    it is iterated. Leaving the iteration, or the `async with`, stops what is under way; where the
    job fails, what was finished comes first and the error last.

    ```python
    async with ai.embed_many("@cf/baai/bge-m3", texts) as job:
        async for batch in job:
            index.add(batch.ids, batch.vectors.numpy())
    ```
    """

    def __init__(
        self, service: Service, gates: Gates, texts: Texts, plan: Plan, *, endpoint: str
    ) -> None:
        source.check(texts)
        self._service = service
        self._gates = gates
        self._texts = texts
        self._plan = plan
        self._endpoint = endpoint
        self._embed: Embed
        self._gate: Gate | None = None
        self._queue: Queue | None = None
        self._checkpoint: Checkpoint | None = None
        self._pump: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready: deque[Item] = deque()
        self._early: dict[int, list[Item]] = {}
        """Results of chunks that came before their turn."""
        self._turn = 0
        self._news = asyncio.Event()
        self._space = asyncio.Event()
        self._failure: BaseException | None = None
        self._grace: asyncio.TimerHandle | None = None
        """What ends the wait for answers of a job that failed."""
        self._closed = False
        self._reports = Reports(source.length(texts), plan.progress)
        self.finished = []

    # For the reader...

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncGenerator[Item, None]:
        if self._pump is not None or self._closed:
            raise InputError("a job goes over its texts once: make another")
        return self._items()

    @property
    def stats(self) -> JobStats:
        """How it goes, at this moment."""
        return self._reports.stats(self._gate)

    async def aclose(self) -> None:
        """Stop what is under way. Safe to repeat."""
        self._closed = True
        if self._grace is not None:
            self._grace.cancel()
        running = [*([self._pump] if self._pump else []), *self._tasks]
        self._cancel(self._tasks)
        try:
            await asyncio.gather(*running, return_exceptions=True)
            if self._queue is not None:
                await self._queue.aclose()
        finally:
            if self._checkpoint is not None:
                await self._checkpoint.aclose()
        self._reports.close()
        self._news.set()

    async def _items(self) -> AsyncGenerator[Item, None]:
        self._begin()
        try:
            async for item in self._arriving():
                yield item
            if self._failure is not None:
                raise self._failure
            if self._closed:
                raise ConfigError("this job was closed while it was read")
        finally:
            await self.aclose()

    async def _arriving(self) -> AsyncGenerator[Item, None]:
        while True:
            while self._ready:
                item = self._ready.popleft()
                self._space.set()
                yield item
            if self._pump is None or (self._pump.done() and not self._tasks):
                break
            self._news.clear()
            await self._news.wait()
        # After a failure there are gaps, and behind them what was finished nevertheless.
        for index in sorted(self._early):
            for item in self._early.pop(index):
                yield item

    # Reading and starting...

    def _begin(self) -> None:
        if self._pump is not None:
            raise InputError("a job goes over its texts once: make another")
        loop = asyncio.get_running_loop()
        plan = self._plan
        self._gate = self._gates.for_job(plan.model, plan.concurrency, plan.rate)
        asking = Asking(self._gate, self._reports)
        if plan.mode == "queue":
            self._queue = Queue(self._service, asking, plan.polling)
            self._embed = self._through(self._queue)
        else:
            self._embed = self._directly(asking)
        self._reports.begin()
        self._pump = loop.create_task(self._read())
        self._pump.add_done_callback(lambda _: self._news.set())

    async def _read(self) -> None:
        """Read the source, as far as there is room for what comes back."""
        plan, loop = self._plan, asyncio.get_running_loop()
        chunks = source.chunks(self._texts, plan.texts_at_once, plan.max_batch_chars)
        try:
            await self._look_up_first()
            async with aclosing(chunks):
                async for chunk in chunks:
                    await self._room()
                    task = loop.create_task(self._work(chunk))
                    self._tasks.add(task)
                    task.add_done_callback(self._ended)
        except Exception as exc:
            # The source failed. What was read from it before is embedded nevertheless.
            self._failure = self._failure or exc

    async def _look_up_first(self) -> None:
        """Put what is known already before what asks the service."""
        plan = self._plan
        if plan.checkpoint is not None:
            facts = {
                "model": plan.model,
                "pooling": plan.pooling,
                "truncate": plan.truncate,
                "endpoint": self._endpoint,
            }
            again = plan.retry_failed or plan.on_error == "raise"
            self._checkpoint = await Checkpoint.open(plan.checkpoint, facts, retry_failed=again)
            self._embed = partial(self._checkpoint.embed, self._embed)
        if plan.dedupe:
            self._embed = partial(Memory().embed, self._embed)

    async def _room(self) -> None:
        """Wait until there is room for another chunk.

        Some more are started than may be under way, for the places of those that pause before they
        try again; and in order, as many again may wait for one that is late.
        """
        while True:
            limit = self._gate.limit if self._gate else 1.0
            most = 2 * min(limit, _MOST_UNDER_WAY) + 8
            if self._queue is not None:
                most = queue.under_way(limit, self._plan.texts_at_once)
            held = len(self._ready) + len(self._early)
            if len(self._tasks) < most and len(self._tasks) + held < 2 * most:
                return
            self._space.clear()
            await self._space.wait()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._fail(error)
        self._space.set()
        self._news.set()

    def _fail(self, error: BaseException) -> None:
        """Send nothing more. What is being answered is paid for, and has a moment to come in."""
        if self._failure is not None or self._gate is None:
            return
        self._failure = error
        self._gate.close()
        inside = self._gate.inside if self._queue is None else self._queue.inside
        self._cancel(self._tasks - inside)
        self._grace = asyncio.get_running_loop().call_later(_GRACE, self._cancel, self._tasks)

    def _cancel(self, tasks: Iterable[asyncio.Task[None]]) -> None:
        for task in [*([self._pump] if self._pump else []), *tasks]:
            task.cancel()

    # One chunk...

    async def _work(self, chunk: Chunk) -> None:
        found: list[Piece] = []
        try:
            await self._embed(chunk.texts, found)
        finally:
            self._deliver(chunk, found)

    def _directly(self, asking: Asking) -> Embed:
        """Ask for each chunk, and be answered."""

        async def ask(texts: Sequence[str]) -> Embeddings:
            return asking.checked(await asking.patiently(partial(self._service.send, texts)))

        return partial(pieces.embed, ask, on_error=self._plan.on_error)

    def _through(self, queue: Queue) -> Embed:
        """Hand each chunk over, and wait."""
        return partial(pieces.embed_in_rounds, queue.ask, on_error=self._plan.on_error)

    def _deliver(self, chunk: Chunk, found: Sequence[Piece]) -> None:
        items = list(pieces.results(chunk, found))
        self._reports.count(items)
        if self._plan.on_error != "yield":
            items = [item for item in items if isinstance(item, EmbeddedBatch)]
        if not self._plan.ordered:
            self._ready.extend(items)
        else:
            self._early[chunk.index] = items
            while self._failure is None and self._turn in self._early:
                self._ready.extend(self._early.pop(self._turn))
                self._turn += 1
        self._reports.tell(self._gate)
        self._news.set()
