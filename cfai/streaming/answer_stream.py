"""`AnswerStream`: what a stream of tokens and a stream of sound have in common.

It opens once, has one reader, and ends once: with its last part, an error, or closed by the user.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from attrs import define, field

from cfai._session.body import StreamBody
from cfai._session.redaction import redact_error
from cfai._session.session import Spending
from cfai.errors import CfaiError, InputError
from cfai.tasks import Answer

if TYPE_CHECKING:
    from cfai._session.observation import CallObservation

S = TypeVar("S")


@define(eq=False, repr=False)
class AnswerStream(Generic[S]):
    """An answer that arrives in parts, from a source that its request opens."""

    # The state of a stream, and the fields that tell it:
    #   new         `_open_source` is set: no request was sent.
    #   opening     `_open_source` is not set, `_began` is false, and `_waiter` is set.
    #   open        `_began`, and not `_ended`.
    #   complete    `_ended`, and no `_failure`; of a `TokenStream` also not `cancelled`.
    #   failed      `_ended` and `_failure`: an error, or closed by the user before the end.
    _open_source: Callable[..., Awaitable[S]] | None
    """Sends the request. `None` as soon as it was called."""
    _observation: CallObservation | None = field(default=None, kw_only=True)
    _spending: Spending | None = field(default=None, kw_only=True)
    """Where the cost is added at the end. `None` as soon as it was."""
    _body: StreamBody | None = field(default=None, init=False)
    """What the parts come from; `None` if the answer came as a whole."""
    _ended: bool = field(default=False, init=False)
    _failure: CfaiError | None = field(default=None, init=False)
    """Why it ended early. Raised again by every further read."""
    _waiter: asyncio.Task[Any] | None = field(default=None, init=False)
    """The task that waits for the source."""
    _is_waiting: bool = field(default=False, init=False)
    """Whether a task waits for the source, or for more bytes."""
    _waiter_cancelled: bool = field(default=False, init=False)
    """Whether this stream cancelled that task, as it waited for the source."""

    # Told by the subclasses

    @abstractmethod
    def _accept(self, source: S) -> None:
        """Keep the opened source."""

    @property
    @abstractmethod
    def _began(self) -> bool:
        """Whether the source was opened."""

    @property
    @abstractmethod
    def _partial_answer(self) -> Answer | None:
        """The answer so far; `None` before the source was opened."""

    @abstractmethod
    def _read_cost(self) -> float | None:
        """The neurons that the service has reported so far."""

    @abstractmethod
    def _closed_error(self) -> CfaiError:
        """The error of every further read after the user closed the stream."""

    def _complete_error(self, error: CfaiError) -> None:
        """Add what had arrived to the error that ended the stream."""

    # Opening and closing

    async def open(self) -> Self:
        """Send the request and wait for the first part. Entering and iterating do the same.

        Raises:
            StatusError: An error response.
            StreamUnsupported: The model does not stream.
            DecodeError: The answer has an undocumented form.
        """
        open_source, self._open_source = self._open_source, None
        if open_source is None:
            return self
        try:
            source = await self._wait_for_source(open_source)
        except BaseException as exc:
            self._stop(exc)
            raise
        if source is not None:
            self._accept(source)
        return self

    async def _wait_for_source(self, open_source: Callable[..., Awaitable[S]]) -> S | None:
        """Call *open_source*; `None` if another task ends the stream without an error meanwhile."""
        waiter = self._waiter = asyncio.current_task()
        self._is_waiting = True
        before = waiter.cancelling() if waiter is not None else 0
        try:
            return await open_source()
        except asyncio.CancelledError:
            # As in `asyncio.timeout`: re-raise only if somebody else cancelled the task, too.
            ours = self._waiter_cancelled and waiter is not None and waiter.uncancel() <= before
            if not ours:
                raise
            if self._failure is not None:
                raise self._failure from None
            return None
        finally:
            self._waiter, self._is_waiting = None, False

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection at once, unless the stream ended. Closing twice is fine."""
        self._stop(None)

    close = aclose

    def _cancel_waiter(self) -> None:
        """End the wait for the source."""
        if self._waiter is not None and not self._waiter_cancelled:
            self._waiter_cancelled = True
            self._waiter.cancel()

    def _stop(self, exc: BaseException | None) -> None:
        """End the stream because of *exc*, or because the user closes it (`None`)."""
        complete = self._is_complete
        error = exc if isinstance(exc, CfaiError) else None
        if not self._ended:
            self._open_source, self._ended = None, True
            error = self._failure = error or self._closed_error()
            self._complete_error(error)
        if self._body is not None:
            if error is not None:
                redact_error(error, self._body.settings.secrets)
            self._body.close()
        self._cancel_waiter()
        if exc is None or complete:
            self._report_end(complete=complete)
            return
        self._count_cost()
        if self._observation is not None:
            self._observation.fail(exc, self._partial_answer)

    def __del__(self) -> None:
        # A stream that was never opened has an observation that never started, and does not end.
        # The constructor may have raised.
        if hasattr(self, "_failure"):
            self._report_end(complete=self._is_complete)

    # Cost and observation

    @property
    def _is_complete(self) -> bool:
        """Whether the end of the answer was read. A body without more bytes may be truncated."""
        return self._ended and self._failure is None

    def _count_cost(self) -> None:
        """Add what the answer cost: once, and only if it began."""
        if self._spending is not None and self._began:
            spending, self._spending = self._spending, None
            spending.add(self._read_cost())

    def _report_end(self, *, complete: bool) -> None:
        self._count_cost()
        if self._observation is not None and not self._observation.is_over:
            self._observation.end("done" if complete else "closed", answer=self._partial_answer)

    # Reading

    def __aiter__(self) -> Self:
        return self

    def _second_reader_error(self) -> InputError:
        """The error of a read while another task waits for the same stream."""
        return InputError("another task is reading this stream: a stream has one reader")
