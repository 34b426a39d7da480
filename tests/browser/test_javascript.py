"""The JavaScript examples of the page "Chat UI", in a real browser."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from attrs import frozen

from cfai import Prompt
from cfai.settings import Retries
from cfai.testing import FakeWorkersAI
from cfai.web.aiohttp import relay
from tests.browser.conftest import PATIENCE, on_one_loop

pytest.importorskip("playwright.async_api", reason="run nox -s browser")
pytestmark = pytest.mark.asyncio(loop_scope="session")

MODEL = "@cf/meta/llama-3.1-8b-instruct-fast"
HEL = b'data: {"response":"Hel"}\n\n'
TRUNCATED = {
    "sse": b'id: 1\nevent: text\ndata: {"text":"Hel"}\n\n',
    "ndjson": b'{"type":"text","text":"Hel"}\n',
}
TYPES = {"sse": "text/event-stream", "ndjson": "application/x-ndjson"}
PAGE = Path(__file__).parents[2] / "docs" / "ui.md"
FETCH, EVENT_SOURCE = re.findall(r"```javascript\n(.*?)```", PAGE.read_text(), re.DOTALL)
WRAPPER = """async () => {
  window.received = window.failure = "";
  const output = { append: (text) => { window.received += text; } }, messages = [];
  const fail = (message) => { window.failure = message; };
  try { %s } catch (error) { fail(error.message); }
}"""


@frozen
class Site:
    """A site with an empty page, and a stream in both formats."""

    fake: FakeWorkersAI
    page: Any
    truncates: asyncio.Event
    """If set, streams end after their first token, without `done` or `error`."""

    async def runs(self, script: str) -> None:
        await self.page.evaluate(WRAPPER % script)

    async def until(self, condition: str) -> None:
        await self.page.wait_for_function(condition, timeout=PATIENCE * 1000)

    async def received(self) -> str:
        text: str = await self.page.evaluate("received")
        return text


@on_one_loop
async def site(fake: FakeWorkersAI, browser: Any) -> AsyncIterator[Site]:
    ai = fake.client(retries=Retries(max=0))

    async def home(request: web.Request) -> web.Response:
        return web.Response(text="<title>Empty</title>", content_type="text/html")

    async def chat(request: web.Request) -> web.StreamResponse:
        protocol: Any = "ndjson" if request.method == "POST" else "sse"
        if truncates.is_set():  # As by a proxy that gives up: the response itself ends properly.
            return web.Response(body=TRUNCATED[protocol], content_type=TYPES[protocol])
        return await relay(request, ai.stream(MODEL, Prompt("Hi")), protocol=protocol, retry=1)

    truncates = asyncio.Event()
    app = web.Application()
    app.add_routes([web.get("/", home), web.get("/chat", chat), web.post("/chat", chat)])
    async with TestServer(app) as server:
        context = await browser.new_context()
        page = await context.new_page()
        await page.goto(str(server.make_url("/")))
        yield Site(fake, page, truncates)
        await context.close()


@pytest.mark.parametrize("script", [FETCH, EVENT_SOURCE], ids=["fetch", "EventSource"])
async def test_an_answer_is_shown(site: Site, script: str) -> None:
    site.fake.streams("Hel", "lo")
    await site.runs(script)
    await site.until("received === 'Hello'")
    assert await site.page.evaluate("failure") == ""
    assert len(site.fake.requests) == 1


@pytest.mark.parametrize("script", [FETCH, EVENT_SOURCE], ids=["fetch", "EventSource"])
async def test_the_message_of_an_error_is_shown(site: Site, script: str) -> None:
    site.fake.says(HEL, b'data: {"error":"the model broke"}\n\n')
    await site.runs(script)
    await site.until("failure")
    assert await site.page.evaluate("failure") == "the model broke"
    assert await site.received() == "Hel"


@pytest.mark.parametrize("script", [FETCH, EVENT_SOURCE], ids=["fetch", "EventSource"])
async def test_a_refusal_is_shown(site: Site, script: str) -> None:
    site.fake.fails(400, 5006, "no such text")
    await site.runs(script)
    await site.until("failure")
    message = "no such text" if script == FETCH else "the connection was lost"
    assert await site.page.evaluate("failure") == message


@pytest.mark.parametrize("script", [FETCH, EVENT_SOURCE], ids=["fetch", "EventSource"])
async def test_a_truncated_stream_is_an_error(
    site: Site, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.truncates.set()
    await site.runs(script)
    await site.until("failure")
    assert await site.page.evaluate("failure") == "the connection was lost"
    assert await site.received() == "Hel"


async def test_a_page_that_forgets_to_close_is_stopped(site: Site) -> None:
    """Its `EventSource` reconnects after the answer; nothing is generated again."""
    site.fake.streams("Hel", "lo")
    await site.runs("""
        window.source = new EventSource("/chat");
        source.addEventListener("text", (event) => output.append(JSON.parse(event.data).text));
    """)
    await site.until("source.readyState === EventSource.CLOSED")
    assert await site.received() == "Hello"
    assert len(site.fake.requests) == 1
