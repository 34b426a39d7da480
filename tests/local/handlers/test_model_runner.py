"""Many runs at once."""

import asyncio

from cfai import WorkersAI
from cfai.local import Server


async def test_hundreds_of_concurrent_embeddings_are_answered() -> None:
    """The server refuses none of a client's requests with the default limit."""
    async with Server() as server, WorkersAI(**server.credentials) as ai:
        calls = (ai.embed("@cf/baai/bge-small-en-v1.5", [f"text {n}"]) for n in range(300))
        answers = await asyncio.gather(*calls)
    assert {answer.shape for answer in answers} == {(1, 384)}
    assert {answer.meta.attempts for answer in answers} == {1}
