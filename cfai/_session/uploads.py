"""A form on its way out: read in a thread, counted, and closed whatever becomes of it."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import BinaryIO, Final, Self

from cfai._wire.multipart import File, Form
from cfai.errors import ConnectionLost, RequestTimeout, UploadInterrupted

_PIECE: Final = 2**18
"""Bytes that are read and written at once: a quarter of what aiohttp warns of."""


class Upload:
    """One attempt to send a form, piece by piece: what aiohttp is given as the body.

    An error of the disk or of the user's `progress` would reach us as a lost connection, so it is
    kept, and raised instead.
    """

    def __init__(self, form: Form) -> None:
        self.sent = 0
        """Bytes that the transport took. Some of the last may not have arrived."""
        self.on_piece_sent: Callable[[], None] = _nothing
        """Called for each piece that went out."""
        self._form = form
        self._parts = iter(form.parts)
        self._file: BinaryIO | None = None
        self._to_close = False
        self._left = 0
        self._under_way = 0
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.on_piece_sent = _nothing
        self._close()
        if exc is None or isinstance(exc, asyncio.CancelledError):
            return
        if self._failure is not None:
            raise self._failure
        size = len(self._form)
        told = f"{self.sent} of {size} bytes had gone out"
        if isinstance(exc, RequestTimeout):
            exc.add_note(told)
        elif isinstance(exc, ConnectionLost):
            raise UploadInterrupted(f"{exc}: {told}", sent=self.sent, size=size) from exc

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            self._went_out()
            piece = await self._next()
        except Exception as exc:
            self._failure = exc
            raise
        if not piece:
            raise StopAsyncIteration
        self._under_way = len(piece)
        return piece

    def _went_out(self) -> None:
        """The piece before was written, or the next one would not be asked for."""
        self.sent += self._under_way
        if self._under_way:
            self.on_piece_sent()
            if self._form.progress is not None:
                self._form.progress(self.sent, len(self._form))
        self._under_way = 0

    async def _next(self) -> bytes:
        while self._file is None:
            part = next(self._parts, None)
            if part is None:
                return b""
            if not isinstance(part, File):
                return part
            self._file, self._to_close = await _opened(part)
            self._left = part.size
        return await self._read(self._file)

    async def _read(self, file: BinaryIO) -> bytes:
        piece = await asyncio.to_thread(file.read, min(_PIECE, self._left))
        self._left -= len(piece)
        if not piece:
            size = len(self._form)
            told = f"the file became shorter while it was sent: {self.sent} of {size} had gone out"
            raise UploadInterrupted(told, sent=self.sent, size=size)
        if not self._left:
            self._close()
        return piece

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None and self._to_close:
            file.close()


async def _opened(file: File) -> tuple[BinaryIO, bool]:
    """Open a file in a thread; one that is opened when nobody waits any more is closed again."""
    opening = asyncio.get_running_loop().run_in_executor(None, file.open)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_put_away)
        raise


def _put_away(opening: "asyncio.Future[tuple[BinaryIO, bool]]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        file, to_close = opening.result()
        if to_close:
            file.close()


def _nothing() -> None:
    pass
