"""Statistics, usage and progress of a job."""

from typing import Any

import attrs
import pytest

from cfai import Progress, Retries, WorkersAI
from cfai.embedding import JobStats
from cfai.errors import AuthenticationError
from cfai.testing import FakeWorkersAI, Service
from tests.embedding.samples import (
    M3,
    collect,
    error_of,
    places_of,
    texts,
)


async def test_progress_is_reported_after_each_batch(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.simulates(Service())
    heard: list[Progress] = []
    await collect(ai.embed_many(M3, texts(30), batch_size=10, progress=heard.append))
    assert [(one.done, one.total) for one in heard] == [(10, 30), (20, 30), (30, 30)]
    assert heard[-1].seconds_left == 0
    assert heard[-1].stats.texts_per_second > 0


async def test_the_figures_of_an_empty_job_are_zero(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """Before it starts, and at its end. Only the limit of concurrency and the time are more."""
    job = ai.embed_many(M3, [])
    before = job.stats
    assert await collect(job) == []
    for stats in (before, job.stats):
        figures = attrs.asdict(stats)
        assert {name for name, figure in figures.items() if figure} <= {"limit", "seconds"}
    assert fake.requests == []


async def test_retries_are_counted_as_such(fake: FakeWorkersAI) -> None:
    """Texts that fail without being sent do not count as attempts."""
    service = fake.simulates(Service(faults=0.3, seed=4))
    ai = fake.client(retries=Retries(max=25, base=0.001, cap=0.002))
    job = ai.embed_many(M3, ["a", "", "b", ""] * 20, batch_size=8, on_error="yield")
    await collect(job)
    counters, stats = service.counters, job.stats
    assert 0 < stats.retries <= counters.faults, "a lost connection that was reused costs none"
    # The service may get more: a request on a lost connection is sent again at no cost.
    assert stats.retries < stats.requests <= counters.requests


async def test_known_texts_do_not_count_towards_the_speed(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    """Nor towards the remaining time; they count as texts."""
    fake.simulates(Service())
    heard: list[Progress] = []
    given = ["a", *["b"] * 19]
    job = ai.embed_many(M3, given, batch_size=1, dedupe=True, progress=heard.append)
    await collect(job)
    assert (job.stats.texts, job.stats.known) == (20, 18)
    assert job.stats.texts_per_second == pytest.approx(2 / job.stats.seconds)
    assert heard[-1].seconds_left == 0
    first = heard[0]
    assert first.seconds_left is None or first.seconds_left >= 0


async def test_equal_texts_have_the_usage_of_their_request(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    """With `dedupe` as well, a request is counted once."""
    usage = {"prompt_tokens": 7, "total_tokens": 7}
    fake.answers({"shape": [1, 1], "data": [[1.0]], "usage": usage})
    (batch,) = await collect(ai.embed_many(M3, ["a", "a"], dedupe=True))
    assert batch.usage.prompt_tokens == 7


async def test_an_exception_of_the_progress_function_ends_the_job(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    """It does not hide the error of the job, and no result is lost."""

    def listener(_: Progress) -> None:
        raise LookupError("mine")

    fake.simulates(Service(quota=20))
    items: list[Any] = []
    job = ai.embed_many(M3, texts(60), batch_size=10, concurrency=1, progress=listener)
    assert isinstance(await error_of(job, items), LookupError)
    assert places_of(items)[:10] == list(range(10))
    fake.always.fails(401, 10000, "bad token")
    error = await error_of(ai.embed_many(M3, [""], on_error="yield", progress=listener), [])
    assert isinstance(error, LookupError)
    error = await error_of(ai.embed_many(M3, ["a"], progress=listener), [])
    assert isinstance(error, AuthenticationError)


def seconds_left(total: int | None, **stats: float) -> float | None:
    figures: Any = stats
    return Progress(JobStats(**figures), total).seconds_left


@pytest.mark.parametrize(
    ("total", "stats", "expected"),
    [
        (20, {"texts": 5, "pieces": 5, "seconds": 10}, 30.0),
        (20, {"texts": 4, "pieces": 4, "failed": 1, "seconds": 10}, 30.0),
        (20, {"texts": 5, "pieces": 5, "known": 3, "seconds": 10}, 75.0),
        (20, {"texts": 5, "pieces": 10, "known": 4, "seconds": 6}, 30.0),
        (20, {"texts": 5, "pieces": 8, "known": 7, "seconds": 6}, 90.0),
        (20, {"texts": 5, "pieces": 5, "known": 5, "seconds": 10}, None),
        (20, {"seconds": 10}, None),
        (20, {"failed": 5, "seconds": 10}, 30.0),
        (20, {"texts": 20, "pieces": 20, "known": 20, "seconds": 10}, 0.0),
        (0, {}, 0.0),
        (None, {"texts": 5, "pieces": 5, "seconds": 10}, None),
    ],
)
def test_the_remaining_seconds(
    total: int | None, stats: dict[str, float], expected: float | None
) -> None:
    """At the speed of the texts that were sent: those that were known take no time. If less than
    one was sent, they are at most as many as if it was one."""
    assert seconds_left(total, **stats) == expected


def test_the_speed_counts_pieces_that_were_sent() -> None:
    assert JobStats().texts_per_second == 0
    assert JobStats(texts=4, pieces=10, known=4, seconds=3.0).texts_per_second == 2.0
    assert Progress(JobStats(texts=4, failed=3), None).done == 7
