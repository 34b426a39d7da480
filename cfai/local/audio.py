"""Sound files: reading them in a child process, and writing them.

Files of strangers are decoded by libsndfile, in C, so a child process does it, within limits. The
module is also the child's script. Encoded is only sound of the local voice.
"""

import io
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson
from attrs import asdict, field, frozen

from cfai.local.children import limit_memory, limit_time, run_child
from cfai.local.resampling import resample, resample_blocks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

RATE = 16_000
"""Of decoded sound, in samples per second."""

LONGEST = 30 * 60
"""Seconds of sound in a file, at most."""

_MOST_CHANNELS = 8
_RATES = range(4_000, 192_001)
_UNKNOWN = 2**62
"""libsndfile's numbers of samples from here on stand for an unknown one, as of a stream."""


class AudioError(Exception):
    """A file is not sound that can be read; the message gives the reason."""


@frozen
class RawFormat:
    """The format of samples without a header."""

    subtype: str
    """libsndfile's name: `PCM_16`, `ULAW`, `FLOAT`…"""
    rate: int
    channels: int = 1


@frozen
class Recording:
    """Decoded sound at 16 kHz."""

    channels: "list[Samples]" = field(repr=False)
    """The samples of each channel, from -1 to 1; one channel if they were mixed."""
    seconds: float
    format: str
    """libsndfile's name of the file's format: `WAV`, `FLAC`, `OGG`, `MP3`…"""

    @property
    def samples(self) -> "Samples":
        """The samples of the first channel."""
        return self.channels[0]


