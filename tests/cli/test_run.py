"""`cfai run`: any input to any model, and where the answer is written."""

import asyncio
import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from cfai.cli.run import parse_input
from cfai.errors import InputError
from cfai.profiles import TASKS
from cfai.tasks import (
    AutomaticSpeechRecognition,
    Decide,
    Extract,
    SpeechSynthesis,
    TextToImage,
    TextToSpeech,
)
from cfai.testing import FakeWorkersAI

from .conftest import needs_terminals
from .processes import Cfai

LLAMA = "@cf/meta/llama-3.1-8b-instruct-fast"
SUMMARIZER = next(model for model, task in TASKS.items() if task == "Summarization")
FLUX = "@cf/black-forest-labs/flux-1-schnell"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


@pytest.mark.parametrize(
    ("model", "given", "task"),
    [
        (LLAMA, "hi", {"prompt": "hi"}),
        (LLAMA, b"hi", {"prompt": "hi"}),
        (LLAMA, ' {"messages": []}', {"messages": []}),
        (LLAMA, b'{"prompt": "hi"}', {"prompt": "hi"}),
        ("@cf/new/model", "hi", {"prompt": "hi"}),
        ("@cf/baai/bge-m3", "hi", {"text": "hi"}),
        ("@cf/huggingface/distilbert-sst-2-int8", "hi", {"text": "hi"}),
        (SUMMARIZER, "hi", {"input_text": "hi"}),
        (FLUX, "a cat", TextToImage("a cat")),
        (FLUX, '{"prompt": "a cat", "steps": 4}', TextToImage("a cat", extra={"steps": 4})),
        (FLUX, '{"steps": 4}', {"steps": 4}),
        ("@cf/myshell-ai/melotts", "hi", TextToSpeech("hi")),
        ("@cf/deepgram/aura-1", "hi", SpeechSynthesis("hi")),
        ("@cf/openai/whisper", b"\xff\xfb", AutomaticSpeechRecognition(b"\xff\xfb")),
        (
            "@cf/cloudflare/clef-flash",
            '{"state": "a", "questions": {"q": {"type": "noul", "instructions": "?"}}, "seed": 1}',
            Decide("a", {"q": {"type": "noul", "instructions": "?"}}, extra={"seed": 1}),
        ),
        ("@cf/cloudflare/clef", '{"state": "a"}', {"state": "a"}),
        (
            "@cf/cloudflare/clairic",
            '{"state": "a", "fields": {"f": {"type": "text"}}}',
            Extract("a", {"f": {"type": "text"}}),
        ),
    ],
)
def test_input_becomes_a_task(model: str, given: str | bytes, task: Any) -> None:
    """A JSON object is sent unchanged; other input becomes the task's main field."""
    assert parse_input(model, given) == task


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        (LLAMA, "", "there is no input: give text, a JSON object, @FILE, or pipe one in"),
        ("@cf/new/model", "", "there is no input"),
        ("@cf/new/model", b"\n", "there is no input"),
        (LLAMA, "{", "must be a JSON object"),
        (LLAMA, b"\xff\0\1", "must be text, got 3 bytes of something else"),
        ("@cf/openai/whisper", "speech.mp3", "needs a file: give @FILE"),
        ("@cf/meta/m2m100-1.2b", "hi", "needs text, target_lang: give a JSON object"),
        ("@cf/cloudflare/clef", "hi", "needs state, questions: give a JSON object"),
        ("@cf/cloudflare/clairic", "hi", "needs state, fields: give a JSON object"),
    ],
)
def test_invalid_input_is_refused(model: str, given: str | bytes, message: str) -> None:
    """The error says what input the model needs."""
    with pytest.raises(InputError) as caught:
        parse_input(model, given)
    assert message in str(caught.value)


@pytest.mark.parametrize("given", ["argument", "file", "dash", "pipe"])
async def test_input_from_argument_file_and_stdin(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, given: str
) -> None:
    """Argument, file and standard input give the same request."""
    fake.answers({"response": "Grüße"})
    file = tmp_path / "in.json"
    file.write_text('{"prompt": "hi"}')
    arguments = {"argument": ['{"prompt": "hi"}'], "file": [f"@{file}"], "dash": ["-"], "pipe": []}
    done = await cfai.run("run", LLAMA, *arguments[given], stdin=file.read_bytes())
    assert (done.code, done.text, done.err) == (0, '{"response":"Grüße"}\n', "")
    assert fake.requests[0].json() == {"prompt": "hi"}


