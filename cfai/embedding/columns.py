"""Columns of texts in the objects of pandas, Polars, Arrow and NumPy, and result columns like them.

None of these libraries is imported to recognize its objects.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Collection,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    Sized,
)
from itertools import accumulate, islice
from typing import Any, Final

from attrs import frozen

from cfai.embedding.export import build_vector_column, check_arrow, check_numpy
from cfai.embedding.results import EmbeddedBatch, item_key
from cfai.embedding.source import NamedTexts, is_missing, name_text, read_row, read_text
from cfai.errors import InputError

_SLICE: Final = 1000
"""Values that are read from a column at once."""


@frozen(eq=False)
class ColumnResult:
    """The vectors and errors of a column, with a row for each text."""

    buffer: array[float]
    """The numbers of all vectors, one vector after the other."""
    dimension: int
    present: Sequence[bool]
    """For each row, whether it has a vector."""
    errors: Sequence[str | None]
    """For each row, why its text has no vector."""

    @property
    def rows(self) -> Iterator[array[float] | None]:
        """A vector for each row, or `None`."""
        position = 0
        for is_present in self.present:
            yield self.buffer[position : position + self.dimension] if is_present else None
            position += self.dimension if is_present else 0


# Columns and tables


def is_instance(value: object, library: str, *names: str) -> bool:
    """Whether *value* is an instance of one of the library's classes, without importing it."""
    module = sys.modules.get(library)
    classes = [getattr(module, name, None) for name in names]
    return isinstance(value, tuple(kind for kind in classes if isinstance(kind, type)))


def column_names(data: object) -> list[Any] | None:
    """The names of the columns of a table; `None` if *data* is no table.

    Tables are mappings, and what has `columns` (pandas, Polars, DuckDB, Dask), a `schema` with
    names (Arrow), or `column_names` (datasets).
    """
    if isinstance(data, Mapping):
        return list(data)
    if isinstance(data, str | bytes | type):
        return None
    schema = getattr(data, "schema", None)
    for names in (
        getattr(schema, "names", None),
        getattr(data, "column_names", None),
        None if is_instance(data, "polars", "LazyFrame") else getattr(data, "columns", None),
    ):
        if names is not None and isinstance(names, Iterable) and not callable(names):
            return list(names)
    return None


def choose_column(table: Any, names: Sequence[Any], name: Any, option: str = "column") -> Any:
    """The column *name* of a table.

    Raises:
        InputError: There is no such column, or several.
    """
    check_column(names, name, option)
    return table[name]


def check_column(names: Sequence[Any], name: Any, option: str = "column") -> None:
    """Check that a table with the columns *names* has one column *name*.

    Raises:
        InputError: There is no such column, or several.
    """
    listed = ", ".join(map(repr, names)) or "none"
    if name is None:
        raise InputError(f"{option} must name the column of texts, one of: {listed:.500}")
    if name not in names:
        raise InputError(
            f"{option} must be one of the table's columns ({listed:.500}), got {name!r}"
        )
    if list(names).count(name) > 1:
        raise InputError(f"{option} must name one column, but several are called {name!r}")


def import_data(data: Any) -> Any:
    """Import what other libraries offer by the protocols of Arrow, or that of data frames.

    A stream of tables becomes a `RecordBatchReader`, whose batches are read as they are needed; a
    column becomes one of pyarrow. Objects of known libraries, and all others, are returned as they
    are.

    Sources: "The Arrow PyCapsule Interface" (Apache Arrow); "Python dataframe interchange protocol"
    (Consortium for Python Data API Standards).

    Raises:
        MissingExtra: pyarrow is not installed.
    """
    if isinstance(data, type) or any(is_instance(data, *kinds) for kinds in _KNOWN):
        return data
    needed_for = f"reading {type(data).__name__}"
    if hasattr(data, "__arrow_c_stream__"):
        check_arrow(needed_for)
        import pyarrow as pa

        try:
            return pa.RecordBatchReader.from_stream(data)
        except pa.ArrowInvalid:  # Its items are no rows.
            return pa.chunked_array(data)
    if hasattr(data, "__arrow_c_array__"):
        check_arrow(needed_for)
        import pyarrow as pa

        values = pa.array(data)
        is_table = isinstance(values, pa.StructArray)
        return pa.RecordBatch.from_struct_array(values) if is_table else values
    if hasattr(data, "__dataframe__") and column_names(data) is None:
        check_arrow(needed_for)
        from pyarrow.interchange import from_dataframe

        return from_dataframe(data)
    return data


