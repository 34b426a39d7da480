"""`Socket`: an open WebSocket, with bounded buffers, pings, time limits and a close handshake.

The request that opens it is sent by `Session.call`, like any other. The framing is aiohttp's.
"""

import asyncio
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from copy import copy
from typing import Any, Final, NamedTuple, cast

import aiohttp
from aiohttp import WSMsgType
from yarl import URL

from cfai._session.connections import LoopSession
from cfai._session.errors import timeout_error
from cfai._session.timeouts import Deadline
from cfai.errors import AnswerTooLarge, ConnectionLost, DecodeError, Phase
from cfai.meta import Meta
from cfai.settings import Settings

_BUFFERED: Final = 2**20
"""Bytes of messages that wait for a slow reader. Then the socket is not read any more, so that the
other side has to wait. 1 MiB is 22 seconds of PCM at 24 kHz."""

_OVERHEAD: Final = 256
"""Bytes that a waiting message counts beside its own, so that empty ones count, too."""

_FRAME: Final = 2**16
"""The most bytes of one frame that is sent, so that a large sound fills no buffer at once."""

_LONGEST_PAUSE: Final = 20.0
"""Seconds without a message after which a ping is sent; but at least three in `Timeouts.idle`."""

CLOSE_SECONDS: Final = 1.0
"""How long to wait for the other side's close frame."""

NO_STATUS: Final = 1005
"""The code of a close frame without one (RFC 6455, section 7.4.1)."""


