"""Faults on demand: by header, and from the server's list."""

import asyncio
from typing import Any

import pytest
from aiohttp import ClientError

from cfai import CapacityExceeded, ConfigError, QuotaExceeded, Retries, Text, TransportError
from cfai.local import Fault, Server

from .conftest import LLAMA, Local, Reply, client, running

BERT = "@cf/huggingface/distilbert-sst-2-int8"
GOOD = {"text": "good"}
STREAM = {"prompt": "Count to ten.", "max_tokens": 8, "seed": 1, "stream": True}


async def ask(local: Local, fault: str, model: str = BERT, body: Any = None) -> Reply:
    return await local.post(model, body or GOOD, headers={"x-cfai-fault": fault})


@pytest.mark.parametrize(
    ("fault", "error", "retry_after"),
    [
        ("capacity", (429, 3040), None),
        ("capacity,retry_after=1.5", (429, 3040), "1.5"),
        ("quota", (429, 3036), None),
        ("error", (500, 8005), None),
        ("error, status=503, code=9000, message=Busy, retry_after=2", (503, 9000), "2"),
    ],
)
async def test_a_header_asks_for_an_error(
    local: Local, fault: str, error: tuple[int, int], retry_after: str | None
) -> None:
    reply = await ask(local, fault)
    assert reply.error[:2] == error
    assert reply.headers.get("Retry-After") == retry_after
    assert (await local.post(BERT, GOOD)).status == 200


@pytest.mark.parametrize(
    "fault", ["reset", "cut", "cut,bytes=10", "cut,bytes=1000000", "stall", "stall,bytes=10"]
)
async def test_a_whole_response_is_interrupted(local: Local, fault: str) -> None:
    stalls = fault.startswith("stall")
    with pytest.raises((ClientError, TimeoutError)):
        async with asyncio.timeout(0.2 if stalls else 30):
            await ask(local, fault)
    assert (await local.post(BERT, GOOD)).status == 200


@pytest.mark.parametrize(
    ("fault", "size"),
    [("cut", 0), ("cut,bytes=0", 0), ("cut,bytes=1", 1), ("cut,bytes=10", 10), ("cut,bytes=-", -2)],
)
async def test_a_response_is_cut_after_so_many_bytes(local: Local, fault: str, size: int) -> None:
    """And before its last one, at most. Its length is still announced."""
    complete = (await local.post(BERT, GOOD)).body
    if size < 0:
        size, fault = len(complete) - 1, f"cut,bytes={len(complete)}"
    received = b""
    async with local.open(BERT, GOOD, headers={"x-cfai-fault": fault}) as response:
        assert (response.status, response.content_length) == (200, len(complete))
        with pytest.raises(ClientError):
            async for chunk in response.content.iter_any():
                received += chunk
    assert received == complete[:size]


async def test_a_malformed_response_lacks_its_last_byte(local: Local) -> None:
    whole = (await local.post(BERT, GOOD)).body
    assert (await ask(local, "malformed")).body == whole[:-1]


async def read(local: Local, fault: str) -> tuple[bytes, bool]:
    """What arrives of a stream, and whether it was interrupted."""
    received = b""
    async with local.open(LLAMA, STREAM, headers={"x-cfai-fault": fault}) as response:
        assert response.status == 200
        try:
            async for chunk in response.content.iter_any():
                received += chunk
        except ClientError:
            return received, True
    return received, False


@pytest.mark.parametrize("kind", ["cut"])
@pytest.mark.parametrize("events", [0, 1, 3])
async def test_a_stream_is_cut_after_some_events(local: Local, kind: str, events: int) -> None:
    received, interrupted = await read(local, f"{kind},events={events}")
    assert interrupted
    assert received.count(b"\n\n") == events


@pytest.mark.parametrize("size", [1, 30, 41])
async def test_a_stream_is_cut_after_some_bytes(local: Local, size: int) -> None:
    whole, _ = await read(local, "malformed,events=999")
    received, interrupted = await read(local, f"cut,bytes={size}")
    assert interrupted
    assert received == whole[:size]


@pytest.mark.parametrize("events", [0, 2])
async def test_an_event_that_is_no_json_follows(local: Local, events: int) -> None:
    received, interrupted = await read(local, f"malformed,events={events}")
    assert not interrupted
    assert received.split(b"\n\n")[events] == b'data: {"response":"'
    assert received.endswith(b"data: [DONE]\n\n")


async def test_a_stalled_stream_ends_when_the_client_leaves(local: Local) -> None:
    async with local.open(LLAMA, STREAM, headers={"x-cfai-fault": "stall,events=1"}) as response:
        assert (await response.content.readuntil(b"\n\n")).startswith(b"data: ")
        response.close()
    exchange = await local.done()
    assert exchange.ending is not None


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault("error"), "error"),
        (Fault("capacity", retry_after=0.5), "capacity, retry_after=0.5"),
        (Fault("error", 200, 0, "a = b"), "error,status=200,code=0,message=a = b"),
        (Fault("error", 599, 10**9), "error,status=599,code=1000000000"),
        (
            Fault("cut", events=0, bytes=0, times=0, path="/x"),
            "cut,events=0,bytes=0,times=0,path=/x",
        ),
        (Fault("stall", events=1_000_000_000), " stall , events = 1000000000 "),
    ],
)
def test_faults_are_read_from_text(fault: Fault, text: str) -> None:
    assert Fault.of(text) == fault
    assert (Fault("error").status, Fault("error").code) == (500, 8005)
    assert Fault("error").message == "Internal Server Error"


