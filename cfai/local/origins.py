"""Which web pages can use the server: its own origin, and those that the user names."""

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from aiohttp import web

from cfai.errors import ConfigError
from cfai.local import errors

_METHODS = "GET, POST, OPTIONS"
_MAX_AGE = "600"
"""For how long a browser keeps the answer to a preflight, in seconds."""


def read_origins(texts: Iterable[str]) -> frozenset[str]:
    """Check the origins that a user names.

    Raises:
        ConfigError: One is not an origin, such as `http://localhost:5173`.
    """
    origins = frozenset(texts)
    for origin in origins:
        parts = urlsplit(origin)
        is_origin = parts.scheme in ("http", "https") and parts.hostname and parts.username is None
        if not is_origin or origin != f"{parts.scheme}://{parts.netloc}":
            raise ConfigError(
                f"cors must be an origin, such as http://localhost:5173, got {origin[:60]!r}"
            )
    return origins


def check_origin(request: web.Request, allowed: frozenset[str]) -> None:
    """Reject requests from web pages of other origins, including rebound host names.

    Raises:
        ApiError: The page is of another origin, or the host is not a name of this machine.
    """
    own = f"http://{request.host}"
    origin = request.headers.get("Origin", own)
    try:
        host = urlsplit(f"//{request.host}").hostname or ""
    except ValueError:
        host = ""
    if not is_loopback(host) or (origin != own and origin not in allowed):
        raise errors.forbidden_origin()


def answer_preflight(request: web.Request, allowed: frozenset[str]) -> web.Response | None:
    """Answer a browser that asks whether a page may send a request; `None` for other requests."""
    asks = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
    if not asks or request.headers.get("Origin") not in allowed:
        return None
    headers = {
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Allow-Headers": request.headers.get("Access-Control-Request-Headers", ""),
        "Access-Control-Max-Age": _MAX_AGE,
        # Chrome asks for this before a page sends requests to this machine.
        "Access-Control-Allow-Private-Network": "true",
    }
    return web.Response(status=204, headers=headers)


def add_cors_headers(
    request: web.BaseRequest, response: web.StreamResponse, allowed: frozenset[str]
) -> None:
    """Let a page of an allowed origin read the response."""
    origin = request.headers.get("Origin")
    if origin in allowed:
        response.headers["Access-Control-Allow-Origin"] = origin or ""
        response.headers["Access-Control-Expose-Headers"] = "*"
    if allowed:
        response.headers["Vary"] = "Origin"


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach *host*, a name or an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
