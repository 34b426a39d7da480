"""Bodies under another Content-Type than documented: their first bytes say what they are."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cfai import Embeddings, Prompt, Retries, TextEmbeddings, TextToImage, WorkersAI
from cfai.errors import AnswerTooLarge, DecodeError, QuotaExceeded
from cfai.testing import FakeWorkersAI
from tests.embedding.samples import M3

MODEL = "@cf/meta/llama-3.1-8b-instruct-fast"
PNG = "iVBORw0KGgo="
NO_RETRIES = Retries(max=0)

CALLS: dict[str, tuple[Callable[[WorkersAI], Awaitable[Any]], Any, Any]] = {
    "run": (lambda ai: ai.run(MODEL, Prompt("a")), {"response": "paid"}, "paid"),
    "a mapping": (lambda ai: ai.run("@cf/x/y", {"prompt": "a"}), {"x": 1}, {"x": 1}),
    "embeddings": (
        lambda ai: ai.run(M3, TextEmbeddings(["a"])),
        {"shape": [1, 2], "data": [[1.0, 2.0]]},
        [[1.0, 2.0]],
    ),
    "image": (
        lambda ai: ai.run("@cf/black-forest-labs/flux-1-schnell", TextToImage("a")),
        {"image": PNG},
        b"\x89PNG\r\n\x1a\n",
    ),
    "to_markdown_formats": (lambda ai: ai.to_markdown_formats(), [], []),
}
"""Each with a result, and what is read from it."""

TYPES = (
    "text/html",
    "application/octet-stream",
    "application/x-ndjson",
    "text/json",
    "image/png",
    ";;==",
)


def value_of(answer: Any) -> Any:
    if isinstance(answer, Embeddings):
        return [list(row) for row in answer]
    for name in ("text", "value", "data"):
        if hasattr(answer, name):
            return getattr(answer, name)
    return answer


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("content_type", [*TYPES, "text/event-stream"])
@pytest.mark.parametrize("before", [b"", b"\n", b" ", b"\r\n\t", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("indent", [None, 1])
async def test_an_answer_under_another_type_is_read(
    fake: FakeWorkersAI, name: str, content_type: str, before: bytes, indent: int | None
) -> None:
    """It was paid for."""
    call, result, value = CALLS[name]
    body = before + json.dumps({"success": True, "result": result}, indent=indent).encode()
    client = fake.client(retries=NO_RETRIES)
    for cut in (0, 1, 2, 20, len(body) - 1):
        fake.says(body[:cut], body[cut:], content_type=content_type, framing="chunked")
        answer = await call(client)
        assert (
            [list(row) for row in answer] == value
            if name == "embeddings"
            else value_of(answer) == value
        )


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("content_type", [*TYPES, "text/event-stream", ""])
@pytest.mark.parametrize("before", [b"", b"\n ", b"\xef\xbb\xbf"])
async def test_an_error_under_another_type_is_no_answer(
    fake: FakeWorkersAI, name: str, content_type: str, before: bytes
) -> None:
    fake.says(
        before + b'{"success":false,"errors":[{"code":4006,"message":"used up"}]}',
        content_type=content_type or None,
    )
    with pytest.raises(QuotaExceeded, match="4006"):
        await CALLS[name][0](fake.client())


@pytest.mark.parametrize("content_type", TYPES)
async def test_an_answer_to_a_request_for_a_stream_is_read(
    fake: FakeWorkersAI, content_type: str
) -> None:
    client = fake.client(retries=NO_RETRIES)
    for body in (b'{"result":{"response":"paid"}}', b'{"result":\n{"response":"paid"}}\n'):
        fake.says(body, content_type=content_type)
        assert str(await client.stream(MODEL, Prompt("a")).collect()) == "paid"


@pytest.mark.parametrize("content_type", TYPES)
async def test_an_error_on_the_first_line_ends_the_reading(
    fake: FakeWorkersAI, content_type: str
) -> None:
    """Although its connection stays open."""
    fake.says(
        b'{"errors":[{"code":4006,"message":"used up"}]}\n', asyncio.Event(),
        content_type=content_type, framing="chunked",
    )  # fmt: skip
    with pytest.raises(QuotaExceeded, match="4006"):
        await fake.client().stream(MODEL, Prompt("a")).collect()


@pytest.mark.parametrize(
    "begin",
    [b'{"response":"a"}\n{"response":"b"}\n', b"<html>", b"RIFF", b'{"response":"a"}\n\n[1'],
)
async def test_anything_else_is_refused_at_its_beginning(fake: FakeWorkersAI, begin: bytes) -> None:
    """Not after the whole generation."""
    fake.says(begin, asyncio.Event(), content_type="application/x-ndjson", framing="chunked")
    expected = "expected a stream of events, got application/x-ndjson"
    with pytest.raises(DecodeError, match=expected) as caught:
        await fake.client(retries=NO_RETRIES).stream(MODEL, Prompt("a")).collect()
    assert caught.value.body == begin
    await fake.until(lambda: fake.connections == 0)


@pytest.mark.parametrize("piece", [b"\n", b"\r\n", b'{"a":', b" ", b" \n"])
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "text/html"])
async def test_a_body_that_never_says_what_it_is_has_a_limit(
    fake: FakeWorkersAI, piece: bytes, content_type: str
) -> None:
    pieces = [piece * (2**16 // len(piece))] * 8
    fake.says(*pieces, asyncio.Event(), content_type=content_type, framing="chunked")
    client = fake.client(retries=NO_RETRIES, max_answer_bytes=2**18)
    with pytest.raises(AnswerTooLarge):
        await client.run(MODEL, Prompt("a"))
    await fake.until(lambda: fake.connections == 0)


async def test_samples_that_begin_as_a_stream_may_begin(fake: FakeWorkersAI) -> None:
    """Nothing is lost of them."""
    body = b"\n\r\n" + bytes(range(256))
    fake.says(body[:1], body[1:3], body[3:], content_type="audio/pcm", framing="chunked")
    answer = await fake.client().run("@cf/x/y", {"text": "a"})
    assert value_of(answer) == body
