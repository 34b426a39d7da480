"""`TokenStream`: what it returns, how it is opened and closed, and its time limits."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from cfai import TokenStream
from cfai.errors import (
    BadRequest,
    CfaiError,
    DecodeError,
    InputError,
    RequestTimeout,
    ServerError,
    StatusError,
    StreamInterrupted,
    StreamUnsupported,
)
from cfai.settings import Retries, Timeouts
from cfai.tasks import (
    Description,
    ImageToText,
    Prompt,
    Text,
    TextGeneration,
    Tool,
    ToolCall,
    user,
)
from cfai.testing import FakeWorkersAI
from tests.wire.dialects import DONE, NATIVE

MODEL = "@cf/meta/llama-3.1-8b-instruct-fast"
HI = Prompt("Hi")
AT_ONCE = Retries(base=0)
NEVER = Retries(max=0)
HEL = b'data: {"response":"Hel"}\n\n'
LO = b'data: {"response":"lo"}\n\n'
COMMENT = b": keep-alive\n\n"

FRAMINGS = pytest.mark.parametrize("framing", ["chunked", "close"])
"""A chunked body shows whether it is truncated; a body ended by its connection does not."""


@pytest.fixture(autouse=True)
def without_garbage_collector() -> Iterator[None]:
    """Dropped streams have to be closed without the garbage collector."""
    gc.disable()
    yield
    gc.enable()


def stream(fake: FakeWorkersAI, **options: Any) -> TokenStream:
    return fake.client(**options).stream(MODEL, HI)


async def all_closed(fake: FakeWorkersAI) -> None:
    """Wait until no connection is open."""
    await fake.until(lambda: fake.connections == 0)


# Requests and tokens


async def test_the_request_has_stream_true_and_accepts_an_event_stream(fake: FakeWorkersAI) -> None:
    fake.streams("Hi")
    async with stream(fake) as tokens:
        await tokens.collect()
    (request,) = fake.requests
    assert request.json() == {"prompt": "Hi", "stream": True}
    assert request.target == (
        "/client/v4/accounts/account/ai/run/@cf/meta/llama-3.1-8b-instruct-fast"
    )
    assert request.headers["accept"] == "text/event-stream"
    assert request.headers["accept-encoding"] == "identity"


async def test_the_request_is_sent_at_the_first_read(fake: FakeWorkersAI) -> None:
    tokens = stream(fake)
    assert repr(tokens) == "<TokenStream new, 0 events>"
    assert tokens.answer == Text()
    assert fake.requests == []
    fake.streams("Hi")
    assert str(await anext(aiter(tokens))) == "Hi"
    assert len(fake.requests) == 1
    await tokens.aclose()


async def test_the_answer_grows_with_every_token(fake: FakeWorkersAI) -> None:
    """`meta` is there from the first token on."""
    fake.streams("a", "b", {"finish_reason": "stop"}, headers={"cf-ray": "8f1a-AMS"})
    async with stream(fake) as tokens:
        assert tokens.meta.ray_id == "8f1a-AMS"
        assert tokens.answer.text == ""
        assert repr(tokens) == "<TokenStream open, 0 events>"
        assert str(await anext(tokens)) == "a"
        assert repr(tokens) == "<TokenStream open, 1 event>"
        assert tokens.answer.text == "a"
        assert [str(token) async for token in tokens] == ["b", ""]
        assert tokens.answer == Text("ab", finish_reason="stop")
        assert tokens.answer.meta.ray_id == "8f1a-AMS"
    assert repr(tokens) == "<TokenStream over, 4 events>"


async def test_a_stream_used_up_by_reasoning_has_a_hint(fake: FakeWorkersAI) -> None:
    """gemma-4 thinks by default; its events name the reasoning in two ways."""
    fake.streams(
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
        {"choices": [{"index": 0, "delta": {"reasoning": "Let me"}}]},
        {"choices": [{"index": 0, "delta": {"reasoning_content": " see"}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]},
        {"response": "", "usage": {"prompt_tokens": 9, "completion_tokens": 400}},
    )
    answer = await stream(fake).collect()
    assert (answer.text, answer.reasoning) == ("", "Let me see")
    assert answer.hint
    assert answer.hint.startswith("the reasoning used up all tokens: raise max_tokens, or")


async def test_text_skips_tokens_without_text(fake: FakeWorkersAI) -> None:
    fake.streams("a", {"reasoning": "hm"}, "", "b", {"finish_reason": "stop"})
    async with stream(fake) as tokens:
        assert [text async for text in tokens.text()] == ["a", "b"]
    assert tokens.answer.reasoning == "hm"


async def test_collect_returns_the_complete_answer_from_any_position(fake: FakeWorkersAI) -> None:
    fake.streams("a", "b", "c")
    async with stream(fake) as tokens:
        await anext(tokens)
        assert (await tokens.collect()).text == "abc"
        assert (await tokens.collect()).text == "abc"


async def test_json_mode_parses_the_collected_answer(fake: FakeWorkersAI) -> None:
    fake.streams('{"a"', ": 1}")
    task = TextGeneration([user("Hi")], response_format="json_object")
    async with fake.client().stream(MODEL, task) as tokens:
        assert (await tokens.collect()).parsed == {"a": 1}


WRITTEN_CALL = '{"type":"function","name":"get_weather","parameters":{"city":"Paris"}}'
WITH_TOOLS = TextGeneration([user("Hi")], tools=[Tool("get_weather", "a", {})])


async def test_calls_written_as_text_are_in_the_answer_at_its_end(fake: FakeWorkersAI) -> None:
    """Before, the text may still go on as another one. The tokens are as the service sent them."""
    fake.streams(WRITTEN_CALL[:20], WRITTEN_CALL[20:])
    async with fake.client().stream(MODEL, WITH_TOOLS) as tokens:
        assert [str(await anext(tokens)), str(await anext(tokens))] == [
            WRITTEN_CALL[:20],
            WRITTEN_CALL[20:],
        ]
        assert tokens.answer.text == WRITTEN_CALL
        assert not tokens.answer.tool_calls
        answer = await tokens.collect()
    assert answer == Text(tool_calls=(ToolCall("get_weather", {"city": "Paris"}),))


@pytest.mark.parametrize("text", [WRITTEN_CALL, f"I call {WRITTEN_CALL}"])
async def test_calls_are_not_read_from_a_stream_without_tools_or_without_its_end(
    fake: FakeWorkersAI, text: str
) -> None:
    fake.streams(text)
    assert (await fake.client().stream(MODEL, HI).collect()).text == text
    fake.says(
        f"data: {json.dumps({'response': text})}\n\n".encode(),
        headers={"Content-Type": "text/event-stream"},
    )
    with pytest.raises(StreamInterrupted) as caught:
        await fake.client().stream(MODEL, WITH_TOOLS).collect()
    assert caught.value.answer is not None
    assert caught.value.answer.text == text


async def test_calls_written_in_an_unrequested_stream_or_a_whole_answer_are_read(
    fake: FakeWorkersAI,
) -> None:
    expected = (ToolCall("get_weather", {"city": "Paris"}),)
    fake.streams(WRITTEN_CALL)
    assert (await fake.client().run(MODEL, WITH_TOOLS)).tool_calls == expected
    fake.answers({"response": WRITTEN_CALL})
    assert (await fake.client().stream(MODEL, WITH_TOOLS).collect()).tool_calls == expected


async def test_run_returns_an_open_stream_if_one_is_requested(fake: FakeWorkersAI) -> None:
    """By the task, by the argument, and by a mapping."""
    ai = fake.client()
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: ai.run(MODEL, Prompt("Hi", stream=True)),
        lambda: ai.run(MODEL, TextGeneration([user("Hi")], stream=True)),
        lambda: ai.run(MODEL, HI, stream=True),
        lambda: ai.run(MODEL, {"prompt": "Hi"}, stream=True),
        lambda: ai.run(MODEL, {"prompt": "Hi", "stream": True}),
    ]
    for number, call in enumerate(calls, 1):
        fake.streams("a", "b")
        tokens = await call()
        assert isinstance(tokens, TokenStream)
        assert len(fake.requests) == number
        assert fake.requests[-1].json()["stream"] is True
        async with tokens:
            assert (await tokens.collect()).text == "ab"


async def test_an_unrequested_stream_is_read(fake: FakeWorkersAI) -> None:
    """moondream3.1 streams unless `stream` is false: its input schema."""
    ai = fake.client()
    fake.streams("A ", "cat.", {"finish_reason": "stop"})
    assert await ai.run(MODEL, HI) == Text("A cat.", finish_reason="stop")
    fake.streams("A ", "cat.")
    assert await ai.run("@cf/moondream/moondream3", ImageToText(b"i")) == Description("A cat.")
    fake.streams("A ", "cat.")
    tokens = await ai.run("@cf/moondream/moondream3", {"task": "caption"})
    assert isinstance(tokens, TokenStream)
    assert (await tokens.collect()).text == "A cat."
    fake.streams("A ", done=False)
    with pytest.raises(StreamInterrupted):
        await ai.run(MODEL, HI)
    assert len(fake.requests) == 4


# JSON instead of a stream


async def test_a_json_answer_becomes_one_token(fake: FakeWorkersAI) -> None:
    """A model that does not stream answers JSON, which is not requested again."""
    fake.answers(
        {"response": "Hello", "tool_calls": [{"name": "f", "arguments": {"x": 1}}]},
        headers={"cf-ray": "8f1a-AMS"},
    )
    async with stream(fake) as tokens:
        (token,) = [token async for token in tokens]
        assert token.text == "Hello"
        assert token.tool_calls[0].arguments == '{"x":1}'
        assert token.raw["response"] == "Hello"
        assert tokens.answer == Text("Hello", tool_calls=(ToolCall("f", {"x": 1}),))
        assert tokens.answer.raw == token.raw
        assert tokens.meta.ray_id == "8f1a-AMS"
        assert [token async for token in tokens] == []
        assert [event async for event in tokens.events()] == []


@pytest.mark.parametrize("result", [{}, None, ""])
async def test_an_empty_json_answer_raises_stream_unsupported(
    fake: FakeWorkersAI, result: Any
) -> None:
    """github.com/cloudflare/ai, stream-text.test.ts: gpt-oss and Kimi did so. The other route is
    tried once; nothing else is retried.
    """
    fake.answers(result).answers(result)
    with pytest.raises(StreamUnsupported, match=r"call run\(\)"):
        await stream(fake, retries=AT_ONCE).collect()
    assert len(fake.requests) == 2


@pytest.mark.parametrize(
    ("body", "content_type", "status", "error"),
    [
        (b"<html>", "text/html", 200, DecodeError),
        (b"<html>", "text/html", 502, ServerError),
        (b"", "application/json", 200, DecodeError),
        (b"date: {}\n\n", "text/plain", 200, DecodeError),
        (b"dat", "text/plain", 200, DecodeError),
        (b'{"result":{"shape":[1]}}', "application/json", 200, DecodeError),
        (b'{"success":false,"errors":[{"code":5007}]}', "application/json", 200, BadRequest),
        (b'data: {"error":"x"}\n\n', "text/event-stream", 500, ServerError),
        (b"", "text/event-stream", 302, StatusError),
    ],
)
async def test_a_response_that_is_not_a_stream_raises_a_typed_error(
    fake: FakeWorkersAI, body: bytes, content_type: str, status: int, error: type[CfaiError]
) -> None:
    """From every method, and again at every later read."""
    for begin in (TokenStream.open, TokenStream.collect, anext):
        fake.says(body, content_type=content_type, status=status)
        tokens = stream(fake, retries=NEVER)
        with pytest.raises(error):
            await begin(tokens)
        with pytest.raises(error):
            await tokens.collect()
        with pytest.raises(error):
            await anext(tokens.events())
    assert len(fake.requests) == 3


def stream_that_stalls(fake: FakeWorkersAI, *parts: bytes, framing: Any = "chunked") -> None:
    """Start a stream that sends *parts* and then nothing."""
    begin = parts or (HEL,)
    fake.says(*begin, asyncio.Event(), content_type="text/event-stream", framing=framing)


async def start_reading(fake: FakeWorkersAI, tokens: TokenStream) -> asyncio.Task[list[str]]:
    """A task that has read the first token and waits for the next."""
    got = asyncio.Event()

    async def read() -> list[str]:
        seen = []
        async for token in tokens:
            seen.append(str(token))
            got.set()
        return seen

    task = asyncio.ensure_future(read())
    await got.wait()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not task.done()
    return task


# Closing in the middle


async def test_leaving_async_with_closes_the_connection(fake: FakeWorkersAI) -> None:
    """By `break`, and by an exception, which propagates."""
    stream_that_stalls(fake)
    async with stream(fake) as tokens:
        async for _ in tokens:
            break
    await all_closed(fake)
    assert tokens.answer.text == "Hel"
    stream_that_stalls(fake)
    with pytest.raises(ZeroDivisionError):
        async with stream(fake) as tokens:
            await anext(tokens)
            raise ZeroDivisionError
    await all_closed(fake)


async def test_dropping_an_iterator_closes_the_connection(fake: FakeWorkersAI) -> None:
    """Without `async with` and without the garbage collector."""
    ai = fake.client()

    async def first(tokens: AsyncIterator[Any]) -> Any:
        async for one in tokens:
            return one
        return None

    views: list[Callable[[TokenStream], AsyncIterator[Any]]] = [
        lambda tokens: tokens,
        lambda tokens: tokens.text(),
        lambda tokens: tokens.events(),
    ]
    for view in views:
        stream_that_stalls(fake)
        assert await first(view(ai.stream(MODEL, HI)))
        await all_closed(fake)


async def test_dropping_an_open_stream_closes_the_connection(fake: FakeWorkersAI) -> None:
    ai = fake.client()
    stream_that_stalls(fake)
    tokens = await ai.run(MODEL, Prompt("Hi", stream=True))
    assert fake.connections == 1
    del tokens
    await all_closed(fake)


async def test_dropping_an_unopened_stream_sends_nothing(fake: FakeWorkersAI) -> None:
    tokens = stream(fake)
    await tokens.aclose()
    del tokens
    assert fake.requests == []
    assert fake.accepted == 0


async def test_closing_twice_is_fine_and_reading_afterwards_raises(fake: FakeWorkersAI) -> None:
    """Every method of start_reading raises, so a part never looks like the complete answer."""
    stream_that_stalls(fake)
    tokens = await stream(fake).open()
    await anext(tokens)
    await tokens.aclose()
    await tokens.close()
    ways: list[Callable[[], Any]] = [
        lambda: anext(tokens),
        tokens.collect,
        lambda: anext(tokens.text()),
        lambda: anext(tokens.events()),
    ]
    for way in ways:
        with pytest.raises(StreamInterrupted, match="closed before its end") as caught:
            await way()
        assert caught.value.answer == Text("Hel")
        assert caught.value.events == 1
    assert tokens.answer == Text("Hel")
    await all_closed(fake)


async def test_reading_a_stream_closed_before_it_was_opened_raises(fake: FakeWorkersAI) -> None:
    tokens = stream(fake)
    await tokens.aclose()
    with pytest.raises(StreamInterrupted, match="closed before its end"):
        await tokens.collect()
    assert fake.requests == []


async def test_closing_after_the_end_changes_nothing(fake: FakeWorkersAI) -> None:
    fake.says(NATIVE.stream)
    tokens = stream(fake)
    await tokens.collect()
    await tokens.aclose()
    tokens.cancel()
    assert [token async for token in tokens] == []
    assert await tokens.collect() == NATIVE.says


async def test_buffered_events_are_dropped_after_closing(
    fake: FakeWorkersAI,
) -> None:
    """Several events arrive in one chunk, and one of them is read."""
    for end in (TokenStream.aclose, TokenStream.cancel):
        fake.says(HEL + LO + LO, asyncio.Event())
        tokens = await stream(fake).open()
        await anext(tokens)
        left = end(tokens)
        if left is not None:
            await left
        with pytest.raises((StreamInterrupted, StopAsyncIteration)):
            await anext(tokens)
        assert tokens.answer == Text("Hel")


# Closing and cancelling from another task


@FRAMINGS
async def test_cancel_ends_the_iteration_without_an_error(
    fake: FakeWorkersAI, framing: str
) -> None:
    """The answer keeps what had arrived."""
    stream_that_stalls(fake, framing=framing)
    tokens = stream(fake)
    task = await start_reading(fake, tokens)
    tokens.cancel()
    assert await task == ["Hel"]
    assert tokens.answer == Text("Hel")
    assert await tokens.collect() == Text("Hel")
    await all_closed(fake)


@FRAMINGS
async def test_closing_from_another_task_raises_for_the_reader(
    fake: FakeWorkersAI, framing: str
) -> None:
    """Only `cancel` ends the iteration without an error."""
    stream_that_stalls(fake, framing=framing)
    tokens = stream(fake)
    task = await start_reading(fake, tokens)
    await tokens.aclose()
    with pytest.raises(StreamInterrupted) as caught:
        await task
    assert caught.value.answer == Text("Hel")
    await all_closed(fake)


@FRAMINGS
async def test_cancelling_the_readers_task_closes_the_connection(
    fake: FakeWorkersAI, framing: str
) -> None:
    stream_that_stalls(fake, framing=framing)
    tokens = stream(fake)
    task = await start_reading(fake, tokens)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await all_closed(fake)
    with pytest.raises(StreamInterrupted):
        await anext(tokens)
    assert tokens.answer == Text("Hel")


@pytest.mark.parametrize("began", [False, True], ids=["no answer yet", "no event yet"])
async def test_cancel_before_the_first_event_ends_the_wait(
    fake: FakeWorkersAI, began: bool
) -> None:
    """The reader does not wait for the first event."""
    if began:
        stream_that_stalls(fake, COMMENT)
    else:
        fake.stalls()
    tokens = stream(fake)
    task = asyncio.ensure_future(tokens.collect())
    await fake.until(lambda: fake.requests)
    tokens.cancel()
    assert await task == Text()
    assert [token async for token in tokens] == []
    await all_closed(fake)


@pytest.mark.parametrize("began", [False, True], ids=["no answer yet", "no event yet"])
async def test_closing_before_the_first_event_ends_the_wait(
    fake: FakeWorkersAI, began: bool
) -> None:
    if began:
        stream_that_stalls(fake, COMMENT)
    else:
        fake.stalls()
    tokens = stream(fake)
    task = asyncio.ensure_future(tokens.collect())
    await fake.until(lambda: fake.requests)
    await tokens.aclose()
    with pytest.raises(StreamInterrupted, match="closed before its end"):
        await task
    await all_closed(fake)


async def test_cancel_ends_the_delay_before_a_retry(fake: FakeWorkersAI) -> None:
    """No further attempt is made."""
    pausing = asyncio.Event()
    fake.always.fails(429, 3040, "busy", retry_after=50)
    retries = Retries(on_retry=lambda _: pausing.set())
    tokens = stream(fake, retries=retries)
    task = asyncio.ensure_future(tokens.collect())
    await pausing.wait()
    tokens.cancel()
    assert await task == Text()
    assert len(fake.requests) == 1


async def test_cancelling_the_task_before_the_first_event_closes_the_connection(
    fake: FakeWorkersAI,
) -> None:
    """The task ends as cancelled, even if the stream is cancelled, too."""
    for also in (False, True):
        fake.stalls()
        tokens = stream(fake)
        task = asyncio.ensure_future(tokens.collect())
        await fake.until(lambda: fake.connections == 1)
        task.cancel()
        if also:
            tokens.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await all_closed(fake)


async def test_cancel_before_opening_sends_nothing(fake: FakeWorkersAI) -> None:
    tokens = stream(fake)
    tokens.cancel()
    async with tokens:
        assert [token async for token in tokens] == []
    assert tokens.answer == Text()
    assert fake.requests == []


async def test_cancel_inside_the_loop_ends_the_loop(fake: FakeWorkersAI) -> None:
    stream_that_stalls(fake, HEL + LO)
    tokens = stream(fake)
    seen = []
    async for token in tokens:
        seen.append(str(token))
        tokens.cancel()
    assert seen == ["Hel"]
    await all_closed(fake)


async def test_closing_the_client_raises_for_the_reader(fake: FakeWorkersAI) -> None:
    """The reader neither hangs nor takes the part for the complete answer."""
    stream_that_stalls(fake)
    ai = fake.client()
    task = await start_reading(fake, ai.stream(MODEL, HI))
    await ai.aclose()
    with pytest.raises(StreamInterrupted):
        await task
    await all_closed(fake)


async def test_a_stream_has_one_reader(fake: FakeWorkersAI) -> None:
    """A second reader is refused at any point, and the first one is not disturbed."""
    more = asyncio.Event()
    fake.says(COMMENT, more, HEL, more, LO, DONE)
    tokens = stream(fake)
    whole = asyncio.ensure_future(tokens.collect())
    await fake.until(lambda: fake.requests)
    ways: list[Callable[[], Any]] = [
        lambda: anext(tokens),
        tokens.collect,
        lambda: anext(tokens.events()),
    ]
    for way in ways:
        with pytest.raises(InputError, match="one reader"):
            await way()
    more.set()
    assert (await whole).text == "Hello"
    more.clear()
    fake.says(HEL, more, LO, DONE)
    tokens = stream(fake)
    task = await start_reading(fake, tokens)
    with pytest.raises(InputError, match="one reader"):
        await anext(tokens)
    more.set()
    assert await task == ["Hel", "lo"]


# Connections


async def test_a_finished_stream_returns_its_connection_to_the_pool(fake: FakeWorkersAI) -> None:
    """Whether the last chunk comes with the end mark or a little later."""
    ai = fake.client()
    endings: list[tuple[bytes, ...]] = [
        (NATIVE.stream,),
        (NATIVE.stream[: -len(DONE)], DONE),
        (NATIVE.stream + DONE + DONE,),
        (NATIVE.stream, LO * 100),
        (NATIVE.stream.replace(b"data: [", b"["),),
        (NATIVE.stream[:-2],),
    ]
    for ending in endings:
        fake.says(*ending)
        async with ai.stream(MODEL, HI) as tokens:
            assert await tokens.collect() == NATIVE.says
    fake.says(NATIVE.stream)
    assert len([event async for event in ai.stream(MODEL, HI).events()]) == 3
    fake.answers({"response": "Hi"})
    assert await ai.stream(MODEL, HI).collect() == Text("Hi")
    assert fake.accepted == 1
    assert fake.connections == 1


async def test_an_end_mark_ends_a_stream_whose_body_goes_on(fake: FakeWorkersAI) -> None:
    """The connection is closed without waiting for the end of the body."""
    for more in ((), (LO,) * 50):
        fake.says(NATIVE.stream, *more, asyncio.Event())
        assert await stream(fake).collect() == NATIVE.says
        await all_closed(fake)


async def test_open_streams_count_towards_the_limit(fake: FakeWorkersAI) -> None:
    """A stream holds its slot until it is closed, in any way."""
    ai = fake.client(limit=2)
    fake.always.says(HEL, asyncio.Event())
    one, two = await ai.stream(MODEL, HI).open(), await ai.stream(MODEL, HI).open()
    waiting = asyncio.ensure_future(ai.stream(MODEL, HI).open())
    await asyncio.sleep(0)
    assert len(fake.requests) == 2
    await one.aclose()
    three = await waiting
    assert len(fake.requests) == 3
    two.cancel()
    four = await ai.stream(MODEL, HI).open()
    del three, waiting
    five = await ai.stream(MODEL, HI).open()
    assert len(fake.requests) == 5
    await four.aclose()
    await five.aclose()
    await all_closed(fake)


# A thousand streams


Way = Callable[[TokenStream, int], Awaitable[None]]
"""What happens to one stream, with its number."""


async def leave_the_block(tokens: TokenStream, number: int) -> None:
    async with tokens:
        async for _ in tokens:
            break


async def drop_the_iterator(tokens: TokenStream, number: int) -> None:
    async for _ in tokens:
        break


async def cancel_the_task(tokens: TokenStream, number: int) -> None:
    """At every point: before the request, before the response, inside the stream."""
    task = asyncio.ensure_future(tokens.collect())
    for _ in range(number % 40):
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def stop_from_another_task(tokens: TokenStream, number: int) -> None:
    """`cancel` and `aclose` at every point."""
    task = asyncio.ensure_future(tokens.collect())
    for _ in range(number % 40):
        await asyncio.sleep(0)
    if number % 2:
        tokens.cancel()
        assert (await task).text in ("", "Hel", "Hello")
    else:
        await tokens.aclose()
        with pytest.raises(StreamInterrupted):
            await task


@pytest.mark.parametrize(
    "way", [leave_the_block, drop_the_iterator, cancel_the_task, stop_from_another_task]
)
async def test_a_thousand_unfinished_streams_leave_nothing_behind(
    fake: FakeWorkersAI, way: Way
) -> None:
    """No connection, no task, and no complaint of the event loop; a hundred run at once."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    fake.always.says(HEL + LO, asyncio.Event())
    ai = fake.client()
    before = asyncio.all_tasks()
    for crowd in range(10):
        await asyncio.gather(*(way(ai.stream(MODEL, HI), 100 * crowd + one) for one in range(100)))
    if way in (leave_the_block, drop_the_iterator):
        assert len(fake.requests) == 1000
    await all_closed(fake)
    await fake.until(lambda: asyncio.all_tasks() <= before)
    assert complaints == []


