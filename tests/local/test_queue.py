"""The local queue over a real socket: batches are taken, computed afterwards, and told of."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

from cfai import Prompt, TextEmbeddings
from cfai.local import Server

from .conftest import LLAMA, Local, Reply, client, running

BGE = "@cf/baai/bge-small-en-v1.5"
BATCH = {"requests": [{"text": "tea", "external_reference": "a"}, {"text": ["milk", "sugar"]}]}


async def queued(local: Local, body: dict[str, Any], model: str = BGE, account: str = "0") -> Reply:
    url = local.url(model).replace("/0/", f"/{account}/") + "?queueRequest=true"
    async with local.http.post(url, data=orjson.dumps(body)) as response:
        return Reply(response.status, response.headers, await response.read())


async def done(local: Local, batch: str, model: str = BGE) -> Any:
    while True:
        result = (await queued(local, {"request_id": batch}, model)).result
        if "responses" in result:
            return result
        assert set(result) == {"status", "request_id", "model"}
        assert result["status"] in {"queued", "running"}


async def test_a_batch_is_taken_and_done_afterwards(local: Local) -> None:
    reply = await queued(local, BATCH)
    taken = reply.result
    assert (taken["status"], taken["model"]) == ("queued", BGE)
    assert str(UUID(taken["request_id"])) == taken["request_id"]
    result = await done(local, taken["request_id"])
    first, second = result["responses"]
    assert set(first) == {"id", "result", "success", "external_reference"}
    assert (first["id"], first["success"], first["external_reference"]) == (0, True, "a")
    assert (second["id"], second["external_reference"]) == (1, None)
    assert second["result"]["shape"] == [2, 384]
    assert set(result["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens"}
    alone = await local.post(BGE, {"text": "tea"})
    assert first["result"] == alone.result


async def test_texts_are_written_and_an_item_that_fails_is_an_item() -> None:
    async with Server() as server, client(server) as ai:
        tasks = {
            "good": Prompt("Hello", max_tokens=3),
            "bad": Prompt("Hello", lora="nobody"),
            "again": Prompt("Hello", max_tokens=2),
        }
        batch = await ai.queue(LLAMA, tasks)
        assert not batch.done
        good, bad, again = await batch.wait(60)
        assert (good.reference, bad.reference, again.reference) == ("good", "bad", "again")
        assert good.result().text
        assert again.result().text
        assert getattr(bad.error, "code", None) == 3037
        assert batch.usage
        assert batch.usage.completion_tokens == 5


async def test_batches_wait_for_each_other_and_not_for_their_clients() -> None:
    async with Server() as server, client(server) as ai:
        batches = [await ai.queue(BGE, [TextEmbeddings(f"text {at}")]) for at in range(10)]
        for batch in batches:
            (item,) = await batch.wait(60)
            assert item.result().shape == (1, 384)


async def test_a_batch_that_was_not_done_goes_on_with_the_next_server(tmp_path: Path) -> None:
    requests = [{"prompt": "Tell a long story", "max_tokens": 50} for _ in range(3)]
    async with running(folder=tmp_path) as local:
        known = (await queued(local, {"requests": requests}, LLAMA)).result["request_id"]
    short = [{"prompt": "Hi", "max_tokens": 2}]
    async with running(folder=tmp_path) as local:
        after = (await queued(local, {"requests": short}, LLAMA)).result["request_id"]
        assert len((await done(local, known, LLAMA))["responses"]) == 3
        assert len((await done(local, after, LLAMA))["responses"]) == 1
    async with running(folder=tmp_path) as local:
        assert len((await done(local, known, LLAMA))["responses"]) == 3


async def test_a_batch_of_a_model_that_is_gone_stops_no_other(tmp_path: Path) -> None:
    """A folder may be that of another version."""
    async with running(folder=tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / "local.db")) as db, db:
        db.execute(
            "INSERT INTO batch (id, account, model, requests) VALUES (?, ?, ?, ?)",
            ("old", "0", "@cf/gone/model", '[{"text": "x"}]'),
        )
    async with running(folder=tmp_path) as local:
        after = (await queued(local, BATCH)).result["request_id"]
        assert (await done(local, after))["responses"]


async def test_a_batch_is_known_to_its_account_and_model_only(local: Local) -> None:
    known = {"request_id": (await queued(local, BATCH)).result["request_id"]}
    assert (await queued(local, known, account="1")).error[:2] == (404, 90003)
    assert (await queued(local, known, "@cf/baai/bge-m3")).error[:2] == (404, 90003)
    assert (await queued(local, {"request_id": "no"})).error[:2] == (404, 90003)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "required properties at '/' are 'requests'"),
        ({"requests": []}, "at least 1 object"),
        ({"requests": {"text": "a"}}, "at least 1 object"),
        ({"requests": ["a"]}, "requests[0] must be an object, got 'a'"),
        ({"requests": [{"text": "a", "external_reference": 1}]}, "external_reference must be text"),
        ({"request_id": 1}, "request_id must be text, got 1"),
    ],
)
async def test_a_bad_batch_is_named(local: Local, body: dict[str, Any], message: str) -> None:
    status, code, said = (await queued(local, body)).error
    assert (status, code) == (400, 5006)
    assert message in said


async def test_a_batch_of_ten_megabytes_is_too_large(local: Local) -> None:
    url = local.url(BGE) + "?queueRequest=true"

    async def body() -> Any:
        for _ in range(10):
            yield b" " * 1_000_000

    async with local.http.post(url, data=body()) as response:
        assert response.status == 413


async def test_what_nobody_can_run_is_not_queued(local: Local) -> None:
    assert (await queued(local, BATCH, "@cf/no/such")).error[:2] == (400, 5007)
    assert (await queued(local, BATCH, "@cf/openai/whisper")).error[:2] == (501, 90001)


async def test_what_is_queued_is_not_streamed(local: Local) -> None:
    body = {"requests": [{"prompt": "Hi", "stream": True}]}
    known = (await queued(local, body, LLAMA)).result["request_id"]
    (item,) = (await done(local, known, LLAMA))["responses"]
    assert item["success"] is False
    assert item["errors"][0]["code"] == 5006
