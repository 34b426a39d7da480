"""Vectors of images: their form, and whether the right caption is the nearest."""

import numpy as np
import pytest

from cfai.local import backends
from tests.local.pictures import changed, photo
from tests.local.quality import hold

pytestmark = pytest.mark.usefixtures("vision_weights")

CAPTIONS = {
    "cat": "cat",
    "coffee": "a cup of coffee",
    "motorcycle": "motorbike",
    "rocket": "rocket",
}
OTHERS = ["castle", "person in uniform", "flower", "tractor", "dog", "book"]


@pytest.mark.parametrize("dimensions", [384, 768])
def test_a_vector_has_length_one(dimensions: int) -> None:
    vector = backends.image_embedder().embed(np.asarray(photo("cat")), dimensions=dimensions)
    assert vector.shape == (dimensions,)
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_the_vector_is_that_of_the_likeliest_labels() -> None:
    """Their mean, weighted by ten probabilities, of length 1."""
    pixels = np.asarray(photo("cat"))
    classifier = backends.image_classifier()
    probabilities = classifier.classify(pixels)
    best = probabilities.argsort()[::-1][:10]
    labels = [classifier.labels[index] for index in best]
    texts = backends.embedder().embed(
        labels, dimensions=384, pooling="mean", is_cancelled=lambda: False
    )
    mean = (texts * probabilities[best][:, None]).sum(0)
    vector = backends.image_embedder().embed(pixels, dimensions=384)
    assert vector == pytest.approx(mean / np.linalg.norm(mean), abs=2e-5)


def test_the_nearest_caption_of_a_photo_is_mostly_right() -> None:
    embedder = backends.image_embedder()
    captions = [*CAPTIONS.values(), *OTHERS]
    texts = backends.embedder().embed(
        captions, dimensions=768, pooling="mean", is_cancelled=lambda: False
    )
    results = []
    for picture in changed(*CAPTIONS):
        nearest = (texts @ embedder.embed(picture.pixels, dimensions=768)).argmax()
        results.append(captions[nearest] == CAPTIONS[picture.name])
    hold("Multimodal embeddings", results)