async def test_a_fault_without_a_count_happens_each_time() -> None:
    faults = [Fault("capacity", times=0), Fault("quota", path="*/run/@cf/meta/*"), Fault("error")]
    async with running(faults=faults) as local:
        codes = [(await local.post(BERT, GOOD)).error[1] for _ in range(3)]
        assert codes == [8005] * 3
        assert (await local.post(LLAMA, {"prompt": "Hi"})).error[1] == 3036


async def test_faults_of_a_server_happen_in_order_and_as_often_as_said() -> None:
    faults = [Fault("capacity", times=2, path=f"*/run/{BERT}"), Fault("error", times=1)]
    async with running(faults=faults) as local:
        replies = [(await local.post(BERT, GOOD)).status for _ in range(4)]
        assert replies == [429, 429, 500, 200]


@pytest.mark.parametrize("fault", ["capacity,times=1", "cut,times=0", "error,path=/x"])
async def test_a_header_concerns_its_own_request(local: Local, fault: str) -> None:
    reply = await ask(local, fault)
    assert reply.status == 400
    assert "times and path must be omitted" in reply.error[2]


OPENAI = {"model": LLAMA, "messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize("path", ["v1/chat/completions", "v1/embeddings"])
async def test_errors_of_openais_paths_have_its_form(local: Local, path: str) -> None:
    url = f"{local.server.base_url}/accounts/0/ai/{path}"
    for fault in ("capacity,retry_after=2", "quota", "error,message=Busy"):
        async with local.http.post(url, json=OPENAI, headers={"x-cfai-fault": fault}) as response:
            document = await response.json()
        assert set(document["error"]) == {"message", "type", "param", "code"}
        assert document["error"]["message"] == document["errors"][0]["message"]


SOUND = {"text": "Hello there. How are you?"}
AURA = "@cf/deepgram/aura-1"


@pytest.mark.usefixtures("speech_weights")
@pytest.mark.parametrize("size", [1, 100, 3000])
async def test_sound_is_cut_after_some_bytes(local: Local, size: int) -> None:
    received = b""
    headers = {"x-cfai-fault": f"cut,bytes={size}"}
    async with local.open(AURA, SOUND, headers=headers) as response:
        with pytest.raises(ClientError):
            async for chunk in response.content.iter_any():
                received += chunk
    assert len(received) == size


@pytest.mark.usefixtures("speech_weights")
async def test_sound_gets_its_other_faults(local: Local) -> None:
    complete = (await local.post(AURA, SOUND)).body
    assert (await ask(local, "malformed", AURA, SOUND)).body == complete[:-1]
    with pytest.raises(ClientError):
        await ask(local, "cut,events=1", AURA, SOUND)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await ask(local, "stall,events=1", AURA, SOUND)


async def test_our_client_retries_and_gives_up_as_documented() -> None:
    once = Fault("capacity", times=1, retry_after=0)
    async with Server(faults=[once]) as server, client(server) as ai:
        answer = await ai.run(LLAMA, "Hi")
        assert isinstance(answer, Text)
        assert answer.meta.attempts == 2
    for fault, error in ((Fault("quota"), QuotaExceeded), (Fault("capacity"), CapacityExceeded)):
        async with Server(faults=[fault]) as server, client(server) as ai:
            with pytest.raises(error):
                await ai.with_options(retries=Retries(max=0)).run(LLAMA, "Hi")
    async with Server(faults=[Fault("cut", events=1)]) as server, client(server) as ai:
        with pytest.raises(TransportError):
            async with ai.stream(LLAMA, "Hi") as stream:
                [_ async for _ in stream]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a fault must be one of capacity"),
        ("boom", "got 'boom'"),
        ("capacity,times", "the options of a fault are"),
        ("capacity,often=2", "got 'often=2'"),
        ("error,status=99", "status of a fault must be between 200 and 599, got '99'"),
        ("error,status=x", "got 'x'"),
        ("error,status=199", "got '199'"),
        ("error,status=600", "got '600'"),
        ("cut,events=1000000001", "events of a fault must be between 0 and 1000000000"),
        ("cut,bytes=1.5", "bytes of a fault must be between 0 and 1000000000, got '1.5'"),
        ("=1", "a fault must be one of capacity"),
        ("cut,bytes=-1", "bytes of a fault must be between 0"),
        ("capacity,retry_after=nan", "retry_after of a fault"),
    ],
)
async def test_an_invalid_fault_is_named(local: Local, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match="fault"):
        Fault.of(text)
    reply = await ask(local, text)
    assert reply.status == 400
    assert message in reply.error[2]
