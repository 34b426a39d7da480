"""Fine-tunes over a real socket: the documented bytes, and streamed uploads."""

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email import message_from_bytes, policy
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from cfai import Finetune, FinetuneAsset, TextGeneration, WorkersAI, user
from cfai.errors import (
    BadRequest,
    ConnectionLost,
    DecodeError,
    InputError,
    RateLimited,
    RequestTimeout,
    ServerError,
    UploadInterrupted,
)
from cfai.settings import Options, Retries, Timeouts
from cfai.testing import FakeWorkersAI, Recorded, Reply

# Workers AI API, "List Finetunes", "Create a new Finetune" and "List Public Finetunes".
ID = "182bd5e5-6e1a-4fe4-a799-aa6d9a6ab26e"
ROW = (
    b'{ "id": "182bd5e5-6e1a-4fe4-a799-aa6d9a6ab26e", "created_at": "2019-12-27T18:11:19.117Z",'
    b' "model": "model", "modified_at": "2019-12-27T18:11:19.117Z", "name": "name",'
)
LISTED = b'{ "result": ' + ROW + b' "description": "description" }, "success": true }'
CREATED = b"""{
  "result": {
    "id": "182bd5e5-6e1a-4fe4-a799-aa6d9a6ab26e",
    "created_at": "2019-12-27T18:11:19.117Z",
    "model": "model",
    "modified_at": "2019-12-27T18:11:19.117Z",
    "name": "name",
    "public": true,
    "description": "description"
  },
  "success": true
}"""
PUBLIC = b"""{
  "result": [
    {
      "id": "182bd5e5-6e1a-4fe4-a799-aa6d9a6ab26e",
      "created_at": "2019-12-27T18:11:19.117Z",
      "model": "model",
      "modified_at": "2019-12-27T18:11:19.117Z",
      "name": "name",
      "public": true,
      "description": "description"
    }
  ],
  "success": true
}"""
UPLOADED = b'{ "success": true }'

# Cloudflare docs, Workers AI, "Using LoRA adapters": a list in a list, and no dates.
NESTED = b"""{
  "success": true,
  "result": [
    [{
       "id": "00000000-0000-0000-0000-000000000",
       "model": "@cf/meta-llama/llama-2-7b-chat-hf-lora",
       "name": "llama2-finetune",
       "description": "test"
    },
    {
       "id": "00000000-0000-0000-0000-000000000",
       "model": "@cf/mistralai/mistral-7b-instruct-v0.2-lora",
       "name": "mistral-finetune",
       "description": "test"
    }]
  ]
}"""

MOMENT = datetime(2019, 12, 27, 18, 11, 19, 117000, tzinfo=UTC)
NEVER = Retries(max=0)
AT_ONCE = Retries(max=2, base=0)
MODEL = "@cf/mistral/mistral-7b-instruct-v0.2-lora"


def form_of(request: Recorded) -> list[tuple[str, str | None, str, bytes]]:
    """The parts of a form as Python's own reader sees them: name, file name, type, content."""
    kind = request.headers["Content-Type"].encode()
    message = message_from_bytes(
        b"Content-Type: " + kind + b"\r\n\r\n" + request.body, policy=policy.HTTP
    )
    parts = []
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        parts.append((str(name), part.get_filename(), part.get_content_type(), content))
    return parts


# Lists


async def test_list_reads_a_single_object(fake: FakeWorkersAI) -> None:
    """The documented response is one object instead of a list."""
    fake.says(LISTED)
    (row,) = await fake.client().finetunes.list().to_list()
    assert row == Finetune(
        ID, "model", "name", description="description", created_at=MOMENT, modified_at=MOMENT
    )
    assert row.created_at is not None
    assert row.created_at.utcoffset() is not None
    assert row.raw is not None
    assert row.raw["created_at"] == "2019-12-27T18:11:19.117Z"
    assert fake.requests[0].target == "/client/v4/accounts/account/ai/finetunes"
    assert len(fake.requests) == 1


async def test_list_reads_lists_and_nested_lists(fake: FakeWorkersAI) -> None:
    """Cloudflare's command line reads a list; the documentation shows a nested one."""
    fake.says(b'{"result":[' + ROW + b' "extra": 1}],"success":true}').says(NESTED)
    finetunes = fake.client().finetunes
    assert [row.name async for row in finetunes.list()] == ["name"]
    rows = await finetunes.list().to_list()
    assert [row.name for row in rows] == ["llama2-finetune", "mistral-finetune"]
    assert {row.created_at for row in rows} == {None}


