"""A chunk's texts -> vectors and failures: what is refused is halved down to the text at fault."""

import asyncio
from array import array
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Final, TypeAlias

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
from cfai.tasks import Embeddings

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
ABOUT_TEXTS: Final = (BadRequest, RequestTooLarge, InputError)


def about_all(error: CfaiError) -> bool:
    """Whether every other text would fail in the same way."""
    code = error.code if isinstance(error, StatusError) else None
    return isinstance(error, _ABOUT_ALL) or code in _CODES_ABOUT_ALL


@frozen(eq=False)
class Piece:
    """What became of the texts from *first* up to *last*, counted within their chunk."""

    first: int
    last: int
    outcome: Embeddings | CfaiError


async def embed(
    ask: Ask, texts: Sequence[str], out: list[Piece], *, on_error: OnError, first: int = 0
) -> None:
    """Put what becomes of *texts* into *out*, in order, as soon as it is known.

    Raises:
        CfaiError: A text can't be embedded, and *on_error* is "raise"; or none could be. What came
            before is in *out*.
    """
    try:
        outcome: Embeddings | CfaiError = await ask(texts)
    except CfaiError as exc:
        if about_all(exc):
            raise
        if isinstance(exc, ABOUT_TEXTS) and len(texts) > 1:
            half = len(texts) // 2
            await embed(ask, texts[:half], out, on_error=on_error, first=first)
            await embed(ask, texts[half:], out, on_error=on_error, first=first + half)
            return
        out.append(Piece(first, first + len(texts), exc))
        if on_error == "raise":
            raise
    else:
        out.append(Piece(first, first + len(texts), outcome))


async def embed_in_rounds(
    ask: Callable[[Sequence[str]], Outcome],
    texts: Sequence[str],
    out: list[Piece],
    *,
    on_error: OnError,
) -> None:
    """As `embed`, where each answer takes its time: all halves are asked for at once."""
    spans = [(0, len(texts))]
    while spans:
        asked = [ask(texts[first:last]) for first, last in spans]
        failed: list[CfaiError] = []
        try:
            await asyncio.wait(asked)
        finally:
            spans = _settled(zip(spans, asked, strict=True), out, failed, on_error)
        if failed:
            raise failed[0]
        if any(outcome.cancelled() for outcome in asked):
            raise asyncio.CancelledError


def _settled(
    asked: Iterable[tuple[tuple[int, int], Outcome]],
    out: list[Piece],
    failed: list[CfaiError],
    on_error: OnError,
) -> list[tuple[int, int]]:
    """Put what is known into *out*, and what ends the job into *failed*; gives what to ask next."""
    halves: list[tuple[int, int]] = []
    for (first, last), one in asked:
        one.cancel()  # Where it is done, that is nothing.
        if one.cancelled():
            continue
        outcome = one.result()
        if isinstance(outcome, CfaiError):
            if about_all(outcome):
                failed.append(outcome)
                continue
            if isinstance(outcome, ABOUT_TEXTS) and last - first > 1:
                half = (first + last) // 2
                halves += [(first, half), (half, last)]
                continue
            if on_error == "raise":
                failed.append(outcome)
        out.append(Piece(first, last, outcome))
    out.sort(key=lambda piece: piece.first)
    return halves


Embed = Callable[[Sequence[str], list[Piece]], Awaitable[None]]
"""`embed` for one job: all but the texts, and where what becomes of them is put."""


def one_by_one(pieces: Sequence[Piece]) -> Iterator[tuple[int, "array[float] | CfaiError"]]:
    """Each text's place in its chunk, and what became of it."""
    for piece in pieces:
        for place in range(piece.first, piece.last):
            found = piece.outcome
            yield place, found[place - piece.first] if isinstance(found, Embeddings) else found


def joined(found: Sequence["array[float] | CfaiError | None"]) -> list[Piece]:
    """Pieces of what stands next to each other; of `None`, nothing is known."""
    pieces: list[Piece] = []
    vectors: array[float] = array("f")
    count = 0
    for place, one in enumerate((*found, None)):
        if isinstance(one, array):
            vectors += one
            count += 1
            continue
        if count:
            whole = Embeddings((count, len(vectors) // count), vectors)
            pieces.append(Piece(place - count, place, whole))
            vectors, count = array("f"), 0
        if one is not None:
            pieces.append(Piece(place, place + 1, one))
    return pieces


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
