"""A service that embeds and refuses like the real one, as far as a client can tell: for load tests.

It decides with a clock that is passed in, so that a test can say what happened and why.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import blake2b
from random import Random
from typing import Any, Final, Literal, NamedTuple

from attrs import define, field, frozen

from cfai.testing._record import Recorded
from cfai.testing._script import Reply, one

# Cloudflare docs, Workers AI, "Asynchronous Batch API": a payload must be under 10 MB.
_TOO_LONG: Final = 10_000_000


@frozen(kw_only=True)
class Service:
    """How a simulated service behaves; nothing of it is Cloudflare's word, except where said so."""

    per_second: float | None = None
    """Requests that its token bucket takes in a second; more are refused (429)."""
    burst: int = 50
    """How many tokens the bucket holds; it is full at first."""
    slots: int | None = None
    """Requests that it works on at once; more are refused (429, code 3040)."""
    latency: float = 0.0
    """Seconds that an answer takes."""
    dimension: int = 4
    most_texts: int = 100
    """More in one request are refused (400)."""
    poison: Callable[[str], bool] | None = None
    """Texts for which it refuses the whole request (400, code 5006)."""
    queue_time: float = 0.0
    """Seconds that a batch spends in the queue; it is never done before it is first looked at."""
    lost: float = 0.0
    """The share of batches that come to nothing: of half it knows nothing any more (404), the
    others have expired."""
    quota: int | None = None
    """Texts after which the day's allocation is used up (429, code 4006)."""
    faults: float = 0.0
    """The share of requests that it fails at random: half with a 500, half by hanging up. Of the
    items of a batch, half fail with a 500, and half are missing."""
    seed: int = 0
    """Of the chance that decides over faults."""


