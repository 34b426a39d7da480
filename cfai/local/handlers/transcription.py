"""Handlers of speech recognition and of the end of a turn. They block and run in a worker thread.

Each model has its own fields and form of the answer. Sources: the input and output schemas of the
models' cards, and @cloudflare/workers-types 5.20261117.1.
"""

import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import frozen

from cfai.local import audio, backends, errors
from cfai.local.audio import AudioError, RawFormat, Recording
from cfai.local.backends.roles import IsCancelled
from cfai.local.backends.smart_turn import COMPLETE
from cfai.local.handlers.media import decode_base64, decode_integers
from cfai.local.models import ServedModel
from cfai.local.requests import JsonBody, check_names, missing_fields
from cfai.local.speech import Segment, transcribe
from cfai.tasks.task import shorten

_UTTERANCE_PAUSE = 0.8
"""Seconds. Source: Deepgram docs, "Utterance Split", the default."""


def recognize(model: ServedModel, body: JsonBody, is_cancelled: IsCancelled) -> tuple[Any, str]:
    """Answer a request for the text of a recording, in the form of the model."""
    form = _FORMS.get(model.name)
    if form is None:
        raise errors.not_supported(f"{model.name} is available only over WebSockets")
    return form(body, is_cancelled), backends.speech_recognizer().name


def detect_turn(model: ServedModel, body: JsonBody, is_cancelled: IsCancelled) -> tuple[Any, str]:
    """Answer whether the speaker of a recording has finished.

    With a `dtype`, the sound is samples without a header, at 16 kHz; otherwise it is a file.
    """
    check_names(body, "audio", "dtype")
    dtype = _read_choice(body, "dtype", {name: name for name in _DTYPES})
    raw = None if dtype is None else RawFormat(_DTYPES[dtype], audio.RATE)
    recording = _decode(_read_base64(body), raw, is_cancelled)
    if not len(recording.samples):
        raise errors.bad_input("audio must have at least one sample")
    backend = backends.turn_detector()
    probability = backend.measure(recording.samples)
    return {"is_complete": probability >= COMPLETE, "probability": probability}, backend.name


_DTYPES = {"uint8": "PCM_U8", "float32": "FLOAT", "float64": "DOUBLE"}


# Forms of requests and answers


def _answer_whisper(body: JsonBody, is_cancelled: IsCancelled) -> Any:
    check_names(body, "audio", "source_lang", "target_lang")
    _check_english(body, "source_lang", "target_lang")
    segments = transcribe(
        _decode(_read_integers(body), None, is_cancelled).samples, is_cancelled=is_cancelled
    )
    text = _join(segments)
    return {"text": text, "word_count": len(text.split()), "vtt": _build_vtt(segments)}


def _answer_turbo(body: JsonBody, is_cancelled: IsCancelled) -> Any:
    names = ("task", "language", "vad_filter", "initial_prompt", "prefix")
    check_names(body, "audio", *names)
    _check_english(body, "language")
    if body.get("task") == "translate":
        raise errors.not_supported("the local recognizer does not translate: omit task")
    _refuse(body, {"task": ("transcribe",), "initial_prompt": ("",), "prefix": ("",)})
    filters = _read_flag(body, "vad_filter")
    recording = _decode(_read_base64(body), None, is_cancelled)
    segments = transcribe(recording.samples, is_cancelled=is_cancelled)
    text = _join(segments)
    speech = sum(segment.end - segment.start for segment in segments)
    return {
        "transcription_info": {
            "language": "en",
            "duration": _round(recording.seconds),
            "duration_after_vad": _round(speech if filters else recording.seconds),
        },
        "text": text,
        "word_count": len(text.split()),
        "segments": [_build_segment(segment) for segment in segments],
        "vtt": _build_vtt(segments),
    }


def _build_segment(segment: Segment) -> dict[str, Any]:
    encoded = segment.text.encode()
    return {
        "start": _round(segment.start),
        "end": _round(segment.end),
        "text": segment.text,
        "temperature": 0.0,
        "avg_logprob": segment.log_probability,
        "compression_ratio": len(encoded) / len(zlib.compress(encoded)),
        "no_speech_prob": 1 - segment.speech,
    }


def _answer_nemotron(body: JsonBody, is_cancelled: IsCancelled) -> Any:
    check_names(body, "audio", "encoding", "sample_rate", "channels")
    names = {"wav": "WAV", "flac": "FLAC", "ogg": "OGG", "linear16": "PCM_16"}
    encoding = _read_choice(body, "encoding", names)
    recording = _decode_as(encoding, body, _read_base64(body), is_cancelled)
    text = _join(transcribe(recording.samples, is_cancelled=is_cancelled))
    return {"text": text, "duration": _round(recording.seconds)}


