"""The HTTP side: which requests are let in, what they ask for, and the envelope of the answer."""

import asyncio
import hmac
import ipaddress
import logging
import re
import secrets
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson
from aiohttp import web
from attrs import field, frozen

from cfai.local import backends, faults, writing
from cfai.local.answers import ANSWERS, Answer
from cfai.local.backends.roles import Stopped
from cfai.local.checks import Body, decoded
from cfai.local.crew import Crew, Generation
from cfai.local.faults import Fault, envelope
from cfai.local.journal import Hear, Note
from cfai.local.models import Model, look_up

log: logging.Logger = logging.getLogger("cfai.local")

_RUN = re.compile(r"/client/v4/accounts/[^/]+/ai/run/(?P<model>.+)")


@frozen
class Desk:
    """Answers requests. What a text model is busy with has a crew of its own."""

    token: str | None
    """The only token that is accepted; any, where it is `None`."""
    body_limit: int
    """The longest body of a request, in bytes."""
    writers: Crew
    others: Crew
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
            return _json(fault.status, orjson.dumps(fault.body()), _headers())
        except ConnectionError:
            raise
        except Exception as exc:
            log.exception("the local Workers AI failed")
            note.status = 500
            return _json(500, orjson.dumps(faults.broken(exc).body()), _headers())
        finally:
            self._visits.discard(visit)
            note.close(self.hear)

    async def _answer(self, request: web.Request, note: Note) -> web.StreamResponse:
        _refuse_pages(request)
        note.model = _model_name(request)
        self._authenticate(request)
        model = look_up(note.model)
        if model is None:
            raise faults.no_such_model(note.model)
        if request.query.get("queueRequest") == "true":
            raise faults.not_here("there is no queue for batches")
        if model.task == "Text Generation":
            return await self._write(request, decoded(await self._read(request)), note)
        answer = ANSWERS.get(model.task)
        if answer is None:
            raise faults.not_here(f"{model.task}: there is no local model for it")
        return await self._compute(answer, model, decoded(await self._read(request)), note)

    def _authenticate(self, request: web.Request) -> None:
        kind, _, token = request.headers.get("Authorization", "").strip().partition(" ")
        if kind.lower() != "bearer":
            token = request.headers.get("X-Auth-Key", "")
            if not request.headers.get("X-Auth-Email"):
                raise faults.not_authenticated()
        right = self.token is None or hmac.compare_digest(token.encode(), self.token.encode())
        if not token.strip() or not right:
            raise faults.not_authenticated()

    async def _read(self, request: web.Request) -> bytes:
        try:
            return await request.read()
        except web.HTTPRequestEntityTooLarge as exc:
            raise faults.too_large(self.body_limit) from exc
        except web.RequestPayloadError as exc:
            raise faults.bad_input("the body is not encoded as its headers say") from exc

    async def _compute(
        self, answer: Answer, model: Model, body: Body, note: Note
    ) -> web.StreamResponse:
        def work(stopped: Stopped) -> tuple[bytes, str]:
            answered = answer(model, body, stopped)
            done = envelope(answered.result)
            return orjson.dumps(done, option=orjson.OPT_SERIALIZE_NUMPY), answered.backend

        payload, backend = await self.others.run(work, only_if_free=_rejects_if_busy(body))
        note.backend = backend
        return _json(200, payload, _headers(backend))

    async def _write(self, request: web.Request, body: Body, note: Note) -> web.StreamResponse:
        ask = writing.asked(body)
        streams = body.get("stream") is True
        if streams and ask.schema is not None:
            raise faults.bad_input("JSON Mode is not supported with streaming")

        def begun(backend: str) -> dict[str, str]:
            note.status, note.backend = 200, backend
            return _headers(backend)

        async with Generation(backends.writer, ask) as generation:
            ending = generation.start(self.writers, only_if_free=_rejects_if_busy(body))
            note.ending = ending
            if streams:
                return await writing.stream(generation, ending, request, begun)
            result = await writing.written(generation, ending, ask)
            return _json(200, orjson.dumps(envelope(result)), begun(generation.backend))


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


def _model_name(request: web.Request) -> str:
    """Give the model in the path, which is not decoded before its slashes are seen."""
    path = request.raw_path.partition("?")[0]
    found = _RUN.fullmatch(path)
    if not found:
        raise faults.not_routed(path)
    if "%2f" in path.lower():
        raise faults.no_route()
    if request.method != "POST":
        raise faults.wrong_method(request.method)
    return unquote(found["model"])


def _rejects_if_busy(body: Body) -> bool:
    options = body.get("options")
    return isinstance(options, dict) and options.get("rejectIfBusy") is True


def _headers(backend: str = "") -> dict[str, str]:
    named = {"cfai-backend": backend} if backend else {}
    return {"cf-ray": f"{secrets.token_hex(8)}-LOCAL", "cfai-local": "1"} | named


def _json(status: int, payload: bytes, headers: dict[str, Any]) -> web.Response:
    headers = {"Content-Type": "application/json", **headers}
    return web.Response(status=status, body=payload, headers=headers)
