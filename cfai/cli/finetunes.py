"""`cfai finetunes`: adapters listed, made and uploaded."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from cfai.cli import clients, notices, tables
from cfai.cli.output import json_line, say
from cfai.errors import InputError
from cfai.resources.finetunes import Finetune, FinetuneAsset

app: typer.Typer = typer.Typer(
    help="List, make and upload fine-tunes (LoRA).", no_args_is_help=True
)

_COLUMNS = ("id", "name", "model", "description")


def _cells(row: Finetune) -> tuple[object, ...]:
    return row.id, row.name, row.model, row.description


@app.command("list")
def own(*, as_json: tables.Json = False) -> None:
    """List the account's fine-tunes."""
    asyncio.run(_own(as_json=as_json))


async def _own(*, as_json: bool) -> None:
    async with clients.client(local=False) as ai:
        await tables.show(aiter(ai.finetunes.list()), _COLUMNS, _cells, as_json=as_json)


@app.command()
def public(
    *,
    order_by: Annotated[str | None, typer.Option(help="The name of a column.")] = None,
    limit: Annotated[int | None, typer.Option(help="Rows to ask for at once.")] = None,
    offset: Annotated[int | None, typer.Option(help="Rows to pass over.")] = None,
    as_json: tables.Json = False,
) -> None:
    """List the fine-tunes that every account can use."""
    asyncio.run(_public(order_by, limit, offset, as_json=as_json))


async def _public(
    order_by: str | None, limit: int | None, offset: int | None, *, as_json: bool
) -> None:
    async with clients.client(local=False) as ai:
        found = ai.finetunes.public(limit=limit, offset=offset, order_by=order_by)
        await tables.show(aiter(found), _COLUMNS, _cells, as_json=as_json)


@app.command()
def create(
    model: Annotated[str, typer.Argument(help="What it was trained for.")],
    name: Annotated[str, typer.Argument(help="What `lora` will take.")],
    *,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
    public: Annotated[bool, typer.Option("--public", help="Every account may use it.")] = False,
    as_json: tables.Json = False,
) -> None:
    """Make a fine-tune, and print its id. Its files come with `upload`."""
    asyncio.run(_create(model, name, description, public=public, as_json=as_json))


async def _create(
    model: str, name: str, description: str | None, *, public: bool, as_json: bool
) -> None:
    async with clients.client(local=False) as ai:
        made = await ai.finetunes.create(
            model, name, description=description, public=True if public else None
        )
        say(json_line(made.raw) if as_json else f"{made.id}\n")


@app.command()
def upload(
    finetune: Annotated[str, typer.Argument(help="Its id or its name.")],
    path: Annotated[Path, typer.Argument(help="The folder of an adapter, or one file.")],
    *,
    name: Annotated[
        str | None, typer.Option(help="What the service is to call the one file.")
    ] = None,
    as_json: tables.Json = False,
) -> None:
    """Upload an adapter: both files of a folder, checked first, or any one file."""
    folder = path.is_dir()
    if folder and name is not None:
        raise InputError("--name is for one file; the two of a folder have theirs")
    for asset in asyncio.run(_upload(finetune, path, name, folder=folder)):
        if as_json:
            say(json_line(asset.raw or {}))


async def _upload(
    finetune: str, path: Path, name: str | None, *, folder: bool
) -> tuple[FinetuneAsset, ...]:
    async with clients.client(local=False) as ai:
        with notices.progress_in_bytes(f"uploading {path.name}") as progress:
            if folder:
                return await ai.finetunes.upload_adapter(finetune, path, progress=progress)
            upload = ai.finetunes.upload
            return (await upload(finetune, path, file_name=name, progress=progress),)
