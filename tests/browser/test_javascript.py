"""The JavaScript of the page on UIs, as it stands there, in a real browser."""

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

pytest.importorskip("playwright.async_api", reason="for these: nox -s browser")
pytestmark = pytest.mark.asyncio(loop_scope="session")

MODEL = "@cf/meta/llama-3.1-8b-instruct"
HEL = b'data: {"response":"Hel"}\n\n'
HALVES = {
    "sse": b'id: 1\nevent: text\ndata: {"text":"Hel"}\n\n',
    "ndjson": b'{"type":"text","text":"Hel"}\n',
}
TYPES = {"sse": "text/event-stream", "ndjson": "application/x-ndjson"}
PAGE = Path(__file__).parents[2] / "docs" / "ui.md"
FETCH, EVENT_SOURCE = re.findall(r"```javascript\n(.*?)```", PAGE.read_text(), re.DOTALL)
AROUND = """async () => {
  window.heard = window.ended = "";
  const output = { append: (text) => { window.heard += text; } }, messages = [];
  const fail = (message) => { window.ended = message; };
  try { %s } catch (error) { fail(error.message); }
}"""


@frozen
class Site:
    """An empty page, and a stream in both forms beside it."""

    fake: FakeWorkersAI
    page: Any
    cut: asyncio.Event
    """Whether streams end after their first token, with nothing that says so."""

    async def runs(self, script: str) -> None:
        await self.page.evaluate(AROUND % script)

    async def until(self, condition: str) -> None:
        await self.page.wait_for_function(condition, timeout=PATIENCE * 1000)

    async def heard(self) -> str:
        text: str = await self.page.evaluate("heard")
        return text


@on_one_loop
async def site(fake: FakeWorkersAI, browser: Any) -> AsyncIterator[Site]:
    ai = fake.client(retries=Retries(max=0))

    async def home(request: web.Request) -> web.Response:
        return web.Response(text="<title>Empty</title>", content_type="text/html")

    async def chat(request: web.Request) -> web.StreamResponse:
        form: Any = "ndjson" if request.method == "POST" else "sse"
        if cut.is_set():  # As a proxy ends it that gives up: whole as a response.
            return web.Response(body=HALVES[form], content_type=TYPES[form])
        return await relay(request, ai.stream(MODEL, Prompt("Hi")), form=form, retry=1)

    cut = asyncio.Event()
    app = web.Application()
    app.add_routes([web.get("/", home), web.get("/chat", chat), web.post("/chat", chat)])
    async with TestServer(app) as server:
        context = await browser.new_context()
        page = await context.new_page()
        await page.goto(str(server.make_url("/")))
        yield Site(fake, page, cut)
        await context.close()


@pytest.mark.parametrize("script", [FETCH, EVENT_SOURCE], ids=["fetch", "EventSource"])
async def test_an_answer_is_shown(site: Site, script: str) -> None:
    site.fake.streams("Hel", "lo")
    await site.runs(script)
    await site.until("heard === 'Hello'")
    assert await site.page.evaluate("ended") == ""
    assert len(site.fake.requests) == 1


@pytest.mark.parametrize("script", [FETCH, EVENT_SOURCE], ids=["fetch", "EventSource"])
async def test_an_error_is_shown_as_what_it_says(site: Site, script: str) -> None:
    site.fake.says(HEL, b'data: {"error":"the model broke"}\n\n')
    await site.runs(script)
    await site.until("ended")
    assert await site.page.evaluate("ended") == "the model broke"
    assert await site.heard() == "Hel"


@pytest.mark.parametrize("script", [FETCH, EVENT_SOURCE], ids=["fetch", "EventSource"])
async def test_a_refusal_is_shown(site: Site, script: str) -> None:
    site.fake.fails(400, 5006, "no such text")
    await site.runs(script)
    await site.until("ended")
    said = "no such text" if script == FETCH else "the connection was lost"
    assert await site.page.evaluate("ended") == said


@pytest.mark.parametrize("script", [FETCH, EVENT_SOURCE], ids=["fetch", "EventSource"])
async def test_a_stream_that_was_cut_is_no_whole_one(
    site: Site, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.cut.set()
    await site.runs(script)
    await site.until("ended")
    assert await site.page.evaluate("ended") == "the connection was lost"
    assert await site.heard() == "Hel"


async def test_a_page_that_forgets_to_close_is_stopped(site: Site) -> None:
    """Its `EventSource` connects anew when the answer is over: nothing is generated again."""
    site.fake.streams("Hel", "lo")
    await site.runs("""
        window.source = new EventSource("/chat");
        source.addEventListener("text", (event) => output.append(JSON.parse(event.data).text));
    """)
    await site.until("source.readyState === EventSource.CLOSED")
    assert await site.heard() == "Hello"
    assert len(site.fake.requests) == 1
