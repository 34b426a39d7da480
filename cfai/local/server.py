"""The local Workers AI server as an async context manager: starting, stopping, answering HTTP.

`routes` maps paths to handlers.
"""

import asyncio
import hmac
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Self, TypedDict

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from attrs import evolve

from cfai.errors import ConfigError
from cfai.local import backends, errors
from cfai.local.backends.roles import Abilities, GenerationEnd
from cfai.local.backends.smollm2 import PARALLEL, check_file
from cfai.local.backends.upstream import CONNECTIONS, Upstream
from cfai.local.binding import PATH as BINDING_PATH, Binding
from cfai.local.errors import ApiError
from cfai.local.exchange import (
    Exchange,
    ExchangeRecorder,
    Limits,
    Meter,
    count_neurons,
    json_response,
)
from cfai.local.faults import Fault, FaultPlan, interrupt, send_partly
from cfai.local.finetunes import FinetuneRegistry
from cfai.local.handlers import HANDLERS, WITH_TEST_CARD, ModelRunner
from cfai.local.handlers.cards import TEST_CARD
from cfai.local.handlers.generation import Latency
from cfai.local.markdown import DocumentConverter
from cfai.local.queue import BatchRunner
from cfai.local.requests import (
    ApiRequest,
    add_cors_headers,
    answer_preflight,
    check_origin,
    is_loopback,
    read_origins,
)
from cfai.local.routes import (
    RouteHandler,
    Routes,
    build_routes,
    find_account,
    find_route,
    is_openai_path,
    split_path,
)
from cfai.local.scripts import Script, load_script
from cfai.local.store import Store
from cfai.local.tapes import Tape
from cfai.local.workers import WorkerPool

_ACCOUNT = "local"
_TOKEN = "local-api-token"  # noqa: S105  # the client requires one; any value is accepted
_LOG_SIZE = 10_000

_SHUTDOWN_TIMEOUT = 1.0
"""Seconds to wait for connections to close after their requests were cancelled."""

log: logging.Logger = logging.getLogger("cfai.local")


class _ProtocolLog(logging.LoggerAdapter[logging.Logger]):
    """aiohttp's log: what a client did wrong, or a client that left, is no error of the server."""

    def exception(self, msg: object, *args: object, exc_info: Any = True, **options: Any) -> None:
        if isinstance(exc_info, HttpProcessingError | web.RequestPayloadError | ConnectionError):
            self.debug(f"{msg}: %s", *args, exc_info, **options)
        else:
            super().exception(msg, *args, exc_info=exc_info, **options)


class _Protocol(web.RequestHandler):
    """aiohttp's side of a connection. What it cannot read is answered with an envelope, too."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Log the error, and return the response."""
        status = super().handle_error(request, status, exc, message).status
        reason = " ".join((message or type(exc).__name__).split())
        # The path is not known: OpenAI's clients show only their own form.
        document = errors.with_openai_error(errors.unreadable_request(status, reason).body())
        response = json_response(status, document)
        response.force_close()
        return response


