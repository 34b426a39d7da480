"""Reads results that are lists, transcripts, translations, summaries, descriptions and files.

A fact beside the answer itself that can't be read does not spoil the answer.
"""

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from attrs import evolve

from cfai import media
from cfai._types.json import read_as
from cfai._wire.text import (
    read_count,
    read_optional_string,
    read_text,
    read_usage,
    undocumented_error,
)
from cfai.errors import DecodeError
from cfai.tasks import (
    Answer,
    Audio,
    Binary,
    Description,
    Detection,
    Detections,
    Image,
    Label,
    Labels,
    Ranked,
    Ranking,
    Result,
    Segment,
    Summary,
    Transcript,
    Translated,
    Word,
)

T = TypeVar("T")


def _read_rows(value: Any, kind: type[T], name: str) -> tuple[T, ...]:
    """Read the rows of an answer. Those that can't be read are skipped; `raw` has them.

    Raises:
        DecodeError: There are rows, and none can be read.
    """
    if not isinstance(value, list):
        # cattrs would take an empty object or string for an iterable without items.
        raise undocumented_error(f"{name} must be a list", value)
    try:
        return read_as(value, tuple[kind, ...], name)  # type: ignore[valid-type]  # made at runtime
    except DecodeError:
        rows = _read_side_rows(value, kind)
        if not rows:
            raise
        return rows


def _read_string(result: Any, key: str) -> str:
    text = result.get(key) if isinstance(result, dict) else None
    if not isinstance(text, str):
        raise undocumented_error(f"{key} must be a string", result)
    return text


def _read_side(value: Any, kind: type[T]) -> T | None:
    """A fact beside the answer itself: `None` if it has another form. `raw` has it as it came."""
    with suppress(DecodeError):
        return read_as(value, kind, "value")
    return None


def _read_side_rows(value: Any, kind: type[T]) -> tuple[T, ...]:
    """The rows of a list beside the answer itself; those of another form are left out."""
    rows = value if isinstance(value, list) else []
    read = (_read_side(row, kind) for row in rows)
    return tuple(row for row in read if row is not None)


def _read_transcript(result: Any, _: Sequence[str]) -> Transcript:
    if isinstance(result, dict) and "results" in result:
        return _read_nova(result)
    text = _read_string(result, "text")
    info, vtt = result.get("transcription_info"), result.get("vtt")
    segments = _read_segments(result.get("segments"))
    words = _read_side_rows(result.get("words"), Word)
    return Transcript(
        text,
        vtt=read_optional_string(vtt),
        word_count=read_count(result.get("word_count")),
        words=words or tuple(word for segment in segments for word in segment.words),
        segments=segments,
        info=info if isinstance(info, dict) else None,
    )


def _read_segments(value: Any) -> tuple[Segment, ...]:
    segments = []
    for row in value if isinstance(value, list) else []:
        words = _read_side_rows(row.get("words"), Word) if isinstance(row, dict) else ()
        segment = _read_side({**row, "words": []}, Segment) if isinstance(row, dict) else None
        if segment is not None:
            segments.append(evolve(segment, words=words))
    return tuple(segments)


def _read_nova(result: dict[str, Any]) -> Transcript:
    """Deepgram's form: the first alternative of the first channel."""
    match result["results"]:
        case {"channels": [{"alternatives": [{"transcript": str(text)} as best, *_]}, *_]}:
            words = _read_side_rows(best.get("words"), Word)
            info = {key: value for key, value in best.items() if key == "confidence"}
            return Transcript(text, word_count=len(words) or None, words=words, info=info or None)
    raise undocumented_error("results must have a channel with a transcript", result)


def _read_translated(result: Any, _: Sequence[str]) -> Translated:
    match result:
        case {"translated_text": str(text)}:
            return Translated(text)
        # indictrans2 has one translation for each text that was sent.
        case {"translations": [*texts]} if texts and all(isinstance(text, str) for text in texts):
            return Translated("\n".join(texts))
    raise undocumented_error("translated_text must be a string", result)


