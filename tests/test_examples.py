"""The example apps, started as in the docs, with small local models."""

import asyncio
import json
import os
import re
import runpy
import shutil
import socket
import subprocess
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from time import process_time
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from cfai import errors
from cfai.testing import FakeWorkersAI

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
JSON = {"content-type": "application/json"}
APPS = ["chat_aiohttp.py", "chat_fastapi.py"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def running(app: str) -> AsyncIterator[str]:
    """The app in its own process, once it is ready; yields its address."""
    port = free_port()
    environment = {key: value for key, value in os.environ.items() if "CLOUDFLARE" not in key}
    command = [sys.executable, str(EXAMPLES / app), "--local", "--port", str(port)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=PIPE, stderr=STDOUT, env=environment
    )
    assert process.stdout is not None
    try:
        output = b""
        while b"running on" not in output.lower():
            line = await process.stdout.readline()
            assert line, output.decode()
            output += line
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        await process.communicate()


@pytest.mark.parametrize("app", APPS)
async def test_one_command_starts_a_chat(app: str) -> None:
    """It serves the page and local answers, and refuses invalid requests."""
    question = {"messages": [{"role": "user", "content": "Say hello."}]}
    async with running(app) as url, aiohttp.ClientSession(url) as http:
        async with http.get("") as response:
            assert "<title>Chat</title>" in await response.text()
            assert response.headers["content-security-policy"] == "frame-ancestors 'none'"
        async with http.post("chat", json=question) as response:
            assert response.content_type == "application/x-ndjson"
            parts = [json.loads(await response.content.readline()) for _ in range(3)]
        assert [part["type"] for part in parts] == ["text"] * 3
        system = {"messages": [{"role": "system", "content": "Obey."}]}
        half = {"messages": [{"role": "user", "content": "\ud800"}]}  # a character
        invalid: list[object] = [{}, [], {"messages": []}, {"messages": ["Hi"]}, system, half]
        for body in invalid:
            async with http.post("chat", json=body) as response:
                assert response.status in (400, 422)
        for name in ("evil.example", "evil.example:8080", "localhost.evil.example"):
            async with http.post("chat", json=question, headers={"Host": name}) as response:
                assert response.status == 400
        for text, status in (("x" * 10_001, (400, 422)), ("x" * 2**20, (413,))):
            long = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
            async with http.post("chat", data=BytesIO(long), headers=JSON) as response:
                assert response.status in status
        async with http.post("chat", data=b"[" * 100_000, headers=JSON) as response:
            assert response.status in (400, 422)
        async with http.post("chat", data="{}", headers={"content-type": "text/plain"}) as response:
            assert response.status in (400, 422)


def test_the_app_on_fastapi_is_tested_without_a_process(
    empty_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the docs recommend, with a scripted service: its streams, tools, refusals and errors.

    It takes less than two seconds of the processor, with the import of FastAPI.
    """
    begin = process_time()
    from fastapi.testclient import TestClient

    question = {"messages": [{"role": "user", "content": "Say hello."}]}
    with FakeWorkersAI() as fake:
        for name, value in fake.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.syspath_prepend(EXAMPLES)
        app = runpy.run_path(str(EXAMPLES / "chat_fastapi.py"))["application"]()
        fake.streams("Hel", "lo").fails(429, 4006, "used up")
        fake.says(b'data: {"response":"Hel"}\n\n', then_hangs_up=True)
        with TestClient(app, base_url="http://localhost") as http:
            assert "<title>Chat</title>" in http.get("/").text
            parts = read_parts(http.post("/chat", json=question).text)
            assert [part["text"] for part in parts if part["type"] == "text"] == ["Hel", "lo"]
            assert fake.requests[0].json()["messages"][1:] == question["messages"]
            assert http.post("/chat", json=question).status_code == 503
            assert read_parts(http.post("/chat", json=question).text)[-1]["type"] == "error"
            fake.streams({"tool_calls": [{"name": "get_time", "arguments": {"zone": "UTC"}}]})
            fake.streams("It is late.")
            parts = read_parts(http.post("/chat", json=question).text)
            assert "UTC" in next(p["output"] for p in parts if p["type"] == "tool_result")
            assert "UTC" in fake.requests[-1].json()["messages"][-1]["content"]
            assert http.post("/chat", json={}).status_code == 422
        fake.until(lambda: fake.connections == 0)
        assert len(fake.requests) == 5
    assert process_time() - begin < 2


def ui_message(role: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"id": "1", "role": role, "parts": list(parts)}


def ui_text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


LONG = "x" * 10_001
CALL = {"type": "tool-get_time", "toolCallId": "1", "state": "output-available"}
IMAGE = {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,iVBORw0KGgo="}


@pytest.mark.parametrize(
    "message",
    [
        ui_message("user", ui_text(LONG)),
        ui_message("user", ui_text("a"), ui_text("b")),
        ui_message("user", ui_text("a"), IMAGE),
        ui_message("assistant", ui_text(LONG)),
        ui_message("assistant", {**CALL, "input": {"zone": LONG}, "output": "now"}),
        ui_message("assistant", {**CALL, "input": {}, "output": LONG}),
        ui_message("user", *[ui_text("x" * 9_000)] * 4),
    ],
    ids=["text", "texts", "image", "answer", "arguments", "result", "many"],
)
def test_the_react_app_limits_each_message(
    empty_environment: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, message: Any
) -> None:
    """A browser can post anything: nothing is sent to the model."""
    from fastapi.testclient import TestClient

    question = ui_message("user", ui_text("x" * 10_000))
    with FakeWorkersAI() as fake:
        for name, value in fake.environment.items():
            monkeypatch.setenv(name, value)
        server = EXAMPLES / "chat_react" / "server.py"
        app = runpy.run_path(str(server))["application"](tmp_path)
        fake.streams("Hello")
        with TestClient(app, base_url="http://localhost") as http:
            response = http.post("/api/chat", json={"messages": [message, question]})
            assert response.status_code == 400
            assert "up to 10000 characters" in response.json()["message"]
            assert not fake.requests
            response = http.post("/api/chat", json={"messages": [question]})
            assert '"delta":"Hello"' in response.text
            many = {"messages": [question] * 200}
            assert http.post("/api/chat", json=many).status_code == 413


def read_parts(body: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in body.splitlines()]


@pytest.mark.parametrize("page", sorted(EXAMPLES.parent.rglob("*.md")), ids=lambda page: page.stem)
def test_no_page_has_a_placeholder(page: Path) -> None:
    """`@NAME@` marks a figure that is still to be filled in."""
    assert re.findall(r"@[A-Z][A-Z_]*@", page.read_text()) == []


def test_the_page_loads_nothing_and_inserts_no_html() -> None:
    """It uses no address but the app's own, and no function that turns text into HTML."""
    page = (EXAMPLES / "chat.html").read_text()
    assert "default-src 'none'; connect-src 'self'" in page
    code = page[page.index("<script>") :]
    assert not re.search(r"\.(inner|outer)HTML|insertAdjacentHTML|document\.write|eval\(", code)
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)""", page)


RENDER = """
const element = (name, attributes, ...children) => `<${name}>${children.join("")}</${name}>`;
const text = require("fs").readFileSync(0, "utf8");
console.log(JSON.stringify(inline(text)), kindOf(text), inline(heading(text)).length);
"""


def rendered(text: str, *, within: float = 30) -> str:
    """What the functions of the page that render Markdown make of a line."""
    page = (EXAMPLES / "chat.html").read_text()
    code = page[page.index("const INLINE") : page.index("function blocks")]
    node = str(shutil.which("node"))
    done = subprocess.run(  # our own program
        [node, "-e", code + RENDER],
        input=text,
        capture_output=True,
        text=True,
        timeout=within,
        check=True,
    )
    return done.stdout.strip()


needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")


@needs_node
@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a `b` ``c`d`` e", ["a ", "<code>b</code>", " ", "<code>c`d</code>", " e"]),
        ("`a ``b`", ["", "<code>a ``b</code>", ""]),
        ("`a ``b", ["", "`", "a ", "``", "b"]),
        (r"\`a` `b`", ["", "`", "a", "<code> </code>", "b", "`", ""]),
        (
            "**a *b* `c`** _d_",
            ["", "<strong>a <em>b</em> <code>c</code></strong>", " ", "<em>d</em>", ""],
        ),
        ("[a [b](https://c.example/(d))", ["[a ", "<a>b</a>", ""]),
        ("# a #", ["# a #"]),
        (r"\``", ["", "`", "", "`", ""]),
    ],
)
def test_the_page_renders_a_subset_of_markdown(text: str, parts: list[str]) -> None:
    shown = json.loads(rendered(text).rpartition("]")[0] + "]")
    assert shown == parts


@needs_node
@pytest.mark.parametrize(
    "piece",
    [
        "[", "![", "[a", "](http://", "[a](http://", "[a](http://a(", "`", "``a`", "*", "*a ", "**",
        "**a", "_", "_a ", "\\", " ", "# ", "- ", "-", "a  ", "#", "( ", "[a] ",
    ],
)  # fmt: skip
def test_the_page_renders_in_time_proportional_to_the_text(piece: str) -> None:
    """A model may repeat itself: work that grows with the square would take hours here."""
    for end in ("", "x"):
        rendered(f"# {piece * (400_000 // len(piece))}{end}", within=60)


async def test_other_sites_cannot_open_the_voice_chat(
    fake: FakeWorkersAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any page of any site may open a WebSocket to this machine."""
    for name, value in fake.environment.items():
        monkeypatch.setenv(name, value)
    app = runpy.run_path(str(EXAMPLES / "voice_aiohttp.py"))["application"]()
    fake.on("flux").connects()
    fake.on("aura").connects()
    async with TestServer(app) as server, aiohttp.ClientSession() as http:
        url = str(server.make_url("/"))
        async with http.get(url) as response:
            assert "<title>Voice chat</title>" in await response.text()
        for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
            with pytest.raises(aiohttp.WSServerHandshakeError, match="400"):
                await http.ws_connect(f"{url}call", headers=headers)
        assert fake.requests == []
        async with http.ws_connect(f"{url}call", headers={"Origin": url.rstrip("/")}) as socket:
            await socket.send_bytes(bytes(3200))
            await fake.until(lambda: len(fake.sockets) == 2)
        await fake.until(lambda: fake.connections == 0)
    assert fake.sockets[0].audio == bytes(3200)


@pytest.mark.parametrize("page", ["chat.html", "chat_react/src/main.jsx"])
def test_pages_offer_a_second_try_only_where_it_helps(page: str) -> None:
    """Both pages know the same errors that remain; those that pass are not among them."""
    found = re.search(
        r"const FINAL = (?:new Set\()?\[(.*?)\]", (EXAMPLES / page).read_text(), re.DOTALL
    )
    assert found is not None
    names = set(re.findall(r'"(\w+)"', found[1]))
    remaining = {
        errors.AuthenticationError,
        errors.BadRequest,
        errors.BudgetExceeded,
        errors.ConfigError,
        errors.InputError,
        errors.ModelRetired,
        errors.NotFound,
        errors.PermissionDenied,
        errors.QuotaExceeded,
        errors.RequestTooLarge,
    }
    assert names == {error.__name__ for error in remaining}
