"""Reading text in images: order, and how many lines are read without a mistake."""

import numpy as np
import pytest

from cfai.local import backends, weights
from cfai.local.backends.vision.ppocr import PaddleOcr
from tests.local.pictures import draw_text
from tests.local.quality import hold

pytestmark = pytest.mark.usefixtures("vision_weights")

LINES = (
    "Invoice #2041",
    "Total due: $1,284.50",
    "Pay before 12 December 2026",
    "Thank you for your order",
    "The quick brown fox jumps over the lazy dog",
    "Room 14 is closed on Mondays",
    "support@example.com",
    "https://example.com/help",
    "Temperature: 21.5 degrees",
    "Section 3.2: Returns",
    "CAUTION: HOT SURFACE",
    "Flight AB 1234 to Lisbon",
    "Seat 17C, Gate 42",
    "2 eggs, 100 g flour, 50 g sugar",
    "Open 9:00 to 17:30",
    "No smoking",
    "Platform 9",
    "Serial number 8F-2201-77",
    "Made in Portugal",
    "Page 3 of 12",
    "Best before 03/2027",
    "Do not bend",
    "Ring the bell twice",
    "50% off all books",
)


def reader() -> PaddleOcr:
    return PaddleOcr(*weights.ensure(weights.PADDLE_OCR))


def test_lines_are_read_from_top_to_bottom() -> None:
    image = draw_text("First line", "Second line", "Third line")
    assert [line.text for line in reader().read(np.asarray(image))] == [
        "First line",
        "Second line",
        "Third line",
    ]


def test_parts_of_a_row_are_read_from_left_to_right() -> None:
    image = draw_text("Hello there" + " " * 60 + "Right side")
    assert [line.text for line in reader().read(np.asarray(image))] == ["Hello there", "Right side"]


def test_an_image_without_text_has_no_lines() -> None:
    assert reader().read(np.full((64, 64, 3), 255, np.uint8)) == []
    assert reader().read(np.zeros((1, 1, 3), np.uint8)) == []


def test_lines_are_inside_the_image_with_a_confidence() -> None:
    image = draw_text("Invoice #2041")
    (line,) = reader().read(np.asarray(image))
    left, top, right, bottom = line.box
    assert 0 <= left < right <= image.width
    assert 0 <= top < bottom <= image.height
    assert 0.5 <= line.confidence <= 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Invoice #2041", {"Invoice #2041": (0.9997, (23, 21, 215, 59))}),
        (
            "Hello there" + " " * 20 + "Right side",
            {
                "Hello there": (0.9995, (25, 21, 178, 59)),
                "Right side": (0.998, (287, 19, 424, 65)),
            },
        ),
        ("a", {"a": (0.961, (22, 27, 48, 53))}),
    ],
)
def test_the_places_of_lines_are_those_of_the_model(
    text: str, expected: dict[str, tuple[float, tuple[float, ...]]]
) -> None:
    """As recorded: another size of a cell, a border or a scale changes them."""
    lines = reader().read(np.asarray(draw_text(text)))
    assert [line.text for line in lines] == list(expected)
    for line in lines:
        confidence, box = expected[line.text]
        assert line.confidence == pytest.approx(confidence, abs=0.02)
        assert line.box == pytest.approx(box, abs=4)


def test_a_large_image_is_read_as_a_small_one() -> None:
    """Lines are looked for in 960 pixels; their places are those in the image."""
    image = draw_text("Invoice #2041", "Total: $12")
    large = image.resize((image.width * 8, image.height * 8))
    boxes = [line.box for line in reader().read(np.asarray(image))]
    lines = reader().read(np.asarray(large))
    assert [line.text for line in lines] == ["Invoice #2041", "Total: $12"]
    for line, box in zip(lines, boxes, strict=True):
        assert [side / 8 for side in line.box] == pytest.approx(box, abs=16)


def test_a_cancelled_reading_ends() -> None:
    image = np.asarray(draw_text("First line", "Second line", "Third line"))
    answers = iter([False, True, True])
    assert [line.text for line in reader().read(image, lambda: next(answers))] == ["First line"]


def test_drawn_lines_are_mostly_read_without_a_mistake() -> None:
    ocr = reader()
    results = []
    for number, text in enumerate(LINES):
        colors = ("white", "navy") if number % 3 == 0 else ("black", "white")
        image = draw_text(text, size=(20, 28, 40)[number % 3], ink=colors[0], paper=colors[1])
        results.append(" ".join(line.text for line in ocr.read(np.asarray(image))) == text)
    hold("Text in images", results)


def test_backends_share_the_reader() -> None:
    assert backends.describer() is backends.describer()
