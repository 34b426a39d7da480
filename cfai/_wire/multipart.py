"""Files on their way out: a form whose parts are read from disk while it is sent."""

import json
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn, Self

from attrs import field, frozen

from cfai.errors import InputError

FileSource = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
"""Where a file comes from: a path, bytes, or an open binary file that can be rewound."""

Progress = Callable[[int, int], object]
"""Hears how many bytes went out, and of how many: `progress(sent, size)`."""

_UNKNOWN: Final = "application/octet-stream"

# Kinds of files that the service converts and that not every machine's own table has.
# Source: Cloudflare docs, Workers AI, "Markdown conversion", supported formats.
_TYPES: Final[Mapping[str, str]] = {
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


def type_of(name: str) -> str:
    """The media type that a file's name stands for."""
    known = _TYPES.get(Path(name).suffix.lower())
    if known:
        return known
    import mimetypes

    return mimetypes.guess_type(name)[0] or _UNKNOWN


@frozen
class File:
    """A file that is read when it is sent, from its beginning or from where it stood."""

    name: str
    size: int
    """In bytes."""
    content_type: str = _UNKNOWN
    _source: Path | bytes | BinaryIO = field(default=b"", repr=False, alias="source")
    _start: int = field(default=0, repr=False, alias="start")

    @classmethod
    def of(cls, source: Any, name: str | None = None, content_type: str | None = None) -> Self:
        """Look at a file, and read nothing of it. Blocks, as `open` does.

        Args:
            source: A `FileSource`.
            name: Needed for bytes; else the file's own.
            content_type: Else what the name stands for.

        Raises:
            InputError: It isn't there, can't be read or rewound, is empty or has no name.
        """
        found: Path | bytes | BinaryIO
        if isinstance(source, str | os.PathLike):
            found, start, size, own = _on_disk(Path(source))
        elif isinstance(source, bytes | bytearray | memoryview):
            found, start, size, own = bytes(source), 0, memoryview(source).nbytes, None
        else:
            found, start, size, own = _opened(source)
        called = own if name is None else name
        if not isinstance(called, str) or not called:
            raise InputError("a file must have a name: give one beside the bytes")
        if called != called.encode(errors="ignore").decode():
            raise InputError(f"a file's name must be text, got {called!r:.100}: give another one")
        if not size:
            raise InputError(f"a file must not be empty: there is nothing in {called}")
        return cls(called, size, content_type or type_of(called), source=found, start=start)

    def open(self) -> tuple[BinaryIO, bool]:
        """The file where its content begins, and whether it is to be closed after. Blocks.

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
            raise InputError(f"{self.name} can't be read: {_reason(exc)}") from exc
        return self._source, False


def _reason(exc: Exception) -> object:
    return getattr(exc, "strerror", None) or exc


def _on_disk(path: Path) -> tuple[Path, int, int, str]:
    try:
        if not path.is_file():
            raise InputError(f"{path} must be a file, and there is none")
        with path.open("rb"):
            return path, 0, path.stat().st_size, path.name
    except InputError:
        raise
    except (OSError, ValueError) as exc:
        raise InputError(f"{path} can't be read: {_reason(exc)}") from exc


def _opened(file: Any) -> tuple[BinaryIO, int, int, str | None]:
    if not callable(getattr(file, "read", None)):
        kind = type(file).__name__
        raise InputError(f"a file must be a path, bytes or an open binary file, got {kind}")
    try:
        if not getattr(file, "seekable", bool)():
            raise InputError("an open file must be one that can be rewound: its size is needed")
        if not isinstance(file.read(0), bytes):
            raise InputError("an open file must be opened in binary mode")
        start = file.tell()
        size = file.seek(0, os.SEEK_END) - start
        file.seek(start)
    except (OSError, ValueError) as exc:
        if isinstance(exc, InputError):
            raise
        raise InputError(f"the open file can't be read: {_reason(exc)}") from exc
    name = getattr(file, "name", None)
    return file, start, size, Path(name).name if isinstance(name, str) else None


@frozen
class Form:
    """A `multipart/form-data` body (RFC 7578): its bytes, and files that are read later."""

    parts: tuple[bytes | File, ...] = field(repr=False)
    content_type: str
    progress: Progress | None = field(default=None, repr=False, eq=False)

    def __len__(self) -> int:
        """The bytes of all parts."""
        return sum(part.size if isinstance(part, File) else len(part) for part in self.parts)


def form(
    fields: Mapping[str, str], files: Iterable[tuple[str, File]], progress: Progress | None = None
) -> Form:
    """A form of text *fields*, and then of *files* by the names of their fields."""
    boundary = f"cfai-{secrets.token_hex(16)}"
    parts: list[bytes | File] = []
    for name, value in fields.items():
        parts.append(f'{_opening(boundary, name)}"\r\n\r\n{value}\r\n'.encode())
    for name, file in files:
        head = f'{_opening(boundary, name)}"; filename="{_quoted(file.name)}"\r\n'
        parts.append(f"{head}Content-Type: {file.content_type}\r\n\r\n".encode())
        parts += [file, b"\r\n"]
    parts.append(f"--{boundary}--\r\n".encode())
    return Form(tuple(parts), f"multipart/form-data; boundary={boundary}", progress)


def _opening(boundary: str, name: str) -> str:
    return f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}'


def _quoted(text: str) -> str:
    """As browsers write a name (WHATWG HTML, "Multipart form data")."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


# What the service asks of an adapter. Source: Cloudflare docs, Workers AI, "Using LoRA adapters".
ADAPTER_FILES: Final = ("adapter_model.safetensors", "adapter_config.json")
ADAPTER_RANK: Final = 32
ADAPTER_TYPES: Final = ("mistral", "gemma", "llama")

ADAPTER_SIZE: Final = 500 << 20
"""Of a file, in bytes. The service says "500 MB", and not which megabytes."""

# The format's own reader takes 100 MB, which would cost many times as much memory. An adapter of
# ten thousand tensors has 2 MB.
_HEADER_LIMIT: Final = 4 << 20

# Source: github.com/huggingface/safetensors, `Dtype`.
_BITS: Final[Mapping[str, int]] = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
}


