"""Settings: time limits, retries, gateway and options of a call, as checked values."""

import math
from typing import Any

import pytest
from attrs import evolve

from cfai import WorkersAI
from cfai.errors import CfaiError, ConfigError, InputError
from cfai.settings import (
    Credentials,
    Gateway,
    Options,
    Polling,
    Retries,
    Settings,
    Timeouts,
)

pytestmark = pytest.mark.usefixtures("empty_environment")

TOKEN = "v1.0-s3cr3t-t0ken"  # noqa: S105  # create up
KEY = "c0ffee-gl0bal-key"


def settings(**arguments: Any) -> Settings:
    """The settings of a client with these arguments."""
    return WorkersAI(**{"account_id": "acc", "api_token": TOKEN} | arguments)._settings


def create(kind: type[Any], **fields: Any) -> Any:
    """Create a value; a gateway gets a name."""
    return kind("name", **fields) if kind is Gateway else kind(**fields)


def test_secrets_are_not_in_the_repr() -> None:
    """Of credentials, settings, options and gateways."""
    for value in (
        Credentials(api_token=TOKEN),
        Credentials(api_email="a@b.c", api_key=KEY),
        settings(headers={"X-Own": KEY}, proxy=f"http://me:{KEY}@127.0.0.1:1"),
        Options(headers={"X-Own": KEY}),
        Gateway("g", authorization=KEY),
    ):
        assert TOKEN not in repr(value)
        assert KEY not in repr(value)
        assert "a@b.c" not in repr(value)


# Limits


BAD_SECONDS = [-1, -0.001, math.nan, math.inf, -math.inf, 10**400, 10**5000, True, "1", b"1", 1j]


@pytest.mark.parametrize("name", ["connect", "pool", "response", "idle", "content", "total"])
def test_timeouts_are_finite_and_positive(name: str) -> None:
    """Or `None`; the message names the field."""
    for good in (None, 5e-324, 0.001, 1, 1e9):
        assert getattr(create(Timeouts, **{name: good}), name) == good
    for bad in [0, 0.0, *BAD_SECONDS]:
        with pytest.raises(InputError, match=rf"Timeouts\.{name} must be .* above 0, got "):
            create(Timeouts, **{name: bad})


@pytest.mark.parametrize("name", ["base", "cap", "max_wait"])
def test_delays_are_finite_and_not_negative(name: str) -> None:
    """0 is allowed."""
    for good in (0, 0.5, 1e9):
        assert getattr(create(Retries, **{name: good}), name) == good
    for bad in [None, *BAD_SECONDS]:
        with pytest.raises(InputError, match=rf"Retries\.{name} must be .* 0 or more, got "):
            create(Retries, **{name: bad})


@pytest.mark.parametrize(
    ("kind", "name", "least"),
    [
        (Retries, "max", 0),
        (Retries, "max_busy", 0),
        (Gateway, "cache_ttl", 0),
        (Gateway, "request_timeout", 1),
        (Gateway, "max_attempts", 1),
        (Gateway, "retry_delay", 0),
    ],
)
def test_counts_are_whole_numbers(kind: Any, name: str, least: int) -> None:
    """The bound is allowed, one step beyond it, fractions, texts and booleans are not."""
    assert getattr(create(kind, **{name: least}), name) == least
    for bad in (least - 1, 1.5, "1", True, math.nan, *([None] if kind is Retries else [])):
        with pytest.raises(InputError, match=rf"{name} must be a whole number, {least} or more"):
            create(kind, **{name: bad})


@pytest.mark.parametrize(("name", "most"), [("max_attempts", 5), ("retry_delay", 5000)])
def test_upper_bounds_of_the_gateway(name: str, most: int) -> None:
    """From the gateway's documentation."""
    assert getattr(create(Gateway, **{name: most}), name) == most
    with pytest.raises(InputError, match=f"{name} must be at most {most}, got {most + 1}"):
        create(Gateway, **{name: most + 1})


@pytest.mark.parametrize("name", ["limit", "max_answer_bytes", "max_event_bytes"])
def test_size_limits_of_a_client_are_whole_numbers(name: str) -> None:
    """At least 1."""
    settings(**{name: 1})
    for bad in (0, -1, 1.5, "1", True, math.nan, None):
        with pytest.raises(InputError, match=f"{name} must be a whole number, 1 or more, got "):
            settings(**{name: bad})


# Gateway and options


