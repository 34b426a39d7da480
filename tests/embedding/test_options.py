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


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 1},
        {"batch_size": 100},
        {"max_batch_chars": 1},
        {"rate": 1},
        {"rate": None},
        {"rate": "auto"},
        {"concurrency": 1},
        {"concurrency": None},
        {"polling": None},
        {"progress": True},
        {"long": "split", "overlap": 0},
        {"long": "split", "overlap": 0.5},
        {"long": "split", "piece_tokens": 16},
        {"long": "split", "piece_tokens": 8192},
        {"long": "split", "pool": "mean"},
        {"long": "split", "split": str.split},
        {"long": "fail"},
        {"mode": "queue"},
        {"on_error": "yield"},
    ],
)
async def test_options_at_their_bounds_are_accepted(ai: WorkersAI, options: Any) -> None:
    await ai.embed_many(M3, ["one"], **options).aclose()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 101}, f"batch_size must be at most 100 for {M3}, got 101"),
        ({"batch_size": True}, "batch_size must be a whole number, 1 or more, got True"),
        ({"max_batch_chars": 0}, "max_batch_chars must be a whole number, 1 or more, got 0"),
        ({"on_error": "stop"}, "on_error must be one of raise, yield, skip, got 'stop'"),
        ({"mode": "batch"}, "mode must be one of direct, queue, got 'batch'"),
        ({"long": "cut"}, "long must be one of warn, fail, split, got 'cut'"),
        ({"pool": "max"}, "pool must be one of mean, got 'max'"),
        ({"ordered": 1}, "ordered must be true or false, got 1"),
        ({"dedupe": None}, "dedupe must be true or false, got None"),
        ({"polling": 5}, "polling must be a Polling, got int"),
        ({"progress": 1}, "progress must be true, false or a function, got 1"),
        ({"progress": async_progress}, "progress must not be an async function"),
        ({"split": "x"}, "split must be a function, got 'x'"),
        ({"split": async_progress}, "split must not be an async function"),
        ({"long": "split", "overlap": 0.51}, "overlap must be a number from 0 to 0.5, got 0.51"),
        ({"long": "split", "overlap": -0.01}, "overlap must be a number from 0 to 0.5, got -0.01"),
    ],
)
async def test_an_invalid_option_is_named_with_its_rule(
    ai: WorkersAI, options: Any, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        ai.embed_many(M3, ["one"], **options)
    assert str(caught.value).startswith(message)


class AsyncProgress:
    """An object whose call would have to be awaited."""

    async def __call__(self, _: object) -> None: ...


@pytest.mark.parametrize("name", ["progress", "split"])
async def test_an_object_with_an_async_call_is_refused(ai: WorkersAI, name: str) -> None:
    options: Any = {name: AsyncProgress(), "long": "split"}
    with pytest.raises(InputError, match=f"{name} must not be an async function"):
        ai.embed_many(M3, ["one"], **options)
