"""A scripted service on a thread of its own, for callers that block, and its vectors."""

import asyncio
import threading
from array import array
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
from attrs import frozen

from cfai.distributed import ClientOptions, Embedder
from cfai.testing import FakeWorkersAI, Service, Simulation, vector_of

M3 = "@cf/baai/bge-m3"
SECRET = "a-token-that-nobody-sees"  # noqa: S105  # it opens nothing


@frozen
class ThreadedService:
    """A scripted service on a thread of its own, so that a test may block."""

    fake: FakeWorkersAI
    simulation: Simulation
    loop: asyncio.AbstractEventLoop

    def client(self) -> ClientOptions:
        return {"account_id": "account", "api_token": SECRET, "base_url": self.fake.base_url}

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until *condition* holds; the service's own loop asks."""

        async def wait() -> None:
            await self.fake.until(condition)

        asyncio.run_coroutine_threadsafe(wait(), self.loop).result()

    def embedder(self, **options: Any) -> Embedder:
        return Embedder(M3, client=self.client(), **options)


@contextmanager
def served(service: Service) -> Iterator[ThreadedService]:
    started: Future[tuple[ThreadedService, asyncio.Event]] = Future()

    async def serve() -> None:
        stop = asyncio.Event()
        async with FakeWorkersAI() as fake:
            running = ThreadedService(fake, fake.simulates(service), asyncio.get_running_loop())
            started.set_result((running, stop))
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    running, stop = started.result()
    try:
        yield running
    finally:
        running.loop.call_soon_threadsafe(stop.set)
        thread.join()


def texts(count: int) -> list[str]:
    return [f"text {number}" for number in range(count)]


def matrix(given: Iterable[str | None]) -> Any:
    """The expected rows; NaN for missing texts."""
    nothing = array("f", [float("nan")] * 4)
    return np.array([nothing if text is None else vector_of(text) for text in given], np.float32)


def as_matrix(vectors: Any) -> Any:
    """The rows of a column of any kind."""
    rows = vectors.to_pylist() if isinstance(vectors, pa.Array | pa.ChunkedArray) else vectors
    nothing = [float("nan")] * 4
    return np.array([nothing if row is None else row for row in rows], np.float32)
