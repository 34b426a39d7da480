"""How long decoding a large response blocks other tasks: `python -m tests.bench.stall`.

A task that does nothing but yield measures the longest gap between two of its turns, while another
task decodes a response in one of several ways, in rounds. On a busy machine, other programs cause
gaps as well; the minimum then says more than the median.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from array import array
from collections.abc import Awaitable, Callable
from contextlib import suppress
from statistics import median

import orjson

from cfai._wire.answers import AnswerSpec, read_answer
from cfai._wire.responses import Response, read_meta
from cfai._wire.vectors import VectorDecoder
from cfai.tasks import Answer, Embeddings

DIMENSION = 1024
_HEADERS = {"Content-Type": "application/json"}

Way = Callable[[bytes], Awaitable[int]]
"""Decodes a response; returns the count of numbers in it."""


def body(texts: int) -> bytes:
    """A response with the vectors of *texts* texts."""
    chance = random.Random(20)
    rows = [[round(chance.gauss(0, 0.03), 14) for _ in range(DIMENSION)] for _ in range(texts)]
    result = {"shape": [texts, DIMENSION], "data": rows, "pooling": "cls"}
    document = {"result": result, "success": True, "errors": [], "messages": []}
    return json.dumps(document, separators=(",", ":")).encode()


def _by_orjson(data: bytes) -> int:
    buffer = array("f")
    for row in orjson.loads(data)["result"]["data"]:
        buffer.fromlist(row)
    return len(buffer)


async def _simdjson(data: bytes) -> int:
    import numpy as np
    import simdjson

    numbers = simdjson.Parser().parse(data).at_pointer("/result/data").as_buffer(of_type="d")
    return np.frombuffer(numbers).astype(np.float32).size


async def _at_once(data: bytes) -> int:
    return _by_orjson(data)


async def _in_a_thread(data: bytes) -> int:
    return await asyncio.to_thread(_by_orjson, data)


def _read(data: bytes, vectors: VectorDecoder) -> Answer:
    response = Response(200, _HEADERS, data, read_meta(200, _HEADERS, attempts=1, elapsed=0))
    return read_answer(AnswerSpec(Embeddings), vectors.wrap(response))


async def _in_slices(data: bytes) -> int:
    vectors = VectorDecoder()
    answer = _read(data, vectors)
    for _ in vectors.steps():
        await asyncio.sleep(0)
    assert isinstance(answer, Embeddings)
    return len(answer.buffer)


async def _slices_in_a_thread(data: bytes) -> int:
    def read() -> int:
        vectors = VectorDecoder()
        answer = _read(data, vectors)
        for _ in vectors.steps():
            pass
        assert isinstance(answer, Embeddings)
        return len(answer.buffer)

    return await asyncio.to_thread(read)


WAYS: dict[str, Way] = {
    "at once": _at_once,
    "at once, in a thread": _in_a_thread,
    "in slices, in a thread": _slices_in_a_thread,
    "in slices (cfai)": _in_slices,
}
with suppress(ImportError):
    import simdjson  # noqa: F401  # only to check whether it is installed

    WAYS["at once, by simdjson"] = _simdjson


async def gap(way: Way, data: bytes) -> tuple[float, float]:
    """The longest gap between two turns while *way* decodes, and its CPU time, in seconds."""
    longest = 0.0
    finished = False

    async def turns() -> None:
        nonlocal longest
        last = time.perf_counter()
        while not finished:
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now

    ticking = asyncio.create_task(turns())
    await asyncio.sleep(0)
    longest = 0.0
    count = await way(data)
    finished = True
    await ticking
    assert count % DIMENSION == 0
    start = time.process_time()
    await way(data)
    return longest, time.process_time() - start


async def measure(texts: int, rounds: int) -> None:
    """Print a table for responses with *texts* vectors."""
    data = body(texts)
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    for way in WAYS.values():
        await way(data)
    for _ in range(rounds):
        for name, way in random.sample(sorted(WAYS.items()), len(WAYS)):
            results[name].append(await gap(way, data))
    print(f"{texts} vectors of {DIMENSION} numbers, {len(data) / 1e6:.1f} MB, {rounds} rounds")
    for name, figures in results.items():
        gaps, cpu = ([1e3 * each for each in column] for column in zip(*figures, strict=True))
        print(
            f"  {name:24} longest gap {median(gaps):6.2f} ms, minimum {min(gaps):6.2f} ms;"
            f"  CPU time {median(cpu):6.2f} ms"
        )


def main() -> None:
    """Measure a direct response, and one of the queue."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.stall", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    for texts in (100, 1000):
        asyncio.run(measure(texts, max(2, options.rounds * 100 // texts)))


if __name__ == "__main__":
    main()
