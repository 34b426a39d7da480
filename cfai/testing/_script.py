"""Scripted replies, and `Script`, whose methods queue them.

No sockets here: `_connection` writes the replies.
"""

import asyncio
import inspect
import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Literal, Self

from attrs import field, frozen

from cfai.testing._recorded import Delay, HangUp, Part, Recorded, SocketStep
from cfai.testing._sockets import FakeSocket

Framing = Literal["length", "chunked", "close"]
"""How a body ends: by Content-Length, by the last chunk, or by closing the connection."""

NOTHING_SCRIPTED = 90002
"""The code of the fake's own errors. The service has no codes this high."""

_JSON = "application/json"
_EVENTS = "text/event-stream"


def _encode_texts(parts: tuple[Part, ...]) -> tuple[bytes | Delay, ...]:
    return tuple(part.encode() if isinstance(part, str) else part for part in parts)


@frozen
class Reply:
    """One scripted reply. `Script` has a method for each common kind."""

    parts: tuple[bytes | Delay, ...] = field(default=(), converter=_encode_texts)
    """Each bytes part is one write, and one chunk if the body is chunked."""

    status: int = field(default=200, kw_only=True)
    headers: Mapping[str, str] = field(factory=dict, kw_only=True)
    """Sent unchanged. A Content-Length or Transfer-Encoding given here is not corrected."""

    framing: Framing | None = field(default=None, kw_only=True)
    """If `None`, no status line or headers are written: the parts are the complete reply."""

    after: Delay | None = field(default=None, kw_only=True)
    """Seconds to pause, or an event to wait for, before the first byte."""

    then_hangs_up: HangUp = field(default=False, kw_only=True)
    """Close the connection after the last part, without the ending that the framing requires."""

    before_body: bool = field(default=False, kw_only=True)
    """Reply as soon as the request's headers have arrived, without reading its body."""

    compute: "Callable[[Recorded], Reply] | None" = field(default=None, kw_only=True)
    """Builds the actual reply from the complete request."""

    socket: Callable[[FakeSocket], Awaitable[None]] | None = field(default=None, kw_only=True)
    """Opens a WebSocket, and talks with the client until it returns. *headers* are added to those
    of the handshake."""

    def head(self) -> bytes:
        """Return status line and headers; empty for a reply without a framing."""
        if self.framing is None:
            return b""
        phrase = HTTPStatus(self.status).phrase if self.status in set(HTTPStatus) else ""
        lines = [f"HTTP/1.1 {self.status} {phrase}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if not (self.header("content-length") or self.header("transfer-encoding")):
            size = sum(len(part) for part in self.parts if isinstance(part, bytes))
            framing_headers = {
                "length": f"Content-Length: {size}",
                "chunked": "Transfer-Encoding: chunked",
                "close": "Connection: close",
            }
            lines.append(framing_headers[self.framing])
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def header(self, name: str) -> str | None:
        """Return the scripted value of *name*, which is case-insensitive."""
        return {key.lower(): value for key, value in self.headers.items()}.get(name.lower())

    @property
    def chunked(self) -> bool:
        """Whether each part is sent as its own chunk."""
        if self.header("content-length"):
            return False
        return self.framing == "chunked" or "chunked" in (self.header("transfer-encoding") or "")


def _encode_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _encode_envelope(result: Any, errors: list[dict[str, Any]]) -> bytes:
    success = not errors
    return _encode_json({"result": result, "success": success, "errors": errors, "messages": []})


def _encode_event(value: Part | Mapping[str, Any]) -> Part:
    """Encode text or a mapping as one event of the native stream; return other parts unchanged."""
    if isinstance(value, str):
        value = {"response": value}
    return b"data: " + _encode_json(value) + b"\n\n" if isinstance(value, Mapping) else value


def _looks_like_events(parts: tuple[Part, ...]) -> bool:
    first = next((part for part in _encode_texts(parts) if isinstance(part, bytes)), b"")
    fields = (b"data:", b"event:", b"id:", b"retry:", b":")
    return first.removeprefix(b"\xef\xbb\xbf").startswith(fields)


class Script:
    """A queue of replies. Every method queues one reply and returns the script."""

    def __init__(self) -> None:
        self._queue: deque[Reply] = deque()
        self._default: Reply | None = None

    @property
    def always(self) -> "Script":
        """The script of the default reply, sent if none is queued: `fake.always.answers({})`."""
        return _Always(self)

    @property
    def pending(self) -> int:
        """The number of queued replies that are not used yet."""
        return len(self._queue)

    def replies(self, reply: Reply) -> Self:
        """Queue a complete `Reply`."""
        self._queue.append(reply)
        return self

    def says(
        self,
        *parts: Part,
        status: int = 200,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
        framing: Framing | None = None,
        after: Delay | None = None,
        then_hangs_up: HangUp = False,
    ) -> Self:
        """Reply with literal bytes.

        Args:
            parts: The body. Each bytes or str is one write (and one chunk if the body is
                chunked), followed by a few turns of the event loop, so that a client on the same
                loop reads it separately. A number pauses for that many seconds; an
                `asyncio.Event` or a `threading.Event` waits until it is set (if it never is,
                until the client leaves).
            content_type: Default: `text/event-stream` if the first bytes look like an event
                stream, otherwise `application/json`.
            headers: Sent unchanged, before those that the framing adds. A Content-Length given
                here is not corrected.
            framing: Default: chunked for an event stream or an unfinished body, otherwise length.
            after: Seconds to pause, or an event to wait for, before the headers are sent.
            then_hangs_up: Close the connection after the last part, before the end of the body
                (with `framing="length"` the body is complete: only the connection is lost);
                `"reset"` sends an RST.
        """
        kind = content_type or (_EVENTS if _looks_like_events(parts) else _JSON)
        fields = dict(headers or {})
        if "content-type" not in {name.lower() for name in fields}:
            fields = {"Content-Type": kind, **fields}
        chunked = kind.startswith(_EVENTS) or then_hangs_up
        return self.replies(
            Reply(
                parts,
                status=status,
                headers=fields,
                framing=framing or ("chunked" if chunked else "length"),
                after=after,
                then_hangs_up=then_hangs_up,
            )
        )

    def says_raw(self, *parts: Part, then_hangs_up: HangUp = False) -> Self:
        """Write bytes as the complete reply: status line, headers and body, or a part of them."""
        return self.replies(Reply(parts, then_hangs_up=then_hangs_up))

    def answers(
        self,
        result: Any,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        after: Delay | None = None,
    ) -> Self:
        """Answer with *result*, any JSON value, inside the service's envelope."""
        return self.says(_encode_envelope(result, []), status=status, headers=headers, after=after)

    def answers_by(self, function: Callable[[Recorded], Any]) -> Self:
        """Answer with what *function* returns for the request.

        Args:
            function: Returns a result; or a `Script` whose first reply is sent, such as
                `Script().fails(429, 3040, "busy")`; or a complete `Reply`. A fake in a plain
                `with` calls it in its own thread.

        If it raises, the reply has status 500, and the fake raises the exception when it closes.
        """
        if inspect.iscoroutinefunction(function):
            raise TypeError("function must not be async: it is called, and not awaited")

        def compute(request: Recorded) -> Reply:
            result = function(request)
            if isinstance(result, Script):
                result = take_reply(result)
            return result if isinstance(result, Reply) else take_reply(Script().answers(result))

        return self.replies(Reply(compute=compute))

    def fails(
        self,
        status: int,
        code: int,
        message: str,
        *,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
        after: Delay | None = None,
    ) -> Self:
        """Answer with one error inside the service's envelope; *retry_after* is in seconds."""
        retry = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
        body = _encode_envelope(None, [{"code": code, "message": message}])
        return self.says(body, status=status, headers={**retry, **(headers or {})}, after=after)

    def streams(
        self,
        *events: Part | Mapping[str, Any],
        done: bool = True,
        headers: Mapping[str, str] | None = None,
        after: Delay | None = None,
        then_hangs_up: HangUp = False,
    ) -> Self:
        """Stream tokens in the service's native format.

        Args:
            events: A str is the text of one token, a mapping the JSON of one event. Bytes,
                seconds and an `asyncio.Event` work as in `says`.
            done: End with `data: [DONE]`. A stream that hangs up never sends it.
            headers: As for `says`.
            after: As for `says`.
            then_hangs_up: As for `says`.
        """
        parts = [_encode_event(event) for event in events]
        if done and not then_hangs_up:
            parts.append(b"data: [DONE]\n\n")
        return self.says(
            *parts,
            content_type=_EVENTS,
            headers=headers,
            after=after,
            then_hangs_up=then_hangs_up,
        )

    def hangs_up(self, *, reset: bool = False, before_body: bool = False) -> Self:
        """Read the request, then close the connection without a reply.

        If the connection was used before, a client may take it for one that died while it was idle,
        and repeat the request on a new one without counting an attempt.

        Args:
            reset: Reset the connection (RST) instead of closing it (FIN).
            before_body: Close as soon as the request's headers have arrived, while the client is
                still sending the body.
        """
        how: HangUp = "reset" if reset else True
        return self.replies(Reply(then_hangs_up=how, before_body=before_body))

    def stalls(self) -> Self:
        """Read the request and never reply. It ends when the client leaves or the fake closes."""
        return self.replies(Reply((asyncio.Event(),)))

    def connects(
        self,
        *steps: SocketStep,
        at_end: Sequence[SocketStep] = (),
        close: int | None = 1000,
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Open a WebSocket, send messages, and close it when the client ends its audio or text.

        Args:
            steps: Text, bytes, or JSON as a mapping; seconds to pause, or an event to wait for.
            at_end: The same, once the client has sent `CloseStream` or `Close`.
            close: The code of the close frame at the end; `None` sends a frame without a code.
            headers: Sent with the handshake.
        """

        async def talk(socket: FakeSocket) -> None:
            await socket.run(steps)
            await socket.receive_end()
            if socket.close_code is None:
                await socket.run(at_end)
                await socket.close(close)
                while await socket.receive() is not None:
                    pass

        return self.connects_by(talk, headers=headers)

    def connects_by(
        self,
        function: Callable[[FakeSocket], Awaitable[None]],
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Open a WebSocket, and let an async function talk with the client.

        The connection is dropped when it returns. If it raises, the fake raises the exception when
        it closes.
        """
        return self.replies(Reply(socket=function, headers=dict(headers or {})))

    def take(self) -> Reply | None:
        """Remove and return the next queued reply; if there is none, the default; else `None`."""
        return self._queue.popleft() if self._queue else self._default


class _Always(Script):
    def __init__(self, script: Script) -> None:
        super().__init__()
        self._script = script

    def replies(self, reply: Reply) -> Self:
        self._script._default = reply
        return self


def take_reply(script: Script) -> Reply:
    """Take the reply that was just scripted: `take_reply(Script().answers({}))`."""
    reply = script.take()
    if reply is None:
        raise ValueError("the script has no reply")
    return reply


def build_error_reply(message: str) -> Reply:
    """Build the reply for a request that the fake cannot answer: status 500 in the envelope."""
    return take_reply(Script().fails(500, NOTHING_SCRIPTED, message))
