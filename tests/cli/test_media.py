"""`cfai transcribe`, `cfai image` and `cfai speak`: thin commands over their tasks."""

import base64
import sys
from pathlib import Path

import pytest

from cfai.testing import FakeSocket, FakeWorkersAI

from .conftest import needs_terminals
from .processes import Cfai
from .test_serve import exported

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256))
MP3 = b"ID3\x04" + bytes(range(256))


@pytest.mark.parametrize("given", ["path", "file", "dash"])
async def test_transcribe_prints_the_text(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, given: str
) -> None:
    """A path, `@FILE` and `-` give the same request."""
    fake.answers({"text": " Good day. ", "word_count": 2})
    file = tmp_path / "a.mp3"
    file.write_bytes(MP3)
    argument = {"path": f"{file}", "file": f"@{file}", "dash": "-"}[given]
    done = await cfai.run("transcribe", argument, "--language", "en", stdin=MP3)
    assert (done.code, done.text, done.err) == (0, "Good day.\n", "")
    (request,) = fake.requests
    assert request.path.endswith("/ai/run/@cf/openai/whisper-large-v3-turbo")
    assert request.json() == {"audio": base64.b64encode(MP3).decode(), "language": "en"}


async def test_image_writes_the_file(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    """A name that does not fit the image is a warning: the image was paid for."""
    for name, warning in (
        ("cat.jpg", ""),
        ("cat.JPEG", ""),
        ("cat", ""),
        ("cat.png", f"warning: {tmp_path}/cat.png contains image/jpeg; a better ending is .jpg\n"),
    ):
        fake.answers({"image": base64.b64encode(JPEG).decode()})
        target = tmp_path / name
        done = await cfai.run("image", "a cat", "-o", str(target))
        assert (done.code, done.out, done.err) == (0, b"", warning)
        assert target.read_bytes() == JPEG
        assert fake.requests[-1].json()["prompt"] == "a cat"


async def test_speak_writes_the_sound(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    """To standard output or to a file. The text follows what is piped in."""
    target = tmp_path / "a.mp3"
    for arguments in (["-o", str(target)], [], ["-o", "-"]):
        fake.says(MP3, content_type="audio/mpeg")
        done = await cfai.run("speak", "Good day", *arguments, stdin=b"Hello.\n")
        assert (done.code, done.out) == (0, b"" if str(target) in arguments else MP3), done.err
        assert fake.requests[-1].json() == {"text": "Hello.\n\nGood day"}
    assert target.read_bytes() == MP3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["transcribe", "missing.mp3"], "can't read missing.mp3"),
        (["transcribe", "-"], "standard input is empty"),
        (["image", "-o", "a.png"], "there is no text"),
        (["speak", "-"], "there is no text"),
        (["speak", "Hi", "-m", "@cf/baai/bge-m3"], "is not known to speak"),
    ],
)
async def test_wrong_arguments_are_usage_errors(
    cfai: Cfai, fake: FakeWorkersAI, arguments: list[str], message: str
) -> None:
    """Nothing is sent."""
    done = await cfai.run(*arguments)
    assert done.code == 2
    assert message in done.err
    assert not fake.requests


@needs_terminals
@pytest.mark.parametrize("command", ["image", "speak"])
async def test_a_file_is_not_printed_at_a_terminal(
    cfai: Cfai, fake: FakeWorkersAI, command: str
) -> None:
    async with cfai.at_a_terminal(command, "hi") as terminal:
        await terminal.shows("name a file with -o FILE")
        assert await terminal.ended() == 2
    assert not fake.requests


# Real models


@pytest.mark.skipif(sys.platform == "win32", reason="its shell is variables another way")
@pytest.mark.usefixtures("text_model", "speech_models")
async def test_what_a_local_server_speaks_it_transcribes(stranger: Cfai, tmp_path: Path) -> None:
    """`cfai serve` in one process, `cfai speak` and `cfai transcribe` in others."""
    async with stranger.running("serve", "--port", "0") as running:
        client = Cfai(await exported(running))
        file = tmp_path / "sound.mp3"
        for model in ("@cf/deepgram/aura-1", "@cf/myshell-ai/melotts"):
            text = "Lunch is ready in the kitchen."
            done = await client.run("speak", text, "--model", model, "-o", str(file))
            assert (done.code, done.out, done.err) == (0, b"", "")
            done = await client.run("transcribe", str(file))
            assert (done.code, done.text, done.err) == (0, f"{text}\n", "")
        spoken = await client.run("speak", "Good morning.")
        done = await client.run("transcribe", "-", "-m", "@cf/openai/whisper", stdin=spoken.out)
        assert done.text == "Good morning.\n"
        done = await client.run("transcribe", str(file), "--language", "de")
        assert done.code == 1
        assert "understands only English: language is 'de'" in done.err


@pytest.mark.usefixtures("speech_models")
@pytest.mark.parametrize("suffix", [".mp3", ".wav"])
async def test_speech_without_an_account(stranger: Cfai, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"sound{suffix}"
    done = await stranger.run("speak", "--local", "The train leaves at nine.", "-o", str(file))
    assert (done.code, done.err) == (0, "")
    done = await stranger.run("transcribe", "--local", str(file))
    assert (done.code, done.text, done.err) == (0, "The train leaves at nine.\n", "")


async def test_transcribe_into_a_file(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    """As UTF-8, with one newline at the end, and nothing on standard output."""
    fake.answers({"text": "  Grüße. \n"})
    target = tmp_path / "text.txt"
    done = await cfai.run("transcribe", "-", "-o", str(target), stdin=MP3)
    assert (done.code, done.out, done.err) == (0, b"", "")
    assert target.read_bytes() == "Grüße.\n".encode()


async def test_a_voice_that_is_silent_writes_no_file(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    async def answer_without_audio(socket: FakeSocket) -> None:
        for _ in range(2):
            await socket.receive()  # Speak, Flush
        await socket.send({"type": "Flushed", "sequence_id": 0})

    fake.connects_by(answer_without_audio)
    target = tmp_path / "a.wav"
    done = await cfai.run("speak", "Good day", "-o", str(target))
    assert done.code == 1
    assert "@cf/deepgram/aura-1 spoke nothing" in done.err
    assert not target.exists()


async def test_models_and_texts_of_other_sources(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    """The model can be chosen, and the text be in a file."""
    text = tmp_path / "text.txt"
    text.write_text("Good day")
    fake.says(MP3, content_type="audio/mpeg").answers({"image": base64.b64encode(JPEG).decode()})
    done = await cfai.run("speak", f"@{text}", "-m", "@cf/deepgram/aura-2-en")
    assert (done.code, done.out) == (0, MP3), done.err
    done = await cfai.run("image", f"@{text}", "-m", "@cf/a/flux", "-o", str(tmp_path / "a.jpg"))
    assert done.code == 0, done.err
    speech, image = fake.requests
    assert (speech.path.rpartition("run/")[2], speech.json()) == (
        "@cf/deepgram/aura-2-en",
        {"text": "Good day"},
    )
    assert (image.path.rpartition("run/")[2], image.json()) == (
        "@cf/a/flux",
        {"prompt": "Good day"},
    )
