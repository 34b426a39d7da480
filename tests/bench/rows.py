"""The rows: what is compared, and the budgets of cfai. Add new rows here."""

from __future__ import annotations

import json
import random

import orjson
from attrs import evolve

from cfai.media import Integers

from .contender import MANY_TEXTS, MILLION, WINDOW
from .measure import Budget, Making, Race, Row, Snippet, Startup
from .server import (
    BURST_EVENTS,
    DIMENSION,
    FEW_EVENTS,
    PACED_EVENTS,
    RUN_CHARACTERS,
    SMALL_DIMENSION,
    TEXTS,
    stream_characters,
)

_OURS = "cfai"

_RUN = Race(
    key="run",
    title="One small JSON answer, one call at a time",
    about="The request is a prompt; the answer has ten words and the usage.",
    unit="call",
    scenario="run",
    work="run",
    expects=RUN_CHARACTERS,
    times=200,
    budgets=(Budget(_OURS, 1.25),),
)

_BURST = Race(
    key="burst",
    title="A stream in bursts",
    about=(
        f"{BURST_EVENTS:,} events, each its own HTTP chunk, written at once, so that many share "
        "a packet. The cost of the request is included."
    ),
    unit="event",
    scenario="burst",
    work="stream",
    expects=stream_characters(BURST_EVENTS),
    units=BURST_EVENTS,
    times=3,
    budgets=(Budget(_OURS, 1.35),),
)

_STREAMS_32 = Race(
    key="streams-32",
    title="32 streams at once",
    about=(
        f"Each stream has {FEW_EVENTS} events, about one per millisecond. The cost of the request "
        "is included."
    ),
    unit="event",
    scenario="paced-shortly",
    work="stream_in_crowd",
    expects=stream_characters(FEW_EVENTS),
    units=FEW_EVENTS,
    times=160,
    in_flight=32,
)

_OURS_IMPORTED = "cfai imported"
_OURS_CLIENT = "cfai and a client"
_BARE_ANSWER = "aiohttp + orjson"
_ASK_BARE = """
import asyncio, aiohttp, orjson, sys
async def main():
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        url = sys.argv[1] + "/client/v4/accounts/a/ai/run/@cf/a/b"
        async with session.post(url, data=orjson.dumps({"prompt": "hi"})) as response:
            orjson.loads(await response.read())["result"]["response"]
asyncio.run(main())
"""
_ASK_OURS = """
import asyncio, sys
from cfai import Prompt, WorkersAI
async def main():
    url = sys.argv[1] + "/client/v4"
    async with WorkersAI(account_id="a", api_token="t", base_url=url) as ai:
        (await ai.run("@cf/a/b", Prompt("hi"))).text
asyncio.run(main())
"""


def _command(*arguments: str) -> str:
    """A program that runs the command `cfai`, without its output."""
    return f"""
import os, sys
os.environ.update(CLOUDFLARE_ACCOUNT_ID="a", CLOUDFLARE_API_TOKEN="t")
os.environ["CLOUDFLARE_BASE_URL"] = sys.argv[1] + "/client/v4"
sys.stdout = open(os.devnull, "w")
sys.argv[1:] = {list(arguments)!r}
from cfai.__main__ import main
main()
"""


_ASK_OFFICIAL = """
import asyncio, sys
from cloudflare import AsyncCloudflare
async def main():
    async with AsyncCloudflare(api_token="t", base_url=sys.argv[1] + "/client/v4") as client:
        (await client.ai.run("llama", account_id="a", prompt="hi"))["response"]
asyncio.run(main())
"""
_ASK_OPENAI = """
import asyncio, sys
from openai import AsyncOpenAI
async def main():
    async with AsyncOpenAI(api_key="t", base_url=sys.argv[1] + "/ai/v1") as client:
        messages = [{"role": "user", "content": "hi"}]
        answer = await client.chat.completions.create(model="@cf/a/b", messages=messages)
        answer.choices[0].message.content
asyncio.run(main())
"""

_AUDIO = random.Random(4).randbytes(1_000_000)

