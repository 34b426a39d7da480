"""Token streams as ASGI applications, for every framework that takes those as responses."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

from cfai.errors import CfaiError
from cfai.streaming.relay import LOGGER, Relay, RelayProtocol, RelaySource, build_relay
from cfai.web.refusal import (
    LAST_EVENT_ID,
    NO_CONTENT,
    NO_STORE,
    Refusal,
    log_failure,
    response_headers,
    try_write,
)

__all__ = ["TokenResponse", "respond"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
RawHeaders = Iterable[tuple[bytes, bytes]]

_BODY = "http.response.body"


class TokenResponse:
    """An ASGI application that answers one request with a stream, token by token.

    A slow browser slows the model's stream; one that goes away ends it at once. A stream that
    fails before its first token gets a status of its own, see `Refusal`; one that fails later ends
    with an `error`. An `EventSource` that lost its connection and reconnects (`Last-Event-ID`) gets
    204, which stops it, and nothing is generated again.

    Args:
        answer: A stream or a tool run that nobody reads yet: `ai.stream(...)`, or
            `ai.run_tools(..., stream=True)`.
        protocol: `"sse"` for an `EventSource`, `"ndjson"` for lines of JSON, `"ai-sdk"` for the
            AI SDK's `useChat`.
        retry: Milliseconds after which an `EventSource` reconnects; `None`: the browser decides.
        keep_alive: Seconds of silence after which a keep-alive is sent, repeatedly.
        headers: Headers of the response, in addition to or in place of the default ones.
    """

    def __init__(
        self,
        answer: RelaySource,
        *,
        protocol: RelayProtocol = "sse",
        retry: int | None = 3000,
        keep_alive: float = 15.0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._relay = build_relay(answer, protocol, retry=retry, keep_alive=keep_alive)
        self._headers = response_headers(self._relay, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream until it ends or the browser leaves."""
        await respond(scope, receive, send, self._relay, encode_headers(self._headers))


def encode_headers(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers in the form of ASGI."""
    pairs = headers.items()
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs]


async def respond(
    scope: Scope, receive: Receive, send: Send, relay: Relay, headers: RawHeaders
) -> None:
    """Answer a request with *relay* until it ends or the browser leaves."""
    if scope.get("method") == "HEAD":
        await _send_complete(send, 200, headers, b"")
        return
    if any(name.lower() == LAST_EVENT_ID.encode() for name, _ in scope.get("headers", ())):
        await _send_complete(send, NO_CONTENT, encode_headers(NO_STORE), b"")
        return
    watcher = asyncio.create_task(_close_on_disconnect(receive, relay))
    try:
        await _send_relay(send, relay, headers)
    finally:
        relay.close()
        watcher.cancel()


async def _close_on_disconnect(receive: Receive, relay: Relay) -> None:
    try:
        body_complete = False
        while (message := await receive())["type"] != "http.disconnect":
            if body_complete:
                # Some middleware repeats the body, possibly forever and without awaiting.
                LOGGER.warning("`receive` repeats the request: a disconnect would go unnoticed")
                return
            body_complete = not message.get("more_body", False)
    except Exception:
        LOGGER.exception("`receive` failed: a disconnect would go unnoticed")
        return
    relay.close()


async def _send_relay(send: Send, relay: Relay, headers: RawHeaders) -> None:
    try:
        await relay.begin()
    except CfaiError as exc:
        refusal = Refusal.of(exc)
        await _send_complete(send, refusal.status, encode_headers(refusal.headers), refusal.body)
        return
    start = {"type": "http.response.start", "status": 200, "headers": list(headers)}
    if not await try_write(send(start)):
        return
    async for frame in relay:
        if not await try_write(send({"type": _BODY, "body": frame, "more_body": True})):
            return
    log_failure(relay)
    await try_write(send({"type": _BODY, "body": b"", "more_body": False}))


async def _send_complete(send: Send, status: int, headers: RawHeaders, body: bytes) -> None:
    start = {"type": "http.response.start", "status": status, "headers": list(headers)}
    if await try_write(send(start)):
        await try_write(send({"type": _BODY, "body": body}))
