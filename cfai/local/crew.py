"""Threads that models compute in, with a bounded queue before them; and texts while written."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

from cfai.local.backends.roles import Ask, Ending, Stopped, Writer
from cfai.local.faults import busy

T = TypeVar("T")


class Crew:
    """A few threads; what finds none free waits, and is refused when enough wait already.

    Used from one event loop.
    """

    def __init__(self, name: str, *, size: int, waiting: int) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix=f"cfai-{name}")
        self._size = size
        self._waiting = waiting
        self._taken = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._left = asyncio.Event()

    async def free(self) -> None:
        """Wait until a thread is free; it stays so until whoever waited awaits something else."""
        while self._taken >= self._size:
            self._left.clear()
            await self._left.wait()

    def start(self, work: Callable[[], T], *, only_if_free: bool = False) -> asyncio.Future[T]:
        """Let a thread do *work*, which goes on when the future is cancelled.

        Raises:
            Fault: Enough wait already; or, *only_if_free*, all threads are busy.
        """
        if self._taken >= self._size + (0 if only_if_free else self._waiting):
            raise busy()
        loop = asyncio.get_running_loop()
        self._taken += 1
        self._idle.clear()
        future = self._pool.submit(work)
        wrapped = asyncio.wrap_future(future)
        # After the wrapping, so that whoever waits for it hears of it before `close` is done.
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._leave))
        return wrapped

    async def run(self, work: Callable[[Stopped], T], *, only_if_free: bool = False) -> T:
        """Let a thread do *work*, which is told when nobody waits for it any more."""
        stop = threading.Event()
        try:
            return await self.start(lambda: work(stop.is_set), only_if_free=only_if_free)
        finally:
            stop.set()

    async def close(self) -> None:
        """Wait for what is under way, and end the threads."""
        await self._idle.wait()
        self._pool.shutdown()

    def _leave(self) -> None:
        self._taken -= 1
        self._left.set()
        if not self._taken:
            self._idle.set()


class Generation:
    """A text as it is written: an async iterator of its pieces. Leaving it stops the writer.

    An empty piece says that the writer has begun, or is still reading. Nothing slows it down: a
    text ends with the context window, and so does what waits here for a slow reader.
    """

    def __init__(self, writer: Callable[[], Writer], ask: Ask) -> None:
        self._writer = writer
        self._ask = ask
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue()
        self._stop = threading.Event()
        self.backend: str = ""
        """The writer's name, from the first piece on."""

    def start(self, crew: Crew, *, only_if_free: bool) -> asyncio.Future[Ending]:
        """Begin as soon as *crew* has a thread; give the ending, which comes also when stopped.

        Raises:
            Fault: *crew* has no room.
        """
        return crew.start(self._write, only_if_free=only_if_free)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        piece = await self._pieces.get()
        if piece is None:
            raise StopAsyncIteration
        return piece

    # In the crew's thread...

    def _write(self) -> Ending:
        try:
            if self._stop.is_set():
                return Ending("stopped", 0, 0)
            writer = self._writer()
            self.backend = writer.name
            return writer.write(self._ask, self._hear)
        finally:
            self._tell(None)

    def _hear(self, piece: str) -> bool:
        self._tell(piece)
        return self._stop.is_set()

    def _tell(self, piece: str | None) -> None:
        self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)
