"""Images, sounds and videos inside the JSON of a request, beside the state that they belong to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from attrs import frozen

from cfai import media
from cfai._types.excerpts import format_value
from cfai.errors import InputError
from cfai.media import Base64, Source

Attachment = Source | Mapping[str, Any]
"""Bytes, a path, an open binary file, `Base64`, a `data:` URL, or `{content_type, base64}`."""

MIB: Final = 2**20

_DATA_URL = re.compile(
    r"data:(?P<type>[^;,]*)(;[^,]*)?;base64,(?P<text>.*)", re.IGNORECASE | re.DOTALL
)
_VIDEO_TYPES: Final = {"audio/mp4": "video/mp4", "audio/webm": "video/webm"}
"""The containers that are detected as sounds, since most models accept no videos."""


@frozen
class AttachmentLimit:
    """What a model accepts of one kind of attachments."""

    types: str
    """The regular expression of their media types."""

    accepted: str
    """The types in words."""

    max_bytes: int
    """Of one attachment, decoded."""

    max_pixels: int | None = None


def parse_attachment(value: Any) -> Any:
    """Check the form of an attachment, without reading files."""
    match value:
        case Mapping():
            _decode_mapping(value)
        case _ if _is_data_url(value):
            _decode_url(value)
        case _:
            problem = media.problem(value)
            if problem:
                raise InputError(f"an attachment {problem}")
    return value


def encode_attachments(
    name: str, sources: Iterable[Any], limit: AttachmentLimit
) -> tuple[list[Any], int]:
    """Give attachments as JSON, and their decoded size in bytes. Reads files.

    Raises:
        InputError: One can't be read, or is of a type or a size that the model does not accept.
    """
    encoded, total = [], 0
    for index, source in enumerate(sources):
        media_type, data = _read(source, limit)
        _check(f"{name}[{index}]", media_type, data, limit)
        total += len(data)
        is_sent_as_it_is = isinstance(source, Mapping) or _is_data_url(source)
        encoded.append(source if is_sent_as_it_is else _data_url(media_type, data))
    return encoded, total


def _is_data_url(source: object) -> bool:
    return isinstance(source, str) and source[:5].lower() == "data:"


def _data_url(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{media.base64_text(data)}"


def _read(source: Any, limit: AttachmentLimit) -> tuple[str, bytes]:
    """The media type and the bytes of an attachment."""
    if isinstance(source, Mapping):
        return _decode_mapping(source)
    if _is_data_url(source):
        return _decode_url(source)
    data = media.read(source)
    media_type = media.media_type(data)
    if limit.types.startswith("video"):
        media_type = _VIDEO_TYPES.get(media_type, media_type)
    return media_type, data


def _decode_url(url: str) -> tuple[str, bytes]:
    match = _DATA_URL.fullmatch(url)
    if match is None:
        raise InputError(f"a data: URL must contain base64, got {url[:60]!r}")
    return match["type"].lower(), Base64(match["text"]).decode()


def _decode_mapping(value: Mapping[str, Any]) -> tuple[str, bytes]:
    match value:
        case {"content_type": str(media_type), "base64": str(text)}:
            return media_type.lower(), Base64(text).decode()
    raise InputError(
        f"an attachment must be {{content_type, base64}}, got {format_value(sorted(value))}"
    )


def _check(name: str, media_type: str, data: bytes, limit: AttachmentLimit) -> None:
    if not re.fullmatch(limit.types, media_type):
        raise InputError(f"{name} must be {limit.accepted}, got {media_type or 'no media type'}")
    if len(data) > limit.max_bytes:
        raise InputError(f"{name} must have at most {mebibytes(limit.max_bytes, len(data))}")
    size = media.image_size(data) if limit.max_pixels else None
    if size and limit.max_pixels and size[0] * size[1] > limit.max_pixels:
        raise InputError(
            f"{name} must have at most 16 megapixels, got {size[0]} x {size[1]} pixels: "
            "make it smaller"
        )


def mebibytes(limit: int, size: int) -> str:
    """Describe a limit of a size, and the size that exceeds it."""
    return f"{limit // MIB} MiB, got {size / MIB:.2f} MiB"
