"""`cfai queue`: one line per run in, one line per result out."""

import json
from pathlib import Path

import pytest

from cfai.testing import FakeWorkersAI

from .conftest import needs_terminals
from .processes import Cfai

ID = "182bd5e5-6e1a-4fe4-a799-aa6d9a6ab26e"


async def test_queue_submit_and_wait(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    """One line per run in, one line per result out."""
    fake.answers({"status": "queued", "request_id": ID})
    lines = b'{"prompt": "a"}\n\n{"prompt": "b", "external_reference": "mine"}\n'
    done = await cfai.run("queue", "submit", "@cf/a/b", stdin=lines)
    assert (done.code, done.text) == (0, f"{ID}\n")
    assert fake.requests[-1].json()["requests"] == [
        {"prompt": "a", "external_reference": "0"},
        {"prompt": "b", "external_reference": "mine"},
    ]
    rows = [{"id": 0, "success": True, "result": {"response": "A"}, "external_reference": "0"}]
    fake.answers({"responses": rows})
    done = await cfai.run("queue", "wait", "@cf/a/b", ID)
    assert (done.code, [json.loads(line) for line in done.lines]) == (0, rows)
    fake.answers({"responses": [{"id": 0, "success": False}]})
    assert (await cfai.run("queue", "wait", "@cf/a/b", ID)).code == 1
    fake.answers({"status": "queued", "request_id": ID})
    assert (await cfai.run("queue", "wait", "@cf/a/b", ID, "--timeout", "0")).code == 5
    lines = '{"prompt": "one\u2028line"}\r\n{"prompt": "b"}'.encode()
    fake.answers({"responses": rows})
    done = await cfai.run("queue", "submit", "@cf/a/b", stdin=lines)
    assert [task["prompt"] for task in fake.requests[-1].json()["requests"]] == [
        "one\u2028line",
        "b",
    ]
    # The batch ran at once, and the second run has no result.
    first, second = (json.loads(line) for line in done.lines)
    assert (done.code, first) == (1, rows[0])
    assert (second["external_reference"], second["success"]) == ("1", False)
    (tmp_path / "q.jsonl").write_bytes(lines)
    for path in (str(tmp_path / "q.jsonl"), f"@{tmp_path / 'q.jsonl'}"):
        fake.answers({"status": "queued", "request_id": ID})
        assert (await cfai.run("queue", "submit", "@cf/a/b", path)).text == f"{ID}\n"
        assert len(fake.requests[-1].json()["requests"]) == 2
    for bad in (b"", b"[1]\n", b"{\n"):
        assert (await cfai.run("queue", "submit", "@cf/a/b", "-", stdin=bad)).code == 2


@needs_terminals
async def test_runs_come_from_a_file_or_a_pipe(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    """Not from the keyboard. With a file, a terminal is fine."""
    fake.answers({"status": "queued", "request_id": "r-1"})
    for arguments in ([], ["-"]):
        async with cfai.at_a_terminal("queue", "submit", "@cf/a/b", *arguments) as terminal:
            await terminal.shows("there are no runs: give a file, or pipe lines in")
            assert await terminal.ended() == 2
    file = tmp_path / "runs.jsonl"
    file.write_text('{"text": ["a"]}\n\n')
    async with cfai.at_a_terminal("queue", "submit", "@cf/a/b", str(file)) as terminal:
        await terminal.shows("r-1")
        assert await terminal.ended() == 0
    (request,) = fake.requests
    assert len(request.json()["requests"]) == 1


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (b'{"a": 1}\n[]\n', "line 2 must be a JSON object, got []"),
        (b'\n{"a": 1}\n{', "line 3 must be a JSON object: "),
        (b'{"a": 1}\n' + b"1" * 100, f"line 2 must be a JSON object, got {'1' * 60}\n"),
    ],
)
async def test_a_wrong_line_is_named(
    cfai: Cfai, fake: FakeWorkersAI, lines: bytes, message: str
) -> None:
    """Nothing is sent."""
    done = await cfai.run("queue", "submit", "@cf/a/b", stdin=lines)
    assert done.code == 2
    assert message in done.err
    assert not fake.requests


async def test_runs_that_failed_or_are_missing(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """Each has a line, and the exit code is 1."""
    errors = [{"code": 5006, "message": "Bad input"}]
    failed = {"id": 0, "external_reference": "x", "success": False, "errors": errors}
    fake.answers({"responses": [failed]})
    lines = b'{"text": ["a"], "external_reference": "x"}\n{"text": ["b"]}\n'
    done = await cfai.run("queue", "submit", "@cf/a/b", stdin=lines)
    assert done.code == 1, done.err
    first, second = map(json.loads, done.lines)
    assert first == failed
    assert (second["external_reference"], second["success"]) == ("1", False)
    assert second["errors"][0]["message"]


async def test_a_batch_that_takes_too_long(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """Exit code 5: it goes on."""
    fake.answers({"status": "queued", "request_id": "r-1"})
    done = await cfai.run("queue", "wait", "@cf/a/b", "r-1", "--timeout", "0")
    assert (done.code, done.out) == (5, b"")
    assert "batch r-1 was not done after 0 s; it goes on" in done.err
