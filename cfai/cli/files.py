"""What a command reads: arguments, files and standard input."""

import sys
from pathlib import Path
from threading import Timer
from typing import Final

from cfai._types.excerpts import format_count
from cfai.cli import console
from cfai.cli.encodings import decode_any
from cfai.errors import InputError

_SILENCE: Final = 1.0
"""Seconds without any input after which a hint says what is waited for."""

_stdin_readers: Final[list[str]] = []
"""What has read standard input, which can be read once: the name of an argument or an option."""


def stdin_is_terminal() -> bool:
    """Tell whether standard input is a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()


def read_stdin(reader: str) -> bytes:
    """Read all of standard input, for the argument or option *reader*.

    Raises:
        InputError: Another one has read it, or it can't be read.
    """
    if _stdin_readers:
        raise InputError(
            f"{_stdin_readers[0]} and {reader} can't both be standard input: it can be read once"
        )
    _stdin_readers.append(reader)
    if sys.stdin is None:
        return b""
    hint = "hint: reading standard input, which is silent so far; `< /dev/null` makes it empty"
    timer = Timer(_SILENCE, console.write_stderr, () if stdin_is_terminal() else (hint,))
    timer.daemon = True
    timer.start()
    try:
        first = sys.stdin.buffer.read(1)
        timer.cancel()
        return first + sys.stdin.buffer.read()
    except OSError as exc:
        raise InputError(f"can't read standard input: {exc.strerror or exc}") from exc
    finally:
        timer.cancel()


def read_stdin_text(reader: str) -> str:
    """As `read_stdin`, but text.

    Raises:
        InputError: It is not text, or another argument has read it.
    """
    return decode_text(read_stdin(reader), "standard input")


def read_argument(argument: str, name: str) -> str | bytes:
    """What an argument stands for: `-` for standard input, `@FILE` for a file, else itself.

    Args:
        argument: The value.
        name: What the help calls it, such as `--system`.

    Raises:
        InputError: The file can't be read, another argument has read standard input, or this one
            is not UTF-8.
    """
    if argument == "-":
        return read_stdin(name)
    if not argument.startswith("@"):
        return check_argument(argument)
    try:
        return read_file(Path(check_names_file(argument, name)))
    except InputError as exc:
        exc.add_note("@ names a file; a text that begins with @ can be piped in")
        raise


def check_names_file(argument: str, name: str) -> str:
    """Return the path in a path or `@FILE`.

    Raises:
        InputError: There is none.
    """
    path = argument.removeprefix("@")
    if not path:
        raise InputError(f"{name} must name a file, got {argument!r}")
    return path


def read_text_argument(argument: str, name: str) -> str:
    """As `read_argument`, but text.

    Raises:
        InputError: It can't be read, or is not text.
    """
    data = read_argument(argument, name)
    file = "standard input" if argument == "-" else argument[1:]
    return data if isinstance(data, str) else decode_text(data, file)


def read_named(argument: str, name: str) -> tuple[str, bytes]:
    """Read the file that an argument names (a path or `@FILE`), or standard input for `-`.

    Returns:
        The file's name for messages and services, and its bytes.

    Raises:
        InputError: It can't be read, or another argument has read standard input.
    """
    if argument == "-":
        return "standard input", read_stdin(name)
    path = Path(check_names_file(argument, name))
    return path.name, read_file(path)


def join_piped(text: str, name: str) -> str:
    """A text after what is piped into the command, unless an option has read that."""
    piped = "" if stdin_is_terminal() or _stdin_readers else read_stdin_text(name)
    if not (piped.strip() and text.strip()):
        return text if text.strip() else piped
    return f"{piped.rstrip()}\n\n{text}"


def read_prompt(argument: str | None, name: str) -> str:
    """The text of an argument after what is piped in, or else what is piped in.

    Options come first: what one of them has read is not piped into the text.

    Raises:
        InputError: It can't be read, or is not text.
    """
    if argument == "-":
        return read_stdin_text(name)
    return join_piped("" if argument is None else read_text_argument(argument, name), name)


def read_file(path: Path) -> bytes:
    """Read a file.

    Raises:
        InputError: It can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as exc:
        raise InputError(f"can't read {path}: {exc.strerror or exc}") from exc


def decode_text(data: bytes, name: str) -> str:
    """Decode a text; *name* stands for the data in messages, such as that it is not UTF-8.

    Raises:
        InputError: It is no text.
    """
    text = find_text(data, name)
    if text is None:
        raise InputError(
            f"{name} must be text, got {format_count(len(data), 'byte')} of something else"
        )
    return text


def find_text(data: bytes, name: str) -> str | None:
    """Decode a text, and say so if its encoding is guessed; `None` for other data."""
    decoded = decode_any(data)
    if decoded is None:
        return None
    if decoded.guess is not None:
        console.write_stderr(f"{name} is not UTF-8; it is read as {decoded.guess}")
    return decoded.text


def check_argument(argument: str) -> str:
    """Return an argument that is text; a shell passes any bytes.

    Raises:
        InputError: It is not UTF-8.
    """
    try:
        argument.encode()
    except UnicodeEncodeError as exc:
        raise InputError("an argument must be UTF-8 text") from exc
    return argument
