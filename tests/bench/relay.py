"""Streams relayed by the aiohttp example to many readers at once: `python -m tests.bench.relay`.

The app runs in its own process on its own core. The service and the readers share another process
and thus a clock: each token contains the time at which it was written.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

from attrs import asdict, frozen

from .loopback import keep_apart

_APP = Path(__file__).parents[2] / "docs" / "examples" / "chat_aiohttp.py"
_TOKEN = re.compile(rb'"(?:text|response)":"((\d+) (\d+) )"')
_STREAM = re.compile(rb"stream (\d+)")
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@frozen
class Crowd:
    """The results of relaying many streams."""

    streams: int
    tokens: int
    seconds: float
    complete: int
    """The number of streams that arrived completely."""
    direct_ms: dict[str, float]
    """The delay of a token read directly from the service."""
    relayed_ms: dict[str, float]
    """The delay of a token read from the app."""
    app_cpu_us: float
    """CPU time of the app per token."""
    app_peak_mb: float
    others: float | None
    """The share of the app's core used by other programs; about 0 on an idle machine."""


@frozen
class Vanished:
    """What remains after all readers disconnect at once."""

    readers: int
    closed_after_ms: float
    """The time until the last connection to the service was closed."""
    files_before: int
    files_after: int
    app_mb: tuple[float, ...]
    """After each round."""


@frozen
class First:
    """The median time to the first token, over a number of questions, one at a time.

    Each question uses a new connection to the app, which reuses its connection to the service.
    """

    questions: int
    direct_ms: float
    relayed_ms: float


Outcome = Crowd | Vanished | First


class Writer(asyncio.Protocol):
    """The service's side of a connection: writes tokens at a fixed rate."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._received = b""
        self._stream = self._number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._service.open += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._service.open -= 1
        if not self._service.open:
            self._service.idle.set()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if end and length and len(body) == int(length[1]):
            streams = _STREAM.findall(body)
            self._stream, self._number, self._received = int(streams[-1]), 0, b""
            self._transport.write(_HEAD)
            self._write()

    def _write(self) -> None:
        if self._transport.is_closing():
            return
        service = self._service
        if self._number == service.tokens:
            self._transport.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
            return
        text = b"%d %d " % (self._number, time.monotonic_ns())
        service.written[self._stream] += text
        event = b'data: {"response":"%b"}\n\n' % text
        self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))
        self._number += 1
        delay = service.delay * random.uniform(0.8, 1.2)
        asyncio.get_running_loop().call_later(delay, self._write)


class Service:
    """Answers each question with *tokens* tokens."""

    def __init__(self, streams: int, tokens: int, delay: float) -> None:
        self.tokens = tokens
        self.delay = delay
        self.written = [b""] * streams
        self.open = 0
        self.idle = asyncio.Event()

    async def start(self, port: int) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: Writer(self), "127.0.0.1", port, backlog=2048)


class Reader(asyncio.Protocol):
    """A browser's side of a connection: sends one question, and records the delay of each token."""

    def __init__(self, number: int, path: str, delays: list[float]) -> None:
        self._delays = delays
        self._rest = b""
        self.text = b""
        self.answered = False
        self.started = asyncio.Event()
        self.ended = asyncio.Event()
        question = {"messages": [{"role": "user", "content": f"stream {number}"}]}
        body = json.dumps(question).encode()
        head = "POST {} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        head += "Content-Type: application/json\r\nContent-Length: {}"
        self._request = (head.format(path, len(body)) + "\r\n\r\n").encode() + body

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.sent_at = time.monotonic_ns()
        transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release all waiting tasks, however the connection ended."""
        self.started.set()
        self.ended.set()

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if not self.answered:
            self.answered = True
            assert data.startswith(b"HTTP/1.1 200"), data
        lines, _, self._rest = (self._rest + data).rpartition(b"\n")
        for text, _, stamp in _TOKEN.findall(lines):
            self.text += text
            self._delays.append((now - int(stamp)) / 1e6)
        if self.text and not self.started.is_set():
            self.first_token_at = now
            self.started.set()
        if b'"type":"done"' in lines or b'"type":"error"' in lines or b"[DONE]" in lines:
            self.ended.set()


class App:
    """The example's process."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.port = port
        self._proc = Path(f"/proc/{process.pid}")

    def _memory(self, name: str) -> float:
        match = re.search(rf"{name}:\s+(\d+) kB", (self._proc / "status").read_text())
        assert match
        return int(match[1]) / 1024

    @property
    def mb(self) -> float:
        return round(self._memory("VmRSS"), 1)

    @property
    def peak_mb(self) -> float:
        return round(self._memory("VmHWM"), 1)

    @property
    def cpu(self) -> float:
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def files(self) -> int:
        return len(list((self._proc / "fd").iterdir()))


