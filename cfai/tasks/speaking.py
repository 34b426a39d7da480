"""Realtime speech: the parameters of a session, and what it receives.

How they are sent and read is in `cfai/_wire/realtime.py`.
"""

from typing import ClassVar, Final, TypedDict

from attrs import field, frozen

from cfai.tasks.answers import Audio
from cfai.tasks.listening import SpeechEvent
from cfai.tasks.task import Task, choice, integer, string, task

_AURA_RATE: Final = 24000
"""Samples per second of linear16, unless requested otherwise.
Source: Cloudflare docs, ai-gateway/usage/websockets-api/realtime-api.mdx@0c50ffa."""


@task
class AuraSpeaking(Task[Audio]):
    """A session of aura-1, aura-2-en or aura-2-es.

    Source: the input schemas of @cf/deepgram/aura-1, aura-2-en and aura-2-es, without the text;
    AI Gateway's "Realtime WebSockets API".
    """

    answer: ClassVar[type[Audio]] = Audio

    speaker: str | None = string(at_least=1, default=None)
    """The voice; the choice depends on the model."""

    encoding: str | None = choice(
        "linear16", "flac", "mulaw", "alaw", "mp3", "opus", "aac", default=None
    )
    """The audio encoding. By default, the service sends linear16: signed 16-bit PCM, little-endian,
    one channel."""

    container: str | None = choice("none", "wav", "ogg", default=None)
    """The file format; the choice depends on *encoding*."""

    sample_rate: int | None = integer(1, default=None)
    """In samples per second. The service's default is 24000 for linear16."""

    bit_rate: int | None = integer(1, default=None)
    """In bits per second; the choice depends on *encoding*."""

    @property
    def rate_of_answer(self) -> int | None:
        """The sample rate of the audio that comes; `None` if it is in the audio, or not known."""
        if self.encoding in (None, "linear16") and self.sample_rate is None:
            return _AURA_RATE
        return self.sample_rate


class SpeakParameters(TypedDict, total=False):
    """The parameters of `WorkersAI.speak`."""

    speaker: str
    encoding: str
    container: str
    sample_rate: int
    bit_rate: int


@frozen(eq=False, repr=False)
class AudioChunk(SpeechEvent):
    """A piece of the sound. `bytes()` of it are its bytes."""

    data: bytes = field(repr=False)

    encoding: str = field(default="linear16", kw_only=True)
    """How the bytes are encoded: linear16 is signed 16-bit PCM, little-endian, one channel."""

    sample_rate: int | None = field(default=None, kw_only=True)
    """In samples per second; `None` if it is in the audio, or not known."""

    def __bytes__(self) -> bytes:
        return self.data

    def __len__(self) -> int:
        return len(self.data)

    @property
    def seconds(self) -> float | None:
        """How long it lasts; `None` if that is not known."""
        if self.encoding != "linear16" or not self.sample_rate:
            return None
        return len(self.data) / 2 / self.sample_rate


@frozen(eq=False, repr=False)
class Flushed(SpeechEvent):
    """All audio of the text before a `flush` was sent."""

    sequence_id: int | None = field(default=None, kw_only=True)


@frozen(eq=False, repr=False)
class Cleared(SpeechEvent):
    """The service dropped what it had not spoken yet."""

    sequence_id: int | None = field(default=None, kw_only=True)


@frozen(eq=False, repr=False)
class SpeechWarning(SpeechEvent):
    """The service did something else than requested. The session goes on."""

    description: str = field(default="", kw_only=True)
    code: str | None = field(default=None, kw_only=True)
