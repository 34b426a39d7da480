"""The run of an embedding job: from the texts of its source to results that wait for the caller."""

from __future__ import annotations

import asyncio
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, TypeAlias, cast

from attrs import field, frozen

from cfai._session.logs import LOGGER
from cfai._session.throttle import Throttle
from cfai.embedding.checkpoint import Checkpoint, Outcome, is_permanent, text_hash
from cfai.embedding.options import Plan
from cfai.embedding.pieces import SplitTexts
from cfai.embedding.queue import BatchQueue, QueueRecovery, max_pending_requests
from cfai.embedding.recovery import BatchRecovery, EmbeddingService, PatientService
from cfai.embedding.results import (
    EmbeddedBatch,
    EmbedFailure,
    JobReporter,
    RangeResult,
    build_items,
    find_long_texts,
    find_missing_texts,
    insert_failures,
    iterate_texts,
    join_results,
)
from cfai.embedding.source import TextBatch, Texts, read_batches
from cfai.errors import CfaiError, ConfigError, InputError
from cfai.tasks import Embeddings

Item: TypeAlias = EmbeddedBatch | EmbedFailure

_GRACE: Final = 5.0
"""Seconds that a failed job waits for the answers to requests that were sent."""


@frozen(eq=False)
class _BatchWork:
    """A batch, and its results so far."""

    batch: TextBatch
    results: list[RangeResult] = field(factory=list)


