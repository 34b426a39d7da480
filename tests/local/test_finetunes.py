"""Fine-tunes over HTTP: created, uploaded, listed, stored, and used in runs."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

from cfai import BadRequest, ConfigError, NotFound, UploadInterrupted, WorkersAI
from cfai.local import Server
from cfai.profiles import TASKS, profile

from .adapters import CONFIG, GOOD_CONFIG, WEIGHTS, adapter, cut, form, head, weights
from .conftest import LLAMA, Local, Reply, client, running

MISTRAL = "@cf/mistral/mistral-7b-instruct-v0.2-lora"
FORM = {"Content-Type": "multipart/form-data; boundary=cut"}


async def send_request(local: Local, method: str, path: str, **options: Any) -> Reply:
    url = f"{local.server.base_url}/accounts/0/ai/{path}"
    async with local.http.request(method, url, **options) as response:
        return Reply(response.status, response.headers, await response.read())


async def create(local: Local, **fields: Any) -> Reply:
    body = orjson.dumps({"model": MISTRAL, "name": "pirate", **fields})
    return await send_request(local, "POST", "finetunes", data=body)


async def send_form(local: Local, *fields: tuple[str, bytes], to: str = "pirate") -> Reply:
    path = f"finetunes/{to}/finetune-assets"
    return await send_request(local, "POST", path, data=BytesIO(form(*fields)), headers=FORM)


async def send_file(local: Local, name: str, content: bytes) -> Reply:
    return await send_form(local, ("file_name", name.encode()), ("file", content))


def stored_files(folder: Path) -> list[Path]:
    return sorted((folder / "files").iterdir())


# Creating and listing


async def test_a_fine_tune_is_created_and_listed_as_documented(local: Local) -> None:
    created = (await create(local, description="Arr", public=True)).result
    assert set(created) == {
        "id", "created_at", "model", "modified_at", "name", "public", "description",
    }  # fmt: skip
    assert str(UUID(created["id"])) == created["id"]
    (own,) = (await send_request(local, "GET", "finetunes")).result
    assert own == {name: created[name] for name in created if name != "public"}
    assert (await send_request(local, "GET", "finetunes/public")).result == [created]


async def test_an_account_sees_its_own_and_public_fine_tunes() -> None:
    async with Server() as server:
        mine = client(server)
        theirs = client(server, "other")
        async with mine, theirs:
            await mine.finetunes.create(MISTRAL, "private")
            public = await mine.finetunes.create(MISTRAL, "public", public=True)
            assert [finetune.name for finetune in await mine.finetunes.list().to_list()] == [
                "private",
                "public",
            ]
            assert await theirs.finetunes.list().to_list() == []
            assert await theirs.finetunes.public().to_list() == [public]
            with pytest.raises(NotFound):
                await theirs.finetunes.upload(public, GOOD_CONFIG, file_name=CONFIG)


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"name": None}, 400, "required properties at '/' are 'name'"),
        ({"name": ""}, 400, "name must be text, got ''"),
        ({"name": 5}, 400, "name must be text, got 5"),
        ({"model": "@cf/no/such"}, 400, "No such model @cf/no/such"),
        ({"model": "@cf/baai/bge-base-en-v1.5"}, 400, "No such model"),
        ({"public": "yes"}, 400, "public must be true or false, got 'yes'"),
        ({"description": 1}, 400, "description must be text, got 1"),
    ],
)
async def test_an_invalid_field_is_named_in_the_error(
    local: Local, fields: dict[str, Any], status: int, message: str
) -> None:
    reply = await create(local, **fields)
    assert reply.error[0] == status
    assert message in reply.error[2]
    assert (await send_request(local, "GET", "finetunes")).result == []


async def test_an_unknown_field_is_refused(local: Local) -> None:
    body = {"model": MISTRAL, "name": "x", "foo": 1}
    url = f"{local.server.base_url}/accounts/0/ai/finetunes"
    async with local.http.post(url, json=body) as response:
        document = await response.json()
    assert response.status == 400
    assert document["errors"] == [{"code": 90003, "message": "unknown field 'foo'"}]


async def test_fine_tunes_of_retired_models_are_refused(local: Local) -> None:
    """As runs of them are."""
    profiles = [profile(model) for model in TASKS]
    retired = [each for each in profiles if each.task == "Text Generation" and each.retired]
    assert len(retired) > 20
    for each in retired:
        reply = await create(local, model=each.model)
        assert reply.error[:2] == (410, 5028)
        assert f"deprecated on {each.retired}" in reply.error[2]
    assert (await send_request(local, "GET", "finetunes")).result == []


async def test_names_are_unique_in_an_account(local: Local) -> None:
    assert (await create(local)).status == 200
    assert (await create(local)).error == (400, 90003, "a finetune 'pirate' already exists")


async def test_an_account_can_have_at_most_30_fine_tunes() -> None:
    async with Server() as server, client(server) as ai:
        for number in range(30):
            await ai.finetunes.create(MISTRAL, f"number {number}")
        with pytest.raises(BadRequest, match="at most 30"):
            await ai.finetunes.create(MISTRAL, "one more")


@pytest.mark.parametrize(("method", "path"), [("PUT", "finetunes"), ("POST", "finetunes/public")])
async def test_other_methods_are_refused(local: Local, method: str, path: str) -> None:
    assert (await send_request(local, method, path)).error[:2] == (405, 7001)


@pytest.mark.parametrize("path", ["finetunes/a/b", "finetunes//finetune-assets"])
async def test_other_paths_are_not_routed(local: Local, path: str) -> None:
    assert (await send_request(local, "POST", path)).error[:2] == (404, 7003)


async def test_lists_require_credentials(local: Local) -> None:
    reply = await send_request(local, "GET", "finetunes", headers={"Authorization": ""})
    assert reply.error[:2] == (401, 10000)


# Paging


@pytest.mark.parametrize("count", [0, 1, 49, 50, 51, 1000])
async def test_every_public_fine_tune_is_listed_once(count: int) -> None:
    async with Server() as server:
        names = await _public(server, count)
        async with client(server) as ai:
            for limit in (1, 50, 1000):
                before = len(server.requests)
                rows = await ai.finetunes.public(limit=limit, order_by="name").to_list()
                assert [row.name for row in rows] == sorted(names)
                needed = max(1, -(-count // limit))
                assert len(server.requests) - before <= needed + 1
            assert [row.name for row in await ai.finetunes.public().to_list()] == names
            assert len(await ai.finetunes.public(limit=7, offset=45).to_list()) == max(
                0, count - 45
            )


async def _public(server: Server, count: int) -> list[str]:
    """Create public fine-tunes, 30 per account, and return their names in order."""
    names = [f"{number * 7919 % 1009:04}" for number in range(count)]
    for start in range(0, count, 30):
        async with client(server, f"account-{start}") as ai:
            for name in names[start : start + 30]:
                await ai.finetunes.create(MISTRAL, name, public=True)
    return names


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=-1", "limit=x", "limit=1.5", "offset=-1", "limit=" + "9" * 30,
     "orderBy=account", "orderBy=name;drop", "orderBy="],
)  # fmt: skip
async def test_an_invalid_page_is_named_in_the_error(local: Local, query: str) -> None:
    status, code, message = (await send_request(local, "GET", f"finetunes/public?{query}")).error
    assert (status, code) == (400, 90003)
    assert query.partition("=")[0] in message


# Files


async def test_an_uploaded_adapter_runs_by_name_and_by_id(tmp_path: Path) -> None:
    async with (
        running(folder=tmp_path / "store") as local,
        client(local.server) as ai,
    ):
        finetune = await ai.finetunes.create(MISTRAL, "my-pirate")
        both = await ai.finetunes.upload_adapter("my-pirate", adapter(tmp_path / "out"))
        assert [asset.file_name for asset in both] == [WEIGHTS, CONFIG]
        assert {asset.finetune_id for asset in both} == {finetune.id}
        (again,) = await ai.finetunes.list().to_list()
        assert again.modified_at
        assert finetune.modified_at
        assert again.modified_at >= finetune.modified_at
        for lora in ("my-pirate", finetune.id):
            body = {"prompt": "Hello", "max_tokens": 3, "raw": True, "lora": lora}
            for streams in (False, True):
                reply = await local.post(MISTRAL, {**body, "stream": streams})
                assert reply.status == 200
                assert reply.headers["cfai-lora"] == "stored-not-applied"
        assert len(stored_files(tmp_path / "store")) == 2


async def test_a_run_without_lora_has_no_lora_header(local: Local) -> None:
    reply = await local.post(LLAMA, {"prompt": "Hello", "max_tokens": 2})
    assert "cfai-lora" not in reply.headers


async def test_unknown_and_incomplete_fine_tunes_are_refused(local: Local) -> None:
    body = {"prompt": "Hello", "lora": "pirate"}
    assert (await local.post(MISTRAL, body)).error[:2] == (400, 3037)
    await create(local)
    assert (await local.post(MISTRAL, body)).error[:2] == (400, 3039)
    assert (await send_file(local, WEIGHTS, weights())).status == 200
    assert (await local.post(MISTRAL, body)).error[:2] == (400, 3039)
    assert (await send_file(local, CONFIG, GOOD_CONFIG)).status == 200
    assert (await local.post(MISTRAL, {**body, "max_tokens": 2})).status == 200


async def test_the_response_to_an_upload_has_the_documented_fields(local: Local) -> None:
    finetune = (await create(local)).result
    result = (await send_file(local, CONFIG, GOOD_CONFIG)).result
    assert set(result) == {
        "id", "finetune_id", "file_name", "bucket_name", "created_at", "modified_at",
    }  # fmt: skip
    assert result["finetune_id"] == finetune["id"]


BAD_FILES = [
    ("adapter.bin", b"x", "file_name must be"),
    ("../adapter_config.json", GOOD_CONFIG, "file_name must be"),
    (CONFIG, b"", "must be a JSON object"),
    (CONFIG, b"[]", "must be a JSON object"),
    (CONFIG, b'{"model_type":"mistral"}', "r must be from 1 to 32, got None"),
    (CONFIG, b'{"r":33,"model_type":"mistral"}', "r must be from 1 to 32, got 33"),
    (CONFIG, b'{"r":0,"model_type":"mistral"}', "r must be from 1 to 32, got 0"),
    (CONFIG, b'{"r":true,"model_type":"mistral"}', "r must be from 1 to 32, got True"),
    (CONFIG, b'{"r":8}', "model_type must be one of"),
    (CONFIG, GOOD_CONFIG.ljust((1 << 20) + 1), "at most 1048576 bytes, got 1048577"),
    (CONFIG, b'{"r":8.0,"model_type":"mistral"}', "r must be from 1 to 32, got 8.0"),
    (CONFIG, b'{"r":8,"model_type":"phi"}', "one of mistral, gemma, llama, got 'phi'"),
    (WEIGHTS, (1).to_bytes(8, "little") + b"{}", "with a valid header"),
    (WEIGHTS, (3).to_bytes(8, "little") + b"{}", "with a valid header"),
    *(
        (
            WEIGHTS,
            len(header).to_bytes(8, "little") + header + bytes(64),
            "the tensor 'a' has no valid data_offsets",
        )
        for header in (
            b'{"a":{"dtype":5,"shape":[64],"data_offsets":[0,64]}}',
            b'{"a":{"dtype":"U8","shape":[-64],"data_offsets":[0,64]}}',
            b'{"a":{"dtype":"U8","shape":[64.0],"data_offsets":[0,64]}}',
            b'{"a":{"dtype":"U8","shape":[true],"data_offsets":[0,64]}}',
            b'{"a":{"dtype":"U8","shape":5,"data_offsets":[0,64]}}',
            b'{"a":{"dtype":"U8","shape":[64],"data_offsets":[64,0]}}',
            b'{"a":{"dtype":"U8","shape":[64],"data_offsets":[-1,64]}}',
            b'{"a":{"dtype":"U8","shape":[64],"data_offsets":[0,64,65]}}',
            b'{"a":{"dtype":"U8","shape":[64]}}',
        )
    ),
    (WEIGHTS, b"", "safetensors"),
    (WEIGHTS, weights()[:-1], "all of its tensors"),
    (WEIGHTS, weights() + b"x", "all of its tensors"),
    (WEIGHTS, (1 << 62).to_bytes(8, "little") + b"{}", "safetensors"),
    (WEIGHTS, (2).to_bytes(8, "little") + b"{}", "all of its tensors"),
    (WEIGHTS, (2).to_bytes(8, "little") + b"[]", "JSON object"),
    (WEIGHTS, (7).to_bytes(8, "little") + b'{"a":1}', "no valid data_offsets"),
    (WEIGHTS, weights().replace(b"[0,64]", b"[1,64]"), "must be contiguous"),
    (WEIGHTS, (5 << 20).to_bytes(8, "little") + b" " * (5 << 20), "with a valid header"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
async def test_an_invalid_file_is_named_in_the_error_and_deleted(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    async with running(folder=tmp_path) as local:
        await create(local)
        status, code, text = (await send_file(local, name, content)).error
        assert (status, code) == (400, 90003)
        assert message in text
        assert stored_files(tmp_path) == []


def tensors(*spans: tuple[int, int], size: int = 0) -> bytes:
    """A safetensors file of these tensors, with a header of *size* bytes."""
    entries = {
        f"t{number}": {"dtype": "U8", "shape": [stop - start], "data_offsets": [start, stop]}
        for number, (start, stop) in enumerate(spans)
    }
    header = orjson.dumps(entries).ljust(size)
    return len(header).to_bytes(8, "little") + header + bytes(max(stop for _, stop in spans))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (CONFIG, b'{"r":1,"model_type":"gemma"}'),
        (CONFIG, b'{"r":32,"model_type":"llama"}'),
        (CONFIG, GOOD_CONFIG.ljust(1 << 20)),
        (WEIGHTS, tensors((0, 0), (0, 8))),
        (WEIGHTS, tensors((4, 8), (0, 4))),
        (WEIGHTS, tensors((0, 8), size=4 << 20)),
    ],
)
async def test_files_up_to_the_bounds_are_stored(tmp_path: Path, name: str, content: bytes) -> None:
    async with running(folder=tmp_path) as local:
        await create(local)
        asset = (await send_file(local, name, content)).result
        (path,) = stored_files(tmp_path)
        assert (path.name, path.read_bytes()) == (asset["id"], content)
        assert asset["file_name"] == name
        assert asset["bucket_name"] == "cfai-local"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", asset["created_at"])
        (finetune,) = (await send_request(local, "GET", "finetunes")).result
        assert finetune["modified_at"] == asset["modified_at"] == asset["created_at"]


@pytest.mark.parametrize("spans", [((0, 4), (5, 8)), ((0, 5), (4, 8)), ((1, 8),)])
async def test_tensors_with_gaps_or_overlaps_are_refused(local: Local, spans: Any) -> None:
    await create(local)
    reply = await send_file(local, WEIGHTS, tensors(*spans))
    assert "the tensors must be contiguous" in reply.error[2]
    reply = await send_file(local, WEIGHTS, tensors((0, 8), size=(4 << 20) + 1))
    assert "with a valid header" in reply.error[2]


async def test_own_fine_tunes_count_more_than_public_ones(local: Local) -> None:
    """And an id more than a name; each account has its own names."""
    async with client(local.server, "other") as theirs:
        shared = await theirs.finetunes.create(MISTRAL, "pirate", public=True)
        await theirs.finetunes.create(MISTRAL, "hidden")
        body = {"prompt": "Hello", "max_tokens": 1}
        assert (await local.post(MISTRAL, {**body, "lora": "hidden"})).error[1] == 3037
        for lora in ("pirate", shared.id):
            assert (await local.post(MISTRAL, {**body, "lora": lora})).error[1] == 3039
        await theirs.finetunes.upload("pirate", weights(), file_name=WEIGHTS)
        await theirs.finetunes.upload("pirate", GOOD_CONFIG, file_name=CONFIG)
        assert (await local.post(MISTRAL, {**body, "lora": "pirate"})).status == 200
        # From here on there is one of their own, without files.
        await create(local)
        assert (await local.post(MISTRAL, {**body, "lora": "pirate"})).error[1] == 3039
        assert (await local.post(MISTRAL, {**body, "lora": shared.id})).status == 200


async def test_an_announced_upload_may_be_a_form_around_the_largest_file(local: Local) -> None:
    """500 MiB and 64 KiB. What is refused then is the file's name."""
    await create(local)
    form_ = b'--cut\r\nContent-Disposition: form-data; name="file_name"\r\n\r\nx\r\n--cut\r\n'
    for size, status in (((500 << 20) + (64 << 10), 400), ((500 << 20) + (64 << 10) + 1, 413)):
        host, _, port = local.server.base_url.split("/")[2].partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            "POST /client/v4/accounts/0/ai/finetunes/pirate/finetune-assets HTTP/1.1\r\n"
            f"Host: {host}:{port}\r\nAuthorization: Bearer any\r\nContent-Length: {size}\r\n"
            f"Content-Type: {FORM['Content-Type']}\r\n\r\n".encode()
        )
        writer.write(form_ + bytes(1 << 17))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status} ".encode())
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    "fields",
    [
        (),
        (("file_name", CONFIG.encode()),),
        (("file", GOOD_CONFIG),),
        (("file_name", CONFIG.encode()), ("file", GOOD_CONFIG), ("file", GOOD_CONFIG)),
        (("file_name", CONFIG.encode()), ("other", b"x"), ("file", GOOD_CONFIG)),
        (("file_name", b"x" * 2000), ("file", GOOD_CONFIG)),
    ],
)
async def test_a_form_with_wrong_fields_is_refused(
    tmp_path: Path, fields: tuple[tuple[str, bytes], ...]
) -> None:
    async with running(folder=tmp_path) as local:
        await create(local)
        assert (await send_form(local, *fields)).error[:2] == (400, 90003)
        assert stored_files(tmp_path) == []


