"""Rows of cells as a table of Markdown."""

import csv
import io
from collections.abc import Sequence

from cfai.local.documents.values import File, Wanted


def csv_table(file: File, wanted: Wanted) -> str:
    """Convert CSV, of which the first row is the head."""
    text = file.data.decode("utf-8-sig")
    if wanted.plain:
        return text
    return table([row for row in csv.reader(io.StringIO(text, newline="")) if row])


def table(rows: Sequence[Sequence[str]]) -> str:
    """Give a table, of which the first row is the head; nothing where there is no row."""
    if not rows:
        return ""
    width = max(map(len, rows))
    head, *others = [_line(row, width) for row in rows]
    return "\n".join([head, _line(["---"] * width, width), *others]) + "\n"


def _line(row: Sequence[str], width: int) -> str:
    cells = [cell.replace("|", "\\|").replace("\r", "").replace("\n", "<br>") for cell in row]
    return f"| {' | '.join(cells + [''] * (width - len(row)))} |"
