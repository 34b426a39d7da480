"""The gate that attempts go through: it waits, and has `limits` and `pace` decide for how long."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self

from cfai._session.concurrency import Limit
from cfai._session.rates import Pace, Paces
from cfai.errors import CfaiError, RateLimited

_CLOSE: Final = 0.005
"""Seconds that an attempt may begin early by the gap before it: so small ones need no timer."""


class Gate:
    """Lets attempts through, first come, first served. It is for one event loop.

    ```python
    async with gate.attempt() as attempt:
        attempt.begins()
        ...  # one attempt, and no sleep before another
    ```

    Args:
        limit: How many may be under way at once.
        paces: How often one may begin, by each of them.
        counts: Who else shall hear of each attempt that is sent, where there are no *paces*.
        beyond: Another gate, for those who are let through here.
    """

    def __init__(
        self,
        limit: Limit,
        paces: Sequence[Pace] = (),
        *,
        counts: Paces | None = None,
        beyond: "Gate | None" = None,
    ) -> None:
        self._limit = limit
        self._paces = paces
        self._counts = counts
        self._beyond = beyond
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._reserved = 0
        """In how many of the paces there is a place for the first who waits, the next aside."""
        self._due: float | None = None
        """When the place in the next pace is due, where it is reserved."""
        self._next = 0.0
        """When the next attempt shall begin at the earliest."""
        self._timer: asyncio.TimerHandle | None = None
        self.inside: set[asyncio.Task[object] | None] = set()
        """Whose attempts are being sent or answered at present."""
        self._closed = False
        self.under_way: int = 0
        """How many places are taken."""
        self.attempts: int = 0
        """How many were sent."""
        self.repeats: int = 0
        """How many of them repeated an earlier one of the same call."""
        self.refusals: int = 0
        self.waited: float = 0.0
        """Seconds, summed over all attempts."""

    @property
    def limit(self) -> float:
        """How many attempts may be under way at once, at present."""
        own = self._limit.value
        return own if self._beyond is None else min(own, self._beyond.limit)

    def attempt(
        self, within: float | None = None, expired: Callable[[], CfaiError] | None = None
    ) -> "Attempt":
        """A context manager around one attempt.

        Args:
            within: How many seconds to wait for it at most; `None` is no limit.
            expired: Makes what is raised then, in place of a `TimeoutError`.
        """
        return Attempt(self, within, expired)

    async def enter(self) -> None:
        """Wait for a turn, here and beyond."""
        if self._closed:
            raise asyncio.CancelledError
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # The turn came, and the cancellation with it.
                self.under_way -= 1
            self._admit()
            raise
        if self._beyond is not None:
            try:
                await self._beyond.enter()
            except BaseException:
                self._free()
                raise

    def begin(self, *, again: bool) -> None:
        """Hear that an attempt is sent now."""
        if self._closed:
            raise asyncio.CancelledError
        self.attempts += 1
        self.repeats += again
        self.inside.add(asyncio.current_task())
        if self._counts is not None:
            self._counts.count(asyncio.get_running_loop().time())

    def leave(self, sent: float, failure: BaseException | None) -> None:
        """Hear how the attempt ended that began at *sent*, and let others through."""
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        self.inside.discard(task)
        empty = 0.0
        if isinstance(failure, RateLimited):
            self.refusals += 1
            empty = self._limit.refused(sent=sent, now=loop.time())
        elif failure is None:
            self._limit.answered(under_way=self.under_way, seconds=loop.time() - sent)
        if empty:
            loop.call_later(empty, self._free)
        else:
            self._free()
        if self._beyond is not None:
            self._beyond.leave(sent, failure)
        if self._closed and failure is not None and task is not None:
            task.cancel()  # Before it sleeps and comes back.

    def close(self) -> None:
        """Let nobody through any more: who comes is cancelled, who is inside ends its attempt."""
        self._closed = True

    def _free(self) -> None:
        self.under_way -= 1
        self._admit()

    def _admit(self) -> None:
        """Let through who may go now, and come back when the next one may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            if self._waiting[0].done():  # It was cancelled.
                self._waiting.popleft()
                continue
            if self.under_way >= self._limit.value or not (self._has_gap() and self._is_due()):
                return
            self._reserved = 0
            self._next += self._limit.gap
            self.under_way += 1
            self._waiting.popleft().set_result(None)

    def _has_gap(self) -> bool:
        """Whether there is as much time behind the one before as the limit wants."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._next - now > _CLOSE:
            self._timer = loop.call_at(self._next - _CLOSE / 2, self._admit)
            return False
        self._next = max(self._next, now)
        return True

    def _is_due(self) -> bool:
        """Whether the first who waits may go by all paces; a place is taken in one after another.

        A place that was taken ahead of its time would hold up others who keep to the same pace.
        """
        if self._reserved == len(self._paces):
            return True
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._reserved < len(self._paces):
            if self._due is None:
                self._due = self._paces[self._reserved].reserve(now)
            if self._due > now:
                self._timer = loop.call_at(self._due, self._admit)
                return False
            self._due = None
            self._reserved += 1
        return True


class Attempt:
    """One passage through a gate; see `Gate.attempt`."""

    __slots__ = ("_expired", "_gate", "_sent", "_within")

    def __init__(
        self, gate: Gate, within: float | None, expired: Callable[[], CfaiError] | None
    ) -> None:
        self._gate = gate
        self._within = within
        self._expired = expired
        self._sent = 0.0

    def begins(self, *, again: bool = False) -> None:
        """It is sent now, after all there was to wait for; *again* where it is a repetition."""
        self._gate.begin(again=again)
        self._sent = asyncio.get_running_loop().time()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        asked = loop.time()
        try:
            async with asyncio.timeout(self._within):
                await self._gate.enter()
        except TimeoutError as exc:
            if self._expired is None:
                raise
            raise self._expired() from exc
        self._sent = loop.time()
        self._gate.waited += self._sent - asked
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._gate.leave(self._sent, exc)
