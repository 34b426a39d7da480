"""The floor: the cost of the same work with only aiohttp and orjson, written for speed."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import aiohttp
import orjson
from yarl import URL

from .contender import (
    CHAT,
    EMBEDDER,
    MANY_TEXTS,
    MILLION,
    MODEL,
    NATIVE,
    QUESTION,
    SENTENCES,
    WINDOW,
    Contender,
    batches,
    many_texts,
)
from .server import DIMENSION, TEXTS

_HEADERS = {"Authorization": "Bearer t", "Content-Type": "application/json"}
_DONE = b"data: [DONE]"
_TO_JSON = len(b"data: ")


class _Session(Contender):
    packages: ClassVar[tuple[str, ...]] = ("aiohttp", "orjson")

    async def open(self) -> None:
        self._session = aiohttp.ClientSession(
            headers=_HEADERS,
            connector=aiohttp.TCPConnector(limit=500),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        )
        self._url = URL(f"{self.origin}{NATIVE}{MODEL}", encoded=True)
        self._embedder = URL(f"{self.origin}{NATIVE}{EMBEDDER}", encoded=True)

    async def aclose(self) -> None:
        await self._session.close()

    async def _embeddings(self) -> bytes:
        body = orjson.dumps({"text": SENTENCES})
        async with self._session.post(self._embedder, data=body) as response:
            return await response.read()


class Bare(_Session):
    name = "aiohttp + orjson"
    note = (
        "no cookie jar, no timeouts, the URL built once; a stream is split at blank lines "
        "and each event is decoded with `orjson.loads`"
    )

    async def run(self) -> int:
        body = orjson.dumps({"prompt": QUESTION})
        async with self._session.post(self._url, data=body) as response:
            answer = orjson.loads(await response.read())
        return len(answer["result"]["response"])

    run_in_crowd = run

    async def chat(self) -> int:
        body = orjson.dumps({"messages": CHAT})
        async with self._session.post(self._url, data=body) as response:
            answer = orjson.loads(await response.read())
        return len(answer["result"]["response"])

    async def stream(self) -> int:
        characters = 0
        rest = b""
        body = orjson.dumps({"prompt": QUESTION, "stream": True})
        async with self._session.post(self._url, data=body) as response:
            async for data in response.content.iter_any():
                *events, rest = (rest + data).split(b"\n\n")
                for event in events:
                    if event != _DONE:
                        characters += len(orjson.loads(event[_TO_JSON:])["response"])
        return characters

    async def stream_chat(self) -> int:
        characters = 0
        rest = b""
        body = orjson.dumps({"prompt": QUESTION, "stream": True})
        async with self._session.post(self._url, data=body) as response:
            async for data in response.content.iter_any():
                *events, rest = (rest + data).split(b"\n\n")
                for event in events:
                    if event != _DONE:
                        chunk = orjson.loads(event[_TO_JSON:])
                        characters += len(chunk["choices"][0]["delta"]["content"])
        return characters

    stream_in_crowd = stream

    async def stream_reasoning(self) -> int:
        return await self._stream_deltas(lambda delta: delta["reasoning_content"])

    async def stream_calls(self) -> int:
        return await self._stream_deltas(lambda d: d["tool_calls"][0]["function"]["arguments"])

    async def _stream_deltas(self, piece: Callable[[dict[str, Any]], str]) -> int:
        characters = 0
        rest = b""
        body = orjson.dumps({"prompt": QUESTION, "stream": True})
        async with self._session.post(self._url, data=body) as response:
            async for data in response.content.iter_any():
                *events, rest = (rest + data).split(b"\n\n")
                for event in events:
                    if event != _DONE:
                        chunk = orjson.loads(event[_TO_JSON:])
                        characters += len(piece(chunk["choices"][0]["delta"]))
        return characters

    async def embed(self) -> int:
        vectors = orjson.loads(await self._embeddings())["result"]["data"]
        return len(vectors) * len(vectors[0])

    async def embed_many(self, count: int = MANY_TEXTS) -> int:
        shared = batches(many_texts(count))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._embed_batches(shared)) for _ in range(WINDOW)]
        return sum(task.result() for task in tasks)

    async def embed_million(self) -> int:
        return await self.embed_many(MILLION)

    async def _embed_batches(self, shared: Iterator[list[str]]) -> int:
        numbers = 0
        for texts in shared:
            body = orjson.dumps({"text": texts})
            async with self._session.post(self._embedder, data=body) as response:
                rows = orjson.loads(await response.read())["result"]["data"]
            vectors = array("f")
            for row in rows:
                vectors.fromlist(row)
            numbers += len(vectors)
        return numbers


class BareRead(_Session):
    name = "aiohttp, answer not decoded"
    note = "the cost of the socket, subtracted from every contender"

    async def embed(self) -> int:
        await self._embeddings()
        return TEXTS * DIMENSION


class BareToFloat32(_Session):
    name = "aiohttp + orjson + numpy"
    packages = ("aiohttp", "orjson", "numpy")
    note = "the lists copied into a float32 array"

    async def embed(self) -> int:
        import numpy as np

        vectors = orjson.loads(await self._embeddings())["result"]["data"]
        return np.array(vectors, dtype=np.float32).size
