"""What a command reads: arguments, files, standard input, and files of texts for `cfai embed`."""

import csv
import io
import os
import string
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from cfai._types.excerpts import format_value
from cfai.errors import InputError, MissingExtra

# Any input


def stdin_is_terminal() -> bool:
    """Tell whether standard input is a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()


def read_stdin() -> bytes:
    """Read all of standard input."""
    return sys.stdin.buffer.read() if sys.stdin is not None else b""


def read_stdin_text() -> str:
    """Read all of standard input as text.

    Raises:
        InputError: It is not UTF-8.
    """
    return decode_text(read_stdin(), "standard input")


def read_file(path: Path) -> bytes:
    """Read a file.

    Raises:
        InputError: It can't be read.
    """
    with _translate_errors(path):
        return path.read_bytes()


@contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    """Raise `InputError` for a file that can't be read."""
    try:
        yield
    except csv.Error as exc:
        raise InputError(f"{path} can't be read as CSV: {exc}") from exc
    except OSError as exc:
        raise InputError(f"can't read {path}: {exc.strerror or exc}") from exc


def read_lines(path: Path, newline: str | None = None) -> Iterator[str]:
    """Read the lines of a file one by one, with their ends.

    Args:
        newline: As for `open`. Only newlines end a line, not other line breaks of Unicode.

    Raises:
        InputError: A line is not UTF-8.
        OSError: The file can't be read.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline) as file:
        for number, line in enumerate(file, start=1):
            if not line.isascii():
                try:
                    line.encode()
                except UnicodeEncodeError as exc:
                    raise InputError(f"line {number} of {path} must be UTF-8 text") from exc
            yield line


def decode_text(data: bytes, name: str) -> str:
    """Decode UTF-8; *name* stands for the data in the error.

    Raises:
        InputError: It is not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise InputError(f"{name} must be UTF-8 text: byte {exc.start} is not UTF-8") from exc


def check_argument(argument: str) -> str:
    """Return an argument that is text; a shell passes any bytes.

    Raises:
        InputError: It is not UTF-8.
    """
    try:
        argument.encode()
    except UnicodeEncodeError as exc:
        raise InputError("an argument must be UTF-8 text") from exc
    return argument


# Files of texts

_MAX_CSV_FIELD: Final = 2**31 - 1
"""In characters: the largest limit that the csv module accepts on every platform."""

Entry = str | tuple[Any, str]
"""A text, or an id and a text."""


@frozen
class Columns:
    """The names of the columns to read from each row."""

    text: str
    id: str | None = None
    lenient: bool = False
    """Whether a row without a text counts as an empty text, which fails later."""

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [self.text] if self.id is None else [self.text, self.id]

    def check(self, existing: Sequence[str], path: Path) -> None:
        """Check that a table has the columns.

        Raises:
            InputError: One is missing.
        """
        for name in self.names:
            if name not in existing:
                shown = ", ".join(map(repr, existing))
                raise InputError(
                    f"{path} has no column {name!r} (found: {shown:.200}); {self._advise(name)}"
                )

    def read_row(self, row: Mapping[str, Any], where: str) -> Entry:
        """Read the text of a row, and its id if there is an id column.

        Raises:
            InputError: A field is missing, or the text is not a string.
        """
        for name in () if self.lenient else self.names:
            if name not in row:
                raise InputError(f"{where} has no field {name!r}; {self._advise(name)}")
        text = row.get(self.text)
        if not isinstance(text, str):
            if not self.lenient:
                raise InputError(
                    f"{self.text!r} of {where} must be a string, got {format_value(text)}"
                )
            text = ""
        return text if self.id is None else (row.get(self.id), text)

    def _advise(self, name: str) -> str:
        return f"choose one with {'--column' if name == self.text else '--id'}"


def split_lines(text: str) -> Iterator[str]:
    """Give each line that is not empty."""
    # Like lines of a file: only newlines end a line, not other line breaks of Unicode.
    return (line for line in io.StringIO(text, newline=None).read().split("\n") if line.strip())


def _read_txt(path: Path, _: Columns) -> Iterator[Entry]:
    return (line.rstrip("\r\n") for line in read_lines(path) if line.strip())


def _read_jsonl(path: Path, columns: Columns) -> Iterator[Entry]:
    from cfai._types.json import loads_strictly

    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        where = f"line {number} of {path}"
        try:
            row = loads_strictly(line)
        except ValueError as exc:
            raise InputError(f"{where} is not JSON") from exc
        if isinstance(row, str):
            row = {columns.text: row}
        if not isinstance(row, dict):
            raise InputError(f"{where} must be an object or a string")
        yield columns.read_row(row, where)


def _read_csv(path: Path, columns: Columns) -> Iterator[Entry]:
    csv.field_size_limit(_MAX_CSV_FIELD)
    rows = csv.DictReader(read_lines(path, newline=""))
    if rows.fieldnames is not None:
        columns.check(rows.fieldnames, path)
    for number, row in enumerate(rows, start=1):
        yield columns.read_row(row, f"row {number} of {path}")


def _open_parquet(path: Path) -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as exc:
        raise MissingExtra("arrow", needed_for="reading Parquet") from exc
    try:
        return pq.ParquetFile(path)
    except pa.ArrowInvalid as exc:
        raise InputError(f"{path} is not a Parquet file") from exc


def _read_parquet(path: Path, columns: Columns) -> Iterator[Entry]:
    file = _open_parquet(path)
    columns.check(file.schema_arrow.names, path)
    for number, batch in enumerate(file.iter_batches(1000, columns=columns.names)):
        for index, row in enumerate(batch.to_pylist(), start=1 + 1000 * number):
            yield columns.read_row(row, f"row {index} of {path}")


_READERS: Final[Mapping[str, Callable[[Path, Columns], Iterator[Entry]]]] = {
    ".txt": _read_txt,
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


def find_text_file(arguments: Sequence[str]) -> Path | None:
    """Give the file of texts that the arguments name; `None` if they are texts themselves.

    Raises:
        InputError: One looks like a file of texts, and does not exist or is not the only argument.
    """
    suffixes = ", ".join(_READERS)
    for argument in arguments:
        suffix = Path(argument).suffix.lower()
        # Unlike the method of `Path`, this accepts a text that is too long for a file name.
        exists = bool(suffix) and os.path.isfile(argument)  # noqa: PTH113
        if suffix in _READERS and exists and len(arguments) == 1:
            return Path(argument)
        if exists:
            rule = "must be the only argument" if suffix in _READERS else f"must end in {suffixes}"
            raise InputError(f"a file of texts {rule}, got {argument}")
        if suffix in _READERS and not set(argument) & set(string.whitespace):
            error = InputError(f"{argument}: no such file")
            error.add_note("if it is a text, pipe it in")
            raise error
    return None


def read_text_file(path: Path, columns: Columns) -> Iterator[Entry]:
    """Read the texts of a file in the format of its suffix.

    Raises:
        InputError: It can't be read, or has another format.
    """
    with _translate_errors(path):
        yield from _READERS[path.suffix.lower()](path, columns)


def count_file_texts(path: Path) -> int:
    """Count the texts in a file without decoding them.

    Raises:
        InputError: It can't be read.
    """
    with _translate_errors(path):
        if path.suffix.lower() == ".parquet":
            return int(_open_parquet(path).metadata.num_rows)
        if path.suffix.lower() == ".csv":
            csv.field_size_limit(_MAX_CSV_FIELD)
            with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
                return max(0, sum(1 for _ in csv.reader(file)) - 1)
        with path.open("rb") as lines:
            return sum(1 for line in lines if line.strip())
