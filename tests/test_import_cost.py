"""What an import loads, counted in modules: a program pays only for what it uses."""

import json
import subprocess
import sys

import pytest

HEAVY = {
    "aiohttp",
    "attrs",
    "cattrs",
    "click",
    "httpx",
    "httpx_sse",
    "numpy",
    "onnxruntime",
    "opentelemetry",
    "orjson",
    "pyarrow",
    "rich",
    "ssl",
    "tqdm",
    "xllamacpp",
    "cfai.cli",
    "cfai.distributed",
    "cfai.local",
    "cfai.testing",
}

CLIENT = """
import asyncio
from cfai import WorkersAI

async def main():
    async with WorkersAI(account_id="account", api_token="token"):
        pass

asyncio.run(main())
"""

STREAM = """
import asyncio
from cfai import Prompt
from cfai.testing import FakeWorkersAI

async def main():
    async with FakeWorkersAI() as fake:
        fake.streams("Hel", "lo")
        async with fake.client().stream("@cf/a/b", Prompt("hi")) as tokens:
            assert [str(token) async for token in tokens] == ["Hel", "lo"]

asyncio.run(main())
"""


def loaded(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after *code*."""
    report = "import sys, json; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", f"{code}\n{report}"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout))


def test_importing_cfai_loads_nothing() -> None:
    """`import cfai` loads no library, and of its own modules only the one for lazy names."""
    modules = loaded("import cfai")
    assert not modules & HEAVY
    assert {name for name in modules if name.startswith("cfai.")} == {"cfai._lazy"}


@pytest.mark.parametrize("name", ["CfaiError", "Timeouts", "Prompt", "system", "Embeddings"])
def test_values_need_no_transport(name: str) -> None:
    """Errors, settings, tasks and answers load no HTTP library."""
    modules = loaded(f"from cfai import {name}")
    assert not modules & {"aiohttp", "httpx", "httpx_sse", "numpy", "cfai.workers_ai"}


def test_a_client_needs_only_its_own_transport() -> None:
    """A client loads aiohttp, but neither httpx nor an extra."""
    modules = loaded(CLIENT)
    assert "cfai.workers_ai" in modules
    unused = HEAVY - {"aiohttp", "attrs", "cattrs", "orjson", "ssl"}
    unused |= {"cfai.observers", "cfai._session.observation", "cfai.streaming"}
    assert not modules & {*unused, "cfai._session.pagination", "cfai.resources.queue"}


def test_only_a_stream_loads_httpx_sse() -> None:
    """The first stream loads its decoder, and no extra."""
    modules = loaded(STREAM)
    assert not modules & {"numpy", "opentelemetry", "cfai.local", "cfai.cli", "click", "rich"}


def test_the_local_server_loads_no_models() -> None:
    """Importing it loads no model library."""
    modules = loaded("import cfai.local")
    assert not modules & {"numpy", "onnxruntime", "xllamacpp", "vader", "click", "rich"}


def test_the_command_line_loads_no_transport() -> None:
    """`cfai --help` must be quick."""
    modules = loaded("import cfai.cli")
    assert not modules & {"aiohttp", "httpx", "numpy", "cfai.workers_ai"}


def test_telemetry_without_its_extra() -> None:
    """Without OpenTelemetry, `spans` names the extra. Other observers work."""
    code = """
import sys
sys.modules["opentelemetry"] = None
from cfai import MissingExtra, WorkersAI, telemetry
from cfai.observers import Observation

WorkersAI(account_id="account", api_token="token", observers=[lambda call: Observation()])
try:
    telemetry.spans()
except MissingExtra as error:
    assert "cfai-sdk[otel]" in str(error)
else:
    raise SystemExit("spans without OpenTelemetry")
"""
    loaded(code)
