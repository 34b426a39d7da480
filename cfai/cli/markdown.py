"""`cfai markdown`: convert files to Markdown."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cfai.cli import clients, console
from cfai.cli.console import Output, Target, to_json_line, write_text
from cfai.cli.lists import Json
from cfai.errors import InputError

if TYPE_CHECKING:
    from cfai.resources.markdown import Markdown


def markdown(
    files: Annotated[list[Path] | None, typer.Argument(help="The files to convert.")] = None,
    *,
    formats: Annotated[bool, typer.Option("--formats", help="List supported formats.")] = False,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Convert documents and images to Markdown, all in one request.

    The texts are printed in the order of the files. If a file fails, its error is printed on
    standard error and the exit code is 1; the other files are printed.
    """
    target = Target(output)
    target.check()
    if formats:
        asyncio.run(_print_formats(as_json=as_json))
        return
    if not files:
        raise InputError("there are no files: give at least one")
    results = asyncio.run(_convert(files))
    for number, result in enumerate(results):
        _write_result(result, target, as_json=as_json, is_first=number == 0)
    target.finish()
    if any(result.failed for result in results):
        raise typer.Exit(console.EXIT_FAILED)


async def _convert(files: list[Path]) -> "list[Markdown]":
    async with clients.open_client(local=False) as ai:
        with console.show_status("converting"):
            return await ai.to_markdown(files)


async def _print_formats(*, as_json: bool) -> None:
    async with clients.open_client(local=False) as ai:
        for row in await ai.to_markdown_formats():
            fields = {"extension": row.extension, "mimeType": row.mime_type}
            write_text(to_json_line(fields) if as_json else f"{row.extension}\t{row.mime_type}\n")


def _write_result(result: "Markdown", target: Target, *, as_json: bool, is_first: bool) -> None:
    if as_json:
        missing = {"name": result.name, "format": "error", "error": result.error}
        target.write_line(result.raw if isinstance(result.raw, Mapping) else missing)
    elif result.failed:
        console.print_item_error(f"{result.name}: {result.error}")
    else:
        # An empty line separates the documents.
        text = str(result)
        text = ("" if is_first else "\n") + text + ("" if text.endswith("\n") else "\n")
        if target.path is None:
            write_text(text)
        else:
            target.write_bytes(text.encode("utf-8", "replace"))
