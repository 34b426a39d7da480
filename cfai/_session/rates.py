"""How often an attempt may begin: the generic cell rate algorithm, a leaky bucket as one number."""

from collections.abc import Sequence
from math import inf
from typing import Final

from attrs import define, field

_BURST: Final = 0.5
"""Seconds of the rate that may go at once after a quiet time. The service's own window is a minute;
a burst this short is lost in it, and lets a job begin without a crawl."""

_MOST: Final = 25
"""Attempts that may go at once, however high the rate: buckets are shallower than rates."""

_DEBT: Final = 1.0
"""Seconds that others, who don't keep to the rate, can hold back those who do."""


@define
class Pace:
    """Keeps to *per_second* attempts a second, whoever asks, in the order in which they ask."""

    per_second: float
    _next: float = field(default=-inf, init=False)
    """When the next attempt would be due if there were no bursts."""

    def reserve(self, now: float) -> float:
        """Take the next place, and give the moment when it is due: *now*, or later."""
        interval = 1.0 / self.per_second
        burst = max(0.0, min(_BURST, _MOST * interval) - interval)
        place = max(now, self._next)
        self._next = place + interval
        return max(now, place - burst)

    def count(self, now: float) -> None:
        """Count an attempt that went without asking: those who ask go later for it."""
        later = max(now, self._next) + 1.0 / self.per_second
        self._next = max(self._next, min(later, now + _DEBT))


@define
class Paces:
    """The paces of all who share one limit of the service: one for each number, and one for all.

    Whoever names a number keeps to it, together with the others who name the same; and all of them
    together keep to the highest.
    """

    _each: dict[float, Pace] = field(factory=dict, init=False)
    _all: Pace = field(factory=lambda: Pace(0.0), init=False)

    def at(self, per_second: float, documented: float) -> Sequence[Pace]:
        """What an attempt keeps to, one after the other.

        Args:
            per_second: The number.
            documented: What the service is known to take, whatever lower number anybody names.
        """
        self._all.per_second = max(self._all.per_second, per_second, documented)
        own = self._each.setdefault(per_second, Pace(per_second))
        return own, self._all

    def count(self, now: float) -> None:
        """Count an attempt that went without asking."""
        for pace in (*self._each.values(), self._all):
            if pace.per_second:
                pace.count(now)
