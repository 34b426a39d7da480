"""Reads embeddings. Many vectors are decoded row by row, so that other tasks get their turn.

A response with 100 vectors of 1024 numbers blocks an event loop for 4 to 5 ms, one of the queue for
80 ms. A thread does not help: the decoder holds the interpreter's lock. Rows are also faster, since
few number objects exist at a time. `tests/bench/stall.py` measures it.
"""

import re
import sys
from array import array
from collections.abc import Iterator
from contextlib import suppress
from math import inf
from secrets import token_hex
from typing import Any, Final

import orjson
from attrs import define, field

from cfai._types.excerpts import format_count
from cfai._types.json import loads
from cfai._wire.responses import Response, unwrap_result
from cfai._wire.text import read_optional_string, read_usage, undocumented_error
from cfai.errors import DecodeError
from cfai.tasks import Embeddings

_LARGE: Final = 1 << 16
"""Bytes. Smaller responses are decoded at once."""

_SLICE: Final = 8192
"""Numbers that are decoded at once, in about a third of a millisecond."""

_NUMBERS: Final = frozenset({float, int})

_LIST = re.compile(rb'[{,\s]"(?:data|response)"\s*:\s*(?=\[\s*\[)')
_FIRST_ROW = re.compile(rb"\[\s*(?=\[)")
_NEXT_ROW = re.compile(rb"\s*(?:,\s*(?=\[)|(\]))")

# As 32-bit floats, numbers from 1e38, infinity and nan have this in the byte with the sign.
_HIGH_BYTE: Final = 3 if sys.byteorder == "little" else 0
_HUGE: Final = (b"\x7f", b"\xff")


class WrongVectorCount(DecodeError):
    """An answer has more or fewer vectors than texts were sent."""


class UnusualVectors(ValueError):
    """The vectors have to be read in the ordinary way, which reports what is wrong with them."""


