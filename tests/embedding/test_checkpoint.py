"""Checkpoints: a job resumes from its file, and no text is paid for twice."""

import asyncio
import json
import multiprocessing
import shutil
import sqlite3
import sys
import threading
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings, strategies as st

from cfai import (
    ConfigError,
    EmbeddedBatch,
    EmbedFailure,
    QuotaExceeded,
    WorkersAI,
)
from cfai.embedding.checkpoint import Checkpoint, text_hash
from cfai.errors import BadRequest, RequestTooLarge, status_error
from cfai.testing import FakeWorkersAI, Service, vector_of
from tests.embedding.conftest import HeldThreads
from tests.embedding.samples import LARGE, M3, check_vectors, collect, file_names, is_poison, texts

PROCESS = Path(__file__).with_name("job_process.py")
PAIRS = 40
"""Of jobs that begin one file."""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The path of a checkpoint that does not exist yet."""
    return tmp_path / "state.db"


def count_rows(state: Path) -> int:
    """The texts in a checkpoint that no process uses; a copy is read, with its log."""
    if not state.exists():
        return 0
    with TemporaryDirectory() as folder:
        for path in state.parent.glob(f"{state.name}*"):
            shutil.copy(path, folder)
        with closing(sqlite3.connect(Path(folder) / state.name)) as connection:
            try:
                ((rows,),) = connection.execute("SELECT count(*) FROM texts")
            except sqlite3.OperationalError:  # It was killed before there was a table.
                return 0
    return int(rows)


def change(state: Path, statement: str, *parameters: object) -> None:
    """Change a checkpoint that no process uses."""
    with closing(sqlite3.connect(state)) as connection, connection:
        connection.execute(statement, parameters)


async def embed(ai: WorkersAI, source: list[str], state: Path, **options: Any) -> list[Any]:
    """Run a job with a checkpoint to its end."""
    return await collect(ai.embed_many(M3, source, checkpoint=state, rate=None, **options))


# Resuming...


async def test_a_second_run_sends_nothing(fake: FakeWorkersAI, ai: WorkersAI, state: Path) -> None:
    """The same texts in other batches and another order are all read from the file."""
    service = fake.simulates(Service())
    check_vectors(await embed(ai, texts(100), state, batch_size=9), texts(100))
    backwards = texts(100)[::-1]
    check_vectors(await embed(ai, backwards, state, batch_size=7), backwards)
    assert service.counters.texts == 100


async def test_only_missing_texts_are_sent(fake: FakeWorkersAI, ai: WorkersAI, state: Path) -> None:
    service = fake.simulates(Service())
    await embed(ai, texts(40)[::2], state)
    items = await embed(ai, texts(40), state, batch_size=8)
    check_vectors(items, texts(40))
    assert sum(map(len, items)) == 40
    assert set(service.counters.answered.values()) == {1}
    assert service.counters.texts == 40


async def test_large_batches_are_looked_up_in_parts(state: Path) -> None:
    """A batch may have more texts than one query of SQLite takes parameters."""
    rows = [(text_hash(text), array("f", [number])) for number, text in enumerate(texts(40_000))]
    checkpoint = await Checkpoint.open(state, {}, retry_failed=False)
    await checkpoint.save(rows)
    assert await checkpoint.load([*dict(rows), text_hash("another")]) == dict(rows)
    await checkpoint.aclose()


async def test_a_job_resumes_after_the_quota_was_used_up(
    fake: FakeWorkersAI, ai: WorkersAI, state: Path
) -> None:
    service = fake.simulates(Service(quota=30))
    with pytest.raises(QuotaExceeded):
        await embed(ai, texts(50), state, batch_size=5)
    tomorrow = fake.simulates(Service())
    check_vectors(await embed(ai, texts(50), state), texts(50))
    assert service.counters.texts + tomorrow.counters.texts == 50


async def test_a_finished_checkpoint_is_one_file(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    """In a folder that is created if it does not exist."""
    fake.simulates(Service())
    await embed(ai, texts(300), tmp_path / "new" / "folder" / "state.db", batch_size=5)
    assert file_names(tmp_path / "new" / "folder") == ["state.db"]


async def test_equal_texts_are_embedded_once(
    fake: FakeWorkersAI, ai: WorkersAI, state: Path
) -> None:
    """In one batch, in concurrent batches, and later; no vector stays in memory for it."""
    service = fake.simulates(Service(latency=0.01))
    source = ["a", "b", "a", "c"] * 25
    items = await embed(ai, source, state, batch_size=6)
    check_vectors(items, source)
    assert sum(map(len, items)) == 100
    assert service.counters.answered == {"a": 1, "b": 1, "c": 1}


async def test_a_text_is_sent_again_if_the_batch_it_waited_for_failed(
    fake: FakeWorkersAI, ai: WorkersAI, state: Path
) -> None:
    answer = asyncio.Event()
    fake.fails(400, 5021, "Account is being migrated", after=answer)
    fake.answers({"shape": [1, 4], "data": [[1, 2, 3, 4]]})
    job = embed(ai, ["a", "a"], state, batch_size=1, on_error="yield", ordered=False)
    running = asyncio.create_task(job)
    await fake.until(lambda: fake.requests)
    answer.set()
    assert sorted(type(item).__name__ for item in await running) == [
        "EmbedFailure",
        "EmbeddedBatch",
    ]
    assert len(fake.requests) == 2


# Errors on record...


async def test_errors_of_texts_are_recorded(
    fake: FakeWorkersAI, ai: WorkersAI, state: Path
) -> None:
    """They come back with their class and message, until `retry_failed` asks for another try."""
    fake.simulates(Service(poison=is_poison))
    source = ["a", "poison", "", "b"]

    async def failures(**options: Any) -> list[EmbedFailure]:
        items = await embed(ai, source, state, on_error="yield", **options)
        return [item for item in items if isinstance(item, EmbedFailure)]

    first = await failures()
    healthy = fake.simulates(Service())
    second = await failures()
    assert healthy.counters.requests == 0
    assert [(item.start, item.text) for item in second] == [(1, "poison"), (2, "")]
    for before, after in zip(first, second, strict=True):
        assert (type(before.error), str(before.error)) == (type(after.error), str(after.error))
    assert isinstance(second[0].error, BadRequest)
    assert second[0].error.code == 5006
    assert [item.text for item in await failures(retry_failed=True)] == [""]
    assert healthy.counters.answered == {"poison": 1}
    assert [item.text for item in await failures()] == [""]


async def test_temporary_errors_are_not_recorded(
    fake: FakeWorkersAI, ai: WorkersAI, state: Path
) -> None:
    options: Any = {"on_error": "yield", "batch_size": 1}
    fake.simulates(Service(poison=lambda text: "broken" if text == "b" else False))
    items = await embed(ai, ["a", "b"], state, **options)
    assert [type(item) for item in items] == [EmbeddedBatch, EmbedFailure]
    service = fake.simulates(Service())
    items = await embed(ai, ["a", "b"], state, **options)
    assert [type(item) for item in items] == [EmbeddedBatch, EmbeddedBatch]
    assert service.counters.answered == {"b": 1}


async def test_only_refusals_that_blame_the_text_are_recorded(
    fake: FakeWorkersAI, ai: WorkersAI, state: Path
) -> None:
    options: Any = {"on_error": "yield", "concurrency": 1, "batch_size": 1}
    fake.fails(400, 5021, "Account is being migrated")
    fake.fails(413, 3006, "Too large")
    failed = await embed(ai, ["a", "b"], state, **options)
    assert [type(item.error) for item in failed] == [BadRequest, RequestTooLarge]
    service = fake.simulates(Service())
    first, second = await embed(ai, ["a", "b"], state, **options)
    assert isinstance(first, EmbeddedBatch)
    assert isinstance(second.error, RequestTooLarge)
    assert service.counters.answered == {"a": 1}


async def test_a_vector_replaces_an_error_for_good(
    fake: FakeWorkersAI, ai: WorkersAI, state: Path
) -> None:
    """An error that another job records for the same text later does not replace the vector."""
    fake.simulates(Service(poison=is_poison))
    (failure,) = await embed(ai, ["poison"], state, on_error="yield")
    assert isinstance(failure, EmbedFailure)
    service = fake.simulates(Service())
    await embed(ai, ["poison"], state, on_error="yield", retry_failed=True)
    facts = {"model": M3, "pooling": None, "truncate": None, "endpoint": fake.base_url}
    other = await Checkpoint.open(state, facts, retry_failed=False)
    await other.save([(text_hash("poison"), status_error(400, 5006, "Bad input"))])
    await other.aclose()
    (batch,) = await embed(ai, ["poison"], state, on_error="yield")
    assert isinstance(batch, EmbeddedBatch)
    assert service.counters.requests == 1


async def test_an_error_is_found_again_by_the_job_that_retries(
    fake: FakeWorkersAI, ai: WorkersAI, state: Path
) -> None:
    """With `retry_failed`, a text is sent once per job, however often it occurs."""
    fake.simulates(Service(poison=is_poison))
    await embed(ai, ["poison", "b"], state, on_error="yield")
    again = fake.simulates(Service(poison=is_poison))
    source = ["poison", "b"] * 5
    options: Any = {"on_error": "yield", "batch_size": 1, "retry_failed": True}
    items = await embed(ai, source, state, **options)
    assert sum(isinstance(item, EmbedFailure) for item in items) == 5
    assert again.counters.requests == 1


# What a file belongs to...


@pytest.mark.parametrize(
    ("fact", "model", "options"),
    [
        ("model", LARGE, {}),
        ("pooling", M3, {"pooling": "cls"}),
        ("truncate", M3, {"truncate": True}),
    ],
)
async def test_vectors_of_another_kind_are_refused(
    fake: FakeWorkersAI, ai: WorkersAI, state: Path, fact: str, model: str, options: Any
) -> None:
    service = fake.simulates(Service())
    await embed(ai, ["a"], state)
    with pytest.raises(ConfigError, match=rf"state\.db belongs to another {fact}"):
        await collect(ai.embed_many(model, ["a"], checkpoint=state, **options))
    assert service.counters.requests == 1


async def test_another_endpoint_dimension_or_format_is_refused(
    fake: FakeWorkersAI, ai: WorkersAI, state: Path
) -> None:
    fake.simulates(Service())
    await embed(ai, ["a"], state)
    elsewhere = fake.client(base_url=f"{fake.origin}/other")
    with pytest.raises(ConfigError, match="another endpoint"):
        await embed(elsewhere, ["a"], state)
    fake.simulates(Service(dimension=5))
    with pytest.raises(ConfigError, match="another dimension: it has 4, and this job 5"):
        await embed(ai, ["b"], state)
    assert count_rows(state) == 1
    change(state, "UPDATE manifest SET value = '3' WHERE name = 'format'")
    with pytest.raises(ConfigError, match="another format"):
        await embed(ai, ["b"], state)
    change(state, "UPDATE manifest SET value = '{' WHERE name = 'format'")
    with pytest.raises(ConfigError, match=r"state\.db is damaged \(its manifest"):
        await embed(ai, ["b"], state)


async def test_a_file_of_format_2_is_resumed(
    fake: FakeWorkersAI, ai: WorkersAI, state: Path
) -> None:
    """Written statement by statement: a release that cannot read it needs another number."""
    key = bytes.fromhex("27c35e6e9373877f29e562464e46497e")  # BLAKE2b of "a" in 16 bytes
    vector = bytes.fromhex("0000003f 000080be 0000803f 00000000")
    facts = {"format": 2, "model": M3, "pooling": None, "truncate": None, "dimension": 4}
    change(state, "PRAGMA application_id = 1667653993")
    change(state, "CREATE TABLE manifest (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
    for name, value in {**facts, "endpoint": fake.base_url}.items():
        change(state, "INSERT INTO manifest VALUES (?, ?)", name, json.dumps(value))
    change(
        state,
        "CREATE TABLE texts (id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE,"
        " vector BLOB, error TEXT, checksum INTEGER NOT NULL)",
    )
    checksum = crc32(key + vector)
    change(state, "INSERT INTO texts VALUES (1, ?, ?, NULL, ?)", key, vector, checksum)
    ((item,),) = [list(batch.vectors) for batch in await embed(ai, ["a"], state)]
    assert list(item) == [0.5, -0.25, 1, 0]
    assert not fake.requests


async def test_two_models_cannot_start_the_same_file(
    fake: FakeWorkersAI, ai: WorkersAI, state: Path
) -> None:
    """Of two jobs that start together, the second is refused before it sends anything."""
    service = fake.simulates(Service())
    jobs = [collect(ai.embed_many(model, [model], checkpoint=state)) for model in (M3, LARGE)]
    first, second = sorted(
        await asyncio.gather(*jobs, return_exceptions=True),
        key=lambda outcome: isinstance(outcome, ConfigError),
    )
    assert not isinstance(first, BaseException)
    assert isinstance(second, ConfigError)
    assert "another model" in str(second)
    assert service.counters.requests == 1


# Processes...


async def test_a_second_process_is_refused(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, state: Path
) -> None:
    """Until the first ends, also if it is killed."""
    fake.always.answers({}, after=asyncio.Event())
    process = await start_process(fake, tmp_path, 5)
    await fake.until(lambda: fake.requests, within=60)
    requests = len(fake.requests)
    with pytest.raises(ConfigError, match=r"another process is using the checkpoint .*state\.db"):
        await embed(ai, texts(5), state)
    assert len(fake.requests) == requests
    process.kill()
    await process.wait()
    fake.simulates(Service())
    check_vectors(await embed(ai, texts(5), state), texts(5))
    assert [name for name in file_names(tmp_path) if name.startswith("state")] == ["state.db"]


async def test_a_lock_survives_other_users_of_the_file_in_its_process(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, state: Path
) -> None:
    """A backup that is copied while a job runs does not let a second process in."""
    fake.simulates(Service())
    async with ai.embed_many(M3, texts(20), batch_size=5, checkpoint=state) as job:
        async for _ in job:
            shutil.copy(state, tmp_path / "backup")
            process = await start_process(fake, tmp_path, 5)
            _, errors = await process.communicate()
            assert b"ConfigError: another process is using the checkpoint" in errors
            break


def _exit_at_once() -> None:
    """The work of a forked child, which then ends like any process."""
    raise SystemExit(0)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
async def test_a_forked_child_leaves_the_file_alone(
    fake: FakeWorkersAI, ai: WorkersAI, state: Path
) -> None:
    """Its end neither frees the file nor touches the log of the parent."""
    fake.simulates(Service())
    async with ai.embed_many(M3, texts(20), batch_size=5, checkpoint=state) as job:
        async for _ in job:
            child = multiprocessing.get_context("fork").Process(target=_exit_at_once)
            await asyncio.to_thread(child.start)
            await asyncio.to_thread(child.join)
            assert "state.db-wal" in file_names(state.parent)
            break
    service = fake.simulates(Service())
    check_vectors(await embed(ai, texts(20), state), texts(20))
    assert service.counters.texts <= 15


async def test_jobs_of_one_process_share_a_file(
    fake: FakeWorkersAI, ai: WorkersAI, state: Path
) -> None:
    """They write at the same time, and each finds what the other has written."""
    service = fake.simulates(Service(latency=0.002))
    sources = [texts(60)[start:] for start in (0, 10, 20)]
    jobs = [embed(ai, source, state, batch_size=3) for source in sources]
    for items, source in zip(await asyncio.gather(*jobs), sources, strict=True):
        check_vectors(items, source)
        assert sum(map(len, items)) == len(source)
    before = service.counters.texts
    check_vectors(await embed(ai, texts(60), state), texts(60))
    assert service.counters.texts == before


def test_jobs_of_two_threads_begin_a_file_at_once(tmp_path: Path) -> None:
    """Whoever comes first creates it; each also closes it while the other may open it.

    The interpreter switches threads as often as it can.
    """
    hashes = [text_hash("first"), text_hash("second")]
    vector = array("f", [1.0, 2.0])

    async def begin_and_end(path: Path, text: bytes) -> None:
        checkpoint = await Checkpoint.open(path, {"model": M3}, retry_failed=False)
        try:
            await checkpoint.save([(text, vector)])
            assert (await checkpoint.load([text])) == {text: vector}
        finally:
            await checkpoint.aclose()

    def begin_repeatedly(path: Path, text: bytes, start: threading.Barrier) -> None:
        start.wait()
        for _ in range(2):
            asyncio.run(begin_and_end(path, text))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(2) as pool:
            for pair in range(PAIRS):
                start = threading.Barrier(2)
                path = tmp_path / f"{pair}.db"
                calls = [pool.submit(begin_repeatedly, path, text, start) for text in hashes]
                for call in calls:
                    call.result()
                assert count_rows(path) == 2
                path.unlink()
    finally:
        sys.setswitchinterval(before)


async def test_a_job_starts_while_another_has_unwritten_results(
    fake: FakeWorkersAI, ai: WorkersAI, state: Path, held_writes: HeldThreads
) -> None:
    service = fake.simulates(Service())
    await embed(ai, ["a"], state)
    asyncio.get_running_loop().set_default_executor(held_writes)
    writing = asyncio.create_task(embed(ai, ["b"], state))
    await held_writes.wait_until_reached()
    assert [len(batch) for batch in await embed(ai, ["a"], state)] == [1]
    held_writes.allowed.set()
    await writing
    await embed(ai, ["a", "b"], state)
    assert service.counters.texts == 2


# Writing...


async def test_results_are_in_the_file_before_they_are_yielded(
    fake: FakeWorkersAI, ai: WorkersAI, state: Path
) -> None:
    fake.simulates(Service(poison=is_poison))
    source = [*texts(20), "poison"]
    seen = 0
    job = ai.embed_many(M3, source, batch_size=5, on_error="yield", checkpoint=state)
    async for item in job:
        seen += len(item) if isinstance(item, EmbeddedBatch) else 1
        assert count_rows(state) >= seen
    assert seen == 21


async def test_commits_are_synchronized_with_the_disk(state: Path) -> None:
    """A write-ahead log with FULL synchronization survives a power failure."""
    checkpoint = await Checkpoint.open(state, {}, retry_failed=False)
    database = checkpoint._database
    assert database._execute("PRAGMA journal_mode") == [("wal",)]
    assert database._execute("PRAGMA synchronous") == [(2,)]
    await checkpoint.aclose()


async def test_results_are_written_together_while_another_write_runs(
    fake: FakeWorkersAI, ai: WorkersAI, state: Path, held_writes: HeldThreads
) -> None:
    """The writes of 16 requests are two: the first, and one of all that came meanwhile."""
    asyncio.get_running_loop().set_default_executor(held_writes)
    await embed(ai, [], state)
    fake.simulates(Service())
    job = ai.embed_many(M3, texts(16), batch_size=1, rate=None, checkpoint=state)
    running = asyncio.create_task(collect(job))
    await held_writes.wait_until_reached()
    await fake.until(lambda: len(fake.requests) == 16)
    await fake.until(lambda: all(request.answered.is_set() for request in fake.requests))
    for _ in range(200):
        await asyncio.sleep(0)
    assert held_writes.calls == 1
    held_writes.allowed.set()
    await running
    assert held_writes.calls < 5


async def test_leaving_keeps_the_answered_part_of_a_batch(
    fake: FakeWorkersAI, ai: WorkersAI, state: Path
) -> None:
    never = asyncio.Event()
    fake.fails(400, 5006, "Bad input")
    fake.answers({"shape": [1, 4], "data": [[1, 2, 3, 4]]})
    fake.answers({}, after=never)
    running = asyncio.create_task(embed(ai, texts(4), state))
    await fake.until(lambda: len(fake.requests) == 3)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    service = fake.simulates(Service())
    await embed(ai, texts(4), state)
    assert service.counters.answered == {"text 1": 1, "text 2": 1, "text 3": 1}


async def test_a_cancelled_job_ends_after_its_write(
    fake: FakeWorkersAI, ai: WorkersAI, state: Path, held_writes: HeldThreads
) -> None:
    asyncio.get_running_loop().set_default_executor(held_writes)
    service = fake.simulates(Service())
    running = asyncio.create_task(embed(ai, texts(4), state))
    await held_writes.wait_until_reached()
    running.cancel()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not running.done()
    held_writes.allowed.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    await embed(ai, texts(4), state)
    assert service.counters.texts == 4


async def test_a_failure_is_raised_although_writes_are_slow(
    fake: FakeWorkersAI, ai: WorkersAI, state: Path, held_writes: HeldThreads
) -> None:
    """The batch that failed waits for a write; others end before it, and are not blamed."""
    asyncio.get_running_loop().set_default_executor(held_writes)
    fake.simulates(Service(quota=10))
    job = embed(ai, texts(500), state, batch_size=5, concurrency=1)
    running = asyncio.create_task(job)
    await held_writes.wait_until_reached()
    await fake.until(lambda: len(fake.requests) == 3)
    for _ in range(500):
        await asyncio.sleep(0)
    held_writes.allowed.set()
    with pytest.raises(QuotaExceeded):
        await running


async def test_a_full_disk_is_an_error_that_names_the_file(
    fake: FakeWorkersAI,
    ai: WorkersAI,
    state: Path,
    limit_file_size: Callable[[int], AbstractContextManager[None]],
) -> None:
    """What was written before stays, and the job resumes when there is room again."""
    service = fake.simulates(Service(dimension=1024))
    await embed(ai, texts(5), state)
    with (
        limit_file_size(150_000),
        pytest.raises(OSError, match=r"state\.db") as caught,
    ):
        await embed(ai, texts(60), state, batch_size=20)
    assert caught.value.filename == str(state)
    assert 5 <= count_rows(state) < 60
    check_vectors_of_length(await embed(ai, texts(60), state), 1024)
    assert service.counters.answered["text 0"] == 1


def check_vectors_of_length(items: list[Any], dimension: int) -> None:
    assert [item.vectors.shape[1] for item in items] == [dimension] * len(items)
    assert sum(map(len, items)) == 60


# Files that cannot be used...


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20_000])


def overwrite_header(path: Path) -> None:
    path.write_bytes(b"x" * 100 + path.read_bytes()[100:])


def flip_vector(path: Path) -> None:
    flip(path, vector_of("text 0").tobytes())


def drop_table(path: Path) -> None:
    change(path, "DROP TABLE texts")


def drop_manifest(path: Path) -> None:
    change(path, "DROP TABLE manifest")


def mistype_vector(path: Path) -> None:
    change(path, "UPDATE texts SET vector = 7")


def drop_outcome(path: Path) -> None:
    change(path, "UPDATE texts SET vector = NULL")


def flip(path: Path, content: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(content) + 2] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "is damaged"),
        (overwrite_header, "is not a checkpoint"),
        (flip_vector, "is damaged"),
        (drop_table, "is damaged"),
        (drop_manifest, "is damaged"),
        (mistype_vector, "is damaged"),
        (drop_outcome, "is damaged"),
    ],
)
async def test_a_damaged_file_is_reported(
    fake: FakeWorkersAI, ai: WorkersAI, state: Path, damage: Callable[[Path], None], message: str
) -> None:
    """With its name and the way out, before anything is sent."""
    fake.simulates(Service())
    await embed(ai, texts(300), state)
    damage(state)
    service = fake.simulates(Service())
    with pytest.raises(ConfigError, match=rf"state\.db {message}.*: .*"):
        await embed(ai, texts(300), state, on_error="yield")
    assert service.counters.requests == 0


@settings(max_examples=200, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
def test_no_flipped_byte_makes_a_wrong_vector(place: float, mask: int) -> None:
    """Wherever a byte of the file changes: a text has its vector, no record, or an error."""
    hashes = [text_hash(text) for text in texts(30)]

    async def main(path: Path) -> None:
        checkpoint = await Checkpoint.open(path, {"model": M3}, retry_failed=False)
        try:
            outcomes = await checkpoint.load(hashes)
        finally:
            await checkpoint.aclose()
        for number, key in enumerate(hashes):
            assert outcomes.get(key) in (None, array("f", [number] * 384))

    data = bytearray(pristine_file())
    data[int(place * len(data))] ^= mask
    with TemporaryDirectory() as folder:
        path = Path(folder) / "state.db"
        path.write_bytes(data)
        error = None
        try:
            asyncio.run(main(path))
        except ConfigError as exc:
            error = exc
        assert error is None or str(path) in str(error)


_PRISTINE: list[bytes] = []


def pristine_file() -> bytes:
    """A checkpoint of 30 texts with 384 numbers each."""

    async def main(path: Path) -> None:
        checkpoint = await Checkpoint.open(path, {"model": M3}, retry_failed=False)
        rows = enumerate(text_hash(text) for text in texts(30))
        await checkpoint.save([(key, array("f", [number] * 384)) for number, key in rows])
        await checkpoint.aclose()

    if not _PRISTINE:
        with TemporaryDirectory() as folder:
            asyncio.run(main(Path(folder) / "state.db"))
            _PRISTINE.append((Path(folder) / "state.db").read_bytes())
    return _PRISTINE[0]


async def test_a_file_of_something_else_is_left_as_it_is(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    """A text, and a database of another program."""
    short, long, database = tmp_path / "short", tmp_path / "long", tmp_path / "database"
    short.write_text("1\n")
    long.write_text("a line\n" * 1000)
    change(database, "CREATE TABLE mine (x)")
    for path in (short, long, database):
        before = path.read_bytes()
        with pytest.raises(ConfigError, match=f"{path.name} is not a checkpoint"):
            await embed(ai, texts(3), path)
        assert path.read_bytes() == before
    assert file_names(tmp_path) == ["database", "long", "short"]
    assert not fake.requests


async def test_an_empty_file_is_a_new_checkpoint(
    fake: FakeWorkersAI, ai: WorkersAI, state: Path
) -> None:
    """As `tempfile` creates it, or a process that was killed before its first write."""
    service = fake.simulates(Service())
    open_empty(state)
    await embed(ai, texts(3), state)
    await embed(ai, texts(3), state)
    assert service.counters.texts == 3


def open_empty(path: Path) -> None:
    path.touch()


@pytest.mark.parametrize("name", ["manifest.json", "batch-0000000001-12345678.parquet"])
async def test_a_checkpoint_folder_of_an_earlier_version_is_refused(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text(json.dumps({"format": 1}))
    with pytest.raises(ConfigError, match=r"checkpoint folder of an earlier version.*new file"):
        await embed(ai, texts(3), tmp_path)
    assert file_names(tmp_path) == [name]
    assert not fake.requests


@pytest.mark.parametrize("name", ["caf\udce9.html", "a\nb.db", "\u202ebd.db"], ids=ascii)
async def test_messages_about_a_checkpoint_can_be_printed(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path, name: str
) -> None:
    """Whether it is a checkpoint with another model, none, a folder or cannot be opened."""
    fake.simulates(Service())
    path = tmp_path / name
    messages = []
    await embed(ai, texts(3), path)
    with pytest.raises(ConfigError, match="belongs to another") as caught:
        await embed(ai, texts(3), path, pooling="cls")
    messages.append(str(caught.value))
    path.write_text("something else\n" * 1000)
    with pytest.raises(ConfigError, match="is not a checkpoint") as caught:
        await embed(ai, texts(3), path)
    messages.append(str(caught.value))
    with pytest.raises(ConfigError, match="cannot be used") as caught:
        await embed(ai, texts(3), path / "below.db")
    messages.append(str(caught.value))
    path.unlink()
    path.mkdir()
    for file in ("nothing", "manifest.json"):
        (path / file).touch()
        with pytest.raises(ConfigError, match="folder") as caught:
            await embed(ai, texts(3), path)
        messages.append(str(caught.value))
    for message in messages:
        assert message.isprintable()
        assert f"{tmp_path}/{name!r}".replace("'", "") in message


async def test_a_path_that_cannot_be_a_file_is_refused(
    fake: FakeWorkersAI, ai: WorkersAI, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("somebody's")
    with pytest.raises(ConfigError, match="is a folder: a checkpoint is a file"):
        await embed(ai, texts(3), tmp_path)
    with pytest.raises(ConfigError, match="cannot be used"):
        await embed(ai, texts(3), tmp_path / "file" / "below")
    assert not fake.requests


async def test_no_extra_is_needed(fake: FakeWorkersAI, state: Path) -> None:
    """Neither to write a checkpoint nor to resume from it."""
    fake.simulates(Service())
    code = """
