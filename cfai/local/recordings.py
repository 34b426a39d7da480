"""The file of a recording: its form, what is removed from it, and how a request is matched.

A recording has JSON lines, each with a request and its response. It never contains credentials:
request headers are kept by a list, account ids are masked, and tokens are removed everywhere.
"""

import hashlib
import os
import re
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from email.message import Message
from pathlib import Path
from typing import IO, Any

import orjson
from attrs import define, field, frozen

from cfai._types.excerpts import format_count
from cfai.errors import ConfigError
from cfai.local import errors
from cfai.tasks.task import shorten

_FORMAT = {"recording": "cfai", "version": 1}
"""The first line of a file."""

_REMOVED = "REMOVED"

_REQUEST_HEADERS = frozenset(
    {
        "cf-aig-allowed-models",
        "cf-aig-allowed-providers",
        "cf-aig-byok-alias",
        "cf-aig-cache-key",
        "cf-aig-cache-ttl",
        "cf-aig-gateway-id",
        "cf-aig-skip-cache",
        "cf-consn-model-id",
    }
)
"""The request headers, besides Content-Type, that can change a response."""

RESPONSE_HEADERS = frozenset(
    {
        "cache-control",
        "cf-ai-neurons",
        "cf-ai-req-id",
        "cf-aig-cache-status",
        "cf-aig-event-id",
        "cf-aig-log-id",
        "cf-aig-request-id",
        "cf-aig-routed-model",
        "cf-aig-routing-decision-id",
        "cf-aig-routing-reason",
        "cf-aig-run-id",
        "cf-aig-step",
        "cf-ray",
        "cfai-backend",
        "cfai-lora",
        "content-type",
        "ratelimit",
        "ratelimit-policy",
        "retry-after",
    }
)
"""The response headers that are passed on and recorded."""

_SECRET_NAME = re.compile(
    r"(.*[-_])?(authorization|api[-_]?key|auth[-_]key|auth[-_]email|cookie|password|secret|token)",
    re.IGNORECASE,
)
"""The names of fields whose texts are removed."""

_ACCOUNT = re.compile(r"^(/client/v4/accounts/|/v1/)([^/]+)")
_ACCOUNT_ID = re.compile(r"[0-9a-f]{32}")

_MIN_SECRET = 8
"""In characters: shorter credentials are not looked for in bodies, where they could be a word."""

_MAX_TEXT = 4096
_MAX_INTEGERS = 1024
"""Longer texts and lists of integers, such as images, are recorded as digests."""

_MAX_DIFFERENCES = 3


@frozen
class RecordedRequest:
    """What a request is matched by."""

    method: str
    path: str
    query: list[list[str]]
    headers: Mapping[str, str]
    body: Any
    """`{"json": …}`, `{"parts": […]}` of a form, the digest of other bytes, or `None`."""

    @property
    def key(self) -> bytes:
        """The whole request as canonical JSON."""
        return orjson.dumps(self.to_json(), option=orjson.OPT_SORT_KEYS)

    def to_json(self) -> dict[str, Any]:
        """Return the request as in a file."""
        return {
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "headers": self.headers,
            "body": self.body,
        }


@frozen
class RecordedResponse:
    """A response with its exact bytes."""

    status: int
    headers: Mapping[str, str]
    chunks: tuple[bytes, ...]
    """The body, in the pieces in which it arrived."""
    cut: bool = False
    """Whether the body is incomplete: the service or the client closed the connection."""

    def to_json(self) -> dict[str, Any]:
        """Return the response as in a file."""
        document = {
            "status": self.status,
            "headers": dict(self.headers),
            "chunks": [_encode_chunk(chunk) for chunk in self.chunks],
        }
        return document | ({"cut": True} if self.cut else {})


def describe_request(
    method: str,
    path: str,
    query: Iterable[tuple[str, str]],
    headers: Mapping[str, str],
    body: bytes,
) -> tuple[RecordedRequest, tuple[str, ...]]:
    """Return a request as it is recorded and matched, and the secrets that were removed from it."""
    secrets = find_secrets(path, headers)
    lower = {name.lower(): value for name, value in headers.items()}
    headers_to_match = {name: lower[name] for name in sorted(_REQUEST_HEADERS & lower.keys())}
    described = _describe_body(lower.get("content-type", ""), body)
    if described is not None and "json" not in described:
        headers_to_match["content-type"] = (
            lower.get("content-type", "").partition(";")[0].strip().lower()
        )
    recorded = RecordedRequest(
        method,
        _remove_texts(_ACCOUNT.sub(r"\1{account}", path), secrets),
        sorted(
            [name, _REMOVED if _SECRET_NAME.fullmatch(name) else _remove_texts(value, secrets)]
            for name, value in query
        ),
        _remove(headers_to_match, secrets),
        _remove(described, secrets),
    )
    return recorded, secrets


