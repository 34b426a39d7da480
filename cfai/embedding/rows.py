"""Batches -> one array of NumPy's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cfai.embedding.values import EmbeddedBatch
from cfai.errors import MissingExtra

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray


def numpy_there(needed_for: str) -> None:
    """Make sure that NumPy is installed.

    Raises:
        MissingExtra: It isn't.
    """
    try:
        import numpy  # noqa: F401, ICN001  # only whether it is there
    except ImportError as exc:
        raise MissingExtra("numpy", needed_for=needed_for) from exc


def assembled(batches: list[EmbeddedBatch], failed: Sequence[int]) -> NDArray[float32]:
    """One row for each text, in the order of their places; *failed* places are NaN.

    It empties *batches* as it goes, so that no vector is held twice.
    """
    import numpy as np

    places = np.sort(
        np.concatenate(
            [np.arange(batch.start, batch.start + len(batch)) for batch in batches]
            + [np.array(failed, dtype=np.intp)]
        ).astype(np.intp)
    )
    width = batches[0].vectors.shape[1] if batches else 0
    whole = np.full((len(places), width), np.nan, dtype=np.float32)
    while batches:
        batch = batches.pop()
        first = np.searchsorted(places, batch.start)
        whole[first : first + len(batch)] = batch.vectors.numpy()
    return whole
