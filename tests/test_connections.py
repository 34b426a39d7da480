"""One aiohttp session per event loop, over loops, threads, forks, proxies and borrowed sessions."""

import asyncio
import gc
import os
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from cfai import Prompt, WorkersAI
from cfai.errors import (
    BadRequest,
    CfaiError,
    ConfigError,
    ConnectError,
    InputError,
    RequestTimeout,
    StatusError,
)
from cfai.settings import Gateway, Options, Retries, Timeouts
from cfai.testing import FakeWorkersAI

MODEL = "@cf/meta/llama-3.1-8b-instruct"
ASKED = Prompt("Hello?")
OK = {"response": "Hello"}
NEVER = Retries(max=0)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def ask(client: WorkersAI) -> str:
    return (await client.run(MODEL, ASKED)).text


PROGRAM = """
import asyncio, gc, os, sys, threading
from cfai import Prompt, WorkersAI
from cfai.errors import CfaiError, ConfigError

ai = WorkersAI(account_id="a", api_token="t", base_url=sys.argv[1])

async def ask(client=ai):
    return (await client.run("@cf/a/b", Prompt("Hello?"))).text
"""


async def outcome(program: str, fake: FakeWorkersAI) -> tuple[int | None, str, str]:
    """Run a program in which every warning is an error, and that talks to *fake*."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-X", "dev", "-c", PROGRAM + program, fake.base_url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode, out.decode(), err.decode()


PROGRAMS = {
    "closed by its loop": ("print(asyncio.run(ask()))", "Hello\n", 1),
    "two loops, one after the other": (
        "print(asyncio.run(ask()), asyncio.run(ask()))",
        "Hello Hello\n",
        2,
    ),
    "used twice in a loop": (
        """
async def main():
    return [await ask(), await ask()]
print(asyncio.run(main()))
""",
        "['Hello', 'Hello']\n",
        1,
    ),
    "left open beside an error": (
        """
async def main():
    await ask()
    raise SystemExit(0)
asyncio.run(main())
""",
        "",
        1,
    ),
    "closed in another loop": (
        """
asyncio.run(ask())
asyncio.run(ai.aclose())
try:
    asyncio.run(ask())
except ConfigError as exc:
    print("closed" in str(exc))
""",
        "True\n",
        1,
    ),
    "dropped in its loop": (
        """
async def main():
    global ai
    await ask()
    del ai
    gc.collect()
    for _ in range(5):
        await asyncio.sleep(0)
asyncio.run(main.__func__() if hasattr(main, "__func__") else main()) if False else None
async def dropped():
    client = WorkersAI(account_id="a", api_token="t", base_url=sys.argv[1])
    print(await ask(client))
asyncio.run(dropped())
""",
        "Hello\n",
        1,
    ),
    "a stream left open": (
        """
async def main():
    tokens = ai.stream("@cf/a/b", {"prompt": "stream"})
    async for token in tokens:
        print(token)
        break
asyncio.run(main())
""",
        "Hel\n",
        1,
    ),
    "a call under way": (
        """
async def main():
    task = asyncio.create_task(ai.run("@cf/a/b", {"prompt": "stall"}))
    print(await ask())
asyncio.run(main())
""",
        "Hello\n",
        2,
    ),
    "never used": ("asyncio.run(ai.aclose())", "", 0),
    "made and dropped": ("del ai", "", 0),
    "four threads with loops of their own": (
        """
def work():
    for _ in range(3):
        assert asyncio.run(ask()) == "Hello"
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(asyncio.run(ask()))
""",
        "Hello\n",
        13,
    ),
    "closed from another thread": (
        """
ready, closed = threading.Event(), threading.Event()
def work():
    async def main():
        await ask()
        ready.set()
        while ai._session.connections._loops:
            await asyncio.sleep(0.001)
        for _ in range(20):
            await asyncio.sleep(0)
    asyncio.run(main())
thread = threading.Thread(target=work)
thread.start()
ready.wait()
asyncio.run(ai.aclose())
thread.join()
""",
        "",
        1,
    ),
}


def replies(request: Any) -> Any:
    return {"response": "Hello"}


@pytest.mark.parametrize("name", PROGRAMS)
async def test_a_client_of_the_whole_program(fake: FakeWorkersAI, name: str) -> None:
    """It serves every loop there is and was, and is closed with each, without a warning."""
    program, printed, connections = PROGRAMS[name]
    if "stream" in name:
        fake.streams("Hel", asyncio.Event())
    elif "under way" in name:
        fake.answers_by(by_prompt).answers_by(by_prompt)
    fake.always.answers(OK)
    assert await outcome(program, fake) == (0, printed, "")
    await fake.until(lambda: fake.connections == 0)
    assert fake.accepted == connections
