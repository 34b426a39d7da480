"""Markdown conversion over a real socket: the documented form, and one result per file."""

from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from cfai import Markdown, MarkdownFormat
from cfai.errors import DecodeError, InputError, ServerError, UploadInterrupted
from cfai.settings import Options, Retries
from cfai.testing import FakeWorkersAI

from .test_finetunes import form_of

# Cloudflare docs, Workers AI, "Markdown conversion", REST API.
ANSWER = rb"""{
	"success": true,
	"result": [
		{
			"id": "...",
			"name": "good.html",
			"mimeType": "text/html",
			"format": "markdown",
			"tokens": 49,
			"data": "# Image Embedded with a Data URI\n\nIt's a tiny 5x5 pixel PNG.\n\n"
		},
		{
			"id": "...",
			"name": "bad.pdf",
			"mimeType": "application/pdf",
			"format": "error",
			"error": "Some error that prevented this image from being converted"
		}
	]
}"""
AT_ONCE = Retries(max=2, base=0)


async def test_each_file_has_a_result(fake: FakeWorkersAI) -> None:
    """A failed file is a result with an error; the other files keep theirs."""
    fake.says(ANSWER)
    good, bad = await fake.client().to_markdown({"good.html": b"<p>", "bad.pdf": b"%PDF"})
    assert good == Markdown(
        "good.html",
        text="# Image Embedded with a Data URI\n\nIt's a tiny 5x5 pixel PNG.\n\n",
        format="markdown",
        mime_type="text/html",
        tokens=49,
        id="...",
    )
    assert (good.failed, str(good)) == (False, good.text)
    assert (bad.failed, bad.text, str(bad), bad.format) == (True, None, "", "error")
    assert bad.error == "Some error that prevented this image from being converted"
    assert fake.requests[0].target == "/client/v4/accounts/account/ai/tomarkdown"


async def test_a_tuple_of_files_is_no_pair(fake: FakeWorkersAI, tmp_path: Path) -> None:
    """Not even if the first is a string: a pair has a name and a source, and nothing else."""
    paths = [tmp_path / f"{name}.html" for name in "abc"]
    for path in paths:
        path.write_text(path.name)
    first, *others = paths
    given: list[Any] = [(str(first), *others), (str(first), str(others[0])), (str(first),)]
    for files in given:
        fake.answers([])
        await fake.client().to_markdown(files)
        form = form_of(fake.requests[-1])
        assert [name for _, name, _, _ in form] == [f"{name}.html" for name in "abc"[: len(files)]]


async def test_files_are_sent_in_one_form(fake: FakeWorkersAI, tmp_path: Path) -> None:
    """A part `files` for each, with name and type; the options as JSON text."""
    path = tmp_path / "a page.html"
    path.write_text("<p>")
    fake.answers([])
    with path.open("rb") as file:
        await fake.client().to_markdown(
            [path, file, ("b.docx", BytesIO(b"PK")), ("c.unknown", b"c"), ('"d".png', path)],
            {"pdf": {"metadata": False}},
        )
    word = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    assert form_of(fake.requests[0]) == [
        ("conversionOptions", None, "text/plain", b'{"pdf":{"metadata":false}}'),
        ("files", "a page.html", "text/html", b"<p>"),
        ("files", "a page.html", "text/html", b"<p>"),
        ("files", "b.docx", word, b"PK"),
        ("files", "c.unknown", "application/octet-stream", b"c"),
        ("files", "%22d%22.png", "image/png", b"<p>"),
    ]


async def test_a_single_file(fake: FakeWorkersAI, tmp_path: Path) -> None:
    """A path, an open file, or a name and bytes; a tuple of two paths is two files."""
    path = tmp_path / "a.txt"
    path.write_text("a")
    fake.always.answers({"name": "a.txt", "format": "text", "data": "a", "tokens": 1})
    ai = fake.client()
    with path.open("rb") as file:
        for alone in (path, str(path), file, ("a.txt", b"a"), ("a.txt", path)):
            (result,) = await ai.to_markdown(alone)
            assert (result.text, result.format) == ("a", "text")
    await ai.to_markdown((str(path), str(path)))
    assert [len(form_of(request)) for request in fake.requests] == [1, 1, 1, 1, 1, 2]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([], "files must not be empty"),
        ({}, "files must not be empty"),
        (b"bytes", "bytes need a file name"),
        ([b"bytes"], "a file must have a name"),
        (5, "files must be one file or several, got int"),
        ([("a", b"", "c")], r"must be \(name, source\)"),
        ([("a.pdf", b"")], "a file must not be empty: a.pdf"),
        ("nowhere.pdf", "nowhere.pdf: no such file"),
    ],
)
async def test_invalid_files_are_refused(fake: FakeWorkersAI, files: Any, reason: str) -> None:
    """Nothing is sent."""
    with pytest.raises(InputError, match=reason):
        await fake.client().to_markdown(files)
    assert not fake.requests