import asyncio, sys
sys.modules["numpy"] = sys.modules["pyarrow"] = None
from cfai import WorkersAI
async def main():
    async with WorkersAI(account_id="a", api_token="t", base_url=sys.argv[1]) as ai:
        job = ai.embed_many("@cf/baai/bge-m3", ["a"], checkpoint=sys.argv[2])
        print([batch.vectors.vectors async for batch in job], job.stats.known)
asyncio.run(main())
"""
    for known in (0, 1):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, fake.base_url, str(state), stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert out.decode().strip() == f"{[[vector_of('a')]]} {known}"


# Any sequence of all that...

STEPS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=12),
        st.sampled_from(["stay", "reopen", "reopen and retry"]),
    ),
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_a_checkpoint_behaves_like_a_dictionary(steps: list[Any]) -> None:
    """Vectors replace errors, later errors replace earlier ones, vectors stay; over reopening."""
    hashes = [text_hash(text) for text in texts(21)]

    async def main(path: Path) -> None:
        recorded: dict[bytes, Any] = {}
        hidden: set[bytes] = set()
        count = 0
        checkpoint = await Checkpoint.open(path, {"model": M3}, retry_failed=False)
        for rows, then in steps:
            saved: list[tuple[bytes, Any]] = []
            for number, is_vector in rows:
                count, key = count + 1, hashes[number]
                error = status_error(400, 5006, f"Bad \ud800 input {count}")
                outcome: Any = array("f", [count, 0.5]) if is_vector else error
                saved.append((key, outcome))
                if not isinstance(recorded.get(key), array):
                    recorded[key] = outcome
                    hidden.discard(key)
            await checkpoint.save(saved)
            if then != "stay":
                await checkpoint.aclose()
                retry = then == "reopen and retry"
                checkpoint = await Checkpoint.open(path, {"model": M3}, retry_failed=retry)
                errors = {k for k, outcome in recorded.items() if not isinstance(outcome, array)}
                hidden = errors if retry else set()
            loaded = await checkpoint.load(hashes)
            visible = {key: value for key, value in recorded.items() if key not in hidden}
            assert {k: str(v) for k, v in loaded.items()} == {k: str(v) for k, v in visible.items()}
        await checkpoint.aclose()

    with TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder) / "state.db"))


# Processes that are killed...


async def start_process(
    fake: FakeWorkersAI, tmp_path: Path, count: int
) -> asyncio.subprocess.Process:
    """Start a process with a job of four concurrent batches of five texts."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(PROCESS),
        fake.base_url,
        str(tmp_path / "state.db"),
        str(tmp_path / "vectors"),
        str(count),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def run_and_kill(fake: FakeWorkersAI, tmp_path: Path, count: int, *, requests: int) -> int:
    """Run the job until it made *requests* and reported more texts than before, and kill it.

    Returns the last number of texts that it reported.
    """
    before, last = count_rows(tmp_path / "state.db"), len(fake.requests) + requests
    process = await start_process(fake, tmp_path, count)
    assert process.stdout is not None
    reported = 0
    async with asyncio.timeout(60):
        while reported <= before:
            reported = int(await process.stdout.readline())
    await fake.until(lambda: len(fake.requests) >= last, within=60)
    process.kill()
    rest, _ = await process.communicate()
    return max([reported, *map(int, rest.split())])


async def test_a_killed_job_loses_only_what_was_in_progress(
    fake: FakeWorkersAI, tmp_path: Path
) -> None:
    """Killed at 20 moments and started anew, it ends with all vectors, each paid for once.

    What a job reported is on the disk. Four batches are sent at once; as many again, and eight
    more, are started, and may be waiting to be written.
    """
    count, random = 3000, Random(7)
    state = tmp_path / "state.db"
    service = fake.simulates(Service(latency=0.002))
    for _ in range(20):
        sent, before = service.counters.texts, count_rows(state)
        reported = await run_and_kill(fake, tmp_path, count, requests=random.randint(2, 30))
        after = count_rows(state)
        assert reported <= after < count
        assert service.counters.texts - sent <= after - before + 5 * (2 * 4 + 8)
    before, finished = service.counters.texts, count_rows(state)
    last = await start_process(fake, tmp_path, count)
    await last.communicate()
    assert last.returncode == 0
    assert service.counters.texts - before == count - finished
    vectors: array[float] = array("f")
    vectors.frombytes((tmp_path / "vectors").read_bytes())
    expected: array[float] = array("f")
    for text in texts(count):
        expected += vector_of(text)
    assert vectors == expected
    with closing(sqlite3.connect(state)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