@pytest.mark.parametrize("body", [b"[]", b"[[]]", b"{}", b"null"])
async def test_list_can_be_empty(fake: FakeWorkersAI, body: bytes) -> None:
    """An empty list may have any form."""
    fake.says(b'{"result":' + body + b',"success":true}')
    assert await fake.client().finetunes.list().to_list() == []


async def test_public_reads_the_documented_response(fake: FakeWorkersAI) -> None:
    """The documented example has every field."""
    fake.says(PUBLIC).answers([])
    assert await fake.client().finetunes.public().to_list() == [
        Finetune(
            ID,
            "model",
            "name",
            public=True,
            description="description",
            created_at=MOMENT,
            modified_at=MOMENT,
        )
    ]


# Making one


async def test_create(fake: FakeWorkersAI) -> None:
    """Omitted arguments are not sent; the documented response is read."""
    fake.says(CREATED).says(CREATED)
    finetunes = fake.client().finetunes
    finetune = await finetunes.create("model", "name")
    assert (finetune.id, finetune.public, finetune.created_at) == (ID, True, MOMENT)
    await finetunes.create("model", "name", description="d", public=False)
    assert [request.body for request in fake.requests] == [
        b'{"model":"model","name":"name"}',
        b'{"model":"model","name":"name","description":"d","public":false}',
    ]
    assert fake.requests[0].method == "POST"
    assert fake.requests[0].path == "/client/v4/accounts/account/ai/finetunes"
    assert fake.requests[0].headers["Content-Type"] == "application/json"


async def test_create_is_not_repeated(fake: FakeWorkersAI) -> None:
    """A failure after which the fine-tune may exist is not retried; a refusal is."""
    finetunes = fake.client(retries=AT_ONCE).finetunes
    fake.fails(500, 8005, "internal")
    with pytest.raises(ServerError):
        await finetunes.create("model", "name")
    fake.hangs_up()
    with pytest.raises(ConnectionLost):
        await finetunes.create("model", "name")
    assert len(fake.requests) == 2
    fake.fails(429, 971, "slow down", headers={"retry-after-ms": "1"}).says(CREATED)
    assert (await finetunes.create("model", "name")).id == ID


async def test_create_reports_errors(fake: FakeWorkersAI) -> None:
    """The documented 400 has a string where others have a list."""
    fake.says(b'{"errors":"name is taken","success":false}', status=400)
    with pytest.raises(BadRequest, match="name is taken"):
        await fake.client().finetunes.create("model", "name")
    for model, name in (("", "name"), ("model", ""), (None, "name")):
        with pytest.raises(InputError):
            await fake.client().finetunes.create(model, name)  # type: ignore[arg-type]  # None
    with pytest.raises(InputError, match="public must be True or False"):
        await fake.client().finetunes.create("model", "name", public="yes")  # type: ignore[arg-type]  # a text
    assert len(fake.requests) == 1


async def test_create_requires_a_uuid(fake: FakeWorkersAI) -> None:
    """The id is documented as a UUID."""
    fake.says(CREATED.replace(ID.encode(), b"none"))
    with pytest.raises(DecodeError, match=r"result\.id must be a UUID"):
        await fake.client().finetunes.create("model", "name")


# Uploading a file


async def test_upload(fake: FakeWorkersAI, tmp_path: Path) -> None:
    """One form with a known length: the name as a field, then the file."""
    path = tmp_path / "adapter_config.json"
    path.write_bytes(b'{"r": 8}')
    fake.says(UPLOADED)
    assert await fake.client().finetunes.upload(ID, path) == FinetuneAsset()
    (request,) = fake.requests
    assert request.path == f"/client/v4/accounts/account/ai/finetunes/{ID}/finetune-assets"
    assert form_of(request) == [
        ("file_name", None, "text/plain", b"adapter_config.json"),
        ("file", "adapter_config.json", "application/json", b'{"r": 8}'),
    ]
    assert request.headers["Content-Length"] == str(len(request.body))
    assert "Transfer-Encoding" not in request.headers
    assert request.headers["Content-Type"].startswith("multipart/form-data; boundary=cfai-")


