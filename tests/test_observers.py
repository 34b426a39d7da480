"""What observers get of a call, and that they can't affect it."""

import asyncio
import gc
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

import pytest

from cfai import (
    Gateway,
    InputError,
    Options,
    Prompt,
    RateLimited,
    Retries,
    Retry,
    TextEmbeddings,
    Token,
    WorkersAI,
)
from cfai.errors import StreamInterrupted
from cfai.observers import Call, Ending, Observation
from cfai.tasks import Rerank, Text, TextToImage
from cfai.testing import FakeWorkersAI

MODEL = "@cf/meta/llama-3.1-8b-instruct-fast"
HI = Prompt("Hi", temperature=0.5)
AT_ONCE = Retries(base=0)


class Recorder(Observation):
    """Records its call and all events."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.events: list[Any] = []
        self.ending: Ending | None = None

    def retried(self, retry: Retry) -> None:
        self.events.append(retry)

    def began(self, seconds: float) -> None:
        assert seconds >= 0
        self.events.append("began")

    def token(self, token: Token, seconds: float) -> None:
        assert seconds >= 0
        self.events.append(token.text)

    def ended(self, ending: Ending) -> None:
        assert self.ending is None, "a call ends once"
        self.ending = ending
        self.events.append(ending.outcome)


class CallRecorders(list[Recorder]):
    """An observer that keeps the recorder of every call."""

    def __call__(self, call: Call) -> Recorder:
        self.append(Recorder(call))
        return self[-1]


async def test_an_observer_gets_the_call_and_its_answer(fake: FakeWorkersAI) -> None:
    """Model, task and address at the start, the answer at the end."""
    fake.answers({"response": "Hello"})
    recorders = CallRecorders()
    answer = await fake.client(observers=[recorders], gateway="g").run(MODEL, HI)

    (recorder,) = recorders
    call = recorder.call
    assert (call.operation, call.model, call.task) == ("text_completion", MODEL, HI)
    assert (call.address, call.port, call.gateway) == ("127.0.0.1", fake.port, "g")
    assert not call.stream
    assert call.asked("temperature") == 0.5
    assert call.asked("seed") is None
    assert recorder.events == ["done"]
    assert recorder.ending is not None
    assert recorder.ending.answer is answer
    assert recorder.ending.meta is answer.meta
    assert recorder.ending.elapsed >= answer.meta.elapsed


@pytest.mark.parametrize(
    ("task", "operation"),
    [
        ({"messages": [{"role": "user", "content": "Hi"}]}, "chat"),
        ({"prompt": "Hi"}, "text_completion"),
        ({"audio": [1]}, "generate_content"),
    ],
)
async def test_the_operation_of_an_open_run_depends_on_its_fields(
    fake: FakeWorkersAI, task: dict[str, Any], operation: str
) -> None:
    """A mapping with messages is a chat, one with a prompt a completion."""
    fake.answers({"response": "Hello"})
    recorders = CallRecorders()
    await fake.client(observers=[recorders]).run(MODEL, task | {"seed": 7})
    assert (recorders[0].call.operation, recorders[0].call.asked("seed")) == (operation, 7)


async def test_call_asked_reads_extra_fields(fake: FakeWorkersAI) -> None:
    """`Call.asked` also reads `extra` of a task."""
    fake.answers({"response": "Hello"})
    recorders = CallRecorders()
    await fake.client(observers=[recorders]).run(MODEL, Prompt("Hi", extra={"stop": ["."]}))
    assert recorders[0].call.asked("stop") == ["."]


@pytest.mark.parametrize("task", [Prompt("a secret plan"), {"prompt": "a secret plan"}])
async def test_the_repr_of_a_call_shows_no_content(fake: FakeWorkersAI, task: Any) -> None:
    fake.answers({"response": "Hello"})
    recorders = CallRecorders()
    await fake.client(observers=[recorders]).run(MODEL, task)
    (recorder,) = recorders
    assert MODEL in repr(recorder.call)
    assert "secret" not in repr(recorder.call)
    assert "fake-api-token" not in repr(recorder.call)


async def test_each_retry_is_reported(fake: FakeWorkersAI) -> None:
    """The user's own `on_retry` of the client or the call is called, too."""
    own: list[Retry] = []
    retries = Retries(base=0, on_retry=own.append)
    for options in (None, Options(retries=retries)):
        fake.fails(429, 3040, "busy").fails(500, 3000, "oops").answers({"response": "Hello"})
        recorders = CallRecorders()
        own.clear()
        await fake.client(observers=[recorders], retries=retries).run(MODEL, HI, options=options)
        (recorder,) = recorders
        assert recorder.events == [*own, "done"]
        assert [retry.attempt for retry in own] == [1, 2]


