"""Worker threads: bounded, notified of cancellation, and ended by `close`."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from cfai.local.backends.roles import IsCancelled
from cfai.local.errors import ApiError
from cfai.local.workers import WorkerPool


@pytest.fixture
async def pool() -> AsyncIterator[WorkerPool]:
    pool = WorkerPool("test", size=1, waiting=1)
    yield pool
    await pool.close()


async def test_work_is_refused_while_the_queue_is_full(pool: WorkerPool) -> None:
    gate = threading.Event()
    running, waiting = pool.start(gate.wait), pool.start(gate.wait)
    with pytest.raises(ApiError) as caught:
        pool.start(gate.wait)
    assert (caught.value.status, caught.value.code) == (429, 3040)
    gate.set()
    assert await running
    assert await waiting
    assert await pool.run(lambda _: "room") == "room"


async def test_only_if_free_refuses_work_while_every_thread_is_busy(pool: WorkerPool) -> None:
    gate = threading.Event()
    running = pool.start(gate.wait, only_if_free=True)
    with pytest.raises(ApiError, match="try again"):
        pool.start(gate.wait, only_if_free=True)
    gate.set()
    await running


async def test_others_get_their_turns_between_the_items_of_long_work(pool: WorkerPool) -> None:
    done = []

    def count() -> Iterator[int]:
        for number in range(3):
            done.append(str(number))
            yield number

    async for number in pool.iterate(count()):
        assert done[-1] == str(number)
        await pool.run(lambda _: done.append("other"))
    assert done == ["0", "other", "1", "other", "2", "other"]


async def test_work_that_has_begun_is_not_refused(pool: WorkerPool) -> None:
    gate = threading.Event()
    items = pool.iterate(iter("ab"))
    assert await anext(items) == "a"
    running, waiting = pool.start(gate.wait), pool.start(gate.wait)
    with pytest.raises(ApiError):
        pool.start(gate.wait)
    last = asyncio.ensure_future(anext(items))
    gate.set()
    assert await running
    assert await waiting
    assert await last == "b"


async def test_an_error_of_an_item_is_raised(pool: WorkerPool) -> None:
    items = pool.iterate(1 // number for number in (1, 0))
    assert await anext(items) == 1
    with pytest.raises(ZeroDivisionError):
        await anext(items)


async def test_closing_leaves_work_behind_that_does_not_end() -> None:
    pool = WorkerPool("test", size=1, waiting=1)
    gate = threading.Event()
    stuck, waiting = pool.start(gate.wait), pool.start(gate.wait)
    assert not await pool.close(patience=0)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()
    assert await stuck


def test_work_can_outlast_the_loop() -> None:
    gate, ended = threading.Event(), threading.Event()

    def work() -> None:
        gate.wait()
        ended.set()

    async def leave() -> None:
        pool = WorkerPool("test", size=1, waiting=0)
        pool.start(work)
        assert not await pool.close(patience=0)

    asyncio.run(leave())
    gate.set()
    assert ended.wait(30)


async def test_work_learns_that_its_caller_was_cancelled(pool: WorkerPool) -> None:
    started, noticed = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def work(is_cancelled: IsCancelled) -> None:
        loop.call_soon_threadsafe(started.set)
        while not is_cancelled():
            noticed.wait(0.001)
        noticed.set()

    task = asyncio.create_task(pool.run(work))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await pool.close()
    assert noticed.is_set()


async def test_close_ends_the_threads() -> None:
    before = threading.active_count()
    pool = WorkerPool("test", size=3, waiting=0)
    await asyncio.gather(*(pool.run(lambda _: None) for _ in range(3)))
    await pool.close()
    assert threading.active_count() == before
