"""Limits of an account: requests in a window, and the daily allocation."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from attrs import define

from cfai import ConfigError, QuotaExceeded, RateLimited, Retries, WorkersAI
from cfai.local import Limits, Server

from .conftest import LLAMA, Local, Reply, running

BERT = "@cf/huggingface/distilbert-sst-2-int8"
GOOD = {"text": "good"}


@define
class Clock:
    """A clock that the test sets."""

    now: float = datetime(2026, 11, 29, 23, 59, tzinfo=UTC).timestamp()

    def __call__(self) -> float:
        return self.now


async def ask(local: Local, account: str = "0", method: str = "POST") -> Reply:
    path = f"run/{BERT}" if method == "POST" else "models/search"
    url = f"{local.server.base_url}/accounts/{account}/ai/{path}"
    async with local.http.request(method, url, json=GOOD) as response:
        return Reply(response.status, response.headers, await response.read())


async def test_the_requests_of_a_window_are_counted_and_limited() -> None:
    """Cloudflare docs, Fundamentals, API, "Rate limits": `"default";r=50;t=30` and
    `"burst";q=100;w=60`."""
    clock = Clock(1_200_000_000.5)
    async with running(limits=Limits(requests=2, window=60, clock=clock)) as local:
        replies = [await ask(local), await ask(local, method="GET"), await ask(local)]
        assert [reply.status for reply in replies] == [200, 200, 429]
        assert [reply.headers["Ratelimit"] for reply in replies] == [
            '"default";r=1;t=60',
            '"default";r=0;t=60',
            '"default";r=0;t=60',
        ]
        assert {reply.headers["Ratelimit-Policy"] for reply in replies} == {'"default";q=2;w=60'}
        assert [reply.headers.get("Retry-After") for reply in replies] == [None, None, "60"]
        assert replies[2].error[:2] == (429, 90006)
        # Another account has its own.
        assert (await ask(local, account="1")).status == 200
        clock.now += 59.5
        assert (await ask(local)).headers["Ratelimit"] == '"default";r=1;t=60'


@pytest.mark.parametrize("limit", ["requests_per_day", "neurons_per_day"])
async def test_the_day_ends_at_midnight_utc(limit: str) -> None:
    clock = Clock()
    limits: dict[str, Any] = {limit: 1e-9}
    async with running(limits=Limits(clock=clock, **limits)) as local:
        assert (await ask(local)).status == 200
        refused = await ask(local)
        assert refused.error[:2] == (429, 3036)
        assert "Retry-After" not in refused.headers
        # Lists cost nothing.
        assert (await ask(local, method="GET")).status == 200
        clock.now += 59
        assert (await ask(local)).status == 429
        clock.now += 1
        assert (await ask(local)).status == 200


async def test_only_answers_are_charged() -> None:
    async with running(limits=Limits(requests_per_day=1)) as local:
        assert (await local.post(BERT, {})).status == 400
        assert (await ask(local)).status == 200
        assert (await ask(local)).status == 429


async def test_a_whole_answer_has_its_cost() -> None:
    """Recorded from the service: 39 prompt tokens cost 1.04 neurons, and each further one
    0.2048."""
    async with running(limits=Limits(neurons_per_day=10_000)) as local:
        reply = await local.post(LLAMA, {"prompt": "Hi", "max_tokens": 4})
        usage = reply.result["usage"]
        cost = usage["prompt_tokens"] * 1.04 / 39 + usage["completion_tokens"] * 0.2048
        assert float(reply.headers["cf-ai-neurons"]) == pytest.approx(cost, abs=1e-4)
        assert float((await ask(local)).headers["cf-ai-neurons"]) > 0
        assert "cf-ai-neurons" not in (await ask(local, method="GET")).headers
    async with running(limits=Limits(requests=5)) as local:
        assert "cf-ai-neurons" not in (await ask(local)).headers


@pytest.mark.parametrize("size", [15, 1560])
async def test_other_answers_are_charged_by_the_size_of_the_request(size: int) -> None:
    """Four bytes count as a token, however the body is sent: 1,560 bytes are 390 tokens, which cost
    10.4 neurons."""
    body = orjson.dumps({"text": "x" * (size - 11)})
    assert len(body) == size

    async def pieces() -> AsyncIterator[bytes]:
        yield body[:7]
        yield body[7:]

    async with running(limits=Limits(neurons_per_day=10_000)) as local:
        costs = []
        for options in ({"data": body}, {"data": pieces()}, {"data": body, "compress": "gzip"}):
            async with local.http.post(local.url(BERT), **options) as response:
                assert response.status == 200
                costs.append(response.headers["cf-ai-neurons"])
        assert set(costs) == {f"{size / 150:.4f}"}


async def test_a_limit_can_be_zero() -> None:
    for limits in (Limits(requests=0), Limits(requests_per_day=0), Limits(neurons_per_day=0)):
        async with running(limits=limits) as local:
            assert (await ask(local)).status == 429


async def test_a_day_has_so_many_answers_and_no_more() -> None:
    """And one account's do not count for another."""
    clock = Clock()
    async with running(limits=Limits(requests_per_day=2, clock=clock)) as local:
        assert [(await ask(local)).status for _ in range(3)] == [200, 200, 429]
        assert "free allocation of 2 requests" in (await ask(local)).error[2]
        assert [(await ask(local, "1")).status for _ in range(3)] == [200, 200, 429]
        clock.now += 60
        assert [(await ask(local)).status for _ in range(3)] == [200, 200, 429]


async def test_a_used_up_allocation_is_named() -> None:
    async with running(limits=Limits(neurons_per_day=1234.5)) as local:
        body = {"text": "x" * 19_000}
        while (reply := await local.post(BERT, body)).status == 200:
            assert float(reply.headers["cf-ai-neurons"]) == pytest.approx(19_011 / 150, abs=1e-4)
        assert reply.error[1] == 3036
        assert "free allocation of 1,234.5 neurons" in reply.error[2]
        assert sum(exchange.status == 200 for exchange in local.server.requests) == 10


async def test_streamed_texts_are_charged_when_they_end() -> None:
    async with running(limits=Limits(neurons_per_day=0.1)) as local:
        body = {"prompt": "Count to ten.", "max_tokens": 4, "stream": True}
        assert (await local.post(LLAMA, body)).body.endswith(b"data: [DONE]\n\n")
        await local.done()
        assert (await local.post(LLAMA, body)).error[:2] == (429, 3036)


def client(server: Server, **options: Any) -> WorkersAI:
    return WorkersAI(**server.credentials, retries=Retries(max=0), **options)


async def test_our_client_reads_the_limits() -> None:
    limits = Limits(requests=2, neurons_per_day=1e-9)
    async with Server(limits=limits) as server, client(server) as ai:
        answer = await ai.run(BERT, GOOD)
        assert answer.meta.neurons
        assert answer.meta.rate_limit_policy == '"default";q=2;w=300'
        with pytest.raises(QuotaExceeded):
            await ai.run(BERT, GOOD)
        with pytest.raises(RateLimited) as caught:
            await ai.run(BERT, GOOD)
        assert caught.value.retry_after is not None
        assert 0 < caught.value.retry_after <= 300


@pytest.mark.parametrize(
    "options",
    [
        {"requests": -1},
        {"requests_per_day": -1},
        {"neurons_per_day": float("nan")},
        {"neurons_per_day": float("inf")},
        {"window": 0},
        {"window": float("nan")},
    ],
)
def test_invalid_limits_are_refused(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ConfigError, match=f"{name} must be"):
        Limits(**options)
