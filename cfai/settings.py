"""What the user decides: credentials, time limits, retries, the gateway, the options of a call.

Values only: nothing here opens a connection. What they become on the wire is written in `_wire`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, Final, Literal, Self

import attrs
from attrs import field, frozen

from cfai._validators import count, flag, kind, limit, pause, shown, text, times
from cfai.addresses import base_address, proxy_for
from cfai.credentials import Credentials, distinct, holds_secret, known
from cfai.errors import CfaiError, ConfigError, InputError

__all__ = [
    "CLOUDFLARE",
    "DEFAULT_RETRIES",
    "DEFAULT_TIMEOUTS",
    "UNSET",
    "Gateway",
    "Options",
    "Polling",
    "Retries",
    "Retry",
    "Settings",
    "Timeouts",
    "Unset",
    "as_gateway",
]

CLOUDFLARE: Final = "https://api.cloudflare.com/client/v4"
"""Where Workers AI answers, unless `base_url` or `CLOUDFLARE_BASE_URL` says otherwise."""


class Unset(Enum):
    """The type of `UNSET`: one member, so that type checkers can narrow it away."""

    UNSET = "UNSET"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET
"""Left as it is. Used only where `None` already means something ("no gateway", "no proxy")."""


@frozen(kw_only=True)
class Timeouts:
    """Time limits in seconds; `None` is no limit."""

    connect: float | None = field(default=5.0, validator=limit)
    """To look the host up, connect and agree on TLS."""
    pool: float | None = field(default=60.0, validator=limit)
    """To wait for a free connection when `limit` requests are under way."""
    response: float | None = field(default=120.0, validator=limit)
    """One attempt, from its first byte sent to its last byte read; for a stream, to its headers.
    While files are sent, it counts from the last piece of them that went out."""
    idle: float | None = field(default=60.0, validator=limit)
    """Inside a stream: since the last byte of any kind. A keep-alive comment starts it anew."""
    content: float | None = field(default=None, validator=limit)
    """Inside a stream: since the last event that added something."""
    total: float | None = field(default=None, validator=limit)
    """The whole call: every attempt, every pause between them, and a stream to its end."""


@frozen
class Retry:
    """A failed attempt that is about to be repeated, as `Retries.on_retry` hears of it."""

    attempt: int
    """Which attempt failed: 1 is the first."""
    failure: CfaiError
    pause: float
    """Seconds until the next one."""


@frozen(kw_only=True)
class Retries:
    """When and how often a failed attempt is repeated.

    Repeated are failed connects, 408, 429 (never a used-up quota: 3036, 4006), 5xx, the codes 3007,
    3008 and 3040, and a connection lost before an answer. The pause before retry *n* (from 0) is
    chosen evenly from 0 to `min(cap, base * 2**n)` seconds, unless the service names one.
    """

    max: int = field(default=2, validator=count(0))
    """Attempts after the first; 0 never repeats."""
    base: float = field(default=0.5, validator=pause)
    """Seconds; the upper end of the first pause."""
    cap: float = field(default=8.0, validator=pause)
    """Seconds; no chosen pause is longer."""
    max_wait: float = field(default=60.0, validator=pause)
    """Seconds; the longest `Retry-After` that is waited for. A longer one is raised at once."""
    on_retry: Callable[[Retry], None] | None = field(
        default=None, eq=False, validator=kind(Callable, "something to call")
    )
    """Called before each pause. What it raises ends the call."""


DEFAULT_TIMEOUTS: Final = Timeouts()
DEFAULT_RETRIES: Final = Retries()


@frozen(kw_only=True)
class Polling:
    """How long to wait between two looks at a batch: the first pause, and how it grows."""

    base: float = field(default=1.0, validator=pause)
    """Seconds; the first pause."""

    factor: float = field(default=1.5, validator=times)
    """How many times as long each pause is as the one before."""

    cap: float = field(default=30.0, validator=pause)
    """Seconds; no pause is longer."""

    def pause(self, looks: int) -> float:
        """Seconds to wait after so many looks, 1 or more."""
        try:
            return min(self.cap, self.base * float(self.factor) ** min(looks - 1, 64))
        except OverflowError:
            return self.cap


@frozen
class Gateway:
    """The AI Gateway that a request goes through, and what it shall do with it.

    Sent as `cf-aig-*` headers. Source: Cloudflare docs, AI Gateway, "Request headers".
    """

    id: str = field(validator=text)
    """The gateway's name in the account; "default" is made on first use."""
    skip_cache: bool | None = field(default=None, kw_only=True, validator=flag)
    cache_ttl: int | None = field(default=None, kw_only=True, validator=count(0))
    """Seconds that the gateway keeps the answer."""
    cache_key: str | None = field(default=None, kw_only=True, validator=text)
    collect_log: bool | None = field(default=None, kw_only=True, validator=flag)
    request_timeout: int | None = field(default=None, kw_only=True, validator=count(1))
    """Milliseconds after which the gateway gives the provider up."""
    max_attempts: int | None = field(default=None, kw_only=True, validator=count(1))
    """The gateway's own attempts, 1 to 5."""
    retry_delay: int | None = field(default=None, kw_only=True, validator=count(0))
    """Milliseconds between the gateway's attempts, at most 5000."""
    backoff: Literal["constant", "linear", "exponential"] | None = field(default=None, kw_only=True)
    metadata: Mapping[str, str | int | float | bool | None] | None = field(
        default=None, kw_only=True, validator=kind(Mapping, "a mapping")
    )
    """Kept with the log entry; at most 5 entries."""
    event_id: str | None = field(default=None, kw_only=True, validator=text)
    byok_alias: str | None = field(default=None, kw_only=True, validator=text)
    zdr: bool | None = field(default=None, kw_only=True, validator=flag)
    authorization: str | None = field(default=None, kw_only=True, repr=False, validator=text)
    """The token of an authenticated gateway."""

    def __attrs_post_init__(self) -> None:
        if not re.fullmatch(r"[\x21-\x7e]+", self.id):
            raise InputError(f"Gateway.id must be printable ASCII without spaces, got {self.id!r}")
        for name, most in (("max_attempts", 5), ("retry_delay", 5000)):
            value = getattr(self, name)
            if value is not None and value > most:
                raise InputError(f"Gateway.{name} must be at most {most}, got {value}")
        if self.backoff not in (None, "constant", "linear", "exponential"):
            kinds = "constant, linear or exponential"
            raise InputError(f"Gateway.backoff must be {kinds}, got {self.backoff!r}")
        if self.metadata is not None and len(self.metadata) > 5:
            count = len(self.metadata)
            raise InputError(f"Gateway.metadata must have at most 5 entries, got {count}")


