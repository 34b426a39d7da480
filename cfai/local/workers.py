"""Threads for blocking work, such as models, with a bounded queue."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar, cast

from cfai.local.backends.roles import IsCancelled
from cfai.local.errors import capacity_exceeded

T = TypeVar("T")

_PATIENCE = 8.0
"""Seconds for running work to notice that its callers were cancelled."""


class WorkerPool:
    """A fixed number of threads. If all are busy, work waits; if the queue is full, it is rejected.

    Used from one event loop.
    """

    def __init__(self, name: str, *, size: int, waiting: int) -> None:
        self._executor = ThreadPoolExecutor(size, thread_name_prefix=f"cfai-{name}")
        self._size = size
        self._waiting = waiting
        self._pending = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._finished = asyncio.Event()

    async def wait_for_thread(self) -> None:
        """Wait until a thread is free. It stays free until the caller's next await."""
        while self._pending >= self._size:
            self._finished.clear()
            await self._finished.wait()

    def start(self, work: Callable[[], T], *, only_if_free: bool = False) -> asyncio.Future[T]:
        """Call *work* in a thread. Cancelling the future does not stop it.

        Raises:
            ApiError: The queue is full; or, if *only_if_free*, every thread is busy.
        """
        if self._pending >= self._size + (0 if only_if_free else self._waiting):
            raise capacity_exceeded()
        return self._submit(work)

    def _submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        self._pending += 1
        self._idle.clear()
        future = self._executor.submit(work)
        wrapped = asyncio.wrap_future(future)
        # Added after the wrapping, so that the caller gets the result before `close` returns.
        future.add_done_callback(lambda _: self._report(loop))
        return wrapped

    def _report(self, loop: asyncio.AbstractEventLoop) -> None:
        # Work that outlasts `close` may outlast the loop.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._finish)

    async def run(self, work: Callable[[IsCancelled], T], *, only_if_free: bool = False) -> T:
        """Call *work* in a thread, with a function that returns whether this call was cancelled."""
        cancelled = threading.Event()
        try:
            return await self.start(lambda: work(cancelled.is_set), only_if_free=only_if_free)
        finally:
            cancelled.set()

    async def iterate(self, items: Iterator[T]) -> AsyncIterator[T]:
        """Yield items, each computed in a thread.

        Other work gets its turn between two of them. None is refused: the work has begun.
        """
        end = object()
        while (item := await self._submit(lambda: next(items, end))) is not end:
            yield cast("T", item)

    async def close(self, patience: float = _PATIENCE) -> bool:
        """Wait for running work, for *patience* seconds at most, and end the threads.

        Returns:
            Whether all threads have ended. One that has not ends after its work.
        """
        try:
            async with asyncio.timeout(patience):
                await self._idle.wait()
        except TimeoutError:
            self._executor.shutdown(wait=False, cancel_futures=True)
            return False
        self._executor.shutdown()
        return True

    def _finish(self) -> None:
        self._pending -= 1
        self._finished.set()
        if not self._pending:
            self._idle.set()
