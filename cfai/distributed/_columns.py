"""Columns of texts as engines pass them, and result columns of the same kind."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isnan
from typing import Any

from attrs import frozen

from cfai.embedding.export import build_vector_column
from cfai.errors import InputError


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


@frozen(eq=False)
class TextColumn:
    """The texts of a column, and the table that it is in."""

    texts: Sequence[str | None]
    values: Any
    """The column as it was passed: the result has the same kind."""
    table: Any = None
    """The table as it was passed; `None` if a column was."""

    def build_vectors(self, result: ColumnResult) -> Any:
        """Build a column of vectors."""
        if _is_instance(self.values, "pandas", "Series"):
            rows = zip(_build_matrix(result), result.present, strict=True)
            return _build_series(
                self.values, [row if is_present else None for row, is_present in rows]
            )
        if _is_instance(self.values, "numpy", "ndarray"):
            return _build_matrix(result)
        if _is_instance(self.values, "pyarrow", "Array", "ChunkedArray"):
            column = build_vector_column(result.buffer, result.dimension, result.present)
            return self._chunk(column)
        return list(result.rows)

    def build_strings(self, strings: Sequence[str | None]) -> Any:
        """Build a column of strings."""
        if _is_instance(self.values, "pandas", "Series"):
            return _build_series(self.values, strings)
        if _is_instance(self.values, "numpy", "ndarray"):
            import numpy as np

            return np.array(strings, dtype=object)
        if _is_instance(self.values, "pyarrow", "Array", "ChunkedArray"):
            import pyarrow as pa

            return self._chunk(pa.array(strings, pa.string()))
        return list(strings)

    def _chunk(self, column: Any) -> Any:
        """Return an Arrow array in chunks if the texts came in chunks."""
        import pyarrow as pa

        is_chunked = _is_instance(self.values, "pyarrow", "ChunkedArray")
        return pa.chunked_array([column]) if is_chunked else column

    def add_to_table(self, columns: Mapping[str, Any]) -> Any:
        """Return the table with more columns."""
        table = self.table
        if isinstance(table, Mapping):
            return {**table, **columns}
        if _is_instance(table, "pandas", "DataFrame"):
            return table.assign(**columns)
        for name, column in columns.items():
            names = table.schema.names
            if name in names:
                table = table.set_column(names.index(name), name, column)
            else:
                table = table.append_column(name, column)
        return table


def read_column(data: Any, name: str | None) -> TextColumn:
    """Read what an engine passes: a column, or a table with the column *name*.

    Raises:
        InputError: It is neither, there is no such column, or its values are not texts.
    """
    has_own_kind = isinstance(data, Mapping) or _is_instance(data, "pandas", "DataFrame", "Series")
    if not has_own_kind and hasattr(data, "to_arrow"):
        data = data.to_arrow()  # An engine on top of Arrow, such as Daft or Polars.
    if isinstance(data, Mapping):
        values = _choose_column(data, list(data), name)
    elif _is_instance(data, "pandas", "DataFrame"):
        values = _choose_column(data, list(data.columns), name)
    elif _is_instance(data, "pyarrow", "Table", "RecordBatch"):
        values = _choose_column(data, data.schema.names, name)
    else:
        return TextColumn(_read_texts(data), data)
    return TextColumn(_read_texts(values), values, data)


def _is_instance(value: object, library: str, *names: str) -> bool:
    """Whether *value* is an instance of one of the library's classes, without importing it."""
    module = sys.modules.get(library)
    classes = [getattr(module, name, None) for name in names]
    return isinstance(value, tuple(kind for kind in classes if isinstance(kind, type)))


def _choose_column(table: Any, names: Sequence[Any], name: str | None) -> Any:
    listed = ", ".join(map(repr, names)) or "none"
    if name is None:
        raise InputError(f"column must name the column of texts, one of: {listed}")
    if name not in names:
        raise InputError(f"column must be one of the table's columns ({listed}), got {name!r}")
    if list(names).count(name) > 1:
        raise InputError(f"column must name one column, but several are called {name!r}")
    return table[name]


def _read_texts(values: Any) -> list[str | None]:
    """Return the texts of a column; missing ones are `None`."""
    if _is_instance(values, "pandas", "Series"):
        pairs = zip(values.tolist(), values.isna(), strict=True)
        return _check_texts(None if is_missing else value for value, is_missing in pairs)
    if _is_instance(values, "numpy", "ndarray"):
        if values.ndim != 1:
            raise InputError(f"a column must have one dimension, got {values.ndim}")
        return _check_texts(values.tolist())
    if _is_instance(values, "pyarrow", "Array", "ChunkedArray"):
        return _check_texts(values.to_pylist())
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise InputError(f"a column must be an iterable of texts, got {type(values).__name__}")
    return _check_texts(values)


def _check_texts(values: Iterable[Any]) -> list[str | None]:
    texts: list[str | None] = []
    for value in values:
        if isinstance(value, str):
            texts.append(value)
        elif value is None or (isinstance(value, float) and isnan(value)):
            texts.append(None)
        else:
            kind = type(value).__name__
            raise InputError(f"each text must be a str; number {len(texts)} has the type {kind}")
    return texts


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


def _build_series(template: Any, values: Sequence[Any]) -> Any:
    # The class of the template, since pandas need not be installed.
    return type(template)(values, index=template.index, name=template.name, dtype=object)
