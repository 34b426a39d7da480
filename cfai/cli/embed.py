"""`cfai embed`: a vector for each text, in order, with several requests under way at once."""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cfai.cli import clients, inputs, notices, options, output
from cfai.errors import InputError
from cfai.profiles import profile
from cfai.tasks import Embeddings, TextEmbeddings

if TYPE_CHECKING:
    from cfai import WorkersAI

MODEL: Final = "@cf/baai/bge-m3"

_AT_ONCE: Final = 8
"""How many requests are under way at once."""

_TEXTS: Final = 100
"""How many texts go into one request, where nothing is known of the model."""


def embed(
    texts: Annotated[
        list[str] | None, typer.Argument(help="Left out: each line of what is piped in.")
    ] = None,
    *,
    model: Annotated[str, typer.Option("--model", "-m")] = MODEL,
    file: options.Output = None,
    local: options.Local = False,
) -> None:
    """Turn texts into vectors, a line of JSON for each.

    The lines have `text` and `vector`, in the order of the texts. Empty lines are left out.
    """
    target = output.Target(file)
    target.check()
    if not texts and inputs.stdin_is_a_terminal():
        raise InputError("there are no texts: give some, or pipe lines in")
    chosen = [inputs.argument(text) for text in texts] if texts else _lines(inputs.stdin_text())
    if not chosen:
        raise InputError("there are no texts: what was piped in is empty")
    if local:
        clients.need(*clients.EMBEDDINGS, needed_for="embedding texts on this machine")
    batches = list(_batches(chosen, profile(model).texts_per_request or _TEXTS))
    for batch in batches:
        TextEmbeddings(batch)  # All are checked before the first is sent.
    asyncio.run(_embed(model, batches, target, local=local))


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _batches(texts: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (texts[start : start + size] for start in range(0, len(texts), size))


async def _embed(
    model: str, batches: Sequence[Sequence[str]], target: output.Target, *, local: bool
) -> None:
    total = sum(len(batch) for batch in batches)
    async with clients.client(local=local) as ai:
        with notices.progress_of(total, "embedding") as done:
            under_way: deque[asyncio.Task[Embeddings]] = deque()
            left = iter(batches)
            try:
                for batch in batches:
                    _begin(ai, model, left, under_way)
                    vectors = await under_way[0]
                    under_way.popleft()
                    _write(batch, vectors, target)
                    done(len(batch))
            finally:
                await _abandon(under_way)


def _begin(
    ai: "WorkersAI",
    model: str,
    left: Iterator[Sequence[str]],
    under_way: deque[asyncio.Task[Embeddings]],
) -> None:
    """Fill up what is under way."""
    while len(under_way) < _AT_ONCE and (batch := next(left, None)) is not None:
        under_way.append(asyncio.create_task(ai.embed(model, batch)))


async def _abandon(tasks: deque[asyncio.Task[Embeddings]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _write(texts: Sequence[str], vectors: Embeddings, target: output.Target) -> None:
    for text, vector in zip(texts, vectors, strict=True):
        # A 32-bit float is told by nine digits; Python would write seventeen.
        numbers = [float(f"{number:.9g}") for number in vector]
        target.line({"text": text, "vector": numbers})
