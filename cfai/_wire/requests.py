"""What goes out: the path, the headers and the body of a request, decided before any socket."""

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import cache
from typing import Any, Final
from urllib.parse import urlencode

from attrs import define, field

from cfai._wire.bodies import Content, Pieces, encoded, json_content
from cfai._wire.multipart import Form
from cfai._wire.paths import account_segment, model_path
from cfai.errors import InputError
from cfai.profiles import profile
from cfai.settings import Gateway, Options, Settings
from cfai.tasks import MediaTask, Task, texts_of

# RFC 9110, section 5.5: visible characters with spaces between them, and no line end.
_HEADER_VALUE: Final = re.compile(r"[\x21-\xff](?:[\x20-\xff\t]*[\x21-\xff])?", re.ASCII)
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~\-]+")
_OWN_HEADERS: Final = frozenset({"content-length", "transfer-encoding", "host", "connection"})


# Not frozen: each call makes one, and freezing doubles what that costs.
@define
class Request:
    """One request, ready to be sent any number of times."""

    method: str
    path: str
    """After the base address: checked, and sent to the letter."""
    headers: Mapping[str, str] = field(repr=False)
    body: Content | Form | None = field(default=None, repr=False)
    repeatable: bool = True
    """Whether it may be carried out twice."""

    def content(self) -> bytes | AsyncIterator[bytes] | None:
        """The body for one attempt, unless it is a form, which is read while it is sent."""
        if isinstance(self.body, Pieces):
            return _pieces(self.body)
        return None if isinstance(self.body, Form) else self.body


async def _pieces(body: Pieces) -> AsyncIterator[bytes]:
    for piece in body:
        yield piece


@cache
def user_agent() -> str:
    """How the SDK names itself."""
    from cfai._version import __version__

    return f"cfai/{__version__}"


def check_header(name: str, value: str) -> None:
    """Refuse what can't be a header, or is not the user's to set.

    Raises:
        InputError: It is such.
    """
    if not _is_name(name) or name.lower() in _OWN_HEADERS:
        raise InputError(f"headers must not name {name!r:.60}")
    if not _is_line(value):
        # A header's value may be a secret, so the message leaves it out.
        raise InputError(f"the header {name} must have a text of one line as its value")


def _checked(headers: Mapping[str, str]) -> Mapping[str, str]:
    for name, value in headers.items():
        check_header(name, value)
    return headers


def _is_name(value: object) -> bool:
    return isinstance(value, str) and _HEADER_NAME.fullmatch(value) is not None


def _is_line(value: object) -> bool:
    return isinstance(value, str) and (not value or _HEADER_VALUE.fullmatch(value) is not None)


def _merged(*layers: Mapping[str, str]) -> dict[str, str]:
    """The headers of all *layers*; of a name that comes twice, in any case, the last."""
    known = {name.lower(): (name, value) for layer in layers for name, value in layer.items()}
    return dict(known.values())


def _said(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        # All but ASCII is escaped, which JSON in a header has to be.
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as exc:
        raise InputError(f"a gateway header must be made of JSON values: {exc}") from exc


# Cloudflare docs, AI Gateway, "Request headers"; the last three: github.com/cloudflare/ai,
# gateway-core/src/gateway-fetch.ts.
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
}


def gateway_headers(gateway: Gateway) -> dict[str, str]:
    """The `cf-aig-*` headers of what is set."""
    headers = {
        header: _said(value)
        for name, header in _GATEWAY_HEADERS.items()
        if (value := getattr(gateway, name)) is not None
    }
    if gateway.authorization is not None:
        headers["cf-aig-authorization"] = f"Bearer {gateway.authorization}"
    return headers


def all_headers(
    settings: Settings, options: Options | None, own: Mapping[str, str]
) -> dict[str, str]:
    """The headers of a request: who asks, through which gateway, and what the user adds.

    Args:
        own: What the body needs said of it. The user can't change that.
    """
    asks = {"User-Agent": user_agent(), **settings.credentials.headers()}
    if options is None and settings.gateway is None and not settings.headers:
        return {**asks, **own}
    return _merged(asks, *map(_checked, _added(settings, options)), own)


def _added(settings: Settings, options: Options | None) -> Iterator[Mapping[str, str]]:
    if settings.gateway is not None:
        yield gateway_headers(settings.gateway)
    if settings.headers:
        yield settings.headers
    if options is not None:
        if options.session_affinity is not None:
            yield {"x-session-affinity": options.session_affinity}
        if options.headers:
            yield options.headers


