"""`EmbeddingJob`: what the reader of a job has in hand; `work` does what there is to do."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Generic, Self, TypeVar, cast

from cfai._session.throttle import Throttles
from cfai.embedding import source
from cfai.embedding.asking import Service
from cfai.embedding.plan import Plan
from cfai.embedding.reports import Reports
from cfai.embedding.source import Texts
from cfai.embedding.values import EmbeddedBatch, EmbedFailure, JobStats
from cfai.embedding.whole import Whole
from cfai.embedding.work import Work
from cfai.errors import ConfigError, InputError

Item_co = TypeVar("Item_co", bound=EmbeddedBatch | EmbedFailure, covariant=True)
"""What a job gives: batches, and with `on_error="yield"` failures between them."""


class EmbeddingJob(Whole, Generic[Item_co]):
    """Many texts on their way to vectors: an async iterator of `EmbeddedBatch`, used once.

    With `on_error="yield"` there are `EmbedFailure` between them. Nothing is read or sent before
    it is iterated. Leaving the iteration, or the `async with`, stops what is under way; where the
    job fails, what was finished comes first and the error last.

    ```python
    async with ai.embed_many("@cf/baai/bge-m3", texts) as job:
        async for batch in job:
            index.add(batch.ids, batch.vectors.numpy())
    ```
    """

    def __init__(
        self, service: Service, throttles: Throttles, texts: Texts, plan: Plan, *, endpoint: str
    ) -> None:
        source.check(texts)
        self._service = service
        self._throttles = throttles
        self._texts = texts
        self._plan = plan
        self._endpoint = endpoint
        self._work: Work | None = None
        self._closed = False
        self._reports = Reports(source.length(texts), plan.progress)
        self.finished: list[EmbeddedBatch] = []

    # For the reader...

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
        self._is_new()
        return self._items()

    @property
    def stats(self) -> JobStats:
        """How it goes, at this moment."""
        return self._reports.stats(None if self._work is None else self._work.throttle)

    async def aclose(self) -> None:
        """Stop what is under way. Safe to repeat."""
        self._closed = True
        if self._work is not None:
            await self._work.aclose()
        self._reports.close()

    async def _items(self) -> AsyncGenerator[Item_co, None]:
        work = self._begin()
        try:
            while (item := await work.take()) is not None:
                yield cast("Item_co", item)
        finally:
            await self.aclose()

    def _begin(self) -> Work:
        self._is_new()
        plan, reports = self._plan, self._reports
        throttle = self._throttles.for_job(plan.model, plan.concurrency, plan.rate)
        self._work = Work(self._service, throttle, plan, reports, endpoint=self._endpoint)
        reports.begin()
        self._work.begin(self._texts)
        return self._work

    def _is_new(self) -> None:
        if self._work is not None:
            raise InputError("a job goes over its texts once: make another")
        if self._closed:
            raise ConfigError("this job is closed: make another")
