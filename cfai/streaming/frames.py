"""What a browser is told of a stream, and the two framings that carry it.

The vocabulary is the same in both: `text`, `reasoning`, `tool_calls`, `usage`, and at the end
`done` or `error`, each with an object of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from math import ceil
from typing import Any

from attrs import frozen

from cfai._types.json import dumps
from cfai.errors import (
    BadRequest,
    CfaiError,
    InputError,
    QuotaExceeded,
    RateLimited,
    RequestTimeout,
    RequestTooLarge,
    ServerError,
    ServiceTimeout,
    StatusError,
    StreamInterrupted,
)
from cfai.tasks import Token
from cfai.tasks.base import to_plain

_OPEN = (
    InputError, BadRequest, RateLimited, RequestTooLarge, RequestTimeout, ServerError,
    ServiceTimeout, StreamInterrupted,
)  # fmt: skip
"""Errors about what was asked, or how that went. All others are about the app and its account."""

_CLOSED = "the app can't use its model; its log says why"
_FULL = "the app writes as many answers as it can at once"
_MOMENT = 1
"""Seconds: each answer that ends makes room for the next."""

_SPENT = "the app has used up what it may ask of its model today"


@frozen
class Framing:
    """How the parts of a stream are written."""

    media_type: str
    opening: bytes
    """What stands before everything else."""

    keep_alive: bytes
    """What bridges silence, and means nothing."""

    frame: Callable[[int, str, Mapping[str, Any]], bytes]
    """Writes one part: its number, its name and its object."""


def sse(retry: int | None) -> Framing:
    """Frame as events for an `EventSource`, which connects anew after *retry* milliseconds."""
    opening = b"" if retry is None else b"retry: %d\n\n" % retry
    return Framing("text/event-stream; charset=utf-8", opening, b": keep-alive\n\n", _event)


def ndjson() -> Framing:
    """Frame as lines of JSON, with the part's name as `type`. An empty line means nothing."""
    return Framing("application/x-ndjson", b"", b"\n", _line)


def _event(number: int, name: str, data: Mapping[str, Any]) -> bytes:
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (number, name.encode(), _json(data))


def _line(number: int, name: str, data: Mapping[str, Any]) -> bytes:
    return _json({"type": name, **data}) + b"\n"


def _json(data: Mapping[str, Any]) -> bytes:
    """JSON without anything raw that somebody takes for the end of a line.

    JSON itself escapes CR and LF; clients that split as Python's `str.splitlines` does also take
    these three for ends, as httpx's `aiter_lines` does.
    """
    text = dumps(data)
    if b"\xe2\x80" in text:
        text = text.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    return text.replace(b"\xc2\x85", b"\\u0085") if b"\xc2\x85" in text else text


def said(token: Token) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Tell what a token adds. Its usage is not among it: only the whole of that means something."""
    if token.reasoning:
        yield "reasoning", {"text": token.reasoning}
    if token.text:
        yield "text", {"text": token.text}
    if token.tool_calls:
        yield "tool_calls", {"tool_calls": to_plain(token.tool_calls)}


def told(error: CfaiError) -> dict[str, Any]:
    """What a browser hears of an error: its class, a message, and how long to wait, if known.

    The message is the error's own where it is about the question or the way. Where it is about the
    app's account or set-up, that is none of the browser's business.
    """
    if isinstance(error, QuotaExceeded):
        message = _SPENT
    elif is_full(error):
        message = _FULL
    elif isinstance(error, _OPEN):
        message = error.message if isinstance(error, StatusError) else str(error)
    else:
        message = _CLOSED
    heard: dict[str, Any] = {"error": type(error).__name__, "message": message}
    if (seconds := wait(error)) is not None:
        heard["retry_after"] = seconds
    return heard


def wait(error: CfaiError) -> float | None:
    """How many seconds to wait before asking again, where that is known."""
    if isinstance(error, QuotaExceeded):
        # Whatever else the service said: before, it is of no use.
        return max(0, ceil((error.resets_at - datetime.now(UTC)).total_seconds()))
    if is_full(error):
        return _MOMENT
    return error.retry_after if isinstance(error, StatusError) else None


def is_full(error: CfaiError) -> bool:
    """Whether the app had no connection to spare for this call, and so sent nothing."""
    return isinstance(error, RequestTimeout) and error.phase == "pool"
