"""`Speaker`: a session that speaks text while it is written."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from contextlib import aclosing
from typing import Any, Final, Self

from attrs import define, field

from cfai._session.redaction import redact_error_text
from cfai._session.sockets import CLOSE_SECONDS, Socket
from cfai._types.excerpts import format_value
from cfai._wire.realtime import CLEAR, END_OF_TEXT, FLUSH, read_message, speak_message
from cfai.errors import CfaiError, InputError
from cfai.streaming.sentences import SentenceCutter
from cfai.streaming.sockets import SocketStream
from cfai.tasks import Audio, Token
from cfai.tasks.listening import SpeechEvent
from cfai.tasks.speaking import AudioChunk, AuraSpeaking, Cleared, Flushed, SpeechWarning

_LOG: Final = logging.getLogger("cfai")

SpokenText = str | Iterable[str] | AsyncIterable[str] | AsyncIterable[Token]
"""What can be said: a text, or pieces of one, such as the tokens of a stream."""


@define(eq=False, repr=False)
class Speaker(SocketStream):
    """A session that speaks text while it is written: an async iterator of its audio.

    It is opened when it is entered, iterated or given text. The iteration yields the audio of what
    was said, and ends with that of the last `flush`, or after a `clear`. For the next reply, say it
    and iterate again. Speak and read at the same time, in two tasks: buffers are bounded, so that a
    long text waits for a reader in the end. A session has one reader: another one at the same time
    gets an `InputError`.

    Leaving the `async with` or dropping the session closes it. The iteration raises:

    Raises:
        StreamInterrupted: The connection was lost, or the service closed it.
        RequestTimeout: `Timeouts.idle`, `.content` or `.total` ran out.
        StatusError: The service reported an error.
    """

    _task: AuraSpeaking = field(kw_only=True, repr=False)
    _open_flushes: int = field(default=0, init=False)
    """How many flushes the service has not answered yet."""
    _void_flushes: int = field(default=0, init=False)
    """How many of those before a `clear` it may still answer."""
    _open_clears: int = field(default=0, init=False)
    """How many clears it has not answered yet. Until then, audio is from before, and dropped."""
    _has_text: bool = field(default=False, init=False)
    """Whether something was said after the last flush."""
    _is_read: bool = field(default=False, init=False)
    """Whether a task waits for an event."""
    _reply: int = field(default=0, init=False)
    """Counts the clears: what belongs to an earlier number is void."""
    _completing: SpeechEvent | None = field(default=None, init=False, repr=False)
    """What answered the last open flush: the iteration ends with it."""
    bytes_received: int = field(default=0, init=False)
    """How many bytes of audio arrived, without those that were dropped."""

    @property
    def _partial_answer(self) -> Audio | None:
        encoding = self._task.encoding or "linear16"
        kind = "audio/L16" if encoding == "linear16" else f"audio/{encoding}"
        return Audio(b"", kind, meta=self.meta) if self._began else None

    # Speaking

    async def say(self, text: SpokenText) -> None:
        """Have a text spoken, sentence by sentence.

        The service begins when it has enough text; `flush` has it speak all. A `clear` in another
        task ends this, too, at the next piece.

        Args:
            text: A text, or an iterable or async iterable of pieces, such as a `TokenStream`, which
                is cut at the ends of its sentences.

        Raises:
            InputError: It is something else.
            StreamInterrupted: The session has ended.
        """
        cutter, reply = SentenceCutter(), self._reply
        async with aclosing(_read_pieces(text)) as pieces:
            async for piece in pieces:
                for sentence in cutter.feed(piece):
                    if self._reply != reply:
                        return
                    await self._say_sentence(sentence)
        if self._reply == reply:
            await self._say_sentence(cutter.finish())

    async def _say_sentence(self, text: str) -> None:
        if text.strip():
            self._has_text = True
            await self._send(speak_message(text.encode("utf-8", "replace").decode()))

    async def flush(self) -> None:
        """Have all text spoken that was said so far. The iteration ends after its audio.

        Deepgram allows 20 in a minute.
        """
        self._has_text = False
        self._open_flushes += 1
        await self._send(FLUSH)

    async def clear(self) -> None:
        """Drop what was said and not played yet, because the listener interrupts.

        A running iteration ends, and audio of before never comes out of the session.
        """
        self._reply += 1
        self._has_text = False
        self._void_flushes += self._open_flushes
        self._open_flushes = 0
        self._open_clears += 1
        self._events = deque(event for event in self._events if not isinstance(event, AudioChunk))
        await self._send(CLEAR)

    async def aclose(self) -> None:
        """Close the session. Closing twice is fine."""
        socket = self._socket
        try:
            if socket is not None and not self._ended:
                await self._say_goodbye(socket)
        finally:
            await super().aclose()

    close = aclose

    async def _say_goodbye(self, socket: Socket) -> None:
        """Send the message that ends a session."""
        socket.is_finishing = True
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await socket.send(END_OF_TEXT)
        except (TimeoutError, CfaiError):
            return  # It ended already, or the other side does not read.
        is_complete = not (self._open_flushes or self._has_text or self._events)
        if is_complete and self._socket is socket:
            self._ended = True
            self._report_end(complete=True)

    # Reading

    async def _next_event(self) -> SpeechEvent | None:
        # Of two readers, one would get the end of a reply, and the other would wait for it.
        if self._is_read:
            raise self._second_reader_error()
        self._is_read = True
        try:
            return await super()._next_event()
        finally:
            self._is_read = False

    async def __anext__(self) -> AudioChunk:
        reply = self._reply
        while True:
            event = await self._next_event()
            if event is None or self._reply != reply:
                self._put_back(event)
                raise StopAsyncIteration
            if isinstance(event, AudioChunk):
                return event
            if event is self._completing:
                raise StopAsyncIteration

    def _put_back(self, event: SpeechEvent | None) -> None:
        """Leave an event of the next reply to the next iteration."""
        if isinstance(event, AudioChunk):
            self._events.appendleft(event)

    def events(self) -> AsyncIterator[SpeechEvent]:
        """Iterate over everything that arrives, until the session is closed.

        Beside `AudioChunk`, that is `Flushed`, `Cleared`, `SpeechWarning` and `SessionInfo`. Each
        event is read either here or by the iteration over the audio.
        """
        return _EventIterator(self)

    def _read_message(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self._read_audio(message)
            return
        event = read_message(message, self.meta)
        match event:
            case Flushed():
                self._answer_flush(event)
            case Cleared():
                self._open_clears = max(0, self._open_clears - 1)
            case SpeechWarning():
                self._log_warning(event)
                if "flush" in f"{event.code} {event.description}".lower():
                    self._answer_flush(event)  # It was refused: nothing else will answer it.
        self._events.append(event)

    def _log_warning(self, warning: SpeechWarning) -> None:
        secrets = () if self._socket is None else self._socket.settings.secrets
        text = redact_error_text(warning.description, secrets)
        _LOG.warning("%s: %s", self.meta.model, text)

    def _answer_flush(self, event: SpeechEvent) -> None:
        if self._void_flushes:
            self._void_flushes -= 1
        elif self._open_flushes:
            self._open_flushes -= 1
            self._open_clears = 0  # A `Cleared` would have come before.
            if not self._open_flushes:
                self._completing = event

    def _read_audio(self, data: bytes) -> None:
        if self._open_clears:
            return
        self._void_flushes = 0  # They would have been answered before new audio.
        self.bytes_received += len(data)
        encoding = self._task.encoding or "linear16"
        rate = self._task.rate_of_answer
        self._events.append(AudioChunk(data, encoding=encoding, sample_rate=rate))


class _EventIterator:
    """A class, not a generator: an unfinished generator would outlive its session."""

    def __init__(self, speaker: Speaker) -> None:
        self._speaker = speaker

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SpeechEvent:
        event = await self._speaker._next_event()
        if event is None:
            raise StopAsyncIteration
        return event


async def _read_pieces(text: Any) -> AsyncGenerator[str, None]:
    if isinstance(text, str):
        yield text
    elif isinstance(text, AsyncIterable):
        async for piece in text:
            yield _read_piece(piece)
    elif isinstance(text, Iterable) and not isinstance(text, bytes | bytearray | memoryview):
        for piece in text:
            yield _read_piece(piece)
    else:
        raise InputError(f"text must be text, or an iterable of texts, got {format_value(text)}")


def _read_piece(piece: Any) -> str:
    if isinstance(piece, Token):
        return piece.text
    if isinstance(piece, str):
        return piece
    raise InputError(f"each piece of text must be text or a Token, got {format_value(piece)}")
