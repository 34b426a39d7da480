"""A chunk's texts -> vectors and failures: what is refused is halved down to the text at fault."""

import asyncio
from array import array
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from attrs import frozen

from cfai.embedding.plan import OnError
from cfai.embedding.source import Chunk
from cfai.embedding.values import EmbeddedBatch, EmbedFailure
from cfai.errors import (
    AuthenticationError,
    BadRequest,
    CfaiError,
    ConfigError,
    ConnectError,
    InputError,
    MethodNotAllowed,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    RateLimited,
    RequestTooLarge,
    StatusError,
)
from cfai.tasks import Embeddings, Usage

Ask = Callable[[Sequence[str]], Awaitable[Embeddings]]
"""Embeds one request's worth of texts, with all its attempts."""

Outcome: TypeAlias = "asyncio.Future[Embeddings | CfaiError]"
"""What will have become of one request's worth of texts."""

_ABOUT_ALL: Final = (
    QuotaExceeded,
    RateLimited,
    ConnectError,
    AuthenticationError,
    PermissionDenied,
    NotFound,
    MethodNotAllowed,
    ConfigError,
)
# No such model; no such path. Both are 400, and no text is to blame.
_CODES_ABOUT_ALL: Final = frozenset({5007, 7000, 7003})
_NONE_PASSED: Final = 20
"""Texts refused by themselves, and none embedded, after which it can't be about the texts."""

ABOUT_TEXTS: Final = (BadRequest, RequestTooLarge, InputError)


def about_all(error: CfaiError) -> bool:
    """Whether every other text would fail in the same way."""
    code = error.code if isinstance(error, StatusError) else None
    return isinstance(error, _ABOUT_ALL) or code in _CODES_ABOUT_ALL


class Judge:
    """Tells what is about some texts from what is about all, by what became of those before."""

    def __init__(self) -> None:
        self._passed = False
        self._refused = 0

    def passed(self) -> None:
        """Hear that some were embedded."""
        self._passed = True

    def about_all(self, error: CfaiError, texts: int) -> bool:
        """Whether every other text would fail as so many *texts* did.

        Of the texts at the beginning, one after the other was refused, and nothing was embedded:
        then something else that is asked for is at fault, an option for one.
        """
        if about_all(error):
            return True
        if self._passed or texts > 1 or not isinstance(error, BadRequest):
            return False
        self._refused += 1
        if self._refused < _NONE_PASSED:
            return False
        error.add_note(f"none of the first {self._refused} texts was accepted, each by itself")
        return True


@frozen(eq=False)
class Piece:
    """What became of the texts from *first* up to *last*, counted within their chunk."""

    first: int
    last: int
    outcome: Embeddings | CfaiError


async def embed(
    ask: Ask,
    texts: Sequence[str],
    out: list[Piece],
    *,
    on_error: OnError,
    judge: Judge,
    first: int = 0,
) -> None:
    """Put what becomes of *texts* into *out*, in order, as soon as it is known.

    Raises:
        CfaiError: A text can't be embedded, and *on_error* is "raise"; or none could be. What came
            before is in *out*.
    """
    outcome: Embeddings | CfaiError
    try:
        outcome = await ask(texts)
    except CfaiError as exc:
        outcome = exc
    if isinstance(outcome, Embeddings):
        judge.passed()
    elif judge.about_all(outcome, len(texts)):
        raise outcome
    elif isinstance(outcome, ABOUT_TEXTS) and len(texts) > 1:
        part, half = partial(embed, ask, on_error=on_error, judge=judge), len(texts) // 2
        await part(texts[:half], out, first=first)
        await part(texts[half:], out, first=first + half)
        return
    out.append(Piece(first, first + len(texts), outcome))
    if on_error == "raise" and isinstance(outcome, CfaiError):
        raise outcome


