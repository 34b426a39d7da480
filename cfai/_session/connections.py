"""Connections: one aiohttp session per event loop, and slots for the requests in flight on it."""

from __future__ import annotations

import asyncio
import os
import re
import warnings
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress
from ssl import SSLContext
from threading import Lock
from types import AsyncGeneratorType
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, cast
from weakref import finalize, ref

import aiohttp
from aiohttp.client_proto import ResponseHandler
from multidict import CIMultiDict

from cfai._session.errors import ReusedConnectionLost
from cfai._session.pool import LONGEST_LINE, Connector
from cfai._session.timeouts import OpenCall, SharedTimer
from cfai._types.excerpts import format_value
from cfai._validators import check_at_least, is_header_name
from cfai.errors import ConfigError, InputError

if TYPE_CHECKING:
    from yarl import URL

    from cfai._session.limits import Concurrency
    from cfai._session.throttle import Throttle, Throttles


class _Process:
    """The id of this process. It is looked up after a fork only: each time is a system call."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._update)

    def _update(self) -> None:
        self.pid = os.getpid()


_process: Final = _Process()

_throttles_lock: Final = Lock()
"""Of the attribute `Connections._throttles`: two event loops may begin their first job at once."""


class Connections:
    """One aiohttp session per event loop, created on first use and closed with its loop.

    A copy by `deepcopy` has the same limits and no connections yet.
    """

    def __init__(
        self,
        *,
        limit: int,
        session: aiohttp.ClientSession | None,
        ssl: SSLContext | None = None,
        concurrency: Concurrency = None,
    ) -> None:
        check_at_least("limit", limit, 1)
        _check_session(session, ssl)
        self.limit = limit
        self._concurrency = concurrency
        self._throttles: Throttles | None = None
        if concurrency is not None:
            self._throttles = self._create_throttles()
        self._user_session = session
        self._ssl = ssl
        self._was_forked = False
        self.closed: bool = False
        self._start()

    def _start(self) -> None:
        """Begin without sessions, and close those to come if nobody else does."""
        self._pid = _process.pid
        self._loops: dict[asyncio.AbstractEventLoop, LoopSession] = {}
        self._finalizer = finalize(self, _close_forgotten, self._loops, self._pid, ref(self))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)(
            limit=self.limit,
            session=self._user_session,
            ssl=self._ssl,
            concurrency=self._concurrency,
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError("connections can't be pickled: create a client in the other process")

    @property
    def throttles(self) -> Throttles:
        """The throttles of all calls and jobs. Without a limit, the first job creates them."""
        with _throttles_lock:
            if self._throttles is None:
                self._throttles = self._create_throttles()
            return self._throttles

    def _create_throttles(self) -> Throttles:
        # What throttles need is imported by the first client that has some.
        from cfai._session.throttle import Throttles

        return Throttles(self._concurrency, self.limit)

    def throttle_for_call(self, model: str) -> Throttle | None:
        """The throttle of a single call of *model*, if one is needed."""
        throttles = self._throttles
        return None if throttles is None else throttles.for_call(model)

    def for_running_loop(self) -> LoopSession:
        """The session and the slots of the running event loop.

        Raises:
            ConfigError: The client is closed, or the session that the user passed is not usable
                here.
        """
        return self.for_loop(asyncio.get_running_loop())

    def for_loop(self, loop: asyncio.AbstractEventLoop) -> LoopSession:
        """The same, for a caller who knows the running loop: to ask for it is a system call."""
        if self.closed:
            raise ConfigError("the client is closed")
        if self._pid != _process.pid:
            self._leave_to_parent()
        loop_session = self._loops.get(loop)
        if loop_session is None or loop_session.session.closed:
            loop_session = self._add(loop)
        return loop_session

    def _add(self, loop: asyncio.AbstractEventLoop) -> LoopSession:
        session, connector = self._user_session, None
        if session is None:
            # `LoopSession.slots` is the limit; the connector needs none of its own.
            connector = Connector(limit=0, ssl=self._ssl or True)
            session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                max_line_size=LONGEST_LINE,
                max_field_size=LONGEST_LINE,
            )
        elif session.closed:
            raise ConfigError("the session that was passed is closed")
        elif self._was_forked or any(other is not loop for other in list(self._loops)):
            raise ConfigError(
                "the session that was passed belongs to another event loop or process:"
                " omit `session`, so that each loop gets its own"
            )
        loop_session = LoopSession(session, connector, self.limit)
        # Other threads may use the dictionary at the same time, so it is changed item by item.
        for other in [other for other in list(self._loops) if other.is_closed()]:
            if (unused := self._loops.pop(other, None)) is not None:
                unused.close_outside_loop()
        self._loops[loop] = loop_session
        if self._user_session is None:
            loop_session.close_with_loop()
        return loop_session

    def _leave_to_parent(self) -> None:
        """After a fork, forget the sessions: their sockets belong to the parent process."""
        _inherited.append(self._loops)
        self._finalizer.detach()
        self._was_forked = True
        self._start()

    def open_call(self) -> OpenCall:
        """A context manager that ends with a `ConfigError` as soon as the client is closed.

        Raises:
            ConfigError: The client is closed already; see `for_running_loop`.
        """
        return OpenCall(self.for_running_loop().timer)

    async def sleep(self, seconds: float) -> None:
        """Sleep, but not longer than the client is open.

        Raises:
            ConfigError: The client was closed.
        """
        with self.open_call():
            await asyncio.sleep(seconds)

    async def aclose(self) -> None:
        """End all calls, and close all connections except those of the user's own session."""
        self.closed = True
        if self._pid != _process.pid:
            self._leave_to_parent()
        for loop, loop_session in list(self._loops.items()):
            if loop is asyncio.get_running_loop():
                await loop_session.aclose()
            elif loop.is_running():
                asyncio.run_coroutine_threadsafe(loop_session.aclose(), loop)
            else:
                loop_session.close_outside_loop()
            self._loops.pop(loop, None)