async def test_options_are_a_mapping(fake: FakeWorkersAI) -> None:
    """Options of the call have their own argument."""
    with pytest.raises(InputError, match="options must be a mapping"):
        await fake.client().to_markdown(("a", b"a"), Options())  # type: ignore[arg-type]  # the wrong place
    fake.answers([])
    await fake.client().to_markdown(("a", b"a"), call=Options(headers={"X-Mine": "1"}))
    assert fake.requests[0].headers["X-Mine"] == "1"


async def test_a_conversion_is_retried(fake: FakeWorkersAI) -> None:
    """After a lost connection and a 5xx, the whole form is sent again."""
    ai = fake.client(retries=AT_ONCE)
    fake.hangs_up().fails(503, 8005, "internal").says(ANSWER)
    assert len(await ai.to_markdown(("a.html", b"<p>"))) == 2
    assert len({len(request.body) for request in fake.requests}) == 1
    fake.always.hangs_up()
    with pytest.raises(UploadInterrupted, match="bytes were sent"):
        await ai.to_markdown(("a.html", b"<p>"))
    fake.always.fails(500, 8005, "internal")
    with pytest.raises(ServerError):
        await ai.to_markdown(("a.html", b"<p>"))


@pytest.mark.parametrize(
    "row",
    [None, 1, {}, {"name": "b"}, {"name": "b", "format": "markdown", "data": None}, {"name": 1}],
)
async def test_an_undocumented_result_is_a_failure(fake: FakeWorkersAI, row: Any) -> None:
    """It fails its own file, under the name that was sent."""
    fake.answers([{"name": "a", "format": "markdown", "data": "A"}, row])
    good, bad = await fake.client().to_markdown({"a": b"a", "b": b"b"})
    assert (good.name, good.text) == ("a", "A")
    assert (bad.name, bad.text) == ("b", None)
    assert bad.error is not None
    assert "documented" in bad.error


async def test_a_response_without_results(fake: FakeWorkersAI) -> None:
    fake.answers("text")
    with pytest.raises(DecodeError, match="a list of files"):
        await fake.client().to_markdown(("a", b"a"))


async def test_missing_results_are_failures(fake: FakeWorkersAI) -> None:
    """With fewer results than files, the files without one have an error."""
    files = [("a", b"1"), ("b", b"2"), ("a", b"3")]
    fake.answers([{"name": "a", "format": "markdown", "data": "A"}])
    results = await fake.client().to_markdown(files)
    assert [(result.name, result.failed) for result in results] == [
        ("a", False),
        ("b", True),
        ("a", True),
    ]
    assert results[1].error == "the service gave no result for this file"
    fake.answers([{"name": name, "format": "markdown", "data": ""} for name in "xyz"])
    assert [result.name for result in await fake.client().to_markdown(files)] == ["x", "y", "z"]


async def test_results_are_in_the_order_of_the_files(fake: FakeWorkersAI) -> None:
    """They are matched by name, whatever the order of the response."""
    files = [("a", b"1"), ("b", b"2"), ("c", b"3")]
    for order in ("cab", "ca"):
        fake.answers([{"name": name, "format": "markdown", "data": name} for name in order])
        results = await fake.client().to_markdown(files)
        assert [result.name for result in results] == ["a", "b", "c"]
        assert [result.failed for result in results] == [False, "b" not in order, False]


@pytest.mark.parametrize(
    "row", [{"name": "a", "format": "error", "error": None}, {"name": "a", "error": {"code": 1}}]
)
async def test_an_error_without_a_message(fake: FakeWorkersAI, row: dict[str, Any]) -> None:
    """It is an error all the same."""
    fake.answers([row])
    (result,) = await fake.client().to_markdown(("a", b"a"))
    assert (result.failed, result.error) == (True, "the service gave no reason")


@pytest.mark.parametrize("cut", [0, 12], ids=["whole", "cut"])
async def test_the_error_of_a_file_has_no_secret(fake: FakeWorkersAI, cut: int) -> None:
    """The service may repeat a token, or a part of it, in the error of one file."""
    token = "wmd7GqX2vTz9LkPb4RnS"  # noqa: S105  # a made-up one
    echo = f"could not fetch with {token[: len(token) - cut]}"
    fake.answers([{"name": "a.html", "format": "error", "error": echo}])
    (result,) = await fake.client(api_token=token).to_markdown(("a.html", b"x"))
    assert result.error == "could not fetch with ***"


async def test_formats(fake: FakeWorkersAI) -> None:
    """As documented."""
    fake.says(
        b'{"success": true, "result": [{"extension": ".html", "mimeType": "text/html"},'
        b' {"extension": ".pdf", "mimeType": "application/pdf"}]}'
    )
    ai = fake.client()
    assert await ai.to_markdown_formats() == [
        MarkdownFormat(".html", "text/html"),
        MarkdownFormat(".pdf", "application/pdf"),
    ]
    assert fake.requests[0].target.endswith("/ai/tomarkdown/supported")
    assert fake.requests[0].method == "GET"
    fake.answers([{"extension": ".html"}])
    with pytest.raises(DecodeError, match="must have an extension and a mimeType"):
        await ai.to_markdown_formats()
