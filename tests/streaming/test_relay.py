"""A token stream sent on to a browser: its bytes, its keep-alives, and a browser that goes away."""

import asyncio
import gc
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

import pytest

from cfai import TokenStream
from cfai.errors import CapacityExceeded, InputError, StreamInterrupted
from cfai.settings import Retries, Timeouts
from cfai.streaming.relay import Frame, RelaySource
from cfai.tasks import Prompt, Text
from cfai.testing import FakeWorkersAI
from tests import virtual_time
from tests.wire.dialects import DONE
from tests.wire.reference import decode

MODEL = "@cf/meta/llama-3.1-8b-instruct-fast"
HEL = b'data: {"response":"Hel"}\n\n'
LO = b'data: {"response":"lo"}\n\n'


@pytest.fixture(autouse=True)
def without_garbage_collector() -> Iterator[None]:
    """Dropped relays have to be closed without the garbage collector."""
    gc.disable()
    yield
    gc.enable()


def stream(fake: FakeWorkersAI, **options: Any) -> TokenStream:
    return fake.client(**options).stream(MODEL, Prompt("Hi"))


async def all_closed(fake: FakeWorkersAI) -> None:
    """Wait until no connection to the service is open."""
    await fake.until(lambda: fake.connections == 0)


async def read_all(frames: AsyncIterator[bytes]) -> bytes:
    return b"".join([frame async for frame in frames])


async def read_until(frames: AsyncIterator[bytes], text: bytes) -> None:
    """Read until *text* was in a frame; slow machines get keep-alives before it."""
    while text not in await anext(frames):
        pass


