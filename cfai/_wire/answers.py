"""A whole reply -> the answer that its task promises: by Content-Type first, then by class."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, cast

from cfai import media
from cfai._types.json import structure
from cfai._wire.errors import described, failure, refusal, refuses
from cfai._wire.responses import Reply, is_json, unwrapped
from cfai._wire.results import READERS, Asked
from cfai.errors import DecodeError, StreamUnsupported
from cfai.meta import Meta
from cfai.tasks import Answer, Audio, Binary, Description, Embeddings, Image, Result, Text

T = TypeVar("T")

_BYTES: Final = object()
"""Instead of a decoded document, which can be `None` itself."""


def _binary(kind: str, reply: Reply, wanted: type[Answer]) -> Binary:
    """The bytes of a reply, in the class that was promised or that their type names."""
    data = reply.body
    vague = kind in ("", "application/octet-stream")
    if vague:
        kind = media.media_type(data)
    named: type[Binary] = {"image": Image, "audio": Audio}.get(kind.partition("/")[0], Binary)
    if wanted is Result:
        return named(data, kind)
    fits = issubclass(named, wanted) or (vague and named is Binary)
    if not (fits and issubclass(wanted, Binary)):
        message = f"the service answered {len(data)} bytes of {reply.kind or 'no Content-Type'}"
        raise DecodeError(f"{message} where {wanted.__name__} was expected")
    return wanted(data, kind)


def _holds_json(reply: Reply, wanted: type[Answer]) -> bool:
    if is_json(reply.kind):
        return True
    # Without a type, a sound may be bare samples, which begin with any byte.
    vague = reply.kind == "text/plain" or (not reply.kind and not issubclass(wanted, Audio))
    return vague and reply.body[:1] in (b"{", b"[")


Decode = Callable[[Reply], Any]


def _document(reply: Reply, wanted: type[Answer], decode: Decode) -> Any:
    """The decoded body of a reply that did not fail; `_BYTES` where it is not JSON."""
    if not 200 <= reply.status < 300:
        raise failure(reply, now=datetime.now(UTC))
    if not _holds_json(reply, wanted):
        return _BYTES
    document = decode(reply)
    if refuses(document) and (error := refusal(document, reply, now=datetime.now(UTC))):
        raise error
    return document


def _read(result: Any, asked: Asked) -> Answer:
    reader = READERS.get(asked.answer)
    return structure(result, asked.answer, "result") if reader is None else reader(result, asked)


def _told(result: Any) -> Any:
    """What is kept as `raw`: all but vectors, which would be kept as lists of floats."""
    if not isinstance(result, dict) or not ("shape" in result or "data" in result):
        return result
    return {key: value for key, value in result.items() if key not in ("data", "response")}


def _with_facts(answer: Answer, reply: Reply, raw: Any) -> Answer:
    # It was made a moment ago and nobody else has it: to fill it in costs less than a copy.
    object.__setattr__(answer, "meta", reply.meta)
    object.__setattr__(answer, "raw", raw)
    return answer


def answer(asked: Asked, reply: Reply, *, decode: Decode = Reply.json) -> Answer:
    """What a reply says, as the answer that was asked for.

    Args:
        decode: Reads its JSON. What it leaves for later (`Vectors`) is empty in the answer.

    Raises:
        StatusError: The service said no, by its status or by `success: false`.
        DecodeError: It said something that no source documents.
    """
    try:
        return _answer(asked, reply, decode)
    except DecodeError as exc:
        described(exc, reply.body, reply.meta)
        raise


def _answer(asked: Asked, reply: Reply, decode: Decode) -> Answer:
    document = _document(reply, asked.answer, decode)
    if document is _BYTES:
        if reply.kind == "text/html" or not reply.body:
            reply.json()
        return _with_facts(_binary(reply.kind, reply, asked.answer), reply, None)
    result = unwrapped(document)
    read = _read(result, asked)
    raw = _told(result) if isinstance(read, Embeddings) else result
    return _with_facts(read, reply, None if isinstance(read, Binary) else raw)


def item(asked: Asked, result: Any, meta: Meta) -> Answer:
    """A result that came with others in one reply.

    Raises:
        DecodeError: It has a form that no source documents.
    """
    made = _read(result, asked)
    object.__setattr__(made, "meta", meta)
    object.__setattr__(made, "raw", _told(result) if isinstance(made, Embeddings) else result)
    return made


def unstreamed(asked: Asked, reply: Reply) -> Text:
    """The whole text of a reply that should have been a stream.

    gpt-oss and Kimi have answered a request for a stream with an empty result
    (github.com/cloudflare/ai, workers-ai-provider, changelog 3.1.1).

    Raises:
        StreamUnsupported: It is empty.
        StatusError: The service said no.
        DecodeError: It is no text.
    """
    try:
        return _unstreamed(asked, reply)
    except DecodeError as exc:
        described(exc, reply.body, reply.meta)
        raise


def _unstreamed(asked: Asked, reply: Reply) -> Text:
    document = _document(reply, Text, Reply.json)
    if document is _BYTES:
        kind = reply.kind or "no Content-Type"
        size = len(reply.body)
        raise DecodeError(f"the service answered {size} bytes of {kind} where a stream was asked")
    result = unwrapped(document)
    if not result:
        raise StreamUnsupported("the model answered nothing to a request for a stream: call run()")
    text = _read(result, Asked(Text, asked.json))
    return cast("Text", _with_facts(text, reply, result))


def read_document(reply: Reply, read: Callable[[Any], T], *, decode: Decode = Reply.json) -> T:
    """Return what *read* makes of the decoded body of a response that is not about a run.

    Raises:
        StatusError: The service refused, by its status or by `success: false`.
        DecodeError: The body has a form that no source documents.
    """
    try:
        now = datetime.now(UTC)
        if not 200 <= reply.status < 300:
            raise failure(reply, now=now)
        document = decode(reply)
        if error := refusal(document, reply, now=now):
            raise error
        return read(document)
    except DecodeError as exc:
        described(exc, reply.body, reply.meta)
        raise


def from_text(asked: Asked, text: Text) -> Answer:
    """The answer that was asked for, from a stream that the model chose to send.

    Raises:
        DecodeError: That class of answer can't be made of text.
    """
    if asked.answer is Text:
        return text
    if asked.answer is Description:
        return Description(text.text, finish_reason=text.finish_reason, meta=text.meta)
    message = f"the service answered a stream where {asked.answer.__name__} was expected"
    raise DecodeError(message, meta=text.meta)
