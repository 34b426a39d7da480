"""Connections: aiohttp's pool, without connections that are dead or have unread bytes.

aiohttp reuses a connection that the other side forgot, or on which bytes arrived that nobody
requested. A request fails on the former; on the latter, it would get somebody else's answer.
"""

import select
import time
from functools import partial
from typing import Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError


class ReusedConnectionLost(aiohttp.ClientConnectionError):
    """A reused connection failed before any byte of an answer; the cause says how.

    The other side had probably dropped the connection while it was idle, so that the request never
    reached anybody.
    """


class _Protocol(ResponseHandler):
    """One connection, and what it has been used for so far."""

    uses = 0
    """How many requests were sent on it."""
    idle_since: float | None = None
    """When it was returned to the pool, if it is there."""
    _has_answered = False
    """Whether bytes arrived since the last request was sent."""
    _poller: "select.poll | None" = None

    def take(self, connection: Connection) -> None:
        """Use the connection for one request, until *connection* is released."""
        self.uses += 1
        self.idle_since = None
        self._has_answered = False
        connection.add_callback(self._return)

    def _return(self) -> None:
        self.idle_since = time.monotonic()

    def has_unread_bytes(self) -> bool:
        """Whether bytes or an end arrived since the last answer, read by the event loop or not."""
        # aiohttp knows what the event loop read. It has not read yet what the kernel has; urllib3
        # and httpcore look there, too.
        return self.should_close or self._is_readable()

    def _is_readable(self) -> bool:
        if self.transport is None:
            return True
        if self._poller is None:
            handle = self.transport.get_extra_info("socket")
            if handle is None:
                return False
            if not hasattr(select, "poll"):  # Windows, where `select` takes any number.
                return bool(select.select([handle], [], [], 0)[0])
            self._poller = select.poll()
            self._poller.register(handle.fileno(), select.POLLIN)
        return bool(self._poller.poll(0))

    def data_received(self, data: bytes) -> None:
        """Pass bytes on to the parser. An idle connection that gets some is never used again."""
        if data:  # aiohttp calls this without data, too, to resume decompression.
            self._has_answered = True
            if self.idle_since is not None:
                self.force_close()
        super().data_received(data)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """Report an error to whoever waits for an answer, or for the rest of its body."""
        body = self._payload
        if isinstance(exc, HttpProcessingError) and body is not None and not body.is_eof():
            # aiohttp does not report a bad chunk to the reader, who would wait for a timeout.
            body.set_exception(aiohttp.ClientPayloadError(), exc)
        lost = isinstance(exc, aiohttp.ClientOSError | aiohttp.ServerDisconnectedError)
        if lost and self.uses > 1 and not self._has_answered:
            reused = ReusedConnectionLost()
            reused.__cause__ = exc
            super().set_exception(reused)
        else:
            super().set_exception(exc, *cause)


class Connector(aiohttp.TCPConnector):
    """aiohttp's connector; it reuses a connection only if nothing has arrived on it since."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory: Any = partial(_Protocol, loop=self._loop)
        self._distrusted_until = 0.0

    def distrust_idle(self) -> None:
        """Use no connection again that is idle now: one of them was dead."""
        self._distrusted_until = time.monotonic()

    async def connect(self, *args: Any, **options: Any) -> Connection:
        """A connection for one request, from the pool or new."""
        while True:
            connection = await super().connect(*args, **options)
            protocol = cast("_Protocol", connection.protocol)
            idle_since = protocol.idle_since
            if idle_since is None or not (
                idle_since <= self._distrusted_until or protocol.has_unread_bytes()
            ):
                protocol.take(connection)
                return connection
            connection.close()

    def close_idle(self) -> None:
        """Close the connections that no request uses, while the event loop does not run."""
        for connections in self._conns.values():
            for protocol, _ in connections:
                protocol.close()

    def __del__(self, *_: Any) -> None:
        # aiohttp's would log "Unclosed connector". `LoopSession` closes it, or its loop is gone.
        pass
