"""`TokenResponse` behind servers and middlewares of all kinds, which here are a few lines each."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.background import BackgroundTask

from cfai import Prompt
from cfai.errors import (
    AuthenticationError,
    BadRequest,
    BudgetExceeded,
    CfaiError,
    ConfigError,
    ConnectionLost,
    DecodeError,
    InputError,
    MissingExtra,
    QuotaExceeded,
    RateLimited,
    RequestTimeout,
    RequestTooLarge,
    ServerError,
    ServiceTimeout,
)
from cfai.streaming.formats import NdjsonFormat
from cfai.streaming.relay import Frame
from cfai.testing import FakeWorkersAI
from cfai.web import Relay, asgi, starlette
from cfai.web.refusal import Refusal
from tests.web.conftest import MODEL

HEL = b'data: {"response":"Hel"}\n\n'
SCOPE: dict[str, Any] = {"type": "http", "method": "GET", "headers": []}

Receive = Callable[[], Awaitable[dict[str, Any]]]


def response(fake: FakeWorkersAI) -> asgi.TokenResponse:
    return asgi.TokenResponse(fake.client().stream(MODEL, Prompt("Hi")), protocol="ndjson")


async def receive_nothing() -> dict[str, Any]:
    """A browser that stays connected."""
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
async def test_an_os_error_of_send_ends_the_stream(fake: FakeWorkersAI, after: int) -> None:
    """Since version 2.4 of ASGI, `send` raises if the browser is gone."""
    fake.says(HEL, asyncio.Event() if after == 1 else HEL, asyncio.Event())
    sent = Sent(gone_after=after)
    task = asyncio.ensure_future(response(fake)(SCOPE, receive_nothing, sent))
    if after == 2:
        await fake.until(lambda: len(sent.messages) == 2 or task.done())
        task.cancel()
        await asyncio.wait([task])
    else:
        await task
    await fake.until(lambda: fake.connections == 0)
    assert len(sent.messages) == after


async def test_an_os_error_while_sending_a_refusal_is_ignored(fake: FakeWorkersAI) -> None:
    fake.fails(400, 5006, "no")
    await response(fake)(SCOPE, receive_nothing, Sent(gone_after=1))


async def broken_frames() -> AsyncGenerator[Frame, None]:
    """A source whose own file is gone, which does not mean that the browser is gone."""
    yield "text", {"text": Path("no-such-file").stat().st_size}  # noqa: ASYNC240


async def test_an_os_error_of_the_stream_is_raised() -> None:
    """It does not mean that the browser is gone."""
    frames = Relay(broken_frames(), lambda: None, NdjsonFormat(), keep_alive=15)
    with pytest.raises(FileNotFoundError):
        await asgi.respond(SCOPE, receive_nothing, Sent(), frames, [])


async def test_a_middleware_may_repeat_the_body_forever(
    fake: FakeWorkersAI, caplog: pytest.LogCaptureFixture
) -> None:
    """Without awaiting: the answer is complete, and the app serves others meanwhile."""
    count = 0

    async def repeat() -> dict[str, Any]:
        nonlocal count
        count += 1
        assert count < 10
        return {"type": "http.request", "body": b"{}", "more_body": False}

    fake.streams("a", "b")
    sent = Sent()
    await response(fake)(SCOPE, repeat, sent)
    assert sent.body.endswith(b'{"type":"done","finish_reason":null}\n')
    assert "a disconnect would go unnoticed" in caplog.text


async def test_an_error_of_receive_is_logged(
    fake: FakeWorkersAI, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer is complete all the same."""

    async def fails() -> dict[str, Any]:
        raise RuntimeError("receive broke")

    fake.streams("a", "b")
    sent = Sent()
    await response(fake)(SCOPE, fails, sent)
    assert b'"done"' in sent.body
    assert "receive broke" in caplog.text


async def test_a_body_in_several_parts_is_received_to_its_end(
    fake: FakeWorkersAI, caplog: pytest.LogCaptureFixture
) -> None:
    """An app that does not read it still notices that its browser leaves."""
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


async def test_receive_is_cancelled_after_the_answer(fake: FakeWorkersAI) -> None:
    """It may otherwise wait for hours, until the connection is closed."""
    asked, left = asyncio.Event(), asyncio.Event()

    async def receive() -> dict[str, Any]:
        asked.set()
        try:
            return await receive_nothing()
        finally:
            left.set()

    fake.streams("a")
    await response(fake)(SCOPE, receive, Sent())
    assert asked.is_set()
    await asyncio.wait_for(left.wait(), 10)


async def test_the_background_task_runs_after_the_stream(fake: FakeWorkersAI) -> None:
    """Starlette's `background`."""
    sent, seen = Sent(), []

    async def note() -> None:
        seen.append(sent.body)

    fake.streams("a")
    tokens = fake.client().stream(MODEL, Prompt("Hi"))
    answer = starlette.TokenResponse(tokens, protocol="ndjson", background=BackgroundTask(note))
    await answer(SCOPE, receive_nothing, sent)
    assert len(seen) == 1
    assert b'"done"' in seen[0]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InputError("bad"), 400),
        (BadRequest("bad", status=400), 400),
        (RequestTooLarge("large", status=413), 413),
        (RateLimited("busy", status=429), 429),
        (QuotaExceeded("used up", status=429), 503),
        (BudgetExceeded("used up", budget=1, spent=1), 503),
        (RequestTimeout("late", phase="response"), 504),
        (RequestTimeout("late", phase="pool"), 503),
        (ServiceTimeout("late", status=408), 504),
        (ConfigError("no account"), 500),
        (MissingExtra("web", needed_for="this"), 500),
        (AuthenticationError("no", status=401), 502),
        (ServerError("broken", status=500), 502),
        (ConnectionLost("lost"), 502),
        (DecodeError("no JSON"), 502),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_status_that_a_browser_gets(error: CfaiError, status: int) -> None:
    assert Refusal.of(error).status == status