# Time limits


@FRAMINGS
@pytest.mark.parametrize("phase", ["idle", "content", "total"])
async def test_an_exceeded_time_limit_ends_the_stream(
    fake: FakeWorkersAI, phase: str, framing: str
) -> None:
    """The error names the limit; the connection is closed, and the partial answer is kept."""
    stream_that_stalls(fake, framing=framing)
    limits: dict[str, Any] = {"idle": None, phase: 0.15}
    tokens = stream(fake, timeouts=Timeouts(**limits))
    with pytest.raises(RequestTimeout, match=f"Timeouts.{phase}") as caught:
        await tokens.collect()
    assert caught.value.phase == phase
    assert caught.value.limit == 0.15
    assert tokens.answer.text == "Hel"
    await all_closed(fake)
    with pytest.raises(RequestTimeout):
        await anext(tokens)


@FRAMINGS
@pytest.mark.parametrize("phase", ["idle", "content", "total"])
async def test_raw_events_have_the_same_time_limits(
    fake: FakeWorkersAI, phase: str, framing: str
) -> None:
    """For raw events the end of the body is the end: a timeout must not look like it."""
    stream_that_stalls(fake, framing=framing)
    limits: dict[str, Any] = {"idle": None, phase: 0.15}
    tokens = stream(fake, timeouts=Timeouts(**limits))
    with pytest.raises(RequestTimeout):
        [event async for event in tokens.events()]
    await all_closed(fake)


