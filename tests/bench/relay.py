"""Streams through the aiohttp example to many readers at once: `python -m tests.bench.relay`.

The app runs in a process and on a core of its own. The service that it asks and the readers that
ask it are one other process, with one clock: each token carries the time at which it was written.
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
_SAID = re.compile(rb"stream (\d+)")
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@frozen
class Crowd:
    """What became of the streams."""

    streams: int
    tokens: int
    seconds: float
    whole: int
    """How many streams arrived to their last byte."""
    direct_ms: dict[str, float]
    """The delay of a token that is read from the service itself."""
    relayed_ms: dict[str, float]
    """The delay of one that is read from the app."""
    app_cpu_us: float
    """Processor time of the app for each token."""
    app_peak_mb: float
    others: float | None
    """The share of the app's core that went to others meanwhile; on an idle machine, about 0."""


@frozen
class Vanished:
    """What was left when all readers went away at once."""

    readers: int
    service_heard_ms: float
    """Until the last connection to the service was closed."""
    files_before: int
    files_after: int
    app_mb: tuple[float, ...]
    """After each round."""


@frozen
class First:
    """The time to the first token, medians of so many questions, one at a time.

    Each is asked on a new connection. The app's own to the service is used again, as it would be.
    """

    questions: int
    direct_ms: float
    relayed_ms: float


Outcome = Crowd | Vanished | First


class Writer(asyncio.Protocol):
    """The service's side of one connection: writes tokens at a pace."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._got = b""
        self._stream = self._number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._service.open += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._service.open -= 1
        if not self._service.open:
            self._service.alone.set()

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, end, body = self._got.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if end and length and len(body) == int(length[1]):
            found = _SAID.findall(body)
            self._stream, self._number, self._got = int(found[-1]), 0, b""
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
        pause = service.pause * random.uniform(0.8, 1.2)
        asyncio.get_running_loop().call_later(pause, self._write)


class Service:
    """Answers every question with so many tokens."""

    def __init__(self, streams: int, tokens: int, pause: float) -> None:
        self.tokens = tokens
        self.pause = pause
        self.written = [b""] * streams
        self.open = 0
        self.alone = asyncio.Event()

    async def start(self, port: int) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: Writer(self), "127.0.0.1", port, backlog=2048)


class Reader(asyncio.Protocol):
    """A browser's side of one connection: asks once, and takes the time of each token."""

    def __init__(self, number: int, path: str, delays: list[float]) -> None:
        self._delays = delays
        self._rest = b""
        self.text = b""
        self.answered = False
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()
        said = {"messages": [{"role": "user", "content": f"stream {number}"}]}
        body = json.dumps(said).encode()
        head = "POST {} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        head += "Content-Type: application/json\r\nContent-Length: {}"
        self._request = (head.format(path, len(body)) + "\r\n\r\n").encode() + body

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.asked = time.monotonic_ns()
        transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        """However it ended, nobody need wait for it any longer."""
        self.begun.set()
        self.ended.set()

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if not self.answered:
            self.answered = True
            assert data.startswith(b"HTTP/1.1 200"), data
        whole, _, self._rest = (self._rest + data).rpartition(b"\n")
        for text, _, stamp in _TOKEN.findall(whole):
            self.text += text
            self._delays.append((now - int(stamp)) / 1e6)
        if self.text and not self.begun.is_set():
            self.first = now
            self.begun.set()
        if b'"type":"done"' in whole or b'"type":"error"' in whole or b"[DONE]" in whole:
            self.ended.set()


