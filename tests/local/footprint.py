"""The memory and the start of the local server: `python -m tests.local.footprint`.

Prints how long a server takes to start without models, and the resident memory of the process after
each task was answered.
"""

import asyncio
import resource
import sys
import time
from pathlib import Path

import orjson
from aiohttp import ClientSession

from cfai.local import Server
from tests.local.text_quality import BERT, BGE, LLAMA, RERANKER, SUMMARIZER

TEXT = "The new bridge connects two towns. It rained. The bridge was expensive."
LONG = " ".join(["Once upon a time there was a small village by a river."] * 60)

RUNS = (
    (BERT, {"text": TEXT}),
    (SUMMARIZER, {"input_text": TEXT}),
    (BGE, {"text": [TEXT] * 90 + [LONG] * 10}),
    (RERANKER, {"query": "a bridge", "contexts": [{"text": TEXT}] * 100}),
    (LLAMA, {"prompt": TEXT, "max_tokens": 20}),
)


def resident() -> int:
    """The most memory that the process had, in MB."""
    status = Path("/proc/self/status")
    if status.exists():
        # What getrusage reports on Linux includes the process that started this one.
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 // 10**6
    factor = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * factor // 10**6


async def main() -> None:
    started = time.perf_counter()
    async with Server() as server:
        seconds = time.perf_counter() - started
        results: list[tuple[str, float]] = [
            ("start, seconds", round(seconds, 2)),
            ("MB", resident()),
        ]
        headers = {"Authorization": "Bearer any"}
        api = f"{server.base_url}/accounts/0/ai"
        async with ClientSession(headers=headers) as http:

            async def post(path: str, body: object) -> None:
                async with http.post(f"{api}/{path}", json=body) as response:
                    assert response.status == 200, await response.text()
                    await response.read()

            for model, body in RUNS:
                await post(f"run/{model}", body)
                results.append((f"MB after {model}", resident()))
            # Four conversations at once, as many as run in parallel.
            await asyncio.gather(*(post(f"run/{LLAMA}", RUNS[-1][1]) for _ in range(4)))
            results.append(("MB after four texts at once", resident()))
    print(orjson.dumps(dict(results), option=orjson.OPT_INDENT_2).decode())


if __name__ == "__main__":
    asyncio.run(main())
