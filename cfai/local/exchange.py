"""Answered requests (`Exchange`), and the headers that every response has."""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from aiohttp import web
from attrs import define, frozen

from cfai.local.backends.roles import GenerationEnd

CLIENT_GONE = 499
"""The status of a request whose client left before the response began."""


@frozen
class Exchange:
    """An answered request."""

    model: str | None
    """The model in the path; `None` if the path names none."""
    status: int
    """The HTTP status; 499 if the client left before the response began."""
    backend: str | None = None
    """The backend that computed the answer."""
    ending: GenerationEnd | None = None
    """How the text generation ended, if there was one; "stopped" if the client left."""


@define
class ExchangeRecorder:
    """Collects the facts about one request while it is answered."""

    model: str | None = None
    status: int = CLIENT_GONE
    backend: str | None = None
    end: asyncio.Future[GenerationEnd] | None = None

    def start_response(self, backend: str) -> dict[str, str]:
        """Record a successful response by *backend* and return its headers."""
        self.status, self.backend = 200, backend
        return common_headers(backend)

    @property
    def ending(self) -> GenerationEnd | None:
        """How the text generation ended, if there was one and it has ended."""
        if self.end is None or not self.end.done():
            return None
        return None if self.end.cancelled() or self.end.exception() else self.end.result()

    def finish(self, record: Callable[[Exchange], object]) -> None:
        """Call *record* with the exchange, once its text generation has ended, too."""

        def record_end(end: asyncio.Future[GenerationEnd]) -> None:
            record(Exchange(self.model, self.status, self.backend, self.ending))

        if self.end is None:
            record(Exchange(self.model, self.status, self.backend))
        else:
            self.end.add_done_callback(record_end)


def common_headers(backend: str = "") -> dict[str, str]:
    """Return the headers of a response, with the name of the backend that computed it, if any."""
    names = {"cfai-backend": backend} if backend else {}
    return {"cf-ray": f"{secrets.token_hex(8)}-LOCAL", "cfai-local": "1"} | names


def json_response(
    status: int, document: Any, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Build a JSON response from a document, or from bytes that are already encoded."""
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    fields = common_headers() if headers is None else headers
    return web.Response(
        status=status, body=body, headers={"Content-Type": "application/json", **fields}
    )
