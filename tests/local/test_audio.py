"""Sound files are decoded in a child process, within limits, and written while they are spoken."""

import io
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile

from cfai.local.audio import AudioError, RawFormat, SoundFormat, decode, encode

from .test_resampling import tone

MP3 = SoundFormat("audio/mpeg", "MP3", "MPEG_LAYER_III", 22050, quality=112 / 152)
WAV = SoundFormat("audio/wav", "WAV", "PCM_16", 24000, streams=False)
PCM = SoundFormat("audio/l16", "RAW", "PCM_16", 24000)
OPUS = SoundFormat("audio/ogg", "OGG", "OPUS", 48000, quality=0.9)
FLAC = SoundFormat("audio/flac", "FLAC", "PCM_16", 24000, streams=False)


def write(samples: np.ndarray, rate: int, **options: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, **options)
    return buffer.getvalue()


def pitch(samples: np.ndarray) -> float:
    """The strongest frequency."""
    spectrum = np.abs(np.fft.rfft(samples))
    return float(spectrum.argmax() * 16000 / len(samples))


@pytest.mark.parametrize(
    ("name", "subtype", "rate"),
    [
        ("WAV", "PCM_16", 16000),
        ("WAV", "PCM_U8", 8000),
        ("WAV", "PCM_24", 44100),
        ("WAV", "FLOAT", 48000),
        ("WAV", "ULAW", 8000),
        ("FLAC", "PCM_16", 22050),
        ("MP3", "MPEG_LAYER_III", 44100),
        ("OGG", "VORBIS", 44100),
        ("OGG", "OPUS", 48000),
        ("AIFF", "PCM_16", 24000),
    ],
)
def test_formats_of_files(name: str, subtype: str, rate: int) -> None:
    recording = decode(write(tone(440, rate, 1) / 2, rate, format=name, subtype=subtype))
    assert recording.format == name
    assert recording.seconds == pytest.approx(1, abs=0.1)
    assert recording.samples.dtype == np.float32
    assert pitch(recording.samples) == pytest.approx(440, abs=3)
    assert 0.4 < np.abs(recording.samples).max() < 0.6


def test_channels_are_mixed_or_kept_apart() -> None:
    stereo = np.stack([tone(440, 16000, 1), tone(1000, 16000, 1)], axis=1) / 2
    data = write(stereo, 16000, format="WAV")
    assert len(decode(data).channels) == 1
    first, second = decode(data, separate=True).channels
    assert (pitch(first), pitch(second)) == (440, 1000)


@pytest.mark.parametrize(
    ("raw", "subtype"),
    [
        (RawFormat("PCM_16", 24000), "PCM_16"),
        (RawFormat("ULAW", 8000), "ULAW"),
        (RawFormat("FLOAT", 16000), "FLOAT"),
        (RawFormat("DOUBLE", 16000), "DOUBLE"),
        (RawFormat("PCM_U8", 16000), "PCM_U8"),
    ],
)
def test_samples_without_a_header(raw: RawFormat, subtype: str) -> None:
    data = write(tone(440, raw.rate, 1), raw.rate, format="RAW", subtype=subtype)
    recording = decode(data, raw=raw)
    assert recording.seconds == pytest.approx(1)
    assert pitch(recording.samples) == pytest.approx(440, abs=3)


def test_numbers_that_are_none_are_silence() -> None:
    """And those outside of the range are its ends."""
    samples = np.full(16000, np.nan, np.float32)
    samples[:4] = np.inf, -np.inf, 2, -2
    recording = decode(write(samples, 16000, format="WAV", subtype="FLOAT"))
    assert recording.samples[:4] == pytest.approx([1, -1, 1, -1], abs=1e-4)
    assert np.abs(recording.samples).max() <= 1
    assert not recording.samples[4:].any()


def test_samples_keep_their_values() -> None:
    """Up to one step of sixteen bits."""
    steps = np.arange(-32768, 32768).astype(np.int16)
    recording = decode(write(steps, 16000, format="WAV", subtype="PCM_16"))
    assert recording.seconds == 65536 / 16000
    assert np.abs(recording.samples * 32768 - steps).max() <= 1


