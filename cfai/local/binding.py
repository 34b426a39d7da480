"""The protocol of a Worker's `env.AI`, for Miniflare: its `ai.remoteProxyConnectionString`.

workerd sends every call to one address, with the real request in headers that begin with `MF-`.
Each becomes a request to this server's own API, so that everything else applies to it as well.
Source: captured from miniflare 4.20260426; github.com/cloudflare/workerd, src/cloudflare/internal.
"""

from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import aiohttp
import orjson
from aiohttp import web
from attrs import define, field, frozen

from cfai.errors import ConfigError
from cfai.local import errors
from cfai.local.errors import ApiError
from cfai.local.faults import HEADER as FAULT_HEADER
from cfai.local.requests import check_origin
from cfai.tasks.task import shorten

PATH = "/binding"

_ACCOUNT = "local"
_JSON = "application/json"
"""Without a charset: workerd decodes only a body of exactly this type."""

_TIMEOUT = aiohttp.ClientTimeout(total=None)

_MARK = b"// Written by `cfai serve --worker`."
"""The beginning of the files of the Worker; other files are not overwritten."""

_WORKER_NAME = "cfai-ai"
_COMPATIBILITY_DATE = "2026-04-01"

_PASSED_ON = ("cf-", "cfai-", "ratelimit", "retry-after")
"""How the names of the headers begin that a Worker gets."""

_CONVERSIONS = "/to-everything/markdown/"

_RUN_OPTIONS = frozenset(
    {"extraHeaders", "gateway", "prefix", "queueRequest", "returnRawResponse", "signal", "tags"}
)
"""The options of a run that the server uses, or that only concern workerd."""


