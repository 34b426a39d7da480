"""Standard output and `-o FILE`: text, JSON and bytes, each on its way as soon as it is written."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import typer
from attrs import define, field

from cfai.errors import CfaiError, InputError

READER_LEFT: Final = 141
"""What a shell says of a process that SIGPIPE ended."""

# A terminal obeys control characters, and what a model writes is nobody's command.
_CONTROLS: Final[Mapping[int, None]] = dict.fromkeys(
    {*range(0x20), *range(0x7F, 0xA0)} - {ord("\n"), ord("\t")}
)


class OutputError(CfaiError):
    """An answer came, and standard output can't take it."""


def stdout_is_a_terminal() -> bool:
    """Tell whether a person sees what is written."""
    return sys.stdout is not None and sys.stdout.isatty()


def printable(text: str) -> str:
    """Give *text* without the characters that control a terminal."""
    return text.translate(_CONTROLS)


def say(text: str) -> None:
    """Write *text*, at once; to a terminal, without what would control it."""
    _write((printable(text) if stdout_is_a_terminal() else text).encode(_encoding(), "replace"))


def say_in(style: str, text: str) -> None:
    """Write a line in a style of rich's; plain, where standard output is no terminal."""
    if not stdout_is_a_terminal():
        say(f"{text}\n")
        return
    from rich.console import Console
    from rich.text import Text

    console = Console()
    with console.capture() as styled:
        console.print(Text(printable(text), style=style), soft_wrap=True)
    _write(styled.get().encode(_encoding(), "replace"))


def json_line(value: Any) -> str:
    """Give *value* as JSON in one line, and the line's end."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"


@define
class Target:
    """Where an answer goes: a file, or standard output. The file is replaced by the first byte."""

    path: Path | None
    _begun: bool = field(default=False, init=False)

    def check(self) -> None:
        """Refuse a file that can't be written, before an answer is paid for.

        Raises:
            InputError: It can't.
        """
        if self.path is None:
            return
        place = self.path if self.path.exists() else self.path.absolute().parent
        if self.path.is_dir() or not place.exists() or not os.access(place, os.W_OK):
            raise InputError(f"can't write to {self.path}")

    def end(self) -> None:
        """Say that this is all: of an answer with nothing in it, an empty file is left."""
        if not self._begun:
            self.data(b"")

    @property
    def takes_bytes(self) -> bool:
        """Whether bytes would do no harm there."""
        return self.path is not None or not stdout_is_a_terminal()

    def json(self, value: Any) -> None:
        """Write one value as JSON: in many lines for a person at a terminal, otherwise in one."""
        if self.path is None and stdout_is_a_terminal():
            say(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
        else:
            self.line(value)

    def line(self, value: Any) -> None:
        """Write one value as a line of JSON."""
        if self.path is None:
            say(json_line(value))
        else:
            self.data(json_line(value).encode("utf-8", "replace"))

    def data(self, data: bytes) -> None:
        """Write bytes as they are.

        Raises:
            InputError: The file can't be written.
        """
        if self.path is None:
            _write(data)
            return
        try:
            with self.path.open("ab" if self._begun else "wb") as file:
                file.write(data)
        except OSError as exc:
            raise InputError(f"can't write to {self.path}: {exc.strerror}") from exc
        self._begun = True


def _encoding() -> str:
    # What is piped is read by programs, and JSON is UTF-8 everywhere.
    return sys.stdout.encoding if stdout_is_a_terminal() else "utf-8"


def _write(data: bytes) -> None:
    """Write to standard output, at once.

    Raises:
        OutputError: It is closed, or what it leads to is full or broken.
        Exit: Nobody reads it any more.
    """
    if sys.stdout is None:
        raise OutputError("can't write the answer: standard output is closed")
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        _abandon()
        raise typer.Exit(READER_LEFT) from None
    except OSError as exc:
        raise broken(exc) from exc


def broken(exc: OSError) -> OutputError:
    """Give up standard output, and say why."""
    _abandon()
    return OutputError(f"can't write the answer: {exc.strerror or exc}")


def _abandon() -> None:
    # Python flushes once more at its end, and would complain again then.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
