"""Long texts that are embedded in pieces: rows, order, failures, checkpoints, and mean vectors."""

import math
import random
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given as given_by, settings, strategies as st

from cfai import BadRequest, EmbeddedBatch, EmbedFailure, InputError, Progress, WorkersAI
from cfai.embedding.pieces import mean_vector
from cfai.testing import FakeWorkersAI, Service, vector_of
from tests.embedding.samples import M3, collect, is_poison

SMALL = "@cf/baai/bge-small-en-v1.5"
EMBEDDING_GEMMA = "@cf/google/embeddinggemma-300m"


def sentences(count: int, name: str = "text") -> str:
    """A text of sentences of which each is different."""
    return " ".join(f"Sentence {number} of {name} has some words." for number in range(count))


GIVEN: list[str | None] = [
    "short",
    sentences(40, "A"),
    None,
    sentences(7, "B"),
    "",
    "  short, too ",
    sentences(90, "C"),
]
SPLIT: Any = {"long": "split", "piece_tokens": 64, "rate": None}


def rows_of(items: list[Any]) -> list[tuple[int, Any, str | None, Any, Any]]:
    """Place, id, text, piece, and vector or error, of each row of some items."""
    rows: list[tuple[int, Any, str | None, Any, Any]] = []
    for item in items:
        if isinstance(item, EmbedFailure):
            rows.append((item.start, item.id, item.text, item.piece, item.error))
            continue
        assert isinstance(item, EmbeddedBatch)
        assert len(item) == len(item.pieces) == len(item.ids) == len(item.texts)
        assert item.start == item.pieces[0].place
        rows += [
            (piece.place, key, text, piece, vector)
            for key, text, piece, vector in zip(
                item.ids, item.texts, item.pieces, item.vectors, strict=True
            )
        ]
    return rows


def check_rows(rows: list[tuple[int, Any, str | None, Any, Any]], given: list[str | None]) -> None:
    """Each row is the piece that its offsets name, with its vector; no character is lost."""
    by_place: dict[int, list[Any]] = {}
    for row in rows:
        by_place.setdefault(row[0], []).append(row)
    assert sorted(by_place) == list(range(len(given)))
    for place, text in enumerate(given):
        members = sorted(by_place[place], key=lambda row: row[3].number)
        assert [row[3].number for row in members] == list(range(len(members)))
        assert [row[3].is_last for row in members] == [False] * (len(members) - 1) + [True]
        end = 0
        for _, _, part, piece, outcome in members:
            if not text:
                assert (piece.start, piece.end, part) == (0, 0, text)
                assert isinstance(outcome, InputError)
                continue
            assert part == text[piece.start : piece.end]
            assert outcome == vector_of(part)
            assert not text[end : piece.start].strip()
            end = piece.end
        assert not (text or "")[end:].strip()


@pytest.mark.parametrize("ordered", [True, False])
async def test_each_piece_is_a_row(fake: FakeWorkersAI, ai: WorkersAI, ordered: bool) -> None:
    """With the id of its text, its number, and where it is in the text."""
    fake.simulates(Service())
    source = [(f"id {place}", text) for place, text in enumerate(GIVEN)]
    job = ai.embed_many(M3, source, on_error="yield", ordered=ordered, batch_size=4, **SPLIT)
    rows = rows_of(await collect(job))
    check_rows(rows, GIVEN)
    assert all(key == f"id {place}" for place, key, *_ in rows)
    if ordered:
        assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    stats = job.stats
    assert (stats.texts, stats.failed, stats.truncated) == (5, 2, 0)
    assert stats.pieces == len(rows) - 2 > 15
    assert [failure.start for failure in job.failures] == [2, 4]


