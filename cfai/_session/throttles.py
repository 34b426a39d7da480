"""The gates and paces of one client: for each event loop its own, shared by all calls on it."""

import asyncio
from math import inf
from typing import Literal
from weakref import WeakKeyDictionary

from attrs import field, frozen

from cfai._session.concurrency import Adapting, Adaptive, Fixed, Limit
from cfai._session.rates import Paces
from cfai._session.throttle import Gate
from cfai.errors import InputError
from cfai.profiles import profile

Concurrency = Adaptive | int | None
"""How many attempts may be under way at once: a limit that adapts, a number, or no limit."""

Rate = float | Literal["auto"] | None
"""Requests a minute: a number, the documented limit of the model, or no limit."""


def limit_of(concurrency: Concurrency, most: float = inf) -> Limit:
    """The limit that *concurrency* asks for, at its start, and never above *most*.

    Raises:
        InputError: It is no limit.
    """
    match concurrency:
        case None:
            return Fixed(most)
        case Adaptive():
            return Adapting(concurrency.within(most))
        case bool():
            pass
        case int() if concurrency >= 1:
            return Fixed(min(concurrency, most))
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


@frozen
class _Here:
    """What one event loop has."""

    gates: dict[str, Gate] = field(factory=dict)
    """By model."""
    paces: dict[str, Paces] = field(factory=dict)
    """By group: the models that share a limit of the service."""


class Gates:
    """Hands out gates, so that whoever shares a limit goes through the same one.

    Args:
        concurrency: The limit on the attempts of each model, of calls and of jobs; `None` is none.
        most: How many requests the client has under way at once, whatever is asked for.

    Raises:
        InputError: It is no limit.
    """

    def __init__(self, concurrency: Concurrency = None, most: float = inf) -> None:
        limit_of(concurrency)
        self._concurrency = concurrency
        self._most = most
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Here] = WeakKeyDictionary()

    def for_call(self, model: str) -> Gate | None:
        """The gate that a single call goes through, if there is one.

        Its attempts count towards the rate that jobs keep to, and aren't held back by it.
        """
        if self._concurrency is None and not self._loops:
            return None
        here = self._here()
        if self._concurrency is None and _group(model) not in here.paces:
            return None
        return self._shared(here, model)

    def for_job(self, model: str, concurrency: Concurrency, rate: Rate) -> Gate:
        """A gate of its own for one job, in front of the one for calls.

        Jobs that name the same rate share it, and all jobs of the model share its documented one,
        or the highest that one of them names.

        Raises:
            InputError: The concurrency or the rate is no limit.
        """
        limit, requests = limit_of(concurrency, self._most), per_minute(model, rate)
        here = self._here()
        paces = here.paces.setdefault(_group(model), Paces())
        beyond = None if self._concurrency is None else self._shared(here, model)
        if requests is None:
            return Gate(limit, counts=paces, beyond=beyond)
        documented = per_minute(model, "auto") or 0.0
        return Gate(limit, paces.at(requests / 60, documented / 60), beyond=beyond)

    def _shared(self, here: _Here, model: str) -> Gate:
        """The gate of all calls of *model*."""
        if model not in here.gates:
            counts = here.paces.setdefault(_group(model), Paces())
            here.gates[model] = Gate(limit_of(self._concurrency, self._most), counts=counts)
        return here.gates[model]

    def _here(self) -> _Here:
        loop = asyncio.get_running_loop()
        here = self._loops.get(loop)
        if here is None:
            here = self._loops[loop] = _Here()
        return here


def _group(model: str) -> str:
    return profile(model).shares_requests_with or model
