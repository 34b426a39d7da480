"""`Upload`: one attempt to send a multipart form, whose files are read in threads."""

import asyncio
from collections.abc import Callable
from typing import BinaryIO, Final, Self

from cfai._wire.multipart import File, Form
from cfai.errors import ConnectionLost, RequestTimeout, UploadInterrupted

_PIECE_SIZE: Final = 2**18
"""Bytes read and written at once: a quarter of the size for which aiohttp warns."""


class Upload:
    """One attempt to send a form, piece by piece; aiohttp iterates over it as the request body.

    aiohttp would report an error of the disk or of the user's `progress` function as a lost
    connection. Such an error is stored, and raised at the end of the `with` block instead.
    """

    def __init__(self, form: Form) -> None:
        self.sent = 0
        """Bytes given to the transport. The last of them may not have arrived."""
        self.on_piece_sent: Callable[[], None] | None = None
        """Called after each piece."""
        self._form = form
        self._parts = iter(form.parts)
        self._file: BinaryIO | None = None
        self._close_file = False
        self._unread = 0
        """Bytes of the file that are still to be read."""
        self._pending = 0
        """Bytes of the piece that is being written."""
        self._error: BaseException | None = None

    def restart(self) -> None:
        """Send the form from its beginning, on another connection."""
        self._close()
        self._parts = iter(self._form.parts)
        self.sent = self._pending = 0
        self._error = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        self.on_piece_sent = None
        self._close()
        if exc is None or isinstance(exc, asyncio.CancelledError):
            return
        if self._error is not None:
            raise self._error
        size = len(self._form)
        progress = f"{self.sent} of {size} bytes were sent"
        if isinstance(exc, RequestTimeout):
            exc.add_note(progress)
        elif isinstance(exc, ConnectionLost):
            raise UploadInterrupted(f"{exc}: {progress}", sent=self.sent, size=size) from exc

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            if self._pending:  # aiohttp wrote the previous piece, or it would not ask for another.
                self.sent += self._pending
                self._pending = 0
                if self.on_piece_sent is not None:
                    self.on_piece_sent()
                if self._form.progress is not None:
                    self._form.progress(self.sent, len(self._form))
            piece = await self._next_piece()
        except Exception as exc:
            self._error = exc
            raise
        if not piece:
            raise StopAsyncIteration
        self._pending = len(piece)
        return piece

    async def _next_piece(self) -> bytes:
        while self._file is None:
            part = next(self._parts, None)
            if part is None:
                return b""
            if not isinstance(part, File):
                return part
            self._file, self._close_file = await _open_in_thread(part)
            self._unread = part.size
        piece = await asyncio.to_thread(self._file.read, min(_PIECE_SIZE, self._unread))
        self._unread -= len(piece)
        if not piece:
            size = len(self._form)
            raise UploadInterrupted(
                f"the file became shorter during the upload: {self.sent} of {size} bytes were sent",
                sent=self.sent,
                size=size,
            )
        if not self._unread:
            self._close()
        return piece

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None and self._close_file:
            file.close()


async def _open_in_thread(file: File) -> tuple[BinaryIO, bool]:
    """Open a file in a thread. If the caller is cancelled meanwhile, the file is closed again."""
    future = asyncio.get_running_loop().run_in_executor(None, file.open)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        future.add_done_callback(_close_unused)
        raise


def _close_unused(future: "asyncio.Future[tuple[BinaryIO, bool]]") -> None:
    if not future.cancelled() and future.exception() is None:
        file, close_file = future.result()
        if close_file:
            file.close()
