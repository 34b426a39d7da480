"""Markdown conversion on the wire: many files in one form, and a result for each of them."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from cfai._wire.bodies import json_content
from cfai._wire.listings import get, rows
from cfai._wire.multipart import File, form
from cfai._wire.requests import Request, with_form
from cfai._wire.responses import unwrapped
from cfai.errors import DecodeError, InputError
from cfai.listings import Markdown, MarkdownFormat
from cfai.settings import Options, Settings

PATH: Final = "tomarkdown"


def chosen(files: Any) -> list[File]:
    """Look at the files that were given, and read nothing of them. Blocks.

    Args:
        files: A file, or several: each a path, an open file, or `(name, source)`. A mapping has the
            names as its keys.

    Raises:
        InputError: There is none, or one that can't be sent.
    """
    if isinstance(files, Mapping):
        files = list(files.items())
    if isinstance(files, bytes | bytearray | memoryview):
        raise InputError('bytes must come with the name of a file: ("report.pdf", data)')
    single = isinstance(files, str | os.PathLike) or hasattr(files, "read") or _is_pair(files)
    if not single and not isinstance(files, Iterable):
        raise InputError(f"files must be files, got {type(files).__name__}")
    found = [_file(one) for one in ([files] if single else files)]
    if not found:
        raise InputError("files must not be empty")
    return found


def _is_pair(value: Any) -> bool:
    """Whether it is a name and its source, and not two paths: of two texts, both are paths."""
    two = isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)
    return two and not isinstance(value[1], str | tuple)


def _file(given: Any) -> File:
    if isinstance(given, tuple):
        if len(given) != 2 or not isinstance(given[0], str):
            raise InputError("a file with a name of its own must be (name, source)")
        return File.of(given[1], given[0])
    return File.of(given)


def convert(
    settings: Settings,
    options: Options | None,
    *,
    files: Iterable[File],
    conversion: Mapping[str, Any] | None,
) -> Request:
    """`POST /ai/tomarkdown`: a part `files` for each, and the options as a text of JSON.

    Source: Cloudflare docs, Workers AI, "Markdown conversion", REST API and "Conversion options".
    """
    fields: dict[str, str] = {}
    if conversion is not None:
        if not isinstance(conversion, Mapping):
            raise InputError(f"options must be a mapping, got {type(conversion).__name__}")
        fields["conversionOptions"] = json_content(conversion).decode()
    body = form(fields, [("files", file) for file in files])
    return with_form(settings, options, PATH, body, repeatable=True)


def converted(files: Iterable[File]) -> Callable[[Any], list[Markdown]]:
    """What reads the answer: a result for each of *files*.

    A row that nobody can read is the failure of its file, and no reason to lose the others.
    """
    names = [file.name for file in files]

    def read(document: Any) -> list[Markdown]:
        result = unwrapped(document)
        if isinstance(result, Mapping):
            result = [result]
        if not isinstance(result, list):
            raise DecodeError(f"a list of files is documented, got {type(result).__name__}")
        sent = [*names, *[""] * len(result)]
        found = [_result(row, name) for row, name in zip(result, sent, strict=False)]
        return _in_order(names, [*found, *_missing(names, found)])

    return read


def _in_order(names: Sequence[str], found: list[Markdown]) -> list[Markdown]:
    """The results in the order of the files, where each has the name of one."""
    if Counter(names) != Counter(one.name for one in found):
        return found
    places = {name: [at for at, one in enumerate(names) if one == name] for name in names}
    return sorted(found, key=lambda one: places[one.name].pop(0))


def _missing(names: Sequence[str], found: Sequence[Markdown]) -> list[Markdown]:
    """The files that have no row, where there are fewer rows than files."""
    absent = Counter(names) - Counter(one.name for one in found)
    count = max(0, len(names) - len(found))
    error = "the service gave no result for this file"
    return [Markdown(name, error=error) for name in [*absent.elements()][:count]]


def _result(row: Any, sent: str) -> Markdown:
    """A result; it has the name of the file that was *sent* in its place, where it has none."""
    if not isinstance(row, Mapping):
        return Markdown(sent, error=f"a file is documented, and the service gave {row!r:.80}")
    name, kind, text, error = (row.get(key) for key in ("name", "format", "data", "error"))
    failed = kind == "error" or not isinstance(text, str)
    if kind != "error" and failed and error is None:
        error = f"a text is documented, and the service gave {text!r:.80}"
    tokens: Any = row.get("tokens")
    return Markdown(
        name if isinstance(name, str) else sent,
        text=None if failed else text,
        error=_reason(error) if failed else None,
        format=kind if isinstance(kind, str) else None,
        mime_type=_text(row.get("mimeType")) or _text(row.get("mimetype")),
        tokens=int(tokens) if type(tokens) in (int, float) and not failed else None,
        id=_text(row.get("id")),
        raw=row,
    )


def _reason(error: Any) -> str:
    return error if isinstance(error, str) and error else "the service gave no reason"


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def formats(settings: Settings, options: Options | None) -> Request:
    """`GET /ai/tomarkdown/supported`."""
    return get(settings, options, f"{PATH}/supported", {})


def _format(row: Any, where: str) -> MarkdownFormat:
    match row:
        case {"extension": str(extension), "mimeType": str(kind)}:
            return MarkdownFormat(extension, kind)
    raise DecodeError(f"{where}: an extension and its type are documented, got {row!r:.80}")


def supported(document: Any) -> list[MarkdownFormat]:
    """The kinds of files."""
    return list(rows(_format)(document).rows)
