"""The folder of a checkpoint: its manifest, its files, and who may work in it."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, Final

from cfai.embedding import files, kept
from cfai.embedding.holding import Hold
from cfai.embedding.index import Entries, Index, Place
from cfai.embedding.kept import Part, Row
from cfai.errors import ConfigError, StatusError

_FORMAT: Final = 1
_MANIFEST: Final = "manifest.json"

_manifests = Lock()
"""Jobs of one process share a folder, and its manifest."""


class Folder:
    """What is settled already, and where more is kept. All but `find` is for threads.

    Args:
        facts: What the vectors are made by: the model, its options, the endpoint.
        retry_failed: Take texts that failed as never settled.
    """

    def __init__(self, path: Path, facts: Mapping[str, Any], *, retry_failed: bool) -> None:
        self._path = path
        self._facts = {"format": _FORMAT, **facts}
        self._retry_failed = retry_failed
        self._dimension: int | None = None
        self._parts: list[Part] = []
        self._index = Index()
        self._number = 0
        self._hold: Hold | None = None

    def open(self) -> None:
        """Hold the folder, make its manifest where there is none, and see what is there.

        Raises:
            ConfigError: Another process works in it; its vectors were made by something else; or
                it can't be read or written.
        """
        with self._explained():
            self._path.mkdir(parents=True, exist_ok=True)
            self._hold = Hold(self._path)
            if self._hold.first:
                for rough in self._path.glob(files.ROUGH):
                    rough.unlink(missing_ok=True)
            self._read_parts()
            self._agree(self._dimension)

    def close(self) -> None:
        """Let others have the folder. Safe to repeat."""
        if self._hold is not None:
            self._hold.release()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            where = exc.filename or self._path
            raise ConfigError(
                f"the checkpoint {self._path} can't be used: {where}: {exc.strerror or exc}"
            ) from exc

    # The manifest...

    def _agree(self, dimension: int | None) -> None:
        """See that the manifest says what the vectors are; what it doesn't say yet is written.

        Raises:
            ConfigError: It says something else.
        """
        path = self._path / _MANIFEST
        facts = {**self._facts, "dimension": dimension}
        text = json.dumps(facts, indent=2).encode()
        with _manifests:
            if files.create(path, lambda file: file.write(text)):
                self._dimension = dimension
                return
            try:
                said = json.loads(path.read_text(encoding="utf-8"))
                known = said["dimension"]
            except (TypeError, KeyError, ValueError) as exc:
                raise ConfigError(f"{path} is no manifest of a checkpoint") from exc
            self._compare({**said, "dimension": dimension if known is None else known}, dimension)
            if known is None and dimension is not None:
                files.replace(path, lambda file: file.write(text))
            self._dimension = dimension or known

    def _compare(self, said: Mapping[str, Any], dimension: int | None) -> None:
        facts = {**self._facts, "dimension": dimension or said.get("dimension")}
        for name in sorted({*said, *facts}):
            if said.get(name) != facts.get(name):
                raise ConfigError(
                    f"the checkpoint {self._path} is of another {name}:"
                    f" {said.get(name)!r}, and not {facts.get(name)!r}"
                )

    # What is there...

    def _read_parts(self) -> None:
        vectors: list[Entries] = []
        errors: list[Entries] = []
        for number, path in enumerate(sorted(self._path.glob("batch-*.parquet"))):
            part, facts, keys, checks = kept.opened(path)
            self._compare({**facts, "dimension": part.dimension or self._dimension}, None)
            self._dimension = self._dimension or part.dimension or None
            if part.dimension not in (0, self._dimension):
                raise ConfigError(
                    f"{path} is of another dimension: {part.dimension}, and not {self._dimension}"
                )
            self._parts.append(part)
            there = part.vectors
            vectors.append(Entries.of(number, keys[:there], checks[:there]))
            errors.append(Entries.of(number, keys[there:], checks[there:], there))
            self._number = max(self._number, _number(path))
        # A vector counts more than an error, however old; and of two errors, the later.
        ranked = vectors if self._retry_failed else [*vectors, *reversed(errors)]
        self._index = Index.of(ranked)

    def find(self, keys: Sequence[bytes]) -> Mapping[bytes, Place]:
        """Where each key is that is there; looked up in memory, at once."""
        return self._index.find(keys)

    def read(self, found_at: Mapping[bytes, Place]) -> dict[bytes, kept.Outcome]:
        """What became of each key. Each file is opened once.

        Raises:
            ConfigError: A file is damaged, or gone.
        """
        parts: dict[int, list[tuple[bytes, Place]]] = {}
        for key, place in found_at.items():
            parts.setdefault(place.part, []).append((key, place))
        found: dict[bytes, kept.Outcome] = {}
        for number, places in parts.items():
            part = self._parts[number]
            there = [(key, place) for key, place in places if place.row < part.vectors]
            vectors = part.read([(place.row, place.check) for _, place in there])
            found.update(zip((key for key, _ in there), vectors, strict=True))
            failed = [(key, place) for key, place in places if place.row >= part.vectors]
            if failed:
                errors = part.errors([place.row for _, place in failed])
                found.update(zip((key for key, _ in failed), errors, strict=True))
        return found

    # What comes...

    def keep(self, rows: Sequence[Row]) -> None:
        """Write a file of *rows*, on the disk when this returns. One thread at a time.

        Raises:
            ConfigError: The vectors in the folder have another length.
            OSError: The file can't be written.
        """
        vectors = [outcome for _, outcome in rows if not isinstance(outcome, StatusError)]
        if vectors and len(vectors[0]) != self._dimension:
            self._agree(len(vectors[0]))
        self._number += 1
        # Jobs of one process may have the same number. What is behind it tells them apart.
        name = f"batch-{self._number:010}-{uuid.uuid4().hex[:8]}.parquet"
        kept.write(self._path / name, self._facts, rows)
        part, _, keys, checks = kept.opened(self._path / name)
        self._parts.append(part)
        self._index = self._index.with_(Entries.of(len(self._parts) - 1, keys, checks))


def _number(path: Path) -> int:
    """The number in a file's name, or 0."""
    told = re.match(r"batch-(\d+)-", path.name)
    return int(told[1]) if told else 0
