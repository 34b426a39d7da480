"""Scripted replies: which requests get them, in every form, and beside the models."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import FormData

from cfai import ConfigError
from cfai.local import Fault, Server

from .conftest import LLAMA, Reply, running

BERT = "@cf/huggingface/distilbert-sst-2-int8"
GOOD = {"text": "good"}


def write(folder: Path, *replies: Any) -> Path:
    path = folder / "script.json"
    path.write_bytes(orjson.dumps(replies))
    return path


async def test_the_first_reply_that_matches_is_given(tmp_path: Path) -> None:
    script = write(
        tmp_path,
        {"contains": "rain", "result": {"n": 1}},
        {"path": "*/run/@cf/meta/*", "times": 2, "result": {"n": 2}},
        {"contains": "sun", "result": {"n": 3}},
    )
    async with running(script=script) as local:
        message = {"role": "user", "content": "Will it rain?"}
        reply = await local.post(LLAMA, {"messages": [message]})
        assert reply.headers["cfai-backend"] == "script"
        assert reply.json == {"result": {"n": 1}, "success": True, "errors": [], "messages": []}
        answers = [(await local.post(LLAMA, {"prompt": "sun"})).result for _ in range(3)]
        assert answers == [{"n": 2}, {"n": 2}, {"n": 3}]
        model = await local.post(BERT, GOOD)
        assert model.headers["cfai-backend"] == "vader"


async def test_a_text_is_looked_for_in_the_values_of_json_only(tmp_path: Path) -> None:
    """Not in forms, other bytes and names."""
    form = FormData({"prompt": "rain"})
    form.add_field("file", b"rain", filename="rain.txt")
    script = write(tmp_path, {"contains": "rain", "result": {"n": 1}}, {"result": {"n": 2}})
    async with running(script=script) as local:
        for body in (form, b"rain", b'{"rain": 1}'):
            async with local.http.post(local.url(LLAMA), data=body) as response:
                assert (await response.json())["result"] == {"n": 2}
        assert (await local.post(LLAMA, {"a": ["no", {"b": "It rains"}]})).result == {"n": 1}


async def test_errors_of_openais_paths_have_its_form(tmp_path: Path) -> None:
    async with running(script=write(tmp_path, {"error": {"message": "Busy"}})) as local:
        url = f"{local.server.base_url}/accounts/0/ai/v1/chat/completions"
        async with local.http.post(url, json={"messages": []}) as response:
            document = await response.json()
    assert (response.status, document["error"]["code"]) == (500, "8005")
    assert "Busy" in document["error"]["message"]


async def test_errors_events_and_bodies_are_sent(tmp_path: Path) -> None:
    script = write(
        tmp_path,
        {"contains": "a", "error": {"status": 429, "code": 3040, "message": "Busy"}},
        {"contains": "b", "error": {}, "retry_after": 2},
        {"contains": "c", "events": [{"response": "é"}, "[DONE]"]},
        {"contains": "d", "status": 502, "body": "<html>", "content_type": "text/html"},
    )
    async with running(script=script) as local:
        busy = await local.post(LLAMA, {"prompt": "a"})
        assert busy.error[:2] == (429, 3040)
        assert "Busy" in busy.error[2]
        failed = await local.post(LLAMA, {"prompt": "b"})
        assert (failed.error[:2], failed.headers["Retry-After"]) == ((500, 8005), "2")
        stream = await local.post(LLAMA, {"prompt": "c", "stream": True})
        assert stream.headers["Content-Type"] == "text/event-stream"
        assert stream.body.decode() == 'data: {"response":"é"}\n\ndata: [DONE]\n\n'
        page = await local.post(LLAMA, {"prompt": "d"})
        assert (page.status, page.body) == (502, b"<html>")
        assert page.headers["Content-Type"] == "text/html"


async def test_results_of_openai_have_no_envelope(tmp_path: Path) -> None:
    script = write(tmp_path, {"path": "*/ai/v1/embeddings", "result": {"data": []}})
    async with running(script=script) as local:
        url = f"{local.server.base_url}/accounts/0/ai/v1/embeddings"
        async with local.http.post(url, json={"model": "any"}) as response:
            assert await response.json() == {"data": []}


async def test_the_details_of_replies(tmp_path: Path) -> None:
    """The edges of each number, the defaults, and that each request is counted for itself."""
    script = write(
        tmp_path,
        {"contains": "a", "body": "x", "status": 200, "retry_after": 0},
        {"contains": "b", "body": "y", "status": 599},
        {"contains": "c", "error": {"status": 400}},
        {"contains": "d", "error": {"status": 599, "code": 1}},
        {"contains": "e", "times": 0, "result": {}},
        {"contains": "e", "times": 1, "result": []},
        {"contains": "e", "result": "text"},
        {"contains": "f", "events": [1, {"a": 1}]},
    )
    async with running(script=script) as local:

        async def ask(text: str) -> Reply:
            return await local.post(LLAMA, {"prompt": text})

        plain = await ask("a")
        assert (plain.status, plain.body, plain.headers["Retry-After"]) == (200, b"x", "0")
        assert plain.headers["Content-Type"] == "text/plain"
        assert plain.headers["cfai-backend"] == "script"
        failed = await ask("b")
        assert (failed.status, "Retry-After" in failed.headers) == (599, False)
        assert (await ask("c")).error[:2] == (400, 8005)
        assert (await ask("d")).error[:2] == (599, 1)
        assert [(await ask("e")).result for _ in range(3)] == [[], "text", "text"]
        stream = await ask("f")
        assert stream.body == b'data: 1\n\ndata: {"a":1}\n\n'
        assert stream.headers["Cache-Control"] == "no-cache"
        for _ in range(8):
            await local.done()
        assert [exchange.backend for exchange in local.server.requests] == ["script"] * 8


async def test_a_scripted_stream_can_have_a_fault(tmp_path: Path) -> None:
    script = write(tmp_path, {"events": [{"response": "a"}, {"response": "b"}, "[DONE]"]})
    faults = [Fault("malformed", events=1)]
    async with running(script=script, faults=faults) as local:
        reply = await local.post(LLAMA, {"prompt": "Hi", "stream": True})
        assert reply.body.split(b"\n\n")[1] == b'data: {"response":"'


async def test_credentials_are_still_required(tmp_path: Path) -> None:
    async with running(script=write(tmp_path, {"result": {}})) as local:
        reply = await local.post(LLAMA, {"prompt": "Hi"}, headers={"Authorization": ""})
        assert reply.status == 401


@pytest.mark.parametrize(
    ("replies", "message"),
    [
        ([5], r"script.json\[0\] must be an object, got 5"),
        ([{"result": {}}, {}], r"script.json\[1\] must have one of result, error, events, body"),
        ([{"result": {}, "body": ""}], "must have one of"),
        ([{"result": {}, "tims": 1}], "unknown key 'tims'"),
        ([{"result": {}, "times": "1"}], r"times has the wrong type, got '1'"),
        ([{"result": {}, "times": True}], "times has the wrong type, got True"),
        ([{"result": 5}], "result has the wrong type"),
        ([{"error": {"status": 399}}], r"\[0\].error.status must be between 400 and 599"),
        ([{"error": {"status": 600}}], "status must be between 400 and 599"),
        ([{"error": {"code": "1"}}], "error.code has the wrong type, got '1'"),
        ([{"body": "", "status": 199}], "status must be between 200 and 599"),
        ([{"body": "", "status": 600}], "status must be between 200 and 599"),
        ([{"body": {}}], "body has the wrong type"),
        ([{"events": {}}], "events has the wrong type"),
        ([{"result": {}, "path": 1}], "path has the wrong type, got 1"),
        ([{"error": {"text": ""}}], "unknown key 'text'"),
        ([{"result": {}, "times": -1}], "times must be at least 0, got -1"),
        ([{"result": {}, "retry_after": -1}], "retry_after must be at least 0, got -1"),
        ([{"result": {}, "status": 404}], "status must be omitted: only a body has it"),
        ([{"events": [], "content_type": "x"}], "content_type must be omitted"),
        ([{"body": "", "status": 99}], "status must be between 200 and 599"),
    ],
)
def test_an_invalid_script_is_named(tmp_path: Path, replies: list[Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Server(script=write(tmp_path, *replies))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "is not JSON"), (b"{}", "must be a list of replies"), (None, "No such file")],
)
def test_a_file_that_is_no_script_is_named(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "script.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        Server(script=path)
