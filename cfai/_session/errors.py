"""aiohttp's exceptions become ours here, where they enter."""

import os
from collections.abc import Callable
from typing import NoReturn

import aiohttp
from aiohttp.http_exceptions import ContentEncodingError

from cfai.errors import (
    CfaiError,
    ConnectError,
    ConnectionLost,
    DecodeError,
    InputError,
    Phase,
    RequestTimeout,
)

_HELP: dict[Phase, str] = {
    "connect": "no connection within {} s",
    "pool": "no connection became free within {} s: raise `limit`, or run fewer calls at once",
    "response": "no whole answer within {} s",
    "idle": "the stream was silent for {} s",
    "content": "the stream added nothing for {} s",
    "total": "the call was not done within its {} s in all",
}


def timed_out(phase: Phase, seconds: float | None) -> RequestTimeout:
    """The error for one of the limits of `Timeouts` that ran out."""
    limit = "the" if seconds is None else f"{seconds:g}"
    message = f"{_HELP[phase].format(limit)} (Timeouts.{phase})"
    return RequestTimeout(message, phase=phase, limit=seconds)


def meaning(exc: Exception) -> CfaiError:
    """What an exception of aiohttp means, time limits aside, in words that repeat no answer."""
    match exc:
        case aiohttp.InvalidURL():
            return InputError("base_url is no address that can be called")
        case aiohttp.ClientHttpProxyError():
            return ConnectError(f"the proxy refused the connection: {exc.status}")
        case aiohttp.ClientConnectorError() | aiohttp.ClientSSLError():
            return ConnectError(f"no connection: {exc}")
        case aiohttp.ClientResponseError():
            # Not a refusal, which never raises: the bytes that came are no HTTP.
            return DecodeError("the answer is no HTTP")
        case aiohttp.ClientPayloadError() if isinstance(exc.__cause__, ContentEncodingError):
            return DecodeError("the answer can't be decompressed: its bytes are not what it says")
        case aiohttp.ClientPayloadError():
            return ConnectionLost("the connection was lost inside the answer")
        case OSError() if exc.errno:
            return ConnectionLost(f"the connection was lost: {os.strerror(exc.errno)}")
    return ConnectionLost("the connection was lost before there was an answer")


def raise_for(exc: Exception, error: CfaiError) -> NoReturn:
    """Raise *error* for what aiohttp raised.

    aiohttp's own is handed on as the cause only where no connection was made. Others hold the
    address or the headers of the request, and with them the credentials, or pieces of the answer,
    which may repeat them: such a one isn't even left as the context.
    """
    if isinstance(exc, aiohttp.ClientConnectorError) or not isinstance(exc, aiohttp.ClientError):
        raise error from exc
    try:
        raise error from None
    finally:
        error.__context__ = None


def translation(
    exc: Exception, expired: Callable[[], CfaiError], connect: float | None
) -> CfaiError:
    """What an exception of aiohttp means, time limits included.

    Args:
        exc: What was raised while a request was sent or its answer was read.
        expired: Makes the error for the limit that is in force.
        connect: The limit for connecting, in seconds.
    """
    if isinstance(exc, aiohttp.ConnectionTimeoutError):
        return timed_out("connect", connect)
    return expired() if isinstance(exc, TimeoutError) else meaning(exc)
