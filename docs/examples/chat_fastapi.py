"""A chat in the browser, on FastAPI.

On small models of this machine, or on the account in CLOUDFLARE_ACCOUNT_ID, CLOUDFLARE_API_TOKEN:

    python chat_fastapi.py --local
    python chat_fastapi.py
"""

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Literal, TypedDict

import uvicorn
from fastapi import FastAPI, Request
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from cfai import CfaiError, Conversation, InputError, Message, TextGeneration, WorkersAI, system
from cfai.web.starlette import TokenResponse, refusals

MODEL = "@cf/meta/llama-3.1-8b-instruct"
INSTRUCTION = system("You are a friendly assistant. Answer briefly.")
LONGEST = 10_000  # characters of one message
LARGEST = 2**20  # bytes of a request
REMEMBERED = {"messages": 20, "characters": 40_000}
AT_ONCE = 1000  # answers being written: each holds a connection
PAGE = Path(__file__).with_name("chat.html")
PAGE_HEADERS = {"cache-control": "no-cache", "content-security-policy": "frame-ancestors 'none'"}
# A page of another site can give this machine a name of its own, and then ask as if it were ours.
HOSTS = ["127.0.0.1", "localhost"]


class State(TypedDict):
    ai: WorkersAI


class Said(BaseModel):
    role: Literal["user", "assistant"]
    content: str


class Question(BaseModel):
    messages: list[Said] = Field(min_length=1)


def application(*, local: bool = False) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[State]:
        """One client for as long as the app runs: all requests share its connections."""
        async with AsyncExitStack() as stack:
            if local:
                from cfai.local import Server, weights

                await asyncio.to_thread(weights.ensure, print)  # fetched once
                server = await stack.enter_async_context(Server(prewarm=True))
                ai = WorkersAI(limit=AT_ONCE, **server.credentials)
            else:
                ai = WorkersAI(limit=AT_ONCE)
            yield {"ai": await stack.enter_async_context(ai)}

    handlers = {CfaiError: refusals}
    app = FastAPI(lifespan=lifespan, exception_handlers=handlers, max_body_size=LARGEST)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)
    app.get("/")(page)
    app.post("/chat")(chat)
    return app


async def page() -> FileResponse:
    return FileResponse(PAGE, headers=PAGE_HEADERS)


async def chat(question: Question, request: Request) -> TokenResponse:
    if any(len(one.content) > LONGEST for one in question.messages):
        raise InputError(f"a message may have up to {LONGEST} characters")
    said = [Message(one.role, one.content) for one in question.messages]
    talk = Conversation([INSTRUCTION, *said]).trim(**REMEMBERED)
    task = TextGeneration(talk, max_tokens=512)
    return TokenResponse(request.state.ai.stream(MODEL, task), form="ndjson")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A chat in the browser, on FastAPI.")
    parser.add_argument("--local", action="store_true", help="small models of this machine answer")
    parser.add_argument("--port", type=int, default=8080)
    options = parser.parse_args()
    app = application(local=options.local)
    # Nobody has to wait for answers that are still being written when the app is stopped.
    uvicorn.run(app, host="127.0.0.1", port=options.port, timeout_graceful_shutdown=1)