async def test_upload_reads_the_details_of_a_file(fake: FakeWorkersAI) -> None:
    """The fields of the OpenAPI document."""
    fake.answers(
        {
            "id": ID,
            "finetune_id": "mine",
            "file_name": "a",
            "bucket_name": "b",
            "created_at": "2019-12-27T18:11:19.117Z",
            "modified_at": "2019-12-27T18:11:19.117Z",
        }
    )
    asset = await fake.client().finetunes.upload("mine", b"x", file_name="a")
    assert (asset.id, asset.finetune_id, asset.created_at) == (ID, "mine", MOMENT)


@pytest.mark.parametrize("details", [{"created_at": "bad"}, {"id": 5}])
async def test_upload_accepts_undocumented_details(fake: FakeWorkersAI, details: Any) -> None:
    """The file is uploaded and can't be sent again, so this is not an error."""
    fake.answers(details)
    asset = await fake.client().finetunes.upload("mine", b"x", file_name="a")
    assert (asset, asset.raw) == (FinetuneAsset(), details)


@pytest.mark.parametrize("size", [1, 2**18, 2**18 + 1, 3_000_000])
async def test_upload_takes_any_source(fake: FakeWorkersAI, tmp_path: Path, size: int) -> None:
    """A path, bytes, and an open file from its current position send the same file."""
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(data)
    fake.always.says(UPLOADED)
    upload = fake.client().finetunes.upload
    row = Finetune(ID, "model", "name")
    await upload(row, str(path))
    await upload(row, memoryview(data), file_name=path.name)
    with path.open("rb") as file:
        await upload(row, file)
        assert not file.closed
    behind = BytesIO(b"passed over" + data)
    behind.seek(11)
    await upload(row, behind, file_name=path.name)
    assert [form_of(request)[1][1] for request in fake.requests] == [path.name] * 4
    assert all(form_of(request)[1][3] == data for request in fake.requests)


async def test_upload_reports_progress(fake: FakeWorkersAI, tmp_path: Path) -> None:
    """It grows with each piece and ends at the total."""
    path = tmp_path / "file"
    path.write_bytes(bytes(1_000_000))
    fake.says(UPLOADED)
    calls: list[tuple[int, int]] = []
    await fake.client().finetunes.upload(
        ID, path, progress=lambda sent, size: calls.append((sent, size))
    )
    sent = [count for count, _ in calls]
    assert sent == sorted(set(sent))
    assert len(sent) > 4
    assert calls[-1] == (len(fake.requests[0].body), len(fake.requests[0].body))


async def test_an_exception_in_progress_ends_the_upload(fake: FakeWorkersAI) -> None:
    """It is raised unchanged, and nothing is sent again."""

    class Enough(Exception):
        pass

    def stop(sent: int, size: int) -> None:
        raise Enough

    fake.always.says(UPLOADED)
    with pytest.raises(Enough):
        await fake.client(retries=AT_ONCE).finetunes.upload(
            ID, bytes(10**6), file_name="a", progress=stop
        )
    assert not fake.requests
    assert fake.accepted == 1


async def test_a_refused_upload_is_retried(fake: FakeWorkersAI, tmp_path: Path) -> None:
    """From its start: a path is opened again, an open file is rewound."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    upload = fake.client(retries=AT_ONCE).finetunes.upload
    with path.open("rb") as file:
        file.seek(3)
        for source, data in ((path, b"0123456789"), (file, b"3456789")):
            fake.fails(429, 971, "slow down").says(UPLOADED)
            await upload(ID, source)
            assert [form_of(request)[1][3] for request in fake.requests[-2:]] == [data] * 2


@pytest.mark.parametrize("status", [500, 503, 408])
async def test_a_failed_upload_is_not_retried(fake: FakeWorkersAI, status: int) -> None:
    """The service may have stored the file, and it can't be replaced."""
    fake.fails(status, 8005, "internal")
    with pytest.raises(Exception, match="internal"):
        await fake.client(retries=AT_ONCE).finetunes.upload(ID, b"x", file_name="a")
    assert len(fake.requests) == 1


async def test_a_refusal_before_the_end_is_read(fake: FakeWorkersAI) -> None:
    """The service may refuse before it has read the file."""
    body = b'{"success":false,"errors":[{"code":3006,"message":"too large"}]}'
    head = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    fake.replies(Reply((body,), status=413, headers=head, framing="length", before_body=True))
    with pytest.raises(Exception, match=r"too large|bytes were sent"):
        await fake.client(retries=NEVER).finetunes.upload(ID, bytes(10**7), file_name="a")


