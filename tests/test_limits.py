"""The shared timer: each call has its own limit, and no cancellation is taken for it."""

import asyncio

import pytest

from cfai._session.timeouts import Limits


async def test_a_limit_runs_out() -> None:
    """What takes longer is interrupted, as a TimeoutError."""
    limits = Limits()
    with pytest.raises(TimeoutError), limits.within(0.01):
        await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_what_ends_in_time_is_left_alone() -> None:
    """A limit that was not reached interrupts nothing, then or later."""
    limits = Limits()
    with limits.within(0.01):
        pass
    with pytest.raises(TimeoutError), limits.within(0.03):  # Here the first one's timer goes off.
        await asyncio.Event().wait()


async def test_no_limit_never_runs_out() -> None:
    """`None` needs no timer at all."""
    limits = Limits()
    with limits.within(None):
        await asyncio.sleep(0)
    assert limits._handle is None


async def test_the_nearer_limit_comes_first() -> None:
    """Many at once end in the order of their limits, whatever the order of their starts."""
    limits = Limits()
    ended: list[float] = []

    async def call(seconds: float) -> None:
        with pytest.raises(TimeoutError), limits.within(seconds):
            await asyncio.Event().wait()
        ended.append(seconds)

    await asyncio.gather(*(call(seconds) for seconds in (0.05, 0.01, 0.03, 0.02, 0.04)))
    assert ended == sorted(ended)


async def test_a_cancellation_stays_one() -> None:
    """A task that is cancelled in time raises CancelledError, not TimeoutError."""
    limits = Limits()
    begun = asyncio.Event()

    async def call() -> None:
        with limits.within(60):
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(call())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    limits.stop()


async def test_limits_nest() -> None:
    """An outer limit that runs out inside an inner one is the outer's, and only that."""
    limits = Limits()
    with pytest.raises(TimeoutError), limits.within(0.01), limits.within(60):
        await asyncio.Event().wait()
    async with asyncio.timeout(60):
        with pytest.raises(TimeoutError), limits.within(0.01):
            await asyncio.Event().wait()
    limits.stop()


async def test_a_zero_limit_interrupts_at_once() -> None:
    """Where no time is left, the first wait is interrupted."""
    limits = Limits()
    with pytest.raises(TimeoutError), limits.within(0):
        await asyncio.Event().wait()
