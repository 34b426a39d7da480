"""Translates the exceptions of aiohttp into those of `cfai.errors`, where they enter."""

import os
import re
from typing import Final, NoReturn

import aiohttp
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError

from cfai._wire.errors import LOGIN_ADVICE
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

_EXCERPT: Final = r"""(?<!\w)b?['"]|bytearray\("""
"""Where an excerpt of the answer begins in a message of aiohttp's parser; not in "can't"."""


class ReusedConnectionLost(aiohttp.ClientConnectionError):
    """A reused connection failed before any byte of an answer; the cause says how.

    The other side had probably dropped the connection while it was idle, so that the request never
    reached anybody.
    """


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
        case aiohttp.ClientHttpProxyError() | aiohttp.ClientConnectorError():
            return _translate_connect_error(exc)
        case aiohttp.ClientResponseError():
            # Not an error response, which aiohttp does not raise: the bytes received are not HTTP.
            return DecodeError(_describe_invalid(exc) + _reason(exc.message))
        case aiohttp.ClientPayloadError(__cause__=HttpProcessingError() as cause):
            return _translate_body_error(cause)
        case aiohttp.ClientPayloadError():
            return ConnectionLost("the connection was lost in the middle of the answer")
        case aiohttp.ServerDisconnectedError() if not isinstance(exc.message, str):
            return ConnectionLost("the connection was lost in the headers of the answer")
        case OSError() if exc.errno:
            return ConnectionLost(f"the connection was lost: {os.strerror(exc.errno)}")
    return ConnectionLost("the connection was lost before an answer arrived")


def _describe_invalid(exc: aiohttp.ClientResponseError) -> str:
    if isinstance(exc, aiohttp.WSServerHandshakeError):
        return "the service opened no valid WebSocket"
    if "content-encoding" in exc.message:
        return "the answer cannot be decompressed"
    if exc.message.startswith("Got more than"):
        return "a line of the headers is too long"
    return "the answer is not valid HTTP"


def _translate_connect_error(
    exc: aiohttp.ClientHttpProxyError | aiohttp.ClientConnectorError,
) -> ConnectError:
    match exc:
        case aiohttp.ClientHttpProxyError(status=407):
            return ConnectError(f"the proxy requires a login (407): {LOGIN_ADVICE}", permanent=True)
        case aiohttp.ClientHttpProxyError():
            return ConnectError(f"the proxy refused the connection: {exc.status}")
        case aiohttp.ClientConnectorCertificateError():
            return ConnectError(_describe_certificate_error(exc), permanent=True)
    return ConnectError(f"cannot connect: {exc}")


def _translate_body_error(exc: HttpProcessingError) -> CfaiError:
    reason = _reason(exc.message)
    if isinstance(exc, ContentEncodingError):
        problem = "the answer cannot be decompressed: it does not match its encoding"
        return DecodeError(problem + reason)
    if "Not enough data" in exc.message:
        return ConnectionLost(f"the connection was lost in the middle of the answer{reason}")
    return DecodeError(f"the body of the answer is not valid HTTP{reason}")


def _reason(message: str) -> str:
    """What aiohttp's parser said, without the excerpt of the answer at its end."""
    words, _, _ = re.split(_EXCERPT, message, maxsplit=1)[0].rstrip(" :.\n").partition("\n\n")
    return f" ({' '.join(words.split())})" if words else ""


def _describe_certificate_error(exc: aiohttp.ClientConnectorCertificateError) -> str:
    cause = exc.certificate_error
    reason = getattr(cause, "verify_message", None) or str(cause)
    return (
        f"cannot connect to {exc.host}: its certificate is not trusted ({reason}). If a proxy or a"
        " private CA issued it, set SSL_CERT_FILE to the file of that CA before the program starts,"
        " or pass ssl=ssl.create_default_context(cafile=…)"
    )


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
