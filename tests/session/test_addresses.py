"""Addresses: which ones credentials may be sent to, and the proxy on the way."""

from typing import Any

import pytest

from cfai import WorkersAI
from cfai._session.addresses import is_loopback
from cfai.errors import ConfigError
from cfai.settings import CLOUDFLARE, Settings

pytestmark = pytest.mark.usefixtures("empty_environment")

TOKEN = "v1.0-s3cr3t-t0ken"  # noqa: S105  # made up


def settings(**arguments: Any) -> Settings:
    """The settings of a client with these arguments."""
    return WorkersAI(**{"account_id": "acc", "api_token": TOKEN} | arguments)._settings


# Addresses


@pytest.mark.parametrize(
    "url",
    [
        "https://api.cloudflare.com/client/v4",
        "https://127.0.0.1.evil.com/v4",
        "http://127.0.0.1:8000",
        "http://127.9.9.9:8000",
        "http://[::1]:8000/client/v4",
        "http://localhost",
        "http://LOCALHOST:8000",
        "HTTP://localhost:8000",
    ],
)
def test_safe_addresses_are_accepted(url: str) -> None:
    """Encrypted ones, and plain http to this machine."""
    assert settings(base_url=url).base_url == url


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1.evil.com",
        "localhost.evil.com",
        "evil-localhost",
        "localhost.",
        "0.0.0.0",  # noqa: S104  # refused
        "[::]",
        "[::ffff:10.0.0.1]",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1%2eevil.com",
        "10.0.0.1",
        "169.254.169.254",
        "api.cloudflare.com",
        "ｌocalhost",
        "①27.0.0.1",
    ],
)
def test_plain_http_to_another_machine_is_refused(host: str) -> None:
    """Credentials are never sent unencrypted, however the host is written."""
    with pytest.raises(ConfigError, match="base_url") as caught:
        settings(base_url=f"http://{host}/client/v4")
    assert TOKEN not in str(caught.value)


def test_plain_http_can_be_allowed() -> None:
    """With `allow_insecure` only."""
    url = "http://10.0.0.1:8000/v4"
    with pytest.raises(ConfigError, match="allow_insecure=True"):
        settings(base_url=url)
    assert settings(base_url=url, allow_insecure=True).base_url == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "/",
        "api.cloudflare.com/client/v4",
        "//api.cloudflare.com",
        "ftp://api.cloudflare.com",
        "file:///etc/passwd",
        "ws://localhost",
        "https://",
        "https:///client/v4",
        "https://:443",
        "https://user@api.cloudflare.com",
        "https://user:pass@api.cloudflare.com",
        "https://:@api.cloudflare.com",
        "https://@api.cloudflare.com",
        "http://127.0.0.1@evil.com",
        "http://127.0.0.1\\@evil.com",
        "http://127.0.0.1:pass@evil.com:80",
        "https://api.cloudflare.com/v4?",
        "https://api.cloudflare.com/v4?a=b",
        "https://api.cloudflare.com/v4#",
        "https://api.cloudflare.com/v4#a",
        "https://api.cloudflare.com:99999",
        "https://api.cloudflare.com:port",
        "https://api.cloudflare.com:0",
        "https://[::1",
        "https://api.cloudflare.com/v4\n",
        "https://api.cloudflare.com/v4\r\nX-Evil: 1",
        "https://api.cloudflare.com/a b",
        " https://api.cloudflare.com",
        "http://127.0.0.1\n.evil.com",
        "http://127.0.0.1\t.evil.com",
        "https://api.cloudflare.com/ü",
        b"https://api.cloudflare.com",
        80,
    ],
)
def test_invalid_addresses_are_refused(url: Any) -> None:
    """An address is http or https, with a host, and has nothing after its path."""
    with pytest.raises(ConfigError, match="base_url"):
        settings(base_url=url)


def test_the_base_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument, else the environment, else Cloudflare's; without slashes at the end."""
    assert settings().base_url == CLOUDFLARE
    monkeypatch.setenv("CLOUDFLARE_BASE_URL", "http://localhost:1/")
    assert settings().base_url == "http://localhost:1"
    assert settings(base_url="https://other.example//").base_url == "https://other.example"
    monkeypatch.setenv("CLOUDFLARE_BASE_URL", "http://evil.example")
    with pytest.raises(ConfigError, match="unencrypted"):
        settings()


@pytest.mark.parametrize(
    ("host", "is_this_machine"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("::1", True),
        (None, False),
        ("", False),
        ("0.0.0.0", False),  # noqa: S104  # not taken for it
        ("::", False),
        ("127.0.0.1.evil.com", False),
        ("127.0.0.1 ", False),
    ],
)
def test_is_loopback(host: str | None, is_this_machine: bool) -> None:
    """Only for hosts that cannot be another machine."""
    assert is_loopback(host) is is_this_machine


# Proxies


PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("environment", "url", "used"),
    [
        ({}, CLOUDFLARE, None),
        ({"HTTPS_PROXY": PROXY}, CLOUDFLARE, PROXY),
        ({"https_proxy": PROXY}, CLOUDFLARE, PROXY),
        ({"HTTP_PROXY": PROXY}, CLOUDFLARE, None),
        ({"ALL_PROXY": PROXY}, CLOUDFLARE, PROXY),
        ({"HTTPS_PROXY": "proxy.example:3128"}, CLOUDFLARE, PROXY),
        ({"HTTPS_PROXY": ""}, CLOUDFLARE, None),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "api.cloudflare.com"}, CLOUDFLARE, None),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": ".cloudflare.com"}, CLOUDFLARE, None),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "*"}, CLOUDFLARE, None),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "other.example"}, CLOUDFLARE, PROXY),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "a.example:1"}, "https://a.example:1", None),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "a.example:1"}, "https://a.example:2", PROXY),
        ({"HTTP_PROXY": PROXY}, "http://far.example", PROXY),
        ({"HTTPS_PROXY": PROXY}, "http://far.example", None),
        # A proxy could not reach this machine's loopback, and would receive the credentials.
        ({"HTTP_PROXY": PROXY}, "http://127.0.0.1:8000", None),
        ({"HTTP_PROXY": PROXY}, "http://localhost:8000", None),
        ({"ALL_PROXY": PROXY}, "http://[::1]:8000", None),
    ],
)
def test_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], url: str, used: str | None
) -> None:
    """The one for the scheme of the address, unless `NO_PROXY` excludes the host."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert settings(base_url=url, allow_insecure=True).proxy == used


def test_the_proxy_argument_overrides_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Including `NO_PROXY`, and also for the loopback."""
    monkeypatch.setenv("HTTPS_PROXY", "http://other.example")
    monkeypatch.setenv("NO_PROXY", "*")
    assert settings(proxy=PROXY).proxy == PROXY
    own = "http://localhost:3128"
    assert settings(proxy=own, base_url="http://127.0.0.1:1").proxy == own


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:1", "http://localhost", "http://[::1]:80"])
@pytest.mark.parametrize("proxy", [PROXY, "https://proxy.example", "http://10.0.0.1:3128"])
def test_a_proxy_elsewhere_gets_no_credentials_for_an_unencrypted_address(
    base_url: str, proxy: str
) -> None:
    """A request to an http:// address is not tunnelled, not even if it is this machine's."""
    with pytest.raises(ConfigError, match="proxy would send the credentials unencrypted to"):
        settings(proxy=proxy, base_url=base_url)
    assert settings(proxy=proxy, base_url=base_url, allow_insecure=True).proxy == proxy
    assert settings(proxy=proxy, base_url="https://a.example").proxy == proxy


@pytest.mark.parametrize(
    "proxy", ["", "socks5://me:s3cr3t@a.example", "proxy:3128", "http://", "http://me:s3cr3t@"]
)
def test_invalid_proxies_are_refused(proxy: str) -> None:
    """Only http and https are supported; the message contains no password."""
    with pytest.raises(ConfigError, match="proxy") as caught:
        settings(proxy=proxy)
    assert "s3cr3t" not in str(caught.value)


def test_an_unsupported_proxy_of_the_environment_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not silently ignored."""
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    with pytest.raises(ConfigError, match="proxy"):
        settings()


# Hosts (RFC 1035, section 2.3.4: 63 characters in a label, 253 in a name)

LONGEST = ".".join(["a" * 63] * 3 + ["a" * 61])


@pytest.mark.parametrize(
    "host",
    [
        "a",
        "a" * 63 + ".example",
        LONGEST,
        f"{LONGEST}.",
        "my_host-1.example.",
        "1.example",
        "127.0.0.1",
        "127.0.0.1:8000",
        "a.example:",
        "a.example:1",
        "a.example:65535",
        "[2001:db8::1]",
        "[2001:db8::1]:8000",
    ],
)
def test_hosts_of_any_form_are_accepted(host: str) -> None:
    """For the base URL and for a proxy, with a user or without."""
    assert settings(base_url=f"https://{host}/v4").base_url == f"https://{host}/v4"
    for proxy in (f"https://{host}", f"http://user:pass@{host}"):
        assert settings(proxy=proxy).proxy == proxy


@pytest.mark.parametrize(
    "host",
    [
        "a" * 64 + ".example",
        LONGEST + "a",
        "a..example",
        ".example",
        "a.example..",
        "a b.example",
        "a!.example",
        "1.2.3",
        "2130706433",
        "1.2.3.4.5",
        "256.1.1.1",
        "a.example:65536",
        "a.example:-1",
        "a.example:1:2",
        "[2001:db8::g]",
        "[2001:db8::1]x",
        "[127.0.0.1]",
        "[]",
        "2001:db8::1",
    ],
)
def test_what_is_no_host_is_refused(host: str) -> None:
    """Before a resolver reads it in its own way."""
    with pytest.raises(ConfigError, match="base_url must be an http:// or https:// address"):
        settings(base_url=f"https://{host}/v4")
    with pytest.raises(ConfigError, match="proxy must be an http:// or https:// address"):
        settings(proxy=f"http://user:pass@{host}")


@pytest.mark.parametrize(
    ("host", "is_this_machine"),
    [("a.localhost", True), ("a.b.localhost", True), ("alocalhost", False), ("localhost.a", False)],
)
def test_names_under_localhost_are_this_machine(host: str, is_this_machine: bool) -> None:
    """RFC 6761, section 6.3."""
    assert is_loopback(host) is is_this_machine


@pytest.mark.parametrize("proxy", ["socks5://p.example:1", "SOCKS4://p.example", "socks5h://p"])
def test_a_socks_proxy_needs_a_session(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    with pytest.raises(ConfigError, match=r"^proxy names a SOCKS proxy"):
        settings(proxy=proxy)
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(ConfigError, match=r"^ALL_PROXY names a SOCKS proxy"):
        settings()
