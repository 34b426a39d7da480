"""What observers hear of a call, and that they can do it no harm."""

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

MODEL = "@cf/meta/llama-3.1-8b-instruct"
HI = Prompt("Hi", temperature=0.5)
AT_ONCE = Retries(base=0)


class Notes(Observation):
    """Writes down all that it hears, the call first."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.heard: list[Any] = []
        self.ending: Ending | None = None

    def retried(self, retry: Retry) -> None:
        self.heard.append(retry)

    def began(self, seconds: float) -> None:
        assert seconds >= 0
        self.heard.append("began")

    def token(self, token: Token, seconds: float) -> None:
        assert seconds >= 0
        self.heard.append(token.text)

    def ended(self, ending: Ending) -> None:
        assert self.ending is None, "a call ends once"
        self.ending = ending
        self.heard.append(ending.outcome)


class Desk(list[Notes]):
    """An observer that keeps its notes of every call."""

    def __call__(self, call: Call) -> Notes:
        self.append(Notes(call))
        return self[-1]


async def test_an_observer_hears_of_a_run(fake: FakeWorkersAI) -> None:
    """It is told what is asked of which model and where, and given the answer."""
    fake.answers({"response": "Hello"})
    desk = Desk()
    answer = await fake.client(observers=[desk], gateway="g").run(MODEL, HI)

    (notes,) = desk
    call = notes.call
    assert (call.operation, call.model, call.task) == ("text_completion", MODEL, HI)
    assert (call.address, call.port, call.gateway) == ("127.0.0.1", fake.port, "g")
    assert not call.stream
    assert call.asked("temperature") == 0.5
    assert call.asked("seed") is None
    assert notes.heard == ["done"]
    assert notes.ending is not None
    assert notes.ending.answer is answer
    assert notes.ending.meta is answer.meta
    assert notes.ending.elapsed >= answer.meta.elapsed


@pytest.mark.parametrize(
    ("task", "operation"),
    [
        ({"messages": [{"role": "user", "content": "Hi"}]}, "chat"),
        ({"prompt": "Hi"}, "text_completion"),
        ({"audio": [1]}, "generate_content"),
    ],
)
async def test_an_open_run_is_named_by_what_it_sends(
    fake: FakeWorkersAI, task: dict[str, Any], operation: str
) -> None:
    """A mapping with messages is a chat, one with a prompt a completion."""
    fake.answers({"response": "Hello"})
    desk = Desk()
    await fake.client(observers=[desk]).run(MODEL, task | {"seed": 7})
    assert (desk[0].call.operation, desk[0].call.asked("seed")) == (operation, 7)


async def test_the_fields_beside_a_task_are_asked_for_like_its_own(fake: FakeWorkersAI) -> None:
    """`Call.asked` also finds what a task has in `extra`."""
    fake.answers({"response": "Hello"})
    desk = Desk()
    await fake.client(observers=[desk]).run(MODEL, Prompt("Hi", extra={"stop": ["."]}))
    assert desk[0].call.asked("stop") == ["."]


async def test_each_repeated_attempt_is_told(fake: FakeWorkersAI) -> None:
    """The user's own `on_retry` hears of them, too, whether of the client or of the call."""
    own: list[Retry] = []
    retries = Retries(base=0, on_retry=own.append)
    for options in (None, Options(retries=retries)):
        fake.fails(429, 3040, "busy").fails(500, 3000, "oops").answers({"response": "Hello"})
        desk = Desk()
        own.clear()
        await fake.client(observers=[desk], retries=retries).run(MODEL, HI, options=options)
        (notes,) = desk
        assert notes.heard == [*own, "done"]
        assert [retry.attempt for retry in own] == [1, 2]


async def test_an_error_ends_a_call(fake: FakeWorkersAI) -> None:
    """What is raised is what the observer is given."""
    fake.fails(429, 3040, "busy")
    desk = Desk()
    with pytest.raises(RateLimited) as caught:
        await fake.client(observers=[desk], retries=Retries(max=0)).run(MODEL, HI)
    (notes,) = desk
    assert notes.heard == ["failed"]
    assert notes.ending is not None
    assert notes.ending.error is caught.value
    assert notes.ending.meta.status == 429


