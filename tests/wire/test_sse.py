"""Event streams are split as the WHATWG standard does, in chunks of any size."""

import time
import tracemalloc
from collections.abc import Iterable, Iterator
from itertools import pairwise

import httpx
import pytest
from httpx_sse import EventSource
from hypothesis import example, given, settings, strategies as st

from cfai._wire.sse import Block, EventSplitter
from cfai.errors import AnswerTooLarge
from tests.wire.reference import Event, decode

ROOMY = 1 << 20


def feed(pieces: Iterable[bytes], limit: int = ROOMY) -> list[Block]:
    blocks = EventSplitter(limit)
    read = [block for piece in pieces for block in blocks.feed(piece)]
    return read + blocks.finish()


def read(block: Block) -> Event:
    """Decode a block: plain ones are data already, the others go through httpx-sse."""
    if isinstance(block, bytes):
        return Event(block.decode("utf-8", "replace"))
    headers = {"Content-Type": "text/event-stream"}
    (event,) = EventSource(httpx.Response(200, text=block, headers=headers)).iter_sse()
    return Event(event.data, event.event, event.id, event.retry)


def split(*pieces: bytes) -> list[Event]:
    return [read(block) for block in feed(pieces)]


def cuts(stream: bytes) -> Iterator[tuple[bytes, bytes]]:
    return ((stream[:at], stream[at:]) for at in range(len(stream) + 1))


def single_bytes(stream: bytes) -> list[bytes]:
    return [stream[at : at + 1] for at in range(len(stream))]