@web.middleware
async def _refuse_other_paths(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer with an envelope if no route matches: the target is no path, as in `OPTIONS *`."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return json_response(404, errors.path_not_found(request.path).body())


async def _check_expectation(request: web.Request) -> web.StreamResponse | None:
    """Ask the client to send the body, if it waits for that. Other expectations are refused."""
    expectation = request.headers.get("Expect", "")
    if expectation.lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # Nothing of the response was sent yet.
        return None
    return _build_error_response(
        errors.unreadable_request(417, f"Expect must be 100-continue, got {expectation[:60]!r}"),
        request,
    )


class Credentials(TypedDict):
    """The arguments for a client of the server."""

    account_id: str
    api_token: str
    base_url: str


async def _load_models(runs: ModelRunner) -> None:
    """Load the models for text and for embeddings. Raises `ApiError` if one is missing."""
    await asyncio.gather(
        runs.generators.run(lambda _: runs.load_generator()),
        runs.others.run(lambda _: backends.warm_embedder()),
    )


class Server:
    """A Workers AI server on this machine: `async with Server() as server`.

    It implements the service's protocol on a loopback address and answers with small models: text
    generation, embeddings, classification, reranking, summaries, and tasks with images and speech.
    Other tasks are rejected with status 501. Models are loaded on first use and stay loaded until
    the process ends. The server can be started and stopped repeatedly.

    Args:
        folder: Where to keep fine-tunes, their files and batches. Only one server at a time can
            use a folder. It is created if missing. By default, the data is deleted with the server.
        host: A loopback address.
        port: The port to listen on; 0 chooses a free one.
        token: The only API token to accept; by default, any token is accepted.
        waiting: How many requests can wait for a model; more are rejected (429).
        body_limit: The largest request body, in bytes.
        prewarm: Load the models for text and for embeddings before the server starts instead of
            with the first request, which blocks the process for half a second.
        on_request: Called with each request when it is done.
        faults: Faults that requests get; the first that matches.
        model: A GGUF file with the model to generate text with, instead of SmolLM2.
        mmproj: A GGUF file with the image encoder of *model*, which then reads images.
        upstream: Another server that stands in for some models.
        script: A JSON file with exact replies for the requests that match.
        latency: How fast generated text is sent, at most.
        limits: What each account can ask for; more is refused with 429.
        tape: Records the requests to the service (`Record`), or answers them from a recording
            (`Replay`), instead of the models.
        cors: The origins of web pages that can use the server, besides its own.
        test_card: Answer text-to-image tasks with a drawn card, which says that no model made it,
            instead of status 501.

    Raises:
        ConfigError: *host* is not a loopback address, *model* or *mmproj* no such file, *cors* no
            origins, or *script* invalid; or, at start: the port is taken, *folder* cannot be used
            or is in use by another server, *tape* cannot be opened, or *prewarm* cannot load a
            model (the message says what is missing).
    """

    def __init__(  # noqa: PLR0913  # the settings
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        waiting: int = 1024,
        body_limit: int = 32 << 20,
        prewarm: bool = False,
        on_request: Callable[[Exchange], object] | None = None,
        faults: Iterable[Fault] = (),
        model: str | os.PathLike[str] | None = None,
        mmproj: str | os.PathLike[str] | None = None,
        upstream: Upstream | None = None,
        script: str | os.PathLike[str] | None = None,
        latency: Latency | None = None,
        limits: Limits | None = None,
        tape: Tape | None = None,
        cors: Iterable[str] = (),
        test_card: bool = False,
    ) -> None:
        if not is_loopback(host):
            raise ConfigError(f"host must be a loopback address, got {host!r}")
        if mmproj is not None and model is None:
            raise ConfigError("mmproj needs a model: it is the image encoder of one")
        self._model = _find_file(model, "model")
        self._mmproj = _find_file(mmproj, "mmproj", encodes_images=True)
        self._draws_cards = test_card
        self._upstream = upstream
        self._latency = latency or Latency()
        self._meter = None if limits is None else Meter(limits)
        self._tape = tape
        self._cors = read_origins(cors)
        self._binding = Binding(self._cors, has_token=token is not None)
        self._script = Script() if script is None else load_script(script)
        self._folder = None if folder is None else Path(folder)
        self._host = "127.0.0.1" if host == "localhost" else host
        self._requested_port = port
        self._token = token
        self._waiting = waiting
        self._body_limit = body_limit
        self._prewarm = prewarm
        self._on_request = on_request
        self._faults = FaultPlan(tuple(faults))
        self._port = 0
        self._runner: web.AppRunner | None = None
        self._runs: ModelRunner | None = None
        self._resources = AsyncExitStack()
        self._routes: Routes = {}
        self._tasks: set[asyncio.Task[Any] | None] = set()
        self.requests: deque[Exchange] = deque(maxlen=_LOG_SIZE)
        """The last ten thousand answered requests, oldest first."""
        self.has_busy_thread: bool = False
        """Whether a model did not stop when the server was closed; Python waits for its thread
        before the process ends."""

    @property
    def base_url(self) -> str:
        """The server's address: `http://127.0.0.1:PORT/client/v4`."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}/client/v4"

    @property
    def credentials(self) -> Credentials:
        """The arguments for a client: `WorkersAI(**server.credentials)`."""
        token = self._token or _TOKEN
        return {"account_id": _ACCOUNT, "api_token": token, "base_url": self.base_url}

    async def __aenter__(self) -> Self:
        if self._runner:
            raise ConfigError("the server is already running: create another one")
        store = Store(self._folder)
        await store.open()
        runs, pools = self._build_runs(store)
        self._runs = runs
        queue = BatchRunner(store, runs)
        documents = WorkerPool("documents", size=2, waiting=self._waiting)
        self._routes = build_routes(runs, queue, runs.finetunes, DocumentConverter(documents))
        self._runner = self._build_runner()
        # Closed in the opposite order.
        close_pools = partial(self._close_pools, (documents, *pools))
        for close in (store.close, close_pools, queue.close):
            self._resources.push_async_callback(close)
        if self._tape is not None:
            self._resources.push_async_callback(self._tape.close)
        self._resources.push_async_callback(self._runner.cleanup)
        self._resources.push_async_callback(self._binding.close)
        try:
            if self._tape is not None:
                await self._tape.open()
            elif self._prewarm:
                await _load_models(runs)
            await self._runner.setup()
            await self._listen(self._runner)
            await self._binding.open(self.base_url.removesuffix("/client/v4"))
            queue.start()
        except ApiError as error:
            await self.close()
            raise ConfigError(error.message) from error
        except BaseException:
            await self.close()
            raise
        return self

    def _build_runs(self, store: Store) -> tuple[ModelRunner, tuple[WorkerPool, ...]]:
        """Return what runs the models, and its threads."""
        generators = WorkerPool("text", size=PARALLEL, waiting=self._waiting)
        others = WorkerPool("models", size=2, waiting=self._waiting)
        media = WorkerPool("media", size=2, waiting=self._waiting)
        remotes = WorkerPool("upstream", size=CONNECTIONS, waiting=self._waiting)
        runs = ModelRunner(
            generators,
            others,
            media,
            remotes,
            FinetuneRegistry(store),
            partial(backends.text_generator, self._model, self._mmproj),
            self._upstream,
            self._latency,
            Abilities(reads_images=self._mmproj is not None),
            WITH_TEST_CARD if self._draws_cards else HANDLERS,
        )
        return runs, (remotes, media, others, generators)

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def load_models(self) -> None:
        """Load the models for text and for embeddings, while the server answers.

        Requests for these models wait until they are loaded, as they do on first use.

        Raises:
            ConfigError: The server is not running, or a model cannot be loaded.
        """
        if self._runner is None or self._runs is None:
            raise ConfigError("the server is not running")
        try:
            await _load_models(self._runs)
        except ApiError as error:
            raise ConfigError(error.message) from error

    async def close(self) -> None:
        """Stop: cancel running requests and wait until every thread has ended. Safe to repeat.

        A model that has not stopped after eight seconds is left behind, and `has_busy_thread` is
        set.
        """
        self._runner = None
        await self._resources.aclose()

    async def _close_pools(self, pools: Iterable[WorkerPool]) -> None:
        ended = await asyncio.gather(*(pool.close() for pool in pools))
        if not all(ended):
            self.has_busy_thread = True
            log.warning("a model did not stop within eight seconds and was left behind")

    def _build_runner(self) -> web.AppRunner:
        application = web.Application(
            client_max_size=self._body_limit, middlewares=[_refuse_other_paths]
        )
        routes = {BINDING_PATH: self._binding.answer, "/{path:.*}": self._answer}
        for path, handler in routes.items():
            application.router.add_route("*", path, handler, expect_handler=_check_expectation)
        application.on_shutdown.append(self._cancel_all)
        if self._meter is not None or self._cors:
            application.on_response_prepare.append(self._add_headers)
        # Without cancellation, a client that leaves would be noticed only by the next write.
        return web.AppRunner(
            application, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_TIMEOUT
        )

    async def _listen(self, runner: web.AppRunner) -> None:
        loop, server = asyncio.get_running_loop(), runner.server
        assert server is not None  # noqa: S101  # for the type checker

        options: Any = {"access_log": None, "logger": _ProtocolLog(log, {})}
        build_protocol = partial(_Protocol, server, loop=loop, **options)
        try:
            listener = await loop.create_server(build_protocol, self._host, self._requested_port)
        except OSError as exc:
            address = f"{self._host}:{self._requested_port}"
            raise ConfigError(f"cannot listen on {address}: {exc}") from exc
        self._resources.callback(listener.close)
        self._port = listener.sockets[0].getsockname()[1]

    def _record(self, http_request: web.Request, exchange: Exchange) -> None:
        self.requests.append(exchange)
        if self._meter is not None and _is_charged(http_request, exchange.status):
            neurons = _count_neurons(http_request, exchange.ending)
            self._meter.charge(find_account(http_request.path), neurons)
        if self._on_request:
            self._on_request(exchange)

    async def _cancel_all(self, app: web.Application) -> None:
        # aiohttp would first wait until they end by themselves.
        tasks = [task for task in self._tasks if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, http_request: web.Request) -> web.StreamResponse:
        """Answer any request; an error becomes a response."""
        recorder, task = ExchangeRecorder(), asyncio.current_task()
        self._tasks.add(task)
        try:
            response = await self._call_handler(http_request, recorder)
            recorder.status = response.status
            self._add_cost(http_request, recorder, response)
            return response
        except ApiError as error:
            recorder.status = error.status
            return _build_error_response(error, http_request)
        except ConnectionError:
            raise
        except Exception as exc:
            log.exception("the local server failed to answer a request")
            recorder.status = 500
            return json_response(500, errors.internal_error(exc).body())
        finally:
            self._tasks.discard(task)
            recorder.finish(partial(self._record, http_request))

    async def _call_handler(
        self, http_request: web.Request, recorder: ExchangeRecorder
    ) -> web.StreamResponse:
        if (preflight := answer_preflight(http_request, self._cors)) is not None:
            return preflight
        check_origin(http_request, self._cors)
        if http_request.path in ("/health", "/health/"):
            return json_response(200, self._describe_health())
        request, handler = self._find_route(http_request, recorder)
        recorder.model = request.model
        self._authenticate(http_request)
        if self._meter is not None:
            self._meter.admit(request.account, costs=http_request.method == "POST")
        fault = self._faults.take(http_request)
        if fault is None:
            return await self._get_response(handler, request)
        if (error := fault.error()) is not None:
            raise error
        if fault.kind == "reset":
            await interrupt(fault, http_request)
        response = await self._get_response(handler, evolve(request, fault=fault))
        if isinstance(response, web.Response):
            return await send_partly(response, fault, http_request)
        return response

    def _describe_health(self) -> Mapping[str, Any]:
        if not self._draws_cards:
            return {"status": "ok"}
        return {"status": "ok", "backends": {"Text-to-Image": TEST_CARD}}

    def _find_route(
        self, http_request: web.Request, recorder: ExchangeRecorder
    ) -> tuple[ApiRequest, RouteHandler]:
        if self._tape is None:
            return find_route(http_request, self._routes, recorder)
        if http_request.headers.get("Upgrade", "").lower() == "websocket":
            raise errors.not_supported("WebSockets are neither recorded nor replayed")
        account, _ = split_path(http_request.raw_path.partition("?")[0])
        return ApiRequest(http_request, account, recorder), self._tape.answer

    def _add_cost(
        self, http_request: web.Request, recorder: ExchangeRecorder, response: web.StreamResponse
    ) -> None:
        """Add the cost of a whole answer."""
        counts = self._meter is not None and self._meter.limits.neurons_per_day is not None
        if not counts or not isinstance(response, web.Response):
            return
        if _is_charged(http_request, response.status):
            neurons = _count_neurons(http_request, recorder.ending)
            response.headers["cf-ai-neurons"] = f"{neurons:.4f}"

    async def _add_headers(
        self, http_request: web.BaseRequest, response: web.StreamResponse
    ) -> None:
        """Add the headers of an account's limits, and those for pages of other origins."""
        if self._meter is not None and (account := find_account(http_request.path)):
            response.headers.update(self._meter.headers(account))
        add_cors_headers(http_request, response, self._cors)

    async def _get_response(self, handler: RouteHandler, request: ApiRequest) -> web.StreamResponse:
        """Answer by the script, or else by the handler."""
        reply = await self._script.take(request)
        if reply is not None:
            with_envelope = not is_openai_path(request.http.path)
            return await reply.send(request, with_envelope=with_envelope)
        result = await handler(request)
        if isinstance(result, web.StreamResponse):
            return result
        return json_response(200, errors.envelope(result))

    def _authenticate(self, request: web.Request) -> None:
        kind, _, token = request.headers.get("Authorization", "").strip().partition(" ")
        if not kind and "cf-aig-authorization" in request.headers:
            # AI Gateway's own header, which its documentation has without "Bearer", too.
            token = request.headers["cf-aig-authorization"].strip()
            kind, token = "bearer", token.removeprefix("Bearer ")
        if kind.lower() != "bearer":
            token = request.headers.get("X-Auth-Key", "")
            if not request.headers.get("X-Auth-Email"):
                raise errors.not_authenticated()
        # Headers can have bytes that are no UTF-8.
        sent = token.encode(errors="surrogateescape")
        valid = self._token is None or hmac.compare_digest(sent, self._token.encode())
        if not token.strip() or not valid:
            raise errors.not_authenticated()


def _find_file(
    path: str | os.PathLike[str] | None, name: str, *, encodes_images: bool = False
) -> Path | None:
    if path is None:
        return None
    check_file(Path(path), name, encodes_images=encodes_images)
    return Path(path)


def _is_charged(http_request: web.Request, status: int) -> bool:
    """Return whether an answer counts for the account's daily allocation."""
    return http_request.method == "POST" and status == 200


def _count_neurons(http_request: web.Request, ending: GenerationEnd | None) -> float:
    # The bytes that were read: chunked requests do not state their length.
    return count_neurons(ending, http_request.content.total_bytes)


def _build_error_response(error: ApiError, http_request: web.Request) -> web.Response:
    body = error.body()
    if is_openai_path(http_request.path):
        body = errors.with_openai_error(body)
    response = json_response(error.status, body)
    if error.retry_after is not None:
        response.headers["Retry-After"] = f"{error.retry_after:g}"
    if http_request.content.exception() is not None:
        response.force_close()  # aiohttp closes the connection, so the client must know.
    return response