@pytest.mark.parametrize("phase", ["response", "total", "idle", "content"])
async def test_time_limits_count_before_the_first_event(fake: FakeWorkersAI, phase: str) -> None:
    """`response` counts up to the headers, the others from there on. Timeouts are not retried."""
    if phase == "response":
        fake.stalls()
    else:
        stream_that_stalls(fake, COMMENT)
    limits: dict[str, Any] = {"idle": None, phase: 0.15}
    with pytest.raises(RequestTimeout) as caught:
        await stream(fake, timeouts=Timeouts(**limits), retries=Retries(base=0)).collect()
    assert caught.value.phase == phase
    assert len(fake.requests) == 1
    await all_closed(fake)


async def test_a_comment_resets_the_idle_limit_but_not_the_content_limit(
    fake: FakeWorkersAI,
) -> None:
    """A comment shows that the server is alive, but adds nothing to the answer."""
    beats: list[Any] = [COMMENT, 0.025] * 14
    fake.says(HEL, *beats, DONE)
    assert (await stream(fake, timeouts=Timeouts(idle=0.25)).collect()).text == "Hel"
    fake.says(HEL, *beats, asyncio.Event())
    with pytest.raises(RequestTimeout) as caught:
        await stream(fake, timeouts=Timeouts(idle=10, content=0.15)).collect()
    assert caught.value.phase == "content"


