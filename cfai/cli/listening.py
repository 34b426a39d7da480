"""`cfai listen`: transcribes audio while it arrives, over a WebSocket."""

import asyncio
import struct
import sys
from contextlib import suppress
from functools import partial
from io import FileIO
from pathlib import Path
from threading import Thread
from typing import Any, Final

import click
from attrs import define, field

from cfai.cli import clients, console, files
from cfai.cli.inputs import AttachedFile
from cfai.errors import InputError
from cfai.tasks.listening import Final as FinalText, SpeechEvent, SpeechText, TurnEnded
from cfai.tasks.task import fields_to_plain

_NOVA: Final = "@cf/deepgram/nova-3"

_PIECE: Final = 2**16
"""Bytes that are read at once: a damaged file may announce more than the memory has."""

_START: Final = 256
"""Bytes that tell a text from a sound; 8 ms of speech."""

_UNKNOWN_SIZE: Final = 0x7FFFF000
"""Sizes from here on stand for an unknown one: sox writes 0x7FFFFFFF less its header, ffmpeg
0xFFFFFFFF."""


@click.command()
@click.argument(
    "audio",
    metavar="FILE",
    shell_complete=console.complete_files,
    help="A recording, or - for stdin, as it arrives.",
)
@clients.model_option(_NOVA)
@click.option("--rate", type=int, help="The input is 16-bit PCM at this many samples per second.")
@click.option("--language", "-l", help="The code of the spoken language.")
@click.option("--json", is_flag=True, help="Print every event as a line.")
@clients.local_option
def listen(
    audio: str, *, model: str, rate: int | None, language: str | None, json: bool, local: bool
) -> None:
    """Print what is said while it is said: a line for each passage that is final."""
    path = files.check_names_file(audio, "FILE")
    with _open(path) as file:
        sound = _Sound(file, "standard input" if path == "-" else Path(path).name)
        parameters = sound.read_format(model, rate)
        if language is not None:
            parameters["language"] = language
        shows_partials = console.stdout_is_terminal() and not console.terminal_is_dumb()
        if "flux" not in model and (json or shows_partials):
            parameters["interim_results"] = True
        shown = None if json else _Line(shows=shows_partials)
        asyncio.run(_listen(model, sound, parameters, shown, local=local))


async def _listen(
    model: str, sound: "_Sound", parameters: dict[str, Any], line: "_Line | None", *, local: bool
) -> None:
    """Print the events: as JSON without *line*."""
    async with (
        clients.open_client(local=local) as ai,
        ai.listen(model, audio=sound, **parameters) as ears,
    ):
        try:
            async for event in ears:
                if line is None:
                    console.write_text(console.to_json_line(_to_plain(event)))
                else:
                    line.show(event)
        finally:
            if line is not None:
                line.clear()


def _open(name: str) -> FileIO:
    """Open without a buffer, which could not be closed while a thread waits for it."""
    if name == "-":
        # Not closed: the process may need it at its end.
        return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    try:
        return Path(name).open("rb", buffering=0)
    except OSError as exc:
        raise InputError(f"can't read {name}: {exc.strerror or exc}") from exc


def _to_plain(event: SpeechEvent) -> dict[str, Any]:
    return {"event": type(event).__name__, **fields_to_plain(event, "raw")}


