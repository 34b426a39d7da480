"""The batch queue over HTTP: batches are accepted, computed later, and polled."""

import sqlite3
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

from cfai import Prompt, TextEmbeddings
from cfai.local import Latency, Server

from .conftest import LLAMA, Local, Reply, client, running

BGE = "@cf/baai/bge-small-en-v1.5"
BATCH = {"requests": [{"text": "tea", "external_reference": "a"}, {"text": ["milk", "sugar"]}]}


async def submit(local: Local, body: dict[str, Any], model: str = BGE, account: str = "0") -> Reply:
    url = local.url(model).replace("/0/", f"/{account}/") + "?queueRequest=true"
    async with local.http.post(url, data=orjson.dumps(body)) as response:
        return Reply(response.status, response.headers, await response.read())


async def wait_for_batch(local: Local, batch: str, model: str = BGE) -> Any:
    while True:
        result = (await submit(local, {"request_id": batch}, model)).result
        if "responses" in result:
            return result
        assert set(result) == {"status", "request_id", "model"}
        assert result["status"] in {"queued", "running"}


async def test_a_batch_is_accepted_and_computed_later(local: Local) -> None:
    reply = await submit(local, BATCH)
    taken = reply.result
    assert (taken["status"], taken["model"]) == ("queued", BGE)
    assert str(UUID(taken["request_id"])) == taken["request_id"]
    result = await wait_for_batch(local, taken["request_id"])
    first, second = result["responses"]
    assert set(first) == {"id", "result", "success", "external_reference"}
    assert (first["id"], first["success"], first["external_reference"]) == (0, True, "a")
    assert (second["id"], second["external_reference"]) == (1, None)
    assert second["result"]["shape"] == [2, 384]
    assert set(result["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens"}
    alone = await local.post(BGE, {"text": "tea"})
    assert first["result"] == alone.result


async def test_a_failed_item_does_not_fail_the_batch() -> None:
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


async def test_batches_run_one_after_another() -> None:
    async with Server() as server, client(server) as ai:
        batches = [await ai.queue(BGE, [TextEmbeddings(f"text {at}")]) for at in range(10)]
        for batch in batches:
            (item,) = await batch.wait(60)
            assert item.result().shape == (1, 384)


async def test_an_unfinished_batch_runs_on_the_next_server(tmp_path: Path) -> None:
    requests = [{"prompt": "Tell a long story", "max_tokens": 50} for _ in range(3)]
    async with running(folder=tmp_path) as local:
        batch = (await submit(local, {"requests": requests}, LLAMA)).result["request_id"]
    short = [{"prompt": "Hi", "max_tokens": 2}]
    async with running(folder=tmp_path) as local:
        after = (await submit(local, {"requests": short}, LLAMA)).result["request_id"]
        assert len((await wait_for_batch(local, batch, LLAMA))["responses"]) == 3
        assert len((await wait_for_batch(local, after, LLAMA))["responses"]) == 1
    async with running(folder=tmp_path) as local:
        assert len((await wait_for_batch(local, batch, LLAMA))["responses"]) == 3


async def test_a_batch_of_a_removed_model_does_not_block_others(tmp_path: Path) -> None:
    """The folder may have been written by another version."""
    async with running(folder=tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / "local.db")) as db, db:
        db.execute(
            "INSERT INTO batch (id, account, model, requests) VALUES (?, ?, ?, ?)",
            ("old", "0", "@cf/gone/model", '[{"text": "x"}]'),
        )
    async with running(folder=tmp_path) as local:
        after = (await submit(local, BATCH)).result["request_id"]
        assert (await wait_for_batch(local, after))["responses"]


async def test_only_the_batch_that_runs_is_running(tmp_path: Path) -> None:
    """Those behind it are queued, whatever their ids."""
    async with running(folder=tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / "local.db")) as db, db:
        db.executemany(
            "INSERT INTO batch (id, account, model, requests) VALUES (?, ?, ?, ?)",
            [(batch, "0", LLAMA, '[{"prompt": "Hi", "max_tokens": 2}]') for batch in "maz"],
        )
    async with running(folder=tmp_path, latency=Latency(3600)) as local:

        async def read_status(batch: str) -> Any:
            return (await submit(local, {"request_id": batch}, LLAMA)).result["status"]

        while await read_status("m") == "queued":
            pass
        assert [await read_status(batch) for batch in "maz"] == ["running", "queued", "queued"]


