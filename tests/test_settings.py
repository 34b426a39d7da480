"""What a client is told: credentials, addresses, limits, gateway, options. No socket in here."""

import math
from typing import Any

import pytest
from attrs import evolve

from cfai import WorkersAI
from cfai._session.addresses import is_loopback
from cfai._session.credentials import resolve_credentials
from cfai.errors import CfaiError, ConfigError, InputError
from cfai.settings import (
    CLOUDFLARE,
    Credentials,
    Gateway,
    Options,
    Retries,
    Settings,
    Timeouts,
)

TOKEN = "v1.0-s3cr3t-t0ken"  # noqa: S105  # made up
KEY = "c0ffee-gl0bal-key"
NAMES = (
    "CLOUDFLARE_ACCOUNT_ID",
    "CLOUDFLARE_API_TOKEN",
    "CLOUDFLARE_EMAIL",
    "CLOUDFLARE_API_KEY",
    "CLOUDFLARE_BASE_URL",
    "CLOUDFLARE_GATEWAY_ID",
    "CF_ACCOUNT_ID",
    "CF_API_TOKEN",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
)


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def settings(**given: Any) -> Settings:
    """What a client makes of its arguments."""
    return WorkersAI(**{"account_id": "acc", "api_token": TOKEN} | given)._settings


def made(kind: type[Any], **fields: Any) -> Any:
    return kind("name", **fields) if kind is Gateway else kind(**fields)


# Credentials


