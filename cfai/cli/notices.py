"""Standard error, and exit codes: notices and progress for a person at a terminal, errors for all.

Nothing here writes to standard output, which belongs to the answers.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from cfai.cli.output import printable, stdout_is_a_terminal
from cfai.errors import (
    CfaiError,
    ConfigError,
    InputError,
    MissingExtra,
    QuotaExceeded,
    RateLimited,
    StatusError,
    TransportError,
)

if TYPE_CHECKING:
    from cfai.embedding import Progress

FAILED: Final = 1
MISUSE: Final = 2
INTERRUPTED: Final = 130

_CODES: Final[tuple[tuple[type[CfaiError], int], ...]] = (
    (InputError, MISUSE),
    (ConfigError, MISUSE),
    (MissingExtra, MISUSE),
    (QuotaExceeded, 3),
    (RateLimited, 4),
    (TransportError, 5),
)


def exit_code(exc: BaseException) -> int:
    """Give the exit code that a script can tell the failure by; docs/cli.md lists them."""
    if not isinstance(exc, CfaiError):
        return INTERRUPTED
    return next((code for kind, code in _CODES if isinstance(exc, kind)), FAILED)


def complain(exc: BaseException) -> None:
    """Say what went wrong in one line, and below it what to do about it, where that is known."""
    if not isinstance(exc, CfaiError):
        note("")
        return
    hint = exc.hint if isinstance(exc, StatusError) else None
    text = str(exc)
    first, *rest = (text.removesuffix(f"\n{hint}") if hint else text).splitlines() or [""]
    hints = [hint] if hint else []
    _write(f"error: {first or type(exc).__name__}", *(f"  {line}" for line in rest))
    _write(*(f"hint: {hint}" for hint in (*hints, *getattr(exc, "__notes__", ()))))


def complain_of_misuse(exc: Any) -> None:
    """Say what is wrong with the command line."""
    _write(f"error: {exc.format_message()}")
    if exc.ctx is not None:
        _write(f"hint: {exc.ctx.command_path} --help")


def note(text: str) -> None:
    """Say something that only a person at a terminal wants to know."""
    if _watched():
        _write(text)


@contextmanager
def progress(text: str) -> Iterator[Callable[[str], object]]:
    """Show that something takes its time, on a terminal; what it gives changes the text."""
    if not _watched():
        yield lambda text: None
        return
    from rich.console import Console

    with Console(stderr=True).status(text) as status:
        yield status.update


@contextmanager
def progress_of_job(total: int, *, to_file: bool) -> Iterator[Callable[["Progress"], object]]:
    """Show how a job of *total* texts goes; what it gives is called after every batch.

    Only where the answers go elsewhere: on the same terminal, they are the progress.
    """
    if not _watched() or (stdout_is_a_terminal() and not to_file):
        yield lambda progress: None
        return
    from rich import progress as bars
    from rich.console import Console

    columns = (
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.description}"),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=Console(stderr=True)) as shown:
        bar = shown.add_task("embedding", total=total)

        def hear(progress: "Progress") -> None:
            stats = progress.stats
            text = f"{stats.texts_per_second:.0f} texts/s, {stats.limit:.0f} at once"
            if stats.refusals:
                text += f", {stats.refusals} refused"
            shown.update(bar, completed=progress.done, description=text)

        yield hear


@contextmanager
def progress_in_bytes(what: str) -> Iterator[Callable[[int, int], object] | None]:
    """Show how many bytes have gone out, on a terminal; what it gives hears of them."""
    if not _watched():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        bar = bars.add_task(printable(what), total=None)
        yield lambda sent, size: bars.update(bar, completed=sent, total=size)


def report(text: str) -> None:
    """Say that a part of the work failed; the rest went on."""
    _write(f"error: {text}")


def tell(text: str) -> None:
    """Say what also matters where nobody watches."""
    _write(text)


def _watched() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _write(*lines: str) -> None:
    if sys.stderr is None:  # `print` would take standard output instead.
        return
    # Where nobody can be told, the exit code still says it.
    with suppress(OSError):
        for line in lines:
            print(printable(line), file=sys.stderr, flush=True)
