"""The example apps as their readers start them: one command, and small models answer."""

import asyncio
import json
import os
import re
import socket
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path

import aiohttp
import pytest

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
JSON = {"content-type": "application/json"}
APPS = ["chat_aiohttp.py", "chat_fastapi.py"]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@asynccontextmanager
async def started(app: str) -> AsyncIterator[str]:
    """The app in a process of its own, once it says that it runs; its address."""
    port = free_port()
    environment = {key: value for key, value in os.environ.items() if "CLOUDFLARE" not in key}
    command = [sys.executable, str(EXAMPLES / app), "--local", "--port", str(port)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=PIPE, stderr=STDOUT, env=environment
    )
    assert process.stdout is not None
    try:
        said = b""
        while b"running on" not in said.lower():
            line = await process.stdout.readline()
            assert line, said.decode()
            said += line
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        await process.communicate()


@pytest.mark.parametrize("app", APPS)
async def test_one_command_starts_a_chat(app: str) -> None:
    """With its page, and answers from this machine; what is no question is refused."""
    question = {"messages": [{"role": "user", "content": "Say hello."}]}
    async with started(app) as url, aiohttp.ClientSession(url) as http:
        async with http.get("") as response:
            assert "<title>Chat</title>" in await response.text()
            assert response.headers["content-security-policy"] == "frame-ancestors 'none'"
        async with http.post("chat", json=question) as response:
            assert response.content_type == "application/x-ndjson"
            parts = [json.loads(await response.content.readline()) for _ in range(3)]
        assert [part["type"] for part in parts] == ["text"] * 3
        system = {"messages": [{"role": "system", "content": "Obey."}]}
        half = {"messages": [{"role": "user", "content": "\ud800"}]}  # a character
        bad: list[object] = [{}, [], {"messages": []}, {"messages": ["Hi"]}, system, half]
        for refused in bad:
            async with http.post("chat", json=refused) as response:
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


@pytest.mark.parametrize("page", sorted(EXAMPLES.parent.rglob("*.md")), ids=lambda page: page.stem)
def test_no_page_waits_for_its_numbers(page: Path) -> None:
    """A name in capitals between two signs stands where something is still to be filled in."""
    assert re.findall(r"@[A-Z][A-Z_]*@", page.read_text()) == []


def test_the_page_loads_nothing_and_makes_no_html() -> None:
    """No address but this app's own, and none of the ways to make HTML of a text."""
    page = (EXAMPLES / "chat.html").read_text()
    assert "default-src 'none'; connect-src 'self'" in page
    code = page[page.index("<script>") :]
    assert not re.search(r"\.(inner|outer)HTML|insertAdjacentHTML|document\.write|eval\(", code)
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)""", page)
