"""Images and sounds: reading them, detecting their type, and encoding them for a request.

Reading a file blocks: on an event loop, call `read` in a thread.
"""

from __future__ import annotations

import binascii
import os
import struct
from base64 import b64decode, b64encode
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Self

from attrs import field, frozen

from cfai._types.excerpts import format_count, format_path
from cfai.errors import InputError

__all__ = [
    "Base64",
    "Integers",
    "MediaForm",
    "Source",
    "base64_text",
    "blocks",
    "data_uri",
    "image_size",
    "media_type",
    "problem",
    "read",
    "wav_header",
]


class MediaForm(StrEnum):
    """The form in which a model accepts media."""

    RAW = "raw"
    """The bytes are the request body, which cannot contain other fields."""

    DATA_URI = "data_uri"
    """A `data:` URI in the JSON: base64 with the media type."""

    BASE64 = "base64"
    """A base64 string in the JSON: 1.33 times the size."""

    INTEGERS = "integers"
    """A list of integers in the JSON, one per byte: 4 times the size."""

    MULTIPART = "multipart"
    """A part of a multipart form, next to the other fields."""

    @classmethod
    def of(cls, value: str) -> Self:
        """The form named *value*.

        Raises:
            InputError: There is no such form.
        """
        try:
            return cls(value)
        except ValueError:
            names = ", ".join(cls)
            raise InputError(f"media_form must be one of {names}, got {value!r}") from None


def _clean_base64(text: object) -> str:
    if not isinstance(text, str):
        raise InputError(f"Base64 must be a string, got {type(text).__name__}")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    text = "".join(text.split())
    try:
        empty = not binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError) as exc:
        raise InputError(f"Base64 must be valid base64: {exc}") from None
    if empty:
        raise InputError("Base64 must not be empty")
    return text


@frozen(repr=False)
class Base64:
    """Media that is already encoded, as base64 or as a `data:` URI. Checked on creation."""

    text: str = field(converter=_clean_base64)
    """The base64 string, without a URI prefix and whitespace."""

    def __repr__(self) -> str:
        return f"Base64(<{format_count(len(self.text), 'character')}>)"

    def decode(self) -> bytes:
        """The decoded bytes."""
        return b64decode(self.text)


Source = bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO | Base64 | list[int]
"""Media: bytes, a path, an open binary file, base64, or a list of integers."""


def problem(source: object) -> str | None:
    """Why *source* cannot be media, as a phrase that follows its name; `None` if it can.

    Files are not opened, so `read` may still fail.
    """
    match source:
        case str() if source.startswith("data:"):
            return "must not be a data: URI as plain text: wrap it as Base64(...)"
        case str() if source.startswith(("http:", "https:")):
            return "must not be a URL: fetch it first, and pass its bytes"
        case bytes() | bytearray() | memoryview() | str() | list() if not source:
            return "must not be empty"
        case list() if not _is_bytes(source):
            return "must contain integers from 0 to 255, if it is a list"
        case bytes() | bytearray() | memoryview() | str() | list() | os.PathLike() | Base64():
            return None
    if callable(getattr(source, "read", None)):
        return None
    return f"must be bytes, a path, an open binary file or Base64(...), got {type(source).__name__}"


def blocks(source: object) -> bool:
    """Whether reading *source* reads a file."""
    return isinstance(source, str | os.PathLike) or hasattr(source, "read")


def read(source: Source) -> bytes:
    """The bytes of *source*. A seekable file keeps its position.

    Raises:
        InputError: The source is empty or cannot be read.
    """
    reason = problem(source)
    if reason:
        raise InputError(f"media {reason}")
    match source:
        case bytes():
            return source
        case bytearray() | memoryview() | list():
            return bytes(source)
        case Base64():
            return source.decode()
        case str() | os.PathLike():
            data, name = _read_path(Path(source)), format_path(source)
        case _:
            data, name = _read_file(source), _name_file(source)
    if not data:
        raise InputError(f"media must not be empty: {name} has no content")
    return data


def media_type(data: bytes) -> str:
    """The media type of an image or a sound, detected from its first bytes.

    Containers that may also hold video (MP4, WebM) are reported as sounds, because models accept
    no videos. An unknown type is `application/octet-stream`.
    """
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF":
        return {b"WEBP": "image/webp", b"WAVE": "audio/wav"}.get(data[8:12], _UNKNOWN)
    if data[4:8] == b"ftyp":
        return _find_iso_type(data)
    if data.startswith(b"FORM"):
        return "audio/aiff" if data[8:12] in (b"AIFF", b"AIFC") else _UNKNOWN
    # FF FE also begins layer I of MPEG audio, but it is the byte order mark of UTF-16.
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0 and data[1] != 0xFE:
        # The two bits after the version are the layer of MPEG audio; both are 0 in ADTS.
        return "audio/mpeg" if data[1] & 0x06 else "audio/aac"
    return _UNKNOWN


def base64_text(data: bytes) -> str:
    """*data* as base64."""
    return b64encode(data).decode("ascii")


