"""Files of texts, read as they are needed: lines, JSON lines, CSV and Parquet."""

import csv
import io
import json
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from cfai.cli import inputs
from cfai.errors import InputError, MissingExtra

_LONGEST: Final = 2**31 - 1
"""Characters that a field of CSV may have: as many as every platform's library can count."""

Entry = str | tuple[Any, str]
"""A text, or an id and a text."""


@frozen
class Columns:
    """What the fields of a row are called."""

    text: str
    id: str | None = None
    lenient: bool = False
    """Whether a row without a text is an empty text, which can't be embedded either."""

    def entry(self, row: Mapping[str, Any], where: str) -> Entry:
        """The id and the text of one row.

        Raises:
            InputError: It has no such field, or no text in it.
        """
        for name in (self.text, self.id):
            if name is not None and name not in row and not self.lenient:
                raise InputError(f"{where} has no {name!r}")
        text = row.get(self.text)
        if not isinstance(text, str):
            if not self.lenient:
                raise InputError(f"{self.text!r} of {where} must be a text, got {text!r:.60}")
            text = ""
        return text if self.id is None else (row.get(self.id), text)


def lines(text: str) -> Iterator[str]:
    """Each line that isn't empty."""
    # As files are read: other characters that end a line of text may stand inside of one.
    return (line for line in io.StringIO(text, newline=None).read().split("\n") if line.strip())


def _of_lines(path: Path, _: Columns) -> Iterator[Entry]:
    return (line.rstrip("\r\n") for line in inputs.lines(path) if line.strip())


def _of_json_lines(path: Path, columns: Columns) -> Iterator[Entry]:
    for number, line in enumerate(inputs.lines(path), start=1):
        if not line.strip():
            continue
        where = f"line {number} of {path}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise InputError(f"{where} is no JSON") from exc
        if isinstance(row, str):
            row = {columns.text: row}
        if not isinstance(row, dict):
            raise InputError(f"{where} must be an object or a text")
        yield columns.entry(row, where)


def _of_csv(path: Path, columns: Columns) -> Iterator[Entry]:
    csv.field_size_limit(_LONGEST)
    rows = csv.DictReader(inputs.lines(path, newline=""))
    names = rows.fieldnames
    for name in (columns.text, columns.id):
        if names is not None and name is not None and name not in names:
            raise InputError(f"row 1 of {path}, which says what the columns are, has no {name!r}")
    for number, row in enumerate(rows, start=1):
        yield columns.entry(row, f"row {number} of {path}")


def _parquet(path: Path) -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as exc:
        raise MissingExtra("arrow", needed_for="reading Parquet") from exc
    try:
        return pq.ParquetFile(path)
    except pa.ArrowInvalid as exc:
        raise InputError(f"{path} is no Parquet file") from exc


def _of_parquet(path: Path, columns: Columns) -> Iterator[Entry]:
    names = [name for name in (columns.text, columns.id) if name is not None]
    file = _parquet(path)
    missing = set(names) - set(file.schema_arrow.names)
    if missing:
        raise InputError(f"{path} has no {min(missing)!r}")
    for number, batch in enumerate(file.iter_batches(1000, columns=names)):
        for place, row in enumerate(batch.to_pylist(), start=1 + 1000 * number):
            yield columns.entry(row, f"row {place} of {path}")


_READERS: Final[Mapping[str, Callable[[Path, Columns], Iterator[Entry]]]] = {
    ".txt": _of_lines,
    ".jsonl": _of_json_lines,
    ".csv": _of_csv,
    ".parquet": _of_parquet,
}


def file_of(given: Sequence[str]) -> Path | None:
    """The file of texts that the arguments name; `None` where they are texts themselves.

    Raises:
        InputError: One looks like a file of texts, and isn't there, or isn't alone.
    """
    known = ", ".join(_READERS)
    for argument in given:
        kind = Path(argument).suffix.lower()
        there = _is_there(argument) if kind else False
        if kind in _READERS and there and len(given) == 1:
            return Path(argument)
        if there:
            rule = "alone" if kind in _READERS else f"of these forms: {known}"
            raise InputError(f"a file of texts must be {rule}, got {argument}")
        if kind in _READERS and not set(argument) & set(string.whitespace):
            error = InputError(f"there is no file {argument}")
            error.add_note("if that is a text, pipe it in")
            raise error
    return None


def _is_there(argument: str) -> bool:
    try:
        return Path(argument).is_file()
    except OSError:  # It is too long for a name.
        return False


def of_file(path: Path, columns: Columns) -> Iterator[Entry]:
    """The texts of a file, by the end of its name.

    Raises:
        InputError: It can't be read, or has another form than its name says.
    """
    try:
        yield from _READERS[path.suffix.lower()](path, columns)
    except csv.Error as exc:
        raise InputError(f"{path} can't be read as CSV: {exc}") from exc
    except OSError as exc:
        raise InputError(f"can't read {path}: {exc.strerror or exc}") from exc


def count(path: Path) -> int:
    """How many texts are in a file, counted as fast as can be.

    Raises:
        InputError: It can't be read.
    """
    try:
        if path.suffix.lower() == ".parquet":
            rows: int = _parquet(path).metadata.num_rows
            return rows
        if path.suffix.lower() == ".csv":
            csv.field_size_limit(_LONGEST)
            with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
                return max(0, sum(1 for _ in csv.reader(file)) - 1)
        with path.open("rb") as lines:
            return sum(1 for line in lines if line.strip())
    except csv.Error as exc:
        raise InputError(f"{path} can't be read as CSV: {exc}") from exc
    except OSError as exc:
        raise InputError(f"can't read {path}: {exc.strerror or exc}") from exc
