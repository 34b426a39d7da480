"""Reading requests: path, query, JSON body and form fields, and checks of the body's fields.

The bounds of the fields are defined in `cfai.tasks`.
"""

import ipaddress
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson
from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError
from attrs import frozen

from cfai.errors import ConfigError, InputError
from cfai.local import errors
from cfai.local.errors import ApiError
from cfai.local.exchange import ExchangeRecorder
from cfai.local.faults import Fault, FaultyStream
from cfai.tasks import Task, rules
from cfai.tasks.task import shorten

JsonBody = Mapping[str, Any]

_CHUNK_SIZE = 64 << 10

_MALFORMED_FORM = (
    ValueError,
    EOFError,
    web.RequestPayloadError,
    HttpProcessingError,
    RuntimeError,
    RuntimeWarning,  # Raised if warnings are errors.
)
"""What aiohttp raises for a form that it cannot read."""

_LARGEST_NUMBER = 2**63 - 1

_ENCODINGS = ("identity", "gzip", "deflate", "br", "zstd")
"""Those that aiohttp decodes, the last two if it has the libraries for them."""


@frozen
class ApiRequest:
    """An HTTP request and the parts of its path."""

    http: web.Request
    account: str
    """The account in the path."""
    recorder: ExchangeRecorder
    name: str = ""
    """The text that the route's wildcard matched, such as the name of a fine-tune."""
    model: str | None = None
    """The model in the path; `None` if it names none."""
    fault: Fault | None = None
    """The fault that the response gets."""

    async def start_stream(
        self, headers: Mapping[str, str], status: int = 200
    ) -> web.StreamResponse:
        """Send the headers of a streamed response, which gets the fault."""
        response = (
            FaultyStream(self.fault, status=status, headers=headers)
            if self.fault
            else web.StreamResponse(status=status, headers=headers)
        )
        await response.prepare(self.http)
        return response

    def read_number(self, name: str, default: int, *, minimum: int = 0) -> int:
        """Return a number of the query; *default* if it is omitted.

        Raises:
            ApiError: It is not an integer, or less than *minimum*.
        """
        text = self.http.query.get(name)
        if text is None:
            return default
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
        if not minimum <= number <= _LARGEST_NUMBER:
            raise errors.invalid_request(
                f"{name} must be an integer of at least {minimum}, got {text[:60]!r}"
            )
        return number

    async def read_body(self) -> bytes:
        """Return the bytes of the body, decompressed.

        Raises:
            ApiError: The body is too large, or not encoded as its headers say.
        """
        encoding = self.http.headers.get("Content-Encoding", "identity")
        if encoding.lower() not in _ENCODINGS:
            names = ", ".join(_ENCODINGS[:-1])
            raise errors.bad_input(
                f"Content-Encoding must be {names} or {_ENCODINGS[-1]}, got {shorten(encoding)}"
            )
        try:
            return await self.http.read()
        except web.HTTPRequestEntityTooLarge as exc:
            raise errors.request_too_large(self.http.client_max_size) from exc
        except web.RequestPayloadError as exc:
            raise errors.bad_input("the body is not encoded as its headers say") from exc

    async def read_json(self) -> JsonBody:
        """Return the JSON object in the body.

        Raises:
            ApiError: The body is not a JSON object.
        """
        return parse_json_object(await self.read_body())

    async def form_fields(self) -> AsyncIterator[BodyPartReader]:
        """Yield the fields of a form (multipart/form-data) as they arrive.

        A field that was not read is skipped.

        Raises:
            ApiError: The body is not a form.
        """
        if self.http.content_type != "multipart/form-data":
            raise errors.invalid_request("the body must be a form (multipart/form-data)")
        try:
            reader = await self.http.multipart()
            while (part := await reader.next()) is not None:
                if isinstance(part, MultipartReader):
                    raise errors.invalid_request("a form must not contain another form")
                # Parsed when first read, and kept: a malformed name is found here.
                _ = part.name, part.filename
                yield part
        except _MALFORMED_FORM as exc:
            raise _malformed_form() from exc


