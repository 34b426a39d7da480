"""Texts, and the checks of what a job makes of them, that several tests share."""

from typing import Any

from cfai import EmbeddedBatch, EmbeddingJob, EmbedFailure
from cfai.testing import vector_of

M3 = "@cf/baai/bge-m3"
LARGE = "@cf/baai/bge-large-en-v1.5"


def texts(count: int) -> list[str]:
    """Distinct texts."""
    return [f"text {number}" for number in range(count)]


def is_poison(text: str) -> bool:
    """Whether the simulated service refuses a text."""
    return "poison" in text


def poisoned(count: int, *places: int) -> list[str]:
    """Texts of which those at *places* are refused."""
    return [f"poison {n}" if n in places else text for n, text in enumerate(texts(count))]


async def collect(job: EmbeddingJob[Any]) -> list[Any]:
    """All items of a job."""
    return [item async for item in job]


async def collect_into(job: EmbeddingJob[Any], items: list[Any]) -> None:
    """Put the items of a job into a list that outlives its failure."""
    async for item in job:
        items.append(item)  # noqa: PERF401  # `extend` would lose them


async def error_of(job: EmbeddingJob[Any], items: list[Any]) -> BaseException | None:
    """Put the items of a job into a list, and return the error that it ends with."""
    try:
        await collect_into(job, items)
    except BaseException as exc:
        return exc
    return None


def places_of(items: list[Any]) -> list[int]:
    """The places of all texts of some batches."""
    return [place for item in items for place in range(item.start, item.start + len(item))]


def check_vectors(items: list[Any], source: list[str]) -> None:
    """Every item is a batch, every vector belongs to its text, and no text comes twice."""
    seen: set[int] = set()
    for item in items:
        assert isinstance(item, EmbeddedBatch)
        for place, vector in enumerate(item.vectors, start=item.start):
            assert vector == vector_of(source[place])
            assert place not in seen
            seen.add(place)


def batches_of(items: list[Any]) -> list[EmbeddedBatch]:
    """The batches among the items of a job."""
    return [item for item in items if isinstance(item, EmbeddedBatch)]


def failures_of(items: list[Any]) -> list[EmbedFailure]:
    """The failures among the items of a job."""
    return [item for item in items if isinstance(item, EmbedFailure)]


def check_table(table: Any, source: list[str]) -> None:
    """The table has a row for each text, with its vector or an error."""
    rows = sorted(table.to_pylist(), key=lambda row: row["place"])
    assert [row["place"] for row in rows] == list(range(len(source)))
    for row, text in zip(rows, source, strict=True):
        if is_poison(text) or not text:
            assert row["vector"] is None
            assert row["error"]
        else:
            assert row["vector"] == vector_of(text).tolist()
            assert row["error"] is None


def file_names(folder: Any) -> list[str]:
    """The names of the files in a folder."""
    return sorted(path.name for path in folder.iterdir())
