"""The texts of `cfai embed`, row by row, from files and pipes of any common format and encoding."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from glob import glob, has_magic
from itertools import chain
from json import JSONDecodeError
from pathlib import Path
from typing import IO, Any, Final

from attrs import frozen

from cfai._types.excerpts import format_count, format_value
from cfai.cli import console
from cfai.cli.encodings import BOMS, guess_encoding, guess_utf16, is_damaged_utf8
from cfai.cli.files import check_names_file
from cfai.cli.reading import MISSING, Entry, Format, Reading, choose_delimiter, read_head
from cfai.errors import InputError, MissingExtra

_FORMATS: Final[Mapping[str, Format]] = {
    ".txt": "txt",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
}
"""The format of each suffix."""

_COMPRESSIONS: Final = (".gz", ".zst")

SUFFIXES: Final = ", ".join(_FORMATS)

_MAX_FIELD: Final = 2**27
"""The longest field of a CSV file, in characters. An open quote would read the whole file."""

_SAMPLE: Final = 2**18
"""The bytes from which the encoding is detected."""

_OTHER_FILES: Final = {
    b"PK\3\4": "a ZIP archive or an Excel file: save it as CSV",
    b"%PDF": "a PDF: convert it with `cfai markdown`",
    b"ARROW1": "an Arrow file: save it as Parquet",
    b"SQLite format 3": "an SQLite database: export the table as CSV",
}
"""The first bytes of files that people pass by mistake, and what to do."""


@frozen
class TextFile:
    """A file of texts, or standard input if there is no path.

    Compressed files are recognized by their first bytes.
    """

    path: Path | None
    reading: Reading

    @property
    def name(self) -> str:
        """The name for messages."""
        return "standard input" if self.path is None else str(self.path)

    @property
    def format(self) -> Format:
        """The chosen format, or the one of the suffix; txt for standard input."""
        if self.reading.format is not None:
            return self.reading.format
        return "txt" if self.path is None else _FORMATS[_suffix(self.path)]

    def is_same_as(self, path: Path) -> bool:
        """Whether it is the file at *path*."""
        return self.path is not None and self.path.samefile(path)

    def read(self) -> Iterator[Entry]:
        """Read the entries, one row at a time; only a JSON document is read as a whole.

        Raises:
            InputError: The file can't be read, or has another format or encoding.
        """
        with self._translate_errors(), self._open() as data:
            self._check_kind(data)
            if self.format == "parquet":
                yield from _read_parquet(self, data)
                return
            newline = "" if self.format in ("csv", "tsv") else None
            encoding = self.reading.encoding or self._detect_encoding(data)
            # A wrong byte of UTF-8 is found in its line, which the error names.
            errors = "surrogateescape" if encoding.startswith("utf-8") else "strict"
            text = io.TextIOWrapper(data, encoding, errors, newline)
            yield from _READERS[self.format](self, text)

    def count(self) -> int | None:
        """Count the rows without decoding them; `None` if that takes as long as reading them."""
        if self.path is None or self.format == "json":
            return None
        with self._translate_errors(), self._open() as data:
            if not isinstance(data.raw, io.FileIO):
                return None
            if self.format == "parquet":
                return int(_open_parquet(self, data).metadata.num_rows)
            lines = sum(1 for line in data if line.strip())
            return max(0, lines - 1) if self.format in ("csv", "tsv") else lines

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
            raise self._damaged(exc) from exc
        except UnicodeError as exc:
            raise InputError(
                f"{self.name} has another encoding ({exc}); name it with --encoding"
            ) from exc
        except OSError as exc:
            if exc.errno is None:  # Not of the system: what is compressed is damaged.
                raise self._damaged(exc) from exc
            raise InputError(f"can't read {self.name}: {exc.strerror or exc}") from exc

    def _damaged(self, reason: Exception) -> InputError:
        return InputError(
            f"{self.name} is damaged or truncated ({reason}); copy or download it again"
        )

    @contextmanager
    def _open(self) -> Iterator[io.BufferedReader[Any]]:
        """Open the file, decompressed."""
        is_file = self.path is not None
        opened = io.FileIO(str(self.path) if is_file else 0, closefd=is_file)
        raw: Any = io.BufferedReader(opened, _SAMPLE)
        try:
            head = raw.peek(4)[:4]
            if head.startswith(b"\x1f\x8b"):
                yield io.BufferedReader(gzip.GzipFile(fileobj=raw), _SAMPLE)
            elif head == b"\x28\xb5\x2f\xfd":
                yield io.BufferedReader(_open_zstd(raw), _SAMPLE)
            else:
                yield raw
        finally:
            raw.close()

    def _check_kind(self, data: io.BufferedReader[Any]) -> None:
        """Check by the first bytes that it is no file of another kind."""
        head = data.peek(16)[:16]
        for magic, kind in _OTHER_FILES.items():
            if head.startswith(magic):
                raise InputError(f"{self.name} is {kind}")
        if head.startswith(b"PAR1") and self.format != "parquet":
            raise InputError(f"{self.name} is a Parquet file: read it with --format parquet")

    def _detect_encoding(self, data: io.BufferedReader[Any]) -> str:
        """Detect the encoding, and say so if it is not UTF-8."""
        sample = data.peek(_SAMPLE)[:_SAMPLE]
        for bom, encoding in BOMS.items():
            if sample.startswith(bom):
                return encoding
        if b"\0" in sample:
            encoding = guess_utf16(sample, self.name)
        else:
            decoder = codecs.getincrementaldecoder("utf-8")()
            try:
                # A sample that is not the whole file may end in the middle of a character.
                decoder.decode(sample, final=_is_whole(sample, data))
            except UnicodeDecodeError:
                if is_damaged_utf8(sample):
                    return "utf-8"  # Reading it will name the line.
                encoding = guess_encoding(sample, self.name)
            else:
                return "utf-8"
        console.write_stderr(
            f"{self.name} is not UTF-8; it is read as {encoding} (another: --encoding NAME)"
        )
        return encoding


def find_files(arguments: Sequence[str], reading: Reading) -> list[TextFile]:
    """Find the files that the arguments name; none if they are texts.

    With a chosen format, all arguments are files; otherwise those are whose suffix is known, and
    `@FILE`. `*`, `?` and `[` select several files; `-` is standard input.

    Raises:
        InputError: A file is missing or has an unknown suffix, or there are files and texts.
    """
    text_files: list[TextFile] = []
    texts: list[str] = []
    for argument in arguments:
        paths = _find_paths(argument, reading)
        if paths is None:
            texts.append(argument)
        else:
            text_files += [TextFile(path, reading) for path in paths]
    if text_files and texts:
        text = format_value(texts[0], 60)
        raise InputError(f"the arguments must be texts or files, not both: {text} is no file")
    return text_files


def _find_paths(argument: str, reading: Reading) -> list[Path | None] | None:
    """The files that an argument names; `None` if it is a text."""
    if argument == "-":
        return [None]
    is_file = argument.startswith("@")
    if is_file:
        argument = check_names_file(argument, "TEXTS")
    path = Path(argument)
    if argument and _exists(path):
        return [_check_format(path, reading)]
    matches = [Path(match) for match in _glob(argument)]
    if matches:
        return [_check_format(match, reading) for match in matches]
    is_known = _suffix(path) in _FORMATS and not set(argument) & set("\n\r\t ")
    # A text may end with the name of a file.
    if reading.format is None and not is_known and not is_file:
        return None
    error = InputError(f"{argument}: no such file")
    error.add_note(_ADVICE)
    raise error


_ADVICE: Final = "if it is a text, pipe it in"


def _check_format(path: Path, reading: Reading) -> Path:
    """Check that something that exists is a file of a known format."""
    if path.is_dir():
        error = InputError(f"{path} is a folder: name its files, such as '{path}/*.csv'")
    elif reading.format is None and _suffix(path) not in _FORMATS:
        error = InputError(
            f"{path} must end in {SUFFIXES}, perhaps with .gz or .zst; or choose its format with "
            "--format"
        )
    else:
        return path
    error.add_note(_ADVICE)
    raise error


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # A text: too long for a file name, or with a NUL.
        return False


def _glob(pattern: str) -> list[str]:
    """The files that match a pattern, without folders."""
    if not has_magic(pattern):
        return []
    try:
        matches = sorted(glob(pattern, recursive=True))  # noqa: PTH207  # may be absolute
    except (OSError, ValueError, re.error):  # a text
        return []
    return [match for match in matches if not Path(match).is_dir()]


def _suffix(path: Path) -> str:
    """The suffix of the format, in lower case, without that of a compression."""
    suffix = path.suffix.lower()
    return path.with_suffix("").suffix.lower() if suffix in _COMPRESSIONS else suffix


def count_all(files: Sequence[TextFile]) -> int | None:
    """Count the rows of all files; `None` if one of them can't be counted quickly."""
    counts = [file.count() for file in files]
    return None if None in counts else sum(filter(None, counts))


