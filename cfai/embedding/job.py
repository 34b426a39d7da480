"""An embedding job as its caller sees it: `EmbeddingJob`. Its work is in `run`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from attrs import evolve

from cfai._session.throttle import Throttles
from cfai.embedding import columns, export, files
from cfai.embedding.options import Plan
from cfai.embedding.recovery import EmbeddingService
from cfai.embedding.results import (
    EmbeddedBatch,
    EmbedFailure,
    JobReporter,
    JobStats,
)
from cfai.embedding.run import JobRun
from cfai.embedding.source import Texts
from cfai.errors import ConfigError, InputError
from cfai.profiles import profile

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy import float32
    from numpy.typing import NDArray

Item_co = TypeVar("Item_co", bound=EmbeddedBatch | EmbedFailure, covariant=True)
"""The items of a job: batches, and with `on_error="yield"` also failures."""


class EmbeddingJob(Generic[Item_co]):
    """A job that embeds many texts: an async iterator of `EmbeddedBatch`, used once.

    With `on_error="yield"` it also yields `EmbedFailure`. Nothing is read or sent before the
    iteration starts. Leaving the iteration, or the `async with`, stops all requests; if the job
    fails, the finished batches come first and the error last.

    ```python
    async with ai.embed_many("@cf/baai/bge-m3", texts) as job:
        async for batch in job:
            index.add(batch.ids, batch.vectors.numpy())
    ```
    """

    def __init__(
        self,
        service: EmbeddingService,
        throttles: Throttles,
        texts: Texts,
        plan: Plan,
        *,
        endpoint: str,
    ) -> None:
        self._service = service
        self._throttles = throttles
        self._source = columns.open_source(texts, plan.column, plan.id_column)
        self._plan = plan
        self._endpoint = endpoint
        self._run: JobRun | None = None
        self._closed = False
        self._reporter = JobReporter(self._source.count, plan.progress)
        self.finished: list[EmbeddedBatch] = []
        """The batches that `numpy()`, `column()` or `arrow()` had when the job failed."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncGenerator[Item_co, None]:
        self._check_unused()
        return self._items()

    if not TYPE_CHECKING:  # Type checkers report an `await` by themselves.

        def __await__(self):
            message = "a job can't be awaited: iterate it (`async for batch in job`)"
            raise TypeError(f"{message}, or collect its vectors (`await job.numpy()`)")

    @property
    def stats(self) -> JobStats:
        """The current figures of the job."""
        return self._reporter.stats(None if self._run is None else self._run.throttle)

    @property
    def failures(self) -> Sequence[EmbedFailure]:
        """The texts that failed so far, also those that `on_error="skip"` leaves out, as they came.

        At most the first 10,000; `stats.failed` counts all.
        """
        return tuple(self._reporter.failures)

    async def aclose(self) -> None:
        """Stop all requests. Safe to repeat."""
        self._closed = True
        if self._run is not None:
            await self._run.aclose()
        self._reporter.stop()

    async def numpy(self) -> NDArray[float32]:
        """Embed all texts into one array: a row for each text, in the order of the source.

        With `long="split"` and no `pool`, a row for each piece. The rows of failed texts are NaN
        with `on_error="yield"`, and left out with "skip".

        Raises:
            MissingExtra: NumPy is not installed. Nothing was sent.
            CfaiError: The job failed; `finished` has the batches before the error.
        """
        export.check_numpy("EmbeddingJob.numpy()")
        failures: list[EmbedFailure] = []
        async with aclosing(self.__aiter__()) as items:
            async for item in items:
                if isinstance(item, EmbeddedBatch):
                    self.finished.append(item)
                else:
                    failures.append(item)
        return export.build_array(self.finished, failures)

    async def column(self) -> Any:
        """Embed all texts into a column with a row for each text, in the order of the source.

        The column is of the kind of the source: a Series of pandas or Polars, an Arrow or NumPy
        array; otherwise a list. The rows of failed texts are null (NaN in an array of NumPy).

        With `long="split"` and no `pool`, each row has the vectors of the pieces: a list, an array
        with a row for each piece (pandas, NumPy), or a nested list (Polars, Arrow). Pieces that
        failed are left out, and a text without any piece is null.

        Raises:
            MissingExtra: NumPy or pyarrow is not installed. Nothing was sent.
            CfaiError: The job failed; `finished` has the batches before the error.
        """
        like = self._source.column
        columns.check_libraries(like, "EmbeddingJob.column()")
        async with aclosing(self.__aiter__()) as items:
            async for item in items:
                if isinstance(item, EmbeddedBatch):
                    self.finished.append(item)
        rows = self.stats.texts + self.stats.failed
        dimension = profile(self._plan.model).dimension or 0
        if self._plan.has_pieces:
            return columns.build_lists(like, self.finished, rows, dimension)
        return columns.build_vectors(like, columns.join_batches(self.finished, rows, dimension))

    async def arrow(self) -> pa.Table:
        """Embed all texts into one table with the columns `place`, `id`, `vector` and `error`.

        With `long="split"` and no `pool`, a row for each piece, and the columns `piece` (its number
        in the text), `start` and `end` (in characters).

        Raises:
            MissingExtra: pyarrow is not installed. Nothing was sent.
            InputError: The ids are not all of one type that Arrow has. As after every error,
                `finished` has the batches before it.
        """
        export.check_arrow("EmbeddingJob.arrow()")
        rows = export.TableRows(has_pieces=self._plan.has_pieces)
        async with aclosing(self.__aiter__()) as items:
            async for item in items:
                if isinstance(item, EmbeddedBatch):
                    self.finished.append(item)
                rows.add(item)
        self.finished.clear()
        return rows.take_table()

    async def to_parquet(self, path: str | PathLike[str]) -> None:
        """Embed all texts into Parquet, as the results come: a file, or a folder of files.

        If *path* ends in `.parquet`, it is one file, which appears when the job is complete. If it
        ends in a slash, has no suffix or is an existing folder, it is a folder with files
        `part-00000.parquet`, … of 10,000 rows, each of which is complete or absent; those of an
        earlier job are removed before the first is written. The columns are those of `arrow()`.
        Memory does not grow with the number of texts.

        If the job fails, its rows so far are in the folder or in `PATH.partial`, and a note of the
        error says how many; if the disk is full, those that did not fit are lost, and the single
        file with them.

        Raises:
            MissingExtra: pyarrow is not installed. Nothing was sent.
            InputError: *path* has another suffix, is to be a folder and is a file, or is none that
                a file can have, and nothing was sent; or the ids are not all of one type that Arrow
                has.
            OSError: A file cannot be written. It is tried before anything is sent.
            CfaiError: The job failed. With a `checkpoint`, the next job resumes.
        """
        export.check_arrow("EmbeddingJob.to_parquet()")
        has_pieces = self._plan.has_pieces
        if files.names_a_file(path):
            await self._write(files.make_file(path, has_pieces=has_pieces))
        else:
            await self._write(files.ParquetParts(Path(path), has_pieces=has_pieces))

    async def to_arrow(self, path: str | PathLike[str]) -> None:
        """Embed all texts into one file of Arrow IPC, as the results come.

        The suffix is `.arrow` or `.feather` for the file format, which is Feather version 2, and
        `.arrows` for the stream format. The columns are those of `arrow()`. The file appears when
        the job is complete; if it fails, `PATH.partial` has the rows so far, unless the disk is
        full. Memory does not grow with the number of texts.

        Raises:
            MissingExtra: pyarrow is not installed. Nothing was sent.
            InputError: The suffix is another, or no file can have that path, and nothing was sent;
                or the ids are not all of one type that Arrow has.
            OSError: The file cannot be written. It is opened before anything is sent.
            CfaiError: The job failed. With a `checkpoint`, the next job resumes.
        """
        checked = files.check_suffix(path, files.ARROW)
        await self._write(files.make_file(checked, has_pieces=self._plan.has_pieces))

    async def to_jsonl(self, path: str | PathLike[str]) -> None:
        """Embed all texts into lines of JSON (`.jsonl` or `.ndjson`), as the results come.

        A line has the `id`, the `text` and its `vector`; with `long="split"` and no `pool`, the
        number of the `piece`, its `start` and `end`. With `on_error="yield"`, a text that failed
        has its `error` instead of the vector. Ids that JSON does not have are written as text. The
        file appears when the job is complete; if it fails, `PATH.partial` has the lines so far, and
        a note of the error says how many. Memory does not grow with the number of texts.

        Raises:
            InputError: The suffix is another, or no file can have that path, and nothing was sent;
                or JSON cannot write an id.
            OSError: The file cannot be written. It is opened before anything is sent.
            CfaiError: The job failed. With a `checkpoint`, the next job resumes.
        """
        checked = files.check_suffix(path, files.JSONL)
        await self._write(files.make_file(checked, has_pieces=self._plan.has_pieces))

    async def to_npy(self, path: str | PathLike[str]) -> None:
        """Embed all texts into one array in a file (`.npy`), as the results come.

        It has a row for each text, in the order of the source; those of failed texts are NaN with
        `on_error="yield"`, and left out with "skip". NumPy is not needed. The file appears when
        the job is complete; if it fails, `PATH.partial` has the rows so far, and a note of the
        error says how many. Memory does not grow with the number of texts.

        Raises:
            InputError: The suffix is another; no file can have that path; or rows are pieces of
                texts (`long="split"`), since the file could not say of which.
            OSError: The file cannot be written. It is opened before anything is sent.
            CfaiError: The job failed. With a `checkpoint`, the next job resumes.
        """
        checked = files.check_suffix(path, files.NPY)
        self._plan = evolve(self._plan, ordered=True)
        await self._write(files.make_file(checked, has_pieces=self._plan.has_pieces))

    async def _write(self, file: files.ResultFile) -> None:
        async with aclosing(self.__aiter__()) as items:
            await files.write_items(items, file)

    async def _items(self) -> AsyncGenerator[Item_co, None]:
        run = self._start()
        try:
            while (item := await run.next_item()) is not None:
                yield cast("Item_co", item)
        finally:
            await self.aclose()

    def _start(self) -> JobRun:
        self._check_unused()
        plan, reporter = self._plan, self._reporter
        throttle = self._throttles.for_job(
            plan.model, plan.concurrency, plan.rate, self._service.retries
        )
        self._run = JobRun(
            self._service,
            throttle,
            plan,
            reporter,
            endpoint=self._endpoint,
            name_text=self._source.name_text,
        )
        reporter.start()
        self._run.start(self._source.entries)
        return self._run

    def _check_unused(self) -> None:
        if self._run is not None:
            raise InputError("a job can be iterated only once: call embed_many again")
        if self._closed:
            raise ConfigError("the job is closed: call embed_many again")
