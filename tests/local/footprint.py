"""The memory and the start of the local server: `python -m tests.local.footprint`.

Prints how long a server takes to start without models, in seconds and in processor time, and the
most memory that its process had after each task was answered. Needs the weights of all tasks
(`cfai pull text speech vision`).
"""

import asyncio
import resource
import sys
import time
from base64 import b64encode
from io import BytesIO
from pathlib import Path

import orjson
from aiohttp import ClientSession

from cfai.local import Server
from tests.local.pictures import photo_path
from tests.local.text_quality import BERT, BGE, LLAMA, RERANKER, SUMMARIZER

HEADERS = {"Authorization": "Bearer any", "Content-Type": "application/octet-stream"}

TEXT = "The new bridge connects two towns. It rained. The bridge was expensive."
LONG = " ".join(["Once upon a time there was a small village by a river."] * 60)

RUNS = (
    (BERT, {"text": TEXT}),
    (SUMMARIZER, {"input_text": TEXT}),
    (BGE, {"text": [TEXT] * 90 + [LONG] * 10}),
    (RERANKER, {"query": "a bridge", "contexts": [{"text": TEXT}] * 100}),
    (LLAMA, {"prompt": TEXT, "max_tokens": 20}),
)

VOICE = "@cf/deepgram/aura-1"
LISTENERS = ("@cf/openai/whisper", "@cf/deepgram/nova-3", "@cf/pipecat-ai/smart-turn-v2")
VIEWERS = (
    "@cf/microsoft/resnet-50",
    "@cf/facebook/detr-resnet-50",
    "@cf/llava-hf/llava-1.5-7b-hf",
)
OMNI = "@cf/baai/omni-bge-base-en-v1.5"
PAINTER = "@cf/black-forest-labs/flux-1-schnell"


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
    started, processor = time.perf_counter(), time.process_time()
    async with Server(test_card=True) as server, ClientSession(headers=HEADERS) as http:
        async with http.get(server.base_url.replace("client/v4", "health")) as response:
            assert response.status == 200
        figures = {
            "start, seconds": round(time.perf_counter() - started, 2),
            "start, processor seconds": round(time.process_time() - processor, 2),
            "start with Python, processor seconds": round(time.process_time(), 2),
            "MB": resident(),
        }

        async def post(model: str, body: object) -> bytes:
            data = body if isinstance(body, bytes) else orjson.dumps(body)
            url = f"{server.base_url}/accounts/0/ai/run/{model}"
            async with http.post(url, data=BytesIO(data)) as response:
                content = await response.read()
                assert response.status == 200, content
            figures.setdefault(f"MB after {model}", resident())
            return content

        for model, body in RUNS:
            await post(model, body)
        # Four conversations at once, as many as run in parallel.
        await asyncio.gather(*(post(*RUNS[-1]) for _ in range(4)))
        figures["MB after all models for text"] = resident()
        sound = await post(VOICE, {"text": LONG[:700]})
        for model in LISTENERS[:2]:
            await post(model, sound)
        await post(LISTENERS[2], {"audio": b64encode(sound).decode()})
        picture = photo_path("coffee").read_bytes()
        for model in VIEWERS:
            await post(model, picture)
        await post(OMNI, {"image": b64encode(picture).decode()})
        await post(PAINTER, {"prompt": TEXT})
        # The two media threads at once.
        await asyncio.gather(post(LISTENERS[0], sound), post(VIEWERS[2], picture))
        figures["MB after all models"] = resident()
    print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())


if __name__ == "__main__":
    asyncio.run(main())
