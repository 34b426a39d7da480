"""The fake in a plain `with`: tests without an event loop, and apps that run one elsewhere."""

import asyncio
import json
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cfai import Prompt, QuotaExceeded, Retries, StreamInterrupted, WorkersAI
from cfai.testing import FakeWorkersAI, Recorded, Script, Service, vector_of

MODEL = "@cf/meta/llama-3.1-8b-instruct-fast"
BGE = "@cf/baai/bge-m3"


def post(fake: FakeWorkersAI, body: bytes = b"{}") -> tuple[int, Any]:
    """Send a request as a program without asyncio does."""
    request = urllib.request.Request(f"{fake.base_url}/accounts/account/ai/run/{MODEL}", body)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310  # loopback
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_a_program_without_asyncio_is_answered() -> None:
    with FakeWorkersAI() as fake:
        fake.answers({"response": "Hello"}).fails(429, 3040, "busy")
        assert post(fake, b'{"prompt":"Hi"}') == (
            200,
            {"result": {"response": "Hello"}, "success": True, "errors": [], "messages": []},
        )
        status, document = post(fake)
        assert (status, document["errors"][0]["code"]) == (429, 3040)
        assert [request.body for request in fake.requests] == [b'{"prompt":"Hi"}', b"{}"]
        fake.until(lambda: fake.connections == 0)
        assert fake.accepted == 2


def test_a_client_works_on_any_loop() -> None:
    """Of `asyncio.run` here, and of other threads at the same time."""

    def ask(fake: FakeWorkersAI, ai: WorkersAI) -> str:
        return asyncio.run(ai.run(MODEL, "Hi")).text

    with FakeWorkersAI() as fake:
        fake.always.answers({"response": "Hello"})
        ai = fake.client()
        assert ask(fake, ai) == "Hello"
        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(lambda _: ask(fake, ai), range(8))) == ["Hello"] * 8
        assert ask(fake, WorkersAI(**fake.credentials)) == "Hello"


def test_the_environment_configures_a_client(
    monkeypatch: pytest.MonkeyPatch, empty_environment: None
) -> None:
    with FakeWorkersAI() as fake:
        fake.answers({"response": "Hello"})
        for name, value in fake.environment.items():
            monkeypatch.setenv(name, value)
        assert asyncio.run(WorkersAI().run(MODEL, "Hi")).text == "Hello"
    assert fake.requests[0].headers["authorization"] == "Bearer fake-api-token"


@pytest.mark.parametrize("kind", [threading.Event, asyncio.Event])
def test_an_event_of_the_test_delays_a_reply(kind: type[Any]) -> None:
    """The fake has no loop in common with the test, so events of either kind work."""
    go_on = kind()
    seen: list[str] = []

    async def read(ai: WorkersAI) -> None:
        async for token in ai.stream(MODEL, "Hi"):
            seen.append(str(token))  # noqa: PERF401  # the test looks at it meanwhile

    with FakeWorkersAI() as fake, ThreadPoolExecutor(1) as threads:
        fake.streams("first", go_on, " second")
        reading = threads.submit(asyncio.run, read(fake.client()))
        fake.until(lambda: seen)
        assert seen == ["first"]
        go_on.set()
        reading.result(timeout=10)
    assert seen == ["first", " second"]


def test_until_also_waits_for_the_state_of_the_app() -> None:
    """Which changes without any request. The condition runs in the thread of the test."""
    threads = set()
    done = threading.Event()

    def condition() -> bool:
        threads.add(threading.current_thread())
        return done.is_set()

    with FakeWorkersAI() as fake:
        timer = threading.Timer(0.02, done.set)
        timer.start()
        fake.until(condition)
        timer.join()
        with pytest.raises(TimeoutError, match=r"false after 0\.01 s: 0 open"):
            fake.until(lambda: False, within=0.01)
    assert threads == {threading.main_thread()}


def test_until_does_not_block_a_loop() -> None:
    """The client on it goes on, which the condition may be about."""

    async def ask(fake: FakeWorkersAI) -> str:
        async with fake.client() as ai:
            asking = asyncio.create_task(ai.run(MODEL, "Hi"))
            await fake.until(lambda: fake.requests)
            await fake.until(asking.done)
            with pytest.raises(TimeoutError, match=r"false after 0\.01 s: 1 open"):
                await fake.until(lambda: False, within=0.01)
            return (await asking).text

    with FakeWorkersAI() as fake:
        fake.answers({"response": "Hello"})
        assert asyncio.run(ask(fake)) == "Hello"


