"""A stream where JSON is documented: the error in it counts, and nothing waits for its end."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cfai import Retries, WorkersAI
from cfai.errors import DecodeError, QuotaExceeded
from cfai.testing import FakeWorkersAI
from tests.embedding.samples import M3, collect

CALLS: dict[str, Callable[[WorkersAI], Awaitable[Any]]] = {
    "models.schema": lambda ai: ai.models.schema(M3),
    "to_markdown": lambda ai: ai.to_markdown({"a.html": b"<p>a</p>"}),
    "to_markdown_formats": lambda ai: ai.to_markdown_formats(),
    "finetunes.create": lambda ai: ai.finetunes.create(model=M3, name="a"),
    "embed": lambda ai: ai.embed(M3, ["a"]),
    "embed_many": lambda ai: collect(ai.embed_many(M3, ["a"] * 50, mode="queue", batch_size=5)),
}

REFUSALS = {
    "an event": b'data: {"success":false,"errors":[{"code":4006,"message":"used up"}]}\n\n',
    "with its name": b'event: error\ndata: {"code":4006,"message":"used up"}\n\n',
    "after a comment": b': ping\n\ndata: {"error":{"code":4006,"message":"used up"}}\n\n',
    "after fields of no event": (
        b'id: 1\nretry: 100\n\ndata: {"errors":[{"code":4006,"message":"used up"}]}\n\n'
    ),
    "on two lines": b'data: {"errors":\ndata: [{"code":4006,"message":"used up"}]}\r\n\r\n',
    "after many comments": (
        b": " + b"-" * 2**15 + b'\n\ndata: {"errors":[{"code":4006,"message":"used up"}]}\n\n'
    ),
    "after events that say nothing": (
        b'data:\n\ndata: {}\n\ndata: null\n\nid: 1\ndata: {"response":""}\n\n'
        b'data: {"errors":[{"code":4006,"message":"used up"}]}\n\n'
    ),
    "a bare line": b'{"errors":[{"code":4006,"message":"used up"}]}\n',
    "JSON on several lines": b'{"errors":[\n{"code":4006,\n"message":"used up"}]}',
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("body", REFUSALS.values(), ids=REFUSALS)
async def test_the_error_of_its_first_event_is_raised(
    fake: FakeWorkersAI, call: Callable[[WorkersAI], Awaitable[Any]], body: bytes
) -> None:
    """A used-up quota is asked for once."""
    for _ in range(9):
        fake.says(body, content_type="text/event-stream")
    with pytest.raises(QuotaExceeded, match=r"\(code 4006\): used up"):
        await call(fake.client())
    assert len(fake.requests) == 1


@pytest.mark.parametrize("body", REFUSALS.values(), ids=REFUSALS)
async def test_the_error_is_found_however_it_is_cut(fake: FakeWorkersAI, body: bytes) -> None:
    client = fake.client(retries=Retries(max=0))
    for at in {1, 5, *range(0, min(len(body), 100), 9), len(body) - 3}:
        go = asyncio.Event()
        fake.says(body[:at], go, body[at:], content_type="text/event-stream", framing="chunked")
        call = asyncio.create_task(client.to_markdown_formats())
        await fake.until(lambda: len(fake.requests) > 0)
        for _ in range(10):  # Until the event loop has read the bytes.
            await asyncio.sleep(0)
        go.set()
        with pytest.raises(QuotaExceeded, match=r"\(code 4006\): used up"):
            await call


async def test_comments_without_end_are_read_to_a_limit(fake: FakeWorkersAI) -> None:
    fake.says(
        *[b": " + b"-" * 2**16 + b"\n"] * 20, asyncio.Event(),
        content_type="text/event-stream", framing="chunked",
    )  # fmt: skip
    with pytest.raises(DecodeError, match="stream where JSON"):
        await fake.client().to_markdown_formats()


async def test_a_busy_service_is_asked_again(fake: FakeWorkersAI) -> None:
    body = b'data: {"errors":[{"code":3040,"message":"busy"}]}\n\n'
    fake.says(body, content_type="text/event-stream").answers([])
    assert await fake.client(retries=Retries(base=0)).to_markdown_formats() == []


@pytest.mark.parametrize("call", [call for name, call in CALLS.items() if "embed" not in name])
async def test_another_stream_is_refused_at_its_first_event(
    fake: FakeWorkersAI, call: Callable[[WorkersAI], Awaitable[Any]]
) -> None:
    fake.says(
        b'data: {"response":"a"}\n\n', asyncio.Event(),
        content_type="text/event-stream", framing="chunked",
    )  # fmt: skip
    with pytest.raises(DecodeError, match="stream"):
        await call(fake.client(retries=Retries(max=0)))
    await fake.until(lambda: fake.connections == 0)
