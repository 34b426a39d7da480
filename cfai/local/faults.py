"""Faults on demand: errors, stalls and cuts, for tests of how a program deals with them.

A fault is written as `capacity,retry_after=1`: its kind and its options. A request names one in the
header `x-cfai-fault`; a server has a list of them (`Server(faults=...)`, `cfai serve --fault`).
"""

import asyncio
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal

from aiohttp import web
from attrs import define, field, frozen

from cfai.errors import ConfigError
from cfai.local import errors
from cfai.local.errors import ApiError

HEADER = "x-cfai-fault"

Kind = Literal["capacity", "quota", "error", "reset", "stall", "cut", "malformed"]

_KINDS: Mapping[str, str] = {
    "capacity": "429 with code 3040",
    "quota": "429 with code 3036: the daily allocation is used up",
    "error": "an error with `status`, `code` and `message`",
    "reset": "the connection is reset before the response",
    "stall": "the response stops after `events` or `bytes` until the client leaves",
    "cut": "the connection is closed after `events` or `bytes`",
    "malformed": "an event that is no JSON follows `events`; other answers lose their last byte",
}

_MALFORMED = b'data: {"response":"\n\n'


@frozen
class Fault:
    """A fault and the requests that get it."""

    kind: Kind
    status: int = 500
    """The status of an "error"."""
    code: int = 8005
    """The code of an "error"."""
    message: str = "Internal Server Error"
    """The message of an "error"."""
    retry_after: float | None = None
    """The header Retry-After, in seconds; by default it is missing, as at the service."""
    events: int | None = None
    """After how many events or pieces of a stream; of a whole response, before its body."""
    bytes: int | None = None
    """After how many bytes of the body."""
    times: int | None = None
    """How many requests get it; all by default."""
    path: str = "*"
    """The paths, as a pattern with `*`: `*/ai/run/@cf/meta/*`."""

    @classmethod
    def of(cls, text: str) -> "Fault":
        """Read a fault from text: `capacity,retry_after=1,times=2`.

        Raises:
            ConfigError: The kind, the name or the value of an option is invalid.
        """
        kind, *options = [part.strip() for part in text.split(",")]
        if kind not in _KINDS:
            raise ConfigError(f"a fault must be one of {', '.join(_KINDS)}, got {kind[:60]!r}")
        values: dict[str, Any] = {}
        for option in options:
            name, separator, value = (part.strip() for part in option.partition("="))
            if not separator or name not in _OPTIONS:
                names = ", ".join(_OPTIONS)
                raise ConfigError(f"the options of a fault are {names}, got {option[:60]!r}")
            values[name] = _read_option(name, value)
        return cls(kind, **values)  # type: ignore[arg-type]  # checked above

    def error(self) -> ApiError | None:
        """Return the error of this fault; `None` if the request is answered first."""
        match self.kind:
            case "capacity":
                error = errors.capacity_exceeded()
            case "quota":
                error = errors.quota_used_up()
            case "error":
                error = ApiError(self.status, self.code, self.message)
            case _:
                return None
        error.retry_after = self.retry_after
        return error


_OPTIONS: Mapping[str, type[int | float | str]] = {
    "status": int,
    "code": int,
    "message": str,
    "retry_after": float,
    "events": int,
    "bytes": int,
    "times": int,
    "path": str,
}


def _read_option(name: str, text: str) -> int | float | str:
    kind = _OPTIONS[name]
    if kind is str:
        return text
    try:
        value = kind(text)
    except ValueError:
        value = -1
    low, high = (200, 599) if name == "status" else (0, 10**9)
    if not isinstance(value, str) and low <= value <= high:
        return value
    raise ConfigError(f"{name} of a fault must be between {low} and {high}, got {text[:60]!r}")


