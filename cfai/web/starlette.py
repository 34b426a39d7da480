"""Token streams as responses of Starlette and FastAPI. Importing this module needs Starlette."""

from collections.abc import Mapping

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cfai.errors import CfaiError
from cfai.streaming.relay import RelayProtocol, RelaySource, build_relay
from cfai.web import asgi
from cfai.web.refusal import Refusal, response_headers

__all__ = ["TokenResponse", "refusals"]


class TokenResponse(Response):
    """Answers with a stream, token by token: `return TokenResponse(ai.stream(...))`.

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
        background: Runs when the stream is over, or the browser is gone.
    """

    def __init__(
        self,
        answer: RelaySource,
        *,
        protocol: RelayProtocol = "sse",
        retry: int | None = 3000,
        keep_alive: float = 15.0,
        headers: Mapping[str, str] | None = None,
        background: BackgroundTask | None = None,
    ) -> None:
        self._relay = build_relay(answer, protocol, retry=retry, keep_alive=keep_alive)
        super().__init__(headers=response_headers(self._relay, headers), background=background)
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream until it ends or the browser leaves, then run *background*."""
        await asgi.respond(scope, receive, send, self._relay, self.raw_headers)
        if self.background is not None:
            await self.background()


async def refusals(request: Request, error: Exception) -> Response:
    """Answer errors of the SDK that an endpoint raises as `TokenResponse` does, with a `Refusal`.

    An exception handler: `FastAPI(exception_handlers={CfaiError: refusals})`.
    """
    if not isinstance(error, CfaiError):
        raise error
    refusal = Refusal.of(error)
    return Response(refusal.body, refusal.status, refusal.headers)
