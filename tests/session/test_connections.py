"""Connections over event loops, threads, forks and proxies, and with the user's own session."""

import asyncio
import gc
import os
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from cfai import Prompt, SpeechSynthesis, WorkersAI
from cfai.errors import (
    BadRequest,
    CfaiError,
    ConfigError,
    ConnectError,
    DecodeError,
    InputError,
    RequestTimeout,
    StatusError,
    TransportError,
)
from cfai.settings import Gateway, Options, Retries, Timeouts
from cfai.testing import FakeWorkersAI

MODEL = "@cf/meta/llama-3.1-8b-instruct-fast"
PROMPT = Prompt("Hello?")
OK = {"response": "Hello"}
NEVER = Retries(max=0)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def ask(client: WorkersAI) -> str:
    return (await client.run(MODEL, PROMPT)).text


PROGRAM = """
import asyncio, gc, os, sys, threading
from cfai import Prompt, WorkersAI
from cfai.errors import CfaiError, ConfigError

ai = WorkersAI(account_id="a", api_token="t", base_url=sys.argv[1])

async def ask(client=ai):
    return (await client.run("@cf/a/b", Prompt("Hello?"))).text
"""


async def run_program(
    program: str, fake: FakeWorkersAI, *flags: str
) -> tuple[int | None, str, str]:
    """Run a program that talks to *fake*, by default with all warnings as errors."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *(flags or ("-W", "error")), "-c", PROGRAM + program, fake.base_url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 100)
    return process.returncode, out.decode(), err.decode()


async def test_vectors_that_are_none_keep_their_response(fake: FakeWorkersAI) -> None:
    """Vectors of a large body are decoded late: the error has the body and the facts, too."""
    row = ",".join(["0.25"] * 4000)
    body = f'{{"result":{{"shape":[1,4001],"data":[[{row},"fake-api-token"]]}},"success":true}}'
    fake.says(body, headers={"cf-ray": "8c1"})
    with pytest.raises(DecodeError) as caught:
        await fake.client().embed("@cf/baai/bge-m3", ["one"])
    error = caught.value
    assert error.meta is not None
    assert (error.meta.status, error.meta.ray_id) == (200, "8c1")
    assert error.body
    assert "fake-api-token" not in f"{error} {error.body!r}"


def test_sessions_of_closed_loops_are_forgotten() -> None:
    """A program that calls `asyncio.run` again and again keeps one session, and not all."""

    ai = WorkersAI(
        account_id="a", api_token="t", base_url="http://127.0.0.1:9", retries=Retries(max=0)
    )
    for _ in range(3):
        with pytest.raises(ConnectError):
            asyncio.run(ask(ai))
        assert len(ai._account.session.connections._loops) == 1
    asyncio.run(ai.aclose())


PROGRAMS = {
    "closed by its loop": ("print(asyncio.run(ask()))", "Hello\n", 1),
    "two loops, one after the other": (
        "print(asyncio.run(ask()), asyncio.run(ask()))",
        "Hello Hello\n",
        2,
    ),
    "twice in a loop": (
        """
async def main():
    return [await ask(), await ask()]
print(asyncio.run(main()))
""",
        "['Hello', 'Hello']\n",
        1,
    ),
    "left open by an error": (
        """