def test_a_gateway_from_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the argument, or of the environment."""
    assert settings().gateway is None
    assert settings(gateway="mine").gateway == Gateway("mine")
    monkeypatch.setenv("CLOUDFLARE_GATEWAY_ID", "env")
    assert settings().gateway == Gateway("env")
    assert settings(gateway=Gateway("given", zdr=True)).gateway == Gateway("given", zdr=True)


@pytest.mark.parametrize("name", ["", " ", "a b", "a\r\nX-Evil: 1", "gä", "a\x00"])
def test_the_name_of_a_gateway_is_printable_ascii(name: str) -> None:
    """It is sent in a header."""
    with pytest.raises(InputError, match="Gateway"):
        Gateway(name)


def test_backoff_and_metadata_of_the_gateway_are_checked() -> None:
    assert Gateway("g", backoff="linear", metadata=dict.fromkeys("abcde", 1)).backoff == "linear"
    with pytest.raises(InputError, match="backoff"):
        Gateway("g", backoff="random")  # type: ignore[arg-type]  # the refusal is the test
    with pytest.raises(InputError, match="at most 5 entries, got 6"):
        Gateway("g", metadata=dict.fromkeys("abcdef", 1))


def test_the_lists_of_a_gateway_are_copied() -> None:
    models = ["anthropic/*"]
    gateway = Gateway("g", allowed_models=models, allowed_providers=(name for name in ["openai"]))
    models.append("openai/*")
    assert gateway.allowed_models == ("anthropic/*",)
    assert gateway.allowed_providers == ("openai",)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ("one", "must be a list of tags, got 'one'"),
        ([*"abcdef"], "at most 5 tags, got 6"),
        (["a" * 51], "1 to 50"),
        ([""], "1 to 50"),
        (["a b"], "got 'a b'"),
        (["ok", "a\n"], "1 to 50"),
        (["ü"], "1 to 50"),
    ],
)
def test_tags_are_few_and_short(tags: Any, message: str) -> None:
    """At most 5, each of 1 to 50 allowed characters."""
    with pytest.raises(InputError, match=message):
        Options(tags=tags)
    assert Options(tags=["a" * 50, *"bcde"]).tags == ("a" * 50, *"bcde")


NO_LISTS: list[Any] = ["openai", b"openai", [], (), {"openai": 1}, 3]


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (Gateway, {"id": None}, "Gateway.id must be text, got None"),
        (Gateway, {"id": 3}, "Gateway.id must be text, got 3"),
        (Gateway, {"skip_cache": "yes"}, "Gateway.skip_cache must be true or false, got 'yes'"),
        (Gateway, {"collect_log": 1}, "Gateway.collect_log must be true or false, got 1"),
        (Gateway, {"cache_key": 3}, "Gateway.cache_key must be text, got 3"),
        (Gateway, {"metadata": [1]}, "Gateway.metadata must be a mapping, got [1]"),
        (Gateway, {"collect_log_payload": 1}, "Gateway.collect_log_payload must be true or false"),
        (Gateway, {"no_session_affinity": "true"}, "Gateway.no_session_affinity must be true or"),
        (Gateway, {"session_id": 3}, "Gateway.session_id must be text, got 3"),
        (Gateway, {"turn_id": 3}, "Gateway.turn_id must be text, got 3"),
        *[
            (Gateway, {name: value}, f"Gateway.{name} must be a list of at least one name, got ")
            for name in ("allowed_models", "allowed_providers")
            for value in NO_LISTS
        ],
        *[
            (Gateway, {name: ["a", value]}, f"each name in Gateway.{name} must be printable ASCII")
            for name in ("allowed_models", "allowed_providers")
            for value in ("", "a,b", "a b", "a\n", "ü", 3, None)
        ],
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
def test_wrong_types_are_refused(kind: Any, fields: Any, message: str) -> None:
    """The message names the field, and does not repeat values that may be secret."""
    with pytest.raises(InputError) as caught:
        kind(**({"id": "g"} if kind is Gateway else {}) | fields)
    assert str(caught.value).startswith(message)
    assert "s3" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("timeouts", 3, "must be Timeouts, got 3"),
        ("timeouts", None, "must be Timeouts, got None"),
        ("retries", 3, "must be Retries, got 3"),
        ("gateway", 3, "must be a Gateway or its id, got 3"),
        ("headers", [1], "must be a mapping of names to values, got a value of type list"),
    ],
)
def test_wrong_types_of_client_arguments_are_refused(name: str, value: Any, message: str) -> None:
    """In the constructor, and in `with_options`."""
    with pytest.raises(InputError, match=f"Settings.{name} {message}"):
        evolve(settings(), **{name: value})
    if name != "headers":
        with pytest.raises(InputError, match=f"Settings.{name} {message}"):
            settings(**{name: value})


def test_an_account_of_a_wrong_type_is_refused_without_its_value() -> None:
    with pytest.raises(InputError, match=r"account_id must be a string, got int"):
        settings(account_id=12345)


def test_headers_are_copied() -> None:
    """Later changes of the mapping have no effect."""
    headers = {"x-a": "1"}
    own = evolve(settings(), headers=headers)
    headers["x-a"] = "2"
    assert own.headers == {"x-a": "1"}


def test_the_gateway_of_a_call_from_its_name() -> None:
    assert Options(gateway="mine").gateway == Gateway("mine")


@pytest.mark.parametrize("options", [{"tags": ["a"]}, 3, "x", Timeouts()])
def test_options_must_be_options(options: Any) -> None:
    with pytest.raises(InputError, match="options must be Options, got "):
        settings().for_call(options)


def test_options_only_change_the_named_settings() -> None:
    """Fields that are `None` keep the setting of the client."""
    own = settings(timeouts=Timeouts(total=7), gateway="own")
    assert own.for_call(None) is own
    assert own.for_call(Options()) is own
    changed = own.for_call(Options(retries=Retries(max=0)))
    assert changed.retries.max == 0
    assert changed.timeouts == Timeouts(total=7)
    assert changed.gateway == Gateway("own")
    other = own.for_call(Options(gateway=Gateway("other"), timeouts=Timeouts(total=1)))
    assert (other.gateway, other.timeouts.total) == (Gateway("other"), 1)


def test_settings_are_immutable() -> None:
    for value, name in ((Timeouts(), "total"), (Retries(), "max"), (settings(), "base_url")):
        with pytest.raises(AttributeError):
            setattr(value, name, 1)
    assert issubclass(ConfigError, CfaiError)


# Secrets: what no message may contain

SEVEN, EIGHT = "s3cr3t7", "s3cr3t.8"


@pytest.mark.parametrize(
    ("form", "before"),
    [
        *((form, "") for form in ("token", "key", "gateway", "header", "proxy", "body")),
        *((form, scheme) for form in ("gateway", "header") for scheme in ("Bearer ", "Basic ")),
    ],
)
def test_secrets_of_eight_characters_are_hidden(form: str, before: str) -> None:
    """Without the scheme before them. Shorter ones may be words."""

    def secrets(value: str) -> tuple[str, ...]:
        return Settings(
            account_id="acc",
            credentials=Credentials(
                api_token=value if form == "token" else None,
                api_email="a@b.example" if form == "key" else None,
                api_key=value if form == "key" else None,
            ),
            base_url="https://example.com",
            gateway=Gateway("g", authorization=f"{before}{value}") if form == "gateway" else None,
            headers={"X-Own-Token": f"{before}{value}"} if form == "header" else {},
            proxy=f"http://me:{value}@127.0.0.1:1" if form == "proxy" else None,
            body_secrets=(value,) if form == "body" else (),
        ).secrets

    assert secrets(EIGHT) == (EIGHT,)
    assert secrets(SEVEN) == ()


def test_longer_secrets_come_first() -> None:
    """One may be a part of another. A password of a proxy may be percent-encoded."""
    own = settings(
        headers={"X-Key": "short-key", "X-Other": "no secret at all", "Cookie": "short-key"},
        proxy="http://me:p%40ssw0rd@127.0.0.1:1",
    )
    assert list(own.secrets) == sorted(own.secrets, key=len, reverse=True)
    assert set(own.secrets) == {TOKEN, "short-key", "p%40ssw0rd", "p@ssw0rd"}


@pytest.mark.parametrize(
    ("looks", "expected"), [(1, 2.0), (2, 3.0), (3, 4.5), (4, 6.75), (5, 7.0), (10**9, 7.0)]
)
def test_pauses_between_polls_grow_from_the_first(looks: int, expected: float) -> None:
    assert Polling(base=2.0, factor=1.5, cap=7.0).pause(looks) == expected
    assert Polling(base=1.0, factor=1e300, cap=7.0).pause(max(looks, 2)) == 7.0
    assert Polling(base=1e-300, factor=10.0, cap=1e300).pause(looks) == pytest.approx(
        1e-300 * 10.0 ** min(looks - 1, 64)
    )


def test_a_call_that_rejects_a_busy_service_is_not_patient() -> None:
    """Its other retries stay as they are, whosoever's they are."""
    own = settings(retries=Retries(max=3, max_busy=9))
    assert own.for_call(Options(reject_if_busy=True)).retries == Retries(max=3, max_busy=0)
    changed = own.for_call(Options(reject_if_busy=True, retries=Retries(max=5)))
    assert changed.retries == Retries(max=5, max_busy=0)
    for value in (False, None):
        assert own.for_call(Options(reject_if_busy=value)).retries == own.retries


def test_headers_of_a_call_win() -> None:
    own = settings(headers={"X-A": "1", "X-B": "1"}).for_call(Options(headers={"X-B": "2"}))
    assert own.headers == {"X-A": "1", "X-B": "2"}
    assert own.for_call(Options(headers={})) is own


@pytest.mark.parametrize("metadata", [{"a": math.nan}, {"a": object()}, {"a": math.inf}])
def test_metadata_of_the_gateway_is_json(metadata: Any) -> None:
    with pytest.raises(InputError, match=r"Gateway\.metadata must be a JSON object: "):
        Gateway("g", metadata=metadata)
