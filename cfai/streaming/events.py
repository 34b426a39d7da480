"""Reads the events of one response body: the SSE iterator below `TokenStream`.

A body passes through three steps. `StreamBody` gives bytes and enforces the time limits.
`_wire.sse.EventSplitter` cuts them into blocks between blank lines, cleaned so that each is decoded
as the WHATWG specification says. `EventReader` turns blocks into events: the data of an event that
is a single `data` line is used as is, every other block is decoded by httpx-sse's `EventSource`.
What the data means is not decided here, except for errors, which are raised.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, Union, cast

from attrs import define, field, frozen

from cfai._session.body import StreamBody
from cfai._types.excerpts import format_count
from cfai._types.json import (
    NestedTooDeep,
    has_half_pair,
    loads,
    loads_plain,
    loads_together,
    loads_with_half_pairs,
)
from cfai._wire.errors import ERROR_KEYS, describe_decode_error, error_from_event
from cfai._wire.sse import EventSplitter
from cfai.errors import (
    AnswerTooLarge,
    CfaiError,
    ConnectionLost,
    DecodeError,
    ModelRetired,
    StatusError,
    StreamInterrupted,
)
from cfai.profiles import identify_retired_model

if TYPE_CHECKING:
    from httpx_sse import ServerSentEvent


DONE: Final = b"[DONE]"

Event = Union[bytes, "ServerSentEvent"]
"""The data of an event without a name and an id, or any other event."""


@frozen
class _DecodedText:
    """The part of an httpx response that `EventSource` uses: the Content-Type and the text."""

    text: str
    headers: ClassVar = {"content-type": "text/event-stream"}

    def iter_text(self) -> Iterator[str]:
        yield self.text


def _decode_block(text: str) -> list[ServerSentEvent]:
    from httpx_sse import EventSource

    return list(EventSource(cast("Any", _DecodedText(text))).iter_sse())


def decode_events(events: Sequence[Event]) -> list[Any]:
    """The JSON of several events; `None` for each that needs to be parsed by itself."""
    if len(events) == 1:
        return [_decode_plain(events[0])]
    texts: Any = events[:-1] if events[-1] == DONE else events
    try:
        documents = loads_together(texts)
    except TypeError:  # One of them is not bytes. To look at each takes longer.
        documents = None
    if documents is None:
        return [_decode_plain(event) for event in events]
    return documents if texts is events else [*documents, None]


def _decode_plain(event: Event) -> Any:
    if not isinstance(event, bytes):
        return None
    try:
        return loads_plain(event)
    except ValueError:
        return None


def _parse_data(event: Event) -> Any:
    """The JSON of an event; the text itself if an event named `error` has no JSON.

    Raises:
        ValueError: The data is not JSON.
    """
    if isinstance(event, bytes):
        return loads(event, allow_nan=True)
    try:
        return loads(event.data, allow_nan=True)
    except ValueError:
        if event.event == "error":
            return event.data
        raise


@define(eq=False, repr=False)
class EventReader:
    """The events of one body, which it owns: `take` an event, or `add` bytes of the body first."""

    body: StreamBody
    _blocks: EventSplitter = field(init=False)
    _ready: list[Event] = field(factory=list, init=False)
    """The events that came last."""
    _next: int = field(default=0, init=False)
    """The first of them that was not taken."""
    has_more: bool = field(default=False, init=False)
    """Whether there is an event to take. A field, because a property costs each token 500
    instructions."""
    count: int = field(default=0, init=False)
    """How many events were taken."""
    at_end: bool = field(default=False, init=False)
    """Whether the body was read to its end. Events may still be left to take."""
    has_half_pairs: bool = field(default=False, init=False)
    """Whether a parsed event had half of a surrogate pair."""
    ends_inside_event: bool = field(default=False, init=False)
    """Whether no blank line ended the last event of the body."""

    def __attrs_post_init__(self) -> None:
        self._blocks = EventSplitter(self.body.settings.max_event_bytes)

    @classmethod
    async def open(cls, body: StreamBody) -> Self:
        """Wait for the first event of *body*, and raise it if it is an error.

        Raises:
            StatusError: The first event is an error.
            StreamInterrupted: The body ended without any event.
        """
        reader = await cls.open_raw(body)
        if not reader._ready:
            if reader.bare_done:
                return reader
            raise StreamInterrupted("the stream ended before its first event")
        first = reader._ready[0]
        try:
            document = _parse_data(first)
        except ValueError:
            return reader  # It is `[DONE]`, or an event that `parse` fails on later.
        if error := reader._error_in(document, first):
            raise error
        return reader

    @classmethod
    async def open_raw(cls, body: StreamBody) -> Self:
        """Wait for the first event of *body*, or its end. The event is not interpreted."""
        reader = cls(body)
        while not (reader.has_more or reader.at_end):
            try:
                reader.add(await body.read_chunk())
            except ConnectionLost as exc:
                raise reader.complete_error(exc) from exc
        return reader

    @property
    def _left(self) -> int:
        """How many events were read, and not taken."""
        return len(self._ready) - self._next

    @property
    def bare_done(self) -> bool:
        """Whether a line `[DONE]` outside any event ended the stream."""
        return self._blocks.bare_done

    def take(self, limit: int = 1) -> list[Event]:
        """The next events that were read already, at most *limit*."""
        events = self._ready[self._next : self._next + limit]
        taken = len(events)
        self._next += taken
        self.count += taken
        self.has_more = self._next < len(self._ready)
        return events

    def put_back(self, count: int) -> None:
        """Undo the taking of the last *count* events."""
        self._next -= count
        self.count -= count
        self.has_more = self._next < len(self._ready)

    def add(self, chunk: bytes) -> None:
        """Keep the events that a chunk of the body completes; all others were taken.

        An empty one is the end of the body.

        Raises:
            AnswerTooLarge: One event is larger than the limit.
        """
        try:
            blocks = self._blocks.feed(chunk) if chunk else self._blocks.finish()
        except AnswerTooLarge as exc:
            exc.meta = self.body.meta
            raise
        if not chunk:
            self.at_end, self.ends_inside_event = True, bool(blocks)
        events: list[Any] = blocks
        if str in map(type, blocks):
            events = []
            for block in blocks:
                events += [block] if isinstance(block, bytes) else _decode_block(block)
        self._ready, self._next, self.has_more = events, 0, bool(events)

    def complete_error(self, error: CfaiError) -> CfaiError:
        """The error for the reader, for one of the body: a connection lost cuts the stream."""
        if not isinstance(error, ConnectionLost):
            return error
        count = self.count + self._left
        cut = StreamInterrupted(
            f"the stream was cut after {format_count(count, 'event')}: {error}", events=count
        )
        cut.__cause__ = error
        return cut

    def _error_in(self, document: Any, event: Event) -> StatusError | None:
        """The error that an event reports, if it reports one."""
        if type(event) is bytes and type(document) is dict and ERROR_KEYS.isdisjoint(document):
            return None
        named = not isinstance(event, bytes) and event.event == "error"
        error = error_from_event(document, is_named_error=named, meta=self.body.meta)
        if isinstance(error, ModelRetired) and self.body.meta.model is not None:
            identify_retired_model(error, self.body.meta.model)
        return error

    def parse(self, event: Event, number: int) -> Any:
        """The JSON of the event with a *number*, from 1.

        Raises:
            StatusError: The event reports an error.
            StreamInterrupted: The body ended inside the event.
            DecodeError: The data is not JSON.
        """
        try:
            document = loads_plain(event if isinstance(event, bytes) else event.data.encode())
        except ValueError:
            document = self._parse_unusual(event, number)
        if error := self._error_in(document, event):
            raise error
        return document

    def _parse_unusual(self, event: Event, number: int) -> Any:
        """The JSON of an event that may need repair, or be cut off."""
        try:
            document = _parse_data(event)
        except ValueError as exc:
            if self.ends_inside_event and number == self.count + self._left:
                message = f"the stream was cut inside event {number}"
                raise StreamInterrupted(message, events=number) from exc
            problem = str(exc) if isinstance(exc, NestedTooDeep) else "it is not JSON"
            raise DecodeError(f"event {number} of the stream can't be read: {problem}") from exc
        data = event if isinstance(event, bytes) else event.data
        self.has_half_pairs = self.has_half_pairs or has_half_pair(data)
        return document

    def parse_with_half_pairs(self, event: Event) -> Any:
        """The JSON of an event that was parsed, if it has halves of surrogate pairs; else `None`.

        `parse` has U+FFFD in their place.
        """
        data = event if isinstance(event, bytes) else event.data
        return loads_with_half_pairs(data) if has_half_pair(data) else None

    def add_context(self, error: DecodeError, event: Event) -> None:
        """Add the data of *event* and the facts of the exchange to *error*."""
        data = event if isinstance(event, bytes) else event.data.encode()
        describe_decode_error(error, data, self.body.meta)

    async def finish(self) -> None:
        """Drop what is left, and read to a near end so that the connection can be reused."""
        self._ready, self._next, self.has_more = [], 0, False
        await self.body.drain()


def as_server_sent_event(event: Event) -> ServerSentEvent:
    """The event as an object of httpx-sse."""
    if not isinstance(event, bytes):
        return event
    from httpx_sse import ServerSentEvent

    return ServerSentEvent(data=event.decode("utf-8", "replace"))