def find_secrets(path: str, headers: Mapping[str, str]) -> tuple[str, ...]:
    """Return the credentials of a request, longest first, and the account id in its path."""
    values = set()
    for name, value in headers.items():
        if _SECRET_NAME.fullmatch(name):
            values |= {value.strip(), value.strip().rpartition(" ")[2]}
    match = _ACCOUNT.match(path)
    if match is not None and _ACCOUNT_ID.fullmatch(match[2]):
        values.add(match[2])
    return tuple(sorted((text for text in values if len(text) >= _MIN_SECRET), key=len))[::-1]


def hide_in_chunks(chunks: Iterable[bytes], secrets: Iterable[str]) -> tuple[bytes, ...]:
    """Overwrite the secrets in a body, also across its chunks, without changing its length."""
    pieces = list(chunks)
    content = b"".join(pieces)
    for secret in secrets:
        encoded = secret.encode()
        content = content.replace(encoded, b"x" * len(encoded))
    hidden, start = [], 0
    for piece in pieces:
        hidden.append(content[start : start + len(piece)])
        start += len(piece)
    return tuple(hidden)


# Bodies


def _describe_body(content_type: str, body: bytes) -> dict[str, Any] | None:
    if not body:
        return None
    if content_type.lower().startswith("multipart/"):
        parts = _read_parts(content_type, body)
        if parts:
            return {"parts": parts}
    try:
        return {"json": _shorten_media(orjson.loads(body))}
    except orjson.JSONDecodeError:
        return _digest(body)


