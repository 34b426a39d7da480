"""Converts documents to Markdown in a child process, which runs this module.

A library can hang, use all memory, or crash on a hostile file. Then only the child process ends,
and only that file's conversion fails. Images, which the service describes with models, are not
converted, nor are formats without a well-maintained, safe library on PyPI.

Source of the media types: Cloudflare docs, Workers AI, "Markdown conversion", "Supported formats".
"""

import codecs
import csv
import io
import re
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import PurePath
from typing import Any, BinaryIO
from xml.parsers import expat

import orjson
from attrs import asdict, field, frozen

from cfai.local.children import limit_memory, limit_time, run_child


@frozen
class DocumentFile:
    """A file to convert."""

    name: str
    media_type: str
    data: bytes = field(repr=False)


@frozen(kw_only=True)
class ConversionOptions:
    """The requested output."""

    plain: bool = False
    """Plain text instead of Markdown."""
    metadata: bool = True
    """Include the metadata of a PDF."""


@frozen(kw_only=True)
class ConversionLimits:
    """The most that converting one file may take."""

    seconds: float = 30.0
    memory: int = 1 << 30
    """In bytes; enforced on Linux only."""


@frozen
class Conversion:
    """A file's text, or the reason why it has none."""

    text: str | None = field(default=None, repr=False)
    error: str | None = None


# HTML and XML

_HIDDEN_TAGS = ("script", "style", "head")


def _convert_html(file: DocumentFile, options: ConversionOptions) -> str:
    return _html_to_markdown(file.data, options)


def _html_to_markdown(
    markup: bytes | str, options: ConversionOptions, *, infer_header: bool = False
) -> str:
    """Convert HTML; if *infer_header*, the first row of a table without a header becomes one."""
    from bs4 import BeautifulSoup
    from markdownify import MarkdownConverter

    soup = BeautifulSoup(markup, "html.parser")
    for tag in soup(_HIDDEN_TAGS):
        tag.decompose()
    if options.plain:
        return soup.get_text("\n", strip=True)
    converter = MarkdownConverter(heading_style="ATX", table_infer_header=infer_header)
    return str(converter.convert_soup(soup)).strip() + "\n"


def _convert_xml(file: DocumentFile, options: ConversionOptions) -> str:
    """Return the source in a code block: the meaning of the elements is unknown."""
    text = _decode_xml(file.data)
    if options.plain:
        return text
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}xml\n{text.strip()}\n{fence}\n"


def _decode_xml(data: bytes) -> str:
    """Decode well-formed XML.

    Raises:
        expat.ExpatError: It is not well-formed.
    """
    encodings: list[str] = []
    parser = expat.ParserCreate()
    parser.XmlDeclHandler = lambda version, encoding, standalone: encodings.append(encoding or "")
    parser.Parse(data, True)
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return data.decode("utf-16")
    return data.decode("".join(encodings) or "utf-8").removeprefix("\ufeff")


# Tables


def _convert_csv(file: DocumentFile, options: ConversionOptions) -> str:
    text = file.data.decode("utf-8-sig")
    if options.plain:
        return text
    return _build_table([row for row in csv.reader(io.StringIO(text, newline="")) if row])


