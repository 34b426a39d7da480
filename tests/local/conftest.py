"""A local server per test, and a plain HTTP client for it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import ClientResponse, ClientSession
from attrs import frozen

from cfai import WorkersAI
from cfai.local import Exchange, Server, weights
from tests.limits import extend_limit

LLAMA = "@cf/meta/llama-3.1-8b-instruct-fast"


@frozen
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def result(self) -> Any:
        assert self.status == 200, self.body
        return self.json["result"]

    @property
    def error(self) -> tuple[int, int, str]:
        """The status, the code and the message."""
        (error,) = self.json["errors"]
        assert self.json["success"] is False
        return self.status, error["code"], error["message"]


@frozen
class Local:
    """A running server, and a plain HTTP client that has credentials for local_server."""

    server: Server
    http: ClientSession
    exchanges: "asyncio.Queue[Exchange]"

    def url(self, model: str) -> str:
        return f"{self.server.base_url}/accounts/0/ai/run/{model}"

    def open(
        self, model: str, body: bytes | dict[str, Any], **options: Any
    ) -> AbstractAsyncContextManager[ClientResponse]:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        # aiohttp warns about large bodies that are not files.
        return self.http.post(self.url(model), data=BytesIO(data), **options)

    async def post(self, model: str, body: bytes | dict[str, Any], **options: Any) -> Reply:
        async with self.open(model, body, **options) as response:
            return Reply(response.status, response.headers, await response.read())

    async def done(self) -> Exchange:
        """Wait for the next request that the server has finished."""
        async with asyncio.timeout(30):
            return await self.exchanges.get()


def client(server: Server, account: str = "0") -> WorkersAI:
    """Create a `WorkersAI` client for one of the server's accounts."""
    arguments: dict[str, Any] = {**server.credentials, "account_id": account}
    return WorkersAI(**arguments)


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[Local]:
    exchanges: asyncio.Queue[Exchange] = asyncio.Queue()
    async with (
        Server(on_request=exchanges.put_nowait, **options) as server,
        ClientSession(headers={"Authorization": "Bearer any"}) as http,
    ):
        yield Local(server, http, exchanges)


@pytest.fixture
async def local() -> AsyncIterator[Local]:
    async with running() as local_server:
        yield local_server


@pytest.fixture(scope="session", autouse=True)
def model_weights(pytestconfig: pytest.Config) -> Path:
    """Download the text model's weights once; no dependency installs them."""
    extend_limit(pytestconfig, 600)
    return weights.ensure(weights.SMOLLM2)[0]


@pytest.fixture(scope="session")
def speech_weights(pytestconfig: pytest.Config) -> None:
    """Download the weights of the models for speech once."""
    extend_limit(pytestconfig, 600)
    for model in weights.BY_TASK["speech"]:
        weights.ensure(model)


@pytest.fixture(scope="session")
def vision_weights(pytestconfig: pytest.Config) -> None:
    """Download the weights of the models for vision once."""
    extend_limit(pytestconfig, 600)
    for model in weights.BY_TASK["vision"]:
        weights.ensure(model)
