"""Handlers of text to speech. They block and run in a worker thread.

Sources: the input schemas of the models' cards; for what belongs together, Deepgram docs, "TTS
Encoding", "Container", "Sample Rate" and "Bit Rate".
"""

import unicodedata
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from cfai.local import audio, backends, errors
from cfai.local.audio import SoundFormat
from cfai.local.backends.hibari import RATE
from cfai.local.backends.roles import IsCancelled
from cfai.local.models import ServedModel
from cfai.local.requests import JsonBody, check_fields, check_names
from cfai.tasks import SpeechSynthesis, TextToSpeech
from cfai.tasks.task import shorten

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]


_LONGEST = 20_000
"""Characters of a text: more than 20 minutes of sound."""


@frozen
class SoundStream:
    """An answer that is sound, sent while it is spoken."""

    media_type: str
    chunks: Iterator[bytes]
    """To be asked for in a worker thread, one at a time; a chunk may be empty."""
    voice: str
    """The voice that speaks, whatever speaker was asked for."""
    in_json: bool = False
    """Whether the answer is the whole sound, as base64 in JSON."""


def build_sound_result(sound: bytes) -> dict[str, str]:
    """Return the result of a model that answers with JSON."""
    return {"audio": b64encode(sound).decode()}


def speak(model: ServedModel, body: JsonBody, is_cancelled: IsCancelled) -> tuple[Any, str]:
    """Answer a request to speak a text, in the form of the model."""
    if model.name == "@cf/myshell-ai/melotts":
        return _answer_melo(body)
    if model.name not in _SPEAKERS:
        raise errors.not_supported(f"the local voice speaks only English, {model.name} does not")
    return _answer_aura(body, _SPEAKERS[model.name])


def _answer_melo(body: JsonBody) -> tuple[Any, str]:
    check_names(body, "prompt", "lang")
    check_fields(TextToSpeech, body)
    language = body.get("lang")
    if language is not None and language.lower().replace("_", "-").partition("-")[0] != "en":
        problem = "the local voice speaks only English"
        raise errors.not_supported(f"{problem}: lang is {shorten(language)}")
    _check_readable("prompt", body["prompt"])
    return _speak("prompt", body["prompt"], _FORMATS["mp3"].sound, in_json=True)


def _answer_aura(body: JsonBody, speakers: frozenset[str]) -> tuple[Any, str]:
    check_names(body, "text", "speaker", "encoding", "container", "sample_rate", "bit_rate")
    check_fields(SpeechSynthesis, body)
    speaker = body.get("speaker")
    if speaker is not None and speaker not in speakers:
        names = ", ".join(sorted(speakers))
        raise errors.bad_input(f"speaker must be one of {names}, got {shorten(speaker)}")
    if not body["text"].strip():
        raise errors.bad_input("text must not be empty")
    _check_readable("text", body["text"])
    return _speak("text", body["text"], _choose_format(body))


def _speak(
    name: str, text: str, target: SoundFormat, *, in_json: bool = False
) -> tuple[SoundStream, str]:
    backend = backends.speaker()
    backends.check_sound_library()
    chunks = audio.encode(_check_spoken(name, text, backend.speak(text)), RATE, target)
    return SoundStream(target.media_type, chunks, backend.name, in_json), backend.name


def _check_spoken(name: str, text: str, pieces: "Iterator[Samples]") -> "Iterator[Samples]":
    """Pass the pieces of a text on, and reject it at the end if none has a sound."""
    is_silent = True
    for piece in pieces:
        is_silent = is_silent and not len(piece)
        yield piece
    if is_silent:
        raise errors.bad_input(f"{name} must have words, got {shorten(text)}")


def _check_readable(name: str, text: str) -> None:
    check_length(name, text)
    if not any(map(str.isalnum, text)):
        raise errors.bad_input(f"{name} must have a letter or a digit, got {shorten(text)}")
    check_script(name, text)


def check_length(name: str, text: str) -> None:
    """Check that a text is not too long to be spoken.

    Raises:
        ApiError: It is.
    """
    if len(text) > _LONGEST:
        raise errors.text_too_long(name, len(text), _LONGEST)


def check_script(name: str, text: str) -> None:
    """Check that the voice can read a text: it would leave out other scripts than Latin.

    Raises:
        ApiError: The text has a letter or digit of another script.
    """
    foreign = next((char for char in text if char.isalnum() and not _is_latin(char)), None)
    if foreign is not None:
        raise errors.not_supported(f"the local voice speaks only English: {name} has {foreign!r}")


def _is_latin(character: str) -> bool:
    # The first blocks of Unicode have signs such as µ and ², too.
    return ord(character) < 0x250 or unicodedata.name(character, "").startswith("LATIN")


