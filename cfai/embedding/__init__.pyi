# Written by `python -m tests.stubs` from the table in `__init__.py`: change that, not this.
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
