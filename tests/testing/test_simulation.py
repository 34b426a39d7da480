"""The simulated service, with a clock that the test sets: what it answers, and what it counts."""

import json
from typing import Any

import pytest
from attrs import define

from cfai.testing import Service, Simulation, vector_of
from cfai.testing._recorded import Headers, Recorded


@define
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@define
class Driver:
    """Sends requests to a simulation as if they had arrived, and reads the replies."""

    simulation: Simulation
    clock: Clock

    def send(self, body: Any, query: str = "") -> tuple[int | str, Any]:
        """The status and the body; "hang-up" if the connection is closed instead."""
        target = f"/client/v4/accounts/a/ai/run/@cf/baai/bge-m3{query}"
        data = json.dumps(body).encode()
        reply = self.simulation.reply(Recorded("POST", target, Headers(()), 1, data))
        if reply.then_hangs_up:
            return "hang-up", None
        return reply.status, json.loads(b"".join(p for p in reply.parts if isinstance(p, bytes)))

    def embed(self, *texts: str) -> int | str:
        return self.send({"text": list(texts)})[0]

    def queue(self, *texts: str) -> str:
        requests = [{"text": [text], "external_reference": text} for text in texts]
        status, body = self.send({"requests": requests}, "?queueRequest=true")
        assert (status, body["result"]["status"]) == (200, "queued")
        return str(body["result"]["request_id"])

    def check(self, name: str) -> tuple[int | str, Any]:
        return self.send({"request_id": name}, "?queueRequest=true")


def drive(**settings: Any) -> Driver:
    clock = Clock()
    return Driver(Simulation(Service(**settings), clock), clock)


def test_the_defaults_limit_nothing() -> None:
    driver = drive()
    for _ in range(200):
        status, body = driver.send({"text": ["a"] * 100})
        assert (status, body["result"]["shape"]) == (200, [100, 4])
    counters = driver.simulation.counters
    assert (counters.requests, counters.texts, counters.refusals, counters.faults) == (
        200,
        20_000,
        0,
        0,
    )


def test_vectors_depend_on_the_text_alone() -> None:
    status, body = drive(dimension=3).send({"text": "one"})
    assert (status, body["result"]["pooling"]) == (200, "cls")
    assert body["result"]["data"] == [vector_of("one", 3).tolist()]
    assert vector_of("one") != vector_of("two")
    assert len(vector_of("one")) == 4
    long = vector_of("one", 100)
    assert len(set(long)) == 100
    assert all(0 <= number < 1 for number in long)


def test_the_bucket_starts_full_and_fills_with_time() -> None:
    """Up to the burst, and no further. A refused request takes nothing."""
    driver = drive(per_second=2.0, burst=3)
    assert [driver.embed("a") for _ in range(4)] == [200, 200, 200, 429]
    driver.clock.now += 0.25
    assert driver.embed("a") == 429
    driver.clock.now += 0.25
    assert [driver.embed("a") for _ in range(2)] == [200, 429]
    driver.clock.now += 1000
    assert [driver.embed("a") for _ in range(4)] == [200, 200, 200, 429]
    counters = driver.simulation.counters
    assert counters.refusals == 4
    assert counters.refused_at == [1000, 1000.25, 1000.5, 2000.5]


def test_slots_are_free_again_after_the_latency() -> None:
    driver = drive(slots=2, latency=1.0)
    assert [driver.embed("a") for _ in range(3)] == [200, 200, 429]
    status, body = driver.send({"text": ["a"]})
    assert (status, body["errors"]) == (
        429,
        [{"code": 3040, "message": "Capacity temporarily exceeded"}],
    )
    driver.clock.now += 0.999
    assert driver.embed("a") == 429
    driver.clock.now += 0.001
    assert driver.embed("a") == 200
    assert driver.simulation.counters.most_at_once == 2


def test_outages_are_counted_from_the_start() -> None:
    """The begin is within, the end is not."""
    driver = drive(outages=[(1.0, 2.0)])
    results = []
    for now in (0.0, 0.999, 1.0, 1.999, 2.0):
        driver.clock.now = 1000 + now
        results.append(driver.embed("a"))
    assert results == [200, 200, 503, 503, 200]
    assert driver.simulation.counters.faults == 2
    assert driver.simulation.counters.texts == 3


@pytest.mark.parametrize(
    ("poison", "status", "code"), [(True, 400, 5006), ("refused", 400, 5006), ("broken", 500, 8005)]
)
def test_one_text_spoils_its_request(poison: Any, status: int, code: int) -> None:
    driver = drive(poison=lambda text: poison if text == "bad" else False)
    answered, body = driver.send({"text": ["a", "bad"]})
    assert (answered, body["errors"][0]["code"]) == (status, code)
    assert driver.simulation.counters.texts == 0
    assert driver.embed("a") == 200


