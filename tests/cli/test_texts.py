"""The texts of files as people have them: encodings, delimiters, quotes, gaps, damaged archives.

The files are in tests/data/texts. `cases.json` has for each what is read, or the error.
"""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from cfai.cli.reading import Reading
from cfai.cli.texts import TextFile, count_all, find_files
from cfai.errors import InputError

FILES = Path(__file__).parents[1] / "data" / "texts"
CASES: list[dict[str, Any]] = json.loads((FILES / "cases.json").read_text())

WAYS_OUT = (
    *("--", ": save it", ": convert it", "; rename", "; put", "; write", "; copy", "; correct"),
    "has a quote that is never closed",
)


def reading(**options: Any) -> Reading:
    return Reading(options.pop("column", "text"), options.pop("id_column", None), **options)


def read(path: Path, **options: Any) -> list[Any]:
    """The entries of a file, with pairs as lists, as in the cases."""
    entries = TextFile(path, reading(**options)).read()
    return [list(entry) if isinstance(entry, tuple) else entry for entry in entries]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["file"])
def test_every_file_is_read_or_explained(
    case: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The right rows; or an error that names the file, the line, and what to do."""
    pytest.importorskip("pyarrow")
    path, options = FILES / case["file"], case.get("options", {})
    if "error" in case:
        with pytest.raises(InputError) as caught:
            read(path, **options)
        assert case["error"].replace("{path}", str(path)) in str(caught.value)
        assert path.name in str(caught.value)
        assert any(hint in str(caught.value) for hint in WAYS_OUT)
    else:
        assert read(path, **options) == case["rows"]
    assert case.get("notice", "") in capsys.readouterr().err


def test_files_are_counted_without_reading_them() -> None:
    """Except for archives and JSON documents."""
    names = ["plain.txt", "plain.csv", "plain.jsonl", "blank-lines.csv"]
    files = [TextFile(FILES / name, reading()) for name in names]
    assert [file.count() for file in files] == [3, 2, 3, 2]
    assert count_all(files) == 10
    for name in ("objects.json", "plain.csv.gz"):
        assert count_all([*files, TextFile(FILES / name, reading())]) is None


def test_a_long_line_is_read(tmp_path: Path) -> None:
    """10 MB in one line, in every format of text."""
    text = "word " * 2_000_000
    for name, content in {
        "long.txt": text,
        "long.csv": f"text\n{text}\n",
        "long.jsonl": json.dumps({"text": text}),
        "long.json": json.dumps([text]),
    }.items():
        (tmp_path / name).write_text(content)
        assert read(tmp_path / name) == [text]


def test_an_open_quote_does_not_read_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "open.csv"
    with path.open("w") as file:
        file.write('text\none\n"two\n')
        for _ in range(150):
            file.write("x" * 1_000_000 + "\n")
    with pytest.raises(InputError, match=r"line 3 of .* has a field of more than .* not closed"):
        read(path)


def test_texts_before_an_error_are_read(tmp_path: Path) -> None:
    lines = b"".join(b"%d\n" % number for number in range(200_000))
    path = tmp_path / "long.txt.gz"
    path.write_bytes(gzip.compress(lines)[:-1000])
    entries = TextFile(path, reading()).read()
    assert [next(entries) for _ in range(100_000)] == [str(number) for number in range(100_000)]
    with pytest.raises(InputError, match="truncated"):
        list(entries)


# Choosing files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("b.csv", "a.csv", "c.jsonl", "notes"):
        Path(name).write_text('text\n"one"\n' if name.endswith("csv") else '"two"\n')
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_several_files_and_patterns_are_read_in_order() -> None:
    """A pattern gives the files in the order of their names."""
    files = find_files(["c.jsonl", "*.csv"], reading())
    assert [file.name for file in files] == ["c.jsonl", "a.csv", "b.csv"]
    assert [entry for file in files for entry in file.read()] == ["two", "one", "one"]
    assert [file.path for file in find_files(["-", "a.csv"], reading())] == [None, Path("a.csv")]


@pytest.mark.usefixtures("folder")
def test_texts_are_no_files() -> None:
    """Not even with a suffix in a sentence, or with the signs of a pattern."""
    texts = [
        "note",
        "I read it in a.csv",
        "what?",
        "[1]",
        "5 * 3?",
        "x" * 10_000,
        "a\0?",
        "[!]",
        "",
    ]
    assert find_files(texts, reading()) == []


@pytest.mark.usefixtures("folder")
def test_a_chosen_format_makes_every_argument_a_file() -> None:
    (file,) = find_files(["notes"], reading(format="jsonl"))
    assert list(file.read()) == ["two"]
    with pytest.raises(InputError, match="nothing: no such file"):
        find_files(["nothing"], reading(format="jsonl"))


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["missing.csv"], r"missing\.csv: no such file"),
        (["missing*.csv"], r"missing\*\.csv: no such file"),
        (["notes"], r"notes must end in \.txt, \.csv.*--format"),
        (["note?"], r"notes must end in \.txt, \.csv.*--format"),
        (["*"], r"notes must end in \.txt, \.csv.*--format"),
        (["."], r"\. is a folder: name its files"),
        (["a.csv", "a text"], "must be texts or files, not both: 'a text' is no file"),
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        find_files(arguments, reading())


def test_an_at_sign_names_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one whose name would be a text without it; a file that is missing is no text."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "notes"):
        Path(name).write_text("one\n")
    assert [file.path for file in find_files(["@a.txt"], reading())] == [Path("a.txt")]
    with pytest.raises(InputError, match="notes must end in"):
        find_files(["@notes"], reading())
    (file,) = find_files(["@notes"], reading(format="txt"))
    assert file.path == Path("notes")
    for missing in ("@someone said hello", "@missing.txt"):
        with pytest.raises(InputError, match="no such file"):
            find_files([missing], reading())


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"format": "xlsx"}, "--format must be one of txt, csv, .*, got xlsx"),
        ({"delimiter": ";;"}, r"--delimiter must be one character, or \\t for a tab, got ';;'"),
        ({"delimiter": ""}, r"--delimiter must be one character, or \\t for a tab, got ''"),
        ({"encoding": "utf-9"}, "--encoding: there is no encoding 'utf-9'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        reading(**options)


def test_a_folder_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "folder.csv"
    path.mkdir()
    with pytest.raises(InputError, match=r"can't read .*folder\.csv"):
        read(path)


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd"])
@pytest.mark.parametrize("where", ["data", "footer"])
def test_a_damaged_parquet_file_is_named(tmp_path: Path, compression: str, where: str) -> None:
    """With the rows before the damage, however its data is compressed."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "damaged.parquet"
    table = pa.table({"text": [f"text {number} " * 5 for number in range(5000)]})
    pq.write_table(table, path, row_group_size=1000, compression=compression, use_dictionary=False)
    data = bytearray(path.read_bytes())
    at = len(data) // 2 if where == "data" else len(data) - 200
    data[at : at + 150] = b"\xff" * 150
    path.write_bytes(data)
    entries = TextFile(path, reading()).read()
    expected = "damaged after row 2000" if where == "data" else "not a Parquet file"
    with pytest.raises(InputError, match=rf"damaged\.parquet is {expected}"):
        for number, entry in enumerate(entries):
            assert entry == f"text {number} " * 5


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_archive_names_the_way_out(tmp_path: Path, suffix: str, damage: str) -> None:
    pa = pytest.importorskip("pyarrow")
    codec = "gzip" if suffix == ".gz" else "zstd"
    rows = random.Random(7).choices(range(10**9), k=1000)
    data = pa.compress("".join(f"{row}\n" for row in rows).encode(), codec, asbytes=True)
    path = tmp_path / f"texts.txt{suffix}"
    middle = len(data) // 2
    path.write_bytes(data[:middle] + (b"" if damage == "cut" else bytes(64) + data[middle + 64 :]))
    with pytest.raises(
        InputError, match=rf"texts.txt\{suffix} is damaged or truncated .*copy or d"
    ):
        read(path)


@pytest.mark.parametrize("line", ['{"text": ', '{"text": "b"} x', "b", '["b"', "{'text': 'b'}"])
def test_a_line_that_is_not_json_has_one_number(tmp_path: Path, line: str) -> None:
    """That of the file: the parser would count from the beginning of the line."""
    for before in ("", '"a"\n\n'):
        path = tmp_path / "texts.jsonl"
        path.write_text(f'{before}{line}\n"c"\n')
        with pytest.raises(InputError) as caught:
            read(path)
        number = 3 if before else 1
        assert str(caught.value).startswith(f"line {number} of {path} is not JSON")
        assert str(caught.value).count("line ") == 1
        assert ", character " in str(caught.value)


def test_a_field_inside_a_column_of_parquet(tmp_path: Path) -> None:
    """As in JSON; a row without the outer value has none."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{"text": "a", "in": {"n": 1}}, None, {"text": None, "in": None}]
    table = pa.table({"row": rows, "row.id": ["x", "y", "z"], "text": ["d", "e", "f"]})
    path = tmp_path / "nested.parquet"
    pq.write_table(table, path)
    options = {"id_column": "row.id", "lenient": True}
    assert read(path, column="row.text", **options) == [["x", "a"], ["y", None], ["z", None]]
    assert read(path, column="text", id_column="row.in.n") == [[1, "d"], [None, "e"], [None, "f"]]
    for wrong in ("row.txt", "row.text.x", "text.x", "other.text"):
        with pytest.raises(InputError, match=rf"has no column '{wrong}' \(found: 'row', 'row.id'"):
            read(path, column=wrong)
