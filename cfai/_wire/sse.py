"""The bytes of an event stream -> the blocks between blank lines, as the WHATWG text cuts them.

Closes what httpx-sse leaves open, before it sees a block: a byte order mark, line ends cut in two,
blocks without data, `retry` that is no digits, events without a bound, bytes that are no UTF-8, and
a last event that nothing ended (which is delivered: Cloudflare's own client does so).
Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from typing import Final

from cfai.errors import AnswerTooLarge

Block = bytes | str
"""`bytes`: the data of an event that is one `data` line and has no id, by far the most common one.
`str`: the text of any other event, a line each and a blank line at the end, for a full decoder."""

_BOM: Final = b"\xef\xbb\xbf"
_DIGITS: Final = frozenset("0123456789")


class EventSplitter:
    """Takes the bytes of one stream in pieces of any size, and gives its events' blocks."""

    __slots__ = (
        "_after_cr",
        "_begun",
        "_last_id",
        "_limit",
        "_pieces",
        "_plain",
        "_retry",
        "_size",
        "bare_done",
    )

    def __init__(self, max_event_bytes: int) -> None:
        self._limit = max_event_bytes
        self._pieces: list[bytes] = []
        """What came since the last blank line. Joined only at the next one, lest a large event
        in many pieces be copied once for each. None is empty but, perhaps, the first."""
        self._size = 0
        self._begun = False
        self._after_cr = False
        self._last_id: str | None = None
        self._retry: str | None = None
        self._plain = True
        """Whether nothing said before, an id or a `retry`, belongs to the next event."""
        self.bare_done = False
        """Whether a line `[DONE]` came without `data:` before it, as some models end a stream."""

    def feed(self, data: bytes) -> list[Block]:
        """The blocks that *data* completes.

        Raises:
            AnswerTooLarge: One event is larger than the limit.
        """
        if not self._begun:
            data = self._begin(data)
        if self._after_cr or b"\r" in data:
            data = self._line_feeds(data)
        if not data:
            return []
        complete = b"\n\n" in data or self._ends_block(data)
        self._pieces.append(data)
        self._size += len(data)
        if not complete:
            self._bound(self._size - data.endswith(b"\n"))
            return []
        blocks = b"".join(self._pieces).split(b"\n\n")
        rest = blocks.pop()
        if self._size > self._limit:
            self._bound(max(map(len, (*blocks, rest.removesuffix(b"\n")))))
        self._pieces, self._size = [rest], len(rest)
        return self._read(blocks)

    def finish(self) -> list[Block]:
        """The event that the end of the stream left without its blank line, if there is one."""
        rest, self._pieces, self._size = b"".join(self._pieces), [], 0
        return self._read([rest.removesuffix(b"\n")]) if rest else []

    def _ends_block(self, data: bytes) -> bool:
        """Whether *data* brings the second of two line ends whose first is there already."""
        return data.startswith(b"\n") and bool(self._pieces) and self._pieces[-1].endswith(b"\n")

    def _begin(self, data: bytes) -> bytes:
        """Take a byte order mark off the start, which may itself come in pieces."""
        data, self._pieces, self._size = b"".join([*self._pieces, data]), [], 0
        self._begun = len(data) >= len(_BOM) or not _BOM.startswith(data)
        return data.removeprefix(_BOM) if self._begun else data

    def _line_feeds(self, data: bytes) -> bytes:
        """Turn CR and CRLF into LF. A CR ends its line at once; an LF after it is skipped."""
        if self._after_cr:
            data, self._after_cr = data.removeprefix(b"\n"), not data
        self._after_cr = data.endswith(b"\r") or self._after_cr
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _bound(self, size: int) -> None:
        if size > self._limit:
            raise AnswerTooLarge(
                f"one event of the stream is larger than max_event_bytes ({self._limit} bytes)",
                limit=self._limit,
            )

    def _read(self, blocks: list[bytes]) -> list[Block]:
        read: list[Block] = []
        for block in blocks:
            if block[:6] == b"data: " and b"\n" not in block and self._plain:
                read.append(block[6:])
            elif block and (text := self._fields(block.decode("utf-8", "replace"))):
                read.append(text)
        return read

    def _fields(self, block: str) -> str | None:
        """Keep the lines that mean something; `None` where they make no event.

        A block without data is no event, though its id and its reconnection time stay in force.
        """
        kept: list[str] = []
        has_data = False
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data" or name == "event":
                has_data = has_data or name == "data"
                kept.append(line)
            elif name == "id" and "\0" not in value:
                self._last_id = value or None
            elif name == "retry" and value and _DIGITS.issuperset(value):
                self._retry = line
            elif line == "[DONE]":
                self.bare_done = True
        self._plain = self._last_id is None and (self._retry is None or has_data)
        if not has_data:
            return None
        if self._last_id is not None:
            kept.append(f"id: {self._last_id}")
        if self._retry is not None:
            kept.append(self._retry)
            self._retry = None
        return "\n".join(kept) + "\n\n"