@pytest.mark.parametrize(
    ("given", "environment", "sent"),
    [
        pytest.param(
            {"api_token": TOKEN}, {}, {"Authorization": f"Bearer {TOKEN}"}, id="a token is given"
        ),
        pytest.param(
            {"api_email": "a@b.c", "api_key": KEY},
            {},
            {"X-Auth-Email": "a@b.c", "X-Auth-Key": KEY},
            id="email and key are given",
        ),
        pytest.param(
            {"api_token": TOKEN, "api_email": "a@b.c", "api_key": KEY},
            {},
            {"Authorization": f"Bearer {TOKEN}"},
            id="of both, the token wins",
        ),
        pytest.param(
            {},
            {"CLOUDFLARE_API_TOKEN": TOKEN},
            {"Authorization": f"Bearer {TOKEN}"},
            id="a token in the environment",
        ),
        pytest.param(
            {},
            {"CLOUDFLARE_EMAIL": "a@b.c", "CLOUDFLARE_API_KEY": KEY},
            {"X-Auth-Email": "a@b.c", "X-Auth-Key": KEY},
            id="email and key in the environment",
        ),
        pytest.param(
            {},
            {
                "CLOUDFLARE_EMAIL": "a@b.c",
                "CLOUDFLARE_API_KEY": KEY,
                "CLOUDFLARE_API_TOKEN": TOKEN,
            },
            {"Authorization": f"Bearer {TOKEN}"},
            id="of both in the environment, the token wins",
        ),
        pytest.param(
            {},
            {"CF_API_TOKEN": TOKEN},
            {"Authorization": f"Bearer {TOKEN}"},
            id="the short name is a fall-back",
        ),
        pytest.param(
            {},
            {"CF_API_TOKEN": "other", "CLOUDFLARE_API_TOKEN": TOKEN},
            {"Authorization": f"Bearer {TOKEN}"},
            id="the long name before the short one",
        ),
        pytest.param(
            {},
            {"CF_API_TOKEN": TOKEN, "CLOUDFLARE_API_TOKEN": ""},
            {"Authorization": f"Bearer {TOKEN}"},
            id="an empty variable is none",
        ),
        pytest.param(
            {"api_token": TOKEN},
            {"CLOUDFLARE_API_TOKEN": "other", "CLOUDFLARE_API_KEY": KEY},
            {"Authorization": f"Bearer {TOKEN}"},
            id="what is given wins over the environment",
        ),
        pytest.param(
            {"api_email": "a@b.c", "api_key": KEY},
            {"CLOUDFLARE_API_TOKEN": TOKEN},
            {"X-Auth-Email": "a@b.c", "X-Auth-Key": KEY},
            id="email and key that are given win over a token in the environment",
        ),
        pytest.param(
            {"api_key": KEY},
            {"CLOUDFLARE_API_TOKEN": TOKEN, "CLOUDFLARE_EMAIL": "a@b.c"},
            {"X-Auth-Email": "a@b.c", "X-Auth-Key": KEY},
            id="a key that is given takes the email of the environment",
        ),
    ],
)
def test_credentials_are_chosen(
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, str],
    environment: dict[str, str],
    sent: dict[str, str],
) -> None:
    """What is given comes before the environment, and a token before email and key."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert resolve_credentials(**given).headers() == sent


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, ["no credentials", "CLOUDFLARE_API_TOKEN", "CLOUDFLARE_EMAIL"]),
        ({"api_email": "a@b.c"}, ["no credentials", "CLOUDFLARE_API_KEY"]),
        ({"api_key": KEY}, ["api_key needs api_email", "CLOUDFLARE_EMAIL", "api_token"]),
        ({"api_token": ""}, ["api_token", "not empty"]),
        ({"api_email": "", "api_key": KEY}, ["api_email", "not empty"]),
        ({"api_email": "a@b.c", "api_key": ""}, ["api_key", "not empty"]),
        ({"api_token": f"{TOKEN}\n"}, ["api_token", "line breaks"]),
        ({"api_token": f" {TOKEN}"}, ["api_token", "spaces"]),
        ({"api_token": f"Bearer {TOKEN}"}, ["api_token", "spaces"]),
        ({"api_token": f"{TOKEN}\r\nX-Evil: 1"}, ["api_token", "line breaks"]),
        ({"api_token": f"{TOKEN}\u2028"}, ["api_token", "ASCII"]),
        ({"api_token": f"{TOKEN}é"}, ["api_token", "ASCII"]),
        ({"api_token": TOKEN.encode()}, ["api_token"]),
        ({"api_email": "a@b.c", "api_key": f"{KEY}\n"}, ["api_key", "line breaks"]),
    ],
)
def test_credentials_that_cannot_work_are_refused(given: dict[str, Any], said: list[str]) -> None:
    """What is missing or malformed is named, and no secret is repeated."""
    with pytest.raises(ConfigError) as caught:
        resolve_credentials(**given)
    message = f"{caught.value} {caught.value!r}"
    assert all(word in message for word in said)
    assert TOKEN not in message
    assert KEY not in message


def test_credentials_are_not_shown() -> None:
    """The representation of credentials and of settings holds no secret."""
    for shown in (
        Credentials(api_token=TOKEN),
        Credentials(api_email="a@b.c", api_key=KEY),
        settings(headers={"X-Own": KEY}, proxy=f"http://me:{KEY}@127.0.0.1:1"),
        Options(headers={"X-Own": KEY}),
        Gateway("g", authorization=KEY),
    ):
        assert TOKEN not in repr(shown)
        assert KEY not in repr(shown)
        assert "a@b.c" not in repr(shown)


def test_a_missing_account_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an account there is no client; the environment has two names for it."""
    for given in (None, ""):
        with pytest.raises(ConfigError, match="CLOUDFLARE_ACCOUNT_ID"):
            WorkersAI(account_id=given, api_token=TOKEN)
    monkeypatch.setenv("CF_ACCOUNT_ID", "short")
    assert settings(account_id=None).account_id == "short"
    monkeypatch.setenv("CLOUDFLARE_ACCOUNT_ID", "long")
    assert settings(account_id=None).account_id == "long"
    assert settings(account_id="given").account_id == "given"


