"""`TokenStream`: a text answer token by token, which ends normally only if it is complete."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from attrs import define, evolve, field

from cfai._session.body import StreamBody
from cfai._session.session import Spending
from cfai._types.excerpts import format_count
from cfai._wire.answers import AnswerSpec, answer_from_text
from cfai._wire.pairs import PairJoiner
from cfai._wire.text import recover_tool_calls
from cfai._wire.tokens import TextBuilder, read_ahead, read_token, token_from_text
from cfai.errors import CfaiError, DecodeError, ServerError, StreamInterrupted
from cfai.meta import Meta
from cfai.streaming.answer_stream import AnswerStream
from cfai.streaming.events import DONE, Event, EventReader, as_server_sent_event, decode_events
from cfai.streaming.relay import Frame, RelaySource, call_frame
from cfai.tasks import Result, Text, Token
from cfai.tasks.task import to_plain

if TYPE_CHECKING:
    from httpx_sse import ServerSentEvent

    from cfai._session.observation import CallObservation

_GROUP = 64
"""How many events are decoded at once. More would cost memory, and save nothing."""


@define(eq=False, repr=False)
class TokenStream(AnswerStream[EventReader | Text], RelaySource):
    """A text answer as it is generated: an async iterator of `Token`, and a context manager.

    The request is sent when the stream is entered, opened or iterated. It has one reader, once.
    Leaving the `async with`, breaking out, cancelling or dropping it closes the connection at once.

    The iteration ends normally only if the service ended the stream. Otherwise it raises:

    Raises:
        StreamInterrupted: The stream was cut; `answer` has the part that had arrived.
        RequestTimeout: `Timeouts.idle`, `.content` or `.total` ran out.
        StatusError: An error response, or an error inside the stream.
        DecodeError: An event has an undocumented form.
    """

    _json_mode: bool = field(default=False, kw_only=True)
    _tools: Collection[str] = field(default=(), kw_only=True)
    """The names of the tools that the model was given."""
    # What was received is not for the `repr`, by which error trackers show a stream.
    _text_builder: TextBuilder = field(factory=TextBuilder, init=False, repr=False)
    _events: EventReader | None = field(default=None, init=False, repr=False)
    _whole_answer: Text | None = field(default=None, init=False, repr=False)
    """The answer of a model that does not stream."""
    _taken: list[Event] = field(factory=list, init=False, repr=False)
    """The events that were decoded last."""
    _tokens: deque[Token | None] = field(factory=deque, init=False, repr=False)
    """The tokens of those that were not delivered yet; `None` for one that is read in its turn. It
    is empty once the stream ended, so that a reader need not check."""
    _is_plain: bool = field(default=False, init=False)
    """Whether these have only text, and nobody observes the stream."""
    _add_text: Callable[[str], None] = field(init=False, repr=False)
    cancelled: bool = field(default=False, init=False)
    """Whether `cancel` ended it, before the service did."""
    _pairs: PairJoiner | None = field(default=None, init=False)
    """Set once an event had half of a surrogate pair."""

    def __attrs_post_init__(self) -> None:
        self._add_text = self._text_builder.add_text

    # What kind of stream it is

    def _accept(self, source: EventReader | Text) -> None:
        if isinstance(source, Text):
            self._whole_answer = source
        else:
            self._events, self._body = source, source.body

    @property
    def _began(self) -> bool:
        return self._events is not None or self._whole_answer is not None

    @property
    def _partial_answer(self) -> Text | None:
        return self.answer if self._began else None

    def _read_cost(self) -> float | None:
        text = self._whole_answer
        usage = self._text_builder.usage if text is None else text.usage
        neurons = None if usage is None else usage.neurons
        return self.meta.neurons if neurons is None else neurons

    def _closed_error(self) -> CfaiError:
        return StreamInterrupted("the stream was closed before its end")

    def _stop(self, exc: BaseException | None) -> None:
        self._put_back()
        super()._stop(exc)

    def _complete_error(self, error: CfaiError) -> None:
        if isinstance(error, StreamInterrupted):
            error.answer, error.events = self.answer, self._event_count

    def cancel(self) -> None:
        """End the iteration without an error, from any task. `answer` keeps what had arrived."""
        complete = self._is_complete
        self._put_back()
        self.cancelled = self.cancelled or not self._ended
        self._open_source, self._ended = None, True
        if self._body is not None:
            self._body.cancel()
        self._cancel_waiter()
        self._report_end(complete=complete)

    # Reading

    if not TYPE_CHECKING:  # Type checkers report an `await` by themselves.

        def __await__(self):
            message = "a stream can't be awaited: iterate it (`async for token in stream`)"
            raise TypeError(f"{message}, or collect its answer (`await stream.collect()`)")

    async def __anext__(self) -> Token:
        # Usually the next token is there already, and nothing has to be awaited or checked. If not,
        # one coroutine waits for it: each further one would cost 1,000 instructions a token. To add
        # its text here takes a third less than to call `_deliver` for it.
        if self._tokens or self._read_ahead(await self._wait_for_events(raw=False)):
            token = self._tokens.popleft()
            if token is not None:
                if self._is_plain:
                    self._add_text(token.text)
                    return token
                return self._deliver(token)
            self._tokens.appendleft(None)  # Its event is read now.
        return await self._next_token()

    async def _next_token(self) -> Token:
        """The next token, of an event that is read in its turn; or the end."""
        if self._is_waiting:
            raise self._second_reader_error()
        try:
            while self._tokens or self._read_ahead(await self._wait_for_events(raw=False)):
                token = self._tokens.popleft()
                if token is None:
                    event = self._taken[-1 - len(self._tokens)]
                    if _is_end(event):
                        self._put_back()
                        self._ended = True
                        if self._events is not None:
                            await self._events.finish()
                        break
                    token = self._read_event(event)
                if token is not None:
                    return self._deliver(token)
            else:
                self._check_complete()
        except BaseException as exc:
            self._stop(exc)
            raise
        if self._whole_answer is not None and not self._ended:
            self._ended = True
            return self._deliver(token_from_text(self._whole_answer))
        self._ended = True
        if self._pairs is not None and (rest := self._pairs.finish()) is not None:
            return self._deliver(rest)
        self._report_end(complete=True)
        raise StopAsyncIteration

    def _read_ahead(self, events: EventReader | None) -> bool:
        """Decode the next events, several at once; `False` at the end of the body."""
        if events is None:
            return False
        self._taken = events.take(_GROUP)
        if events.has_half_pairs:  # Each token may need a half of the one before.
            self._tokens.extend([None] * len(self._taken))
        else:
            tokens, only_text = read_ahead(decode_events(self._taken))
            self._tokens.extend(tokens)
            self._is_plain = only_text and self._observation is None
            if events.body.counts_content and any(tokens):
                events.body.restart_content_timeout()
        return True

    def _put_back(self) -> None:
        """Leave the events that were read ahead to the next reader, or to nobody."""
        if self._events is not None:
            self._events.put_back(len(self._tokens))
        self._tokens.clear()

    async def next_event(self, *, raw: bool = False) -> Event | None:
        """The next event of any kind; `None` at the end of the body.

        If this sends the request, an error in its first event is raised unless *raw*.

        Raises:
            CfaiError: The stream was cut or closed, now or before.
        """
        self._put_back()
        events = await self._wait_for_events(raw=raw)
        return None if events is None else events.take()[0]

    async def _wait_for_events(self, *, raw: bool) -> EventReader | None:
        """The reader, once it has an event to take; `None` at the end of the body."""
        if self._is_waiting:
            raise self._second_reader_error()
        if self._failure is not None:
            raise self._failure
        if self._open_source is not None:
            await self._open_events(raw=raw)
        events = self._events
        while events is not None and not self._ended:
            if events.has_more:
                return events
            if events.at_end:
                break
            self._is_waiting = True  # To ask for the current task is a system call.
            try:
                events.add(await events.body.read_chunk())
            except CfaiError as exc:
                self._stop(events.complete_error(exc))
            except BaseException as exc:
                self._stop(exc)
                raise
            finally:
                self._is_waiting = False
            # If another task closed the stream, that may look like the end of the body.
            if self._failure is not None:
                raise self._failure
        return None

    async def _open_events(self, *, raw: bool) -> None:
        if raw and self._open_source is not None:
            self._open_source = partial(self._open_source, raw=True)
        await self.open()

    def _read_event(self, event: Event) -> Token | None:
        """Read the event that was taken from `_taken` last."""
        events = self._events
        has_data = event if isinstance(event, bytes) else event.data or event.event == "error"
        if events is None or not has_data:
            return None
        try:
            token = read_token(events.parse(event, self._event_count))
            if events.has_half_pairs:
                token = self._join_pairs(token, events.parse_with_half_pairs(event))
        except DecodeError as exc:
            events.add_context(exc, event)
            raise
        if token is not None and token.finish_reason == "error":
            message = "the model ended the stream with finish_reason error"
            meta = self.meta
            raise ServerError(message, status=500, ray_id=meta.ray_id, meta=meta)
        if token is not None:
            events.body.restart_content_timeout()
        return token

    def _join_pairs(self, token: Token | None, document: Any) -> Token | None:
        """The token with the halves of its *document*, which its own document has as U+FFFD."""
        if self._pairs is None:
            self._pairs = PairJoiner()
            # Tokens that were read ahead may have the second half.
            self._tokens = deque([None] * len(self._tokens))
        if token is not None and document is not None:
            token = evolve(read_token(document) or token, raw=token.raw)
        return None if token is None else self._pairs.join(token)

    def _deliver(self, token: Token) -> Token:
        if self._observation is not None:
            self._observation.token(token)
        self._text_builder.add(token)
        return token

    def _check_complete(self) -> None:
        """Check that a body that ended also ended the answer."""
        events = self._events
        if self._ended or events is None or events.bare_done or self._text_builder.finish_reason:
            return
        raise StreamInterrupted(
            "the stream ended without its end mark, after "
            f"{format_count(self._event_count, 'event')}"
        )

    @property
    def _event_count(self) -> int:
        """How many events were delivered."""
        return 0 if self._events is None else self._events.count - len(self._tokens)

    # Results

    @property
    def answer(self) -> Text:
        """The answer so far; after the end, the complete answer."""
        if self._whole_answer is not None:
            return self._whole_answer
        answer = self._text_builder.build(json_mode=self._json_mode)
        # What looks like a written call may go on as another text until the stream ends.
        if self._tools and self._is_complete and not self.cancelled:
            answer = recover_tool_calls(answer, self._tools)
        return evolve(answer, meta=self.meta)

    @property
    def meta(self) -> Meta:
        """The facts of the exchange, once the response began."""
        if self._whole_answer is not None:
            return self._whole_answer.meta
        return Meta() if self._events is None else self._events.body.meta

    async def collect(self) -> Text:
        """Read to the end and return the complete answer.

        Raises:
            StreamInterrupted: The stream did not reach its end, or was closed before.
        """
        async for _ in self:
            pass
        return self.answer

    def text(self) -> AsyncIterator[str]:
        """Iterate over the text of the tokens, as non-empty strings."""
        return _TextIterator(self)

    def events(self) -> AsyncIterator[ServerSentEvent]:
        """Iterate over the events as sent, end mark included, decoded as WHATWG specifies.

        For models that stream something other than text: the data is not interpreted, not even that
        of an error, and the end of the body is the end of the stream. Each event is read either
        here or as a token. If the stream was entered before, as a stream of tokens, an error in its
        first event was raised there.
        """
        return _RawEventIterator(self)

    async def _frames(self) -> AsyncGenerator[Frame, None]:
        """The events for a browser, as `sse` describes them, each as its name and its data."""
        finish_reason = None
        async for token in self:
            finish_reason = token.finish_reason or finish_reason
            if token.reasoning:
                yield "reasoning", {"text": token.reasoning}
            if token.text:
                yield "text", {"text": token.text}
            if token.tool_calls:
                yield "tool_calls", {"tool_calls": to_plain(token.tool_calls)}
        answer = self.answer
        if not self.cancelled:
            for call in answer.tool_calls:
                yield call_frame(call)
        # A token's own usage is not sent, only the total.
        if usage := answer.usage:
            yield "usage", to_plain(usage)
        # The service's finish_reason is often null, so a cancelled stream needs one of our own.
        yield "done", {"finish_reason": finish_reason or ("cancelled" if self.cancelled else None)}

    def __repr__(self) -> str:
        state = "over" if self._ended else "new" if self._events is None else "open"
        return f"<TokenStream {state}, {format_count(self._event_count, 'event')}>"


def _is_end(event: Event) -> bool:
    """Whether an event is the mark at the end of a stream."""
    return event == DONE or (not isinstance(event, bytes) and event.data == "[DONE]")


# The two iterators are classes, not generators: an unfinished generator would outlive its stream.


class _TextIterator:
    def __init__(self, stream: TokenStream) -> None:
        self._stream = stream

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        while True:
            token = await anext(self._stream)
            if token.text:
                return token.text


class _RawEventIterator:
    def __init__(self, stream: TokenStream) -> None:
        self._stream = stream

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ServerSentEvent:
        event = await self._stream.next_event(raw=True)
        if event is None:
            self._stream._report_end(complete=True)
            raise StopAsyncIteration
        return as_server_sent_event(event)


async def read_unexpected_stream(
    spec: AnswerSpec, body: StreamBody, observation: CallObservation | None, spending: Spending
) -> Any:
    """Read a stream that the model sent although none was requested.

    Returns:
        The complete answer of a task; the open stream of a mapping, observed by *observation*,
        whose cost is added to *spending* at its end.
    """
    events = await EventReader.open(body)
    is_task = spec.answer is not Result
    stream = TokenStream(
        None,
        json_mode=spec.json,
        tools=spec.tools,
        observation=None if is_task else observation,
        spending=None if is_task else spending,
    )
    stream._accept(events)
    if not is_task:
        return stream
    async with stream:
        return answer_from_text(spec, await stream.collect())
