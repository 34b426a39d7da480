"""Workers with `env.AI`, run by Miniflare, vitest and `wrangler dev` without a login."""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession

from cfai.local.binding import write_worker
from tests.local.clients.conftest import Address

NODE = shutil.which("node")
PROJECT = os.environ.get("CFAI_NODE_PROJECT") and Path(os.environ["CFAI_NODE_PROJECT"]).resolve()
SOURCE = Path(__file__).with_name("worker")
PATIENCE = 120

pytestmark = pytest.mark.skipif(
    not (NODE and PROJECT), reason="needs Node and the packages: nox -s clients"
)


@pytest.fixture
def folder() -> Path:
    """A folder with the Worker; Node looks for packages above it."""
    assert PROJECT
    folder = PROJECT / "worker"
    shutil.rmtree(folder, ignore_errors=True)
    return shutil.copytree(SOURCE, folder)


def program(name: str) -> str:
    assert PROJECT
    return str(PROJECT / "node_modules" / ".bin" / name)


def environment(address: Address) -> Mapping[str, str]:
    """Nobody is logged in, and nothing is reported."""
    return {
        **os.environ,
        "BINDING": f"{address.api.removesuffix('/client/v4')}/binding",
        "CI": "1",
        "HOME": "/nonexistent",
        "WRANGLER_SEND_METRICS": "false",
    }


async def start(folder: Path, address: Address, *command: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=environment(address),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def output_of(folder: Path, address: Address, *command: str) -> str:
    process = await start(folder, address, *command)
    async with asyncio.timeout(PATIENCE):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


def check(results: Mapping[str, Any]) -> None:
    """Check the results that Miniflare and wrangler share."""
    assert results["text"]
    assert results["gateway"] == results["text"]
    events = [orjson.loads(data) for data in re.findall(r"data: (\{.*\})", results["stream"])]
    assert "".join(event["response"] for event in events) == results["text"]
    assert results["stream"].endswith("data: [DONE]\n\n")
    assert results["chat"] == 1
    assert results["tool"] == [{"name": "get_weather", "arguments": {"city": "Paris"}}]
    assert results["embeddings"] == [2, 384]
    assert results["raw"] == "smollm2-135m-q4_1"
    assert "5007: AiError" in results["unknown"]
    assert "temperature must be between 0 and 5, got 9" in results["invalid"]
    assert results["models"] == ["@cf/baai/bge-m3"]
    assert results["formats"] is True
    assert results["steps"] == 200


async def test_miniflare_runs_a_worker(address: Address, folder: Path) -> None:
    output = await output_of(folder, address, str(NODE), "miniflare.mjs")
    results = dict(orjson.loads(line) for line in output.splitlines() if line.startswith("["))
    check(results)
    assert (results["files"], results["file"]) == (["# Hi\n"], "# Hi\n")


async def test_vitest_runs_a_worker(address: Address, folder: Path) -> None:
    vitest = program("vitest")
    assert "1 passed" in await output_of(folder, address, vitest, "run")


@asynccontextmanager
async def wrangler(folder: Path, address: Address) -> AsyncIterator[str]:
    """Run `wrangler dev` with the Worker and the one that stands in for `env.AI`."""
    write_worker(folder / "cfai-ai", address.api.removesuffix("/client/v4"))
    config = {
        "name": "app",
        "main": "index.js",
        "compatibility_date": "2026-04-01",
        "ai": {"binding": "AI"},
        "env": {"local": {"services": [{"binding": "AI", "service": "cfai-ai"}]}},
    }
    (folder / "wrangler.jsonc").write_bytes(orjson.dumps(config))
    command = [program("wrangler"), "dev"]
    configs = ["-c", "wrangler.jsonc", "-c", "cfai-ai/wrangler.jsonc", "--env", "local"]
    ports = ["--port", "0", "--inspector-port", "0"]
    process = await start(folder, address, *command, *configs, *ports)
    assert process.stdout is not None
    lines = []
    try:
        async with asyncio.timeout(PATIENCE):
            async for line in process.stdout:
                lines.append(line.decode())
                if ready := re.search(r"Ready on (http://\S+)", lines[-1]):
                    yield ready[1]
                    return
        pytest.fail("".join(lines))
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def test_wrangler_runs_a_worker(address: Address, folder: Path) -> None:
    async with wrangler(folder, address) as url, ClientSession(url) as http:
        results = {}
        for name in await (await http.get("/")).json():
            # Blobs cannot be sent to another Worker.
            if name not in ("files", "file"):
                async with http.get(f"/{name}") as response:
                    assert response.status == 200, await response.text()
                    results[name] = await response.json()
        check(results)
