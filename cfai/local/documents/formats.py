"""The kinds of files that are converted: by the end of the name, and by the media type.

Not converted are pictures, which the service describes with models, and the formats that no
well-kept library on PyPI reads safely.

Source of the types: Cloudflare docs, Workers AI, "Markdown conversion", "Supported formats".
"""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import PurePath

from attrs import frozen

from cfai.local.documents import markup, office, tables
from cfai.local.documents.pdf import pdf
from cfai.local.documents.values import File, Wanted

Convert = Callable[[File, Wanted], str]
"""Gives the text of a file: Markdown, or without any."""

_OPEN_XML = "application/vnd.openxmlformats-officedocument"


@frozen
class Format:
    """A kind of file."""

    kind: str
    """Its media type."""
    convert: Convert
    needs: tuple[str, ...] = ()
    """The libraries, by the names under which they are imported."""

    @property
    def missing(self) -> str | None:
        """The first library that isn't installed."""
        return next((name for name in self.needs if find_spec(name) is None), None)


_HTML = Format("text/html", markup.html, ("bs4", "markdownify"))

FORMATS: Mapping[str, Format] = {
    ".pdf": Format("application/pdf", pdf, ("pypdf",)),
    ".html": _HTML,
    ".htm": _HTML,
    ".xml": Format("application/xml", markup.xml),
    ".xlsx": Format(f"{_OPEN_XML}.spreadsheetml.sheet", office.workbook, ("openpyxl",)),
    ".xlsm": Format(
        "application/vnd.ms-excel.sheet.macroenabled.12", office.workbook, ("openpyxl",)
    ),
    ".docx": Format(
        f"{_OPEN_XML}.wordprocessingml.document",
        office.document,
        ("mammoth", "bs4", "markdownify"),
    ),
    ".csv": Format("text/csv", tables.csv_table),
}
"""By the end of a file's name."""

_BY_KIND = {one.kind: one for one in FORMATS.values()}


def of(name: str, kind: str) -> Format | None:
    """Choose by type, and where that is none of these, by the end of the name."""
    return _BY_KIND.get(kind) or FORMATS.get(PurePath(name).suffix.lower())
