"""The beginning of a CSV file: where its header is, and which delimiter it has."""

import csv
import re
from collections.abc import Collection, Iterable
from typing import Final

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
