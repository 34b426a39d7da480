"""The session: sends requests, retries failed attempts, and returns what the caller reads.

`_wire` builds requests and reads responses; `retries` decides about repeating. This module does the
I/O: connection slots, permits, time limits, and reading of bodies. `Spending` adds up what the
answers of a client cost, as the service reports it, and holds its budget.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from functools import lru_cache
from io import BytesIO
from math import inf
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast

import aiohttp
from attrs import define, evolve, field, frozen
from yarl import URL

from cfai._session import logs
from cfai._session.connections import Connections, LoopSession
from cfai._session.errors import ReusedConnectionLost, raise_error, timeout_error, translate_error
from cfai._session.redaction import cut_tracebacks, redact_error
from cfai._session.retries import retry_delay, should_fall_back
from cfai._session.timeouts import Deadline, OpenCall
from cfai._session.unexpected import read_document, read_start, reject_stream
from cfai._types.excerpts import format_value
from cfai._types.values import Value, fast_maker
from cfai._validators import is_finite_number
from cfai._wire import responses
from cfai._wire.errors import describe_decode_error
from cfai._wire.requests import Request
from cfai._wire.responses import Response
from cfai.errors import (
    AnswerTooLarge,
    BudgetExceeded,
    CfaiError,
    ConfigError,
    DecodeError,
    InputError,
    ModelRetired,
    Phase,
    RequestTimeout,
)
from cfai.profiles import identify_retired_model
from cfai.settings import Retry, Settings

if TYPE_CHECKING:
    from cfai._session.body import StreamBody
    from cfai._session.sockets import Socket
    from cfai._session.throttle import Permit, Throttle
    from cfai._session.uploads import Upload
    from cfai._wire.multipart import Form

T = TypeVar("T")

_Content = bytes | AsyncIterable[bytes] | BytesIO | None

_NETRC = (
    "the session that was passed must not have auth of its own, because requests have the"
    " credentials of the client: a .netrc file has a login for this host, or for all hosts, so"
    " create the session without trust_env, or remove the login"
)
_LARGEST_WRITE = 2**20
"""Bytes. aiohttp warns if it gets more at once, because the write would block the event loop."""


@define(eq=False, repr=False)
class _Call(OpenCall):
    """A call of `Session.call`, with its current attempt."""

    deadline: Deadline
    loop: LoopSession
    number: int = field(default=0, init=False)
    """Of the attempt: 1 is the first."""
    permit: Permit | None = field(default=None, init=False)
    """Of the attempt, if it needs one."""
    began: float = field(default=0.0, init=False)
    """When the attempt did: seconds from the start of the call."""

    _phase: Phase = field(default="response", init=False)
    """What it waits for."""
    _configured: float | None = field(default=None, init=False)
    """The time limit of that, in seconds, as set in `Timeouts`."""

    @property
    def elapsed(self) -> float:
        """Seconds since the attempt began."""
        return self.deadline.elapsed - self.began

    def start_phase(self, phase: Phase, seconds: float | None) -> None:
        """Interrupt the call after so many seconds, or at its deadline if that is nearer."""
        self._configured = seconds
        if self.deadline.total is not None:
            seconds_left = self.deadline.seconds_left
            if seconds_left is not None and (seconds is None or seconds_left < seconds):
                phase, seconds, self._configured = "total", seconds_left, self.deadline.total
        self._phase = phase
        self.start_timeout(seconds)

    def raise_timeout(self, cancelled: asyncio.CancelledError) -> None:
        """Raise the error for the phase, if its time limit is the only cause of *cancelled*."""
        if self.take_back_timeout():
            raise self.timeout_error() from cancelled

    def timeout_error(self) -> RequestTimeout:
        """The error for the phase whose time limit was exceeded."""
        return timeout_error(self._phase, self._configured)

    def start(self, request: Request, spending: Spending) -> None:
        """Report that the attempt is sent now, and not only waiting.

        Raises:
            BudgetExceeded: While it waited, the cost of other calls used up the budget.
        """
        if request.costs:
            spending.check_budget()
        if self.permit is not None:
            self.permit.start(repeat=self.number > 1)


_make_call: Final = fast_maker(_Call)
"""Every call makes one: in half of the time."""


@frozen(eq=False, repr=False)
class Spent(Value):
    """What a client's calls have cost so far, as far as the service reported it."""

    neurons: float = 0.0
    """The sum of the reported costs, in neurons, the unit that Cloudflare bills."""

    calls: int = 0
    """How many calls were answered."""

    unreported: int = 0
    """How many of these answers had no cost with them. What they cost is not in `neurons`."""


