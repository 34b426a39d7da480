"""The `huggingface_hub` package, on the service's OpenAI-compatible endpoint."""

from __future__ import annotations

from typing import Any

from .contender import MESSAGES, MODEL, Contender


class HuggingFace(Contender):
    name = "huggingface_hub"
    packages = ("huggingface_hub",)
    note = "`AsyncInferenceClient.chat_completion`"

    async def open(self) -> None:
        from huggingface_hub import AsyncInferenceClient

        self._client = AsyncInferenceClient(
            base_url=f"{self.origin}/client/v4/accounts/a/ai/v1", api_key="t"
        )

    async def aclose(self) -> None:
        await self._client.close()

    async def run(self) -> int:
        messages: Any = MESSAGES
        answer = await self._client.chat_completion(messages, model=MODEL)
        return len(answer.choices[0].message.content or "")

    async def stream(self) -> int:
        messages: Any = MESSAGES
        characters = 0
        chunks = await self._client.chat_completion(messages, model=MODEL, stream=True)
        async for chunk in chunks:
            characters += len(chunk.choices[0].delta.content or "")
        return characters

    stream_chat = stream
