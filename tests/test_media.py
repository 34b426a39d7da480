"""Media: sources, types, and encodings."""

import io
import json
import os
import pickle
import tracemalloc
import wave
from array import array
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from cfai.errors import InputError
from cfai.media import (
    Base64,
    Integers,
    MediaForm,
    base64_text,
    blocks,
    data_uri,
    image_size,
    media_type,
    problem,
    read,
    wav_header,
)

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    path.write_bytes(PNG)
    return path


@pytest.mark.parametrize(
    "source",
    [
        PNG,
        bytearray(PNG),
        memoryview(PNG),
        memoryview(b"__" + PNG)[2:],
        memoryview(PNG[::-1])[::-1],
        list(PNG),
        io.BytesIO(PNG),
        Base64(b64encode(PNG).decode()),
    ],
    ids=lambda source: type(source).__name__,
)
def test_every_kind_of_source_is_read(source: Any) -> None:
    assert problem(source) is None
    assert read(source) == PNG
    assert read(source) == PNG, "and does so again"


def test_a_file_is_read_from_its_path_or_handle(file: Path) -> None:
    assert read(file) == read(str(file)) == PNG
    with file.open("rb") as handle:
        assert read(handle) == PNG
        assert read(handle) == PNG, "it is left where it stood"


def test_a_file_is_read_from_its_current_position() -> None:
    handle = io.BytesIO(b"head" + PNG)
    handle.seek(4)

    assert read(handle) == PNG
    assert handle.tell() == 4


def test_an_unseekable_file_is_read_once() -> None:
    inward, outward = os.pipe()
    os.write(outward, PNG)
    os.close(outward)
    with open(inward, "rb") as pipe:  # noqa: PTH123  # a descriptor has no path
        assert read(pipe) == PNG
        with pytest.raises(InputError, match="must not be empty"):
            read(pipe)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (b"", "empty"),
        (bytearray(), "empty"),
        (memoryview(b""), "empty"),
        ("", "empty"),
        ([], "empty"),
        ([1, 256], "0 to 255"),
        ([-1], "0 to 255"),
        ([1.5], "0 to 255"),
        (["1"], "0 to 255"),
        ("data:image/png;base64,iVBORw==", "Base64"),
        ("http://example.com/a.png", "fetch it first"),
        ("https://example.com/a.png", "fetch it first"),
        (5, "got int"),
        (None, "got NoneType"),
        ((1, 2), "got tuple"),
        (array("f", [1.0]), "got array"),
    ],
)
def test_unreadable_sources_are_refused_before_reading(source: Any, words: str) -> None:
    complaint = problem(source)

    assert complaint is not None
    assert words in complaint
    with pytest.raises(InputError, match=r"^media must"):
        read(source)


def test_the_message_names_an_unreadable_path(tmp_path: Path) -> None:
    missing = tmp_path / "no such file.png"
    empty = tmp_path / "empty.png"
    empty.touch()

    for source in (missing, str(missing)):
        with pytest.raises(InputError, match=r"no such file\.png: No such file"):
            read(source)
    with pytest.raises(InputError, match=r"empty\.png"):
        read(empty)
    with pytest.raises(InputError, match="directory"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b"], ids=ascii)
@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_that_no_file_can_have_is_refused(name: str, kind: Any) -> None:
    """In a message that can be printed."""
    with pytest.raises(InputError) as caught:
        read(kind(name))
    shown = repr(name)[1:-1]
    assert str(caught.value) == f"media must be a path that a file can have: {shown}"


@pytest.mark.parametrize("name", ["caf\udce9.png", "a\nb.png", "\u202egnp.png"], ids=ascii)
def test_messages_about_files_can_be_printed(tmp_path: Path, name: str) -> None:
    """Whether the file is missing, empty, closed or a folder."""
    path = tmp_path / name
    messages = []
    with pytest.raises(InputError) as caught:
        read(path)
    messages.append(str(caught.value))
    path.touch()
    with path.open("rb") as handle:
        for source in (path, str(path), handle):
            with pytest.raises(InputError) as caught:
                read(source)
            messages.append(str(caught.value))
    for opened in (path.open("rb"), path.open()):
        opened.close()
        with pytest.raises(InputError) as caught:
            read(opened)  # type: ignore[arg-type]  # closed, or a text file
        messages.append(str(caught.value))
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError) as caught:
        read(path)
    messages.append(str(caught.value))
    for message in messages:
        assert message.isprintable()
        assert f"{tmp_path}/{name!r}".replace("'", "") in message


