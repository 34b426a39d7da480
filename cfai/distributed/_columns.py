"""Columns of texts, as the engines have them, and columns of vectors of the same kind."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import isnan
from typing import Any

from attrs import frozen

from cfai.embedding.tables import vectors_column
from cfai.errors import InputError


@frozen(eq=False)
class Vectors:
    """What became of a column: a row for each text."""

    buffer: array[float]
    """The numbers of those that are there, one after the other."""
    dimension: int
    there: Sequence[bool]

    @property
    def rows(self) -> Iterator[array[float] | None]:
        """A vector for each row, or `None`."""
        at = 0
        for there in self.there:
            yield self.buffer[at : at + self.dimension] if there else None
            at += self.dimension if there else 0


@frozen(eq=False)
class Column:
    """Texts, and how their vectors are given back."""

    texts: Sequence[str | None]
    build: Callable[[Vectors], Any]


def column(given: Any, name: str | None, into: str) -> Column:
    """Read what an engine passes: a column, or a table with a column *name*.

    A table is given back with a column *into* beside the others, or in place of one.

    Raises:
        InputError: It is neither, the column isn't there, or holds something else than texts.
    """
    if _is_table_to_convert(given):
        given = given.to_arrow()
    if isinstance(given, Mapping):
        texts = _plain(_chosen(given, list(given), name))
        return Column(texts.texts, lambda found: {**given, into: texts.build(found)})
    if _is(given, "pandas", "DataFrame"):
        texts = _plain(_chosen(given, list(given.columns), name))
        return Column(texts.texts, lambda found: given.assign(**{into: texts.build(found)}))
    if _is(given, "pyarrow", "Table", "RecordBatch"):
        texts = _plain(_chosen(given, given.schema.names, name))
        return Column(texts.texts, lambda found: _with(given, into, texts.build(found)))
    return _plain(given)


def _is(given: object, library: str, *kinds: str) -> bool:
    """Whether it is of one of the library's *kinds*; where it is, the library is loaded."""
    module = sys.modules.get(library)
    return module is not None and isinstance(
        given, tuple(getattr(module, kind) for kind in kinds if hasattr(module, kind))
    )


def _is_table_to_convert(given: object) -> bool:
    """Whether it has a form of its own, and one of Arrow's too, as with Daft and Polars."""
    known = isinstance(given, Mapping) or _is(given, "pandas", "DataFrame", "Series")
    return not known and hasattr(given, "to_arrow")


def _chosen(table: Any, names: Sequence[Any], name: str | None) -> Any:
    listed = ", ".join(map(repr, names)) or "none"
    if name is None:
        raise InputError(f"column must say which column has the texts, of these: {listed}")
    if name not in names:
        raise InputError(f"column must be one of the table's ({listed}), got {name!r}")
    return table[name]


def _with(table: Any, into: str, vectors: Any) -> Any:
    names = table.schema.names
    if into in names:
        return table.set_column(names.index(into), into, vectors)
    return table.append_column(into, vectors)


def _plain(given: Any) -> Column:
    """A column that stands for itself."""
    if _is(given, "pandas", "Series"):
        values = zip(given.tolist(), given.isna(), strict=True)
        texts = _texts(None if missing else value for value, missing in values)
        return Column(texts, lambda found: _series(found, like=given))
    if _is(given, "numpy", "ndarray"):
        if given.ndim != 1:
            raise InputError(f"a column must have one dimension, got {given.ndim}")
        return Column(_texts(given.tolist()), _matrix)
    if _is(given, "pyarrow", "ChunkedArray"):
        return Column(_texts(given.to_pylist()), _chunked)
    if _is(given, "pyarrow", "Array"):
        return Column(_texts(given.to_pylist()), _arrow)
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise InputError(f"a column must be many texts, got {type(given).__name__}")
    return Column(_texts(given), lambda found: list(found.rows))


def _texts(values: Iterable[Any]) -> list[str | None]:
    texts: list[str | None] = []
    for value in values:
        if isinstance(value, str):
            texts.append(value)
        elif value is None or (isinstance(value, float) and isnan(value)):
            texts.append(None)
        else:
            got = type(value).__name__
            raise InputError(f"texts must be of str; number {len(texts)} is of {got}")
    return texts


def _arrow(found: Vectors) -> Any:
    return vectors_column(found.buffer, found.dimension, found.there)


def _chunked(found: Vectors) -> Any:
    import pyarrow as pa

    return pa.chunked_array([_arrow(found)])


def _matrix(found: Vectors) -> Any:
    import numpy as np

    count = sum(found.there)
    numbers = np.asarray(found.buffer, dtype=np.float32).reshape(count, found.dimension)
    if count == len(found.there):
        return numbers
    whole = np.full((len(found.there), found.dimension), np.nan, dtype=np.float32)
    whole[np.array(found.there, dtype=bool)] = numbers
    return whole


def _series(found: Vectors, *, like: Any) -> Any:
    matrix = _matrix(found)
    rows = [row if there else None for row, there in zip(matrix, found.there, strict=True)]
    # Its own type, since pandas needn't be installed.
    return type(like)(rows, index=like.index, name=like.name, dtype=object)
