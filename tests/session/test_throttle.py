"""Throttles: who gets a permit, and when."""

import asyncio
import gc
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest

from cfai import Adaptive, Prompt, RateLimited, Retries
from cfai._session.limits import AdaptiveLimit, FixedLimit
from cfai._session.throttle import Throttle, Throttles
from cfai.errors import BadRequest, CfaiError, NotFound, RequestTimeout, ServerError
from cfai.settings import Timeouts
from cfai.testing import FakeWorkersAI
from tests import virtual_time

M3 = "@cf/baai/bge-m3"
REFUSED = RateLimited("too many", status=429)


def test_throttles_do_not_keep_a_closed_event_loop_alive() -> None:
    """The throttles of a client keep no event loop alive."""
    throttles = Throttles(Adaptive())

    async def main() -> None:
        throttle = throttles.for_call(M3)
        assert throttle is not None
        await run_attempt(throttle, 0.1, [])
        await run_attempt(throttles.for_job(M3, None, 60), 0.1, [])

    virtual_time.run(main())
    gc.collect()
    assert not throttles._loops


# On an event loop with virtual time


async def run_attempt(
    throttle: Throttle, seconds: float, log: list[float], error: object = None
) -> None:
    try:
        async with throttle.permit() as permit:
            permit.start()
            log.append(asyncio.get_running_loop().time())
            await asyncio.sleep(seconds)
            if isinstance(error, Exception):
                raise error
    except (RateLimited, NotFound):
        pass


def test_no_more_permits_are_held_than_the_limit() -> None:
    """Other attempts wait, and start in the order of their requests."""

    async def main() -> list[float]:
        throttle = Throttle(FixedLimit(2))
        log: list[float] = []
        await asyncio.gather(*(run_attempt(throttle, 1.0, log) for _ in range(6)))
        assert (throttle.in_flight, throttle.attempts, throttle.waited) == (0, 6, 6.0)
        return log

    assert virtual_time.run(main()) == [0, 0, 1, 1, 2, 2]


def test_jobs_with_the_same_rate_share_it() -> None:
    """Two jobs of one client take turns."""

    async def main() -> tuple[list[float], list[float]]:
        throttles = Throttles()
        first, second = (throttles.for_job(M3, None, 60) for _ in range(2))
        first_log: list[float] = []
        second_log: list[float] = []
        each = [(first, first_log), (second, second_log)] * 5
        await asyncio.gather(*(run_attempt(throttle, 0.1, log) for throttle, log in each))
        return first_log, second_log

    first_log, second_log = virtual_time.run(main())
    assert first_log == [0, 2, 4, 6, 8]
    assert second_log == [1, 3, 5, 7, 9]


def count_starts(rates: list[Any], seconds: float, model: str = M3) -> list[int]:
    """How many attempts each of several jobs starts in so many seconds."""

    async def main() -> list[int]:
        throttles = Throttles()
        logs: list[list[float]] = [[] for _ in rates]

        async def work(throttle: Throttle, log: list[float]) -> None:
            while True:
                await run_attempt(throttle, 0.0, log)

        for rate in rates:  # All rates are set before the first attempt.
            throttles.for_job(model, None, rate)
        workers = [
            asyncio.create_task(work(throttles.for_job(model, 1, rate), log))
            for rate, log in zip(rates, logs, strict=True)
        ]
        await asyncio.sleep(seconds)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        return [len(log) for log in logs]

    return virtual_time.run(main())


def test_jobs_with_different_rates_together_keep_the_documented_rate() -> None:
    """Each job keeps its own rate as well."""
    auto, slow = count_starts(["auto", 1000], 60)
    assert auto + slow <= 3000 + 26
    assert 900 <= slow <= 1000 + 26
    assert sum(count_starts([2000, 2001, 2002], 60)) <= 3000 + 26


def test_jobs_together_may_reach_the_highest_of_their_rates() -> None:
    """A rate above the documented one can be chosen; "auto" still means the documented one."""
    more, auto = count_starts([6000, "auto"], 60)
    assert 5900 <= more + auto <= 6000 + 26
    assert auto <= 3000 + 26
    assert sum(count_starts([100, 200], 60, "@cf/nobody/knows-it")) <= 200 + 26


