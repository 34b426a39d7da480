"""Sends a token stream on to a browser or a program, as server-sent events or lines of JSON.

Both formats carry the same objects under the same names: `text`, `reasoning`, `tool_calls`,
`usage`, and at the end `done` or `error`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from math import ceil
from typing import Any, Literal, Protocol, Self

from attrs import define, field

from cfai._types.json import dumps
from cfai.errors import (
    BadRequest,
    BudgetExceeded,
    CfaiError,
    InputError,
    QuotaExceeded,
    RateLimited,
    RequestTimeout,
    RequestTooLarge,
    ServerError,
    ServiceTimeout,
    StatusError,
    StreamInterrupted,
)
from cfai.tasks import Text, Token
from cfai.tasks.task import to_plain

RelayForm = Literal["sse", "ndjson"]
"""Server-sent events for an `EventSource`, or lines of JSON."""

_MAX_BUFFERED = 16 * 1024
"""Bytes buffered for a slow reader before reading from the model pauses."""

_PUBLIC_ERRORS = (
    InputError, BadRequest, RateLimited, RequestTooLarge, RequestTimeout, ServerError,
    ServiceTimeout, StreamInterrupted,
)  # fmt: skip
"""Errors about the question or the connection. All others are about the app and its account."""

_APP_FAILED = "the app can't use its model; see the app's log"
_APP_BUSY = "the app is at its limit of concurrent answers; try again in a moment"
_QUOTA_USED_UP = "the app has used up its daily quota of model usage"
_BUDGET_USED_UP = "the app has used up its budget for model usage"
_BUSY_DELAY = 1
"""Seconds: each answer that ends frees a connection."""


class RelaySource(Protocol):
    """What a relay sends on: a `TokenStream`."""

    def __aiter__(self) -> AsyncIterator[Token]: ...

    @property
    def answer(self) -> Text:
        """The answer so far."""

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` ended the stream."""

    def cancel(self) -> None:
        """End the stream."""


class SseFormat:
    """Events for an `EventSource`, which reconnects after *retry* milliseconds."""

    media_type = "text/event-stream; charset=utf-8"
    keep_alive = b": keep-alive\n\n"
    """Bytes that clients ignore, to send during silence."""

    def __init__(self, retry: int | None) -> None:
        self.preamble: bytes = b"" if retry is None else b"retry: %d\n\n" % retry
        """Bytes before the first frame."""

    def frame(self, number: int, name: str, data: Mapping[str, Any]) -> bytes:
        """Write one event."""
        return b"id: %d\nevent: %b\ndata: %b\n\n" % (number, name.encode(), _json_line(data))


class NdjsonFormat:
    """Lines of JSON, with the frame's name as `type`. Clients skip empty lines."""

    media_type = "application/x-ndjson"
    preamble = b""
    keep_alive = b"\n"

    def frame(self, number: int, name: str, data: Mapping[str, Any]) -> bytes:
        """Write one line."""
        return _json_line({"type": name, **data}) + b"\n"


RelayFormat = SseFormat | NdjsonFormat


def _json_line(data: Mapping[str, Any]) -> bytes:
    """JSON without any character that a client may take for the end of a line.

    JSON escapes CR and LF. Clients that split lines like Python's `str.splitlines`, such as httpx's
    `aiter_lines`, also split at U+2028, U+2029 and U+0085.
    """
    text = dumps(data)
    if b"\xe2\x80" in text:
        text = text.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    return text.replace(b"\xc2\x85", b"\\u0085") if b"\xc2\x85" in text else text


def error_frame(error: CfaiError) -> dict[str, Any]:
    """What a browser gets of an error: its class, a message, and the seconds to wait, if known.

    The message is the error's own if it is about the question or the connection. Errors about the
    app's account or configuration get a general message.
    """
    if isinstance(error, QuotaExceeded):
        message = _QUOTA_USED_UP
    elif isinstance(error, BudgetExceeded):
        message = _BUDGET_USED_UP
    elif is_pool_timeout(error):
        message = _APP_BUSY
    elif isinstance(error, _PUBLIC_ERRORS):
        message = error.message if isinstance(error, StatusError) else str(error)
    else:
        message = _APP_FAILED
    frame: dict[str, Any] = {"error": type(error).__name__, "message": message}
    if (seconds := retry_after(error)) is not None:
        frame["retry_after"] = seconds
    return frame


