"""One client connection of the fake: HTTP/1.1 by hand, so that a script controls every byte.

A connection reads a request, takes its reply from `FakeState`, writes it, and reads the next
request.
"""

import asyncio
import os
import socket
import struct
from typing import cast

from attrs import define, field

from cfai.testing._recorded import Delay, HangUp, Headers, Recorded
from cfai.testing._script import Reply, Script, build_error_reply
from cfai.testing._sockets import FakeSocket, handshake

# A client on the same event loop needs one turn to be notified of its bytes, one to run its parser
# and one to wake its reader. A few more turns keep it from reading two writes as one.
_TURNS = 5
_HEAD_LIMIT = 1 << 20
POLL_SECONDS = 0.005
"""The pause between two looks at something that does not report its changes."""


async def yield_to_client() -> None:
    """Let a client on the same event loop process what was just written."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)


@define
class FakeState:
    """The scripts, recorded requests and open connections of one fake server."""

    script: Script
    routes: dict[str, Script] = field(factory=dict)
    requests: list[Recorded] = field(factory=list)
    sockets: list[FakeSocket] = field(factory=list)
    connections: "set[Connection]" = field(factory=set)
    accepted: int = 0
    errors: list[Exception] = field(factory=list)
    changed: asyncio.Event = field(factory=asyncio.Event)
    """Set and replaced at every change."""
    has_thread: bool = False
    """Whether the fake has a thread of its own, so that other threads set the events of scripts."""

    def choose_reply(self, request: Recorded) -> Reply:
        """Take the next scripted reply for a request whose head has arrived."""
        routed = [script for path, script in self.routes.items() if path in request.target]
        for script in (*routed, self.script):
            reply = script.take()
            if reply is not None:
                return reply
        number = len(self.requests) + 1
        return build_error_reply(
            f"nothing scripted for request {number}: {request.method} {request.target}"
        )

    def compute_reply(self, reply: Reply, request: Recorded) -> Reply:
        """Call the reply's `compute` function, if it has one, with the complete request."""
        try:
            while reply.compute is not None:
                reply = reply.compute(request)
            return reply
        except Exception as error:
            self.errors.append(error)
            return build_error_reply(f"the scripted function raised {error!r}")

    def notify(self) -> None:
        """Wake everything that waits for a change."""
        self.changed.set()
        self.changed = asyncio.Event()


class Connection(asyncio.Protocol):
    """The server's side of one connection; its task ends with it."""

    def __init__(self, state: FakeState) -> None:
        self._state = state
        self._reader = asyncio.StreamReader(limit=_HEAD_LIMIT)
        self._writable = asyncio.Event()
        self._requests: list[Recorded] = []
        self._number = 0
        self._transport: asyncio.Transport
        self.task: asyncio.Task[None]

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport has the same methods, but another base class.
        self._transport = transport = cast("asyncio.Transport", transport)
        # With no room in the buffer, "writable" means that the system has all of the data.
        transport.set_write_buffer_limits(high=0)
        self._reader.set_transport(transport)
        self._writable.set()
        self._state.connections.add(self)
        self._state.accepted += 1
        self._number = self._state.accepted
        self._state.notify()
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
        self._state.connections.discard(self)
        self._state.notify()

    # Closing

    def hang_up(self, how: HangUp = True) -> None:
        """Close once everything is written (FIN), or at once with an RST if *how* is "reset"."""
        if how == "reset":
            linger_no_time = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_no_time)
            self._transport.abort()
        else:
            self._transport.close()

    def abort(self) -> None:
        """Close at once and discard unwritten data."""
        self._transport.abort()

    # Reading requests

    async def _serve(self) -> None:
        try:
            while await self._exchange():
                pass
        except Exception as error:
            self._state.errors.append(error)
        finally:
            if not self._transport.is_closing():
                self._transport.close()

    async def _exchange(self) -> bool:
        """Read one request and reply to it; return whether the connection can carry another."""
        request, version = await self._read_head()
        reply = self._state.choose_reply(request)
        if not reply.before_body:
            request.body = await self._read_body(request.headers)
        self._state.requests.append(request)
        self._state.notify()
        self._requests.append(request)
        reply = self._state.compute_reply(reply, request)
        if reply.socket is not None:
            await self._open_socket(request, reply)
            return False
        reusable = await self._write_reply(reply)
        request.answered.set()
        self._state.notify()
        client_closes = request.headers.get("connection", "").lower() == "close"
        return reusable and not client_closes and version != "HTTP/1.0"

    async def _read_head(self) -> tuple[Recorded, str]:
        head = await self._reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        method, target, version = first.split(" ")
        pairs = [line.partition(":") for line in lines]
        headers = Headers(tuple((name, value.strip()) for name, _, value in pairs))
        return Recorded(method, target, headers, self._number), version

    async def _read_body(self, headers: Headers) -> bytes:
        if headers.get("expect", "").lower() == "100-continue":
            await self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if "chunked" not in headers.get("transfer-encoding", "").lower():
            return await self._reader.readexactly(int(headers.get("content-length", 0)))
        body = bytearray()
        while size := int((await self._reader.readuntil(b"\r\n")).partition(b";")[0], 16):
            body += await self._reader.readexactly(size)
            await self._reader.readexactly(2)
        while await self._reader.readuntil(b"\r\n") != b"\r\n":
            pass  # trailers
        return bytes(body)

    # WebSockets

    async def _open_socket(self, request: Recorded, reply: Reply) -> None:
        if request.headers.get("upgrade", "").lower() != "websocket" or reply.socket is None:
            message = f"a WebSocket is scripted: {request.method} {request.target} opens none"
            await self._write_reply(build_error_reply(message))
            return
        socket = FakeSocket(
            request, self._reader, self._write, self._wait, self.hang_up, self._state.notify
        )
        self._state.sockets.append(socket)
        await self._write(handshake(request, reply.headers))
        await reply.socket(socket)
        request.answered.set()
        self._state.notify()

    # Writing replies

    async def _write_reply(self, reply: Reply) -> bool:
        """Write *reply*; return whether the connection is still usable."""
        if reply.after is not None:
            await self._wait(reply.after)
        await self._write(reply.head())
        for part in reply.parts:
            if not isinstance(part, bytes):
                await self._wait(part)
            elif part:
                await self._write(_encode_chunk(part) if reply.chunked else part)
        if reply.then_hangs_up:
            self.hang_up(reply.then_hangs_up)
            return False
        if reply.chunked:
            await self._write(_encode_chunk(b""))
        closes = reply.framing == "close" or reply.header("connection") == "close"
        return not closes and not reply.before_body

    async def _write(self, data: bytes) -> None:
        if not data:
            return
        self._transport.write(data)
        await self._writable.wait()
        await yield_to_client()

    async def _wait(self, delay: Delay) -> None:
        if isinstance(delay, float | int):
            await asyncio.sleep(delay)
        elif isinstance(delay, asyncio.Event) and not self._state.has_thread:
            await delay.wait()
        else:
            # An event does not wake the loop of another thread.
            while not delay.is_set():  # noqa: ASYNC110
                await asyncio.sleep(POLL_SECONDS)


def _encode_chunk(data: bytes) -> bytes:
    """Encode one chunk of a chunked body; an empty one ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
