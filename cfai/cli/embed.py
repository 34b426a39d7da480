"""`cfai embed`: a vector for each text, in order, with many requests at once."""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import click
from attrs import field, frozen

from cfai._types.excerpts import format_count, format_value
from cfai.cli import clients, console, files, texts as text_files
from cfai.cli.console import Target, complete_files, output_option
from cfai.cli.reading import Entry, Format, Reading, check_options
from cfai.cli.texts import TextFile
from cfai.embedding.splitting import LongTexts, Pool
from cfai.embedding.threads import run_in_thread
from cfai.errors import CfaiError, InputError
from cfai.tasks import TextEmbeddings

if TYPE_CHECKING:
    from cfai.embedding import EmbeddingJob, EmbedFailure, JobOptions

MODEL: Final = "@cf/baai/bge-m3"

_ROWS_AT_ONCE: Final = 1000
"""Rows that a thread reads, before it hands them to the job."""

_SHOWN_FAILURES: Final = 3

_SHOWN_FILES: Final = 3
"""Files that are named because they are empty."""


@click.command()
@click.argument(
    "texts",
    nargs=-1,
    shell_complete=complete_files,
    help="Texts, or files of texts: txt (one per line), csv, tsv, jsonl, json or parquet, "
    "also compressed (.gz, .zst). If omitted, or `-`, standard input is read.",
)
@clients.model_option(MODEL)
@output_option
@click.option(
    "--checkpoint",
    metavar="FILE",
    shell_complete=complete_files,
    help="Store finished texts there, and resume from it.",
)
@click.option(
    "--column",
    help="The column that has the texts, by default `text`; `a.b` for a field inside a field.",
)
@click.option("--id-column", metavar="COLUMN", help="The column that has the ids.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(get_args(Format)),
    help="The format of the files; by default that of the suffix.",
)
@click.option("--encoding", metavar="NAME", help="The encoding of the files; detected by default.")
@click.option(
    "--delimiter",
    metavar="CHARACTER",
    help=r"What separates the columns (\t is a tab); detected by default.",
)
@click.option(
    "--long",
    type=click.Choice(get_args(LongTexts)),
    default="warn",
    help="Longer texts than the model reads: cut, failed, or in pieces.",
)
@click.option(
    "--pool",
    type=click.Choice(get_args(Pool)),
    help="One vector for each text that is split: their mean.",
)
@click.option(
    "--piece-tokens",
    type=int,
    metavar="N",
    help="Tokens of a piece; by default as many as the model reads.",
)
@click.option(
    "--skip-failed",
    is_flag=True,
    help="Go on if a text can't be embedded, and list it in OUTPUT.failed.jsonl.",
)
@click.option(
    "--retry-failed",
    is_flag=True,
    help="Embed the texts again that failed, according to --checkpoint.",
)
@clients.local_option
def embed(  # noqa: PLR0913  # one for each option
    texts: tuple[str, ...],
    *,
    model: str,
    output: Path | None,
    checkpoint: str | None,
    column: str | None,
    id_column: str | None,
    format_: Format | None,
    encoding: str | None,
    delimiter: str | None,
    long: LongTexts,
    pool: Pool | None,
    piece_tokens: int | None,
    skip_failed: bool,
    retry_failed: bool,
    local: bool,
) -> None:
    """Embed texts: print a vector for each.

    Prints one line of JSON per text, with `text` and `vector`, in the order of the texts. With -o,
    the suffix .jsonl, .parquet, .arrow or .npy selects the format. Empty lines are skipped.
    """
    target = Target(output)
    has_pieces = long == "split" and pool is None
    _check_format(target, has_pieces=has_pieces)
    _check_options(checkpoint, retry_failed=retry_failed, local=local)
    reading = Reading(
        "text" if column is None else column,
        id_column,
        format=format_,
        encoding=encoding,
        delimiter=delimiter,
        lenient=skip_failed or retry_failed,
    )
    source = _find_source(texts, reading, target)
    given = {"--column": column, "--id-column": id_column}
    given |= {"--encoding": encoding, "--delimiter": delimiter}
    check_options(given, {file.format for file in source.files})
    if local:
        clients.require(*clients.EMBEDDINGS, needed_for="embedding texts on this machine")
    options: JobOptions = {"checkpoint": checkpoint, "retry_failed": retry_failed}
    options.update({"long": long, "pool": pool, "piece_tokens": piece_tokens})
    _check_pieces(model, options)
    options["on_error"] = "yield" if reading.lenient else "raise"
    if local:
        # Nothing limits the rate of models on this machine.
        options["rate"] = None
    writer = Writer(target, source, has_pieces=has_pieces)
    asyncio.run(_run_job(model, source, writer, options, local=local))


