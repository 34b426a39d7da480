"""Text generation: follows a running generation and builds the answer or the stream."""

import asyncio
import math
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import orjson
from aiohttp import web
from attrs import define, field, frozen

from cfai.errors import ConfigError
from cfai.local.backends.roles import GenerationEnd, GenerationRequest, Piece, TextGenerator
from cfai.local.errors import ApiError
from cfai.local.handlers.dialects import Dialect, Document, StreamDialect
from cfai.local.requests import ApiRequest
from cfai.local.workers import WorkerPool


@frozen
class Latency:
    """How fast text is sent, at most: a fast local model can be made as slow as the service."""

    first_token: float = 0.0
    """Seconds until the first piece of text."""
    tokens_per_second: float | None = None

    def __attrs_post_init__(self) -> None:
        rate = self.tokens_per_second
        if not 0 <= self.first_token < math.inf:
            raise ConfigError(f"first_token must be at least 0, got {self.first_token}")
        if rate is not None and not 0 < rate < math.inf:
            raise ConfigError(f"tokens_per_second must be above 0, got {rate}")

    def due(self, index: int) -> float:
        """Return when the piece *index* is due, in seconds after the start."""
        rate = self.tokens_per_second
        return self.first_token + (index / rate if rate else 0.0)


@define(eq=False)
class RunningGeneration:
    """A running text generation: an async iterator of its pieces. Leaving it stops the generator.

    An empty piece means that the generator has started or is still reading the prompt. There is no
    backpressure: the context window limits the text, and so what can wait here for a slow reader.
    """

    _load_generator: Callable[[], TextGenerator]
    _request: GenerationRequest
    _latency: Latency = field(factory=Latency)
    backend: str = field(default="", init=False)
    """The generator's name, set before the first piece."""
    _loop: asyncio.AbstractEventLoop = field(factory=asyncio.get_running_loop, init=False)
    _pieces: "asyncio.Queue[Piece | None]" = field(factory=asyncio.Queue, init=False)
    _stop: threading.Event = field(factory=threading.Event, init=False)
    _started: float = field(default=0.0, init=False)
    _count: int = field(default=0, init=False)

    def start(self, pool: WorkerPool, *, only_if_free: bool) -> asyncio.Future[GenerationEnd]:
        """Start in a thread of *pool*; the future resolves when the generation ends or is stopped.

        Raises:
            ApiError: The pool has no capacity.
        """
        self._started = self._loop.time()
        return pool.start(self._generate, only_if_free=only_if_free)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._stop.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        piece = await self._pieces.get()
        if piece is None:
            raise StopAsyncIteration
        if piece:
            due = self._started + self._latency.due(self._count)
            self._count += 1
            if (delay := due - self._loop.time()) > 0:
                await asyncio.sleep(delay)
        return piece

    # In the worker thread

    def _generate(self) -> GenerationEnd:
        try:
            if self._stop.is_set():
                return GenerationEnd("stopped", 0, 0)
            generator = self._load_generator()
            self.backend = generator.name
            return generator.generate(self._request, self._put, self._stop.is_set)
        finally:
            self._put(None)

    def _put(self, piece: Piece | None) -> None:
        """Hand over a piece, or `None` at the end."""
        self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)


async def collect_result(
    generation: RunningGeneration, end: asyncio.Future[GenerationEnd], dialect: Dialect
) -> Any:
    """Wait for the complete text and return the result.

    Raises:
        ApiError: The model rejected the input, or its output is not the requested JSON.
    """
    text = "".join([piece async for piece in generation if isinstance(piece, str)])
    return dialect.build_result(text, await asyncio.shield(end))


async def stream_response(
    generation: RunningGeneration,
    end: asyncio.Future[GenerationEnd],
    dialect: StreamDialect,
    request: ApiRequest,
    headers: Mapping[str, str],
) -> web.StreamResponse:
    """Send the pieces as events while they are generated.

    Raises:
        ApiError: The model rejected the input before anything was sent.
    """
    response: web.StreamResponse | None = None
    async for piece in generation:
        # The first piece, which may be empty, means that the model accepted the request.
        response = response or await _start_stream(generation, dialect, request, headers)
        if piece:
            await response.write(_encode_events(dialect.build_chunks(piece)))
    try:
        result = await asyncio.shield(end)
    except ApiError as error:
        if response is None:
            raise
        # How the service fails here is not recorded. Without [DONE] the stream is incomplete.
        await response.write(_encode_events([error.body()]))
        return response
    response = response or await _start_stream(generation, dialect, request, headers)
    await response.write(_encode_events(dialect.build_last_chunks(result)) + b"data: [DONE]\n\n")
    return response


async def _start_stream(
    generation: RunningGeneration,
    dialect: StreamDialect,
    request: ApiRequest,
    headers: Mapping[str, str],
) -> web.StreamResponse:
    fields = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", **headers}
    fields |= request.recorder.start_response(generation.backend)
    response = await request.start_stream(fields)
    if first := _encode_events(dialect.build_first_chunks()):
        await response.write(first)
    return response


def _encode_events(documents: Iterable[Document]) -> bytes:
    return b"".join(b"data: " + orjson.dumps(document) + b"\n\n" for document in documents)
