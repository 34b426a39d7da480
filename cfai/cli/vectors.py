"""Where the vectors of `cfai embed` go: lines of JSON, a Parquet file, or an array of NumPy's."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from cfai.cli import output
from cfai.embedding import EmbeddedBatch, EmbeddingJob, EmbedFailure, tables
from cfai.errors import MissingExtra

_ROWS: Final = 10_000
"""How many rows are written to a Parquet file at once."""


def check(target: output.Target) -> None:
    """Refuse a form that can't be written, before anything is paid for.

    Raises:
        MissingExtra: What writes it is not installed.
    """
    if _kind(target) == ".parquet":
        tables.arrow_there("writing Parquet")
    elif _kind(target) == ".npy":
        _numpy()


async def write(job: EmbeddingJob[Any], target: output.Target, *, with_ids: bool) -> None:
    """Write what *job* gives in the form that the target's name asks for."""
    path = target.path
    if path is not None and _kind(target) == ".parquet":
        await _parquet(job, path)
    elif path is not None and _kind(target) == ".npy":
        _numpy().save(path, await job.numpy())
    else:
        async for item in job:
            for line in _lines(item, with_ids=with_ids):
                target.line(line)


def _kind(target: output.Target) -> str:
    return "" if target.path is None else target.path.suffix.lower()


def _numpy() -> Any:
    try:
        import numpy as np
    except ImportError as exc:
        raise MissingExtra("numpy", needed_for="writing .npy") from exc
    return np


def _lines(item: EmbeddedBatch | EmbedFailure, *, with_ids: bool) -> Iterator[dict[str, Any]]:
    if isinstance(item, EmbedFailure):
        return
    for key, text, vector in zip(item.ids, item.texts, item.vectors, strict=True):
        # A 32-bit float is told by nine digits; Python would write seventeen.
        numbers = [float(f"{number:.9g}") for number in vector]
        yield {**({"id": key} if with_ids else {}), "text": text, "vector": numbers}


async def _parquet(job: EmbeddingJob[Any], path: Path) -> None:
    """One file, in place only when it is whole."""
    import pyarrow.parquet as pq

    rough = path.with_name(f".{path.name}.rough")
    writer: Any = None
    waiting: list[EmbeddedBatch | EmbedFailure] = []

    def flush() -> None:
        nonlocal writer
        rows = tables.table(waiting)
        writer = writer or pq.ParquetWriter(rough, rows.schema, compression="none")
        writer.write_table(rows)
        waiting.clear()

    try:
        async for item in job:
            waiting.append(item)
            if sum(len(one) for one in waiting if isinstance(one, EmbeddedBatch)) >= _ROWS:
                await asyncio.to_thread(flush)
        if waiting or writer is None:
            await asyncio.to_thread(flush)
        writer.close()
        await asyncio.to_thread(rough.replace, path)
    finally:
        if writer is not None:
            writer.close()
        rough.unlink(missing_ok=True)
