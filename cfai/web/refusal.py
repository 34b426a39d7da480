"""What a web app answers if there is no stream to send, and what its framework adapters share."""

import logging
from collections.abc import Awaitable, Mapping
from math import ceil
from typing import Self

from attrs import frozen

from cfai._types.json import dumps
from cfai.errors import (
    BadRequest,
    BudgetExceeded,
    CfaiError,
    ConfigError,
    InputError,
    MissingExtra,
    QuotaExceeded,
    RateLimited,
    RequestTimeout,
    RequestTooLarge,
    ServiceTimeout,
)
from cfai.streaming.relay import LOGGER, Relay, error_frame, is_pool_timeout, retry_after

__all__ = ["Refusal"]

_STATUSES: tuple[tuple[type[CfaiError], int], ...] = (
    (BudgetExceeded, 503),
    (InputError, 400),
    (BadRequest, 400),
    (RequestTooLarge, 413),
    (RateLimited, 429),
    # Not 429: a client that retries after a short delay would go on for the rest of the day.
    (QuotaExceeded, 503),
    (RequestTimeout, 504),
    (ServiceTimeout, 504),
    (ConfigError, 500),
    (MissingExtra, 500),
)
_BUSY = 503
_OTHER = 502
"""The service's own status (401, say) is about the app's account and would mislead a browser."""

LAST_EVENT_ID = "last-event-id"
"""The header with which an `EventSource` reconnects after it lost its connection.

The rest of that answer is gone. A second answer would be billed, and appended to the half that is
shown. So the response is 204 (No Content), which makes an `EventSource` stop.
Source: WHATWG HTML, 9.2.3, "Processing model".
"""

NO_CONTENT = 204
NO_STORE = {"cache-control": "no-store"}


@frozen
class Refusal:
    """The response to a browser if a stream did not begin.

    The body is `{"error": …, "message": …}`, with `retry_after` if that is known. Errors about the
    app's own account or configuration get a general message.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def of(cls, error: CfaiError) -> Self:
        """Build the response to *error*, and log the error in full (logger `cfai.web`)."""
        status = next((code for kind, code in _STATUSES if isinstance(error, kind)), _OTHER)
        if is_pool_timeout(error):
            status = _BUSY
        headers = {"content-type": "application/json", **NO_STORE}
        if (seconds := retry_after(error)) is not None:
            headers["retry-after"] = str(ceil(seconds))
        level = logging.WARNING if status >= 500 else logging.INFO
        LOGGER.log(level, "answered with %d: %s: %s", status, type(error).__name__, error)
        return cls(status, headers, dumps(error_frame(error)))


def response_headers(relay: Relay, headers: Mapping[str, str] | None) -> dict[str, str]:
    """The relay's headers in lower case, overridden and extended by the app's own."""
    extra = {name.lower(): value for name, value in (headers or {}).items()}
    return {**relay.headers, **extra}


async def try_write(write: Awaitable[object]) -> bool:
    """Await *write*; `False` if the browser is gone.

    aiohttp then raises a `ConnectionError`, and ASGI since version 2.4 any `OSError`.
    """
    try:
        await write
    except OSError as exc:
        # aiohttp's frames hold the future they waited at, which holds the error: a cycle, and since
        # Python 3.12 it keeps the frames of the app's handler as well, with all they refer to.
        exc.__traceback__ = None
        return False
    return True


def log_failure(relay: Relay) -> None:
    """Log in full why a stream failed after its response had begun."""
    if relay.failure is not None:
        kind = type(relay.failure).__name__
        LOGGER.warning("a stream failed after its beginning: %s: %s", kind, relay.failure)
