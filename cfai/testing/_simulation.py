"""A simulated embedding service with rate limits, a quota and random failures, for load tests.

The clock is a parameter, so that its decisions are reproducible.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import blake2b
from random import Random
from typing import Any, Final, Literal, NamedTuple

from attrs import define, field, frozen

from cfai._types.excerpts import format_count
from cfai.testing._recorded import Recorded
from cfai.testing._script import Reply, Script, take_reply

# Cloudflare docs, Workers AI, "Asynchronous Batch API": a payload must be under 10 MB.
_BATCH_SIZE_LIMIT: Final = 10_000_000


Poison = Literal["refused", "broken", "null"]
"""How a text spoils its request: 400 (code 5006), 500 (code 8005), or nulls in its vector."""


@frozen(kw_only=True)
class Service:
    """How a simulated service behaves. The figures are not Cloudflare's unless noted."""

    per_second: float | None = None
    """Requests per second that its token bucket allows; more are rate-limited (429)."""
    burst: int = 50
    """The capacity of the token bucket, which starts full."""
    slots: int | None = None
    """Requests processed at once; more are rate-limited (429, code 3040)."""
    latency: float = 0.0
    """Seconds until a request is answered."""
    dimension: int = 4
    """Numbers in a vector."""
    most_texts: int = 100
    """The most texts of one request; a request with more gets an error (400)."""
    poison: Callable[[str], bool | Poison] | None = None
    """Returns for a text how it spoils the whole request, each time: "refused" or true (400, code
    5006), "broken" (500, code 8005), or "null" (nulls in its vector). False if it does not."""
    outages: Sequence[tuple[float, float]] = ()
    """Periods in which every request fails (503): their begin and end, in seconds from the start of
    the simulation."""
    queue_time: float = 0.0
    """Seconds that a batch spends in the queue. It is never done before its first status check."""
    lost: float = 0.0
    """The share of batches that are lost: half become unknown (404), half expire."""
    quota: int | None = None
    """The number of texts after which the daily allocation is used up (429, code 4006)."""
    faults: float = 0.0
    """The share of requests that fail at random: half with status 500, half by hanging up. Batch
    items fail at the same rate: half with code 8005, half are missing."""
    seed: int = 0
    """The seed of the random failures."""