def _busy(core: int | None) -> float | None:
    """The seconds that a core was busy."""
    if core is None:
        return None
    match = re.search(rf"(?m)^cpu{core} (.+)$", Path("/proc/stat").read_text())
    assert match
    user, nice, system, _, _, irq, softirq, steal, *_ = map(int, match[1].split())
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def served(service_port: int, core: int | None) -> Iterator[App]:
    """The aiohttp example, on a core of its own."""
    port = _free_port()
    environment = os.environ | {
        "CLOUDFLARE_ACCOUNT_ID": "account",
        "CLOUDFLARE_API_TOKEN": "token",
        "CLOUDFLARE_BASE_URL": f"http://127.0.0.1:{service_port}/client/v4",
    }
    command = [sys.executable, str(_APP), "--port", str(port)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stdin=pipe) as process:
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        assert process.stdout is not None
        process.stdout.readline()  # Printed when it is ready.
        try:
            yield App(process, port)
        finally:
            process.terminate()


async def ask(port: int, number: int, delays: list[float], path: str = "/chat") -> Reader:
    """Send a question to the app or the service."""
    loop = asyncio.get_running_loop()
    _, reader = await loop.create_connection(
        lambda: Reader(number, path, delays), "127.0.0.1", port
    )
    return reader


def spread(delays: list[float]) -> dict[str, float]:
    """Percentiles of the delays."""
    cuts = quantiles(delays, n=1000)
    at = {"p50": 499, "p90": 899, "p99": 989, "p99.9": 998}
    return {name: round(cuts[index], 2) for name, index in at.items()}


async def all_read(port: int, service: Service) -> tuple[int, list[float]]:
    """Read each stream to its end; returns the number of complete ones, and the delays."""
    delays: list[float] = []
    service.written = [b""] * len(service.written)
    readers = [await ask(port, number, delays) for number in range(len(service.written))]
    for reader in readers:
        await reader.ended.wait()
        reader.transport.close()
    pairs = zip(readers, service.written, strict=True)
    return sum(reader.text == written for reader, written in pairs), delays


async def crowd(service: Service, service_port: int, core: int | None) -> Crowd:
    """All streams at once, first directly from the service and then through the app."""
    _, direct = await all_read(service_port, service)
    with served(service_port, core) as app:
        for _ in range(20):  # Warm up: imports and caches.
            reader = await ask(app.port, 0, [])
            await reader.started.wait()
            reader.transport.abort()
        busy, cpu, start = _busy(core), app.cpu, time.monotonic()
        complete, relayed = await all_read(app.port, service)
        seconds, used = time.monotonic() - start, app.cpu - cpu
        all_used = _busy(core)
        others = None if busy is None or all_used is None else (all_used - busy - used) / seconds
        return Crowd(
            len(service.written),
            service.tokens,
            round(seconds, 1),
            complete,
            spread(direct),
            spread(relayed),
            round(used / len(relayed) * 1e6, 1),
            app.peak_mb,
            None if others is None else round(others, 2),
        )


async def vanish(service: Service, service_port: int, core: int | None) -> Vanished:
    """All readers disconnect at once, in the middle of their streams, three times."""
    with served(service_port, core) as app:
        files, memory, delays = app.files, [], []
        for _ in range(3):
            readers = [await ask(app.port, number, []) for number in range(len(service.written))]
            for reader in readers:
                await reader.started.wait()
            service.idle.clear()
            start = time.monotonic()
            for reader in readers:
                reader.transport.abort()
            await service.idle.wait()
            delays.append((time.monotonic() - start) * 1000)
            memory.append(app.mb)
        after = app.files
    return Vanished(len(service.written), round(max(delays), 1), files, after, tuple(memory))


async def first(questions: int, service_port: int, core: int | None) -> First:
    """The time to the first token, from the service and from the app, in turn."""
    times: dict[int, list[float]] = {}
    with served(service_port, core) as app:
        for number in range(questions + 20):
            for port in (service_port, app.port):
                reader = await ask(port, 0, [])
                await reader.ended.wait()
                reader.transport.close()
                if number >= 20:
                    times.setdefault(port, []).append(
                        (reader.first_token_at - reader.sent_at) / 1e6
                    )
    direct, relayed = (round(median(each), 2) for each in times.values())
    return First(questions, direct, relayed)


async def measure(options: argparse.Namespace, core: int | None) -> list[Outcome]:
    """Run all measurements, one after the other."""
    short = Service(1, 2, 0.001)
    long = Service(options.streams, options.tokens, 1 / options.pace)
    port, other = _free_port(), _free_port()
    async with asyncio.timeout(600), await short.start(port), await long.start(other):
        return [
            await first(options.questions, port, core),
            await crowd(long, other, core),
            await vanish(long, other, core),
        ]


def main() -> None:
    """Run all measurements, and print the results as lines of JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.relay", description=__doc__)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--pace", type=float, default=10, help="tokens per second and stream")
    parser.add_argument(
        "--questions",
        type=int,
        default=200,
        help="number of questions for the time to the first token",
    )
    options = parser.parse_args()
    for outcome in asyncio.run(measure(options, keep_apart().server)):
        print(json.dumps({type(outcome).__name__: asdict(outcome)}), flush=True)


if __name__ == "__main__":
    main()
