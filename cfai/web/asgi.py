"""Token streams as ASGI applications, for whichever framework takes those as responses."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

from cfai.errors import CfaiError
from cfai.streaming.relay import Relay
from cfai.streaming.stream import TokenStream
from cfai.web._relaying import (
    NO_CONTENT,
    RESUMING,
    UNKEPT,
    Form,
    headers_of,
    note_failure,
    reached,
    relay_of,
)
from cfai.web.refusal import Refusal, log

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
RawHeaders = Iterable[tuple[bytes, bytes]]

_BODY = "http.response.body"


class TokenResponse:
    """An ASGI application that answers one request with a stream, token by token.

    A browser that is slow slows the model's stream; one that goes away ends it at once. A stream
    that fails before it said anything is answered with a status of its own, see `Refusal`; one
    that fails later ends with an `error`. An `EventSource` that was cut off and comes back
    (`Last-Event-ID`) is answered with 204, which stops it, and nothing is generated again.

    Args:
        tokens: A stream that nobody reads yet: `ai.stream(...)`.
        form: `"sse"` for an `EventSource`, `"ndjson"` for lines of JSON.
        retry: Milliseconds after which an `EventSource` connects anew; `None` leaves that to it.
        keep_alive: Seconds of silence after which a sign of life is sent, again and again.
        headers: More headers, or others, for the answer.
    """

    def __init__(
        self,
        tokens: TokenStream,
        *,
        form: Form = "sse",
        retry: int | None = 3000,
        keep_alive: float = 15.0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._frames = relay_of(tokens, form, retry=retry, keep_alive=keep_alive)
        self._headers = headers_of(self._frames, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream, until its end or the browser's."""
        await respond(scope, receive, send, self._frames, raw(self._headers))


def raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI has them."""
    pairs = headers.items()
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs]


async def respond(
    scope: Scope, receive: Receive, send: Send, frames: Relay, headers: RawHeaders
) -> None:
    """Answer a request with what *frames* gives, until its end or the browser's."""
    if scope.get("method") == "HEAD":
        await _whole(send, 200, headers, b"")
        return
    if any(name.lower() == RESUMING.encode() for name, _ in scope.get("headers", ())):
        await _whole(send, NO_CONTENT, raw(UNKEPT), b"")
        return
    watch = asyncio.create_task(_until_gone(receive, frames))
    try:
        await _send_all(send, frames, headers)
    finally:
        frames.close()
        watch.cancel()


async def _until_gone(receive: Receive, frames: Relay) -> None:
    try:
        whole = False
        while (message := await receive())["type"] != "http.disconnect":
            if whole:
                # A middleware that repeats the body, and may do so for ever without a pause.
                log.warning("`receive` repeats the request: no browser is seen to leave")
                return
            whole = not message.get("more_body", False)
    except Exception:
        log.exception("`receive` failed: no browser is seen to leave")
        return
    frames.close()


async def _send_all(send: Send, frames: Relay, headers: RawHeaders) -> None:
    try:
        await frames.begin()
    except CfaiError as exc:
        refusal = Refusal.of(exc)
        await _whole(send, refusal.status, raw(refusal.headers), refusal.body)
        return
    start = {"type": "http.response.start", "status": 200, "headers": list(headers)}
    if not await reached(send(start)):
        return
    async for frame in frames:
        if not await reached(send({"type": _BODY, "body": frame, "more_body": True})):
            return
    note_failure(frames)
    await reached(send({"type": _BODY, "body": b"", "more_body": False}))


async def _whole(send: Send, status: int, headers: RawHeaders, body: bytes) -> None:
    start = {"type": "http.response.start", "status": status, "headers": list(headers)}
    if await reached(send(start)):
        await reached(send({"type": _BODY, "body": body}))
