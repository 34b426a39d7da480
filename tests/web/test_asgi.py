"""`TokenResponse` behind servers and middlewares of all kinds, which here are a few lines each."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
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
        self.errors: list[OSError] = []
        self._gone_after = gone_after

    async def __call__(self, message: Any) -> None:
        if len(self.messages) == self._gone_after:
            self.errors.append(OSError("nobody is there"))
            raise self.errors[-1]
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


@pytest.mark.parametrize("after", [0, 1])
async def test_an_os_error_while_sending_a_refusal_is_ignored(
    fake: FakeWorkersAI, after: int
) -> None:
    """And ends it: nothing is sent after it."""
    fake.fails(400, 5006, "no")
    sent = Sent(gone_after=after)
    await response(fake)(SCOPE, receive_nothing, sent)
    assert [message["type"] for message in sent.messages] == ["http.response.start"][:after]
    assert len(sent.errors) == 1


async def test_the_messages_of_a_stream_follow_the_specification(fake: FakeWorkersAI) -> None:
    """ASGI's: one start, with names in lower case; `more_body` until the last, which is empty."""
    fake.streams("a")
    tokens = fake.client().stream(MODEL, Prompt("Hi"))
    sent = Sent()
    await asgi.TokenResponse(tokens, headers={"X-App": "one"})(SCOPE, receive_nothing, sent)
    start, *frames, end = sent.messages
    assert (start["type"], start["status"]) == ("http.response.start", 200)
    assert dict(start["headers"]) == {
        b"content-type": b"text/event-stream; charset=utf-8",
        b"cache-control": b"no-cache",
        b"x-accel-buffering": b"no",
        b"x-app": b"one",
    }
    for frame in frames:
        assert (frame["type"], frame["more_body"]) == ("http.response.body", True)
        assert frame["body"]
    assert end == {"type": "http.response.body", "body": b"", "more_body": False}


@pytest.mark.parametrize("kind", [asgi.TokenResponse, starlette.TokenResponse])
@pytest.mark.parametrize(
    ("scope", "status"),
    [
        ({"method": "HEAD"}, 200),
        ({"method": "GET", "headers": [(b"Last-Event-ID", b"3")]}, 204),
        ({"method": "HEAD", "headers": [(b"last-event-id", b"3")]}, 200),
    ],
)
async def test_a_response_without_a_stream_is_complete(
    fake: FakeWorkersAI, kind: Any, scope: dict[str, Any], status: int
) -> None:
    """It has no body, and asks the service for nothing."""
    sent = Sent()
    await kind(fake.client().stream(MODEL, Prompt("Hi")))(SCOPE | scope, receive_nothing, sent)
    start, body = sent.messages
    assert start["status"] == status
    names = dict(start["headers"])
    assert names[b"cache-control"] == (b"no-cache" if status == 200 else b"no-store")
    assert (b"content-type" in names) == (status == 200)
    assert body["body"] == b""
    assert not body.get("more_body", False)
    assert not fake.requests


async def test_a_scope_may_lack_method_and_headers(fake: FakeWorkersAI) -> None:
    """As some test clients write it."""
    fake.streams("a")
    sent = Sent()
    await response(fake)({"type": "http"}, receive_nothing, sent)
    assert b'"done"' in sent.body


@pytest.mark.parametrize("middle", [False, True], ids=["complete", "cut"])
async def test_only_a_stream_that_fails_is_logged(
    fake: FakeWorkersAI, caplog: pytest.LogCaptureFixture, middle: bool
) -> None:
    """As a warning of the logger `cfai.web`, with the class and the reason."""
    fake.says(HEL, then_hangs_up=True) if middle else fake.streams("a")
    caplog.set_level(logging.DEBUG, "cfai.web")
    sent = Sent()
    await response(fake)(SCOPE, receive_nothing, sent)
    assert not sent.messages[-1]["more_body"]
    logged = [record for record in caplog.records if record.name == "cfai.web"]
    assert len(logged) == middle
    for record in logged:
        assert record.levelno == logging.WARNING
        assert record.getMessage().startswith(
            "a stream failed after its beginning: StreamInterrupted: the stream was cut after 1 ev"
        )


