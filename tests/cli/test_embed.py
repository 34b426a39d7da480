"""`cfai embed`: every text has its vector, in order, several requests at a time."""

import asyncio
import json
from typing import Any

from cfai.testing import FakeWorkersAI, Recorded, Script

from .processes import PATIENCE, Cfai

M3 = "@cf/baai/bge-m3"


def vectors(request: Recorded) -> dict[str, Any]:
    """A vector for each text, made of its number."""
    rows = [[float(text), 0.1] for text in request.json()["text"]]
    return {"shape": [len(rows), 2], "data": rows}


async def test_a_line_for_each_text(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """Arguments are texts; numbers have the digits that a 32-bit float has."""
    fake.answers_by(vectors)
    done = await cfai.run("embed", "1", "2")
    assert (done.code, done.err) == (0, "")
    assert [json.loads(line) for line in done.lines] == [
        {"text": "1", "vector": [1.0, 0.100000001]},
        {"text": "2", "vector": [2.0, 0.100000001]},
    ]
    assert fake.requests[0].path.endswith(f"/ai/run/{M3}")


async def test_lines_in_batches(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """Piped lines go in requests as large as the model takes, and come back in their order."""
    fake.always.answers_by(vectors)
    lines = "".join(f"{number}\n\n" for number in range(250))
    done = await cfai.run("embed", stdin=lines.encode())
    assert [json.loads(line)["text"] for line in done.lines] == [str(n) for n in range(250)]
    assert sorted(len(one.json()["text"]) for one in fake.requests) == [50, 100, 100]


async def test_requests_overlap(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """The second request is there before the first is answered."""
    both = asyncio.Event()
    for _ in range(2):
        fake.answers({"shape": [32, 1], "data": [[1.0]] * 32}, after=both)
    lines = "".join(f"{number}\n" for number in range(64))
    async with cfai.running("embed", "-m", "@cf/qwen/qwen3-embedding-0.6b") as running:
        ending = asyncio.create_task(running.done(lines.encode()))
        await fake.until(lambda: len(fake.requests) == 2, within=PATIENCE)
        both.set()
        done = await ending
    assert len(done.lines) == 64


async def test_what_is_done_is_out_before_a_failure(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """A refusal ends the command; the lines before it were written."""
    first = asyncio.Event()
    refusal = Script().fails(400, 5006, "Bad input", after=first).take()
    fake.always.answers_by(lambda one: vectors(one) if len(one.json()["text"]) > 50 else refusal)
    lines = "".join(f"{number}\n" for number in range(150))
    async with cfai.running("embed") as running:
        assert running.process.stdin is not None
        assert running.process.stdout is not None
        running.process.stdin.write(lines.encode())
        running.process.stdin.close()
        async with asyncio.timeout(PATIENCE):
            for number in range(100):
                line = await running.process.stdout.readline()
                assert json.loads(line)["vector"][0] == number
        first.set()
        done = await running.done()
    assert (done.code, done.out) == (1, b"")


async def test_nothing_to_embed(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """No texts, or an empty one, are misuse; nothing is sent."""
    for arguments in (("embed",), ("embed", "one", "")):
        done = await cfai.run(*arguments, stdin=b"\n \n")
        assert done.code == 2
        assert done.err.startswith("error: ")
    assert not fake.requests
