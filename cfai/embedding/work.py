"""A job under way: it reads, asks, and keeps what came until it is taken. `job` is its face."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final

from attrs import field, frozen

from cfai._session.throttle import Throttle
from cfai.embedding import pieces, queue, source
from cfai.embedding.asking import Asking, Service
from cfai.embedding.checkpoint import Checkpoint
from cfai.embedding.ending import Ending, cancelled_outside
from cfai.embedding.memory import Memory
from cfai.embedding.pieces import Embed, Judge, Piece
from cfai.embedding.plan import Plan
from cfai.embedding.queue import Queue
from cfai.embedding.reports import Reports
from cfai.embedding.source import Chunk, Texts
from cfai.embedding.values import EmbeddedBatch, EmbedFailure
from cfai.errors import ConfigError
from cfai.tasks import Embeddings

Item = EmbeddedBatch | EmbedFailure

_GRACE: Final = 5.0
"""Seconds that a job which failed waits for the answers that are under way."""


@frozen(eq=False)
class _Asked:
    """A chunk, and what has become of it so far."""

    chunk: Chunk
    found: list[Piece] = field(factory=list)


class Work:
    """Everything of a job that has begun. It is for one event loop."""

    def __init__(
        self, service: Service, throttle: Throttle, plan: Plan, reports: Reports, *, endpoint: str
    ) -> None:
        self.throttle = throttle
        self._plan = plan
        self._reports = reports
        self._endpoint = endpoint
        self._queue: Queue | None = None
        self._checkpoint: Checkpoint | None = None
        self._embed = self._through(service)
        self._pump: asyncio.Task[None] | None = None
        self._tasks: dict[asyncio.Task[None], _Asked] = {}
        self._ready: deque[Item] = deque()
        self._early: dict[int, list[Item]] = {}
        """Results of chunks that came before their turn."""
        self._turn = 0
        self._news = asyncio.Event()
        self._space = asyncio.Event()
        self._ending = Ending()
        self._grace: asyncio.TimerHandle | None = None
        """What ends the wait for answers of a job that failed."""

    # For the reader...

    def begin(self, texts: Texts) -> None:
        """Start reading."""
        self._pump = asyncio.get_running_loop().create_task(self._read(texts))
        self._pump.add_done_callback(self._read_up)

    async def take(self) -> Item | None:
        """What comes next; `None` where nothing more does.

        Raises:
            BaseException: What the job ended with, after all that was finished.
        """
        while not self._ready:
            if self._is_done():
                self._ending.check()
                return None
            self._news.clear()
            await self._news.wait()
        self._space.set()
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Stop what is under way."""
        if not self._is_done():
            self._ending.close()
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
        self._news.set()

    def _is_done(self) -> bool:
        return not self._tasks and (self._pump is None or self._pump.done())

    # Reading and starting...

    async def _read(self, texts: Texts) -> None:
        """Read the source, as far as there is room for what comes back."""
        plan, loop = self._plan, asyncio.get_running_loop()
        chunks = source.chunks(texts, plan.texts_at_once, plan.max_batch_chars)
        try:
            await self._look_up_first()
            async with aclosing(chunks):
                async for chunk in chunks:
                    await self._room()
                    asked = _Asked(chunk)
                    task = loop.create_task(self._embed(chunk.texts, asked.found))
                    self._tasks[task] = asked
                    task.add_done_callback(self._ended)
                    if self._queue is None:
                        await asyncio.sleep(0)  # A source that never waits holds up nobody else.
        except asyncio.CancelledError:
            raise
        except BaseException as exc:
            self._ending.unread = exc
            if not isinstance(exc, Exception | GeneratorExit):
                raise

    def _read_up(self, pump: asyncio.Task[None]) -> None:
        if pump.cancelled():
            self._fail(ConfigError("the reading of the texts was cancelled from outside"))
        else:
            pump.exception()  # It is known; nobody else asks for it.
        self._news.set()

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
            most = 2 * self.throttle.limit + 8
            if self._queue is not None:
                most = queue.under_way(self.throttle.limit, self._plan.texts_at_once)
            held = len(self._ready) + len(self._early)
            if len(self._tasks) < most and len(self._tasks) + held < 2 * most:
                return
            self._space.clear()
            await self._space.wait()

    # One chunk...

    def _through(self, service: Service) -> Embed:
        """How a chunk is asked for: each is sent and answered, or handed over to the queue."""
        plan, judge = self._plan, Judge()
        asking = Asking(self.throttle, service.retries, self._reports)
        if plan.mode == "queue":
            self._queue = Queue(service, asking, plan.polling)
            ask = partial(pieces.embed_in_rounds, self._queue.ask)
            embed = partial(ask, on_error=plan.on_error, judge=judge)
        else:

            async def directly(texts: Sequence[str]) -> Embeddings:
                return asking.checked(await asking.patiently(partial(service.send, texts)))

            embed = partial(pieces.embed, directly, on_error=plan.on_error, judge=judge)
        return partial(self._counted, embed)

    async def _counted(self, embed: Embed, texts: Sequence[str], found: list[Piece]) -> None:
        try:
            await embed(texts, found)
        except Exception as exc:
            # At once: the next in line is about to go, and what was found has yet to be kept.
            self._fail(exc)
            raise
        finally:
            there = (piece for piece in found if isinstance(piece.outcome, Embeddings))
            self._reports.embedded += sum(piece.last - piece.first for piece in there)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Hear that a chunk is through: settle its texts, and the job where it failed."""
        asked = self._tasks.pop(task)
        items = list(pieces.results(asked.chunk, asked.found))
        error = cancelled_outside(asked.chunk) if task.cancelled() else task.exception()
        if error is not None:
            self._fail(error)
            self._ending.blame(error, items)
        self._deliver(asked.chunk, items)
        self._space.set()
        self._news.set()

    def _deliver(self, chunk: Chunk, items: Sequence[Item]) -> None:
        self._reports.count(items)
        given = items
        if self._plan.on_error != "yield":
            given = [item for item in items if isinstance(item, EmbeddedBatch)]
        if not self._plan.ordered:
            self._ready.extend(given)
        else:
            self._early[chunk.index] = [*given]
            while self._turn in self._early:
                self._ready.extend(self._early.pop(self._turn))
                self._turn += 1
        if items:
            try:
                self._reports.tell(self.throttle)
            except Exception as exc:
                self._fail(exc)

    # The end...

    def _fail(self, error: BaseException) -> None:
        """End with *error*, if it is the first thing to go wrong.

        Nothing more is sent. What is being answered is paid for, and has a moment to come in.
        """
        if not self._ending.fail(error):
            return
        self.throttle.close()
        inside = self.throttle.active if self._queue is None else self._queue.look_once_more()
        self._cancel(self._tasks.keys() - inside - {asyncio.current_task()})
        self._grace = asyncio.get_running_loop().call_later(_GRACE, self._cancel, self._tasks)

    def _cancel(self, tasks: Iterable[asyncio.Task[None]]) -> None:
        for task in [*([self._pump] if self._pump else []), *tasks]:
            task.cancel()