async def test_the_fields_can_be_in_any_order(local: Local) -> None:
    await create(local)
    reply = await send_form(local, ("file", GOOD_CONFIG), ("file_name", CONFIG.encode()))
    assert reply.status == 200


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", FORM["Content-Type"]),
        (b"no form", FORM["Content-Type"]),
        (form(("file_name", CONFIG.encode()), ("file", GOOD_CONFIG))[:-12], FORM["Content-Type"]),
        (b"--cut\r\n", FORM["Content-Type"]),
        (b"{}", "application/json"),
        (b"x", "multipart/form-data"),
    ],
)
async def test_a_malformed_form_is_refused(tmp_path: Path, body: bytes, kind: str) -> None:
    async with running(folder=tmp_path) as local:
        await create(local)
        path = "finetunes/pirate/finetune-assets"
        reply = await send_request(local, "POST", path, data=body, headers={"Content-Type": kind})
        assert reply.error[:2] == (400, 90003)
        assert stored_files(tmp_path) == []


async def test_a_file_needs_an_existing_fine_tune(local: Local) -> None:
    reply = await send_form(
        local, ("file_name", CONFIG.encode()), ("file", GOOD_CONFIG), to="nobody"
    )
    assert reply.error == (404, 90003, "Finetune nobody not found")


