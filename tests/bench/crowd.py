"""Many requests against a service that refuses: `python -m tests.bench.crowd`.

Its figures are seconds on the wall, losses and refusals, where those of the other rows are
processor time.
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
    """What became of a contender's requests."""

    name: str
    seconds: float
    lost: int
    sent: int
    refused: int


def ideal(requests: int) -> float:
    """The seconds that nobody can beat: a full bucket at once, and then the rate."""
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
    """A simulated service of its own process: where it is, and what it counted in the end."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,))
    process.start()

    def counted() -> tuple[int, int]:
        ours.send(None)
        counts: tuple[int, int] = ours.recv()
        return counts

    try:
        yield ours.recv(), counted
    finally:
        process.join(10)


Work = Callable[[str, int], Awaitable[int]]
"""Makes that many requests at an address; gives how many were answered."""


def _texts(requests: int) -> list[str]:
    return [f"text {number}" for number in range(requests)]


def job(**options: object) -> Work:
    """`embed_many`, a text in each request."""
    chosen: Any = options

    async def work(base_url: str, requests: int) -> int:
        async with WorkersAI(account_id="a", api_token="t", base_url=base_url) as ai:
            many = ai.embed_many(MODEL, _texts(requests), batch_size=1, **chosen)
            return len(await many.numpy())

    return work


def official(at_once: int | None) -> Work:
    """`gather` over the official package, with a semaphore or without, and its own two retries."""

    async def work(base_url: str, requests: int) -> int:
        from cloudflare import AsyncCloudflare

        places = asyncio.Semaphore(at_once or requests)
        async with AsyncCloudflare(api_token="t", base_url=base_url) as client:

            async def one(text: str) -> None:
                async with places:
                    await client.ai.run("bge-m3", account_id="a", text=[text])

            calls = [one(text) for text in _texts(requests)]
            done = await asyncio.gather(*calls, return_exceptions=True)
        return sum(not isinstance(result, BaseException) for result in done)

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
    """Let one contender work, against a service of its own."""
    with _service() as (base_url, counted):
        began = time.monotonic()
        answered = _answered(CONTENDERS[name], base_url, requests)
        seconds = time.monotonic() - began
        sent, refused = counted()
    return Outcome(name, round(seconds, 2), requests - answered, sent, refused)


def _answered(work: Work, base_url: str, requests: int) -> int:
    async def begin() -> int:
        return await work(base_url, requests)

    return asyncio.run(begin())


def main() -> None:
    """Run them all, one after the other, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.crowd", description=__doc__)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--json", action="store_true", help="a line of JSON for each")
    options = parser.parse_args()
    print(f"{options.requests} requests; the ideal is {ideal(options.requests):.1f} s")
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
