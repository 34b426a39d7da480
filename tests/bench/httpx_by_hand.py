"""httpx with the json module, and httpx-sse for streams."""

from __future__ import annotations

import json

import httpx
from httpx_sse import aconnect_sse

from .contender import EMBEDDER, MODEL, NATIVE, QUESTION, SENTENCES, Contender


class HttpxByHand(Contender):
    name = "httpx, httpx-sse"
    packages = ("httpx", "httpx_sse")
    note = "default limits and timeouts; `response.json()`, and `json.loads` per event"

    async def open(self) -> None:
        self._client = httpx.AsyncClient(headers={"Authorization": "Bearer t"})
        self._url = f"{self.origin}{NATIVE}{MODEL}"
        self._embedder = f"{self.origin}{NATIVE}{EMBEDDER}"

    async def aclose(self) -> None:
        await self._client.aclose()

    async def run(self) -> int:
        response = await self._client.post(self._url, json={"prompt": QUESTION})
        return len(response.json()["result"]["response"])

    async def stream(self) -> int:
        characters = 0
        body = {"prompt": QUESTION, "stream": True}
        async with aconnect_sse(self._client, "POST", self._url, json=body) as source:
            async for event in source.aiter_sse():
                if event.data != "[DONE]":
                    characters += len(json.loads(event.data)["response"])
        return characters

    async def stream_chat(self) -> int:
        characters = 0
        body = {"prompt": QUESTION, "stream": True}
        async with aconnect_sse(self._client, "POST", self._url, json=body) as source:
            async for event in source.aiter_sse():
                if event.data != "[DONE]":
                    delta = json.loads(event.data)["choices"][0]["delta"]
                    characters += len(delta["content"])
        return characters

    async def embed(self) -> int:
        response = await self._client.post(self._embedder, json={"text": SENTENCES})
        vectors = response.json()["result"]["data"]
        return len(vectors) * len(vectors[0])
