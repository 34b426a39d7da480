"""The pool of connections: aiohttp's, without those that are dead or have unread bytes.

aiohttp reuses a connection that the other side forgot, or on which bytes arrived that nobody
requested. A request fails on the former; on the latter, it would get somebody else's answer.
"""

from __future__ import annotations

import select
from functools import partial
from typing import Any, Final, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError

from cfai._session.errors import ReusedConnectionLost

LONGEST_LINE: Final = 2**16
"""Bytes of one header of a response. aiohttp's default is 8190, and proxies add long ones."""


class _Protocol(ResponseHandler):
    """One connection, and what it has been used for so far."""

    uses = 0
    """How many requests were sent on it."""
    is_idle = False
    """Whether it is in the pool."""
    _has_answered = False
    """Whether bytes arrived since the last request was sent."""
    _head = b""
    """The bytes of an answer so far, until its headers are complete."""
    _poller: select.poll | None = None

    def start_use(self) -> None:
        """Send a request on it."""
        self.uses += 1
        self.is_idle = False
        if self.uses == 1:
            self._await_head()

    def end_use(self) -> None:
        """Be idle, until the next request, and notice the first bytes that arrive from now on."""
        self.is_idle = True
        self._has_answered = False
        self._payload = None
        self._await_head()

    def _await_head(self) -> None:
        # On this object, and only for the headers: a method of the class would cost each token 500
        # instructions, and a callback of aiohttp's `Connection` each request 10,000.
        self._head = b""
        self.data_received = self._receive_head  # type: ignore[method-assign]

    def _receive_head(self, data: bytes) -> None:
        if data:  # aiohttp calls this without data, too, to resume decompression.
            if self.is_idle:  # It is never used again.
                self.force_close()
            self._has_answered = True
            self._head += data
        ResponseHandler.data_received(self, data)
        if self._payload is not None:
            self._head = b""
            # Not with `vars`: the dictionary that it creates makes each attribute slower.
            try:  # noqa: SIM105  # `suppress` takes longer, for each answer
                del self.data_received
            except AttributeError:  # aiohttp called this method again, for what follows a 101.
                pass

    def _receive_by_line(self, head: bytes) -> None:
        """Receive again what could not be parsed as a whole.

        From bytes that hold both a complete answer and something else, aiohttp's parser returns
        nothing. If they come after the headers, it has returned the answer.
        """
        self.set_response_params(
            skip_payload=self._skip_payload,
            read_until_eof=True,
            read_timeout=self._read_timeout,
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE,
        )
        for line in head.splitlines(keepends=True):
            ResponseHandler.data_received(self, line)
            if self._exception is not None:
                break

    def has_unread_bytes(self) -> bool:
        """Whether bytes or an end arrived since the last answer, read by the event loop or not."""
        # aiohttp knows most of what the event loop read. It has not read yet what the kernel has;
        # urllib3 and httpcore look there, too.
        return self.should_close or self._has_begun_another() or self._is_readable()

    def _has_begun_another(self) -> bool:
        """Whether the beginning of another answer came with the last bytes of the one before."""
        try:  # The parser is of no use afterwards; each request gets a new one.
            return self._parser is not None and self._parser.feed_eof() is not None
        except Exception:  # Whatever aiohttp says of the beginning.
            return True

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

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """Report an error to whoever waits for an answer, or for the rest of its body."""
        if self._head and isinstance(exc, HttpProcessingError):
            head, self._head = self._head, b""
            self._receive_by_line(head)
            return
        body = self._payload
        if isinstance(exc, HttpProcessingError) and body is not None and not body.is_eof():
            # aiohttp does not report a bad chunk to the reader, who would wait for a timeout.
            error = aiohttp.ClientPayloadError()
            error.__cause__ = exc
            body.set_exception(error)
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

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: Any,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  # as aiohttp calls it
    ) -> Connection:
        """A connection for one request, from the pool or new."""
        while True:
            connection = await aiohttp.TCPConnector.connect(self, req, traces, timeout)
            protocol = cast("_Protocol", connection.protocol)
            if not (protocol.is_idle and protocol.has_unread_bytes()):
                protocol.start_use()
                return connection
            connection.close()

    def _release(self, key: Any, protocol: Any, *, should_close: bool = False) -> None:
        aiohttp.TCPConnector._release(self, key, protocol, should_close=should_close)
        if protocol.transport is not None:  # It was not closed.
            protocol.end_use()

    def close_idle(self) -> None:
        """Close the connections that no request uses."""
        for connections in self._conns.values():
            for protocol, _ in connections:
                protocol.close()

    def __del__(self, *_: Any) -> None:
        # aiohttp's would log "Unclosed connector". `LoopSession` closes it, or its loop is gone.
        pass
