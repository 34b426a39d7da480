"""What an import costs, counted in modules: a program pays only for what it uses."""

import json
import subprocess
import sys

import pytest

HEAVY = {
    "aiohttp",
    "attrs",
    "cattrs",
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
    "typer",
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


def test_the_face_costs_nothing() -> None:
    """`import cfai` loads no library, and of its own only what hands names on."""
    modules = loaded("import cfai")
    assert not modules & HEAVY
    assert {name for name in modules if name.startswith("cfai.")} == {"cfai._lazy"}


@pytest.mark.parametrize("name", ["CfaiError", "Timeouts", "Prompt", "system", "Embeddings"])
def test_values_need_no_transport(name: str) -> None:
    """Errors, settings, tasks and answers are there without any HTTP library."""
    modules = loaded(f"from cfai import {name}")
    assert not modules & {"aiohttp", "httpx", "httpx_sse", "numpy", "cfai.workers_ai"}


def test_a_client_needs_only_its_own_transport() -> None:
    """A client loads aiohttp, and neither httpx nor anything of the extras."""
    modules = loaded(CLIENT)
    assert "cfai.workers_ai" in modules
    unused = HEAVY - {"aiohttp", "attrs", "cattrs", "orjson", "ssl"}
    assert not modules & {*unused, "cfai.observers", "cfai._session.observation", "cfai.streaming"}


def test_only_a_stream_loads_httpx_sse() -> None:
    """A stream loads what decodes it when it is opened, and still nothing of the extras."""
    modules = loaded(STREAM)
    assert not modules & {"numpy", "opentelemetry", "cfai.local", "cfai.cli", "typer", "rich"}


def test_the_local_server_is_asked_for_by_name() -> None:
    """The command line's own module loads no model library before it has something to do."""
    modules = loaded("import cfai.local")
    assert not modules & {"numpy", "onnxruntime", "xllamacpp", "vader", "typer", "rich"}


def test_telemetry_that_is_not_installed_says_how_to() -> None:
    """Without OpenTelemetry's API, asking for spans names the extra; observers need none."""
    code = """
import sys
sys.modules["opentelemetry"] = None
from cfai import MissingExtra, WorkersAI, telemetry
from cfai.observers import Observation

WorkersAI(account_id="account", api_token="token", observers=[lambda call: Observation()])
try:
    telemetry.spans()
except MissingExtra as error:
    assert "cfai[otel]" in str(error)
else:
    raise SystemExit("spans without OpenTelemetry")
"""
    loaded(code)
