"""`SocketStream`: what a session that listens and one that speaks have in common.

It opens once and ends once, as every `AnswerStream`; but messages go both ways, and reading one can
be cancelled without ending the session.
"""

from __future__ import annotations

import asyncio
import sys
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Self

from attrs import define, field

from cfai._session.body import StreamBody
from cfai._session.connections import call_in_loop
from cfai._session.redaction import redact_error
from cfai._session.sockets import NO_STATUS, Closed, Socket
from cfai._session.unexpected import reject_stream
from cfai._types.excerpts import format_count
from cfai.errors import CfaiError, ConnectionLost, InputError, StreamInterrupted
from cfai.meta import Meta
from cfai.streaming.answer_stream import AnswerStream
from cfai.tasks.listening import SpeechEvent

_ORDERLY = (1000, 1001, NO_STATUS)
"""The codes of a close frame that ends a session as requested (RFC 6455, section 7.4.1)."""


async def accept_socket(source: Socket | StreamBody) -> Socket:
    """Check that the handshake opened a socket.

    Raises:
        StatusError: It opened a stream of events with an error in it.
        DecodeError: It opened another one.
    """
    if isinstance(source, StreamBody):
        await reject_stream(source, "expected a WebSocket, got a stream of events")
    return source


@define(eq=False, repr=False)
class SocketStream(AnswerStream[Socket]):
    """A session over a WebSocket."""

    _socket: Socket | None = field(default=None, init=False)
    """`None` before it is opened, and after it has ended."""
    _meta: Meta | None = field(default=None, init=False)
    _events: deque[SpeechEvent] = field(factory=deque, init=False, repr=False)
    """What arrived and was not delivered yet."""
    _opening: asyncio.Task[None] | None = field(default=None, init=False)
    """Opens the session. A task of its own, so that a reader can be cancelled meanwhile."""
    _reading: asyncio.Lock = field(factory=asyncio.Lock, init=False)
    """Held by the task that opens the session, or waits for a message."""
    received: int = field(default=0, init=False)
    """How many messages arrived."""

    # Told by the subclasses

    @abstractmethod
    def _read_message(self, message: str | bytes) -> None:
        """Read a message, and put what the reader gets of it into `_events`."""

    # What kind of stream it is

    def _accept(self, source: Socket) -> None:
        self._socket, self._meta = source, source.meta

    @property
    def _began(self) -> bool:
        return self._meta is not None

    def _read_cost(self) -> float | None:
        return self.meta.neurons

    def _closed_error(self) -> CfaiError:
        return StreamInterrupted("the session was closed before its end")

    def _complete_error(self, error: CfaiError) -> None:
        if isinstance(error, StreamInterrupted):
            error.answer, error.events = self._partial_answer, self.received

    @property
    def meta(self) -> Meta:
        """The facts of the exchange, once the session is open."""
        return self._meta or Meta()

    # Messages

    async def _next_event(self) -> SpeechEvent | None:
        """The next event; `None` at the end. Whoever waits longest gets it."""
        while not self._events:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                return None
            await self._receive()
        return self._events.popleft()

    async def _receive(self) -> None:
        """Wait for one message, unless another task got one meanwhile."""
        count = self.received
        async with self._reading:
            if self.received != count:
                return
            await self._open_once()
            if (socket := self._socket) is None:
                return
            error: BaseException | None = None
            try:
                message = await socket.receive()
                if self._ended:
                    return  # Another task closed it meanwhile.
                error = self._take_message(message, socket)
            except asyncio.CancelledError:
                raise  # The session goes on.
            except ConnectionLost as exc:
                error = StreamInterrupted(f"{exc}, after {format_count(self.received, 'message')}")
            except BaseException as exc:
                error = exc
            if error is not None:
                # Raised here, so that it does not refer to the one that led to it.
                self._stop(error)
                raise self._failure if isinstance(error, CfaiError) and self._failure else error

    async def open(self) -> Self:
        """Open the session: entering, reading and sending do the same. Cancelling ends it."""
        try:
            await self._open_once()
        except asyncio.CancelledError as exc:
            self._stop(exc)
            raise
        return self

    async def _open_once(self) -> None:
        """Wait until the session is open. Cancelling leaves the handshake running."""
        if self._opening is None:
            if self._ended:
                return
            self._opening = asyncio.get_running_loop().create_task(self._shake_hands())
            # An error that nobody waits for any more is raised by the next read.
            self._opening.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._opening)

    async def _shake_hands(self) -> None:
        await super().open()  # Its result, the session, must not be the task's, which it refers to.

    def _take_message(self, message: str | bytes | Closed, socket: Socket) -> CfaiError | None:
        """Read what was received; returns the error if it ends the session too early."""
        if not isinstance(message, Closed):
            self.received += 1
            self._read_message(message)
        elif socket.is_finishing and message.code in _ORDERLY:
            self._end()
        else:
            problem = f"the service closed the session with {message}"
            return StreamInterrupted(f"{problem}, after {format_count(self.received, 'message')}")
        return None

    def _end(self) -> None:
        """End the session, which is complete."""
        socket, self._socket = self._socket, None
        self._ended = True
        if socket is not None:
            socket.close()
        self._report_end(complete=True)

    async def _send(self, message: str | bytes) -> None:
        """Send a message; opens the session if that was not done yet."""
        if self._socket is None and not self._ended:
            async with self._reading:
                await self._open_once()
        if self._failure is not None:
            raise self._failure
        if self._socket is None:
            raise InputError("the session is over: nothing can be sent")
        try:
            await self._socket.send(message)
            return
        except ConnectionLost as exc:
            error = StreamInterrupted(str(exc))
        # What had arrived can still be read, and then the reason.
        if self._failure is not None:
            raise self._failure
        self._complete_error(error)
        if self._socket is not None:
            redact_error(error, self._socket.settings.secrets)
        raise error

    # The end

    def _stop(self, exc: BaseException | None) -> None:
        socket, self._socket = self._socket, None
        if socket is not None and isinstance(exc, CfaiError):
            redact_error(exc, socket.settings.secrets)
        super()._stop(exc)
        if socket is not None:
            socket.close()

    async def __aexit__(self, *exc_info: object) -> None:
        if exc_info[0] is None:
            await self.aclose()
        else:
            self._stop(None)

    async def aclose(self) -> None:
        """Close the session, with a close frame if it is open. Closing twice is fine."""
        socket, self._socket = self._socket, None
        self._stop(None)
        if socket is not None:
            await socket.aclose()
        elif self._opening is not None:
            await asyncio.wait({self._opening})

    close = aclose

    def __del__(self, is_exiting: Callable[[], bool] = sys.is_finalizing) -> None:
        if is_exiting():  # The modules that closing needs may be gone.
            return
        super().__del__()
        opening = getattr(self, "_opening", None)  # The constructor may have raised.
        if opening is not None:
            call_in_loop(opening.get_loop(), self._abandon)

    def _abandon(self) -> None:
        """Let go of the connection, because nobody refers to the session any more."""
        if self._socket is not None:
            self._socket.close()

    def __repr__(self) -> str:
        state = "over" if self._ended else "open" if self._began else "new"
        return f"<{type(self).__name__} {state}, {format_count(self.received, 'message')}>"
