"""A column of texts becomes a column of vectors, in whatever process and thread it is asked for."""

import asyncio
import atexit
import inspect
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from traceback import walk_stack
from types import FrameType
from typing import Any

import attrs
import cloudpickle
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pa_dataset
import pytest
from attrs import define, field, frozen
from hypothesis import given as given_by, settings, strategies as st

from cfai import Adaptive, WorkersAI
from cfai.distributed import ClientOptions, Embedder, _worker
from cfai.errors import BadRequest, ConfigError, InputError
from cfai.testing import Service
from tests.distributed.service import M3, SECRET, ThreadedService, as_matrix, matrix, served, texts

# What goes in, and what comes back...

GIVEN = [*texts(120), None, "text 0", None]

COLUMNS: dict[str, Callable[[list[str | None]], Any]] = {
    "list": list,
    "tuple": tuple,
    "iterator": iter,
    "numpy": lambda given: np.array(given, dtype=object),
    "pandas": lambda given: pd.Series(given, name="text"),
    "pandas of Arrow's": lambda given: pd.Series(given, dtype=pd.ArrowDtype(pa.string())),
    "polars": lambda given: pl.Series("text", given),
    "arrow": pa.array,
    "dictionary": lambda given: pa.array(given).dictionary_encode(),
    "chunked": lambda given: pa.chunked_array([given[:50], given[50:]]),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_each_text_of_any_column_gets_its_vector(
    kind: str, service_thread: ThreadedService
) -> None:
    """In its own row; with "null", a missing text has no vector."""
    result = service_thread.embedder(on_error="null")(COLUMNS[kind](GIVEN))
    assert np.array_equal(as_matrix(result), matrix(GIVEN), equal_nan=True)
    assert service_thread.simulation.counters.texts == 121
    assert service_thread.simulation.counters.requests == 2


@pytest.mark.parametrize("given", [GIVEN, texts(3)], ids=["with nulls", "without"])
def test_the_result_has_the_kind_of_the_column(
    given: list[str | None], service_thread: ThreadedService
) -> None:
    """And the same index and name, if there is one."""
    embedder = service_thread.embedder(on_error="null")

    row = embedder(given)[0]
    assert isinstance(row, array)
    assert row.typecode == "f"

    numbers = embedder(np.array(given, dtype=object))
    assert numbers.dtype == np.float32
    assert numbers.shape == (len(given), 4)
    assert numbers.flags.writeable

    index = [f"row {number}" for number in range(len(given))]
    series = embedder(pd.Series(given, index=index, name="text"))
    assert isinstance(series, pd.Series)
    assert (list(series.index), series.name) == (index, "text")
    assert (series.iloc[0].dtype, series.isna().sum()) == (np.float32, given.count(None))

    for column in (pa.array(given), pa.chunked_array([given])):
        vectors = embedder(column)
        assert isinstance(vectors, pa.ChunkedArray) == isinstance(column, pa.ChunkedArray)
        assert vectors.type == pa.list_(pa.float32(), 4)
        assert vectors.null_count == given.count(None)


def test_numpy_arrays_of_strings_are_columns(service_thread: ThreadedService) -> None:
    """Arrays of strings with a fixed width."""
    assert np.array_equal(service_thread.embedder()(np.array(texts(3))), matrix(texts(3)))


def test_a_series_of_another_engine_becomes_an_arrow_array(service_thread: ThreadedService) -> None:
    """Such as a Series of Daft, which converts to Arrow."""

    class Series:
        def to_arrow(self) -> Any:
            return pa.array(texts(3))

    result = service_thread.embedder()(Series())
    assert result.type == pa.list_(pa.float32(), 4)
    assert np.array_equal(as_matrix(result), matrix(texts(3)))


def test_a_long_text_has_the_mean_of_its_pieces(service_thread: ThreadedService) -> None:
    """A row has one vector."""
    long = "One of many sentences that have some words. " * 2000
    rows = service_thread.embedder(long="split")(["short", long])
    assert as_matrix(rows).shape == (2, 4)
    assert np.array_equal(as_matrix(rows[:1]), matrix(["short"]))
    assert service_thread.simulation.counters.texts > 3
    with pytest.raises(InputError, match="the text has about"):
        service_thread.embedder(long="fail")([long])


TABLES: dict[str, Callable[[], Any]] = {
    "dict of numpy": lambda: {"id": np.arange(3), "text": np.array(texts(3))},
    "dict of lists": lambda: {"id": [0, 1, 2], "text": texts(3)},
    "DataFrame": lambda: pd.DataFrame({"id": [0, 1, 2], "text": texts(3)}),
    "Polars": lambda: pl.DataFrame({"id": [0, 1, 2], "text": texts(3)}),
    "Table": lambda: pa.table({"id": [0, 1, 2], "text": texts(3)}),
    "RecordBatch": lambda: pa.RecordBatch.from_pydict({"id": [0, 1, 2], "text": texts(3)}),
}


def column_names(table: Any) -> list[str]:
    if isinstance(table, pa.Table | pa.RecordBatch):
        return list(table.schema.names)
    return list(table.columns if isinstance(table, pl.DataFrame) else table)


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_is_returned_with_one_more_column(
    kind: str, service_thread: ThreadedService
) -> None:
    """The table that was passed is not changed."""
    table = TABLES[kind]()
    result = service_thread.embedder(column="text", into="v")(table)
    assert type(result) is type(table)
    names = column_names(result)
    assert names == ["id", "text", "v"]
    assert [int(str(key)) for key in result["id"]] == [0, 1, 2]
    assert np.array_equal(as_matrix(result["v"]), matrix(texts(3)))
    assert column_names(table) == ["id", "text"]


class Stream:
    """A table of a library that has only the protocol of Arrow's streams."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return TABLES["Table"]().__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize(
    "table",
    [
        lambda: TABLES["Table"]().to_reader(),
        lambda: pa_dataset.dataset(TABLES["Table"]()),
        Stream,
    ],
    ids=["reader", "dataset", "stream"],
)
def test_what_is_read_by_batches_becomes_an_arrow_table(
    table: Callable[[], Any], service_thread: ThreadedService
) -> None:
    result = service_thread.embedder(column="text", into="v")(table())
    assert isinstance(result, pa.Table)
    assert column_names(result) == ["id", "text", "v"]
    assert np.array_equal(as_matrix(result["v"]), matrix(texts(3)))


@pytest.mark.parametrize("kind", TABLES)
def test_vectors_can_replace_a_column(kind: str, service_thread: ThreadedService) -> None:
    """An existing column is replaced in its place."""
    result = service_thread.embedder(column="text", into="text")(TABLES[kind]())
    names = column_names(result)
    assert names == ["id", "text"]
    assert np.array_equal(as_matrix(result["text"]), matrix(texts(3)))


def test_a_column_without_texts_sends_nothing(service_thread: ThreadedService) -> None:
    """The result has the type of a column with texts."""
    embedder = service_thread.embedder(on_error="null")
    assert embedder([]) == []
    assert embedder([None, None]) == [None, None]
    assert embedder(np.array([], dtype=object)).shape == (0, 1024)
    assert embedder(pa.array([], pa.string())).type == pa.list_(pa.float32(), 1024)
    assert embedder(pa.nulls(2)).null_count == 2
    assert embedder(pa.nulls(2)).type == pa.list_(pa.float32(), 1024)
    assert list(embedder(pd.Series([], dtype=object))) == []
    other = Embedder("@cf/some/model", on_error="null")  # of unknown dimension
    assert other(pa.nulls(2)).null_count == 2
    assert other(np.array([], dtype=object)).shape == (0, 0)
    assert other(np.array([None, None])).shape == (2, 0)
    assert not service_thread.fake.requests


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("one text", "a column must be an iterable of texts, got str"),
        (7, "a column must be an iterable of texts, got int"),
        (
            pa.array([1, 2]),
            "a column of texts must have strings, got the type int64; choose another column",
        ),
        (np.array([["one"], ["two"]]), "a column must have one dimension, got 2"),
        (pl.LazyFrame({"text": ["one"]}), "a LazyFrame has no rows yet: call collect() first"),
        ({"text": {"one": 1}}, "a column must be an iterable of texts, got dict"),
        (
            pd.DataFrame([["one", "two"]], columns=["text", "text"]),
            "column must name one column, but several are called 'text'",
        ),
        ({"a": ["one"]}, "column must be one of the table's columns ('a'), got 'text'"),
        (
            pd.DataFrame({"a": ["one"]}),
            "column must be one of the table's columns ('a'), got 'text'",
        ),
        (pa.table({"a": ["one"]}), "column must be one of the table's columns ('a'), got 'text'"),
    ],
)
def test_other_values_are_refused(column: Any, message: str) -> None:
    """The message names what is wrong."""
    with pytest.raises(InputError) as caught:
        Embedder(M3, column="text")(column)
    assert str(caught.value) == message


def test_a_table_needs_the_name_of_its_column() -> None:
    """It is not guessed."""
    with pytest.raises(InputError, match=r"column must name the column of texts, one of: 'a', 'b'"):
        Embedder(M3)({"a": ["one"], "b": ["two"]})


# What can't be embedded...


def test_a_refused_text_ends_the_call() -> None:
    """By default, as in a job."""
    with (
        served(Service(poison=lambda text: text == "text 7")) as service_thread,
        pytest.raises(BadRequest),
    ):
        service_thread.embedder()(texts(20))


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_missing_text_ends_the_call(kind: str, service_thread: ThreadedService) -> None:
    """By default, as in a job. The error names its row."""
    with pytest.raises(InputError, match="the text is missing") as caught:
        service_thread.embedder()(COLUMNS[kind](GIVEN))
    assert caught.value.__notes__ == ["it is text number 120 (from 0)"]


NO_TEXTS: dict[str, Any] = {"int": 7, "list": ["a"], "bytes": b"a"}


@pytest.mark.parametrize("kind", NO_TEXTS)
def test_what_is_no_text_obeys_on_error(kind: str, service_thread: ThreadedService) -> None:
    """Like a missing text, also in a column without any text."""
    problem = f"a text must be a str, got {kind}: "
    embedder = service_thread.embedder(column="text", on_error="null", errors="error")
    table = pd.DataFrame({"text": pd.Series(["one", NO_TEXTS[kind], "two"], dtype=object)})
    result = embedder(table)
    assert [vector is None for vector in result["vector"]] == [False, True, False]
    assert [(error or "").startswith(problem) for error in result["error"]] == [False, True, False]
    requests = len(service_thread.fake.requests)
    assert embedder(table[1:2])["error"].iloc[0].startswith(problem)
    assert len(service_thread.fake.requests) == requests
    with pytest.raises(InputError, match=problem) as caught:
        service_thread.embedder()(["one", NO_TEXTS[kind]])
    assert caught.value.__notes__ == ["it is text number 1 (from 0)"]


def test_a_refused_text_can_be_left_without_a_vector() -> None:
    """With "null", all other texts get their vectors."""
    given = [None, *texts(20), ""]
    with served(Service(poison=lambda text: text == "text 7")) as service_thread:
        result = service_thread.embedder(on_error="null")(pa.array(given))
    refused = {0, 8, 21}
    expected = [None if row in refused else text for row, text in enumerate(given)]
    assert np.array_equal(as_matrix(result), matrix(expected), equal_nan=True)


@pytest.mark.parametrize("kind", TABLES)
def test_a_column_of_errors_says_why_a_text_has_no_vector(kind: str) -> None:
    """It is null for texts with a vector."""
    table = TABLES[kind]()
    options = {"column": "text", "on_error": "null", "errors": "why"}
    with served(Service(poison=lambda text: text == "text 1")) as service_thread:
        result = service_thread.embedder(**options)(table)
    said = result["why"].to_pylist() if hasattr(result["why"], "to_pylist") else list(result["why"])
    assert said[::2] == [None, None]
    assert "Bad input" in said[1]
    assert np.array_equal(
        as_matrix(result["vector"]), matrix(["text 0", None, "text 2"]), equal_nan=True
    )


def test_any_mix_of_texts_in_any_kind_of_column() -> None:
    """Each text gets its own vector, in its own row."""
    text = st.sampled_from(["one", "two", "three", "poison", "", None])

    with served(Service(poison=lambda text: text == "poison")) as service_thread:

        @given_by(
            given=st.lists(text, max_size=40),
            kind=st.sampled_from(sorted(COLUMNS)),
            batch_size=st.integers(1, 7),
            dedupe=st.booleans(),
        )
        @settings(max_examples=60, deadline=None, database=None)
        def holds(given: list[str | None], kind: str, batch_size: int, dedupe: bool) -> None:
            embedder = service_thread.embedder(
                on_error="null", batch_size=batch_size, dedupe=dedupe, rate=None
            )
            typed = pa.array(given, pa.string())
            column = typed if kind in {"arrow", "dictionary"} else COLUMNS[kind](given)
            expected = [one if one not in {"poison", ""} else None for one in given]
            result = as_matrix(embedder(column))
            assert len(result) == len(given)
            if any(expected):
                assert np.array_equal(result, matrix(expected), equal_nan=True)

        holds()


def test_equal_texts_are_sent_once(service_thread: ThreadedService) -> None:
    """With `dedupe`, as in a job."""
    given = ["one", "two"] * 60
    assert np.array_equal(as_matrix(service_thread.embedder(dedupe=True)(given)), matrix(given))
    assert service_thread.simulation.counters.texts == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "Embedder.workers must be a whole number, 1 or more, got 0"),
        ({"workers": True}, "Embedder.workers must be a whole number, 1 or more, got True"),
        ({"column": 1}, "Embedder.column must be the name of a column, got 1"),
        ({"into": None}, "Embedder.into must be the name of a column, got None"),
        ({"on_error": "yield"}, "on_error must be one of raise, null, got 'yield'"),
        ({"errors": 1}, "Embedder.errors must be the name of a column, got 1"),
        (
            {"errors": "why"},
            "errors needs on_error='null': with 'raise', the first error ends the call",
        ),
        ({"client": "x"}, "client must be a dict, got str"),
        ({"rate": -1}, 'rate must be requests per minute, "auto" or None, got -1'),
        ({"rate": "fast"}, "rate must be requests per minute, \"auto\" or None, got 'fast'"),
        ({"batch_size": 101}, "batch_size must be at most 100 for @cf/baai/bge-m3, got 101"),
        (
            {"client": {"session": None}},
            "client must not have a session: it cannot go to another process",
        ),
        (
            {"client": {"token": "x"}},
            "client must have only arguments of WorkersAI, got 'token'",
        ),
    ],
)
def test_options_are_checked_when_it_is_created(options: dict[str, Any], message: str) -> None:
    """A mistake is result before a cluster works on it."""
    with pytest.raises(InputError) as caught:
        Embedder(M3, **options)
    assert str(caught.value) == message


@pytest.mark.parametrize("on_error", ["raise", "null"])
@pytest.mark.parametrize("long", ["warn", "fail", "split"])
def test_every_way_with_long_texts_and_errors_is_an_option(long: Any, on_error: Any) -> None:
    embedder = Embedder(M3, long=long, on_error=on_error)
    assert (embedder.long, embedder.on_error) == (long, on_error)


# Where it is called...


def test_it_can_be_called_in_a_thread_with_a_loop(service_thread: ThreadedService) -> None:
    """As in asynchronous workers."""

    async def main() -> Any:
        return service_thread.embedder()(texts(3))

    assert np.array_equal(as_matrix(asyncio.run(main())), matrix(texts(3)))


def copied(embedder: Embedder) -> Embedder:
    """The copy that a worker gets from a pickle."""
    copy = pickle.loads(pickle.dumps(embedder))  # noqa: S301  # our own
    assert isinstance(copy, Embedder)
    return copy


def worker_threads() -> set[int]:
    """The threads of a worker: the one that runs its loop, and the one that cancels calls."""
    stacks = {number: walk_stack(frame) for number, frame in sys._current_frames().items()}
    codes = {number: {frame.f_code for frame, _ in stack} for number, stack in stacks.items()}
    served = {_worker.Worker._serve.__code__, _worker.Worker._cancel_abandoned.__code__}
    return {number for number, stack in codes.items() if served & stack}


def test_the_threads_of_a_process_share_a_loop(service_thread: ThreadedService) -> None:
    """However many calls and copies there are."""
    copies = [copied(service_thread.embedder()) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        result = list(pool.map(lambda copy: copy(texts(150)), copies))
    for vectors in result:
        assert np.array_equal(as_matrix(vectors), matrix(texts(150)))
    assert len(worker_threads()) == 2
    assert service_thread.simulation.counters.requests == 16


class Interrupted(Exception):
    """Stands for `KeyboardInterrupt`, which would end the tests."""


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs SIGUSR1")
def test_an_interrupted_call_cancels_its_request(service_thread: ThreadedService) -> None:
    """The next call works."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    def once_it_is_asked() -> None:
        service_thread.until(lambda: service_thread.fake.requests)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    service_thread.fake.stalls()
    embedder = service_thread.embedder()
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with ThreadPoolExecutor(1) as pool, pytest.raises(Interrupted):
            pool.submit(once_it_is_asked)
            embedder(["one"])
    finally:
        signal.signal(signal.SIGUSR1, before)
    service_thread.until(lambda: service_thread.fake.connections == 0)
    assert np.array_equal(as_matrix(embedder(["one"])), matrix(["one"]))


INTERRUPTED = {
    f.__code__: f.__name__
    for f in (_worker.Worker.run, _worker.Worker._running_loop, _worker._Call.result)
}


@pytest.mark.parametrize(
    ("is_first", "number"),
    [*((True, number) for number in range(14)), *((False, number) for number in range(10))],
)
def test_an_interrupt_at_any_line_leaves_nothing_under_way(
    service_thread: ThreadedService, is_first: bool, number: int
) -> None:
    """No task, no lock and no thread; also between the start of the work and the wait for it."""
    before, worker, waiting = worker_threads(), _worker.Worker(), Waiting()
    lines: set[int] = set()

    def interrupt(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code not in INTERRUPTED:
            return None
        # At the second visit of `with`, before the lock is released, Python handles no signal.
        if event == "line" and frame.f_lineno not in lines:
            lines.add(frame.f_lineno)
            if len(lines) > number:
                raise Interrupted
        return interrupt

    async def wait_for_others() -> set[Any]:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        return (await asyncio.wait(others, timeout=10))[1] if others else set()

    if not is_first:
        assert not worker.run(wait_for_others)
    tracer = sys.gettrace()
    try:
        with pytest.raises(Interrupted):
            sys.settrace(interrupt)
            worker.run(waiting.work)
    finally:
        sys.settrace(tracer)
    try:
        assert not worker.run(wait_for_others)
        service_thread.until(lambda: len(worker_threads() - before) == 2)
    finally:
        atexit.unregister(worker._end)
        worker._end()
    service_thread.until(lambda: worker_threads() == before)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
def test_a_second_interrupt_leaves_nothing_under_way() -> None:
    """At any moment after the first one, which the worker handles meanwhile."""
    worker, waiting, interrupts = _worker.Worker(), Waiting(), 0

    def interrupt(*_: object) -> None:
        nonlocal interrupts
        interrupts += 1
        if interrupts == 1:
            signal.setitimer(signal.ITIMER_REAL, (number + 1) * 1e-6)
        raise Interrupted

    def wait_for_the_second() -> None:
        while interrupts < 2:
            pass

    async def list_others() -> set[Any]:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        return (await asyncio.wait(others, timeout=10))[1] if others else set()

    assert not worker.run(list_others)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for number in range(150):
            interrupts = 0
            with suppress(Interrupted):
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.001)
                    worker.run(waiting.work)
                finally:
                    wait_for_the_second()
            assert not worker.run(list_others), number
    finally:
        signal.signal(signal.SIGALRM, before)
        atexit.unregister(worker._end)
        worker._end()


def test_copies_in_one_process_share_its_rate(service_thread: ThreadedService) -> None:
    """Copies with equal options share a client, so that threads do not multiply the rate."""
    shared = service_thread.embedder(rate=2400, workers=2, batch_size=1)
    copies = [copied(shared), copied(shared)]
    began = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda copy: copy(texts(15)), copies))
    # 20 a second are this process's share, of which half a second's may go at once.
    assert time.monotonic() - began >= (30 - 10) / 20


