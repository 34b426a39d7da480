"""A token stream that is observed: its observers hear of each token, and of its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Self

from cfai._session.observation import Watch
from cfai.streaming.events import Event, Events
from cfai.streaming.stream import TokenStream
from cfai.streaming.views import RawEvents
from cfai.tasks import Text, Token

if TYPE_CHECKING:
    from httpx_sse import ServerSentEvent


class WatchedStream(TokenStream):
    """A `TokenStream` and its watch, which ends when the stream does, however that is."""

    __slots__ = ("_watch",)

    def __init__(
        self,
        opening: Callable[[], Awaitable[Events | Text]],
        watch: Watch,
        *,
        json_asked: bool = False,
    ) -> None:
        super().__init__(opening, json_asked=json_asked)
        self._watch = watch

    @classmethod
    async def of(cls, tokens: TokenStream, watch: Watch) -> Self:
        """Watch a stream that somebody opened, and leaves to this one."""

        async def opened() -> Events | Text:
            return tokens.answer if tokens._events is None else tokens._events

        return await cls(opened, watch, json_asked=tokens._json_asked).open()

    async def __anext__(self) -> Token:
        try:
            return await super().__anext__()
        except StopAsyncIteration:
            self._ends()
            raise

    def events(self) -> AsyncIterator[ServerSentEvent]:
        """The events as they were sent."""
        return RawEvents(self._next_raw)

    async def _next_raw(self) -> bytes | Event | None:
        """The next event for a reader who takes the end of the body for the end."""
        event = await self.next_event()
        if event is None:
            self._ends()
        return event

    def _take(self, token: Token) -> Token:
        self._watch.token(token)
        return super()._take(token)

    def cancel(self) -> None:
        """End the iteration cleanly."""
        complete = self._is_complete
        super().cancel()
        self._ends(complete=complete)

    def _stop(self, exc: BaseException | None) -> None:
        complete = self._is_complete
        super()._stop(exc)
        if exc is None or complete:
            self._ends(complete=complete)
        else:
            self._watch.raised(exc, self._arrived)

    def __del__(self) -> None:
        # Dropped by its reader, or never entered: then nothing began, and nothing ends.
        self._ends(complete=self._is_complete)

    @property
    def _is_complete(self) -> bool:
        """Whether the end was found. That no bytes are left is none: it may have been cut there."""
        return self._over and self._failure is None

    @property
    def _arrived(self) -> Text | None:
        return None if self._events is None and self._whole is None else self.answer

    def _ends(self, *, complete: bool = True) -> None:
        if not self._watch.over:
            self._watch.ended("done" if complete else "closed", answer=self._arrived)