def with_json(
    settings: Settings,
    options: Options | None,
    path: str,
    fields: Mapping[str, Any],
    *,
    repeatable: bool = False,
) -> Request:
    """`POST /accounts/{account_id}/ai/…` with a JSON object; unless told, not carried out twice."""
    headers = all_headers(settings, options, {"Content-Type": "application/json"})
    path = account_path(settings, path)
    return Request("POST", path, headers, json_content(fields), repeatable)


def with_form(
    settings: Settings, options: Options | None, path: str, form: Form, *, repeatable: bool
) -> Request:
    """`POST /accounts/{account_id}/ai/…` with a form."""
    own = {"Content-Type": form.content_type, "Content-Length": str(len(form))}
    headers = all_headers(settings, options, own)
    return Request("POST", account_path(settings, path), headers, form, repeatable)


def build_get_request(
    settings: Settings, options: Options | None, path: str, query: Mapping[str, str]
) -> Request:
    """`GET /accounts/{account_id}/ai/…`, with *query* if it is not empty."""
    path = account_path(settings, path)
    return Request(
        method="GET",
        path=f"{path}?{urlencode(query)}" if query else path,
        headers=all_headers(settings, options, {}),
    )


def account_path(settings: Settings, rest: str) -> str:
    """A path below the account: `/accounts/{account_id}/ai/…`."""
    return f"/accounts/{account_segment(settings.account_id)}/ai/{rest}"


def wants_stream(task: Task[Any] | Mapping[str, Any]) -> bool:
    """Whether the task itself asks for a stream."""
    said = getattr(task, "stream", None) if isinstance(task, Task) else task.get("stream")
    return said is True


def _check_model(model: str, task: Task[Any] | Mapping[str, Any]) -> None:
    """Refuse what is known not to work with *model*."""
    known = profile(model)
    if known.websocket_only:
        raise InputError(f"model must answer over HTTP, and {model} does over WebSockets only")
    most = known.texts_per_request
    if most is not None and isinstance(task, Task) and task.texts is not None:
        count = len(texts_of(task) or ())
        if count > most:
            raise InputError(
                f"{task.texts} must have at most {most} texts for {model}, got {count}"
            )


def _own_options(task: Task[Any] | Mapping[str, Any]) -> Mapping[str, Any]:
    """What the task itself says under the name that the options of a call are sent by."""
    said = ((task.extra or {}) if isinstance(task, Task) else task).get("options")
    if said is None:
        return {}
    if not isinstance(said, Mapping):
        raise InputError(f"options must be a mapping beside reject_if_busy, got {said!r:.60}")
    return said


def has_media(task: Task[Any] | Mapping[str, Any]) -> bool:
    """Whether building the request reads files or encodes media, which takes its time."""
    return isinstance(task, MediaTask) or (isinstance(task, Task) and task.blocks())


def run(
    settings: Settings,
    model: str,
    task: Task[Any] | Mapping[str, Any],
    *,
    stream: bool,
    options: Options | None = None,
) -> Request:
    """`POST /accounts/{account_id}/ai/run/{model_name}`.

    Source: Workers AI API, "Execute AI model"; the query: github.com/cloudflare/ai, `createRun`.

    Raises:
        InputError: The model or the account can't be part of a path, or the media can't be read.
    """
    path = account_path(settings, f"run/{model_path(model)}")
    _check_model(model, task)
    added: dict[str, Any] = {"stream": True} if stream else {}
    if not stream and wants_stream(task):
        added["stream"] = False
    if options is not None and options.reject_if_busy is not None:
        added["options"] = {**_own_options(task), "rejectIfBusy": options.reject_if_busy}
    body = encoded(model, task, added)
    query = body.query
    if options is not None and options.tags:
        query = {**query, "tags": ",".join(options.tags)}
    own = {"Content-Type": body.content_type}
    if stream:
        # A compressed stream is held back by whoever compresses it.
        own |= {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
    if not isinstance(body.content, bytes):
        own["Content-Length"] = str(len(body.content))
    return Request(
        method="POST",
        path=f"{path}?{urlencode(query)}" if query else path,
        headers=all_headers(settings, options, own),
        body=body.content,
    )
