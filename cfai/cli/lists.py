"""`cfai models` and `cfai finetunes`: lists as tables or lines, and changes to fine-tunes."""

from collections.abc import AsyncIterable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import click

from cfai.cli import clients, console
from cfai.cli.console import PATH, Target, output_option, to_json_line, write_text
from cfai.errors import InputError

if TYPE_CHECKING:
    from cfai.resources.finetunes import Finetune
    from cfai.resources.models import Model


class _Row(Protocol):
    @property
    def raw(self) -> Any: ...


F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R", bound=_Row)

# Lists


def json_option(command: F) -> F:
    """Declare the option `--json`."""
    text = "Print one line of JSON per row, as the service sent it."
    return click.option("--json", "as_json", is_flag=True, help=text)(command)


_MAX_CELL: Final = 60
"""In characters, at a terminal."""


async def print_list(
    rows: AsyncIterable[R],
    columns: Sequence[str],
    cells: Callable[[R], Sequence[object]],
    *,
    as_json: bool,
) -> None:
    """Print rows as JSON if *as_json*, as a table at a terminal, else as cells with tabs between.

    Lines are printed as they arrive; a table needs all rows first.
    """
    if as_json or not console.stdout_is_terminal():
        async for row in rows:
            write_text(
                to_json_line(row.raw) if as_json else "\t".join(map(_one_line, cells(row))) + "\n"
            )
        return
    _print_table([[_one_line(cell) for cell in cells(row)] async for row in rows], columns)


def _one_line(cell: object) -> str:
    return "" if cell is None else " ".join(str(cell).split())


