"""Image classification: the file of weights, the crop, and how often the labels are right."""

import numpy as np
import pytest

from cfai.local import backends, weights
from cfai.local.backends.vision.efficientnet import crop, read_tensors
from tests.local.pictures import changed, photo
from tests.local.quality import hold

pytestmark = pytest.mark.usefixtures("vision_weights")

RIGHT = {
    "cat": {"tiger cat", "Egyptian cat", "tabby"},
    "coffee": {"espresso", "cup", "coffee mug"},
    "motorcycle": {"moped", "motor scooter"},
    "rocket": {"missile", "projectile", "space shuttle"},
}


def test_the_tensors_are_read_without_unpickling() -> None:
    (path,) = weights.ensure(weights.EFFICIENTNET)
    tensors = read_tensors(path)
    assert len(tensors) == 296
    assert tensors["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert tensors["_fc.weight"].shape == (1000, 1280)
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())
    # A depthwise kernel, and a tensor whose strides are not those of its shape.
    assert tensors["_blocks.0._depthwise_conv.weight"].shape == (32, 1, 3, 3)
    assert not tensors["_conv_stem.weight"].flags.c_contiguous


@pytest.mark.parametrize("shape", [(300, 200, 3), (1, 1, 3), (2, 900, 3)])
def test_the_middle_of_an_image_is_cropped(shape: tuple[int, ...]) -> None:
    cropped = crop(np.full(shape, 255, np.uint8))
    assert cropped.shape == (224, 224, 3)
    assert cropped.min() == cropped.max() == 1.0


def test_the_probabilities_add_up_to_one() -> None:
    classifier = backends.image_classifier()
    probabilities = classifier.classify(np.zeros((64, 64, 3), np.uint8))
    assert probabilities.shape == (len(classifier.labels),) == (1000,)
    assert probabilities.sum() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cat", {"tiger cat": 0.385, "Egyptian cat": 0.363, "tabby": 0.167}),
        ("coffee", {"espresso": 0.951, "cup": 0.015, "consomme": 0.008}),
        ("rocket", {"missile": 0.320, "projectile": 0.211, "drilling platform": 0.084}),
    ],
)
def test_the_probabilities_are_those_of_the_model(name: str, expected: dict[str, float]) -> None:
    """As recorded: a layer, a stride or an epsilon that is another one changes them."""
    classifier = backends.image_classifier()
    probabilities = classifier.classify(np.asarray(photo(name)))
    best = probabilities.argsort()[::-1][:3]
    found = {classifier.labels[index]: float(probabilities[index]) for index in best}
    assert found == pytest.approx(expected, abs=0.02)


def test_the_middle_has_seven_eighths_of_the_shorter_side() -> None:
    """From -127/128 to 1; a white square in the middle of black borders fills the crop."""
    for height, width in ((800, 1000), (1000, 800)):
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[height // 2 - 350 : height // 2 + 350, width // 2 - 350 : width // 2 + 350] = 255
        assert crop(pixels).min() == 1.0
        pixels[height // 2 - 350] = 0
        assert crop(pixels)[0].max() < 1.0
    assert crop(np.zeros((9, 9, 3), np.uint8)).max() == -127 / 128


def test_the_label_of_a_photo_is_mostly_right() -> None:
    classifier = backends.image_classifier()
    results = []
    for picture in changed(*RIGHT):
        best = classifier.classify(picture.pixels).argmax()
        results.append(classifier.labels[best] in RIGHT[picture.name])
    hold("Image Classification", results)