@define
class FaultPlan:
    """The faults of a server, and how often each can still happen."""

    faults: Iterable[Fault] = ()
    _left: list[tuple[Fault, list[int | None]]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        # Each with the number of requests that still get it, in a list to be changed.
        self._left = [(fault, [fault.times]) for fault in self.faults]

    def take(self, request: web.Request) -> Fault | None:
        """Return the fault of a request, if it gets one: that of its header, or the first match.

        Raises:
            ApiError: The header is invalid.
        """
        if HEADER in request.headers:
            try:
                fault = Fault.of(request.headers[HEADER])
            except ConfigError as exc:
                raise errors.invalid_request(f"{HEADER}: {exc}") from exc
            if fault.times is not None or fault.path != "*":
                problem = "times and path must be omitted: the fault is that of this request"
                raise errors.invalid_request(f"{HEADER}: {problem}")
            return fault
        for fault, left in self._left:
            if left[0] == 0 or not fnmatchcase(request.path, fault.path):
                continue
            left[0] = None if left[0] is None else left[0] - 1
            return fault
        return None


class FaultyStream(web.StreamResponse):
    """A stream that has a fault after some events or bytes."""

    def __init__(self, fault: Fault, **options: Any) -> None:
        super().__init__(**options)
        self._fault = fault
        self._tail = b""
        self._events = 0
        self._sent = 0
        self._http: web.BaseRequest | None = None
        self._failed = False

    async def prepare(self, request: web.BaseRequest) -> Any:
        """Send the headers; without room for an event or byte, the fault follows."""
        self._http = request
        writer = await super().prepare(request)
        if (self._fault.events or self._fault.bytes or 0) == 0:
            await self._fail()
        return writer

    async def write(self, data: Any) -> None:
        """Send whole events, or the pieces of sound, up to the fault."""
        data = self._tail + bytes(data)
        if self._has_events:
            *events, self._tail = data.split(b"\n\n")
            for event in events:
                await self._write_event(event + b"\n\n")
        else:
            piece, self._tail = data[:-1], data[-1:]
            await self._write_event(piece)

    async def write_eof(self, data: bytes = b"") -> None:
        """Send what follows the last event, or the last byte, and end."""
        is_damaged = self._fault.kind == "malformed" and not self._has_events
        await super().write_eof(data if is_damaged else self._tail + data)

    @property
    def _has_events(self) -> bool:
        return self.content_type == "text/event-stream"

    async def _write_event(self, event: bytes) -> None:
        limit = self._fault.bytes
        if limit is not None and self._sent + len(event) >= limit:
            await super().write(event[: limit - self._sent])
            await self._fail()
        await super().write(event)
        self._sent += len(event)
        self._events += 1
        if limit is None and self._events == (self._fault.events or 0):
            await self._fail()

    async def _fail(self) -> None:
        if self._failed:
            return
        self._failed = True
        if self._fault.kind == "malformed" and self._has_events:
            await super().write(_MALFORMED)
        elif self._fault.kind in ("stall", "cut"):
            await interrupt(self._fault, self._http)


async def interrupt(fault: Fault, request: web.BaseRequest | None) -> None:
    """Stall until the client leaves, or close the connection.

    Raises:
        ConnectionError: The connection was closed.
    """
    if fault.kind == "stall":
        # Cancelled when the client leaves or the server stops.
        await asyncio.Event().wait()
    if request is not None and request.transport is not None:
        if fault.kind == "reset":
            request.transport.abort()
        request.transport.close()
    raise ConnectionResetError(f"a fault was requested: {fault.kind}")


async def send_partly(
    response: web.Response, fault: Fault, request: web.Request
) -> web.StreamResponse:
    """Send the headers of a whole response and a part of its body, and then the fault."""
    body = response.body if isinstance(response.body, bytes) else b""
    if fault.kind == "malformed":
        response.body = body[:-1]
        return response
    partial = web.StreamResponse(status=response.status, headers=response.headers)
    partial.content_length = len(body)
    await partial.prepare(request)
    if fault.bytes:
        await partial.write(body[: min(fault.bytes, len(body) - 1)])
    await interrupt(fault, request)
    return partial
