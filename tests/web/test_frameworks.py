"""A stream through each web framework to a browser, with real sockets on both sides."""

import asyncio
import gc
import json
import logging
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from starlette.requests import Request

from cfai import InputError, Prompt
from cfai.settings import Retries, Timeouts
from cfai.testing import FakeWorkersAI, Recorded, Reply
from cfai.web import Relay, asgi, starlette
from cfai.web.aiohttp import relay
from tests.web.conftest import FRAMEWORKS, MODEL, Site, clock, serve_aiohttp, serve_app
from tests.wire.dialects import DONE
from tests.wire.reference import decode

HEL = b'data: {"response":"Hel"}\n\n'
LO = b'data: {"response":"lo"}\n\n'
TEXT = "a\r\nb\n\u2028c\u2029\x85\0😀"

Gone = Callable[[], Awaitable[None]]


def relays() -> list[Relay]:
    return [thing for thing in gc.get_objects() if isinstance(thing, Relay)]


async def test_a_stream_arrives_as_events(site: Site) -> None:
    """With headers that keep proxies from buffering, and the text unchanged."""
    site.fake.streams(*TEXT, {"finish_reason": "stop"})
    async with site.get("/chat") as response:
        assert response.status == 200
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers["x-accel-buffering"] == "no"
        assert "content-length" not in response.headers
        events = decode(await response.read())
    assert events[0].retry == 3000
    assert "".join(json.loads(e.data)["text"] for e in events if e.event == "text") == TEXT
    assert events[-1].event == "done"
    assert site.fake.connections == 1  # given back to the pool


async def test_a_stream_arrives_as_lines_of_json(site: Site) -> None:
    site.fake.streams(*TEXT)
    async with site.get("/chat?protocol=ndjson") as response:
        assert response.headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in (await response.read()).splitlines()]
    assert "".join(line["text"] for line in lines if line["type"] == "text") == TEXT
    assert lines[-1] == {"type": "done", "finish_reason": None}


async def test_headers_are_added_or_replaced(site: Site) -> None:
    """In any case of letters; no header is sent twice."""
    site.fake.streams("a")
    async with site.get("/chat?private=1") as response:
        assert response.headers.getall("cache-control") == ["private, no-store"]
        assert response.headers.getall("x-app") == ["one"]
        assert response.headers.getall("content-type") == ["text/event-stream; charset=utf-8"]


@pytest.mark.parametrize("protocol", ["sse", "ndjson"])
async def test_a_reconnecting_event_source_is_stopped(site: Site, protocol: str) -> None:
    """It sends the last id, and nothing is generated again."""
    url = f"http://127.0.0.1:{site.port}/chat?protocol={protocol}"
    async with site.http.get(url, headers={"Last-Event-ID": "3"}) as response:
        assert response.status == 204
        assert await response.read() == b""
    assert site.fake.requests == []


async def test_tokens_arrive_one_after_another(site: Site) -> None:
    """Each arrives before the model sends the next."""
    more = asyncio.Event()
    site.fake.says(HEL, more, LO, DONE)
    browser = await site.connect()
    await browser.until(b'"Hel"}\n\n')
    more.set()
    await browser.until(b'"lo"}\n\n')
    await browser.until(b"event: done")
    browser.disconnect()


def hooks() -> list[object]:
    """What the adapter for aiohttp puts into connections."""
    module = relay.__module__
    return [thing for thing in gc.get_objects() if type(thing).__module__ == module]


async def test_a_connection_is_reused(site: Site) -> None:
    """A stream leaves the connection usable for the next request, and as it was."""
    before = hooks()
    site.fake.always.says(HEL, LO, DONE)
    browser = await site.connect()
    for _ in range(3):
        await browser.until(b"event: done")
        await browser.until(b"0\r\n\r\n")
        await asyncio.sleep(0)
        assert len(hooks()) <= len(before)
        browser.writer.write(b"GET /chat HTTP/1.1\r\nHost: a\r\n\r\n")
    await browser.until(b"event: done")
    browser.disconnect()


async def test_keep_alives_are_sent_during_silence(site: Site) -> None:
    """Before the first token, too: the response begins, so that no proxy gives up."""
    first = asyncio.Event()
    site.fake.says(HEL, DONE, after=first)
    browser = await site.connect("/chat?keep_alive=0.01")
    for _ in range(3):
        await browser.until(b": keep-alive\n\n")
    first.set()
    await browser.until(b"event: done")
    browser.disconnect()


# Tool runs


def called(name: str) -> dict[str, Any]:
    """A streamed piece that calls a tool."""
    function = {"name": name, "arguments": "{}"}
    return {"tool_calls": [{"index": 0, "id": "c1", "function": function}]}