def test_the_environment_is_read_at_each_call(
    service_thread: ThreadedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a corrected token is used."""
    for name in ("CLOUDFLARE_API_TOKEN", "CLOUDFLARE_ACCOUNT_ID", "CLOUDFLARE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    embedder = Embedder(M3, client={"base_url": service_thread.fake.base_url})
    with pytest.raises(ConfigError, match="CLOUDFLARE_API_TOKEN"):
        embedder(["one"])
    monkeypatch.setenv("CLOUDFLARE_ACCOUNT_ID", "account")
    for token in ("the-first-token", "the-second-token"):
        monkeypatch.setenv("CLOUDFLARE_API_TOKEN", token)
        embedder(["one"])
    sent = [request.headers["Authorization"] for request in service_thread.fake.requests]
    assert sent == ["Bearer the-first-token", "Bearer the-second-token"]


@pytest.mark.parametrize("pickler", [pickle, cloudpickle], ids=lambda module: module.__name__)
def test_a_pickle_has_no_secrets_of_the_environment(
    pickler: Any, service_thread: ThreadedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after it was called."""
    monkeypatch.setenv("CLOUDFLARE_ACCOUNT_ID", "account")
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", SECRET)
    embedder = Embedder(M3, client={"base_url": service_thread.fake.base_url}, workers=3)
    embedder(["one"])
    parcel = pickler.dumps(embedder)
    assert SECRET.encode() not in parcel
    assert SECRET not in repr(embedder)
    copy = pickler.loads(parcel)
    assert repr(copy) == repr(embedder)
    assert np.array_equal(as_matrix(copy(texts(2))), matrix(texts(2)))


def test_a_secret_argument_is_pickled_and_not_shown(service_thread: ThreadedService) -> None:
    """The other process needs it; no `repr` shows it."""
    embedder = service_thread.embedder()
    assert SECRET.encode() in pickle.dumps(embedder)
    assert SECRET not in repr(embedder)


def test_client_options_are_the_arguments_of_the_client() -> None:
    """All but objects of one process."""
    known = set(inspect.signature(WorkersAI).parameters) - {"unknown"}
    assert known - {"session", "observers", "ssl"} == set(ClientOptions.__annotations__)


def test_it_can_be_subclassed() -> None:
    """As Ray does, whose instances have more attributes; the options cannot be changed."""

    @define(slots=False, eq=False)
    class Wrapped(Embedder):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.pool = "of threads"
            super().__init__(*args, **kwargs)

    wrapped = Wrapped(M3, column="text")
    assert (wrapped.pool, wrapped.column) == ("of threads", "text")
    with pytest.raises(AttributeError):
        Embedder(M3).workers = 2


PROCESS = """
import os, sys, threading
from cfai.distributed import Embedder

embedder = Embedder("@cf/baai/bge-m3", client={"base_url": sys.argv[1]})
assert len(embedder(["one", "two"])) == 2
"""

FORK = """
import warnings
# Later Pythons warn of any fork where threads are.
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
child = os.fork()
assert embedder(["three"])[0] == embedder(["three"])[0]
if child:
    assert os.waitpid(child, 0)[1] == 0
"""

IN_USE = """
from cfai import ConfigError

def embed_until_the_end():
    try:
        while True:
            embedder(["three"])
    except ConfigError as error:
        assert "process is ending" in str(error)

threading.Thread(target=embed_until_the_end, daemon=True).start()
"""


@pytest.mark.parametrize(
    "more",
    [
        "",
        pytest.param(
            FORK, marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
        ),
        IN_USE,
    ],
    ids=["used", "forked", "in use"],
)
def test_a_process_ends_without_warnings(more: str, service_thread: ThreadedService) -> None:
    """Nothing is left open; a forked child has its own loop and client."""
    # By a name that must be looked up: that takes threads of the loop's, and they end, too.
    address = service_thread.fake.base_url.replace("127.0.0.1", "localhost")
    known = {"CLOUDFLARE_ACCOUNT_ID": "account", "CLOUDFLARE_API_TOKEN": SECRET}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROCESS + more, address],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | known,
        timeout=30,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@frozen
