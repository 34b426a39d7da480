"""Lists on standard output: a table for a person, and lines for a program."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated, Any, Final, TypeVar

import typer

from cfai.cli.output import json_line, printable, say, stdout_is_a_terminal

R = TypeVar("R")

Cells = Callable[[R], Sequence[object]]
"""What a row has in its columns."""

Json = Annotated[
    bool, typer.Option("--json", help="A line of JSON for each, as the service said it.")
]

_WIDE: Final = 60
"""Characters of a cell at a terminal."""


async def show(
    rows: AsyncIterator[R], columns: Sequence[str], cells: Cells[R], *, as_json: bool
) -> None:
    """Write a list: JSON where that was asked for, a table at a terminal, else tabs between cells.

    What is written in lines is written as it comes; a table has to wait for its last row.
    """
    if as_json or not stdout_is_a_terminal():
        async for row in rows:
            say(json_line(_raw(row)) if as_json else "\t".join(map(_plain, cells(row))) + "\n")
        return
    _table([[_plain(cell) for cell in cells(row)] async for row in rows], columns)


def _raw(row: Any) -> Any:
    return row.raw


def _plain(cell: object) -> str:
    """A cell in one line."""
    return "" if cell is None else " ".join(str(cell).split())


def _table(rows: Sequence[Sequence[str]], columns: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    # The first column is what other commands take, so that it is never cut.
    heads = [Column(name, no_wrap=at == 0, overflow="fold") for at, name in enumerate(columns)]
    table = Table(*heads, box=None, pad_edge=False)
    for first, *others in rows:
        table.add_row(Text(printable(first)), *(Text(_short(printable(one))) for one in others))
    Console().print(table)


def _short(text: str) -> str:
    return text if len(text) <= _WIDE else f"{text[: _WIDE - 1]}…"
