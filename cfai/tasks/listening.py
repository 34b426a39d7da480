"""Realtime transcription: the parameters of a session, and the events that it receives.

How they are sent and read is in `cfai/_wire/realtime.py`.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, TypedDict

from attrs import field, frozen

from cfai._types.excerpts import format_value
from cfai._types.values import Value
from cfai.errors import InputError
from cfai.tasks.media import Transcript, Word
from cfai.tasks.task import (
    Task,
    choice,
    flag,
    integer,
    nested,
    number,
    string as text_field,
    strings,
    task,
)

# Parameters


def _parse_endpointing(value: Any) -> int | bool:
    if value is not False and (type(value) is not int or value < 0):
        raise InputError(f"must be a number of milliseconds, or False, got {format_value(value)}")
    milliseconds: int | bool = value
    return milliseconds


@task
class NovaListening(Task[Transcript]):
    """A session of @cf/deepgram/nova-3, or of a model that takes the same parameters.

    Source: the input schema of @cf/deepgram/nova-3 (workers-types 5.20261117.1). It has no
    `sample_rate`, which AI Gateway's "Realtime WebSockets API" and cloudflare/agents do send.
    """

    answer: ClassVar[type[Transcript]] = Transcript

    encoding: str | None = choice(
        "linear16", "flac", "mulaw", "amr-nb", "amr-wb", "opus", "speex", "g729", default=None
    )
    """How the audio is encoded; linear16 is signed 16-bit PCM, little-endian. Left out for audio
    inside a container, such as the bytes of a WebM or WAV file."""

    sample_rate: int | None = integer(1, default=None)
    """In samples per second: needed for linear16."""

    channels: int | None = integer(1, default=None)
    """The number of channels."""

    multichannel: bool | None = flag(default=None)
    """Transcribe each channel by itself; `channel` of an event names it."""

    language: str | None = text_field(at_least=1, default=None)
    """The BCP-47 tag of the spoken language."""

    detect_language: bool | None = flag(default=None)
    """Detect the language."""

    mode: str | None = choice("general", "medical", "finance", default=None)
    """The area that is talked about."""

    interim_results: bool | None = flag(default=None)
    """Send a `Partial` while a passage is still spoken. The service's default is false."""

    endpointing: int | Literal[False] | None = nested(_parse_endpointing, kind="JSON", default=None)
    """Milliseconds of silence after which a passage is final, with `speech_final`; False to turn
    that off."""

    utterance_end_ms: int | None = integer(1, default=None)
    """Milliseconds without a word after which an `UtteranceEnd` is sent; with *interim_results*.
    The service's schema calls it a boolean; Deepgram's documentation has milliseconds."""

    vad_events: bool | None = flag(default=None)
    """Send `SpeechStarted`."""

    punctuate: bool | None = flag(default=None)
    """Add punctuation and capitals."""

    smart_format: bool | None = flag(default=None)
    """Format numbers, dates and the like."""

    numerals: bool | None = flag(default=None)
    """Write numbers in digits."""

    measurements: bool | None = flag(default=None)
    """Abbreviate measurements."""

    dictation: bool | None = flag(default=None)
    """Turn spoken commands for punctuation into the marks."""

    filler_words: bool | None = flag(default=None)
    """Keep words like "uh"."""

    profanity_filter: bool | None = flag(default=None)
    """Replace or remove profanity."""

    diarize: bool | None = flag(default=None)
    """Number the speakers, from 0: `SpokenWord.speaker`."""

    keyterm: str | Sequence[str] | None = strings(one=True, at_least=1, default=None)
    """Terms to recognize better. Several are sent as several parameters."""

    keywords: str | Sequence[str] | None = strings(one=True, at_least=1, default=None)
    """Words to boost or suppress."""

    redact: str | Sequence[str] | None = strings(one=True, at_least=1, default=None)
    """Kinds of sensitive information to remove."""

    mip_opt_out: bool | None = flag(default=None)
    """Opt out of Deepgram's program for improving models, which may change the price."""

    def __attrs_post_init__(self) -> None:
        if self.encoding == "linear16" and self.sample_rate is None:
            raise InputError("sample_rate must be set with encoding linear16, got None")


@task
class FluxListening(Task[Transcript]):
    """A session of @cf/deepgram/flux, which knows the turns of a conversation.

    Source: the input schema of @cf/deepgram/flux (model card, workers-types 5.20261117.1).
    """

    answer: ClassVar[type[Transcript]] = Transcript

    encoding: str = choice("linear16")
    """How the audio is encoded: signed 16-bit PCM, little-endian."""

    sample_rate: int = integer(1)
    """In samples per second."""

    eager_eot_threshold: float | None = number(0.3, 0.9, default=None)
    """The confidence that ends a turn provisionally, from 0.3 to 0.9. If it is set, there are
    `EagerEndOfTurn` and `TurnResumed`."""

    eot_threshold: float | None = number(0.5, 0.9, default=None)
    """The confidence that ends a turn, from 0.5 to 0.9. The service's default is 0.7."""

    eot_timeout_ms: int | None = integer(0, default=None)
    """Milliseconds of silence that end a turn in any case. The service's default is 5000."""

    keyterm: str | Sequence[str] | None = strings(one=True, at_least=1, default=None)
    """Terms to recognize better. Several are sent as several parameters."""

    tag: str | Sequence[str] | None = strings(one=True, at_least=1, default=None)
    """Labels for the reports of usage."""

    mip_opt_out: bool | None = flag(default=None)
    """Opt out of Deepgram's program for improving models, which may change the price."""