def test_the_simulated_service_runs_in_the_thread() -> None:
    async def embed(ai: WorkersAI) -> list[Any]:
        return [batch async for batch in ai.embed_many(BGE, ["a", "b", "c"], batch_size=2)]

    with FakeWorkersAI() as fake:
        simulation = fake.simulates(Service())
        batches = asyncio.run(embed(fake.client()))
        assert batches[0].vectors[0] == vector_of("a")
        assert simulation.counters.texts == 3


def test_connections_can_be_dropped() -> None:
    async def read(ai: WorkersAI) -> None:
        await ai.stream(MODEL, Prompt("Hi")).collect()

    with FakeWorkersAI() as fake, ThreadPoolExecutor(1) as threads:
        fake.streams("Hel", threading.Event())
        reading = threads.submit(asyncio.run, read(fake.client(retries=Retries(max=0))))
        fake.until(lambda: fake.requests)
        fake.drops_connections("reset")
        with pytest.raises(StreamInterrupted):
            reading.result(timeout=10)


def test_leaving_ends_replies_and_the_thread() -> None:
    """Also one that waits for an event that is never set."""
    before = set(threading.enumerate())
    with FakeWorkersAI() as fake, ThreadPoolExecutor(1) as threads:
        fake.stalls().says(threading.Event())
        waiting = threads.submit(post, fake)
        fake.until(lambda: fake.requests)
        fake.aclose()
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            waiting.result(timeout=10)
    assert set(threading.enumerate()) == before
    with pytest.raises(RuntimeError, match="not listening"):
        _ = fake.port


def test_an_exception_in_a_scripted_function_is_raised_on_exit() -> None:
    def leave() -> None:
        with FakeWorkersAI() as fake:
            fake.answers_by(lambda request: 1 / 0)
            status, document = post(fake)
            assert status == 500
            assert "ZeroDivisionError" in document["errors"][0]["message"]

    with pytest.raises(ZeroDivisionError):
        leave()
    with pytest.raises(KeyError, match="of the test"), FakeWorkersAI() as fake:
        fake.answers_by(lambda request: 1 / 0)
        post(fake)
        raise KeyError("of the test")


async def test_a_plain_with_also_works_beside_a_loop() -> None:
    """For synchronous code in an async test."""
    with FakeWorkersAI() as fake:
        fake.always.answers({"response": "Hello"})
        assert post(fake)[0] == 200
        async with fake.client() as ai:
            assert (await ai.run(MODEL, "Hi")).text == "Hello"
        await fake.until(lambda: len(fake.requests) == 2)
        await fake.aclose()


def test_only_a_plain_with_is_left_by_one() -> None:
    with pytest.raises(RuntimeError, match="not entered by a plain `with`"):
        FakeWorkersAI().__exit__(None, None, None)


async def test_a_fake_is_entered_once_at_a_time() -> None:
    """And in a new `with` after it was left."""
    before = set(threading.enumerate())
    fake = FakeWorkersAI()
    for _ in range(2):
        with fake:
            with pytest.raises(RuntimeError, match="listening already"):
                fake.__enter__()
            with pytest.raises(RuntimeError, match="listening already"):
                await fake.__aenter__()
            fake.answers({"response": "Hello"})
            assert post(fake)[0] == 200
    async with fake:
        with pytest.raises(RuntimeError, match="listening already"):
            fake.__enter__()
    assert set(threading.enumerate()) == before


def test_async_functions_do_not_answer() -> None:
    async def answer(request: Recorded) -> str:
        raise AssertionError

    with pytest.raises(TypeError, match="must not be async"):
        FakeWorkersAI().answers_by(answer)


def test_functions_answer_with_any_reply() -> None:
    """A result, an error or a stream, chosen by the request."""

    def answer(request: Recorded) -> Any:
        prompt = request.json()["prompt"]
        if prompt == "quota":
            return Script().fails(429, 4006, "used up")
        if prompt == "stream":
            return Script().streams("Hel", "lo")
        if prompt == "again":
            return Script().answers_by(lambda request: {"response": request.method})
        return {"response": prompt}

    async def ask(ai: WorkersAI) -> None:
        assert (await ai.run(MODEL, "Hi")).text == "Hi"
        assert [str(token) async for token in ai.stream(MODEL, "stream")] == ["Hel", "lo"]
        assert (await ai.run(MODEL, "again")).text == "POST"
        with pytest.raises(QuotaExceeded):
            await ai.run(MODEL, "quota")

    with FakeWorkersAI() as fake:
        fake.always.answers_by(answer)
        asyncio.run(ask(fake.client()))


def test_a_script_without_a_reply_is_an_error_of_the_test() -> None:
    def leave() -> None:
        with FakeWorkersAI() as fake:
            fake.answers_by(lambda request: Script())
            assert post(fake)[0] == 500

    with pytest.raises(ValueError, match="the script has no reply"):
        leave()
