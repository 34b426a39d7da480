"""The texts of a job, read as they are needed and cut into batches."""

import asyncio
import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from decimal import Decimal
from itertools import islice
from math import inf
from numbers import Number
from typing import Any, Final, Protocol, runtime_checkable

from attrs import define, field, frozen, setters

from cfai._types.excerpts import format_value
from cfai.embedding.splitting import Piece, Split, Splitter, locate_pieces, number_pieces
from cfai.embedding.threads import run_in_thread
from cfai.errors import CfaiError, InputError

Texts = Iterable[Any] | AsyncIterable[Any]
"""Texts, or pairs of an id and a text; read as they are needed. A missing text is `None`, NaN, or
what pandas or Arrow have for it."""


@runtime_checkable
class NamedTexts(Protocol):
    """Texts that have names of their own in errors, such as the rows of files."""

    def name_text(self, place: int, key: Any, /) -> str:
        """The name of the text at *place*, whose id is *key*."""


def name_text(place: int, key: Any, /) -> str:
    """How an error names a text: by its place, and by its id if it has one."""
    shown = "" if key == place else f", id {format_value(key)}"
    return f"text number {place} (from 0){shown}"


_MOST_ENTRIES: Final = 4
"""Texts of a batch, with missing ones, for each text that a request may have."""


@frozen(eq=False)
class TextBatch:
    """Consecutive texts of the source, for one request."""

    index: int
    """The number of the batch, from 0."""
    start: int
    """The place of its first text in the source, from 0."""
    ids: Sequence[Any] = field(repr=False)
    texts: Sequence[str | None] = field(repr=False)
    """`None` for a missing text, and for what is no text."""
    pieces: Sequence[Piece] = field(default=(), repr=False)
    """If texts are split, what part of its text each is."""
    whole_texts: Sequence[str | None] = field(default=(), repr=False)
    """If texts are split, the text that each is a part of."""
    errors: Mapping[int, InputError] = field(factory=dict, repr=False)
    """By index, what is wrong with a value that is no text. A missing text has none."""


_MISSING: Final = frozenset({"NAType", "NaTType", "MaskedConstant"})
"""The classes of pandas and NumPy whose only value stands for a missing one."""


def is_missing(value: object) -> bool:
    """Whether *value* stands for a missing text: `None`, NaN, and those of other libraries."""
    kind = type(value).__name__
    if value is None or kind in _MISSING or getattr(value, "is_valid", True) is False:
        return True
    if isinstance(value, Decimal):
        return value.is_nan()  # A signaling NaN can't be compared.
    if isinstance(value, Number) or kind == "datetime64":
        return bool(value != value)  # Only NaN and NaT are not equal to themselves.
    return False


