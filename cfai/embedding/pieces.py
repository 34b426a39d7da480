"""Texts that were split: which of them are complete, and the mean of their pieces' vectors."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from math import sqrt
from typing import Any, TypeAlias

from attrs import define, field

from cfai.embedding.results import (
    EmbeddedBatch,
    EmbedFailure,
    JobReporter,
    RangeResult,
    build_items,
    iterate_texts,
    join_results,
)
from cfai.embedding.source import TextBatch
from cfai.embedding.splitting import Piece
from cfai.errors import CfaiError
from cfai.tasks import Embeddings

Part: TypeAlias = "tuple[int, array[float]]"
"""The characters of a piece, and its vector."""


@define(eq=False)
class _SplitText:
    """A text of which some pieces are done."""

    place: int
    key: Any
    text: str | None
    error: CfaiError | None = field(default=None, init=False)
    """That of the first piece that failed."""
    parts: dict[int, Part] = field(factory=dict, init=False)
    """By number."""
    _done: int = field(default=0, init=False)
    _count: int | None = field(default=None, init=False)
    """How many pieces it has, as soon as that is known."""

    def count(self, piece: Piece) -> bool:
        """Count a piece that is done, and return whether it was the last one missing."""
        self._done += 1
        if piece.is_last:
            self._count = piece.number + 1
        return self._done == self._count


class SplitTexts:
    """Counts the texts of a job whose pieces are done, in whatever order they come.

    With *pool*, it holds the vectors of a text until it is complete, and makes one of them.
    """

    def __init__(self, reporter: JobReporter, *, pool: bool) -> None:
        self._reporter = reporter
        self._pool = pool
        self._open: dict[int, _SplitText] = {}
        """By place."""
        self._requests: list[RangeResult] = []
        """With *pool*: those whose usage is not on a batch yet."""

    def add(
        self, batch: TextBatch, results: Sequence[RangeResult]
    ) -> list[EmbeddedBatch | EmbedFailure]:
        """Count the pieces of a batch, and return the items of the job that result from it."""
        settled = list(self._settle(batch, results))
        if self._pool:
            self._requests += results
            items = list(self._pool_items(settled))
        else:
            items = list(build_items(batch, results))
        for item in items:
            if isinstance(item, EmbedFailure):
                self._reporter.keep_failure(item)
        return items

    def _settle(
        self, batch: TextBatch, results: Sequence[RangeResult]
    ) -> Iterator[tuple[_SplitText, "array[float] | CfaiError | None"]]:
        """Yield the texts that are complete or have failed, with their mean vectors if wanted."""
        reporter = self._reporter
        for index, outcome in iterate_texts(results):
            piece = batch.pieces[index]
            text = self._open.get(piece.place)
            if text is None:
                text = _SplitText(piece.place, batch.ids[index], batch.whole_texts[index])
                self._open[piece.place] = text
            if isinstance(outcome, CfaiError):
                if text.error is None:
                    reporter.failed += 1
                    text.error = outcome
                    yield text, outcome
            else:
                reporter.pieces += 1
                if self._pool:
                    text.parts[piece.number] = piece.end - piece.start, outcome
            if text.count(piece):
                del self._open[piece.place]
                if text.error is None:
                    reporter.texts += 1
                    parts = [part for _, part in sorted(text.parts.items())]
                    yield text, mean_vector(parts) if parts else None

    def _pool_items(
        self, settled: Iterable[tuple[_SplitText, "array[float] | CfaiError | None"]]
    ) -> Iterator[EmbeddedBatch | EmbedFailure]:
        """Yield the items for texts; batches have consecutive places."""
        texts = sorted(settled, key=lambda entry: entry[0].place)
        # Consecutive places minus their numbers are equal.
        groups = groupby(enumerate(texts), key=lambda entry: entry[1][0].place - entry[0])
        for _, group in groups:
            members = [text for _, text in group]
            first = members[0][0].place
            ids, full_texts = [text.key for text, _ in members], [text.text for text, _ in members]
            outcomes = [outcome for _, outcome in members]
            results = join_results(outcomes, self._requests)
            if any(isinstance(result.outcome, Embeddings) for result in results):
                self._requests = []
            yield from build_items(TextBatch(0, first, ids, full_texts), results)


def mean_vector(parts: Sequence[Part]) -> "array[float]":
    """Return the mean of vectors, weighted by the characters that they stand for.

    It is as long as the vectors are, in the mean: the models' vectors have length 1, and so has
    their mean. (The plain mean would be shorter, the more the vectors differ.)

    Source of the weights and of the normalization: OpenAI Cookbook, "Embedding texts that are
    longer than the model's maximum context length".
    """
    if len(parts) == 1:
        return parts[0][1]
    sums = [0.0] * len(parts[0][1])
    wanted = 0.0
    for weight, vector in parts:
        sums = [number + weight * other for number, other in zip(sums, vector, strict=True)]
        wanted += weight * _length(vector)
    characters = sum(weight for weight, _ in parts)
    length = _length(sums)
    scale = wanted / (length * characters) if length else 0.0
    return array("f", [number * scale for number in sums])


def _length(vector: Iterable[float]) -> float:
    return sqrt(sum(number * number for number in vector))
