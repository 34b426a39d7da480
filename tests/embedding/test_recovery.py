"""Recovery from errors: calls are repeated, refused batches are split."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cfai import (
    Adaptive,
    EmbeddedBatch,
    EmbedFailure,
    Polling,
    RateLimited,
    Retries,
    WorkersAI,
)
from cfai.errors import (
    BadRequest,
    ConnectError,
    DecodeError,
    NotFound,
    RequestTimeout,
    StatusError,
)
from cfai.testing import FakeWorkersAI, Service
from tests import virtual_time
from tests.embedding.samples import (
    M3,
    batches_of,
    check_vectors,
    collect,
    collect_into,
    error_of,
    is_poison,
    places_of,
    poisoned,
    texts,
)
from tests.embedding.scripted import BUSY, collect_virtually, replies, scripted


def test_the_delay_that_the_service_asks_for_is_kept() -> None:
    """After each refusal."""
    told = RateLimited("busy", status=429, retry_after=30)
    script, job = scripted(replies(told, told, told, told, None), ["one"])
    assert len(collect_virtually(job)) == 1
    assert [round(moment) for moment in script.sent] == [0, 30, 60, 90, 120]


def test_a_delay_above_the_limit_ends_the_job() -> None:
    """A `Retry-After` above `Retries.max_wait`, also after a shorter one."""
    long = RateLimited("busy", status=429, retry_after=3600)
    script, job = scripted(replies(BUSY, long, None), ["one"])
    with pytest.raises(RateLimited):
        collect_virtually(job)
    assert len(script.sent) == 2


def test_refusals_end_the_job_after_five_minutes_without_an_answer() -> None:
    """Until then, the delays stay short."""
    script, job = scripted(replies(None, BUSY), texts(2), concurrency=1)
    with pytest.raises(RateLimited):
        collect_virtually(job)
    assert 300 <= script.sent[-1] < 310
    assert 60 < len(script.sent) < 600


def test_the_five_minutes_start_with_the_first_refusal() -> None:
    """And not with the last answer."""

    async def source() -> AsyncIterator[str]:
        yield "one"
        await asyncio.sleep(1000)
        yield "two"

    script, job = scripted(replies(None, BUSY, BUSY, BUSY, None), source())
    assert len(virtual_time.run(collect(job))) == 2
    assert len(script.sent) == 5


def late(phase: Any) -> RequestTimeout:
    return RequestTimeout("too late", phase=phase)


@pytest.mark.parametrize(
    ("failure", "attempts"),
    [(late("response"), 3), (ConnectError("nobody there"), 1), (late("connect"), 1)],
)
def test_a_service_that_never_answers_ends_the_job_soon(failure: Exception, attempts: int) -> None:
    """A response timeout is repeated as often as `Retries` allows; a failed connection is not
    repeated, if there was none before."""
    script, job = scripted(replies(failure), ["one"])
    with pytest.raises(type(failure)):
        collect_virtually(job)
    assert len(script.sent) == attempts


@pytest.mark.parametrize("failure", [late("pool"), ConnectError("gone"), late("connect")])
def test_a_job_waits_for_a_network_that_is_down(failure: Exception) -> None:
    """After the first answer."""
    script, job = scripted(replies(None, *[failure] * 40, None), texts(3), concurrency=1)
    assert len(collect_virtually(job)) == 3
    assert script.sent[-1] > 30


def test_a_late_answer_is_requested_again() -> None:
    script, job = scripted(replies(late("response"), late("response"), None), ["one"])
    assert len(collect_virtually(job)) == 1
    assert len(script.sent) == 3


@pytest.mark.parametrize("failure", [BUSY, late("response"), late("pool")])
def test_without_retries_no_call_is_repeated(failure: Exception) -> None:
    script, job = scripted(replies(failure), ["one"], retries=Retries(max=0))
    with pytest.raises(type(failure)):
        collect_virtually(job)
    assert len(script.sent) == 1


def test_on_retry_is_called_for_each_repetition() -> None:
    """With the number of the attempt."""
    heard: list[float] = []
    listening = Retries(max=1, base=1.0, on_retry=lambda retry: heard.append(retry.attempt))
    _, job = scripted(replies(BUSY, BUSY, None), ["one"], retries=listening)
    collect_virtually(job)
    assert heard == [2, 3]
    assert job.stats.retries == 2


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_refused_batch_is_halved_down_to_its_text(
    fake: FakeWorkersAI, ai: WorkersAI, ordered: bool
) -> None:
    """All other texts get their vectors."""
    fake.simulates(Service(poison=is_poison))
    given = poisoned(64, 5, 40)
    job = ai.embed_many(M3, given, batch_size=32, on_error="yield", ordered=ordered)
    items = await collect(job)
    check_vectors(batches_of(items), given)
    failures = sorted(
        (item for item in items if isinstance(item, EmbedFailure)), key=lambda one: one.start
    )
    assert [(one.start, one.text) for one in failures] == [(5, "poison 5"), (40, "poison 40")]
    assert all(isinstance(one.error, BadRequest) for one in failures)
    assert (job.stats.texts, job.stats.failed) == (62, 2)
    if ordered:
        assert [item.start for item in items] == sorted(item.start for item in items)


async def test_a_refused_text_can_be_skipped(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.simulates(Service(poison=is_poison))
    job = ai.embed_many(M3, poisoned(10, 3), on_error="skip")
    items = await collect(job)
    assert sum(len(item) for item in items if isinstance(item, EmbeddedBatch)) == 9
    assert job.stats.failed == 1


async def test_a_refused_text_ends_the_job_by_default(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """The finished batches come before the error."""
    fake.simulates(Service(poison=is_poison))
    items: list[Any] = []
    job = ai.embed_many(M3, poisoned(40, 25), batch_size=10, concurrency=1)
    with pytest.raises(BadRequest):
        await collect_into(job, items)
    check_vectors(items, poisoned(40, 25))
    assert {place for item in items for place in item.ids} >= set(range(20))


async def test_invalid_texts_fail_alone(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """An empty text, and one that UTF-8 cannot encode."""
    fake.simulates(Service())
    given = ["one", "", "two", "\ud800", "three"]
    items = await collect(ai.embed_many(M3, given, on_error="yield"))
    assert [item.start for item in items if isinstance(item, EmbedFailure)] == [1, 3]
    check_vectors(batches_of(items), given)


async def test_server_errors_and_lost_connections_are_retried(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    """They cost attempts, but no text. A lost connection that was reused costs no attempt."""
    service = fake.simulates(Service(faults=0.2, seed=3))
    given = texts(400)
    job = ai.embed_many(M3, given, batch_size=10)
    check_vectors(await collect(job), given)
    counters, stats = service.counters, job.stats
    assert 0 < stats.retries <= counters.faults
    assert stats.requests - stats.retries == counters.requests - counters.faults


async def test_refusals_lose_no_text(fake: FakeWorkersAI) -> None:
    """However often the service refuses."""
    service = fake.simulates(Service(slots=2, latency=0.003))
    given = texts(100)
    ai = fake.client(retries=Retries(max=1, base=0.002))
    job = ai.embed_many(M3, given, batch_size=1, rate=None, concurrency=Adaptive(start=64))
    check_vectors(await collect(job), given)
    assert job.stats.refusals == service.counters.refusals > 0
    assert service.counters.most_at_once == 2


async def test_without_retries_a_refusal_ends_the_job(fake: FakeWorkersAI) -> None:
    fake.always.fails(429, 3040, "busy")
    job = fake.client(retries=Retries(max=0)).embed_many(M3, ["one"])
    with pytest.raises(RateLimited):
        await collect(job)
    assert len(fake.requests) == 1


@pytest.mark.parametrize("on_error", ["raise", "yield", "skip"])
async def test_an_error_of_all_texts_ends_the_job(
    fake: FakeWorkersAI, ai: WorkersAI, on_error: Any
) -> None:
    """An unknown model fails once, and not for every half of every batch."""
    fake.always.fails(400, 5007, "No such model")
    with pytest.raises(BadRequest):
        await collect(ai.embed_many(M3, texts(100), concurrency=1, on_error=on_error))
    assert len(fake.requests) == 1
    fake.always.fails(404, 7404, "Not found")
    with pytest.raises(NotFound):
        await collect(ai.embed_many(M3, texts(100), concurrency=1, on_error=on_error))


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, 2001),
        (400, 2003),
        (400, 2008),
        (401, 2009),
        (402, 2021),
        (403, 5035),
        (400, 6003),
        (400, 7000),
        (404, 7003),
        (410, 5028),
        (400, 5028),
    ],
)
async def test_a_refusal_that_is_not_about_a_text_ends_the_job(
    fake: FakeWorkersAI, ai: WorkersAI, status: int, code: int
) -> None:
    fake.always.fails(status, code, "no")
    job = ai.embed_many(M3, texts(300), concurrency=1, on_error="skip")
    assert isinstance(await error_of(job, []), StatusError)
    assert len(fake.requests) == 1


async def test_an_answer_with_too_few_vectors_fails_its_texts(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    """Its vectors cannot be matched to texts."""
    fake.always.answers({"shape": [1, 2], "data": [[1.0, 2.0]]})
    items = await collect(ai.embed_many(M3, ["one", "two"], on_error="yield"))
    assert [type(item) for item in items] == [EmbedFailure, EmbedFailure]
    assert all(isinstance(getattr(item, "error", None), DecodeError) for item in items)


async def test_vectors_of_another_dimension_are_an_error(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    fake.answers({"shape": [1, 2], "data": [[1.0, 2.0]]})
    fake.answers({"shape": [1, 3], "data": [[1.0, 2.0, 3.0]]})
    with pytest.raises(DecodeError, match="the vectors have 3 numbers, and earlier ones had 2"):
        await collect(ai.embed_many(M3, ["one", "two"], batch_size=1, concurrency=1))


@pytest.mark.parametrize("mode", ["direct", "queue"])
@pytest.mark.parametrize("on_error", ["skip", "yield"])
async def test_a_job_ends_if_each_of_its_first_texts_is_refused(
    fake: FakeWorkersAI, ai: WorkersAI, mode: Any, on_error: Any
) -> None:
    """Then the texts are not at fault."""
    service = fake.simulates(Service(poison=lambda _: True))
    polling = Polling(base=0)
    job = ai.embed_many(
        M3, texts(1000), on_error=on_error, mode=mode, polling=polling, rate=None, truncate=True
    )
    error = await error_of(job, [])
    assert isinstance(error, BadRequest)
    assert error.__notes__ == ["each of the first 20 texts was refused"]
    assert service.counters.requests < 250


async def test_many_refused_texts_do_not_end_a_job_with_a_good_one(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    """Once a text was accepted, the refused ones are at fault."""
    fake.simulates(Service(poison=lambda text: text != "text 3"))
    job = ai.embed_many(M3, texts(100), on_error="skip", concurrency=1, rate=None)
    assert places_of(await collect(job)) == [3]
    assert job.stats.failed == 99