@frozen
class _Call:
    """A call of a Worker: the request inside of the request."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """With names in lower case."""
    body: bytes

    def read_json(self) -> Any:
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as exc:
            raise errors.bad_input(f"the body is not JSON: {exc}") from exc


@define
class Binding:
    """The route `/binding`."""

    cors: frozenset[str]
    has_token: bool
    """Whether the server accepts only one token: `env.AI` has none."""
    _session: aiohttp.ClientSession | None = field(default=None, init=False)
    _api: str = field(default="", init=False)
    _gateway: str = field(default="", init=False)

    async def open(self, origin: str) -> None:
        """Get ready to send requests to the server at *origin*."""
        self._api = f"{origin}/client/v4/accounts/{_ACCOUNT}/ai"
        self._gateway = f"{origin}/v1/{_ACCOUNT}"
        headers = {"Authorization": "Bearer local"}
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT, headers=headers)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a call of a Worker, or the question for a session, which is not needed."""
        try:
            check_origin(request, self.cors)
            if "Upgrade" in request.headers:
                return web.Response(status=426)
            if self.has_token:
                raise errors.not_authenticated()
            return await self._route(request, await _read_call(request))
        except ApiError as error:
            if _CONVERSIONS in request.headers.get("MF-URL", ""):
                # Here workerd reads the envelope.
                return _json_response(error.status, error.body(), {})
            return _error_response(error.status, error.code, error.message, {})
        except aiohttp.ClientError as exc:
            # A fault that was asked for closed the connection: so does it here.
            if request.transport is not None:
                request.transport.close()
            raise ConnectionResetError("the server closed the connection") from exc

    async def _route(self, request: web.Request, call: _Call) -> web.StreamResponse:
        fault = _fault_headers(call)
        match call.method, call.path.split("/")[1:]:
            case "POST", ["run"] | ["ai-gateway", "run"]:
                return await self._run(request, call)
            case "GET", ["ai-api", "models", "search"]:
                url = f"{self._api}/models/search"
                return await self._pass_on(request, "GET", url, params=call.query, headers=fault)
            case "GET", ["to-everything", "markdown", "supported"]:
                url = f"{self._api}/tomarkdown/supported"
                return await self._pass_on(request, "GET", url, headers=fault)
            case "POST", ["to-everything", "markdown", "transformer"]:
                form, url = _build_form(call.read_json()), f"{self._api}/tomarkdown"
                return await self._pass_on(request, "POST", url, data=form, headers=fault)
            case "POST", ["ai-gateway", "universal", "run", gateway]:
                return await self._run_steps(request, gateway, call)
        raise errors.path_not_found(call.path)

    async def _run(self, request: web.Request, call: _Call) -> web.StreamResponse:
        model = call.headers.get("cf-consn-model-id", "")
        if ".." in model.split("/"):
            raise errors.unknown_model(model)
        url = f"{self._api}/run/{quote(model)}"
        if not call.headers.get("content-type", "").startswith(_JSON):
            # Media as they are; the other inputs are in the query.
            inputs = _read_inputs(call.query.get("userInputs", "{}"))
            headers = {
                "Content-Type": call.headers.get("content-type", "application/octet-stream"),
                **_fault_headers(call),
            }
            return await self._send_run(
                request, url, params=inputs, headers=headers, data=call.body
            )
        body = call.read_json()
        if not isinstance(body, dict):
            raise errors.bad_input(f"the call must be an object, got {shorten(body)}")
        options = body.get("options") or {}
        if not isinstance(options, dict):
            raise errors.bad_input(f"options must be an object, got {shorten(options)}")
        unknown = sorted(options.keys() - _RUN_OPTIONS)
        if unknown:
            raise errors.not_supported(f"env.AI.run has no option {unknown[0]} here")
        params = {"queueRequest": "true"} if options.get("queueRequest") else {}
        headers = {**_gateway_headers(options), **_fault_headers(call)}
        return await self._send_run(
            request, url, params=params, headers=headers, json=body.get("inputs")
        )

    async def _send_run(self, request: web.Request, url: str, **options: Any) -> web.StreamResponse:
        """Answer with the result of a run, without its envelope."""
        async with self._send("POST", url, **options) as upstream:
            if not _is_json(upstream):
                return await _copy(request, upstream)
            content = await upstream.read()
        status, headers = upstream.status, upstream.headers
        match _load(content):
            case {"errors": [{"code": code, "message": message}, *_]} if status >= 400:
                return _error_response(status, code, message, headers)
            case {"result": result, "success": _} if status < 400:
                return _json_response(status, result, headers)
        # Chat completions and raw results have no envelope; a fault or a script can send anything.
        return _json_bytes_response(status, content, headers)

    async def _run_steps(
        self, request: web.Request, gateway: str, call: _Call
    ) -> web.StreamResponse:
        """Answer by the first step that succeeds, as AI Gateway's universal endpoint does."""
        steps = call.read_json()
        if not isinstance(steps, list) or not steps:
            raise errors.bad_input(f"the call must be a list of steps, got {shorten(steps)}")
        for index, step in enumerate(steps):
            match step:
                case {"provider": "workers-ai", "endpoint": str(endpoint), "query": dict(query)}:
                    url = f"{self._gateway}/{quote(gateway)}/workers-ai/{quote(endpoint)}"
                case _:
                    problem = f"a step must be one of workers-ai, got {shorten(step)}"
                    raise errors.not_supported(problem)
            async with self._send(
                "POST", url, json=query, headers=_fault_headers(call)
            ) as upstream:
                if upstream.status < 400 or index == len(steps) - 1:
                    return await _copy(request, upstream, {"cf-aig-step": str(index)})
        raise AssertionError("the last step returns")

    async def _pass_on(
        self, request: web.Request, method: str, url: str, **options: Any
    ) -> web.StreamResponse:
        async with self._send(method, url, **options) as upstream:
            return await _copy(request, upstream)

    def _send(self, method: str, url: str, **options: Any) -> Any:
        if self._session is None:
            raise errors.not_supported("the server is closed")
        return self._session.request(method, url, **options)


def write_worker(folder: Path, origin: str) -> None:
    """Write a Worker that stands in for `env.AI` under `wrangler dev`, for the server at *origin*.

    Raises:
        ConfigError: The folder has other files of these names, or cannot be written.
    """
    source = Path(__file__).with_name("data") / "worker" / "index.js"
    variables = {"CFAI_ORIGIN": origin}
    config = {
        "name": _WORKER_NAME,
        "main": source.name,
        "compatibility_date": _COMPATIBILITY_DATE,
        "vars": variables,
        # For a project whose own binding has an environment of this name.
        "env": {"local": {"name": _WORKER_NAME, "vars": variables}},
    }
    files = {
        source.name: source.read_bytes(),
        "wrangler.jsonc": _MARK + b"\n" + orjson.dumps(config, option=orjson.OPT_INDENT_2) + b"\n",
    }
    for name in files:
        path = folder / name
        if path.exists() and not path.read_bytes().startswith(_MARK):
            raise ConfigError(f"{path} is another file: choose a new folder for the Worker")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as exc:
        raise ConfigError(f"cannot write to {folder}: {exc.strerror}") from exc


