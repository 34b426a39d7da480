"""What the fake is told to say: replies as values, and the methods that queue them.

No socket in here: `_connection` plays the replies.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Literal, Self

from attrs import field, frozen

from cfai.testing._record import Recorded

Part = bytes | str | float | asyncio.Event
"""A piece of a reply: bytes or text (as UTF-8) to write, seconds to pause, an event to wait for."""

Framing = Literal["length", "chunked", "close"]
"""How a body shows its end: by Content-Length, by the last chunk, or by closing the connection."""

HangUp = bool | Literal["reset"]
"""`True` closes in order (FIN), `"reset"` breaks the connection off (RST), `False` keeps it."""

NOTHING_SCRIPTED = 90002
"""The error code of the fake's own complaints; the service has none so high."""

_JSON = "application/json"
_EVENTS = "text/event-stream"


def _bytes(part: Part) -> bytes | float | asyncio.Event:
    return part.encode() if isinstance(part, str) else part


def _parts(parts: tuple[Part, ...]) -> tuple[bytes | float | asyncio.Event, ...]:
    return tuple(_bytes(part) for part in parts)


@frozen
class Reply:
    """One scripted reply, in full. `Script` has a method for every usual one."""

    parts: tuple[bytes | float | asyncio.Event, ...] = field(default=(), converter=_parts)
    """Each bytes part is one write, and one chunk of a chunked body."""

    status: int = field(default=200, kw_only=True)
    headers: Mapping[str, str] = field(factory=dict, kw_only=True)
    """Sent as they are. A Content-Length or Transfer-Encoding here is not corrected, only sent."""

    framing: Framing | None = field(default=None, kw_only=True)
    """`None` writes bytes with no head at all: the parts are the whole of the reply."""

    after: float | asyncio.Event | None = field(default=None, kw_only=True)
    """Seconds, or an event, to wait for before the first byte."""

    then_hangs_up: HangUp = field(default=False, kw_only=True)
    """Leave after the last part, without the end that the framing asks for."""

    before_body: bool = field(default=False, kw_only=True)
    """Reply as soon as the head of the request is in, and leave its body unread."""

    compute: "Callable[[Recorded], Reply] | None" = field(default=None, kw_only=True)
    """Makes the reply that is really played, once the whole request is known."""

    def head(self) -> bytes:
        """Status line and headers; nothing for a reply without a framing."""
        if self.framing is None:
            return b""
        phrase = HTTPStatus(self.status).phrase if self.status in set(HTTPStatus) else ""
        lines = [f"HTTP/1.1 {self.status} {phrase}"]
        lines += [f"{name}: {value}" for name, value in (*self.headers.items(), *self._ending())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def header(self, name: str) -> str | None:
        """The scripted value of *name*, compared without case."""
        return {key.lower(): value for key, value in self.headers.items()}.get(name.lower())

    @property
    def chunked(self) -> bool:
        """Whether each part goes out as a chunk of its own."""
        if self.header("content-length"):
            return False
        return self.framing == "chunked" or "chunked" in (self.header("transfer-encoding") or "")

    def _ending(self) -> tuple[tuple[str, str], ...]:
        if self.header("content-length") or self.header("transfer-encoding"):
            return ()
        if self.framing == "chunked":
            return (("Transfer-Encoding", "chunked"),)
        if self.framing == "length":
            size = sum(len(part) for part in self.parts if isinstance(part, bytes))
            return (("Content-Length", str(size)),)
        return (("Connection", "close"),)


def _compact(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _envelope(result: Any, errors: list[dict[str, Any]]) -> bytes:
    success = not errors
    return _compact({"result": result, "success": success, "errors": errors, "messages": []})


def _event(value: Part | Mapping[str, Any]) -> Part:
    """A text or a mapping as one event of the service's native stream; anything else as it is."""
    if isinstance(value, str):
        value = {"response": value}
    return b"data: " + _compact(value) + b"\n\n" if isinstance(value, Mapping) else value


def _looks_like_events(parts: tuple[Part, ...]) -> bool:
    first = next((_bytes(part) for part in parts if isinstance(part, bytes | str)), b"")
    fields = (b"data:", b"event:", b"id:", b"retry:", b":")
    return isinstance(first, bytes) and first.removeprefix(b"\xef\xbb\xbf").startswith(fields)


class Script:
    """Replies in the order they will be said. Every method queues one and gives the script back."""

    def __init__(self) -> None:
        self._queue: deque[Reply] = deque()
        self._default: Reply | None = None

    @property
    def always(self) -> "Script":
        """Scripts what is said whenever nothing is queued: `fake.always.answers({})`."""
        return _Always(self)

    @property
    def pending(self) -> int:
        """How many queued replies nobody has asked for yet."""
        return len(self._queue)

    def replies(self, reply: Reply) -> Self:
        """Queue a reply that is spelled out in full."""
        self._queue.append(reply)
        return self

    def says(
        self,
        *parts: Part,
        status: int = 200,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
        framing: Framing | None = None,
        after: float | asyncio.Event | None = None,
        then_hangs_up: HangUp = False,
    ) -> Self:
        """Say literal bytes.

        Args:
            parts: The body. Each bytes or str is one write (and one chunk, where the body is
                chunked), after which the event loop turns, so that a client on the same loop reads
                it by itself. A number pauses for that many seconds; an `asyncio.Event` waits until
                it is set, and one that is never set stalls until the client leaves.
            content_type: Default: `text/event-stream` when the first bytes begin like an event
                stream, otherwise `application/json`.
            headers: Sent as they are, before any that the framing adds. A Content-Length here is
                believed, right or wrong.
            framing: Default: chunked for an event stream or a body that is left off, else length.
            after: Seconds, or an event, to wait for before the head is sent.
            then_hangs_up: Close after the last part although the body has not ended (with
                `framing="length"` it has: only the connection is lost); `"reset"` breaks it off
                with an RST.
        """
        kind = content_type or (_EVENTS if _looks_like_events(parts) else _JSON)
        given = dict(headers or {})
        if "content-type" not in {name.lower() for name in given}:
            given = {"Content-Type": kind, **given}
        chunked = kind.startswith(_EVENTS) or then_hangs_up
        return self.replies(
            Reply(
                parts,
                status=status,
                headers=given,
                framing=framing or ("chunked" if chunked else "length"),
                after=after,
                then_hangs_up=then_hangs_up,
            )
        )

    def says_raw(self, *parts: Part, then_hangs_up: HangUp = False) -> Self:
        """Write bytes that are the whole reply: a status line, headers and all, or half of them."""
        return self.replies(Reply(parts, then_hangs_up=then_hangs_up))

    def answers(
        self,
        result: Any,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        after: float | asyncio.Event | None = None,
    ) -> Self:
        """Answer with the service's envelope around *result*, any value that is JSON."""
        return self.says(_envelope(result, []), status=status, headers=headers, after=after)

    def answers_by(self, function: Callable[[Recorded], Any]) -> Self:
        """Answer what *function* makes of the request: a result for the envelope, or a `Reply`.

        What the function raises is answered with status 500, and raised when the fake closes.
        """

        def compute(request: Recorded) -> Reply:
            made = function(request)
            return made if isinstance(made, Reply) else one(lambda script: script.answers(made))

        return self.replies(Reply(compute=compute))

    def fails(
        self,
        status: int,
        code: int,
        message: str,
        *,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
        after: float | asyncio.Event | None = None,
    ) -> Self:
        """Refuse with the service's envelope around one error; *retry_after* is in seconds."""
        wait = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
        body = _envelope(None, [{"code": code, "message": message}])
        return self.says(body, status=status, headers={**wait, **(headers or {})}, after=after)

    def streams(
        self,
        *events: Part | Mapping[str, Any],
        done: bool = True,
        headers: Mapping[str, str] | None = None,
        after: float | asyncio.Event | None = None,
        then_hangs_up: HangUp = False,
    ) -> Self:
        """Stream tokens in the service's native form.

        Args:
            events: A str is the text of one token, a mapping the JSON of one event. Bytes, seconds
                and an `asyncio.Event` mean what they mean to `says`.
            done: End with `data: [DONE]`. A stream that hangs up never does.
            headers: As for `says`.
            after: As for `says`.
            then_hangs_up: As for `says`.
        """
        parts = [_event(event) for event in events]
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
        """Read the request and close without a byte of an answer.

        Args:
            reset: Break the connection off (RST) instead of closing it in order (FIN).
            before_body: Leave as soon as the request's head is in, while its body is being sent.
        """
        how: HangUp = "reset" if reset else True
        return self.replies(Reply(then_hangs_up=how, before_body=before_body))

    def stalls(self) -> Self:
        """Read the request and never answer; it ends when the client leaves or the fake closes."""
        return self.replies(Reply((asyncio.Event(),)))

    def take(self) -> Reply | None:
        """The next of the queue, removed from it; else the one for always; else `None`."""
        return self._queue.popleft() if self._queue else self._default


class _Always(Script):
    def __init__(self, script: Script) -> None:
        super().__init__()
        self._script = script

    def replies(self, reply: Reply) -> Self:
        self._script._default = reply
        return self


def one(write: Callable[[Script], Script]) -> Reply:
    """The single reply that *write* scripts: `one(lambda script: script.answers({}))`."""
    script = Script()
    write(script)
    reply = script.take()
    if reply is None:
        raise ValueError("nothing was scripted")
    return reply


def complaint(message: str) -> Reply:
    """What the fake says when it cannot play a script: status 500 in the service's envelope."""
    return one(lambda script: script.fails(500, NOTHING_SCRIPTED, message))
