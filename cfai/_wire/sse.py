"""Splits the bytes of an event stream into events, as the WHATWG standard does.

httpx-sse decodes an event after this module has handled what it does not: a byte order mark, line
ends cut in two, blocks without data, a `retry` with other characters than digits, events of any
size, invalid UTF-8, and a last event without a blank line (delivered, as in Cloudflare's client).
Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from typing import Final

from cfai.errors import AnswerTooLarge

Block = bytes | str
"""`bytes`: the data of an event with one `data` line and no id, which most events are.
`str`: the lines of any other event and a blank line, for a full decoder."""

_BOM: Final = b"\xef\xbb\xbf"
_DIGITS: Final = frozenset("0123456789")


class EventSplitter:
    """Splits one stream, which is fed in chunks of any size, into blocks: one for each event."""

    __slots__ = (
        "_after_cr",
        "_chunks",
        "_is_plain",
        "_last_id",
        "_limit",
        "_retry",
        "_size",
        "_started",
        "bare_done",
    )

    def __init__(self, max_event_bytes: int) -> None:
        self._limit = max_event_bytes
        self._chunks: list[bytes] = []
        """The bytes since the last blank line. They are joined at the next one only, so that a
        large event is not copied for each of its chunks. Only the first chunk can be empty."""
        self._size = 0
        self._started = False
        self._after_cr = False
        self._last_id: str | None = None
        self._retry: str | None = None
        self._is_plain = True
        """Whether no earlier `id` or `retry` applies to the next event."""
        self.bare_done = False
        """Whether a line `[DONE]` came without `data:`, with which some models end a stream."""

    def feed(self, data: bytes) -> list[Block]:
        """Add bytes, and return the blocks that they complete.

        Raises:
            AnswerTooLarge: One event is larger than the limit.
        """
        if not self._started:
            data = self._start(data)
        if self._after_cr or b"\r" in data:
            data = self._normalize_line_ends(data)
        if not data:
            return []
        is_complete = b"\n\n" in data or self._ends_block(data)
        self._chunks.append(data)
        self._size += len(data)
        if not is_complete:
            self._check_size(self._size - data.endswith(b"\n"))
            return []
        blocks = b"".join(self._chunks).split(b"\n\n")
        rest = blocks.pop()
        if self._size > self._limit:
            self._check_size(max(map(len, (*blocks, rest.removesuffix(b"\n")))))
        self._chunks, self._size = [rest], len(rest)
        return self._build_blocks(blocks)

    def finish(self) -> list[Block]:
        """Return the event at the end of the stream that no blank line ended, if there is one."""
        rest, self._chunks, self._size = b"".join(self._chunks), [], 0
        return self._build_blocks([rest.removesuffix(b"\n")]) if rest else []

    def _ends_block(self, data: bytes) -> bool:
        """Whether *data* begins with a line end, and the chunk before ends with one."""
        return data.startswith(b"\n") and bool(self._chunks) and self._chunks[-1].endswith(b"\n")

    def _start(self, data: bytes) -> bytes:
        """Remove a byte order mark from the start, which may come in several chunks."""
        data, self._chunks, self._size = b"".join([*self._chunks, data]), [], 0
        self._started = len(data) >= len(_BOM) or not _BOM.startswith(data)
        return data.removeprefix(_BOM) if self._started else data

    def _normalize_line_ends(self, data: bytes) -> bytes:
        """Turn CR and CRLF into LF. A CR ends its line at once; an LF after it is dropped."""
        if self._after_cr:
            data, self._after_cr = data.removeprefix(b"\n"), not data
        self._after_cr = data.endswith(b"\r") or self._after_cr
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _check_size(self, size: int) -> None:
        if size > self._limit:
            raise AnswerTooLarge(
                f"one event of the stream is larger than max_event_bytes ({self._limit} bytes)",
                limit=self._limit,
            )

    def _build_blocks(self, blocks: list[bytes]) -> list[Block]:
        events: list[Block] = []
        for block in blocks:
            if block[:6] == b"data: " and b"\n" not in block and self._is_plain:
                events.append(block[6:])
            elif block and (text := self._filter_lines(block.decode("utf-8", "replace"))):
                events.append(text)
        return events

    def _filter_lines(self, block: str) -> str | None:
        """The meaningful lines of a block; `None` if it is not an event.

        A block without data is not an event, but its `id` and `retry` apply to the next one.
        """
        lines: list[str] = []
        has_data = False
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data" or name == "event":
                has_data = has_data or name == "data"
                lines.append(line)
            elif name == "id" and "\0" not in value:
                self._last_id = value or None
            elif name == "retry" and value and _DIGITS.issuperset(value):
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
