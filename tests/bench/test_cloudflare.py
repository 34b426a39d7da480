"""The official cloudflare package and cfai send and read the same, with our local server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.parser import BytesParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from cfai import NotFound, WorkersAI
from cfai.local import Server
from cfai.testing import FakeWorkersAI, Recorded

pytestmark = pytest.mark.skipif(
    find_spec("cloudflare") is None, reason="needs the package cloudflare"
)

ACCOUNT = "a"
MISTRAL = "@cf/mistral/mistral-7b-instruct-v0.2-lora"
CONFIG = b'{"r": 8, "model_type": "mistral"}'
ID = b"182bd5e5-6e1a-4fe4-a799-aa6d9a6ab26e"
PAGE = b"<h1>Tea</h1><p>Hot.</p>"


@asynccontextmanager
async def both() -> AsyncIterator[tuple[WorkersAI, Any, Server]]:
    """Our client, the official client, and the server of both."""
    from cloudflare import AsyncCloudflare

    async with Server() as server:
        options: dict[str, Any] = {**server.credentials, "account_id": ACCOUNT}
        theirs = AsyncCloudflare(
            api_token=options["api_token"], base_url=options["base_url"], max_retries=0
        )
        async with WorkersAI(**options) as ours, theirs:
            yield ours, theirs, server


def assert_same(ours: Any, theirs: Any, *names: str) -> None:
    """The attributes of two rows are equal."""
    assert {name: getattr(ours, name) for name in names} == {
        name: getattr(theirs, name) for name in names
    }


async def test_both_send_the_same_requests(fake: FakeWorkersAI, tmp_path: Path) -> None:
    """Method, path, query, JSON and the form fields are equal."""
    from cloudflare import AsyncCloudflare

    path = tmp_path / "adapter_config.json"
    path.write_bytes(CONFIG)
    fake.always.says(b'{"success": true, "result": {"id": "%s", "model": "m", "name": "n"}}' % ID)
    client = AsyncCloudflare(api_token="t", base_url=fake.base_url, max_retries=0)
    async with fake.client(account_id=ACCOUNT) as ours, client as theirs:
        their_finetunes: Any = theirs.ai.finetunes
        await ours.finetunes.create("m", "n", description="d", public=False)
        await their_finetunes.create(
            account_id=ACCOUNT, model="m", name="n", description="d", public=False
        )
        await ours.finetunes.create("m", "n")
        await their_finetunes.create(account_id=ACCOUNT, model="m", name="n")
        await ours.finetunes.list().to_list()
        await their_finetunes.list(account_id=ACCOUNT)
        await ours.finetunes.upload("n", path)
        await their_finetunes.assets.create("n", account_id=ACCOUNT, file_name=path.name, file=path)
    pairs = list(zip(fake.requests[::2], fake.requests[1::2], strict=True))
    for mine, other in pairs:
        assert (mine.method, mine.target) == (other.method, other.target)
        assert content(mine) == content(other)
    assert [mine.method for mine, _ in pairs] == ["POST", "POST", "GET", "POST"]


def content(request: Recorded) -> Any:
    """The content of a body, without order, boundaries and types, which clients may choose."""
    kind = request.headers.get("Content-Type", "")
    if not kind.startswith("multipart/"):
        return request.json() if request.body else None
    message = BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + request.body)
    parts: Any = message.get_payload()
    return [
        (part.get_param("name", header="content-disposition"), part.get_payload(decode=True))
        for part in parts
    ]


ROW = ("id", "model", "name", "description", "created_at", "modified_at")


async def test_both_list_what_either_created() -> None:
    """The official type is a single object, but it reads the same list, row by row."""
    async with both() as (ours, theirs, _):
        first = await theirs.ai.finetunes.create(
            account_id=ACCOUNT, model=MISTRAL, name="a", description="d", public=True
        )
        second = await ours.finetunes.create(MISTRAL, "b")

        mine = await ours.finetunes.list().to_list()
        listed: Any = await theirs.ai.finetunes.list(account_id=ACCOUNT)
        assert [row.id for row in mine] == [first.id, second.id]
        for row, read in zip(mine, listed, strict=True):
            assert_same(row, read, *ROW)
        (public,) = await ours.finetunes.public().to_list()
        assert_same(public, first, *ROW, "public")


async def test_public_finetunes_page_by_page() -> None:
    """The same order, limit and offset; the official client returns one page, ours continues."""
    async with both() as (ours, theirs, _):
        for name in ("c", "a", "b"):
            await ours.finetunes.create(MISTRAL, name, public=True)
        page = await theirs.ai.finetunes.public.list(
            account_id=ACCOUNT, limit=2, offset=1, order_by="name"
        )
        mine = ours.finetunes.public(limit=2, offset=1, order_by="name")
        for row, read in zip(await mine.to_list(), page.result, strict=True):
            assert_same(row, read, *ROW, "public")

        # It treats a list without page numbers as a single page and never requests the next.
        start = theirs.ai.finetunes.public.list(account_id=ACCOUNT, limit=2, order_by="name")
        assert [row.name async for row in start] == ["a", "b"]
        every = await ours.finetunes.public(limit=2, order_by="name").to_list()
        assert [row.name for row in every] == ["a", "b", "c"]


async def test_both_upload_an_asset(tmp_path: Path) -> None:
    """Both send the same form; the official client does not read the asset in the response."""
    path = tmp_path / "adapter_config.json"
    path.write_bytes(CONFIG)
    async with both() as (ours, theirs, server):
        for name in ("a", "b"):
            await ours.finetunes.create(MISTRAL, name)
        asset = await ours.finetunes.upload("a", path)
        read = await theirs.ai.finetunes.assets.create(
            "b", account_id=ACCOUNT, file_name=path.name, file=path
        )
        assert asset.file_name == path.name
        assert read.success
        assert [each.status for each in list(server.requests)[-2:]] == [200, 200]


async def test_an_asset_of_an_unknown_finetune() -> None:
    """Both raise their error for 404."""
    from cloudflare import NotFoundError

    async with both() as (ours, theirs, _):
        with pytest.raises(NotFound) as caught:
            await ours.finetunes.upload("none", CONFIG, file_name="adapter_config.json")
        with pytest.raises(NotFoundError) as theirs_caught:
            await theirs.ai.finetunes.assets.create(
                "none", account_id=ACCOUNT, file_name="adapter_config.json", file=CONFIG
            )
        assert caught.value.code == theirs_caught.value.errors[0].code


async def test_the_catalogue() -> None:
    """The same models in the same order; the official mappings are equal to our `raw`."""
    async with both() as (ours, theirs, server):
        query: dict[str, Any] = {"search": "llama", "task": "Text Generation"}
        mine = await ours.models.search(**query, page_size=7).to_list()
        our_requests = len(server.requests)
        listed = theirs.ai.models.list(account_id=ACCOUNT, **query, per_page=7)
        assert [row async for row in listed] == [row.raw for row in mine]
        assert len(mine) > 7
        # Our client stops at a short page; the official one requests pages until one is empty.
        pages = -(-len(mine) // 7)
        assert our_requests <= len(server.requests) - our_requests == pages + 1

        schema = await theirs.ai.models.schema.get(account_id=ACCOUNT, model=mine[0].name)
        assert schema.to_dict() == (await ours.models.schema(mine[0].name)).raw
        tasks = await theirs.ai.tasks.list(account_id=ACCOUNT)
        assert tasks.result == [row.raw for row in await ours.models.tasks().to_list()]
        authors = await theirs.ai.authors.list(account_id=ACCOUNT)
        assert authors.result == [row.raw for row in await ours.models.authors().to_list()]


async def test_the_formats_of_markdown() -> None:
    """The same extensions, in the same order."""
    async with both() as (ours, theirs, _):
        formats = await theirs.ai.to_markdown.supported(account_id=ACCOUNT)
        assert [(row.extension, row.mime_type) for row in formats.result] == [
            (row.extension, row.mime_type) for row in await ours.to_markdown_formats()
        ]


async def test_the_official_markdown_call_sends_nothing() -> None:
    """In 5.9.0, `transform` fails before it sends; sent by hand, the answer is equal to ours."""
    async with both() as (ours, theirs, server):
        with pytest.raises(TypeError, match="unexpected keyword argument 'files'"):
            await theirs.ai.to_markdown.transform(
                account_id=ACCOUNT, file={"files": [("tea.html", PAGE)]}
            )
        assert not server.requests

        reply = await theirs.post(
            f"/accounts/{ACCOUNT}/ai/tomarkdown",
            cast_to=object,
            body={},
            files=[("files", ("tea.html", PAGE))],
            options={"headers": {"Content-Type": "multipart/form-data"}},
        )
        (mine,) = await ours.to_markdown(("tea.html", PAGE))
        (row,) = reply["result"]
        assert (row["data"], row["name"], row["format"]) == (mine.text, mine.name, mine.format)


async def test_the_official_client_escapes_slashes_in_model_names() -> None:
    """In 5.9.0, `run` sends them as %2F, for which there is no route; our client does not."""
    from cloudflare import APIStatusError

    async with both() as (ours, theirs, _):
        model = "@cf/huggingface/distilbert-sst-2-int8"
        with pytest.raises(APIStatusError) as caught:
            await theirs.ai.run(model, account_id=ACCOUNT, text="Fine.")
        assert caught.value.status_code in (400, 404)
        answer = await ours.run(model, {"text": "Fine."})
        assert answer.raw
