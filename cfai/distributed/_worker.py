"""The event loop of one process, on a thread of its own, and the clients that use it."""

from __future__ import annotations

import asyncio
import atexit
import os
from _thread import start_new_thread
from collections.abc import Callable, Coroutine
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any, Final, Generic, TypeVar, TypeVarTuple

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
        self._first = Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._abandoned: SimpleQueue[_Call[Any] | None] = SimpleQueue()
        """Calls to cancel; `None` at the end."""
        self._has_ended: SimpleQueue[None] = SimpleQueue()
        self._ended = False
        self._clients: list[tuple[object, WorkersAI]] = []

    def run(
        self, function: Callable[[*Arguments], Coroutine[Any, Any, T]], *arguments: *Arguments
    ) -> T:
        """Run an async function on the loop, and wait for it in a thread with or without a loop.

        Raises:
            ConfigError: The process is ending.
        """
        call: _Call[T] = _Call()
        try:
            with self._lock:
                self._running_loop().call_soon_threadsafe(call.start, function, arguments)
            return call.result()
        except BaseException:
            # The waiting thread was perhaps interrupted. It is perhaps interrupted again, but not
            # before this call, which enters no code of Python.
            self._abandoned.put(call)
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
            atexit.register(self._end)
            # The start of a `Thread` waits for a lock, which an interrupt could leave held.
            is_ready: SimpleQueue[None] = SimpleQueue()
            start_new_thread(self._serve, (is_ready,))
            is_ready.get()
        assert self._loop is not None  # noqa: S101  # set by the thread
        return self._loop

    def _serve(self, is_ready: SimpleQueue[None]) -> None:
        """Run the loop, on a thread that the interpreter does not wait for at its end."""
        with self._first:
            is_first = self._loop is None  # It is not if the thread that waited was interrupted.
            loop = self._loop = self._loop or asyncio.new_event_loop()
        is_ready.put(None)
        if not is_first:
            return
        start_new_thread(self._cancel_abandoned, (loop,))
        try:
            loop.run_forever()
            # Not an `asyncio.Runner`: it starts a thread to end the loop's threads, which is not
            # possible when the process ends.
            loop.run_until_complete(_cancel_tasks())
        finally:
            loop.close()
            self._abandoned.put(None)
            self._has_ended.put(None)

    def _cancel_abandoned(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel calls that nobody waits for any more, on a thread that nobody interrupts."""
        while (call := self._abandoned.get()) is not None:
            with suppress(RuntimeError):  # A closed loop has ended the call itself.
                loop.call_soon_threadsafe(call.cancel)

    def _end(self) -> None:
        if self._pid != os.getpid():
            return  # In a forked child: the loop belongs to the parent.
        with self._lock:
            if self._loop is None or self._ended:
                return
            self._ended = True
            self._loop.call_soon_threadsafe(self._loop.stop)
        with suppress(Empty):
            self._has_ended.get(timeout=_CLOSE_TIMEOUT)


class _Call(Generic[T]):
    """A task on the loop, while another thread waits for its result.

    An interrupt can leave the waiting thread at any moment. Within a future of
    `concurrent.futures`, it could leave its lock held, for which the loop would wait for ever.
    """

    def __init__(self) -> None:
        self._task: asyncio.Task[T] | None = None
        self._done: SimpleQueue[asyncio.Task[T]] = SimpleQueue()

    def start(
        self,
        function: Callable[[*Arguments], Coroutine[Any, Any, T]],
        arguments: tuple[*Arguments],
    ) -> None:
        """Start the task; to be called on the loop."""
        self._task = asyncio.get_running_loop().create_task(function(*arguments))
        self._task.add_done_callback(self._finish)

    def cancel(self) -> None:
        """Cancel the task if it was started; to be called on the loop."""
        if self._task is not None:
            self._task.cancel()

    def result(self) -> T:
        """Wait for the task in another thread, and return its result or raise its error.

        Raises:
            ConfigError: It was cancelled, because the process is ending.
        """
        task = self._done.get()
        if task.cancelled():
            raise ConfigError(_PROCESS_ENDS)
        return task.result()

    def _finish(self, task: asyncio.Task[T]) -> None:
        if not task.cancelled():
            task.exception()  # asyncio would log it if nobody waits for the call any more.
        self._done.put(task)


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
