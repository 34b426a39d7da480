"""Where the vectors of `cfai embed` go: lines of JSON, a Parquet file, or an array of NumPy's."""

import os
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfai.cli import output
from cfai.embedding import EmbeddedBatch, EmbedFailure, files, tables
from cfai.embedding.threads import to_its_end
from cfai.errors import MissingExtra

if TYPE_CHECKING:
    from cfai.embedding import EmbeddingJob, OnError


def check(target: output.Target) -> None:
    """Refuse a form that can't be written, before anything is paid for.

    Raises:
        MissingExtra: What writes it is not installed.
    """
    if _kind(target) == ".parquet":
        tables.arrow_there("writing Parquet")
    elif _kind(target) == ".npy":
        _numpy()


async def write(job: "EmbeddingJob[Any]", target: output.Target, *, with_ids: bool) -> None:
    """Write what *job* gives in the form that the target's name asks for."""
    path = target.path
    if path is not None and _kind(target) == ".parquet":
        await _parquet(job, path)
    elif path is not None and _kind(target) == ".npy":
        save, whole = _numpy().save, await job.numpy()
        await to_its_end(partial(files.replace, path, lambda file: save(file, whole)))
    else:
        async for item in job:
            for line in _lines(item, with_ids=with_ids):
                target.line(line)
        target.end()


def instead_of_failing(target: output.Target) -> "OnError":
    """What becomes of a text that can't be embedded: an array has no ids, and a row for each."""
    return "yield" if _kind(target) == ".npy" else "skip"


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


async def _parquet(job: "EmbeddingJob[Any]", path: Path) -> None:
    """One file, in place only when it is whole."""
    import pyarrow.parquet as pq

    rough = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.rough")
    writer: Any = None
    rows = tables.Rows()

    def flush() -> None:
        nonlocal writer
        table = rows.take()
        writer = writer or pq.ParquetWriter(rough, table.schema, compression="none")
        writer.write_table(table)

    try:
        async for item in job:
            rows.add(item)
            if rows.enough:
                await to_its_end(flush)
        if rows or writer is None:
            await to_its_end(flush)
        writer.close()
        await to_its_end(partial(rough.replace, path))
    finally:
        if writer is not None:
            writer.close()
        rough.unlink(missing_ok=True)