async def test_an_error_ends_a_call_as_failed(fake: FakeWorkersAI) -> None:
    """The ending has the error that is raised."""
    fake.fails(429, 3040, "busy")
    recorders = CallRecorders()
    with pytest.raises(RateLimited) as caught:
        await fake.client(observers=[recorders], retries=Retries(max=0)).run(MODEL, HI)
    (recorder,) = recorders
    assert recorder.events == ["failed"]
    assert recorder.ending is not None
    assert recorder.ending.error is caught.value
    assert recorder.ending.meta.status == 429


async def test_a_call_that_sends_nothing_is_observed(fake: FakeWorkersAI) -> None:
    """An invalid request is a failed call."""
    recorders = CallRecorders()
    with pytest.raises(InputError):
        await fake.client(observers=[recorders]).run("no/../model", HI)
    assert recorders[0].events == ["failed"]
    assert not fake.requests


async def test_a_cancelled_call_ends_as_cancelled(fake: FakeWorkersAI) -> None:
    """The waiting task is cancelled."""
    fake.answers({"response": "never"}, after=asyncio.Event())
    recorders = CallRecorders()
    task = asyncio.create_task(fake.client(observers=[recorders]).run(MODEL, HI))
    await fake.until(lambda: fake.requests)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert recorders[0].events == ["cancelled"]


# Streams


async def test_a_stream_is_observed_from_opening_to_end(fake: FakeWorkersAI) -> None:
    """Nothing before it is opened; then its beginning, its tokens, and its answer."""
    fake.streams("Hel", "lo")
    recorders = CallRecorders()
    tokens = fake.client(observers=[recorders]).stream(MODEL, HI)
    assert not recorders
    async with tokens:
        assert recorders[0].events == ["began"]
        assert recorders[0].call.stream
        assert await tokens.collect() == Text("Hello")
        assert recorders[0].events == ["began", "Hel", "lo", "done"]
    ending = recorders[0].ending
    assert ending is not None
    assert (ending.answer, ending.meta) == (tokens.answer, tokens.meta)


async def test_leaving_a_stream_ends_the_call_as_closed(fake: FakeWorkersAI) -> None:
    """The ending has the part that had arrived."""
    fake.streams("Hel", "lo")
    recorders = CallRecorders()
    async with fake.client(observers=[recorders]).stream(MODEL, HI) as tokens:
        await anext(tokens)
    assert recorders[0].events == ["began", "Hel", "closed"]
    assert recorders[0].ending is not None
    assert recorders[0].ending.answer == Text("Hel")


async def test_cancel_ends_the_call_as_closed(fake: FakeWorkersAI) -> None:
    """`cancel()` ends the iteration and the call."""
    fake.streams("Hel", "lo")
    recorders = CallRecorders()
    async with fake.client(observers=[recorders]).stream(MODEL, HI) as tokens:
        async for _ in tokens:
            tokens.cancel()
    assert recorders[0].events == ["began", "Hel", "closed"]


async def test_cancel_while_opening_ends_the_call_as_closed(
    fake: FakeWorkersAI,
) -> None:
    """`cancel()` before the first event."""
    fake.streams("never", after=asyncio.Event())
    recorders = CallRecorders()
    tokens = fake.client(observers=[recorders]).stream(MODEL, HI)
    opening = asyncio.create_task(tokens.open())
    await fake.until(lambda: fake.requests)
    tokens.cancel()
    await opening
    assert recorders[0].events == ["closed"]


async def test_cancelling_the_readers_task_ends_the_call_as_cancelled(fake: FakeWorkersAI) -> None:
    """A cancellation is not an error."""
    fake.streams("Hel", "lo", asyncio.Event())
    recorders = CallRecorders()
    tokens = fake.client(observers=[recorders]).stream(MODEL, HI)
    assert [await anext(tokens), await anext(tokens)]
    task = asyncio.create_task(tokens.collect())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert recorders[0].events == ["began", "Hel", "lo", "cancelled"]


