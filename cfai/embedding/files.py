"""Files that a job writes as the results come: Parquet, Arrow IPC, NumPy arrays, lines of JSON.

One file appears when it is complete. A folder of Parquet files grows by complete files.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
import uuid
from array import array
from collections.abc import AsyncIterable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from cfai.embedding.export import TableRows, check_arrow
from cfai.embedding.results import EmbeddedBatch, EmbedFailure
from cfai.embedding.splitting import Piece
from cfai.embedding.threads import run_in_thread
from cfai.errors import InputError

_PARQUET_OPTIONS: Final[Mapping[str, Any]] = {
    "compression": "none",  # Embeddings do not compress.
    "use_dictionary": False,
    "write_page_checksum": True,
}

_BUFFER: Final = 1 << 20
"""Bytes that are collected before a thread writes them."""

_ITEMS: Final = 10
"""Batches whose lines of JSON are built and written together."""

PARQUET: Final = (".parquet",)
ARROW: Final = (".arrow", ".feather", ".arrows")
JSONL: Final = (".jsonl", ".ndjson")
NPY: Final = (".npy",)
SUFFIXES: Final = (*JSONL, *PARQUET, *ARROW, *NPY)
"""Those of the files that can be written."""


class ResultFile(Protocol):
    """A file that is written as items come, and is at its place when it is complete."""

    def add(self, item: EmbeddedBatch | EmbedFailure) -> bool:
        """Add an item, and return whether there is enough to write."""

    def flush(self) -> None:
        """Write what was added. It blocks."""

    def finish(self) -> None:
        """Write the rest, and put the file at its place. It blocks."""

    def discard(self) -> None:
        """Remove what was written, unless it is at its place. It blocks."""


def check_suffix(path: str | PathLike[str], suffixes: Sequence[str] = SUFFIXES) -> str:
    """Return the suffix of *path*, in lower case.

    Raises:
        InputError: It is not one of *suffixes*.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in suffixes:
        raise InputError(f"{os.fspath(path)} must end in {', '.join(suffixes)}")
    return suffix


def open_file(
    path: str | PathLike[str],
    *,
    has_pieces: bool,
    has_ids: bool = True,
    has_failures: bool = True,
) -> ResultFile:
    """Open a file in the format of its suffix. Nothing is written yet.

    Args:
        path: The file.
        has_pieces: Whether the rows are pieces of texts.
        has_ids: Whether lines of JSON have the ids.
        has_failures: Whether there are lines for failures. Other formats always have them.

    Raises:
        InputError: The suffix is unknown, or the format has no place for pieces.
        MissingExtra: pyarrow is needed and not installed.
    """
    suffix = check_suffix(path)
    if suffix in JSONL:
        return JsonLinesFile(Path(path), has_ids=has_ids, has_failures=has_failures)
    if suffix in NPY:
        if has_pieces:
            raise InputError(
                f"{os.fspath(path)} would not say which texts its rows belong to: pool them"
                " (mean), or choose another format"
            )
        return ArrayFile(Path(path))
    check_arrow(f"writing {suffix}")
    return TableFile(Path(path), has_pieces=has_pieces)


async def write_items(
    items: AsyncIterable[EmbeddedBatch | EmbedFailure],
    file: ResultFile,
    on_failure: Callable[[EmbedFailure], object] | None = None,
) -> None:
    """Write all items to a file, and call *on_failure* for those without a vector."""
    try:
        async for item in items:
            if on_failure is not None and isinstance(item, EmbedFailure):
                on_failure(item)
            if file.add(item):
                await run_in_thread(file.flush)
        await run_in_thread(file.finish)
    finally:
        await run_in_thread(file.discard)


# Tables


class ParquetParts:
    """A folder of files `part-00000.parquet`, …, written as items come.

    Those of an earlier job are removed before the first is written.
    """

    def __init__(self, folder: Path, *, has_pieces: bool) -> None:
        self._folder = folder
        self._rows = TableRows(has_pieces=has_pieces)
        self._files = 0
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, item: EmbeddedBatch | EmbedFailure) -> bool:
        """Add an item, and return whether there are enough rows for a file.

        Raises:
            InputError: Its ids do not fit into one column with earlier ones.
        """
        self._rows.add(item)
        return self._rows.fill_a_file

    def flush(self) -> None:
        """Write the rows as the next file.

        Raises:
            OSError: The file cannot be written. The rows are dropped.
        """
        if not self._rows:
            return
        import pyarrow.parquet as pq

        table = self._rows.take_table()
        if not self._files:
            self._remove_old_files()
        with _replacement(self._folder / f"part-{self._files:05}.parquet") as file:
            pq.write_table(table, file, **_PARQUET_OPTIONS)
        self._files += 1
        del table
        _release_memory()

    def finish(self) -> None:
        """Write the last file."""
        self.flush()
        if not self._files:
            self._remove_old_files()

    def _remove_old_files(self) -> None:
        for path in self._folder.iterdir():
            # Only our own names: Spark and Dask write parts, too.
            if re.fullmatch(r"part-\d{5,}\.parquet|\.part-\d{5,}\.parquet\..*\.rough", path.name):
                path.unlink()


