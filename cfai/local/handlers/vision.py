"""Handlers of the tasks with images: labels, objects, and a sentence about an image.

Everything here blocks and runs in a worker thread.
"""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cfai.local import backends, errors, images
from cfai.local.backends import wordpiece
from cfai.local.backends.roles import IsCancelled
from cfai.local.handlers.media import read_media
from cfai.local.images import ImageError
from cfai.local.models import ServedModel
from cfai.local.requests import JsonBody, check_fields, check_names
from cfai.tasks import ImageToText, rules
from cfai.tasks.task import shorten

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LABELS = 5
"""As many as resnet-50 returns."""

MOONDREAM = "@cf/moondream/"

_CAPTION_REQUEST = re.compile(
    r"\s*(please\s+)?(can you\s+)?"
    r"((generate|write|give|create|make)( me)?|caption|describe|what('s| is)( shown)? in)"
    r"( an?| the| this)?( short| brief| detailed| one-sentence)?"
    r"( caption| description)?( (for|of))?( the| this)?( image| picture| photo)?"
    r"( in (one sentence|detail))?\s*[.?!]*\s*",
    re.IGNORECASE,
)
"""Prompts that ask for a description; any other is a question, which needs a real vision model."""


def classify(model: ServedModel, body: JsonBody, is_cancelled: IsCancelled) -> tuple[Any, str]:
    """Answer an image classification: the most likely labels, best first."""
    check_names(body, "image")
    pixels = read_pixels(body, is_cancelled)
    backend = backends.image_classifier()
    probabilities = backend.classify(pixels)
    best = probabilities.argsort()[::-1][:_LABELS]
    rows = [
        {"label": backend.labels[index], "score": float(probabilities[index])} for index in best
    ]
    return rows, backend.name


def detect(model: ServedModel, body: JsonBody, is_cancelled: IsCancelled) -> tuple[Any, str]:
    """Answer an object detection: the objects with their boxes in pixels, best first."""
    check_names(body, "image")
    pixels = read_pixels(body, is_cancelled)
    backend = backends.object_detector()
    names = ("xmin", "ymin", "xmax", "ymax")
    rows = [
        {
            "label": detection.label,
            "score": detection.score,
            "box": dict(zip(names, detection.box, strict=True)),
        }
        for detection in backend.detect(pixels)
    ]
    return rows, backend.name


def describe(model: ServedModel, body: JsonBody, is_cancelled: IsCancelled) -> tuple[Any, str]:
    """Answer an image-to-text run that asks for a description."""
    if model.name.startswith(MOONDREAM):
        return _answer_moondream(body, is_cancelled)
    check_names(body, *rules(ImageToText))
    check_fields(ImageToText, {**body, "image": "-"})
    _refuse_options(body, _SAMPLING_FIELDS)
    _check_prompt("prompt", body.get("prompt"))
    limit = body.get("max_tokens")
    if limit is not None and limit < 1:
        raise errors.bad_input(f"max_tokens must be at least 1, got {limit}")
    backend = backends.describer()
    sentence = backend.describe(read_pixels(body, is_cancelled), is_cancelled)
    return {"description": _truncate(sentence, limit)}, backend.name


def read_pixels(body: JsonBody, is_cancelled: IsCancelled) -> "NDArray[np.uint8]":
    """Return the pixels of the field `image`.

    Raises:
        ApiError: The field is missing, or no image that can be decoded.
    """
    data = read_media(body, "image")
    try:
        return images.decode(data, is_cancelled)
    except ImageError as exc:
        raise errors.bad_input(f"image: {exc}") from exc
    except ImportError as exc:
        message = f"this needs {exc.name}: pip install 'cfai-sdk[local,vision]'"
        raise errors.not_supported(message) from exc


_SAMPLING_FIELDS = (
    "frequency_penalty",
    "presence_penalty",
    "raw",
    "repetition_penalty",
    "seed",
    "temperature",
    "top_k",
    "top_p",
)

_MOONDREAM_OPTIONS = ("caption_length", "max_tokens", "reasoning", "temperature", "top_p")


def _refuse_options(body: JsonBody, names: tuple[str, ...]) -> None:
    """Refuse fields that can have no effect, since nothing is written freely."""
    for name in names:
        if body.get(name) not in (None, False):
            raise errors.not_supported(
                f"{name} has no effect on the local description, which is put together from "
                "labels, objects and text: omit it, or give a model with --mmproj or --upstream"
            )


def _check_prompt(name: str, prompt: Any) -> None:
    if prompt is None:
        return
    if not isinstance(prompt, str):
        raise errors.bad_input(f"{name} must be a string, got {shorten(prompt)}")
    if not _CAPTION_REQUEST.fullmatch(prompt or "describe"):
        raise errors.not_supported(
            f"there is no local model for questions about images, got the {name} {shorten(prompt)}:"
            " ask for a description, or give a model with --mmproj or --upstream"
        )