_KNOWN: Final = (
    ("pyarrow", "Array", "ChunkedArray", "Table", "RecordBatch", "RecordBatchReader"),
    ("pandas", "DataFrame", "Series"),
    ("polars", "DataFrame", "Series"),
    ("numpy", "ndarray"),
)
"""Columns and tables that are read as they are."""


def iterate_values(column: Any) -> Iterator[Any]:
    """Yield the values of a column as objects of Python, some at a time."""
    convert = next((n for n in ("to_pylist", "tolist", "to_list") if hasattr(column, n)), None)
    if convert is None:
        yield from column
        return
    if getattr(column, "ndim", 1) != 1:
        raise InputError(f"a column must have one dimension, got {column.ndim}")
    # A Series of pandas is sliced by its labels unless `iloc` does it.
    positions = getattr(column, "iloc", column)
    for start in range(0, len(column), _SLICE):
        yield from getattr(positions[start : start + _SLICE], convert)()


_OTHER_TYPES: Final = re.compile(
    r"u?int|float|double|halffloat|decimal|bool|complex|date|time|duration|(large_|fixed_size_)?"
    r"(binary|list)|\|s\d|array|struct|map",
    re.IGNORECASE,
)
"""The beginnings of the names of types that have no texts, in NumPy, pandas, Polars and Arrow."""


def iterate_texts(column: Any) -> Iterator[Any]:
    """Yield the values of a column of texts.

    Raises:
        InputError: The type of the whole column is another one, and a value is not missing.
    """
    kind = getattr(column, "type", None) or getattr(column, "dtype", None)
    if _OTHER_TYPES.match(str(kind)) is None:
        yield from iterate_values(column)
        return
    for value in iterate_values(column):
        if not is_missing(value):
            advice = "decode it first" if isinstance(value, bytes) else "choose another column"
            raise InputError(f"a column of texts must have strings, got the type {kind}; {advice}")
        yield None


def has_values(data: object) -> bool:
    """Whether *data* is a column of a library, whose values `iterate_values` reads."""
    return is_instance(data, "numpy", "ndarray") or (
        hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__")
    )


# The source of a job


@frozen(eq=False)
class Source:
    """Where a job reads its texts from, and the column that its result is to be like."""

    entries: Iterable[Any] | AsyncIterable[Any]
    """Texts, or pairs of an id and a text."""
    count: int | None
    """How many there are, if known."""
    column: Any = None
    """The column of a library that the texts are from; `None` if they are from elsewhere."""
    name_text: Callable[[int, Any], str] = name_text
    """How errors name a text, by its place and its id."""


def open_source(texts: Any, column: Any = None, id_column: Any = None) -> Source:
    """Find the texts in any object that may have them.

    Args:
        texts: Texts, pairs of an id and a text, a column, a table, or rows.
        column: The name of the column of texts, for a table or rows.
        id_column: The name of the column of ids.

    Raises:
        InputError: It is one text, not iterable, or a table without the column.
    """
    if id_column is not None and column is None:
        raise InputError("id_column needs column, the name of the column of texts")
    _check_is_collected(texts)
    texts = import_data(texts)
    names = column_names(texts)
    if names is not None:
        return _open_table(texts, names, column, id_column)
    is_text = isinstance(texts, str | bytes | bytearray | memoryview)
    if is_text or not isinstance(texts, Iterable | AsyncIterable):
        raise InputError(f"texts must be an iterable of texts, got {type(texts).__name__}")
    count = len(texts) if isinstance(texts, Sized) else None
    if column is not None:
        if isinstance(texts, Collection) and any(map(_is_table, islice(texts, 1))):
            count = None  # That is the number of tables.
        if isinstance(texts, AsyncIterable):
            return Source(_read_async_rows(texts, column, id_column), count)
        return Source(_read_rows(texts, column, id_column), count)
    if has_values(texts):
        return Source(iterate_texts(texts), count, texts)
    if isinstance(texts, NamedTexts):
        return Source(texts, count, name_text=texts.name_text)
    return Source(texts, count)


