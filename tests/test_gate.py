"""The throttle: what its limit and its pace decide, and who is let through when."""

import asyncio
import gc
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, strategies as st

from cfai import Adaptive, InputError, Prompt, RateLimited, Retries, WorkersAI
from cfai._session.limits import AdaptiveLimit, FixedLimit, RateLimit
from cfai._session.throttle import Throttle, Throttles
from cfai.errors import NotFound, RequestTimeout
from cfai.settings import Timeouts
from cfai.testing import FakeWorkersAI

from . import virtual_time

M3 = "@cf/baai/bge-m3"
REFUSED = RateLimited("too many", status=429)


# The limit, as a function of what happened...


def adapting(start: int = 8, least: int = 1, most: int = 64) -> AdaptiveLimit:
    return AdaptiveLimit(Adaptive(start=start, min=least, max=most))


def test_it_starts_slowly_and_doubles_each_round() -> None:
    """Before the first refusal, each answer lets one more through."""
    limit = adapting(8)
    for _ in range(8):
        limit.record_answer(in_flight=8, seconds=0.1)
    assert limit.value == 16


def test_it_never_grows_beyond_its_end() -> None:
    limit = adapting(8, most=10)
    for _ in range(8):
        limit.record_answer(in_flight=10, seconds=0.1)
    assert limit.value == 10


def test_a_refusal_halves_it_once_a_round_trip() -> None:
    """Those that were sent before the cut say nothing about what it left."""
    limit = adapting(16)
    for sent in (0.0, 0.5, 1.0):
        limit.record_refusal(sent=sent, now=1.0)
    assert limit.value == 8
    limit.record_refusal(sent=1.01, now=1.2)
    assert limit.value == 4


def test_the_place_of_a_refused_attempt_stays_empty() -> None:
    """For what is left of the time that an answer takes, and never for long."""
    limit = adapting(8)
    assert limit.record_refusal(sent=0.0, now=0.1) == 0
    limit.record_answer(in_flight=8, seconds=0.5)
    assert limit.record_refusal(sent=1.0, now=1.1) == pytest.approx(0.4)
    for _ in range(99):
        limit.record_answer(in_flight=8, seconds=60)
    assert limit.record_refusal(sent=1.0, now=1.1) == pytest.approx(0.9)


def test_after_a_cut_it_grows_by_one_a_round() -> None:
    limit = adapting(16)
    limit.record_refusal(sent=0.0, now=1.0)
    for _ in range(8):
        limit.record_answer(in_flight=8, seconds=0.1)
    assert 8.9 < limit.value <= 9


def test_what_is_not_used_says_nothing() -> None:
    """A limit of which less than half is in use doesn't grow."""
    limit = adapting(8)
    limit.record_answer(in_flight=3, seconds=0.1)
    assert limit.value == 8


@given(st.integers(1, 64), st.lists(st.booleans(), max_size=200))
def test_it_stays_in_its_bounds(start: int, refusals: list[bool]) -> None:
    """Whatever comes, it is never below its least nor above its most."""
    limit = adapting(start)
    for moment, refused in enumerate(refusals):
        if refused:
            limit.record_refusal(sent=moment, now=moment + 0.5)
        else:
            limit.record_answer(in_flight=64, seconds=0.1)
        assert 1 <= limit.value <= 64


@pytest.mark.parametrize(
    "wrong", [{"start": 0}, {"min": 0}, {"max": 7}, {"min": 9}, {"start": True}, {"max": 1.5}]
)
def test_bounds_of_the_limit(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Adaptive(**wrong)


# The pace, as a function of the clock...


def test_the_pace_is_kept() -> None:
    """After half a second's worth at once, one is due each interval."""
    pace = RateLimit(50)
    due = [pace.reserve(0.0) for _ in range(60)]
    assert [round(moment, 9) for moment in due[:25]] == [0.0] * 25
    assert [round(later - sooner, 9) for sooner, later in pairwise(due[25:])] == [0.02] * 34


def test_a_burst_is_never_long() -> None:
    """However high the rate, a handful go at once."""
    pace = RateLimit(1000)
    assert [round(pace.reserve(0.0), 9) for _ in range(40)].count(0.0) == 25


def test_a_slow_pace_has_no_burst() -> None:
    pace = RateLimit(0.5)
    assert [pace.reserve(10.0) for _ in range(3)] == [10.0, 12.0, 14.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=100), st.floats(0.1, 100))
