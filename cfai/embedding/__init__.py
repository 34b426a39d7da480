"""Many texts to vectors: every text becomes one vector or one failure."""

from typing import TYPE_CHECKING

from cfai._lazy import export

if TYPE_CHECKING:
    # Tools that freeze programs find modules by the import statements in the bytecode.
    from cfai.embedding import job, plan, source, values  # noqa: F401

_EXPORTS = {
    "cfai.embedding.job": "EmbeddingJob",
    "cfai.embedding.plan": "BatchOptions JobOptions OnError Plan",
    "cfai.embedding.source": "Texts",
    "cfai.embedding.values": "EmbedFailure EmbeddedBatch JobStats Progress",
}
"""The public names by the modules that define them. After a change, run `python -m tests.stubs`."""

__getattr__, __dir__, __all__ = export(__name__, _EXPORTS)
