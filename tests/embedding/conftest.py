"""A client of the fake with quick retries, a small disk, and threads that can be held up."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from threading import Event
from typing import Any

import pytest

from cfai import Retries, WorkersAI
from cfai.testing import FakeWorkersAI


@pytest.fixture
def ai(fake: FakeWorkersAI) -> WorkersAI:
    """A client of the fake with quick retries."""
    return fake.client(retries=Retries(max=4, base=0.002, cap=0.01))


class HeldThreads(ThreadPoolExecutor):
    """The threads of an event loop, in which functions of one name wait until they may run."""

    def __init__(self, name: str) -> None:
        super().__init__(8)
        self._name = name
        self.reached = Event()
        """A function of that name was called."""
        self.allowed = Event()
        self.calls = 0
        """How often a function of that name was called."""

    async def wait_until_reached(self) -> None:
        """Wait until a function of that name was called."""
        assert await asyncio.wrap_future(super().submit(self.reached.wait, 30))

    def submit(self, function: Any, /, *arguments: Any, **keywords: Any) -> Future[Any]:
        if getattr(function, "__name__", None) != self._name:
            return super().submit(function, *arguments, **keywords)

        def wait_and_run() -> Any:
            self.calls += 1
            self.reached.set()
            assert self.allowed.wait(30)
            return function(*arguments, **keywords)

        return super().submit(wait_and_run)


@pytest.fixture
def held_writes() -> Iterator[HeldThreads]:
    """Holds up the writes to checkpoints of the running loop until they are allowed."""
    threads = HeldThreads("_write")
    yield threads
    threads.allowed.set()
    threads.shutdown()


@contextmanager
def _limit_file_size(most: int) -> Iterator[None]:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.fixture
def limit_file_size() -> Callable[[int], AbstractContextManager[None]]:
    """While it is entered, no file can grow beyond a number of bytes."""
    return _limit_file_size