def read_text(value: object) -> str | InputError | None:
    """Return a text as it is, `None` for a missing one, and the error of what is no text.

    A source that finds an error in a row itself has it in place of the text.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, InputError):
        return value
    if is_missing(value):
        return None
    is_binary = isinstance(value, bytes | bytearray | memoryview)
    shown = " ".join(format_value(value).split())  # The `repr` of a table has several lines.
    return InputError(
        f"a text must be a str, got {type(value).__name__}: {shown}"
        + ("; decode it first" if is_binary else "")
    )


def _read_entry(entry: object, place: int) -> tuple[Any, str | InputError | None]:
    """The id and the text of an entry.

    Raises:
        InputError: The first entry is a row, so that the column of texts must be chosen.
    """
    if isinstance(entry, str):
        return place, entry
    if isinstance(entry, tuple) and len(entry) == 2:
        return entry[0], read_text(entry[1])
    if place == 0:
        _check_is_no_row(entry)
    return place, read_text(entry)


def _find_columns(entry: object) -> object:
    """The names of the columns of a table of Arrow or Polars."""
    return getattr(entry, "column_names", None) or getattr(entry, "columns", None)


def _check_is_no_row(entry: Any) -> None:
    kind, names = type(entry).__name__, ""
    if isinstance(entry, Mapping) or hasattr(entry, "keys"):
        names = ", ".join(map(repr, entry.keys()))
    elif isinstance(columns := _find_columns(entry), list):
        names = ", ".join(map(repr, columns))
    elif isinstance(entry, tuple):
        names = f"a number below {len(entry)}; (id, text) needs none"
    if names:
        raise InputError(f"row 0 is a {kind}: choose its text with column= ({names:.500})")


def read_row(row: Any, place: int, column: Any, id_column: Any) -> Any:
    """The text of a row, and its id if there is a column of ids.

    Raises:
        InputError: The first row has no such column. In a later row, the error is its text.
    """
    name = column
    try:
        text = row[name]
        if id_column is None:
            return (place, text)
        name = id_column
        return (row[name], text)
    except (IndexError, KeyError, TypeError) as exc:
        if isinstance(row, tuple) and (fields := getattr(row, "_fields", None)):
            return read_row(dict(zip(fields, row, strict=True)), place, column, id_column)
        error = InputError(f"row {place} has no {name!r} ({_describe_row(row):.500})")
        if place == 0:
            raise error from exc
        return (place, error)


def _describe_row(row: Any) -> str:
    """What a row has instead of a column, and how its columns are named."""
    if callable(keys := getattr(row, "keys", None)):
        return f"found: {', '.join(map(repr, keys()))}"
    shown = format_value(row)
    if not isinstance(row, tuple | list):
        return f"found: {type(row).__name__} {shown}"
    return (
        f"found: {shown}; choose a number below {len(row)}, or let the database give rows with"
        " names, as sqlite3 does with `row_factory = sqlite3.Row`"
    )


class _EntryReader:
    """Reads the entries of any source, several at once, and closes its generator at the end."""

    def __init__(self, texts: Texts) -> None:
        self._source = texts
        self._is_async = isinstance(texts, AsyncIterable)
        self._iterator: Any = aiter(texts) if isinstance(texts, AsyncIterable) else iter(texts)
        self._error: BaseException | None = None

    async def read(self, most: int) -> list[object]:
        """Read up to *most* entries; none at the end.

        Raises:
            InputError: Something that the source awaited was cancelled.
            BaseException: What the source raised, after the entries before it were returned.
        """
        if self._error is not None:
            raise self._error
        entries: list[object] = []
        try:
            if self._is_async:
                await self._read_async(entries, most)
            else:
                for entry in islice(self._iterator, most):
                    entries.append(entry)  # noqa: PERF402  # what was read stays if the next fails
        except BaseException as exc:
            _raise_if_cancelled()
            if not entries:
                raise
            self._error = exc
        return entries

    async def _read_async(self, entries: list[object], most: int) -> None:
        try:
            async for entry in self._iterator:
                entries.append(entry)
                _raise_if_cancelled()
                if len(entries) == most:
                    break
        except asyncio.CancelledError as exc:
            _raise_if_cancelled()
            # This task was not cancelled: something that the source awaited was.
            raise InputError("the source of the texts was cancelled before it ended") from exc

    async def aclose(self) -> None:
        """Close an abandoned generator, before the garbage collector does."""
        if isinstance(self._source, Generator):
            self._source.close()
        elif self._is_async and hasattr(self._iterator, "aclose"):
            await self._iterator.aclose()


def _raise_if_cancelled() -> None:
    """Raise the cancellation of this task, which the source may have swallowed."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


@define
class TokenLimits:
    """How many tokens a model takes, and how many a text has.

    Only the model can count them. The estimate begins with 3 bytes of UTF-8 per token, which is
    rather too many tokens for prose, and learns from error responses that name the number.
    """

    per_text: float
    """A text that may be longer is sent alone, so that only it fails."""
    per_request: float
    truncates: bool = field(default=False, kw_only=True)
    """Whether texts that are too long are cut, by the model or before."""
    bytes_per_token: float = field(default=3.0, init=False)

    def estimate(self, text: str) -> float:
        """About how many tokens *text* takes of a request; infinite if it is to be sent alone."""
        tokens = _size(text) / self.bytes_per_token
        if tokens <= self.per_text:
            return tokens
        return self.per_text if self.truncates else inf

    def learn(self, error: CfaiError, texts: Iterable[str]) -> None:
        """Correct the estimate if the error response for *texts* has the number of their tokens."""
        # Live, code 3030: "Max context reached 85920 tokens but model supports only 60000".
        counted = re.search(r"context reached (\d{1,9}) tokens", str(error))
        if counted is not None and (tokens := int(counted[1])) > self.per_request:
            measured = sum(map(_size, texts)) / tokens
            self.bytes_per_token = min(self.bytes_per_token, max(measured, 0.5))


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


async def _split(
    text: str | InputError | None, place: int, split: Split | None
) -> Iterable[tuple[str | InputError | None, Piece | None]]:
    """The text at *place*, or its pieces. A missing text is a piece, too."""
    if split is None:
        return ((text, None),)
    if not text or isinstance(text, InputError):
        return [(text, Piece(place, 0, 0, 0, is_last=True))]
    if isinstance(split, Splitter):
        pieces = number_pieces(split(text), place)
    else:
        try:
            # Good splitters count tokens, which takes long.
            pieces = number_pieces(await run_in_thread(_call_split, split, text), place)
        except Exception as exc:
            exc.add_note(f"splitting failed for text number {place} (from 0)")
            raise
    return ((text[piece.start : piece.end], piece) for piece in pieces)


def _call_split(split: Split, text: str) -> list[tuple[int, int]]:
    return locate_pieces(text, split(text))