def test_a_text_file_is_refused(file: Path) -> None:
    source: Any = io.StringIO("text")
    with pytest.raises(InputError, match="binary mode"):
        read(source)


def test_a_closed_file_is_refused(file: Path) -> None:
    with file.open("rb") as handle:
        pass
    with pytest.raises(InputError, match=r"picture\.png.*closed"):
        read(handle)


def test_only_files_block(file: Path) -> None:
    """Reading from memory needs no thread."""
    assert blocks(file)
    assert blocks(str(file))
    assert blocks(io.BytesIO(PNG))
    assert not any(blocks(source) for source in (PNG, bytearray(PNG), list(PNG), Base64("iVBO")))


@pytest.mark.parametrize("text", ["iVBO", " iV\nBO ", "data:image/png;base64,iVBO", "iVBO\n"])
def test_base64_without_uri_prefix_and_whitespace(text: str) -> None:
    assert Base64(text).text == "iVBO"
    assert Base64(text).decode() == b"\x89PN"
    assert Base64(text) == Base64("iVBO")
    assert pickle.loads(pickle.dumps(Base64(text))) == Base64(text)  # noqa: S301


@pytest.mark.parametrize(
    "text", ["", "   ", "data:,", "iVB", "iVB=O", "iV*O", "ä", "iVBOR", None, 5]
)
def test_invalid_base64_is_refused(text: Any) -> None:
    with pytest.raises(InputError, match=r"^Base64"):
        Base64(text)


def test_the_repr_of_base64_is_short() -> None:
    assert repr(Base64("iVBO" * 1000)) == "Base64(<4000 characters>)"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "image/jpeg"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "audio/wav"),
        (b"RIFF\x00\x00\x00\x00AVI LIST", "application/octet-stream"),
        (b"ID3\x04\x00", "audio/mpeg"),
        (b"\xff\xfb\x90\x00", "audio/mpeg"),
        (b"\xff\xf3\x40\xc4", "audio/mpeg"),
        (b"\xff\xf1\x50\x80", "audio/aac"),
        (b"OggS\x00\x02", "audio/ogg"),
        (b"fLaC\x00\x00", "audio/flac"),
        (b"\x00\x00\x00\x20ftypM4A ", "audio/mp4"),
        (b"\x00\x00\x00\x18ftypmp42", "audio/mp4"),
        (b"\x00\x00\x00\x14ftypqt  \x00\x00\x00\x00qt  ", "audio/mp4"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", "image/heic"),
        (b"\x00\x00\x00\x18ftypmif1\x00\x00\x00\x00mif1heic", "image/heic"),
        (b"\x00\x00\x00\x18ftyphevc\x00\x00\x00\x00msf1hevc", "image/heic"),
        (b"\x00\x00\x00\x1cftypavif\x00\x00\x00\x00avifmif1miaf", "image/avif"),
        (b"\x00\x00\x00\x1cftypmif1\x00\x00\x00\x00mif1miafavif", "image/avif"),
        (b"\x00\x00\x00\x14ftypmif1\x00\x00\x00\x00mif1", "image/heif"),
        (b"\x00\x00\x00\x18ftypisom\x00\x00\x00\x00isomheic", "audio/mp4"),
        (b"\x00\x00\x00\x18ftyphe", "audio/mp4"),
        (b"II*\x00\x08\x00", "image/tiff"),
        (b"MM\x00*\x00\x00", "image/tiff"),
        (b"#!AMR\n", "audio/amr"),
        (b"FORM\x00\x00\x00\x00AIFFCOMM", "audio/aiff"),
        (b"FORM\x00\x00\x00\x00ILBM", "application/octet-stream"),
        ("A text".encode("utf-16"), "application/octet-stream"),
        (b"\x1aE\xdf\xa3\x9fB", "audio/webm"),
        (b"", "application/octet-stream"),
        (b"\xff", "application/octet-stream"),
        (b"\xff\x00", "application/octet-stream"),
        (b"<svg>", "application/octet-stream"),
    ],
)
def test_the_media_type_is_detected(data: bytes, kind: str) -> None:
    assert media_type(data) == kind


