"""Text generation: streamed or not, reproducible, and stopped when the client leaves."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import orjson
import pytest

from cfai.errors import ConfigError
from cfai.local.backends.roles import GenerationEnd, GenerationRequest, IsCancelled, OnPiece
from cfai.local.backends.smollm2 import PARALLEL
from cfai.local.handlers.generation import Latency, RunningGeneration
from cfai.local.workers import WorkerPool
from tests import virtual_time
from tests.local.conftest import LLAMA, Local, running

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def events(body: bytes) -> list[bytes]:
    assert body.endswith(b"\n\n")
    blocks = body[:-2].split(b"\n\n")
    assert all(block.startswith(b"data: ") for block in blocks)
    return [block.removeprefix(b"data: ") for block in blocks]


def text_of(body: bytes) -> str:
    *pieces, end = events(body)
    assert end == b"[DONE]"
    return "".join(orjson.loads(piece)["response"] for piece in pieces)


@pytest.mark.parametrize(
    "body",
    [
        b'{"prompt":"Say hello.","max_tokens":4}',
        b'{"messages":[{"role":"user","content":"Say hello."}],"max_tokens":4}',
        (
            b'{"messages":[{"role":"user","content":[{"type":"text","text":"Say"},'
            b'{"type":"text","text":"hello."}]}],"max_tokens":4}'
        ),
        b'{"prompt":"Once upon a time","raw":true,"max_tokens":4}',
        b'{"messages":[{"role":"user","content":"Once upon"}],"raw":true,"max_tokens":4}',
        (
            b'{"prompt":"Hi","max_tokens":4,"temperature":0,"top_p":0.5,"top_k":5,"seed":9999999999,'
            b'"repetition_penalty":1.1,"frequency_penalty":0.1,"presence_penalty":-0.1}'
        ),
        (
            b'{"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"},'
            b'{"role":"assistant","content":"Hi!"},{"role":"user","content":"Bye"}],"max_tokens":4,'
            b'"tools":[],"stream":false}'
        ),
    ],
)
async def test_the_answer_has_the_exact_format_of_the_service(local: Local, body: bytes) -> None:
    reply = await local.post(LLAMA, body)
    assert reply.headers["cfai-backend"] == "smollm2-135m-q4_1"
    assert reply.headers["Content-Type"] == "application/json"
    form = (
        rb'\{"result":\{"response":".+","usage":\{"prompt_tokens":(\d+),'
        rb'"completion_tokens":(\d+),"total_tokens":(\d+)\}\},'
        rb'"success":true,"errors":\[\],"messages":\[\]\}'
    )
    match = re.fullmatch(form, reply.body)
    assert match, reply.body
    prompt, written, total = map(int, match.groups())
    assert prompt > 1
    assert 1 <= written <= 4
    assert total == prompt + written


async def test_a_stream_has_the_exact_format_of_the_service(local: Local) -> None:
    reply = await local.post(LLAMA, b'{"prompt":"Say hello.","max_tokens":5,"stream":true}')
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "text/event-stream"
    assert reply.headers["cfai-backend"] == "smollm2-135m-q4_1"
    *pieces, usage, done = events(reply.body)
    assert done == b"[DONE]"
    assert pieces
    assert all(re.fullmatch(rb'\{"response":".+"\}', piece) for piece in pieces)
    assert re.fullmatch(
        rb'\{"response":"","finish_reason":"(stop|length)","usage":\{"prompt_tokens":\d+,'
        rb'"completion_tokens":[1-5],"total_tokens":\d+\}\}',
        usage,
    )


async def test_the_same_seed_gives_the_same_text_with_and_without_streaming(local: Local) -> None:
    body = {"prompt": "Name an animal.", "max_tokens": 12, "temperature": 2, "seed": 7}
    complete = (await local.post(LLAMA, body)).result["response"]
    assert text_of((await local.post(LLAMA, {**body, "stream": True})).body) == complete
    other = [(await local.post(LLAMA, {**body, "seed": seed})).result for seed in (8, 9, 10)]
    assert {answer["response"] for answer in other} != {complete}


async def test_the_same_seed_gives_the_same_text_among_concurrent_requests(local: Local) -> None:
    bodies = [
        {"prompt": f"Name {what}.", "max_tokens": 10, "temperature": 2, "seed": 3}
        for what in ("a colour", "a town", "a tree", "a colour", "a river", "a colour")
    ]
    replies = await asyncio.gather(*(local.post(LLAMA, body) for body in bodies))
    texts = [reply.result["response"] for reply in replies]
    assert texts[0] == texts[3] == texts[5]
    assert len(set(texts)) > 1


async def test_max_tokens_limits_the_text(local: Local) -> None:
    body = {"prompt": "Count to one hundred.", "seed": 1, "stream": True}
    *_, usage, _ = events((await local.post(LLAMA, {**body, "max_tokens": 3})).body)
    last = orjson.loads(usage)
    assert (last["finish_reason"], last["usage"]["completion_tokens"]) == ("length", 3)


@pytest.mark.parametrize(
    ("limits", "length"),
    [
        ({"max_completion_tokens": 3}, 3),
        ({"max_completion_tokens": 3, "max_tokens": 5}, 3),
        ({"max_completion_tokens": 5, "max_tokens": 3}, 3),
    ],
)
async def test_the_lower_limit_counts(local: Local, limits: dict[str, int], length: int) -> None:
    body = {"prompt": "Count to one hundred.", "seed": 1, **limits}
    usage = (await local.post(LLAMA, body)).result["usage"]
    assert usage["completion_tokens"] == length


async def test_without_a_temperature_it_is_that_of_the_docs(local: Local) -> None:
    """0.2: with the service's own, a small model often chooses a wrong word."""
    body = {"prompt": "Write a poem about the sea.", "max_tokens": 24, "seed": 4}
    text = (await local.post(LLAMA, body)).result["response"]
    assert (await local.post(LLAMA, {**body, "temperature": 0.2})).result["response"] == text
    others = [
        (await local.post(LLAMA, {**body, "temperature": value})).result["response"]
        for value in (1.2, 2)
    ]
    assert text not in others


