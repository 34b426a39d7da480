"""cfai, used as in the docs."""

from __future__ import annotations

from cfai import Prompt, WorkersAI

from .contender import (
    CHAT,
    EMBEDDER,
    MANY_TEXTS,
    MILLION,
    MODEL,
    QUESTION,
    SENTENCES,
    WINDOW,
    Contender,
    many_texts,
)


class Ours(Contender):
    name = "cfai"
    packages = ("cfai",)
    note = (
        "all defaults but `limit=500`: timeouts, retries, the complete typed answer; vectors as "
        "float32"
    )

    async def open(self) -> None:
        base_url = f"{self.origin}/client/v4"
        self._ai = WorkersAI(account_id="a", api_token="t", base_url=base_url, limit=500)

    async def aclose(self) -> None:
        await self._ai.aclose()

    async def run(self) -> int:
        return len((await self._ai.run(MODEL, Prompt(QUESTION))).text)

    run_in_crowd = run

    async def chat(self) -> int:
        return len((await self._ai.run(MODEL, CHAT)).text)

    async def stream(self) -> int:
        characters = 0
        async with self._ai.stream(MODEL, Prompt(QUESTION)) as tokens:
            async for token in tokens:
                characters += len(token.text)
        return characters

    stream_chat = stream

    stream_in_crowd = stream

    async def stream_reasoning(self) -> int:
        characters = 0
        async with self._ai.stream(MODEL, Prompt(QUESTION)) as tokens:
            async for token in tokens:
                characters += len(token.reasoning)
        return characters

    async def stream_calls(self) -> int:
        characters = 0
        async with self._ai.stream(MODEL, Prompt(QUESTION)) as tokens:
            async for token in tokens:
                characters += sum(len(delta.arguments) for delta in token.tool_calls)
        return characters

    async def embed(self) -> int:
        texts, dimension = (await self._ai.embed(EMBEDDER, SENTENCES)).shape
        return texts * dimension

    async def embed_many(self, count: int = MANY_TEXTS) -> int:
        numbers = 0
        texts = many_texts(count)
        async with self._ai.embed_many(EMBEDDER, texts, rate=None, concurrency=WINDOW) as job:
            async for batch in job:
                numbers += len(batch.vectors.buffer)
        return numbers

    async def embed_million(self) -> int:
        return await self.embed_many(MILLION)
