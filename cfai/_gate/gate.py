"""The gate that attempts go through: it waits, and has `limits` and `pace` decide for how long."""

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType

from cfai._gate.limits import Limit
from cfai._gate.pace import Pace
from cfai.errors import CfaiError, RateLimited


class Gate:
    """Lets attempts through, first come, first served. It is for one event loop.

    ```python
    async with gate.attempt():
        ...  # one attempt, and no sleep before another
    ```
    """

    def __init__(self, limit: Limit, pace: Pace | None = None) -> None:
        self._limit = limit
        self._pace = pace
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._due: float | None = None
        """The place in the pace that is reserved for the first who waits."""
        self._timer: asyncio.TimerHandle | None = None
        self.inside: set[asyncio.Task[object] | None] = set()
        """Who is let through at present."""
        self._closed = False
        self.under_way: int = 0
        self.attempts: int = 0
        """How many were let through."""
        self.refusals: int = 0
        self.waited: float = 0.0
        """Seconds, summed over all attempts."""

    @property
    def limit(self) -> float:
        """How many attempts may be under way at once, at present."""
        return self._limit.value

    def attempt(
        self, within: float | None = None, expired: Callable[[], CfaiError] | None = None
    ) -> "Attempt":
        """A context manager around one attempt.

        Args:
            within: How many seconds to wait for it at most; `None` is no limit.
            expired: Makes what is raised then, in place of a `TimeoutError`.
        """
        return Attempt(self, within, expired)

    async def enter(self) -> float:
        """Wait for a turn; gives the moment when it came."""
        if self._closed:
            raise asyncio.CancelledError
        loop = asyncio.get_running_loop()
        asked = loop.time()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # The turn came, and the cancellation with it.
                self.under_way -= 1
            self._admit()
            raise
        now = loop.time()
        self.waited += now - asked
        self.attempts += 1
        self.inside.add(asyncio.current_task())
        return now

    def leave(self, sent: float, failure: BaseException | None) -> None:
        """Hear how the attempt ended that began at *sent*, and let others through."""
        task = asyncio.current_task()
        self.inside.discard(task)
        if isinstance(failure, RateLimited):
            self.refusals += 1
            self._limit.refused(sent=sent, now=asyncio.get_running_loop().time())
        elif failure is None:
            self._limit.answered(under_way=self.under_way)
        self.under_way -= 1
        self._admit()
        if self._closed and failure is not None and task is not None:
            task.cancel()  # Before it sleeps and comes back.

    def close(self) -> None:
        """Let nobody through any more: who comes is cancelled, who is inside ends its attempt."""
        self._closed = True

    def _admit(self) -> None:
        """Let through who may go now, and come back when the next one may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            if self._waiting[0].done():  # It was cancelled.
                self._waiting.popleft()
                continue
            if self.under_way >= self._limit.value or not self._is_due():
                return
            self._due = None
            self.under_way += 1
            self._waiting.popleft().set_result(None)

    def _is_due(self) -> bool:
        if self._pace is None:
            return True
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._due is None:
            self._due = self._pace.reserve(now)
        if self._due <= now:
            return True
        self._timer = loop.call_at(self._due, self._admit)
        return False


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

    async def __aenter__(self) -> None:
        try:
            async with asyncio.timeout(self._within):
                self._sent = await self._gate.enter()
        except TimeoutError as exc:
            if self._expired is None:
                raise
            raise self._expired() from exc

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._gate.leave(self._sent, exc)