async def test_the_highest_seeds_are_no_random_ones(local: Local) -> None:
    """The highest number of 32 bits means "random" to the library."""
    for seed in (2**32 - 1, 2**32, 2**32 + 1):
        body = {"prompt": "Name three towns.", "max_tokens": 16, "temperature": 2, "seed": seed}
        texts = [(await local.post(LLAMA, body)).result["response"] for _ in range(2)]
        assert texts[0] == texts[1]


async def test_two_generations_run_at_once(local: Local) -> None:
    async with AsyncExitStack() as streams:
        reject = {"options": {"rejectIfBusy": True}}
        for _ in range(2):
            response = await streams.enter_async_context(local.open(LLAMA, {**LONG, **reject}))
            assert response.status == 200
            assert await response.content.readany()
            streams.callback(response.close)
        assert (await local.post(LLAMA, {"prompt": "Hi", **reject})).error[:2] == (429, 3040)


async def test_the_text_ends_before_a_stop_text(local: Local) -> None:
    body = {"prompt": "Count to one hundred.", "seed": 1, "max_tokens": 20}
    text = (await local.post(LLAMA, body)).result["response"]
    word = text.split()[1]
    for stop in (word, [word], ["never written", word]):
        stopped = (await local.post(LLAMA, {**body, "stop": stop})).result["response"]
        assert stopped == text.partition(word)[0]
        streamed = await local.post(LLAMA, {**body, "stop": stop, "stream": True})
        assert text_of(streamed.body) == stopped


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_effort": None},
        {"reasoning_effort": "none"},
        {"chat_template_kwargs": {"enable_thinking": False, "thinking": False}},
        {"chat_template_kwargs": {"clear_thinking": False}},
        {"logprobs": False, "top_logprobs": 0},
        {"tool_choice": "auto", "parallel_tool_calls": False},
        {"tool_choice": "none", "tools": []},
        {"n": 1},
        {"stream_options": {"include_usage": True}, "stream": True},
    ],
)
async def test_fields_that_ask_for_nothing_are_accepted(
    local: Local, fields: dict[str, Any]
) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    reply = await local.post(LLAMA, {"messages": messages, "max_tokens": 1, **fields})
    assert reply.status == 200


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"chat_template_kwargs": {"enable_thinking": True}}, r"chat_template_kwargs\.enable_thi"),
        ({"chat_template_kwargs": {"thinking": True}}, r"chat_template_kwargs\.thinking"),
        ({"chat_template_kwargs": []}, "chat_template_kwargs"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"n": 2}, "n must be 1"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", ""]}, "stop"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"stream_options": {"include_obfuscation": True}}, "stream_options"),
    ],
)
async def test_fields_that_cannot_be_honoured_are_refused(
    local: Local, fields: dict[str, Any], name: str
) -> None:
    """By name, and not ignored."""
    messages = [{"role": "user", "content": "Hi"}]
    status, code, message = (await local.post(LLAMA, {"messages": messages, **fields})).error
    assert (status, code) == (400, 5006)
    assert re.search(name, message)


