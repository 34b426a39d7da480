"""Throttles hand out permits for attempts, first come, first served.

A throttle only waits; the limits of `limits` decide for how long.
"""

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from math import inf
from typing import Final, Self
from weakref import WeakKeyDictionary

from attrs import define, field, frozen

from cfai._session.limits import (
    Concurrency,
    ConcurrencyLimit,
    Rate,
    RateLimit,
    RateLimits,
    concurrency_limit,
    requests_per_minute,
)
from cfai._session.retries import backoff_delay, blames_input, is_service_fault
from cfai._session.timeouts import Deadline
from cfai.errors import CfaiError, RateLimited
from cfai.profiles import profile
from cfai.settings import Retries

_GAP_TOLERANCE: Final = 0.005
"""Seconds by which an attempt may start before its gap has passed, so that small gaps need no
timer."""

_FAULTS_OF_OUTAGE: Final = 3
"""After this many failed attempts in a row, the service counts as down."""


@define(eq=False, repr=False)
class Throttle:
    """Hands out permits on one event loop, first come, first served.

    ```python
    async with throttle.permit() as permit:
        permit.start()
        ...  # one attempt, and no sleep before another
    ```
    """

    _limit: ConcurrencyLimit
    """How many permits may be held at once."""
    _rate_limits: Sequence[RateLimit] = ()
    """How often an attempt may start; all of them are kept."""
    _counts: RateLimits | None = field(default=None, kw_only=True)
    """Counts each attempt that is sent, if there are no rate limits."""
    _upstream: "Throttle | None" = field(default=None, kw_only=True)
    """A second throttle, whose permit is needed as well."""
    _retries: Retries | None = field(default=None, kw_only=True)
    """The delays between attempts while the service fails; `None` if failures set none."""
    _faults: int = field(default=0, init=False)
    """Attempts that failed by a fault of the service since its last answer."""
    _waiting: deque[asyncio.Future[None]] = field(factory=deque, init=False)
    _reserved: int = field(default=0, init=False)
    """How many of the rate limits have a reservation that is due for the first in line."""
    _due: float | None = field(default=None, init=False)
    """When the reservation with the next rate limit is due, if there is one."""
    _next_start: float = field(default=0.0, init=False)
    """The earliest time at which the next attempt may start."""
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)
    active: set[asyncio.Task[object] | None] = field(factory=set, init=False)
    """The tasks whose attempts are being sent or answered."""
    _closed: bool = field(default=False, init=False)
    in_flight: int = field(default=0, init=False)
    """How many permits are held."""
    attempts: int = field(default=0, init=False)
    """How many attempts were sent."""
    repeats: int = field(default=0, init=False)
    """How many of them repeated an earlier attempt of the same call."""
    rate_limited: int = field(default=0, init=False)
    """How many of them were rate-limited (429)."""
    waited: float = field(default=0.0, init=False)
    """Seconds spent waiting for permits, summed over all attempts."""

    @property
    def limit(self) -> float:
        """How many permits may be held at once at present."""
        value = self._limit.value
        return value if self._upstream is None else min(value, self._upstream.limit)

    def permit(self, deadline: Deadline | None = None) -> "Permit":
        """A context manager around one attempt, which waits for its permit until *deadline*."""
        return Permit(self, deadline or Deadline())

    async def acquire(self) -> None:
        """Wait for a permit, here and upstream."""
        if self._closed:
            raise asyncio.CancelledError
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._grant_permits()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # The permit was granted at the moment of the cancellation.
                self.in_flight -= 1
            self._grant_permits()
            raise
        if self._upstream is not None:
            try:
                await self._upstream.acquire()
            except BaseException:
                self._free()
                raise

    def count_start(self, *, repeat: bool) -> None:
        """Count an attempt that is sent now."""
        if self._closed:
            raise asyncio.CancelledError
        self.attempts += 1
        self.repeats += repeat
        self.active.add(asyncio.current_task())
        if self._counts is not None:
            self._counts.count(asyncio.get_running_loop().time())

    def release(self, sent: float, error: BaseException | None) -> None:
        """Take back the permit of an attempt that was sent at *sent* and may have failed."""
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        self.active.discard(task)
        cooldown = 0.0
        if isinstance(error, RateLimited):
            self.rate_limited += 1
            cooldown = self._limit.record_rate_limited(sent=sent, now=loop.time())
        elif error is None:
            self._limit.record_answer(in_flight=self.in_flight, seconds=loop.time() - sent)
        if self._retries is not None:
            self._record_fault(error, self._retries, loop.time())
        if cooldown:
            loop.call_later(cooldown, self._free)
        else:
            self._free()
        if self._upstream is not None:
            self._upstream.release(sent, error)
        if self._closed and error is not None and task is not None:
            task.cancel()  # Before it sleeps and asks for another permit.

    @property
    def _is_outage(self) -> bool:
        """Whether the service fails every attempt; then one is made at a time."""
        return self._faults >= _FAULTS_OF_OUTAGE

    def _record_fault(self, error: BaseException | None, retries: Retries, now: float) -> None:
        """Delay the next attempt in an outage, and no longer after an answer."""
        if isinstance(error, CfaiError) and is_service_fault(error):
            self._faults += 1
            if self._is_outage:
                number = self._faults - _FAULTS_OF_OUTAGE + 1
                delay = backoff_delay(retries, number, error, random=random.random)
                self._next_start = max(self._next_start, now + (delay or 0.0))
        elif self._faults and _is_answer(error):
            self._faults, self._next_start = 0, now

    def close(self) -> None:
        """Grant no more permits: those who wait are cancelled, active attempts may end."""
        self._closed = True

    def _free(self) -> None:
        self.in_flight -= 1
        self._grant_permits()

    def _grant_permits(self) -> None:
        """Grant the permits that are due, and set a timer for the next one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            if self._waiting[0].done():  # It was cancelled.
                self._waiting.popleft()
                continue
            if self.in_flight >= (1 if self._is_outage else self._limit.value):
                return
            if not (self._gap_has_passed() and self._is_within_rates()):
                return
            self._reserved = 0
            self._next_start += self._limit.gap
            self.in_flight += 1
            self._waiting.popleft().set_result(None)

    def _gap_has_passed(self) -> bool:
        """Whether enough time has passed since the previous start; sets a timer if not."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._next_start - now > _GAP_TOLERANCE:
            self._timer = loop.call_at(self._next_start - _GAP_TOLERANCE / 2, self._grant_permits)
            return False
        self._next_start = max(self._next_start, now)
        return True

    def _is_within_rates(self) -> bool:
        """Whether all rate limits allow the first in line to start; sets a timer if not.

        The limits are reserved one after the other: a reservation made before the earlier ones are
        due would delay others who share the same limit.
        """
        if self._reserved == len(self._rate_limits):
            return True
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._reserved < len(self._rate_limits):
            if self._due is None:
                self._due = self._rate_limits[self._reserved].reserve(now)
            if self._due > now:
                self._timer = loop.call_at(self._due, self._grant_permits)
                return False
            self._due = None
            self._reserved += 1
        return True


