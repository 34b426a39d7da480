"""What a command writes: answers to standard output or `-o FILE`, all else to standard error.

Also the exit codes. Progress and notices are shown only if standard error is a terminal.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from errno import EACCES, EISDIR, ELOOP
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from attrs import define, field

from cfai._types.excerpts import format_path
from cfai.cli.wrapping import WordWrap
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

# Exit codes

F = TypeVar("F", bound=Callable[..., Any])

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130
EXIT_BROKEN_PIPE: Final = 141
"""The exit code that a shell reports for a process ended by SIGPIPE."""

_EXIT_CODES: Final[tuple[tuple[type[CfaiError], int], ...]] = (
    (InputError, EXIT_USAGE),
    (ConfigError, EXIT_USAGE),
    (MissingExtra, EXIT_USAGE),
    (QuotaExceeded, 3),
    (RateLimited, 4),
    (TransportError, 5),
)


def exit_code(exc: BaseException) -> int:
    """Give the exit code for an error; docs/cli.md lists them."""
    if not isinstance(exc, CfaiError):
        return EXIT_INTERRUPTED
    return next((code for kind, code in _EXIT_CODES if isinstance(exc, kind)), EXIT_FAILED)


class OutputError(CfaiError):
    """There is an answer, but standard output does not accept it."""


# Standard output

# A terminal obeys control characters, and a model's text must not control it.
_CONTROLS: Final[Mapping[int, None]] = dict.fromkeys(
    {*range(0x20), *range(0x7F, 0xA0)} - {ord("\n"), ord("\t")}
)


def stdout_is_terminal() -> bool:
    """Tell whether standard output is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def terminal_is_dumb() -> bool:
    """Tell whether the terminal knows no escape sequences."""
    return os.environ.get("TERM", "dumb") in ("", "dumb", "unknown")


def read_columns() -> int:
    """Give the width of the terminal."""
    return get_terminal_size().columns


def strip_controls(text: str) -> str:
    """Remove the characters that control a terminal."""
    return text.translate(_CONTROLS)


def write_text(text: str) -> None:
    """Write *text* and flush; to a terminal, without control characters."""
    text = strip_controls(text) if stdout_is_terminal() else text
    _write_stdout(text.encode(_encoding(), "replace"))


def write_partial_line(text: str) -> None:
    """Replace the line at the cursor of a terminal by the end of *text*, without a new line."""
    end = strip_controls(text.replace("\n", " "))[-(max(read_columns(), 2) - 1) :]
    _write_stdout(f"\r\x1b[K{end}".encode(_encoding(), "replace"))


class Prose:
    """Writes one text in pieces. At a terminal, its lines break between words."""

    def __init__(self) -> None:
        self._wrap: WordWrap | None = None
        if stdout_is_terminal():
            self._wrap = WordWrap(read_columns, can_clear=not terminal_is_dumb())

    def write(self, text: str) -> None:
        """Write the next piece, and flush."""
        if self._wrap is None:
            write_text(text)
        else:
            text = self._wrap.feed(strip_controls(text))
            _write_stdout(text.encode(_encoding(), "replace"))


def write_styled(style: str, text: str) -> None:
    """Write a line in one of rich's styles; without a style if it is not a terminal."""
    if not stdout_is_terminal():
        write_text(f"{text}\n")
        return
    from rich.console import Console
    from rich.text import Text

    console = Console()
    with console.capture() as styled:
        console.print(Text(strip_controls(text), style=style), soft_wrap=True)
    _write_stdout(styled.get().encode(_encoding(), "replace"))


def to_json_line(value: Any) -> str:
    """Give *value* as one line of JSON with a newline."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"


_TEXTS: Final = ("text/plain", "application/json")


class _PathType(click.Path):
    """A path. An empty one would be the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("it must name a file or a folder, got ''", param, ctx)
        return super().convert(value, param, ctx)


PATH: Final = _PathType(path_type=Path)
"""The type of an option or argument that is a path."""


