"""Token streams as responses of Starlette, and so of FastAPI. Importing this needs Starlette."""

from collections.abc import Mapping

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cfai.errors import CfaiError
from cfai.streaming.stream import TokenStream
from cfai.web import asgi
from cfai.web._relaying import Form, headers_of, relay_of
from cfai.web.refusal import Refusal


class TokenResponse(Response):
    """Answers with a stream, token by token: `return TokenResponse(ai.stream(...))`.

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
        background: What is run when the stream is over, or the browser is gone.
    """

    def __init__(
        self,
        tokens: TokenStream,
        *,
        form: Form = "sse",
        retry: int | None = 3000,
        keep_alive: float = 15.0,
        headers: Mapping[str, str] | None = None,
        background: BackgroundTask | None = None,
    ) -> None:
        self._frames = relay_of(tokens, form, retry=retry, keep_alive=keep_alive)
        super().__init__(headers=headers_of(self._frames, headers), background=background)
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream, until its end or the browser's."""
        await asgi.respond(scope, receive, send, self._frames, self.raw_headers)
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