def test_the_environment_is_read_when_the_client_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """What changes in the environment later changes nothing."""
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", TOKEN)
    client = WorkersAI(account_id="acc")
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "another")
    assert client._settings.credentials.api_token == TOKEN


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
def test_safe_addresses_are_taken(url: str) -> None:
    """Anything encrypted, and plain http to this machine."""
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
    """Credentials never travel in clear, whatever the host is dressed up as."""
    with pytest.raises(ConfigError, match="base_url") as caught:
        settings(base_url=f"http://{host}/client/v4")
    assert TOKEN not in str(caught.value)


def test_plain_http_can_be_allowed() -> None:
    """`allow_insecure` is the one way to it."""
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
def test_what_is_no_address_is_refused(url: Any) -> None:
    """An address is http or https, has a host, and nothing but a path behind it."""
    with pytest.raises(ConfigError, match="base_url"):
        settings(base_url=url)


def test_where_the_service_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given, else from the environment, else Cloudflare's own; without a slash at its end."""
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
def test_this_machine(host: str | None, is_this_machine: bool) -> None:
    """Loopback is what cannot be another machine."""
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
        # A proxy could not reach this machine's loopback, and would be told the credentials.
        ({"HTTP_PROXY": PROXY}, "http://127.0.0.1:8000", None),
        ({"HTTP_PROXY": PROXY}, "http://localhost:8000", None),
        ({"ALL_PROXY": PROXY}, "http://[::1]:8000", None),
    ],
)
def test_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], url: str, used: str | None
) -> None:
    """It is the one for the scheme of the address, unless `NO_PROXY` excepts its host."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert settings(base_url=url, allow_insecure=True).proxy == used


def test_a_proxy_that_is_given_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """It overrules the environment, exceptions included, and serves the loopback, too."""
    monkeypatch.setenv("HTTPS_PROXY", "http://other.example")
    monkeypatch.setenv("NO_PROXY", "*")
    assert settings(proxy=PROXY).proxy == PROXY
    assert settings(proxy=PROXY, base_url="http://127.0.0.1:1").proxy == PROXY


@pytest.mark.parametrize(
    "proxy", ["", "socks5://me:s3cr3t@a.example", "proxy:3128", "http://", "http://me:s3cr3t@"]
)
def test_what_is_no_proxy_is_refused(proxy: str) -> None:
    """Only http and https proxies are spoken to; the message holds no password."""
    with pytest.raises(ConfigError, match="proxy") as caught:
        settings(proxy=proxy)
    assert "s3cr3t" not in str(caught.value)


def test_a_proxy_of_the_environment_that_cannot_be_used_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To go without it in silence would be worse."""
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    with pytest.raises(ConfigError, match="proxy"):
        settings()


# Limits


BAD_SECONDS = [-1, -0.001, math.nan, math.inf, -math.inf, 10**400, 10**5000, True, "1", b"1", 1j]


@pytest.mark.parametrize("name", ["connect", "pool", "response", "idle", "content", "total"])
def test_a_time_limit_is_above_zero(name: str) -> None:
    """Every limit is a finite number of seconds above 0, or `None`; the message names it."""
    for good in (None, 5e-324, 0.001, 1, 1e9):
        assert getattr(made(Timeouts, **{name: good}), name) == good
    for bad in [0, 0.0, *BAD_SECONDS]:
        with pytest.raises(InputError, match=rf"Timeouts\.{name} must be .* above 0, got "):
            made(Timeouts, **{name: bad})


@pytest.mark.parametrize("name", ["base", "cap", "max_wait"])
def test_a_pause_is_not_negative(name: str) -> None:
    """Pauses are finite numbers of seconds, 0 included."""
    for good in (0, 0.5, 1e9):
        assert getattr(made(Retries, **{name: good}), name) == good
    for bad in [None, *BAD_SECONDS]:
        with pytest.raises(InputError, match=rf"Retries\.{name} must be .* 0 or more, got "):
            made(Retries, **{name: bad})