def complete_files(_: click.Context, __: click.Parameter, incomplete: str) -> list[Any]:
    """Let the shell complete the name of a file, where `-` or a text is possible, too."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def output_option(command: F) -> F:
    """Declare the option `--output`."""
    text = "Write the answer to a file."
    return click.option("--output", "-o", type=PATH, metavar="FILE", help=text)(command)


@define
class Target:
    """Where the answer is written: a file or standard output. The first byte replaces the file.

    A file that can't be written is an `InputError` at once, before an answer is paid for.
    """

    path: Path | None
    _started: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        if self.path == Path("-"):
            self.path = None
        if self.path is None:
            return
        try:
            _try_to_write(Path(os.path.realpath(self.path)))
        except OSError as exc:
            raise _file_error(self.path, exc) from exc

    def finish(self) -> None:
        """End the answer: if nothing was written, the file becomes empty."""
        if not self._started:
            self.write_bytes(b"")

    def check_accepts_bytes(self, reason: str) -> None:
        """Check that it is not a terminal, which can't show a file.

        Raises:
            InputError: It is one; the message begins with *reason*.
        """
        if self.path is None and stdout_is_terminal():
            raise InputError(f"{reason}: name a file with -o FILE")

    def write_json(self, value: Any) -> None:
        """Write one value as JSON: indented at a terminal, otherwise as one line."""
        if self.path is None and stdout_is_terminal():
            write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
        else:
            self.write_line(value)

    def write_line(self, value: Any) -> None:
        """Write one value as a line of JSON."""
        if self.path is None:
            write_text(to_json_line(value))
        else:
            self.write_bytes(to_json_line(value).encode("utf-8", "replace"))

    def check_suffix(self, media_type: str) -> None:
        """Warn if the name of the file does not fit what was written to it.

        A text or JSON may have the ending of any file but an image, a sound or a video.
        """
        if self.path is None:
            return
        import mimetypes

        expected, _ = mimetypes.guess_type(self.path.name)
        if expected is None:
            return
        if media_type in _TEXTS and not expected.startswith(("image/", "audio/", "video/")):
            return
        if expected.replace("/x-", "/") != media_type.replace("/x-", "/"):
            suffix = mimetypes.guess_extension(media_type)
            advice = f"; a better ending is {suffix}" if suffix else ""
            print_warning(f"{self.path} contains {media_type}{advice}")

    def write_bytes(self, data: bytes) -> None:
        """Write bytes unchanged.

        Raises:
            InputError: The file can't be written.
        """
        if self.path is None:
            _write_stdout(data)
            return
        try:
            with self.path.open("ab" if self._started else "wb") as file:
                file.write(data)
        except OSError as exc:
            raise _file_error(self.path, exc) from exc
        self._started = True


def _try_to_write(path: Path) -> None:
    """Open a file for writing, and leave everything as it was.

    Raises:
        OSError: It can't be written.
    """
    if path.is_dir():
        raise OSError(EISDIR, os.strerror(EISDIR))
    if path.is_symlink():  # It was resolved: only a loop is left.
        raise OSError(ELOOP, os.strerror(ELOOP))
    if path.is_file():
        path.open("ab").close()
    elif not path.exists():
        path.open("xb").close()
        path.unlink()
    elif not os.access(path, os.W_OK):  # A pipe or a device, which opening would use.
        raise OSError(EACCES, os.strerror(EACCES))


def _file_error(path: Path, exc: OSError) -> InputError:
    return InputError(f"can't write to {format_path(path)}: {exc.strerror or exc}")


def _encoding() -> str:
    # A pipe is read by programs, and JSON is always UTF-8.
    return sys.stdout.encoding if stdout_is_terminal() else "utf-8"


def _write_stdout(data: bytes) -> None:
    """Write to standard output and flush.

    Raises:
        OutputError: It is closed, full or broken.
        Exit: The reader closed the pipe.
    """
    if sys.stdout is None:
        raise OutputError("can't write the answer: standard output is closed")
    try:
        with exit_on_broken_pipe():
            sys.stdout.flush()
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
    except OSError as exc:
        raise stdout_error(exc) from exc


@contextmanager
def exit_on_broken_pipe() -> Iterator[None]:
    """End the command if nobody reads its output any more. Click would exit with 1.

    Raises:
        Exit: The reader closed the pipe.
    """
    try:
        yield
    except BrokenPipeError:
        _discard_stdout()
        raise click.exceptions.Exit(EXIT_BROKEN_PIPE) from None


def stdout_error(exc: OSError) -> OutputError:
    """Discard further output, and give the error to raise."""
    _discard_stdout()
    return OutputError(f"can't write the answer: {exc.strerror or exc}")


def _discard_stdout() -> None:
    # Python flushes again at exit, which would fail again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# Standard error


def print_error(exc: BaseException) -> None:
    """Print an error: one line with the reason, then what to do about it, if that is known."""
    if not isinstance(exc, CfaiError):
        print_notice("")
        return
    hint = exc.hint if isinstance(exc, StatusError) else None
    text = str(exc)
    first, *rest = (text.removesuffix(f"\n{hint}") if hint else text).splitlines() or [""]
    hints = [hint] if hint else []
    write_stderr(f"error: {first or type(exc).__name__}", *(f"  {line}" for line in rest))
    write_stderr(*(f"hint: {hint}" for hint in (*hints, *getattr(exc, "__notes__", ()))))


def print_usage_error(exc: Any) -> None:
    """Print click's error about the command line."""
    write_stderr(f"error: {exc.format_message()}")
    if exc.ctx is not None:
        write_stderr(f"hint: {exc.ctx.command_path} --help")


