"""Tables, and checkpoints: what was paid for once is never paid for again."""

import asyncio
import gc
import json
import os
import signal
import sys
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from threading import Event
from typing import Any

import pytest
from hypothesis import given, strategies as st

from cfai import (
    ConfigError,
    EmbeddedBatch,
    EmbeddingJob,
    EmbedFailure,
    InputError,
    QuotaExceeded,
    Retries,
    WorkersAI,
)
from cfai.embedding import kept
from cfai.embedding.checkpoint import key_of
from cfai.embedding.index import Entries, Index
from cfai.errors import BadRequest, RequestTooLarge
from cfai.testing import FakeWorkersAI, Service, vector_of

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

M3 = "@cf/baai/bge-m3"
LARGE = "@cf/baai/bge-large-en-v1.5"
JOB = Path(__file__).with_name("embedding_job.py")


def texts(count: int) -> list[str]:
    return [f"text {number}" for number in range(count)]


def poison(text: str) -> bool:
    return "poison" in text


@pytest.fixture
def ai(fake: FakeWorkersAI) -> WorkersAI:
    return fake.client(retries=Retries(max=4, base=0.002))


def right(table: Any, given: list[str]) -> None:
    """A row for each text, with its vector or an error."""
    rows = sorted(table.to_pylist(), key=lambda row: row["place"])
    assert [row["place"] for row in rows] == list(range(len(given)))
    for row, text in zip(rows, given, strict=True):
        if poison(text) or not text:
            assert row["vector"] is None
            assert row["error"]
        else:
            assert row["vector"] == vector_of(text).tolist()
            assert row["error"] is None


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def collected(job: EmbeddingJob[Any]) -> list[Any]:
    return [item async for item in job]


def batches(folder: Path) -> list[Path]:
    return sorted(folder.glob("batch-*.parquet"))


class Disk:
    """Calls of `os.fsync`, which are made as always, only when they are let."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.synced: dict[int, int] = {}
        """The size that each file had, by its inode."""
        self.called = Event()
        self.let = Event()
        self.let.set()
        self._fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self._sync)

    def _sync(self, opened: int) -> None:
        self.called.set()
        assert self.let.wait(30)
        self._fsync(opened)
        told = os.fstat(opened)
        self.synced[told.st_ino] = told.st_size

    def has_all(self, folder: Path) -> bool:
        """Whether the very files that stand there were synced with all they hold, and *folder*."""
        whole = [path for path in folder.iterdir() if path.suffix in {".parquet", ".json"}]
        told = [path.stat() for path in whole]
        synced = [self.synced.get(one.st_ino) == one.st_size for one in told]
        return all(synced) and folder.stat().st_ino in self.synced


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@contextmanager
def small_disk(most: int) -> Iterator[None]:
    """No file may become longer than *most* bytes."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


# Tables...


@pytest.mark.parametrize("ordered", [True, False])
async def test_one_table_of_all(fake: FakeWorkersAI, ai: WorkersAI, ordered: bool) -> None:
    """The ids as they came, vectors as lists of one length, and null where there is none."""
    fake.simulates(Service(poison=poison))
    given = [*texts(20), "poison", *texts(10)]
    pairs = [(f"id-{place}", text) for place, text in enumerate(given)]
    job = ai.embed_many(M3, pairs, batch_size=7, on_error="yield", ordered=ordered)
    table = await job.arrow()
    right(table, given)
    assert table["id"].to_pylist() == [key for key, _ in pairs]
    assert table.schema.field("vector").type == pa.list_(pa.float32(), 4)