async def test_a_call_that_sends_nothing_is_told_too(fake: FakeWorkersAI) -> None:
    """A request that can't be made is a failed call."""
    desk = Desk()
    with pytest.raises(InputError):
        await fake.client(observers=[desk]).run("no/../model", HI)
    assert desk[0].heard == ["failed"]
    assert not fake.requests


async def test_a_cancelled_call_is_told(fake: FakeWorkersAI) -> None:
    """The task that waits is cancelled: so the call ends."""
    fake.answers({"response": "never"}, after=asyncio.Event())
    desk = Desk()
    task = asyncio.create_task(fake.client(observers=[desk]).run(MODEL, HI))
    await fake.until(lambda: fake.requests)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert desk[0].heard == ["cancelled"]


# Streams


async def test_a_stream_is_a_call_from_its_opening_to_its_end(fake: FakeWorkersAI) -> None:
    """Nothing is told before it is opened; then its begin, its tokens, then its answer."""
    fake.streams("Hel", "lo")
    desk = Desk()
    tokens = fake.client(observers=[desk]).stream(MODEL, HI)
    assert not desk
    async with tokens:
        assert desk[0].heard == ["began"]
        assert desk[0].call.stream
        assert await tokens.collect() == Text("Hello")
        assert desk[0].heard == ["began", "Hel", "lo", "done"]
    ending = desk[0].ending
    assert ending is not None
    assert (ending.answer, ending.meta) == (tokens.answer, tokens.meta)


async def test_a_stream_that_is_left_is_closed(fake: FakeWorkersAI) -> None:
    """Whoever leaves early ends the call with what had arrived."""
    fake.streams("Hel", "lo")
    desk = Desk()
    async with fake.client(observers=[desk]).stream(MODEL, HI) as tokens:
        await anext(tokens)
    assert desk[0].heard == ["began", "Hel", "closed"]
    assert desk[0].ending is not None
    assert desk[0].ending.answer == Text("Hel")


async def test_a_stream_that_is_cancelled_from_elsewhere_is_closed(fake: FakeWorkersAI) -> None:
    """`cancel()` ends the iteration, and the call."""
    fake.streams("Hel", "lo")
    desk = Desk()
    async with fake.client(observers=[desk]).stream(MODEL, HI) as tokens:
        async for _ in tokens:
            tokens.cancel()
    assert desk[0].heard == ["began", "Hel", "closed"]


async def test_a_stream_whose_first_event_is_no_longer_wanted_is_closed(
    fake: FakeWorkersAI,
) -> None:
    """`cancel()` while it is opened ends the call as well."""
    fake.streams("never", after=asyncio.Event())
    desk = Desk()
    tokens = fake.client(observers=[desk]).stream(MODEL, HI)
    opening = asyncio.create_task(tokens.open())
    await fake.until(lambda: fake.requests)
    tokens.cancel()
    await opening
    assert desk[0].heard == ["closed"]


async def test_a_stream_whose_task_is_cancelled_is_cancelled(fake: FakeWorkersAI) -> None:
    """So it is told, and not as an error."""
    fake.streams("Hel", "lo", asyncio.Event())
    desk = Desk()
    tokens = fake.client(observers=[desk]).stream(MODEL, HI)
    assert [await anext(tokens), await anext(tokens)]
    task = asyncio.create_task(tokens.collect())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert desk[0].heard == ["began", "Hel", "lo", "cancelled"]


async def test_a_dropped_stream_is_closed(fake: FakeWorkersAI) -> None:
    """It ends when nobody has it any more, without the collector's help."""
    fake.streams("Hel", "lo")
    desk = Desk()
    gc.disable()
    try:
        tokens = fake.client(observers=[desk]).stream(MODEL, HI)
        await anext(tokens)
        del tokens
        assert desk[0].heard == ["began", "Hel", "closed"]
    finally:
        gc.enable()
    await fake.until(lambda: fake.connections == 0)


