"""The sentence about an image: its words, and how often it names what is there."""

from collections import Counter

import numpy as np
import pytest

from cfai.local import backends
from cfai.local.backends.vision.description import build_sentence
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


def test_text_in_an_image_is_quoted() -> None:
    sentence = backends.describer().describe(np.asarray(draw_text("Invoice #2041", "Total: $12")))
    assert '"Invoice #2041 Total: $12"' in sentence


def test_a_description_mostly_names_what_is_there() -> None:
    describer = backends.describer()
    results = [
        WORDS[picture.name] in describer.describe(picture.pixels) for picture in changed(*WORDS)
    ]
    hold("Image to text", results)
