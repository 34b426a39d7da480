"""`cfai queue`: submit many runs at once, and wait for their results."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cfai.cli import clients, console, files
from cfai.cli.console import Output, Target, write_text
from cfai.errors import InputError

if TYPE_CHECKING:
    from cfai import QueuedItem

app: typer.Typer = typer.Typer(
    help="Submit many runs at once and wait for them.", no_args_is_help=True
)


@app.command()
def submit(
    model: Annotated[str, typer.Argument(help="A model with a queue.")],
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="The runs; - or omitted: stdin.")
    ] = None,
) -> None:
    """Queue a run for each line of FILE, a JSON object; print the request id for `wait`.

    A line's `external_reference` comes back with its result; the default is the run's number, from
    0. If the service runs the batch at once, there is no id: the results are printed, as by `wait`.
    """
    is_stdin = file is None or str(file) == "-"
    if is_stdin and files.stdin_is_terminal():
        raise InputError("there are no runs: give a file, or pipe lines in")
    if file is None or is_stdin:
        text = files.read_stdin_text()
    else:
        text = files.decode_text(files.read_file(file), str(file))
    request_id, items = asyncio.run(_submit(model, _parse_tasks(text)))
    if request_id is not None:
        write_text(f"{request_id}\n")
    elif _write_items(items, Target(None)):
        raise typer.Exit(console.EXIT_FAILED)


def _parse_tasks(text: str) -> list[Mapping[str, Any]]:
    # Not `splitlines`: JSON strings may contain other line breaks of Unicode.
    lines = enumerate(text.split("\n"), start=1)
    return [_parse_task(number, line) for number, line in lines if line.strip()]


def _parse_task(number: int, line: str) -> Mapping[str, Any]:
    try:
        fields = json.loads(line)
    except ValueError as exc:
        raise InputError(f"line {number} must be a JSON object: {exc}") from exc
    if not isinstance(fields, dict):
        raise InputError(f"line {number} must be a JSON object, got {line.strip():.60}")
    return fields


async def _submit(
    model: str, tasks: list[Mapping[str, Any]]
) -> "tuple[str | None, list[QueuedItem[Any]]]":
    """Give the request id, or the results if there is none."""
    async with clients.open_client(local=False) as ai:
        batch = await ai.queue(model, tasks)
        if batch.request_id is not None:
            return batch.request_id, []
        return None, await batch.wait()


@app.command()
def wait(
    model: Annotated[str, typer.Argument(help="The model of the batch.")],
    request_id: Annotated[str, typer.Argument(help="The id that `submit` printed.")],
    *,
    timeout: Annotated[float | None, typer.Option(min=0, help="Maximum seconds to wait.")] = None,
    output: Output = None,
) -> None:
    """Wait for a batch; print one line of JSON per run, as the service sent it.

    The exit code is 1 if a run failed, and 5 if the batch is not finished in time. The batch
    continues then.
    """
    target = Target(output)
    target.check()
    if asyncio.run(_wait(model, request_id, timeout, target)):
        raise typer.Exit(console.EXIT_FAILED)


async def _wait(model: str, request_id: str, seconds: float | None, target: Target) -> bool:
    async with clients.open_client(local=False) as ai:
        with console.show_status("waiting for the batch"):
            items = await ai.queued(model, request_id).wait(seconds)
    return _write_items(items, target)


def _write_items(items: "list[QueuedItem[Any]]", target: Target) -> bool:
    """Write a line for each item, and tell whether one failed."""
    for item in items:
        target.write_line(_missing_result(item) if item.raw is None else item.raw)
    target.finish()
    return any(item.failed for item in items)


def _missing_result(item: "QueuedItem[Any]") -> dict[str, Any]:
    """Give the line of a run for which the service sent no result."""
    errors = [{"message": str(item.error)}]
    return {"external_reference": item.reference, "success": False, "errors": errors}