async def test_a_stream_that_is_cut_failed(fake: FakeWorkersAI) -> None:
    """The error has what had arrived, and so has the ending."""
    fake.says(b'data: {"response":"Hel"}\n\n', then_hangs_up=True)
    desk = Desk()
    with pytest.raises(StreamInterrupted):
        await fake.client(observers=[desk]).stream(MODEL, HI).collect()
    assert desk[0].heard == ["began", "Hel", "failed"]
    assert desk[0].ending is not None
    assert desk[0].ending.answer == Text("Hel")


NO_END_MARK = b'data: {"response":"Hel"}\n\n'
TRUNCATED = [
    pytest.param(NO_END_MARK, id="without its end mark"),
    pytest.param(NO_END_MARK + b'data: {"respon', id="inside an event"),
]
"""Bodies that come to an end of their own, which is not that of the answer."""


def says(fake: FakeWorkersAI, *parts: bytes | asyncio.Event) -> None:
    fake.says(*parts, content_type="text/event-stream")


@pytest.mark.parametrize("body", TRUNCATED)
async def test_a_stream_that_is_truncated_failed(fake: FakeWorkersAI, body: bytes) -> None:
    """That no bytes are left does not make it whole: the ending has the error of the reader."""
    says(fake, body)
    desk = Desk()
    with pytest.raises(StreamInterrupted) as caught:
        await fake.client(observers=[desk]).stream(MODEL, HI).collect()
    assert desk[0].heard == ["began", "Hel", "failed"]
    assert desk[0].ending is not None
    assert desk[0].ending.error is caught.value
    assert desk[0].ending.answer == Text("Hel")


@pytest.mark.parametrize("body", TRUNCATED)
@pytest.mark.parametrize("form", ["sse", "ndjson"])
async def test_a_truncated_stream_that_is_relayed_failed(
    fake: FakeWorkersAI, body: bytes, form: str
) -> None:
    """A browser is told of the error, and so are observers."""
    says(fake, body)
    desk = Desk()
    tokens = fake.client(observers=[desk]).stream(MODEL, HI)
    frames = [frame async for frame in getattr(tokens, form)()]
    assert b"StreamInterrupted" in frames[-1]
    assert desk[0].heard == ["began", "Hel", "failed"]


async def test_a_stream_that_is_cancelled_behind_its_end_mark_is_done(fake: FakeWorkersAI) -> None:
    """The answer was there, and only the connection is lost."""
    says(fake, NO_END_MARK + b"data: [DONE]\n\n", asyncio.Event())
    desk = Desk()
    tokens = fake.client(observers=[desk]).stream(MODEL, HI)
    await anext(tokens)
    task = asyncio.create_task(tokens.collect())
    await asyncio.sleep(0)  # It takes the end mark, and waits for that of the body.
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert desk[0].heard == ["began", "Hel", "done"]
    assert tokens.answer == Text("Hel")


async def test_a_stream_that_never_opens_failed(fake: FakeWorkersAI) -> None:
    """An error before the first event ends the call; a stream that is not opened is none."""
    fake.fails(429, 3040, "busy")
    desk = Desk()
    ai = fake.client(observers=[desk], retries=Retries(max=0))
    ai.stream(MODEL, HI)
    with pytest.raises(RateLimited):
        await ai.stream(MODEL, HI).open()
    assert [notes.heard for notes in desk] == [["failed"]]


async def test_a_stream_of_raw_events_is_done_at_its_end(fake: FakeWorkersAI) -> None:
    """Events that are read as they come are no tokens, but they have an end."""
    fake.streams("Hel", "lo")
    desk = Desk()
    tokens = fake.client(observers=[desk]).stream(MODEL, HI)
    assert len([event async for event in tokens.events()]) == 3
    assert desk[0].heard == ["began", "done"]  # Without waiting for somebody to close it.
    assert desk[0].ending is not None
    assert desk[0].ending.meta is tokens.meta


async def test_raw_events_that_are_left_are_closed(fake: FakeWorkersAI) -> None:
    """Only who asks for what comes after the last one was given all."""
    desk = Desk()
    for body in (NO_END_MARK, NO_END_MARK.removesuffix(b"\n")):
        says(fake, body)
        async with fake.client(observers=[desk]).stream(MODEL, HI) as tokens:
            assert (await anext(tokens.events())).data == '{"response":"Hel"}'
    assert [notes.heard for notes in desk] == [["began", "closed"]] * 2