def test_a_data_uri_has_the_media_type() -> None:
    assert data_uri(PNG) == "data:image/png;base64," + base64_text(PNG)


@pytest.mark.parametrize("length", [0, 1, 2, 255, 65535, 65536, 65537, 131072, 200000])
def test_integers_are_a_json_array_of_the_bytes(length: int) -> None:
    """At, before and after the end of a piece; the length is known beforehand."""
    data = bytes(index * 7 % 256 for index in range(length))
    integers = Integers(data)
    written = b"".join(integers)

    assert json.loads(written) == list(data)
    assert len(written) == len(integers)
    assert b"".join(integers) == written, "it can be sent again"
    assert all(len(piece) <= 4 * Integers.PIECE + 1 for piece in integers)


@given(st.binary(max_size=600))
def test_integers_of_any_bytes(data: bytes) -> None:
    assert json.loads(b"".join(Integers(data))) == list(data)


def test_pieces_do_not_change_later() -> None:
    """The buffer is reused for the next piece."""
    data = bytes(range(256)) * 600

    assert json.loads(b"".join(list(Integers(data)))) == list(data)


def test_a_megabyte_of_integers_needs_little_memory() -> None:
    data = os.urandom(1_000_000)
    tracemalloc.start()
    try:
        total = sum(len(piece) for piece in Integers(data))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert total == len(Integers(data)) == 4_000_001
    assert peak < 2_000_000


def test_a_media_form_from_its_name() -> None:
    names = ("raw", "data_uri", "base64", "integers", "multipart")
    assert [MediaForm.of(name) for name in names] == [
        MediaForm.RAW,
        MediaForm.DATA_URI,
        MediaForm.BASE64,
        MediaForm.INTEGERS,
        MediaForm.MULTIPART,
    ]
    assert MediaForm.of(MediaForm.RAW) is MediaForm.RAW
    with pytest.raises(InputError, match=r"one of raw, data_uri, base64, .*, got 'ints'"):
        MediaForm.of("ints")


@pytest.mark.parametrize(
    ("brand", "kind"),
    [
        *((brand, "image/heic") for brand in ("heic", "heix", "heim", "heis", "hevc", "hevx")),
        *((brand, "image/avif") for brand in ("avif", "avis")),
        *((brand, "image/heif") for brand in ("mif1", "msf1")),
        *((brand, "audio/mp4") for brand in ("isom", "M4A ", "qt  ", "3gp4")),
    ],
)
def test_images_in_an_iso_file_are_known_by_the_brand(brand: str, kind: str) -> None:
    """The main one, or if that is general, one of the others in the box, whose size counts."""
    own = brand.encode()
    assert media_type(b"\0\0\0\x14ftyp" + own + b"\0\0\0\0mif1") == kind
    box = b"ftypmif1\0\0\0\0miaf" + own
    found = kind if kind in ("image/heic", "image/avif") else "image/heif"
    assert media_type(b"\0\0\0\x18" + box) == found
    assert media_type(b"\0\0\0\x14" + box) == "image/heif"