async def test_a_batch_belongs_to_its_account_and_model(local: Local) -> None:
    batch = {"request_id": (await submit(local, BATCH)).result["request_id"]}
    assert (await submit(local, batch, account="1")).error[:2] == (404, 90003)
    assert (await submit(local, batch, "@cf/baai/bge-m3")).error[:2] == (404, 90003)
    assert (await submit(local, {"request_id": "no"})).error[:2] == (404, 90003)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "required properties at '/' are 'requests'"),
        ({"requests": []}, "at least 1 object"),
        ({"requests": {"text": "a"}}, "at least 1 object"),
        ({"requests": ["a"]}, "requests[0] must be an object, got 'a'"),
        ({"requests": [{"text": "a", "external_reference": 1}]}, "external_reference must be text"),
        ({"requests": [{"text": "a"}, 5]}, "requests[1] must be an object, got 5"),
        ({"requests": [{"text": "a"}], "x": 1}, "unknown field 'x'"),
        ({"request_id": 1}, "request_id must be text, got 1"),
        ({"request_id": "a", "requests": []}, "unknown field 'requests'"),
    ],
)
async def test_an_invalid_batch_is_named_in_the_error(
    local: Local, body: dict[str, Any], message: str
) -> None:
    status, code, text = (await submit(local, body)).error
    assert (status, code) == (400, 5006)
    assert message in text


@pytest.mark.parametrize(("size", "status"), [(9_999_999, 200), (10_000_000, 413)])
async def test_a_batch_of_ten_megabytes_is_too_large(local: Local, size: int, status: int) -> None:
    url = local.url(BGE) + "?queueRequest=true"
    data = orjson.dumps({"requests": [{"text": "a"}]}).ljust(size)
    async with local.http.post(url, data=BytesIO(data)) as response:
        document = await response.json()
    assert response.status == status
    if status == 413:
        (error,) = document["errors"]
        assert error["code"] == 3006
        assert "the limit is 9999999 bytes" in error["message"]


async def test_the_usage_of_a_batch_is_the_sum_of_its_items(local: Local) -> None:
    """Of items that have one: the form of the answer does not matter."""
    for model in (LLAMA, "@cf/zai-org/glm-4.7-flash", "@cf/openai/gpt-oss-20b"):
        bodies: list[dict[str, Any]] = [{"prompt": "Hi", "max_tokens": n} for n in (1, 2)]
        if "gpt-oss" in model:
            bodies += [{"input": "Hi", "max_output_tokens": 3}]
        batch = (await submit(local, {"requests": bodies}, model)).result["request_id"]
        result = await wait_for_batch(local, batch, model)
        usages = [response["result"]["usage"] for response in result["responses"]]
        written = [u.get("completion_tokens", u.get("output_tokens")) for u in usages]
        read = [u.get("prompt_tokens", u.get("input_tokens")) for u in usages]
        assert written == [1, 2, 3][: len(bodies)]
        assert result["usage"] == {
            "prompt_tokens": sum(read),
            "completion_tokens": sum(written),
            "total_tokens": sum(read) + sum(written),
        }
    vectors = (await submit(local, BATCH)).result["request_id"]
    assert set((await wait_for_batch(local, vectors))["usage"].values()) == {0}


async def test_the_requests_of_a_batch_are_kept_until_it_is_done(tmp_path: Path) -> None:
    """They may be long; the responses stay, also for the next server."""
    async with running(folder=tmp_path) as local:
        batch = (await submit(local, BATCH)).result["request_id"]
        result = await wait_for_batch(local, batch)
    with closing(sqlite3.connect(tmp_path / "local.db")) as db:
        assert db.execute("SELECT id, requests FROM batch").fetchall() == [(batch, "")]
    async with running(folder=tmp_path) as local:
        assert (await submit(local, {"request_id": batch})).result == result


async def test_a_model_without_a_backend_is_not_queued(local: Local) -> None:
    assert (await submit(local, BATCH, "@cf/no/such")).error[:2] == (400, 5007)
    assert (await submit(local, BATCH, "@cf/meta/m2m100-1.2b")).error[:2] == (501, 90001)


async def test_queued_requests_cannot_be_streamed(local: Local) -> None:
    body = {"requests": [{"prompt": "Hi", "stream": True}]}
    batch = (await submit(local, body, LLAMA)).result["request_id"]
    (item,) = (await wait_for_batch(local, batch, LLAMA))["responses"]
    assert item["success"] is False
    assert item["errors"][0]["code"] == 5006
