"""The fake in synchronous tests of apps, with the test client of each framework."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from cfai import CfaiError, Prompt, WorkersAI
from cfai.testing import FakeWorkersAI

MODEL = "@cf/meta/llama-3.1-8b-instruct-fast"


MAX_SECONDS = 2.0
"""Of the processor, for a test with all that it imports; no waiting is in it."""


@pytest.fixture(autouse=True)
def every_test_is_quick() -> Iterator[None]:
    begin = time.process_time()
    yield
    assert time.process_time() - begin < MAX_SECONDS


@pytest.fixture
def fake() -> Iterator[FakeWorkersAI]:
    """In a thread, as the plugin's fixture is in a synchronous test."""
    with FakeWorkersAI() as fake:
        yield fake


@pytest.fixture
def environment(
    fake: FakeWorkersAI, empty_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in fake.environment.items():
        monkeypatch.setenv(name, value)


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[dict[str, WorkersAI]]:
    async with WorkersAI() as ai:
        yield {"ai": ai}


def test_fastapi(fake: FakeWorkersAI, environment: None) -> None:
    pytest.importorskip("fastapi")
    from fastapi import FastAPI, Request
    from fastapi.testclient import TestClient

    from cfai.web.starlette import TokenResponse, refusals

    app = FastAPI(lifespan=lifespan, exception_handlers={CfaiError: refusals})

    # The annotations are evaluated, because FastAPI reads them.
    async def answer(text: str, request: Request) -> dict[str, str]:
        return {"answer": (await request.state.ai.run(MODEL, text)).text}

    async def stream(text: str, request: Request) -> TokenResponse:
        return TokenResponse(request.state.ai.stream(MODEL, Prompt(text)), protocol="ndjson")

    app.get("/answer")(answer)
    app.get("/stream", response_model=None)(stream)
    fake.answers({"response": "Hello"}).streams("Hel", "lo").fails(429, 4006, "used up")
    with TestClient(app) as http:
        assert http.get("/answer", params={"text": "Hi"}).json() == {"answer": "Hello"}
        lines = http.get("/stream", params={"text": "Hi"}).text.splitlines()
        assert [json.loads(line).get("text") for line in lines[:2]] == ["Hel", "lo"]
        assert http.get("/stream", params={"text": "Hi"}).status_code == 503
    assert [request.json()["prompt"] for request in fake.requests] == ["Hi"] * 3


def test_starlette(fake: FakeWorkersAI, environment: None) -> None:
    """Also without the lifespan, so that each request has an event loop of its own."""
    pytest.importorskip("starlette")
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient

    ai = fake.client()

    async def answer(request: Request) -> JSONResponse:
        return JSONResponse((await ai.run(MODEL, "Hi")).text)

    fake.always.answers({"response": "Hello"})
    http = TestClient(Starlette(routes=[Route("/", answer)]))
    assert [http.get("/").json() for _ in range(3)] == ["Hello"] * 3


def test_django(fake: FakeWorkersAI, environment: None) -> None:
    """Async and synchronous views, with Django's own client."""
    django = pytest.importorskip("django")
    from django.conf import settings
    from django.http import HttpRequest, JsonResponse
    from django.test import Client
    from django.urls import path

    ai = fake.client()

    async def async_view(request: HttpRequest) -> JsonResponse:
        return JsonResponse({"answer": (await ai.run(MODEL, "Hi")).text})

    def sync_view(request: HttpRequest) -> JsonResponse:
        return JsonResponse({"answer": asyncio.run(ai.run(MODEL, "Hi")).text})

    async def get_time() -> str:
        """Get the time."""
        return "late"

    async def tools_view(request: HttpRequest) -> JsonResponse:
        outcome = await ai.run_tools(MODEL, "Hi", tools=[get_time])
        return JsonResponse({"answer": outcome.answer.text})

    settings.configure(
        ALLOWED_HOSTS=["testserver"],
        ROOT_URLCONF=(
            path("async", async_view),
            path("sync", sync_view),
            path("tools", tools_view),
        ),
        SECRET_KEY="tests",
    )
    django.setup()
    fake.always.answers({"response": "Hello"})
    http = Client()
    assert http.get("/async").json() == {"answer": "Hello"}
    assert http.get("/sync").json() == {"answer": "Hello"}
    fake.answers({"tool_calls": [{"name": "get_time", "arguments": {}}]})
    assert http.get("/tools").json() == {"answer": "Hello"}
    assert fake.requests[-1].json()["messages"][-1]["content"] == "late"
    assert len(fake.requests) == 4


def test_requests(fake: FakeWorkersAI) -> None:
    """A program that calls the service without this SDK."""
    requests = pytest.importorskip("requests")
    fake.answers({"response": "Hello"}).streams("Hel", "lo")
    url = f"{fake.base_url}/accounts/account/ai/run/{MODEL}"
    headers = {"Authorization": "Bearer fake-api-token"}
    with requests.Session() as session:
        answer = session.post(url, json={"prompt": "Hi"}, headers=headers, timeout=10)
        assert answer.json()["result"] == {"response": "Hello"}
        stream = session.post(
            url, json={"prompt": "Hi", "stream": True}, headers=headers, timeout=10, stream=True
        )
        lines = [line for line in stream.iter_lines() if line]
    assert lines == [b'data: {"response":"Hel"}', b'data: {"response":"lo"}', b"data: [DONE]"]
    assert fake.requests[0].headers["authorization"] == "Bearer fake-api-token"