async def test_a_tool_run_arrives(site: Site) -> None:
    site.fake.streams("Wait. ", called("now")).streams("Noon.")
    async with site.get("/chat?tools=1&protocol=ndjson") as response:
        assert response.headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in (await response.read()).splitlines()]
    assert lines == [
        {"type": "text", "text": "Wait. "},
        {"type": "tool_call", "id": "c1", "name": "now", "arguments": {}},
        {"type": "tool_result", "id": "c1", "name": "now", "output": "12:00"},
        {"type": "step"},
        {"type": "text", "text": "Noon."},
        {"type": "done", "finish_reason": None},
    ]


async def test_a_tool_run_arrives_in_the_protocol_of_the_ai_sdk(site: Site) -> None:
    site.fake.streams(called("now")).streams("Noon.")
    async with site.get("/chat?tools=1&protocol=ai-sdk") as response:
        assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
        body = await response.read()
    assert b'"type":"tool-output-available","output":"12:00"' in body
    assert body.endswith(b"data: [DONE]\n\n")


async def test_a_tool_run_that_is_refused_has_a_status(site: Site) -> None:
    site.fake.fails(400, 5004, "message of the service")
    async with site.get("/chat?tools=1&protocol=ai-sdk") as response:
        assert response.status == 400
        assert (await response.json())["error"] == "BadRequest"


async def test_a_reconnecting_event_source_starts_no_tool_run(site: Site) -> None:
    url = f"http://127.0.0.1:{site.port}/chat?tools=1"
    async with site.http.get(url, headers={"Last-Event-ID": "3"}) as response:
        assert response.status == 204
    assert site.fake.requests == []


async def test_a_browser_that_goes_away_ends_the_tools(site: Site) -> None:
    clock.reset()
    site.fake.streams("Wait. ", called("wait"))
    browser = await site.connect("/chat?tools=1")
    await browser.until(b"tool_call\n")
    await clock.began.wait()
    browser.disconnect()
    await clock.ended.wait()


async def test_five_hundred_tool_runs_at_once_leave_nothing_behind(
    fake: FakeWorkersAI, all_closed: Gone
) -> None:
    """Nothing is lost, and no task, tool or connection is left."""

    def answer(request: Recorded) -> Reply:
        has_result = any(m["role"] == "tool" for m in request.json()["messages"])
        piece = {"response": "Noon."} if has_result else called("now")
        parts = (b"data: %b\n\n" % json.dumps(piece).encode(), DONE)
        return Reply(parts, headers={"content-type": "text/event-stream"}, framing="chunked")

    fake.always.answers_by(answer)
    before = asyncio.all_tasks()
    ai = fake.client(limit=500)
    async with FRAMEWORKS["aiohttp"](ai) as port, aiohttp.ClientSession() as http:
        url = f"http://127.0.0.1:{port}/chat?tools=1&protocol=ndjson"

        async def read() -> bytes:
            async with http.get(url) as response:
                return await response.read()

        bodies = await asyncio.gather(*(read() for _ in range(500)))
    assert len(set(bodies)) == 1
    assert b"12:00" in bodies[0]
    assert bodies[0].endswith(b'{"type":"done","finish_reason":null}\n')
    await ai.aclose()
    await all_closed()
    await fake.until(lambda: asyncio.all_tasks() <= before)


# A browser that goes away


