"""Builds requests: the path, the query, the headers and the body, before any socket is involved."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urlsplit

from attrs import define, field

from cfai._types.excerpts import format_count, format_value
from cfai._types.values import fast_maker
from cfai._validators import check_account_id, hide_arguments, segment_problem
from cfai._wire.bodies import Content, EncodedBody, encode_json, encode_run_body
from cfai._wire.routes import chat_fields, choose_route, universal_fields
from cfai._wire.version import __version__
from cfai.errors import InputError
from cfai.profiles import Profile, profile, warn_if_retired
from cfai.settings import Gateway, Options, Route, Settings
from cfai.tasks import MediaTask, Task, texts_of

if TYPE_CHECKING:
    from cfai._wire.multipart import Form


# Not frozen: every call creates one, and a frozen class takes twice as long to create.
@define(eq=False)
class Request:
    """A request that can be sent any number of times."""

    method: str
    path: str
    """Below the base address. It is checked, and sent literally."""
    headers: Mapping[str, str] = field(repr=False)
    body: Content | Form | None = field(default=None, repr=False)
    """A form is read while it is sent; see *is_form*."""
    repeatable: bool = True
    """Whether the service may process it twice."""
    model: str | None = None
    """The model that it runs, if it runs one."""
    route: Route = "run"
    """The route of a run."""
    streams_media: bool = False
    """Whether a successful response of a type other than JSON and text is read as it arrives."""
    costs: bool = False
    """Whether it runs a model, so that a used-up budget refuses it."""
    streams_events: bool = False
    """Whether a stream of events is requested, so that a body of neither events nor JSON is refused
    before it was read."""
    opens_socket: bool = False
    """Whether it asks for a WebSocket."""
    is_form: bool = False
    """Whether its body is a form."""


make_request: Final = fast_maker(Request)
"""The same as `Request`, in half of the time."""


# Paths: names are checked and then kept literally; nothing is percent-encoded


@lru_cache(maxsize=256)
def _model_problem(model: str) -> str | None:
    return next((problem for part in model.split("/") if (problem := segment_problem(part))), None)


def check_model_name(model: str) -> str:
    """Check the name of a model, such as `@cf/openai/whisper`. Its slashes and @ stay as they are.

    Raises:
        InputError: It is empty, or a part of it can't be a segment of a path.
    """
    if not isinstance(model, str):
        raise InputError(f"model must be a string, got {format_value(model)}")
    if problem := _model_problem(model):
        raise InputError(
            f"each part of model between slashes {problem}, got {format_value(model, 200)}"
        )
    return model


def check_run_model(model: str) -> str:
    """Check the name of a model for calls that only `/ai/run/{model_name}` takes.

    Raises:
        InputError: The name is invalid, or other paths run it.
    """
    if profile(check_model_name(model)).route != "run":
        raise InputError(
            f"model must be one of Workers AI's own for this call, got {format_value(model, 200)}"
        )
    return model


def account_path(settings: Settings, rest: str) -> str:
    """A path below the account: `/accounts/{account_id}/ai/…`."""
    return f"/accounts/{check_account_id(settings.account_id)}/ai/{rest}"


# Headers

# Cloudflare docs, AI Gateway, "Request headers"; the next three: github.com/cloudflare/ai,
# gateway-core/src/gateway-fetch.ts; payloads: changelog of 2026-03-17; the last: "Auto Router".
_GATEWAY_HEADERS: Final = {
    "id": "cf-aig-gateway-id",
    "skip_cache": "cf-aig-skip-cache",
    "cache_ttl": "cf-aig-cache-ttl",
    "cache_key": "cf-aig-cache-key",
    "collect_log": "cf-aig-collect-log",
    "request_timeout": "cf-aig-request-timeout",
    "max_attempts": "cf-aig-max-attempts",
    "retry_delay": "cf-aig-retry-delay",
    "backoff": "cf-aig-backoff",
    "metadata": "cf-aig-metadata",
    "event_id": "cf-aig-event-id",
    "byok_alias": "cf-aig-byok-alias",
    "zdr": "cf-aig-zdr",
    "collect_log_payload": "cf-aig-collect-log-payload",
    "allowed_models": "cf-aig-allowed-models",
    "allowed_providers": "cf-aig-allowed-providers",
    "session_id": "cf-aig-session-id",
    "turn_id": "cf-aig-turn-id",
    "no_session_affinity": "cf-aig-no-session-affinity",
}

_USER_AGENT: Final = f"cfai/{__version__}"


def build_gateway_headers(gateway: Gateway) -> dict[str, str]:
    """The `cf-aig-*` headers of the options that are set."""
    headers = {
        header: _encode_header(value)
        for name, header in _GATEWAY_HEADERS.items()
        if (value := getattr(gateway, name)) is not None
    }
    if gateway.authorization is not None:
        headers["cf-aig-authorization"] = f"Bearer {gateway.authorization}"
    return headers


def _encode_header(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return ",".join(value)
    try:
        # Headers are ASCII, and so is JSON as Python's own encoder writes it.
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as exc:
        raise InputError(f"a gateway option must be a JSON value: {exc}") from exc


def build_headers(
    settings: Settings, options: Options | None, body_headers: Mapping[str, str]
) -> dict[str, str]:
    """The headers of a request: credentials, gateway, those that the user adds, and *body_headers*.

    The headers in *body_headers* belong to the body. The user can't change them.
    """
    if options is None and settings.gateway is None and not settings.headers:
        return {**_own_headers(settings), **body_headers}
    return _merge_headers(settings, options, body_headers)


_JSON_TYPE: Final = {"Content-Type": "application/json"}


def _json_headers(settings: Settings, options: Options | None) -> Mapping[str, str]:
    """The headers of a request with JSON: made once for all calls without options.

    That saves 11,000 of the 540,000 instructions of a run.
    """
    if options is not None:
        return build_headers(settings, options, _JSON_TYPE)
    headers = settings.json_headers
    if headers is None:
        headers = build_headers(settings, None, _JSON_TYPE)
        object.__setattr__(settings, "json_headers", headers)
    return headers


def _own_headers(settings: Settings) -> dict[str, str]:
    return {"User-Agent": _USER_AGENT, **settings.credentials.headers()}


@hide_arguments
def _merge_headers(
    settings: Settings, options: Options | None, body_headers: Mapping[str, str]
) -> dict[str, str]:
    added = [settings.headers]
    if settings.gateway is not None:
        added.insert(0, build_gateway_headers(settings.gateway))
    if options is not None:
        if options.session_affinity is not None:
            added.append({"x-session-affinity": options.session_affinity})
        added.append(options.headers or {})
    # If a name is in two layers, in any case, the last one counts.
    layers = (_own_headers(settings), *added, body_headers)
    merged = {name.lower(): (name, value) for layer in layers for name, value in layer.items()}
    return dict(merged.values())


def encode_query(query: Mapping[str, str] | Sequence[tuple[str, str]], *, safe: str = "") -> str:
    """The query of an address, in UTF-8; *safe* are characters that are not escaped.

    Pairs may repeat a name.

    Raises:
        InputError: A value is not valid Unicode.
    """
    try:
        return urlencode(query, safe=safe)
    except UnicodeEncodeError:
        for name, value in query.items() if isinstance(query, Mapping) else query:
            if value != value.encode(errors="ignore").decode():
                problem = f"{name} must be valid Unicode"
                raise InputError(f"{problem}, got {format_value(value)}") from None
        raise


# Requests to an account


def build_json_request(
    settings: Settings,
    options: Options | None,
    path: str,
    fields: Mapping[str, Any],
    *,
    repeatable: bool = False,
    model: str | None = None,
) -> Request:
    """`POST /accounts/{account_id}/ai/…` with a JSON object."""
    headers = _json_headers(settings, options)
    body = encode_json(fields)
    return Request("POST", account_path(settings, path), headers, body, repeatable, model)


def build_form_request(
    settings: Settings, options: Options | None, path: str, form: Form, *, repeatable: bool
) -> Request:
    """`POST /accounts/{account_id}/ai/…` with a form."""
    body_headers = {"Content-Type": form.content_type, "Content-Length": str(len(form))}
    headers = build_headers(settings, options, body_headers)
    return Request("POST", account_path(settings, path), headers, form, repeatable, is_form=True)


def build_get_request(
    settings: Settings, options: Options | None, path: str, query: Mapping[str, str]
) -> Request:
    """`GET /accounts/{account_id}/ai/…`, with *query* if it is not empty."""
    path = account_path(settings, f"{path}?{encode_query(query)}" if query else path)
    return Request("GET", path, build_headers(settings, options, {}))


# Runs of models


# A compressed stream is buffered by whoever compresses it.
_STREAM_HEADERS: Final = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}


def build_run_request(
    settings: Settings,
    model: str,
    task: Task[Any] | Mapping[str, Any],
    *,
    stream: bool,
    options: Options | None = None,
) -> Request:
    """`POST /accounts/{account_id}/ai/run/{model_name}`, or the path of another route.

    Blocks if the task has media to read.

    Source: Workers AI API, "Execute AI model"; the query: github.com/cloudflare/ai, `createRun`.

    Raises:
        InputError: The model or the account can't be part of a path, the route does not take the
            model or the task, or the media can't be read.
    """
    model_profile = profile(check_model_name(model))
    _check_model_takes(model_profile, task)
    if model_profile.route != "run" or (options is not None and options.route is not None):
        chosen = None if options is None else options.route
        route = choose_route(model_profile, task, chosen, stream=stream)
        if route != "run":
            return _build_routed_request(
                settings, model, task, route, stream=stream, options=options
            )
    path = _run_path(settings.account_id, model)
    body = encode_run_body(model, task, _added_fields(task, stream, options))
    query = body.query
    if options is not None and options.tags:
        query = {**query, "tags": ",".join(options.tags)}
    path = f"{path}?{encode_query(query)}" if query else path
    headers = _run_headers(settings, options, body, stream=stream)
    return make_request("POST", path, headers, body.content, model=model, costs=True)


@lru_cache(maxsize=256)
def _run_path(account_id: str, model: str) -> str:
    return f"/accounts/{check_account_id(account_id)}/ai/run/{model}"


def _run_headers(
    settings: Settings, options: Options | None, body: EncodedBody, *, stream: bool
) -> Mapping[str, str]:
    is_bytes = isinstance(body.content, bytes)
    if is_bytes and not stream and body.content_type == "application/json":
        return _json_headers(settings, options)
    body_headers = {"Content-Type": body.content_type}
    if stream:
        body_headers |= _STREAM_HEADERS
    if not is_bytes:
        body_headers["Content-Length"] = str(len(body.content))
    return build_headers(settings, options, body_headers)


def _added_fields(
    task: Task[Any] | Mapping[str, Any], stream: bool, options: Options | None
) -> dict[str, Any]:
    """The fields that the client adds to those of the task."""
    added: dict[str, Any] = {"stream": stream} if stream or wants_stream(task) else {}
    if options is not None and options.reject_if_busy is not None:
        added["options"] = {**_task_options(task), "rejectIfBusy": options.reject_if_busy}
    return added


def _build_routed_request(
    settings: Settings,
    model: str,
    task: Task[Any] | Mapping[str, Any],
    route: Route,
    *,
    stream: bool,
    options: Options | None,
) -> Request:
    """`POST /accounts/{account_id}/ai/v1/chat/completions` or `…/ai/run`.

    Source: Cloudflare docs, ai-gateway/usage/rest-api.mdx@0309c8b; `options` at the top level:
    Workers AI, "Reject if busy".
    """
    if options is not None and options.tags:
        raise InputError(
            f"Options.tags must not be set on the route {route}, which has none: use"
            " Gateway(metadata=…) to mark a call in the gateway's logs"
        )
    added = _added_fields(task, stream, options)
    if route == "chat":
        path, fields = "v1/chat/completions", chat_fields(model, task, added)
    else:
        if "options" in added:
            problem = "Options.reject_if_busy must not be set on the route universal"
            raise InputError(f"{problem}, whose models are not Workers AI's: leave it out")
        path, fields = "run", universal_fields(model, task, added)
    body_headers = {"Content-Type": "application/json", **(_STREAM_HEADERS if stream else {})}
    headers = build_headers(settings, options, body_headers)
    is_own = route == "universal" and model.startswith("@")
    if is_own and "cf-aig-gateway-id" not in map(str.lower, headers):
        problem = f"{model} needs a gateway on the route universal"
        raise InputError(f'{problem}: set Options(gateway="default"), or leave the route out')
    content = encode_json(fields)
    path = account_path(settings, path)
    return Request("POST", path, headers, content, model=model, route=route, costs=True)


def build_download_request(url: str) -> Request:
    """`GET` an address outside the API, without credentials; its origin is the base address."""
    parts = urlsplit(url)
    path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    return Request("GET", path, {"User-Agent": _USER_AGENT})


def wants_stream(task: Task[Any] | Mapping[str, Any]) -> bool:
    """Whether the task itself requests a stream."""
    stream = getattr(task, "stream", None) if isinstance(task, Task) else task.get("stream")
    return stream is True


def has_media(task: Task[Any] | Mapping[str, Any]) -> bool:
    """Whether building the request blocks, to read files or to encode media."""
    return isinstance(task, MediaTask) or (isinstance(task, Task) and task.reads_files())


def _check_model_takes(model_profile: Profile, task: Task[Any] | Mapping[str, Any]) -> None:
    """Check that a task is not known to fail with a model."""
    model = model_profile.model
    if model_profile.websocket_only:
        raise InputError(f"model must answer over HTTP, and {model} uses WebSockets only")
    if model_profile.retired is not None:
        warn_if_retired(model)
    limit = model_profile.texts_per_request
    if limit is not None and isinstance(task, Task) and task.texts is not None:
        count = len(texts_of(task) or ())
        if count > limit:
            raise InputError(
                f"{task.texts} must have at most {format_count(limit, 'text')} for {model}, "
                f"got {count}"
            )


def _task_options(task: Task[Any] | Mapping[str, Any]) -> Mapping[str, Any]:
    """The `options` field of the task itself, which `reject_if_busy` is added to."""
    if isinstance(task, Task) and not task.takes_options:
        kind = type(task).__name__
        raise InputError(f"reject_if_busy must not be set for {kind}: its models refuse options")
    options = ((task.extra or {}) if isinstance(task, Task) else task).get("options")
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise InputError(
            f"options must be a mapping if reject_if_busy is set, got {format_value(options)}"
        )
    return options
