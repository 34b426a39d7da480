"""`cfai embed`: every text has its vector, in order, several requests at a time."""

import asyncio
import json
import os
from array import array
from pathlib import Path
from typing import Any

import pytest

from cfai import EmbeddedBatch, Embeddings
from cfai.cli.console import Target
from cfai.cli.embed import write_vectors
from cfai.testing import FakeWorkersAI, Recorded, Script

from .conftest import needs_terminals
from .processes import PATIENCE, Cfai, Done

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
    assert done.err == (
        f"error: {path} has no column 'body' (found: 'id', 'text'); choose one with --column\n"
    )


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


async def test_lines_end_at_newlines_only(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    """As a file and piped alike: Unicode has more characters that may end a line of text."""
    fake.always.answers_by(one_each)
    text = "a\u2028b\nc\x0bd\r\ne\x85f"
    path = tmp_path / "texts.txt"
    path.write_text(text, newline="", encoding="utf-8")
    for done in (await cfai.run("embed", str(path)), await cfai.run("embed", stdin=text.encode())):
        assert told(done) == ["a\u2028b", "c\x0bd", "e\x85f"]
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "a\u2028b"}\n', encoding="utf-8")
    done = await cfai.run("embed", str(path))
    assert told(done) == ["a\u2028b"]


def told(done: Done) -> list[str]:
    """The texts of lines of JSON, which end at newlines, too."""
    return [json.loads(line)["text"] for line in done.out.splitlines()]


def one_each(request: Recorded) -> dict[str, Any]:
    """A vector for each text, whatever it is."""
    count = len(request.json()["text"])
    return {"shape": [count, 1], "data": [[1.0]] * count}


@pytest.mark.parametrize("name", ["in.jsonl", "in.csv"])
async def test_the_output_is_not_the_input(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, name: str
) -> None:
    """A file that is read isn't written over, under whatever name."""
    path = tmp_path / name
    path.write_text(FORMS[f"texts{path.suffix}"])
    (tmp_path / "linked.jsonl").symlink_to(path)
    for target in (path, tmp_path / "linked.jsonl"):
        done = await cfai.run("embed", str(path), "-o", str(target))
        assert done.code == 2
        assert "while it is read" in done.err
    assert path.read_text() == FORMS[f"texts{path.suffix}"]
    assert not fake.requests


async def test_a_long_cell(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    """A text may be longer than what fields of CSV usually are."""
    fake.always.answers_by(one_each)
    path = tmp_path / "long.csv"
    path.write_text("id,text\n1," + "word " * 40_000 + "\n")
    done = await cfai.run("embed", str(path))
    assert (done.code, done.err) == (0, "")
    assert len(done.lines) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.txt"], "error: missing.txt: no such file"),
        (["one", "missing.jsonl"], "error: missing.jsonl: no such file"),
        (["there.txt", "one"], "must be the only argument, got there.txt"),
        (["there.json"], "must end in .txt, .jsonl, .csv, .parquet, got there.json"),
    ],
)
async def test_what_looks_like_a_file(
    cfai: Cfai,
    fake: FakeWorkersAI,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
) -> None:
    """A name of a file is no text; a sentence that ends with one is."""
    monkeypatch.chdir(tmp_path)
    fake.always.answers_by(one_each)
    for name in ("there.txt", "there.json"):
        (tmp_path / name).write_text("1\n")
    done = await cfai.run("embed", *arguments)
    assert done.code == 2
    assert said in done.err
    assert not fake.requests
    assert (await cfai.run("embed", "I read it in missing.txt")).code == 0


async def test_a_line_that_is_no_utf8(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    """It is told by its number, however far into the file."""
    fake.always.answers_by(one_each)
    path = tmp_path / "latin.txt"
    path.write_bytes(b"a\n" * 20_000 + b"caf\xe9\n")
    done = await cfai.run("embed", str(path), "-o", str(tmp_path / "out.jsonl"))
    assert done.code == 2
    assert f"line 20001 of {path} must be UTF-8" in done.err


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("texts.csv", "text,id\n1,a\n\n,b\n2,c\n"),
        ("texts.jsonl", '{"text": "1"}\n{"text": null}\n{"other": 3}\n{"text": "2"}\n'),
    ],
)
async def test_rows_without_a_text_can_be_left_out(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, name: str, content: str
) -> None:
    """With a word on how many; in an array, which has no ids, each has a row nevertheless."""
    np = pytest.importorskip("numpy")
    fake.always.answers_by(vectors)
    path, target = tmp_path / name, tmp_path / "OUT.NPY"
    path.write_text(content)
    assert (await cfai.run("embed", str(path))).code == 2
    done = await cfai.run("embed", str(path), "--skip-failed")
    assert [json.loads(line)["text"] for line in done.lines] == ["1", "2"]
    failed = 1 if name.endswith(".csv") else 2
    assert (done.code, done.err) == (0, f"{failed} of {2 + failed} texts could not be embedded\n")
    await cfai.run("embed", str(path), "--skip-failed", "-o", str(target))
    first = np.load(target)[:, 0]
    assert first[[0, -1]].tolist() == [1.0, 2.0]
    assert np.isnan(first[1:-1]).all()
    assert len(first) == 2 + failed


