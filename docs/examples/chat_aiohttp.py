"""A chat in the browser, on aiohttp.

With small local models, or with the account in CLOUDFLARE_ACCOUNT_ID and CLOUDFLARE_API_TOKEN:

    python chat_aiohttp.py --local
    python chat_aiohttp.py
"""

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler
from chat_tools import TOOLS

from cfai import Conversation, InputError, Message, TextGeneration, WorkersAI, system
from cfai.web.aiohttp import refusals, relay

MODEL = "@cf/qwen/qwen3-30b-a3b-fp8"
INSTRUCTION = system("You are a friendly assistant. Answer briefly.")
MAX_CHARACTERS = 10_000  # of one message
HISTORY = {"messages": 20, "characters": 40_000}
MAX_STREAMS = 1000  # answers written at the same time; each holds a connection
PAGE = Path(__file__).with_name("chat.html")
PAGE_HEADERS = {"cache-control": "no-cache", "content-security-policy": "frame-ancestors 'none'"}
# Other names are refused: a page of another site could resolve its own name to this machine.
HOSTS = ["127.0.0.1", "localhost"]

AI = web.AppKey("AI", WorkersAI)
LOCAL = web.AppKey("LOCAL", bool)


async def client(app: web.Application) -> AsyncIterator[None]:
    """One client for the lifetime of the app; all requests share its connections."""
    async with AsyncExitStack() as stack:
        if app[LOCAL]:
            from cfai.local import Server, weights

            await asyncio.to_thread(weights.ensure, weights.SMOLLM2, print)  # downloaded once
            server = await stack.enter_async_context(Server(prewarm=True))
            ai = WorkersAI(limit=MAX_STREAMS, **server.credentials)
        else:
            ai = WorkersAI(limit=MAX_STREAMS)
        app[AI] = await stack.enter_async_context(ai)
        yield


def parse_message(value: Any) -> Message:
    """A message from the page: text only, and only from the user and the model."""
    match value:
        case {"role": "user" | "assistant" as role, "content": str(content)}:
            if len(content) > MAX_CHARACTERS:
                raise InputError(f"a message may have up to {MAX_CHARACTERS} characters")
            return Message(role, content)
    raise InputError('a message must be {"role": "user" or "assistant", "content": text}')


def parse_request(body: bytes) -> TextGeneration:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise InputError("the body must be JSON") from exc
    match document:
        case {"messages": [_, *_] as messages}:
            chat = Conversation([INSTRUCTION, *map(parse_message, messages)]).trim(**HISTORY)
            return TextGeneration(chat, max_tokens=1024)
    raise InputError("messages must be a list of messages")


@web.middleware
async def check_host(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.host.partition(":")[0] not in HOSTS:
        raise web.HTTPBadRequest(text="unknown host name")
    return await handler(request)


async def page(request: web.Request) -> web.StreamResponse:
    return web.FileResponse(PAGE, headers=PAGE_HEADERS)


async def chat(request: web.Request) -> web.StreamResponse:
    if request.content_type != "application/json":
        # A form on a page of another site cannot send this type.
        raise InputError("the body must be application/json")
    task = parse_request(await request.read())
    tools = [] if request.app[LOCAL] else TOOLS  # the small local model can't call tools
    run = request.app[AI].run_tools(MODEL, task, tools=tools, max_steps=5, stream=True)
    return await relay(request, run, protocol="ndjson")


def application(*, local: bool = False) -> web.Application:
    app = web.Application(middlewares=[check_host, refusals])
    app[LOCAL] = local
    app.cleanup_ctx.append(client)
    app.add_routes([web.get("/", page), web.post("/chat", chat)])
    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A chat in the browser, on aiohttp.")
    parser.add_argument("--local", action="store_true", help="use small local models")
    parser.add_argument("--port", type=int, default=8080)
    options = parser.parse_args()
    app = application(local=options.local)
    # On shutdown, do not wait for answers that are still being written.
    web.run_app(app, host="127.0.0.1", port=options.port, shutdown_timeout=1)
