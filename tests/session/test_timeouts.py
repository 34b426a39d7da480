"""The shared timer: each timeout expires on its own, and is not confused with cancellation."""

import asyncio

import pytest

from cfai._session.timeouts import SharedTimer
from tests import virtual_time


async def test_a_timeout_interrupts_its_body() -> None:
    """A body that takes too long raises TimeoutError."""
    timer = SharedTimer()
    with pytest.raises(TimeoutError), timer.timeout(0.01):
        await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_a_body_that_ends_in_time_is_not_interrupted() -> None:
    """Neither during its timeout nor afterwards."""
    timer = SharedTimer()
    with timer.timeout(0.01):
        pass
    with pytest.raises(TimeoutError), timer.timeout(0.03):  # The timer of the first one goes off.
        await asyncio.Event().wait()


async def test_no_timeout_sets_no_timer() -> None:
    timer = SharedTimer()
    with timer.timeout(None):
        await asyncio.sleep(0)
    assert timer._handle is None


def test_timeouts_expire_in_order() -> None:
    """Whatever the order of their starts, and each when it is due."""
    durations = (0.05, 0.01, 0.03, 0.02, 0.04)
    ended: list[float] = []
    moments: list[float] = []

    async def call(timer: SharedTimer, seconds: float) -> None:
        with pytest.raises(TimeoutError), timer.timeout(seconds):
            await asyncio.Event().wait()
        ended.append(seconds)
        moments.append(asyncio.get_running_loop().time())

    async def main() -> None:
        timer = SharedTimer()
        await asyncio.gather(*(call(timer, seconds) for seconds in durations))

    virtual_time.run(main())
    assert ended == sorted(durations)
    assert moments == pytest.approx(ended)


async def test_a_cancellation_is_not_a_timeout() -> None:
    """A task that is cancelled before its timeout raises CancelledError."""
    timer = SharedTimer()
    started = asyncio.Event()

    async def call() -> None:
        with timer.timeout(60):
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(call())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    timer.stop()


async def test_timeouts_can_be_nested() -> None:
    """If the outer timeout expires, only the outer one raises TimeoutError."""
    timer = SharedTimer()
    with pytest.raises(TimeoutError), timer.timeout(0.01), timer.timeout(60):
        await asyncio.Event().wait()
    async with asyncio.timeout(60):
        with pytest.raises(TimeoutError), timer.timeout(0.01):
            await asyncio.Event().wait()
    timer.stop()


async def test_a_timeout_of_zero_interrupts_the_first_wait() -> None:
    timer = SharedTimer()
    with pytest.raises(TimeoutError), timer.timeout(0):
        await asyncio.Event().wait()
