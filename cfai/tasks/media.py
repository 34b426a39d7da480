"""The tasks with images and sounds: image generation, vision, transcription and speech; and the
answers that only they have.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from attrs import frozen

from cfai._types.values import Value
from cfai.errors import InputError
from cfai.media import MediaForm, Source
from cfai.tasks.answers import AnswerItems, Audio, Description, Image
from cfai.tasks.generation import WrittenAnswer
from cfai.tasks.language import Labels
from cfai.tasks.messages import Message, any_read_files
from cfai.tasks.task import MediaTask, Task, choice, flag, many, media, number, string, task

# Answers


@frozen(eq=False, repr=False)
class Word(Value):
    """A word of a recording."""

    word: str
    start: float | None = None
    """Where the word starts, in seconds from the beginning."""

    end: float | None = None
    """Where the word ends, in seconds from the beginning."""


@frozen(eq=False, repr=False)
class Segment(Value):
    """A part of a recording, often a sentence."""

    text: str
    start: float | None = None
    """Where the segment starts, in seconds from the beginning."""

    end: float | None = None
    """Where the segment ends, in seconds from the beginning."""

    words: tuple[Word, ...] = ()


@frozen(eq=False, repr=False)
class Transcript(WrittenAnswer):
    """The text of a recording. `str()` of the answer is the text."""

    vtt: str | None = None
    """Subtitles (WebVTT), if the model generates them."""

    word_count: int | None = None
    words: tuple[Word, ...] = ()
    """All words, with their times."""

    segments: tuple[Segment, ...] = ()
    info: Mapping[str, Any] | None = None
    """Further facts about the recording, such as its language and duration."""


@frozen(eq=False, repr=False)
class Box(Value):
    """A rectangle in an image, in pixels from its top left corner."""

    xmin: float
    ymin: float
    xmax: float
    ymax: float


@frozen(eq=False, repr=False)
class Detection(Value):
    """An object detected in an image."""

    label: str
    score: float
    """From 0 to 1."""

    box: Box


@frozen(eq=False, repr=False)
class Detections(AnswerItems[Detection]):
    """The objects in an image, in the service's order."""


# Images


@task
class TextToImage(MediaTask[Image]):
    """Generate an image from a description.

    The answer is one encoded image; the model chooses the encoding (`Image.media_type`).
    Pass fields that only some models have (such as `steps`) in `extra`, and also values outside
    the bounds here that your model allows.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Text To Image".
    """

    answer: ClassVar[type[Image]] = Image

    prompt: str = string(at_least=1, kw_only=False)
    """The description; at least 1 character."""

    guidance: float | None = number(default=None)
    """How closely to follow the prompt; higher values follow it more closely."""

    height: float | None = number(256, 2048, default=None)
    """In pixels, from 256 to 2048."""

    image: Source | None = media(default=None)
    """The image to start from: bytes, a path, an open binary file or `Base64`."""

    image_b64: str | None = string(default=None)
    """The image to start from as base64 text. Set only one of the two."""

    mask: Source | None = media(default=None)
    """The area to redraw: an image of the same size as *image*."""

    negative_prompt: str | None = string(default=None)
    """What the image must not show."""

    num_steps: float | None = number(None, 20, default=None)
    """The number of diffusion steps, at most 20. More steps take longer and can look better."""

    seed: float | None = number(default=None)
    """The same seed gives the same image, as far as the model allows."""

    strength: float | None = number(0, 1, default=None)
    """How much to change *image*: 0 keeps it, 1 ignores it. Only used together with *image*."""

    width: float | None = number(256, 2048, default=None)
    """In pixels, from 256 to 2048."""

    def __attrs_post_init__(self) -> None:
        if self.image is not None and self.image_b64 is not None:
            raise InputError("image and image_b64 must not both be set: they are the same field")


# Vision


@task
class ImageClassification(MediaTask[Labels]):
    """Classify an image.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Image Classification".
    """

    answer: ClassVar[type[Labels]] = Labels

    image: Source = media(kw_only=False)
    """The image: bytes, a path, an open binary file or `Base64`."""


@task
class ObjectDetection(MediaTask[Detections]):
    """Detect the objects in an image.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Object Detection".
    """

    answer: ClassVar[type[Detections]] = Detections

    # The schema makes it optional, but a request has no other field.
    image: Source = media(kw_only=False)
    """The image: bytes, a path, an open binary file or `Base64`."""