def _build_table(rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose header is the first row; an empty text without rows."""
    if not rows:
        return ""
    width = max(map(len, rows))
    header, *others = [_build_table_row(row, width) for row in rows]
    return "\n".join([header, _build_table_row(["---"] * width, width), *others]) + "\n"


def _build_table_row(row: Sequence[str], width: int) -> str:
    cells = [cell.replace("|", "\\|").replace("\r", "").replace("\n", "<br>") for cell in row]
    return f"| {' | '.join(cells + [''] * (width - len(row)))} |"


# PDF

_PDF_METADATA = ("title", "author", "subject", "creator", "producer", "creation_date")


def _convert_pdf(file: DocumentFile, options: ConversionOptions) -> str:
    """Return the text of each page in file order; tables and headings are not recognized.

    Raises:
        ValueError: No page has text.
    """
    import pypdf

    reader = pypdf.PdfReader(io.BytesIO(file.data))
    pages = [page.extract_text().strip() for page in reader.pages]
    if not any(pages):
        raise ValueError("no page has text (scanned images are not read)")
    if options.plain:
        return "\n\n".join(pages) + "\n"
    parts = [f"# {file.name}"]
    if options.metadata:
        values = [(name, getattr(reader.metadata, name, None)) for name in _PDF_METADATA]
        lines = [f"- {name}: {' '.join(str(value).split())}" for name, value in values if value]
        parts += ["## Metadata", "\n".join(lines)] if lines else []
    parts.append("## Contents")
    for number, text in enumerate(pages, 1):
        parts += [f"### Page {number}", text] if text else [f"### Page {number}"]
    return "\n\n".join(parts) + "\n"


# Office documents: zip archives of XML. They are checked and repacked before a library opens them.

_MAX_UNPACKED = 64 << 20
"""The most bytes of XML in an archive."""

_MAX_MEMBERS = 10_000
_MAX_CELLS = 2_000_000
_MAX_CHARACTERS = 32 << 20


def _convert_docx(file: DocumentFile, options: ConversionOptions) -> str:
    """Convert a text document. Of an image, only its alternative text is kept."""
    import mammoth

    result = mammoth.convert_to_html(_repack(file.data), convert_image=_convert_image)
    return _html_to_markdown(result.value, options, infer_header=True)


def _convert_image(image: Any) -> list[Any]:
    import mammoth

    if not image.alt_text:
        return []
    return list(mammoth.images.img_element(lambda _: {"src": ""})(image))


def _convert_workbook(file: DocumentFile, options: ConversionOptions) -> str:
    """Convert a workbook: one table per sheet, with the cells' cached values."""
    import openpyxl

    book = openpyxl.load_workbook(
        _repack(file.data), read_only=True, data_only=True, keep_links=False
    )
    parts = []
    for title, rows in _read_sheets(book):
        if options.plain:
            parts.append("\n".join([title, *("\t".join(row) for row in rows)]) + "\n")
        else:
            parts.append(f"## {title}\n\n{_build_table(rows)}")
    return "\n".join(parts)


def _read_sheets(book: Any) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield the title and the rows of each sheet, as texts, without trailing empty cells.

    Raises:
        ValueError: The workbook is too large: many cells can share one stored text.
    """
    cells = characters = 0
    for sheet in book.worksheets:
        # The size that the sheet declares may be wrong.
        sheet.reset_dimensions()
        rows = []
        for values in sheet.iter_rows(values_only=True):
            cells += len(values) + 1
            if cells > _MAX_CELLS:
                raise ValueError(f"the workbook has more than {_MAX_CELLS} cells")
            row = [_format_cell(value) for value in values]
            while row and not row[-1]:
                row.pop()
            characters += sum(map(len, row))
            if characters > _MAX_CHARACTERS:
                raise ValueError(f"the workbook has more than {_MAX_CHARACTERS} characters")
            if row:
                rows.append(row)
        yield sheet.title, rows


def _format_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, datetime):
        return value.isoformat(" ").removesuffix(" 00:00:00")
    return str(value)


def _repack(data: bytes) -> io.BytesIO:
    """Copy the XML of an archive into a new one, reading no more than the declared sizes.

    An archive can declare small sizes and unpack to more; the copy cannot.

    Raises:
        ValueError: The archive is too large.
        zipfile.BadZipFile: It is not an archive, or its declarations are wrong.
    """
    copy = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(copy, "w") as target:
        members = {
            member.filename: member
            for member in source.infolist()
            if member.filename.lower().endswith((".xml", ".rels"))
        }
        size = sum(member.file_size for member in members.values())
        if len(members) > _MAX_MEMBERS or size > _MAX_UNPACKED:
            raise ValueError(
                f"the archive has more than {_MAX_UNPACKED >> 20} MiB of XML"
                f" or {_MAX_MEMBERS} parts"
            )
        for name, member in members.items():
            # Office documents use no other compression, and the readers of some ignore size limits.
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{name} uses an unsupported compression")
            with source.open(member) as part:
                # Without a limit, everything would be unpacked before the size is checked.
                target.writestr(name, part.read(member.file_size + 1))
    copy.seek(0)
    return copy


# Formats


@frozen
class DocumentFormat:
    """A supported file format."""

    media_type: str
    convert: Callable[[DocumentFile, ConversionOptions], str]
    """Returns the file's text as Markdown, or as plain text."""
    libraries: tuple[str, ...] = ()
    """The import names of the libraries it needs."""

    @property
    def missing_library(self) -> str | None:
        """The first library that is not installed."""
        return next((name for name in self.libraries if find_spec(name) is None), None)


_OPEN_XML = "application/vnd.openxmlformats-officedocument"
_XLSM = "application/vnd.ms-excel.sheet.macroenabled.12"
_HTML = DocumentFormat("text/html", _convert_html, ("bs4", "markdownify"))

FORMATS: Mapping[str, DocumentFormat] = {
    ".pdf": DocumentFormat("application/pdf", _convert_pdf, ("pypdf",)),
    ".html": _HTML,
    ".htm": _HTML,
    ".xml": DocumentFormat("application/xml", _convert_xml),
    ".xlsx": DocumentFormat(f"{_OPEN_XML}.spreadsheetml.sheet", _convert_workbook, ("openpyxl",)),
    ".xlsm": DocumentFormat(_XLSM, _convert_workbook, ("openpyxl",)),
    ".docx": DocumentFormat(
        f"{_OPEN_XML}.wordprocessingml.document", _convert_docx, ("mammoth", "bs4", "markdownify")
    ),
    ".csv": DocumentFormat("text/csv", _convert_csv),
}
"""The supported formats by file extension."""

_BY_MEDIA_TYPE = {supported.media_type: supported for supported in FORMATS.values()}


def find_format(name: str, media_type: str) -> DocumentFormat | None:
    """Find the format by media type, or by file extension if the type is not supported."""
    return _BY_MEDIA_TYPE.get(media_type) or FORMATS.get(PurePath(name).suffix.lower())


# The parent process: sends files to the child and reads one JSON line per file


def convert_files(
    files: Sequence[DocumentFile],
    options: ConversionOptions,
    limits: ConversionLimits,
    is_cancelled: Callable[[], bool],
) -> list[Conversion]:
    """Convert files of supported formats, each within *limits*. Blocks.

    Returns:
        One conversion per file, in order; fewer if cancelled.
    """
    conversions: list[Conversion] = []
    while len(conversions) < len(files) and not is_cancelled():
        conversions += _run_child(files[len(conversions) :], options, limits, is_cancelled)
        if len(conversions) < len(files) and not is_cancelled():
            # The child process ended while converting this file.
            memory = f"{limits.memory >> 20} MiB"
            message = f"the conversion exceeded {limits.seconds:g} s or {memory}, or it crashed"
            conversions.append(Conversion(None, message))
    return conversions


def _run_child(
    files: Sequence[DocumentFile],
    options: ConversionOptions,
    limits: ConversionLimits,
    is_cancelled: Callable[[], bool],
) -> list[Conversion]:
    """Convert *files* in a child process until it ends."""
    # A file instead of a pipe, which would need feeding while the output is read.
    with tempfile.TemporaryFile() as frames:
        for file in files:
            head = {"name": file.name, "media_type": file.media_type, "size": len(file.data)}
            frames.write(orjson.dumps({**head, "options": asdict(options)}) + b"\n" + file.data)
        frames.seek(0)
        output = run_child(
            __file__,
            seconds=limits.seconds,
            memory=limits.memory,
            source=frames,
            is_cancelled=is_cancelled,
        )
    # The last line is incomplete or empty.
    return [Conversion(**orjson.loads(line)) for line in output.split(b"\n")[:-1]]


# The child process: reads files from standard input and writes one JSON line per file

_MAX_TEXT_SIZE = 32 << 20
"""In bytes."""


def _run_as_child(seconds: float, memory: int) -> None:
    source, target = sys.stdin.buffer, sys.stdout.buffer
    # Output printed by a library must not mix with ours.
    sys.stdout = sys.stderr
    limit_memory(memory)
    while line := source.readline():
        limit_time(seconds)
        target.write(orjson.dumps(_convert_frame(orjson.loads(line), source)) + b"\n")
        target.flush()


def _convert_frame(head: dict[str, Any], source: BinaryIO) -> dict[str, str]:
    data = source.read(head["size"])
    file = DocumentFile(head["name"], head["media_type"], data)
    try:
        document_format = find_format(file.name, file.media_type)
        if document_format is None:
            raise ValueError(f"{file.media_type} is not supported")
        text = document_format.convert(file, ConversionOptions(**head["options"]))
        if len(text.encode(errors="replace")) > _MAX_TEXT_SIZE:
            raise ValueError(f"the text is longer than {_MAX_TEXT_SIZE >> 20} MiB")
    except Exception as exc:  # a library may raise anything
        return {"error": f"{type(exc).__name__}: {exc}"[:500]}
    return {"text": text.encode(errors="replace").decode()}


if __name__ == "__main__":
    _run_as_child(float(sys.argv[1]), int(sys.argv[2]))
