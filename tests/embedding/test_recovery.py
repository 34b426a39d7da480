"""Recovery from errors: calls are repeated, refused batches are split."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from random import Random, seed
from typing import Any

import pytest
from hypothesis import Phase, given as given_by, settings, strategies as st

from cfai import (
    Adaptive,
    EmbeddedBatch,
    Embeddings,
    EmbedFailure,
    InputError,
    Polling,
    RateLimited,
    Retries,
    WorkersAI,
)
from cfai._session.retries import is_service_fault
from cfai.errors import (
    BadRequest,
    CfaiError,
    ConnectError,
    ConnectionLost,
    DecodeError,
    NotFound,
    RequestTimeout,
    ServerError,
    ServiceTimeout,
    StatusError,
    status_error,
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
from tests.embedding.scripted import BUSY, collect_virtually, replies, scripted, vectors_of


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
    [
        (ConnectError("nobody there"), 3),
        (late("connect"), 3),
        (late("response"), 20),
        (ServerError("broken", status=500), 20),
        (ServerError("unavailable", status=503), 20),
        (ConnectionLost("reset"), 20),
        (DecodeError("not JSON"), 20),
    ],
)
@pytest.mark.parametrize("on_error", ["raise", "yield", "skip"])
@pytest.mark.parametrize("size", [1, 2, 20])
def test_a_service_that_never_answers_ends_the_job_soon(
    failure: Exception, attempts: int, on_error: Any, size: int
) -> None:
    """A failed connection is repeated as often as `Retries` allows, since the address may be wrong;
    other failures 20 times, which takes about a minute; of texts that are sent one by one, after
    the attempts of their batch."""
    given = texts(3 * size)
    script, job = scripted(
        replies(failure), given, on_error=on_error, batch_size=3 * size, concurrency=1
    )
    with pytest.raises(type(failure)):
        collect_virtually(job)
    assert len(script.sent) in {attempts, attempts + 3}
    assert len(script.sent) == attempts or attempts == 20
    assert script.sent[-1] < 120


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


@pytest.mark.parametrize("size", [1, 2, 20])
@pytest.mark.parametrize("on_error", ["raise", "yield", "skip"])
@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize(
    "failure",
    [
        BUSY,
        late("response"),
        late("pool"),
        late("connect"),
        ConnectError("refused"),
        ConnectionLost("reset"),
        ServerError("broken", status=500),
        ServerError("unavailable", status=503),
        DecodeError("not JSON"),
    ],
    ids=lambda error: f"{type(error).__name__} {error}",
)
def test_without_retries_no_call_is_repeated(
    failure: Exception, before: int, on_error: Any, size: int
) -> None:
    """Whether texts were embedded before or not, and however many texts a request has."""
    script, job = scripted(
        replies(*[None] * before, failure),
        texts(3 * size),
        batch_size=size,
        on_error=on_error,
        concurrency=1,
        retries=Retries(max=0),
    )
    with pytest.raises(type(failure)):
        collect_virtually(job)
    assert len(script.sent) == before + 1


def test_on_retry_is_called_for_each_repetition() -> None:
    """With the number of the attempt."""
    heard: list[float] = []
    listening = Retries(max=1, base=1.0, on_retry=lambda retry: heard.append(retry.attempt))
    _, job = scripted(replies(BUSY, BUSY, None), ["one"], retries=listening)
    collect_virtually(job)
    assert heard == [1, 2]
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


@pytest.mark.parametrize("mode", ["direct", "queue"])
@pytest.mark.parametrize("status", [302, 307, 402, 406, 407, 415, 421, 423, 425, 426, 431, 451])
async def test_a_status_that_no_text_causes_ends_the_job(
    fake: FakeWorkersAI, ai: WorkersAI, status: int, mode: Any
) -> None:
    """With one request, although the service gives no code that is known."""
    fake.always.fails(status, 9999, "no")
    job = ai.embed_many(M3, texts(300), concurrency=1, mode=mode, on_error="skip")
    error = await error_of(job, [])
    assert isinstance(error, StatusError)
    assert error.status == status
    assert len(fake.requests) == 1


@pytest.mark.parametrize("status", [400, 403, 424, 500])
async def test_a_text_that_a_guardrail_blocks_fails_alone(
    fake: FakeWorkersAI, ai: WorkersAI, status: int
) -> None:
    """Whatever the status of the answer is."""
    fake.answers({"shape": [1, 4], "data": [[0.0] * 4]})
    fake.always.fails(status, 2016, "blocked")
    job = ai.embed_many(M3, ["good", "bad"], batch_size=1, concurrency=1, on_error="yield")
    items = await collect(job)
    assert [type(item) for item in items] == [EmbeddedBatch, EmbedFailure]
    assert isinstance(items[1].error, BadRequest)


@pytest.mark.parametrize("mode", ["direct", "queue"])
@pytest.mark.parametrize("on_error", ["raise", "yield", "skip"])
async def test_a_service_that_always_gives_one_vector_is_not_trusted(
    fake: FakeWorkersAI, ai: WorkersAI, mode: Any, on_error: Any
) -> None:
    """Not even for a single text."""
    one: Any = {"shape": [1, 2], "data": [[1.0, 2.0]]}

    def reply(request: Any) -> Any:
        names = [task["external_reference"] for task in request.json().get("requests", [])]
        items = [{"external_reference": name, "success": True, "result": one} for name in names]
        return {"responses": items} if names else one

    fake.always.answers_by(reply)
    polling = Polling(base=0)
    job = ai.embed_many(
        M3, texts(300), on_error=on_error, mode=mode, polling=polling, rate=None, concurrency=1
    )
    items: list[Any] = []
    assert isinstance(await error_of(job, items), DecodeError)
    assert not batches_of(items)


async def test_vectors_of_another_dimension_are_an_error(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    fake.answers({"shape": [1, 2], "data": [[1.0, 2.0]]})
    fake.always.answers({"shape": [1, 3], "data": [[1.0, 2.0, 3.0]]})
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
    assert error.__notes__ == ["none of the first 20 texts was embedded, each alone"]
    assert service.counters.requests <= (20 + 10 if mode == "direct" else 100)


async def test_many_refused_texts_do_not_end_a_job_with_a_good_one(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    """Once a text was accepted, the refused ones are at fault."""
    fake.simulates(Service(poison=lambda text: text != "text 3"))
    job = ai.embed_many(M3, texts(100), on_error="skip", concurrency=1, rate=None)
    assert places_of(await collect(job)) == [3]
    assert job.stats.failed == 99


# Texts that spoil their batch...

POISON = {"refused": BadRequest, "broken": ServerError, "null": DecodeError}
"""How a text spoils its request, and the error that it ends with."""


def spoil(text: str) -> Any:
    """The kind of poison that a text names."""
    word = text.partition(" ")[0]
    return word if word in POISON else False


@pytest.mark.parametrize("kind", POISON)
@pytest.mark.parametrize("on_error", ["yield", "skip"])
@pytest.mark.parametrize(
    ("count", "bad"), [(300, [150]), (100, [0]), (100, [99]), (7, [2, 3, 6]), (2, [1]), (64, [5])]
)
async def test_a_text_that_spoils_its_batch_stands_alone(
    fake: FakeWorkersAI, ai: WorkersAI, kind: str, on_error: Any, count: int, bad: list[int]
) -> None:
    """Whatever it makes the service do, and also if the job has only one batch."""
    fake.simulates(Service(poison=spoil))
    given = [f"{kind} {n}" if n in bad else text for n, text in enumerate(texts(count))]
    job = ai.embed_many(M3, given, on_error=on_error, rate=None)
    items = await collect(job)
    check_vectors(batches_of(items), given)
    assert (job.stats.texts, job.stats.failed) == (count - len(bad), len(bad))
    failures = [item for item in items if isinstance(item, EmbedFailure)]
    if on_error == "yield":
        assert [(item.start, type(item.error)) for item in failures] == [
            (place, POISON[kind]) for place in bad
        ]


@pytest.mark.parametrize("kind", POISON)
async def test_a_text_that_spoils_its_batch_ends_the_job_by_default(
    fake: FakeWorkersAI, ai: WorkersAI, kind: str
) -> None:
    """The error names the text."""
    fake.simulates(Service(poison=spoil))
    given = [f"{kind} {n}" if n == 50 else text for n, text in enumerate(texts(200))]
    error = await error_of(ai.embed_many(M3, given, rate=None), [])
    assert error is not None
    assert type(error) is POISON[kind]
    assert error.__notes__ == ["it is text number 50 (from 0)"]


@pytest.mark.parametrize("kind", POISON)
async def test_a_text_that_spoils_its_batch_costs_few_requests(
    fake: FakeWorkersAI, ai: WorkersAI, kind: str
) -> None:
    """At most two thirds more than the halves down to it, and those only of this batch."""
    service = fake.simulates(Service(poison=spoil, latency=0.002))
    given = [f"{kind} {n}" if n == 1042 else text for n, text in enumerate(texts(2000))]
    await collect(ai.embed_many(M3, given, on_error="skip", rate=None))
    assert 20 + 14 <= service.counters.requests <= 20 + 23


async def test_an_answer_that_is_too_large_is_requested_in_halves(fake: FakeWorkersAI) -> None:
    service = fake.simulates(Service(dimension=100))
    ai = fake.client(max_answer_bytes=30_000)
    items = await collect(ai.embed_many(M3, texts(100), on_error="skip", rate=None))
    assert places_of(items) == list(range(100))
    assert service.counters.requests < 20


# Outages...


def outage(
    failure: Exception, begin: float, end: float
) -> Callable[[Sequence[str]], Awaitable[Embeddings]]:
    """A service that answers after a tenth of a second, and fails between two moments."""

    async def reply(given: Sequence[str]) -> Embeddings:
        await asyncio.sleep(0.1)
        if begin <= asyncio.get_running_loop().time() < end:
            raise failure
        return vectors_of(given)

    return reply


FAULTS = [
    ServerError("unavailable", status=503),
    ServerError("broken", status=500, code=8005),
    ServerError("bad gateway", status=502),
    ServiceTimeout("timed out", status=408, code=3007),
    ConnectionLost("reset"),
    ConnectError("refused"),
    late("connect"),
    late("response"),
    late("total"),
    DecodeError("a page of HTML"),
    BUSY,
]


@pytest.mark.parametrize("failure", FAULTS, ids=lambda error: f"{type(error).__name__} {error}")
@pytest.mark.parametrize(
    ("on_error", "concurrency"), [("raise", Adaptive()), ("yield", 1), ("skip", 64)]
)
def test_an_outage_of_minutes_loses_no_text(
    failure: CfaiError, on_error: Any, concurrency: Any
) -> None:
    """And costs few requests: those in flight at its begin, and then one at a time."""
    given = texts(4000)
    script, job = scripted(
        outage(failure, 0.55, 240),
        given,
        batch_size=10,
        on_error=on_error,
        concurrency=concurrency,
        retries=Retries(),
    )
    items = collect_virtually(job)
    check_vectors(items, given)
    assert [len(item) for item in items] == [10] * 400  # None was split.
    assert script.sent[-1] > 240
    if is_service_fault(failure):
        assert len(script.sent) < 400 + 64 + 130


@pytest.mark.parametrize("on_error", ["yield", "skip"])
def test_only_statuses_about_the_input_drop_texts(on_error: Any) -> None:
    """Of all error statuses, sent for three seconds. With others, the job waits, or ends with them:
    a login page (302), a proxy (407) or an unknown status says nothing about a text."""
    given = texts(80)
    fates: dict[str, set[int]] = {"dropped": set(), "waited": set(), "ended": set()}
    for status in range(300, 600):
        failure = status_error(status, None, "no")
        _, job = scripted(
            outage(failure, 0.15, 3), given, batch_size=4, on_error=on_error, concurrency=2
        )
        items: list[Any] = []
        error = virtual_time.run(error_of(job, items))
        assert error in (None, failure)
        check_vectors(batches_of(items), given)
        embedded = len(places_of(batches_of(items)))
        assert job.stats.failed == (0 if error else len(given) - embedded)
        fate = "ended" if error else "waited" if embedded == len(given) else "dropped"
        fates[fate].add(status)
    assert fates["dropped"] == {400, 413, 422}
    assert fates["waited"] == {408, 409, 429, *range(500, 600)} - {501}


@pytest.mark.parametrize("failure", FAULTS, ids=lambda error: f"{type(error).__name__} {error}")
def test_a_job_ends_after_five_minutes_without_an_answer(failure: Exception) -> None:
    """Whatever `on_error` says, and with the vectors from before."""
    script, job = scripted(outage(failure, 0.55, 1e9), texts(4000), batch_size=10, on_error="skip")
    items: list[Any] = []
    with pytest.raises(type(failure)) as caught:
        virtual_time.run(collect_into(job, items))
    assert 300 <= script.sent[-1] < 330
    assert len(places_of(items)) >= 80
    assert caught.value.__notes__[0] == "the service has answered no request for 5 minutes"


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("size", [1, 100])
def test_a_service_that_fails_many_requests_at_random_loses_hardly_a_text(
    share: float, size: int
) -> None:
    """None is taken for bad, unless half of all requests fail; and batches are rarely split."""
    seed(7)  # The delays are random, too.
    random = Random(7)

    async def reply(given: Sequence[str]) -> Embeddings:
        await asyncio.sleep(0.05 + random.random() / 10)
        if random.random() < share:
            raise ServerError("broken", status=500)
        return vectors_of(given)

    given = texts(400 * size)
    script, job = scripted(reply, given, batch_size=size, on_error="skip", retries=Retries())
    check_vectors(items := collect_virtually(job), given)
    lost = len(given) - len(places_of(items))
    assert lost <= (len(given) / 10_000 if share == 0.5 else 0)
    assert len(script.sent) < 1.5 * 400 / (1 - share)


async def test_retries_of_a_job_are_logged(
    fake: FakeWorkersAI, ai: WorkersAI, caplog: pytest.LogCaptureFixture
) -> None:
    """With the reason, and nothing of the texts."""
    caplog.set_level("INFO", logger="cfai")
    fake.fails(503, 0, "secret words")
    fake.fails(429, 3040, "secret words")
    fake.simulates(Service())
    await collect(ai.embed_many(M3, ["secret text"]))
    lines = [re.sub(r"\d\.\d+", "N", record.getMessage()) for record in caplog.records]
    assert lines == [
        "embedding: ServerError (503, code 0); again in N s at most",
        "embedding: CapacityExceeded (429, code 3040); again in N s at most",
    ]


# Mixes of everything...


def fewest_requests(given: Sequence[Any], size: int) -> int:
    """The requests of a job that knows which batches have a bad text, and halves only these."""

    def count(part: Sequence[Any]) -> int:
        bad = any(spoil(text) for text in part)
        half = len(part) // 2
        return 1 + (count(part[:half]) + count(part[half:]) if bad and len(part) > 1 else 0)

    present = [text for text in given if text]
    return sum(count(present[at : at + size]) for at in range(0, len(present), size))


def check_mix(items: list[Any], given: Sequence[Any]) -> None:
    """Every good text has its vector, and every bad one its failure."""
    check_vectors(batches_of(items), [text or "" for text in given])
    failures = {item.start: item for item in items if isinstance(item, EmbedFailure)}
    good = [place for place, text in enumerate(given) if text and not spoil(text)]
    assert sorted(places_of(batches_of(items))) == good
    assert sorted(failures) == sorted({*range(len(given))} - {*good})
    for place, failure in failures.items():
        assert failure.text == given[place]
        # A text that is tried several times may meet another fault the last time.
        other = (ServerError, ConnectionLost) if spoil(given[place] or "") != "refused" else ()
        expected = POISON[spoil(given[place])] if given[place] else InputError
        assert isinstance(failure.error, (expected, *other))


@st.composite
def storms(draw: st.DrawFn) -> tuple[list[str | None], Service, dict[str, Any]]:
    """Texts with poison, and a service with outages."""
    kinds = st.sampled_from(["refused", "broken", "null", None])
    bad = draw(st.dictionaries(st.integers(0, 199), kinds, max_size=6))
    count = draw(st.integers(30, 200))
    given = [
        text if n not in bad else bad[n] and f"{bad[n]} {n}" for n, text in enumerate(texts(count))
    ]
    begins = draw(st.lists(st.integers(0, 30), max_size=3))
    service = Service(
        poison=spoil,
        outages=[(begin / 100, begin / 100 + draw(st.integers(1, 8)) / 100) for begin in begins],
        slots=draw(st.none() | st.integers(2, 4)),
        latency=draw(st.sampled_from([0.0, 0.004])),
        faults=draw(st.sampled_from([0.0, 0.1])),
        seed=draw(st.integers(0, 99)),
    )
    options = {
        "batch_size": draw(st.sampled_from([1, 7, 20, 100])),
        "concurrency": draw(st.sampled_from([1, 4, 64, Adaptive()])),
        "dedupe": draw(st.booleans()),
        "ordered": draw(st.booleans()),
    }
    return given, service, options


@settings(max_examples=60, deadline=None, phases=(Phase.explicit, Phase.generate))
@given_by(storms())
def test_outages_and_bad_texts_are_told_apart(
    mix: tuple[list[str | None], Service, dict[str, Any]],
) -> None:
    given, service, options = mix

    async def main() -> None:
        async with FakeWorkersAI() as fake:
            fake.simulates(service)
            ai = fake.client(retries=Retries(max=2, base=0.005, cap=0.02))
            job = ai.embed_many(M3, given, on_error="yield", rate=None, **options)
            check_mix(await collect(job), given)

    asyncio.run(main())


@pytest.mark.parametrize("faults", [0.02, 0.1])
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_stormy_day_costs_few_requests(
    fake: FakeWorkersAI, seed: int, faults: float
) -> None:
    """20,000 texts with poison and nulls, through outages, resets and a busy service: at most 1.3
    times the fewest requests, without the 429s: how many there are depends on the speed of this
    machine."""
    random = Random(seed)
    given: list[str | None] = [*texts(20_000)]
    for n in random.sample(range(20_000), 20):
        given[n] = f"{random.choice([*POISON])} {n}"
    for n in random.sample(range(20_000), 200):
        given[n] = None
    service = fake.simulates(
        Service(
            poison=spoil,
            outages=[(0.2, 0.5), (0.9, 1.3), (2.0, 2.2)],
            faults=faults,
            slots=4,
            latency=0.02,
            seed=seed,
        )
    )
    ai = fake.client(retries=Retries(max=2, base=0.02, cap=0.2))
    job = ai.embed_many(M3, given, on_error="yield", rate=None, concurrency=Adaptive(max=8))
    check_mix(await collect(job), given)
    counters, fewest = service.counters, fewest_requests(given, 100)
    print(f"{counters.requests / fewest:.2f} times the fewest requests")
    assert counters.requests - counters.refusals <= 1.3 * fewest, (counters, fewest)
    assert counters.faults > 10
    assert counters.refusals > 0


@pytest.mark.parametrize("kind", ["broken", "null"])
async def test_the_last_text_of_a_batch_is_given_up_at_once(fake: FakeWorkersAI, kind: str) -> None:
    """The failures of all requests that it was in count, once the other texts are embedded."""
    given = [text if n != 37 else f"{kind} 37" for n, text in enumerate(texts(3200))]
    service = fake.simulates(Service(poison=spoil))
    ai = fake.client(retries=Retries(max=2, base=0, cap=0))
    job = ai.embed_many(M3, given, on_error="yield", rate=None, concurrency=8)
    check_mix(await collect(job), given)
    assert service.counters.requests <= fewest_requests(given, 100) + 4


async def test_a_refusal_shows_that_the_service_answers(fake: FakeWorkersAI) -> None:
    """A text that breaks the service is soon given up, also if the other texts are refused."""
    given = ["good", *(f"refused {n}" for n in range(1, 100))]
    given[10] = "broken 10"
    service = fake.simulates(Service(poison=spoil))
    ai = fake.client(retries=Retries(max=2, base=0, cap=0))
    job = ai.embed_many(M3, given, batch_size=1, on_error="yield", rate=None, concurrency=8)
    check_mix(await collect(job), given)
    assert service.counters.requests <= 100 + 10


@pytest.mark.parametrize("kind", ["refused", "broken", "null"])
@pytest.mark.parametrize("failure", [ServerError("broken", status=500), ConnectionLost("reset")])
def test_a_half_is_not_split_if_the_other_one_has_the_bad_text(
    kind: str, failure: CfaiError
) -> None:
    """If it fails once, it is sent again as it is."""
    given = [text if n != 207 else f"{kind} 207" for n, text in enumerate(texts(400))]
    half = given[250:300]
    sent: list[Sequence[str]] = []

    async def reply(given: Sequence[str]) -> Embeddings:
        await asyncio.sleep(0.1)
        sent.append(given)
        if any(spoil(text) for text in given):
            raise POISON[kind]("bad", status=0) if kind != "null" else DecodeError("null")
        if given == half and sent.count(half) == 1:
            raise failure
        return vectors_of(given)

    _, job = scripted(reply, given, batch_size=100, on_error="yield", retries=Retries())
    check_vectors(batches_of(collect_virtually(job)), given)
    assert [part for part in sent if part[-1] == half[-1] and len(part) <= 50] == [half, half]
