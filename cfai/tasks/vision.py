"""Inputs of models that look at an image: what it shows, and what is said of it."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from cfai.media import MediaForm, Source
from cfai.tasks._base import MediaTask, flag, many, media, number, string, task
from cfai.tasks._text_answers import Description
from cfai.tasks._vector_answers import Detections, Labels
from cfai.tasks.messages import Message, blocking


@task
class ImageClassification(MediaTask[Labels]):
    """Say what an image shows.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Image Classification".
    """

    answer: ClassVar[type[Labels]] = Labels

    image: Source = media(kw_only=False)
    """The image: bytes, a path, an open binary file or `Base64`."""


@task
class ObjectDetection(MediaTask[Detections]):
    """Find the objects in an image.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Object Detection".
    """

    answer: ClassVar[type[Detections]] = Detections

    # The schema calls it optional, but there is nothing else that a request could hold.
    image: Source = media(kw_only=False)
    """The image: bytes, a path, an open binary file or `Base64`."""


@task
class _Seeing(MediaTask[Description]):
    """How the text about an image is to be written. The API states no bounds for these."""

    answer: ClassVar[type[Description]] = Description

    frequency_penalty: float | None = number(default=None)
    """Higher values make the same lines less likely to come again."""

    max_tokens: float | None = number(default=None)
    """The longest text, in tokens."""

    presence_penalty: float | None = number(default=None)
    """Higher values make new topics more likely."""

    repetition_penalty: float | None = number(default=None)
    """Higher values discourage repeated tokens."""

    seed: float | None = number(default=None)
    """The same seed gives the same text again, as far as the model can."""

    temperature: float | None = number(default=None)
    """Higher values give more random texts."""

    top_k: float | None = number(default=None)
    """Out of how many of the likeliest tokens the next one is chosen."""

    top_p: float | None = number(default=None)
    """Lower values keep to likelier tokens."""


@task
class ImageToText(_Seeing):
    """Describe an image, or answer a question about it.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Image To Text".
    """

    image: Source = media(kw_only=False)
    """The image: bytes, a path, an open binary file or `Base64`."""

    prompt: str | None = string(default=None)
    """What to say about the image."""

    raw: bool | None = flag(default=None)
    """True for a prompt that is in the model's own format already: no chat template is applied."""


@task
class ImagePrompt(_Seeing):
    """Answer a prompt about an image.

    Source: Workers AI API, `POST /ai/run/{model_name}`, the input without a name that holds
    `image` (base64) and `prompt`.
    """

    form: ClassVar[MediaForm | None] = MediaForm.BASE64

    image: Source = media(kw_only=False)
    """The image: bytes, a path, an open binary file or `Base64`."""

    prompt: str = string(at_least=1, kw_only=False)
    """What to say about the image; at least 1 character."""

    ignore_eos: bool | None = flag(default=None)
    """True to go on writing after the model's end mark."""


@task
class ImageTextToText(_Seeing):
    """Say what comes next in a conversation about an image.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Image Text To Text".
    """

    form: ClassVar[MediaForm | None] = MediaForm.BASE64

    image: Source = media(kw_only=False)
    """The image: bytes, a path, an open binary file or `Base64`."""

    messages: Sequence[Message | Mapping[str, Any]] = many(Message.of, at_least=1, kw_only=False)
    """The conversation so far, at least one message. Kept as a tuple."""

    ignore_eos: bool | None = flag(default=None)
    """True to go on writing after the model's end mark."""

    def blocks(self) -> bool:
        """Tell whether the image, or one in the messages, is a file to be read."""
        return super().blocks() or blocking(self.messages)