def _read_ranking(result: Any, documents: Sequence[str]) -> Ranking:
    rows = result.get("response") if isinstance(result, dict) else None
    texts = dict(enumerate(documents))
    ranked = _read_rows(rows, Ranked, "response")
    # The service sends the rows in any order.
    best_first = sorted(ranked, key=lambda row: -row.score)
    items = tuple(evolve(row, text=texts.get(row.id, row.text)) for row in best_first)
    return Ranking(items, usage=read_usage(result.get("usage")))


def _read_description(result: Any, _: Sequence[str]) -> Description:
    if isinstance(result, dict):
        # `description` of llava and uform; `answer` and `caption` of moondream; chat models.
        for key in ("description", "answer", "caption"):
            if isinstance(text := result.get(key), str):
                finish_reason = read_optional_string(result.get("finish_reason"))
                return Description(text, finish_reason=finish_reason)
        if "response" in result or "choices" in result:
            chat = read_text(result)
            return Description(chat.text, finish_reason=chat.finish_reason)
    raise undocumented_error("description must be a string", result)


# Files

_MEDIA: Final[dict[str, type[Binary]]] = {"image": Image, "audio": Audio}


def read_base64(result: Any, key: str) -> Binary:
    """An image or audio in base64: `{key: "…"}`, or the bare string of the API page.

    Raises:
        DecodeError: It is something else.
    """
    text = result.get(key) if isinstance(result, dict) else result
    if not isinstance(text, str) or not text:
        raise undocumented_error(f"{key} must be a base64 string", result)
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        data = b64decode(text, validate=True)
    except (Base64Error, ValueError) as exc:
        raise undocumented_error(f"{key} must be a base64 string", text[:60]) from exc
    if not data:
        raise undocumented_error(f"{key} must not be empty", result)
    binary = _MEDIA[key](data, media.media_type(data))
    usage = read_usage(result.get("usage")) if isinstance(result, dict) else None
    return binary if usage is None else evolve(binary, usage=usage)


def find_media_url(result: Any, expected: type[Answer]) -> str | None:
    """The address at which the service left the media; `None` if there is none."""
    key = next((key for key, media_class in _MEDIA.items() if media_class is expected), None)
    url = result.get(key) if isinstance(result, dict) and key is not None else None
    return url if isinstance(url, str) and url.startswith(("https://", "http://")) else None


def read_binary(data: bytes, content_type: str, expected: type[Answer]) -> Binary:
    """The bytes of a response, in the expected class or in the one that their type names.

    Raises:
        DecodeError: The Content-Type, or else the bytes, name something else.
    """
    media_type = content_type
    vague = media_type in ("", "application/octet-stream")
    if vague:
        media_type = media.media_type(data)
    named = _MEDIA.get(media_type.partition("/")[0], Binary)
    if expected is Result:
        return named(data, media_type)
    fits = issubclass(named, expected) or (vague and named is Binary)
    if not (fits and issubclass(expected, Binary)):
        received = content_type or f"no Content-Type, and bytes of {media_type}"
        raise DecodeError(f"expected {expected.__name__}, got {received}")
    return expected(data, media_type)


READERS: Final[dict[type[Answer], Callable[[Any, Sequence[str]], Answer]]] = {
    Labels: lambda result, _: Labels(_read_rows(result, Label, "result")),
    Detections: lambda result, _: Detections(_read_rows(result, Detection, "result")),
    Transcript: _read_transcript,
    Translated: _read_translated,
    Summary: lambda result, _: Summary(_read_string(result, "summary")),
    Ranking: _read_ranking,
    Description: _read_description,
    Image: lambda result, _: read_base64(result, "image"),
    Audio: lambda result, _: read_base64(result, "audio"),
}
"""By class of answer: called with the result and the documents of a ranking."""