async def test_dropping_a_stream_ends_the_call_as_closed(fake: FakeWorkersAI) -> None:
    """Without the garbage collector."""
    fake.streams("Hel", "lo")
    recorders = CallRecorders()
    gc.disable()
    try:
        tokens = fake.client(observers=[recorders]).stream(MODEL, HI)
        await anext(tokens)
        del tokens
        assert recorders[0].events == ["began", "Hel", "closed"]
    finally:
        gc.enable()
    await fake.until(lambda: fake.connections == 0)


async def test_a_cut_stream_ends_the_call_as_failed(fake: FakeWorkersAI) -> None:
    """The error and the ending have the part that had arrived."""
    fake.says(b'data: {"response":"Hel"}\n\n', then_hangs_up=True)
    recorders = CallRecorders()
    with pytest.raises(StreamInterrupted):
        await fake.client(observers=[recorders]).stream(MODEL, HI).collect()
    assert recorders[0].events == ["began", "Hel", "failed"]
    assert recorders[0].ending is not None
    assert recorders[0].ending.answer == Text("Hel")


NO_END_MARK = b'data: {"response":"Hel"}\n\n'
TRUNCATED = [
    pytest.param(NO_END_MARK, id="without its end mark"),
    pytest.param(NO_END_MARK + b'data: {"respon', id="inside an event"),
]
"""Bodies that come to an end of their own, which is not that of the answer."""


def send_stream(fake: FakeWorkersAI, *parts: bytes | asyncio.Event) -> None:
    fake.says(*parts, content_type="text/event-stream")


@pytest.mark.parametrize("body", TRUNCATED)
async def test_a_truncated_stream_ends_the_call_as_failed(fake: FakeWorkersAI, body: bytes) -> None:
    """The end of the body does not make it complete: the ending has the reader's error."""
    send_stream(fake, body)
    recorders = CallRecorders()
    with pytest.raises(StreamInterrupted) as caught:
        await fake.client(observers=[recorders]).stream(MODEL, HI).collect()
    assert recorders[0].events == ["began", "Hel", "failed"]
    assert recorders[0].ending is not None
    assert recorders[0].ending.error is caught.value
    assert recorders[0].ending.answer == Text("Hel")


@pytest.mark.parametrize("body", TRUNCATED)
@pytest.mark.parametrize("form", ["sse", "ndjson"])
async def test_a_truncated_relayed_stream_ends_the_call_as_failed(
    fake: FakeWorkersAI, body: bytes, form: str
) -> None:
    """The error is reported to the browser and to observers."""
    send_stream(fake, body)
    recorders = CallRecorders()
    tokens = fake.client(observers=[recorders]).stream(MODEL, HI)
    frames = [frame async for frame in getattr(tokens, form)()]
    assert b"StreamInterrupted" in frames[-1]
    assert recorders[0].events == ["began", "Hel", "failed"]


async def test_cancelling_after_the_end_mark_ends_the_call_as_done(fake: FakeWorkersAI) -> None:
    """The answer is complete; only the connection is lost."""
    send_stream(fake, NO_END_MARK + b"data: [DONE]\n\n", asyncio.Event())
    recorders = CallRecorders()
    tokens = fake.client(observers=[recorders]).stream(MODEL, HI)
    await anext(tokens)
    task = asyncio.create_task(tokens.collect())
    await asyncio.sleep(0)  # It takes the end mark, and waits for that of the body.
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert recorders[0].events == ["began", "Hel", "done"]
    assert tokens.answer == Text("Hel")


async def test_a_stream_that_fails_to_open_ends_the_call_as_failed(fake: FakeWorkersAI) -> None:
    """A stream that is never opened is not a call."""
    fake.fails(429, 3040, "busy")
    recorders = CallRecorders()
    ai = fake.client(observers=[recorders], retries=Retries(max=0))
    ai.stream(MODEL, HI)
    with pytest.raises(RateLimited):
        await ai.stream(MODEL, HI).open()
    assert [recorder.events for recorder in recorders] == [["failed"]]


