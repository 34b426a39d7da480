"""Columns of texts, as the engines have them, and columns of the same kind to give back."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from math import isnan
from typing import Any

from attrs import evolve, frozen

from cfai.embedding.export import build_vector_column
from cfai.errors import InputError


@frozen(eq=False)
class Found:
    """What became of a column: a row for each text."""

    buffer: array[float]
    """The numbers of the vectors that are there, one vector after the other."""
    dimension: int
    there: Sequence[bool]
    errors: Sequence[str | None]
    """Why there is none, where a text was there."""

    @property
    def rows(self) -> Iterator[array[float] | None]:
        """A vector for each row, or `None`."""
        at = 0
        for there in self.there:
            yield self.buffer[at : at + self.dimension] if there else None
            at += self.dimension if there else 0


@frozen(eq=False)
class Column:
    """Texts, and how what became of them is given back."""

    texts: Sequence[str | None]
    vectors: Callable[[Found], Any]
    """Makes a column of vectors."""
    words: Callable[[Sequence[str | None]], Any]
    """Makes a column of texts."""
    table: Callable[[Mapping[str, Any]], Any] | None = None
    """Makes the table that the texts were in, with columns more; `None` where there was none."""


def column(given: Any, name: str | None) -> Column:
    """Read what an engine passes: a column, or a table with a column *name*.

    Raises:
        InputError: It is neither, the column isn't there, or holds something else than texts.
    """
    if _has_arrows_form(given):
        given = given.to_arrow()
    if isinstance(given, Mapping):
        texts = _plain(_chosen(given, list(given), name))
        return evolve(texts, table=lambda new: {**given, **new})
    if _is(given, "pandas", "DataFrame"):
        texts = _plain(_chosen(given, list(given.columns), name))
        return evolve(texts, table=lambda new: given.assign(**new))
    if _is(given, "pyarrow", "Table", "RecordBatch"):
        texts = _plain(_chosen(given, given.schema.names, name))
        return evolve(texts, table=partial(_with, given))
    return _plain(given)


def _is(given: object, library: str, *kinds: str) -> bool:
    """Whether it is of one of the library's *kinds*; where it is, the library is loaded."""
    module = sys.modules.get(library)
    classes = [getattr(module, kind, None) for kind in kinds]
    return isinstance(given, tuple(one for one in classes if isinstance(one, type)))


def _has_arrows_form(given: object) -> bool:
    """Whether it is of an engine whose columns and tables are Arrow's underneath: Daft, Polars."""
    known = isinstance(given, Mapping) or _is(given, "pandas", "DataFrame", "Series")
    return not known and hasattr(given, "to_arrow")


def _chosen(table: Any, names: Sequence[Any], name: str | None) -> Any:
    listed = ", ".join(map(repr, names)) or "none"
    if name is None:
        raise InputError(f"column must say which column has the texts, of these: {listed}")
    if name not in names:
        raise InputError(f"column must be one of the table's ({listed}), got {name!r}")
    if list(names).count(name) > 1:
        raise InputError(f"column must be one column, and several are called {name!r}")
    return table[name]


def _with(table: Any, new: Mapping[str, Any]) -> Any:
    for name, values in new.items():
        names = table.schema.names
        if name in names:
            table = table.set_column(names.index(name), name, values)
        else:
            table = table.append_column(name, values)
    return table


def _plain(given: Any) -> Column:
    """A column that stands for itself."""
    if _is(given, "pandas", "Series"):
        values = zip(given.tolist(), given.isna(), strict=True)
        texts = _texts(None if missing else value for value, missing in values)
        series = partial(_series, given)
        return Column(texts, lambda found: series(_rows(found)), series)
    if _is(given, "numpy", "ndarray"):
        if given.ndim != 1:
            raise InputError(f"a column must have one dimension, got {given.ndim}")
        return Column(_texts(given.tolist()), _matrix, _objects)
    if _is(given, "pyarrow", "ChunkedArray"):
        return Column(_texts(given.to_pylist()), _chunked(_arrow), _chunked(_strings))
    if _is(given, "pyarrow", "Array"):
        return Column(_texts(given.to_pylist()), _arrow, _strings)
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise InputError(f"a column must be many texts, got {type(given).__name__}")
    return Column(_texts(given), lambda found: list(found.rows), list)


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


def _arrow(found: Found) -> Any:
    return build_vector_column(found.buffer, found.dimension, found.there)


def _strings(values: Sequence[str | None]) -> Any:
    import pyarrow as pa

    return pa.array(values, pa.string())


def _chunked(made: Callable[[Any], Any]) -> Callable[[Any], Any]:
    import pyarrow as pa

    return lambda given: pa.chunked_array([made(given)])


def _matrix(found: Found) -> Any:
    import numpy as np

    count = sum(found.there)
    numbers = np.asarray(found.buffer, dtype=np.float32).reshape(count, found.dimension)
    if count == len(found.there):
        return numbers
    whole = np.full((len(found.there), found.dimension), np.nan, dtype=np.float32)
    whole[np.array(found.there, dtype=bool)] = numbers
    return whole


def _objects(values: Sequence[str | None]) -> Any:
    import numpy as np

    return np.array(values, dtype=object)


def _rows(found: Found) -> list[Any]:
    rows = zip(_matrix(found), found.there, strict=True)
    return [row if there else None for row, there in rows]


def _series(like: Any, values: Sequence[Any]) -> Any:
    # Its own type, since pandas needn't be installed.
    return type(like)(values, index=like.index, name=like.name, dtype=object)
