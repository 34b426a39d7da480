"""How many attempts may be under way at once, decided from what became of earlier ones."""

from math import inf
from typing import Any, Final, Protocol

from attrs import Attribute, define, field, frozen

from cfai.errors import InputError

_CUT: Final = 0.5
"""What is left of a limit after a refusal, as in TCP (RFC 5681, section 3.1)."""


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


class Limit(Protocol):
    """What a gate asks before it lets an attempt through, and tells of each that is over."""

    @property
    def value(self) -> float:
        """How many attempts may be under way at once; a fraction counts from the next whole."""

    def answered(self, *, under_way: int) -> None:
        """Hear that an attempt was answered; *under_way* counts it."""

    def refused(self, *, sent: float, now: float) -> None:
        """Hear that an attempt that began at *sent* was refused; both by one clock, in seconds."""


@frozen
class Fixed:
    """A limit that stays what it is; infinity is none."""

    value: float = inf

    def answered(self, *, under_way: int) -> None:
        """Learn nothing."""

    def refused(self, *, sent: float, now: float) -> None:
        """Learn nothing."""


@define
class Adapting:
    """The present state of an `Adaptive` limit."""

    bounds: Adaptive
    value: float = field(init=False)
    _calm: float = field(default=inf, init=False)
    """Below it, growth doubles: nothing was ever refused there."""
    _cut_at: float = field(default=-inf, init=False)

    def __attrs_post_init__(self) -> None:
        self.value = float(self.bounds.start)

    def answered(self, *, under_way: int) -> None:
        """Grow: by one for each answer at first, later by one for each round of them.

        Not where less than half of the limit is in use: then the answer says nothing about it.
        (Netflix's AIMDLimit has the same rule.)
        """
        if 2 * under_way < self.value:
            return
        step = 1.0 if self.value < self._calm else 1.0 / self.value
        self.value = min(float(self.bounds.max), self.value + step)

    def refused(self, *, sent: float, now: float) -> None:
        """Cut, unless the attempt began before the last cut: then it says nothing about that."""
        if sent <= self._cut_at:
            return
        self.value = self._calm = max(float(self.bounds.min), self.value * _CUT)
        self._cut_at = now
