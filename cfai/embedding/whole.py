"""All of a job at once: one array, one table, or a folder of files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import aclosing
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from cfai.embedding import tables
from cfai.embedding.rows import assembled, numpy_there
from cfai.embedding.threads import to_its_end
from cfai.embedding.values import EmbeddedBatch, EmbedFailure
from cfai.errors import CfaiError

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy import float32
    from numpy.typing import NDArray


class Whole(ABC):
    """What comes one after the other, gathered."""

    finished: list[EmbeddedBatch]
    """What `numpy()` or `arrow()` had gathered when the job failed."""

    @abstractmethod
    def __aiter__(self) -> AsyncGenerator[EmbeddedBatch | EmbedFailure, None]:  # noqa: PYI058
        """Give what comes, once; whoever leaves in the middle closes it."""

    async def numpy(self) -> NDArray[float32]:
        """Embed all texts into one array: a row for each text, in the order of the source.

        The rows of failed texts are NaN with `on_error="yield"`, and left out with "skip".

        Raises:
            MissingExtra: NumPy is not installed. Nothing was sent.
            CfaiError: The job failed; `finished` has what was embedded before.
        """
        numpy_there("EmbeddingJob.numpy()")
        failed: list[int] = []
        async with aclosing(self.__aiter__()) as items:
            async for item in items:
                if isinstance(item, EmbeddedBatch):
                    self.finished.append(item)
                else:
                    failed.append(item.start)
        return assembled(self.finished, failed)

    async def arrow(self) -> pa.Table:
        """Embed all texts into one table: `place`, `id`, `vector` and, where it failed, `error`.

        Raises:
            MissingExtra: pyarrow is not installed. Nothing was sent.
            InputError: An id is of another type than those before, or of one that Arrow hasn't.
                `finished` has what was embedded before, as it has wherever the job fails.
        """
        tables.arrow_there("EmbeddingJob.arrow()")
        rows = tables.Rows()
        async with aclosing(self.__aiter__()) as items:
            async for item in items:
                if isinstance(item, EmbeddedBatch):
                    self.finished.append(item)
                rows.add(item)
        self.finished.clear()
        return rows.take()

    async def to_parquet(self, folder: str | PathLike[str]) -> None:
        """Embed all texts into files `part-00000.parquet`, … of *folder*, as they come.

        Each has the columns of `arrow()`, and is whole or not there. Those of an earlier job are
        removed before the first is written. Memory doesn't grow with the number of texts.

        Raises:
            MissingExtra: pyarrow is not installed. Nothing was sent.
            InputError: An id is of another type than those before, or of one that Arrow hasn't.
            OSError: A file can't be written.
            CfaiError: The job failed; what was embedded before is in the files.
        """
        tables.arrow_there("EmbeddingJob.to_parquet()")
        parts = tables.Parts(Path(folder))
        try:
            async with aclosing(self.__aiter__()) as items:
                async for item in items:
                    if parts.add(item):
                        await to_its_end(parts.flush)
        except BaseException as exc:
            try:
                await to_its_end(parts.flush)
            except (OSError, CfaiError) as lost:
                exc.add_note(f"what was finished last could not be written: {lost}")
            raise
        await to_its_end(parts.finish)