_inherited: list[object] = []
"""The sessions of clients that a fork copied. Deleting their sockets would remove them from the
poll set that is shared with the parent process."""


def _close_forgotten(
    loops: dict[asyncio.AbstractEventLoop, LoopSession],
    pid: int,
    connections: ref[Connections],
) -> None:
    """Close the sessions of a client that is deleted, or exists when the interpreter exits."""
    if pid != _process.pid:
        _inherited.append(loops)
        return
    was_deleted = connections() is None
    was_forgotten = False
    for loop, loop_session in list(loops.items()):
        was_forgotten |= loop_session.is_open and not loop.is_closed()
        # Without references, a session is closed by its running loop; see `close_with_loop`.
        if not loop.is_running():
            loop_session.close_outside_loop()
    if was_deleted:
        loops.clear()
        if was_forgotten:
            message = "a client of cfai was never closed: use `async with`, or await its `aclose()`"
            warnings.warn(message, ResourceWarning, stacklevel=2)


class Slots:
    """Limits the requests in flight; who finds no slot waits, first come, first served.

    An `asyncio.Semaphore` does the same for 2 µs more per call: it looks through its waiters twice.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Take a slot if one is free. None is while somebody waits."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def wait(self) -> None:
        """Take the slot of a request that ends."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # The slot came at the moment of the cancellation.
                self.release()
            raise

    def release(self) -> None:
        """Hand a slot to whoever has waited longest, or put it back."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # It was not cancelled.
                turn.set_result(None)
                return
        self._free += 1


class LoopSession:
    """The aiohttp session of one event loop, with its slots, its timer and its open responses."""

    def __init__(
        self, session: aiohttp.ClientSession, connector: Connector | None, limit: int
    ) -> None:
        self.session = session
        self._connector = connector
        """The session's, unless the session is the user's."""
        self.slots: Slots = Slots(limit)
        self.timer: SharedTimer = SharedTimer()
        self.was_closed: bool = False
        """Whether the client was closed."""
        self._last_headers: tuple[Mapping[str, str], CIMultiDict[str]] = {}, CIMultiDict()
        self._open: set[aiohttp.ClientResponse] = set()
        self._closer: AsyncGeneratorType[None, None] | None = None
        self._finalizer: finalize[Any, Any] | None = None

    def headers(self, headers: Mapping[str, str]) -> CIMultiDict[str]:
        """*headers* in the form that aiohttp keeps them in. Most calls have the very same."""
        if headers is not self._last_headers[0]:
            self._last_headers = headers, CIMultiDict(headers)
        return self._last_headers[1]

    def track(self, response: aiohttp.ClientResponse) -> None:
        """Close *response* together with the session, until it is released."""
        self._open.add(response)

    def release(self, response: aiohttp.ClientResponse | None) -> None:
        """Free the slot of a request that is done or was abandoned."""
        if response is not None:
            self._open.discard(response)
        self.slots.release()

    @property
    def owns_session(self) -> bool:
        """Whether the session is the client's, not the user's."""
        return self._connector is not None

    async def watch_reuse(
        self, url: URL, request: Awaitable[aiohttp.ClientResponse]
    ) -> aiohttp.ClientResponse:
        """Await a request to *url* on the user's session, whose connector is not ours.

        Idle connections on which bytes arrived that nobody requested are closed first.

        Raises:
            ReusedConnectionLost: The request was lost without an answer, and there were idle
                connections, of which it probably used one. They are closed now.
        """
        has_idle = False
        for protocol in self._users_idle(url):
            if protocol.should_close:
                protocol.close()
            else:
                has_idle = True
        try:
            return await request
        except aiohttp.ClientConnectorError:
            raise
        except (
            aiohttp.ClientOSError,
            aiohttp.ServerDisconnectedError,
            aiohttp.ClientConnectionResetError,
        ) as exc:
            if not has_idle:
                raise
            for protocol in self._users_idle(url):
                protocol.close()
            raise ReusedConnectionLost from exc

    def _users_idle(self, url: URL) -> list[ResponseHandler]:
        """The idle connections of the user's session to the host of *url*."""
        connector = self.session.connector
        return [
            protocol
            for key, connections in (connector._conns.items() if connector is not None else ())
            if key.host == url.raw_host and key.port == url.port
            for protocol, _ in connections
            if protocol.is_connected()
        ]

    def close_idle(self) -> None:
        """Open a new connection for the next request: one of the client's idle ones was dead."""
        if self._connector is not None:
            self._connector.close_idle()

    def close_with_loop(self) -> None:
        """Close the session when its event loop shuts down.

        A loop finishes its open async generators before it closes (`shutdown_asyncgens`). A
        suspended generator therefore closes the session in time, and needs no task until then.
        """
        closer = _close_at_exit(self.session, self._open)
        self._closer = cast("AsyncGeneratorType[None, None]", closer)
        # It runs to its `yield` without waiting for anything, so that no task is needed here.
        with suppress(StopIteration):
            self._closer.asend(None).send(None)
        # Without references, the loop would close the generator in a task, which is lost if the
        # loop stops first. The finalizer has references to all that it closes: in a cycle that is
        # deleted, aiohttp's session could go first, and would log "Unclosed client session".
        self._finalizer = finalize(
            self,
            _close_unreferenced,
            *(self.timer, self.session, self._connector, self._open, self._closer),
        )
        self._finalizer.atexit = False  # At exit, `Connections` closes it.

    @property
    def is_open(self) -> bool:
        """Whether there is a session to close. The user's is not ours to close."""
        return self._closer is not None and not self.session.closed

    def close_outside_loop(self) -> None:
        """Close the session without waiting. Its loop does not run, and perhaps never will."""
        self.timer.stop()
        if self._finalizer is not None:
            self._finalizer()

    async def aclose(self) -> None:
        """End the calls, and close the responses and the session, unless it is the user's."""
        self.was_closed = True
        for call in list(self.timer.calls):
            call.close()
        _close_responses(self._open)
        self.timer.stop()
        if self._closer is not None:
            await self._closer.aclose()