async def read_form_field(part: BodyPartReader, size_limit: int) -> bytes | None:
    """Return the content of a form field; `None` if it has more than *size_limit* bytes."""
    content = bytearray()
    async for chunk in read_chunks(part):
        content += chunk
        if len(content) > size_limit:
            return None
    return bytes(content)


async def read_chunks(part: BodyPartReader, size: int = _CHUNK_SIZE) -> AsyncIterator[bytes]:
    """Yield the content of a form field as it arrives.

    Raises:
        ApiError: The field is not complete, or malformed.
    """
    try:
        while chunk := await part.read_chunk(size):
            yield chunk
    except _MALFORMED_FORM as exc:
        raise _malformed_form() from exc


def _malformed_form() -> ApiError:
    return errors.invalid_request("the form is malformed or truncated")


def parse_json_object(raw: bytes) -> JsonBody:
    """Parse the body of a request.

    Raises:
        ApiError: It is empty or not a JSON object.
    """
    if not raw.strip():
        raise errors.missing_body()
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        raise errors.bad_input(f"the body is not JSON: {exc}") from exc
    if not isinstance(body, dict):
        raise errors.bad_input("the body must be a JSON object")
    try:
        # Whatever follows recurses at most as deep as this, which ends at 254 levels.
        orjson.dumps(body)
    except orjson.JSONEncodeError as exc:
        raise errors.bad_input("the body is nested too deeply") from exc
    return body


def check_names(body: JsonBody, *used: str) -> None:
    """Refuse fields that would be ignored: all but *used* and `options`.

    Raises:
        ApiError: There is such a field, or `options` has an unknown one.
    """
    for name in body:
        if name not in used and name != "options":
            raise unknown_field(name)
    rejects_if_busy(body)


def rejects_if_busy(body: JsonBody) -> bool:
    """Return whether the request must not wait for a model (`options.rejectIfBusy`).

    Raises:
        ApiError: The options are invalid.
    """
    options = body.get("options") or {}
    if not isinstance(options, dict) or not options.keys() <= {"rejectIfBusy"}:
        raise errors.bad_input(f"options must have only rejectIfBusy, got {shorten(options)}")
    value = options.get("rejectIfBusy") or False
    if not isinstance(value, bool):
        raise errors.bad_input(f"options.rejectIfBusy must be true or false, got {shorten(value)}")
    return value


def unknown_field(name: str) -> ApiError:
    """Return the error for a field that no model of the task has."""
    return errors.bad_input(f"unknown field {shorten(name)}")


Shape = Mapping[str, Any] | list[Any] | tuple[Any, ...] | Callable[[Any], Any] | None
"""What is used of a field: of an object, the shapes of its fields; a list with the shape of all
items; the values that are supported, as a tuple; a function that returns the shape for a value; or
anything, as `None`."""


def check_shape(path: str, value: Any, shape: Shape) -> None:
    """Refuse what would be ignored of a field whose types are checked, at every depth.

    Raises:
        ApiError: The field has another field or value; the message has the path to it.
    """
    chosen: Any = shape(value) if callable(shape) else shape
    match chosen:
        case tuple():
            if value not in chosen:
                names = [orjson.dumps(choice).decode() for choice in chosen if choice]
                rule = f"must be {' or '.join(names)}" if names else "must be omitted"
                raise errors.bad_input(f"{path} {rule}, got {shorten(value)}")
        case [items] if isinstance(value, list):
            for index, item in enumerate(value):
                check_shape(f"{path}[{index}]", item, items)
        case dict() as fields if isinstance(value, dict):
            for name, item in value.items():
                if name not in fields:
                    raise errors.bad_input(f"{path} has an unknown field {shorten(name)}")
                check_shape(f"{path}.{name}", item, fields[name])


