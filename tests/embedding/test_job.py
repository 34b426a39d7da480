"""Many texts: every one ends as one vector or one failure, whatever happens between."""

import asyncio
from array import array
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from attrs import frozen
from hypothesis import given as given_by, settings, strategies as st

from cfai import (
    Adaptive,
    ConfigError,
    EmbeddedBatch,
    EmbeddingJob,
    EmbedFailure,
    InputError,
    Polling,
    Progress,
    QuotaExceeded,
    RateLimited,
    Retries,
    WorkersAI,
)
from cfai.errors import BadRequest, DecodeError, NotFound
from cfai.testing import FakeWorkersAI, Service, vector_of

M3 = "@cf/baai/bge-m3"
QUICK = Retries(max=4, base=0.002, cap=0.01)


def texts(count: int) -> list[str]:
    return [f"text {number}" for number in range(count)]


def rows(batch: EmbeddedBatch) -> "list[array[float]]":
    return batch.vectors.vectors


async def everything(job: Any) -> list[EmbeddedBatch | EmbedFailure]:
    return [item async for item in job]


async def until_it_fails(job: EmbeddingJob[Any], items: list[Any]) -> None:
    """Put all that it gives into *items*, where it outlives the failure."""
    async for item in job:
        items.append(item)  # noqa: PERF401  # `extend` would lose them


def right(items: list[Any], given: list[str]) -> None:
    """Every vector is that of its own text, and no text came twice."""
    seen: set[int] = set()
    for item in items:
        assert isinstance(item, EmbeddedBatch)
        for place, row in enumerate(rows(item), start=item.start):
            assert row == vector_of(given[place])
            assert place not in seen
            seen.add(place)


@pytest.fixture
def ai(fake: FakeWorkersAI) -> WorkersAI:
    return fake.client(retries=QUICK)


# What is read, and how it is cut...


