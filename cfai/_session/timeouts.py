"""Timeouts: the deadline of a call, and a shared timer for the time limits of many calls."""

import asyncio
import time
from typing import Final, NamedTuple, Self

from attrs import define, field

from cfai._session.errors import timeout_error
from cfai.errors import Phase, RequestTimeout

_NEVER: Final = float("inf")


@define(eq=False)
class Deadline:
    """When a call started, how long it may take in total, and how many attempts it has made."""

    started: float = field(factory=time.monotonic)
    total: float | None = None
    """Seconds; `None` is no limit."""
    attempts: int = 0
    """Requests sent so far, on every route and to every model."""
    may_fall_back: bool = False
    """Whether another model is asked if the current one fails: there is one, and none answered."""

    @property
    def elapsed(self) -> float:
        """Seconds since the call started."""
        return time.monotonic() - self.started

    @property
    def seconds_left(self) -> float | None:
        """Seconds to the deadline, at least 0; `None` if there is no deadline."""
        return None if self.total is None else max(0.0, self.total - self.elapsed)

    def limit(self, phase: Phase, seconds: float | None) -> "TimeLimit":
        """The time limit of a phase: its own, or the deadline if that is nearer."""
        if self.total is not None:
            seconds_left = max(0.0, self.total - self.elapsed)
            if seconds is None or seconds_left < seconds:
                return TimeLimit("total", seconds_left, self.total)
        return TimeLimit(phase, seconds, seconds)

    def error(self) -> RequestTimeout:
        """The error for a call that is not done at its deadline."""
        return timeout_error("total", self.total)


class TimeLimit(NamedTuple):
    """The limit that applies to one phase of an attempt."""

    phase: Phase
    seconds: float | None
    """From now; `None` is no limit."""
    configured: float | None
    """As set in `Timeouts`."""

    def error(self) -> RequestTimeout:
        """The error for an attempt that exceeds this limit."""
        return timeout_error(self.phase, self.configured)


@define(eq=False, repr=False)
class Timeout:
    """A context manager that raises `TimeoutError` if its body takes too long."""

    _timer: "SharedTimer"
    due: float
    """When it expires, by the clock of the loop."""
    _expired: bool = field(default=False, init=False)
    _task: asyncio.Task[object] | None = field(default=None, init=False)
    _before: int = field(default=0, init=False)

    def renew(self, seconds: float | None) -> None:
        """Expire *seconds* from now instead, which must not be earlier than before."""
        if self.due != _NEVER and seconds is not None:
            self.due = self._timer.loop.time() + seconds

    def __enter__(self) -> Self:
        if self.due == _NEVER:
            return self
        self._task = asyncio.current_task()
        if self._task is None:
            raise RuntimeError("a call must run inside an asyncio task")
        self._before = self._task.cancelling()
        self._timer.add(self)
        return self

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        self._timer.discard(self)
        if not self._expired or self._task is None:
            return
        # If somebody else cancelled the task, too, their cancellation wins.
        only_by_timer = self._task.uncancel() <= self._before
        if only_by_timer and isinstance(exc, asyncio.CancelledError):
            raise TimeoutError from exc

    def expire(self) -> None:
        """Interrupt the task."""
        self._expired = True
        if self._task is not None:
            self._task.cancel()


@define(eq=False, repr=False)
class SharedTimer:
    """The timeouts of one event loop on one timer: like `asyncio.timeout`, but much cheaper.

    A timeout that does not expire leaves the timer alone. When the timer goes off, it interrupts
    the timeouts that are due, and is set to the next one.
    """

    loop: asyncio.AbstractEventLoop = field(factory=asyncio.get_running_loop, init=False)
    _active: dict[Timeout, None] = field(factory=dict, init=False)
    _handle: asyncio.TimerHandle | None = field(default=None, init=False)
    _when: float = field(default=_NEVER, init=False)

    def timeout(self, seconds: float | None) -> Timeout:
        """A timeout that expires *seconds* from now; with `None`, never."""
        return Timeout(self, _NEVER if seconds is None else self.loop.time() + seconds)

    def add(self, timeout: Timeout) -> None:
        """Start to watch *timeout*."""
        self._active[timeout] = None
        if timeout.due < self._when:
            self._set(timeout.due)

    def discard(self, timeout: Timeout) -> None:
        """Stop watching *timeout*. The timer stays set, and checks what is due when it goes off."""
        self._active.pop(timeout, None)

    def stop(self) -> None:
        """Cancel the timer, so that none is left when the loop closes."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle, self._when = None, _NEVER

    def _set(self, when: float) -> None:
        self.stop()
        self._when = when
        self._handle = self.loop.call_at(when, self._check)

    def _check(self) -> None:
        self.stop()
        now = self.loop.time()
        for timeout in [timeout for timeout in self._active if timeout.due <= now]:
            self.discard(timeout)
            timeout.expire()
        if self._active:
            self._set(min(timeout.due for timeout in self._active))
