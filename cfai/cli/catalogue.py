"""`cfai models`: the catalogue."""

import asyncio
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cfai.cli import clients, options, tables
from cfai.cli.output import Target
from cfai.resources.models import Model


class _Models(TyperGroup):
    """Takes what is no command of its own for words to search."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        first = args[0] if args else "search"
        known = first in self.commands or first in ctx.help_option_names
        return super().parse_args(ctx, args if args and known else ["search", *args])


app: typer.Typer = typer.Typer(
    cls=_Models,
    help="List the service's models, and look up what they take. `search` can be left out.",
)

_COLUMNS = ("model", "task", "context", "LoRA", "price")


@app.command()
def search(
    words: Annotated[str | None, typer.Argument(help="Of the name or the description.")] = None,
    *,
    task: Annotated[str | None, typer.Option(help='"Text Generation", for one.')] = None,
    author: Annotated[str | None, typer.Option(help="Who made it.")] = None,
    as_json: tables.Json = False,
) -> None:
    """List models: all of them, or those that fit."""
    asyncio.run(_search(words, task, author, as_json=as_json))


async def _search(
    words: str | None, task: str | None, author: str | None, *, as_json: bool
) -> None:
    async with clients.client(local=False) as ai:
        found = ai.models.search(words, task=task, author=author)
        await tables.show(aiter(found), _COLUMNS, _cells, as_json=as_json)


def _cells(model: Model) -> tuple[object, ...]:
    prices = ", ".join(
        f"{one.price:g} {one.currency or ''} {one.unit or ''}" for one in model.price
    )
    task = model.task.name if model.task else None
    return model.name, task, model.context_window, "yes" if model.lora else None, prices


@app.command()
def schema(
    model: Annotated[str, typer.Argument(help="Its name, @cf/openai/whisper for one.")],
    *,
    output: options.Output = None,
) -> None:
    """Print what a model takes and answers, as JSON schemas."""
    target = Target(output)
    target.check()
    asyncio.run(_schema(model, target))


async def _schema(model: str, target: Target) -> None:
    async with clients.client(local=False) as ai:
        target.json((await ai.models.schema(model)).raw)


@app.command()
def tasks(*, as_json: tables.Json = False) -> None:
    """List what models are made for."""
    asyncio.run(_tasks(as_json=as_json))


@app.command()
def authors(*, as_json: tables.Json = False) -> None:
    """List who made them."""
    asyncio.run(_authors(as_json=as_json))


async def _authors(*, as_json: bool) -> None:
    async with clients.client(local=False) as ai:
        found = aiter(ai.models.authors())
        await tables.show(found, ("author",), lambda author: (author.name,), as_json=as_json)


async def _tasks(*, as_json: bool) -> None:
    async with clients.client(local=False) as ai:
        await tables.show(
            aiter(ai.models.tasks()),
            ("task", "description"),
            lambda task: (task.name, task.description),
            as_json=as_json,
        )
