"""`cfai queue`: one line per run in, one line per result out."""

import json
from pathlib import Path

from cfai.testing import FakeWorkersAI

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
