"""Timeouts: the deadline of a call, and a shared timer for the time limits of many calls.

`OpenCall` is what interrupts a call: if a time limit expires, or if the client is closed.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Self

from attrs import define, field

from cfai._session.errors import timeout_error
from cfai.errors import ConfigError, RequestTimeout

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

    def error(self) -> RequestTimeout:
        """The error for a call that is not done at its deadline."""
        return timeout_error("total", self.total)


@define(eq=False, repr=False)
class OpenCall:
    """What a call does and waits for, whether it is sent or not: a context manager.

    It ends with a `ConfigError` as soon as the client is closed, and its current step when a
    timeout expires. One object for both: each object of a call costs half a microsecond.
    """

    timer: "SharedTimer"
    due: float = field(default=_NEVER, init=False)
    """When the timeout expires, by the clock of the loop."""
    _task: asyncio.Task[object] | None = field(default=None, init=False)
    _cancellations: int = field(default=0, init=False)
    """Of the task, from before the call."""
    _was_closed: bool = field(default=False, init=False)
    _has_expired: bool = field(default=False, init=False)

    def __enter__(self) -> Self:
        timer = self.timer
        self._task = task = asyncio.current_task(timer.loop)
        if task is None:
            raise RuntimeError("a call must run inside an asyncio task")
        self._cancellations = task.cancelling()
        timer.calls[self] = None
        return self

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        self.timer.calls.pop(self, None)
        if self._was_closed and self._is_sole_reason() and isinstance(exc, asyncio.CancelledError):
            raise ConfigError("the client was closed during the call") from None

    def close(self) -> None:
        """Interrupt the call, because the client is closed."""
        if self._task is not None and not self._was_closed:
            self._was_closed = True
            self._task.cancel()

    def start_timeout(self, seconds: float | None) -> None:
        """Interrupt the call in *seconds*; with `None`, never. It replaces the timeout before."""
        if seconds is None:
            self.due = _NEVER
            return
        self.due = due = self.timer.now() + seconds
        if due < self.timer.when:
            self.timer.set_timer(due)

    def stop_timeout(self) -> None:
        """Interrupt the call no more. The timer stays set, and finds nothing due."""
        self.due = _NEVER

    def take_back_timeout(self) -> bool:
        """Whether the cancellation of a step is that of its timeout, and of nobody else.

        If so, the task counts as cancelled no more.
        """
        has_expired, self._has_expired = self._has_expired, False
        return has_expired and self._is_sole_reason()

    def expire(self) -> None:
        """Interrupt the current step, because its timeout expired."""
        self.due = _NEVER
        self._has_expired = True
        if self._task is not None:
            self._task.cancel()

    def _is_sole_reason(self) -> bool:
        """Take back a cancellation. If somebody else cancelled the task, too, theirs wins."""
        return self._task is not None and self._task.uncancel() <= self._cancellations


@define(eq=False, repr=False)
class SharedTimer:
    """The timeouts of one event loop on one timer: like `asyncio.timeout`, but much cheaper.

    A timeout that does not expire leaves the timer alone. When the timer goes off, it interrupts
    the calls whose timeout is due, and is set to the next one.
    """

    loop: asyncio.AbstractEventLoop = field(factory=asyncio.get_running_loop, init=False)
    now: Callable[[], float] = field(init=False)
    """The clock of the loop."""
    calls: dict[OpenCall, None] = field(factory=dict, init=False)
    """All calls on the loop, with a timeout or without."""
    when: float = field(default=_NEVER, init=False)
    """When the timer goes off."""
    _handle: asyncio.TimerHandle | None = field(default=None, init=False)

    @now.default
    def _find_clock(self) -> Callable[[], float]:
        return self.loop.time

    def set_timer(self, when: float) -> None:
        """Go off at this time instead, which is earlier."""
        self.stop()
        self.when = when
        self._handle = self.loop.call_at(when, self._check)

    def stop(self) -> None:
        """Cancel the timer, so that none is left when the loop closes."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle, self.when = None, _NEVER

    def _check(self) -> None:
        self.stop()
        now = self.now()
        for call in [call for call in self.calls if call.due <= now]:
            call.expire()
        due = min((call.due for call in self.calls), default=_NEVER)
        if due < _NEVER:
            self.set_timer(due)
