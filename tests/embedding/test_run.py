"""A job under way: how it waits, what it counts, and that it ends in one way, whatever happens."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest

from cfai import (
    Adaptive,
    ConfigError,
    EmbeddingJob,
    Embeddings,
    InputError,
    Polling,
    Progress,
    QuotaExceeded,
    RateLimited,
    Retries,
    Timeouts,
    WorkersAI,
)
from cfai._session.throttle import Throttle, Throttles
from cfai.embedding import Plan
from cfai.errors import AuthenticationError, BadRequest, ConnectError, RequestTimeout
from cfai.resources.queue import BatchStatus, QueuedTask
from cfai.testing import FakeWorkersAI, Service, vector_of
from tests import virtual_time

M3 = "@cf/baai/bge-m3"
QUICK = Retries(max=4, base=0.002, cap=0.01)


def texts(count: int) -> list[str]:
    return [f"text {number}" for number in range(count)]


async def everything(job: Any) -> list[Any]:
    return [item async for item in job]


async def until_it_ends(job: Any, items: list[Any]) -> BaseException | None:
    """Put all that it gives into *items*; gives what it raises at its end."""
    try:
        async for item in job:
            items.append(item)  # noqa: PERF401  # `extend` would lose them
    except BaseException as exc:
        return exc
    return None


def places_in(items: list[Any]) -> list[int]:
    return [place for item in items for place in range(item.start, item.start + len(item))]


@pytest.fixture
def ai(fake: FakeWorkersAI) -> WorkersAI:
    return fake.client(retries=QUICK)


# In a time of its own...


def vectors(given: Sequence[str]) -> Embeddings:
    buffer = vector_of(given[0])
    for text in given[1:]:
        buffer += vector_of(text)
    return Embeddings((len(given), 4), buffer)


class Script:
    """What a job asks, without a socket: *reply* says what becomes of texts."""

    def __init__(
        self, reply: Callable[[Sequence[str]], Awaitable[Embeddings]], retries: Retries
    ) -> None:
        self._reply = reply
        self._retries = retries
        self.sent: list[float] = []
        """When."""
        self.tasks: list[asyncio.Task[Any] | None] = []
        """Who sent."""

    @property
    def retries(self) -> Retries:
        return self._retries

    async def embed(self, given: Sequence[str], throttle: Throttle) -> Embeddings:
        async with throttle.permit() as permit:
            permit.start()
            self.sent.append(asyncio.get_running_loop().time())
            self.tasks.append(asyncio.current_task())
            return await self._reply(given)

    def build_request(self, given: Sequence[str], reference: str) -> QueuedTask:
        raise NotImplementedError

    async def submit(
        self, requests: Sequence[QueuedTask], throttle: Throttle
    ) -> BatchStatus[Embeddings]:
        raise NotImplementedError

    async def poll(
        self, requests: Sequence[QueuedTask], request_id: str, throttle: Throttle | None
    ) -> BatchStatus[Embeddings]:
        raise NotImplementedError


def scripted(
    reply: Callable[[Sequence[str]], Awaitable[Embeddings]],
    source: Any,
    *,
    retries: Retries = Retries(max=2, base=1.0, cap=4.0),  # noqa: B008  # frozen
    **options: Any,
) -> tuple[Script, EmbeddingJob[Any]]:
    """A job of a text in each request, and what it asks."""
    script = Script(reply, retries)
    plan = Plan(M3, **{"batch_size": 1, "rate": None, **options})
    return script, EmbeddingJob(script, Throttles(), source, plan, endpoint="")


def replies(*outcomes: Exception | None) -> Callable[[Sequence[str]], Awaitable[Embeddings]]:
    """Replies that come one after the other, the last of them for ever; `None` is an answer."""
    left = list(outcomes)

    async def reply(given: Sequence[str]) -> Embeddings:
        outcome = left.pop(0) if len(left) > 1 else left[0]
        await asyncio.sleep(0.1)
        if outcome is not None:
            raise outcome
        return vectors(given)

    return reply


BUSY = RateLimited("busy", status=429)


def test_what_the_service_asks_to_wait_is_waited() -> None:
    """However often it is refused, and for how long it says."""
    told = RateLimited("busy", status=429, retry_after=30)
    script, job = scripted(replies(told, told, told, told, None), ["one"])
    assert len(virtual_time.run(everything(job))) == 1
    assert [round(moment) for moment in script.sent] == [0, 30, 60, 90, 120]


def test_who_is_told_to_come_back_too_late_does_not() -> None:
    """A `Retry-After` beyond `Retries.max_wait` ends the job, the second time too."""
    long = RateLimited("busy", status=429, retry_after=3600)
    script, job = scripted(replies(BUSY, long, None), ["one"])
    with pytest.raises(RateLimited):
        virtual_time.run(everything(job))
    assert len(script.sent) == 2


def test_patience_has_an_end() -> None:
    """After five minutes without any answer, a refusal ends the job; the pauses are short."""
    script, job = scripted(replies(None, BUSY), texts(2), concurrency=1)
    with pytest.raises(RateLimited):
        virtual_time.run(everything(job))
    assert 300 <= script.sent[-1] < 310
    assert 60 < len(script.sent) < 600


def test_a_quiet_time_is_no_vain_one() -> None:
    """Patience counts from the first refusal, and not from the last answer."""

    async def source() -> AsyncIterator[str]:
        yield "one"
        await asyncio.sleep(1000)
        yield "two"

    script, job = scripted(replies(None, BUSY, BUSY, BUSY, None), source())
    assert len(virtual_time.run(everything(job))) == 2
    assert len(script.sent) == 5


def late(phase: Any) -> RequestTimeout:
    return RequestTimeout("too late", phase=phase)


@pytest.mark.parametrize(
    ("failure", "attempts"),
    [(late("response"), 3), (ConnectError("nobody there"), 1), (late("connect"), 1)],
)
def test_what_never_works_ends_soon(failure: Exception, attempts: int) -> None:
    """No answer in time is tried as often as `Retries` says; an address that never was there, once
    (with the attempts that every call makes)."""
    script, job = scripted(replies(failure), ["one"])
    with pytest.raises(type(failure)):
        virtual_time.run(everything(job))
    assert len(script.sent) == attempts


@pytest.mark.parametrize("failure", [late("pool"), ConnectError("gone"), late("connect")])
def test_a_network_that_is_gone_for_a_time(failure: Exception) -> None:
    """Once something was answered, that is waited for."""
    script, job = scripted(replies(None, *[failure] * 40, None), texts(3), concurrency=1)
    assert len(virtual_time.run(everything(job))) == 3
    assert script.sent[-1] > 30


def test_an_answer_that_is_late_once() -> None:
    script, job = scripted(replies(late("response"), late("response"), None), ["one"])
    assert len(virtual_time.run(everything(job))) == 1
    assert len(script.sent) == 3


@pytest.mark.parametrize("failure", [BUSY, late("response"), late("pool")])
def test_who_wants_no_retries_gets_none(failure: Exception) -> None:
    script, job = scripted(replies(failure), ["one"], retries=Retries(max=0))
    with pytest.raises(type(failure)):
        virtual_time.run(everything(job))
    assert len(script.sent) == 1


def test_each_round_is_told() -> None:
    """`Retries.on_retry` hears of every pause, and can end the job."""
    heard: list[float] = []
    listening = Retries(max=1, base=1.0, on_retry=lambda retry: heard.append(retry.attempt))
    _, job = scripted(replies(BUSY, BUSY, None), ["one"], retries=listening)
    virtual_time.run(everything(job))
    assert heard == [2, 3]
    assert job.stats.retries == 2


def quota_for(text: str, *, after: float) -> Callable[[Sequence[str]], Awaitable[Embeddings]]:
    """The quota is used up at *text*; each text that is a number takes so many seconds."""

    async def reply(given: Sequence[str]) -> Embeddings:
        if given[0] == text:
            await asyncio.sleep(after)
            raise QuotaExceeded("used up", status=429, code=4006)
        await asyncio.sleep(float(given[0]))
        return vectors(given)

    return reply


def test_nothing_is_sent_after_a_failure() -> None:
    """What waits at the throttle stays there; what is being answered comes in."""
    given = ["quota", "2", "2", *["0.1"] * 50]
    script, job = scripted(quota_for("quota", after=1.0), given, concurrency=3)
    items: list[Any] = []
    error = virtual_time.run(until_it_ends(job, items))
    assert isinstance(error, QuotaExceeded)
    assert script.sent == [0, 0, 0]
    assert places_in(items) == [1, 2]


@pytest.mark.parametrize("dedupe", [False, True])
def test_failures_one_after_the_other(dedupe: bool) -> None:
    """The first is what the job ends with; those that come in after it change nothing."""

    async def reply(given: Sequence[str]) -> Embeddings:
        await asyncio.sleep(1)
        raise QuotaExceeded(given[0], status=429, code=4006)

    _, job = scripted(reply, texts(30), concurrency=4, dedupe=dedupe)
    error = virtual_time.run(until_it_ends(job, []))
    assert isinstance(error, QuotaExceeded)
    assert error.message == "text 0"


def test_nothing_is_tried_again_after_a_failure() -> None:
    """What is under way ends its attempt, and makes no other one."""

    def listener(_: Progress) -> None:
        raise LookupError("mine")

    async def reply(given: Sequence[str]) -> Embeddings:
        await asyncio.sleep(float(given[0]))
        if given[0] == "2":
            raise BUSY
        return vectors(given)

    script, job = scripted(reply, ["1", "2"], progress=listener)
    assert isinstance(virtual_time.run(until_it_ends(job, [])), LookupError)
    assert script.sent == [0, 0]


def test_a_failed_job_waits_for_a_moment_only() -> None:
    """An answer that doesn't come holds up the error for five seconds."""

    async def main() -> tuple[float, BaseException | None]:
        _, job = scripted(quota_for("quota", after=1.0), ["quota", "1000"])
        error = await until_it_ends(job, [])
        return asyncio.get_running_loop().time(), error

    moment, error = virtual_time.run(main())
    assert isinstance(error, QuotaExceeded)
    assert moment == 6.0


