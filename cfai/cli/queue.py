"""`cfai queue`: many runs handed over at once, and waited for."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cfai.cli import clients, inputs, notices, options
from cfai.cli.output import Target, say
from cfai.errors import InputError

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
    """
    piped = file is None or str(file) == "-"
    if piped and inputs.stdin_is_a_terminal():
        raise InputError("there are no runs: give a file, or pipe lines in")
    text = inputs.stdin_text() if file is None or piped else _text(file)
    request_id = asyncio.run(_submit(model, _tasks(text)))
    say(f"{request_id}\n")


def _text(file: Path) -> str:
    return inputs.text(inputs.file_bytes(file), str(file))


def _tasks(text: str) -> list[Mapping[str, Any]]:
    return [_task(at, line) for at, line in enumerate(text.splitlines(), 1) if line.strip()]


def _task(at: int, line: str) -> Mapping[str, Any]:
    try:
        fields = json.loads(line)
    except ValueError as exc:
        raise InputError(f"line {at} must be a JSON object: {exc}") from exc
    if not isinstance(fields, dict):
        raise InputError(f"line {at} must be a JSON object")
    return fields


async def _submit(model: str, tasks: list[Mapping[str, Any]]) -> str | None:
    async with clients.client(local=False) as ai:
        return (await ai.queue(model, tasks)).request_id


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
    for item in items:
        target.line(item.raw)
    return any(item.failed for item in items)