async def _close_at_exit(
    session: aiohttp.ClientSession, responses: set[aiohttp.ClientResponse]
) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        _close_responses(responses)
        await session.close()


def call_in_loop(
    loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: Any
) -> None:
    """Call *function* at once, unless *loop* runs in another thread: then the loop calls it.

    Objects that close themselves may be deleted in any thread, by the garbage collector.
    """
    if not loop.is_running() or asyncio._get_running_loop() is loop:
        function(*args)
        return
    with suppress(RuntimeError):  # The loop has been closed since.
        loop.call_soon_threadsafe(function, *args)


def _close_unreferenced(timer: SharedTimer, *parts: Any) -> None:
    """Close a session that nobody uses."""
    call_in_loop(timer.loop, _close_at_once, timer, *parts)


def _close_at_once(
    timer: SharedTimer,
    session: aiohttp.ClientSession,
    connector: Connector,
    responses: set[aiohttp.ClientResponse],
    closer: AsyncGeneratorType[None, None],
) -> None:
    """Close a session without waiting."""
    timer.stop()
    if session.closed or closer.ag_running:  # The loop closes it, or began to before it stopped.
        return
    if not timer.loop.is_closed():
        _close_responses(responses)
        connector.close_idle()
        session.detach()
    # With a closed loop or a detached session, there is nothing to wait for.
    with suppress(StopIteration):
        closer.aclose().send(None)
    for response in responses:  # aiohttp keeps their connections if the loop is closed.
        if response.connection is not None:
            response.connection.close()


def _close_responses(responses: set[aiohttp.ClientResponse]) -> None:
    # If only the session were closed, tasks that read from a response would wait forever.
    for response in list(responses):
        with suppress(RuntimeError):  # The event loop is closed, and whoever waits on it is lost.
            response.close()


_NOT_IN_HEADERS: Final = r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]"


def _check_session(session: aiohttp.ClientSession | None, ssl: SSLContext | None) -> None:
    if ssl is not None and not isinstance(ssl, SSLContext):
        raise InputError(f"ssl must be an ssl.SSLContext, got {format_value(ssl)}")
    if session is None:
        return
    if not isinstance(session, aiohttp.ClientSession):
        raise InputError(f"session must be an aiohttp.ClientSession, got {format_value(session)}")
    if ssl is not None:
        raise InputError(
            "ssl must not be passed with a session: give it to the session's connector"
        )
    if session.auth is not None:
        raise InputError(
            "the session that was passed must not have auth of its own, because requests have the"
            " credentials of the client: create it without `auth`"
        )
    headers: Mapping[str, object] = session.headers
    for name, value in headers.items():
        is_text = isinstance(value, str) and not re.search(_NOT_IN_HEADERS, value)
        if not is_text or not is_header_name(name):
            # The value may be a secret, so the message does not show it.
            raise InputError(
                "the session that was passed must have headers of one line of text without control"
                f" characters, and {format_value(name)} is not such a header"
            )