def vector_of(text: str, dimension: int = 4) -> "array[float]":
    """The vector of *text*: numbers from 0 to 1 that depend on nothing else."""
    size = 2 * dimension
    hashed = b"".join(
        blake2b(text.encode("utf-8", "surrogatepass"), person=bytes([block])).digest()
        for block in range(-(-size // 64))
    )
    return array("f", [int.from_bytes(hashed[at : at + 2]) / 65536 for at in range(0, size, 2)])


@define
class Counters:
    """What a simulated service saw."""

    requests: int = 0
    refusals: int = 0
    """For their number (429), the quota excepted."""
    faults: int = 0
    texts: int = 0
    """That it answered, each as often as it was asked."""
    most_at_once: int = 0
    batches: int = 0
    """That it took into its queue."""
    most_queued: int = 0
    """Batches that were in the queue at once."""
    looks: int = 0
    """At batches."""
    answered: "Counter[str]" = field(factory=Counter, repr=False)
    """How often it answered each text, where it `remembers`."""
    refused_at: list[float] = field(factory=list, repr=False)


@define
class _Batch:
    """What is in the queue."""

    requests: Sequence[Any]
    due: float
    lost: Literal["", "unknown", "expired"]
    done: bool = False
    told: list[Any] = field(factory=list)
    """What became of each request, once it is done."""


class Simulation:
    """The state of one simulated service, and its decisions.

    Args:
        service: How it behaves.
        clock: Gives seconds.
        remembers: Whether it counts each text; a million of them take room.
    """

    def __init__(
        self, service: Service, clock: Callable[[], float], *, remembers: bool = True
    ) -> None:
        self.service = service
        self.counters: Counters = Counters()
        self._clock = clock
        self._remembers = remembers
        self._chance = Random(service.seed)  # noqa: S311  # no secret
        self._tokens = float(service.burst)
        self._filled = clock()
        self._busy: list[float] = []
        """When each slot that is taken is free again."""
        self._batches: dict[str, _Batch] = {}

    def reply(self, request: Recorded) -> Reply:
        """The reply to a request that is in: what `Script.answers_by` takes."""
        now = self._clock()
        self.counters.requests += 1
        refusal = self._refusal(now)
        if refusal is not None:
            return refusal
        body = request.json()
        if "queueRequest" not in request.query:
            return self._answer(body.get("text"), now)
        if "request_id" in body:
            return self._look(body["request_id"], now)
        return self._queue(body["requests"], len(request.body), now)

    def _refusal(self, now: float) -> Reply | None:
        """A refusal for the number of requests, or a fault."""
        service = self.service
        if service.per_second is not None:
            gained = (now - self._filled) * service.per_second
            self._tokens, self._filled = min(self._tokens + gained, float(service.burst)), now
            if self._tokens < 1:
                return self._refused(now, 429, 10429, "Rate limited")
            self._tokens -= 1
        self._busy = [until for until in self._busy if until > now]
        if service.slots is not None and len(self._busy) >= service.slots:
            return self._refused(now, 429, 3040, "Capacity temporarily exceeded")
        if self._chance.random() < service.faults:
            self.counters.faults += 1
            if self._chance.random() < 0.5:
                return one(lambda script: script.hangs_up())
            return _no(500, 7009, "Internal error", service.latency)
        return None

    def _refused(self, now: float, status: int, code: int, message: str) -> Reply:
        self.counters.refusals += 1
        self.counters.refused_at.append(now)
        return _no(status, code, message, None)

    def _answer(self, given: Any, now: float) -> Reply:
        service, counters = self.service, self.counters
        made = self._embedded(given)
        if isinstance(made, _No):
            return _no(*made, service.latency if made.status == 400 else None)
        self._busy.append(now + service.latency)
        counters.most_at_once = max(counters.most_at_once, len(self._busy))
        return one(lambda script: script.answers(made, after=service.latency or None))

    def _embedded(self, given: Any) -> "dict[str, Any] | _No":
        """The result for some texts, or why there is none."""
        service, counters = self.service, self.counters
        texts: Sequence[str] = [given] if isinstance(given, str) else given
        if len(texts) > service.most_texts:
            return _No(400, 5006, f"at most {service.most_texts} texts")
        if service.poison is not None and any(map(service.poison, texts)):
            return _No(400, 5006, "Bad input")
        if service.quota is not None and counters.texts + len(texts) > service.quota:
            return _No(429, 4006, "the daily free allocation is used up")
        counters.texts += len(texts)
        if self._remembers:
            counters.answered.update(texts)
        rows = [vector_of(text, service.dimension).tolist() for text in texts]
        return {"shape": [len(rows), service.dimension], "data": rows, "pooling": "cls"}

    # The queue...

    def _queue(self, requests: Sequence[Any], size: int, now: float) -> Reply:
        if size >= _TOO_LONG:
            return _no(413, 3006, "Request too large", None)
        lost: Literal["", "unknown", "expired"] = ""
        if self._chance.random() < self.service.lost:
            lost = "unknown" if self._chance.random() < 0.5 else "expired"
        self.counters.batches += 1
        name = f"batch-{self.counters.batches}"
        self._batches[name] = _Batch(requests, now + self.service.queue_time, lost)
        waiting = sum(not batch.done for batch in self._batches.values())
        self.counters.most_queued = max(self.counters.most_queued, waiting)
        return _told({"status": "queued", "request_id": name})

    def _look(self, name: str, now: float) -> Reply:
        self.counters.looks += 1
        batch = self._batches.get(name)
        if batch is None or batch.lost == "unknown":
            self._batches.pop(name, None)
            return _no(404, 7404, f"no batch {name}", None)
        if now < batch.due:
            return _told({"status": "running", "request_id": name})
        if batch.lost:
            del self._batches[name]
            return _told({"status": "expired", "request_id": name})
        if not batch.done:
            batch.done = True
            batch.told.extend(self._items(batch.requests))
        return _told({"responses": batch.told})

    def _items(self, requests: Sequence[Any]) -> list[Any]:
        """What became of each, in any order: they are known by their references."""
        items = []
        for number, request in enumerate(requests):
            item = {"id": number, "external_reference": request.get("external_reference")}
            made: dict[str, Any] | _No = _No(500, 7009, "Internal error")
            if self._chance.random() >= self.service.faults:
                made = self._embedded(request["text"])
            elif self._chance.random() < 0.5:
                continue
            if isinstance(made, _No):
                item |= {"success": False, "errors": [{"code": made.code, "message": made.message}]}
            else:
                item |= {"success": True, "result": made}
            items.append(item)
        self._chance.shuffle(items)
        return items


class _No(NamedTuple):
    status: int
    code: int
    message: str


def _told(result: Any) -> Reply:
    return one(lambda script: script.answers(result))


def _no(status: int, code: int, message: str, after: float | None) -> Reply:
    return one(lambda script: script.fails(status, code, message, after=after or None))