class JobRun:
    """Everything of a job from its start to its end, on one event loop."""

    def __init__(
        self,
        service: EmbeddingService,
        throttle: Throttle,
        plan: Plan,
        reporter: JobReporter,
        *,
        endpoint: str,
        name_text: Callable[[int, Any], str],
    ) -> None:
        self.throttle = throttle
        self._plan = plan
        self._reporter = reporter
        self._endpoint = endpoint
        self._service = PatientService(service, throttle, reporter)
        queued = plan.mode == "queue"
        self._queue = BatchQueue(self._service, plan.polling) if queued else None
        self._limits = plan.token_limits()
        self._window = plan.window
        splits = plan.long == "split"
        self._split_texts = SplitTexts(reporter, pool=plan.pool is not None) if splits else None
        self._checkpoint: Checkpoint | None = None
        self._in_progress: dict[bytes, asyncio.Future[None]] = {}
        """With a checkpoint: the texts that a batch is looking up or embedding, by hash."""
        self._shared: dict[bytes, asyncio.Future[array[float] | CfaiError]] = {}
        """With `dedupe`: the outcome of every text so far, by hash."""
        self._reader: asyncio.Task[None] | None = None
        self._tasks: dict[asyncio.Task[None], _BatchWork] = {}
        self._ready: deque[Item] = deque()
        self._early: dict[int, list[Item]] = {}
        """Items of batches that finished before their turn, by index."""
        self._turn = 0
        self._changed = asyncio.Event()
        self._has_room = asyncio.Event()
        self._end = _End(name_text)
        self._grace: asyncio.TimerHandle | None = None

    # For the caller...

    def start(self, texts: Texts) -> None:
        """Start reading the texts."""
        self._reader = asyncio.get_running_loop().create_task(self._read(texts))
        self._reader.add_done_callback(self._reading_done)

    async def next_item(self) -> Item | None:
        """Return the next item; `None` at the end.

        Raises:
            BaseException: The error that ended the job, after everything that was finished.
        """
        while not self._ready:
            if self._is_done():
                self._end.raise_error()
                return None
            self._changed.clear()
            await self._changed.wait()
        self._has_room.set()
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Stop everything that is running."""
        if not self._is_done():
            self._end.close()
        if self._grace is not None:
            self._grace.cancel()
        running = [*([self._reader] if self._reader else []), *self._tasks]
        self._cancel(self._tasks)
        try:
            await asyncio.gather(*running, return_exceptions=True)
            if self._queue is not None:
                await self._queue.aclose()
        finally:
            if self._checkpoint is not None:
                await self._checkpoint.aclose()
        self._changed.set()

    def _is_done(self) -> bool:
        return not self._tasks and (self._reader is None or self._reader.done())

    # Reading the source...

    async def _read(self, texts: Texts) -> None:
        """Start a task for each batch, as long as there is room for the results."""
        plan, loop = self._plan, asyncio.get_running_loop()
        most, most_chars = plan.texts_per_request, plan.max_batch_chars
        batches = read_batches(texts, most, most_chars, self._limits, plan.splitter())
        try:
            await self._open_checkpoint()
            with self._service.open_call():  # The source may never yield anything.
                async with aclosing(batches):
                    async for batch in batches:
                        await self._wait_for_room()
                        work = _BatchWork(batch)
                        task = loop.create_task(self._embed(batch, work.results))
                        self._tasks[task] = work
                        task.add_done_callback(self._batch_done)
                        if self._queue is None:
                            # A source that never waits must not block others.
                            await asyncio.sleep(0)
        except asyncio.CancelledError:
            raise
        except BaseException as exc:
            self._end.source_error = exc
            if not isinstance(exc, Exception | GeneratorExit):
                raise

    def _reading_done(self, reader: asyncio.Task[None]) -> None:
        if reader.cancelled():
            self._fail(ConfigError("the task that reads the texts was cancelled from outside"))
        else:
            reader.exception()  # Marks it as retrieved; it is in `source_error`.
        self._changed.set()

    async def _open_checkpoint(self) -> None:
        plan = self._plan
        if plan.checkpoint is None:
            return
        facts = {
            "model": plan.model,
            "pooling": plan.pooling,
            "truncate": plan.truncate,
            "endpoint": self._endpoint,
        }
        retry_failed = plan.retry_failed or plan.on_error == "raise"
        self._checkpoint = await Checkpoint.open(plan.checkpoint, facts, retry_failed=retry_failed)

    async def _wait_for_room(self) -> None:
        """Wait until another batch may start.

        More batches are started than the limit allows requests, to use the permits of those that
        wait before a retry; in order, as many finished ones may wait for one that is late.
        """
        while True:
            max_tasks = 2 * self.throttle.limit + 8
            if self._queue is not None:
                max_tasks = max_pending_requests(self.throttle.limit, self._plan.texts_per_request)
            held = len(self._ready) + len(self._early)
            if len(self._tasks) < max_tasks and len(self._tasks) + held < 2 * max_tasks:
                return
            self._has_room.clear()
            await self._has_room.wait()

    # One batch: missing texts, equal texts, then the checkpoint, then the service...

    async def _embed(self, batch: TextBatch, results: list[RangeResult]) -> None:
        """Embed the texts of a batch, and append what becomes of them to *results*, in order."""
        texts, failures = batch.texts, self._find_failures(batch)
        if not failures:
            await self._embed_present(cast("Sequence[str]", texts), results)
            return
        present = [text for index, text in enumerate(texts) if text and index not in failures]
        if self._plan.on_error == "raise":
            index, error = next(iter(failures.items()))
            if index:
                await self._embed_present(present[:index], results)
            results.append(RangeResult(index, index + 1, error))
            raise error
        sent: list[RangeResult] = []
        try:
            if present:
                await self._embed_present(present, sent)
        finally:
            results += insert_failures(sent, failures, len(texts))

    def _find_failures(self, batch: TextBatch) -> dict[int, InputError]:
        """The texts that are not to be sent, by their index, in order."""
        texts = batch.texts
        failures = {} if all(texts) else {**find_missing_texts(texts), **batch.errors}
        if self._window is None:
            return failures
        long = find_long_texts(texts, self._window)
        if self._plan.long == "fail":
            return dict(sorted({**failures, **long}.items()))
        if long and not self._reporter.truncated:
            LOGGER.warning(
                "embedding: %s reads the first %d tokens of a text, and some are longer (by an"
                " estimate); the option `long` can split them, or make them errors",
                self._plan.model,
                self._window.tokens,
            )
        self._reporter.truncated += len(long)
        return failures

    async def _embed_present(self, texts: Sequence[str], results: list[RangeResult]) -> None:
        if self._plan.dedupe:
            await self._embed_distinct(texts, results)
        else:
            await self._embed_unknown(texts, results)

    async def _embed_distinct(self, texts: Sequence[str], results: list[RangeResult]) -> None:
        """Embed the texts that no batch has claimed, and wait for the outcome of the others."""
        futures: list[asyncio.Future[array[float] | CfaiError]] = []
        claimed: dict[str, asyncio.Future[array[float] | CfaiError]] = {}
        for text in texts:
            key = text_hash(text)
            if key not in self._shared:
                future = asyncio.get_running_loop().create_future()
                claimed[text] = self._shared[key] = future
            futures.append(self._shared[key])
        sent: list[RangeResult] = []
        try:
            if claimed:
                await self._embed_unknown(list(claimed), sent)
        finally:
            unsettled = list(claimed.values())
            for index, outcome in iterate_texts(sent):
                unsettled[index].set_result(outcome)
            # If the job fails, some futures are never done.
            results += join_results([f.result() if f.done() else None for f in futures], sent)
        # Other batches wait for the same futures: a cancellation here must not cancel them.
        results[:] = join_results([await asyncio.shield(future) for future in futures], sent)

    async def _embed_unknown(self, texts: Sequence[str], results: list[RangeResult]) -> None:
        """Embed the texts that are not in the checkpoint.

        A text that another batch is embedding is waited for.
        """
        if self._checkpoint is None:
            await self._send(texts, results)
            return
        hashes = [text_hash(text) for text in texts]
        outcomes: dict[bytes, Outcome | CfaiError] = {}
        sent: list[RangeResult] = []
        try:
            while missing := {
                key: text for key, text in zip(hashes, texts, strict=True) if key not in outcomes
            }:
                free = {k: text for k, text in missing.items() if k not in self._in_progress}
                if free:
                    await self._load_or_send(self._checkpoint, free, outcomes, sent)
                else:
                    await asyncio.wait([self._in_progress[key] for key in missing])
        finally:
            # If all texts were sent at once, their results stay as the service gave them.
            sent_texts = sum(result.last - result.first for result in sent)
            all_sent = len(texts) == len(set(hashes)) == sent_texts
            results += sent if all_sent else join_results(map(outcomes.get, hashes), sent)

    async def _load_or_send(
        self,
        checkpoint: Checkpoint,
        texts: Mapping[bytes, str],
        outcomes: dict[bytes, Outcome | CfaiError],
        sent: list[RangeResult],
    ) -> None:
        """Add what is on record of *texts* to *outcomes*, and embed the others."""
        done = asyncio.get_running_loop().create_future()
        self._in_progress.update(dict.fromkeys(texts, done))
        try:
            outcomes.update(await checkpoint.load(list(texts)))
            unknown = {key: text for key, text in texts.items() if key not in outcomes}
            if unknown:
                await self._send_and_save(checkpoint, unknown, outcomes, sent)
        finally:
            for key in texts:
                del self._in_progress[key]
            done.set_result(None)

    async def _send_and_save(
        self,
        checkpoint: Checkpoint,
        texts: Mapping[bytes, str],
        outcomes: dict[bytes, Outcome | CfaiError],
        sent: list[RangeResult],
    ) -> None:
        """Embed *texts*, and record what becomes of them, also if the job ends."""
        sent.clear()
        try:
            await self._send(list(texts.values()), sent)
        except BaseException as exc:
            try:
                await checkpoint.save(_add_outcomes(outcomes, list(texts), sent))
            except Exception as lost:  # The job ends with its first error.
                exc.add_note(f"the last results could not be written to the checkpoint: {lost}")
            raise
        await checkpoint.save(_add_outcomes(outcomes, list(texts), sent))

    async def _send(self, texts: Sequence[str], results: list[RangeResult]) -> None:
        """Embed *texts* with the service."""
        on_error, limits = self._plan.on_error, self._limits
        try:
            if self._queue is None:
                await BatchRecovery(self._service, texts, results, on_error, limits).run()
            else:
                await QueueRecovery(self._queue, texts, results, on_error, limits).run()
        except Exception as exc:
            # Before another task gets a permit, and before the results are written.
            self._fail(exc)
            raise
        finally:
            embedded = [r for r in results if isinstance(r.outcome, Embeddings)]
            self._reporter.embedded += sum(r.last - r.first for r in embedded)

    # Results...

    def _batch_done(self, task: asyncio.Task[None]) -> None:
        """Deliver the results of a batch; if its task failed, end the job."""
        work = self._tasks.pop(task)
        items = list(build_items(work.batch, work.results))
        error = _cancelled_error(work.batch) if task.cancelled() else task.exception()
        if error is not None:
            self._fail(error)
            self._end.name_text(error, items)
        if self._split_texts is None:
            self._reporter.count(items)
        else:
            items = self._split_texts.add(work.batch, work.results)
        self._deliver(work.batch, items)
        if work.results:
            try:
                self._reporter.report(self.throttle)
            except Exception as exc:
                self._fail(exc)
        self._has_room.set()
        self._changed.set()

    def _deliver(self, batch: TextBatch, items: Sequence[Item]) -> None:
        if self._plan.on_error == "yield":
            visible = [*items]
        else:
            visible = [item for item in items if isinstance(item, EmbeddedBatch)]
        if not self._plan.ordered:
            self._ready.extend(visible)
        else:
            self._early[batch.index] = visible
            while self._turn in self._early:
                self._ready.extend(self._early.pop(self._turn))
                self._turn += 1

    # The end...

    def _fail(self, error: BaseException) -> None:
        """End the job with *error*, unless it has ended before.

        Nothing more is sent. Requests that were sent are paid for, and get a few seconds to finish.
        """
        if not self._end.fail(error):
            return
        self.throttle.close()
        active = self.throttle.active if self._queue is None else self._queue.finish()
        self._cancel(self._tasks.keys() - active - {asyncio.current_task()})
        self._grace = asyncio.get_running_loop().call_later(_GRACE, self._cancel, self._tasks)

    def _cancel(self, tasks: Iterable[asyncio.Task[None]]) -> None:
        for task in [*([self._reader] if self._reader else []), *tasks]:
            task.cancel()


class _End:
    """How a job ends: with the first error, closed by its reader, or at the end of its source."""

    def __init__(self, name_text: Callable[[int, Any], str]) -> None:
        self._name_text = name_text
        self._error: BaseException | None = None
        self._closed = False
        self._text_named = False
        self.source_error: BaseException | None = None
        """Raised by the source. The texts before it are embedded all the same."""

    def fail(self, error: BaseException) -> bool:
        """End with *error*; returns False if the job has ended before."""
        if self._closed or self._error is not None:
            return False
        self._error = error
        return True

    def close(self) -> None:
        """End early, unless the job has ended before."""
        self._closed = self._closed or self._error is None

    def name_text(self, error: BaseException, items: Sequence[Item]) -> None:
        """If the job ends with *error*, add a note that names the text it is about."""
        failures = (item for item in items if isinstance(item, EmbedFailure))
        failure = next((item for item in failures if item.error is error), None)
        if error is not self._error or self._text_named or failure is None:
            return
        self._text_named = True
        note = f"it is {self._name_text(failure.start, failure.id)}"
        if failure.piece is not None and not (failure.piece.is_last and failure.piece.number == 0):
            note += f", characters {failure.piece.start} to {failure.piece.end}"
        error.add_note(note)

    def raise_error(self) -> None:
        """Raise the error that the job ended with, if there is one.

        Raises:
            ConfigError: The job was closed.
            BaseException: The first error; otherwise that of the source.
        """
        if self._closed:
            raise ConfigError("the job was closed while it was read")
        error = self._error or self.source_error
        if error is not None:
            raise error


def _add_outcomes(
    outcomes: dict[bytes, Outcome | CfaiError], hashes: Sequence[bytes], sent: Iterable[RangeResult]
) -> list[tuple[bytes, Outcome]]:
    """Add the results of a request to *outcomes*, and return the rows to be recorded."""
    rows: list[tuple[bytes, Outcome]] = []
    for index, outcome in iterate_texts(sent):
        outcomes[hashes[index]] = outcome
        if isinstance(outcome, array) or is_permanent(outcome):
            rows.append((hashes[index], outcome))
    return rows


def _cancelled_error(batch: TextBatch) -> ConfigError:
    last = batch.start + len(batch.texts) - 1
    return ConfigError(
        "a task of this job was cancelled from outside:"
        f" texts number {batch.start} to {last} are not embedded"
    )