def test_a_task_that_somebody_else_cancels() -> None:
    """Its texts aren't left out: the job fails, and what others finished is given."""

    async def main() -> tuple[list[Any], BaseException | None]:
        script, job = scripted(replies(None), texts(3))
        items: list[Any] = []
        reader = asyncio.create_task(until_it_ends(job, items))
        await asyncio.sleep(0.05)
        assert script.tasks[0] is not None
        script.tasks[0].cancel()
        return items, await reader

    items, error = virtual_time.run(main())
    assert isinstance(error, ConfigError)
    assert "cancelled from outside: texts number 0 to 0" in str(error)
    assert places_in(items) == [1, 2]


def test_reading_that_somebody_else_cancels() -> None:
    """A framework that cancels all tasks doesn't make a short job look finished."""

    async def source() -> AsyncIterator[str]:
        yield "one"
        await asyncio.sleep(1000)
        yield "two"

    async def main() -> BaseException | None:
        _, job = scripted(replies(None), source())
        reader = asyncio.create_task(until_it_ends(job, []))
        await asyncio.sleep(10)
        for task in asyncio.all_tasks() - {reader, asyncio.current_task()}:
            task.cancel()
        return await reader

    error = virtual_time.run(main())
    assert isinstance(error, ConfigError)
    assert "cancelled" in str(error)


