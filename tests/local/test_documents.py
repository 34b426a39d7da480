"""Document conversion in a child process: each format, damaged files and hostile ones."""

import asyncio
import re
import sys
import zipfile
from itertools import count

import pytest

from cfai import Options, Retries, StatusError, TransportError
from cfai.local import Server
from cfai.local.documents import (
    FORMATS,
    Conversion,
    ConversionLimits,
    ConversionOptions,
    DocumentFile,
    convert_files,
    find_format,
)

from .conftest import client
from .documents import LAUGHS, archive, cell, docx, paragraph, pdf, picture, with_false_size, xlsx

TEA = "name,note\ntea,hot\n"
ROW = '<row r="{0}"><c r="{1}{0}" t="inlineStr"><is><t>{2}</t></is></c></row>'


def convert(name: str, data: bytes, options: ConversionOptions | None = None) -> Conversion:
    document_format = find_format(name, "")
    assert document_format
    file = DocumentFile(name, document_format.media_type, data)
    (conversion,) = convert_files(
        [file], options or ConversionOptions(), ConversionLimits(), lambda: False
    )
    return conversion


def text(name: str, data: bytes, options: ConversionOptions | None = None) -> str:
    conversion = convert(name, data, options)
    assert conversion.text is not None, conversion
    return conversion.text


def error_of(name: str, data: bytes) -> str:
    conversion = convert(name, data)
    assert conversion.error is not None, conversion
    return conversion.error


# Formats


def test_docx_is_converted() -> None:
    """Headings, tables and the alternative text of an image; the image is never fetched."""
    body = (
        paragraph("Hot &amp; good.")
        + f"<w:tbl><w:tr>{cell('a')}{cell('b')}</w:tr><w:tr>{cell('1')}{cell('2')}</w:tr></w:tbl>"
        + picture("A cup")
        + picture("")
    )
    data = docx(body, link="file:///etc/passwd")
    assert text("a.docx", data) == (
        "# Tea\n\nHot & good.\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\n![A cup]()\n"
    )
    assert text("a.docx", data, ConversionOptions(plain=True)).splitlines()[:2] == [
        "Tea",
        "Hot & good.",
    ]


def test_workbooks_are_converted() -> None:
    """One table per sheet, without empty rows and trailing empty cells."""
    strings = "<si><t>name</t></si><si><t>a|b</t></si>"
    rows = (
        '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c></row>'
        '<row r="3"><c r="A3"><v>1.5</v></c><c r="B3" t="b"><v>1</v></c><c r="C3"/></row>'
        '<row r="4"><c r="A4"><f>1+1</f><v>2</v></c><c r="B4" t="d"><v>2024-01-02</v></c></row>'
    )
    data = xlsx(rows, strings)
    expected = text("a.xlsx", data)
    assert expected == (
        "## Tea\n\n| name | a\\|b |\n| --- | --- |\n| 1.5 | TRUE |\n| 2 | 2024-01-02 |\n"
    )
    assert text("a.xlsm", data) == expected
    assert text("a.xlsx", data, ConversionOptions(plain=True)).splitlines()[:2] == [
        "Tea",
        "name\ta|b",
    ]


def test_pdf_is_converted() -> None:
    """Page by page, with the metadata unless disabled."""
    data = pdf("Green tea", "", "Black")
    assert text("a.pdf", data) == (
        "# a.pdf\n\n## Metadata\n\n- title: About tea\n\n## Contents\n\n"
        "### Page 1\n\nGreen tea\n\n### Page 2\n\n### Page 3\n\nBlack\n"
    )
    assert "Metadata" not in text("a.pdf", data, ConversionOptions(metadata=False))
    assert text("a.pdf", data, ConversionOptions(plain=True)) == "Green tea\n\n\n\nBlack\n"
    assert "no page has text" in error_of("a.pdf", pdf(""))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"<a>t</a>\n", "<a>t</a>"),
        (b"\xef\xbb\xbf<a>t</a>", "<a>t</a>"),
        ("<a>\u00e9</a>".encode(), "<a>\u00e9</a>"),
        (
            '<?xml version="1.0" encoding="iso-8859-1"?><a>\u00e9</a>'.encode("latin-1"),
            '<?xml version="1.0" encoding="iso-8859-1"?><a>\u00e9</a>',
        ),
        ("<a>\u00e9</a>".encode("utf-16"), "<a>\u00e9</a>"),
    ],
)
def test_xml_becomes_a_code_block(data: bytes, expected: str) -> None:
    """The source is unchanged."""
    assert text("a.xml", data) == f"```xml\n{expected}\n```\n"
    assert text("a.xml", data, ConversionOptions(plain=True)).strip() == expected


def test_the_code_fence_is_longer_than_fences_in_the_source() -> None:
    assert text("a.xml", b"<a>````</a>").startswith("`````xml\n")


