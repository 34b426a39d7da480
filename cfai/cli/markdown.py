"""`cfai markdown`: files turned into Markdown."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from cfai.cli import clients, notices, options, tables
from cfai.cli.output import Target, json_line, say
from cfai.errors import InputError
from cfai.resources.markdown import Markdown


def markdown(
    files: Annotated[list[Path] | None, typer.Argument(help="What to convert.")] = None,
    *,
    formats: Annotated[bool, typer.Option("--formats", help="List what can be.")] = False,
    output: options.Output = None,
    as_json: tables.Json = False,
) -> None:
    """Turn documents and images into Markdown, all in one request.

    The texts come in the order of the files. A file that fails is told on standard error; the
    others are printed all the same, and the exit code is 1.
    """
    target = Target(output)
    target.check()
    if formats:
        asyncio.run(_formats(as_json=as_json))
        return
    if not files:
        raise InputError("there are no files: give some")
    results = asyncio.run(_convert(files))
    for number, result in enumerate(results):
        _write(result, target, as_json=as_json, follows=number > 0)
    target.end()
    if any(result.failed for result in results):
        raise typer.Exit(notices.FAILED)


async def _convert(files: list[Path]) -> list[Markdown]:
    async with clients.client(local=False) as ai:
        with notices.progress("converting"):
            return await ai.to_markdown(files)


async def _formats(*, as_json: bool) -> None:
    async with clients.client(local=False) as ai:
        for one in await ai.to_markdown_formats():
            said = {"extension": one.extension, "mimeType": one.mime_type}
            say(json_line(said) if as_json else f"{one.extension}\t{one.mime_type}\n")


def _write(result: Markdown, target: Target, *, as_json: bool, follows: bool) -> None:
    if as_json:
        missing = {"name": result.name, "format": "error", "error": result.error}
        target.line(result.raw if isinstance(result.raw, Mapping) else missing)
    elif result.failed:
        notices.report(f"{result.name}: {result.error}")
    else:
        # A line between them, or the last line of one would go on in the next.
        text = "\n" * follows + _ended(str(result))
        if target.path is None:
            say(text)
        else:
            target.data(text.encode("utf-8", "replace"))


def _ended(text: str) -> str:
    return text if text.endswith("\n") else f"{text}\n"
