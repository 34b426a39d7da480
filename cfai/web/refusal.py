"""An error of the SDK as the answer of a web app: a status, headers, and a JSON object."""

import logging
from collections.abc import Mapping
from math import ceil
from typing import Self

from attrs import frozen

from cfai._types.json import dumps
from cfai.errors import (
    BadRequest,
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
from cfai.streaming.frames import is_full, told, wait

log: logging.Logger = logging.getLogger("cfai.web")

_STATUSES: tuple[tuple[type[CfaiError], int], ...] = (
    (InputError, 400),
    (BadRequest, 400),
    (RequestTooLarge, 413),
    (RateLimited, 429),
    # No 429: a client that waits for a moment and asks again would do so for the rest of the day.
    (QuotaExceeded, 503),
    (RequestTimeout, 504),
    (ServiceTimeout, 504),
    (ConfigError, 500),
    (MissingExtra, 500),
)
_FULL = 503
_OTHERWISE = 502
"""What the service said to the app's account (401, say) would mean something else to a browser."""


def _status(error: CfaiError) -> int:
    if is_full(error):
        return _FULL
    return next((code for kind, code in _STATUSES if isinstance(error, kind)), _OTHERWISE)


@frozen
class Refusal:
    """What a browser is answered instead of a stream that did not begin.

    The body is `{"error": …, "message": …}`, and has `retry_after` where that is known. An error
    about the app's own account or set-up keeps its message to itself.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def of(cls, error: CfaiError) -> Self:
        """Make one of *error*, which is logged (`cfai.web`) in full."""
        status = _status(error)
        headers = {"content-type": "application/json", "cache-control": "no-store"}
        if (seconds := wait(error)) is not None:
            headers["retry-after"] = str(max(0, ceil(seconds)))
        level = logging.WARNING if status >= 500 else logging.INFO
        log.log(level, "answered with %d: %s: %s", status, type(error).__name__, error)
        return cls(status, headers, dumps(told(error)))