@pytest.mark.parametrize("data", [b"", b"no", b"PK\x03\x04", b"%PDF-1.4\n", docx()[:-30]])
def test_damaged_files_have_an_error(data: bytes) -> None:
    """For every format and every kind of damage."""
    strict = {name: FORMATS[name] for name in FORMATS.keys() - {".csv", ".html", ".htm"}}
    files = [
        DocumentFile(f"a{name}", document_format.media_type, data)
        for name, document_format in strict.items()
    ]
    conversions = convert_files(files, ConversionOptions(), ConversionLimits(), lambda: False)
    assert [bool(conversion.error) for conversion in conversions] == [True] * len(files)


@pytest.mark.parametrize(
    ("cell", "text_of_cell"),
    [
        ('<c t="d"><v>2024-01-02T03:04:05</v></c>', "2024-01-02 03:04:05"),
        ('<c t="d"><v>2024-01-02T00:00:00</v></c>', "2024-01-02"),
        ('<c t="b"><v>0</v></c>', "FALSE"),
        ('<c t="b"><v>1</v></c>', "TRUE"),
        ("<c><v>0</v></c>", "0"),
        ("<c><v>1.25</v></c>", "1.25"),
        ("<c/>", ""),
    ],
)
def test_the_values_of_cells(cell: str, text_of_cell: str) -> None:
    last = '<c t="inlineStr"><is><t>end</t></is></c>'
    rows = f'<row r="1">{last}{last}</row><row r="2">{cell}{last}</row><row r="3"><c/><c/></row>'
    expected = f"## Tea\n\n| end | end |\n| --- | --- |\n| {text_of_cell} | end |\n"
    assert text("a.xlsx", xlsx(rows)) == expected


@pytest.mark.parametrize(
    ("source", "table"),
    [
        ("", ""),
        ("\n\n", ""),
        ("a", "| a |\n| --- |\n"),
        ("a,b\n\n1\n", "| a | b |\n| --- | --- |\n| 1 |  |\n"),
        ("a\n1,2,3\n", "| a |  |  |\n| --- | --- | --- |\n| 1 | 2 | 3 |\n"),
        ("\ufeffa\r\n", "| a |\n| --- |\n"),
    ],
)
def test_tables_are_as_wide_as_their_widest_row(source: str, table: str) -> None:
    assert text("a.csv", source.encode()) == table
    assert text("a.csv", source.encode(), ConversionOptions(plain=True)) == source.lstrip("\ufeff")


@pytest.mark.parametrize("source", ["<a>`</a>", "<a>``</a>", "<a>```</a>", "<a>` ````` ``</a>"])
def test_a_fence_has_at_least_three_marks_and_more_than_the_source(source: str) -> None:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", source))))
    assert text("a.xml", source.encode()) == f"{fence}xml\n{source}\n{fence}\n"


@pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be"])
def test_xml_in_both_orders_of_bytes(order: str) -> None:
    data = "\ufeff<a>\u00e9</a>".encode(order)
    assert text("a.xml", data) == "```xml\n<a>\u00e9</a>\n```\n"


def test_html_without_its_head_and_scripts() -> None:
    page = b"<head><title>T</title></head><style>p{}</style><script>x</script><h2>A</h2> <p>b</p>"
    assert text("a.html", page) == "## A\n\nb\n"
    assert text("a.htm", page, ConversionOptions(plain=True)) == "A\nb"
    table = b"<table><tr><td>1</td></tr><tr><td>2</td></tr></table>"
    # Only documents of Word have no other headers.
    assert text("a.html", table) == "|  |\n| --- |\n| 1 |\n| 2 |\n"


@pytest.mark.parametrize(
    ("name", "media_type", "found"),
    [
        ("a.csv", "text/html", "text/html"),
        ("a.CSV", "", "text/csv"),
        ("a.csv", "image/png", "text/csv"),
        ("a", "application/pdf", "application/pdf"),
        ("a.png", "image/png", None),
        ("csv", "", None),
    ],
)
def test_the_media_type_counts_more_than_the_name(
    name: str, media_type: str, found: str | None
) -> None:
    document_format = find_format(name, media_type)
    assert (document_format and document_format.media_type) == found


# Limits


def test_a_text_has_at_most_32_mebibytes() -> None:
    """Of UTF-8."""
    largest = b"\xc3\xa9" * (16 << 20)
    plain = ConversionOptions(plain=True)
    assert text("a.csv", largest, plain).encode() == largest
    conversion = convert("a.csv", largest + b"x", plain)
    assert conversion.error == "ValueError: the text is longer than 32 MiB"


def test_the_parts_of_an_archive_up_to_the_limits_are_read() -> None:
    """What follows is the complaint of a library about what they are."""
    for parts in (
        {"word/document.xml": bytes(64 << 20)},
        {f"{n}.xml": "" for n in range(10_000)},
        {**{f"{n}.xml": "" for n in range(10_000)}, "a.png": ""},
    ):
        message = error_of("a.docx", archive(parts))
        assert "more than" not in message
    assert "more than 64 MiB" in error_of("a.docx", archive({"a.rels": bytes((64 << 20) + 1)}))


