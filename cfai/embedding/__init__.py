"""Many texts -> vectors: every text ends as one vector or one failure, whatever happens between."""

from cfai.embedding.job import EmbeddingJob
from cfai.embedding.plan import BatchOptions, JobOptions, OnError, Plan
from cfai.embedding.source import Texts
from cfai.embedding.values import EmbeddedBatch, EmbedFailure, JobStats, Progress

__all__ = [
    "BatchOptions",
    "EmbedFailure",
    "EmbeddedBatch",
    "EmbeddingJob",
    "JobOptions",
    "JobStats",
    "OnError",
    "Plan",
    "Progress",
    "Texts",
]
