"""The HTTP side: which requests are let in, who answers them, and the envelope of the answer."""

import asyncio
import hmac
import ipaddress
import logging
from typing import Any
from urllib.parse import urlsplit

import orjson
from aiohttp import web
from attrs import field, frozen

from cfai.local import faults, replies
from cfai.local.faults import Fault, envelope
from cfai.local.journal import Hear, Note
from cfai.local.places import Places, found
from cfai.local.queue import Queue
from cfai.local.runs import Runs

log: logging.Logger = logging.getLogger("cfai.local")


@frozen
class Desk:
    """Answers requests."""

    token: str | None
    """The only token that is accepted; any, where it is `None`."""
    body_limit: int
    """The longest body of a request, in bytes."""
    runs: Runs
    queue: Queue
    places: Places
    hear: Hear
    _visits: "set[asyncio.Task[Any] | None]" = field(factory=set, init=False)

    def application(self) -> web.Application:
        """Make the web application."""
        app = web.Application(client_max_size=self.body_limit)
        app.router.add_route("*", "/{path:.*}", self.answer)
        app.on_shutdown.append(self._break_off)
        return app

    async def _break_off(self, app: web.Application) -> None:
        # aiohttp would first wait for them to end by themselves.
        visits = [task for task in self._visits if task]
        for task in visits:
            task.cancel()
        await asyncio.gather(*visits, return_exceptions=True)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, whatever it is."""
        note, visit = Note(), asyncio.current_task()
        self._visits.add(visit)
        try:
            response = await self._answer(request, note)
            note.status = response.status
            return response
        except Fault as fault:
            note.status = fault.status
            return replies.document(fault.status, orjson.dumps(fault.body()), replies.headers())
        except ConnectionError:
            raise
        except Exception as exc:
            log.exception("the local Workers AI failed")
            note.status = 500
            return replies.document(500, orjson.dumps(faults.broken(exc).body()), replies.headers())
        finally:
            self._visits.discard(visit)
            note.close(self.hear)

    async def _answer(self, request: web.Request, note: Note) -> web.StreamResponse:
        _refuse_pages(request)
        visit, handler = found(request, self.places)
        note.model = visit.model
        self._authenticate(request)
        if handler is None:
            if request.query.get("queueRequest") != "true":
                return await self.runs.run(visit, note)
            handler = self.queue.answer
        payload = orjson.dumps(envelope(await handler(visit)))
        return replies.document(200, payload, replies.headers())

    def _authenticate(self, request: web.Request) -> None:
        kind, _, token = request.headers.get("Authorization", "").strip().partition(" ")
        if kind.lower() != "bearer":
            token = request.headers.get("X-Auth-Key", "")
            if not request.headers.get("X-Auth-Email"):
                raise faults.not_authenticated()
        right = self.token is None or hmac.compare_digest(token.encode(), self.token.encode())
        if not token.strip() or not right:
            raise faults.not_authenticated()


def _refuse_pages(request: web.Request) -> None:
    """Refuse what a web page of another site sends, also under a name that it gave this machine."""
    origin = request.headers.get("Origin", f"http://{request.host}")
    if origin != f"http://{request.host}" or not _names_loopback(request.host):
        raise faults.foreign_page()


def _names_loopback(authority: str) -> bool:
    try:
        return is_loopback(urlsplit(f"//{authority}").hostname or "")
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address is this machine's own, and no other machine's."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