def test_one_text_has_nulls_for_a_vector() -> None:
    driver = drive(poison=lambda text: "null" if text == "bad" else False)
    _, body = driver.send({"text": ["a", "bad"]})
    assert body["result"]["data"] == [vector_of("a").tolist(), [None] * 4]


def test_the_quota_counts_texts() -> None:
    """The last text of it is answered."""
    driver = drive(quota=3)
    assert driver.embed("a", "b") == 200
    status, body = driver.send({"text": ["c", "d"]})
    assert (status, body["errors"][0]["code"]) == (429, 4006)
    assert driver.embed("c") == 200
    assert driver.embed("d") == 429
    assert driver.simulation.counters.refusals == 0


def test_random_faults_come_at_their_rate_and_repeat_with_the_seed() -> None:
    """Half of them as status 500, half as a closed connection."""

    def results(seed: int) -> list[int | str]:
        driver = drive(faults=0.2, seed=seed)
        answers = [driver.embed("a") for _ in range(2000)]
        assert driver.simulation.counters.faults == answers.count(500) + answers.count("hang-up")
        return answers

    first = results(1)
    assert first == results(1)
    assert first != results(2)
    assert 150 < first.count(500) < 250
    assert 150 < first.count("hang-up") < 250
    assert first.count(200) == 2000 - first.count(500) - first.count("hang-up")


def test_texts_are_remembered_unless_that_takes_too_much_memory() -> None:
    clock = Clock()
    for remembers in (True, False):
        driver = Driver(Simulation(Service(), clock, remembers=remembers), clock)
        driver.embed("a", "b", "a")
        answered = driver.simulation.counters.answered
        assert dict(answered) == ({"a": 2, "b": 1} if remembers else {})


# Batches


def test_a_batch_is_done_after_its_time_and_stays_done() -> None:
    driver = drive(queue_time=5.0)
    name = driver.queue("a", "b", "c")
    driver.clock.now += 4.999
    assert driver.check(name)[1]["result"] == {"status": "running", "request_id": name}
    driver.clock.now += 0.001
    status, body = driver.check(name)
    assert status == 200
    assert body == driver.check(name)[1]
    rows = {row["external_reference"]: row for row in body["result"]["responses"]}
    assert {name: row["id"] for name, row in rows.items()} == {"a": 0, "b": 1, "c": 2}
    assert all(row["success"] for row in rows.values())
    assert rows["b"]["result"]["data"] == [vector_of("b").tolist()]
    assert driver.simulation.counters.texts == 3


def test_batches_are_counted() -> None:
    driver = drive()
    first, second = driver.queue("a"), driver.queue("b")
    driver.check(first)
    third = driver.queue("c")
    assert len({first, second, third}) == 3
    counters = driver.simulation.counters
    assert (counters.batches, counters.most_queued, counters.looks) == (3, 2, 1)


def test_a_poison_text_of_a_batch_fails_alone() -> None:
    driver = drive(poison=lambda text: text == "bad")
    _, body = driver.check(driver.queue("a", "bad"))
    rows = {row["external_reference"]: row for row in body["result"]["responses"]}
    assert rows["a"]["success"] is True
    assert rows["bad"]["success"] is False
    assert rows["bad"]["errors"] == [{"code": 5006, "message": "Bad input"}]


def test_lost_batches_are_unknown_or_expired_half_each() -> None:
    """Not before their time, and unknown ever after."""
    driver = drive(lost=1.0, queue_time=1.0)
    names = [driver.queue("a") for _ in range(200)]
    early = [driver.check(name)[0] for name in names]
    driver.clock.now += 1
    late = [driver.check(name) for name in names]
    expired = [name for name, (status, _) in zip(names, late, strict=True) if status == 200]
    assert all(body["result"]["status"] == "expired" for status, body in late if status == 200)
    assert 70 < len(expired) < 130
    assert early.count(404) == 200 - len(expired)
    status, body = driver.check(names[0])
    assert (status, body["errors"][0]["code"]) == (404, 7404)
    assert driver.simulation.counters.texts == 0


def test_items_of_a_batch_fail_at_the_rate_of_requests() -> None:
    """Half of them with an error, half are missing; the order is random."""
    driver = drive(faults=0.2, seed=4)
    texts = [str(number) for number in range(1000)]
    name = None
    while name is None:
        body = {"requests": [{"text": [text], "external_reference": text} for text in texts]}
        status, answer = driver.send(body, "?queueRequest=true")
        name = answer["result"]["request_id"] if status == 200 else None
    status, answer = driver.check(name)
    while status != 200:
        status, answer = driver.check(name)
    rows = answer["result"]["responses"]
    failed = [row for row in rows if not row["success"]]
    assert {row["errors"][0]["code"] for row in failed} == {8005}
    assert 60 < len(failed) < 140
    assert 60 < 1000 - len(rows) < 140
    assert [row["id"] for row in rows] != sorted(row["id"] for row in rows)