async def test_a_text_follows_what_is_piped_in(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """As in `cfai chat`."""
    fake.answers({"response": "x"})
    await cfai.run("run", LLAMA, "Summarize", stdin=b"note\n")
    assert fake.requests[0].json() == {"prompt": "note\n\nSummarize"}


async def test_unknown_models_get_a_prompt(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """Text is sent as the prompt; if that is refused, a hint says so."""
    fake.fails(400, 5006, "Error: required properties at '/' are 'text'")
    done = await cfai.run("run", "@cf/new/model", "hi")
    assert done.code == 1
    assert "hint: the input of @cf/new/model is not known" in done.err
    fake.fails(400, 5007, "No such model")
    done = await cfai.run("run", "@cf/new/model", "hi")
    assert "prompt" not in done.err
    done = await cfai.run("run", "@cf/new/model")
    assert (done.code, done.err.partition(":")[0]) == (2, "error")
    assert "there is no input" in done.err


async def test_a_retired_model_is_named_in_one_line(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """Without the line of code that a warning otherwise shows."""
    fake.answers({"summary": "Hi"})
    done = await cfai.run("run", SUMMARIZER, "Hi")
    assert (done.code, done.text) == (0, '{"summary":"Hi"}\n')
    assert done.err == (f"warning: {SUMMARIZER} was retired on 2026-05-30: use another model\n")


async def test_the_result_is_printed_unchanged(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    """The result is printed as the service sent it, also for media."""
    result = {"text": "hello", "word_count": 1, "something": "new"}
    fake.answers(result)
    (tmp_path / "a.mp3").write_bytes(b"\xff\xfb\x90")
    done = await cfai.run("run", "@cf/openai/whisper", f"@{tmp_path / 'a.mp3'}")
    assert json.loads(done.text) == result
    assert fake.requests[0].body == b"\xff\xfb\x90"


async def test_events_are_printed_as_they_arrive(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """A stream is one line of JSON per event, printed when it arrives."""
    rest = asyncio.Event()
    fake.streams("Hel", rest, "lo")
    async with cfai.running("run", LLAMA, '{"prompt": "hi", "stream": true}') as running:
        await running.reads(b'{"response":"Hel"}\n')
        rest.set()
        done = await running.done()
    assert done.out == b'{"response":"lo"}\n'


async def test_bytes_to_a_pipe(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """A file is written to a pipe as bytes."""
    fake.says(PNG, content_type="image/png")
    done = await cfai.run("run", FLUX, "a cat")
    assert (done.code, done.out) == (0, PNG)


async def test_speech_is_piped_as_it_arrives(cfai: Cfai, fake: FakeWorkersAI) -> None:
    rest = asyncio.Event()
    fake.says(b"ID3\x04", rest, b"more", content_type="audio/mpeg", framing="chunked")
    async with cfai.running("run", "@cf/deepgram/aura-1", "Good day") as running:
        await running.reads(b"ID3\x04")
        rest.set()
        done = await running.done()
    assert (done.code, done.out) == (0, b"more")


async def test_bytes_to_a_file(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    """-o replaces the file; base64 of the service is decoded."""
    fake.answers({"image": "iVBORw0KGgo="})
    target = tmp_path / "cat.png"
    target.write_bytes(b"what was there before, and was longer than the answer is")
    done = await cfai.run("run", FLUX, '{"prompt": "a cat", "steps": 4}', "-o", str(target))
    assert (done.code, done.out) == (0, b"")
    assert target.read_bytes() == PNG[:8]
    assert fake.requests[0].json() == {"prompt": "a cat", "steps": 4}


async def test_lines_to_a_file(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    """-o also writes JSON, and all lines of a stream."""
    fake.streams("Hel", "lo")
    target = tmp_path / "out.jsonl"
    await cfai.run("run", LLAMA, '{"prompt": "hi", "stream": true}', "-o", str(target))
    assert target.read_text() == '{"response":"Hel"}\n{"response":"lo"}\n'


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "Is a directory"),
        ("nowhere/cat.png", "No such file or directory"),
        ("file/cat.png", "Not a directory"),
        ("y" * 300, "File name too long"),
        ("link", "No such file or directory"),
        ("loop", "Too many levels of symbolic links"),
    ],
)
async def test_output_files_are_tried_before_the_request(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, name: str, reason: str
) -> None:
    """Nothing is sent if the file can't be written, and nothing is left."""
    (tmp_path / "file").write_text("stays")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "cat.png")
    (tmp_path / "loop").symlink_to("loop")
    target = tmp_path / name
    for arguments in (("run", FLUX, "a cat"), ("embed", "1"), ("speak", "hi")):
        done = await cfai.run(*arguments, "-o", str(target))
        assert done.code == 2
        assert done.err.splitlines()[0] == f"error: can't write to {target}: {reason}"
    assert not fake.requests
    assert sorted(path.name for path in os.scandir(tmp_path)) == ["file", "link", "loop"]
    assert (tmp_path / "file").read_text() == "stays"


async def test_input_files_must_be_readable(cfai: Cfai, tmp_path: Path) -> None:
    """The message names the file and the reason."""
    done = await cfai.run("run", LLAMA, f"@{tmp_path / 'no'}")
    assert done.code == 2
    error, hint = done.err.splitlines()
    assert error == f"error: can't read {tmp_path / 'no'}: No such file or directory"
    assert hint == "hint: @ names a file; a text that begins with @ can be piped in"


@needs_terminals
async def test_files_need_an_output_option_at_a_terminal(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """Nothing is sent if the answer is a file and the output a terminal."""
    async with cfai.at_a_terminal("run", FLUX, "a cat") as terminal:
        await terminal.shows("returns a file: name a file with -o FILE")
        assert await terminal.ended() == 2
    assert not fake.requests


@needs_terminals
async def test_unexpected_bytes_are_not_printed_at_a_terminal(
    cfai: Cfai, fake: FakeWorkersAI
) -> None:
    """A file that was not expected is not written to a terminal either."""
    fake.says(PNG, content_type="image/png")
    async with cfai.at_a_terminal("run", "@cf/new/model", "a cat") as terminal:
        await terminal.shows(f"the answer is {len(PNG)} bytes of image/png")
        assert await terminal.ended() == 2


@needs_terminals
async def test_json_is_indented_at_a_terminal(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """At a terminal, JSON has many lines."""
    fake.answers({"response": "hi"})
    async with cfai.at_a_terminal("run", LLAMA, "hi") as terminal:
        await terminal.shows('{\r\n  "response": "hi"\r\n}\r\n')
        assert await terminal.ended() == 0


# Attached files

LLAVA = "@cf/llava-hf/llava-1.5-7b-hf"
MOONDREAM = "@cf/moondream/moondream3.1-9B-A2B"
WHISPER_TURBO = "@cf/openai/whisper-large-v3-turbo"
IMG2IMG = "@cf/runwayml/stable-diffusion-v1-5-img2img"
MP3 = b"ID3\x04" + bytes(range(256))
PNG_BASE64 = base64.b64encode(PNG).decode()

ATTACHED: dict[str, tuple[str, list[str], str, Any]] = {
    "a part of a message": (
        "@cf/google/gemma-4-26b-a4b-it",
        ["What?"],
        "a.png",
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What?"},
                        {
                            "type": "image_url",
                            "image_url": {"url": f"data:image/png;base64,{PNG_BASE64}"},
                        },
                    ],
                }
            ]
        },
    ),
    "a text": (
        LLAMA,
        ["Why?"],
        "a.txt",
        {"messages": [{"role": "user", "content": "a.txt:\n\nHello\n\nWhy?"}]},
    ),
    "a text of another task": (
        "@cf/huggingface/distilbert-sst-2-int8",
        [],
        "a.txt",
        {"text": "a.txt:\n\nHello"},
    ),
    "an image in its field": (
        MOONDREAM,
        ["Where?"],
        "a.png",
        {
            "image": f"data:image/png;base64,{PNG_BASE64}",
            "question": "Where?",
            "stream": False,
        },
    ),
    "a sound in its field": (
        WHISPER_TURBO,
        [],
        "a.mp3",
        {"audio": base64.b64encode(MP3).decode()},
    ),
}


def write_files(folder: Path) -> None:
    for name, data in (("a.png", PNG), ("a.mp3", MP3), ("a.txt", b"Hello\n")):
        (folder / name).write_bytes(data)


@pytest.mark.parametrize("name", ATTACHED)
async def test_an_attached_file_goes_where_the_model_takes_it(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, name: str
) -> None:
    """A part of the message of a chat, the field of its kind, or text before the text."""
    write_files(tmp_path)
    model, arguments, file, body = ATTACHED[name]
    result = {"response": "Yes.", "text": "Yes.", "answer": "Yes."}
    fake.answers(result)
    done = await cfai.run("run", model, *arguments, "-a", str(tmp_path / file))
    assert (done.code, json.loads(done.text), done.err) == (0, result, "")
    assert fake.requests[0].json() == body


async def test_an_attached_image_is_drawn_over(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    """The answer is a file, as without it. A text is needed beside the image."""
    write_files(tmp_path)
    fake.says(PNG, content_type="image/png")
    done = await cfai.run("run", IMG2IMG, "a fox", "-a", str(tmp_path / "a.png"))
    assert (done.code, done.out, done.err) == (0, PNG, "")
    body = fake.requests[0].json()
    assert body == {"prompt": "a fox", "image_b64": PNG_BASE64}
    done = await cfai.run("run", IMG2IMG, "-a", str(tmp_path / "a.png"))
    assert (done.code, done.err) == (2, f"error: {IMG2IMG} needs a text beside the file\n")


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (LLAMA, ['{"prompt": "Hi"}', "-a", "a.png"], "--attach needs a text as INPUT"),
        (LLAMA, ["Hi", "-a", "a.mp3"], "a.mp3 can't be attached: it must be an image, a text or"),
        (LLAVA, ["Hi", "-a", "a.png", "-a", "a.png"], "must be a text or a document here, got an"),
        ("@cf/baai/bge-m3", ["Hi", "-a", "a.png"], "a.png can't be attached"),
        (WHISPER_TURBO, ["Hi", "-a", "a.mp3"], "takes a file and no text, got 'Hi'"),
        (LLAMA, ["Hi", "-a", "missing.png"], "can't read missing.png"),
    ],
)
async def test_a_file_that_the_model_does_not_take(
    fake: FakeWorkersAI, cfai: Cfai, tmp_path: Path, model: str, arguments: list[str], message: str
) -> None:
    """Nothing is sent."""
    write_files(tmp_path)
    given = [str(tmp_path / name) if (tmp_path / name).exists() else name for name in arguments]
    done = await cfai.run("run", model, *given)
    assert done.code == 2
    assert message in done.err
    assert not fake.requests


@pytest.mark.parametrize(
    ("name", "warning"),
    [
        ("a.png", "contains application/json; a better ending is .json"),
        ("a.mp3", "contains application/json; a better ending is .json"),
        ("a.json", ""),
        ("a.txt", ""),
        ("a.unknown", ""),
        ("a", ""),
    ],
)
async def test_the_ending_of_a_file_of_json_is_checked(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, name: str, warning: str
) -> None:
    """The answer is written nevertheless."""
    fake.answers({"response": "a cat"})
    path = tmp_path / name
    done = await cfai.run("run", LLAMA, "a cat", "-o", str(path))
    assert (done.code, json.loads(path.read_text())) == (0, {"response": "a cat"})
    assert done.err == (f"warning: {path} {warning}\n" if warning else "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chat", "@"], "PROMPT must name a file, got '@'"),
        (["chat", "Hi", "-a", ""], "--attach must name a file, got ''"),
        (["chat", "Hi", "-s", "@"], "--system must name a file, got '@'"),
        (["transcribe", "@"], "FILE must name a file, got '@'"),
        (["listen", "@"], "FILE must name a file, got '@'"),
        (["listen", ""], "FILE must name a file, got ''"),
    ],
)
async def test_a_file_has_a_name(
    cfai: Cfai, fake: FakeWorkersAI, arguments: list[str], message: str
) -> None:
    done = await cfai.run(*arguments)
    assert (done.code, done.err.splitlines()[0]) == (2, f"error: {message}")
    assert not fake.requests