async def test_every_text_has_its_vector_in_order(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """Batches as large as the model takes, in the order of the source."""
    service = fake.simulates(Service())
    given = texts(1050)
    items = await everything(ai.embed_many(M3, given, rate=None))
    right(items, given)
    assert [item.start for item in items] == list(range(0, 1050, 100))
    assert [len(item) for item in items if isinstance(item, EmbeddedBatch)] == [100] * 10 + [50]
    assert service.counters.requests == 11


async def test_the_model_says_how_many_go_at_once(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.simulates(Service())
    await everything(ai.embed_many("@cf/qwen/qwen3-embedding-0.6b", texts(64), rate=None))
    assert [len(one.json()["text"]) for one in fake.requests] == [32, 32]


async def test_characters_bound_a_batch(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """A text that is longer by itself still goes, alone."""
    fake.simulates(Service())
    given = ["aaaa", "bbbb", "c" * 20, "dd"]
    items = await everything(ai.embed_many(M3, given, rate=None, max_batch_chars=9))
    right(items, given)
    assert sorted(len(one.json()["text"]) for one in fake.requests) == [1, 1, 2]


async def sync_and_async(kind: str, count: int) -> Any:
    pairs = [(f"id-{number}", text) for number, text in enumerate(texts(count))]

    def generated() -> Iterator[tuple[str, str]]:
        yield from pairs

    async def arriving() -> AsyncIterator[tuple[str, str]]:
        for pair in pairs:
            await asyncio.sleep(0)
            yield pair

    return {"list": pairs, "generator": generated(), "async": arriving()}[kind]


@pytest.mark.parametrize("kind", ["list", "generator", "async"])
async def test_sources_with_ids(fake: FakeWorkersAI, ai: WorkersAI, kind: str) -> None:
    """Any iterable will do, and the ids come back with the vectors."""
    fake.simulates(Service())
    items = await everything(ai.embed_many(M3, await sync_and_async(kind, 30), batch_size=7))
    right(items, texts(30))
    found = [key for item in items if isinstance(item, EmbeddedBatch) for key in item.ids]
    assert found == [f"id-{number}" for number in range(30)]


async def test_the_source_is_read_as_it_is_needed(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """With no end to the texts, the first batches come; little is read ahead of them."""
    fake.simulates(Service())
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield "again"

    async with ai.embed_many(M3, endless(), batch_size=10, concurrency=2, rate=None) as job:
        async for _ in job:
            break
    assert read <= 10 * 26


@pytest.mark.parametrize("wrong", [3, None, ("a", 1), ("a", "b", "c"), b"bytes"])
async def test_an_entry_that_is_no_text(fake: FakeWorkersAI, ai: WorkersAI, wrong: Any) -> None:
    """The job ends with it, after what stood before it."""
    fake.simulates(Service())
    job = ai.embed_many(M3, ["one", wrong], batch_size=1)
    with pytest.raises(InputError, match="number 1"):
        await everything(job)
    assert job.stats.texts == 1


@pytest.mark.parametrize("wrong", ["one text", b"bytes", 3, None])
async def test_what_is_no_source(ai: WorkersAI, wrong: Any) -> None:
    with pytest.raises(InputError, match="texts must be"):
        ai.embed_many(M3, wrong)


async def test_a_source_that_raises(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """What was read before is embedded and given; then its own exception comes."""
    fake.simulates(Service())

    def source() -> Iterator[str]:
        yield from texts(20)
        raise OSError("the disk is gone")

    items: list[Any] = []
    with pytest.raises(OSError, match="the disk is gone"):
        await until_it_fails(ai.embed_many(M3, source(), batch_size=15), items)
    right(items, texts(20))
    assert sum(map(len, items)) == 20


async def test_no_texts_at_all(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    assert await everything(ai.embed_many(M3, [])) == []
    assert not fake.requests


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"batch_size": 101},
        {"max_batch_chars": 0},
        {"on_error": "explode"},
    ],
)
async def test_bounds_of_the_options(ai: WorkersAI, wrong: Any) -> None:
    """They are checked before anything is read."""
    with pytest.raises(InputError, match=next(iter(wrong))):
        ai.embed_many(M3, ["one"], **wrong)


# What goes wrong...


def poison(text: str) -> bool:
    return "poison" in text


def poisoned(count: int, *places: int) -> list[str]:
    return [f"poison {n}" if n in places else text for n, text in enumerate(texts(count))]


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_poison_text_stands_alone(
    fake: FakeWorkersAI, ai: WorkersAI, ordered: bool
) -> None:
    """Its batch is halved until only it is left; all others have their vectors."""
    fake.simulates(Service(poison=poison))
    given = poisoned(64, 5, 40)
    job = ai.embed_many(M3, given, batch_size=32, on_error="yield", ordered=ordered)
    items = await everything(job)
    right([item for item in items if isinstance(item, EmbeddedBatch)], given)
    failures = sorted(
        (item for item in items if isinstance(item, EmbedFailure)), key=lambda one: one.start
    )
    assert [(one.start, one.text) for one in failures] == [(5, "poison 5"), (40, "poison 40")]
    assert all(isinstance(one.error, BadRequest) for one in failures)
    assert (job.stats.texts, job.stats.failed) == (62, 2)
    if ordered:
        assert [item.start for item in items] == sorted(item.start for item in items)


async def test_a_poison_text_can_be_left_out(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.simulates(Service(poison=poison))
    job = ai.embed_many(M3, poisoned(10, 3), on_error="skip")
    items = await everything(job)
    assert sum(len(item) for item in items if isinstance(item, EmbeddedBatch)) == 9
    assert job.stats.failed == 1


async def test_a_poison_text_ends_the_job(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """Unless told otherwise; what was finished comes before the error."""
    fake.simulates(Service(poison=poison))
    items: list[Any] = []
    job = ai.embed_many(M3, poisoned(40, 25), batch_size=10, concurrency=1)
    with pytest.raises(BadRequest):
        await until_it_fails(job, items)
    right(items, poisoned(40, 25))
    assert {place for item in items for place in item.ids} >= set(range(20))


async def test_texts_that_cannot_be_sent(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """An empty text, and one that no UTF-8 can write, fail by themselves."""
    fake.simulates(Service())
    given = ["one", "", "two", "\ud800", "three"]
    items = await everything(ai.embed_many(M3, given, on_error="yield"))
    assert [item.start for item in items if isinstance(item, EmbedFailure)] == [1, 3]
    right([item for item in items if isinstance(item, EmbeddedBatch)], given)


async def test_faults_are_tried_again(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """500s and lost connections cost attempts, and no text."""
    service = fake.simulates(Service(faults=0.2, seed=3))
    given = texts(400)
    job = ai.embed_many(M3, given, batch_size=10)
    right(await everything(job), given)
    assert service.counters.faults > 0
    assert job.stats.retries == service.counters.faults
    assert job.stats.requests == service.counters.requests


async def test_refusals_only_mean_to_wait(fake: FakeWorkersAI) -> None:
    """However often the service says that it is too much, nothing is lost for it."""
    service = fake.simulates(Service(slots=2, latency=0.003))
    given = texts(100)
    ai = fake.client(retries=Retries(max=1, base=0.002))
    job = ai.embed_many(M3, given, batch_size=1, rate=None, concurrency=Adaptive(start=64))
    right(await everything(job), given)
    assert job.stats.refusals == service.counters.refusals > 0
    assert service.counters.most_at_once == 2


async def test_who_wants_no_retries_gets_none(fake: FakeWorkersAI) -> None:
    fake.always.fails(429, 3040, "busy")
    job = fake.client(retries=Retries(max=0)).embed_many(M3, ["one"])
    with pytest.raises(RateLimited):
        await everything(job)
    assert len(fake.requests) == 1


async def test_a_used_up_quota_stops_at_once(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """What is finished is kept; the error says when there is a new one."""
    service = fake.simulates(Service(quota=250))
    items: list[Any] = []
    job = ai.embed_many(M3, texts(10_000), batch_size=10, concurrency=4, on_error="skip")
    with pytest.raises(QuotaExceeded) as caught:
        await until_it_fails(job, items)
    right(items, texts(10_000))
    assert caught.value.resets_at.tzinfo is not None
    assert 220 <= sum(map(len, items)) <= 250
    assert job.stats.texts == sum(map(len, items))
    assert service.counters.requests <= 25 + 2 * 4


@pytest.mark.parametrize("on_error", ["raise", "yield", "skip"])
async def test_what_is_not_about_the_texts_ends_the_job(
    fake: FakeWorkersAI, ai: WorkersAI, on_error: Any
) -> None:
    """A model that isn't there fails once, and not for every half of every batch."""
    fake.always.fails(400, 5007, "No such model")
    with pytest.raises(BadRequest):
        await everything(ai.embed_many(M3, texts(100), concurrency=1, on_error=on_error))
    assert len(fake.requests) == 1
    fake.always.fails(404, 7404, "Not found")
    with pytest.raises(NotFound):
        await everything(ai.embed_many(M3, texts(100), concurrency=1, on_error=on_error))


async def test_an_answer_of_another_length(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """Vectors that can't be matched to texts are nobody's."""
    fake.always.answers({"shape": [1, 2], "data": [[1.0, 2.0]]})
    items = await everything(ai.embed_many(M3, ["one", "two"], on_error="yield"))
    assert [type(item) for item in items] == [EmbedFailure, EmbedFailure]
    assert all(isinstance(getattr(item, "error", None), DecodeError) for item in items)


async def test_vectors_of_another_dimension(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.answers({"shape": [1, 2], "data": [[1.0, 2.0]]})
    fake.answers({"shape": [1, 3], "data": [[1.0, 2.0, 3.0]]})
    with pytest.raises(DecodeError, match="the vectors have 3 numbers, and earlier ones had 2"):
        await everything(ai.embed_many(M3, ["one", "two"], batch_size=1, concurrency=1))


# How it ends...


async def test_leaving_stops_what_is_under_way(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """A `break` is enough: no task and no request is left."""
    fake.answers({"shape": [1, 1], "data": [[1.0]]})
    fake.always.stalls()
    async for _ in ai.embed_many(M3, texts(9), batch_size=1):
        break
    await fake.until(
        lambda: all(one.answered.is_set() or one.gone.is_set() for one in fake.requests)
    )


async def test_a_cancelled_reader_leaves_nothing(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.always.stalls()
    job = ai.embed_many(M3, texts(9), batch_size=1)
    reader = asyncio.create_task(everything(job))
    await fake.until(lambda: len(fake.requests) == 8)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert asyncio.all_tasks() - {asyncio.current_task()} <= {
        c.task for c in fake._state.connections
    }


async def test_a_closed_job_is_no_finished_one(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """Who still reads hears that it was closed."""
    fake.always.stalls()
    job = ai.embed_many(M3, ["one"])
    reader = asyncio.create_task(everything(job))
    await fake.until(lambda: len(fake.requests) == 1)
    await job.aclose()
    await job.aclose()
    with pytest.raises(ConfigError, match="closed"):
        await reader


async def test_a_job_is_used_once(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.simulates(Service())
    job = ai.embed_many(M3, ["one"])
    await everything(job)
    with pytest.raises(InputError, match="once"):
        await everything(job)


# What it gives besides...


async def test_equal_texts_are_sent_once(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """Each place has its vector all the same, failures too."""
    service = fake.simulates(Service(poison=poison))
    given = ["a", "b", "a", "poison", "c", "b", "a", "poison"] * 5
    job = ai.embed_many(M3, given, batch_size=3, dedupe=True, on_error="yield")
    items = await everything(job)
    right([item for item in items if isinstance(item, EmbeddedBatch)], given)
    assert sum(isinstance(item, EmbedFailure) for item in items) == 10
    assert service.counters.answered == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize("ordered", [True, False])
async def test_one_array_of_all(fake: FakeWorkersAI, ai: WorkersAI, ordered: bool) -> None:
    """A row for each text, NaN where it failed."""
    np = pytest.importorskip("numpy")
    fake.simulates(Service(poison=poison))
    given = poisoned(50, 7, 30)
    job = ai.embed_many(M3, given, batch_size=8, on_error="yield", ordered=ordered)
    whole = await job.numpy()
    assert (whole.shape, whole.dtype) == ((50, 4), np.float32)
    for place, text in enumerate(given):
        if place in (7, 30):
            assert np.isnan(whole[place]).all()
        else:
            assert whole[place].tolist() == vector_of(text).tolist()


async def test_an_array_without_failures(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    pytest.importorskip("numpy")
    fake.simulates(Service(poison=poison))
    assert (await ai.embed_many(M3, poisoned(50, 7), on_error="skip").numpy()).shape == (49, 4)
    assert (await ai.embed_many(M3, []).numpy()).shape == (0, 0)


async def test_what_was_finished_before_a_failure(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """An array that can't be made leaves its batches with the job."""
    pytest.importorskip("numpy")
    fake.simulates(Service(quota=30))
    job = ai.embed_many(M3, texts(50), batch_size=10, concurrency=1)
    with pytest.raises(QuotaExceeded):
        await job.numpy()
    assert [batch.start for batch in job.finished] == [0, 10, 20]


async def test_progress_is_told(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.simulates(Service())
    heard: list[Progress] = []
    await everything(ai.embed_many(M3, texts(30), batch_size=10, progress=heard.append))
    assert [(one.done, one.total) for one in heard] == [(10, 30), (20, 30), (30, 30)]
    assert heard[-1].seconds_left == 0
    assert heard[-1].stats.texts_per_second > 0


# Any mix of all that...


@frozen
class Mix:
    """A job and a service, as chance has it."""

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
        poison=poison,
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
    """Whether a job may end so: with its quota, a text at fault, or because it was cancelled."""
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
    right([item for item in items if isinstance(item, EmbeddedBatch)], mix.given)
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
    """The places that a job gives which goes to its end."""
    all_places = range(len(mix.given))
    if mix.options["on_error"] == "yield":
        return [*all_places]
    return [place for place in all_places if mix.given[place] not in UNFIT]


def places(item: EmbeddedBatch | EmbedFailure) -> range:
    return range(item.start, item.start + (len(item) if isinstance(item, EmbeddedBatch) else 1))


async def test_few_refusals(fake: FakeWorkersAI) -> None:
    """Against a token bucket and few slots, hardly anything is refused, and nothing lost."""
    service = fake.simulates(Service(per_second=500, burst=50, slots=40, latency=0.02))
    job = fake.client().embed_many(M3, texts(300), batch_size=1, rate=500 * 60)
    right(await everything(job), texts(300))
    assert service.counters.refusals < 20
    assert service.counters.texts == 300
