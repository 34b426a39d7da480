"""A job: every text ends as one vector or one failure, in every way a job can end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest
from attrs import frozen
from hypothesis import given as given_by, settings, strategies as st

from cfai import (
    Adaptive,
    ConfigError,
    EmbeddedBatch,
    EmbeddingJob,
    Embeddings,
    EmbedFailure,
    InputError,
    Polling,
    Progress,
    QuotaExceeded,
    Retries,
    Timeouts,
    WorkersAI,
)
from cfai._session.throttle import Throttles
from cfai.errors import (
    BadRequest,
)
from cfai.testing import FakeWorkersAI, Service, vector_of
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
    texts,
)
from tests.embedding.scripted import BUSY, replies, scripted, vectors_of

QUICK = Retries(max=4, base=0.002, cap=0.01)


async def test_batches_come_in_the_order_of_the_source(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """They are as large as the model takes."""
    service = fake.simulates(Service())
    given = texts(1050)
    items = await collect(ai.embed_many(M3, given, rate=None))
    check_vectors(items, given)
    assert [item.start for item in items] == list(range(0, 1050, 100))
    assert [len(item) for item in items if isinstance(item, EmbeddedBatch)] == [100] * 10 + [50]
    assert service.counters.requests == 11


async def test_a_used_up_quota_ends_the_job_at_once(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """Finished batches are yielded; the error says when the quota resets."""
    service = fake.simulates(Service(quota=250))
    items: list[Any] = []
    job = ai.embed_many(M3, texts(10_000), batch_size=10, concurrency=4, on_error="skip")
    with pytest.raises(QuotaExceeded) as caught:
        await collect_into(job, items)
    check_vectors(items, texts(10_000))
    assert caught.value.resets_at.tzinfo is not None
    assert 220 <= sum(map(len, items)) <= 250
    assert job.stats.texts == sum(map(len, items))
    assert service.counters.requests <= 25 + 2 * 4


async def test_leaving_the_iteration_stops_all_requests(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """After a `break`, no task and no request is left."""
    fake.answers({"shape": [1, 1], "data": [[1.0]]})
    fake.always.stalls()
    async for _ in ai.embed_many(M3, texts(9), batch_size=1):
        break
    await fake.until(
        lambda: all(one.answered.is_set() or one.gone.is_set() for one in fake.requests)
    )


async def test_a_cancelled_reader_leaves_no_task(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.always.stalls()
    job = ai.embed_many(M3, texts(9), batch_size=1)
    reader = asyncio.create_task(collect(job))
    await fake.until(lambda: len(fake.requests) == 8)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert asyncio.all_tasks() - {asyncio.current_task()} <= {
        c.task for c in fake._state.connections
    }


async def test_closing_a_job_raises_in_its_reader(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """It does not look like the end of the job."""
    fake.always.stalls()
    job = ai.embed_many(M3, ["one"])
    reader = asyncio.create_task(collect(job))
    await fake.until(lambda: len(fake.requests) == 1)
    await job.aclose()
    await job.aclose()
    with pytest.raises(ConfigError, match="closed"):
        await reader


async def test_a_job_can_be_iterated_once(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.simulates(Service())
    job = ai.embed_many(M3, ["one"])
    await collect(job)
    with pytest.raises(InputError, match="once"):
        await collect(job)


async def test_equal_texts_are_sent_once(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """Each place gets its vector or its failure."""
    service = fake.simulates(Service(poison=is_poison))
    given = ["a", "b", "a", "poison", "c", "b", "a", "poison"] * 5
    job = ai.embed_many(M3, given, batch_size=3, dedupe=True, on_error="yield")
    items = await collect(job)
    check_vectors(batches_of(items), given)
    assert sum(isinstance(item, EmbedFailure) for item in items) == 10
    assert service.counters.answered == {"a": 1, "b": 1, "c": 1}


@frozen
class Mix:
    """A random job and service."""

    given: list[str]
    size: int
    service: Service
    options: dict[str, Any]
    stops_after: int | None
    """Items after which the reader leaves."""
    cancelled_after: int | None
    """Turns of the event loop after which the reader is cancelled."""


@st.composite
def mixes(draw: st.DrawFn) -> Mix:
    words = st.sampled_from(["a", "b", "poison", "", "\ud800", "ü", "long " * 9])
    numbered = st.integers(0, 60).map(lambda number: f"text {number}")
    options = {
        "ordered": draw(st.booleans()),
        "dedupe": draw(st.booleans()),
        "concurrency": draw(st.sampled_from([None, 1, 3, Adaptive(start=2, max=8)])),
        "max_batch_chars": draw(st.none() | st.integers(1, 40)),
        "rate": None,
        "on_error": draw(st.sampled_from(["yield", "yield", "skip", "raise"])),
        "mode": draw(st.sampled_from(["direct", "queue"])),
        "polling": Polling(base=0),
    }
    service = Service(
        slots=draw(st.none() | st.integers(1, 4)),
        faults=draw(st.sampled_from([0.0, 0.1, 0.3])),
        lost=draw(st.sampled_from([0.0, 0.3])),
        quota=draw(st.none() | st.integers(0, 60)),
        seed=draw(st.integers(0, 99)),
        poison=is_poison,
    )
    given = draw(st.lists(st.one_of(numbered, words), max_size=60))
    stops_after, cancelled_after = draw(
        st.sampled_from([(None, None), (None, None), (1, None), (4, None), (9, None), (None, 0)])
    )
    if cancelled_after is not None:
        cancelled_after = draw(st.integers(0, 120))
    size = draw(st.integers(1, 20))
    return Mix(given, size, service, options, stops_after, cancelled_after)


UNFIT = ("", "\ud800", "poison")


def _is_expected(error: BaseException, mix: Mix) -> bool:
    """Whether the job may end with *error*: the quota, a refused text, or a cancellation."""
    if isinstance(error, QuotaExceeded):
        return mix.service.quota is not None
    if isinstance(error, asyncio.CancelledError):
        return mix.cancelled_after is not None
    if isinstance(error, BadRequest) and mix.given.count("poison") >= 20:
        return True  # None was accepted before.
    at_fault = isinstance(error, BadRequest | InputError) and bool({*mix.given} & {*UNFIT})
    return at_fault and mix.options["on_error"] == "raise"


@settings(max_examples=200, deadline=None)
@given_by(mixes())
def test_every_text_ends_once_as_its_vector_or_as_a_failure(mix: Mix) -> None:
    """Any texts, batch sizes, poison, faults, refusals, quotas and an early end, by leaving or by
    cancelling: nothing is lost, nothing comes twice, nobody gets another's vector, and no task is
    left."""
    items: list[EmbeddedBatch | EmbedFailure] = []

    async def read(job: EmbeddingJob[Any]) -> None:
        async with job:
            async for item in job:
                items.append(item)
                if len(items) == mix.stops_after:
                    break

    async def main() -> BaseException | None:
        async with FakeWorkersAI() as fake:
            fake.simulates(mix.service)
            ai = fake.client(retries=Retries(max=25, base=0.0005, cap=0.001))
            before = asyncio.all_tasks()
            job = ai.embed_many(M3, mix.given, batch_size=mix.size, **mix.options)
            reader = asyncio.create_task(read(job))
            if mix.cancelled_after is not None:
                for _ in range(mix.cancelled_after):
                    await asyncio.sleep(0)
                reader.cancel()
            (error,) = await asyncio.gather(reader, return_exceptions=True)
            for _ in range(5):
                await asyncio.sleep(0)  # The loop itself ends a generator that was left.
            connections = {connection.task for connection in fake._state.connections}
            assert asyncio.all_tasks() <= before | connections
        return error

    _agrees(mix, items, asyncio.run(main()))


def _agrees(
    mix: Mix, items: list[EmbeddedBatch | EmbedFailure], error: BaseException | None
) -> None:
    check_vectors(batches_of(items), mix.given)
    for item in items:
        if isinstance(item, EmbedFailure):
            assert mix.options["on_error"] == "yield"
            assert item.text == mix.given[item.start]
            assert item.text in UNFIT
    settled = [place for item in items for place in places(item)]
    assert len(set(settled)) == len(settled)
    if mix.options["ordered"]:
        assert settled == sorted(settled)
    if error is not None:
        assert _is_expected(error, mix), error
    elif mix.stops_after is None:
        assert sorted(settled) == _all_of(mix)


def _all_of(mix: Mix) -> list[int]:
    """The places that a complete job yields."""
    all_places = range(len(mix.given))
    if mix.options["on_error"] == "yield":
        return [*all_places]
    return [place for place in all_places if mix.given[place] not in UNFIT]


def places(item: EmbeddedBatch | EmbedFailure) -> range:
    return range(item.start, item.start + (len(item) if isinstance(item, EmbeddedBatch) else 1))


async def test_a_job_with_the_right_rate_is_rarely_refused(fake: FakeWorkersAI) -> None:
    """By a service with a token bucket and few slots; nothing is lost."""
    service = fake.simulates(Service(per_second=500, burst=50, slots=40, latency=0.02))
    job = fake.client().embed_many(M3, texts(300), batch_size=1, rate=500 * 60)
    check_vectors(await collect(job), texts(300))
    assert service.counters.refusals < 20
    assert service.counters.texts == 300


def quota_for(text: str, *, after: float) -> Callable[[Sequence[str]], Awaitable[Embeddings]]:
    """The quota is used up at *text*; other texts are the seconds that they take."""

    async def reply(given: Sequence[str]) -> Embeddings:
        if given[0] == text:
            await asyncio.sleep(after)
            raise QuotaExceeded("used up", status=429, code=4006)
        await asyncio.sleep(float(given[0]))
        return vectors_of(given)

    return reply


def test_nothing_is_sent_after_a_failure() -> None:
    """Waiting attempts are not sent; answers to sent ones are awaited."""
    given = ["quota", "2", "2", *["0.1"] * 50]
    script, job = scripted(quota_for("quota", after=1.0), given, concurrency=3)
    items: list[Any] = []
    error = virtual_time.run(error_of(job, items))
    assert isinstance(error, QuotaExceeded)
    assert script.sent == [0, 0, 0]
    assert places_of(items) == [1, 2]


@pytest.mark.parametrize("dedupe", [False, True])
def test_a_job_ends_with_its_first_error(dedupe: bool) -> None:
    """Later errors are ignored."""

    async def reply(given: Sequence[str]) -> Embeddings:
        await asyncio.sleep(1)
        raise QuotaExceeded(given[0], status=429, code=4006)

    _, job = scripted(reply, texts(30), concurrency=4, dedupe=dedupe)
    error = virtual_time.run(error_of(job, []))
    assert isinstance(error, QuotaExceeded)
    assert error.message == "text 0"


def test_nothing_is_retried_after_a_failure() -> None:
    """Requests in flight finish their attempt and make no other."""

    def listener(_: Progress) -> None:
        raise LookupError("mine")

    async def reply(given: Sequence[str]) -> Embeddings:
        await asyncio.sleep(float(given[0]))
        if given[0] == "2":
            raise BUSY
        return vectors_of(given)

    script, job = scripted(reply, ["1", "2"], progress=listener)
    assert isinstance(virtual_time.run(error_of(job, [])), LookupError)
    assert script.sent == [0, 0]


def test_a_failed_job_waits_five_seconds_for_answers() -> None:
    """Then the error is raised, without the missing answer."""

    async def main() -> tuple[float, BaseException | None]:
        _, job = scripted(quota_for("quota", after=1.0), ["quota", "1000"])
        error = await error_of(job, [])
        return asyncio.get_running_loop().time(), error

    moment, error = virtual_time.run(main())
    assert isinstance(error, QuotaExceeded)
    assert moment == 6.0


def test_a_task_that_is_cancelled_from_outside_fails_the_job() -> None:
    """Its texts are not silently left out; other batches are yielded."""

    async def main() -> tuple[list[Any], BaseException | None]:
        script, job = scripted(replies(None), texts(3))
        items: list[Any] = []
        reader = asyncio.create_task(error_of(job, items))
        await asyncio.sleep(0.05)
        assert script.tasks[0] is not None
        script.tasks[0].cancel()
        return items, await reader

    items, error = virtual_time.run(main())
    assert isinstance(error, ConfigError)
    assert "cancelled from outside: texts number 0 to 0" in str(error)
    assert places_of(items) == [1, 2]


def test_reading_that_is_cancelled_from_outside_fails_the_job() -> None:
    """If a framework cancels all tasks, the job does not look finished."""

    async def source() -> AsyncIterator[str]:
        yield "one"
        await asyncio.sleep(1000)
        yield "two"

    async def main() -> BaseException | None:
        _, job = scripted(replies(None), source())
        reader = asyncio.create_task(error_of(job, []))
        await asyncio.sleep(10)
        for task in asyncio.all_tasks() - {reader, asyncio.current_task()}:
            task.cancel()
        return await reader

    error = virtual_time.run(main())
    assert isinstance(error, ConfigError)
    assert "cancelled" in str(error)


def test_an_attempt_is_not_sent_after_its_job_failed() -> None:
    """Even if it has its permit and waits for a connection."""

    async def main() -> None:
        throttle = Throttles().for_job(M3, 2, None)
        async with throttle.permit() as permit:
            throttle.close()
            with pytest.raises(asyncio.CancelledError):
                permit.start()
        assert throttle.attempts == 0

    virtual_time.run(main())


async def test_an_answer_that_equal_texts_wait_for_is_not_lost(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    """If a job with `dedupe` fails, an answer that other batches wait for is yielded."""
    answered = asyncio.Event()
    fake.answers({"shape": [2, 1], "data": [[1.0], [2.0]]}, after=answered)
    fake.always.fails(429, 4006, "used up", after=0.02)
    items: list[Any] = []
    given = ["a", "b", "c", "d", "a", "b", "c", "e"]
    job = ai.embed_many(M3, given, batch_size=2, dedupe=True, rate=None)
    reader = asyncio.create_task(error_of(job, items))
    await fake.until(lambda: len(fake.requests) == 3)
    await fake.until(lambda: all(one.answered.is_set() for one in fake.requests[1:]))
    for _ in range(20):
        await asyncio.sleep(0)
    answered.set()
    assert isinstance(await reader, QuotaExceeded)
    assert 0 in places_of(items)
    assert 1 in places_of(items)
    assert job.stats.texts == len(places_of(items))


@pytest.mark.parametrize("dedupe", [False, True])
async def test_texts_before_the_refused_one_are_yielded(
    fake: FakeWorkersAI, ai: WorkersAI, dedupe: bool
) -> None:
    """Also those of its own batch."""
    fake.simulates(Service(poison=lambda text: text == "poison"))
    items: list[Any] = []
    job = ai.embed_many(M3, ["a", "b", "poison", "c"], dedupe=dedupe)
    assert isinstance(await error_of(job, items), BadRequest)
    assert places_of(items) == [0, 1]


async def test_a_note_of_the_error_names_the_refused_text(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    """By its place and its id; the text itself is not shown."""
    fake.simulates(Service(poison=lambda text: text == "text 15"))
    pairs = [(f"id-{n}", text) for n, text in enumerate(texts(60))]
    error = await error_of(ai.embed_many(M3, pairs, batch_size=10), [])
    assert isinstance(error, BadRequest)
    assert error.__notes__ == ["it is text number 15 (from 0), id 'id-15'"]
    error = await error_of(ai.embed_many(M3, ["a", "", "c"]), [])
    assert isinstance(error, InputError)
    assert error.__notes__ == ["it is text number 1 (from 0)"]


async def test_closing_a_finished_job_is_not_an_error(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """Even if its reader has not seen the end yet."""
    fake.simulates(Service())
    job = ai.embed_many(M3, texts(2), batch_size=1)
    seen = []
    async for batch in job:
        seen.append(batch.start)
        if len(seen) == 2:
            await job.aclose()
    assert seen == [0, 1]


async def test_a_closed_job_cannot_be_iterated(ai: WorkersAI) -> None:
    job = ai.embed_many(M3, ["one"])
    await job.aclose()
    with pytest.raises(ConfigError, match="closed"):
        await collect(job)


async def test_the_concurrency_of_the_client_limits_its_jobs(fake: FakeWorkersAI) -> None:
    """All jobs together keep to `WorkersAI(concurrency=…)`."""
    service = fake.simulates(Service(latency=0.002))
    ai = fake.client(concurrency=2, retries=QUICK)
    jobs = [ai.embed_many(M3, texts(10), batch_size=1, rate=None) for _ in range(2)]
    await asyncio.gather(*map(collect, jobs))
    assert service.counters.most_at_once == 2
    assert jobs[0].stats.limit == 2


@pytest.mark.parametrize("concurrency", [None, 64, Adaptive(start=16)])
async def test_the_limit_of_the_client_limits_a_job(fake: FakeWorkersAI, concurrency: Any) -> None:
    """Attempts above the limit are not started, instead of waiting for a connection."""
    service = fake.simulates(Service(quota=5, latency=0.001))
    ai = fake.client(limit=2, timeouts=Timeouts(pool=0.0001))
    job = ai.embed_many(M3, texts(600), batch_size=1, rate=None, concurrency=concurrency)
    assert isinstance(await error_of(job, []), QuotaExceeded)
    assert service.counters.requests <= 8
    assert job.stats.requests == service.counters.requests
    assert job.stats.limit == 2


async def test_a_refusal_halves_the_limit_of_a_job(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.fails(429, 3040, "busy")
    fake.always.answers_by(
        lambda one: {"data": [vector_of(t).tolist() for t in one.json()["text"]]}
    )
    job = ai.embed_many(M3, ["one"], rate=None, concurrency=Adaptive(start=16))
    await collect(job)
    assert (job.stats.limit, job.stats.refusals) == (8, 1)


async def test_jobs_with_the_same_rate_share_it(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """Together they start no more requests than one; otherwise, a fifth of these are refused.

    The burst leaves room for a busy machine, whose event loops stand still for a moment.
    """
    service = fake.simulates(Service(per_second=200, burst=60))
    jobs = [ai.embed_many(M3, texts(60), batch_size=1, rate=200 * 60) for _ in range(2)]
    await asyncio.gather(*map(collect, jobs))
    assert service.counters.refusals == 0


async def test_a_source_that_is_cancelled_ends_the_job(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """Somebody else cancelled the task that reads it: an error, and not a job that seems done."""

    async def source() -> AsyncIterator[str]:
        yield "one"
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)
        yield "two"

    fake.simulates(Service())
    with pytest.raises(ConfigError, match="the task that reads the texts was cancelled"):
        await collect(ai.embed_many(M3, source(), rate=None))