def test_a_job_with_a_low_rate_does_not_delay_another() -> None:
    """It only reserves from the total when its own rate allows."""
    auto, slow = count_starts(["auto", 6], 60)
    assert slow <= 8
    assert auto >= 2990


def test_a_refused_permit_stays_unused_for_a_round_trip() -> None:
    """Refusals are quick: without the cooldown, all waiting attempts would be refused in a row."""

    async def main() -> list[float]:
        throttle = Throttle(AdaptiveLimit(Adaptive(start=2, max=2)))
        log: list[float] = []
        await run_attempt(throttle, 0.5, log)
        await asyncio.gather(*(run_attempt(throttle, 0.0, log, REFUSED) for _ in range(3)))
        return log

    _, *refused = virtual_time.run(main())
    assert refused[-1] - refused[0] >= 0.5


def test_attempts_are_spread_over_a_round_trip() -> None:
    """A full limit of attempts does not start at once."""

    async def main() -> list[float]:
        throttle = Throttle(AdaptiveLimit(Adaptive(start=10, max=10)))
        log: list[float] = []
        await run_attempt(throttle, 1.0, log)
        await asyncio.gather(*(run_attempt(throttle, 1.0, log) for _ in range(10)))
        return log

    log = virtual_time.run(main())[1:]
    assert log[-1] - log[0] == pytest.approx(9 / 20, abs=0.01)


def test_a_job_needs_a_permit_of_its_own_and_of_all_calls() -> None:
    """An attempt that is cancelled between the two releases both."""

    async def main() -> None:
        throttles = Throttles(1)
        first, second = (throttles.for_job(M3, 4, None) for _ in range(2))
        log: list[float] = []
        tasks = [
            asyncio.create_task(run_attempt(throttle, 1.0, log)) for throttle in (first, second) * 3
        ]
        await asyncio.sleep(1.5)
        tasks[2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert log == [0, 1, 2, 3, 4]
        shared = throttles.for_call(M3)
        assert shared is not None
        assert (first.in_flight, second.in_flight, shared.in_flight) == (0, 0, 0)

    virtual_time.run(main())


def test_calls_count_towards_the_rate_of_jobs() -> None:
    """Calls are not delayed; the next attempt of the job is."""

    async def main() -> list[float]:
        throttles = Throttles()
        log: list[float] = []
        assert throttles.for_call(M3) is None
        throttle = throttles.for_job(M3, None, 60)
        assert throttles.for_call("@cf/meta/llama-3.1-8b-instruct-fast") is None
        call = throttles.for_call(M3)
        assert call is not None
        await asyncio.gather(*(run_attempt(call, 0.0, []) for _ in range(3)))
        await run_attempt(throttle, 0.1, log)
        return log

    assert virtual_time.run(main()) == [1.0]


@pytest.mark.parametrize("after", [0.0, 0.5, 1.0, 1.5])
def test_a_cancelled_attempt_releases_its_permit(after: float) -> None:
    """Cancelled while it waits, at the moment of its permit, or later: the next attempt starts."""

    async def main() -> None:
        throttle = Throttle(FixedLimit(1))
        log: list[float] = []
        holder = asyncio.create_task(run_attempt(throttle, 1.0, log))
        waiter = asyncio.create_task(run_attempt(throttle, 1.0, log))
        last = asyncio.create_task(run_attempt(throttle, 1.0, log))
        asyncio.get_running_loop().call_later(after, waiter.cancel)
        await asyncio.wait([holder, waiter, last])
        assert waiter.cancelled()
        assert throttle.in_flight == 0
        assert log[-1] == max(1.0, after)

    virtual_time.run(main())


def test_a_closed_throttle_cancels_attempts_at_once() -> None:
    """They do not wait for a permit that another attempt holds, and are not counted."""

    async def main() -> None:
        throttle = Throttle(FixedLimit(1))
        log: list[float] = []
        holder = asyncio.create_task(run_attempt(throttle, 1.0, log))
        await asyncio.sleep(0.5)
        throttle.close()
        late = asyncio.create_task(run_attempt(throttle, 1.0, log))
        await asyncio.wait([late])
        assert late.cancelled()
        assert asyncio.get_running_loop().time() == 0.5
        await holder
        assert (log, throttle.attempts, throttle.in_flight) == ([0.0], 1, 0)

    virtual_time.run(main())


def test_only_refusals_lower_the_limit() -> None:
    """A 429 lowers it, other errors do not."""

    async def main() -> None:
        throttle = Throttle(AdaptiveLimit(Adaptive()))
        log: list[float] = []
        await run_attempt(throttle, 1.0, log, NotFound("no", status=404))
        assert (throttle.limit, throttle.rate_limited) == (8, 0)
        await asyncio.gather(*(run_attempt(throttle, 1.0, log, REFUSED) for _ in range(8)))
        assert (throttle.limit, throttle.rate_limited) == (4, 8)

    virtual_time.run(main())


# Through a client


async def test_calls_keep_the_concurrency_of_the_client(fake: FakeWorkersAI) -> None:
    """For each model, no more attempts are in flight than `concurrency`."""
    both = asyncio.Event()
    fake.always.answers({"response": "Hi"}, after=both)
    ai = fake.client(concurrency=2)
    calls = [asyncio.create_task(ai.run(M3, {"prompt": "Hi"})) for _ in range(5)]
    await fake.until(lambda: len(fake.requests) == 2)
    other = asyncio.create_task(ai.run("@cf/a/b", Prompt("Hi")))
    await fake.until(lambda: len(fake.requests) == 3)
    both.set()
    await asyncio.gather(other, *calls)
    assert len(fake.requests) == 6


async def test_no_permit_is_held_during_a_retry_delay(fake: FakeWorkersAI) -> None:
    """While one call waits for its next attempt, another is sent."""
    paused, retries = asyncio.Event(), Retries(on_retry=lambda _: paused.set())
    fake.fails(429, 3040, "busy", retry_after=0.2)
    fake.always.answers({"response": "Hi"})
    ai = fake.client(concurrency=1, retries=retries)
    first = asyncio.create_task(ai.run("@cf/a/b", Prompt("one")))
    await paused.wait()
    await ai.run("@cf/a/b", Prompt("two"))
    assert not first.done()
    await first
    assert [request.json()["prompt"] for request in fake.requests] == ["one", "two", "one"]


async def test_waiting_for_a_permit_counts_towards_the_deadline(fake: FakeWorkersAI) -> None:
    """`Timeouts.total` ends a call that got no permit; nothing is sent for it."""
    fake.stalls()
    ai = fake.client(concurrency=1)
    first = asyncio.create_task(ai.run("@cf/a/b", Prompt("one")))
    await fake.until(lambda: len(fake.requests) == 1)
    hurried = ai.with_options(timeouts=Timeouts(total=0.05))
    with pytest.raises(RequestTimeout) as caught:
        await hurried.run("@cf/a/b", Prompt("two"))
    assert caught.value.phase == "total"
    assert len(fake.requests) == 1
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)