# nova-3

_NOVA_ENCODINGS = {"linear16": "PCM_16", "mulaw": "ULAW", "flac": "FLAC", "opus": "OGG"}

_NOVA_USED = (
    "audio",
    "channels",
    "encoding",
    "language",
    "multichannel",
    "paragraphs",
    "punctuate",
    "sample_rate",
    "smart_format",
    "utt_split",
    "utterances",
)

_NOVA_REFUSED = {
    # By name, with the values that ask for nothing beside false and an empty text.
    "custom_intent": (),
    "custom_intent_mode": (),
    "custom_topic": (),
    "custom_topic_mode": (),
    "detect_entities": (),
    "detect_language": (),
    "diarize": (),
    "dictation": (),
    "endpointing": (),
    "extra": (),
    "filler_words": (),
    "interim_results": (),
    "keyterm": (),
    "keywords": (),
    "measurements": (),
    # For the account, so any value will do.
    "mip_opt_out": (True, "true"),
    "mode": ("general",),
    "numerals": (),
    "profanity_filter": (),
    "redact": (),
    "replace": (),
    "search": (),
    "sentiment": (),
    "topics": (),
    "utterance_end_ms": (),
    "vad_events": (),
}


def _answer_nova(body: JsonBody, is_cancelled: IsCancelled) -> Any:
    check_names(body, *_NOVA_USED, *_NOVA_REFUSED)
    _check_english(body, "language")
    _refuse(body, _NOVA_REFUSED)
    _refuse(body, {"paragraphs": ()})
    encoding = _read_choice(body, "encoding", _NOVA_ENCODINGS)
    formatted = _read_flag(body, "punctuate") or _read_flag(body, "smart_format")
    pause = _read_number(body, "utt_split", 0.1, 10.0)
    separate = _read_flag(body, "multichannel")
    data = body.get("audio")
    if not isinstance(data, bytes):
        raise _wrong_audio(data, "the body of the request, with its Content-Type")
    recording = _decode_as(encoding, body, data, is_cancelled, separate=separate)
    channels = [
        [
            _Utterance(segment, segment.text if formatted else _strip_format(segment.text))
            for segment in transcribe(
                samples, pause=pause or _UTTERANCE_PAUSE, is_cancelled=is_cancelled
            )
        ]
        for samples in recording.channels
    ]
    results: dict[str, Any] = {"channels": [_build_channel(channel) for channel in channels]}
    if _read_flag(body, "utterances"):
        rows = [
            utterance.build_row(number)
            for number, channel in enumerate(channels)
            for utterance in channel
        ]
        results["utterances"] = sorted(rows, key=lambda row: row["start"])
    return {"results": results}


@frozen
class _Utterance:
    segment: Segment
    text: str

    def build_row(self, channel: int) -> dict[str, Any]:
        return {
            "start": _round(self.segment.start),
            "end": _round(self.segment.end),
            "confidence": self.segment.confidence,
            "channel": channel,
            "transcript": self.text,
        }


def _build_channel(utterances: Sequence[_Utterance]) -> dict[str, Any]:
    text = " ".join(utterance.text for utterance in utterances)
    confidence = min((utterance.segment.confidence for utterance in utterances), default=0.0)
    return {"alternatives": [{"transcript": text, "confidence": confidence}]}


def _strip_format(text: str) -> str:
    """Remove case and punctuation, which Deepgram adds only if it is asked to."""
    return " ".join(re.sub(r"[^\w\s'$%&@#.,:/-]|[.,:/-]+(?=\s|$)", "", text.lower()).split())


_FORMS: Mapping[str, Callable[[JsonBody, IsCancelled], Any]] = {
    "@cf/deepgram/nova-3": _answer_nova,
    "@cf/nvidia/nemotron-speech-streaming-en-0.6b": _answer_nemotron,
    "@cf/openai/whisper": _answer_whisper,
    "@cf/openai/whisper-large-v3-turbo": _answer_turbo,
    "@cf/openai/whisper-tiny-en": _answer_whisper,
}


# Fields