async def test_raw_events_end_the_call_as_done(fake: FakeWorkersAI) -> None:
    """Raw events are not tokens, but they have an end."""
    fake.streams("Hel", "lo")
    recorders = CallRecorders()
    tokens = fake.client(observers=[recorders]).stream(MODEL, HI)
    assert len([event async for event in tokens.events()]) == 3
    assert recorders[0].events == ["began", "done"]  # Without waiting for somebody to close it.
    assert recorders[0].ending is not None
    assert recorders[0].ending.meta is tokens.meta


async def test_leaving_raw_events_ends_the_call_as_closed(fake: FakeWorkersAI) -> None:
    """They are done only if the reader asks for an event after the last one."""
    recorders = CallRecorders()
    for body in (NO_END_MARK, NO_END_MARK.removesuffix(b"\n")):
        send_stream(fake, body)
        async with fake.client(observers=[recorders]).stream(MODEL, HI) as tokens:
            assert (await anext(tokens.events())).data == '{"response":"Hel"}'
    assert [recorder.events for recorder in recorders] == [["began", "closed"]] * 2


async def test_cut_raw_events_end_the_call_as_failed(fake: FakeWorkersAI) -> None:
    """Observers get the error that the reader gets."""
    fake.says(NO_END_MARK, b"data: x", then_hangs_up=True)
    recorders = CallRecorders()
    tokens = fake.client(observers=[recorders]).stream(MODEL, HI)
    with pytest.raises(StreamInterrupted) as caught:
        assert [event async for event in tokens.events()]
    assert recorders[0].events == ["began", "failed"]
    assert recorders[0].ending is not None
    assert recorders[0].ending.error is caught.value


async def test_json_instead_of_a_stream_is_one_token(fake: FakeWorkersAI) -> None:
    """The call ends with the one token, whether the reader reads on or not."""
    fake.answers({"response": "Hello"}).answers({"response": "Hello"})
    recorders = CallRecorders()
    ai = fake.client(observers=[recorders])
    async with ai.stream(MODEL, HI) as tokens:
        await anext(tokens)
    await ai.stream(MODEL, HI).collect()
    assert [recorder.events for recorder in recorders] == [["began", "Hello", "done"]] * 2


async def test_an_unrequested_stream_is_observed_to_its_end(fake: FakeWorkersAI) -> None:
    """An open run may return a stream; for a task, the stream is read at once."""
    fake.streams("Hel", "lo").streams("Hel", "lo")
    recorders = CallRecorders()
    ai = fake.client(observers=[recorders])
    tokens = await ai.run(MODEL, {"prompt": "Hi"})
    assert recorders[0].events == ["began"]
    await tokens.collect()
    assert recorders[0].events == ["began", "Hel", "lo", "done"]
    assert await ai.run(MODEL, HI) == Text("Hello")
    assert recorders[1].events == ["done"]


# Many texts


async def test_each_request_of_a_job_is_a_call(fake: FakeWorkersAI) -> None:
    """`embed_many` makes a call for each request."""
    for _ in range(2):
        fake.answers({"shape": [2, 1], "data": [[1.0], [2.0]]})
    recorders = CallRecorders()
    job = fake.client(observers=[recorders]).embed_many(
        "@cf/baai/bge-m3", list("abcd"), batch_size=2
    )
    assert [batch.start async for batch in job] == [0, 2]
    assert [recorder.call.operation for recorder in recorders] == ["embeddings"] * 2
    assert [recorder.events for recorder in recorders] == [["done"]] * 2


# What they may do


class Marked(Observation):
    """Sends a header, and marks the task while the request is made."""

    mark: ContextVar[str] = ContextVar("mark", default="")

    def __init__(self, call: Call) -> None:
        self.name = str(call.asked("prompt"))

    def headers(self) -> dict[str, str]:
        return {"X-Mark": self.name, "x-own": "observer"}

    def running(self) -> AbstractContextManager[object]:
        @contextmanager
        def marking() -> Iterator[None]:
            token = self.mark.set(self.name)
            yield
            self.mark.reset(token)

        return marking()


