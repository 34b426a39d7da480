"""Many texts through the service's queue: handed over in batches, and matched by reference."""

import asyncio
from typing import Any

import pytest
from hypothesis import given as given_by, settings, strategies as st

from cfai import (
    Adaptive,
    EmbeddedBatch,
    EmbedFailure,
    InputError,
    Polling,
    QuotaExceeded,
    Retries,
    WorkersAI,
)
from cfai.errors import (
    AuthenticationError,
    BadRequest,
    DecodeError,
    NotFound,
    ServerError,
)
from cfai.testing import FakeWorkersAI, Recorded, Reply, Service, vector_of

M3 = "@cf/baai/bge-m3"
QUICK = Retries(max=3, base=0.002, cap=0.01)
AT_ONCE = Polling(base=0)


def texts(count: int) -> list[str]:
    return [f"text {number}" for number in range(count)]


@pytest.fixture
def ai(fake: FakeWorkersAI) -> WorkersAI:
    return fake.client(retries=QUICK)


def queued(ai: WorkersAI, given: Any, **options: Any) -> Any:
    chosen: dict[str, Any] = {"mode": "queue", "polling": AT_ONCE, "rate": None, **options}
    return ai.embed_many(M3, given, **chosen)


async def everything(job: Any) -> list[Any]:
    return [item async for item in job]


async def until_it_fails(job: Any, items: list[Any]) -> None:
    async for item in job:
        items.append(item)  # noqa: PERF401  # `extend` would lose them


def right(items: list[Any], given: list[str]) -> None:
    for item in items:
        assert isinstance(item, EmbeddedBatch)
        for place, row in enumerate(item.vectors, start=item.start):
            assert row == vector_of(given[place])


def submitted(fake: FakeWorkersAI) -> list[list[Any]]:
    """The requests of each batch that was handed over."""
    bodies = [one.json() for one in fake.requests]
    return [body["requests"] for body in bodies if "requests" in body]


