"""How many attempts may be under way at once, decided from what became of earlier ones."""

from math import inf
from typing import Any, Final, Protocol, Self

from attrs import Attribute, define, evolve, field, frozen

from cfai.errors import InputError

_CUT: Final = 0.5
"""What is left of a limit after a refusal, as in TCP (RFC 5681, section 3.1)."""

_RAMP: Final = 2.0
_LEVEL: Final = 1.2
"""How much faster attempts may begin than answers come, while the limit doubles and later. (Linux
paces TCP by the same two.)"""

_LONGEST: Final = 1.0
"""Seconds that the place of a refused attempt stays empty, at most."""


def _positive(_: object, attribute: "Attribute[Any]", value: int) -> None:
    if type(value) is not int or value < 1:
        name = f"Adaptive.{attribute.name}"
        raise InputError(f"{name} must be a whole number, 1 or more, got {value!r}")


@frozen(kw_only=True)
class Adaptive:
    """A limit on what is under way at once that finds itself.

    It doubles with each round trip until the service first refuses something (429); then it is
    halved, once a round trip however much is refused, and grows by one a round trip.

    Raises:
        InputError: A number is below 1, or they are not in the order min, start, max.
    """

    start: int = field(default=8, validator=_positive)
    """Attempts at once to begin with."""
    min: int = field(default=1, validator=_positive)
    """It never falls below this."""
    max: int = field(default=64, validator=_positive)
    """It never grows beyond this."""

    def __attrs_post_init__(self) -> None:
        if not self.min <= self.start <= self.max:
            given = f"{self.min}, {self.start} and {self.max}"
            raise InputError(f"Adaptive needs min <= start <= max, got {given}")

    def within(self, most: float) -> Self:
        """The same, where *most* is not exceeded."""
        if self.max <= most:
            return self
        start, least, highest = (int(min(most, one)) for one in (self.start, self.min, self.max))
        return evolve(self, start=start, min=least, max=highest)


class Limit(Protocol):
    """What a gate asks before it lets an attempt through, and tells of each that is over."""

    @property
    def value(self) -> float:
        """How many attempts may be under way at once; a fraction counts from the next whole."""

    @property
    def gap(self) -> float:
        """Seconds that shall lie between the beginnings of two attempts."""

    def answered(self, *, under_way: int, seconds: float) -> None:
        """Hear that an attempt was answered, and after how long; *under_way* counts it."""

    def refused(self, *, sent: float, now: float) -> float:
        """Hear that an attempt that began at *sent* was refused; both by one clock, in seconds.

        Returns:
            For how many seconds its place shall stay empty.
        """


@frozen
class Fixed:
    """A limit that stays what it is; infinity is none."""

    value: float = inf
    gap: float = 0.0

    def answered(self, *, under_way: int, seconds: float) -> None:
        """Learn nothing."""

    def refused(self, *, sent: float, now: float) -> float:
        """Learn nothing."""
        return 0.0


@define
class Adapting:
    """The present state of an `Adaptive` limit."""

    bounds: Adaptive
    value: float = field(init=False)
    _calm: float = field(default=inf, init=False)
    """Below it, growth doubles: nothing was ever refused there."""
    _cut_at: float = field(default=-inf, init=False)
    _usual: float = field(default=0.0, init=False)
    """Seconds that an answer takes."""

    def __attrs_post_init__(self) -> None:
        self.value = float(self.bounds.start)

    @property
    def gap(self) -> float:
        """A round trip has room for as many as the limit, and some more, one after the other.

        Answers come in crowds where attempts began in crowds, and the next crowd would be larger:
        by the time that the first of it is refused, all of it is sent.
        """
        return self._usual / (self.value * (_RAMP if self.value < self._calm else _LEVEL))

    def answered(self, *, under_way: int, seconds: float) -> None:
        """Grow: by one for each answer at first, later by one for each round of them.

        Not where less than half of the limit is in use: then the answer says nothing about it.
        (Netflix's AIMDLimit has the same rule.)
        """
        # As TCP smooths its round trips (RFC 6298, section 2).
        self._usual += (seconds - self._usual) / 8 if self._usual else seconds
        if 2 * under_way < self.value:
            return
        step = 1.0 if self.value < self._calm else 1.0 / self.value
        self.value = min(float(self.bounds.max), self.value + step)

    def refused(self, *, sent: float, now: float) -> float:
        """Cut, unless the attempt began before the last cut: then it says nothing about that.

        A refusal comes at once, where an answer takes its time. Its place stays empty for as long:
        otherwise so many are refused one after the other that the limit is cut to nothing.
        """
        if sent > self._cut_at:
            self.value = self._calm = max(float(self.bounds.min), self.value * _CUT)
            self._cut_at = now
        return max(0.0, min(self._usual, _LONGEST) - (now - sent))