def _check_is_collected(data: object) -> None:
    if is_instance(data, "polars", "LazyFrame"):
        raise InputError("a LazyFrame has no rows yet: call collect() first")


def _open_table(table: Any, names: Sequence[Any], column: Any, id_column: Any) -> Source:
    if is_instance(table, "pyarrow", "RecordBatchReader") or _is_dataset(table):
        return _open_batches(table, names, column, id_column)
    if column is None and isinstance(table, Mapping):
        raise InputError(
            "texts must be an iterable of texts, got a mapping: pass its items() or values(),"
            f" or column=, one of: {', '.join(map(repr, names)):.500}"
        )
    values = choose_column(table, names, column)
    entries = _with_ids(iterate_texts(values), table, names, id_column)
    count = len(values) if hasattr(values, "__len__") else None
    return Source(entries, count, values)


def _with_ids(
    texts: Iterator[Any], table: Any, names: Sequence[Any], id_column: Any
) -> Iterator[Any]:
    if id_column is None:
        return texts
    ids = choose_column(table, names, id_column, "id_column")
    return zip(iterate_values(ids), texts, strict=True)


def _is_dataset(data: object) -> bool:
    """Whether it is a dataset of pyarrow: tables in files, read batch by batch."""
    return is_instance(data, "pyarrow.dataset", "Dataset")


def _open_batches(data: Any, names: Sequence[Any], column: Any, id_column: Any) -> Source:
    """Read the batches of a dataset or a reader of Arrow, one at a time."""
    import pyarrow as pa

    check_column(names, column)
    wanted = [column]
    if id_column is not None:
        check_column(names, id_column, "id_column")
        wanted.insert(0, id_column)
    if _is_dataset(data):  # Other columns are not read from its files.
        data = data.scanner(columns=list(dict.fromkeys(wanted))).to_reader()
    # The result is an Arrow column: this one says so.
    return Source(_read_batches(data, wanted), None, pa.chunked_array([], pa.string()))


def _read_batches(reader: Any, wanted: Sequence[Any]) -> Iterator[Any]:
    places = [reader.schema.names.index(name) for name in wanted]
    for batch in reader:
        texts = iterate_texts(batch.column(places[-1]))
        if len(places) == 1:
            yield from texts
        else:
            yield from zip(iterate_values(batch.column(places[0])), texts, strict=True)


def _is_table(row: object) -> bool:
    """Whether what takes the place of a row is a table: sources may come in parts."""
    protocols = ("__arrow_c_stream__", "__arrow_c_array__", "__dataframe__")
    return any(hasattr(row, name) for name in protocols) and column_names(row) is not None


def _read_part(table: Any, column: Any, id_column: Any) -> Iterator[Any]:
    table = import_data(table)
    names = column_names(table) or ()
    # pandas guesses a type for each part: the rows of one with another type fail one by one.
    entries = iterate_values(choose_column(table, names, column))
    return _with_ids(entries, table, names, id_column)


def _read_rows(rows: Iterable[Any], column: Any, id_column: Any) -> Iterator[Any]:
    try:
        for place, row in enumerate(rows):
            if _is_table(row):
                yield from _read_part(row, column, id_column)
            else:
                yield read_row(row, place, column, id_column)
    finally:
        if isinstance(rows, Generator):
            rows.close()


async def _read_async_rows(
    rows: AsyncIterable[Any], column: Any, id_column: Any
) -> AsyncIterator[Any]:
    place = 0
    iterator = aiter(rows)
    try:
        async for row in iterator:
            if _is_table(row):
                for entry in _read_part(row, column, id_column):
                    yield entry
            else:
                yield read_row(row, place, column, id_column)
            place += 1
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


# Results