async def read_batches(
    texts: Texts,
    max_texts: int,
    max_characters: int | None,
    limits: TokenLimits | None = None,
    split: Split | None = None,
) -> AsyncGenerator[TextBatch, None]:
    """Cut *texts* into batches of up to *max_texts* texts and *max_characters* characters.

    With *limits*, the texts of a batch have about as many tokens as the model takes. With *split*,
    pieces of texts are counted instead of texts. A full batch is yielded at once. If the source
    fails, the texts before the failure come first.

    Raises:
        InputError: The first entry is a row whose text is not chosen; or something that the source
            awaited was cancelled.
        BaseException: What the source raised.
    """
    builder = _BatchBuilder(max_texts, max_characters, limits)
    reader = _EntryReader(texts)
    # The size of a text or its pieces may fill a batch: then nothing is read ahead.
    reads_ahead = limits is None and max_characters is None and split is None
    place = 0
    try:
        while entries := await reader.read(builder.room if reads_ahead else 1):
            if reads_ahead and builder.extend(entries, place):
                place += len(entries)
                if builder.is_full:
                    yield builder.build()
                continue
            for entry in entries:
                key, text = _read_entry(entry, place)
                for part, piece in await _split(text, place, split):
                    for batch in builder.add(key, part, piece, text):
                        yield batch
                place += 1
    except BaseException:
        _raise_if_cancelled()  # Then nobody waits for the rest.
        if builder.texts:
            yield builder.build()
        raise
    finally:
        await reader.aclose()
    if builder.texts:
        yield builder.build()


def _infinity_if_none(limit: float | None) -> float:
    return inf if limit is None else limit


@define(on_setattr=setters.NO_OP)  # Its fields are set for each text.
class _BatchBuilder:
    """The texts of the next batch."""

    max_texts: int
    max_characters: float = field(converter=_infinity_if_none)
    limits: TokenLimits | None
    start: int = field(default=0, init=False)
    """The place of its first text."""
    texts: list[str | None] = field(factory=list, init=False)
    _present: int = field(default=0, init=False)
    """How many of the texts are not missing."""
    _errors: dict[int, InputError] = field(factory=dict, init=False)
    _ids: list[Any] = field(factory=list, init=False)
    _pieces: list[Piece] = field(factory=list, init=False)
    _whole_texts: list[str | None] = field(factory=list, init=False)
    _characters: int = field(default=0, init=False)
    _tokens: float = field(default=0.0, init=False)
    _index: int = field(default=0, init=False)

    @property
    def room(self) -> int:
        """How many texts can be added at least before the batch is full, whatever their size."""
        return min(self.max_texts - self._present, _MOST_ENTRIES * self.max_texts - len(self.texts))

    @property
    def is_full(self) -> bool:
        """Whether the batch is to be sent. Texts without characters are not sent.

        So they count only towards the size of the batch in memory.
        """
        return (
            self._present >= self.max_texts
            or len(self.texts) >= _MOST_ENTRIES * self.max_texts
            or self._characters >= self.max_characters
            or (self.limits is not None and self._tokens >= self.limits.per_request)
        )

    def extend(self, entries: Sequence[Any], place: int) -> bool:
        """Add entries if all of them are strings, or pairs with one; the first is at *place*.

        This is what most sources have, and takes a tenth of the time of adding one by one.
        """
        ids: Iterable[Any] = range(place, place + len(entries))
        texts = entries
        if set(map(type, entries)) == {tuple} and set(map(len, entries)) == {2}:
            ids, texts = zip(*entries, strict=True)
        if set(map(type, texts)) != {str}:
            return False
        self._ids += ids
        self.texts += texts
        self._present += sum(map(bool, texts))
        return True

    def add(
        self,
        key: Any,
        value: str | InputError | None,
        piece: Piece | None,
        whole_value: str | InputError | None,
    ) -> Iterator[TextBatch]:
        """Add a text, or a piece of one, and yield the batches that are then complete.

        A text above a limit gets a batch of its own.
        """
        text = None if isinstance(value, InputError) else value
        tokens = 0.0 if self.limits is None or text is None else self.limits.estimate(text)
        if self._present and not self._has_room_for(text, tokens):
            yield self.build()
        if piece is not None:
            self._pieces.append(piece)
            self._whole_texts.append(None if isinstance(whole_value, InputError) else whole_value)
        if isinstance(value, InputError):
            self._errors[len(self.texts)] = value
        self._ids.append(key)
        self.texts.append(text)
        if text:
            self._present += 1
            self._characters += len(text)
            self._tokens += tokens
        if self.is_full:
            yield self.build()

    def _has_room_for(self, text: str | None, tokens: float) -> bool:
        return self._characters + len(text or "") <= self.max_characters and (
            self.limits is None or self._tokens + tokens <= self.limits.per_request
        )

    def build(self) -> TextBatch:
        """Return the batch, and start the next one."""
        batch = TextBatch(
            self._index,
            self.start,
            self._ids,
            self.texts,
            self._pieces,
            self._whole_texts,
            self._errors,
        )
        self.start, self._index = self.start + len(self.texts), self._index + 1
        self._ids, self.texts, self._pieces, self._whole_texts, self._errors = [], [], [], [], {}
        self._present, self._characters, self._tokens = 0, 0, 0.0
        return batch
