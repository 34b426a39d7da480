"""`TokenStream`: one text answer, token by token, that never passes off a part as the whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from attrs import evolve

from cfai._wire.chunks import Assembly, as_token, read_token
from cfai.errors import CfaiError, DecodeError, InputError, ServerError, StreamInterrupted
from cfai.meta import Meta
from cfai.streaming.events import Event, Events
from cfai.streaming.frames import ndjson, sse
from cfai.streaming.relay import Relay
from cfai.streaming.views import RawEvents, Texts
from cfai.tasks import Text, Token

if TYPE_CHECKING:
    from httpx_sse import ServerSentEvent

_DONE = b"[DONE]"


class TokenStream:
    """A text answer as it is generated: an async iterator of `Token`, and a context manager.

    Nothing is sent before it is entered, awaited or iterated. It is used once, by one reader.
    Leaving the `async with`, breaking out, cancelling or dropping it closes the connection at once.

    It ends by itself only where the service said that it ended; otherwise it raises:

    Raises:
        StreamInterrupted: It was cut; `answer` has what had arrived.
        RequestTimeout: `Timeouts.idle`, `.content` or `.total` ran out.
        StatusError: The service refused, at first or inside the stream.
        DecodeError: An event has a form that nobody documented.
    """

    __slots__ = (
        "__weakref__", "_assembly", "_events", "_failure", "_interrupted", "_json_asked",
        "_opening", "_over", "_progressed", "_waiter", "_whole", "cancelled",
    )  # fmt: skip

    def __init__(
        self, opening: Callable[[], Awaitable[Events | Text]], *, json_asked: bool = False
    ) -> None:
        self._opening: Callable[[], Awaitable[Events | Text]] | None = opening
        self._json_asked = json_asked
        self._assembly = Assembly()
        self._events: Events | None = None
        self._whole: Text | None = None
        self._over = False
        self.cancelled: bool = False
        """Whether `cancel` ended it, before the service did."""
        self._progressed = False
        """Whether something was added since bytes were last waited for."""
        self._failure: CfaiError | None = None
        """Why it is over, where that is no end. Raised again whenever more is asked for."""
        self._waiter: asyncio.Task[Any] | None = None
        """The task that waits for the first event, or for more bytes."""
        self._interrupted = False
        """Whether that task was cancelled from here, and not by somebody else."""

    # Opening and closing

    async def open(self) -> Self:
        """Send the request and wait for the first event. Entering and iterating do the same.

        Raises:
            StreamUnsupported: The model does not stream.
            StatusError: The service refused.
        """
        opening, self._opening = self._opening, None
        if opening is None:
            return self
        try:
            began = await self._begun(opening)
        except BaseException as exc:
            self._stop(exc)
            raise
        if isinstance(began, Text):
            self._whole = began
        else:
            self._events = began
        return self

    async def _begun(self, opening: Callable[[], Awaitable[Events | Text]]) -> Events | Text | None:
        """Wait for the first event; `None` where `cancel` ended that, from another task."""
        waiter = self._waiter = asyncio.current_task()
        before = waiter.cancelling() if waiter is not None else 0
        try:
            return await opening()
        except asyncio.CancelledError:
            # As in `asyncio.timeout`: the task is cancelled only if somebody else wants that, too.
            ours = self._interrupted and waiter is not None and waiter.uncancel() <= before
            if not ours:
                raise
            if self._failure is not None:
                raise self._failure from None
            return None
        finally:
            self._waiter = None

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection at once, if the stream did not end. Safe to repeat."""
        self._stop(None)

    close = aclose

    def cancel(self) -> None:
        """End the iteration cleanly, from whichever task: `answer` keeps what had arrived."""
        self.cancelled = self.cancelled or not self._over
        self._opening, self._over = None, True
        if self._events is not None:
            self._events.cancel()
        self._interrupt()

    def _interrupt(self) -> None:
        """End the wait for a first event."""
        if self._waiter is not None and self._events is None and not self._interrupted:
            self._interrupted = True
            self._waiter.cancel()

    def _stop(self, exc: BaseException | None) -> None:
        """Make it over because of *exc*; `None` is the user's wish."""
        if not self._over:
            self._opening, self._over = None, True
            message = "the stream was closed before its end"
            failure = exc if isinstance(exc, CfaiError) else StreamInterrupted(message)
            if isinstance(failure, StreamInterrupted):
                failure.answer, failure.events = self.answer, self._count
            self._failure = failure
        if self._events is not None:
            self._events.close()
        self._interrupt()

    # Reading

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Token:
        self._check_alone()
        try:
            while True:
                # Usually the next event is there already, and nothing has to be awaited for it.
                event = None if self._over or self._events is None else self._events.take()
                if event is None and (event := await self.next_event()) is None:
                    self._check_end()
                    break
                if event == _DONE or (isinstance(event, Event) and event.data == "[DONE]"):
                    await self._finish()
                    break
                if (token := self._read(event)) is not None:
                    return token
        except BaseException as exc:
            self._stop(exc)
            raise
        if self._whole is not None and not self._over:
            self._over = True
            return self._take(as_token(self._whole))
        self._over = True
        raise StopAsyncIteration

    async def next_event(self) -> bytes | Event | None:
        """The next event, whatever it is; `None` at the end of the body.

        Raises:
            CfaiError: It was cut or closed, now or before.
        """
        self._check_alone()
        if self._failure is not None:
            raise self._failure
        if self._opening is not None:
            await self.open()
        events = self._events
        if events is None or self._over:
            return None
        while (event := events.take()) is None:
            if events.ended:
                return None
            if self._progressed:
                events.progressed()
                self._progressed = False
            if not await self._more(events):
                return None
        return event

    async def _more(self, events: Events) -> bool:
        """Wait for more bytes; `False` where `cancel` ended that, from another task."""
        self._waiter = asyncio.current_task()
        try:
            await events.more()
        except CfaiError as exc:
            self._stop(exc)
        except BaseException as exc:
            self._stop(exc)
            raise
        finally:
            self._waiter = None
        # Also where it was closed from another task, which may look like the end of the body.
        if self._failure is not None:
            raise self._failure
        return not self._over

    def _check_alone(self) -> None:
        if self._waiter is not None:
            raise InputError("a stream has one reader, and another task is reading this one")

    def _read(self, event: bytes | Event) -> Token | None:
        events = self._events
        says_something = event if isinstance(event, bytes) else event.data or event.is_error
        if events is None or not says_something:
            return None
        try:
            token = read_token(events.document(event))
        except DecodeError as exc:
            events.describe(exc, event)
            raise
        if token is None:
            return None
        self._progressed = True
        if token.finish_reason == "error":
            message = "the model ended the stream with finish_reason error"
            facts = self.meta
            raise ServerError(message, status=500, ray_id=facts.ray_id, meta=facts)
        return self._take(token)

    def _take(self, token: Token) -> Token:
        self._assembly.add(token)
        return token

    async def _finish(self) -> None:
        """The end mark came."""
        self._over = True
        if self._events is not None:
            await self._events.finish()

    def _check_end(self) -> None:
        """The body is at its end: was that the end of the answer?"""
        events = self._events
        if self._over or events is None or events.bare_done or self._assembly.finish_reason:
            return
        raise StreamInterrupted(
            f"the stream ended without its end mark, after {self._count} events"
        )

    @property
    def _count(self) -> int:
        return 0 if self._events is None else self._events.count

    # What it gives

    @property
    def answer(self) -> Text:
        """The answer so far: the whole of it after the end."""
        if self._whole is not None:
            return self._whole
        return evolve(self._assembly.text(json_asked=self._json_asked), meta=self.meta)

    @property
    def meta(self) -> Meta:
        """The facts of the exchange, once it began."""
        if self._whole is not None:
            return self._whole.meta
        return Meta() if self._events is None else self._events.meta

    async def collect(self) -> Text:
        """Read to the end, and give the whole answer.

        Raises:
            StreamInterrupted: It did not come to its end, or had been closed before.
        """
        async for _ in self:
            pass
        return self.answer

    def text(self) -> AsyncIterator[str]:
        """The pieces of text alone, as strings."""
        return Texts(self)

    def events(self) -> AsyncIterator[ServerSentEvent]:
        """The events as they were sent, end mark included, decoded as the WHATWG text says.

        For models that stream something else than text: nothing is read into them, and the end of
        the body is the end. Each event is either taken here or becomes a token.
        """
        return RawEvents(self.next_event)

    def sse(self, *, retry: int | None = 3000, keep_alive: float = 15.0) -> Relay:
        """The stream as bytes for a browser's `EventSource`, whatever framework serves them.

        Tokens become events named `text`, `reasoning` and `tool_calls`, with a JSON object as their
        data. At the end there is one `usage`, where that is known, and then `done`, or `error` with
        the class and a message.

        Args:
            retry: Milliseconds after which a browser connects anew; `None` leaves that to it.
            keep_alive: Seconds of silence after which a comment is sent, again and again.
        """
        return Relay(self, sse(retry), keep_alive=keep_alive)

    def ndjson(self, *, keep_alive: float = 15.0) -> Relay:
        """The stream as lines of JSON, for clients that read it with `fetch`, or that are programs.

        They say what `sse` says, with the name of the event as `type`. An empty line says nothing.

        Args:
            keep_alive: Seconds of silence after which an empty line is sent, again and again.
        """
        return Relay(self, ndjson(), keep_alive=keep_alive)

    def __repr__(self) -> str:
        state = "over" if self._over else "new" if self._events is None else "open"
        return f"<TokenStream {state}, {self._count} events>"
