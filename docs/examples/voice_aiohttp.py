"""A voice chat in the browser, on aiohttp: speak, listen, and interrupt.

With small local models, or with the account in CLOUDFLARE_ACCOUNT_ID and CLOUDFLARE_API_TOKEN:

    python voice_aiohttp.py --local
    python voice_aiohttp.py
"""

import argparse
import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import WSMsgType, web
from aiohttp.typedefs import Handler

from cfai import (
    AudioChunk,
    CfaiError,
    Conversation,
    Listener,
    Partial,
    Speaker,
    TextGeneration,
    TurnEnded,
    TurnStarted,
    WorkersAI,
    assistant,
    system,
    user,
)

EARS = "@cf/deepgram/flux"
MIND = "@cf/meta/llama-3.1-8b-instruct-fast"
VOICE = "@cf/deepgram/aura-1"
INSTRUCTION = system("You are on the phone. Answer in one or two short sentences, without lists.")
HISTORY = {"messages": 20, "characters": 20_000}
PAGE = Path(__file__).with_name("voice.html")
PAGE_HEADERS = {"cache-control": "no-cache", "content-security-policy": "frame-ancestors 'none'"}
# Other names are refused: a page of another site could resolve its own name to this machine.
HOSTS = ["127.0.0.1", "localhost"]

AI = web.AppKey("AI", WorkersAI)
LOCAL = web.AppKey("LOCAL", bool)


async def client(app: web.Application) -> AsyncIterator[None]:
    """One client for the lifetime of the app."""
    async with AsyncExitStack() as stack:
        if app[LOCAL]:
            from cfai.local import Server, weights

            for model in (weights.SMOLLM2, *weights.BY_TASK["speech"]):
                await asyncio.to_thread(weights.ensure, model, print)  # downloaded once
            server = await stack.enter_async_context(Server(prewarm=True))
            ai = WorkersAI(**server.credentials)
        else:
            ai = WorkersAI()
        app[AI] = await stack.enter_async_context(ai)
        yield


async def microphone(socket: web.WebSocketResponse) -> AsyncIterator[bytes]:
    """The sound that the page sends: 16-bit PCM at 16 kHz."""
    async for message in socket:
        if message.type is WSMsgType.BINARY:
            yield message.data


class Call:
    """One conversation."""

    def __init__(
        self, socket: web.WebSocketResponse, ai: WorkersAI, ears: Listener, voice: Speaker
    ) -> None:
        self._socket = socket
        self._ai = ai
        self._ears = ears
        self._voice = voice
        self._chat = Conversation([INSTRUCTION])
        self._answer: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Answer each turn, until the page hangs up."""
        async with asyncio.TaskGroup() as tasks:
            playing = tasks.create_task(self._play())
            async for event in self._ears:
                match event:
                    case TurnStarted():
                        await self._interrupt()
                    case Partial():
                        await self._tell("you", event.text)
                    case TurnEnded() if event.text:
                        await self._interrupt()
                        await self._tell("you", event.text, final=True)
                        self._answer = tasks.create_task(self._reply(event.text))
            await self._interrupt()
            playing.cancel()

    async def _interrupt(self) -> None:
        """Stop the answer, and its sound: here, at the service and in the page."""
        if self._answer is None:
            return
        self._answer.cancel()
        await asyncio.wait({self._answer})
        self._answer = None
        await self._voice.clear()
        await self._tell("stop")

    async def _reply(self, question: str) -> None:
        self._chat = Conversation([*self._chat, user(question)]).trim(**HISTORY)
        task = TextGeneration(self._chat, max_tokens=200)
        async with self._ai.stream(MIND, task) as tokens:
            try:
                await self._voice.say(self._relay(tokens.text()))
                await self._voice.flush()
            finally:  # Also if it was interrupted: the model should know what it said.
                if tokens.answer.text:
                    self._chat = Conversation([*self._chat, assistant(tokens.answer.text)])

    async def _relay(self, pieces: AsyncIterator[str]) -> AsyncIterator[str]:
        text = ""
        async for piece in pieces:
            text += piece
            await self._tell("model", text)
            yield piece

    async def _play(self) -> None:
        async for event in self._voice.events():
            if isinstance(event, AudioChunk):
                await self._socket.send_bytes(event.data)

    async def _tell(self, kind: str, text: str = "", **fields: Any) -> None:
        await self._socket.send_json({"type": kind, "text": text, **fields})


@web.middleware
async def check_host(request: web.Request, handler: Handler) -> web.StreamResponse:
    origin = request.headers.get("Origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.host
    if request.host.partition(":")[0] not in HOSTS or foreign:
        # Any site can open a WebSocket to this machine: only the page here may.
        raise web.HTTPBadRequest(text="unknown host name")
    return await handler(request)


async def page(request: web.Request) -> web.StreamResponse:
    return web.FileResponse(PAGE, headers=PAGE_HEADERS)


async def call(request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse(heartbeat=20)
    await socket.prepare(request)
    ai, sound = request.app[AI], microphone(socket)
    try:
        async with (
            ai.listen(EARS, encoding="linear16", sample_rate=16000, audio=sound) as ears,
            ai.speak(VOICE) as voice,
        ):
            await Call(socket, ai, ears, voice).run()
    except* ConnectionError:
        pass  # The page was closed.
    except* CfaiError as errors:
        for error in errors.exceptions:
            logging.getLogger(__name__).warning("the call failed: %s", error)
        with suppress(ConnectionError):
            await socket.send_json({"type": "error", "text": "The call failed. Try again."})
    await socket.close()
    return socket


def application(*, local: bool = False) -> web.Application:
    app = web.Application(middlewares=[check_host])
    app[LOCAL] = local
    app.cleanup_ctx.append(client)
    app.add_routes([web.get("/", page), web.get("/call", call)])
    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A voice chat in the browser, on aiohttp.")
    parser.add_argument("--local", action="store_true", help="use small local models")
    parser.add_argument("--port", type=int, default=8080)
    options = parser.parse_args()
    app = application(local=options.local)
    web.run_app(app, host="127.0.0.1", port=options.port, shutdown_timeout=1)