class _Refused(Exception):
    """The response to a handshake opened no socket."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        super().__init__()
        self.response = response


class _Handshake:
    """An aiohttp session for one WebSocket: it sends the request as `Session` sends any other.

    aiohttp alone would follow redirects, with the credentials, drop the body of a refusal, and send
    the request once more if the connection is lost.
    """

    def __init__(self, session: aiohttp.ClientSession, **options: Any) -> None:
        # A copy has all options of the session, which may be the user's, and the same connections.
        self._session = copy(session)
        self._session._retry_connection = False
        self._options = options

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    async def request(self, *args: Any, **options: Any) -> aiohttp.ClientResponse:
        response = await self._session.request(*args, **(options | self._options))
        if response.status != 101:
            raise _Refused(response)
        return response


async def shake_hands(
    session: aiohttp.ClientSession,
    url: URL,
    headers: Any,
    settings: Settings,
    time_limits: aiohttp.ClientTimeout,
) -> aiohttp.ClientResponse:
    """Send the request for a WebSocket; returns the response, also one that refuses it, unread.

    Of an accepted one, the additional attribute `websocket` is the socket.
    """
    handshake = _Handshake(
        session,
        allow_redirects=False,
        raise_for_status=False,
        read_until_eof=True,
        timeout=time_limits,
    )
    try:
        websocket = await type(session)._ws_connect(
            cast("aiohttp.ClientSession", handshake),
            url,
            headers=headers,
            proxy=settings.proxy,
            autoclose=False,
            autoping=False,
            max_msg_size=settings.max_event_bytes,
            timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
        )
    except _Refused as refused:
        return refused.response
    finally:
        handshake.detach()
    response: Any = websocket._response
    response.websocket = websocket
    return cast("aiohttp.ClientResponse", response)


class Closed(NamedTuple):
    """The close frame of the other side."""

    code: int
    reason: str

    def __str__(self) -> str:
        reason = f": {self.reason}" if self.reason else ""
        return f"code {'none' if self.code == NO_STATUS else self.code}{reason}"


Message = str | bytes


class Socket:
    """An open WebSocket. The holder closes it; without references to it, its task ends it.

    A task reads the messages into a bounded buffer, answers pings, and sends its own. If the buffer
    is full, it waits for the reader; if the other side does not read, `send` waits.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        loop: LoopSession,
        meta: Meta,
        settings: Settings,
        deadline: Deadline,
        _: bytes = b"",
    ) -> None:
        self.meta: Meta = meta
        self.settings: Settings = settings
        self.is_finishing: bool = False
        """Whether the end was requested, so that a close frame is the end and no cut."""
        self._response = response
        self._socket = cast("aiohttp.ClientWebSocketResponse", cast("Any", response).websocket)
        self._session = loop
        self._loop = asyncio.get_running_loop()
        self._messages: deque[Message] = deque()
        self._size = 0
        self._end: Closed | BaseException | None = None
        self._arrival: asyncio.Future[None] | None = None
        """What the reader waits for."""
        self._room: asyncio.Future[None] | None = None
        """What the task waits for if the buffer is full."""
        self._is_discarding = False
        self._is_open = True
        self._timer: asyncio.TimerHandle | None = None
        if deadline.seconds_left is not None:
            error = deadline.error()
            self._set_timer(deadline.seconds_left, self.fail, error)
        self._task = self._loop.create_task(self._read())

    # Messages

    async def send(self, message: Message) -> None:
        """Send a message. Waits while the buffers of the connection are full.

        Bytes are sent in frames of at most 64 KiB.

        Raises:
            CfaiError: The socket has ended: it was lost, closed by the other side, or by the user.
        """
        for frame in _split(message):
            self._check_open()
            try:
                if isinstance(frame, str):
                    await self._socket.send_str(frame)
                else:
                    await self._socket.send_bytes(frame)
            except (ConnectionError, aiohttp.ClientError):
                self._check_open()
                raise ConnectionLost("the connection was lost while something was sent") from None

    def _check_open(self) -> None:
        if isinstance(self._end, BaseException):
            raise self._end
        if self._end is not None:
            raise ConnectionLost(f"the service had closed the session ({self._end})")

    async def receive(self) -> Message | Closed:
        """The next message; after the last one, the close frame.

        Raises:
            ConnectionLost: The connection ended without a close frame.
            RequestTimeout: A time limit was exceeded.
            AnswerTooLarge: A message is larger than `max_event_bytes`.
            DecodeError: The frames are invalid.
        """
        while not self._messages:
            if isinstance(self._end, BaseException):
                raise self._end
            if self._end is not None:
                return self._end
            self._arrival = self._loop.create_future()
            try:
                await self._arrival
            finally:
                self._arrival = None
        message = self._messages.popleft()
        self._size -= len(message) + _OVERHEAD
        if self._size < _BUFFERED:
            _wake(self._room)
        return message

    # The task

    async def _read(self) -> None:
        try:
            while not isinstance(message := await self._next_message(), Closed):
                if not self._is_discarding:
                    await self._keep(message)
            self._finish(message)
            # Whoever still sends would wait for a side that does not read any more.
            self._set_timer(CLOSE_SECONDS, self._drop)
        except Exception as exc:
            self.fail(exc)  # Drops the connection, so that a sender that waits for it gets this.

    async def _keep(self, message: Message) -> None:
        """Keep a message for the reader; waits for room."""
        self._messages.append(message)
        self._size += len(message) + _OVERHEAD
        _wake(self._arrival)
        while self._size >= _BUFFERED and not self._is_discarding:
            self._room = self._loop.create_future()
            try:
                await self._room
            finally:
                self._room = None

    async def _next_message(self) -> Message | Closed:
        began = since = self._loop.time()
        pause = self._ping_pause()
        next_ping = since + pause
        while True:
            due, phase, seconds = min(self._expiries(began, since))
            now = self._loop.time()
            if now >= due:
                raise timeout_error(phase, seconds)
            if now >= next_ping:
                await self._control(self._socket.ping(), due - now)
                next_ping = now + pause
            try:
                message = await self._socket.receive(max(min(due, next_ping) - now, 0.001))
            except TimeoutError:
                continue
            since = self._loop.time()
            match message.type:
                case WSMsgType.TEXT:
                    return cast("str", message.data)
                case WSMsgType.BINARY:
                    return bytes(message.data)
                case WSMsgType.PING:
                    await self._control(self._socket.pong(message.data), due - now)
                case WSMsgType.CLOSE:
                    return await self._answer_close(message)
                case WSMsgType.PONG:
                    pass
                case _:
                    raise self._describe_loss(message)

    def _ping_pause(self) -> float:
        idle = self.settings.timeouts.idle
        return _LONGEST_PAUSE if idle is None else min(_LONGEST_PAUSE, idle / 3)

    def _expiries(self, began: float, since: float) -> Iterator[tuple[float, Phase, float]]:
        """When each limit expires: its phase, and its seconds. The total limit has a timer."""
        limits = self.settings.timeouts
        yield float("inf"), "total", 0.0
        if limits.idle is not None:
            yield since + limits.idle, "idle", limits.idle
        if limits.content is not None:
            yield began + limits.content, "content", limits.content

    async def _control(self, sending: Awaitable[None], seconds: float) -> None:
        """Send a control frame, but don't wait longer than the time limit of the session."""
        try:
            async with asyncio.timeout(seconds):
                await sending
        except TimeoutError:
            pass  # The other side does not read: `_next_message` raises the error of the limit.
        except (ConnectionError, aiohttp.ClientError):
            pass  # The connection was lost: the next look at it says so.

    async def _answer_close(self, message: aiohttp.WSMessage) -> Closed:
        closed = Closed(message.data or NO_STATUS, message.extra or "")
        if not self._is_discarding:
            await self._send_close(1000 if closed.code == NO_STATUS else closed.code)
        return closed

    async def _send_close(self, code: int) -> None:
        frame = self._socket.send_frame(struct.pack("!H", code), WSMsgType.CLOSE)
        await self._control(frame, CLOSE_SECONDS)

    def _describe_loss(self, message: aiohttp.WSMessage) -> Exception:
        """The error for a socket that ended without a close frame."""
        if self._session.was_closed:
            return ConnectionLost("the client was closed")
        exc = message.data
        if isinstance(exc, aiohttp.WebSocketError):
            if exc.code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG:
                limit = self.settings.max_event_bytes
                problem = f"a message is larger than max_event_bytes ({limit} bytes)"
                return AnswerTooLarge(problem, limit=limit, meta=self.meta)
            return DecodeError(f"the frames are not valid (code {exc.code})", meta=self.meta)
        return ConnectionLost("the connection was lost without a close frame")

    # The end

    def _set_timer(self, seconds: float, action: Callable[..., None], *args: Any) -> None:
        """Call *action* later, instead of what was to be called before."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, action, *args)

    def fail(self, error: BaseException) -> None:
        """End the session because of *error*: it is raised after the messages that have arrived."""
        self._finish(error)
        self._drop()

    def _finish(self, end: Closed | BaseException) -> None:
        if self._end is None:
            self._end = end
        _wake(self._arrival)

    async def aclose(self) -> None:
        """Close with a close frame, and wait a moment for that of the other side."""
        try:
            if self._is_open and self._end is None:
                self._is_discarding = True
                _wake(self._room)
                await self._send_close(1000)
                await asyncio.wait({self._task}, timeout=CLOSE_SECONDS)
        finally:
            self.close()
        # The task was interrupted, and ends in its next turn.
        await asyncio.wait({self._task})

    def close(self) -> None:
        """Drop the connection at once. Safe to repeat."""
        self._finish(ConnectionLost("the session was closed"))
        self._drop()

    def _drop(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        if self._timer is not None:
            self._timer.cancel()
        if self._loop.is_closed():
            return  # `LoopSession` closes the connections of such a loop.
        self._task.cancel()
        connection = self._response.connection
        if connection is not None and connection.transport is not None:
            # Closing would first wait until the other side has read everything.
            connection.transport.abort()
        self._response.close()
        self._session.release(self._response)


def _split(message: Message) -> Iterator[Message]:
    if isinstance(message, str):
        yield message
        return
    view = memoryview(message)
    for start in range(0, len(message), _FRAME):
        yield message if len(message) <= _FRAME else bytes(view[start : start + _FRAME])


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
