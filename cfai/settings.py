"""The settings of a client and the options of a call, as checked values.

Nothing here reads the environment or opens a connection; `_wire` turns settings into headers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, Final, Literal, get_args
from urllib.parse import unquote, urlsplit

import attrs
from attrs import field, frozen

from cfai._types.excerpts import format_value
from cfai._types.values import Value
from cfai._validators import (
    at_least,
    factor,
    header_text,
    headers,
    hide_arguments_of,
    instance_of,
    is_boolean,
    is_text,
    positive_seconds_or_none,
    seconds,
)
from cfai.errors import CfaiError, ConfigError, InputError

__all__ = [
    "CLOUDFLARE",
    "DEFAULT_RETRIES",
    "DEFAULT_TIMEOUTS",
    "UNSET",
    "Credentials",
    "Gateway",
    "Options",
    "Polling",
    "Retries",
    "Retry",
    "Route",
    "Settings",
    "Timeouts",
    "Unset",
    "as_gateway",
]

CLOUDFLARE: Final = "https://api.cloudflare.com/client/v4"
"""The default of `base_url`."""


class Unset(Enum):
    """The type of `UNSET`: an enum of one member, so that type checkers can narrow it."""

    UNSET = "UNSET"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET
"""The default of arguments that are left unchanged, where `None` has a meaning ("no gateway")."""

SHORTEST_SECRET: Final = 8
"""Characters. A shorter value, or piece of a secret, is not hidden in errors: ordinary words would
be, too."""

_CREDENTIAL_HEADER: Final = (
    r"(?i)auth(?!or(?!i))|bearer|cookie|credential|csrf|xsrf|hmac|jwt|key|passw|passphrase|passcode"
    r"|pwd|secret|signature|\bsig\b|token"
)
"""What the names of headers with a secret contain; but `X-Author` has none."""


@frozen(eq=False, repr=False)
class Credentials(Value):
    """An API token, or the email and the global API key of an account."""

    api_token: str | None = field(default=None, repr=False)
    api_email: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)

    def headers(self) -> dict[str, str]:
        """The headers that authenticate a request. Source: Workers AI API, "Security"."""
        if self.api_token is not None:
            return {"Authorization": f"Bearer {self.api_token}"}
        return {"X-Auth-Email": self.api_email or "", "X-Auth-Key": self.api_key or ""}

    @property
    def secrets(self) -> tuple[str, ...]:
        """The token or the key, which no message may contain."""
        return tuple(secret for secret in (self.api_token, self.api_key) if secret)


@frozen(kw_only=True, eq=False, repr=False)
class Timeouts(Value):
    """Time limits in seconds; `None` means no limit."""

    connect: float | None = field(default=5.0, validator=positive_seconds_or_none)
    """To look up the host, connect and negotiate TLS."""
    pool: float | None = field(default=60.0, validator=positive_seconds_or_none)
    """To wait for a free connection while `limit` requests are in flight."""
    response: float | None = field(default=120.0, validator=positive_seconds_or_none)
    """One attempt, from its first byte sent to its last byte read; for a stream, to its headers.
    During an upload, it counts from the last piece that was sent."""
    idle: float | None = field(default=60.0, validator=positive_seconds_or_none)
    """Inside a stream: since the last byte, which may belong to a keep-alive comment."""
    content: float | None = field(default=None, validator=positive_seconds_or_none)
    """Inside a stream: since the last event with content."""
    total: float | None = field(default=None, validator=positive_seconds_or_none)
    """The whole call: all attempts, the delays between them, and a stream to its end."""


@frozen(eq=False, repr=False)
class Retry(Value):
    """A failed attempt that will be repeated; the argument of `Retries.on_retry`."""

    attempt: int
    """Number of the failed attempt, counted over the whole call; 1 is the first."""
    failure: CfaiError
    """The error of the failed attempt."""
    pause: float
    """Seconds until the next attempt."""
    model: str | None = field(default=None, kw_only=True)
    """The model that is asked next, if it is another one of a list; `None` for the same."""


@frozen(kw_only=True, eq=False, repr=False)
class Retries(Value):
    """When and how often a failed attempt is repeated.

    Repeated are failed connects, 408, 429 (but not a used-up quota: 3036, 4006), 5xx, the codes
    3007, 3008, 3010, 3040 and 3046, and connections lost before an answer. The delay before retry
    *n* (from 0) is random, uniform from 0 to `min(cap, base * 2**n)` seconds, and not shorter than
    the `Retry-After` of the service. If the service is busy (429 with code 3040 or another, 503,
    529), it is uniform over the upper half of 0 to `min(cap, base * 2**(n + 1))` seconds.
    """

    max: int = field(default=2, validator=at_least(0))
    """Attempts after the first; 0 disables retries."""
    max_busy: int = field(default=6, validator=at_least(0))
    """The same if the service is busy (429, 503, 529), with longer delays: by default, 15 to 31
    seconds in all. Not used unless it is larger than `max`, and `max` is not 0."""
    base: float = field(default=0.5, validator=seconds)
    """Seconds; the upper bound of the first delay. Twice that if the service is busy."""
    cap: float = field(default=8.0, validator=seconds)
    """Seconds; the upper bound of all random delays."""
    max_wait: float = field(default=60.0, validator=seconds)
    """Seconds; if `Retry-After` is longer, the error is raised at once."""
    on_retry: Callable[[Retry], None] | None = field(
        default=None, eq=False, validator=instance_of(Callable, "callable")
    )
    """Called before each delay. An exception that it raises ends the call."""


DEFAULT_TIMEOUTS: Final = Timeouts()
DEFAULT_RETRIES: Final = Retries()


@frozen(kw_only=True, eq=False, repr=False)
class Polling(Value):
    """The delays between two polls of a batch: the first one, and how they grow."""

    base: float = field(default=1.0, validator=seconds)
    """Seconds; the first delay."""
    factor: float = field(default=1.5, validator=factor)
    """Factor between each delay and the one before."""
    cap: float = field(default=30.0, validator=seconds)
    """Seconds; no delay is longer."""

    def pause(self, looks: int) -> float:
        """Seconds to wait after *looks* polls (1 or more)."""
        try:
            return min(self.cap, self.base * float(self.factor) ** min(looks - 1, 64))
        except OverflowError:
            return self.cap


_ENTRY: Final = r"[\x21-\x2b\x2d-\x7e]+"
"""Printable ASCII without spaces and commas, because a header joins the entries with commas."""


def _as_tuple(value: Iterable[str] | None) -> tuple[str, ...] | None:
    """A copy of a list, which later changes by the user don't affect."""
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping):
        return value  # type: ignore[return-value]  # the validator raises for it
    return tuple(value)