async def test_ids_are_places_of_texts(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.simulates(Service())
    items = await collect(ai.embed_many(M3, [sentences(40), "b"], **SPLIT))
    assert {row[1] for row in rows_of(items)} == {0, 1}


async def test_a_short_text_is_sent_as_it_is(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.simulates(Service())
    await collect(ai.embed_many(M3, [" a text \n"], long="split"))
    assert fake.requests[0].json()["text"] == [" a text \n"]


async def test_pieces_fit_the_window_of_the_model(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """512 tokens for the English models, 8,192 for bge-m3."""
    fake.simulates(Service())
    text = sentences(2000)
    for model, least, most in ((SMALL, 40, 90), (M3, 3, 6)):
        job = ai.embed_many(model, [text], long="split")
        assert least <= len(await job.numpy()) <= most
        assert job.stats.truncated == 0


async def test_pieces_share_requests(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """At least seven of 8,192 tokens for bge-m3, which takes 60,000."""
    service = fake.simulates(Service())
    job = ai.embed_many(M3, [sentences(12_000)], long="split")
    await job.numpy()
    assert job.stats.pieces > 15
    assert service.counters.requests <= math.ceil(job.stats.pieces / 7)


# One vector for each text...


def expected_mean(text: str, spans: list[tuple[int, int]]) -> list[float]:
    """The mean, computed in another way."""
    vectors = np.array([vector_of(text[start:end]) for start, end in spans], dtype=np.float64)
    weights = np.array([end - start for start, end in spans], dtype=np.float64)
    mean = (vectors * weights[:, None]).sum(0)
    norm = (np.linalg.norm(vectors, axis=1) * weights).sum() / weights.sum()
    result: list[float] = (mean / np.linalg.norm(mean) * norm).tolist()
    return result


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_mean_has_a_row_for_each_text(
    fake: FakeWorkersAI, ai: WorkersAI, ordered: bool
) -> None:
    fake.simulates(Service())
    options: Any = {**SPLIT, "on_error": "yield", "batch_size": 4, "ordered": ordered}
    pieces = rows_of(await collect(ai.embed_many(M3, GIVEN, overlap=0.0, **options)))
    source = [(f"id {place}", text) for place, text in enumerate(GIVEN)]
    job = ai.embed_many(M3, source, pool="mean", **options)
    items = await collect(job)
    found: dict[int, Any] = {}
    for item in items:
        if isinstance(item, EmbedFailure):
            found[item.start] = item.error
            assert item.id == f"id {item.start}"
            continue
        assert item.pieces == ()
        for place, vector in enumerate(item.vectors, start=item.start):
            index = place - item.start
            assert (item.ids[index], item.texts[index]) == (f"id {place}", GIVEN[place])
            found[place] = vector
    assert sorted(found) == list(range(len(GIVEN)))
    if ordered:
        starts = [item.start for item in items]
        assert starts == sorted(starts)
    for place, text in enumerate(GIVEN):
        if not text:
            assert isinstance(found[place], InputError)
            continue
        spans = [(piece.start, piece.end) for at, _, _, piece, _ in pieces if at == place]
        assert list(found[place]) == pytest.approx(expected_mean(text, spans), abs=1e-6)
    assert (job.stats.texts, job.stats.failed) == (5, 2)
    assert job.stats.pieces == len(pieces) - 2


VECTORS = st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3).filter(
    lambda vector: math.hypot(*vector) > 0.1
)


@settings(deadline=None)
@given_by(st.lists(st.tuples(st.integers(1, 5000), VECTORS), min_size=2, max_size=9))
def test_a_mean_is_as_long_as_the_vectors(parts: list[tuple[int, list[float]]]) -> None:
    """Vectors of length 1 have a mean of length 1."""
    units = [(n, array("f", [x / math.hypot(*vector) for x in vector])) for n, vector in parts]
    mean = mean_vector(units)
    plain = np.sum([np.array(vector) * n for n, vector in units], axis=0)
    if np.linalg.norm(plain) > 1e-3 * sum(n for n, _ in parts):
        assert math.hypot(*mean) == pytest.approx(1, abs=1e-5)
        assert np.dot(mean, plain) / np.linalg.norm(plain) == pytest.approx(1, abs=1e-4)


def test_opposite_vectors_have_no_mean_direction() -> None:
    """And no division by zero."""
    assert list(mean_vector([(5, array("f", [1, 0])), (5, array("f", [-1, 0]))])) == [0, 0]


async def test_usage_is_on_the_first_text_that_is_complete(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    """The sum over all batches is what the requests cost."""

    def answer(request: Any) -> dict[str, Any]:
        given = request.json()["text"]
        usage = {"prompt_tokens": len(given), "total_tokens": len(given)}
        return {"shape": [len(given), 1], "data": [[1.0]] * len(given), "usage": usage}

    fake.always.answers_by(answer)
    for pool in (None, "mean"):
        options: Any = {**SPLIT, "pool": pool, "batch_size": 3}
        job = ai.embed_many(M3, [sentences(40), "b", sentences(20)], **options)
        items = await collect(job)
        usages = [item.usage for item in items if item.usage is not None]
        assert sum(usage.total_tokens for usage in usages) == job.stats.pieces


# Failures...


async def test_a_piece_that_fails_is_a_failure_of_its_own(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    """The other pieces of its text have their vectors."""
    fake.simulates(Service(poison=is_poison))
    text = sentences(20) + " Some poison is here. " + sentences(20, "the rest")
    job = ai.embed_many(M3, ["a", text, "b"], on_error="yield", **SPLIT)
    items = await collect(job)
    (failure,) = [item for item in items if isinstance(item, EmbedFailure)]
    assert failure.piece is not None
    assert failure.start == failure.id == 1
    assert failure.text == text[failure.piece.start : failure.piece.end]
    assert "poison" in failure.text
    numbers = [row[3].number for row in rows_of(items) if row[0] == 1]
    assert numbers == list(range(len(numbers)))
    assert (job.stats.texts, job.stats.failed) == (2, 1)
    assert job.failures == (failure,)


@pytest.mark.parametrize("on_error", ["yield", "skip"])
async def test_a_mean_needs_all_pieces(fake: FakeWorkersAI, ai: WorkersAI, on_error: Any) -> None:
    """A text with a piece that failed has no vector, since it would stand for the rest only."""
    fake.simulates(Service(poison=is_poison))
    text = sentences(20) + " Some poison is here. " + sentences(20, "the rest") + " poison"
    job = ai.embed_many(M3, ["a", text, "b"], pool="mean", on_error=on_error, **SPLIT)
    items = await collect(job)
    (failure,) = job.failures
    assert (failure.start, failure.text) == (1, text)
    assert isinstance(failure.error, BadRequest)
    assert (job.stats.texts, job.stats.failed) == (2, 1)
    assert [item.start for item in items] == ([0, 1, 2] if on_error == "yield" else [0, 2])


@pytest.mark.parametrize("pool", [None, "mean"])
async def test_an_error_names_the_text_and_the_place_in_it(
    fake: FakeWorkersAI, ai: WorkersAI, pool: Any
) -> None:
    fake.simulates(Service(poison=is_poison))
    text = sentences(30) + " poison. " + sentences(30)
    with pytest.raises(BadRequest) as caught:
        await collect(ai.embed_many(M3, [("x", "a"), ("y", text)], pool=pool, **SPLIT))
    (note,) = caught.value.__notes__
    assert note.startswith("it is text number 1 (from 0), id 'y', characters ")
    start, _, end = note.rpartition("characters ")[2].partition(" to ")
    assert "poison" in text[int(start) : int(end)]


# With the other options...


@pytest.mark.parametrize("pool", [None, "mean"])
@pytest.mark.parametrize("mode", ["direct", "queue"])
async def test_a_checkpoint_resumes_with_identical_results(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, pool: Any, mode: Any
) -> None:
    """After the quota ended a job in the middle of a text."""
    source = [sentences(60, f"text {number}") for number in range(12)]
    options: Any = {**SPLIT, "pool": pool, "batch_size": 7, "concurrency": 2, "mode": mode}
    fake.simulates(Service())
    whole = await ai.embed_many(M3, source, **options).numpy()
    service = fake.simulates(Service(quota=60))
    with pytest.raises(Exception, match=r"quota|allocation"):
        await ai.embed_many(M3, source, checkpoint=tmp_path / "x.db", **options).numpy()
    sent = service.counters.texts
    service = fake.simulates(Service())
    job = ai.embed_many(M3, source, checkpoint=tmp_path / "x.db", **options)
    assert (await job.numpy()).tobytes() == whole.tobytes()
    assert 0 < service.counters.texts <= job.stats.pieces - sent + 14
    assert job.stats.known == job.stats.pieces - service.counters.texts
    job = ai.embed_many(M3, source, checkpoint=tmp_path / "x.db", **options)
    assert (await job.numpy()).tobytes() == whole.tobytes()
    assert (job.stats.requests, job.stats.known) == (0, job.stats.pieces)


async def test_other_pieces_share_a_checkpoint(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    """A vector belongs to the text of a piece, however it was cut: what is equal is not sent."""
    service = fake.simulates(Service())
    source = ["short", sentences(40)]
    for options, sent in (({}, 2), (SPLIT, 9), ({**SPLIT, "pool": "mean", "overlap": 0.1}, 0)):
        before = service.counters.texts
        await ai.embed_many(M3, source, checkpoint=tmp_path / "x.db", **options).numpy()
        assert (service.counters.texts - before > 0) == (sent > 0)


async def test_equal_pieces_are_sent_once(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    service = fake.simulates(Service())
    source = [sentences(40)] * 5
    job = ai.embed_many(M3, source, dedupe=True, **SPLIT)
    check_rows(rows_of(await collect(job)), list(source))
    assert service.counters.texts * 5 == job.stats.pieces
    assert job.stats.known == job.stats.pieces * 4 // 5


async def test_progress_counts_texts(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """Pieces do not make more of them than the source has."""
    fake.simulates(Service())
    seen: list[Progress] = []
    source = [sentences(40)] * 20
    for pool in (None, "mean"):
        options: Any = {**SPLIT, "pool": pool, "progress": seen.append, "batch_size": 10}
        await collect(ai.embed_many(M3, source, **options))
        assert all(progress.done <= 20 for progress in seen)
        assert (seen[-1].done, seen[-1].total, seen[-1].seconds_left) == (20, 20, 0)


# Results...


@pytest.mark.parametrize("ordered", [True, False])
async def test_tables_have_the_offsets(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, ordered: bool
) -> None:
    fake.simulates(Service())
    options: Any = {**SPLIT, "on_error": "yield", "ordered": ordered, "batch_size": 5}
    table = await ai.embed_many(M3, GIVEN, **options).arrow()
    names = ["place", "id", "piece", "start", "end", "vector", "error"]
    assert table.column_names == names
    for row in table.to_pylist():
        text = GIVEN[row["place"]]
        if not text:
            assert row["error"]
            assert (row["piece"], row["start"], row["end"], row["vector"]) == (0, 0, 0, None)
        else:
            assert row["vector"] == vector_of(text[row["start"] : row["end"]]).tolist()
    keys = [(row["place"], row["piece"]) for row in table.to_pylist()]
    assert keys == sorted(keys)
    for name in ("x.parquet", "folder"):
        await ai.embed_many(M3, GIVEN, **options).to_parquet(tmp_path / name)
        assert (
            pq.read_table(tmp_path / name).sort_by([("place", "ascending"), ("piece", "ascending")])
            == table
        )
    await ai.embed_many(M3, [], **options).to_parquet(tmp_path / "empty.parquet")
    assert pq.read_table(tmp_path / "empty.parquet").column_names == names
    table = await ai.embed_many(M3, GIVEN, pool="mean", **options).arrow()
    assert table.column_names == ["place", "id", "vector", "error"]


COLUMNS: dict[str, Any] = {
    "list": list,
    "numpy": lambda given: np.array(given, dtype=object),
    "pandas": lambda given: pd.Series(given, index=range(7, 7 + len(given)), name="text"),
    "polars": lambda given: pl.Series("text", given),
    "arrow": pa.array,
    "chunked": lambda given: pa.chunked_array([given[:2], given[2:]]),
}


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("kind", COLUMNS)
async def test_a_column_has_the_vectors_of_each_text(
    fake: FakeWorkersAI, ai: WorkersAI, kind: str, ordered: bool
) -> None:
    """A list of vectors in each row, or null."""
    fake.simulates(Service())
    options: Any = {**SPLIT, "on_error": "skip", "ordered": ordered, "batch_size": 5}
    pieces = rows_of(await collect(ai.embed_many(M3, GIVEN, **options)))
    pieces.sort(key=lambda row: (row[0], row[3].number))
    column = COLUMNS[kind](GIVEN)
    result = await ai.embed_many(M3, column, **options).column()
    assert len(result) == len(GIVEN)
    values = result.to_pylist() if hasattr(result, "to_pylist") else list(result)
    for place, (text, value) in enumerate(zip(GIVEN, values, strict=True)):
        expected = [row[4].tolist() for row in pieces if row[0] == place]
        assert (value is None) == (not text)
        assert [list(vector) for vector in (() if value is None else value)] == expected
    if kind == "polars":
        assert (result.name, result.dtype) == ("text", pl.List(pl.Array(pl.Float32, 4)))
    elif kind == "pandas":
        assert (list(result.index), result.name) == (list(column.index), "text")
        assert result.iloc[1].ndim == 2
    elif kind == "numpy":
        assert (result.shape, result[1].dtype) == ((len(GIVEN),), np.float32)
    elif kind in ("arrow", "chunked"):
        assert result.type == pa.list_(pa.list_(pa.float32(), 4))
        assert isinstance(result, pa.ChunkedArray) == (kind == "chunked")
    mean = await ai.embed_many(M3, column, pool="mean", **options).column()
    assert len(mean) == len(GIVEN)


@pytest.mark.parametrize("kind", COLUMNS)
async def test_a_column_without_vectors(fake: FakeWorkersAI, ai: WorkersAI, kind: str) -> None:
    fake.simulates(Service())
    result = await ai.embed_many(M3, COLUMNS[kind](["", ""]), on_error="skip", **SPLIT).column()
    values = result.to_pylist() if hasattr(result, "to_pylist") else list(result)
    assert values == [None, None]


async def test_numpy_has_a_row_for_each_piece(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.simulates(Service())
    job = ai.embed_many(M3, [sentences(40), "", "b"], on_error="yield", **SPLIT)
    rows = await job.numpy()
    assert len(rows) == job.stats.pieces + 1
    assert np.isnan(rows[-2]).all()
    assert rows[-1].tolist() == vector_of("b").tolist()


# Splitters of others...


async def test_any_function_can_split(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """It returns texts or offsets."""
    fake.simulates(Service())
    text = "one. two. three."
    splitters: list[Callable[[str], Any]] = [
        str.split,
        lambda text: [(0, 4), (5, 9), (10, len(text))],
        lambda _: iter([(0, 4), "two.", "three."]),
    ]
    for split in splitters:
        items = await collect(ai.embed_many(M3, [text], long="split", split=split))
        assert [row[2] for row in rows_of(items)] == ["one.", "two.", "three."]


async def test_semchunk_can_split(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    semchunk = pytest.importorskip("semchunk")
    fake.simulates(Service())
    chunker = semchunk.chunkerify(lambda text: len(text.split()), 30)
    given: list[str | None] = [sentences(40), "short", sentences(25, "another")]
    items = await collect(ai.embed_many(M3, given, long="split", split=chunker, batch_size=3))
    check_rows(rows_of(items), given)
    assert all(len(row[2].split()) <= 30 for row in rows_of(items) if row[2])


async def test_long_pieces_of_others_are_counted(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """As texts are that are not split."""
    fake.simulates(Service())
    job = ai.embed_many(SMALL, ["word " * 3000], long="split", split=lambda text: [(0, len(text))])
    await collect(job)
    assert job.stats.truncated == 1


async def test_a_splitter_that_fails_ends_the_job(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """After the texts before it; the error names the text."""
    fake.simulates(Service())

    def split(text: str) -> list[str]:
        if text == "bad":
            raise KeyError("oops")
        return [text] if text != "wrong" else ["other"]

    for given, kind in (("bad", KeyError), ("wrong", InputError)):
        items: list[Any] = []
        with pytest.raises(kind) as caught:
            async for item in ai.embed_many(M3, ["a", "b", given, "c"], long="split", split=split):
                items.append(item)  # noqa: PERF401  # it fails
        assert [row[2] for row in rows_of(items)] == ["a", "b"]
        assert caught.value.__notes__ == ["splitting failed for text number 2 (from 0)"]


async def no_splitter(text: str) -> list[str]:
    """An async function."""
    return [text]


@pytest.mark.parametrize(
    ("model", "options", "problem"),
    [
        (M3, {"long": "cut"}, "long must be one of warn, fail, split"),
        ("@cf/no/window", {"long": "fail"}, "long='fail' can find no long texts"),
        (M3, {"long": "split", "pool": "max"}, "pool must be one of mean"),
        (M3, {"pool": "mean"}, "pool needs long='split', got long='warn'"),
        (M3, {"piece_tokens": 100, "long": "fail"}, "piece_tokens needs long='split'"),
        (M3, {"overlap": 0.1}, "overlap needs long='split'"),
        (M3, {"split": str.split}, "split needs long='split'"),
        (M3, {"long": "split", "piece_tokens": 15}, "piece_tokens must be a whole number, 16 or"),
        (M3, {"long": "split", "piece_tokens": 8193}, "piece_tokens must be at most 8192 for @cf"),
        (SMALL, {"long": "split", "piece_tokens": 513}, "at most 512"),
        (M3, {"long": "split", "overlap": 0.6}, "overlap must be a number from 0 to 0.5"),
        (M3, {"long": "split", "overlap": float("nan")}, "overlap must be"),
        (M3, {"long": "split", "overlap": True}, "overlap must be"),
        (M3, {"long": "split", "split": "words"}, "split must be a function"),
        (M3, {"long": "split", "split": no_splitter}, "split must not be an async function"),
        (M3, {"long": "split", "split": str.split, "overlap": 0.1}, "can't be combined"),
        (EMBEDDING_GEMMA, {"long": "split"}, "needs piece_tokens for @cf/google/embeddinggemma"),
    ],
)
async def test_wrong_options_are_refused(
    ai: WorkersAI, model: str, options: Any, problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        ai.embed_many(model, ["a"], on_error="skip", **options)


async def test_pieces_of_any_size_if_the_window_is_unknown(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    fake.simulates(Service())
    job = ai.embed_many(EMBEDDING_GEMMA, [sentences(40)], long="split", piece_tokens=64)
    assert len(await job.numpy()) > 5


async def test_memory_does_not_grow_with_a_huge_text(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """Pieces are cut as they are sent."""
    fake.simulates(Service())
    words = random.Random(1).choices(["one", "two", "three", "four."], k=400_000)
    job = ai.embed_many(SMALL, [" ".join(words)], long="split", rate=None)
    count = 0
    async for batch in job:
        count += len(batch)
    assert count == job.stats.pieces > 800
