"""Decoded results -> answers: one reader for each class of answer, each form from its source."""

from array import array
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from attrs import evolve, frozen

from cfai import media
from cfai._types.json import structure
from cfai._wire.text import name, read_text, undocumented, usage
from cfai._wire.vectors import Rows, holds_huge
from cfai.errors import DecodeError
from cfai.tasks import (
    Answer,
    Audio,
    Description,
    Detection,
    Detections,
    Embeddings,
    Image,
    Label,
    Labels,
    Ranked,
    Ranking,
    Result,
    Segment,
    Summary,
    Task,
    Text,
    Transcript,
    Translated,
    Word,
    texts_of,
)

T = TypeVar("T")

_NUMBERS: Final = frozenset({float, int})


@frozen
class Asked:
    """What reading needs to know of the question."""

    answer: type[Answer]
    json: bool = False
    """Whether JSON was asked for."""
    documents: tuple[str, ...] = ()
    """The texts that a ranking refers to."""
    count: int | None = None
    """How many vectors must come."""


def asked(task: Task[Any] | Mapping[str, Any]) -> Asked:
    """What to expect of the answer to *task*."""
    if not isinstance(task, Task):
        return Asked(Result, bool(task.get("response_format")))
    json = getattr(task, "response_format", None) is not None
    documents = getattr(task, "documents", ())
    texts = texts_of(task)
    if texts is None and not (json or documents):
        return _PLAIN.get(task.answer) or Asked(task.answer)
    count = None if texts is None else len(texts)
    return Asked(task.answer, json=json, documents=tuple(documents), count=count)


def _rows(value: Any, kind: type[T], what: str) -> tuple[T, ...]:
    if not isinstance(value, list):
        # An empty object or text would do as an iterable of none.
        raise undocumented(f"{what} must be a list", value)
    return structure(value, tuple[kind, ...], what)  # type: ignore[valid-type]  # made at runtime


def _labels(result: Any, _: Asked) -> Labels:
    return Labels(_rows(result, Label, "result"))


def _detections(result: Any, _: Asked) -> Detections:
    return Detections(_rows(result, Detection, "result"))


def _decoded(result: Any, key: str) -> bytes:
    """The bytes of a base64 answer: `{key: "…"}`, or the bare text that the API page also names."""
    text = result.get(key) if isinstance(result, dict) else result
    if not isinstance(text, str) or not text:
        raise undocumented(f"{key} must be base64 text", result)
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        data = b64decode(text, validate=True)
    except (Base64Error, ValueError) as exc:
        raise undocumented(f"{key} must be base64 text", text[:60]) from exc
    if not data:
        raise undocumented(f"{key} must not be empty", result)
    return data


def _image(result: Any, _: Asked) -> Image:
    data = _decoded(result, "image")
    return Image(data, media.media_type(data))


def _audio(result: Any, _: Asked) -> Audio:
    data = _decoded(result, "audio")
    return Audio(data, media.media_type(data))


def _embeddings(result: Any, asked: Asked) -> Embeddings:
    # bge-m3 has the vectors under `response` where contexts were given instead of texts.
    rows: Any = result.get("data", result.get("response")) if isinstance(result, dict) else None
    late = isinstance(rows, Rows)
    if not late and not (isinstance(rows, list) and all(isinstance(row, list) for row in rows)):
        raise undocumented("data must be a list of vectors", result)
    if asked.count is not None and len(rows) != asked.count:
        raise DecodeError(f"{asked.count} texts were sent, and {len(rows)} vectors came back")
    width = rows.width if late else len(rows[0]) if rows else 0
    if not width:
        raise undocumented("data must hold numbers", result)
    buffer = rows.buffer if late else _floats(rows, width)
    shape = (len(rows), width)
    said = result.get("shape")
    if said is not None and said != list(shape):
        raise undocumented(f"shape must be that of the data, {list(shape)}", said)
    pooling = _optional(result, "pooling", str)
    return Embeddings(shape, buffer, pooling=pooling, usage=usage(result.get("usage")))


def _floats(rows: list[list[Any]], width: int) -> "array[float]":
    buffer = array("f")
    for row in rows:
        if len(row) != width:
            raise undocumented("all vectors must have one length", [len(row) for row in rows])
        if not _NUMBERS.issuperset(map(type, row)):
            raise DecodeError("a vector must be made of numbers only")
        buffer.fromlist(row)
    if holds_huge(buffer):
        raise DecodeError("a vector must be made of numbers below 1e38")
    return buffer


