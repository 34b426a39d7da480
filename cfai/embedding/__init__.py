"""Many texts -> vectors: every text ends as one vector or one failure, whatever happens between."""

from typing import TYPE_CHECKING, Any

from cfai._lazy import Face

if TYPE_CHECKING:
    from cfai.embedding.job import EmbeddingJob as EmbeddingJob
    from cfai.embedding.plan import (
        BatchOptions as BatchOptions,
        JobOptions as JobOptions,
        OnError as OnError,
        Plan as Plan,
    )
    from cfai.embedding.source import Texts as Texts
    from cfai.embedding.values import (
        EmbeddedBatch as EmbeddedBatch,
        EmbedFailure as EmbedFailure,
        JobStats as JobStats,
        Progress as Progress,
    )

_face = Face(
    __name__,
    {
        "cfai.embedding.job": "EmbeddingJob",
        "cfai.embedding.plan": "BatchOptions JobOptions OnError Plan",
        "cfai.embedding.source": "Texts",
        "cfai.embedding.values": "EmbedFailure EmbeddedBatch JobStats Progress",
    },
)

__all__ = _face.names  # noqa: PLE0605  # a list of texts, though no literal one


def __getattr__(name: str) -> Any:
    return _face.load(name)


def __dir__() -> list[str]:
    return _face.listed()
