"""Jobs through the service's queue: submitted in batches, matched by reference."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given as given_by, settings, strategies as st

from cfai import (
    Adaptive,
    EmbeddedBatch,
    EmbeddingJob,
    Embeddings,
    EmbedFailure,
    InputError,
    Polling,
    QuotaExceeded,
    RateLimited,
    Retries,
    WorkersAI,
)
from cfai._session.throttle import Throttles
from cfai._wire.answers import AnswerSpec
from cfai.embedding import Plan
from cfai.errors import (
    AuthenticationError,
    BadRequest,
    CfaiError,
    Conflict,
    ConnectionLost,
    DecodeError,
    NotFound,
    PermissionDenied,
    ServerError,
)
from cfai.resources.queue import BatchStatus, QueuedItem, QueuedTask
from cfai.testing import FakeWorkersAI, Recorded, Reply, Service, vector_of
from tests import virtual_time
from tests.embedding.samples import (
    M3,
    batches_of,
    check_vectors,
    collect,
    collect_into,
    failures_of,
    is_poison,
    texts,
)
from tests.embedding.scripted import ScriptedService, collect_virtually, replies, vectors_of

QUICK = Retries(max=3, base=0.002, cap=0.01)


AT_ONCE = Polling(base=0)


@pytest.fixture
def ai(fake: FakeWorkersAI) -> WorkersAI:
    return fake.client(retries=QUICK)


def queued(ai: WorkersAI, given: Any, **options: Any) -> Any:
    chosen: dict[str, Any] = {"mode": "queue", "polling": AT_ONCE, "rate": None, **options}
    return ai.embed_many(M3, given, **chosen)


def submitted(fake: FakeWorkersAI) -> list[list[Any]]:
    """The requests of each submitted batch."""
    bodies = [one.json() for one in fake.requests]
    return [body["requests"] for body in bodies if "requests" in body]


async def test_requests_are_submitted_in_batches(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """Of up to 1,000 texts, in order; each request has its own reference."""
    service = fake.simulates(Service())
    given = texts(2500)
    items = await collect(queued(ai, given, polling=Polling(base=0.01)))
    check_vectors(items, given)
    assert [item.start for item in items] == list(range(0, 2500, 100))
    batches = submitted(fake)
    assert [len(batch) for batch in batches] == [10, 10, 5]
    references = [one["external_reference"] for batch in batches for one in batch]
    assert len(set(references)) == 25
    assert all(one.target.endswith(f"{M3}?queueRequest=true") for one in fake.requests)
    assert service.counters.batches == 3


@pytest.mark.parametrize(
    ("count", "size", "length"), [(1000, 100, 0), (100, 1, 0), (20, 1, 500_000)]
)
async def test_a_full_batch_is_submitted_at_once(
    fake: FakeWorkersAI, ai: WorkersAI, count: int, size: int, length: int
) -> None:
    """If it has 1,000 texts, 100 requests or almost 10 MB. Others wait for more requests."""
    fake.always.answers({"status": "queued", "request_id": "b"})
    given = [f"{number} {'x' * length}" for number in range(count)]
    polling = Polling(base=3600, cap=3600)
    async with queued(ai, given, batch_size=size, polling=polling) as job:
        reader = asyncio.create_task(collect(job))
        await fake.until(lambda: len(fake.requests) == 1)
        reader.cancel()
        await asyncio.wait([reader])
    (batch,) = submitted(fake)
    assert len(batch) == (19 if length else count / size)


async def test_options_reach_the_queue(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.simulates(Service())
    await collect(queued(ai, ["one"], pooling="cls", truncate=True))
    ((request,),) = submitted(fake)
    assert request == {
        "text": ["one"],
        "pooling": "cls",
        "truncate_inputs": True,
        "external_reference": "1",
    }


async def test_the_documented_responses_are_read(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """Queued, running, done: the bytes of the service's documentation."""
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
    (item,) = await collect(queued(ai, ["a", "b"]))
    assert item.vectors.tolist() == [[1, 2], [3, 4.5]]
    looks = [one.json() for one in fake.requests[1:]]
    assert looks == [{"request_id": "768f15b7-4fd6-4498-906e-ad94ffc7f8d2"}] * 2


