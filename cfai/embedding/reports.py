"""The figures of a job, and who hears of them."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from cfai._session.throttle import Throttle
from cfai.embedding.values import EmbeddedBatch, EmbedFailure, JobStats, Progress
from cfai.errors import MissingExtra


class Reports:
    """Counts what a job did, and tells it to a function or shows it as a bar."""

    def __init__(self, total: int | None, progress: bool | Callable[[Progress], object]) -> None:
        self._total = total
        self._tell = progress if callable(progress) else None
        self._show = progress is True
        self._bar: Any = None
        self._began: float | None = None
        self._ended: float | None = None
        self._texts = 0
        self._failed = 0
        self.embedded = 0
        """Texts that the service embedded."""
        self.rounds = 0
        """How often a call was made again after all its attempts."""

    def begin(self) -> None:
        """Start the clock, and show the bar.

        Raises:
            MissingExtra: A bar is wanted, and tqdm isn't installed.
        """
        self._began = time.monotonic()
        if self._show:
            try:
                from tqdm import tqdm
            except ImportError as exc:
                raise MissingExtra("progress", needed_for="progress=True") from exc
            self._bar = tqdm(total=self._total, unit="text")

    def count(self, items: Iterable[EmbeddedBatch | EmbedFailure]) -> None:
        """Count what was settled."""
        for item in items:
            if isinstance(item, EmbeddedBatch):
                self._texts += len(item)
            else:
                self._failed += 1

    def tell(self, throttle: Throttle | None) -> None:
        """Let whoever listens hear of it."""
        if self._bar is not None:
            self._bar.update(self._texts + self._failed - self._bar.n)
            if throttle is not None:
                self._bar.set_postfix(
                    refusals=throttle.refusals, limit=throttle.limit, refresh=False
                )
        if self._tell is not None:
            self._tell(Progress(self.stats(throttle), self._total))

    def close(self) -> None:
        """Stop the clock, and leave the bar as it is."""
        if self._began is not None and self._ended is None:
            self._ended = time.monotonic()
        if self._bar is not None:
            self._bar.close()

    def stats(self, throttle: Throttle | None) -> JobStats:
        """The figures, at this moment."""
        if self._began is None or throttle is None:
            return JobStats()
        return JobStats(
            texts=self._texts,
            known=max(0, self._texts - self.embedded),
            failed=self._failed,
            requests=throttle.attempts,
            refusals=throttle.refusals,
            retries=throttle.repeats + self.rounds,
            waited=throttle.waited,
            seconds=(self._ended or time.monotonic()) - self._began,
            limit=throttle.limit,
        )
