"""`StreamBody`: the body of an event stream, read chunk by chunk under its time limits."""

import asyncio
import sys
from collections.abc import Callable, Iterator

import aiohttp
from attrs import define, field

from cfai._session.connections import LoopSession, call_in_loop
from cfai._session.errors import raise_error, timeout_error, translate_error
from cfai._session.timeouts import Deadline
from cfai.errors import ConnectionLost, Phase
from cfai.meta import Meta
from cfai.settings import Settings, Timeouts

_DRAIN_SECONDS = 0.1
"""How long to wait for the end of the body after the last event, so that the connection can be
reused. The openai SDK waits as long (`_streaming_cleanup.py`)."""


@define(eq=False, repr=False)
class _StreamTimer:
    """The time limits of a stream, on one timer that is only moved when it goes off.

    The idle and content limits count the time spent waiting for bytes, the deadline counts all
    time. The timer refers to the response, not to the body, so that a body without other references
    is deleted at once.
    """

    _response: aiohttp.ClientResponse
    _timeouts: Timeouts
    _deadline: float | None
    """When the call has to end, by the clock of the loop."""
    waited: float = field(default=0.0, init=False)
    """Seconds spent waiting since the last event with content."""
    expired: tuple[Phase, float] | None = field(default=None, init=False)
    """The limit that was exceeded, and its length in seconds."""
    _loop: asyncio.AbstractEventLoop = field(factory=asyncio.get_running_loop, init=False)
    since: float | None = field(default=None, init=False)
    """When the reader began to wait for bytes, if it does."""
    now: Callable[[], float] = field(init=False)
    """The clock of the loop."""
    _handle: asyncio.TimerHandle | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.now = self._loop.time
        self._check()

    def stop(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.cancel()

    def _expiries(self, now: float) -> Iterator[tuple[float, Phase, float]]:
        """When each limit expires if nothing happens until then, its phase, and its seconds."""
        since = now if self.since is None else self.since
        limits = self._timeouts
        if limits.idle is not None:
            yield since + limits.idle, "idle", limits.idle
        if limits.content is not None:
            yield since + limits.content - self.waited, "content", limits.content
        if self._deadline is not None and limits.total is not None:
            yield self._deadline, "total", limits.total

    def _check(self) -> None:
        now = self.now()
        nearest = min(self._expiries(now), default=None)
        if nearest is None:
            return
        due, phase, seconds = nearest
        if now < due:
            self._handle = self._loop.call_at(due, self._check)
            return
        self._handle = None
        self.expired = phase, seconds
        self._response.close()


class StreamBody:
    """The body of an event stream. The holder closes it; without references it closes itself."""

    __slots__ = (
        "__weakref__", "_cancelled", "_first", "_is_open", "_loop", "_response", "_timer",
        "counts_content", "meta", "settings",
    )  # fmt: skip

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        loop: LoopSession,
        meta: Meta,
        settings: Settings,
        deadline: Deadline,
        first: bytes = b"",
    ) -> None:
        self.meta: Meta = meta
        self.settings: Settings = settings
        self.counts_content: bool = settings.timeouts.content is not None
        self._response = response
        self._first = first  # Bytes that were read already, to find out what the body is.
        self._loop = loop
        self._is_open = False
        self._cancelled = False
        left = deadline.seconds_left
        due = None if left is None else asyncio.get_running_loop().time() + left
        self._timer = _StreamTimer(response, settings.timeouts, due)
        self._is_open = True

    async def read_chunk(self) -> bytes:
        """All bytes that have arrived, at least one; empty at the end, or after `cancel`.

        Raises:
            RequestTimeout: A time limit of the stream was exceeded.
            ConnectionLost: The body was cut off.
        """
        if self._first:
            first, self._first = self._first, b""
            return first
        # Each packet passes here: `since` is set here, not in a method, for 250 instructions less.
        timer = self._timer
        timer.since = started = timer.now()
        try:
            data = await self._response.content.readany()
        except (aiohttp.ClientError, ConnectionError) as exc:
            self.close()
            if self._cancelled:
                return b""
            if self._timer.expired is not None:
                raise_error(exc, timeout_error(*self._timer.expired))
            if self._loop.was_closed:
                raise_error(exc, ConnectionLost("the client was closed"))
            raise_error(exc, translate_error(exc))
        except BaseException:
            self.close()
            raise
        timer.since = None
        if self.counts_content:
            timer.waited += timer.now() - started
        if not data:
            self.close()
        return data

    def restart_content_timeout(self) -> None:
        """Restart the limit `Timeouts.content`: an event with content arrived."""
        self._timer.waited = 0.0

    def cancel(self) -> None:
        """Stop reading, from any task: a pending `read_chunk` returns no bytes."""
        self._cancelled = True
        self.close()

    async def drain(self) -> None:
        """Read to the end of the body if it is near, so that the connection can be reused."""
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while not self._response.content.at_eof():
                    await self._response.content.readany()
        except (TimeoutError, aiohttp.ClientError):
            pass  # The end is far, or the body was cut off: close() drops the connection.
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection, unless the body was read to its end. Safe to repeat."""
        if self._is_open:
            self._is_open = False
            call_in_loop(self._loop.timer.loop, self._drop)

    def _drop(self) -> None:
        if self._loop.timer.loop.is_closed():
            return  # `LoopSession` closes the connections of such a loop.
        self._timer.stop()
        self._response.close()
        self._loop.release(self._response)

    def __del__(self, is_exiting: Callable[[], bool] = sys.is_finalizing) -> None:
        if not is_exiting():  # The modules that closing needs may be gone.
            self.close()
