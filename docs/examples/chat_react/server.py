"""The back end of the React chat, on FastAPI: answers `useChat` and serves the built page.

Build the page once (`npm install`, `npm run build`), then start the app with the account in
CLOUDFLARE_ACCOUNT_ID and CLOUDFLARE_API_TOKEN, and open http://127.0.0.1:8080:

    python server.py
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypedDict

import uvicorn
from fastapi import Body, FastAPI, Request
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.staticfiles import StaticFiles

from cfai import CfaiError, Conversation, InputError, TextGeneration, WorkersAI, system
from cfai.web.starlette import TokenResponse, refusals

sys.path.append(str(Path(__file__).parents[1]))
from chat_tools import TOOLS

MODEL = "@cf/qwen/qwen3-30b-a3b-fp8"
INSTRUCTION = system("You are a friendly assistant. Answer briefly.")
HISTORY = {"messages": 40, "characters": 60_000}
MAX_CHARACTERS = 10_000  # of one message
MAX_BYTES = 2**20  # of a request
BUILT_PAGE = Path(__file__).parent / "dist"
# Other names are refused: a page of another site could resolve its own name to this machine.
HOSTS = ["127.0.0.1", "localhost"]


class State(TypedDict):
    ai: WorkersAI


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[State]:
    """One client for the lifetime of the app; all requests share its connections."""
    async with WorkersAI(limit=1000) as ai:
        yield {"ai": ai}


def application(page: Path = BUILT_PAGE) -> FastAPI:
    handlers = {CfaiError: refusals}
    app = FastAPI(lifespan=lifespan, exception_handlers=handlers, max_body_size=MAX_BYTES)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)
    app.post("/api/chat")(chat)
    app.mount("/", StaticFiles(directory=page, html=True))
    return app


async def chat(messages: Annotated[list[Any], Body(embed=True)], request: Request) -> TokenResponse:
    talk = Conversation.from_ai_sdk(messages)
    if not talk:
        raise InputError("there is no message")
    for message in talk:
        texts = [message.content, *(str(call.arguments) for call in message.tool_calls)]
        if any(not isinstance(text, str) or len(text) > MAX_CHARACTERS for text in texts):
            raise InputError(f"a message must be one text of up to {MAX_CHARACTERS} characters")
    task = TextGeneration(Conversation([INSTRUCTION, *talk]).trim(**HISTORY), max_tokens=1024)
    run = request.state.ai.run_tools(MODEL, task, tools=TOOLS, max_steps=5, stream=True)
    return TokenResponse(run, protocol="ai-sdk")


if __name__ == "__main__":
    uvicorn.run(application(), host="127.0.0.1", port=8080, timeout_graceful_shutdown=1)
