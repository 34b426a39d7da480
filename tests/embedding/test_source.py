"""Reading of the texts, and cutting into batches."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from random import Random
from string import ascii_letters, digits
from typing import Any

import pytest

from cfai import (
    EmbeddedBatch,
    EmbedFailure,
    InputError,
    WorkersAI,
)
from cfai.embedding.source import TokenLimits
from cfai.embedding.splitting import TokenEstimate
from cfai.errors import status_error
from cfai.testing import FakeWorkersAI, Recorded, Reply, Service
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


# Code 3030, captured live by several public projects.
TOO_LONG = "AiError: AiError: Sequence too long: {} > 8192 (f660721d)"
TOO_MANY = (
    "AiError: AiError: Max context reached {} tokens but model supports only 60000 (f660721d)"
)


class LimitedModel:
    """A service like bge-m3, for texts with a known number of tokens per character."""

    def __init__(self, per_character: float, truncates: bool = False) -> None:
        self.per_character = per_character
        self.truncates = truncates
        self.refused = 0

    def __call__(self, request: Recorded) -> Reply:
        given = request.json()["text"]
        tokens = [int(len(text) * self.per_character) for text in given]
        if self.truncates:
            tokens = [min(count, 8192) for count in tokens]
        script = FakeWorkersAI()
        if max(tokens) > 8192:
            self.refused += 1
            script.fails(400, 3030, TOO_LONG.format(max(tokens)))
        elif sum(tokens) > 60_000:
            self.refused += 1
            script.fails(400, 3030, TOO_MANY.format(sum(tokens)))
        else:
            script.answers({"shape": [len(given), 2], "data": [[1.0, 2.0]] * len(given)})
        reply = script.take()
        assert isinstance(reply, Reply)
        return reply


@pytest.mark.parametrize(
    ("letter", "length", "per_character"),
    [("x", 12_000, 0.25), ("x", 3_000, 0.25), ("x", 100, 0.25), ("文", 8_000, 0.75)],
)
async def test_the_tokens_of_a_request_are_limited(
    fake: FakeWorkersAI, ai: WorkersAI, letter: str, length: int, per_character: float
) -> None:
    """No request with texts of usual density is refused for its number of tokens."""
    service = LimitedModel(per_character)
    fake.always.answers_by(service)
    given = [letter * length] * 300
    items = await collect(ai.embed_many(M3, given, rate=None))
    assert sum(len(item.ids) for item in items if isinstance(item, EmbeddedBatch)) == 300
    assert service.refused == 0
    most = max(len(one.json()["text"]) for one in fake.requests)
    assert most == min(100, int(180_000 / len((letter * length).encode())))


async def test_the_density_of_the_texts_is_learned_from_refusals(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    """Digits are a token each: the service says how many there were."""
    service = LimitedModel(1.0)
    fake.always.answers_by(service)
    items = await collect(ai.embed_many(M3, ["1" * 2_000] * 2_000, rate=None, concurrency=1))
    assert sum(len(item.ids) for item in items if isinstance(item, EmbeddedBatch)) == 2_000
    # Those that were read before the first refusal came back, and their halves.
    assert service.refused < 50
    assert len(fake.requests[-1].json()["text"]) <= 30


async def test_a_text_that_may_be_too_long_is_sent_alone(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    """Its neighbours are not refused with it."""
    service = LimitedModel(0.25)
    fake.always.answers_by(service)
    given = ["a", "b", "x" * 40_000, "c", "y" * 30_000, "d"]
    items = await collect(ai.embed_many(M3, given, rate=None, on_error="yield"))
    failed = [item.start for item in items if isinstance(item, EmbedFailure)]
    assert (failed, service.refused) == ([2], 1)
    assert len(fake.requests) == 5


async def test_texts_that_the_model_cuts_share_requests(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    service = LimitedModel(0.25, truncates=True)
    fake.always.answers_by(service)
    items = await collect(ai.embed_many(M3, ["x" * 100_000] * 14, rate=None, truncate=True))
    assert sum(len(item.ids) for item in items if isinstance(item, EmbeddedBatch)) == 14
    assert service.refused == 0
    assert [len(one.json()["text"]) for one in fake.requests] == [7, 7]


async def test_models_without_a_limit_per_request_get_full_batches(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    fake.simulates(Service())
    await collect(ai.embed_many("@cf/baai/bge-base-en-v1.5", ["x" * 5_000] * 100, rate=None))
    assert [len(one.json()["text"]) for one in fake.requests] == [100]


def test_an_estimate_is_corrected_only_by_a_refusal_that_counts() -> None:
    limits = TokenLimits(8192, 60_000)
    for message in ("Bad input", TOO_LONG.format(9003), TOO_MANY.format(50_000)):
        limits.learn(status_error(400, 3030, message), ["x" * 60_000])
        assert limits.bytes_per_token == 3.0
    limits.learn(status_error(400, 3030, TOO_MANY.format(85_920)), ["x" * 85_920])
    assert limits.bytes_per_token == 1.0
    limits.learn(status_error(400, 3030, TOO_MANY.format(85_920)), ["x" * 200_000])
    assert limits.bytes_per_token == 1.0
    limits.learn(status_error(400, 3030, TOO_MANY.format("9" * 40)), ["x"])
    assert limits.bytes_per_token >= 0.5
    assert limits.estimate("\ud800" * 10) > 0


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
    with pytest.raises(InputError, match=r"a text must be a str, got list: \['one', 'two'\]"):
        await collect(ai.embed_many(M3, wrong))


# Texts that are longer than the model reads

BASE = "@cf/baai/bge-base-en-v1.5"
LONG = "the text " * 256
"""512 tokens of words, and two more."""


@pytest.mark.parametrize(
    ("model", "options", "truncated"),
    [
        (BASE, {}, 2),
        (BASE, {"dedupe": True}, 2),
        (M3, {}, 0),
        (M3, {"truncate": True}, 0),
        ("@cf/another/model", {}, 0),
    ],
)
async def test_texts_that_the_model_cuts_are_counted(
    fake: FakeWorkersAI,
    ai: WorkersAI,
    caplog: pytest.LogCaptureFixture,
    model: str,
    options: dict[str, Any],
    truncated: int,
) -> None:
    """With one warning, and all get their vectors."""
    fake.simulates(Service())
    given = ["one", LONG[: 9 * 250], LONG, "\u6f22" * 510, "\u6f22" * 511]
    job = ai.embed_many(model, given, batch_size=1, **options)
    assert sum(map(len, [batch async for batch in job])) == 5
    assert job.stats.truncated == truncated
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == min(truncated, 1)
    if warnings:
        assert "reads the first 512 tokens of a text" in warnings[0]
        assert "estimate" in warnings[0]


async def test_a_model_that_is_told_to_cut_texts_cuts_them(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    """bge-m3 reads 8,192 tokens; without `truncate` it refuses longer texts, which is no secret."""
    fake.simulates(Service())
    given = ["x" * 33_000, "one"]
    for truncate, truncated in ((True, 1), (False, 0), (None, 0)):
        job = ai.embed_many(M3, given, truncate=truncate)
        assert sum(map(len, [batch async for batch in job])) == 2
        assert job.stats.truncated == truncated


@pytest.mark.parametrize(
    "text",
    [
        "".join(Random(1).choices("0123456789abcdef", k=1920)),
        "".join(Random(2).choices("0123456789", k=1500)),
        "".join(Random(3).choices(ascii_letters + digits + "+/", k=1500)),
        "\u6f22" * 600,
        "\ud55c" * 300,
        "?!" * 300,
    ],
    ids=["hexadecimal", "digits", "base64", "Chinese", "Korean", "signs"],
)
async def test_texts_of_many_tokens_are_long(fake: FakeWorkersAI, ai: WorkersAI, text: str) -> None:
    """Though they have few bytes: the estimate is that of `long="split"`."""
    fake.simulates(Service())
    tokens = TokenEstimate(multilingual=False).count(text)
    job = ai.embed_many(BASE, ["one", text])
    await job.numpy()
    assert job.stats.truncated == 1
    job = ai.embed_many(BASE, ["one", text], long="fail", on_error="skip")
    await job.numpy()
    (failure,) = job.failures
    said = int(str(failure.error).split()[4])
    assert said == pytest.approx(tokens, rel=0.05)
    job = ai.embed_many(BASE, ["one", text], long="split")
    await job.numpy()
    assert job.stats.pieces > 2


@pytest.mark.parametrize("model", [BASE, M3])
async def test_long_texts_can_be_errors(fake: FakeWorkersAI, ai: WorkersAI, model: str) -> None:
    """They are not sent. The error has the estimate, and what the model reads."""
    service = fake.simulates(Service())
    window = 512 if model == BASE else 8192
    # Each character is a token, and two are added.
    given = ["one", "\u6f22" * (window - 2), "\u6f22" * (window - 1), None, "two"]
    job = ai.embed_many(model, given, long="fail", on_error="yield", rate=None)
    items = [item async for item in job]
    failures = [item for item in items if isinstance(item, EmbedFailure)]
    assert [failure.start for failure in failures] == [2, 3]
    assert str(failures[0].error) == (
        f"the text has about {window + 1} tokens, and the model reads {window}: split it, or let"
        " the model cut it"
    )
    assert str(failures[1].error) == "the text is missing"
    assert job.stats.truncated == 0
    assert set(service.counters.answered) == {"one", "two", given[1]}
    with pytest.raises(InputError, match="tokens") as caught:
        await ai.embed_many(model, given, long="fail").numpy()
    assert caught.value.__notes__ == ["it is text number 2 (from 0)"]
    with pytest.raises(InputError, match="long must be"):
        ai.embed_many(model, given, long="cut")  # type: ignore[call-overload]


async def test_one_request_may_ask_to_cut_texts(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.simulates(Service())
    await ai.embed(M3, ["one"], truncate=True)
    assert fake.requests[0].json() == {"text": ["one"], "truncate_inputs": True}


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (b"one", "bytes: b'one'; decode it first"),
        (bytearray(b"one"), "bytearray: bytearray(b'one'); decode it first"),
        (("id", b"one"), "bytes: b'one'; decode it first"),
        (("id", 7), "int: 7"),
        (("id", "one", "two"), "tuple: ('id', 'one', 'two')"),
        (7, "int: 7"),
    ],
)
async def test_an_entry_that_is_no_text_is_named(
    fake: FakeWorkersAI, ai: WorkersAI, entry: Any, problem: str
) -> None:
    """The text before it is embedded."""
    fake.simulates(Service())
    items: list[Any] = []
    error = await error_of(ai.embed_many(M3, ["zero", entry]), items)
    assert isinstance(error, InputError)
    assert str(error) == f"a text must be a str, got {problem}"
    assert error.__notes__[0].startswith("it is text number 1 (from 0)")
    assert places_of(items) == [0]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("x" * 300, 100.0), ("é" * 300, 200.0), ("中" * 300, 300.0), ("🎉" * 300, 400.0), ("", 0.0)],
)
def test_a_token_is_three_bytes_until_the_model_says_otherwise(text: str, tokens: float) -> None:
    limits = TokenLimits(500, 60_000)
    assert limits.estimate(text) == tokens
    limits.learn(status_error(400, 3030, TOO_MANY.format(999_999_999)), ["x"])
    assert limits.estimate(text) == pytest.approx(6 * tokens if 6 * tokens <= 500 else math.inf)


@pytest.mark.parametrize(("size", "tokens"), [(1499, 1499 / 3), (1500, 500.0), (1501, math.inf)])
def test_a_text_above_the_limit_is_alone_unless_it_is_cut(size: int, tokens: float) -> None:
    assert TokenLimits(500, 60_000).estimate("x" * size) == tokens
    cut = TokenLimits(500, 60_000, truncates=True).estimate("x" * size)
    assert cut == min(tokens, 500)


@pytest.mark.parametrize(("tokens", "learned"), [(60_000, 3.0), (60_001, 1.0)])
def test_a_count_within_the_limit_teaches_nothing(tokens: int, learned: float) -> None:
    limits = TokenLimits(8192, 60_000)
    limits.learn(status_error(400, 3030, TOO_MANY.format(tokens)), ["x" * tokens])
    assert limits.bytes_per_token == learned
