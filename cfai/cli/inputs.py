"""What the user gives a command to work on: arguments, files, and standard input."""

import sys
from collections.abc import Iterator
from pathlib import Path

from cfai.errors import InputError


def stdin_is_a_terminal() -> bool:
    """Tell whether a person would have to type what is read."""
    return sys.stdin is not None and sys.stdin.isatty()


def stdin_bytes() -> bytes:
    """Give all of standard input."""
    return sys.stdin.buffer.read() if sys.stdin is not None else b""


def stdin_text() -> str:
    """Give all of standard input as text.

    Raises:
        InputError: It is no UTF-8.
    """
    return text(stdin_bytes(), "standard input")


def file_bytes(path: Path) -> bytes:
    """Give what is in a file.

    Raises:
        InputError: It can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as exc:
        raise InputError(f"can't read {path}: {exc.strerror}") from exc


def lines(path: Path, newline: str | None = None) -> Iterator[str]:
    """Give the lines of a file with their ends, read as they are needed.

    Args:
        newline: As for `open`. Whatever it is, nothing ends a line but newlines.

    Raises:
        InputError: One is no UTF-8.
        OSError: The file can't be read.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline) as file:
        for number, line in enumerate(file, start=1):
            if not line.isascii():
                try:
                    line.encode()
                except UnicodeEncodeError as exc:
                    raise InputError(f"line {number} of {path} must be UTF-8 text") from exc
            yield line


def text(data: bytes, name: str) -> str:
    """Give *data* as text; *name* is where it is from.

    Raises:
        InputError: It is no UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise InputError(f"{name} must be UTF-8 text: byte {exc.start} is none") from exc


def argument(given: str) -> str:
    """Give an argument as it is.

    Raises:
        InputError: It is no text; the shell hands on any bytes.
    """
    try:
        given.encode()
    except UnicodeEncodeError as exc:
        raise InputError("an argument must be UTF-8 text") from exc
    return given