# Encodings and compressions


def _is_whole(sample: bytes, data: io.BufferedReader[Any]) -> bool:
    """Whether a file has no more than the sample; false if that is not known."""
    if not (isinstance(data.raw, io.FileIO) and data.seekable()):
        return False
    return len(sample) >= os.fstat(data.raw.fileno()).st_size


def _open_zstd(raw: IO[bytes]) -> Any:
    try:
        import pyarrow as pa
    except ImportError as exc:
        raise MissingExtra("arrow", needed_for="reading .zst") from exc
    return pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")


# Formats


def _read_lines(file: TextFile, lines: Iterable[str]) -> Iterator[str]:
    """Check each line. Bytes that are not UTF-8 are lone surrogates by now."""
    for number, line in enumerate(lines, start=1):
        if not line.isascii():
            try:
                line.encode()
            except UnicodeEncodeError as exc:
                raise InputError(
                    f"line {number} of {file.name} is not UTF-8 text; name the encoding of the "
                    f"file with --encoding"
                ) from exc
        yield line


def _read_txt(file: TextFile, stream: io.TextIOWrapper) -> Iterator[Entry]:
    # Only newlines end a line, not the other line breaks of Unicode.
    for line in _read_lines(file, stream):
        if line.strip():
            yield line.rstrip("\n")


