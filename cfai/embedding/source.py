"""The texts of a job, read lazily and cut into batches."""

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from typing import Any

from attrs import field, frozen

from cfai.errors import InputError

Texts = Iterable[str | tuple[Any, str]] | AsyncIterable[str | tuple[Any, str]]
"""Texts, or pairs of an id and a text; read as they are needed."""


@frozen(eq=False)
class Chunk:
    """Texts that stand next to each other in the source, for one request."""

    index: int
    """Which chunk it is, from 0."""
    start: int
    ids: Sequence[Any] = field(repr=False)
    texts: Sequence[str] = field(repr=False)


def check(texts: object) -> None:
    """Refuse what is no source of texts.

    Raises:
        InputError: It is one text, or can't be iterated.
    """
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable | AsyncIterable):
        raise InputError(f"texts must be many texts, got {type(texts).__name__}")


def length(texts: Texts) -> int | None:
    """How many there are, where that is known without reading them."""
    return len(texts) if isinstance(texts, Sequence) else None


def _pair(entry: object, place: int) -> tuple[Any, str]:
    match entry:
        case str():
            return place, entry
        case (key, str(text)):
            return key, text
    got = type(entry).__name__
    raise InputError(f"texts must be of str or (id, str); number {place} is of {got}")


async def _entries(texts: Texts) -> AsyncGenerator[object, None]:
    if not isinstance(texts, AsyncIterable):
        for entry in texts:
            yield entry
        return
    iterator = aiter(texts)
    try:
        async for entry in iterator:
            yield entry
    finally:
        # A generator that is left in the middle would otherwise be ended by the collector.
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


async def chunks(
    texts: Texts, most: int, most_characters: int | None
) -> AsyncGenerator[Chunk, None]:
    """Cut *texts* into chunks of up to *most* texts and *most_characters* characters.

    Where the source fails, what it gave before comes first.

    Raises:
        InputError: An entry is no text, and no pair of an id and a text.
    """
    limit = float("inf") if most_characters is None else most_characters
    index, start, size = 0, 0, 0
    ids: list[Any] = []
    batch: list[str] = []
    failure: Exception | None = None
    entries = _entries(texts)
    try:
        async for entry in entries:
            key, text = _pair(entry, start + len(batch))
            if batch and (len(batch) >= most or size + len(text) > limit):
                yield Chunk(index, start, ids, batch)
                index, start, size = index + 1, start + len(batch), 0
                ids, batch = [], []
            ids.append(key)
            batch.append(text)
            size += len(text)
    except Exception as exc:
        failure = exc
    finally:
        await entries.aclose()
    if batch:
        yield Chunk(index, start, ids, batch)
    if failure is not None:
        raise failure