async def run_other_tasks() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_stream_as_server_sent_events(fake: FakeWorkersAI) -> None:
    """`retry` first, an id and a name for each event, and one event at the end."""
    fake.streams(
        {"reasoning": "Hm"},
        "Grüezi\n",
        {"response": "!", "usage": {"prompt_tokens": 4, "completion_tokens": 2}},
        {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": "{}"}}]},
        {"response": ""},
        {"finish_reason": "stop"},
    )
    tokens = stream(fake)
    assert await read_all(tokens.sse()) == (
        b"retry: 3000\n\n"
        b'id: 1\nevent: reasoning\ndata: {"text":"Hm"}\n\n'
        b'id: 2\nevent: text\ndata: {"text":"Gr\xc3\xbcezi\\n"}\n\n'
        b'id: 3\nevent: text\ndata: {"text":"!"}\n\n'
        b'id: 4\nevent: tool_calls\ndata: {"tool_calls":'
        b'[{"index":0,"id":"c1","name":"f","arguments":"{}"}]}\n\n'
        b'id: 5\nevent: tool_call\ndata: {"id":"c1","name":"f","arguments":{}}\n\n'
        b'id: 6\nevent: usage\ndata: {"prompt_tokens":4,"completion_tokens":2,"total_tokens":6,'
        b'"cached_tokens":null,"reasoning_tokens":null,"neurons":null}\n\n'
        b'id: 7\nevent: done\ndata: {"finish_reason":"stop"}\n\n'
    )
    assert tokens.answer.text == "Grüezi\n!"
    assert fake.connections == 1  # given back to the pool


async def test_a_browser_reads_the_complete_answer(fake: FakeWorkersAI) -> None:
    """Decoded as WHATWG specifies. The text contains all kinds of line ends and separators."""
    text = "a\r\nb\nc\rd\u2028e\u2029f\x85\0😀"
    fake.streams(*text)
    events = decode(await read_all(stream(fake).sse(retry=10)))
    assert events[0].retry == 10
    assert "".join(json.loads(e.data)["text"] for e in events if e.event == "text") == text
    assert [e.id for e in events] == [str(number) for number in range(1, len(events) + 1)]
    assert events[-1].event == "done"


async def test_without_retry_no_retry_line_is_sent(fake: FakeWorkersAI) -> None:
    fake.streams("a")
    frames = stream(fake).sse(retry=None)
    assert await anext(frames) == b'id: 1\nevent: text\ndata: {"text":"a"}\n\n'
    assert await read_all(frames) == b'id: 2\nevent: done\ndata: {"finish_reason":null}\n\n'


async def test_each_frame_is_sent_before_the_next_token(fake: FakeWorkersAI) -> None:
    """Nothing is held back."""
    more = asyncio.Event()
    fake.says(HEL, more, LO, DONE)
    frames = stream(fake).sse(retry=None)
    assert b'"Hel"' in await anext(frames)
    waiting = asyncio.ensure_future(anext(frames))
    await run_other_tasks()
    assert not waiting.done()
    more.set()
    assert b'"lo"' in await waiting
    assert b"event: done" in await anext(frames)
    with pytest.raises(StopAsyncIteration):
        await anext(frames)
    with pytest.raises(StopAsyncIteration):
        await anext(frames)


async def test_comments_are_sent_during_silence(fake: FakeWorkersAI) -> None:
    """Repeatedly, before the first token and after. They are not events and have no ids."""
    first, more = asyncio.Event(), asyncio.Event()
    fake.says(HEL, more, LO, DONE, after=first)
    frames = stream(fake).sse(retry=None, keep_alive=0.01)
    assert [await anext(frames) for _ in range(3)] == [b": keep-alive\n\n"] * 3
    first.set()
    while (frame := await anext(frames)).startswith(b":"):
        pass
    assert frame == b'id: 1\nevent: text\ndata: {"text":"Hel"}\n\n'
    assert [await anext(frames) for _ in range(2)] == [b": keep-alive\n\n"] * 2
    more.set()
    rest = await read_all(frames)
    assert rest.replace(b": keep-alive\n\n", b"") == (
        b'id: 2\nevent: text\ndata: {"text":"lo"}\n\n'
        b'id: 3\nevent: done\ndata: {"finish_reason":null}\n\n'
    )


async def test_a_stream_as_lines_of_json(fake: FakeWorkersAI) -> None:
    """For clients that use `fetch`: the event's name is `type`, and empty lines are ignored."""
    more = asyncio.Event()
    fake.streams(
        {"reasoning": "Hm"},
        "Grüezi\n\u2028😀",
        more,
        {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": "{}"}}]},
        {"response": "!", "usage": {"prompt_tokens": 4, "completion_tokens": 2}},
        {"finish_reason": "stop"},
    )
    lines = stream(fake).ndjson(keep_alive=0.01)
    body = b""
    while not body.endswith(b"\n\n\n"):
        body += await anext(lines)
    more.set()
    body += await read_all(lines)
    assert b"\n".join(filter(None, body.split(b"\n"))) == (
        b'{"type":"reasoning","text":"Hm"}\n'
        b'{"type":"text","text":"Gr\xc3\xbcezi\\n\\u2028\xf0\x9f\x98\x80"}\n'
        b'{"type":"tool_calls","tool_calls":'
        b'[{"index":0,"id":"c1","name":"f","arguments":"{}"}]}\n'
        b'{"type":"text","text":"!"}\n'
        b'{"type":"tool_call","id":"c1","name":"f","arguments":{}}\n'
        b'{"type":"usage","prompt_tokens":4,"completion_tokens":2,"total_tokens":6,'
        b'"cached_tokens":null,"reasoning_tokens":null,"neurons":null}\n'
        b'{"type":"done","finish_reason":"stop"}'
    )


@pytest.mark.parametrize("form", ["sse", "ndjson"])
async def test_clients_may_split_lines_like_python(fake: FakeWorkersAI, form: str) -> None:
    """`str.splitlines` splits at more characters than either format."""
    text = "a\r\nb\nc\rd\u2028e\u2029f\x85\x0b\x0c\x1c\x1d\x1e\0😀"
    fake.streams(text)
    body = (await read_all(getattr(stream(fake), form)())).decode()
    data = [line.removeprefix("data: ") for line in body.splitlines() if "text" in line]
    assert json.loads(data[-1])["text"] == text


async def test_only_the_total_usage_is_sent(fake: FakeWorkersAI) -> None:
    """Some models report usage in every event."""
    counts = [{"prompt_tokens": 4, "completion_tokens": number} for number in (1, 2, 3)]
    fake.streams(*({"response": "a", "usage": usage} for usage in counts))
    events = decode(await read_all(stream(fake).sse()))
    assert [event.event for event in events] == ["text"] * 3 + ["usage", "done"]
    assert json.loads(events[3].data)["completion_tokens"] == 3


# A reader that is slow


async def test_buffered_frames_are_sent_together(fake: FakeWorkersAI) -> None:
    """One write for several tokens if the reader was busy meanwhile."""
    fake.says(HEL * 3 + LO + DONE)
    frames = stream(fake).ndjson()
    assert (await anext(frames)).count(b"\n") >= 4


async def test_a_slow_reader_slows_the_model(fake: FakeWorkersAI) -> None:
    """The relay buffers little, so the service can't write on."""
    event = b'data: {"response":"%b"}\n\n' % (b"x" * 1000)
    fake.says(*[event * 100] * 400, DONE)
    frames = stream(fake).sse(retry=None)
    size = len(await anext(frames))
    for _ in range(10_000):  # Several times what a service needs that is not held up.
        await asyncio.sleep(0)
    assert not fake.requests[0].answered.is_set()
    assert size < 200_000
    async for frame in frames:
        assert len(frame) < 200_000
        size += len(frame)
    assert size > 400 * 100 * 1000
    assert fake.requests[0].answered.is_set()


async def test_a_relay_has_one_reader(fake: FakeWorkersAI) -> None:
    more = asyncio.Event()
    fake.says(HEL, more, LO, DONE)
    frames = stream(fake).sse(retry=None)
    await anext(frames)
    waiting = asyncio.ensure_future(anext(frames))
    await run_other_tasks()
    with pytest.raises(InputError, match="one reader"):
        await anext(frames)
    more.set()
    assert b'"lo"' in await waiting  # the first one's stream is none the worse for it


# A beginning that is waited for


async def test_begin_raises_a_refusal(fake: FakeWorkersAI) -> None:
    """A web framework can then answer with a status of its own."""
    fake.fails(429, 3040, "busy", retry_after=7)
    frames = stream(fake, retries=Retries(max=0)).sse()
    with pytest.raises(CapacityExceeded):
        await frames.begin()


async def test_begin_waits_for_the_first_frame_only(fake: FakeWorkersAI) -> None:
    """A later failure is in a frame, and in `failure`."""
    fake.says(HEL, then_hangs_up=True)
    frames = stream(fake).sse(retry=10)
    await frames.begin()
    assert frames.failure is None
    body = await read_all(frames)
    assert body.startswith(b'retry: 10\n\nid: 1\nevent: text\ndata: {"text":"Hel"}\n\n')
    assert isinstance(frames.failure, StreamInterrupted)


async def test_a_token_before_an_error_is_sent(fake: FakeWorkersAI) -> None:
    """Even if both arrive at once: a status would hide the token."""
    fake.says(HEL + b'data: {"error":"broken"}\n\n')
    frames = stream(fake).ndjson()
    await frames.begin()
    body = await read_all(frames)
    assert [json.loads(line)["type"] for line in body.splitlines()] == ["text", "error"]


async def test_begin_ends_with_a_keep_alive_after_silence(fake: FakeWorkersAI) -> None:
    """Proxies give up on a response without a beginning."""
    first = asyncio.Event()
    fake.says(HEL, DONE, after=first)
    frames = stream(fake).sse(retry=10, keep_alive=0.01)
    await frames.begin()
    assert await anext(frames) == b"retry: 10\n\n: keep-alive\n\n"
    first.set()
    assert b"Hel" in await read_all(frames)


@pytest.mark.parametrize("keep_alive", [0, -1, float("nan")])
async def test_keep_alive_must_be_above_zero(fake: FakeWorkersAI, keep_alive: float) -> None:
    with pytest.raises(InputError, match="keep_alive must be above 0"):
        stream(fake).sse(keep_alive=keep_alive)


# Errors


async def test_an_error_is_the_last_frame(fake: FakeWorkersAI) -> None:
    """The web framework gets no exception."""
    cases: list[tuple[Any, str]] = [
        (lambda: fake.says(HEL, then_hangs_up=True), "StreamInterrupted"),
        (lambda: fake.says(HEL), "StreamInterrupted"),
        (lambda: fake.says(HEL + b'data: {"error":"broken"}\n\n'), "ServerError"),
        (lambda: fake.says(HEL + b"data: {\n\n"), "DecodeError"),
        (lambda: fake.says(HEL, asyncio.Event()), "RequestTimeout"),
    ]
    for script, name in cases:
        script()
        tokens = stream(fake, timeouts=Timeouts(idle=0.15))
        first, last = decode(await read_all(tokens.sse()))
        assert json.loads(first.data) == {"text": "Hel"}
        assert (last.event, last.id) == ("error", "2")
        assert json.loads(last.data)["error"] == name
        assert json.loads(last.data)["message"]
        assert tokens.answer == Text("Hel")


async def test_a_refusal_without_begin_is_a_frame_without_secrets(fake: FakeWorkersAI) -> None:
    fake.fails(401, 10000, "Authentication error: s3cret-t0ken")
    tokens = stream(fake, api_token="s3cret-t0ken", retries=Retries(max=0))
    body = await read_all(tokens.sse())
    assert b"s3cret" not in body
    (event,) = decode(body)
    assert event.event == "error"
    assert json.loads(event.data) == {
        "error": "AuthenticationError",
        "message": "the app can't use its model; see the app's log",
    }


async def test_errors_about_the_account_get_a_general_message(
    fake: FakeWorkersAI,
) -> None:
    cases: list[tuple[int, int, str, dict[str, Any]]] = [
        (400, 5004, "Invalid data", {"message": "Invalid data"}),
        (429, 3040, "busy", {"message": "busy", "retry_after": 7}),
        (429, 3036, "neurons 10000", {"message": "the app has used up its daily quota"}),
        (404, 7003, "no route for /accounts/abc", {"message": "the app can't use its model"}),
    ]
    for status, code, message, expected in cases:
        fake.fails(status, code, message, retry_after=expected.get("retry_after"))
        frames = stream(fake, retries=Retries(max=0)).ndjson()
        frame = json.loads(await read_all(frames))
        assert frame["message"].startswith(expected["message"])
        if code == 3036:
            assert 0 <= frame["retry_after"] <= 24 * 3600  # until the next day
        else:
            assert frame.get("retry_after") == expected.get("retry_after")


async def test_a_used_up_budget_is_not_the_browsers_business(fake: FakeWorkersAI) -> None:
    frame = json.loads(await read_all(stream(fake, budget=0).ndjson()))
    message = "the app has used up its budget for model usage"
    assert frame == {"type": "error", "error": "BudgetExceeded", "message": message}


class TimedSource(RelaySource):
    """Texts, and pauses in seconds between them."""

    def __init__(self, *steps: str | float) -> None:
        self._steps = steps

    async def _frames(self) -> AsyncGenerator[Frame, None]:
        for step in self._steps:
            if isinstance(step, str):
                yield "text", {"text": step}
            else:
                await asyncio.sleep(step)

    def cancel(self) -> None:
        """Nothing goes on."""


@pytest.mark.parametrize(
    ("steps", "busy", "arrivals"),
    [
        ((9, "a", 9, "b", 9), 0, [(9, "a"), (18, "b")]),
        ((25, "a", 10.5), 0, [(10, ""), (20, ""), (25, "a"), (35, "")]),
        # A reader that is busy is not silence.
        ((1, "a", 20, "b"), 15, [(1, "a"), (21, "b")]),
        (("a", 30), 15, [(0, "a"), (25, "")]),
    ],
)
def test_keep_alives_follow_ten_seconds_of_silence(
    steps: tuple[str | float, ...], busy: float, arrivals: list[tuple[float, str]]
) -> None:
    """Since the last bytes, and only if the reader waits for more."""

    async def read() -> list[tuple[float, str]]:
        found = []
        async for frame in TimedSource(*steps).ndjson(keep_alive=10):
            text = json.loads(frame)["text"] if frame.strip() else ""
            found.append((asyncio.get_running_loop().time(), text))
            await asyncio.sleep(busy)
        return found

    assert virtual_time.run(read()) == arrivals


class BrokenSource(RelaySource):
    """An answer whose app has a bug, after some texts."""

    def __init__(self, *texts: str) -> None:
        self._texts = texts

    async def _frames(self) -> AsyncGenerator[Frame, None]:
        for text in self._texts:
            yield "text", {"text": text}
        raise ZeroDivisionError("of the app")

    def cancel(self) -> None:
        """Nothing goes on."""


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ((), []),  # A status of its own is still possible.
        (
            ("Hel",),
            [
                {"type": "text", "text": "Hel"},
                {
                    "type": "error",
                    "error": "Exception",
                    "message": "the app can't use its model; see the app's log",
                },
            ],
        ),
    ],
    ids=["before the first frame", "in the middle"],
)
async def test_an_error_of_the_app_is_the_last_frame_and_raised(
    texts: tuple[str, ...], expected: list[dict[str, str]]
) -> None:
    """The browser learns that the answer is not complete; the app's server logs the error."""
    lines: list[bytes] = []
    with pytest.raises(ZeroDivisionError):
        async for data in BrokenSource(*texts).ndjson():
            lines += data.splitlines()
    assert [json.loads(line) for line in lines] == expected


