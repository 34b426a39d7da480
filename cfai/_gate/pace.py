"""How often an attempt may begin: the generic cell rate algorithm, a leaky bucket as one number."""

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
