"""A token stream sent on to a browser, as the bytes of an event stream of our own."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

from cfai._convert import dumps
from cfai.errors import CfaiError
from cfai.tasks import Token
from cfai.tasks._plain import plain

_KEEP_ALIVE = b": keep-alive\n\n"


def _frame(number: int, name: str, data: Any) -> bytes:
    # JSON has no raw line end in it, so one data line always holds it.
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (number, name.encode(), dumps(data))


def _parts(token: Token) -> list[tuple[str, Any]]:
    """The events that tell a browser what a token adds."""
    parts: list[tuple[str, Any]] = []
    if token.reasoning:
        parts.append(("reasoning", {"text": token.reasoning}))
    if token.text:
        parts.append(("text", {"text": token.text}))
    if token.tool_calls:
        parts.append(("tool_calls", plain(token.tool_calls)))
    if token.usage:
        parts.append(("usage", plain(token.usage)))
    return parts


async def _next(tokens: AsyncIterator[Token]) -> Token:
    # Outside the class: a task that held the relay would keep one alive that nobody reads.
    return await anext(tokens)


def _heard(task: asyncio.Task[Token]) -> None:
    """Take note of how a wait ended that nobody is interested in any more."""
    if not task.cancelled():
        task.exception()


class Relay:
    """Yields frames for an `EventSource`. Owns one task, which waits for the next token."""

    def __init__(
        self,
        tokens: AsyncIterator[Token],
        cancel: Callable[[], None],
        *,
        retry: int | None,
        keep_alive: float,
    ) -> None:
        self._tokens = tokens
        self._cancel = cancel
        self._keep_alive = keep_alive
        self._number = 0
        self._ready: deque[bytes] = deque()
        self._waiting: asyncio.Task[Token] | None = None
        self._over = False
        self._finish_reason: str | None = None
        if retry is not None:
            self._ready.append(b"retry: %d\n\n" % retry)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._ready:
            if self._over:
                raise StopAsyncIteration
            await self._fill()
        return self._ready.popleft()

    async def _fill(self) -> None:
        """Wait for the next token, but no longer than a keep-alive."""
        waiting = self._waiting
        if waiting is None:
            waiting = self._waiting = asyncio.ensure_future(_next(self._tokens))
        try:
            done, _ = await asyncio.wait({waiting}, timeout=self._keep_alive)
        except BaseException:
            self._close()
            raise
        if self._over:  # Closed meanwhile, from another task.
            return
        if not done:
            self._ready.append(_KEEP_ALIVE)
            return
        self._waiting = None
        try:
            token = waiting.result()
        except StopAsyncIteration:
            self._last("done", {"finish_reason": self._finish_reason})
        except CfaiError as exc:
            self._last("error", {"error": type(exc).__name__, "message": str(exc)})
        else:
            self._finish_reason = token.finish_reason or self._finish_reason
            for name, data in _parts(token):
                self._add(name, data)

    def _add(self, name: str, data: Any) -> None:
        self._number += 1
        self._ready.append(_frame(self._number, name, data))

    def _last(self, name: str, data: Any) -> None:
        self._add(name, data)
        self._over = True

    async def aclose(self) -> None:
        """The browser went away: end the stream, and the request behind it, at once."""
        self._close()

    def _close(self) -> None:
        self._over = True
        self._cancel()
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return
        if waiting.done():
            _heard(waiting)
        else:
            waiting.add_done_callback(_heard)
            waiting.cancel()

    def __del__(self) -> None:
        self._close()
