"""One plain sentence about an image, from its most likely label, its objects and its text.

Nothing is written freely: the words are labels of ImageNet and COCO, and what the image says.
"""

from collections import Counter
from typing import TYPE_CHECKING

from cfai.local.backends.roles import IsCancelled
from cfai.local.backends.vision.efficientnet import EfficientNet
from cfai.local.backends.vision.nanodet import NanoDet
from cfai.local.backends.vision.ppocr import PaddleOcr

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LIKELY = 0.25
"""The least probability of a label that is named as a fact."""

_LEAST_SCORE = 0.45
"""The least score of an object that is named."""

_READABLE = 0.85
"""The least confidence of a line of text that is quoted; one of a single character is not."""

_NUMBERS = ("no", "a", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

_PLURALS = {"person": "people", "knife": "knives", "mouse": "mice", "sheep": "sheep"}


class Describer:
    """Describes images. Pixels are uint8 of shape (height, width, 3), in RGB."""

    def __init__(self, classifier: EfficientNet, detector: NanoDet, reader: PaddleOcr) -> None:
        self._classifier = classifier
        self._detector = detector
        self._reader = reader
        self.name: str = f"labels-boxes-text:{classifier.name}+{detector.name}+{reader.name}"

    def describe(
        self, pixels: "NDArray[np.uint8]", is_cancelled: IsCancelled = lambda: False
    ) -> str:
        """Return the sentence, such as "An image of an espresso with a cup."."""
        probabilities = self._classifier.classify(pixels)
        best = int(probabilities.argmax())
        label = self._classifier.labels[best] if probabilities[best] >= _LIKELY else None
        objects = Counter(
            detection.label
            for detection in self._detector.detect(pixels)
            if detection.score >= _LEAST_SCORE
        )
        lines = self._reader.read(pixels, is_cancelled)
        readable = (line.text for line in lines if line.confidence >= _READABLE)
        text = " ".join(line for line in readable if len(line) > 1)
        return build_sentence(label, objects, text)


def build_sentence(label: str | None, objects: Counter[str], text: str) -> str:
    """Return the sentence for what was recognized."""
    parts = []
    if label is not None:
        parts.append(f"of {with_article(label)}")
    counted = [_count(name, number) for name, number in objects.most_common() if name != label]
    if counted:
        parts.append(f"with {_join(counted)}")
    if text:
        parts.append(f'{"and " if parts else "with "}the text "{text}"')
    return f"An image {' '.join(parts)}." if parts else "An image without anything recognized."


def with_article(name: str) -> str:
    """Put "a" or "an" before a name."""
    return f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"


def _count(name: str, number: int) -> str:
    if number == 1:
        return with_article(name)
    number_word = _NUMBERS[number] if number < len(_NUMBERS) else str(number)
    ending = "es" if name.endswith(("s", "ch", "sh", "x")) else "s"
    return f"{number_word} {_PLURALS.get(name, name + ending)}"


def _join(names: list[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
