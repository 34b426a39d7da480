"""Markdown conversion: reads the form, converts the files with `documents`, builds the rows.

Source: Cloudflare docs, Workers AI, "Markdown conversion", REST API and "Conversion options".
"""

import mimetypes
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import orjson
from attrs import field, frozen

from cfai.local import documents, errors
from cfai.local.backends.roles import IsCancelled
from cfai.local.documents import Conversion, ConversionLimits, ConversionOptions, DocumentFile
from cfai.local.errors import ApiError, invalid_request
from cfai.local.requests import ApiRequest, read_form_field
from cfai.local.workers import WorkerPool
from cfai.tasks.task import shorten

Row = dict[str, Any]

_BYTES_PER_TOKEN = 4
"""An estimate: the service does not document its tokenizer."""

_MAX_OPTIONS_SIZE = 64 << 10

_MAX_FILES = 1000
"""The most files of one form."""

_OPTIONS: Mapping[str, tuple[object, ...]] = {
    "output.format": ("markdown", "text"),
    "pdf.metadata": (True, False),
}
"""The supported conversion options and their values."""


@frozen
class DocumentConverter:
    """Converts files. A thread of the pool waits for the conversion."""

    pool: WorkerPool
    limits: ConversionLimits = field(factory=ConversionLimits)

    async def convert(self, request: ApiRequest) -> list[Row]:
        """`POST tomarkdown`: the fields `files`, and `conversionOptions` as JSON.

        Raises:
            ApiError: The form is invalid or too large, or an option is not supported.
        """
        files, options = await _read_form(request)
        return await self.pool.run(
            lambda is_cancelled: self._convert_files(files, options, is_cancelled)
        )

    async def list_formats(self, request: ApiRequest) -> list[Row]:
        """`GET tomarkdown/supported`: the formats whose libraries are installed."""
        return [
            {"extension": extension, "mimeType": document_format.media_type}
            for extension, document_format in documents.FORMATS.items()
            if document_format.missing_library is None
        ]

    def _convert_files(
        self, files: list[DocumentFile], options: ConversionOptions, is_cancelled: IsCancelled
    ) -> list[Row]:
        """Convert the files that have a supported format. Blocks."""
        rejections = [_reject_unsupported(file) for file in files]
        supported = [
            file for file, rejection in zip(files, rejections, strict=True) if not rejection
        ]
        conversions = iter(documents.convert_files(supported, options, self.limits, is_cancelled))
        cancelled = Conversion(None, "the conversion was cancelled")
        return [
            _file_row(file, rejection or next(conversions, cancelled), options)
            for file, rejection in zip(files, rejections, strict=True)
        ]


async def _read_form(request: ApiRequest) -> tuple[list[DocumentFile], ConversionOptions]:
    files: list[DocumentFile] = []
    options, remaining = ConversionOptions(), request.http.client_max_size
    async for part in request.form_fields():
        if part.name == "files":
            if len(files) == _MAX_FILES:
                raise invalid_request(f"the form must have at most {_MAX_FILES} files")
            data = await read_form_field(part, remaining)
            if data is None:
                raise errors.request_too_large(request.http.client_max_size)
            remaining -= len(data)
            files.append(_build_file(part.filename or "", part.headers, data))
        elif part.name == "conversionOptions":
            options = _parse_options(await read_form_field(part, _MAX_OPTIONS_SIZE))
        else:
            raise invalid_request(f"the form has an unknown field {str(part.name)[:60]!r}")
    if not files:
        raise invalid_request("the form must have at least 1 file in the field files")
    return files, options


def _build_file(name: str, headers: Mapping[str, str], data: bytes) -> DocumentFile:
    """Build a file with the media type of the form, or of its name if the form has none."""
    name = _replace_invalid(name)
    media_type = _replace_invalid(headers.get("Content-Type", "")).partition(";")[0].strip().lower()
    if media_type in ("", "application/octet-stream"):
        by_name = documents.find_format(name, "")
        guess = by_name.media_type if by_name else mimetypes.guess_type(name)[0]
        media_type = guess or "application/octet-stream"
    return DocumentFile(name, media_type, data)


def _replace_invalid(header: str) -> str:
    """Replace the bytes of a header that are not text."""
    return header.encode(errors="replace").decode()


def _parse_options(raw: bytes | None) -> ConversionOptions:
    """Parse the conversion options.

    Raises:
        ApiError: They are invalid, or an option is not supported.
    """
    try:
        document: Any = orjson.loads(raw or b"")
    except orjson.JSONDecodeError as exc:
        raise invalid_request("conversionOptions must be JSON of at most 64 KiB") from exc
    _check_object(document, "conversionOptions")
    values: dict[str, Any] = {}
    for name, section in document.items():
        if not any(option.startswith(f"{name}.") for option in _OPTIONS):
            raise _unsupported_option(name)
        _check_object(section, f"conversionOptions.{name}")
        values |= {f"{name}.{key}": value for key, value in section.items()}
    for name, value in values.items():
        if name not in _OPTIONS:
            raise _unsupported_option(name)
        if value not in _OPTIONS[name]:
            choices = " or ".join(str(orjson.dumps(choice), "ascii") for choice in _OPTIONS[name])
            raise invalid_request(
                f"conversionOptions.{name} must be {choices}, got {shorten(value)}"
            )
    plain = values.get("output.format") == "text"
    return ConversionOptions(plain=plain, metadata=values.get("pdf.metadata") is not False)


def _check_object(value: object, name: str) -> None:
    if not isinstance(value, dict):
        raise invalid_request(f"{name} must be a JSON object")


def _unsupported_option(name: str) -> ApiError:
    supported = ", ".join(_OPTIONS)
    return errors.not_supported(
        f"conversionOptions.{name[:60]} is not supported (supported: {supported})"
    )


def _reject_unsupported(file: DocumentFile) -> Conversion | None:
    """Return why a file cannot be converted here; `None` if it can."""
    document_format = documents.find_format(file.name, file.media_type)
    if document_format is None:
        supported = f"supported: {', '.join(documents.FORMATS)}"
        reason = f"{file.media_type} is not supported ({supported})"
    elif library := document_format.missing_library:
        reason = f"this needs {library}: pip install 'cfai-sdk[local]'"
    else:
        return None
    return Conversion(None, f"cfai local: {reason}")


def _file_row(file: DocumentFile, conversion: Conversion, options: ConversionOptions) -> Row:
    row: Row = {"id": str(uuid4()), "name": file.name, "mimeType": file.media_type}
    if conversion.text is None:
        return {**row, "format": "error", "error": conversion.error}
    tokens = -(-len(conversion.text.encode()) // _BYTES_PER_TOKEN)
    format_name = "text" if options.plain else "markdown"
    return {**row, "format": format_name, "tokens": tokens, "data": conversion.text}
