"""What the server keeps, in a folder with a SQLite database: fine-tunes, files and batches."""

import asyncio
import sqlite3
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar
from uuid import UUID

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

_PART = ".part"


class Store:
    """A folder for one server at a time; where none is named, one that goes away with the server.

    The database is used in one thread of its own.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cfai-store")
        self._db: sqlite3.Connection | None = None
        self._closed = False
        self.files: Path = Path()
        """Where the files are; those that are not whole yet end in `.part`."""

    async def open(self) -> None:
        """Open the folder, and clear away what an interrupted upload left there.

        Raises:
            ConfigError: It can't be used, or another server uses it.
        """
        try:
            await asyncio.wrap_future(self._thread.submit(self._open))
        except (OSError, sqlite3.Error) as exc:
            await self.close()
            raise ConfigError(f"{self._folder} can't be used by this server: {exc}") from exc

    async def ask(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Let *work* use the database: all of what it does there is kept, or nothing."""
        return await asyncio.wrap_future(self._thread.submit(self._work, work))

    async def close(self) -> None:
        """Close the database, and remove a folder that nobody asked for. Safe to repeat."""
        if not self._closed:
            self._closed = True
            await asyncio.wrap_future(self._thread.submit(self._close))
            self._thread.shutdown()

    def part(self, name: str) -> Path:
        """Give the path of a file that is not whole yet."""
        return self.files / f"{name}{_PART}"

    # In the thread...

    def _open(self) -> None:
        if self._folder is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="cfai-local-")
        folder = Path(self._scratch.name) if self._scratch else Path(self._folder or "")
        self.files = folder / "files"
        self.files.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(folder / "local.db", timeout=0, isolation_level=None)
        # Held until it is closed, so that no second server clears away what this one writes.
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("BEGIN EXCLUSIVE")
        self._db.execute("COMMIT")
        self._db.executescript(_TABLES)
        self._db.row_factory = sqlite3.Row
        self._clear(self._db)

    def _clear(self, db: sqlite3.Connection) -> None:
        """Remove files of ours that no row speaks of; anything else is left alone."""
        with closing(db.execute("SELECT id FROM asset")) as found:
            known = {row["id"] for row in found}
        for path in self.files.iterdir():
            name = path.name.removesuffix(_PART)
            if _is_ours(name) and (name not in known or name != path.name):
                path.unlink()

    def _work(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._db is None:
            raise RuntimeError("the store is closed")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            done = work(self._db)
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
        return done

    def _close(self) -> None:
        if self._db:
            self._db.close()
        self._db = None
        if self._scratch:
            self._scratch.cleanup()


def _is_ours(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False