def test_no_stretch_has_more_than_the_rate(gaps: list[float], per_second: float) -> None:
    """In any stretch of time, no more begin than the rate, and half a second of it, allow."""
    pace, now, due = RateLimit(per_second), 0.0, []
    for gap in gaps:
        now += gap
        due.append(pace.reserve(now))
    assert due == sorted(due)
    for index, first in enumerate(due):
        for count, last in enumerate(due[index:], start=1):
            assert count <= (last - first + 0.5) * per_second + 1 + 1e-6


def test_calls_that_keep_to_no_rate_hold_nobody_back_for_long() -> None:
    """However many they are, a job's next attempt is a second away at most."""
    pace = RateLimit(50)
    for _ in range(10_000):
        pace.count(0.0)
    assert 0.5 <= pace.reserve(0.0) <= 1.0


def test_a_loop_that_is_over_is_forgotten() -> None:
    """The throttles of a client keep no event loop alive."""
    throttles = Throttles(Adaptive())

    async def main() -> None:
        throttle = throttles.for_call(M3)
        assert throttle is not None
        await passing(throttle, 0.1, [])
        await passing(throttles.for_job(M3, None, 60), 0.1, [])

    virtual_time.run(main())
    gc.collect()
    assert not throttles._loops


# The throttle, in a time of its own...


async def passing(
    throttle: Throttle, seconds: float, log: list[float], failure: object = None
) -> None:
    try:
        async with throttle.permit() as permit:
            permit.start()
            log.append(asyncio.get_running_loop().time())
            await asyncio.sleep(seconds)
            if isinstance(failure, Exception):
                raise failure
    except (RateLimited, NotFound):
        pass


def test_no_more_are_under_way_than_the_limit() -> None:
    """Others wait, and go in the order in which they came."""

    async def main() -> list[float]:
        throttle = Throttle(FixedLimit(2))
        log: list[float] = []
        await asyncio.gather(*(passing(throttle, 1.0, log) for _ in range(6)))
        assert (throttle.in_flight, throttle.attempts, throttle.waited) == (0, 6, 6.0)
        return log

    assert virtual_time.run(main()) == [0, 0, 1, 1, 2, 2]


def test_the_pace_is_shared_by_gates() -> None:
    """Two jobs of one client together keep to one rate, and neither is left behind."""

    async def main() -> tuple[list[float], list[float]]:
        throttles = Throttles()
        first, second = (throttles.for_job(M3, None, 60) for _ in range(2))
        one: list[float] = []
        two: list[float] = []
        each = [(first, one), (second, two)] * 5
        await asyncio.gather(*(passing(throttle, 0.1, log) for throttle, log in each))
        return one, two

    one, two = virtual_time.run(main())
    assert one == [0, 2, 4, 6, 8]
    assert two == [1, 3, 5, 7, 9]


def begun(rates: list[Any], seconds: float, model: str = M3) -> list[int]:
    """How many attempts jobs of these rates begin in so many seconds, one after the other."""

    async def main() -> list[int]:
        throttles = Throttles()
        logs: list[list[float]] = [[] for _ in rates]

        async def work(throttle: Throttle, log: list[float]) -> None:
            while True:
                await passing(throttle, 0.0, log)

        for rate in rates:  # All are known before the first goes.
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


def test_jobs_of_several_rates_keep_to_the_documented_one() -> None:
    """Each keeps to its own, and all together to what the service is known to take."""
    auto, slow = begun(["auto", 1000], 60)
    assert auto + slow <= 3000 + 26
    assert 900 <= slow <= 1000 + 26
    assert sum(begun([2000, 2001, 2002], 60)) <= 3000 + 26


def test_the_highest_rate_that_was_named_is_that_of_all() -> None:
    """Who has an agreement for more gets more; the documented rate is still its own bound."""
    more, auto = begun([6000, "auto"], 60)
    assert 5900 <= more + auto <= 6000 + 26
    assert auto <= 3000 + 26
    assert sum(begun([100, 200], 60, "@cf/nobody/knows-it")) <= 200 + 26


def test_a_slow_job_holds_up_no_fast_one() -> None:
    """A place far ahead is taken when it comes, and not before."""
    auto, slow = begun(["auto", 6], 60)
    assert slow <= 8
    assert auto >= 2990


def test_a_refused_place_stays_empty_for_a_round_trip() -> None:
    """A refusal comes at once: else the next would be refused, and the next, and all."""

    async def main() -> list[float]:
        throttle = Throttle(adapting(2, most=2))
        log: list[float] = []
        await passing(throttle, 0.5, log)
        await asyncio.gather(*(passing(throttle, 0.0, log, REFUSED) for _ in range(3)))
        return log

    _, *refused = virtual_time.run(main())
    assert refused[-1] - refused[0] >= 0.5