def as_gateway(given: Gateway | str | None) -> Gateway | None:
    """A gateway from its bare id, or as it is."""
    return Gateway(given) if isinstance(given, str) else given


_A_GATEWAY: Final = kind(Gateway, "a Gateway or its id")
_SOME_HEADERS: Final = kind(Mapping, "a mapping of names to values")
_SOME_TIMEOUTS: Final = kind(Timeouts, "Timeouts")
_SOME_RETRIES: Final = kind(Retries, "Retries")

_TAG = re.compile(r"[A-Za-z0-9:\-./@]{1,50}")


def _tags(value: Iterable[str] | None) -> tuple[str, ...] | None:
    if isinstance(value, str):
        raise InputError(f"Options.tags must be several tags, got the one text {value!r}")
    if not isinstance(value, Iterable | None):
        raise InputError(f"Options.tags must be several tags, got {shown(value)}")
    return None if value is None else tuple(value)


def _check_tags(_: object, __: object, tags: tuple[Any, ...] | None) -> None:
    if tags is None:
        return
    if len(tags) > 5:
        raise InputError(f"Options.tags must have at most 5 tags, got {len(tags)}")
    for tag in tags:
        if not isinstance(tag, str) or not _TAG.fullmatch(tag):
            raise InputError(f"a tag must be 1 to 50 of A-Z a-z 0-9 : - . / @, got {shown(tag)}")