async def embed_in_rounds(
    ask: Callable[[Sequence[str]], Outcome],
    texts: Sequence[str],
    out: list[Piece],
    *,
    on_error: OnError,
    judge: Judge,
) -> None:
    """As `embed`, where each answer takes its time: all halves are asked for at once."""
    spans = [(0, len(texts))]
    while spans:
        asked = [ask(texts[first:last]) for first, last in spans]
        failed: list[CfaiError] = []
        try:
            await asyncio.wait(asked)
        finally:
            settled = _Settling(out, failed, on_error, judge)
            spans = settled.halves(zip(spans, asked, strict=True))
        if failed:
            raise failed[0]
        if any(outcome.cancelled() for outcome in asked):
            raise asyncio.CancelledError


@frozen(eq=False)
class _Settling:
    """What a round came to: what is known goes to *out*, what ends the job to *failed*."""

    out: list[Piece]
    failed: list[CfaiError]
    on_error: OnError
    judge: Judge

    def halves(self, asked: Iterable[tuple[tuple[int, int], Outcome]]) -> list[tuple[int, int]]:
        """Settle each request; gives what to ask next."""
        halves: list[tuple[int, int]] = []
        for (first, last), one in asked:
            one.cancel()  # Where it is done, that is nothing.
            if one.cancelled():
                continue
            outcome = one.result()
            if isinstance(outcome, Embeddings):
                self.judge.passed()
            elif self.judge.about_all(outcome, last - first):
                self.failed.append(outcome)
                continue
            elif isinstance(outcome, ABOUT_TEXTS) and last - first > 1:
                half = (first + last) // 2
                halves += [(first, half), (half, last)]
                continue
            elif self.on_error == "raise":
                self.failed.append(outcome)
            self.out.append(Piece(first, last, outcome))
        self.out.sort(key=lambda piece: piece.first)
        return halves


Embed = Callable[[Sequence[str], list[Piece]], Coroutine[Any, Any, None]]
"""`embed` for one job: all but the texts, and where what becomes of them is put."""


def one_by_one(pieces: Sequence[Piece]) -> Iterator[tuple[int, "array[float] | CfaiError"]]:
    """Each text's place in its chunk, and what became of it."""
    for piece in pieces:
        for place in range(piece.first, piece.last):
            found = piece.outcome
            yield place, found[place - piece.first] if isinstance(found, Embeddings) else found


def joined(
    found: Sequence["array[float] | CfaiError | None"], asked: Sequence[Piece] = ()
) -> list[Piece]:
    """Pieces of what stands next to each other; of `None`, nothing is known.

    What *asked* cost, which some of it was in, is told with the first of them.
    """
    cost = _cost(asked)
    pieces: list[Piece] = []
    vectors: array[float] = array("f")
    count = 0
    for place, one in enumerate((*found, None)):
        if isinstance(one, array):
            vectors += one
            count += 1
            continue
        if count:
            whole = Embeddings((count, len(vectors) // count), vectors, usage=cost)
            pieces.append(Piece(place - count, place, whole))
            vectors, count, cost = array("f"), 0, None
        if one is not None:
            pieces.append(Piece(place, place + 1, one))
    return pieces


def _cost(asked: Sequence[Piece]) -> Usage | None:
    """What the service said that all of them cost together."""
    told = [piece.outcome.usage for piece in asked if isinstance(piece.outcome, Embeddings)]
    said = [usage for usage in told if usage is not None]
    if not said:
        return None
    neurons = [usage.neurons for usage in said if usage.neurons is not None]
    return Usage(
        sum(usage.prompt_tokens for usage in said),
        sum(usage.completion_tokens for usage in said),
        sum(usage.total_tokens for usage in said),
        neurons=sum(neurons) if neurons else None,
    )


def results(chunk: Chunk, pieces: Sequence[Piece]) -> Iterator[EmbeddedBatch | EmbedFailure]:
    """The pieces of a chunk as a job gives them, in order."""
    for piece in pieces:
        span = slice(piece.first, piece.last)
        start, ids, texts = chunk.start + piece.first, chunk.ids[span], chunk.texts[span]
        if isinstance(piece.outcome, Embeddings):
            vectors = piece.outcome
            yield EmbeddedBatch(start, ids, vectors, vectors.usage, texts)
            continue
        for place, (key, text) in enumerate(zip(ids, texts, strict=True), start=start):
            yield EmbedFailure(place, key, text, piece.outcome)
