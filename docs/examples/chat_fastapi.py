"""A chat in the browser, on FastAPI.

With small local models, or with the account in CLOUDFLARE_ACCOUNT_ID and CLOUDFLARE_API_TOKEN:

    python chat_fastapi.py --local
    python chat_fastapi.py
"""

import argparse
import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal, TypedDict

import uvicorn
from chat_tools import TOOLS
from fastapi import FastAPI, Request
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from cfai import CfaiError, Conversation, InputError, Message, TextGeneration, WorkersAI, system
from cfai.web.starlette import TokenResponse, refusals

MODEL = "@cf/qwen/qwen3-30b-a3b-fp8"
INSTRUCTION = system("You are a friendly assistant. Answer briefly.")
MAX_CHARACTERS = 10_000  # of one message
MAX_BYTES = 2**20  # of a request
HISTORY = {"messages": 20, "characters": 40_000}
MAX_STREAMS = 1000  # answers written at the same time; each holds a connection
PAGE = Path(__file__).with_name("chat.html")
PAGE_HEADERS = {"cache-control": "no-cache", "content-security-policy": "frame-ancestors 'none'"}
# Other names are refused: a page of another site could resolve its own name to this machine.
HOSTS = ["127.0.0.1", "localhost"]


class State(TypedDict):
    ai: WorkersAI
    tools: list[Callable[..., Any]]


class ChatMessage(BaseModel):
    role: Literal["user", "assistant"]
    content: str


class ChatRequest(BaseModel):
    messages: list[ChatMessage] = Field(min_length=1)


def application(*, local: bool = False) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[State]:
        """One client for the lifetime of the app; all requests share its connections."""
        async with AsyncExitStack() as stack:
            if local:
                from cfai.local import Server, weights

                await asyncio.to_thread(weights.ensure, weights.SMOLLM2, print)  # downloaded once
                server = await stack.enter_async_context(Server(prewarm=True))
                ai = WorkersAI(limit=MAX_STREAMS, **server.credentials)
            else:
                ai = WorkersAI(limit=MAX_STREAMS)
            tools: list[Callable[..., Any]] = (
                [] if local else TOOLS
            )  # a small model can't call tools
            yield {"ai": await stack.enter_async_context(ai), "tools": tools}

    handlers = {CfaiError: refusals}
    app = FastAPI(lifespan=lifespan, exception_handlers=handlers, max_body_size=MAX_BYTES)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)
    app.get("/")(page)
    app.post("/chat")(chat)
    return app


async def page() -> FileResponse:
    return FileResponse(PAGE, headers=PAGE_HEADERS)


async def chat(body: ChatRequest, request: Request) -> TokenResponse:
    if any(len(message.content) > MAX_CHARACTERS for message in body.messages):
        raise InputError(f"a message may have up to {MAX_CHARACTERS} characters")
    messages = [Message(message.role, message.content) for message in body.messages]
    task = TextGeneration(Conversation([INSTRUCTION, *messages]).trim(**HISTORY), max_tokens=1024)
    ai, tools = request.state.ai, request.state.tools
    run = ai.run_tools(MODEL, task, tools=tools, max_steps=5, stream=True)
    return TokenResponse(run, protocol="ndjson")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A chat in the browser, on FastAPI.")
    parser.add_argument("--local", action="store_true", help="use small local models")
    parser.add_argument("--port", type=int, default=8080)
    options = parser.parse_args()
    app = application(local=options.local)
    # On shutdown, do not wait for answers that are still being written.
    uvicorn.run(app, host="127.0.0.1", port=options.port, timeout_graceful_shutdown=1)