async def test_raw_events_that_are_cut_failed(fake: FakeWorkersAI) -> None:
    """Where their reader is told of an error, observers are, too."""
    fake.says(NO_END_MARK, b"data: x", then_hangs_up=True)
    desk = Desk()
    tokens = fake.client(observers=[desk]).stream(MODEL, HI)
    with pytest.raises(StreamInterrupted) as caught:
        assert [event async for event in tokens.events()]
    assert desk[0].heard == ["began", "failed"]
    assert desk[0].ending is not None
    assert desk[0].ending.error is caught.value


async def test_json_instead_of_a_stream_is_one_token(fake: FakeWorkersAI) -> None:
    """A model that doesn't stream ends the call with its one token, read on or not."""
    fake.answers({"response": "Hello"}).answers({"response": "Hello"})
    desk = Desk()
    ai = fake.client(observers=[desk])
    async with ai.stream(MODEL, HI) as tokens:
        await anext(tokens)
    await ai.stream(MODEL, HI).collect()
    assert [notes.heard for notes in desk] == [["began", "Hello", "done"]] * 2


async def test_a_stream_that_nobody_asked_for_is_observed_to_its_end(fake: FakeWorkersAI) -> None:
    """An open run may be answered with a stream; for a task it is read at once."""
    fake.streams("Hel", "lo").streams("Hel", "lo")
    desk = Desk()
    ai = fake.client(observers=[desk])
    tokens = await ai.run(MODEL, {"prompt": "Hi"})
    assert desk[0].heard == ["began"]
    await tokens.collect()
    assert desk[0].heard == ["began", "Hel", "lo", "done"]
    assert await ai.run(MODEL, HI) == Text("Hello")
    assert desk[1].heard == ["done"]


# Many texts


async def test_each_request_of_a_job_is_a_call(fake: FakeWorkersAI) -> None:
    """`embed_many` is as many calls as it sends requests."""
    for _ in range(2):
        fake.answers({"shape": [2, 1], "data": [[1.0], [2.0]]})
    desk = Desk()
    job = fake.client(observers=[desk]).embed_many("@cf/baai/bge-m3", list("abcd"), batch_size=2)
    assert [batch.start async for batch in job] == [0, 2]
    assert [notes.call.operation for notes in desk] == ["embeddings"] * 2
    assert [notes.heard for notes in desk] == [["done"]] * 2


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


async def test_headers_are_added_where_nobody_set_them(fake: FakeWorkersAI) -> None:
    """The client's and the call's own win, in whichever case they are written."""
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
async def test_a_header_that_is_no_observers_to_set_is_logged_and_left_out(
    fake: FakeWorkersAI, caplog: pytest.LogCaptureFixture, name: Any, value: Any
) -> None:
    """The request is what it is without the observer, and its other headers go out."""

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


async def test_what_two_observers_name_alike_is_sent_once(fake: FakeWorkersAI) -> None:
    """The later one's, however each writes the name."""

    class Later(Marked):
        def headers(self) -> dict[str, str]:
            return {"x-mark": "later"}

    fake.answers({"response": "Hello"})
    await fake.client(observers=[Marked, Later]).run(MODEL, HI)
    assert fake.requests[0].headers["x-mark"] == "later"


@pytest.mark.parametrize("headers", [{5: "x"}, {"x": 5}])
async def test_wrong_headers_of_a_call_are_refused_as_without_an_observer(
    fake: FakeWorkersAI, headers: Any
) -> None:
    """The caller's mistake stays the caller's."""
    desk = Desk()
    with pytest.raises(InputError):
        await fake.client(observers=[desk]).run(MODEL, HI, options=Options(headers=headers))
    assert desk[0].heard == ["failed"]


