"""Vectors of images that can be compared with those of texts, by the method ConSE.

An image's vector is the mean of the vectors of its most likely labels, weighted by their
probabilities. It knows only what ImageNet's 1,000 labels name. Source: Norouzi et al., "Zero-Shot
Learning by Convex Combination of Semantic Embeddings", 2013 (arXiv 1312.5650).
"""

from typing import TYPE_CHECKING

from cfai.local.backends.roles import TextEmbedder
from cfai.local.backends.vision.efficientnet import EfficientNet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LABELS = 10
"""As many of the most likely labels count, as in the paper's best results."""


class ConvexEmbedder:
    """Embeds images in the space of a text embedder."""

    def __init__(self, classifier: EfficientNet, embedder: TextEmbedder) -> None:
        self._classifier = classifier
        self._embedder = embedder
        self.name: str = f"conse:{classifier.name}+{embedder.name}"

    def embed(self, pixels: "NDArray[np.uint8]", *, dimensions: int) -> "NDArray[np.float32]":
        """Return the vector of an image: float32, shape (*dimensions*,), of length 1."""
        import numpy as np

        probabilities = self._classifier.classify(pixels)
        best = probabilities.argsort()[-_LABELS:]
        labels = [self._classifier.labels[index] for index in best]
        vectors = self._embedder.embed(
            labels, dimensions=dimensions, pooling="mean", is_cancelled=lambda: False
        )
        mean = probabilities[best] @ vectors
        vector: NDArray[np.float32] = mean / np.linalg.norm(mean)
        return vector
