"""Connections: one aiohttp session per event loop, and slots for the requests in flight on it."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import suppress

import aiohttp

from cfai._session.limits import Concurrency
from cfai._session.pool import Connector
from cfai._session.throttle import Throttle, Throttles
from cfai._session.timeouts import SharedTimer
from cfai._validators import check_at_least
from cfai.errors import ConfigError


class Connections:
    """One aiohttp session per event loop, created on first use and closed with its loop."""

    def __init__(
        self, *, limit: int, session: aiohttp.ClientSession | None, concurrency: Concurrency = None
    ) -> None:
        check_at_least("limit", limit, 1)
        self.limit = limit
        self.throttles: Throttles = Throttles(concurrency, limit)
        self._user_session = session
        self._pid = os.getpid()
        self._loops: dict[asyncio.AbstractEventLoop, LoopSession] = {}
        self._inherited: list[object] = []
        self.closed: bool = False

    def throttle_for_call(self, model: str) -> Throttle | None:
        """The throttle of a single call of *model*, if one is needed."""
        return self.throttles.for_call(model) if self.throttles.in_use else None

    def for_running_loop(self) -> "LoopSession":
        """The session and the slots of the running event loop.

        Raises:
            ConfigError: The client is closed, or the session that the user passed is not usable
                here.
        """
        if self.closed:
            raise ConfigError("the client is closed")
        if self._pid != os.getpid():
            self._leave_to_parent()
        loop = asyncio.get_running_loop()
        loop_session = self._loops.get(loop)
        if loop_session is None or loop_session.session.closed:
            loop_session = self._add(loop)
        return loop_session

    def _add(self, loop: asyncio.AbstractEventLoop) -> "LoopSession":
        session, connector = self._user_session, None
        if session is None:
            # `LoopSession.slots` is the limit; the connector needs none of its own.
            connector = Connector(limit=0)
            session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar()
            )
        elif session.closed:
            raise ConfigError("the session that was passed is closed")
        elif self._inherited or any(other is not loop for other in list(self._loops)):
            raise ConfigError(
                "the session that was passed belongs to another event loop or process:"
                " omit `session`, so that each loop gets its own"
            )
        loop_session = LoopSession(session, connector, self.limit)
        # Other threads may use the dictionary at the same time, so it is changed item by item.
        for other in [other for other in list(self._loops) if other.is_closed()]:
            self._loops.pop(other, None)
        self._loops[loop] = loop_session
        if self._user_session is None:
            loop_session.close_with_loop()
        return loop_session

    def _leave_to_parent(self) -> None:
        """After a fork, forget the sessions: their sockets belong to the parent process."""
        # References stay: deleting the sockets would remove them from the poll set shared with the
        # parent.
        self._inherited.append(self._loops)
        self._pid, self._loops = os.getpid(), {}

    async def aclose(self) -> None:
        """Close all connections, except those of a session that the user passed."""
        self.closed = True
        if self._pid != os.getpid():
            self._leave_to_parent()
        for loop, loop_session in list(self._loops.items()):
            if loop is asyncio.get_running_loop():
                await loop_session.aclose()
            elif loop.is_running():
                asyncio.run_coroutine_threadsafe(loop_session.aclose(), loop)
            else:
                continue  # The session is closed when its loop shuts down.
            self._loops.pop(loop, None)


class LoopSession:
    """The aiohttp session of one event loop, with its slots, its timer and its open responses."""

    def __init__(
        self, session: aiohttp.ClientSession, connector: Connector | None, limit: int
    ) -> None:
        self.session = session
        self._connector = connector
        """The session's, unless the session is the user's."""
        self.slots: asyncio.Semaphore = asyncio.Semaphore(limit)
        self.timer: SharedTimer = SharedTimer()
        self._open: set[aiohttp.ClientResponse] = set()
        self._closer: AsyncGenerator[None, None] | None = None

    def track(self, response: aiohttp.ClientResponse) -> None:
        """Close *response* together with the session, until it is released."""
        self._open.add(response)

    def release(self, response: aiohttp.ClientResponse | None) -> None:
        """Free the slot of a request that is done or was abandoned."""
        if response is not None:
            self._open.discard(response)
        self.slots.release()

    def distrust_idle(self) -> None:
        """Open a new connection for the next request: one of the idle ones was dead."""
        if self._connector is not None:
            self._connector.distrust_idle()

    def close_with_loop(self) -> None:
        """Close the session when its event loop shuts down.

        A loop finishes its open async generators before it closes (`shutdown_asyncgens`). A
        suspended generator therefore closes the session in time, and needs no task until then.
        """
        self._closer = _close_at_exit(self.session, self._open)
        # It runs to its `yield` without waiting for anything, so that no task is needed here.
        with suppress(StopIteration):
            self._closer.asend(None).send(None)

    async def aclose(self) -> None:
        """Close the responses, and the session unless it is the user's."""
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


def _close_responses(responses: set[aiohttp.ClientResponse]) -> None:
    # If only the session were closed, tasks that read from a response would wait forever.
    for response in list(responses):
        response.close()
