"""Results as one array, one table, a Parquet file or a folder of them; and the failures."""

import asyncio
import gc
import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from cfai import EmbeddingJob, EmbedFailure, InputError, QuotaExceeded, WorkersAI
from cfai.testing import FakeWorkersAI, Service, vector_of
from tests.embedding.samples import (
    M3,
    check_table,
    file_names,
    is_poison,
    poisoned,
    texts,
)

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
np = pytest.importorskip("numpy")


class SlowDisk:
    """Calls of `os.fsync`, which wait until they are allowed and are recorded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.synced: dict[int, int] = {}
        """The size that each file had, by its inode."""
        self.called = Event()
        self.allowed = Event()
        self._fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self._sync)

    def _sync(self, descriptor: int) -> None:
        self.called.set()
        assert self.allowed.wait(30)
        self._fsync(descriptor)
        status = os.fstat(descriptor)
        self.synced[status.st_ino] = status.st_size

    def has_all(self, folder: Path) -> bool:
        """Whether each Parquet file was synced with its full size, and the folder too."""
        files = [path.stat() for path in folder.iterdir() if path.suffix == ".parquet"]
        synced = [self.synced.get(file.st_ino) == file.st_size for file in files]
        return all(synced) and folder.stat().st_ino in self.synced


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> SlowDisk:
    """A disk on which writes wait until they are allowed."""
    return SlowDisk(monkeypatch)


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_table_has_all_ids_vectors_and_errors(
    fake: FakeWorkersAI, ai: WorkersAI, ordered: bool
) -> None:
    """Vectors are lists of one length, and null for texts that failed."""
    fake.simulates(Service(poison=is_poison))
    source = [*texts(20), "poison", *texts(10)]
    pairs = [(f"id-{place}", text) for place, text in enumerate(source)]
    job = ai.embed_many(M3, pairs, batch_size=7, on_error="yield", ordered=ordered)
    table = await job.arrow()
    check_table(table, source)
    assert table["id"].to_pylist() == [key for key, _ in pairs]
    assert table.schema.field("vector").type == pa.list_(pa.float32(), 4)


async def test_no_texts_make_an_empty_table(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    assert (await ai.embed_many(M3, []).arrow()).num_rows == 0


async def test_ids_of_several_types_are_refused(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.simulates(Service())
    with pytest.raises(InputError, match="the ids"):
        await ai.embed_many(M3, [("one", "a"), (2, "b")]).arrow()


async def test_a_folder_of_files_reads_as_one_table(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    """Files of an earlier job do not stay."""
    fake.simulates(Service(poison=is_poison))
    (tmp_path / "part-00007.parquet").write_bytes(b"of an earlier job")
    source = [*texts(10_050), "poison"]
    await ai.embed_many(M3, source, on_error="yield", rate=None).to_parquet(tmp_path)
    assert file_names(tmp_path) == ["part-00000.parquet", "part-00001.parquet"]
    check_table(pq.read_table(tmp_path), source)


async def test_the_files_of_a_failed_job_have_what_came_before(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    fake.simulates(Service(quota=30))
    with pytest.raises(QuotaExceeded) as caught:
        await ai.embed_many(M3, texts(50), batch_size=10, concurrency=1).to_parquet(tmp_path)
    check_table(pq.read_table(tmp_path), texts(30))
    assert caught.value.__notes__ == [f"30 of 30 finished rows are in {tmp_path}"]


async def test_files_of_an_earlier_job_are_removed_before_the_first_is_written(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    """A folder never reads as one table of two jobs. Files with other names stay."""
    fake.simulates(Service())
    for name in ("part-00001.parquet", "part-2024-backup.parquet", "part-9.parquet"):
        (tmp_path / name).write_bytes(b"of others")
    fake.simulates(Service(quota=30))
    with pytest.raises(QuotaExceeded):
        await ai.embed_many(M3, texts(50), batch_size=10, concurrency=1).to_parquet(tmp_path)
    assert file_names(tmp_path) == [
        "part-00000.parquet",
        "part-2024-backup.parquet",
        "part-9.parquet",
    ]


async def test_files_of_an_earlier_job_stay_if_nothing_was_embedded(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    fake.simulates(Service(quota=0))
    (tmp_path / "part-00000.parquet").write_bytes(b"of an earlier job")
    with pytest.raises(QuotaExceeded):
        await ai.embed_many(M3, texts(5)).to_parquet(tmp_path)
    assert file_names(tmp_path) == ["part-00000.parquet"]


async def test_all_files_have_one_schema(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    """Also if ids are missing, or no text of the first file has a vector."""
    fake.simulates(Service(poison=is_poison))
    source = [(None, "")] * 10_001 + [("a", "one"), ("b", "two")]
    job = ai.embed_many(M3, source, on_error="yield", rate=None)
    await job.to_parquet(tmp_path)
    table = pq.read_table(tmp_path)
    assert table["id"].to_pylist()[-3:] == [None, "a", "b"]
    assert table["vector"].to_pylist()[-2:] == [vector_of(one).tolist() for one in ("one", "two")]


@pytest.mark.parametrize("unfit", ["x", 2**70, "\ud800", object()])
async def test_an_unsuitable_id_ends_the_job_at_once(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, unfit: object
) -> None:
    """Before the other texts are paid for. What was embedded before is kept."""
    service = fake.simulates(Service())
    source: list[Any] = [(place, f"text {place}") for place in range(500)]
    source[25] = (unfit, "text 25")
    options: Any = {"batch_size": 10, "concurrency": 1}
    job = ai.embed_many(M3, source, **options)
    with pytest.raises(InputError, match="one type"):
        await job.arrow()
    assert [batch.start for batch in job.finished] == [0, 10, 20]
    with pytest.raises(InputError, match="one type"):
        await ai.embed_many(M3, source, **options).to_parquet(tmp_path)
    assert pq.read_table(tmp_path)["id"].to_pylist() == list(range(20))
    assert service.counters.texts < 400


async def test_a_failed_table_leaves_its_batches_in_finished(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    fake.simulates(Service(quota=30))
    job = ai.embed_many(M3, texts(50), batch_size=10, concurrency=1)
    with pytest.raises(QuotaExceeded):
        await job.arrow()
    assert [batch.start for batch in job.finished] == [0, 10, 20]


async def test_a_cancelled_export_ends_when_its_file_is_complete(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, disk: SlowDisk
) -> None:
    """Nobody else can write in the meantime."""
    fake.simulates(Service())
    job = ai.embed_many(M3, texts(10_100), rate=None)
    running = asyncio.create_task(job.to_parquet(tmp_path))
    assert await asyncio.to_thread(disk.called.wait, 30)
    running.cancel()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not running.done()
    disk.allowed.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not [name for name in file_names(tmp_path) if name.startswith(".")]
    table = pq.read_table(tmp_path)
    check_table(table, texts(table.num_rows))
    assert disk.has_all(tmp_path)


async def test_a_full_disk_is_an_error_that_names_the_file(
    fake: FakeWorkersAI,
    ai: WorkersAI,
    tmp_path: Path,
    limit_file_size: Callable[[int], AbstractContextManager[None]],
) -> None:
    """Nothing is left of the incomplete file. The error says how many rows are lost."""
    fake.simulates(Service(dimension=1024))
    with limit_file_size(60_000), pytest.raises(OSError, match=r"part-00000\.parquet") as caught:
        await ai.embed_many(M3, texts(60), batch_size=20).to_parquet(tmp_path)
    assert caught.value.__notes__ == ["none of 60 finished rows could be kept"]
    gc.collect()  # Would report an exception that was never retrieved.
    assert file_names(tmp_path) == []


@pytest.mark.parametrize("ordered", [True, False])
async def test_an_array_has_a_row_for_each_text(
    fake: FakeWorkersAI, ai: WorkersAI, ordered: bool
) -> None:
    """Rows of failed texts are NaN."""
    fake.simulates(Service(poison=is_poison))
    given = poisoned(50, 7, 30)
    job = ai.embed_many(M3, given, batch_size=8, on_error="yield", ordered=ordered)
    whole = await job.numpy()
    assert (whole.shape, whole.dtype) == ((50, 4), np.float32)
    for place, text in enumerate(given):
        if place in (7, 30):
            assert np.isnan(whole[place]).all()
        else:
            assert whole[place].tolist() == vector_of(text).tolist()


async def test_skipped_texts_have_no_row(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.simulates(Service(poison=is_poison))
    assert (await ai.embed_many(M3, poisoned(50, 7), on_error="skip").numpy()).shape == (49, 4)
    assert (await ai.embed_many(M3, []).numpy()).shape == (0, 0)


async def test_a_failed_array_leaves_its_batches_in_finished(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    fake.simulates(Service(quota=30))
    job = ai.embed_many(M3, texts(50), batch_size=10, concurrency=1)
    with pytest.raises(QuotaExceeded):
        await job.numpy()
    assert [batch.start for batch in job.finished] == [0, 10, 20]


# One Parquet file...


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_path_to_parquet_is_one_file(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, ordered: bool
) -> None:
    """With all rows and the reasons of failures, and nothing beside it."""
    fake.simulates(Service(poison=is_poison))
    given: list[Any] = poisoned(12_050, 5, 700, 12_049)
    given[77] = None
    path = tmp_path / "vectors.parquet"
    path.write_text("an earlier file")
    job = ai.embed_many(M3, given, on_error="yield", rate=None, ordered=ordered)
    await job.to_parquet(path)
    table = pq.read_table(path)
    check_table(table, [text or "" for text in given])
    errors = {row["place"]: row["error"] for row in table.to_pylist() if row["error"]}
    assert errors[77] == "the text is missing"
    assert "Bad input" in errors[700]
    assert file_names(tmp_path) == ["vectors.parquet"]


async def test_one_file_without_texts(fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path) -> None:
    fake.simulates(Service())
    await ai.embed_many(M3, []).to_parquet(str(tmp_path / "none.parquet"))
    table = pq.read_table(tmp_path / "none.parquet")
    assert (table.num_rows, table.column_names) == (0, ["place", "id", "vector", "error"])


async def test_a_failed_job_leaves_the_earlier_file(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    """A short file would look complete. Its rows are beside it, also if there are many."""
    fake.simulates(Service(quota=11_000))
    path = tmp_path / "vectors.parquet"
    path.write_text("an earlier file")
    with pytest.raises(QuotaExceeded):
        await ai.embed_many(M3, texts(12_000), rate=None).to_parquet(path)
    assert path.read_text() == "an earlier file"
    assert file_names(tmp_path) == ["vectors.parquet", "vectors.parquet.partial"]
    table = pq.read_table(tmp_path / "vectors.parquet.partial")
    assert table.num_rows > 10_000
    check_table(table, texts(table.num_rows))


@pytest.mark.parametrize("name", ["vectors", "vectors.parquet/", "there.parquet"])
async def test_other_paths_are_folders(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, name: str
) -> None:
    """Also one that ends in a slash, or exists as a folder."""
    fake.simulates(Service())
    (tmp_path / "there.parquet").mkdir()
    await ai.embed_many(M3, texts(3)).to_parquet(f"{tmp_path}/{name}")
    assert file_names(tmp_path / name) == ["part-00000.parquet"]


@pytest.mark.parametrize(
    "name", ["q.csv", "q.parquet.gz", "q.parq", "q.JSONL", "run-1.5", "folder/q.arrow"]
)
async def test_a_path_with_another_suffix_is_refused(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, name: str
) -> None:
    """It names both ways out, nothing is sent, and no folder is made; the folder is possible."""
    path = tmp_path / name
    with pytest.raises(InputError) as caught:
        await ai.embed_many(M3, texts(3)).to_parquet(path)
    assert str(caught.value) == (
        f"{path} must end in .parquet, or in a slash for a folder of Parquet files: {path}/"
    )
    assert (file_names(tmp_path), fake.requests) == ([], [])
    fake.simulates(Service())
    await ai.embed_many(M3, texts(3)).to_parquet(f"{path}/")
    assert file_names(path) == ["part-00000.parquet"]


async def test_a_full_disk_leaves_no_part_of_the_file(
    fake: FakeWorkersAI,
    ai: WorkersAI,
    tmp_path: Path,
    limit_file_size: Callable[[int], AbstractContextManager[None]],
) -> None:
    fake.simulates(Service(dimension=64))
    path = tmp_path / "vectors.parquet"
    with limit_file_size(100_000), pytest.raises(OSError, match=r"vectors\.parquet'\n"):
        await ai.embed_many(M3, texts(12_000), rate=None).to_parquet(path)
    assert file_names(tmp_path) == []


# Failures...


@pytest.mark.parametrize("on_error", ["yield", "skip"])
async def test_a_job_names_every_text_that_failed(
    fake: FakeWorkersAI, ai: WorkersAI, on_error: Any
) -> None:
    """Also those that are left out."""
    fake.simulates(Service(poison=is_poison))
    given = [(f"id {n}", text) for n, text in enumerate(poisoned(300, 7, 250))]
    job = ai.embed_many(M3, [*given, ("hole", None)], on_error=on_error, rate=None)
    assert job.failures == ()
    await job.numpy()
    failed: list[EmbedFailure] = sorted(job.failures, key=lambda failure: failure.start)
    assert [(failure.start, failure.id) for failure in failed] == [
        (7, "id 7"),
        (250, "id 250"),
        (300, "hole"),
    ]
    assert [failure.text for failure in failed] == ["poison 7", "poison 250", None]


async def test_the_reason_of_a_failure_has_no_advice(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    """The advice is the same for all texts, and some is about the command line."""
    fake.always.fails(400, 5006, "Bad input")
    reason = "400 (code 5006): Bad input"

    def job() -> EmbeddingJob[Any]:
        return ai.embed_many(M3, ["a"], on_error="yield", rate=None)

    (failure,) = [item async for item in job()]
    assert failure.reason == reason
    assert failure.error.hint in str(failure.error)
    await job().to_parquet(tmp_path / "rows.parquet")
    await job().to_jsonl(tmp_path / "rows.jsonl")
    assert (await job().arrow())["error"].to_pylist() == [reason]
    assert pq.read_table(tmp_path / "rows.parquet")["error"].to_pylist() == [reason]
    assert json.loads((tmp_path / "rows.jsonl").read_text())["error"] == reason


async def test_a_job_keeps_ten_thousand_failures(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    """All are counted."""
    fake.simulates(Service())
    job = ai.embed_many(M3, ["", *texts(1), *[""] * 12_000], on_error="skip", rate=None)
    await job.numpy()
    assert (len(job.failures), job.stats.failed) == (10_000, 12_001)


@pytest.mark.parametrize("name", ["x.parquet/", "x/", "x"])
async def test_a_folder_is_not_written_to_a_file(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, name: str
) -> None:
    """The file stays, and nothing is sent."""
    (tmp_path / name.rstrip("/")).write_text("earlier")
    path = f"{tmp_path}/{name}"
    with pytest.raises(InputError, match=f"{path} must be a folder, and there is a file"):
        await ai.embed_many(M3, ["a"]).to_parquet(path)
    assert (tmp_path / name.rstrip("/")).read_text() == "earlier"
    assert not fake.requests