def _print_table(rows: Sequence[Sequence[str]], columns: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    # The first column is an argument of other commands, so it is never cut.
    heads = [Column(name, no_wrap=name == columns[0], overflow="fold") for name in columns]
    table = Table(*heads, box=None, pad_edge=False)
    for first, *others in rows:
        cells = map(console.strip_controls, others)
        shortened = (t if len(t) <= _MAX_CELL else f"{t[: _MAX_CELL - 1]}…" for t in cells)
        table.add_row(Text(console.strip_controls(first)), *map(Text, shortened))
    Console().print(table)


# Models


class _ModelsGroup(click.Group):
    """Runs `search` if the first argument is not a command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if ctx.resilient_parsing and not args:  # A shell completes the first argument.
            return super().parse_args(ctx, args)
        first = args[0] if args else "search"
        is_command = first in self.commands or first in ctx.help_option_names
        return super().parse_args(ctx, args if args and is_command else ["search", *args])

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Complete the name of a command, or an option of `search`."""
        search = self.commands["search"]
        context = search.make_context("search", [], parent=ctx, resilient_parsing=True)
        options = search.shell_complete(context, incomplete)
        return [*super().shell_complete(ctx, incomplete), *options]


models_app: click.Group = _ModelsGroup(
    "models",
    help="List the service's models and show their schemas. `search` can be omitted.",
)

_MODEL_COLUMNS: Final = ("model", "task", "context", "LoRA", "price")


@models_app.command()
@click.argument("words", required=False, help="Words in the name or the description.")
@click.option("--task", help='The task, such as "Text Generation".')
@click.option("--author", help="The model's author.")
@json_option
@clients.async_command
async def search(words: str | None, *, task: str | None, author: str | None, as_json: bool) -> None:
    """List all models, or those that match."""
    async with clients.open_client(local=False) as ai:
        models = ai.models.search(words, task=task, author=author)
        await print_list(models, _MODEL_COLUMNS, _model_cells, as_json=as_json)


def _model_cells(model: "Model") -> tuple[object, ...]:
    prices = ", ".join(
        f"{price.price:g} {price.currency or ''} {price.unit or ''}" for price in model.price
    )
    task = model.task.name if model.task else None
    return model.name, task, model.context_window, "yes" if model.lora else None, prices


@models_app.command()
@click.argument("model", help="The model's name, such as @cf/openai/whisper.")
@output_option
@clients.async_command
async def schema(model: str, *, output: Path | None) -> None:
    """Print the JSON schemas of a model's input and output."""
    target = Target(output)
    async with clients.open_client(local=False) as ai:
        target.write_json((await ai.models.schema(model)).raw)


@models_app.command()
@json_option
@clients.async_command
async def tasks(*, as_json: bool) -> None:
    """List the tasks of models."""
    async with clients.open_client(local=False) as ai:
        rows, columns = ai.models.tasks(), ("task", "description")
        await print_list(rows, columns, lambda row: (row.name, row.description), as_json=as_json)


@models_app.command()
@json_option
@clients.async_command
async def authors(*, as_json: bool) -> None:
    """List the authors of models."""
    async with clients.open_client(local=False) as ai:
        rows = ai.models.authors()
        await print_list(rows, ("author",), lambda row: (row.name,), as_json=as_json)


# Fine-tunes

finetunes_app: click.Group = click.Group(
    "finetunes", help="List, create and upload fine-tunes (LoRA)."
)

_FINETUNE_COLUMNS: Final = ("id", "name", "model", "description")


def _finetune_cells(row: "Finetune") -> tuple[object, ...]:
    return row.id, row.name, row.model, row.description


@finetunes_app.command("list")
@json_option
@clients.async_command
async def list_own(*, as_json: bool) -> None:
    """List the account's fine-tunes."""
    async with clients.open_client(local=False) as ai:
        await print_list(ai.finetunes.list(), _FINETUNE_COLUMNS, _finetune_cells, as_json=as_json)


@finetunes_app.command("public")
@click.option("--order-by", help="The column to sort by.")
@click.option("--limit", type=int, help="Rows per request.")
@click.option("--offset", type=int, help="Rows to skip.")
@json_option
@clients.async_command
async def list_public(
    *, order_by: str | None, limit: int | None, offset: int | None, as_json: bool
) -> None:
    """List the fine-tunes that every account can use."""
    async with clients.open_client(local=False) as ai:
        rows = ai.finetunes.public(limit=limit, offset=offset, order_by=order_by)
        await print_list(rows, _FINETUNE_COLUMNS, _finetune_cells, as_json=as_json)


@finetunes_app.command()
@click.argument("model", help="The model that it was trained for.")
@click.argument("name", help="The name to pass as `lora`.")
@click.option("--description", help="A description for people.")
@click.option("--public", is_flag=True, help="Let every account use it.")
@json_option
@clients.async_command
async def create(
    model: str, name: str, *, description: str | None, public: bool, as_json: bool
) -> None:
    """Create a fine-tune and print its id. Add its files with `upload`."""
    async with clients.open_client(local=False) as ai:
        finetune = await ai.finetunes.create(
            model, name, description=description, public=public or None
        )
        write_text(to_json_line(finetune.raw) if as_json else f"{finetune.id}\n")


@finetunes_app.command()
@click.argument("finetune", help="The id or name of the fine-tune.")
@click.argument("path", type=PATH, help="The folder of an adapter, or one file.")
@click.option("--name", help="The name to upload the file under.")
@json_option
@clients.async_command
async def upload(finetune: str, path: Path, *, name: str | None, as_json: bool) -> None:
    """Upload an adapter: both files of a folder, which are checked first, or a single file."""
    is_folder = path.is_dir()  # noqa: ASYNC240  # nothing else runs yet
    if is_folder and name is not None:
        raise InputError("--name is for a single file: the files of a folder keep their names")
    async with clients.open_client(local=False) as ai:
        with console.show_upload_progress(f"uploading {path.name}") as progress:
            if is_folder:
                assets = [*await ai.finetunes.upload_adapter(finetune, path, progress=progress)]
            else:
                asset = await ai.finetunes.upload(finetune, path, file_name=name, progress=progress)
                assets = [asset]
    for asset in assets if as_json else ():
        write_text(to_json_line(asset.raw or {}))
