"""The local Workers AI as an async context manager: starts, says where it is, and stops."""

import os
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self, TypedDict

from aiohttp import web

from cfai.errors import ConfigError
from cfai.local import backends, catalogue
from cfai.local.app import Desk, is_loopback
from cfai.local.backends.smollm2 import PARALLEL
from cfai.local.crew import Crew
from cfai.local.faults import Fault
from cfai.local.finetunes import Finetunes
from cfai.local.journal import Exchange, Hear
from cfai.local.markdown import Markdown
from cfai.local.places import Places
from cfai.local.queue import Queue
from cfai.local.runs import Runs
from cfai.local.store import Store
from cfai.local.uploads import Uploads

_ACCOUNT = "local"
_TOKEN = "local-api-token"  # noqa: S105  # any will do, and the client asks for one
_REMEMBERED = 10_000

_PATIENCE = 1.0
"""In seconds: for connections to close, once the requests on them are broken off."""


class Credentials(TypedDict):
    """The arguments of a client that is to talk to the server."""

    account_id: str
    api_token: str
    base_url: str


class Server:
    """A Workers AI on this machine, for this machine: `async with Server() as server`.

    It speaks the service's protocol on a loopback address, and answers with small models. Text
    generation, embeddings, classification, reranking and summaries are computed; everything else
    is answered with 501. The models are loaded when they are first needed, and stay loaded until
    the process ends; the server can be started and stopped as often as you like.

    Args:
        folder: Where fine-tunes, their files and batches are kept, for one server at a time; left
            out, they go away with the server. It is made where there is none.
        host: A loopback address.
        port: 0 for any that is free.
        token: The only API token to accept; any, where it is left out.
        waiting: How many requests may wait for a model before others are refused (429).
        body_limit: The longest body of a request, in bytes.
        prewarm: Load the text model before the server starts, rather than with the first request,
            which stops the whole process for half a second.
        on_request: Hears of each request when it is done.

    Raises:
        ConfigError: *host* is no loopback address; or, when it starts, the port is taken, *folder*
            can't be used or is another server's, or *prewarm* can't load the text model (it says
            what is missing).
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        waiting: int = 1024,
        body_limit: int = 32 << 20,
        prewarm: bool = False,
        on_request: Hear | None = None,
    ) -> None:
        self._folder = None if folder is None else Path(folder)
        self._host = _loopback(host)
        self._asked_port = port
        self._token = token
        self._waiting = waiting
        self._body_limit = body_limit
        self._prewarm = prewarm
        self._on_request = on_request
        self._port = 0
        self._runner: web.AppRunner | None = None
        self._crews: tuple[Crew, ...] = ()
        self._store: Store | None = None
        self._queue: Queue | None = None
        self.requests: deque[Exchange] = deque(maxlen=_REMEMBERED)
        """What was answered, the oldest first; the last ten thousand."""

    @property
    def base_url(self) -> str:
        """Where it answers: `http://127.0.0.1:PORT/client/v4`."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}/client/v4"

    @property
    def credentials(self) -> Credentials:
        """What a client needs: `WorkersAI(**server.credentials)`."""
        token = self._token or _TOKEN
        return {"account_id": _ACCOUNT, "api_token": token, "base_url": self.base_url}

    async def __aenter__(self) -> Self:
        if self._runner:
            raise ConfigError("the server runs already: start another one")
        self._store = store = Store(self._folder)
        await store.open()
        writers = Crew("text", size=PARALLEL, waiting=self._waiting)
        others = Crew("models", size=2, waiting=self._waiting)
        documents = Crew("documents", size=2, waiting=self._waiting)
        self._crews = (writers, others, documents)
        finetunes = Finetunes(store)
        runs = Runs(writers, others, finetunes)
        self._queue = queue = Queue(store, runs)
        served = places(finetunes, Markdown(documents))
        desk = Desk(self._token, self._body_limit, runs, queue, served, self._heard)
        # Without cancellation, a client that leaves would be noticed only by the next write.
        self._runner = web.AppRunner(
            desk.application(),
            handler_cancellation=True,
            access_log=None,
            shutdown_timeout=_PATIENCE,
        )
        try:
            if self._prewarm:
                await self._load(writers)
            await self._runner.setup()
            await self._listen(self._runner)
            queue.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop: break off what is under way, and wait until no thread is left. Safe to repeat."""
        runner, self._runner = self._runner, None
        if runner:
            await runner.cleanup()
        queue, self._queue = self._queue, None
        if queue:
            await queue.close()
        crews, self._crews = self._crews, ()
        for crew in crews:
            await crew.close()
        store, self._store = self._store, None
        if store:
            await store.close()

    async def _load(self, writers: Crew) -> None:
        try:
            await writers.run(lambda _: backends.writer())
        except Fault as fault:
            raise ConfigError(fault.message) from fault

    async def _listen(self, runner: web.AppRunner) -> None:
        site = web.TCPSite(runner, self._host, self._asked_port)
        try:
            await site.start()
        except OSError as exc:
            raise ConfigError(f"can't listen on {self._host}:{self._asked_port}: {exc}") from exc
        self._port = runner.addresses[0][1]

    def _heard(self, exchange: Exchange) -> None:
        self.requests.append(exchange)
        if self._on_request:
            self._on_request(exchange)


def places(finetunes: Finetunes, markdown: Markdown) -> Places:
    """Who answers what is no run. A path that stands first goes before one with a `*`."""
    return {
        "finetunes": {"GET": finetunes.own, "POST": finetunes.create},
        "finetunes/public": {"GET": finetunes.public},
        "finetunes/*/finetune-assets": {"POST": Uploads(finetunes).upload},
        "models/search": {"GET": catalogue.search},
        "models/schema": {"GET": catalogue.schema},
        "tasks/search": {"GET": catalogue.tasks},
        "authors/search": {"GET": catalogue.authors},
        "tomarkdown": {"POST": markdown.convert},
        "tomarkdown/supported": {"GET": markdown.supported},
    }


def _loopback(host: str) -> str:
    """Refuse to listen where other machines could ask."""
    if not is_loopback(host):
        raise ConfigError(f"the local server listens on loopback addresses only, not on {host!r}")
    return "127.0.0.1" if host == "localhost" else host