def _digest(content: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def _read_parts(content_type: str, body: bytes) -> list[dict[str, Any]]:
    """Return the parts of a form without its boundary, which differs in each request."""
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_boundary()
    if not boundary:
        return []
    parts = []
    for part in body.split(b"--" + boundary.encode())[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").removesuffix(b"\r\n").partition(b"\r\n\r\n")
        parts.append(_describe_part(head.decode("utf-8", "replace"), content))
    return parts


def _describe_part(head: str, content: bytes) -> dict[str, Any]:
    fields = Message()
    for line in head.split("\r\n"):
        name, _, value = line.partition(":")
        if name.lower() in ("content-disposition", "content-type"):
            fields[name] = value.strip()
    filename = fields.get_filename()
    described = {
        "name": str(fields.get_param("name", "", "content-disposition")),
        "filename": filename,
        "type": fields.get("content-type"),
    }
    part = _decode(content) if filename is None else None
    content_fields: dict[str, Any] = _digest(content) if part is None else {"text": part}
    return {key: value for key, value in described.items() if value is not None} | content_fields


def _decode(content: bytes) -> str | None:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def _shorten_media(value: Any) -> Any:
    """Replace long texts and lists of integers, such as images, by digests."""
    match value:
        case str() if len(value) > _MAX_TEXT:
            return _digest(value.encode(errors="surrogatepass"))
        case list() if len(value) > _MAX_INTEGERS and all(type(item) is int for item in value):
            return _digest(orjson.dumps(value))
        case list():
            return [_shorten_media(item) for item in value]
        case dict():
            return {name: _shorten_media(item) for name, item in value.items()}
    return value


def _remove(value: Any, secrets: tuple[str, ...]) -> Any:
    """Remove secrets from a JSON document: by their text, and by the names of their fields."""
    match value:
        case str():
            return _remove_texts(value, secrets)
        case list():
            return [_remove(item, secrets) for item in value]
        case dict():
            return {
                name: _REMOVED
                if isinstance(item, str) and _SECRET_NAME.fullmatch(name)
                else _remove(item, secrets)
                for name, item in value.items()
            }
    return value


def _remove_texts(text: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, _REMOVED)
    return text


def _encode_chunk(chunk: bytes) -> str | dict[str, str]:
    text = _decode(chunk)
    return {"base64": b64encode(chunk).decode()} if text is None else text


# Files


def create_file(path: Path) -> IO[bytes]:
    """Create the file of a recording, which only its owner can read, and its folder.

    Raises:
        ConfigError: It exists, or cannot be created.
    """
    if path.exists():
        # Recorded answers were paid for: they are never overwritten.
        raise ConfigError(f"{path} exists: delete it, or record to another file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
    except OSError as exc:
        raise ConfigError(f"cannot record to {path}: {exc.strerror}") from exc
    file = os.fdopen(number, "ab", buffering=0)
    file.write(orjson.dumps(_FORMAT) + b"\n")
    return file


def encode_line(request: RecordedRequest, response: RecordedResponse) -> bytes:
    """Return the line of a request and its response."""
    return orjson.dumps({"request": request.to_json(), "response": response.to_json()}) + b"\n"


@define
class Recording:
    """The responses of a file, which are taken in their order."""

    name: str
    repeats: bool = False
    """Whether the last response to a request is given again and again."""
    _entries: list[tuple[int, RecordedRequest]] = field(factory=list)
    """With the numbers of their lines."""
    _responses: dict[bytes, deque[RecordedResponse]] = field(factory=dict)

    def add(self, line: int, request: RecordedRequest, response: RecordedResponse) -> None:
        """Add a response."""
        self._entries.append((line, request))
        self._responses.setdefault(request.key, deque()).append(response)

    def take(self, request: RecordedRequest) -> RecordedResponse:
        """Return the next response to a request.

        Raises:
            ApiError: There is none; the message shows the nearest request.
        """
        responses = self._responses.get(request.key)
        if responses is None:
            raise errors.not_recorded(self._describe_nearest(request))
        if not responses:
            lines = [str(line) for line, other in self._entries if other.key == request.key]
            raise errors.not_recorded(
                f"{request.method} {request.path} was requested once more than it was recorded "
                f"(in line {', '.join(lines)} of {self.name})"
            )
        if self.repeats and len(responses) == 1:
            return responses[0]
        return responses.popleft()

    def _describe_nearest(self, request: RecordedRequest) -> str:
        problem = f"no response to {request.method} {request.path} is recorded in {self.name}"
        nearest: tuple[int, int, list[str]] | None = None
        for line, other in self._entries:
            differences = list(_find_differences(other.to_json(), request.to_json(), ""))
            if nearest is None or len(differences) < nearest[0]:
                nearest = (len(differences), line, differences[:_MAX_DIFFERENCES])
        if nearest is None:
            return problem
        return f"{problem}; the nearest, in line {nearest[1]}, differs: {'; '.join(nearest[2])}"


def _find_differences(recorded: Any, requested: Any, place: str) -> Iterator[str]:
    """Describe each place in which two documents differ."""
    if isinstance(recorded, dict) and isinstance(requested, dict):
        for name in {**recorded, **requested}:
            inner = f"{place}.{name}".lstrip(".")
            if name not in recorded:
                yield f"{inner} was not recorded, got {shorten(requested[name])}"
            elif name not in requested:
                yield f"{inner} is missing, recorded {shorten(recorded[name])}"
            else:
                yield from _find_differences(recorded[name], requested[name], inner)
    elif isinstance(recorded, list) and isinstance(requested, list):
        if len(recorded) != len(requested):
            yield f"{place} has {format_count(len(requested), 'item')}, recorded {len(recorded)}"
        for index, (left, right) in enumerate(zip(recorded, requested, strict=False)):
            yield from _find_differences(left, right, f"{place}[{index}]")
    elif recorded != requested or type(recorded) is not type(requested):
        yield f"{place}: recorded {shorten(recorded)}, got {shorten(requested)}"


def load_recording(path: Path, *, repeats: bool) -> Recording:
    """Read a recording.

    Raises:
        ConfigError: The file cannot be read, or a line is invalid; the message names it.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as exc:
        raise ConfigError(f"{path}: {exc.strerror}") from exc
    recording = Recording(path.name, repeats)
    for number, line in enumerate(lines, start=1):
        try:
            document = orjson.loads(line)
            if number == 1:
                _check_format(document, path)
            else:
                recording.add(number, *_read_line(document))
        except (ValueError, KeyError, TypeError) as exc:
            raise ConfigError(f"{path}, line {number}, is not of a recording: {exc!r}") from exc
    return recording


def _check_format(document: Any, path: Path) -> None:
    if document != _FORMAT:
        raise ConfigError(f"{path} is not a recording of this version: {shorten(document)}")


def _read_line(document: Any) -> tuple[RecordedRequest, RecordedResponse]:
    request, response = document["request"], document["response"]
    chunks = tuple(_read_chunk(chunk) for chunk in response["chunks"])
    status = response["status"]
    if not isinstance(status, int) or not 200 <= status <= 599:
        raise ValueError(f"status must be between 200 and 599, got {shorten(status)}")
    recorded = RecordedResponse(
        status, dict(response["headers"]), chunks, cut=response.get("cut") is True
    )
    return RecordedRequest(**request), recorded


def _read_chunk(chunk: Any) -> bytes:
    return chunk.encode() if isinstance(chunk, str) else b64decode(chunk["base64"], validate=True)