@pytest.mark.parametrize(
    "response_format",
    [{"type": "json_schema", "json_schema": PERSON}, {"json_schema": PERSON}],
)
@pytest.mark.parametrize("raw", [False, True])
async def test_json_output_is_decoded_and_matches_the_schema(
    local: Local, response_format: dict[str, Any], *, raw: bool
) -> None:
    body = {
        "prompt": "Ana is 31 years old. As JSON:",
        "response_format": response_format,
        "raw": raw,
        "temperature": 0,
        "max_tokens": 100,
    }
    person = (await local.post(LLAMA, body)).result["response"]
    assert set(person) == {"name", "age"}
    assert isinstance(person["age"], int)


async def test_truncated_json_output_is_an_error(local: Local) -> None:
    body = {"prompt": "Hi", "response_format": {"type": "json_object"}, "max_tokens": 1}
    status, _, message = (await local.post(LLAMA, body)).error
    assert status == 400
    assert "JSON Mode couldn't be met" in message


@pytest.mark.parametrize(
    ("response_format", "message"),
    [
        ({"type": "text"}, "response_format"),
        ("json", "response_format"),
        ({"type": "json_schema"}, "response_format must be"),
        ({"type": "json_schema", "json_schema": []}, "response_format must be"),
        (
            {"type": "json_schema", "json_schema": {"name": "p", "schema": PERSON}},
            "must be the schema itself",
        ),
        ({"type": "json_schema", "json_schema": {"type": "nonsense"}}, "nonsense"),
    ],
)
async def test_an_invalid_response_format_is_refused(
    local: Local, response_format: Any, message: str
) -> None:
    status, code, text = (
        await local.post(
            LLAMA, {"prompt": "Hi", "response_format": response_format, "max_tokens": 1}
        )
    ).error
    assert (status, code) == (400, 5006)
    assert message in text


async def test_json_mode_cannot_be_streamed(local: Local) -> None:
    response_format = {"type": "json_object"}
    body = {"prompt": "Hi", "response_format": response_format, "stream": True}
    status, _, message = (await local.post(LLAMA, body)).error
    assert status == 400
    assert "JSON Mode is not supported with streaming" in message


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_longer_than_the_context_is_refused_before_the_response_starts(
    local: Local, *, stream: bool
) -> None:
    status, _, message = (
        await local.post(LLAMA, {"prompt": "word " * 5000, "stream": stream})
    ).error
    assert status == 400
    assert message.startswith("AiError: ")
    assert "context window is 4096" in message


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "x" * 1_000_000},
        {"prompt": "x" * 1_000_000, "raw": True},
        {"messages": [{"role": "user", "content": "x" * 400}] * 1000},
        {"messages": [{"role": "user", "content": ""}] * 5000},
    ],
    ids=["prompt", "raw", "long messages", "many messages"],
)
async def test_a_prompt_far_beyond_the_context_is_refused_before_it_is_tokenized(
    local: Local, body: dict[str, Any]
) -> None:
    """Tokenizing takes about a hundred times the memory of the prompt."""
    status, code, message = (await local.post(LLAMA, body)).error
    assert (status, code) == (400, 5006)
    assert re.search(r"has \d+ bytes in \d+ messages?, more than .* 4096 tokens can hold", message)


