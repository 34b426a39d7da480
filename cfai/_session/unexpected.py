"""Bodies of an unexpected kind: streams in place of JSON, JSON in place of streams, and others."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

import aiohttp

from cfai._types.json import loads
from cfai._wire import responses
from cfai._wire.errors import error_from_events, reports_error, says_nothing
from cfai.errors import DecodeError

if TYPE_CHECKING:
    from cfai._session.body import StreamBody

_LARGEST_REFUSAL = 2**20
"""Bytes of a stream in which an error is looked for, if JSON is documented in its place."""


async def reject_stream(
    body: StreamBody, problem: str = "the service sent a stream where JSON is documented"
) -> NoReturn:
    """Raise the error in a stream that is not documented, or one about the *problem*."""
    # What streams need is imported by the first of them.
    from cfai._wire.sse import EventSplitter

    splitter, size, goes_on = EventSplitter(_LARGEST_REFUSAL), 0, True
    while goes_on and size <= _LARGEST_REFUSAL:
        chunk = await body.read_chunk()
        size += len(chunk)
        goes_on = bool(chunk)
        for block in splitter.feed(chunk) if chunk else splitter.finish():
            data = block if isinstance(block, bytes) else block.encode()
            if (error := error_from_events(data, meta=body.meta)) is not None:
                raise error
            goes_on = goes_on and says_nothing(block)
    raise DecodeError(problem, meta=body.meta)


async def _read_on(
    content: aiohttp.StreamReader, chunks: list[bytes], max_bytes: int, until: bytes | None = None
) -> bytes:
    """Read to the end of a body, or beyond the limit, or *until* some bytes come.

    Args:
        chunks: What was read already. A growing buffer would be copied again and again.
    """
    size = sum(map(len, chunks))
    while size <= max_bytes and (until is None or until not in chunks[-1]):
        chunk = await content.readany()
        if not chunk:
            break
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)


async def read_start(content: aiohttp.StreamReader, data: bytes, max_bytes: int) -> bytes:
    """Read until it is clear whether a body begins as events do, or as JSON."""
    chunks, size, start = [data], len(data), data
    while responses.is_undecided(start) and size <= max_bytes:
        chunk = await content.readany()
        if not chunk:
            break
        chunks.append(chunk)
        size += len(chunk)
        # Only the rest is looked at again: there may be much white space before it.
        start = responses.shorten_start(start) + chunk
    return b"".join(chunks)


async def read_document(
    content: aiohttp.StreamReader, data: bytes, max_bytes: int
) -> tuple[bytes, bool]:
    """Read the single document of JSON in a response in which events were expected.

    Of anything else, such as a page or lines of JSON, only the beginning is read, since its end may
    be far. Behind an error on the first line, nothing is read, either.

    Returns:
        What was read, and whether it is such a document.
    """
    if not responses.begins_json(data):
        return data, False
    data = await _read_on(content, [responses.strip_json(data)], max_bytes, until=b"\n")
    line, end, rest = data.partition(b"\n")
    document = None
    if end:
        with suppress(ValueError):
            document = loads(line, allow_nan=True)
    if document is None:  # It goes on behind the first line, or has only that one.
        return await _read_on(content, [data], max_bytes), True
    if reports_error(document):
        return line, True
    size = len(data)
    while not rest.strip() and size <= max_bytes:
        if not (rest := await content.readany()):
            return data, True
        data, size = line + end + rest, size + len(rest)
    return data, False