# A browser that goes away


@pytest.mark.parametrize("started", [False, True], ids=["before the first token", "in the middle"])
async def test_closing_the_relay_closes_the_stream(fake: FakeWorkersAI, started: bool) -> None:
    """Quart, for example, closes an async iterator that it leaves. Closing twice is fine."""
    if started:
        fake.says(HEL, asyncio.Event())
    else:
        fake.stalls()
    tokens = stream(fake)
    frames: Any = tokens.sse(retry=None, keep_alive=0.01)
    await (read_until(frames, b"Hel") if started else anext(frames))
    await fake.until(lambda: fake.connections == 1)
    await frames.aclose()
    await frames.aclose()
    await all_closed(fake)
    with pytest.raises(StopAsyncIteration):
        await anext(frames)
    assert tokens.answer == Text("Hel" if started else "")


@pytest.mark.parametrize("started", [False, True], ids=["before the first token", "in the middle"])
async def test_cancelling_the_writing_task_closes_the_stream(
    fake: FakeWorkersAI, started: bool
) -> None:
    """Starlette, for example, cancels the task that writes the response."""
    if started:
        fake.says(HEL, asyncio.Event())
    else:
        fake.stalls()
    tokens = stream(fake)
    sent = asyncio.Event()

    async def respond() -> None:
        async for _ in tokens.sse(retry=None):
            sent.set()

    task = asyncio.ensure_future(respond())
    await fake.until(lambda: fake.requests)
    if started:
        await sent.wait()
    await run_other_tasks()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await all_closed(fake)


