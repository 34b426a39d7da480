"""Forms with files: their bytes, the names and types of files, and what is no file."""

import io
from pathlib import Path
from typing import Any

import pytest

from cfai._wire.multipart import File, build_form, guess_media_type
from cfai.errors import InputError


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.csv", "text/csv"),
        ("a.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("a.et", "application/vnd.ms-excel"),
        ("a.html", "text/html"),
        ("a.numbers", "application/vnd.apple.numbers"),
        ("a.ods", "application/vnd.oasis.opendocument.spreadsheet"),
        ("a.odt", "application/vnd.oasis.opendocument.text"),
        ("a.PDF", "application/pdf"),
        ("a.svg", "image/svg+xml"),
        ("a.webp", "image/webp"),
        ("a.xls", "application/vnd.ms-excel"),
        ("a.xlsb", "application/vnd.ms-excel.sheet.binary.macroenabled.12"),
        ("a.xlsm", "application/vnd.ms-excel.sheet.macroenabled.12"),
        ("a.xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        ("a.xml", "application/xml"),
        ("a.png", "image/png"),
        ("a.tar.csv", "text/csv"),
        ("a.safetensors", "application/octet-stream"),
        ("csv", "application/octet-stream"),
        ("", "application/octet-stream"),
    ],
)
def test_the_type_of_a_file_is_that_of_its_name(name: str, media_type: str) -> None:
    """Source: Cloudflare docs, Workers AI, "Markdown conversion", supported formats."""
    assert guess_media_type(name) == media_type
    if name:
        assert File.from_source(b"x", name).content_type == media_type
        assert File.from_source(b"x", name, "text/x").content_type == "text/x"


def test_the_bytes_of_a_form(tmp_path: Path) -> None:
    """RFC 7578; names are escaped as in browsers (WHATWG HTML, "Multipart form data")."""
    (tmp_path / "b.csv").write_bytes(b"1,2\r\n")
    files = [
        ("files", File.from_source(b"\0\xff", 'a"\r\n.pdf')),
        ("files", File.from_source(tmp_path / "b.csv")),
    ]
    form = build_form({'no"te': "Grüße"}, files)
    kind, _, boundary = form.content_type.partition("; boundary=")
    assert kind == "multipart/form-data"
    expected = (
        f"--{boundary}\r\n"
        'Content-Disposition: form-data; name="no%22te"\r\n\r\nGrüße\r\n'
        f"--{boundary}\r\n"
        'Content-Disposition: form-data; name="files"; filename="a%22%0D%0A.pdf"\r\n'
        "Content-Type: application/pdf\r\n\r\n\0\udcff\r\n"
        f"--{boundary}\r\n"
        'Content-Disposition: form-data; name="files"; filename="b.csv"\r\n'
        "Content-Type: text/csv\r\n\r\n1,2\r\n\r\n"
        f"--{boundary}--\r\n"
    ).encode(errors="surrogateescape")
    assert form.read() == form.read() == expected
    assert len(form) == len(expected)
    assert build_form({}, files).content_type != form.content_type


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, io.BytesIO])
def test_a_file_is_read_from_where_it_stands(kind: Any) -> None:
    """As often as it is sent."""
    source = kind(b"0123456789")
    name = None
    if isinstance(source, io.BytesIO):
        source.seek(4)
        source.name = "/folder/a.bin"
    else:
        source, name = kind(b"456789"), "a.bin"
    file = File.from_source(source, name)
    assert (file.name, file.size) == ("a.bin", 6)
    assert file.read() == file.read() == b"456789"


class Unseekable(io.BytesIO):
    def seekable(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        (b"", "a.pdf", "a file must not be empty: a.pdf"),
        (b"x", None, "a file must have a name: pass one with the bytes"),
        (b"x", "", "a file must have a name: pass one with the bytes"),
        (b"x", 5, "a file must have a name: pass one with the bytes"),
        (
            b"x",
            "a\0b",
            "the name of a file must be UTF-8 text without control characters, got 'a\\x00b'",
        ),
        (b"x", "a\x7f", "the name of a file must be UTF-8 text without control characters"),
        (b"x", "a\ud800", "the name of a file must be UTF-8 text without control characters"),
        (5, "a", "a file must be a path, bytes or an open binary file, got int"),
        (io.StringIO("x"), "a", "an open file must be opened in binary mode"),
        (Unseekable(b"x"), "a", "an open file must be seekable: its size is needed"),
        ("missing.pdf", None, "missing.pdf: no such file"),
        (".", None, ".: not a file"),
    ],
)
def test_what_is_no_file_is_refused(source: Any, name: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        File.from_source(source, name)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("name", ["caf\udce9.html", "a\tb.html", "\x7f.html"], ids=ascii)
def test_a_name_that_cannot_be_sent_says_the_way_out(tmp_path: Path, name: str) -> None:
    """A file may have any name, so another one can be sent with it."""
    path = tmp_path / name
    path.write_bytes(b"<p>Hello")
    with pytest.raises(InputError) as caught:
        File.from_source(path)
    assert str(caught.value) == (
        "the name of a file must be UTF-8 text without control characters, got"
        f" {name!r}: pass another name with it, or rename it"
    )
    assert File.from_source(path, "cafe.html").read() == b"<p>Hello"


@pytest.mark.parametrize("folder", ["caf\udce9", "a\nb"], ids=ascii)
def test_messages_about_paths_can_be_printed(tmp_path: Path, folder: str) -> None:
    for path in (tmp_path / folder, tmp_path / folder / ("y" * 300)):
        with pytest.raises(InputError) as caught:
            File.from_source(path)
        assert str(caught.value).isprintable()
        assert str(caught.value).startswith(f"{tmp_path}/{folder!r}".replace("'", ""))


@pytest.mark.parametrize("name", ["a\nb", "ä.pdf", "a\x80b", "\U0001f600"])
def test_other_names_are_possible(name: str) -> None:
    assert File.from_source(b"x", name).name == name


def test_a_file_that_vanished_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(b"x")
    file = File.from_source(path)
    path.unlink()
    with pytest.raises(InputError, match=r"^a\.pdf can't be read: No such file or directory$"):
        file.read()
    with (tmp_path / "b.pdf").open("wb+") as handle:
        handle.write(b"x")
        handle.seek(0)
        opened = File.from_source(handle)
    with pytest.raises(InputError, match=r"^b\.pdf can't be read: .*closed"):
        opened.read()
    with pytest.raises(InputError, match=r"^the open file can't be read: .*closed"):
        File.from_source(handle)
