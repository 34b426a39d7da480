"""Limits on attempts: how many may be in flight at once, and how many may start per second.

The limits decide; `throttle` makes attempts wait.
"""

from collections.abc import Sequence
from math import inf
from typing import Final, Literal, Self

from attrs import define, evolve, field, frozen

from cfai._types.excerpts import format_value
from cfai._types.values import Value
from cfai._validators import at_least, is_finite_number
from cfai.errors import InputError
from cfai.profiles import profile

_DECREASE: Final = 0.5
"""Factor applied to a limit after a 429, as in TCP (RFC 5681, section 3.1)."""

_SLOW_START_PACING: Final = 2.0
_STEADY_PACING: Final = 1.2
"""How much faster attempts may start than answers arrive, during slow start and afterwards. Linux
paces TCP by the same two factors."""

_LONGEST_COOLDOWN: Final = 1.0
"""Seconds. The permit of a rate-limited attempt stays unused for at most this long."""

_BURST_SECONDS: Final = 0.5
"""Seconds of the rate that may start at once after an idle time. The service counts per minute, so
a burst this short does not matter to it, and a job starts without delay."""

_BURST_ATTEMPTS: Final = 25
"""Attempts that may start at once, however high the rate is."""

_LONGEST_DEBT: Final = 1.0
"""Seconds by which attempts outside the rate limit can delay those inside it."""


@frozen(kw_only=True, eq=False, repr=False)
class Adaptive(Value):
    """A limit on concurrent attempts that adapts to what the service accepts.

    It doubles each round trip until the service first rate-limits a request (429). That halves it,
    at most once per round trip; from then on it grows by one per round trip.

    Raises:
        InputError: A value is below 1, or the values are not in the order min, start, max.
    """

    start: int = field(default=8, validator=at_least(1))
    """Concurrent attempts at the beginning."""
    min: int = field(default=1, validator=at_least(1))
    """The limit never falls below this."""
    max: int = field(default=64, validator=at_least(1))
    """The limit never grows beyond this."""

    def __attrs_post_init__(self) -> None:
        if not self.min <= self.start <= self.max:
            values = f"{self.min}, {self.start} and {self.max}"
            raise InputError(f"Adaptive needs min <= start <= max, got {values}")

    def within(self, ceiling: float) -> Self:
        """The same limit with all values capped at *ceiling*."""
        if self.max <= ceiling:
            return self
        start, minimum, maximum = (int(min(ceiling, n)) for n in (self.start, self.min, self.max))
        return evolve(self, start=start, min=minimum, max=maximum)


Concurrency = Adaptive | int | None
"""How many attempts may be in flight at once: adaptive, a number, or `None` for no limit."""

Rate = float | Literal["auto"] | None
"""Requests per minute: a number, "auto" for the documented limit, or `None` for no limit."""


@frozen(eq=False, repr=False)
class FixedLimit(Value):
    """A limit that never changes; infinity means no limit."""

    value: float = inf
    gap: float = 0.0

    def record_answer(self, *, in_flight: int, seconds: float) -> None:
        pass

    def record_rate_limited(self, *, sent: float, now: float) -> float:
        return 0.0


