"""`cfai embed`: every text has its vector, in order, several requests at a time."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from cfai.testing import FakeWorkersAI, Recorded, Script

from .conftest import needs_terminals
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


FORMS = {
    "texts.txt": "1\n\n2\n3\n",
    "texts.jsonl": '{"text": "1", "id": "a"}\n{"text": "2", "id": "b"}\n{"text": "3", "id": "c"}\n',
    "texts.csv": "id,text\na,1\nb,2\nc,3\n",
}


@pytest.mark.parametrize("name", FORMS)
async def test_files_of_texts(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, name: str) -> None:
    """The end of its name says how a file is read; ids come along where they are asked for."""
    fake.always.answers_by(vectors)
    path = tmp_path / name
    path.write_text(FORMS[name])
    ids = [] if name.endswith(".txt") else ["--id", "id"]
    done = await cfai.run("embed", str(path), *ids)
    assert (done.code, done.err) == (0, "")
    lines = [json.loads(line) for line in done.lines]
    assert [line["text"] for line in lines] == ["1", "2", "3"]
    assert [line.get("id") for line in lines] == (["a", "b", "c"] if ids else [None] * 3)


async def test_a_file_without_the_column(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    path = tmp_path / "texts.csv"
    path.write_text(FORMS["texts.csv"])
    done = await cfai.run("embed", str(path), "--column", "body")
    assert done.code == 2
    assert "row 1" in done.err
    assert "'body'" in done.err


async def test_into_parquet_and_out_of_it(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    """A table in one file, with ids; and a table with texts is read like any other file."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    fake.always.answers_by(vectors)
    source, target = tmp_path / "texts.parquet", tmp_path / "out.parquet"
    pq.write_table(pa.table({"key": [7, 8], "body": ["1", "2"]}), source)
    done = await cfai.run(
        "embed", str(source), "--column", "body", "--id", "key", "-o", str(target)
    )
    assert (done.code, done.out, done.err) == (0, b"", "")
    rows = pq.read_table(target).to_pylist()
    assert [(row["id"], row["vector"][0]) for row in rows] == [(7, 1.0), (8, 2.0)]


async def test_into_an_array(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    fake.always.answers_by(vectors)
    target = tmp_path / "out.npy"
    done = await cfai.run("embed", "1", "2", "-o", str(target))
    assert done.code == 0
    assert np.load(target).tolist() == [[1.0, np.float32(0.1)], [2.0, np.float32(0.1)]]


async def test_running_it_again_goes_on(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    """With a checkpoint, what is finished is not asked for again."""
    pytest.importorskip("pyarrow")
    fake.always.answers_by(vectors)
    arguments = ("embed", "1", "2", "--checkpoint", str(tmp_path / "state"))
    first = await cfai.run(*arguments)
    second = await cfai.run(*arguments)
    assert first.out == second.out
    assert (first.code, second.code) == (0, 0)
    assert len(fake.requests) == 1


async def test_what_fails_can_be_left_out(cfai: Cfai, fake: FakeWorkersAI) -> None:
    refusal = Script().fails(400, 5006, "Bad input").take()
    fake.always.answers_by(lambda one: refusal if "13" in one.json()["text"] else vectors(one))
    done = await cfai.run("embed", "1", "13", "2", "--skip-failed")
    assert [json.loads(line)["text"] for line in done.lines] == ["1", "2"]


@needs_terminals
async def test_a_person_sees_how_it_goes(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    """How many, how fast, and how many at once, where the vectors go to a file."""
    fake.always.answers_by(vectors)
    target = tmp_path / "out.jsonl"
    async with cfai.at_a_terminal("embed", "1", "2", "-o", str(target)) as terminal:
        await terminal.shows("2/2")
        await terminal.shows("at once")
        assert await terminal.ended() == 0
    assert len(target.read_text().splitlines()) == 2
