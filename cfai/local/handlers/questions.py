"""Questions about an image, for a text generator that reads images: the user's own model, or that
of another server.
"""

from base64 import b64encode
from typing import Any

from attrs import frozen

from cfai.local import errors
from cfai.local.backends.roles import GenerationEnd
from cfai.local.handlers.inputs import GenerationInput, parse_run
from cfai.local.handlers.media import read_media
from cfai.local.handlers.vision import MOONDREAM, NO_ANSWERS
from cfai.local.models import ServedModel
from cfai.local.requests import JsonBody, check_fields, check_names
from cfai.tasks import ImageToText, rules
from cfai.tasks.task import shorten

TASK = "Image-to-Text"

_DESCRIBE = "Describe this image in one sentence."

_MOONDREAM_FIELDS = ("image", "max_tokens", "question", "stream", "task", "temperature", "top_p")


@frozen
class AnswerDialect:
    """The result of a run with the answer in one of its fields."""

    field: str
    others: JsonBody

    def build_result(self, text: str, end: GenerationEnd) -> Any:
        """Return the result."""
        return {**self.others, self.field: text}


def parse_question(model: ServedModel, body: JsonBody) -> GenerationInput:
    """Read a run of an image-to-text model: a conversation with one message and an image.

    Raises:
        ApiError: It breaks a rule, or asks for what a generator of text cannot give.
    """
    if model.name.startswith(MOONDREAM):
        prompt, dialect = _read_skill(body)
    else:
        check_names(body, *rules(ImageToText))
        check_fields(ImageToText, {**body, "image": "-"})
        if body.get("raw"):
            raise errors.not_supported("raw has no effect on a question about an image: omit it")
        prompt, dialect = body.get("prompt") or _DESCRIBE, AnswerDialect("description", {})
    image = b64encode(read_media(body, "image")).decode()
    fields = {name: value for name, value in body.items() if name in rules(ImageToText)}
    fields |= {"prompt": prompt, "image": image}
    request = parse_run(_as_generator(model), fields).request
    return GenerationInput(model.name, request, dialect, task=TASK)


def _as_generator(model: ServedModel) -> ServedModel:
    return ServedModel(model.name, "Text Generation", abilities=model.abilities)


def _read_skill(body: JsonBody) -> tuple[str, AnswerDialect]:
    """Return the prompt of a skill of Moondream, and the form of its answer."""
    check_names(body, *_MOONDREAM_FIELDS)
    if body.get("stream"):
        raise errors.not_supported("descriptions are not streamed: set stream to false")
    match body.get("task") or "query", body.get("question"):
        case "query", None:
            return _DESCRIBE, AnswerDialect("answer", NO_ANSWERS)
        case "query", str(question):
            return question, AnswerDialect("answer", NO_ANSWERS)
        case "caption", None:
            return _DESCRIBE, AnswerDialect("caption", NO_ANSWERS)
        case "query" | "caption", question:
            raise errors.bad_input(f"question must be a text for a query, got {shorten(question)}")
        case skill, _:
            raise errors.not_supported(
                f"task must be query or caption for a model that writes text, got {shorten(skill)}"
            )
