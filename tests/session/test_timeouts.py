"""The shared timer: each timeout expires on its own, and is not confused with cancellation."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cfai._session.timeouts import OpenCall, SharedTimer
from tests import virtual_time


@contextmanager
def timeout(timer: SharedTimer, seconds: float | None) -> Iterator[OpenCall]:
    """A call with one step, which may take so many seconds."""
    with OpenCall(timer) as call:
        call.start_timeout(seconds)
        try:
            yield call
        except asyncio.CancelledError as exc:
            if call.take_back_timeout():
                raise TimeoutError from exc
            raise
        finally:
            call.stop_timeout()


async def test_a_timeout_interrupts_its_body() -> None:
    """A body that takes too long raises TimeoutError."""
    timer = SharedTimer()
    with pytest.raises(TimeoutError), timeout(timer, 0.01):
        await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_a_body_that_ends_in_time_is_not_interrupted() -> None:
    """Neither during its timeout nor afterwards."""
    timer = SharedTimer()
    with timeout(timer, 0.01):
        pass
    with pytest.raises(TimeoutError), timeout(timer, 0.03):  # The timer of the first one goes off.
        await asyncio.Event().wait()


async def test_no_timeout_sets_no_timer() -> None:
    timer = SharedTimer()
    with timeout(timer, None):
        await asyncio.sleep(0)
    assert timer._handle is None


async def test_a_timeout_that_starts_again_is_longer() -> None:
    """As with each piece of an upload."""
    timer = SharedTimer()
    with timeout(timer, 30) as call:
        first = call.due
        call.start_timeout(60)
        assert 29 < call.due - first < 31
    timer.stop()


async def test_the_timer_refers_to_no_call_that_ended() -> None:
    """Its calls are those under way, with a timeout or without."""
    timer = SharedTimer()
    with timeout(timer, 60) as timed, timeout(timer, None) as untimed:
        assert list(timer.calls) == [timed, untimed]
    assert not timer.calls
    timer.stop()


def test_timeouts_expire_in_order() -> None:
    """Whatever the order of their starts, and each when it is due."""
    durations = (0.05, 0.01, 0.03, 0.02, 0.04)
    ended: list[float] = []
    moments: list[float] = []

    async def call(timer: SharedTimer, seconds: float) -> None:
        with pytest.raises(TimeoutError), timeout(timer, seconds):
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
        with timeout(timer, 60):
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
    with pytest.raises(TimeoutError), timeout(timer, 0.01), timeout(timer, 60):
        await asyncio.Event().wait()
    async with asyncio.timeout(60):
        with pytest.raises(TimeoutError), timeout(timer, 0.01):
            await asyncio.Event().wait()
    timer.stop()


async def test_a_timeout_of_zero_interrupts_the_first_wait() -> None:
    timer = SharedTimer()
    with pytest.raises(TimeoutError), timeout(timer, 0):
        await asyncio.Event().wait()
