"""Standard error, and exit codes: notices and progress for a person at a terminal, errors for all.

Nothing here writes to standard output, which belongs to the answers.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

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
def progress_of(total: int, what: str) -> Iterator[Callable[[int], object]]:
    """Show how much of *total* is done; what it gives takes how much was added.

    Only where the answers go elsewhere: on the same terminal, they are the progress.
    """
    if not _watched() or stdout_is_a_terminal():
        yield lambda added: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bars:
        bar = bars.add_task(what, total=total)
        yield lambda added: bars.advance(bar, added)


def _watched() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _write(*lines: str) -> None:
    if sys.stderr is None:  # `print` would take standard output instead.
        return
    # Where nobody can be told, the exit code still says it.
    with suppress(OSError):
        for line in lines:
            print(printable(line), file=sys.stderr, flush=True)