_RUN_64 = evolve(
    _RUN,
    key="run-64",
    title="Small JSON answers, 64 calls in flight",
    about="The server takes 20 ms per call, and 64 calls are in flight at any time.",
    scenario="run-20ms",
    times=640,
    in_flight=64,
    budgets=(Budget(_OURS, 1.35),),
)

_CHAT = evolve(
    _RUN,
    key="chat",
    title="A chat of two messages, one call at a time",
    about="The request is a list of two messages; the answer is the same.",
    work="chat",
    budgets=(Budget(_OURS, 1.45),),
)

_EMBED_MANY = Race(
    key="embed-many",
    title=f"{MANY_TEXTS:,} texts, {TEXTS} per request",
    about=(
        f"Texts from a generator, {WINDOW} requests in flight, vectors of {SMALL_DIMENSION} "
        "numbers as float32 (lists in litellm and LangChain). The floor is a loop written by "
        "hand, without retries or limits."
    ),
    unit="text",
    scenario="embed-small",
    work="embed_many",
    expects=MANY_TEXTS * SMALL_DIMENSION,
    units=MANY_TEXTS,
    times=1,
    budgets=(Budget(_OURS, 1.1),),
)

ROWS: tuple[Row, ...] = (
    _RUN,
    _RUN_64,
    _CHAT,
    evolve(
        _CHAT,
        key="chat-64",
        title="Chats of two messages, 64 calls in flight",
        about="The server takes 20 ms per call, and 64 calls are in flight at any time.",
        scenario="run-20ms",
        times=640,
        in_flight=64,
        budgets=(Budget(_OURS, 1.5),),
    ),
    evolve(
        _RUN_64,
        key="run-500",
        title="Small JSON answers, 500 calls in flight",
        about="The server takes 20 ms per call; `limit` is 500, and 500 calls are in flight.",
        work="run_in_crowd",
        times=2000,
        in_flight=500,
        budgets=(),
    ),
    _BURST,
    evolve(
        _BURST,
        key="blocks",
        title="A stream in blocks of 16 KiB",
        about=(
            f"The same {BURST_EVENTS:,} events in HTTP chunks of 16 KiB, which end inside an event."
        ),
        scenario="blocks",
        budgets=(Budget(_OURS, 2.0),),
    ),
    evolve(
        _BURST,
        key="burst-chat",
        title="The same bytes for every client",
        about=(
            f"{BURST_EVENTS:,} events in bursts, in the longer chat-completion format for "
            "every contender. In the other stream rows, only clients of the OpenAI endpoint get "
            "this format; the others get the service's own."
        ),
        scenario="burst-chat",
        work="stream_chat",
        budgets=(Budget(_OURS, 1.3),),
    ),
    evolve(
        _BURST,
        key="burst-usage",
        title="Usage in every event",
        about=f"{BURST_EVENTS:,} events in bursts, each with a piece of text and the token counts.",
        scenario="burst-usage",
        budgets=(),
    ),
    evolve(
        _BURST,
        key="burst-reasoning",
        title="Reasoning in every event",
        about=f"{BURST_EVENTS:,} events in bursts, each with a piece of reasoning as a chat chunk.",
        scenario="burst-reasoning",
        work="stream_reasoning",
        budgets=(),
    ),
    evolve(
        _BURST,
        key="burst-calls",
        title="A piece of a tool call in every event",
        about=f"{BURST_EVENTS:,} events in bursts, each with a piece of arguments as a chat chunk.",
        scenario="burst-calls",
        work="stream_calls",
        budgets=(),
    ),
    Race(
        key="paced",
        title="A stream, one token per wake-up",
        about=(
            f"{PACED_EVENTS} events, about one per millisecond, so that the event loop wakes up "
            "for each of them, as with a real model."
        ),
        unit="event",
        scenario="paced",
        work="stream",
        expects=stream_characters(PACED_EVENTS),
        units=PACED_EVENTS,
        times=1,
        budgets=(Budget(_OURS, 1.1),),
    ),
    _STREAMS_32,
    evolve(_STREAMS_32, key="streams-500", title="500 streams at once", times=500, in_flight=500),
    Race(
        key="embed",
        title=f"{TEXTS} embeddings of {DIMENSION} numbers",
        about=(
            "The response is 1.8 MB of JSON. The cost of the socket is subtracted before the ratio "
            "is computed."
        ),
        unit="answer",
        scale="ms",
        less="aiohttp, answer not decoded",
        scenario="embed",
        work="embed",
        expects=TEXTS * DIMENSION,
        times=5,
        budgets=(Budget(_OURS, 1.6),),
    ),
    _EMBED_MANY,
    evolve(
        _EMBED_MANY,
        key="embed-million",
        title=f"{MILLION:,} texts in one job",
        about=(
            "The same with a million texts, in two rounds. litellm and LangChain embed "
            f"{MANY_TEXTS:,} in the row before, since LangChain holds all of them in memory."
        ),
        work="embed_million",
        expects=MILLION * SMALL_DIMENSION,
        units=MILLION,
        is_long=True,
    ),
    Making(
        key="audio",
        title="1 MB of audio as JSON integers",
        about="Some models accept audio only as a list of integers. Nothing is sent.",
        unit="MB",
        scale="ms",
        floor="orjson.dumps(list(audio))",
        makers={
            "orjson.dumps(list(audio))": lambda: orjson.dumps(list(_AUDIO)),
            "json.dumps(list(audio))": lambda: json.dumps(list(_AUDIO)).encode(),
            _OURS: lambda: [len(piece) for piece in Integers(_AUDIO)],
        },
        budgets=(Budget(_OURS, 0.4),),
        max_bytes=2_000_000,
    ),
    Startup(
        key="import",
        title="Import time",
        about=(
            "An interpreter starts, imports, and exits. The cost of a bare interpreter is "
            "subtracted."
        ),
        unit="start",
        scale="ms",
        floor="aiohttp imported",
        less="bare Python",
        snippets={
            "bare Python": Snippet("pass"),
            "aiohttp imported": Snippet("import aiohttp", ("aiohttp",)),
            _OURS_IMPORTED: Snippet("import cfai", ("cfai",)),
            _OURS_CLIENT: Snippet(
                "from cfai import WorkersAI; WorkersAI(account_id='a', api_token='t')", ("cfai",)
            ),
            "httpx imported": Snippet("import httpx", ("httpx",)),
            "cloudflare imported": Snippet("import cloudflare", ("cloudflare",)),
            "cloudflare and a client": Snippet(
                "from cloudflare import AsyncCloudflare; AsyncCloudflare(api_token='t')",
                ("cloudflare",),
            ),
            "huggingface_hub and a client": Snippet(
                "from huggingface_hub import AsyncInferenceClient; AsyncInferenceClient()",
                ("huggingface_hub",),
            ),
            "openai imported": Snippet("import openai", ("openai",)),
            "openai and a client": Snippet(
                "from openai import AsyncOpenAI; AsyncOpenAI(api_key='t')", ("openai",)
            ),
        },
        budgets=(
            Budget(_OURS_IMPORTED, 0.020, absolute=True),
            Budget(_OURS_CLIENT, 1.12),
        ),
    ),
    Startup(
        key="command",
        title="Start of the command line",
        about="An interpreter runs the command and exits; `cfai chat` sends a question.",
        unit="start",
        scale="ms",
        floor="aiohttp imported",
        less="bare Python",
        snippets={
            "bare Python": Snippet("pass"),
            "aiohttp imported": Snippet("import aiohttp", ("aiohttp",)),
            "cfai --help": Snippet(_command("--help"), ("cfai", "click")),
            "cfai chat": Snippet(_command("chat", "Why?"), ("cfai", "click")),
        },
    ),
    Startup(
        key="first-answer",
        title="Time to the first answer",
        about="An interpreter starts, imports, sends one request, reads the answer and exits.",
        unit="start",
        scale="ms",
        floor=_BARE_ANSWER,
        less="bare Python",
        snippets={
            "bare Python": Snippet("pass"),
            _BARE_ANSWER: Snippet(_ASK_BARE, ("aiohttp", "orjson")),
            _OURS: Snippet(_ASK_OURS, ("cfai",)),
            "cloudflare": Snippet(_ASK_OFFICIAL, ("cloudflare",)),
            "openai": Snippet(_ASK_OPENAI, ("openai",)),
        },
        budgets=(Budget(_OURS, 1.15),),
    ),
)
