"""Checkpoints: an SQLite file of finished texts, from which a later job resumes.

A vector is on the disk before the job returns it. Texts are identified by a hash and are not
stored. One process at a time uses a file; the jobs of that process share one connection.
"""

import asyncio
import errno
import json
import os
import sqlite3
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import Any, Final, Self, TypeAlias, TypeGuard
from zlib import crc32

from cfai._types.excerpts import format_path, format_value
from cfai._types.json import loads_strictly
from cfai.embedding.threads import run_in_thread
from cfai.errors import CfaiError, ConfigError, RequestTooLarge, StatusError, status_error

if sys.platform != "win32":
    import fcntl

Outcome: TypeAlias = "array[float] | StatusError"
"""The vector of a text, or the error that it always fails with."""

_FORMAT: Final = 2
"""The version of the schema below. Version 1 was a folder of Parquet files."""

_APPLICATION_ID: Final = 0x63666169
"""Marks an SQLite file as a checkpoint: "cfai" in ASCII (SQLite, "PRAGMA application_id")."""

_PAGE_BYTES: Final = 16_384
"""Ten vectors of 384 numbers, five of 768 or three of 1024 fit into a page."""

_WAL_BYTES: Final = 64 << 20
"""The write-ahead log is copied into the file when it has grown to this size."""

_CACHE_KIB: Final = 8 << 10
"""The page cache. A larger one is not faster: the system caches the file as well."""

_HASHES_PER_QUERY: Final = 500

_BUSY_TIMEOUT: Final = 5.0
"""Seconds to wait for other programs that read the file, such as `sqlite3`."""

_PERMANENT_CODES: Final = frozenset({3030, 5006})
"""The service's codes of errors that the same text always causes."""

_SCHEMA: Final = (
    "CREATE TABLE manifest (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    # In the order of writing, which is about the order of reading. The checksum covers the hash
    # and the vector or error, since SQLite has none of its own.
    """
    CREATE TABLE texts (
        id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE,
        vector BLOB, error TEXT, checksum INTEGER NOT NULL
    )
    """,
    f"PRAGMA application_id = {_APPLICATION_ID}",
)

_SELECT: Final = """
    SELECT hash, vector, error, checksum FROM texts
    WHERE hash IN ({}) AND (vector IS NOT NULL OR id >= ?)
"""

_INSERT: Final = """
    INSERT INTO texts (id, hash, vector, error, checksum) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (hash) DO UPDATE SET
        id = excluded.id, vector = excluded.vector,
        error = excluded.error, checksum = excluded.checksum
    WHERE vector IS NULL
"""
"""A vector replaces an error; nothing replaces a vector."""