@pytest.mark.parametrize("when", ["before the first token", "in the middle"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_browser_that_goes_away_ends_the_stream(
    site: Site, all_closed: Gone, when: str, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    """At once, although no token and no keep-alive is due."""
    caplog.set_level(logging.WARNING)
    if when == "in the middle":
        site.fake.says(HEL, asyncio.Event())
    else:
        site.fake.stalls()
    browser = await site.connect(method=method)
    if when == "in the middle":
        await browser.until(b'"Hel"}\n\n')
    await site.fake.until(lambda: site.fake.requests)
    browser.disconnect()
    await all_closed()
    assert caplog.messages == []


async def test_a_hundred_browsers_that_vanish_leave_nothing_behind(
    site: Site, all_closed: Gone
) -> None:
    site.fake.always.says(HEL, asyncio.Event())
    before = asyncio.all_tasks()
    browsers = [await site.connect() for _ in range(100)]
    for browser in browsers:
        await browser.until(b'"Hel"}\n\n')
    assert site.fake.connections == 100
    for browser in browsers:
        browser.disconnect()
    await all_closed()
    await site.fake.until(lambda: asyncio.all_tasks() <= before)


async def test_tls_connections_are_reused_and_watched(
    fake: FakeWorkersAI, all_closed: Gone, caplog: pytest.LogCaptureFixture
) -> None:
    """aiohttp's own: a connection is reused, and a lost one ends its stream."""
    fake.says(HEL, LO, DONE).says(HEL, asyncio.Event())
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(Path(__file__).with_name("localhost.pem"))
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.load_verify_locations(Path(__file__).with_name("localhost.pem"))
    async with serve_aiohttp(fake.client(), tls) as port:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=trusting, server_hostname="localhost"
        )
        for end in (b"0\r\n\r\n", b'"Hel"}\n\n'):
            writer.write(b"GET /chat HTTP/1.1\r\nHost: a\r\n\r\n")
            await reader.readuntil(end)
        writer.transport.abort()
        await all_closed()
    assert caplog.messages == []


async def test_a_slow_browser_slows_the_model(
    site: Site, all_closed: Gone, caplog: pytest.LogCaptureFixture
) -> None:
    """What it does not take stays at the service, but for the buffers on the way.

    It may go away meanwhile like any other: that is no error of the app.
    """
    before = relays()  # that other tests still hold
    site.fake.says(*[b'data: {"response":"%b"}\n\n' % (b"x" * 1000) * 100] * 600)
    browser = await site.connect()
    await browser.until(b'x"}\n\n')
    for _ in range(20_000):
        await asyncio.sleep(0)
    assert not site.fake.requests[0].answered.is_set()
    browser.disconnect()  # with bytes that it never read: the connection is reset
    await all_closed()
    async with asyncio.timeout(60):
        while len(relays()) > len(before):
            for _ in range(1000):  # To look at all there is takes its time.
                await asyncio.sleep(0)
    assert caplog.messages == []


async def test_a_slow_browser_gets_everything_in_the_end(site: Site) -> None:
    """Once it reads on, so does the app."""
    event = b'data: {"response":"%b"}\n\n' % (b"x" * 1000)
    site.fake.says(*[event * 100] * 200, DONE)
    async with site.get("/chat?protocol=ndjson") as response:
        size = len(await response.content.readany())
        for _ in range(1_000):  # Meanwhile the buffers on the way fill.
            await asyncio.sleep(0)
        rest = await response.read()
    assert size + len(rest) > 200 * 100 * 1000
    assert rest.endswith(b'{"type":"done","finish_reason":null}\n')


@pytest.mark.parametrize("how", ["lost", "closing"])
async def test_a_browser_that_left_before_sends_no_request(fake: FakeWorkersAI, how: str) -> None:
    """The handler was busy with something else. That is no error of the app."""
    come, left, over = asyncio.Event(), asyncio.Event(), asyncio.Event()
    responses: list[web.StreamResponse] = []

    async def chat(request: web.Request) -> web.StreamResponse:
        come.set()
        await left.wait()
        if how == "closing" and request.transport is not None:
            request.transport.close()
        while request.transport is not None and how == "lost":  # noqa: ASYNC110
            await asyncio.sleep(0)
        try:
            response = await relay(request, fake.client().stream(MODEL, Prompt("Hi")))
            responses.append(response)
            return response
        finally:
            over.set()

    app = web.Application()
    app.add_routes([web.get("/", chat)])
    async with serve_app(app) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await come.wait()
        if how == "lost":
            writer.transport.abort()
        left.set()
        await over.wait()
        writer.transport.abort()
    assert fake.requests == []
    assert len(responses) == 1


async def test_a_response_that_cannot_begin_ends_the_stream(
    fake: FakeWorkersAI, all_closed: Gone
) -> None:
    """Even if an error tracker keeps the exception, and with it the frames of the handler."""
    kept: list[Exception] = []

    async def chat(request: web.Request) -> web.StreamResponse:
        try:
            return await relay(request, fake.client().stream(MODEL, Prompt("Hi")))
        except ZeroDivisionError as exc:
            kept.append(exc)
            raise

    async def fail(request: web.Request, response: web.StreamResponse) -> None:
        if response.status == 200:
            raise ZeroDivisionError("of the app")

    app = web.Application()
    app.on_response_prepare.append(fail)
    app.add_routes([web.get("/", chat)])
    fake.says(HEL, asyncio.Event())
    async with serve_app(app) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await fake.until(lambda: kept)
        await all_closed()
        writer.transport.abort()
    assert len(kept) == 1


# Errors


@pytest.mark.parametrize(
    ("status", "code", "answered", "error", "says"),
    [
        (400, 5004, 400, "BadRequest", "message of the service"),
        (413, 3006, 413, "RequestTooLarge", "message of the service"),
        (429, 3040, 429, "CapacityExceeded", "message of the service"),
        (408, 3007, 504, "ServiceTimeout", "message of the service"),
        (500, 8005, 502, "ServerError", "message of the service"),
        (429, 3036, 503, "QuotaExceeded", "the app has used up"),
        (401, 10000, 502, "AuthenticationError", "the app can't use its model"),
        (404, 7003, 502, "NotFound", "the app can't use its model"),
    ],
)
async def test_a_refusal_has_a_status(
    site: Site, status: int, code: int, answered: int, error: str, says: str
) -> None:
    """Its own status if it is about the request, and never one that misleads a browser."""
    site.fake.fails(status, code, "message of the service")
    async with site.get("/chat") as response:
        assert response.status == answered
        assert response.headers["content-type"].startswith("application/json")
        assert response.headers["cache-control"] == "no-store"
        body = await response.json()
    assert body["error"] == error
    assert body["message"].startswith(says)


async def test_a_refusal_has_retry_after(site: Site) -> None:
    """In seconds, rounded up."""
    site.fake.fails(429, 3040, "busy", retry_after=6.2)
    async with site.get("/chat") as response:
        assert response.headers["retry-after"] == "7"
        assert (await response.json())["retry_after"] == 6.2
    site.fake.fails(429, 3036, "used up", retry_after=0.25)  # which is not until tomorrow
    async with site.get("/chat") as response:
        assert 0 <= int(response.headers["retry-after"]) <= 24 * 3600
        assert (await response.json())["retry_after"] == int(response.headers["retry-after"])


@pytest.mark.parametrize("framework", ["aiohttp", "fastapi"])
async def test_a_pool_timeout_is_answered_with_503(fake: FakeWorkersAI, framework: str) -> None:
    """Nothing was sent, and a later request may succeed."""
    fake.says(HEL, asyncio.Event())
    ai = fake.client(limit=1, timeouts=Timeouts(pool=0.01))
    async with (
        FRAMEWORKS[framework](ai) as port,
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{port}/chat") as first,
        http.get(f"http://127.0.0.1:{port}/chat") as second,
    ):
        assert first.status == 200
        assert second.status == 503
        assert second.headers["retry-after"] == "1"
        assert await second.json() == {
            "error": "RequestTimeout",
            "message": "the app is at its limit of concurrent answers; try again in a moment",
            "retry_after": 1,
        }


async def test_an_error_before_the_first_token_is_a_refusal(site: Site) -> None:
    site.fake.says(b'data: {"error":"broken"}\n\n')
    async with site.get("/chat") as response:
        assert response.status == 502


async def test_an_error_in_the_middle_is_the_last_event(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """The app's log has it in full."""
    site.fake.says(HEL, then_hangs_up=True)
    async with site.get("/chat") as response:
        assert response.status == 200
        events = decode(await response.read())
    assert [event.event for event in events] == ["text", "error"]
    assert json.loads(events[1].data)["error"] == "StreamInterrupted"
    assert "StreamInterrupted" in caplog.text


@pytest.mark.parametrize("framework", ["aiohttp", "starlette", "fastapi"])
async def test_errors_of_calls_without_a_stream_are_refusals(
    fake: FakeWorkersAI, framework: str
) -> None:
    """By the framework's own error handling."""
    fake.fails(429, 3040, "busy", retry_after=2)
    ai = fake.client(retries=Retries(max=0))
    async with (
        FRAMEWORKS[framework](ai) as port,
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{port}/run") as response,
    ):
        assert response.status == 429
        assert response.headers["retry-after"] == "2"
        assert (await response.json())["error"] == "CapacityExceeded"


async def test_an_error_of_the_app_is_not_answered_as_a_refusal() -> None:
    """Registered for all exceptions, the handler raises those of others again."""
    error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError) as caught:
        await starlette.refusals(Request({"type": "http"}), error)
    assert caught.value is error


async def test_a_head_request_sends_no_request_to_the_service(site: Site) -> None:
    async with site.http.head(f"http://127.0.0.1:{site.port}/chat") as response:
        assert response.status == 200
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert not site.fake.requests


async def test_an_answer_that_is_no_stream_is_refused(fake: FakeWorkersAI) -> None:
    """Such as one that was awaited."""
    fake.always.answers({"response": "Hello"})
    ai = fake.client()
    answers: list[Any] = [
        await ai.run(MODEL, "Hi"),
        await ai.run_tools(MODEL, "Hi", tools=[]),
        ai.parse_stream(MODEL, "Hi", into=dict[str, str]),
        "Hello",
        None,
    ]
    for answer in answers:
        kind = type(answer).__name__
        with pytest.raises(InputError, match=rf"must be a TokenStream or a ToolRun .* got {kind}"):
            asgi.TokenResponse(answer)


async def test_an_unknown_protocol_is_refused(fake: FakeWorkersAI) -> None:
    protocol: Any = "xml"
    with pytest.raises(InputError, match='"sse", "ndjson" or "ai-sdk", got \'xml\''):
        asgi.TokenResponse(fake.client().stream(MODEL, Prompt("Hi")), protocol=protocol)
