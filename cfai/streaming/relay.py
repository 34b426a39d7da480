"""A token stream sent on to a browser or a program, as bytes of our own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol, Self

from cfai.errors import CfaiError, InputError
from cfai.streaming.frames import Framing, said, told
from cfai.tasks import Text, Token
from cfai.tasks.base import to_plain

_AHEAD = 16 * 1024
"""Bytes that wait for a slow reader, at the least, before the model's stream is left alone."""


class Source(Protocol):
    """What is sent on: a `TokenStream`."""

    def __aiter__(self) -> AsyncIterator[Token]: ...

    @property
    def answer(self) -> Text:
        """The answer so far."""

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` ended the stream."""

    def cancel(self) -> None:
        """End the stream."""


class _Feed:
    """What lies between the task that reads the tokens and whoever sends them on.

    It knows neither, so that a relay that nobody holds is gone at once.
    """

    __slots__ = (
        "_framing", "_keep_alive", "_loop", "_number", "_room", "_since", "_size", "_timer",
        "_wanted", "failure", "over", "ready", "refused",
    )  # fmt: skip

    def __init__(self, framing: Framing, keep_alive: float) -> None:
        self._framing = framing
        self._keep_alive = keep_alive
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._size = 0
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._wanted: asyncio.Future[bool] | None = None
        self._room: asyncio.Future[None] | None = None
        self.ready: list[bytes] = []
        self.over = False
        self.failure: CfaiError | None = None
        self.refused = False
        """Whether the failure is all that there is to say."""

    # For the task that reads the tokens...

    def add(self, name: str, data: Mapping[str, Any]) -> None:
        """Say something, once the reader asks for it."""
        self._number += 1
        frame = self._framing.frame(self._number, name, data)
        self._size += len(frame)
        self.ready.append(frame)
        self._wake()

    def fail(self, error: CfaiError) -> None:
        """Say that it failed, which is the last thing said."""
        self.refused = not self._number
        self.failure = error
        self.add("error", told(error))

    async def room(self) -> None:
        """Wait until the reader took what is there, if that is much."""
        if self._size >= _AHEAD:
            self._room = self._loop.create_future()
            await self._room

    def end(self) -> None:
        """Nothing more comes."""
        self.over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()

    # For the reader...

    @property
    def awaited(self) -> bool:
        """Whether a reader waits already."""
        return self._wanted is not None

    def take(self) -> bytes:
        """All that is there."""
        taken = b"".join(self.ready)
        self.ready.clear()
        self._size = 0
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        return taken

    async def wait(self) -> bool:
        """Wait for something to say, or for the end; `False` where silence lasted too long."""
        self._wanted = self._loop.create_future()
        self._since = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_at(self._since + self._keep_alive, self._check)
        try:
            return await self._wanted
        finally:
            self._wanted = None

    def _wake(self, *, news: bool = True) -> None:
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(news)

    def _check(self) -> None:
        # One timer, moved only when it goes off: one for each token would cost more than the token.
        self._timer = None
        if self._wanted is None or self._wanted.done():
            return
        due = self._since + self._keep_alive
        if self._loop.time() < due:
            self._timer = self._loop.call_at(due, self._check)
        else:
            self._wake(news=False)


async def _read(tokens: Source, feed: _Feed) -> None:
    """Hand the tokens on until they end, no faster than they are taken."""
    finish_reason = None
    try:
        async for token in tokens:
            finish_reason = token.finish_reason or finish_reason
            for name, data in said(token):
                feed.add(name, data)
            await feed.room()
        if usage := tokens.answer.usage:
            feed.add("usage", to_plain(usage))
        # The service's own reason is often null, which would pass a part off as the whole.
        cut_short = "cancelled" if tokens.cancelled else None
        feed.add("done", {"finish_reason": finish_reason or cut_short})
    except CfaiError as exc:
        feed.fail(exc)
    finally:
        feed.end()


class Relay:
    """The bytes of a stream for whoever asked for it: an async iterator, used once, by one reader.

    Each item is what there is to send: one frame, or several where the reader is slow. A reader
    that is slower still slows the model's stream. Leaving it, closing it, cancelling its reader or
    dropping it closes the stream and the request behind it at once.
    """

    __slots__ = (
        "__weakref__", "_closed", "_feed", "_framing", "_held", "_keep_alive", "_task", "_tokens",
    )  # fmt: skip

    def __init__(self, tokens: Source, framing: Framing, *, keep_alive: float) -> None:
        if not keep_alive > 0:
            raise InputError(f"keep_alive must be above 0 seconds, got {keep_alive!r}")
        self._tokens = tokens
        self._framing = framing
        self._keep_alive = keep_alive
        self._held = framing.opening
        self._closed = False
        self._feed: _Feed | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What an answer with these bytes needs: its type, and that nobody on the way keeps it."""
        return {
            "content-type": self._framing.media_type,
            "cache-control": "no-cache",
            "x-accel-buffering": "no",
        }

    @property
    def failure(self) -> CfaiError | None:
        """Why the stream failed, if it did. The reader is told of it in the last frame."""
        return None if self._feed is None else self._feed.failure

    async def begin(self) -> None:
        """Wait for the first frame, so that a refusal can still become a status.

        Waits for no longer than *keep_alive*: then the answer begins, with a sign of life.

        Raises:
            CfaiError: The stream failed before it said anything.
        """
        first = await self._next()
        if self._feed is not None and self._feed.refused and self._feed.failure is not None:
            raise self._feed.failure
        self._held += first

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._held:
            held, self._held = self._held, b""
            return held
        if frames := await self._next():
            return frames
        raise StopAsyncIteration

    async def _next(self) -> bytes:
        """What there is to send, or a sign of life after silence; nothing at the end."""
        feed = self._feed
        if feed is None:
            if self._closed:
                return b""
            feed = self._feed = _Feed(self._framing, self._keep_alive)
            self._task = asyncio.create_task(_read(self._tokens, feed))
        while not feed.ready:
            if feed.over:
                self._check_task()
                return b""
            if feed.awaited:
                raise InputError("a relay has one reader, and another task is reading this one")
            try:
                if not await feed.wait():
                    return self._framing.keep_alive
            except BaseException:
                self.close()
                raise
        return feed.take()

    def _check_task(self) -> None:
        """Raise what is no failure of the stream, and so nothing for a browser."""
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()

    def close(self) -> None:
        """The reader went away: end the stream, and the request behind it, at once."""
        self._held = b""
        self._closed = True
        self._tokens.cancel()
        if self._feed is None:
            return
        self._feed.ready.clear()
        self._feed.end()
        if self._task is not None:
            self._task.cancel()

    async def aclose(self) -> None:
        """The same, as async generators name it. Safe to repeat."""
        self.close()

    def __del__(self) -> None:
        # Its constructor may have raised.
        if hasattr(self, "_feed"):
            self.close()