def check_fields(
    task: type[Task[Any]], body: JsonBody, own_names: Mapping[str, str] | None = None
) -> None:
    """Check *body* against the rules of *task*. A null counts as omitted.

    Args:
        task: The task.
        body: The fields.
        own_names: The names of fields in the request, if they differ from those of the task.

    Raises:
        ApiError: A field is missing or breaks its rule.
    """
    for name, rule in rules(task).items():
        if rule.translated:
            continue
        value = body.get(name)
        if value is None:
            if rule.required:
                raise missing_fields(name)
            continue
        try:
            rule.check(value)
        except InputError as exc:
            own_name = (own_names or {}).get(name, name)
            raise errors.bad_input(f"{own_name}{str(exc).removeprefix(name)}") from exc


def missing_fields(*names: str) -> ApiError:
    """Return the error for a body without any of these fields, in the service's words."""
    return errors.bad_input(f"required properties at '/' are '{','.join(names)}'")


def read_contexts(body: JsonBody) -> list[str]:
    """Return the texts in `contexts`, a list of objects with a `text` each.

    Raises:
        ApiError: The field is missing or something else.
    """
    contexts = body.get("contexts")
    if contexts is None:
        raise missing_fields("contexts")
    if not isinstance(contexts, list) or not all(isinstance(item, dict) for item in contexts):
        raise errors.bad_input("contexts must be a list of objects with a text")
    check_shape("contexts", contexts, [{"text": None}])
    texts = [item.get("text") for item in contexts]
    for index, text in enumerate(texts):
        if not isinstance(text, str) or not text:
            rule = "must have at least 1 character"
            raise errors.bad_input(f"contexts[{index}].text {rule}, got {shorten(text)}")
    return texts


# Which web pages can use the server: its own origin, and those that the user names

_METHODS = "GET, POST, OPTIONS"
_MAX_AGE = "600"
"""For how long a browser keeps the answer to a preflight, in seconds."""


def read_origins(texts: Iterable[str]) -> frozenset[str]:
    """Check the origins that a user names.

    Raises:
        ConfigError: One is not an origin, such as `http://localhost:5173`.
    """
    origins = frozenset(texts)
    for origin in origins:
        parts = urlsplit(origin)
        is_origin = parts.scheme in ("http", "https") and parts.hostname and parts.username is None
        if not is_origin or origin != f"{parts.scheme}://{parts.netloc}":
            raise ConfigError(
                f"cors must be an origin, such as http://localhost:5173, got {origin[:60]!r}"
            )
    return origins


def check_origin(request: web.Request, allowed: frozenset[str]) -> None:
    """Reject requests from web pages of other origins, including rebound host names.

    Raises:
        ApiError: The page is of another origin, or the host is not a name of this machine.
    """
    own = f"http://{request.host}"
    origin = request.headers.get("Origin", own)
    try:
        host = urlsplit(f"//{request.host}").hostname or ""
    except ValueError:
        host = ""
    if not is_loopback(host) or (origin != own and origin not in allowed):
        raise errors.forbidden_origin()


def answer_preflight(request: web.Request, allowed: frozenset[str]) -> web.Response | None:
    """Answer a browser that asks whether a page may send a request; `None` for other requests."""
    asks = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
    if not asks or request.headers.get("Origin") not in allowed:
        return None
    headers = {
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Allow-Headers": request.headers.get("Access-Control-Request-Headers", ""),
        "Access-Control-Max-Age": _MAX_AGE,
        # Chrome asks for this before a page sends requests to this machine.
        "Access-Control-Allow-Private-Network": "true",
    }
    return web.Response(status=204, headers=headers)


def add_cors_headers(
    request: web.BaseRequest, response: web.StreamResponse, allowed: frozenset[str]
) -> None:
    """Let a page of an allowed origin read the response."""
    origin = request.headers.get("Origin")
    if origin in allowed:
        response.headers["Access-Control-Allow-Origin"] = origin or ""
        response.headers["Access-Control-Expose-Headers"] = "*"
    if allowed:
        response.headers["Vary"] = "Origin"


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach *host*, a name or an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