def test_attempts_begin_one_after_the_other() -> None:
    """Where answers take their time, as many as the limit are spread over it, and no crowd."""

    async def main() -> list[float]:
        throttle = Throttle(adapting(10, most=10))
        log: list[float] = []
        await passing(throttle, 1.0, log)
        await asyncio.gather(*(passing(throttle, 1.0, log) for _ in range(10)))
        return log

    log = virtual_time.run(main())[1:]
    assert log[-1] - log[0] == pytest.approx(9 / 20, abs=0.01)


def test_two_gates_in_a_row() -> None:
    """A job goes through its own and that of all calls; cancelled in between, it leaves both."""

    async def main() -> None:
        throttles = Throttles(1)
        first, second = (throttles.for_job(M3, 4, None) for _ in range(2))
        log: list[float] = []
        tasks = [
            asyncio.create_task(passing(throttle, 1.0, log)) for throttle in (first, second) * 3
        ]
        await asyncio.sleep(1.5)
        tasks[2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert log == [0, 1, 2, 3, 4]
        shared = throttles.for_call(M3)
        assert shared is not None
        assert (first.in_flight, second.in_flight, shared.in_flight) == (0, 0, 0)

    virtual_time.run(main())


def test_a_call_counts_towards_the_pace() -> None:
    """Its attempts are not held back, and the job's next one comes later."""

    async def main() -> list[float]:
        throttles = Throttles()
        log: list[float] = []
        assert throttles.for_call(M3) is None
        throttle = throttles.for_job(M3, None, 60)
        assert throttles.for_call("@cf/meta/llama-3.1-8b-instruct") is None
        call = throttles.for_call(M3)
        assert call is not None
        await asyncio.gather(*(passing(call, 0.0, []) for _ in range(3)))
        await passing(throttle, 0.1, log)
        return log

    assert virtual_time.run(main()) == [1.0]


@pytest.mark.parametrize("after", [0.0, 0.5, 1.0, 1.5])
def test_a_cancelled_attempt_leaves_its_place(after: float) -> None:
    """Cancelled while it waits, at the moment it is let through, or later: the next one goes."""

    async def main() -> None:
        throttle = Throttle(FixedLimit(1))
        log: list[float] = []
        holder = asyncio.create_task(passing(throttle, 1.0, log))
        waiter = asyncio.create_task(passing(throttle, 1.0, log))
        last = asyncio.create_task(passing(throttle, 1.0, log))
        asyncio.get_running_loop().call_later(after, waiter.cancel)
        await asyncio.wait([holder, waiter, last])
        assert waiter.cancelled()
        assert throttle.in_flight == 0
        assert log[-1] == max(1.0, after)

    virtual_time.run(main())


def test_refusals_cut_the_limit_of_a_gate() -> None:
    """A refusal (429) is one to the limit; other failures say nothing."""

    async def main() -> None:
        throttle = Throttle(adapting(8))
        log: list[float] = []
        await passing(throttle, 1.0, log, NotFound("no", status=404))
        assert (throttle.limit, throttle.refusals) == (8, 0)
        await asyncio.gather(*(passing(throttle, 1.0, log, REFUSED) for _ in range(8)))
        assert (throttle.limit, throttle.refusals) == (4, 8)

    virtual_time.run(main())


# Through a client...


async def test_calls_keep_to_the_concurrency(fake: FakeWorkersAI) -> None:
    """No more attempts of a model are under way than the client was told."""
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


async def test_no_slot_is_held_while_sleeping(fake: FakeWorkersAI) -> None:
    """While one call waits for its next attempt, another gets through."""
    paused, retries = asyncio.Event(), Retries(on_retry=lambda _: paused.set())
    fake.fails(429, 3040, "busy", retry_after=0.2)
    fake.always.answers({"response": "Hi"})
    ai = fake.client(concurrency=1, retries=retries)
    first = asyncio.create_task(ai.run("@cf/a/b", Prompt("one")))
    await paused.wait()
    await ai.run("@cf/a/b", Prompt("two"))
    assert not first.done()
    await first
    assert [one.json()["prompt"] for one in fake.requests] == ["one", "two", "one"]


async def test_waiting_for_a_turn_counts_to_the_deadline(fake: FakeWorkersAI) -> None:
    """`Timeouts.total` ends a call that never got its turn; nothing was sent for it."""
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


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "8"])
def test_a_concurrency_that_is_none(wrong: Any) -> None:
    """It is refused where it was given, not at the first call."""
    with pytest.raises(InputError, match="concurrency must be"):
        WorkersAI(account_id="a", api_token="t", concurrency=wrong)
