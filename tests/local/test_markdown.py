"""Markdown conversion over HTTP, with `WorkersAI` and with raw forms."""

from io import BytesIO
from typing import Any
from uuid import UUID

import pytest

from cfai import StatusError
from cfai.local import Server

from .adapters import form
from .conftest import Local, Reply, client, running
from .documents import docx, pdf

PAGE = b"""<html><head><title>T</title><style>p{}</style></head><body><h1>Tea</h1>
<script>alert(1)</script><p>Hot &amp; <b>good</b>, <a href="/x">more</a>.</p>
<ul><li>green</li><li>black</li></ul></body></html>"""
TABLE = b'name,note\r\ntea,"hot|cold"\r\nmilk,"two\nlines"\r\nsugar\r\n'


async def send(local: Local, data: bytes, kind: str = "multipart/form-data; boundary=cut") -> Reply:
    url = f"{local.server.base_url}/accounts/0/ai/tomarkdown"
    headers = {"Content-Type": kind}
    async with local.http.post(url, data=BytesIO(data), headers=headers) as response:
        return Reply(response.status, response.headers, await response.read())


async def test_files_are_converted_and_failures_are_results() -> None:
    async with Server() as server, client(server) as ai:
        page, table, picture, broken = await ai.to_markdown(
            {
                "tea.html": PAGE,
                "tea.csv": TABLE,
                "tea.png": b"\x89PNG",
                "bad.csv": b"\xff\xfe\x00",
            }
        )
    assert page.text is not None
    assert page.text.startswith("# Tea\n")
    assert "Hot & **good**, [more](/x)." in page.text
    assert "* green\n* black" in page.text
    assert "alert" not in page.text
    assert (page.format, page.mime_type) == ("markdown", "text/html")
    assert page.tokens
    assert table.text == (
        "| name | note |\n| --- | --- |\n"
        "| tea | hot\\|cold |\n| milk | two<br>lines |\n| sugar |  |\n"
    )
    assert picture.failed
    assert picture.error
    assert "image/png is not supported" in picture.error
    assert broken.failed


async def test_pdf_metadata_can_be_disabled() -> None:
    async with Server() as server, client(server) as ai:
        (complete,) = await ai.to_markdown(("tea.pdf", pdf("Green")))
        (text,) = await ai.to_markdown(("tea.pdf", pdf("Green")), {"pdf": {"metadata": False}})
    assert complete.text == (
        "# tea.pdf\n\n## Metadata\n\n- title: About tea\n\n## Contents\n\n### Page 1\n\nGreen\n"
    )
    assert text.text == "# tea.pdf\n\n## Contents\n\n### Page 1\n\nGreen\n"


async def test_plain_text_contains_no_markdown() -> None:
    async with Server() as server, client(server) as ai:
        (page,) = await ai.to_markdown(("tea.html", PAGE), {"output": {"format": "text"}})
    assert page.format == "text"
    assert page.text is not None
    assert page.text.splitlines()[0] == "Tea"
    assert "**" not in page.text


async def test_the_name_determines_a_missing_media_type(local: Local) -> None:
    """Not every system knows the media types of office documents."""
    body = form(("files", docx())).replace(b'name="files"', b'name="files"; filename="a.DOCX"')
    (row,) = (await send(local, body)).result
    assert row["data"] == "# Tea\n"
    assert row["mimeType"].endswith("wordprocessingml.document")


async def test_deeply_nested_html_is_an_error_result() -> None:
    async with Server() as server, client(server) as ai:
        deep, page = await ai.to_markdown({"deep.html": b"<b>" * 5000, "tea.html": PAGE})
    assert deep.failed
    assert not page.failed


async def test_the_supported_formats_are_listed() -> None:
    async with Server() as server, client(server) as ai:
        formats = await ai.to_markdown_formats()
    assert [item.extension for item in formats] == [
        ".pdf", ".html", ".htm", ".xml", ".xlsx", ".xlsm", ".docx", ".csv",
    ]  # fmt: skip
    assert {item.extension for item in formats if item.mime_type == "text/html"} == {
        ".html",
        ".htm",
    }


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"html": {"cssSelector": "p"}}, 501),
        ({"output": {"format": "pdf"}}, 400),
        ({"output": {"format": "text", "other": 1}}, 501),
        ({"pdf": {"metadata": "no"}}, 400),
        ({"pdf": True}, 400),
        ({"output": {"format": ["text"]}}, 400),
    ],
)
async def test_unknown_options_are_refused(options: Any, status: int) -> None:
    async with Server() as server, client(server) as ai:
        with pytest.raises(StatusError) as caught:
            await ai.to_markdown(("tea.html", PAGE), options)
    assert caught.value.status == status


