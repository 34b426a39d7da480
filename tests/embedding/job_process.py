"""A job with a checkpoint in a process of its own: address, checkpoint, output, number of texts.

It prints the number of finished texts after every batch, and writes all vectors at the end.
"""

from __future__ import annotations

import asyncio
import sys
from array import array
from pathlib import Path

from cfai import Retries, WorkersAI

MODEL = "@cf/baai/bge-m3"


async def main(base_url: str, checkpoint: str, count: int) -> array[float]:
    texts = [f"text {number}" for number in range(count)]
    retries = Retries(max=4, base=0.01)
    vectors: array[float] = array("f")
    async with WorkersAI(account_id="a", api_token="t", base_url=base_url, retries=retries) as ai:
        job = ai.embed_many(
            MODEL,
            texts,
            batch_size=5,
            rate=None,
            concurrency=4,
            checkpoint=checkpoint,
            progress=lambda progress: print(progress.done, flush=True),
        )
        async for batch in job:
            vectors += batch.vectors.buffer
    return vectors


if __name__ == "__main__":
    result = asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[4])))
    Path(sys.argv[3]).write_bytes(result.tobytes())