def build_vectors(like: Any, result: ColumnResult) -> Any:
    """Build a column of vectors of the kind of the column *like*; otherwise a list."""
    if is_instance(like, "pandas", "Series"):
        rows = zip(_build_matrix(result), result.present, strict=True)
        return _build_series(like, [row if is_present else None for row, is_present in rows])
    if is_instance(like, "polars", "Series"):
        return _build_polars_vectors(like, result)
    if is_instance(like, "numpy", "ndarray"):
        return _build_matrix(result)
    if is_instance(like, "pyarrow", "Array", "ChunkedArray"):
        return _chunk(like, build_vector_column(result.buffer, result.dimension, result.present))
    return list(result.rows)


def build_strings(like: Any, strings: Sequence[str | None]) -> Any:
    """Build a column of strings of the kind of the column *like*; otherwise a list."""
    if is_instance(like, "pandas", "Series"):
        return _build_series(like, strings)
    if is_instance(like, "polars", "Series"):
        polars = sys.modules["polars"]
        return polars.Series(like.name, strings, dtype=polars.String)
    if is_instance(like, "numpy", "ndarray"):
        import numpy as np

        return np.array(strings, dtype=object)
    if is_instance(like, "pyarrow", "Array", "ChunkedArray"):
        import pyarrow as pa

        return _chunk(like, pa.array(strings, pa.string()))
    return list(strings)


def add_to_table(table: Any, columns: Mapping[str, Any]) -> Any:
    """Return a table with more columns."""
    if isinstance(table, Mapping):
        return {**table, **columns}
    if is_instance(table, "pandas", "DataFrame"):
        return table.assign(**columns)
    if is_instance(table, "polars", "DataFrame"):
        return table.with_columns(**columns)
    for name, column in columns.items():
        names = table.schema.names
        if name in names:
            table = table.set_column(names.index(name), name, column)
        else:
            table = table.append_column(name, column)
    return table


def _chunk(like: Any, column: Any) -> Any:
    """Return an Arrow array in chunks if *like* has chunks."""
    import pyarrow as pa

    is_chunked = is_instance(like, "pyarrow", "ChunkedArray")
    return pa.chunked_array([column]) if is_chunked else column


def _build_matrix(result: ColumnResult) -> Any:
    """Build a NumPy array with a row for each text; rows without a vector are NaN."""
    import numpy as np

    count = sum(result.present)
    numbers = np.asarray(result.buffer, dtype=np.float32).reshape(count, result.dimension)
    if count == len(result.present):
        return numbers
    matrix = np.full((len(result.present), result.dimension), np.nan, dtype=np.float32)
    matrix[np.array(result.present, dtype=bool)] = numbers
    return matrix


def _build_series(like: Any, values: Sequence[Any]) -> Any:
    # The class of the column, since pandas need not be installed.
    return type(like)(values, index=like.index, name=like.name, dtype=object)


def _build_polars_vectors(like: Any, result: ColumnResult) -> Any:
    polars = sys.modules["polars"]
    kind = polars.Array(polars.Float32, result.dimension)
    matrix = _build_matrix(result)
    if not len(matrix):
        return polars.Series(like.name, [], dtype=kind)
    vectors = polars.Series(like.name, matrix, dtype=kind)
    if all(result.present):
        return vectors
    present = polars.Series(result.present, dtype=polars.Boolean)
    return polars.select(polars.when(present).then(vectors)).to_series().rename(like.name)


def join_batches(batches: list[EmbeddedBatch], rows: int, dimension: int) -> ColumnResult:
    """Join the batches of a job of so many *rows*; *dimension* is used if there is no batch.

    It empties *batches* on the way, so that no vector is in memory twice.
    """
    vectors, counts = _join(batches, rows, dimension)
    return ColumnResult(vectors.buffer, vectors.dimension, list(map(bool, counts)), ())