class TableFile:
    """A file of Parquet or Arrow IPC (`.arrow` and `.feather`; the stream format is `.arrows`)."""

    def __init__(self, path: Path, *, has_pieces: bool) -> None:
        self._path = path
        self._temporary = _temporary_path(path)
        self._rows = TableRows(has_pieces=has_pieces)
        self._writer: Any = None

    def add(self, item: EmbeddedBatch | EmbedFailure) -> bool:
        """Add an item, and return whether there are enough rows to write.

        Raises:
            InputError: Its ids do not fit into one column with earlier ones.
        """
        self._rows.add(item)
        return self._rows.fill_a_file

    def flush(self) -> None:
        """Write the rows.

        Raises:
            OSError: The file cannot be written.
        """
        if not self._rows and self._writer is not None:
            return
        table = self._rows.take_table()
        with _errors_named(self._path):
            if self._writer is None:
                self._writer = self._open_writer(table.schema)
            self._writer.write_table(table)
        del table
        _release_memory()

    def _open_writer(self, schema: Any) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        match self._path.suffix.lower():
            case ".parquet":
                return pq.ParquetWriter(self._temporary, schema, **_PARQUET_OPTIONS)
            case ".arrows":
                return pa.ipc.new_stream(str(self._temporary), schema)
        return pa.ipc.new_file(str(self._temporary), schema)

    def finish(self) -> None:
        """Write the last rows, and put the file at its place, when it is on the disk.

        Raises:
            OSError: The file cannot be written. One that was there before still is.
        """
        self.flush()
        with _errors_named(self._path):
            self._writer.close()
            with self._temporary.open("rb+") as file:
                os.fsync(file.fileno())
            _put_in_place(self._temporary, self._path)

    def discard(self) -> None:
        """Remove what was written, unless it is at its place."""
        if self._writer is not None:
            with suppress(OSError):  # It was closed, or it could not be written in the first place.
                self._writer.close()
        self._temporary.unlink(missing_ok=True)


def _release_memory() -> None:
    """Return the memory of freed tables to the system: otherwise each thread keeps some."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    pa.system_memory_pool().release_unused()  # `malloc_trim` of the C library


# Bytes


class _ByteFile:
    """A file of bytes that are collected, and written by a thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = _temporary_path(path)
        self._buffer = bytearray()
        self._file: BinaryIO | None = None

    @property
    def _is_full(self) -> bool:
        return len(self._buffer) >= _BUFFER

    def flush(self) -> None:
        """Write what was added.

        Raises:
            OSError: The file cannot be written.
        """
        with _errors_named(self._path):
            if self._file is None:
                self._file = self._temporary.open("wb")
            self._file.write(self._buffer)
        self._buffer.clear()

    def finish(self) -> None:
        """Write the rest, and put the file at its place, when it is on the disk.

        Raises:
            OSError: The file cannot be written. One that was there before still is.
        """
        self.flush()
        if self._file is None:
            return
        with _errors_named(self._path):
            self._complete(self._file)
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            _put_in_place(self._temporary, self._path)

    def _complete(self, file: BinaryIO) -> None:
        """Write what is known at the end only."""

    def discard(self) -> None:
        """Remove what was written, unless it is at its place."""
        if self._file is not None:
            with suppress(OSError):  # Closing writes what is left, which is not wanted.
                self._file.close()
        self._temporary.unlink(missing_ok=True)


class JsonLinesFile(_ByteFile):
    """A line of JSON for each row; see `build_lines`.

    If the job fails, the lines so far are at `PATH.partial`, since each of them is whole.
    """

    def __init__(self, path: Path, *, has_ids: bool, has_failures: bool) -> None:
        super().__init__(path)
        self._has_ids = has_ids
        self._has_failures = has_failures
        self._partial = path.with_name(f"{path.name}.partial")
        self._items: list[EmbeddedBatch | EmbedFailure] = []

    def add(self, item: EmbeddedBatch | EmbedFailure) -> bool:
        """Add an item, and return whether there is enough to write."""
        if isinstance(item, EmbeddedBatch) or self._has_failures:
            self._items.append(item)
        return len(self._items) >= _ITEMS

    def flush(self) -> None:
        """See `_ByteFile`. The lines are built here, since that takes long."""
        for item in self._items:
            for line in build_lines(item, has_ids=self._has_ids):
                self._buffer += line
        self._items = []
        super().flush()

    def finish(self) -> None:
        """See `_ByteFile`."""
        super().finish()
        self._partial.unlink(missing_ok=True)

    def discard(self) -> None:
        """Keep the lines under another name, unless the file is at its place."""
        with suppress(OSError):  # If the disk is full, what is on it stays.
            if self._items:
                self.flush()
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            with suppress(FileNotFoundError):  # It is at its place.
                self._temporary.replace(self._partial)
        super().discard()


