"""Columns and tables of other libraries: what goes in, and what comes back."""

import io
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pa_dataset
import pytest

from cfai import EmbedFailure, InputError, WorkersAI
from cfai.testing import FakeWorkersAI, Service, vector_of
from tests.embedding.samples import M3, batches_of, check_vectors, collect, failures_of, texts

GIVEN: list[str | None] = [*texts(1203), None, "last"]
"""More than are read from a column at once, with a hole."""

COLUMNS: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "iterator": iter,
    "numpy": lambda given: np.array(given, dtype=object),
    "pandas": lambda given: pd.Series(given, index=range(7, 7 + len(given)), name="text"),
    "pandas strings": lambda given: pd.Series(given, dtype="string"),
    "pandas categories": lambda given: pd.Series(given, dtype="category"),
    "pandas of Arrow": lambda given: pd.Series(given, dtype=pd.ArrowDtype(pa.string())),
    "polars": lambda given: pl.Series("text", given),
    "polars categories": lambda given: pl.Series("text", given, dtype=pl.Categorical),
    "arrow": pa.array,
    "dictionary": lambda given: pa.array(given).dictionary_encode(),
    "chunked": lambda given: pa.chunked_array([given[:50], given[50:]]),
}


def rows_of(column: Any) -> list[list[float] | None]:
    """The vectors of a column of any kind; `None` for null or NaN."""
    values = column.to_pylist() if hasattr(column, "to_pylist") else list(column)
    rows = [None if value is None else list(value) for value in values]
    return [None if row is None or row[0] != row[0] else row for row in rows]


def expected_rows(given: list[Any]) -> list[list[float] | None]:
    return [None if text is None else vector_of(text).tolist() for text in given]


@pytest.mark.parametrize("on_error", ["yield", "skip"])
@pytest.mark.parametrize("kind", COLUMNS)
async def test_a_column_comes_back_as_it_went_in(
    fake: FakeWorkersAI, ai: WorkersAI, kind: str, on_error: Any
) -> None:
    """With a row for each text, in order; a missing text has no vector."""
    fake.simulates(Service())
    column = COLUMNS[kind](GIVEN)
    job = ai.embed_many(M3, column, on_error=on_error, rate=None, ordered=False)
    result = await job.column()
    assert rows_of(result) == expected_rows(GIVEN)
    assert (job.stats.texts, job.stats.failed) == (1204, 1)
    if isinstance(column, pd.Series):
        assert isinstance(result, pd.Series)
        assert list(result.index) == list(column.index)
        assert result.name == column.name
        assert result.iloc[0].dtype == np.float32
    elif isinstance(column, pl.Series):
        assert isinstance(result, pl.Series)
        assert (result.name, result.dtype) == ("text", pl.Array(pl.Float32, 4))
        assert result.null_count() == 1
    elif isinstance(column, np.ndarray):
        assert (result.shape, result.dtype) == ((1205, 4), np.float32)
    elif isinstance(column, pa.Array | pa.ChunkedArray):
        assert isinstance(result, pa.ChunkedArray) == isinstance(column, pa.ChunkedArray)
        assert result.type == pa.list_(pa.float32(), 4)
    else:
        assert isinstance(result, list)


@pytest.mark.parametrize("kind", COLUMNS)
async def test_a_column_without_texts_comes_back_empty(
    fake: FakeWorkersAI, ai: WorkersAI, kind: str
) -> None:
    fake.simulates(Service())
    column = COLUMNS[kind]([]) if kind not in ("arrow", "dictionary") else pa.array([], pa.string())
    if kind == "chunked":
        column = pa.chunked_array([], pa.string())
    result = await ai.embed_many(M3, column).column()
    assert len(result) == 0
    assert not fake.requests


NAMED: dict[str, list[Any]] = {
    "id": [f"id {n}" for n in range(1205)],
    "text": GIVEN,
    "other": list(range(1205)),
}


