"""Decodes images in a child process, which runs this module.

A decoder can hang, use all memory, or crash on a hostile file. Then only the child process ends,
and only that request fails.
"""

import io
import sys
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

from attrs import frozen

from cfai.local.children import limit_memory, limit_time, run_child

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""The formats whose decoders may run; Pillow has many more, and some start other programs."""

_MOST_PIXELS = 64_000_000
_LONGEST_SIDE = 2048
"""In pixels; larger images are made smaller. No model here looks at more."""


@frozen(kw_only=True)
class DecodingLimits:
    """The most that decoding one image may take."""

    seconds: float = 20.0
    memory: int = 1 << 30
    """In bytes; enforced on Linux only."""


class ImageError(Exception):
    """An image cannot be decoded; the message says why."""


def decode(
    data: bytes, is_cancelled: Callable[[], bool], limits: DecodingLimits | None = None
) -> "NDArray[np.uint8]":
    """Return the pixels of an image: uint8 of shape (height, width, 3), in RGB. Blocks.

    The first frame counts. The image is turned as its camera says, transparent parts are white, and
    the longer side has at most 2,048 pixels.

    Raises:
        ImageError: It is no image of a supported format, too large, damaged, or exceeds *limits*.
    """
    import numpy as np

    limits = limits or DecodingLimits()
    with tempfile.TemporaryFile() as source:
        source.write(data)
        source.seek(0)
        output = run_child(
            __file__,
            seconds=limits.seconds,
            memory=limits.memory,
            source=source,
            is_cancelled=is_cancelled,
        )
    head, _, body = output.partition(b"\n")
    if head.startswith(b"error "):
        raise ImageError(head.removeprefix(b"error ").decode(errors="replace"))
    sizes = [int(size) for size in head.split()]
    if len(sizes) != 2 or len(body) != sizes[0] * sizes[1] * 3:
        memory = f"{limits.memory >> 20} MiB"
        raise ImageError(f"decoding exceeded {limits.seconds:g} s or {memory}, or it crashed")
    return np.frombuffer(body, np.uint8).reshape(sizes[0], sizes[1], 3)


# The child process: reads an image from standard input, and writes its height, width and pixels


def _run_as_child(seconds: float, memory: int) -> None:
    from PIL import UnidentifiedImageError

    target = sys.stdout.buffer
    limit_memory(memory)
    limit_time(seconds)
    try:
        _write_pixels(sys.stdin.buffer.read(), target)
    except UnidentifiedImageError:
        formats = ", ".join(_FORMATS)
        target.write(f"error it must be an image in one of the formats {formats}\n".encode())
    except Exception as exc:  # a decoder may raise anything
        reason = " ".join(f"{type(exc).__name__}: {exc}".split())
        target.write(f"error {reason[:300]}\n".encode(errors="replace"))


def _write_pixels(data: bytes, target: BinaryIO) -> None:
    from PIL import Image, ImageOps

    Image.MAX_IMAGE_PIXELS = None  # The limit here is lower, and an error instead of a warning.
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        if image.width * image.height > _MOST_PIXELS:
            raise ValueError(
                f"the image must have at most {_MOST_PIXELS} pixels, "
                f"it has {image.width} x {image.height}"
            )
        image.draft("RGB", (_LONGEST_SIDE, _LONGEST_SIDE))  # JPEG: decodes to a smaller size.
        pixels = _without_transparency(ImageOps.exif_transpose(image))
        pixels.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    target.write(f"{pixels.height} {pixels.width}\n".encode())
    target.write(pixels.tobytes())


def _without_transparency(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


if __name__ == "__main__":
    _run_as_child(float(sys.argv[1]), int(sys.argv[2]))
