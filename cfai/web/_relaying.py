"""What every framework's response is made of: a relay in the form that was asked for."""

from collections.abc import Awaitable, Mapping
from typing import Literal

from cfai.errors import InputError
from cfai.streaming.relay import Relay
from cfai.streaming.stream import TokenStream
from cfai.web.refusal import log

Form = Literal["sse", "ndjson"]
"""Events for an `EventSource`, or lines of JSON."""

RESUMING = "last-event-id"
"""The header of an `EventSource` that lost its connection in the middle, and connects anew.

The rest of that answer is gone. To begin again would write, and bill, another one behind the half
that is shown, so this is answered with 204, which tells an `EventSource` to stop.
Source: WHATWG HTML, 9.2.3, "Processing model".
"""

NO_CONTENT = 204
UNKEPT = {"cache-control": "no-store"}


def relay_of(tokens: TokenStream, form: Form, *, retry: int | None, keep_alive: float) -> Relay:
    """The relay that sends *tokens* on in a form.

    Raises:
        InputError: There is no such form, or a number is out of its bounds.
    """
    if form == "sse":
        return tokens.sse(retry=retry, keep_alive=keep_alive)
    if form == "ndjson":
        return tokens.ndjson(keep_alive=keep_alive)
    raise InputError(f'form must be "sse" or "ndjson", got {form!r}')


def headers_of(frames: Relay, headers: Mapping[str, str] | None) -> dict[str, str]:
    """What the answer needs, and what the app adds or has otherwise, however it is written."""
    own = {name.lower(): value for name, value in (headers or {}).items()}
    return {**frames.headers, **own}


async def reached(writing: Awaitable[object]) -> bool:
    """Write, and tell whether somebody is there to read it.

    Where nobody is, aiohttp raises a `ConnectionError`, and ASGI since version 2.4 any `OSError`.
    """
    try:
        await writing
    except OSError:
        return False
    return True


def note_failure(frames: Relay) -> None:
    """Log why a stream failed whose beginning was sent already: a browser was told less."""
    if frames.failure is not None:
        kind = type(frames.failure).__name__
        log.warning("a stream failed after its beginning: %s: %s", kind, frames.failure)
