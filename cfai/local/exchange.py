"""Answered requests (`Exchange`), and the headers that every response has."""

import asyncio
import math
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson
from aiohttp import web
from attrs import define, field, frozen

from cfai.errors import ConfigError
from cfai.local import errors
from cfai.local.backends.roles import GenerationEnd

CLIENT_GONE = 499
"""The status of a request whose client left before the response began."""


@frozen
class Exchange:
    """An answered request."""

    model: str | None
    """The model in the path; `None` if the path names none."""
    status: int
    """The HTTP status; 499 if the client left before the response began."""
    backend: str | None = None
    """The backend that computed the answer."""
    ending: GenerationEnd | None = None
    """How the text generation ended, if there was one; "stopped" if the client left."""


@define
class ExchangeRecorder:
    """Collects the facts about one request while it is answered."""

    model: str | None = None
    status: int = CLIENT_GONE
    backend: str | None = None
    end: asyncio.Future[GenerationEnd] | None = None

    def start_response(self, backend: str) -> dict[str, str]:
        """Record a successful response by *backend* and return its headers."""
        self.status, self.backend = 200, backend
        return common_headers(backend)

    @property
    def ending(self) -> GenerationEnd | None:
        """How the text generation ended, if there was one and it has ended."""
        if self.end is None or not self.end.done():
            return None
        return None if self.end.cancelled() or self.end.exception() else self.end.result()

    def finish(self, record: Callable[[Exchange], object]) -> None:
        """Call *record* with the exchange, once its text generation has ended, too."""

        def record_end(end: asyncio.Future[GenerationEnd]) -> None:
            record(Exchange(self.model, self.status, self.backend, self.ending))

        if self.end is None:
            record(Exchange(self.model, self.status, self.backend))
        else:
            self.end.add_done_callback(record_end)


def common_headers(backend: str = "") -> dict[str, str]:
    """Return the headers of a response, with the name of the backend that computed it, if any."""
    names = {"cfai-backend": backend} if backend else {}
    return {"cf-ray": f"{secrets.token_hex(8)}-LOCAL", "cfai-local": "1"} | names


def json_response(
    status: int, document: Any, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Build a JSON response from a document, or from bytes that are already encoded."""
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    fields = common_headers() if headers is None else headers
    return web.Response(
        status=status, body=body, headers={"Content-Type": "application/json", **fields}
    )


# Limits of an account, as the service has them: requests in a window, and a daily allocation

_DAY: Final = 86_400

_BYTES_PER_TOKEN: Final = 4
"""About as many as in English. For tasks whose tokens are not counted."""

_NEURONS_PER_PROMPT_TOKEN: Final = 1.04 / 39
_NEURONS_PER_COMPLETION_TOKEN: Final = 0.2048
"""Recorded from @cf/meta/llama-3.3-70b-instruct-fp8-fast. Here, every model costs as much."""


@frozen
class Limits:
    """What an account can ask of a server; more is refused with 429.

    Raises:
        ConfigError: A limit is negative, or *window* not above 0.
    """

    requests: int | None = None
    """Requests per window (the service: 1200). The responses have the headers `Ratelimit` and
    `Ratelimit-Policy`, and a refusal `Retry-After`."""
    window: float = 300.0
    """In seconds."""
    requests_per_day: int | None = None
    """After so many answers, the rest of the day is refused with code 3036, until 00:00 UTC."""
    neurons_per_day: float | None = None
    """As *requests_per_day*, in neurons (the service: 10,000 are free). Whole answers have the
    header `cf-ai-neurons`."""
    clock: Callable[[], float] = time.time
    """Returns the time in seconds since 1970."""

    def __attrs_post_init__(self) -> None:
        for name in ("requests", "requests_per_day", "neurons_per_day"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ConfigError(f"{name} must be at least 0, got {value}")
        if not 0 < self.window < math.inf:
            raise ConfigError(f"window must be above 0, got {self.window}")


@define
class _Count:
    """What an account has used in a period."""

    period: int = -1
    requests: int = 0
    neurons: float = 0.0

    def renew(self, period: int) -> None:
        """Start from zero if another period has begun."""
        if period != self.period:
            self.period, self.requests, self.neurons = period, 0, 0.0


@define
class Meter:
    """Counts what the accounts use, and refuses what is over their limits."""

    limits: Limits
    _windows: dict[str, _Count] = field(factory=dict)
    _days: dict[str, _Count] = field(factory=dict)

    def admit(self, account: str, *, costs: bool) -> None:
        """Count a request, which *costs* something if it is not only for a list.

        Raises:
            ApiError: The account has no requests left in this window, or nothing left of its day.
        """
        limits, window, day = self.limits, self._window(account), self._day(account)
        if limits.requests is not None:
            if window.requests >= limits.requests:
                left = self._seconds_left()
                raise errors.too_many_requests(limits.requests, limits.window, left)
            window.requests += 1
        if not costs:
            return
        if limits.requests_per_day is not None and day.requests >= limits.requests_per_day:
            raise errors.quota_used_up(f"{limits.requests_per_day:,} requests")
        if limits.neurons_per_day is not None and day.neurons >= limits.neurons_per_day:
            raise errors.quota_used_up(f"{limits.neurons_per_day:,g} neurons")

    def charge(self, account: str, neurons: float) -> None:
        """Count an answer."""
        day = self._day(account)
        day.requests += 1
        day.neurons += neurons

    def headers(self, account: str) -> dict[str, str]:
        """Return the headers of a response.

        Source: Cloudflare docs, Fundamentals, API, "Rate limits" (April 2026).
        """
        limit = self.limits.requests
        if limit is None:
            return {}
        left = limit - self._window(account).requests
        return {
            "Ratelimit": f'"default";r={left};t={self._seconds_left()}',
            "Ratelimit-Policy": f'"default";q={limit};w={self.limits.window:g}',
        }

    def _seconds_left(self) -> int:
        """Return when the next window begins, rounded up."""
        return math.ceil(self.limits.window - self.limits.clock() % self.limits.window)

    def _window(self, account: str) -> _Count:
        count = self._windows.setdefault(account, _Count())
        count.renew(int(self.limits.clock() // self.limits.window))
        return count

    def _day(self, account: str) -> _Count:
        count = self._days.setdefault(account, _Count())
        count.renew(int(self.limits.clock() // _DAY))
        return count


def count_neurons(ending: GenerationEnd | None, request_bytes: int) -> float:
    """Return what an answer costs: by the tokens of its text, or else by the request's size."""
    if ending is None:
        return request_bytes / _BYTES_PER_TOKEN * _NEURONS_PER_PROMPT_TOKEN
    return (
        ending.prompt_tokens * _NEURONS_PER_PROMPT_TOKEN
        + ending.completion_tokens * _NEURONS_PER_COMPLETION_TOKEN
    )
