"""A crowd: what a client sends at once by default, the local server answers."""

import asyncio

from cfai import WorkersAI
from cfai.local import Server


async def test_hundreds_of_embeddings_at_once_are_all_answered() -> None:
    """A client with its default limit is refused nothing."""
    async with Server() as server, WorkersAI(**server.credentials) as ai:
        calls = (ai.embed("@cf/baai/bge-small-en-v1.5", [f"text {n}"]) for n in range(300))
        answers = await asyncio.gather(*calls)
    assert {answer.shape for answer in answers} == {(1, 384)}
    assert {answer.meta.attempts for answer in answers} == {1}