def text_hash(text: str) -> bytes:
    """Return the 16 bytes that identify a text."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def is_permanent(error: CfaiError) -> TypeGuard[StatusError]:
    """Whether the text causes the error, so that it is recorded in the checkpoint.

    Temporary errors are not recorded, nor those that are found before a request is sent.
    """
    if not isinstance(error, StatusError):
        return False
    return isinstance(error, RequestTooLarge) or error.code in _PERMANENT_CODES


class Checkpoint:
    """A checkpoint file, open for one job on one event loop.

    Args:
        database: The file, as `open` returns it.
        retry_failed: Ignore the errors that were recorded before this job.
    """

    def __init__(self, database: "_Database", *, retry_failed: bool) -> None:
        self._database = database
        self._first_error = database.next_id if retry_failed else 0
        self._unsaved: list[tuple[bytes, Outcome]] = []
        """Waiting for the next transaction."""
        self._turn = asyncio.Lock()
        """So that at most one thread waits for the connection."""
        self._error: Exception | None = None
        self._closed = False

    @classmethod
    async def open(cls, path: Path, facts: Mapping[str, Any], *, retry_failed: bool) -> Self:
        """Open a file, or create it; the caller closes it.

        Args:
            path: The file.
            facts: What determines the vectors: the model, its options, the endpoint.
            retry_failed: Ignore the errors that were recorded before this job.

        Raises:
            ConfigError: The file belongs to another model, option or endpoint; another process uses
                it; it is damaged, or no checkpoint; or it cannot be read or written.
        """
        database = _Database.acquire(path)
        try:
            await run_in_thread(database.prepare, facts)
        except BaseException:
            await run_in_thread(database.release)
            raise
        return cls(database, retry_failed=retry_failed)

    async def load(self, hashes: Sequence[bytes]) -> dict[bytes, Outcome]:
        """Return what is on record for *hashes*; those without a record are left out.

        Raises:
            ConfigError: The file is damaged or cannot be read.
        """
        async with self._turn:
            return await run_in_thread(self._database.load, hashes, self._first_error)

    async def save(self, rows: Iterable[tuple[bytes, Outcome]]) -> None:
        """Record outcomes, on the disk when this returns.

        Rows that arrive while others are written go into the next transaction together.

        Raises:
            OSError: The file cannot be written, now or in an earlier transaction of this job.
            ConfigError: The vectors differ in length from those in the file.
        """
        group = self._unsaved
        group += rows
        async with self._turn:
            if group is self._unsaved and group and self._error is None:
                self._unsaved = []
                await run_in_thread(self._write, group)
        if self._error is not None:
            raise self._error

    async def aclose(self) -> None:
        """Write the rows that a cancelled `save` left, and release the file. Safe to repeat."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._error is None:
                await self.save(())
        finally:
            await run_in_thread(self._database.release)

    def _write(self, rows: Sequence[tuple[bytes, Outcome]]) -> None:
        try:
            self._database.write(rows)
        except Exception as exc:  # Every job task that waits for these rows raises it.
            self._error = exc


_registry_lock = Lock()
_registry: dict[tuple[int, str], "_Database"] = {}
"""Open files by process id and path. A forked child must not use the connections of its parent."""


