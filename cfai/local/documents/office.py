"""Office documents: zip archives of XML, of which only honest ones reach a library."""

import io
import zipfile
from datetime import datetime
from typing import Any

from cfai.local.documents.markup import page
from cfai.local.documents.tables import table
from cfai.local.documents.values import File, Wanted

_UNPACKED = 64 << 20
"""The most bytes of XML that are unpacked."""

_MEMBERS = 10_000
_CELLS = 2_000_000
_CHARACTERS = 32 << 20


def document(file: File, wanted: Wanted) -> str:
    """Convert a text document. Of a picture, what stands in its place is kept."""
    import mammoth

    found = mammoth.convert_to_html(_repacked(file.data), convert_image=_picture)
    return page(found.value, wanted, infer_heads=True)


def _picture(image: Any) -> list[Any]:
    import mammoth

    if not image.alt_text:
        return []
    return list(mammoth.images.img_element(lambda _: {"src": ""})(image))


def workbook(file: File, wanted: Wanted) -> str:
    """Convert a workbook: a table for each sheet, of the values that stood in its cells."""
    import openpyxl

    book = openpyxl.load_workbook(
        _repacked(file.data), read_only=True, data_only=True, keep_links=False
    )
    left = _Left()
    parts = []
    for sheet in book.worksheets:
        # What it says of its own size may be wrong.
        sheet.reset_dimensions()
        rows = [row for row in map(left.take, sheet.iter_rows(values_only=True)) if row]
        if wanted.plain:
            parts.append("\n".join([sheet.title, *("\t".join(row) for row in rows)]) + "\n")
        else:
            parts.append(f"## {sheet.title}\n\n{table(rows)}")
    return "\n".join(parts)


class _Left:
    """How much of a workbook may still come. A text that stands there once can be in many cells."""

    def __init__(self) -> None:
        self._cells = _CELLS
        self._characters = _CHARACTERS

    def take(self, row: tuple[Any, ...]) -> list[str]:
        """Give a row as texts.

        Raises:
            ValueError: It is too much.
        """
        self._cells -= len(row) + 1
        if self._cells < 0:
            raise ValueError(f"the workbook has more than {_CELLS} cells")
        texts = _texts(row)
        self._characters -= sum(map(len, texts))
        if self._characters < 0:
            raise ValueError(f"the workbook has more than {_CHARACTERS} characters")
        return texts


def _texts(row: tuple[Any, ...]) -> list[str]:
    """Give the cells of a row as texts, up to the last that has one."""
    texts = [_text(value) for value in row]
    while texts and not texts[-1]:
        texts.pop()
    return texts


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, datetime):
        return value.isoformat(" ").removesuffix(" 00:00:00")
    return str(value)


def _repacked(data: bytes) -> io.BytesIO:
    """Give an archive of the XML in *data*, unpacked by a reader that stops at the sizes named.

    An archive can name small sizes and unpack to more, which no reader meets in what is made here.

    Raises:
        ValueError: It is too much.
        zipfile.BadZipFile: It is no archive, or says something wrong of itself.
    """
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as packed, zipfile.ZipFile(made, "w") as target:
        members = {one.filename: one for one in packed.infolist() if _is_xml(one.filename)}
        size = sum(one.file_size for one in members.values())
        if len(members) > _MEMBERS or size > _UNPACKED:
            raise ValueError(f"it holds more than {_UNPACKED >> 20} MiB or {_MEMBERS} parts")
        for name, member in members.items():
            target.writestr(name, _unpacked(packed, member))
    made.seek(0)
    return made


def _unpacked(packed: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    # Office documents have no other ones, of which some are unpacked whatever comes out.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename} is compressed in a way that is not usual")
    with packed.open(member) as source:
        # Not all there is: that would be unpacked before its size is looked at.
        return source.read(member.file_size + 1)


def _is_xml(name: str) -> bool:
    return name.lower().endswith((".xml", ".rels"))