def test_mixed_channels_are_their_mean() -> None:
    stereo = np.stack([np.full(100, 0.5), np.full(100, -0.25)], axis=1)
    recording = decode(write(stereo, 16000, format="WAV", subtype="FLOAT"))
    assert recording.samples == pytest.approx(np.full(100, 0.125), abs=1e-4)


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        (3999, "3999 samples per second"),
        (4000, None),
        (192_000, None),
        (192_001, "192001 samples per second"),
    ],
)
def test_the_rates_that_are_read(rate: int, message: str | None) -> None:
    data = write(np.zeros(rate // 10, np.int16), rate, format="WAV")
    if message is None:
        assert decode(data).seconds == pytest.approx(0.1, abs=0.001)
    else:
        with pytest.raises(AudioError, match=f"^the file has {message}$"):
            decode(data)


def test_the_longest_sound() -> None:
    """Half an hour; of channels that are kept apart, half an hour together."""
    longest = 1800 * 16000 // 8
    eight = np.zeros((longest + 1, 8), np.int16)
    recording = decode(write(eight[1:], 16000, format="FLAC"), separate=True)
    assert (len(recording.channels), recording.seconds) == (8, 225)
    with pytest.raises(AudioError, match="the sound is longer than 225 seconds"):
        decode(write(eight, 16000, format="FLAC"), separate=True)
    with pytest.raises(AudioError, match="the sound is longer than 1800 seconds"):
        decode(bytes(1800 * 4000 + 1), raw=RawFormat("PCM_U8", 4000))


def test_samples_without_a_header_have_channels_too() -> None:
    stereo = np.stack([tone(440, 16000, 1), tone(1000, 16000, 1)], axis=1) / 2
    data = write(stereo, 16000, format="RAW", subtype="PCM_16")
    first, second = decode(data, raw=RawFormat("PCM_16", 16000, 2), separate=True).channels
    assert (pitch(first), pitch(second)) == (440, 1000)


HOSTILE = {
    "nothing": b"",
    "text": b"This is no sound.",
    "a PNG": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "zeros": bytes(1000),
    "a header alone": b"RIFF\xff\xff\xff\xffWAVEfmt ",
    "a huge size": b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\xff\xff\xff\xff\xff\xff"
    b"\xff\xff\xff\xff\xff\xff\x10\0data\xff\xff\xff\xff" + bytes(100),
    "no rate": b"RIFF\x2c\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0"
    b"\0\0\0\0\0\0\0\0\x02\0\x10\0data\x08\0\0\0" + bytes(8),
    "half an Ogg page": b"OggS\0\x02" + bytes(20),
    "a FLAC header alone": b"fLaC\x00\x00\x00\x22" + b"\xff" * 34,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_errors(name: str) -> None:
    with pytest.raises(AudioError):
        decode(HOSTILE[name])


def test_more_sound_than_allowed_is_an_error() -> None:
    """A small file can unpack to hours of silence."""
    hours = write(np.zeros(3600 * 8000, np.int16), 8000, format="FLAC")
    assert len(hours) < 1 << 20
    with pytest.raises(AudioError, match="longer than 1800 seconds"):
        decode(hours)


def test_many_channels_are_an_error() -> None:
    assert len(decode(write(np.zeros((100, 8)), 16000, format="WAV"), separate=True).channels) == 8
    with pytest.raises(AudioError, match="the file has 9 channels, at most 8"):
        decode(write(np.zeros((100, 9)), 16000, format="WAV"))


@pytest.mark.parametrize("limit", [{"seconds": 0.001}, {"memory": 1 << 20}])
def test_a_child_that_exceeds_a_limit_is_an_error(limit: dict[str, float]) -> None:
    seconds, memory = f"{limit.get('seconds', 60):g} s", 1 if "memory" in limit else 1024
    with pytest.raises(AudioError, match=f"^decoding exceeded {seconds} or {memory} MiB, or it cr"):
        decode(write(tone(440, 16000), 16000, format="WAV"), **limit)  # type: ignore[arg-type]


def test_a_cancelled_decoding_ends() -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(AudioError):
        decode(bytes(30 << 20), raw=RawFormat("PCM_U8", 192_000), is_cancelled=cancelled.is_set)


# Writing


@pytest.mark.parametrize("target", [MP3, WAV, PCM, OPUS, FLAC], ids=lambda target: target.format)
def test_what_is_written_can_be_read(target: SoundFormat) -> None:
    pieces = iter([tone(440, 24000, 1), tone(440, 24000, 1)])
    chunks = list(encode(pieces, 24000, target))
    raw = RawFormat("PCM_16", target.rate) if target is PCM else None
    recording = decode(b"".join(chunks), raw=raw)
    assert recording.seconds == pytest.approx(2, abs=0.15)
    assert pitch(recording.samples) == pytest.approx(440, abs=3)


@pytest.mark.parametrize("target", [MP3, PCM, OPUS], ids=lambda target: target.format)
def test_sound_is_sent_while_more_is_spoken(target: SoundFormat) -> None:
    """The first piece is there before the second is asked for."""
    asked: list[int] = []

    def pieces() -> Iterator[np.ndarray]:
        for number in range(3):
            asked.append(number)
            yield tone(440, 24000, 1.5)

    chunks = encode(pieces(), 24000, target)
    assert next(chunks)
    assert asked == [0]
    assert list(chunks)


@pytest.mark.parametrize("kbps", [32, 48])
def test_the_bit_rate_of_mp3(kbps: int) -> None:
    target = SoundFormat("audio/mpeg", "MP3", "MPEG_LAYER_III", 22050, quality=(160 - kbps) / 152)
    noise = np.random.default_rng(1).normal(0, 0.1, 240_000).astype(np.float32)
    size = len(b"".join(encode(iter([noise]), 24000, target)))
    assert size * 8 / 10 / 1000 == pytest.approx(kbps, rel=0.05)


def test_nothing_is_a_valid_file() -> None:
    assert decode(b"".join(encode(iter([]), 24000, WAV))).seconds == 0
