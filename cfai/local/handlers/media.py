"""Reading images and recordings: as a whole body, integers, base64 or a data URI."""

from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import Any

from cfai.local import errors
from cfai.local.models import ServedModel
from cfai.local.requests import ApiRequest, JsonBody, missing_fields, parse_json_object
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


async def read_run(request: ApiRequest, model: ServedModel) -> JsonBody:
    """Return the fields of a run. A body that is an image or a recording is one field.

    The others are in the query then. Source: Cloudflare docs, nova-3's example.

    Raises:
        ApiError: The body is too large, or empty; or it must be a JSON object and is none.
    """
    if model.task not in MEDIA_FIELDS or model.name in _ONLY_JSON:
        return await request.read_json()
    raw = await request.read_body()
    # No format of images or recordings begins like an object.
    is_json = request.http.content_type == "application/json" or raw.lstrip()[:1] == b"{"
    if is_json or not raw:
        return parse_json_object(raw)
    return {**request.http.query, MEDIA_FIELDS[model.task]: raw}


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