# Outages

DOWN = ServerError("unavailable", status=503)


def test_an_outage_allows_one_attempt_at_a_time() -> None:
    """With growing delays, until one is answered; then as many as before."""

    async def main() -> list[float]:
        retries = Retries(base=2.0, cap=16.0)
        throttle = Throttles().for_job(M3, 8, None, retries)
        log: list[float] = []

        async def attempt() -> None:
            now = asyncio.get_running_loop().time
            with suppress(ServerError):
                await run_attempt(throttle, 0.5, log, DOWN if now() < 100 else None)

        async def worker() -> None:
            for _ in range(60):
                await attempt()

        await asyncio.gather(*(worker() for _ in range(8)))
        return log

    log = virtual_time.run(main())
    down = [moment for moment in log if moment < 100]
    assert down[:8] == [0.0] * 8
    assert 8 + 5 <= len(down) <= 8 + 60
    assert all(after - before >= 0.5 for before, after in pairwise(down[10:]))
    up = [moment for moment in log if moment > 118]
    assert len(set(up)) < len(up)  # Several at once again.


@pytest.mark.parametrize("answer", [None, BadRequest("bad text", status=400)])
def test_single_failures_delay_nobody(answer: CfaiError | None) -> None:
    """Neither two in a row, nor more with an answer in between."""

    async def main() -> list[float]:
        throttle = Throttles().for_job(M3, 4, None, Retries(base=100, cap=100))
        log: list[float] = []
        for error in (DOWN, DOWN, answer, DOWN, DOWN):
            with suppress(CfaiError):
                await run_attempt(throttle, 1.0, log, error)
        return log

    assert virtual_time.run(main()) == [0, 1, 2, 3, 4]
