"""`AudioStream`: a sound as it arrives, which ends normally only if it is complete."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from attrs import define, evolve, field

from cfai._session.body import StreamBody
from cfai._session.redaction import redact_error
from cfai._session.session import Spending
from cfai._wire.answers import read_neurons, read_sound
from cfai._wire.responses import EVENT_STREAM
from cfai.errors import CfaiError, ConnectionLost, DecodeError, InputError, StreamInterrupted
from cfai.meta import Meta
from cfai.streaming.events import EventReader
from cfai.tasks import Audio

if TYPE_CHECKING:
    from cfai._session.observation import CallObservation

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
        raise StreamInterrupted(f"the sound was cut after {received} bytes: {exc}") from exc
    body.restart_content_timeout()
    return chunk


@define(eq=False, repr=False)
class AudioStream:
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

    _open_source: Callable[[], Awaitable[OpenedAudio]] | None
    """Sends the request. `None` as soon as it was called."""
    _observation: CallObservation | None = field(default=None, kw_only=True)
    _spending: Spending | None = field(default=None, kw_only=True)
    """Where the cost is added at the end. `None` as soon as it was."""
    _sound: Audio | None = field(default=None, init=False)
    """The sound as it is reported: without its bytes, unless they came at once."""
    _body: StreamBody | None = field(default=None, init=False)
    _first: bytes = field(default=b"", init=False)
    """The first chunk, until it is read."""
    received: int = field(default=0, init=False)
    """How many bytes the reader got."""
    _has_reader: bool = field(default=False, init=False)
    _ended: bool = field(default=False, init=False)
    _failure: CfaiError | None = field(default=None, init=False)
    """Why it ended early. Raised again by every further read."""

    # Opening and closing

    async def open(self) -> Self:
        """Send the request and wait for the first bytes. Entering and iterating do the same.

        Raises:
            StatusError: The service sent an error response.
            DecodeError: The answer is not a sound.
        """
        open_source, self._open_source = self._open_source, None
        if open_source is None:
            return self
        try:
            sound, self._body = await open_source()
        except BaseException as exc:
            self._stop(exc)
            raise
        self._first = sound.data
        self._sound = sound if self._body is None else evolve(sound, data=b"")
        if self._failure is not None:  # Another task closed it meanwhile.
            self._stop(self._failure)
            raise self._failure
        return self

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection at once, unless the sound ended. Closing twice is fine."""
        self._stop(None)

    close = aclose

    def _stop(self, exc: BaseException | None) -> None:
        """End the stream because of *exc*, or because the user closes it (`None`)."""
        complete = self._is_complete
        if not self._ended:
            self._open_source, self._ended, self._first = None, True, b""
            message = f"the sound was closed after {self.received} bytes, before its end"
            self._failure = exc if isinstance(exc, CfaiError) else StreamInterrupted(message)
            if self._body is not None:
                redact_error(self._failure, self._body.settings.secrets)
        if self._body is not None:
            self._body.close()
        if exc is None or complete:
            self._report_end(complete=complete)
            return
        self._count_cost()
        if self._observation is not None:
            self._observation.fail(exc, self._sound)

    def __del__(self) -> None:
        if hasattr(self, "_failure"):  # The constructor may have raised.
            self._report_end(complete=self._is_complete)

    # Cost and observation

    @property
    def _is_complete(self) -> bool:
        return self._ended and self._failure is None

    def _count_cost(self) -> None:
        """Add what the sound cost: once, and only if it began."""
        if self._spending is not None and self._sound is not None:
            spending, self._spending = self._spending, None
            spending.add(read_neurons(self._sound))

    def _report_end(self, *, complete: bool) -> None:
        self._count_cost()
        if self._observation is not None and not self._observation.is_over:
            self._observation.end("done" if complete else "closed", answer=self._sound)

    # Reading

    if not TYPE_CHECKING:  # Type checkers report an `await` by themselves.

        def __await__(self):
            message = "a sound can't be awaited: iterate it (`async for chunk in audio`), save it"
            raise TypeError(f"{message} (`await audio.save(path)`), or call `run`")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        self._check_single_reader()
        self._has_reader = True
        try:
            chunk = await self._next_chunk()
        except BaseException as exc:
            self._stop(exc)
            raise
        finally:
            self._has_reader = False
        if chunk:
            self.received += len(chunk)
            return chunk
        self._ended = True
        self._report_end(complete=True)
        raise StopAsyncIteration

    def _check_single_reader(self) -> None:
        if self._has_reader:
            raise InputError("another task is reading this sound: a sound has one reader")

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
        try:
            chunk = await _read_chunk(self._body, self.received)
        except StreamInterrupted:
            if self._failure is not None:  # Another task closed it meanwhile.
                raise self._failure from None
            raise
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
        self._check_single_reader()
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
        return f"<AudioStream {state}, {self.received} bytes>"


def _resolve_paths(path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """The file that *path* names, through links, and the file for its bytes until the end.

    Raises:
        InputError: It is a folder or a device.
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        raise InputError(f"path must be a regular file, got {str(path)!r:.200}")
    return target, target.with_name(f"{target.name}.part")
