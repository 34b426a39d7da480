"""An event loop on a thread of its own, for a fake in tests that have no event loop."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """Runs coroutines for other threads, which wait for them."""

    def __init__(self) -> None:
        started: Future[asyncio.AbstractEventLoop] = Future()
        # A test that is interrupted must not keep the interpreter from ending.
        self._thread = Thread(target=_serve, args=(started,), name="cfai-fake", daemon=True)
        self._thread.start()
        self.loop: asyncio.AbstractEventLoop = started.result()

    def run(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Call an async function on the loop, and return its result."""
        return asyncio.run_coroutine_threadsafe(function(), self.loop).result()

    def stop(self) -> None:
        """End the loop and the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()


def _serve(started: Future[asyncio.AbstractEventLoop]) -> None:
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        started.set_result(loop)
        loop.run_forever()
