"""A fuzz session: random responses for every public call, over real sockets."""

import asyncio
import gc
import math
import re
import resource
import sys
import time
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from random import Random
from traceback import format_exception
from typing import Any, Final

from attrs import define, field, frozen

from cfai import WorkersAI
from cfai.cohere import Cohere
from cfai.errors import CfaiError
from cfai.settings import Retries, Timeouts
from tests.fuzz.calls import CALLS, EVERY_BODY, Call, Clients, look_at
from tests.fuzz.inputs import RawReply, build_replies

MAX_SECONDS: Final = 60.0
"""For one input, after which it counts as hanging."""

_MAX_REQUESTS: Final = 25
"""Per input, after which the service refuses more: it could say "queued" forever."""

_MOST_IDLE: Final = 8
"""Connections in the pools of the clients."""

_GRACE: Final = 2.0
"""Seconds in which the connections must close after their clients."""

_REFUSAL: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 63\r\n\r\n"
    b'{"success":false,"errors":[{"code":5006,"message":"no more"}]}\n'
)


class ReplyServer:
    """Answers each request with the next of the given replies, whatever it asks for."""

    def __init__(self) -> None:
        self.connections: set[asyncio.Transport] = set()
        self._replies: list[RawReply] = []
        self._requests = 0
        self._closed = asyncio.Event()
        self._closed.set()

    def opened(self, transport: asyncio.Transport) -> None:
        """Count a connection."""
        self.connections.add(transport)
        self._closed.clear()

    def lost(self, transport: asyncio.Transport) -> None:
        """Count a connection that was closed."""
        self.connections.discard(transport)
        if not self.connections:
            self._closed.set()

    async def wait_until_closed(self, seconds: float) -> None:
        """Wait until no connection is open, but no longer than *seconds*."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()

    def set_replies(self, replies: list[RawReply]) -> None:
        """Take the replies to the next requests; the last is repeated."""
        self._replies, self._requests = replies, 0

    def next_reply(self) -> RawReply:
        """The reply to the next request."""
        self._requests += 1
        if self._requests > _MAX_REQUESTS:
            return RawReply((_REFUSAL,), closes=True)
        return self._replies[min(self._requests, len(self._replies)) - 1]


class _Connection(asyncio.Protocol):
    def __init__(self, server: ReplyServer) -> None:
        self._server = server
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.opened(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.lost(self._transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, rest = bytes(self._received).partition(b"\r\n\r\n")
        if end and self._is_complete(head.lower(), rest):
            self._received.clear()
            reply = self._server.next_reply()
            self._write(list(reply.parts), closes=reply.closes)

    @staticmethod
    def _is_complete(head: bytes, body: bytes) -> bool:
        if b"\r\ntransfer-encoding: chunked" in head:
            return body.endswith(b"0\r\n\r\n")
        _, found, length = head.partition(b"\r\ncontent-length: ")
        return not found or len(body) >= int(length.partition(b"\r\n")[0])

    def _write(self, parts: list[bytes], *, closes: bool) -> None:
        """Write part after part, so that the client can read in between."""
        self._transport.write(parts.pop(0))
        if parts and not self._transport.is_closing():
            loop = asyncio.get_running_loop()
            loop.call_soon(lambda: self._write(parts, closes=closes))
        elif closes:
            self._transport.close()


@asynccontextmanager
async def running_clients(folder: Path) -> AsyncIterator[tuple[ReplyServer, Clients]]:
    """Open a server and the clients of it; when they close, no connection may be left."""
    server = ReplyServer()
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: _Connection(server), "127.0.0.1", 0)
    address = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    how: dict[str, Any] = {
        "retries": Retries(max=0),
        "timeouts": Timeouts(total=MAX_SECONDS),
        "max_answer_bytes": 8 * 2**20,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        cohere = Cohere(api_key="fake-key", base_url=address, **how)
    ai = WorkersAI(
        account_id="0" * 32, api_token="fake-token", base_url=address, max_event_bytes=2**20, **how
    )
    try:
        async with ai, cohere:
            yield server, Clients(ai, cohere, folder)
    finally:
        listening.close()
        await server.wait_until_closed(_GRACE)


@define
class Failure:
    """An input that broke a promise."""

    seed: str
    call: str
    reason: str
    replies: Sequence[RawReply] = ()
    count: int = 1
    """How many inputs failed in the same way."""

    def __str__(self) -> str:
        lines = [f"seed {self.seed}, call {self.call!r}, {self.count} times", self.reason]
        if self.replies:
            lines.append("The smallest replies that were found for it:")
            lines += [f"    RawReply({r.parts!r}, closes={r.closes})," for r in self.replies]
        return "\n".join(lines)


@define
class Session:
    """Runs inputs and collects what went wrong."""

    server: ReplyServer
    clients: Clients
    calls: Sequence[Call]
    outcomes: Counter[str] = field(factory=Counter)
    """How often each error was raised, by its class; "answer" if there was none."""
    failures: dict[str, Failure] = field(factory=dict)
    """By what failed, so that many inputs with the same fault are one failure."""
    slowest: tuple[float, str] = (0.0, "")
    _troubles: list[str] = field(factory=list)
    """What the loop or the interpreter reported besides."""

    async def run(self, seed: str) -> None:
        """Run one input, and if it breaks a promise, record its smallest form."""
        call, replies = draw(seed, self.calls)
        start = time.perf_counter()
        reason = await self.attempt(call, replies)
        seconds = time.perf_counter() - start
        self.slowest = max(self.slowest, (seconds, f"{seed} ({call.name})"))
        if reason is None:
            return
        failure = self.failures.setdefault(_kind(reason), Failure(seed, call.name, reason, count=0))
        failure.count += 1
        if failure.count == 1:
            failure.replies = await self._shrink(call, replies, reason)

    def add_failure(self, seed: str, reason: str | None) -> None:
        """Record a failure that no single input is known for."""
        if reason is not None:
            self.failures.setdefault(_kind(reason), Failure(seed, "any", reason))

    async def attempt(self, call: Call, replies: list[RawReply]) -> str | None:
        """Run a call, and give the reason why its outcome is wrong."""
        self.server.set_replies(replies)
        outcome = "answer"
        try:
            async with asyncio.timeout(MAX_SECONDS):
                result = await call.run(self.clients)
            look_at(result)
        except CfaiError as error:
            outcome = type(error).__name__
            try:
                look_at(error)
            except Exception as exc:
                return f"the error is broken: {_describe(exc)}"
        except BaseException as exc:
            if isinstance(exc, KeyboardInterrupt | SystemExit):
                raise
            return _describe(exc)
        self.outcomes[outcome] += 1
        if self._troubles:
            reason, self._troubles = self._troubles[0], []
            return reason
        return None

    async def leaks(self, tasks: set["asyncio.Task[Any]"]) -> str | None:
        """What is left besides *tasks* and the pooled connections; `None` if nothing is."""
        for _ in range(10):
            await asyncio.sleep(0)
        gc.collect()
        if left := asyncio.all_tasks() - tasks:
            return f"tasks are left: {left}"
        if len(self.server.connections) > _MOST_IDLE:
            return f"{len(self.server.connections)} connections are left open"
        return self._troubles.pop() if self._troubles else None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Collect what the event loop reports, and what is raised where nobody can catch it."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_loop_error)
        hook, sys.unraisablehook = sys.unraisablehook, self._on_unraisable
        try:
            yield
        finally:
            sys.unraisablehook = hook
            loop.set_exception_handler(None)

    def _on_loop_error(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        exception = context.get("exception")
        details = _describe(exception) if exception else ""
        self._troubles.append(f"the event loop reported: {context['message']}\n{details}")

    def _on_unraisable(self, unraisable: Any) -> None:
        value = unraisable.exc_value
        self._troubles.append(f"not raised: {_describe(value) if value else unraisable.err_msg}")

    async def _shrink(self, call: Call, replies: list[RawReply], reason: str) -> list[RawReply]:
        """Remove what is not needed for the same failure."""
        budget = 400

        async def still_fails(candidate: list[RawReply]) -> bool:
            nonlocal budget
            budget -= 1
            found = await self.attempt(call, candidate)
            return found is not None and _kind(found) == _kind(reason)

        for at in range(len(replies) - 1, 0, -1):
            shorter = replies[:at]
            if await still_fails(shorter):
                replies = shorter
        for at in range(len(replies)):
            size = len(replies[at].raw) // 2
            while size and budget > 0:
                raw, start = replies[at].raw, 0
                while start < len(raw) and budget > 0:
                    smaller = RawReply((raw[:start] + raw[start + size :],), closes=True)
                    if await still_fails([*replies[:at], smaller, *replies[at + 1 :]]):
                        replies = [*replies[:at], smaller, *replies[at + 1 :]]
                        raw = smaller.raw
                    else:
                        start += size
                size //= 2
        return replies


def draw(seed: str, calls: Sequence[Call] = CALLS) -> tuple[Call, list[RawReply]]:
    """The call and the replies of a seed."""
    random = Random(seed)
    call = random.choice(calls)
    return call, build_replies(random, call.fitting, EVERY_BODY)


def _kind(reason: str) -> str:
    """The part of a reason that is the same for all inputs: the error, and where it was raised."""
    places = re.findall(r'File ".*?(cfai/.*?|tests/.*?)", line (\d+)', reason)
    return f"{places[-1:]} {reason.splitlines()[-1].partition(':')[0]}"


def _describe(exc: BaseException) -> str:
    return "".join(format_exception(exc, limit=-12)).strip()[-4000:]


@frozen
class Report:
    """What a session found."""

    inputs: int
    seconds: float
    outcomes: Counter[str]
    failures: list[Failure]
    slowest: tuple[float, str]
    growth: int
    """Bytes that the process has grown since its first 1,000 inputs."""


async def run_session(
    folder: Path,
    seed: str,
    *,
    inputs: float = math.inf,
    seconds: float = math.inf,
    calls: Sequence[Call] = CALLS,
    on_progress: Callable[[int, Session], object] = lambda number, session: None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Report:
    """Run inputs until their number or the time is reached, or ten kinds of failure are found.

    *is_stopped* is asked after each input, too.
    """
    start = time.perf_counter()
    before = asyncio.all_tasks()
    number = base = 0
    async with running_clients(folder) as (server, clients):
        session = Session(server, clients, calls)
        with session.watching():
            while number < inputs and time.perf_counter() - start < seconds and not is_stopped():
                await session.run(f"{seed}:{number}")
                number += 1
                if number % 500 == 0:
                    session.add_failure(
                        f"{seed}:{number - 500} and on", await session.leaks(before)
                    )
                if number == _WARM:
                    base = _resident_memory()
                on_progress(number, session)
                if len(session.failures) >= _MOST_FAILURES:
                    break
            session.add_failure(f"up to {seed}:{number}", await session.leaks(before))
            growth = _resident_memory() - base if base else 0
    if server.connections:
        session.add_failure(f"up to {seed}:{number}", "connections outlive their clients")
    elapsed = time.perf_counter() - start
    failures = list(session.failures.values())
    return Report(number, elapsed, session.outcomes, failures, session.slowest, growth)


_WARM: Final = 1000
"""Inputs until caches are full and modules are loaded."""

_MOST_FAILURES: Final = 10


def _resident_memory() -> int:
    """The memory of this process, in bytes; 0 if the system does not tell."""
    gc.collect()
    path = Path("/proc/self/statm")
    return int(path.read_text().split()[1]) * resource.getpagesize() if path.exists() else 0