async def test_a_prompt_of_the_longest_tokens_is_tokenized(local: Local) -> None:
    """The limit in bytes refuses nothing that fits."""
    prompt = ("\n" + " " * 80) * 4096
    _, _, message = (await local.post(LLAMA, {"prompt": prompt, "raw": True})).error
    assert "has 4096 tokens" in message


@pytest.mark.parametrize("stream", [False, True])
async def test_the_generation_stops_when_the_client_leaves(local: Local, *, stream: bool) -> None:
    body = {"prompt": "Tell a very long story.", "max_tokens": 3000, "stream": stream}
    if stream:
        async with local.open(LLAMA, body) as response:
            assert (await response.content.readany()).startswith(b'data: {"response":"')
            response.close()
    else:
        task = asyncio.create_task(local.post(LLAMA, body))
        async with running() as other:
            # Once this is answered, the other one is running: the model starts them in order.
            await other.post(LLAMA, {"prompt": "Hi", "max_tokens": 1})
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    exchange = await local.done()
    assert exchange.status == (200 if stream else 499)
    assert exchange.ending is not None
    assert exchange.ending.reason == "stopped"
    assert exchange.ending.completion_tokens < 1000


async def test_the_generation_stops_when_the_client_leaves_during_the_prompt(local: Local) -> None:
    async with local.open(LLAMA, {"prompt": "word " * 3500, "stream": True}) as response:
        assert response.status == 200
        response.close()
    exchange = await local.done()
    assert exchange.ending is not None
    assert (exchange.ending.reason, exchange.ending.completion_tokens) == ("stopped", 0)


async def test_aborted_streams_leave_no_threads(local: Local) -> None:
    threads = threading.active_count()
    for _ in range(25):
        async with local.open(LLAMA, LONG) as response:
            await response.content.readany()
            response.close()
    endings = [(await local.done()).ending for _ in range(25)]
    assert {ending.reason for ending in endings if ending} == {"stopped"}
    # The threads stay, but there are never more than concurrent generations.
    assert threading.active_count() <= threads + PARALLEL
    assert (await local.post(LLAMA, {"prompt": "Hi", "max_tokens": 1})).status == 200


LONG = {"prompt": "Tell a very long story.", "max_tokens": 3000, "stream": True}


async def fill(local: Local, streams: AsyncExitStack) -> None:
    """Keep all threads of the text model busy."""
    for _ in range(PARALLEL):
        response = await streams.enter_async_context(local.open(LLAMA, LONG))
        assert await response.content.readany()
        streams.callback(response.close)


async def test_requests_beyond_the_queue_are_refused() -> None:
    async with running(waiting=0) as local, AsyncExitStack() as streams:
        await fill(local, streams)
        status, code, message = (await local.post(LLAMA, {"prompt": "Hi"})).error
        assert (status, code) == (429, 3040)
        assert "Capacity temporarily exceeded, please try again." in message
        # Other models are not affected.
        reply = await local.post("@cf/baai/bge-small-en-v1.5", {"text": "a"})
        assert reply.status == 200


async def test_reject_if_busy_refuses_to_wait(local: Local) -> None:
    async with AsyncExitStack() as streams:
        await fill(local, streams)
        body = {"prompt": "Hi", "max_tokens": 1, "options": {"rejectIfBusy": True}}
        assert (await local.post(LLAMA, body)).error[:2] == (429, 3040)


async def test_a_request_waits_for_a_free_thread(local: Local) -> None:
    async with AsyncExitStack() as streams:
        await fill(local, streams)
        waiting = asyncio.create_task(local.post(LLAMA, {"prompt": "Hi", "max_tokens": 1}))
    assert (await waiting).status == 200


async def test_the_server_answers_other_requests_during_a_generation(local: Local) -> None:
    async with AsyncExitStack() as streams:
        await fill(local, streams)
        for _ in range(20):
            assert (await local.post("@cf/no/such", {})).status == 400
        assert not [exchange for exchange in local.server.requests if exchange.status == 200]


