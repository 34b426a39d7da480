"""`Listener`: a session that transcribes audio while it is spoken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Iterable
from contextlib import aclosing
from inspect import isawaitable
from typing import Any, Protocol

from attrs import define, field

from cfai._session.sockets import Socket
from cfai._types.excerpts import format_value
from cfai._wire.realtime import END_OF_AUDIO, read_message
from cfai.errors import InputError, TransportError
from cfai.streaming.sockets import SocketStream
from cfai.tasks import Transcript
from cfai.tasks.listening import Final, SpeechEvent, SpeechText, TurnEnded


class Readable(Protocol):
    """A binary file, an `asyncio.StreamReader`, or another object with such a `read`."""

    def read(self, size: int, /) -> bytes | Awaitable[bytes]:
        """Return up to *size* bytes; none at the end."""
        ...


AudioSource = bytes | AsyncIterable[bytes] | Iterable[bytes] | Readable
"""Audio: bytes, an iterable or async iterable of them, or something with `read`."""

_CHUNK = 2**13
"""Bytes that are read at once: a quarter of a second of PCM at 16 kHz."""


@define(eq=False, repr=False)
class Listener(SocketStream):
    """A session that transcribes audio while it is spoken: an async iterator of its events.

    It is opened when it is entered, iterated, or sent audio. Send and read at the same time, in two
    tasks, or pass the audio to `WorkersAI.listen`: buffers are bounded, so that in the end a sender
    waits for a reader. Cancelling a task that reads leaves the session open. Leaving the `async
    with` or dropping the session closes it at once; `finish` waits for the rest.

    The iteration ends normally only after the end of the audio, when the service has sent all of
    its text. Otherwise it raises:

    Raises:
        StreamInterrupted: The connection was lost, or the service closed it early; `answer` has the
            transcript so far. There is no second connection: the service would not know the audio.
        RequestTimeout: `Timeouts.idle`, `.content` or `.total` ran out.
        StatusError: The service reported an error.
    """

    _audio: AudioSource | None = field(default=None, kw_only=True, repr=False)
    """What is sent by a task of the session; `None` if the user sends it."""
    _feeder: asyncio.Task[None] | None = field(default=None, init=False)
    _passages: list[SpeechText] = field(factory=list, init=False, repr=False)
    """What is final."""
    _unfinished: dict[int | None, SpeechText] = field(factory=dict, init=False, repr=False)
    """Of each channel, the passage that is not final yet."""

    def _accept(self, source: Socket) -> None:
        super()._accept(source)
        if self._audio is not None:
            audio, self._audio = self._audio, None
            self._feeder = asyncio.get_running_loop().create_task(_feed(audio, source))

    @property
    def _partial_answer(self) -> Transcript | None:
        return self.transcript if self._began else None

    def _stop(self, exc: BaseException | None) -> None:
        super()._stop(exc)
        if self._feeder is not None:
            self._feeder.cancel()

    async def aclose(self) -> None:
        """Close the session at once, with a close frame if it is open. Closing twice is fine."""
        await super().aclose()
        if self._feeder is not None and self._feeder is not asyncio.current_task():
            await asyncio.wait({self._feeder})

    close = aclose

    def _abandon(self) -> None:
        super()._abandon()
        if self._feeder is not None and self._socket is not None:
            self._feeder.cancel()

    # Sending

    async def send(self, audio: bytes | bytearray | memoryview) -> None:
        """Send a piece of the audio, of any length. Waits while the connection can't take more.

        Raises:
            InputError: It is no bytes, or `finish` was called before.
            StreamInterrupted: The session has ended. Read on for what had arrived, and the reason.
        """
        data = _check_audio(audio)
        if self._feeder is not None or self._audio is not None:
            raise InputError("the session has an audio source: nothing else can be sent")
        if self._socket is not None and self._socket.is_finishing:
            raise InputError("audio must be sent before finish()")
        await self._send(data)

    async def finish(self) -> Transcript:
        """End the audio, wait for the rest of the text, and return the whole transcript.

        If the session has an audio source, it is sent to its end first. Events that nobody has read
        stay there to be read.

        Raises:
            StreamInterrupted: The session was cut before; and the other errors of the iteration.
        """
        if self._failure is not None:
            raise self._failure
        if self._feeder is None and self._audio is None and not self._ended:
            await self._open_once()
            if self._socket is not None and not self._socket.is_finishing:
                self._socket.is_finishing = True
                await self._send(END_OF_AUDIO)
        while not self._ended:
            await self._receive()
        if self._failure is not None:
            raise self._failure
        return self.transcript

    # Reading

    async def __anext__(self) -> SpeechEvent:
        event = await self._next_event()
        if event is None:
            raise StopAsyncIteration
        return event

    def _read_message(self, message: str | bytes) -> None:
        event = read_message(message, self.meta)
        if isinstance(event, Final | TurnEnded):
            self._unfinished.pop(event.channel, None)
            if event.text.strip():
                self._passages.append(event)
        elif isinstance(event, SpeechText):
            self._unfinished[event.channel] = event
        self._events.append(event)

    @property
    def transcript(self) -> Transcript:
        """What was said so far: the passages that are final, and their words.

        A passage that was not final when the session ended is part of it, too.
        """
        passages = self._passages
        if self._ended:
            passages = [*passages, *(text for text in self._unfinished.values() if text.text)]
        text = " ".join(passage.text.strip() for passage in passages)
        words = tuple(word for passage in passages for word in passage.words)
        return Transcript(text, word_count=len(words) or None, words=words, meta=self.meta)


def _check_audio(audio: Any) -> bytes:
    match audio:
        case bytes():
            return audio
        case bytearray() | memoryview():
            return bytes(audio)
    raise InputError(f"audio must be bytes, got {format_value(audio)}")


def check_source(audio: Any) -> None:
    """Check that audio can be read from *audio*.

    Raises:
        InputError: It can't.
    """
    kinds = (bytes, bytearray, memoryview, AsyncIterable, Iterable)
    if isinstance(audio, str) or not (isinstance(audio, kinds) or hasattr(audio, "read")):
        rule = "bytes, an iterable or async iterable of bytes, or have a read()"
        raise InputError(f"audio must be {rule}, got {format_value(audio)}")


async def _feed(audio: AudioSource, socket: Socket) -> None:
    """Send a source to its end. It refers to the socket only, not to the session."""
    try:
        async with aclosing(_read_source(audio)) as chunks:
            async for chunk in chunks:
                await socket.send(_check_audio(chunk))
        socket.is_finishing = True
        await socket.send(END_OF_AUDIO)
    except TransportError:
        pass  # The reader of the session gets the reason, after what had arrived.
    except Exception as exc:
        socket.fail(exc)


async def _read_source(audio: Any) -> AsyncGenerator[bytes, None]:
    if isinstance(audio, bytes | bytearray | memoryview):
        yield bytes(audio)
    elif hasattr(audio, "read"):
        while chunk := await _read_chunk(audio):
            yield chunk
    elif isinstance(audio, AsyncIterable):
        async for chunk in audio:
            yield chunk
    else:
        for chunk in audio:
            yield chunk


async def _read_chunk(file: Any) -> bytes:
    """Read from an `asyncio.StreamReader` and the like, or from a file in a thread."""
    if isinstance(file, asyncio.StreamReader):
        return await file.read(_CHUNK)
    chunk = await asyncio.to_thread(file.read, _CHUNK)
    data: bytes = await chunk if isawaitable(chunk) else chunk
    return data
