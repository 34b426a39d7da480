"""Images and recordings in requests and answers.

They are read as a whole body, integers, base64 or a data URI.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import orjson
from attrs import frozen

from cfai.local import errors
from cfai.local.models import ServedModel
from cfai.local.requests import (
    ApiRequest,
    JsonBody,
    missing_fields,
    parse_json_object,
    read_form_field,
)
from cfai.tasks.task import shorten

MEDIA_FIELDS: Mapping[str, str] = {
    "Automatic Speech Recognition": "audio",
    "Image Classification": "image",
    "Image-to-Text": "image",
    "Object Detection": "image",
    "Voice Activity Detection": "audio",
}
"""The field that a body stands for which is no JSON, by task. Source: the model cards, `oneOf` a
binary string and an object."""

_ONLY_JSON = ("@cf/openai/whisper-large-v3-turbo",)
"""Models of these tasks that take only JSON. Source: the model's card."""

_JSON_IMAGES = ("@cf/black-forest-labs/", "@cf/leonardo/lucid")
"""The models that send an image as base64 in JSON. Source: the output types of Cloudflare."""

_FORM_TEXTS = ("prompt", "negative_prompt")
"""The fields of a form that are text, even if they look like a number."""


@frozen
class Media:
    """A response that is not JSON."""

    content: bytes
    content_type: str


def build_image_answer(model: ServedModel, image: bytes, media_type: str) -> Any:
    """Return the answer of a text-to-image model: the image, or JSON with it."""
    if model.name.startswith(_JSON_IMAGES):
        return {"image": b64encode(image).decode()}
    return Media(image, media_type)


async def read_run(request: ApiRequest, model: ServedModel) -> JsonBody:
    """Return the fields of a run. A body that is an image or a recording is one field.

    The others are in the query then. Source: Cloudflare docs, nova-3's example.

    Raises:
        ApiError: The body is too large, or empty; or it must be a JSON object and is none.
    """
    if request.http.content_type == "multipart/form-data" and model.task == "Text-to-Image":
        return await _read_form(request)
    if model.task not in MEDIA_FIELDS or model.name in _ONLY_JSON:
        return await request.read_json()
    raw = await request.read_body()
    if not raw or _is_json(request, raw):
        return parse_json_object(raw)
    fields = {name: value for name, value in request.http.query.items() if name != "queueRequest"}
    return {**fields, MEDIA_FIELDS[model.task]: raw}


def _is_json(request: ApiRequest, raw: bytes) -> bool:
    """Return whether a body is JSON, which curl sends with other types, too."""
    kind = request.http.content_type
    if kind == "application/json":
        return True
    # No file of these formats begins like an object, but samples without a header can.
    is_media = kind.startswith(("audio/", "image/", "video/")) or "encoding" in request.http.query
    return not is_media and raw.lstrip()[:1] == b"{"


async def _read_form(request: ApiRequest) -> JsonBody:
    """Return the fields of a form, which flux-2 takes: texts, numbers as text, and files.

    Source: Cloudflare docs, flux-2.
    """
    body: dict[str, Any] = {}
    remaining = limit = request.http.client_max_size
    async for part in request.form_fields():
        name = part.name or ""
        if name in body:
            raise errors.bad_input(f"the form has the field {shorten(name)} twice")
        content = await read_form_field(part, remaining)
        if content is None:
            raise errors.request_too_large(limit)
        remaining -= len(content)
        body[name] = content if part.filename else _read_text(name, content)
    return body


def _read_text(name: str, content: bytes) -> Any:
    text = content.decode(errors="replace")
    if name in _FORM_TEXTS:
        return text
    with suppress(orjson.JSONDecodeError):
        return orjson.loads(text)
    return text


def read_media(body: JsonBody, name: str) -> bytes:
    """Return the bytes of the medium in a field.

    Raises:
        ApiError: The field is missing, has another form, or is an address, which is not fetched.
    """
    value: Any = body.get(name)
    if value is None:
        raise missing_fields(name)
    if isinstance(value, bytes):
        return value
    if isinstance(value, list):
        return decode_integers(name, value)
    if not isinstance(value, str):
        raise errors.bad_input(f"{name} must be a list of integers or base64, got {shorten(value)}")
    if value.startswith(("http://", "https://")):
        raise errors.not_supported(f"{name}: nothing is fetched; send the content, or a data URI")
    return decode_base64(name, value.partition(",")[2] if value.startswith("data:") else value)


def decode_base64(name: str, text: str) -> bytes:
    """Return the bytes of a field that is base64.

    Raises:
        ApiError: It is not.
    """
    try:
        return b64decode(text, validate=True)
    except ValueError as exc:
        raise errors.bad_input(f"{name} must be base64, got {shorten(text)}: {exc}") from exc


def decode_integers(name: str, items: Sequence[Any]) -> bytes:
    """Return the bytes of a field that is a list of integers.

    Raises:
        ApiError: An item is no integer from 0 to 255.
    """
    try:
        return bytes(items)
    except (TypeError, ValueError) as exc:
        rule = f"{name} must be a list of integers from 0 to 255"
        raise errors.bad_input(f"{rule}, got {shorten(items)}") from exc


def find_image_type(image: bytes) -> str:
    """Return the media type of an image by its first bytes."""
    types = {b"\x89PNG": "image/png", b"\xff\xd8": "image/jpeg", b"RIFF": "image/webp"}
    matches = (kind for start, kind in types.items() if image.startswith(start))
    return next(matches, "application/octet-stream")
