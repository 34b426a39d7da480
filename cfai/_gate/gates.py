"""The gates and paces of one client: for each event loop its own, shared by all calls on it."""

import asyncio
from math import inf
from typing import Literal, NamedTuple
from weakref import WeakKeyDictionary

from attrs import field, frozen

from cfai._gate.gate import Gate
from cfai._gate.limits import Adapting, Adaptive, Fixed, Limit
from cfai._gate.pace import Pace
from cfai.errors import InputError
from cfai.profiles import profile

Concurrency = Adaptive | int | None
"""How many attempts may be under way at once: a limit that adapts, a number, or no limit."""

Rate = float | Literal["auto"] | None
"""Requests a minute: a number, the documented limit of the model, or no limit."""


def limit_of(concurrency: Concurrency) -> Limit:
    """The limit that *concurrency* asks for, at its start.

    Raises:
        InputError: It is no limit.
    """
    match concurrency:
        case None:
            return Fixed()
        case Adaptive():
            return Adapting(concurrency)
        case bool():
            pass
        case int() if concurrency >= 1:
            return Fixed(concurrency)
    raise InputError(f"concurrency must be Adaptive(), 1 or more, or None, got {concurrency!r}")


def per_minute(model: str, rate: Rate) -> float | None:
    """How many requests of *model* a minute *rate* means; `None` is no limit.

    Raises:
        InputError: It is no rate.
    """
    known = profile(model).requests_per_minute if rate == "auto" else rate
    if known is not None and not _is_rate(known):
        raise InputError(f'rate must be requests a minute, "auto" or None, got {rate!r}')
    return known


def _is_rate(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 < value < inf  # type: ignore[operator]  # checked: a number


class _Shared(NamedTuple):
    """Who shares a pace: the models of a group, at one rate."""

    group: str
    per_minute: float


@frozen
class _Here:
    """What one event loop has."""

    gates: dict[str, Gate] = field(factory=dict)
    paces: dict[_Shared, Pace] = field(factory=dict)


class Gates:
    """Hands out gates, so that whoever shares a limit goes through the same one.

    Args:
        concurrency: The limit on the attempts of each model; `None` has no gates for calls.

    Raises:
        InputError: It is no limit.
    """

    def __init__(self, concurrency: Concurrency = None) -> None:
        limit_of(concurrency)
        self._concurrency = concurrency
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Here] = WeakKeyDictionary()

    def for_call(self, model: str) -> Gate | None:
        """The gate that a single call goes through, if there is one.

        The call counts towards the rate that jobs keep to, and isn't held back by it.
        """
        if self._concurrency is None and not self._loops:
            return None
        here = self._here()
        if here.paces:
            group = profile(model).shares_requests_with or model
            for shared, pace in here.paces.items():
                if shared.group == group:
                    pace.count(asyncio.get_running_loop().time())
        if self._concurrency is None:
            return None
        if model not in here.gates:
            here.gates[model] = Gate(limit_of(self._concurrency))
        return here.gates[model]

    def for_job(self, model: str, concurrency: Concurrency, rate: Rate) -> Gate:
        """A gate of its own for one job, at a pace that all jobs of the model share.

        Raises:
            InputError: The concurrency or the rate is no limit.
        """
        return Gate(limit_of(concurrency), self._pace(model, rate))

    def _pace(self, model: str, rate: Rate) -> Pace | None:
        requests = per_minute(model, rate)
        if requests is None:
            return None
        shared = _Shared(profile(model).shares_requests_with or model, requests)
        return self._here().paces.setdefault(shared, Pace(requests / 60))

    def _here(self) -> _Here:
        loop = asyncio.get_running_loop()
        here = self._loops.get(loop)
        if here is None:
            here = self._loops[loop] = _Here()
        return here
