"""The server's storage: a folder with files and a SQLite database of fine-tunes and batches."""

import asyncio
import re
import sqlite3
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from cfai.errors import ConfigError

T = TypeVar("T")

_TABLES = """
    CREATE TABLE IF NOT EXISTS finetune (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        account TEXT NOT NULL,
        name TEXT NOT NULL,
        model TEXT NOT NULL,
        description TEXT,
        public INTEGER NOT NULL,
        created_at TEXT NOT NULL,
        modified_at TEXT NOT NULL,
        UNIQUE (account, name)
    );
    CREATE TABLE IF NOT EXISTS asset (
        id TEXT PRIMARY KEY,
        finetune TEXT NOT NULL REFERENCES finetune (id),
        file_name TEXT NOT NULL,
        size INTEGER NOT NULL,
        created_at TEXT NOT NULL,
        UNIQUE (finetune, file_name)
    );
    CREATE TABLE IF NOT EXISTS batch (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        account TEXT NOT NULL,
        model TEXT NOT NULL,
        requests BLOB NOT NULL,
        done BLOB
    );
"""

_PARTIAL = ".part"
_FILE_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Store:
    """A folder used by one server at a time.

    Without a name, the database is in memory, and uploaded files are in a temporary folder, which
    is created for the first of them: a server that is killed leaves none behind if it got no files.
    The database is used in a thread of its own.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cfai-store")
        self._db: sqlite3.Connection | None = None
        self._closed = False

    async def open(self) -> None:
        """Open the folder and delete the remains of interrupted uploads.

        Raises:
            ConfigError: The folder cannot be used, or another server is using it.
        """
        try:
            await asyncio.wrap_future(self._thread.submit(self._open))
        except (OSError, sqlite3.Error) as exc:
            await self.close()
            raise ConfigError(f"{self._folder} cannot be used by this server: {exc}") from exc
        except asyncio.CancelledError:
            await self.close()
            raise

    async def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Call *work* with the database in one transaction, rolled back if it raises."""

        def run() -> T:
            if self._db is None:
                raise RuntimeError("the store is closed")
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                return work(self._db)

        return await asyncio.wrap_future(self._thread.submit(run))

    async def execute(self, statement: str, *values: Any) -> Any:
        """Execute one statement in a transaction and return its first row; `None` without rows."""
        return await self.transact(lambda db: db.execute(statement, values).fetchone())

    async def close(self) -> None:
        """Close the database and delete a temporary folder. Safe to repeat."""
        if not self._closed:
            self._closed = True
            await asyncio.wrap_future(self._thread.submit(self._close))
            self._thread.shutdown()

    @property
    def files(self) -> Path:
        """The folder of the uploaded files; the names of incomplete ones end in `.part`."""
        if self._folder is not None:
            return self._folder / "files"
        if self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="cfai-local-")
        return Path(self._temporary.name)

    def partial_path(self, name: str) -> Path:
        """Return the path of an incomplete file."""
        return self.files / f"{name}{_PARTIAL}"

    # In the database thread

    def _open(self) -> None:
        database: Path | str = ":memory:"
        if self._folder is not None:
            self.files.mkdir(parents=True, exist_ok=True)
            database = self._folder / "local.db"
        self._db = sqlite3.connect(database, timeout=0, isolation_level=None)
        # Locked until closed, so that no second server deletes this one's incomplete files.
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("BEGIN EXCLUSIVE")
        self._db.execute("COMMIT")
        self._db.executescript(_TABLES)
        self._db.row_factory = sqlite3.Row
        if self._folder is not None:
            self._delete_remains(self._db)

    def _delete_remains(self, db: sqlite3.Connection) -> None:
        # Delete the server's files that have no row; leave other files alone.
        stored = {row["id"] for row in db.execute("SELECT id FROM asset")}
        for path in self.files.iterdir():
            name = path.name.removesuffix(_PARTIAL)
            if _FILE_ID.fullmatch(name) and (name not in stored or name != path.name):
                path.unlink()

    def _close(self) -> None:
        if self._db:
            self._db.close()
        self._db = None
        if self._temporary:
            self._temporary.cleanup()
