"""What every framework's response is made of: a relay in the form that was asked for."""

from typing import Literal

from cfai._tokens import Relay, TokenStream
from cfai.errors import InputError
from cfai.web.refusal import log

Form = Literal["sse", "ndjson"]
"""Events for an `EventSource`, or lines of JSON."""


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


def note_failure(frames: Relay) -> None:
    """Log why a stream failed whose beginning was sent already: a browser was told less."""
    if frames.failure is not None:
        kind = type(frames.failure).__name__
        log.warning("a stream failed after its beginning: %s: %s", kind, frames.failure)