def test_a_workbook_has_at_most_two_million_cells() -> None:
    """A row counts as one more: 122 rows of 16,384 cells, and one of 1,029."""
    rows = "".join(ROW.format(n, "XFD", "x") for n in range(1, 123)) + ROW.format(123, "AMO", "x")
    assert convert("a.xlsx", xlsx(rows)).error is None
    message = "ValueError: the workbook has more than 2000000 cells"
    assert convert("a.xlsx", xlsx(rows + '<row r="124"></row>')).error == message


def test_a_long_error_is_cut() -> None:
    name = "x" * 600
    part = archive({f"{name}.xml": "x"}, zipfile.ZIP_LZMA)
    assert error_of("a.docx", part) == f"ValueError: {name}"[:500]


def test_files_of_other_formats_are_refused_by_the_child_too() -> None:
    file = DocumentFile("a.png", "image/png", b"")
    (conversion,) = convert_files([file], ConversionOptions(), ConversionLimits(), lambda: False)
    assert conversion == Conversion(None, "ValueError: image/png is not supported")
    assert convert_files([], ConversionOptions(), ConversionLimits(), lambda: False) == []


# Hostile files


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.docx", archive({"word/document.xml": bytes(65 << 20)}), "more than 64 MiB"),
        ("a.docx", archive({f"{n}.xml": "" for n in range(10_001)}), "or 10000 parts"),
        (
            "a.docx",
            with_false_size(archive({"word/document.xml": bytes(33 << 20)}), 77),
            "Bad CRC-32",
        ),
        (
            "a.docx",
            archive({"word/document.xml": bytes(1 << 20)}, zipfile.ZIP_LZMA),
            "unsupported compression",
        ),
        ("a.docx", docx("&l9;", start=LAUGHS), "amplification"),
        ("a.xml", f"{LAUGHS}<a>&l9;</a>".encode(), "amplification"),
        (
            "a.xlsx",
            xlsx("".join(ROW.format(1048000 + n, "XFD", "x") for n in range(100))),
            "more than 2000000 cells",
        ),
        (
            "a.xlsx",
            xlsx('<row><c t="s"><v>0</v></c></row>' * 40, f"<si><t>{'x' * (1 << 20)}</t></si>"),
            "characters",
        ),
        ("a.html", b"<b>" * 5000, "RecursionError"),
        ("a.html", b"<![foo[", "ParserRejectedMarkup"),
    ],
)
def test_a_hostile_file_has_an_error(name: str, data: bytes, reason: str) -> None:
    """Files that would expand beyond the limits are refused before they do."""
    assert reason in error_of(name, data)


SLOW = DocumentFile("slow.html", "text/html", b"<b>x</b>" * (2 << 20))
QUICK = DocumentFile("quick.csv", "text/csv", TEA.encode())


def test_a_slow_conversion_is_ended_without_losing_other_files() -> None:
    """The files before and after it are converted."""
    conversions = convert_files(
        [QUICK, SLOW, QUICK], ConversionOptions(), ConversionLimits(seconds=1.5), lambda: False
    )
    assert [conversion.text is not None for conversion in conversions] == [True, False, True]
    assert conversions[1].error == "the conversion exceeded 1.5 s or 1024 MiB, or it crashed"


@pytest.mark.skipif(sys.platform != "linux", reason="where memory can be bounded")
def test_a_conversion_with_too_much_memory_is_ended_without_losing_other_files() -> None:
    conversions = convert_files(
        [SLOW, QUICK], ConversionOptions(), ConversionLimits(memory=96 << 20), lambda: False
    )
    assert [conversion.text is not None for conversion in conversions] == [False, True]
    assert conversions[0].error


def test_cancelling_ends_the_child_process() -> None:
    """It ends long before the conversion is complete."""
    calls = count()
    assert (
        convert_files(
            [SLOW, QUICK], ConversionOptions(), ConversionLimits(), lambda: next(calls) > 0
        )
        == []
    )


async def test_the_server_answers_during_a_conversion_and_stops_at_once() -> None:
    """A slow file blocks neither the event loop nor `close`."""
    async with asyncio.timeout(15):
        async with Server() as server, client(server) as ai:
            never = Options(retries=Retries(max=0))
            slow = asyncio.create_task(ai.to_markdown((SLOW.name, SLOW.data), call=never))
            (quick,) = await ai.to_markdown((QUICK.name, QUICK.data))
            assert quick.text
            assert not slow.done()
            await server.close()
            with pytest.raises(TransportError):
                await slow


async def test_a_form_can_have_at_most_1000_files() -> None:
    async with Server() as server, client(server) as ai:
        rows = await ai.to_markdown([(f"{n}.csv", b"a\n") for n in range(1000)])
        assert [row.name for row in rows] == [f"{n}.csv" for n in range(1000)]
        assert not any(row.failed for row in rows)
        with pytest.raises(StatusError, match="at most 1000 files"):
            await ai.to_markdown([(f"{n}.csv", b"a\n") for n in range(1001)])
