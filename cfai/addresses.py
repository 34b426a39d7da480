"""Addresses that credentials may be sent to, and the proxy on the way there."""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from cfai.errors import ConfigError

__all__ = [
    "base_address",
    "is_loopback",
    "proxy_for",
]


def is_loopback(host: str | None) -> bool:
    """Whether *host* names this machine and nothing else."""
    if host is None:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


_ADDRESS = re.compile(r"[\x21-\x7e]+")


def _address(what: str, url: str) -> SplitResult:
    """The parts of an http or https address. It may hold a password, so no message shows it."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        if usable and _ADDRESS.fullmatch(url):
            return parts
    except (AttributeError, TypeError, ValueError):
        pass  # No text, no port or no host at all.
    raise ConfigError(f"{what} must be an http:// or https:// address with a host")


def base_address(url: str, *, allow_insecure: bool) -> str:
    """Refuse, with a `ConfigError`, an address that credentials can't be sent to."""
    parts = _address("base_url", url)
    if "@" in parts.netloc:
        raise ConfigError("base_url must not hold a user name or password")
    # An empty query or fragment, too, would swallow the path that follows it.
    if "?" in url or "#" in url:
        raise ConfigError("base_url must not have a query or fragment")
    if parts.scheme == "http" and not allow_insecure and not is_loopback(parts.hostname):
        raise ConfigError(
            f"base_url would send the credentials unencrypted to {parts.hostname}:"
            " use https://, or allow_insecure=True"
        )
    return url.rstrip("/")


def proxy_for(given: str | None, base_url: str | None) -> str | None:
    """The proxy that was given, or the one that the environment names for *base_url*.

    Looked up once, here. aiohttp's own look-up (`trust_env`) goes through a thread twice for each
    request, which was measured to treble its cost, and lets a ~/.netrc break the call.
    """
    if given is None and base_url is not None:
        given = _environment_proxy(urlsplit(base_url))
    if given is not None:
        _address("a proxy", given)
    return given


def _environment_proxy(parts: SplitResult) -> str | None:
    # Another machine can't reach this one's loopback, and would be sent the credentials in clear.
    if is_loopback(parts.hostname):
        return None
    from urllib.request import getproxies_environment, proxy_bypass

    proxies = getproxies_environment()
    found = proxies.get(parts.scheme) or proxies.get("all")
    if not found or proxy_bypass(parts.netloc):
        return None
    # Environments name proxies by host and port alone, too, which curl and requests take for http.
    return found if "://" in found else f"http://{found}"
