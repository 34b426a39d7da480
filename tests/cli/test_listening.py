"""`cfai listen` and `cfai speak -o x.wav`: speech over WebSockets at the command line."""

import asyncio
import io
import json
import os
import struct
import wave
from pathlib import Path
from typing import Any

import pytest

from cfai.media import wav_header
from cfai.testing import FakeSocket, FakeWorkersAI

from .conftest import needs_terminals
from .processes import PATIENCE, Cfai

PCM = bytes(range(200)) * 40


def results(text: str, *, is_final: bool = True) -> dict[str, Any]:
    channel = {"alternatives": [{"transcript": text}]}
    return {"type": "Results", "channel": channel, "is_final": is_final}


def wav(pcm: bytes = PCM, *, rate: int = 16000, channels: int = 1, width: int = 2) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(pcm)
    return buffer.getvalue()


@pytest.mark.parametrize("given", ["path", "file", "dash"])
async def test_final_passages_are_lines(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, given: str
) -> None:
    fake.connects(
        {"type": "Connected"},
        at_end=[results("hel", is_final=False), results(" hello "), results("bye")],
    )
    file = tmp_path / "a.wav"
    file.write_bytes(wav(rate=8000))
    argument = {"path": f"{file}", "file": f"@{file}", "dash": "-"}[given]
    done = await cfai.run("listen", argument, "-l", "en", stdin=wav(rate=8000))
    assert (done.code, done.text, done.err) == (0, "hello\nbye\n", "")
    assert fake.requests[0].target.partition("?")[2] == (
        "encoding=linear16&sample_rate=8000&language=en"
    )
    assert fake.sockets[0].audio == PCM


@pytest.mark.parametrize("size", [len(PCM), 0, 0xFFFFFFFF, 0x7FFFFFFF - 36])
async def test_chunks_after_the_sound_are_no_sound(
    cfai: Cfai, fake: FakeWorkersAI, size: int
) -> None:
    """A program that writes into a pipe does not know the size; then all is sound."""
    fake.connects(at_end=[results("hello")])
    file = bytearray(wav())
    file[40:44] = struct.pack("<I", size)
    trailer = b"LIST\x04\0\0\0INFO"
    done = await cfai.run("listen", "-", stdin=bytes(file) + trailer)
    assert (done.code, done.text, done.err) == (0, "hello\n", "")
    assert fake.sockets[0].audio == (PCM if size == len(PCM) else PCM + trailer)


async def test_ctrl_c_ends_a_silent_pipe(cfai: Cfai, fake: FakeWorkersAI) -> None:
    fake.connects()
    arguments = ("listen", "-", "--rate", "16000")
    async with cfai.running(*arguments, stdin=asyncio.subprocess.PIPE) as running:
        assert running.process.stdin is not None
        running.process.stdin.write(PCM)
        await fake.until(lambda: fake.sockets and fake.sockets[0].audio == PCM)
        running.interrupt()
        async with asyncio.timeout(PATIENCE):
            assert await running.process.wait() == 130


async def test_all_events_as_json(cfai: Cfai, fake: FakeWorkersAI) -> None:
    fake.connects({"type": "SpeechStarted"}, at_end=[results("a", is_final=False), results("a b")])
    done = await cfai.run("listen", "-", "--rate", "16000", "--json", stdin=PCM)
    events = [json.loads(line) for line in done.lines]
    assert [event["event"] for event in events] == ["SpeechStarted", "Partial", "Final"]
    assert events[2]["text"] == "a b"
    assert "interim_results=true" in fake.requests[0].target
    assert fake.sockets[0].audio == PCM