def test_an_attempt_that_got_through_too_late() -> None:
    """One that still waits for a connection when its job fails isn't sent any more."""

    async def main() -> None:
        throttle = Throttles().for_job(M3, 2, None)
        async with throttle.permit() as permit:
            throttle.close()
            with pytest.raises(asyncio.CancelledError):
                permit.start()
        assert throttle.attempts == 0

    virtual_time.run(main())


# Sources that end in a way of their own...


async def cancelled_source() -> AsyncIterator[str]:
    for text in texts(25):
        yield text
    other = asyncio.create_task(asyncio.Event().wait())
    other.cancel()
    await other


class Stop(BaseException):
    """Not an `Exception`."""


def stopping(error: type[BaseException]) -> Iterator[str]:
    yield from texts(25)
    raise error


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (cancelled_source, InputError),
        (lambda: stopping(Stop), Stop),
        (lambda: stopping(GeneratorExit), GeneratorExit),
    ],
)
async def test_a_source_cut_short_is_an_error(
    fake: FakeWorkersAI, ai: WorkersAI, source: Any, error: type[BaseException]
) -> None:
    """Whatever it ends with; what it gave before is embedded."""
    fake.simulates(Service())
    items: list[Any] = []
    caught = await until_it_ends(ai.embed_many(M3, source(), batch_size=10), items)
    assert isinstance(caught, error)
    assert places_in(items) == list(range(25))