@define(eq=False, repr=False)
class Permit:
    """The right to make one attempt; see `Throttle.permit`.

    Raises:
        RequestTimeout: The deadline passed while waiting for the permit.
    """

    _throttle: Throttle
    _deadline: Deadline
    _sent: float = field(default=0.0, init=False)

    def start(self, *, repeat: bool = False) -> None:
        """Record that the attempt is sent now; *repeat* if it repeats an earlier one."""
        self._throttle.count_start(repeat=repeat)
        self._sent = asyncio.get_running_loop().time()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            async with asyncio.timeout(self._deadline.seconds_left):
                await self._throttle.acquire()
        except TimeoutError as exc:
            raise self._deadline.error() from exc
        self._sent = loop.time()
        self._throttle.waited += self._sent - started
        return self

    async def __aexit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        self._throttle.release(self._sent, exc)


@frozen
class _LoopThrottles:
    """The throttles and rate limits of one event loop."""

    throttles: dict[str, Throttle] = field(factory=dict)
    """By model."""
    rate_limits: dict[str, RateLimits] = field(factory=dict)
    """By group of models that share a limit of the service."""


class Throttles:
    """The throttles of one client, so that all who share a limit share its throttle.

    Args:
        concurrency: The limit on the attempts of each model, over all calls and jobs; `None` for no
            limit.
        max_requests: How many requests the client sends at once, whatever *concurrency* is.

    Raises:
        InputError: *concurrency* is not a valid limit.
    """

    def __init__(self, concurrency: Concurrency = None, max_requests: float = inf) -> None:
        concurrency_limit(concurrency)
        self._concurrency = concurrency
        self._max_requests = max_requests
        self._loops = WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopThrottles]()

    def for_call(self, model: str) -> Throttle | None:
        """The throttle of a single call, if one is needed.

        The attempts of a call count towards the rate limits of jobs, but are not delayed by them.
        """
        loop = self._for_running_loop()
        if self._concurrency is None and _rate_group(model) not in loop.rate_limits:
            return None
        return self._shared(loop, model)

    def for_job(
        self,
        model: str,
        concurrency: Concurrency,
        rate: Rate,
        retries: Retries | None = None,
    ) -> Throttle:
        """A throttle for one job, in front of the one for calls.

        Jobs with the same rate share it. All jobs of the model together keep to the documented rate
        or to the highest rate that one of them was given. While the service answers nothing, the
        job makes one attempt at a time, with the delays of *retries*.

        Raises:
            InputError: The concurrency or the rate is not a valid limit.
        """
        limit = concurrency_limit(concurrency, self._max_requests)
        per_minute = requests_per_minute(model, rate)
        loop = self._for_running_loop()
        rate_limits = loop.rate_limits.setdefault(_rate_group(model), RateLimits())
        upstream = None if self._concurrency is None else self._shared(loop, model)
        if per_minute is None:
            return Throttle(limit, counts=rate_limits, upstream=upstream, retries=retries)
        documented = requests_per_minute(model, "auto") or 0.0
        both = rate_limits.at(per_minute / 60, documented / 60)
        return Throttle(limit, both, upstream=upstream, retries=retries)

    def _shared(self, loop: _LoopThrottles, model: str) -> Throttle:
        """The throttle of all calls of *model*."""
        if model not in loop.throttles:
            counts = loop.rate_limits.setdefault(_rate_group(model), RateLimits())
            limit = concurrency_limit(self._concurrency, self._max_requests)
            loop.throttles[model] = Throttle(limit, counts=counts)
        return loop.throttles[model]

    def _for_running_loop(self) -> _LoopThrottles:
        loop = asyncio.get_running_loop()
        if loop not in self._loops:
            self._loops[loop] = _LoopThrottles()
        return self._loops[loop]


def _is_answer(error: BaseException | None) -> bool:
    """Whether an attempt was answered, if only with an error about its input."""
    return error is None or (isinstance(error, CfaiError) and blames_input(error))


def _rate_group(model: str) -> str:
    return profile(model).shares_requests_with or model
