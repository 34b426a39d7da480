"""What is logged about requests, on the logger `cfai`: facts and reasons, no secrets or bodies."""

import logging
import os
import sys
from typing import Final

from cfai._session.redaction import redact_error_text
from cfai._types.excerpts import format_value
from cfai._wire.requests import Request
from cfai.errors import CfaiError, ConfigError, StatusError, TransportError
from cfai.meta import Meta
from cfai.settings import Settings

LOGGER: Final = logging.getLogger("cfai")

_LEVELS: Final = ("debug", "info", "warning", "error")

_FORMAT: Final = "%(asctime)s %(name)s %(levelname)s %(message)s"


def configure_logging(level: str | None = None) -> None:
    """Set the level of the logger, and write to standard error if the program has no handler.

    Args:
        level: By default, the environment variable `CFAI_LOG`; without it, nothing changes.

    Raises:
        ConfigError: There is no such level.
    """
    level = level or os.environ.get("CFAI_LOG")
    if not level:
        return
    if level.lower() not in _LEVELS:
        raise ConfigError(
            f"CFAI_LOG must be one of {', '.join(_LEVELS)}, got {format_value(level)}"
        )
    LOGGER.setLevel(level.upper())
    if not LOGGER.hasHandlers() and sys.stderr is not None:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(_FORMAT))
        LOGGER.addHandler(handler)


def log_response(request: Request, settings: Settings, meta: Meta, seconds: float) -> None:
    """Log that an attempt got a response: all of it, or the beginning of a stream."""
    name = _name(request, settings)
    LOGGER.debug("%s: %s in %.3f s (attempt %d)", name, meta.status, seconds, meta.attempts)


def log_failure(
    request: Request,
    settings: Settings,
    error: CfaiError,
    attempt: int,
    seconds: float,
    *,
    pause: float | None,
) -> None:
    """Log why an attempt failed, and when the next one follows."""
    then = "no further attempt" if pause is None else f"attempt {attempt + 1} in {pause:.3f} s"
    name, reason = _name(request, settings), describe_reason(error)
    LOGGER.debug("%s: %s after %.3f s (attempt %d); %s", name, reason, seconds, attempt, then)


def describe_reason(error: CfaiError) -> str:
    """The class of an error, with its status and code or what happened to the connection.

    The messages of other errors may contain parts of a body.
    """
    name = type(error).__name__
    if isinstance(error, StatusError):
        code = "" if error.code is None else f", code {error.code}"
        return f"{name} ({error.status}{code})"
    return f"{name} ({str(error).splitlines()[0]})" if isinstance(error, TransportError) else name


def _name(request: Request, settings: Settings) -> str:
    """The method and the path, without the account and the query."""
    path, _, _ = request.path.partition("?")
    # The account may be a token by mistake. In a path of AI Gateway, nothing marks it.
    path = path.replace(f"/{settings.account_id}/", "/***/", 1)
    return f"{request.method} {redact_error_text(path, settings.secrets)}"
