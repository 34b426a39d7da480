"""Token streams as responses of aiohttp's web server."""

import asyncio
from collections.abc import Callable, Mapping

from aiohttp import web
from aiohttp.typedefs import Handler

from cfai.errors import CfaiError
from cfai.streaming.relay import Relay, RelayProtocol, RelaySource, build_relay
from cfai.web.refusal import (
    LAST_EVENT_ID,
    NO_CONTENT,
    NO_STORE,
    Refusal,
    log_failure,
    response_headers,
    try_write,
)

__all__ = ["refusals", "relay"]


async def relay(
    request: web.Request,
    answer: RelaySource,
    *,
    protocol: RelayProtocol = "sse",
    retry: int | None = 3000,
    keep_alive: float = 15.0,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """Answer *request* with a stream, token by token: `return await relay(request, tokens)`.

    A slow browser slows the model's stream; one that goes away ends it at once. A stream that
    fails before its first token gets a status of its own, see `Refusal`; one that fails later ends
    with an `error`. An `EventSource` that lost its connection and reconnects (`Last-Event-ID`) gets
    204, which stops it, and nothing is generated again.

    Args:
        request: The request to answer.
        answer: A stream or a tool run that nobody reads yet: `ai.stream(...)`, or
            `ai.run_tools(..., stream=True)`.
        protocol: `"sse"` for an `EventSource`, `"ndjson"` for lines of JSON, `"ai-sdk"` for the
            AI SDK's `useChat`.
        retry: Milliseconds after which an `EventSource` reconnects; `None`: the browser decides.
        keep_alive: Seconds of silence after which a keep-alive is sent, repeatedly.
        headers: Headers of the response, in addition to or in place of the default ones.
    """
    stream_relay = build_relay(answer, protocol, retry=retry, keep_alive=keep_alive)
    response = web.StreamResponse(headers=response_headers(stream_relay, headers))
    if request.method == "HEAD":
        return response
    if LAST_EVENT_ID in request.headers:
        return web.Response(status=NO_CONTENT, headers=NO_STORE)
    hook = _DisconnectHook(request.transport, stream_relay.close)
    try:
        return await _send(request, stream_relay, response)
    finally:
        hook.remove()
        stream_relay.close()


async def _send(
    request: web.Request, stream_relay: Relay, response: web.StreamResponse
) -> web.StreamResponse:
    try:
        await stream_relay.begin()
    except CfaiError as exc:
        return _refusal_response(exc)
    if not await try_write(response.prepare(request)):
        return response
    async for frame in stream_relay:
        if not await try_write(response.write(frame)):
            return response
    log_failure(stream_relay)
    return response


def _refusal_response(error: CfaiError) -> web.Response:
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
        return _refusal_response(exc)


class _DisconnectHook(asyncio.Protocol):
    """Calls *on_disconnect* as soon as the browser goes away, even if nothing is being written.

    aiohttp cancels a handler only if the whole app asks for it (`handler_cancellation`). This
    protocol wraps aiohttp's own and passes every event on to it.
    """

    def __init__(
        self, transport: asyncio.Transport | None, on_disconnect: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._on_disconnect = on_disconnect
        if transport is None or transport.is_closing():
            on_disconnect()
            return
        inner = transport.get_protocol()
        if isinstance(inner, asyncio.Protocol):
            self._inner = inner
            transport.set_protocol(self)

    def remove(self) -> None:
        """Give the connection back to aiohttp, for its next request."""
        transport = self._transport
        # A closing connection has no next request, and over TLS no protocol either.
        if transport is None or transport.is_closing():
            return
        if transport.get_protocol() is self:
            transport.set_protocol(self._inner)

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)
        self._on_disconnect()

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()
