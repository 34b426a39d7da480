"""Multipart forms, and the files in them, which are read while they are sent."""

import os
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

from attrs import field, frozen

from cfai._types.excerpts import format_path, format_value
from cfai._types.values import Value
from cfai._validators import check_path
from cfai.errors import InputError

FileSource = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
"""A path, bytes, or an open binary file that can be rewound."""

Progress = Callable[[int, int], object]
"""Called with the bytes sent so far and the bytes of the whole form: `progress(sent, size)`."""

_NOT_IN_NAMES: Final = re.compile(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
"""What the name of a file can't have in a form. The ends of lines are escaped, as in browsers."""

_UNKNOWN_TYPE: Final = "application/octet-stream"

# Types of files that the service converts and that some machines' own tables lack.
# Source: Cloudflare docs, Workers AI, "Markdown conversion", supported formats.
_MEDIA_TYPES: Final[Mapping[str, str]] = {
    ".csv": "text/csv",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".et": "application/vnd.ms-excel",
    ".html": "text/html",
    ".numbers": "application/vnd.apple.numbers",
    ".ods": "application/vnd.oasis.opendocument.spreadsheet",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".pdf": "application/pdf",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
    ".xls": "application/vnd.ms-excel",
    ".xlsb": "application/vnd.ms-excel.sheet.binary.macroenabled.12",
    ".xlsm": "application/vnd.ms-excel.sheet.macroenabled.12",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".xml": "application/xml",
}


def guess_media_type(name: str) -> str:
    """The media type that the name of a file suggests."""
    media_type = _MEDIA_TYPES.get(Path(name).suffix.lower())
    if media_type:
        return media_type
    import mimetypes

    return mimetypes.guess_type(name)[0] or _UNKNOWN_TYPE


@frozen(eq=False, repr=False)
class File(Value):
    """A file that is read while it is sent, from its beginning or from its current position."""

    name: str
    size: int
    """In bytes."""
    content_type: str = _UNKNOWN_TYPE
    _source: Path | bytes | BinaryIO = field(default=b"", repr=False, alias="source")
    _start: int = field(default=0, repr=False, alias="start")

    @classmethod
    def from_source(
        cls, source: Any, name: str | None = None, content_type: str | None = None
    ) -> Self:
        """Check a file without reading its content. Blocks, as `open` does.

        Args:
            source: A `FileSource`.
            name: Required for bytes; by default the file's own name.
            content_type: By default the one that the name suggests.

        Raises:
            InputError: There is no such file, or it can't be read, can't be rewound, is empty or
                has no name.
        """
        try:
            content, start, size, own_name = _inspect(source)
        except InputError:
            raise
        except (OSError, ValueError) as exc:
            is_path = isinstance(source, str | os.PathLike)
            label = format_path(source) if is_path else "the open file"
            raise InputError(f"{label} can't be read: {describe_os_error(exc)}") from exc
        file_name = own_name if name is None else name
        if not isinstance(file_name, str) or not file_name:
            raise InputError("a file must have a name: pass one with the bytes")
        if _NOT_IN_NAMES.search(file_name):
            rule = "the name of a file must be UTF-8 text without control characters"
            advice = "" if name is not None else ": pass another name with it, or rename it"
            raise InputError(f"{rule}, got {format_value(file_name)}{advice}")
        if not size:
            raise InputError(f"a file must not be empty: {file_name}")
        media_type = content_type or guess_media_type(file_name)
        return cls(file_name, size, media_type, source=content, start=start)

    def open(self) -> tuple[BinaryIO, bool]:
        """The file at the start of its content, and whether to close it afterwards. Blocks.

        Raises:
            InputError: It can't be read any more.
        """
        if isinstance(self._source, bytes):
            return BytesIO(self._source), True
        try:
            if isinstance(self._source, Path):
                return self._source.open("rb"), True
            self._source.seek(self._start)
        except (OSError, ValueError) as exc:
            raise InputError(f"{self.name} can't be read: {describe_os_error(exc)}") from exc
        return self._source, False

    def read(self) -> bytes:
        """The whole content. Blocks."""
        file, to_close = self.open()
        with file if to_close else nullcontext():
            return file.read(self.size)


def describe_os_error(exc: Exception) -> object:
    """The system's own words for an error, without the path."""
    return getattr(exc, "strerror", None) or exc


def _inspect(source: Any) -> tuple[Path | bytes | BinaryIO, int, int, str | None]:
    """The content or where it is, its start, its size in bytes, and the file's own name."""
    if isinstance(source, str | os.PathLike):
        path = check_path("a file", source)
        if not path.is_file():
            problem = "not a file" if path.exists() else "no such file"
            raise InputError(f"{format_path(path)}: {problem}")
        with path.open("rb"):
            return path, 0, path.stat().st_size, path.name
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        return data, 0, len(data), None
    if not callable(getattr(source, "read", None)):
        kind = type(source).__name__
        raise InputError(f"a file must be a path, bytes or an open binary file, got {kind}")
    if not getattr(source, "seekable", bool)():
        raise InputError("an open file must be seekable: its size is needed")
    if not isinstance(source.read(0), bytes):
        raise InputError("an open file must be opened in binary mode")
    start = source.tell()
    size = source.seek(0, os.SEEK_END) - start
    source.seek(start)
    name = getattr(source, "name", None)
    return source, start, size, Path(name).name if isinstance(name, str) else None


@frozen(eq=False, repr=False)
class Form(Value):
    """A `multipart/form-data` body (RFC 7578): bytes, and files that are read later."""

    parts: tuple[bytes | File, ...] = field(repr=False)
    content_type: str
    progress: Progress | None = field(default=None, repr=False, eq=False)

    def __len__(self) -> int:
        """The bytes of all parts."""
        return sum(part.size if isinstance(part, File) else len(part) for part in self.parts)

    def read(self) -> bytes:
        """The whole body. Blocks if a part is a file on disk."""
        return b"".join(part.read() if isinstance(part, File) else part for part in self.parts)


def build_form(
    fields: Mapping[str, str], files: Iterable[tuple[str, File]], progress: Progress | None = None
) -> Form:
    """Build a form of text *fields*, followed by *files* with the names of their fields."""
    boundary = f"cfai-{secrets.token_hex(16)}"
    parts: list[bytes | File] = []
    for name, value in fields.items():
        parts.append(f'{_part_head(boundary, name)}"\r\n\r\n{value}\r\n'.encode())
    for name, file in files:
        head = f'{_part_head(boundary, name)}"; filename="{_quote(file.name)}"\r\n'
        parts.append(f"{head}Content-Type: {file.content_type}\r\n\r\n".encode())
        parts += [file, b"\r\n"]
    parts.append(f"--{boundary}--\r\n".encode())
    return Form(tuple(parts), f"multipart/form-data; boundary={boundary}", progress)


def _part_head(boundary: str, name: str) -> str:
    return f'--{boundary}\r\nContent-Disposition: form-data; name="{_quote(name)}'


def _quote(text: str) -> str:
    """Escape a name as browsers do (WHATWG HTML, "Multipart form data")."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