def _truncate(sentence: str, limit: float | None) -> str:
    """Cut a sentence at a word, so that it has at most *limit* tokens."""
    if limit is None:
        return sentence
    words = sentence.split(" ")
    while len(words) > 1 and _count_tokens(" ".join(words)) > limit:
        words.pop()
    return " ".join(words)


def _count_tokens(text: str) -> int:
    # Without `[CLS]` and `[SEP]`.
    return len(wordpiece.encode(text, max_tokens=10_000)) - 2


# Moondream, whose skills have other fields. Source: the model card of moondream3.1-9B-A2B.


NO_ANSWERS: Mapping[str, Any] = {
    "finish_reason": "stop",
    "answer": None,
    "caption": None,
    "points": None,
    "objects": None,
}
"""The result of any skill, without that of the one that was asked for."""


def _answer_moondream(body: JsonBody, is_cancelled: IsCancelled) -> tuple[Any, str]:
    skill = body.get("task") or "query"
    if not isinstance(skill, str) or skill not in _SKILLS:
        skills = ", ".join(_SKILLS)
        raise errors.bad_input(f"task must be one of {skills}, got {shorten(skill)}")
    fields, answer = _SKILLS[skill]
    check_names(body, "image", "task", "stream", *_MOONDREAM_OPTIONS, *fields)
    _refuse_options(body, _MOONDREAM_OPTIONS)
    if body.get("stream") not in (None, False):
        if body["stream"] is not True:
            raise errors.bad_input(f"stream must be true or false, got {shorten(body['stream'])}")
        raise errors.not_supported("descriptions are not streamed: set stream to false")
    result, backend = answer(body, is_cancelled)
    return {**NO_ANSWERS, **result}, backend


def _answer_query(body: JsonBody, is_cancelled: IsCancelled) -> tuple[dict[str, Any], str]:
    _check_prompt("question", body.get("question"))
    backend = backends.describer()
    return {"answer": backend.describe(read_pixels(body, is_cancelled), is_cancelled)}, backend.name


def _answer_caption(body: JsonBody, is_cancelled: IsCancelled) -> tuple[dict[str, Any], str]:
    backend = backends.describer()
    return {
        "caption": backend.describe(read_pixels(body, is_cancelled), is_cancelled)
    }, backend.name


def _answer_detect(body: JsonBody, is_cancelled: IsCancelled) -> tuple[dict[str, Any], str]:
    boxes, backend = _find_target(body, is_cancelled)
    names = ("x_min", "y_min", "x_max", "y_max")
    return {"objects": [dict(zip(names, box, strict=True)) for box in boxes]}, backend


def _answer_point(body: JsonBody, is_cancelled: IsCancelled) -> tuple[dict[str, Any], str]:
    boxes, backend = _find_target(body, is_cancelled)
    points = [{"x": (box[0] + box[2]) / 2, "y": (box[1] + box[3]) / 2} for box in boxes]
    return {"points": points}, backend


def _find_target(body: JsonBody, is_cancelled: IsCancelled) -> tuple[list[tuple[float, ...]], str]:
    """Return the boxes of the objects with the label in `target`, as parts of the image's sides."""
    target = "person" if body.get("target") is None else body["target"]
    if not isinstance(target, str):
        raise errors.bad_input(f"target must be a string, got {shorten(target)}")
    backend = backends.object_detector()
    if target not in backend.labels:
        raise errors.not_supported(
            f"the local model detects the 80 kinds of COCO, such as person or cup; target has "
            f"{shorten(target)}"
        )
    limit = _MOST_OBJECTS if body.get("max_objects") is None else body["max_objects"]
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= 500:
        raise errors.bad_input(f"max_objects must be from 1 to 500, got {shorten(limit)}")
    pixels = read_pixels(body, is_cancelled)
    height, width, _ = pixels.shape
    detections = [it for it in backend.detect(pixels) if it.label == target]
    boxes = [
        (box[0] / width, box[1] / height, box[2] / width, box[3] / height)
        for box in (detection.box for detection in detections[:limit])
    ]
    return list(boxes), backend.name


_MOST_OBJECTS = 150

_Skill = Callable[[JsonBody, IsCancelled], tuple[dict[str, Any], str]]

_SKILLS: dict[str, tuple[tuple[str, ...], _Skill]] = {
    "query": (("question",), _answer_query),
    "caption": ((), _answer_caption),
    "point": (("target", "max_objects"), _answer_point),
    "detect": (("target", "max_objects"), _answer_detect),
}
"""The fields of each skill beside the common ones, and what answers it."""