class Spending:
    """Adds up the costs of a client and its copies, which may run in several threads.

    All copies share it, deep ones too: a budget is for all of them together.
    """

    def __init__(self, budget: float | None = None) -> None:
        if budget is not None and not (is_finite_number(budget) and budget >= 0):
            rule = "a finite number of neurons, 0 or more"
            raise InputError(f"budget must be {rule}, got {format_value(budget)}")
        self._budget = budget
        # Reentrant, because a stream that is collected as garbage adds its cost, too.
        self._lock = RLock()
        self._neurons = 0.0
        self._calls = 0
        self._unreported = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    @property
    def spent(self) -> Spent:
        """The sums so far."""
        with self._lock:
            return Spent(self._neurons, self._calls, self._unreported)

    def check_budget(self) -> None:
        """Check that a call may be sent.

        Raises:
            BudgetExceeded: The budget is used up.
        """
        if self._budget is not None and self._neurons >= self._budget:
            spent, budget = self._neurons, self._budget
            raise BudgetExceeded(
                f"the client's budget is used up: {spent:g} of {budget:g} neurons are spent;"
                " create a client with a larger budget, or without one",
                budget=budget,
                spent=spent,
            )

    def add(self, neurons: float | None) -> None:
        """Add the cost of one answer; `None` if the service reported none."""
        with self._lock:
            self._calls += 1
            if neurons is not None and 0 <= neurons < inf:
                self._neurons += neurons
            else:
                self._unreported += 1


class Session:
    """Sends requests, repeats failed attempts, and returns what the caller reads."""

    def __init__(self, connections: Connections, spending: Spending | None = None) -> None:
        self.connections = connections
        self.spending: Spending = spending or Spending()
        self.chat_models: set[str] = set()
        """Models whose streams came back empty on the route run, and came on the route chat."""

    async def call(
        self,
        request: Request,
        settings: Settings,
        *,
        read_response: Callable[[Response], T],
        open_stream: Callable[[Any], Awaitable[T]] = reject_stream,
        throttle: Throttle | None = None,
        deadline: Deadline | None = None,
    ) -> T:
        """Send *request*; failed attempts are repeated according to `settings.retries`.

        Args:
            read_response: Reads a complete response, and raises `StatusError` if it is an error
                response. An error that it raises counts as a failed attempt.
            open_stream: The same for an event stream, for media if `request.streams_media`, and
                for the `Socket` if `request.opens_socket`; it must close what it gets.
            throttle: Grants a permit for each attempt. A permit is held until the response was read
                or the stream was opened.
            deadline: Of the whole call, if it began before this request.
        """
        if deadline is None:
            deadline = Deadline(time.monotonic(), settings.timeouts.total)
        loop = self.connections.for_running_loop()
        with _make_call(loop.timer, deadline, loop) as call:
            if deadline.attempts:
                call.began = deadline.elapsed
            while True:
                call.number += 1
                deadline.attempts += 1
                try:
                    if throttle is None:
                        return await self._run_attempt(
                            request, settings, call, read_response, open_stream
                        )
                    async with throttle.permit(deadline) as call.permit:
                        call.loop = self.connections.for_loop(loop.timer.loop)
                        return await self._run_attempt(
                            request, settings, call, read_response, open_stream
                        )
                except CfaiError as exc:
                    delay = _complete_failure(exc, request, settings, call)
                    if delay is None:
                        raise
                    if settings.retries.on_retry is not None:
                        settings.retries.on_retry(Retry(deadline.attempts, exc, delay))
                await asyncio.sleep(delay)
                call.began = deadline.elapsed
                call.loop = self.connections.for_loop(loop.timer.loop)

    async def call_for_vectors(
        self,
        request: Request,
        settings: Settings,
        *,
        read_response: Callable[[Response], T],
        open_stream: Callable[[StreamBody], Awaitable[T]] = reject_stream,
        throttle: Throttle | None = None,
        deadline: Deadline | None = None,
    ) -> T:
        """Like `call`, for a response full of vectors, which are decoded afterwards.

        They are decoded in slices; other tasks have their turn in between.
        """
        # What vectors need is imported by the first of them. All imports of this kind save a plain
        # client 10 % of what importing aiohttp costs (docs/speed.md, "The first answer").
        from cfai._wire.vectors import UnusualVectors, VectorDecoder

        decoder = VectorDecoder()
        answer = await self.call(
            request,
            settings,
            read_response=lambda response: read_response(decoder.wrap(response)),
            open_stream=open_stream,
            throttle=throttle,
            deadline=deadline,
        )
        try:
            for _ in decoder.steps():
                await asyncio.sleep(0)
        except UnusualVectors:
            try:
                return read_response(decoder.response)  # This raises the error.
            except DecodeError as exc:
                describe_decode_error(exc, decoder.response.body, decoder.response.meta)
                redact_error(exc, settings.secrets)
                raise
        return answer

    async def _run_attempt(
        self,
        request: Request,
        settings: Settings,
        call: _Call,
        read_response: Callable[[Response], T],
        open_stream: Callable[[Any], Awaitable[T]],
    ) -> T:
        """Send the request once, and read its response.

        Raises:
            StatusError: An error response. The status is not checked before: *read_response* raises
                it, with `_wire.errors`, since some errors are in a body under status 200.
            CfaiError: The attempt failed for another reason; see `call`.
        """
        if request.is_form:
            # What uploads need is imported by the first of them.
            from cfai._session.uploads import Upload

            with Upload(cast("Form", request.body)) as upload:
                # A large upload takes long: the time limit counts from its last piece.
                upload.on_piece_sent = lambda: call.start_phase(
                    "response", settings.timeouts.response
                )
                response = await self._send(request, settings, call, upload)
        else:
            response = await self._send(request, settings, call)
        if logs.LOGGER.isEnabledFor(logging.DEBUG):
            logs.log_response(request, settings, response.meta, call.elapsed)
        if isinstance(response, Response):
            try:
                return read_response(response)
            except DecodeError as exc:
                describe_decode_error(exc, response.body, response.meta)
                raise
        try:
            return await open_stream(response)
        except BaseException:
            response.close()
            raise

    async def _send(
        self, request: Request, settings: Settings, call: _Call, upload: Upload | None = None
    ) -> Response | StreamBody | Socket:
        """Send the request once; returns a complete response, or a stream after its headers."""
        loop = call.loop
        if not loop.slots.take():
            await _wait_for_slot(loop, call, settings.timeouts.pool)
        is_stream = False
        response: aiohttp.ClientResponse | None = None
        try:
            call.start(request, self.spending)
            call.start_phase("response", settings.timeouts.response)
            while response is None:
                try:
                    response = await _request(loop, request, settings, upload)
                except BaseException as exc:
                    if not _prepare_resend(exc, loop, request, upload):
                        raise
            loop.track(response)
            status, headers = response.status, response.headers
            kind = responses.read_media_type(headers)
            is_stream = _is_stream(request, status, headers, kind)
            data = b""
            if not is_stream or (kind == responses.EVENT_STREAM and not request.streams_events):
                limit = settings.max_answer_bytes
                data, is_stream = await _read_body(response, request, kind, is_stream, limit, call)
        except asyncio.CancelledError as exc:
            call.raise_timeout(exc)
            raise
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as exc:
            raise_error(exc, _translate_error(exc, call, settings))
        finally:
            call.stop_timeout()
            if not is_stream:
                loop.release(response)
        deadline = call.deadline
        meta = responses.read_meta(
            status, headers, deadline.attempts, deadline.elapsed, kind, request.model
        )
        if is_stream:
            body_class = _body_class(request, status)
            return body_class(response, loop, meta, settings, deadline, data)
        return Response(status, headers, data, meta)