@asynccontextmanager
async def server(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[WorkersAI]:
    """A client of a server made by hand."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}/client/v4"
        async with WorkersAI(
            account_id="a", api_token="t0ken", base_url=url, retries=AT_ONCE
        ) as ai:
            yield ai


async def test_a_lost_connection_interrupts_the_upload() -> None:
    """The error has the bytes that were sent, and the file is not sent again."""
    size, calls = 20_000_000, 0

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        await reader.readexactly(size * 6 // 10)
        writer.transport.abort()

    async with server(cut) as ai:
        with pytest.raises(UploadInterrupted, match=r"\d+ of \d+ bytes were sent") as caught:
            await ai.finetunes.upload(ID, bytes(size), file_name="a")
    # What the machine's own buffers held counts as gone.
    assert size * 5 // 10 < caught.value.sent < size
    assert caught.value.size > size
    assert calls == 1


async def test_a_stalled_upload_times_out() -> None:
    """`Timeouts.response` restarts with each piece; the error has the bytes sent."""
    over = asyncio.Event()

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1_000_000)
        await over.wait()

    async with server(stall) as ai:
        options = Options(timeouts=Timeouts(response=0.2))
        with pytest.raises(RequestTimeout) as caught:
            await ai.finetunes.upload(ID, bytes(50_000_000), file_name="a", options=options)
        over.set()
    assert caught.value.phase == "response"
    assert "of 50000" in caught.value.__notes__[0]


async def test_an_upload_ends_at_the_deadline() -> None:
    """`Timeouts.total` starts with the call, however much is sent."""
    over = asyncio.Event()

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1_000_000)
        await over.wait()

    async with server(stall) as ai:
        options = Options(timeouts=Timeouts(response=30, total=0.2))
        with pytest.raises(RequestTimeout) as caught:
            await ai.finetunes.upload(ID, bytes(50_000_000), file_name="a", options=options)
        over.set()
    assert caught.value.phase == "total"


async def test_an_upload_needs_little_memory(tmp_path: Path) -> None:
    """A large file is never in memory as a whole."""
    path = tmp_path / "adapter_model.safetensors"
    with path.open("wb") as file:
        file.truncate(500_000_000)
    got = 0

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while got < length:
            got += len(await reader.read(2**18))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: 19\r\n\r\n" + UPLOADED)
        await writer.drain()

    async with server(swallow) as ai:
        tracemalloc.start()
        try:
            await ai.finetunes.upload(ID, path)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert got > 500_000_000
    assert peak < 20 * 2**20


async def test_a_file_that_shrinks_during_the_upload(tmp_path: Path) -> None:
    """The error names it; half a file is not taken for a whole one."""
    path = tmp_path / "file"
    path.write_bytes(bytes(30_000_000))

    async def shrink(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(100_000)
        path.write_bytes(b"")
        while await reader.read(2**20):
            pass

    async with server(shrink) as ai:
        with pytest.raises(UploadInterrupted, match="shorter during the upload"):
            await ai.finetunes.upload(ID, path)


async def test_a_cancelled_upload_closes_everything(tmp_path: Path) -> None:
    """The connection closes, and so does the file."""
    path = tmp_path / "file"
    path.write_bytes(bytes(30_000_000))
    started, gone = asyncio.Event(), asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(100_000)
        started.set()
        try:
            while await reader.read(2**20):
                pass
        except ConnectionError:
            pass
        gone.set()

    async with server(wait) as ai:
        task = asyncio.create_task(ai.finetunes.upload(ID, path))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(10):
            await gone.wait()


class Pipe(BytesIO):
    """A file that can't go back."""

    def seekable(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("file", "name", "reason"),
    [
        ("nowhere", None, "nowhere: no such file"),
        (".", None, "not a file"),
        (b"", "a", "must not be empty"),
        (b"x", None, "must have a name"),
        (b"x", "", "must have a name"),
        (Pipe(b"x"), "a", "seekable"),
        (5, "a", "must be a path, bytes or an open binary file, got int"),
        ("a\0b", None, "a path that a file can have"),
    ],
)
async def test_invalid_files_are_refused(
    fake: FakeWorkersAI, file: Any, name: Any, reason: str
) -> None:
    """Nothing is sent."""
    with pytest.raises(InputError, match=reason):
        await fake.client().finetunes.upload(ID, file, file_name=name)
    assert not fake.requests


async def test_text_files_and_invalid_ids_are_refused(fake: FakeWorkersAI, tmp_path: Path) -> None:
    """An id is one path segment, and a file is opened in binary mode."""
    path = tmp_path / "file"
    path.write_text("x")
    with path.open() as text, pytest.raises(InputError, match="binary mode"):
        await fake.client().finetunes.upload(ID, text)  # type: ignore[arg-type]  # a text file
    for odd in ("", "..", "a/b", "a?b", "a b"):
        with pytest.raises(InputError, match="finetune"):
            await fake.client().finetunes.upload(odd, path)
    assert not fake.requests


# Uploading an adapter

CONFIG = {"r": 8, "model_type": "mistral", "target_modules": ["q_proj"]}


def safetensors(data: bytes = bytes(8), **entries: Any) -> bytes:
    tensor = {"dtype": "F16", "shape": [2, 2], "data_offsets": [0, 8]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "a": tensor, **entries}).encode()
    return len(header).to_bytes(8, "little") + header + data


