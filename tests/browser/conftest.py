"""Fixtures: the example apps with a scripted service, in Debian's Chromium."""

import asyncio
import gc
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from attrs import frozen

from cfai import TokenStream, ToolRun
from cfai.testing import FakeWorkersAI
from cfai.web import Relay
from tests.web.conftest import serve_on_uvicorn

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
PATIENCE = 60
"""Seconds; generous for busy machines. No test waits for this time to pass."""
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


on_one_loop = pytest_asyncio.fixture(loop_scope="session")
"""A fixture on the event loop of the browser and the tests."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pictures", type=Path, help="the folder for the pictures of the page")


def example(name: str) -> ModuleType:
    """An example app as a module."""
    if str(EXAMPLES) not in sys.path:  # for the module that they share
        sys.path.append(str(EXAMPLES))
    spec = spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # FastAPI looks up the types of its endpoints there
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def chat_aiohttp() -> AsyncIterator[int]:
    runner = web.AppRunner(
        example("chat_aiohttp").application(), access_log=None, shutdown_timeout=1
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def chat_fastapi() -> AbstractAsyncContextManager[int]:
    return serve_on_uvicorn(example("chat_fastapi").application())


APPS: dict[str, Callable[[], AbstractAsyncContextManager[int]]] = {
    "aiohttp": chat_aiohttp,
    "fastapi": chat_fastapi,
}


@frozen
class Chat:
    """An example app in a browser."""

    fake: FakeWorkersAI
    browser: Any
    url: str

    async def wait_until_closed(self) -> None:
        """Wait until the app has no connection to the service; check that it holds no stream."""
        await self.fake.until(lambda: self.fake.connections == 0, within=PATIENCE)
        gc.collect()
        streams = [
            item for item in gc.get_objects() if isinstance(item, Relay | TokenStream | ToolRun)
        ]
        assert not streams

    async def tab(self, **options: Any) -> Any:
        """Open the app in a new window."""
        context = await self.browser.new_context(viewport={"width": 900, "height": 720}, **options)
        return await self.open(context)

    async def open(self, context: Any, url: str | None = None) -> Any:
        page = await context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.on("pageerror", lambda error: pytest.fail(f"the page raised {error}"))
        await page.goto(url or self.url)
        return page


class Wire:
    """A connection to an app that can be cut."""

    def __init__(self, url: str) -> None:
        self._port = int(url.rstrip("/").rpartition(":")[2])
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"

    async def __aexit__(self, *exc_info: object) -> None:
        self.cut()
        self._server.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Reset all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, requests]
        self._tasks += [
            asyncio.create_task(self._copy(reader, requests)),
            asyncio.create_task(self._copy(answers, writer)),
        ]

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            writer.write(data)
        writer.close()


@on_one_loop
async def no_task_outlives_the_test() -> None:
    """Disabled, because the browser has tasks; `Chat.wait_until_closed` checks the app."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Any]:
    """One browser for all tests, because starting it is slow; each test has its own windows."""
    if CHROMIUM is None:
        pytest.skip("Chromium is missing: apt-get install chromium")
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        await browser.close()


@on_one_loop
async def fake() -> AsyncIterator[FakeWorkersAI]:
    async with FakeWorkersAI() as fake:
        yield fake


@on_one_loop
async def account(fake: FakeWorkersAI, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that make an app use the scripted service."""
    monkeypatch.setenv("CLOUDFLARE_ACCOUNT_ID", "account")
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "fake-api-token")
    monkeypatch.setenv("CLOUDFLARE_BASE_URL", fake.base_url)


def called(name: str, arguments: str) -> dict[str, Any]:
    """A streamed piece that calls a tool."""
    function = {"name": name, "arguments": arguments}
    return {"tool_calls": [{"index": 0, "id": f"{name}1", "function": function}]}


def install_npm_packages(source: Path, folder: Path) -> None:
    """Copy a Node project to a new folder, and install what it needs there."""
    if shutil.which("npm") is None:
        pytest.skip("npm is missing")
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("node_modules", "dist"))
    install = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--silent"]
    subprocess.run(install, cwd=folder, check=True, capture_output=True)


@pytest_asyncio.fixture(params=APPS, loop_scope="session")
async def chat(
    request: pytest.FixtureRequest, fake: FakeWorkersAI, browser: Any, account: None
) -> AsyncIterator[Chat]:
    async with APPS[request.param]() as port:
        yield Chat(fake, browser, f"http://127.0.0.1:{port}/")
        await asyncio.gather(*(context.close() for context in browser.contexts))