async def test_nothing_could_be_embedded(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"other": "1"}\n')
    done = await cfai.run("embed", str(path), "--skip-failed")
    assert (done.code, done.out) == (1, b"")
    assert "1 of 1" in done.err


async def test_an_empty_file_gives_an_empty_file(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    """What an earlier command wrote doesn't stay."""
    source, target = tmp_path / "texts.txt", tmp_path / "out.jsonl"
    source.write_text("")
    target.write_text("stale")
    assert (await cfai.run("embed", str(source), "-o", str(target))).code == 0
    assert target.read_text() == ""


@pytest.mark.parametrize("name", ["mixed.parquet", "nulls.parquet"])
async def test_ids_of_two_types(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, name: str) -> None:
    """They are refused when they come, without a trace of them; missing ones are null."""
    pq = pytest.importorskip("pyarrow.parquet")
    fake.always.answers_by(one_each)
    source, target = tmp_path / "texts.jsonl", tmp_path / name
    ids: list[Any] = [*range(200), "x"] if name == "mixed.parquet" else [*[None] * 200, "x"]
    source.write_text("".join(json.dumps({"id": one, "text": "t"}) + "\n" for one in ids))
    done = await cfai.run("embed", str(source), "--id", "id", "-o", str(target))
    if name == "mixed.parquet":
        assert done.code == 2
        assert "the ids must be of one type" in done.err
        assert "hint: with --checkpoint FOLDER" in done.err
        assert [path.name for path in os.scandir(tmp_path)] == ["texts.jsonl"]
    else:
        assert (done.code, done.err) == (0, "")
        assert pq.read_table(target)["id"].to_pylist() == ids


async def test_how_to_go_on(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    """A failure behind what was paid for says where that is."""
    pytest.importorskip("pyarrow")
    refusal = Script().fails(400, 5006, "Bad input").take()
    fake.always.answers_by(lambda one: vectors(one) if len(one.json()["text"]) > 50 else refusal)
    lines = "".join(f"{number}\n" for number in range(150))
    state = str(tmp_path / "state")
    done = await cfai.run(
        "embed", "-o", str(tmp_path / "o.npy"), "--checkpoint", state, stdin=lines.encode()
    )
    assert done.code == 1
    assert f"hint: what is finished is in {state}" in done.err
    assert not (tmp_path / "o.npy").exists()


async def test_a_checkpoint_is_not_for_local(cfai: Cfai, tmp_path: Path) -> None:
    """The local endpoint is another each time."""
    done = await cfai.run("embed", "a", "--local", "--checkpoint", str(tmp_path / "state"))
    assert done.code == 2
    assert "cfai serve" in done.err


async def test_a_checkpoint_without_a_name(cfai: Cfai) -> None:
    """A variable that is not set must not mean the folder where one happens to stand."""
    done = await cfai.run("embed", "a", "--checkpoint", "")
    assert (done.code, done.err) == (2, "error: checkpoint must be the path of a folder, got ''\n")


async def test_a_checkpoint_that_is_a_file(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "texts.txt"
    path.write_text("1\n")
    done = await cfai.run("embed", str(path), "--checkpoint", str(path))
    assert done.code == 2
    assert "can't be used" in done.err


async def test_leaving_while_a_table_is_written(tmp_path: Path) -> None:
    """The cancellation comes out when the thread that writes has ended, and no file is left."""
    pytest.importorskip("pyarrow")

    class Endless:
        """Batches as fast as they are taken."""

        def __aiter__(self) -> "Endless":
            return self

        async def __anext__(self) -> EmbeddedBatch:
            await asyncio.sleep(0)
            rows = Embeddings((1000, 512), array("f", bytes(4 * 512 * 1000)))
            return EmbeddedBatch(0, range(1000), rows, None, [""] * 1000)

    job: Any = Endless()
    for turns in range(9, 15):
        target = Target(tmp_path / "out.parquet")
        running = asyncio.create_task(write_vectors(job, target, with_ids=False))
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not list(os.scandir(tmp_path))


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
