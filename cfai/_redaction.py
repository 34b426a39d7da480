"""What no error may show: an account in a path, and credentials, which a service may repeat."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Scrub = Callable[[str], str]
"""Takes what must not be shown out of a text."""

BODY_LIMIT = 4096
"""How much of a body an error keeps, in characters or bytes."""

# The edge repeats the path of a request it cannot route (code 7003), and with it whatever was
# taken for an account id, which now and then is a token.
_SECRET = re.compile(r"(?i)(?<=/accounts/)[^/\s?#\"'\\]+|(?<=bearer )[^\s\"'\\]+")
_HIDDEN = "***"


def excerpt(body: str | bytes | None) -> str | bytes | None:
    """Give the beginning of a body, without what it repeats of the request."""
    if isinstance(body, bytes):
        return _SECRET.sub(_HIDDEN, body[:BODY_LIMIT].decode("latin-1")).encode("latin-1")
    return body and _SECRET.sub(_HIDDEN, body[:BODY_LIMIT])


def without_secrets(value: Any) -> Any:
    """Hide what the service repeats of the request's path and credentials, at any depth."""
    if isinstance(value, str):
        return _SECRET.sub(_HIDDEN, value)
    if isinstance(value, Mapping):
        return {key: without_secrets(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(item) for item in value]
    return value


def scrubber(secrets: Iterable[str]) -> Scrub:
    """Hide *secrets*, which a service may echo. (`errors` hides the account in a path.)"""
    hidden = sorted((secret for secret in secrets if secret), key=len, reverse=True)

    def scrub(text: str) -> str:
        for secret in hidden:
            text = text.replace(secret, "***")
        return text

    return scrub