# Stream, and the events in it.
STREAMS: dict[str, tuple[bytes, list[Event]]] = {
    # The examples of the WHATWG text, section "Event stream interpretation".
    "three lines of data": (
        b"data: YHOO\ndata: +2\ndata: 10\n\n",
        [Event("YHOO\n+2\n10")],
    ),
    "comment, id, id reset, leading space": (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event",
        [Event("first event", id="1"), Event("second event"), Event(" third event")],
    ),
    "data without a colon, twice, and unended": (
        b"data\n\ndata\ndata\n\ndata:",
        [Event(""), Event("\n"), Event("")],
    ),
    "one space is skipped, or none": (b"data:a\n\ndata: a\n\n", [Event("a"), Event("a")]),
    # Line ends.
    "LF": (b"data: a\n\ndata: b\n\n", [Event("a"), Event("b")]),
    "CR": (b"data: a\r\rdata: b\r\r", [Event("a"), Event("b")]),
    "CRLF": (b"data: a\r\n\r\ndata: b\r\n\r\n", [Event("a"), Event("b")]),
    "mixed": (b"data: a\r\n\ndata: b\n\r\ndata: c\r\n\rdata: d\n\r", [Event(x) for x in "abcd"]),
    "LF CR is two line ends": (b"data: a\n\rdata: b\n\n", [Event("a"), Event("b")]),
    "blank lines before, between and behind": (
        b"\n\n\ndata: a\n\n\n\n\ndata: b\n\n\n",
        [Event("a"), Event("b")],
    ),
    # The byte order mark.
    "BOM": (b"\xef\xbb\xbfdata: a\n\n", [Event("a")]),
    "two BOMs are one and a name": (
        b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n",
        [Event("b")],
    ),
    "a later BOM is part of the name": (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [Event("a")]),
    "BOM and nothing else": (b"\xef\xbb\xbf", []),
    "half a BOM": (b"\xef\xbb", []),
    "a BOM inside data stays": ("data: \ufeffa\n\n".encode(), [Event("\ufeffa")]),
    # Comments and names.
    "comments alone make no event": (b": keep-alive\n\n:\n\n: more\n\n", []),
    "a comment inside an event": (b"data: a\n: hm\ndata: b\n\n", [Event("a\nb")]),
    "unknown names": (b"Data: a\n\n data: b\n\nfoo: c\n\nfoo\ndata: d\n\n", [Event("d")]),
    "an event's name": (b"event: error\ndata: a\n\ndata: b\n\n", [Event("a", "error"), Event("b")]),
    "the last name counts, an empty one is none": (
        b"event: x\nevent: y\ndata: a\n\nevent: x\nevent\ndata: b\n\n",
        [Event("a", "y"), Event("b")],
    ),
    "a name does not outlive an event without data": (
        b"event: error\n\ndata: a\n\n",
        [Event("a")],
    ),
    # Ids.
    "an id stays": (b"id: 7\ndata: a\n\ndata: b\n\n", [Event("a", id="7"), Event("b", id="7")]),
    "an id without data is no event, and stays": (b"id: 7\n\ndata: a\n\n", [Event("a", id="7")]),
    "an empty id resets": (b"id: 7\ndata: a\n\nid:\ndata: b\n\n", [Event("a", id="7"), Event("b")]),
    "an id with NUL is none": (b"id: 7\n\nid: 8\x009\ndata: a\n\n", [Event("a", id="7")]),
    "an id keeps its second space": (b"id:  7 \ndata: a\n\n", [Event("a", id=" 7 ")]),
    # Reconnection times.
    "retry": (b"retry: 3000\ndata: a\n\ndata: b\n\n", [Event("a", retry=3000), Event("b")]),
    "retry alone is no event": (b"retry: 10\n\nretry: 20\n\n", []),
    "retry is told with the next event": (b"retry: 10\n\ndata: a\n\n", [Event("a", retry=10)]),
    "retry is ASCII digits": (
        b"retry: -1\nretry: +1\nretry: 1.5\nretry: 1_0\nretry:  1\nretry: \nretry\ndata: a\n\n",
        [Event("a")],
    ),
    "retry in Arabic digits": ("retry: ٣\ndata: a\n\n".encode(), [Event("a")]),
    # Bytes that are no text, and text that is not ASCII.
    "invalid UTF-8": (b"data: a\xffb\n\n", [Event("a\ufffdb")]),
    "a character cut off": (b"data: \xf0\x9f\x98\n\ndata: b\n\n", [Event("\ufffd"), Event("b")]),
    "invalid UTF-8, with a name": (b"event: x\ndata: \xc3(\n\n", [Event("\ufffd(", "x")]),
    "characters of many bytes": ("data: Grüezi 😀\n\n".encode(), [Event("Grüezi 😀")]),
    "only CR and LF end a line": (
        "data: a\u2028b\x85c\x0bd\x1ce\n\nevent: x\ndata: a\u2029b\x85c\x0cd\x1ee\n\n".encode(),
        [Event("a\u2028b\x85c\x0bd\x1ce"), Event("a\u2029b\x85c\x0cd\x1ee", "x")],
    ),
    "NUL in data": (b"data: a\0b\n\n", [Event("a\0b")]),
    # The end.
    "nothing": (b"", []),
    "an event that nothing ended": (b"data: a\n\ndata: b", [Event("a"), Event("b")]),
    "a line that ended, in an event that did not": (b"data: a\n", [Event("a")]),
    "the same with CR": (b"event: x\r\ndata: a\r", [Event("a", "x")]),
    "a name cut off": (b"data: a\n\ndat", [Event("a")]),
}  # fmt: skip


@pytest.mark.parametrize(("stream", "events"), STREAMS.values(), ids=STREAMS)
def test_streams_are_split_as_the_standard_says(stream: bytes, events: list[Event]) -> None:
    """At once, byte by byte, and cut at every position; the reference agrees with the table."""
    assert decode(stream) == events
    assert split(stream) == events
    assert split(*single_bytes(stream)) == events
    for pieces in cuts(stream):
        assert split(*pieces) == events, pieces


