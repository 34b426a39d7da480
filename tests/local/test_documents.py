"""Conversion in a process of its own: each kind of file, and what a hostile one can't do."""

import asyncio
import sys
import zipfile
from itertools import count

import pytest

from cfai import Options, Retries, StatusError, TransportError
from cfai.local import Server
from cfai.local.documents import formats
from cfai.local.documents.process import converted
from cfai.local.documents.values import File, Limits, Outcome, Wanted

from .conftest import client
from .documents import LAUGHS, archive, cell, docx, lying, paragraph, pdf, picture, xlsx

TEA = "name,note\ntea,hot\n"
ROW = '<row r="{0}"><c r="{1}{0}" t="inlineStr"><is><t>{2}</t></is></c></row>'


def convert(name: str, data: bytes, wanted: Wanted | None = None) -> Outcome:
    kind = formats.of(name, "")
    assert kind
    (outcome,) = converted(
        [File(name, kind.kind, data)], wanted or Wanted(), Limits(), lambda: False
    )
    return outcome


def text(name: str, data: bytes, wanted: Wanted | None = None) -> str:
    outcome = convert(name, data, wanted)
    assert outcome.text is not None, outcome
    return outcome.text


def why_not(name: str, data: bytes) -> str:
    outcome = convert(name, data)
    assert outcome.error is not None, outcome
    return outcome.error


# Each kind...


def test_a_text_document() -> None:
    """Headings, tables and what is said of a picture; the picture itself is never fetched."""
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
    assert text("a.docx", data, Wanted(plain=True)).splitlines()[:2] == ["Tea", "Hot & good."]


def test_a_workbook() -> None:
    """A table for each sheet: no empty rows, and no wider than what stands there."""
    strings = "<si><t>name</t></si><si><t>a|b</t></si>"
    rows = (
        '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c></row>'
        '<row r="3"><c r="A3"><v>1.5</v></c><c r="B3" t="b"><v>1</v></c><c r="C3"/></row>'
        '<row r="4"><c r="A4"><f>1+1</f><v>2</v></c><c r="B4" t="d"><v>2024-01-02</v></c></row>'
    )
    data = xlsx(rows, strings)
    said = text("a.xlsx", data)
    assert said == (
        "## Tea\n\n| name | a\\|b |\n| --- | --- |\n| 1.5 | TRUE |\n| 2 | 2024-01-02 |\n"
    )
    assert text("a.xlsm", data) == said
    assert text("a.xlsx", data, Wanted(plain=True)).splitlines()[:2] == ["Tea", "name\ta|b"]


def test_a_pdf() -> None:
    """Page by page, with what it says of itself unless that isn't wanted."""
    data = pdf("Green tea", "", "Black")
    assert text("a.pdf", data) == (
        "# a.pdf\n\n## Metadata\n\n- title: About tea\n\n## Contents\n\n"
        "### Page 1\n\nGreen tea\n\n### Page 2\n\n### Page 3\n\nBlack\n"
    )
    assert "Metadata" not in text("a.pdf", data, Wanted(metadata=False))
    assert text("a.pdf", data, Wanted(plain=True)) == "Green tea\n\n\n\nBlack\n"
    assert "no page has text" in why_not("a.pdf", pdf(""))


@pytest.mark.parametrize(
    ("data", "said"),
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
def test_xml(data: bytes, said: str) -> None:
    """It stays what it is, in a block of code."""
    assert text("a.xml", data) == f"```xml\n{said}\n```\n"
    assert text("a.xml", data, Wanted(plain=True)).strip() == said


def test_a_fence_is_longer_than_those_inside() -> None:
    assert text("a.xml", b"<a>````</a>").startswith("`````xml\n")


@pytest.mark.parametrize("data", [b"", b"no", b"PK\x03\x04", b"%PDF-1.4\n", docx()[:-30]])
def test_what_is_damaged_has_a_reason(data: bytes) -> None:
    """Whatever it says it is, and whatever it is."""
    strict = [it for it in formats.FORMATS.items() if it[0] not in (".csv", ".html", ".htm")]
    files = [File(f"a{end}", one.kind, data) for end, one in strict]
    outcomes = converted(files, Wanted(), Limits(), lambda: False)
    assert [bool(one.error) for one in outcomes] == [True] * len(files)


# Hostile ones...


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.docx", archive({"word/document.xml": bytes(65 << 20)}), "more than 64 MiB"),
        ("a.docx", archive({f"{n}.xml": "" for n in range(10_001)}), "or 10000 parts"),
        ("a.docx", lying(archive({"word/document.xml": bytes(33 << 20)}), 77), "Bad CRC-32"),
        (
            "a.docx",
            archive({"word/document.xml": bytes(1 << 20)}, zipfile.ZIP_LZMA),
            "in a way that is not usual",
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
def test_a_hostile_file_is_a_reason(name: str, data: bytes, reason: str) -> None:
    """Small as it comes, and huge as it is meant: it is left before it is."""
    assert reason in why_not(name, data)


SLOW = File("slow.html", "text/html", b"<b>x</b>" * (2 << 20))
QUICK = File("quick.csv", "text/csv", TEA.encode())


def test_what_takes_too_long_is_ended_and_loses_no_other() -> None:
    """What stood before it and what stands behind it are converted all the same."""
    outcomes = converted([QUICK, SLOW, QUICK], Wanted(), Limits(seconds=1.5), lambda: False)
    assert [one.text is not None for one in outcomes] == [True, False, True]
    assert outcomes[1].error == "the conversion took more than 1.5 s or 1024 MiB, or it crashed"


@pytest.mark.skipif(sys.platform != "linux", reason="where memory can be bounded")
def test_what_takes_too_much_memory_is_ended_and_loses_no_other() -> None:
    outcomes = converted([SLOW, QUICK], Wanted(), Limits(memory=96 << 20), lambda: False)
    assert [one.text is not None for one in outcomes] == [False, True]
    assert outcomes[0].error


def test_nothing_goes_on_when_nobody_waits() -> None:
    """The process ends, long before it is done."""
    calls = count()
    assert converted([SLOW, QUICK], Wanted(), Limits(), lambda: next(calls) > 0) == []


async def test_the_server_answers_others_meanwhile_and_stops_at_once() -> None:
    """A file that takes long holds up neither the loop nor the end."""
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


async def test_a_form_has_at_most_a_thousand_files() -> None:
    async with Server() as server, client(server) as ai:
        rows = await ai.to_markdown([(f"{n}.csv", b"a\n") for n in range(1000)])
        assert [row.name for row in rows] == [f"{n}.csv" for n in range(1000)]
        assert not any(row.failed for row in rows)
        with pytest.raises(StatusError, match="1 to 1000 files"):
            await ai.to_markdown([(f"{n}.csv", b"a\n") for n in range(1001)])