@task
class _ImageDescription(MediaTask[Description]):
    """The image and the sampling options of tasks that write about it. The API states no bounds."""

    answer: ClassVar[type[Description]] = Description

    image: Source = media(kw_only=False)
    """The image: bytes, a path, an open binary file or `Base64`."""

    frequency_penalty: float | None = number(default=None)
    """Higher values make repetition of the same lines less likely."""

    max_tokens: float | None = number(default=None)
    """The maximum length of the text, in tokens."""

    presence_penalty: float | None = number(default=None)
    """Higher values make new topics more likely."""

    repetition_penalty: float | None = number(default=None)
    """Higher values make repeated tokens less likely."""

    seed: float | None = number(default=None)
    """The same seed gives the same text, as far as the model allows."""

    temperature: float | None = number(default=None)
    """Higher values make the text more random."""

    top_k: float | None = number(default=None)
    """Sample from the *top_k* most likely tokens."""

    top_p: float | None = number(default=None)
    """Lower values make the text more predictable."""


@task
class ImageToText(_ImageDescription):
    """Describe an image, or answer a question about it.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Image To Text".
    """

    prompt: str | None = string(default=None)
    """The question or instruction."""

    raw: bool | None = flag(default=None)
    """True if the prompt is in the model's own format: no chat template is applied."""


@task
class ImagePrompt(_ImageDescription):
    """Answer a prompt about an image.

    Source: Workers AI API, `POST /ai/run/{model_name}`, the unnamed input with `image` (base64) and
    `prompt`.
    """

    form: ClassVar[MediaForm | None] = MediaForm.BASE64

    prompt: str = string(at_least=1, kw_only=False)
    """The question or instruction; at least 1 character."""

    ignore_eos: bool | None = flag(default=None)
    """True to continue after the model's end-of-sequence token."""


@task
class ImageTextToText(_ImageDescription):
    """Continue a conversation about an image.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Image Text To Text".
    """

    form: ClassVar[MediaForm | None] = MediaForm.BASE64

    messages: Sequence[Message | Mapping[str, Any]] = many(Message.of, at_least=1, kw_only=False)
    """The conversation so far, at least one message. Stored as a tuple."""

    ignore_eos: bool | None = flag(default=None)
    """True to continue after the model's end-of-sequence token."""

    def reads_files(self) -> bool:
        """Tell whether the image, or one in the messages, is a file."""
        return super().reads_files() or any_read_files(self.messages)


# Audio


@task
class AutomaticSpeechRecognition(MediaTask[Transcript]):
    """Transcribe a recording.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Automatic Speech Recognition".
    """

    answer: ClassVar[type[Transcript]] = Transcript

    audio: Source = media(kw_only=False)
    """The recording: bytes, a path, an open binary file or `Base64`."""

    source_lang: str | None = string(default=None)
    """The code of the spoken language."""

    target_lang: str | None = string(default=None)
    """The code of the language to translate into. The service supports only English."""


@task
class TextToSpeech(Task[Audio]):
    """Speak a text.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Text To Speech".
    """

    answer: ClassVar[type[Audio]] = Audio

    prompt: str = string(at_least=1, kw_only=False)
    """The text to speak; at least 1 character."""

    lang: str | None = string(default=None)
    """The language code ("fr" for French); English by default."""


@task
class SpeechSynthesis(Task[Audio]):
    """Speak a text with a choice of voices and encodings (the aura models).

    Source: the input schemas of @cf/deepgram/aura-1, aura-2-en and aura-2-es.
    """

    answer: ClassVar[type[Audio]] = Audio

    text: str = string(kw_only=False)
    """The text to speak."""

    speaker: str | None = string(default=None)
    """The voice; the choice depends on the model."""

    encoding: str | None = choice(
        "linear16", "flac", "mulaw", "alaw", "mp3", "opus", "aac", default=None
    )
    """The audio encoding."""

    container: str | None = choice("none", "wav", "ogg", default=None)
    """The file format; the choice depends on *encoding*."""

    sample_rate: float | None = number(default=None)
    """In samples per second; the choice depends on *encoding*."""

    bit_rate: float | None = number(default=None)
    """In bits per second; the choice depends on *encoding*."""