@define
class AdaptiveLimit:
    """The current state of an `Adaptive` limit: it follows the outcome of earlier attempts."""

    bounds: Adaptive
    value: float = field(init=False)
    """How many attempts may be in flight at once. A fraction does not admit another attempt."""
    _slow_start_below: float = field(default=inf, init=False)
    """Below this value the limit doubles each round trip: there was never a 429 there."""
    _decreased_at: float = field(default=-inf, init=False)
    _round_trip: float = field(default=0.0, init=False)
    """Smoothed seconds from sending a request to its answer."""

    def __attrs_post_init__(self) -> None:
        self.value = float(self.bounds.start)

    @property
    def gap(self) -> float:
        """Minimum seconds between the starts of two attempts.

        It spreads the attempts of one round trip evenly, with some room to spare. Attempts that
        start together are answered together, so the next group would be even larger, and all of it
        would be sent before its first 429 arrives.
        """
        slow_start = self.value < self._slow_start_below
        pacing = _SLOW_START_PACING if slow_start else _STEADY_PACING
        return self._round_trip / (self.value * pacing)

    def record_answer(self, *, in_flight: int, seconds: float) -> None:
        """Grow after an answer: by one during slow start, afterwards by one per round trip.

        The answer took *seconds*; *in_flight* includes its attempt. The limit stays if less than
        half of it is in use: then the answer says nothing about the limit. (Netflix's AIMDLimit has
        the same rule.)
        """
        # Smoothed like TCP's round-trip time (RFC 6298, section 2).
        self._round_trip += (seconds - self._round_trip) / 8 if self._round_trip else seconds
        if 2 * in_flight < self.value:
            return
        step = 1.0 if self.value < self._slow_start_below else 1.0 / self.value
        self.value = min(float(self.bounds.max), self.value + step)

    def record_rate_limited(self, *, sent: float, now: float) -> float:
        """Halve the limit, unless the rate-limited attempt was sent before it was last halved.

        Returns the seconds during which the permit must stay unused: the rest of a normal round
        trip. A 429 comes back faster than an answer, and a series of quick ones would cut the limit
        to its minimum.
        """
        if sent > self._decreased_at:
            self.value = max(float(self.bounds.min), self.value * _DECREASE)
            self._slow_start_below = self.value
            self._decreased_at = now
        return max(0.0, min(self._round_trip, _LONGEST_COOLDOWN) - (now - sent))


ConcurrencyLimit = FixedLimit | AdaptiveLimit


def concurrency_limit(concurrency: Concurrency, ceiling: float = inf) -> ConcurrencyLimit:
    """The limit that *concurrency* describes, never above *ceiling*.

    Raises:
        InputError: *concurrency* is not a valid limit.
    """
    match concurrency:
        case None:
            return FixedLimit(ceiling)
        case Adaptive():
            return AdaptiveLimit(concurrency.within(ceiling))
        case bool():
            pass
        case int() if concurrency >= 1:
            return FixedLimit(min(concurrency, ceiling))
    raise InputError(f"concurrency must be Adaptive(), 1 or more, or None, got {concurrency!r}")


def requests_per_minute(model: str, rate: Rate) -> float | None:
    """The requests per minute that *rate* allows for *model*; `None` is no limit.

    Raises:
        InputError: *rate* is not a valid rate.
    """
    if rate == "auto":
        return profile(model).requests_per_minute
    if rate is not None and not (is_finite_number(rate) and rate > 0):
        raise InputError(
            f'rate must be requests per minute, "auto" or None, got {format_value(rate)}'
        )
    return rate


@define
class RateLimit:
    """A limit of *per_second* attempts, first come, first served.

    This is the generic cell rate algorithm: a leaky bucket kept as a single number.
    """

    per_second: float
    _next: float = field(default=-inf, init=False)
    """When the next attempt would be due if bursts were not allowed."""

    def reserve(self, now: float) -> float:
        """Reserve the next attempt; returns when it may start: *now* or later."""
        interval = 1.0 / self.per_second
        burst = max(0.0, min(_BURST_SECONDS, _BURST_ATTEMPTS * interval) - interval)
        due = max(now, self._next)
        self._next = due + interval
        return max(now, due - burst)

    def count(self, now: float) -> None:
        """Count an attempt that started without a reservation: later reservations are delayed."""
        later = max(now, self._next) + 1.0 / self.per_second
        self._next = max(self._next, min(later, now + _LONGEST_DEBT))


@define
class RateLimits:
    """The rate limits of all users of one limit of the service: one per chosen rate, and a total.

    Users that choose the same rate share it, and all of them together keep to the highest rate.
    """

    _by_rate: dict[float, RateLimit] = field(factory=dict, init=False)
    _total: RateLimit = field(factory=lambda: RateLimit(0.0), init=False)

    def at(self, per_second: float, documented: float) -> Sequence[RateLimit]:
        """The limits that each attempt must keep, in the order in which to reserve them.

        Args:
            per_second: The chosen rate.
            documented: The documented rate of the service; the total is never below it.
        """
        self._total.per_second = max(self._total.per_second, per_second, documented)
        rate_limit = self._by_rate.setdefault(per_second, RateLimit(per_second))
        return rate_limit, self._total

    def count(self, now: float) -> None:
        """Count an attempt that started without a reservation."""
        for limit in (*self._by_rate.values(), self._total):
            if limit.per_second:
                limit.count(now)