async def test_concurrency_limits_the_batches_in_the_queue(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    """And how far the texts are read."""
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


async def test_a_batch_stays_below_ten_megabytes(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """However long the texts are."""
    service = fake.simulates(Service(dimension=1))
    given = [f"{number}" + "é" * 1_000_000 for number in range(12)]
    right_length = await collect(
        queued(ai, given, batch_size=2, polling=Polling(base=0.01), concurrency=3)
    )
    assert sum(map(len, right_length)) == 12
    assert max(len(one.body) for one in fake.requests) < 10_000_000
    assert service.counters.batches == 3


async def test_a_text_that_is_too_long_for_a_batch_fails(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    """A request is halved until it fits; a text that never fits is not sent."""
    fake.simulates(Service(dimension=1))
    given = ["a" * 6_000_000, "b" * 6_000_000, "c" * 10_000_000]
    items = await collect(queued(ai, given, on_error="yield"))
    assert [item.start for item in items] == [0, 1, 2]
    assert isinstance(items[2], EmbedFailure)
    assert isinstance(items[2].error, InputError)
    assert "10 MB" in str(items[2].error)


async def test_a_failed_request_is_halved_down_to_its_text(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    """All halves are submitted together, so that few rounds are needed."""
    service = fake.simulates(Service(poison=is_poison))
    given = [f"poison {n}" if n in (5, 40, 199) else text for n, text in enumerate(texts(256))]
    job = queued(ai, given, batch_size=64, on_error="yield", polling=Polling(base=0.01))
    items = await collect(job)
    check_vectors(batches_of(items), given)
    failures = failures_of(items)
    assert [one.text for one in failures] == ["poison 5", "poison 40", "poison 199"]
    assert all(isinstance(one.error, BadRequest) for one in failures)
    assert all(service.counters.answered[text] == 1 for text in given if not is_poison(text))
    assert service.counters.batches <= 1 + 6


async def test_a_refused_text_ends_the_job_by_default(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.simulates(Service(poison=is_poison))
    items: list[Any] = []
    given = [*texts(20), "poison", *texts(11)]
    with pytest.raises(BadRequest):
        await collect_into(queued(ai, given, batch_size=8), items)
    check_vectors(items, given)


async def test_invalid_texts_fail_alone(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.simulates(Service())
    given = ["one", "", "two", "\ud800", "three"]
    items = await collect(queued(ai, given, on_error="yield"))
    assert [item.start for item in items if isinstance(item, EmbedFailure)] == [1, 3]
    check_vectors(batches_of(items), given)


def answers(request: Recorded, **of_items: Any) -> Any:
    """The response to a batch: vectors, or the value in *of_items* for a reference."""
    fake_answers = []
    for one in request.json()["requests"]:
        name = one["external_reference"]
        rows = [vector_of(text).tolist() for text in one["text"]]
        told = {"success": True, "result": {"shape": [len(rows), 4], "data": rows}}
        fake_answers.append({"external_reference": name, **of_items.get(f"r{name}", told)})
    return {"responses": fake_answers}


def accept(request: Recorded, accepted: dict[str, Recorded]) -> Any:
    """The response to a submission, which is added to *accepted* by its request id."""
    accepted[name := str(len(accepted))] = request
    return {"status": "queued", "request_id": name}


def refuse_poison(refuse: Callable[[FakeWorkersAI], Any]) -> Callable[[Recorded], Any]:
    """The replies of a service that refuses each submission with a poison text."""
    accepted: dict[str, Recorded] = {}

    def reply(request: Recorded) -> Any:
        body = request.json()
        if "request_id" in body:
            return answers(accepted[body["request_id"]])
        if any("poison" in item["text"] for item in body["requests"]):
            script = FakeWorkersAI()
            refuse(script)
            return script.take()
        return accept(request, accepted)

    return reply


async def test_an_item_without_a_reason_is_halved(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """Only this item failed, so its texts are probably at fault."""
    said: dict[str, Any] = {"success": False, "errors": []}

    def reply(request: Recorded) -> Any:
        bad = [
            one["external_reference"]
            for one in request.json()["requests"]
            if "poison" in one["text"]
        ]
        return answers(request, **{f"r{name}": said for name in bad})

    fake.always.answers_by(reply)
    items = await collect(queued(ai, ["a", "b", "poison", "c"], on_error="yield"))
    assert [item.start for item in items if isinstance(item, EmbedFailure)] == [2]
    check_vectors(batches_of(items), ["a", "b", "", "c"])


# Code 3030 was captured live with status 400; an item of a batch has no status.
@pytest.mark.parametrize(
    "error",
    [
        {"message": "AiError: AiError: Sequence too long: 10000 > 8192 (f660721d)", "code": 3030},
        {"message": "AiError: no reason that is known", "code": 3999},
    ],
)
async def test_an_item_with_a_refusal_is_halved_and_not_submitted_again(
    fake: FakeWorkersAI, ai: WorkersAI, error: dict[str, Any]
) -> None:
    """A code that is not known is a refusal of the texts, not a failure of the service."""
    refusal: dict[str, Any] = {"result": {}, "success": False, "errors": [error]}

    def reply(request: Recorded) -> Any:
        sent = request.json()["requests"]
        bad = [item["external_reference"] for item in sent if "poison" in item["text"]]
        return answers(request, **{f"r{name}": refusal for name in bad})

    fake.always.answers_by(reply)
    items = await collect(queued(ai, ["a", "b", "poison", "c"], on_error="yield"))
    (failure,) = [item for item in items if isinstance(item, EmbedFailure)]
    assert (failure.start, type(failure.error)) == (2, BadRequest)
    check_vectors(batches_of(items), ["a", "b", "", "c"])
    assert len(submitted(fake)) == 3


async def test_temporary_failures_are_submitted_again(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """Only items that are missing or failed with a 5xx."""
    busy = {"success": False, "errors": [{"code": 3040, "message": "busy"}]}
    missing = {"external_reference": "nobody's"}
    fake.answers_by(lambda request: answers(request, r1=busy, r3=missing))
    fake.answers_by(answers)
    given = texts(3)
    check_vectors(await collect(queued(ai, given, batch_size=1)), given)
    assert [[one["text"] for one in batch] for batch in submitted(fake)] == [
        [["text 0"], ["text 1"], ["text 2"]],
        [["text 0"], ["text 2"]],
    ]


async def test_an_item_that_keeps_failing_is_a_failure(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """Once it is clear that the service returns others; these are not affected."""
    broken = {"success": False, "errors": [{"code": 8005, "message": "broken"}]}
    fake.always.answers_by(lambda request: answers(request, r1=broken))
    items = await collect(queued(ai, texts(2), batch_size=1, on_error="yield"))
    assert isinstance(items[0], EmbedFailure)
    assert isinstance(items[0].error, ServerError)
    assert isinstance(items[1], EmbeddedBatch)
    sent = [item["text"] for batch in submitted(fake) for item in batch]
    assert 1 + QUICK.max <= sent.count(["text 0"]) <= 10


async def test_a_refused_batch_is_halved(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """If one request causes the refusal, the others get their vectors."""

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
    items = await collect(queued(ai, given, batch_size=1, on_error="yield"))
    check_vectors(items[:7], given)
    assert isinstance(items[7], EmbedFailure)


async def test_a_batch_that_is_too_large_is_halved(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """By a service that accepts less than documented."""
    fake.fails(413, 3006, "Request too large")
    fake.always.answers_by(answers)
    given = texts(4)
    check_vectors(await collect(queued(ai, given, batch_size=1)), given)
    assert [len(batch) for batch in submitted(fake)] == [4, 2, 2]


@pytest.mark.parametrize(
    "lost",
    [
        lambda fake: fake.fails(404, 7404, "no such batch"),
        lambda fake: fake.answers({"status": "expired", "request_id": "b"}),
    ],
)
async def test_a_lost_batch_is_submitted_again(
    fake: FakeWorkersAI, ai: WorkersAI, lost: Any
) -> None:
    """Whether the service returns 404 or reports it as expired."""
    fake.answers({"status": "queued", "request_id": "b"})
    lost(fake)
    fake.always.answers_by(answers)
    given = texts(4)
    check_vectors(await collect(queued(ai, given)), given)
    assert len(submitted(fake)) == 2


async def test_batches_that_are_always_lost_end_as_failures(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    """After as many repetitions as `Retries` allows."""
    fake.simulates(Service(lost=1.0, seed=1))
    with pytest.raises((NotFound, ServerError)):
        await collect(queued(ai, texts(3)))
    assert len(submitted(fake)) == 1 + QUICK.max


async def test_a_failed_poll_is_repeated(fake: FakeWorkersAI) -> None:
    """The service works on the batch all the same. Each repetition counts and is reported."""
    attempts: list[int] = []
    ai = fake.client(
        retries=Retries(base=0.0005, on_retry=lambda retry: attempts.append(retry.attempt))
    )
    fake.answers({"status": "queued", "request_id": "b"})
    fake.fails(500, 7009, "broken").hangs_up().fails(500, 7009, "broken").hangs_up()
    fake.answers_by(lambda _: answers(fake.requests[0]))
    given = texts(4)
    job = queued(ai, given)
    check_vectors(await collect(job), given)
    assert len(submitted(fake)) == 1
    # The hang-ups are replaced at once: their connections had answered before.
    assert attempts == [1, 2]
    assert job.stats.retries == 2


@pytest.mark.parametrize("failure", [429, 500, 503, 522, "hang-up"])
@pytest.mark.parametrize("poll", [False, True])
async def test_without_retries_the_first_fault_ends_the_job(
    fake: FakeWorkersAI, failure: Any, poll: bool
) -> None:
    """Of a submission or of a poll."""
    if poll:
        fake.answers({"status": "queued", "request_id": "b"})
    if failure == "hang-up":
        fake.always.hangs_up()
    else:
        fake.always.fails(failure, 0, "broken")
    ai = fake.client(retries=Retries(max=0))
    with pytest.raises((ServerError, ConnectionLost, RateLimited)):
        await collect(queued(ai, texts(4), on_error="skip"))
    # A poll on a connection that had answered before is repeated at once if it is lost.
    assert len(fake.requests) == 1 + poll + (poll and failure == "hang-up")


class QueueService(ScriptedService):
    """One batch in the queue, whose polls fail *for_seconds* at a time with an answer between."""

    def __init__(self, error: Exception, outages: Sequence[float], retries: Retries) -> None:
        super().__init__(replies(None), retries)
        self._error = error
        self._outages = list(outages)
        self._ends: float | None = None
        self.polls = 0

    def build_request(self, given: Sequence[str], reference: str) -> QueuedTask:
        return QueuedTask(reference, {"text": list(given)}, AnswerSpec(Embeddings))

    async def submit(self, requests: Any, throttle: Any) -> BatchStatus[Embeddings]:
        return BatchStatus(request_id="b")

    async def poll(
        self, requests: Sequence[QueuedTask], request_id: str, throttle: Any
    ) -> BatchStatus[Embeddings]:
        self.polls += 1
        now = asyncio.get_running_loop().time()
        if self._outages and self._ends is None:
            self._ends = now + self._outages.pop(0)
        if self._ends is not None and now < self._ends:
            raise self._error
        if self._ends is not None:
            self._ends = None
            return BatchStatus(request_id="b")
        return BatchStatus(
            [
                QueuedItem(request.reference, answer=vectors_of(request.fields["text"]))
                for request in requests
            ],
            request_id="b",
        )


OUTAGES = [
    ServerError("down", status=503),
    ConnectionLost("lost"),
    DecodeError("a page of HTML"),
    Conflict("conflict", status=409),
]


def waiting_job(service: ScriptedService, **options: Any) -> EmbeddingJob[Any]:
    plan = Plan(M3, mode="queue", rate=None, **options)
    return EmbeddingJob(service, Throttles(), texts(4), plan, endpoint="")


@pytest.mark.parametrize("error", OUTAGES)
@pytest.mark.parametrize("cap", [0.1, 60])
def test_polls_that_fail_are_repeated(error: Exception, cap: float) -> None:
    """However many, and however short the pauses are; only those in a row count."""
    service = QueueService(error, [290, 290], Retries(base=0.01, cap=cap))
    job = waiting_job(service, on_error="skip", polling=Polling(base=0.01, cap=cap))
    check_vectors(collect_virtually(job), texts(4))
    assert service.polls > 16


@pytest.mark.parametrize("on_error", ["raise", "yield", "skip"])
@pytest.mark.parametrize("error", OUTAGES)
def test_five_minutes_of_failed_polls_end_the_job(error: Exception, on_error: Any) -> None:
    """The texts are not at fault."""
    service = QueueService(error, [1e9], Retries())

    async def main() -> float:
        with pytest.raises(type(error)):
            await collect(waiting_job(service, on_error=on_error))
        return asyncio.get_running_loop().time()

    assert 300 < virtual_time.run(main()) < 400


class PoisonedQueue(QueueService):
    """A queue in which every poll of a batch with a poison text fails."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error, [], Retries())

    async def poll(
        self, requests: Sequence[QueuedTask], request_id: str, throttle: Any
    ) -> BatchStatus[Embeddings]:
        if any("poison" in request.fields["text"] for request in requests):
            raise self._error
        return await super().poll(requests, request_id, throttle)


@pytest.mark.parametrize("error", OUTAGES)
@pytest.mark.parametrize("place", [1234, 2199])
def test_a_text_whose_polls_all_fail_stands_alone(error: Exception, place: int) -> None:
    """After five minutes each, its batch and its halves are given up, as others are answered."""
    given = ["poison" if number == place else text for number, text in enumerate(texts(2200))]
    plan = Plan(M3, mode="queue", rate=None, on_error="yield")
    service = PoisonedQueue(error)
    job: EmbeddingJob[Any] = EmbeddingJob(service, Throttles(), given, plan, endpoint="")
    items = collect_virtually(job)
    check_vectors(batches_of(items), given)
    assert [(item.start, item.error) for item in failures_of(items)] == [(place, error)]
    assert job.stats.texts == 2199


@pytest.mark.parametrize("failure", [(503, 0), (500, 7009), None])
async def test_a_submission_waits_for_a_service_that_fails(
    fake: FakeWorkersAI, ai: WorkersAI, failure: tuple[int, int] | None
) -> None:
    """Longer than the attempts of one call, and whatever `on_error` says."""
    for _ in range(10):
        if failure is None:
            fake.hangs_up()
        else:
            fake.fails(*failure, "down")
    fake.always.answers_by(answers)
    check_vectors(await collect(queued(ai, texts(4), on_error="skip")), texts(4))
    assert len(fake.requests) <= 12  # At most one more, for a text that was tried alone.


UNDOCUMENTED: dict[str, Callable[[FakeWorkersAI], Any]] = {
    "page": lambda fake: fake.says(b"<html>maintenance</html>", content_type="text/html"),
    "no content": lambda fake: fake.says_raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "empty": lambda fake: fake.says(b""),
    "empty object": lambda fake: fake.says(b"{}"),
    "null": lambda fake: fake.answers(None),
    "cut": lambda fake: fake.says(b'{"success":true,"result":{"resp'),
    "not HTTP": lambda fake: fake.says_raw(b"SSH-2.0\r\n\r\n", then_hangs_up=True),
    "events": lambda fake: fake.says(b'data: {"response":"a"}\n\n'),
    "conflict": lambda fake: fake.fails(409, 9999, "conflict"),
    "timeout": lambda fake: fake.fails(408, 3007, "timeout"),
    "400 page": lambda fake: fake.says(b"<html>nginx", status=400, content_type="text/html"),
    "422 page": lambda fake: fake.says(b"<html>proxy", status=422, content_type="text/html"),
    "400 text": lambda fake: fake.says(b"Bad Request", status=400, content_type="text/plain"),
    "400 empty": lambda fake: fake.says(b"", status=400),
    "too many requests": lambda fake: fake.fails(200, 971, "consider throttling"),
    "invalid token": lambda fake: fake.fails(200, 9109, "Invalid access token"),
    "unknown code": lambda fake: fake.fails(200, 7502, "?"),
    "unknown codes": lambda fake: fake.says(b'{"errors":[{"code":1200},{"code":7502}]}'),
}
"""Answers of a service that is down, but of those that say so."""


@pytest.mark.parametrize("kind", UNDOCUMENTED)
@pytest.mark.parametrize("mode", ["direct", "queue"])
async def test_an_outage_that_shows_as_undocumented_answers_loses_no_text(
    fake: FakeWorkersAI, ai: WorkersAI, kind: str, mode: Any
) -> None:
    """Neither if it meets the first submission, nor the first polls."""
    down = [*range(QUICK.max + 2), *range(QUICK.max + 3, 2 * QUICK.max + 5)]
    accepted: dict[str, Recorded] = {}

    def reply(request: Recorded) -> Any:
        if len(fake.requests) - 1 in down:
            script = FakeWorkersAI()
            UNDOCUMENTED[kind](script)
            return script.take()
        body = request.json()
        if "request_id" in body:
            return answers(accepted[body["request_id"]])
        if "text" in body:
            rows = [vector_of(text).tolist() for text in body["text"]]
            return {"shape": [len(rows), 4], "data": rows}
        return accept(request, accepted)

    fake.always.answers_by(reply)
    given = texts(12)
    job = queued(ai, given, mode=mode, batch_size=4, concurrency=1, on_error="skip")
    check_vectors(await collect(job), given)
    assert job.stats.failed == 0
    assert len(fake.requests) > max(down)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"success": False, "errors": [{"code": 5006, "message": "Bad input"}]}),
        (400, {"success": False, "errors": [{"code": 9999, "message": "unknown"}]}),
        (400, {"errors": ["Bad input"]}),
        (400, {"success": False}),
        (422, {"error": "Bad input"}),
        (400, [{"message": "Bad input"}]),
        (200, {"success": False, "errors": [{"code": 5006, "message": "Bad input"}]}),
        (200, {"success": False, "errors": [{"code": 3030, "message": "flagged"}]}),
        (200, {"error": {"code": 400, "message": "Bad input"}}),
        (200, {"error": {"code": 422, "message": "Bad input"}}),
    ],
)
async def test_a_refusal_of_the_service_drops_its_text_at_once(
    fake: FakeWorkersAI, ai: WorkersAI, status: int, body: Any
) -> None:
    """In whatever form it comes: the text is sent once."""

    def reply(request: Recorded) -> Any:
        (text,) = request.json()["text"]
        if text == "poison":
            return FakeWorkersAI().says(json.dumps(body).encode(), status=status).take()
        return {"shape": [1, 4], "data": [vector_of(text).tolist()]}

    fake.always.answers_by(reply)
    given = ["a", "poison", "b"]
    job = queued(ai, given, mode="direct", batch_size=1, concurrency=1, on_error="yield")
    items = await collect(job)
    check_vectors(batches_of(items), given)
    assert [(item.start, type(item.error)) for item in failures_of(items)] == [(1, BadRequest)]
    assert len(fake.requests) == 3


@pytest.mark.parametrize("where", ["submission", "poll"])
async def test_an_error_that_ends_the_job_does_so_in_the_queue(
    fake: FakeWorkersAI, ai: WorkersAI, where: str
) -> None:
    if where == "poll":
        fake.answers({"status": "queued", "request_id": "b"})
    fake.always.fails(403, 9999, "forbidden")
    with pytest.raises(PermissionDenied):
        await collect(queued(ai, texts(4), on_error="skip"))
    assert len(fake.requests) == 1 + (where == "poll")


@pytest.mark.parametrize(
    ("lost", "kind"),
    [
        (lambda fake: fake.fails(404, 7404, "no such batch"), NotFound),
        (lambda fake: fake.fails(400, 5006, "expired"), BadRequest),
        (lambda fake: fake.answers({"status": "expired", "request_id": "b"}), ServerError),
    ],
)
async def test_batches_that_are_lost_drop_no_text(
    fake: FakeWorkersAI, ai: WorkersAI, lost: Any, kind: type[CfaiError]
) -> None:
    """Whatever `on_error` says: the job waits before each repetition, and then ends."""
    pauses: list[float] = []
    retries = Retries(max=3, base=0.002, cap=0.01, on_retry=lambda one: pauses.append(one.pause))
    ai = fake.client(retries=retries)

    def reply(request: Recorded) -> Any:
        if "requests" in request.json():
            return {"status": "queued", "request_id": "b"}
        script = FakeWorkersAI()
        lost(script)
        return script.take()

    fake.always.answers_by(reply)
    job = queued(ai, texts(4), batch_size=2, on_error="skip")
    with pytest.raises(kind):
        await collect(job)
    assert job.stats.failed == 0
    assert len(submitted(fake)) == 1 + retries.max
    assert len(pauses) == retries.max


async def test_a_text_that_spoils_its_batch_in_the_queue_stands_alone(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    """If the submission fails each time, while others are accepted."""
    fake.always.answers_by(refuse_poison(UNDOCUMENTED["page"]))
    given = ["poison" if place == 21 else text for place, text in enumerate(texts(4000))]
    job = queued(ai, given, batch_size=10, on_error="yield", concurrency=2)
    items = await collect(job)
    check_vectors(batches_of(items), given)
    assert [(item.start, type(item.error)) for item in failures_of(items)] == [(21, DecodeError)]
    assert job.stats.texts == 3999


@pytest.mark.parametrize("kind", UNDOCUMENTED)
@pytest.mark.parametrize("place", [0, 30, 59])
async def test_a_text_that_spoils_the_only_batch_stands_alone(
    fake: FakeWorkersAI, ai: WorkersAI, kind: str, place: int
) -> None:
    """Although no other text was embedded: single ones are submitted until one is accepted."""
    fake.always.answers_by(refuse_poison(UNDOCUMENTED[kind]))
    given = ["poison" if at == place else text for at, text in enumerate(texts(60))]
    job = queued(ai, given, batch_size=10, on_error="yield")
    items = await collect(job)
    check_vectors(batches_of(items), given)
    assert [item.start for item in failures_of(items)] == [place]


def row(**told: Any) -> Callable[[FakeWorkersAI, Recorded], Any]:
    """An answer whose items all say the same."""

    def script(fake: FakeWorkersAI, request: Recorded) -> None:
        names = [item["external_reference"] for item in request.json()["requests"]]
        fake.answers({"responses": [{"external_reference": name, **told} for name in names]})

    return script


NOT_HANDED_OUT: dict[str, Callable[[FakeWorkersAI, Recorded], Any]] = {
    "404": lambda fake, _: fake.fails(404, 7404, "no such batch"),
    "404 of a path": lambda fake, _: fake.fails(404, 7000, "no route"),
    "400": lambda fake, _: fake.fails(400, 5006, "bad input"),
    "422": lambda fake, _: fake.fails(422, 5006, "bad input"),
    "413": lambda fake, _: fake.fails(413, 3006, "too large"),
    "failed": lambda fake, _: fake.answers({"status": "failed", "request_id": "b"}),
    "expired": lambda fake, _: fake.answers({"status": "expired", "request_id": "b"}),
    "no items": lambda fake, _: fake.answers({"responses": []}),
    "null": row(success=True, result=None),
    "empty": row(success=True, result={}),
    "null vectors": row(success=True, result={"shape": [1, 4], "data": [[None] * 4]}),
    "no reason": row(success=False, errors=[]),
    "no code": row(success=False, errors=[{"message": "internal error"}]),
    "words": row(success=False, error="AiError: internal"),
    "timeout": row(success=False, errors=[{"code": 3007, "message": "timeout"}]),
    "broken": row(success=False, errors=[{"code": 8005, "message": "broken"}]),
}
"""Answers to polls of a batch that was accepted and that the service never hands out."""


def spoiled(kind: str, request: Recorded) -> Any:
    script = FakeWorkersAI()
    NOT_HANDED_OUT[kind](script, request)
    return script.take()


@pytest.mark.parametrize("kind", NOT_HANDED_OUT)
@pytest.mark.parametrize("place", [1234, 2199])
@pytest.mark.parametrize("on_error", ["skip", "yield"])
async def test_a_text_whose_batch_is_never_handed_out_stands_alone(
    fake: FakeWorkersAI, ai: WorkersAI, kind: str, place: int, on_error: Any
) -> None:
    """Also if it is the last one, so that a good text has to show that the service answers."""
    accepted: dict[str, Recorded] = {}

    def reply(request: Recorded) -> Any:
        body = request.json()
        if "requests" in body:
            return accept(request, accepted)
        batch = accepted[body["request_id"]]
        if any("poison" in item["text"] for item in batch.json()["requests"]):
            return spoiled(kind, batch)
        return answers(batch)

    fake.always.answers_by(reply)
    given = ["poison" if number == place else text for number, text in enumerate(texts(2200))]
    job = queued(ai, given, on_error=on_error)
    items = await collect(job)
    check_vectors(batches_of(items), given)
    assert job.stats.texts == 2199
    assert job.stats.failed == 1
    expected = [place] if on_error == "yield" else []
    assert [item.start for item in failures_of(items)] == expected


@pytest.mark.parametrize("kind", NOT_HANDED_OUT)
async def test_an_outage_in_which_no_batch_is_handed_out_loses_no_text(
    fake: FakeWorkersAI, ai: WorkersAI, kind: str
) -> None:
    """However many are lost: the job waits until the service hands out others."""
    accepted: dict[str, Recorded] = {}
    polls = 0

    def reply(request: Recorded) -> Any:
        nonlocal polls
        body = request.json()
        if "requests" in body:
            return accept(request, accepted)
        polls += 1
        batch = accepted[body["request_id"]]
        return spoiled(kind, batch) if 1 < polls < 60 else answers(batch)

    fake.always.answers_by(reply)
    given = texts(300)
    job = queued(ai, given, batch_size=1, concurrency=1, on_error="skip")
    check_vectors(await collect(job), given)
    assert job.stats.failed == 0
    assert polls > 60


async def test_refusals_lose_no_text(fake: FakeWorkersAI) -> None:
    """Neither of polls nor of submissions; `stats` counts them all."""
    for _ in range(3):
        fake.fails(429, 10429, "Rate limited")
    fake.answers({"status": "queued", "request_id": "b"})
    for _ in range(4):
        fake.fails(429, 10429, "Rate limited")
    fake.answers_by(lambda _: answers(fake.requests[0]))
    ai = fake.client(retries=Retries(max=1, base=0.002))
    job = queued(ai, texts(4))
    check_vectors(await collect(job), texts(4))
    assert (job.stats.requests, job.stats.refusals, job.stats.retries) == (9, 7, 7)
    assert job.stats.texts == 4


async def test_a_used_up_quota_ends_the_job_at_once(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """Finished batches are yielded, and nothing more is submitted."""
    service = fake.simulates(Service(quota=250))
    items: list[Any] = []
    job = queued(ai, texts(5000), batch_size=10, concurrency=1, on_error="skip")
    with pytest.raises(QuotaExceeded) as caught:
        await collect_into(job, items)
    check_vectors(items, texts(5000))
    assert sum(map(len, items)) == 250 == job.stats.texts
    assert caught.value.resets_at.tzinfo is not None
    assert service.counters.batches <= 2


@pytest.mark.parametrize("concurrency", [4, None])
async def test_submitted_batches_are_polled_once_more_when_the_quota_ends(
    fake: FakeWorkersAI, ai: WorkersAI, concurrency: int | None
) -> None:
    """They are paid for, and polled at once."""
    service = fake.simulates(Service(quota=1500))
    items: list[Any] = []
    polling = Polling(base=0.05, cap=60, factor=1000)
    job = queued(ai, texts(6000), concurrency=concurrency, on_error="skip", polling=polling)
    with pytest.raises(QuotaExceeded):
        await collect_into(job, items)
    check_vectors(items, texts(6000))
    assert sum(map(len, items)) == job.stats.texts == service.counters.texts > 0


async def test_a_refused_submission_for_the_quota_ends_the_job(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    fake.always.fails(429, 4006, "used up")
    with pytest.raises(QuotaExceeded):
        await collect(queued(ai, texts(3)))
    assert len(fake.requests) == 1


async def test_an_error_of_all_texts_ends_the_job(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.always.fails(401, 10000, "Authentication error")
    with pytest.raises(AuthenticationError):
        await collect(queued(ai, texts(300), on_error="skip"))
    assert len(fake.requests) == 1


async def test_a_batch_without_a_request_id_is_an_error(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.always.answers({"status": "queued"})
    with pytest.raises(DecodeError, match="returned no request_id"):
        await collect(queued(ai, ["one"]))


async def test_vectors_of_another_dimension_are_an_error(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    other = {"success": True, "result": {"shape": [1, 1], "data": [[1.0]]}}
    fake.always.answers_by(lambda request: answers(request, r2=other))
    with pytest.raises(DecodeError, match="the vectors have 1 numbers, and earlier ones had 4"):
        await collect(queued(ai, texts(2), batch_size=1))


async def test_leaving_stops_the_polls(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """No task is left."""
    fake.always.answers({"status": "queued", "request_id": "b"})
    before = asyncio.all_tasks()
    job = queued(ai, texts(9), polling=Polling(base=0.001, cap=0.001))
    reader = asyncio.create_task(collect(job))
    await fake.until(lambda: len(fake.requests) >= 3)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert asyncio.all_tasks() <= before | {one.task for one in fake._state.connections}


async def test_requests_that_wait_are_not_submitted_after_the_end(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    """If the batch before them ends with the job, they do not take its place."""
    fake.always.answers({"status": "queued", "request_id": "b"})
    before = asyncio.all_tasks()
    job = queued(ai, texts(3000), concurrency=1, polling=Polling(base=0.001, cap=0.001))
    reader = asyncio.create_task(collect(job))
    await fake.until(lambda: len(fake.requests) >= 3)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert asyncio.all_tasks() <= before | {one.task for one in fake._state.connections}
    assert len(submitted(fake)) == 1


async def test_dedupe_and_checkpoints_work_through_the_queue(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Any
) -> None:
    """A direct job resumes from the checkpoint of a job through the queue."""
    service = fake.simulates(Service(poison=is_poison))
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
        items = await collect(job)
        check_vectors(batches_of(items), given)
        assert sum(isinstance(item, EmbedFailure) for item in items) == 20
        assert (mode == "queue") == (job.stats.requests > 0)
    assert service.counters.answered == {"a": 1, "b": 1}


@pytest.mark.parametrize("wrong", [{"mode": "later"}, {"polling": 3}])
async def test_invalid_options_are_refused(ai: WorkersAI, wrong: Any) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        ai.embed_many(M3, ["one"], **wrong)


@st.composite
def cuts(draw: st.DrawFn) -> tuple[list[str], Service, dict[str, Any], int]:
    """Texts, a service, options, and how many turns of the loop the reader has."""
    word = st.integers(0, 30).map(lambda number: f"text {number}") | st.just("poison")
    service = Service(
        faults=draw(st.sampled_from([0.0, 0.2])),
        lost=draw(st.sampled_from([0.0, 0.3])),
        quota=draw(st.none() | st.integers(1, 60)),
        seed=draw(st.integers(0, 99)),
        poison=is_poison,
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
    """Every vector is right and comes once, and no task is left."""
    given_texts, service, options, turns = cut

    async def main() -> list[Any]:
        items: list[Any] = []
        async with FakeWorkersAI() as fake:
            fake.simulates(service)
            ai = fake.client(retries=Retries(max=25, base=0.0005, cap=0.001))
            before = asyncio.all_tasks()
            job = queued(ai, given_texts, **options)
            reader = asyncio.create_task(collect_into(job, items))
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
    check_vectors(batches_of(items), given_texts)


async def test_the_density_of_the_texts_is_learned_from_refused_items(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    """As of requests that are answered at once: each digit is a token."""
    refused = 0

    def answer(request: Recorded) -> Reply:
        nonlocal refused
        rows: list[dict[str, Any]] = []
        for item in request.json()["requests"]:
            given = item["text"]
            tokens = sum(map(len, given))
            row = {"external_reference": item["external_reference"], "success": tokens <= 60_000}
            message = f"Max context reached {tokens} tokens but model supports only 60000"
            if row["success"]:
                row["result"] = {"shape": [len(given), 2], "data": [[1.0, 2.0]] * len(given)}
            else:
                refused += 1
                row["errors"] = [{"code": 3030, "message": message}]
            rows.append(row)
        script = FakeWorkersAI()
        script.answers({"responses": rows})
        reply = script.take()
        assert isinstance(reply, Reply)
        return reply

    fake.always.answers_by(answer)
    given = ["1" * 2_000] * 4_000
    items = await collect(ai.embed_many(M3, given, mode="queue", rate=None, concurrency=1))
    assert sum(len(item.ids) for item in batches_of(items)) == 4_000
    # Without that, about 130 would be: each of 90 texts, and its halves.
    assert 0 < refused < 80, refused


async def test_an_error_of_one_half_ends_the_job_after_the_answers_of_the_other(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    """Nothing waits for a request of the half that failed."""
    submissions: list[int] = []

    def answer(request: Recorded) -> Reply:
        requests = request.json()["requests"]
        submissions.append(len(requests))
        script = FakeWorkersAI()
        if len(submissions) == 1:
            script.fails(400, 5006, "no")
        elif len(submissions) == 2:
            rows = [
                {
                    "external_reference": each["external_reference"],
                    "success": True,
                    "result": {
                        "shape": [len(each["text"]), 2],
                        "data": [[1, 2]] * len(each["text"]),
                    },
                }
                for each in requests
            ]
            script.answers({"responses": rows})
        else:
            script.fails(401, 10000, "Authentication error")
        reply = script.take()
        assert isinstance(reply, Reply)
        return reply

    fake.always.answers_by(answer)
    job = queued(ai, texts(400), on_error="yield")
    arrived: list[Any] = []
    with pytest.raises(AuthenticationError):
        async with asyncio.timeout(20):
            await collect_into(job, arrived)
    assert submissions == [4, 2, 2]
    assert [item.start for item in arrived] == [0, 100]


@pytest.mark.parametrize("model", [M3, "@cf/baai/bge-small-en-v1.5", "@cf/nobody/nothing"])
async def test_a_refused_text_fails_alone_whatever_is_known_of_the_model(
    fake: FakeWorkersAI, ai: WorkersAI, model: str
) -> None:
    fake.simulates(Service(poison=is_poison))
    given = [*texts(20), "poison"]
    job = ai.embed_many(model, given, mode="queue", polling=AT_ONCE, rate=None, on_error="yield")
    items = await collect(job)
    assert [one.text for one in failures_of(items)] == ["poison"]
    assert sum(len(item.ids) for item in batches_of(items)) == 20
