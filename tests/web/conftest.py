"""The same small app in every framework, each on a real socket."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
import fastapi
import pytest
import uvicorn
from aiohttp import web
from attrs import frozen
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from cfai import Prompt, TokenStream, ToolRun, WorkersAI
from cfai.errors import CfaiError
from cfai.settings import Retries, Timeouts
from cfai.testing import FakeWorkersAI
from cfai.web import asgi, starlette
from cfai.web.aiohttp import refusals, relay

MODEL = "@cf/meta/llama-3.1-8b-instruct-fast"

Serve = Callable[[WorkersAI], AbstractAsyncContextManager[int]]
"""Serves the app with a client, and yields its port."""


class Clock:
    """A tool that takes until the test ends it."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget earlier tests."""
        self.began = asyncio.Event()
        self.ended = asyncio.Event()

    async def wait(self) -> str:
        """Wait."""
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()
        return "never"


clock = Clock()


def now() -> str:
    """The time."""
    return "12:00"


def requested_answer(ai: WorkersAI, query: Any) -> tuple[TokenStream | ToolRun, dict[str, Any]]:
    """The stream or tool run that a request asks for, and the options of its response."""
    options: dict[str, Any] = {"protocol": query.get("protocol", "sse")}
    if "keep_alive" in query:
        options["keep_alive"] = float(query["keep_alive"])
    if "private" in query:
        options["headers"] = {"Cache-Control": "private, no-store", "X-App": "one"}
    if "tools" in query:
        tools = [now, clock.wait]
        return ai.run_tools(MODEL, "Hi", tools=tools, stream=True), options
    return ai.stream(MODEL, Prompt(query.get("q", "Hi"))), options


@asynccontextmanager
async def serve_aiohttp(
    ai: WorkersAI, tls: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[int]:
    async def chat(request: web.Request) -> web.StreamResponse:
        answer, how = requested_answer(ai, request.query)
        return await relay(request, answer, **how)

    async def run(request: web.Request) -> web.Response:
        return web.json_response((await ai.run(MODEL, Prompt("Hi"))).to_dict())

    app = web.Application(middlewares=[refusals])
    app.add_routes([web.get("/chat", chat), web.post("/chat", chat), web.get("/run", run)])
    async with serve_app(app, tls, **options) as port:
        yield port


@asynccontextmanager
async def serve_app(
    app: web.Application, tls: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[int]:
    """Serve an app of aiohttp on a socket."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1, **options)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def serve_aiohttp_with_cancellation(ai: WorkersAI) -> AbstractAsyncContextManager[int]:
    return serve_aiohttp(ai, handler_cancellation=True)


@asynccontextmanager
async def serve_on_uvicorn(app: Any) -> AsyncIterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([listening]))
        while not server.started:  # noqa: ASYNC110  # it has no event for that
            await asyncio.sleep(0)
        yield listening.getsockname()[1]
        server.should_exit = True
        await serving


def serve_asgi(ai: WorkersAI) -> AbstractAsyncContextManager[int]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            query = Request(scope).query_params
            answer, how = requested_answer(ai, query)
            await asgi.TokenResponse(answer, **how)(scope, receive, send)

    return serve_on_uvicorn(app)


def serve_starlette(ai: WorkersAI) -> AbstractAsyncContextManager[int]:
    async def chat(request: Request) -> starlette.TokenResponse:
        answer, how = requested_answer(ai, request.query_params)
        return starlette.TokenResponse(answer, **how)

    async def run(request: Request) -> fastapi.Response:
        return fastapi.responses.JSONResponse((await ai.run(MODEL, Prompt("Hi"))).to_dict())

    routes = [Route("/chat", chat, methods=["GET", "POST"]), Route("/run", run)]
    handlers: Any = {CfaiError: starlette.refusals}
    return serve_on_uvicorn(Starlette(routes=routes, exception_handlers=handlers))


def serve_fastapi_with_middleware(ai: WorkersAI) -> AbstractAsyncContextManager[int]:
    return serve_fastapi(ai, middleware=True)


def serve_fastapi(ai: WorkersAI, *, middleware: bool = False) -> AbstractAsyncContextManager[int]:
    handlers: Any = {CfaiError: starlette.refusals}
    app = fastapi.FastAPI(exception_handlers=handlers)
    if middleware:

        @app.middleware("http")
        async def stamp(request: fastapi.Request, call_next: Any) -> fastapi.Response:
            response: fastapi.Response = await call_next(request)
            response.headers["x-stamp"] = "1"
            return response

    @app.api_route("/chat", methods=["GET", "POST", "HEAD"])
    async def chat(request: fastapi.Request) -> starlette.TokenResponse:
        answer, how = requested_answer(ai, request.query_params)
        return starlette.TokenResponse(answer, **how)

    @app.get("/run")
    async def run() -> dict[str, Any]:
        return (await ai.run(MODEL, Prompt("Hi"))).to_dict()

    return serve_on_uvicorn(app)


FRAMEWORKS: dict[str, Serve] = {
    "aiohttp": serve_aiohttp,
    "aiohttp with cancellation": serve_aiohttp_with_cancellation,
    "asgi": serve_asgi,
    "starlette": serve_starlette,
    "fastapi": serve_fastapi,
    "fastapi with middleware": serve_fastapi_with_middleware,
}


@frozen
class Site:
    """A served app, with the scripted service behind it."""

    fake: FakeWorkersAI
    port: int
    http: aiohttp.ClientSession

    def get(self, path: str) -> Any:
        return self.http.get(f"http://127.0.0.1:{self.port}{path}")

    async def connect(self, path: str = "/chat", method: str = "GET") -> "Browser":
        """Send a request by hand, on a connection of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode())
        return Browser(reader, writer)


@frozen
class Browser:
    """One connection to the app."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def until(self, what: bytes) -> bytes:
        return await self.reader.readuntil(what)

    def disconnect(self) -> None:
        """Abort the connection."""
        self.writer.transport.abort()


@pytest.fixture(params=FRAMEWORKS)
async def site(request: pytest.FixtureRequest, fake: FakeWorkersAI) -> AsyncIterator[Site]:
    # A hundred connections at once take their time on a busy machine.
    ai = fake.client(retries=Retries(max=0), timeouts=Timeouts(connect=60))
    async with FRAMEWORKS[request.param](ai) as port, aiohttp.ClientSession() as http:
        yield Site(fake, port, http)


@pytest.fixture
def all_closed(fake: FakeWorkersAI) -> Callable[[], Awaitable[None]]:
    """Wait until no connection to the service is open."""

    async def wait() -> None:
        await fake.until(lambda: fake.connections == 0)

    return wait