@pytest.mark.parametrize(
    "sound",
    [
        b"OggS and so on",
        b"RIFF\0\0\0\0AVI and so on",
        b"RIFX\0\0\0\0WAVE and so on",
        b"\xff\0short",
    ],
)
async def test_other_formats_are_sent_as_they_are(
    cfai: Cfai, fake: FakeWorkersAI, sound: bytes
) -> None:
    fake.connects(at_end=[results("hi")])
    done = await cfai.run("listen", "-", stdin=sound)
    assert (done.code, done.text) == (0, "hi\n")
    assert "?" not in fake.requests[0].target
    assert fake.sockets[0].audio == sound


@pytest.mark.parametrize(
    ("data", "actual"),
    [
        (b"Just a note.", "text"),
        (b"Just a note, and no recording.\n" * 99, "text"),
        ("Notizen über eine Straße.\n".encode("cp1252") * 99, "text"),
        ("\u4f60\u597d\uff0c".encode() * 999, "text"),
        ("A note\n".encode("utf-16") * 99, "text"),
        (b"\x89PNG\r\n\x1a\n" + bytes(999), "an image"),
        (b"\xff\xd8\xff\xe0" + bytes(999), "an image"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF"),
    ],
)
async def test_only_sounds_are_sent(
    cfai: Cfai, fake: FakeWorkersAI, data: bytes, actual: str
) -> None:
    done = await cfai.run("listen", "-", stdin=data)
    message = f"error: standard input must be a recording, got {actual}\n"
    assert (done.code, done.err) == (2, message)
    assert not fake.requests


@pytest.mark.parametrize("options", [[], ["--rate", "16000"], ["-m", "@cf/deepgram/flux"]])
async def test_the_content_decides_and_not_the_name(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, options: list[str]
) -> None:
    (tmp_path / "a.wav").write_text("Just a note.\n")
    done = await cfai.run("listen", str(tmp_path / "a.wav"), *options)
    assert (done.code, done.err) == (2, "error: a.wav must be a recording, got text\n")
    assert not fake.requests


async def test_flux_prints_turns(cfai: Cfai, fake: FakeWorkersAI) -> None:
    turns = [("StartOfTurn", "He"), ("Update", "Hello"), ("EndOfTurn", "Hello.")]
    fake.connects(*({"event": event, "transcript": text} for event, text in turns))
    done = await cfai.run("listen", "-", "-m", "@cf/deepgram/flux", stdin=wav())
    assert (done.code, done.text) == (0, "Hello.\n")


async def test_a_cut_keeps_what_was_printed(cfai: Cfai, fake: FakeWorkersAI) -> None:
    async def talk(socket: FakeSocket) -> None:
        await socket.send(results("hello"))
        await socket.close(1011, "overloaded")
        await socket.receive()

    fake.connects_by(talk)
    done = await cfai.run("listen", "-", stdin=wav())
    assert (done.code, done.text) == (5, "hello\n")
    assert "code 1011: overloaded" in done.err


FLOATS = struct.pack("<4sI8sI", b"RIFF", 36, b"WAVEfmt ", 16) + struct.pack(
    "<HHIIHH4sI", 3, 1, 16000, 64000, 4, 32, b"data", 0
)


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (["missing.wav"], b"", "can't read missing.wav"),
        (["-"], b"", "there is no sound"),
        (["-"], wav(width=1), "must have 16-bit PCM"),
        (["-"], FLOATS, "must have 16-bit PCM"),
        (["-", "-m", "@cf/deepgram/flux"], b"OggS and so on", "takes PCM only"),
        (["-", "-m", "@cf/deepgram/flux"], wav(channels=2), "takes one channel"),
        (["-", "-m", "@cf/baai/bge-m3"], wav(), "does not transcribe"),
    ],
)
async def test_wrong_input_is_a_usage_error(
    cfai: Cfai, fake: FakeWorkersAI, arguments: list[str], stdin: bytes, message: str
) -> None:
    done = await cfai.run("listen", *arguments, stdin=stdin)
    assert done.code == 2
    assert message in done.err
    assert not fake.requests


