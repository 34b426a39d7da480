"""Record and replay: a server that passes requests on and records them, or answers from a file."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import IO, Protocol
from urllib.parse import unquote, urlsplit

import aiohttp
from aiohttp import web
from attrs import define, field
from yarl import URL

from cfai.errors import ConfigError
from cfai.local import errors
from cfai.local.exchange import common_headers
from cfai.local.recordings import (
    RESPONSE_HEADERS,
    RecordedRequest,
    RecordedResponse,
    Recording,
    create_file,
    describe_request,
    encode_line,
    hide_in_chunks,
    load_recording,
)
from cfai.local.requests import ApiRequest, is_loopback
from cfai.local.routes import split_path

CLOUDFLARE = "https://api.cloudflare.com/client/v4"
_GATEWAY = "https://gateway.ai.cloudflare.com"

_API_PREFIX = "/client/v4"

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=300)

_FORWARDED = frozenset(
    {"accept", "authorization", "content-type", "user-agent", "x-auth-email", "x-auth-key"}
)
"""The request headers that are passed on, besides those of AI Gateway. All others stay here, also
those of the connection (RFC 9110, section 7.6.1) and cookies."""


class Tape(Protocol):
    """Answers every request of a server instead of its models."""

    async def open(self) -> None:
        """Get ready."""

    async def close(self) -> None:
        """Let go of everything."""

    async def answer(self, request: ApiRequest) -> web.StreamResponse:
        """Answer a request."""


@define
class Record:
    """Passes every request on to the service and records it: `Server(tape=Record("chat.jsonl"))`.

    The client's credentials are passed on; its requests are charged to its account. The file
    contains no credentials and no account ids, and only its owner can read it.

    Args:
        path: The new file.
        url: The base URL of the service, or of any other server with its protocol. Without TLS, it
            must be on this machine.

    Raises:
        ConfigError: *url* is not such an address; or, at the start of the server, the file exists
            or cannot be created.
    """

    path: Path = field(converter=Path)
    url: str = CLOUDFLARE
    _file: IO[bytes] | None = field(default=None, init=False, repr=False)
    _session: aiohttp.ClientSession | None = field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"the URL to record must be http or https, got {self.url[:60]!r}")
        if parts.username is not None or parts.query or parts.fragment:
            raise ConfigError("the URL to record must be without credentials and query")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise ConfigError(
                f"the URL to record must be https, got {self.url[:60]!r}: it gets your API token"
            )

    async def open(self) -> None:
        """Create the file."""
        self._file = create_file(self.path)
        # The chunks must be recorded as they are sent, and cookies stay with their client.
        self._session = aiohttp.ClientSession(
            timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=True
        )

    async def close(self) -> None:
        """Close the file and the connections."""
        if self._session is not None:
            await self._session.close()
        if self._file is not None:
            self._file.close()
        self._file = self._session = None

    async def answer(self, request: ApiRequest) -> web.StreamResponse:
        """Pass a request on, and record it with its response.

        Raises:
            ApiError: The service cannot be reached.
        """
        if self._session is None:
            raise errors.not_supported("the recording is closed")
        body, http = await request.read_body(), request.http
        recorded, secrets = _describe(request, body)
        sent = self._session.request(
            http.method,
            self._find_url(http.raw_path),
            data=body or None,
            headers=_select_headers(http.headers),
            allow_redirects=False,
        )
        try:
            upstream = await sent
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise errors.upstream_failed(f"{type(exc).__name__}: {exc}") from exc
        async with upstream:
            return await self._copy(request, upstream, recorded, secrets)

    async def _copy(
        self,
        request: ApiRequest,
        upstream: aiohttp.ClientResponse,
        recorded: RecordedRequest,
        secrets: tuple[str, ...],
    ) -> web.StreamResponse:
        headers = {
            name.lower(): value
            for name, value in upstream.headers.items()
            if name.lower() in RESPONSE_HEADERS
        }
        chunks: list[bytes] = []
        complete = False
        try:
            response = await request.start_stream({**headers, "cfai-local": "1"}, upstream.status)
            async for chunk in _read_chunks(upstream):
                chunks.append(chunk)
                await response.write(chunk)
            complete = True
        except aiohttp.ClientPayloadError:
            _hang_up(request)
            raise ConnectionResetError("the service closed the connection") from None
        finally:
            hidden = hide_in_chunks(chunks, secrets)
            self._write(
                recorded, RecordedResponse(upstream.status, headers, hidden, cut=not complete)
            )
        return response

    def _write(self, request: RecordedRequest, response: RecordedResponse) -> None:
        if self._file is not None:
            self._file.write(encode_line(request, response))

    def _find_url(self, raw_path: str) -> URL:
        """Return where a request goes: below the base URL, or to AI Gateway's own host.

        The host is never one that the request names, and the path one of Workers AI.

        Raises:
            ApiError: The path is another one.
        """
        path = raw_path.partition("?")[0]
        split_path(path)
        if ".." in unquote(path).split("/"):
            raise errors.path_not_found(path)
        if raw_path.startswith(_API_PREFIX):
            base = self.url.rstrip("/")
            raw_path = raw_path.removeprefix(_API_PREFIX)
        else:
            parts = urlsplit(self.url)
            base = _GATEWAY if self.url == CLOUDFLARE else f"{parts.scheme}://{parts.netloc}"
        return URL(base + raw_path, encoded=True)


@define
class Replay:
    """Answers requests from a recording: `Server(tape=Replay("chat.jsonl"))`.

    The responses to equal requests are given in their order, with the recorded chunks. A request
    without a response gets an error (400, code 90005) that shows the nearest recorded one.

    Args:
        path: The file.
        repeats: Give the last response to a request again and again, instead of an error.

    Raises:
        ConfigError: The file is not a recording, or cannot be read.
    """

    path: Path = field(converter=Path)
    repeats: bool = field(default=False, kw_only=True)
    _recording: Recording = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._recording = load_recording(self.path, repeats=self.repeats)

    async def open(self) -> None:
        """Start from the first response."""
        self._recording = load_recording(self.path, repeats=self.repeats)

    async def close(self) -> None:
        """Do nothing."""

    async def answer(self, request: ApiRequest) -> web.StreamResponse:
        """Answer a request.

        Raises:
            ApiError: It is not recorded.
        """
        recorded, _ = _describe(request, await request.read_body())
        response = self._recording.take(recorded)
        headers = {**common_headers("replay"), **response.headers}
        is_stream = headers.get("content-type", "").startswith("text/event-stream")
        if not is_stream and not response.cut:
            body = b"".join(response.chunks)
            return web.Response(status=response.status, headers=headers, body=body)
        stream = await request.start_stream(headers, response.status)
        for chunk in response.chunks:
            await stream.write(chunk)
        if response.cut:
            _hang_up(request)
            raise ConnectionResetError("the recorded response ends here")
        return stream


def _describe(request: ApiRequest, body: bytes) -> tuple[RecordedRequest, tuple[str, ...]]:
    http = request.http
    return describe_request(http.method, http.path, http.query.items(), http.headers, body)


def _select_headers(headers: Mapping[str, str]) -> dict[str, str]:
    selected = {
        name: value
        for name, value in headers.items()
        if name.lower() in _FORWARDED or name.lower().startswith("cf-aig-")
    }
    return {**selected, "Accept-Encoding": "identity"}


async def _read_chunks(upstream: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield the chunks of a body as they were sent."""
    chunk = b""
    async for data, is_end in upstream.content.iter_chunks():
        chunk += data
        if is_end and chunk:
            yield chunk
            chunk = b""
    if chunk:
        yield chunk


def _hang_up(request: ApiRequest) -> None:
    if request.http.transport is not None:
        request.http.transport.close()