def retry_after(error: CfaiError) -> float | None:
    """Seconds to wait before a browser repeats its request, if known."""
    if isinstance(error, QuotaExceeded):
        # An earlier retry fails, whatever the response's own Retry-After says.
        return max(0, ceil((error.resets_at - datetime.now(UTC)).total_seconds()))
    if is_pool_timeout(error):
        return _BUSY_DELAY
    return error.retry_after if isinstance(error, StatusError) else None


def is_pool_timeout(error: CfaiError) -> bool:
    """Whether no connection was free for this call, so that nothing was sent."""
    return isinstance(error, RequestTimeout) and error.phase == "pool"


@define(eq=False, repr=False)
class _FrameBuffer:
    """The frames between the task that reads the tokens and the reader of the relay.

    It refers to neither of them, so that an unreferenced relay is finalized at once.
    """

    _format: RelayFormat
    _keep_alive: float
    _loop: asyncio.AbstractEventLoop = field(factory=asyncio.get_running_loop, init=False)
    _size: int = field(default=0, init=False)
    _waiting_since: float = field(default=0.0, init=False)
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)
    waiter: asyncio.Future[bool] | None = field(default=None, init=False)
    """Set while the reader waits for a frame."""
    _drained: asyncio.Future[None] | None = field(default=None, init=False)
    """Set while the token task waits for the reader."""
    frames: list[bytes] = field(factory=list, init=False)
    count: int = field(default=0, init=False)
    """How many frames were added."""
    is_over: bool = field(default=False, init=False)
    failure: CfaiError | None = field(default=None, init=False)
    """The error in the last frame."""

    # For the task that reads the tokens

    def add(self, name: str, data: Mapping[str, Any]) -> None:
        """Add a frame and wake the reader."""
        self.count += 1
        frame = self._format.frame(self.count, name, data)
        self._size += len(frame)
        self.frames.append(frame)
        self._wake()

    def fail(self, error: CfaiError) -> None:
        """Add *error* as the last frame."""
        self.failure = error
        self.add("error", error_frame(error))

    async def wait_until_drained(self) -> None:
        """Wait until the reader took the frames, if the buffer is full."""
        if self._size >= _MAX_BUFFERED:
            self._drained = self._loop.create_future()
            await self._drained

    def end(self) -> None:
        """Mark the end of the frames."""
        self.is_over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()

    # For the reader

    def take(self) -> bytes:
        """Remove and return all frames."""
        data = b"".join(self.frames)
        self.frames.clear()
        self._size = 0
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        return data

    async def wait(self) -> bool:
        """Wait for a frame or the end; `False` after *keep_alive* seconds of silence."""
        self.waiter = self._loop.create_future()
        self._waiting_since = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_at(self._waiting_since + self._keep_alive, self._check)
        try:
            return await self.waiter
        finally:
            self.waiter = None

    def _wake(self, *, news: bool = True) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(news)

    def _check(self) -> None:
        # One timer, rescheduled only when it fires: a timer per token would cost more than a token.
        self._timer = None
        if self.waiter is None or self.waiter.done():
            return
        due = self._waiting_since + self._keep_alive
        if self._loop.time() < due:
            self._timer = self._loop.call_at(due, self._check)
        else:
            self._wake(news=False)


async def _write_frames(tokens: RelaySource, buffer: _FrameBuffer) -> None:
    """Write the tokens into *buffer* until they end, no faster than they are read."""
    finish_reason = None
    try:
        async for token in tokens:
            finish_reason = token.finish_reason or finish_reason
            if token.reasoning:
                buffer.add("reasoning", {"text": token.reasoning})
            if token.text:
                buffer.add("text", {"text": token.text})
            if token.tool_calls:
                buffer.add("tool_calls", {"tool_calls": to_plain(token.tool_calls)})
            await buffer.wait_until_drained()
        # A token's own usage is not sent, only the total.
        if usage := tokens.answer.usage:
            buffer.add("usage", to_plain(usage))
        # The service's finish_reason is often null, so a cancelled stream needs one of our own.
        fallback = "cancelled" if tokens.cancelled else None
        buffer.add("done", {"finish_reason": finish_reason or fallback})
    except CfaiError as exc:
        buffer.fail(exc)
    finally:
        buffer.end()


