"""Many runs at once."""

import asyncio
import threading
from typing import Any

import orjson
import pytest

from cfai import WorkersAI
from cfai.local import Server
from cfai.local.finetunes import FinetuneRegistry
from cfai.local.handlers import ModelRunner, find_runnable_model
from cfai.local.store import Store
from cfai.local.workers import WorkerPool


async def test_hundreds_of_concurrent_embeddings_are_answered() -> None:
    """The server refuses none of a client's requests with the default limit."""
    async with Server() as server, WorkersAI(**server.credentials) as ai:
        calls = (ai.embed("@cf/baai/bge-small-en-v1.5", [f"text {n}"]) for n in range(300))
        answers = await asyncio.gather(*calls)
    assert {answer.shape for answer in answers} == {(1, 384)}
    assert {answer.meta.attempts for answer in answers} == {1}


@pytest.mark.usefixtures("speech_weights")
@pytest.mark.parametrize(
    ("model", "body", "key"),
    [
        ("@cf/baai/bge-small-en-v1.5", {"text": "tea"}, "shape"),
        ("@cf/meta/llama-3.1-8b-instruct-fast", {"prompt": "tea", "max_tokens": 1}, "response"),
        ("@cf/myshell-ai/melotts", {"prompt": "tea"}, "audio"),
    ],
)
async def test_a_queued_run_waits_for_a_free_thread(
    model: str, body: dict[str, Any], key: str
) -> None:
    """It takes no place in the queue of the threads, so it is never refused."""
    pool = WorkerPool("test", size=1, waiting=0)
    runs = ModelRunner(pool, pool, pool, pool, FinetuneRegistry(Store(None)))
    gate = threading.Event()
    busy = pool.start(gate.wait)
    queued = asyncio.create_task(runs.run_queued("0", find_runnable_model(model), body))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not queued.done()
    gate.set()
    await busy
    assert key in orjson.loads(orjson.dumps(await queued))
    await pool.close()
