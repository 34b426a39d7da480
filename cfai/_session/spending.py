"""`Spending` adds up what the answers of a client cost, as the service reports it."""

from math import inf
from threading import RLock
from typing import Any, Self

from attrs import frozen

from cfai._types.excerpts import format_value
from cfai._types.values import Value
from cfai._validators import is_finite_number
from cfai.errors import BudgetExceeded, InputError


@frozen(eq=False, repr=False)
class Spent(Value):
    """What a client's calls have cost so far, as far as the service reported it."""

    neurons: float = 0.0
    """The sum of the reported costs, in neurons, the unit that Cloudflare bills."""

    calls: int = 0
    """How many calls were answered."""

    unreported: int = 0
    """How many of these answers had no cost with them. What they cost is not in `neurons`."""


class Spending:
    """Adds up the costs of a client and its copies, which may run in several threads.

    All copies share it, deep ones too: a budget is for all of them together.
    """

    def __init__(self, budget: float | None = None) -> None:
        if budget is not None and not (is_finite_number(budget) and budget >= 0):
            rule = "a finite number of neurons, 0 or more"
            raise InputError(f"budget must be {rule}, got {format_value(budget)}")
        self._budget = budget
        # Reentrant, because a stream that is collected as garbage adds its cost, too.
        self._lock = RLock()
        self._neurons = 0.0
        self._calls = 0
        self._unreported = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    @property
    def spent(self) -> Spent:
        """The sums so far."""
        with self._lock:
            return Spent(self._neurons, self._calls, self._unreported)

    def check_budget(self) -> None:
        """Check that a call may be sent.

        Raises:
            BudgetExceeded: The budget is used up.
        """
        if self._budget is not None and self._neurons >= self._budget:
            spent, budget = self._neurons, self._budget
            raise BudgetExceeded(
                f"the client's budget is used up: {spent:g} of {budget:g} neurons are spent;"
                " create a client with a larger budget, or without one",
                budget=budget,
                spent=spent,
            )

    def add(self, neurons: float | None) -> None:
        """Add the cost of one answer; `None` if the service reported none."""
        with self._lock:
            self._calls += 1
            if neurons is not None and 0 <= neurons < inf:
                self._neurons += neurons
            else:
                self._unreported += 1
