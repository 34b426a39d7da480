"""What a command reads: arguments, files and standard input."""

import sys
from pathlib import Path

from cfai.errors import InputError


def stdin_is_terminal() -> bool:
    """Tell whether standard input is a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()


def read_stdin() -> bytes:
    """Read all of standard input."""
    return sys.stdin.buffer.read() if sys.stdin is not None else b""


def read_stdin_text() -> str:
    """Read all of standard input as text.

    Raises:
        InputError: It is not UTF-8.
    """
    return decode_text(read_stdin(), "standard input")


def read_argument(argument: str) -> str | bytes:
    """What an argument stands for: `-` for standard input, `@FILE` for a file, else itself.

    Raises:
        InputError: The file can't be read, or the argument is not UTF-8.
    """
    if argument == "-":
        return read_stdin()
    if not argument.startswith("@"):
        return check_argument(argument)
    try:
        return read_file(Path(argument[1:]))
    except InputError as exc:
        exc.add_note("@ names a file; a text that begins with @ can be piped in")
        raise


def read_text_argument(argument: str) -> str:
    """As `read_argument`, but text.

    Raises:
        InputError: It can't be read, or is not UTF-8.
    """
    data = read_argument(argument)
    name = "standard input" if argument == "-" else argument[1:]
    return data if isinstance(data, str) else decode_text(data, name)


def join_piped(text: str) -> str:
    """A text after what is piped into the command, if anything is."""
    piped = "" if stdin_is_terminal() else read_stdin_text()
    return f"{piped.rstrip()}\n\n{text}" if piped.strip() else text


def read_prompt(argument: str | None) -> str:
    """The text of an argument after what is piped in, or else what is piped in.

    Raises:
        InputError: It can't be read, or is not UTF-8.
    """
    if argument is None or argument == "-":
        return "" if argument is None and stdin_is_terminal() else read_stdin_text()
    return join_piped(read_text_argument(argument))


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
    """Decode UTF-8; *name* stands for the data in the error.

    Raises:
        InputError: It is not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise InputError(f"{name} must be UTF-8 text: byte {exc.start} is not UTF-8") from exc


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
