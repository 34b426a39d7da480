"""What one process has: an event loop on a thread of its own, and the clients that live on it."""

from __future__ import annotations

import asyncio
import atexit
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from threading import Lock, Thread
from typing import Any, Final, TypeVar

from cfai.errors import ConfigError
from cfai.workers_ai import WorkersAI

T = TypeVar("T")

_AT_THE_END: Final = "this process is about to end, and embeds nothing any more"

_FAREWELL: Final = 5.0
"""Seconds that the end of a process waits at most for connections to close."""


class Worker:
    """Runs coroutines for any thread of one process, and shares the clients that they use."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._lock = Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None
        self._ended = False
        self._clients: list[tuple[object, WorkersAI]] = []

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do *work* on the loop, and wait for it: also where another loop runs in this thread.

        Raises:
            ConfigError: The process is about to end.
        """
        with self._lock:
            loop = self._running()
            done = asyncio.run_coroutine_threadsafe(work(), loop)
        try:
            return done.result()
        except CancelledError as exc:
            raise ConfigError(_AT_THE_END) from exc
        except BaseException:
            done.cancel()  # Whoever waited was interrupted.
            raise

    def client(self, options: dict[str, Any]) -> WorkersAI:
        """The client of this process for *options* and what the environment says now.

        Equal ones are the same, so that they share a rate. To be called on the loop.

        Raises:
            ConfigError: The account or the credentials are missing.
        """
        made = WorkersAI(**options)
        key = (made._settings, options.get("limit"), options.get("concurrency"))
        for known, client in self._clients:
            if known == key:
                return client
        self._clients.append((key, made))
        return made

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._ended:
            raise ConfigError(_AT_THE_END)
        if self._loop is None:
            started: Future[asyncio.AbstractEventLoop] = Future()
            # A daemon, since the interpreter waits for other threads before it tells anybody that
            # it ends.
            thread = Thread(target=self._serve, args=(started,), name="cfai-embedder", daemon=True)
            thread.start()
            self._thread, self._loop = thread, started.result()
            atexit.register(self._end)
        return self._loop

    @staticmethod
    def _serve(started: Future[asyncio.AbstractEventLoop]) -> None:
        loop = asyncio.new_event_loop()
        started.set_result(loop)
        try:
            loop.run_forever()
            # Not an `asyncio.Runner`: to end the loop's threads it starts one, and a process that
            # ends may start none.
            loop.run_until_complete(_farewell())
        finally:
            loop.close()

    def _end(self) -> None:
        if self._pid != os.getpid() or self._loop is None or self._thread is None:
            return  # A fork inherits what was registered, and the loop is its parent's.
        with self._lock:
            self._ended = True
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_FAREWELL)


async def _farewell() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()  # Which closes the connections.


_workers: dict[int, Worker] = {}
"""By process: after a fork, the parent's is still here. It is neither used nor dropped, since its
loop would be closed then, and that is the parent's."""


def here() -> Worker:
    """The worker of this process."""
    pid = os.getpid()
    return _workers.get(pid) or _workers.setdefault(pid, Worker())