async def test_a_full_batch_does_not_wait(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """It goes when it is full, though the source says nothing more for a time."""
    fake.simulates(Service())
    closed = asyncio.Event()

    async def live() -> AsyncIterator[str]:
        try:
            for text in texts(10):
                yield text
            await asyncio.Event().wait()
        finally:
            closed.set()

    async with ai.embed_many(M3, live(), batch_size=10) as job:
        async for batch in job:
            assert len(batch) == 10
            break
    assert closed.is_set()


async def test_a_batch_full_of_characters_does_not_wait(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.simulates(Service())

    async def live() -> AsyncIterator[str]:
        yield "ten letter"
        await asyncio.Event().wait()

    async with ai.embed_many(M3, live(), max_batch_chars=10) as job:
        assert len(await anext(aiter(job))) == 1


async def test_generators_are_closed(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """A source that is left in the middle tidies up at once, whichever kind it is."""
    fake.simulates(Service())
    closed: list[str] = []

    def plain() -> Iterator[str]:
        try:
            while True:
                yield "text"
        finally:
            closed.append("plain")

    async def waiting() -> AsyncIterator[str]:
        try:
            while True:
                yield "text"
        finally:
            closed.append("async")

    sources: list[Any] = [plain(), waiting()]
    for source in sources:
        async with ai.embed_many(M3, source, batch_size=1) as job:
            async for _ in job:
                break
    assert closed == ["plain", "async"]


async def test_a_source_that_swallows_its_cancellation(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """It is left all the same, with the next text it gives."""
    fake.simulates(Service())

    async def stubborn() -> AsyncIterator[str]:
        while True:
            yield "text"
            yield "text"
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                continue

    async with ai.embed_many(M3, stubborn(), batch_size=2) as job:
        async for _ in job:
            break


@pytest.mark.parametrize("wrong", [{"id": "text"}, bytearray(b"x"), memoryview(b"x")])
async def test_what_is_no_source(ai: WorkersAI, wrong: Any) -> None:
    """A mapping would be read by its keys."""
    with pytest.raises(InputError, match="texts must be an iterable of texts"):
        ai.embed_many(M3, wrong)


async def test_pairs_are_tuples(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """A list of two texts is no id and a text."""
    fake.simulates(Service())
    wrong: Any = [["one", "two"]]
    with pytest.raises(InputError, match="number 0 is a list"):
        await everything(ai.embed_many(M3, wrong))


# What is kept, and what is told...


async def test_what_equal_texts_wait_for_is_not_lost(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """Where a job with `dedupe` fails, an answer that others waited for is kept."""
    answered = asyncio.Event()
    fake.answers({"shape": [2, 1], "data": [[1.0], [2.0]]}, after=answered)
    fake.always.fails(429, 4006, "used up", after=0.02)
    items: list[Any] = []
    given = ["a", "b", "c", "d", "a", "b", "c", "e"]
    job = ai.embed_many(M3, given, batch_size=2, dedupe=True, rate=None)
    reader = asyncio.create_task(until_it_ends(job, items))
    await fake.until(lambda: len(fake.requests) == 3)
    await fake.until(lambda: all(one.answered.is_set() for one in fake.requests[1:]))
    for _ in range(20):
        await asyncio.sleep(0)
    answered.set()
    assert isinstance(await reader, QuotaExceeded)
    assert 0 in places_in(items)
    assert 1 in places_in(items)
    assert job.stats.texts == len(places_in(items))


@pytest.mark.parametrize("dedupe", [False, True])
async def test_what_came_before_the_text_at_fault(
    fake: FakeWorkersAI, ai: WorkersAI, dedupe: bool
) -> None:
    """Of its own batch, too."""
    fake.simulates(Service(poison=lambda text: text == "poison"))
    items: list[Any] = []
    job = ai.embed_many(M3, ["a", "b", "poison", "c"], dedupe=dedupe)
    assert isinstance(await until_it_ends(job, items), BadRequest)
    assert places_in(items) == [0, 1]


async def test_the_text_at_fault_is_named(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """By its place and its id; the text itself isn't told."""
    fake.simulates(Service(poison=lambda text: text == "text 15"))
    pairs = [(f"id-{n}", text) for n, text in enumerate(texts(60))]
    error = await until_it_ends(ai.embed_many(M3, pairs, batch_size=10), [])
    assert isinstance(error, BadRequest)
    assert error.__notes__ == ["it is text number 15 (from 0), id 'id-15'"]
    error = await until_it_ends(ai.embed_many(M3, ["a", "", "c"]), [])
    assert isinstance(error, InputError)
    assert error.__notes__ == ["it is text number 1 (from 0)"]


async def test_texts_at_fault_together_are_named(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.always.fails(500, 7009, "broken")
    error = await until_it_ends(ai.embed_many(M3, texts(3)), [])
    assert error is not None
    assert error.__notes__ == ["it is one of the texts number 0 to 2 (from 0)"]


@pytest.mark.parametrize("mode", ["direct", "queue"])
@pytest.mark.parametrize("on_error", ["skip", "yield"])
async def test_a_mistake_about_all_texts_is_found(
    fake: FakeWorkersAI, ai: WorkersAI, mode: Any, on_error: Any
) -> None:
    """Where no text at all is accepted, it isn't the texts: the job ends, and soon."""
    service = fake.simulates(Service(poison=lambda _: True))
    polling = Polling(base=0)
    job = ai.embed_many(
        M3, texts(1000), on_error=on_error, mode=mode, polling=polling, rate=None, truncate=True
    )
    error = await until_it_ends(job, [])
    assert isinstance(error, BadRequest)
    assert error.__notes__ == ["each of the first 20 texts was refused"]
    assert service.counters.requests < 250


async def test_many_bad_texts_among_good_ones(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """Once a text was accepted, the others are at fault themselves."""
    fake.simulates(Service(poison=lambda text: text != "text 3"))
    job = ai.embed_many(M3, texts(100), on_error="skip", concurrency=1, rate=None)
    assert places_in(await everything(job)) == [3]
    assert job.stats.failed == 99


async def test_retries_are_counted_as_such(fake: FakeWorkersAI) -> None:
    """Texts that fail without being sent are no attempts, and hide none."""
    service = fake.simulates(Service(faults=0.3, seed=4))
    ai = fake.client(retries=Retries(max=25, base=0.001, cap=0.002))
    job = ai.embed_many(M3, ["a", "", "b", ""] * 20, batch_size=8, on_error="yield")
    await everything(job)
    assert job.stats.requests == service.counters.requests
    assert job.stats.retries == service.counters.faults > 0


async def test_what_was_known_is_no_speed(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """Texts from a memory count as texts, and not into the speed or the time that is left."""
    fake.simulates(Service())
    heard: list[Progress] = []
    given = ["a", *["b"] * 19]
    job = ai.embed_many(M3, given, batch_size=1, dedupe=True, progress=heard.append)
    await everything(job)
    assert (job.stats.texts, job.stats.known) == (20, 18)
    assert job.stats.texts_per_second == pytest.approx(2 / job.stats.seconds)
    assert heard[-1].seconds_left == 0
    first = heard[0]
    assert first.seconds_left is None or first.seconds_left >= 0


async def test_equal_texts_have_the_usage_of_their_request(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    """What was asked for together costs once, with `dedupe` too."""
    usage = {"prompt_tokens": 7, "total_tokens": 7}
    fake.answers({"shape": [1, 1], "data": [[1.0]], "usage": usage})
    (batch,) = await everything(ai.embed_many(M3, ["a", "a"], dedupe=True))
    assert batch.usage.prompt_tokens == 7


async def test_a_listener_that_raises(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """What it raises ends the job; it hides no error of the job's own, and loses nothing."""

    def listener(_: Progress) -> None:
        raise LookupError("mine")

    fake.simulates(Service(quota=20))
    items: list[Any] = []
    job = ai.embed_many(M3, texts(60), batch_size=10, concurrency=1, progress=listener)
    assert isinstance(await until_it_ends(job, items), LookupError)
    assert places_in(items)[:10] == list(range(10))
    fake.always.fails(401, 10000, "bad token")
    error = await until_it_ends(ai.embed_many(M3, [""], on_error="yield", progress=listener), [])
    assert isinstance(error, LookupError)
    error = await until_it_ends(ai.embed_many(M3, ["a"], progress=listener), [])
    assert isinstance(error, AuthenticationError)


async def heard_later(_: Progress) -> None:
    """An async function, which nobody would await."""


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate": 0},
        {"rate": float("nan")},
        {"rate": "fast"},
        {"concurrency": 0},
        {"concurrency": "8"},
        {"ordered": "no"},
        {"dedupe": 1},
        {"retry_failed": 1},
        {"checkpoint": ""},
        {"checkpoint": 3},
        {"progress": "x"},
        {"progress": heard_later},
        {"pooling": "max"},
        {"truncate": "yes"},
    ],
)
async def test_options_are_checked_by_the_call(ai: WorkersAI, wrong: Any) -> None:
    """And not when the job begins, or for each text."""
    with pytest.raises(InputError, match=next(iter(wrong))):
        ai.embed_many(M3, ["one"], on_error="skip", **wrong)


@pytest.mark.parametrize("model", ["@cf/baai/bge m3", "../x", ""])
async def test_a_model_is_checked_by_the_call(ai: WorkersAI, model: str) -> None:
    with pytest.raises(InputError, match="model"):
        ai.embed_many(model, ["one"], on_error="skip")


async def test_an_option_that_there_is_not(ai: WorkersAI) -> None:
    with pytest.raises(TypeError, match=r"embed_many\(\).*'bogus'"):
        ai.embed_many(M3, ["one"], bogus=1)  # type: ignore[call-overload]  # it is refused


# How it is closed...


async def test_closing_a_job_that_gave_all(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """That is no interruption, though its reader has still to find out that nothing more comes."""
    fake.simulates(Service())
    job = ai.embed_many(M3, texts(2), batch_size=1)
    seen = []
    async for batch in job:
        seen.append(batch.start)
        if len(seen) == 2:
            await job.aclose()
    assert seen == [0, 1]


async def test_a_closed_job_says_so(ai: WorkersAI) -> None:
    job = ai.embed_many(M3, ["one"])
    await job.aclose()
    with pytest.raises(ConfigError, match="closed"):
        await everything(job)


# What jobs share...


async def test_the_client_bounds_its_jobs(fake: FakeWorkersAI) -> None:
    """`WorkersAI(concurrency=…)` is for the attempts of jobs, too, all together."""
    service = fake.simulates(Service(latency=0.002))
    ai = fake.client(concurrency=2, retries=QUICK)
    jobs = [ai.embed_many(M3, texts(10), batch_size=1, rate=None) for _ in range(2)]
    await asyncio.gather(*map(everything, jobs))
    assert service.counters.most_at_once == 2
    assert jobs[0].stats.limit == 2


@pytest.mark.parametrize("concurrency", [None, 64, Adaptive(start=16)])
async def test_a_job_keeps_to_the_limit_of_its_client(
    fake: FakeWorkersAI, concurrency: Any
) -> None:
    """No attempt waits for a connection: it isn't begun, and a used-up quota ends it all."""
    service = fake.simulates(Service(quota=5, latency=0.001))
    ai = fake.client(limit=2, timeouts=Timeouts(pool=0.0001))
    job = ai.embed_many(M3, texts(600), batch_size=1, rate=None, concurrency=concurrency)
    assert isinstance(await until_it_ends(job, []), QuotaExceeded)
    assert service.counters.requests <= 8
    assert job.stats.requests == service.counters.requests
    assert job.stats.limit == 2


async def test_a_refusal_cuts_the_limit_of_a_job(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.fails(429, 3040, "busy")
    fake.always.answers_by(
        lambda one: {"data": [vector_of(t).tolist() for t in one.json()["text"]]}
    )
    job = ai.embed_many(M3, ["one"], rate=None, concurrency=Adaptive(start=16))
    await everything(job)
    assert (job.stats.limit, job.stats.refusals) == (8, 1)


async def test_two_jobs_share_the_rate(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """Together they begin no more requests than one would: each alone is nearly too fast."""
    service = fake.simulates(Service(per_second=200, burst=35))
    jobs = [ai.embed_many(M3, texts(60), batch_size=1, rate=200 * 60) for _ in range(2)]
    await asyncio.gather(*map(everything, jobs))
    assert service.counters.refusals == 0
