"""Many requests against a rate-limited service: `python -m tests.bench.crowd`.

It reports wall-clock seconds, lost requests and refusals, where the other rows report CPU time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from attrs import asdict, frozen

from cfai import Adaptive, WorkersAI
from cfai.testing import FakeWorkersAI, Service

from .measure import absent

MODEL = "@cf/baai/bge-m3"
SERVICE = Service(per_second=50, burst=50, slots=40, latency=0.2)
REQUESTS = 600


@frozen
class Outcome:
    """The results of a contender's requests."""

    name: str
    seconds: float
    lost: int
    sent: int
    refused: int


def ideal(requests: int) -> float:
    """The minimum possible seconds: a full bucket at once, and then the rate."""
    assert SERVICE.per_second is not None
    return max(0, requests - SERVICE.burst) / SERVICE.per_second + SERVICE.latency


def _serve(pipe: Connection) -> None:
    async def main() -> None:
        async with FakeWorkersAI() as fake:
            simulation = fake.simulates(SERVICE, remembers=False)
            pipe.send(fake.base_url)
            await asyncio.to_thread(pipe.recv)
            pipe.send((simulation.counters.requests, simulation.counters.refusals))

    asyncio.run(main())


@contextmanager
def _service() -> Iterator[tuple[str, Callable[[], tuple[int, int]]]]:
    """A simulated service in its own process: its address, and a function that ends its count."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,))
    process.start()

    def final_counts() -> tuple[int, int]:
        ours.send(None)
        counts: tuple[int, int] = ours.recv()
        return counts

    try:
        yield ours.recv(), final_counts
    finally:
        process.join(10)


Work = Callable[[str, int], Awaitable[int]]
"""Sends that many requests to an address; returns how many were answered."""


def _texts(requests: int) -> list[str]:
    return [f"text {number}" for number in range(requests)]


def job(**options: object) -> Work:
    """`embed_many` with one text per request."""
    job_options: Any = options

    async def work(base_url: str, requests: int) -> int:
        async with WorkersAI(account_id="a", api_token="t", base_url=base_url) as ai:
            many = ai.embed_many(MODEL, _texts(requests), batch_size=1, **job_options)
            return len(await many.numpy())

    return work


def official(concurrency: int | None) -> Work:
    """`gather` over the official package, with or without a semaphore, with its own two retries."""

    async def work(base_url: str, requests: int) -> int:
        from cloudflare import AsyncCloudflare

        semaphore = asyncio.Semaphore(concurrency or requests)
        async with AsyncCloudflare(api_token="t", base_url=base_url) as client:

            async def embed(text: str) -> None:
                async with semaphore:
                    await client.ai.run("bge-m3", account_id="a", text=[text])

            calls = [embed(text) for text in _texts(requests)]
            results = await asyncio.gather(*calls, return_exceptions=True)
        return sum(not isinstance(result, BaseException) for result in results)

    return work


CONTENDERS: dict[str, Work] = {
    "cfai embed_many": job(),
    "cfai, rate=None": job(rate=None),
    "cfai, rate=None, concurrency=Adaptive(start=1)": job(rate=None, concurrency=Adaptive(start=1)),
    "cfai, rate=None, concurrency=64": job(rate=None, concurrency=64),
    "cloudflare, gather": official(None),
    "cloudflare, gather and a semaphore of 64": official(64),
}


def run(name: str, requests: int) -> Outcome:
    """Run one contender against a service of its own."""
    with _service() as (base_url, final_counts):
        start = time.monotonic()
        answered = _count_answered(CONTENDERS[name], base_url, requests)
        seconds = time.monotonic() - start
        sent, refused = final_counts()
    return Outcome(name, round(seconds, 2), requests - answered, sent, refused)


def _count_answered(work: Work, base_url: str, requests: int) -> int:
    async def main() -> int:
        return await work(base_url, requests)

    return asyncio.run(main())


def main() -> None:
    """Run all contenders, one after the other, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.crowd", description=__doc__)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--json", action="store_true", help="print one line of JSON per contender")
    options = parser.parse_args()
    print(f"{options.requests} requests; the minimum is {ideal(options.requests):.1f} s")
    for name in CONTENDERS:
        if name.startswith("cloudflare") and absent(("cloudflare",)):
            continue
        outcome = run(name, options.requests)
        if options.json:
            print(json.dumps(asdict(outcome)), flush=True)
        else:
            print(
                f"{outcome.name:48} {outcome.seconds:6.2f} s  lost {outcome.lost:4}"
                f"  sent {outcome.sent:5}  refused {outcome.refused:5}",
                flush=True,
            )


if __name__ == "__main__":
    main()