async def test_an_error_of_the_connection_keeps_no_frames(fake: FakeWorkersAI) -> None:
    """Whoever keeps it, such as a future of the server, would keep the app's handler alive."""
    fake.streams("a")
    sent = Sent(gone_after=1)
    await response(fake)(SCOPE, receive_nothing, sent)
    (error,) = sent.errors
    assert error.__traceback__ is None


async def test_an_error_of_send_ends_the_stream(fake: FakeWorkersAI) -> None:
    """It is raised, and whoever keeps it does not keep the stream open."""

    async def fail(message: Any) -> None:
        raise ZeroDivisionError(message["type"])

    fake.says(HEL, asyncio.Event())
    with pytest.raises(ZeroDivisionError, match=r"http\.response\.start") as kept:
        await response(fake)(SCOPE, receive_nothing, fail)
    await fake.until(lambda: fake.connections == 0)
    assert kept.tb is not None


async def broken_frames() -> AsyncGenerator[Frame, None]:
    """A source whose own file is gone, which does not mean that the browser is gone."""
    yield "text", {"text": Path("no-such-file").stat().st_size}  # noqa: ASYNC240


async def test_an_os_error_of_the_stream_is_raised() -> None:
    """It does not mean that the browser is gone."""
    frames = Relay(broken_frames(), lambda: None, NdjsonFormat(), keep_alive=15)
    with pytest.raises(FileNotFoundError):
        await asgi.respond(SCOPE, receive_nothing, Sent(), frames, [])


@pytest.mark.parametrize("rest", [{"more_body": False}, {}], ids=["said", "by default"])
async def test_a_middleware_may_repeat_the_body_forever(
    fake: FakeWorkersAI, caplog: pytest.LogCaptureFixture, rest: dict[str, Any]
) -> None:
    """Without awaiting: the answer is complete, and the app serves others meanwhile."""
    count = 0

    async def repeat() -> dict[str, Any]:
        nonlocal count
        count += 1
        assert count < 10
        return {"type": "http.request", "body": b"{}", **rest}

    fake.streams("a", "b")
    sent = Sent()
    await response(fake)(SCOPE, repeat, sent)
    assert sent.body.endswith(b'{"type":"done","finish_reason":null}\n')
    assert "`receive` repeats the request: a disconnect would go unnoticed" in caplog.text


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
def test_the_status_that_a_browser_gets(
    error: CfaiError, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The app's log has the error in full: as a warning, unless it is about the request."""
    caplog.set_level(logging.INFO, "cfai.web")
    refusal = Refusal.of(error)
    assert refusal.status == status
    (record,) = caplog.records
    level = logging.INFO if status in (400, 413, 429) else logging.WARNING
    assert (record.name, record.levelno) == ("cfai.web", level)
    assert record.getMessage() == f"answered with {status}: {type(error).__name__}: {error}"


@pytest.mark.parametrize(
    ("retry_after", "header"), [(None, None), (0, "0"), (0.25, "1"), (6, "6"), (6.2, "7")]
)
def test_a_refusal_repeats_the_delay(retry_after: float | None, header: str | None) -> None:
    """In whole seconds as a header, rounded up, and as it is in the body."""
    refusal = Refusal.of(RateLimited("busy", status=429, retry_after=retry_after))
    assert refusal.headers.get("retry-after") == header
    assert json.loads(refusal.body).get("retry_after") == retry_after


@pytest.mark.parametrize(("ago", "seconds"), [(-90.5, 91), (0, 0), (90, 0)])
def test_a_used_up_quota_is_available_again_at_its_reset(ago: float, seconds: int) -> None:
    """In whole seconds from now, and at once if the reset is over."""
    error = QuotaExceeded("used up", status=429, retry_after=5)
    error.resets_at = datetime.now(UTC) - timedelta(seconds=ago)
    refusal = Refusal.of(error)
    assert refusal.headers["retry-after"] in (str(seconds), str(seconds - 1))
    assert json.loads(refusal.body)["retry_after"] == int(refusal.headers["retry-after"])
    assert int(refusal.headers["retry-after"]) >= 0
