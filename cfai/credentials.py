"""Who asks: an API token, or email and key, as given or as the environment holds them."""

import os
import re

from attrs import field, frozen

from cfai.errors import ConfigError

__all__ = [
    "Credentials",
    "credentials",
    "distinct",
    "header_safe",
    "holds_secret",
    "known",
]

_SHORTEST = 8
"""Characters. To hide anything shorter would hide ordinary words with it, and no secret is."""

_SECRET_HEADER = re.compile(r".*(authorization|cookie|key|token|secret)", re.IGNORECASE)


def holds_secret(header: str) -> bool:
    """Whether the value of a header of that name is a secret."""
    return _SECRET_HEADER.fullmatch(header) is not None


def distinct(*secrets: str) -> tuple[str, ...]:
    """The secrets that can be told from ordinary words, also without the scheme before them."""
    bare = (secret.removeprefix("Bearer ") for secret in secrets)
    return tuple(sorted({one for one in bare if len(one) >= _SHORTEST}, key=len, reverse=True))


@frozen
class Credentials:
    """Who asks: an API token, or the email and global key of the previous scheme."""

    api_token: str | None = field(default=None, repr=False)
    api_email: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)

    def headers(self) -> dict[str, str]:
        """The headers that prove it. Source: Workers AI API, "Security"."""
        if self.api_token is not None:
            return {"Authorization": f"Bearer {self.api_token}"}
        return {"X-Auth-Email": self.api_email or "", "X-Auth-Key": self.api_key or ""}

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no message may contain."""
        return tuple(secret for secret in (self.api_token, self.api_key) if secret)


def known(given: str | None, *names: str) -> str | None:
    """The value given, or of the first of these environment variables that is not empty."""
    if given is not None:
        return given
    return next((value for name in names if (value := os.environ.get(name))), None)


def header_safe(name: str, value: object) -> str:
    """Refuse what no header can carry. The value is secret, so the message leaves it out.

    Raises:
        ConfigError: It is empty, or not printable ASCII without spaces.
    """
    if not isinstance(value, str) or not re.fullmatch(r"[\x21-\x7e]+", value):
        raise ConfigError(
            f"{name} must be printable ASCII without spaces or line ends, and not empty"
            " (it is not shown, because it is a secret)"
        )
    return value


def credentials(
    api_token: str | None = None, api_email: str | None = None, api_key: str | None = None
) -> Credentials:
    """Choose between what was given and what the environment holds: a token before email and key.

    Raises:
        ConfigError: There are none, or there is only half of email and key.
    """
    if api_token is None and (api_email is not None or api_key is not None):
        token = None
    else:
        token = known(api_token, "CLOUDFLARE_API_TOKEN", "CF_API_TOKEN")
    if token is not None:
        return Credentials(api_token=header_safe("api_token", token))
    email = known(api_email, "CLOUDFLARE_EMAIL")
    key = known(api_key, "CLOUDFLARE_API_KEY")
    if key is not None and email is None:
        raise ConfigError(
            "api_key has no api_email beside it: the global API key needs the account's email"
            " (CLOUDFLARE_EMAIL). If it is an API token, pass it as api_token"
            " (CLOUDFLARE_API_TOKEN)"
        )
    if key is None or email is None:
        raise ConfigError(
            "no credentials: pass api_token, or set CLOUDFLARE_API_TOKEN"
            " (or api_email and api_key: CLOUDFLARE_EMAIL and CLOUDFLARE_API_KEY)"
        )
    return Credentials(
        api_email=header_safe("api_email", email), api_key=header_safe("api_key", key)
    )
