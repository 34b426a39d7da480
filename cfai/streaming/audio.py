"""`AudioStream`: a sound as it arrives, which ends normally only if it is complete."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import define, evolve, field

from cfai._session.body import StreamBody
from cfai._types.excerpts import format_count, format_value
from cfai._validators import check_path
from cfai._wire.answers import read_neurons, read_sound
from cfai._wire.responses import EVENT_STREAM
from cfai.errors import CfaiError, ConnectionLost, DecodeError, InputError, StreamInterrupted
from cfai.meta import Meta
from cfai.streaming.answer_stream import AnswerStream
from cfai.streaming.events import EventReader
from cfai.tasks import Audio

_SIGNATURE_BYTES = 12
"""As many bytes as the detection of a media type reads."""

OpenedAudio = tuple[Audio, StreamBody | None]
"""A sound, and the body that the rest of it comes from; `None` if it is complete."""


async def open_audio(body: StreamBody) -> OpenedAudio:
    """Wait for the first bytes of *body*, and check that they are a sound.

    Raises:
        StatusError: The body is a stream of events, and the first one is an error.
        StreamInterrupted: The body was cut before its first bytes.
        DecodeError: It is empty, or it is not a sound.
    """
    media_type = body.meta.media_type or ""
    if media_type == EVENT_STREAM:
        await EventReader.open(body)
        raise DecodeError("expected Audio, got a stream of events", meta=body.meta)
    first = chunk = await _read_chunk(body, 0)
    if media_type in ("", "application/octet-stream"):
        # The type is detected from the first bytes, which may come one by one.
        while chunk and len(first) < _SIGNATURE_BYTES:
            chunk = await _read_chunk(body, len(first))
            first += chunk
    if not first:
        status = body.meta.status
        message = f"the service answered {status} ({media_type or 'no Content-Type'}) with no bytes"
        raise DecodeError(message, meta=body.meta)
    try:
        sound = read_sound(first, media_type)
    except DecodeError as exc:
        exc.meta = body.meta
        raise
    return evolve(sound, meta=body.meta), body if chunk else None


async def _read_chunk(body: StreamBody, received: int) -> bytes:
    """The bytes that have arrived after *received* others; empty at the end."""
    try:
        chunk = await body.read_chunk()
    except ConnectionLost as exc:
        raise StreamInterrupted(
            f"the sound was cut after {format_count(received, 'byte')}: {exc}"
        ) from exc
    body.restart_content_timeout()
    return chunk


@define(eq=False, repr=False)
class AudioStream(AnswerStream[OpenedAudio]):
    """A sound as a model speaks it: an async iterator of bytes, and a context manager.

    The request is sent when the stream is entered, opened, iterated or saved. It has one reader,
    once. Leaving the `async with`, breaking out, cancelling or dropping it closes the connection at
    once. No bytes are kept, so `max_answer_bytes` does not limit a sound that arrives in pieces; it
    limits a model's answer in JSON, which arrives as one chunk.

    The iteration ends normally only if the sound is complete. Otherwise it raises:

    Raises:
        StreamInterrupted: The sound was cut.
        RequestTimeout: `Timeouts.idle`, `.content` or `.total` ran out. Each chunk is content.
        StatusError: The service sent an error response.
        DecodeError: The answer is not a sound.
    """

    _sound: Audio | None = field(default=None, init=False)
    """The sound as it is reported: without its bytes, unless they came at once."""
    _first: bytes = field(default=b"", init=False)
    """The first chunk, until it is read."""
    received: int = field(default=0, init=False)
    """How many bytes the reader got."""

    # What kind of stream it is

    def _accept(self, source: OpenedAudio) -> None:
        sound, self._body = source
        self._first = sound.data
        self._sound = sound if self._body is None else evolve(sound, data=b"")

    @property
    def _began(self) -> bool:
        return self._sound is not None

    @property
    def _partial_answer(self) -> Audio | None:
        return self._sound

    def _read_cost(self) -> float | None:
        return None if self._sound is None else read_neurons(self._sound)

    def _closed_error(self) -> CfaiError:
        message = (
            f"the sound was closed after {format_count(self.received, 'byte')}, before its end"
        )
        return StreamInterrupted(message)

    # Reading

    if not TYPE_CHECKING:  # Type checkers report an `await` by themselves.

        def __await__(self):
            message = "a sound can't be awaited: iterate it (`async for chunk in audio`), save it"
            raise TypeError(f"{message} (`await audio.save(path)`), or call `run`")

    async def __anext__(self) -> bytes:
        if self._is_waiting:
            raise self._second_reader_error()
        try:
            chunk = await self._next_chunk()
        except BaseException as exc:
            self._stop(exc)
            raise
        if chunk:
            self.received += len(chunk)
            return chunk
        self._ended = True
        self._report_end(complete=True)
        raise StopAsyncIteration

    async def _next_chunk(self) -> bytes:
        """The next bytes; empty at the end."""
        if self._failure is not None:
            raise self._failure
        await self.open()
        if self._first:
            chunk, self._first = self._first, b""
            return chunk
        if self._ended or self._body is None:
            return b""
        self._is_waiting = True
        try:
            chunk = await _read_chunk(self._body, self.received)
        except StreamInterrupted:
            if self._failure is not None:  # Another task closed it meanwhile.
                raise self._failure from None
            raise
        finally:
            self._is_waiting = False
        if self._failure is not None:
            raise self._failure
        return chunk

    async def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the sound to *path* as it arrives, and return the path.

        An existing file is overwritten at the end. Until then, the bytes are in a file beside it
        with the suffix `.part`, which is removed if the sound is not complete.

        Raises:
            InputError: A part was read already, or *path* is not a regular file.
            OSError: The file can't be written.
        """
        if self._is_waiting:
            raise self._second_reader_error()
        if self.received or self._is_complete:
            raise InputError("the sound was read already: save it instead of iterating over it")
        if self._failure is not None:
            raise self._failure
        target, part = _resolve_paths(path)
        try:
            # Closing waits for a write in a thread that was cancelled.
            with part.open("wb") as file:  # as quick as a lookup
                async for chunk in self:
                    await asyncio.to_thread(file.write, chunk)
            part.replace(target)
        except BaseException as exc:
            self._stop(exc)
            part.unlink(missing_ok=True)
            raise
        return Path(path)

    # Facts

    @property
    def media_type(self) -> str:
        """The media type, such as "audio/mpeg": known once the stream is entered, empty before.

        If the response has no specific Content-Type, it is detected from the first bytes.
        """
        return "" if self._sound is None else self._sound.media_type

    @property
    def meta(self) -> Meta:
        """The facts of the exchange, once the response began."""
        return Meta() if self._sound is None else self._sound.meta

    def __repr__(self) -> str:
        state = "over" if self._ended else "new" if self._sound is None else "open"
        return f"<AudioStream {state}, {format_count(self.received, 'byte')}>"


def _resolve_paths(path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """The file that *path* names, through links, and the file for its bytes until the end.

    Raises:
        InputError: It is a folder or a device, or no file can have that path.
    """
    target = check_path("path", path).resolve()
    if target.exists() and not target.is_file():
        raise InputError(f"path must be a regular file, got {format_value(str(path), 200)}")
    return target, target.with_name(f"{target.name}.part")
