"""The test card: a drawn image that stands in for the answer of a text-to-image model, on request.

No model here generates images. The card says so, and shows the fields of the request.
"""

import io
import textwrap
from collections.abc import Sequence
from typing import Any

from cfai.local import errors
from cfai.local.backends.roles import IsCancelled
from cfai.local.handlers.media import build_image_answer
from cfai.local.models import ServedModel
from cfai.local.requests import JsonBody, check_fields, check_names
from cfai.tasks import TextToImage
from cfai.tasks.task import shorten

TEST_CARD = "test-card"
"""The name in the header `cfai-backend`."""

_SHOWN = ("negative_prompt", "guidance", "num_steps", "steps", "seed")
_NOT_SHOWN = ("image", "image_b64", "input_image_0", "mask", "strength")
"""The fields of models that change an image."""

_SIDE = 1024
"""In pixels, unless the request has `width` or `height`. Source: the schema of phoenix-1.0."""

_LINES = 15


def draw_card(model: ServedModel, body: JsonBody, is_cancelled: IsCancelled) -> tuple[Any, str]:
    """Answer a text-to-image task with a test card."""
    check_names(body, "prompt", "width", "height", *_SHOWN, *_NOT_SHOWN)
    check_fields(TextToImage, body)
    for name in _NOT_SHOWN:
        if body.get(name) is not None:
            raise errors.not_supported(f"the test card changes no image: omit {name}")
    steps = body.get("steps")
    if steps is not None and (not isinstance(steps, int) or isinstance(steps, bool) or steps < 1):
        raise errors.bad_input(f"steps must be an integer of at least 1, got {shorten(steps)}")
    width, height = (int(body.get(side) or _SIDE) for side in ("width", "height"))
    lines = ["No model made this image.", f"Model: {model.name}", f"Size: {width} x {height}"]
    lines += [f"{name}: {body[name]}" for name in _SHOWN if body.get(name) is not None]
    image = _draw(width, height, [*lines, f"Prompt: {body['prompt']}"])
    return build_image_answer(model, image, "image/png"), TEST_CARD


def _draw(width: int, height: int, lines: Sequence[str]) -> bytes:
    try:
        from PIL import Image, ImageDraw
    except ImportError as exc:
        raise errors.not_supported("this needs PIL: pip install 'cfai-sdk[vision]'") from exc
    size = min(width, height) // 24
    columns = int((width - 2 * size) / (0.6 * size))
    wrapped = [part for line in lines for part in textwrap.wrap(line[: columns * _LINES], columns)]
    card = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(card)
    draw.rectangle((0, 0, width - 1, height - 1), outline="black", width=size // 4)
    draw.text((size, size), "TEST CARD", fill="black", font_size=2 * size)
    text = "\n".join(wrapped[:_LINES])
    draw.multiline_text((size, 4 * size), text, fill="black", font_size=size)
    file = io.BytesIO()
    card.save(file, "PNG")
    return file.getvalue()
