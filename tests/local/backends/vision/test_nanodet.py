"""Object detection: overlapping boxes, and how often the right object is in the right place."""

import numpy as np
import pytest

from cfai.local import backends
from cfai.local.backends.vision.nanodet import Detection, drop_overlaps
from tests.local.pictures import Picture, changed, photo
from tests.local.quality import hold

pytestmark = pytest.mark.usefixtures("vision_weights")

Box = tuple[float, float, float, float]

RIGHT: dict[str, tuple[str, Box]] = {
    "coffee": ("cup", (173, 18, 425, 306)),
    "motorcycle": ("motorcycle", (100, 76, 680, 454)),
    "astronaut": ("person", (21, 13, 360, 511)),
    "photographer": ("person", (0, 63, 325, 512)),
    "cat": ("cat", (0, 0, 451, 300)),
}
"""What is in the photos, in boxes that were drawn by hand."""


def test_the_best_of_overlapping_boxes_with_a_label_is_kept() -> None:
    cat = Detection("cat", 0.9, (0, 0, 100, 100))
    worse = Detection("cat", 0.8, (5, 5, 100, 100))
    other = Detection("cat", 0.7, (200, 0, 300, 100))
    dog = Detection("dog", 0.6, (0, 0, 100, 100))
    empty = Detection("cup", 0.5, (7, 7, 7, 7))
    assert drop_overlaps([dog, worse, empty, cat, other]) == [cat, other, dog, empty]


@pytest.mark.parametrize(
    ("box", "is_kept"),
    [
        ((0, 0, 100, 50), False),
        ((0, 0, 100, 49), True),
        ((50, 0, 150, 100), True),
        ((0, 40, 100, 140), True),
        ((0, 25, 100, 125), False),
        ((100, 0, 200, 100), True),
        ((0, -100, 100, 0), True),
        ((-10, -10, 110, 110), False),
    ],
)
def test_a_box_that_shares_half_of_the_area_goes(box: Box, *, is_kept: bool) -> None:
    first, second = Detection("cat", 0.9, (0, 0, 100, 100)), Detection("cat", 0.8, box)
    assert drop_overlaps([second, first]) == ([first, second] if is_kept else [first])


@pytest.mark.parametrize(
    ("name", "label", "score", "box"),
    [
        ("coffee", "cup", 0.522, (140, 11, 427, 398)),
        ("cat", "cat", 0.402, (0, 0, 449, 297)),
        ("motorcycle", "motorcycle", 0.778, (106, 77, 688, 454)),
        ("astronaut", "person", 0.734, (15, 14, 364, 507)),
    ],
)
def test_the_detections_are_those_of_the_model(
    name: str, label: str, score: float, box: Box
) -> None:
    """As recorded: an operation, a mean or a distance that is another one changes them."""
    detections = backends.object_detector().detect(np.asarray(photo(name)))
    scores = [detection.score for detection in detections]
    assert scores == sorted(scores, reverse=True)
    (detection, *_) = [detection for detection in detections if detection.label == label]
    assert detection.score == pytest.approx(score, abs=0.02)
    assert detection.box == pytest.approx(box, abs=4)


def test_boxes_are_inside_the_image() -> None:
    for picture in changed("cat"):
        height, width, _ = picture.pixels.shape
        for detection in backends.object_detector().detect(picture.pixels):
            left, top, right, bottom = detection.box
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height
            assert 0.35 < detection.score <= 1


def test_an_empty_image_has_no_objects() -> None:
    assert backends.object_detector().detect(np.full((50, 80, 3), 128, np.uint8)) == []


def test_objects_are_mostly_found_in_their_places() -> None:
    detector = backends.object_detector()
    results = []
    for picture in changed(*RIGHT):
        label, box = RIGHT[picture.name]
        results.append(
            any(
                detection.label == label and overlap(detection.box, place(box, picture)) >= 0.5
                for detection in detector.detect(picture.pixels)
            )
        )
    hold("Object Detection", results)


def place(box: Box, picture: Picture) -> Box:
    """Return where a box is in a changed picture."""
    change, image = picture.change, picture.image
    left, top, right, bottom = box
    if change == "mirrored":
        return image.width - right, top, image.width - left, bottom
    if change == "smaller":
        return left / 2, top / 2, right / 2, bottom / 2
    return box


def overlap(one: Box, other: Box) -> float:
    shared = max(0.0, min(one[2], other[2]) - max(one[0], other[0])) * max(
        0.0, min(one[3], other[3]) - max(one[1], other[1])
    )
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)
