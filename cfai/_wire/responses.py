"""A whole answer as it came, and what its headers and its envelope say."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from attrs import define, field

from cfai._types.json import loads
from cfai.errors import DecodeError
from cfai.meta import Meta

EVENTS = "text/event-stream"


def media_type(headers: Mapping[str, str]) -> str:
    """The Content-Type in small letters, without its parameters; empty where there is none."""
    return headers.get("Content-Type", "").partition(";")[0].strip().lower()


def is_json(kind: str) -> bool:
    """Whether a media type names JSON."""
    return kind == "application/json" or kind.endswith("+json")


def meta(
    status: int,
    headers: Mapping[str, str],
    *,
    attempts: int,
    elapsed: float,
    kind: str | None = None,
) -> Meta:
    """What the headers of an answer tell, with the count and the seconds that it took.

    Args:
        kind: Its media type, where that is known already.
    """
    said = headers.get
    return Meta(
        status,
        said("cf-ray"),
        said("cf-ai-req-id"),
        attempts,
        elapsed,
        said("Ratelimit"),
        said("Ratelimit-Policy"),
        said("cf-aig-log-id"),
        said("cf-aig-cache-status"),
        (media_type(headers) if kind is None else kind) or None,
        said("cfai-backend"),
    )


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that the service asks to wait: `retry-after-ms`, or `Retry-After` in either form.

    Source: RFC 9110, section 10.2.3; what is negative, no number or no date says nothing.
    """
    for name, unit in (("retry-after-ms", 1000.0), ("Retry-After", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) / unit
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    try:
        moment = parsedate_to_datetime(headers.get("Retry-After", ""))
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


# Not frozen: each call makes one, and freezing doubles what that costs.
@define
class Reply:
    """An answer that was read to its end."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    meta: Meta

    @property
    def kind(self) -> str:
        """The media type, in small letters, without parameters."""
        return self.meta.media_type or ""

    def json(self) -> Any:
        """The body as decoded JSON.

        Raises:
            DecodeError: It is no JSON.
        """
        try:
            return loads(self.body)
        except ValueError as exc:
            said = "an empty body" if not self.body else "a body that is no JSON"
            kind = self.kind or "no Content-Type"
            message = f"the service answered {self.status} ({kind}) with {said}"
            raise DecodeError(message, body=self.body, meta=self.meta) from exc


def unwrapped(document: Any) -> Any:
    """The result inside the service's envelope, or the document where there is no envelope."""
    if isinstance(document, dict) and "result" in document:
        return document["result"]
    return document