class Waiting:
    """Work that waits for ever, and what it leaves behind when it ends."""

    started: threading.Event = field(factory=threading.Event)
    ended: list[str] = field(factory=list)
    loops: list[asyncio.AbstractEventLoop] = field(factory=list)
    _generators: list[AsyncIterator[None]] = field(factory=list)

    async def work(self) -> None:
        generator = self._generate()
        self._generators.append(generator)  # Nobody closes it but the loop.
        await anext(generator)
        self.loops.append(asyncio.get_running_loop())
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.ended.append("task")

    async def _generate(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await asyncio.sleep(0)
            self.ended.append("generator")


def test_work_that_waits_ends_with_the_process(service_thread: ThreadedService) -> None:
    """Its caller gets an error, instead of waiting for a service that never answers."""
    before, worker, waiting = worker_threads(), _worker.Worker(), Waiting()
    messages: list[str] = []

    def call() -> None:
        try:
            worker.run(waiting.work)
        except ConfigError as error:
            messages.append(str(error))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    try:
        assert waiting.started.wait(30)
    finally:
        atexit.unregister(worker._end)
        worker._end()
    thread.join(30)
    assert messages == ["the process is ending: no more texts can be embedded"]
    assert waiting.ended == ["task", "generator"]
    assert [loop.is_closed() for loop in waiting.loops] == [True]
    service_thread.until(lambda: worker_threads() == before)
    with pytest.raises(ConfigError, match="the process is ending"):
        worker.run(waiting.work)


def test_a_worker_that_did_nothing_ends_at_once() -> None:
    before, worker = worker_threads(), _worker.Worker()
    worker._end()
    assert worker_threads() == before


def test_the_defaults() -> None:
    """Everything but the model is named."""
    embedder = Embedder(M3)
    values = {name: getattr(embedder, name) for name in attrs.fields_dict(Embedder)}
    assert values == {
        "model": M3,
        "workers": 1,
        "column": None,
        "into": "vector",
        "on_error": "raise",
        "errors": None,
        "rate": "auto",
        "concurrency": Adaptive(),
        "batch_size": None,
        "max_batch_chars": None,
        "pooling": None,
        "truncate": None,
        "long": "warn",
        "dedupe": False,
        "options": None,
        "client": {},
    }
    parameters = list(inspect.signature(Embedder).parameters.values())
    assert [
        parameter.name for parameter in parameters if parameter.kind.name != "KEYWORD_ONLY"
    ] == ["model"]
    with pytest.raises(attrs.exceptions.FrozenAttributeError):
        embedder.workers = 2
