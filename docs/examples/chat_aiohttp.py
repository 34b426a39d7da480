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

from cfai import Conversation, InputError, Message, TextGeneration, WorkersAI, system
from cfai.web.aiohttp import refusals, relay

MODEL = "@cf/meta/llama-3.1-8b-instruct"
INSTRUCTION = system("You are a friendly assistant. Answer briefly.")
REMEMBERED = 20  # messages
AT_ONCE = 1000  # answers being written: each holds a connection
PAGE = Path(__file__).with_name("chat.html")

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
            return Message(role, content)
    raise InputError('a message must be {"role": "user" or "assistant", "content": text}')


def question(body: bytes) -> TextGeneration:
    try:
        asked = json.loads(body)
    except ValueError as exc:
        raise InputError("the body must be JSON") from exc
    match asked:
        case {"messages": [_, *_] as said}:
            talk = Conversation([INSTRUCTION, *map(message, said)]).trim(messages=REMEMBERED)
            return TextGeneration(talk, max_tokens=512)
    raise InputError("messages must be a list of messages")


async def page(request: web.Request) -> web.StreamResponse:
    return web.FileResponse(PAGE, headers={"cache-control": "no-cache"})


async def chat(request: web.Request) -> web.StreamResponse:
    if request.content_type != "application/json":
        raise InputError("the body must be application/json")  # as no form of another site is
    tokens = request.app[AI].stream(MODEL, question(await request.read()))
    return await relay(request, tokens, form="ndjson")


def application(*, local: bool = False) -> web.Application:
    app = web.Application(middlewares=[refusals])
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