async def test_what_is_entered_first_is_left_last(fake: FakeWorkersAI) -> None:
    """The contexts of two observers lie in each other, as `with` has them."""
    heard: list[str] = []

    def entering(name: str) -> type[Observation]:
        class Around(Observation):
            def __init__(self, call: Call) -> None:
                pass

            def running(self) -> AbstractContextManager[object]:
                @contextmanager
                def around() -> Iterator[None]:
                    heard.append(f"+{name}")
                    yield
                    heard.append(f"-{name}")

                return around()

        return Around

    fake.answers({"response": "Hello"})
    await fake.client(observers=[entering("a"), entering("b")]).run(MODEL, HI)
    assert heard == ["+a", "+b", "-b", "-a"]


async def test_what_is_entered_is_left_before_the_stream_is_read(fake: FakeWorkersAI) -> None:
    """The reader's own context is the reader's own; `running` is around the request alone."""
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


async def test_what_an_observer_raises_is_logged_and_does_no_harm(
    fake: FakeWorkersAI, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the call nor the other observers notice."""
    fake.fails(429, 3040, "busy").streams("Hello")
    desk = Desk()
    ai = fake.client(observers=[lambda _: Broken(), desk], retries=AT_ONCE)
    with caplog.at_level(logging.ERROR, "cfai"):
        assert await ai.stream(MODEL, HI).collect() == Text("Hello")
    assert desk[0].heard[1:] == ["began", "Hello", "done"]
    failed = [record.args[0] for record in caplog.records if isinstance(record.args, tuple)]
    wanted = ["running()", "headers()", "retried()", "began()", "token()", "ended()"]
    assert failed == wanted
    assert all(record.name == "cfai" and record.exc_info for record in caplog.records)


async def test_an_observer_cannot_cancel_a_call(
    fake: FakeWorkersAI, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody cancelled the task, whatever the observer raises."""

    class Cancelling(Notes):
        def ended(self, ending: Ending) -> None:
            raise asyncio.CancelledError

    fake.answers({"response": "Hello"})
    assert (await fake.client(observers=[Cancelling]).run(MODEL, HI)).text == "Hello"
    assert "an observer failed at ended()" in caplog.text


async def test_an_observer_that_gives_nothing_hears_nothing(fake: FakeWorkersAI) -> None:
    """`None` is a wish, too; only what is neither is logged."""
    fake.answers({"response": "Hello"})
    assert (await fake.client(observers=[lambda _: None]).run(MODEL, HI)).text == "Hello"


async def test_an_observer_that_returns_something_else_is_logged(
    fake: FakeWorkersAI, caplog: pytest.LogCaptureFixture
) -> None:
    """A function that returns nothing usable is a mistake that the log names."""
    fake.answers({"response": "Hello"})
    wrong: Any = [lambda _: 5]
    assert (await fake.client(observers=wrong).run(MODEL, HI)).text == "Hello"
    assert "an observer must return an Observation or None, got a int" in caplog.text


async def test_what_a_retry_callback_raises_still_ends_the_call(fake: FakeWorkersAI) -> None:
    """An observer changes nothing about `on_retry`."""

    def refuse(_: Retry) -> None:
        raise LookupError("enough")

    fake.fails(429, 3040, "busy")
    desk = Desk()
    with pytest.raises(LookupError):
        await fake.client(observers=[desk], retries=Retries(on_retry=refuse)).run(MODEL, HI)
    assert desk[0].heard[1:] == ["failed"]


@pytest.mark.parametrize("observers", [5, [5], "no"])
def test_observers_are_checked_when_a_client_is_made(observers: Any) -> None:
    """What can't be called is refused by name."""
    with pytest.raises(InputError, match="observer"):
        WorkersAI(account_id="account", api_token="token", observers=observers)


async def test_a_copy_shares_the_observers_unless_told(fake: FakeWorkersAI) -> None:
    """`with_options` keeps them, replaces them, or leaves all out."""
    ours, theirs = Desk(), Desk()
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
async def test_tasks_are_named_by_what_they_do(
    fake: FakeWorkersAI, task: Any, operation: str
) -> None:
    """OpenTelemetry's names where it has some, and ours for the rest."""
    fake.fails(400, 5004, "no")
    desk = Desk()
    with pytest.raises(Exception, match="no"):
        await fake.client(observers=[desk]).run(MODEL, task)
    assert desk[0].call.operation == operation