def _check_options(checkpoint: str | None, *, retry_failed: bool, local: bool) -> None:
    if local and checkpoint is not None:
        raise InputError(
            "--checkpoint and --local can't be combined: a checkpoint belongs to one endpoint, and "
            "--local starts a new one each time; use `cfai serve` instead"
        )
    if retry_failed and checkpoint is None:
        raise InputError("--retry-failed needs the --checkpoint of the earlier run")
    if retry_failed and checkpoint and not Path(checkpoint).exists():
        raise InputError(
            f"--checkpoint: there is no file {checkpoint}; --retry-failed needs that of the earlier"
            " run"
        )


@frozen
class Source:
    """Where the texts are from: arguments, or files, of which one may be standard input.

    A job reads it once, and names texts as it does.
    """

    entries: AsyncIterator[Entry]
    files: list[TextFile] = field(factory=list)
    texts: int | None = None
    """The number of texts, if they are arguments."""
    starts: list[int] = field(factory=list)
    """The places of the first texts of the files that were begun."""
    has_ids: bool = False

    def __aiter__(self) -> AsyncIterator[Entry]:
        return self.entries

    def locate(self, place: int) -> dict[str, Any]:
        """The file of the text at *place*, and its row there, from 1; empty without files."""
        if not self.starts:
            return {}
        number = bisect_right(self.starts, place) - 1
        return {"file": self.files[number].name, "file_row": place - self.starts[number] + 1}

    def name_text(self, place: int, key: Any, /) -> str:
        """The name of the text at *place*, by its row and its id."""
        position = self.locate(place)
        if not position:
            return f"text {place + 1}"
        name = f"row {position['file_row']} of {position['file']}"
        return f"{name} (id {format_value(key, 60)})" if self.has_ids else name

    def count(self) -> int | None:
        """Count the texts, which reads the files once; `None` if that takes long."""
        return text_files.count_all(self.files) if self.texts is None else self.texts

    def find_empty(self, texts: int) -> str:
        """The names of files without any text, after all *texts* were read; empty if none is."""
        places = pairwise([*self.starts, texts])
        sizes = [end - start for start, end in places]
        return _join_names([file for file, size in zip(self.files, sizes, strict=True) if not size])


def _join_names(files: Sequence[TextFile]) -> str:
    names = ", ".join(file.name for file in files[:_SHOWN_FILES])
    more = f" and {len(files) - _SHOWN_FILES} more" if len(files) > _SHOWN_FILES else ""
    return f"{names}{more}"


def _find_source(arguments: Sequence[str], reading: Reading, target: Target) -> Source:
    sources = text_files.find_files(arguments or ["-"], reading)
    if not sources:
        texts = [files.check_argument(argument) for argument in arguments]
        TextEmbeddings(texts)  # checks all texts before the first request
        return Source(_read_in_thread(iter(texts)), texts=len(texts))
    for file in sources:
        if file.path is None and files.stdin_is_terminal():
            raise InputError("there are no texts: give some, or pipe them in")
        if target.path is not None and target.path.exists() and file.is_same_as(target.path):
            raise InputError(f"{file.name} can't be written while it is read: choose another file")
    starts: list[int] = []
    entries = _read_in_thread(_read_files(sources, starts))
    return Source(entries, sources, starts=starts, has_ids=reading.id_column is not None)


def _read_files(sources: Sequence[TextFile], starts: list[int]) -> Iterator[Entry]:
    """Read the files one after the other, and add to *starts* where each begins.

    Raises:
        InputError: A file can't be read, or there is no text in any.
    """
    place = 0
    for file in sources:
        starts.append(place)
        for entry in file.read():
            place += 1
            yield entry
    if not place:
        raise InputError(f"there are no texts in {_join_names(sources)}")


async def _read_in_thread(entries: Iterator[Entry]) -> AsyncIterator[Entry]:
    """Read the entries without blocking the requests that are under way.

    Raises:
        InputError: What the reader raised, after the rows before it.
    """
    rows: list[Entry] = []
    error: InputError | None = None
    while error is None:
        rows, error = await run_in_thread(_take, entries)
        for row in rows:
            yield row
        if not rows:
            break
    if error is not None:
        raise error


def _take(entries: Iterator[Entry]) -> tuple[list[Entry], InputError | None]:
    """The next rows, and the error after them."""
    rows: list[Entry] = []
    try:
        for entry in islice(entries, _ROWS_AT_ONCE):
            rows.append(entry)  # noqa: PERF402  # what was read stays if the next fails
    except InputError as exc:
        return rows, exc
    return rows, None


