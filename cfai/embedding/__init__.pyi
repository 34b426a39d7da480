# Written by `python -m tests.stubs` from the table in `__init__.py`: change that, not this.
from cfai.embedding.job import EmbeddingJob
from cfai.embedding.options import BatchOptions, JobOptions, OnError, Plan
from cfai.embedding.results import EmbeddedBatch, EmbedFailure, JobStats, Progress
from cfai.embedding.source import Texts
from cfai.embedding.splitting import Piece

__all__ = [
    "BatchOptions",
    "EmbedFailure",
    "EmbeddedBatch",
    "EmbeddingJob",
    "JobOptions",
    "JobStats",
    "OnError",
    "Piece",
    "Plan",
    "Progress",
    "Texts",
]
