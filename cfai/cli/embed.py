"""`cfai embed`: a vector for each text, in order, with many requests under way at once."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cfai.cli import clients, inputs, notices, options, output, texts as sources, vectors
from cfai.errors import InputError
from cfai.tasks import TextEmbeddings

if TYPE_CHECKING:
    from cfai.embedding import JobOptions

MODEL: Final = "@cf/baai/bge-m3"


def embed(
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            help="Texts; or one file of them: .txt (a line each), .jsonl, .csv or .parquet. "
            "Left out: each line of what is piped in."
        ),
    ] = None,
    *,
    model: Annotated[str, typer.Option("--model", "-m")] = MODEL,
    file: options.Output = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep what is finished there, and go on from it."),
    ] = None,
    column: Annotated[str, typer.Option(help="What the texts of a file are called.")] = "text",
    id_column: Annotated[
        str | None, typer.Option("--id", metavar="COLUMN", help="What their ids are called.")
    ] = None,
    skip_failed: Annotated[
        bool, typer.Option("--skip-failed", help="Leave out what can't be embedded, and go on.")
    ] = False,
    local: options.Local = False,
) -> None:
    """Turn texts into vectors.

    A line of JSON for each, with `text` and `vector`, in the order of the texts; with -o, a file
    that ends in .parquet or .npy has that form. Empty lines are left out.
    """
    target = output.Target(file)
    target.check()
    vectors.check(target)
    source, total = _source(texts or [], sources.Columns(column, id_column))
    if local:
        clients.need(*clients.EMBEDDINGS, needed_for="embedding texts on this machine")
    job: JobOptions = {"checkpoint": checkpoint, "on_error": "skip" if skip_failed else "raise"}
    if local:
        job["rate"] = None
    with_ids = id_column is not None
    asyncio.run(_embed(model, source, total, target, job, with_ids=with_ids, local=local))


def _source(given: list[str], columns: sources.Columns) -> tuple[Iterable[sources.Entry], int]:
    """The texts, and how many there are."""
    if len(given) == 1 and sources.is_file(given[0]):
        path = Path(given[0])
        return sources.of_file(path, columns), sources.count(path)
    if not given and inputs.stdin_is_a_terminal():
        raise InputError("there are no texts: give some, or pipe lines in")
    texts = (
        [inputs.argument(text) for text in given]
        if given
        else list(sources.lines(inputs.stdin_text()))
    )
    if not texts:
        raise InputError("there are no texts: what was piped in is empty")
    TextEmbeddings(texts)  # All are checked before the first is sent.
    return texts, len(texts)


async def _embed(
    model: str,
    source: Iterable[sources.Entry],
    total: int,
    target: output.Target,
    job: "JobOptions",
    *,
    with_ids: bool,
    local: bool,
) -> None:
    async with clients.client(local=local) as ai:
        with notices.progress_of_job(total, to_file=target.path is not None) as heard:
            job["progress"] = heard
            under_way = ai.embed_many(model, source, **job)
            async with under_way:
                await vectors.write(under_way, target, with_ids=with_ids)
    if under_way.stats.failed:
        notices.note(f"{under_way.stats.failed} texts could not be embedded")
