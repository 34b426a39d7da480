"""What the service says when it says no: every form of body becomes one kind of error.

The forms are those of the API's OpenAPI document, of its edge, of AI Gateway, of the Workers
binding and of the providers behind it; each is pinned by its bytes in the tests.
"""

import re
import reprlib
from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from cfai._types.json import loads
from cfai._wire.responses import Reply, retry_after
from cfai.errors import BODY_LIMIT, DecodeError, StatusError, status_error, status_of
from cfai.meta import Meta

_MARKUP = re.compile(r"<[^>]*>")
_DEPTH = 16
"""How deep an entry of a body is kept. A decoder reads deeper than Python can follow."""


class Complaint(NamedTuple):
    """What one body says: the first code and message, and every entry as it came."""

    code: int | None
    message: str
    errors: tuple[Any, ...]


def _code(value: Any) -> int | None:
    # The OpenAPI document has the code as a text in places: "code": "10000".
    if isinstance(value, str) and len(value) < 10 and value.isascii() and value.isdigit():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _entry(entry: Any) -> tuple[int | None, str]:
    if isinstance(entry, str):
        return None, entry
    if not isinstance(entry, dict):
        return None, ""
    code = _code(entry.get("code"))
    if code is None:
        code = _code(entry.get("internalCode"))
    message = entry.get("message") or entry.get("description") or entry.get("error") or ""
    return code, message if isinstance(message, str) else reprlib.repr(message)


def complaint(document: Any) -> Complaint | None:
    """Read a decoded body that may say no; `None` where it names no fault."""
    if not isinstance(document, dict):
        return None
    for key in ("errors", "error"):
        named = document.get(key)
        if not named:
            continue
        entries = tuple(named) if isinstance(named, list) else (named,)
        read = [_entry(entry) for entry in entries]
        code = next((code for code, _ in read if code is not None), None)
        message = "; ".join(message for _, message in read if message)
        return Complaint(code, message, entries)
    if "internalCode" in document or document.get("message"):
        code, message = _entry(document)
        return Complaint(code, message, (document,))
    if document.get("success") is False:
        return Complaint(None, "", ())
    return None


def _limit_depth(value: Any, depth: int = _DEPTH) -> Any:
    if isinstance(value, Mapping | list | tuple) and not depth:
        return "…"
    if isinstance(value, Mapping):
        return {key: _limit_depth(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_limit_depth(item, depth - 1) for item in value]
    return value


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no reason given"


def _error(said: Complaint, status: int, default: str, *, meta: Meta, **facts: Any) -> StatusError:
    return status_error(
        status,
        said.code,
        said.message or default,
        errors=[_limit_depth(entry) for entry in said.errors if isinstance(entry, Mapping)],
        ray_id=meta.ray_id,
        meta=meta,
        **facts,
    )


def _meant(said: Complaint, otherwise: int) -> int:
    """The status that an error's code belongs to, where the answer itself had another."""
    status = status_of(said.code) if said.code is not None else None
    return otherwise if status is None else status


def _excerpt(reply: Reply) -> str:
    # A character of UTF-8 has at most 4 bytes.
    return reply.body[: 4 * BODY_LIMIT].decode("utf-8", "replace")[:BODY_LIMIT]


def described(error: DecodeError, body: bytes, meta: Meta) -> None:
    """Put into *error* what is known of the answer that it is about."""
    error.body, error.meta = body[:BODY_LIMIT], meta


def failure(reply: Reply, *, now: datetime) -> StatusError:
    """The error that a refusing *reply* means, whatever form its body has."""
    excerpt = _excerpt(reply)
    try:
        said = complaint(loads(reply.body))
    except ValueError:
        said = None
    if 300 <= reply.status < 400:
        said = Complaint(None, "a redirect, which is not followed", ())
    if said is None:
        said = Complaint(None, " ".join(_MARKUP.sub(" ", excerpt).split())[:200], ())
    return _error(
        said,
        reply.status,
        _phrase(reply.status),
        meta=reply.meta,
        body=excerpt,
        retry_after=retry_after(reply.headers, now),
    )


def refuses(document: Any) -> bool:
    """Whether an answer of status 200 says `success: false`."""
    return isinstance(document, dict) and document.get("success") is False


def refusal(document: Any, reply: Reply, *, now: datetime) -> StatusError | None:
    """The error inside an answer of status 200 that says `success: false`, if it does."""
    if not refuses(document):
        return None
    said = complaint(document) or Complaint(None, "", ())
    return _error(
        said,
        _meant(said, reply.status),
        "the service said success: false and no reason",
        meta=reply.meta,
        body=_excerpt(reply),
        retry_after=retry_after(reply.headers, now),
    )


TELLTALES: Final = frozenset({"success", "errors", "error", "internalCode"})
"""Keys without which no event is an error, unless it is named one."""


def in_item(document: Any, *, meta: Meta) -> StatusError | None:
    """The error that one item of a batch means, if it means one."""
    if not isinstance(document, dict) or document.get("success") is True:
        return None
    said = complaint(document)
    if said is None:
        return None
    default = "the service said that it failed, and no reason"
    return _error(said, _meant(said, 500), default, meta=meta)


def in_stream(document: Any, *, named_error: bool, meta: Meta) -> StatusError | None:
    """The error that one event of a stream means, if it means one.

    The class is the one that the HTTP status would have given; `meta.status` stays what it was.
    No error event has been recorded from the service, so every form of body is read.

    Args:
        named_error: Whether the event itself is named `error`.
    """
    if not isinstance(document, dict):
        said = Complaint(None, str(document), ()) if named_error else None
    elif document.get("success") is False or named_error:
        said = complaint(document) or Complaint(None, "", ())
    elif document.get("errors") or document.get("error") or "internalCode" in document:
        said = complaint(document)
    else:
        return None
    if said is None:
        return None
    default = "the stream reported an error and no reason"
    return _error(said, _meant(said, 500), default, meta=meta)
