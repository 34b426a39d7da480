"""The official cloudflare package gets from our local server what our client gets there."""

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

pytestmark = pytest.mark.skipif(find_spec("cloudflare") is None, reason="only where the peers are")

ACCOUNT = "a"
MISTRAL = "@cf/mistral/mistral-7b-instruct-v0.2-lora"
CONFIG = b'{"r": 8, "model_type": "mistral"}'
ID = b"182bd5e5-6e1a-4fe4-a799-aa6d9a6ab26e"
PAGE = b"<h1>Tea</h1><p>Hot.</p>"


@asynccontextmanager
async def both() -> AsyncIterator[tuple[WorkersAI, Any, Server]]:
    """Our client, theirs, and the server that both of them ask."""
    from cloudflare import AsyncCloudflare

    async with Server() as server:
        told: dict[str, Any] = {**server.credentials, "account_id": ACCOUNT}
        theirs = AsyncCloudflare(
            api_token=told["api_token"], base_url=told["base_url"], max_retries=0
        )
        async with WorkersAI(**told) as ours, theirs:
            yield ours, theirs, server


def same(one: Any, other: Any, *names: str) -> None:
    """What both read of a row is equal."""
    assert {name: getattr(one, name) for name in names} == {
        name: getattr(other, name) for name in names
    }


async def test_the_same_goes_out(fake: FakeWorkersAI, tmp_path: Path) -> None:
    """Method, path, query, JSON and the fields of a form are the same of either client."""
    from cloudflare import AsyncCloudflare

    path = tmp_path / "adapter_config.json"
    path.write_bytes(CONFIG)
    fake.always.says(b'{"success": true, "result": {"id": "%s", "model": "m", "name": "n"}}' % ID)
    client = AsyncCloudflare(api_token="t", base_url=fake.base_url, max_retries=0)
    async with fake.client(account_id=ACCOUNT) as ours, client as theirs:
        there: Any = theirs.ai.finetunes
        await ours.finetunes.create("m", "n", description="d", public=False)
        await there.create(account_id=ACCOUNT, model="m", name="n", description="d", public=False)
        await ours.finetunes.create("m", "n")
        await there.create(account_id=ACCOUNT, model="m", name="n")
        await ours.finetunes.list().to_list()
        await there.list(account_id=ACCOUNT)
        await ours.finetunes.upload("n", path)
        await there.assets.create("n", account_id=ACCOUNT, file_name=path.name, file=path)
    pairs = list(zip(fake.requests[::2], fake.requests[1::2], strict=True))
    for one, other in pairs:
        assert (one.method, one.target) == (other.method, other.target)
        assert sent(one) == sent(other)
    assert [one.method for one, _ in pairs] == ["POST", "POST", "GET", "POST"]


def sent(request: Recorded) -> Any:
    """A body without what either client may write as it likes: the order, boundaries and types."""
    kind = request.headers.get("Content-Type", "")
    if not kind.startswith("multipart/"):
        return request.json() if request.body else None
    read = BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + request.body)
    parts: Any = read.get_payload()
    return [
        (part.get_param("name", header="content-disposition"), part.get_payload(decode=True))
        for part in parts
    ]


ROW = ("id", "model", "name", "description", "created_at", "modified_at")


async def test_made_by_either_listed_by_both() -> None:
    """Typed as one object, theirs still reads the list that it gets: row by row what ours reads."""
    async with both() as (ours, theirs, _):
        first = await theirs.ai.finetunes.create(
            account_id=ACCOUNT, model=MISTRAL, name="a", description="d", public=True
        )
        second = await ours.finetunes.create(MISTRAL, "b")

        mine = await ours.finetunes.list().to_list()
        listed: Any = await theirs.ai.finetunes.list(account_id=ACCOUNT)
        assert [row.id for row in mine] == [first.id, second.id]
        for row, read in zip(mine, listed, strict=True):
            same(row, read, *ROW)
        (shown,) = await ours.finetunes.public().to_list()
        same(shown, first, *ROW, "public")


async def test_public_ones_page_by_page() -> None:
    """The same order, limit and offset; theirs gives one page, ours goes on by itself."""
    async with both() as (ours, theirs, _):
        for name in ("c", "a", "b"):
            await ours.finetunes.create(MISTRAL, name, public=True)
        page = await theirs.ai.finetunes.public.list(
            account_id=ACCOUNT, limit=2, offset=1, order_by="name"
        )
        mine = ours.finetunes.public(limit=2, offset=1, order_by="name")
        for row, read in zip(await mine.to_list(), page.result, strict=True):
            same(row, read, *ROW, "public")

        # It counts a list without pages as a single page: what lies behind it is never asked for.
        start = theirs.ai.finetunes.public.list(account_id=ACCOUNT, limit=2, order_by="name")
        assert [row.name async for row in start] == ["a", "b"]
        every = await ours.finetunes.public(limit=2, order_by="name").to_list()
        assert [row.name for row in every] == ["a", "b", "c"]


async def test_an_asset_of_either(tmp_path: Path) -> None:
    """The same form goes out, whoever sends it; what the server says of it, theirs doesn't read."""
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


async def test_an_asset_of_nobody() -> None:
    """Both say that there is no such fine-tune."""
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
    """The same models in the same order; theirs are plain mappings, and ours have them in `raw`."""
    async with both() as (ours, theirs, server):
        query: dict[str, Any] = {"search": "llama", "task": "Text Generation"}
        mine = await ours.models.search(**query, page_size=7).to_list()
        asked = len(server.requests)
        listed = theirs.ai.models.list(account_id=ACCOUNT, **query, per_page=7)
        assert [row async for row in listed] == [row.raw for row in mine]
        assert len(mine) > 7
        # Ours sees by a short page that it is the last; theirs asks until a page is empty.
        pages = -(-len(mine) // 7)
        assert asked <= len(server.requests) - asked == pages + 1

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


async def test_their_markdown_never_leaves_the_process() -> None:
    """In 5.9.0 `transform` fails before anything is sent; sent by hand, its answer is ours."""
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


async def test_their_model_names_lose_their_slashes() -> None:
    """In 5.9.0 `run` sends them as %2F, for which there is no route; ours arrives."""
    from cloudflare import APIStatusError

    async with both() as (ours, theirs, _):
        model = "@cf/huggingface/distilbert-sst-2-int8"
        with pytest.raises(APIStatusError) as caught:
            await theirs.ai.run(model, account_id=ACCOUNT, text="Fine.")
        assert caught.value.status_code in (400, 404)
        answer = await ours.run(model, {"text": "Fine."})
        assert answer.raw
