"""`cfai queue`: many runs handed over at once, and waited for."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cfai.cli import clients, inputs, notices, options
from cfai.cli.output import Target, say
from cfai.errors import InputError

if TYPE_CHECKING:
    from cfai import QueuedItem

app: typer.Typer = typer.Typer(help="Hand many runs over, and wait for them.", no_args_is_help=True)


@app.command()
def submit(
    model: Annotated[str, typer.Argument(help="A model that has a queue.")],
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Left out, or -: what is piped in.")
    ] = None,
) -> None:
    """Queue a run for each line of FILE, a JSON object; print the request id to wait with.

    A line's `external_reference` comes back with its result; without one, it is its number, from 0.
    Where the service did it at once, there is no id: the results are printed, as `wait` does it.
    """
    piped = file is None or str(file) == "-"
    if piped and inputs.stdin_is_a_terminal():
        raise InputError("there are no runs: give a file, or pipe lines in")
    text = inputs.stdin_text() if file is None or piped else _text(file)
    request_id, items = asyncio.run(_submit(model, _tasks(text)))
    if request_id is not None:
        say(f"{request_id}\n")
    elif _written(items, Target(None)):
        raise typer.Exit(notices.FAILED)


def _text(file: Path) -> str:
    return inputs.text(inputs.file_bytes(file), str(file))


def _tasks(text: str) -> list[Mapping[str, Any]]:
    # Not `splitlines`: JSON may hold other characters that end a line of text.
    return [_task(at, line) for at, line in enumerate(text.split("\n"), 1) if line.strip()]


def _task(at: int, line: str) -> Mapping[str, Any]:
    try:
        fields = json.loads(line)
    except ValueError as exc:
        raise InputError(f"line {at} must be a JSON object: {exc}") from exc
    if not isinstance(fields, dict):
        raise InputError(f"line {at} must be a JSON object")
    return fields


async def _submit(
    model: str, tasks: list[Mapping[str, Any]]
) -> "tuple[str | None, list[QueuedItem[Any]]]":
    """The id; or where there is none, what became of the tasks."""
    async with clients.client(local=False) as ai:
        batch = await ai.queue(model, tasks)
        if batch.request_id is not None:
            return batch.request_id, []
        return None, await batch.wait()


@app.command()
def wait(
    model: Annotated[str, typer.Argument(help="What it was queued for.")],
    request_id: Annotated[str, typer.Argument(help="What `submit` printed.")],
    *,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds to wait at most.")] = None,
    output: options.Output = None,
) -> None:
    """Wait for a batch; print a line of JSON for each run, as the service said it.

    The exit code is 1 where a run failed, and 5 where the batch wasn't done in time: it goes on.
    """
    target = Target(output)
    target.check()
    if asyncio.run(_wait(model, request_id, timeout, target)):
        raise typer.Exit(notices.FAILED)


async def _wait(model: str, request_id: str, seconds: float | None, target: Target) -> bool:
    async with clients.client(local=False) as ai:
        with notices.progress("waiting for the batch"):
            items = await ai.queued(model, request_id).wait(seconds)
    return _written(items, target)


def _written(items: "list[QueuedItem[Any]]", target: Target) -> bool:
    """Write a line for each item, and tell whether one failed."""
    for item in items:
        target.line(_missing(item) if item.raw is None else item.raw)
    target.end()
    return any(item.failed for item in items)


def _missing(item: "QueuedItem[Any]") -> dict[str, Any]:
    """What stands for a run of which the service said nothing."""
    errors = [{"message": str(item.error)}]
    return {"external_reference": item.reference, "success": False, "errors": errors}