@pytest.mark.parametrize(("size", "kind"), [(256, "image/heic"), (260, "image/heif")])
def test_only_the_beginning_of_a_large_box_is_read(size: int, kind: str) -> None:
    brands = b"mif1\0\0\0\0" + b"miaf" * ((size - 20) // 4) + b"heic"
    assert media_type(size.to_bytes(4) + b"ftyp" + brands) == kind


@pytest.mark.parametrize("second", range(256))
def test_frames_of_mpeg_audio_are_known_by_their_first_bits(second: int) -> None:
    """Eleven bits of the sync word, and then the version and the layer (ISO/IEC 11172-3, 2.4.1.3).
    Layer 0 is reserved: there are AAC frames in ADTS. 0xFE begins UTF-16, and 0xD8 a JPEG."""
    kind = media_type(bytes([0xFF, second, 0x00, 0x00]))
    if second < 0xE0 or second == 0xFE:
        assert kind == "application/octet-stream"
    else:
        assert kind == ("audio/aac" if second >> 1 & 3 == 0 else "audio/mpeg")
    assert media_type(bytes([0xFE, second])) == "application/octet-stream"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"FORM\0\0\0\0AIFC", "audio/aiff"),
        (b"FORM\0\0\0\0AIFF", "audio/aiff"),
        (b"FORM\0\0\0\0AIF", "application/octet-stream"),
        (b"RIFF\0\0\0\0WEB", "application/octet-stream"),
        (b"RIF\0\0\0\0\0WEBP", "application/octet-stream"),
        (b"\0\0\0\x18ftyp", "audio/mp4"),
        (b"\0\0\0\x18fty", "application/octet-stream"),
        (b"\xff\xe3", "audio/mpeg"),
        (b"\xff", "application/octet-stream"),
    ],
)
def test_cut_files_are_recognized_if_their_signature_is_whole(data: bytes, kind: str) -> None:
    assert media_type(data) == kind


@pytest.mark.parametrize(("source", "count"), [("iVBO", "4 characters"), ("iVBORw==", "8 char")])
def test_how_long_base64_is(source: str, count: str) -> None:
    assert repr(Base64(source)).startswith(f"Base64(<{count}")


@pytest.mark.parametrize("source", [[0, 255], [0], [255]])
def test_integers_are_bytes(source: list[int]) -> None:
    assert problem(source) is None
    assert read(source) == bytes(source)


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 8])
@pytest.mark.parametrize("rate", [8000, 44_100])
@pytest.mark.parametrize("size", [0, 1, 9])
def test_the_header_of_a_wav_file_is_that_of_the_standard_library(
    channels: int, rate: int, size: int
) -> None:
    pcm = bytes(2 * channels * size)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm)
    header = wav_header(len(pcm), rate, channels=channels)
    assert header + pcm == buffer.getvalue()
    if channels == 1:
        assert wav_header(len(pcm), rate) == header


SIZES = [(1, 1), (255, 256), (256, 255), (65_535, 1), (16_383, 16_383)]


@pytest.mark.parametrize("size", SIZES)
def test_the_size_of_an_image_of_each_kind(size: tuple[int, int]) -> None:
    """Sources: PNG (third edition), 11.2.1; ITU-T T.81, B.2.2; RFC 9649, 2.5 to 2.7."""
    width, height = size
    png = PNG + width.to_bytes(4) + height.to_bytes(4)
    frame = height.to_bytes(2) + width.to_bytes(2)
    # A comment, a marker without a segment and fill bytes come before the frame header.
    jpeg = b"\xff\xd8\xff\xfe\0\x06abcd\xff\x01\xff\xff\xff\xc2\0\x11\x08" + frame + b"\x03"
    assert image_size(png) == size
    assert image_size(jpeg) == size
    for end in (len(jpeg) - 1, len(jpeg) - 5):
        assert image_size(jpeg[:end]) == (size if end == len(jpeg) - 1 else None)
    extended = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    assert image_size(b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + extended) == size
    if max(size) < 2**14:
        lossy = width.to_bytes(2, "little") + height.to_bytes(2, "little")
        assert image_size(b"RIFF\0\0\0\0WEBPVP8 " + bytes(10) + lossy) == size
        packed = (width - 1 | height - 1 << 14).to_bytes(4, "little")
        assert image_size(b"RIFF\0\0\0\0WEBPVP8L" + bytes(4) + b"/" + packed) == size


@pytest.mark.parametrize("marker", range(0xC0, 0xD0))
def test_which_markers_begin_a_frame_of_a_jpeg(marker: int) -> None:
    """But those of tables: DHT, JPG and DAC (ITU-T T.81, table B.1)."""
    data = b"\xff\xd8\xff" + bytes([marker]) + b"\0\x11\x08\0\x02\0\x03\x03"
    assert image_size(data) == (None if marker in (0xC4, 0xC8, 0xCC) else (3, 2))