def build_lines(item: EmbeddedBatch | EmbedFailure, *, has_ids: bool) -> Iterator[bytes]:
    """Yield the lines of an item, in UTF-8 and with the newline.

    They have `id`, then `piece`, `start` and `end` if the row is one, `text` and `vector`; a
    failure has `error` instead of the vector.
    """
    if isinstance(item, EmbedFailure):
        fields = _describe_row(item.id, item.piece, has_ids=has_ids)
        yield _encode_line({**fields, "text": item.text, "error": item.reason})
        return
    for index, vector in enumerate(item.vectors):
        piece = item.pieces[index] if item.pieces else None
        fields = _describe_row(item.ids[index], piece, has_ids=has_ids)
        # Nine digits identify a 32-bit float; Python would write seventeen.
        numbers = [float(f"{number:.9g}") for number in vector]
        yield _encode_line({**fields, "text": item.texts[index], "vector": numbers})


def build_failure_line(failure: EmbedFailure, source: Mapping[str, Any], *, has_ids: bool) -> bytes:
    """Build the line of a list of failures: `id`, `row` (from 1), those of *source*, `reason`."""
    fields = _describe_row(failure.id, failure.piece, has_ids=has_ids)
    row = {**fields, "row": failure.start + 1, **source}
    return _encode_line({**row, "reason": failure.reason})


def _describe_row(key: Any, piece: Piece | None, *, has_ids: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {"id": key} if has_ids else {}
    if piece is not None:
        fields |= {"piece": piece.number, "start": piece.start, "end": piece.end}
    return fields


def _encode_line(fields: Mapping[str, Any]) -> bytes:
    # Ids are of any type: dates and UUIDs are written as text, and NaN is null: JSON has no NaN.
    key = fields.get("id")
    if isinstance(key, float) and not math.isfinite(key):
        fields = {**fields, "id": None}
    line = json.dumps(fields, ensure_ascii=False, separators=(",", ":"), default=str)
    return f"{line}\n".encode("utf-8", "replace")


_HEADER_BYTES: Final = 128
"""Of an array: enough for any shape. Its data must begin at a multiple of 64."""


class ArrayFile(_ByteFile):
    """An array of 32-bit floats with a row for each item, NaN if it failed. NumPy is not needed.

    Source: NumPy Enhancement Proposal 1, "A Simple File Format for NumPy Arrays".
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._buffer += bytes(_HEADER_BYTES)
        self._rows = 0
        self._dimension = 0
        self._failed = 0
        """Failures before the dimension is known."""

    def add(self, item: EmbeddedBatch | EmbedFailure) -> bool:
        """Add an item, and return whether there is enough to write."""
        if isinstance(item, EmbedFailure):
            self._failed += 1
        else:
            self._dimension = item.vectors.shape[1]
        if self._dimension and self._failed:
            self._buffer += array("f", [math.nan]) * (self._dimension * self._failed)
            self._rows += self._failed
            self._failed = 0
        if isinstance(item, EmbeddedBatch):
            self._buffer += item.vectors.buffer
            self._rows += len(item)
        return self._is_full

    def _complete(self, file: BinaryIO) -> None:
        order = "<" if sys.byteorder == "little" else ">"
        shape = (self._rows + self._failed, self._dimension)
        header = {"descr": f"{order}f4", "fortran_order": False, "shape": shape}
        magic = b"\x93NUMPY\x01\x00" + (_HEADER_BYTES - 10).to_bytes(2, "little")
        file.seek(0)
        file.write(magic + f"{header}".encode().ljust(_HEADER_BYTES - 11) + b"\n")


# Places


@contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    """Name the file in an `OSError`: the writer does not, or names the temporary file."""
    try:
        yield
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror or str(exc), str(path)) from exc


def names_a_file(path: str | PathLike[str]) -> bool:
    """Whether results go into one Parquet file at *path*, and not into a folder of files.

    A folder ends in a slash, has no suffix, or exists.

    Raises:
        InputError: It has another suffix, or there is a file where the folder is to be.
    """
    text = os.fspath(path)
    is_folder = text.endswith(("/", os.sep)) or Path(text).is_dir()
    if is_folder or not Path(text).suffix:
        if Path(text).is_file():
            raise InputError(
                f"{text} must be a folder, and there is a file; one file is written to a name that"
                " ends in .parquet"
            )
        return False
    if not text.lower().endswith(".parquet"):
        raise InputError(
            f"{text} must end in .parquet, or in a slash for a folder of Parquet files: {text}/"
        )
    return True


def _temporary_path(path: Path) -> Path:
    """Return a new name beside *path* for a file that is not complete yet."""
    return path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.rough")


@contextmanager
def _replacement(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write, which is put at *path* at the end, when it is on the disk.

    Raises:
        OSError: It cannot be written. A file that was at *path* is still there.
    """
    temporary = _temporary_path(path)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _put_in_place(temporary, path)
    except BaseException as exc:
        temporary.unlink(missing_ok=True)
        if isinstance(exc, OSError) and exc.filename is None:
            # Name the file: the writer does not.
            raise OSError(exc.errno, exc.strerror or str(exc), str(path)) from exc
        raise


def _put_in_place(temporary: Path, path: Path) -> None:
    """Rename a complete file that is on the disk, so that its name is, too."""
    temporary.replace(path)
    folder = path.parent
    if os.name == "nt":
        return  # Folders cannot be opened there, and need no sync.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
