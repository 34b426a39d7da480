"""The texts of a job, read lazily and cut into batches."""

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Generator,
    Iterable,
    Mapping,
    Sequence,
    Sized,
)
from contextlib import aclosing
from math import inf
from typing import Any

from attrs import define, field, frozen

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
        InputError: It is one text, a mapping, or can't be iterated.
    """
    if isinstance(texts, Mapping):
        raise InputError("texts must be many texts, got a mapping: give its items() or values()")
    one = isinstance(texts, str | bytes | bytearray | memoryview)
    if one or not isinstance(texts, Iterable | AsyncIterable):
        raise InputError(f"texts must be many texts, got {type(texts).__name__}")


def length(texts: Texts) -> int | None:
    """How many there are, where that is known without reading them."""
    return len(texts) if isinstance(texts, Sized) else None


def _pair(entry: object, place: int) -> tuple[Any, str]:
    if isinstance(entry, str):
        return place, entry
    if isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[1], str):
        return entry
    got = type(entry).__name__
    raise InputError(f"texts must be of str or (id, str); number {place} is of {got}")


async def _entries(texts: Texts) -> AsyncGenerator[object, None]:
    """The entries of any source; it is left with all that a generator has to tidy up."""
    if not isinstance(texts, AsyncIterable):
        try:
            for entry in texts:
                yield entry
        finally:
            if isinstance(texts, Generator):
                texts.close()
        return
    iterator = aiter(texts)
    try:
        async for entry in iterator:
            yield entry
            _stop_if_cancelled()
    except asyncio.CancelledError as exc:
        _stop_if_cancelled()
        # Nobody cancelled this task: something that the source waited for was cancelled.
        raise InputError("the source of the texts was cancelled before it ended") from exc
    finally:
        # A generator that is left in the middle would otherwise be ended by the collector.
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


def _stop_if_cancelled() -> None:
    """Raise the cancellation of this task, which the source may have swallowed."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def chunks(
    texts: Texts, most: int, most_characters: int | None
) -> AsyncGenerator[Chunk, None]:
    """Cut *texts* into chunks of up to *most* texts and *most_characters* characters.

    A full one is given at once. Where the source fails, what it gave before comes first.

    Raises:
        InputError: An entry is no text, and no pair of an id and a text; or the source was
            cancelled by somebody else.
        BaseException: What the source raised.
    """
    cut = _Cut(most, inf if most_characters is None else most_characters)
    async with aclosing(_entries(texts)) as entries:
        while True:
            try:
                key, text = _pair(await anext(entries), cut.place)
            except StopAsyncIteration:
                break
            except BaseException:
                # Not where this task is cancelled: then nobody waits for the rest.
                _stop_if_cancelled()
                if cut.texts:
                    yield cut.chunk()
                raise
            if not cut.takes(text):
                yield cut.chunk()
            if cut.add(key, text):
                yield cut.chunk()
    if cut.texts:
        yield cut.chunk()


@define
class _Cut:
    """The texts that will be the next chunk."""

    most: int
    most_characters: float
    start: int = field(default=0, init=False)
    """The place of the first of them."""
    texts: list[str] = field(factory=list, init=False)
    _ids: list[Any] = field(factory=list, init=False)
    _size: int = field(default=0, init=False)
    _index: int = field(default=0, init=False)

    @property
    def place(self) -> int:
        """Of the next text."""
        return self.start + len(self.texts)

    def takes(self, text: str) -> bool:
        """Whether there is room for *text*; a long one goes alone."""
        return not self.texts or self._size + len(text) <= self.most_characters

    def add(self, key: Any, text: str) -> bool:
        """Take *text*; whether that was all."""
        self._ids.append(key)
        self.texts.append(text)
        self._size += len(text)
        return len(self.texts) >= self.most or self._size >= self.most_characters

    def chunk(self) -> Chunk:
        """All that was taken, and begin anew."""
        chunk = Chunk(self._index, self.start, self._ids, self.texts)
        self.start, self._index = self.place, self._index + 1
        self._ids, self.texts, self._size = [], [], 0
        return chunk
