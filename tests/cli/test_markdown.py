"""`cfai markdown`: documents in order, and the errors of single files."""

import json
from pathlib import Path
from typing import Any

import pytest

from cfai.testing import FakeWorkersAI

from .processes import Cfai


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"%PDF-1.7 \xff", "standard-input.pdf"),
        (b"PK\x03\x04 word/document.xml", "standard-input.docx"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html>", "standard-input.html"),
        (b"\x89PNG\r\n\x1a\n", "standard-input.png"),
    ],
)
async def test_standard_input_gets_a_name(
    cfai: Cfai, fake: FakeWorkersAI, data: bytes, name: str
) -> None:
    """The service recognizes a format by the ending, which is found in the bytes."""
    fake.answers([{"name": name, "format": "markdown", "data": "# Hi"}])
    done = await cfai.run("markdown", "-", stdin=data)
    assert (done.code, done.text, done.err) == (0, "# Hi\n", "")
    assert f'filename="{name}"'.encode() in fake.requests[0].body
    assert data in fake.requests[0].body


async def test_an_unknown_format_is_refused(cfai: Cfai, fake: FakeWorkersAI) -> None:
    done = await cfai.run("markdown", "-", stdin=b"text")
    assert done.code == 2
    assert "give the name of a file" in done.err
    assert not fake.requests


async def test_files_may_begin_with_an_at_sign(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    """`@FILE` is the same as `FILE`."""
    (tmp_path / "a.html").write_text("x")
    fake.answers([{"name": "a.html", "format": "markdown", "data": "# Hi"}])
    done = await cfai.run("markdown", f"@{tmp_path / 'a.html'}")
    assert (done.code, done.text) == (0, "# Hi\n")


async def test_markdown(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    """Documents are printed in order; a failed file is an error on standard error."""
    for name in ("a.html", "b.pdf"):
        (tmp_path / name).write_text("x")
    files = [str(tmp_path / name) for name in ("a.html", "b.pdf")]
    rows: list[dict[str, Any]] = [
        {"name": "a.html", "format": "markdown", "data": "# Hi", "tokens": 2},
        {"name": "b.pdf", "format": "error", "error": "no PDF"},
    ]
    fake.always.answers(rows)
    done = await cfai.run("markdown", *files)
    assert (done.code, done.text, done.err) == (1, "# Hi\n", "error: b.pdf: no PDF\n")
    done = await cfai.run("markdown", "--json", *files)
    assert [json.loads(line) for line in done.lines] == rows
    fake.always.answers(rows[:1])
    done = await cfai.run("markdown", "--json", *files)
    assert json.loads(done.lines[1])["error"] == "the service gave no result for this file"
    target = tmp_path / "out.md"
    assert (await cfai.run("markdown", files[0], "-o", str(target))).code == 0
    assert target.read_text() == "# Hi\n"  # it is small
    assert (await cfai.run("markdown")).code == 2
    fake.always.answers(rows[1:])
    assert (await cfai.run("markdown", files[1], "-o", str(target))).code == 1
    assert target.read_bytes() == b""
    fake.always.answers([rows[0], rows[0] | {"name": "b.pdf"}])
    assert (await cfai.run("markdown", *files)).text == "# Hi\n\n# Hi\n"
    fake.always.answers([{"extension": ".html", "mimeType": "text/html"}])
    assert (await cfai.run("markdown", "--formats")).text == ".html\ttext/html\n"
    done = await cfai.run("markdown", "--formats", "--json")
    assert json.loads(done.text) == {"extension": ".html", "mimeType": "text/html"}
