"""Our streams and tool runs, read by the AI SDK's own code under Node."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from cfai import TokenStream, ToolRun, WorkersAI, user
from cfai.settings import Retries
from cfai.testing import FakeWorkersAI
from cfai.web.aiohttp import refusals, relay
from tests.browser.conftest import install_npm_packages, on_one_loop
from tests.web.conftest import serve_app

pytest.importorskip("playwright", reason="run nox -s browser")
pytestmark = pytest.mark.asyncio(loop_scope="session")

MODEL = "@cf/qwen/qwen3-30b-a3b-fp8"
HEL = b'data: {"response":"Hel"}\n\n'


async def get_weather(city: str) -> dict[str, Any]:
    """Get the weather of a city."""
    if city == "Atlantis":
        raise LookupError("no such city")
    return {"city": city, "dry": True}


def call(index: int, call_id: str, arguments: str) -> dict[str, Any]:
    function = {"name": "get_weather", "arguments": arguments}
    return {"index": index, "id": call_id, "function": function}


def script(fake: FakeWorkersAI, kind: str) -> None:
    """Make the model answer as in reference.mjs."""
    if kind == "text":
        fake.streams({"reasoning": "Hm"}, "Hel", "lo", {"finish_reason": "stop"})
    elif kind == "tools":
        calls = [
            call(0, "a", '{"city":"Lima"}'),
            call(1, "b", '{"city":"Atlantis"}'),
            call(2, "c", '{"town":"Lima"}'),
        ]
        fake.streams("Let me see. ", {"tool_calls": calls}, {"finish_reason": "tool_calls"})
        fake.streams("Dry", "!", {"finish_reason": "stop"})
    elif kind == "error":
        fake.says(HEL, then_hangs_up=True)
    elif kind == "abort":
        fake.says(HEL, asyncio.Event())
    else:
        fake.fails(400, 5004, "the text is too long")


def start(ai: WorkersAI, kind: str) -> TokenStream | ToolRun:
    if kind == "tools":
        return ai.run_tools(MODEL, "Hi", tools=[get_weather], stream=True)
    return ai.stream(MODEL, [user("Hi")])


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts, with the AI SDK installed beside them."""
    folder = tmp_path_factory.mktemp("node") / "scripts"
    install_npm_packages(Path(__file__).parent / "node", folder)
    return folder


@pytest.fixture(scope="session")
def reference(node: Path) -> dict[str, Any]:
    """The messages from the AI SDK's own server code."""
    messages: dict[str, Any] = run_node_now(node, "reference.mjs")
    return messages


def run_node_now(folder: Path, *arguments: str) -> Any:
    process = subprocess.run(["node", *arguments], cwd=folder, check=True, capture_output=True)  # noqa: S607
    return json.loads(process.stdout)


@on_one_loop
async def served(fake: FakeWorkersAI) -> AsyncIterator[str]:
    """The address of an app that answers in the AI SDK's protocol."""
    ai = fake.client(retries=Retries(max=0))

    async def chat(request: web.Request) -> web.StreamResponse:
        kind = request.match_info["kind"]
        assert (await request.json())["messages"][0]["role"] == "user"
        script(fake, kind)
        answer = start(ai, kind)
        async with asyncio.TaskGroup() as group:
            if kind == "abort" and isinstance(answer, TokenStream):
                group.create_task(cancel_when_begun(answer))
            return await relay(request, answer, protocol="ai-sdk")

    async def cancel_when_begun(answer: TokenStream) -> None:
        while not answer.answer.text:  # noqa: ASYNC110  # it has no event for that
            await asyncio.sleep(0)
        answer.cancel()

    app = web.Application(middlewares=[refusals])
    app.add_routes([web.post("/{kind}", chat)])
    async with serve_app(app) as port:
        yield f"http://127.0.0.1:{port}"
    await ai.aclose()


async def read(node: Path, url: str) -> Any:
    """What the AI SDK's own reader makes of an answer."""
    return await asyncio.to_thread(run_node_now, node, "read.mjs", url)


def comparable(message: dict[str, Any]) -> Any:
    """A message without the texts of errors, which the AI SDK hides, and without metadata."""
    for part in message["parts"]:
        if "errorText" in part:
            part["errorText"] = "an error"
    return {key: value for key, value in message.items() if key != "metadata"}


@pytest.mark.parametrize("kind", ["text", "tools", "error", "abort"])
async def test_the_ai_sdk_reads_the_same_message(
    node: Path, reference: dict[str, Any], served: str, kind: str
) -> None:
    """As from its own server code: text, reasoning, steps, calls, results, failures."""
    result = await read(node, f"{served}/{kind}")
    assert comparable(result["message"]) == comparable(reference[kind])
    if kind == "error":
        assert result["error"].startswith("the stream was cut")
        assert result["message"]["metadata"] == {"error": "StreamInterrupted"}
    else:
        assert "error" not in result


async def test_a_refusal_is_the_text_of_the_error(node: Path, served: str) -> None:
    """As JSON, as the docs say."""
    result = await read(node, f"{served}/refused")
    assert "message" not in result
    assert json.loads(result["error"]) == {"error": "BadRequest", "message": "the text is too long"}