def _optional(result: dict[str, Any], key: str, kind: type[T]) -> T | None:
    value = result.get(key)
    return None if value is None else structure(value, kind, key)


def _words(value: Any) -> tuple[Word, ...]:
    return _rows(value or [], Word, "words")


def _nova(result: dict[str, Any]) -> Transcript:
    """Deepgram's form: the first alternative of the first channel."""
    match result["results"]:
        case {"channels": [{"alternatives": [{"transcript": str(text)} as best, *_]}, *_]}:
            heard = _words(best.get("words"))
            info = {key: value for key, value in best.items() if key == "confidence"}
            return Transcript(text, word_count=len(heard) or None, words=heard, info=info or None)
    raise undocumented("results must have a channel with a transcript", result)


def _transcript(result: Any, _: Asked) -> Transcript:
    if isinstance(result, dict) and "results" in result:
        return _nova(result)
    if not isinstance(result, dict) or not isinstance(result.get("text"), str):
        raise undocumented("text must be a text", result)
    info = result.get("transcription_info")
    if not isinstance(info, dict | None):
        raise undocumented("transcription_info must be an object", info)
    segments = _segments(result.get("segments"))
    return Transcript(
        result["text"],
        vtt=_optional(result, "vtt", str),
        word_count=_optional(result, "word_count", int),
        words=_words(result.get("words")) or tuple(w for part in segments for w in part.words),
        segments=segments,
        info=info,
    )


def _segments(value: Any) -> tuple[Segment, ...]:
    entries = _rows(value or [], dict, "segments")
    whole = [{**entry, "words": entry.get("words") or []} for entry in entries]
    return _rows(whole, Segment, "segments")


def _text(result: Any, asked: Asked) -> Text:
    return read_text(result, json_asked=asked.json)


def _translated(result: Any, _: Asked) -> Translated:
    match result:
        case {"translated_text": str(text)}:
            return Translated(text)
        # indictrans2: one translation for each text that was sent.
        case {"translations": [*texts]} if texts and all(isinstance(text, str) for text in texts):
            return Translated("\n".join(texts))
    raise undocumented("translated_text must be a text", result)


def _summary(result: Any, _: Asked) -> Summary:
    match result:
        case {"summary": str(text)}:
            return Summary(text)
    raise undocumented("summary must be a text", result)


def _description(result: Any, _: Asked) -> Description:
    if isinstance(result, dict):
        # llava and uform; then moondream's answers and captions; then models that chat.
        for key in ("description", "answer", "caption"):
            if isinstance(text := result.get(key), str):
                return Description(text, finish_reason=name(result.get("finish_reason")))
        if "response" in result or "choices" in result:
            said = read_text(result)
            return Description(said.text, finish_reason=said.finish_reason)
    raise undocumented("description must be a text", result)


def _ranking(result: Any, asked: Asked) -> Ranking:
    rows = result.get("response") if isinstance(result, dict) else None
    ranked = _rows(rows, Ranked, "response")
    texts = asked.documents
    return Ranking(
        tuple(evolve(r, text=texts[r.id]) if 0 <= r.id < len(texts) else r for r in ranked)
    )


def _result(result: Any, _: Asked) -> Answer:
    """An open run: the value as it is, but for the two documented forms of base64."""
    if isinstance(result, dict) and len(result) == 1:
        for key, read in (("image", _image), ("audio", _audio)):
            if isinstance(result.get(key), str):
                try:
                    return read(result, Asked(Result))
                except DecodeError:
                    break
    return Result(result)


READERS: Final[dict[type[Answer], Callable[[Any, Asked], Answer]]] = {
    Labels: _labels,
    Detections: _detections,
    Image: _image,
    Audio: _audio,
    Embeddings: _embeddings,
    Transcript: _transcript,
    Text: _text,
    Translated: _translated,
    Summary: _summary,
    Description: _description,
    Ranking: _ranking,
    Result: _result,
}

_PLAIN: Final = {answer: Asked(answer) for answer in READERS}
"""What most questions need to have known of them, made once."""
