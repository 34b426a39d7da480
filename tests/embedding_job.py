"""A job with a checkpoint as a process of its own, to be killed: address, folder, output, texts.

It prints how many texts are settled, whenever that are more.
"""

import asyncio
import sys

from cfai import Retries, WorkersAI

MODEL = "@cf/baai/bge-m3"


async def main(base_url: str, checkpoint: str, output: str, count: int) -> None:
    texts = [f"text {number}" for number in range(count)]
    retries = Retries(max=4, base=0.01)
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
        await job.to_parquet(output)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