def tensors(*entries: list[Any], size: int = 8) -> bytes:
    """Weights of *size* bytes, from the type, the shape and the offsets of each tensor."""
    names = ("dtype", "shape", "data_offsets")
    listed = {f"t{at}": dict(zip(names, it, strict=True)) for at, it in enumerate(entries)}
    header = json.dumps(listed).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size)


def adapter(folder: Path, config: object = CONFIG, weights: bytes | None = None) -> Path:
    text = config if isinstance(config, str) else json.dumps(config)
    (folder / "adapter_config.json").write_text(text)
    (folder / "adapter_model.safetensors").write_bytes(
        safetensors() if weights is None else weights
    )
    return folder


async def test_upload_adapter(fake: FakeWorkersAI, tmp_path: Path) -> None:
    """Both files, the weights first; the progress covers both."""
    fake.says(UPLOADED).says(UPLOADED)
    (tmp_path / "README.md").write_text("not sent")
    calls: list[tuple[int, int]] = []
    await fake.client().finetunes.upload_adapter(
        "mine", adapter(tmp_path), progress=lambda sent, size: calls.append((sent, size))
    )
    assert [form_of(request)[0][3] for request in fake.requests] == [
        b"adapter_model.safetensors",
        b"adapter_config.json",
    ]
    assert form_of(fake.requests[0])[1][3] == safetensors()
    size = len(safetensors()) + len(json.dumps(CONFIG))
    assert (len(safetensors()), size) in calls
    assert calls[-1] == (size, size)
    assert [sent for sent, _ in calls] == sorted(sent for sent, _ in calls)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("{", "adapter_config.json must be JSON"),
        ("[]", "must be a JSON object"),
        ("\ufeff{}", "adapter_config.json must be JSON"),
        ('{"r": 8, "r": 64}', "a key occurs twice"),
        ('{"r": 8, "lora_dropout": NaN}', "NaN is not JSON"),
        ({**CONFIG, "r": 33}, "r must be between 1 and 32, got 33"),
        ({**CONFIG, "r": 0}, "r must be between 1 and 32, got 0"),
        ({**CONFIG, "r": "8"}, "r must be between 1 and 32, got '8'"),
        ({"r": 8}, "model_type must be one of mistral, gemma, llama, got None"),
        ({**CONFIG, "model_type": "qwen2"}, "model_type must be one of"),
        ({**CONFIG, "model_type": ["llama"]}, "model_type must be one of"),
    ],
)
async def test_invalid_adapter_configs_are_refused(
    fake: FakeWorkersAI, tmp_path: Path, config: object, reason: str
) -> None:
    """Nothing is sent, so no fine-tune is left with half of its files."""
    with pytest.raises(InputError, match=reason):
        await fake.client().finetunes.upload_adapter(ID, adapter(tmp_path, config))
    assert not fake.requests


