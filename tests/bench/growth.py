"""How the cost of a call grows with its size: `python -m tests.bench.growth`.

The processor time of the client per unit, for more requests in flight, longer answers, longer
streams, and jobs whose texts are all in the checkpoint. It should stay about the same.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from array import array
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from pathlib import Path

from cfai import Prompt, WorkersAI
from cfai.embedding.checkpoint import Checkpoint, text_hash
from cfai.testing import FakeWorkersAI, Recorded, Reply

from .contender import EMBEDDER, MODEL
from .memory import service

IN_FLIGHT = (1, 8, 64, 500)
CALLS = 2_000
BYTES = (1_000, 100_000, 10_000_000, 100_000_000)
EVENTS = (1, 1_000, 1_000_000)
KNOWN = (10_000, 100_000, 1_000_000)
DIMENSION = 64
ROWS_AT_ONCE = 10_000


@cache
def _answer(characters: int) -> Reply:
    body = json.dumps({"result": {"response": "x" * characters}, "success": True, "errors": []})
    return Reply((body,), headers={"Content-Type": "application/json"}, framing="length")


@cache
def _stream(events: int) -> Reply:
    thousand = b'data: {"response":" token"}\n\n' * min(events, 1_000)
    parts = [thousand] * max(1, events // 1_000)
    headers = {"Content-Type": "text/event-stream"}
    return Reply((*parts, b"data: [DONE]\n\n"), headers=headers, framing="chunked")


def _reply(request: Recorded) -> Reply:
    """The prompt is the length of the answer."""
    body = request.json()
    size = int(body["prompt"])
    return _stream(size) if body.get("stream") else _answer(size)


def _script(fake: FakeWorkersAI) -> None:
    fake.always.answers_by(_reply)


async def _seconds(work: Callable[[], Awaitable[None]]) -> float:
    """The processor time of *work*, which ran before."""
    await work()
    start = time.process_time()
    await work()
    return time.process_time() - start


async def measure_in_flight(ai: WorkersAI, in_flight: int) -> float:
    """Microseconds per call."""
    calls = max(in_flight, CALLS - CALLS % in_flight)

    async def one_after_the_other() -> None:
        for _ in range(calls // in_flight):
            await ai.run(MODEL, Prompt("10"))

    async def work() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(one_after_the_other())

    return await _seconds(work) / calls * 1e6


async def measure_answer(ai: WorkersAI, size: int) -> float:
    """Nanoseconds per byte of an answer."""

    async def work() -> None:
        assert len((await ai.run(MODEL, Prompt(str(size)))).text) == size

    return await _seconds(work) / size * 1e9


async def measure_stream(ai: WorkersAI, events: int) -> float:
    """Microseconds per event of a stream."""

    async def work() -> None:
        count = 0
        async with ai.stream(MODEL, Prompt(str(events))) as tokens:
            async for _ in tokens:
                count += 1
        assert count >= events

    return await _seconds(work) / events * 1e6


async def fill(path: Path, base_url: str, count: int) -> None:
    """Write a checkpoint with the vectors of *count* texts."""
    facts = {"model": EMBEDDER, "pooling": None, "truncate": None, "endpoint": base_url}
    vector = array("f", [0.5] * DIMENSION)
    checkpoint = await Checkpoint.open(path, facts, retry_failed=False)
    for start in range(0, count, ROWS_AT_ONCE):
        places = range(start, min(count, start + ROWS_AT_ONCE))
        await checkpoint.save([(text_hash(f"text {place}"), vector) for place in places])
    await checkpoint.aclose()


async def measure_known(ai: WorkersAI, path: Path, count: int) -> float:
    """Microseconds per text that is in the checkpoint."""

    async def work() -> None:
        texts = (f"text {place}" for place in range(count))
        job = ai.embed_many(EMBEDDER, texts, checkpoint=path)
        async for _ in job:
            pass
        assert job.stats.known == count

    return await _seconds(work) / count * 1e6


def _print(title: str, unit: str, figures: Sequence[tuple[int, float]]) -> None:
    cells = ", ".join(f"{size:,}: {figure:.3g} {unit}" for size, figure in figures)
    print(f"{title}: {cells}", flush=True)


async def measure(base_url: str, *, quick: bool) -> None:
    """Print a line for each kind of growth; with *quick*, without the largest sizes."""
    last = -1 if quick else None
    async with WorkersAI(account_id="a", api_token="t", base_url=base_url, limit=500) as ai:
        in_flight = [(size, await measure_in_flight(ai, size)) for size in IN_FLIGHT[:last]]
        _print("calls in flight", "µs per call", in_flight)
        answers = [(size, await measure_answer(ai, size)) for size in BYTES[:last]]
        _print("bytes of an answer", "ns per byte", answers)
        streams = [(size, await measure_stream(ai, size)) for size in EVENTS[:last]]
        _print("events of a stream", "µs per event", streams)
        known = []
        with tempfile.TemporaryDirectory() as folder:
            for size in KNOWN[:1] if quick else KNOWN:
                path = Path(folder) / f"{size}.db"
                await fill(path, base_url, size)
                known.append((size, await measure_known(ai, path, size)))
        _print("known texts of a job", "µs per text", known)


def main() -> None:
    """Measure all kinds of growth."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.growth", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="without the largest sizes")
    options = parser.parse_args()
    with service(_script) as base_url:
        asyncio.run(measure(base_url, quick=options.quick))


if __name__ == "__main__":
    main()
