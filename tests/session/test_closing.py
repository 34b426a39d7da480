"""Closing a client ends what it waits for, also on a session of the user's own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from cfai import WorkersAI
from cfai.errors import ConfigError, ConnectionLost, StreamInterrupted
from cfai.settings import Polling
from cfai.tasks import SpeechSynthesis
from cfai.testing import FakeWorkersAI, Service

MODEL = "@cf/meta/llama-3.1-8b-instruct-fast"
SPEAKER = "@cf/deepgram/aura-1"
M3 = "@cf/baai/bge-m3"

NEVER = asyncio.Event

Waiting = Callable[[WorkersAI], Awaitable[object]]


async def collect(iterator: Any) -> list[object]:
    return [item async for item in iterator]


def a_run(fake: FakeWorkersAI) -> Waiting:
    fake.stalls()
    return lambda ai: ai.run(MODEL, "Hello?")


def a_body(fake: FakeWorkersAI) -> Waiting:
    fake.says(b'{"result":', NEVER(), framing="chunked")
    return lambda ai: ai.run(MODEL, "Hello?")


def an_opening_stream(fake: FakeWorkersAI) -> Waiting:
    fake.stalls()
    return lambda ai: ai.stream(MODEL, "Hello?").collect()


def a_first_event(fake: FakeWorkersAI) -> Waiting:
    fake.says(b": hello\n\n", NEVER(), content_type="text/event-stream")
    return lambda ai: ai.stream(MODEL, "Hello?").collect()


def an_upload(fake: FakeWorkersAI) -> Waiting:
    fake.stalls()
    return lambda ai: ai.finetunes.upload("id", b"{}", file_name="adapter_config.json")


def a_list(fake: FakeWorkersAI) -> Waiting:
    fake.stalls()
    return lambda ai: collect(ai.models.search())


def vectors(fake: FakeWorkersAI) -> Waiting:
    fake.stalls()
    return lambda ai: ai.embed(M3, ["a"])


def a_job(fake: FakeWorkersAI) -> Waiting:
    fake.stalls()
    return lambda ai: collect(ai.embed_many(M3, ["a"] * 300))


def a_pause(fake: FakeWorkersAI) -> Waiting:
    fake.fails(503, 0, "down", retry_after=50)
    return lambda ai: ai.run(MODEL, "Hello?")


def a_job_that_pauses(fake: FakeWorkersAI) -> Waiting:
    fake.always.fails(429, 3040, "busy", retry_after=50)
    return lambda ai: collect(ai.embed_many(M3, ["a"]))


def a_poll_of_the_queue(fake: FakeWorkersAI) -> Waiting:
    fake.always.answers({"status": "queued", "request_id": "id"})
    return lambda ai: ai.queued(MODEL, "id", polling=Polling(base=50)).wait()


def a_queued_job_that_submits(fake: FakeWorkersAI) -> Waiting:
    fake.stalls()
    return lambda ai: collect(ai.embed_many(M3, ["a"] * 1000, mode="queue", batch_size=10))


def a_queued_job_that_pauses(fake: FakeWorkersAI) -> Waiting:
    fake.always.answers({"status": "queued", "request_id": "id"})
    polling = Polling(base=50)
    return lambda ai: collect(
        ai.embed_many(M3, ["a"] * 1000, mode="queue", polling=polling, batch_size=10)
    )


def a_queued_job_that_polls(fake: FakeWorkersAI) -> Waiting:
    fake.answers({"status": "queued", "request_id": "id"}).stalls()
    polling = Polling(base=0.001)
    return lambda ai: collect(
        ai.embed_many(M3, ["a"] * 1000, mode="queue", polling=polling, batch_size=10)
    )


WAITS: dict[str, Callable[[FakeWorkersAI], Waiting]] = {
    build.__name__.replace("_", " "): build
    for build in (
        *(a_run, a_body, an_opening_stream, a_first_event, an_upload, a_list, vectors, a_job),
        *(a_pause, a_job_that_pauses, a_poll_of_the_queue),
        *(a_queued_job_that_submits, a_queued_job_that_pauses, a_queued_job_that_polls),
    )
}


@asynccontextmanager
async def client_of(fake: FakeWorkersAI, session: str, **options: Any) -> AsyncIterator[WorkersAI]:
    """A client on its own session or on that of the user, which stays open."""
    if session == "the client's session":
        yield fake.client(**options)
        return
    async with aiohttp.ClientSession() as own:
        yield fake.client(session=own, **options)
        assert not own.closed


SESSIONS = ["the client's session", "the user's session"]


@pytest.mark.parametrize("session", SESSIONS)
@pytest.mark.parametrize("name", WAITS)
async def test_closing_ends_a_call_at_once(fake: FakeWorkersAI, name: str, session: str) -> None:
    """With a `ConfigError`, whatever the call waits for."""
    start = WAITS[name](fake)
    async with client_of(fake, session) as client:
        call = asyncio.ensure_future(start(client))
        await fake.until(lambda: fake.requests)
        for _ in range(10):  # The answer, if there is one, is read.
            await asyncio.sleep(0)
        await client.aclose()
        with pytest.raises(ConfigError, match="the client was closed"):
            async with asyncio.timeout(10):
                await call
    await fake.until(lambda: fake.connections == 0)


@pytest.mark.parametrize("session", SESSIONS)
@pytest.mark.parametrize("options", [{"limit": 1}, {"concurrency": 1}])
async def test_closing_ends_calls_that_were_not_sent(
    fake: FakeWorkersAI, session: str, options: dict[str, Any]
) -> None:
    """They wait for a slot, or for a permit of the throttle."""
    fake.always.stalls()
    async with client_of(fake, session, **options) as client:
        calls = [asyncio.create_task(client.run(MODEL, "Hello?")) for _ in range(3)]
        await fake.until(lambda: fake.requests)
        await client.aclose()
        ended = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in ended] == [ConfigError] * 3
    assert len(fake.requests) == 1


@pytest.mark.parametrize("session", SESSIONS)
@pytest.mark.parametrize("is_read", [False, True])
async def test_closing_ends_a_queued_job_that_collects_a_batch(
    fake: FakeWorkersAI, session: str, is_read: bool
) -> None:
    """Its timer has not gone off, so that nothing was sent; its source has more, or has not."""
    given = asyncio.Event()

    async def source() -> AsyncIterator[str]:
        for _ in range(10):
            yield "a"
        given.set()
        if not is_read:
            await asyncio.Event().wait()

    async with client_of(fake, session) as client:
        polling = Polling(base=50)
        job = client.embed_many(M3, source(), mode="queue", polling=polling, batch_size=5)
        call = asyncio.ensure_future(collect(job))
        await given.wait()
        for _ in range(50):  # The requests are in the queue.
            await asyncio.sleep(0)
        await client.aclose()
        with pytest.raises(ConfigError, match="the client was closed"):
            async with asyncio.timeout(10):
                await call
    assert not fake.requests


@pytest.mark.parametrize("session", SESSIONS)
@pytest.mark.parametrize("mode", ["direct", "queue"])
@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("calls_model", [False, True])
async def test_closing_ends_a_job_whose_source_yields_nothing(
    fake: FakeWorkersAI, session: str, mode: Any, count: int, calls_model: bool
) -> None:
    """It waits for an event, or for an answer of the same client."""
    fake.on(MODEL).always.stalls()
    fake.simulates(Service())
    waits, is_closed = asyncio.Event(), False

    async def source() -> AsyncIterator[str]:
        nonlocal is_closed
        try:
            for number in range(count):
                yield str(number)
            waits.set()
            await (client.run(MODEL, "Hello?") if calls_model else asyncio.Event().wait())
        finally:
            is_closed = True

    async with client_of(fake, session) as client:
        polling = Polling(base=0.001)
        job = client.embed_many(M3, source(), mode=mode, polling=polling, batch_size=1)
        call = asyncio.ensure_future(collect(job))
        await waits.wait()
        await fake.until(lambda: job.stats.texts == count)
        await client.aclose()
        with pytest.raises(ConfigError, match="the client was closed"):
            async with asyncio.timeout(10):
                await call
        assert is_closed


@pytest.mark.parametrize("session", SESSIONS)
@pytest.mark.parametrize("stream", [False, True])
async def test_closing_ends_a_run_whose_tool_runs(
    fake: FakeWorkersAI, session: str, stream: bool
) -> None:
    """The tool is cancelled."""
    calls = [{"name": "look_up", "arguments": {}}]
    if stream:
        fake.streams({"tool_calls": calls})
    else:
        fake.answers({"tool_calls": calls})
    starts, is_cancelled = asyncio.Event(), False

    async def look_up() -> str:
        nonlocal is_cancelled
        starts.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            is_cancelled = True
            raise
        return "never"

    async with client_of(fake, session) as client:
        running = client.run_tools(MODEL, "Hello?", tools=[look_up], stream=stream)
        call = asyncio.ensure_future(collect(running))
        await starts.wait()
        await client.aclose()
        with pytest.raises(ConfigError, match="the client was closed"):
            async with asyncio.timeout(10):
                await call
        assert is_cancelled


@pytest.mark.parametrize("session", SESSIONS)
async def test_closing_interrupts_open_streams(fake: FakeWorkersAI, session: str) -> None:
    """`StreamInterrupted` has the answer so far."""
    fake.streams("Hel", asyncio.Event())
    async with client_of(fake, session) as client, client.stream(MODEL, "Hello?") as tokens:
        assert str(await anext(tokens)) == "Hel"
        reading = asyncio.ensure_future(anext(tokens))
        await asyncio.sleep(0)
        await client.aclose()
        with pytest.raises(StreamInterrupted, match="the client was closed") as caught:
            await reading
        assert caught.value.answer.text == "Hel"


@pytest.mark.parametrize("session", SESSIONS)
async def test_closing_interrupts_open_sounds(fake: FakeWorkersAI, session: str) -> None:
    fake.says(b"ID3", asyncio.Event(), content_type="audio/mpeg", framing="chunked")
    task = SpeechSynthesis("Hello")
    async with client_of(fake, session) as client, client.audio(SPEAKER, task) as sound:
        assert await anext(sound) == b"ID3"
        reading = asyncio.ensure_future(anext(sound))
        await asyncio.sleep(0)
        await client.aclose()
        with pytest.raises(ConnectionLost, match="the client was closed"):
            await reading


async def test_a_cancellation_by_somebody_else_wins(fake: FakeWorkersAI) -> None:
    """The task ends as cancelled, and nobody's cancellation is lost."""
    fake.stalls()
    client = fake.client()
    call = asyncio.create_task(client.run(MODEL, "Hello?"))
    await fake.until(lambda: fake.requests)
    call.cancel()
    await client.aclose()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_another_client_on_the_same_session_goes_on(fake: FakeWorkersAI) -> None:
    go = asyncio.Event()
    fake.always.answers({"response": "Hello"}, after=go)
    async with aiohttp.ClientSession() as session:
        closed, other = fake.client(session=session), fake.client(session=session)
        calls = [asyncio.create_task(ai.run(MODEL, "Hello?")) for ai in (closed, other)]
        await fake.until(lambda: len(fake.requests) == 2)
        await closed.aclose()
        go.set()
        with pytest.raises(ConfigError):
            await calls[0]
        assert (await calls[1]).text == "Hello"


async def test_a_closed_client_leaves_its_tasks_alone(fake: FakeWorkersAI) -> None:
    """A task whose call was ended can go on, and is not cancelled later."""
    fake.stalls()
    client = fake.client()

    async def work() -> str:
        with pytest.raises(ConfigError):
            await client.run(MODEL, "Hello?")
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()
        return "done"

    task = asyncio.create_task(work())
    await fake.until(lambda: fake.requests)
    await client.aclose()
    assert await task == "done"