# Formats


@frozen
class _Format:
    """A format and what can be chosen of it. The first container and rate are the defaults."""

    sound: SoundFormat
    containers: tuple[str, ...]
    rates: tuple[int, ...]
    bit_rates: tuple[int, int] | None = None
    """The least and the most, if it has a bit rate."""


_TELEPHONE = (8000, 16000)

_FORMATS: Mapping[str, _Format] = {
    "mp3": _Format(
        SoundFormat("audio/mpeg", "MP3", "MPEG_LAYER_III", 22050, quality=(160 - 48) / 152),
        ("none",),
        (22050,),
        (32_000, 48_000),
    ),
    "linear16": _Format(
        SoundFormat("audio/l16", "RAW", "PCM_16", 24000),
        ("wav", "none"),
        (24000, 8000, 16000, 32000, 48000),
    ),
    "flac": _Format(
        SoundFormat("audio/flac", "FLAC", "PCM_16", 22050, streams=False),
        ("none",),
        (22050, 8000, 16000, 32000, 48000),
    ),
    "mulaw": _Format(SoundFormat("audio/mulaw", "RAW", "ULAW", 8000), ("wav", "none"), _TELEPHONE),
    "alaw": _Format(SoundFormat("audio/alaw", "RAW", "ALAW", 8000), ("wav", "none"), _TELEPHONE),
    "opus": _Format(
        SoundFormat("audio/ogg", "OGG", "OPUS", 48000, quality=(256 - 12) / 250),
        ("ogg",),
        (48000,),
        (6_000, 256_000),
    ),
}
"""The formats by encoding. The service's default is MP3."""


def _choose_format(body: JsonBody) -> SoundFormat:
    """Return the format that the fields describe.

    Raises:
        ApiError: They do not fit together, or it cannot be written here.
    """
    encoding = body.get("encoding") or "mp3"
    if encoding not in _FORMATS:
        raise errors.not_supported(f"the local voice cannot write this: encoding is {encoding!r}")
    choices = _FORMATS[encoding]
    container = body.get("container") or choices.containers[0]
    if container not in choices.containers:
        names = ", ".join(choices.containers)
        raise errors.bad_input(
            f"container must be one of {names} for encoding {encoding!r}, got {container!r}"
        )
    rate = body.get("sample_rate") or choices.rates[0]
    if rate not in choices.rates:
        names = ", ".join(map(str, sorted(choices.rates)))
        raise errors.bad_input(
            f"sample_rate must be one of {names} for encoding {encoding!r}, got {rate}"
        )
    sound = evolve(choices.sound, rate=int(rate), quality=_choose_quality(body, encoding, choices))
    if container == "wav":
        sound = evolve(sound, media_type="audio/wav", format="WAV", streams=False)
    elif sound.format == "RAW":
        sound = evolve(sound, media_type=f"{sound.media_type};rate={sound.rate};channels=1")
    return sound


def _choose_quality(body: JsonBody, encoding: str, choices: _Format) -> float | None:
    """Return libsndfile's level of compression for the bit rate: it maps them linearly."""
    bit_rate = body.get("bit_rate")
    if bit_rate is None:
        return choices.sound.quality
    if choices.bit_rates is None:
        raise errors.bad_input(f"bit_rate must be omitted for encoding {encoding!r}")
    least, most = choices.bit_rates
    if not least <= bit_rate <= most or (encoding == "mp3" and bit_rate not in (least, most)):
        rule = f"{least} or {most}" if encoding == "mp3" else f"from {least} to {most}"
        raise errors.bad_input(
            f"bit_rate must be {rule} for encoding {encoding!r}, got {bit_rate:g}"
        )
    lowest, highest = (8_000, 160_000) if encoding == "mp3" else choices.bit_rates
    return float((highest - bit_rate) / (highest - lowest))


# Source: the input schemas of the models.
_AURA_1 = "angus asteria arcas orion orpheus athena luna zeus perseus helios hera stella"
_AURA_2 = (
    "amalthea andromeda apollo arcas aries asteria athena atlas aurora callista cora cordelia "
    "delia draco electra harmonia helena hera hermes hyperion iris janus juno jupiter luna mars "
    "minerva neptune odysseus ophelia orion orpheus pandora phoebe pluto saturn thalia theia "
    "vesta zeus"
)
_SPEAKERS: Mapping[str, frozenset[str]] = {
    "@cf/deepgram/aura-1": frozenset(_AURA_1.split()),
    "@cf/deepgram/aura-2-en": frozenset(_AURA_2.split()),
}
