"""`cfai markdown`: convert files to Markdown."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cfai.cli import clients, console
from cfai.cli.console import Target, complete_files, output_option, to_json_line, write_text
from cfai.cli.files import check_names_file
from cfai.cli.inputs import AttachedFile
from cfai.cli.lists import json_option
from cfai.errors import InputError

if TYPE_CHECKING:
    from cfai.resources.markdown import Markdown


@click.command()
@click.argument(
    "files",
    nargs=-1,
    shell_complete=complete_files,
    help="The files to convert; - for stdin.",
)
@click.option("--formats", is_flag=True, help="List supported formats.")
@output_option
@json_option
@clients.async_command
async def markdown(
    files: tuple[str, ...], *, formats: bool, output: Path | None, as_json: bool
) -> None:
    """Convert documents and images to Markdown, all in one request.

    The texts are printed in the order of the files. If a file fails, its error is printed on
    standard error and the exit code is 1; the other files are printed.
    """
    target = Target(output)
    documents = [_read_document(name) for name in files]
    if not (documents or formats):
        raise InputError("there are no files: give at least one")
    async with clients.open_client(local=False) as ai:
        if formats:
            for row in await ai.to_markdown_formats():
                fields = {"extension": row.extension, "mimeType": row.mime_type}
                line = f"{row.extension}\t{row.mime_type}\n"
                write_text(to_json_line(fields) if as_json else line)
            return
        with console.show_status("converting"):
            results = await ai.to_markdown(documents)
    for number, result in enumerate(results):
        _write_result(result, target, as_json=as_json, is_first=number == 0)
    target.finish()
    if any(result.failed for result in results):
        raise click.exceptions.Exit(console.EXIT_FAILED)


def _read_document(argument: str) -> "str | tuple[str, bytes]":
    """The path of a file, which is read while it is sent, or standard input."""
    if argument == "-":
        return AttachedFile.read(argument, "FILES").document
    return check_names_file(argument, "FILES")


def _write_result(result: "Markdown", target: Target, *, as_json: bool, is_first: bool) -> None:
    if as_json:
        missing = {"name": result.name, "format": "error", "error": result.error}
        target.write_line(result.raw if isinstance(result.raw, Mapping) else missing)
    elif result.failed:
        console.write_stderr(f"error: {result.name}: {result.error}")
    else:
        # An empty line separates the documents.
        text = str(result)
        text = ("" if is_first else "\n") + text + ("" if text.endswith("\n") else "\n")
        if target.path is None:
            write_text(text)
        else:
            target.write_bytes(text.encode("utf-8", "replace"))
