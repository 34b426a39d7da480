"""One file of a checkpoint: rows of a key and a vector, and behind them those of an error.

What the vectors were made by is in the file, too. A vector is read where it lies, and nothing else
of its file.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias
from zlib import crc32

from attrs import frozen

from cfai.embedding import tables
from cfai.errors import ConfigError, StatusError, status_error

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

_FACTS: Final = b"cfai"

Outcome: TypeAlias = "array[float] | StatusError"

Row: TypeAlias = tuple[bytes, Outcome]
"""The key of a text, and what became of it."""


@frozen(eq=False)
class Part:
    """A file that is there."""

    path: Path
    dimension: int
    """How long its vectors are; 0 where it has none."""
    vectors: int
    """How many rows have a vector: the first ones."""
    offset: int
    """The byte at which the first of them lies."""

    def read(self, rows: Sequence[tuple[int, int]]) -> list[array[float]]:
        """Read the vectors of rows, each given with its checksum.

        Raises:
            ConfigError: The file is damaged, or gone.
        """
        found: list[array[float]] = []
        try:
            with self.path.open("rb") as file:
                for row, check in rows:
                    file.seek(self.offset + 4 * self.dimension * row)
                    data = file.read(4 * self.dimension)
                    if crc32(data) != check:
                        data = self._read_slowly(row, check)
                    vector = array("f")
                    vector.frombytes(data)
                    found.append(vector)
        except OSError as exc:
            raise ConfigError(f"{self.path} can't be read: {exc.strerror or exc}") from exc
        return found

    def _read_slowly(self, row: int, check: int) -> bytes:
        """As Arrow reads it, which knows if the numbers lie elsewhere."""
        column = self._columns(["vector"])["vector"].combine_chunks()
        data: bytes = column.slice(row, 1).flatten().to_numpy().tobytes()
        if crc32(data) != check:
            raise _damaged(self.path)
        return data

    def errors(self, rows: Sequence[int]) -> list[StatusError]:
        """Read the errors of rows.

        Raises:
            ConfigError: The file is damaged, or gone.
        """
        told = self._columns(["error", "status", "code"]).take(list(rows)).to_pylist()
        return [status_error(one["status"], one["code"], one["error"]) for one in told]

    def _columns(self, names: list[str]) -> pa.Table:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.read_table(self.path, columns=names, page_checksum_verification=True)
        except (pa.ArrowException, OSError) as exc:
            raise _damaged(self.path) from exc


def _damaged(path: Path) -> ConfigError:
    return ConfigError(f"{path} is damaged: delete it, and its texts are embedded again")


class Opened(NamedTuple):
    """A file, and what is in it for each row."""

    part: Part
    facts: Mapping[str, Any]
    """What its vectors were made by."""
    keys: NDArray[np.bytes_]
    checks: NDArray[np.uint32]


def opened(path: Path) -> Opened:
    """Read all but the vectors and errors of a file.

    Raises:
        ConfigError: It is damaged, or no file of a checkpoint.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            facts = dict(json.loads((file.schema_arrow.metadata or {})[_FACTS]))
            kind = file.schema_arrow.field("vector").type
            rows = file.read(["key", "check"], use_threads=False)
            group = file.metadata.row_group(0)
            columns = {group.column(at).path_in_schema: at for at in range(group.num_columns)}
            lies = next(at for name, at in columns.items() if name.startswith("vector"))
            column = group.column(lies)
            end = column.data_page_offset + column.total_compressed_size
        count = rows.num_rows - rows["check"].null_count
        dimension = kind.list_size if count else 0
        keys = np.frombuffer(b"".join(rows["key"].to_pylist()), "S16")
        checks = rows["check"].fill_null(0).to_numpy().astype(np.uint32)
    except (pa.ArrowException, OSError) as exc:
        raise _damaged(path) from exc
    except (AttributeError, LookupError, StopIteration, TypeError, ValueError) as exc:
        raise ConfigError(f"{path} is no file of a checkpoint: it belongs elsewhere") from exc
    # An uncompressed page of plain numbers ends with them (Parquet format, "Data Pages").
    part = Part(path, dimension, count, end - 4 * dimension * count)
    return Opened(part, facts, keys, checks)


def write(path: Path, facts: Mapping[str, Any], rows: Iterable[Row]) -> None:
    """Write a file, on the disk when this returns.

    Raises:
        OSError: It can't be written. Nothing is left of it.
    """
    import pyarrow as pa

    vectors: list[tuple[bytes, array[float]]] = []
    errors: list[tuple[bytes, StatusError]] = []
    for key, outcome in rows:
        if isinstance(outcome, array):
            vectors.append((key, outcome))
        else:
            errors.append((key, outcome))
    there = [True] * len(vectors) + [False] * len(errors)
    gaps = [None] * len(vectors)
    buffer = array("f", b"".join(vector.tobytes() for _, vector in vectors))
    dimension = len(vectors[0][1]) if vectors else 0
    checks = [crc32(vector.tobytes()) for _, vector in vectors]
    said = [error for _, error in errors]
    whole = pa.table(
        {
            "key": pa.array([key for key, _ in (*vectors, *errors)], pa.binary(16)),
            "vector": tables.vectors_column(buffer, dimension, there),
            "check": pa.array([*checks, *[None] * len(errors)], pa.uint32()),
            "error": pa.array([*gaps, *[_text(one.message) for one in said]], pa.string()),
            "status": pa.array([*gaps, *[one.status for one in said]], pa.int32()),
            "code": pa.array([*gaps, *[one.code for one in said]], pa.int32()),
        }
    )
    whole = whole.replace_schema_metadata({_FACTS: json.dumps(facts)})
    tables.write(whole, path, statistics=False)


def _text(said: str) -> str:
    return said.encode("utf-8", "replace").decode()
