"""Image classification: the file of weights, the crop, and how often the labels are right."""

import numpy as np
import pytest

from cfai.local import backends, weights
from cfai.local.backends.vision.efficientnet import crop, read_tensors
from tests.local.pictures import changed
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


def test_the_label_of_a_photo_is_mostly_right() -> None:
    classifier = backends.image_classifier()
    results = []
    for picture in changed(*RIGHT):
        best = classifier.classify(picture.pixels).argmax()
        results.append(classifier.labels[best] in RIGHT[picture.name])
    hold("Image Classification", results)