class App:
    """The example's process."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.port = port
        self._proc = Path(f"/proc/{process.pid}")

    def _memory(self, name: str) -> float:
        found = re.search(rf"{name}:\s+(\d+) kB", (self._proc / "status").read_text())
        assert found
        return int(found[1]) / 1024

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
    """Seconds for which a core has worked."""
    if core is None:
        return None
    found = re.search(rf"(?m)^cpu{core} (.+)$", Path("/proc/stat").read_text())
    assert found
    user, nice, system, _, _, irq, softirq, steal, *_ = map(int, found[1].split())
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
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
        process.stdout.readline()  # It says where it is, once it is there.
        try:
            yield App(process, port)
        finally:
            process.terminate()


async def ask(port: int, number: int, delays: list[float], path: str = "/chat") -> Reader:
    """Ask the app, or the service."""
    loop = asyncio.get_running_loop()
    _, reader = await loop.create_connection(
        lambda: Reader(number, path, delays), "127.0.0.1", port
    )
    return reader


def spread(delays: list[float]) -> dict[str, float]:
    """Percentiles of some delays."""
    cuts = quantiles(delays, n=1000)
    at = {"p50": 499, "p90": 899, "p99": 989, "p99.9": 998}
    return {name: round(cuts[index], 2) for name, index in at.items()}


async def all_read(port: int, service: Service) -> tuple[int, list[float]]:
    """Read every stream to its end; how many were whole, and the delays."""
    delays: list[float] = []
    service.written = [b""] * len(service.written)
    readers = [await ask(port, number, delays) for number in range(len(service.written))]
    for reader in readers:
        await reader.ended.wait()
        reader.transport.close()
    pairs = zip(readers, service.written, strict=True)
    return sum(reader.text == written for reader, written in pairs), delays


async def crowd(service: Service, service_port: int, core: int | None) -> Crowd:
    """All streams at once, from the service itself and then through the app."""
    _, direct = await all_read(service_port, service)
    with served(service_port, core) as app:
        for _ in range(20):  # What is loaded with the first question, and compiled after some.
            reader = await ask(app.port, 0, [])
            await reader.begun.wait()
            reader.transport.abort()
        busy, cpu, began = _busy(core), app.cpu, time.monotonic()
        whole, relayed = await all_read(app.port, service)
        seconds, used = time.monotonic() - began, app.cpu - cpu
        all_used = _busy(core)
        others = None if busy is None or all_used is None else (all_used - busy - used) / seconds
        return Crowd(
            len(service.written),
            service.tokens,
            round(seconds, 1),
            whole,
            spread(direct),
            spread(relayed),
            round(used / len(relayed) * 1e6, 1),
            app.peak_mb,
            None if others is None else round(others, 2),
        )


async def vanish(service: Service, service_port: int, core: int | None) -> Vanished:
    """All readers go away at once, in the middle; three times."""
    with served(service_port, core) as app:
        files, memory, heard = app.files, [], []
        for _ in range(3):
            readers = [await ask(app.port, number, []) for number in range(len(service.written))]
            for reader in readers:
                await reader.begun.wait()
            service.alone.clear()
            left = time.monotonic()
            for reader in readers:
                reader.transport.abort()
            await service.alone.wait()
            heard.append((time.monotonic() - left) * 1000)
            memory.append(app.mb)
        after = app.files
    return Vanished(len(service.written), round(max(heard), 1), files, after, tuple(memory))


async def first(questions: int, service_port: int, core: int | None) -> First:
    """How long a reader waits for the first token, of the service and of the app, in turn."""
    times: dict[int, list[float]] = {}
    with served(service_port, core) as app:
        for number in range(questions + 20):
            for port in (service_port, app.port):
                reader = await ask(port, 0, [])
                await reader.ended.wait()
                reader.transport.close()
                if number >= 20:
                    times.setdefault(port, []).append((reader.first - reader.asked) / 1e6)
    direct, relayed = (round(median(each), 2) for each in times.values())
    return First(questions, direct, relayed)


async def measure(options: argparse.Namespace, core: int | None) -> list[Outcome]:
    """Everything, one after the other."""
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
    """Measure, and print what was measured as lines of JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.relay", description=__doc__)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--pace", type=float, default=10, help="tokens a second, each stream")
    parser.add_argument("--questions", type=int, default=200, help="for the first token")
    options = parser.parse_args()
    for outcome in asyncio.run(measure(options, keep_apart().server)):
        print(json.dumps({type(outcome).__name__: asdict(outcome)}), flush=True)


if __name__ == "__main__":
    main()
