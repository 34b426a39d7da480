"""Translates the exceptions of aiohttp into those of `cfai.errors`, where they enter."""

import os
from typing import NoReturn

import aiohttp
from aiohttp.http_exceptions import ContentEncodingError

from cfai._session.pool import ReusedConnectionLost
from cfai.errors import (
    CfaiError,
    ConnectError,
    ConnectionLost,
    DecodeError,
    InputError,
    Phase,
    RequestTimeout,
)

_TIMEOUT_MESSAGES: dict[Phase, str] = {
    "connect": "no connection within {} s",
    "pool": "no free connection within {} s: raise `limit`, or run fewer calls at once",
    "response": "no complete answer within {} s",
    "idle": "the stream sent nothing for {} s",
    "content": "the stream sent no content for {} s",
    "total": "the call took longer than {} s in total",
}


def timeout_error(phase: Phase, seconds: float | None) -> RequestTimeout:
    """The error for one of the limits of `Timeouts`, set to *seconds*, that was exceeded."""
    limit = "the set number of" if seconds is None else f"{seconds:g}"
    message = f"{_TIMEOUT_MESSAGES[phase].format(limit)} (Timeouts.{phase})"
    return RequestTimeout(message, phase=phase, limit=seconds)


def translate_error(exc: Exception) -> CfaiError:
    """The error for an exception of aiohttp other than a timeout. It repeats no part of an answer.

    The exception was raised while a request was sent or its response was read.
    """
    match exc:
        case ReusedConnectionLost(__cause__=Exception() as cause):
            return translate_error(cause)
        case aiohttp.InvalidURL():
            return InputError("base_url is not a valid address")
        case aiohttp.ClientHttpProxyError():
            return ConnectError(f"the proxy refused the connection: {exc.status}")
        case aiohttp.ClientConnectorError() | aiohttp.ClientSSLError():
            return ConnectError(f"cannot connect: {exc}")
        case aiohttp.ClientResponseError():
            # Not an error response, which aiohttp does not raise: the bytes received are not HTTP.
            return DecodeError("the answer is not valid HTTP")
        case aiohttp.ClientPayloadError() if isinstance(exc.__cause__, ContentEncodingError):
            return DecodeError("the answer cannot be decompressed: it does not match its encoding")
        case aiohttp.ClientPayloadError():
            return ConnectionLost("the connection was lost in the middle of the answer")
        case OSError() if exc.errno:
            return ConnectionLost(f"the connection was lost: {os.strerror(exc.errno)}")
    return ConnectionLost("the connection was lost before an answer arrived")


def raise_error(exc: Exception, error: CfaiError) -> NoReturn:
    """Raise *error* in place of *exc*, an exception of aiohttp.

    Only errors of connecting stay attached as the cause. The others hold the URL or the headers of
    the request, and with them the credentials, or parts of an answer that may repeat them, so they
    are not even kept as the context.
    """
    if isinstance(exc, aiohttp.ClientConnectorError) or not isinstance(exc, aiohttp.ClientError):
        raise error from exc
    try:
        raise error from None
    finally:
        error.__context__ = None
