"""Decoding images in a child process: formats, orientation, transparency, and hostile files."""

import io
import struct
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cfai.local.images import DecodingLimits, ImageError, decode


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def never() -> bool:
    return False


def png(width: int, height: int, rows: bytes) -> bytes:
    """Return a PNG file, whose rows may be other than its size says."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


RED = Image.new("RGB", (30, 20), "red")


@pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP"])
def test_formats(kind: str) -> None:
    pixels = decode(encode(RED, kind), never)
    assert pixels.shape == (20, 30, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "I;16", "RGBA", "LA"])
def test_modes(mode: str) -> None:
    kind = "TIFF" if mode == "CMYK" else "PNG"
    pixels = decode(encode(Image.new(mode, (8, 8), None), kind), never)
    assert pixels.shape == (8, 8, 3)


def test_transparent_parts_are_white() -> None:
    pixels = decode(encode(Image.new("RGBA", (4, 4), (255, 0, 0, 0)), "PNG"), never)
    assert (pixels == 255).all()


def test_an_image_is_turned_as_its_camera_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    assert decode(encode(RED, "JPEG", exif=exif), never).shape == (30, 20, 3)


def test_the_first_frame_counts() -> None:
    others = [Image.new("RGB", (30, 20), "blue")]
    data = encode(RED, "GIF", save_all=True, append_images=others)
    assert (decode(data, never)[0, 0] == [255, 0, 0]).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_large_images_are_made_smaller(kind: str) -> None:
    pixels = decode(encode(Image.new("RGB", (5000, 1000), "red"), kind), never)
    assert pixels.shape[1] == 2048
    assert pixels.shape[0] in (409, 410)


@pytest.mark.parametrize(
    ("size", "smaller"),
    [
        ((2048, 3), (2048, 3)),
        ((2049, 3), (2048, 3)),
        ((3, 2048), (3, 2048)),
        ((3, 2049), (3, 2048)),
        ((4096, 2048), (2048, 1024)),
    ],
)
def test_the_longer_side_has_at_most_2048_pixels(
    size: tuple[int, int], smaller: tuple[int, int]
) -> None:
    pixels = decode(encode(Image.new("RGB", size), "PNG"), never)
    assert pixels.shape == (smaller[1], smaller[0], 3)


def test_the_pixels_stay_in_their_places() -> None:
    random = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)
    assert (decode(encode(Image.fromarray(random), "PNG"), never) == random).all()


def test_half_transparent_parts_are_mixed_with_white() -> None:
    pixels = decode(encode(Image.new("RGBA", (2, 2), (0, 100, 200, 51)), "PNG"), never)
    assert np.abs(pixels[0, 0].astype(int) - [204, 224, 244]).max() <= 1


def test_an_image_has_at_most_64_megapixels() -> None:
    """The largest is read, and found to be damaged."""
    with pytest.raises(ImageError, match=r"[Tt]runcated"):
        decode(png(8000, 8000, b""), never)
    with pytest.raises(ImageError, match="at most 64000000 pixels, it has 8000 x 8001"):
        decode(png(8000, 8001, b""), never)


def test_decoding_is_limited_as_the_docs_say() -> None:
    page = (Path(__file__).parents[2] / "docs" / "local-server.md").read_text("utf-8")
    limits = DecodingLimits()
    assert f"64 megapixels, {limits.seconds:g} seconds, {limits.memory >> 30} GiB of memory" in page


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "one of the formats BMP, GIF, JPEG, PNG, TIFF, WEBP"),
        (b"no image", "one of the formats"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "one of the formats"),
        (b"GIF89a" + b"\xff" * 100, r"\w"),
        (png(9000, 9000, b""), "at most 64000000 pixels, it has 9000 x 9000"),
        (png(100, 100, b"\0" * 50), r"[Tt]runcated"),
        (encode(RED, "JPEG")[:200], r"\w"),
        (encode(RED, "PNG")[:-30], r"\w"),
    ],
)
def test_what_cannot_be_decoded_has_a_reason(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        decode(data, never)
    assert str(caught.value)


def test_random_bytes_after_a_signature_end_only_the_child() -> None:
    random = np.random.default_rng(7)
    for signature in (
        b"\xff\xd8\xff\xe0",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\x00\x10\x00\x00WEBP",
        b"II*\x00",
    ):
        with pytest.raises(ImageError):
            decode(signature + random.bytes(2000), never)


def test_decoding_is_limited_in_time() -> None:
    with pytest.raises(ImageError, match=r"exceeded 0\.01 s or 1024 MiB, or it crashed"):
        decode(encode(RED, "PNG"), never, DecodingLimits(seconds=0.01))


def test_decoding_is_limited_in_memory() -> None:
    data = encode(Image.new("RGB", (7000, 7000)), "PNG")
    with pytest.raises(ImageError, match=r"MemoryError|exceeded"):
        decode(data, never, DecodingLimits(memory=64 << 20))


def test_a_cancelled_decoding_ends() -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(ImageError):
        decode(encode(Image.new("RGB", (7500, 7500)), "PNG"), cancelled.is_set)
