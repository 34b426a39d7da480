"""Many texts to vectors: every text becomes one vector or one failure."""

from cfai._lazy import export

_EXPORTS = {
    "cfai.embedding.job": "EmbeddingJob",
    "cfai.embedding.plan": "BatchOptions JobOptions OnError Plan",
    "cfai.embedding.source": "Texts",
    "cfai.embedding.values": "EmbedFailure EmbeddedBatch JobStats Progress",
}
"""The public names by the modules that define them. After a change, run `python -m tests.stubs`."""

__getattr__, __dir__, __all__ = export(__name__, _EXPORTS)
