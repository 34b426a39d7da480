"""Sends a token stream or a tool run on to a browser or a program.

Server-sent events and lines of JSON carry the same objects under the same names: `text`,
`reasoning`, `tool_calls`, `tool_call`, `tool_result`, `tool_error`, `step`, `usage`, and at the end
`done` or `error`. The formats are in `streaming/formats.py`.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from math import ceil
from typing import Any, Literal, Self

from attrs import define, field

from cfai._session.connections import call_in_loop
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
from cfai.streaming.formats import AiSdkFormat, NdjsonFormat, RelayFormat, SseFormat
from cfai.tasks import ToolCall

RelayProtocol = Literal["sse", "ndjson", "ai-sdk"]
"""Server-sent events for an `EventSource`, lines of JSON, or the AI SDK's UI message stream."""

Frame = tuple[str, Mapping[str, Any]]
"""The name of an event for a browser, and its data."""

LOGGER = logging.getLogger("cfai.web")
"""Where the app finds what a browser does not get of an error."""

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
        frame = self._format.frame(self.count + 1, name, data)
        if not frame:
            return
        self.count += 1
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


async def _write_frames(frames: AsyncGenerator[Frame, None], buffer: _FrameBuffer) -> None:
    """Write the frames into *buffer* until they end, no faster than they are read."""
    try:
        async with aclosing(frames):
            async for name, data in frames:
                buffer.add(name, data)
                await buffer.wait_until_drained()
    except CfaiError as exc:
        buffer.fail(exc)
    except Exception:
        # An error of the app itself. Its reader raises it after this frame.
        if buffer.count:
            buffer.add("error", {"error": "Exception", "message": _APP_FAILED})
        raise
    finally:
        buffer.end()


@define(eq=False, repr=False)
class Relay:
    """The bytes of an answer for a client: an async iterator, used once, by one reader.

    Each item is one frame, or several if the reader is slow. A reader that is slower still slows
    the model's stream. Leaving the relay, closing it, cancelling its reader or dropping it closes
    the stream and the request behind it at once.
    """

    _frames: AsyncGenerator[Frame, None]
    _cancel: Callable[[], None]
    """Ends the frames, and the request behind them."""
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
            **self._format.headers,
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
            self._task = asyncio.create_task(_write_frames(self._frames, buffer))
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
        self._cancel()
        if self._buffer is None:
            return
        self._buffer.frames.clear()
        self._buffer.end()
        if self._task is not None:
            self._task.cancel()

    async def aclose(self) -> None:
        """Close as async generators do. Closing twice is fine."""
        self.close()

    def __del__(self, is_exiting: Callable[[], bool] = sys.is_finalizing) -> None:
        # The constructor may have raised. At exit, the modules that closing needs may be gone.
        if not hasattr(self, "_pending") or is_exiting():
            return
        if self._task is None:
            self.close()
        else:
            call_in_loop(self._task.get_loop(), self.close)


def call_frame(call: ToolCall) -> Frame:
    """What a browser gets of a complete tool call: the name of its event, and the data."""
    return "tool_call", {"id": call.id, "name": call.name, "arguments": call.arguments}


class RelaySource:
    """What can be sent on to a browser: a `TokenStream` or a `ToolRun`."""

    __slots__ = ()

    @abstractmethod
    def _frames(self) -> AsyncGenerator[Frame, None]:
        """The events for a browser, each as its name and its data."""

    @abstractmethod
    def cancel(self) -> None:
        """End the iteration without an error, from any task."""

    def sse(self, *, retry: int | None = 3000, keep_alive: float = 15.0) -> Relay:
        """The answer as bytes for a browser's `EventSource`, for any web framework.

        Each event has a name and a JSON object as its data: `text`, `reasoning` and `tool_calls`
        as they are generated, and `tool_call` for each complete call. In a tool run, calls come
        only complete, each is followed by its `tool_result` or `tool_error`, and `step` begins
        each further turn of the model. The last events are one `usage`, if it is known, and then
        `done`, or `error` with the class and a message.

        Args:
            retry: Milliseconds after which a browser reconnects; `None` leaves that to the browser.
            keep_alive: Seconds of silence after which a comment is sent, repeatedly.
        """
        return Relay(self._frames(), self.cancel, SseFormat(retry), keep_alive=keep_alive)

    def ndjson(self, *, keep_alive: float = 15.0) -> Relay:
        """The answer as lines of JSON, for programs and for clients that read it with `fetch`.

        The lines carry the same objects as the events of `sse`, with the event's name as `type`.
        Empty lines carry nothing.

        Args:
            keep_alive: Seconds of silence after which an empty line is sent, repeatedly.
        """
        return Relay(self._frames(), self.cancel, NdjsonFormat(), keep_alive=keep_alive)

    def ai_sdk(self, *, keep_alive: float = 15.0) -> Relay:
        """The answer as the UI message stream of the AI SDK, version 1, which `useChat` reads.

        Text, reasoning, tool calls with their results, errors and `cancel` become the parts of one
        message. Its metadata has the `usage`, if it is known, and the class of an `error`.

        Args:
            keep_alive: Seconds of silence after which a comment is sent, repeatedly.

        Source: AI SDK docs, AI SDK UI, "Stream Protocols"; `uiMessageChunkSchema` of npm's ai 6.0.
        """
        return Relay(self._frames(), self.cancel, AiSdkFormat(), keep_alive=keep_alive)


def build_relay(
    source: RelaySource, protocol: RelayProtocol, *, retry: int | None, keep_alive: float
) -> Relay:
    """Build the relay that sends *source* on in a protocol.

    Raises:
        InputError: The source is no stream and no run, the protocol is unknown, or a number is out
            of bounds.
    """
    if not isinstance(source, RelaySource):
        raise InputError(
            f"answer must be a TokenStream or a ToolRun that is not awaited, as ai.stream(...) and "
            f"ai.run_tools(...) return them, got {type(source).__name__}"
        )
    if protocol == "sse":
        return source.sse(retry=retry, keep_alive=keep_alive)
    if protocol == "ndjson":
        return source.ndjson(keep_alive=keep_alive)
    if protocol == "ai-sdk":
        return source.ai_sdk(keep_alive=keep_alive)
    raise InputError(f'protocol must be "sse", "ndjson" or "ai-sdk", got {protocol!r}')
