"""Vectors inside JSON text: read from the bytes row by row, and in between others have their turn.

An answer with a hundred vectors of 1024 numbers holds an event loop for 4 to 5 ms, one of the queue
for 80. A thread is no way out: the decoder keeps the interpreter's lock. Rows take less time, too,
since few numbers are there at once. `tests/bench/stall.py` measures it.
"""

import re
import sys
from array import array
from collections.abc import Iterator
from secrets import token_hex
from typing import Any, Final

from attrs import define, field

from cfai._types.json import loads
from cfai._wire.responses import Response, unwrap_result

_LARGE: Final = 1 << 16
"""Bytes; what is smaller is decoded at once."""

_SLICE: Final = 8192
"""Numbers that are read at once: about a third of a millisecond."""

_LIST = re.compile(rb'[{,\s]"(?:data|response)"\s*:\s*(?=\[\s*\[)')
_FIRST = re.compile(rb"\[\s*(?=\[)")
_NEXT = re.compile(rb"\s*(?:,\s*(?=\[)|(\]))")

# A number that is none as a 32-bit float has this in the byte with its sign and exponent.
_HIGH: Final = 3 if sys.byteorder == "little" else 0
_HUGE: Final = (b"\x7f", b"\xff")


class UnusualVectors(ValueError):
    """The vectors have to be read in the ordinary way, which names what is wrong with them."""


@define(eq=False)
class VectorRows:
    """A list of vectors that are not decoded yet."""

    _body: bytes
    _spans: list[tuple[int, int]]
    buffer: "array[float]" = field(factory=lambda: array("f"), init=False)
    """Where they will be, one after the other."""

    def __len__(self) -> int:
        return len(self._spans)

    @property
    def width(self) -> int:
        """How many numbers the first of them has."""
        first, last = self._spans[0]
        commas = self._body.count(b",", first, last)
        return commas + 1 if self._body[first + 1 : last - 1].strip() else 0

    def steps(self) -> Iterator[None]:
        """Read them, a slice with each step.

        Raises:
            UnusualVectors: They aren't all of one length, or not all made of numbers.
        """
        body, buffer, width, checked = memoryview(self._body), self.buffer, self.width, 0
        for first, last in self._spans:
            try:
                row = loads(body[first:last])
                buffer.fromlist(row)
            except (TypeError, ValueError) as exc:
                raise UnusualVectors from exc
            # To an array, true is 1. No number has these letters.
            if len(row) != width or self._has(b"t", first, last) or self._has(b"f", first, last):
                raise UnusualVectors
            if len(buffer) - checked >= _SLICE or last == self._spans[-1][1]:
                if has_huge_number(buffer[checked:]):
                    raise UnusualVectors
                checked = len(buffer)
                yield

    def _has(self, letter: bytes, first: int, last: int) -> bool:
        return self._body.find(letter, first, last) >= 0


def has_huge_number(buffer: "array[float]") -> bool:
    """Whether a number may be too large for 32 bits: 10 to the power of 38, and more."""
    high = buffer.tobytes()[_HIGH::4]
    return any(byte in high for byte in _HUGE)


class VectorDecoder:
    """Decodes a response without its vectors, and the vectors afterwards."""

    def __init__(self) -> None:
        self.response: Response
        self._rows: list[VectorRows] = []

    def decode(self, response: Response) -> Any:
        """Decode a response; a large one with `VectorRows` in the places of its vectors."""
        self.response, self._rows = response, []
        if len(response.body) >= _LARGE:
            mark = token_hex(8)  # Nothing that the service might say.
            rest, rows = _split(response.body, mark)
            try:
                document = loads(rest)
            except ValueError:
                return response.json()
            if rows and _put_back(document, rows, mark) == len(rows):
                self._rows = rows
                return document
        return response.json()

    def steps(self) -> Iterator[None]:
        """Read the vectors, a slice with each step.

        Raises:
            UnusualVectors: Something is wrong with them.
        """
        for rows in self._rows:
            yield from rows.steps()


def _split(body: bytes, mark: str) -> tuple[bytes, list[VectorRows]]:
    """JSON text with *mark* and a number in the place of each list of vectors, and those lists."""
    pieces: list[bytes] = []
    found: list[VectorRows] = []
    kept = 0
    while match := _LIST.search(body, kept):
        spans, end = _spans(body, match.end())
        rows = VectorRows(body, spans)
        if end is None or not rows.width:
            break
        pieces += [body[kept : match.end()], b'"%b%d"' % (mark.encode(), len(found))]
        found.append(rows)
        kept = end
    return b"".join([*pieces, body[kept:]]), found


def _spans(body: bytes, begin: int) -> tuple[list[tuple[int, int]], int | None]:
    """Where the rows are of the list that begins there, and its end, if it is such a list."""
    spans: list[tuple[int, int]] = []
    step = _FIRST.match(body, begin)
    while step:
        first = step.end()
        last = body.find(b"]", first) + 1
        step = _NEXT.match(body, last) if last else None
        spans.append((first, last))
        if step and step[1]:
            return spans, step.end()
    return spans, None


def _put_back(document: Any, rows: list[VectorRows], mark: str) -> int:
    """Put *rows* into the places where their marks stand; gives how many had one."""
    result = unwrap_result(document)
    if not isinstance(result, dict):
        return 0
    items = result.get("responses")
    holders: list[Any] = [result]
    if isinstance(items, list):
        holders = [item.get("result") for item in items if isinstance(item, dict)]
    put = 0
    for holder in holders:
        for key in ("data", "response"):
            if isinstance(holder, dict) and holder.get(key) == f"{mark}{put}":
                holder[key] = rows[put]
                put += 1
    return put
