"""Tables, and checkpoints: what was paid for once is never paid for again."""

import asyncio
import gc
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from threading import Event
from typing import Any

import pytest

from cfai import (
    ConfigError,
    EmbeddedBatch,
    EmbedFailure,
    InputError,
    QuotaExceeded,
    Retries,
    WorkersAI,
)
from cfai.errors import BadRequest
from cfai.testing import FakeWorkersAI, Service, vector_of

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

M3 = "@cf/baai/bge-m3"
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

    def has(self, path: Path) -> bool:
        """Whether the very file that stands there was synced with all it holds, and its folder."""
        told = path.stat()
        return self.synced.get(told.st_ino) == told.st_size and (
            path.parent.stat().st_ino in self.synced
        )


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
    assert not list(tmp_path.glob(".*"))
    table = pq.read_table(tmp_path)
    right(table, texts(table.num_rows))
    assert all(disk.has(path) for path in tmp_path.iterdir())


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
        ("model", "@cf/baai/bge-large-en-v1.5", {}),
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


async def killed(fake: FakeWorkersAI, tmp_path: Path, count: int, answers: int) -> int | None:
    """Run the job until it ends, or until *answers* more came, and then kill it at once."""
    until = len(fake.requests) + answers
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(JOB), fake.base_url, str(tmp_path / "state"), str(tmp_path / "out"),
        str(count),
    )  # fmt: skip
    ended = asyncio.create_task(process.wait())
    reached = asyncio.create_task(fake.until(lambda: len(fake.requests) >= until, within=60))
    try:
        await asyncio.wait([ended, reached], return_when=asyncio.FIRST_COMPLETED)
        if process.returncode is None:
            process.kill()
        return await ended
    finally:
        reached.cancel()
        await asyncio.gather(reached, return_exceptions=True)


async def test_a_job_that_is_killed_loses_only_what_was_under_way(
    fake: FakeWorkersAI, tmp_path: Path
) -> None:
    """Killed at 20 moments and begun anew, it ends with the same table as if undisturbed.

    Each kill costs at most the four batches under way, and those whose files were being written.
    """
    count, chance = 600, Random(7)
    service = fake.simulates(Service(latency=0.002))
    kills = 0
    while kills < 20:
        if await killed(fake, tmp_path, count, chance.randint(2, 8)) == 0:
            break
        kills += 1
    finished = sum(
        pq.read_metadata(path).num_rows for path in (tmp_path / "state").glob("batch-*.parquet")
    )
    assert service.counters.texts - finished <= kills * 40
    before = service.counters.texts
    assert await killed(fake, tmp_path, count, 10_000) == 0
    assert service.counters.texts - before == count - finished
    right(pq.read_table(tmp_path / "out"), texts(count))
    assert kills == 20
