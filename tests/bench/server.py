"""A minimal loopback server, so that the benchmarks measure the client.

It runs as a script in its own process and imports only the standard library. It opens one port per
scenario, prints the ports as one line of JSON, and exits when its standard input is closed.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import cycle, islice

BURST_EVENTS = 2_000
PACED_EVENTS = 300
FEW_EVENTS = 30
TEXTS = 100
DIMENSION = 1024
SMALL_DIMENSION = 384

_WORDS = (" The", " sky", " is", " blue", " because", " air", " scatters", " short", " waves", ".")
_TEXT = "".join(_WORDS)
_USAGE = {"prompt_tokens": 12, "completion_tokens": 10, "total_tokens": 22}
_CHAT_FIELDS = {
    "id": "chatcmpl-edc84a6e6a5e4bb0a3ed1b0f9a6d8c11",
    "created": 1751570976,
    "model": "@cf/meta/llama-3.1-8b-instruct-fast",
}

RUN_CHARACTERS = len(_TEXT)


def stream_characters(events: int) -> int:
    """The number of characters in a stream of *events* events."""
    return sum(map(len, islice(cycle(_WORDS), events)))


@dataclass(frozen=True, slots=True)
class Reply:
    """Prepared bytes: the first part at once, each further one after a delay (seconds)."""

    parts: tuple[bytes, ...]
    delay: float = 0


def _json(body: object) -> Reply:
    encoded = json.dumps(body, separators=(",", ":")).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return Reply((head % len(encoded) + encoded,))


def _native_run() -> Reply:
    result = {"response": _TEXT, "tool_calls": [], "usage": _USAGE}
    return _json({"result": result, "success": True, "errors": [], "messages": []})


def _chat_run() -> Reply:
    message = {"role": "assistant", "content": _TEXT}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return _json(
        {**_CHAT_FIELDS, "object": "chat.completion", "choices": [choice], "usage": _USAGE},
    )


@cache
def _vectors(dimension: int) -> list[list[float]]:
    chance = random.Random(20)
    return [[round(chance.gauss(0, 0.03), 14) for _ in range(dimension)] for _ in range(TEXTS)]


def _native_embeddings(dimension: int) -> Reply:
    result = {"shape": [TEXTS, dimension], "data": _vectors(dimension), "pooling": "cls"}
    return _json({"result": result, "success": True, "errors": [], "messages": []})


def _openai_embeddings(dimension: int) -> Reply:
    rows = [
        {"object": "embedding", "index": index, "embedding": vector}
        for index, vector in enumerate(_vectors(dimension))
    ]
    usage = {"prompt_tokens": 12, "total_tokens": 12}
    return _json({"object": "list", "data": rows, "model": "bge", "usage": usage})


def _native_event(word: str, *, last: bool = False) -> dict[str, object]:
    return {"response": word, "usage": _USAGE} if last else {"response": word, "p": "abdefgh"}


def _chat_event(word: str, *, last: bool = False) -> dict[str, object]:
    choice = {
        "index": 0,
        "delta": {"content": word},
        "logprobs": None,
        "finish_reason": "stop" if last else None,
    }
    event = {**_CHAT_FIELDS, "object": "chat.completion.chunk", "choices": [choice]}
    return {**event, "usage": _USAGE} if last else event


def _usage_event(word: str, *, last: bool = False) -> dict[str, object]:
    return {"response": word, "p": "abdefgh", "usage": _USAGE}


def _delta_event(delta: dict[str, object], *, last: bool) -> dict[str, object]:
    choice = {"index": 0, "delta": delta, "finish_reason": "stop" if last else None}
    return {**_CHAT_FIELDS, "object": "chat.completion.chunk", "choices": [choice]}


def _reasoning_event(word: str, *, last: bool = False) -> dict[str, object]:
    return _delta_event({"reasoning_content": word}, last=last)


def _call_event(word: str, *, last: bool = False) -> dict[str, object]:
    call = {"index": 0, "function": {"arguments": word}}
    return _delta_event({"tool_calls": [call]}, last=last)


def _events(event: Callable[..., dict[str, object]], count: int) -> list[bytes]:
    words = [event(word) for word in islice(cycle(_WORDS), count)]
    lines = [json.dumps(each, separators=(",", ":")) for each in (*words, event("", last=True))]
    return [b"data: %b\n\n" % data.encode() for data in (*lines, "[DONE]")]


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_LAST_CHUNK = b"0\r\n\r\n"


def _burst(events: list[bytes]) -> Reply:
    """Each event in its own HTTP chunk, all written at once."""
    return Reply((b"".join([_STREAM_HEAD, *map(_chunk, events), _LAST_CHUNK]),))


def _blocks(events: list[bytes], size: int = 16 * 1024) -> Reply:
    """HTTP chunks of *size* bytes, regardless of the events."""
    body = b"".join(events)
    chunks = [_chunk(body[at : at + size]) for at in range(0, len(body), size)]
    return Reply((_STREAM_HEAD, *chunks, _LAST_CHUNK))


def _paced(events: list[bytes], delay: float = 0.001) -> Reply:
    """One event per write, so that each arrives alone."""
    return Reply((_STREAM_HEAD, *map(_chunk, events), _LAST_CHUNK), delay)


@dataclass(frozen=True, slots=True)
class Scenario:
    """The reply of one port: in Workers AI's format, or in OpenAI's on OpenAI's paths."""

    native: Callable[[], Reply]
    openai: Callable[[], Reply]
    latency: float = 0
    """Seconds before the reply."""


