"""Markdown conversion: many files in one form, and one result per file."""

import asyncio
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, BinaryIO, Final

from attrs import evolve, field, frozen

from cfai._session.client import Account
from cfai._session.redaction import redact_error_text
from cfai._types.excerpts import format_value
from cfai._wire.bodies import encode_json
from cfai._wire.multipart import File, FileSource, build_form
from cfai._wire.pagination import read_page
from cfai._wire.requests import build_form_request, build_get_request
from cfai._wire.responses import unwrap_result
from cfai._wire.text import read_count
from cfai.errors import DecodeError, InputError
from cfai.settings import Options

ToConvert = str | os.PathLike[str] | BinaryIO | tuple[str, FileSource]
"""A file to convert: a path, an open binary file, or a name and a source."""

_CONVERT: Final = "tomarkdown"
_FORMATS: Final = "tomarkdown/supported"


@frozen
class Markdown:
    """One converted file: its text, or the reason it failed.

    Source: Cloudflare docs, Workers AI, "Markdown conversion".
    """

    name: str
    """The file's name, as it was sent."""

    text: str | None = field(default=None, kw_only=True, repr=False)
    """The Markdown; `None` if the file failed."""

    error: str | None = field(default=None, kw_only=True)
    """Why the file failed; `None` if it did not."""

    format: str | None = field(default=None, kw_only=True)
    """"markdown", or "text" if that was requested; "error" if the file failed."""

    mime_type: str | None = field(default=None, kw_only=True)
    tokens: int | None = field(default=None, kw_only=True)
    """The approximate number of tokens in the text."""

    id: str | None = field(default=None, kw_only=True)
    raw: Any = field(default=None, kw_only=True, repr=False, eq=False)

    @property
    def failed(self) -> bool:
        """Whether there is an error instead of a text."""
        return self.text is None

    def __str__(self) -> str:
        return self.text or ""


@frozen
class MarkdownFormat:
    """A file format that the service converts."""

    extension: str
    """With its dot: ".html"."""

    mime_type: str


async def convert(
    account: Account,
    files: ToConvert | Iterable[ToConvert] | Mapping[str, FileSource],
    conversion: Mapping[str, Any] | None,
    options: Options | None,
) -> list[Markdown]:
    """Convert *files* in one request; see `WorkersAI.to_markdown`."""
    opened = await asyncio.to_thread(_open_files, files)
    settings = account.for_call(options)
    fields: dict[str, str] = {}
    if conversion is not None:
        if not isinstance(conversion, Mapping):
            raise InputError(f"options must be a mapping, got {type(conversion).__name__}")
        fields["conversionOptions"] = encode_json(conversion).decode()
    # A part `files` for each file, and the options as JSON text.
    form = build_form(fields, [("files", file) for file in opened])
    request = build_form_request(settings, options, _CONVERT, form, repeatable=True)
    names = [file.name for file in opened]
    results = await account.send(request, settings, lambda document: _read_results(document, names))
    # The error of one file is a value: it is not raised, so the session does not redact it.
    return [
        result
        if result.error is None
        else evolve(result, error=redact_error_text(result.error, settings.secrets))
        for result in results
    ]


async def list_formats(account: Account, options: Options | None) -> list[MarkdownFormat]:
    """List the supported formats; see `WorkersAI.to_markdown_formats`."""
    settings = account.for_call(options)
    request = build_get_request(settings, options, _FORMATS, {})
    return await account.send(
        request, settings, lambda document: list(read_page(document, _read_format).rows)
    )


# Requests


def _open_files(files: Any) -> list[File]:
    """Check the files without reading their content. Blocks.

    Raises:
        InputError: There are no files, or one can't be sent.
    """
    if isinstance(files, Mapping):
        files = list(files.items())
    if isinstance(files, bytes | bytearray | memoryview):
        raise InputError('bytes need a file name: ("report.pdf", data)')
    single = isinstance(files, str | os.PathLike) or hasattr(files, "read") or _is_pair(files)
    if not single and not isinstance(files, Iterable):
        raise InputError(f"files must be one file or several, got {type(files).__name__}")
    opened = [_open_file(file) for file in ([files] if single else files)]
    if not opened:
        raise InputError("files must not be empty")
    return opened


def _is_pair(value: Any) -> bool:
    """Whether this is a name and its source. Two strings are two paths."""
    two = isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)
    return two and not isinstance(value[1], str | tuple)


def _open_file(file: Any) -> File:
    if isinstance(file, tuple):
        if len(file) != 2 or not isinstance(file[0], str):
            raise InputError("a file given as a tuple must be (name, source)")
        return File.from_source(file[1], file[0])
    return File.from_source(file)


# Responses


def _read_results(document: Any, names: Sequence[str]) -> list[Markdown]:
    """One result for each of the files called *names*, in their order if it has their names.

    A row that can't be read is the failure of its file; the other files keep their results.
    """
    result = unwrap_result(document)
    if isinstance(result, Mapping):
        result = [result]
    if not isinstance(result, list):
        raise DecodeError(f"a list of files is documented, got {type(result).__name__}")
    defaults = [*names, *[""] * len(result)]
    results = [_read_file_result(row, name) for row, name in zip(result, defaults, strict=False)]
    sent = Counter(names)
    absent = list((sent - Counter(result.name for result in results)).elements())
    missing = max(0, len(names) - len(results))
    error = "the service gave no result for this file"
    results += [Markdown(name, error=error) for name in absent[:missing]]
    if sent == Counter(result.name for result in results):
        indices = {name: [at for at, other in enumerate(names) if other == name] for name in sent}
        results.sort(key=lambda result: indices[result.name].pop(0))
    return results


def _read_file_result(row: Any, default_name: str) -> Markdown:
    """Read one row; if it has no name, it gets the name of the file sent in its place."""
    if not isinstance(row, Mapping):
        return Markdown(
            default_name, error=f"a file is documented, and the service sent {format_value(row)}"
        )
    name, kind, text, error = (row.get(key) for key in ("name", "format", "data", "error"))
    failed = kind == "error" or not isinstance(text, str)
    if kind != "error" and failed and error is None:
        error = f"a text is documented, and the service sent {format_value(text)}"
    elif not isinstance(error, str) or not error:
        error = "the service gave no reason"
    return Markdown(
        name if isinstance(name, str) else default_name,
        text=None if failed else text,
        error=error if failed else None,
        format=_text(kind),
        mime_type=_text(row.get("mimeType")) or _text(row.get("mimetype")),
        tokens=None if failed else read_count(row.get("tokens")),
        id=_text(row.get("id")),
        raw=row,
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _read_format(row: Any, where: str) -> MarkdownFormat:
    match row:
        case {"extension": str(extension), "mimeType": str(kind)}:
            return MarkdownFormat(extension, kind)
    raise DecodeError(f"{where} must have an extension and a mimeType, got {format_value(row)}")
