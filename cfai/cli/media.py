"""`cfai transcribe`, `cfai image` and `cfai speak`: media with a good model by default."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cfai import media
from cfai.cli import clients, files, run
from cfai.cli.console import Prose, Target, complete_files, output_option
from cfai.cli.inputs import AttachedFile
from cfai.errors import DecodeError, InputError
from cfai.tasks import AutomaticSpeechRecognition, Binary, Task, TextToImage

if TYPE_CHECKING:
    from cfai import Speaker

_WHISPER: Final = "@cf/openai/whisper-large-v3-turbo"
_FLUX: Final = "@cf/black-forest-labs/flux-1-schnell"
_AURA: Final = "@cf/deepgram/aura-1"


@click.command()
@click.argument(
    "audio", metavar="FILE", shell_complete=complete_files, help="A recording, or - for stdin."
)
@clients.model_option(_WHISPER)
@click.option("--language", "-l", help="The code of the spoken language.")
@output_option
@clients.local_option
def transcribe(
    audio: str, *, model: str, language: str | None, output: Path | None, local: bool
) -> None:
    """Print the text of a recording."""
    target = Target(output)
    _prepare_speech(local=local)
    recording = AttachedFile.read(audio, "FILE")
    recording.check_is("audio")
    task = AutomaticSpeechRecognition(recording.data, source_lang=language)
    asyncio.run(_transcribe(model, task, target, local=local))


def _prepare_speech(*, local: bool) -> None:
    if local:
        clients.require(*clients.SPEECH, needed_for="speech on this machine", extra="speech")
        clients.fetch_weights("speech")


async def _transcribe(
    model: str, task: AutomaticSpeechRecognition, target: Target, *, local: bool
) -> None:
    async with clients.open_client(local=local) as ai:
        answer = await ai.run(model, task)
    text = f"{answer.text.strip()}\n"
    if target.path is None:
        Prose().write(text)
    else:
        target.write_bytes(text.encode())
        target.check_suffix("text/plain")


@click.command()
@click.argument("prompt", required=False, help="What to draw: text, @FILE, or - for stdin.")
@clients.model_option(_FLUX)
@output_option
def image(prompt: str | None, *, model: str, output: Path | None) -> None:
    """Generate an image from a description."""
    _write_file(model, TextToImage(_read_text(prompt, "PROMPT")), Target(output), local=False)


@click.command()
@click.argument("text", required=False, help="What to say: text, @FILE, or - for stdin.")
@clients.model_option(_AURA)
@output_option
@clients.local_option
def speak(text: str | None, *, model: str, output: Path | None, local: bool) -> None:
    """Speak a text. Without -o, the sound is written to standard output as it arrives.

    An aura model speaks into a .wav file over a WebSocket.
    """
    if output is not None and output.suffix.lower() == ".wav" and "/aura-" in model:
        spoken = _read_text(text, "TEXT")
        _prepare_speech(local=local)
        asyncio.run(_speak_wav(model, spoken, Target(output), local=local))
        return
    task = run.parse_text(model, _read_text(text, "TEXT"))
    if not (isinstance(task, Task) and issubclass(task.answer, Binary)):
        raise InputError(f"{model} is not known to speak; `cfai run` runs any model")
    _prepare_speech(local=local)
    _write_file(model, task, Target(output), local=local)


async def _speak_wav(model: str, text: str, target: Target, *, local: bool) -> None:
    async with clients.open_client(local=local) as ai, ai.speak(model) as voice:
        saying = asyncio.create_task(_say(voice, text))
        sound, rate = bytearray(), 0
        try:
            async for chunk in voice:
                sound += chunk.data
                rate = chunk.sample_rate or rate
            await saying
        finally:
            saying.cancel()
    if not sound:
        raise DecodeError(f"{model} spoke nothing", meta=voice.meta)
    target.write_bytes(media.wav_header(len(sound), rate) + sound)


async def _say(voice: "Speaker", text: str) -> None:
    await voice.say(text)
    await voice.flush()


def _read_text(argument: str | None, name: str) -> str:
    text = files.read_prompt(argument, name)
    if not text.strip():
        raise InputError("there is no text: give text, @FILE, or pipe one in")
    return text


def _write_file(model: str, task: Task[Any], target: Target, *, local: bool) -> None:
    target.check_accepts_bytes("the answer is a file")
    asyncio.run(_run(model, task, target, local=local))


async def _run(model: str, task: Task[Any], target: Target, *, local: bool) -> None:
    async with clients.open_client(local=local) as ai:
        await run.run_model(ai, model, task, target)
