"""Inputs of models that listen and speak."""

from typing import ClassVar

from cfai.media import Source
from cfai.tasks._base import MediaTask, Task, choice, media, number, string, task
from cfai.tasks._media_answers import Audio, Transcript


@task
class AutomaticSpeechRecognition(MediaTask[Transcript]):
    """Write down what is said in a recording.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Automatic Speech Recognition".
    """

    answer: ClassVar[type[Transcript]] = Transcript

    audio: Source = media(kw_only=False)
    """The recording: bytes, a path, an open binary file or `Base64`."""

    source_lang: str | None = string(default=None)
    """The language that is spoken, by its code."""

    target_lang: str | None = string(default=None)
    """The language to translate into; the service knows English only."""


@task
class TextToSpeech(Task[Audio]):
    """Say a text aloud.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Text To Speech".
    """

    answer: ClassVar[type[Audio]] = Audio

    prompt: str = string(at_least=1, kw_only=False)
    """What to say; at least 1 character."""

    lang: str | None = string(default=None)
    """The language, by its code ("fr" for French); English, where it is left out."""


@task
class SpeechSynthesis(Task[Audio]):
    """Say a text aloud, with a choice of voices and encodings (the aura models).

    Source: the input schemas of @cf/deepgram/aura-1, aura-2-en and aura-2-es.
    """

    answer: ClassVar[type[Audio]] = Audio

    text: str = string(kw_only=False)
    """What to say."""

    speaker: str | None = string(default=None)
    """The voice; which there are depends on the model."""

    encoding: str | None = choice(
        "linear16", "flac", "mulaw", "alaw", "mp3", "opus", "aac", default=None
    )
    """How the sound is encoded."""

    container: str | None = choice("none", "wav", "ogg", default=None)
    """What the sound is wrapped in; which of them are possible depends on *encoding*."""

    sample_rate: float | None = number(default=None)
    """In samples a second; which are possible depends on *encoding*."""

    bit_rate: float | None = number(default=None)
    """In bits a second; which are possible depends on *encoding*."""
