"""Scripted replies: exact answers for the requests that match, from a JSON file.

The file is a list of replies such as `{"contains": "weather", "result": {"response": "Sunny"}}`.
"""

import os
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web
from attrs import define, field, frozen

from cfai.errors import ConfigError
from cfai.local.errors import ApiError, envelope, with_openai_error
from cfai.local.exchange import json_response
from cfai.local.requests import ApiRequest
from cfai.tasks.task import shorten

_BACKEND = "script"

_CONDITIONS: Mapping[str, type] = {"path": str, "contains": str, "times": int}
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "result": (dict, list, str),
    "error": dict,
    "events": list,
    "body": str,
}
_DETAILS: Mapping[str, type] = {"retry_after": int, "status": int, "content_type": str}
_ERROR: Mapping[str, type] = {"status": int, "code": int, "message": str}


@frozen
class ScriptedReply:
    """A reply and the requests that get it."""

    kind: str
    """One of `_KINDS`."""
    content: Any
    path: str = "*"
    """The paths, as a pattern with `*`."""
    contains: str = ""
    """A text in the body of the request."""
    times: int | None = None
    """How many requests get it; all by default."""
    retry_after: int | None = None
    status: int = 200
    """The status of a "body"."""
    content_type: str = "text/plain"

    async def send(self, request: ApiRequest, *, with_envelope: bool) -> web.StreamResponse:
        """Build the response; events are sent.

        Args:
            request: The request.
            with_envelope: Whether it speaks Workers AI's own protocol, and not one of OpenAI's.
        """
        headers = request.recorder.start_response(_BACKEND)
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        match self.kind:
            case "result":
                document = envelope(self.content) if with_envelope else self.content
                return json_response(200, document, headers)
            case "error":
                error = ApiError(**{"status": 500, "code": 8005, "message": "", **self.content})
                body = error.body() if with_envelope else with_openai_error(error.body())
                return json_response(error.status, body, headers)
            case "body":
                headers["Content-Type"] = self.content_type
                return web.Response(status=self.status, body=self.content.encode(), headers=headers)
        headers |= {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        response = await request.start_stream(headers)
        for event in self.content:
            data = event.encode() if isinstance(event, str) else orjson.dumps(event)
            await response.write(b"data: " + data + b"\n\n")
        return response


@define
class Script:
    """The scripted replies of a server. The first that matches a request is used."""

    _replies: list[ScriptedReply] = field(factory=list)
    _used: dict[int, int] = field(factory=dict)

    async def take(self, request: ApiRequest) -> ScriptedReply | None:
        """Return the reply to a request; `None` if it is answered by a model.

        Raises:
            ApiError: The body cannot be read.
        """
        for index, reply in enumerate(self._replies):
            used = self._used.get(index, 0)
            if used == reply.times or not fnmatchcase(request.http.path, reply.path):
                continue
            if reply.contains and not await _contains(request, reply.contains):
                continue
            self._used[index] = used + 1
            return reply
        return None


async def _contains(request: ApiRequest, text: str) -> bool:
    """Return whether a text of the JSON body contains *text*; forms are not searched."""
    if request.http.content_type.startswith("multipart/"):
        return False
    try:
        document = orjson.loads(await request.read_body())
    except orjson.JSONDecodeError:
        return False
    return any(text in value for value in _find_texts(document))


def _find_texts(document: Any) -> Iterable[str]:
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def load_script(path: str | os.PathLike[str]) -> Script:
    """Read a script from a JSON file.

    Raises:
        ConfigError: The file cannot be read, or a reply is invalid; the message names it.
    """
    try:
        document = orjson.loads(Path(path).read_bytes())
    except OSError as exc:
        raise ConfigError(f"{path}: {exc.strerror}") from exc
    except orjson.JSONDecodeError as exc:
        raise ConfigError(f"{path} is not JSON: {exc}") from exc
    if not isinstance(document, list):
        raise ConfigError(f"{path} must be a list of replies, got {shorten(document)}")
    return Script([_read_reply(item, f"{path}[{i}]") for i, item in enumerate(document)])


def _read_reply(item: Any, name: str) -> ScriptedReply:
    if not isinstance(item, dict):
        raise ConfigError(f"{name} must be an object, got {shorten(item)}")
    kinds = item.keys() & _KINDS.keys()
    if len(kinds) != 1:
        raise ConfigError(f"{name} must have one of {', '.join(_KINDS)}, got {shorten(item)}")
    (kind,) = kinds
    _check_types(item, {**_CONDITIONS, **_KINDS, **_DETAILS}, name)
    if kind == "error":
        _check_types(item["error"], _ERROR, f"{name}.error")
        if not 400 <= item["error"].get("status", 500) <= 599:
            raise ConfigError(f"{name}.error.status must be between 400 and 599")
    for key in ("times", "retry_after"):
        if item.get(key, 0) < 0:
            raise ConfigError(f"{name}.{key} must be at least 0, got {item[key]}")
    for key in ("status", "content_type") if kind != "body" else ():
        if key in item:
            raise ConfigError(f"{name}.{key} must be omitted: only a body has it, not a {kind}")
    if not 200 <= item.get("status", 200) <= 599:
        raise ConfigError(f"{name}.status must be between 200 and 599")
    options = {key: value for key, value in item.items() if key != kind}
    return ScriptedReply(kind, item[kind], **options)


def _check_types(
    item: Mapping[str, Any], types: Mapping[str, type | tuple[type, ...]], name: str
) -> None:
    for key, value in item.items():
        if key not in types:
            raise ConfigError(f"{name} has an unknown key {shorten(key)}")
        if not isinstance(value, types[key]) or isinstance(value, bool):
            raise ConfigError(f"{name}.{key} has the wrong type, got {shorten(value)}")
