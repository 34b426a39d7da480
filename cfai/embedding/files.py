"""Files that a job writes as the results come: Parquet, Arrow IPC, NumPy arrays, lines of JSON.

One file appears when it is complete. A folder of Parquet files grows by complete files. What cannot
be written is noticed before the first request.
"""

from __future__ import annotations

import errno
import math
import os
import re
import stat
import uuid
from array import array
from collections.abc import AsyncIterable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import BufferedWriter, FileIO
from itertools import count
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from cfai._types.excerpts import format_count, format_path
from cfai._validators import check_path
from cfai.embedding.export import (
    TableRows,
    build_array_header,
    build_lines,
    check_arrow,
    count_rows,
    release_memory,
)
from cfai.embedding.results import EmbeddedBatch, EmbedFailure
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
    """Where results are written as they come. All methods but `add` block."""

    def open(self) -> None:
        """Create what is written to, so that a job that cannot be written sends nothing.

        Raises:
            OSError: It cannot be written.
        """

    def add(self, item: EmbeddedBatch | EmbedFailure) -> bool:
        """Add an item, and return whether there is enough to write."""

    def flush(self) -> None:
        """Write what was added.

        Raises:
            OSError: It cannot be written.
        """

    def finish(self) -> None:
        """Write the rest, and put a file at its place when it is on the disk.

        Raises:
            OSError: It cannot be written. A file that was there before still is.
        """

    def keep(self) -> str:
        """After an error, write what can be, and return how many rows that are and where."""


def check_suffix(path: object, suffixes: Sequence[str] = SUFFIXES) -> Path:
    """Check that *path* is one that a file can have, and has one of *suffixes*.

    Raises:
        InputError: It is not, or has not.
    """
    checked = check_path("path", path)
    if checked.suffix.lower() not in suffixes:
        _check_is_no_suffix(checked, suffixes)
        raise InputError(f"{format_path(checked)} must end in {', '.join(suffixes)}")
    return checked


def _check_is_no_suffix(path: Path, suffixes: Sequence[str]) -> None:
    if path.name.lower() in suffixes:
        raise InputError(
            f"{format_path(path)} must have a name before the suffix, such as vectors{path.name}"
        )


def check_pieces(path: Path, *, has_pieces: bool) -> None:
    """Check that the format of a file has a place for pieces, if there are any.

    Raises:
        InputError: It has none.
    """
    if has_pieces and path.suffix.lower() in NPY:
        raise InputError(
            f"{format_path(path)} would not say which texts its rows belong to: pool them"
            " (mean), or choose another format"
        )


def make_file(
    path: str | PathLike[str],
    *,
    has_pieces: bool,
    has_ids: bool = True,
    has_failures: bool = True,
) -> ResultFile:
    """Make the writer of a file in the format of its suffix. `write_items` opens it.

    Args:
        path: The file.
        has_pieces: Whether the rows are pieces of texts.
        has_ids: Whether lines of JSON have the ids.
        has_failures: Whether there are lines for failures. Other formats always have them.

    Raises:
        InputError: No file can have that path, the suffix is unknown, or the format has no place
            for pieces.
        MissingExtra: pyarrow is needed and not installed.
    """
    checked = check_suffix(path)
    suffix = checked.suffix.lower()
    if suffix in JSONL:
        return JsonLinesFile(checked, has_ids=has_ids, has_failures=has_failures)
    if suffix in NPY:
        check_pieces(checked, has_pieces=has_pieces)
        return ArrayFile(checked)
    check_arrow(f"writing {suffix}")
    return TableFile(checked, has_pieces=has_pieces)


async def write_items(
    items: AsyncIterable[EmbeddedBatch | EmbedFailure],
    file: ResultFile,
    on_failure: Callable[[EmbedFailure], object] | None = None,
) -> None:
    """Write all items to a file, and call *on_failure* for those without a vector.

    The file is opened before the first item is asked for. A note of an error says which rows were
    written before it.
    """
    try:
        await run_in_thread(file.open)
        async for item in items:
            if on_failure is not None and isinstance(item, EmbedFailure):
                on_failure(item)
            if file.add(item):
                await run_in_thread(file.flush)
        await run_in_thread(file.finish)
    except BaseException as exc:
        if note := await run_in_thread(file.keep):
            exc.add_note(note)
        raise