async def test_files_cannot_be_replaced(local: Local) -> None:
    await create(local)
    assert (await send_file(local, CONFIG, GOOD_CONFIG)).status == 200
    assert "files cannot be replaced" in (await send_file(local, CONFIG, GOOD_CONFIG)).error[2]


async def test_of_concurrent_uploads_of_a_file_one_is_stored(tmp_path: Path) -> None:
    async with running(folder=tmp_path) as local:
        await create(local)
        replies = await asyncio.gather(*(send_file(local, WEIGHTS, weights()) for _ in range(8)))
        assert sorted(reply.status for reply in replies) == [200] + [400] * 7
        assert len(stored_files(tmp_path)) == 1


async def test_a_file_announced_as_too_large_is_not_read(local: Local) -> None:
    await create(local)
    with pytest.raises(asyncio.IncompleteReadError):
        await _expect_early_refusal(local, 502 << 20)


async def _expect_early_refusal(local: Local, size: int) -> None:
    authority = local.server.base_url.split("/")[2]
    host, _, port = authority.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        "POST /client/v4/accounts/0/ai/finetunes/pirate/finetune-assets HTTP/1.1\r\n"
        f"Host: {authority}\r\nAuthorization: Bearer any\r\nContent-Length: {size}\r\n"
        f"Content-Type: {FORM['Content-Type']}\r\n\r\n".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    writer.write_eof()
    try:
        await reader.readexactly(1 << 20)
    finally:
        writer.close()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 0.999])