def vector_of(text: str, dimension: int = 4) -> "array[float]":
    """Return the vector of *text*: numbers from 0 to 1, determined by the text alone."""
    size = 2 * dimension
    digest = b"".join(
        blake2b(text.encode("utf-8", "surrogatepass"), person=bytes([block])).digest()
        for block in range(-(-size // 64))
    )
    return array("f", [int.from_bytes(digest[at : at + 2]) / 65536 for at in range(0, size, 2)])


@define
class Counters:
    """Counts of a simulated service."""

    requests: int = 0
    refusals: int = 0
    """Requests that were rate-limited (429), not counting the quota."""
    faults: int = 0
    texts: int = 0
    """Texts answered, including repetitions."""
    most_at_once: int = 0
    batches: int = 0
    """Batches accepted into the queue."""
    most_queued: int = 0
    """The most batches that were in the queue at once."""
    looks: int = 0
    """Status checks of batches."""
    answered: "Counter[str]" = field(factory=Counter, repr=False)
    """How often each text was answered, if `remembers` is set."""
    refused_at: list[float] = field(factory=list, repr=False)


@define
class _SimulatedBatch:
    requests: Sequence[Any]
    due: float
    lost: Literal["", "unknown", "expired"]
    responses: list[Any] | None = None
    """The response to each request, once it is done."""


class Simulation:
    """The state of one simulated service.

    Args:
        service: How it behaves.
        clock: Returns the time in seconds.
        remembers: Whether to count each text, which takes memory for millions of texts.
    """

    def __init__(
        self, service: Service, clock: Callable[[], float], *, remembers: bool = True
    ) -> None:
        self.service = service
        self.counters: Counters = Counters()
        self._clock = clock
        self._started = clock()
        self._remembers = remembers
        self._random = Random(service.seed)  # noqa: S311  # not cryptographic
        self._tokens = float(service.burst)
        self._refilled_at = clock()
        self._busy: list[float] = []
        """The time at which each busy slot becomes free."""
        self._batches: dict[str, _SimulatedBatch] = {}

    def reply(self, request: Recorded) -> Reply:
        """Return the reply to a complete request: a function for `Script.answers_by`."""
        service, counters, now = self.service, self.counters, self._clock()
        counters.requests += 1
        failure = self._fail_early(now)
        if failure is not None:
            return failure
        body = request.json()
        if "queueRequest" not in request.query:
            result = self._embed(body.get("text"))
            if isinstance(result, _ServiceError):
                return result.reply(service.latency if result.status == 400 else None)
            self._busy.append(now + service.latency)
            counters.most_at_once = max(counters.most_at_once, len(self._busy))
            return take_reply(Script().answers(result, after=service.latency or None))
        if "request_id" in body:
            return self._check_batch(body["request_id"], now)
        return self._queue_batch(body["requests"], len(request.body), now)

    def _fail_early(self, now: float) -> Reply | None:
        """Return a 503 in an outage, a 429 for the request rate, a random failure, or `None`."""
        service = self.service
        if any(begin <= now - self._started < end for begin, end in service.outages):
            self.counters.faults += 1
            return _UNAVAILABLE.reply()
        if service.per_second is not None:
            gained = (now - self._refilled_at) * service.per_second
            self._tokens = min(self._tokens + gained, float(service.burst))
            self._refilled_at = now
            if self._tokens < 1:
                return self._refuse(now, 10429, "Rate limited")
            self._tokens -= 1
        self._busy = [until for until in self._busy if until > now]
        if service.slots is not None and len(self._busy) >= service.slots:
            return self._refuse(now, 3040, "Capacity temporarily exceeded")
        if self._random.random() < service.faults:
            self.counters.faults += 1
            if self._random.random() < 0.5:
                return take_reply(Script().hangs_up())
            return _INTERNAL_ERROR.reply(service.latency)
        return None

    def _refuse(self, now: float, code: int, message: str) -> Reply:
        self.counters.refusals += 1
        self.counters.refused_at.append(now)
        return _ServiceError(429, code, message).reply()

    def _embed(self, text: Any) -> "dict[str, Any] | _ServiceError":
        """Return the result for one text or several, or why there is none."""
        service, counters = self.service, self.counters
        texts: Sequence[str] = [text] if isinstance(text, str) else text
        if len(texts) > service.most_texts:
            return _ServiceError(400, 5006, f"at most {format_count(service.most_texts, 'text')}")
        poison = {service.poison(text) for text in texts} if service.poison is not None else set()
        if not poison.isdisjoint({True, "refused"}):
            return _ServiceError(400, 5006, "Bad input")
        if "broken" in poison:
            return _INTERNAL_ERROR
        if service.quota is not None and counters.texts + len(texts) > service.quota:
            return _ServiceError(429, 4006, "the daily free allocation is used up")
        counters.texts += len(texts)
        if self._remembers:
            counters.answered.update(texts)
        rows: list[Any] = [vector_of(text, service.dimension).tolist() for text in texts]
        if service.poison is not None and "null" in poison:
            is_null = [service.poison(text) == "null" for text in texts]
            nulls = [None] * service.dimension
            rows = [nulls if null else row for null, row in zip(is_null, rows, strict=True)]
        return {"shape": [len(rows), service.dimension], "data": rows, "pooling": "cls"}

    # Batches

    def _queue_batch(self, requests: Sequence[Any], size: int, now: float) -> Reply:
        if size >= _BATCH_SIZE_LIMIT:
            return _ServiceError(413, 3006, "Request too large").reply()
        lost: Literal["", "unknown", "expired"] = ""
        if self._random.random() < self.service.lost:
            lost = "unknown" if self._random.random() < 0.5 else "expired"
        self.counters.batches += 1
        name = f"batch-{self.counters.batches}"
        self._batches[name] = _SimulatedBatch(requests, now + self.service.queue_time, lost)
        waiting = sum(batch.responses is None for batch in self._batches.values())
        self.counters.most_queued = max(self.counters.most_queued, waiting)
        return _result_reply({"status": "queued", "request_id": name})

    def _check_batch(self, name: str, now: float) -> Reply:
        self.counters.looks += 1
        batch = self._batches.get(name)
        if batch is None or batch.lost == "unknown":
            self._batches.pop(name, None)
            return _ServiceError(404, 7404, f"no batch {name}").reply()
        if now < batch.due:
            return _result_reply({"status": "running", "request_id": name})
        if batch.lost:
            del self._batches[name]
            return _result_reply({"status": "expired", "request_id": name})
        if batch.responses is None:
            batch.responses = self._run_batch(batch.requests)
        return _result_reply({"responses": batch.responses})

    def _run_batch(self, requests: Sequence[Any]) -> list[Any]:
        """Return the responses in random order; their references identify them."""
        items = []
        for number, request in enumerate(requests):
            item = {"id": number, "external_reference": request.get("external_reference")}
            result: dict[str, Any] | _ServiceError = _INTERNAL_ERROR
            if self._random.random() >= self.service.faults:
                result = self._embed(request["text"])
            elif self._random.random() < 0.5:
                continue
            if isinstance(result, _ServiceError):
                error = {"code": result.code, "message": result.message}
                item |= {"success": False, "errors": [error]}
            else:
                item |= {"success": True, "result": result}
            items.append(item)
        self._random.shuffle(items)
        return items


class _ServiceError(NamedTuple):
    status: int
    code: int
    message: str

    def reply(self, after: float | None = None) -> Reply:
        return take_reply(Script().fails(*self, after=after or None))


_INTERNAL_ERROR = _ServiceError(500, 8005, "Internal Server Error")
_UNAVAILABLE = _ServiceError(503, 0, "Service Unavailable")


def _result_reply(result: Any) -> Reply:
    return take_reply(Script().answers(result))
