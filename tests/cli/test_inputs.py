"""`cfai chat --attach` and `--schema`: images, texts, documents, and the form of the answer."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from cfai.cli.inputs import parse_schema
from cfai.errors import InputError
from cfai.testing import FakeWorkersAI

from .processes import Cfai

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(64))
SHORT = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "age", "tags"],
}


async def test_images_are_parts_of_the_message(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    """The service gets a data URI, from a path, `@FILE` or standard input."""
    (tmp_path / "a.png").write_bytes(PNG)
    path = str(tmp_path / "a.png")
    fake.streams("x")
    done = await cfai.run(*("chat", "What?", "-a", path, "-a", f"@{path}", "-a", "-"), stdin=PNG)
    assert (done.code, done.err) == (0, "")
    (message,) = fake.requests[0].json()["messages"]
    uri = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    image = {"type": "image_url", "image_url": {"url": uri}}
    assert message["content"] == [{"type": "text", "text": "What?"}, image, image, image]


async def test_texts_and_documents_come_before_the_message(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    """A document is converted to Markdown first; a text is not."""
    (tmp_path / "a.txt").write_text("Hello\n")
    (tmp_path / "b.pdf").write_bytes(b"%PDF-1.7 \xff\xfe")
    fake.on("tomarkdown").answers(
        [{"name": "b.pdf", "format": "markdown", "mimetype": "application/pdf", "data": "# B"}]
    )
    fake.on("/ai/run").streams("x")
    files = ["-a", str(tmp_path / "a.txt"), "-a", str(tmp_path / "b.pdf")]
    done = await cfai.run("chat", "Compare", *files)
    assert (done.code, done.err) == (0, "")
    (message,) = fake.requests[-1].json()["messages"]
    assert message["content"] == "a.txt:\n\nHello\n\nb.pdf:\n\n# B\n\nCompare"


async def test_a_document_that_fails_is_named(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    (tmp_path / "b.pdf").write_bytes(b"%PDF-1.7 \xff\xfe")
    fake.answers([{"name": "b.pdf", "format": "error", "error": "it is broken"}])
    done = await cfai.run("chat", "Hi", "-a", str(tmp_path / "b.pdf"))
    assert (done.code, done.err) == (2, "error: b.pdf can't be attached: it is broken\n")


@pytest.mark.parametrize("attached", ["missing.png", "@missing.png", "-"])
async def test_a_file_that_cannot_be_read_is_a_usage_error(
    cfai: Cfai, fake: FakeWorkersAI, attached: str
) -> None:
    done = await cfai.run("chat", "Hi", "-a", attached)
    assert done.code == 2
    assert "standard input is empty" in done.err or "can't read missing.png" in done.err
    assert not fake.requests


async def test_a_schema_gives_the_answer_its_form(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """It is printed as JSON, in one piece."""
    value = {"name": "Ada", "age": 36, "tags": []}
    fake.answers({"response": value})
    done = await cfai.run("chat", "Who?", "--schema", "name:str, age:int, tags:list")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.text) == value
    body = fake.requests[0].json()
    assert body["response_format"] == {"type": "json_schema", "json_schema": SHORT}
    assert not body.get("stream")


@pytest.mark.parametrize(
    ("argument", "schema"),
    [
        ("name, age:int ,tags : list", SHORT),
        (json.dumps(SHORT), SHORT),
        (
            "ok:bool",
            {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]},
        ),
    ],
)
def test_schemas_are_read(argument: str, schema: dict[str, Any]) -> None:
    """A field without a type is a text."""
    assert parse_schema(argument) == schema


@pytest.mark.parametrize("argument", ["", "a:text", "a b", "a:int:str", "a,,b", "{", "a-b:int"])
def test_invalid_schemas_are_refused(argument: str) -> None:
    with pytest.raises(InputError, match="--schema must be a JSON schema"):
        parse_schema(argument)