@frozen(kw_only=True)
class Options:
    """What differs for one call. A field left at `None` keeps the client's own."""

    timeouts: Timeouts | None = field(default=None, validator=_SOME_TIMEOUTS)
    retries: Retries | None = field(default=None, validator=_SOME_RETRIES)
    headers: Mapping[str, str] | None = field(default=None, repr=False, validator=_SOME_HEADERS)
    """Added to the client's; a header named in both is taken from here."""
    gateway: Gateway | None = field(default=None, converter=as_gateway, validator=_A_GATEWAY)
    session_affinity: str | None = field(default=None, validator=text)
    """Calls with the same one reach the same machine, whose prefix cache then serves them.
    Sent as `x-session-affinity`. Source: Cloudflare docs, Workers AI, "Prompt caching"."""
    reject_if_busy: bool | None = field(default=None, validator=flag)
    """Refuse at once (429, code 3040) instead of queueing.
    Source: Cloudflare docs, Workers AI, "Reject if busy"."""
    tags: tuple[str, ...] | None = field(default=None, converter=_tags, validator=_check_tags)
    """At most 5 words for the logs, each of 1 to 50 characters: letters, digits and `:-./@`."""


def _copied(headers: Any) -> Any:
    """Headers that the user no longer changes. What are none is for the validator to refuse."""
    return dict(headers or {}) if isinstance(headers, Mapping | None) else headers


@frozen(kw_only=True)
class Settings:
    """Everything a client was told, resolved and checked."""

    account_id: str = field(repr=False, validator=kind(str, "text", error=ConfigError))
    credentials: Credentials = field(repr=False)
    base_url: str
    gateway: Gateway | None = field(default=None, converter=as_gateway, validator=_A_GATEWAY)
    timeouts: Timeouts = field(default=DEFAULT_TIMEOUTS, validator=_SOME_TIMEOUTS)
    retries: Retries = field(default=DEFAULT_RETRIES, validator=_SOME_RETRIES)
    headers: Mapping[str, str] = field(
        factory=dict, repr=False, converter=_copied, validator=_SOME_HEADERS
    )
    proxy: str | None = field(default=None, repr=False)
    max_answer_bytes: int = field(default=256 * 2**20, validator=count(1))
    max_event_bytes: int = field(default=16 * 2**20, validator=count(1))
    in_body: tuple[str, ...] = field(default=(), repr=False)
    """Secrets that a call carries in its body."""

    @classmethod
    def resolve(
        cls,
        *,
        account_id: str | None,
        credentials: Credentials,
        base_url: str | None,
        gateway: Gateway | str | None,
        proxy: str | None,
        trusts_environment: bool,
        allow_insecure: bool,
        **rest: Any,
    ) -> Self:
        """Fill what was left out from the environment.

        Args:
            trusts_environment: Whether to use a proxy that it names. A session that was passed has
                its own.

        Raises:
            ConfigError: There is no account, or the address can't be used.
        """
        account = known(account_id, "CLOUDFLARE_ACCOUNT_ID", "CF_ACCOUNT_ID")
        if not account:
            raise ConfigError("no account: pass account_id, or set CLOUDFLARE_ACCOUNT_ID")
        url = known(base_url, "CLOUDFLARE_BASE_URL")
        url = base_address(CLOUDFLARE if url is None else url, allow_insecure=allow_insecure)
        return cls(
            account_id=account,
            credentials=credentials,
            base_url=url,
            proxy=proxy_for(proxy, url if trusts_environment else None),
            gateway=_known_gateway(gateway),
            **rest,
        )

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no message may contain."""
        authorization = self.gateway.authorization if self.gateway else None
        return distinct(
            *self.credentials.secrets,
            *self.in_body,
            *([authorization] if authorization else []),
            *(value for name, value in self.headers.items() if holds_secret(name)),
        )

    def for_call(self, options: Options | None) -> Settings:
        """These settings, with what *options* changes for one call.

        Raises:
            InputError: They are no `Options`.
        """
        if options is None:
            return self
        if not isinstance(options, Options):
            raise InputError(f"options must be Options, got {shown(options)}")
        changes = {
            name: value
            for name in ("timeouts", "retries", "gateway")
            if (value := getattr(options, name)) is not None
        }
        if options.headers:
            changes["headers"] = {**self.headers, **options.headers}
        return attrs.evolve(self, **changes) if changes else self


def _known_gateway(given: Gateway | str | None) -> Gateway | str | None:
    return given if given is not None else known(None, "CLOUDFLARE_GATEWAY_ID")
