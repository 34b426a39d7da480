"""All of a job at once: one array, one table, or a folder of files."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from cfai.embedding import tables
from cfai.embedding.rows import assembled, numpy_there
from cfai.embedding.values import EmbeddedBatch, EmbedFailure

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy import float32
    from numpy.typing import NDArray


class Whole(ABC):
    """What comes one after the other, gathered."""

    finished: list[EmbeddedBatch]
    """What `numpy()` had gathered when the job failed."""

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[EmbeddedBatch | EmbedFailure]:
        """Give what comes, once."""

    async def numpy(self) -> NDArray[float32]:
        """Embed all texts into one array: a row for each text, in the order of the source.

        The rows of failed texts are NaN with `on_error="yield"`, and left out with "skip".

        Raises:
            MissingExtra: NumPy is not installed. Nothing was sent.
            CfaiError: The job failed; `finished` has what was embedded before.
        """
        numpy_there()
        failed: list[int] = []
        async for item in self:
            if isinstance(item, EmbeddedBatch):
                self.finished.append(item)
            else:
                failed.append(item.start)
        return assembled(self.finished, failed)

    async def arrow(self) -> pa.Table:
        """Embed all texts into one table: `place`, `id`, `vector` and, where it failed, `error`.

        Raises:
            MissingExtra: pyarrow is not installed. Nothing was sent.
            InputError: The ids are of several types, or of one that Arrow hasn't.
        """
        tables.arrow_there("EmbeddingJob.arrow()")
        return tables.table(sorted([item async for item in self], key=lambda item: item.start))

    async def to_parquet(self, folder: str | PathLike[str]) -> None:
        """Embed all texts into files `part-00000.parquet`, … of *folder*, as they come.

        Each has the columns of `arrow()`, is whole or not there, and replaces one that an earlier
        job wrote. Memory doesn't grow with the number of texts.

        Raises:
            MissingExtra: pyarrow is not installed. Nothing was sent.
            CfaiError: The job failed; what was embedded before is in the files.
        """
        tables.arrow_there("EmbeddingJob.to_parquet()")
        parts = tables.Parts(Path(folder))
        try:
            async for item in self:
                if parts.add(item):
                    await asyncio.to_thread(parts.flush)
        except BaseException:
            parts.flush()
            raise
        await asyncio.to_thread(parts.finish)