@pytest.mark.parametrize("started", [False, True], ids=["before the first token", "in the middle"])
async def test_dropping_the_relay_closes_the_stream(fake: FakeWorkersAI, started: bool) -> None:
    """Even while it waits for a token between two keep-alives."""
    if started:
        fake.says(HEL, asyncio.Event())
    else:
        fake.stalls()
    before = asyncio.all_tasks()
    tokens = stream(fake)
    frames = tokens.sse(retry=None, keep_alive=0.01)
    while await anext(frames) != b": keep-alive\n\n":
        pass
    await fake.until(lambda: fake.connections == 1)
    del frames
    await all_closed(fake)
    await run_other_tasks()
    assert asyncio.all_tasks() <= before


async def test_cancel_from_another_task_ends_the_relay_without_an_error(
    fake: FakeWorkersAI,
) -> None:
    """The browser gets the frames so far and `done`."""
    fake.says(HEL, asyncio.Event())
    tokens = stream(fake)
    frames = tokens.sse(retry=None)
    await anext(frames)
    rest = asyncio.ensure_future(read_all(frames))
    await run_other_tasks()
    tokens.cancel()
    assert await rest == b'id: 2\nevent: done\ndata: {"finish_reason":"cancelled"}\n\n'
    await all_closed(fake)