def _read_csv(file: TextFile, stream: io.TextIOWrapper) -> Iterator[Entry]:
    csv.field_size_limit(_MAX_FIELD)
    reading, lines = file.reading, _read_lines(file, stream)
    before, head, separator = read_head(lines)
    if not head:
        return
    usual = "\t" if file.format == "tsv" else ","
    delimiter = reading.delimiter or separator or choose_delimiter(head, reading.columns, usual)
    # The lines before the header stay, as empty ones, for the numbers of the lines.
    rows = csv.reader(chain(before * ["\n"], [head], lines), delimiter=delimiter, strict=True)
    for _ in range(before):
        next(rows)
    header = [name.strip() for name in _next_row(file, rows, before + 1)]
    reading.check_columns(header, file.name)
    column = header.index(reading.column)
    id_column = None if reading.id_column is None else header.index(reading.id_column)
    width = len(header)
    while True:
        begin = rows.line_num + 1
        row = _next_row(file, rows, begin)
        if len(row) != width:
            if not row:
                if rows.line_num < begin:  # the end
                    return
                continue  # an empty line
            if len(row) > width:
                raise InputError(
                    f"line {begin} of {file.name} has {format_count(len(row), 'field')}, "
                    f"the header has {width}; put a field that contains {delimiter!r} in quotes"
                )
        where = f"line {begin} of {file.name}"
        text = row[column] or None if column < len(row) else None
        key: Any = None
        if id_column is not None:
            key = row[id_column] if id_column < len(row) else MISSING
        yield reading.entry(text, key, where)


def _next_row(file: TextFile, rows: Any, begin: int) -> list[str]:
    """The next row, which begins in line *begin*; empty at the end."""
    try:
        row: list[str] = next(rows, [])
    except csv.Error as exc:
        if "unexpected end of data" in str(exc):
            raise InputError(
                f"line {begin} of {file.name} has a quote that is never closed"
            ) from exc
        if "field larger" in str(exc):
            raise InputError(
                f"line {begin} of {file.name} has a field of more than {_MAX_FIELD} characters; "
                f"is a quote not closed?"
            ) from exc
        raise InputError(
            f"line {rows.line_num} of {file.name} is not CSV: {exc}; write a quote inside a field"
            " twice"
        ) from exc
    return row


def _read_jsonl(file: TextFile, stream: io.TextIOWrapper) -> Iterator[Entry]:
    from cfai._types.json import loads  # It takes as long to import as the rest of the help.

    for number, line in enumerate(_read_lines(file, stream), start=1):
        if not line.strip():
            continue
        where = f"line {number} of {file.name}"
        try:
            row = loads(line, allow_nan=True, big_integers=True)
        except ValueError as exc:
            # The error of the parser counts the lines of what it was given.
            reason = f"{exc}"
            if isinstance(exc, JSONDecodeError):
                reason = f"{exc.msg}, character {exc.pos + 1}"
            if number > 1:
                raise InputError(
                    f"{where} is not JSON: {reason}; correct or remove the line"
                ) from exc
            raise InputError(
                f"{where} is not JSON; a file that is one JSON document is read with --format json:"
                f" {reason}"
            ) from exc
        yield _json_entry(file, row, where)