async def test_many_requests_in_one_batch(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """Up to 1,000 texts go together, each request with a reference of its own, and in order."""
    service = fake.simulates(Service())
    given = texts(2500)
    items = await everything(queued(ai, given, polling=Polling(base=0.01)))
    right(items, given)
    assert [item.start for item in items] == list(range(0, 2500, 100))
    batches = submitted(fake)
    assert [len(batch) for batch in batches] == [10, 10, 5]
    references = [one["external_reference"] for batch in batches for one in batch]
    assert len(set(references)) == 25
    assert all(one.target.endswith(f"{M3}?queueRequest=true") for one in fake.requests)
    assert service.counters.batches == 3


async def test_options_reach_the_queue(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.simulates(Service())
    await everything(queued(ai, ["one"], pooling="cls", truncate=True))
    ((request,),) = submitted(fake)
    assert request == {
        "text": ["one"],
        "pooling": "cls",
        "truncate_inputs": True,
        "external_reference": "1",
    }


async def test_the_documented_bytes(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """Queued, running, done: as the service's documentation has it."""
    fake.says(
        b'{"result":{"status":"queued","request_id":"768f15b7-4fd6-4498-906e-ad94ffc7f8d2",'
        b'"model":"@cf/baai/bge-m3"},"success":true,"errors":[],"messages":[]}'
    )
    fake.says(
        b'{"result":{"status":"running","request_id":"768f15b7-4fd6-4498-906e-ad94ffc7f8d2",'
        b'"model":"@cf/baai/bge-m3"},"success":true,"errors":[],"messages":[]}'
    )
    fake.says(
        b'{"result":{"responses":[{"id":0,"result":{"shape":[2,2],"data":[[1,2],[3,4.5]]},'
        b'"success":true,"external_reference":"1"}],"usage":{"prompt_tokens":12,'
        b'"completion_tokens":0,"total_tokens":12}},"success":true,"errors":[],"messages":[]}'
    )
    (item,) = await everything(queued(ai, ["a", "b"]))
    assert item.vectors.tolist() == [[1, 2], [3, 4.5]]
    looks = [one.json() for one in fake.requests[1:]]
    assert looks == [{"request_id": "768f15b7-4fd6-4498-906e-ad94ffc7f8d2"}] * 2


async def test_batches_under_way_are_bounded(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """`concurrency` is how many; texts are read only as far as that needs."""
    service = fake.simulates(Service(queue_time=0.02, dimension=1))
    read = 0

    def source() -> Any:
        nonlocal read
        for text in texts(12_000):
            read += 1
            yield text

    polling = Polling(base=0.005, cap=0.005)
    async with queued(ai, source(), concurrency=2, polling=polling) as job:
        batches = aiter(job)
        await anext(batches)
        assert read <= 2 * 3000 + 1  # 2 batches, one more, and as many that may be late.
        rest = [item async for item in batches]
    assert len(rest) == 119
    assert service.counters.most_queued == 2


async def test_a_batch_is_bounded_in_bytes(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """However long the texts, what is handed over stays under 10 MB."""
    service = fake.simulates(Service(dimension=1))
    given = [f"{number}" + "é" * 1_000_000 for number in range(12)]
    right_length = await everything(
        queued(ai, given, batch_size=2, polling=Polling(base=0.01), concurrency=3)
    )
    assert sum(map(len, right_length)) == 12
    assert max(len(one.body) for one in fake.requests) < 10_000_000
    assert service.counters.batches == 3


async def test_texts_too_long_for_any_batch(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """A request is halved until it fits; a text that never fits is a failure, and isn't sent."""
    fake.simulates(Service(dimension=1))
    given = ["a" * 6_000_000, "b" * 6_000_000, "c" * 10_000_000]
    items = await everything(queued(ai, given, on_error="yield"))
    assert [item.start for item in items] == [0, 1, 2]
    assert isinstance(items[2], EmbedFailure)
    assert isinstance(items[2].error, InputError)
    assert "10 MB" in str(items[2].error)


def poison(text: str) -> bool:
    return "poison" in text


async def test_a_poison_text_stands_alone(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """The halves of what failed are asked for at once: few rounds, however many texts."""
    service = fake.simulates(Service(poison=poison))
    given = [f"poison {n}" if n in (5, 40, 199) else text for n, text in enumerate(texts(256))]
    job = queued(ai, given, batch_size=64, on_error="yield", polling=Polling(base=0.01))
    items = await everything(job)
    right([item for item in items if isinstance(item, EmbeddedBatch)], given)
    failures = [item for item in items if isinstance(item, EmbedFailure)]
    assert [one.text for one in failures] == ["poison 5", "poison 40", "poison 199"]
    assert all(isinstance(one.error, BadRequest) for one in failures)
    assert all(service.counters.answered[text] == 1 for text in given if not poison(text))
    assert service.counters.batches <= 1 + 6


async def test_a_poison_text_ends_the_job(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.simulates(Service(poison=poison))
    items: list[Any] = []
    given = [*texts(20), "poison", *texts(11)]
    with pytest.raises(BadRequest):
        await until_it_fails(queued(ai, given, batch_size=8), items)
    right(items, given)


async def test_texts_that_cannot_be_sent(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.simulates(Service())
    given = ["one", "", "two", "\ud800", "three"]
    items = await everything(queued(ai, given, on_error="yield"))
    assert [item.start for item in items if isinstance(item, EmbedFailure)] == [1, 3]
    right([item for item in items if isinstance(item, EmbeddedBatch)], given)


def answers(request: Recorded, **of_items: Any) -> Any:
    """What each request of the batch gets: vectors, or what *of_items* says of its reference."""
    fake_answers = []
    for one in request.json()["requests"]:
        name = one["external_reference"]
        rows = [vector_of(text).tolist() for text in one["text"]]
        told = {"success": True, "result": {"shape": [len(rows), 4], "data": rows}}
        fake_answers.append({"external_reference": name, **of_items.get(f"r{name}", told)})
    return {"responses": fake_answers}


async def test_an_item_that_fails_without_a_reason(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """It is halved, too: of all items only this one failed, so it is about its texts."""
    said: dict[str, Any] = {"success": False, "errors": []}

    def reply(request: Recorded) -> Any:
        bad = [
            one["external_reference"]
            for one in request.json()["requests"]
            if "poison" in one["text"]
        ]
        return answers(request, **{f"r{name}": said for name in bad})

    fake.always.answers_by(reply)
    items = await everything(queued(ai, ["a", "b", "poison", "c"], on_error="yield"))
    assert [item.start for item in items if isinstance(item, EmbedFailure)] == [2]
    right([item for item in items if isinstance(item, EmbeddedBatch)], ["a", "b", "", "c"])


async def test_items_that_may_go_better_go_again(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """An item that is missing or failed with a 500 is handed over again, and no other one."""
    busy = {"success": False, "errors": [{"code": 3040, "message": "busy"}]}
    missing = {"external_reference": "nobody's"}
    fake.answers_by(lambda request: answers(request, r1=busy, r3=missing))
    fake.answers_by(answers)
    given = texts(3)
    right(await everything(queued(ai, given, batch_size=1)), given)
    assert [[one["text"] for one in batch] for batch in submitted(fake)] == [
        [["text 0"], ["text 1"], ["text 2"]],
        [["text 0"], ["text 2"]],
    ]


async def test_an_item_that_keeps_failing(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """After as many repetitions as `Retries` allows, it is a failure; the others have theirs."""
    broken = {"success": False, "errors": [{"code": 7009, "message": "broken"}]}
    fake.always.answers_by(lambda request: answers(request, r1=broken))
    items = await everything(queued(ai, texts(2), batch_size=1, on_error="yield"))
    assert isinstance(items[0], EmbedFailure)
    assert isinstance(items[0].error, ServerError)
    assert isinstance(items[1], EmbeddedBatch)
    assert len(submitted(fake)) == 1 + QUICK.max


async def test_a_refused_batch_is_halved(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """Where the service refuses a batch for one of its requests, the others don't suffer."""

    def reply(request: Recorded) -> Any:
        if any("poison" in one["text"] for one in request.json()["requests"]):
            return refusal
        return answers(request)

    script = FakeWorkersAI()
    script.fails(400, 5006, "Bad input")
    refusal = script.take()
    assert isinstance(refusal, Reply)
    fake.always.answers_by(reply)
    given = [*texts(7), "poison"]
    items = await everything(queued(ai, given, batch_size=1, on_error="yield"))
    right(items[:7], given)
    assert isinstance(items[7], EmbedFailure)


async def test_a_batch_too_large_is_halved(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """A service that takes less than documented refuses, and takes the halves."""
    fake.fails(413, 3006, "Request too large")
    fake.always.answers_by(answers)
    given = texts(4)
    right(await everything(queued(ai, given, batch_size=1)), given)
    assert [len(batch) for batch in submitted(fake)] == [4, 2, 2]


@pytest.mark.parametrize(
    "lost",
    [
        lambda fake: fake.fails(404, 7404, "no such batch"),
        lambda fake: fake.answers({"status": "expired", "request_id": "b"}),
    ],
)
async def test_a_lost_batch_is_handed_over_again(
    fake: FakeWorkersAI, ai: WorkersAI, lost: Any
) -> None:
    """Whether the service knows nothing of it any more, or says that it has expired."""
    fake.answers({"status": "queued", "request_id": "b"})
    lost(fake)
    fake.always.answers_by(answers)
    given = texts(4)
    right(await everything(queued(ai, given)), given)
    assert len(submitted(fake)) == 2


async def test_batches_that_are_always_lost(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """They end as failures: nothing goes round for ever."""
    fake.simulates(Service(lost=1.0, seed=1))
    with pytest.raises((NotFound, ServerError)):
        await everything(queued(ai, texts(3)))
    assert len(submitted(fake)) == 1 + QUICK.max


async def test_a_look_that_fails_is_no_lost_batch(fake: FakeWorkersAI) -> None:
    """The service goes on without being looked at: it is looked at again."""
    ai = fake.client(retries=Retries(max=0))
    fake.answers({"status": "queued", "request_id": "b"})
    fake.fails(500, 7009, "broken").hangs_up().fails(500, 7009, "broken").hangs_up()
    fake.answers_by(lambda _: answers(fake.requests[0]))
    given = texts(4)
    right(await everything(queued(ai, given)), given)
    assert len(submitted(fake)) == 1


async def test_looks_that_always_fail(fake: FakeWorkersAI) -> None:
    """After five in a row, the texts of the batch are failures."""
    ai = fake.client(retries=Retries(max=0))
    fake.answers({"status": "queued", "request_id": "b"})
    fake.always.fails(500, 7009, "broken")
    with pytest.raises(ServerError):
        await everything(queued(ai, texts(4)))
    assert len(fake.requests) == 1 + 5


async def test_refusals_only_mean_to_wait(fake: FakeWorkersAI) -> None:
    """For looks as for batches, however many there are; `stats` counts them all."""
    for _ in range(3):
        fake.fails(429, 10429, "Rate limited")
    fake.answers({"status": "queued", "request_id": "b"})
    for _ in range(4):
        fake.fails(429, 10429, "Rate limited")
    fake.answers_by(lambda _: answers(fake.requests[0]))
    ai = fake.client(retries=Retries(max=1, base=0.002))
    job = queued(ai, texts(4))
    right(await everything(job), texts(4))
    assert (job.stats.requests, job.stats.refusals, job.stats.retries) == (9, 7, 7)
    assert job.stats.texts == 4


async def test_a_used_up_quota_stops_at_once(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """What is finished is kept, and nothing more is handed over."""
    service = fake.simulates(Service(quota=250))
    items: list[Any] = []
    job = queued(ai, texts(5000), batch_size=10, concurrency=1, on_error="skip")
    with pytest.raises(QuotaExceeded) as caught:
        await until_it_fails(job, items)
    right(items, texts(5000))
    assert sum(map(len, items)) == 250 == job.stats.texts
    assert caught.value.resets_at.tzinfo is not None
    assert service.counters.batches <= 2


@pytest.mark.parametrize("concurrency", [4, None])
async def test_what_is_under_way_at_the_end_of_a_quota_is_kept(
    fake: FakeWorkersAI, ai: WorkersAI, concurrency: int | None
) -> None:
    """It is paid for: batches that were handed over are looked at once more, and soon."""
    service = fake.simulates(Service(quota=1500))
    items: list[Any] = []
    polling = Polling(base=0.05, cap=60, factor=1000)
    job = queued(ai, texts(6000), concurrency=concurrency, on_error="skip", polling=polling)
    with pytest.raises(QuotaExceeded):
        await until_it_fails(job, items)
    right(items, texts(6000))
    assert sum(map(len, items)) == job.stats.texts == service.counters.texts > 0


async def test_a_quota_that_refuses_the_batch(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.always.fails(429, 4006, "used up")
    with pytest.raises(QuotaExceeded):
        await everything(queued(ai, texts(3)))
    assert len(fake.requests) == 1


async def test_what_is_not_about_the_texts(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.always.fails(401, 10000, "Authentication error")
    with pytest.raises(AuthenticationError):
        await everything(queued(ai, texts(300), on_error="skip"))
    assert len(fake.requests) == 1


async def test_a_batch_without_a_name(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.always.answers({"status": "queued"})
    with pytest.raises(DecodeError, match="returned no request_id"):
        await everything(queued(ai, ["one"]))


async def test_vectors_of_another_dimension(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    other = {"success": True, "result": {"shape": [1, 1], "data": [[1.0]]}}
    fake.always.answers_by(lambda request: answers(request, r2=other))
    with pytest.raises(DecodeError, match="the vectors have 1 numbers, and earlier ones had 4"):
        await everything(queued(ai, texts(2), batch_size=1))


async def test_leaving_stops_the_looks(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """Nothing is looked at any more, and no task is left."""
    fake.always.answers({"status": "queued", "request_id": "b"})
    before = asyncio.all_tasks()
    job = queued(ai, texts(9), polling=Polling(base=0.001, cap=0.001))
    reader = asyncio.create_task(everything(job))
    await fake.until(lambda: len(fake.requests) >= 3)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert asyncio.all_tasks() <= before | {one.task for one in fake._state.connections}


async def test_equal_texts_and_checkpoints(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Any
) -> None:
    """What a job through the queue has finished, one that asks directly finds."""
    service = fake.simulates(Service(poison=poison))
    given = ["a", "b", "poison", "a"] * 20
    for mode in ("queue", "direct"):
        job = queued(
            ai,
            given,
            batch_size=8,
            dedupe=True,
            checkpoint=tmp_path / "state.db",
            on_error="yield",
            mode=mode,
        )
        items = await everything(job)
        right([item for item in items if isinstance(item, EmbeddedBatch)], given)
        assert sum(isinstance(item, EmbedFailure) for item in items) == 20
        assert (mode == "queue") == (job.stats.requests > 0)
    assert service.counters.answered == {"a": 1, "b": 1}


@pytest.mark.parametrize("wrong", [{"mode": "later"}, {"polling": 3}])
async def test_bounds_of_the_options(ai: WorkersAI, wrong: Any) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        ai.embed_many(M3, ["one"], **wrong)


# Any mix of all that, cut off at any moment...


@st.composite
def cuts(draw: st.DrawFn) -> tuple[list[str], Service, dict[str, Any], int]:
    """Texts, a service, options, and how many turns of the loop the reader has."""
    word = st.integers(0, 30).map(lambda number: f"text {number}") | st.just("poison")
    service = Service(
        faults=draw(st.sampled_from([0.0, 0.2])),
        lost=draw(st.sampled_from([0.0, 0.3])),
        quota=draw(st.none() | st.integers(1, 60)),
        seed=draw(st.integers(0, 99)),
        poison=poison,
    )
    options = {
        "mode": draw(st.sampled_from(["direct", "queue"])),
        "batch_size": draw(st.integers(1, 9)),
        "concurrency": draw(st.sampled_from([1, 2, Adaptive(start=2, max=8)])),
        "on_error": draw(st.sampled_from(["raise", "yield", "skip"])),
        "ordered": draw(st.booleans()),
    }
    return draw(st.lists(word, max_size=60)), service, options, draw(st.integers(0, 400))


@settings(max_examples=100, deadline=None)
@given_by(cuts())
def test_a_job_may_be_cancelled_at_any_moment(
    cut: tuple[list[str], Service, dict[str, Any], int],
) -> None:
    """What came is right and came once, and no task is left."""
    given_texts, service, options, turns = cut

    async def main() -> list[Any]:
        items: list[Any] = []
        async with FakeWorkersAI() as fake:
            fake.simulates(service)
            ai = fake.client(retries=Retries(max=25, base=0.0005, cap=0.001))
            before = asyncio.all_tasks()
            job = queued(ai, given_texts, **options)
            reader = asyncio.create_task(until_it_fails(job, items))
            for _ in range(turns):
                await asyncio.sleep(0)
            reader.cancel()
            (ended,) = await asyncio.gather(reader, return_exceptions=True)
            assert isinstance(ended, asyncio.CancelledError | QuotaExceeded | BadRequest | None)
            for _ in range(5):
                await asyncio.sleep(0)
            assert asyncio.all_tasks() <= before | {one.task for one in fake._state.connections}
        return items

    items = asyncio.run(main())
    places = [
        item.start + at
        for item in items
        for at in range(len(item) if isinstance(item, EmbeddedBatch) else 1)
    ]
    assert len(set(places)) == len(places)
    right([item for item in items if isinstance(item, EmbeddedBatch)], given_texts)