class Dataset:
    """A table in the manner of the library `datasets`: it has the names of its columns."""

    column_names = list(NAMED)

    def __getitem__(self, name: str) -> Any:
        return NAMED[name]

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("not read by rows")


TABLES: dict[str, Callable[[], Any]] = {
    "dict": lambda: NAMED,
    "pandas": lambda: pd.DataFrame(NAMED),
    "polars": lambda: pl.DataFrame(NAMED),
    "arrow": lambda: pa.table(NAMED),
    "record batch": lambda: pa.RecordBatch.from_pydict(NAMED),
    "dataset": Dataset,
}


@pytest.mark.parametrize("kind", TABLES)
async def test_a_table_needs_the_name_of_its_column(
    fake: FakeWorkersAI, ai: WorkersAI, kind: str
) -> None:
    """The error lists its columns. Nothing is sent."""
    with pytest.raises(InputError, match="'id', 'text', 'other'"):
        ai.embed_many(M3, TABLES[kind]())
    with pytest.raises(InputError, match=r"'id', 'text', 'other'.* got 'txt'"):
        ai.embed_many(M3, TABLES[kind](), column="txt")
    with pytest.raises(InputError, match="id_column must be one of the table's columns"):
        ai.embed_many(M3, TABLES[kind](), column="text", id_column="key")
    assert not fake.requests


@pytest.mark.parametrize("kind", TABLES)
async def test_a_column_of_a_table_is_embedded(
    fake: FakeWorkersAI, ai: WorkersAI, kind: str
) -> None:
    """With the ids of another column."""
    fake.simulates(Service())
    job = ai.embed_many(
        M3, TABLES[kind](), column="text", id_column="id", on_error="yield", rate=None
    )
    items = await collect(job)
    check_vectors(batches_of(items), [text or "" for text in GIVEN])
    ids = [key for item in batches_of(items) for key in item.ids]
    assert ids == [f"id {n}" for n in range(1205) if n != 1203]
    (failure,) = failures_of(items)
    assert (failure.start, failure.id, failure.text) == (1203, "id 1203", None)
    result = await ai.embed_many(M3, TABLES[kind](), column="text", on_error="skip").column()
    assert rows_of(result) == expected_rows(GIVEN)
    column = TABLES[kind]()["text"]
    assert type(result) is type(column) or isinstance(column, pa.Array)


class ArrowStream:
    """Data of a library that has only the protocol of Arrow's streams."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._data.__arrow_c_stream__(requested_schema)


class ArrowArray:
    """Data of a library that has only the protocol of Arrow's arrays."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def __arrow_c_array__(self, requested_schema: Any = None) -> Any:
        return self._data.__arrow_c_array__(requested_schema)