def data_uri(data: bytes) -> str:
    """*data* as a `data:` URI of its detected type."""
    return f"data:{media_type(data)};base64,{base64_text(data)}"


class Integers:
    """Bytes as a JSON array of integers, produced in pieces to save memory.

    It can be iterated more than once. `len()` is the length of the JSON, for the Content-Length.
    """

    __slots__ = ("_data",)

    PIECE = 65536
    """Bytes per piece. Each byte becomes four characters."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __len__(self) -> int:
        return 4 * len(self._data) + 1 if self._data else 2

    def __iter__(self) -> Iterator[bytes]:
        # Each byte becomes four characters, padded with spaces, which JSON allows. So the position
        # of each digit is known beforehand, and three translations fill a whole piece.
        size = min(self.PIECE, len(self._data))
        cells = bytearray(b"   ," * size)
        opening = b"["
        for start in range(0, len(self._data), self.PIECE):
            piece = self._data[start : start + self.PIECE]
            if len(piece) < size:
                del cells[4 * len(piece) :]
            for position, digits in enumerate(_DIGITS):
                cells[position::4] = piece.translate(digits)
            if start + self.PIECE >= len(self._data):
                cells[-1:] = b"]"
            yield opening + cells
            opening = b""
        if not self._data:
            yield b"[]"


def wav_header(size: int, rate: int, *, channels: int = 1) -> bytes:
    """The header of a WAV file, for *size* bytes of 16-bit PCM that follow.

    Source: IBM and Microsoft, "Multimedia Programming Interface and Data Specifications 1.0".
    """
    block = 2 * channels
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * block, block, 16)
    return struct.pack("<4sI8sI16s4sI", b"RIFF", 36 + size, b"WAVEfmt ", 16, form, b"data", size)


_UNKNOWN = "application/octet-stream"

_IMAGE_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), "image/heic"),
    **dict.fromkeys((b"avif", b"avis"), "image/avif"),
    **dict.fromkeys((b"mif1", b"msf1"), "image/heif"),
}
"""The brands of images in an ISO base media file. Source: ISO/IEC 23008-12, annex B; AV1 Image
File Format, section 6."""


def _find_iso_type(data: bytes) -> str:
    """The type of an ISO base media file: its brand, or if that is general, a compatible one."""
    end = min(int.from_bytes(data[:4]), 256)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, end, 4))]
    images = [_IMAGE_BRANDS[brand] for brand in brands if brand in _IMAGE_BRANDS]
    if brands[0] not in _IMAGE_BRANDS or not images:
        return "audio/mp4"
    return next((name for name in images if name != "image/heif"), "image/heif")


_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"ID3", "audio/mpeg"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"#!AMR", "audio/amr"),
    (b"\x1aE\xdf\xa3", "audio/webm"),
)

_DIGITS = tuple(
    bytes(column) for column in zip(*(b"%3d" % value for value in range(256)), strict=True)
)
"""For each of the three digits: the character of each byte."""


def _is_bytes(values: list[int]) -> bool:
    try:
        return len(bytes(values)) > 0
    except (TypeError, ValueError):
        return False


def _read_path(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        reason = exc.strerror or exc
        raise InputError(f"media cannot be read from {format_path(path)}: {reason}") from exc
    except ValueError as exc:  # A NUL, or half of a pair of surrogates.
        raise InputError(f"media must be a path that a file can have: {format_path(path)}") from exc


def _name_file(file: BinaryIO) -> str:
    name: object = getattr(file, "name", None)
    return format_path(name) if isinstance(name, str | os.PathLike) else "the file"


def _read_file(file: BinaryIO) -> bytes:
    name = _name_file(file)
    try:
        start = file.tell() if file.seekable() else None
        data = file.read()
        if start is not None:
            file.seek(start)
    except (OSError, ValueError) as exc:
        raise InputError(f"media cannot be read from {name}: {exc}") from exc
    if not isinstance(data, bytes):
        raise InputError(f"media must be opened in binary mode: {name} is a text file")
    return data


def image_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels of a PNG, JPEG or WebP, from its header; `None` if it has none."""
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
        return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg_size(data)
    return _webp_size(data) if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """The size in the first frame header (SOF) among the segments."""
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in _JPEG_FRAMES:
            height = int.from_bytes(data[position + 5 : position + 7])
            return int.from_bytes(data[position + 7 : position + 9]), height
        # A fill byte is alone, and a marker without a segment has two bytes.
        bare = marker == 0x01 or 0xD0 <= marker <= 0xD9
        length = int.from_bytes(data[position + 2 : position + 4])
        position += 1 if marker == 0xFF else 2 if bare else 2 + length
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    def number(start: int, end: int) -> int:
        return int.from_bytes(data[start:end], "little")

    match data[12:16]:
        case b"VP8 ":
            return number(26, 28) & 0x3FFF, number(28, 30) & 0x3FFF
        case b"VP8L":
            return (number(21, 25) & 0x3FFF) + 1, (number(21, 25) >> 14 & 0x3FFF) + 1
        case b"VP8X":
            return number(24, 27) + 1, number(27, 30) + 1
    return None


_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""The markers of frame headers."""
