"""The shared timer: each call has its own limit, and no cancellation is taken for it."""

import asyncio

import pytest

from cfai._session.timeouts import SharedTimer


async def test_a_limit_runs_out() -> None:
    """What takes longer is interrupted, as a TimeoutError."""
    timer = SharedTimer()
    with pytest.raises(TimeoutError), timer.timeout(0.01):
        await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_what_ends_in_time_is_left_alone() -> None:
    """A limit that was not reached interrupts nothing, then or later."""
    timer = SharedTimer()
    with timer.timeout(0.01):
        pass
    with pytest.raises(TimeoutError), timer.timeout(0.03):  # Here the first one's timer goes off.
        await asyncio.Event().wait()


async def test_no_limit_never_runs_out() -> None:
    """`None` needs no timer at all."""
    timer = SharedTimer()
    with timer.timeout(None):
        await asyncio.sleep(0)
    assert timer._handle is None


async def test_the_nearer_limit_comes_first() -> None:
    """Many at once end in the order of their limits, whatever the order of their starts."""
    timer = SharedTimer()
    ended: list[float] = []

    async def call(seconds: float) -> None:
        with pytest.raises(TimeoutError), timer.timeout(seconds):
            await asyncio.Event().wait()
        ended.append(seconds)

    await asyncio.gather(*(call(seconds) for seconds in (0.05, 0.01, 0.03, 0.02, 0.04)))
    assert ended == sorted(ended)


async def test_a_cancellation_stays_one() -> None:
    """A task that is cancelled in time raises CancelledError, not TimeoutError."""
    timer = SharedTimer()
    begun = asyncio.Event()

    async def call() -> None:
        with timer.timeout(60):
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(call())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    timer.stop()


async def test_limits_nest() -> None:
    """An outer limit that runs out inside an inner one is the outer's, and only that."""
    timer = SharedTimer()
    with pytest.raises(TimeoutError), timer.timeout(0.01), timer.timeout(60):
        await asyncio.Event().wait()
    async with asyncio.timeout(60):
        with pytest.raises(TimeoutError), timer.timeout(0.01):
            await asyncio.Event().wait()
    timer.stop()


async def test_a_zero_limit_interrupts_at_once() -> None:
    """Where no time is left, the first wait is interrupted."""
    timer = SharedTimer()
    with pytest.raises(TimeoutError), timer.timeout(0):
        await asyncio.Event().wait()