@pytest.mark.parametrize("rank", [1, 32])
async def test_ranks_at_the_bounds(fake: FakeWorkersAI, tmp_path: Path, rank: int) -> None:
    """The bounds themselves are allowed."""
    fake.always.says(UPLOADED)
    await fake.client().finetunes.upload_adapter(ID, adapter(tmp_path, {**CONFIG, "r": rank}))


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        (b"\x80\x04pickle", "must be a safetensors file"),
        (b"PK\x03\x04" + bytes(100), "must be a safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "its header is cut"),
        ((8).to_bytes(8, "little") + b"[1,2,34]", "its header is not a JSON object"),
        ((2).to_bytes(8, "little") + b"{}", "must contain all of its tensors"),
        (safetensors()[:-1], "must contain all of its tensors"),
        (safetensors() + b"\0", "must contain all of its tensors"),
        (safetensors(b={"data_offsets": [5, 1]}), "must give the offsets of its tensors: 'b'"),
        (safetensors(b=7), "must give the offsets of its tensors: 'b'"),
        (safetensors(b={"data_offsets": [0, 8]}), "must give the offsets of its tensors: 'b'"),
        (tensors(["F16", [4], [False, 8]]), "must give the offsets of its tensors: 't0'"),
        (tensors(["F16", [-2, -2], [0, 8]]), "must give the offsets of its tensors: 't0'"),
        (tensors(["F16", [4], [-1, 7]]), "must give the offsets of its tensors: 't0'"),
        (tensors(["NOPE", [4], [0, 8]]), "'t0' must be as long as"),
        (tensors(["F16", [1000, 1000], [0, 8]]), "'t0' must be as long as"),
        (tensors(["F16", [4], [0, 8]], ["F16", [4], [0, 8]]), "one directly after the other"),
        (tensors(["F16", [1], [0, 2]], ["F16", [2], [4, 8]]), "one directly after the other"),
        ((100_001).to_bytes(8, "little") + b"[" * 100_001, "must be a safetensors file"),
        ((5 << 20).to_bytes(8, "little") + b" " * (5 << 20), "its header is cut or missing"),
    ],
)
async def test_damaged_weights_are_refused(
    fake: FakeWorkersAI, tmp_path: Path, weights: bytes, reason: str
) -> None:
    """A truncated download, a pickle or a Git LFS pointer is found before it is sent."""
    with pytest.raises(InputError, match=reason):
        await fake.client().finetunes.upload_adapter(ID, adapter(tmp_path, weights=weights))
    assert not fake.requests


async def test_tensors_may_be_in_any_order(fake: FakeWorkersAI, tmp_path: Path) -> None:
    """Small types and empty tensors are tensors, too."""
    fake.always.says(UPLOADED)
    weights = tensors(["F4", [2, 2], [6, 8]], ["F32", [0, 3], [6, 6]], ["BF16", [3], [0, 6]])
    await fake.client().finetunes.upload_adapter(ID, adapter(tmp_path, weights=weights))


async def test_weights_above_the_size_limit_are_refused(
    fake: FakeWorkersAI, tmp_path: Path
) -> None:
    """Nothing is sent."""
    path = adapter(tmp_path) / "adapter_model.safetensors"
    with path.open("r+b") as file:
        file.truncate((500 << 20) + 1)
    with pytest.raises(InputError, match="must have at most 524288000 bytes, got 524288001"):
        await fake.client().finetunes.upload_adapter(ID, tmp_path)
    assert not fake.requests


async def test_invalid_paths_and_names_are_refused(fake: FakeWorkersAI, tmp_path: Path) -> None:
    """Each is an `InputError`."""
    ai = fake.client()
    with pytest.raises(InputError, match=r"^a{100} can't be read: File name too long$"):
        await ai.finetunes.upload_adapter(ID, "a" * 5000)
    with pytest.raises(InputError, match="must be JSON"):
        await ai.finetunes.upload_adapter(ID, adapter(tmp_path, "[" * 100_000))
    for name in ("\udcff", "a\0b", "a\x7f", "a\tb"):
        with pytest.raises(
            InputError, match="the name of a file must be UTF-8 text without control"
        ):
            await ai.finetunes.upload(ID, b"a", file_name=name)
        with pytest.raises(
            InputError, match="the name of a file must be UTF-8 text without control"
        ):
            await ai.to_markdown({f"{name}.html": b"a"})
    for path in (Path("a\0b"), Path("a\ud800b")):
        with pytest.raises(InputError, match="must be a path that a file can have") as caught:
            await ai.finetunes.upload(ID, path)
        str(caught.value).encode()

    class Unwound:
        def read(self, size: int = -1) -> bytes:
            return b""

    unwound: Any = Unwound()
    with pytest.raises(InputError, match="must be seekable"):
        await ai.finetunes.upload(ID, unwound, file_name="a")
    assert not fake.requests


