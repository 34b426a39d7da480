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
