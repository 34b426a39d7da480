"""Small documents of each format, built by hand, and hostile ones."""

import struct
import zipfile
from collections.abc import Mapping
from io import BytesIO

_WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_PICTURES = (
    'xmlns:wp="http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing"'
    ' xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
    ' xmlns:pic="http://schemas.openxmlformats.org/drawingml/2006/picture"'
    ' xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
)
_STYLES = (
    f'<w:styles {_WORD}><w:style w:type="paragraph" w:styleId="H1">'
    '<w:name w:val="heading 1"/></w:style></w:styles>'
)
_LINK = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/'
    'relationships/image" Target="{}" TargetMode="External"/></Relationships>'
)


def archive(parts: Mapping[str, str | bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive."""
    output = BytesIO()
    with zipfile.ZipFile(output, "w", kind) as target:
        for name, content in parts.items():
            target.writestr(name, content)
    return output.getvalue()


def cell(text: str) -> str:
    return f"<w:tc>{paragraph(text)}</w:tc>"


def paragraph(text: str, before: str = "") -> str:
    return f"<w:p>{before}<w:r><w:t>{text}</w:t></w:r></w:p>"


def docx(body: str = "", link: str = "", start: str = "") -> bytes:
    """A text document: a heading, then *body*. *start* precedes the XML."""
    heading = paragraph("Tea", '<w:pPr><w:pStyle w:val="H1"/></w:pPr>')
    document = f"<w:document {_WORD} {_PICTURES}><w:body>{heading}{body}</w:body></w:document>"
    return archive(
        {
            "word/document.xml": start + document,
            "word/styles.xml": _STYLES,
            "word/_rels/document.xml.rels": _LINK.format(link),
        }
    )


def picture(described: str) -> str:
    """An external image, at the target of the document's link."""
    return (
        f'<w:p><w:r><w:drawing><wp:inline><wp:docPr id="1" name="p" descr="{described}"/>'
        '<a:graphic><a:graphicData><pic:pic><pic:blipFill><a:blip r:link="r1"/></pic:blipFill>'
        "</pic:pic></a:graphicData></a:graphic></wp:inline></w:drawing></w:r></w:p>"
    )


def xlsx(rows: str, strings: str = "") -> bytes:
    """A workbook of one sheet, from the source of its rows."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006/relationships"
    types = "http://schemas.openxmlformats.org/package/2006/content-types"
    sheets = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    return archive(
        {
            "[Content_Types].xml": f'<Types xmlns="{types}">'
            f'<Override PartName="/xl/workbook.xml" ContentType="{sheets}.sheet.main+xml"/>'
            f'<Override PartName="/xl/worksheets/s.xml" ContentType="{sheets}.worksheet+xml"/>'
            f'<Override PartName="/xl/t.xml" ContentType="{sheets}.sharedStrings+xml"/></Types>',
            "_rels/.rels": f'<Relationships xmlns="{package}"><Relationship Id="r1" '
            f'Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
            "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>'
            '<sheet name="Tea" sheetId="1" r:id="r1"/></sheets></workbook>',
            "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}"><Relationship '
            f'Id="r1" Type="{office}/worksheet" Target="worksheets/s.xml"/></Relationships>',
            "xl/t.xml": f'<sst xmlns="{main}">{strings}</sst>',
            "xl/worksheets/s.xml": f'<worksheet xmlns="{main}"><dimension ref="A1:XFD1048576"/>'
            f"<sheetData>{rows}</sheetData></worksheet>",
        }
    )


def pdf(*pages: str) -> bytes:
    """A PDF with a line of text on each page, or nothing."""
    numbers = range(len(pages))
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in numbers)
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for number, text in enumerate(pages):
        stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET" if text else ""
        fonts = "/Resources << /Font << /F1 3 0 R >> >>"
        objects += [
            f"<< /Type /Page /Parent 2 0 R /Contents {5 + 2 * number} 0 R {fonts} >>",
            f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream",
        ]
    objects.append("<< /Title (About\\ntea) >>")
    output, places = bytearray(b"%PDF-1.4\n"), []
    for number, content in enumerate(objects, 1):
        places.append(len(output))
        output += f"{number} 0 obj\n{content}\nendobj\n".encode()
    table = len(output)
    output += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    output += b"".join(b"%010d 00000 n \n" % place for place in places)
    output += (
        f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R /Info {len(objects)} 0 R >>\n".encode()
    )
    return bytes(output) + b"startxref\n%d\n%%%%EOF\n" % table


def with_false_size(data: bytes, size: int) -> bytes:
    """An archive of one part with a false declared size."""
    (info,) = zipfile.ZipFile(BytesIO(data)).infolist()
    right, wrong = struct.pack("<I", info.file_size), struct.pack("<I", size)
    return data.replace(right, wrong)


LAUGHS = (
    "<!DOCTYPE a [<!ENTITY l0 'ha'>"
    + "".join(f"<!ENTITY l{n} '{f'&l{n - 1};' * 10}'>" for n in range(1, 10))
    + "]>"
)
"""Ten billion laughs: `&l9;`."""
