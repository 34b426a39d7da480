"""Reads results that are lists, transcripts, translations and summaries.

A fact beside the answer itself that can't be read does not spoil the answer.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from attrs import evolve

from cfai._types.json import read_as
from cfai._wire.text import read_count, read_optional_string, read_usage, undocumented_error
from cfai.errors import DecodeError
from cfai.tasks import (
    Answer,
    Detection,
    Detections,
    Label,
    Labels,
    Ranked,
    Ranking,
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


READERS: Final[dict[type[Answer], Callable[[Any, Sequence[str]], Answer]]] = {
    Labels: lambda result, _: Labels(_read_rows(result, Label, "result")),
    Detections: lambda result, _: Detections(_read_rows(result, Detection, "result")),
    Transcript: _read_transcript,
    Translated: _read_translated,
    Summary: lambda result, _: Summary(_read_string(result, "summary")),
    Ranking: _read_ranking,
}
"""By class of answer: called with the result and the documents of a ranking."""