class _Database:
    """One file and its connection, shared by the jobs of this process.

    All methods but `acquire` block, and are called in threads.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = Lock()
        self._connection: sqlite3.Connection | None = None
        self._descriptor: int | None = None
        """Holds the lock of this process on the file."""
        self._holders = 0
        self._dimension: int | None = None
        self.next_id: int = 1
        """The id of the next row. Ids grow with time, also where a row replaces another."""

    @property
    def _shown(self) -> str:
        return format_path(self._path)

    @classmethod
    def acquire(cls, path: Path) -> "_Database":
        """Return the file at *path*, which is opened by `prepare` and must be released."""
        key = os.getpid(), os.path.realpath(path)
        with _registry_lock:
            database = _registry.setdefault(key, cls(key[1]))
            database._holders += 1
        return database

    def release(self) -> None:
        """Let one job go; the last one closes the file and frees it for other processes."""
        with self._lock:
            with _registry_lock:
                self._holders -= 1
                unused = not self._holders
            if not unused:
                return
            self._disconnect()
            with _registry_lock:
                if not self._holders:  # Another job may have come in the meantime.
                    _registry.pop((os.getpid(), self._path), None)

    def prepare(self, facts: Mapping[str, Any]) -> None:
        """Open the file if it is not open, and compare its manifest with *facts*.

        Raises:
            ConfigError: See `Checkpoint.open`.
        """
        with self._lock, self._errors_explained():
            if self._connection is None:
                self._connect()
                self.next_id = self._execute("SELECT coalesce(max(id), 0) + 1 FROM texts")[0][0]
            self._check_facts(facts)

    def load(self, hashes: Sequence[bytes], first_error: int) -> dict[bytes, Outcome]:
        """Return the outcomes of *hashes*; errors only from the id *first_error* on.

        Raises:
            ConfigError: The file is damaged or cannot be read.
        """
        outcomes: dict[bytes, Outcome] = {}
        with self._lock, self._errors_explained():
            for start in range(0, len(hashes), _HASHES_PER_QUERY):
                part = hashes[start : start + _HASHES_PER_QUERY]
                marks = ", ".join("?" * len(part))
                for row in self._execute(_SELECT.format(marks), *part, first_error):
                    outcomes[row[0]] = self._outcome(*row)
        return outcomes

    def write(self, rows: Sequence[tuple[bytes, Outcome]]) -> None:
        """Write rows in one transaction; they are on the disk when this returns.

        Raises:
            OSError: The file cannot be written. None of the rows is in it.
            ConfigError: The vectors differ in length from those in the file.
        """
        with self._lock, self._errors_explained(writing=True), self._transaction():
            for _, outcome in rows:
                if isinstance(outcome, array):
                    self._check_dimension(len(outcome))
            numbered = enumerate(rows, start=self.next_id)
            self.next_id += len(rows)
            self._used.executemany(_INSERT, [(number, *_encoded(*row)) for number, row in numbered])

    # Opening...

    @property
    def _used(self) -> sqlite3.Connection:
        if self._connection is None:
            raise ConfigError(f"the checkpoint {self._shown} is closed")
        return self._connection

    def _execute(self, statement: str, *parameters: object) -> list[Any]:
        return self._used.execute(statement, parameters).fetchall()

    def _connect(self) -> None:
        path = Path(self._path)
        if path.is_dir():
            raise _directory_error(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            _lock(self._descriptor)
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
            )
            self._configure(self._connection)
        except BaseException:
            self._disconnect()
            raise

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        # Last, since closing a descriptor also drops the locks that SQLite has on the file.
        if self._descriptor is not None:
            _unlock(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def _configure(self, connection: sqlite3.Connection) -> None:
        """Check that the file is a checkpoint, and create its tables if it is empty."""
        if sys.platform == "win32":
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        ((application,),) = connection.execute("PRAGMA application_id")
        ((tables,),) = connection.execute("SELECT count(*) FROM sqlite_master")
        if application != _APPLICATION_ID and (application or tables):
            raise self._not_a_checkpoint()
        ((mode,),) = connection.execute("PRAGMA journal_mode = WAL")
        if mode != "wal":
            raise ConfigError(
                f"the checkpoint {self._shown} cannot be used: its file system has no"
                " write-ahead logging; choose a local folder"
            )
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_BYTES // _PAGE_BYTES}")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        if not tables:
            connection.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute("COMMIT")

    # The manifest...

    def _check_facts(self, facts: Mapping[str, Any]) -> None:
        """Compare the manifest with *facts*, or write it if there is none yet."""
        wanted = {"format": _FORMAT, **facts}
        try:
            stored = dict(self._execute("SELECT name, value FROM manifest"))
            stored = {name: loads_strictly(value) for name, value in stored.items()}
        except (TypeError, ValueError) as exc:
            raise self._damaged("its manifest is unreadable") from exc
        if not stored:
            with self._transaction():
                for name, value in wanted.items():
                    self._store_fact(name, value)
            return
        self._dimension = stored.pop("dimension", None)
        for name in ("format", *sorted({*stored, *wanted} - {"format"})):
            self._check_fact(name, stored.get(name), wanted.get(name))

    def _check_fact(self, name: str, stored: object, wanted: object) -> None:
        if stored != wanted:
            raise ConfigError(
                f"the checkpoint {self._shown} belongs to another {name}: it has"
                f" {format_value(stored)}, and this job {format_value(wanted)}; use another file"
            )

    def _check_dimension(self, dimension: int) -> None:
        if self._dimension is None:
            self._store_fact("dimension", dimension)
            self._dimension = dimension
        self._check_fact("dimension", self._dimension, dimension)

    def _store_fact(self, name: str, value: object) -> None:
        self._execute("INSERT INTO manifest VALUES (?, ?)", name, json.dumps(value))

    # Rows and errors...

    def _outcome(self, key: bytes, vector: object, error: object, checksum: int) -> Outcome:
        data = vector if isinstance(vector, bytes) else str(error).encode()
        if crc32(data, crc32(key)) != checksum:
            raise self._damaged("a checksum does not match")
        if isinstance(vector, bytes):
            numbers = array("f", vector)
            if sys.byteorder == "big":
                numbers.byteswap()
            return numbers
        fields = loads_strictly(data.decode())
        return status_error(fields["status"], fields["code"], fields["message"])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        before = self._dimension
        self._execute("BEGIN IMMEDIATE")
        try:
            yield
            self._execute("COMMIT")
        except BaseException:
            self._dimension = before
            with suppress(sqlite3.Error):  # After some errors, SQLite has rolled back by itself.
                self._execute("ROLLBACK")
            raise

    @contextmanager
    def _errors_explained(self, *, writing: bool = False) -> Iterator[None]:
        """Raise the errors of SQLite and of the file system as ours."""
        try:
            yield
        except sqlite3.Error as exc:
            raise self._error_from(exc, writing=writing) from exc
        except UnicodeDecodeError as exc:  # The message of an error quotes a part of the schema.
            raise self._damaged("its schema is unreadable") from exc
        except BlockingIOError as exc:
            raise self._in_use() from exc
        except OSError as exc:
            raise self._unusable(exc.strerror or str(exc)) from exc

    def _error_from(self, exc: sqlite3.Error, *, writing: bool) -> Exception:
        # The primary code is in the lowest byte (SQLite, "Result and Error Codes").
        match getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF:
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return self._in_use()
            case sqlite3.SQLITE_NOTADB:
                return self._not_a_checkpoint()
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_ERROR:
                return self._damaged(str(exc))
            case code if writing:
                number = errno.ENOSPC if code == sqlite3.SQLITE_FULL else errno.EIO
                return OSError(number, str(exc), self._path)
        return self._unusable(str(exc))

    def _in_use(self) -> ConfigError:
        return ConfigError(
            f"another process is using the checkpoint {self._shown}: wait until it ends, or use"
            " another file"
        )

    def _damaged(self, reason: str) -> ConfigError:
        return ConfigError(
            f"the checkpoint {self._shown} is damaged ({reason}): restore a copy of it, or delete"
            " it and embed its texts again"
        )

    def _not_a_checkpoint(self) -> ConfigError:
        return ConfigError(f"{self._shown} is not a checkpoint: choose another file")

    def _unusable(self, reason: str) -> ConfigError:
        return ConfigError(f"the checkpoint {self._shown} cannot be used: {reason}")


# SQLite's own lock does not do: a process that opens and closes the file elsewhere drops it, and a
# forked child that exits would take the write-ahead log of its parent for its own.
if sys.platform == "win32":

    def _lock(descriptor: int) -> None:
        """Do nothing: there, SQLite locks the file for this process."""

    def _unlock(descriptor: int) -> None:
        """Do nothing."""

else:

    def _lock(descriptor: int) -> None:
        """Lock the file for this process, until it ends.

        Raises:
            BlockingIOError: Another process has locked it.
        """
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(descriptor: int) -> None:
        """Unlock the file, also for forked children that have it open."""
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)


def _encoded(key: bytes, outcome: Outcome) -> tuple[bytes, bytes | None, str | None, int]:
    """Return the columns of a row after its id."""
    if isinstance(outcome, StatusError):
        fields = {"status": outcome.status, "code": outcome.code, "message": outcome.message}
        text = json.dumps(fields)
        return key, None, text, crc32(text.encode(), crc32(key))
    if sys.byteorder == "big":
        outcome = outcome[:]
        outcome.byteswap()
    vector = outcome.tobytes()
    return key, vector, None, crc32(vector, crc32(key))


def _directory_error(path: Path) -> ConfigError:
    if (path / "manifest.json").exists() or any(path.glob("batch-*.parquet")):
        return ConfigError(
            f"{format_path(path)} is a checkpoint folder of an earlier version of cfai, and a"
            " checkpoint is now one file: finish that job with the earlier version, or choose a new"
            " file"
        )
    example = format_path(path / "vectors.db")
    return ConfigError(
        f"{format_path(path)} is a folder: a checkpoint is a file, such as {example}"
    )
