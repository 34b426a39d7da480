"""Token streams as responses of aiohttp's web server."""

import asyncio
from collections.abc import Callable, Mapping

from aiohttp import web
from aiohttp.typedefs import Handler

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
from cfai.web.refusal import Refusal


async def relay(
    request: web.Request,
    tokens: TokenStream,
    *,
    form: Form = "sse",
    retry: int | None = 3000,
    keep_alive: float = 15.0,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """Answer *request* with a stream, token by token: `return await relay(request, tokens)`.

    A browser that is slow slows the model's stream; one that goes away ends it at once. A stream
    that fails before it said anything is answered with a status of its own, see `Refusal`; one
    that fails later ends with an `error`. An `EventSource` that was cut off and comes back
    (`Last-Event-ID`) is answered with 204, which stops it, and nothing is generated again.

    Args:
        request: What is answered.
        tokens: A stream that nobody reads yet: `ai.stream(...)`.
        form: `"sse"` for an `EventSource`, `"ndjson"` for lines of JSON.
        retry: Milliseconds after which an `EventSource` connects anew; `None` leaves that to it.
        keep_alive: Seconds of silence after which a sign of life is sent, again and again.
        headers: More headers, or others, for the answer.
    """
    frames = relay_of(tokens, form, retry=retry, keep_alive=keep_alive)
    response = web.StreamResponse(headers=headers_of(frames, headers))
    if request.method == "HEAD":
        return response
    if RESUMING in request.headers:
        return web.Response(status=NO_CONTENT, headers=UNKEPT)
    departure = _Departure(request.transport, frames.close)
    try:
        return await _send(request, frames, response)
    finally:
        departure.forget()
        frames.close()


async def _send(
    request: web.Request, frames: Relay, response: web.StreamResponse
) -> web.StreamResponse:
    try:
        await frames.begin()
    except CfaiError as exc:
        return _refused(exc)
    if not await reached(response.prepare(request)):
        return response
    async for frame in frames:
        if not await reached(response.write(frame)):
            return response
    note_failure(frames)
    return response


def _refused(error: CfaiError) -> web.Response:
    refusal = Refusal.of(error)
    return web.Response(status=refusal.status, headers=refusal.headers, body=refusal.body)


@web.middleware
async def refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer errors of the SDK that a handler raises as `relay` does, with a `Refusal`.

    A middleware: `web.Application(middlewares=[refusals])`.
    """
    try:
        return await handler(request)
    except CfaiError as exc:
        return _refused(exc)


class _Departure(asyncio.Protocol):
    """Hears at once when the browser goes, also while there is nothing to write.

    aiohttp tells a handler only where the whole app asks for it (`handler_cancellation`). So this
    stands between the connection and aiohttp's own protocol, to which it hands everything on.
    """

    def __init__(self, transport: asyncio.Transport | None, tell: Callable[[], None]) -> None:
        self._transport = transport
        self._tell = tell
        if transport is None or transport.is_closing():
            tell()
            return
        inner = transport.get_protocol()
        if isinstance(inner, asyncio.Protocol):
            self._inner = inner
            transport.set_protocol(self)

    def forget(self) -> None:
        """Leave the connection to aiohttp, for its next request."""
        transport = self._transport
        # One that is closing has no next request, and over TLS no protocol either.
        if transport is None or transport.is_closing():
            return
        if transport.get_protocol() is self:
            transport.set_protocol(self._inner)

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)
        self._tell()

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()
