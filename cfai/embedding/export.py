"""Results of a job as a NumPy array, an Arrow table or lines of JSON. `files` writes them."""

from __future__ import annotations

import json
import math
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence, ValuesView
from typing import TYPE_CHECKING, Any, Final

from cfai.embedding.results import EmbeddedBatch, EmbedFailure, item_key
from cfai.embedding.splitting import Piece
from cfai.errors import InputError, MissingExtra

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy import float32
    from numpy.typing import NDArray

_ROWS_PER_FILE: Final = 10_000
"""Rows of one Parquet file: 40 MB at 1024 dimensions."""

_HEADER_BYTES: Final = 128
"""Of an array: enough for any shape. Its data must begin at a multiple of 64."""


def check_numpy(needed_for: str) -> None:
    """Check that NumPy is installed.

    Raises:
        MissingExtra: It is not.
    """
    try:
        import numpy  # noqa: F401, ICN001  # checks that it is installed
    except ImportError as exc:
        raise MissingExtra("numpy", needed_for=needed_for) from exc


def check_arrow(needed_for: str) -> None:
    """Check that pyarrow is installed.

    Raises:
        MissingExtra: It is not.
    """
    try:
        import pyarrow.parquet  # noqa: F401  # checks that it is installed
    except ImportError as exc:
        raise MissingExtra("arrow", needed_for=needed_for) from exc


def count_rows(item: EmbeddedBatch | EmbedFailure) -> int:
    """Count the texts or pieces of an item."""
    return len(item) if isinstance(item, EmbeddedBatch) else 1


def build_array(batches: list[EmbeddedBatch], failures: Iterable[EmbedFailure]) -> NDArray[float32]:
    """Build an array with a row for each text or piece, in their order; those that failed are NaN.

    It empties *batches* on the way, so that no vector is in memory twice.
    """
    import numpy as np

    width = batches[0].vectors.shape[1] if batches else 0
    items: list[EmbeddedBatch | EmbedFailure] = sorted([*batches, *failures], key=item_key)
    batches.clear()
    count = sum(map(count_rows, items))
    rows = np.full((count, width), np.nan, dtype=np.float32)
    last = count
    while items:
        item = items.pop()
        first = last - count_rows(item)
        if isinstance(item, EmbeddedBatch):
            rows[first:last] = item.vectors.numpy()
        last = first
    return rows


def build_array_header(count: int, dimension: int) -> bytes:
    """Build the head of a file with an array of 32-bit floats: as long for any shape.

    Source: NumPy Enhancement Proposal 1, "A Simple File Format for NumPy Arrays".
    """
    order = "<" if sys.byteorder == "little" else ">"
    header = {"descr": f"{order}f4", "fortran_order": False, "shape": (count, dimension)}
    magic = b"\x93NUMPY\x01\x00" + (_HEADER_BYTES - 10).to_bytes(2, "little")
    return magic + f"{header}".encode().ljust(_HEADER_BYTES - 11) + b"\n"