def _decode_as(
    encoding: str | None,
    body: JsonBody,
    data: bytes,
    is_cancelled: IsCancelled,
    *,
    separate: bool = False,
) -> Recording:
    """Decode sound whose encoding the request states, or the file."""
    rate = _read_number(body, "sample_rate", 4_000, 192_000)
    channels = _read_number(body, "channels", 1, 8)
    if encoding not in ("PCM_16", "ULAW"):
        unused = next((name for name in ("sample_rate", "channels") if body.get(name)), None)
        if unused is not None:
            raise errors.bad_input(f"{unused} must be omitted: the file says it")
        recording = _decode(data, None, is_cancelled, separate=separate)
        if encoding not in (None, recording.format):
            problem = f"encoding must be that of the audio, which is {recording.format}"
            raise errors.bad_input(f"{problem}, got {shorten(body['encoding'])}")
        return recording
    if rate is None:
        problem = "sample_rate must be given for samples without a header"
        raise errors.bad_input(f"{problem}, which is what encoding {body['encoding']!r} means")
    raw = RawFormat(encoding, round(rate), round(channels or 1))
    return _decode(data, raw, is_cancelled, separate=separate)


def _decode(
    data: bytes, raw: RawFormat | None, is_cancelled: IsCancelled, *, separate: bool = False
) -> Recording:
    backends.check_sound_library()
    try:
        return audio.decode(data, raw=raw, separate=separate, is_cancelled=is_cancelled)
    except AudioError as exc:
        raise errors.bad_input(f"audio cannot be read: {exc}") from exc


def _read_base64(body: JsonBody) -> bytes:
    value = body.get("audio")
    if isinstance(value, bytes):
        return value
    if isinstance(value, str) and value:
        return decode_base64("audio", value)
    raise _wrong_audio(value, "a base64 text")


def _read_integers(body: JsonBody) -> bytes:
    value = body.get("audio")
    if isinstance(value, bytes):
        return value
    if isinstance(value, list) and value:
        return decode_integers("audio", value)
    raise _wrong_audio(value, "a list of integers from 0 to 255, or the body of the request")


def _wrong_audio(value: object, rule: str) -> errors.ApiError:
    if value is None:
        return missing_fields("audio")
    return errors.bad_input(f"audio must be {rule}, got {shorten(value)}")


def _check_english(body: JsonBody, *names: str) -> None:
    for name in names:
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, str):
            raise errors.bad_input(f"{name} must be a language code, got {shorten(value)}")
        if value.lower().replace("_", "-").partition("-")[0] not in ("en", "english"):
            problem = "the local recognizer understands only English"
            raise errors.not_supported(f"{problem}: {name} is {shorten(value)}")


def _refuse(body: JsonBody, names: Mapping[str, Sequence[object]]) -> None:
    """Refuse what is not supported, unless its value asks for nothing."""
    for name, harmless in names.items():
        value = body.get(name)
        if value not in (None, False, "false", "", *harmless):
            problem = "must be omitted: the local recognizer does not support it"
            raise errors.bad_input(f"{name} {problem}, got {shorten(value)}")


def _read_flag(body: JsonBody, name: str) -> bool:
    """Read true or false; in a query, they are texts."""
    value = body.get(name)
    if value in (None, "false", "true") or isinstance(value, bool):
        return value in (True, "true")
    raise errors.bad_input(f"{name} must be true or false, got {shorten(value)}")


def _read_number(body: JsonBody, name: str, least: float, most: float) -> float | None:
    """Read a number; in a query, it is a text."""
    value = body.get(name)
    if value is None:
        return None
    try:
        number = float(value) if not isinstance(value, bool) else float("nan")
    except (TypeError, ValueError):
        number = float("nan")
    if not least <= number <= most:
        raise errors.bad_input(f"{name} must be from {least:g} to {most:g}, got {shorten(value)}")
    return number


def _read_choice(body: JsonBody, name: str, choices: Mapping[str, str]) -> str | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or value not in choices:
        raise errors.bad_input(f"{name} must be one of {', '.join(choices)}, got {shorten(value)}")
    return choices[value]


# Answers


def _join(segments: Sequence[Segment]) -> str:
    return " ".join(segment.text for segment in segments)


def _build_vtt(segments: Sequence[Segment]) -> str:
    """Return subtitles. Source of the format: W3C, "WebVTT: The Web Video Text Tracks Format"."""
    blocks = [
        f"{_format_time(segment.start)} --> {_format_time(segment.end)}\n{segment.text}"
        for segment in segments
    ]
    return "\n\n".join(["WEBVTT", *blocks])


def _format_time(seconds: float) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    return f"{minutes:02}:{milliseconds / 1000:06.3f}"


def _round(seconds: float) -> float:
    return round(seconds, 3)