def decode(
    data: bytes,
    *,
    raw: RawFormat | None = None,
    separate: bool = False,
    seconds: float = 60.0,
    memory: int = 1 << 30,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Recording:
    """Decode a file with sound: WAV, FLAC, MP3, Ogg with Vorbis or Opus, AIFF, and so on. Blocks.

    Args:
        data: The file.
        raw: The format of samples without a header; by default, the file says it.
        separate: Whether to keep the channels apart; by default, they are mixed.
        seconds: How long decoding may take.
        memory: How many bytes of memory decoding may take; enforced on Linux only.
        is_cancelled: Asked meanwhile; if it is true, decoding ends.

    Raises:
        AudioError: The file cannot be read, is too long, or exceeds a limit.
    """
    head = {"raw": None if raw is None else asdict(raw), "separate": separate}
    # A file instead of a pipe, which would need feeding while the output is read.
    with tempfile.TemporaryFile() as source:
        source.write(orjson.dumps(head) + b"\n" + data)
        source.seek(0)
        output = run_child(
            __file__, seconds=seconds, memory=memory, source=source, is_cancelled=is_cancelled
        )
    line, _, sound = output.partition(b"\n")
    if not line:
        raise AudioError(f"decoding exceeded {seconds:g} s or {memory >> 20} MiB, or it crashed")
    result = orjson.loads(line)
    if "error" in result:
        raise AudioError(result["error"])
    return _read_recording(result, sound)


def _read_recording(head: Mapping[str, Any], sound: bytes) -> Recording:
    import numpy as np

    samples = np.frombuffer(sound, "<i2").reshape(-1, head["channels"])
    scale = np.float32(1 / 32768)
    channels = [samples[:, n].astype(np.float32) * scale for n in range(head["channels"])]
    return Recording(channels, head["seconds"], head["format"])


# The child process: reads a file from standard input, writes a line of JSON and 16-bit samples


def _run_as_child(seconds: float, memory: int) -> None:
    source, target = sys.stdin.buffer, sys.stdout.buffer
    limit_memory(memory)
    limit_time(seconds)
    try:
        head, sound = _decode_file(orjson.loads(source.readline()), source)
    except Exception as exc:  # a library may raise anything
        head, sound = {"error": str(exc)[:300]}, b""
    target.write(orjson.dumps(head) + b"\n" + sound)
    target.flush()


def _decode_file(head: Mapping[str, Any], source: BinaryIO) -> tuple[dict[str, Any], bytes]:
    import numpy as np
    import soundfile

    options: dict[str, Any] = {}
    if raw := head["raw"]:
        options = {"samplerate": raw["rate"], "channels": raw["channels"]}
        options |= {"subtype": raw["subtype"], "format": "RAW", "endian": "LITTLE"}
    try:
        file = soundfile.SoundFile(io.BytesIO(source.read()), **options)
    except soundfile.LibsndfileError as exc:
        raise AudioError(f"the file is not sound in a known format: {exc.error_string}") from exc
    with file:
        if file.channels > _MOST_CHANNELS:
            raise AudioError(f"the file has {file.channels} channels, at most {_MOST_CHANNELS}")
        if file.samplerate not in _RATES:
            raise AudioError(f"the file has {file.samplerate} samples per second")
        channels = file.channels if head["separate"] else 1
        blocks = _read_blocks(file, separate=head["separate"])
        pieces = [
            np.rint(np.clip(piece, -1, 1) * 32767).astype("<i2")
            for piece in resample_blocks(blocks, file.samplerate, RATE)
        ]
        sound = b"".join(piece.tobytes() for piece in pieces)
        count = sum(map(len, pieces))
        facts = {"channels": channels, "seconds": count / RATE, "format": file.format}
        return facts, sound


def _read_blocks(file: Any, *, separate: bool) -> "Iterator[Samples]":
    """Yield a second at a time: shape (samples, channels)."""
    import numpy as np

    most = LONGEST * file.samplerate // (file.channels if separate else 1)
    # A header can state any length, or none, so what is read is counted, too.
    if most < file.frames < _UNKNOWN:
        raise AudioError(f"the sound is longer than {most // file.samplerate} seconds")
    count = 0
    while len(block := file.read(file.samplerate, dtype="float32", always_2d=True)):
        count += len(block)
        if count > most:
            raise AudioError(f"the sound is longer than {most // file.samplerate} seconds")
        if file.format == "RAW" and not np.isfinite(block).all():
            raise AudioError("the samples of that dtype must be finite numbers")
        # Files of floating-point numbers can contain others.
        block = np.nan_to_num(block, posinf=1.0, neginf=-1.0)
        yield block if separate else block.mean(axis=1, keepdims=True)


# Encoding


@frozen
class SoundFormat:
    """A format to write."""

    media_type: str
    format: str
    """libsndfile's name."""
    subtype: str
    rate: int
    streams: bool = True
    """Whether the beginning can be sent before the end is known."""
    quality: float | None = None
    """libsndfile's level of compression, from 0 to 1, if the format has a bit rate."""


def encode(pieces: "Iterator[Samples]", rate: int, target: SoundFormat) -> Iterator[bytes]:
    """Encode sound and yield what is ready after each piece, which may be nothing.

    A format that cannot be sent in parts is ready after the last piece.

    Args:
        pieces: Samples of one channel, from -1 to 1.
        rate: Of the pieces, in samples per second.
        target: The format to write.
    """
    import soundfile

    options: dict[str, Any] = {}
    if target.quality is not None:
        options["compression_level"] = target.quality
    if target.format == "MP3":
        options["bitrate_mode"] = "CONSTANT"
    buffer = io.BytesIO()
    sent = 0
    with soundfile.SoundFile(
        buffer,
        "w",
        target.rate,
        1,
        format=target.format,
        subtype=target.subtype,
        **options,
    ) as file:
        for piece in pieces:
            if len(piece):
                file.write(resample(piece, rate, target.rate))
                file.flush()
            ready = bytes(buffer.getbuffer()[sent:]) if target.streams else b""
            sent += len(ready)
            yield ready
    yield bytes(buffer.getbuffer()[sent:])


if __name__ == "__main__":
    _run_as_child(float(sys.argv[1]), int(sys.argv[2]))
