"""`cfai queue`: submit many runs at once, and wait for their results."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cfai.cli import clients, console, files
from cfai.cli.console import Target, complete_files, output_option, write_text
from cfai.errors import InputError

if TYPE_CHECKING:
    from cfai import QueuedItem

app: click.Group = click.Group("queue", help="Submit many runs at once and wait for them.")


@app.command()
@click.argument("model", help="A model with a queue.")
@click.argument(
    "file",
    required=False,
    shell_complete=complete_files,
    help="The runs; - or omitted: stdin.",
)
def submit(model: str, file: str | None) -> None:
    """Queue a run for each line of FILE, a JSON object; print the request id for `wait`.

    A line's `external_reference` comes back with its result; the default is the run's number, from
    0. If the service runs the batch at once, there is no id: the results are printed, as by `wait`.
    """
    argument = "-" if file is None else file
    if argument == "-" and files.stdin_is_terminal():
        raise InputError("there are no runs: give a file, or pipe lines in")
    name, data = files.read_named(argument, "FILE")
    asyncio.run(_submit(model, list(_parse_tasks(files.decode_text(data, name)))))


def _parse_tasks(text: str) -> Iterator[Mapping[str, Any]]:
    from cfai._types.json import loads_strictly

    # Not `splitlines`: JSON strings may contain other line breaks of Unicode.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            fields = loads_strictly(line)
        except ValueError as exc:
            raise InputError(f"line {number} must be a JSON object: {exc}") from exc
        if not isinstance(fields, dict):
            raise InputError(f"line {number} must be a JSON object, got {line.strip():.60}")
        yield fields


async def _submit(model: str, tasks: list[Mapping[str, Any]]) -> None:
    async with clients.open_client(local=False) as ai:
        batch = await ai.queue(model, tasks)
        if batch.request_id is None:
            _write_items(await batch.wait(), Target(None))
        else:
            write_text(f"{batch.request_id}\n")


@app.command()
@click.argument("model", help="The model of the batch.")
@click.argument("request_id", help="The id that `submit` printed.")
@click.option("--timeout", "seconds", type=click.FloatRange(min=0), help="Maximum seconds to wait.")
@output_option
@clients.async_command
async def wait(model: str, request_id: str, *, seconds: float | None, output: Path | None) -> None:
    """Wait for a batch; print one line of JSON per run, as the service sent it.

    The exit code is 1 if a run failed, and 5 if the batch is not finished in time. The batch
    continues then.
    """
    target = Target(output)
    async with clients.open_client(local=False) as ai:
        with console.show_status("waiting for the batch"):
            items = await ai.queued(model, request_id).wait(seconds)
    _write_items(items, target)


def _write_items(items: "list[QueuedItem[Any]]", target: Target) -> None:
    """Write a line for each item; the exit code is 1 if one failed."""
    for item in items:
        line = item.raw
        if line is None:  # The service sent no result.
            errors = [{"message": str(item.error)}]
            line = {"external_reference": item.reference, "success": False, "errors": errors}
        target.write_line(line)
    target.finish()
    if any(item.failed for item in items):
        raise click.exceptions.Exit(console.EXIT_FAILED)