def _translate_error(exc: Exception, call: _Call, settings: Settings) -> CfaiError:
    if isinstance(exc, aiohttp.ConnectionTimeoutError):
        return timeout_error("connect", settings.timeouts.connect)
    return call.timeout_error() if isinstance(exc, TimeoutError) else translate_error(exc)


def _body_class(request: Request, status: int) -> type[StreamBody | Socket]:
    """What reads a response as it arrives. What it needs is imported by the first one."""
    if request.opens_socket and status == 101:
        from cfai._session.sockets import Socket

        return Socket
    from cfai._session.body import StreamBody

    return StreamBody


def _complete_failure(
    error: CfaiError, request: Request, settings: Settings, call: _Call
) -> float | None:
    """Complete, redact and log the error of an attempt.

    Returns:
        Seconds until the next attempt; `None` if there is none.
    """
    deadline, retries = call.deadline, settings.retries
    if isinstance(error, ModelRetired) and request.model is not None:
        identify_retired_model(error, request.model)
    redact_error(error, settings.secrets)
    if deadline.may_fall_back and should_fall_back(error):
        retries = evolve(retries, max_busy=0)
    delay = retry_delay(
        retries,
        call.number,
        error,
        repeatable=request.repeatable,
        seconds_left=deadline.seconds_left,
        random=random.random,
    )
    if logs.LOGGER.isEnabledFor(logging.DEBUG):
        logs.log_failure(request, settings, error, deadline.attempts, call.elapsed, pause=delay)
    return delay


