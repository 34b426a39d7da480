"""Credentials and account: arguments, environment, and values that cannot be sent."""

from typing import Any

import pytest

from cfai import WorkersAI
from cfai._session.credentials import resolve_credentials
from cfai.errors import ConfigError
from cfai.settings import Settings

pytestmark = pytest.mark.usefixtures("empty_environment")

TOKEN = "v1.0-s3cr3t-t0ken"  # noqa: S105  # made up
KEY = "c0ffee-gl0bal-key"


def settings(**arguments: Any) -> Settings:
    """The settings of a client with these arguments."""
    return WorkersAI(**{"account_id": "acc", "api_token": TOKEN} | arguments)._settings


@pytest.mark.parametrize(
    ("arguments", "environment", "sent"),
    [
        pytest.param(
            {"api_token": TOKEN}, {}, {"Authorization": f"Bearer {TOKEN}"}, id="a token as argument"
        ),
        pytest.param(
            {"api_email": "a@b.c", "api_key": KEY},
            {},
            {"X-Auth-Email": "a@b.c", "X-Auth-Key": KEY},
            id="email and key as arguments",
        ),
        pytest.param(
            {"api_token": TOKEN, "api_email": "a@b.c", "api_key": KEY},
            {},
            {"Authorization": f"Bearer {TOKEN}"},
            id="a token comes before email and key",
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
            id="in the environment, a token comes before email and key",
        ),
        pytest.param(
            {},
            {"CF_API_TOKEN": TOKEN},
            {"Authorization": f"Bearer {TOKEN}"},
            id="the short name is a fallback",
        ),
        pytest.param(
            {},
            {"CF_API_TOKEN": "other", "CLOUDFLARE_API_TOKEN": TOKEN},
            {"Authorization": f"Bearer {TOKEN}"},
            id="the long name comes before the short one",
        ),
        pytest.param(
            {},
            {"CF_API_TOKEN": TOKEN, "CLOUDFLARE_API_TOKEN": ""},
            {"Authorization": f"Bearer {TOKEN}"},
            id="an empty variable counts as unset",
        ),
        pytest.param(
            {"api_token": TOKEN},
            {"CLOUDFLARE_API_TOKEN": "other", "CLOUDFLARE_API_KEY": KEY},
            {"Authorization": f"Bearer {TOKEN}"},
            id="arguments come before the environment",
        ),
        pytest.param(
            {"api_email": "a@b.c", "api_key": KEY},
            {"CLOUDFLARE_API_TOKEN": TOKEN},
            {"X-Auth-Email": "a@b.c", "X-Auth-Key": KEY},
            id="email and key as arguments come before a token in the environment",
        ),
        pytest.param(
            {"api_key": KEY},
            {"CLOUDFLARE_API_TOKEN": TOKEN, "CLOUDFLARE_EMAIL": "a@b.c"},
            {"X-Auth-Email": "a@b.c", "X-Auth-Key": KEY},
            id="a key as argument with the email of the environment",
        ),
    ],
)
def test_which_credentials_are_used(
    monkeypatch: pytest.MonkeyPatch,
    arguments: dict[str, str],
    environment: dict[str, str],
    sent: dict[str, str],
) -> None:
    """Arguments before the environment, and a token before email and key."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert resolve_credentials(**arguments).headers() == sent


@pytest.mark.parametrize(
    ("arguments", "words"),
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
def test_unusable_credentials_are_refused(arguments: dict[str, Any], words: list[str]) -> None:
    """The message says what is wrong, and contains no secret."""
    with pytest.raises(ConfigError) as caught:
        resolve_credentials(**arguments)
    message = f"{caught.value} {caught.value!r}"
    assert all(word in message for word in words)
    assert TOKEN not in message
    assert KEY not in message


def test_the_account_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment has two names for it."""
    for missing in (None, ""):
        with pytest.raises(ConfigError, match="CLOUDFLARE_ACCOUNT_ID"):
            WorkersAI(account_id=missing, api_token=TOKEN)
    monkeypatch.setenv("CF_ACCOUNT_ID", "short")
    assert settings(account_id=None).account_id == "short"
    monkeypatch.setenv("CLOUDFLARE_ACCOUNT_ID", "long")
    assert settings(account_id=None).account_id == "long"
    assert settings(account_id="given").account_id == "given"


def test_the_environment_is_only_read_by_the_constructor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Later changes of the environment have no effect."""
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", TOKEN)
    client = WorkersAI(account_id="acc")
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "another")
    assert client._settings.credentials.api_token == TOKEN
