"""The time limits of many calls on one timer: what `asyncio.timeout` does, at a part of its cost.

A call that ends in time takes its limit along and leaves the timer alone. When the timer goes off,
it ends what is due and is set to what is due next.
"""

import asyncio
from types import TracebackType
from typing import Final, Self

_NEVER: Final = float("inf")


class Limit:
    """One limit, as a context manager: raises `TimeoutError` if it runs out inside."""

    __slots__ = ("_before", "_expired", "_limits", "_task", "due")

    def __init__(self, limits: "Limits", due: float) -> None:
        self.due: float = due
        """When it runs out, by the clock of the loop."""
        self._limits = limits
        self._expired = False
        self._task: asyncio.Task[object] | None = None
        self._before = 0

    def renew(self, seconds: float | None) -> None:
        """Count so many seconds from now instead: no fewer than were left."""
        if self.due != _NEVER and seconds is not None:
            self.due = self._limits.now() + seconds

    def __enter__(self) -> Self:
        if self.due == _NEVER:
            return self
        self._task = asyncio.current_task()
        if self._task is None:
            raise RuntimeError("a call needs a task to run in")
        self._before = self._task.cancelling()
        self._limits.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._limits.discard(self)
        if not self._expired or self._task is None:
            return
        # The task may have been cancelled by somebody else, too: then that is what counts.
        ours_alone = self._task.uncancel() <= self._before
        if ours_alone and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from exc

    def expire(self) -> None:
        """It ran out: interrupt the task."""
        self._expired = True
        if self._task is not None:
            self._task.cancel()


class Limits:
    """The limits that are in force on one event loop."""

    __slots__ = ("_handle", "_loop", "_open", "_when")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._open: dict[Limit, None] = {}
        self._handle: asyncio.TimerHandle | None = None
        self._when = _NEVER

    def within(self, seconds: float | None) -> Limit:
        """A limit that runs out in so many seconds; `None` never does."""
        return Limit(self, _NEVER if seconds is None else self._loop.time() + seconds)

    def now(self) -> float:
        """The clock of the loop."""
        return self._loop.time()

    def add(self, limit: Limit) -> None:
        """It is in force."""
        self._open[limit] = None
        if limit.due < self._when:
            self._set(limit.due)

    def discard(self, limit: Limit) -> None:
        """It is in force no more. The timer stays: it finds out when it goes off."""
        self._open.pop(limit, None)

    def stop(self) -> None:
        """The loop closes: no timer is left behind."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle, self._when = None, _NEVER

    def _set(self, when: float) -> None:
        self.stop()
        self._when = when
        self._handle = self._loop.call_at(when, self._check)

    def _check(self) -> None:
        self.stop()
        now = self._loop.time()
        for limit in [limit for limit in self._open if limit.due <= now]:
            self.discard(limit)
            limit.expire()
        if self._open:
            self._set(min(limit.due for limit in self._open))
