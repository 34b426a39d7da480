"""Options of a job: bounds, and when they are checked."""

from typing import Any

import pytest

from cfai import InputError, Progress, WorkersAI
from tests.embedding.samples import M3


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"batch_size": 101},
        {"max_batch_chars": 0},
        {"on_error": "explode"},
    ],
)
async def test_options_out_of_bounds_are_refused(ai: WorkersAI, wrong: Any) -> None:
    """Before anything is read."""
    with pytest.raises(InputError, match=next(iter(wrong))):
        ai.embed_many(M3, ["one"], **wrong)


async def async_progress(_: Progress) -> None:
    """An async function, which would not be awaited."""


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate": 0},
        {"rate": float("nan")},
        {"rate": "fast"},
        {"concurrency": 0},
        {"concurrency": "8"},
        {"ordered": "no"},
        {"dedupe": 1},
        {"retry_failed": 1},
        {"checkpoint": ""},
        {"checkpoint": 3},
        {"progress": "x"},
        {"progress": async_progress},
        {"pooling": "max"},
        {"truncate": "yes"},
    ],
)
async def test_options_are_checked_when_the_job_is_created(ai: WorkersAI, wrong: Any) -> None:
    """And not when it starts, or for each text."""
    with pytest.raises(InputError, match=next(iter(wrong))):
        ai.embed_many(M3, ["one"], on_error="skip", **wrong)


@pytest.mark.parametrize("model", ["@cf/baai/bge m3", "../x", ""])
async def test_the_model_is_checked_when_the_job_is_created(ai: WorkersAI, model: str) -> None:
    with pytest.raises(InputError, match="model"):
        ai.embed_many(model, ["one"], on_error="skip")


async def test_an_unknown_option_is_a_type_error(ai: WorkersAI) -> None:
    with pytest.raises(TypeError, match=r"embed_many\(\).*'bogus'"):
        ai.embed_many(M3, ["one"], bogus=1)  # type: ignore[call-overload]  # it is refused
