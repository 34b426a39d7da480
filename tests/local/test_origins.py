"""Which web pages can use the server."""

import asyncio
from collections.abc import Mapping

import pytest

from cfai import ConfigError
from cfai.local import Server

from .conftest import LLAMA, Local, running

PAGE = "http://localhost:5173"
BERT = "@cf/huggingface/distilbert-sst-2-int8"
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}


async def send(
    local: Local, headers: Mapping[str, str], method: str = "POST"
) -> tuple[int, Mapping[str, str]]:
    url = local.url(BERT)
    async with local.http.request(method, url, headers=headers, json={"text": "good"}) as response:
        await response.read()
        return response.status, response.headers


@pytest.mark.parametrize("cors", [[], [PAGE], ["https://app.example", PAGE]])
@pytest.mark.parametrize("method", ["POST", "OPTIONS"])
async def test_only_the_named_origins_are_let_in(cors: list[str], method: str) -> None:
    async with running(cors=cors) as local:
        status, headers = await send(local, {"Origin": PAGE, **PREFLIGHT}, method)
        if PAGE not in cors:
            assert status == 403
            assert "Access-Control-Allow-Origin" not in headers
        else:
            assert status == (200 if method == "POST" else 204)
            assert headers["Access-Control-Allow-Origin"] == PAGE
            assert headers["Vary"] == "Origin"
        if status == 204:
            assert headers["Access-Control-Allow-Headers"] == "authorization,content-type"
            assert headers["Access-Control-Allow-Private-Network"] == "true"
            assert headers["Access-Control-Allow-Methods"] == "GET, POST, OPTIONS"
            assert headers["Access-Control-Max-Age"] == "600"
        elif status == 200:
            assert headers["Access-Control-Expose-Headers"] == "*"
            assert "Access-Control-Max-Age" not in headers


@pytest.mark.parametrize(
    "origin",
    ["null", "http://evil.example", "http://localhost:5174", "https://localhost:5173", PAGE + "0"],
)
async def test_other_origins_are_refused(origin: str) -> None:
    async with running(cors=[PAGE]) as local:
        for method in ("POST", "OPTIONS"):
            status, headers = await send(local, {"Origin": origin, **PREFLIGHT}, method)
            assert status == 403
            assert "Access-Control-Allow-Origin" not in headers
        reply = await local.post(BERT, b"{}", headers={"Origin": origin})
        assert reply.error[:2] == (403, 10000)


async def test_an_error_can_be_read_by_the_page() -> None:
    async with running(cors=[PAGE]) as local:
        async with local.open(LLAMA, {}, headers={"Origin": PAGE}) as response:
            assert response.status == 400
            assert response.headers["Access-Control-Allow-Origin"] == PAGE
        async with local.open(
            LLAMA, {"prompt": "Hi", "max_tokens": 2, "stream": True}, headers={"Origin": PAGE}
        ) as response:
            assert response.headers["Access-Control-Allow-Origin"] == PAGE


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:80",
        "127.0.0.1.evil.example",
        "169.254.169.254",
        "[",
        "0.0.0.0",  # noqa: S104  # it is refused
    ],
)
@pytest.mark.parametrize("cors", [[], [PAGE]])
async def test_a_name_that_was_bound_to_this_machine_is_refused(host: str, cors: list[str]) -> None:
    """DNS rebinding: the page's own origin, with a host that is not a name of this machine."""
    async with running(cors=cors) as local:
        address, _, port = local.server.base_url.split("/")[2].partition(":")
        reader, writer = await asyncio.open_connection(address, int(port))
        writer.write(f"GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        first, *_ = (await reader.read()).splitlines()
        writer.close()
    assert first.split()[1] in (b"403", b"400")


@pytest.mark.parametrize(
    "origin",
    ["*", "null", "localhost:5173", "http://localhost:5173/", "http://a@b", "ftp://x", "https://"],
)
def test_what_is_no_origin_is_named(origin: str) -> None:
    with pytest.raises(ConfigError, match="cors must be an origin, such as"):
        Server(cors=[origin])