async def test_headers_of_observers_are_added_unless_set(fake: FakeWorkersAI) -> None:
    """Headers of the client and the call win, in any case of letters."""
    ai = fake.client(observers=[Marked], headers={"X-Own": "client"})
    for options in (None, Options(headers={"x-mark": "call"})):
        fake.answers({"response": "Hello"})
        await ai.run(MODEL, HI, options=options)
    first, second = (request.headers for request in fake.requests)
    assert (first["X-Mark"], first["X-Own"]) == ("Hi", "client")
    assert (second["X-Mark"], second["X-Own"]) == ("call", "client")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Authorization", "Bearer other"),
        ("x-auth-key", "other"),
        ("cf-aig-gateway-id", "other"),
        ("CF-AIG-Skip-Cache", "false"),
        ("cf-aig-authorization", "Bearer other"),
        ("x-session-affinity", "other"),
        ("User-Agent", "other"),
        ("Accept", "text/other"),
        ("Content-Type", "text/other"),
        ("Content-Length", "3"),
        ("Transfer-Encoding", "chunked"),
        ("Host", "other"),
        ("x-number", 1),
        ("x-lines", "a\r\nb: c"),
        ("x-wide", "\u20ac"),
        ("no name", "other"),
        (5, "other"),
    ],
)
async def test_reserved_and_invalid_headers_are_logged_and_dropped(
    fake: FakeWorkersAI, caplog: pytest.LogCaptureFixture, name: Any, value: Any
) -> None:
    """The request has its other headers unchanged."""

    class Meddling(Observation):
        def __init__(self, call: Call) -> None:
            pass

        def headers(self) -> dict[str, str]:
            return {name: value, "x-mark": "yes"}

    options = Options(session_affinity="s")
    gateway = Gateway("mine", skip_cache=True)
    for observers in ([], [Meddling]):
        fake.answers({"response": "Hello"})
        client = fake.client(observers=observers, gateway=gateway)
        assert (await client.run(MODEL, HI, options=options)).text == "Hello"
    plain, observed = ({**request.headers} for request in fake.requests)
    assert observed.pop("x-mark") == "yes"
    assert observed == plain
    (record,) = caplog.records
    assert "an observer failed at headers()" in record.getMessage()
    assert "Bearer" not in caplog.text


async def test_the_later_of_two_observers_wins(fake: FakeWorkersAI) -> None:
    """Names of headers are compared without case."""

    class Later(Marked):
        def headers(self) -> dict[str, str]:
            return {"x-mark": "later"}

    fake.answers({"response": "Hello"})
    await fake.client(observers=[Marked, Later]).run(MODEL, HI)
    assert fake.requests[0].headers["x-mark"] == "later"


async def test_contexts_of_observers_are_nested(fake: FakeWorkersAI) -> None:
    """As `with` nests them."""
    events: list[str] = []

    def entering(name: str) -> type[Observation]:
        class Around(Observation):
            def __init__(self, call: Call) -> None:
                pass

            def running(self) -> AbstractContextManager[object]:
                @contextmanager
                def around() -> Iterator[None]:
                    events.append(f"+{name}")
                    yield
                    events.append(f"-{name}")

                return around()

        return Around

    fake.answers({"response": "Hello"})
    await fake.client(observers=[entering("a"), entering("b")]).run(MODEL, HI)
    assert events == ["+a", "+b", "-b", "-a"]


async def test_contexts_of_observers_are_exited_before_the_stream_is_read(
    fake: FakeWorkersAI,
) -> None:
    """`running` is around the request only."""
    inside: list[str] = []
    fake.fails(429, 3040, "busy").streams("Hel", "lo")
    retries = Retries(base=0, on_retry=lambda _: inside.append(Marked.mark.get()))
    async with fake.client(observers=[Marked], retries=retries).stream(MODEL, HI) as tokens:
        async for _ in tokens:
            assert Marked.mark.get() == ""
    assert inside == ["Hi"]


class Broken(Observation):
    """Fails at whatever it is told."""

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_"):
            raise RuntimeError(name)
        return super().__getattribute__(name)