def _check_entries(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    name = f"{type(instance).__name__}.{attribute.name}"
    if not isinstance(value, tuple) or not value:
        rule = "a list of at least one name"
        raise InputError(f"{name} must be {rule}, got {format_value(value)}")
    for entry in value:
        if not isinstance(entry, str) or not re.fullmatch(_ENTRY, entry):
            rule = "printable ASCII without spaces and commas"
            raise InputError(f"each name in {name} must be {rule}, got {format_value(entry)}")


@hide_arguments_of
@frozen(eq=False, repr=False)
class Gateway(Value):
    """The AI Gateway that requests go through, and its options for them.

    Sent as `cf-aig-*` headers. Source: Cloudflare docs, AI Gateway, "Request headers" and "Auto
    Router".
    """

    id: str = field(validator=is_text)
    """The name of the gateway in the account; Cloudflare creates "default" on first use."""
    skip_cache: bool | None = field(default=None, kw_only=True, validator=is_boolean)
    """True to bypass the gateway's cache."""
    cache_ttl: int | None = field(default=None, kw_only=True, validator=at_least(0))
    """Seconds for which the gateway caches the answer."""
    cache_key: str | None = field(default=None, kw_only=True, validator=header_text)
    """The key under which the gateway caches the answer."""
    collect_log: bool | None = field(default=None, kw_only=True, validator=is_boolean)
    """Whether the gateway logs the request."""
    request_timeout: int | None = field(default=None, kw_only=True, validator=at_least(1))
    """Milliseconds that the gateway waits for the provider."""
    max_attempts: int | None = field(default=None, kw_only=True, validator=at_least(1))
    """Attempts made by the gateway, 1 to 5."""
    retry_delay: int | None = field(default=None, kw_only=True, validator=at_least(0))
    """Milliseconds between the attempts of the gateway, at most 5000."""
    backoff: Literal["constant", "linear", "exponential"] | None = field(default=None, kw_only=True)
    """How the delay between the attempts of the gateway grows."""
    metadata: Mapping[str, str | int | float | bool | None] | None = field(
        default=None, kw_only=True, validator=instance_of(Mapping, "a mapping")
    )
    """Stored with the log entry; at most 5 entries."""
    event_id: str | None = field(default=None, kw_only=True, validator=header_text)
    """An id for the event in the gateway's logs."""
    byok_alias: str | None = field(default=None, kw_only=True, validator=header_text)
    """The alias of the provider key that is stored in the gateway."""
    zdr: bool | None = field(default=None, kw_only=True, validator=is_boolean)
    """Whether to require zero data retention."""
    collect_log_payload: bool | None = field(default=None, kw_only=True, validator=is_boolean)
    """Whether log entries keep the bodies of request and answer; by default they do."""
    allowed_models: tuple[str, ...] | None = field(
        default=None, kw_only=True, converter=_as_tuple, validator=_check_entries
    )
    """The models that `cloudflare/auto` chooses from, instead of its default ones. `*` matches
    anything but a slash: `["anthropic/*"]`."""
    allowed_providers: tuple[str, ...] | None = field(
        default=None, kw_only=True, converter=_as_tuple, validator=_check_entries
    )
    """The providers that `cloudflare/auto` chooses from: `["openai", "workers-ai"]`."""
    session_id: str | None = field(default=None, kw_only=True, validator=header_text)
    """The conversation that a request belongs to: `cloudflare/auto` keeps its model for a turn."""
    turn_id: str | None = field(default=None, kw_only=True, validator=header_text)
    """The turn that a request belongs to. Without it, `cloudflare/auto` determines the turn."""
    no_session_affinity: bool | None = field(default=None, kw_only=True, validator=is_boolean)
    """True to let `cloudflare/auto` choose a model for each request."""
    authorization: str | None = field(default=None, kw_only=True, repr=False, validator=header_text)
    """The token of an authenticated gateway."""

    def __attrs_post_init__(self) -> None:
        if not re.fullmatch(r"[\x21-\x7e]+", self.id):
            raise InputError(f"Gateway.id must be printable ASCII without spaces, got {self.id!r}")
        for name, maximum in (("max_attempts", 5), ("retry_delay", 5000)):
            value = getattr(self, name)
            if value is not None and value > maximum:
                raise InputError(f"Gateway.{name} must be at most {maximum}, got {value}")
        if self.backoff not in (None, "constant", "linear", "exponential"):
            kinds = "constant, linear or exponential"
            raise InputError(f"Gateway.backoff must be {kinds}, got {self.backoff!r}")
        if self.metadata is not None:
            _check_metadata(self.metadata)


def _check_metadata(metadata: Mapping[str, Any]) -> None:
    if len(metadata) > 5:
        raise InputError(f"Gateway.metadata must have at most 5 entries, got {len(metadata)}")
    try:
        json.dumps(metadata, allow_nan=False)
    except (TypeError, ValueError) as exc:
        raise InputError(f"Gateway.metadata must be a JSON object: {exc}") from exc


def as_gateway(gateway: Gateway | str | None) -> Gateway | None:
    """Make a gateway from its id; a `Gateway` stays as it is."""
    return Gateway(gateway) if isinstance(gateway, str) else gateway


_is_gateway: Final = instance_of(Gateway, "a Gateway or its id")
_is_timeouts: Final = instance_of(Timeouts, "Timeouts")
_is_retries: Final = instance_of(Retries, "Retries")

_TAG: Final = r"[A-Za-z0-9:\-./@]{1,50}"


def _tags(value: Iterable[str] | None) -> tuple[str, ...] | None:
    if isinstance(value, str) or not isinstance(value, Iterable | None):
        raise InputError(f"Options.tags must be a list of tags, got {format_value(value)}")
    return None if value is None else tuple(value)


def _check_tags(_: object, __: object, tags: tuple[Any, ...] | None) -> None:
    if tags is None:
        return
    if len(tags) > 5:
        raise InputError(f"Options.tags must have at most 5 tags, got {len(tags)}")
    for tag in tags:
        if not isinstance(tag, str) or not re.fullmatch(_TAG, tag):
            rule = "1 to 50 characters of A-Z a-z 0-9 : - . / @"
            raise InputError(f"a tag must be {rule}, got {format_value(tag)}")


Route = Literal["run", "chat", "universal"]
"""A path that runs a model: `/ai/run/{model}`, `/ai/v1/chat/completions` or `/ai/run`."""

_ROUTES: Final[tuple[str, ...]] = get_args(Route)


def _check_route(_: object, __: object, route: object) -> None:
    if route is not None and route not in _ROUTES:
        raise InputError(
            f"Options.route must be one of {', '.join(_ROUTES)}, got {format_value(route)}"
        )


def _copy_mapping(value: Any) -> Any:
    """A copy of a mapping, which later changes by the user don't affect."""
    return dict(value) if isinstance(value, Mapping) else value


@hide_arguments_of
@frozen(kw_only=True, eq=False, repr=False)
class Options(Value):
    """Settings for one call. Fields that are `None` keep the setting of the client."""

    timeouts: Timeouts | None = field(default=None, validator=_is_timeouts)
    """Replaces the client's timeouts."""
    retries: Retries | None = field(default=None, validator=_is_retries)
    """Replaces the client's retries."""
    headers: Mapping[str, str] | None = field(
        default=None, repr=False, converter=_copy_mapping, validator=headers
    )
    """Added to those of the client; a header that is in both is taken from here."""
    gateway: Gateway | None = field(default=None, converter=as_gateway, validator=_is_gateway)
    """Replaces the client's gateway."""
    session_affinity: str | None = field(default=None, validator=header_text)
    """Calls with the same value reach the same machine, and can use its prefix cache.
    Sent as `x-session-affinity`. Source: Cloudflare docs, Workers AI, "Prompt caching"."""
    reject_if_busy: bool | None = field(default=None, validator=is_boolean)
    """Fail the call at once (429, code 3040) instead of queueing it, without `Retries.max_busy`.
    Source: Cloudflare docs, Workers AI, "Reject if busy"."""
    tags: tuple[str, ...] | None = field(default=None, converter=_tags, validator=_check_tags)
    """At most 5 tags for the logs, each of 1 to 50 letters, digits and `:-./@`."""
    route: Route | None = field(default=None, validator=_check_route)
    """The path that the model is run on: "run", "chat" or "universal". By default, its name
    decides."""


def _copy_headers(headers: Any) -> Any:
    return {} if headers is None else _copy_mapping(headers)


def _passwords(address: str) -> list[str]:
    """The password in an address, as it is written and as it is meant."""
    password = urlsplit(address).password
    return [password, unquote(password)] if password else []


@frozen(kw_only=True, eq=False, repr=False)
class Settings(Value):
    """All settings of a client, resolved and checked."""

    account_id: str = field(repr=False, validator=instance_of(str, "text", error=ConfigError))
    credentials: Credentials = field(repr=False)
    base_url: str
    gateway: Gateway | None = field(default=None, converter=as_gateway, validator=_is_gateway)
    timeouts: Timeouts = field(default=DEFAULT_TIMEOUTS, validator=_is_timeouts)
    retries: Retries = field(default=DEFAULT_RETRIES, validator=_is_retries)
    headers: Mapping[str, str] = field(
        factory=dict, repr=False, converter=_copy_headers, validator=headers
    )
    proxy: str | None = field(default=None, repr=False)
    max_answer_bytes: int = field(default=256 * 2**20, validator=at_least(1))
    max_event_bytes: int = field(default=16 * 2**20, validator=at_least(1))
    body_secrets: tuple[str, ...] = field(default=(), repr=False)
    """Secrets that are sent in the body of a call."""
    json_headers: Mapping[str, str] | None = field(default=None, init=False, repr=False, eq=False)
    """The headers of a call without options whose body is JSON, once there was one: see
    `_wire.requests`."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """All that no message may contain, the longest first."""
        gateway_token = self.gateway.authorization if self.gateway else None
        secrets = [
            *self.credentials.secrets,
            *self.body_secrets,
            *([gateway_token] if gateway_token else []),
            *(value for name, value in self.headers.items() if re.search(_CREDENTIAL_HEADER, name)),
            *([] if self.proxy is None else _passwords(self.proxy)),
        ]
        bare = {secret.removeprefix("Bearer ").removeprefix("Basic ") for secret in secrets}
        hidden = [secret for secret in bare if len(secret) >= SHORTEST_SECRET]
        return tuple(sorted(hidden, key=len, reverse=True))

    def for_call(self, options: Options | None) -> Settings:
        """These settings with the *options* of one call.

        Raises:
            InputError: *options* is not an `Options`.
        """
        if options is None:
            return self
        if not isinstance(options, Options):
            raise InputError(f"options must be Options, got {format_value(options)}")
        changes: dict[str, Any] = {
            name: value
            for name in ("timeouts", "retries", "gateway")
            if (value := getattr(options, name)) is not None
        }
        if options.reject_if_busy:
            retries = changes.get("retries", self.retries)
            changes["retries"] = attrs.evolve(retries, max_busy=0)
        if options.headers:
            changes["headers"] = {**self.headers, **options.headers}
        return attrs.evolve(self, **changes) if changes else self