def _describe_kept(count: int, added: int, path: Path) -> str:
    """How many of the rows of a failed job are at *path*; empty if there were none."""
    rows = format_count(added, "finished row")
    if count:
        return f"{count} of {rows} {'is' if count == 1 else 'are'} in {format_path(path)}"
    return f"none of {rows} could be kept" if added else ""


# Folders


class ParquetParts:
    """A folder of files `part-00000.parquet`, …, written as items come.

    Those of an earlier job are removed before the first is written.
    """

    def __init__(self, folder: Path, *, has_pieces: bool) -> None:
        self._folder = folder
        self._rows = TableRows(has_pieces=has_pieces)
        self._added = 0
        self._written: list[int] = []  # The rows of each file.

    def open(self) -> None:
        """See `ResultFile`. It makes the folder, and tries whether a file can be in it."""
        with _errors_named(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            trial = _temporary_path(self._part(0))
            trial.touch(exist_ok=False)
            trial.unlink()

    def add(self, item: EmbeddedBatch | EmbedFailure) -> bool:
        """See `ResultFile`.

        Raises:
            InputError: Its ids do not fit into one column with earlier ones.
        """
        self._added += count_rows(item)
        self._rows.add(item)
        return self._rows.fill_a_file

    def flush(self) -> None:
        """See `ResultFile`. If it fails, the rows are dropped."""
        if not self._rows:
            return
        import pyarrow.parquet as pq

        table = self._rows.take_table()
        if not self._written:
            self._remove_old_files()
        with _replacement(self._part(len(self._written))) as file:
            pq.write_table(table, file, **_PARQUET_OPTIONS)
        self._written.append(table.num_rows)
        del table
        release_memory()

    def finish(self) -> None:
        """See `ResultFile`."""
        self.flush()
        if not self._written:
            self._remove_old_files()

    def keep(self) -> str:
        """See `ResultFile`."""
        with suppress(BaseException):  # The note says how many rows are missing.
            self.flush()
        rows = sum(rows for i, rows in enumerate(self._written) if _may_exist(self._part(i)))
        return _describe_kept(rows, self._added, self._folder)

    def _part(self, number: int) -> Path:
        return self._folder / f"part-{number:05}.parquet"

    def _remove_old_files(self) -> None:
        for path in self._folder.iterdir():
            # Only our own names: Spark and Dask write parts, too.
            if re.fullmatch(r"part-\d{5,}\.parquet|\.part-\d{5,}\.parquet\..*\.rough", path.name):
                path.unlink()


# Files


class _SingleFile:
    """A file that is written under a temporary name, and put at its place when it is complete.

    If the job fails, the rows so far are at `PATH.partial`, or `PATH.2.partial`, … if there is one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = _temporary_path(path)
        self._opened: FileIO | None = None
        self._is_in_place = False
        self._added = 0
        self._written = 0
        """Rows in the file that can be read."""

    @property
    def _file(self) -> FileIO:
        assert self._opened is not None  # noqa: S101  # set by `open`
        return self._opened

    def open(self) -> None:
        """See `ResultFile`."""
        with _errors_named(self._path), suppress(FileNotFoundError):
            if stat.S_ISDIR(self._path.stat().st_mode):
                raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        with _errors_named(partial := self._partial(1)), suppress(FileNotFoundError):
            partial.stat()  # Its name can be too long.
        with _errors_named(self._path):
            self._opened = self._temporary.open("xb", buffering=0)

    def flush(self) -> None:
        """See `ResultFile`."""
        raise NotImplementedError

    def _complete(self) -> None:
        """Write what is known at the end only."""

    def finish(self) -> None:
        """See `ResultFile`."""
        self.flush()
        with _errors_named(self._path):
            self._close()
            self._temporary.replace(self._path)
            self._is_in_place = True
            _sync_folder(self._path.parent)
        with suppress(OSError):  # Those of earlier jobs, which do no harm.
            for number in count(1):
                self._partial(number).unlink()

    def _close(self) -> None:
        try:
            self._complete()
            os.fsync(self._file.fileno())
        finally:
            self._file.close()

    def keep(self) -> str:
        """See `ResultFile`."""
        if self._opened is None:
            return ""
        if not self._opened.closed:
            with suppress(BaseException):  # The note says how many rows are missing.
                self.flush()
            with suppress(Exception):
                self._close()
        path = self._path if self._is_in_place else self._set_aside()
        return _describe_kept(self._written if _may_exist(path) else 0, self._added, path)

    def _set_aside(self) -> Path:
        """Rename the file to one that nobody has, or leave it where it is; remove an empty one."""
        with suppress(OSError):
            if not self._written:
                self._temporary.unlink()
            for number in count(1) if self._temporary.exists() else ():
                path = self._partial(number)
                with suppress(FileExistsError):
                    path.touch(exist_ok=False)  # No other job takes it.
                    return self._temporary.replace(path)
        return self._temporary

    def _partial(self, number: int) -> Path:
        middle = "" if number == 1 else f".{number}"
        return self._path.with_name(f"{self._path.name}{middle}.partial")


class TableFile(_SingleFile):
    """A file of Parquet or Arrow IPC (`.arrow` and `.feather`; the stream format is `.arrows`)."""

    def __init__(self, path: Path, *, has_pieces: bool) -> None:
        super().__init__(path)
        self._rows = TableRows(has_pieces=has_pieces)
        self._stream: BufferedWriter | None = None
        self._writer: Any = None

    def add(self, item: EmbeddedBatch | EmbedFailure) -> bool:
        """See `ResultFile`.

        Raises:
            InputError: Its ids do not fit into one column with earlier ones.
        """
        self._added += count_rows(item)
        self._rows.add(item)
        return self._rows.fill_a_file

    def flush(self) -> None:
        """See `ResultFile`. If it fails, the file cannot be read."""
        if not self._rows and self._writer is not None:
            return
        table = self._rows.take_table()
        with self._writing():
            if self._writer is None:
                self._writer = self._open_writer(table.schema)
            self._writer.write_table(table)
        self._written += table.num_rows
        del table
        release_memory()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with _errors_named(self._path):
                yield
        except BaseException:
            self._written = 0
            for stream in (self._writer, self._stream):
                with suppress(OSError):  # It writes what is left.
                    if stream is not None:
                        stream.close()
            raise

    def _open_writer(self, schema: Any) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        # An open file, since Arrow refuses names that are not UTF-8.
        self._stream = BufferedWriter(self._file)
        match self._path.suffix.lower():
            case ".parquet":
                return pq.ParquetWriter(self._stream, schema, **_PARQUET_OPTIONS)
            case ".arrows":
                return pa.ipc.new_stream(self._stream, schema)
        return pa.ipc.new_file(self._stream, schema)

    def _complete(self) -> None:
        with self._writing():
            self._writer.close()
            if self._stream is not None:
                self._stream.flush()


# Bytes


class _RowsFile(_SingleFile):
    """A file of rows of bytes that are collected, and written by a thread."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._buffer = bytearray()

    def _count_whole(self, size: int) -> tuple[int, int]:
        """The rows in the first *size* bytes of the buffer, and where the last of them ends."""
        raise NotImplementedError

    def flush(self) -> None:
        """See `ResultFile`. If it fails, the rows that fit are in the file."""
        start, size = self._file.tell(), 0
        try:
            with _errors_named(self._path), memoryview(self._buffer) as data:
                while size < len(data):
                    size += self._file.write(data[size:])
        finally:
            rows, end = self._count_whole(size)
            if end < size:
                self._file.truncate(start + end)
                self._file.seek(start + end)
            self._written += rows
            del self._buffer[:end]


class JsonLinesFile(_RowsFile):
    """A line of JSON for each row; see `build_lines`."""

    def __init__(self, path: Path, *, has_ids: bool, has_failures: bool) -> None:
        super().__init__(path)
        self._has_ids = has_ids
        self._has_failures = has_failures
        self._items: list[EmbeddedBatch | EmbedFailure] = []

    def add(self, item: EmbeddedBatch | EmbedFailure) -> bool:
        """See `ResultFile`."""
        if isinstance(item, EmbeddedBatch) or self._has_failures:
            self._items.append(item)
            self._added += count_rows(item)
        return len(self._items) >= _ITEMS

    def flush(self) -> None:
        """See `_RowsFile`. The lines are built here, since that takes long.

        Raises:
            InputError: JSON cannot write an id. The lines before it are in the file.
        """
        items, self._items = self._items, []
        try:
            for item in items:
                for line in build_lines(item, has_ids=self._has_ids):
                    self._buffer += line
        finally:
            super().flush()

    def _count_whole(self, size: int) -> tuple[int, int]:
        end = self._buffer.rfind(b"\n", 0, size) + 1
        return self._buffer.count(b"\n", 0, end), end


class ArrayFile(_RowsFile):
    """An array of 32-bit floats with a row for each item, NaN if it failed. NumPy is not needed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._dimension = 0
        self._failed = 0
        """Failures before the dimension is known."""

    def open(self) -> None:
        """See `ResultFile`."""
        super().open()
        with _errors_named(self._path):
            self._file.write(build_array_header(0, 0))

    def add(self, item: EmbeddedBatch | EmbedFailure) -> bool:
        """See `ResultFile`."""
        self._added += count_rows(item)
        if isinstance(item, EmbedFailure):
            self._failed += 1
        else:
            self._dimension = item.vectors.shape[1]
        if self._dimension and self._failed:
            self._buffer += array("f", [math.nan]) * (self._dimension * self._failed)
            self._failed = 0
        if isinstance(item, EmbeddedBatch):
            self._buffer += item.vectors.buffer
        return len(self._buffer) >= _BUFFER

    def _count_whole(self, size: int) -> tuple[int, int]:
        width = 4 * self._dimension
        rows = size // width if width else 0
        return rows, rows * width

    def _complete(self) -> None:
        self._file.seek(0)
        self._file.write(build_array_header(self._written + self._failed, self._dimension))


# Places


@contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    """Name the file in an `OSError`: the writer does not, or names the temporary file."""
    try:
        yield
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror or str(exc), str(path)) from exc


def names_a_file(path: object) -> bool:
    """Whether results go into one Parquet file at *path*, and not into a folder of files.

    A folder ends in a slash, has no suffix, or exists.

    Raises:
        InputError: No file can have that path; it has another suffix; or there is a file where the
            folder is to be.
    """
    checked = check_path("path", path)
    text = os.fspath(path) if isinstance(path, str | PathLike) else ""
    is_folder = text.endswith(("/", os.sep)) or checked.is_dir()
    if not is_folder:
        _check_is_no_suffix(checked, PARQUET)
    if is_folder or not checked.suffix:
        if checked.is_file():
            raise InputError(
                f"{format_path(text)} must be a folder, and there is a file; one file is written to"
                " a name that ends in .parquet"
            )
        return False
    if checked.suffix.lower() not in PARQUET:
        shown = format_path(text)
        raise InputError(
            f"{shown} must end in .parquet, or in a slash for a folder of Parquet files: {shown}/"
        )
    return True


def _temporary_path(path: Path) -> Path:
    """Return a new name beside *path* for a file that is not complete yet.

    It has the beginning of the name only, so that it is not too long if the name is not.
    """
    return path.with_name(f".{path.name[:40]}.{os.getpid()}-{uuid.uuid4().hex[:8]}.rough")


@contextmanager
def _replacement(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write, which is put at *path* at the end, when it is on the disk.

    Raises:
        OSError: It cannot be written. A file that was at *path* is still there.
    """
    temporary = _temporary_path(path)
    try:
        with _errors_named(path):
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _may_exist(path: Path) -> bool:
    """Whether there is such a file, or nobody can tell, as in a folder without rights."""
    try:
        return path.exists()
    except OSError:
        return True


def _sync_folder(folder: Path) -> None:
    """Put the names of its files on the disk."""
    if os.name == "nt":
        return  # Folders cannot be opened there, and need no sync.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
