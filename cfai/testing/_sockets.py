"""`FakeSocket`: the server's side of one WebSocket of the fake, framed by hand (RFC 6455).

A script controls every byte: frames that are fragmented, cut or invalid, and any close code.
"""

import asyncio
import json
import struct
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterable, Mapping
from hashlib import sha1
from typing import Any, Final

from attrs import define, field

from cfai.testing._recorded import Delay, HangUp, Recorded, SocketStep

_KEY: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455, section 1.3."""

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

_ENDS: Final = ("CloseStream", "Close")
"""The messages with which a client ends its audio or its text."""


def accept_key(key: str) -> str:
    """The `Sec-WebSocket-Accept` for the key of a handshake."""
    # The standard demands this hash; it protects nothing.
    return b64encode(sha1((key + _KEY).encode(), usedforsecurity=False).digest()).decode()


def encode_frame(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    """One unmasked frame, as servers send them."""
    first = (0x80 if final else 0) | opcode
    if len(payload) < 126:
        return struct.pack("!BB", first, len(payload)) + payload
    if len(payload) < 2**16:
        return struct.pack("!BBH", first, 126, len(payload)) + payload
    return struct.pack("!BBQ", first, 127, len(payload)) + payload


@define(eq=False)
class FakeSocket:
    """A WebSocket that a client opened.

    `Script.connects_by` passes it to your function; `FakeWorkersAI.sockets` keeps it.
    """

    request: Recorded
    """The handshake: its target has the parameters of the session."""

    _reader: asyncio.StreamReader = field(repr=False)
    _write: Callable[[bytes], Awaitable[None]] = field(repr=False)
    _wait: Callable[[Delay], Awaitable[None]] = field(repr=False)
    _hang_up: Callable[[HangUp], None] = field(repr=False)
    _notify: Callable[[], None] = field(repr=False)

    messages: list[str | bytes] = field(factory=list, init=False, repr=False)
    """What the client sent, in order: text and binary messages."""

    pings: int = field(default=0, init=False)
    """How many pings the client sent. They are answered as long as something is received."""

    pongs: list[bytes] = field(factory=list, init=False)
    """The payloads of the pongs that the client sent."""

    close_code: int | None = field(default=None, init=False)
    """The code of the client's close frame; 1005 if it had none, `None` before it."""

    _has_closed: bool = field(default=False, init=False)

    @property
    def texts(self) -> list[Any]:
        """The JSON of the client's text messages."""
        return [json.loads(message) for message in self.messages if isinstance(message, str)]

    @property
    def audio(self) -> bytes:
        """The client's binary messages, joined."""
        return b"".join(message for message in self.messages if isinstance(message, bytes))

    async def send(self, *messages: str | bytes | Mapping[str, Any]) -> None:
        """Send messages: text, bytes, or JSON."""
        for message in messages:
            if isinstance(message, bytes):
                await self._write(encode_frame(BINARY, message))
            else:
                text = message if isinstance(message, str) else json.dumps(message)
                await self._write(encode_frame(TEXT, text.encode()))

    async def send_raw(self, *parts: bytes) -> None:
        """Write literal bytes: frames, or parts of them."""
        for part in parts:
            await self._write(part)

    async def ping(self, payload: bytes = b"") -> None:
        """Send a ping. `pongs` has the answer once something was received."""
        await self._write(encode_frame(PING, payload))

    async def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Send a close frame, without a code if it is `None`."""
        self._has_closed = True
        payload = b"" if code is None else struct.pack("!H", code) + reason.encode()
        await self._write(encode_frame(CLOSE, payload))

    def hang_up(self, how: HangUp = True) -> None:
        """Close the connection without a close frame; `"reset"` sends an RST."""
        self._hang_up(how)

    async def receive(self) -> str | bytes | None:
        """Wait for the client's next message; `None` after its close frame."""
        while self.close_code is None:
            opcode, payload = await self._read_frame()
            if opcode == PING:
                self.pings += 1
                await self._write(encode_frame(PONG, payload))
            elif opcode == PONG:
                self.pongs.append(payload)
            elif opcode == CLOSE:
                self.close_code = struct.unpack("!H", payload[:2])[0] if payload else 1005
                if not self._has_closed:
                    await self.close(self.close_code if payload else None)
            else:
                message = payload.decode() if opcode == TEXT else payload
                self.messages.append(message)
                self._notify()
                return message
            self._notify()
        return None

    async def receive_end(self) -> None:
        """Wait until the client ends its audio or its text, or closes."""
        while (message := await self.receive()) is not None:
            if isinstance(message, str) and json.loads(message).get("type") in _ENDS:
                return

    async def _read_frame(self) -> tuple[int, bytes]:
        """The opcode and the payload of a frame. Clients of ours don't fragment messages."""
        first, second = await self._reader.readexactly(2)
        if not (first & 0x80 and second & 0x80):
            raise ValueError("a client's frame must be masked, and not be fragmented")
        size = second & 0x7F
        if size >= 126:
            length = await self._reader.readexactly(2 if size == 126 else 8)
            size = int.from_bytes(length)
        mask = await self._reader.readexactly(4)
        data = await self._reader.readexactly(size)
        key = (mask * (size // 4 + 1))[:size]
        unmasked = int.from_bytes(data) ^ int.from_bytes(key)
        return first & 0x0F, unmasked.to_bytes(size)

    async def run(self, steps: Iterable[SocketStep]) -> None:
        """Send the messages of a script, with its pauses."""
        for step in steps:
            if isinstance(step, str | bytes | Mapping):
                await self.send(step)
            else:
                await self._wait(step)


def handshake(request: Recorded, headers: Mapping[str, str]) -> bytes:
    """The response that opens the socket."""
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept_key(request.headers.get('sec-websocket-key', ''))}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