@pytest.mark.parametrize(
    ("kind", "name", "least"),
    [
        (Retries, "max", 0),
        (Gateway, "cache_ttl", 0),
        (Gateway, "request_timeout", 1),
        (Gateway, "max_attempts", 1),
        (Gateway, "retry_delay", 0),
    ],
)
def test_a_count_is_a_whole_number(kind: Any, name: str, least: int) -> None:
    """The edge passes, and one step beyond it does not; neither do fractions, texts and truths."""
    assert getattr(made(kind, **{name: least}), name) == least
    for bad in (least - 1, 1.5, "1", True, math.nan, *([None] if kind is Retries else [])):
        with pytest.raises(InputError, match=rf"{name} must be a whole number, {least} or more"):
            made(kind, **{name: bad})


@pytest.mark.parametrize(("name", "most"), [("max_attempts", 5), ("retry_delay", 5000)])
def test_the_gateway_has_upper_bounds(name: str, most: int) -> None:
    """They are those of the gateway's documentation."""
    assert getattr(made(Gateway, **{name: most}), name) == most
    with pytest.raises(InputError, match=f"{name} must be at most {most}, got {most + 1}"):
        made(Gateway, **{name: most + 1})


@pytest.mark.parametrize("name", ["limit", "max_answer_bytes", "max_event_bytes"])
def test_the_sizes_of_a_client_are_whole_numbers(name: str) -> None:
    """At least 1, and nothing but a whole number."""
    settings(**{name: 1})
    for bad in (0, -1, 1.5, "1", True, math.nan, None):
        with pytest.raises(InputError, match=f"{name} must be a whole number, 1 or more, got "):
            settings(**{name: bad})


# Gateway and options


