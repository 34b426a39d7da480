"""The official `cloudflare` package."""

from __future__ import annotations

import json
from typing import Any

from .contender import QUESTION, SENTENCES, Contender


class Official(Contender):
    name = "cloudflare"
    packages = ("cloudflare",)
    note = (
        "`client.ai.run` with a model name without slashes, because it sends slashes as `%2F`; "
        "it does not stream, so the lines of `with_streaming_response` are parsed by hand"
    )

    async def open(self) -> None:
        from cloudflare import AsyncCloudflare

        self._client = AsyncCloudflare(api_token="t", base_url=f"{self.origin}/client/v4")

    async def aclose(self) -> None:
        await self._client.close()

    async def run(self) -> int:
        answer: Any = await self._client.ai.run("llama", account_id="a", prompt=QUESTION)
        return len(answer["response"])

    async def stream(self) -> int:
        characters = 0
        run = self._client.ai.with_streaming_response.run
        async with run("llama", account_id="a", prompt=QUESTION, stream=True) as response:
            async for line in response.iter_lines():
                if line and line != "data: [DONE]":
                    characters += len(json.loads(line[6:])["response"])
        return characters

    async def stream_chat(self) -> int:
        characters = 0
        run = self._client.ai.with_streaming_response.run
        async with run("llama", account_id="a", prompt=QUESTION, stream=True) as response:
            async for line in response.iter_lines():
                if line and line != "data: [DONE]":
                    delta = json.loads(line[6:])["choices"][0]["delta"]
                    characters += len(delta["content"])
        return characters

    async def embed(self) -> int:
        answer: Any = await self._client.ai.run("bge", account_id="a", text=SENTENCES)
        vectors = answer["data"]
        return len(vectors) * len(vectors[0])