async def _run_job(
    model: str,
    source: Source,
    writer: "Writer",
    options: "JobOptions",
    *,
    local: bool,
) -> None:
    # One may wait for standard input. Each more thread would keep freed memory for itself.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    async with clients.open_client(local=local) as ai:
        to_file = writer.target.path is not None
        with console.show_job_progress(source.count, to_file=to_file) as update:
            options["progress"] = update
            job = ai.embed_many(model, source, **options)
            try:
                async with job:
                    await writer.write(job)
            except BaseException as exc:
                failure = _describe_failure(exc)
                if source.texts != 1 and job.stats.texts:
                    _advise_resume(failure, options.get("checkpoint"))
                if failure is exc:
                    raise
                raise failure from exc
    stats = job.stats
    if empty := source.find_empty(stats.texts + stats.failed):
        console.write_stderr(f"no texts in {empty}")
    if stats.failed:
        writer.report_failures(stats.failed, stats.texts + stats.failed)
        if not stats.texts:
            raise click.exceptions.Exit(console.EXIT_FAILED)


def _check_pieces(model: str, options: "JobOptions") -> None:
    """Check the options about long texts, to name them as the command line does."""
    from cfai.embedding.options import check_pieces

    check_pieces(model, options, _name_option)


def _name_option(name: str, value: object = None) -> str:
    """An option in a message, perhaps with its value, as it is on the command line."""
    option = f"--{name.replace('_', '-')}"
    return option if value is None else f"{option} {value}"


def _describe_failure(exc: BaseException) -> BaseException:
    """The error itself, or what to show if the file can't be written, with the same notes."""
    if not isinstance(exc, OSError):
        return exc
    failure = console.OutputError(f"can't write: {exc}")
    for note in getattr(exc, "__notes__", ()):
        failure.add_note(note)
    return failure


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
        console.print_notice("\n".join(["", *getattr(failure, "__notes__", ()), advice]))


# Output


def _check_format(target: Target, *, has_pieces: bool) -> None:
    """Check that the format can be written, before anything is paid for.

    Raises:
        InputError: The suffix is unknown, or its format has no place for the pieces of texts.
        MissingExtra: The library for it is not installed.
    """
    from cfai.embedding import files as result_files

    if target.path is not None:
        result_files.make_file(target.path, has_pieces=has_pieces)


class Writer:
    """Writes the vectors in the format of the target's suffix, and the failures beside them."""

    def __init__(self, target: Target, source: Source, *, has_pieces: bool = False) -> None:
        self.target = target
        self._source = source
        self._has_pieces = has_pieces
        self._first_failures: list[str] = []
        path = target.path
        self._failures = (
            None if path is None else Target(path.with_name(f"{path.name}.failed.jsonl"))
        )

    async def write(self, job: "EmbeddingJob[Any]") -> None:
        """Write the items of a job."""
        from cfai.embedding import files as result_files

        if self.target.path is None:
            await self._print_lines(job)
            return
        file = result_files.make_file(
            self.target.path,
            has_pieces=self._has_pieces,
            has_ids=self._source.has_ids,
            has_failures=False,
        )
        await result_files.write_items(job, file, self._add_failure)
        if self._failures is not None and self._failures.path is not None and not job.stats.failed:
            self._failures.path.unlink(missing_ok=True)  # that of an earlier run

    def report_failures(self, failed: int, total: int) -> None:
        """Print that *failed* of *total* texts failed, and why the first ones did."""
        for line in self._first_failures:
            console.write_stderr(line)
        where = "" if self._failures is None else f"; see {self._failures.path}"
        console.write_stderr(
            f"{failed} of {format_count(total, 'text')} could not be embedded{where}"
        )

    def _add_failure(self, failure: "EmbedFailure") -> None:
        from cfai.embedding import export

        source = self._source
        if len(self._first_failures) < _SHOWN_FAILURES:
            name = source.name_text(failure.start, failure.id)
            first_line, _, _ = failure.reason.partition("\n")
            self._first_failures.append(f"{name}: {first_line}")
        if self._failures is not None:
            position = source.locate(failure.start)
            line = export.build_failure_line(failure, position, has_ids=source.has_ids)
            self._failures.write_bytes(line)

    async def _print_lines(self, job: "EmbeddingJob[Any]") -> None:
        from cfai.embedding import EmbedFailure, export

        async for item in job:
            if isinstance(item, EmbedFailure):
                self._add_failure(item)
                continue
            for line in export.build_lines(item, has_ids=self._source.has_ids):
                console.write_text(line.decode())
        self.target.finish()
