"""Files of lines, arrays and Arrow: what is in them, and when they appear."""

import asyncio
import datetime as dt
import json
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from cfai import InputError, QuotaExceeded, WorkersAI
from cfai.embedding import EmbeddedBatch, EmbedFailure, files
from cfai.tasks import Embeddings
from cfai.testing import FakeWorkersAI, Service, vector_of
from tests.embedding.samples import M3, check_table, file_names, is_poison, poisoned, texts
from tests.embedding.scripted import scripted, vectors_of

SUFFIXES = [".jsonl", ".ndjson", ".npy", ".arrow", ".feather", ".arrows", ".parquet"]


def write(job: Any, path: Path, name: str = "") -> Any:
    """Write a job into a file in the format of its suffix, or with *name* into one in a folder."""
    target: Any = f"{path}/{name}" if name else path
    suffix = f".{name.rpartition('.')[2]}" if name else path.suffix
    if suffix in (".jsonl", ".ndjson"):
        return job.to_jsonl(target)
    if suffix == ".npy":
        return job.to_npy(target)
    if suffix in (".arrow", ".feather", ".arrows"):
        return job.to_arrow(str(target))
    return job.to_parquet(target)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A new folder in which everybody may write."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name).resolve()


def all_paths(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@contextmanager
def as_anybody() -> Iterator[None]:
    """Without the rights of the superuser, who may write everywhere."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def read_rows(path: Path) -> list[list[float] | None]:
    """The vectors in a file; `None` for a text that failed."""
    match path.suffix:
        case ".jsonl" | ".ndjson":
            lines = [json.loads(line) for line in path.read_bytes().splitlines()]
            rows = [line.get("vector") for line in lines]
        case ".npy":
            rows = [None if np.isnan(row).any() else row.tolist() for row in np.load(path)]
        case ".parquet":
            rows = pq.read_table(path)["vector"].to_pylist()
        case ".arrows":
            rows = pa.ipc.open_stream(path.read_bytes()).read_all()["vector"].to_pylist()
        case _:
            rows = pa.ipc.open_file(path.read_bytes()).read_all()["vector"].to_pylist()
    return [None if row is None else list(np.array(row, np.float32).tolist()) for row in rows]


def expected_rows(given: list[Any]) -> list[list[float] | None]:
    return [vector_of(text).tolist() if text and not is_poison(text) else None for text in given]


@pytest.mark.parametrize("suffix", SUFFIXES)
async def test_a_file_has_a_row_for_each_text(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, suffix: str
) -> None:
    """In their order, with the failures, and nothing beside the file."""
    fake.simulates(Service(poison=is_poison))
    given: list[Any] = [None, "", *poisoned(12_050, 5, 700, 12_049)]
    path = tmp_path / f"vectors{suffix}"
    path.write_text("an earlier file")
    await write(ai.embed_many(M3, given, on_error="yield", rate=None), path)
    assert read_rows(path) == expected_rows(given)
    assert file_names(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
async def test_skipped_texts_have_no_row(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, suffix: str
) -> None:
    fake.simulates(Service(poison=is_poison))
    path = tmp_path / f"vectors{suffix}"
    given = poisoned(300, 7)
    await write(ai.embed_many(M3, given, on_error="skip", rate=None), path)
    assert read_rows(path) == [row for row in expected_rows(given) if row]


@pytest.mark.parametrize("given", [[], [""], ["", None]], ids=str)
@pytest.mark.parametrize("suffix", SUFFIXES)
async def test_a_file_without_vectors(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, suffix: str, given: Any
) -> None:
    fake.simulates(Service())
    path = tmp_path / f"vectors{suffix}"
    await write(ai.embed_many(M3, given, on_error="yield"), path)
    if suffix == ".npy":
        array = np.load(path)
        assert (array.shape, array.dtype) == ((len(given), 0), np.float32)
    else:
        assert read_rows(path) == [None] * len(given)
    assert file_names(tmp_path) == [path.name]


def read_partial(path: Path) -> list[list[float] | None]:
    """The vectors of a failed job, which are beside its file."""
    kept = path.with_name(f"{path.name}.partial").rename(path.with_name(f"kept{path.suffix}"))
    rows = read_rows(kept)
    kept.unlink()
    return rows


@pytest.mark.parametrize("suffix", SUFFIXES)
async def test_a_failed_job_keeps_its_rows_beside_the_earlier_file(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, suffix: str
) -> None:
    """A short file would look complete. The error says how many rows are where."""
    path = tmp_path / f"vectors{suffix}"
    partial = tmp_path / f"{path.name}.partial"
    path.write_text("an earlier file")
    for quota, note in ((30, "30 of 30 finished rows are"), (1, "1 of 1 finished row is")):
        fake.simulates(Service(quota=quota))
        options: Any = {"batch_size": min(quota, 10), "concurrency": 1}
        with pytest.raises(QuotaExceeded) as caught:
            await write(ai.embed_many(M3, texts(50), **options), path)
        assert caught.value.__notes__ == [f"{note} in {partial}"]
        assert file_names(tmp_path) == [path.name, partial.name]
        assert path.read_text() == "an earlier file"
        assert read_partial(path) == expected_rows(texts(quota))
    partial.write_text("of a failed job")  # a complete file replaces it
    fake.simulates(Service())
    await write(ai.embed_many(M3, texts(50)), path)
    assert read_rows(path) == expected_rows(texts(50))
    assert file_names(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
async def test_a_job_that_fails_before_its_first_row_leaves_everything(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, suffix: str
) -> None:
    fake.simulates(Service(quota=0))
    path = tmp_path / f"vectors{suffix}"
    path.write_text("an earlier file")
    path.with_name(f"{path.name}.partial").write_text("an earlier failure")
    with pytest.raises(QuotaExceeded) as caught:
        await write(ai.embed_many(M3, texts(50)), path)
    assert not getattr(caught.value, "__notes__", [])
    assert path.read_text() == "an earlier file"
    assert path.with_name(f"{path.name}.partial").read_text() == "an earlier failure"
    assert file_names(tmp_path) == [path.name, f"{path.name}.partial"]


@pytest.mark.parametrize("suffix", SUFFIXES)
async def test_a_cancelled_job_keeps_its_rows(tmp_path: Path, suffix: str) -> None:
    waiting = asyncio.Event()

    async def reply(given: Sequence[str]) -> Embeddings:
        if "text 20" in given:
            waiting.set()
            await asyncio.Event().wait()
        return vectors_of(given)

    path = tmp_path / f"vectors{suffix}"
    _, job = scripted(reply, texts(50), batch_size=10, concurrency=1)
    task = asyncio.create_task(write(job, path))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert file_names(tmp_path) == [f"{path.name}.partial"]
    rows = read_partial(path)
    assert rows == expected_rows(texts(len(rows)))
    assert len(rows) in (10, 20)


@pytest.mark.parametrize("suffix", SUFFIXES)
async def test_a_full_disk_is_an_error_that_names_the_file(
    fake: FakeWorkersAI,
    ai: WorkersAI,
    tmp_path: Path,
    limit_file_size: Callable[[int], AbstractContextManager[None]],
    suffix: str,
) -> None:
    """And says how many rows are beside it: as many as fit, if the format allows it."""
    fake.simulates(Service(dimension=64))
    path = tmp_path / f"vectors{suffix}"
    path.write_text("an earlier file")
    with (
        limit_file_size(100_000),
        pytest.raises(OSError, match=rf"File too large: '{path}'\n") as caught,
    ):
        await write(ai.embed_many(M3, texts(12_000), rate=None), path)
    assert path.read_text() == "an earlier file"
    (note,) = caught.value.__notes__
    if suffix in (".jsonl", ".ndjson", ".npy"):
        size = (tmp_path / f"{path.name}.partial").stat().st_size
        rows = read_partial(path)
        assert rows == [vector_of(text, 64).tolist() for text in texts(len(rows))]
        assert 98_000 < size <= 100_000
        assert note.startswith(f"{len(rows)} of ")
        assert note.endswith(f" finished rows are in {path}.partial")
    else:
        assert note.startswith("none of ")
        assert note.endswith(" finished rows could be kept")
    assert file_names(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
async def test_rows_are_kept_if_the_file_cannot_be_at_its_place(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, suffix: str
) -> None:
    """Such as because of a folder that was made in the meantime."""
    path = tmp_path / f"vectors{suffix}"

    async def given() -> AsyncIterator[str]:
        path.mkdir()
        for text in texts(30):
            yield text

    fake.simulates(Service())
    with pytest.raises(IsADirectoryError, match=path.name) as caught:
        await write(ai.embed_many(M3, given()), path)
    assert caught.value.__notes__ == [f"30 of 30 finished rows are in {path}.partial"]
    assert read_partial(path) == expected_rows(texts(30))


@pytest.mark.parametrize("suffix", SUFFIXES)
async def test_the_rows_of_an_earlier_failed_job_stay(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, suffix: str
) -> None:
    """However many there are: those of the next are beside them, until the file is complete."""
    path = tmp_path / f"vectors{suffix}"
    names = [f"{path.name}{number}.partial" for number in ("", ".2", ".3")]
    for name, quota in zip(names, (30, 10, 20), strict=True):
        fake.simulates(Service(quota=quota))
        with pytest.raises(QuotaExceeded) as caught:
            await write(ai.embed_many(M3, texts(50), batch_size=10, concurrency=1), path)
        note = f"{quota} of {quota} finished rows are in {tmp_path / name}"
        assert caught.value.__notes__ == [note]
    assert file_names(tmp_path) == sorted(names)
    for name, quota in zip(names, (30, 10, 20), strict=True):
        (tmp_path / f"copy{suffix}").write_bytes((tmp_path / name).read_bytes())
        assert read_rows(tmp_path / f"copy{suffix}") == expected_rows(texts(quota))
    (tmp_path / f"copy{suffix}").unlink()
    fake.simulates(Service())
    await write(ai.embed_many(M3, texts(50)), path)
    assert file_names(tmp_path) == [path.name]


@pytest.mark.parametrize("kind", ["folder", "link to nothing", "link to a file"])
@pytest.mark.parametrize("suffix", SUFFIXES)
async def test_what_has_the_name_of_kept_rows_stays(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, suffix: str, kind: str
) -> None:
    path = tmp_path / f"vectors{suffix}"
    taken = tmp_path / f"{path.name}.partial"
    other = tmp_path / "other"
    if kind == "folder":
        taken.mkdir()
    else:
        taken.symlink_to(other)
    if kind == "link to a file":
        other.write_text("mine")
    before = [entry.lstat().st_ino for entry in all_paths(tmp_path)]
    fake.simulates(Service(quota=20))
    with pytest.raises(QuotaExceeded) as caught:
        await write(ai.embed_many(M3, texts(50), batch_size=10, concurrency=1), path)
    kept = tmp_path / f"{path.name}.2.partial"
    assert caught.value.__notes__ == [f"20 of 20 finished rows are in {kept}"]
    kept = kept.rename(tmp_path / f"kept{suffix}")
    assert read_rows(kept) == expected_rows(texts(20))
    kept.unlink()
    assert [entry.lstat().st_ino for entry in all_paths(tmp_path)] == before
    assert not other.exists() or other.read_text() == "mine"


@pytest.mark.parametrize("suffix", [*SUFFIXES, "/"])
async def test_nothing_is_said_to_be_in_a_folder_that_is_gone(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, suffix: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    name = f"vectors{suffix}"

    async def given() -> AsyncIterator[str]:
        for text in texts(30):
            yield text
        shutil.rmtree(folder)

    fake.simulates(Service())
    with pytest.raises(FileNotFoundError) as caught:
        await write(ai.embed_many(M3, given(), rate=None), folder, name)
    assert caught.value.filename in (f"{folder}/{name}", f"{folder}/vectors")
    assert caught.value.__notes__ == ["none of 30 finished rows could be kept"]
    assert all_paths(tmp_path) == []


@pytest.mark.parametrize(
    ("gone", "note"),
    [
        ("", "none of 20500 finished rows could be kept"),
        ("part-00000.parquet", "10500 of 20500 finished rows are in "),
    ],
)
async def test_parts_that_are_gone_are_not_counted(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, gone: str, note: str
) -> None:
    folder = tmp_path / "folder"

    async def items() -> AsyncIterator[EmbeddedBatch | EmbedFailure]:
        async for item in ai.embed_many(M3, texts(20_500), rate=None):
            yield item
        assert len(file_names(folder)) == 2
        if gone:
            (folder / gone).unlink()
        else:
            shutil.rmtree(folder)
        raise EOFError

    fake.simulates(Service())
    with pytest.raises(EOFError) as caught:
        await files.write_items(items(), files.ParquetParts(folder, has_pieces=False))
    (shown,) = caught.value.__notes__
    assert shown.startswith(note)


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o555])
@pytest.mark.parametrize("suffix", SUFFIXES)
async def test_rows_in_a_folder_without_rights_stay_where_they_are(
    fake: FakeWorkersAI, ai: WorkersAI, open_folder: Path, suffix: str, mode: int
) -> None:
    """Under the temporary name, which the note says."""
    folder = open_folder / "folder"

    async def given() -> AsyncIterator[str]:
        folder.chmod(mode)
        for text in texts(30):
            yield text

    fake.simulates(Service())
    with as_anybody():
        folder.mkdir()
        with pytest.raises(PermissionError) as caught:
            await write(ai.embed_many(M3, given()), folder / f"vectors{suffix}")
        folder.chmod(0o755)
    assert caught.value.filename == f"{folder}/vectors{suffix}"
    (kept,) = all_paths(folder)
    assert caught.value.__notes__ == [f"30 of 30 finished rows are in {kept}"]
    assert read_rows(kept.rename(folder / f"kept{suffix}")) == expected_rows(texts(30))


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o555])
@pytest.mark.parametrize("suffix", [*SUFFIXES, "/"])
async def test_a_job_without_rows_in_a_folder_without_rights(
    fake: FakeWorkersAI, ai: WorkersAI, open_folder: Path, suffix: str, mode: int
) -> None:
    """Its own error is raised, and nothing is said about rows."""
    folder = open_folder / "folder"

    async def given() -> AsyncIterator[str]:
        folder.chmod(mode)
        yield "a"

    fake.simulates(Service(quota=0))
    with as_anybody():
        folder.mkdir()
        with pytest.raises(QuotaExceeded) as caught:
            await write(ai.embed_many(M3, given()), folder, f"vectors{suffix}")
        folder.chmod(0o755)
    assert not getattr(caught.value, "__notes__", [])


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o555])
async def test_parts_in_a_folder_without_rights_are_counted(
    fake: FakeWorkersAI, ai: WorkersAI, open_folder: Path, mode: int
) -> None:
    """Those that were written before."""
    folder = open_folder / "folder"

    async def items() -> AsyncIterator[EmbeddedBatch | EmbedFailure]:
        async for item in ai.embed_many(M3, texts(10_500), rate=None):
            yield item
        folder.chmod(mode)

    fake.simulates(Service())
    file = files.ParquetParts(folder, has_pieces=False)
    with as_anybody():
        with pytest.raises(PermissionError) as caught:
            await files.write_items(items(), file)
        folder.chmod(0o755)
    assert caught.value.filename == f"{folder}/part-00001.parquet"
    (part,) = all_paths(folder)
    count = pq.read_table(part).num_rows
    assert caught.value.__notes__ == [f"{count} of 10500 finished rows are in {folder}"]


class Unprintable:
    """An id whose text cannot be made."""

    def __init__(self, text: Any) -> None:
        self.text = text

    def __str__(self) -> str:
        if isinstance(self.text, Exception):
            raise self.text
        return self.text  # type: ignore[no-any-return]

    __repr__ = __str__


def nested(depth: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return inner


RECURSIVE: list[Any] = []
RECURSIVE.append(RECURSIVE)
IDS_WITHOUT_JSON: dict[str, Any] = {
    "keys": {(1, 2): 3},
    "inner keys": [{"a": {b"x": 3}}],
    "recursive": RECURSIVE,
    "deep": nested(100_000),
    "long": 10**5_000,
    "raises ValueError": Unprintable(ValueError("no text")),
    "raises KeyError": Unprintable(KeyError("no text")),
    "raises OSError": Unprintable(OSError(5, "no text")),
    "is no text": Unprintable(5),
    "inner": {"a": [Unprintable(RuntimeError("no text"))]},
}


@pytest.mark.parametrize("place", [0, 1, 25, 49])
@pytest.mark.parametrize("kind", IDS_WITHOUT_JSON)
async def test_an_id_that_json_cannot_write_is_an_input_error(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, kind: str, place: int
) -> None:
    """It says which one, and the lines before it are kept."""
    key = IDS_WITHOUT_JSON[kind]
    source: list[Any] = [(key if i == place else i, text) for i, text in enumerate(texts(50))]
    fake.simulates(Service())
    path = tmp_path / "x.jsonl"
    name = type(key).__name__
    with pytest.raises(
        InputError,
        match=rf"the id of row {place} is a {name} that JSON cannot write: use text or numbers",
    ) as caught:
        await ai.embed_many(M3, source, batch_size=10, concurrency=1).to_jsonl(path)
    (note,) = caught.value.__notes__
    if not place:
        assert note == "none of 50 finished rows could be kept"
        assert file_names(tmp_path) == []
        return
    assert note.startswith(f"{place} of 50 finished row")
    assert file_names(tmp_path) == ["x.jsonl.partial"]
    lines = (tmp_path / "x.jsonl.partial").read_bytes().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [*range(place)]


async def test_the_id_of_a_failure_or_a_piece_that_json_cannot_write(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    """It is named by the place of its text."""
    fake.simulates(Service())
    words = "Some words of a sentence. " * 50
    for text in ("", words):
        source: list[Any] = [(0, "a"), (1, words), ({(1, 2): 3}, text)]
        options: Any = {"long": "split", "piece_tokens": 64, "on_error": "yield"}
        with pytest.raises(InputError, match="the id of row 2 is a dict"):
            await ai.embed_many(M3, source, **options).to_jsonl(tmp_path / "x.jsonl")
        lines = (tmp_path / "x.jsonl.partial").read_bytes().splitlines()
        assert {json.loads(line)["id"] for line in lines} == {0, 1}
        (tmp_path / "x.jsonl.partial").unlink()


async def test_an_id_that_json_cannot_write_does_not_hide_the_error_of_the_job(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    """The lines were not built yet when the job failed."""
    source: list[Any] = [(RECURSIVE if i == 15 else i, text) for i, text in enumerate(texts(50))]
    fake.simulates(Service(quota=30))
    with pytest.raises(QuotaExceeded) as caught:
        job = ai.embed_many(M3, source, batch_size=10, concurrency=1)
        await job.to_jsonl(tmp_path / "x.jsonl")
    assert caught.value.__notes__ == [
        f"15 of 30 finished rows are in {tmp_path / 'x.jsonl.partial'}"
    ]
    assert file_names(tmp_path) == ["x.jsonl.partial"]


@pytest.mark.parametrize("place", [1, 15])
@pytest.mark.parametrize("suffix", [".arrow", ".feather", ".arrows", ".parquet", "/"])
@pytest.mark.parametrize("kind", [*IDS_WITHOUT_JSON, "another type"])
async def test_an_id_that_does_not_fit_into_a_table_is_an_input_error(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, kind: str, suffix: str, place: int
) -> None:
    """The error says how many rows are kept, also if that is none."""
    key = IDS_WITHOUT_JSON.get(kind, "text")
    source: list[Any] = [(key if i == place else i, text) for i, text in enumerate(texts(50))]
    fake.simulates(Service())
    with pytest.raises(InputError, match="the ids must be of one type that Arrow has") as caught:
        job = ai.embed_many(M3, source, batch_size=10, concurrency=1)
        await write(job, tmp_path, f"x{suffix}")
    (note,) = caught.value.__notes__
    if place == 1:
        assert note == "none of 10 finished rows could be kept"
        assert file_names(tmp_path) == (["x"] if suffix == "/" else [])
    else:
        assert note.startswith("10 of 20 finished rows are in ")
        kept = tmp_path / ("x/part-00000.parquet" if suffix == "/" else f"x{suffix}.partial")
        suffix = ".parquet" if suffix == "/" else suffix
        assert read_rows(kept.rename(tmp_path / f"kept{suffix}")) == expected_rows(texts(10))


async def test_rows_of_an_array_are_in_order(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    """Also with `ordered=False`: nothing else says which row is which."""
    fake.simulates(Service(poison=is_poison, latency=0.001))
    given = poisoned(500, 3)
    for on_error in ("yield", "skip"):
        options: Any = {"on_error": on_error, "ordered": False, "rate": None, "batch_size": 7}
        await ai.embed_many(M3, given, **options).to_npy(tmp_path / "x.npy")
        expected = expected_rows(given)
        assert read_rows(tmp_path / "x.npy") == (
            expected if on_error == "yield" else [row for row in expected if row]
        )


async def test_the_rows_of_an_array_are_in_the_order_of_the_source(tmp_path: Path) -> None:
    """The first answer comes last, and the job need not be in order otherwise."""
    others_are_done = asyncio.Event()

    async def reply(given: Sequence[str]) -> Embeddings:
        if "a" in given:
            await others_are_done.wait()
        elif "c" in given:
            others_are_done.set()
        return vectors_of(given)

    _, job = scripted(reply, ["a", "b", "c"], ordered=False, concurrency=3)
    await job.to_npy(tmp_path / "x.npy")
    expected = np.array([vector_of(text) for text in "abc"], np.float32)
    assert np.array_equal(np.load(tmp_path / "x.npy"), expected)


async def test_the_bytes_of_an_array(fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path) -> None:
    """Source: NumPy Enhancement Proposal 1."""
    fake.answers({"shape": [2, 2], "data": [[1.0, 2.0], [0.5, -1.0]]})
    await ai.embed_many(M3, ["a", "b"]).to_npy(tmp_path / "x.npy")
    data = (tmp_path / "x.npy").read_bytes()
    assert data[:10] == b"\x93NUMPY\x01\x00\x76\x00"
    order = b"<" if sys.byteorder == "little" else b">"
    header = b"{'descr': '" + order + b"f4', 'fortran_order': False, 'shape': (2, 2)}"
    assert data[10:128] == header.ljust(117) + b"\n"
    assert len(data) == 128 + 16
    loaded = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert loaded.tolist() == [[1.0, 2.0], [0.5, -1.0]]


async def test_lines_have_ids_and_texts(fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path) -> None:
    """Ids that JSON does not have are text."""
    fake.answers({"shape": [4, 1], "data": [[0.1], [0.2], [0.3], [0.4]]})
    key = uuid.UUID(int=7)
    source: list[Any] = [(key, "é\n"), ("\ud800", "b"), (dt.date(2026, 11, 29), "c")]
    path = tmp_path / "x.jsonl"
    await ai.embed_many(M3, [*source, (4, ""), (5, "e")], on_error="yield").to_jsonl(path)
    assert path.read_bytes().decode().splitlines() == [
        f'{{"id":"{key}","text":"é\\n","vector":[0.100000001]}}',
        '{"id":"?","text":"b","vector":[0.200000003]}',
        '{"id":"2026-11-29","text":"c","vector":[0.300000012]}',
        '{"id":4,"text":"","error":"the text is empty"}',
        '{"id":5,"text":"e","vector":[0.400000006]}',
    ]


@pytest.mark.parametrize("key", [float("nan"), float("inf")])
async def test_an_id_that_json_does_not_have_is_null(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, key: float
) -> None:
    """As in a column of numbers with a gap."""
    fake.answers({"shape": [1, 1], "data": [[0.1]]})
    path = tmp_path / "x.jsonl"
    await ai.embed_many(M3, [(key, "a"), (key, "")], on_error="yield").to_jsonl(path)
    lines = path.read_text().splitlines()
    assert [json.loads(line, parse_constant=pytest.fail)["id"] for line in lines] == [None, None]


async def test_arrow_files_are_feather(fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path) -> None:
    fake.simulates(Service(poison=is_poison))
    given = poisoned(20, 3)
    await ai.embed_many(M3, given, on_error="yield").to_arrow(tmp_path / "x.feather")
    check_table(feather.read_table(tmp_path / "x.feather"), given)


@pytest.mark.parametrize("suffix", [".jsonl", ".arrow", ".arrows"])
async def test_rows_of_pieces_say_where_they_are(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, suffix: str
) -> None:
    fake.simulates(Service())
    text = "Some words of a sentence. " * 50
    path = tmp_path / f"x{suffix}"
    options: Any = {"long": "split", "piece_tokens": 64, "on_error": "yield"}
    await write(ai.embed_many(M3, ["a", text, ""], **options), path)
    if suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_bytes().splitlines()]
        assert list(rows[0]) == ["id", "piece", "start", "end", "text", "vector"]
        assert list(rows[-1]) == ["id", "piece", "start", "end", "text", "error"]
        assert all(row["text"] == text[row["start"] : row["end"]] for row in rows[1:-1])
    else:
        data = path.read_bytes()
        reader = pa.ipc.open_file(data) if suffix == ".arrow" else pa.ipc.open_stream(data)
        rows = reader.read_all().to_pylist()
    assert [row["piece"] for row in rows[1:-1]] == list(range(len(rows) - 2))
    assert len(rows) > 5


async def test_an_array_has_no_place_for_pieces(ai: WorkersAI, tmp_path: Path) -> None:
    job = ai.embed_many(M3, ["a"], long="split")
    with pytest.raises(InputError, match=r"x\.npy would not say which texts its rows belong to"):
        await job.to_npy(tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("method", "name", "suffixes"),
    [
        ("to_arrow", "x.parquet", ".arrow, .feather, .arrows"),
        ("to_jsonl", "x.json", ".jsonl, .ndjson"),
        ("to_npy", "x", ".npy"),
    ],
)
async def test_another_suffix_is_refused(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, method: str, name: str, suffixes: str
) -> None:
    """Nothing is sent."""
    job = ai.embed_many(M3, ["a"])
    with pytest.raises(InputError, match=rf"{name} must end in {suffixes}$"):
        await getattr(job, method)(tmp_path / name)
    assert not fake.requests


IMPOSSIBLE_NAMES = ["nul\0", "half\ud800"]


@pytest.mark.parametrize("name", IMPOSSIBLE_NAMES)
@pytest.mark.parametrize("suffix", [*SUFFIXES, "/", ".parquet/"])
async def test_a_name_that_no_file_can_have_is_an_input_error(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, name: str, suffix: str
) -> None:
    """Nothing is sent or left, and the message can be printed."""
    with pytest.raises(InputError, match="path must be a path that a file can have") as caught:
        await write(ai.embed_many(M3, ["a"]), tmp_path, f"{name}{suffix}")
    assert str(caught.value).isprintable()
    assert (file_names(tmp_path), fake.requests) == ([], [])


@pytest.mark.parametrize("name", [5, None, "", b"x.npy"], ids=repr)
@pytest.mark.parametrize("method", ["to_npy", "to_jsonl", "to_arrow", "to_parquet"])
async def test_what_is_no_path_is_an_input_error(
    fake: FakeWorkersAI, ai: WorkersAI, method: str, name: Any
) -> None:
    with pytest.raises(InputError, match="path must be the path of a file, got "):
        await getattr(ai.embed_many(M3, ["a"]), method)(name)
    assert not fake.requests


@pytest.mark.parametrize("suffix", SUFFIXES)
async def test_a_suffix_alone_is_no_name(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, suffix: str
) -> None:
    with pytest.raises(InputError, match=rf"before the suffix, such as vectors\{suffix}$"):
        await write(ai.embed_many(M3, ["a"]), tmp_path, suffix)
    assert (file_names(tmp_path), fake.requests) == ([], [])


UNWRITABLE = {
    "missing/x": FileNotFoundError,
    "file/x": NotADirectoryError,
    "long": OSError,
    "folder": IsADirectoryError,
    "locked/x": PermissionError,
    "loop/x": OSError,
}


@pytest.mark.parametrize("name", UNWRITABLE)
@pytest.mark.parametrize("suffix", [*SUFFIXES, "/"])
async def test_a_file_that_cannot_be_written_costs_nothing(
    fake: FakeWorkersAI, ai: WorkersAI, open_folder: Path, name: str, suffix: str
) -> None:
    """The error names it, before anything is sent, and nothing is left behind."""
    error = UNWRITABLE[name]
    if name == "long":
        name = "y" * (300 if suffix == "/" else 250)
    elif name == "folder" and suffix not in ("/", ".parquet"):
        (open_folder / f"folder{suffix}").mkdir()
    elif (suffix == "/" and name == "missing/x") or name == "folder":
        return  # It is made, or used as a folder of parts.
    (open_folder / "file").write_text("not a folder")
    (open_folder / "locked").mkdir(mode=0o555)
    (open_folder / "loop").symlink_to("loop")
    before = all_paths(open_folder)
    job = ai.embed_many(M3, texts(200), rate=None)
    with as_anybody(), pytest.raises(error) as caught:
        await write(job, open_folder, f"{name}{suffix}")
    assert isinstance(caught.value.filename, str)
    assert caught.value.filename.startswith(f"{open_folder}/{name}")
    assert all_paths(open_folder) == before
    assert not fake.requests
    if name != "locked/x":  # Nothing was sent, so the job is new.
        fake.simulates(Service())
        assert (await job.numpy()).shape == (200, 4)


@pytest.mark.parametrize(
    "name", ["n" * 239, "\udce9t\udce9", "é" * 115, " ", "a\nb", "-"], ids=ascii
)
@pytest.mark.parametrize("suffix", [*SUFFIXES, "/"])
async def test_any_name_that_a_file_can_have(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, name: str, suffix: str
) -> None:
    """Also one that is not UTF-8, and one as long as there may be, with ".partial"."""
    fake.simulates(Service(quota=3))
    await write(ai.embed_many(M3, texts(3)), tmp_path, f"{name}{suffix}")
    path = tmp_path / f"{name}{suffix}"
    assert file_names(tmp_path) == [path.name]
    if suffix == "/":
        path /= "part-00000.parquet"
    # pyarrow reads no names that are not UTF-8.
    assert read_rows(path.rename(tmp_path / f"x{path.suffix}")) == expected_rows(texts(3))
    with pytest.raises(QuotaExceeded) as caught:
        await write(ai.embed_many(M3, texts(3)), tmp_path, f"{name}{suffix}")
    assert not getattr(caught.value, "__notes__", [])


async def test_files_are_as_others_can_read_them(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    """With the rights of a new file, as the umask allows."""
    fake.simulates(Service())
    other = tmp_path / "other"
    other.touch()
    for suffix in SUFFIXES:
        path = tmp_path / f"x{suffix}"
        await write(ai.embed_many(M3, ["a"]), path)
        assert path.stat().st_mode == other.stat().st_mode
    assert set(files.SUFFIXES) == set(SUFFIXES)
