"""`cfai embed`: texts and files in, vectors in order out, several requests at once."""

import asyncio
import datetime as dt
import gzip
import io
import json
import os
import re
from array import array
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from cfai import EmbeddedBatch, Embeddings
from cfai.cli.console import Target, show_job_progress
from cfai.cli.embed import Source, Writer
from cfai.testing import FakeWorkersAI, Recorded, Script

from .conftest import needs_terminals
from .processes import PATIENCE, Cfai, Done

M3 = "@cf/baai/bge-m3"


def vectors(request: Recorded) -> dict[str, Any]:
    """Answer with a vector for each text, made of the number in it."""
    rows = [[float(text), 0.1] for text in request.json()["text"]]
    return {"shape": [len(rows), 2], "data": rows}


async def test_arguments_are_texts(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """Each argument is a text; numbers have nine digits, as a 32-bit float needs."""
    fake.answers_by(vectors)
    done = await cfai.run("embed", "1", "2")
    assert (done.code, done.err) == (0, "")
    assert [json.loads(line) for line in done.lines] == [
        {"text": "1", "vector": [1.0, 0.100000001]},
        {"text": "2", "vector": [2.0, 0.100000001]},
    ]
    assert fake.requests[0].path.endswith(f"/ai/run/{M3}")


async def test_piped_lines_are_sent_in_batches(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """Requests are as large as the model allows, and lines stay in order."""
    fake.always.answers_by(vectors)
    lines = "".join(f"{number}\n\n" for number in range(250))
    done = await cfai.run("embed", stdin=lines.encode())
    assert [json.loads(line)["text"] for line in done.lines] == [str(n) for n in range(250)]
    assert sorted(len(request.json()["text"]) for request in fake.requests) == [50, 100, 100]


async def test_requests_overlap(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """The second request is sent before the first is answered."""
    both = asyncio.Event()
    for _ in range(2):
        fake.answers({"shape": [32, 1], "data": [[1.0]] * 32}, after=both)
    lines = "".join(f"{number}\n" for number in range(64))
    async with cfai.running(
        *("embed", "-m", "@cf/qwen/qwen3-embedding-0.6b"), stdin=asyncio.subprocess.PIPE
    ) as running:
        ending = asyncio.create_task(running.done(lines.encode()))
        await fake.until(lambda: len(fake.requests) == 2, within=PATIENCE)
        both.set()
        done = await ending
    assert len(done.lines) == 64


async def test_finished_lines_are_printed_before_a_failure(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """A refusal ends the command after the finished lines are printed."""
    first = asyncio.Event()
    refusal = Script().fails(400, 5006, "Bad input", after=first).take()
    fake.always.answers_by(
        lambda request: vectors(request) if len(request.json()["text"]) > 50 else refusal
    )
    lines = "".join(f"{number}\n" for number in range(150))
    async with cfai.running("embed", stdin=asyncio.subprocess.PIPE) as running:
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
    """No texts, or an empty one, are a usage error; nothing is sent."""
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
    """The suffix selects the format; --id adds ids."""
    fake.always.answers_by(vectors)
    path = tmp_path / name
    path.write_text(FORMS[name])
    ids = [] if name.endswith(".txt") else ["--id-column", "id"]
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


async def test_parquet_in_and_out(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    """A table is read like other files, and written with ids."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    fake.always.answers_by(vectors)
    source, target = tmp_path / "texts.parquet", tmp_path / "out.parquet"
    pq.write_table(pa.table({"key": [7, 8], "body": ["1", "2"]}), source)
    done = await cfai.run(
        "embed", str(source), "--column", "body", "--id-column", "key", "-o", str(target)
    )
    assert (done.code, done.out, done.err) == (0, b"", "")
    rows = pq.read_table(target).to_pylist()
    assert [(row["id"], row["vector"][0]) for row in rows] == [(7, 1.0), (8, 2.0)]


@pytest.mark.parametrize("suffix", [".arrow", ".feather", ".arrows"])
async def test_arrow_output(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, suffix: str) -> None:
    """With the columns of Parquet files."""
    pa = pytest.importorskip("pyarrow")
    fake.always.answers_by(vectors)
    target = tmp_path / f"out{suffix}"
    done = await cfai.run("embed", "1", "2", "-o", str(target))
    assert (done.code, done.out, done.err) == (0, b"", "")
    data = target.read_bytes()
    reader = pa.ipc.open_stream(data) if suffix == ".arrows" else pa.ipc.open_file(data)
    rows = reader.read_all().to_pylist()
    assert [(row["id"], row["vector"][0], row["error"]) for row in rows] == [
        (0, 1.0, None),
        (1, 2.0, None),
    ]


async def test_ids_that_json_does_not_have_are_text(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    """Such as dates of a Parquet file."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    fake.always.answers_by(vectors)
    source = tmp_path / "texts.parquet"
    pq.write_table(pa.table({"day": [dt.date(2026, 11, 29)], "text": ["1"]}), source)
    done = await cfai.run("embed", str(source), "--id-column", "day")
    assert (done.code, json.loads(done.out)["id"]) == (0, "2026-11-29")


async def test_lines_before_a_failure_are_kept(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    """Beside the file of an earlier run, which stays."""
    refusal = Script().fails(429, 4006, "you have used up your daily free allocation").take()
    fake.always.answers_by(
        lambda request: refusal if "149" in request.json()["text"] else vectors(request)
    )
    target = tmp_path / "out.jsonl"
    target.write_text("earlier\n")
    lines = "".join(f"{number}\n" for number in range(150))
    done = await cfai.run("embed", "-o", str(target), stdin=lines.encode())
    assert done.code == 3
    assert target.read_text() == "earlier\n"
    kept = (tmp_path / "out.jsonl.partial").read_text().splitlines()
    assert [json.loads(line)["text"] for line in kept] == [str(number) for number in range(100)]


async def test_npy_output(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    fake.always.answers_by(vectors)
    target = tmp_path / "out.npy"
    done = await cfai.run("embed", "1", "2", "-o", str(target))
    assert done.code == 0
    assert np.load(target).tolist() == [[1.0, np.float32(0.1)], [2.0, np.float32(0.1)]]


LONG = " ".join(f"Sentence {number} has some words." for number in range(60))


@pytest.mark.parametrize("suffix", [None, ".jsonl", ".parquet"])
async def test_long_texts_in_pieces(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, suffix: str | None
) -> None:
    """Each row says which part of its text it is."""
    fake.always.answers_by(one_each)
    source, target = tmp_path / "in.csv", tmp_path / f"out{suffix}"
    source.write_text(f"id,text\na,short\nb,{LONG}\n")
    to = [] if suffix is None else ["-o", str(target)]
    done = await cfai.run(
        *("embed", str(source), "--id-column", "id", "--long", "split", "--piece-tokens", "64"), *to
    )
    assert (done.code, done.err) == (0, "")
    if suffix == ".parquet":
        rows = pytest.importorskip("pyarrow.parquet").read_table(target).to_pylist()
    else:
        written = done.out if suffix is None else target.read_bytes()
        rows = [json.loads(line) for line in written.splitlines()]
        assert [row["text"] for row in rows if row["id"] == "b"] == [
            LONG[row["start"] : row["end"]] for row in rows if row["id"] == "b"
        ]
    assert [row["piece"] for row in rows if row["id"] == "b"] == list(range(len(rows) - 1))
    assert (rows[0]["id"], rows[0]["start"], rows[0]["end"]) == ("a", 0, 5)
    assert len(rows) > 5


async def test_one_vector_for_each_long_text(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    fake.always.answers_by(one_each)
    command = ("embed", LONG, "b", "--long", "split", "--piece-tokens", "64")
    done = await cfai.run(*command, "--pool", "mean")
    assert [json.loads(line) for line in done.lines] == [
        {"text": LONG, "vector": [1.0]},
        {"text": "b", "vector": [1.0]},
    ]
    refused = await cfai.run(*command, "-o", str(tmp_path / "x.npy"))
    assert refused.code == 2
    assert "would not say which texts its rows belong to: pool them (mean)" in refused.err
    done = await cfai.run(*command[:3], "--pool", "mean")
    assert (done.code, done.err) == (2, "error: --pool needs --long split, got --long warn\n")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--pool", "mean"), "--pool needs --long split, got --long warn"),
        (("--piece-tokens", "64"), "--piece-tokens needs --long split, got --long warn"),
        (
            ("--long", "fail", "--pool", "mean"),
            "--pool needs --long split, got --long fail",
        ),
        (
            ("--long", "split", "--piece-tokens", "1"),
            "--piece-tokens must be a whole number, 16 or more, got 1",
        ),
        (
            ("--long", "split", "--piece-tokens", "9999"),
            f"--piece-tokens must be at most 8192 for {M3}, got 9999",
        ),
        (
            ("--long", "split", "-m", "@cf/x/y"),
            "--long split needs --piece-tokens for @cf/x/y: how many tokens it reads is not known",
        ),
    ],
)
async def test_options_have_their_names_of_the_command_line(
    cfai: Cfai, fake: FakeWorkersAI, arguments: tuple[str, ...], problem: str
) -> None:
    done = await cfai.run("embed", "1", *arguments)
    assert (done.code, done.err) == (2, f"error: {problem}\n")
    assert not fake.requests


@pytest.mark.parametrize("long", ["warn", "fail"])
async def test_what_is_said_of_long_texts_is_no_python(
    cfai: Cfai, fake: FakeWorkersAI, long: str
) -> None:
    fake.always.answers({"shape": [1, 1], "data": [[1.0]]})
    model = ("-m", "@cf/baai/bge-base-en-v1.5")
    done = await cfai.run("embed", *model, "--long", long, stdin=b"word " * 1000)
    assert "tokens" in done.err
    assert "long=" not in done.err


async def test_a_checkpoint_resumes(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    """With a checkpoint, finished texts are not sent again."""
    pytest.importorskip("pyarrow")
    fake.always.answers_by(vectors)
    arguments = ("embed", "1", "2", "--checkpoint", str(tmp_path / "state"))
    first = await cfai.run(*arguments)
    second = await cfai.run(*arguments)
    assert first.out == second.out
    assert (first.code, second.code) == (0, 0)
    assert len(fake.requests) == 1


async def test_skip_failed(cfai: Cfai, fake: FakeWorkersAI) -> None:
    refusal = Script().fails(400, 5006, "Bad input").take()
    fake.always.answers_by(
        lambda request: refusal if "13" in request.json()["text"] else vectors(request)
    )
    done = await cfai.run("embed", "1", "13", "2", "--skip-failed")
    assert [json.loads(line)["text"] for line in done.lines] == ["1", "2"]


async def test_failures_are_listed(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    """By row and id in a file, with the reason; the first three also on standard error."""
    refusal = Script().fails(400, 5006, "Bad input").take()
    fake.always.answers_by(
        lambda request: refusal if "13" in request.json()["text"] else vectors(request)
    )
    source, target = tmp_path / "in.csv", tmp_path / "out.parquet"
    source.write_text("id,text\n" + "".join(f"k{n},{13 if n % 2 else n}\n" for n in range(9)))
    done = await cfai.run(
        "embed", str(source), "--id-column", "id", "--skip-failed", "-o", str(target)
    )
    lines = (tmp_path / "out.parquet.failed.jsonl").read_text().splitlines()
    failures = [json.loads(line) for line in lines]
    assert [row["id"] for row in failures] == ["k1", "k3", "k5", "k7"]
    assert [row["row"] for row in failures] == [2, 4, 6, 8]
    assert {row["reason"] for row in failures} == {"400 (code 5006): Bad input"}
    *rows, summary = done.err.splitlines()
    assert [row.partition(":")[0] for row in rows] == [
        f"row 2 of {source} (id 'k1')",
        f"row 4 of {source} (id 'k3')",
        f"row 6 of {source} (id 'k5')",
    ]
    assert summary == f"4 of 9 texts could not be embedded; see {target}.failed.jsonl"
    table = pytest.importorskip("pyarrow.parquet").read_table(target).to_pylist()
    errors = [None, "400 (code 5006): Bad input"]
    assert [row["error"] for row in table] == [errors[n % 2] for n in range(9)]

    fake.always.answers_by(vectors)  # a later run without failures leaves no old list
    done = await cfai.run("embed", str(source), "--skip-failed", "-o", str(target))
    assert not (tmp_path / "out.parquet.failed.jsonl").exists()


async def test_a_failure_names_its_file(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    """And its row there; also after a file without rows, and of the first and the last row."""
    refusal = Script().fails(400, 5006, "Bad input").take()
    fake.always.answers_by(
        lambda request: refusal if "13" in request.json()["text"] else vectors(request)
    )
    contents = {"a.txt": "1\n13\n", "b.txt": "", "c.csv": "text\n13\n2\n", "d.jsonl": '"13"\n'}
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    target = tmp_path / "out.jsonl"
    paths = [str(tmp_path / name) for name in contents]
    done = await cfai.run("embed", *paths, "--skip-failed", "-o", str(target))
    lines = (tmp_path / "out.jsonl.failed.jsonl").read_text().splitlines()
    failures = [json.loads(line) for line in lines]
    assert [(row["row"], Path(row["file"]).name, row["file_row"]) for row in failures] == [
        (2, "a.txt", 2),
        (3, "c.csv", 1),
        (5, "d.jsonl", 1),
    ]
    assert f"row 1 of {paths[3]}: " in done.err


@pytest.mark.parametrize("given", ["files", "standard input", "texts"])
async def test_a_failure_that_ends_the_command_names_its_row(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, given: str
) -> None:
    """As `--skip-failed` does: with the file, and the id if there is a column of ids."""
    refusal = Script().fails(400, 5006, "Bad input").take()
    fake.always.answers_by(
        lambda request: refusal if "13" in request.json()["text"] else vectors(request)
    )
    contents = {"a.csv": "id,text\nx,1\n", "b.txt": "", "c.csv": "id,text\ny,2\nz,13\n"}
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    arguments, stdin, row = {
        "files": (
            ("--id-column", "id", *(str(tmp_path / name) for name in contents)),
            b"",
            f"row 2 of {tmp_path / 'c.csv'} (id 'z')",
        ),
        "standard input": (("-",), b"1\n\n13\n2\n", "row 2 of standard input"),
        "texts": (("1", "2", "13"), b"", "text 3"),
    }[given]
    done = await cfai.run("embed", *arguments, stdin=stdin)
    assert done.code == 1
    assert f"\nhint: it is {row}\n" in done.err
    skipped = await cfai.run("embed", *arguments, "--skip-failed", stdin=stdin)
    assert f"{row}: 400 (code 5006): Bad input\n" in skipped.err


@pytest.mark.parametrize(
    ("options", "row"),
    [
        (["fail"], "row 2 of {}"),
        (["split", "--piece-tokens", "64"], "row 2 of {}, characters 1"),
    ],
)
async def test_a_long_text_that_ends_the_command_names_its_row(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, options: list[str], row: str
) -> None:
    """With `--long split`, also the piece."""
    refusal = Script().fails(400, 5006, "Bad input").take()
    fake.always.answers_by(
        lambda request: refusal if "59" in f"{request.json()['text']}" else one_each(request)
    )
    path = tmp_path / "long.csv"
    path.write_text(f"id,text\nx,1\ny,{LONG}\n")
    model = ("-m", "@cf/baai/bge-small-en-v1.5")
    done = await cfai.run("embed", str(path), *model, "--long", *options)
    assert done.code != 0
    assert f"\nhint: it is {row.format(path)}" in done.err


async def test_failed_texts_are_embedded_again(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    """Only those are sent again, and the output is complete."""
    refusal = Script().fails(400, 5006, "Bad input").take()
    fake.always.answers_by(
        lambda request: refusal if "13" in request.json()["text"] else vectors(request)
    )
    target = tmp_path / "out.jsonl"
    command = ("embed", "1", "13", "2", "--checkpoint", str(tmp_path / "state"), "-o", str(target))
    await cfai.run(*command, "--skip-failed")
    fake.always.answers_by(vectors)
    before = len(fake.requests)
    done = await cfai.run(*command, "--skip-failed")
    assert (done.code, len(fake.requests)) == (0, before)  # the error is on record
    done = await cfai.run(*command, "--retry-failed")
    assert (done.code, done.err) == (0, "")
    assert [request.json()["text"] for request in fake.requests[before:]] == [["13"]]
    assert [json.loads(line)["text"] for line in target.read_text().splitlines()] == [
        "1",
        "13",
        "2",
    ]
    done = await cfai.run("embed", "1", "--retry-failed")
    assert (done.code, done.err) == (
        2,
        "error: --retry-failed needs the --checkpoint of the earlier run\n",
    )


async def test_a_retry_needs_an_existing_checkpoint(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    """With a new one, all texts would be paid for once more."""
    path = tmp_path / "typo"
    done = await cfai.run("embed", "1", "--retry-failed", "--checkpoint", str(path))
    assert done.code == 2
    assert f"there is no file {path}" in done.err
    assert not path.exists()
    assert not fake.requests


async def test_a_pipe_has_any_format(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """Also compressed; `-` stands for it."""
    fake.always.answers_by(vectors)
    table = b"id;text\nk;1\n"
    for data in (table, gzip.compress(table)):
        done = await cfai.run("embed", "-", "--format", "csv", "--id-column", "id", stdin=data)
        assert [json.loads(line)["id"] for line in done.lines] == ["k"]
    done = await cfai.run("embed", "--format", "json", stdin=b'["1", "2"]')
    assert read_texts(done) == ["1", "2"]


async def test_parquet_from_a_pipe(cfai: Cfai, fake: FakeWorkersAI) -> None:
    """It is kept in memory, since its index is at the end."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    fake.always.answers_by(vectors)
    file = io.BytesIO()
    pq.write_table(pa.table({"text": ["1", "2"]}), file)
    for data in (file.getvalue(), gzip.compress(file.getvalue())):
        done = await cfai.run("embed", "--format", "parquet", stdin=data)
        assert read_texts(done) == ["1", "2"]


async def test_several_files(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    fake.always.answers_by(vectors)
    for name, content in FORMS.items():
        (tmp_path / name).write_text(content)
    done = await cfai.run("embed", str(tmp_path / "*.csv"), str(tmp_path / "texts.txt"))
    assert read_texts(done) == ["1", "2", "3"] * 2


async def test_an_unknown_output_format_is_refused(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    """Before anything is sent."""
    for name in ("out.csv", "out"):
        done = await cfai.run("embed", "1", "-o", str(tmp_path / name))
        assert done.code == 2
        suffixes = ".jsonl, .ndjson, .parquet, .arrow, .feather, .arrows, .npy"
        assert f"{name} must end in {suffixes}" in done.err
    assert fake.requests == []


async def test_lines_end_at_newlines_only(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    """Other line breaks of Unicode do not end a line, in files and in pipes."""
    fake.always.answers_by(one_each)
    text = "a\u2028b\nc\x0bd\r\ne\x85f"
    path = tmp_path / "texts.txt"
    path.write_text(text, newline="", encoding="utf-8")
    for done in (await cfai.run("embed", str(path)), await cfai.run("embed", stdin=text.encode())):
        assert read_texts(done) == ["a\u2028b", "c\x0bd", "e\x85f"]
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "a\u2028b"}\n', encoding="utf-8")
    done = await cfai.run("embed", str(path))
    assert read_texts(done) == ["a\u2028b"]


def read_texts(done: Done) -> list[str]:
    """Give the texts of lines of JSON."""
    return [json.loads(line)["text"] for line in done.out.splitlines()]


def one_each(request: Recorded) -> dict[str, Any]:
    """Answer with a vector for each text."""
    count = len(request.json()["text"])
    return {"shape": [count, 1], "data": [[1.0]] * count}


@pytest.mark.parametrize("name", ["in.jsonl", "in.ndjson"])
async def test_the_input_file_is_not_overwritten(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, name: str
) -> None:
    """The input file is not overwritten, also through a link."""
    path = tmp_path / name
    path.write_text(FORMS["texts.jsonl"])
    (tmp_path / "linked.jsonl").symlink_to(path)
    for target in (path, tmp_path / "linked.jsonl"):
        done = await cfai.run("embed", str(path), "-o", str(target))
        assert done.code == 2
        assert "while it is read" in done.err
    assert path.read_text() == FORMS["texts.jsonl"]
    assert not fake.requests


async def test_long_csv_cells(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    """A cell may be longer than the default limit of the csv module."""
    fake.always.answers_by(one_each)
    path = tmp_path / "long.csv"
    path.write_text("id,text\n1," + "word " * 40_000 + "\n")
    done = await cfai.run("embed", str(path))
    assert (done.code, done.err) == (0, "")
    assert len(done.lines) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.txt"], "error: missing.txt: no such file"),
        (["one", "missing.jsonl"], "error: missing.jsonl: no such file"),
        (["there.txt", "one"], "must be texts or files, not both: 'one' is no file"),
        (["there.doc"], "there.doc must end in .txt, .csv, .tsv, .jsonl, .ndjson, .json, .parquet"),
    ],
)
async def test_arguments_that_look_like_files(
    cfai: Cfai,
    fake: FakeWorkersAI,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    """A file name is not a text, but a sentence that ends with one is."""
    monkeypatch.chdir(tmp_path)
    fake.always.answers_by(one_each)
    for name in ("there.txt", "there.doc"):
        (tmp_path / name).write_text("1\n")
    done = await cfai.run("embed", *arguments)
    assert done.code == 2
    assert message in done.err
    assert not fake.requests
    assert (await cfai.run("embed", "I read it in missing.txt")).code == 0


async def test_lines_in_another_encoding(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path) -> None:
    """The encoding is detected at the beginning; later, the error has the number of the line."""
    fake.always.answers_by(one_each)
    path = tmp_path / "latin.txt"
    path.write_bytes((b"a" * 1000 + b"\n") * 300 + b"caf\xe9\n")
    done = await cfai.run("embed", str(path), "-o", str(tmp_path / "out.jsonl"))
    assert done.code == 2
    assert f"line 301 of {path} is not UTF-8 text" in done.err
    assert "name the encoding of the file with --encoding" in done.err


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("texts.csv", "text,id\n1,a\n\n,b\n2,c\n"),
        ("texts.jsonl", '{"text": "1"}\n{"text": null}\n{"other": 3}\n{"text": "2"}\n'),
    ],
)
async def test_skip_failed_skips_rows_without_a_text(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, name: str, content: str
) -> None:
    """Their number is printed; in .npy they have rows of NaN."""
    np = pytest.importorskip("numpy")
    fake.always.answers_by(vectors)
    path, target = tmp_path / name, tmp_path / "OUT.NPY"
    path.write_text(content)
    assert (await cfai.run("embed", str(path))).code == 2
    done = await cfai.run("embed", str(path), "--skip-failed")
    assert [json.loads(line)["text"] for line in done.lines] == ["1", "2"]
    failed = 1 if name.endswith(".csv") else 2
    reason = "the text is missing"
    lines = [f"row {row} of {path}: {reason}" for row in range(2, 2 + failed)]
    lines.append(f"{failed} of {2 + failed} texts could not be embedded")
    assert (done.code, done.err.splitlines()) == (0, lines)
    await cfai.run("embed", str(path), "--skip-failed", "-o", str(target))
    first = np.load(target)[:, 0]
    assert first[[0, -1]].tolist() == [1.0, 2.0]
    assert np.isnan(first[1:-1]).all()
    assert len(first) == 2 + failed


@pytest.mark.parametrize(
    ("name", "content", "reasons"),
    [
        (
            "texts.jsonl",
            '"1"\n7\n{"text": 8}\nnull\n["x"]\n"2"\n',
            [
                "the row must be an object or a string, got 7",
                "'text' must be a string, got 8",
                "the text is missing",
                'the row must be an object or a string, got ["x"]',
            ],
        ),
        (
            "texts.json",
            '["1", 3, null, "2"]',
            ["the row must be an object or a string, got 3", "the text is missing"],
        ),
        (
            "texts.json",
            '[{"text": "1"}, {"text": ["a"]}, {"id": 3}, {"text": "2"}]',
            ["'text' must be a string, got [\"a\"]", "the text is missing"],
        ),
    ],
)
async def test_skip_failed_skips_what_is_no_text(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, name: str, content: str, reasons: list[str]
) -> None:
    """By row, with what was found; without it, the error names the row, and what to do."""
    fake.always.answers_by(vectors)
    path, target = tmp_path / name, tmp_path / "out.jsonl"
    path.write_text(content)
    options = ("--skip-failed", "-o", str(target))
    for ids in ((), ("--id-column", "id")):
        done = await cfai.run("embed", str(path), *ids, *options)
        assert done.code == 0
        assert done.err.startswith(f"row 2 of {path}{' (id None)' if ids else ''}: {reasons[0]}\n")
        lines = (tmp_path / "out.jsonl.failed.jsonl").read_text().splitlines()
        failures = [json.loads(line) for line in lines]
        assert [failure["reason"] for failure in failures] == reasons
        assert [failure["row"] for failure in failures] == [n + 2 for n in range(len(reasons))]
        assert [json.loads(line)["text"] for line in target.read_text().splitlines()] == ["1", "2"]
    done = await cfai.run("embed", str(path))
    assert (done.code, read_texts(done)) == (2, ["1"])
    assert re.match(
        rf"error: .*{'line' if name.endswith('l') else 'row'} 2 of .* got .*; ", done.err
    )


async def test_skip_failed_fails_if_all_texts_fail(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"other": "1"}\n')
    done = await cfai.run("embed", str(path), "--skip-failed")
    assert (done.code, done.out) == (1, b"")
    assert "1 of 1" in done.err


EMPTY = {
    "lines.txt": b"\n \n",
    "nothing.jsonl": b"",
    "nothing.json": b"",
    "list.json": b"[]",
    "header.csv": b"id,text\n",
    "packed.csv.gz": gzip.compress(b""),
}


@pytest.mark.parametrize("name", [*EMPTY, "rows.parquet", "-"])
async def test_files_without_texts_are_named(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, name: str
) -> None:
    """An error if no file has any, and the output stays as it was; otherwise a notice."""
    fake.always.answers_by(vectors)
    path, full, target = tmp_path / name, tmp_path / "full.txt", tmp_path / "out.jsonl"
    if name == "rows.parquet":
        pq = pytest.importorskip("pyarrow.parquet")
        pq.write_table(pytest.importorskip("pyarrow").table({"text": []}), path)
    else:
        path.write_bytes(EMPTY.get(name, b""))
    full.write_text("1\n")
    target.write_text("stale")
    argument, shown = ("-", "standard input") if name == "-" else (str(path), path)
    done = await cfai.run("embed", argument, "-o", str(target))
    assert (done.code, done.err) == (2, f"error: there are no texts in {shown}\n")
    assert target.read_text() == "stale"
    assert not target.with_name("out.jsonl.partial").exists()
    for arguments in ((argument, str(full)), (str(full), argument)):
        done = await cfai.run("embed", *arguments, "-o", str(target))
        assert (done.code, done.err) == (0, f"no texts in {shown}\n")
        assert len(target.read_text().splitlines()) == 1


async def test_many_files_without_texts_are_counted(cfai: Cfai, tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text("")
    done = await cfai.run("embed", str(tmp_path / "*.txt"))
    names = ", ".join(f"{tmp_path / f'{number}.txt'}" for number in range(3))
    assert (done.code, done.err) == (2, f"error: there are no texts in {names} and 2 more\n")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("a.txt", "--column", "text"), "--column has no meaning for txt"),
        (("a.txt", "--id-column", "id"), "--id-column has no meaning for txt"),
        (("a.txt", "--delimiter", ";"), "--delimiter has no meaning for txt"),
        (("-", "--column", "text"), "--column has no meaning for txt"),
        (("a.json", "--delimiter", ";"), "--delimiter has no meaning for json"),
        (("a.json", "a.jsonl", "--delimiter", ";"), "--delimiter has no meaning for json, jsonl"),
        (("a.parquet", "--encoding", "utf-8"), "--encoding has no meaning for parquet"),
        (("a text", "--column", "text"), "--column has no meaning for texts as arguments"),
        (("a text", "--encoding", "utf-8"), "--encoding has no meaning for texts as arguments"),
        (("a.csv", "--delimiter", "tab"), r"--delimiter must be one character, or \t for a tab"),
    ],
)
async def test_options_without_a_meaning_are_refused(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, arguments: tuple[str, ...], problem: str
) -> None:
    """By name; an option that one of the files needs is right."""
    for name in ("a.txt", "a.json", "a.jsonl", "a.parquet", "a.csv"):
        (tmp_path / name).write_text('["1"]')
    paths = [str(tmp_path / name) if name.startswith("a.") else name for name in arguments]
    done = await cfai.run("embed", *paths, stdin=b"1\n")
    assert done.code == 2
    assert done.err.startswith(f"error: {problem}")
    assert not fake.requests


async def test_an_option_that_one_of_the_files_needs_is_right(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    fake.always.answers_by(vectors)
    (tmp_path / "a.txt").write_text("1\n")
    (tmp_path / "b.csv").write_text("body\ttext\n2\t3\n")
    paths = [str(tmp_path / name) for name in ("a.txt", "b.csv")]
    done = await cfai.run("embed", *paths, "--column", "body", "--delimiter", r"\t")
    assert (done.code, read_texts(done)) == (0, ["1", "2"])


@pytest.mark.parametrize("name", ["mixed.parquet", "nulls.parquet"])
async def test_ids_of_two_types(cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, name: str) -> None:
    """They are refused, and the rows before are kept; missing ids are null."""
    pq = pytest.importorskip("pyarrow.parquet")
    fake.always.answers_by(one_each)
    source, target = tmp_path / "texts.jsonl", tmp_path / name
    ids: list[Any] = [*range(200), "x"] if name == "mixed.parquet" else [*[None] * 200, "x"]
    source.write_text("".join(json.dumps({"id": key, "text": "t"}) + "\n" for key in ids))
    done = await cfai.run("embed", str(source), "--id-column", "id", "-o", str(target))
    if name == "mixed.parquet":
        assert done.code == 2
        assert "the ids must be of one type" in done.err
        assert "hint: with --checkpoint FILE" in done.err
        assert f"hint: 200 of 201 finished rows are in {target}.partial" in done.err
        names = sorted(path.name for path in os.scandir(tmp_path))
        assert names == ["mixed.parquet.partial", "texts.jsonl"]
        assert pq.read_table(f"{target}.partial")["id"].to_pylist() == [*range(200)]
    else:
        assert (done.code, done.err) == (0, "")
        assert pq.read_table(target)["id"].to_pylist() == ids


async def test_a_failure_says_how_to_resume(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    """The hint names the checkpoint."""
    pytest.importorskip("pyarrow")
    refusal = Script().fails(400, 5006, "Bad input").take()
    fake.always.answers_by(
        lambda request: vectors(request) if len(request.json()["text"]) > 50 else refusal
    )
    lines = "".join(f"{number}\n" for number in range(150))
    state = str(tmp_path / "state")
    done = await cfai.run(
        "embed", "-o", str(tmp_path / "o.npy"), "--checkpoint", state, stdin=lines.encode()
    )
    assert done.code == 1
    assert f"hint: what is finished is in {state}" in done.err
    assert not (tmp_path / "o.npy").exists()


async def test_what_libraries_are_needed_for(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    """Only tables: without pyarrow nothing is sent for them. Arrays and lines need none."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    for library in ("numpy", "pyarrow"):
        (hidden / f"{library}.py").write_text("raise ImportError('hidden by a test')")
    path = os.pathsep.join([str(hidden), os.environ.get("PYTHONPATH", "")])
    without = Cfai({**cfai.variables, "PYTHONPATH": path})
    done = await without.run("embed", "1", "--output", str(tmp_path / "v.parquet"))
    assert done.code == 2
    assert "writing .parquet needs an extra: pip install 'cfai-sdk[arrow]'" in done.err
    assert not fake.requests
    fake.always.answers_by(vectors)
    for name in ("v.jsonl", "v.npy"):
        done = await without.run("embed", "1", "--output", str(tmp_path / name))
        assert (done.code, done.err) == (0, "")
    assert json.loads((tmp_path / "v.jsonl").read_text())["text"] == "1"
    assert (tmp_path / "v.npy").read_bytes().startswith(b"\x93NUMPY")


async def test_checkpoint_and_local_exclude_each_other(cfai: Cfai, tmp_path: Path) -> None:
    """--local starts a new endpoint each time."""
    done = await cfai.run("embed", "a", "--local", "--checkpoint", str(tmp_path / "state"))
    assert done.code == 2
    assert "cfai serve" in done.err


async def test_a_checkpoint_without_a_name(cfai: Cfai) -> None:
    """An empty name, as of an unset variable, must not mean any file."""
    done = await cfai.run("embed", "a", "--checkpoint", "")
    assert (done.code, done.err) == (2, "error: checkpoint must be the path of a file, got ''\n")


async def test_a_checkpoint_that_is_another_file(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path
) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("1\n")
    done = await cfai.run("embed", str(path), "--checkpoint", str(path))
    assert done.code == 2
    assert "texts.txt is not a checkpoint" in done.err
    assert path.read_text() == "1\n"


async def test_cancelling_while_parquet_is_written(tmp_path: Path) -> None:
    """The cancellation waits for the writing thread, and what was embedded is kept."""
    pq = pytest.importorskip("pyarrow.parquet")
    full = asyncio.Event()

    async def endless() -> AsyncIterator[EmbeddedBatch]:
        """Batches as fast as they are taken; ten are written together."""
        for number in count(1):
            if number == 10:
                full.set()
            await asyncio.sleep(0)
            rows = Embeddings((1000, 512), array("f", bytes(4 * 512 * 1000)))
            yield EmbeddedBatch(0, range(1000), rows, None, [""] * 1000)

    job: Any = endless
    for turns in range(6):
        full.clear()
        target = Target(tmp_path / "out.parquet")
        running = asyncio.create_task(Writer(target, Source(job())).write(job()))
        await full.wait()
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await running
        assert [path.name for path in os.scandir(tmp_path)] == ["out.parquet.partial"]
        rows = pq.read_table(tmp_path / "out.parquet.partial").num_rows
        assert rows in (9000, 10_000, 11_000)
        assert caught.value.__notes__[-1].startswith(f"{rows} of {rows} finished rows are in ")
        (tmp_path / "out.parquet.partial").unlink()


def test_nothing_is_counted_without_a_terminal() -> None:
    """Counting reads a whole file."""

    def count() -> int:
        raise AssertionError("the rows were counted")

    with show_job_progress(count, to_file=True):
        pass


@needs_terminals
@pytest.mark.parametrize("given", ["texts", "file"])
async def test_progress_at_a_terminal(
    cfai: Cfai, fake: FakeWorkersAI, tmp_path: Path, given: str
) -> None:
    """The bar shows texts, speed and concurrency if the vectors go to a file."""
    fake.always.answers_by(vectors)
    target = tmp_path / "out.jsonl"
    source = tmp_path / "texts.txt"
    source.write_text("1\n2\n")
    arguments = ["1", "2"] if given == "texts" else [str(source)]
    async with cfai.at_a_terminal("embed", *arguments, "-o", str(target)) as terminal:
        await terminal.shows("2/2")
        await terminal.shows("at once")
        assert await terminal.ended() == 0
    assert len(target.read_text().splitlines()) == 2


@pytest.mark.parametrize("options", [(), ("--skip-failed",)])
@pytest.mark.parametrize("texts", [("one", ""), ("", "two"), (*map(str, range(150)), "")])
async def test_all_arguments_are_checked_before_the_first_request(
    cfai: Cfai, fake: FakeWorkersAI, texts: tuple[str, ...], options: tuple[str, ...]
) -> None:
    """Unlike lines of files, of which empty ones are skipped: here it is probably a mistake."""
    fake.always.answers_by(vectors)
    done = await cfai.run("embed", *texts, *options)
    assert (done.code, done.out) == (2, b"")
    assert "must have at least 1 character, got ''" in done.err
    assert not fake.requests
