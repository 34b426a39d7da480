"""An HTTP response as it was received, and what its headers and its envelope say."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Final

from attrs import define, field
from multidict import istr

from cfai._types.excerpts import format_value
from cfai._types.json import NestedTooDeep, loads
from cfai._types.values import fast_maker
from cfai.errors import DecodeError
from cfai.meta import Meta

EVENT_STREAM: Final = "text/event-stream"

# As `istr`: a plain name would be turned into lower case at each look-up, for 450 instructions.
_CONTENT_TYPE: Final = istr("Content-Type")
_CONTENT_ENCODING: Final = istr("Content-Encoding")
_META_HEADERS: Final = tuple(
    map(
        istr,
        (
            "cf-ray", "cf-ai-req-id", "Ratelimit", "Ratelimit-Policy", "cf-aig-log-id",
            "cf-aig-cache-status", "cfai-backend", "cf-ai-neurons", "cf-aig-request-id",
            "cf-aig-event-id", "cf-aig-run-id", "cf-aig-step", "cf-aig-routed-model",
            "cf-aig-routing-reason", "cf-aig-routing-decision-id",
        ),
    )
)  # fmt: skip

_DECODED: Final = ("gzip", "deflate", "br", "zstd")
"""The encodings that aiohttp decodes. It leaves a body in any other, or in two, as it is."""

_UNENCODED: Final = frozenset({"", "identity", "utf-8", "aws-chunked"})
"""Names of no encoding. Some confuse it with the charset, and Amazon S3 marks what was uploaded in
chunks."""


def read_unknown_encoding(headers: Mapping[str, str]) -> str:
    """The Content-Encoding if nobody has decoded it; empty if the body is what was meant."""
    if _CONTENT_ENCODING not in headers:
        return ""
    values = [value for name, value in headers.items() if name.lower() == "content-encoding"]
    encoding = ", ".join(values).strip().lower()
    names = {name.strip() for name in encoding.split(",")}
    return "" if encoding in _DECODED or names <= _UNENCODED else encoding


_make_meta: Final = fast_maker(Meta)


def read_media_type(headers: Mapping[str, str]) -> str:
    """The Content-Type in lower case and without parameters; empty if there is none."""
    return _parse_media_type(headers.get(_CONTENT_TYPE, ""))


@lru_cache(maxsize=64)
def _parse_media_type(header: str) -> str:
    kind = header.partition(";")[0].strip().lower()
    # Bytes that are not UTF-8 are lone surrogates, which nobody could encode.
    return kind if kind.isascii() else kind.encode("utf-8", "replace").decode()


BOM: Final = b"\xef\xbb\xbf"
"""The byte order mark of UTF-8, before the first event of a stream."""

_EVENT_FIELDS: Final = (b"data:", b"event:", b"id:", b"retry:", b":")


def begins_events(data: bytes) -> bool | None:
    """Whether a body begins as an event stream does; `None` if more of it is needed to tell."""
    start = strip_start(data)
    if start.startswith(_EVENT_FIELDS):
        return True
    may_begin = any(field.startswith(start) for field in (*_EVENT_FIELDS, BOM))
    return None if may_begin else False


def strip_start(data: bytes) -> bytes:
    """A body without what means nothing before its first event: a mark, and the ends of lines."""
    return data.removeprefix(BOM).lstrip(b"\r\n")


def shorten_start(data: bytes) -> bytes:
    """As much of the beginning of a body as it takes to tell what it is, with what follows."""
    start = strip_start(data)
    return b" " if start.isspace() else start


def is_undecided(data: bytes) -> bool:
    """Whether more of a body is needed to tell whether it begins as events, JSON or neither do."""
    return begins_events(data) is None or data.isspace()


def strip_json(data: bytes) -> bytes:
    """A document of JSON without what means nothing before it: a mark, and white space."""
    return data.removeprefix(BOM).lstrip(b" \t\r\n")


def begins_json(data: bytes) -> bool:
    """Whether a body begins as a document of JSON with an answer or an error does."""
    return data.startswith((b"{", b"[")) or strip_json(data).startswith((b"{", b"["))


def is_json(data: bytes) -> bool:
    """Whether a whole body, or a line of it, is JSON."""
    try:
        loads(data, allow_nan=True)
    except ValueError:
        return False
    return True


def is_json_type(media_type: str) -> bool:
    """Whether a media type names JSON."""
    return media_type == "application/json" or media_type.endswith("+json")


def is_stream(status: int, media_type: str, *, media: bool, socket: bool = False) -> bool:
    """Whether a response is read as it arrives: events, and *media* if requested; but no errors.

    If a *socket* is requested, nothing else is.
    """
    if not 200 <= status < 300 or socket:
        return socket and status == 101
    if media_type == EVENT_STREAM:
        return True
    return media and not is_json_type(media_type) and not media_type.startswith("text/")


def read_meta(
    status: int,
    headers: Mapping[str, str],
    attempts: int,
    elapsed: float,
    media_type: str | None = None,
    model: str | None = None,
) -> Meta:
    """Read the headers of a response into a `Meta`, except a *media_type* that is already read."""
    (
        ray_id, request_id, rate_limit, rate_limit_policy, log_id, cache_status, backend, neurons,
        gateway_request_id, event_id, run_id, step, routed_model, routing_reason, decision_id,
    ) = map(headers.get, _META_HEADERS)  # fmt: skip
    return _make_meta(
        status,
        ray_id,
        request_id,
        attempts,
        elapsed,
        rate_limit,
        rate_limit_policy,
        log_id,
        cache_status,
        (read_media_type(headers) if media_type is None else media_type) or None,
        backend,
        None if neurons is None else _read_neurons(neurons),
        gateway_request_id,
        event_id,
        run_id,
        step,
        routed_model,
        routing_reason,
        decision_id,
        model,
    )


def _read_neurons(value: str) -> float | None:
    """A number of neurons; `None` if it is none, because the answer was paid for."""
    try:
        neurons = float(value)
    except ValueError:
        return None
    return neurons if math.isfinite(neurons) and neurons >= 0 else None


def read_retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that the service asks to wait: `retry-after-ms`, or `Retry-After` in either form.

    A date is compared with the `Date` of the response, by the same clock; without one, with *now*.

    Source: RFC 9110, sections 10.2.3 and 6.6.1. Negative and malformed values are ignored.
    """
    for name, per_second in (("retry-after-ms", 1000.0), ("Retry-After", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / per_second
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    moment = _read_date(headers.get("Retry-After", ""))
    if moment is None:
        return None
    sent = _read_date(headers.get("Date", "")) or now
    return max(0.0, (moment - sent).total_seconds())


def _read_date(value: str) -> datetime | None:
    """A date of HTTP; `None` if it is none."""
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


# Not frozen: every call creates one, and a frozen class takes twice as long to create.
@define(eq=False)
class Response:
    """A response that was read to its end."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    meta: Meta

    @property
    def media_type(self) -> str:
        """The Content-Type in lower case and without parameters; empty if there is none."""
        return self.meta.media_type or ""

    def describe_encoding(self) -> str:
        """The end of a sentence about a body that can't be read: its unknown encoding, if so."""
        encoding = read_unknown_encoding(self.headers)
        if not encoding:
            return ""
        name = format_value(encoding, 40)
        return f" in the unknown encoding {name} (known: {', '.join(_DECODED)})"

    def json(self, *, big_integers: bool = False) -> Any:
        """Decode the body as JSON. Integers beyond 64 bits are floats unless *big_integers*.

        Raises:
            DecodeError: The body is not JSON.
        """
        try:
            return loads(self.body, allow_nan=True, big_integers=big_integers)
        except ValueError as exc:
            problem = "a body that is not JSON" if self.body else "an empty body"
            if isinstance(exc, NestedTooDeep):
                problem = f"JSON that can't be read: {exc}"
            media_type = self.media_type or "no Content-Type"
            problem += self.describe_encoding()
            message = f"the service answered {self.status} ({media_type}) with {problem}"
            raise DecodeError(message, body=self.body, meta=self.meta) from exc


def unwrap_result(document: Any) -> Any:
    """The result inside the service's envelope; the document itself if it has no envelope."""
    if isinstance(document, dict) and "result" in document:
        return document["result"]
    return document
