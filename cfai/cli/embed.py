"""`cfai embed`: a vector for each text, in order, with many requests under way at once."""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cfai.cli import clients, inputs, notices, options, output, texts as sources, vectors
from cfai.errors import CfaiError, InputError
from cfai.tasks import TextEmbeddings

if TYPE_CHECKING:
    from cfai.embedding import EmbeddingJob, JobOptions

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
        str | None,
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
    if local and checkpoint is not None:
        raise InputError(
            "--checkpoint and --local can't be used together: a checkpoint is of one endpoint, and"
            " --local is another each time. `cfai serve` has one that stays"
        )
    source, total = _source(texts or [], sources.Columns(column, id_column, skip_failed), target)
    if local:
        clients.need(*clients.EMBEDDINGS, needed_for="embedding texts on this machine")
    job: JobOptions = {"checkpoint": checkpoint}
    if skip_failed:
        job["on_error"] = vectors.instead_of_failing(target)
    if local:
        job["rate"] = None
    with_ids = id_column is not None
    asyncio.run(_embed(model, source, total, target, job, with_ids=with_ids, local=local))


def _source(
    given: list[str], columns: sources.Columns, target: output.Target
) -> tuple[Iterable[sources.Entry], int]:
    """The texts, and how many there are."""
    path = sources.file_of(given)
    if path is not None:
        if target.path is not None and target.path.exists() and path.samefile(target.path):
            raise InputError(f"{path} can't be written while it is read: choose another file")
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
            try:
                async with under_way:
                    await vectors.write(under_way, target, with_ids=with_ids)
            except OSError as exc:
                raise output.OutputError(f"can't write: {exc}") from exc
            except BaseException as exc:
                if total > 1 and under_way.stats.texts:
                    _advise(exc, job.get("checkpoint"))
                raise
    _tell_of_failures(under_way)


def _advise(failure: BaseException, checkpoint: object) -> None:
    """Say how to go on from what was paid for."""
    advice = (
        f"what is finished is in {checkpoint}: the same command goes on from there"
        if checkpoint
        else "with --checkpoint FOLDER, the same command goes on from what is finished"
    )
    if isinstance(failure, CfaiError):
        failure.add_note(advice)
    elif isinstance(failure, asyncio.CancelledError):
        notices.note(f"\n{advice}")


def _tell_of_failures(job: "EmbeddingJob[Any]") -> None:
    """Say how many texts were left out.

    Raises:
        Exit: All were.
    """
    stats = job.stats
    if not stats.failed:
        return
    notices.tell(f"{stats.failed} of {stats.texts + stats.failed} texts could not be embedded")
    if not stats.texts:
        raise typer.Exit(notices.FAILED)
