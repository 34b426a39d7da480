"""Threads for models: bounded, told when nobody waits, and gone when closed."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from cfai.local.backends.roles import Ask, Ending, Hear, Stopped
from cfai.local.crew import Crew, Generation
from cfai.local.faults import Fault


@pytest.fixture
async def crew() -> AsyncIterator[Crew]:
    crew = Crew("test", size=1, waiting=1)
    yield crew
    await crew.close()


async def test_work_beyond_the_queue_is_refused_until_there_is_room(crew: Crew) -> None:
    gate = threading.Event()
    running, waiting = crew.start(gate.wait), crew.start(gate.wait)
    with pytest.raises(Fault) as caught:
        crew.start(gate.wait)
    assert (caught.value.status, caught.value.code) == (429, 3040)
    gate.set()
    assert await running
    assert await waiting
    assert await crew.run(lambda _: "room") == "room"


async def test_work_that_must_not_wait_is_refused_where_all_are_busy(crew: Crew) -> None:
    gate = threading.Event()
    running = crew.start(gate.wait, only_if_free=True)
    with pytest.raises(Fault, match="try again"):
        crew.start(gate.wait, only_if_free=True)
    gate.set()
    await running


async def test_work_is_told_when_nobody_waits_for_it(crew: Crew) -> None:
    begun, told = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def work(stopped: Stopped) -> None:
        loop.call_soon_threadsafe(begun.set)
        while not stopped():
            told.wait(0.001)
        told.set()

    task = asyncio.create_task(crew.run(work))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await crew.close()
    assert told.is_set()


async def test_a_closed_crew_has_no_threads_left() -> None:
    before = threading.active_count()
    crew = Crew("test", size=3, waiting=0)
    await asyncio.gather(*(crew.run(lambda _: None) for _ in range(3)))
    await crew.close()
    assert threading.active_count() == before


class Parrot:
    """A writer of one word, over and over, until it is told to stop."""

    name = "parrot"

    def write(self, ask: Ask, hear: Hear) -> Ending:
        said = 0
        while not hear("word "):
            said += 1
        return Ending("stopped", 1, said)


async def test_leaving_a_generation_stops_the_writer(crew: Crew) -> None:
    generation = Generation(Parrot, Ask("go on", max_tokens=1))
    ending = generation.start(crew, only_if_free=False)
    async with generation:
        assert await anext(generation) == "word "
        assert generation.backend == "parrot"
    assert (await ending).reason == "stopped"


async def test_a_generation_left_before_it_began_writes_nothing(crew: Crew) -> None:
    gate = threading.Event()
    running = crew.start(gate.wait)
    generation = Generation(Parrot, Ask("go on", max_tokens=1))
    ending = generation.start(crew, only_if_free=False)
    async with generation:
        pass
    gate.set()
    await running
    assert await ending == Ending("stopped", 0, 0)


async def test_a_writer_that_fails_ends_the_text_with_its_error(crew: Crew) -> None:
    def missing() -> Parrot:
        raise LookupError("no parrot")

    generation = Generation(missing, Ask("go on", max_tokens=1))
    ending = generation.start(crew, only_if_free=False)
    async with generation:
        assert [piece async for piece in generation] == []
    with pytest.raises(LookupError, match="no parrot"):
        await ending