async def test_a_lost_connection_leaves_no_file(tmp_path: Path, share: float) -> None:
    async with running(folder=tmp_path) as local:
        await create(local)
        await local.done()
        body = form(("file_name", WEIGHTS.encode()), ("file", weights(3 << 20)))
        path = "/client/v4/accounts/0/ai/finetunes/pirate/finetune-assets"
        await cut(local.server.base_url, path, body, after=int(len(body) * share))
        await local.done()
        assert stored_files(tmp_path) == []
        assert (await send_file(local, WEIGHTS, weights())).status == 200


async def test_an_upload_interrupted_at_60_percent_is_an_error_and_leaves_no_file(
    tmp_path: Path,
) -> None:
    """The client reports how much was sent; the server deletes the incomplete file."""
    size = 40 << 20
    async with running(folder=tmp_path / "store") as local:
        await create(local)
        await local.done()
        async with _cutting_proxy(local.server.base_url, after=size * 6 // 10) as base_url:
            credentials: dict[str, Any] = {**local.server.credentials, "account_id": "0"}
            async with WorkersAI(**{**credentials, "base_url": base_url}) as ai:
                with pytest.raises(UploadInterrupted) as caught:
                    await ai.finetunes.upload("pirate", weights(size), file_name=WEIGHTS)
        await local.done()
        assert size * 6 // 10 <= caught.value.sent < size < caught.value.size
        assert stored_files(tmp_path / "store") == []
        assert (await send_file(local, WEIGHTS, weights())).status == 200


@asynccontextmanager
async def _cutting_proxy(base_url: str, *, after: int) -> AsyncIterator[str]:
    """Run a proxy that aborts the connection after so many bytes of the request."""
    authority = base_url.split("/")[2]
    host, _, port = authority.partition(":")

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, onward = await asyncio.open_connection(host, int(port))
        left = after
        while left > 0 and (piece := await reader.read(min(left, 1 << 16))):
            left -= len(piece)
            onward.write(piece)
            await onward.drain()
        writer.transport.abort()
        onward.transport.abort()

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/client/v4"


# Persistence


async def test_a_named_folder_is_persistent(tmp_path: Path) -> None:
    async with running(folder=str(tmp_path)) as local:
        await create(local)
        await send_file(local, CONFIG, GOOD_CONFIG)
        await send_file(local, WEIGHTS, weights())
        (before,) = (await send_request(local, "GET", "finetunes")).result
    async with running(folder=tmp_path) as local:
        assert (await send_request(local, "GET", "finetunes")).result == [before]
        body = {"prompt": "Hello", "max_tokens": 2, "lora": before["id"]}
        assert (await local.post(MISTRAL, body)).status == 200


async def test_incomplete_files_are_deleted_and_nothing_else(tmp_path: Path) -> None:
    async with Server(tmp_path):
        pass
    ours = tmp_path / "files" / "182bd5e5-6e1a-4fe4-a799-aa6d9a6ab26e"
    for path in (ours, ours.with_name(f"{ours.name}.part"), ours.with_name("notes.txt")):
        path.write_bytes(b"x")
    async with Server(tmp_path):
        assert [path.name for path in stored_files(tmp_path)] == ["notes.txt"]


async def test_a_folder_can_be_used_by_one_server_only(tmp_path: Path) -> None:
    async with Server(tmp_path):
        with pytest.raises(ConfigError, match="cannot be used"):
            await Server(tmp_path).__aenter__()
    async with Server(tmp_path):
        pass


async def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="cannot be used"):
        await Server(tmp_path / "file").__aenter__()


GROWTH = """
import asyncio, sys
from pathlib import Path
from cfai import WorkersAI
from cfai.local import Server
from cfai.profiles import TASKS, profile

def peak():
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if "VmHWM" in line).split()[1])

async def main(folder):
    async with Server(folder / "store") as server, WorkersAI(**server.credentials) as ai:
        await ai.finetunes.create("@cf/mistral/mistral-7b-instruct-v0.2-lora", "small")
        await ai.finetunes.upload_adapter("small", folder / "small")
        await ai.finetunes.create("@cf/mistral/mistral-7b-instruct-v0.2-lora", "large")
        before = peak()
        await ai.finetunes.upload_adapter("large", folder / "large")
        print(peak() - before)

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_memory_does_not_grow_with_the_file_size(tmp_path: Path) -> None:
    adapter(tmp_path / "small")
    adapter(tmp_path / "large", 500_000_000)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", GROWTH, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    assert int(output) < 20_000, "kilobytes, of client and server together"
    assert max(
        path.stat().st_size for path in stored_files(tmp_path / "store")
    ) == 500_000_000 + len(head(500_000_000))