@define
class _Sound:
    """A file that is read as it arrives: `Listener` calls `read`."""

    _file: Any
    _name: str
    _first: bytes = field(default=b"", init=False)
    _left: int | None = field(default=None, init=False)
    """Bytes of sound that are left, if the file says so: other chunks may follow."""

    async def read(self, size: int) -> bytes:
        """The next bytes, as soon as there are any.

        A thread waits for them that no end waits for, such as that by Ctrl-C: a pipe may be silent.
        """
        if self._first:
            first, self._first = self._first, b""
            return first
        loop = asyncio.get_running_loop()
        arrival: asyncio.Future[bytes] = loop.create_future()
        Thread(target=self._wait, args=(size, loop, arrival), daemon=True).start()
        return await arrival

    def _wait(
        self, size: int, loop: asyncio.AbstractEventLoop, arrival: "asyncio.Future[bytes]"
    ) -> None:
        try:
            deliver = partial(_deliver, arrival, self._read_some(size), None)
        except InputError as exc:
            deliver = partial(_deliver, arrival, b"", exc)
        with suppress(RuntimeError):  # The loop is closed: the command has ended.
            loop.call_soon_threadsafe(deliver)

    def _read_some(self, size: int) -> bytes:
        if self._left is not None:
            size = min(size, self._left)
        data = self._read_file(size)
        if self._left is not None:
            self._left -= len(data)
        return data

    def read_format(self, model: str, rate: int | None) -> dict[str, Any]:
        """Read what comes before the sound; returns the parameters that describe it.

        Raises:
            InputError: There is nothing, no sound, or the model can't read it.
        """
        start = self._read_exactly(12)
        if not start:
            raise InputError("there is no sound: the input is empty")
        if start[:4] == b"RIFF" and start[8:] == b"WAVE":
            return self._read_wav(model)
        start += self._read_exactly(_START - len(start))
        AttachedFile(self._name, start).check_is("audio")
        self._first = start
        if rate is not None:
            return {"encoding": "linear16", "sample_rate": rate}
        if "flux" in model:
            raise InputError(
                f"{model} takes PCM only: give a WAV file, or raw PCM with --rate 16000"
            )
        return {}  # The model finds out what it is.

    def _read_wav(self, model: str) -> dict[str, Any]:
        kind = channels = rate = bits = 0
        while len(head := self._read_exactly(8)) == 8:
            name, size = struct.unpack("<4sI", head)
            if name == b"data":
                # A program that writes into a pipe does not know the size yet.
                self._left = size if 0 < size < _UNKNOWN_SIZE else None
                break
            content = self._read_exactly(size + size % 2)
            if name == b"fmt " and len(content) >= 16:
                kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", content[:16])
        # 0xFFFE is the extensible form, which names the same kinds.
        if kind not in (1, 0xFFFE) or bits != 16 or not rate:
            raise InputError(
                "the WAV file must have 16-bit PCM: convert it (ffmpeg -c:a pcm_s16le)"
            )
        if channels != 1 and "flux" in model:
            raise InputError(f"{model} takes one channel, and the WAV file has {channels}")
        parameters: dict[str, Any] = {"encoding": "linear16", "sample_rate": rate}
        return parameters if channels == 1 else {**parameters, "channels": channels}

    def _read_exactly(self, size: int) -> bytes:
        data = b""
        while more := self._read_file(min(size - len(data), _PIECE)):
            data += more
        return data

    def _read_file(self, size: int) -> bytes:
        try:
            data: bytes = self._file.read(size)
        except OSError as exc:  # Such as of a device that is gone.
            raise InputError(f"can't read the sound: {exc.strerror or exc}") from exc
        return data


def _deliver(arrival: "asyncio.Future[bytes]", data: bytes, error: InputError | None) -> None:
    if arrival.done():
        return  # Nobody waits any more.
    if error is None:
        arrival.set_result(data)
    else:
        arrival.set_exception(error)


@define
class _Line:
    """Writes final passages as lines and, at a terminal, what is still spoken below them."""

    _shows: bool = field(kw_only=True)
    _has_partial: bool = field(default=False, init=False)

    def show(self, event: SpeechEvent) -> None:
        if isinstance(event, FinalText | TurnEnded):
            self.clear()
            if event.text.strip():
                console.write_text(f"{event.text.strip()}\n")
        elif isinstance(event, SpeechText) and self._shows and event.text.strip():
            self.clear()
            console.write_partial_line(event.text.strip())
            self._has_partial = True

    def clear(self) -> None:
        """Remove the passage that is not final."""
        if self._has_partial:
            console.write_partial_line("")
            self._has_partial = False
