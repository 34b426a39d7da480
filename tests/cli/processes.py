"""Runs the command as a process, with pipes or at a pseudo-terminal."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Self

from attrs import define, frozen

PATIENCE = 50
"""Seconds after which a test fails instead of waiting on."""

PATIENCE_AT_END = 10
"""Seconds after which a process that was asked to end is killed."""

COMMAND = (sys.executable, "-W", "error", "-m", "cfai")


def environment(**variables: str) -> dict[str, str]:
    """Give this process's environment without an account, and with *variables*."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CLOUDFLARE_", "CF_")) and name not in ("NO_COLOR", "COLUMNS")
    }
    return {**inherited, "TERM": "xterm", "PYTHONIOENCODING": "utf-8", **variables}


def _restore_ctrl_c() -> None:
    """Restore the default for Ctrl-C: a shell ignores it in background processes."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a process, with time to clean up."""
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(PATIENCE_AT_END):
            await process.communicate()
    except TimeoutError:
        process.kill()
        await process.communicate()


@frozen
class Done:
    """The exit code and output of a process."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


@define
class Running:
    """A running process with pipes."""

    process: asyncio.subprocess.Process

    async def reads(self, expected: bytes) -> None:
        """Wait until these bytes, and no others, have come out."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            assert await self.process.stdout.readexactly(len(expected)) == expected

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    async def done(self, stdin: bytes | None = None) -> Done:
        async with asyncio.timeout(PATIENCE):
            out, err = await self.process.communicate(stdin)
        assert self.process.returncode is not None
        return Done(self.process.returncode, out or b"", (err or b"").decode())


@frozen
class Cfai:
    """Starts the command in a given environment."""

    variables: Mapping[str, str]

    @asynccontextmanager
    async def running(
        self,
        *arguments: str,
        stdin: int = asyncio.subprocess.DEVNULL,
        stdout: int = asyncio.subprocess.PIPE,
        redirection: str = "",
    ) -> AsyncIterator[Running]:
        """Start it; with *redirection*, as a shell does that was told of it."""
        started = ("sh", "-c", f'exec "$@" {redirection}', "sh") if redirection else ()
        process = await asyncio.create_subprocess_exec(
            *started,
            *COMMAND,
            *arguments,
            stdin=stdin,
            stdout=stdout,
            stderr=asyncio.subprocess.PIPE,
            env=environment(**self.variables),
            preexec_fn=_restore_ctrl_c,
        )
        try:
            yield Running(process)
        finally:
            await _end(process)

    async def run(self, *arguments: str, stdin: bytes = b"") -> Done:
        async with self.running(*arguments, stdin=asyncio.subprocess.PIPE) as running:
            return await running.done(stdin)

    def at_a_terminal(
        self, *arguments: str, columns: int = 80, shell: str = "", **variables: str
    ) -> "Terminal":
        """Start it at a terminal; with *shell*, as a command of the shell that runs `"$@"`."""
        started = ("sh", "-c", shell, "sh") if shell else ()
        command = (*started, *COMMAND, *arguments)
        return Terminal(command, environment(**self.variables, **variables), columns)


class Terminal:
    """The command at a pseudo-terminal: what it shows, and what is typed."""

    def __init__(
        self, command: tuple[str, ...], variables: Mapping[str, str], columns: int
    ) -> None:
        self._command = command
        self._columns = columns
        self._variables = variables
        self._master = -1
        self._changed = asyncio.Event()
        self._seen = bytearray()
        self._read = 0
        self._process: asyncio.subprocess.Process

    async def __aenter__(self) -> Self:
        import fcntl
        import termios

        def takes_the_terminal() -> None:
            # Only at its controlling terminal does a process hear of Ctrl-C.
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            _restore_ctrl_c()

        self._master, slave = os.openpty()
        termios.tcsetwinsize(slave, (24, self._columns))
        os.set_blocking(self._master, False)
        asyncio.get_running_loop().add_reader(self._master, self._take)
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=self._variables,
            start_new_session=True,
            preexec_fn=takes_the_terminal,
        )
        os.close(slave)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await _end(self._process)
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)

    @property
    def screen(self) -> str:
        """All that was ever shown."""
        return self._seen.decode(errors="replace")

    def types(self, text: str) -> None:
        os.write(self._master, text.encode())

    async def shows(self, text: str) -> None:
        """Wait until *text* is shown, after what was waited for before."""
        wanted = text.encode()
        try:
            async with asyncio.timeout(PATIENCE):
                while (at := self._seen.find(wanted, self._read)) < 0:
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"{text!r} was not shown, but {self.screen!r}") from None
        self._read = at + len(wanted)

    async def ended(self) -> int:
        """Wait for the end of the process, and give its exit code."""
        async with asyncio.timeout(PATIENCE):
            code = await self._process.wait()
        self._take()
        return code

    def _take(self) -> None:
        try:
            self._seen += os.read(self._master, 65536)
        except BlockingIOError:
            return
        except OSError:
            # The other side is closed; a reader would be called again and again.
            asyncio.get_running_loop().remove_reader(self._master)
        self._changed.set()
        self._changed = asyncio.Event()
