"""The errors that the service reports: in a response, in an item of a batch, or in an event.

The forms of body are those of the API's OpenAPI document, its edge, AI Gateway, the Workers binding
and the providers behind it. The tests pin each of them by its bytes.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import islice
from json import JSONDecoder
from typing import Any, Final, NamedTuple

from cfai._types.excerpts import format_value
from cfai._types.json import check_depth, loads
from cfai._wire.responses import BOM, Response, read_retry_after
from cfai.errors import BODY_LIMIT, DecodeError, StatusError, is_quota_code, status_error
from cfai.meta import Meta

_MARKUP: Final = r"<[^>]*>"
_PHRASES: Final[Mapping[int, str]] = {status: status.phrase for status in HTTPStatus}
_JSON_PREFIX: Final = r"(?:\w*Error: ?)*(?=\{)"
_JSON_DECODER: Final = JSONDecoder()
_MESSAGE_LIMIT: Final = 200
"""Characters of a message that is taken from a page."""
# A body can have any size and form. What an error keeps of it is bounded, since each text in it is
# searched for secrets.
_DEPTH: Final = 16
"""How many levels of an entry are kept. JSON can be nested deeper than Python recurses."""
_WIDTH: Final = 100
"""How many entries are read and kept, and how many items of each list and object in them."""
_VALUES: Final = 2000
"""How many values of all entries are kept."""

LOGIN_ADVICE: Final = "put the user name and the password into its address, http://user:password@…"
"""For a proxy that requires a login (407)."""


class ErrorBody(NamedTuple):
    """The errors in one document: the first code, the messages, and every entry as it came."""

    code: int | None
    message: str
    entries: tuple[Any, ...]


_EMPTY: Final = ErrorBody(None, "", ())


def read_document(response: Response, *, big_integers: bool = False) -> Any:
    """Decode a response. Integers beyond 64 bits are floats unless *big_integers*.

    Raises:
        StatusError: An error response, by its status or in its body.
        DecodeError: The body is not JSON.
    """
    raise_for_status(response)
    document = response.json(big_integers=big_integers)
    if reports_error(document):
        raise error_from_document(document, response)
    return document


def raise_for_status(response: Response) -> None:
    """Raise the error that a response reports by its status.

    Raises:
        StatusError: The status is not 2xx.
    """
    if not 200 <= response.status < 300:
        raise error_from_response(response, now=datetime.now(UTC))


def describe_decode_error(error: DecodeError, body: bytes, meta: Meta) -> None:
    """Add to *error* the beginning of the body that it is about, and the facts of its response."""
    error.body, error.meta = body[:BODY_LIMIT], meta


# The body of an error


def parse_error_body(document: Any) -> ErrorBody | None:
    """Find the errors in a decoded body; `None` if it reports none."""
    if not isinstance(document, dict):
        return None
    for key in ("errors", "error"):
        value = document.get(key)
        if not value:
            continue
        entries = tuple(value[:_WIDTH]) if isinstance(value, list) else (value,)
        parsed = [_parse_entry(entry) for entry in entries]
        message = "; ".join(message for _, message in parsed if message)
        beside = [_parse_code(document.get(name)) for name in ("code", "internalCode")]
        return ErrorBody(_first_code([*(code for code, _ in parsed), *beside]), message, entries)
    if is_failed_run(result := document.get("result")):
        return parse_error_body(result)
    if "internalCode" in document or document.get("message"):
        code, message = _parse_entry(document)
        return ErrorBody(code, message, (document,))
    return _EMPTY if is_unsuccessful(document) else None


def _first_code(codes: Sequence[int | None]) -> int | None:
    """The code that counts: a used-up quota, wherever it stands, or else the first."""
    present = [code for code in codes if code is not None]
    return next((code for code in present if is_quota_code(code)), present[0] if present else None)


def _parse_entry(entry: Any) -> tuple[int | None, str]:
    if isinstance(entry, str):
        return None, entry
    if not isinstance(entry, dict):
        return None, ""
    codes = [_parse_code(entry.get("code")), _parse_code(entry.get("internalCode"))]
    message = entry.get("message") or entry.get("description") or entry.get("error") or ""
    if isinstance(message, str):
        inner_code, message = _unwrap_message(message)
        codes.append(inner_code)
    elif isinstance(message, dict):
        # `{"error":{"error":{"message":…}}}`
        inner_code, inner = _parse_entry(message)
        codes.append(inner_code)
        message = inner or format_value(message)
    else:
        message = format_value(message)
    chain = entry.get("error_chain")
    chain = chain[:_WIDTH] if isinstance(chain, list) else []
    causes = [cause for cause in chain if isinstance(cause, dict)]
    own = _first_code(codes)
    if not is_quota_code(own):
        # The codes of causes say why, and not what, unless a quota is used up.
        own = next(filter(is_quota_code, (_parse_code(c.get("code")) for c in causes)), own)
    return own, "; ".join(filter(None, [message, *map(_describe_cause, causes)]))


def _describe_cause(cause: dict[str, Any]) -> str:
    """One entry of an `error_chain`, which says why: its message and its code."""
    if not isinstance(message := cause.get("message"), str):
        return ""
    code = _parse_code(cause.get("code"))
    return message if code is None else f"{message} (code {code})"


def _unwrap_message(message: str) -> tuple[int | None, str]:
    """The code and the message inside a message that is the JSON of an error, with an id after it.

    Source: juspay/neurolink, cloudflare-clef.md: Clef's code 5012 (live, October 2026).
    """
    prefix = re.match(_JSON_PREFIX, message)
    if prefix is None:
        return None, message
    try:
        document, _ = _JSON_DECODER.raw_decode(message, prefix.end())
        check_depth(document)
    except (ValueError, RecursionError):
        return None, message
    inner = parse_error_body(document)
    if inner is None:
        return None, message
    return inner.code, inner.message or message


def _parse_code(value: Any) -> int | None:
    # In places, the OpenAPI document has the code as a string: "code": "10000".
    if isinstance(value, str) and len(value) < 10 and value.isascii() and value.isdigit():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _build_error(
    body: ErrorBody, status: int | None, default: str, /, *, meta: Meta, **details: Any
) -> StatusError:
    entries = [entry for entry in body.entries if isinstance(entry, Mapping)]
    return status_error(
        status,
        body.code,
        _limit_text(body.message or default),
        errors=_limit(entries, _DEPTH + 1, iter(range(_VALUES))),
        ray_id=meta.ray_id,
        meta=meta,
        **details,
    )


def _limit(value: Any, depth: int, budget: Iterator[int]) -> Any:
    """A value with *depth* levels at most, and as many values as *budget* has left."""
    if isinstance(value, str):
        return _limit_text(value)
    if not isinstance(value, Mapping | list | tuple):
        return value
    if not depth:
        return "…"
    if isinstance(value, Mapping):
        fields = zip(islice(value.items(), _WIDTH), budget, strict=False)
        return {_limit_text(key): _limit(item, depth - 1, budget) for (key, item), _ in fields}
    items = zip(islice(value, _WIDTH), budget, strict=False)
    return [_limit(item, depth - 1, budget) for item, _ in items]


def _limit_text(text: str) -> str:
    return text if len(text) <= BODY_LIMIT else f"{text[: BODY_LIMIT - 1]}…"


# Responses


def error_from_response(response: Response, *, now: datetime) -> StatusError:
    """Build the error for a response whose status is not 2xx, whatever form its body has."""
    excerpt = _excerpt(response)
    body = _parse_body(response)
    if 300 <= response.status < 400:
        body = ErrorBody(None, "a redirect, which is not followed", ())
    if response.status == 407:
        body = ErrorBody(None, f"the proxy requires a login: {LOGIN_ADVICE}", ())
    if body is None and (encoding := response.describe_encoding()):
        body = ErrorBody(None, f"a body{encoding}", ())
    if body is None:
        body = ErrorBody(None, _page_text(excerpt), ())
    return _build_error(
        body,
        response.status,
        _PHRASES.get(response.status, "no reason given"),
        meta=response.meta,
        body=excerpt,
        retry_after=read_retry_after(response.headers, now),
    )


def _page_text(excerpt: str) -> str:
    """The text of a page, with "…" at its end if it was cut: redaction looks for a mark there."""
    text = " ".join(re.sub(_MARKUP, " ", excerpt).split())
    was_cut = len(text) > _MESSAGE_LIMIT or len(excerpt) == BODY_LIMIT
    return f"{text[: _MESSAGE_LIMIT - 1]}…" if text and was_cut else text


def _parse_body(response: Response) -> ErrorBody | None:
    """Find the errors in a body of JSON, or in an event of a stream; `None` if there are none."""
    try:
        return parse_error_body(loads(response.body, allow_nan=True))
    except ValueError:
        pass
    # A used-up quota comes with status 429 and `text/event-stream`: data: {"errors":[…4006…]}
    return _parse_events(response.body[: 16 * BODY_LIMIT])


def _parse_events(data: bytes) -> ErrorBody | None:
    """Find the errors in events of a stream, or on its lines; `None` if there are none."""
    text = data.removeprefix(BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    for event in text.split(b"\n\n"):
        lines = event.split(b"\n")
        values = [line[5:] for line in lines if line.startswith(b"data:")]
        for value in (b"\n".join(values), *values, *lines):
            try:
                body = parse_error_body(loads(value, allow_nan=True))
            except ValueError:
                continue
            if body is not None:
                return body
    return None


def _excerpt(response: Response) -> str:
    # A character of UTF-8 has at most 4 bytes.
    return response.body[: 4 * BODY_LIMIT].decode("utf-8", "replace")[:BODY_LIMIT]


def is_unsuccessful(document: Any) -> bool:
    """Whether a document says `success: false`."""
    return isinstance(document, dict) and document.get("success") is False


_ANSWER_KEYS: Final = ("result", "response", "choices", "data", "output")


def reports_error(document: Any) -> bool:
    """Whether a document under status 2xx is an error: `success: false`, or errors and no answer.

    Errors without `success: false` were seen as `{"error":{"message":…}}` and `{"errors":["…"]}`.
    """
    if not isinstance(document, dict) or (success := document.get("success")) is True:
        return False
    if success is False:
        return True
    errors = document.get("errors") or document.get("error") or document.get("internalCode")
    return bool(errors) and not any(document.get(key) for key in _ANSWER_KEYS)


def error_from_document(document: Any, response: Response) -> StatusError:
    """Build the error for a response of status 2xx whose document reports it."""
    body = parse_error_body(document) or _EMPTY
    return _build_error(
        body,
        response.status,
        "the service answered success: false without a reason",
        meta=response.meta,
        body=_excerpt(response),
        retry_after=read_retry_after(response.headers, datetime.now(UTC)),
    )


# Source: Cloudflare docs, ai-gateway/usage/run-api.mdx@0a26bf7: "All providers for this model are
# currently unavailable." Other codes are not documented, and count as errors in the request.
_FAILED_RUNS: Final = {"provider_unavailable": 503}


def is_failed_run(document: Any) -> bool:
    """Whether a document is the `state` of a run that failed at another provider."""
    return isinstance(document, dict) and document.get("state") == "Failed"


def error_from_failed_run(document: dict[str, Any], response: Response) -> StatusError:
    """Build the error for a run that failed at another provider: `{state, error}`."""
    body = parse_error_body(document) or _EMPTY
    entry = document.get("error")
    code = entry.get("code") if isinstance(entry, dict) else None
    named = isinstance(code, str) and body.code is None
    return _build_error(
        body,
        _FAILED_RUNS.get(str(code), 400) if named else None,
        "the provider failed without a reason",
        meta=response.meta,
        body=_excerpt(response),
        retry_after=read_retry_after(response.headers, datetime.now(UTC)),
    )


# Parts of a response


def error_from_events(data: bytes, *, meta: Meta) -> StatusError | None:
    """Build the error that the beginning of a stream reports; `None` if it reports none."""
    return _error_from_part(_parse_events(data), "the stream reported an error", meta)


def says_nothing(event: bytes | str) -> bool:
    """Whether an event, as its data or as its lines, has no data or only empty values."""
    data: bytes | str = event
    if isinstance(event, str):
        data = "\n".join(line[5:] for line in event.splitlines() if line.startswith("data:"))
    try:
        document = loads(data, allow_nan=True)
    except ValueError:
        return not data.strip()
    return not (any(document.values()) if isinstance(document, dict) else document)


def error_from_item(document: Any, *, meta: Meta) -> StatusError | None:
    """Build the error that one item of a batch reports; `None` if it reports none."""
    if not isinstance(document, dict) or document.get("success") is True:
        return None
    default = "the service reported a failure without a reason"
    return _error_from_part(parse_error_body(document), default, meta)


ERROR_KEYS: Final = frozenset({"success", "errors", "error", "internalCode"})
"""An event without any of these keys reports no error, unless the event is named `error`."""


def error_from_event(document: Any, *, is_named_error: bool, meta: Meta) -> StatusError | None:
    """Build the error that one event of a stream reports; `None` if it reports none.

    Its class is the one that the HTTP status would have given; `meta.status` stays as it was. Every
    form of body is read. *document* is the decoded data; *is_named_error* is whether the event
    itself is named `error`.
    """
    body: ErrorBody | None = None
    if not isinstance(document, dict):
        body = ErrorBody(None, str(document), ()) if is_named_error else None
    elif is_named_error:
        body = parse_error_body(document) or _EMPTY
    elif (
        is_unsuccessful(document)
        or document.get("errors")
        or document.get("error")
        or "internalCode" in document
    ):
        body = parse_error_body(document)
    return _error_from_part(body, "the stream reported an error without a reason", meta)


def _error_from_part(body: ErrorBody | None, default: str, meta: Meta) -> StatusError | None:
    return None if body is None else _build_error(body, None, default, meta=meta)
