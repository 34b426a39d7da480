"""Resolves the credentials and the settings of a client from its arguments and the environment."""

import os
import re
from typing import Any

from cfai._session.addresses import check_base_url, resolve_proxy
from cfai._validators import check_account_id
from cfai.errors import ConfigError
from cfai.settings import CLOUDFLARE, Credentials, Gateway, Settings


def value_or_environment(value: str | None, *variables: str) -> str | None:
    """*value*, or if it is `None` the first of these environment variables that is not empty."""
    if value is not None:
        return value
    return next((text for name in variables if (text := os.environ.get(name))), None)


def check_header_value(name: str, value: object) -> str:
    """Check that a secret can be sent in a header. The message does not show it.

    Raises:
        ConfigError: It is empty, or not printable ASCII without spaces.
    """
    if not isinstance(value, str) or not re.fullmatch(r"[\x21-\x7e]+", value):
        raise ConfigError(
            f"{name} must be printable ASCII without spaces or line breaks, and not empty"
            " (the value is not shown, because it is a secret)"
        )
    return value


def resolve_credentials(
    api_token: str | None = None, api_email: str | None = None, api_key: str | None = None
) -> Credentials:
    """Choose the credentials: arguments before the environment, a token before email and key.

    Raises:
        ConfigError: There are none, or the email or the key is missing.
    """
    token = api_token
    if api_email is None and api_key is None:
        token = value_or_environment(api_token, "CLOUDFLARE_API_TOKEN", "CF_API_TOKEN")
    if token is not None:
        return Credentials(api_token=check_header_value("api_token", token))
    email = value_or_environment(api_email, "CLOUDFLARE_EMAIL")
    key = value_or_environment(api_key, "CLOUDFLARE_API_KEY")
    if key is not None and email is None:
        raise ConfigError(
            "api_key needs api_email: a global API key is sent with the account's email"
            " (CLOUDFLARE_EMAIL). If it is an API token, pass it as api_token"
            " (CLOUDFLARE_API_TOKEN)"
        )
    if key is None or email is None:
        raise ConfigError(
            "no credentials: pass api_token, or set CLOUDFLARE_API_TOKEN"
            " (or api_email and api_key: CLOUDFLARE_EMAIL and CLOUDFLARE_API_KEY)"
        )
    return Credentials(
        api_email=check_header_value("api_email", email),
        api_key=check_header_value("api_key", key),
    )


def resolve_settings(
    *,
    account_id: str | None,
    credentials: Credentials,
    base_url: str | None,
    gateway: Gateway | str | None,
    proxy: str | None,
    use_environment_proxy: bool,
    allow_insecure: bool,
    **settings: Any,
) -> Settings:
    """The settings of a Workers AI client. Omitted arguments are read from the environment.

    Args:
        use_environment_proxy: Whether to use the proxy that the environment names. A session passed
            by the caller has its own.
        settings: Other fields of `Settings`.

    Raises:
        ConfigError: There is no account, or an address is not usable.
    """
    account = value_or_environment(account_id, "CLOUDFLARE_ACCOUNT_ID", "CF_ACCOUNT_ID")
    if not account:
        raise ConfigError("no account: pass account_id, or set CLOUDFLARE_ACCOUNT_ID")
    url = value_or_environment(base_url, "CLOUDFLARE_BASE_URL")
    url = check_base_url(CLOUDFLARE if url is None else url, allow_insecure=allow_insecure)
    if gateway is None:
        gateway = value_or_environment(None, "CLOUDFLARE_GATEWAY_ID")
    return Settings(
        account_id=check_account_id(account),
        credentials=credentials,
        base_url=url,
        proxy=resolve_proxy(
            proxy, url, use_environment=use_environment_proxy, allow_insecure=allow_insecure
        ),
        gateway=gateway,
        **settings,
    )
