"""`cfai chat --attach` and `--schema`: images, texts, documents, and the form of the answer."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from cfai.cli.encodings import decode_any
from cfai.cli.inputs import AttachedFile, parse_schema
from cfai.errors import InputError
from cfai.testing import FakeWorkersAI

from .processes import PATIENCE, Cfai

READER = "@cf/google/gemma-4-26b-a4b-it"
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
    arguments = ("chat", "What?", "-m", READER, "-a", path, "-a", f"@{path}", "-a", "-")
    done = await cfai.run(*arguments, stdin=PNG)
    assert (done.code, done.err) == (0, "")
    (message,) = fake.requests[0].json()["messages"]
    uri = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    image = {"type": "image_url", "image_url": {"url": uri}}
    assert message["content"] == [{"type": "text", "text": "What?"}, image, image, image]


@pytest.mark.parametrize(
    ("name", "data", "kinds"),
    [
        ("a.png", PNG, {"image"}),
        ("a.mp3", b"ID3" + bytes(16), {"audio"}),
        ("a.mp4", b"\0\0\0\x18ftypmp42" + bytes(8), {"audio"}),
        ("a.unknown", bytes(range(256)), {"audio", "image"}),
        ("a.txt", b"text", set()),
        ("a.pdf", b"%PDF-1.7 \xff\xfe", set()),
    ],
)
@pytest.mark.parametrize("kind", ["audio", "image"])
def test_a_file_is_for_models_of_its_kind(
    name: str, data: bytes, kinds: set[str], kind: str
) -> None:
    """A video is for those that hear; models know more formats than are recognized."""
    file = AttachedFile(name, data)
    if kind in kinds:
        file.check_is(kind)
    else:
        with pytest.raises(InputError, match=f"{name} must be an? (image|recording), got"):
            file.check_is(kind)


@pytest.mark.parametrize("command", ["chat", "run", "converse"])
async def test_an_image_for_a_model_that_reads_only_text(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, command: str
) -> None:
    """Nothing is sent, not even the document beside it; the hint is what to type."""
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "b.pdf").write_bytes(b"%PDF-1.7 \xff\xfe")
    model = "@cf/meta/llama-3.3-70b-instruct-fp8-fast"
    files = ("-a", str(tmp_path / "b.pdf"), "-a", str(tmp_path / "a.png"))
    if command == "converse":
        async with cfai.at_a_terminal("chat", "-m", model, *files) as terminal:
            assert await terminal.ended() == 2
            message = terminal.screen
    else:
        named = ("run", model, "Hi") if command == "run" else ("chat", "Hi", "-m", model)
        done = await cfai.run(*named, *files)
        assert (done.code, done.text) == (2, "")
        message = done.err
    option = "cfai run" if command == "run" else "-m"
    assert message.replace("\r", "").splitlines() == [
        f"error: {model} reads only text, and a.png is an image",
        f"hint: {option} {READER} reads images",
    ]
    assert not fake.requests


@pytest.mark.parametrize("model", [READER, "@cf/nobody/new", "dynamic/route"])
async def test_an_image_for_a_model_that_may_read_it(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, model: str
) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    fake.streams("x")
    done = await cfai.run("chat", "What?", "-m", model, "-a", str(tmp_path / "a.png"))
    assert (done.code, done.err) == (0, "")
    assert len(fake.requests) == 1


async def test_an_image_for_a_model_that_does_not_chat(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    model = "@cf/llava-hf/llava-1.5-7b-hf"
    done = await cfai.run("chat", "What?", "-m", model, "-a", str(tmp_path / "a.png"))
    advice = f"try `cfai run {model} TEXT -a FILE`"
    assert (done.code, done.text) == (2, "")
    assert done.err == f"error: {model} does not chat; its task is Image-to-Text: {advice}\n"
    assert not fake.requests


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
    assert (done.code, done.err) == (1, "error: b.pdf can't be attached: it is broken\n")


@pytest.mark.parametrize("attached", ["missing.png", "@missing.png", "-"])
async def test_a_file_that_cannot_be_read_is_a_usage_error(
    cfai: Cfai, fake: FakeWorkersAI, attached: str
) -> None:
    done = await cfai.run("chat", "Hi", "-a", attached)
    assert done.code == 2
    assert "standard input is empty" in done.err or "can't read missing.png" in done.err
    assert not fake.requests


JOINING = {
    "chat": ["chat"],
    "run": ["run", "@cf/meta/llama-3.1-8b-instruct-fast"],
    "image": ["image"],
    "decide": ["decide", "-q", "ok"],
    "extract": ["extract", "-f", "name"],
    "speak": ["speak"],
}
"""The commands with a text that follows what is piped in, and what they need."""


@pytest.mark.parametrize("attached", [False, True])
@pytest.mark.parametrize("from_file", [False, True])
@pytest.mark.parametrize("command", JOINING)
async def test_a_text_follows_what_is_piped_in(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, command: str, from_file: bool, attached: bool
) -> None:
    """Whether it is given itself or as `@FILE`, with an attached file and without."""
    if attached and command in ("image", "speak"):
        pytest.skip("it has no --attach")
    (tmp_path / "a.txt").write_text("ATTACHED")
    (tmp_path / "prompt.txt").write_text("PROMPT")
    text = f"@{tmp_path / 'prompt.txt'}" if from_file else "PROMPT"
    more = ["-a", str(tmp_path / "a.txt")] if attached else []
    fake.fails(400, 5006, "enough")
    await cfai.run(*JOINING[command], text, *more, stdin=b"PIPED\n")
    sent = "a.txt:\\n\\nATTACHED\\n\\n" if attached else ""
    assert f'"{sent}PIPED\\n\\nPROMPT"' in json.dumps(fake.requests[0].json())


@pytest.mark.parametrize("given", ['{"prompt": "hi"}', "@in.json"])
async def test_a_json_object_stays_alone(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, given: str
) -> None:
    (tmp_path / "in.json").write_text('{"prompt": "hi"}')
    fake.answers({"response": "x"})
    argument = given.replace("@", f"@{tmp_path}/")
    await cfai.run(*JOINING["run"], argument, stdin=b"PIPED\n")
    assert fake.requests[0].json() == {"prompt": "hi"}


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["chat", "-", "--system", "-"], ("--system", "PROMPT")),
        (["chat", "Hi", "-a", "-", "--system", "-"], ("--attach", "--system")),
        (["chat", "Hi", "-a", "-", "-a", "-"], ("--attach", "--attach")),
        (["chat", "-", "--schema", "-"], ("--schema", "PROMPT")),
        (["run", "@cf/a/b", "-", "-a", "-"], ("--attach", "INPUT")),
        (["decide", "-", "-q", "-"], ("--question", "TEXT")),
        (["extract", "-", "-f", "a", "-a", "-"], ("--attach", "TEXT")),
    ],
)
async def test_standard_input_is_read_for_one(
    cfai: Cfai, fake: FakeWorkersAI, arguments: list[str], names: tuple[str, str]
) -> None:
    """For two, it is a usage error that names both, and nothing is sent."""
    done = await cfai.run(*arguments, stdin=b"ok")
    assert done.code == 2
    assert f"{names[0]} and {names[1]} can't both be standard input" in done.err
    assert not fake.requests


@pytest.mark.parametrize("option", ["--system", "--attach", "--schema"])
async def test_what_an_option_has_read_is_not_piped_into_the_text(
    cfai: Cfai, fake: FakeWorkersAI, option: str
) -> None:
    """Then nothing else comes before the text."""
    fake.fails(400, 5006, "enough")
    await cfai.run("chat", "Hi", option, "-", stdin=b"ok")
    body = fake.requests[0].json()
    system = [{"role": "system", "content": "ok"}] if option == "--system" else []
    text = "standard input:\n\nok\n\nHi" if option == "--attach" else "Hi"
    assert body["messages"] == [*system, {"role": "user", "content": text}]
    assert ("response_format" in body) == (option == "--schema")


@pytest.mark.parametrize("empty", ["", " ", "@empty.txt"])
async def test_empty_instructions_are_not_sent(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, empty: str
) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    fake.streams("x")
    await cfai.run("chat", "Hi", "-s", empty.replace("@", f"@{tmp_path}/"))
    assert fake.requests[0].json()["messages"] == [{"role": "user", "content": "Hi"}]


async def test_a_silent_pipe_is_explained(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """The command waits on, and what comes later is not lost."""
    fake.streams("x")
    async with cfai.running("chat", "Hi", stdin=asyncio.subprocess.PIPE) as running:
        assert running.process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            line = await running.process.stderr.readline()
        assert line.startswith(b"hint: reading standard input")
        done = await running.done(b"late\n")
    assert (done.code, done.text, done.err) == (0, "x\n", "")
    assert fake.requests[0].json()["messages"] == [{"role": "user", "content": "late\n\nHi"}]


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


def test_an_empty_schema_is_refused() -> None:
    with pytest.raises(InputError, match="--schema must say what the answer is"):
        parse_schema("{}")


@pytest.mark.parametrize("argument", ["a,a", "a:int, b, a:str"])
def test_a_schema_gives_each_name_once(argument: str) -> None:
    with pytest.raises(InputError, match="--schema must give each name once, got a twice"):
        parse_schema(argument)


TEXT = b"Just a note, and no recording.\n"
HEIC = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(16)


@pytest.mark.parametrize(
    ("data", "actual"),
    [
        (TEXT, "text"),
        (TEXT.decode().encode("utf-16"), "text"),
        ("Grüße aus Köln\n".encode("latin-1"), "text"),
        (b"<svg></svg>", "text"),
        (b"%PDF-1.7 \xff\xfe", "a PDF"),
        (PNG, "an image"),
        (HEIC, "an image"),
    ],
)
@pytest.mark.parametrize(
    "arguments", [["transcribe"], ["run", "@cf/openai/whisper"], ["run", "@cf/openai/whisper", "-"]]
)
async def test_only_sounds_are_sent_as_sounds(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, arguments: list[str], data: bytes, actual: str
) -> None:
    """The content of the file decides, and not its name."""
    (tmp_path / "a.mp3").write_bytes(data)
    file = [] if arguments[-1] == "-" else [f"@{tmp_path / 'a.mp3'}"]
    done = await cfai.run(*arguments, *file, stdin=data)
    assert done.code == 2
    assert f"must be a recording, got {actual}" in done.err
    assert not fake.requests


@pytest.mark.parametrize("data", [b"ID3\x04\x00", b"\x00\x00\x00\x18ftypmp42", b"\x01\x02\xff\x00"])
async def test_sounds_and_what_is_not_recognized_are_sent(
    cfai: Cfai, fake: FakeWorkersAI, data: bytes
) -> None:
    fake.answers({"text": "Hi"})
    done = await cfai.run("transcribe", "-", stdin=data)
    assert (done.code, done.text) == (0, "Hi\n"), done.err


async def test_an_attached_file_may_be_the_whole_message(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("Hello\n")
    (tmp_path / "a.heic").write_bytes(HEIC)
    fake.always.streams("x")
    for name in ("a.txt", "a.heic"):
        done = await cfai.run("chat", "-m", READER, "-a", str(tmp_path / name))
        assert (done.code, done.err) == (0, "")
    text, image = (request.json()["messages"][0]["content"] for request in fake.requests)
    assert text == "a.txt:\n\nHello"
    (part,) = image
    assert part["image_url"]["url"].startswith("data:image/heic;base64,")


GERMAN = "Die Straße ist naß, und die Bäume blühen schön für Grüße aus Köln.\n"
RUSSIAN = "Привет всем, сегодня в городе очень хорошая погода, и мы идём гулять в парк.\n"


@pytest.mark.parametrize(
    ("text", "encoding", "guess"),
    [
        (GERMAN, "utf-8", None),
        (GERMAN, "utf-8-sig", None),
        (GERMAN, "utf-16", None),
        (GERMAN, "utf-32", None),
        (GERMAN, "latin-1", "cp1252"),
        (GERMAN, "utf-16-le", "utf-16-le"),
        (GERMAN, "utf-16-be", "utf-16-be"),
        ("Zażółć gęślą jaźń, proszę państwa.\n", "cp1250", "cp1250"),
        (RUSSIAN * 3, "cp1251", "cp1251"),
    ],
)
def test_texts_are_read_in_any_encoding(text: str, encoding: str, guess: str | None) -> None:
    assert decode_any(text.encode(encoding)) == (text, guess)


@pytest.mark.parametrize(
    "data",
    [
        *(b"%PDF-1.7", b"PK\3\4\0", b"\xd0\xcf\x11\xe0\xa1\xb1", b"a\0b"),
        *(PNG, HEIC, b"ID3\4\0", bytes(999), bytes(range(256)), b"\xc8\1" * 99),
    ],
)
def test_other_data_are_no_texts(data: bytes) -> None:
    assert decode_any(data) is None


@pytest.mark.parametrize("given", ["attached", "file", "pipe", "system", "run", "decide"])
async def test_a_guessed_encoding_is_named(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, given: str
) -> None:
    """The text is joined to the prompt, and not converted to Markdown."""
    data = GERMAN.encode("latin-1")
    file = tmp_path / "notes.txt"
    file.write_bytes(data)
    if given in ("run", "decide"):
        fake.answers({"response": "x", "answers": {}})
    fake.always.streams("x")
    arguments = {
        "attached": ["chat", "Summarize", "-a", str(file)],
        "file": ["chat", f"@{file}"],
        "pipe": ["chat"],
        "system": ["chat", "Hi", "-s", f"@{file}"],
        "run": ["run", "@cf/meta/llama-3.1-8b-instruct-fast", "Summarize", "-a", str(file)],
        "decide": ["decide", "-q", "ok", "-a", str(file)],
    }[given]
    done = await cfai.run(*arguments, stdin=data if given == "pipe" else b"")
    names = {"pipe": "standard input", "file": str(file), "system": str(file)}
    name = names.get(given, "notes.txt")
    assert done.err.startswith(f"{name} is not UTF-8; it is read as cp1252\n")
    (request,) = fake.requests
    assert GERMAN.strip() in json.dumps(request.json(), ensure_ascii=False)


@pytest.mark.parametrize("data", [b"%PDF-1.7", b"\xd0\xcf\x11\xe0\0"])
async def test_other_files_are_converted_to_markdown(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, data: bytes
) -> None:
    (tmp_path / "a.doc").write_bytes(data)
    row = {"name": "a.doc", "format": "markdown", "mimetype": "x", "tokens": 1, "data": "# Hi"}
    fake.answers([row])
    fake.streams("x")
    done = await cfai.run("chat", "Summarize", "-a", str(tmp_path / "a.doc"))
    assert (done.code, done.err) == (0, "")
    assert fake.requests[0].target.endswith("/ai/tomarkdown")
    (message,) = fake.requests[1].json()["messages"]
    assert message["content"] == "a.doc:\n\n# Hi\n\nSummarize"