async def _read_call(request: web.Request) -> _Call:
    """Return the call in a request.

    Raises:
        ApiError: It has none, or its body is too large.
    """
    inner = {
        name.lower().removeprefix("mf-header-"): value
        for name, value in request.headers.items()
        if name.lower().startswith("mf-header-")
    }
    try:
        url = urlsplit(request.headers.get("MF-URL", ""))
    except ValueError as exc:
        raise errors.invalid_request(f"{PATH}: the header MF-URL is no URL: {exc}") from exc
    if not url.path:
        raise errors.invalid_request(
            f"{PATH} is for a Worker's env.AI: the header MF-URL is missing"
        )
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge as exc:
        raise errors.request_too_large(request.client_max_size) from exc
    return _Call(request.method, url.path, dict(parse_qsl(url.query)), inner, body)


def _read_inputs(text: str) -> dict[str, str]:
    """Return the inputs beside media as a query.

    Raises:
        ApiError: They are not an object.
    """
    try:
        inputs = orjson.loads(text)
    except orjson.JSONDecodeError:
        inputs = None
    if not isinstance(inputs, dict):
        raise errors.bad_input(f"userInputs must be an object, got {shorten(text)}")
    return {
        name: value if isinstance(value, str) else orjson.dumps(value).decode()
        for name, value in inputs.items()
    }


def _fault_headers(call: _Call) -> dict[str, str]:
    """Return the header that asks for a fault, which workerd sends on from `extraHeaders`."""
    return {FAULT_HEADER: call.headers[FAULT_HEADER]} if FAULT_HEADER in call.headers else {}


def _gateway_headers(options: Mapping[str, Any]) -> dict[str, str]:
    gateway = options.get("gateway")
    name = gateway.get("id") if isinstance(gateway, dict) else None
    return {"cf-aig-gateway-id": name} if isinstance(name, str) else {}


def _build_form(document: Any) -> aiohttp.FormData:
    """Return the files of a conversion, and its options, as a form.

    Raises:
        ApiError: They are not files.
    """
    form = aiohttp.FormData()
    match document:
        case {"files": list(files), **rest}:
            for file in files:
                _add_file(form, file)
            if rest.get("options"):
                form.add_field("conversionOptions", orjson.dumps(rest["options"]).decode())
            if files:
                return form
    raise errors.bad_input("toMarkdown needs a list of files")


def _add_file(form: aiohttp.FormData, file: Any) -> None:
    match file:
        case {"name": str(name), "mimeType": str(kind), "data": str(data)}:
            try:
                content = b64decode(data, validate=True)
                form.add_field("files", content, filename=name, content_type=kind)
            except ValueError as exc:
                raise errors.bad_input(f"the file {shorten(name)} is invalid: {exc}") from exc
        case _:
            raise errors.bad_input("a file must have a name, a mimeType and data")


def _load(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None


def _is_json(response: aiohttp.ClientResponse) -> bool:
    return response.headers.get("Content-Type", "").startswith(_JSON)


async def _copy(
    request: web.Request,
    upstream: aiohttp.ClientResponse,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """Send a response on while it arrives."""
    kind = {"Content-Type": upstream.headers.get("Content-Type", "application/octet-stream")}
    fields = {**kind, **_own_headers(upstream.headers), **(headers or {})}
    response = web.StreamResponse(status=upstream.status, headers=fields)
    await response.prepare(request)
    async for data in upstream.content.iter_any():
        await response.write(data)
    return response


def _own_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower().startswith(_PASSED_ON)}


def _json_response(status: int, document: Any, headers: Mapping[str, str]) -> web.Response:
    return _json_bytes_response(status, orjson.dumps(document), headers)


def _json_bytes_response(status: int, body: bytes, headers: Mapping[str, str]) -> web.Response:
    fields = {**_own_headers(headers), "Content-Type": _JSON}
    return web.Response(status=status, body=body, headers=fields)


def _error_response(
    status: int, code: int, message: str, headers: Mapping[str, str]
) -> web.Response:
    """Return an error in the form that workerd reads after a run."""
    document = {
        "internalCode": code,
        "message": message,
        "name": "InferenceUpstreamError",
        "description": message,
    }
    return _json_response(status, document, headers)
