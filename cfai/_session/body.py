"""The body of a stream, read as it comes, with its time limits and its way out."""

import asyncio
from collections.abc import Iterator

import aiohttp

from cfai._session.connections import LoopSession
from cfai._session.errors import raise_error, timeout_error, translate_error
from cfai.errors import Phase
from cfai.meta import Meta
from cfai.settings import Settings, Timeouts

_DRAIN = 0.1
"""Seconds from a stream's end mark to the end of its body, within which its connection can be used
again. The openai SDK allows the same (`_streaming_cleanup.py`)."""


class _Watch:
    """The limits inside a stream, kept by one timer that is moved only when it goes off.

    Time counts while somebody waits for bytes; the deadline of the call counts always. It holds the
    response and not the body, so that a body that is dropped is gone at once.
    """

    __slots__ = (
        "_content", "_deadline", "_handle", "_idle", "_loop", "_response", "_since", "_total",
        "_waited", "_waiting", "expired",
    )  # fmt: skip

    def __init__(
        self, response: aiohttp.ClientResponse, timeouts: Timeouts, left: float | None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._response = response
        self._idle, self._content, self._total = timeouts.idle, timeouts.content, timeouts.total
        self._since = self._loop.time()
        self._deadline = None if left is None else self._since + left
        self._waiting = False
        self._waited = 0.0
        """Seconds waited since the last event that added something."""
        self.expired: tuple[Phase, float] | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._check()

    def begin(self) -> None:
        """Somebody waits for bytes from now on."""
        self._since = self._loop.time()
        self._waiting = True

    def end(self) -> None:
        """Bytes came."""
        self._waiting = False
        if self._content is not None:
            self._waited += self._loop.time() - self._since

    def progressed(self) -> None:
        """An event added something."""
        self._waited = 0.0

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _limits(self, now: float) -> Iterator[tuple[float, Phase, float]]:
        """When each limit runs out if nothing happens, its name, and its seconds."""
        since = self._since if self._waiting else now
        if self._idle is not None:
            yield since + self._idle, "idle", self._idle
        if self._content is not None:
            yield since + self._content - self._waited, "content", self._content
        if self._deadline is not None and self._total is not None:
            yield self._deadline, "total", self._total

    def _check(self) -> None:
        now = self._loop.time()
        nearest = min(self._limits(now), default=None)
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
    """What is left to read of an answer. Its holder closes it; a dropped one closes itself."""

    __slots__ = (
        "__weakref__",
        "_cancelled",
        "_content",
        "_here",
        "_open",
        "_response",
        "_watch",
        "meta",
        "settings",
    )

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        here: LoopSession,
        meta: Meta,
        settings: Settings,
        left: float | None,
    ) -> None:
        self.meta = meta
        self.settings = settings
        self._response = response
        self._content = response.content
        self._here = here
        self._open = False
        self._cancelled = False
        self._watch = _Watch(response, settings.timeouts, left)
        self._open = True

    async def chunk(self) -> bytes:
        """The next bytes, as many as are there; none at the end, or after `cancel`.

        Raises:
            RequestTimeout: A limit inside the stream ran out.
            ConnectionLost: The body was cut.
        """
        self._watch.begin()
        try:
            data = await self._content.readany()
        except (aiohttp.ClientError, ConnectionError) as exc:
            self.close()
            if self._cancelled:
                return b""
            expired = self._watch.expired
            raise_error(exc, translate_error(exc) if expired is None else timeout_error(*expired))
        except BaseException:
            self.close()
            raise
        self._watch.end()
        if not data:
            self.close()
        return data

    def progressed(self) -> None:
        """Tell the time limits that an event added something."""
        self._watch.progressed()

    def cancel(self) -> None:
        """End the reading, from whichever task: whoever waits for bytes is given none."""
        self._cancelled = True
        self.close()

    async def finish(self) -> None:
        """Read on to the end if it is near, so that the connection can be used again."""
        try:
            async with asyncio.timeout(_DRAIN):
                while not self._content.at_eof():
                    await self._content.readany()
        except (TimeoutError, aiohttp.ClientError):
            pass  # It is far, or it is cut: only the connection is lost, which close() drops.
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection at once, unless the body was read to its end. Safe to repeat."""
        if not self._open:
            return
        self._open = False
        self._watch.stop()
        self._response.close()
        self._here.ended(self._response)

    def __del__(self) -> None:
        self.close()