def print_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning (that a model is retired): the line of code that caused it is not shown."""
    write_stderr(f"warning: {message}")


def print_notice(text: str) -> None:
    """Print a line if standard error is a terminal."""
    if _stderr_is_terminal():
        write_stderr(text)


@contextmanager
def show_status(text: str) -> Iterator[Callable[[str], object]]:
    """Show a spinner at a terminal; call the function that it gives to change the text."""
    if not _stderr_is_terminal():
        yield lambda text: None
        return
    from rich.console import Console

    with Console(stderr=True).status(text) as status:
        yield status.update


@contextmanager
def show_job_progress(
    count: Callable[[], int | None], *, to_file: bool
) -> Iterator[Callable[["Progress"], object]]:
    """Show the progress of an embedding job after every batch, and how many texts *count* gives.

    Not if the vectors go to the same terminal: then nothing is counted.
    """
    if not _stderr_is_terminal() or (stdout_is_terminal() and not to_file):
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
    with bars.Progress(*columns, console=Console(stderr=True)) as display:
        bar = display.add_task("embedding", total=count())

        def update(progress: "Progress") -> None:
            stats = progress.stats
            text = f"{stats.texts_per_second:.0f} texts/s, {stats.limit:.0f} at once"
            if stats.refusals:
                text += f", {stats.refusals} refused"
            display.update(bar, completed=progress.done, description=text)

        yield update


@contextmanager
def show_upload_progress(text: str) -> Iterator[Callable[[int, int], object] | None]:
    """Show at a terminal how many bytes of an upload are sent."""
    if not _stderr_is_terminal():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True)) as display:
        bar = display.add_task(strip_controls(text), total=None)
        yield lambda sent, size: display.update(bar, completed=sent, total=size)


def _stderr_is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def write_stderr(*lines: str) -> None:
    """Write lines, also if standard error is not a terminal."""
    if sys.stderr is None:  # `print` would write to standard output instead.
        return
    # If standard error is closed or full, the exit code still reports the failure.
    with suppress(OSError):
        for line in lines:
            print(strip_controls(line), file=sys.stderr, flush=True)
