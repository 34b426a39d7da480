"""Batches and failures -> tables of Arrow's, and files of them."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from cfai.embedding import files
from cfai.embedding.values import EmbeddedBatch, EmbedFailure
from cfai.errors import InputError, MissingExtra

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS: Final = 10_000
"""How many rows are written at once: 40 MB at 1024 dimensions."""

_PAGE: Final = 1 << 30
"""The largest page, in bytes: a column of a file is one."""


def arrow_there(needed_for: str) -> None:
    """Make sure that pyarrow is installed.

    Raises:
        MissingExtra: It isn't.
    """
    try:
        import pyarrow.parquet  # noqa: F401  # only whether it is there
    except ImportError as exc:
        raise MissingExtra("arrow", needed_for=needed_for) from exc


def vectors_column(buffer: array[float], dimension: int, there: Sequence[bool]) -> Any:
    """A column of vectors, from those of the rows that are *there*; the others are null."""
    import pyarrow as pa

    if not dimension:
        return pa.nulls(len(there), pa.list_(pa.float32()))
    if all(there):
        whole = buffer
    else:
        whole, read = array("f"), 0
        gap = array("f", bytes(4 * dimension))
        for one in there:
            whole.extend(buffer[read : read + dimension] if one else gap)
            read += dimension if one else 0
    numbers = pa.Array.from_buffers(pa.float32(), len(whole), [None, pa.py_buffer(whole)])
    mask = None if all(there) else pa.array([not one for one in there])
    return pa.FixedSizeListArray.from_arrays(numbers, dimension, mask=mask)


class Rows:
    """Rows of tables: `place`, `id`, `vector`, and `error` where it failed.

    All tables have columns of the same types: the ids have that of the first which isn't `None`.
    """

    def __init__(self) -> None:
        self._items: list[EmbeddedBatch | EmbedFailure] = []
        self._id_type: pa.DataType | None = None
        self._dimension = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, item: EmbeddedBatch | EmbedFailure) -> None:
        """Take what comes.

        Raises:
            InputError: Its ids are of another type than those before, or of one that Arrow hasn't.
        """
        if isinstance(item, EmbeddedBatch):
            self._dimension = item.vectors.shape[1]
        ids = item.ids if isinstance(item, EmbeddedBatch) else [item.id]
        self._ids(ids)
        self._items.append(item)
        self._count += len(ids)

    @property
    def enough(self) -> bool:
        """Whether there are enough to be written, and it is known how long the vectors are."""
        return self._count >= _ROWS and self._dimension > 0

    def take(self) -> pa.Table:
        """All that was added since, as a table in the order of the source."""
        items, self._items, self._count = self._items, [], 0
        return self._table(sorted(items, key=lambda item: item.start))

    def _table(self, items: Iterable[EmbeddedBatch | EmbedFailure]) -> pa.Table:
        import pyarrow as pa

        places: list[int] = []
        ids: list[Any] = []
        errors: list[str | None] = []
        buffer: array[float] = array("f")
        for item in items:
            if isinstance(item, EmbeddedBatch):
                places += range(item.start, item.start + len(item))
                ids += item.ids
                errors += [None] * len(item)
                buffer += item.vectors.buffer
            else:
                places.append(item.start)
                ids.append(item.id)
                errors.append(str(item.error).encode("utf-8", "replace").decode())
        if self._id_type is None:
            self._id_type = pa.string() if ids else pa.int64()
        there = [error is None for error in errors]
        return pa.table(
            {
                "place": pa.array(places, pa.int64()),
                "id": self._ids(ids),
                "vector": vectors_column(buffer, self._dimension, there),
                "error": pa.array(errors, pa.string()),
            }
        )

    def _ids(self, ids: Sequence[Any]) -> pa.Array:
        import pyarrow as pa

        try:
            column = pa.array(ids, self._id_type)
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as exc:
            known = f", as those before ({self._id_type})" if self._id_type is not None else ""
            raise InputError(f"the ids must be of one type that Arrow has{known}: {exc}") from exc
        if self._id_type is None and not pa.types.is_null(column.type):
            self._id_type = column.type
        return column


def write(whole: pa.Table, path: Path, *, statistics: bool = True) -> None:
    """Write a file that is there with all it holds, or not at all, even if the power fails."""
    import pyarrow.parquet as pq

    def fill(file: BinaryIO) -> None:
        # Numbers that look like noise don't get smaller, and aren't read faster.
        pq.write_table(
            whole,
            file,
            compression="none",
            use_dictionary=False,
            write_page_checksum=True,
            data_page_size=_PAGE,
            write_statistics=statistics,
        )

    files.replace(path, fill)


class Parts:
    """A folder of files `part-00000.parquet`, …, filled as batches come.

    Those of an earlier job are removed before the first is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows = Rows()
        self._files = 0
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, item: EmbeddedBatch | EmbedFailure) -> bool:
        """Take an item; whether there is enough for a file.

        Raises:
            InputError: Its ids can't stand in one column with those before.
        """
        self._rows.add(item)
        return self._rows.enough

    def flush(self) -> None:
        """Write what was taken as the next file.

        Raises:
            OSError: It can't be written. Then it is forgotten.
        """
        if not self._rows:
            return
        rows = self._rows.take()
        if not self._files:
            self._clear()
        write(rows, self._folder / f"part-{self._files:05}.parquet")
        self._files += 1

    def finish(self) -> None:
        """Write the last file."""
        self.flush()
        if not self._files:
            self._clear()

    def _clear(self) -> None:
        for path in self._folder.iterdir():
            # No other name is ours: Spark and Dask write parts, too.
            if re.fullmatch(r"part-\d{5,}\.parquet|\.part-\d{5,}\.parquet\..*\.rough", path.name):
                path.unlink()
