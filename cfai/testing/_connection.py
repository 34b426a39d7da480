"""One client connection of the fake: HTTP/1.1 spoken by hand, so that every byte is the script's.

It reads a request, has its owner choose a reply, plays it, and goes on to the next request.
"""

import asyncio
import os
import socket
import struct
from typing import Protocol, cast

from cfai.testing._record import Headers, Recorded
from cfai.testing._script import HangUp, Reply

# A client on the same loop needs one turn to be told of its bytes, one to run its parser and one
# to wake whoever reads; a few more cost nothing and keep two writes from being read as one.
_TURNS = 5
_HEAD_LIMIT = 1 << 20


class Owner(Protocol):
    """What a connection asks of the fake."""

    def opened(self, connection: "Connection") -> int:
        """Keep *connection*; gives its number, counted from 1."""

    def closed(self, connection: "Connection") -> None:
        """Forget *connection*."""

    def choose(self, request: Recorded) -> Reply:
        """The reply to a request whose head is in."""

    def record(self, request: Recorded) -> None:
        """Keep a request that is in."""

    def compute(self, reply: Reply, request: Recorded) -> Reply:
        """The reply that is really played."""

    def failed(self, error: Exception) -> None:
        """Keep an error that nobody else would hear of."""

    def changed(self) -> None:
        """Something happened that a test may be waiting for."""


async def turn() -> None:
    """Let a client on the same event loop hear of what was just done."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)


def _chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; without data it is the last."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Connection(asyncio.Protocol):
    """The server's side of one connection; the task that plays on it ends with it."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._reader = asyncio.StreamReader(limit=_HEAD_LIMIT)
        self._writable = asyncio.Event()
        self._requests: list[Recorded] = []
        self._number = 0
        self._transport: asyncio.Transport
        self.task: asyncio.Task[None]

    # What the event loop calls...

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is one in all but its class.
        self._transport = transport = cast("asyncio.Transport", transport)
        # With no room in the buffer, "writable" means that all was handed to the system.
        transport.set_write_buffer_limits(high=0)
        self._reader.set_transport(transport)
        self._writable.set()
        self._number = self._owner.opened(self)
        self.task = asyncio.get_running_loop().create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        self._reader.feed_data(data)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.task.cancel()
        for request in self._requests:
            request.gone.set()
        self._owner.closed(self)

    def hang_up(self, how: HangUp = True) -> None:
        """Close in order once everything is written, or break off at once with an RST."""
        if how == "reset":
            linger_no_time = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_no_time)
            self._transport.abort()
        else:
            self._transport.close()

    def abort(self) -> None:
        """Close at once, whatever is not yet written."""
        self._transport.abort()

    # Receiving a request...

    async def _serve(self) -> None:
        try:
            while await self._exchange():
                pass
        except Exception as error:
            self._owner.failed(error)
        finally:
            if not self._transport.is_closing():
                self._transport.close()

    async def _exchange(self) -> bool:
        """One request and its reply; whether the connection can carry another."""
        request, version = await self._head()
        reply = self._owner.choose(request)
        if not reply.before_body:
            request.body = await self._body(request.headers)
        self._owner.record(request)
        self._requests.append(request)
        reply = self._owner.compute(reply, request)
        keep = await self._play(reply)
        request.answered.set()
        self._owner.changed()
        asked_to_close = request.headers.get("connection", "").lower() == "close"
        return keep and not asked_to_close and version != "HTTP/1.0"

    async def _head(self) -> tuple[Recorded, str]:
        head = await self._reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        method, target, version = first.split(" ")
        pairs = [line.partition(":") for line in lines]
        headers = Headers(tuple((name, value.strip()) for name, _, value in pairs))
        return Recorded(method, target, headers, self._number), version

    async def _body(self, headers: Headers) -> bytes:
        if headers.get("expect", "").lower() == "100-continue":
            await self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return await self._chunks()
        return await self._reader.readexactly(int(headers.get("content-length", 0)))

    async def _chunks(self) -> bytes:
        body = bytearray()
        while size := int((await self._reader.readuntil(b"\r\n")).partition(b";")[0], 16):
            body += await self._reader.readexactly(size)
            await self._reader.readexactly(2)
        while await self._reader.readuntil(b"\r\n") != b"\r\n":
            pass  # trailers
        return bytes(body)

    # Playing the reply...

    async def _play(self, reply: Reply) -> bool:
        """Write *reply*; whether the connection is still good."""
        if reply.after is not None:
            await self._wait(reply.after)
        await self._write(reply.head())
        for part in reply.parts:
            if not isinstance(part, bytes):
                await self._wait(part)
            elif part:
                await self._write(_chunk(part) if reply.chunked else part)
        if reply.then_hangs_up:
            self.hang_up(reply.then_hangs_up)
            return False
        if reply.chunked:
            await self._write(_chunk(b""))
        return self._reusable(reply)

    def _reusable(self, reply: Reply) -> bool:
        closes = reply.framing == "close" or reply.header("connection") == "close"
        return not closes and not reply.before_body

    async def _write(self, data: bytes) -> None:
        if not data:
            return
        self._transport.write(data)
        await self._writable.wait()
        await turn()

    async def _wait(self, what: float | asyncio.Event) -> None:
        if isinstance(what, asyncio.Event):
            await what.wait()
        else:
            await asyncio.sleep(what)