class ListenParameters(TypedDict, total=False):
    """The parameters of `WorkersAI.listen`: those of nova-3 and those of flux."""

    encoding: str
    sample_rate: int
    channels: int
    multichannel: bool
    language: str
    detect_language: bool
    mode: str
    interim_results: bool
    endpointing: int | Literal[False]
    utterance_end_ms: int
    vad_events: bool
    punctuate: bool
    smart_format: bool
    numerals: bool
    measurements: bool
    dictation: bool
    filler_words: bool
    profanity_filter: bool
    diarize: bool
    keyterm: str | Sequence[str]
    keywords: str | Sequence[str]
    redact: str | Sequence[str]
    mip_opt_out: bool
    eager_eot_threshold: float
    eot_threshold: float
    eot_timeout_ms: int
    tag: str | Sequence[str]


# Events


@frozen(eq=False, repr=False)
class SpeechEvent(Value):
    """A message of a realtime session. One that nobody documented is a bare `SpeechEvent`."""

    raw: Any = field(default=None, kw_only=True, repr=False, eq=False)
    """The decoded JSON as it was received; the text or the bytes if it is not JSON."""


@frozen(eq=False, repr=False)
class SessionInfo(SpeechEvent):
    """`Connected` or `Metadata`: facts about the session. It may come at any time, and again."""

    request_id: str | None = field(default=None, kw_only=True)
    """The id of the session, which support asks for."""

    model_name: str | None = field(default=None, kw_only=True)
    model_version: str | None = field(default=None, kw_only=True)


@frozen(eq=False, repr=False)
class SpokenWord(Word):
    """A word of a session. flux sends no times."""

    confidence: float | None = field(default=None, kw_only=True)
    """From 0 to 1."""

    punctuated: str | None = field(default=None, kw_only=True)
    """The word with capitals and punctuation, if requested."""

    speaker: int | None = field(default=None, kw_only=True)
    """The number of the speaker, with `diarize`."""


@frozen(eq=False, repr=False)
class SpeechText(SpeechEvent):
    """A passage of speech. `str()` of it is the text."""

    text: str
    words: tuple[SpokenWord, ...] = field(default=(), kw_only=True)

    start: float | None = field(default=None, kw_only=True)
    """Where the passage starts, in seconds from the beginning of the audio."""

    end: float | None = field(default=None, kw_only=True)
    """Where it ends."""

    confidence: float | None = field(default=None, kw_only=True)
    """From 0 to 1."""

    channel: int | None = field(default=None, kw_only=True)
    """The number of the channel, with `multichannel`."""

    turn: int | None = field(default=None, kw_only=True)
    """The number of the turn, from 0 (flux)."""

    end_of_turn_confidence: float | None = field(default=None, kw_only=True)
    """How sure the model is that the turn is over, from 0 to 1 (flux)."""

    def __str__(self) -> str:
        return self.text


@frozen(eq=False, repr=False)
class Partial(SpeechText):
    """What was understood so far of a passage that is still spoken. The next event replaces it."""


@frozen(eq=False, repr=False)
class Final(SpeechText):
    """A passage that does not change any more (nova-3)."""

    speech_final: bool = field(default=False, kw_only=True)
    """Whether the speaker paused after it."""


@frozen(eq=False, repr=False)
class SpeechStarted(SpeechEvent):
    """Somebody began to speak (nova-3, with `vad_events`)."""

    time: float | None = field(default=None, kw_only=True)
    """In seconds from the beginning of the audio."""

    channel: int | None = field(default=None, kw_only=True)


@frozen(eq=False, repr=False)
class UtteranceEnd(SpeechEvent):
    """Nobody has spoken for `utterance_end_ms` (nova-3)."""

    last_word_end: float | None = field(default=None, kw_only=True)
    """Where the last word ended, in seconds from the beginning of the audio."""

    channel: int | None = field(default=None, kw_only=True)


@frozen(eq=False, repr=False)
class TurnStarted(SpeechText):
    """A turn began (flux): the moment to silence a voice that still speaks."""


@frozen(eq=False, repr=False)
class EagerEndOfTurn(SpeechText):
    """The turn is probably over (flux): an answer can be prepared."""


@frozen(eq=False, repr=False)
class TurnResumed(SpeechText):
    """The turn goes on after an `EagerEndOfTurn` (flux): a prepared answer is void."""


@frozen(eq=False, repr=False)
class TurnEnded(SpeechText):
    """The turn is over (flux). Its text is final."""