async def test_errors_of_observers_are_logged_and_have_no_effect(
    fake: FakeWorkersAI, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the call nor other observers are affected."""
    fake.fails(429, 3040, "busy").streams("Hello")
    recorders = CallRecorders()
    ai = fake.client(observers=[lambda _: Broken(), recorders], retries=AT_ONCE)
    with caplog.at_level(logging.ERROR, "cfai"):
        assert await ai.stream(MODEL, HI).collect() == Text("Hello")
    assert recorders[0].events[1:] == ["began", "Hello", "done"]
    failed = [record.args[0] for record in caplog.records if isinstance(record.args, tuple)]
    wanted = ["running()", "headers()", "retried()", "began()", "token()", "ended()"]
    assert failed == wanted
    assert all(record.name == "cfai" and record.exc_info for record in caplog.records)


async def test_an_observer_cannot_cancel_a_call(
    fake: FakeWorkersAI, caplog: pytest.LogCaptureFixture
) -> None:
    """A `CancelledError` of an observer is logged like any other error."""

    class Cancelling(Recorder):
        def ended(self, ending: Ending) -> None:
            raise asyncio.CancelledError

    fake.answers({"response": "Hello"})
    assert (await fake.client(observers=[Cancelling]).run(MODEL, HI)).text == "Hello"
    assert "an observer failed at ended()" in caplog.text


async def test_an_observer_may_return_none(fake: FakeWorkersAI) -> None:
    """The call is then not observed, and nothing is logged."""
    fake.answers({"response": "Hello"})
    assert (await fake.client(observers=[lambda _: None]).run(MODEL, HI)).text == "Hello"


async def test_another_return_value_of_an_observer_is_logged(
    fake: FakeWorkersAI, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names its type."""
    fake.answers({"response": "Hello"})
    wrong: Any = [lambda _: 5]
    assert (await fake.client(observers=wrong).run(MODEL, HI)).text == "Hello"
    assert "an observer must return an Observation or None, got a int" in caplog.text


async def test_an_error_of_on_retry_ends_the_call(fake: FakeWorkersAI) -> None:
    """Observers do not change how `on_retry` works."""

    def refuse(_: Retry) -> None:
        raise LookupError("enough")

    fake.fails(429, 3040, "busy")
    recorders = CallRecorders()
    with pytest.raises(LookupError):
        await fake.client(observers=[recorders], retries=Retries(on_retry=refuse)).run(MODEL, HI)
    assert recorders[0].events[1:] == ["failed"]


@pytest.mark.parametrize("observers", [5, [5], "no"])
def test_observers_are_checked_by_the_constructor(observers: Any) -> None:
    """Values that are not callable are refused."""
    with pytest.raises(InputError, match="observer"):
        WorkersAI(account_id="account", api_token="token", observers=observers)


async def test_with_options_keeps_the_observers_by_default(fake: FakeWorkersAI) -> None:
    """`with_options` keeps, replaces or removes them."""
    ours, theirs = CallRecorders(), CallRecorders()
    ai = fake.client(observers=[ours])
    for copy in (
        ai.with_options(),
        ai.with_options(observers=[theirs]),
        ai.with_options(observers=()),
    ):
        fake.answers({"response": "Hello"})
        await copy.run(MODEL, HI)
    assert (len(ours), len(theirs)) == (1, 1)


@pytest.mark.parametrize(
    ("task", "operation"),
    [
        (TextEmbeddings(["a"]), "embeddings"),
        (Rerank("a", ["b"]), "rerank"),
        (TextToImage("a"), "generate_content"),
    ],
)
async def test_the_operation_of_a_task_follows_the_conventions(
    fake: FakeWorkersAI, task: Any, operation: str
) -> None:
    """OpenTelemetry's names if it has one, else our own."""
    fake.fails(400, 5004, "no")
    recorders = CallRecorders()
    with pytest.raises(Exception, match="no"):
        await fake.client(observers=[recorders]).run(MODEL, task)
    assert recorders[0].call.operation == operation


@pytest.mark.parametrize("is_open", [False, True])
async def test_a_stream_that_nobody_requested_is_observed_once(
    fake: FakeWorkersAI, is_open: bool
) -> None:
    """Of a task, with its answer; of a mapping, at the end of the stream that the caller reads."""
    ends: list[Ending] = []

    class Listening(Observation):
        def ended(self, ending: Ending) -> None:
            ends.append(ending)

    fake.streams("Hel", "lo")
    ai = fake.client(observers=[lambda call: Listening()])
    if is_open:
        async with await ai.run(MODEL, {"prompt": "Hi"}) as stream:
            assert not ends
            assert "".join([token.text async for token in stream]) == "Hello"
    else:
        answer = await ai.run(MODEL, Prompt("Hi"))
        assert answer.text == "Hello"
    (end,) = ends
    assert (end.outcome, str(end.answer)) == ("done", "Hello")
