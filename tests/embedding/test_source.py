"""Reading of the texts, and cutting into batches."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from cfai import (
    EmbeddedBatch,
    InputError,
    WorkersAI,
)
from cfai.testing import FakeWorkersAI, Service
from tests.embedding.samples import (
    M3,
    check_vectors,
    collect,
    collect_into,
    error_of,
    places_of,
    texts,
)


async def build_source(kind: str, count: int) -> Any:
    pairs = [(f"id-{number}", text) for number, text in enumerate(texts(count))]

    def generated() -> Iterator[tuple[str, str]]:
        yield from pairs

    async def arriving() -> AsyncIterator[tuple[str, str]]:
        for pair in pairs:
            await asyncio.sleep(0)
            yield pair

    return {"list": pairs, "generator": generated(), "async": arriving()}[kind]


@pytest.mark.parametrize("kind", ["list", "generator", "async"])
async def test_ids_come_back_with_the_vectors(
    fake: FakeWorkersAI, ai: WorkersAI, kind: str
) -> None:
    """Any iterable is accepted, and the ids come back with the vectors."""
    fake.simulates(Service())
    items = await collect(ai.embed_many(M3, await build_source(kind, 30), batch_size=7))
    check_vectors(items, texts(30))
    found = [key for item in items if isinstance(item, EmbeddedBatch) for key in item.ids]
    assert found == [f"id-{number}" for number in range(30)]


async def test_the_characters_of_a_batch_are_limited(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """A text above the limit is sent alone."""
    fake.simulates(Service())
    given = ["aaaa", "bbbb", "c" * 20, "dd"]
    items = await collect(ai.embed_many(M3, given, rate=None, max_batch_chars=9))
    check_vectors(items, given)
    assert sorted(len(one.json()["text"]) for one in fake.requests) == [1, 1, 2]


async def test_the_batch_size_depends_on_the_model(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.simulates(Service())
    await collect(ai.embed_many("@cf/qwen/qwen3-embedding-0.6b", texts(64), rate=None))
    assert [len(one.json()["text"]) for one in fake.requests] == [32, 32]


async def test_the_source_is_read_as_needed(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """An endless source yields batches, and little is read ahead."""
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
async def test_an_invalid_entry_ends_the_job(
    fake: FakeWorkersAI, ai: WorkersAI, wrong: Any
) -> None:
    """After the texts before it."""
    fake.simulates(Service())
    job = ai.embed_many(M3, ["one", wrong], batch_size=1)
    with pytest.raises(InputError, match="number 1"):
        await collect(job)
    assert job.stats.texts == 1


@pytest.mark.parametrize("wrong", ["one text", b"bytes", 3, None])
async def test_a_single_text_is_not_a_source(ai: WorkersAI, wrong: Any) -> None:
    with pytest.raises(InputError, match="texts must be"):
        ai.embed_many(M3, wrong)


async def test_an_exception_of_the_source_is_raised(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """After the texts before it are embedded and yielded."""
    fake.simulates(Service())

    def source() -> Iterator[str]:
        yield from texts(20)
        raise OSError("the disk is gone")

    items: list[Any] = []
    with pytest.raises(OSError, match="the disk is gone"):
        await collect_into(ai.embed_many(M3, source(), batch_size=15), items)
    check_vectors(items, texts(20))
    assert sum(map(len, items)) == 20


async def test_an_empty_source_sends_nothing(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    assert await collect(ai.embed_many(M3, [])) == []
    assert not fake.requests


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
async def test_a_source_that_stops_early_is_an_error(
    fake: FakeWorkersAI, ai: WorkersAI, source: Any, error: type[BaseException]
) -> None:
    """Whatever it raises; the texts before it are embedded."""
    fake.simulates(Service())
    items: list[Any] = []
    caught = await error_of(ai.embed_many(M3, source(), batch_size=10), items)
    assert isinstance(caught, error)
    assert places_of(items) == list(range(25))


async def test_a_full_batch_is_sent_at_once(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """Even if the source yields nothing more for a while."""
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


async def test_a_batch_with_the_most_characters_is_sent_at_once(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    fake.simulates(Service())

    async def live() -> AsyncIterator[str]:
        yield "ten letter"
        await asyncio.Event().wait()

    async with ai.embed_many(M3, live(), max_batch_chars=10) as job:
        assert len(await anext(aiter(job))) == 1


async def test_generators_are_closed(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """A source that is left early cleans up at once, sync or async."""
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
    """The job still stops, with the next text of the source."""
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
async def test_mappings_and_buffers_are_not_sources(ai: WorkersAI, wrong: Any) -> None:
    """Iterating a mapping would read its keys."""
    with pytest.raises(InputError, match="texts must be an iterable of texts"):
        ai.embed_many(M3, wrong)


async def test_pairs_must_be_tuples(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """A list of two texts is not an id and a text."""
    fake.simulates(Service())
    wrong: Any = [["one", "two"]]
    with pytest.raises(InputError, match="number 0 is a list"):
        await collect(ai.embed_many(M3, wrong))