def adapter(folder: Any) -> tuple[File, ...]:
    """The files of an adapter (LoRA), checked, in the order they are sent in. Blocks.

    Raises:
        InputError: One is missing or damaged, or the service takes no such adapter.
    """
    try:
        if not isinstance(folder, str | os.PathLike) or not Path(folder).is_dir():
            raise InputError(f"folder must be a folder, got {folder!r:.100}")
        for name in ADAPTER_FILES:
            if not Path(folder, name).is_file():
                raise InputError(f"{folder} must hold {' and '.join(ADAPTER_FILES)}: no {name}")
        weights, config = (File.of(Path(folder, name)) for name in ADAPTER_FILES)
        _check_config(Path(folder, config.name))
        _check_weights(Path(folder, weights.name), weights.size)
    except OSError as exc:
        raise InputError(f"{str(folder)[:100]} can't be read: {_reason(exc)}") from exc
    return weights, config


def _strict_json(data: bytes) -> Any:
    """JSON as its standard has it: UTF-8 without a mark, numbers that are some, no key twice."""
    return json.loads(data.decode(), object_pairs_hook=_pairs, parse_constant=_no_number)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _check_config(path: Path) -> None:
    try:
        config = _strict_json(path.read_bytes())
    except (RecursionError, ValueError) as exc:
        raise InputError(f"{path.name} must be JSON: {exc}") from exc
    if not isinstance(config, dict):
        raise InputError(f"{path.name} must be a JSON object")
    rank, kind = config.get("r"), config.get("model_type")
    if type(rank) is not int or not 1 <= rank <= ADAPTER_RANK:
        raise InputError(f"{path.name}: r must be from 1 to {ADAPTER_RANK}, got {rank!r:.60}")
    if kind not in ADAPTER_TYPES:
        known = ", ".join(ADAPTER_TYPES)
        raise InputError(f"{path.name}: model_type must be one of {known}, got {kind!r:.60}")


def _check_weights(path: Path, size: int) -> None:
    """The header alone: the length of a JSON object, the object, and where the tensors lie."""
    if size > ADAPTER_SIZE:
        raise InputError(f"{path.name} must have at most {ADAPTER_SIZE} bytes, got {size}")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, _HEADER_LIMIT):
            raise InputError(f"{path.name} must be a safetensors file: its header is cut or none")
        try:
            header = _strict_json(file.read(length))
        except (RecursionError, ValueError) as exc:
            raise InputError(f"{path.name} must be a safetensors file: {exc}") from exc
    if not isinstance(header, dict):
        raise InputError(f"{path.name} must be a safetensors file: its header is no JSON object")
    places = sorted(
        _place(path, name, entry) for name, entry in header.items() if name != "__metadata__"
    )
    if not places or 8 + length + places[-1][1] != size:
        raise InputError(f"{path.name} must hold all of its tensors: it is cut, or has none")
    if any(end != start for (_, end), (start, _) in pairwise([(0, 0), *places])):
        raise InputError(f"{path.name} must have its tensors one behind the other")


def _place(path: Path, name: str, entry: Any) -> tuple[int, int]:
    """Where a tensor begins and ends, which is as far on as its kind and its shape say."""
    match entry:
        case {"dtype": str(kind), "shape": [*shape], "data_offsets": [start, end]} if all(
            type(one) is int and one >= 0 for one in (*shape, start, end)
        ):
            bits = _BITS.get(kind)
            if bits is not None and prod(shape) * bits == (end - start) * 8:
                return start, end
            raise InputError(
                f"{path.name}: {name!r:.60} must be as long as {shape} of {kind!r:.20} are"
            )
    raise InputError(f"{path.name} must say where its tensors lie: {name!r:.60} does not")