async def test_invalid_forms_are_refused(local: Local) -> None:
    assert (await send(local, b"{}", "application/json")).error[:2] == (400, 90003)
    assert (await send(local, form())).error[:2] == (400, 90003)
    assert (await send(local, form(("file", PAGE)))).error[:2] == (400, 90003)
    assert (await send(local, form(("conversionOptions", b"{")))).error[:2] == (400, 90003)
    for head in (b":", b"a:b\r\n" * 20_000):
        body = form(("files", PAGE)).replace(b"\r\n", b"\r\n" + head + b"\r\n", 1)
        assert (await send(local, body)).error[:2] == (400, 90003)


@pytest.mark.parametrize(("size", "status"), [(64 << 10, 200), ((64 << 10) + 1, 400)])
async def test_options_have_at_most_64_kibibytes(local: Local, size: int, status: int) -> None:
    options = b'{"output":{"format":"text"}}'.ljust(size)
    reply = await send(local, form(("conversionOptions", options), ("files", PAGE)))
    assert reply.status == status
    if status == 400:
        assert "conversionOptions must be JSON of at most 64 KiB" in reply.error[2]


async def test_the_rows_of_files(local: Local) -> None:
    """An id, the name, the type, and an estimate of the tokens: four bytes each, rounded up."""
    for data, tokens in ((b"abcd", 1), (b"abcde", 2), (b"", 0), ("é".encode() * 4, 2)):
        options = b'{"output":{"format":"text"},"pdf":{"metadata":true}}'
        body = form(("conversionOptions", options), ("files", data))
        body = body.replace(b'name="files"', b'name="files"; filename="a.csv"')
        (row,) = (await send(local, body)).result
        assert str(UUID(row.pop("id")))
        assert row == {
            "name": "a.csv",
            "mimeType": "text/csv",
            "format": "text",
            "tokens": tokens,
            "data": data.decode(),
        }


@pytest.mark.parametrize(
    ("name", "kind", "media_type"),
    [
        (b"a.csv", b"", "text/csv"),
        (b"a.csv", b"application/octet-stream", "text/csv"),
        (b"a.csv", b"Text/HTML; charset=utf-8", "text/html"),
        (b"a.png", b"", "image/png"),
        (b"a.nothing", b"", "application/octet-stream"),
        (b"", b"", "application/octet-stream"),
    ],
)
async def test_the_types_of_files(local: Local, name: bytes, kind: bytes, media_type: str) -> None:
    head = b'name="files"; filename="%s"' % name
    head += b"\r\nContent-Type: %s" % kind if kind else b""
    (row,) = (await send(local, form(("files", b"a")).replace(b'name="files"', head))).result
    assert (row["name"], row["mimeType"]) == (name.decode(), media_type)
    if media_type.startswith("text/"):
        assert row["format"] == "markdown"
    else:
        assert row["format"] == "error"
        assert row["error"].startswith(f"cfai local: {media_type} is not supported (supported: ")
        assert row.keys() == {"id", "name", "mimeType", "format", "error"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (b"[]", "conversionOptions must be a JSON object"),
        (b"", "conversionOptions must be JSON"),
        (b'{"pdf":5}', "conversionOptions.pdf must be a JSON object"),
        (b'{"pd":{}}', "conversionOptions.pd is not supported (supported: output.format, pdf.m"),
        (b'{"pdf":{"x":1}}', "conversionOptions.pdf.x is not supported"),
        (b'{"pdf":{"metadata":0.5}}', "conversionOptions.pdf.metadata must be true or false, got"),
        (b'{"output":{"format":"x"}}', 'conversionOptions.output.format must be "markdown" or "te'),
    ],
)
async def test_invalid_options_are_named(local: Local, options: bytes, message: str) -> None:
    reply = await send(local, form(("conversionOptions", options), ("files", PAGE)))
    assert reply.status in (400, 501)
    assert message in reply.error[2]
    assert "unknown field 'x'" in (await send(local, form(("x", PAGE)))).error[2]
    assert "at least 1 file in the field files" in (await send(local, form())).error[2]


async def test_a_form_beyond_the_body_limit_is_refused() -> None:
    async with running(body_limit=1000) as local:
        assert (await send(local, form(("files", b"x" * 1000)))).status == 200
        assert (await send(local, form(("files", b"x" * 999), ("files", b"x")))).status == 200
        assert (await send(local, form(("files", b"x" * 1001)))).error[:2] == (413, 3006)
        body = form(("files", b"x" * 999), ("files", b"xx"))
        assert (await send(local, body)).error[:2] == (413, 3006)


async def test_a_name_that_is_not_text_is_accepted(local: Local) -> None:
    body = form(("files", PAGE)).replace(b'name="files"', b'name="files"; filename="\xff\xfe.html"')
    (row,) = (await send(local, body)).result
    assert row["format"] == "markdown"
    assert row["name"].endswith(".html")
