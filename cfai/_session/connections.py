"""One aiohttp session per running event loop, and slots for what is under way on it."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import suppress

import aiohttp

from cfai._session.limits import Concurrency
from cfai._session.throttle import Throttles
from cfai._session.timeouts import SharedTimer
from cfai.errors import ConfigError


class Connections:
    """One aiohttp session per running event loop, made when first needed, closed with its loop."""

    def __init__(
        self,
        *,
        limit: int,
        session: aiohttp.ClientSession | None,
        concurrency: Concurrency = None,
    ) -> None:
        self.limit = limit
        self.throttles: Throttles = Throttles(concurrency, limit)
        self._given = session
        self._pid = os.getpid()
        self._loops: dict[asyncio.AbstractEventLoop, LoopSession] = {}
        self._inherited: list[object] = []
        self.closed: bool = False

    def here(self) -> "LoopSession":
        """The session and the slots of the running loop.

        Raises:
            ConfigError: This client is closed, or the session that was given can't be used here.
        """
        if self.closed:
            raise ConfigError("this client is closed: make a new one, or close it later")
        if self._pid != os.getpid():
            self._leave_to_parent()
        loop = asyncio.get_running_loop()
        known = self._loops.get(loop)
        if known is None or known.session.closed:
            known = LoopSession(
                self._made() if self._given is None else self._usable(loop), self.limit
            )
            # Other threads may be here, too, so the dictionary is changed entry by entry.
            for one in [one for one in list(self._loops) if one.is_closed()]:
                self._loops.pop(one, None)
            self._loops[loop] = known
            if self._given is None:
                known.watch()
        return known

    def _leave_to_parent(self) -> None:
        """After a fork, the sockets are the parent's, to use and to close."""
        # They are kept: to drop them would take them out of the poll set that both processes share.
        self._inherited.append(self._loops)
        self._pid, self._loops = os.getpid(), {}

    def _usable(self, loop: asyncio.AbstractEventLoop) -> aiohttp.ClientSession:
        """The session that was given, if it is open and this loop's."""
        if self._given is None or self._given.closed:
            raise ConfigError("the session that was passed is closed")
        if self._inherited or any(one is not loop for one in list(self._loops)):
            raise ConfigError(
                "the session that was passed belongs to one event loop of one process, and not to"
                " this one: leave `session` out, and each gets one of its own"
            )
        return self._given

    def _made(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            # The slots of `LoopSession` are the limit; the connector needs none of its own.
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def aclose(self) -> None:
        """Close the connections that were made here; those of a session that was given stay."""
        self.closed = True
        if self._pid != os.getpid():
            self._leave_to_parent()
        for loop, known in list(self._loops.items()):
            if loop is asyncio.get_running_loop():
                await known.aclose()
            elif loop.is_running():
                asyncio.run_coroutine_threadsafe(known.aclose(), loop)
            else:
                continue  # It closes them itself when it shuts down.
            self._loops.pop(loop, None)


class LoopSession:
    """What one event loop has of a client: an aiohttp session, slots, and what is under way."""

    def __init__(self, session: aiohttp.ClientSession, limit: int) -> None:
        self.session = session
        self.slots: asyncio.Semaphore = asyncio.Semaphore(limit)
        self.timer: SharedTimer = SharedTimer()
        self._open: set[aiohttp.ClientResponse] = set()
        self._watch: AsyncGenerator[None, None] | None = None

    def began(self, response: aiohttp.ClientResponse) -> None:
        """An answer is being read: it is closed together with the session."""
        self._open.add(response)

    def ended(self, response: aiohttp.ClientResponse | None) -> None:
        """A request is through, or its answer was left: its slot is free."""
        if response is not None:
            self._open.discard(response)
        self.slots.release()

    def watch(self) -> None:
        """Have the session closed when its loop shuts down.

        A loop ends its unfinished async generators before it closes (`shutdown_asyncgens`), so one
        that is left waiting closes the session in time, with nothing of ours running until then.
        """
        self._watch = _closing(self.session, self._open)
        # It comes to its `yield` without anything to wait for, so that no task is needed here.
        with suppress(StopIteration):
            self._watch.asend(None).send(None)

    async def aclose(self) -> None:
        _close_all(self._open)
        self.timer.stop()
        if self._watch is not None:
            await self._watch.aclose()


async def _closing(
    session: aiohttp.ClientSession, responses: set[aiohttp.ClientResponse]
) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        _close_all(responses)
        await session.close()


def _close_all(responses: set[aiohttp.ClientResponse]) -> None:
    # Closing the session alone would leave whoever reads from one of them waiting for ever.
    for response in list(responses):
        response.close()