async def test_an_empty_event_does_not_reset_the_content_limit(
    fake: FakeWorkersAI,
) -> None:
    beats: list[Any] = [b'data: {"response":""}\n\n', 0.025] * 14
    fake.says(HEL, *beats, asyncio.Event())
    with pytest.raises(RequestTimeout) as caught:
        await stream(fake, timeouts=Timeouts(content=0.25)).collect()
    assert caught.value.phase == "content"
    steps: list[Any] = [LO, 0.025] * 14
    fake.says(HEL, *steps, DONE)
    assert (await stream(fake, timeouts=Timeouts(content=0.25)).collect()).text == "Hel" + "lo" * 14


async def test_time_spent_by_the_reader_does_not_count(fake: FakeWorkersAI) -> None:
    """Only waiting for the service counts; the total limit always runs."""
    stream_that_stalls(fake)
    async with stream(fake, timeouts=Timeouts(idle=None, total=0.15)) as tokens:
        await anext(tokens)
        await all_closed(fake)
        with pytest.raises(RequestTimeout, match=r"Timeouts\.total"):
            await anext(tokens)
    more = asyncio.Event()
    fake.says(HEL, more, LO + DONE)
    # What keeps the reader longer than the limits is a call of its own.
    fake.answers("slow", after=0.3)
    async with stream(fake, timeouts=Timeouts(idle=0.2, content=0.2)) as tokens:
        await anext(tokens)
        await fake.client().run(MODEL, {"prompt": "Hi"})
        more.set()
        assert (await tokens.collect()).text == "Hello"