@define(eq=False, repr=False)
class Relay:
    """The bytes of a token stream for a client: an async iterator, used once, by one reader.

    Each item is one frame, or several if the reader is slow. A reader that is slower still slows
    the model's stream. Leaving the relay, closing it, cancelling its reader or dropping it closes
    the stream and the request behind it at once.
    """

    _tokens: RelaySource
    _format: RelayFormat = field(alias="format_")
    _keep_alive: float = field(kw_only=True)
    _pending: bytes = field(init=False)
    """Bytes to send before those of the next frame."""
    _closed: bool = field(default=False, init=False)
    _buffer: _FrameBuffer | None = field(default=None, init=False)
    _task: asyncio.Task[None] | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        if not self._keep_alive > 0:
            raise InputError(f"keep_alive must be above 0 seconds, got {self._keep_alive!r}")
        self._pending = self._format.preamble

    @property
    def headers(self) -> dict[str, str]:
        """Headers of a response with these bytes: its type, and that proxies must not buffer it."""
        return {
            "content-type": self._format.media_type,
            "cache-control": "no-cache",
            "x-accel-buffering": "no",
        }

    @property
    def failure(self) -> CfaiError | None:
        """The error that ended the stream, if one did. The last frame reports it to the reader."""
        return None if self._buffer is None else self._buffer.failure

    async def begin(self) -> None:
        """Wait for the first frame, so that an error response can still become a status.

        It waits for at most *keep_alive* seconds: then the first bytes are a keep-alive.

        Raises:
            CfaiError: The stream failed before its first frame.
        """
        first = await self._next()
        buffer = self._buffer
        if buffer is not None and buffer.failure is not None and buffer.count == 1:
            raise buffer.failure
        self._pending += first

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._pending:
            pending, self._pending = self._pending, b""
            return pending
        if data := await self._next():
            return data
        raise StopAsyncIteration

    async def _next(self) -> bytes:
        """The frames that are ready, or a keep-alive after silence; nothing at the end."""
        buffer = self._buffer
        if buffer is None:
            if self._closed:
                return b""
            buffer = self._buffer = _FrameBuffer(self._format, self._keep_alive)
            self._task = asyncio.create_task(_write_frames(self._tokens, buffer))
        while not buffer.frames:
            if buffer.is_over:
                # Errors that are not the SDK's are in no frame.
                if self._task is not None and self._task.done() and not self._task.cancelled():
                    self._task.result()
                return b""
            if buffer.waiter is not None:
                raise InputError("another task is reading this relay: a relay has one reader")
            try:
                if not await buffer.wait():
                    return self._format.keep_alive
            except BaseException:
                self.close()
                raise
        return buffer.take()

    def close(self) -> None:
        """End the stream and the request behind it at once: the reader went away."""
        self._pending = b""
        self._closed = True
        self._tokens.cancel()
        if self._buffer is None:
            return
        self._buffer.frames.clear()
        self._buffer.end()
        if self._task is not None:
            self._task.cancel()

    async def aclose(self) -> None:
        """Close as async generators do. Closing twice is fine."""
        self.close()

    def __del__(self) -> None:
        # The constructor may have raised.
        if hasattr(self, "_pending"):
            self.close()


def build_relay(
    tokens: RelaySource, form: RelayForm, *, retry: int | None, keep_alive: float
) -> Relay:
    """Build the relay that sends *tokens* on as *form*.

    Raises:
        InputError: The form is unknown, or a number is out of bounds.
    """
    if form == "sse":
        return Relay(tokens, SseFormat(retry), keep_alive=keep_alive)
    if form == "ndjson":
        return Relay(tokens, NdjsonFormat(), keep_alive=keep_alive)
    raise InputError(f'form must be "sse" or "ndjson", got {form!r}')