def _read_json(file: TextFile, stream: io.TextIOWrapper) -> Iterator[Entry]:
    from cfai._types.json import loads

    text = "".join(_read_lines(file, stream))
    if not text.strip():
        return
    try:
        document = loads(text, allow_nan=True, big_integers=True)
    except ValueError as exc:
        raise InputError(
            f"{file.name} is not one JSON document ({exc}); if each line is one, use --format jsonl"
        ) from exc
    rows = document
    if isinstance(document, dict):
        has_text = isinstance(_look_up(document, file.reading.column), str)
        lists = [name for name, value in document.items() if isinstance(value, list)]
        rows = document[lists[0]] if len(lists) == 1 and not has_text else [document]
    if not isinstance(rows, list):
        raise InputError(
            f"{file.name} must be a list of rows, got {format_value(document)}; write a list of"
            " strings or objects"
        )
    for number, row in enumerate(rows, start=1):
        yield _json_entry(file, row, f"row {number} of {file.name}")


def _json_entry(file: TextFile, row: Any, where: str) -> Entry:
    reading = file.reading
    if isinstance(row, str):
        row = {reading.column: row}
    if not isinstance(row, dict):
        return reading.refuse_row(row, where)
    text = _look_up(row, reading.column)
    if text is MISSING and not reading.lenient:
        reading.check_columns(list(row), where)
    key = None if reading.id_column is None else _look_up(row, reading.id_column)
    return reading.entry(text, key, where)


def _look_up(row: dict[str, Any], column: str) -> Any:
    """The value of a field, or of a field of an inner object: `message.text`."""
    if column in row:
        return row[column]
    value: Any = row
    for name in column.split("."):
        if not isinstance(value, dict) or name not in value:
            return MISSING
        value = value[name]
    return value


def _open_parquet(file: TextFile, data: Any) -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as exc:
        raise MissingExtra("arrow", needed_for="reading Parquet") from exc
    is_file = isinstance(data, io.BufferedReader) and isinstance(data.raw, io.FileIO)
    if not (is_file and data.seekable()):
        data = io.BytesIO(data.read())  # from a pipe, or compressed once more
    try:
        return pq.ParquetFile(data)
    except (pa.ArrowException, OSError) as exc:
        raise InputError(
            f"{file.name} is not a Parquet file, or it is truncated; choose another"
            " --format, or copy it again"
        ) from exc


def _find_column(schema: Any, name: str) -> list[str]:
    """The column with a name, perhaps with the fields inside it: `message.text`."""
    import pyarrow as pa

    if name in schema.names:
        return [name]
    column, *path = name.split(".")
    if column not in schema.names:
        return []
    kind = schema.field(column).type
    for part in path:
        if not pa.types.is_struct(kind) or kind.get_field_index(part) < 0:
            return []
        kind = kind.field(part).type
    return [column, *path]


def _read_column(batch: Any, name: str) -> list[Any]:
    import pyarrow.compute as pc

    column, *fields = _find_column(batch.schema, name)
    values = batch.column(column)
    return list((pc.struct_field(values, fields) if fields else values).to_pylist())


def _read_parquet(file: TextFile, data: io.BufferedReader[Any]) -> Iterator[Entry]:
    import pyarrow as pa

    parquet, reading = _open_parquet(file, data), file.reading
    schema = parquet.schema_arrow
    inner = [name for name in reading.columns if _find_column(schema, name)[1:]]
    reading.check_columns([*schema.names, *inner], file.name)
    number = 0
    try:
        for batch in parquet.iter_batches(1000, columns=reading.columns, use_threads=False):
            texts = _read_column(batch, reading.column)
            keys = [None] * len(texts)
            if reading.id_column is not None:
                keys = _read_column(batch, reading.id_column)
            for text, key in zip(texts, keys, strict=True):
                number += 1
                yield reading.entry(text, key, f"row {number} of {file.name}")
    except (pa.ArrowException, OSError) as exc:  # The latter is raised by decompression.
        raise InputError(
            f"{file.name} is damaged after row {number} ({exc}); copy or download it again"
        ) from exc


_READERS: Final[Mapping[Format, Callable[[TextFile, io.TextIOWrapper], Iterator[Entry]]]] = {
    "txt": _read_txt,
    "csv": _read_csv,
    "tsv": _read_csv,
    "jsonl": _read_jsonl,
    "json": _read_json,
}