def _streamed(
    framing: Callable[[list[bytes]], Reply],
    count: int,
    native: Callable[..., dict[str, object]] = _native_event,
) -> Scenario:
    return Scenario(
        cache(lambda: framing(_events(native, count))),
        cache(lambda: framing(_events(_chat_event, count))),
    )


def _embeddings(dimension: int) -> Scenario:
    return Scenario(
        cache(lambda: _native_embeddings(dimension)), cache(lambda: _openai_embeddings(dimension))
    )


SCENARIOS = {
    "run": Scenario(cache(_native_run), cache(_chat_run)),
    "run-20ms": Scenario(cache(_native_run), cache(_chat_run), latency=0.02),
    "burst": _streamed(_burst, BURST_EVENTS),
    "burst-chat": _streamed(_burst, BURST_EVENTS, _chat_event),
    "burst-usage": _streamed(_burst, BURST_EVENTS, _usage_event),
    "burst-reasoning": _streamed(_burst, BURST_EVENTS, _reasoning_event),
    "burst-calls": _streamed(_burst, BURST_EVENTS, _call_event),
    "blocks": _streamed(_blocks, BURST_EVENTS),
    "paced": _streamed(_paced, PACED_EVENTS),
    "paced-slowly": _streamed(partial(_paced, delay=0.01), PACED_EVENTS),
    "paced-shortly": _streamed(_paced, FEW_EVENTS),
    "embed": _embeddings(DIMENSION),
    "embed-small": _embeddings(SMALL_DIMENSION),
}


class _Connection(asyncio.Protocol):
    """One request at a time, as all contenders send them. The request's body is ignored."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        if not blank:
            return
        _, _, length = head.lower().partition(b"content-length:")
        if len(body) < int(length.split(b"\r\n", 1)[0] or 0):
            return
        self._received = b""
        path = head.split(b" ", 2)[1]
        openai = path.endswith((b"/chat/completions", b"/embeddings"))
        reply = self._scenario.openai() if openai else self._scenario.native()
        if self._scenario.latency:
            asyncio.get_running_loop().call_later(self._scenario.latency, self._answer, reply)
        else:
            self._answer(reply)

    def _answer(self, reply: Reply) -> None:
        if reply.delay:
            self._write_slowly(reply, 0)
        else:
            for part in reply.parts:
                self._transport.write(part)

    def _write_slowly(self, reply: Reply, index: int) -> None:
        if index < len(reply.parts) and not self._transport.is_closing():
            self._transport.write(reply.parts[index])
            loop = asyncio.get_running_loop()
            loop.call_later(reply.delay, self._write_slowly, reply, index + 1)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    ports: dict[str, int] = {}
    for name, scenario in SCENARIOS.items():
        server = await loop.create_server(partial(_Connection, scenario), "127.0.0.1", 0)
        ports[name] = server.sockets[0].getsockname()[1]
    print(json.dumps(ports), flush=True)
    stop = asyncio.Event()
    loop.add_reader(sys.stdin, stop.set)
    await stop.wait()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        os.sched_setaffinity(0, {int(sys.argv[1])})
    asyncio.run(_serve())
