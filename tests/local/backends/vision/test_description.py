"""The sentence about an image: its words, and how often it names what is there."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from cfai.local import backends
from cfai.local.backends.vision.description import Describer, build_sentence, with_article
from cfai.local.backends.vision.nanodet import Detection
from cfai.local.backends.vision.ppocr import TextLine
from tests.local.pictures import changed, draw_text
from tests.local.quality import hold

pytestmark = pytest.mark.usefixtures("vision_weights")

WORDS = {"cat": "cat", "coffee": "espresso", "motorcycle": "motorcycle", "photographer": "person"}


@pytest.mark.parametrize(
    ("label", "objects", "text", "sentence"),
    [
        ("espresso", {"cup": 1}, "", "An image of an espresso with a cup."),
        (None, {"person": 3, "tie": 1}, "", "An image with three people and a tie."),
        (None, {"bus": 2, "knife": 12}, "", "An image with 12 knives and two buses."),
        ("missile", {}, "NASA", 'An image of a missile and the text "NASA".'),
        (None, {}, "Exit", 'An image with the text "Exit".'),
        ("cat", {"cat": 1}, "", "An image of a cat."),
        (None, {}, "", "An image without anything recognized."),
        (
            "car",
            {"bus": 1, "cup": 1, "tie": 1},
            "",
            "An image of a car with a bus, a cup and a tie.",
        ),
    ],
)
def test_a_sentence(label: str | None, objects: dict[str, int], text: str, sentence: str) -> None:
    assert build_sentence(label, Counter(objects), text) == sentence


@pytest.mark.parametrize(
    ("name", "article"),
    [
        ("cup", "a cup"),
        ("apple", "an apple"),
        ("Egyptian cat", "an Egyptian cat"),
        ("bus", "a bus"),
    ],
)
def test_articles(name: str, article: str) -> None:
    assert with_article(name) == article


@pytest.mark.parametrize(
    ("name", "number", "words"),
    [
        ("cup", 2, "two cups"),
        ("cup", 10, "ten cups"),
        ("cup", 11, "11 cups"),
        ("bench", 3, "three benches"),
        ("toothbrush", 4, "four toothbrushes"),
        ("box", 5, "five boxes"),
        ("glass", 6, "six glasses"),
        ("sheep", 7, "seven sheep"),
        ("mouse", 8, "eight mice"),
        ("knife", 9, "nine knives"),
    ],
)
def test_numbers_of_objects(name: str, number: int, words: str) -> None:
    assert build_sentence(None, Counter({name: number}), "") == f"An image with {words}."


class Seen:
    """A classifier, a detector and a reader with given answers."""

    labels = ("cup", "tie")
    name = "seen"

    def __init__(self, probability: float, scores: list[float], lines: list[TextLine]) -> None:
        self._answers = np.array([probability, 0.0]), scores, lines

    def classify(self, pixels: Any) -> Any:
        return self._answers[0]

    def detect(self, pixels: Any) -> Any:
        return [Detection("cat", score, (0, 0, 1, 1)) for score in self._answers[1]]

    def read(self, pixels: Any, is_cancelled: Any) -> Any:
        return self._answers[2]


@pytest.mark.parametrize(
    ("probability", "scores", "lines", "sentence"),
    [
        (0.25, [], [], "An image of a cup."),
        (0.2499, [], [], "An image without anything recognized."),
        (0, [0.45, 0.4499], [], "An image with a cat."),
        (0, [0.9, 0.45], [], "An image with two cats."),
        (0, [], [("Exit", 0.85), ("Hidden", 0.8499)], 'An image with the text "Exit".'),
        (0, [], [("I", 0.99), ("to", 0.99), ("sea", 0.9)], 'An image with the text "to sea".'),
    ],
)
def test_what_is_likely_enough_is_named(
    probability: float, scores: list[float], lines: list[tuple[str, float]], sentence: str
) -> None:
    read = [TextLine(text, confidence, (0, 0, 1, 1)) for text, confidence in lines]
    seen: Any = Seen(probability, scores, read)
    describer = Describer(seen, seen, seen)
    assert describer.describe(np.zeros((1, 1, 3), np.uint8)) == sentence
    assert describer.name == "labels-boxes-text:seen+seen+seen"


def test_text_in_an_image_is_quoted() -> None:
    sentence = backends.describer().describe(np.asarray(draw_text("Invoice #2041", "Total: $12")))
    assert '"Invoice #2041 Total: $12"' in sentence


def test_a_description_mostly_names_what_is_there() -> None:
    describer = backends.describer()
    results = [
        WORDS[picture.name] in describer.describe(picture.pixels) for picture in changed(*WORDS)
    ]
    hold("Image to text", results)