# The `Generation` class


@pytest.fixture
async def pool() -> AsyncIterator[WorkerPool]:
    pool = WorkerPool("test", size=1, waiting=1)
    yield pool
    await pool.close()


class Parrot:
    """Generates the same word until stopped."""

    name = "parrot"

    def generate(
        self, request: GenerationRequest, on_piece: OnPiece, is_cancelled: IsCancelled
    ) -> GenerationEnd:
        count = 0
        while not is_cancelled():
            on_piece("word ")
            count += 1
        return GenerationEnd("stopped", 1, count)


async def test_leaving_a_generation_stops_the_generator(pool: WorkerPool) -> None:
    generation = RunningGeneration(Parrot, GenerationRequest("go on", max_tokens=1))
    end = generation.start(pool, only_if_free=False)
    async with generation:
        assert await anext(generation) == "word "
        assert generation.backend == "parrot"
    assert (await end).reason == "stopped"


async def test_a_generation_left_before_its_start_generates_nothing(pool: WorkerPool) -> None:
    gate = threading.Event()
    running = pool.start(gate.wait)
    generation = RunningGeneration(Parrot, GenerationRequest("go on", max_tokens=1))
    end = generation.start(pool, only_if_free=False)
    async with generation:
        pass
    gate.set()
    await running
    assert await end == GenerationEnd("stopped", 0, 0)


async def test_a_failing_generator_ends_the_iteration_and_raises(pool: WorkerPool) -> None:
    def missing() -> Parrot:
        raise LookupError("no parrot")

    generation = RunningGeneration(missing, GenerationRequest("go on", max_tokens=1))
    end = generation.start(pool, only_if_free=False)
    async with generation:
        assert [piece async for piece in generation] == []
    with pytest.raises(LookupError, match="no parrot"):
        await end


# Latency


class FourWords:
    """Generates four words at once."""

    name = "four-words"

    def generate(
        self, request: GenerationRequest, on_piece: OnPiece, is_cancelled: IsCancelled
    ) -> GenerationEnd:
        on_piece("")
        for _ in range(4):
            on_piece("word ")
        return GenerationEnd("stop", 1, 4)


class Inline:
    """A pool without threads, for a virtual clock."""

    def start(self, work: Any, *, only_if_free: bool) -> "asyncio.Future[GenerationEnd]":
        end: asyncio.Future[GenerationEnd] = asyncio.get_running_loop().create_future()
        end.set_result(work())
        return end


@pytest.mark.parametrize(
    ("latency", "times"),
    [
        (Latency(), [0, 0, 0, 0, 0]),
        (Latency(2), [0, 2, 2, 2, 2]),
        (Latency(tokens_per_second=4), [0, 0, 0.25, 0.5, 0.75]),
        (Latency(1, 2), [0, 1, 1.5, 2, 2.5]),
        (Latency(tokens_per_second=1), [0, 0, 1, 2, 3]),
        (Latency(tokens_per_second=0.5), [0, 0, 2, 4, 6]),
    ],
)
def test_pieces_are_sent_as_slowly_as_said(latency: Latency, times: list[float]) -> None:
    """The empty piece, which starts the response, does not wait."""

    async def main() -> list[float]:
        generation = RunningGeneration(FourWords, GenerationRequest("go", max_tokens=1), latency)
        pool: Any = Inline()
        await generation.start(pool, only_if_free=False)
        clock = asyncio.get_running_loop().time
        return [clock() async for _ in generation]

    assert virtual_time.run(main()) == pytest.approx(times)


@pytest.mark.parametrize(
    "options",
    [
        *({"first_token": value} for value in (-1, float("inf"), float("nan"))),
        *({"tokens_per_second": value} for value in (0, -0.5, float("inf"), float("nan"))),
    ],
    ids=str,
)
def test_an_impossible_latency_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        Latency(**options)


async def test_a_server_can_be_slow() -> None:
    async with running(latency=Latency(0.01, 1000)) as local:
        assert (await local.post(LLAMA, {"prompt": "Hi", "max_tokens": 2})).status == 200
