"""`TokenResponse` behind servers and middlewares of all kinds, which here are a few lines each."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.background import BackgroundTask

from cfai import Prompt
from cfai.testing import FakeWorkersAI
from cfai.web import Relay, asgi, starlette
from tests.web.conftest import MODEL

HEL = b'data: {"response":"Hel"}\n\n'
SCOPE: dict[str, Any] = {"type": "http", "method": "GET", "headers": []}

Receive = Callable[[], Awaitable[dict[str, Any]]]


def response(fake: FakeWorkersAI) -> asgi.TokenResponse:
    return asgi.TokenResponse(fake.client().stream(MODEL, Prompt("Hi")), form="ndjson")


async def silent() -> dict[str, Any]:
    """A browser that stays."""
    await asyncio.Event().wait()
    return {}


class Sent:
    """A server that keeps what it is given, and may be left after some of it."""

    def __init__(self, *, gone_after: int = 1000) -> None:
        self.messages: list[Any] = []
        self._gone_after = gone_after

    async def __call__(self, message: Any) -> None:
        if len(self.messages) == self._gone_after:
            raise OSError("nobody is there")
        self.messages.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


@pytest.mark.parametrize("after", [0, 1, 2])
async def test_a_server_may_raise_where_nobody_is_left(fake: FakeWorkersAI, after: int) -> None:
    """As version 2.4 of ASGI has it: that is no error, and ends the stream."""
    fake.says(HEL, asyncio.Event() if after == 1 else HEL, asyncio.Event())
    sent = Sent(gone_after=after)
    task = asyncio.ensure_future(response(fake)(SCOPE, silent, sent))
    if after == 2:
        await fake.until(lambda: len(sent.messages) == 2 or task.done())
        task.cancel()
        await asyncio.wait([task])
    else:
        await task
    await fake.until(lambda: fake.connections == 0)
    assert len(sent.messages) == after


async def test_a_refusal_too_may_find_nobody(fake: FakeWorkersAI) -> None:
    fake.fails(400, 5006, "no")
    await response(fake)(SCOPE, silent, Sent(gone_after=1))


class Broken:
    """A source whose own file is gone, which is no departure of a browser."""

    answer: Any = None
    cancelled = False

    def __aiter__(self) -> "Broken":
        return self

    async def __anext__(self) -> Any:
        raise FileNotFoundError("weights.bin")

    def cancel(self) -> None:
        """Has nothing to end."""


async def test_an_error_of_the_source_is_no_departure() -> None:
    """It is raised, for whoever looks after the app."""
    from cfai.streaming.relay import NdjsonFormat

    frames = Relay(Broken(), NdjsonFormat(), keep_alive=15)
    with pytest.raises(FileNotFoundError):
        await asgi.respond(SCOPE, silent, Sent(), frames, [])


async def test_a_middleware_may_repeat_the_body_for_ever(
    fake: FakeWorkersAI, caplog: pytest.LogCaptureFixture
) -> None:
    """Without ever waiting: the answer is whole, and the app answers others meanwhile."""
    told = 0

    async def repeat() -> dict[str, Any]:
        nonlocal told
        told += 1
        assert told < 10
        return {"type": "http.request", "body": b"{}", "more_body": False}

    fake.streams("a", "b")
    sent = Sent()
    await response(fake)(SCOPE, repeat, sent)
    assert sent.body.endswith(b'{"type":"done","finish_reason":null}\n')
    assert "a disconnect would go unnoticed" in caplog.text


async def test_a_receive_that_fails_is_logged(
    fake: FakeWorkersAI, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer is whole all the same."""

    async def fails() -> dict[str, Any]:
        raise RuntimeError("receive broke")

    fake.streams("a", "b")
    sent = Sent()
    await response(fake)(SCOPE, fails, sent)
    assert b'"done"' in sent.body
    assert "receive broke" in caplog.text


async def test_a_body_that_comes_in_parts_is_heard_to_its_end(
    fake: FakeWorkersAI, caplog: pytest.LogCaptureFixture
) -> None:
    """An app that does not read it still hears that its browser leaves."""
    parts = iter([True, True, False])

    async def receive() -> dict[str, Any]:
        if (more := next(parts, None)) is None:
            await fake.until(lambda: fake.requests)
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": b"x", "more_body": more}

    fake.says(HEL, asyncio.Event())
    await response(fake)(SCOPE, receive, Sent())
    await fake.until(lambda: fake.connections == 0)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_nobody_watches_when_the_answer_is_over(fake: FakeWorkersAI) -> None:
    """Until the connection is closed, perhaps hours later."""
    asked, left = asyncio.Event(), asyncio.Event()

    async def receive() -> dict[str, Any]:
        asked.set()
        try:
            return await silent()
        finally:
            left.set()

    fake.streams("a")
    await response(fake)(SCOPE, receive, Sent())
    assert asked.is_set()
    await asyncio.wait_for(left.wait(), 10)


async def test_what_is_to_be_done_behind_the_answer_is_done(fake: FakeWorkersAI) -> None:
    """Starlette's `background`, when the stream is over."""
    sent, seen = Sent(), []

    async def note() -> None:
        seen.append(sent.body)

    fake.streams("a")
    tokens = fake.client().stream(MODEL, Prompt("Hi"))
    answer = starlette.TokenResponse(tokens, form="ndjson", background=BackgroundTask(note))
    await answer(SCOPE, silent, sent)
    assert len(seen) == 1
    assert b'"done"' in seen[0]
