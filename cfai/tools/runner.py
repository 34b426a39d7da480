"""`ToolRun`: the loop of a model that calls tools, one event after another."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, Self

from attrs import evolve

from cfai.conversation import Conversation
from cfai.errors import InputError, StreamInterrupted, ToolLoopExceeded
from cfai.streaming.stream import TokenStream
from cfai.tasks import Text, TextGeneration, ToolCall, Usage
from cfai.tools.events import (
    Step,
    ToolEvent,
    ToolFailed,
    ToolOutcome,
    ToolReturned,
    ToolStarted,
    Turn,
    total,
)
from cfai.tools.toolbox import MOST_CALLS, Toolbox

OnError = Literal["tell", "raise"]
Ask = Callable[[TextGeneration], TokenStream | Awaitable[Text]]


class ToolRun:
    """A model at work with tools: an async iterator of `ToolEvent`, and a context manager.

    `await` it for the outcome alone. Nothing is sent before it is entered, iterated or awaited.
    Leaving the `async with`, cancelling or dropping it cancels the tools and closes the stream.

    Raises:
        ToolLoopExceeded: The model still called tools in its last step.
        CfaiError: What `run` and `stream` raise. `messages` has what was said up to then.
    """

    __slots__ = (
        "__weakref__", "_answer", "_ask", "_asking", "_events", "_failure", "_ids", "_limit",
        "_messages", "_on_error", "_outcome", "_read", "_results", "_steps", "_stream", "_task",
        "_tasks", "_toolbox",
    )  # fmt: skip

    def __init__(
        self, ask: Ask, task: TextGeneration, toolbox: Toolbox, *, max_steps: int, on_error: OnError
    ) -> None:
        if type(max_steps) is not int or max_steps < 1:
            raise InputError(f"max_steps must be a whole number above 0, got {max_steps!r:.80}")
        if on_error not in ("tell", "raise"):
            raise InputError(f"on_error must be tell or raise, got {on_error!r:.80}")
        if task.tools is not None:
            raise InputError("the tools must be given to run_tools, and not to the task, too")
        self._ask = ask
        self._task = task.replace(tools=toolbox.definitions)
        self._toolbox = toolbox
        self._limit = max_steps
        self._on_error = on_error
        self._messages = Conversation(task.messages)
        self._ids = {call.id for message in self._messages for call in message.tool_calls or ()}
        self._steps: list[Step] = []
        self._events: deque[ToolEvent] = deque()
        self._read = False
        """Whether somebody is waiting for the next event."""
        self._failure: BaseException | None = None
        """Why it is over, where that is no end. Raised again whenever more is asked for."""
        self._outcome: ToolOutcome | None = None
        # The turn that is under way
        self._asking: asyncio.Future[Text] | None = None
        self._stream: TokenStream | None = None
        self._answer: Text | None = None
        self._results: dict[int, ToolReturned | ToolFailed] = {}
        self._tasks: dict[int, asyncio.Task[Any]] = {}

    # What it gives

    @property
    def messages(self) -> Conversation:
        """All that was said so far, in whole steps."""
        return self._messages

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps so far."""
        return tuple(self._steps)

    @property
    def usage(self) -> Usage | None:
        """What the steps so far used together, where the model says."""
        return total(step.answer for step in self._steps)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ToolEvent:
        self._refuse_a_second_reader()
        self._read = True
        try:
            while not self._events:
                if self._failure is not None:
                    raise self._failure
                if self._outcome is not None:
                    break
                await self._go_on()
        except BaseException as exc:
            await self._stop(exc)
            raise
        finally:
            self._read = False
        if not self._events:
            raise StopAsyncIteration
        return self._events.popleft()

    def _refuse_a_second_reader(self) -> None:
        if self._read:
            raise InputError("a run has one reader, and another task is reading this one")

    def __await__(self) -> Generator[Any, None, ToolOutcome]:
        return self._to_its_end().__await__()

    async def _to_its_end(self) -> ToolOutcome:
        # Before it is entered: leaving it would close it under its reader.
        self._refuse_a_second_reader()
        async with self:
            async for _ in self:
                pass
        if self._outcome is None:
            raise InputError("the run was closed")
        return self._outcome

    # Closing

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel its tools and close its stream, if it did not end. Safe to repeat."""
        message = "the run was closed before its end"
        await self._stop(StreamInterrupted(message, answer=self._answer))

    close = aclose

    async def _stop(self, exc: BaseException) -> None:
        """Make it over because of *exc*, unless it is, and leave nothing behind."""
        if self._outcome is None and self._failure is None:
            cancelled = not isinstance(exc, Exception)
            message = "the run was cancelled"
            self._failure = StreamInterrupted(message, answer=self._answer) if cancelled else exc
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.aclose()
        tasks = [*self._tasks.values(), *([self._asking] if self._asking else [])]
        for task in tasks:
            task.cancel()
        # A tool may have to clean up. What it raises meanwhile has nobody left to hear it.
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        self._toolbox.close()

    def __del__(self) -> None:
        for task in getattr(self, "_tasks", {}).values():
            with suppress(RuntimeError):  # Its loop is closed, and the task with it.
                task.get_loop().call_soon_threadsafe(task.cancel)

    # The loop

    async def _go_on(self) -> None:
        """Do what comes next, up to the next event or the next thing to wait for."""
        if self._tasks:
            await self._wait_for_tools()
        elif self._stream is not None:
            await self._read_token(self._stream)
        else:
            asked = self._ask(self._task.replace(messages=self._messages))
            if isinstance(asked, TokenStream):
                self._stream = asked
            else:
                await self._wait_for_turn(asked)

    async def _wait_for_turn(self, asked: Awaitable[Text]) -> None:
        self._asking = asking = asyncio.ensure_future(asked)
        try:
            answer = await asking
        except asyncio.CancelledError:
            reader = asyncio.current_task()
            if self._failure is None or (reader is not None and reader.cancelling()):
                raise
            return  # Closed from another task: the failure says so.
        finally:
            self._asking = None
        self._hear(answer)

    async def _read_token(self, stream: TokenStream) -> None:
        async for token in stream:
            self._events.append(token)
            return
        self._stream = None
        self._hear(stream.answer)

    def _hear(self, answer: Text) -> None:
        """Take a turn of the model, and start the tools that it calls."""
        if self._failure is not None:
            return  # Closed from another task meanwhile.
        answer = evolve(answer, tool_calls=tuple(self._named(answer.tool_calls)))
        self._answer = answer
        self._events.append(Turn(answer))
        ours = [call for call in answer.tool_calls if not self._toolbox.is_open(call)]
        if ours and len(self._steps) + 1 >= self._limit:
            self._failure = ToolLoopExceeded(
                f"the model still called tools in step {self._limit}, the last: raise max_steps",
                limit=self._limit,
                answer=answer,
                messages=self._messages,
            )
            return
        for at, call in enumerate(answer.tool_calls):
            if not self._toolbox.is_open(call):
                self._start(at, call)
        if not self._tasks:
            self._end_step(answer)

    def _named(self, calls: tuple[ToolCall, ...]) -> Iterator[ToolCall]:
        """Give each call an id of its own: some models give none, some the same ones each turn."""
        for call in calls:
            named, number = call.id, len(self._ids)
            while not named or named in self._ids:
                # Nine letters and digits: some chat templates take nothing else.
                number += 1
                named = f"call{number:05d}"
            self._ids.add(named)
            yield evolve(call, id=named)

    def _start(self, at: int, call: ToolCall) -> None:
        try:
            if len(self._tasks) == MOST_CALLS:
                raise InputError(f"not run: up to {MOST_CALLS} calls of one turn are")
            work = self._toolbox.prepared(call)
        except InputError as exc:
            self._take(at, ToolFailed(call, exc, self._toolbox.told(exc)))
            return
        self._events.append(ToolStarted(call))
        self._tasks[at] = asyncio.ensure_future(work())

    async def _wait_for_tools(self) -> None:
        answer = self._answer
        await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        if self._failure is not None or answer is None:
            return
        for at, task in list(self._tasks.items()):
            if task.done():
                del self._tasks[at]
                self._take(at, self._result(answer.tool_calls[at], task))
        if not self._tasks and self._failure is None:
            self._end_step(answer)

    def _result(self, call: ToolCall, task: asyncio.Task[Any]) -> ToolReturned | ToolFailed:
        try:
            value = task.result()
            return ToolReturned(call, value, self._toolbox.written(call, value))
        except (Exception, asyncio.CancelledError) as exc:
            # Cancelled by itself: where it is cancelled from here, nobody asks for its result.
            ours = exc if isinstance(exc, Exception) else RuntimeError("the tool was cancelled")
            if self._on_error == "raise" and self._failure is None:
                ours.add_note(f"while the tool {call.name} was run")
                self._failure = ours
            return ToolFailed(call, ours, self._toolbox.told(ours))

    def _take(self, at: int, result: ToolReturned | ToolFailed) -> None:
        self._results[at] = result
        self._events.append(result)

    def _end_step(self, answer: Text) -> None:
        results = tuple(self._results[at] for at in sorted(self._results))
        self._results.clear()
        self._steps.append(Step(answer, results))
        calls = tuple(map(self._toolbox.repeatable, answer.tool_calls))
        self._messages = self._messages.add(evolve(answer, tool_calls=calls))
        for result in results:
            call = self._toolbox.repeatable(result.call)
            self._messages = self._messages.tool_result(result.content, call.id, name=call.name)
        unanswered = tuple(call for call in answer.tool_calls if self._toolbox.is_open(call))
        if unanswered or not results:
            self._outcome = ToolOutcome(answer, self._messages, self.steps, unanswered)
            self._events.append(self._outcome)
            self._toolbox.close()
