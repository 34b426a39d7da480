"""The events of one stream, as they come.

An event that is a single `data` line is taken as it stands; any other goes through httpx-sse's
`EventSource`. Both are cut and cleaned by `_wire.blocks` first, so that each is decoded as the
WHATWG text says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, cast

from cfai._session.body import StreamBody
from cfai._session.redaction import redact_error
from cfai._types.json import loads
from cfai._wire import errors as failures
from cfai._wire.sse import Blocks
from cfai.errors import CfaiError, ConnectionLost, DecodeError, StatusError, StreamInterrupted
from cfai.meta import Meta

if TYPE_CHECKING:
    from httpx_sse import ServerSentEvent


class _Source:
    """What `EventSource` needs of a response: a Content-Type, and texts to decode."""

    headers = {"content-type": "text/event-stream"}

    def __init__(self, text: str) -> None:
        self._text = text

    async def aiter_text(self) -> AsyncIterator[str]:
        yield self._text


async def _decoded(text: str) -> list[ServerSentEvent]:
    from httpx_sse import EventSource

    # Whole events in, so nothing is left waiting in a generator when the reader goes away.
    source = EventSource(cast("Any", _Source(text)))
    return [event async for event in source.aiter_sse()]


class Event:
    """The data of one event, and its name where it has one."""

    __slots__ = ("data", "is_error", "sse")

    def __init__(self, sse: ServerSentEvent) -> None:
        self.data = sse.data
        self.is_error = sse.event == "error"
        self.sse = sse


def _said(event: bytes | Event) -> Any:
    """The JSON of an event; of one named `error` its text, where that is none.

    Raises:
        ValueError: It is no JSON.
    """
    data = event if isinstance(event, bytes) else event.data
    try:
        return loads(data)
    except ValueError:
        if isinstance(event, Event) and event.is_error:
            return data
        raise


class Events:
    """The events of one body, which it owns. `take` what is there; ask for `more`."""

    __slots__ = ("_blocks", "_body", "_ready", "count", "ended", "open_tail")

    def __init__(self, body: StreamBody) -> None:
        self._body = body
        self._blocks = Blocks(body.settings.max_event_bytes)
        self._ready: deque[bytes | Event] = deque()
        self.count = 0
        """How many events have been taken."""
        self.ended = False
        """Whether the body is at its end. Events may still be there."""
        self.open_tail = False
        """Whether the end of the body left the last event open."""

    @classmethod
    async def begun(cls, body: StreamBody) -> Events:
        """The events of *body*, once the first of them is there and is no error.

        Raises:
            StatusError: It is an error.
            StreamInterrupted: The body ended without any event.
        """
        events = cls(body)
        while not events._ready:
            if events.ended and events.bare_done:
                return events
            if events.ended:
                raise StreamInterrupted("the stream ended before its first event")
            await events.more()
        first = events._ready[0]
        try:
            document = _said(first)
        except ValueError:
            return events  # `[DONE]`, or what `document` will refuse.
        if error := events.error(document, first):
            raise error
        return events

    @property
    def meta(self) -> Meta:
        """The facts of the exchange."""
        return self._body.meta

    @property
    def bare_done(self) -> bool:
        """Whether a line `[DONE]` outside any event ended the stream."""
        return self._blocks.bare_done

    @property
    def is_empty(self) -> bool:
        """Whether no event is there to be taken."""
        return not self._ready

    def take(self) -> bytes | Event | None:
        """The next event that is there, if one is."""
        if not self._ready:
            return None
        self.count += 1
        return self._ready.popleft()

    async def more(self) -> None:
        """Wait for more bytes, and for the events that they complete.

        Raises:
            StreamInterrupted: The connection was lost.
            RequestTimeout: A limit inside the stream ran out.
            AnswerTooLarge: One event is larger than the limit.
        """
        try:
            chunk = await self._body.chunk()
        except ConnectionLost as exc:
            count = self.count + len(self._ready)
            message = f"the stream was cut after {count} events: {exc}"
            raise StreamInterrupted(message, events=count) from exc
        if not chunk:
            self.ended = True
        blocks = self._blocks.feed(chunk) if chunk else self._blocks.finish()
        self.open_tail = not chunk and bool(blocks)
        for block in blocks:
            if isinstance(block, bytes):
                self._ready.append(block)
            else:
                self._ready.extend(Event(sse) for sse in await _decoded(block))

    def error(self, document: Any, event: bytes | Event) -> StatusError | None:
        """The error that an event means, if it means one."""
        if (
            type(event) is bytes
            and type(document) is dict
            and failures.TELLTALES.isdisjoint(document)
        ):
            return None
        named = isinstance(event, Event) and event.is_error
        return failures.in_stream(document, named_error=named, meta=self.meta)

    def document(self, event: bytes | Event) -> Any:
        """The JSON of an event.

        Raises:
            StatusError: The event is an error.
            StreamInterrupted: It was cut.
            DecodeError: It is no JSON.
        """
        try:
            document = _said(event)
        except ValueError as exc:
            if self.open_tail and not self._ready:
                message = f"the stream was cut inside its event {self.count}"
                raise StreamInterrupted(message, events=self.count) from exc
            raise DecodeError(f"event {self.count} of the stream is no JSON") from exc
        if error := self.error(document, event):
            raise error
        return document

    def describe(self, error: DecodeError, event: bytes | Event) -> None:
        """Put into *error* what is known of the event that it is about."""
        data = event if isinstance(event, bytes) else event.data.encode()
        failures.described(error, data, self.meta)

    def redact(self, error: CfaiError) -> None:
        """Remove the secrets of the call from an error that is about to leave the stream."""
        redact_error(error, self._body.settings.secrets)

    def progressed(self) -> None:
        """Tell the time limits that an event added something."""
        self._body.progressed()

    def cancel(self) -> None:
        """End the reading, from whichever task."""
        self._body.cancel()

    async def finish(self) -> None:
        """Nothing more is wanted: read to a near end, so that the connection can be used again."""
        self._ready.clear()
        await self._body.finish()

    def close(self) -> None:
        """Close the connection at once, unless the body was read to its end."""
        self._body.close()


def as_sse(event: bytes | Event) -> ServerSentEvent:
    """The event, in httpx-sse's class."""
    if isinstance(event, Event):
        return event.sse
    from httpx_sse import ServerSentEvent

    return ServerSentEvent(data=event.decode("utf-8", "replace"))
