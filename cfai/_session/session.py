"""A request carried out: attempts, time limits, and an answer handed to whoever reads it.

What to send, what an answer means and whether to try again is decided in `_wire`; here it is done.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import lru_cache
from io import BytesIO
from typing import NamedTuple, NoReturn, TypeVar

import aiohttp
from yarl import URL

from cfai._session import retries
from cfai._session.body import StreamBody
from cfai._session.connections import Connections, LoopSession
from cfai._session.errors import raise_error, timeout_error, translate_error
from cfai._session.redaction import redact_error
from cfai._session.throttle import Permit, Throttle
from cfai._session.timeouts import Deadline, TimeLimit
from cfai._session.uploads import Upload
from cfai._wire import responses as replies
from cfai._wire.multipart import Form
from cfai._wire.requests import Request
from cfai._wire.responses import Reply
from cfai.errors import AnswerTooLarge, CfaiError, ConfigError, DecodeError
from cfai.settings import Retry, Settings

T = TypeVar("T")

_Content = bytes | AsyncIterator[bytes] | BytesIO | None

_LARGE = 2**20
"""Bytes. aiohttp warns where it is handed more at once, since writing that holds up the loop."""


class _One(NamedTuple):
    """One attempt of a call."""

    number: int
    """1 is the first."""
    clock: Deadline
    permit: Permit | None
    """Through the throttle, where there is one."""


async def reject_stream(body: StreamBody) -> NoReturn:
    raise DecodeError("the service answered a stream where JSON is documented", meta=body.meta)


class Session:
    """Sends requests, again where that helps, and hands each answer to whoever reads it."""

    def __init__(
        self,
        connections: Connections,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.connections = connections
        self._sleep = sleep
        self._chance = chance

    async def call(
        self,
        request: Request,
        settings: Settings,
        *,
        read: Callable[[Reply], T],
        stream: Callable[[StreamBody], Awaitable[T]] = reject_stream,
        throttle: Throttle | None = None,
    ) -> T:
        """Carry *request* out, repeating attempts that failed as `settings.retries` says.

        Args:
            read: Makes the result of a whole answer, or raises what it means.
            stream: The same for an answer that is an event stream, whose body it then owns.
                What either raises counts as a failure of the attempt. Left out, it is an error.
            throttle: What each attempt goes through, and what hears how it ended: at the end of the
                answer, or where a stream has begun.
        """
        clock = Deadline(total=settings.timeouts.total)
        for attempt in range(1, settings.retries.max + 2):
            try:
                if throttle is None:
                    one = _One(attempt, clock, None)
                    return await self._once(request, settings, one, read, stream)
                async with throttle.permit(clock) as permit:
                    one = _One(attempt, clock, permit)
                    return await self._once(request, settings, one, read, stream)
            except CfaiError as exc:
                redact_error(exc, settings.secrets)
                pause = retries.retry_delay(
                    settings.retries,
                    attempt,
                    exc,
                    repeatable=request.repeatable,
                    left=clock.left,
                    random=self._chance,
                )
                if pause is None:
                    raise
                if settings.retries.on_retry is not None:
                    settings.retries.on_retry(Retry(attempt, exc, pause))
            await self._sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    async def _once(
        self,
        request: Request,
        settings: Settings,
        one: _One,
        read: Callable[[Reply], T],
        stream: Callable[[StreamBody], Awaitable[T]],
    ) -> T:
        """One attempt, to what its answer is read as."""
        if isinstance(request.body, Form):
            with Upload(request.body) as sending:
                answer = await self._attempt(request, settings, one, sending)
        else:
            answer = await self._attempt(request, settings, one)
        return read(answer) if isinstance(answer, Reply) else await _handed(answer, stream)

    async def _attempt(
        self,
        request: Request,
        settings: Settings,
        one: _One,
        sending: Upload | None = None,
    ) -> Reply | StreamBody:
        """One attempt: a whole answer, or the body of a stream right after its headers."""
        attempt, clock = one.number, one.clock
        here = self.connections.here()
        await _slot(here, clock, settings.timeouts.pool)
        limit = clock.limit("response", settings.timeouts.response)
        handed_on = False
        response: aiohttp.ClientResponse | None = None
        try:
            if one.permit is not None:
                one.permit.start(repeat=attempt > 1)
            with here.timer.timeout(limit.seconds) as in_force:
                if sending is not None:

                    def renew() -> None:
                        # A large file takes its time, and only a standstill is a failure.
                        nonlocal limit
                        limit = clock.limit("response", settings.timeouts.response)
                        in_force.renew(limit.seconds)

                    sending.moved = renew
                body = _content(request) if sending is None else sending
                response = await _answered(here, request, settings, body)
                here.began(response)
                status, headers = response.status, response.headers
                kind = replies.media_type(headers)
                if kind == replies.EVENTS and 200 <= status < 300:
                    meta = replies.meta(
                        status, headers, attempts=attempt, elapsed=clock.elapsed, kind=kind
                    )
                    events = StreamBody(response, here, meta, settings, clock.left)
                    handed_on = True
                    return events
                data = await _whole(response, settings.max_answer_bytes)
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as exc:
            raise_error(exc, _meaning(exc, limit, settings.timeouts.connect))
        finally:
            if not handed_on:
                here.ended(response)
        meta = replies.meta(status, headers, attempts=attempt, elapsed=clock.elapsed, kind=kind)
        return Reply(status, headers, data, meta)


def _meaning(exc: Exception, limit: TimeLimit, connect: float | None) -> CfaiError:
    if isinstance(exc, aiohttp.ConnectionTimeoutError):
        return timeout_error("connect", connect)
    return limit.error() if isinstance(exc, TimeoutError) else translate_error(exc)


async def _handed(body: StreamBody, stream: Callable[[StreamBody], Awaitable[T]]) -> T:
    try:
        return await stream(body)
    except BaseException:
        body.close()
        raise


async def _slot(here: LoopSession, clock: Deadline, seconds: float | None) -> None:
    """Wait until fewer than `limit` requests are under way."""
    if not here.slots.locked():
        await here.slots.acquire()
        return
    limit = clock.limit("pool", seconds)
    try:
        async with asyncio.timeout(limit.seconds):
            await here.slots.acquire()
    except TimeoutError as exc:
        raise limit.error() from exc
    if here.session.closed:
        here.ended(None)
        raise ConfigError("this client was closed while the call waited")


def _answered(
    here: LoopSession, request: Request, settings: Settings, body: _Content
) -> Awaitable[aiohttp.ClientResponse]:
    """The response, once its headers are there."""
    return here.session.request(
        request.method,
        _url(settings.base_url + request.path),
        data=body,
        headers=request.headers,
        allow_redirects=False,
        raise_for_status=False,
        proxy=settings.proxy,
        timeout=_no_limit_but(settings.timeouts.connect),
    )


def _content(request: Request) -> _Content:
    """The body for one attempt; a large one as a file, which aiohttp writes in pieces."""
    content = request.content()
    return BytesIO(content) if isinstance(content, bytes) and len(content) > _LARGE else content


@lru_cache(maxsize=256)
def _url(text: str) -> URL:
    return URL(text, encoded=True)


@lru_cache(maxsize=16)
def _no_limit_but(connect: float | None) -> aiohttp.ClientTimeout:
    # aiohttp's own total of 300 s would cut a long stream. A threshold keeps it from rounding up.
    return aiohttp.ClientTimeout(total=None, connect=connect, ceil_threshold=float("inf"))


async def _whole(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body to its end, decompressed, or an error before it grows far beyond *limit* bytes."""
    content = response.content
    try:
        data = await content.readany()
        if not content.at_eof():
            pieces = bytearray(data)
            while len(pieces) <= limit and (piece := await content.readany()):
                pieces += piece
            data = bytes(pieces)
    except BaseException:
        response.close()
        raise
    if len(data) > limit:
        response.close()
        raise AnswerTooLarge(
            f"the answer is larger than max_answer_bytes ({limit} bytes)", limit=limit
        )
    return data
