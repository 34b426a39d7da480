"""The event loop of one process, on a thread of its own, and the clients that use it."""

from __future__ import annotations

import asyncio
import atexit
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from threading import Lock, Thread
from typing import Any, Final, TypeVar, TypeVarTuple

from cfai.errors import ConfigError
from cfai.workers_ai import WorkersAI

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

_PROCESS_ENDS: Final = "the process is ending: no more texts can be embedded"

_CLOSE_TIMEOUT: Final = 5.0
"""Seconds that the end of the process waits for connections to close."""


class Worker:
    """Runs coroutines for all threads of one process, and shares their clients."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._lock = Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None
        self._ended = False
        self._clients: list[tuple[object, WorkersAI]] = []

    def run(
        self, function: Callable[[*Arguments], Coroutine[Any, Any, T]], *arguments: *Arguments
    ) -> T:
        """Run an async function on the loop, and wait for it in a thread with or without a loop.

        Raises:
            ConfigError: The process is ending.
        """
        # It exists before the work does, so that an interrupt at any moment cancels the work.
        future: Future[T] = Future()
        try:
            with self._lock:
                loop = self._running_loop()
                loop.call_soon_threadsafe(_start, future, function, arguments)
            return future.result()
        except CancelledError as exc:
            raise ConfigError(_PROCESS_ENDS) from exc
        except BaseException:
            future.cancel()  # The waiting thread was interrupted.
            raise

    def client(self, options: dict[str, Any]) -> WorkersAI:
        """Return the client of this process for *options* and the current environment.

        Calls with equal settings share a client, and thereby a rate. Call it on the loop.

        Raises:
            ConfigError: The account or the credentials are missing.
        """
        new_client = WorkersAI(**options)
        key = (new_client._settings, options.get("limit"), options.get("concurrency"))
        for client_key, client in self._clients:
            if client_key == key:
                return client
        self._clients.append((key, new_client))
        return new_client

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._ended:
            raise ConfigError(_PROCESS_ENDS)
        if self._loop is None:
            started: Future[asyncio.AbstractEventLoop] = Future()
            # A daemon thread: the interpreter waits for others before it calls `_end`.
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
            # Not an `asyncio.Runner`: it starts a thread to end the loop's threads, which is not
            # possible when the process ends.
            loop.run_until_complete(_cancel_tasks())
        finally:
            loop.close()

    def _end(self) -> None:
        if self._pid != os.getpid() or self._loop is None or self._thread is None:
            return  # In a forked child: the loop belongs to the parent.
        with self._lock:
            self._ended = True
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE_TIMEOUT)


def _start(
    future: Future[T],
    function: Callable[[*Arguments], Coroutine[Any, Any, T]],
    arguments: tuple[*Arguments],
) -> None:
    """Start a task on the loop that sets *future*; cancelling the future cancels the task."""
    if future.cancelled():
        return
    loop = asyncio.get_running_loop()
    task = loop.create_task(function(*arguments))

    def future_done(_: Future[T]) -> None:
        if future.cancelled():
            loop.call_soon_threadsafe(task.cancel)

    def task_done(_: asyncio.Task[T]) -> None:
        error = None if task.cancelled() else task.exception()
        if task.cancelled():
            future.cancel()
        elif not future.set_running_or_notify_cancel():
            return  # Nobody waits for it.
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(task.result())

    task.add_done_callback(task_done)
    future.add_done_callback(future_done)


async def _cancel_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()  # This closes the connections.


_workers: dict[int, Worker] = {}
"""By process id. After a fork, the worker of the parent stays here and is not used: deleting it
would close the loop of the parent."""


def current_worker() -> Worker:
    """Return the worker of this process."""
    pid = os.getpid()
    return _workers.get(pid) or _workers.setdefault(pid, Worker())
