"""Images and sounds: reading them, knowing their type, and writing them the ways a request can.

Reading a file blocks: call `read` in a thread, where there is an event loop.
"""

from __future__ import annotations

import binascii
import os
from base64 import b64decode, b64encode
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Self

from attrs import field, frozen

from cfai.errors import InputError

__all__ = [
    "Base64",
    "Integers",
    "MediaForm",
    "Source",
    "base64_text",
    "blocks",
    "data_uri",
    "media_type",
    "problem",
    "read",
]


class MediaForm(StrEnum):
    """How a model wants its media."""

    RAW = "raw"
    """The bytes are the body of the request; there is no room for other fields in it."""

    BASE64 = "base64"
    """A base64 text inside the JSON: 1.33 times the bytes."""

    INTEGERS = "integers"
    """A list of integers inside the JSON, one for each byte: 4 times the bytes."""

    MULTIPART = "multipart"
    """A part of a form, beside the other fields."""

    @classmethod
    def of(cls, value: str) -> Self:
        """Give the form of that name.

        Raises:
            InputError: There is no such form.
        """
        try:
            return cls(value)
        except ValueError:
            known = ", ".join(cls)
            raise InputError(f"media_form must be one of {known}, got {value!r}") from None


def _base64_text(text: object) -> str:
    if not isinstance(text, str):
        raise InputError(f"Base64 takes text, got {type(text).__name__}")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    text = "".join(text.split())
    try:
        empty = not binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError) as exc:
        raise InputError(f"Base64 must hold base64 text: {exc}") from None
    if empty:
        raise InputError("Base64 must not be empty")
    return text


@frozen(repr=False)
class Base64:
    """Media that is base64 already, as text or as a `data:` URI. Checked when it is made."""

    text: str = field(converter=_base64_text)
    """The base64 text alone, without whitespace."""

    def __repr__(self) -> str:
        return f"Base64(<{len(self.text)} characters>)"

    def decode(self) -> bytes:
        """Give the bytes."""
        return b64decode(self.text)


Source = bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO | Base64 | list[int]
"""Where media comes from: bytes, a path, an open binary file, base64, or a list of integers."""


def problem(source: object) -> str | None:
    """Say why nothing could be read from *source* (a phrase to follow its name), without reading.

    `None` means that it may work: a file is only opened by `read`.
    """
    match source:
        case str() if source.startswith("data:"):
            return "must not be a data: URI as plain text: wrap it as Base64(...)"
        case str() if source.startswith(("http:", "https:")):
            return "must not be a URL: fetch it first, and pass its bytes"
        case bytes() | bytearray() | memoryview() | str() | list() if not source:
            return "must not be empty"
        case list() if not _is_bytes(source):
            return "must be integers from 0 to 255, where it is a list"
        case bytes() | bytearray() | memoryview() | str() | list() | os.PathLike() | Base64():
            return None
    if callable(getattr(source, "read", None)):
        return None
    return f"must be bytes, a path, an open binary file or Base64(...), got {type(source).__name__}"


def blocks(source: object) -> bool:
    """Tell whether reading it touches a file."""
    return isinstance(source, str | os.PathLike) or hasattr(source, "read")


def read(source: Source) -> bytes:
    """Give the bytes of *source*. A file that can be rewound is left where it stood.

    Raises:
        InputError: There is nothing to read, or it cannot be read; the message names it.
    """
    complaint = problem(source)
    if complaint:
        raise InputError(f"media {complaint}")
    match source:
        case bytes():
            return source
        case bytearray() | memoryview() | list():
            return bytes(source)
        case Base64():
            return source.decode()
        case str() | os.PathLike():
            data, name = _read_path(Path(source)), str(source)
        case _:
            data, name = _read_file(source), str(getattr(source, "name", "the file"))
    if not data:
        raise InputError(f"media must not be empty: nothing to read in {name}")
    return data


def media_type(data: bytes) -> str:
    """Tell the type of an image or a sound by its first bytes.

    Containers that can hold pictures too (MP4, WebM) are taken for sounds, as models take
    no other kind of them. What is unknown is `application/octet-stream`.
    """
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            return kind
    if data[:4] == b"RIFF":
        return {b"WEBP": "image/webp", b"WAVE": "audio/wav"}.get(data[8:12], _UNKNOWN)
    if data[4:8] == b"ftyp":
        return "audio/mp4"
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0:
        # The two bits after the version name the layer of MPEG audio; none of them is ADTS.
        return "audio/mpeg" if data[1] & 0x06 else "audio/aac"
    return _UNKNOWN


def base64_text(data: bytes) -> str:
    """Give *data* as base64 text."""
    return b64encode(data).decode("ascii")


def data_uri(data: bytes) -> str:
    """Give *data* as a `data:` URI of its own type."""
    return f"data:{media_type(data)};base64,{base64_text(data)}"


class Integers:
    """Bytes as a JSON array of integers, made piece by piece, never as a whole.

    Can be iterated again. `len()` is the number of bytes that it makes, for a Content-Length.
    """

    __slots__ = ("_data",)

    PIECE = 65536
    """How many bytes go into one piece; four times as many come out."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __len__(self) -> int:
        return 4 * len(self._data) + 1 if self._data else 2

    def __iter__(self) -> Iterator[bytes]:
        # Every byte becomes a cell of four characters, padded with spaces, which JSON allows:
        # so a digit's place is known beforehand, and three translations fill all of a piece.
        size = min(self.PIECE, len(self._data))
        cells = bytearray(b"   ," * size)
        opening = b"["
        for start in range(0, len(self._data), self.PIECE):
            piece = self._data[start : start + self.PIECE]
            if len(piece) < size:
                del cells[4 * len(piece) :]
            for place, digits in enumerate(_DIGITS):
                cells[place::4] = piece.translate(digits)
            if start + self.PIECE >= len(self._data):
                cells[-1:] = b"]"
            yield opening + cells
            opening = b""
        if not self._data:
            yield b"[]"


_UNKNOWN = "application/octet-stream"

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"ID3", "audio/mpeg"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"\x1aE\xdf\xa3", "audio/webm"),
)

_DIGITS = tuple(
    bytes(f"{value:3d}"[place].encode()[0] for value in range(256)) for place in range(3)
)
"""For each of the three places, the character that a byte has there."""


def _is_bytes(values: list[int]) -> bool:
    try:
        return len(bytes(values)) > 0
    except (TypeError, ValueError):
        return False


def _read_path(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise InputError(f"media cannot be read from {path}: {reason}") from exc


def _read_file(file: BinaryIO) -> bytes:
    name = getattr(file, "name", "the file")
    try:
        start = file.tell() if file.seekable() else None
        data = file.read()
        if start is not None:
            file.seek(start)
    except (OSError, ValueError) as exc:
        raise InputError(f"media cannot be read from {name}: {exc}") from exc
    if not isinstance(data, bytes):
        raise InputError(f"media must be opened in binary mode: {name} gave text")
    return data
