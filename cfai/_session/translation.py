"""aiohttp's exceptions become ours here, where they enter."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import aiohttp

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


def _meaning(exc: Exception) -> CfaiError:
    match exc:
        case aiohttp.InvalidURL():
            return InputError("base_url is no address that can be called")
        case aiohttp.ClientHttpProxyError():
            return ConnectError(f"the proxy refused the connection: {exc.status} {exc.message}")
        case aiohttp.ClientConnectorError() | aiohttp.ClientSSLError():
            return ConnectError(f"no connection: {exc}")
        case aiohttp.ClientResponseError():
            # Not a refusal, which never raises: the bytes that came are no HTTP.
            return DecodeError(f"the answer is no HTTP: {exc.message}")
        case aiohttp.ClientPayloadError():
            return ConnectionLost(f"the connection was lost inside the answer: {exc}")
    return ConnectionLost(f"the connection was lost: {exc or type(exc).__name__}")


@contextmanager
def translated(expired: Callable[[], CfaiError], connect: float | None) -> Iterator[None]:
    """Raise what an exception of aiohttp means.

    Args:
        expired: Makes the error for the limit that is in force.
        connect: The limit for connecting, in seconds.
    """
    try:
        yield
    except aiohttp.ConnectionTimeoutError as exc:
        raise timed_out("connect", connect) from exc
    except TimeoutError as exc:
        raise expired() from exc
    except aiohttp.ClientResponseError as exc:
        # It holds the request's headers, and with them the credentials: it is not passed on.
        raise _meaning(exc) from None
    except (aiohttp.ClientError, ConnectionError) as exc:
        raise _meaning(exc) from exc