async def _wait_for_slot(loop: LoopSession, call: _Call, seconds: float | None) -> None:
    """Wait until fewer requests are in flight than the client's `limit`."""
    call.start_phase("pool", seconds)
    try:
        await loop.slots.wait()
    except asyncio.CancelledError as exc:
        call.raise_timeout(exc)
        raise
    finally:
        call.stop_timeout()
    if loop.session.closed:
        loop.release(None)
        raise ConfigError("the session was closed while the call waited for a connection")


def _request(
    loop: LoopSession, request: Request, settings: Settings, upload: Upload | None
) -> Awaitable[aiohttp.ClientResponse]:
    """Send the request with aiohttp; the response is returned after its headers."""
    url = _parse_url(settings.base_url, request.path)
    timeout = _connect_timeout(settings.timeouts.connect)
    if request.opens_socket:
        from cfai._session.sockets import shake_hands

        sent = shake_hands(loop.session, url, request.headers, settings, timeout)
    else:
        sent = loop.session.request(
            request.method,
            url,
            data=_content(request) if upload is None else upload,
            headers=loop.headers(request.headers),
            allow_redirects=False,
            raise_for_status=False,
            proxy=settings.proxy,
            timeout=timeout,
        )
    return sent if loop.owns_session else loop.watch_reuse(url, sent)


def _prepare_resend(
    exc: BaseException, loop: LoopSession, request: Request, upload: Upload | None
) -> bool:
    """Whether to send the request again at once, because the reused connection was dead."""
    if not isinstance(exc, ReusedConnectionLost):
        cut_tracebacks(exc)
        if type(exc) is ValueError and "AUTHORIZATION" in str(exc):
            raise InputError(_NETRC) from None
        return False
    loop.close_idle()
    if not request.repeatable or loop.session.closed:
        return False
    if upload is not None:
        upload.restart()
    return True


def _is_stream(request: Request, status: int, headers: Mapping[str, str], media_type: str) -> bool:
    """Whether the response is read as it arrives."""
    return responses.is_stream(
        status, media_type, media=request.streams_media, socket=request.opens_socket
    ) and not responses.read_unknown_encoding(headers)


def _content(request: Request) -> _Content:
    """The body for one attempt. A large one becomes a file, which aiohttp writes in pieces."""
    body = request.body
    if isinstance(body, bytes) and len(body) > _LARGEST_WRITE:
        return BytesIO(body)
    return None if request.is_form else cast("_Content", body)


@lru_cache(maxsize=256)
def _parse_url(base_url: str, path: str) -> URL:
    return URL(base_url + path, encoded=True)


@lru_cache(maxsize=16)
def _connect_timeout(seconds: float | None) -> aiohttp.ClientTimeout:
    # aiohttp's default total of 300 s would cut long streams. The threshold turns off its rounding.
    return aiohttp.ClientTimeout(total=None, connect=seconds, ceil_threshold=float("inf"))


async def _read_body(
    response: aiohttp.ClientResponse,
    request: Request,
    media_type: str,
    is_stream: bool,
    max_bytes: int,
    call: _Call,
) -> tuple[bytes, bool]:
    """The complete, decompressed body, and whether it is the beginning of a stream instead.

    A proxy may have changed or dropped the Content-Type of a stream, or of an answer.

    Args:
        is_stream: Whether the headers say that it is one, although none was requested.

    Raises:
        AnswerTooLarge: It has more than *max_bytes* bytes. Reading stops soon after them.
    """
    content = response.content
    is_ok = 200 <= response.status < 300
    try:
        # The whole body of most answers came with their headers: nothing is awaited for it.
        data = content.read_nowait() if content.is_eof() else await content.readany()
        if is_ok and not responses.begins_json(data):
            data = await read_start(content, data, max_bytes)
            is_other = not responses.begins_json(data)
            if responses.begins_events(data) or (is_stream and is_other):
                return data, True
        expects_events = request.streams_events and not responses.is_json_type(media_type)
        if is_ok and (is_stream or expects_events):
            data, is_document = await read_document(content, data, max_bytes)
            if is_stream and not is_document:
                return data, True
            if not content.at_eof():
                response.close()
        elif not content.at_eof():
            # Joined at the end: a growing buffer would be copied again and again.
            chunks, size = [data], len(data)
            while size <= max_bytes and (chunk := await content.readany()):
                chunks.append(chunk)
                size += len(chunk)
            data = b"".join(chunks)
    except BaseException:
        response.close()
        raise
    if len(data) > max_bytes:
        response.close()
        meta = responses.read_meta(
            response.status,
            response.headers,
            attempts=call.number,
            elapsed=call.deadline.elapsed,
            media_type=responses.read_media_type(response.headers),
        )
        message = f"the answer is larger than max_answer_bytes ({max_bytes} bytes)"
        raise AnswerTooLarge(message, limit=max_bytes, meta=meta)
    return data, False
