"""Files that are whole or not there, even if the power fails."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

ROUGH: Final = ".*.rough"
"""What files are called that aren't whole yet, or never were."""

Fill = Callable[[BinaryIO], object]
"""Writes what shall be in a file."""


def replace(path: Path, fill: Fill) -> None:
    """Have *fill* write a file, and put it in its place only when it is on the disk.

    Raises:
        OSError: It can't be written. What was there before is there still, and nothing else.
    """
    _put(path, fill, lambda rough: rough.replace(path))


def create(path: Path, fill: Fill) -> bool:
    """The same where there is none yet; otherwise leave it, and tell that it was there.

    Raises:
        OSError: It can't be written.
    """
    if path.exists():
        return False
    try:
        _put(path, fill, lambda rough: _link(rough, path))
    except FileExistsError:
        return False
    return True


def _link(rough: Path, path: Path) -> None:
    try:
        path.hardlink_to(rough)
    except FileExistsError:
        raise
    except OSError:  # Not every file system has links.
        if path.exists():
            raise FileExistsError(path) from None
        rough.replace(path)
    else:
        rough.unlink()


def _put(path: Path, fill: Fill, place: Callable[[Path], object]) -> None:
    rough = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.rough")
    try:
        with rough.open("wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        place(rough)
    except BaseException as exc:
        rough.unlink(missing_ok=True)
        if isinstance(exc, OSError) and exc.filename is None:
            # Which file is full, whoever wrote into it doesn't say.
            raise OSError(exc.errno, exc.strerror or str(exc), str(path)) from exc
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return  # A folder can't be opened there, and needn't be.
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
