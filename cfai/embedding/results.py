"""What a job yields and reports: batches of vectors, failures, statistics and progress."""

import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from attrs import field, frozen

from cfai.embedding.source import TextBatch
from cfai.embedding.splitting import Piece, Window
from cfai.errors import CfaiError, InputError, MissingExtra, StatusError
from cfai.tasks import Embeddings, Usage

if TYPE_CHECKING:
    from cfai._session.throttle import Throttle


_MOST_FAILURES: Final = 10_000
"""Failures that a job keeps."""


@frozen(eq=False)
class EmbeddedBatch:
    """The vectors of consecutive texts of the source, or of consecutive pieces of them."""

    start: int
    """The place of the first text in the source, from 0."""

    ids: Sequence[Any]
    """The ids of the texts; their places if they have none."""

    vectors: Embeddings
    """One vector for each text, in the same order."""

    usage: Usage | None = None
    """What the requests cost, if the service reported it; `None` if no request was sent. With a
    checkpoint or `dedupe`, the usage of a request is on the first batch that resulted from it."""

    texts: Sequence[str] = field(default=(), repr=False)
    """The texts, or the pieces."""

    pieces: Sequence[Piece] = field(default=(), kw_only=True, repr=False)
    """With `long="split"` and no `pool`: which part of its text each row is. Otherwise empty."""

    def __len__(self) -> int:
        return self.vectors.shape[0]


@frozen(eq=False)
class EmbedFailure:
    """A text or a piece of one without a vector, and the reason."""

    start: int
    """The place of the text in the source, from 0."""

    id: Any
    """The id of the text; its place if it has none."""

    text: str | None = field(repr=False)
    """The text; `None` if it is missing or not a `str`. With `long="split"` and no `pool`, the
    piece."""

    error: CfaiError

    piece: Piece | None = field(default=None, kw_only=True)
    """With `long="split"` and no `pool`: which part of its text failed."""

    @property
    def reason(self) -> str:
        """The message of the error, without the advice that goes with its code."""
        hint = self.error.hint if isinstance(self.error, StatusError) else None
        return str(self.error).removesuffix(f"\n{hint}")


def item_key(item: EmbeddedBatch | EmbedFailure) -> tuple[int, int]:
    """What items of a job are sorted by into the order of the source."""
    piece = item.piece if isinstance(item, EmbedFailure) else next(iter(item.pieces), None)
    return item.start, 0 if piece is None else piece.number


@frozen(kw_only=True)
class JobStats:
    """The figures of a job, at one moment."""

    texts: int = 0
    """Texts with vectors; with `long="split"`, those of which every piece has one."""
    pieces: int = 0
    """Pieces of texts with vectors; the same as `texts` unless `long="split"`."""
    known: int = 0
    """Those of the pieces for which no request was sent: the vector came from the checkpoint, or
    from an equal text (`dedupe`)."""
    failed: int = 0
    """Texts that failed; with `long="split"`, those with a piece that failed."""
    truncated: int = 0
    """Texts that are probably longer than the model reads, so that their vectors stand for their
    beginning only. This is an estimate; see `long` of `cfai.embedding.JobOptions`."""
    requests: int = 0
    """Attempts that were sent."""
    refusals: int = 0
    """Attempts that were rate-limited (429)."""
    retries: int = 0
    """Attempts that repeated an earlier one."""
    waited: float = 0.0
    """Seconds that attempts waited for a permit, summed over all attempts."""
    seconds: float = 0.0
    """From the start of the job to now, or to its end."""
    limit: float = 0.0
    """The current limit on concurrent attempts; infinity if there is none."""

    @property
    def texts_per_second(self) -> float:
        """Texts embedded per second since the start, without the known ones; 0 at the start.

        With `long="split"`, pieces.
        """
        return (self.pieces - self.known) / self.seconds if self.seconds else 0.0


