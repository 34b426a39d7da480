"""The `litellm` package, on the service's OpenAI-compatible endpoint."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

from .contender import EMBEDDER, MANY_TEXTS, SENTENCES, WINDOW, Contender, batches, many_texts


class LiteLLM(Contender):
    name = "litellm"
    packages = ("litellm",)
    note = "`aembedding` for an OpenAI-compatible endpoint; eight calls at a time by hand"

    async def open(self) -> None:
        os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # It would download one.
        import litellm

        litellm.telemetry = False
        self._embedding: Any = litellm.aembedding

    async def aclose(self) -> None:
        import litellm

        await litellm.close_litellm_async_clients()

    async def _vectors(self, texts: list[str]) -> int:
        answer = await self._embedding(
            f"openai/{EMBEDDER}",
            input=texts,
            api_key="t",
            api_base=f"{self.origin}/client/v4/accounts/a/ai/v1",
        )
        return sum(len(row["embedding"]) for row in answer.data)

    async def embed(self) -> int:
        return await self._vectors(SENTENCES)

    async def embed_many(self, count: int = MANY_TEXTS) -> int:
        shared = batches(many_texts(count))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._embed_batches(shared)) for _ in range(WINDOW)]
        return sum(task.result() for task in tasks)

    async def _embed_batches(self, shared: Iterator[list[str]]) -> int:
        return sum([await self._vectors(texts) for texts in shared])