async def test_a_table_of_nothing(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    assert (await ai.embed_many(M3, []).arrow()).num_rows == 0


async def test_ids_of_several_types(fake: FakeWorkersAI, ai: WorkersAI) -> None:
    fake.simulates(Service())
    with pytest.raises(InputError, match="the ids"):
        await ai.embed_many(M3, [("one", "a"), (2, "b")]).arrow()


async def test_a_folder_of_files(fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path) -> None:
    """Readable as one table; another job's files don't stay behind."""
    fake.simulates(Service(poison=poison))
    (tmp_path / "part-00007.parquet").write_bytes(b"of an earlier job")
    given = [*texts(10_050), "poison"]
    await ai.embed_many(M3, given, on_error="yield", rate=None).to_parquet(tmp_path)
    assert names(tmp_path) == ["part-00000.parquet", "part-00001.parquet"]
    right(pq.read_table(tmp_path), given)


async def test_a_folder_of_a_job_that_failed(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    """What was embedded before is in the files."""
    fake.simulates(Service(quota=30))
    with pytest.raises(QuotaExceeded):
        await ai.embed_many(M3, texts(50), batch_size=10, concurrency=1).to_parquet(tmp_path)
    right(pq.read_table(tmp_path), texts(30))


async def test_an_older_jobs_files_are_gone_before_the_first(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    """A folder never reads as one table of two jobs; and what others wrote stays."""
    fake.simulates(Service())
    for name in ("part-00001.parquet", "part-2024-backup.parquet", "part-9.parquet"):
        (tmp_path / name).write_bytes(b"of others")
    fake.simulates(Service(quota=30))
    with pytest.raises(QuotaExceeded):
        await ai.embed_many(M3, texts(50), batch_size=10, concurrency=1).to_parquet(tmp_path)
    assert names(tmp_path) == [
        "part-00000.parquet",
        "part-2024-backup.parquet",
        "part-9.parquet",
    ]


async def test_nothing_embedded_leaves_an_older_jobs_files(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    fake.simulates(Service(quota=0))
    (tmp_path / "part-00000.parquet").write_bytes(b"of an earlier job")
    with pytest.raises(QuotaExceeded):
        await ai.embed_many(M3, texts(5)).to_parquet(tmp_path)
    assert names(tmp_path) == ["part-00000.parquet"]


async def test_the_files_of_a_folder_have_one_schema(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    """Also where ids are missing, or no text of the first file has a vector."""
    fake.simulates(Service(poison=poison))
    given = [(None, "")] * 10_001 + [("a", "one"), ("b", "two")]
    job = ai.embed_many(M3, given, on_error="yield", rate=None)
    await job.to_parquet(tmp_path)
    table = pq.read_table(tmp_path)
    assert table["id"].to_pylist()[-3:] == [None, "a", "b"]
    assert table["vector"].to_pylist()[-2:] == [vector_of(one).tolist() for one in ("one", "two")]


@pytest.mark.parametrize("unfit", ["x", 2**70, "\ud800", object()])
async def test_an_unfit_id_ends_the_job_when_it_comes(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, unfit: object
) -> None:
    """Before the rest is paid for; and what was embedded before is there."""
    service = fake.simulates(Service())
    given: list[Any] = [(place, f"text {place}") for place in range(500)]
    given[25] = (unfit, "text 25")
    options: Any = {"batch_size": 10, "concurrency": 1}
    job = ai.embed_many(M3, given, **options)
    with pytest.raises(InputError, match="one type"):
        await job.arrow()
    assert [batch.start for batch in job.finished] == [0, 10, 20]
    with pytest.raises(InputError, match="one type"):
        await ai.embed_many(M3, given, **options).to_parquet(tmp_path)
    assert pq.read_table(tmp_path)["id"].to_pylist() == list(range(20))
    assert service.counters.texts < 400


async def test_a_table_that_failed_keeps_what_was_finished(
    fake: FakeWorkersAI, ai: WorkersAI
) -> None:
    fake.simulates(Service(quota=30))
    job = ai.embed_many(M3, texts(50), batch_size=10, concurrency=1)
    with pytest.raises(QuotaExceeded):
        await job.arrow()
    assert [batch.start for batch in job.finished] == [0, 10, 20]


async def test_leaving_while_a_file_is_written(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, disk: Disk
) -> None:
    """The cancellation comes out when the file is whole; nobody else writes meanwhile."""
    fake.simulates(Service())
    disk.let.clear()
    job = ai.embed_many(M3, texts(10_100), rate=None)
    running = asyncio.create_task(job.to_parquet(tmp_path))
    await asyncio.to_thread(disk.called.wait)
    running.cancel()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not running.done()
    disk.let.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not [name for name in names(tmp_path) if name.startswith(".")]
    table = pq.read_table(tmp_path)
    right(table, texts(table.num_rows))
    assert disk.has_all(tmp_path)


async def test_a_full_disk(fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path) -> None:
    """The error names the file, and nothing is left of it."""
    fake.simulates(Service(dimension=1024))
    state, out = tmp_path / "state", tmp_path / "out"
    with small_disk(60_000):
        with pytest.raises(OSError, match=r"batch-.*\.parquet"):
            await ai.embed_many(M3, texts(60), batch_size=20, checkpoint=state).numpy()
        with pytest.raises(OSError, match=r"part-00000\.parquet"):
            await ai.embed_many(M3, texts(60), batch_size=20).to_parquet(out)
    gc.collect()  # An exception that nobody fetched would be told now.
    assert names(state) == ["lock", "manifest.json"]
    assert names(out) == []
    assert (await ai.embed_many(M3, texts(60), checkpoint=state).arrow()).num_rows == 60


# Checkpoints...


async def test_the_second_run_asks_for_nothing(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    """The same texts, in other batches and another order: all of it is there."""
    service = fake.simulates(Service())
    given = texts(100)
    first = await ai.embed_many(M3, given, batch_size=9, checkpoint=tmp_path).numpy()
    again = await ai.embed_many(M3, given[::-1], batch_size=7, checkpoint=tmp_path).numpy()
    assert (again[::-1] == first).all()
    assert service.counters.texts == 100


async def test_only_what_is_missing_is_sent(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    service = fake.simulates(Service())
    await ai.embed_many(M3, texts(40)[::2], checkpoint=tmp_path).numpy()
    right(await ai.embed_many(M3, texts(40), batch_size=8, checkpoint=tmp_path).arrow(), texts(40))
    assert set(service.counters.answered.values()) == {1}
    assert service.counters.texts == 40


async def test_a_quota_that_ends_and_begins_again(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    """What was finished before the quota was used up is not paid for the next day."""
    service = fake.simulates(Service(quota=30))
    with pytest.raises(QuotaExceeded):
        await ai.embed_many(M3, texts(50), batch_size=5, checkpoint=tmp_path).numpy()
    tomorrow = fake.simulates(Service())
    right(await ai.embed_many(M3, texts(50), checkpoint=tmp_path).arrow(), texts(50))
    assert service.counters.texts + tomorrow.counters.texts == 50


async def test_a_failure_is_told_also_where_files_take_long(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, disk: Disk
) -> None:
    """The chunk that failed waits for what is written; others end before it, and aren't blamed."""
    await ai.embed_many(M3, [], checkpoint=tmp_path).numpy()
    fake.simulates(Service(quota=10))
    disk.called.clear()
    disk.let.clear()
    job = ai.embed_many(M3, texts(500), batch_size=5, concurrency=1, checkpoint=tmp_path)
    running = asyncio.create_task(job.numpy())
    await asyncio.to_thread(disk.called.wait)
    await fake.until(lambda: len(fake.requests) == 3)
    for _ in range(500):
        await asyncio.sleep(0)
    disk.let.set()
    with pytest.raises(QuotaExceeded):
        await running


async def test_failures_are_kept(fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path) -> None:
    """With their error, until they are to be asked for again."""
    fake.simulates(Service(poison=poison))
    given = ["a", "poison", "", "b"]

    async def failures(**options: Any) -> list[EmbedFailure]:
        job = ai.embed_many(M3, given, on_error="yield", checkpoint=tmp_path, **options)
        return [item async for item in job if isinstance(item, EmbedFailure)]

    first = await failures()
    healthy = fake.simulates(Service())
    second = await failures()
    assert healthy.counters.requests == 0
    assert [(one.start, one.text) for one in second] == [(1, "poison"), (2, "")]
    for before, after in zip(first, second, strict=True):
        assert (type(before.error), str(before.error)) == (type(after.error), str(after.error))
    assert isinstance(second[0].error, BadRequest)
    assert second[0].error.code == 5006
    assert [one.text for one in await failures(retry_failed=True)] == [""]
    assert healthy.counters.answered == {"poison": 1}
    assert [one.text for one in await failures()] == [""]


async def test_a_passing_failure_is_not_kept(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    """What may go better the next time is asked for again."""
    fake.always.fails(500, 7009, "Internal error")
    quick = ai.with_options(retries=Retries(max=0))
    job = quick.embed_many(M3, ["a"], on_error="yield", checkpoint=tmp_path)
    assert [type(item) async for item in job] == [EmbedFailure]
    fake.simulates(Service())
    job = quick.embed_many(M3, ["a"], on_error="yield", checkpoint=tmp_path)
    assert [type(item) async for item in job] == [EmbeddedBatch]


@pytest.mark.parametrize(
    ("what", "model", "options"),
    [
        ("model", LARGE, {}),
        ("pooling", M3, {"pooling": "cls"}),
        ("truncate", M3, {"truncate": True}),
    ],
)
async def test_vectors_of_two_kinds_are_not_mixed(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, what: str, model: str, options: Any
) -> None:
    fake.simulates(Service())
    await ai.embed_many(M3, ["a"], checkpoint=tmp_path).numpy()
    with pytest.raises(ConfigError, match=f"another {what}"):
        await ai.embed_many(model, ["a"], checkpoint=tmp_path, **options).numpy()


async def test_another_endpoint_or_dimension(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    fake.simulates(Service())
    await ai.embed_many(M3, ["a"], checkpoint=tmp_path).numpy()
    elsewhere = fake.client(base_url=f"{fake.origin}/other")
    with pytest.raises(ConfigError, match="another endpoint"):
        await elsewhere.embed_many(M3, ["a"], checkpoint=tmp_path).numpy()
    fake.simulates(Service(dimension=5))
    with pytest.raises(ConfigError, match="another dimension"):
        await ai.embed_many(M3, ["b"], checkpoint=tmp_path).numpy()
    (tmp_path / "manifest.json").write_text(json.dumps([]))
    with pytest.raises(ConfigError, match="no manifest"):
        await ai.embed_many(M3, ["b"], checkpoint=tmp_path).numpy()


async def test_two_kinds_at_once(fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path) -> None:
    """Of two jobs that begin a folder, the second is refused before it asks for anything."""
    service = fake.simulates(Service())
    jobs = [ai.embed_many(model, [model], checkpoint=tmp_path).numpy() for model in (M3, LARGE)]
    first, second = sorted(
        await asyncio.gather(*jobs, return_exceptions=True),
        key=lambda one: isinstance(one, ConfigError),
    )
    assert not isinstance(first, BaseException)
    assert isinstance(second, ConfigError)
    assert "another model" in str(second)
    assert service.counters.requests == 1


async def test_files_say_what_made_them(fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path) -> None:
    """Without its manifest, a folder is still taken by nobody else, and by its own job."""
    service = fake.simulates(Service())
    await ai.embed_many(M3, ["a"], checkpoint=tmp_path).numpy()
    manifest = tmp_path / "manifest.json"
    before = manifest.read_text()
    manifest.unlink()
    with pytest.raises(ConfigError, match="another model"):
        await ai.embed_many(LARGE, ["a"], checkpoint=tmp_path).numpy()
    await ai.embed_many(M3, ["a"], checkpoint=tmp_path).numpy()
    assert service.counters.requests == 1
    assert manifest.read_text() == before
    assert json.loads(before)["dimension"] == 4


async def test_one_process_at_a_time(fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path) -> None:
    """Another is refused until it ends, in whatever way; and its half-written files are removed."""
    state = tmp_path / "state"
    fake.always.answers({}, after=asyncio.Event())
    process = await process_of(fake, tmp_path, 5)
    await fake.until(lambda: fake.requests, within=60)
    (state / ".batch-1.parquet.1-2.rough").write_bytes(b"half")
    with pytest.raises(ConfigError, match="another process"):
        await ai.embed_many(M3, texts(5), checkpoint=state).numpy()
    assert ".batch-1.parquet.1-2.rough" in names(state)
    process.kill()
    await process.wait()
    fake.simulates(Service())
    await ai.embed_many(M3, texts(5), checkpoint=state).numpy()
    assert [name.split("-")[0] for name in names(state)] == ["batch", "lock", "manifest.json"]


async def test_two_jobs_of_one_process(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, disk: Disk
) -> None:
    """A job that opens the folder leaves alone what the other is writing."""
    service = fake.simulates(Service())
    await ai.embed_many(M3, ["a"], checkpoint=tmp_path).numpy()
    disk.called.clear()
    disk.let.clear()
    writing = asyncio.create_task(ai.embed_many(M3, ["b"], checkpoint=tmp_path).numpy())
    await asyncio.to_thread(disk.called.wait)
    opening = ai.embed_many(M3, ["a"], checkpoint=tmp_path)
    assert [len(batch) async for batch in opening] == [1]
    disk.let.set()
    await writing
    await ai.embed_many(M3, ["a", "b"], checkpoint=tmp_path).numpy()
    assert service.counters.texts == 2


async def test_a_vector_counts_more_than_an_error(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    """Whichever of the two is thought to be the later."""
    fake.simulates(Service(poison=poison))
    options: Any = {"on_error": "yield", "checkpoint": tmp_path}
    assert [type(one) async for one in ai.embed_many(M3, ["poison"], **options)] == [EmbedFailure]
    failure = batches(tmp_path)[0]
    service = fake.simulates(Service())
    await ai.embed_many(M3, ["poison"], retry_failed=True, **options).numpy()
    failure.rename(tmp_path / "batch-9999999999-later.parquet")
    assert [type(one) async for one in ai.embed_many(M3, ["poison"], **options)] == [EmbeddedBatch]
    assert service.counters.requests == 1


async def test_equal_texts_are_embedded_once(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    """In one batch, in batches under way at once, and later; with nothing kept in memory."""
    service = fake.simulates(Service(latency=0.01))
    given = ["a", "b", "a", "c"] * 25
    found = await ai.embed_many(M3, given, batch_size=6, checkpoint=tmp_path).arrow()
    right(found, given)
    assert service.counters.answered == {"a": 1, "b": 1, "c": 1}


async def test_what_others_wait_for_may_fail(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    """Whoever waited for an equal text asks for it again."""
    answer = asyncio.Event()
    fake.fails(500, 7009, "Internal error", after=answer)
    fake.answers({"shape": [1, 4], "data": [[1, 2, 3, 4]]})
    once = ai.with_options(retries=Retries(max=0))
    job = once.embed_many(
        M3, ["a", "a"], batch_size=1, on_error="yield", checkpoint=tmp_path, ordered=False
    )
    running = asyncio.create_task(collected(job))
    await fake.until(lambda: fake.requests)
    answer.set()
    assert sorted(type(item).__name__ for item in await running) == [
        "EmbedFailure",
        "EmbeddedBatch",
    ]
    assert len(fake.requests) == 2


async def test_what_may_pass_is_not_kept(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    """Of refusals only those that blame the text; and they come back as they were."""
    options: Any = {"on_error": "yield", "checkpoint": tmp_path, "concurrency": 1, "batch_size": 1}
    fake.fails(400, 5021, "Account is being migrated")
    fake.fails(413, 3006, "Too large")
    failed = await collected(ai.embed_many(M3, ["a", "b"], **options))
    assert [type(one.error) for one in failed] == [BadRequest, RequestTooLarge]
    service = fake.simulates(Service())
    first, second = await collected(ai.embed_many(M3, ["a", "b"], **options))
    assert isinstance(first, EmbeddedBatch)
    assert isinstance(second.error, RequestTooLarge)
    assert service.counters.answered == {"a": 1}


async def test_all_is_on_the_disk(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, disk: Disk
) -> None:
    """Every file stands there as it was synced, under its own name."""
    fake.simulates(Service(poison=poison))
    given = [*texts(20), "poison"]
    job = ai.embed_many(M3, given, batch_size=5, on_error="yield", checkpoint=tmp_path)
    async for _ in job:
        assert disk.has_all(tmp_path)
    assert len(batches(tmp_path)) > 0


async def test_many_are_written_at_once(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, disk: Disk
) -> None:
    """What is settled while a file is written is in the next, together."""
    await ai.embed_many(M3, [], checkpoint=tmp_path).numpy()
    fake.simulates(Service())
    disk.called.clear()
    disk.let.clear()
    job = ai.embed_many(M3, texts(16), batch_size=1, rate=None, checkpoint=tmp_path)
    running = asyncio.create_task(job.numpy())
    await asyncio.to_thread(disk.called.wait)
    await fake.until(lambda: len(fake.requests) == 16)
    await fake.until(lambda: job.stats.requests == 16)
    disk.let.set()
    await running
    assert len(batches(tmp_path)) < 5


async def test_leaving_keeps_what_was_found(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    """Half of a batch was answered when the job was cancelled: that half is paid for once."""
    never = asyncio.Event()
    fake.fails(400, 5006, "Bad input")
    fake.answers({"shape": [2, 4], "data": [[1, 2, 3, 4]] * 2})
    fake.answers({}, after=never)
    running = asyncio.create_task(ai.embed_many(M3, texts(4), checkpoint=tmp_path).numpy())
    await fake.until(lambda: len(fake.requests) == 3)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    service = fake.simulates(Service())
    await ai.embed_many(M3, texts(4), checkpoint=tmp_path).numpy()
    assert service.counters.answered == {"text 2": 1, "text 3": 1}


async def test_leaving_while_a_batch_is_kept(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, disk: Disk
) -> None:
    """A job that was cancelled has ended only when what it was writing is there."""
    await ai.embed_many(M3, [], checkpoint=tmp_path).numpy()
    service = fake.simulates(Service())
    disk.called.clear()
    disk.let.clear()
    running = asyncio.create_task(ai.embed_many(M3, texts(4), checkpoint=tmp_path).numpy())
    await asyncio.to_thread(disk.called.wait)
    running.cancel()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not running.done()
    disk.let.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    await ai.embed_many(M3, texts(4), checkpoint=tmp_path).numpy()
    assert service.counters.texts == 4


# What isn't as it was written...


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def flipped_vector(path: Path) -> None:
    flip(path, vector_of("text 0").tobytes())


def flipped_key(path: Path) -> None:
    flip(path, key_of("text 0"))


def flip(path: Path, what: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(what) + 2] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut, empty, folder, flipped_vector, flipped_key])
async def test_a_damaged_file_is_told(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, damage: Any
) -> None:
    """With what to do about it; and then only its texts are embedded again."""
    fake.simulates(Service())
    await ai.embed_many(M3, texts(3), checkpoint=tmp_path).numpy()
    damaged = batches(tmp_path)[0]
    await ai.embed_many(M3, ["other"], checkpoint=tmp_path).numpy()
    damage(damaged)
    with pytest.raises(ConfigError, match=f"{damaged.name} is damaged: delete it"):
        await ai.embed_many(M3, [*texts(3), "other"], checkpoint=tmp_path).numpy()
    removed(damaged)
    service = fake.simulates(Service())
    given = [*texts(3), "other"]
    right(await ai.embed_many(M3, given, checkpoint=tmp_path).arrow(), given)
    assert service.counters.texts == 3


def removed(path: Path) -> None:
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink()


async def test_a_file_that_belongs_elsewhere(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"x": [1]}), tmp_path / "batch-foreign.parquet")
    with pytest.raises(ConfigError, match=r"batch-foreign\.parquet is no file of a checkpoint"):
        await ai.embed_many(M3, texts(3), checkpoint=tmp_path).numpy()
    assert not fake.requests


async def test_a_file_that_goes_away(fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path) -> None:
    fake.simulates(Service())
    await ai.embed_many(M3, texts(4), checkpoint=tmp_path).numpy()
    job = ai.embed_many(M3, forgetting(tmp_path), batch_size=2, checkpoint=tmp_path)
    with pytest.raises(ConfigError, match=r"batch-.*\.parquet can't be read"):
        await job.numpy()


def forgetting(state: Path) -> Iterator[str]:
    """Texts of which the file goes away when the first is asked for."""
    batches(state)[0].unlink()
    yield from texts(4)


@pytest.mark.parametrize("where", ["file", "file/below", "manifest"])
async def test_a_place_that_can_be_no_checkpoint(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, where: str
) -> None:
    (tmp_path / "file").write_text("of somebody")
    (tmp_path / "manifest" / "manifest.json").mkdir(parents=True)
    with pytest.raises(ConfigError, match="can't be used"):
        await ai.embed_many(M3, texts(3), checkpoint=tmp_path / where).numpy()
    assert not fake.requests


async def test_vectors_are_read_where_they_lie(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    """Each has its place in its file, however large that is: nothing else is read for it."""
    fake.simulates(Service(poison=poison, dimension=768))
    given = [*texts(2000), "poison", "more"]
    await ai.embed_many(
        M3, given, batch_size=50, rate=None, on_error="yield", checkpoint=tmp_path
    ).numpy()
    for path in batches(tmp_path):
        part, facts, keys, _ = kept.opened(path)
        data = path.read_bytes()
        vectors = pq.read_table(path)["vector"].to_pylist()
        for row in range(part.vectors):
            lies = data[part.offset + 4 * 768 * row :][: 4 * 768]
            assert array("f", lies).tolist() == vectors[row]
        assert vectors[part.vectors :] == [None] * (len(keys) - part.vectors)
        assert facts["model"] == M3


async def test_a_file_laid_out_differently(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    """Where the numbers of a file lie elsewhere, it is read nevertheless."""
    service = fake.simulates(Service())
    await ai.embed_many(M3, texts(300), rate=None, checkpoint=tmp_path).numpy()
    for path in batches(tmp_path):
        pq.write_table(pq.read_table(path), path, compression="gzip")
    right(await ai.embed_many(M3, texts(300), checkpoint=tmp_path).arrow(), texts(300))
    assert service.counters.texts == 300


@given(
    runs=st.lists(st.lists(st.integers(0, 60), max_size=30, unique=True), max_size=8),
)
def test_an_index_knows_the_newest(runs: list[list[int]]) -> None:
    """However often it is added to: the last of equal keys counts, and no key is lost."""
    np = pytest.importorskip("numpy")
    keys = [number.to_bytes(2, "big") + bytes(14) for number in range(61)]
    index, known = Index(), {}
    for part, run in enumerate(runs):
        if run:
            joined = np.frombuffer(b"".join(keys[one] for one in run), "S16")
            index = index.with_(Entries.of(part, joined, np.array(run, np.uint32)))
        known.update({keys[one]: (part, row, one) for row, one in enumerate(run)})
    assert index.find(keys) == known


async def test_a_checkpoint_needs_its_extra(tmp_path: Path) -> None:
    """Also where only NumPy is missing."""
    code = """
import asyncio, sys
sys.modules["numpy"] = None
from cfai import MissingExtra, WorkersAI
async def main():
    async with WorkersAI(account_id="a", api_token="t") as ai:
        await ai.embed_many("@cf/baai/bge-m3", ["a"], checkpoint=sys.argv[1]).numpy()
try:
    asyncio.run(main())
except MissingExtra as exc:
    print(exc)
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(tmp_path / "state"), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert b"pip install 'cfai[" in out


# Processes that are killed...


async def process_of(fake: FakeWorkersAI, tmp_path: Path, count: int) -> asyncio.subprocess.Process:
    """A process with the job: four batches of five texts at once."""
    return await asyncio.create_subprocess_exec(
        sys.executable, str(JOB), fake.base_url, str(tmp_path / "state"), str(tmp_path / "out"),
        str(count), stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip


def kept_rows(state: Path) -> int:
    return sum(pq.read_metadata(path).num_rows for path in batches(state))


async def killed(fake: FakeWorkersAI, tmp_path: Path, count: int, *, requests: int) -> int:
    """Run the job until it made *requests* and told that there are more texts settled than before;
    kill it at once, and give the number that it told last.
    """
    before, until = kept_rows(tmp_path / "state"), len(fake.requests) + requests
    process = await process_of(fake, tmp_path, count)
    assert process.stdout is not None
    told = 0
    async with asyncio.timeout(60):
        while told <= before:
            told = int(await process.stdout.readline())
    await fake.until(lambda: len(fake.requests) >= until, within=60)
    process.kill()
    rest, _ = await process.communicate()
    return max([told, *map(int, rest.split())])


async def test_a_job_that_is_killed_loses_only_what_was_under_way(
    fake: FakeWorkersAI, tmp_path: Path
) -> None:
    """Killed at 20 moments and begun anew, it ends with the same table as if undisturbed.

    What a job told of is on the disk. Four batches are asked for at once; as many again, and eight
    more, are begun, and may be waiting for their files.
    """
    count, chance = 3000, Random(7)
    state = tmp_path / "state"
    service = fake.simulates(Service(latency=0.002))
    for _ in range(20):
        asked, before = service.counters.texts, kept_rows(state)
        told = await killed(fake, tmp_path, count, requests=chance.randint(2, 30))
        after = kept_rows(state)
        assert told <= after < count
        assert service.counters.texts - asked <= after - before + 5 * (2 * 4 + 8)
    before, finished = service.counters.texts, kept_rows(state)
    last = await process_of(fake, tmp_path, count)
    await last.communicate()
    assert last.returncode == 0
    assert service.counters.texts - before == count - finished
    right(pq.read_table(tmp_path / "out"), texts(count))