async def test_aura_speaks_into_a_wav_file(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    async def talk(socket: FakeSocket) -> None:
        while (message := await socket.receive()) is not None:
            if message == '{"type":"Flush"}':
                await socket.send(PCM[:1000], PCM[1000:], {"type": "Flushed"})

    fake.connects_by(talk)
    target = tmp_path / "a.wav"
    done = await cfai.run("speak", "Good day. And more.", "-o", str(target))
    assert (done.code, done.out, done.err) == (0, b"", "")
    with wave.open(str(target)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24000, 1, 2)
        assert file.readframes(file.getnframes()) == PCM
    texts = [m["text"] for m in fake.sockets[0].texts if m["type"] == "Speak"]
    assert texts == ["Good day. ", "And more."]


async def test_a_voice_that_is_cut_writes_no_file(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    async def talk(socket: FakeSocket) -> None:
        await socket.send(PCM)
        socket.hang_up()

    fake.connects_by(talk)
    target = tmp_path / "a.wav"
    done = await cfai.run("speak", "Good day", "-o", str(target))
    assert done.code == 5
    assert not target.exists()


def test_the_header_is_that_of_the_standard_library() -> None:
    for rate, channels in ((8000, 1), (24000, 1), (44100, 2)):
        header = wav_header(len(PCM), rate, channels=channels)
        assert header + PCM == wav(rate=rate, channels=channels)


@needs_terminals
@pytest.mark.parametrize("after", [b"", PCM[:2000]])
async def test_a_source_that_fails_is_named(cfai: Cfai, fake: FakeWorkersAI, after: bytes) -> None:
    """Before the sound and in the middle of it: a device that is gone, here a closed terminal."""
    import tty

    fake.connects()
    source, other = os.openpty()
    tty.setraw(other)
    async with cfai.running("listen", "-", "--rate", "16000", stdin=source) as running:
        os.close(source)
        if after:
            os.write(other, after)
            await fake.until(lambda: fake.sockets and fake.sockets[0].audio == after)
        os.close(other)
        done = await running.done()
    assert (done.code, done.out) == (2, b"")
    assert done.err == "error: can't read the sound: Input/output error\n"


@needs_terminals
@pytest.mark.parametrize("model", ["@cf/deepgram/nova-3", "@cf/deepgram/flux"])
async def test_what_is_still_spoken_is_shown_at_a_terminal(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, model: str
) -> None:
    """In the last line, whose end is shown if it is long; it is removed for the final passage."""
    is_flux = model.endswith("flux")

    def passage(text: str, kind: str) -> dict[str, Any]:
        if is_flux:
            return {"event": "EndOfTurn" if kind == "final" else "Update", "transcript": text}
        return results(text, is_final=kind == "final")

    fake.connects(
        passage("hel", "partial"),
        passage("  ", "partial"),
        passage("hello\nmy fr\x07iend", "partial"),
        passage("hello my friend", "final"),
        passage("", "final"),
        passage("and", "partial"),
    )
    file = tmp_path / "a.wav"
    file.write_bytes(wav())
    async with cfai.at_a_terminal("listen", str(file), "-m", model, columns=12) as terminal:
        assert await terminal.ended() == 0
    erased = "\r\x1b[K"
    assert terminal.screen == (
        f"{erased}hel{erased}{erased}o my friend{erased}hello my friend\r\n{erased}and{erased}"
    )
    assert ("interim_results=true" in fake.requests[0].target) is not is_flux


@needs_terminals
@pytest.mark.parametrize("term", ["dumb", "unknown"])
async def test_a_dumb_terminal_shows_final_passages_only(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, term: str
) -> None:
    fake.connects(results("hel", is_final=False), results("hello"))
    file = tmp_path / "a.wav"
    file.write_bytes(wav())
    async with cfai.at_a_terminal("listen", str(file), TERM=term) as terminal:
        assert await terminal.ended() == 0
    assert terminal.screen == "hello\r\n"
    assert "interim_results" not in fake.requests[0].target