@frozen
class Progress:
    """The argument of a `progress` function, which is called after every batch."""

    stats: JobStats

    total: int | None
    """The number of texts, if the source has a length."""

    @property
    def done(self) -> int:
        """Texts that have a vector or have failed."""
        return self.stats.texts + self.stats.failed

    @property
    def seconds_left(self) -> float | None:
        """The remaining seconds at the current speed; `None` if unknown."""
        stats = self.stats
        share = stats.texts / stats.pieces if stats.pieces else 0
        embedded = self.done - stats.known * share
        if self.total is None or (self.total > self.done and not embedded):
            return None
        return (self.total - self.done) * self.stats.seconds / max(embedded, 1)


@frozen(eq=False)
class RangeResult:
    """The result of the texts *first* to *last* of a batch (*last* not included)."""

    first: int
    last: int
    outcome: Embeddings | CfaiError


def iterate_texts(
    results: Iterable[RangeResult],
) -> Iterator[tuple[int, "array[float] | CfaiError"]]:
    """Yield each text's index in its batch, and its vector or error."""
    for result in results:
        outcome = result.outcome
        for index in range(result.first, result.last):
            if isinstance(outcome, Embeddings):
                yield index, outcome[index - result.first]
            else:
                yield index, outcome


def join_results(
    outcomes: Iterable["array[float] | CfaiError | None"], sent: Iterable[RangeResult] = ()
) -> list[RangeResult]:
    """Join the outcomes of a batch's texts into ranges; texts with `None` are in none of them.

    The first range with vectors gets the usage of *sent*, the results of the requests behind it.
    """
    usage = _sum_usage(sent)
    results: list[RangeResult] = []
    vectors: array[float] = array("f")
    count = 0
    for index, outcome in enumerate((*outcomes, None)):
        if isinstance(outcome, array):
            vectors += outcome
            count += 1
            continue
        if count:
            embeddings = Embeddings((count, len(vectors) // count), vectors, usage=usage)
            results.append(RangeResult(index - count, index, embeddings))
            vectors, count, usage = array("f"), 0, None
        if outcome is not None:
            results.append(RangeResult(index, index + 1, outcome))
    return results


def find_missing_texts(texts: Iterable[str | InputError | None]) -> dict[int, InputError]:
    """Return the errors of what is missing, empty or no text, by index, in order."""
    errors = {}
    for index, text in enumerate(texts):
        if isinstance(text, InputError):
            errors[index] = text
        elif not text:
            errors[index] = InputError(
                "the text is missing" if text is None else "the text is empty"
            )
    return errors


def find_long_texts(texts: Sequence[str | None], window: Window) -> dict[int, InputError]:
    """Return the errors of texts that are probably longer than *window*, by their index."""
    if max(map(len, filter(None, texts)), default=0) <= window.safe_length:
        return {}
    errors = {}
    for index, text in enumerate(texts):
        if text and (tokens := window.find_excess(text)) is not None:
            errors[index] = InputError(
                f"the text has about {tokens} tokens, and the model reads {window.tokens}: split"
                " it, or let the model cut it"
            )
    return errors


def insert_failures(
    results: Iterable[RangeResult], failures: Mapping[int, CfaiError], count: int
) -> list[RangeResult]:
    """Return the results of *count* texts, from those of the texts that are not in *failures*."""
    sent = list(results)
    outcomes: list[array[float] | CfaiError | None] = [failures.get(i) for i in range(count)]
    places = [index for index in range(count) if index not in failures]
    for index, outcome in iterate_texts(sent):
        outcomes[places[index]] = outcome
    return join_results(outcomes, sent)


def _sum_usage(results: Iterable[RangeResult]) -> Usage | None:
    reported = [
        result.outcome.usage
        for result in results
        if isinstance(result.outcome, Embeddings) and result.outcome.usage is not None
    ]
    if not reported:
        return None
    neurons = [usage.neurons for usage in reported if usage.neurons is not None]
    return Usage(
        sum(usage.prompt_tokens for usage in reported),
        sum(usage.completion_tokens for usage in reported),
        sum(usage.total_tokens for usage in reported),
        neurons=sum(neurons) if neurons else None,
    )


def build_items(
    batch: TextBatch, results: Iterable[RangeResult]
) -> Iterator[EmbeddedBatch | EmbedFailure]:
    """Yield the results of a batch as the items of the job, in order."""
    for result in results:
        part = slice(result.first, result.last)
        ids, texts, pieces = batch.ids[part], batch.texts[part], batch.pieces[part]
        start = pieces[0].place if pieces else batch.start + result.first
        if isinstance(result.outcome, Embeddings):
            vectors, present = result.outcome, cast("Sequence[str]", texts)
            yield EmbeddedBatch(start, ids, vectors, vectors.usage, present, pieces=pieces)
        elif pieces:
            for key, text, piece in zip(ids, texts, pieces, strict=True):
                yield EmbedFailure(piece.place, key, text, result.outcome, piece=piece)
        else:
            for place, (key, text) in enumerate(zip(ids, texts, strict=True), start=start):
                yield EmbedFailure(place, key, text, result.outcome)


class JobReporter:
    """Counts the results of a job, and reports them to a function or a progress bar."""

    def __init__(self, total: int | None, progress: bool | Callable[[Progress], object]) -> None:
        self._total = total
        self._callback = progress if callable(progress) else None
        self._shows_bar = progress is True
        self._bar: Any = None
        self._started: float | None = None
        self._stopped: float | None = None
        self.texts: int = 0
        """Texts with vectors."""
        self.failed: int = 0
        """Texts that failed."""
        self.failures: list[EmbedFailure] = []
        """The first failures."""
        self.embedded: int = 0
        """Texts, or pieces of them, that the service has embedded."""
        self.pieces: int = 0
        """Texts, or pieces of them, with vectors."""
        self.truncated: int = 0
        """Texts that are longer than the model reads."""
        self.repeated_calls: int = 0
        """How often the job repeated a call after all its attempts had failed."""

    def start(self) -> None:
        """Start the clock, and show the bar.

        Raises:
            MissingExtra: A bar is wanted, and tqdm is not installed.
        """
        self._started = time.monotonic()
        if self._shows_bar:
            try:
                from tqdm import tqdm
            except ImportError as exc:
                raise MissingExtra("progress", needed_for="progress=True") from exc
            self._bar = tqdm(total=self._total, unit="text")

    def count(self, items: Iterable[EmbeddedBatch | EmbedFailure]) -> None:
        """Add the texts of *items* to the figures."""
        for item in items:
            if isinstance(item, EmbeddedBatch):
                self.texts += len(item)
                self.pieces += len(item)
            else:
                self.failed += 1
                self.keep_failure(item)

    def keep_failure(self, failure: EmbedFailure) -> None:
        """Add to the failures, if they are not too many."""
        if len(self.failures) < _MOST_FAILURES:
            self.failures.append(failure)

    def report(self, throttle: "Throttle") -> None:
        """Update the bar, and call the `progress` function."""
        if self._bar is not None:
            self._bar.update(self.texts + self.failed - self._bar.n)
            self._bar.set_postfix(
                refusals=throttle.rate_limited, limit=throttle.limit, refresh=False
            )
        if self._callback is not None:
            self._callback(Progress(self.stats(throttle), self._total))

    def stop(self) -> None:
        """Stop the clock; the bar stays on the screen."""
        if self._started is not None and self._stopped is None:
            self._stopped = time.monotonic()
        if self._bar is not None:
            self._bar.close()

    def stats(self, throttle: "Throttle | None") -> JobStats:
        """Return the current figures."""
        if self._started is None or throttle is None:
            return JobStats()
        return JobStats(
            texts=self.texts,
            pieces=self.pieces,
            known=max(0, self.pieces - self.embedded),
            failed=self.failed,
            truncated=self.truncated,
            requests=throttle.attempts,
            refusals=throttle.rate_limited,
            retries=throttle.repeats + self.repeated_calls,
            waited=throttle.waited,
            seconds=(self._stopped or time.monotonic()) - self._started,
            limit=throttle.limit,
        )