async def main():
    await ask()
    sys.exit(0)
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
    "a stream left open": (
        """
async def main():
    async for token in ai.stream("@cf/stream/x", Prompt("Hello?")):
        print(token)
        break
asyncio.run(main())
""",
        "Hel\n",
        1,
    ),
    "a stream kept open": (
        """
kept = []
async def main():
    kept.append(await ai.stream("@cf/stream/x", Prompt("Hello?")).open())
asyncio.run(main())
print(kept)
""",
        "[<TokenStream open, 0 events>]\n",
        1,
    ),
    "a call under way": (
        """
async def main():
    task = asyncio.create_task(ai.run("@cf/stall/x", Prompt("Hello?")))
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
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
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
        await asyncio.to_thread(closed.wait)
        try:
            await ask()
        except ConfigError:
            print("closed")
    asyncio.run(main())
thread = threading.Thread(target=work)
thread.start()
ready.wait()
asyncio.run(ai.aclose())
closed.set()
thread.join()
""",
        "closed\n",
        1,
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
async def test_one_client_for_many_event_loops(fake: FakeWorkersAI, name: str) -> None:
    """It works in every loop, and its connections are closed with each loop, without a warning."""
    program, printed, connections = PROGRAMS[name]
    fake.on("@cf/stream").streams("Hel", asyncio.Event())
    fake.on("@cf/stall").stalls()
    fake.always.answers(OK)
    assert await run_program(program, fake) == (0, printed, "")
    await fake.until(lambda: fake.connections == 0)
    assert fake.accepted == connections


# What asyncio's debug mode logs about a slow machine.
NO_DELAYS = """
import logging
logging.getLogger("asyncio").addFilter(lambda record: "Executing" not in record.msg)
"""

STREAMS = {
    "a stream": 'kept = await ai.stream("@cf/stream/x", Prompt("Hello?")).open()',
    "a stream that was read": """
    kept = ai.stream("@cf/stream/x", Prompt("Hello?"))
    await anext(kept)
""",
    "the relay of a stream": """
    kept = ai.stream("@cf/stream/x", Prompt("Hello?")).sse()
    await anext(kept)
""",
    "a tool run": """
    kept = ai.run_tools("@cf/stream/x", "Hello?", tools=[], stream=True)
    await anext(kept)
""",
    "a client": 'kept = WorkersAI(account_id="a", api_token="t", base_url=sys.argv[1])\n'
    "    await ask(kept)",
}


@pytest.mark.parametrize("in_cycle", [False, True])
@pytest.mark.parametrize("name", STREAMS)
async def test_what_is_open_at_exit_prints_nothing(
    fake: FakeWorkersAI, name: str, in_cycle: bool
) -> None:
    """Not in Python's development mode, either."""
    fake.on("@cf/stream").streams("Hel", asyncio.Event())
    fake.always.answers(OK)
    program = f"""{NO_DELAYS}
async def main():
    global kept
    {STREAMS[name]}
asyncio.run(main())
kept = [kept]
{"kept.append(kept)" if in_cycle else ""}
"""
    assert await run_program(program, fake, "-X", "dev") == (0, "", "")
    await fake.until(lambda: fake.connections == 0)


NO_SHUTDOWN = {
    "closed loops": """
for _ in range(3):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(ask())
    loop.close()
""",
    "a loop that is never closed": """
loop = asyncio.new_event_loop()
loop.run_until_complete(ask())
""",
    "a stream of a closed loop": """
loop = asyncio.new_event_loop()
kept = loop.run_until_complete(ai.stream("@cf/stream/x", Prompt("Hello?")).open())
loop.close()
""",
    "a stream that is deleted after its loop was closed": """
loop = asyncio.new_event_loop()
kept = loop.run_until_complete(ai.stream("@cf/stream/x", Prompt("Hello?")).open())
loop.close()
del kept
""",
    "a stream that is deleted after its loop was closed, and its client later": """
loop = asyncio.new_event_loop()
kept = loop.run_until_complete(ai.stream("@cf/stream/x", Prompt("Hello?")).open())
loop.close()
del kept
ask.__defaults__ = ()
ai.cycle = ai
del ai
gc.collect()
""",
    "a stream of a loop that is never closed": """
loop = asyncio.new_event_loop()
kept = loop.run_until_complete(ai.stream("@cf/stream/x", Prompt("Hello?")).open())
""",
    "a client that is closed in another loop": """
loop = asyncio.new_event_loop()
loop.run_until_complete(ask())
asyncio.run(ai.aclose())
""",
    "a client that is deleted after its loop was closed": """
loop = asyncio.new_event_loop()
loop.run_until_complete(ask())
loop.close()
ask.__defaults__ = ()
ai.cycle = ai
del ai
gc.collect()
""",
    "a client that is deleted before its loop is closed": """
loop = asyncio.new_event_loop()
loop.run_until_complete(ask())
ask.__defaults__ = ()
ai.cycle = ai
del ai
gc.collect()
loop.close()
""",
    "a client and a loop that are deleted together": """
def work():
    client = WorkersAI(account_id="a", api_token="t", base_url=sys.argv[1])
    asyncio.new_event_loop().run_until_complete(ask(client))
work()
gc.collect()
""",
    "a thread that still runs": """
reads = threading.Event()
async def read():
    kept = await ai.stream("@cf/stream/x", Prompt("Hello?")).open()
    await anext(kept)
    reads.set()
    await anext(kept)
threading.Thread(target=asyncio.run, args=[read()], daemon=True).start()
reads.wait()
""",
}


@pytest.mark.parametrize("name", NO_SHUTDOWN)
async def test_loops_without_a_shutdown_leave_no_noise(fake: FakeWorkersAI, name: str) -> None:
    """Nothing about unclosed sessions or connections is logged."""
    fake.on("@cf/stream").streams("Hel", asyncio.Event())
    fake.always.answers(OK)
    assert await run_program(NO_SHUTDOWN[name], fake, "-u") == (0, "", "")
    await fake.until(lambda: fake.connections == 0)


@pytest.mark.parametrize("name", NO_SHUTDOWN)
async def test_loops_without_a_shutdown_leave_no_warnings_of_aiohttp(
    fake: FakeWorkersAI, name: str
) -> None:
    """Those of asyncio remain if they are asked for: the loop or its sockets were not closed."""
    fake.on("@cf/stream").streams("Hel", asyncio.Event())
    fake.always.answers(OK)
    status, _, errors = await run_program(NO_SHUTDOWN[name], fake, "-u", "-W", "always")
    assert status == 0
    assert "Unclosed" not in errors


FORGOTTEN = {
    "without references": "del client",
    "in a cycle": "client.cycle = client; del client; gc.collect()",
    "in a cycle with its stream": """
    client.kept = [client, await client.stream("@cf/stream/x", Prompt("Hello?")).open()]
    del client
    gc.collect()
""",
    "with its copies": """
    client.kept = [client, client.with_options(), client.with_options()]
    del client
    gc.collect()
""",
}


@pytest.mark.parametrize("name", FORGOTTEN)
async def test_a_client_that_is_never_closed_warns_once(fake: FakeWorkersAI, name: str) -> None:
    """In the SDK's words, and its connections are closed."""
    fake.on("@cf/stream").streams("Hel", asyncio.Event())
    fake.always.answers(OK)
    program = f"""
async def main():
    client = WorkersAI(account_id="a", api_token="t", base_url=sys.argv[1])
    await ask(client)
    {FORGOTTEN[name]}
    print("goes on")
    await ask()
asyncio.run(main())
"""
    await check_warning(fake, program, "goes on\n")


DROPPED = {
    # Without the relay: its task keeps the client until the event loop ends.
    **{
        name: STREAMS[name].replace("ai.", "client.")
        for name in ("a stream", "a stream that was read", "a tool run")
    },
    "a stream that was cut": """
    try:
        kept = await client.stream("@cf/cut/x", Prompt("Hello?")).collect()
    except StreamInterrupted as exc:
        kept = exc
""",
    "an answer that was cut": """
    try:
        kept = await client.run("@cf/cut/x", "Hello?")
    except ConnectionLost as exc:
        kept = exc
""",
}


@pytest.mark.parametrize("in_cycle", [False, True])
@pytest.mark.parametrize("name", DROPPED)
async def test_a_client_that_is_dropped_with_what_it_opened_warns_once(
    fake: FakeWorkersAI, name: str, in_cycle: bool
) -> None:
    """Although a response and its session are a cycle by themselves."""
    event = b'data: {"response":"Hel"}\n\n'
    fake.on("@cf/stream").streams("Hel", asyncio.Event())
    fake.on("@cf/cut").says(
        event, content_type="text/event-stream", framing="chunked", then_hangs_up=True
    )
    fake.always.answers(OK)
    program = f"""
from cfai import ConnectionLost, Retries, StreamInterrupted
async def work():
    retries = Retries(max=0)
    url = sys.argv[1]
    client = WorkersAI(account_id="a", api_token="t", base_url=url, retries=retries)
    {DROPPED[name]}
    {"client.kept = [client, kept]" if in_cycle else ""}
async def main():
    await work()
    # Since 3.12, the call that wakes a task keeps what it waited for, with its error and frames.
    await asyncio.sleep(0)
    gc.collect()
    gc.collect()
    print("goes on")
    await ask()
asyncio.run(main())
"""
    await check_warning(fake, program, "goes on\n")


async def check_warning(fake: FakeWorkersAI, program: str, printed: str) -> None:
    code, out, errors = await run_program(program, fake, "-W", "always::ResourceWarning")
    assert (code, out, errors.count("never closed")) == (0, printed, 1), errors
    assert "ResourceWarning: a client of cfai was never closed: use `async with`" in errors
    assert "Unclosed" not in errors
    await fake.until(lambda: fake.connections == 0)


async def test_a_client_forgotten_between_two_runs_of_its_loop_warns_once(
    fake: FakeWorkersAI,
) -> None:
    """Its connections are closed when the loop runs again."""
    fake.always.answers(OK)
    program = """
loop = asyncio.new_event_loop()
loop.run_until_complete(ask())
ask.__defaults__ = ()
ai.cycle = ai
del ai
gc.collect()
loop.run_until_complete(asyncio.sleep(0))
loop.close()
"""
    await check_warning(fake, program, "")


LAST = {
    "without references": "",
    "in a cycle": "client.cycle = client",
    "with an open stream": """
    client.kept = client, await client.stream("@cf/stream/x", Prompt("Hello?")).open()
""",
    "with a stream that was read": """
    client.kept = client, client.stream("@cf/stream/x", Prompt("Hello?"))
    await anext(client.kept[1])
""",
}


# A loop has to run on for a moment to hear of what another thread deleted.
@pytest.mark.parametrize(
    ("collect", "ticks"),
    [*(("gc.collect()", ticks) for ticks in range(4)), ("in_thread(gc.collect)", 2)],
)
@pytest.mark.parametrize("name", LAST)
async def test_a_client_forgotten_shortly_before_its_loop_ends_is_closed(
    fake: FakeWorkersAI, name: str, collect: str, ticks: int
) -> None:
    """Nobody shuts the loop down, which therefore has no time for a task."""
    fake.on("@cf/stream").streams("Hel", asyncio.Event())
    fake.always.answers(OK)
    program = f"""{NO_DELAYS}
def in_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()
async def main():
    client = WorkersAI(account_id="a", api_token="t", base_url=sys.argv[1])
    await ask(client)
    {LAST[name]}
    del client
    {collect}
    for _ in range({ticks}):
        await asyncio.sleep(0)
gc.disable()
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
loop.close()
gc.collect()
"""
    code, out, errors = await run_program(program, fake, "-X", "dev")
    assert (code, out, errors.count("never closed")) == (0, "", 1), errors
    assert errors.count("Warning") == 1, errors
    assert "Task" not in errors
    await fake.until(lambda: fake.connections == 0)


async def open_relay(client: WorkersAI) -> object:
    relay = client.stream("@cf/stream/x", PROMPT).sse()
    await anext(relay)
    await anext(relay)
    return relay


async def open_run(client: WorkersAI) -> object:
    run = client.run_tools("@cf/stream/x", "Hello?", tools=[], stream=True)
    await anext(run)
    return run


OPENED: dict[str, Callable[[WorkersAI], Awaitable[object]]] = {
    "a stream": lambda client: client.stream("@cf/stream/x", PROMPT).open(),
    "a relay": open_relay,
    "a tool run": open_run,
    "sound": lambda client: client.audio("@cf/sound/x", SpeechSynthesis("Hello")).open(),
    "a session": lambda client: client.listen("@cf/deepgram/nova-3").open(),
}


@pytest.mark.parametrize("name", OPENED)
async def test_what_another_thread_deletes_is_closed_by_its_loop(
    fake: FakeWorkersAI, name: str
) -> None:
    """The garbage collector runs in any thread, and asyncio's objects are used in one only."""
    fake.on("@cf/stream").streams("Hel", asyncio.Event())
    fake.on("@cf/sound").says(b"ID3", asyncio.Event(), content_type="audio/mpeg", framing="chunked")
    fake.on("@cf/deepgram").connects()
    client = fake.client()
    asyncio.get_running_loop().set_debug(True)  # A call from another thread is an error.
    gc.disable()
    try:
        cycle = [await OPENED[name](client)]
        cycle.append(cycle)
        del cycle
        await asyncio.to_thread(gc.collect)
    finally:
        gc.enable()
    await fake.until(lambda: fake.connections == 0)


FORKS = {
    "the child uses it": ("assert asyncio.run(ask()) == 'Hello'", 2),
    "the child closes it": ("asyncio.run(ai.aclose())", 1),
    "the child uses and closes it": (
        "assert asyncio.run(ask()) == 'Hello'; asyncio.run(ai.aclose())",
        2,
    ),
    "the child drops it": ("globals().pop('ai'); ask.__defaults__ = (); gc.collect()", 1),
}

FORK = """
async def main():
    print(await ask())
    child = os.fork()
    if not child:
        {child}
        os._exit(0)
    print(os.waitpid(child, 0)[1])
    print(await ask())
    await ai.aclose()
asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("name", FORKS)
async def test_a_fork_leaves_the_connections_to_the_parent(fake: FakeWorkersAI, name: str) -> None:
    """The child opens its own connections, and those of the parent are not affected."""
    child, connections = FORKS[name]
    fake.always.answers(OK)
    assert await run_program(FORK.format(child=child), fake) == (0, "Hello\n0\nHello\n", "")
    assert fake.requests[0].connection == fake.requests[-1].connection == 1
    assert fake.accepted == connections


# Closing


async def test_closing_is_idempotent(fake: FakeWorkersAI) -> None:
    """`aclose` and `close` are the same; the connections are closed."""
    fake.always.answers(OK)
    client = fake.client()
    async with client:
        assert await ask(client) == "Hello"
    await fake.until(lambda: fake.connections == 0)
    await client.aclose()
    await client.close()
    never = fake.client()
    await never.aclose()
    await never.aclose()


async def test_a_closed_client_refuses_calls(fake: FakeWorkersAI) -> None:
    """Calls and streams raise `ConfigError`, and nothing is sent."""
    client = fake.client()
    copy = client.with_options()
    waiting = client.stream(MODEL, PROMPT)
    await client.aclose()
    for closed in (client, copy):
        with pytest.raises(ConfigError, match="closed"):
            await ask(closed)
        with pytest.raises(ConfigError, match="closed"):
            await closed.stream(MODEL, PROMPT).collect()
    with pytest.raises(ConfigError, match="closed"):
        await waiting.collect()
    assert fake.accepted == 0


async def test_closing_ends_pending_calls(fake: FakeWorkersAI) -> None:
    """Calls that wait for a response, a slot or a retry end with one of our errors."""
    paused = asyncio.Event()
    client = fake.client(limit=2, retries=Retries(base=0.01, on_retry=lambda _: paused.set()))
    fake.fails(503, 0, "down", retry_after=0.01)
    calls = [asyncio.create_task(ask(client))]
    await paused.wait()
    fake.always.stalls()
    calls += [asyncio.create_task(ask(client)) for _ in range(3)]
    await fake.until(lambda: len(fake.requests) == 3)
    await client.aclose()
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(error, CfaiError) for error in ended)
    assert any(isinstance(error, ConfigError) for error in ended)
    await fake.until(lambda: fake.connections == 0)


async def test_closing_interrupts_streams(fake: FakeWorkersAI) -> None:
    """`StreamInterrupted`, and not a short answer."""
    fake.streams("Hel", asyncio.Event())
    client = fake.client()
    async with client.stream(MODEL, PROMPT) as tokens:
        assert str(await anext(tokens)) == "Hel"
        reading = asyncio.ensure_future(anext(tokens))
        await asyncio.sleep(0)
        await client.aclose()
        with pytest.raises(CfaiError):
            await reading


# Copies


async def test_a_copy_shares_the_connections(fake: FakeWorkersAI) -> None:
    """`with_options` shares connections and slots, and closes nothing."""
    fake.always.answers(OK)
    client = fake.client(limit=1)
    async with client.with_options(retries=NEVER) as copy:
        assert [await ask(client), await ask(copy)] == ["Hello"] * 2
    await copy.aclose()
    assert await ask(client) == "Hello"
    assert fake.accepted == 1
    del client
    gc.collect()
    assert await ask(copy) == "Hello"
    assert fake.accepted == 1


async def test_thousands_of_copies_leave_nothing_behind(fake: FakeWorkersAI) -> None:
    """Neither copies nor connections."""
    fake.always.answers(OK)
    client = fake.client()
    copies = weakref.WeakSet[WorkersAI]()

    async def once() -> str:
        copy = client.with_options(headers={"X-Own": "1"})
        copies.add(copy)
        return await ask(copy)

    for _ in range(50):
        assert await once() == "Hello"
    gc.collect()
    assert not copies
    assert fake.accepted == 1


async def test_a_copy_only_changes_the_given_settings(fake: FakeWorkersAI) -> None:
    """The original does not change."""
    fake.always.answers(OK)
    client = fake.client(
        gateway="own", headers={"X-A": "1", "X-B": "1"}, timeouts=Timeouts(response=3)
    )
    copy = client.with_options(
        headers={"X-B": "2"}, gateway=None, account_id="other", api_token="another-token"
    )
    again = copy.with_options(gateway=Gateway("new", zdr=True), retries=NEVER)
    for caller in (client, copy, again):
        await ask(caller)
    sent = [
        [request.headers.get(name) for name in ("X-A", "X-B", "cf-aig-gateway-id")]
        for request in fake.requests
    ]
    assert sent == [["1", "1", "own"], ["1", "2", None], ["1", "2", "new"]]
    assert [request.path.split("/")[4] for request in fake.requests] == [
        "account",
        "other",
        "other",
    ]
    tokens = [request.headers["Authorization"] for request in fake.requests]
    assert tokens == ["Bearer fake-api-token", *["Bearer another-token"] * 2]
    fake.stalls()
    with pytest.raises(RequestTimeout):
        await ask(again.with_options(timeouts=Timeouts(response=0.02)))
    with pytest.raises(ConfigError, match="api_token"):
        client.with_options(api_token=" ")
    with pytest.raises(InputError, match="Gateway"):
        client.with_options(gateway="")


async def test_a_token_of_a_copy_replaces_email_and_key(fake: FakeWorkersAI) -> None:
    fake.always.answers(OK)
    client = fake.client(api_token=None, api_email="a@b.c", api_key="the-key")
    await ask(client)
    await ask(client.with_options(api_token="a-token"))
    first, second = (request.headers for request in fake.requests)
    assert (first["X-Auth-Email"], first["X-Auth-Key"]) == ("a@b.c", "the-key")
    assert "Authorization" not in first
    assert second["Authorization"] == "Bearer a-token"
    assert not {"x-auth-email", "x-auth-key"} & set(second)


# The user's own session


async def test_the_users_session_is_used_and_never_closed(fake: FakeWorkersAI) -> None:
    """With its connections and its headers."""
    fake.always.answers(OK)
    async with aiohttp.ClientSession(headers={"X-Own": "1"}) as session:
        async with fake.client(session=session) as client:
            assert await ask(client) == "Hello"
        assert not session.closed
        assert fake.requests[0].headers["X-Own"] == "1"
        assert await ask(fake.client(session=session)) == "Hello"
        assert fake.accepted == 1
    with pytest.raises(ConfigError, match="session that was passed is closed"):
        await ask(fake.client(session=session))


async def test_a_closed_session_of_the_user_is_an_error(fake: FakeWorkersAI) -> None:
    """Even if it worked before."""
    fake.always.answers(OK)
    async with aiohttp.ClientSession() as session:
        client = fake.client(session=session)
        assert await ask(client) == "Hello"
    with pytest.raises(ConfigError, match="session that was passed is closed"):
        await ask(client)


async def test_calls_that_wait_while_the_user_closes_the_session_are_an_error(
    fake: FakeWorkersAI,
) -> None:
    """The call that was sent loses its connection; those behind it were not sent."""
    fake.stalls()
    async with aiohttp.ClientSession() as session:
        client = fake.client(session=session, limit=1, retries=NEVER)
        sent = asyncio.create_task(ask(client))
        await fake.until(lambda: fake.requests)
        waiting = [asyncio.create_task(ask(client)) for _ in range(3)]
        await asyncio.sleep(0)
    with pytest.raises(TransportError):
        await sent
    for call in waiting:
        with pytest.raises(ConfigError, match="closed while the call waited"):
            await call
    assert len(fake.requests) == 1


async def test_the_users_session_is_refused_in_another_event_loop(fake: FakeWorkersAI) -> None:
    fake.always.answers(OK)

    def elsewhere() -> None:
        with pytest.raises(ConfigError, match="belongs to another event loop"):
            asyncio.run(ask(client))

    async with aiohttp.ClientSession() as session:
        client = fake.client(session=session)
        assert await ask(client) == "Hello"
        await asyncio.to_thread(elsewhere)
        assert await ask(client) == "Hello"


async def test_closing_a_client_ends_its_streams_on_the_users_session(
    fake: FakeWorkersAI,
) -> None:
    """And only its own."""
    async with aiohttp.ClientSession() as session:
        client, other = fake.client(session=session), fake.client(session=session)
        fake.streams("Hel", asyncio.Event())
        rest = asyncio.Event()
        fake.streams("Hel", rest, "lo")
        async with (
            client.stream(MODEL, PROMPT) as tokens,
            other.stream(MODEL, PROMPT) as others,
        ):
            assert str(await anext(tokens)) == "Hel"
            assert str(await anext(others)) == "Hel"
            reading = asyncio.ensure_future(anext(tokens))
            await asyncio.sleep(0)
            await client.aclose()
            with pytest.raises(CfaiError):
                await reading
            rest.set()
            assert str(await others.collect()) == "Hello"
        assert not session.closed


async def test_defaults_of_the_users_session_do_not_apply(fake: FakeWorkersAI) -> None:
    """Its raise_for_status, timeout and redirects are overridden."""
    async with aiohttp.ClientSession(
        raise_for_status=True,
        timeout=aiohttp.ClientTimeout(total=0.02),
        connector=aiohttp.TCPConnector(limit=1),
    ) as session:
        client = fake.client(session=session, retries=NEVER)
        fake.fails(400, 5006, "bad input")
        with pytest.raises(BadRequest, match="bad input"):
            await ask(client)
        fake.answers(OK, after=0.06)
        assert await ask(client) == "Hello"
        fake.streams("Hel", 0.06, "lo")
        assert str(await client.stream(MODEL, PROMPT).collect()) == "Hello"


async def test_aiohttps_default_timeout_does_not_apply(fake: FakeWorkersAI) -> None:
    """Its total of 300 s would cut long streams."""
    seen: list[Any] = []

    async def look(session: Any, context: SimpleNamespace, params: Any) -> None:
        # aiohttp arms a timer for its total on the running loop, seconds ahead.
        loop: Any = asyncio.get_running_loop()
        seen.extend(
            timer.when() - loop.time() for timer in loop._scheduled if not timer.cancelled()
        )

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(look)
    fake.always.answers(OK)
    none = Timeouts(connect=None, pool=None, response=None, idle=None, content=None, total=None)
    async with aiohttp.ClientSession(trace_configs=[trace]) as session:
        usual = fake.client(session=session)
        await ask(usual)
        await usual.aclose()  # Its one timer, which all its calls share, goes with it.
        assert seen
        assert 290 > max(seen) > 100, "the limit of 120 s is ours"
        seen.clear()
        await ask(fake.client(session=session, timeouts=none))
        assert not [seconds for seconds in seen if seconds > 60]


# Proxies


class Proxy:
    """A forward proxy for plain http, which answers CONNECT with a fixed status."""

    def __init__(self, target: int, refusal: bytes = b"") -> None:
        self.target = target
        self.refusal = refusal
        self.heads: list[str] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        self.heads.append(head)
        method, target, _ = head.split(" ", 2)
        if self.refusal or method == "CONNECT":
            answer = b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n"
            writer.write(answer % (self.refusal or b"501 Not Implemented"))
        else:
            size = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
            path = target.split("/", 3)[3]
            inward, outward = await asyncio.open_connection("127.0.0.1", self.target)
            _, _, rest = head.partition("\r\n")
            outward.write(f"{method} /{path} HTTP/1.1\r\nConnection: close\r\n{rest}".encode())
            outward.write(await reader.readexactly(size))
            writer.write(await inward.read())
            outward.close()
        writer.close()


@asynccontextmanager
async def proxy(target: int = 0, refusal: bytes = b"") -> AsyncIterator[Proxy]:
    it = Proxy(target, refusal)
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0)
    async with server:
        it.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield it


async def test_the_proxy_argument(fake: FakeWorkersAI) -> None:
    """The proxy receives the whole URL, and may require a user name and a password."""
    fake.always.answers(OK)
    async with proxy(fake.port) as way:
        url = way.url.replace("//", "//me:pass%40word@")
        client = fake.client(base_url="http://ai.test/v4", allow_insecure=True, proxy=url)
        assert await ask(client) == "Hello"
        await client.aclose()
    [head] = way.heads
    assert head.startswith(f"POST http://ai.test/v4/accounts/account/ai/run/{MODEL} HTTP/1.1\r\n")
    assert "Host: ai.test\r\n" in head
    assert "Proxy-Authorization: Basic bWU6cGFzc0B3b3Jk\r\n" in head
    assert fake.requests[0].json() == {"prompt": "Hello?"}


async def test_the_proxy_of_the_environment(
    fake: FakeWorkersAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Used except for hosts in `NO_PROXY` and for this machine."""
    fake.always.answers(OK)
    async with proxy(fake.port) as way:
        monkeypatch.setenv("HTTP_PROXY", way.url)
        monkeypatch.setenv("NO_PROXY", "direct.invalid")
        near, far, direct = (
            fake.client(base_url=url, allow_insecure=True, retries=NEVER)
            for url in (fake.base_url, "http://far.invalid/v4", "http://direct.invalid/v4")
        )
        assert await ask(near) == "Hello"
        assert not way.heads
        assert await ask(far) == "Hello"
        assert len(way.heads) == 1
        with pytest.raises(ConnectError):
            await ask(direct)
        assert len(way.heads) == 1
        await far.aclose()


async def test_a_proxy_that_requires_a_login_is_asked_once() -> None:
    """Its 407 is not retried, and the message says where the login belongs."""
    async with proxy(refusal=b"407 Proxy Authentication Required") as way:
        client = WorkersAI(
            account_id="a",
            api_token="t",
            base_url="https://far.invalid",
            proxy=way.url,
            retries=Retries(max=3, base=0),
        )
        async with client:
            with pytest.raises(ConnectError, match=r"requires a login \(407\).*user:password@"):
                await ask(client)
    assert len(way.heads) == 1


@pytest.mark.parametrize("refusal", [b"407 Proxy Authentication Required", b"403 Forbidden"])
async def test_a_proxy_that_refuses_the_connection(fake: FakeWorkersAI, refusal: bytes) -> None:
    """A connect error for https; for http, the response of the proxy."""
    async with proxy(refusal=refusal) as way:
        url = way.url.replace("//", "//me:s3cr3t@")
        far = fake.client(
            base_url="https://far.invalid/v4",
            api_token="t0p-s3cr3t-token",
            proxy=url,
            retries=NEVER,
        )
        with pytest.raises(ConnectError, match=refusal[:3].decode()) as caught:
            await ask(far)
        assert caught.value.permanent == (refusal[:3] == b"407")
        assert "s3cr3t" not in str(caught.value)
        near = fake.client(proxy=url, retries=NEVER)
        with pytest.raises(StatusError) as answered:
            await ask(near)
        assert answered.value.status == int(refusal[:3])
    assert way.heads[0].startswith("CONNECT far.invalid:443 HTTP/1.1\r\n")
    assert "t0p-s3cr3t-token" not in way.heads[0]
    assert not fake.requests


async def test_a_proxy_that_does_not_exist_is_a_connect_error(fake: FakeWorkersAI) -> None:
    async with proxy() as way:
        gone = way.url
    with pytest.raises(ConnectError) as caught:
        await ask(fake.client(proxy=gone.replace("//", "//me:s3cr3t@"), retries=NEVER))
    assert "s3cr3t" not in str(caught.value)
    assert not fake.requests


async def test_netrc_is_ignored(
    fake: FakeWorkersAI, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Passwords for other programs are not sent."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password s3cr3t\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    fake.always.answers(OK)
    await ask(fake.client())
    await ask(fake.client(api_token=None, api_email="a@b.c", api_key="the-key"))
    assert fake.requests[0].headers.all("Authorization") == ["Bearer fake-api-token"]
    assert "Authorization" not in fake.requests[1].headers


async def test_cookies_are_not_sent_back(fake: FakeWorkersAI) -> None:
    """Calls are independent of each other."""
    fake.always.says(b'{"result":{"response":"Hello"}}', headers={"Set-Cookie": "a=b; Path=/"})
    client = fake.client()
    await ask(client)
    await ask(client)
    assert all("Cookie" not in request.headers for request in fake.requests)


async def test_threads_with_their_own_event_loops(fake: FakeWorkersAI) -> None:
    """One client answers calls of several threads at the same time."""
    fake.always.answers_by(lambda request: {"response": request.json()["prompt"]})
    client = fake.client()
    together = threading.Barrier(8)

    async def many(name: str) -> list[str]:
        calls = [client.run(MODEL, Prompt(f"{name}.{number}")) for number in range(5)]
        return [answer.text for answer in await asyncio.gather(*calls)]

    def work(name: str) -> list[str]:
        together.wait()
        return asyncio.run(many(name))

    names = [str(number) for number in range(8)]
    with ThreadPoolExecutor(len(names)) as threads:
        loop = asyncio.get_running_loop()
        answers = await asyncio.gather(
            *(loop.run_in_executor(threads, work, name) for name in names)
        )
    assert answers == [[f"{name}.{number}" for number in range(5)] for name in names]
    await fake.until(lambda: fake.connections == 0)


async def test_the_options_of_a_call_are_sent(fake: FakeWorkersAI) -> None:
    """Headers, gateway, affinity, tags and reject_if_busy apply to that call only."""
    fake.always.answers(OK)
    client = fake.client(headers={"X-Own": "client"})
    options = Options(
        headers={"x-own": "call"},
        gateway=Gateway("gw", skip_cache=True, cache_ttl=60, metadata={"user": "é"}),
        session_affinity="chat-1",
        tags=["a", "b:c"],
        reject_if_busy=True,
    )
    await client.run(MODEL, PROMPT, options=options)
    await client.run(MODEL, PROMPT)
    with_options, without = fake.requests
    assert with_options.headers.all("X-Own") == ["call"]
    assert with_options.headers["cf-aig-gateway-id"] == "gw"
    assert with_options.headers["cf-aig-skip-cache"] == "true"
    assert with_options.headers["cf-aig-cache-ttl"] == "60"
    assert with_options.headers["x-session-affinity"] == "chat-1"
    assert with_options.query == {"tags": "a,b:c"}
    assert with_options.json() == {"prompt": "Hello?", "options": {"rejectIfBusy": True}}
    assert without.headers.all("X-Own") == ["client"]
    assert not [name for name in without.headers if name.startswith("cf-aig")]
    assert without.query == {}


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Own": "a\r\nX-Evil: 1"},
        {"X-Own": "a\nb"},
        {"X-Own": "a\x00"},
        {"X-Own": " a"},
        {"X Own": "a"},
        {"X-Own\r\nX-Evil": "1"},
        {"": "a"},
        {"X-Own:": "a"},
        {"X-Own": 1},
        {"X-Own": None},
        {"X-Own": b"a"},
        {"Content-Length": "1"},
        {"transfer-encoding": "chunked"},
        {"Host": "evil.example"},
        {"connection": "close"},
    ],
)
def test_unsafe_headers_are_refused(headers: dict[str, Any]) -> None:
    """A header has one line and must not change the framing of the request."""
    with pytest.raises(InputError, match="header"):
        WorkersAI(account_id="a", api_token="t", headers=headers)
    with pytest.raises(InputError, match="header"):
        Options(headers=headers)
