"""Concurrency limits and rate limits as functions of time and outcomes."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, strategies as st

from cfai import Adaptive, InputError, WorkersAI
from cfai._session.limits import AdaptiveLimit, RateLimit

# Concurrency limits


def adaptive_limit(start: int = 8, least: int = 1, ceiling: int = 64) -> AdaptiveLimit:
    return AdaptiveLimit(Adaptive(start=start, min=least, max=ceiling))


def test_slow_start_doubles_the_limit_each_round_trip() -> None:
    """Before the first refusal, each answer raises the limit by one."""
    limit = adaptive_limit(8)
    for _ in range(8):
        limit.record_answer(in_flight=8, seconds=0.1)
    assert limit.value == 16


def test_the_limit_never_grows_beyond_max() -> None:
    limit = adaptive_limit(8, ceiling=10)
    for _ in range(8):
        limit.record_answer(in_flight=10, seconds=0.1)
    assert limit.value == 10


def test_refusals_halve_the_limit_once_per_round_trip() -> None:
    """Refusals of attempts that were sent before the limit was halved do not halve it again."""
    limit = adaptive_limit(16)
    for sent in (0.0, 0.5, 1.0):
        limit.record_rate_limited(sent=sent, now=1.0)
    assert limit.value == 8
    limit.record_rate_limited(sent=1.01, now=1.2)
    assert limit.value == 4


def test_the_permit_of_a_refused_attempt_stays_unused() -> None:
    """For the rest of a normal round trip, and for a second at ceiling."""
    limit = adaptive_limit(8)
    assert limit.record_rate_limited(sent=0.0, now=0.1) == 0
    limit.record_answer(in_flight=8, seconds=0.5)
    assert limit.record_rate_limited(sent=1.0, now=1.1) == pytest.approx(0.4)
    for _ in range(99):
        limit.record_answer(in_flight=8, seconds=60)
    assert limit.record_rate_limited(sent=1.0, now=1.1) == pytest.approx(0.9)


def test_after_a_refusal_the_limit_grows_by_one_per_round_trip() -> None:
    limit = adaptive_limit(16)
    limit.record_rate_limited(sent=0.0, now=1.0)
    for _ in range(8):
        limit.record_answer(in_flight=8, seconds=0.1)
    assert 8.9 < limit.value <= 9


def test_an_unused_limit_does_not_grow() -> None:
    """Answers only raise a limit if at least half of it is in use."""
    limit = adaptive_limit(8)
    limit.record_answer(in_flight=3, seconds=0.1)
    assert limit.value == 8


@given(st.integers(1, 64), st.lists(st.booleans(), max_size=200))
def test_the_limit_stays_within_its_bounds(start: int, refusals: list[bool]) -> None:
    """For any sequence of answers and refusals."""
    limit = adaptive_limit(start)
    for moment, refused in enumerate(refusals):
        if refused:
            limit.record_rate_limited(sent=moment, now=moment + 0.5)
        else:
            limit.record_answer(in_flight=64, seconds=0.1)
        assert 1 <= limit.value <= 64


@pytest.mark.parametrize(
    "wrong", [{"start": 0}, {"min": 0}, {"max": 7}, {"min": 9}, {"start": True}, {"max": 1.5}]
)
def test_invalid_bounds_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Adaptive(**wrong)


# Rate limits


def test_reservations_keep_the_rate() -> None:
    """Half a second of the rate is due at once, then one attempt per interval."""
    rate_limit = RateLimit(50)
    due = [rate_limit.reserve(0.0) for _ in range(60)]
    assert [round(moment, 9) for moment in due[:25]] == [0.0] * 25
    assert [round(later - sooner, 9) for sooner, later in pairwise(due[25:])] == [0.02] * 34


def test_a_burst_has_at_most_25_attempts() -> None:
    """However high the rate is."""
    rate_limit = RateLimit(1000)
    assert [round(rate_limit.reserve(0.0), 9) for _ in range(40)].count(0.0) == 25


def test_a_low_rate_has_no_burst() -> None:
    rate_limit = RateLimit(0.5)
    assert [rate_limit.reserve(10.0) for _ in range(3)] == [10.0, 12.0, 14.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=100), st.floats(0.1, 100))
def test_no_interval_exceeds_the_rate(gaps: list[float], per_second: float) -> None:
    """In any interval, no more attempts start than the rate and one burst allow."""
    rate_limit, now, due = RateLimit(per_second), 0.0, []
    for gap in gaps:
        now += gap
        due.append(rate_limit.reserve(now))
    assert due == sorted(due)
    for index, first in enumerate(due):
        for count, last in enumerate(due[index:], start=1):
            assert count <= (last - first + 0.5) * per_second + 1 + 1e-6


def test_attempts_outside_the_rate_delay_others_by_at_most_a_second() -> None:
    """However many attempts were counted, the next reservation is due within a second."""
    rate_limit = RateLimit(50)
    for _ in range(10_000):
        rate_limit.count(0.0)
    assert 0.5 <= rate_limit.reserve(0.0) <= 1.0


# Arguments


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "8"])
def test_an_invalid_concurrency_is_refused_by_the_constructor(wrong: Any) -> None:
    with pytest.raises(InputError, match="concurrency must be"):
        WorkersAI(account_id="a", api_token="t", concurrency=wrong)
