"""Bulk embedding: every text becomes one vector or one failure."""

from typing import TYPE_CHECKING

from cfai import _lazy

if TYPE_CHECKING:
    # Tools that freeze programs find modules by the import statements in the bytecode.
    from cfai.embedding import job, options, results, source, splitting  # noqa: F401

_EXPORTS = {
    "cfai.embedding.job": "EmbeddingJob",
    "cfai.embedding.options": "BatchOptions JobOptions OnError Plan",
    "cfai.embedding.results": "EmbedFailure EmbeddedBatch JobStats Progress",
    "cfai.embedding.source": "Texts",
    "cfai.embedding.splitting": "Piece",
}
"""The public names by the modules that define them. After a change, run `python -m tests.stubs`."""

__getattr__, __dir__, __all__ = _lazy.export(__name__, _EXPORTS)