async def test_a_stream_may_last_longer_than_the_response_limit(
    fake: FakeWorkersAI,
) -> None:
    steps: list[Any] = [LO, 0.03] * 11
    fake.says(HEL, *steps, DONE)
    limits = Timeouts(response=0.25, connect=0.25, pool=0.25)
    assert (await stream(fake, timeouts=limits).collect()).text.startswith("Hel")


async def test_time_limits_can_be_turned_off(fake: FakeWorkersAI) -> None:
    none = Timeouts(connect=None, pool=None, response=None, idle=None, content=None, total=None)
    fake.says(HEL, 0.02, LO, DONE)
    assert (await stream(fake, timeouts=none).collect()).text == "Hello"


async def test_a_timer_does_not_outlive_its_stream(fake: FakeWorkersAI) -> None:
    """A finished, closed or dropped stream leaves no timer that holds its response."""
    loop: Any = asyncio.get_running_loop()
    for end in ("finished", "closed", "drop_the_iterator"):
        fake.says(*((NATIVE.stream,) if end == "finished" else (HEL, asyncio.Event())))
        tokens = await stream(fake, timeouts=Timeouts(idle=1234.0, response=None)).open()
        if end == "finished":
            await tokens.collect()
        elif end == "closed":
            await tokens.aclose()
        del tokens
        left = [h for h in loop._scheduled if not h.cancelled() and h.when() > loop.time() + 1000]
        assert left == []


@pytest.mark.parametrize("taken", [0, 1, 2])
async def test_every_event_is_counted_once(fake: FakeWorkersAI, taken: int) -> None:
    """Also those that were read as tokens already, and are read as events then."""
    fake.streams("a", "b", "c", "d", then_hangs_up=True)
    async with fake.client().stream(MODEL, HI) as stream:
        tokens = [(await anext(stream)).text for _ in range(taken)]
        count = 0
        with pytest.raises(StreamInterrupted, match="after 4 events") as caught:
            async for _ in stream.events():
                count += 1
    assert caught.value.events == 4
    assert len(tokens) + count == 4
