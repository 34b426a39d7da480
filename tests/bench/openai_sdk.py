"""The `openai` package, on the service's OpenAI-compatible endpoints."""

from __future__ import annotations

from typing import Any

from .contender import EMBEDDER, MESSAGES, MODEL, SENTENCES, Contender


class OpenAI(Contender):
    name = "openai"
    packages = ("openai",)
    note = "`chat.completions` and `embeddings`, whose JSON is longer than what the others read"

    async def open(self) -> None:
        from openai import AsyncOpenAI

        self._client = AsyncOpenAI(
            api_key="t", base_url=f"{self.origin}/client/v4/accounts/a/ai/v1"
        )

    async def aclose(self) -> None:
        await self._client.close()

    async def run(self) -> int:
        messages: Any = MESSAGES
        answer = await self._client.chat.completions.create(model=MODEL, messages=messages)
        return len(answer.choices[0].message.content or "")

    async def stream(self) -> int:
        messages: Any = MESSAGES
        characters = 0
        async with await self._client.chat.completions.create(
            model=MODEL, messages=messages, stream=True
        ) as chunks:
            async for chunk in chunks:
                characters += len(chunk.choices[0].delta.content or "")
        return characters

    stream_chat = stream

    async def embed(self) -> int:
        answer = await self._client.embeddings.create(model=EMBEDDER, input=SENTENCES)
        return len(answer.data) * len(answer.data[0].embedding)
