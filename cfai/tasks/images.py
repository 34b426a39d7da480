"""The input of models that draw."""

from typing import ClassVar

from cfai.errors import InputError
from cfai.media import Source
from cfai.tasks._base import MediaTask, media, number, string, task
from cfai.tasks._media_answers import Image


@task
class TextToImage(MediaTask[Image]):
    """Draw an image from a description.

    The answer is one encoded image; the model chooses the encoding (`Image.media_type`).
    What only some models know (`steps`, say) goes into `extra`, as does a value beyond the bounds
    here that a model allows.

    Source: Workers AI API, `POST /ai/run/{model_name}`, input "Text To Image".
    """

    answer: ClassVar[type[Image]] = Image

    prompt: str = string(at_least=1, kw_only=False)
    """What to draw; at least 1 character."""

    guidance: float | None = number(default=None)
    """How closely to follow the prompt; higher values follow it more closely."""

    height: float | None = number(256, 2048, default=None)
    """In pixels, from 256 to 2048."""

    image: Source | None = media(default=None)
    """The image to start from: bytes, a path, an open binary file or `Base64`."""

    image_b64: str | None = string(default=None)
    """The same, as base64 text; give one of the two."""

    mask: Source | None = media(default=None)
    """Where to draw anew: an image of the size of *image*."""

    negative_prompt: str | None = string(default=None)
    """What not to draw."""

    num_steps: float | None = number(None, 20, default=None)
    """How many diffusion steps, at most 20; more take longer, and can draw better."""

    seed: float | None = number(default=None)
    """The same seed draws the same image again, as far as the model can."""

    strength: float | None = number(0, 1, default=None)
    """How far to depart from *image*: 0 keeps it, 1 ignores it. Only used together with *image*."""

    width: float | None = number(256, 2048, default=None)
    """In pixels, from 256 to 2048."""

    def __attrs_post_init__(self) -> None:
        if self.image is not None and self.image_b64 is not None:
            raise InputError("image and image_b64 must not both be given: they mean the same")
