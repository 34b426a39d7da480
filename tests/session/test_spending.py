"""What a client's calls cost: the sum of what the service reports, and the budget."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from cfai import (
    BudgetExceeded,
    Conversation,
    ImageClassification,
    Polling,
    Prompt,
    Rerank,
    SpeechSynthesis,
    Spent,
    TextToImage,
    WorkersAI,
    user,
)
from cfai._session.session import Spending
from cfai.errors import DecodeError, InputError, ServerError, StreamInterrupted
from cfai.settings import Options, Retries, Retry
from cfai.testing import FakeWorkersAI

LLAMA = "@cf/meta/llama-3.1-8b-instruct-fast"
BGE = "@cf/baai/bge-m3"
AURA = "@cf/deepgram/aura-1"
SOON = Polling(base=0.01)
VECTORS = {"shape": [1, 2], "data": [[1.0, 2.0]]}


# Adding


@pytest.mark.parametrize("neurons", [None, -1.0, float("nan"), float("inf")])
def test_an_unusable_cost_is_unreported(neurons: float | None) -> None:
    """One bad number does not spoil the sum."""
    spending = Spending()
    spending.add(0.5)
    spending.add(neurons)
    assert spending.spent == Spent(0.5, calls=2, unreported=1)


def test_threads_add_to_one_sum() -> None:
    spending = Spending()

    def add() -> None:
        for _ in range(5000):
            spending.add(1.0)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert spending.spent == Spent(20000.0, calls=20000)


@pytest.mark.parametrize("budget", [-1, float("nan"), float("inf"), "10", True, 10**400])
def test_a_budget_is_a_number_of_neurons(empty_environment: None, budget: Any) -> None:
    with pytest.raises(InputError, match=r"budget must be a finite number of neurons, 0 or more"):
        WorkersAI(account_id="a" * 32, api_token="t" * 20, budget=budget)


# What is counted


@pytest.mark.parametrize(
    ("body", "neurons", "unreported"),
    [
        ({"response": "Hi", "usage": {"neurons": 0.25}}, 0.25, 0),
        ({"response": "Hi", "usage": {"prompt_tokens": 3}}, 1.5, 0),
        ({"response": "Hi"}, 1.5, 0),
    ],
)
async def test_a_run_costs_what_its_usage_or_its_header_reports(
    fake: FakeWorkersAI, body: dict[str, Any], neurons: float, unreported: int
) -> None:
    fake.answers(body, headers={"cf-ai-neurons": "1.5"})
    ai = fake.client()
    answer = await ai.run(LLAMA, Prompt("Hi"))
    assert answer.meta.neurons == 1.5
    assert ai.spent == Spent(neurons, calls=1, unreported=unreported)


@pytest.mark.parametrize("header", [None, "", "many", "-1", "nan", "inf"])
async def test_a_run_without_a_usable_cost_is_unreported(
    fake: FakeWorkersAI, header: str | None
) -> None:
    fake.answers({"response": "Hi"}, headers={} if header is None else {"cf-ai-neurons": header})
    ai = fake.client()
    answer = await ai.run(LLAMA, Prompt("Hi"))
    assert answer.meta.neurons is None
    assert ai.spent == Spent(0.0, calls=1, unreported=1)


async def test_a_mapping_costs_what_its_result_reports(fake: FakeWorkersAI) -> None:
    fake.answers({"anything": 1, "usage": {"neurons": 3}})
    ai = fake.client()
    await ai.run("@cf/x/y", {"input": "x"})
    assert ai.spent == Spent(3.0, calls=1)


async def test_media_and_rankings_cost_what_their_header_reports(fake: FakeWorkersAI) -> None:
    """As measured for `@cf/deepgram/aura-1` (github.com/xujialiu/Zotero-TTS, 72)."""
    fake.says(b"ID3\x04" + bytes(60), content_type="audio/mpeg", headers={"cf-ai-neurons": "2.73"})
    fake.answers({"image": "/9j/4AAQ"}, headers={"cf-ai-neurons": "57.6"})
    fake.answers({"response": [{"id": 0, "score": 0.9}]}, headers={"cf-ai-neurons": "0.31"})
    fake.answers([{"label": "cat", "score": 0.9}], headers={"cf-ai-neurons": "0.01"})
    ai = fake.client()
    audio = await ai.run(AURA, SpeechSynthesis("Hi"))
    await ai.run("@cf/black-forest-labs/flux-1-schnell", TextToImage("a cat"))
    await ai.run("@cf/baai/bge-reranker-base", Rerank("q", ["a"]))
    await ai.run("@cf/microsoft/resnet-50", ImageClassification(b"\xff\xd8\xff"))
    assert audio.meta.neurons == 2.73
    assert ai.spent.neurons == pytest.approx(2.73 + 57.6 + 0.31 + 0.01)
    assert (ai.spent.calls, ai.spent.unreported) == (4, 0)


async def test_embeddings_cost_what_their_header_reports(fake: FakeWorkersAI) -> None:
    fake.always.answers(VECTORS, headers={"cf-ai-neurons": "0.5"})
    ai = fake.client()
    await ai.embed(BGE, "one")
    async with ai.embed_many(BGE, ["one", "two"], batch_size=1) as job:
        assert [batch async for batch in job]
    assert ai.spent == Spent(1.5, calls=3)


async def test_a_failed_call_costs_nothing(fake: FakeWorkersAI) -> None:
    fake.fails(500, 8005, "no")
    ai = fake.client(retries=Retries(max=0))
    with pytest.raises(ServerError):
        await ai.run(LLAMA, Prompt("Hi"))
    assert ai.spent == Spent()


@pytest.mark.parametrize(
    "body",
    [b"{", b'{"result":{"data":[["x"]]},"success":true}', b'{"result":{"data":[[1],[1,2]]}}'],
)
async def test_an_answer_that_cannot_be_read_costs_what_its_header_reports(
    fake: FakeWorkersAI, body: bytes
) -> None:
    """Once, however far it was read."""
    fake.says(body, headers={"cf-ai-neurons": "1.5"})
    ai = fake.client()
    with pytest.raises(DecodeError):
        await ai.embed(BGE, "one")
    assert ai.spent == Spent(1.5, calls=1)


async def test_copies_share_the_sum(fake: FakeWorkersAI) -> None:
    fake.always.answers({"response": "Hi"}, headers={"cf-ai-neurons": "1"})
    ai = fake.client()
    copy = ai.with_options(headers={"X-Team": "search"})
    await ai.run(LLAMA, Prompt("Hi"))
    await copy.run(LLAMA, Prompt("Hi"))
    assert ai.spent == copy.spent == Spent(2.0, calls=2)


async def test_each_turn_of_a_tool_run_is_counted(fake: FakeWorkersAI) -> None:
    def now() -> str:
        """Tell the time."""
        return "noon"

    fake.answers({"tool_calls": [{"name": "now", "arguments": {}}], "usage": {"neurons": 1}})
    fake.answers({"response": "It is noon.", "usage": {"neurons": 2}})
    ai = fake.client()
    await ai.run_tools(LLAMA, Conversation().user("Time?"), tools=[now])
    assert ai.spent == Spent(3.0, calls=2)


# Streams


async def test_a_stream_is_counted_when_it_ends(fake: FakeWorkersAI) -> None:
    fake.streams("Hel", "lo", {"response": "", "usage": {"neurons": 0.75}})
    ai = fake.client()
    async with ai.stream(LLAMA, Prompt("Hi")) as tokens:
        await anext(tokens)
        assert ai.spent == Spent()
        await tokens.collect()
        assert ai.spent == Spent(0.75, calls=1)
    assert ai.spent == Spent(0.75, calls=1)


@pytest.mark.parametrize("how", ["leave", "cancel", "drop"])
async def test_a_stream_that_is_left_early_costs_what_had_arrived(
    fake: FakeWorkersAI, how: str
) -> None:
    first = {"response": "Hel", "usage": {"neurons": 0.25}}
    fake.streams(first, asyncio.Event(), headers={"cf-ai-neurons": "9"})
    ai = fake.client()
    tokens = ai.stream(LLAMA, Prompt("Hi"))
    await anext(tokens)
    if how == "leave":
        await tokens.aclose()
    elif how == "cancel":
        tokens.cancel()
    del tokens
    assert ai.spent == Spent(0.25, calls=1)


async def test_a_stream_that_is_cut_costs_what_had_arrived(fake: FakeWorkersAI) -> None:
    fake.streams("Hel", headers={"cf-ai-neurons": "9"}, then_hangs_up=True)
    ai = fake.client()
    with pytest.raises(StreamInterrupted):
        await ai.stream(LLAMA, Prompt("Hi")).collect()
    assert ai.spent == Spent(9.0, calls=1)


async def test_a_stream_that_never_began_is_not_counted(fake: FakeWorkersAI) -> None:
    fake.fails(500, 8005, "no")
    ai = fake.client(retries=Retries(max=0))
    await ai.stream(LLAMA, Prompt("Hi")).aclose()
    with pytest.raises(ServerError):
        await ai.stream(LLAMA, Prompt("Hi")).collect()
    assert ai.spent == Spent()


async def test_raw_events_cost_what_the_header_reports(fake: FakeWorkersAI) -> None:
    fake.streams("Hello", headers={"cf-ai-neurons": "4"})
    ai = fake.client()
    async with ai.stream(LLAMA, Prompt("Hi")) as tokens:
        assert [event async for event in tokens.events()]
    assert ai.spent == Spent(4.0, calls=1)


async def test_a_stream_that_was_not_requested_is_counted_once(fake: FakeWorkersAI) -> None:
    usage = {"response": "", "usage": {"neurons": 0.5}}
    fake.streams("Hello", usage).streams("Hello", usage)
    ai = fake.client()
    await ai.run(LLAMA, Prompt("Hi"))
    tokens = await ai.run(LLAMA, {"prompt": "Hi"})
    assert ai.spent == Spent(0.5, calls=1)
    await tokens.collect()
    assert ai.spent == Spent(1.0, calls=2)


async def test_an_answer_that_does_not_stream_is_counted_once(fake: FakeWorkersAI) -> None:
    fake.answers({"response": "Hello", "usage": {"neurons": 0.5}})
    ai = fake.client()
    await ai.stream(LLAMA, Prompt("Hi")).collect()
    assert ai.spent == Spent(0.5, calls=1)


# The queue


def rows(*results: Any) -> list[dict[str, Any]]:
    return [{"id": i, "result": result, "success": True} for i, result in enumerate(results)]


@pytest.mark.parametrize(
    ("usages", "total", "header", "expected"),
    [
        ([1, 2], None, None, Spent(3.0, calls=2)),
        ([1, None], None, "9", Spent(1.0, calls=2, unreported=1)),
        ([1, 2], 4, "9", Spent(4.0, calls=2)),
        ([None, None], None, "9", Spent(9.0, calls=2)),
        ([None, None], None, None, Spent(0.0, calls=2, unreported=2)),
    ],
)
async def test_a_batch_is_counted_when_its_items_arrive(
    fake: FakeWorkersAI,
    usages: Sequence[float | None],
    total: float | None,
    header: str | None,
    expected: Spent,
) -> None:
    """The header of a response with many items is not the cost of each."""
    headers = {} if header is None else {"cf-ai-neurons": header}
    results = [
        {"response": "Hi"} | ({} if cost is None else {"usage": {"neurons": cost}})
        for cost in usages
    ]
    done = {"responses": rows(*results)} | ({} if total is None else {"usage": {"neurons": total}})
    fake.answers({"status": "queued", "request_id": "batch"}, headers=headers)
    fake.answers(done, headers=headers)
    ai = fake.client()
    batch = await ai.queue(LLAMA, [Prompt("Hi"), Prompt("Ho")])
    assert ai.spent == Spent()
    await batch.poll()
    await batch.poll()
    assert ai.spent == expected


# The budget


async def test_a_used_up_budget_refuses_before_sending(fake: FakeWorkersAI) -> None:
    """Every kind of call that may cost something, on the client and on its copies."""
    fake.answers({"response": "Hi"}, headers={"cf-ai-neurons": "2.5"})
    ai = fake.client(budget=2.5)
    await ai.run(LLAMA, Prompt("Hi"))
    for client in (ai, ai.with_options(headers={"X-Team": "search"})):
        for call in (
            client.run(LLAMA, Prompt("Hi")),
            client.run(LLAMA, {"prompt": "Hi"}),
            client.stream(LLAMA, Prompt("Hi")).collect(),
            client.run(LLAMA, Prompt("Hi"), stream=True),
            client.embed(BGE, "one"),
            client.queue(LLAMA, [Prompt("Hi")]),
            client.parse(LLAMA, Prompt("Hi"), into=dict[str, int]),
        ):
            with pytest.raises(BudgetExceeded) as caught:
                await call
            assert (caught.value.budget, caught.value.spent) == (2.5, 2.5)
            assert "2.5 of 2.5 neurons" in str(caught.value)
            assert "larger budget" in str(caught.value)
        with pytest.raises(BudgetExceeded):
            await client.run_tools(LLAMA, [user("Hi")], tools=[])
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    "options", [{"concurrency": 1}, {"limit": 1}, {"concurrency": 1, "limit": 1}]
)
async def test_calls_that_wait_for_their_turn_are_refused_when_it_comes(
    fake: FakeWorkersAI, options: dict[str, Any]
) -> None:
    """The cost of the calls before them is known by then."""
    fake.always.answers({"response": "Hi"}, headers={"cf-ai-neurons": "2"})
    ai = fake.client(budget=3, **options)
    outcomes = await asyncio.gather(
        *(ai.run(LLAMA, Prompt("Hi")) for _ in range(10)), return_exceptions=True
    )
    assert len(fake.requests) == 2
    assert sum(isinstance(outcome, BudgetExceeded) for outcome in outcomes) == 8
    assert ai.spent == Spent(4, 2, 0)


async def test_a_call_is_not_repeated_after_the_budget_is_used_up(fake: FakeWorkersAI) -> None:
    """By another call, during the delay."""
    retrying = asyncio.Event()

    def report(retry: Retry) -> None:
        retrying.set()

    fake.fails(500, 8005, "Internal Server Error", retry_after=2)
    fake.always.answers({"response": "Hi"}, headers={"cf-ai-neurons": "2"})
    retries = Retries(base=0, on_retry=report)
    ai = fake.client(budget=1)
    failing = asyncio.ensure_future(ai.run(LLAMA, "Hi", options=Options(retries=retries)))
    await retrying.wait()
    await ai.run(LLAMA, "Hi")
    with pytest.raises(BudgetExceeded):
        await failing
    assert len(fake.requests) == 2


async def test_a_budget_of_zero_sends_nothing(fake: FakeWorkersAI) -> None:
    with pytest.raises(BudgetExceeded):
        await fake.client(budget=0).run(LLAMA, Prompt("Hi"))
    assert not fake.requests


async def test_a_used_up_budget_lists_models_and_fetches_batches(fake: FakeWorkersAI) -> None:
    """What was paid for is not withheld."""
    fake.answers({"status": "queued", "request_id": "batch"})
    fake.answers({"response": "Hi"}, headers={"cf-ai-neurons": "2"})
    fake.answers({"responses": rows({"response": "Hi"})})
    ai = fake.client(budget=1)
    batch = await ai.queue(LLAMA, [Prompt("Hi")])
    await ai.run(LLAMA, Prompt("Hi"))
    (item,) = await batch.wait()
    assert item.answer is not None
    assert item.answer.text == "Hi"


@pytest.mark.parametrize("mode", ["direct", "queue"])
@pytest.mark.parametrize("on_error", ["raise", "skip", "yield"])
async def test_a_used_up_budget_ends_an_embedding_job(
    fake: FakeWorkersAI, mode: Any, on_error: Any
) -> None:
    """No text is at fault, so none is skipped."""
    fake.always.answers(VECTORS, headers={"cf-ai-neurons": "2"})
    ai = fake.client(budget=1)
    await ai.embed(BGE, "one")
    with pytest.raises(BudgetExceeded):
        async with ai.embed_many(
            BGE, ["a", "b"], mode=mode, on_error=on_error, polling=SOON
        ) as job:
            async for _ in job:
                pass
    assert len(fake.requests) == 1
