"""Batches and failures -> tables of Arrow's, and files of them that are whole or not there."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cfai.embedding.values import EmbeddedBatch, EmbedFailure
from cfai.errors import InputError, MissingExtra

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS: Final = 10_000
"""How many rows go into one file: 40 MB at 1024 dimensions."""


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


def table(items: Iterable[EmbeddedBatch | EmbedFailure]) -> pa.Table:
    """A row for each text, as *items* come: `place`, `id`, `vector`, and `error` where it failed.

    Raises:
        InputError: The ids are of several types, or of one that Arrow hasn't.
    """
    import pyarrow as pa

    places: list[int] = []
    ids: list[Any] = []
    errors: list[str | None] = []
    buffer: array[float] = array("f")
    dimension = 0
    for item in items:
        if isinstance(item, EmbeddedBatch):
            places += range(item.start, item.start + len(item))
            ids += item.ids
            errors += [None] * len(item)
            buffer += item.vectors.buffer
            dimension = item.vectors.shape[1]
        else:
            places.append(item.start)
            ids.append(item.id)
            errors.append(str(item.error))
    try:
        names = pa.array(ids) if ids else pa.array([], pa.int64())
    except pa.ArrowException as exc:
        raise InputError(f"the ids must be of one type that Arrow has: {exc}") from exc
    return pa.table(
        {
            "place": pa.array(places, pa.int64()),
            "id": names,
            "vector": vectors_column(buffer, dimension, [error is None for error in errors]),
            "error": pa.array(errors, pa.string()),
        }
    )


def write(whole: pa.Table, path: Path) -> None:
    """Write a file that is there with all it holds, or not at all, even if the power fails."""
    import pyarrow.parquet as pq

    # Numbers that look like noise don't get smaller, and aren't read faster.
    replace(
        path, lambda file: pq.write_table(whole, file, compression="none", use_dictionary=False)
    )


def replace(path: Path, fill: Any) -> None:
    """Have *fill* write a file, and put it in its place only when it is on the disk."""
    rough = path.with_name(f".{path.name}.{os.getpid()}.rough")
    with rough.open("wb") as file:
        fill(file)
        file.flush()
        os.fsync(file.fileno())
    rough.replace(path)
    if os.name == "nt":
        return  # A folder can't be opened there, and needn't be.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Parts:
    """A folder of files `part-00000.parquet`, …, filled as batches come."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._items: list[EmbeddedBatch | EmbedFailure] = []
        self._rows = 0
        self._files = 0
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, item: EmbeddedBatch | EmbedFailure) -> bool:
        """Take an item; whether there is enough for a file."""
        self._items.append(item)
        self._rows += len(item) if isinstance(item, EmbeddedBatch) else 1
        return self._rows >= _ROWS

    def flush(self) -> None:
        """Write what was taken as the next file."""
        if self._items:
            write(table(self._items), self._folder / f"part-{self._files:05}.parquet")
            self._items, self._rows, self._files = [], 0, self._files + 1

    def finish(self) -> None:
        """Write the last file, and remove those of an earlier job behind it."""
        self.flush()
        for path in self._folder.glob("part-[0-9]*.parquet"):
            if path.stem >= f"part-{self._files:05}":
                path.unlink()
