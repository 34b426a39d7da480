"""`ToolRun`: runs a model and the tools it calls, turn by turn, and reports each event."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from contextlib import AbstractContextManager, suppress
from typing import Any, Literal, Protocol, Self

from attrs import define, evolve, field

from cfai._types.excerpts import format_value
from cfai._validators import check_at_least
from cfai.conversation import Conversation
from cfai.errors import InputError, StreamInterrupted, ToolLoopExceeded
from cfai.resources.fallback import ModelNames, move_to_front
from cfai.settings import Options
from cfai.streaming.relay import Frame, RelaySource, call_frame
from cfai.streaming.stream import TokenStream
from cfai.tasks import Text, TextGeneration, Token, ToolCall, Usage, tool_result
from cfai.tasks.task import to_plain
from cfai.tools.events import (
    Step,
    ToolEvent,
    ToolFailed,
    ToolOutcome,
    ToolReturned,
    ToolStarted,
    Turn,
    result_frame,
    sum_usage,
)
from cfai.tools.toolbox import MAX_CALLS, Toolbox

OnError = Literal["tell", "raise"]


class ModelClient(Protocol):
    """What a run needs of `WorkersAI`."""

    def run(
        self,
        model: ModelNames,
        task: TextGeneration,
        *,
        stream: Literal[False],
        options: Options | None,
    ) -> Awaitable[Text]:
        """Run *model* on *task*."""

    def stream(
        self, model: ModelNames, task: TextGeneration, *, options: Options | None
    ) -> TokenStream:
        """Run *model* on *task*, and return its answer token by token."""


@define(eq=False, repr=False)
class ToolRun(RelaySource):
    """A model that calls tools: an async iterator of `ToolEvent`, and a context manager.

    `await` it for the outcome alone. Nothing is sent before it is entered, iterated or awaited.
    Leaving the `async with`, cancelling or dropping it cancels the tools and closes the stream.

    Raises:
        ToolLoopExceeded: The model still called tools in its last step.
        CfaiError: As `run` and `stream`. `messages` has the conversation up to then.
    """

    _client: ModelClient
    _model: ModelNames
    """Of several models, the one that answered the latest turn comes first."""
    _task: TextGeneration
    _toolbox: Toolbox
    _max_steps: int = field(kw_only=True)
    _streams: bool = field(kw_only=True, alias="stream")
    _on_error: OnError = field(kw_only=True)
    _options: Options | None = field(kw_only=True)
    _open_call: Callable[[], AbstractContextManager[object]] = field(kw_only=True)
    """Returns a context that ends with a `ConfigError` as soon as the client is closed."""
    _messages: Conversation = field(init=False)
    _ids: set[str | None] = field(init=False)
    _steps: list[Step] = field(factory=list, init=False)
    _events: deque[ToolEvent] = field(factory=deque, init=False)
    _has_reader: bool = field(default=False, init=False)
    """Whether a task waits for the next event."""
    _failure: BaseException | None = field(default=None, init=False)
    """Why the run ended early. Raised again by every further read."""
    _outcome: ToolOutcome | None = field(default=None, init=False)
    cancelled: bool = field(default=False, init=False)
    """Whether `cancel` ended it, before the model's last answer."""
    # The current turn
    _turn: asyncio.Future[Text] | None = field(default=None, init=False)
    _stream: TokenStream | None = field(default=None, init=False)
    _answer: Text | None = field(default=None, init=False)
    _results: dict[int, ToolReturned | ToolFailed] = field(factory=dict, init=False)
    _tools: dict[int, asyncio.Task[Any]] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        check_at_least("max_steps", self._max_steps, 1)
        if self._on_error not in ("tell", "raise"):
            raise InputError(
                f"on_error must be 'tell' or 'raise', got {format_value(self._on_error)}"
            )
        if self._task.tools is not None:
            raise InputError("the task must not have tools: pass them to run_tools")
        self._messages = Conversation(self._task.messages)
        self._ids = {call.id for message in self._messages for call in message.tool_calls or ()}
        self._task = self._task.replace(tools=self._toolbox.definitions)

    # Results

    @property
    def messages(self) -> Conversation:
        """The conversation so far, in complete steps."""
        return self._messages

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps so far."""
        return tuple(self._steps)

    @property
    def usage(self) -> Usage | None:
        """What the steps so far used together, if the model reports it."""
        return sum_usage(step.answer for step in self._steps)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ToolEvent:
        self._check_single_reader()
        self._has_reader = True
        try:
            while not self._events:
                if self._failure is not None:
                    raise self._failure
                if self._outcome is not None or self.cancelled:
                    break
                await self._advance()
            if self.cancelled:
                await self._release()
        except BaseException as exc:
            await self._stop(exc)
            raise
        finally:
            self._has_reader = False
        if not self._events:
            raise StopAsyncIteration
        return self._events.popleft()

    def _check_single_reader(self) -> None:
        if self._has_reader:
            raise InputError("another task is reading this run: a run has one reader")

    def __await__(self) -> Generator[Any, None, ToolOutcome]:
        return self._run_to_end().__await__()

    async def _run_to_end(self) -> ToolOutcome:
        # Before the `async with`, which would close the run under its reader.
        self._check_single_reader()
        async with self:
            async for _ in self:
                pass
        if self._outcome is not None:
            return self._outcome
        # It was cancelled.
        return ToolOutcome(self._answer or Text(), self._messages, self.steps)

    # Closing

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel the tools and close the stream, unless the run ended. Closing twice is fine."""
        message = "the run was closed before its end"
        await self._stop(StreamInterrupted(message, answer=self._answer))

    close = aclose

    def cancel(self) -> None:
        """End the run without an error, from any task; the tools and the stream are cancelled.

        `messages` and `steps` keep the complete steps. Awaiting the run then gives an outcome with
        these, and with the last answer, as far as it had arrived.
        """
        if self._outcome is not None or self._failure is not None or self.cancelled:
            return
        self.cancelled = True
        self._events.clear()
        if self._stream is not None:
            self._stream.cancel()
            self._answer = self._stream.answer
        if self._turn is not None:
            self._turn.cancel()
        for task in self._tools.values():
            task.cancel()
        self._toolbox.close()

    async def _stop(self, exc: BaseException) -> None:
        """End the run because of *exc*, unless it ended."""
        if self._outcome is None and self._failure is None and not self.cancelled:
            cancelled = not isinstance(exc, Exception)
            message = "the run was cancelled"
            self._failure = StreamInterrupted(message, answer=self._answer) if cancelled else exc
        await self._release()

    async def _release(self) -> None:
        """Close the stream, and wait until the cancelled tools ended."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.aclose()
        tasks = [*self._tools.values(), *([self._turn] if self._turn else [])]
        for task in tasks:
            task.cancel()
        # A tool may have to clean up. Nobody is left to get what it raises meanwhile.
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tools.clear()
        self._toolbox.close()

    def __del__(self, is_exiting: Callable[[], bool] = sys.is_finalizing) -> None:
        if is_exiting():  # The tasks ended with their loop.
            return
        for task in getattr(self, "_tools", {}).values():
            with suppress(RuntimeError):  # The loop is closed.
                task.get_loop().call_soon_threadsafe(task.cancel)

    # For a browser

    async def _frames(self) -> AsyncGenerator[Frame, None]:
        """The events for a browser, as `sse` describes them, each as its name and its data."""
        started: set[str | None] = set()
        turn_is_over = False
        async for event in self:
            match event:
                case Token() | Turn():
                    if turn_is_over:
                        yield "step", {}
                    turn_is_over = isinstance(event, Turn)
                    for frame in self._text_frames(event):
                        yield frame
                case ToolStarted(call=call):
                    started.add(call.id)
                    yield call_frame(call)
                case ToolReturned() | ToolFailed():
                    yield result_frame(event, is_valid=event.call.id in started)
                case ToolOutcome():
                    for call in event.open_calls:
                        yield call_frame(call)
        if usage := self.usage:
            yield "usage", to_plain(usage)
        reason = "cancelled" if self._outcome is None else self._outcome.answer.finish_reason
        yield "done", {"finish_reason": reason}

    def _text_frames(self, event: Token | Turn) -> Iterator[Frame]:
        """The text as it is generated: of each token, or of a turn that was not streamed."""
        text = event.answer if isinstance(event, Turn) else event
        if isinstance(event, Turn) and self._streams:
            return
        if text.reasoning:
            yield "reasoning", {"text": text.reasoning}
        if text.text:
            yield "text", {"text": text.text}

    # The loop

    async def _advance(self) -> None:
        """Go on to the next event, or to the next thing to wait for."""
        if self._tools:
            await self._wait_for_tools()
        elif (stream := self._stream) is not None:
            async for token in stream:
                self._events.append(token)
                return
            self._stream = None
            self._start_tools(stream.answer)
        else:
            # A forced call in every turn would never end.
            first_only = {"tool_choice": None} if self._steps else {}
            task = self._task.replace(messages=self._messages, **first_only)
            if self._streams:
                self._stream = self._client.stream(self._model, task, options=self._options)
            else:
                await self._run_model(task)

    async def _run_model(self, task: TextGeneration) -> None:
        call = self._client.run(self._model, task, stream=False, options=self._options)
        self._turn = turn = asyncio.ensure_future(call)
        try:
            answer = await turn
        except asyncio.CancelledError:
            reader = asyncio.current_task()
            ended = self._failure is not None or self.cancelled
            if not ended or (reader is not None and reader.cancelling()):
                raise
            return  # Another task closed or cancelled the run.
        finally:
            self._turn = None
        self._start_tools(answer)

    def _start_tools(self, answer: Text) -> None:
        """Record a turn of the model, and start the tools that it calls."""
        if self._failure is not None or self.cancelled:
            return  # Another task closed or cancelled the run meanwhile.
        self._model = move_to_front(self._model, answer.meta.model)
        answer = evolve(answer, tool_calls=tuple(self._with_unique_ids(answer.tool_calls)))
        self._answer = answer
        self._events.append(Turn(answer))
        has_work = any(not self._toolbox.is_open(call) for call in answer.tool_calls)
        if has_work and len(self._steps) + 1 >= self._max_steps:
            self._failure = ToolLoopExceeded(
                f"the model still called tools in step {self._max_steps}, the last: "
                f"raise max_steps",
                limit=self._max_steps,
                answer=answer,
                messages=self._messages,
            )
            return
        for index, call in enumerate(answer.tool_calls):
            if not self._toolbox.is_open(call):
                self._start_tool(index, call)
        if not self._tools:
            self._end_step(answer)

    def _with_unique_ids(self, calls: tuple[ToolCall, ...]) -> Iterator[ToolCall]:
        """Replace missing and repeated ids: some models give none, some the same in each turn."""
        number = len(self._ids)
        for call in calls:
            call_id = call.id
            while not call_id or call_id in self._ids:
                # Nine letters and digits: some chat templates accept nothing else.
                number += 1
                call_id = f"call{number:05d}"
            self._ids.add(call_id)
            yield evolve(call, id=call_id)

    def _start_tool(self, index: int, call: ToolCall) -> None:
        try:
            if len(self._tools) == MAX_CALLS:
                raise InputError(f"not run: a turn runs at most {MAX_CALLS} calls")
            coroutine = self._toolbox.run(call)
        except InputError as exc:
            self._add_result(index, ToolFailed(call, exc, self._toolbox.error_content(exc)))
            return
        self._events.append(ToolStarted(call))
        self._tools[index] = asyncio.ensure_future(coroutine)

    async def _wait_for_tools(self) -> None:
        answer = self._answer
        with self._open_call():
            await asyncio.wait(self._tools.values(), return_when=asyncio.FIRST_COMPLETED)
        if self._failure is not None or self.cancelled or answer is None:
            return
        for index, task in list(self._tools.items()):
            if task.done():
                del self._tools[index]
                self._add_result(index, self._result(answer.tool_calls[index], task))
        if not self._tools and self._failure is None:
            self._end_step(answer)

    def _result(self, call: ToolCall, task: asyncio.Task[Any]) -> ToolReturned | ToolFailed:
        try:
            value = task.result()
            return ToolReturned(call, value, self._toolbox.result_content(call, value))
        except (Exception, asyncio.CancelledError) as exc:
            # The tool cancelled itself: if the run cancels it, nobody reads its result.
            error = exc if isinstance(exc, Exception) else RuntimeError("the tool was cancelled")
            if self._on_error == "raise" and self._failure is None:
                error.add_note(f"while the tool {call.name} was run")
                self._failure = error
            return ToolFailed(call, error, self._toolbox.error_content(error))

    def _add_result(self, index: int, result: ToolReturned | ToolFailed) -> None:
        self._results[index] = result
        self._events.append(result)

    def _end_step(self, answer: Text) -> None:
        results = tuple(self._results[index] for index in sorted(self._results))
        self._results.clear()
        self._steps.append(Step(answer, results))
        calls = tuple(map(self._toolbox.sendable_call, answer.tool_calls))
        # Added at once: each `add` copies the conversation, and a model may call any number.
        messages = []
        for result in results:
            call = self._toolbox.sendable_call(result.call)
            messages.append(tool_result(result.content, call.id, name=call.name))
        self._messages = self._messages.add(evolve(answer, tool_calls=calls), *messages)
        open_calls = tuple(call for call in answer.tool_calls if self._toolbox.is_open(call))
        if open_calls or not results:
            self._outcome = ToolOutcome(answer, self._messages, self.steps, open_calls)
            self._events.append(self._outcome)
            self._toolbox.close()