async def test_both_adapter_files_are_required(fake: FakeWorkersAI, tmp_path: Path) -> None:
    """Their names are fixed by the service."""
    adapter(tmp_path)
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "adapter.safetensors")
    with pytest.raises(InputError, match=r"no adapter_model\.safetensors"):
        await fake.client().finetunes.upload_adapter(ID, tmp_path)
    with pytest.raises(InputError, match="folder must be a folder"):
        await fake.client().finetunes.upload_adapter(ID, tmp_path / "nowhere")
    assert not fake.requests


async def test_the_second_file_can_be_refused(fake: FakeWorkersAI, tmp_path: Path) -> None:
    """The error is that of the file; the first file stays."""
    fake.says(UPLOADED).fails(429, 971, "slow down")
    with pytest.raises(RateLimited):
        await fake.client(retries=NEVER).finetunes.upload_adapter(ID, adapter(tmp_path))
    assert len(fake.requests) == 2


# Using one


async def test_a_fine_tune_in_a_chat(fake: FakeWorkersAI) -> None:
    """`lora` is sent with the messages."""
    fake.answers({"response": "Arr"})
    task = TextGeneration([user("Hello world")], raw=True, lora="pirate")
    assert (await fake.client().run(MODEL, task)).text == "Arr"
    assert fake.requests[0].json() == {
        "messages": [{"role": "user", "content": "Hello world"}],
        "raw": True,
        "lora": "pirate",
    }


# Source: github.com/huggingface/safetensors, `Dtype`, with the bits of each.
BITS = {
    **dict.fromkeys(["BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"], 8),
    **dict.fromkeys(["I16", "U16", "F16", "BF16"], 16),
    **dict.fromkeys(["I32", "U32", "F32"], 32),
    **dict.fromkeys(["I64", "U64", "F64", "C64"], 64),
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
}


@pytest.mark.parametrize("dtype", BITS)
async def test_tensors_of_every_type_are_as_long_as_their_numbers(
    fake: FakeWorkersAI, tmp_path: Path, dtype: str
) -> None:
    """Neither a byte more nor less."""
    fake.always.says(UPLOADED)
    upload = fake.client().finetunes.upload_adapter
    exact = 12 * BITS[dtype] // 8
    for size in (exact - 1, exact + 1, exact):
        weights = tensors([dtype, [3, 4], [0, size]], size=size)
        if size == exact:
            await upload(ID, adapter(tmp_path, weights=weights))
        else:
            with pytest.raises(InputError, match="'t0' must be as long as"):
                await upload(ID, adapter(tmp_path, weights=weights))
    assert len(fake.requests) == 2


@pytest.mark.parametrize("model_type", ["mistral", "gemma", "llama"])
async def test_adapters_of_three_kinds_of_models(
    fake: FakeWorkersAI, tmp_path: Path, model_type: str
) -> None:
    """Source: Cloudflare docs, Workers AI, "Using LoRA adapters"."""
    fake.always.says(UPLOADED)
    config = {**CONFIG, "model_type": model_type}
    await fake.client().finetunes.upload_adapter(ID, adapter(tmp_path, config))
    assert len(fake.requests) == 2


@pytest.mark.parametrize(("length", "is_taken"), [(4 << 20, True), ((4 << 20) + 1, False)])
async def test_the_header_of_weights_has_at_most_four_mebibytes(
    fake: FakeWorkersAI, tmp_path: Path, length: int, is_taken: bool
) -> None:
    fake.always.says(UPLOADED)
    header = json.dumps({"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}}).encode()
    weights = length.to_bytes(8, "little") + header.ljust(length) + b"ab"
    folder = adapter(tmp_path, weights=weights)
    if is_taken:
        await fake.client().finetunes.upload_adapter(ID, folder)
    else:
        with pytest.raises(InputError, match="its header is cut or missing"):
            await fake.client().finetunes.upload_adapter(ID, folder)
    assert len(fake.requests) == (2 if is_taken else 0)


async def test_weights_at_the_size_limit_are_looked_into(
    fake: FakeWorkersAI, tmp_path: Path
) -> None:
    path = adapter(tmp_path) / "adapter_model.safetensors"
    with path.open("r+b") as file:
        file.truncate(500 << 20)
    with pytest.raises(InputError, match="must contain all of its tensors"):
        await fake.client().finetunes.upload_adapter(ID, tmp_path)
