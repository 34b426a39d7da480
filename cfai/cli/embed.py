"""`cfai embed`: a vector for each text, in order, with many requests at once."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cfai.cli import clients, console, files
from cfai.cli.console import Output, Target
from cfai.embedding.threads import run_in_thread
from cfai.errors import CfaiError, InputError
from cfai.tasks import TextEmbeddings

if TYPE_CHECKING:
    from cfai.embedding import EmbeddingJob, JobOptions

MODEL: Final = "@cf/baai/bge-m3"


def embed(
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            help="Texts, or one file of texts: .txt (one per line), .jsonl, .csv or .parquet. "
            "If omitted, each line of standard input is a text."
        ),
    ] = None,
    *,
    model: Annotated[str, typer.Option("--model", "-m", help="The model's name.")] = MODEL,
    file: Output = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Store finished texts there, and resume from it."),
    ] = None,
    column: Annotated[str, typer.Option(help="The column of a file that has the texts.")] = "text",
    id_column: Annotated[
        str | None, typer.Option("--id", metavar="COLUMN", help="The column that has the ids.")
    ] = None,
    skip_failed: Annotated[
        bool, typer.Option("--skip-failed", help="Skip texts that can't be embedded.")
    ] = False,
    local: clients.Local = False,
) -> None:
    """Embed texts: print a vector for each.

    Prints one line of JSON per text, with `text` and `vector`, in the order of the texts. With -o,
    the suffix .parquet or .npy selects that format. Empty lines are skipped.
    """
    target = Target(file)
    _check_format(target)
    if local and checkpoint is not None:
        raise InputError(
            "--checkpoint and --local can't be combined: a checkpoint belongs to one endpoint, and "
            "--local starts a new one each time; use `cfai serve` instead"
        )
    columns = files.Columns(column, id_column, skip_failed)
    source, total = _find_source(texts or [], columns, target)
    if local:
        clients.require(*clients.EMBEDDINGS, needed_for="embedding texts on this machine")
    options = build_job_options(target, checkpoint, skip_failed=skip_failed, local=local)
    with_ids = id_column is not None
    asyncio.run(_run_job(model, source, total, target, options, with_ids=with_ids, local=local))


def build_job_options(
    target: Target, checkpoint: str | None, *, skip_failed: bool, local: bool
) -> "JobOptions":
    """Give the options of the job. Nothing limits the rate of models on this machine."""
    options: JobOptions = {"checkpoint": checkpoint}
    if skip_failed:
        # An array has no ids, so it has a row for each text.
        options["on_error"] = "yield" if _suffix(target) == ".npy" else "skip"
    if local:
        options["rate"] = None
    return options


def _find_source(
    arguments: list[str], columns: files.Columns, target: Target
) -> tuple[Iterable[files.Entry], int]:
    """Give the texts and their number."""
    path = files.find_text_file(arguments)
    if path is not None:
        if target.path is not None and target.path.exists() and path.samefile(target.path):
            raise InputError(f"{path} can't be written while it is read: choose another file")
        return files.read_text_file(path, columns), files.count_file_texts(path)
    texts = [files.check_argument(argument) for argument in arguments]
    if not arguments:
        if files.stdin_is_terminal():
            raise InputError("there are no texts: give some, or pipe lines in")
        texts = list(files.split_lines(files.read_stdin_text()))
    if not texts:
        raise InputError("there are no texts: standard input is empty")
    TextEmbeddings(texts)  # checks all texts before the first request
    return texts, len(texts)


async def _run_job(
    model: str,
    source: Iterable[files.Entry],
    total: int,
    target: Target,
    options: "JobOptions",
    *,
    with_ids: bool,
    local: bool,
) -> None:
    async with clients.open_client(local=local) as ai:
        with console.show_job_progress(total, to_file=target.path is not None) as update:
            options["progress"] = update
            job = ai.embed_many(model, source, **options)
            try:
                async with job:
                    await write_vectors(job, target, with_ids=with_ids)
            except OSError as exc:
                raise console.OutputError(f"can't write: {exc}") from exc
            except BaseException as exc:
                if total > 1 and job.stats.texts:
                    _advise_resume(exc, options.get("checkpoint"))
                raise
    stats = job.stats
    if stats.failed:
        total = stats.texts + stats.failed
        console.write_stderr(f"{stats.failed} of {total} texts could not be embedded")
        if not stats.texts:
            raise typer.Exit(console.EXIT_FAILED)


def _advise_resume(failure: BaseException, checkpoint: object) -> None:
    """Say how to resume, since finished texts are paid for."""
    advice = (
        f"what is finished is in {checkpoint}: run the same command again to resume"
        if checkpoint
        else "with --checkpoint FILE, running the same command again resumes the job"
    )
    if isinstance(failure, CfaiError):
        failure.add_note(advice)
    elif isinstance(failure, asyncio.CancelledError):
        console.print_notice(f"\n{advice}")


# Output formats: lines of JSON, Parquet, NumPy


def _suffix(target: Target) -> str:
    return "" if target.path is None else target.path.suffix.lower()


def _check_format(target: Target) -> None:
    """Check that the format can be written, before anything is paid for.

    Raises:
        MissingExtra: The library for it is not installed.
    """
    from cfai.embedding import export

    if _suffix(target) == ".parquet":
        export.check_arrow("writing Parquet")
    elif _suffix(target) == ".npy":
        export.check_numpy("writing .npy")


async def write_vectors(job: "EmbeddingJob[Any]", target: Target, *, with_ids: bool) -> None:
    """Write the vectors of a job in the format of the target's suffix."""
    from cfai.embedding import EmbeddedBatch

    path = target.path
    if path is not None and _suffix(target) == ".parquet":
        await _write_parquet(job, path)
    elif path is not None and _suffix(target) == ".npy":
        await run_in_thread(_save_array, await job.numpy(), path)
    else:
        async for item in job:
            if isinstance(item, EmbeddedBatch):
                for key, text, vector in zip(item.ids, item.texts, item.vectors, strict=True):
                    ids = {"id": key} if with_ids else {}
                    # Nine digits identify a 32-bit float; Python would write seventeen.
                    numbers = [float(f"{number:.9g}") for number in vector]
                    target.write_line({**ids, "text": text, "vector": numbers})
        target.finish()


def _save_array(array: Any, path: Path) -> None:
    import numpy as np

    from cfai.embedding import export

    with export.replacement(path) as file:
        np.save(file, array)


async def _write_parquet(job: "EmbeddingJob[Any]", path: Path) -> None:
    """Write a temporary file, and rename it when it is complete."""
    import pyarrow.parquet as pq

    from cfai.embedding import export

    temporary = export.temporary_path(path)
    writer: Any = None
    rows = export.TableRows()

    def flush() -> None:
        nonlocal writer
        table = rows.take_table()
        writer = writer or pq.ParquetWriter(temporary, table.schema, compression="none")
        writer.write_table(table)

    try:
        async for item in job:
            rows.add(item)
            if rows.fill_a_file:
                await run_in_thread(flush)
        if rows or writer is None:
            await run_in_thread(flush)
        writer.close()
        await run_in_thread(temporary.replace, path)
    finally:
        if writer is not None:
            writer.close()
        temporary.unlink(missing_ok=True)
