"""The example apps, a scripted service behind them, and Debian's Chromium before them."""

import asyncio
import gc
import shutil
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

from cfai import TokenStream
from cfai.testing import FakeWorkersAI
from cfai.web import Relay
from tests.web.conftest import on_uvicorn

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
PATIENCE = 60
"""In seconds: for a machine that has much else to do. Nothing here waits for the time to pass."""
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


on_one_loop = pytest_asyncio.fixture(loop_scope="session")
"""A fixture on the loop that the browser is on, where the tests are, too."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pictures", type=Path, help="where to keep the pictures of the page")


def example(name: str) -> ModuleType:
    """One of the example apps, as a module."""
    spec = spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # where FastAPI looks for the types of its endpoints
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
    return on_uvicorn(example("chat_fastapi").application())


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

    async def all_is_over(self) -> None:
        """Wait until the app asks the service for nothing; it then holds no stream either."""
        await self.fake.until(lambda: self.fake.connections == 0, within=PATIENCE)
        gc.collect()
        held = [thing for thing in gc.get_objects() if isinstance(thing, Relay | TokenStream)]
        assert not held

    async def tab(self, **options: Any) -> Any:
        """A page of the app, in a window of its own."""
        context = await self.browser.new_context(viewport={"width": 900, "height": 720}, **options)
        return await self.open(context)

    async def open(self, context: Any) -> Any:
        page = await context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.on("pageerror", lambda error: pytest.fail(f"the page raised {error}"))
        await page.goto(self.url)
        return page


@on_one_loop
async def no_task_outlives_the_test() -> None:
    """The browser's own tasks do; what the app holds is looked at by `Chat.all_is_over`."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Any]:
    """One for all tests, since its start takes longest; each test has windows of its own."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
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


@pytest_asyncio.fixture(params=APPS, loop_scope="session")
async def chat(
    request: pytest.FixtureRequest,
    fake: FakeWorkersAI,
    browser: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Chat]:
    monkeypatch.setenv("CLOUDFLARE_ACCOUNT_ID", "account")
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "fake-api-token")
    monkeypatch.setenv("CLOUDFLARE_BASE_URL", fake.base_url)
    async with APPS[request.param]() as port:
        yield Chat(fake, browser, f"http://127.0.0.1:{port}/")
        await asyncio.gather(*(context.close() for context in browser.contexts))
