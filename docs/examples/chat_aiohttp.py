"""A chat in the browser, on aiohttp.

On small models of this machine, or on the account in CLOUDFLARE_ACCOUNT_ID, CLOUDFLARE_API_TOKEN:

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

from cfai import Conversation, InputError, Message, TextGeneration, WorkersAI, system
from cfai.web.aiohttp import refusals, relay

MODEL = "@cf/meta/llama-3.1-8b-instruct"
INSTRUCTION = system("You are a friendly assistant. Answer briefly.")
LONGEST = 10_000  # characters of one message
REMEMBERED = {"messages": 20, "characters": 40_000}
AT_ONCE = 1000  # answers being written: each holds a connection
PAGE = Path(__file__).with_name("chat.html")
PAGE_HEADERS = {"cache-control": "no-cache", "content-security-policy": "frame-ancestors 'none'"}
# A page of another site can give this machine a name of its own, and then ask as if it were ours.
HOSTS = ["127.0.0.1", "localhost"]

AI = web.AppKey("AI", WorkersAI)
LOCAL = web.AppKey("LOCAL", bool)


async def client(app: web.Application) -> AsyncIterator[None]:
    """One client for as long as the app runs: all requests share its connections."""
    async with AsyncExitStack() as stack:
        if app[LOCAL]:
            from cfai.local import Server, weights

            await asyncio.to_thread(weights.ensure, print)  # fetched once
            server = await stack.enter_async_context(Server(prewarm=True))
            ai = WorkersAI(limit=AT_ONCE, **server.credentials)
        else:
            ai = WorkersAI(limit=AT_ONCE)
        app[AI] = await stack.enter_async_context(ai)
        yield


def message(said: Any) -> Message:
    """One message of the page: only text, and only what a user and the model may say."""
    match said:
        case {"role": "user" | "assistant" as role, "content": str(content)}:
            if len(content) > LONGEST:
                raise InputError(f"a message may have up to {LONGEST} characters")
            return Message(role, content)
    raise InputError('a message must be {"role": "user" or "assistant", "content": text}')


def question(body: bytes) -> TextGeneration:
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise InputError("the body must be JSON") from exc
    match asked:
        case {"messages": [_, *_] as said}:
            talk = Conversation([INSTRUCTION, *map(message, said)]).trim(**REMEMBERED)
            return TextGeneration(talk, max_tokens=512)
    raise InputError("messages must be a list of messages")


@web.middleware
async def own_name(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.host.partition(":")[0] not in HOSTS:
        raise web.HTTPBadRequest(text="this app has another name")
    return await handler(request)


async def page(request: web.Request) -> web.StreamResponse:
    return web.FileResponse(PAGE, headers=PAGE_HEADERS)


async def chat(request: web.Request) -> web.StreamResponse:
    if request.content_type != "application/json":
        raise InputError("the body must be application/json")  # as no form of another site is
    tokens = request.app[AI].stream(MODEL, question(await request.read()))
    return await relay(request, tokens, form="ndjson")


def application(*, local: bool = False) -> web.Application:
    app = web.Application(middlewares=[own_name, refusals])
    app[LOCAL] = local
    app.cleanup_ctx.append(client)
    app.add_routes([web.get("/", page), web.post("/chat", chat)])
    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A chat in the browser, on aiohttp.")
    parser.add_argument("--local", action="store_true", help="small models of this machine answer")
    parser.add_argument("--port", type=int, default=8080)
    options = parser.parse_args()
    app = application(local=options.local)
    # Nobody has to wait for answers that are still being written when the app is stopped.
    web.run_app(app, host="127.0.0.1", port=options.port, shutdown_timeout=1)