def _join(
    batches: list[EmbeddedBatch], rows: int, dimension: int
) -> tuple[ColumnResult, Sequence[int]]:
    """Join all vectors, and count them for each place."""
    batches.sort(key=item_key, reverse=True)
    buffer, counts = array("f"), [0] * rows
    while batches:
        batch = batches.pop()
        buffer += batch.vectors.buffer
        dimension = batch.vectors.shape[1]
        places = [piece.place for piece in batch.pieces]
        for place in places or range(batch.start, batch.start + len(batch)):
            counts[place] += 1
    return ColumnResult(buffer, dimension, [True] * sum(counts), ()), counts


def build_lists(like: Any, batches: list[EmbeddedBatch], rows: int, dimension: int) -> Any:
    """Build a column like *like*; each row has the vectors of a text's pieces, or is missing.

    The other arguments are those of `join_batches`.
    """
    result, counts = _join(batches, rows, dimension)
    ends = list(accumulate(counts))
    if is_instance(like, "polars", "Series"):
        return _build_polars_lists(like, build_vectors(like, result), counts)
    if is_instance(like, "pyarrow", "Array", "ChunkedArray"):
        return _chunk(like, _build_arrow_lists(result, counts))
    vectors = list(result.rows) if like is None else _build_matrix(result)
    lists = [vectors[end - n : end] if n else None for end, n in zip(ends, counts, strict=True)]
    if is_instance(like, "pandas", "Series"):
        return _build_series(like, lists)
    if is_instance(like, "numpy", "ndarray"):
        import numpy as np

        column = np.empty(rows, dtype=object)
        column[:] = lists
        return column
    return lists


def _build_polars_lists(like: Any, vectors: Any, counts: Sequence[int]) -> Any:
    polars = sys.modules["polars"]
    places = [place for place, count in enumerate(counts) for _ in range(count)]
    frame = polars.DataFrame({"place": places, "vector": vectors}, schema_overrides={"place": int})
    lists = frame.group_by("place").agg("vector")
    every = polars.DataFrame({"place": range(len(counts))}, schema_overrides={"place": int})
    return every.join(lists, "place", how="left").sort("place")["vector"].rename(like.name)


def _build_arrow_lists(result: ColumnResult, counts: Sequence[int]) -> Any:
    import pyarrow as pa

    vectors = build_vector_column(result.buffer, result.dimension, result.present)
    offsets = pa.array([0, *accumulate(counts)], pa.int32())
    mask = pa.array([not count for count in counts], pa.bool_())
    return pa.ListArray.from_arrays(offsets, vectors, mask=mask)


def check_libraries(like: Any, needed_for: str) -> None:
    """Check that the libraries are installed that a column like *like* needs.

    Raises:
        MissingExtra: One is not.
    """
    if is_instance(like, "pyarrow", "Array", "ChunkedArray"):
        check_arrow(needed_for)
    elif like is not None:
        check_numpy(needed_for)


# What engines pass


@frozen(eq=False)
class TextColumn:
    """The texts of a column, and the table that it is in."""

    texts: Sequence[str | InputError | None]
    """`None` for a missing text, and the error of what is no text."""
    values: Any
    """The column as it was passed: the result has the same kind."""
    table: Any = None
    """The table as it was passed; `None` if a column was."""


def read_column(data: Any, name: str | None) -> TextColumn:
    """Read a column, or the column *name* of a table.

    Raises:
        InputError: It is neither, there is no such column, or its type is another.
    """
    _check_is_collected(data)
    is_known = isinstance(data, Mapping) or any(
        is_instance(data, library, "DataFrame", "Series") for library in ("pandas", "polars")
    )
    if not is_known and hasattr(data, "to_arrow"):
        data = data.to_arrow()  # An engine on top of Arrow, such as Daft.
    data = import_data(data)
    if is_instance(data, "pyarrow", "RecordBatchReader"):
        data = data.read_all()  # All its columns are part of the result.
    elif _is_dataset(data):
        data = data.to_table()
    names = column_names(data)
    if names is not None:
        values = choose_column(data, names, name)
        return TextColumn(_read_texts(values), values, data)
    return TextColumn(_read_texts(data), data)


def _read_texts(values: Any) -> list[str | InputError | None]:
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise InputError(f"a column must be an iterable of texts, got {type(values).__name__}")
    return list(map(read_text, iterate_texts(values)))
