"""Folders that one process works in at a time, held by a lock of the operating system's.

However a process ends, its lock ends with it. Jobs of one process share a folder.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Final

from attrs import define

from cfai.errors import ConfigError

_NAME: Final = "lock"


@define
class _Held:
    """A lock of this process."""

    opened: int
    alone: bool
    holders: int


_guard = Lock()
_held: dict[tuple[int, str], _Held] = {}
# A fork has its parent's locks, and isn't their owner: hence the process's number.


class Hold:
    """A folder that this process holds, until `release`.

    Raises:
        ConfigError: Another process holds it.
        OSError: The folder can't be written in.
    """

    def __init__(self, folder: Path) -> None:
        self._key = (os.getpid(), str(folder.resolve()))
        self._released = False
        with _guard:
            held = _held.get(self._key)
            self.first: bool = held is None
            """Whether nobody else is in the folder, as far as can be known."""
            if held is None:
                held = _held[self._key] = _opened(folder)
                self.first = held.alone
            held.holders += 1

    def release(self) -> None:
        """Let others have it. Safe to repeat."""
        with _guard:
            if self._released:
                return
            self._released = True
            held = _held[self._key]
            held.holders -= 1
            if not held.holders:
                del _held[self._key]
                _unlock(held.opened)
                os.close(held.opened)


def _opened(folder: Path) -> _Held:
    opened = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        return _Held(opened, _lock(opened), 0)
    except BlockingIOError as exc:
        os.close(opened)
        raise ConfigError(
            f"another process works with the checkpoint {folder}: one can, at a time"
        ) from exc
    except BaseException:
        os.close(opened)
        raise


if sys.platform == "win32":

    def _lock(opened: int) -> bool:
        import msvcrt

        try:
            msvcrt.locking(opened, msvcrt.LK_NBLCK, 1)
        except OSError as exc:
            raise BlockingIOError from exc
        return True

    def _unlock(opened: int) -> None:
        """Nothing: whatever is closed there is unlocked."""

else:

    def _lock(opened: int) -> bool:
        """Lock an open file; False where the file system has no locks."""
        import fcntl

        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            return False
        return True

    def _unlock(opened: int) -> None:
        """Unlock it also for processes that were forked, and have it open still."""
        import fcntl

        with suppress(OSError):
            fcntl.flock(opened, fcntl.LOCK_UN)