async def test_a_cancelled_relay_tells_what_the_service_said(fake: FakeWorkersAI) -> None:
    """Its finish reason, and no call as if it were complete."""
    function = {"name": "f", "arguments": "{}"}
    call = {"tool_calls": [{"index": 0, "id": "c1", "function": function}]}
    fake.streams(call, {"response": "Hel", "finish_reason": "length"}, asyncio.Event())
    tokens = stream(fake)
    frames = tokens.ndjson()
    await read_until(frames, b"Hel")
    tokens.cancel()
    assert await read_all(frames) == b'{"type":"done","finish_reason":"length"}\n'


async def test_a_closed_relay_has_no_frames(fake: FakeWorkersAI) -> None:
    """Not even `done`."""
    frames = stream(fake).sse()
    frames.close()
    assert [frame async for frame in frames] == []
    assert fake.requests == []


async def test_an_unread_relay_sends_no_request(fake: FakeWorkersAI) -> None:
    tokens = stream(fake)
    frames = tokens.sse()
    del frames
    assert [token async for token in tokens] == []
    assert fake.requests == []


async def test_an_error_while_the_relay_closes_is_not_logged(
    fake: FakeWorkersAI,
) -> None:
    """Nobody is left to get it."""
    errors: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    cut = asyncio.Event()
    fake.says(HEL, cut, then_hangs_up="reset")
    frames: Any = stream(fake).sse(retry=None, keep_alive=0.01)
    await read_until(frames, b"Hel")
    assert await anext(frames) == b": keep-alive\n\n"
    cut.set()
    await all_closed(fake)
    await run_other_tasks()
    await frames.aclose()
    del frames
    await run_other_tasks()
    assert errors == []


async def test_a_thousand_browsers_that_leave_leave_nothing_behind(fake: FakeWorkersAI) -> None:
    """Closed, cancelled and dropped in turn, at every point."""
    errors: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    fake.always.says(HEL + LO, asyncio.Event())
    ai = fake.client()
    before = asyncio.all_tasks()
    numbers = iter(range(1000))

    async def browser() -> None:
        number = next(numbers)
        frames: Any = ai.stream(MODEL, Prompt("Hi")).sse(keep_alive=0.01)
        task = asyncio.ensure_future(read_all(frames))
        for _ in range(number % 40):
            await asyncio.sleep(0)
        if number % 3 == 0:
            await frames.aclose()
        else:
            task.cancel()
        await asyncio.wait([task])

    for _ in range(10):
        await asyncio.gather(*(browser() for _ in range(100)))
    await all_closed(fake)
    await fake.until(lambda: asyncio.all_tasks() <= before)
    assert errors == []
