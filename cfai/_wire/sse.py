"""Splits the bytes of an event stream into events, as the WHATWG standard does.

httpx-sse decodes an event after this module has handled what it does not: a byte order mark, line
ends cut in two, blocks without data, a `retry` with other characters than digits, events of any
size, invalid UTF-8, and a last event without a blank line (delivered, as in Cloudflare's client). A
bare line with the JSON of an error, which the standard ignores, is an event, too.
Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from attrs import define, field

from cfai._types.json import loads
from cfai._wire.errors import reports_error
from cfai._wire.responses import BOM
from cfai.errors import AnswerTooLarge

Block = bytes | str
"""`bytes`: the data of an event with one `data` line and no id, which most events are.
`str`: the lines of any other event and a blank line, for a full decoder."""

# Numbers, because `b"\r" in data` first tries to take the bytes for a number: 0.2 µs for nothing.
_CR: Final = ord("\r")
_LF: Final = ord("\n")

_COMMENT: Final = re.compile(rb"^:[^\n]*(?:\n|\Z)", re.MULTILINE)


@define(eq=False)
class EventSplitter:
    """Splits one stream, which is fed in chunks of any size, into blocks: one for each event."""

    _max_event_bytes: int
    _chunks: list[bytes] = field(factory=list, init=False)
    """The bytes since the last blank line. They are joined at the next one only, so that a
    large event is not copied for each of its chunks. No chunk is empty."""
    _size: int = field(default=0, init=False)
    _started: bool = field(default=False, init=False)
    _after_cr: bool = field(default=False, init=False)
    _last_id: str | None = field(default=None, init=False)
    _retry: str | None = field(default=None, init=False)
    _is_plain: bool = field(default=True, init=False)
    """Whether no earlier `id` or `retry` applies to the next event."""
    _expects_event: bool = field(default=False, init=False)
    """Whether the next byte begins an event, and nothing before applies to it."""
    _in_comment: bool = field(default=False, init=False)
    """Whether the last line so far is a comment, of which nothing is kept."""
    bare_done: bool = field(default=False, init=False)
    """Whether a line `[DONE]` came without `data:`, with which some models end a stream."""

    def feed(self, data: bytes) -> list[Block]:
        """Add bytes, and return the blocks that they complete.

        Raises:
            AnswerTooLarge: One event is larger than the limit.
        """
        if self._expects_event and data[:6] == b"data: " and data[-2:] == b"\n\n":
            # Most packets of a model are one event with one line: the steps below would find
            # nothing to do. Slices, because `startswith` takes twice as many instructions.
            event = data[6:-2]
            if _LF not in event and _CR not in event and len(data) <= self._max_event_bytes:
                return [event]
        blocks = self._split(data)
        self._expects_event = self._is_plain and not (
            self._after_cr or self._in_comment or self._chunks
        )
        return blocks

    def _split(self, data: bytes) -> list[Block]:
        """The same for bytes of any form."""
        if not self._started:
            data = self._start(data)
        if self._after_cr or _CR in data:
            data = self._normalize_line_ends(data)
        if self._in_comment:
            data = self._end_comment(data)
        end = data.rfind(b"\n\n")
        if end < 0 and not (data.startswith(b"\n") and self._ends_line()):
            self._keep(data)
            self._check_size(self._size - self._ends_line())
            return []
        if self._chunks:  # Not usually: it saves a copy of the events.
            data = b"".join([*self._chunks, data])
            self._chunks, self._size = [], 0
            end = data.rfind(b"\n\n")
        events, rest = data[:end], data[end + 2 :]
        if len(data) > self._max_event_bytes:
            self._check_size(max(map(_size_without_comments, (*events.split(b"\n\n"), rest))))
        if rest:
            self._keep(rest)
        return self._build_blocks(events)

    def finish(self) -> list[Block]:
        """Return the event at the end of the stream that no blank line ended, if there is one."""
        rest, self._chunks, self._size = b"".join(self._chunks), [], 0
        return self._build_blocks(rest.removesuffix(b"\n")) if rest else []

    def _start(self, data: bytes) -> bytes:
        """Remove a byte order mark from the start, which may come in several chunks."""
        data, self._chunks, self._size = b"".join([*self._chunks, data]), [], 0
        self._started = len(data) >= len(BOM) or not BOM.startswith(data)
        return data.removeprefix(BOM) if self._started else data

    def _normalize_line_ends(self, data: bytes) -> bytes:
        """Turn CR and CRLF into LF. A CR ends its line at once; an LF after it is dropped."""
        if self._after_cr:
            data, self._after_cr = data.removeprefix(b"\n"), not data
        self._after_cr = data.endswith(b"\r") or self._after_cr
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _keep(self, data: bytes) -> None:
        """Keep bytes in which no event ends, without their comments."""
        if not self._chunks:
            data = data.lstrip(b"\n")
        starts_line = not self._chunks or self._ends_line()
        start = 0 if starts_line else data.find(b"\n") + 1 or len(data)
        if data.startswith(b":", start) or data.find(b"\n:", start) >= 0:
            last_line = data.rfind(b"\n") + 1
            self._in_comment = last_line >= start and data.startswith(b":", last_line)
            data = data[:start] + _COMMENT.sub(b"", data[start:])
        if data:
            self._chunks.append(data)
            self._size += len(data)

    def _ends_line(self) -> bool:
        """Whether the bytes that are kept end with the end of a line."""
        return bool(self._chunks) and self._chunks[-1].endswith(b"\n")

    def _end_comment(self, data: bytes) -> bytes:
        """What follows a comment that began in an earlier chunk."""
        end = data.find(b"\n") + 1
        self._in_comment = not end
        return data[end:] if end else b""

    def _check_size(self, size: int) -> None:
        limit = self._max_event_bytes
        if size > limit:
            message = f"one event of the stream is larger than max_event_bytes ({limit} bytes)"
            raise AnswerTooLarge(message, limit=limit)

    def _build_blocks(self, data: bytes) -> list[Block]:
        """The blocks of events with blank lines between them."""
        if self._is_plain and data.startswith(b"data: "):
            # Usually there is nothing but one line of data in each event: no block is looked at.
            plain: list[Any] = data[6:].split(b"\n\ndata: ")
            # To count the line ends takes 5 instructions a byte, to look for one in a copy less
            # than one.
            if _LF not in b"".join(plain):
                return plain
        blocks: list[Block] = []
        for block in data.split(b"\n\n"):
            if block:
                blocks += self._build_block(block)
        return blocks

    def _build_block(self, block: bytes) -> Iterator[Block]:
        block = _COMMENT.sub(b"", block).strip(b"\n")
        if self._is_plain and block.startswith(b"data: ") and _LF not in block:
            yield block[6:]
            return
        lines = block.decode("utf-8", "replace").split("\n")
        if text := self._filter_lines(lines):
            yield text
        for line in lines:
            if _is_bare_error(line):
                yield line.encode()

    def _filter_lines(self, block: list[str]) -> str | None:
        """The meaningful lines of a block; `None` if it is not an event.

        A block without data is not an event, but its `id` and `retry` apply to the next one.
        """
        lines: list[str] = []
        has_data = False
        for line in block:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data" or name == "event":
                has_data = has_data or name == "data"
                lines.append(line)
            elif name == "id" and "\0" not in value:
                self._last_id = value or None
            elif name == "retry" and value.isascii() and value.isdigit():
                self._retry = line
            elif line == "[DONE]":
                self.bare_done = True
        self._is_plain = self._last_id is None and (self._retry is None or has_data)
        if not has_data:
            return None
        if self._last_id is not None:
            lines.append(f"id: {self._last_id}")
        if self._retry is not None:
            lines.append(self._retry)
            self._retry = None
        return "\n".join(lines) + "\n\n"


def _size_without_comments(block: bytes) -> int:
    return len(_COMMENT.sub(b"", block).strip(b"\n"))


def _is_bare_error(line: str) -> bool:
    """Whether a line without `data:` is the JSON of an error.

    The standard ignores it, but the service was seen to end a stream with one.
    """
    if not line.startswith("{"):
        return False
    try:
        return reports_error(loads(line, allow_nan=True))
    except ValueError:
        return False