class Interchange:
    """A table of a library that has only the interchange protocol of data frames."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def __dataframe__(self, nan_as_null: bool = False, allow_copy: bool = True) -> Any:
        return self._data.__dataframe__(nan_as_null, allow_copy)


FOREIGN_TABLES: dict[str, Callable[[], Any]] = {
    "reader": lambda: pa.table(NAMED).to_reader(max_chunksize=500),
    "dataset": lambda: pa_dataset.dataset(pa.table(NAMED)),
    "stream": lambda: ArrowStream(pa.table(NAMED)),
    "stream read once": lambda: ArrowStream(pa.table(NAMED).to_reader(max_chunksize=500)),
    "stream of Polars": lambda: ArrowStream(pl.DataFrame(NAMED)),
    "array": lambda: ArrowArray(pa.RecordBatch.from_pydict(NAMED)),
    "interchange": lambda: Interchange(pa.table(NAMED)),
}


@pytest.mark.parametrize("kind", FOREIGN_TABLES)
async def test_tables_of_other_libraries_are_read_by_their_protocols(
    fake: FakeWorkersAI, ai: WorkersAI, kind: str
) -> None:
    """Like tables of Arrow; the result is an Arrow column."""
    fake.simulates(Service())
    table = FOREIGN_TABLES[kind]
    with pytest.raises(InputError, match="'id', 'text', 'other'"):
        ai.embed_many(M3, table())
    with pytest.raises(InputError, match=r"'id', 'text', 'other'.* got 'txt'"):
        ai.embed_many(M3, table(), column="txt")
    with pytest.raises(InputError, match="id_column must be one of the table's columns"):
        ai.embed_many(M3, table(), column="text", id_column="key")
    assert not fake.requests
    job = ai.embed_many(M3, table(), column="text", id_column="id", on_error="skip", rate=None)
    items = batches_of(await collect(job))
    ids = [key for item in items for key in item.ids]
    assert ids == [f"id {n}" for n in range(1205) if n != 1203]
    check_vectors(items, [text or "" for text in GIVEN])
    result = await ai.embed_many(M3, table(), column="text", on_error="skip", rate=None).column()
    assert isinstance(result, pa.Array | pa.ChunkedArray)
    assert rows_of(result) == expected_rows(GIVEN)


@pytest.mark.parametrize(
    "column",
    [
        ArrowStream(pa.chunked_array([GIVEN[:50], GIVEN[50:]])),
        ArrowStream(pl.Series("text", GIVEN)),
        ArrowArray(pa.array(GIVEN)),
    ],
    ids=["stream", "stream of Polars", "array"],
)
async def test_columns_of_other_libraries_are_read_by_their_protocols(
    fake: FakeWorkersAI, ai: WorkersAI, column: Any
) -> None:
    fake.simulates(Service())
    result = await ai.embed_many(M3, column, on_error="skip", rate=None).column()
    assert isinstance(result, pa.Array | pa.ChunkedArray)
    assert rows_of(result) == expected_rows(GIVEN)


async def test_a_reader_is_read_as_its_texts_are_needed(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """A stream without an end gives vectors."""
    fake.simulates(Service())
    schema = pa.schema([("text", pa.string())])

    def batches() -> Iterator[pa.RecordBatch]:
        while True:
            yield pa.RecordBatch.from_pydict({"text": texts(100)}, schema=schema)

    reader = pa.RecordBatchReader.from_batches(schema, batches())
    async with ai.embed_many(M3, reader, column="text", rate=None, concurrency=1) as job:
        async for batch in job:
            check_vectors(batches_of([batch]), texts(100))
            break


def database() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE documents (id TEXT, text TEXT)")
    rows = zip(NAMED["id"], GIVEN, strict=True)
    connection.executemany("INSERT INTO documents VALUES (?, ?)", rows)
    return connection


def named_rows() -> Iterator[Any]:
    connection = database()
    connection.row_factory = sqlite3.Row
    yield from connection.execute("SELECT * FROM documents")
    connection.close()


def tuple_rows() -> Iterator[Any]:
    connection = database()
    yield from connection.execute("SELECT text, id FROM documents")
    connection.close()


def tuples_with_names() -> Any:
    return pd.DataFrame(NAMED).itertuples()


def pandas_chunks() -> Any:
    file = io.StringIO(pd.DataFrame(NAMED).to_csv(index=False))
    return pd.read_csv(file, chunksize=100)


async def async_tables() -> AsyncIterator[Any]:
    for batch in pa.table(NAMED).to_batches(100):
        yield batch


async def async_rows() -> AsyncIterator[Any]:
    for number, text in enumerate(GIVEN):
        yield {"id": f"id {number}", "text": text}


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        (named_rows, {"column": "text", "id_column": "id"}),
        (tuple_rows, {"column": 0, "id_column": 1}),
        (async_rows, {"column": "text", "id_column": "id"}),
        (tuples_with_names, {"column": "text", "id_column": "id"}),
        (pandas_chunks, {"column": "text", "id_column": "id"}),
        (async_tables, {"column": "text", "id_column": "id"}),
        (lambda: pa.table(NAMED).to_batches(100), {"column": "text", "id_column": "id"}),
        (lambda: deque(pa.table(NAMED).to_batches(100)), {"column": "text", "id_column": "id"}),
        (lambda: deque(named_rows()), {"column": "text", "id_column": "id"}),
        (lambda: pl.DataFrame(NAMED).iter_slices(100), {"column": "text", "id_column": "id"}),
        (lambda: zip(NAMED["id"], GIVEN, strict=True), {}),
    ],
)
async def test_rows_are_embedded(
    fake: FakeWorkersAI, ai: WorkersAI, rows: Any, options: dict[str, Any]
) -> None:
    """Of a database, of any iterable, of tables one after the other, and pairs."""
    fake.simulates(Service())
    items = await collect(ai.embed_many(M3, rows(), on_error="yield", rate=None, **options))
    check_vectors(batches_of(items), [text or "" for text in GIVEN])
    ids = [key for item in batches_of(items) for key in item.ids]
    assert ids == [f"id {n}" for n in range(1205) if n != 1203]


async def test_a_part_of_another_type_fails_row_by_row(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """pandas guesses a type for each part: a year alone is a number."""
    fake.simulates(Service())
    parts = pd.read_csv(io.StringIO("id,text\n1,a\n2,b\n3,2020\n"), chunksize=2)
    job = ai.embed_many(M3, parts, column="text", id_column="id", on_error="yield", rate=None)
    items = await collect(job)
    assert [key for item in batches_of(items) for key in item.ids] == [1, 2]
    (failure,) = failures_of(items)
    assert (failure.id, str(failure.error)) == (3, "a text must be a str, got int: 2020")


async def test_rows_without_the_column_are_refused(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """The error names the row, and what it has."""
    fake.simulates(Service())
    rows = [{"text": "a"}, {"txt": "b"}]
    with pytest.raises(InputError, match=r"row 1 has no 'text' \(found: 'txt'\)"):
        await collect(ai.embed_many(M3, rows, column="text"))
    with pytest.raises(InputError, match="row 0 has no 'text'"):
        await collect(ai.embed_many(M3, ["a"], column="text", on_error="skip"))
    with pytest.raises(InputError, match=r"row 0 is a tuple: choose its text with column= \(a num"):
        await collect(ai.embed_many(M3, [("a", "b", "c")], on_error="skip"))
    with pytest.raises(InputError, match=r"row 0 is a dict: choose its text with column= \('text'"):
        await collect(ai.embed_many(M3, rows))
    with pytest.raises(InputError, match="id_column needs column"):
        ai.embed_many(M3, rows, id_column="text")


KINDS_OF_TABLES: dict[str, Callable[[Any], Any]] = {
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "arrow": pa.table,
    "batch": pa.RecordBatch.from_pydict,
}


@pytest.mark.parametrize("kind", KINDS_OF_TABLES)
async def test_tables_one_after_the_other(fake: FakeWorkersAI, ai: WorkersAI, kind: str) -> None:
    """Rows are counted over all of them; each must have the column."""
    fake.simulates(Service())
    tables = [KINDS_OF_TABLES[kind]({"text": list(part)}) for part in ("ab", "c", "", "de")]
    totals: list[int | None] = []
    items = await collect(
        ai.embed_many(
            M3, tables, column="text", progress=lambda now: totals.append(now.total), rate=None
        )
    )
    check_vectors(batches_of(items), list("abcde"))
    assert [key for item in batches_of(items) for key in item.ids] == [0, 1, 2, 3, 4]
    assert set(totals) == {None}
    tables.append(KINDS_OF_TABLES[kind]({"txt": ["f"]}))
    with pytest.raises(
        InputError, match=r"column must be one of the table's columns .'txt'.*'text'"
    ):
        await collect(ai.embed_many(M3, tables, column="text", rate=None))
    with pytest.raises(InputError, match=r"row 0 is a \w+: choose its text with column= \('text'"):
        await collect(ai.embed_many(M3, tables, on_error="skip"))


async def test_rows_without_names_say_what_to_do(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """What was found, and how to choose a column."""
    cursor = database().execute("SELECT id, text FROM documents")
    with pytest.raises(InputError) as caught:
        await collect(ai.embed_many(M3, cursor, column="text"))
    cursor.connection.close()
    assert str(caught.value) == (
        "row 0 has no 'text' (found: ('id 0', 'text 0'); choose a number below 2, or let the"
        " database give rows with names, as sqlite3 does with `row_factory = sqlite3.Row`)"
    )
    rows = pd.DataFrame({"txt": ["a"]}).itertuples()
    with pytest.raises(InputError, match=r"row 0 has no 'text' \(found: 'Index', 'txt'\)"):
        await collect(ai.embed_many(M3, rows, column="text"))


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 2)), pl.LazyFrame({"text": ["a"]}), "text", b"text", 7, None]
)
async def test_other_objects_are_refused(ai: WorkersAI, wrong: Any) -> None:
    with pytest.raises(InputError):
        await collect(ai.embed_many(M3, wrong))


async def test_a_table_is_no_list_of_texts_for_one_request(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    """It would give the names of its columns."""
    tables: list[Any] = [pd.DataFrame(NAMED), pl.DataFrame(NAMED), pa.table(NAMED)]
    for table in tables:
        with pytest.raises(InputError, match="one column of this table"):
            await ai.embed(M3, table)
    assert not fake.requests


MISSING = [
    None,
    float("nan"),
    complex("nan"),
    Decimal("nan"),
    Decimal("snan"),
    np.float32("nan"),
    np.datetime64("NaT", "s"),
    np.timedelta64("NaT", "s"),
    np.ma.masked,
    pd.NA,
    pd.NaT,
    pa.scalar(None),
    pa.scalar(None, pa.string()),
]


@pytest.mark.parametrize("value", MISSING, ids=lambda value: f"{type(value).__name__} {value}")
@pytest.mark.parametrize("paired", [False, True])
async def test_missing_texts_obey_on_error(
    fake: FakeWorkersAI, ai: WorkersAI, value: Any, paired: bool
) -> None:
    """Nothing is sent for them; the error names the row."""
    service = fake.simulates(Service())
    given: list[Any] = ["a", value, "b", value]
    if paired:
        given = [(f"id {n}", text) for n, text in enumerate(given)]
    failures = failures_of(await collect(ai.embed_many(M3, given, on_error="yield", rate=None)))
    assert [(one.start, one.text) for one in failures] == [(1, None), (3, None)]
    assert all(isinstance(one, EmbedFailure) for one in failures)
    assert [one.id for one in failures] == (["id 1", "id 3"] if paired else [1, 3])
    assert str(failures[0].error) == "the text is missing"
    assert service.counters.requests == 1
    skipped = await collect(ai.embed_many(M3, given, on_error="skip", rate=None))
    assert [item.start for item in skipped] == [0, 2]
    with pytest.raises(InputError, match="the text is missing") as caught:
        await collect(ai.embed_many(M3, given, rate=None))
    assert caught.value.__notes__[0].startswith("it is text number 1 (from 0)")


NO_TEXTS: dict[str, Any] = {
    "int": 7,
    "float": 1.5,
    "bool": True,
    "list": ["a"],
    "dict": {"a": 1},
    "tuple": ("a", "b", "c"),
    "bytes": b"a",
    "bytearray": bytearray(b"a"),
    "date": date(2026, 11, 29),
    "int64": np.int64(7),
    "DataFrame": pd.DataFrame({"a": [1]}),
}


def in_rows(values: Sequence[Any], ids: Sequence[str]) -> Iterator[Any]:
    for key, value in zip(ids, values, strict=True):
        yield {"id": key, "text": value}


NAMED_COLUMNS: dict[str, Any] = {"column": "text", "id_column": "id"}
GIVEN_AS: dict[str, tuple[Any, dict[str, Any]]] = {
    "list": (lambda values, _: values, {}),
    "pairs": (lambda values, ids: zip(ids, values, strict=True), {}),
    "rows": (in_rows, NAMED_COLUMNS),
    "pandas": (
        lambda values, ids: pd.DataFrame({"id": ids, "text": pd.Series(values, dtype=object)}),
        NAMED_COLUMNS,
    ),
    "polars": (lambda values, _: pl.Series("text", values, dtype=pl.Object), {}),
}


@pytest.mark.parametrize("kind", NO_TEXTS)
@pytest.mark.parametrize("given_as", GIVEN_AS)
async def test_what_is_no_text_obeys_on_error(
    fake: FakeWorkersAI, ai: WorkersAI, kind: str, given_as: str
) -> None:
    """Like a missing text; the error says what it is, and names the row."""
    service = fake.simulates(Service())
    build, options = GIVEN_AS[given_as]
    ids = ["w", "x", "y", "z"]

    def given() -> Any:
        return build(["a", NO_TEXTS[kind], "b", NO_TEXTS[kind]], ids)

    problem = f"a text must be a str, got {kind}: "
    failures = failures_of(
        await collect(ai.embed_many(M3, given(), on_error="yield", rate=None, **options))
    )
    assert [(one.start, one.text) for one in failures] == [(1, None), (3, None)]
    has_ids = given_as not in ("list", "polars")
    assert [one.id for one in failures] == (["x", "z"] if has_ids else [1, 3])
    assert all(str(one.error).startswith(problem) for one in failures)
    assert service.counters.requests == 1
    skipped = await collect(ai.embed_many(M3, given(), on_error="skip", rate=None, **options))
    assert [item.start for item in skipped] == [0, 2]
    with pytest.raises(InputError) as caught:
        await collect(ai.embed_many(M3, given(), rate=None, **options))
    assert str(caught.value).startswith(problem)
    assert caught.value.__notes__[0].startswith("it is text number 1 (from 0)")


@pytest.mark.parametrize("options", [{"long": "split"}, {"long": "split", "pool": "mean"}])
async def test_what_is_no_text_is_no_piece(
    fake: FakeWorkersAI, ai: WorkersAI, options: dict[str, Any]
) -> None:
    fake.simulates(Service())
    items = await collect(ai.embed_many(M3, ["a", 7, "b"], on_error="yield", rate=None, **options))
    (failure,) = failures_of(items)
    assert (failure.start, failure.text) == (1, None)
    assert str(failure.error) == "a text must be a str, got int: 7"
    assert sum(map(len, batches_of(items))) == 2


async def test_rows_without_the_column_obey_on_error(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """Except for the first, since then the name of the column is wrong."""
    fake.simulates(Service())
    rows: list[Any] = [{"text": "a"}, None, {"other": "b"}, {"text": "c"}]
    job = ai.embed_many(M3, rows, column="text", on_error="skip", rate=None)
    assert [item.start for item in await collect(job)] == [0, 3]
    assert [(one.start, str(one.error)) for one in job.failures] == [
        (1, "row 1 has no 'text' (found: NoneType None)"),
        (2, "row 2 has no 'text' (found: 'other')"),
    ]


TYPED_COLUMNS: dict[str, Any] = {
    "numpy": np.array([1, 2]),
    "numpy bytes": np.array([b"a"]),
    "numpy dates": np.array(["2026-11-29"], dtype="datetime64[D]"),
    "pandas": pd.Series([1.5, None]),
    "pandas nullable": pd.Series([None, 1], dtype="Int64"),
    "pandas on Arrow": pd.Series([1], dtype=pd.ArrowDtype(pa.int32())),
    "polars": pl.Series([True]),
    "polars lists": pl.Series([["a"]]),
    "arrow": pa.chunked_array([pa.array([None, 2])]),
    "arrow binary": pa.array([b"a"]),
    "arrow structs": pa.array([{"a": "b"}]),
}


@pytest.mark.parametrize("kind", TYPED_COLUMNS)
async def test_columns_of_other_types_are_refused_at_once(
    fake: FakeWorkersAI, ai: WorkersAI, kind: str
) -> None:
    """Whatever *on_error* says, since no row has a text."""
    with pytest.raises(InputError, match="a column of texts must have strings, got the type "):
        await collect(ai.embed_many(M3, TYPED_COLUMNS[kind], on_error="skip"))
    assert not fake.requests


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([np.nan, np.nan]),
        pd.Series([None, None], dtype="Int64"),
        pd.Series([pd.NaT, pd.NaT]),
        pl.Series([None, None], dtype=pl.Int8),
        pa.nulls(2),
        pa.array([None, None], pa.int8()),
    ],
    ids=lambda column: f"{type(column).__module__} {getattr(column, 'dtype', '')}",
)
async def test_columns_of_any_type_may_have_only_missing_texts(ai: WorkersAI, column: Any) -> None:
    """A part of a table, as an engine cuts it, may have no text at all."""
    failures = failures_of(await collect(ai.embed_many(M3, column, on_error="yield")))
    assert [str(one.error) for one in failures] == ["the text is missing"] * 2


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["a", None], dtype="string"),
        pd.Series(["a", None], dtype="category"),
        pd.Series(["a", None], dtype=pd.ArrowDtype(pa.large_string())),
        pl.Series(["a", None], dtype=pl.Categorical),
        pl.Series(["a", None], dtype=pl.Enum(["a"])),
        pa.array(["a", None]).dictionary_encode(),
        pa.array(["a", None], pa.string_view()),
        np.array(["a", None], dtype=object),
    ],
    ids=lambda column: f"{type(column).__module__} {getattr(column, 'dtype', '')}",
)
async def test_columns_of_every_type_for_texts_are_read(
    fake: FakeWorkersAI, ai: WorkersAI, column: Any
) -> None:
    fake.simulates(Service())
    items = await collect(ai.embed_many(M3, column, on_error="yield", rate=None))
    assert [len(item) for item in batches_of(items)] == [1]
    assert [str(one.error) for one in failures_of(items)] == ["the text is missing"]


async def test_missing_texts_do_not_fill_requests(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """Nor does memory grow with a source of nothing else."""
    service = fake.simulates(Service())
    given = [text for one in texts(200) for text in (one, None)]
    job = ai.embed_many(M3, given, on_error="skip", rate=None)
    assert sum(map(len, await collect(job))) == 200
    assert service.counters.requests == 2
    items = await collect(ai.embed_many(M3, [None] * 3000, on_error="yield", rate=None))
    assert len(items) == 3000
    assert service.counters.requests == 2


async def test_rows_of_an_async_source_are_numbered_from_0(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    """Like those of any other source, if there is no column of ids."""

    async def rows() -> AsyncIterator[dict[str, str]]:
        for text in ("one", "two", "three"):
            yield {"text": text}

    fake.simulates(Service())
    items = batches_of(await collect(ai.embed_many(M3, rows(), column="text", batch_size=2)))
    assert [key for item in items for key in item.ids] == [0, 1, 2]


async def test_many_columns_are_listed_in_part(ai: WorkersAI) -> None:
    """In 500 characters."""
    names = [f"column-{number}" for number in range(200)]
    table = pa.table({name: ["x"] for name in names})
    listed = ", ".join(map(repr, names))[:500]
    given: list[tuple[Any, str | None, str]] = [
        (table, "y", f"column must be one of the table's columns ({listed}), got 'y'"),
        (table, None, f"column must name the column of texts, one of: {listed}"),
        ({name: ["x"] for name in names}, None, f"or column=, one of: {listed}"),
    ]
    for source, column, message in given:
        with pytest.raises(InputError) as caught:
            ai.embed_many(M3, source, column=column)
        assert str(caught.value).endswith(message)