@define(eq=False)
class VectorRows:
    """A list of vectors that are not decoded yet."""

    _body: bytes
    _ranges: list[tuple[int, int]]
    buffer: "array[float]" = field(factory=lambda: array("f"), init=False)
    """The decoded numbers, row after row."""

    def __len__(self) -> int:
        return len(self._ranges)

    @property
    def width(self) -> int:
        """The numbers of the first row."""
        start, end = self._ranges[0]
        commas = self._body.count(b",", start, end)
        return commas + 1 if self._body[start + 1 : end - 1].strip() else 0

    def steps(self) -> Iterator[None]:
        """Decode the rows, a slice with each step.

        Raises:
            UnusualVectors: The rows differ in length, or contain something else than numbers.
        """
        (first, _), (_, last), width = self._ranges[0], self._ranges[-1], self.width
        # An array takes true for 1. Numbers do not contain these letters.
        if self._body.find(b"t", first, last) >= 0 or self._body.find(b"f", first, last) >= 0:
            raise UnusualVectors
        rows_at_once = -(-_SLICE // width)
        for index in range(0, len(self._ranges), rows_at_once):
            self._decode(self._ranges[index : index + rows_at_once], width)
            yield

    def _decode(self, ranges: list[tuple[int, int]], width: int) -> None:
        body, buffer, checked = memoryview(self._body), self.buffer, len(self.buffer)
        for start, end in ranges:
            try:
                # A row ends at its first closing bracket, so its depth needs no check.
                row = orjson.loads(body[start:end])
                buffer.fromlist(row)
            except (OverflowError, TypeError, ValueError) as exc:
                raise UnusualVectors from exc
            if len(row) != width:
                raise UnusualVectors
        if has_huge_number(buffer[checked:]):
            raise UnusualVectors


def has_huge_number(buffer: "array[float]") -> bool:
    """Whether a number may be too large for 32 bits: from 10 to the power of 38."""
    high_bytes = buffer.tobytes()[_HIGH_BYTE::4]
    return any(byte in high_bytes for byte in _HUGE)


@define(eq=False)
class VectorDecoder:
    """Decodes a response without its vectors, and the vectors afterwards."""

    response: Response = field(init=False, repr=False)
    _lists: list[VectorRows] = field(factory=list, init=False, repr=False)

    def wrap(self, response: Response) -> Response:
        """The same response; its `json` has `VectorRows` in the places of many vectors."""
        self.response, self._lists = response, []
        return _VectorResponse(
            response.status, response.headers, response.body, response.meta, self._lists
        )

    def steps(self) -> Iterator[None]:
        """Decode the vectors, a slice with each step.

        Raises:
            UnusualVectors: Something is wrong with them.
        """
        for rows in self._lists:
            yield from rows.steps()


@define(eq=False)
class _VectorResponse(Response):
    _lists: list[VectorRows] = field(repr=False)
    """Filled by `json`."""

    def json(self, *, big_integers: bool = False) -> Any:
        if len(self.body) >= _LARGE:
            mark = token_hex(8)  # No response contains it.
            rest, lists = _split(self.body, mark)
            with suppress(ValueError):
                document = loads(rest)
                if lists and _insert(document, lists, mark) == len(lists):
                    self._lists[:] = lists
                    return document
        return super().json(big_integers=big_integers)


def _split(body: bytes, mark: str) -> tuple[bytes, list[VectorRows]]:
    """Replace each list of vectors in JSON by *mark* and its number."""
    parts: list[bytes] = []
    lists: list[VectorRows] = []
    position = 0
    while match := _LIST.search(body, position):
        ranges, end = _find_rows(body, match.end())
        rows = VectorRows(body, ranges)
        if end is None or not rows.width:
            break
        parts += [body[position : match.end()], b'"%b%d"' % (mark.encode(), len(lists))]
        lists.append(rows)
        position = end
    return b"".join([*parts, body[position:]]), lists


def _find_rows(body: bytes, position: int) -> tuple[list[tuple[int, int]], int | None]:
    """The rows of the list at *position*, and its end; `None` if it is not a list of lists."""
    ranges: list[tuple[int, int]] = []
    step = _FIRST_ROW.match(body, position)
    while step:
        start = step.end()
        end = body.find(b"]", start) + 1
        ranges.append((start, end))
        while body.startswith(b",[", end):  # Usually without blanks, which is found faster.
            start, end = end + 1, body.find(b"]", end) + 1
            ranges.append((start, end))
        step = _NEXT_ROW.match(body, end) if end else None
        if step and step[1]:
            return ranges, step.end()
    return ranges, None


def _insert(document: Any, lists: list[VectorRows], mark: str) -> int:
    """Replace the marks in a document by their *lists*; returns how many were replaced."""
    result = unwrap_result(document)
    if not isinstance(result, dict):
        return 0
    items = result.get("responses")
    holders: list[Any] = [result]
    if isinstance(items, list):
        holders = [item.get("result") for item in items if isinstance(item, dict)]
    count = 0
    for holder in holders:
        for key in ("data", "response"):
            if isinstance(holder, dict) and holder.get(key) == f"{mark}{count}":
                holder[key] = lists[count]
                count += 1
    return count


# Answers


def read_embeddings(result: Any, count: int | None) -> Embeddings:
    """Read a result into vectors; those of `VectorRows` are empty until they are decoded.

    Args:
        result: The decoded result.
        count: How many vectors are expected.

    Raises:
        DecodeError: The result has an undocumented form.
        WrongVectorCount: It has another number of vectors.
    """
    # bge-m3 has the vectors under `response` if contexts were sent instead of texts.
    rows: Any = result.get("data", result.get("response")) if isinstance(result, dict) else None
    pending = isinstance(rows, VectorRows)
    if not pending and not (isinstance(rows, list) and all(isinstance(row, list) for row in rows)):
        raise undocumented_error("data must be a list of vectors", result)
    if count is not None and len(rows) != count:
        raise WrongVectorCount(
            f"{format_count(len(rows), 'vector')} came back for {format_count(count, 'text')}"
        )
    width = rows.width if pending else len(rows[0]) if rows else 0
    if not width:
        raise undocumented_error("data must contain numbers", result)
    buffer = rows.buffer if pending else _read_floats(rows, width)
    shape = (len(rows), width)
    reported = result.get("shape")
    if reported is not None and reported != list(shape):
        raise undocumented_error(f"shape must be that of the data, {list(shape)}", reported)
    pooling = read_optional_string(result.get("pooling"))
    return Embeddings(shape, buffer, pooling=pooling, usage=read_usage(result.get("usage")))


def _read_floats(rows: list[list[Any]], width: int) -> "array[float]":
    buffer = array("f")
    for row in rows:
        if len(row) != width:
            lengths = [len(row) for row in rows]
            raise undocumented_error("all vectors must have the same length", lengths)
        if not _NUMBERS.issuperset(map(type, row)):
            raise DecodeError("a vector must contain numbers only")
        try:
            buffer.fromlist(row)
        except OverflowError:  # An integer of more than 308 digits.
            buffer.append(inf)
    if has_huge_number(buffer):
        raise DecodeError("the numbers of a vector must be below 1e38")
    return buffer