@pytest.mark.parametrize("comment", [b": keep-alive\n", b": keep-alive\n\n", b":" + b"x" * 999])
def test_comments_are_not_kept_and_do_not_count(comment: bytes) -> None:
    """8 MiB of them before an event and inside it, in chunks of any size."""
    splitter = EventSplitter(100)
    blocks: list[Block] = []
    tracemalloc.start()
    for lead in (b"", b"data: a\n"):
        blocks += splitter.feed(lead)
        chunk = comment * 100
        for _ in range((1 << 22) // len(chunk)):
            blocks += splitter.feed(chunk[:50])
            blocks += splitter.feed(chunk[50:])
        blocks += splitter.feed(b"\ndata: b\n\n")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20
    assert [read(block).data for block in blocks] in (["b", "a\nb"], ["b", "a", "b"])


def test_a_plain_event_is_its_data() -> None:
    """An event with one `data` line needs no decoder; one with an id or a name does."""
    assert feed([b'data: {"response":"a"}\n\n']) == [b'{"response":"a"}']
    assert feed([b"data: a\nid: 1\n\n"]) == ["data: a\nid: 1\n\n"]
    assert feed([b"id: 1\n\ndata: a\n\ndata: b\n\n"]) == [
        "data: a\nid: 1\n\n",
        "data: b\nid: 1\n\n",
    ]
    assert feed([b"id: 1\ndata: a\n\nid\ndata: b\n\ndata: c\n\n"])[-1] == b"c"
    assert feed([b"retry: 1\ndata: a\n\ndata: b\n\n"])[-1] == b"b"


def test_a_retry_with_any_number_of_digits_is_read() -> None:
    """Python refuses to parse integers of more than some thousand digits."""
    (event,) = split(b"retry: " + b"9" * 5000 + b"\ndata: a\n\n")
    assert event.data == "a"


@pytest.mark.parametrize(
    ("stream", "bare"),
    [
        (b"data: a\n\n[DONE]\n\n", True),
        (b"data: a\n\n[DONE]", True),
        (b"data: a\n[DONE]\n", True),
        (b"[DONE]\r\n\r\n", True),
        (b"data: [DONE]\n\n", False),
        (b"data: a\n\n[DONE]x\n\n [DONE]\n\n: [DONE]\n\n", False),
    ],
)
def test_an_end_mark_without_a_field_name_is_noticed(stream: bytes, bare: bool) -> None:
    """Some models end with the bare line, which the standard ignores."""
    for pieces in [*cuts(stream), single_bytes(stream)]:
        blocks = EventSplitter(ROOMY)
        for piece in pieces:
            blocks.feed(piece)
        blocks.finish()
        assert blocks.bare_done is bare, pieces


# An error as a bare JSON line.
BARE = b'{"errors":[{"message":"AiError: AiError: no","code":3007}],"success":false,"result":{}}'


@pytest.mark.parametrize(
    "stream",
    [
        b"data: a\n\n" + BARE + b"\n\n",
        b"data: a\n\n" + BARE + b"\n",
        b"data: a\n\n" + BARE,
        b"data: a\n" + BARE + b"\n\n",
        b"data: a\r\n\r\n" + BARE + b"\r\n\r\n",
        BARE + b"\ndata: a\n\n",
        b"event: x\ndata: a\n" + BARE,
    ],
)
def test_the_json_of_an_error_without_a_field_name_is_an_event(stream: bytes) -> None:
    """The standard ignores the line; its code and message would be lost."""
    for pieces in [*cuts(stream), single_bytes(stream)]:
        events = split(*pieces)
        assert [event.data for event in events] == ["a", BARE.decode()]


@pytest.mark.parametrize(
    "line",
    [
        b'{"response":"a"}',
        b'{"errors":[]}',
        b"{",
        BARE[:-1],
        b" " + BARE,
        b"x" + BARE,
        b": " + BARE,
    ],
)
def test_other_lines_without_a_field_name_are_ignored(line: bytes) -> None:
    assert split(line + b"\n\n" + line) == []
    assert split(b"data: a\n" + line + b"\n\n") == [Event("a")]


# Bounds


def event_of(size: int) -> bytes:
    return b"data: " + b"x" * (size - 6)


@pytest.mark.parametrize("tail", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n", b""])
@pytest.mark.parametrize("before", [b"", b"data: a\n\n", b"\xef\xbb\xbf", b"\n\n"])
def test_an_event_as_large_as_the_limit_passes_however_it_is_cut(
    before: bytes, tail: bytes
) -> None:
    """The limit counts the bytes of one event without its blank line."""
    stream = before + event_of(40) + tail
    for pieces in [*cuts(stream), single_bytes(stream)]:
        assert read(feed(pieces, 40)[-1]) == Event("x" * 34), pieces


@pytest.mark.parametrize("tail", [b"\n\n", b"\r\n\r\n", b"\n", b""])
def test_one_byte_beyond_the_limit_is_an_error_however_it_is_cut(tail: bytes) -> None:
    """For a complete event, and for one that is still growing."""
    stream = b"data: a\n\n" + event_of(41) + tail
    for pieces in [*cuts(stream), single_bytes(stream)]:
        with pytest.raises(AnswerTooLarge, match=r"max_event_bytes \(40 bytes\)") as caught:
            feed(pieces, 40)
        assert caught.value.limit == 40


def test_the_limit_is_for_one_event_not_for_the_stream() -> None:
    """One chunk may have many events that are each within it."""
    stream = (event_of(40) + b"\n\n") * 100
    assert len(feed([stream], 40)) == 100
    assert len(feed([stream + event_of(40)], 40)) == 101


def test_a_growing_event_is_refused_before_it_ends() -> None:
    """Memory is bounded: the error does not wait for the end of the event."""
    blocks = EventSplitter(100)
    with pytest.raises(AnswerTooLarge):
        for _ in range(11):
            blocks.feed(b"data: 789\n")


def test_an_event_in_many_chunks_is_not_copied_for_each() -> None:
    """It costs in proportion to its size."""

    def seconds(pieces: int) -> float:
        blocks, started = EventSplitter(1 << 30), time.process_time()
        for _ in range(pieces):
            blocks.feed(b"data: " + b"x" * 1000 + b"\n")
        return time.process_time() - started

    small, large = seconds(1000), seconds(16_000)
    # 16 times the pieces; copying all of them for each would cost 256 times as much.
    assert large < 80 * max(small, 0.001)


# Any bytes

FRAGMENTS = st.sampled_from(
    [b"data", b"event", b"id", b"retry", b":", b" ", b"\n", b"\n\n", b"\r", b"\r\n", b"\0", b"12",
     b"[DONE]", b"x", b"{}", b": c", b"data: a\n\n", b"id: 1\n", b"\xef\xbb\xbf", b"\xef", b"\xbb",
     b"\xe2\x82", b"\xac", b"\xff", "\u2028".encode(), "٣".encode(), "😀".encode()]
)  # fmt: skip
STREAM = st.lists(FRAGMENTS, max_size=40).map(b"".join) | st.binary(max_size=120)


@st.composite
def a_stream_in_pieces(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    stream = draw(STREAM)
    at = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    edges = [0, *at, len(stream)]
    return stream, [stream[a:b] for a, b in pairwise(edges)]


@given(a_stream_in_pieces())
@example((b"data: a\r\n\r\n", [b"data: a\r", b"", b"\n\r", b"\n"]))
@settings(max_examples=400, deadline=None)
def test_any_bytes_give_the_same_events_however_they_are_cut(
    cut: tuple[bytes, list[bytes]],
) -> None:
    """The chunks of the network change nothing, and no bytes raise an error."""
    stream, pieces = cut
    expected = decode(stream)
    assert split(stream) == expected
    assert split(*pieces) == expected
    assert split(*single_bytes(stream)) == expected


@given(a_stream_in_pieces(), st.integers(4, 30))
@settings(max_examples=200, deadline=None)
def test_the_limit_holds_however_a_stream_is_cut(
    cut: tuple[bytes, list[bytes]], limit: int
) -> None:
    """An event that is too large is the only error."""

    def outcome(pieces: Iterable[bytes]) -> list[Block] | None:
        try:
            return feed(pieces, limit)
        except AnswerTooLarge:
            return None

    stream, pieces = cut
    assert outcome([stream]) == outcome(pieces) == outcome(single_bytes(stream))