def test_a_gateway_can_be_its_name_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given as a name or in full, or named by the environment."""
    assert settings().gateway is None
    assert settings(gateway="mine").gateway == Gateway("mine")
    monkeypatch.setenv("CLOUDFLARE_GATEWAY_ID", "env")
    assert settings().gateway == Gateway("env")
    assert settings(gateway=Gateway("given", zdr=True)).gateway == Gateway("given", zdr=True)


@pytest.mark.parametrize("name", ["", " ", "a b", "a\r\nX-Evil: 1", "gä", "a\x00"])
def test_a_gateway_is_a_word(name: str) -> None:
    """Its name becomes a header."""
    with pytest.raises(InputError, match="Gateway"):
        Gateway(name)


def test_the_gateway_takes_what_it_knows() -> None:
    """Kinds of backoff and the number of metadata entries are bounded."""
    assert Gateway("g", backoff="linear", metadata=dict.fromkeys("abcde", 1)).backoff == "linear"
    with pytest.raises(InputError, match="backoff"):
        Gateway("g", backoff="random")  # type: ignore[arg-type]  # the refusal is the test
    with pytest.raises(InputError, match="at most 5 entries, got 6"):
        Gateway("g", metadata=dict.fromkeys("abcdef", 1))


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ("one", "must be a list of tags, got the string"),
        ([*"abcdef"], "at most 5 tags, got 6"),
        (["a" * 51], "1 to 50"),
        ([""], "1 to 50"),
        (["a b"], "got 'a b'"),
        (["ok", "a\n"], "1 to 50"),
        (["ü"], "1 to 50"),
    ],
)
def test_tags_are_few_and_short(tags: Any, said: str) -> None:
    """At most 5, each of 1 to 50 characters out of a few."""
    with pytest.raises(InputError, match=said):
        Options(tags=tags)
    assert Options(tags=["a" * 50, *"bcde"]).tags == ("a" * 50, *"bcde")


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        (Gateway, {"id": None}, "Gateway.id must be text, got None"),
        (Gateway, {"id": 3}, "Gateway.id must be text, got 3"),
        (Gateway, {"skip_cache": "yes"}, "Gateway.skip_cache must be true or false, got 'yes'"),
        (Gateway, {"collect_log": 1}, "Gateway.collect_log must be true or false, got 1"),
        (Gateway, {"cache_key": 3}, "Gateway.cache_key must be text, got 3"),
        (Gateway, {"metadata": [1]}, "Gateway.metadata must be a mapping, got [1]"),
        (Gateway, {"authorization": b"s3"}, "Gateway.authorization must be text, got a value of"),
        (Options, {"tags": 3}, "Options.tags must be a list of tags, got 3"),
        (
            Options,
            {"tags": (1,)},
            "a tag must be 1 to 50 characters of A-Z a-z 0-9 : - . / @, got 1",
        ),
        (Options, {"headers": [("a", "s3")]}, "Options.headers must be a mapping of names to"),
        (Options, {"timeouts": 3}, "Options.timeouts must be Timeouts, got 3"),
        (Options, {"retries": 3}, "Options.retries must be Retries, got 3"),
        (Options, {"gateway": 3}, "Options.gateway must be a Gateway or its id, got 3"),
        (Options, {"reject_if_busy": "yes"}, "Options.reject_if_busy must be true or false, got"),
        (Options, {"session_affinity": 3}, "Options.session_affinity must be text, got 3"),
        (Retries, {"on_retry": "x"}, "Retries.on_retry must be callable, got 'x'"),
    ],
)
def test_what_is_of_another_kind_is_refused(kind: Any, fields: Any, said: str) -> None:
    """When it is made, and by its name; what may be a secret is not repeated."""
    with pytest.raises(InputError) as caught:
        kind(**({"id": "g"} if kind is Gateway else {}) | fields)
    assert str(caught.value).startswith(said)
    assert "s3" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("timeouts", 3, "must be Timeouts, got 3"),
        ("timeouts", None, "must be Timeouts, got None"),
        ("retries", 3, "must be Retries, got 3"),
        ("gateway", 3, "must be a Gateway or its id, got 3"),
        ("headers", [1], "must be a mapping of names to values, got a value of type list"),
    ],
)
def test_settings_of_another_kind_are_refused(name: str, value: Any, said: str) -> None:
    """Given to the client, or changed later."""
    with pytest.raises(InputError, match=f"Settings.{name} {said}"):
        evolve(settings(), **{name: value})
    if name != "headers":
        with pytest.raises(InputError, match=f"Settings.{name} {said}"):
            settings(**{name: value})


def test_an_account_that_is_no_text_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match=r"account_id must be text, got a value of type int"):
        settings(account_id=12345)


def test_headers_are_the_clients_own() -> None:
    """What the caller does with the mapping later changes nothing."""
    headers = {"x-a": "1"}
    own = evolve(settings(), headers=headers)
    headers["x-a"] = "2"
    assert own.headers == {"x-a": "1"}


def test_the_gateway_of_a_call_can_be_its_name_alone() -> None:
    """As the client's can."""
    assert Options(gateway="mine").gateway == Gateway("mine")


@pytest.mark.parametrize("options", [{"tags": ["a"]}, 3, "x", Timeouts()])
def test_options_of_a_call_are_options(options: Any) -> None:
    with pytest.raises(InputError, match="options must be Options, got "):
        settings().for_call(options)


def test_options_change_only_what_they_name() -> None:
    """What is left at `None` stays the client's own."""
    own = settings(timeouts=Timeouts(total=7), gateway="own")
    assert own.for_call(None) is own
    assert own.for_call(Options()) is own
    changed = own.for_call(Options(retries=Retries(max=0)))
    assert changed.retries.max == 0
    assert changed.timeouts == Timeouts(total=7)
    assert changed.gateway == Gateway("own")
    other = own.for_call(Options(gateway=Gateway("other"), timeouts=Timeouts(total=1)))
    assert (other.gateway, other.timeouts.total) == (Gateway("other"), 1)


def test_values_do_not_change() -> None:
    """Settings are values: a client can be trusted to stay what it was."""
    for value, name in ((Timeouts(), "total"), (Retries(), "max"), (settings(), "base_url")):
        with pytest.raises(AttributeError):
            setattr(value, name, 1)
    assert issubclass(ConfigError, CfaiError)
