"""How `cfai embed` reads files: its options, what a row is, and the beginning of a CSV file."""

import csv
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, get_args

from attrs import field, frozen

from cfai._types.excerpts import format_json
from cfai.errors import InputError

Format = Literal["txt", "csv", "tsv", "jsonl", "json", "parquet"]
"""The format of a file. In txt, each line is a text."""

_Text: TypeAlias = str | InputError | None

Entry: TypeAlias = _Text | tuple[Any, _Text]
"""A text, or an id and a text; `None` for a missing text, and the error of what is no text."""

MISSING: Final = object()
"""The value of a field that a row does not have."""


_OPTIONS: Final[Mapping[Format, Collection[str]]] = {
    "txt": {"--encoding"},
    "csv": {"--column", "--id-column", "--encoding", "--delimiter"},
    "tsv": {"--column", "--id-column", "--encoding", "--delimiter"},
    "jsonl": {"--column", "--id-column", "--encoding"},
    "json": {"--column", "--id-column", "--encoding"},
    "parquet": {"--column", "--id-column"},
}
"""The options that have a meaning for each format."""


def check_options(options: Mapping[str, object], formats: Collection[Format]) -> None:
    """Check that each option is used: an option that is not given has the value `None`.

    Raises:
        InputError: One has no meaning for any of the formats; there are none if texts are given.
    """
    used = set().union(*map(_OPTIONS.__getitem__, formats))
    for name, value in options.items():
        if value is not None and name not in used:
            given = ", ".join(sorted(formats)) or "texts as arguments"
            raise InputError(
                f"{name} has no meaning for {given}; leave it out, or choose another format with"
                " --format"
            )


def _unescape_tab(delimiter: str | None) -> str | None:
    return "\t" if delimiter == r"\t" else delimiter


@frozen
class Reading:
    """How files are read, as the options of the command say.

    Raises:
        InputError: The delimiter is not one character, or the encoding is unknown.
    """

    column: str
    id_column: str | None = None
    format: Format | None = field(default=None, kw_only=True)
    encoding: str | None = field(default=None, kw_only=True)
    delimiter: str | None = field(default=None, kw_only=True, converter=_unescape_tab)
    lenient: bool = field(default=False, kw_only=True)
    """Whether a row without a text is an entry, which fails later."""

    def __attrs_post_init__(self) -> None:
        if self.format is not None and self.format not in get_args(Format):
            raise InputError(
                f"--format must be one of {', '.join(get_args(Format))}, got {self.format}"
            )
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise InputError(
                f"--delimiter must be one character, or \\t for a tab, got {self.delimiter!r}"
            )
        if self.encoding is not None:
            try:
                "".encode(self.encoding)
            except LookupError:
                raise InputError(f"--encoding: there is no encoding {self.encoding!r}") from None

    @property
    def columns(self) -> list[str]:
        """The columns to read."""
        return [self.column] if self.id_column is None else [self.column, self.id_column]

    def check_columns(self, existing: Sequence[str], name: str) -> None:
        """Check that a table has the columns.

        Raises:
            InputError: One is missing, or is there twice.
        """
        for column in self.columns:
            if column not in existing:
                shown = ", ".join(map(repr, existing))
                raise InputError(
                    f"{name} has no column {column!r} (found: {shown:.200}); {self._advise(column)}"
                )
            if existing.count(column) > 1:
                raise InputError(f"{name} has more than one column {column!r}; rename one of them")

    def entry(self, text: Any, key: Any, where: str) -> Entry:
        """Check one row's text, and add its id if there is an id column.

        Raises:
            InputError: The text is missing or not a string, or the id is missing.
        """
        if key is MISSING and not self.lenient:
            raise InputError(f"{where} has no {self.id_column!r}; {self._advise(self.id_column)}")
        if not isinstance(text, str):
            text = self._find_fault(text, where)
        return text if self.id_column is None else (None if key is MISSING else key, text)

    def _find_fault(self, text: Any, where: str) -> InputError | None:
        """What is wrong with a value that is no text; `None` if it is missing."""
        if text is MISSING or text is None:
            problem = f"has no field {self.column!r}; {self._advise(self.column)}"
            if text is None:
                problem = f"has no text in {self.column!r}; --skip-failed skips such rows"
            if not self.lenient:
                raise InputError(f"{where} {problem}")
            return None
        rule = f"must be a string, got {format_json(text)}"
        if not self.lenient:
            raise InputError(
                f"{self.column!r} of {where} {rule}; choose another column with --column, or write"
                " it as a string"
            )
        return InputError(f"{self.column!r} {rule}")

    def refuse_row(self, row: Any, where: str) -> Entry:
        """The entry of a row that is neither an object nor a string.

        Raises:
            InputError: Rows without a text are errors.
        """
        rule = f"must be an object or a string, got {format_json(row)}"
        if not self.lenient:
            raise InputError(f"{where} {rule}; correct or remove it")
        text = None if row is None else InputError(f"the row {rule}")
        return text if self.id_column is None else (None, text)

    def _advise(self, column: str | None) -> str:
        return f"choose one with {'--column' if column == self.column else '--id-column'}"


# The beginning of a CSV file: where its header is, and which delimiter it has

_DELIMITERS: Final = ",;\t|"
"""The delimiters that are tried, in this order, until one gives the columns."""


def read_head(lines: Iterable[str]) -> tuple[int, str, str | None]:
    """Read up to the header, which is empty if there is none.

    Returns:
        The number of lines before the header (empty ones, and the line `sep=;` by which Excel is
        told the delimiter), the header's first line, and the delimiter if such a line names it.
    """
    separator = None
    for before, line in enumerate(lines):
        if separator is None and (named := re.fullmatch(r"sep=(.)", line.rstrip("\r\n"))):
            separator = named[1]
        elif line.strip():
            return before, line, separator
    return 0, "", separator


def choose_delimiter(header: str, columns: Collection[str], usual: str) -> str:
    """The first delimiter that gives the wanted columns; the usual one if none does."""
    delimiters: list[str] = [usual, *_DELIMITERS]
    for delimiter in delimiters:
        try:
            names = next(csv.reader([header], delimiter=delimiter), [])
        except csv.Error:
            continue
        if set(columns) <= {name.strip() for name in names}:
            return delimiter
    # So that the error lists the columns.
    return usual if usual in header else max(delimiters, key=header.count)
