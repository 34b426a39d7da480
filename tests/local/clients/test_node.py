"""JavaScript clients of other makers, if Node and their packages are there."""

import asyncio
import os
import shutil
from pathlib import Path

import orjson
import pytest

from tests.local.clients.conftest import BGE, LLAMA, Address

SCRIPT = Path(__file__).with_name("calls.mjs")
NODE = shutil.which("node")

PROJECT = os.environ.get("CFAI_NODE_PROJECT")
"""The folder whose `node_modules` has the packages; `nox -s clients` sets it."""

pytestmark = pytest.mark.skipif(
    NODE is None or PROJECT is None, reason="needs Node and the packages: nox -s clients"
)


async def call(client: str, address: Address) -> dict[str, object]:
    """Run the calls of one client and give what they returned, by name."""
    assert NODE is not None
    assert PROJECT is not None
    # Node looks for packages beside the script.
    script = shutil.copy(SCRIPT, PROJECT)
    process = await asyncio.create_subprocess_exec(
        NODE,
        script,
        client,
        env={
            **os.environ,
            "API": address.api,
            "ACCOUNT": address.account,
            "TOKEN": address.token,
            "LLAMA": LLAMA,
            "BGE": BGE,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return dict(orjson.loads(line) for line in output.splitlines())


async def test_openai_chats_streams_and_embeds(address: Address) -> None:
    results = await call("openai", address)
    assert results["openai chat"]
    assert results["openai stream"] == results["openai chat"]
    assert results["openai call"] == ["get_weather", {"city": "Paris"}]
    assert results["openai result"]
    assert results["openai embeddings"] == [384, 384]


async def test_cloudflare_chats_and_embeds(address: Address) -> None:
    results = await call("cloudflare", address)
    assert results["cloudflare chat"]
    assert results["cloudflare embeddings"] == [2, 384]


async def test_workers_ai_provider_chats_streams_and_embeds(address: Address) -> None:
    results = await call("workersAiProvider", address)
    assert results["provider text"]
    assert results["provider stream"]
    assert results["provider call"] == ["get_weather", {"city": "Paris"}]
    assert results["provider result"]
    assert results["provider embeddings"] == [384, 384]
