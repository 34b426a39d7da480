"""What a job has finished, in a folder: another job goes on from there, and pays for nothing twice.

A file for each batch, written before the batch is given to anybody, and a manifest that says what
the vectors are. Texts are known by a hash; they aren't kept.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid
from array import array
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from cfai.embedding import tables
from cfai.embedding.pieces import ABOUT_TEXTS, Embed, Piece, joined, one_by_one
from cfai.errors import BadRequest, CfaiError, ConfigError, InputError, StatusError

if TYPE_CHECKING:
    import pyarrow as pa

_FORMAT: Final = 1
_MANIFEST: Final = "manifest.json"


def key_of(text: str) -> bytes:
    """What a text is known by: 16 bytes."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class Checkpoint:
    """A folder of finished batches.

    Args:
        facts: What the vectors are made by: the model, its options, the endpoint.
        retry_failed: Take texts that failed as never settled.

    Raises:
        MissingExtra: pyarrow or NumPy is not installed.
        ConfigError: The folder has vectors that were made by something else.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any], *, retry_failed: bool) -> None:
        tables.arrow_there("checkpoint=")
        self._folder = folder
        self._facts = {"format": _FORMAT, **facts}
        self._dimension: int | None = None
        self._lock = Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._read_manifest()
        for rough in folder.glob(".*.rough"):
            rough.unlink(missing_ok=True)
        self._paths = sorted(folder.glob("batch-*.parquet"))
        self._part = lru_cache(maxsize=8)(self._read)
        self._index(retry_failed=retry_failed)

    def _read_manifest(self) -> None:
        path = self._folder / _MANIFEST
        if not path.exists():
            return
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            self._dimension = said.pop("dimension")
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise ConfigError(f"{path} is no manifest of a checkpoint") from exc
        for name in sorted({*said, *self._facts}):
            if said.get(name) != self._facts.get(name):
                raise ConfigError(
                    f"the checkpoint {self._folder} is of another {name}:"
                    f" {said.get(name)!r}, and not {self._facts.get(name)!r}"
                )

    def _begin(self, dimension: int) -> None:
        """Write the manifest, once it is known how long the vectors are.

        Raises:
            ConfigError: The vectors in the folder have another length.
        """
        with self._lock:
            if self._dimension is None:
                text = json.dumps({**self._facts, "dimension": dimension}, indent=2)
                tables.replace(self._folder / _MANIFEST, lambda file: file.write(text.encode()))
                self._dimension = dimension
        if self._dimension != dimension:
            raise ConfigError(
                f"the checkpoint {self._folder} is of another dimension:"
                f" {self._dimension}, and not {dimension}"
            )

    def _index(self, *, retry_failed: bool) -> None:
        """Sort all keys, with the file and the row of each: 24 bytes a text."""
        import numpy as np
        import pyarrow.parquet as pq

        keys, places = [np.empty((0, 2), np.uint64)], [np.empty(0, np.int64)]
        for number, path in enumerate(self._paths):
            columns = pq.read_table(path, columns=["key", "error"])
            joined = b"".join(columns["key"].to_pylist())
            rows = np.arange(len(columns), dtype=np.int64) + (number << 32)
            kept = np.ones(len(columns), bool)
            if retry_failed:
                kept = columns["error"].is_null().to_numpy()
            keys.append(np.frombuffer(joined, np.uint64).reshape(-1, 2)[kept])
            places.append(rows[kept])
        all_keys, all_places = np.concatenate(keys), np.concatenate(places)
        # The later of two files is the later attempt, and stands behind the earlier.
        order = np.lexsort((all_places, all_keys[:, 1], all_keys[:, 0]))
        self._keys, self._places = all_keys[order], all_places[order]

    async def embed(self, embed: Embed, texts: Sequence[str], found: list[Piece]) -> None:
        """Embed what isn't in the folder, and put what becomes of all *texts* into *found*."""
        known = await asyncio.to_thread(self.find, texts)
        missing = [place for place, one in enumerate(known) if one is None]
        asked: list[Piece] = []
        wanted = [texts[place] for place in missing]
        try:
            if wanted:
                await embed(wanted, asked)
        except BaseException:
            # A job that ends doesn't wait for a thread; and a moment is no matter to it.
            self.write(wanted, asked)
            raise
        else:
            await _to_its_end(asyncio.create_task(asyncio.to_thread(self.write, wanted, asked)))
        finally:
            if len(missing) == len(known):
                found += asked
            else:
                for place, one in one_by_one(asked):
                    known[missing[place]] = one
                found += joined(known)

    def find(self, texts: Sequence[str]) -> list[array[float] | CfaiError | None]:
        """What is known of each text."""
        return [self._find(key_of(text)) for text in texts]

    def _find(self, key: bytes) -> array[float] | CfaiError | None:
        import numpy as np

        high, low = np.frombuffer(key, np.uint64)
        at = int(np.searchsorted(self._keys[:, 0], high, "right")) - 1
        while at >= 0 and self._keys[at, 0] == high:
            if self._keys[at, 1] == low:
                place = int(self._places[at])
                return self._row(self._part(place >> 32), place & 0xFFFFFFFF)
            at -= 1
        return None

    def _read(self, number: int) -> pa.Table:
        import pyarrow.parquet as pq

        return pq.read_table(self._paths[number]).combine_chunks()

    @staticmethod
    def _row(part: pa.Table, row: int) -> array[float] | CfaiError:
        error = part["error"][row].as_py()
        if error is None:
            dimension = part["vector"].type.list_size
            numbers = part["vector"].chunk(0).values
            vector = array("f")
            vector.frombytes(numbers.slice(row * dimension, dimension).to_numpy().tobytes())
            return vector
        status, code = part["status"][row].as_py(), part["code"][row].as_py()
        if status is None:
            return InputError(error)
        return BadRequest(error, status=status, code=code)

    def write(self, texts: Sequence[str], pieces: Sequence[Piece]) -> None:
        """Keep what became of *texts*, on the disk when this returns.

        Raises:
            ConfigError: The vectors in the folder have another length.
        """
        import pyarrow as pa

        buffer: array[float] = array("f")
        errors: list[CfaiError | None] = []
        keys: list[bytes] = []
        for place, one in one_by_one(pieces):
            if isinstance(one, array):
                buffer += one
                errors.append(None)
            elif isinstance(one, ABOUT_TEXTS):
                errors.append(one)
            else:
                continue  # It may go better another time.
            keys.append(key_of(texts[place]))
        there = errors.count(None)
        dimension = len(buffer) // there if there else self._dimension
        if not (keys and dimension):
            return  # Nothing but failures so far: they are found again for nothing.
        self._begin(dimension)
        said = [error if isinstance(error, StatusError) else None for error in errors]
        rows = {
            "key": pa.array(keys, pa.binary(16)),
            "vector": tables.vectors_column(buffer, dimension, [one is None for one in errors]),
            "error": pa.array(
                [None if one is None else _message(one) for one in errors], pa.string()
            ),
            "status": pa.array([one and one.status for one in said], pa.int32()),
            "code": pa.array([one and one.code for one in said], pa.int32()),
        }
        # Names in the order of time, so that a later attempt is found before an earlier one.
        name = f"batch-{time.time_ns():020}-{os.getpid()}-{uuid.uuid4().hex[:8]}.parquet"
        tables.write(pa.table(rows), self._folder / name)


async def _to_its_end(writing: asyncio.Task[None]) -> None:
    """Wait for a thread, also where whoever waits is cancelled: the next job may read at once."""
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait([writing])
        raise


def _message(error: CfaiError) -> str:
    return error.message if isinstance(error, StatusError) else str(error)
