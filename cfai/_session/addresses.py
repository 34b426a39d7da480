"""Checks the addresses that credentials are sent to, and finds the proxy on the way."""

import ipaddress
import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

from cfai.errors import ConfigError

_PRINTABLE: Final = re.compile(r"[\x21-\x7e]+")
_HOST_AND_PORT: Final = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<host>[^\[\]:]+))(?::[0-9]*)?")
_LABEL: Final = re.compile(r"[A-Za-z0-9_-]{1,63}")
_LONGEST_HOST: Final = 253
"""Characters."""


def is_loopback(host: str | None) -> bool:
    """Whether *host* is this machine."""
    if host is None:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_base_url(url: str, *, allow_insecure: bool) -> str:
    """Check that credentials can be sent to *url*; returns it without slashes at the end.

    Raises:
        ConfigError: It is not a usable address, or it would send the credentials unencrypted.
    """
    parts = _split_address("base_url", url)
    if "@" in parts.netloc:
        raise ConfigError("base_url must not contain a user name or password")
    # An empty query or fragment is invalid, too: it would swallow the path that is appended.
    if "?" in url or "#" in url:
        raise ConfigError("base_url must not have a query or fragment")
    if parts.scheme == "http" and not allow_insecure and not is_loopback(parts.hostname):
        raise ConfigError(
            f"base_url would send the credentials unencrypted to {parts.hostname}:"
            " use https://, or allow_insecure=True"
        )
    return url.rstrip("/")


def resolve_proxy(
    proxy: str | None, base_url: str, *, use_environment: bool, allow_insecure: bool
) -> str | None:
    """*proxy*, or if it is `None` the proxy that the environment names for *base_url*.

    The environment is read once, here. aiohttp's own look-up (`trust_env`) uses a thread twice per
    request, which triples the cost of a request, and a ~/.netrc can break the call.

    Raises:
        ConfigError: The proxy is not a usable address, or it would get the credentials unencrypted.
    """
    name, parts = "proxy", urlsplit(base_url)
    if proxy is None and use_environment:
        name, proxy = _environment_proxy(parts)
    if proxy is None:
        return None
    if str(proxy).lower().startswith("socks"):
        raise ConfigError(
            f"{name} names a SOCKS proxy, which needs a session of yours: install aiohttp-socks,"
            " and pass session=aiohttp.ClientSession(connector=ProxyConnector.from_url(…))"
        )
    host = _split_address(name, proxy).hostname
    # A request to an http:// address is not tunnelled: the proxy reads its headers.
    if parts.scheme == "http" and not allow_insecure and not is_loopback(host):
        raise ConfigError(
            f"{name} would send the credentials unencrypted to {host}, because base_url is an"
            " http:// address: omit the proxy, or use https:// or allow_insecure=True"
        )
    return proxy


def _split_address(name: str, url: str) -> SplitResult:
    """The parts of an http or https address. It may contain a password, so no message shows it."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.port != 0
        if usable and _PRINTABLE.fullmatch(url) and _is_host(parts.netloc.rpartition("@")[2]):
            return parts
    except (AttributeError, TypeError, ValueError):
        pass  # Not a string, or the port or the host is not valid.
    raise ConfigError(f"{name} must be an http:// or https:// address with a host")


def _is_host(text: str) -> bool:
    """Whether a text is a host name or an IP address, with or without a port."""
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None:
        return False
    if match["ipv6"] is not None:
        ipaddress.IPv6Address(match["ipv6"])
        return True
    host = match["host"].removesuffix(".")
    labels = host.split(".")
    if labels[-1].isdecimal():
        # Resolvers read 127.1 and 2130706433 as addresses, which lists of allowed hosts miss.
        ipaddress.IPv4Address(host)
    # RFC 1035, section 2.3.4.
    return len(host) <= _LONGEST_HOST and all(map(_LABEL.fullmatch, labels))


def _environment_proxy(parts: SplitResult) -> tuple[str, str | None]:
    """The variable that names the proxy for an address, and its value if there is a proxy."""
    # A proxy cannot reach the loopback of this machine, and would get the credentials in clear.
    if is_loopback(parts.hostname):
        return "", None
    from urllib.request import getproxies_environment, proxy_bypass

    proxies = getproxies_environment()
    kind = parts.scheme if proxies.get(parts.scheme) else "all"
    proxy = proxies.get(kind)
    if not proxy or proxy_bypass(parts.netloc):
        return "", None
    # Environments may name a proxy by host and port only, which curl and requests take for http.
    return f"{kind.upper()}_PROXY", proxy if "://" in proxy else f"http://{proxy}"