def release_memory() -> None:
    """Return the memory of freed tables to the system: otherwise each thread keeps some."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    pa.system_memory_pool().release_unused()  # `malloc_trim` of the C library


def build_vector_column(buffer: array[float], dimension: int, present: Sequence[bool]) -> Any:
    """Build an Arrow column from the vectors of the rows that are *present*; the others are null.

    Args:
        buffer: The numbers, one vector after the other.
        dimension: The length of a vector; 0 if there is none.
        present: For each row, whether it has a vector.
    """
    import pyarrow as pa

    if not dimension:
        return pa.nulls(len(present), pa.list_(pa.float32()))
    if all(present):
        padded = buffer
    else:
        padded, position = array("f"), 0
        padding = array("f", bytes(4 * dimension))
        for is_present in present:
            padded.extend(buffer[position : position + dimension] if is_present else padding)
            position += dimension if is_present else 0
    numbers = pa.Array.from_buffers(pa.float32(), len(padded), [None, pa.py_buffer(padded)])
    mask = None if all(present) else pa.array([not is_present for is_present in present])
    return pa.FixedSizeListArray.from_arrays(numbers, dimension, mask=mask)


class TableRows:
    """Collects items and turns them into tables: `place`, `id`, `vector`, and `error` on failure.

    If the rows are pieces of texts, also `piece`, `start` and `end`. All tables have the same
    column types: the ids have the type of the first that is not `None`.
    """

    def __init__(self, *, has_pieces: bool) -> None:
        self._has_pieces = has_pieces
        self._items: list[EmbeddedBatch | EmbedFailure] = []
        self._id_type: pa.DataType | None = None
        self._dimension = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, item: EmbeddedBatch | EmbedFailure) -> None:
        """Add an item.

        Raises:
            InputError: Its ids have another type than earlier ones, or one that Arrow does not
                have.
        """
        if isinstance(item, EmbeddedBatch):
            self._dimension = item.vectors.shape[1]
        ids = item.ids if isinstance(item, EmbeddedBatch) else [item.id]
        self._id_column(ids)
        self._items.append(item)
        self._count += len(ids)

    @property
    def fill_a_file(self) -> bool:
        """Whether the rows are enough for a file, and the length of the vectors is known."""
        return self._count >= _ROWS_PER_FILE and self._dimension > 0

    def take_table(self) -> pa.Table:
        """Remove all rows and return them as a table, in the order of the source."""
        items, self._items, self._count = self._items, [], 0
        return self._table(sorted(items, key=item_key))

    def _table(self, items: Iterable[EmbeddedBatch | EmbedFailure]) -> pa.Table:
        import pyarrow as pa

        places: list[int] = []
        pieces: list[Piece] = []
        ids: list[Any] = []
        errors: list[str | None] = []
        buffer: array[float] = array("f")
        for item in items:
            if isinstance(item, EmbeddedBatch):
                places += [piece.place for piece in item.pieces] or range(
                    item.start, item.start + len(item)
                )
                pieces += item.pieces
                ids += item.ids
                errors += [None] * len(item)
                buffer += item.vectors.buffer
            else:
                places.append(item.start)
                pieces += [] if item.piece is None else [item.piece]
                ids.append(item.id)
                errors.append(item.reason.encode("utf-8", "replace").decode())
        if self._id_type is None:
            self._id_type = pa.string() if ids else pa.int64()
        present = [error is None for error in errors]
        columns = {"place": pa.array(places, pa.int64()), "id": self._id_column(ids)}
        if self._has_pieces:
            columns["piece"] = pa.array([piece.number for piece in pieces], pa.int64())
            columns["start"] = pa.array([piece.start for piece in pieces], pa.int64())
            columns["end"] = pa.array([piece.end for piece in pieces], pa.int64())
        columns["vector"] = build_vector_column(buffer, self._dimension, present)
        columns["error"] = pa.array(errors, pa.string())
        return pa.table(columns)

    def _id_column(self, ids: Sequence[Any]) -> pa.Array:
        import pyarrow as pa

        try:
            if self._id_type is None and any(_is_deep(key) for key in ids):
                raise ValueError("lists must not be nested deeper than 64 levels")
            column = pa.array(ids, self._id_type)
        except Exception as exc:  # The methods of an id can raise anything.
            first = f", that of the first ids ({self._id_type})" if self._id_type else ""
            raise InputError(f"the ids must be of one type that Arrow has{first}: {exc}") from exc
        if self._id_type is None and not pa.types.is_null(column.type):
            self._id_type = column.type
        return column


def _is_deep(value: object, limit: int = 64) -> bool:
    """Whether lists are nested deeper than that, such as one in itself, which crashes pyarrow."""
    inner = value.values() if isinstance(value, Mapping) else value
    if not isinstance(inner, list | tuple | ValuesView):
        return False
    return not limit or any(_is_deep(entry, limit - 1) for entry in inner)


def build_lines(item: EmbeddedBatch | EmbedFailure, *, has_ids: bool) -> Iterator[bytes]:
    """Yield the lines of an item, in UTF-8 and with the newline.

    They have `id`, then `piece`, `start` and `end` if the row is one, `text` and `vector`; a
    failure has `error` instead of the vector.

    Raises:
        InputError: JSON cannot write an id.
    """
    if isinstance(item, EmbedFailure):
        fields = _describe_row(item.id, item.piece, has_ids=has_ids)
        yield _encode_line(item.start, {**fields, "text": item.text, "error": item.reason})
        return
    for index, vector in enumerate(item.vectors):
        piece = item.pieces[index] if item.pieces else None
        fields = _describe_row(item.ids[index], piece, has_ids=has_ids)
        # Nine digits identify a 32-bit float; Python would write seventeen.
        numbers = [float(f"{number:.9g}") for number in vector]
        place = piece.place if piece else item.start + index
        yield _encode_line(place, {**fields, "text": item.texts[index], "vector": numbers})


def build_failure_line(failure: EmbedFailure, source: Mapping[str, Any], *, has_ids: bool) -> bytes:
    """Build the line of a list of failures: `id`, `row` (from 1), those of *source*, `reason`.

    Raises:
        InputError: JSON cannot write the id.
    """
    fields = _describe_row(failure.id, failure.piece, has_ids=has_ids)
    row = {**fields, "row": failure.start + 1, **source}
    return _encode_line(failure.start, {**row, "reason": failure.reason})


def _describe_row(key: Any, piece: Piece | None, *, has_ids: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {"id": key} if has_ids else {}
    if piece is not None:
        fields |= {"piece": piece.number, "start": piece.start, "end": piece.end}
    return fields


def _encode_line(place: int, fields: Mapping[str, Any]) -> bytes:
    # Ids are of any type: dates and UUIDs are written as text, and NaN is null: JSON has no NaN.
    key = fields.get("id")
    if isinstance(key, float) and not math.isfinite(key):
        fields = {**fields, "id": None}
    try:
        line = json.dumps(fields, ensure_ascii=False, separators=(",", ":"), default=str)
    except Exception as exc:  # The id's own `__str__` can raise anything.
        raise InputError(
            f"the id of row {place} is a {type(key).__name__} that JSON cannot write: use text or"
            f" numbers as ids ({type(exc).__name__}: {exc})"
        ) from exc
    return f"{line}\n".encode("utf-8", "replace")
