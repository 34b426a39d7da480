"""Embedding of one batch: what the service refuses is halved, down to the text at fault."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from attrs import frozen

from cfai.embedding.options import OnError
from cfai.embedding.queue import BatchQueue, RequestFuture
from cfai.embedding.results import SpanResult
from cfai.embedding.retry import TEXT_ERRORS, RetryingService, concerns_all_texts
from cfai.errors import BadRequest, CfaiError
from cfai.tasks import Embeddings

_MAX_REFUSED: Final = 20
"""After this many texts were refused one by one, and none embedded, the texts are not at fault."""


class FailureJudge:
    """Decides whether an error concerns some texts or all of them, from earlier outcomes."""

    def __init__(self) -> None:
        self._embedded = False
        self._refused = 0

    def record_success(self) -> None:
        """Record that some texts were embedded."""
        self._embedded = True

    def ends_job(self, error: CfaiError, texts: int) -> bool:
        """Whether every other text would fail in the same way as these *texts*.

        This is also so if the first texts of a job were refused one by one and none was embedded:
        then something else is at fault, such as an option.
        """
        if concerns_all_texts(error):
            return True
        if self._embedded or texts > 1 or not isinstance(error, BadRequest):
            return False
        self._refused += 1
        if self._refused < _MAX_REFUSED:
            return False
        error.add_note(f"each of the first {self._refused} texts was refused")
        return True


async def embed_batch(
    service: RetryingService,
    texts: Sequence[str],
    results: list[SpanResult],
    *,
    on_error: OnError,
    judge: FailureJudge,
    first: int = 0,
) -> None:
    """Embed *texts*, and append what becomes of them to *results*, in order.

    Raises:
        CfaiError: A text failed and *on_error* is "raise", or the error concerns all texts. The
            results before it are in *results*.
    """
    outcome: Embeddings | CfaiError
    try:
        outcome = await service.embed(texts)
    except CfaiError as exc:
        outcome = exc
    if isinstance(outcome, Embeddings):
        judge.record_success()
    elif judge.ends_job(outcome, len(texts)):
        raise outcome
    elif isinstance(outcome, TEXT_ERRORS) and len(texts) > 1:
        half = len(texts) // 2
        for start, part in ((first, texts[:half]), (first + half, texts[half:])):
            await embed_batch(service, part, results, on_error=on_error, judge=judge, first=start)
        return
    results.append(SpanResult(first, first + len(texts), outcome))
    if on_error == "raise" and isinstance(outcome, CfaiError):
        raise outcome


async def embed_batch_through_queue(
    queue: BatchQueue,
    texts: Sequence[str],
    results: list[SpanResult],
    *,
    on_error: OnError,
    judge: FailureJudge,
) -> None:
    """As `embed_batch`, but all halves go into the queue at once, since each answer takes long."""
    spans = [(0, len(texts))]
    while spans:
        futures = [queue.enqueue(texts[first:last]) for first, last in spans]
        failed: list[CfaiError] = []
        try:
            await asyncio.wait(futures)
        finally:
            settling = _Settling(results, failed, on_error, judge)
            spans = settling.settle(zip(spans, futures, strict=True))
        if failed:
            raise failed[0]
        if any(future.cancelled() for future in futures):
            raise asyncio.CancelledError


@frozen(eq=False)
class _Settling:
    """Sorts the outcomes of one round into *results* and errors that end the job (*failed*)."""

    results: list[SpanResult]
    failed: list[CfaiError]
    on_error: OnError
    judge: FailureJudge

    def settle(
        self, requests: Iterable[tuple[tuple[int, int], RequestFuture]]
    ) -> list[tuple[int, int]]:
        """Settle each request, and return the spans of the next round."""
        halves: list[tuple[int, int]] = []
        for (first, last), future in requests:
            future.cancel()  # Has no effect on one that is done.
            if future.cancelled():
                continue
            outcome = future.result()
            if isinstance(outcome, Embeddings):
                self.judge.record_success()
            elif self.judge.ends_job(outcome, last - first):
                self.failed.append(outcome)
                continue
            elif isinstance(outcome, TEXT_ERRORS) and last - first > 1:
                half = (first + last) // 2
                halves += [(first, half), (half, last)]
                continue
            elif self.on_error == "raise":
                self.failed.append(outcome)
            self.results.append(SpanResult(first, last, outcome))
        self.results.sort(key=lambda result: result.first)
        return halves
